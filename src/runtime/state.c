#include "runtime/cli.h"
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
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONFIG_MAX (16u << 20)

static const char *const status_names[] = {
	[RT_CREATING] = "creating", [RT_CREATED] = "created", [RT_RUNNING] = "running", [RT_PAUSED] = "paused",
	[RT_STOPPED] = "stopped",
};

const char *rt_status_name(enum rt_status s)
{
	return status_names[s];
}

void state_done(struct state *s)
{
	free(s->id);
	free(s->bundle);
	free(s->rootfs);
	free(s->created);
	free(s->cgroup);
	json_free(s->annotations);
	fd_close(&s->dir);
	proc_done(&s->init);
	*s = (struct state)STATE_INIT;
}

static int check_id(const char *id, struct err *e)
{
	return rt_id_valid(id) ? 0 : err_msg(e, ERR_INVALID, 0, "invalid container id: '%s'", id);
}

int state_new(const struct cli *cli, const char *id, struct state *ret, struct err *e)
{
	_cleanup_close_ int dir = -EBADF;
	_cleanup_free_ char *path = path_join(cli->root, id);
	int r = check_id(id, e);

	if (r < 0)
		return r;
	if (mkdir(path, 0700) < 0 && errno == ENOENT) {
		r = fs_mkdir_p(cli->root, 0700);
		if (r == 0 && mkdir(path, 0700) < 0)
			r = -errno;
	} else if (errno == EEXIST && fs_exists(path)) {
		dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		/* A directory without a state is what a crash between the two left. */
		r = dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) == 0 && faccessat(dir, "state.json", F_OK, 0) < 0 ? 0 : -EEXIST;
	}
	if (r == -EEXIST)
		return err_msg(e, ERR_CONFLICT, r, "container with given ID already exists");
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot make the state directory '%s'", path);
	if (dir < 0)
		dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || flock(dir, LOCK_EX) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot make the state directory '%s'", path);
	ret->id = xstrdup(id);
	ret->dir = TAKE_FD(dir);
	ret->created = time_rfc3339(now_real_ns());
	return 0;
}

/* Fields 3 (state) and 22 (start time) of /proc/PID/stat; the name before them may hold anything but a last ')'. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_start)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", pid), *text = NULL;
	unsigned long long start;
	const char *p;
	int r = fs_read_line(AT_FDCWD, path, &text);

	if (r < 0)
		return r;
	p = strrchr(text, ')');
	if (!p || sscanf(p, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", ret_state,
			 &start) != 2)
		return -EBADMSG;
	*ret_start = start;
	return 0;
}

int state_set_init(struct state *s, const struct proc *init, struct err *e)
{
	char c;
	int r = read_stat(init->pid, &c, &s->pid_start), fd = fcntl(init->pidfd, F_DUPFD_CLOEXEC, 3);

	if (r == 0 && fd < 0)
		r = -errno;
	if (r < 0) {
		fd_close(&fd);
		return err_set(e, ERR_SYSTEM, r, "cannot read the state of the container's init");
	}
	s->pid = init->pid;
	s->init = (struct proc){ init->pid, fd };
	return 0;
}

int state_save(const struct state *s, struct err *e)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *text = NULL;
	int r;

	json_set_str(o, "id", s->id);
	json_set_str(o, "bundle", s->bundle);
	json_set_str(o, "rootfs", s->rootfs);
	json_set_str(o, "created", s->created);
	json_set_str(o, "cgroup", s->cgroup);
	json_set_int(o, "pid", s->pid);
	json_set(o, "pidStart", json_new_uint(s->pid_start));
	json_set_bool(o, "ownPidNs", s->own_pid_ns);
	json_set(o, "annotations", s->annotations ? json_copy(s->annotations) : NULL);
	text = json_dump(o);
	r = fs_write_atomic(s->dir, "state.json", text, strlen(text), 0600, false);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot write the state of container '%s'", s->id) : 0;
}

static int keep_object(const struct json *v, void *target, const char *path, struct err *e)
{
	*(struct json **)target = json_copy(v);
	return 0;
}

static const struct json_field state_fields[] = {
	{ "id", JK_STR, offsetof(struct state, id), .required = true },
	{ "bundle", JK_STR, offsetof(struct state, bundle), .required = true },
	{ "rootfs", JK_STR, offsetof(struct state, rootfs) },
	{ "created", JK_STR, offsetof(struct state, created), .required = true },
	{ "cgroup", JK_STR, offsetof(struct state, cgroup), .required = true },
	{ "pid", JK_I64, offsetof(struct state, pid), .required = true },
	{ "pidStart", JK_U64, offsetof(struct state, pid_start), .required = true },
	{ "ownPidNs", JK_BOOL, offsetof(struct state, own_pid_ns) },
	{ "annotations", JK_CALL, offsetof(struct state, annotations), .call = keep_object },
	JSON_FIELD_END,
};

/* The pidfd first, then the look: what is seen belongs to the process that is held. */
static void find_init(struct state *s)
{
	uint64_t start;
	char c;

	if (s->pid <= 0 || s->pid > INT32_MAX || proc_open((pid_t)s->pid, &s->init) < 0)
		return;
	if (read_stat((pid_t)s->pid, &c, &start) < 0 || start != s->pid_start || c == 'Z' || c == 'X')
		proc_done(&s->init);
}

int state_load(const struct cli *cli, const char *id, bool lock, struct state *ret, struct err *e)
{
	_cleanup_state_ struct state s = STATE_INIT;
	_cleanup_free_ char *path = path_join(cli->root, id), *text = NULL;
	_cleanup_json_ struct json *j = NULL;
	size_t n;
	int r = check_id(id, e);

	if (r < 0)
		return r;
	s.dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s.dir >= 0 && lock && RETRY(flock(s.dir, LOCK_EX)) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot lock container '%s'", id);
	r = s.dir < 0 ? -errno : fs_read(s.dir, "state.json", CONFIG_MAX, &text, &n);
	if (r == -ENOENT)
		return err_msg(e, ERR_NOT_FOUND, r, "container \"%s\" does not exist", id);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot read the state of container '%s'", id);
	r = json_parse(text, n, &j, e);
	if (r == 0)
		r = json_dispatch(j, state_fields, &s, "", e);
	if (r < 0)
		return err_wrap(e, r, "state of container '%s'", id);
	find_init(&s);
	*ret = s;
	s = (struct state)STATE_INIT;
	return 0;
}

void state_remove(const struct cli *cli, const char *id)
{
	_cleanup_close_ int root = open(cli->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root >= 0)
		(void)fs_rm_rf(root, id);
}

enum rt_status state_status(const struct state *s)
{
	_cleanup_(cgroup_freep) struct cgroup *cg = NULL;

	if (!proc_alive(&s->init))
		return RT_STOPPED;
	if (faccessat(s->dir, "start.sock", F_OK, 0) == 0)
		return RT_CREATED;
	return cgroup_new(s->cgroup, &cg, NULL) == 0 && cgroup_frozen(cg) ? RT_PAUSED : RT_RUNNING;
}

struct json *state_json(const struct state *s)
{
	enum rt_status st = state_status(s);
	struct json *o = json_object();

	json_set_str(o, "ociVersion", "1.2.0");
	json_set_str(o, "id", s->id);
	json_set_int(o, "pid", st == RT_STOPPED ? 0 : s->pid);
	json_set_str(o, "status", rt_status_name(st));
	json_set_str(o, "bundle", s->bundle);
	json_set_str(o, "rootfs", s->rootfs);
	json_set_str(o, "created", s->created);
	if (s->annotations)
		json_set(o, "annotations", json_copy(s->annotations));
	json_set_str(o, "owner", "");
	return o;
}

int state_container(const struct state *s, const struct oci_spec *spec, struct rt_container **ret, struct err *e)
{
	struct rt_container *c = rt_container_new(s->id, s->bundle);
	int r = cgroup_new(s->cgroup, &c->cg, e);

	if (r == 0 && s->init.pidfd >= 0) {
		c->init = (struct proc){ s->init.pid, fcntl(s->init.pidfd, F_DUPFD_CLOEXEC, 3) };
		if (c->init.pidfd < 0)
			r = err_set(e, ERR_SYSTEM, -errno, "cannot hold the container's init");
	}
	if (r < 0) {
		rt_free(c);
		return r;
	}
	c->outlive = true;
	c->own_pid_ns = s->own_pid_ns;
	if (spec) {
		hooks_copy(&c->poststart, &spec->hooks[OCI_HOOK_POSTSTART]);
		hooks_copy(&c->poststop, &spec->hooks[OCI_HOOK_POSTSTOP]);
	}
	c->annotations = s->annotations ? json_copy(s->annotations) : NULL;
	*ret = c;
	return 0;
}

int state_read_spec(const struct state *s, struct oci_spec **ret, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	size_t n;
	int r = fs_read(s->dir, "config.json", CONFIG_MAX, &text, &n);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot read the configuration of container '%s'", s->id);
	return oci_spec_parse(text, n, ret, e);
}

/* The state directory's path may be longer than a socket's name can be: it is reached by its descriptor. */
static int gate_socket(const struct state *s, struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(sun->sun_path, sizeof sun->sun_path, "/proc/self/fd/%d/start.sock", s->dir);
	return fd < 0 ? -errno : fd;
}

int state_listen(const struct state *s, struct err *e)
{
	struct sockaddr_un sun;
	_cleanup_close_ int fd = gate_socket(s, &sun);

	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "cannot make the start socket");
	(void)unlinkat(s->dir, "start.sock", 0);
	if (bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0 || listen(fd, 1) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot make the start socket");
	return TAKE_FD(fd);
}

int state_open_gate(const struct state *s, struct err *e)
{
	struct sockaddr_un sun;
	_cleanup_close_ int fd = gate_socket(s, &sun);

	if (fd < 0 || RETRY(connect(fd, (struct sockaddr *)&sun, sizeof sun)) < 0)
		return err_set(e, ERR_SYSTEM, fd < 0 ? fd : -errno, "cannot reach the container's init");
	return TAKE_FD(fd);
}

int state_write_pid_file(const char *path, pid_t pid, struct err *e)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%d", pid);
	int r = path ? fs_write_atomic(AT_FDCWD, path, text, (size_t)n, 0644, false) : 0;

	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot write pid file '%s'", path) : 0;
}
