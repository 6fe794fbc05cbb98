/* needs: src/lib/json.c src/lib/json_write.c src/base/alloc.c src/base/sbuf.c src/base/strv.c
 * src/base/err.c -ljson-c -lm */
/* Documents: whatever parses can be written and parsed again. */
#include "base/alloc.h"
#include "lib/json.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_json_ struct json *j = NULL, *again = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *text = NULL, *pretty = NULL;

	if (json_parse((const char *)p, n, &j, &e) < 0)
		return 0;
	text = json_dump(j);
	pretty = json_dump_pretty(j, "    ");
	if (json_parse(text, strlen(text), &again, &e) < 0)
		__builtin_trap();
	return 0;
}
