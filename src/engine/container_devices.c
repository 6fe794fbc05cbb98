/* Devices of a container: --device and --device-cgroup-rule.
 *
 * Under process isolation a device is a node and the right to use it. A virtual machine has devices of its
 * own: a block device of the host becomes a disk of the machine, whose number only the guest knows; functions
 * of the kernel which are devices by name only (/dev/null, /dev/fuse) are the guest kernel's; all others are
 * refused. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEPTH_MAX 16	/* of a directory of devices */

/* Character devices that a guest's kernel has under the same number, and the module that gives them. */
static const struct { unsigned major, minor; const char *module; } guest_devices[] = {
	/* null, zero, full, random, urandom */
	{1, 3, NULL}, {1, 5, NULL}, {1, 7, NULL}, {1, 8, NULL}, {1, 9, NULL},
	/* kmsg, tty, ptmx, fuse, net/tun */
	{1, 11, NULL}, {5, 0, NULL}, {5, 2, NULL}, {10, 229, NULL}, {10, 200, "tun"},
};

/* Where the devices go. */
struct build {
	bool hyperv;
	struct json *devices, *rules;
	char **disks;			/* pairs: host path, "ro" or "rw" */
	size_t n;			/* found so far */
};

static int gathering(const char *host, const char *why, int r, struct err *err)
{
	return err_msg(err, ERR_INVALID, r,
		       "error gathering device information while adding custom device \"%s\": %s", host, why);
}

/* The marks of the guest: "insulaDisk", whose number in CREATE's list it is, and "insulaModule". */
static int mark_for_guest(struct build *b, const char *host, const struct stat *st, const char *rights,
			  struct json *device, struct json *rule, struct err *err)
{
	if (S_ISBLK(st->st_mode)) {
		json_set_int(device, "insulaDisk", (int64_t)(strv_len(b->disks) / 2));
		json_set_int(rule, "insulaDisk", (int64_t)(strv_len(b->disks) / 2));
		strv_add(&b->disks, host);
		strv_add(&b->disks, strchr(rights, 'w') ? "rw" : "ro");
		if (strv_len(b->disks) / 2 <= CTR_GUEST_DISKS_MAX)
			return 0;
		return err_msg(err, ERR_INVALID, -E2BIG,
			       "--device: a virtual machine takes at most %d block devices; use "
			       "--isolation=process", CTR_GUEST_DISKS_MAX);
	}
	for (size_t i = 0; i < ARRAY_SIZE(guest_devices); i++) {
		if (makedev(guest_devices[i].major, guest_devices[i].minor) != st->st_rdev)
			continue;
		if (guest_devices[i].module)
			json_set_str(device, "insulaModule", guest_devices[i].module);
		return 0;
	}
	return err_msg(err, ERR_INVALID, 0,
		       "--device %s: a character device of the host cannot be handed into a virtual machine, "
		       "which has a kernel of its own; use --isolation=process", host);
}

/* A node, and the right to use it. */
static int add_node(struct build *b, const char *host, const char *inside, const struct stat *st,
		    const char *rights, struct err *err)
{
	struct json *o = json_add(b->devices, json_object()), *rule = json_add(b->rules, json_object());
	const char *type = S_ISBLK(st->st_mode) ? "b" : "c";

	b->n++;
	json_set_str(o, "path", inside);
	json_set_str(o, "type", type);
	json_set_int(o, "major", major(st->st_rdev));
	json_set_int(o, "minor", minor(st->st_rdev));
	json_set_int(o, "fileMode", st->st_mode & 0777);
	json_set_int(o, "uid", st->st_uid);
	json_set_int(o, "gid", st->st_gid);
	json_set_bool(rule, "allow", true);
	json_set_str(rule, "type", type);
	json_set_int(rule, "major", major(st->st_rdev));
	json_set_int(rule, "minor", minor(st->st_rdev));
	json_set_str(rule, "access", rights);
	return b->hyperv ? mark_for_guest(b, host, st, rights, o, rule, err) : 0;
}

/* What in a directory is not a device, or none of a container's: as Docker passes it over. */
static bool passed_over(const char *name)
{
	static const char *const names[] = {".",      "..",   "pts",	    "shm",   "fd",
					    "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(names[i], name))
			return true;
	return false;
}

static int add_directory(struct build *b, const char *host, const char *inside, const char *rights,
			 unsigned depth, struct err *err)
{
	DIR *d = depth < DEPTH_MAX ? opendir(host) : NULL;
	struct dirent *de;
	int r = 0;

	while (r == 0 && d && (de = readdir(d))) {
		_cleanup_free_ char *path = path_join(host, de->d_name), *to = path_join(inside, de->d_name);
		struct stat st;

		if (passed_over(de->d_name) || lstat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			r = add_directory(b, path, to, rights, depth + 1, err);
		else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
			r = add_node(b, path, to, &st, rights, err);
	}
	if (d)
		(void)closedir(d);
	return r;
}

/* One --device: a node, or all nodes of a directory. */
static int add_device(struct build *b, const struct json *d, struct err *err)
{
	const char *given = json_get_str(d, "PathOnHost"), *inside = json_get_str(d, "PathInContainer");
	const char *rights = json_get_str(d, "CgroupPermissions");
	_cleanup_free_ char *host = realpath(given, NULL);
	size_t before = b->n;
	struct stat st;
	int r;

	if (!host || stat(host, &st) < 0)
		return gathering(given, strerror(errno), -errno, err);
	inside = str_empty(inside) ? given : inside;
	rights = str_empty(rights) ? "rwm" : rights;
	if (S_ISDIR(st.st_mode)) {
		r = add_directory(b, host, inside, rights, 0, err);
		if (r < 0)
			return r;
		return b->n > before ? 0 : gathering(given, "not a device node", 0, err);
	}
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return gathering(given, "not a device node", 0, err);
	return add_node(b, host, inside, &st, rights, err);
}

/* "c 10:*  rwm" -> a rule; NULL if it is none. */
static struct json *parse_rule(const char *s)
{
	_cleanup_strv_ char **f = strv_split(s, " ");
	_cleanup_strv_ char **number = strv_len(f) == 3 ? strv_split(f[1], ":") : NULL;
	static const char *const names[] = {"major", "minor"};
	struct json *o;

	if (strv_len(number) != 2 || strlen(f[0]) != 1 || !strchr("abc", *f[0]) || !*f[2] ||
	    strlen(f[2]) > 3 || f[2][strspn(f[2], "rwm")])
		return NULL;
	o = json_object();
	json_set_bool(o, "allow", true);
	json_set_str(o, "type", f[0]);
	json_set_str(o, "access", f[2]);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		uint64_t v = 0;

		if (streq(number[i], "*"))
			continue;
		if (str_to_u64(number[i], &v) < 0 || v > UINT32_MAX) {
			json_free(o);
			return NULL;
		}
		json_set_int(o, names[i], (int64_t)v);
	}
	return o;
}

static int check_rules(const struct create_ctx *x, const struct json *v, struct err *err)
{
	for (size_t i = 0; i < json_len(v); i++) {
		const char *s = json_str(json_at(v, i)) ?: "";
		_cleanup_json_ struct json *rule = parse_rule(s);

		if (!rule)
			return err_msg(err, ERR_INVALID, 0, "invalid device cgroup rule format: '%s'", s);
		if (x->isolation == ISOLATION_HYPERV)
			return err_msg(err, ERR_INVALID, 0,
				       "--device-cgroup-rule '%s': numbers of the host's devices mean others "
				       "in a virtual machine; name the device by --device, or use "
				       "--isolation=process", s);
	}
	return 0;
}

/* A virtual machine says at once what it cannot have; what is not there may be by the time of the start. */
static int check_for_guest(const struct json *d, struct err *err)
{
	_cleanup_json_ struct json *devices = json_array(), *rules = json_array();
	struct build b = {.hyperv = true, .devices = devices, .rules = rules};
	struct stat st;
	int r = 0;

	if (stat(json_get_str(d, "PathOnHost"), &st) == 0)
		r = add_device(&b, d, err);
	strv_free(b.disks);
	return r;
}

int devices_check(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	const struct json *v = json_get(hc, "Devices");
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(v); i++) {
		const char *rights = json_get_str(json_at(v, i), "CgroupPermissions");
		const char *inside = json_get_str(json_at(v, i), "PathInContainer");

		if (str_empty(json_get_str(json_at(v, i), "PathOnHost")))
			return err_msg(err, ERR_INVALID, 0, "error gathering device information: no path");
		if (rights && rights[strspn(rights, "rwm")])
			return err_msg(err, ERR_INVALID, 0, "invalid device mode: %s", rights);
		if (!str_empty(inside) && *inside != '/')
			return err_msg(err, ERR_INVALID, 0, "%s is not an absolute path", inside);
		if (x->isolation == ISOLATION_HYPERV)
			r = check_for_guest(json_at(v, i), err);
	}
	return r < 0 ? r : check_rules(x, json_get(hc, "DeviceCgroupRules"), err);
}

int devices_apply(const struct container *c, struct json *spec, char ***ret_disks, struct err *err)
{
	const struct json *v = json_get(ctr_host(c), "Devices");
	const struct json *given = json_get(ctr_host(c), "DeviceCgroupRules");
	struct json *linux_ = json_get(spec, "linux"), *resources = json_get(linux_, "resources");
	struct build b = {.hyperv = c->isolation == ISOLATION_HYPERV,
			  .rules = json_get(resources, "devices")};
	bool all = json_get_bool(ctr_host(c), "Privileged", false) && !b.hyperv;
	int r = 0;

	if (json_len(v) || all)
		b.devices = json_set(linux_, "devices", json_array());
	if (all)
		r = add_directory(&b, "/dev", "/dev", "rwm", 0, err);
	for (size_t i = 0; r == 0 && i < json_len(v); i++)
		r = add_device(&b, json_at(v, i), err);
	for (size_t i = 0; r == 0 && i < json_len(given); i++) {
		struct json *rule = parse_rule(json_str(json_at(given, i)) ?: "");

		if (rule)
			json_add(b.rules, rule);
	}
	if (r < 0)
		strv_free(b.disks);
	else
		*ret_disks = b.disks;
	return r;
}
