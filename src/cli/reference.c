#include "cli/reference.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <string.h>

void reference_split(const char *ref, char **ret_repo, char **ret_tag)
{
	const char *cut = strchr(ref, '@'), *slash = strrchr(ref, '/');

	if (!cut)
		cut = strchr(slash ?: ref, ':');
	*ret_repo = cut ? xstrndup(ref, cut - ref) : xstrdup(ref);
	*ret_tag = cut ? xstrdup(cut + 1) : NULL;
}

char *reference_tagged(const char *ref)
{
	_cleanup_free_ char *repo = NULL, *tag = NULL;

	reference_split(ref, &repo, &tag);
	return tag ? xstrdup(ref) : xasprintf("%s:latest", ref);
}

char *reference_canonical(const char *ref)
{
	_cleanup_free_ char *tagged = reference_tagged(ref);
	const char *slash = strchr(tagged, '/');
	size_t n = slash ? slash - tagged : 0;

	/* The first part is a host if it has a dot or a port, or is localhost. */
	if (slash &&
	    (memchr(tagged, '.', n) || memchr(tagged, ':', n) || (n == 9 && str_starts(tagged, "localhost"))))
		return TAKE_PTR(tagged);
	return xasprintf("docker.io/%s%s", slash ? "" : "library/", tagged);
}
