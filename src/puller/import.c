/* `import`: a root file system becomes an image of one layer; or, where the config has layers already
 * (commit), what was written upon them becomes one more. */
#include "puller/puller.h"
#include "base/alloc.h"
#include "lib/digest.h"
#include "oci/chain.h"

#include <string.h>

int import_archive(int staging, int fd, const struct json *config, struct json *result, struct err *e)
{
	_cleanup_free_ char *chain = NULL, *diff_id = NULL, *text = NULL, *id = NULL;
	_cleanup_strv_ char **diff_ids = json_get_strv(json_get(config, "rootfs"), "diff_ids");
	_cleanup_strv_ char **chains = NULL;
	_cleanup_json_ struct json *doc = json_copy(config);
	struct json *layers = json_set(result, "layers", json_array()),
		    *images = json_set(result, "images", json_array()), *layer, *fs, *o;
	char hex[65];
	int r;

	for (char **d = diff_ids; d && *d; d++) {
		char *next = chain_id(chain, *d);

		free(chain);
		chain = next;
		strv_add(&chains, chain);
	}
	r = layer_stage(staging, fd, chain, &layer, &diff_id, e);
	if (r < 0)
		return r;
	json_add(layers, layer);
	str_replace(&chain, json_get_str(layer, "chain"));
	strv_add(&diff_ids, diff_id);
	strv_add(&chains, chain);
	fs = json_set(doc, "rootfs", json_object());
	json_set_str(fs, "type", "layers");
	json_set_strv(fs, "diff_ids", diff_ids);
	text = json_dump(doc);
	sha256_hex(text, strlen(text), hex);
	id = xasprintf("sha256:%s", hex);
	o = json_add(images, json_object());
	json_set_str(o, "id", id);
	json_set_str(o, "config", text);
	json_set_strv(o, "chains", chains);
	json_set_strv(o, "tags", NULL);
	return 0;
}
