#include "runtime/systemd.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/dbus.h"
#include "runtime/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define DESTINATION "org.freedesktop.systemd1"
#define OBJECT "/org/freedesktop/systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
#define SYSTEM_BUS "/run/dbus/system_bus_socket"
#define PRIVATE "/run/systemd/private"

/* --- names --- */

void unit_done(struct unit *u)
{
	free(u->name);
	free(u->slice);
}

/* The characters that systemd takes in a name; a slash would lead elsewhere. */
static bool valid(const char *s)
{
	return *s && strlen(s) < 256 &&
	       !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")];
}

int unit_parse(const char *cgroups_path, const char *id, struct unit *ret, struct err *e)
{
	const char *fallback = geteuid() ? "user.slice" : "system.slice";
	const char *first = str_empty(cgroups_path) ? NULL : strchr(cgroups_path, ':');
	const char *second = first ? strchr(first + 1, ':') : NULL;
	_cleanup_free_ char *slice = NULL, *prefix = NULL, *name = NULL;

	if (!str_empty(cgroups_path) && (!second || strchr(second + 1, ':')))
		return err_msg(e, ERR_INVALID, 0,
			       "linux.cgroupsPath: expected \"slice:prefix:name\" for the systemd cgroup "
			       "driver, got '%s'", cgroups_path);
	slice = second && first > cgroups_path ? xstrndup(cgroups_path, (size_t)(first - cgroups_path))
					       : xstrdup(fallback);
	prefix = second ? xstrndup(first + 1, (size_t)(second - first - 1)) : xstrdup("insula");
	name = xasprintf("%s%s%s.scope", prefix, *prefix ? "-" : "", second ? second + 1 : id);
	if (!valid(name) || !valid(slice) || !str_ends(slice, ".slice"))
		return err_msg(e, ERR_INVALID, 0, "linux.cgroupsPath: invalid unit '%s' in slice '%s'", name,
			       slice);
	*ret = (struct unit){ TAKE_PTR(name), TAKE_PTR(slice) };
	return 0;
}

/* --- properties: each a struct of a name and a variant --- */

static void open_property(struct sbuf *b, const char *name, const char *sig)
{
	dbus_put_struct(b);
	dbus_put_str(b, name);
	dbus_put_sig(b, sig);
}

static void put_str(struct sbuf *b, const char *name, const char *v)
{
	open_property(b, name, "s");
	dbus_put_str(b, v);
}

static void put_bool(struct sbuf *b, const char *name, bool v)
{
	open_property(b, name, "b");
	dbus_put_u32(b, v);
}

static void put_u64(struct sbuf *b, const char *name, uint64_t v)
{
	open_property(b, name, "t");
	dbus_put_u64(b, v);
}

/* -1 is no limit, 0 not given. */
static void put_limit(struct sbuf *b, const char *name, int64_t v)
{
	if (v)
		put_u64(b, name, v < 0 ? UINT64_MAX : (uint64_t)v);
}

static void put_pids(struct sbuf *b, pid_t pid)
{
	size_t list;

	open_property(b, "PIDs", "au");
	list = dbus_open_array(b, 4);
	dbus_put_u32(b, (uint32_t)pid);
	dbus_close_array(b, list, 4);
}

/* CPU time for each second. systemd counts in steps of 10 ms: it must not allow less than is asked for. */
static uint64_t quota_per_second(int64_t quota, uint64_t period)
{
	const uint64_t step = 10000;

	if (quota <= 0)
		return UINT64_MAX;
	return ((uint64_t)quota * 1000000 / (period ? period : 100000) + step - 1) / step * step;
}

static void put_limits(struct sbuf *b, const struct oci_resources *r, bool v2)
{
	uint64_t period = r->cpu.period ? *r->cpu.period : 0;

	put_limit(b, v2 ? "MemoryMax" : "MemoryLimit", cgroup_i64(r->memory.limit));
	if (v2)
		put_limit(b, "MemoryLow", cgroup_i64(r->memory.reservation));
	if (r->cpu.shares && *r->cpu.shares)
		put_u64(b, v2 ? "CPUWeight" : "CPUShares",
			v2 ? cgroup2_weight(*r->cpu.shares) : *r->cpu.shares);
	if (cgroup_i64(r->cpu.quota))
		put_u64(b, "CPUQuotaPerSecUSec", quota_per_second(*r->cpu.quota, period));
	put_limit(b, "TasksMax", r->pids_limit ? *r->pids_limit > 0 ? *r->pids_limit : -1 : 0);
}

/* --- devices: systemd knows only what is allowed --- */

/* "136 pts" of /proc/devices: a group of drivers by its major number. NULL if there is none. */
static char *driver_group(char type, int64_t major)
{
	_cleanup_free_ char *text = NULL;
	char section = 0;

	if (fs_read(AT_FDCWD, "/proc/devices", 1 << 20, &text, NULL) < 0)
		return NULL;
	for (char *save = NULL, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		long long n;
		char name[64];

		if (str_starts(l, "Character"))
			section = 'c';
		else if (str_starts(l, "Block"))
			section = 'b';
		else if (section == type && sscanf(l, "%lld %63s", &n, name) == 2 && n == major)
			return xasprintf("%s-%s", type == 'c' ? "char" : "block", name);
	}
	return NULL;
}

static char *device_name(const struct oci_device_rule *d)
{
	const char *kind = d->type == 'c' ? "char" : "block";

	if (d->major < 0)
		return d->minor < 0 ? xasprintf("%s-*", kind) : NULL;
	if (d->minor < 0)
		return driver_group(d->type, d->major);
	return xasprintf("/dev/%s/%lld:%lld", kind, (long long)d->major, (long long)d->minor);
}

static bool same_device(const struct oci_device_rule *a, const struct oci_device_rule *b)
{
	return a->type == b->type && a->major == b->major && a->minor == b->minor;
}

/* Whether a later rule takes this one back. */
static bool taken_back(const struct oci_device_rules *rules, size_t i)
{
	for (size_t k = i + 1; k < rules->n; k++)
		if (rules->v[k].type == 'a' ||
		    (!rules->v[k].allow && same_device(&rules->v[k], &rules->v[i])))
			return true;
	return false;
}

/* After a daemon-reload systemd sets the group's devices anew (v1), so it must know them. Rules that begin
 * with all allowed cannot be said to it: then only our own filter counts. */
static void put_devices(struct sbuf *b, const struct oci_device_rules *given)
{
	struct oci_device_rules rules = device_rules_full(given);
	bool strict = rules.n > 0;
	size_t list;

	for (size_t i = 0; i < rules.n; i++)
		if (rules.v[i].type == 'a')
			strict = !rules.v[i].allow;
	put_str(b, "DevicePolicy", strict ? "strict" : "auto");
	open_property(b, "DeviceAllow", "a(ss)");
	list = dbus_open_array(b, 8);
	for (size_t i = 0; strict && i < rules.n; i++) {
		const struct oci_device_rule *d = &rules.v[i];
		bool told = d->allow && d->type != 'a' && !taken_back(&rules, i);
		_cleanup_free_ char *name = told ? device_name(d) : NULL;
		char access[4];

		if (!name)
			continue;
		snprintf(access, sizeof access, "%s%s%s", d->read ? "r" : "", d->write ? "w" : "",
			 d->mknod ? "m" : "");
		dbus_put_struct(b);
		dbus_put_str(b, name);
		dbus_put_str(b, access);
	}
	dbus_close_array(b, list, 8);
	free(rules.v);
}

void unit_start_body(struct sbuf *b, const struct unit *u, const char *id, pid_t pid,
		     const struct oci_resources *res, bool v2)
{
	static const char *const accounts[] = { "MemoryAccounting", "CPUAccounting", "TasksAccounting" };
	_cleanup_free_ char *about = xasprintf("insula container %s", id);
	size_t list;

	dbus_put_str(b, u->name);
	dbus_put_str(b, "replace");
	list = dbus_open_array(b, 8);
	put_str(b, "Description", about);
	put_str(b, "Slice", u->slice);
	put_bool(b, "Delegate", true);
	put_bool(b, "DefaultDependencies", false);
	for (size_t i = 0; i < ARRAY_SIZE(accounts); i++)
		put_bool(b, accounts[i], true);
	put_bool(b, v2 ? "IOAccounting" : "BlockIOAccounting", true);
	put_pids(b, pid);
	put_devices(b, &res->devices);
	put_limits(b, res, v2);
	dbus_close_array(b, list, 8);
	dbus_close_array(b, dbus_open_array(b, 8), 8);	/* auxiliary units: none */
}

/* --- calls --- */

/* The path in "unix:path=/a/b,guid=...": the first address of that kind. NULL if there is none. */
static char *address_path(const char *address)
{
	const char *p = address ? strstr(address, "unix:path=") : NULL;

	p = p ? p + strlen("unix:path=") : NULL;
	return p ? xstrndup(p, strcspn(p, ",;")) : NULL;
}

/* Root talks to the system's manager, an ordinary user to his own. */
static int open_manager(struct dbus **ret, struct err *e)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	_cleanup_free_ char *path = NULL;

	if (geteuid()) {
		path = address_path(getenv("DBUS_SESSION_BUS_ADDRESS"));
		if (!path && run)
			path = path_join(run, "bus");
		if (!path)
			return err_msg(e, ERR_UNAVAILABLE, -ENOENT,
				       "systemd cgroup driver: neither DBUS_SESSION_BUS_ADDRESS nor "
				       "XDG_RUNTIME_DIR is set");
		return dbus_open(path, true, ret, e);
	}
	path = address_path(getenv("DBUS_SYSTEM_BUS_ADDRESS"));
	if (!path)
		path = xstrdup(SYSTEM_BUS);
	/* Without a bus, systemd itself listens. */
	return fs_exists(path) || !fs_exists(PRIVATE) ? dbus_open(path, true, ret, e)
						      : dbus_open(PRIVATE, false, ret, e);
}

static int call(struct dbus *d, const char *destination, const char *member, const char *sig,
		struct sbuf *body, struct dbus_msg *reply, struct err *e)
{
	bool manager = streq(destination, DESTINATION);
	struct dbus_msg m = {
		.path = (char *)(manager ? OBJECT : "/org/freedesktop/DBus"),
		.interface = (char *)(manager ? MANAGER : "org.freedesktop.DBus"),
		.member = (char *)member, .destination = (char *)destination, .signature = (char *)sig,
		.body = body->buf, .n_body = body->len,
	};

	return dbus_call(d, &m, reply, e);
}

/* Signals come only to those who have asked the bus and the manager. */
static int subscribe(struct dbus *d)
{
	_cleanup_dbus_msg_ struct dbus_msg one = { 0 }, two = { 0 };
	_cleanup_sbuf_ struct sbuf rule = SBUF_INIT_MAX(1024), none = SBUF_INIT_MAX(16);
	int r;

	dbus_put_str(&rule, "type='signal',interface='" MANAGER "',member='JobRemoved'");
	r = call(d, "org.freedesktop.DBus", "AddMatch", "s", &rule, &one, NULL);
	return r == 0 ? call(d, DESTINATION, "Subscribe", "", &none, &two, NULL) : r;
}

/* Waits for the end of the job whose path is in a reply. JobRemoved: id, job, unit, result. */
static int await_job(struct dbus *d, const struct dbus_msg *reply, const char *what, struct err *e)
{
	struct dbus_in in = { (const uint8_t *)reply->body, reply->n_body, 0 };
	const char *job;

	if (!streq(reply->signature, "o") || !dbus_get_str(&in, &job))
		return err_msg(e, ERR_SYSTEM, -EBADMSG, "%s: malformed reply of systemd", what);
	for (;;) {
		_cleanup_dbus_msg_ struct dbus_msg m = { 0 };
		const char *which, *unit, *result;
		uint32_t id;
		int r = dbus_wait_signal(d, "JobRemoved", &m, e);

		if (r < 0)
			return err_wrap(e, r, "%s", what);
		in = (struct dbus_in){ (const uint8_t *)m.body, m.n_body, 0 };
		if (!dbus_get_u32(&in, &id) || !dbus_get_str(&in, &which) || !dbus_get_str(&in, &unit) ||
		    !dbus_get_str(&in, &result) || !streq(which, job))
			continue;
		return streq(result, "done") ? 0 : err_msg(e, ERR_SYSTEM, -EIO, "%s: systemd says '%s'", what,
							   result);
	}
}

int unit_start(const struct unit *u, const char *id, pid_t pid, const struct oci_resources *res, bool v2,
	       struct err *e)
{
	_cleanup_(dbus_closep) struct dbus *d = NULL;
	_cleanup_sbuf_ struct sbuf body = SBUF_INIT_MAX(64 << 10);
	_cleanup_dbus_msg_ struct dbus_msg reply = { 0 };
	_cleanup_free_ char *what = xasprintf("start unit '%s'", u->name);
	int r = open_manager(&d, e);

	if (r < 0)
		return r;
	(void)subscribe(d);	/* without a bus there is nobody to ask, and signals come all the same */
	unit_start_body(&body, u, id, pid, res, v2);
	r = call(d, DESTINATION, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body, &reply, e);
	return r < 0 ? err_wrap(e, r, "%s", what) : await_job(d, &reply, what, e);
}

int unit_update(const char *name, const struct oci_resources *res, bool v2, struct err *e)
{
	_cleanup_(dbus_closep) struct dbus *d = NULL;
	_cleanup_sbuf_ struct sbuf body = SBUF_INIT_MAX(64 << 10);
	_cleanup_dbus_msg_ struct dbus_msg reply = { 0 };
	size_t list;
	int r = open_manager(&d, e);

	if (r < 0)
		return r;
	dbus_put_str(&body, name);
	dbus_put_u32(&body, true);	/* only until the next boot */
	list = dbus_open_array(&body, 8);
	put_limits(&body, res, v2);
	dbus_close_array(&body, list, 8);
	r = call(d, DESTINATION, "SetUnitProperties", "sba(sv)", &body, &reply, e);
	return r < 0 ? err_wrap(e, r, "update unit '%s'", name) : 0;
}

int unit_stop(const char *name, struct err *e)
{
	_cleanup_(dbus_closep) struct dbus *d = NULL;
	_cleanup_sbuf_ struct sbuf body = SBUF_INIT_MAX(4096), failed = SBUF_INIT_MAX(4096);
	_cleanup_dbus_msg_ struct dbus_msg reply = { 0 }, ignored = { 0 };
	_cleanup_free_ char *what = xasprintf("stop unit '%s'", name);
	_cleanup_err_ struct err why = ERR_INIT;
	int r = open_manager(&d, e);

	if (r < 0)
		return r;
	(void)subscribe(d);
	dbus_put_str(&body, name);
	dbus_put_str(&body, "replace");
	r = call(d, DESTINATION, "StopUnit", "ss", &body, &reply, &why);
	if (r == 0)
		r = await_job(d, &reply, what, &why);
	if (r < 0 && !strstr(err_text(&why), "NoSuchUnit")) {
		err_move(e, &why);
		return err_wrap(e, r, "%s", what);
	}
	/* One that failed would stay known by its name. */
	dbus_put_str(&failed, name);
	(void)call(d, DESTINATION, "ResetFailedUnit", "s", &failed, &ignored, NULL);
	return 0;
}
