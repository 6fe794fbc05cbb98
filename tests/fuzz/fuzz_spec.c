/* needs: src/oci/runtime_spec.c src/oci/runtime_sched.c src/oci/runtime_fields.c src/oci/runtime_ns.c
 * src/oci/runtime_resources.c src/lib/json.c src/lib/json_write.c src/base/alloc.c src/base/sbuf.c
 * src/base/strv.c src/base/err.c -ljson-c -lm */
/* config.json and process documents. */
#include "oci/runtime_spec.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_oci_spec_ struct oci_spec *s = NULL;
	_cleanup_oci_process_ struct oci_process *q = NULL;
	_cleanup_err_ struct err e = ERR_INIT;

	(void)oci_spec_parse((const char *)p, n, &s, &e);
	(void)oci_process_parse((const char *)p, n, &q, &e);
	return 0;
}
