#include "engine/apparmor.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/container_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PROFILE "insula-default"
#define LOADED "/sys/kernel/security/apparmor/profiles"

static bool have_profile;

bool apparmor_on(void)
{
	_cleanup_free_ char *line = NULL;

	return fs_read_line(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", &line) == 0 &&
	       line[0] == 'Y';
}

/* 1, 0, or -errno where the list cannot be read. */
static int is_loaded(void)
{
	_cleanup_free_ char *text = NULL;
	int r = fs_read(AT_FDCWD, LOADED, 16 << 20, &text, NULL);

	return r < 0 ? r : !!strstr(text, PROFILE " (");
}

static int load(void)
{
	static const char *const parsers[] = { "/usr/sbin/apparmor_parser", "/sbin/apparmor_parser" };
	char name[] = "apparmor_parser", how[] = "-Kr", file[] = INSULA_APPARMOR;
	char *argv[] = { name, how, file, NULL };
	int r = -ENOENT, code = 0;

	for (size_t i = 0; r == -ENOENT && i < ARRAY_SIZE(parsers); i++) {
		_cleanup_proc_ struct proc p = PROC_INIT;
		struct spawn_args a = { .path = parsers[i], .argv = argv, .keep_stderr = true };

		r = proc_spawn(&a, &p);
		if (r == 0)
			r = proc_wait(&p, &code);
	}
	return r < 0 ? r : code ? -EIO : 0;
}

void apparmor_init(void)
{
	int r;

	if (!apparmor_on())
		return;
	r = is_loaded();
	if (r == 0) {
		r = load();
		if (r == 0)
			r = is_loaded();
	}
	if (r > 0)
		have_profile = true;
	else
		log_warn("AppArmor: profile " PROFILE " is not loaded, containers run without: %s",
			 r < 0 ? strerror(-r) : INSULA_APPARMOR);
}

const char *apparmor_option(const char *s)
{
	return str_starts(s, "apparmor=") || str_starts(s, "apparmor:") ? s + 9 : NULL;
}

const char *apparmor_profile(const struct container *c)
{
	const struct json *options = json_get(ctr_host(c), "SecurityOpt");
	const char *name = have_profile ? PROFILE : NULL;

	if (c->isolation != ISOLATION_PROCESS)
		return NULL;
	if (json_get_bool(ctr_host(c), "Privileged", false))
		name = NULL;
	for (size_t i = 0; i < json_len(options); i++) {
		const char *given = apparmor_option(json_str(json_at(options, i)));

		if (given)
			name = streq(given, "unconfined") ? NULL : given;
	}
	return name;
}
