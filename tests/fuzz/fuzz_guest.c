/* needs: src/vm/guest.c src/vm/create.c src/vm/link.c src/vm/machine.c src/vm/files.c src/vm/pipes.c
 * src/vm/memory.c src/vm/output.c src/proto/msg.c src/proto/frame.c src/proto/conn.c src/proto/stream.c
 * src/proto/relay.c src/lib/json.c src/lib/netlink.c src/lib/nl_sock.c src/lib/seccomp.c src/lib/digest.c
 * src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c src/base/fd.c src/base/fs.c
 * src/base/hash.c src/base/id.c src/base/log.c src/base/loop.c src/base/proc.c src/base/sock.c
 * src/base/timefmt.c src/base/path.c src/lib/json_write.c -ljson-c -lseccomp -lcrypto -lm */
/* vmwp and a guest that has a container running, an exec being made, questions that are not answered yet, and
 * from then on says what it likes: as bytes, or as frames with what it likes in them. Whatever that is: every
 * request is answered once, every task ends once, and nothing is told of tasks that are none. */
#include "tests/fake_machine.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "proto/conn.h"
#include "vm/guest_internal.h"
#include "vm/share.h"
#include "vm/template.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CTR "c"
#define REQUESTS 16
#define MEMORY_MOST (1 << 30)

/* --- what else of vmwp is not of interest --- */

const char guest_cmdline[] = "";

int share_start(struct share *s, struct loop *l, const char *path, const char *words,
		const struct cgroup *cgroup, struct err *e)
{
	return -ENOSYS;
}

void share_stop(struct share *s)
{
}

int group_make(struct guest *g, const struct msg_sandbox *m, bool clone, struct err *e)
{
	return 0;
}

bool group_out_of_memory(const struct guest *g)
{
	return false;
}

int group_limits(struct guest *g, struct json *resources, struct err *e)
{
	return 0;
}

void group_remove(struct guest *g)
{
}

int template_open(int memfd, uint64_t memory, bool shared, int *ret_ram, int *ret_state)
{
	return -ENOSYS;
}

/* --- the supervisor --- */

static struct {
	unsigned asked, answers[REQUESTS];
	bool exited[2], lost;		/* the init, the exec */
	unsigned eofs[2][3];
} s;

static unsigned task(const char *ctr, const char *exec)
{
	if (!streq(ctr, CTR) || (*exec && !streq(exec, "e")) || s.lost)
		abort();
	return *exec != 0;
}

static void ev_output(void *ud, const char *ctr, const char *exec, enum task_stream st, const void *p,
		      size_t n)
{
	if (s.eofs[task(ctr, exec)][st] || st == TASK_STDIN_FD || n > FRAME_DATA_MAX)
		abort();
}

static void ev_eof(void *ud, const char *ctr, const char *exec, enum task_stream st)
{
	if (s.eofs[task(ctr, exec)][st]++)
		abort();
}

static void ev_ready(void *ud, const char *ctr, const char *exec)
{
	(void)task(ctr, exec);
}

static void ev_exited(void *ud, const char *ctr, const char *exec, int code, uint64_t when, bool oom,
		      const char *reason)
{
	unsigned t = task(ctr, exec);

	if (s.exited[t] || code < 0 || code > 255 || strpbrk(reason, "\n\033"))
		abort();
	s.exited[t] = true;
}

static void ev_lost(void *ud, const char *reason)
{
	if (s.lost)
		abort();
	s.lost = true;
}

static const struct backend_events events = { ev_output, ev_eof, ev_ready, ev_exited, ev_lost };

static void answered(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	unsigned *answers = ud;

	if (++*answers > 1)
		abort();
}

static void *next(void)
{
	if (s.asked == REQUESTS)
		abort();
	return &s.answers[s.asked++];
}

/* --- the guest --- */

static char dir[] = "/tmp/insula-fuzz-XXXXXX";
static char *disk, *server_path;
static int server = -EBADF;

static void tidy(void)
{
	(void)unlink(disk);
	(void)unlink(server_path);
	(void)rmdir(dir);
}

static void prepare(void)
{
	if (disk)
		return;
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	if (!mkdtemp(dir))
		abort();
	disk = xasprintf("%s/disk", dir);
	server_path = xasprintf("%s/socket", dir);
	close(open(disk, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	server = sock_listen_unix(server_path, 0600);
	if (server < 0 || fd_set_nonblock(server, true) < 0)
		abort();
	(void)atexit(tidy);
}

static void spin(struct loop *l)
{
	char heard[8192];
	int peer;

	for (int i = 0; i < 4; i++) {
		(void)loop_run_once(l, 0);
		while (recv(machine.link, heard, sizeof heard, MSG_DONTWAIT) > 0)
			;
	}
	while ((peer = accept4(server, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(peer);
	if (machine.memory > MEMORY_MOST || machine.memory % (128 << 20))
		abort();
}

static void says(uint16_t type, uint32_t seq, uint32_t stream, const void *p, size_t n)
{
	struct frame f = { .len = (uint32_t)n, .type = type, .seq = seq, .stream = stream };
	uint8_t b[FRAME_HDR];

	frame_encode_hdr(&f, b);
	(void)send(machine.link, b, sizeof b, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)send(machine.link, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* An honest one, so far: requests are numbered from 1. */
static void agrees(struct loop *l, uint32_t seq, const void *p, size_t n)
{
	struct msg_reply m = { .payload = { (uint8_t *)p, n } };
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_reply_encode(&m, &b);
	says(MSG_REPLY, seq, 0, b.buf, b.len);
	spin(l);
}

/* Input of frames: type, seq, stream, length, each a byte, and as many bytes as that is. Streams of the
 * guest's own choice have their mark in the byte's first bit. */
static void says_frames(struct loop *l, const uint8_t *p, size_t n)
{
	while (n >= 4) {
		size_t len = MIN((size_t)p[3], n - 4);

		says(p[0], p[1], p[2] & 0x80 ? PIPE_STREAM | (p[2] & 0x7fu) : p[2], p + 4, len);
		p += 4 + len;
		n -= 4 + len;
		spin(l);
	}
}

static void says_bytes(struct loop *l, const uint8_t *p, size_t n)
{
	for (size_t at = 0; at < n; at += 4096) {
		(void)send(machine.link, p + at, MIN(n - at, (size_t)4096), MSG_DONTWAIT | MSG_NOSIGNAL);
		spin(l);
	}
}

/* --- one life --- */

static void begin(struct loop *l, struct backend *b)
{
	char *shares[] = { (char *)"v0", server_path, (char *)"socket", NULL }, *lower[] = { disk, NULL };
	struct msg_sandbox box = { .net = (char *)"own", .shares = shares, .accel = (char *)"tcg",
				   .kernel = disk, .initrd = disk, .memory = 128 << 20,
				   .memory_region = MEMORY_MOST, .memory_most = MEMORY_MOST,
				   .cgroup = (char *)"" };
	struct msg_create m = { .ctr = (char *)CTR, .exec = (char *)"", .lower = lower, .upper = (char *)"",
				.spec = { (uint8_t *)"{}", 2 } };
	struct msg_hello h = { .version = AGENT_VERSION };
	_cleanup_sbuf_ struct sbuf hello = SBUF_INIT;
	uint32_t pid = 7;

	b->ops->sandbox(b, &box, -EBADF, answered, next());
	machine.touched = MEMORY_MOST;
	b->ops->create(b, &m, answered, next());
	msg_hello_encode(&h, &hello);
	agrees(l, 1, hello.buf, hello.len);
	agrees(l, 2, NULL, 0);
	agrees(l, 3, NULL, 0);
	b->ops->start(b, CTR, "", answered, next());
	agrees(l, 4, &pid, sizeof pid);
}

static void ask(struct loop *l, struct backend *b)
{
	struct msg_create m = { .ctr = (char *)CTR, .exec = (char *)"e", .upper = (char *)"" };
	struct msg_control c = { .ctr = (char *)CTR, .op = CONTROL_STATS };
	struct msg_files f = { .ctr = (char *)CTR, .op = FILES_GET, .path = (char *)"/" };
	int pair[2];

	b->ops->create(b, &m, answered, next());
	b->ops->start(b, CTR, "e", answered, next());
	b->ops->ps(b, CTR, answered, next());
	b->ops->control(b, &c, answered, next());
	if (sock_pair(pair) < 0)
		abort();
	b->ops->files(b, &f, pair[0], answered, next());
	close(pair[1]);
	(void)b->ops->stdin_write(b, CTR, "", "input", 5);
	spin(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_loop_ struct loop *l = NULL;
	struct backend *b;

	prepare();
	memset(&s, 0, sizeof s);
	memset(&machine, 0, sizeof machine);
	if (n < 1 || loop_new(&l) < 0 || guest_new(l, "sb", false, &b) < 0)
		return 0;
	b->events = &events;
	begin(l, b);
	ask(l, b);
	if (p[0] & 1)
		says_bytes(l, p + 1, n - 1);
	else
		says_frames(l, p + 1, n - 1);
	b->ops->output_pause(b, CTR, "", false);
	spin(l);
	fd_close(&machine.link);
	machine.v.events->gone(machine.v.userdata, "QEMU was ended by signal 9");
	for (int i = 0; i < 4; i++)
		(void)loop_run_once(l, 0);
	if (!s.lost)
		abort();
	for (unsigned i = 0; i < s.asked; i++)
		if (s.answers[i] != 1)
			abort();
	b->ops->free(b);
	return 0;
}
