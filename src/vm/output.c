#include "vm/output.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define LINE_MAX_BYTES 512
#define TAIL_BYTES 400
#define BYTES_A_SECOND (8u << 10)

char *text_clean(const char *s, size_t max)
{
	char *copy = xstrndup(s ? s : "", max);

	for (char *p = copy; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	return copy;
}

static void log_line(struct output *o, const char *line, size_t n)
{
	uint64_t second = now_mono_us() / 1000000;

	if (second != o->second) {
		if (o->dropped)
			log_write(o->level, "%s: %zu more lines", o->name, o->dropped);
		o->second = second;
		o->logged = o->dropped = 0;
	}
	o->logged += n;
	if (o->logged > BYTES_A_SECOND)
		o->dropped++;
	else
		log_write(o->level, "%s: %s", o->name, line);
}

static void end_line(struct output *o)
{
	struct sbuf *t = &o->tail;

	if (!o->line.len)
		return;
	log_line(o, sbuf_str(&o->line), o->line.len);
	if (o->telling && !o->told && strstr(sbuf_str(&o->line), o->telling))
		o->told = xstrdup(sbuf_str(&o->line));
	sbuf_printf(t, "%s%s", t->len ? " | " : "", sbuf_str(&o->line));
	if (t->len > TAIL_BYTES)
		sbuf_consume(t, t->len - TAIL_BYTES);
	sbuf_reset(&o->line);
}

/* What steers a terminal says nothing: ESC and one more, or ESC [ up to a letter. Firmware prints such. */
static bool steers(struct output *o, char c)
{
	if (c == '\n' || (o->escape == ESCAPE_NONE && c != 033)) {
		o->escape = ESCAPE_NONE;
		return false;
	}
	if (o->escape == ESCAPE_NONE)
		o->escape = ESCAPE_BEGUN;
	else if (o->escape == ESCAPE_BEGUN)
		o->escape = c == '[' ? ESCAPE_LONG : ESCAPE_NONE;
	else if (c >= '@' && c <= '~')
		o->escape = ESCAPE_NONE;
	return true;
}

static void take(struct output *o, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n' || o->line.len >= LINE_MAX_BYTES)
			end_line(o);
		if (!steers(o, p[i]) && p[i] >= ' ' && p[i] <= '~')
			sbuf_putc(&o->line, p[i]);
	}
}

/* False at the end, or where nothing is there now. */
static bool take_some(struct output *o)
{
	char buf[4096];
	ssize_t n = RETRY(read(o->fd, buf, sizeof buf));

	if (n > 0)
		take(o, buf, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		loop_source_free(TAKE_PTR(o->io));
	return n > 0;
}

static void on_io(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	(void)take_some(ud);
}

int output_open(struct output *o, struct loop *l, const char *name, enum log_level level, int *ret_fd)
{
	int pair[2], r;

	*o = (struct output){.name = name,
			     .level = level,
			     .fd = -EBADF,
			     .line = SBUF_INIT_MAX(2 * LINE_MAX_BYTES),
			     .tail = SBUF_INIT_MAX(2 * LINE_MAX_BYTES)};
	r = sock_pair(pair);
	if (r < 0)
		return r;
	o->fd = pair[0];
	r = fd_set_nonblock(o->fd, true);
	if (r == 0)
		r = loop_add_io(l, o->fd, EPOLLIN, on_io, o, &o->io);
	if (r < 0) {
		fd_close(&o->fd);
		close(pair[1]);
		return r;
	}
	*ret_fd = pair[1];
	return 0;
}

void output_drain(struct output *o)
{
	/* Bounded by the socket's buffer: who printed is gone. */
	for (int i = 0; i < 256 && o->fd >= 0 && take_some(o); i++)
		;
}

const char *output_tail(struct output *o)
{
	end_line(o);
	return o->told ? o->told : sbuf_str(&o->tail);
}

void output_close(struct output *o)
{
	loop_source_free(TAKE_PTR(o->io));
	fd_close(&o->fd);
	sbuf_done(&o->line);
	sbuf_done(&o->tail);
	free(o->told);
}
