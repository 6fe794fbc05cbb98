/* What a file system does for its users, one check a line: "name: result". Run in a directory of its own, in
 * a container of either mode, on whatever lies there; the two outputs are then compared. A result is "ok",
 * the name of an errno, or a few words, and never depends on time, inode numbers or chance. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MANY 10000
#define FEW 300

static const char *checking;

static void result(const char *fmt, ...)
{
	va_list ap;

	printf("%s: ", checking);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

/* Reports a call: "ok", or what it failed with. Whether it went well. */
static bool call(const char *name, long r)
{
	int e = errno;

	if (name)
		checking = name;
	if (r < 0)
		result("%s", strerrorname_np(e));
	else
		result("ok");
	return r >= 0;
}

static void is(const char *name, bool yes)
{
	checking = name;
	result(yes ? "yes" : "no");
}

static int make(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return -1;
	return fd;
}

static void put(const char *path, const char *text)
{
	close(make(path, text));
}

static bool has(const char *path, const char *text)
{
	char buf[256] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);

	close(fd);
	return n == (ssize_t)strlen(text) && !memcmp(buf, text, strlen(text));
}

/* Runs fn in a child; its exit code, or 1000 if it has not ended within this time. */
static int in_child(int (*fn)(void), int ms)
{
	pid_t pid = fork();
	int st;

	if (pid == 0)
		_exit(fn());
	for (; ms > 0; ms -= 20) {
		if (waitpid(pid, &st, WNOHANG) == pid)
			return WIFEXITED(st) ? WEXITSTATUS(st) : 999;
		usleep(20000);
	}
	kill(pid, SIGKILL);
	return 1000;
}

static const char *word(int code)
{
	return code == 0 ? "ok" : code == 1000 ? "waits" : code == 999 ? "killed" :
		strerrorname_np(code) ?: "?";
}

/* --- names --- */

static void names(void)
{
	char longest[256], longer[257];
	struct stat st;

	memset(longest, 'n', 255), longest[255] = 0;
	memset(longer, 'n', 256), longer[256] = 0;
	call("create", make("f", "content"));
	call("create exclusive again", open("f", O_CREAT | O_EXCL | O_WRONLY, 0644));
	call("name of 255 bytes", open(longest, O_CREAT | O_WRONLY, 0644));
	call("name of 256 bytes", open(longer, O_CREAT | O_WRONLY, 0644));
	call("name that is not UTF-8", open("\xff\xfe\x80", O_CREAT | O_WRONLY, 0644));
	call("name with newline", open("a\nb", O_CREAT | O_WRONLY, 0644));
	call("directory", mkdir("d", 0755));
	call("directory again", mkdir("d", 0755));
	call("open directory for writing", open("d", O_WRONLY));
	call("file as a directory", open("f/x", O_RDONLY));
	call("missing", open("nothing", O_RDONLY));
	call("unlink a directory", unlink("d"));
	call("rmdir a file", rmdir("f"));
	put("d/x", "");
	call("rmdir what is not empty", rmdir("d"));
	unlink("d/x");
	call("rmdir", rmdir("d"));
	call("symlink", symlink("f", "l"));
	call("lstat of a symlink", lstat("l", &st));
	is("symlink is one", S_ISLNK(st.st_mode) && st.st_size == 1);
	call("open a symlink without following", open("l", O_RDONLY | O_NOFOLLOW));
	symlink("loop", "loop");
	call("loop of symlinks", open("loop", O_RDONLY));
	call("O_PATH of a symlink", open("l", O_PATH | O_NOFOLLOW));
	call("O_TMPFILE", open(".", O_TMPFILE | O_RDWR, 0600));
}

static void renames(void)
{
	put("r1", "one"), put("r2", "two");
	call("rename over another", rename("r1", "r2"));
	is("rename kept content", has("r2", "one"));
	mkdir("rd1", 0755), mkdir("rd2", 0755), mkdir("rd2/in", 0755);
	call("rename directory over full one", rename("rd1", "rd2"));
	rmdir("rd2/in");
	call("rename directory over empty one", rename("rd1", "rd2"));
	call("rename directory into itself", rename("rd2", "rd2/x"));
	call("rename file over directory", rename("r2", "rd2"));
	put("r1", "one"), put("r3", "three");
	call("rename without replacing", renameat2(AT_FDCWD, "r1", AT_FDCWD, "r3", RENAME_NOREPLACE));
	call("rename exchanging", renameat2(AT_FDCWD, "r1", AT_FDCWD, "r3", RENAME_EXCHANGE));
	is("exchanged", has("r1", "three") && has("r3", "one"));
	call("rename with whiteout", renameat2(AT_FDCWD, "r1", AT_FDCWD, "r4", RENAME_WHITEOUT));
}

/* --- links, unlinked files --- */

static void links(void)
{
	struct stat a, b;
	int fd, dir;
	char buf[8] = "";

	put("h1", "hard");
	call("hard link", link("h1", "h2"));
	stat("h1", &a), stat("h2", &b);
	is("hard link is the same file", a.st_ino == b.st_ino && a.st_nlink == 2 && b.st_nlink == 2);
	put("h2", "other");
	is("hard link shares content", has("h1", "other"));
	mkdir("hd", 0755);
	call("hard link of a directory", link("hd", "hd2"));
	unlink("h1");
	stat("h2", &b);
	is("link count falls", b.st_nlink == 1);
	fd = make("u", "unlinked");
	unlink("u");
	is("unlinked file keeps content", pread(fd, buf, 8, 0) == 8 && !memcmp(buf, "unlinked", 8));
	call("fstat of an unlinked file", fstat(fd, &a));
	is("unlinked file has no link", a.st_nlink == 0);
	call("write to an unlinked file", pwrite(fd, "more", 4, 8));
	call("ftruncate of an unlinked file", ftruncate(fd, 4));
	call("fchmod of an unlinked file", fchmod(fd, 0600));
	close(fd);
	mkdir("ud", 0755);
	dir = open("ud", O_RDONLY | O_DIRECTORY);
	rmdir("ud");
	call("create in a removed directory", openat(dir, "x", O_CREAT | O_WRONLY, 0644));
	fd = make("rn", "renamed");
	rename("rn", "rn2");
	is("open file follows a rename", pread(fd, buf, 8, 0) == 7 && write(fd, "!", 1) == 1 && has("rn2",
		"renamed!"));
	close(fd);
	fd = open(".", O_TMPFILE | O_RDWR, 0600);
	call("link a file without a name", fd < 0 ? -1 : linkat(AT_FDCWD, ({ static char p[32]; snprintf(p,
		32, "/proc/self/fd/%d", fd); p; }), AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
}

/* --- metadata --- */

static void metadata(void)
{
	const struct timespec t[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
	struct stat st, later;
	struct statvfs vfs;

	put("m", "meta");
	call("chmod", chmod("m", 04751));
	stat("m", &st);
	checking = "mode", result("%o", st.st_mode & 07777);
	put("m", "changed");
	stat("m", &st);
	checking = "mode after writing as root", result("%o", st.st_mode & 07777);
	call("chown", chown("m", 1234, 5678));
	stat("m", &st);
	checking = "owner", result("%d:%d %o", (int)st.st_uid, (int)st.st_gid, st.st_mode & 07777);
	call("utimensat", utimensat(AT_FDCWD, "m", t, 0));
	stat("m", &st);
	is("times in nanoseconds", st.st_atim.tv_nsec == 123456789 && st.st_mtim.tv_sec == 1100000000 &&
		st.st_mtim.tv_nsec == 987654321);
	symlink("m", "ml");
	call("utimensat of a symlink", utimensat(AT_FDCWD, "ml", t, AT_SYMLINK_NOFOLLOW));
	call("chown of a symlink", lchown("ml", 1, 2));
	lstat("ml", &st);
	checking = "owner of a symlink", result("%d:%d", (int)st.st_uid, (int)st.st_gid);
	call("times before 1970", utimensat(AT_FDCWD, "m", (struct timespec[]){{-5, 0}, {-5, 0}}, 0));
	stat("m", &st);
	is("times before 1970 are kept", st.st_mtim.tv_sec == -5);
	put("m", "x");
	stat("m", &later);
	is("writing renews the time", later.st_mtim.tv_sec > 1700000000 ||
		later.st_mtim.tv_sec > st.st_mtim.tv_sec);
	mkdir("sg", 0755), chown("sg", 0, 4321), chmod("sg", 02755);
	put("sg/x", ""), mkdir("sg/d", 0755);
	stat("sg/x", &st);
	checking = "group in a setgid directory", result("%d", (int)st.st_gid);
	stat("sg/d", &st);
	checking = "directory in a setgid directory", result("%d %o", (int)st.st_gid, st.st_mode & 07777);
	umask(027), put("um", ""), stat("um", &st), umask(022);
	checking = "umask", result("%o", st.st_mode & 07777);
	call("statvfs", statvfs(".", &vfs));
	is("statvfs makes sense", vfs.f_blocks > 0 && vfs.f_bavail <= vfs.f_blocks && vfs.f_namemax == 255);
	call("truncate", truncate("m", 100000)), stat("m", &st);
	is("truncated size", st.st_size == 100000);
	call("truncate to a negative size", truncate("m", -1));
	put("st", "x"), chmod("st", 01777);
	mkdir("sticky", 0755), chmod("sticky", 01777), stat("sticky", &st);
	checking = "sticky directory", result("%o", st.st_mode & 07777);
}

static int as_user(int (*fn)(void))
{
	pid_t pid = fork();
	int st;

	if (pid == 0) {
		if (setgid(1000) < 0 || setuid(1000) < 0)
			_exit(255);
		_exit(fn());
	}
	waitpid(pid, &st, 0);
	return WEXITSTATUS(st);
}

static int try_read(void) { return open("p/secret", O_RDONLY) < 0 ? errno : 0; }
static int try_create(void) { return open("p/new", O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0; }
static int try_chmod(void) { return chmod("p/theirs", 0777) < 0 ? errno : 0; }
static int try_unlink_sticky(void) { return unlink("p/sticky/rootfile") < 0 ? errno : 0; }
static int try_own(void) { return open("p/open/mine", O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0; }
static int try_chown(void) { return chown("p/open/mine", 0, 0) < 0 ? errno : 0; }
static int try_group(void) { return open("p/group", O_RDONLY) < 0 ? errno : 0; }
static int try_write_setuid(void) { int fd = open("p/suid", O_WRONLY | O_APPEND); return fd < 0 ? errno :
	write(fd, "x", 1) < 0 ? errno : 0; }
static int try_search(void) { struct stat st; return stat("p/closed/x", &st) < 0 ? errno : 0; }

static void permissions(void)
{
	static const struct { const char *name; int (*fn)(void); } all[] = {
		{"user reads root's secret", try_read}, {"user creates in root's directory", try_create},
		{"user changes another's mode", try_chmod}, {"user unlinks in a sticky directory",
			try_unlink_sticky},
		{"user creates in an open directory", try_own}, {"user gives a file away", try_chown},
		{"user reads by group", try_group}, {"user searches a closed directory", try_search},
		{"user writes to a setuid file", try_write_setuid},
	};
	struct stat st;

	mkdir("p", 0755), mkdir("p/open", 0777), chmod("p/open", 0777), mkdir("p/sticky", 0777),
		chmod("p/sticky", 01777);
	mkdir("p/closed", 0700), put("p/closed/x", "");
	put("p/secret", "s"), chmod("p/secret", 0600), put("p/theirs", ""), put("p/sticky/rootfile", "");
	put("p/group", "g"), chown("p/group", 0, 1000), chmod("p/group", 0640);
	put("p/suid", "s"), chown("p/suid", 0, 0), chmod("p/suid", 06777);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		checking = all[i].name, result("%s", word(as_user(all[i].fn)));
	stat("p/open/mine", &st);
	checking = "owner of what a user made", result("%d:%d", (int)st.st_uid, (int)st.st_gid);
	stat("p/suid", &st);
	checking = "setuid after a user wrote", result("%o", st.st_mode & 07777);
	put("cap", "x"), setxattr("cap", "security.capability",
		"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20, 0);
	put("cap", "y");
	is("writing takes file capabilities away", getxattr("cap", "security.capability", NULL, 0) < 0);
}

/* --- content --- */

static void content(void)
{
	char *page, buf[8192];
	struct stat st;
	int fd, other;
	off_t hole;

	fd = make("sparse", "");
	call("write behind a hole", pwrite(fd, "end", 3, 64 << 20));
	fstat(fd, &st);
	is("a hole takes no room", st.st_size == (64 << 20) + 3 && st.st_blocks < 2048);
	hole = lseek(fd, 0, SEEK_DATA);
	is("SEEK_DATA finds the end", hole >= 60 << 20);
	is("SEEK_HOLE finds the hole", lseek(fd, 0, SEEK_HOLE) == 0);
	is("a hole reads as zeroes", pread(fd, buf, 8, 4096) == 8 && !memcmp(buf, "\0\0\0\0\0\0\0\0", 8));
	call("fallocate", fallocate(fd, 0, 0, 1 << 20));
	call("fallocate keeping size", fallocate(fd, FALLOC_FL_KEEP_SIZE, 65 << 20, 1 << 20));
	call("punch a hole", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
	close(fd), unlink("sparse");
	fd = open("append", O_CREAT | O_RDWR | O_APPEND, 0644), other = open("append", O_WRONLY | O_APPEND);
	write(fd, "a", 1), write(other, "b", 1), write(fd, "c", 1);
	is("two append to one file", has("append", "abc"));
	close(fd), close(other);
	fd = make("map", "mapped page");
	ftruncate(fd, 8192);
	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (call("mmap shared", page == MAP_FAILED ? -1 : 0)) {
		is("map shows the file", !memcmp(page, "mapped page", 11));
		memcpy(page, "MAPPED", 6);
		is("read sees the map", pread(fd, buf, 6, 0) == 6 && !memcmp(buf, "MAPPED", 6));
		pwrite(fd, "page", 4, 4096);
		is("map sees a write", !memcmp(page + 4096, "page", 4));
		call("msync", msync(page, 8192, MS_SYNC));
		munmap(page, 8192);
	}
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	call("mmap private", page == MAP_FAILED ? -1 : 0);
	close(fd);
	fd = open("direct", O_CREAT | O_RDWR | O_DIRECT, 0644);
	if (call("O_DIRECT", fd)) {
		char *aligned = aligned_alloc(4096, 8192);

		memset(aligned, 'x', 8192);
		call("direct write", pwrite(fd, aligned, 8192, 0));
		call("direct read", pread(fd, aligned, 8192, 0));
		free(aligned), close(fd);
	}
	fd = make("sync", "s");
	call("fsync", fsync(fd)), call("fdatasync", fdatasync(fd)), call("syncfs", syncfs(fd));
	call("posix_fadvise", -(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0));
	close(fd);
	fd = make("cf1", "copied by range"), other = make("cf2", "");
	lseek(fd, 0, SEEK_SET);
	call("copy_file_range", copy_file_range(fd, NULL, other, NULL, 15, 0));
	is("copied by range", has("cf2", "copied by range"));
	lseek(fd, 0, SEEK_SET), ftruncate(other, 0), lseek(other, 0, SEEK_SET);
	call("sendfile", sendfile(other, fd, NULL, 15));
	is("copied by sendfile", has("cf2", "copied by range"));
	call("big offset", pwrite(other, "x", 1, 5ll << 30));
	ftruncate(other, 0);
	call("flags of an open file", fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
	close(fd), close(other);
	fd = open("noatime", O_CREAT | O_RDWR | O_NOATIME, 0644);
	call("O_NOATIME", fd), close(fd);
	fd = open("osync", O_CREAT | O_RDWR | O_SYNC, 0644);
	call("O_SYNC write", write(fd, "x", 1)), close(fd);
}

static void executes(void)
{
	char buf[65536];
	ssize_t n;
	int from = open("/proc/self/exe", O_RDONLY), to = open("prog", O_CREAT | O_WRONLY, 0755), st;
	pid_t pid;

	while ((n = read(from, buf, sizeof buf)) > 0)
		(void)!write(to, buf, n);
	close(from);
	if (fork() == 0) {	/* while it is open for writing */
		execl("./prog", "prog", "--nothing", NULL);
		_exit(errno);
	}
	wait(&st);
	checking = "execute what is being written", result("%s", word(WEXITSTATUS(st)));
	close(to);
	pid = fork();
	if (pid == 0) {
		execl("./prog", "prog", "--nothing", NULL);
		_exit(errno);
	}
	waitpid(pid, &st, 0);
	checking = "execute", result("%s", word(WEXITSTATUS(st)));
	chmod("prog", 0644);
	if (fork() == 0) {
		execl("./prog", "prog", "--nothing", NULL);
		_exit(errno);
	}
	wait(&st);
	checking = "execute without the right", result("%s", word(WEXITSTATUS(st)));
}

/* --- extended attributes, special files --- */

static void attributes(void)
{
	char big[4000], list[256];

	put("xa", "x");
	call("setxattr user", setxattr("xa", "user.test", "value", 5, 0));
	checking = "getxattr user", result("%d", (int)getxattr("xa", "user.test", big, sizeof big));
	call("setxattr that must be new", setxattr("xa", "user.test", "value", 5, XATTR_CREATE));
	call("setxattr that must be there", setxattr("xa", "user.none", "value", 5, XATTR_REPLACE));
	checking = "listxattr", result("%s", listxattr("xa", list, sizeof list) > 0 && memmem(list,
		sizeof list, "user.test", 9) ? "has it" : "lacks it");
	call("getxattr into too little", getxattr("xa", "user.test", big, 2));
	call("removexattr", removexattr("xa", "user.test"));
	call("getxattr of none", getxattr("xa", "user.test", big, sizeof big));
	memset(big, 'x', sizeof big);
	call("setxattr of 2000 bytes", setxattr("xa", "user.big", big, 2000, 0));
	mkdir("xd", 0755);
	call("setxattr of a directory", setxattr("xd", "user.d", "v", 1, 0));
	symlink("xa", "xl");
	call("setxattr user of a symlink", lsetxattr("xl", "user.l", "v", 1, 0));
	call("setxattr trusted", setxattr("xa", "trusted.t", "v", 1, 0));
	call("setxattr security", setxattr("xa", "security.test", "v", 1, 0));
	call("setxattr of an unknown kind", setxattr("xa", "what.test", "v", 1, 0));
}

static void specials(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX, .sun_path = "sock"};
	struct stat st;
	int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), p, fd;
	char buf[8] = "";

	call("mkfifo", mkfifo("fifo", 0644));
	stat("fifo", &st);
	is("fifo is one", S_ISFIFO(st.st_mode));
	fd = open("fifo", O_RDONLY | O_NONBLOCK), p = open("fifo", O_WRONLY | O_NONBLOCK);
	is("fifo carries", write(p, "through", 7) == 7 && read(fd, buf, 7) == 7 && !memcmp(buf, "through",
		7));
	call("bind a socket", bind(s, (void *)&sun, sizeof sun));
	stat("sock", &st);
	is("socket is one", S_ISSOCK(st.st_mode));
	listen(s, 1);
	call("connect to a socket", connect(c, (void *)&sun, sizeof sun));
	call("open a socket", open("sock", O_RDONLY));
	call("mknod of a null device", mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	call("mknod of a block device", mknod("block", S_IFBLK | 0600, makedev(7, 0)));
	call("mknod of a whiteout", mknod("white", S_IFCHR, makedev(0, 0)));
	call("mknod of a file", mknod("regular", S_IFREG | 0600, 0));
}

/* --- locks --- */

static int lock_fd;

static int try_flock(void)
{
	int fd = open("lock", O_RDWR);

	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? errno : 0;
}

static int wait_flock(void)
{
	int fd = open("lock", O_RDWR);

	return flock(fd, LOCK_EX) < 0 ? errno : 0;
}

static int set_lock(int cmd, short type, off_t from, off_t n)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = n};
	int fd = open("lock", O_RDWR);

	return fcntl(fd, cmd, &l) < 0 ? errno : 0;
}

static int try_posix(void) { return set_lock(F_SETLK, F_WRLCK, 0, 10); }
static int try_posix_beside(void) { return set_lock(F_SETLK, F_WRLCK, 10, 10); }
static int try_posix_read(void) { return set_lock(F_SETLK, F_RDLCK, 0, 10); }
static int wait_posix(void) { return set_lock(F_SETLKW, F_WRLCK, 0, 10); }
static int try_ofd(void) { return set_lock(F_OFD_SETLK, F_WRLCK, 0, 10); }

static int unlock_later(void)
{
	usleep(300000);
	return flock(lock_fd, LOCK_UN) < 0 ? errno : 0;
}

static void locks(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10}, seen = l;
	int fd = make("lock", "0123456789012345678901234567890"), st;
	pid_t pid;

	lock_fd = fd;
	call("flock", flock(fd, LOCK_EX));
	checking = "flock that is taken", result("%s", word(in_child(try_flock, 5000)));
	pid = fork();
	if (pid == 0)
		_exit(unlock_later());
	checking = "flock that waits", result("%s", word(in_child(wait_flock, 10000)));
	waitpid(pid, &st, 0);
	call("flock shared", flock(fd, LOCK_SH));
	checking = "flock of a shared one", result("%s", word(in_child(try_flock, 5000)));
	call("unlock", flock(fd, LOCK_UN));
	call("posix lock", fcntl(fd, F_SETLK, &l));
	checking = "posix lock that is taken", result("%s", word(in_child(try_posix, 5000)));
	checking = "posix lock beside", result("%s", word(in_child(try_posix_beside, 5000)));
	checking = "posix lock for reading", result("%s", word(in_child(try_posix_read, 5000)));
	checking = "open file lock", result("%s", word(in_child(try_ofd, 5000)));
	if (fork() == 0) {
		int r = fcntl(open("lock", O_RDWR), F_GETLK, &seen);

		_exit(r < 0 ? 2 : seen.l_type == F_WRLCK ? 0 : 1);
	}
	wait(&st);
	is("posix lock is seen", st == 0);
	l.l_type = F_UNLCK, fcntl(fd, F_SETLK, &l);
	checking = "posix lock after unlock", result("%s", word(in_child(try_posix, 5000)));
	checking = "posix lock that may wait", result("%s", word(in_child(wait_posix, 5000)));
	close(fd);
	call("lease", fcntl(open("lock", O_RDONLY), F_SETLEASE, F_RDLCK));
}

/* Takes a lock without waiting and holds it until the end of its input. */
static int hold_lock(const char *kind, const char *path)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDWR);
	char c;

	if ((!strcmp(kind, "flock") ? flock(fd, LOCK_EX | LOCK_NB) : fcntl(fd, F_SETLK, &l)) < 0) {
		perror(path);
		return 1;
	}
	puts("locked");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}

/* --- many --- */

/* "many" may be there already: made by somebody to whom creating files is cheap. */
static void make_many(void)
{
	char name[32];

	if (mkdir("many", 0755) < 0)
		return;
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "many/file-%05d", i);
		close(open(name, O_CREAT | O_WRONLY, 0644));
	}
}

static void directories(void)
{
	struct dirent *de;
	DIR *d;
	int n = 0, types = 0;
	long pos = 0;
	char name[32], first[256] = "";

	make_many();
	d = opendir("many");
	while ((de = readdir(d))) {
		n += de->d_name[0] != '.';
		types += de->d_type == DT_REG;
		if (n == MANY / 2 && !pos)
			pos = telldir(d);
		else if (pos && !*first)
			snprintf(first, sizeof first, "%s", de->d_name);
	}
	checking = "entries of a large directory", result("%d, %d files", n, types);
	seekdir(d, pos);
	de = readdir(d);
	is("seekdir goes back", de && !strcmp(de->d_name, first));
	closedir(d);
	mkdir("few", 0755), chdir("few");
	for (int i = 0; i < FEW; i++) {
		snprintf(name, sizeof name, "file-%05d", i);
		close(open(name, O_CREAT | O_WRONLY, 0644));
	}
	d = opendir(".");
	for (n = 0; (de = readdir(d)); n++)
		;
	rewinddir(d);
	while ((de = readdir(d)))
		if (de->d_name[0] != '.')
			unlink(de->d_name);
	rewinddir(d);
	for (n = 0; (de = readdir(d)); n++)
		;
	closedir(d);
	checking = "left after removing while reading", result("%d", n - 2);
	chdir("..");
	call("rmdir of the emptied", rmdir("few"));
}

int main(int argc, char **argv)
{
	static void (*const all[])(void) = {
		names, renames, links, metadata, permissions, content, executes, attributes, specials,
			locks, directories,
	};

	if (argc > 1 && !strcmp(argv[1], "--nothing"))
		return 0;
	if (argc == 4 && !strcmp(argv[1], "--lock"))
		return hold_lock(argv[2], argv[3]);
	if (argc != 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: fidelity DIRECTORY\n");
		return 2;
	}
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		all[i]();
	return 0;
}
