/* needs: src/lib/json.c src/lib/json_scan.c src/lib/json_write.c src/base/alloc.c src/base/sbuf.c
 * src/base/strv.c src/base/err.c -ljson-c -lm */
/* Documents: whatever parses can be written and parsed again; what is cut out of an object is what its tree
 * has. */
#include "base/alloc.h"
#include "base/strv.h"
#include "lib/json.h"
#include "lib/json_scan.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

/* text: how j is written. The member that comes last is cut out, which may stand there as an empty one. */
static void scan(const struct json *j, const char *text)
{
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(SIZE_MAX / 2);
	_cleanup_json_ struct json *cut = NULL;
	_cleanup_free_ char *is = NULL, *was = NULL;
	const char *keys[] = {NULL, NULL};
	struct json_iter it = {0};
	size_t n = strlen(text);

	if (json_type(j) != JSON_OBJECT)
		return;
	while (json_next(j, &it))
		keys[0] = it.key;
	must(json_scan_value(text, n) == n && json_scan_value(text, n - 1) == 0);
	must(json_scan_members(text, n, keys, &out) == n);
	must(json_parse(out.buf, out.len, &cut, NULL) == 0);
	for (const char *k = keys[0]; k && *k; k++)
		if ((unsigned char)*k < 0x20 || *k == '"' || *k == '\\')
			return;		/* written with escapes: not looked for */
	must(json_len(cut) == (keys[0] != NULL));
	is = json_dump(json_get(cut, keys[0] ?: ""));
	was = json_dump(json_get(j, keys[0] ?: ""));
	must(streq(is, was));
}

/* What is no document is cut too. */
static void scan_bytes(const char *p, size_t n)
{
	static const char *const keys[] = {"", "a", "Id", NULL};
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(SIZE_MAX / 2);

	must(json_scan_value(p, n) <= n);
	must(json_scan_members(p, n, keys, &out) <= n);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_json_ struct json *j = NULL, *again = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *text = NULL, *pretty = NULL;

	scan_bytes((const char *)p, n);
	if (json_parse((const char *)p, n, &j, &e) < 0)
		return 0;
	text = json_dump(j);
	pretty = json_dump_pretty(j, "    ");
	if (json_parse(text, strlen(text), &again, &e) < 0)
		__builtin_trap();
	scan(j, text);
	return 0;
}
