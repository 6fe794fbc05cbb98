/* needs: src/oci/ref.c src/base/id.c src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c */
/* Image references: what is accepted comes out the same when it is read again. */
#include "base/alloc.h"
#include "base/strv.h"
#include "oci/ref.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_free_ char *text = xstrndup((const char *)p, n), *once = NULL, *twice = NULL;
	_cleanup_ref_ struct ref a = { 0 }, b = { 0 };
	_cleanup_err_ struct err e = ERR_INIT;

	if (ref_parse(text, &a, &e) < 0)
		return 0;
	once = ref_familiar(&a);
	if (ref_parse(once, &b, NULL) < 0)
		__builtin_trap();
	twice = ref_familiar(&b);
	if (!streq(once, twice) || !streq(a.domain, b.domain) || !streq(a.path, b.path))
		__builtin_trap();
	return 0;
}
