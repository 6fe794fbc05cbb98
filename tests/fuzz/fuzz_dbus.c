/* needs: src/lib/dbus.c src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c src/base/fd.c
 * src/base/log.c src/base/loop.c src/base/proc.c src/base/sock.c src/base/timefmt.c src/base/path.c -lm */
/* Messages as they come from a bus. */
#include "lib/dbus.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_dbus_msg_ struct dbus_msg m = { 0 }, again = { 0 };
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	struct dbus_in in;
	const char *s;
	uint32_t u;

	if (dbus_decode(p, n, &m) < 0)
		return 0;
	/* What was understood can be said again. */
	dbus_encode(&m, &out);
	if (sbuf_ok(&out) && (dbus_decode(out.buf, out.len, &again) < 0 || again.n_body != m.n_body))
		abort();
	in = (struct dbus_in){ (const uint8_t *)m.body, m.n_body, 0 };
	while (dbus_get_u32(&in, &u) && dbus_get_str(&in, &s) && strlen(s) < n)
		;
	return 0;
}
