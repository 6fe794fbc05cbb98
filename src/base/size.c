#include "base/alloc.h"
#include "base/timefmt.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

int size_parse_ram(const char *s, bool neg_ok, int64_t *ret)
{
	static const char units[] = "bkmgtp";
	char *end;
	double v, mult = 1;

	if (neg_ok && !strcmp(s, "-1")) {
		*ret = -1;
		return 0;
	}
	if (!*s || !strchr("0123456789.", *s))
		return -EINVAL;
	v = strtod(s, &end);
	if (end == s || strspn(s, "0123456789.") != (size_t)(end - s))
		return -EINVAL;
	while (*end == ' ')
		end++;
	if (*end) {
		const char *u = strchr(units, *end | 0x20);

		if (!u)
			return -EINVAL;
		mult = ldexp(1, (int)(u - units) * 10);
		end++;
		/* "k", "kb", "kib" all mean 1024; plain "b" stands alone. */
		if (mult > 1 && (*end | 0x20) == 'i')
			end++;
		if (mult > 1 && (*end | 0x20) == 'b')
			end++;
		if (*end)
			return -EINVAL;
	}
	if (v * mult >= 9.2e18)
		return -ERANGE;
	*ret = (int64_t)(v * mult);
	return 0;
}

static char *human(double v, double base, const char *const *units, size_t n, int precision)
{
	size_t i = 0;

	while (v >= base && i + 1 < n) {
		v /= base;
		i++;
	}
	return xasprintf("%.*g%s", precision, v, units[i]);
}

char *size_human(double bytes)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" };

	return human(bytes, 1000, units, ARRAY_SIZE(units), 3);
}

char *size_human_bytes(double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB" };

	return human(bytes, 1024, units, ARRAY_SIZE(units), 4);
}
