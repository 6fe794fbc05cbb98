/* Templates of virtual machines: ours, Docker has nothing like them. */
#include "api/server.h"

#include "engine/accel.h"
#include "engine/template.h"

static void list(struct request *r, struct engine *e)
{
	resp_json(r, 200, template_list(e));
}

static void remove_template(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (template_remove(e, req_param(r, 0), &err) < 0)
		resp_error(r, &err);
	else
		resp_status(r, 204);
}

static void made(void *ud, int r, const struct err *e, void *result)
{
	struct request *req = ud;

	if (r < 0)
		resp_error(req, e);
	else if (!result)
		resp_errorf(req, ERR_CONFLICT, "virtual machines boot: templates are switched off, or could "
			    "not be made, which the log tells of");
	else
		resp_status(req, 204);
}

static void accel_known(void *ud, int r, const struct err *e, void *result)
{
	struct request *req = ud;
	const struct accel *a = result;

	if (r < 0)
		resp_error(req, e);
	else
		template_get(req->engine, a->name, made, req);
}

static void make(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (guest_kernel_check(e, &err) < 0)
		resp_error(r, &err);
	else
		accel_get(e, accel_known, r);
}

const struct route routes_vm[] = {
	{"GET", "/vm/templates", list, .watch = true},
	{"POST", "/vm/templates", make},
	{"DELETE", "/vm/templates/{name}", remove_template},
	{0},
};
