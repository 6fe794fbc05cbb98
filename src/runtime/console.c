/* The container's terminal. The slave comes from the master by ioctl, never by its name, which the container
 * could redirect (CVE-2025-52565). */
#include "runtime/internal.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/sock.h"
#include "base/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#define DEVPTS_MAGIC 0x1cd1

static int open_master(int rootfd)
{
	_cleanup_close_ int pts = fs_open_in_root(rootfd, "/dev/pts", O_PATH | O_DIRECTORY, 0), fd = -EBADF;
	struct statfs sf;
	struct stat st;
	int unlocked = 0;

	if (pts < 0)
		return pts;
	fd = fs_open_beneath(pts, "ptmx", O_RDWR | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &sf) < 0)
		return -errno;
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2) || sf.f_type != DEVPTS_MAGIC)
		return -ENOTTY;
	if (ioctl(fd, TIOCSPTLCK, &unlocked) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int console_open(int rootfd, const struct oci_process *p, int *ret_master, int *ret_slave, struct err *e)
{
	_cleanup_close_ int master = open_master(rootfd), slave = -EBADF;

	if (master < 0)
		return err_set(e, ERR_SYSTEM, master, "cannot open a terminal at /dev/pts/ptmx");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot open the terminal's other end");
	if (p->rows && p->cols)
		(void)tty_set_size(master, p->rows, p->cols);
	(void)!fchown(slave, p->user.uid, (gid_t)-1);
	*ret_master = TAKE_FD(master);
	*ret_slave = TAKE_FD(slave);
	return 0;
}

int console_bind(int rootfd, int slave, struct err *e)
{
	_cleanup_close_ int dev = fs_open_in_root(rootfd, "/dev", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	_cleanup_close_ int target = -EBADF, mnt = -EBADF;
	struct stat st;
	int r;

	if (dev < 0)
		return err_set(e, ERR_SYSTEM, dev, "cannot open /dev");
	target = openat(dev, "console", O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0620);
	if (target < 0 && errno == EEXIST)
		target = openat(dev, "console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0 || fstat(target, &st) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot make /dev/console");
	if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode))
		return err_msg(e, ERR_INVALID, -ELOOP, "/dev/console of the image is not a file");
	mnt = mount_clone(slave, false);
	r = mnt < 0 ? mnt : mount_attach(mnt, target);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot mount /dev/console") : 0;
}

int console_send(const char *socket_path, int master, struct err *e)
{
	static const char name[] = "/dev/ptmx";		/* what runc's receivers print */
	_cleanup_close_ int fd = sock_connect_unix(socket_path);
	ssize_t n = fd < 0 ? fd : sock_send_fds(fd, name, strlen(name), &master, 1);

	return n < 0 ? err_set(e, ERR_SYSTEM, (int)n, "console socket '%s'", socket_path) : 0;
}
