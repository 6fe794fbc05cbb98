/* Theory of operation.
 *
 * virtiofsd gets a mount namespace made by us in which what it may serve is bind-mounted on an empty
 * tmpfs, read-only if asked: so a single file can be shared without its neighbours, and read-only does
 * not depend on the guest. virtiofsd then pivots into that directory itself (sandbox=namespace) and
 * filters its system calls. It listens on a descriptor of ours; we connect and give QEMU the other end,
 * so no socket has a name that a tenant could reach. */
#include "vm/share.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/mount.h"
#include "base/sock.h"
#include "base/strv.h"
#include "base/userns.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define FD_LISTEN 10
#define VIEW "/tmp/share"	/* in the mount namespace of the program */

static const char *const programs[] = {"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd",
				       "/usr/lib/virtiofsd"};

/* The classic program takes -o options; its successor in Rust has flags. */
static char **arguments(const char *program)
{
	char **v = NULL;

	strv_add(&v, program);
	strv_addf(&v, "--fd=%d", FD_LISTEN);
	if (str_starts(program, "/usr/lib/qemu/"))
		/* The limit of open files is set by us: it insists on more than an unprivileged root may
		 * have. */
		strv_adds(&v, "--rlimit-nofile=0", "-o",
			  "source=" VIEW ",sandbox=namespace,cache=auto,posix_lock,flock,"
			  "xattr,announce_submounts,log_level=warn",
			  NULL);
	else
		strv_adds(&v, "--shared-dir=" VIEW, "--sandbox=namespace", "--cache=auto", "--xattr",
			  "--announce-submounts", "--log-level=warn", NULL);
	return v;
}

/* What is served, and how. */
struct view {
	const char *path, *sub;		/* sub: inside path; NULL = all of it */
	bool read_only, read_only_below, recursive, slave;
	char *idmap;			/* see oci_id_maps_parse(); NULL = none */
};

static void view_parse(struct view *v, const char *path, const char *words)
{
	_cleanup_strv_ char **w = NULL;
	const char *sub = strstr(words, ",sub=");
	_cleanup_free_ char *flags = xstrndup(words, sub ? (size_t)(sub - words) : strlen(words));

	w = strv_split(flags, ",");
	*v = (struct view){
		.path = path,
		.sub = sub ? sub + strlen(",sub=") : NULL,
		.read_only = !strv_has(w, "rw"),	/* an unknown word opens nothing */
		.read_only_below = !strv_has(w, "rw") && !strv_has(w, "ro"),
		.recursive = !strv_has(w, "nonrec"),
		.slave = strv_has(w, "slave"),
	};
	for (size_t i = 0; i < strv_len(w); i++)
		if (str_starts(w[i], "idmap="))
			v->idmap = xstrdup(w[i] + strlen("idmap="));
}

/* --- mapped ids --- */

static int write_maps(pid_t pid, void *arg)
{
	const struct oci_id_maps *maps = arg;
	int r = 0;

	for (size_t i = 0; r == 0 && i < 2; i++) {
		_cleanup_free_ char *text = oci_id_maps_text(&maps[i]);
		_cleanup_free_ char *path = xasprintf("/proc/%d/%s", pid, i ? "gid_map" : "uid_map");

		r = fs_write(AT_FDCWD, path, text);
	}
	return r;
}

/* The source as an idmapped mount, attached to target. What the guest writes comes to the disk by the host's
 * kernel, which maps it: the guest need not know. */
static int bind_mapped(const struct view *v, int src, const char *target)
{
	struct oci_id_maps maps[2] = { { 0 } };
	_cleanup_close_ int mnt = -EBADF, userns = -EBADF;
	int r = oci_id_maps_parse(v->idmap, NULL, NULL, &maps[0], &maps[1]);

	if (r == 0)
		r = userns = userns_open(write_maps, maps);
	free(maps[0].v);
	free(maps[1].v);
	if (r < 0)
		return r;
	mnt = open_tree(src, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
				 (v->recursive ? AT_RECURSIVE : 0));
	if (mnt < 0)
		return -errno;
	r = mount_set_idmap(mnt, false, userns);
	if (r < 0)
		return r;
	return move_mount(mnt, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

static int bind_plain(const struct view *v, int src, const char *target)
{
	unsigned long flags = MS_BIND | (v->recursive ? MS_REC : 0);

	return mount(fd_proc_path(src).s, target, NULL, flags, NULL) < 0 ? -errno : 0;
}

/* The source is held by descriptor: the tmpfs may cover its path. A file needs a file to be mounted on. */
static int bind_source(const struct view *v, int src, const char *target, bool directory)
{
	_cleanup_close_ int mnt = -EBADF;
	int r;

	if (!directory) {
		int fd = open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

		if (fd < 0)
			return -errno;
		close(fd);
	}
	r = v->idmap ? bind_mapped(v, src, target) : bind_plain(v, src, target);
	if (r < 0)
		return r;
	if (!v->slave && mount(NULL, target, NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		return -errno;
	if (!v->read_only)
		return 0;
	mnt = open(target, O_PATH | O_CLOEXEC);
	return mnt < 0 ? -errno : mount_set(mnt, v->read_only_below, MOUNT_ATTR_RDONLY, 0, 0);
}

static int open_source(const struct view *v)
{
	_cleanup_close_ int fd = open(v->path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return v->sub ? fs_open_in_root(fd, v->sub, O_PATH, 0) : TAKE_FD(fd);
}

static int serve_view(const struct view *v)
{
	_cleanup_free_ char *target = NULL;
	_cleanup_close_ int src = -EBADF;
	struct stat st;
	int r;

	/* Slave: what the host unmounts goes here too, else we would hold it. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return -errno;
	src = open_source(v);
	if (src < 0)
		return src;
	if (fstat(src, &st) < 0 ||
	    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=700") < 0 ||
	    mkdir(VIEW, 0755) < 0)
		return -errno;
	target = S_ISDIR(st.st_mode) ? xstrdup(VIEW) : path_join(VIEW, path_basename(v->sub ?: v->path));
	r = bind_source(v, src, target, S_ISDIR(st.st_mode));
	if (r < 0 || S_ISDIR(st.st_mode))
		return r;
	/* Beside a single file nothing can be made. */
	return mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0 ? -errno
												  : 0;
}

struct serve {
	const char *program;
	const struct cgroup *cgroup;
	struct view view;
	char *const *argv;
	int listen_fd, errors_fd, report;
};

static int prepare(const struct serve *s)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct rlimit nofile;
	int r;

	if (s->cgroup && (r = cgroup_enter(s->cgroup)) < 0)
		return r;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getrlimit(RLIMIT_NOFILE, &nofile) < 0)
		return -errno;
	nofile.rlim_cur = nofile.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &nofile);
	r = serve_view(&s->view);
	if (r < 0)
		return r;
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(s->errors_fd, 2) < 0 ||
	    dup2(s->listen_fd, FD_LISTEN) < 0)
		return -errno;
	umask(0);
	r = fd_cloexec_from(3);
	return r < 0 ? r : fd_set_cloexec(FD_LISTEN, false);
}

static _noreturn_ void child(struct serve *s)
{
	char *envp[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int r;

	/* Out of the way of the numbers that the program expects. */
	s->listen_fd = fcntl(s->listen_fd, F_DUPFD_CLOEXEC, 100);
	s->errors_fd = fcntl(s->errors_fd, F_DUPFD_CLOEXEC, 100);
	s->report = fcntl(s->report, F_DUPFD_CLOEXEC, 100);
	r = prepare(s);
	if (r == 0) {
		execve(s->program, s->argv, envp);
		r = -errno;
	}
	(void)!write(s->report, &r, sizeof r);
	_exit(127);
}

/* A listening socket without a name, and a connection to it: autobound in the abstract space. */
static int connected_listener(int *ret_listen, int *ret_conn)
{
	_cleanup_close_ int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t n = sizeof sun;

	if (l < 0 || c < 0)
		return -errno;
	if (bind(l, (struct sockaddr *)&sun, sizeof(sa_family_t)) < 0 || listen(l, 1) < 0 ||
	    getsockname(l, (struct sockaddr *)&sun, &n) < 0 || connect(c, (struct sockaddr *)&sun, n) < 0)
		return -errno;
	*ret_listen = TAKE_FD(l);
	*ret_conn = TAKE_FD(c);
	return 0;
}

static int start(struct share *s, struct serve *serve, struct loop *l)
{
	_cleanup_close_ int listen_fd = -EBADF, conn = -EBADF, errors = -EBADF, report_r = -EBADF,
			    report_w = -EBADF;
	int p[2], child_err = 0, r = connected_listener(&listen_fd, &conn);

	if (r == 0)
		r = output_open(&s->errors, l, "virtiofsd", LOG_LVL_WARN, &errors);
	if (r == 0)
		r = fd_pipe(p, 0);
	if (r < 0)
		return r;
	report_r = p[0];
	report_w = p[1];
	serve->listen_fd = listen_fd;
	serve->errors_fd = errors;
	serve->report = report_w;
	r = proc_fork(&s->proc);
	if (r == 0)
		child(serve);
	if (r < 0)
		return r;
	fd_close(&report_w);
	if (fd_read_full(report_r, &child_err, sizeof child_err) == sizeof child_err)
		return child_err;
	s->fd = TAKE_FD(conn);
	return 0;
}

int share_start(struct share *s, struct loop *l, const char *path, const char *words,
		const struct cgroup *cgroup, struct err *e)
{
	struct serve serve = { .cgroup = cgroup };
	_cleanup_strv_ char **argv = NULL;
	int r;

	view_parse(&serve.view, path, words);

	for (size_t i = 0; i < ARRAY_SIZE(programs) && !serve.program; i++)
		if (access(programs[i], X_OK) == 0)
			serve.program = programs[i];
	if (!serve.program)
		return err_msg(e, ERR_UNAVAILABLE, -ENOENT,
			       "volumes of hyperv containers need virtiofsd: install "
			       "qemu-system-common");
	serve.argv = argv = arguments(serve.program);
	r = start(s, &serve, l);
	free(serve.view.idmap);
	if (r < 0) {
		share_stop(s);
		if (r == -ENOENT && serve.view.sub)	/* as the runtime says it of a process */
			return err_set(e, ERR_SYSTEM, r, "cannot access path '%s' in '%s'", serve.view.sub,
				       path);
		return err_set(e, ERR_SYSTEM, r, "share '%s%s%s' with the virtual machine", path,
			       serve.view.sub ? "/" : "", serve.view.sub ?: "");
	}
	return 0;
}

void share_stop(struct share *s)
{
	fd_close(&s->fd);
	if (s->proc.pidfd >= 0) {
		(void)proc_kill(&s->proc, SIGKILL);
		(void)proc_wait(&s->proc, NULL);
	}
	proc_done(&s->proc);
	output_close(&s->errors);
}
