/* Volumes of the driver "local" with options, as of mount(8): type, o, device. */
#pragma once

#include "lib/json.h"

/* Docker's words for an unknown or a missing one. */
int volume_options_check(const char *name, const struct json *options, struct err *err);
/* Mounts the volume at path, its _data, unless it is mounted. Blocks: for workers. */
int volume_options_mount(const char *path, const struct json *options, struct err *err);
/* Takes it away; what is open in it lives on. Blocks. */
void volume_options_umount(const char *path);
