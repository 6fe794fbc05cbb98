#include "base/log.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/sbuf.h"
#include "base/timefmt.h"

#include <string.h>

static struct {
	const char *name;
	enum log_level max;
	int fd;
	bool json;
} lg = { .name = "insula", .max = LOG_LVL_INFO, .fd = 2 };

static const char *const level_names[] = { "error", "warning", "info", "debug" };

void log_init(const char *name, enum log_level max)
{
	lg.name = name;
	lg.max = max;
}

void log_set_fd(int fd)
{
	lg.fd = fd;
}

void log_set_json(bool on)
{
	lg.json = on;
}

enum log_level log_get_level(void)
{
	return lg.max;
}

static void put_json_text(struct sbuf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			sbuf_printf(b, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			sbuf_printf(b, "\\u%04x", (unsigned char)*s);
		else
			sbuf_putc(b, *s);
	}
}

void log_write(enum log_level l, const char *fmt, ...)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(16 << 10);
	_cleanup_free_ char *msg = NULL;
	char when[40];
	va_list ap;
	int saved = errno;

	if (l > lg.max)
		return;
	va_start(ap, fmt);
	msg = xvasprintf(fmt, ap);
	va_end(ap);
	time_rfc3339_fixed(now_real_ns(), when);
	if (lg.json) {
		sbuf_printf(&b, "{\"level\":\"%s\",\"msg\":\"", level_names[l]);
		put_json_text(&b, msg);
		sbuf_printf(&b, "\",\"time\":\"%s\"}\n", when);
	} else if (lg.max >= LOG_LVL_INFO) {
		sbuf_printf(&b, "%s %s[%d] %s: %s\n", when, lg.name, getpid(), level_names[l], msg);
	} else {
		sbuf_printf(&b, "%s: %s\n", lg.name, msg);
	}
	if (lg.fd >= 0 && b.buf)
		(void)fd_write_full(lg.fd, b.buf, b.len);
	errno = saved;
}
