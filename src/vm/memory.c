/* How much memory a machine has. Its base is there from the first moment on; the rest is a region of which
 * the guest may use as much as is requested for it (virtio-mem).
 *
 * It grows when its agent says that more is needed, and by no less than can be waited for at once. What the
 * guest has used and freed still lies in the host's memory: lowering the request makes the guest give it up,
 * and with that it is the host's again. What is missed later comes as it came at first. The base stays: it
 * cannot be given back without harm to the template behind it (decisions/0006).
 *
 * The reports are the guest's words. A wrong one costs it its own memory, or makes it grow, as using the
 * memory would. */
#include "base/log.h"
#include "vm/guest_internal.h"

#define MB (1ull << 20)
#define BLOCK (128 * MB)	/* in which the guest's kernel takes memory in */
#define STEP_MIN (4 * BLOCK)
#define SETTLE_US 1000000	/* what lies idle that long is taken back */

static void request(struct guest *g, uint64_t bytes)
{
	if (bytes == g->memory_requested)
		return;
	g->memory_requested = bytes;
	log_debug("sandbox '%s': %llu MiB beside the base", g->sandbox, (unsigned long long)(bytes / MB));
	g->vmm->ops->set_memory(g->vmm, bytes);
}

static void grow(struct guest *g)
{
	uint64_t step = MAX(STEP_MIN, (g->conf.memory + g->memory_requested) / 2 / BLOCK * BLOCK);

	request(g, MIN(g->memory_requested + step, g->conf.memory_most));
}

/* Whole blocks that the guest can do without, if as much lies unused in the host's memory. What it was asked
 * for and has not given up yet counts as gone. */
static uint64_t idle(const struct guest *g)
{
	const struct msg_memory *m = &g->memory;
	uint64_t touched = g->vmm->ops->memory_touched(g->vmm);
	uint64_t going = m->come - MIN(g->memory_requested, m->come);
	uint64_t unused = touched - MIN(m->used, touched);

	if (m->wanted || unused < going + BLOCK || m->spare < going)
		return 0;
	return MIN((m->spare - going) / BLOCK * BLOCK, g->memory_requested);
}

static void on_settled(struct loop_source *s, void *ud)
{
	struct guest *g = ud;

	loop_source_free(TAKE_PTR(g->memory_timer));
	if (g->phase == GUEST_UP)
		request(g, g->memory_requested - idle(g));
}

void guest_memory(struct guest *g, const struct msg_memory *m)
{
	if (g->phase != GUEST_UP || !g->conf.memory_most)
		return;
	g->memory = *m;
	/* Most of what was requested last must have come. */
	if (m->wanted && m->come + BLOCK > g->memory_requested)
		grow(g);
	else if (!g->memory_timer && idle(g))
		(void)loop_add_timer(g->loop, SETTLE_US, 0, on_settled, g, &g->memory_timer);
}
