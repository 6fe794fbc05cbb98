/* needs: src/oci/image_needs.c src/oci/image_spec.c src/oci/ref.c src/lib/json.c src/lib/json_write.c
 * src/base/id.c src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c -ljson-c -lm */
/* Image configs, indexes, and Dockerfile instructions: the first line is one, the rest a document. */
#include "base/alloc.h"
#include "base/strv.h"
#include "oci/image_needs.h"
#include "oci/image_spec.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const uint8_t *line = memchr(p, '\n', n);
	size_t first = line ? (size_t)(line - p) : n;
	_cleanup_free_ char *change = xstrndup((const char *)p, first), *text = NULL, *why = NULL;
	_cleanup_json_ struct json *doc = NULL, *config = json_object();
	_cleanup_strv_ char **ids = NULL;
	_cleanup_err_ struct err e = ERR_INIT, e2 = ERR_INIT, e3 = ERR_INIT;

	(void)image_change_apply(config, change, &e);
	text = json_dump(config);
	if (!line || json_parse((const char *)line + 1, n - first - 1, &doc, &e2) < 0)
		return 0;
	(void)image_config_diff_ids(doc, &ids, &e3);
	(void)image_config_check_host(doc, NULL);
	if (!image_needs_met(doc, "6.1.0", &why) && !why)
		__builtin_trap();
	if (json_type(doc) == JSON_OBJECT)
		(void)image_change_apply(doc, change, NULL);
	return 0;
}
