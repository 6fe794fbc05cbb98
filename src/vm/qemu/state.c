/* Saving and loading the state of a machine whose memory lies in a file (QEMU's x-ignore-shared): the
 * stream has the devices only, some 300 KB, and loads in milliseconds. */
#include "base/strv.h"
#include "vm/qemu/internal.h"

#include <errno.h>

static void set_capabilities(struct batch *b)
{
	static const char *const names[] = { "x-ignore-shared", "events" };
	struct json *a = json_object(), *list = json_set(a, "capabilities", json_array());

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct json *c = json_add(list, json_object());

		json_set_str(c, "capability", names[i]);
		json_set_bool(c, "state", true);
	}
	batch_command(b, "migrate-set-capabilities", a, -EBADF);
}

/* The descriptor gets a name. The batch then also waits for the end of the migration. */
static void migrate(struct batch *b, const char *command, int fd)
{
	struct json *a = json_object();

	set_capabilities(b);
	json_set_str(a, "fdname", "state");
	batch_command(b, "getfd", a, fd);
	a = json_object();
	json_set_str(a, "uri", "fd:state");
	b->pending++;
	b->q->migration = b;
	batch_command(b, command, a, -EBADF);
}

/* The network has never heard of the machine: there is nobody to tell that it has moved. */
static void set_parameters(struct batch *b)
{
	struct json *a = json_object();

	json_set_int(a, "announce-rounds", 0);
	batch_command(b, "migrate-set-parameters", a, -EBADF);
}

void state_load(struct batch *b)
{
	set_parameters(b);
	migrate(b, "migrate-incoming", b->q->state_fd);
}

void state_save(struct batch *b, int fd)
{
	batch_command(b, "stop", NULL, -EBADF);
	migrate(b, "migrate", fd);
}

void state_event(struct qemu *q, const struct json *data)
{
	const char *status = json_get_str(data, "status");
	bool completed = streq(status, "completed");
	_cleanup_err_ struct err e = ERR_INIT;
	struct batch *b = q->migration;

	if (!b || (!completed && !streq(status, "failed")))
		return;
	q->migration = NULL;
	if (!completed)
		err_msg(&e, ERR_SYSTEM, -EIO, "its state cannot be saved or loaded");
	batch_over(b, completed ? 0 : -EIO, &e);
}
