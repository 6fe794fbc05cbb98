/* TLS for servers (OpenSSL behind one wrapper): non-blocking, 1.2 or later, clients show a certificate. */
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_server;
struct tls;

/* PEM files: the CA whose clients are let in, the server's certificate (with its chain) and key. */
int tls_server_new(const char *ca, const char *cert, const char *key, struct tls_server **ret, struct err *e);
void tls_server_free(struct tls_server *s);

/* A connection on fd, which stays the caller's. */
struct tls *tls_new(struct tls_server *s, int fd);
void tls_free(struct tls *t);
/* 0 done, -EAGAIN, or -EPROTO: the client is not let in (tls_error says why). */
int tls_handshake(struct tls *t);
/* Bytes; 0 at the end of what the client sends; -EAGAIN; -EPROTO. */
ssize_t tls_read(struct tls *t, void *p, size_t n);
ssize_t tls_write(struct tls *t, const void *p, size_t n);
/* Tells the client that no more comes. */
void tls_close(struct tls *t);
/* After -EAGAIN: whether it waits until the descriptor can be written. */
bool tls_wants_write(const struct tls *t);
const char *tls_error(const struct tls *t);
