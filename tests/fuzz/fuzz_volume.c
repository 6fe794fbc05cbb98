/* needs: src/engine/volume.c src/engine/volume_options.c src/engine/db.c src/engine/schema.c
 * src/lib/sqlite.c src/lib/json.c src/lib/json_write.c src/base/alloc.c src/base/sbuf.c src/base/strv.c
 * src/base/err.c src/base/fd.c src/base/fs.c src/base/hash.c src/base/id.c src/base/path.c src/base/log.c
 * src/base/timefmt.c src/base/mount.c src/base/loop.c src/base/proc.c
 * -ljson-c -lsqlite3 -lm -no-pie -Wl,--unresolved-symbols=ignore-all */
/* The rest of the engine is not there: whoever calls it from here crashes. */
/* The body of POST /volumes/create: what is refused says why in one line; what is accepted has a folder of
 * its own below the data root, and can be shown. */
#include "engine/volume.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/db.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/no_events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static struct engine engine;
static char data_root[] = "/tmp/insula-fuzz-XXXXXX";

static void remove_root(void)
{
	(void)fs_rm_rf(AT_FDCWD, data_root);
}

static void set_up(void)
{
	_cleanup_free_ char *volumes = NULL;

	must(mkdtemp(data_root) != NULL);
	atexit(remove_root);
	volumes = path_join(data_root, "volumes");
	must(fs_mkdir_p(volumes, 0700) == 0);
	engine.cfg.data_root = data_root;
	must(db_open(":memory:", &engine.db, NULL) == 0);
}

static void check(const char *name)
{
	_cleanup_json_ struct json *j = volume_inspect(&engine, name);
	_cleanup_free_ char *outer = xasprintf("%s/volumes/%s", data_root, name), *text = json_dump(j);
	const char *at = json_get_str(j, "Mountpoint");

	must(!strchr(name, '/') && name[0] != '.' && streq(json_get_str(j, "Name"), name));
	must(str_starts(at, outer) && fs_exists(at) && strlen(text) > 0);
	must(json_type(json_get(j, "Labels")) == JSON_OBJECT || !json_get(j, "Labels"));
	must(json_type(json_get(j, "Options")) == JSON_OBJECT || !json_get(j, "Options"));
	must(db_run(engine.db, NULL, "DELETE FROM volumes WHERE name = ?", "s", name) == 0);
	must(fs_rm_rf(AT_FDCWD, outer) == 0 && !volume_exists(&engine, name));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_json_ struct json *body = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *made = NULL;
	const char *name;

	if (!engine.db)
		set_up();
	if (json_parse((const char *)p, n, &body, NULL) < 0 || json_type(body) != JSON_OBJECT)
		return 0;
	name = json_get_str(body, "Name");
	if (volume_create(&engine, name, str_empty(name), json_get(body, "Labels"),
			  json_get(body, "DriverOpts"), &made, &e) < 0)
		must(!str_empty(err_text(&e)));
	else
		check(made);
	return 0;
}
