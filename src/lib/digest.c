#include "lib/digest.h"
#include "base/id.h"

#include <errno.h>
#include <openssl/evp.h>

struct sha256 { EVP_MD_CTX *ctx; };

struct sha256 *sha256_new(void)
{
	struct sha256 *s = malloc(sizeof *s);

	if (!s || !(s->ctx = EVP_MD_CTX_new()) || !EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL))
		abort();
	return s;
}

void sha256_update(struct sha256 *s, const void *p, size_t n)
{
	if (!EVP_DigestUpdate(s->ctx, p, n))
		abort();
}

void sha256_free(struct sha256 *s)
{
	if (!s)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

void sha256_final(struct sha256 *s, char ret[65])
{
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned n;

	if (!EVP_DigestFinal_ex(s->ctx, raw, &n) || n != 32)
		abort();
	hex_encode(raw, n, ret);
	sha256_free(s);
}

void sha256_hex(const void *p, size_t n, char ret[65])
{
	struct sha256 *s = sha256_new();

	sha256_update(s, p, n);
	sha256_final(s, ret);
}

int sha256_fd(int fd, char ret[65])
{
	struct sha256 *s = sha256_new();
	char buf[64 << 10];
	off_t off = 0;
	ssize_t n;

	while ((n = RETRY(pread(fd, buf, sizeof buf, off))) > 0) {
		sha256_update(s, buf, (size_t)n);
		off += n;
	}
	if (n < 0) {
		sha256_free(s);
		return -errno;
	}
	sha256_final(s, ret);
	return 0;
}
