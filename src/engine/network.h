/* Networks: the default bridge, addresses, NAT, name resolution files. */
#pragma once

#include "engine/engine.h"
#include "proto/msg.h"

int networks_open(struct engine *e, struct err *err); /* sets e->networks; nothing is made on the host yet */
void networks_close(struct engine *e);
/* Makes sure the default bridge, its address, forwarding and the nft table exist (first use, or after
 * somebody removed them). Asynchronous: runs nft once. */
void network_bridge_ensure(struct engine *e, engine_done_fn done, void *ud);
/* The same, also if nothing seems to be missing. */
void network_rules_renew(struct engine *e, engine_done_fn done, void *ud);
/* Name of our nft table (of the family ip). Heap. */
char *network_table(const struct engine *e);
/* An address on the default bridge for the container: fills net, bridge, ifname, mac, address, prefix,
 * gateway, mtu of m. Recorded in the database, so it survives the daemon. */
int network_address_take(struct engine *e, const char *ctr, struct msg_sandbox *m, struct err *err);
void network_address_release(struct engine *e, const char *ctr);
/* Content of the container's resolv.conf (host's resolvers as the container can reach them). Heap. */
char *network_resolv_conf(struct engine *e, bool bridged);
/* NetworkSettings.Networks of inspect for a container on `mode` ("bridge", "none", "host"): new object. */
struct json *network_inspect(struct engine *e, const char *ctr, const char *mode);
/* GET /networks and /networks/{id} documents: the built-in bridge, none, host. NULL if unknown. */
struct json *network_list(struct engine *e);
struct json *network_get(struct engine *e, const char *name_or_id);
