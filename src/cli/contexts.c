#include "cli/contexts.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/strv.h"
#include "cli/cli.h"
#include "cli/program.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FILE_MAX (1u << 20)
#define HASH_LEN 64
#define DEFAULT "default"
#define NAME_RULE "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"

static struct json *read_json(const char *path)
{
	_cleanup_free_ char *text = NULL;
	struct json *j = NULL;
	size_t n;

	if (!path || fs_read(AT_FDCWD, path, FILE_MAX, &text, &n) < 0 || json_parse(text, n, &j, NULL) < 0)
		return NULL;
	return j;
}

static int write_json(const char *dir, const char *name, const struct json *j, const char *indent,
		      struct err *e)
{
	_cleanup_free_ char *path = path_join(dir, name),
			    *text = indent ? json_dump_pretty(j, indent) : json_dump(j);
	int r = fs_mkdir_p(dir, 0700);

	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, true);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write '%s'", path) : 0;
}

/* ---- config.json ---- */

char *config_path(void)
{
	_cleanup_free_ char *dir = cli_config_dir();

	return dir ? path_join(dir, "config.json") : NULL;
}

struct json *config_read(void)
{
	_cleanup_free_ char *path = config_path();
	struct json *j = read_json(path);

	if (json_type(j) == JSON_OBJECT)
		return j;
	json_free(j);
	return json_object();
}

int config_write(const struct json *config, struct err *e)
{
	_cleanup_free_ char *dir = cli_config_dir();

	return dir ? write_json(dir, "config.json", config, "\t", e)
		   : err_set(e, ERR_SYSTEM, -ENOENT, "write '$HOME/.docker/config.json'");
}

/* ---- contexts ---- */

char *context_current(void)
{
	_cleanup_json_ struct json *config = NULL;
	const char *name = getenv("DOCKER_CONTEXT");

	if (str_empty(name)) {
		config = config_read();
		name = json_get_str(config, "currentContext");
	}
	return xstrdup(str_empty(name) ? DEFAULT : name);
}

static char *contexts_path(const char *kind)
{
	_cleanup_free_ char *dir = cli_config_dir();

	return dir ? xasprintf("%s/contexts/%s", dir, kind) : NULL;
}

/* coreutils' sha256sum: the CLI links no library of digests for the sake of this one. Heap. */
static int hash_name(const char *name, char **ret, struct err *e)
{
	char program[] = "/usr/bin/sha256sum", *argv[] = {program, NULL};
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(256);
	_cleanup_free_ char *hash = NULL;
	int code, r = program_run(program, argv, name, &out, &code, e);

	if (r < 0)
		return r;
	hash = xstrndup(sbuf_str(&out), strcspn(sbuf_str(&out), " "));
	if (code || strlen(hash) != HASH_LEN || !is_hex(hash))
		return err_msg(e, ERR_SYSTEM, -EIO, "%s does not tell the digest of \"%s\"", program, name);
	*ret = TAKE_PTR(hash);
	return 0;
}

int context_dir(const char *kind, const char *name, char **ret, struct err *e)
{
	_cleanup_free_ char *dir = contexts_path(kind), *hash = NULL;
	int r = dir ? hash_name(name, &hash, e) : err_set(e, ERR_SYSTEM, -ENOENT, "find '$HOME/.docker'");

	if (r == 0)
		*ret = path_join(dir, hash);
	return r;
}

/* The documents, by their names. */
static struct json *load_all(void)
{
	_cleanup_free_ char *dir = contexts_path("meta");
	struct json *all = json_object();
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *path = xasprintf("%s/%s/meta.json", dir, de->d_name);
		struct json *j = de->d_name[0] == '.' ? NULL : read_json(path);

		if (json_get_str(j, "Name"))
			json_set(all, json_get_str(j, "Name"), j);
		else
			json_free(j);
	}
	if (d)
		closedir(d);
	return all;
}

struct json *context_load(const char *name)
{
	_cleanup_json_ struct json *all = load_all();

	return json_ref(json_get(all, name));
}

int context_check_name(const char *name, struct err *e)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-");

	if (streq(name, DEFAULT))
		return err_msg(e, ERR_INVALID, 0, "\"%s\" is a reserved context name", name);
	if (n < 2 || name[n] || !isalnum((unsigned char)*name))
		return err_msg(e, ERR_INVALID, 0,
			       "context name \"%s\" is invalid, names are validated against regexp "
			       "\"" NAME_RULE "\"",
			       name);
	return 0;
}

int context_check_new(const char *name, struct err *e)
{
	_cleanup_json_ struct json *old = NULL;
	int r = context_check_name(name, e);

	if (r < 0)
		return r;
	old = context_load(name);
	return old ? err_msg(e, ERR_CONFLICT, 0, "context \"%s\" already exists", name) : 0;
}

static char *default_endpoint(void)
{
	const char *env = getenv("INSULA_HOST");

	if (str_empty(env))
		env = getenv("DOCKER_HOST");
	return str_empty(env) ? cli_default_host() : xstrdup(env);
}

static struct json *new_context(const char *name, const char *host)
{
	struct json *j = json_object(), *docker;

	json_set_str(j, "Name", name);
	json_set(j, "Metadata", json_object());
	docker = json_set(json_set(j, "Endpoints", json_object()), "docker", json_object());
	json_set_str(docker, "Host", host);
	json_set_bool(docker, "SkipTLSVerify", false);
	return j;
}

/* The one of no file. */
static struct json *default_context(void)
{
	_cleanup_free_ char *host = default_endpoint();

	return new_context(DEFAULT, host);
}

int context_find(const char *name, struct json **ret, struct err *e)
{
	*ret = streq(name, DEFAULT) ? default_context() : context_load(name);
	return *ret ? 0 : err_msg(e, ERR_NOT_FOUND, 0, "context \"%s\": context not found", name);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **context_names(void)
{
	_cleanup_json_ struct json *all = load_all();
	struct json_iter it = {0};
	char **v = NULL;

	while (json_next(all, &it))
		strv_add(&v, it.key);
	if (v)
		qsort(v, strv_len(v), sizeof(*v), by_text);
	return v;
}

const char *context_host(const struct json *context)
{
	return json_get_str(json_get(json_get(context, "Endpoints"), "docker"), "Host");
}

int context_save(const struct json *context, struct err *e)
{
	_cleanup_free_ char *dir = NULL;
	int r = context_dir("meta", json_get_str(context, "Name"), &dir, e);

	return r < 0 ? r : write_json(dir, "meta.json", context, NULL, e);
}

int context_remove(const char *name, struct err *e)
{
	static const char *const kinds[] = {"meta", "tls"};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		_cleanup_free_ char *dir = NULL;
		int r = context_dir(kinds[i], name, &dir, e);

		if (r == 0 && fs_exists(dir)) {
			r = fs_rm_rf(AT_FDCWD, dir);
			if (r < 0)
				err_set(e, ERR_SYSTEM, r, "remove '%s'", dir);
		}
		if (r < 0)
			return r;
	}
	return 0;
}
