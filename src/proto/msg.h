/* The message table, for all links (see msg.def). For each message NAME/name:
 *   struct msg_name { fields }             heap strings and vectors are owned
 *   void msg_name_encode(const struct msg_name *, struct sbuf *out)
 *   int  msg_name_decode(const void *, size_t, struct msg_name *ret)   -EPROTO; nothing allocated on failure
 *   void msg_name_done(struct msg_name *)
 * Decoding checks every length; trailing bytes are ignored (newer peers may append fields). */
#pragma once

#include "base/macro.h"
#include "base/sbuf.h"
#include "base/strv.h"

struct bytes { uint8_t *p; size_t n; };
struct nics { struct msg_nic *v; size_t n; };
#define MSG_NICS_MAX 16
/* What the NIC in a template's place is born with: the state that a clone loads brings it along. */
#define MSG_PLACE_MAC "52:54:00:12:34:56"

#define MSG_C_U8(n) uint8_t n;
#define MSG_C_U32(n) uint32_t n;
#define MSG_C_U64(n) uint64_t n;
#define MSG_C_STR(n) char *n;		/* never NULL after decode; NULL encodes as "" */
#define MSG_C_BYTES(n) struct bytes n;
#define MSG_C_STRV(n) char **n;
#define MSG_C_NICS(n) struct nics n;
#define MSG_FIELD(kind, n) MSG_C_##kind(n)

#include "proto/msg.def"

enum msg_type {
#define M(num, NAME, name) MSG_##NAME = num,
	MSG_TABLE(M)
#undef M
};

#define M(num, NAME, name) \
	struct msg_##name { MSG_FIELDS_##NAME(MSG_FIELD) }; \
	void msg_##name##_encode(const struct msg_##name *m, struct sbuf *out); \
	int msg_##name##_decode(const void *p, size_t n, struct msg_##name *ret); \
	void msg_##name##_done(struct msg_##name *m);
MSG_TABLE(M)
#undef M

const char *msg_type_name(uint16_t type);

/* Room for one more at the end, zeroed. */
struct msg_nic *nics_add(struct nics *v);
void nics_done(struct nics *v);
void nics_copy(const struct nics *from, struct nics *ret);
/* The one with this host-side name, NULL if there is none. */
const struct msg_nic *nics_find(const struct nics *nics, const char *ifname);

/* Task states (msg task_state). */
enum task_state { TASK_CREATED = 1, TASK_RUNNING = 2, TASK_EXITED = 3 };
/* CREATE flags */
enum {
	TASK_TTY = 1,
	TASK_STDIN = 2 /* keep stdin open */,
	TASK_STDIN_ONCE = 4 /* close it when the first client's ends */,
	TASK_FILES = 8 /* the root file system alone, without a process: START is refused */
};
/* ATTACH flags */
enum { ATTACH_STDIN = 1, ATTACH_STDOUT = 2, ATTACH_STDERR = 4, ATTACH_MUX = 8 /* Docker's 8-byte frames */ };
/* Streams that the guest opens. */
#define PIPE_STREAM 0x80000000u
enum pipe_use {
	PIPE_CONNECT = 0,	/* a connection to a socket */
	PIPE_READ,		/* a FIFO is read in the guest: until who writes on the host has ended */
	PIPE_WRITE,		/* a FIFO is written in the guest */
};
/* FILES: what to do. Data is a tar stream, unless said otherwise. */
enum files_op {
	FILES_STAT = 1,		/* reply payload: FILE_STAT */
	FILES_GET,		/* out: what stands at path */
	FILES_PUT,		/* in: unpacked into the directory path */
	FILES_CHANGES,		/* out: what differs from the image: "A/path\0", "C/path\0", "D/path\0" */
	FILES_EXPORT,		/* out: the whole root file system, without mounts */
	FILES_LAYER,		/* out: what differs from the image, as a layer */
	_FILES_OP_MAX
};
/* FILES flags */
enum {
	FILES_KEEP_TYPES = 1 /* PUT: a directory does not replace anything else, nor the other way round */,
	FILES_OWNER = 2 /* PUT: everything belongs to `user` */
};
/* CONTROL */
enum control_op { CONTROL_PAUSE = 1, CONTROL_RESUME, CONTROL_UPDATE, CONTROL_STATS };
