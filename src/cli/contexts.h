/* docker's contexts and client configuration, in ~/.docker: shared with the docker CLI. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

/* Of config.json; an empty object if there is none. */
struct json *config_read(void);
char *config_path(void);		/* heap, NULL without a home */
int config_write(const struct json *config, struct err *e);

/* Contexts are documents of docker's: {"Name", "Metadata": {"Description"},
 * "Endpoints": {"docker": {"Host"}}}. "default" is none of them. */
char *context_current(void);		/* chosen by DOCKER_CONTEXT or `context use`; heap, "default" */
struct json *context_load(const char *name);			/* NULL if there is none */
/* The same, or the one of no file. ERR_NOT_FOUND. */
int context_find(const char *name, struct json **ret, struct err *e);
/* Whether one may be called so; "default" is taken. */
int context_check_name(const char *name, struct err *e);
/* The same, and no context is called so yet: ERR_CONFLICT. */
int context_check_new(const char *name, struct err *e);
char **context_names(void);		/* sorted; heap, NULL if there are none */
const char *context_host(const struct json *context);		/* NULL if it names none */
/* Writes one, replacing another of its name. */
int context_save(const struct json *context, struct err *e);
int context_remove(const char *name, struct err *e);
/* Where docker keeps it: contexts/KIND/SHA256(NAME), kind: "meta", "tls". Heap. */
int context_dir(const char *kind, const char *name, char **ret, struct err *e);
