/* What the kernel alone takes for `run` of the benchmark's bundle: the same namespaces, mounts, devices, control
 * groups, made with the same calls, and nothing else: no configuration, no look at what an image may have put
 * in the way, no capabilities, no state, no second execution of itself. A runtime cannot be faster than this.
 *
 * floor ROOTFS NAME PROGRAM */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <mntent.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX 24

static char groups[MAX][256];
static size_t n_groups;
static int v2 = -1;	/* the group, where there is nothing but v2 */

static void check(long r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void copy_line(const char *group, const char *parent, const char *name)
{
	char path[512], text[256];
	int fd;
	ssize_t n;

	snprintf(path, sizeof path, "%s/%s", parent, name);
	fd = open(path, O_RDONLY);
	n = read(fd, text, sizeof text);
	close(fd);
	snprintf(path, sizeof path, "%s/%s", group, name);
	fd = open(path, O_WRONLY);
	check(write(fd, text, n > 0 ? (size_t)n : 0), path);
	close(fd);
}

/* A group in each hierarchy of v1, or in that of v2 where it is the only one. */
static void make_groups(const char *name)
{
	FILE *f = setmntent("/proc/self/mounts", "r");
	struct mntent *m;

	while ((m = getmntent(f)) && n_groups < MAX) {
		char parent[200];

		if (strcmp(m->mnt_type, "cgroup") &&
		    (strcmp(m->mnt_type, "cgroup2") || strcmp(m->mnt_dir, "/sys/fs/cgroup")))
			continue;
		snprintf(parent, sizeof parent, "%s/insula", m->mnt_dir);
		(void)mkdir(parent, 0755);
		snprintf(groups[n_groups], sizeof groups[0], "%s/%s", parent, name);
		check(mkdir(groups[n_groups], 0755), groups[n_groups]);
		if (strstr(m->mnt_dir, "cpuset")) {
			copy_line(groups[n_groups], parent, "cpuset.cpus");
			copy_line(groups[n_groups], parent, "cpuset.mems");
		}
		if (!strcmp(m->mnt_type, "cgroup2"))
			v2 = open(groups[n_groups], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		n_groups++;
	}
	endmntent(f);
}

static void join_groups(void)
{
	for (size_t i = 0; v2 < 0 && i < n_groups; i++) {
		char path[sizeof groups[0] + 8];
		int fd;

		snprintf(path, sizeof path, "%.*s/tasks", (int)sizeof groups[0], groups[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		check(write(fd, "0", 1), path);
		close(fd);
	}
}

static void mount_at(int root, const char *type, const char *at, int make, unsigned attr,
		     const char *const *options)
{
	int fs = fsopen(type, FSOPEN_CLOEXEC), mnt, where;

	check(fs, type);
	for (; options && options[0]; options += 2)
		check(options[1] ? fsconfig(fs, FSCONFIG_SET_STRING, options[0], options[1], 0)
				 : fsconfig(fs, FSCONFIG_SET_FLAG, options[0], NULL, 0), options[0]);
	check(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, attr);
	check(mnt, "fsmount");
	if (make)
		check(mkdirat(root, at, 0755), at);
	where = openat(root, at, O_PATH | O_DIRECTORY | O_CLOEXEC);
	check(where, at);
	check(move_mount(mnt, "", where, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), at);
	close(where);
	close(mnt);
	close(fs);
}

static void make_root(const char *rootfs)
{
	static const struct { const char *name; unsigned major, minor; } nodes[] = {
		{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 }, { "dev/random", 1, 8 },
		{ "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
	};
	static const char *const links[][2] = {
		{ "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
		{ "/proc/self/fd/2", "dev/stderr" }, { "/proc/kcore", "dev/core" }, { "pts/ptmx", "dev/ptmx" },
	};
	const unsigned none = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	int at, root;

	check(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "slave");
	at = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	root = open_tree(at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	check(root, rootfs);
	check(move_mount(root, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), rootfs);
	mount_at(root, "proc", "proc", 0, 0, NULL);
	mount_at(root, "tmpfs", "dev", 0, MOUNT_ATTR_NOSUID,
		 (const char *const[]){ "mode", "755", "size", "65536k", NULL });
	mount_at(root, "devpts", "dev/pts", 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
		 (const char *const[]){ "newinstance", NULL, "ptmxmode", "0666", "mode", "0620", NULL });
	mount_at(root, "tmpfs", "dev/shm", 1, none, NULL);
	mount_at(root, "mqueue", "dev/mqueue", 1, none, NULL);
	mount_at(root, "sysfs", "sys", 0, none | MOUNT_ATTR_RDONLY, NULL);
	umask(0);
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		check(mknodat(root, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].name);
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		check(symlinkat(links[i][0], root, links[i][1]), links[i][1]);
	join_groups();
	check(fchdir(root), "fchdir");
	check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	check(umount2(".", MNT_DETACH), "umount");
}

int main(int argc, char **argv)
{
	struct clone_args a = {
		.flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET,
		.exit_signal = SIGCHLD,
	};
	int status = 0;
	pid_t pid;

	if (argc != 4)
		return 2;
	make_groups(argv[2]);
	if (v2 >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (unsigned)v2;
	}
	pid = (pid_t)syscall(SYS_clone3, &a, sizeof a);
	check(pid, "clone3");
	if (pid == 0) {
		make_root(argv[1]);
		execl(argv[3], argv[3], NULL);
		check(-1, argv[3]);
	}
	check(waitpid(pid, &status, 0), "waitpid");
	for (size_t i = 0; i < n_groups; i++)
		check(rmdir(groups[i]), groups[i]);
	return status != 0;
}
