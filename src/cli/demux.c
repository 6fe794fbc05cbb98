#include "cli/demux.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>

int demux_write(struct demux *d, bool raw, const void *data, size_t n)
{
	const unsigned char *p = data;

	if (raw)
		return fd_write_full(1, p, n);
	while (n > 0) {
		size_t k;
		int r;

		if (d->left == 0) {
			k = MIN(n, sizeof(d->head) - d->head_len);
			memcpy(d->head + d->head_len, p, k);
			d->head_len += k;
			p += k;
			n -= k;
			if (d->head_len < sizeof(d->head))
				continue;
			d->head_len = 0;
			d->left =
			    (uint32_t)d->head[4] << 24 | d->head[5] << 16 | d->head[6] << 8 | d->head[7];
			if (d->head[0] > 3)
				return -EBADMSG;
			continue;
		}
		k = MIN(n, (size_t)d->left);
		r = fd_write_full(d->head[0] >= 2 ? 2 : 1, p, k);
		if (r < 0)
			return r;
		d->left -= k;
		p += k;
		n -= k;
	}
	return 0;
}
