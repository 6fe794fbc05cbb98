#include "cli/run_opts.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/tty.h"
#include "cli/env.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The table with offsets instead of pointers: one row per option, in the order of --help. */
static const struct row {
	char short_name;
	const char *name;
	enum opt_type type;
	size_t offset;
	const char *arg, *help;
	int (*call)(const struct opt *o, const char *value, char **why);
	size_t seen;			/* offset of a bool, 0 = none */
	bool run_only;
} rows[] = {
#define AT(f) offsetof(struct run_opts, f)
    {0, "add-host", OPT_CALL, AT(extra_hosts), "list", "Add a custom host-to-IP mapping (host:ip)",
     parse_extra_host},
    {0, "annotation", OPT_STRV, AT(annotations), "map",
     "Add an annotation to the container (passed through to the OCI runtime) (default map[])"},
    {'a', "attach", OPT_CALL, AT(attach), "list", "Attach to STDIN, STDOUT or STDERR", parse_attach},
    {0, "blkio-weight", OPT_INT, AT(blkio_weight), "uint16",
     "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"},
    {0, "blkio-weight-device", OPT_CALL, AT(weights), "list",
     "Block IO weight (relative device weight) (default [])", parse_weight},
    {0, "cap-add", OPT_CALL, AT(cap_add), "list", "Add Linux capabilities", parse_capability},
    {0, "cap-drop", OPT_CALL, AT(cap_drop), "list", "Drop Linux capabilities", parse_capability},
    {0, "cgroup-parent", OPT_STR, AT(cgroup_parent), "string", "Optional parent cgroup for the container"},
    {0, "cgroupns", OPT_STR, AT(cgroupns_mode), "string", "Cgroup namespace to use (host|private)"},
    {0, "cidfile", OPT_STR, AT(cidfile), "string", "Write the container ID to the file"},
    {0, "cpu-count", OPT_INT, AT(cpu_count), "int", NULL},
    {0, "cpu-percent", OPT_INT, AT(cpu_percent), "int", NULL},
    {0, "cpu-period", OPT_INT, AT(cpu_period), "int", "Limit CPU CFS (Completely Fair Scheduler) period"},
    {0, "cpu-quota", OPT_INT, AT(cpu_quota), "int", "Limit CPU CFS (Completely Fair Scheduler) quota"},
    {0, "cpu-rt-period", OPT_INT, AT(cpu_rt_period), "int", "Limit CPU real-time period in microseconds"},
    {0, "cpu-rt-runtime", OPT_INT, AT(cpu_rt_runtime), "int", "Limit CPU real-time runtime in microseconds"},
    {'c', "cpu-shares", OPT_INT, AT(cpu_shares), "int", "CPU shares (relative weight)"},
    {0, "cpus", OPT_CALL, AT(nano_cpus), "decimal", "Number of CPUs", parse_cpus},
    {0, "cpuset-cpus", OPT_STR, AT(cpuset_cpus), "string", "CPUs in which to allow execution (0-3, 0,1)"},
    {0, "cpuset-mems", OPT_STR, AT(cpuset_mems), "string", "MEMs in which to allow execution (0-3, 0,1)"},
    {'d', "detach", OPT_BOOL, AT(detach), NULL, "Run container in background and print container ID",
     .run_only = true},
    {0, "detach-keys", OPT_STR, AT(detach_keys), "string",
     "Override the key sequence for detaching a container", .run_only = true},
    {0, "device", OPT_STRV, AT(devices), "list", "Add a host device to the container"},
    {0, "device-cgroup-rule", OPT_STRV, AT(device_rules), "list",
     "Add a rule to the cgroup allowed devices list"},
    {0, "device-read-bps", OPT_CALL, AT(read_bps), "list",
     "Limit read rate (bytes per second) from a device (default [])", parse_rate_bytes},
    {0, "device-read-iops", OPT_CALL, AT(read_iops), "list",
     "Limit read rate (IO per second) from a device (default [])", parse_rate_ios},
    {0, "device-write-bps", OPT_CALL, AT(write_bps), "list",
     "Limit write rate (bytes per second) to a device (default [])", parse_rate_bytes},
    {0, "device-write-iops", OPT_CALL, AT(write_iops), "list",
     "Limit write rate (IO per second) to a device (default [])", parse_rate_ios},
    {0, "disable-content-trust", OPT_BOOL, AT(content_trust), NULL, NULL},
    {0, "dns", OPT_CALL, AT(dns), "list", "Set custom DNS servers", parse_dns},
    {0, "dns-opt", OPT_STRV, AT(dns_options), "list", NULL},
    {0, "dns-option", OPT_STRV, AT(dns_options), "list", "Set DNS options"},
    {0, "dns-search", OPT_STRV, AT(dns_search), "list", "Set custom DNS search domains"},
    {0, "domainname", OPT_STR, AT(domainname), "string", "Container NIS domain name"},
    {0, "entrypoint", OPT_STR, AT(entrypoint), "string", "Overwrite the default ENTRYPOINT of the image",
     NULL, AT(entrypoint_given)},
    {'e', "env", OPT_CALL, AT(env), "list", "Set environment variables", parse_env},
    {0, "env-file", OPT_STRV, AT(env_files), "list", "Read in a file of environment variables"},
    {0, "expose", OPT_STRV, AT(expose), "list", "Expose a port or a range of ports"},
    {0, "gpus", OPT_STR, AT(gpus), "gpu-request",
     "GPU devices to add to the container ('all' to pass all GPUs)"},
    {0, "group-add", OPT_STRV, AT(group_add), "list", "Add additional groups to join"},
    {0, "health-cmd", OPT_STR, AT(health_cmd), "string", "Command to run to check health"},
    {0, "health-interval", OPT_CALL, AT(health_interval), "duration",
     "Time between running the check (ms|s|m|h) (default 0s)", parse_duration},
    {0, "health-retries", OPT_INT, AT(health_retries), "int",
     "Consecutive failures needed to report unhealthy"},
    {0, "health-start-interval", OPT_CALL, AT(health_start_interval), "duration",
     "Time between running the check during the start period (ms|s|m|h) (default 0s)", parse_duration},
    {0, "health-start-period", OPT_CALL, AT(health_start_period), "duration",
     "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) "
     "(default 0s)",
     parse_duration},
    {0, "health-timeout", OPT_CALL, AT(health_timeout), "duration",
     "Maximum time to allow one check to run (ms|s|m|h) (default 0s)", parse_duration},
    {'h', "hostname", OPT_STR, AT(hostname), "string", "Container host name"},
    {0, "init", OPT_BOOL, AT(init), NULL,
     "Run an init inside the container that forwards signals and reaps processes", NULL, AT(init_given)},
    {'i', "interactive", OPT_BOOL, AT(interactive), NULL, "Keep STDIN open even if not attached"},
    {0, "io-maxbandwidth", OPT_CALL, AT(io_max_bandwidth), "bytes", NULL, parse_ram},
    {0, "io-maxiops", OPT_INT, AT(io_max_iops), "uint", NULL},
    {0, "ip", OPT_STR, AT(ip), "string", "IPv4 address (e.g., 172.30.100.104)"},
    {0, "ip6", OPT_STR, AT(ip6), "string", "IPv6 address (e.g., 2001:db8::33)"},
    {0, "ipc", OPT_STR, AT(ipc_mode), "string", "IPC mode to use"},
    {0, "isolation", OPT_STR, AT(isolation), "string", "Container isolation technology (process|hyperv)"},
    {0, "kernel-memory", OPT_CALL, AT(kernel_memory), "bytes", "Kernel memory limit", parse_ram},
    {'l', "label", OPT_CALL, AT(labels), "list", "Set meta data on a container", parse_label},
    {0, "label-file", OPT_STRV, AT(label_files), "list", "Read in a line delimited file of labels"},
    {0, "link", OPT_STRV, AT(links), "list", "Add link to another container"},
    {0, "link-local-ip", OPT_STRV, AT(link_local_ips), "list", "Container IPv4/IPv6 link-local addresses"},
    {0, "log-driver", OPT_STR, AT(log_driver), "string", "Logging driver for the container"},
    {0, "log-opt", OPT_STRV, AT(log_opts), "list", "Log driver options"},
    {0, "mac-address", OPT_STR, AT(mac), "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"},
    {'m', "memory", OPT_CALL, AT(memory), "bytes", "Memory limit", parse_ram},
    {0, "memory-reservation", OPT_CALL, AT(memory_reservation), "bytes", "Memory soft limit", parse_ram},
    {0, "memory-swap", OPT_CALL, AT(memory_swap), "bytes",
     "Swap limit equal to memory plus swap: '-1' to enable unlimited swap", parse_ram_swap},
    {0, "memory-swappiness", OPT_INT, AT(memory_swappiness), "int",
     "Tune container memory swappiness (0 to 100) (default -1)"},
    {0, "mount", OPT_CALL, AT(mounts), "mount", "Attach a filesystem mount to the container", parse_mount},
    {0, "name", OPT_STR, AT(name), "string", "Assign a name to the container"},
    {0, "net", OPT_STRV, AT(networks), "network", NULL},
    {0, "net-alias", OPT_STRV, AT(aliases), "list", NULL},
    {0, "network", OPT_STRV, AT(networks), "network", "Connect a container to a network"},
    {0, "network-alias", OPT_STRV, AT(aliases), "list", "Add network-scoped alias for the container"},
    {0, "no-healthcheck", OPT_BOOL, AT(no_healthcheck), NULL, "Disable any container-specified HEALTHCHECK"},
    {0, "oom-kill-disable", OPT_BOOL, AT(oom_kill_disable), NULL, "Disable OOM Killer"},
    {0, "oom-score-adj", OPT_INT, AT(oom_score_adj), "int", "Tune host's OOM preferences (-1000 to 1000)"},
    {0, "pid", OPT_STR, AT(pid_mode), "string", "PID namespace to use"},
    {0, "pids-limit", OPT_INT, AT(pids_limit), "int", "Tune container pids limit (set -1 for unlimited)",
     NULL, AT(pids_limit_given)},
    {0, "platform", OPT_STR, AT(platform), "string", "Set platform if server is multi-platform capable"},
    {0, "privileged", OPT_BOOL, AT(privileged), NULL, "Give extended privileges to this container"},
    {'p', "publish", OPT_STRV, AT(publish), "list", "Publish a container's port(s) to the host"},
    {'P', "publish-all", OPT_BOOL, AT(publish_all), NULL, "Publish all exposed ports to random ports"},
    {0, "pull", OPT_STR, AT(pull), "string",
     "Pull image before running (\"always\", \"missing\", \"never\") (default \"missing\")"},
    {'q', "quiet", OPT_BOOL, AT(quiet), NULL, "Suppress the pull output"},
    {0, "read-only", OPT_BOOL, AT(read_only), NULL, "Mount the container's root filesystem as read only"},
    {0, "restart", OPT_STR, AT(restart), "string",
     "Restart policy to apply when a container exits (default \"no\")"},
    {0, "rm", OPT_BOOL, AT(rm), NULL,
     "Automatically remove the container and its associated anonymous volumes when it exits"},
    {0, "runtime", OPT_STR, AT(runtime), "string", "Runtime to use for this container"},
    {0, "security-opt", OPT_STRV, AT(security_opts), "list", "Security Options"},
    {0, "shm-size", OPT_CALL, AT(shm_size), "bytes", "Size of /dev/shm", parse_ram},
    {0, "sig-proxy", OPT_BOOL, AT(sig_proxy), NULL, "Proxy received signals to the process (default true)",
     .run_only = true},
    {0, "stop-signal", OPT_STR, AT(stop_signal), "string", "Signal to stop the container"},
    {0, "stop-timeout", OPT_INT, AT(stop_timeout), "int", "Timeout (in seconds) to stop a container", NULL,
     AT(stop_timeout_given)},
    {0, "storage-opt", OPT_STRV, AT(storage_opts), "list", "Storage driver options for the container"},
    {0, "sysctl", OPT_CALL, AT(sysctls), "map", "Sysctl options (default map[])", parse_sysctl},
    {0, "tmpfs", OPT_STRV, AT(tmpfs), "list", "Mount a tmpfs directory"},
    {'t', "tty", OPT_BOOL, AT(tty), NULL, "Allocate a pseudo-TTY"},
    {0, "ulimit", OPT_CALL, AT(ulimits), "ulimit", "Ulimit options (default [])", parse_ulimit},
    {'u', "user", OPT_STR, AT(user), "string", "Username or UID (format: <name|uid>[:<group|gid>])"},
    {0, "userns", OPT_STR, AT(userns_mode), "string", "User namespace to use"},
    {0, "uts", OPT_STR, AT(uts_mode), "string", "UTS namespace to use"},
    {0, "vm-template", OPT_STR, AT(vm_template), "string",
     "Start the virtual machine from the template (on|off)"},
    {'v', "volume", OPT_STRV, AT(volumes), "list", "Bind mount a volume"},
    {0, "volume-driver", OPT_STR, AT(volume_driver), "string", "Optional volume driver for the container"},
    {0, "volumes-from", OPT_STRV, AT(volumes_from), "list", "Mount volumes from the specified container(s)"},
    {'w', "workdir", OPT_STR, AT(workdir), "string", "Working directory inside the container"},
#undef AT
};
_Static_assert(ARRAY_SIZE(rows) < RUN_OPTS_MAX, "room for the terminator");

static void *at(const struct run_opts *o, size_t offset)
{
	return (char *)o + offset;
}

void run_opts_table(struct run_opts *o, bool run, struct opt *table)
{
	size_t n = 0;

	*o = (struct run_opts){ .sig_proxy = true, .memory_swappiness = -1 };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];

		if (r->run_only && !run)
			continue;
		table[n++] = (struct opt){
			r->short_name, r->name, r->type, at(o, r->offset), r->arg, r->help, r->call,
			r->seen ? at(o, r->seen) : NULL,
		};
	}
	table[n] = (struct opt)OPT_END;
}

/* What an option's target is, where it is not what its type says. */
enum kind { KIND_PLAIN, KIND_NUMBER, KIND_DOCUMENT };

static enum kind kind_of(const struct row *r)
{
	static int (*const numbers[])(const struct opt *, const char *, char **) = {
		parse_cpus, parse_duration, parse_ram, parse_ram_swap,
	}, (*const documents[])(const struct opt *, const char *, char **) = {
		parse_mount, parse_ulimit, parse_rate_bytes, parse_rate_ios, parse_weight,
	};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (r->call == numbers[i])
			return KIND_NUMBER;
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++)
		if (r->call == documents[i])
			return KIND_DOCUMENT;
	return KIND_PLAIN;
}

void run_opts_done(struct run_opts *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];
		enum kind kind = kind_of(r);

		if (kind == KIND_DOCUMENT)
			json_freep(at(o, r->offset));
		else if (r->type == OPT_STR)
			freep(at(o, r->offset));
		else if (r->type == OPT_STRV || (r->type == OPT_CALL && kind == KIND_PLAIN))
			strv_freep(at(o, r->offset));
	}
}

/* Fields that go to the body as they are. */
static const struct { const char *key; size_t offset; } config_strings[] = {
	{ "Hostname", offsetof(struct run_opts, hostname) },
	{ "Domainname", offsetof(struct run_opts, domainname) },
	{ "User", offsetof(struct run_opts, user) },
	{ "WorkingDir", offsetof(struct run_opts, workdir) },
	{ "StopSignal", offsetof(struct run_opts, stop_signal) },
}, host_strings[] = {
	{ "ContainerIDFile", offsetof(struct run_opts, cidfile) },
	{ "VolumeDriver", offsetof(struct run_opts, volume_driver) },
	{ "CgroupnsMode", offsetof(struct run_opts, cgroupns_mode) },
	{ "IpcMode", offsetof(struct run_opts, ipc_mode) },
	{ "PidMode", offsetof(struct run_opts, pid_mode) },
	{ "UTSMode", offsetof(struct run_opts, uts_mode) },
	{ "UsernsMode", offsetof(struct run_opts, userns_mode) },
	{ "Isolation", offsetof(struct run_opts, isolation) },
	{ "CgroupParent", offsetof(struct run_opts, cgroup_parent) },
	{ "CpusetCpus", offsetof(struct run_opts, cpuset_cpus) },
	{ "CpusetMems", offsetof(struct run_opts, cpuset_mems) },
	{ "Runtime", offsetof(struct run_opts, runtime) },
}, host_ints[] = {
	{ "CpuShares", offsetof(struct run_opts, cpu_shares) },
	{ "CpuPeriod", offsetof(struct run_opts, cpu_period) },
	{ "CpuQuota", offsetof(struct run_opts, cpu_quota) },
	{ "CpuRealtimePeriod", offsetof(struct run_opts, cpu_rt_period) },
	{ "CpuRealtimeRuntime", offsetof(struct run_opts, cpu_rt_runtime) },
	{ "NanoCpus", offsetof(struct run_opts, nano_cpus) },
	{ "CpuCount", offsetof(struct run_opts, cpu_count) },
	{ "CpuPercent", offsetof(struct run_opts, cpu_percent) },
	{ "Memory", offsetof(struct run_opts, memory) },
	{ "MemoryReservation", offsetof(struct run_opts, memory_reservation) },
	{ "MemorySwap", offsetof(struct run_opts, memory_swap) },
	{ "KernelMemory", offsetof(struct run_opts, kernel_memory) },
	{ "ShmSize", offsetof(struct run_opts, shm_size) },
	{ "OomScoreAdj", offsetof(struct run_opts, oom_score_adj) },
	{ "BlkioWeight", offsetof(struct run_opts, blkio_weight) },
	{ "IOMaximumBandwidth", offsetof(struct run_opts, io_max_bandwidth) },
	{ "IOMaximumIOps", offsetof(struct run_opts, io_max_iops) },
}, host_lists[] = {
	{ "VolumesFrom", offsetof(struct run_opts, volumes_from) },
	{ "CapAdd", offsetof(struct run_opts, cap_add) },
	{ "CapDrop", offsetof(struct run_opts, cap_drop) },
	{ "Dns", offsetof(struct run_opts, dns) },
	{ "DnsOptions", offsetof(struct run_opts, dns_options) },
	{ "DnsSearch", offsetof(struct run_opts, dns_search) },
	{ "ExtraHosts", offsetof(struct run_opts, extra_hosts) },
	{ "GroupAdd", offsetof(struct run_opts, group_add) },
	{ "Links", offsetof(struct run_opts, links) },
	{ "DeviceCgroupRules", offsetof(struct run_opts, device_rules) },
}, host_documents[] = {
	{ "Mounts", offsetof(struct run_opts, mounts) },
	{ "Ulimits", offsetof(struct run_opts, ulimits) },
	{ "BlkioDeviceReadBps", offsetof(struct run_opts, read_bps) },
	{ "BlkioDeviceWriteBps", offsetof(struct run_opts, write_bps) },
	{ "BlkioDeviceReadIOps", offsetof(struct run_opts, read_iops) },
	{ "BlkioDeviceWriteIOps", offsetof(struct run_opts, write_iops) },
	{ "BlkioWeightDevice", offsetof(struct run_opts, weights) },
}, host_maps[] = {
	{ "Sysctls", offsetof(struct run_opts, sysctls) },
	{ "StorageOpt", offsetof(struct run_opts, storage_opts) },
	{ "Annotations", offsetof(struct run_opts, annotations) },
};

/* K=V entries as an object. */
static struct json *map_of(char *const *list)
{
	struct json *o = json_object();

	for (; list && *list; list++)
		parse_add_pair(o, *list);
	return o;
}

static void set_plain(const struct run_opts *o, struct json *body, struct json *host)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_strings); i++)
		if (*(char **)at(o, config_strings[i].offset))
			json_set_str(body, config_strings[i].key, *(char **)at(o, config_strings[i].offset));
	for (size_t i = 0; i < ARRAY_SIZE(host_strings); i++)
		if (*(char **)at(o, host_strings[i].offset))
			json_set_str(host, host_strings[i].key, *(char **)at(o, host_strings[i].offset));
	for (size_t i = 0; i < ARRAY_SIZE(host_ints); i++)
		if (*(int64_t *)at(o, host_ints[i].offset))
			json_set_int(host, host_ints[i].key, *(int64_t *)at(o, host_ints[i].offset));
	for (size_t i = 0; i < ARRAY_SIZE(host_lists); i++)
		if (*(char ***)at(o, host_lists[i].offset))
			json_set_strv(host, host_lists[i].key, *(char ***)at(o, host_lists[i].offset));
	for (size_t i = 0; i < ARRAY_SIZE(host_maps); i++)
		if (*(char ***)at(o, host_maps[i].offset))
			json_set(host, host_maps[i].key, map_of(*(char ***)at(o, host_maps[i].offset)));
	if (o->memory_swappiness != -1)
		json_set_int(host, "MemorySwappiness", o->memory_swappiness);
	if (o->pids_limit_given)
		json_set_int(host, "PidsLimit", o->pids_limit);
	if (o->stop_timeout_given)
		json_set_int(body, "StopTimeout", o->stop_timeout);
	if (o->init_given)
		json_set_bool(host, "Init", o->init);
	json_set_bool(host, "AutoRemove", o->rm);
	if (o->privileged)
		json_set_bool(host, "Privileged", true);
	if (o->publish_all)
		json_set_bool(host, "PublishAllPorts", true);
	if (o->read_only)
		json_set_bool(host, "ReadonlyRootfs", true);
	if (o->oom_kill_disable)
		json_set_bool(host, "OomKillDisable", true);
	for (size_t i = 0; i < ARRAY_SIZE(host_documents); i++)
		if (*(struct json **)at(o, host_documents[i].offset))
			json_set(host, host_documents[i].key,
				 json_ref(*(struct json **)at(o, host_documents[i].offset)));
	if (o->log_driver || o->log_opts) {
		struct json *log = json_set(host, "LogConfig", json_object());

		json_set_str(log, "Type", o->log_driver ?: "");
		json_set(log, "Config", map_of(o->log_opts));
	}
}

/* Which namespace modes docker's client lets through. */
static int check_modes(const struct run_opts *o, struct err *e)
{
	if (!str_empty(o->pid_mode) && !streq(o->pid_mode, "host") && !str_starts(o->pid_mode, "container:"))
		return err_msg(e, ERR_INVALID, 0, "--pid: invalid PID mode");
	if (!str_empty(o->uts_mode) && !streq(o->uts_mode, "host"))
		return err_msg(e, ERR_INVALID, 0, "--uts: invalid UTS mode");
	if (!str_empty(o->userns_mode) && !streq(o->userns_mode, "host"))
		return err_msg(e, ERR_INVALID, 0, "--userns: invalid USER mode");
	if (!str_empty(o->cgroupns_mode) && !streq(o->cgroupns_mode, "host") &&
	    !streq(o->cgroupns_mode, "private"))
		return err_msg(e, ERR_INVALID, 0, "--cgroupns: invalid CGROUP mode");
	return 0;
}

static int set_restart(const struct run_opts *o, struct json *host, struct err *e)
{
	const char *colon = o->restart ? strchr(o->restart, ':') : NULL;
	struct json *policy = json_object();
	int64_t max = 0;

	json_set(host, "RestartPolicy", policy);
	json_set(policy, "Name", str_empty(o->restart) ? json_new_str("no")
						       : json_new_strn(o->restart, strcspn(o->restart, ":")));
	if (colon && str_to_i64(colon + 1, &max) < 0)
		return err_msg(e, ERR_INVALID, 0,
			       "invalid restart policy format: maximum retry count must be an integer");
	json_set_int(policy, "MaximumRetryCount", max);
	if (o->rm && !str_empty(o->restart) && !streq(o->restart, "no"))
		return err_msg(e, ERR_INVALID, 0,
			       "conflicting options: cannot specify both --restart and --rm");
	return 0;
}

static int set_health(const struct run_opts *o, struct json *body, struct err *e)
{
	bool any = o->health_cmd || o->health_interval || o->health_timeout || o->health_retries ||
		   o->health_start_period || o->health_start_interval;
	struct json *h, *test;

	if (!any && !o->no_healthcheck)
		return 0;
	if (any && o->no_healthcheck)
		return err_msg(e, ERR_INVALID, 0, "--no-healthcheck conflicts with --health-* options");
	h = json_set(body, "Healthcheck", json_object());
	test = json_array();
	json_set(h, "Test", test);
	if (o->no_healthcheck) {
		json_add_str(test, "NONE");
		return 0;
	}
	if (!str_empty(o->health_cmd)) {
		json_add_str(test, "CMD-SHELL");
		json_add_str(test, o->health_cmd);
	}
	json_set_int(h, "Interval", o->health_interval);
	json_set_int(h, "Timeout", o->health_timeout);
	json_set_int(h, "StartPeriod", o->health_start_period);
	json_set_int(h, "StartInterval", o->health_start_interval);
	json_set_int(h, "Retries", o->health_retries);
	return 0;
}

/* -v: with a source a bind, without one an anonymous volume. */
static int set_volumes(const struct run_opts *o, struct json *body, struct json *host, struct err *e)
{
	struct json *volumes = json_object(), *binds = json_array();

	json_set(body, "Volumes", volumes);
	json_set(host, "Binds", binds);
	for (char **v = o->volumes; v && *v; v++) {
		if (!**v)
			return err_msg(e, ERR_INVALID, 0, "invalid empty volume spec");
		if (!strchr(*v, ':')) {
			json_set(volumes, *v, json_object());
		} else {
			_cleanup_free_ char *bind = absolute_bind(*v);

			json_add_str(binds, bind);
		}
	}
	for (char **t = o->tmpfs; t && *t; t++) {
		size_t n = strcspn(*t, ":");
		_cleanup_free_ char *path = xstrndup(*t, n);
		struct json *map = json_get(host, "Tmpfs") ?: json_set(host, "Tmpfs", json_object());

		json_set_str(map, path, (*t)[n] ? *t + n + 1 : "");
	}
	return 0;
}

static int set_ports(const struct run_opts *o, struct json *body, struct json *host, struct err *e)
{
	struct json *exposed = json_object(), *bindings = json_object();
	int r = 0;

	json_set(host, "PortBindings", bindings);
	json_set(body, "ExposedPorts", exposed);
	for (char **p = o->publish; p && *p && r >= 0; p++)
		r = parse_publish(*p, exposed, bindings, e);
	for (char **p = o->expose; p && *p && r >= 0; p++)
		r = parse_expose(*p, exposed, e);
	if (json_len(exposed) == 0)
		json_del(body, "ExposedPorts");
	return r;
}

static int set_devices(const struct run_opts *o, struct json *host, struct err *e)
{
	for (char **s = o->devices; s && *s; s++) {
		struct json *d = parse_device(*s, e);

		if (!d)
			return -EINVAL;
		json_add(json_get(host, "Devices") ?: json_set(host, "Devices", json_array()), d);
	}
	for (char **s = o->security_opts; s && *s; s++) {
		_cleanup_free_ char *opt = parse_security_opt(*s, e);

		if (!opt)
			return -EINVAL;
		json_add_str(json_get(host, "SecurityOpt") ?: json_set(host, "SecurityOpt", json_array()),
			     opt);
	}
	if (o->vm_template)
		json_set_str(parse_sub(host, "Annotations"), "insula.vm-template", o->vm_template);
	if (o->gpus) {
		struct json *r = json_add(json_set(host, "DeviceRequests", json_array()), json_object());
		int64_t n = -1;

		if (!streq(o->gpus, "all") && str_to_i64(o->gpus, &n) < 0)
			return err_msg(e, ERR_INVALID, 0, "invalid --gpus \"%s\": 'all' or a number",
				       o->gpus);
		json_set_int(r, "Count", n);
		json_add_str(json_add(json_set(r, "Capabilities", json_array()), json_array()), "gpu");
	}
	return 0;
}

static int set_config(const struct run_opts *o, char *const *args, struct json *body, struct err *e)
{
	_cleanup_strv_ char **env = NULL, **labels = NULL;
	bool in, out, err;

	if (env_collect(o->env_files, o->env, &env, e) < 0 ||
	    labels_collect(o->label_files, o->labels, &labels, e) < 0)
		return -EINVAL;
	in = o->attach ? strv_has(o->attach, "stdin") : o->interactive && !o->detach;
	out = o->attach ? strv_has(o->attach, "stdout") : !o->detach;
	err = o->attach ? strv_has(o->attach, "stderr") : !o->detach;
	json_set_bool(body, "AttachStdin", in);
	json_set_bool(body, "AttachStdout", out);
	json_set_bool(body, "AttachStderr", err);
	json_set_bool(body, "Tty", o->tty);
	json_set_bool(body, "OpenStdin", o->interactive);
	json_set_bool(body, "StdinOnce", o->interactive && in);
	if (env)
		json_set_strv(body, "Env", env);
	if (args[1])
		json_set_strv(body, "Cmd", args + 1);
	json_set_str(body, "Image", args[0]);
	if (labels)
		json_set(body, "Labels", map_of(labels));
	/* --entrypoint="" clears the image's. */
	if (o->entrypoint_given)
		json_add_str(json_set(body, "Entrypoint", json_array()), o->entrypoint);
	return 0;
}

static void set_console_size(struct json *host)
{
	struct json *size;
	unsigned n_rows, cols;

	if (tty_get_size(1, &n_rows, &cols) < 0)
		return;
	size = json_set(host, "ConsoleSize", json_array());
	json_add(size, json_new_int(n_rows));
	json_add(size, json_new_int(cols));
}

struct json *run_opts_body(const struct run_opts *o, char *const *args, struct err *e)
{
	_cleanup_json_ struct json *body = json_object();
	struct json *host = json_object();

	json_set(body, "HostConfig", host);
	if (check_modes(o, e) < 0 || set_config(o, args, body, e) < 0 || set_volumes(o, body, host, e) < 0 ||
	    set_ports(o, body, host, e) < 0 || set_restart(o, host, e) < 0 || set_health(o, body, e) < 0 ||
	    set_devices(o, host, e) < 0 || parse_networks(o, body, host, e) < 0)
		return NULL;
	set_plain(o, body, host);
	if (o->tty)
		set_console_size(host);
	return TAKE_PTR(body);
}
