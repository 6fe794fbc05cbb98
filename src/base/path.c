#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <string.h>

char *path_join(const char *a, const char *b)
{
	while (*b == '/')
		b++;
	return xasprintf("%s%s%s", a, str_ends(a, "/") ? "" : "/", b);
}

const char *path_basename(const char *p)
{
	const char *s = strrchr(p, '/');

	return s ? s + 1 : p;
}

bool path_is_absolute(const char *p)
{
	return p && *p == '/';
}

char *path_clean(const char *p)
{
	_cleanup_strv_ char **in = strv_split(p, "/");
	_cleanup_free_ char **out = new_array(char *, strv_len(in) + 1);
	bool absolute = path_is_absolute(p);
	struct sbuf b = SBUF_INIT;
	size_t n = 0;

	for (char **c = in; c && *c; c++) {
		if (streq(*c, "."))
			continue;
		if (streq(*c, "..") && n && !streq(out[n - 1], ".."))
			n--;
		else if (!streq(*c, "..") || !absolute)
			out[n++] = *c;
	}
	for (size_t i = 0; i < n; i++) {
		if (absolute || i)
			sbuf_putc(&b, '/');
		sbuf_puts(&b, out[i]);
	}
	if (!n)
		sbuf_puts(&b, absolute ? "/" : ".");
	return sbuf_steal(&b);
}
