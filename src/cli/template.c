#include "cli/template_ast.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* Theory of operation: one pass over the text. Outside {{ }} text nodes are cut, inside a recursive
 * descent parser builds pipes. if/range/with push their bodies by recursion (parse_list), which ends at
 * an {{end}} or {{else}} and leaves the word in p->stop. */

enum { DEPTH_MAX = 64 };
enum stop { STOP_EOF, STOP_END, STOP_ELSE };

struct parser {
	const char *text, *p;
	const char *line_start;
	int line, depth, loops;
	enum stop stop;
	bool trim_next;		/* a -}} was read: the following text loses its leading space */
	char **vars;		/* names in scope */
	char *error;
};

static struct node *parse_list(struct parser *p);
static struct pipe *parse_pipe(struct parser *p, const char *what, bool in_paren);

static void pipe_free(struct pipe *pipe);

static void operand_free(struct operand *o)
{
	while (o) {
		struct operand *next = o->next;

		free(o->name);
		json_free(o->value);
		pipe_free(o->paren);
		strv_free(o->fields);
		free(o->text);
		free(o);
		o = next;
	}
}

static void pipe_free(struct pipe *pipe)
{
	if (!pipe)
		return;
	for (struct command *c = pipe->commands, *next; c; c = next) {
		next = c->next;
		operand_free(c->operands);
		free(c);
	}
	free(pipe->vars[0]);
	free(pipe->vars[1]);
	free(pipe);
}

static void nodes_free(struct node *n)
{
	while (n) {
		struct node *next = n->next;

		free(n->text);
		pipe_free(n->pipe);
		nodes_free(n->body);
		nodes_free(n->otherwise);
		free(n);
		n = next;
	}
}

void tmpl_free(struct tmpl *t)
{
	if (!t)
		return;
	nodes_free(t->nodes);
	free(t);
}

static _printf_(2, 3) void fail(struct parser *p, const char *fmt, ...)
{
	_cleanup_free_ char *msg = NULL;
	va_list ap;

	if (p->error)
		return;
	va_start(ap, fmt);
	msg = xvasprintf(fmt, ap);
	va_end(ap);
	p->error = xasprintf("template: :%d: %s", p->line, msg);
}

/* Moves on to q, counting lines. */
static void advance(struct parser *p, const char *q)
{
	for (; p->p < q; p->p++) {
		if (*p->p == '\n') {
			p->line++;
			p->line_start = p->p + 1;
		}
	}
}

static bool skip_space(struct parser *p)
{
	const char *q = p->p;

	while (*q && strchr(" \t\r\n", *q))
		q++;
	if (q == p->p)
		return false;
	advance(p, q);
	return true;
}

/* The end of an action: "}}" or " -}}". */
static size_t action_end(const struct parser *p)
{
	if (str_starts(p->p, "}}"))
		return 2;
	return str_starts(p->p, "-}}") && p->p > p->text && strchr(" \t\r\n", p->p[-1]) ? 3 : 0;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static char *take_word(struct parser *p)
{
	const char *q = p->p;
	char *s;

	while (is_word(*q))
		q++;
	s = xstrndup(p->p, q - p->p);
	p->p = q;
	return s;
}

/* Takes the keyword if it stands here as a whole word. */
static bool take_keyword(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(p->p, word, n) || is_word(p->p[n]))
		return false;
	p->p += n;
	return true;
}

/* A Go string literal, "..." with escapes or `...`. */
static char *take_string(struct parser *p)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	char quote = *p->p;
	const char *q = p->p + 1;

	for (; *q && *q != quote; q++) {
		static const char from[] = "abfnrtv\\\"'", to[] = "\a\b\f\n\r\t\v\\\"'";
		const char *at;

		if (quote == '`' || *q != '\\') {
			if (*q == '\n' && quote == '"')
				break;
			sbuf_putc(&b, *q);
			continue;
		}
		at = q[1] ? strchr(from, q[1]) : NULL;
		if (!at) {
			fail(p, "invalid syntax");
			return NULL;
		}
		sbuf_putc(&b, to[at - from]);
		q++;
	}
	if (*q != quote) {
		fail(p, quote == '`' ? "unterminated raw quoted string" : "unterminated quoted string");
		return NULL;
	}
	advance(p, q + 1);
	return xstrdup(sbuf_str(&b));
}

static struct json *take_number(struct parser *p)
{
	char *end = NULL;
	_cleanup_free_ char *word = NULL;
	size_t n = strspn(p->p, "+-0123456789abcdefABCDEFxX._");
	long long v;
	double d;

	word = xstrndup(p->p, n);
	errno = 0;
	v = strtoll(word, &end, 0);
	if (!*end && !errno) {
		p->p += n;
		return json_new_int(v);
	}
	d = strtod(word, &end);
	if (*end) {
		fail(p, "bad number syntax: \"%s\"", word);
		return NULL;
	}
	p->p += n;
	return json_new_double(d);
}

static bool var_known(const struct parser *p, const char *name)
{
	return !*name || strv_has(p->vars, name);
}

/* What an operand starts with. */
static bool operand_start(struct parser *p, struct operand *o)
{
	char c = *p->p;

	if (!c) {
		fail(p, "unclosed action");
	} else if (c == '.' && !isdigit((unsigned char)p->p[1])) {
		o->kind = OP_DOT;
		if (!is_word(p->p[1]))
			p->p++;
	} else if (c == '$') {
		p->p++;
		o->kind = OP_VAR;
		o->name = take_word(p);
		if (!var_known(p, o->name))
			fail(p, "undefined variable \"$%s\"", o->name);
	} else if (c == '"' || c == '`') {
		_cleanup_free_ char *s = take_string(p);

		o->kind = OP_VALUE;
		o->value = json_new_str(s);
	} else if (c == '\'') {
		if (!p->p[1] || p->p[2] != '\'')
			fail(p, "malformed character constant");
		else {
			o->kind = OP_VALUE;
			o->value = json_new_int((unsigned char)p->p[1]);
			p->p += 3;
		}
	} else if (isdigit((unsigned char)c) || (strchr("+-.", c) && isdigit((unsigned char)p->p[1]))) {
		o->kind = OP_VALUE;
		o->value = take_number(p);
	} else if (c == '(') {
		p->p++;
		o->kind = OP_PAREN;
		if (++p->depth > DEPTH_MAX)
			fail(p, "template nested too deeply");
		else
			o->paren = parse_pipe(p, "parenthesized pipeline", true);
		p->depth--;
		if (!p->error && *p->p++ != ')')
			fail(p, "unclosed left paren");
	} else if (take_keyword(p, "true") || take_keyword(p, "false")) {
		o->kind = OP_VALUE;
		o->value = json_new_bool(p->p[-2] == 'u');
	} else if (take_keyword(p, "nil")) {
		o->kind = OP_VALUE;
	} else if (is_word(c)) {
		o->kind = OP_FUNC;
		o->name = take_word(p);
		if (!tmpl_func_exists(o->name))
			fail(p, "function \"%s\" not defined", o->name);
	} else {
		fail(p, "unexpected \"%c\" in operand", c);
	}
	return !p->error;
}

static struct operand *parse_operand(struct parser *p)
{
	struct operand *o = new0(struct operand);
	const char *start = p->p;

	o->line = p->line;
	o->col = p->p - p->line_start;
	if (!operand_start(p, o)) {
		operand_free(o);
		return NULL;
	}
	while (*p->p == '.' && is_word(p->p[1])) {
		size_t n = strv_len(o->fields);

		/* Go reports a chain at its second part. */
		if (n == 1 || (n == 0 && o->kind != OP_DOT))
			o->col = p->p - p->line_start;
		p->p++;
		strv_take(&o->fields, take_word(p));
	}
	if (o->kind == OP_DOT && o->fields)
		o->kind = OP_FIELD;
	o->text = xstrndup(start, p->p - start);
	return o;
}

static struct command *parse_command(struct parser *p, const char *what, bool in_paren)
{
	struct command *c = new0(struct command);
	const char *start, *end;
	struct operand **tail = &c->operands;

	skip_space(p);
	start = end = p->p;
	for (;;) {
		skip_space(p);
		if (action_end(p) || *p->p == '|' || (in_paren && *p->p == ')'))
			break;
		*tail = parse_operand(p);
		if (!*tail)
			return c;
		tail = &(*tail)->next;
		end = p->p;
		if (*p->p && !strchr(" \t\r\n|)", *p->p) && !str_starts(p->p, "}}")) {
			fail(p, "unexpected \"%c\" in operand", *p->p);
			return c;
		}
		if (*p->p == ')' && !in_paren) {
			fail(p, "unexpected right paren");
			return c;
		}
	}
	if (!c->operands) {
		fail(p, "missing value for %s", what);
	} else if (c->operands->kind == OP_FUNC) {
		/* Messages about a call show all of it. */
		free(c->operands->text);
		c->operands->text = xstrndup(start, end - start);
	}
	return c;
}

/* "$x :=", "$x =", "$k, $v :=" in front of a pipe; nothing is taken if there is none. */
static void parse_declaration(struct parser *p, struct pipe *pipe)
{
	const char *back = p->p;
	char *names[2] = { NULL, NULL };

	for (size_t i = 0; i < 2 && *p->p == '$'; i++) {
		p->p++;
		names[i] = take_word(p);
		skip_space(p);
		if (*p->p != ',')
			break;
		p->p++;
		skip_space(p);
	}
	if (names[0] && (str_starts(p->p, ":=") || (*p->p == '=' && p->p[1] != '='))) {
		pipe->assign = *p->p == '=';
		p->p += pipe->assign ? 1 : 2;
		for (size_t i = 0; i < 2 && names[i]; i++) {
			if (pipe->assign && !var_known(p, names[i]))
				fail(p, "undefined variable \"$%s\"", names[i]);
			strv_add(&p->vars, names[i]);
			pipe->vars[i] = TAKE_PTR(names[i]);
		}
	} else {
		p->p = back;
	}
	free(names[0]);
	free(names[1]);
}

static struct pipe *parse_pipe(struct parser *p, const char *what, bool in_paren)
{
	struct pipe *pipe = new0(struct pipe);
	struct command **tail = &pipe->commands;

	skip_space(p);
	parse_declaration(p, pipe);
	while (!p->error) {
		*tail = parse_command(p, what, in_paren);
		tail = &(*tail)->next;
		if (p->error || *p->p != '|')
			break;
		p->p++;
	}
	return pipe;
}

static void end_action(struct parser *p)
{
	size_t n;

	skip_space(p);
	n = action_end(p);
	if (n == 0) {
		fail(p, *p->p ? "unexpected token in action" : "unclosed action");
		return;
	}
	p->trim_next = n == 3;
	p->p += n;
}

/* The rest of {{if PIPE}}...{{else}}...{{end}}; "else if" nests. */
static void parse_control(struct parser *p, const char *word, struct node *n)
{
	size_t scope = strv_len(p->vars);

	if (++p->depth > DEPTH_MAX) {
		fail(p, "template nested too deeply");
		return;
	}
	n->pipe = parse_pipe(p, word, false);
	end_action(p);
	p->loops += n->kind == NODE_RANGE;
	if (!p->error)
		n->body = parse_list(p);
	p->loops -= n->kind == NODE_RANGE;
	if (!p->error && p->stop == STOP_ELSE) {
		skip_space(p);
		if (take_keyword(p, "if") || take_keyword(p, "with")) {
			n->otherwise = new0(struct node);
			n->otherwise->kind = p->p[-1] == 'f' ? NODE_IF : NODE_WITH;
			parse_control(p, n->otherwise->kind == NODE_IF ? "if" : "with", n->otherwise);
		} else {
			end_action(p);
			if (!p->error)
				n->otherwise = parse_list(p);
		}
	}
	if (!p->error && p->stop != STOP_END)
		fail(p, p->stop == STOP_EOF ? "unexpected EOF" : "expected end; found {{else}}");
	while (strv_len(p->vars) > scope) {
		size_t last = strv_len(p->vars) - 1;

		free(p->vars[last]);
		p->vars[last] = NULL;
	}
	p->depth--;
}

/* Behind "{{". Returns the node, or NULL at a comment, {{end}}, {{else}} or an error. */
static struct node *parse_action(struct parser *p, bool *ret_stop)
{
	static const struct { const char *word; enum node_kind kind; } controls[] = {
		{ "if", NODE_IF }, { "range", NODE_RANGE }, { "with", NODE_WITH },
		{ "break", NODE_BREAK }, { "continue", NODE_CONTINUE },
	};
	struct node *n;

	if (str_starts(p->p, "/*")) {
		const char *end = strstr(p->p, "*/");

		if (!end)
			fail(p, "unclosed comment");
		else {
			advance(p, end + 2);
			end_action(p);
		}
		return NULL;
	}
	if (take_keyword(p, "end")) {
		end_action(p);
		p->stop = STOP_END;
		*ret_stop = true;
		return NULL;
	}
	if (take_keyword(p, "else")) {
		p->stop = STOP_ELSE;
		*ret_stop = true;
		return NULL;
	}
	n = new0(struct node);
	n->kind = NODE_ACTION;
	for (size_t i = 0; i < ARRAY_SIZE(controls); i++) {
		if (!take_keyword(p, controls[i].word))
			continue;
		n->kind = controls[i].kind;
		if (n->kind == NODE_BREAK || n->kind == NODE_CONTINUE) {
			if (!p->loops)
				fail(p, "{{%s}} outside {{range}}", controls[i].word);
			end_action(p);
		} else {
			parse_control(p, controls[i].word, n);
		}
		return n;
	}
	n->pipe = parse_pipe(p, "command", false);
	end_action(p);
	return n;
}

static struct node *text_node(struct parser *p, const char *end, bool trim_end)
{
	const char *start = p->p;
	struct node *n;

	advance(p, end);
	if (p->trim_next)
		while (start < end && strchr(" \t\r\n", *start))
			start++;
	p->trim_next = false;
	if (trim_end)
		while (end > start && strchr(" \t\r\n", end[-1]))
			end--;
	if (start == end)
		return NULL;
	n = new0(struct node);
	n->kind = NODE_TEXT;
	n->text = xstrndup(start, end - start);
	n->len = end - start;
	return n;
}

static struct node *parse_list(struct parser *p)
{
	struct node *head = NULL, **tail = &head;

	p->stop = STOP_EOF;
	while (!p->error && *p->p) {
		const char *open = strstr(p->p, "{{");
		bool trim = open && open[2] == '-' && open[3] && strchr(" \t\r\n", open[3]);
		bool stop = false;

		*tail = text_node(p, open ? open : p->p + strlen(p->p), trim);
		if (*tail)
			tail = &(*tail)->next;
		if (!open)
			break;
		p->p += trim ? 3 : 2;
		skip_space(p);
		*tail = parse_action(p, &stop);
		if (stop)
			return head;
		if (*tail)
			tail = &(*tail)->next;
	}
	p->stop = STOP_EOF;
	return head;
}

int tmpl_parse(const char *text, struct tmpl **ret, char **ret_error)
{
	struct parser p = { .text = text, .p = text, .line_start = text, .line = 1 };
	struct tmpl *t = new0(struct tmpl);

	t->nodes = parse_list(&p);
	if (!p.error && p.stop != STOP_EOF)
		fail(&p, "unexpected {{%s}}", p.stop == STOP_END ? "end" : "else");
	strv_free(p.vars);
	if (p.error) {
		*ret_error = p.error;
		tmpl_free(t);
		return -EINVAL;
	}
	*ret = t;
	return 0;
}

static bool pipe_uses(const struct pipe *pipe, const char *field)
{
	for (const struct command *c = pipe ? pipe->commands : NULL; c; c = c->next)
		for (const struct operand *o = c->operands; o; o = o->next)
			if (strv_has(o->fields, field) || pipe_uses(o->paren, field))
				return true;
	return false;
}

static bool nodes_use(const struct node *n, const char *field)
{
	for (; n; n = n->next)
		if (pipe_uses(n->pipe, field) || nodes_use(n->body, field) || nodes_use(n->otherwise, field))
			return true;
	return false;
}

bool tmpl_uses(const struct tmpl *t, const char *field)
{
	return nodes_use(t->nodes, field);
}

static bool pipe_reads(const struct pipe *pipe, const char *field)
{
	for (const struct command *c = pipe ? pipe->commands : NULL; c; c = c->next)
		for (const struct operand *o = c->operands; o; o = o->next) {
			if ((o->kind == OP_DOT || o->kind == OP_VAR) && !o->fields)
				return true;	/* all of it */
			for (char **f = o->fields; f && *f; f++)
				if (!strcasecmp(*f, field))
					return true;
			if (pipe_reads(o->paren, field))
				return true;
		}
	return false;
}

static bool nodes_read(const struct node *n, const char *field)
{
	for (; n; n = n->next)
		if (pipe_reads(n->pipe, field) || nodes_read(n->body, field) ||
		    nodes_read(n->otherwise, field))
			return true;
	return false;
}

bool tmpl_reads(const struct tmpl *t, const char *field)
{
	return nodes_read(t->nodes, field);
}
