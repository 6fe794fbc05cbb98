#include "registry/registry.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/loop.h"
#include "base/strv.h"
#include "lib/digest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STATUS_US 100000
#define ROOM_BYTES (16 << 20)	/* how much is written until the disk is looked at */

const char *short_digest(const char *digest, char buf[13])
{
	snprintf(buf, 13, "%s", digest + strlen("sha256:"));
	return buf;
}

struct download {
	const struct descriptor *d;
	int fd;
	int64_t have;		/* bytes that are in fd and in the hash */
	bool resumed, show, begun;
	struct sha256 *hash;
	uint64_t said_us;
};

static void say(struct download *l, const char *status, bool numbers)
{
	char id[13];

	if (l->show)
		link_status(short_digest(l->d->digest, id), status, l->have, numbers ? l->d->size : -1);
}

static int start_over(struct download *l)
{
	sha256_free(l->hash);
	l->hash = sha256_new();
	l->have = 0;
	l->resumed = false;
	return ftruncate(l->fd, 0) < 0 ? -errno : 0;
}

/* What an earlier try has left is part of the digest; more than there should be is worthless. */
static int take_up(struct download *l)
{
	char *buf = xmalloc(256 << 10);
	ssize_t n = 0;

	while (l->have <= l->d->size && (n = RETRY(pread(l->fd, buf, 256 << 10, l->have))) > 0) {
		sha256_update(l->hash, buf, (size_t)n);
		l->have += n;
	}
	free(buf);
	if (n < 0)
		return -errno;
	l->resumed = l->have > 0;
	return l->have > l->d->size ? start_over(l) : 0;
}

static int take(void *ud, int status, const void *p, size_t n)
{
	struct download *l = ud;
	uint64_t now = now_mono_us();

	/* 200 to a range: all of it comes again. */
	if (!l->begun && status == 200 && l->have && start_over(l) < 0)
		return -errno;
	l->begun = true;
	if ((uint64_t)l->have + n > (uint64_t)l->d->size)
		return -EFBIG;
	if (l->have / ROOM_BYTES != (l->have + (int64_t)n) / ROOM_BYTES && fs_check_room(l->fd) < 0)
		return -ENOSPC;
	for (size_t done = 0; done < n;) {
		ssize_t w = RETRY(pwrite(l->fd, (const char *)p + done, n - done, l->have + (int64_t)done));

		if (w < 0)
			return -errno;
		done += (size_t)w;
	}
	sha256_update(l->hash, p, n);
	l->have += (int64_t)n;
	if (now - l->said_us >= STATUS_US) {
		l->said_us = now;
		say(l, "Downloading", true);
	}
	return 0;
}

/* 0 and all bytes are there, or -EAGAIN: the connection broke, another try goes on where it did. */
static int once(struct endpoint *p, struct web *w, struct download *l, struct web_answer *a, struct err *e)
{
	_cleanup_free_ char *url = xasprintf("/v2/%s/blobs/%s", p->path, l->d->digest);
	_cleanup_strv_ char **headers = NULL;
	struct web_request q = {.method = "GET", .url = url, .sink = take, .ud = l};
	int r;

	if (l->have == l->d->size)
		return 0;
	if (l->have)
		strv_addf(&headers, "Range: bytes=%lld-", (long long)l->have);
	q.headers = headers;
	l->begun = false;
	r = endpoint_call(p, w, &q, false, a, e);
	if (r == -EFBIG)
		return err_msg(e, ERR_SYSTEM, r, "blob %s is longer than the %lld bytes of its manifest",
			       l->d->digest, (long long)l->d->size);
	if (r == -ENOSPC || r == -EDQUOT)
		return err_msg(e, ERR_SYSTEM, r, "write blob %s: no space left on device", l->d->digest);
	if (r < 0 && a->status == 416 && l->have) {
		err_clear(e);
		r = start_over(l);
		return r < 0 ? err_set(e, ERR_SYSTEM, r, "start blob %s over", l->d->digest) : -EAGAIN;
	}
	if (r < 0)
		return a->transient ? -EAGAIN : r;
	return l->have < l->d->size ? -EAGAIN : 0;
}

static int download(struct endpoint *p, struct web *w, struct download *l, struct err *e)
{
	for (unsigned n = 1;; n++) {
		_cleanup_web_answer_ struct web_answer a = { 0 };
		int64_t before = l->have;
		int r = once(p, w, l, &a, e);

		if (r != -EAGAIN)
			return r;
		/* As long as bytes come it is worth going on. */
		if (l->have > before)
			n = 1;
		if (!endpoint_wait(&a, n)) {
			if (!e->kind)
				err_msg(e, ERR_SYSTEM, -EIO, "blob %s has %lld bytes instead of %lld",
					l->d->digest, (long long)l->have, (long long)l->d->size);
			return -EIO;
		}
		err_clear(e);
	}
}

static bool verified(struct download *l)
{
	char hex[65];

	sha256_final(TAKE_PTR(l->hash), hex);
	return streq(hex, l->d->digest + strlen("sha256:"));
}

int fetch_blob(struct endpoint *p, struct web *w, const struct descriptor *d, int fd, bool show,
	       struct err *e)
{
	struct download l = { .d = d, .fd = fd, .show = show, .hash = sha256_new() };
	int r = take_up(&l);

	if (r < 0)
		err_set(e, ERR_SYSTEM, r, "read blob %s", d->digest);
	for (bool again = true; r == 0; again = false) {
		bool resumed = l.resumed;

		r = download(p, w, &l, e);
		if (r < 0)
			break;
		say(&l, "Verifying Checksum", false);
		if (verified(&l))
			break;
		/* Perhaps only what lay here was wrong. */
		r = start_over(&l);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "start blob %s over", d->digest);
		else if (!resumed || !again)
			r = err_msg(e, ERR_SYSTEM, -EBADMSG,
				    "filesystem layer verification failed for digest %s", d->digest);
	}
	sha256_free(l.hash);
	if (r == 0)
		say(&l, "Download complete", false);
	return r;
}
