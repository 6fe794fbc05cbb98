#include "cli/template_ast.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

/* Theory of operation: every evaluation gives a new reference, NULL being nil. Variables live on a stack
 * that a block cuts back when it ends. break and continue travel as a flag up to their range. */

enum { ARGS_MAX = 16, VARS_MAX = 64 };
enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

struct exec {
	const struct tmpl_env *env;
	struct json *root;
	struct sbuf *out;
	struct { const char *name; struct json *value; } vars[VARS_MAX];
	size_t n_vars;
	enum flow flow;
	char **ret_error;
};

static int eval_pipe(struct exec *x, const struct pipe *pipe, struct json *dot, struct json **ret,
		     const char **ret_field);
static int walk(struct exec *x, const struct node *n, struct json *dot);

static _printf_(3, 4) int fail_at(struct exec *x, const struct operand *o, const char *fmt, ...)
{
	_cleanup_free_ char *msg = NULL;
	va_list ap;

	va_start(ap, fmt);
	msg = xvasprintf(fmt, ap);
	va_end(ap);
	if (!*x->ret_error)
		*x->ret_error =
		    xasprintf("template: :%d:%d: executing \"\" at <%s>: %s", o->line, o->col, o->text, msg);
	return -EINVAL;
}

static bool has_key(const struct json *o, const char *key)
{
	struct json_iter it = {0};

	if (json_type(o) == JSON_OBJECT)
		while (json_next(o, &it))
			if (streq(it.key, key))
				return true;
	return false;
}

/* Templates name Go's fields: ID, APIVersion; the documents have Id, ApiVersion. */
static const char *go_name(const struct json *o, const char *name)
{
	struct json_iter it = {0};

	while (json_next(o, &it))
		if (!strcasecmp(it.key, name))
			return it.key;
	return NULL;
}

static const char *go_type(const struct json *v)
{
	switch (json_type(v)) {
	case JSON_BOOL: return "bool";
	case JSON_INT: return "int64";
	case JSON_DOUBLE: return "float64";
	case JSON_STR: return "string";
	case JSON_ARRAY: return "[]interface {}";
	case JSON_OBJECT: return "map[string]interface {}";
	case JSON_NULL: break;
	}
	return "nil";
}

/* One step of a chain. args (borrowed) belong to the last field and mean a method call. */
static int get_field(struct exec *x, const struct operand *o, struct json *v, const char *name,
		     struct json *const *args, size_t n_args, struct json **ret)
{
	if (x->env->method) {
		bool handled = false;
		struct json *r = x->env->method(v, name, args, n_args, &handled);

		if (handled) {
			*ret = r;
			return 0;
		}
	}
	if (n_args > 0)
		return fail_at(x, o, "%s is not a method but has arguments", name);
	if (json_type(v) == JSON_NULL)
		return fail_at(x, o, "nil pointer evaluating interface {}.%s", name);
	if (json_type(v) != JSON_OBJECT)
		return fail_at(x, o, "can't evaluate field %s in type %s", name, go_type(v));
	*ret = json_ref(json_get(v, name));
	if (*ret)
		return 0;
	if (!has_key(v, name) && (v == x->root || tmpl_is_struct(v)) && go_name(v, name))
		name = go_name(v, name);
	if (!has_key(v, name)) {
		if (v == x->root && x->env->root_type)
			return fail_at(x, o, "can't evaluate field %s in type %s", name, x->env->root_type);
		if (v == x->root || tmpl_is_struct(v))
			return fail_at(x, o, "map has no entry for key \"%s\"", name);
		*ret = NULL;
		return 0;
	}
	*ret = json_ref(json_get(v, name));
	return 0;
}

static int eval_fields(struct exec *x, const struct operand *o, struct json *start, struct json *const *args,
		       size_t n_args, struct json **ret)
{
	_cleanup_json_ struct json *v = start;		/* taken over */
	size_t n = strv_len(o->fields);

	for (size_t i = 0; i < n; i++) {
		bool last = i + 1 == n;
		struct json *next = NULL;
		int r = get_field(x, o, v, o->fields[i], last ? args : NULL, last ? n_args : 0, &next);

		if (r < 0)
			return r;
		json_free(v);
		v = next;
	}
	*ret = TAKE_PTR(v);
	return 0;
}

static int eval_operand(struct exec *x, const struct operand *o, struct json *dot, struct json *const *args,
			size_t n_args, struct json **ret)
{
	struct json *v = NULL;
	int r;

	switch (o->kind) {
	case OP_DOT:
	case OP_FIELD:
		v = json_ref(dot);
		break;
	case OP_VALUE:
		v = json_ref(o->value);
		break;
	case OP_VAR:
		v = json_ref(x->root);
		for (size_t i = x->n_vars; *o->name && i > 0; i--) {
			if (streq(x->vars[i - 1].name, o->name)) {
				json_free(v);
				v = json_ref(x->vars[i - 1].value);
				break;
			}
		}
		break;
	case OP_PAREN:
		r = eval_pipe(x, o->paren, dot, &v, NULL);
		if (r < 0)
			return r;
		break;
	case OP_FUNC: {
		struct func_call f = { .name = o->name, .env = x->env };
		_cleanup_free_ char *why = NULL;

		r = tmpl_func_call(&f, &v, &why);
		if (r < 0)
			return fail_at(x, o, "%s", why);
		break;
	}
	}
	return eval_fields(x, o, v, args, n_args, ret);
}

static const char *last_field(const struct operand *o)
{
	size_t n = strv_len(o->fields);

	return n ? o->fields[n - 1] : NULL;
}

/* final: the value from the left of the pipe, or no_final. */
static int eval_command(struct exec *x, const struct command *c, struct json *dot, bool has_final,
			struct json *final, struct json **ret)
{
	struct operand *first = c->operands;
	struct json *args[ARGS_MAX];
	size_t n = 0;
	_cleanup_free_ char *why = NULL;
	int r = 0;

	for (struct operand *o = first->next; o && r >= 0; o = o->next) {
		if (n == ARGS_MAX - 1) {
			r = fail_at(x, o, "too many arguments");
			break;
		}
		r = eval_operand(x, o, dot, NULL, 0, &args[n]);
		if (r >= 0)
			n++;
	}
	if (r >= 0 && has_final)
		args[n++] = json_ref(final);
	if (r >= 0 && first->kind == OP_FUNC && !first->fields) {
		struct func_call f = { .name = first->name, .args = args, .n = n, .env = x->env };

		r = tmpl_func_call(&f, ret, &why);
		if (r < 0)
			r = fail_at(x, first, "%s", why);
	} else if (r >= 0 && n > 0 && !first->fields) {
		r = fail_at(x, first, "can't give argument to non-function %s", first->text);
	} else if (r >= 0) {
		r = eval_operand(x, first, dot, args, n, ret);
	}
	for (size_t i = 0; i < n; i++)
		json_free(args[i]);
	return r < 0 ? r : 0;
}

static int set_var(struct exec *x, const struct operand *at, const char *name, bool assign,
		   struct json *value)
{
	if (assign) {
		for (size_t i = x->n_vars; i > 0; i--) {
			if (streq(x->vars[i - 1].name, name)) {
				json_free(x->vars[i - 1].value);
				x->vars[i - 1].value = json_ref(value);
				return 0;
			}
		}
	}
	if (x->n_vars == VARS_MAX)
		return fail_at(x, at, "too many variables");
	x->vars[x->n_vars].name = name;
	x->vars[x->n_vars++].value = json_ref(value);
	return 0;
}

static void cut_vars(struct exec *x, size_t n)
{
	while (x->n_vars > n)
		json_free(x->vars[--x->n_vars].value);
}

/* ret_field: the last field if the pipe is one plain chain (what a nil prints as depends on it). */
static int eval_pipe(struct exec *x, const struct pipe *pipe, struct json *dot, struct json **ret,
		     const char **ret_field)
{
	_cleanup_json_ struct json *v = NULL;
	bool has = false;

	for (const struct command *c = pipe->commands; c; c = c->next) {
		struct json *next = NULL;
		int r = eval_command(x, c, dot, has, v, &next);

		if (r < 0)
			return r;
		json_free(v);
		v = next;
		has = true;
	}
	if (ret_field)
		*ret_field = pipe->commands->next ? NULL : last_field(pipe->commands->operands);
	*ret = TAKE_PTR(v);
	return 0;
}

/* A declaration outside range: {{$x := pipe}}. */
static int declare(struct exec *x, const struct pipe *pipe, struct json *v)
{
	return pipe->vars[0] ? set_var(x, pipe->commands->operands, pipe->vars[0], pipe->assign, v) : 0;
}

static int range_step(struct exec *x, const struct node *n, struct json *key, struct json *value)
{
	const struct operand *at = n->pipe->commands->operands;
	char *const *vars = n->pipe->vars;
	size_t scope = x->n_vars;
	int r = 0;

	if (vars[0] && vars[1]) {
		r = set_var(x, at, vars[0], n->pipe->assign, key);
		if (r >= 0)
			r = set_var(x, at, vars[1], n->pipe->assign, value);
	} else if (vars[0]) {
		r = set_var(x, at, vars[0], n->pipe->assign, value);
	}
	if (r >= 0)
		r = walk(x, n->body, value);
	cut_vars(x, scope);
	if (x->flow == FLOW_CONTINUE)
		x->flow = FLOW_NEXT;
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int range_object(struct exec *x, const struct node *n, struct json *v)
{
	size_t len = json_len(v), k = 0;
	_cleanup_free_ const char **keys = new_array(const char *, len + 1);
	struct json_iter it = {0};
	int r = 0;

	while (json_next(v, &it))
		keys[k++] = it.key;
	qsort(keys, k, sizeof(*keys), by_name);
	for (size_t i = 0; i < k && r >= 0 && x->flow == FLOW_NEXT; i++) {
		_cleanup_json_ struct json *key = json_new_str(keys[i]);

		r = range_step(x, n, key, json_get(v, keys[i]));
	}
	return r;
}

static int walk_range(struct exec *x, const struct node *n, struct json *dot)
{
	_cleanup_json_ struct json *v = NULL;
	size_t scope = x->n_vars;
	int r = eval_pipe(x, n->pipe, dot, &v, NULL);

	if (r < 0)
		return r;
	if (json_type(v) == JSON_OBJECT && json_len(v) > 0) {
		r = range_object(x, n, v);
	} else if (json_type(v) == JSON_ARRAY && json_len(v) > 0) {
		for (size_t i = 0; i < json_len(v) && r >= 0 && x->flow == FLOW_NEXT; i++) {
			_cleanup_json_ struct json *key = json_new_int(i);

			r = range_step(x, n, key, json_at(v, i));
		}
	} else if (json_type(v) == JSON_INT) {
		for (int64_t i = 0; i < json_int(v) && r >= 0 && x->flow == FLOW_NEXT; i++) {
			_cleanup_json_ struct json *key = json_new_int(i);

			r = range_step(x, n, key, key);
		}
	} else if (json_type(v) == JSON_NULL || json_len(v) == 0) {
		if (json_type(v) != JSON_NULL && json_type(v) != JSON_ARRAY && json_type(v) != JSON_OBJECT)
			return fail_at(x, n->pipe->commands->operands, "range can't iterate over %s",
				       go_type(v));
		r = walk(x, n->otherwise, dot);
	}
	if (x->flow == FLOW_BREAK)
		x->flow = FLOW_NEXT;
	cut_vars(x, scope);
	return r;
}

static int walk_if(struct exec *x, const struct node *n, struct json *dot)
{
	_cleanup_json_ struct json *v = NULL;
	size_t scope = x->n_vars;
	int r = eval_pipe(x, n->pipe, dot, &v, NULL);

	if (r >= 0)
		r = declare(x, n->pipe, v);
	if (r < 0)
		return r;
	if (tmpl_truth(v))
		r = walk(x, n->body, n->kind == NODE_WITH ? v : dot);
	else
		r = walk(x, n->otherwise, dot);
	cut_vars(x, scope);
	return r;
}

static int walk_action(struct exec *x, const struct node *n, struct json *dot)
{
	_cleanup_json_ struct json *v = NULL;
	const char *field = NULL;
	int r = eval_pipe(x, n->pipe, dot, &v, &field);

	if (r < 0)
		return r;
	if (n->pipe->vars[0])
		return declare(x, n->pipe, v);
	tmpl_print(x->out, v, field);
	return 0;
}

static int walk(struct exec *x, const struct node *n, struct json *dot)
{
	size_t scope = x->n_vars;
	int r = 0;

	for (; n && r >= 0 && x->flow == FLOW_NEXT; n = n->next) {
		switch (n->kind) {
		case NODE_TEXT: sbuf_add(x->out, n->text, n->len); break;
		case NODE_ACTION: r = walk_action(x, n, dot); break;
		case NODE_IF:
		case NODE_WITH: r = walk_if(x, n, dot); break;
		case NODE_RANGE: r = walk_range(x, n, dot); break;
		case NODE_BREAK: x->flow = FLOW_BREAK; break;
		case NODE_CONTINUE: x->flow = FLOW_CONTINUE; break;
		}
	}
	cut_vars(x, scope);
	return r;
}

int tmpl_exec(const struct tmpl *t, const struct tmpl_env *env, struct json *data, struct sbuf *out,
	      char **ret_error)
{
	static const struct tmpl_env none;
	struct exec x = { .env = env ? env : &none, .root = data, .out = out, .ret_error = ret_error };

	*ret_error = NULL;
	return walk(&x, t->nodes, data);
}
