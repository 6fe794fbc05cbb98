/* QEMU's machine protocol (docs/interop/qmp-spec of QEMU): commands in order, one answer each; events
 * besides. */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "lib/json.h"

struct qmp;

/* r = 0: ret is the "return" value (borrowed). Else e says what QEMU said, or that it has ended. */
typedef void (*qmp_reply_fn)(void *userdata, int r, const struct err *e, const struct json *ret);
typedef void (*qmp_event_fn)(void *userdata, const char *event, const struct json *data);

/* Takes fd (a connected socket) over; negotiates by itself. */
int qmp_new(struct loop *l, int fd, qmp_event_fn event, void *userdata, struct qmp **ret);
void qmp_free(struct qmp *q);		/* outstanding replies do not run */
/* args (taken, may be NULL); pass_fd >= 0 is duplicated and travels with the command (add-fd). fn runs
 * exactly once, unless the client is freed before: at once if QEMU has hung up. */
void qmp_command(struct qmp *q, const char *name, struct json *args, int pass_fd, qmp_reply_fn fn,
		 void *userdata);
/* Reads what QEMU wrote before it ended and fails what it left unanswered. */
void qmp_drain(struct qmp *q);
