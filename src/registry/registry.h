/* insula-registry: the only program of insula that talks to registries.
 *
 * Started by insulad for one pull, push or look-up with: 0 the request (one JSON document), 2 the daemon's
 * log, 3 a SEQPACKET socket to insulad. It is nobody, opens no file for writing and reaches no local socket;
 * what it writes are the descriptors that insulad hands it, one per blob. Nothing that it says is believed:
 * insula-puller checks every digest again from the reference down.
 *
 * Messages are JSON objects. To insulad: blob (a descriptor to fill or to read is wanted), done (a blob is
 * complete), layers (all of them have been asked for, and the rest is complete), status (for the client),
 * result or error (the last one). Only `blob` is answered. */
#pragma once

#include "lib/curl.h"
#include "lib/json.h"
#include "oci/manifest.h"
#include "registry/challenge.h"

#include <pthread.h>
#include <stdbool.h>

#define FD_REQUEST 0
#define FD_LINK 3
#define LINK_MESSAGE_MAX (64u << 10)

/* sandbox.c */
int registry_sandbox(struct err *e);

/* link.c: callable from every thread. */
struct blob_slot { int fd; bool have; };	/* have: insulad needs nothing of it */
/* Asks for a blob's descriptor; extra is taken (may be NULL) and names what else insulad should know. */
int link_blob(const char *kind, const struct descriptor *d, struct json *extra, struct blob_slot *ret,
	      struct err *e);
void link_done(const char *digest);
/* Every layer has its descriptor: they can be unpacked as they come. */
void link_layers(void);
/* total < 0: no numbers. */
void link_status(const char *id, const char *status, int64_t current, int64_t total);
void link_send(struct json *message /* taken */);

/* endpoint.c: one registry, or mirror, that is asked. */
struct endpoint {
	char *host;		/* as it is shown and as certificates are kept: "127.0.0.1:5000" */
	char *base;		/* "https://127.0.0.1:5000" once it is known */
	bool insecure;		/* plain HTTP and unknown certificates are fine */
	bool mirror;		/* gets no credentials */
	struct web_tls tls;
	const char *user, *password, *identity, *registry_token;	/* of the request */
	const char *path, *actions;	/* what a token is asked for */
	const char *from;		/* a second repository to read from, NULL */
	pthread_mutex_t lock;		/* guards authorization */
	char *authorization;		/* "Bearer x" or "Basic x"; NULL = none yet */
};
/* Endpoints of a request: mirrors, then the registry itself. */
int endpoints_read(const struct json *request, struct endpoint **ret, size_t *ret_n, struct err *e);
void endpoints_free(struct endpoint *v, size_t n);
/* Finds out whether it speaks https or http. */
int endpoint_probe(struct endpoint *p, struct web *w, struct err *e);

/* call.c */
/* A request to the endpoint: url is absolute or begins with /. Obtains a token when asked for one, tries
 * again after 429, 5xx and broken connections (retry = false: a broken one is the caller's), follows
 * redirects; credentials stay with the host they are for. q->url and q->headers (Accept and so on) are the
 * caller's. 0 and an answer below 400, or -errno with Docker's text. */
int endpoint_call(struct endpoint *p, struct web *w, struct web_request *q, bool retry,
		  struct web_answer *ret, struct err *e);
/* Waits before try number n (from 1) as the answer wants it. False when there have been enough. */
bool endpoint_wait(const struct web_answer *a, unsigned n);

/* auth.c */
/* Answers a challenge: a new authorization for the endpoint. */
int endpoint_authorize(struct endpoint *p, struct web *w, const struct challenge *c, struct err *e);

/* manifests.c */
struct fetched {
	char *digest, *media_type;
	struct sbuf bytes;
	struct manifest manifest;
};
void fetched_done(struct fetched *f);
/* Manifest by tag or digest; a digest is verified. */
int fetch_manifest(struct endpoint *p, struct web *w, const char *ref, struct fetched *ret, struct err *e);

/* blobs.c */
/* Downloads d into fd, going on where it ends; verified. */
int fetch_blob(struct endpoint *p, struct web *w, const struct descriptor *d, int fd, bool show,
	       struct err *e);
/* "0123456789ab" of a digest. */
const char *short_digest(const char *digest, char buf[13]);

/* parallel.c */
#define PARALLEL 3
/* fn(0) ... fn(n - 1) in PARALLEL threads, each with a handle of its own; after one has failed no further one
 * begins. */
int in_parallel(size_t n, int (*fn)(void *ud, size_t i, struct web *w, struct err *e), void *ud,
		struct err *e);

/* pull.c, push.c, lookup.c */
int registry_pull(const struct json *request, struct err *e);
int registry_push(const struct json *request, struct err *e);
int registry_lookup(const struct json *request, struct err *e);
int registry_tags(const struct json *request, struct err *e);
int registry_login(const struct json *request, struct err *e);
