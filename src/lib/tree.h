/* Directory trees to and from tar, by descriptor: nothing outside of the given directory is ever reached,
 * whatever symbolic links it holds and whatever the archive says. */
#pragma once

#include "base/hash.h"
#include "lib/ustar.h"

struct tree_pack {
	struct ustar_writer *w;
	bool whiteouts;		/* overlayfs' character devices 0:0 and opaque marks become `.wh.` files */
	/* Optional: leaves out what it answers true for; path is the name in the archive. */
	bool (*skip)(void *userdata, int dirfd, const char *name, const char *path, const struct stat *st);
	void *userdata;
	struct hmap links;	/* private: names of files with several links */
};

/* Puts `name` of dirfd ("." = dirfd itself), with all below, into the archive under the name `as`: "" leaves
 * the directory's own entry out. Sockets are left out. */
int tree_pack(struct tree_pack *p, int dirfd, const char *name, const char *as, struct err *e);
void tree_pack_done(struct tree_pack *p);

struct tree_unpack {
	int root;		/* symbolic links mean what they mean in here */
	const char *dest;	/* an existing directory in it */
	bool keep_types;	/* refuses to put a directory over something else, or the other way round */
	bool owner;		/* uid, gid instead of those in the archive */
	bool own_ids;		/* leave owners as they come: we are not root */
	uint32_t uid, gid;
	const char *from, *to;	/* names that begin with the component `from` begin with `to` instead; NULL */
};

/* Unpacks all entries of the archive. An entry replaces what stands there; a directory keeps its content. */
int tree_unpack(const struct tree_unpack *u, struct ustar_reader *in, struct err *e);
