#include "registry/registry.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "lib/digest.h"
#include "oci/ref.h"

#include <errno.h>
#include <string.h>

void fetched_done(struct fetched *f)
{
	free(f->digest);
	free(f->media_type);
	sbuf_done(&f->bytes);
	manifest_done(&f->manifest);
	*f = (struct fetched){ 0 };
}

int fetch_manifest(struct endpoint *p, struct web *w, const char *ref, struct fetched *ret, struct err *e)
{
	/* One line of four: proxies have been seen to keep the last of several. */
	static const char *const accept[] = {"Accept: " MEDIA_DOCKER_MANIFEST ", " MEDIA_DOCKER_LIST
					     ", " MEDIA_OCI_MANIFEST ", " MEDIA_OCI_INDEX,
					     NULL};
	_cleanup_free_ char *url = xasprintf("/v2/%s/manifests/%s", p->path, ref);
	_cleanup_web_answer_ struct web_answer a = { 0 };
	struct web_request q = {
	    .method = "GET", .url = url, .headers = (char *const *)accept, .max = MANIFEST_MAX};
	struct fetched f = { 0 };
	const char *type;
	char hex[65];
	int r = endpoint_call(p, w, &q, true, &a, e);

	if (r < 0)
		return r;
	sha256_hex(sbuf_str(&a.body), a.body.len, hex);
	f.digest = xasprintf("sha256:%s", hex);
	if (digest_valid(ref) && !streq(ref, f.digest)) {
		fetched_done(&f);
		return err_msg(e, ERR_SYSTEM, -EBADMSG, "manifest verification failed for digest %s", ref);
	}
	type = web_header(&a, "Content-Type");
	f.media_type = type ? xstrndup(type, strcspn(type, "; \t")) : xstrdup("");
	r = manifest_parse(sbuf_str(&a.body), a.body.len, f.media_type, &f.manifest, e);
	if (r < 0) {
		fetched_done(&f);
		return r;
	}
	f.bytes = a.body;
	a.body = (struct sbuf)SBUF_INIT;
	type = json_get_str(f.manifest.doc, "mediaType");
	if (type)
		str_replace(&f.media_type, type);
	*ret = f;
	return 0;
}
