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
#include "base/sock.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define FD_LISTEN 10

static const char *const programs[] = { "/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd" };

/* The classic program takes -o options; its successor in Rust has flags. */
static char **arguments(const char *program)
{
	char **v = NULL;

	strv_add(&v, program);
	strv_addf(&v, "--fd=%d", FD_LISTEN);
	if (str_starts(program, "/usr/lib/qemu/"))
		strv_adds(&v, "-o", "source=/tmp/share,sandbox=namespace,cache=auto,posix_lock,flock,xattr,"
						  "announce_submounts", NULL);
	else
		strv_adds(&v, "--shared-dir=/tmp/share", "--sandbox=namespace", "--cache=auto", "--xattr",
					    "--announce-submounts", NULL);
	return v;
}

static int serve_view(const char *path, bool read_only)
{
	struct stat st;
	_cleanup_free_ char *target = xstrdup("/tmp/share");

	if (stat(path, &st) < 0)
		return -errno;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return -errno;
	/* The source is held by descriptor: the tmpfs may cover it. */
	_cleanup_close_ int src = open(path, O_PATH | O_CLOEXEC);

	if (src < 0 || mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "size=64k,mode=700") < 0 || mkdir("/tmp/share", 0755) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode)) {
		int fd;

		free(target);
		target = xasprintf("/tmp/share/%s", path_basename(path));
		fd = open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	if (mount(fd_proc_path(src).s, target, NULL, MS_BIND | MS_REC, NULL) < 0)
		return -errno;
	if (read_only && mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return -errno;
	return 0;
}

static _noreturn_ void child(const char *program, char *const *argv, const char *path, bool read_only, int listen_fd, int report)
{
	char *envp[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int r, high = fcntl(report, F_DUPFD_CLOEXEC, 100);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = serve_view(path, read_only);
	if (r == 0 && dup2(listen_fd, FD_LISTEN) < 0)
		r = -errno;
	if (r == 0)
		r = fd_cloexec_from(3);
	if (r == 0)
		r = fd_set_cloexec(FD_LISTEN, false);
	if (r == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (null >= 0 && (dup2(null, 0) < 0 || dup2(null, 1) < 0))
			r = -errno;
	}
	if (r == 0) {
		execve(program, argv, envp);
		r = -errno;
	}
	(void)!write(high, &r, sizeof r);
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

int share_start(struct share *s, const char *path, bool read_only, struct err *e)
{
	_cleanup_close_ int listen_fd = -EBADF, conn = -EBADF, report_r = -EBADF, report_w = -EBADF;
	_cleanup_strv_ char **argv = NULL;
	const char *program = NULL;
	int p[2], r, child_err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(programs) && !program; i++)
		if (access(programs[i], X_OK) == 0)
			program = programs[i];
	if (!program)
		return err_msg(e, ERR_UNAVAILABLE, -ENOENT, "volumes of hyperv containers need virtiofsd: install "
			       "qemu-system-common");
	argv = arguments(program);
	r = connected_listener(&listen_fd, &conn);
	if (r == 0)
		r = fd_pipe(p, 0);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "share '%s'", path);
	report_r = p[0];
	report_w = p[1];
	r = proc_fork(&s->proc);
	if (r == 0)
		child(program, argv, path, read_only, listen_fd, report_w);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "share '%s'", path);
	fd_close(&report_w);
	if (fd_read_full(report_r, &child_err, sizeof child_err) == sizeof child_err) {
		share_stop(s);
		return err_set(e, ERR_SYSTEM, child_err, "share '%s'", path);
	}
	s->fd = TAKE_FD(conn);
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
}
