/* All routes of the Engine API. The first match counts; routes_later is last, so that an endpoint leaves it
 * by being served elsewhere. */
#include "api/conn.h"
#include "api/routes_later.h"

const struct route *const route_tables[] = {
    routes_containers, routes_files, routes_prune, routes_exec, routes_registry,
    routes_save, routes_disks, routes_images, routes_networks, routes_volumes, routes_vm, routes_system,
    routes_later, NULL,
};
