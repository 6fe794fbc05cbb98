/* The kernel's memory of connections (IPv4). */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

/* Forgets what was sent to one of these ports of the host, whatever became of it: the next packet is looked
 * at anew. Walks the whole table: not for the daemon's loop. 0, also where there is no such memory, or
 * -errno. */
int conntrack_forget(uint8_t proto, const uint16_t *ports, size_t n);
