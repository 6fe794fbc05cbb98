/* A running container as a whole: pause, limits, what it uses. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

struct control {
	struct container *c;		/* referenced */
	struct op *op;			/* pause, update */
	struct json *host;		/* update: the new HostConfig */
	bool pause;
	engine_done_fn done;
	void *userdata;
};

static struct control *control_new(struct container *c, engine_done_fn done, void *ud)
{
	struct control *k = new0(struct control);

	*k = (struct control){.c = container_ref(c), .done = done, .userdata = ud};
	return k;
}

static void control_free(struct control *k)
{
	container_unref(k->c);
	json_free(k->host);
	free(k);
}

static void control_send(struct container *c, enum control_op what, const char *resources, conn_reply_fn fn,
			 void *ud)
{
	struct msg_control m = {.sandbox = c->sandbox, .ctr = c->id, .op = what};

	if (resources)
		m.resources = (struct bytes){(uint8_t *)resources, strlen(resources)};
	CONN_REQUEST(ctr_conn(c), CONTROL, control, &m, -1, fn, ud);
}

/* ---- pause ---- */

void container_paused(struct container *c, bool on)
{
	c->paused = on && c->status == CTR_RUNNING;
	container_save(c);
	container_event(c, on ? "pause" : "unpause", NULL);
}

static void paused(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct control *k = ud;

	if (r >= 0)
		container_paused(k->c, k->pause);
	op_finish(k->op, r, e);
	control_free(k);
}

static int pausable(const struct container *c, bool on, struct err *err)
{
	if (c->status == CTR_RESTARTING && on)
		return err_msg(err, ERR_CONFLICT, 0,
			       "Container %s is restarting, wait until the container is running", c->id);
	if (on && (c->status != CTR_RUNNING || !ctr_conn(c)))
		return not_running(c, err);
	if (on && c->paused)
		return err_msg(err, ERR_CONFLICT, 0, "Container %s is already paused", c->id);
	if (!on && (!c->paused || !ctr_conn(c)))
		return err_msg(err, ERR_SYSTEM, 0, "Container %s is not paused", c->id);
	return 0;
}

static void run_pause(struct op *op)
{
	_cleanup_err_ struct err err = ERR_INIT;
	bool on = !op->force;
	int r = pausable(op->c, on, &err);
	struct control *k;

	if (r < 0) {
		op_finish(op, r, &err);
		return;
	}
	k = control_new(op->c, NULL, NULL);
	k->op = op;
	k->pause = on;
	control_send(op->c, on ? CONTROL_PAUSE : CONTROL_RESUME, NULL, paused, k);
}

void container_pause(struct container *c, bool on, engine_done_fn done, void *ud)
{
	struct op *op = op_new(c, run_pause, done, ud);

	op->force = !on;
	op_push(op);
}

static void thawed(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct container *c = ud;

	if (r >= 0 && c->paused)
		container_paused(c, false);
	container_unref(c);
}

void container_thaw(struct container *c)
{
	if (c->paused && ctr_conn(c))
		control_send(c, CONTROL_RESUME, NULL, thawed, container_ref(c));
}

/* ---- update ---- */

static const char *const limits[] = {
	"BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
	"BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod",
	"CpuRealtimeRuntime", "CpuShares", "CpusetCpus", "CpusetMems", "Memory", "MemoryReservation",
	"MemorySwap", "KernelMemory", "NanoCpus", "PidsLimit",
};

static bool given(const struct json *v)
{
	switch (json_type(v)) {
	case JSON_INT:	return json_int(v) != 0;
	case JSON_STR:	return *json_str(v) != 0;
	case JSON_ARRAY: return json_len(v) > 0;
	default:	return false;
	}
}

/* The host configuration with what body has of it. */
static struct json *merged(const struct container *c, const struct json *body)
{
	const struct json *policy = json_get(body, "RestartPolicy"), *nano = json_get(body, "NanoCPUs");
	struct json *hc = json_copy(ctr_host(c));

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (given(json_get(body, limits[i])))
			json_set(hc, limits[i], json_copy(json_get(body, limits[i])));
	if (given(nano))
		json_set(hc, "NanoCpus", json_copy(nano));
	if (!str_empty(json_get_str(policy, "Name")))
		json_set(hc, "RestartPolicy", json_copy(policy));
	return hc;
}

/* A machine has the memory and the processors it was made with. */
static int check_machine(const struct container *c, const struct json *hc, struct err *err)
{
	int64_t memory = json_get_int(hc, "Memory", 0), cpus = json_get_int(hc, "NanoCpus", 0);
	_cleanup_free_ char *size = size_human_bytes((double)c->machine_memory);

	if (c->isolation != ISOLATION_HYPERV || c->status != CTR_RUNNING)
		return 0;
	if (memory > 0 && (uint64_t)memory > c->machine_memory)
		return err_msg(err, ERR_CONFLICT, 0,
			       "Cannot update container %s: its virtual machine was started with %s of "
			       "memory, and gets no more while it runs: stop the container, update it, and "
			       "start it again", c->id, size);
	if (cpus > c->machine_cpus * 1000000000)
		return err_msg(err, ERR_CONFLICT, 0,
			       "Cannot update container %s: its virtual machine was started with %lld "
			       "processors, and gets no more while it runs: stop the container, update it, "
			       "and start it again", c->id, (long long)c->machine_cpus);
	return 0;
}

static int check_update(const struct container *c, const struct json *body, const struct json *hc,
			struct err *err)
{
	struct create_ctx x = {.engine = c->engine, .isolation = c->isolation};
	int64_t swap = json_get_int(ctr_host(c), "MemorySwap", 0);
	const char *policy = json_get_str(json_get(body, "RestartPolicy"), "Name");
	int r;

	if (!str_empty(policy) && !streq(policy, "no") && json_get_bool(hc, "AutoRemove", false))
		return err_msg(err, ERR_INVALID, 0,
			       "Restart policy cannot be updated because AutoRemove is enabled for the "
			       "container");
	if (swap > 0 && json_get_int(body, "Memory", 0) > swap && !json_get_int(body, "MemorySwap", 0))
		return err_msg(err, ERR_CONFLICT, 0,
			       "Cannot update container %s: Memory limit should be smaller than already set "
			       "memoryswap limit, update the memoryswap at the same time", c->id);
	r = host_config_check(&x, hc, err);
	strv_free(x.warnings);
	return r < 0 ? r : check_machine(c, hc, err);
}

static int adopt_host(struct control *k, struct err *err)
{
	struct json *was = json_copy(ctr_host(k->c));
	int r;

	json_set(k->c->doc, "HostConfig", TAKE_PTR(k->host));
	r = container_save_doc(k->c, err);
	if (r < 0) {
		json_set(k->c->doc, "HostConfig", was);
		return r;
	}
	json_free(was);
	container_event(k->c, "update", NULL);
	return 0;
}

static void update_end(struct control *k, int r, const struct err *e)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (r >= 0) {
		r = adopt_host(k, &err);
		e = &err;
	}
	op_finish(k->op, r, e);
	control_free(k);
}

static void updated(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct control *k = ud;
	_cleanup_err_ struct err err = ERR_INIT;

	if (r < 0) {
		err_msg(&err, e ? e->kind : ERR_SYSTEM, r, "Cannot update container %s: %s", k->c->id,
			e ? err_text(e) : strerror(-r));
		e = &err;
	}
	update_end(k, r, e);
}

static void run_update(struct op *op)
{
	struct container *c = op->c;
	struct control *k = control_new(c, NULL, NULL);
	_cleanup_json_ struct json *body = op->body, *res = json_object();
	_cleanup_free_ char *text = NULL;
	_cleanup_err_ struct err err = ERR_INIT;
	int r;

	op->body = NULL;
	k->op = op;
	k->host = merged(c, body);
	r = check_update(c, body, k->host, &err);
	if (r < 0 || c->status != CTR_RUNNING || !ctr_conn(c)) {
		update_end(k, r, &err);
		return;
	}
	r = spec_limits(k->host, res, &err);
	if (r < 0) {
		update_end(k, r, &err);
		return;
	}
	text = json_dump(res);
	control_send(c, CONTROL_UPDATE, text, updated, k);
}

void container_update(struct container *c, const struct json *body, engine_done_fn done, void *ud)
{
	struct op *op = op_new(c, run_update, done, ud);

	op->body = json_copy(body);
	op_push(op);
}

/* ---- stats ---- */

static void stats_done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct control *k = ud;
	struct msg_stats_table t = {0};
	_cleanup_err_ struct err err = ERR_INIT;

	if (r >= 0) {
		r = msg_stats_table_decode(p, n, &t);
		if (r >= 0 && strv_len(t.names) != strv_len(t.values))
			r = -EPROTO;
		if (r < 0)
			err_set(&err, ERR_SYSTEM, r, "statistics of container %s", k->c->id);
		e = &err;
	}
	k->done(k->userdata, r, e, r < 0 ? NULL : &t);
	msg_stats_table_done(&t);
	control_free(k);
}

void container_stats(struct container *c, engine_done_fn done, void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (c->gone || c->status != CTR_RUNNING || !ctr_conn(c)) {
		done(ud, not_running(c, &err), &err, NULL);
		return;
	}
	control_send(c, CONTROL_STATS, NULL, stats_done, control_new(c, done, ud));
}
