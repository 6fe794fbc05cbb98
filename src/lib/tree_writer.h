/* What puts the entries of an archive into a directory tree, whatever the archive's format.
 *
 * Every name is resolved inside the root by openat2 (RESOLVE_IN_ROOT): symbolic links that earlier entries
 * have planted lead nowhere but into the root. The parent directory is opened first (and made if it is
 * missing), the last component is then made relative to it and never followed. Times of directories are set
 * last, since making their entries changes them.
 *
 * All functions return 0 or -errno unless they say otherwise. */
#pragma once

#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Longer names are refused by those who clean them. */
#define TREE_PATH_LIMIT 4096

struct tree_writer {
	int root;		/* borrowed */
	const struct timespec *made_time; /* of directories that no entry names; NULL: now */
	unsigned depth_max;	/* directories do not lie deeper; 0 = any depth */
	int parent; /* directory of the name last given to tree_writer_parent; -EBADF before the first */
	char *parent_path;
	struct list dirs;	/* whose times are due */
	size_t dirs_size;	/* bytes that they take; there is a limit */
};

struct tree_attributes { mode_t mode; uint32_t uid, gid; bool keep_owner; struct timespec mtime; };

void tree_writer_init(struct tree_writer *w, int root);
void tree_writer_done(struct tree_writer *w);

/* Opens the directory of `name`, a clean path, as w->parent; missing directories are made. */
int tree_writer_parent(struct tree_writer *w, const char *name);
/* Removes what stands at base in w->parent. 1: it is a directory, and keep_dir lets it stay. */
int tree_writer_make_room(struct tree_writer *w, const char *base, bool keep_dir);
/* An empty file, for writing. Returns the fd. */
int tree_writer_file(struct tree_writer *w, const char *base);
/* target: a clean path. */
int tree_writer_hardlink(struct tree_writer *w, const char *base, const char *target);
/* A directory, symbolic link (to link; NULL = ""), device or fifo: anything but a regular file. */
int tree_writer_node(struct tree_writer *w, const char *base, mode_t mode, const char *link, dev_t dev);
/* Owner, mode and time. Comes before tree_writer_xattr: changing the owner clears capabilities. */
int tree_writer_attributes(struct tree_writer *w, const char *base, const struct tree_attributes *a);
/* user.* and security.capability of files and directories; others say things of the host's own and are left
 * out, as are those that the file system does not know (and with `lenient` those that the caller may not
 * set). */
int tree_writer_xattr(struct tree_writer *w, const char *base, mode_t mode, const char *name,
		      const void *value, size_t n, bool lenient);
/* Remembers that the directory `name` gets this time in the end. */
int tree_writer_dir_time(struct tree_writer *w, const char *name, struct timespec mtime);
int tree_writer_set_dir_times(struct tree_writer *w);
