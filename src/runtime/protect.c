/* CVE-2019-5736: a process of a container whose program is "/proc/self/exe" executes the runtime's own
 * binary, and may then write to it through /proc/PID/exe once nobody runs it. A file on a read-only mount
 * cannot be opened for writing, whoever asks: so the program runs from a detached, read-only clone of the
 * mount it lies on, which nobody else can reach (early.c). Where that is not to be had, a sealed copy in
 * memory does. A program that lies on a read-only mount already is executed once only. */
#include "runtime/runtime.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

static bool is_protected(int exe)
{
	int seals = fcntl(exe, F_GET_SEALS), want = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct statvfs s;

	return (seals >= 0 && (seals & want) == want) || (fstatvfs(exe, &s) == 0 && s.f_flag & ST_RDONLY);
}

static int sealed_copy(int exe)
{
	_cleanup_close_ int fd = memfd_create("insula", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = fs_copy_sparse(exe, fd);
	if (r < 0)
		return r;
	if (fchmod(fd, 0500) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int rt_protect_self(char *const argv[])
{
	_cleanup_close_ int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), fd = -EBADF;
	const char *name = path_basename(argv[0]);

	if (exe < 0)
		return -errno;
	if (is_protected(exe)) {
		/* Executed by descriptor: the kernel has named us after its number. */
		(void)prctl(PR_SET_NAME, name);
		return 0;
	}
	fd = sealed_copy(exe);
	if (fd < 0)
		return fd;
	syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
	return -errno;
}
