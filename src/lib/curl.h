/* HTTP requests (libcurl behind one wrapper). Blocking, one handle a thread, no redirect is followed: who
 * asks decides where credentials may go. Linked by insula-registry only. */
#pragma once

#include "base/err.h"
#include "base/sbuf.h"
#include <stdbool.h>

struct web;

/* PEM texts; NULL = none beside the system's authorities. */
struct web_tls {
	char *ca, *cert, *key;
	bool insecure;		/* the peer's certificate is not verified */
};

struct web_request {
	const char *method, *url;
	char *const *headers;		/* "Name: value" */
	const void *body;		/* of a POST or PUT; borrowed */
	size_t body_len;
	int body_fd;			/* if > 0: body_size bytes of this file, from its start */
	int64_t body_size;
	const struct web_tls *tls;
	size_t max;			/* of the answer that is collected */
	/* Called with the body of an answer of 200 or 206; a negative result (-errno) ends the transfer with
	 * that. NULL: collected like every other. */
	int (*sink)(void *ud, int status, const void *p, size_t n);
	/* Bytes of the body sent so far. May be NULL. */
	void (*sent)(void *ud, int64_t n);
	void *ud;
};

struct web_answer {
	int status;
	char **headers;			/* as they came, without line ends */
	struct sbuf body;
	unsigned retry_after;		/* seconds, 0 = the server named none */
	bool transient;			/* the transfer failed in a way that another try may mend */
	bool no_tls;			/* it failed because the server does not speak TLS */
};
void web_answer_done(struct web_answer *a);
#define _cleanup_web_answer_ __attribute__((cleanup(web_answer_done)))
/* The first header of that name. Borrowed; NULL if absent. */
const char *web_header(const struct web_answer *a, const char *name);

void web_init(void);			/* once, before threads */
struct web *web_new(void);
void web_free(struct web *w);
/* 0 whatever the status; -errno and e if there is no complete answer (ret is filled as far as it got). */
int web_call(struct web *w, const struct web_request *q, struct web_answer *ret, struct err *e);
/* location as seen from base; heap, -EINVAL for anything but http and https. */
int web_resolve(const char *base, const char *location, char **ret);
/* Scheme, host and port. Heap; NULL if url is none. */
char *web_origin(const char *url);
