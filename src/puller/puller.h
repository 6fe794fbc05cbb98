/* insula-puller: the only program that parses the bytes of images.
 *
 * Started by insulad with: 0 the archive, 1 the result (one JSON document), 2 the daemon's log, 3 an
 * staging directory, and for `import` 4 the image's config, for `pull` 4 what is known. It shuts itself in
 * before the first byte is read (sandbox.c) and leaves in the staging directory: archive/ (what `load` was
 * given, taken apart), layers/CHAINHEX/ (unpacked, whiteouts as overlayfs has them) and blobs/HEX (layers and
 * manifests as they came, for save and push). Opaque directories are only reported: marking them takes rights
 * it does not have. */
#pragma once

#include "base/err.h"
#include "base/strv.h"
#include "lib/json.h"

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
int unpack(struct unpack *u, int fd, struct err *e);
void unpack_done(struct unpack *u);

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
	int fd;
	const char *digest;	/* what it is known to have; NULL = not known */
	const char *diff_id;	/* what it must have */
	const char *chain;	/* what this layer is called */
	size_t index;
};
int layer_stage_file(const struct layer_file *f, struct json **ret, struct err *e);
/* Gives a file of the archive the name blobs/HEX too: it is to stay. */
int keep_file(int staging, int archive, const char *name, int fd, const char *digest, struct err *e);

/* load.c, import.c: fill result. */
int load_archive(int staging, int fd, struct json *result, struct err *e);
/* What insula-registry has brought lies in staging/archive as an OCI layout already. what: "platform", and in
 * "have" the chains that the store has. Tells on standard output, a line each, which layer is at work. */
int load_layout(int staging, const struct json *what, struct json *result, struct err *e);
/* save.c: what docker save writes since version 25, both a docker archive and an OCI layout. blobs: their
 * directory; what: "images": id, size of the config, tags, layers and manifest as descriptors. */
int save_archive(int blobs, int fd, const struct json *what, struct err *e);
int import_archive(int staging, int fd, const struct json *config, struct json *result, struct err *e);
