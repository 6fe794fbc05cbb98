/* A small D-Bus client over a unix socket, without a library: method calls with their replies, and signals.
 * Blocking, every wait bounded. Enough for talking to systemd; file descriptors are not passed. */
#pragma once

#include "base/err.h"
#include "base/sbuf.h"

#include <stdbool.h>
#include <stdint.h>

/* --- values, in little-endian wire format with alignment counted from the start of the buffer --- */

void dbus_put_byte(struct sbuf *b, uint8_t v);
void dbus_put_u32(struct sbuf *b, uint32_t v);		/* also booleans */
void dbus_put_u64(struct sbuf *b, uint64_t v);
void dbus_put_str(struct sbuf *b, const char *s);	/* also object paths */
void dbus_put_sig(struct sbuf *b, const char *s);
void dbus_put_struct(struct sbuf *b);			/* only aligns: fields follow */
/* An array whose elements align to `align` bytes: what is put between the two calls. */
size_t dbus_open_array(struct sbuf *b, size_t align);
void dbus_close_array(struct sbuf *b, size_t token, size_t align);

/* Reading: fails (false) past the end and on malformed values. Strings are borrowed. */
struct dbus_in { const uint8_t *p; size_t n, at; };
bool dbus_get_byte(struct dbus_in *in, uint8_t *ret);
bool dbus_get_u32(struct dbus_in *in, uint32_t *ret);
bool dbus_get_str(struct dbus_in *in, const char **ret);
bool dbus_get_sig(struct dbus_in *in, const char **ret);
bool dbus_skip_to(struct dbus_in *in, size_t align);

/* --- messages --- */

enum dbus_type { DBUS_CALL = 1, DBUS_REPLY, DBUS_ERROR, DBUS_SIGNAL };

struct dbus_msg {
	uint8_t type;
	uint32_t serial, reply_to;
	char *path, *interface, *member, *error, *destination, *signature;
	char *body;
	size_t n_body;
};
void dbus_msg_done(struct dbus_msg *m);
#define _cleanup_dbus_msg_ _cleanup_(dbus_msg_done)
/* The wire form of a message. */
void dbus_encode(const struct dbus_msg *m, struct sbuf *out);
/* How many bytes the message has that begins here (needs 16), 0 = malformed or too large. */
size_t dbus_message_size(const void *p, size_t n);
int dbus_decode(const void *p, size_t n, struct dbus_msg *ret);

/* --- a connection --- */

struct dbus;
/* Connects and authenticates as this process's user. bus: there is a bus behind the socket that wants to be
 * greeted; else a service itself. */
int dbus_open(const char *socket, bool bus, struct dbus **ret, struct err *e);
void dbus_close(struct dbus *d);
DEFINE_CLEANUP(struct dbus *, dbus_close)
/* Sends a call (type and serial are set here) and waits for its reply. An error reply becomes e, with its
 * text. */
int dbus_call(struct dbus *d, struct dbus_msg *call, struct dbus_msg *ret, struct err *e);
/* The next signal with this member, one that came during a call first. */
int dbus_wait_signal(struct dbus *d, const char *member, struct dbus_msg *ret, struct err *e);
