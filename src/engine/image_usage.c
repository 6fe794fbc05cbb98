/* What images occupy. All that the store keeps for an image has a name of its own below the data root; who
 * measures does it by these names, so that what images share is not counted twice. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/strv.h"

static void add_blob(char ***files, struct image_blob *b)
{
	strv_addf(files, "blobs/sha256/%s", digest_hex(b->digest));
	image_blob_done(b);
}

static void add_layer(struct engine *e, const char *chain, char ***files)
{
	const char *hex = digest_hex(chain);
	struct image_blob b = { 0 };

	strv_addf(files, "layers/%s", hex);
	strv_addf(files, "disks/%s.erofs", hex);
	strv_addf(files, "disks/m-%s.erofs", hex);
	if (image_layer_blob(e, chain, &b, NULL) == 0)
		add_blob(files, &b);
}

char **image_files(struct engine *e, const struct image *i)
{
	struct image_blob b = { 0 };
	char **files = NULL;

	strv_addf(&files, "blobs/sha256/%s", digest_hex(i->id));
	if (image_manifest_kept(e, i, &b) == 0)
		add_blob(&files, &b);
	for (char **c = i->chain_ids; c && *c; c++)
		add_layer(e, *c, &files);
	return files;
}
