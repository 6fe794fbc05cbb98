/* The `filters` parameter of list, prune and events requests, in both shapes that clients send:
 * {"status":{"running":true}} (Go) and {"status":["running"]} (docker-py, dockerode). */
#pragma once

#include "base/err.h"
#include <stdbool.h>

struct json;
struct filters { struct json *keys; };	/* object of arrays of strings; NULL = no filter at all */

/* s: the query value, NULL or "" = none. allowed: NULL-terminated keys; another key is
 * ERR_INVALID "invalid filter 'x'". */
int filters_parse(const char *s, const char *const *allowed, struct filters *ret, struct err *e);
void filters_done(struct filters *f);
#define _cleanup_filters_ __attribute__((cleanup(filters_done)))

bool filters_has(const struct filters *f, const char *key);
/* The values of key as a heap vector, NULL if absent. */
char **filters_values(const struct filters *f, const char *key);

/* All matches are true when the key is absent. */
/* One of the values equals v. */
bool filters_match(const struct filters *f, const char *key, const char *v);
/* One of the values equals v or is a prefix of it. */
bool filters_match_prefix(const struct filters *f, const char *key, const char *v);
/* One of the values is contained in v (names). */
bool filters_match_part(const struct filters *f, const char *key, const char *v);
/* Every value "k" or "k=v" is found in labels (object of strings, may be NULL). */
bool filters_match_labels(const struct filters *f, const char *key, const struct json *labels);
/* A single boolean value (dangling, all, is-task): *ret = def if absent; ERR_INVALID "invalid filter
 * 'key=[x]'". */
int filters_bool(const struct filters *f, const char *key, bool def, bool *ret, struct err *e);
