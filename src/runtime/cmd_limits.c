/* pause, resume and update. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int with_container(int argc, char **argv, int (*fn)(struct rt_container *c, struct err *e),
			  struct err *e)
{
	const struct opt opts[] = { OPT_END };
	_cleanup_state_ struct state s = { 0 };
	_cleanup_free_ char **args = NULL;
	struct rt_container *c;
	int r = tool_parse(opts, argc, argv, 1, &args, e);

	if (r == 0)
		r = tool_open(args[0], &s, &c, NULL, e);
	if (r < 0)
		return r;
	r = fn(c, e);
	rt_free(c);
	return r;
}

int cmd_pause(int argc, char **argv, struct err *e)
{
	return with_container(argc, argv, rt_pause, e);
}

int cmd_resume(int argc, char **argv, struct err *e)
{
	return with_container(argc, argv, rt_resume, e);
}

/* --- update --- */

/* Options that hold a number: where it stands in linux.resources, and how it is written. */
static const struct limit {
	const char *option, *object, *field, *arg, *help;
	bool bytes;
} limits[] = {
	{ "memory", "memory", "limit", "bytes", "Memory limit", true },
	{ "memory-reservation", "memory", "reservation", "bytes", "Memory reservation", true },
	{ "memory-swap", "memory", "swap", "bytes", "Memory and swap together; -1 = no limit", true },
	{ "kernel-memory", "memory", "kernel", "bytes", NULL, true },
	{ "kernel-memory-tcp", "memory", "kernelTCP", "bytes", NULL, true },
	{ "cpu-period", "cpu", "period", "us", "CPU period", false },
	{ "cpu-quota", "cpu", "quota", "us", "CPU quota", false },
	{ "cpu-burst", "cpu", "burst", "us", "CPU burst", false },
	{ "cpu-share", "cpu", "shares", "n", "CPU shares", false },
	{ "cpu-shares", "cpu", "shares", "n", NULL, false },
	{ "cpu-rt-period", "cpu", "realtimePeriod", "us", "CPU realtime period", false },
	{ "cpu-rt-runtime", "cpu", "realtimeRuntime", "us", "CPU realtime runtime", false },
	{ "cpu-idle", "cpu", "idle", "0|1", "CPU idle mode", false },
	{ "pids-limit", "pids", "limit", "n", "Process limit; -1 = none", false },
	{ "blkio-weight", "blockIO", "weight", "n", "Block I/O weight (10 to 1000)", false },
};

struct update { struct json *doc; char *cpus, *mems, *file, *l3, *mb; };

static struct json *object_of(struct json *doc, const char *key)
{
	struct json *o = json_get(doc, key);

	return o ? o : json_set(doc, key, json_object());
}

static int limit_option(const struct opt *o, const char *value, char **ret_error)
{
	struct update *u = o->target;
	const struct limit *l = NULL;
	int64_t n;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (streq(limits[i].option, o->long_name))
			l = &limits[i];
	r = l->bytes ? size_parse_ram(value, true, &n) : str_to_i64(value, &n);
	if (r < 0) {
		*ret_error = xstrdup(l->bytes ? "invalid size" : "invalid number");
		return r;
	}
	json_set_int(object_of(u->doc, l->object), l->field, n);
	return 0;
}

static int read_resources(const char *file, char **ret, size_t *ret_n, struct err *e)
{
	int r = fs_read(AT_FDCWD, streq(file, "-") ? "/proc/self/fd/0" : file, 1 << 20, ret, ret_n);

	return r < 0 ? err_set(e, ERR_INVALID, r, "read '%s'", file) : 0;
}

static int update(const char *id, const struct update *u, struct err *e)
{
	_cleanup_state_ struct state s = { 0 };
	_cleanup_oci_resources_ struct oci_resources res = { 0 };
	_cleanup_free_ char *text = NULL;
	struct rt_container *c;
	size_t n;
	int r = tool_open(id, &s, &c, NULL, e);

	if (r < 0)
		return r;
	if (u->file) {
		r = read_resources(u->file, &text, &n, e);
	} else {
		text = json_dump(u->doc);
		n = strlen(text);
	}
	if (r == 0)
		r = oci_resources_parse(text, n, &res, e);
	if (r == 0)
		r = rt_update(c, &res, e);
	if (r == 0 && (u->l3 || u->mb)) {
		const struct oci_rdt rdt = { .l3 = u->l3, .mb = u->mb };

		r = c->rdt ? rdt_update(c->rdt, &rdt, e)
			   : err_msg(e, ERR_INVALID, -EOPNOTSUPP, "container %s has no Intel RDT class", id);
	}
	rt_free(c);
	return r;
}

int cmd_update(int argc, char **argv, struct err *e)
{
	_cleanup_json_ struct json *doc = json_object();
	struct update u = { .doc = doc };
	const struct opt fixed[] = {
		{ 'r', "resources", OPT_STR, &u.file, "file", "linux.resources as JSON; \"-\" = stdin" },
		{ 0, "cpuset-cpus", OPT_STR, &u.cpus, "list", "CPUs to use" },
		{ 0, "l3-cache-schema", OPT_STR, &u.l3, "text", "Cache allocation (Intel RDT)" },
		{ 0, "mem-bw-schema", OPT_STR, &u.mb, "text", "Memory bandwidth (Intel RDT)" },
		{ 0, "cpuset-mems", OPT_STR, &u.mems, "list", "Memory nodes to use" },
		OPT_END
	};
	struct opt opts[ARRAY_SIZE(limits) + ARRAY_SIZE(fixed)] = { 0 };
	_cleanup_free_ char **args = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		opts[i] = (struct opt){ .long_name = limits[i].option, .type = OPT_CALL, .target = &u,
					.arg_name = limits[i].arg, .help = limits[i].help,
					.call = limit_option };
	memcpy(opts + ARRAY_SIZE(limits), fixed, sizeof fixed);
	r = tool_parse(opts, argc, argv, 1, &args, e);
	if (u.cpus)
		json_set_str(object_of(doc, "cpu"), "cpus", u.cpus);
	if (u.mems)
		json_set_str(object_of(doc, "cpu"), "mems", u.mems);
	return r == 0 ? update(args[0], &u, e) : r;
}
