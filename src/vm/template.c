/* Theory of operation.
 *
 * The machine of a template has the devices that every machine has, and place holders for the rest (see
 * vmm.h). Its agent has answered HELLO and waits for the next one, so that a clone goes on exactly where a
 * boot would: nothing that makes it a particular machine (random numbers, clock, name, addresses, disks) has
 * been given to it yet. Clones have the layout of the kernel's memory in common (KASLR).
 *
 * The device state comes behind the memory in the same file: one descriptor carries all. Pages of zeros
 * are holes again before the file is sealed; it takes about 100 MB for a Debian kernel. */
#include "vm/template.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "proto/conn.h"
#include "vm/vmm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define PREFIX "template-"
#define SETTLE_US 300000		/* what the kernel still does after its first process has come up */
#define PAGE 4096
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* The console is for panics and warnings: each byte written to it is an exit. noforce: no bounce buffer,
 * which would be 64 MB of a machine that memory can be added to. Security modules other than Landlock, which
 * programs ask for themselves, have no policy here, and each has a word in every call. */
const char guest_cmdline[] =
	"quiet reboot=t panic=-1 tsc=reliable no_timer_check swiotlb=noforce cryptomgr.notests "
	"rcupdate.rcu_expedited=1 lsm=landlock memhp_default_state=online_movable console=ttyS0";

/* --- what it is made from --- */

static void hash_add(uint64_t *h, const char *s)
{
	for (; *s; s++)
		*h = (*h ^ (unsigned char)*s) * 0x100000001b3ull;	/* FNV-1a */
}

static int hash_file(uint64_t *h, const char *path)
{
	_cleanup_free_ char *line = NULL;
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	line = xasprintf("%s %lld %lld.%09ld\n", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
			 st.st_mtim.tv_nsec);
	hash_add(h, line);
	return 0;
}

/* A processor's features are part of the state; software emulation has the same ones everywhere. */
static void hash_cpu(uint64_t *h)
{
	_cleanup_free_ char *text = NULL;
	const char *flags;

	if (fs_read(AT_FDCWD, "/proc/cpuinfo", 16 << 20, &text, NULL) < 0)
		return;
	flags = strstr(text, "\n\n");
	if (flags)
		text[flags - text] = 0;
	hash_add(h, text);
}

static int key_of(const struct template_config *c, char **ret)
{
	_cleanup_free_ char *sizes =
	    xasprintf("%d %d %s %llu %llu %llu %s\n", AGENT_VERSION, VMM_TEMPLATE_LAYOUT, c->accel,
		      (unsigned long long)c->memory, (unsigned long long)c->region,
		      (unsigned long long)c->vcpus_max, INSULA_VERSION);
	const char *files[] = {c->kernel, c->initrd, qemu_program()};
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int r = files[i] ? hash_file(&h, files[i]) : -ENOENT;

		if (r < 0)
			return r;
	}
	hash_add(&h, guest_cmdline);
	hash_add(&h, sizes);
	if (streq(c->accel, "kvm"))
		hash_cpu(&h);
	*ret = xasprintf(PREFIX "%016llx", (unsigned long long)h);
	return 0;
}

/* --- bytes --- */

static int copy_range(int from, int to, off_t at, off_t end)
{
	_cleanup_free_ char *buf = xmalloc(1 << 20);

	while (at < end) {
		size_t want = (size_t)(end - at) < 1 << 20 ? (size_t)(end - at) : 1 << 20;
		ssize_t n = RETRY(pread(from, buf, want, at));

		if (n == 0)
			return -EIO;
		if (n < 0 || RETRY(pwrite(to, buf, (size_t)n, at)) != n)
			return n < 0 || errno == 0 ? -EIO : -errno;
		at += n;
	}
	return 0;
}

/* Data only: holes stay holes. */
static int copy_sparse(int from, int to, off_t size)
{
	off_t at = 0;
	int r;

	if (ftruncate(to, size) < 0)
		return -errno;
	while ((at = lseek(from, at, SEEK_DATA)) >= 0 && at < size) {
		off_t end = lseek(from, at, SEEK_HOLE);

		if (end < 0)
			return -errno;
		r = copy_range(from, to, at, end < size ? end : size);
		if (r < 0)
			return r;
		at = end;
	}
	return at < 0 && errno != ENXIO ? -errno : 0;
}

static bool is_zero(const char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static int punch(int fd, off_t at, off_t end)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, end - at) < 0 ? -errno : 0;
}

/* Pages that the boot has used and given back are most often zeros. */
static int drop_zeros(int fd, off_t size)
{
	char *map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	off_t at = 0;
	int r = 0;

	if (map == MAP_FAILED)
		return -errno;
	while (r == 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < size) {
		off_t end = lseek(fd, at, SEEK_HOLE), run = -1;

		for (; at < end && at < size; at += PAGE) {
			bool zero = is_zero(map + at);

			if (zero && run < 0)
				run = at;
			if (!zero && run >= 0) {
				r = punch(fd, run, at);
				run = -1;
			}
		}
		if (run >= 0)
			r = punch(fd, run, at);
	}
	munmap(map, (size_t)size);
	return r;
}

int template_open(int memfd, uint64_t memory, bool shared, int *ret_ram, int *ret_state)
{
	_cleanup_close_ int state = open(fd_proc_path(memfd).s, O_RDONLY | O_CLOEXEC), ram = -EBADF;
	int r;

	if (state < 0)
		return -errno;
	if (shared) {
		ram = memfd_create("insula-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		r = ram < 0 ? -errno : copy_sparse(state, ram, (off_t)memory);
	} else {
		ram = fcntl(memfd, F_DUPFD_CLOEXEC, 3);
		r = ram < 0 ? -errno : 0;
	}
	if (r < 0)
		return r;
	if (lseek(state, (off_t)memory, SEEK_SET) < 0)
		return -errno;
	*ret_ram = TAKE_FD(ram);
	*ret_state = TAKE_FD(state);
	return 0;
}

/* --- the machine --- */

struct builder {
	struct loop *loop;
	struct vmm *vmm;
	struct conn *conn;
	int state_fd;
	uint64_t patience_s, proof_s;
	int memfd;
	uint64_t unpacked;	/* bytes of its memory that are touched once its kernel runs */
	bool saved;
	struct err *err;
	int r;
};

static void fail(struct builder *b, int r, const char *text)
{
	if (b->r == 0)
		b->r = err_msg(b->err, ERR_SYSTEM, r, "make the template of virtual machines: %s", text);
	b->vmm->ops->kill(b->vmm);
}

static void on_gone(void *ud, const char *words)
{
	struct builder *b = ud;

	if (!b->saved)
		fail(b, -EIO, words);
	loop_exit(b->loop, 0);
}

static void on_saved(void *ud, int r, const struct err *e)
{
	struct builder *b = ud;

	if (r < 0)
		fail(b, r, err_text(e));
	else
		b->saved = true;
	b->vmm->ops->kill(b->vmm);
}

static void on_settled(struct loop_source *s, void *ud)
{
	struct builder *b = ud;

	b->vmm->ops->save(b->vmm, b->state_fd, on_saved, b);
}

static void on_hello(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct builder *b = ud;

	if (r == 0)
		r = loop_add_timer(b->loop, SETTLE_US, 0, on_settled, b, NULL);
	if (r < 0 && r != -ECONNRESET)
		fail(b, r, e ? err_text(e) : strerror(-r));
}

static void on_running(void *ud, int r, const struct err *e)
{
	struct msg_hello m = {AGENT_VERSION, (char *)"template", (char *)"vmwp", (uint32_t)getpid()};
	struct builder *b = ud;

	if (r < 0)
		fail(b, r, err_text(e));
	else
		CONN_REQUEST(b->conn, HELLO, hello, &m, -EBADF, on_hello, b);
}

static void on_started(void *ud, int r, const struct err *e)
{
	struct builder *b = ud;

	if (r < 0)
		fail(b, r, err_text(e));
	else
		b->vmm->ops->go(b->vmm, on_running, b);
}

static void on_deadline(struct loop_source *s, void *ud)
{
	struct builder *b = ud;
	_cleanup_free_ char *text =
	    xasprintf("no word from its agent in %llu s", (unsigned long long)b->patience_s);

	fail(b, -EIO, text);
}

/* A kernel that runs has unpacked itself: more of the memory is touched than by what was loaded. One that a
 * broken KVM does not run, or runs by interpreting each instruction, has not come so far. */
static void on_proof(struct loop_source *s, void *ud)
{
	struct builder *b = ud;
	_cleanup_free_ char *text =
	    xasprintf("its kernel does not run after %llu s", (unsigned long long)b->proof_s);
	struct stat st;

	if (fstat(b->memfd, &st) == 0 && (uint64_t)st.st_blocks * 512 < b->unpacked)
		fail(b, -EIO, text);
}

static void on_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
}

static void on_close(struct conn *c, int r, void *ud)
{
}

static int boot(struct builder *b, const struct template_config *c, int memfd, int *pair)
{
	static const struct conn_ops ops = {on_frame, on_close};
	static const struct vmm_events events = {on_gone};
	const struct vmm_config v = {
	    .accel = c->accel,
	    .kernel = c->kernel,
	    .initrd = c->initrd,
	    .cmdline = guest_cmdline,
	    .memory = c->memory,
	    .memory_region = c->region,
	    .ram_fd = memfd,
	    .state_fd = -EBADF,
	    .vcpus = 1,
	    .vcpus_max = (unsigned)c->vcpus_max,
	    .link_fd = pair[1],
	    .template = true,
	};
	int r = conn_new(b->loop, TAKE_FD(pair[0]), true, &ops, b, &b->conn);

	if (r == 0)
		r = qemu_new(b->loop, &b->vmm);
	if (r == 0)
		r = loop_add_timer(b->loop, b->patience_s * 1000000, 0, on_deadline, b, NULL);
	if (r == 0 && b->proof_s)
		r = loop_add_timer(b->loop, b->proof_s * 1000000, 0, on_proof, b, NULL);
	if (r < 0)
		return r;
	b->vmm->events = &events;
	b->vmm->userdata = b;
	b->vmm->ops->start(b->vmm, &v, on_started, b);
	fd_close(&pair[1]);
	/* One that fails before there is a process has no end that could be waited for. */
	if (b->r < 0)
		return b->r;
	r = loop_run(b->loop);
	return r < 0 ? r : b->r;
}

static int build(const struct template_config *c, int memfd, struct err *e)
{
	_cleanup_loop_ struct loop *loop = NULL;
	_cleanup_close_ int state = -EBADF;
	struct builder b = {.patience_s = c->patience_s, .proof_s = c->proof_s, .memfd = memfd, .err = e};
	int pair[2] = {-EBADF, -EBADF}, r;
	struct stat kernel, initrd;

	if (stat(c->kernel, &kernel) < 0 || stat(c->initrd, &initrd) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "look at the guest's kernel");
	/* Unpacked, it is larger than packed. */
	b.unpacked = (uint64_t)initrd.st_size + 2 * (uint64_t)kernel.st_size;
	if (ftruncate(memfd, (off_t)c->memory) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "set the size of the template");
	state = b.state_fd = open(fd_proc_path(memfd).s, O_RDWR | O_CLOEXEC);
	r = state < 0 || lseek(state, (off_t)c->memory, SEEK_SET) < 0 ? -errno : loop_new(&loop);
	b.loop = loop;
	if (r == 0)
		r = sock_pair(pair);
	if (r == 0)
		r = boot(&b, c, memfd, pair);
	conn_free(b.conn);
	if (b.vmm)
		b.vmm->ops->free(b.vmm);
	fd_close(&pair[0]);
	fd_close(&pair[1]);
	if (r == 0)
		r = drop_zeros(memfd, (off_t)c->memory);
	return r < 0 && !e->kind ? err_set(e, ERR_SYSTEM, r, "make the template of virtual machines") : r;
}

/* --- the file --- */

static int load(int dir, const char *key, const struct template_config *c, int memfd)
{
	_cleanup_close_ int fd = openat(dir, key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size <= (off_t)c->memory)
		return -EINVAL;
	return copy_sparse(fd, memfd, st.st_size);
}

static void remove_others(int dir, const char *key)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, PREFIX) && !streq(de->d_name, key))
			(void)unlinkat(dir, de->d_name, 0);
	if (d)
		(void)closedir(d);
}

/* Kept for the next start of the engine: if that fails, on a full disk, it is made again then. */
static int keep(int dir, const char *key, int memfd)
{
	_cleanup_free_ char *tmp = xasprintf("%s.%d", key, getpid());
	_cleanup_close_ int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;
	int r = fd < 0 || fstat(memfd, &st) < 0 ? -errno : copy_sparse(memfd, fd, st.st_size);

	if (r == 0 && (fsync(fd) < 0 || renameat(dir, tmp, dir, key) < 0))
		r = -errno;
	if (r < 0 && fd >= 0)
		(void)unlinkat(dir, tmp, 0);
	if (r == 0)
		remove_others(dir, key);
	return r;
}

int template_fill(const struct template_config *c, int memfd, char **ret_name, struct err *e)
{
	_cleanup_close_ int dir = -EBADF;
	_cleanup_free_ char *key = NULL;
	int r = fs_mkdir_p(c->dir, 0700);

	if (r == 0 && (dir = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		r = -errno;
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open '%s'", c->dir);
	r = key_of(c, &key);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "identify the template of virtual machines");
	if (load(dir, key, c, memfd) < 0) {
		if (ftruncate(memfd, 0) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "empty the template");
		r = build(c, memfd, e);
		if (r < 0)
			return r;
		r = keep(dir, key, memfd);
		if (r < 0)
			log_warn("keep template '%s/%s': %s", c->dir, key, strerror(-r));
	}
	if (fcntl(memfd, F_ADD_SEALS, SEALS) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "seal the template of virtual machines");
	*ret_name = TAKE_PTR(key);
	return 0;
}
