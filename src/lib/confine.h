/* A process shuts itself in: a list of system calls, and nothing else. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

/* The call is allowed only if (argument & mask) == value. */
struct confine_rule { const char *name; unsigned arg; uint64_t mask, value; };

/* Allows the names and the rules, on this thread and those it starts. Anything else ends the process, or with
 * refuse fails with EPERM. clone3 is answered with ENOSYS: its flags cannot be looked at, and libc then takes
 * clone. Privileges must be dropped before (or no_new_privs set). */
int confine_syscalls(const char *const *names, size_t n, const struct confine_rule *rules, size_t n_rules,
		     bool refuse, struct err *e);
