#include "base/timefmt.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS 1000000000ull

/* The date that many days after 1970-01-01. gmtime(3) would do, but reads the local time zone's file first.
 * A year begins with March here, so that the day that comes and goes is its last. */
static void date_of(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
	uint64_t since = days + 719468;		/* 0000-03-01 */
	unsigned era = (unsigned)(since / 146097), in_era = (unsigned)(since % 146097);
	unsigned y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	unsigned in_year = in_era - (365 * y + y / 4 - y / 100), m = (5 * in_year + 2) / 153;

	*day = in_year - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = y + era * 400 + (*month <= 2);
}

void time_rfc3339_fixed(uint64_t real_ns, char buf[40])
{
	uint64_t s = real_ns / NS;
	unsigned year, month, day;

	date_of(s / 86400, &year, &month, &day);
	snprintf(buf, 40, "%04u-%02u-%02uT%02u:%02u:%02u.%09uZ", year % 10000, month % 100, day % 100,
		 (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60), (unsigned)(s % 60),
		 (unsigned)(real_ns % NS));
}

char *time_rfc3339(uint64_t real_ns)
{
	char buf[40];
	size_t n;

	if (!real_ns)
		return xstrdup("0001-01-01T00:00:00Z");
	time_rfc3339_fixed(real_ns, buf);
	n = strlen(buf) - 1;
	while (buf[n - 1] == '0')
		n--;
	if (buf[n - 1] == '.')
		n--;
	buf[n] = 'Z';
	buf[n + 1] = 0;
	return xstrdup(buf);
}

/* ".123456" after the seconds, in nanoseconds; returns what follows. */
static const char *parse_fraction(const char *s, uint64_t *ns)
{
	uint64_t unit = NS / 10;

	*ns = 0;
	if (*s != '.')
		return s;
	for (s++; *s >= '0' && *s <= '9'; s++, unit /= 10)
		*ns += (uint64_t)(*s - '0') * unit;
	return s;
}

static int parse_zone(const char *s, int *ret_minutes)
{
	int h, m, n = 0;

	*ret_minutes = 0;
	if (streq(s, "Z") || !*s)
		return 0;
	if ((*s != '+' && *s != '-') || sscanf(s + 1, "%2d:%2d%n", &h, &m, &n) != 2 || s[1 + n])
		return -EINVAL;
	*ret_minutes = (*s == '-' ? -1 : 1) * (h * 60 + m);
	return 0;
}

/* The forms Docker takes: date; date and hours:minutes; with seconds; with fraction; each with a zone. */
static int parse_date(const char *s, uint64_t *ret_ns)
{
	struct tm tm = { .tm_mday = 1 };
	uint64_t frac = 0;
	int n = 0, zone;
	time_t t;

	if (sscanf(s, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &n) != 3 || n < 8)
		return -EINVAL;
	s += n;
	if (*s == 'T') {
		n = 0;
		if (sscanf(++s, "%2d:%2d%n", &tm.tm_hour, &tm.tm_min, &n) != 2)
			return -EINVAL;
		s += n;
		n = 0;
		if (*s == ':' && sscanf(s, ":%2d%n", &tm.tm_sec, &n) == 1)
			s = parse_fraction(s + n, &frac);
	}
	if (parse_zone(s, &zone) < 0)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	t = timegm(&tm) - zone * 60;
	if (t < 0)
		return -ERANGE;
	*ret_ns = (uint64_t)t * NS + frac;
	return 0;
}

int time_parse_rfc3339(const char *s, uint64_t *ret_ns)
{
	if (strlen(s) < 20 || s[10] != 'T')
		return -EINVAL;
	if (str_starts(s, "0001-01-01T00:00:00")) {
		*ret_ns = 0;
		return 0;
	}
	return parse_date(s, ret_ns);
}

int time_parse_duration(const char *s, uint64_t *ret_ns)
{
	static const struct { const char *unit; double ns; } units[] = {
		{ "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 },
	};
	double sum = 0;

	if (str_empty(s))
		return -EINVAL;
	if (streq(s, "0")) {
		*ret_ns = 0;
		return 0;
	}
	while (*s) {
		size_t digits = strspn(s, "0123456789."), ulen, i;
		char *end;
		double v;

		if (!digits)
			return -EINVAL;
		v = strtod(s, &end);
		if (end != s + digits)
			return -EINVAL;
		s = end;
		ulen = strspn(s, "numsh");
		for (i = 0; i < ARRAY_SIZE(units); i++)
			if (strlen(units[i].unit) == ulen && !strncmp(units[i].unit, s, ulen))
				break;
		if (i == ARRAY_SIZE(units))
			return -EINVAL;
		sum += v * units[i].ns;
		s += ulen;
	}
	if (sum > 9.2e18)
		return -ERANGE;
	*ret_ns = (uint64_t)sum;
	return 0;
}

int time_parse_since(const char *s, uint64_t now_ns, uint64_t *ret_ns)
{
	size_t digits = strspn(s, "0123456789");
	uint64_t v, frac;

	if (digits && (!s[digits] || s[digits] == '.')) {
		_cleanup_free_ char *sec = xstrndup(s, digits);

		if (str_to_u64(sec, &v) < 0 || v > INT64_MAX / NS)
			return -ERANGE;
		if (*parse_fraction(s + digits, &frac))
			return -EINVAL;
		*ret_ns = v * NS + frac;
		return 0;
	}
	if (time_parse_duration(s, &v) == 0) {
		*ret_ns = now_ns > v ? now_ns - v : 0;
		return 0;
	}
	return parse_date(s, ret_ns);
}

char *time_human_duration(uint64_t s)
{
	uint64_t m = s / 60, h = (m + 30) / 60;

	if (s < 1)
		return xstrdup("Less than a second");
	if (s == 1)
		return xstrdup("1 second");
	if (s < 60)
		return xasprintf("%llu seconds", (unsigned long long)s);
	if (m == 1)
		return xstrdup("About a minute");
	if (m < 60)
		return xasprintf("%llu minutes", (unsigned long long)m);
	if (h == 1)
		return xstrdup("About an hour");
	if (h < 48)
		return xasprintf("%llu hours", (unsigned long long)h);
	h = s / 3600;
	if (h < 24 * 7 * 2)
		return xasprintf("%llu days", (unsigned long long)(h / 24));
	if (h < 24 * 30 * 2)
		return xasprintf("%llu weeks", (unsigned long long)(h / 24 / 7));
	if (h < 24 * 365 * 2)
		return xasprintf("%llu months", (unsigned long long)(h / 24 / 30));
	return xasprintf("%llu years", (unsigned long long)(h / 24 / 365));
}
