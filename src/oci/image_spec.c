#include "oci/image_spec.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "oci/ref.h"

#include <ctype.h>
#include <string.h>

#define LAYERS_MAX 512

int image_config_diff_ids(const struct json *config, char ***ret, struct err *e)
{
	const struct json *list = json_get(json_get(config, "rootfs"), "diff_ids");
	_cleanup_strv_ char **ids = NULL;

	if (list && json_type(list) != JSON_ARRAY)
		return json_expected(e, "rootfs.diff_ids", "array");
	if (json_len(list) > LAYERS_MAX)
		return err_msg(e, ERR_INVALID, 0, "max depth exceeded: %zu layers", json_len(list));
	for (size_t i = 0; i < json_len(list); i++) {
		const char *id = json_str(json_at(list, i));

		if (!id || !digest_valid(id))
			return err_msg(e, ERR_INVALID, 0, "invalid diff id in the image's config: %s", id ? id : "(no string)");
		strv_add(&ids, id);
	}
	*ret = TAKE_PTR(ids);
	return 0;
}

const char *image_architecture(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#else
	return "unknown";
#endif
}

int image_config_check_host(const struct json *config, struct err *e)
{
	const char *os = json_get_str(config, "os"), *arch = json_get_str(config, "architecture");

	if (!str_empty(os) && !streq(os, "linux"))
		return err_msg(e, ERR_INVALID, 0, "image operating system \"%s\" cannot be used on this platform", os);
	if (!str_empty(arch) && !streq(arch, image_architecture()))
		return err_msg(e, ERR_INVALID, 0, "image architecture \"%s\" cannot be used on this platform (%s)", arch,
			       image_architecture());
	return 0;
}

const struct json *image_index_select(const struct json *index)
{
	const struct json *list = json_get(index, "manifests");

	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *m = json_at(list, i), *p = json_get(m, "platform");

		if (!p || (streq(json_get_str(p, "os"), "linux") && streq(json_get_str(p, "architecture"), image_architecture())))
			return m;
	}
	return NULL;
}

/* --- Dockerfile instructions --- */

/* ["a", "b"] as it stands, else a shell command. */
static struct json *command_form(const char *args)
{
	struct json *j = NULL, *sh;

	if (*args == '[' && json_parse(args, strlen(args), &j, NULL) == 0) {
		bool strings = json_type(j) == JSON_ARRAY;

		for (size_t i = 0; i < json_len(j); i++)
			strings &= json_type(json_at(j, i)) == JSON_STR;
		if (strings)
			return j;
		json_free(j);
	}
	sh = json_array();
	json_add_str(sh, "/bin/sh");
	json_add_str(sh, "-c");
	json_add_str(sh, args);
	return sh;
}

static void put_command(struct json *config, const char *key, const char *args)
{
	json_set(config, key, command_form(args));
}

static char *unquote(const char *s)
{
	size_t n = strlen(s);

	if (n >= 2 && (*s == '"' || *s == '\'') && s[n - 1] == *s)
		return xstrndup(s + 1, n - 2);
	return xstrdup(s);
}

/* K=V pairs, or "K V" as one pair. */
static char **pairs(const char *args)
{
	char **v = NULL;

	if (!strchr(args, '=')) {
		size_t n = strcspn(args, " \t");
		const char *value = args + n + strspn(args + n, " \t");

		strv_addf(&v, "%.*s=%s", (int)n, args, value);
		return v;
	}
	while (*(args += strspn(args, " \t"))) {
		size_t n = 0;
		char quote = 0;

		for (; args[n] && (quote || !isspace((unsigned char)args[n])); n++)
			if (args[n] == quote)
				quote = 0;
			else if (!quote && (args[n] == '"' || args[n] == '\''))
				quote = args[n];
		_cleanup_free_ char *pair = xstrndup(args, n);
		char *eq = strchr(pair, '=');
		_cleanup_free_ char *value = unquote(eq ? eq + 1 : "");

		if (eq)
			*eq = 0;
		strv_addf(&v, "%s=%s", pair, value);
		args += n;
	}
	return v;
}

static void put_env(struct json *config, const char *key, const char *args)
{
	_cleanup_strv_ char **env = json_get_strv(config, key), **more = pairs(args);

	for (char **p = more; p && *p; p++)
		strv_env_set(&env, *p);
	json_set_strv(config, key, env);
}

static void put_labels(struct json *config, const char *key, const char *args)
{
	_cleanup_strv_ char **more = pairs(args);
	struct json *o = json_get(config, key);

	if (json_type(o) != JSON_OBJECT)
		o = json_set(config, key, json_object());
	for (char **p = more; p && *p; p++) {
		char *eq = strchr(*p, '=');

		*eq = 0;
		json_set_str(o, *p, eq + 1);
	}
}

static void put_set(struct json *config, const char *key, const char *args)
{
	struct json *list = *args == '[' ? command_form(args) : NULL, *o = json_get(config, key);
	_cleanup_strv_ char **words = list ? NULL : strv_split(args, " \t");

	if (json_type(o) != JSON_OBJECT)
		o = json_set(config, key, json_object());
	for (size_t i = 0; i < json_len(list); i++)
		json_set(o, json_str(json_at(list, i)), json_object());
	for (char **w = words; w && *w; w++) {
		bool port = streq(key, "ExposedPorts") && !strchr(*w, '/');
		_cleanup_free_ char *name = xasprintf("%s%s", *w, port ? "/tcp" : "");

		json_set(o, name, json_object());
	}
	json_free(list);
}

static void put_string(struct json *config, const char *key, const char *args)
{
	json_set_str(config, key, args);
}

static const struct {
	const char *word, *key;
	void (*put)(struct json *config, const char *key, const char *args);
} instructions[] = {
	{ "CMD", "Cmd", put_command }, { "ENTRYPOINT", "Entrypoint", put_command }, { "ENV", "Env", put_env },
	{ "EXPOSE", "ExposedPorts", put_set }, { "LABEL", "Labels", put_labels }, { "USER", "User", put_string },
	{ "VOLUME", "Volumes", put_set }, { "WORKDIR", "WorkingDir", put_string }, { "STOPSIGNAL", "StopSignal", put_string },
};

int image_change_apply(struct json *config, const char *instruction, struct err *e)
{
	size_t n = strcspn(instruction, " \t");
	const char *args = instruction + n + strspn(instruction + n, " \t");

	for (size_t i = 0; i < ARRAY_SIZE(instructions); i++)
		if (strlen(instructions[i].word) == n && !strncasecmp(instructions[i].word, instruction, n)) {
			if (!*args)
				return err_msg(e, ERR_INVALID, 0, "%s requires at least one argument", instructions[i].word);
			instructions[i].put(config, instructions[i].key, args);
			return 0;
		}
	return err_msg(e, ERR_INVALID, 0, "%.*s is not a valid change command", (int)n, instruction);
}
