/* The control groups that hold a machine's processes on the host: QEMU and its file servers. What is asked of
 * memory, processor time and processes is the guest's own affair, whose groups hold the container; what names
 * block devices, processors and memory nodes means those of the host, and only these groups can do it. */
#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"
#include "lib/json.h"
#include "runtime/cgroup.h"
#include "vm/guest_internal.h"

#include <errno.h>
#include <string.h>

#define QEMU_OVERHEAD (256ull << 20)	/* QEMU itself, its translation buffer, page tables, file servers */
#define PERIOD_US 100000

/* A host that cannot set them does without: the guest's groups hold the container all the same. The first
 * clone that touches a page which the template has not is charged for it twice: for its own copy, and for the
 * page of zeros that the kernel makes in the template to copy from. */
static void bound(struct guest *g, const struct msg_sandbox *m, bool clone)
{
	uint64_t base = clone ? 2 * m->memory : m->memory;
	int64_t memory = (int64_t)(base + MAX(m->memory_extra, m->memory_most) + QEMU_OVERHEAD);
	/* The processors of the machine, and half a one for QEMU itself. */
	int64_t quota = (int64_t)m->vcpus * PERIOD_US + PERIOD_US / 2;
	const struct oci_resources limits[] = { { .memory.limit = &memory }, { .cpu.quota = &quota } };

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		_cleanup_err_ struct err e = ERR_INIT;

		if (cgroup_apply(g->cg, &limits[i], &e) < 0)
			log_warn("limit the virtual machine of sandbox '%s': %s", g->sandbox, err_text(&e));
	}
}

int group_make(struct guest *g, const struct msg_sandbox *m, bool clone, struct err *e)
{
	const struct oci_resources none = { 0 };
	int r = *m->cgroup ? cgroup_new(m->cgroup, NULL, &g->cg, e) : 0;

	if (r < 0 || !g->cg)
		return r;
	/* Whatever an earlier machine of this sandbox has left there is on its way out. */
	r = cgroup_create(g->cg, &none, true, e);
	if (r == 0)
		bound(g, m, clone);
	return r;
}

bool group_out_of_memory(const struct guest *g)
{
	return g->cg && cgroup_oom_kills(g->cg) > 0;
}

/* Moves a member to the same place in own. */
static bool take(struct json *from, const char *key, struct json *own)
{
	struct json *v = json_get(from, key);

	if (!v)
		return false;
	json_set(own, key, json_ref(v));
	json_del(from, key);
	return true;
}

int group_limits(struct guest *g, struct json *resources, struct err *e)
{
	_cleanup_oci_resources_ struct oci_resources res = { 0 };
	_cleanup_json_ struct json *own = json_object();
	struct json *cpu = json_set(own, "cpu", json_object()), *all = json_get(resources, "cpu");
	_cleanup_free_ char *text = NULL;
	const char *last = take(resources, "blockIO", own) ? "blockIO" : NULL;
	int r;

	last = take(all, "cpus", cpu) ? "cpu.cpus" : last;
	last = take(all, "mems", cpu) ? "cpu.mems" : last;
	if (!last)
		return 0;
	if (!g->cg)
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "linux.resources.%s: the virtual machine has no cgroup on the host", last);
	text = json_dump(own);
	r = oci_resources_parse(text, strlen(text), &res, e);
	return r == 0 ? cgroup_apply(g->cg, &res, e) : r;
}

void group_remove(struct guest *g)
{
	_cleanup_err_ struct err e = ERR_INIT;

	if (g->cg && cgroup_remove(g->cg, &e) < 0)
		log_warn("%s", err_text(&e));
	cgroup_free(g->cg);
	g->cg = NULL;
}
