#include "task/user.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FILE_MAX_BYTES (4u << 20)
#define ID_MAX 2147483647u	/* as Docker: signed 32 bits */

static int parse_id(const char *s, uint32_t *ret)
{
	uint64_t v;

	if (str_to_u64(s, &v) < 0 || v > ID_MAX)
		return -EINVAL;
	*ret = (uint32_t)v;
	return 0;
}

/* Neither a name of the file nor a number that can be an id. */
static int not_found(const char *spec, const char *what, const char *file, struct err *e)
{
	const char *digits = spec + (*spec == '-');

	if (*digits && !digits[strspn(digits, "0123456789")])
		return err_msg(e, ERR_INVALID, 0, "uids and gids must be in range 0-%u", ID_MAX);
	return err_msg(e, ERR_INVALID, 0, "unable to find %s %s: no matching entries in %s file", what, spec,
		       file);
}

/* The lines of a file inside the root; none if it is missing or no regular file. */
static char **read_lines(int rootfd, const char *path)
{
	_cleanup_close_ int fd = fs_open_in_root(rootfd, path, O_PATH, 0);
	_cleanup_free_ char *text = NULL;
	struct stat st;

	/* A fifo or device in the image must not be opened for reading. Nor a link to a file of procfs or
	 * tracefs, which may block: those have no size. */
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size ||
	    st.st_size > FILE_MAX_BYTES)
		return NULL;
	if (fs_read(AT_FDCWD, fd_proc_path(fd).s, FILE_MAX_BYTES, &text, NULL) < 0)
		return NULL;
	return strv_split(text, "\n");
}

/* Splits at colons, keeping empty fields. Returns how many; the line is cut in place. */
static size_t fields(char *line, char *f[], size_t max)
{
	size_t n = 0;

	for (char *p = line; p && n < max; n++) {
		f[n] = p;
		p = strchr(p, ':');
		if (p)
			*p++ = 0;
	}
	return n;
}

static bool lookup_user(char **lines, const char *name, bool numeric, struct user *u, char **ret_name)
{
	uint32_t want = 0;

	if (numeric)
		(void)parse_id(name, &want);
	for (char **l = lines; l && *l; l++) {
		char *f[7];
		uint32_t uid, gid;

		if (fields(*l, f, ARRAY_SIZE(f)) < 6 || parse_id(f[2], &uid) < 0 || parse_id(f[3], &gid) < 0)
			continue;
		if (!streq(f[0], name) && !(numeric && uid == want))
			continue;
		u->uid = uid;
		u->gid = gid;
		str_replace(&u->home, *f[5] ? f[5] : "/");
		str_replace(ret_name, f[0]);
		return true;
	}
	return false;
}

static int lookup_group(int rootfd, const char *spec, uint32_t *ret, struct err *e)
{
	_cleanup_strv_ char **lines = read_lines(rootfd, "/etc/group");

	for (char **l = lines; l && *l; l++) {
		char *f[4];
		uint32_t gid;

		if (fields(*l, f, ARRAY_SIZE(f)) >= 3 && streq(f[0], spec) && parse_id(f[2], &gid) == 0) {
			*ret = gid;
			return 0;
		}
	}
	if (parse_id(spec, ret) == 0)
		return 0;
	return not_found(spec, "group", "group", e);
}

int group_resolve(int rootfd, const char *spec, uint32_t *ret, struct err *e)
{
	return lookup_group(rootfd, spec, ret, e);
}

static void add_member_groups(int rootfd, const char *name, struct user *u)
{
	_cleanup_strv_ char **lines = read_lines(rootfd, "/etc/group");

	for (char **l = lines; l && *l; l++) {
		_cleanup_strv_ char **members = NULL;
		char *f[4];
		uint32_t gid;

		if (fields(*l, f, ARRAY_SIZE(f)) < 4 || parse_id(f[2], &gid) < 0)
			continue;
		members = strv_split(f[3], ",");
		if (!strv_has(members, name) || u->n_gids >= 65536)
			continue;
		u->gids = xrealloc(u->gids, u->n_gids + 1, sizeof *u->gids);
		u->gids[u->n_gids++] = gid;
	}
}

int user_resolve(int rootfd, const char *spec, struct user *ret, struct err *e)
{
	const char *colon = strchr(spec, ':');
	_cleanup_free_ char *user = xstrndup(spec, colon ? (size_t)(colon - spec) : strlen(spec)),
			    *name = NULL;
	const char *group = colon ? colon + 1 : "";
	_cleanup_strv_ char **lines = read_lines(rootfd, "/etc/passwd");
	struct user u = { .home = xstrdup("/") };
	uint32_t uid = 0;
	bool numeric = !*user || parse_id(user, &uid) == 0;
	int r = 0;

	if (!lookup_user(lines, *user ? user : "0", numeric, &u, &name)) {
		if (!numeric) {
			user_done(&u);
			return not_found(user, "user", "passwd", e);
		}
		u.uid = uid;
	}
	if (*group)
		r = lookup_group(rootfd, group, &u.gid, e);
	else if (name)
		add_member_groups(rootfd, name, &u);
	if (r < 0) {
		user_done(&u);
		return r;
	}
	*ret = u;
	return 0;
}

void user_done(struct user *u)
{
	free(u->gids);
	free(u->home);
	*u = (struct user){ 0 };
}
