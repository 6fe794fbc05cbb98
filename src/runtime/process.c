#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

static char root_dir[] = "/", *no_args[] = { NULL };
const struct oci_process process_none = { .args = no_args, .cwd = root_dir };

void process_give_stdio(const int stdio[3], uid_t uid)
{
	struct stat st;

	for (int i = 0; i < 3; i++) {
		int fd = stdio[i];

		if (fstat(fd, &st) < 0 || st.st_uid == uid)
			continue;
		if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
			continue;
		if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd)))
			(void)!fchown(fd, uid, (gid_t)-1);
	}
}

static int set_stdio(const struct process_plan *pp, struct err *e)
{
	int from[3];	/* closed by the exec */

	/* First clear of 0..2, then onto them: a source may itself be one of the three. */
	for (int i = 0; i < 3; i++) {
		from[i] = fcntl(pp->stdio[i], F_DUPFD_CLOEXEC, 3);
		if (from[i] < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot use standard stream %d", i);
	}
	for (int i = 0; i < 3; i++)
		if (dup2(from[i], i) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot set standard stream %d", i);
	if (pp->p->terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot take the terminal");
	return 0;
}

/* After a chdir through a leaked descriptor the kernel's getcwd says "(unreachable)" (CVE-2024-21626). */
static int check_cwd(const char *cwd, struct err *e)
{
	char buf[PATH_MAX];
	long n = syscall(SYS_getcwd, buf, sizeof buf);

	if (n < 0 && errno == ENOENT)
		return err_msg(e, ERR_INVALID, -EPERM,
			       "current working directory \"%s\" is outside of the container", cwd);
	if (n < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot read the working directory");
	if (buf[0] != '/')
		return err_msg(e, ERR_INVALID, -EPERM,
			       "current working directory \"%s\" is outside of the container", cwd);
	return 0;
}

static int bad_cwd(const char *cwd, int r, struct err *e)
{
	return err_set(e, r == -EACCES ? ERR_CMD_NOT_EXECUTABLE : ERR_CMD_NOT_FOUND, r,
		       "chdir to cwd (\"%s\") set in config.json failed", cwd);
}

static int enter(const struct process_plan *pp, struct err *e)
{
	static const int stdio[] = { 0, 1, 2 };
	const struct oci_process *p = pp->p;
	int r = chdir(p->cwd) < 0 ? -errno : 0;
	bool again = r == -EACCES || r == -EPERM, kept;

	if (r < 0 && !again)
		return bad_cwd(p->cwd, r, e);
	process_give_stdio(stdio, p->user.uid);
	r = caps_prepare(&pp->caps, &p->user, &kept, e);
	if (r < 0)
		return r;
	/* A directory that root may not enter (NFS, FUSE) may be the user's own. */
	if (again && chdir(p->cwd) < 0)
		return bad_cwd(p->cwd, -errno, e);
	if (pp->seccomp->len && !kept && !p->no_new_privs)
		return err_msg(e, ERR_SYSTEM, -EPERM,
			       "cannot load the seccomp filter: needs CAP_SYS_ADMIN or noNewPrivileges");
	return check_cwd(p->cwd, e);
}

int *process_keep_fds(const struct process_plan *pp, const int *fds, size_t n, size_t *ret_n)
{
	size_t total = n + 4 + (size_t)pp->preserve_fds;
	int *keep = new_array(int, total);

	memcpy(keep, fds, n * sizeof *keep);
	memcpy(keep + n, pp->stdio, sizeof pp->stdio);
	keep[n + 3] = pp->host_proc;
	for (int i = 0; i < pp->preserve_fds; i++)
		keep[n + 4 + (size_t)i] = 3 + i;
	*ret_n = total;
	return keep;
}

int process_prepare(struct process_plan *pp, char **ret_path, struct err *e)
{
	const struct oci_process *p = pp->p;
	int r;

	if (setsid() < 0 && errno != EPERM)
		return err_set(e, ERR_SYSTEM, -errno, "cannot make a session");
	r = set_stdio(pp, e);
	/* Only then: a small limit of files must not keep the streams from their places. */
	if (r == 0)
		r = rlimits_apply(&p->rlimits, e);
	if (r < 0)
		return r;
	if (pp->personality && personality(streq(pp->personality, "LINUX32") ? PER_LINUX32 : PER_LINUX) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot set the personality");
	r = sched_apply(p, e);
	if (r == 0)
		r = lsm_open(p, pp->host_proc, &pp->lsm_fd, e);
	fd_close(&pp->host_proc);
	if (r < 0)
		return r;
	umask(p->user.umask ? (mode_t)(*p->user.umask & 0777) : 022);
	r = enter(pp, e);
	if (r < 0)
		return r;
	/* Changing credentials has cleared it. */
	if (!pp->outlive && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot bind the process to its supervisor");
	r = p->args[0] ? command_lookup(p, ret_path, e) : 0;
	if (r < 0)
		return r;
	if (p->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot set no_new_privs");
	r = fd_cloexec_from(3);
	for (int fd = 3; r == 0 && fd < 3 + pp->preserve_fds; fd++)
		r = fd_set_cloexec(fd, false);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot close descriptors") : 0;
}

static int exec_failed(const struct oci_process *p, const char *path, int r, struct err *e)
{
	const char *cause = r == -ENOEXEC  ? "exec format error"
			    : r == -ENOENT ? "no such file or directory"
			    : r == -EACCES ? "permission denied"
					   : strerror(-r);
	/* It may be that the policy does not let us change to it, which only the kernel's log says. */
	bool label = !str_empty(p->selinux) && (r == -EACCES || r == -EPERM);

	return err_msg(e, r == -ENOENT ? ERR_CMD_NOT_FOUND : ERR_CMD_NOT_EXECUTABLE, r, "exec %s: %s%s%s",
		       path, cause, label ? " as " : "", label ? p->selinux : "");
}

int process_exec(const struct process_plan *pp, const char *path, struct err *e)
{
	char *empty[] = { NULL };
	int r;

	if (!path)
		return err_msg(e, ERR_INVALID, 0, "process: missing, there is nothing to start");
	r = lsm_apply(pp->p, pp->lsm_fd, e);

	if (r == 0)
		r = rlimits_apply_files(&pp->p->rlimits, e);
	if (r < 0)
		return r;
	r = pp->seccomp->len ? seccomp_prog_load(pp->seccomp) : 0;
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot load the seccomp filter");
	if (seccomp_prog_notifies(pp->seccomp)) {
		r = sync_send(pp->sync, SYNC_LISTENER, 0, r);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "cannot pass the seccomp listener on");
	}
	/* From here on the filter holds: only capset and execve are needed, which every usable profile
	 * allows (sendmsg too, for a listener). */
	r = caps_finish(&pp->caps);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot set capabilities");
	execve(path, pp->p->args, pp->p->env ? pp->p->env : empty);
	return exec_failed(pp->p, path, -errno, e);
}
