/* Networks: bridges and what is on them, addresses, NAT, names.
 *
 * Theory of operation. A network is a row of the database; while it is used there is a bridge for it on the
 * host, and the daemon's nft table knows that bridge. A container's place in a network, an endpoint, is a row
 * too: it holds the address while the container runs. The veth or tap of an endpoint belongs to the
 * container's supervisor and vanishes with it, so there is nothing to clean up after a crash; rows of
 * containers that are gone are dropped when the daemon starts. Which networks a container wants is part of
 * the container's document, by name. */
#pragma once

#include "engine/engine.h"
#include "engine/filters.h"
#include "lib/json_write.h"
#include "proto/msg.h"

int networks_open(struct engine *e, struct err *err); /* sets e->networks; nothing is made on the host yet */
/* Waits until no nft runs that would write what is taken away after it: before the end. */
void networks_settle(struct engine *e);
void networks_close(struct engine *e);

/* bridge, host or none. */
bool network_name_builtin(const char *name);
/* The name of the network that ref (name, id or prefix of an id) means; borrowed. 404 "network x not
 * found". */
int network_name(struct engine *e, const char *ref, const char **ret, struct err *err);

extern const char *const network_drivers[];	/* names, NULL-terminated */
/* One of them; NULL if there is no such network. */
const char *network_driver(struct engine *e, const char *ref);
/* The host's bridge of a network, borrowed; NULL if it has none. ret_ipv6: whether it carries IPv6. */
const char *network_bridge(struct engine *e, const char *ref, bool *ret_ipv6);

/* network_create.c. body: as POST /networks/create gets it. */
int network_create(struct engine *e, const struct json *body, const char **ret_id, struct err *err);
int network_remove(struct engine *e, const char *ref, struct err *err);
/* The names of those that went; new array. Filters: until, label, label!. */
int networks_prune(struct engine *e, const struct filters *f, struct json **ret, struct err *err);

/* Makes sure that the bridges of all networks in attachments (NULL: of all networks), forwarding and the nft
 * table exist (first use, or after somebody removed them). Asynchronous: may run nft once. */
void networks_ensure(struct engine *e, const struct json *attachments, engine_done_fn done, void *ud);

/* The host's kernel has IPv6, so there is a table of the family ip6 too. */
bool network_host_ipv6(void);
/* Some network has its bridge. */
bool networks_used(const struct engine *e);
/* Writes the table again, also if nothing seems to be missing. */
void network_rules_renew(struct engine *e, engine_done_fn done, void *ud);
/* Name of our nft tables, of the families ip, ip6 and bridge. Heap. */
char *network_table(const struct engine *e);

/* network_endpoint.c. attachments: object, name of a network -> what the endpoint asks for
 * (EndpointSettings of the API). */
/* Checks what an endpoint asks of a network; no word on whether the address is free. */
int endpoint_check(struct engine *e, const char *network, const struct json *settings, struct err *err);
/* The interfaces of a container: an address is taken for each network that it has none in. first: the network
 * that gets eth0, if it is new. Recorded in the database, so it survives the daemon. On failure nothing more
 * is held than before. */
int endpoints_take(struct engine *e, const char *ctr, const char *first, const struct json *attachments,
		   struct nics *ret, struct err *err);
/* No address may be left because a container that has ended keeps its own until its interface is gone.
 * fn runs once one has been given back; false: there is none to wait for. */
bool endpoints_await(struct engine *e, const struct json *attachments, void (*fn)(void *ud), void *ud);
/* Containers are called otherwise now. */
void endpoints_renamed(struct engine *e);
/* The host's name of the interface of an endpoint that has an address; heap. */
int endpoint_ifname(struct engine *e, const char *ctr, const char *network, char **ret, struct err *err);
/* network NULL: all of them. */
void endpoints_release(struct engine *e, const char *ctr, const char *network);
/* After adoption: gives back what a daemon that died has left to containers that do not run. */
void endpoints_settle(struct engine *e);

/* Where insula-resolver listens on the host; 0 before it has ever run. */
unsigned network_names_port(const struct engine *e);
/* resolv.conf of a container whose first interface is in this network ("" = it has none): the host's search
 * list and options, and as server the gateway, where insula-resolver answers. Heap. */
char *network_resolv_conf(struct engine *e, const char *network);

/* network_inspect.c */
/* NetworkSettings.Networks of a container, with the addresses that it has if it runs. */
void endpoints_show(struct engine *e, struct json_writer *w, const char *ctr, bool runs,
		    const struct json *attachments);
/* GET /networks and /networks/{id} documents. NULL if unknown. */
struct json *network_list(struct engine *e);
struct json *network_get(struct engine *e, const char *name_or_id, struct err *err);
