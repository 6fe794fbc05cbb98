#include "lib/tls.h"

#include "base/alloc.h"
#include "base/macro.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

struct tls_server { SSL_CTX *ctx; };

struct tls {
	SSL *ssl;
	bool wants_write;
	char error[160];
};

static int fail(const char *what, const char *path, struct err *e)
{
	char text[160];

	ERR_error_string_n(ERR_get_error(), text, sizeof text);
	ERR_clear_error();
	return err_set(e, ERR_INVALID, 0, "%s '%s': %s", what, path, text);
}

int tls_server_new(const char *ca, const char *cert, const char *key, struct tls_server **ret, struct err *e)
{
	struct tls_server *s = new0(struct tls_server);
	SSL_CTX *c = s->ctx = SSL_CTX_new(TLS_server_method());
	int r = 0;

	if (!c)
		r = fail("start", "OpenSSL", e);
	else if (SSL_CTX_load_verify_file(c, ca) != 1)
		r = fail("read the certificate authority", ca, e);
	else if (SSL_CTX_use_certificate_chain_file(c, cert) != 1)
		r = fail("read the certificate", cert, e);
	else if (SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1)
		r = fail("read the key", key, e);
	else if (SSL_CTX_check_private_key(c) != 1)
		r = fail("the key is not that of the certificate", key, e);
	if (r < 0) {
		tls_server_free(s);
		return r;
	}
	SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_client_CA_list(c, SSL_load_client_CA_file(ca));
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
				   SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				SSL_MODE_RELEASE_BUFFERS);
	*ret = s;
	return 0;
}

void tls_server_free(struct tls_server *s)
{
	if (!s)
		return;
	SSL_CTX_free(s->ctx);
	free(s);
}

struct tls *tls_new(struct tls_server *s, int fd)
{
	struct tls *t = new0(struct tls);

	t->ssl = SSL_new(s->ctx);
	if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1) {
		tls_free(t);
		return NULL;
	}
	SSL_set_accept_state(t->ssl);
	return t;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t);
}

/* What a call that did not succeed means. */
static int outcome(struct tls *t, int n)
{
	unsigned long code;

	switch (SSL_get_error(t->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		t->wants_write = false;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		t->wants_write = true;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	}
	code = ERR_peek_error();
	if (code)
		ERR_error_string_n(code, t->error, sizeof t->error);
	else
		snprintf(t->error, sizeof t->error, "%s", errno ? strerror(errno) : "the connection ended");
	return -EPROTO;
}

static void begin(struct tls *t)
{
	ERR_clear_error();
	errno = 0;
	t->wants_write = false;
}

int tls_handshake(struct tls *t)
{
	int n;

	begin(t);
	n = SSL_do_handshake(t->ssl);
	if (n == 1)
		return 0;
	n = outcome(t, n);
	return n == 0 ? -EPROTO : n;
}

ssize_t tls_read(struct tls *t, void *p, size_t n)
{
	int k;

	begin(t);
	k = SSL_read(t->ssl, p, (int)MIN(n, (size_t)1 << 20));
	return k > 0 ? k : outcome(t, k);
}

ssize_t tls_write(struct tls *t, const void *p, size_t n)
{
	int k;

	begin(t);
	k = SSL_write(t->ssl, p, (int)MIN(n, (size_t)1 << 20));
	if (k > 0)
		return k;
	k = outcome(t, k);
	return k == 0 ? -EPROTO : k;
}

void tls_close(struct tls *t)
{
	begin(t);
	(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
}

bool tls_wants_write(const struct tls *t)
{
	return t->wants_write;
}

const char *tls_error(const struct tls *t)
{
	return t->error;
}
