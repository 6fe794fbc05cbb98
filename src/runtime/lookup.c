/* Finding the container's program, with the words that Docker's users and tools know. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* 0, or why the file cannot be executed. */
static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int lookup_path(const char *name, char **ret, struct err *e)
{
	int r = executable(name);

	if (r == 0) {
		*ret = xstrdup(name);
		return 0;
	}
	if (r == -EISDIR)
		return err_msg(e, ERR_CMD_NOT_EXECUTABLE, r,
			       "exec: \"%s\": is a directory: permission denied", name);
	if (r == -ENOENT || r == -ENOTDIR)
		return err_msg(e, r == -ENOENT ? ERR_CMD_NOT_FOUND : ERR_CMD_NOT_EXECUTABLE, r,
			       "exec: \"%s\": stat %s: %s", name, name,
			       r == -ENOENT ? "no such file or directory" : "not a directory");
	if (r == -EACCES)
		return err_msg(e, ERR_CMD_NOT_EXECUTABLE, r, "exec: \"%s\": permission denied", name);
	return err_msg(e, ERR_CMD_NOT_EXECUTABLE, r, "exec: \"%s\": %s", name, strerror(-r));
}

int command_lookup(const struct oci_process *p, char **ret, struct err *e)
{
	const char *name = p->args[0], *path = strv_env_get(p->env, "PATH");

	if (strchr(name, '/'))
		return lookup_path(name, ret, e);
	/* An empty element means the working directory, as in a shell. */
	for (const char *s = path ? path : DEFAULT_PATH; s;) {
		size_t n = strcspn(s, ":");
		_cleanup_free_ char *full = xasprintf("%.*s%s%s", (int)n, s, n ? "/" : "./", name);

		if (executable(full) == 0) {
			*ret = TAKE_PTR(full);
			return 0;
		}
		s = s[n] ? s + n + 1 : NULL;
	}
	return err_msg(e, ERR_CMD_NOT_FOUND, -ENOENT, "exec: \"%s\": executable file not found in $PATH",
		       name);
}
