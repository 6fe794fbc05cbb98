/* needs: src/registry/challenge.c src/oci/manifest.c src/oci/image_needs.c
 * src/oci/image_spec.c src/oci/ref.c src/lib/json.c src/lib/json_write.c
 * src/base/id.c src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c src/base/base64.c -ljson-c
 * -lm */
/* What registries answer: WWW-Authenticate, error bodies, tokens, manifests and indexes. */
#include "base/alloc.h"
#include "base/base64.h"
#include "oci/manifest.h"
#include "registry/challenge.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_free_ char *text = xstrndup((const char *)p, n),
			    *said = registry_error_text(text, strlen(text)),
			    *token = registry_token(text, strlen(text)), *raw = NULL, *again = NULL;
	_cleanup_challenge_ struct challenge c = { 0 };
	_cleanup_manifest_ struct manifest m = { 0 };
	_cleanup_platform_ struct platform platform = { 0 };
	_cleanup_err_ struct err e = ERR_INIT;
	size_t len;

	if (challenge_parse(text, &c) == 0 && c.bearer && !c.realm)
		abort();
	if (manifest_parse((const char *)p, n, MEDIA_OCI_MANIFEST, &m, &e) == 0 && m.index) {
		(void)platform_parse("linux/arm64/v8", &platform, NULL);
		(void)index_select(m.doc, &platform);
	}
	for (size_t i = 0; i < m.n_layers; i++)
		if (!m.layers[i].digest || m.layers[i].size < 0)
			abort();
	if (base64_url_decode(text, &raw, &len) == 0) {
		again = base64_url_encode(raw, len);
		if (raw[len])
			abort();
	}
	return 0;
}
