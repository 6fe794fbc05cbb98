/* The interfaces of a sandbox, from inside: in its net namespace, or in the guest. */
#pragma once

#include "base/err.h"
#include "proto/msg.h"

/* Gives the interfaces, which exist by their names, their addresses and routes and takes them up. What is
 * as it should be stays so: it may be asked again with more or fewer of them. */
int nics_configure(const struct nics *nics, struct err *e);
/* lo. */
int nics_loopback(struct err *e);
