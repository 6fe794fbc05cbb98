#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "lib/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ChainID(n) = sha256(ChainID(n-1) + " " + DiffID(n)); the first layer's is its diff id (OCI image spec,
 * config). */
static char *chain_id(const char *parent, const char *diff_id)
{
	_cleanup_free_ char *text = NULL;
	char hex[65];

	if (!parent)
		return xstrdup(diff_id);
	text = xasprintf("%s %s", parent, diff_id);
	sha256_hex(text, strlen(text), hex);
	return xasprintf("sha256:%s", hex);
}

static bool staged(const struct json *layers, const char *chain)
{
	for (size_t i = 0; i < json_len(layers); i++)
		if (streq(json_get_str(json_at(layers, i), "chain"), chain))
			return true;
	return false;
}

static void describe(struct json *layers, const char *chain, const struct unpack *u)
{
	struct json *o = json_add(layers, json_object());

	json_set_str(o, "chain", chain);
	json_set_int(o, "size", (int64_t)u->size);
	json_set_strv(o, "opaque", u->opaque);
}

int layer_stage(int staging, int fd, const char *want, char **chain, char **ret_diff_id, struct json *layers,
		struct err *e)
{
	_cleanup_close_ int dir = -EBADF;
	_cleanup_free_ char *id = NULL, *path = NULL;
	struct unpack u = { .layer = true };
	int r;

	if (want) {
		id = chain_id(*chain, want);
		if (staged(layers, id)) {
			str_replace(chain, id);
			return 0;
		}
	}
	if ((mkdirat(staging, "layers", 0700) < 0 && errno != EEXIST) ||
	    mkdirat(staging, "layers/new", 0755) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "make the layer's directory");
	dir = openat(staging, "layers/new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open the layer's directory");
	u.root = dir;
	r = unpack(&u, fd, e);
	if (r == 0 && want && !streq(want, u.diff_id))
		r = err_msg(e, ERR_INVALID, -EBADMSG,
			    "invalid diffID for layer %zu: expected \"%s\", got \"%s\"", json_len(layers),
			    want, u.diff_id);
	if (r == 0) {
		if (!id)
			id = chain_id(*chain, u.diff_id);
		path = xasprintf("layers/%s", id + strlen("sha256:"));
		if (renameat(staging, "layers/new", staging, path) < 0)
			r = err_set(e, ERR_SYSTEM, -errno, "name the layer's directory");
	}
	if (r == 0) {
		describe(layers, id, &u);
		str_replace(chain, id);
		if (ret_diff_id)
			*ret_diff_id = xstrdup(u.diff_id);
	}
	unpack_done(&u);
	return r;
}
