/* The frame of every insula protocol: daemon <-> supervisor (unix socket) and vmwp <-> agent
 * (virtio-serial). 16-byte little-endian header, then `len` bytes of payload. See docs/PROTOCOL.md. */
#pragma once

#include "base/macro.h"
#include <sys/types.h>

#define PROTO_VERSION 1
/* Between vmwp and the agent, which are of one build most often: 1 named disks by their serial numbers. */
#define AGENT_VERSION 2
#define FRAME_HDR 16
#define FRAME_MAX (4u << 20)		/* larger payloads end the connection */
#define FRAME_DATA_MAX (32u << 10)	/* longest DATA payload */

struct frame {
	uint32_t len;
	uint16_t type;		/* enum msg_type */
	uint16_t epoch;		/* agent link only: frames of another epoch are dropped */
	uint32_t seq;		/* request number, repeated in its REPLY; 0 = event */
	uint32_t stream;	/* DATA, STREAM_EOF, CREDIT; else 0 */
	const uint8_t *payload;
};

void frame_encode_hdr(const struct frame *f, uint8_t ret[FRAME_HDR]);
/* Bytes consumed (header + payload), 0 = need more, -EPROTO = oversized. payload points into p. */
ssize_t frame_decode(const void *p, size_t n, struct frame *ret);
