#include "api/routes_later.h"

#include "base/macro.h"
#include "base/strv.h"
#include <string.h>

static void not_supported(struct request *r, struct engine *e)
{
	resp_errorf(r, ERR_NOT_IMPLEMENTED, "%s %s is not supported by this version of insula",
		    r->head.method, r->path);
}

/* Docker's answer of a daemon outside of a swarm. */
static void not_a_manager(struct request *r, struct engine *e)
{
	resp_errorf(r, ERR_UNAVAILABLE,
		    "This node is not a swarm manager. insula does not support swarm mode.");
}

static void empty_list(struct request *r, struct engine *e)
{
	resp_json(r, 200, json_array());
}

/* There is no build cache: `docker system prune` asks for it to be emptied too. */
static void prune_nothing(struct request *r, struct engine *e)
{
	struct json *j = json_object();

	json_set(j, "CachesDeleted", json_array());
	json_set_int(j, "SpaceReclaimed", 0);
	resp_json(r, 200, j);
}

const struct route routes_later[] = {
	{"GET", "/containers/{id}/attach/ws", not_supported},
	{"GET", "/containers/{id}/checkpoints", not_supported},
	{"POST", "/containers/{id}/checkpoints", not_supported},
	{"POST", "/build", not_supported, BODY_STREAM},
	{"POST", "/build/prune", prune_nothing},
	{"POST", "/build/cancel", not_supported},
	{"POST", "/session", not_supported},
	{"POST", "/grpc", not_supported},
	{"GET", "/images/search", not_supported},
	{"POST", "/networks/create", not_supported},
	{"POST", "/networks/prune", not_supported},
	{"POST", "/networks/{id}/connect", not_supported},
	{"POST", "/networks/{id}/disconnect", not_supported},
	{"DELETE", "/networks/{id}", not_supported},
	{"POST", "/volumes/prune", not_supported},
	{"PUT", "/volumes/{name}", not_supported, BODY_STREAM},
	{"GET", "/plugins", empty_list},
	{"GET", "/plugins/privileges", not_supported},
	{"GET", "/plugins/{name...}/json", not_supported},
	{"POST", "/plugins/{op...}", not_supported, BODY_STREAM},
	{"DELETE", "/plugins/{name...}", not_supported},
	{"GET", "/swarm", not_a_manager},
	{"GET", "/swarm/unlockkey", not_a_manager},
	{"POST", "/swarm/init", not_supported},
	{"POST", "/swarm/join", not_supported},
	{"POST", "/swarm/leave", not_a_manager},
	{"POST", "/swarm/update", not_a_manager},
	{"POST", "/swarm/unlock", not_a_manager},
	{"GET", "/nodes", not_a_manager},
	{"GET", "/nodes/{id}", not_a_manager},
	{"DELETE", "/nodes/{id}", not_a_manager},
	{"POST", "/nodes/{id}/update", not_a_manager},
	{"GET", "/services", not_a_manager},
	{"GET", "/services/{id}", not_a_manager},
	{"GET", "/services/{id}/logs", not_a_manager},
	{"POST", "/services/create", not_a_manager},
	{"POST", "/services/{id}/update", not_a_manager},
	{"DELETE", "/services/{id}", not_a_manager},
	{"GET", "/tasks", not_a_manager},
	{"GET", "/tasks/{id}", not_a_manager},
	{"GET", "/tasks/{id}/logs", not_a_manager},
	{"GET", "/secrets", not_a_manager},
	{"GET", "/secrets/{id}", not_a_manager},
	{"POST", "/secrets/create", not_a_manager},
	{"POST", "/secrets/{id}/update", not_a_manager},
	{"DELETE", "/secrets/{id}", not_a_manager},
	{"GET", "/configs", not_a_manager},
	{"GET", "/configs/{id}", not_a_manager},
	{"POST", "/configs/create", not_a_manager},
	{"POST", "/configs/{id}/update", not_a_manager},
	{"DELETE", "/configs/{id}", not_a_manager},
	{NULL},
};
