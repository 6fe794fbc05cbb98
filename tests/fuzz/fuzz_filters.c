/* With src/engine/filters.c src/lib/json.c src/lib/json_write.c src/base/sbuf.c src/base/alloc.c
 * src/base/strv.c src/base/err.c -ljson-c -lm
 *
 * The `filters` of a query: what is accepted names allowed keys only, and both shapes mean the same. */
#include "base/alloc.h"
#include "base/strv.h"
#include "engine/filters.h"
#include "lib/json.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *const allowed[] = {"status", "label", "dangling", "name", NULL};

/* The same filters in the shape of docker-py. */
static char *as_lists(const struct filters *f)
{
	_cleanup_json_ struct json *out = json_object();

	for (size_t i = 0; allowed[i]; i++) {
		char **values = filters_values(f, allowed[i]);
		struct json *list = values ? json_set(out, allowed[i], json_array()) : NULL;

		for (char **v = values; v && *v; v++)
			json_add_str(list, *v);
		strv_free(values);
	}
	return json_dump(out);
}

static void look(const struct filters *f, struct json *labels)
{
	bool value = false;

	(void)filters_match(f, "status", "running");
	(void)filters_match_prefix(f, "name", "web");
	(void)filters_match_part(f, "name", "web");
	(void)filters_match_labels(f, "label", labels);
	(void)filters_bool(f, "dangling", true, &value, NULL);
	if (filters_has(f, "nonsense"))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xmalloc(size + 1), *again, *twice;
	_cleanup_json_ struct json *labels = json_object();
	_cleanup_err_ struct err e = ERR_INIT;
	struct filters f = {0}, g = {0};

	memcpy(text, data, size);
	text[size] = 0;
	json_set_str(labels, "a", "b");
	if (filters_parse(text, allowed, &f, &e) >= 0) {
		look(&f, labels);
		again = as_lists(&f);
		if (filters_parse(again, allowed, &g, NULL) < 0)
			abort();
		twice = as_lists(&g);
		if (!streq(again, twice))
			abort();
		free(again);
		free(twice);
		filters_done(&g);
		filters_done(&f);
	} else if (!e.msg) {
		abort();
	}
	free(text);
	return 0;
}
