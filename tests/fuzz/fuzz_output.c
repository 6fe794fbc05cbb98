/* needs: src/vm/output.c src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c src/base/fd.c
 * src/base/log.c src/base/loop.c src/base/proc.c src/base/sock.c src/base/timefmt.c src/base/path.c -lm */
/* What a guest writes to its console, and QEMU to its errors: whatever it is, what is kept of it is short, is
 * printable, and ends. */
#include "vm/output.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAIL_MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(const char *s, size_t max)
{
	if (strlen(s) > max)
		abort();
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_loop_ struct loop *loop = NULL;
	_cleanup_free_ char *text = xstrndup((const char *)p, n), *words = NULL;
	struct output o;
	int fd = -EBADF;

	log_init("fuzz", LOG_LVL_ERROR);
	if (loop_new(&loop) < 0 || output_open(&o, loop, "console", LOG_LVL_DEBUG, &fd) < 0)
		abort();
	o.telling = "Kernel panic";
	/* In pieces, that end anywhere. */
	for (size_t at = 0; at < n;) {
		size_t want = 1 + p[at] * 7u;
		ssize_t wrote = write(fd, p + at, want < n - at ? want : n - at);

		if (wrote <= 0)
			abort();
		at += (size_t)wrote;
		output_drain(&o);
		check(output_tail(&o), TAIL_MAX);
	}
	close(fd);
	output_drain(&o);
	check(output_tail(&o), TAIL_MAX);
	if (o.line.len > TAIL_MAX || o.tail.len > TAIL_MAX || (o.told && !strstr(o.told, o.telling)))
		abort();
	output_close(&o);
	words = text_clean(text, 64);
	check(words, 64);
	return 0;
}
