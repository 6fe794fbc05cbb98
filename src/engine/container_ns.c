/* Namespaces that a container does not have for itself, because its user wants so (--pid, --ipc, --uts,
 * --cgroupns): the host's, or those of another container. Only under process isolation: a virtual machine
 * has a kernel of its own. None is shared by default. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define OTHER "container:"

enum { NS_PID, NS_IPC, NS_UTS, NS_CGROUP, NS_USER, _NS_MAX };

static const struct mode_rule {
	const char *field, *flag, *what;
	const char *process[5], *hyperv[4];	/* beside "" */
	bool other;				/* "container:ID" too */
	const char *hyperv_reason;
} rules[_NS_MAX] = {
    [NS_PID] = {"PidMode", "--pid", "PID", {"private", "host"}, {"private"}, true,
		"a virtual machine has processes of its own: the pid namespace of the host or of another "
		"container cannot be shared; use --isolation=process"},
    [NS_IPC] = {"IpcMode", "--ipc", "IPC", {"private", "shareable", "host", "none"},
		{"private", "shareable", "none"}, true,
		"a virtual machine has memory of its own: the ipc namespace of the host or of another "
		"container cannot be shared; use --isolation=process"},
    [NS_UTS] = {"UTSMode", "--uts", "UTS", {"private", "host"}, {"private"}, false,
		"a virtual machine has a host name of its own; use --hostname"},
    [NS_CGROUP] = {"CgroupnsMode", "--cgroupns", "cgroup namespace", {"private", "host"}, {"private"}, false,
		   "a virtual machine has cgroups of its own; leave it out"},
    [NS_USER] = {"UsernsMode", "--userns", "user namespace", {"host"}, {"host"}, false,
		 "user namespaces are not supported by this version of insula: leave it out"},
};

static const char *mode(const struct json *hc, int ns)
{
	return json_get_str(hc, rules[ns].field) ?: "";
}

static bool is_host(const struct container *c, int ns)
{
	return streq(mode(ctr_host(c), ns), "host");
}

/* ---- at create ---- */

static int check_other(const struct create_ctx *x, const struct mode_rule *rule, const char *ref,
		       struct err *err)
{
	struct container *other;
	/* Not 404: that would tell a client of a missing image, which it pulls. */
	if (container_find(x->engine, ref, &other, NULL) < 0)
		return err_msg(err, ERR_INVALID, 0, "cannot join %s of container %s: No such container: %s",
			       rule->what, ref, ref);
	if (other->isolation == ISOLATION_HYPERV)
		return err_msg(err, ERR_INVALID, 0,
			       "%s=" OTHER "%s: that container is a virtual machine, which has a kernel of "
			       "its own: only containers of process isolation can be joined",
			       rule->flag, ref);
	if (rule == &rules[NS_IPC] && !streq(mode(ctr_host(other), NS_IPC), "shareable"))
		return err_msg(err, ERR_CONFLICT, 0,
			       "container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor "
			       "container)",
			       other->id);
	return 0;
}

static int check_mode(const struct create_ctx *x, const struct json *hc, int ns, struct err *err)
{
	const struct mode_rule *rule = &rules[ns];
	bool hyperv = x->isolation == ISOLATION_HYPERV;
	const char *v = mode(hc, ns), *const *fine = hyperv ? rule->hyperv : rule->process;

	if (!*v)
		return 0;
	for (; *fine; fine++)
		if (streq(*fine, v))
			return 0;
	if (hyperv || ns == NS_USER)
		return err_msg(err, ERR_INVALID, 0, "%s=%s: %s", rule->flag, v, rule->hyperv_reason);
	if (!rule->other || !str_starts(v, OTHER))
		return err_msg(err, ERR_INVALID, 0, "invalid %s mode: %s", rule->what, v);
	return check_other(x, rule, v + strlen(OTHER), err);
}

int ns_modes_check(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	const struct json *cfg = x->body;
	int r = 0;

	for (int i = 0; r == 0 && i < _NS_MAX; i++)
		r = check_mode(x, hc, i, err);
	if (r == 0 && streq(mode(hc, NS_UTS), "host") &&
	    (!str_empty(json_get_str(cfg, "Hostname")) || !str_empty(json_get_str(cfg, "Domainname"))))
		r = err_msg(err, ERR_INVALID, 0, "conflicting options: hostname and the UTS mode");
	return r;
}

void ns_modes_fill(const struct create_ctx *x, struct json *hc)
{
	static const char *const fields[] = { "PidMode", "IpcMode", "NetworkMode" };

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const char *v = json_get_str(hc, fields[i]) ?: "";
		_cleanup_free_ char *by_id = NULL;
		struct container *other;

		if (!str_starts(v, OTHER) || container_find(x->engine, v + strlen(OTHER), &other, NULL) < 0)
			continue;
		by_id = xasprintf(OTHER "%s", other->id);
		json_set_str(hc, fields[i], by_id);
	}
}

bool ns_host_uts(const struct container *c)
{
	return is_host(c, NS_UTS);
}

/* ---- at start ---- */

/* Whoever has the pid when it is looked at: a namespace of the host's would be somebody else's. */
static int open_of(const struct container *other, const char *name, struct err *err)
{
	_cleanup_free_ char *theirs = xasprintf("/proc/%u/ns/%s", other->pid, name),
			    *ours = xasprintf("/proc/self/ns/%s", name);
	_cleanup_close_ int fd = open(theirs, O_RDONLY | O_CLOEXEC);
	struct stat a, b;

	if (fd < 0 || fstat(fd, &a) < 0 || stat(ours, &b) < 0 || a.st_ino == b.st_ino)
		return err_set(err, ERR_SYSTEM, fd < 0 ? -errno : -ESRCH,
			       "open the %s namespace of container %s", name, other->id);
	return TAKE_FD(fd);
}

static int open_other(const struct container *c, int ns, const char *name, int *ret_fd, uint32_t *ret_pid,
		      struct err *err)
{
	const char *v = mode(ctr_host(c), ns);
	struct container *other;
	int r;

	if (!str_starts(v, OTHER))
		return 0;
	r = container_find(c->engine, v + strlen(OTHER), &other, err);
	if (r < 0)
		return r;
	if (!container_running(other) || !other->pid)
		return err_msg(err, ERR_CONFLICT, 0, "cannot join %s of a non running container: %s",
			       rules[ns].what, other->id);
	r = open_of(other, name, err);
	if (r < 0)
		return r;
	*ret_fd = r;
	*ret_pid = other->pid;
	return 0;
}

int ns_shared_open(const struct container *c, struct ns_shared *ret, struct err *err)
{
	uint32_t unused;
	int r = open_other(c, NS_PID, "pid", &ret->pid, &unused, err);

	return r == 0 ? open_other(c, NS_IPC, "ipc", &ret->ipc, &ret->ipc_of, err) : r;
}

void ns_shared_close(struct ns_shared *s)
{
	fd_close(&s->pid);
	fd_close(&s->ipc);
}

/* ---- in the configuration ---- */

/* Another process opens it, while we hold it. */
static void set_path(struct json *ns, int fd)
{
	_cleanup_free_ char *path = fd >= 0 ? xasprintf("/proc/%d/fd/%d", getpid(), fd) : NULL;

	if (path)
		json_set_str(ns, "path", path);
}

void ns_shared_apply(const struct container *c, const struct ns_shared *shared, struct json *linux_)
{
	static const struct { const char *type; int ns; } kinds[] = {
	    {"pid", NS_PID}, {"ipc", NS_IPC}, {"uts", NS_UTS}, {"cgroup", NS_CGROUP},
	};
	const struct json *all = json_get(linux_, "namespaces");
	struct json *list = json_array();

	for (size_t i = 0; i < json_len(all); i++) {
		struct json *ns = json_at(all, i);
		bool host = false;

		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
			if (streq(json_get_str(ns, "type"), kinds[k].type))
				host = is_host(c, kinds[k].ns);
		if (host)
			continue;
		if (streq(json_get_str(ns, "type"), "pid"))
			set_path(ns, shared->pid);
		if (streq(json_get_str(ns, "type"), "ipc"))
			set_path(ns, shared->ipc);
		json_add(list, json_ref(ns));
	}
	json_set(linux_, "namespaces", list);
}

/* Shared memory belongs to the ipc namespace: whose it is, theirs is /dev/shm. */
static bool change_shm(const struct container *c, const struct ns_shared *shared, struct json *m)
{
	char *options[] = {(char *)"rbind", (char *)"rprivate", NULL};
	_cleanup_free_ char *source = shared->ipc >= 0 ? xasprintf("/proc/%u/root/dev/shm", shared->ipc_of)
				      : is_host(c, NS_IPC) ? xstrdup("/dev/shm")
							   : NULL;

	if (streq(mode(ctr_host(c), NS_IPC), "none"))
		return false;
	if (source) {
		json_set_str(m, "type", "bind");
		json_set_str(m, "source", source);
		json_set_strv(m, "options", options);
	}
	return true;
}

void ns_shared_mounts(const struct container *c, const struct ns_shared *shared, struct json *spec)
{
	const struct json *all = json_get(spec, "mounts");
	struct json *list = json_array();

	for (size_t i = 0; i < json_len(all); i++) {
		struct json *m = json_at(all, i);

		/* Not one that the user has put there. */
		if (!streq(json_get_str(m, "destination"), "/dev/shm") ||
		    !streq(json_get_str(m, "source"), "shm") || change_shm(c, shared, m))
			json_add(list, json_ref(m));
	}
	json_set(spec, "mounts", list);
}
