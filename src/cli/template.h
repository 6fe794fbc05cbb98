/* The part of Go's text/template that people use with --format, over JSON values: fields, variables,
 * literals, pipes, parentheses, if/else, range, with, break, continue, comments, trim marks, the built-in
 * functions and Docker's (json, join, split, lower, upper, title, pad, truncate). */
#pragma once

#include "lib/json.h"

struct tmpl;

/* Parses text. -EINVAL and *ret_error (heap) in Go's words: "template: :1: unclosed action". */
int tmpl_parse(const char *text, struct tmpl **ret, char **ret_error);
void tmpl_free(struct tmpl *t);
static inline void tmpl_freep(struct tmpl **t) { tmpl_free(*t); *t = NULL; }
#define _cleanup_tmpl_ _cleanup_(tmpl_freep)

/* How a template meets its data. All optional. */
struct tmpl_env {
	/* Go's name of the root's type: a field that the root lacks is then "can't evaluate field X in type
	 * T"; without it "map has no entry for key". */
	const char *root_type;
	/* Called for {{.name args}}: a new value, NULL with *handled unset if there is no such method. */
	struct json *(*method)(const struct json *obj, const char *name, struct json *const *args, size_t n,
			       bool *handled);
	/* Column headers are made by running the template over their names: functions that would
	 * change the type give their argument. */
	bool header;
	/* The root is the row of a list: json escapes <, > and & as Go's Marshal does, and leaves out keys
	 * that begin with '$'. */
	bool row;
};

/* Appends the result to out. -EINVAL and *ret_error (heap): `template: :1:2: executing "" at <.X>: ...`. */
int tmpl_exec(const struct tmpl *t, const struct tmpl_env *env, struct json *data, struct sbuf *out,
	      char **ret_error);
/* Whether the template reads the field anywhere (so that costly fields are asked for only then). */
bool tmpl_uses(const struct tmpl *t, const char *field);
/* Whether its result depends on the field, be it that it prints all there is. */
bool tmpl_reads(const struct tmpl *t, const char *field);
