/* Values as Go writes them: by fmt.Print, and as JSON. */
#include "cli/template_ast.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* JSON's null stands for three things in Docker's Go structs; which one decides how it prints. */
static const char *nil_text(const char *field)
{
	static const char *const maps[] = {
	    "Annotations", "Sysctls",    "Tmpfs",        "PortBindings", "Ports",
	    "Labels",      "Volumes",    "ExposedPorts", "Options",      "DriverOpts",
	    "Config",      "StorageOpt", "Networks",     "Containers",   "Runtimes",
	};
	static const char *const pointers[] = {
	    "MemorySwappiness",
	    "OomKillDisable",
	    "PidsLimit",
	    "Init",
	    "Healthcheck",
	    "Health",
	    "StopTimeout",
	    "IPAMConfig",
	    "UsageData",
	    "Platform",
	    "Resources",
	    "BridgeNfIptables",
	    "ImageManifestDescriptor",
	};

	/* A key that a map of labels lacks. */
	if (!field || !isupper((unsigned char)*field))
		return "<no value>";
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
		if (streq(field, maps[i]))
			return "map[]";
	for (size_t i = 0; i < ARRAY_SIZE(pointers); i++)
		if (streq(field, pointers[i]))
			return "<nil>";
	return "[]";
}

static void print_double(struct sbuf *out, double d)
{
	char buf[64];

	for (int prec = 1; prec <= 17; prec++) {
		snprintf(buf, sizeof(buf), "%.*g", prec, d);
		if (strtod(buf, NULL) == d)
			break;
	}
	/* Go's %v changes to an exponent at 1e21, C's %g at the precision. */
	if (strchr(buf, 'e') && fabs(d) < 1e21 && fabs(d) >= 1)
		snprintf(buf, sizeof(buf), "%.0f", d);
	sbuf_puts(out, buf);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool tmpl_is_struct(const struct json *o)
{
	struct json_iter it = {0};

	while (json_next(o, &it)) {
		bool lower = it.key[1] == 0;

		if (!isupper((unsigned char)it.key[0]))
			return false;
		for (const char *c = it.key + 1; *c; c++) {
			if (!isalnum((unsigned char)*c))
				return false;
			lower |= islower((unsigned char)*c);
		}
		if (!lower && !streq(it.key, "ID") && !streq(it.key, "IPAM"))
			return false;
	}
	return json_len(o) > 0;
}

static void print_object(struct sbuf *out, const struct json *v)
{
	size_t len = json_len(v), n = 0;
	_cleanup_free_ const char **keys = new_array(const char *, len + 1);
	bool as_struct = tmpl_is_struct(v);
	struct json_iter it = {0};

	while (json_next(v, &it))
		keys[n++] = it.key;
	if (!as_struct)
		qsort(keys, n, sizeof(*keys), by_name);
	sbuf_puts(out, as_struct ? "{" : "map[");
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			sbuf_putc(out, ' ');
		if (!as_struct)
			sbuf_printf(out, "%s:", keys[i]);
		tmpl_print(out, json_get(v, keys[i]), keys[i]);
	}
	sbuf_puts(out, as_struct ? "}" : "]");
}

void tmpl_print(struct sbuf *out, const struct json *v, const char *field)
{
	switch (json_type(v)) {
	case JSON_NULL: sbuf_puts(out, nil_text(field)); break;
	case JSON_BOOL: sbuf_puts(out, json_bool(v) ? "true" : "false"); break;
	case JSON_INT: sbuf_printf(out, "%lld", (long long)json_int(v)); break;
	case JSON_DOUBLE: print_double(out, json_double(v)); break;
	case JSON_STR: sbuf_puts(out, json_str(v)); break;
	case JSON_ARRAY:
		sbuf_putc(out, '[');
		for (size_t i = 0; i < json_len(v); i++) {
			if (i > 0)
				sbuf_putc(out, ' ');
			if (json_at(v, i))
				tmpl_print(out, json_at(v, i), NULL);
			else
				sbuf_puts(out, "<nil>");
		}
		sbuf_putc(out, ']');
		break;
	case JSON_OBJECT: print_object(out, v); break;
	}
}

/* Go writes maps with their keys sorted, structs in their own order; the keys of structs begin in upper
 * case. */
static struct json *sorted(const struct json *v)
{
	size_t len = json_len(v), n = 0;
	_cleanup_free_ const char **keys = NULL;
	struct json_iter it = {0};
	struct json *out;
	bool upper = false;

	if (json_type(v) == JSON_ARRAY) {
		out = json_array();
		for (size_t i = 0; i < len; i++)
			json_add(out, sorted(json_at(v, i)));
		return out;
	}
	if (json_type(v) != JSON_OBJECT)
		return json_copy(v);
	keys = new_array(const char *, len + 1);
	while (json_next(v, &it)) {
		upper |= isupper((unsigned char)it.key[0]) != 0;
		keys[n++] = it.key;
	}
	if (!upper)
		qsort(keys, n, sizeof(*keys), by_name);
	out = json_object();
	for (size_t i = 0; i < n; i++)
		json_set(out, keys[i], sorted(json_get(v, keys[i])));
	return out;
}

static char *dump_sorted(const struct json *v)
{
	_cleanup_json_ struct json *copy = sorted(v);

	return json_dump(copy);
}

static char *dump_row(const struct json *row)
{
	_cleanup_json_ struct json *copy = json_copy(row);
	_cleanup_free_ char *s = NULL;
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	json_del(copy, "$labels");
	s = json_dump(copy);
	for (const char *p = s; *p; p++) {
		if (strchr("<>&", *p))
			sbuf_printf(&b, "\\u%04x", *p);
		else
			sbuf_putc(&b, *p);
	}
	return xstrdup(sbuf_str(&b));
}

char *tmpl_json(const struct json *v, bool row)
{
	return row && json_type(v) == JSON_OBJECT ? dump_row(v) : dump_sorted(v);
}
