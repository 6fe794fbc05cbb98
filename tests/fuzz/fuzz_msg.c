/* needs: src/proto/msg.c src/proto/frame.c src/base/alloc.c src/base/sbuf.c src/base/strv.c */
/* Frames and messages as a hostile guest would send them: every message type decodes any bytes. */
#include "proto/frame.h"
#include "proto/msg.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct frame f;
	ssize_t used = frame_decode(p, n, &f);

	if (used <= 0)
		return 0;
#define M(num, NAME, name) { \
		struct msg_##name m; \
		if (msg_##name##_decode(f.payload, f.len, &m) == 0) { \
			_cleanup_sbuf_ struct sbuf b = SBUF_INIT; \
			msg_##name##_encode(&m, &b); \
			msg_##name##_done(&m); \
		} \
	}
	MSG_TABLE(M)
#undef M
	return 0;
}
