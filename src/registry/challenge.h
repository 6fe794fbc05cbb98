/* What registries say in headers and error bodies: parsing only, for fuzzing too. */
#pragma once

#include "base/err.h"
#include <stdbool.h>

/* WWW-Authenticate (RFC 9110 11.6.1): the scheme that is understood best. */
struct challenge {
	bool bearer;		/* else Basic */
	char *realm, *service, *scope, *error;
};
/* -EBADMSG if it names neither Bearer with a realm nor Basic. */
int challenge_parse(const char *value, struct challenge *ret);
void challenge_done(struct challenge *c);
#define _cleanup_challenge_ __attribute__((cleanup(challenge_done)))

/* "denied: requested access to the resource is denied" from {"errors": [{"code", "message"}]}; heap, NULL if
 * the body is none. Control characters are replaced: it ends on a terminal. */
char *registry_error_text(const char *body, size_t n);
/* The token of a token server's answer, NULL if it has none. Heap. */
char *registry_token(const char *body, size_t n);
