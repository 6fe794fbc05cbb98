/* What create accepts. The rule: a field that is not at its default is either carried out or refused by name,
 * with the reason and the way out; none is ignored. */
#include "engine/apparmor.h"
#include "engine/config.h"
#include "engine/container_int.h"
#include "engine/container_log.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/health.h"
#include "engine/template.h"
#include "oci/defaults.h"
#include <sched.h>
#include <string.h>
#include <strings.h>

#define MB (1ll << 20)

/* null, false, 0, "", [], {} and objects or arrays of such. */
static bool is_default(const struct json *v)
{
	struct json_iter it = {0};

	switch (json_type(v)) {
	case JSON_NULL:		return true;
	case JSON_BOOL:		return !json_bool(v);
	case JSON_INT:		return json_int(v) == 0;
	case JSON_DOUBLE:	return json_double(v) == 0;
	case JSON_STR:		return !*json_str(v);
	case JSON_ARRAY:
		for (size_t i = 0; i < json_len(v); i++)
			if (!is_default(json_at(v, i)))
				return false;
		return true;
	case JSON_OBJECT:
		while (json_next(v, &it))
			if (!is_default(it.value))
				return false;
		return true;
	}
	return false;
}

/* Fields that are carried out, or that say nothing to the engine. */
static const char *const host_supported[] = {
    "Binds",
    "ContainerIDFile",
    "LogConfig",
    "NetworkMode",
    "PortBindings",
    "PublishAllPorts",
    "RestartPolicy",
    "AutoRemove",
    "VolumeDriver",
    "VolumesFrom",
    "ConsoleSize",
    "Annotations",
    "CapAdd",
    "CapDrop",
    "BlkioWeight",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "CgroupParent",
    "CgroupnsMode",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "IpcMode",
    "OomScoreAdj",
    "PidMode",
    "Privileged",
    "ReadonlyRootfs",
    "SecurityOpt",
    "Tmpfs",
    "UTSMode",
    "UsernsMode",
    "ShmSize",
    "Sysctls",
    "Runtime",
    "Isolation",
    "CpuShares",
    "Memory",
    "NanoCpus",
    "CpuPeriod",
    "CpuQuota",
    "CpusetCpus",
    "CpusetMems",
    "DeviceCgroupRules",
    "Devices",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "Ulimits",
    "MaskedPaths",
    "ReadonlyPaths",
    "Init",
    "Mounts",
    NULL,
};

/* Way out for fields that are not. */
static const struct { const char *field, *flag, *hint; } host_unsupported[] = {
	{"Links", "--link", "pass addresses by --add-host"},
	{"StorageOpt", "--storage-opt", "leave it out"},
	{"DeviceRequests", "--gpus", "pass the device nodes by --device under --isolation=process"},
	{"KernelMemory", "--kernel-memory", "use --memory"},
	{"CpuCount", "--cpu-count", "use --cpus: this is a Windows option"},
	{"CpuPercent", "--cpu-percent", "use --cpus: this is a Windows option"},
	{"IOMaximumIOps", "--io-maxiops", "leave it out: this is a Windows option"},
	{"IOMaximumBandwidth", "--io-maxbandwidth", "leave it out: this is a Windows option"},
};

static int refuse(const char *field, const char *what, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(host_unsupported); i++)
		if (streq(host_unsupported[i].field, field))
			return err_msg(err, ERR_INVALID, 0,
				       "%s (%s.%s) is not supported by this version of insula: %s",
				       host_unsupported[i].flag, what, field, host_unsupported[i].hint);
	return err_msg(err, ERR_INVALID, 0, "%s.%s is not supported by this version of insula: leave it out",
		       what, field);
}

static int only_known(const struct json *o, const char *const *known, const char *what, struct err *err)
{
	struct json_iter it = {0};

	while (json_next(o, &it))
		if (!is_default(it.value) && !strv_has((char *const *)known, it.key))
			return refuse(it.key, what, err);
	return 0;
}

int isolation_parse(struct engine *e, const char *s, enum isolation *ret, struct err *err)
{
	if (str_empty(s) || !strcasecmp(s, "default"))
		*ret = e->cfg.default_isolation;
	else if (!strcasecmp(s, "process"))
		*ret = ISOLATION_PROCESS;
	else if (!strcasecmp(s, "hyperv"))
		*ret = ISOLATION_HYPERV;
	else
		return err_msg(err, ERR_INVALID, 0,
			       "invalid isolation (%s): insula supports 'default', 'process', or 'hyperv'",
			       s);
	return 0;
}

/* ---- network ---- */

static int check_network(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	const char *mode = json_get_str(hc, "NetworkMode");

	if (streq(mode, "host") && x->isolation == ISOLATION_HYPERV)
		return err_msg(err, ERR_INVALID, 0,
			       "--network=host: a virtual machine has a network stack of its own and cannot "
			       "share that of the host; use --network=bridge, or --isolation=process");
	return str_starts(mode ?: "", "container:") ? join_check(x, hc, err) : 0;
}

/* Of annotations those that begin with "insula." are ours. */
static int check_annotations(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	const struct json *all = json_get(hc, "Annotations");
	struct json_iter it = {0};

	if (all && json_type(all) != JSON_OBJECT && json_type(all) != JSON_NULL)
		return err_msg(err, ERR_INVALID, 0, "Annotations must be an object of strings");
	while (all && json_next(all, &it)) {
		const char *value = json_str(it.value);

		if (!value)
			return err_msg(err, ERR_INVALID, 0, "annotation %s is not a string", it.key);
		if (!str_starts(it.key, "insula."))
			continue;
		if (!streq(it.key, TEMPLATE_ANNOTATION))
			return err_msg(err, ERR_INVALID, 0, "annotation %s is unknown: there is "
				       TEMPLATE_ANNOTATION, it.key);
		if (!streq(value, "on") && !streq(value, "off"))
			return err_msg(err, ERR_INVALID, 0, "invalid value \"%s\" of %s: use on or off",
				       value, it.key);
		if (x->isolation != ISOLATION_HYPERV)
			return err_msg(err, ERR_INVALID, 0,
				       "%s: there is no virtual machine under process isolation: use "
				       "--isolation=hyperv, or leave it out", it.key);
		if (str_starts(json_get_str(hc, "NetworkMode") ?: "", "container:"))
			return err_msg(err, ERR_INVALID, 0,
				       "%s: a container that joins a virtual machine is not what that is "
				       "started for: leave it out", it.key);
	}
	return 0;
}

/* ---- resources ---- */

static unsigned cpus_online(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static int check_cpu(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	int64_t nano = json_get_int(hc, "NanoCpus", 0), quota = json_get_int(hc, "CpuQuota", 0);
	int64_t period = json_get_int(hc, "CpuPeriod", 0), shares = json_get_int(hc, "CpuShares", 0);
	unsigned n = cpus_online();

	if (nano < 0 || nano > (int64_t)n * 1000000000)
		return err_msg(err, ERR_INVALID, 0,
			       "range of CPUs is from 0.01 to %u.00, as there are only %u CPUs available", n,
			       n);
	if (nano > 0 && nano < 10000000)
		return err_msg(err, ERR_INVALID, 0,
			       "range of CPUs is from 0.01 to %u.00, as there are only %u CPUs available", n,
			       n);
	if (nano > 0 && (period > 0 || quota > 0))
		return err_msg(err, ERR_INVALID, 0,
			       "Conflicting options: Nano CPUs and CPU %s cannot both be set",
			       period > 0 ? "Period" : "Quota");
	if (shares < 0)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid CPU shares (%lld): value must be a positive integer",
			       (long long)shares);
	if (period != 0 && (period < 1000 || period > 1000000))
		return err_msg(err, ERR_INVALID, 0,
			       "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s "
			       "(i.e. 1000000)");
	if (quota > 0 && quota < 1000)
		return err_msg(err, ERR_INVALID, 0, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
	return cpuset_check(hc, err);
}

static int check_memory(const struct json *hc, struct err *err)
{
	int64_t memory = json_get_int(hc, "Memory", 0), swap = json_get_int(hc, "MemorySwap", 0);
	int64_t reservation = json_get_int(hc, "MemoryReservation", 0),
		swappiness = json_get_int(hc, "MemorySwappiness", -1);

	if (memory < 0 || (memory > 0 && memory < 6 * MB))
		return err_msg(err, ERR_INVALID, 0, "Minimum memory limit allowed is 6MB");
	if (memory == 0 && swap > 0)
		return err_msg(
		    err, ERR_INVALID, 0,
		    "You should always set the Memory limit when using Memoryswap limit, see usage");
	if (memory > 0 && swap > 0 && swap < memory)
		return err_msg(err, ERR_INVALID, 0,
			       "Minimum memoryswap limit should be larger than memory limit, see usage");
	if (reservation < 0 || (reservation > 0 && reservation < 6 * MB))
		return err_msg(err, ERR_INVALID, 0, "Minimum memory reservation allowed is 6MB");
	if (memory > 0 && reservation > memory)
		return err_msg(
		    err, ERR_INVALID, 0,
		    "Minimum memory limit can not be less than memory reservation limit, see usage");
	if (swappiness < -1 || swappiness > 100)
		return err_msg(err, ERR_INVALID, 0,
			       "Invalid value: %lld, valid memory swappiness range is 0-100",
			       (long long)swappiness);
	return 0;
}

static int check_blkio(const struct json *hc, struct err *err)
{
	_cleanup_json_ struct json *unused = json_object();

	return blkio_limits(hc, unused, err);
}

static int check_cgroup_parent(const struct json *hc, struct err *err)
{
	const char *parent = json_get_str(hc, "CgroupParent");

	return !parent || cgroup_parent_valid(parent)
		       ? 0
		       : err_msg(err, ERR_INVALID, 0, "invalid cgroup-parent: '%s'", parent);
}

static int check_ulimits(const struct json *hc, struct err *err)
{
	static const char *const names[] = {
	    "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue", "nice",
	    "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack",    NULL,
	};
	const struct json *v = json_get(hc, "Ulimits");

	for (size_t i = 0; i < json_len(v); i++) {
		const struct json *u = json_at(v, i);
		const char *name = json_get_str(u, "Name");
		int64_t hard = json_get_int(u, "Hard", 0), soft = json_get_int(u, "Soft", 0);

		if (!name || !strv_has((char *const *)names, name))
			return err_msg(err, ERR_INVALID, 0, "invalid ulimit type: %s", name ? name : "");
		if (hard != -1 && (soft == -1 || soft > hard))
			return err_msg(
			    err, ERR_INVALID, 0,
			    "ulimit soft limit must be less than or equal to hard limit: %lld > %lld",
			    (long long)soft, (long long)hard);
	}
	return 0;
}

/* ---- the rest ---- */

static int check_restart(const struct json *hc, struct err *err)
{
	const struct json *p = json_get(hc, "RestartPolicy");
	const char *name = json_get_str(p, "Name");
	int64_t max = json_get_int(p, "MaximumRetryCount", 0);
	static const char *const fine[] = {"", "no", "always", "unless-stopped", "on-failure", NULL};

	if (name && !strv_has((char *const *)fine, name))
		return err_msg(err, ERR_INVALID, 0,
			       "invalid restart policy: unknown policy '%s'; use one of 'no', 'always', "
			       "'on-failure', or 'unless-stopped'",
			       name);
	if (max < 0)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid restart policy: maximum retry count cannot be negative");
	if (max > 0 && !streq(name, "on-failure"))
		return err_msg(
		    err, ERR_INVALID, 0,
		    "invalid restart policy: maximum retry count can only be used with 'on-failure'");
	if (json_get_bool(hc, "AutoRemove", false) && !str_empty(name) && !streq(name, "no"))
		return err_msg(err, ERR_INVALID, 0,
			       "can't create 'AutoRemove' container with restart policy");
	return 0;
}

static int check_log(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	const struct json *log = json_get(hc, "LogConfig");

	return log_config_check(&x->engine->cfg, json_get_str(log, "Type"), json_get(log, "Config"), err);
}

static int check_apparmor(const struct create_ctx *x, const char *profile, struct err *err)
{
	if (!*profile)
		return err_msg(err, ERR_INVALID, 0, "invalid --security-opt 2: \"apparmor=\"");
	if (streq(profile, "unconfined"))
		return 0;
	if (x->isolation == ISOLATION_HYPERV)
		return err_msg(err, ERR_INVALID, 0,
			       "--security-opt apparmor: a virtual machine has a kernel of its own, without "
			       "the host's profiles; use --isolation=process");
	if (!apparmor_on())
		return err_msg(err, ERR_INVALID, 0,
			       "--security-opt apparmor=%s: AppArmor is not enabled on this host", profile);
	return 0;
}

static int check_security(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	const struct json *v = json_get(hc, "SecurityOpt");
	int r;

	for (size_t i = 0; i < json_len(v); i++) {
		const char *s = json_str(json_at(v, i));
		static const char *const fine[] = {
		    "no-new-privileges",       "no-new-privileges=true",
		    "no-new-privileges:true",  "no-new-privileges=false",
		    "no-new-privileges:false", "seccomp=unconfined",
		    "seccomp:unconfined",      "seccomp=builtin",
		    "label=disable",           "label:disable",
		    "systempaths=unconfined",  NULL,
		};
		_cleanup_json_ struct json *profile = NULL;

		if (!s)
			return err_msg(err, ERR_INVALID, 0, "invalid --security-opt");
		if (strv_has((char *const *)fine, s))
			continue;
		if (apparmor_option(s)) {
			r = check_apparmor(x, apparmor_option(s), err);
			if (r < 0)
				return r;
			continue;
		}
		if (str_starts(s, "seccomp=")) {
			if (json_parse(s + 8, strlen(s + 8), &profile, NULL) >= 0 &&
			    json_type(profile) == JSON_OBJECT)
				continue;
			return err_msg(err, ERR_INVALID, 0,
				       "decoding seccomp profile failed: not a JSON object");
		}
		if (str_starts(s, "label=") || str_starts(s, "label:"))
			return err_msg(err, ERR_INVALID, 0,
				       "--security-opt %s: insula gives no SELinux labels to containers", s);
		return err_msg(err, ERR_INVALID, 0, "invalid --security-opt 2: \"%s\"", s);
	}
	return 0;
}

/* Only those of a namespace that the container owns. */
static int check_sysctls(const struct json *hc, struct err *err)
{
	static const char *const ipc[] = {
	    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni",          "kernel.sem", "kernel.shmall",
	    "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", NULL,
	};
	const struct json *v = json_get(hc, "Sysctls");
	struct json_iter it = {0};

	while (json_next(v, &it)) {
		bool net = str_starts(it.key, "net."), host = streq(json_get_str(hc, "NetworkMode"), "host");

		if (!net && !str_starts(it.key, "fs.mqueue.") && !strv_has((char *const *)ipc, it.key))
			return err_msg(err, ERR_INVALID, 0, "sysctl '%s' is not allowed", it.key);
		if (net && host)
			return err_msg(err, ERR_INVALID, 0,
				       "sysctl '%s' not allowed in host network namespace", it.key);
	}
	return 0;
}

static int check_caps(const struct json *hc, struct err *err)
{
	_cleanup_strv_ char **add = json_get_strv(hc, "CapAdd"), **drop = json_get_strv(hc, "CapDrop"),
			    **caps = NULL;

	return oci_caps_resolve(add, drop, json_get_bool(hc, "Privileged", false), &caps, err);
}

static int check_misc(const struct json *hc, struct err *err)
{
	const char *driver = json_get_str(hc, "VolumeDriver"), *runtime = json_get_str(hc, "Runtime");
	const struct json *hosts = json_get(hc, "ExtraHosts");
	int64_t shm = json_get_int(hc, "ShmSize", 0), oom = json_get_int(hc, "OomScoreAdj", 0);

	if (!str_empty(driver) && !streq(driver, "local"))
		return err_msg(err, ERR_INVALID, 0,
			       "error looking up volume plugin %s: plugin \"%s\" not found", driver, driver);
	if (!str_empty(runtime) && !streq(runtime, "insula") && !streq(runtime, "insula-runtime"))
		return err_msg(err, ERR_INVALID, 0, "unknown or invalid runtime name: %s", runtime);
	if (shm < 0)
		return err_msg(err, ERR_INVALID, 0, "SHM size can not be less than 0");
	if (oom < -1000 || oom > 1000)
		return err_msg(err, ERR_INVALID, 0,
			       "Invalid value %lld, range for oom score adj is [-1000, 1000]",
			       (long long)oom);
	for (size_t i = 0; i < json_len(hosts); i++)
		if (!json_str(json_at(hosts, i)) || !strchr(json_str(json_at(hosts, i)), ':'))
			return err_msg(err, ERR_INVALID, 0, "bad format for add-host: \"%s\"",
				       json_str(json_at(hosts, i)) ?: "");
	return 0;
}

int host_config_check(const struct create_ctx *x, const struct json *hc, struct err *err)
{
	int r = check_network(x, hc, err);

	if (r == 0) r = only_known(hc, host_supported, "HostConfig", err);
	if (r == 0) r = ns_modes_check(x, hc, err);
	if (r == 0) r = check_annotations(x, hc, err);
	if (r == 0) r = check_cpu(x, hc, err);
	if (r == 0) r = check_memory(hc, err);
	if (r == 0) r = check_blkio(hc, err);
	if (r == 0) r = check_cgroup_parent(hc, err);
	if (r == 0) r = check_ulimits(hc, err);
	if (r == 0) r = check_restart(hc, err);
	if (r == 0) r = check_log(x, hc, err);
	if (r == 0) r = check_security(x, hc, err);
	if (r == 0) r = devices_check(x, hc, err);
	if (r == 0) r = check_sysctls(hc, err);
	if (r == 0) r = check_caps(hc, err);
	if (r == 0) r = check_misc(hc, err);
	return r;
}

/* ---- Config ---- */

static const char *const config_supported[] = {
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "ExposedPorts",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Image",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "NetworkDisabled",
    "OnBuild",
    "Labels",
    "MacAddress",
    "StopSignal",
    "StopTimeout",
    "Shell",
    "HostConfig",
    "NetworkingConfig",
    /* dockerode repeats the parameters of the query */
    "name",
    "platform",
    NULL,
};

int config_check(const struct create_ctx *x, const struct json *config, struct err *err)
{
	const char *dir = json_get_str(config, "WorkingDir"), *sig = json_get_str(config, "StopSignal");
	const char *host = json_get_str(config, "Hostname");
	_cleanup_strv_ char **test = json_get_strv(json_get(config, "Healthcheck"), "Test"),
			    **env = json_get_strv(config, "Env");
	int signo, r = only_known(config, config_supported, "Config", err);

	if (r < 0)
		return r;
	if (test && !streq(test[0], "NONE") && !streq(test[0], "CMD") && !streq(test[0], "CMD-SHELL"))
		return err_msg(err, ERR_INVALID, 0, "Unknown type \"%s\" in Healthcheck (try 'CMD')",
			       test[0]);
	r = health_config_check(config, err);
	if (r < 0)
		return r;
	if (!str_empty(dir) && *dir != '/')
		return err_msg(err, ERR_INVALID, 0,
			       "the working directory '%s' is invalid, it needs to be an absolute path", dir);
	if (host && (strlen(host) > 63 || strchr(host, '/') || strchr(host, '\n')))
		return err_msg(err, ERR_INVALID, 0, "invalid hostname format: %s", host);
	for (char **v = env; v && *v; v++)
		if (!**v || **v == '=')
			return err_msg(err, ERR_INVALID, 0, "invalid environment variable: %s", *v);
	return str_empty(sig) ? 0 : signal_parse(sig, &signo, err);
}

int networking_check(const struct create_ctx *x, const struct json *nc, struct err *err)
{
	/* what is carried out or checked with its network, and what an inspected endpoint carries */
	static const char *const known[] = {
	    "IPAMConfig", "Aliases",   "MacAddress",  "GwPriority",  "Links",
	    "DriverOpts", "NetworkID", "EndpointID",  "Gateway",     "IPAddress",
	    "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames", NULL,
	};
	const struct json *eps = json_get(nc, "EndpointsConfig");
	struct json_iter it = {0};

	while (json_next(eps, &it)) {
		struct json_iter f = {0};

		while (json_next(it.value, &f)) {
			if (strv_has((char *const *)known, f.key) || is_default(f.value))
				continue;
			return err_msg(
			    err, ERR_INVALID, 0,
			    "%s of network %s is not supported by this version of insula: leave it out",
			    f.key, it.key);
		}
	}
	return 0;
}
