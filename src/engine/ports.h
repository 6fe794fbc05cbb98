/* What a container's configuration says of ports: pure reading, and what is told of it. */
#pragma once

#include "engine/engine.h"
#include "lib/json_write.h"

/* A port of the container and where it is to be reached: at one address ("" = all), by one port of
 * first..last (0 = any). */
struct port_map { char *proto, *host; unsigned port, first, last; };
struct port_maps { struct port_map *v; size_t n; };
#define _cleanup_port_maps_ _cleanup_(port_maps_done)
void port_maps_done(struct port_maps *m);

/* PortBindings, and with PublishAllPorts the rest of ExposedPorts. default_ip: for those that name no
 * address; may be NULL. ERR_INVALID in Docker's words. */
int ports_parse(const struct json *config, const struct json *hc, const char *default_ip,
		struct port_maps *ret, struct err *err);

/* NetworkSettings.Ports: what is published (such an object, may be NULL), and null for what is exposed
 * only. */
struct json *ports_inspect(const struct json *config, const struct json *published);
/* The same as the list "Ports" of GET /containers/json. */
void ports_summary(struct json_writer *w, const struct json *config, const struct json *published);
/* Values of the filters "publish" and "expose": "80", "80/tcp", "80-90/udp". */
int ports_filter_check(const char *value, struct err *err);
bool ports_filter_match(const char *value, const char *port /* "80/tcp" */);
