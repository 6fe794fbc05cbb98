#include "base/id.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void random_bytes(void *p, size_t n)
{
	while (n) {
		ssize_t r = getrandom(p, n, 0);

		if (r <= 0)
			abort();
		p = (char *)p + r;
		n -= (size_t)r;
	}
}

void hex_encode(const void *p, size_t n, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		ret[2 * i] = digits[b[i] >> 4];
		ret[2 * i + 1] = digits[b[i] & 15];
	}
	ret[2 * n] = 0;
}

struct id id_new(void)
{
	uint8_t raw[ID_LEN / 2];
	struct id id;

	/* An all-digit short id could be mistaken for a number by scripts and by host names: draw again. */
	do {
		random_bytes(raw, sizeof raw);
		hex_encode(raw, sizeof raw, id.s);
	} while (strspn(id.s, "0123456789") >= ID_SHORT);
	return id;
}

bool is_hex(const char *s)
{
	return *s && strspn(s, "0123456789abcdef") == strlen(s);
}

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool name_valid(const char *s)
{
	return strlen(s) >= 2 && strchr(ALNUM, s[0]) && strspn(s, ALNUM "_.-") == strlen(s);
}

bool rt_id_valid(const char *s)
{
	return *s && strchr(ALNUM "_+-", s[0]) && strlen(s) <= 1024 && strspn(s, ALNUM "_+.-") == strlen(s) &&
	       !strstr(s, "..");
}
