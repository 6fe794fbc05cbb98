#include "base/base64.h"
#include "base/alloc.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *p, size_t n)
{
	const unsigned char *in = p;
	char *out = xmalloc((n + 2) / 3 * 4 + 1), *to = out;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = 0;

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (i + k < n ? in[i + k] : 0);
		for (size_t k = 0; k < 4; k++)
			*to++ = i + k > n ? '=' : digits[v >> (18 - 6 * k) & 63];
	}
	*to = 0;
	return out;
}

int base64_decode(const char *s, char **ret, size_t *ret_len)
{
	size_t n = strlen(s), len = 0, pad = 0;
	_cleanup_free_ char *out = NULL;

	if (n % 4)
		return -EINVAL;
	while (pad < 2 && pad < n && s[n - 1 - pad] == '=')
		pad++;
	out = xmalloc(n / 4 * 3 + 1);
	for (size_t i = 0; i < n; i += 4) {
		uint32_t v = 0;

		for (size_t k = 0; k < 4; k++) {
			const char *d = i + k < n - pad ? strchr(digits, s[i + k]) : digits;

			if (!d || !s[i + k])
				return -EINVAL;
			v = v << 6 | (uint32_t)(d - digits);
		}
		out[len++] = (char)(v >> 16);
		out[len++] = (char)(v >> 8);
		out[len++] = (char)v;
	}
	len -= pad;
	out[len] = 0;
	*ret = TAKE_PTR(out);
	if (ret_len)
		*ret_len = len;
	return 0;
}

char *base64_url_encode(const void *p, size_t n)
{
	char *out = base64_encode(p, n);

	for (char *c = out; *c; c++)
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	return out;
}

int base64_url_decode(const char *s, char **ret, size_t *ret_len)
{
	size_t n = strlen(s);
	_cleanup_free_ char *padded = xasprintf("%s%.*s", s, (int)(-n & 3), "===");

	for (char *c = padded; *c; c++)
		*c = *c == '-' ? '+' : *c == '_' ? '/' : *c;
	return base64_decode(padded, ret, ret_len);
}
