/* The parsed template: shared by template.c (parser) and template_exec.c (evaluation). */
#pragma once

#include "cli/template.h"

enum operand_kind { OP_DOT, OP_FIELD, OP_VAR, OP_FUNC, OP_VALUE, OP_PAREN };

struct pipe;

/* One argument of a command: a start (dot, variable, parenthesis...) and the fields behind it. */
struct operand {
	enum operand_kind kind;
	char *name;		/* variable or function */
	struct json *value;	/* literal; NULL is nil */
	struct pipe *paren;
	char **fields;
	char *text;		/* as written, for messages */
	int line, col;
	struct operand *next;
};

struct command {
	struct operand *operands;
	struct command *next;
};

struct pipe {
	char *vars[2];		/* {{$x := ...}} , {{range $k, $v := ...}} */
	bool assign;		/* = instead of := */
	struct command *commands;
};

enum node_kind { NODE_TEXT, NODE_ACTION, NODE_IF, NODE_RANGE, NODE_WITH, NODE_BREAK, NODE_CONTINUE };

struct node {
	enum node_kind kind;
	char *text;
	size_t len;
	struct pipe *pipe;
	struct node *body, *otherwise;
	struct node *next;
};

struct tmpl {
	struct node *nodes;
};

/* template_funcs.c */
struct func_call {
	const char *name;
	struct json **args;		/* borrowed */
	size_t n;
	const struct tmpl_env *env;
};
bool tmpl_func_exists(const char *name);
/* *ret is new (NULL = nil). -EINVAL and *ret_error: the message without its position. */
int tmpl_func_call(const struct func_call *f, struct json **ret, char **ret_error);
bool tmpl_truth(const struct json *v);

/* template_print.c */
/* Whether the keys look like the fields of one of Docker's structs rather than the keys of a map. */
bool tmpl_is_struct(const struct json *o);
/* As fmt.Print writes it; field names what a nil stands for. */
void tmpl_print(struct sbuf *out, const struct json *v, const char *field);
/* As Marshal writes it; row: see struct tmpl_env. Heap. */
char *tmpl_json(const struct json *v, bool row);
