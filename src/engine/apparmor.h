/* AppArmor on the host: the profile that containers of process isolation run under. */
#pragma once

#include "base/err.h"

struct container;

/* Once, before containers are started: loads our profile where AppArmor is on and has it not yet. What does
 * not work is a warning: the containers then run without. */
void apparmor_init(void);
bool apparmor_on(void);
/* What --security-opt asks for: the profile's name, "unconfined", or NULL for nothing. */
const char *apparmor_option(const char *security_opt);
/* The profile of a container's processes, NULL = none. Borrowed from c, or static. */
const char *apparmor_profile(const struct container *c);
