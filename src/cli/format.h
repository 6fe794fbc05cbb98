/* --format of the lists (ps, images, ...) and of inspect, info and version. */
#pragma once

#include "cli/cli.h"
#include "cli/template.h"

struct field { const char *name, *header; };

/* What a list can show. */
struct list_spec {
	const struct field *fields;	/* every field of a row, ends with name == NULL */
	const char *table;		/* the default columns: "{{.ID}}\t{{.Names}}" */
	const char *quiet;		/* what -q prints of a row: "{{.ID}}" */
	const char *go_type;		/* for messages */
	const char *sort; /* the field the rows are sorted by, numbers within as numbers; NULL = as given */
	struct json *(*method)(const struct json *row, const char *name, struct json *const *args, size_t n,
			       bool *handled);
};

struct list {
	const struct list_spec *spec;
	struct tmpl *tmpl;
	bool table;
	struct sbuf text;		/* the rows so far, as the template has made them */
	struct list_row *rows;
	size_t n, cap;
	bool failed;			/* and said so */
};
#define _cleanup_list_ _cleanup_(list_done)

/* format: the user's --format, NULL or "" for the default. False after printing the error. */
bool list_open(struct list *l, const struct list_spec *spec, const char *format, bool quiet);
/* Adds a row: an object with the fields of the spec, in the order of `--format json`; taken. It is text from
 * then on: a list of thousands is never there as a tree. */
void list_add(struct list *l, struct json *row);
/* For each of its fields, whether the template shows it: the others need not be made. */
void list_wanted(const struct list *l, bool *ret);
/* Prints the rows and forgets them. Exit code. */
int list_end(struct list *l);
/* The same for an array of rows; borrowed. */
int list_print(struct list *l, struct json *rows);
void list_done(struct list *l);

/* {{.Label "name"}} for rows that keep their labels in "$labels" (hidden from json). */
struct json *list_label_method(const struct json *row, const char *name, struct json *const *args, size_t n,
			       bool *handled);

/* Parses a --format of one object, "json" meaning {{json .}}; prints the error and gives 64 in docker's way.
 */
int object_format_open(const char *format, struct tmpl **ret);
/* Prints doc through t, with a newline. Exit code. */
int object_format_print(const struct tmpl *t, const char *go_type, struct json *doc);

/* Column texts shared by the lists. Heap. */
char *text_ago(int64_t unix_seconds);			/* "3 minutes ago" */
char *text_time(int64_t unix_seconds);			/* "2026-11-23 23:39:40 +0000 UTC" */
char *text_labels(const struct json *labels);		/* "a=1,b=2" */
char *text_ellipsis(const char *s, size_t max);		/* at most max characters, the last one "…" */
char *text_size4(double bytes); /* "4.262MB": four digits, where size_human has three */
const char *short_id(const char *id, char buf[13]);	/* 12 digits, without "sha256:" */
