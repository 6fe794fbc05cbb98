/* --cpuset-cpus and --cpuset-mems: they name processors and memory nodes of the host in both modes. A virtual
 * machine is held to them as a whole, and has as many processors as there are in the set. */
#include "base/fs.h"
#include "base/strv.h"
#include "engine/container_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

/* The kernel's form of a list: "0-3,7" (cpuset(7), "List format"). */
static int parse(const char *text, cpu_set_t *ret)
{
	_cleanup_strv_ char **parts = strv_split(text, ",");

	CPU_ZERO(ret);
	for (char **p = parts; p && *p; p++) {
		uint64_t first, last;
		char *dash = strchr(*p, '-');

		if (dash)
			*dash = 0;
		if (str_to_u64(*p, &first) < 0 || str_to_u64(dash ? dash + 1 : *p, &last) < 0 ||
		    first > last || last >= CPU_SETSIZE)
			return -EINVAL;
		for (uint64_t i = first; i <= last; i++)
			CPU_SET(i, ret);
	}
	return CPU_COUNT(ret) ? 0 : -EINVAL;
}

static int check(const char *asked, const char *what, const char *plural, const char *online, struct err *err)
{
	_cleanup_free_ char *there = NULL;
	cpu_set_t want, have, both;

	if (str_empty(asked))
		return 0;
	if (parse(asked, &want) < 0)
		return err_msg(err, ERR_INVALID, 0, "Invalid value %s for cpuset %s: invalid format: %s",
			       asked, what, asked);
	/* A kernel that does not tell judges by itself, at the start. */
	if (fs_read_line(AT_FDCWD, online, &there) < 0 || parse(there, &have) < 0)
		return 0;
	CPU_AND(&both, &want, &have);
	if (!CPU_EQUAL(&both, &want))
		return err_msg(err, ERR_INVALID, 0,
			       "Requested %s are not available - requested %s, available: %s", plural, asked,
			       there);
	return 0;
}

int cpuset_check(const struct json *hc, struct err *err)
{
	int r = check(json_get_str(hc, "CpusetCpus"), "cpus", "CPUs", "/sys/devices/system/cpu/online", err);

	return r < 0 ? r
		     : check(json_get_str(hc, "CpusetMems"), "mems", "memory nodes",
			     "/sys/devices/system/node/has_memory", err);
}

unsigned cpuset_count(const struct json *hc)
{
	const char *asked = json_get_str(hc, "CpusetCpus");
	cpu_set_t set;

	return str_empty(asked) || parse(asked, &set) < 0 ? 0 : (unsigned)CPU_COUNT(&set);
}
