/* Docker's multiplexed stream: frames of an 8-byte head (stream number, 0, 0, 0, length big-endian) and
 * payload. */
#pragma once

#include "base/sbuf.h"

struct demux {
	unsigned char head[8];
	size_t head_len;
	uint32_t left;		/* payload bytes of the current frame still to come */
};

/* Writes payloads to descriptors 1 and 2. raw: everything is payload for 1 (a tty). -errno if a write fails,
 * -EBADMSG for a frame of an unknown stream. */
int demux_write(struct demux *d, bool raw, const void *p, size_t n);
