#include "lib/gzip.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <zlib.h>

#define PIECE (256u << 10)

int gzip_file(int from, int to, void (*tee)(void *ud, const void *p, size_t n), void *ud)
{
	_cleanup_free_ unsigned char *in = xmalloc(PIECE), *out = xmalloc(PIECE);
	z_stream z = { 0 };
	int64_t off = 0;
	int state = Z_OK, r = 0;

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	while (r == 0 && state != Z_STREAM_END) {
		ssize_t n = 0;

		if (!z.avail_in) {
			n = RETRY(pread(from, in, PIECE, off));
			if (n < 0) {
				r = -errno;
				break;
			}
			off += n;
			z.next_in = in;
			z.avail_in = (unsigned)n;
		}
		z.next_out = out;
		z.avail_out = PIECE;
		state = deflate(&z, z.avail_in ? Z_NO_FLUSH : Z_FINISH);
		tee(ud, out, PIECE - z.avail_out);
		r = fd_write_full(to, out, PIECE - z.avail_out);
	}
	deflateEnd(&z);
	return r;
}
