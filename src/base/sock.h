/* Unix sockets and descriptor passing. */
#pragma once

#include "base/macro.h"
#include <sys/types.h>

#define SOCK_MAX_FDS 8

/* Listening SOCK_STREAM socket at path (CLOEXEC, non-blocking), replacing a stale one. mode = permissions.
 * Paths longer than sun_path go through /proc/self/fd of the directory. Returns the fd or -errno. */
int sock_listen_unix(const char *path, mode_t mode);
int sock_connect_unix(const char *path);	/* blocking connect, CLOEXEC */
int sock_pair(int ret[2]);			/* SOCK_STREAM, CLOEXEC */
int sock_pair_packets(int ret[2]);		/* SOCK_SEQPACKET, CLOEXEC: messages keep their borders */
/* sendmsg/recvmsg with SCM_RIGHTS. Counts as for send/recv; -errno. Received fds are CLOEXEC.
 * *n_fds is in: room, out: received. More fds than room are closed. */
ssize_t sock_send_fds(int fd, const void *p, size_t n, const int *fds, size_t n_fds);
ssize_t sock_recv_fds(int fd, void *p, size_t n, int *fds, size_t *n_fds);
/* Uid, gid, pid of the peer. */
int sock_peer_cred(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid);
