/* Tasks in a virtual machine: the backend of vmwp. */
#pragma once

#include "task/backend.h"

int guest_new(struct loop *l, const char *sandbox, bool debug, struct backend **ret);
