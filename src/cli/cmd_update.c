#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/run_opts.h"

#include <stdio.h>
#include <string.h>

struct update {
	int64_t blkio_weight, cpu_period, cpu_quota, cpu_rt_period, cpu_rt_runtime, cpu_shares, nano_cpus;
	int64_t memory, reservation, swap, pids;
	char *cpuset_cpus, *cpuset_mems, *restart;
};

static struct json *body_of(const struct update *u, struct err *e)
{
	const struct { const char *key; int64_t v; } numbers[] = {
		{ "BlkioWeight", u->blkio_weight },
		{ "CpuPeriod", u->cpu_period },
		{ "CpuQuota", u->cpu_quota },
		{ "CpuRealtimePeriod", u->cpu_rt_period },
		{ "CpuRealtimeRuntime", u->cpu_rt_runtime },
		{ "CpuShares", u->cpu_shares },
		{ "Memory", u->memory },
		{ "MemoryReservation", u->reservation },
		{ "MemorySwap", u->swap },
		{ "NanoCpus", u->nano_cpus },
	};
	const char *colon = u->restart ? strchr(u->restart, ':') : NULL;
	struct json *body = json_object(), *policy = json_set(body, "RestartPolicy", json_object());
	int64_t max = 0;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		json_set_int(body, numbers[i].key, numbers[i].v);
	if (u->pids)
		json_set_int(body, "PidsLimit", u->pids);
	json_set_str(body, "CpusetCpus", u->cpuset_cpus ? u->cpuset_cpus : "");
	json_set_str(body, "CpusetMems", u->cpuset_mems ? u->cpuset_mems : "");
	if (colon && str_to_i64(colon + 1, &max) < 0) {
		err_msg(e, ERR_INVALID, 0,
			"invalid restart policy format: maximum retry count must be an integer");
		json_free(body);
		return NULL;
	}
	json_set(policy, "Name", u->restart ? json_new_strn(u->restart, strcspn(u->restart, ":"))
					     : json_new_str(""));
	json_set_int(policy, "MaximumRetryCount", max);
	return body;
}

static int update_all(struct cli *c, char **names, const struct json *body)
{
	int code = 0;

	for (; *names; names++) {
		_cleanup_free_ char *path = url_path("/containers/", *names, "/update");
		_cleanup_json_ struct json *answer = NULL;
		_cleanup_err_ struct err e = ERR_INIT;

		if (api_call(c, "POST", path, body, &answer, &e) < 0) {
			code = cli_fail(&e);
			continue;
		}
		printf("%s\n", *names);
		fflush(stdout);
	}
	return code;
}

int cmd_update(struct cli *c, int argc, char **argv)
{
	struct update u = { 0 };
	_cleanup_free_ char **args = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_json_ struct json *body = NULL;
	int code;
	const struct opt opts[] = {
	    {0, "blkio-weight", OPT_INT, &u.blkio_weight, "uint16",
	     "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"},
	    {0, "cpu-period", OPT_INT, &u.cpu_period, "int",
	     "Limit CPU CFS (Completely Fair Scheduler) period"},
	    {0, "cpu-quota", OPT_INT, &u.cpu_quota, "int", "Limit CPU CFS (Completely Fair Scheduler) quota"},
	    {0, "cpu-rt-period", OPT_INT, &u.cpu_rt_period, "int",
	     "Limit the CPU real-time period in microseconds"},
	    {0, "cpu-rt-runtime", OPT_INT, &u.cpu_rt_runtime, "int",
	     "Limit the CPU real-time runtime in microseconds"},
	    {'c', "cpu-shares", OPT_INT, &u.cpu_shares, "int", "CPU shares (relative weight)"},
	    {0, "cpus", OPT_CALL, &u.nano_cpus, "decimal", "Number of CPUs", parse_cpus},
	    {0, "cpuset-cpus", OPT_STR, &u.cpuset_cpus, "string",
	     "CPUs in which to allow execution (0-3, 0,1)"},
	    {0, "cpuset-mems", OPT_STR, &u.cpuset_mems, "string",
	     "MEMs in which to allow execution (0-3, 0,1)"},
	    {'m', "memory", OPT_CALL, &u.memory, "bytes", "Memory limit", parse_ram},
	    {0, "memory-reservation", OPT_CALL, &u.reservation, "bytes", "Memory soft limit", parse_ram},
	    {0, "memory-swap", OPT_CALL, &u.swap, "bytes",
	     "Swap limit equal to memory plus swap: -1 to enable unlimited swap", parse_ram_swap},
	    {0, "pids-limit", OPT_INT, &u.pids, "int", "Tune container pids limit (set -1 for unlimited)"},
	    {0, "restart", OPT_STR, &u.restart, "string", "Restart policy to apply when a container exits"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args)) {
		code = c->exit_code;
	} else if (!(body = body_of(&u, &e))) {
		code = cli_fail(&e);
	} else {
		code = update_all(c, args, body);
	}
	free(u.cpuset_cpus);
	free(u.cpuset_mems);
	free(u.restart);
	return code;
}
