/* JSON that is described once and becomes what the caller needs: text at once (lists of thousands of
 * objects, whose trees would take several times the memory and most of the time), or a tree (where somebody
 * goes on with it).
 *
 * Every function but jw_end takes the key of the value; NULL inside an array and at the root. Strings and
 * trees are borrowed; a tree that goes into a tree is shared: it must not be changed afterwards. */
#pragma once

#include "lib/json.h"

#define JW_DEPTH 16
struct json_writer {
	struct sbuf *text;		/* NULL: a tree */
	struct json *root;		/* of the tree; whose: the maker's */
	struct json *at[JW_DEPTH];	/* what is open: of the text not even that */
	unsigned depth;
	uint32_t arrays;		/* bit n: what is open at depth n is an array */
	bool more;			/* the next value is not the first one */
	/* Takes what there is of a long text and leaves text empty; may be NULL. */
	void (*spill)(void *userdata, struct sbuf *text);
	void *userdata;
};
#define JSON_WRITER_TEXT(b) {.text = (b)}
#define JSON_WRITER_TREE {0}

void jw_object(struct json_writer *w, const char *key);
void jw_array(struct json_writer *w, const char *key);
void jw_end(struct json_writer *w);		/* of the innermost object or array */
void jw_str(struct json_writer *w, const char *key, const char *s);	/* NULL -> null */
void jw_int(struct json_writer *w, const char *key, int64_t v);
void jw_bool(struct json_writer *w, const char *key, bool v);
void jw_null(struct json_writer *w, const char *key);
void jw_strv(struct json_writer *w, const char *key, char *const *v);	/* NULL vector -> [] */
void jw_value(struct json_writer *w, const char *key, const struct json *v);
/* Between the rows of a list: so much text has come together that it may leave. */
void jw_row_done(struct json_writer *w);

/* A whole tree as text, compact. */
void json_emit(struct sbuf *b, const struct json *j);
/* Length of the valid UTF-8 sequence at s, 0 if there is none. (json.c) */
size_t json_utf8_len(const unsigned char *s, size_t n);
/* A JSON string literal (quotes, escapes; invalid UTF-8 -> U+FFFD as Go does). */
void json_emit_str(struct sbuf *b, const char *s, size_t n);
