#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* --- discovery --- */

#define ROOT "/sys/fs/cgroup"

/* Where cgroup2 is mounted as such there is nothing else, and no need to have the kernel describe each mount:
 * in a virtual machine that starts, that is a good part of what its kernel does for the container. */
static bool find_unified(struct cgroup *cg)
{
	struct statfs st;

	if (statfs(ROOT, &st) < 0 || st.f_type != CGROUP2_SUPER_MAGIC)
		return false;
	cg->h[cg->n++] = (struct cgroup_hier){ .mount = xstrdup(ROOT), .v2 = true };
	cg->unified = true;
	return true;
}

/* "... /sys/fs/cgroup/memory ... - cgroup cgroup rw,memory": fields of /proc/self/mountinfo (proc(5)). */
static void add_mount(struct cgroup *cg, char *line)
{
	char *sep = strstr(line, " - "), *f[5], *save = NULL, *type, *opts;
	struct cgroup_hier *h;

	if (!sep || cg->n == CGROUP_MAX_HIERARCHIES)
		return;
	*sep = 0;
	for (int i = 0; i < 5; i++)
		if (!(f[i] = strtok_r(i ? NULL : line, " ", &save)))
			return;
	type = strtok_r(sep + 3, " ", &save);
	(void)strtok_r(NULL, " ", &save);
	opts = strtok_r(NULL, " ", &save);
	if (!type || !opts || (!streq(type, "cgroup") && !streq(type, "cgroup2")) ||
	    !str_starts(f[4], ROOT))
		return;
	h = &cg->h[cg->n++];
	h->mount = xstrdup(f[4]);
	h->v2 = streq(type, "cgroup2");
	if (!h->v2) {
		_cleanup_strv_ char **words = strv_split(opts, ",");

		for (char **w = words; w && *w; w++)
			if (!streq(*w, "rw") && !streq(*w, "ro") && !strchr(*w, '='))
				strv_add(&h->controllers, *w);
	}
}

static void hier_done(struct cgroup_hier *h)
{
	free(h->mount);
	free(h->path);
	strv_free(h->controllers);
}

/* What a hybrid host has of v2 holds no controller: a group in it would do nothing. */
static void drop_v2(struct cgroup *cg)
{
	size_t n = 0;

	for (size_t i = 0; i < cg->n; i++)
		if (cg->h[i].v2)
			hier_done(&cg->h[i]);
		else
			cg->h[n++] = cg->h[i];
	cg->n = n;
}

int cgroup_read_own(char **ret)
{
	return fs_read(AT_FDCWD, "/proc/self/cgroup", 1 << 20, ret, NULL);
}

/* Whether a line of /proc/PID/cgroup, "4:memory:/path" or "0::/path", is about this hierarchy. */
static bool line_is_of(const char *controllers, const struct cgroup_hier *h)
{
	_cleanup_strv_ char **names = strv_split(controllers, ",");

	if (h->v2)
		return !names || !*names;
	for (char **n = names; n && *n; n++) {
		const char *name = str_starts(*n, "name=") ? *n + strlen("name=") : *n;

		if (strv_has(h->controllers, name) || (!h->controllers && str_ends(h->mount, name)))
			return true;
	}
	return false;
}

/* Where a relative path begins in a hierarchy. Heap string. */
static char *own_group(const char *own, const struct cgroup_hier *h)
{
	_cleanup_strv_ char **lines = strv_split(own, "\n");

	for (char **l = lines; l && *l; l++) {
		char *controllers = strchr(*l, ':'), *path;

		if (!controllers || !(path = strstr(controllers + 1, ":/")))
			continue;
		*path++ = 0;
		if (line_is_of(controllers + 1, h)) {
			_cleanup_free_ char *up = xasprintf("%s/..", path);

			return path_clean(h->v2 ? up : path);
		}
	}
	return xstrdup("/");
}

static int set_paths(struct cgroup *cg, const char *path, const char *own)
{
	_cleanup_free_ char *now = NULL;
	int r = *path == '/' || own ? 0 : cgroup_read_own(&now);

	for (size_t i = 0; r == 0 && i < cg->n; i++) {
		_cleanup_free_ char *base = *path == '/' ? NULL : own_group(own ? own : now, &cg->h[i]),
				    *full = base ? path_join(base, path) : NULL;

		cg->h[i].path = path_clean(full ? full : path);
	}
	return r;
}

static int find_mounts(struct cgroup *cg)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **lines = NULL;
	int r = fs_read(AT_FDCWD, "/proc/self/mountinfo", 4 << 20, &text, NULL);

	if (r < 0)
		return r;
	lines = strv_split(text, "\n");
	for (char **l = lines; l && *l; l++)
		add_mount(cg, *l);
	cg->unified = cg->n == 1 && cg->h[0].v2;
	if (!cg->unified)
		drop_v2(cg);
	return 0;
}

int cgroup_new(const char *path, const char *own, struct cgroup **ret, struct err *e)
{
	_cleanup_(cgroup_freep) struct cgroup *cg = NULL;
	_cleanup_strv_ char **parts = strv_split(path, "/");
	int r;

	if (!strv_len(parts) || strv_has(parts, ".."))
		return err_msg(e, ERR_INVALID, 0,
			       "linux.cgroupsPath: '%s' must name a group, without \"..\"", path);
	cg = new0(struct cgroup);
	cg->path = xstrdup(path);
	r = find_unified(cg) ? 0 : find_mounts(cg);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "read mounts");
	r = set_paths(cg, path, own);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "read the runtime's own cgroups");
	*ret = TAKE_PTR(cg);
	return 0;
}

void cgroup_free(struct cgroup *cg)
{
	if (!cg)
		return;
	for (size_t i = 0; i < cg->n; i++)
		hier_done(&cg->h[i]);
	free(cg->path);
	free(cg);
}

char *cgroup_file(const struct cgroup *cg, const struct cgroup_hier *h, const char *file)
{
	return xasprintf("%s%s%s%s", h->mount, h->path, *file ? "/" : "", file);
}

const struct cgroup_hier *cgroup_hier_of(const struct cgroup *cg, const char *controller)
{
	if (cg->unified)
		return &cg->h[0];
	for (size_t i = 0; i < cg->n; i++)
		if (strv_has(cg->h[i].controllers, controller))
			return &cg->h[i];
	return NULL;
}

bool cgroup_has_file(const struct cgroup *cg, const char *controller, const char *file)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, controller);
	_cleanup_free_ char *path = h ? cgroup_file(cg, h, file) : NULL;

	return path && fs_exists(path);
}

int cgroup_set(const struct cgroup *cg, const char *controller, const char *file, const char *what,
	       struct err *e, const char *fmt, ...)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, controller);
	_cleanup_free_ char *path = h ? cgroup_file(cg, h, file) : NULL, *value = NULL;
	va_list ap;
	int r;

	if (!h)
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "cannot set %s: this host has no %s cgroup controller", what, controller);
	va_start(ap, fmt);
	value = xvasprintf(fmt, ap);
	va_end(ap);
	r = fs_write(AT_FDCWD, path, value);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot set %s: write '%s' to %s", what, value, path) : 0;
}

int cgroup_no_weights(const char *what, struct err *e)
{
	return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
		       "cannot set %s: no I/O scheduler of this host has weights", what);
}

int cgroup_get(const struct cgroup *cg, const char *controller, const char *file, uint64_t *ret)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, controller);
	_cleanup_free_ char *path = h ? cgroup_file(cg, h, file) : NULL, *text = NULL;
	int r = path ? fs_read_line(AT_FDCWD, path, &text) : -ENOENT;

	if (r < 0)
		return r;
	if (streq(text, "max")) {
		*ret = UINT64_MAX;
		return 0;
	}
	return str_to_u64(text, ret);
}

/* --- life --- */

static int make_dir(struct cgroup *cg, const struct cgroup_hier *h, struct err *e)
{
	_cleanup_free_ char *dir = cgroup_file(cg, h, "");
	int r = mkdir(dir, 0755) < 0 && errno != EEXIST ? -errno : 0;

	/* Mostly those above it are there already. */
	if (r == -ENOENT)
		r = fs_mkdir_p(dir, 0755);
	/* A hierarchy that we may not write to matters only if a limit needs it. */
	if (r == -EROFS || r == -EACCES || r == -EPERM)
		return 0;
	if (r == 0 && !h->v2)
		r = cgroup1_prepare(cg, h);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot make cgroup '%s'", dir) : 0;
}

/* Joining a frozen group hangs for good; one with processes is somebody else's. */
static int check_unused(const struct cgroup *cg, struct err *e)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n = 0;

	if (cgroup_frozen(cg))
		return err_msg(e, ERR_CONFLICT, -EBUSY, "cgroup '%s' is frozen", cg->path);
	if (cgroup_pids(cg, &pids, &n) == 0 && n)
		return err_msg(e, ERR_CONFLICT, -EBUSY, "cgroup '%s' is not empty: %zu process(es) found",
			       cg->path, n);
	return 0;
}

int cgroup_create(struct cgroup *cg, const struct oci_resources *res, bool given, struct err *e)
{
	int r = given ? 0 : check_unused(cg, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < cg->n; i++)
		r = make_dir(cg, &cg->h[i], e);
	if (r == 0 && cg->unified)
		r = cgroup2_enable(cg);
	if (r == 0)
		r = cgroup_apply(cg, res, e);
	if (r < 0 && !given)
		(void)cgroup_remove(cg, NULL);
	return r;
}

int cgroup_sub(const struct cgroup *cg, const char *path, struct cgroup **ret, struct err *e)
{
	_cleanup_(cgroup_freep) struct cgroup *sub = new0(struct cgroup);
	_cleanup_strv_ char **parts = strv_split(path, "/");
	int r = 0;

	if (!strv_len(parts) || strv_has(parts, ".."))
		return err_msg(e, ERR_INVALID, 0, "bad sub cgroup path '%s'", path);
	sub->path = path_join(cg->path, path);
	sub->unified = cg->unified;
	for (size_t i = 0; i < cg->n; i++) {
		_cleanup_free_ char *full = path_join(cg->h[i].path, path);

		sub->h[sub->n++] = (struct cgroup_hier){ .mount = xstrdup(cg->h[i].mount),
							 .path = path_clean(full),
							 .controllers = strv_copy(cg->h[i].controllers),
							 .v2 = cg->h[i].v2 };
	}
	for (size_t i = 0; r == 0 && i < sub->n; i++)
		r = make_dir(sub, &sub->h[i], e);
	if (r == 0)
		*ret = TAKE_PTR(sub);
	return r;
}

/* What every container may use whatever its rules say, as runc and crun have it: the devices that the
 * specification puts in /dev, terminals, and making (not using) any node. */
static const struct oci_device_rule always_allowed[] = {
    {true, 'c', -1, -1, false, false, true}, {true, 'b', -1, -1, false, false, true},
    {true, 'c', 1, 3, true, true, true},     {true, 'c', 1, 5, true, true, true},
    {true, 'c', 1, 7, true, true, true},     {true, 'c', 1, 8, true, true, true},
    {true, 'c', 1, 9, true, true, true},     {true, 'c', 5, 0, true, true, true},
    {true, 'c', 5, 2, true, true, true},     {true, 'c', 136, -1, true, true, true},
};

/* memory.checkBeforeUpdate: a limit below what is in use would only bring the OOM killer. */
static int check_usage(const struct cgroup *cg, const struct oci_resources *res, struct err *e)
{
	const char *file = cg->unified ? "memory.current" : "memory.usage_in_bytes";
	int64_t limit = cgroup_i64(res->memory.limit);
	uint64_t usage;

	if (!res->memory.check_before_update || limit <= 0 || cgroup_get(cg, "memory", file, &usage) < 0)
		return 0;
	return usage <= (uint64_t)limit
		       ? 0
		       : err_msg(e, ERR_CONFLICT, -EBUSY,
				 "unable to set memory limit to %lld (current usage: %llu)", (long long)limit,
				 (unsigned long long)usage);
}

static int apply_hugepages(const struct cgroup *cg, const struct oci_resources *res, struct err *e)
{
	const char *kind[] = { "", ".rsvd" };	/* pages in use, and those set aside */
	int r = 0;

	for (size_t i = 0; r == 0 && i < res->hugepages.n; i++)
		for (size_t k = 0; r == 0 && k < ARRAY_SIZE(kind); k++) {
			_cleanup_free_ char *file =
				xasprintf("hugetlb.%s%s.%s", res->hugepages.v[i].page_size, kind[k],
					  cg->unified ? "max" : "limit_in_bytes");

			if (k && !cgroup_has_file(cg, "hugetlb", file))
				continue;
			r = cgroup_set(cg, "hugetlb", file, "the huge page limit", e, "%llu",
				       (unsigned long long)res->hugepages.v[i].limit);
		}
	return r;
}

static char *add_word(char *s, const char *key, const int64_t *v)
{
	char *longer = v ? xasprintf("%s%s=%lld", s, key, (long long)*v) : NULL;

	if (!v)
		return s;
	free(s);
	return longer;
}

static int apply_rdma(const struct cgroup *cg, const struct oci_resources *res, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < res->rdma.n; i++) {
		const struct oci_rdma *d = &res->rdma.v[i];
		_cleanup_free_ char *value = xstrdup(d->name);

		value = add_word(value, " hca_handle", d->handles);
		value = add_word(value, " hca_object", d->objects);
		if (d->handles || d->objects)
			r = cgroup_set(cg, "rdma", "rdma.max", "the RDMA limit", e, "%s", value);
	}
	return r;
}

struct oci_device_rules device_rules_full(const struct oci_device_rules *rules)
{
	/* No rules, or rules that end in "all", restrict nothing: there is nothing to add. */
	size_t more = device_rules_allow_all(rules) ? 0 : ARRAY_SIZE(always_allowed);
	struct oci_device_rules full = {
		new_array(struct oci_device_rule, rules->n + more + 1), rules->n + more,
	};

	if (rules->n)
		memcpy(full.v, rules->v, rules->n * sizeof *full.v);
	memcpy(full.v + rules->n, always_allowed, more * sizeof *full.v);
	return full;
}

int cgroup_apply(struct cgroup *cg, const struct oci_resources *res, struct err *e)
{
	struct oci_resources full = *res;
	_cleanup_free_ struct oci_device_rule *rules = NULL;
	int r;

	/* An ordinary user can set no rules, nor make a device. */
	full.devices = proc_is_root() ? device_rules_full(&res->devices) : (struct oci_device_rules){ 0 };
	rules = full.devices.v;
	r = check_usage(cg, res, e);
	if (r == 0)
		r = cg->unified ? cgroup2_apply(cg, &full, e) : cgroup1_apply(cg, &full, e);
	if (r == 0)
		r = apply_hugepages(cg, res, e);
	return r == 0 ? apply_rdma(cg, res, e) : r;
}

bool cgroup_made(const struct cgroup *cg)
{
	for (size_t i = 0; i < cg->n; i++) {
		_cleanup_free_ char *dir = cgroup_file(cg, &cg->h[i], "");

		if (fs_exists(dir))
			return true;
	}
	return false;
}
