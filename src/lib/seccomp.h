/* Seccomp filters (libseccomp behind one wrapper).
 *
 * A profile (linux.seccomp of the OCI specification, or one made by a program for itself) is compiled to a
 * BPF program in a short-lived child, because libseccomp's working memory would stay with a long-lived
 * supervisor; the result is cached in a directory, by the profile's text. Loading is one seccomp(2) call.
 *
 * Syscalls that are newer than every syscall the profile names are answered with ENOSYS, not with the default
 * action: the author of the profile could not know them, and libc falls back on ENOSYS only (runc #2750). */
#pragma once

#include "base/err.h"
#include "base/sbuf.h"
#include "lib/json.h"

#include <stdbool.h>

/* Where the programs of this host keep what they have compiled. No container's name: ids do not begin with a
 * dot. */
#define SECCOMP_CACHE "/run/insula-runtime/.seccomp"

struct seccomp_prog {
	void *insns;		/* array of struct sock_filter, heap */
	unsigned short len;	/* number of instructions */
	unsigned flags;		/* SECCOMP_FILTER_FLAG_* */
};
#define _cleanup_seccomp_ _cleanup_(seccomp_prog_done)
void seccomp_prog_done(struct seccomp_prog *p);

/* Compiles the profile, or takes it from cache_dir (NULL = no cache). The directory is made if missing and
 * must belong to this user with mode 0700, else it is not used. ERR_INVALID names what is wrong in the
 * profile. */
int seccomp_prog_compile(const struct json *profile, const char *cache_dir, struct seccomp_prog *ret,
			 struct err *e);
/* Compiles it in this process, without a cache. */
int seccomp_prog_compile_here(const struct json *profile, struct seccomp_prog *ret, struct err *e);
/* A compiled program as bytes, for another process of this architecture, and back. What is decoded is checked
 * for its shape only; the kernel checks the rest when it is loaded. -EPROTO. */
void seccomp_prog_encode(const struct seccomp_prog *p, struct sbuf *b);
int seccomp_prog_decode(const void *bytes, size_t n, struct seccomp_prog *ret);
/* Whether the filter asks a listener (SCMP_ACT_NOTIFY). */
bool seccomp_prog_notifies(const struct seccomp_prog *p);
/* Puts the filter on the calling thread: needs no_new_privs or CAP_SYS_ADMIN. Allocates nothing. Returns 0,
 * the listener's descriptor of one that notifies, or -errno. */
int seccomp_prog_load(const struct seccomp_prog *p);
/* What a profile may say: name number i of a list, NULL past its end. */
enum seccomp_names {
	SECCOMP_NAMES_ACTIONS, SECCOMP_NAMES_OPERATORS, SECCOMP_NAMES_ARCHS, SECCOMP_NAMES_FLAGS
};
const char *seccomp_name(enum seccomp_names list, size_t i);
/* Version of the library linked, "2.5.4". Static buffer. */
const char *seccomp_lib_version(void);
