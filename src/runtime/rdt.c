/* Intel RDT (linux.intelRdt): a class of service is a directory of the resctrl file system, with a file of
 * schemata for its shares of cache and memory bandwidth and one of tasks. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Where resctrl is mounted, NULL if nowhere. */
static char *resctrl_mount(void)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **lines = NULL;

	if (fs_read(AT_FDCWD, "/proc/self/mounts", 4 << 20, &text, NULL) < 0)
		return NULL;
	lines = strv_split(text, "\n");
	for (char **l = lines; l && *l; l++) {
		_cleanup_strv_ char **f = strv_split(*l, " ");

		if (strv_len(f) >= 3 && streq(f[2], "resctrl"))
			return xstrdup(f[1]);
	}
	return NULL;
}

int rdt_new(const struct oci_rdt *spec, const char *id, const char *mount, struct rdt **ret, struct err *e)
{
	_cleanup_free_ char *found = mount ? xstrdup(mount) : resctrl_mount();
	const char *clos = str_empty(spec->clos_id) ? id : spec->clos_id;
	struct rdt *x;

	if (!found)
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "linux.intelRdt: this host has no resctrl file system mounted");
	if (strchr(clos, '/') || streq(clos, ".") || streq(clos, ".."))
		return err_msg(e, ERR_INVALID, 0, "linux.intelRdt.closID: invalid name '%s'", clos);
	x = new0(struct rdt);
	x->dir = path_join(found, clos);
	x->shared = !str_empty(spec->clos_id);
	if (spec->monitoring) {
		_cleanup_free_ char *groups = path_join(x->dir, "mon_groups");

		x->monitor = path_join(groups, id);
	}
	*ret = x;
	return 0;
}

void rdt_free(struct rdt *x)
{
	if (!x)
		return;
	free(x->dir);
	free(x->monitor);
	free(x);
}

/* All lines of the document that are about a resource, each ended. NULL if there are none. */
static char *schema_text(const struct oci_rdt *spec)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(64 << 10);
	const char *const single[] = { spec->l3, spec->mb };

	for (size_t i = 0; i < ARRAY_SIZE(single); i++)
		if (!str_empty(single[i]))
			sbuf_printf(&b, "%s\n", single[i]);
	for (char **s = spec->schemata; s && *s; s++)
		sbuf_printf(&b, "%s\n", *s);
	return b.len ? sbuf_steal(&b) : NULL;
}

int rdt_update(const struct rdt *x, const struct oci_rdt *spec, struct err *e)
{
	_cleanup_free_ char *text = schema_text(spec), *path = path_join(x->dir, "schemata");
	int r = text ? fs_write(AT_FDCWD, path, text) : 0;

	return r < 0 ? err_set(e, ERR_SYSTEM, r, "linux.intelRdt: write '%s'", path) : 0;
}

/* "L3:0=f;1=f" without spaces and leading zeros of the masks, for comparison. */
static char *normal(const char *line)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(64 << 10);

	for (const char *c = line; *c; c++) {
		if (*c == ' ' || *c == '\t')
			continue;
		if (*c == '0' && b.len && b.buf[b.len - 1] == '=' && c[1] && !strchr("; \t", c[1]))
			continue;
		sbuf_putc(&b, *c);
	}
	return xstrdup(sbuf_str(&b));
}

/* A class that exists belongs to somebody: it must say what the document asks for. */
static int check_same(const struct rdt *x, const struct oci_rdt *spec, struct err *e)
{
	_cleanup_free_ char *path = path_join(x->dir, "schemata"), *have = NULL, *want = schema_text(spec);
	_cleanup_strv_ char **have_lines = NULL, **want_lines = NULL, **known = NULL;
	int r;

	if (!want)
		return 0;
	r = fs_read(AT_FDCWD, path, 64 << 10, &have, NULL);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "linux.intelRdt: read '%s'", path);
	have_lines = strv_split(have, "\n");
	want_lines = strv_split(want, "\n");
	for (char **l = have_lines; l && *l; l++)
		strv_take(&known, normal(*l));
	for (char **l = want_lines; l && *l; l++) {
		_cleanup_free_ char *line = normal(*l);

		if (!strv_has(known, line))
			return err_msg(e, ERR_CONFLICT, -EEXIST,
				       "linux.intelRdt: class '%s' exists and does not have '%s'",
				       path_basename(x->dir), *l);
	}
	return 0;
}

int rdt_create(struct rdt *x, const struct oci_rdt *spec, struct err *e)
{
	_cleanup_free_ char *text = schema_text(spec);
	bool exists = fs_exists(x->dir);
	int r = 0;

	if (!exists && x->shared && !text)
		return err_msg(e, ERR_INVALID, -ENOENT, "linux.intelRdt.closID: class '%s' does not exist",
			       path_basename(x->dir));
	if (!exists && mkdir(x->dir, 0755) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "linux.intelRdt: create '%s'", x->dir);
	r = exists && x->shared ? check_same(x, spec, e) : rdt_update(x, spec, e);
	if (r == 0 && x->monitor && mkdir(x->monitor, 0755) < 0 && errno != EEXIST)
		r = err_set(e, ERR_SYSTEM, -errno, "linux.intelRdt: create '%s'", x->monitor);
	if (r < 0 && !exists)
		(void)rmdir(x->dir);
	return r;
}

int rdt_join(const struct rdt *x, pid_t pid, struct err *e)
{
	const char *const dirs[] = { x->dir, x->monitor };
	_cleanup_free_ char *text = xasprintf("%d", pid);

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && dirs[i]; i++) {
		_cleanup_free_ char *path = path_join(dirs[i], "tasks");
		int r = fs_write(AT_FDCWD, path, text);

		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "linux.intelRdt: write '%s'", path);
	}
	return 0;
}

void rdt_remove(const struct rdt *x)
{
	if (x->monitor)
		(void)rmdir(x->monitor);
	/* One that the document names by itself may serve others. */
	if (!x->shared)
		(void)rmdir(x->dir);
}
