/* Containers in the database. The state is one JSON document:
 *
 *   Status    "created" | "running" | "exited"     ExitCode, OOMKilled, Error     Pid
 *   Started, Finished   ns                         RestartCount, StoppedByUser, ExitPending,
 *   Paused, MachineMemory, MachineCpus, Health     Ports, PortsTarget: see publish.c
 *   Starting            see container_resume.c
 *   Sandbox, HostNetwork: see container_join.c */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/db.h"
#include "engine/health.h"
#include <errno.h>
#include <string.h>

/* Transient states are stored as what a crash leaves of them. */
static const char *stored_status(const struct container *c)
{
	switch (c->status) {
	case CTR_CREATED:	return "created";
	case CTR_RUNNING:	return "running";
	default:		return "exited";
	}
}

static char *state_text(const struct container *c)
{
	_cleanup_json_ struct json *j = json_object();

	json_set_str(j, "Status", stored_status(c));
	json_set_int(j, "Pid", c->pid);
	json_set_int(j, "Started", (int64_t)c->started_ns);
	json_set_int(j, "Finished", (int64_t)c->finished_ns);
	json_set_int(j, "ExitCode", c->exit_code);
	json_set_bool(j, "OOMKilled", c->oom);
	json_set_str(j, "Error", c->error);
	json_set_int(j, "RestartCount", c->restart_count);
	json_set_bool(j, "StoppedByUser", c->stopped_by_user);
	json_set_bool(j, "Paused", c->paused);
	json_set_bool(j, "Starting", c->starting);
	if (c->health)
		json_set(j, "Health", health_json(c));
	json_set_int(j, "MachineMemory", (int64_t)c->machine_memory);
	json_set_int(j, "MachineCpus", c->machine_cpus);
	json_set_bool(j, "ExitPending", c->exit_pending);
	if (c->ports) {
		json_set(j, "Ports", json_ref(c->ports));
		json_set_str(j, "PortsTarget", c->ports_target);
	}
	json_set_str(j, "Sandbox", c->sandbox);
	json_set_bool(j, "HostNetwork", c->host_network);
	return json_dump(j);
}

static void state_read(struct container *c, const struct json *j)
{
	const char *status = json_get_str(j, "Status");

	c->status = streq(status, "running")   ? CTR_RUNNING
		    : streq(status, "created") ? CTR_CREATED
					       : CTR_EXITED;
	c->pid = (uint32_t)json_get_int(j, "Pid", 0);
	c->started_ns = (uint64_t)json_get_int(j, "Started", 0);
	c->finished_ns = (uint64_t)json_get_int(j, "Finished", 0);
	c->exit_code = (int)json_get_int(j, "ExitCode", 0);
	c->oom = json_get_bool(j, "OOMKilled", false);
	str_replace(&c->error, json_get_str(j, "Error") ?: "");
	c->restart_count = (unsigned)json_get_int(j, "RestartCount", 0);
	c->stopped_by_user = json_get_bool(j, "StoppedByUser", false);
	c->exit_pending = json_get_bool(j, "ExitPending", false);
	health_load(c, json_get(j, "Health"));
	str_replace(&c->sandbox, json_get_str(j, "Sandbox") ?: c->id);
	c->host_network = json_get_bool(j, "HostNetwork", false);
	c->machine_memory = (uint64_t)json_get_int(j, "MachineMemory", 0);
	c->machine_cpus = json_get_int(j, "MachineCpus", 0);
	c->starting = json_get_bool(j, "Starting", false);
	if ((c->status == CTR_RUNNING || c->starting) && json_get(j, "Ports")) {
		c->ports = json_copy(json_get(j, "Ports"));
		c->ports_target = xstrdup(json_get_str(j, "PortsTarget"));
	}
	c->paused = c->status == CTR_RUNNING && json_get_bool(j, "Paused", false);
}

int container_store(struct container *c, struct err *err)
{
	_cleanup_free_ char *config = json_dump(c->doc), *state = state_text(c);

	return db_run(c->engine->db, err,
		      "INSERT INTO containers (id, name, image_id, isolation, created_ns, config, state) "
		      "VALUES (?, ?, ?, ?, ?, ?, ?)",
		      "ssssiss", c->id, c->name, c->image_id, isolation_name(c->isolation),
		      (int64_t)c->created_ns, config, state);
}

void container_save(struct container *c)
{
	_cleanup_free_ char *state = state_text(c);
	_cleanup_err_ struct err err = ERR_INIT;

	if (!c->gone && db_run(c->engine->db, &err, "UPDATE containers SET state = ? WHERE id = ?", "ss",
			       state, c->id) < 0)
		log_error("save container %s: %s", c->id, err_text(&err));
}

int container_save_name(struct container *c, struct err *err)
{
	return db_run(c->engine->db, err, "UPDATE containers SET name = ? WHERE id = ?", "ss", c->name,
		      c->id);
}

int container_save_doc(struct container *c, struct err *err)
{
	_cleanup_free_ char *config = json_dump(c->doc);

	return db_run(c->engine->db, err, "UPDATE containers SET config = ? WHERE id = ?", "ss", config,
		      c->id);
}

static int load_row(struct engine *e, struct stmt *s)
{
	_cleanup_json_ struct json *doc = NULL, *state = NULL;
	_cleanup_err_ struct err err = ERR_INIT;
	const char *config = stmt_str(s, 5), *text = stmt_str(s, 6);
	struct container *c;

	if (json_parse(config, strlen(config), &doc, &err) < 0 ||
	    json_parse(text, strlen(text), &state, &err) < 0) {
		log_error("container %s of the database is damaged: %s", stmt_str(s, 0), err_text(&err));
		return 0;
	}
	c = container_new(e, stmt_str(s, 0), stmt_str(s, 1));
	c->image_id = xstrdup(stmt_str(s, 2));
	c->isolation = streq(stmt_str(s, 3), "hyperv") ? ISOLATION_HYPERV : ISOLATION_PROCESS;
	c->created_ns = (uint64_t)stmt_int(s, 4);
	c->doc = TAKE_PTR(doc);
	attachments_load(c);
	state_read(c, state);
	container_insert(c);
	return 0;
}

int containers_load(struct engine *e, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(e->db, &s, err, "SELECT id, name, image_id, isolation, created_ns, config, state "
			 "FROM containers ORDER BY created_ns", "");

	if (r < 0)
		return r;
	while ((r = stmt_step(s, err)) > 0)
		load_row(e, s);
	return r;
}
