/* The tar format itself (POSIX ustar with pax headers; GNU's long names are read), for programs that move
 * trees: insula-shim, insula-agent and the CLI. They are static and small, and what they read comes from a
 * client of the API or from the daemon; images, which come from strangers and in every dialect, are read by
 * libarchive in a process of their own (lib/tar.h). */
#pragma once

#include "base/err.h"
#include "base/sbuf.h"
#include <sys/stat.h>

struct ustar_xattr { char *name; void *value; size_t n; };

struct ustar_entry {
	char *path, *link;	/* link: target of a symlink or hard link; NULL if none */
	bool hardlink;
	mode_t mode;		/* type and permissions; a hard link's type is S_IFREG */
	uint32_t uid, gid;
	uint64_t size;		/* of the data that follows; 0 for all but regular files */
	struct timespec mtime;
	unsigned major, minor;
	struct ustar_xattr *xattrs;
	size_t n_xattrs;
};

/* ---- writing ---- */

struct ustar_writer {
	int fd;			/* borrowed */
	struct sbuf buf;
	uint64_t left;		/* data of the current entry still to come */
	unsigned pad;
};

/* A header; its data follows through ustar_put_data, exactly `size` bytes. 0 or -errno. */
int ustar_put(struct ustar_writer *w, const struct ustar_entry *t);
int ustar_put_data(struct ustar_writer *w, const void *p, size_t n);
/* The end of the archive; everything is written after it. */
int ustar_put_end(struct ustar_writer *w);
void ustar_writer_done(struct ustar_writer *w);

/* ---- reading ---- */

struct ustar_reader;

struct ustar_reader *ustar_reader_new(int fd /* borrowed */);
void ustar_reader_free(struct ustar_reader *r);
/* The next entry, valid until the next call: 1, 0 at the end of the archive, -errno and e. What was left of
 * the data of the last one is skipped. */
int ustar_next(struct ustar_reader *r, const struct ustar_entry **ret, struct err *e);
/* Up to n bytes of the current entry's data: the count, 0 at its end, -errno. */
ssize_t ustar_data(struct ustar_reader *r, void *p, size_t n);
/* Reads what follows the end of the archive, so that whoever writes it can finish. */
int ustar_drain(struct ustar_reader *r);
