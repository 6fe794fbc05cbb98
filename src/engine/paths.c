#include "engine/paths.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include <stdio.h>
#include <string.h>

/* Places of the helpers below the src/ of a build tree. */
static const struct { const char *program, *place; } build_places[] = {
	{"insula-shim", "shim/insula-shim"},	{"vmwp", "vm/vmwp"},
	{"insula-puller", "puller/insula-puller"}, {"insula-agent", "agent/insula-agent"},
	{"insula-runtime", "runtime/insula-runtime"}, {"insula-init", "init/insula-init"},
	{"insula-resolver", "resolver/insula-resolver"}, {"insula-registry", "registry/insula-registry"},
	{"insula-tls", "tls/insula-tls"},
};

static char *dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return xstrdup("/");
	return xstrndup(path, (size_t)(slash - path));
}

static bool has_program(const char *dir, const char *name)
{
	_cleanup_free_ char *path = path_join(dir, name);

	return access(path, X_OK) == 0;
}

char *engine_libexec_for(const char *exe)
{
	_cleanup_free_ char *own = dir_of(exe), *up = dir_of(own);

	if (has_program(own, "insula-shim"))
		return TAKE_PTR(own);
	if (has_program(up, "shim/insula-shim"))
		return TAKE_PTR(up);
	return path_join(up, "lib/insula");
}

char *engine_program(const struct engine *e, const char *name)
{
	const char *dir = e->cfg.libexec;

	if (has_program(dir, name))
		return path_join(dir, name);
	for (size_t i = 0; i < ARRAY_SIZE(build_places); i++)
		if (streq(build_places[i].program, name) && has_program(dir, build_places[i].place))
			return path_join(dir, build_places[i].place);
	return NULL;
}
