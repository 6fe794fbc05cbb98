#include "lib/confine.h"
#include "lib/seccomp.h"

#include <errno.h>

static struct json *add_rule(struct json *rules, const char *name, const char *action)
{
	struct json *rule = json_add(rules, json_object());

	json_set(rule, "names", json_array());
	json_set_str(rule, "action", action);
	if (name)
		json_add_str(json_get(rule, "names"), name);
	return rule;
}

static void add_masked(struct json *rules, const struct confine_rule *c)
{
	struct json *arg = json_add(
	    json_set(add_rule(rules, c->name, "SCMP_ACT_ALLOW"), "args", json_array()), json_object());

	json_set_int(arg, "index", c->arg);
	json_set(arg, "value", json_new_uint(c->mask));
	json_set(arg, "valueTwo", json_new_uint(c->value));
	json_set_str(arg, "op", "SCMP_CMP_MASKED_EQ");
}

int confine_syscalls(const char *const *names, size_t n, const struct confine_rule *rules, size_t n_rules,
		     bool refuse, struct err *e)
{
	_cleanup_json_ struct json *profile = json_object();
	_cleanup_seccomp_ struct seccomp_prog prog = { 0 };
	struct json *list = json_set(profile, "syscalls", json_array()), *plain;
	int r;

	json_set_str(profile, "defaultAction", refuse ? "SCMP_ACT_ERRNO" : "SCMP_ACT_KILL_PROCESS");
	plain = json_get(add_rule(list, NULL, "SCMP_ACT_ALLOW"), "names");
	for (size_t i = 0; i < n; i++)
		json_add_str(plain, names[i]);
	for (size_t i = 0; i < n_rules; i++)
		add_masked(list, &rules[i]);
	json_set_int(add_rule(list, "clone3", "SCMP_ACT_ERRNO"), "errnoRet", ENOSYS);
	r = seccomp_prog_compile(profile, NULL, &prog, e);
	if (r < 0)
		return r;
	r = seccomp_prog_load(&prog);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "load the system call filter") : 0;
}
