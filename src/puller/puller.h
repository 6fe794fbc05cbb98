/* insula-puller: the only program that parses the bytes of images.
 *
 * Started by insulad with: 0 the archive (pull: which blobs are complete), 1 the result (one JSON document),
 * 2 the daemon's log, 3 a staging directory, and for `import` 4 the image's config, for `pull` 4 what is
 * known. It shuts itself in before the first byte is read (sandbox.c) and leaves in the staging directory:
 * archive/ (what `load` was given, taken apart), layers/CHAINHEX/ (unpacked, whiteouts as overlayfs has
 * them) and blobs/HEX (layers and manifests as they came, for save and push). Opaque directories are only
 * reported: marking them takes rights it does not have. */
#pragma once

#include "base/err.h"
#include "base/strv.h"
#include "lib/json.h"
#include "lib/tar.h"

/* sandbox.c */
/* chroot into dirfd, no network, no capability but those that unpacking takes, no new privileges, seccomp. */
int sandbox_enter(int dirfd, struct err *e);

/* unpack.c */
struct unpack {
	int root;		/* where to: borrowed */
	bool layer;		/* whiteouts have their meaning; else every name is an ordinary one */
	bool files_only;	/* regular files, directories and symlinks; devices and fifos are refused */
	int keep_fd;		/* > 0: a copy of the uncompressed archive goes there */
	/* results */
	char **opaque;		/* directories, relative to root */
	uint64_t size;		/* bytes of regular files */
	char diff_id[72];	/* "sha256:HEX" of the uncompressed archive */
};
int unpack(struct unpack *u, const struct tar_source *source, struct err *e);
void unpack_done(struct unpack *u);

/* arrivals.c: blobs that still come while they are unpacked. Callable from every thread. */
struct arrivals;
/* A thread reads, from fd, the digests (64 hex digits, a line each) of blobs that are complete. */
struct arrivals *arrivals_new(int fd);
bool arrivals_has(struct arrivals *a, const char *hex);
/* Returns when the blob is complete: true, or will not be, because fd has ended. */
bool arrivals_wait(struct arrivals *a, const char *hex);
/* fd has ended: nobody writes the blobs any more. wait_end returns when it has. */
bool arrivals_over(struct arrivals *a);
void arrivals_wait_end(struct arrivals *a);

/* source.c: the bytes of a file, as it lies there or as it comes. */
struct source {
	int fd;				/* borrowed; its position moves */
	struct arrivals *arrivals;	/* NULL: the file is complete */
	const char *hex;
	void (*complete)(void *ud);	/* called once, when the last byte is there; may be NULL */
	void *ud;
	bool told;
};
/* For tar_source.read, with a struct source. -EPIPE if the rest does not come. */
ssize_t source_read(void *source, void *buf, size_t n);
/* Returns when there are n bytes, or all that there will be. */
void source_wait(struct source *s, size_t n);

/* layer.c */
/* Unpacks what fd (a stream) gives as the layer upon a chain (NULL: the lowest) into staging/layers; the
 * archive itself is kept as the layer's blob. ret: its description. */
int layer_stage(int staging, int fd, const char *parent, struct json **ret, char **ret_diff_id,
		struct err *e);
/* The same for a file of an archive. The file itself becomes the layer's blob if registries take such.
 * Callable from several threads, each with an index of its own. */
struct layer_file {
	int staging, archive;	/* archive: the directory that holds it */
	const char *name;	/* in there */
	struct source *source;	/* its bytes */
	const char *digest;	/* what it is known to have; NULL = not known */
	const char *diff_id;	/* what it must have */
	const char *chain;	/* what this layer is called */
	size_t index;
	unsigned attempt;	/* at this layer, from 0 */
};
int layer_stage_file(const struct layer_file *f, struct json **ret, struct err *e);
/* Gives a file of the archive the name blobs/HEX too: it is to stay. */
int keep_file(int staging, int archive, const char *name, int fd, const char *digest, struct err *e);

/* load.c, import.c: fill result. */
int load_archive(int staging, int fd, struct json *result, struct err *e);
/* What insula-registry brings lies in staging/archive as an OCI layout: all but the layers complete, these
 * still coming (arrivals.c reads fd). what: "platform", and in "have" the chains that the store has. Tells on
 * standard output, a line each, which layer is at work. */
int load_layout(int staging, int fd, const struct json *what, struct json *result, struct err *e);
/* save.c: what docker save writes since version 25, both a docker archive and an OCI layout. blobs: their
 * directory; what: "images": id, size of the config, tags, layers and manifest as descriptors. */
int save_archive(int blobs, int fd, const struct json *what, struct err *e);
int import_archive(int staging, int fd, const struct json *config, struct json *result, struct err *e);
