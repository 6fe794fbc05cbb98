#include "proto/frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/types.h>

void frame_encode_hdr(const struct frame *f, uint8_t ret[FRAME_HDR])
{
	uint32_t len = htole32(f->len), seq = htole32(f->seq), stream = htole32(f->stream);
	uint16_t type = htole16(f->type), epoch = htole16(f->epoch);

	memcpy(ret, &len, 4);
	memcpy(ret + 4, &type, 2);
	memcpy(ret + 6, &epoch, 2);
	memcpy(ret + 8, &seq, 4);
	memcpy(ret + 12, &stream, 4);
}

ssize_t frame_decode(const void *p, size_t n, struct frame *ret)
{
	const uint8_t *b = p;
	uint32_t len, seq, stream;
	uint16_t type, epoch;

	if (n < FRAME_HDR)
		return 0;
	memcpy(&len, b, 4);
	memcpy(&type, b + 4, 2);
	memcpy(&epoch, b + 6, 2);
	memcpy(&seq, b + 8, 4);
	memcpy(&stream, b + 12, 4);
	len = le32toh(len);
	if (len > FRAME_MAX)
		return -EPROTO;
	if (n - FRAME_HDR < len)
		return 0;
	*ret = (struct frame){
		.len = len, .type = le16toh(type), .epoch = le16toh(epoch),
		.seq = le32toh(seq), .stream = le32toh(stream), .payload = b + FRAME_HDR,
	};
	return (ssize_t)(FRAME_HDR + len);
}
