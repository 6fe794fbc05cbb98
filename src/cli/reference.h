/* Image references as people type them; the daemon decides what is valid. */
#pragma once

/* "host:5000/a/b:tag" or "name@sha256:..." into repository and tag (or digest). Heap; *ret_tag NULL if none.
 */
void reference_split(const char *ref, char **ret_repo, char **ret_tag);
/* The full name docker shows: "docker.io/library/busybox:latest". Heap. */
char *reference_canonical(const char *ref);
/* With ":latest" if it has neither tag nor digest. Heap. */
char *reference_tagged(const char *ref);
