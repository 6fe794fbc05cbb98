/* What insula-runtime remembers of a container between two calls. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NEW_STATE "state.json.new"

char *runtime_root;
enum tool_cgroups runtime_cgroups;

char *state_path(const char *id, const char *file)
{
	return xasprintf("%s/%s%s%s", runtime_root, id, *file ? "/" : "", file);
}

/* When the process began, in clock ticks since boot: tells it from a later one with the same pid. */
static int start_time(pid_t pid, uint64_t *ret, bool *ret_ended)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", pid), *text = NULL;
	unsigned long long t;
	char status;
	char *p;

	if (fs_read(AT_FDCWD, path, 8192, &text, NULL) < 0 || !(p = strrchr(text, ')')))
		return -ESRCH;
	if (sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &status, &t) != 2)
		return -ESRCH;
	*ret = t;
	*ret_ended = status == 'Z' || status == 'X';
	return 0;
}

static int write_new(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));
}

int state_write(const char *bundle, const char *config, const struct oci_spec *spec,
		const struct rt_container *c, pid_t pid, struct err *e)
{
	const char *id = c->id;
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *path = state_path(id, NEW_STATE), *copy = state_path(id, "config.json"),
			    *text = NULL;
	_cleanup_free_ char *now = time_rfc3339(now_real_ns()), *own = NULL, *rootfs = NULL;
	uint64_t started = 0;
	bool ended;
	int r;

	/* Without it, no later call would know the process. That it may have ended is not for us to say. */
	r = start_time(pid, &started, &ended);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "look at the container's init");
	json_set_str(o, "id", id);
	json_set_str(o, "bundle", bundle);
	json_set_int(o, "pid", pid);
	json_set_int(o, "started", (int64_t)started);
	json_set_str(o, "created", now);
	rootfs = *spec->root.path == '/' ? xstrdup(spec->root.path) : path_join(bundle, spec->root.path);
	json_set_str(o, "rootfs", rootfs);
	if (c->cg)
		json_set_str(o, "cgroup", c->cg->path);
	if (c->unit)
		json_set_str(o, "unit", c->unit);
	/* A later call may come from another group. */
	if (c->cg && *c->cg->path != '/' && cgroup_read_own(&own) == 0)
		json_set_str(o, "ownCgroup", own);
	if (spec->annotations)
		json_set(o, "annotations", json_ref(spec->annotations));
	text = json_dump(o);
	r = write_new(copy, config);
	if (r == 0)
		r = write_new(path, text);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write the state of container '%s'", id) : 0;
}

int state_publish(const char *id, struct err *e)
{
	_cleanup_free_ char *path = state_path(id, "state.json"), *new = state_path(id, NEW_STATE);

	return rename(new, path) < 0
		       ? err_set(e, ERR_SYSTEM, -errno, "write the state of container '%s'", id)
		       : 0;
}

int state_read(const char *id, struct state *ret, struct err *e)
{
	_cleanup_free_ char *path = NULL, *text = NULL;
	struct json *doc;
	size_t n;
	int r;

	if (!rt_id_valid(id))
		return err_msg(e, ERR_INVALID, 0, "invalid container id: '%s'", id);
	path = state_path(id, "state.json");
	r = fs_read(AT_FDCWD, path, 1 << 20, &text, &n);
	if (r == -ENOENT)
		return err_msg(e, ERR_NOT_FOUND, r, "container '%s' does not exist", id);
	if (r == 0)
		r = json_parse(text, n, &doc, e);
	if (r < 0)
		return err_wrap(e, r, "read the state of container '%s'", id);
	*ret = (struct state){
	    .dir = state_path(id, ""),
	    .id = xstrdup(id),
	    .bundle = xstrdup(json_get_str(doc, "bundle")),
	    .created = xstrdup(json_get_str(doc, "created")),
	    .pid = (pid_t)json_get_int(doc, "pid", 0),
	    .doc = doc,
	};
	return 0;
}

void state_done(struct state *s)
{
	free(s->dir);
	free(s->id);
	free(s->bundle);
	free(s->created);
	json_free(s->doc);
}

/* Asked of the kernel, not remembered: somebody else may have frozen the group. */
static bool frozen(const struct state *s)
{
	const char *path = json_get_str(s->doc, "cgroup");
	_cleanup_(cgroup_freep) struct cgroup *cg = NULL;

	if (!path || cgroup_new(path, json_get_str(s->doc, "ownCgroup"), &cg, NULL) < 0)
		return false;
	return cgroup_frozen(cg);
}

static bool alive(const struct state *s)
{
	uint64_t started;
	bool ended;

	return start_time(s->pid, &started, &ended) == 0 && !ended &&
	       (int64_t)started == json_get_int(s->doc, "started", 0);
}

const char *state_status(const struct state *s)
{
	_cleanup_free_ char *sock = state_path(s->id, "start.sock");

	if (!alive(s))
		return "stopped";
	if (fs_exists(sock))
		return "created";
	return frozen(s) ? "paused" : "running";
}

void state_remove(const char *id)
{
	static const char *const files[] = { "state.json", "config.json", "start.sock" };
	_cleanup_free_ char *dir = state_path(id, "");
	_cleanup_close_ int fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(files); i++)
		(void)unlinkat(fd, files[i], 0);
	if (rmdir(dir) < 0)
		(void)fs_rm_rf(AT_FDCWD, dir);
}

void cgroup_path_default(struct oci_spec *spec, const char *id)
{
	if (str_empty(spec->cgroups_path)) {
		free(spec->cgroups_path);
		/* An ordinary user may own something beside his own group at best. */
		spec->cgroups_path = proc_is_root() ? xasprintf("/insula/%s", id)
						    : xasprintf("insula-%u/%s", geteuid(), id);
	}
}

int state_container(const struct state *s, struct rt_container **ret, struct oci_spec **ret_spec,
		    struct err *e)
{
	_cleanup_free_ char *path = state_path(s->id, "config.json"), *text = NULL;
	_cleanup_oci_spec_ struct oci_spec *spec = NULL;
	const char *group = json_get_str(s->doc, "cgroup");
	struct rt_container *c;
	size_t n;
	int r = fs_read(AT_FDCWD, path, 16 << 20, &text, &n);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "read '%s'", path);
	r = oci_spec_parse(text, n, &spec, e);
	if (r < 0)
		return r;
	c = rt_container_new(s->id, s->bundle);
	c->outlive = true;
	c->no_process = !spec->process;
	c->join_flags = ns_join_flags(spec);
	c->userns = userns_other(spec);
	if (alive(s))
		(void)proc_open(s->pid, &c->init);
	c->unit = xstrdup(json_get_str(s->doc, "unit"));
	r = group ? cgroup_new(group, json_get_str(s->doc, "ownCgroup"), &c->cg, e) : 0;
	if (r == 0 && spec->rdt.given)
		r = rdt_new(&spec->rdt, s->id, NULL, &c->rdt, e);
	/* Only a new process needs the filter. */
	if (r == 0 && ret_spec && spec->seccomp)
		r = seccomp_prog_compile(spec->seccomp, SECCOMP_CACHE, &c->seccomp, e);
	hooks_set_poststart(c, spec);
	hooks_copy(&c->poststop, &spec->hooks[OCI_HOOK_POSTSTOP]);
	c->annotations = json_ref(spec->annotations);
	c->personality = xstrdup(spec->personality);
	if (spec->seccomp)
		listener_copy(c, spec->seccomp);
	if (r < 0) {
		rt_free(c);
		return r;
	}
	*ret = c;
	if (ret_spec)
		*ret_spec = TAKE_PTR(spec);
	return 0;
}

struct json *state_object(const struct state *s)
{
	struct json *o = json_object();
	const char *status = state_status(s);

	json_set_str(o, "ociVersion", "1.2.0");
	json_set_str(o, "id", s->id);
	json_set_str(o, "status", status);
	json_set_int(o, "pid", streq(status, "stopped") ? 0 : s->pid);
	json_set_str(o, "bundle", s->bundle);
	json_set_str(o, "rootfs", json_get_str(s->doc, "rootfs"));
	json_set_str(o, "created", s->created);
	if (json_get(s->doc, "annotations"))
		json_set(o, "annotations", json_ref(json_get(s->doc, "annotations")));
	return o;
}

char *state_owner(const struct state *s)
{
	struct stat st;

	if (stat(s->dir, &st) < 0)
		return xstrdup("");
	if (st.st_uid == 0)
		return xstrdup("root");
	return xasprintf("#%u", st.st_uid);
}
