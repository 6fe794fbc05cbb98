#include "oci/chain.h"
#include "base/alloc.h"
#include "lib/digest.h"

#include <string.h>

char *chain_id(const char *parent, const char *diff_id)
{
	_cleanup_free_ char *text = NULL;
	char hex[65];

	if (!parent)
		return xstrdup(diff_id);
	text = xasprintf("%s %s", parent, diff_id);
	sha256_hex(text, strlen(text), hex);
	return xasprintf("sha256:%s", hex);
}
