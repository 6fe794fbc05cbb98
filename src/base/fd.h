/* File descriptors: cleanup, full reads and writes, close-on-exec hygiene. */
#pragma once

#include "base/macro.h"
#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

static inline void closep(int *fd) { if (*fd >= 0) { int e = errno; close(*fd); errno = e; } *fd = -EBADF; }
#define _cleanup_close_ _cleanup_(closep)

/* Closes fd if it is open and resets it. Keeps errno. */
void fd_close(int *fd);
/* Reads until n bytes or EOF; returns the count or -errno. */
ssize_t fd_read_full(int fd, void *p, size_t n);
/* Writes all n bytes; 0 or -errno. Blocks on a non-blocking fd by polling. */
int fd_write_full(int fd, const void *p, size_t n);
int fd_set_nonblock(int fd, bool on);
int fd_set_cloexec(int fd, bool on);
/* Marks every descriptor >= from close-on-exec (close_range(2); where there is none, those that /proc/self/fd
 * lists). */
int fd_cloexec_from(int from);
/* Closes first..last (close_range(2), or likewise). */
void fd_close_range(unsigned first, unsigned last);
/* Closes every descriptor from 3 on, but those of keep (negative ones are passed over; sorted in place). */
void fd_close_except(int *keep, size_t n);
/* "/proc/self/fd/N" in buf. */
struct fd_path { char s[32]; };
struct fd_path fd_proc_path(int fd);
/* pipe2(O_CLOEXEC | flags). */
int fd_pipe(int ret[2], int flags);
/* A sealed memfd holding n bytes, positioned at 0. Returns the fd or -errno. */
int fd_from_bytes(const char *name, const void *p, size_t n);
