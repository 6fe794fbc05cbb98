/* Image documents: what insula must know of a config, a docker-save manifest, an OCI index and manifest. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

/* diff ids of a config (rootfs.diff_ids), each a valid digest. Heap vector; ERR_INVALID otherwise. */
int image_config_diff_ids(const struct json *config, char ***ret, struct err *e);
/* Refuses a config for another system or processor than this one's. */
int image_config_check_host(const struct json *config, struct err *e);
/* The processor as images name it: "amd64". */
const char *image_architecture(void);
/* Applies one Dockerfile instruction (`import -c`, `commit -c`) to a Config object: CMD ENTRYPOINT ENV EXPOSE
 * LABEL USER VOLUME WORKDIR STOPSIGNAL. */
int image_change_apply(struct json *config, const char *instruction, struct err *e);
