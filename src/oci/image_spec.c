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
			return err_msg(e, ERR_INVALID, 0, "invalid diff id in the image's config: %s",
				       id ? id : "(no string)");
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
		return err_msg(e, ERR_INVALID, 0,
			       "image operating system \"%s\" cannot be used on this platform", os);
	if (!str_empty(arch) && !streq(arch, image_architecture()))
		return err_msg(e, ERR_INVALID, 0,
			       "image architecture \"%s\" cannot be used on this platform (%s)", arch,
			       image_architecture());
	return 0;
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

static int put_command(struct json *config, const char *key, const char *args, struct err *e)
{
	json_set(config, key, command_form(args));
	return 0;
}

#define BLANK " \t\r\n\v\f"

/* The next word of a shell-like line, its quotes removed; heap. NULL at the end. */
static char *next_word(const char **line)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	const char *s = *line + strspn(*line, BLANK);
	char quote = 0;

	if (!*s)
		return NULL;
	for (; *s && (quote || !strchr(BLANK, *s)); s++)
		if (*s == quote) {
			quote = 0;
		} else if (!quote && (*s == '"' || *s == '\'')) {
			quote = *s;
		} else {
			if (*s == '\\' && quote != '\'' && s[1])
				s++;
			sbuf_putc(&b, *s);
		}
	*line = s;
	sbuf_putc(&b, 0);
	return sbuf_steal(&b);
}

/* K=V pairs, or "K V" as one pair. */
static int pairs(const char *args, char ***ret, struct err *e)
{
	_cleanup_strv_ char **v = NULL;
	const char *rest = args;
	size_t n = strcspn(args, BLANK);
	char *word;

	if (!memchr(args, '=', n) && args[n] && !strpbrk(args, "\"'")) {
		strv_addf(&v, "%.*s=%s", (int)n, args, args + n + strspn(args + n, BLANK));
		*ret = TAKE_PTR(v);
		return 0;
	}
	while ((word = next_word(&rest))) {
		strv_take(&v, word);
		if (!strchr(word, '=') || *word == '=')
			return err_msg(
			    e, ERR_INVALID, 0,
			    "Syntax error - can't find = in \"%s\". Must be of the form: name=value", word);
	}
	*ret = TAKE_PTR(v);
	return 0;
}

static int put_env(struct json *config, const char *key, const char *args, struct err *e)
{
	_cleanup_strv_ char **env = json_get_strv(config, key), **more = NULL;
	int r = pairs(args, &more, e);

	if (r < 0)
		return r;
	for (char **p = more; p && *p; p++)
		strv_env_set(&env, *p);
	json_set_strv(config, key, env);
	return 0;
}

static int put_labels(struct json *config, const char *key, const char *args, struct err *e)
{
	_cleanup_strv_ char **more = NULL;
	struct json *o = json_get(config, key);
	int r = pairs(args, &more, e);

	if (r < 0)
		return r;
	if (json_type(o) != JSON_OBJECT)
		o = json_set(config, key, json_object());
	for (char **p = more; p && *p; p++) {
		char *eq = strchr(*p, '=');

		*eq = 0;
		json_set_str(o, *p, eq + 1);
	}
	return 0;
}

static int put_set(struct json *config, const char *key, const char *args, struct err *e)
{
	struct json *list = *args == '[' ? command_form(args) : NULL, *o = json_get(config, key);
	_cleanup_strv_ char **words = list ? NULL : strv_split(args, BLANK);

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
	return 0;
}

static int put_string(struct json *config, const char *key, const char *args, struct err *e)
{
	json_set_str(config, key, args);
	return 0;
}

static const struct {
	const char *word, *key;
	int (*put)(struct json *config, const char *key, const char *args, struct err *e);
} instructions[] = {
    {"CMD", "Cmd", put_command},
    {"ENTRYPOINT", "Entrypoint", put_command},
    {"ENV", "Env", put_env},
    {"EXPOSE", "ExposedPorts", put_set},
    {"LABEL", "Labels", put_labels},
    {"USER", "User", put_string},
    {"VOLUME", "Volumes", put_set},
    {"WORKDIR", "WorkingDir", put_string},
    {"STOPSIGNAL", "StopSignal", put_string},
};

int image_change_apply(struct json *config, const char *instruction, struct err *e)
{
	size_t n = strcspn(instruction, BLANK);
	const char *args = instruction + n + strspn(instruction + n, BLANK);

	for (size_t i = 0; i < ARRAY_SIZE(instructions); i++)
		if (strlen(instructions[i].word) == n && !strncasecmp(instructions[i].word, instruction, n)) {
			if (!*args)
				return err_msg(e, ERR_INVALID, 0, "%s requires at least one argument",
					       instructions[i].word);
			return instructions[i].put(config, instructions[i].key, args, e);
		}
	return err_msg(e, ERR_INVALID, 0, "%.*s is not a valid change command", (int)n, instruction);
}
