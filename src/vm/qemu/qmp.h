/* QEMU's machine protocol: commands in order, one answer each; events besides. */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "lib/json.h"

struct qmp;

/* ret: the "return" value (borrowed) with r = 0. */
typedef void (*qmp_reply_fn)(void *userdata, int r, const struct err *e, const struct json *ret);
typedef void (*qmp_event_fn)(void *userdata, const char *event, const struct json *data);
typedef void (*qmp_close_fn)(void *userdata);

/* Takes fd (a connected socket) over; negotiates by itself. */
int qmp_new(struct loop *l, int fd, qmp_event_fn event, qmp_close_fn closed, void *userdata, struct qmp **ret);
void qmp_free(struct qmp *q);		/* outstanding replies do not run */
/* args (taken, may be NULL); pass_fd >= 0 travels with the command (add-fd, getfd). */
void qmp_command(struct qmp *q, const char *name, struct json *args, int pass_fd, qmp_reply_fn fn, void *userdata);
