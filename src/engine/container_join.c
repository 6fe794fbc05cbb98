/* --network container:ID: the new container enters the sandbox of another, in both isolation modes: its
 * network namespace, or its virtual machine. Everything else it has for itself.
 *
 * The sandbox has a life of its own: it ends with the last container in it, whichever that is. What is
 * needed of its first container later, the files that say who it is, is therefore kept with the sandbox. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PREFIX "container:"
#define FILES_MAX (4u << 20)

static const char *joins(const struct json *hc)
{
	const char *mode = json_get_str(hc, "NetworkMode");

	return str_starts(mode ? mode : "", PREFIX) ? mode + strlen(PREFIX) : NULL;
}

const char *ctr_joins(const struct container *c)
{
	return joins(ctr_host(c));
}

bool ctr_host_network(const struct container *c)
{
	return streq(ctr_network(c), "host") || (ctr_joins(c) && c->host_network);
}

/* ---- at create ---- */

/* What belongs to the network that is joined cannot be set again: Docker's words. */
static const struct { const char *field, *what; bool in_config; } conflicts[] = {
	{"Hostname", "hostname and the network mode", true},
	{"MacAddress", "mac-address and the network mode", true},
	{"Links", "container type network can't be used with links. This would result in undefined behavior",
	 false},
	{"Dns", "dns and the network mode", false},
	{"DnsSearch", "dns and the network mode", false},
	{"DnsOptions", "dns and the network mode", false},
	{"ExtraHosts", "custom host-to-IP mapping and the network mode", false},
	{"PortBindings", "port publishing and the container type network mode", false},
	{"PublishAllPorts", "port publishing and the container type network mode", false},
	{"ExposedPorts", "port exposing and the container type network mode", true},
};

static bool given(const struct json *v)
{
	return json_len(v) || !str_empty(json_str(v)) || (json_type(v) == JSON_BOOL && json_bool(v));
}

/* The other half of a pair of walls. */
static int check_isolation(enum isolation ours, const struct container *target, struct err *err)
{
	const char *theirs = isolation_name(target->isolation);

	if (ours == target->isolation)
		return 0;
	return err_msg(err, ERR_INVALID, 0,
		       "--network=container:%s: that container runs under %s isolation, and a network cannot "
		       "be shared across the wall of a virtual machine: use --isolation=%s",
		       target->name, theirs, theirs);
}

int join_check(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	const char *ref = joins(hc);
	struct container *target;

	if (!*ref)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid network mode: invalid container format container:<name|id>");
	for (size_t i = 0; i < ARRAY_SIZE(conflicts); i++)
		if (given(json_get(conflicts[i].in_config ? x->body : hc, conflicts[i].field)))
			return err_msg(err, ERR_INVALID, 0, "conflicting options: %s", conflicts[i].what);
	if (x->isolation == ISOLATION_HYPERV && blkio_asked(hc))
		return err_msg(err, ERR_INVALID, 0,
			       "limits of block devices hold a virtual machine as a whole: give them to "
			       "the container that it is started for, not to one that joins it");
	/* as Docker: whether it is there is asked at the start */
	if (container_find(x->engine, ref, &target, NULL) < 0)
		return 0;
	return check_isolation(x->isolation, target, err);
}

int join_check_mounts(const struct create_ctx *x, const struct json *hc, const struct json *mounts,
		      struct err *err)
{
	if (x->isolation != ISOLATION_HYPERV || !joins(hc))
		return 0;
	for (size_t i = 0; i < json_len(mounts); i++)
		if (!streq(json_get_str(json_at(mounts, i), "Type"), "tmpfs"))
			return err_msg(err, ERR_INVALID, 0,
				       "volume %s: a container that joins a virtual machine cannot bring "
				       "volumes into it (file servers need memory that it shares from its "
				       "start): use --tmpfs, or --isolation=process for both containers",
				       json_get_str(json_at(mounts, i), "Destination"));
	return 0;
}

/* ---- at the start ---- */

int join_target(const struct container *c, struct container **ret, struct err *err)
{
	struct container *t;
	int r = container_find(c->engine, ctr_joins(c), &t, err);

	if (r < 0)
		return r;
	if (t == c)
		return err_msg(err, ERR_CONFLICT, 0, "cannot join own network");
	if (t->status == CTR_RESTARTING)
		return err_msg(err, ERR_CONFLICT, 0,
			       "Container %s is restarting, wait until the container is running", t->id);
	if (t->status != CTR_RUNNING || !ctr_conn(t))
		return err_msg(err, ERR_CONFLICT, 0, "cannot join network of a non running container: %s",
			       t->id);
	r = check_isolation(c->isolation, t, err);
	if (r == 0)
		*ret = t;
	return r;
}

bool join_target_awaited(const struct container *c)
{
	struct container *t;

	return ctr_joins(c) && container_find(c->engine, ctr_joins(c), &t, NULL) >= 0 && t != c &&
	       t->status != CTR_RUNNING && (t->status == CTR_RESTARTING || t->current);
}

int join_enter(struct container *c, struct err *err)
{
	struct json *config = json_get(c->doc, "Config");
	_cleanup_free_ char *hostname = NULL;
	struct container *t;
	int r = join_target(c, &t, err);

	if (r < 0)
		return r;
	if (!sup_join(c, t->sandbox))
		return err_msg(err, ERR_CONFLICT, 0, "cannot join network of a non running container: %s",
			       t->id);
	hostname = ctr_hostname(t);
	json_set_str(config, "Hostname", hostname);
	json_set_str(config, "Domainname", json_get_str(ctr_config(t), "Domainname") ?: "");
	c->host_network = ctr_host_network(t);
	c->machine_memory = t->machine_memory;
	c->machine_cpus = t->machine_cpus;
	return container_save_doc(c, err);
}

/* ---- the names of a sandbox ---- */

static char *file_of(const struct container *c)
{
	_cleanup_free_ char *dir = sandbox_dir(c->engine, c->sandbox);

	return path_join(dir, "names");
}

void sandbox_files_keep(const struct container *c, char *const *files)
{
	_cleanup_free_ char *path = file_of(c), *text = NULL;
	_cleanup_json_ struct json *j = json_object();
	int r;

	for (; files && files[0] && files[1]; files += 2)
		json_set_str(j, files[0], files[1]);
	text = json_dump(j);
	r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false);
	if (r < 0)
		log_warn("write '%s': %s", path, strerror(-r));
}

int sandbox_files(const struct container *c, char ***ret, struct err *err)
{
	_cleanup_free_ char *path = file_of(c), *text = NULL;
	_cleanup_json_ struct json *j = NULL;
	struct json_iter it = {0};
	size_t n;
	int r = fs_read(AT_FDCWD, path, FILES_MAX, &text, &n);

	if (r >= 0)
		r = json_parse(text, n, &j, NULL);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "read '%s'", path);
	while (json_next(j, &it)) {
		strv_add(ret, it.key);
		strv_add(ret, json_str(it.value) ?: "");
	}
	return 0;
}
