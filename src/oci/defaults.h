/* Docker's defaults for a container: capabilities, mounts, masks, devices and the seccomp profile.
 * The tables follow moby's oci/defaults.go and profiles/seccomp; the engine's generator of config.json
 * and `insula-runtime spec` use them. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

/* NULL-terminated. Capability names with the CAP_ prefix. */
extern const char *const oci_default_caps[];
extern const char *const oci_masked_paths[];
extern const char *const oci_readonly_paths[];

/* All capabilities that exist, by number; NULL past the last one. */
const char *oci_cap_name(unsigned n);
/* The number of "CAP_CHOWN" or "chown" (case does not matter), -EINVAL if there is none. */
int oci_cap_number(const char *name);
/* --cap-add, --cap-drop, --privileged by Docker's rules ("ALL" is known, the CAP_ prefix is optional)
 * into a heap vector in order of number. ERR_INVALID: `invalid CapAdd: unknown capability: "CAP_X"`. */
int oci_caps_resolve(char *const *add, char *const *drop, bool privileged, char ***ret, struct err *e);

/* linux.seccomp of Docker's default profile for a container that has these capabilities (with prefix):
 * default SCMP_ACT_ERRNO, capability-dependent groups folded in, clone3 answered with ENOSYS.
 * Syscalls newer than the profile get ENOSYS from lib/seccomp. */
struct json *oci_default_seccomp(char *const *caps);
/* The array `mounts` of an ordinary container: /proc, /dev, /dev/pts, /sys, /sys/fs/cgroup, /dev/mqueue,
 * /dev/shm. shm_size in bytes. privileged: /sys and cgroups are writable. */
struct json *oci_default_mounts(uint64_t shm_size, bool privileged);
/* The array `linux.resources.devices`: deny all, then Docker's list; privileged: allow all. */
struct json *oci_default_device_rules(bool privileged);
