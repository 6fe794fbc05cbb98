/* needs: src/lib/seccomp.c src/lib/json.c src/lib/json_write.c src/base/alloc.c src/base/sbuf.c
 * src/base/strv.c src/base/err.c src/base/fd.c src/base/fs.c src/base/hash.c src/base/id.c
 * src/base/path.c src/base/log.c src/base/loop.c src/base/proc.c src/base/timefmt.c -lseccomp -ljson-c
 * -lm */
/* The profile compiler: linux.seccomp documents. */
#include "lib/seccomp.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_seccomp_ struct seccomp_prog prog = { 0 };
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_json_ struct json *j = NULL;
	int r = json_parse((const char *)p, n, &j, NULL);

	if (r < 0)
		return 0;
	r = seccomp_prog_compile_here(j, &prog, &e);
	/* A program, or words about what is wrong with the profile. */
	if (r == 0 ? !prog.insns || !prog.len : !e.msg || prog.insns)
		abort();
	return 0;
}
