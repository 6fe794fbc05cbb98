/* AppArmor and SELinux: what the process becomes with its exec. The label is written through a private
 * procfs: never into what the image calls /proc (CVE-2019-16884, CVE-2025-52881). In a user namespace the
 * kernel refuses one where parts of the container's are masked; the host's does, opened by the caller. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define XATTR_LABEL "security.selinux"

bool lsm_apparmor_on(void)
{
	_cleanup_free_ char *line = NULL;

	return fs_read_line(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", &line) == 0 &&
	       line[0] == 'Y';
}

bool lsm_selinux_on(void)
{
	struct statfs sf;

	return statfs("/sys/fs/selinux", &sf) == 0 && sf.f_type == SELINUX_MAGIC;
}

static bool profile_wanted(const struct oci_process *p)
{
	return !str_empty(p->apparmor) && !streq(p->apparmor, "unconfined");
}

/* The kernel knows what its policy takes. Who may not ask hears of it when the label is used. */
static int check_label(const char *key, const char *label, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;

	if (!lsm_selinux_on())
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "%s: a label is given, but SELinux is not enabled on this host", key);
	fd = open("/sys/fs/selinux/context", O_RDWR | O_CLOEXEC);
	if (fd < 0 || write(fd, label, strlen(label) + 1) >= 0 || errno != EINVAL)
		return 0;
	return err_msg(e, ERR_INVALID, -EINVAL, "%s: \"%s\" is no label of this host's SELinux policy", key,
		       label);
}

int lsm_check(const struct oci_process *p, const char *mount_label, struct err *e)
{
	int r = 0;

	if (profile_wanted(p) && !lsm_apparmor_on())
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "process.apparmorProfile: \"%s\" is given, but AppArmor is not enabled on "
			       "this host",
			       p->apparmor);
	if (!str_empty(p->selinux))
		r = check_label("process.selinuxLabel", p->selinux, e);
	if (r == 0 && !str_empty(mount_label))
		r = check_label("linux.mountLabel", mount_label, e);
	return r;
}

static bool has_mqueue(const struct oci_spec *s)
{
	for (size_t i = 0; i < s->mounts.n; i++)
		if (streq(s->mounts.v[i].type, "mqueue"))
			return true;
	return false;
}

int lsm_label_queues(const struct oci_spec *s, struct err *e)
{
	const char *label = s->mount_label;
	_cleanup_close_ int mnt = -EBADF;
	_cleanup_free_ char *now = NULL;
	struct fd_path path;
	size_t len;

	if (str_empty(label) || !has_mqueue(s))
		return 0;
	mnt = mount_new_fs("mqueue", "mqueue", NULL, 0, e);
	if (mnt < 0)
		return mnt;
	path = fd_proc_path(mnt);
	len = strlen(label);
	now = xmalloc(len + 1);
	/* With the NUL, or without. Another container that has the namespace too may have given it. */
	if (getxattr(path.s, XATTR_LABEL, now, len + 1) >= (ssize_t)len && !memcmp(now, label, len))
		return 0;
	return setxattr(path.s, XATTR_LABEL, label, len, 0) < 0
		       ? err_set(e, ERR_SYSTEM, -errno, "linux.mountLabel: cannot label the message queues")
		       : 0;
}

static int open_attr(int proc, const char *name)
{
	struct open_how how = {
		.flags = O_WRONLY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_free_ char *path = xasprintf("thread-self/attr/%s", name);
	int fd = (int)syscall(SYS_openat2, proc, path, &how, sizeof how);

	return fd < 0 ? -errno : fd;
}

bool lsm_wanted(const struct oci_process *p)
{
	return profile_wanted(p) || !str_empty(p->selinux);
}

int lsm_open(const struct oci_process *p, int host_proc, int *ret, struct err *e)
{
	_cleanup_close_ int made = -EBADF;
	int fd = -ENOENT, proc = host_proc;

	*ret = -EBADF;
	if (!lsm_wanted(p))
		return 0;
	if (proc < 0)
		proc = made = mount_new_fs("proc", "proc", NULL, 0, e);
	if (proc < 0)
		return proc;
	/* The older file is shared by all modules; AppArmor has its own since Linux 5.8. */
	if (profile_wanted(p))
		fd = open_attr(proc, "apparmor/exec");
	if (fd == -ENOENT)
		fd = open_attr(proc, "exec");
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "cannot open the security attributes of the process");
	*ret = fd;
	return 0;
}

int lsm_apply(const struct oci_process *p, int fd, struct err *e)
{
	bool apparmor = profile_wanted(p);
	_cleanup_free_ char *text = NULL;
	int r;

	if (fd < 0)
		return 0;
	text = apparmor ? xasprintf("exec %s", p->apparmor) : xstrdup(p->selinux);
	r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot set the %s '%s'",
			       apparmor ? "AppArmor profile" : "SELinux label",
			       apparmor ? p->apparmor : p->selinux)
		     : 0;
}
