/* Theory of operation. The supervisor writes each container's log to a file beside it, in Docker's json-file
 * format, and begins a new file when one is full: nothing grows without end unless that is asked for
 * (max-size=-1). json-file and local differ in their limits and in who may read the file. journald is
 * written to as well as the file, so that `logs` works there too. */
#include "engine/container_log.h"

#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "super/journal.h"
#include <regex.h>
#include <stdio.h>
#include <string.h>

#define JSON_FILE "json-file"
#define MAX_FILES 1000

struct log_driver {
	const char *name;
	const char *max_size, *max_file;	/* where nothing else is asked for; NULL = there is no file */
	bool sized;				/* max-size and max-file may be given */
	bool tagged;				/* tag, labels, env may be given */
	bool is_public;
};

static const struct log_driver drivers[] = {
    {JSON_FILE, "10m", "3", true, true, true},
    {"local", "20m", "5", true, false, false},
    {"journald", "10m", "2", false, true, false},
    {"none", NULL, NULL, false, false, false},
};
const char *const log_drivers[] = {"journald", JSON_FILE, "local", "none", NULL};

static const struct log_driver *find_driver(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (streq(drivers[i].name, name))
			return &drivers[i];
	return NULL;
}

static const char *default_driver(const struct engine_config *cfg)
{
	return cfg->log_driver ? cfg->log_driver : JSON_FILE;
}

/* ---- single options ---- */

struct log_opt {
	const char *name;
	bool sized, tagged;	/* of which drivers; of all, if neither */
	int (*check)(const char *value, const struct json *opts, struct err *err);
};

static int check_size(const char *v, const struct json *opts, struct err *err)
{
	int64_t n;

	if (streq(v, "-1"))
		return 0;
	if (size_parse_ram(v, false, &n) < 0)
		return err_msg(err, ERR_INVALID, 0, "invalid size: '%s'", v);
	return n > 0 ? 0 : err_msg(err, ERR_INVALID, 0, "max-size must be a positive number");
}

static int check_files(const char *v, const struct json *opts, struct err *err)
{
	int64_t n;

	if (str_to_i64(v, &n) < 0)
		return err_msg(err, ERR_INVALID, 0, "invalid value for max-file: '%s'", v);
	if (n < 1)
		return err_msg(err, ERR_INVALID, 0, "max-file cannot be less than 1");
	if (n > MAX_FILES)
		return err_msg(err, ERR_INVALID, 0, "max-file cannot be more than %d", MAX_FILES);
	return 0;
}

static int check_compress(const char *v, const struct json *opts, struct err *err)
{
	if (streq(v, "false") || streq(v, "0"))
		return 0;
	return err_msg(err, ERR_INVALID, 0,
		       "--log-opt compress=%s: insula keeps full log files as they are: leave it out", v);
}

static int check_mode(const char *v, const struct json *opts, struct err *err)
{
	if (str_empty(v) || streq(v, "blocking") || streq(v, "non-blocking"))
		return 0;
	return err_msg(err, ERR_INVALID, 0, "logger: logging mode not supported: %s", v);
}

static int check_buffer(const char *v, const struct json *opts, struct err *err)
{
	const char *mode = json_get_str(opts, "mode");
	int64_t n;

	if (!mode || !streq(mode, "non-blocking"))
		return err_msg(err, ERR_INVALID, 0,
			       "logger: max-buffer-size option is only supported with 'mode=non-blocking'");
	if (size_parse_ram(v, false, &n) < 0)
		return err_msg(err, ERR_INVALID, 0,
			       "error parsing option max-buffer-size: invalid size: '%s'", v);
	return 0;
}

static int check_regex(const char *v, const struct json *opts, struct err *err)
{
	regex_t re;

	if (regcomp(&re, v, REG_EXTENDED | REG_NOSUB) != 0)
		return err_msg(err, ERR_INVALID, 0, "invalid regular expression in log options: %s", v);
	regfree(&re);
	return 0;
}

/* What a tag may name. */
static const char *const tag_fields[] = {"ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName",
					 "DaemonName"};

/* Finds the next {{.Field}} in s: where it starts, behind it, which. False: there is none; -1 in
 * *ret_field: it is something else. */
static bool next_field(const char *s, const char **ret_from, const char **ret_to, int *ret_field)
{
	const char *open = strstr(s, "{{"), *close = open ? strstr(open, "}}") : NULL;

	if (!open)
		return false;
	*ret_field = -1;
	*ret_from = open;
	*ret_to = close ? close + 2 : open + 2;
	for (size_t i = 0; close && i < ARRAY_SIZE(tag_fields); i++) {
		_cleanup_free_ char *plain = xasprintf("{{.%s}}", tag_fields[i]);
		_cleanup_free_ char *spaced = xasprintf("{{ .%s }}", tag_fields[i]);
		size_t n = (size_t)(*ret_to - open);

		if ((strlen(plain) == n && !strncmp(open, plain, n)) ||
		    (strlen(spaced) == n && !strncmp(open, spaced, n)))
			*ret_field = (int)i;
	}
	return true;
}

static int check_tag(const char *v, const struct json *opts, struct err *err)
{
	const char *from, *to;
	int field;

	for (const char *s = v; next_field(s, &from, &to, &field); s = to)
		if (field < 0)
			return err_msg(err, ERR_INVALID, 0,
				       "invalid tag '%s': insula knows {{.ID}}, {{.FullID}}, {{.Name}}, "
				       "{{.ImageID}}, {{.ImageFullID}}, {{.ImageName}} and {{.DaemonName}}",
				       v);
	return 0;
}

static const struct log_opt options[] = {
    {"max-size", true, false, check_size},
    {"max-file", true, false, check_files},
    {"compress", true, false, check_compress},
    {"tag", false, true, check_tag},
    {"labels", false, true, NULL},
    {"labels-regex", false, true, check_regex},
    {"env", false, true, NULL},
    {"env-regex", false, true, check_regex},
    {"mode", false, false, check_mode},
    {"max-buffer-size", false, false, check_buffer},
};

static int check_option(const struct log_driver *d, const char *name, const char *value,
			const struct json *opts, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct log_opt *o = &options[i];

		if (!streq(o->name, name) || (o->sized && !d->sized) || (o->tagged && !d->tagged))
			continue;
		return o->check ? o->check(value, opts, err) : 0;
	}
	return err_msg(err, ERR_INVALID, 0, "unknown log opt '%s' for %s log driver", name, d->name);
}

int log_config_check(const struct engine_config *cfg, const char *driver, const struct json *opts,
		     struct err *err)
{
	const char *name = str_empty(driver) ? default_driver(cfg) : driver;
	const struct log_driver *d = find_driver(name);
	struct json_iter it = {0};

	if (!d)
		return err_msg(err, ERR_INVALID, 0,
			       "logger: no log driver named '%s' is registered (insula supports journald, "
			       "json-file, local and none)",
			       name);
	if (streq(d->name, "journald") && !fs_exists(JOURNAL_SOCKET))
		return err_msg(err, ERR_INVALID, 0,
			       "logger: journald is not enabled on this host: there is no " JOURNAL_SOCKET);
	while (json_next(opts, &it)) {
		int r;

		if (!json_str(it.value))
			return err_msg(err, ERR_INVALID, 0, "log opt '%s' is not a string", it.key);
		r = check_option(d, it.key, json_str(it.value), opts, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int log_opt_parse(const char *opt, struct err *err)
{
	return strchr(opt, '=') && *opt != '='
		   ? 0
		   : err_msg(err, ERR_INVALID, 0, "invalid log-opt '%s': expected key=value", opt);
}

void log_config_fill(const struct engine_config *cfg, struct json *config)
{
	const char *type = json_get_str(config, "Type");
	bool is_default = str_empty(type);
	const struct log_driver *d;
	struct json *opts = json_get(config, "Config");

	if (is_default)
		json_set_str(config, "Type", default_driver(cfg));
	if (json_type(opts) != JSON_OBJECT)
		opts = json_set(config, "Config", json_object());
	d = find_driver(json_get_str(config, "Type"));
	/* the daemon's options are those of its driver */
	for (char **o = cfg->log_opts; streq(d->name, default_driver(cfg)) && o && *o; o++) {
		char *eq = strchr(*o, '=');
		_cleanup_free_ char *key = xstrndup(*o, (size_t)(eq - *o));

		if (!json_get(opts, key))
			json_set_str(opts, key, eq + 1);
	}
	if (!d->sized)
		return;
	if (!json_get(opts, "max-size")) {
		json_set_str(opts, "max-size", d->max_size);
		if (!json_get(opts, "max-file"))
			json_set_str(opts, "max-file", d->max_file);
	}
}

/* ---- for the supervisor ---- */

static char *short_id(const char *id)
{
	return xstrndup(str_starts(id, "sha256:") ? id + 7 : id, 12);
}

static char *tag_of(const struct container *c, const char *tag)
{
	_cleanup_free_ char *id = short_id(c->id), *image_id = short_id(c->image_id);
	const char *values[] = {id, c->id, c->name, image_id, c->image_id,
				json_get_str(ctr_config(c), "Image"), "insula"};
	const char *from, *to;
	struct sbuf b = SBUF_INIT;
	int field;

	for (; next_field(tag, &from, &to, &field); tag = to) {
		sbuf_add(&b, tag, (size_t)(from - tag));
		sbuf_puts(&b, field >= 0 && values[field] ? values[field] : "");
	}
	sbuf_puts(&b, tag);
	return sbuf_steal(&b);
}

static bool in_list(const char *list, const char *name)
{
	_cleanup_strv_ char **v = list ? strv_split(list, ",") : NULL;

	return strv_has(v, name);
}

static bool matches(const char *regex, const char *name)
{
	regex_t re;
	bool yes;

	if (str_empty(regex) || regcomp(&re, regex, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	yes = regexec(&re, name, 0, NULL, 0) == 0;
	regfree(&re);
	return yes;
}

/* The labels and variables that were asked for. */
static struct json *extra_fields(const struct container *c, const struct json *opts)
{
	_cleanup_strv_ char **env = json_get_strv(ctr_config(c), "Env");
	struct json *fields = json_object();
	struct json_iter it = {0};

	while (json_next(json_get(ctr_config(c), "Labels"), &it))
		if (in_list(json_get_str(opts, "labels"), it.key) ||
		    matches(json_get_str(opts, "labels-regex"), it.key))
			json_set_str(fields, it.key, json_str(it.value) ?: "");
	for (char **v = env; v && *v; v++) {
		char *eq = strchr(*v, '=');
		_cleanup_free_ char *name = eq ? xstrndup(*v, (size_t)(eq - *v)) : NULL;

		if (eq && (in_list(json_get_str(opts, "env"), name) ||
			   matches(json_get_str(opts, "env-regex"), name)))
			json_set_str(fields, name, eq + 1);
	}
	return fields;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the order of their names, as Go writes a map; NULL if there are none. */
static char *attrs_text(const struct json *fields)
{
	_cleanup_json_ struct json *sorted = json_object();
	_cleanup_strv_ char **names = NULL;
	struct json_iter it = {0};

	while (json_next(fields, &it))
		strv_add(&names, it.key);
	if (!names)
		return NULL;
	qsort(names, (size_t)strv_len(names), sizeof *names, by_name);
	for (char **n = names; *n; n++)
		json_set_str(sorted, *n, json_get_str(fields, *n));
	return json_dump(sorted);
}

/* A name that the journal takes: upper case letters, digits and underscores. */
static void put_field(struct sbuf *b, const char *name, const char *value)
{
	size_t start = b->len;

	if (str_empty(value) || strchr(value, '\n'))
		return;
	for (const char *p = name; *p; p++) {
		char u = *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
		bool fine = (u >= 'A' && u <= 'Z') ||
			    (b->len > start && ((u >= '0' && u <= '9') || u == '_'));

		if (fine || b->len > start)
			sbuf_putc(b, fine ? u : '_');
	}
	if (b->len > start)
		sbuf_printf(b, "=%s\n", value);
}

static char *journal_fields(const struct container *c, const char *tag, const struct json *extra)
{
	_cleanup_free_ char *id = short_id(c->id);
	struct sbuf b = SBUF_INIT;
	struct json_iter it = {0};

	put_field(&b, "CONTAINER_ID", id);
	put_field(&b, "CONTAINER_ID_FULL", c->id);
	put_field(&b, "CONTAINER_NAME", c->name);
	put_field(&b, "CONTAINER_TAG", tag);
	put_field(&b, "IMAGE_NAME", json_get_str(ctr_config(c), "Image"));
	put_field(&b, "SYSLOG_IDENTIFIER", tag);
	while (json_next(extra, &it))
		put_field(&b, it.key, json_str(it.value));
	return sbuf_steal(&b);
}

static void add_pair(char ***v, const char *name, char *value /* taken */)
{
	strv_add(v, name);
	strv_add(v, value);
	free(value);
}

static const struct json *log_config(const struct container *c)
{
	return json_get(ctr_host(c), "LogConfig");
}

static const struct log_driver *driver_of(const struct container *c)
{
	return find_driver(json_get_str(log_config(c), "Type") ?: JSON_FILE);
}

char **container_log_options(const struct container *c)
{
	const struct json *opts = json_get(log_config(c), "Config");
	const struct log_driver *d = driver_of(c);
	const char *size = json_get_str(opts, "max-size") ?: d->max_size,
		   *files = json_get_str(opts, "max-file") ?: d->max_file, *tag = json_get_str(opts, "tag");
	_cleanup_json_ struct json *extra = extra_fields(c, opts);
	_cleanup_free_ char *full_tag = NULL;
	char **v = NULL, *attrs;
	int64_t bytes;

	if (!d->max_size)
		return NULL;
	/* a number of files without a size is what Docker calls one file without end: the first one */
	if (size_parse_ram(size, true, &bytes) == 0 && bytes > 0)
		add_pair(&v, "max-size", xasprintf("%lld", (long long)bytes));
	add_pair(&v, "max-file", xstrdup(files ? files : "1"));
	if (streq(d->name, "journald")) {
		full_tag = tag_of(c, str_empty(tag) ? "{{.ID}}" : tag);
		add_pair(&v, "journal", journal_fields(c, full_tag, extra));
	} else if (!str_empty(tag)) {
		full_tag = tag_of(c, tag);
		json_set_str(extra, "tag", full_tag);
	}
	attrs = attrs_text(extra);
	if (attrs)
		add_pair(&v, "attrs", attrs);
	return v;
}

char *container_log_path(const struct container *c)
{
	return driver_of(c)->max_size ? xasprintf("%s/%s-json.log", c->dir, c->id) : xstrdup("");
}

char *container_log_public_path(const struct container *c)
{
	return driver_of(c)->is_public ? container_log_path(c) : xstrdup("");
}
