/* The OCI config.json that insulad made, fitted to the guest: what it could not know, or what is
 * somewhere else here. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/json.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define INIT "/lib/insula/insula-init"

/* "NAME[/sub/path]" -> path in the guest. The sub path is resolved inside the share, so a symbolic
 * link that a container left there does not lead out of it. */
static int share_path(struct agent *a, const char *source, char **ret, struct err *e)
{
	_cleanup_free_ char *tag = xstrndup(source, strcspn(source, "/")), *dir = NULL;
	const char *sub = source + strlen(tag);
	_cleanup_close_ int root = -EBADF, fd = -EBADF;
	char buf[PATH_MAX];
	ssize_t n;
	int r;

	r = share_mount(a, tag);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "mount share '%s' in the guest", tag);
	dir = xasprintf(AGENT_RUN "/shares/%s", tag);
	if (!*sub) {
		*ret = TAKE_PTR(dir);
		return 0;
	}
	root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = root < 0 ? -errno : fs_open_in_root(root, sub, O_PATH, 0);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "open '%s' in share '%s'", sub, tag);
	n = readlink(fd_proc_path(fd).s, buf, sizeof(buf) - 1);
	if (n < 0 || n == sizeof(buf) - 1)
		return err_set(e, ERR_SYSTEM, n < 0 ? -errno : -ENAMETOOLONG, "open '%s' in share '%s'", sub,
			       tag);
	*ret = xstrndup(buf, (size_t)n);
	return 0;
}

static int rewrite_mount(struct agent *a, struct json *m, struct err *e)
{
	const char *source = json_get_str(m, "source"), *target = json_get_str(m, "destination");
	_cleanup_free_ char *path = NULL;
	int r;

	if (!source)
		return 0;
	if (str_starts(source, "tag:")) {
		r = share_path(a, source + 4, &path, e);
		if (r < 0)
			return r;
		json_set_str(m, "source", path);
	} else if (str_starts(source, "socket:")) {
		r = socket_path(a, source + 7, &path, e);
		if (r < 0)
			return r;
		json_set_str(m, "source", path);
	} else if (str_starts(source, "fifo:")) {
		r = fifo_path(a, source + 5, &path, e);
		if (r < 0)
			return r;
		json_set_str(m, "source", path);
	} else if (streq(target, "/sbin/docker-init")) {
		/* The guest has its own copy of the program for --init. */
		json_set_str(m, "source", INIT);
	}
	return 0;
}

/* Kernel parameters of a network need a network namespace that is the container's own. Here that is
 * the machine's. */
static void add_net_ns(struct json *spec)
{
	struct json *list = json_get(json_get(spec, "linux"), "namespaces"), *ns;

	for (size_t i = 0; i < json_len(list); i++)
		if (streq(json_get_str(json_at(list, i), "type"), "network"))
			return;
	if (json_type(list) != JSON_ARRAY)
		return;
	ns = json_add(list, json_object());
	json_set_str(ns, "type", "network");
	json_set_str(ns, "path", "/proc/1/ns/net");
}

/* Of a device and of its rule. */
static int fit_disk(struct agent *a, struct json *o, char *const *disks, struct err *e)
{
	int64_t i = json_get_int(o, "insulaDisk", -1);
	_cleanup_free_ char *path = NULL;
	struct stat st;
	int r;

	if (i < 0)
		return 0;
	if ((uint64_t)i >= strv_len(disks) / 2)
		return err_msg(e, ERR_INVALID, -EINVAL, "insulaDisk %lld: there is no such disk",
			       (long long)i);
	r = disk_find(disks[2 * i], &path);
	if (r == 0 && stat(path, &st) < 0)
		r = -errno;
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "find disk '%s' in the guest", disks[2 * i]);
	json_set_int(o, "major", major(st.st_rdev));
	json_set_int(o, "minor", minor(st.st_rdev));
	json_del(o, "insulaDisk");
	return 0;
}

static int fit_devices(struct agent *a, struct json *spec, char *const *disks, struct err *e)
{
	struct json *linux_ = json_get(spec, "linux"), *devices = json_get(linux_, "devices");
	struct json *rules = json_get(json_get(linux_, "resources"), "devices");
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(devices); i++) {
		const char *module = json_get_str(json_at(devices, i), "insulaModule");

		r = fit_disk(a, json_at(devices, i), disks, e);
		if (r == 0 && module && (r = module_load(module)) < 0)
			err_set(e, ERR_SYSTEM, r, "load module '%s' in the guest", module);
		json_del(json_at(devices, i), "insulaModule");
	}
	for (size_t i = 0; r == 0 && i < json_len(rules); i++)
		r = fit_disk(a, json_at(rules, i), disks, e);
	return r;
}

static bool contains(const struct bytes *b, const char *s)
{
	return memmem(b->p, b->n, s, strlen(s)) != NULL;
}

int spec_rewrite(struct agent *a, const struct bytes *spec, char *const *disks, char **ret, struct err *e)
{
	_cleanup_json_ struct json *j = NULL;
	struct json *mounts;
	int r;

	/* Most need nothing; under software emulation parsing them would be felt. */
	if (!contains(spec, "\"tag:") && !contains(spec, "\"socket:") &&
	    !contains(spec, "\"fifo:") &&
	    !contains(spec, "\"insulaDisk\"") && !contains(spec, "\"insulaModule\"") &&
	    !contains(spec, "docker-init") && !contains(spec, "\"net."))
		return -ENODATA;
	r = json_parse((const char *)spec->p, spec->n, &j, e);
	if (r < 0)
		return r;
	mounts = json_get(j, "mounts");
	for (size_t i = 0; i < json_len(mounts); i++) {
		r = rewrite_mount(a, json_at(mounts, i), e);
		if (r < 0)
			return r;
	}
	r = fit_devices(a, j, disks, e);
	if (r < 0)
		return r;
	if (json_len(json_get(json_get(j, "linux"), "sysctl")))
		add_net_ns(j);
	*ret = json_dump(j);
	return 0;
}
