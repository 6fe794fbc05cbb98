/* needs: src/puller/unpack.c src/lib/tar.c src/lib/tree_writer.c src/lib/digest.c src/base/fs.c src/base/fd.c
 * src/base/path.c src/base/id.c src/base/hash.c src/base/alloc.c src/base/sbuf.c src/base/strv.c
 * src/base/err.c -larchive -lcrypto */
/* Layers: whatever the bytes are, they end in a directory made for them, or in an error. */
#include "base/fs.h"
#include "base/alloc.h"
#include "puller/puller.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct bytes { const uint8_t *p; size_t n; };

static ssize_t take(void *ud, void *buf, size_t n)
{
	struct bytes *b = ud;
	size_t k = MIN(n, b->n);

	memcpy(buf, b->p, k);
	b->p += k;
	b->n -= k;
	return (ssize_t)k;
}

static char dir[] = "/tmp/insula-fuzz-XXXXXX";

static void remove_outside(void)
{
	(void)fs_rm_rf(AT_FDCWD, dir);
}

static int make_outside(void)
{
	const struct rlimit size = { 64 << 20, 64 << 20 };

	signal(SIGXFSZ, SIG_IGN);
	(void)setrlimit(RLIMIT_FSIZE, &size);
	if (!mkdtemp(dir))
		abort();
	atexit(remove_outside);
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static int outside = -1;
	struct bytes b = { p, n };
	struct unpack u = { .layer = n % 2, .files_only = n % 3 == 0 };
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_strv_ char **left = NULL;
	int r;

	if (outside < 0)
		outside = make_outside();
	if (mkdirat(outside, "in", 0700) < 0)
		abort();
	u.root = openat(outside, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = unpack(&u, &(struct tar_source){ take, &b }, &e);
	if (r < 0 && !e.kind)
		abort();
	unpack_done(&u);
	close(u.root);
	if (fs_rm_rf(outside, "in") < 0 || fs_list(outside, &left) < 0 || left)
		abort();
	return 0;
}
