/* Runs a program on a kernel that seems to lack some system calls:
 *
 *	enosys NAME[,NAME...] PROGRAM [ARGUMENT...]
 *
 * "setns_pidfd" is setns that takes no pidfd, as before Linux 5.8: it answers EINVAL.
 *
 * A seccomp filter answers them with ENOSYS, in the program and in all that it starts. The filter needs no
 * PR_SET_NO_NEW_PRIVS: that would change what the program is tested for, and root may do without. */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const scmp_datum_t several = CLONE_NEWNS | CLONE_NEWPID;
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int r;

	if (argc < 3) {
		fprintf(stderr, "usage: enosys NAME[,NAME...] PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	if (!ctx || seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0) < 0) {
		fprintf(stderr, "enosys: no filter\n");
		return 1;
	}
	for (char *name = strtok(argv[1], ","); name; name = strtok(NULL, ",")) {
		int nr = seccomp_syscall_resolve_name(name);

		if (!strcmp(name, "setns_pidfd")) {
			/* Only a pidfd can be asked for several namespaces. */
			nr = SCMP_SYS(setns);
			r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL), nr, 1,
					     SCMP_A1(SCMP_CMP_MASKED_EQ, several, several));
		} else if (nr == __NR_SCMP_ERROR) {
			fprintf(stderr, "enosys: unknown system call '%s'\n", name);
			return 2;
		} else {
			r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0);
		}
		if (r < 0) {
			fprintf(stderr, "enosys: %s: %s\n", name, strerror(-r));
			return 1;
		}
	}
	r = seccomp_load(ctx);
	if (r < 0) {
		fprintf(stderr, "enosys: load the filter: %s\n", strerror(-r));
		return 1;
	}
	seccomp_release(ctx);
	execvp(argv[2], argv + 2);
	fprintf(stderr, "enosys: %s: %s\n", argv[2], strerror(errno));
	return 127;
}
