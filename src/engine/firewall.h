/* Other programs' firewalls on the host, see firewall.c. */
#pragma once

#include "engine/engine.h"

/* What they do to containers of these networks (object by name), as warnings with the way out. */
void firewall_warn(struct engine *e, const struct json *attachments, char ***warnings);
/* With the option open-firewall: what is to be run so that they let through (open), or no more, what concerns
 * the bridge. Appended to commands. */
void firewall_commands(struct engine *e, const char *bridge, bool ipv6, bool open, char ***commands);
/* Runs them, in a worker; what fails is logged. */
void firewall_run(char *const *commands);
/* Somebody has put rules into the table's chain for them (insula-user). */
bool firewall_user_rules(const char *table);
