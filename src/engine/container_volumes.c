/* What stands in a container's Mounts, as mounts of its config.json and, under hyperv, as shares of its
 * machine: there the host enforces what is read-only and which part of a volume is seen, since the guest is
 * not trusted with it. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct json *spec_mount(struct json *list, const char *type, const char *source, const char *target,
			char *const *options)
{
	struct json *m = json_add(list, json_object());

	json_set_str(m, "destination", target);
	json_set_str(m, "type", type);
	json_set_str(m, "source", source);
	json_set_strv(m, "options", options);
	return m;
}

static void add_tmpfs(struct json *list, const struct json *m)
{
	static const char *const usual[] = {"noexec", "nosuid", "nodev"}, *const not [] = {"exec", "suid",
											   "dev"};
	_cleanup_strv_ char **given = strv_split(json_get_str(m, "Options") ?: "", ","), **options = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		if (!strv_has(given, not[i]))
			strv_add(&options, usual[i]);
	strv_extend(&options, given);
	spec_mount(list, "tmpfs", "tmpfs", json_get_str(m, "Destination"), options);
}

/* "ro", "rro" or "rw": whether what is mounted below the source is read-only too. */
static const char *access_of(const struct json *m)
{
	bool top = json_get_bool(m, "ReadOnlyTop", false) || json_get_bool(m, "NonRecursive", false);

	return json_get_bool(m, "RW", true) ? "rw" : top ? "ro" : "rro";
}

/* What is mounted, as far as it is there. A path inside a volume was made by containers: it stays inside. */
static struct stat stat_of(const struct json *m)
{
	const char *source = json_get_str(m, "Source"), *sub = json_get_str(m, "Subpath");
	_cleanup_close_ int root = open(source, O_PATH | O_CLOEXEC), fd = -EBADF;
	struct stat st = {.st_mode = S_IFDIR};

	if (root < 0 || (!str_empty(sub) && (fd = fs_open_in_root(root, sub, O_PATH, 0)) < 0))
		return st;
	(void)fstat(fd >= 0 ? fd : root, &st);
	return st;
}

/* What is relayed; NULL: it is shared. */
static const char *pipe_word(const struct stat *st)
{
	return S_ISSOCK(st->st_mode) ? "socket" : S_ISFIFO(st->st_mode) ? "fifo" : NULL;
}

/* Where the runtime finds the source in the guest: the root of a share, which is the part of the volume that
 * is mounted. A single file is shared by its name. For a socket or a FIFO the agent
 * makes one with its mode and owner. */
static char *guest_source(const struct json *m, size_t share)
{
	const char *sub = json_get_str(m, "Subpath");
	struct stat st = stat_of(m);

	if (pipe_word(&st))
		return xasprintf("%s:v%zu:%u:%u:%u", pipe_word(&st), share, st.st_mode & 0777, st.st_uid,
				 st.st_gid);
	if (!S_ISDIR(st.st_mode))
		return xasprintf("tag:v%zu/%s", share,
				 path_basename(str_empty(sub) ? json_get_str(m, "Source") : sub));
	return xasprintf("tag:v%zu", share);
}

/* The mount namespace of a supervisor takes from the host's and gives nothing back: what is to be given back
 * has its source in the host's own, which is the daemon's. */
static char *host_source(const struct json *m)
{
	const char *source = json_get_str(m, "Source");

	return propagation_shared(json_get_str(m, "Propagation"))
		   ? xasprintf("/proc/%d/root%s", getpid(), source)
		   : xstrdup(source);
}

static void add_volume(const struct container *c, struct json *list, const struct json *m, size_t share)
{
	const char *propagation = json_get_str(m, "Propagation"), *sub = json_get_str(m, "Subpath");
	bool hyperv = c->isolation == ISOLATION_HYPERV;
	_cleanup_free_ char *source = hyperv ? guest_source(m, share) : host_source(m);
	_cleanup_strv_ char **options = NULL;
	struct json *o;

	strv_add(&options, json_get_bool(m, "NonRecursive", false) ? "bind" : "rbind");
	strv_add(&options, str_empty(propagation) ? "rprivate" : propagation);
	/* In the guest, what is mounted below has the flags of the mount it appears in: "ro" is left to the
	 * host there. */
	if (!hyperv && json_get(m, "IdMap"))
		strv_addf(&options, "idmap=%s", json_get_str(m, "IdMap"));
	if (!streq(access_of(m), "rw") && (!hyperv || !json_get_bool(m, "ReadOnlyTop", false)))
		strv_add(&options, access_of(m));
	o = spec_mount(list, "bind", source, json_get_str(m, "Destination"), options);
	json_set_str(o, "insulaSource", json_get_str(m, "Source"));
	if (!hyperv && !str_empty(sub))
		json_set_str(o, "insulaSubpath", sub);
}

void spec_volumes(const struct container *c, struct json *list)
{
	const struct json *v = json_get(c->doc, "Mounts");
	size_t share = 0;

	for (size_t i = 0; i < json_len(v); i++)
		if (streq(json_get_str(json_at(v, i), "Type"), "tmpfs"))
			add_tmpfs(list, json_at(v, i));
		else
			add_volume(c, list, json_at(v, i), share++);
}

/* The words of a share: see msg.def. */
static char *share_words(const struct json *m)
{
	const char *sub = json_get_str(m, "Subpath"), *idmap = json_get_str(m, "IdMap");

	struct stat st = stat_of(m);

	if (pipe_word(&st))
		return xstrdup(pipe_word(&st));
	return xasprintf("%s%s%s%s%s%s%s", access_of(m),
			 json_get_bool(m, "NonRecursive", false) ? ",nonrec" : "",
			 str_ends(json_get_str(m, "Propagation") ?: "", "slave") ? ",slave" : "",
			 idmap ? ",idmap=" : "", idmap ?: "",
			 str_empty(sub) ? "" : ",sub=", sub ?: "");
}

char **spec_shares(const struct container *c)
{
	const struct json *v = json_get(c->doc, "Mounts");
	char **out = NULL;
	size_t share = 0;

	for (size_t i = 0; i < json_len(v); i++) {
		const struct json *m = json_at(v, i);

		if (streq(json_get_str(m, "Type"), "tmpfs"))
			continue;
		strv_addf(&out, "v%zu", share++);
		strv_add(&out, json_get_str(m, "Source"));
		strv_take(&out, share_words(m));
	}
	return out;
}
