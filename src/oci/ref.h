/* Image references: [domain/]path[:tag][@digest], with Docker's defaults. */
#pragma once

#include "base/err.h"
#include <stdbool.h>

struct ref {
	char *domain;	/* "docker.io" */
	char *path;	/* "library/busybox" */
	char *tag;	/* "latest"; NULL only if a digest is given without one */
	char *digest;	/* "sha256:HEX" or NULL */
};

/* Docker's texts: "invalid reference format", "... repository name (library/Foo) must be lowercase". */
int ref_parse(const char *s, struct ref *ret, struct err *e);
void ref_done(struct ref *r);
#define _cleanup_ref_ __attribute__((cleanup(ref_done)))
/* As people write it: docker.io/ and library/ cut. name alone, or with :tag. Heap. */
char *ref_familiar_name(const struct ref *r);
char *ref_familiar(const struct ref *r);
bool digest_valid(const char *s);	/* "sha256:" and 64 lower-case hex digits */
