#include "cli/create.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "cli/cmds.h"
#include "cli/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int check(const struct run_opts *o, struct err *e)
{
	static const char *const pulls[] = { "always", "missing", "never" };
	bool known = str_empty(o->pull);

	for (size_t i = 0; i < ARRAY_SIZE(pulls); i++)
		known |= streq(o->pull, pulls[i]);
	if (!known)
		return err_msg(e, ERR_INVALID, 0,
			       "invalid pull option: '%s': must be one of \"always\", \"missing\" or "
			       "\"never\"",
			       o->pull);
	if (o->cidfile && fs_exists(o->cidfile))
		return err_msg(e, ERR_INVALID, 0,
			       "container ID file found, make sure the other container isn't running "
			       "or delete %s",
			       o->cidfile);
	return 0;
}

static int write_cidfile(const char *path, const char *id, struct err *e)
{
	int r = fs_write_atomic(AT_FDCWD, path, id, strlen(id), 0644, false);

	return r < 0 ? err_set(e, ERR_SYSTEM, r, "failed to create the container ID file '%s'", path) : 0;
}

static int post(struct cli *c, const struct run_opts *o, const struct json *body, struct json **ret,
		struct err *e)
{
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	sbuf_puts(&url, "/containers/create");
	url_query(&url, "name", str_empty(o->name) ? NULL : o->name);
	url_query(&url, "platform", o->platform);
	return api_call(c, "POST", sbuf_str(&url), body, ret, e);
}

int create_container(struct cli *c, const struct run_opts *o, char *const *args, char **ret_id,
		     bool *ret_disks, struct err *e)
{
	_cleanup_json_ struct json *body = NULL, *answer = NULL;
	const struct json *warnings;
	const char *id;
	int r = check(o, e);

	if (r < 0)
		return r;
	body = run_opts_body(o, args, e);
	if (!body)
		return -EINVAL;
	if (streq(o->pull, "always")) {
		r = pull_image(c, args[0], o->platform, o->quiet, stderr, e);
		if (r < 0)
			return r;
	}
	r = post(c, o, body, &answer, e);
	if (r < 0 && e->kind == ERR_NOT_FOUND && strstr(err_text(e), "No such image") &&
	    (str_empty(o->pull) || streq(o->pull, "missing"))) {
		_cleanup_free_ char *tagged = reference_tagged(args[0]);

		err_clear(e);
		if (!o->quiet)
			fprintf(stderr, "Unable to find image '%s' locally\n", tagged);
		r = pull_image(c, args[0], o->platform, o->quiet, stderr, e);
		if (r >= 0)
			r = post(c, o, body, &answer, e);
	}
	if (r < 0)
		return r;
	warnings = json_get(answer, "Warnings");
	for (size_t i = 0; i < json_len(warnings); i++)
		fprintf(stderr, "WARNING: %s\n", json_str(json_at(warnings, i)) ?: "");
	id = json_get_str(answer, "Id");
	if (str_empty(id))
		return err_msg(e, ERR_SYSTEM, 0, "the daemon gave no container ID");
	if (o->cidfile && (r = write_cidfile(o->cidfile, id, e)) < 0)
		return r;
	*ret_id = xstrdup(id);
	if (ret_disks)
		*ret_disks = json_get_int(answer, "DisksToMake", 0) > 0;
	return 0;
}
