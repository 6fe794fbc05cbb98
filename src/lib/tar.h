/* Reading tar archives, plain or compressed (libarchive behind one wrapper; reading only: what is written
 * to disk is written by our own code, see puller/unpack.c). */
#pragma once

#include "base/err.h"
#include <sys/stat.h>

struct tar;

struct tar_entry {
	const char *path;	/* borrowed until the next entry */
	const char *link;	/* symlink target, NULL */
	const char *hardlink;	/* hard link target, NULL */
	mode_t mode;		/* type and permissions; for hard links the type is meaningless */
	uint32_t uid, gid;
	uint64_t size;
	struct timespec mtime;
	unsigned major, minor;
};

/* Called for every block of the uncompressed archive. */
typedef void (*tar_tee_fn)(void *userdata, const void *p, size_t n);

/* Where the bytes come from: up to n of them into buf, 0 at the end, -errno. */
struct tar_source {
	ssize_t (*read)(void *ud, void *buf, size_t n);
	void *ud;
};
/* Reads source until its end. tee may be NULL. ERR_INVALID for what is no archive. */
int tar_open(const struct tar_source *source, tar_tee_fn tee, void *userdata, struct tar **ret,
	     struct err *e);
void tar_close(struct tar *t);
/* 1 entry, 0 end of archive, -errno. */
int tar_next(struct tar *t, struct tar_entry *ret, struct err *e);
/* Data of the current entry: the next block and where it belongs (sparse files have gaps). 1, 0 at the end,
 * -errno. */
int tar_data(struct tar *t, const void **ret_p, size_t *ret_n, off_t *ret_off, struct err *e);
/* Extended attributes of the current entry: 1 and name, value; 0 when there are no more. */
int tar_xattr(struct tar *t, const char **ret_name, const void **ret_value, size_t *ret_n);
/* After the last entry: reads what follows it (padding), so that tee has seen all. */
int tar_drain(struct tar *t, struct err *e);
