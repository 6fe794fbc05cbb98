#include "cli/run_opts.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

int parse_ram(const struct opt *o, const char *value, char **why)
{
	if (size_parse_ram(value, false, o->target) >= 0)
		return 0;
	*why = xasprintf("invalid size: '%s'", value);
	return -EINVAL;
}

int parse_ram_swap(const struct opt *o, const char *value, char **why)
{
	if (size_parse_ram(value, true, o->target) >= 0)
		return 0;
	*why = xasprintf("invalid size: '%s'", value);
	return -EINVAL;
}

/* A decimal fraction in billionths, without going through a double. */
int parse_cpus(const struct opt *o, const char *value, char **why)
{
	int64_t nano = 0, unit = 1000000000;
	const char *p = value;

	for (; isdigit((unsigned char)*p) && nano < INT64_MAX / 100; p++)
		nano = nano * 10 + (*p - '0') * unit;
	if (*p == '.') {
		for (p++; isdigit((unsigned char)*p); p++) {
			unit /= 10;
			nano += (*p - '0') * unit;
			if (unit == 0 && *p != '0') {
				*why = xstrdup("value is too precise");
				return -EINVAL;
			}
		}
	}
	if (*p || p == value || streq(value, ".")) {
		*why = xasprintf("failed to parse %s as a rational number", value);
		return -EINVAL;
	}
	*(int64_t *)o->target = nano;
	return 0;
}

int parse_duration(const struct opt *o, const char *value, char **why)
{
	uint64_t ns;

	if (time_parse_duration(value, &ns) < 0 || ns > INT64_MAX) {
		*why = xasprintf("time: invalid duration \"%s\"", value);
		return -EINVAL;
	}
	*(int64_t *)o->target = ns;
	return 0;
}

static int add(const struct opt *o, const char *value)
{
	strv_add(o->target, value);
	return 0;
}

int parse_env(const struct opt *o, const char *value, char **why)
{
	if (*value && *value != '=')
		return add(o, value);
	*why = xasprintf("invalid environment variable: %s", value);
	return -EINVAL;
}

int parse_label(const struct opt *o, const char *value, char **why)
{
	if (*value && *value != '=')
		return add(o, value);
	*why = xasprintf("invalid label '%s': empty name", value);
	return -EINVAL;
}

int parse_capability(const struct opt *o, const char *value, char **why)
{
	_cleanup_free_ char *name = NULL;
	char ***list = o->target;

	if (!strcasecmp(value, "all"))
		name = xstrdup("ALL");
	else
		name = strncasecmp(value, "CAP_", 4) ? xasprintf("CAP_%s", value) : xstrdup(value);
	for (char *p = name; *p; p++)
		*p = toupper((unsigned char)*p);
	if (!strv_has(*list, name))
		strv_add(list, name);
	return 0;
}

int parse_attach(const struct opt *o, const char *value, char **why)
{
	static const char *const names[] = { "stdin", "stdout", "stderr" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcasecmp(value, names[i]))
			return add(o, names[i]);
	*why = xstrdup("valid streams are STDIN, STDOUT and STDERR");
	return -EINVAL;
}

bool parse_is_ip(const char *s)
{
	unsigned char buf[16];

	return inet_pton(AF_INET, s, buf) == 1 || inet_pton(AF_INET6, s, buf) == 1;
}

int parse_dns(const struct opt *o, const char *value, char **why)
{
	if (parse_is_ip(value))
		return add(o, value);
	*why = xasprintf("IP address is not correctly formatted: %s", value);
	return -EINVAL;
}

int parse_extra_host(const struct opt *o, const char *value, char **why)
{
	size_t n = strcspn(value, ":=");
	_cleanup_free_ char *ip = NULL, *entry = NULL;
	size_t len;

	if (!value[n] || n == 0 || !value[n + 1]) {
		*why = xasprintf("bad format for add-host: \"%s\"", value);
		return -EINVAL;
	}
	ip = xstrdup(value + n + 1);
	len = strlen(ip);
	if (*ip == '[' && ip[len - 1] == ']') {
		ip[len - 1] = 0;
		memmove(ip, ip + 1, len - 1);
	}
	if (!streq(ip, "host-gateway") && !parse_is_ip(ip)) {
		*why = xasprintf("invalid IP address in add-host: \"%s\"", ip);
		return -EINVAL;
	}
	entry = xasprintf("%.*s:%s", (int)n, value, ip);
	return add(o, entry);
}

int parse_sysctl(const struct opt *o, const char *value, char **why)
{
	const char *eq = strchr(value, '=');

	if (eq && eq > value)
		return add(o, value);
	*why = xasprintf("sysctl '%s' is not allowed", value);
	return -EINVAL;
}

int parse_ulimit(const struct opt *o, const char *value, char **why)
{
	static const char *const names[] = {
	    "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue", "nice",
	    "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack",    NULL,
	};
	struct json **list = o->target, *u;
	const char *eq = strchr(value, '='), *colon = eq ? strchr(eq, ':') : NULL;
	_cleanup_free_ char *name = eq ? xstrndup(value, eq - value) : NULL;
	_cleanup_free_ char *first = !eq ? NULL : colon ? xstrndup(eq + 1, colon - eq - 1) : xstrdup(eq + 1);
	int64_t soft, hard;

	if (!eq) {
		*why = xasprintf("invalid ulimit argument: %s", value);
		return -EINVAL;
	}
	if (!strv_has((char *const *)names, name)) {
		*why = xasprintf("invalid ulimit type: %s", name);
		return -EINVAL;
	}
	if (str_to_i64(first, &soft) < 0 || (colon && str_to_i64(colon + 1, &hard) < 0)) {
		*why =
		    xasprintf("strconv.ParseInt: parsing \"%s\": invalid syntax", colon ? colon + 1 : first);
		return -EINVAL;
	}
	if (!colon)
		hard = soft;
	if (hard != -1 && (soft == -1 || soft > hard)) {
		*why = xasprintf("ulimit soft limit must be less than or equal to hard limit: %lld > %lld",
				 (long long)soft, (long long)hard);
		return -EINVAL;
	}
	if (!*list)
		*list = json_array();
	u = json_add(*list, json_object());
	json_set_str(u, "Name", name);
	json_set_int(u, "Hard", hard);
	json_set_int(u, "Soft", soft);
	return 0;
}

/* One field of a CSV line: quotes group, "" is a quote. Heap; *p moves on; NULL at the end. */
char *parse_csv_field(const char **p)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	bool quoted = false;
	const char *s = *p;

	if (!s)
		return NULL;
	for (; *s && (quoted || *s != ','); s++) {
		if (*s == '"' && quoted && s[1] == '"')
			sbuf_putc(&b, *++s);
		else if (*s == '"')
			quoted = !quoted;
		else
			sbuf_putc(&b, *s);
	}
	*p = *s ? s + 1 : NULL;
	return xstrdup(sbuf_str(&b));
}

struct json *parse_sub(struct json *o, const char *key)
{
	struct json *v = json_get(o, key);

	return v ?: json_set(o, key, json_object());
}

void parse_add_pair(struct json *o, const char *pair)
{
	const char *eq = strchr(pair, '=');
	_cleanup_free_ char *k = eq ? xstrndup(pair, eq - pair) : xstrdup(pair);

	json_set_str(o, k, eq ? eq + 1 : "");
}

struct json *parse_device(const char *spec, struct err *e)
{
	_cleanup_strv_ char **parts = strv_split(spec, ":");
	size_t n = strv_len(parts);
	const char *inside, *rights = "rwm";
	struct json *d;

	if (n == 0 || n > 3) {
		err_msg(e, ERR_INVALID, 0, n ? "invalid device specification: %s" : "bad format for path: %s",
			spec);
		return NULL;
	}
	inside = parts[0];
	/* Two parts: a path inside, or just the rights. */
	if (n == 2 && parts[1][strspn(parts[1], "rwm")] == 0)
		rights = parts[1];
	else if (n >= 2)
		inside = parts[1];
	if (n == 3)
		rights = parts[2];
	d = json_object();
	json_set_str(d, "PathOnHost", parts[0]);
	json_set_str(d, "PathInContainer", inside);
	json_set_str(d, "CgroupPermissions", rights);
	return d;
}

char *parse_security_opt(const char *s, struct err *e)
{
	const char *eq = strpbrk(s, "=:");
	_cleanup_free_ char *text = NULL, *compact = NULL;
	_cleanup_json_ struct json *j = NULL;
	size_t n;
	int r;

	if (!eq && !streq(s, "no-new-privileges")) {
		err_msg(e, ERR_INVALID, 0, "Invalid --security-opt: \"%s\"", s);
		return NULL;
	}
	if (!str_starts(s, "seccomp") || eq != s + 7 || streq(eq + 1, "unconfined") ||
	    streq(eq + 1, "builtin"))
		return xstrdup(s);
	r = fs_read(AT_FDCWD, eq + 1, 1u << 20, &text, &n);
	if (r < 0) {
		const char *why = strerror(-r);

		err_msg(e, ERR_INVALID, r, "opening seccomp profile (%s) failed: open %s: %c%s", eq + 1,
			eq + 1, tolower((unsigned char)*why), why + 1);
		return NULL;
	}
	if (json_parse(text, n, &j, NULL) < 0) {
		err_msg(e, ERR_INVALID, 0, "compacting json for seccomp profile (%s) failed: invalid JSON",
			eq + 1);
		return NULL;
	}
	compact = json_dump(j);
	return xasprintf("seccomp=%s", compact);
}

/* "/dev/path:value" as {"Path", key}, appended to the target. */
static int throttle(const struct opt *o, const char *s, const char *key, bool bytes, char **why)
{
	struct json **list = o->target, *d;
	const char *colon = strrchr(s, ':');
	uint64_t n = 0;
	int64_t size;

	if (!colon || colon == s) {
		*why = xasprintf("bad format: %s", s);
		return -EINVAL;
	}
	if (*s != '/') {
		*why = xasprintf("bad format for device path: %s", s);
		return -EINVAL;
	}
	if (bytes && size_parse_ram(colon + 1, false, &size) >= 0) {
		n = size;
	} else if (bytes || str_to_u64(colon + 1, &n) < 0) {
		*why = xasprintf(
		    "invalid rate for device: %s. The correct format is <device-path>:<number>%s. "
		    "Number must be a positive integer%s",
		    s, bytes ? "[<unit>]" : "", bytes ? ". Unit is optional and can be kb, mb, or gb" : "");
		return -EINVAL;
	}
	if (!*list)
		*list = json_array();
	d = json_add(*list, json_object());
	json_set(d, "Path", json_new_strn(s, colon - s));
	json_set_int(d, key, n);
	return 0;
}

int parse_rate_bytes(const struct opt *o, const char *value, char **why)
{
	return throttle(o, value, "Rate", true, why);
}

int parse_rate_ios(const struct opt *o, const char *value, char **why)
{
	return throttle(o, value, "Rate", false, why);
}

int parse_weight(const struct opt *o, const char *value, char **why)
{
	return throttle(o, value, "Weight", false, why);
}
