/* The kernel that machines boot. */
#pragma once

#include "engine/engine.h"

/* Its release, "6.1.0-56-cloud-amd64": heap, NULL if there is no kernel or it does not say. */
char *guest_kernel_release(const struct engine *e);
