/* The first instructions of a program that is to run from a read-only clone of the mount it lies on
 * (CVE-2019-5736, see protect.c). It is the entry point of the executable, before the C library's: executing
 * a program again costs as much as starting it, and most of that (0.25 ms) is the C library looking at the
 * processor. So nothing of the library may be used here, which is not set up yet: no function, no errno, no
 * thread-local variable. Whatever goes wrong is left to rt_protect_self(). */
#include "base/macro.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

void early_protect(long *stack);

/* Process entry: argc, argv and envp lie on the stack; rdx is for _start. */
__asm__(".text\n"
	".globl early_start\n"
	".type early_start, @function\n"
	"early_start:\n"
	"	endbr64\n"
	"	mov %rsp, %rdi\n"
	"	mov %rdx, %r12\n"
	"	call early_protect\n"
	"	mov %r12, %rdx\n"
	"	jmp _start\n"
	".size early_start, . - early_start\n");

static inline long sys(long nr, long a, const void *b, long c, const void *d, long e)
{
	register long r10 __asm__("r10") = (long)(intptr_t)d;
	register long r8 __asm__("r8") = e;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

__attribute__((no_stack_protector, used, visibility("hidden"))) void early_protect(long *stack)
{
	char **argv = (char **)(stack + 1), **envp = argv + stack[0] + 1;
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	long fd = sys(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, NULL, 0);
	struct statfs fs;
	bool done;

	if (fd < 0)
		return;
	/* A sealed copy in memory is on no read-only mount, and cannot be cloned: that fails below. */
	done = sys(SYS_fstatfs, fd, &fs, 0, NULL, 0) < 0 || fs.f_flags & ST_RDONLY;
	sys(SYS_close, fd, NULL, 0, NULL, 0);
	if (done)
		return;
	fd = sys(SYS_open_tree, AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, NULL, 0);
	if (fd < 0)
		return;
	if (sys(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0)
		sys(SYS_execveat, fd, "", (long)(intptr_t)argv, envp, AT_EMPTY_PATH);
	sys(SYS_close, fd, NULL, 0, NULL, 0);
}
