#include "api/info.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container_log.h"
#include "engine/apparmor.h"
#include "engine/accel.h"
#include "engine/container.h"
#include "engine/image.h"
#include "engine/network.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

/* ---- the host ---- */

static bool file_says_1(const char *path)
{
	_cleanup_free_ char *line = NULL;

	return fs_read_line(AT_FDCWD, path, &line) >= 0 && streq(line, "1");
}

/* PRETTY_NAME of os-release(5). */
static char *os_name(void)
{
	static const char *const places[] = {"/etc/os-release", "/usr/lib/os-release"};
	_cleanup_free_ char *text = NULL;
	char *p, *end;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(places) && !text; i++)
		(void)fs_read(AT_FDCWD, places[i], 64 << 10, &text, &n);
	p = text ? strstr(text, "PRETTY_NAME=") : NULL;
	if (!p)
		return xstrdup("Linux");
	p += strlen("PRETTY_NAME=");
	p += *p == '"';
	end = p + strcspn(p, "\"\n");
	return xstrndup(p, (size_t)(end - p));
}

static int64_t fd_count(void)
{
	DIR *d = opendir("/proc/self/fd");
	int64_t n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return MAX(n - 3, (int64_t)0);	/* ".", ".." and the directory itself */
}

static void add_host(struct json *j)
{
	_cleanup_free_ char *os = os_name(), *now = time_rfc3339(now_real_ns());
	struct sysinfo si = {0};
	struct utsname u = {0};
	cpu_set_t cpus;

	uname(&u);
	sysinfo(&si);
	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof cpus, &cpus);
	json_set_str(j, "KernelVersion", u.release);
	json_set_str(j, "OperatingSystem", os);
	json_set_str(j, "OSVersion", "");
	json_set_str(j, "OSType", "linux");
	json_set_str(j, "Architecture", u.machine);
	json_set_int(j, "NCPU", CPU_COUNT(&cpus));
	json_set_int(j, "MemTotal", (int64_t)((uint64_t)si.totalram * si.mem_unit));
	json_set_str(j, "Name", u.nodename);
	json_set_str(j, "SystemTime", now);
	json_set_int(j, "NFd", fd_count());
	json_set_int(j, "NGoroutines", 1);	/* one thread, one loop */
}

/* ---- cgroups ---- */

struct cgroup_facts { bool v2, memory, swap, cpu, cpuset, pids, oom_kill_disable; };

static bool v1_has(const char *controller, const char *file)
{
	_cleanup_free_ char *path = xasprintf(CGROUP_ROOT "/%s/%s", controller, file);

	return fs_exists(path);
}

static struct cgroup_facts cgroup_facts(void)
{
	struct cgroup_facts c = {0};
	_cleanup_free_ char *line = NULL;
	struct statfs sfs;

	if (statfs(CGROUP_ROOT, &sfs) == 0 && sfs.f_type == CGROUP2_SUPER_MAGIC) {
		_cleanup_strv_ char **have = NULL;

		c.v2 = true;
		if (fs_read_line(AT_FDCWD, CGROUP_ROOT "/cgroup.controllers", &line) >= 0)
			have = strv_split(line, " ");
		c.memory = c.swap = strv_has(have, "memory");
		c.cpu = strv_has(have, "cpu");
		c.cpuset = strv_has(have, "cpuset");
		c.pids = strv_has(have, "pids");
		return c;
	}
	c.memory = v1_has("memory", "memory.limit_in_bytes");
	c.swap = v1_has("memory", "memory.memsw.limit_in_bytes");
	c.oom_kill_disable = v1_has("memory", "memory.oom_control");
	c.cpu = v1_has("cpu", "cpu.shares");
	c.cpuset = v1_has("cpuset", "cpuset.cpus");
	c.pids = v1_has("pids", "cgroup.procs");
	return c;
}

static void add_cgroups(struct json *j, const struct cgroup_facts *c)
{
	json_set_str(j, "CgroupDriver", "cgroupfs");
	json_set_str(j, "CgroupVersion", c->v2 ? "2" : "1");
	json_set_bool(j, "MemoryLimit", c->memory);
	json_set_bool(j, "SwapLimit", c->swap);
	json_set_bool(j, "CpuCfsPeriod", c->cpu);
	json_set_bool(j, "CpuCfsQuota", c->cpu);
	json_set_bool(j, "CPUShares", c->cpu);
	json_set_bool(j, "CPUSet", c->cpuset);
	json_set_bool(j, "PidsLimit", c->pids);
	json_set_bool(j, "OomKillDisable", c->oom_kill_disable);
}

/* ---- the engine ---- */

static void add_pair(struct json *list, const char *key, const char *value)
{
	struct json *pair = json_add(list, json_array());

	json_add_str(pair, key);
	json_add_str(pair, value);
}

/* Plain `docker info` prints "Default Isolation" on Windows only, so both modes stand among the driver's
 * lines. */
static void add_isolation(struct json *j, struct engine *e, const struct accel *a, const struct err *why_not)
{
	const char *def = isolation_name(e->cfg.default_isolation);
	struct json *status = json_set(j, "DriverStatus", json_array());
	_cleanup_free_ char *line = NULL;

	json_set_str(j, "Isolation", def);
	json_set_str(j, "Driver", "overlay2");
	add_pair(status, "Default Isolation", def);
	if (!a)
		line = xasprintf("not available: %s", err_text(why_not));
	else if (streq(a->name, "kvm"))
		line = xstrdup("qemu/kvm");
	else
		line = xasprintf("qemu/%s, reason: %s; software emulation, not a hardware boundary", a->name,
				 a->reason);
	add_pair(status, "hyperv", line);
}

static void add_counts(struct json *j, struct engine *e)
{
	unsigned running, paused, stopped;

	containers_count(e, &running, &paused, &stopped);
	json_set_int(j, "Containers", (int64_t)running + paused + stopped);
	json_set_int(j, "ContainersRunning", running);
	json_set_int(j, "ContainersPaused", paused);
	json_set_int(j, "ContainersStopped", stopped);
	json_set_int(j, "Images", (int64_t)images_count(e));
}

static void set_list(struct json *o, const char *key, const char *const *names)
{
	struct json *a = json_set(o, key, json_array());

	for (; *names; names++)
		json_add_str(a, *names);
}

static void add_plugins(struct json *j)
{
	struct json *p = json_set(j, "Plugins", json_object());

	set_list(p, "Volume", (const char *const[]){"local", NULL});
	set_list(p, "Network", network_drivers);
	json_set_null(p, "Authorization");
	set_list(p, "Log", log_drivers);
}

static void add_registries(struct json *j)
{
	struct json *c = json_set(j, "RegistryConfig", json_object()), *hub;

	json_set_str(j, "IndexServerAddress", "https://index.docker.io/v1/");
	set_list(c, "InsecureRegistryCIDRs", (const char *const[]){"::1/128", "127.0.0.0/8", NULL});
	hub = json_set(json_set(c, "IndexConfigs", json_object()), "docker.io", json_object());
	json_set_str(hub, "Name", "docker.io");
	json_set(hub, "Mirrors", json_array());
	json_set_bool(hub, "Secure", true);
	json_set_bool(hub, "Official", true);
	json_set(c, "Mirrors", json_array());
}

static void add_runtimes(struct json *j)
{
	static const char *const commits[][2] = {{"ContainerdCommit", "insula-shim " INSULA_VERSION},
						 {"RuncCommit", "insula-runtime " INSULA_VERSION},
						 {"InitCommit", "built in"}};
	struct json *rt = json_set(j, "Runtimes", json_object());

	json_set_str(json_set(rt, "insula-runtime", json_object()), "path", "insula-runtime");
	json_set_str(j, "DefaultRuntime", "insula-runtime");
	json_set_str(j, "InitBinary", "insula-init");
	for (size_t i = 0; i < ARRAY_SIZE(commits); i++)
		json_set_str(json_set(j, commits[i][0], json_object()), "ID", commits[i][1]);
}

static void add_swarm(struct json *j)
{
	struct json *s = json_set(j, "Swarm", json_object());

	json_set_str(s, "NodeID", "");
	json_set_str(s, "NodeAddr", "");
	json_set_str(s, "LocalNodeState", "inactive");
	json_set_bool(s, "ControlAvailable", false);
	json_set_str(s, "Error", "");
	json_set_null(s, "RemoteManagers");
}

static void add_warnings(struct json *j, struct engine *e, const struct cgroup_facts *c, bool forwarding)
{
	const struct { bool good; const char *text;
	} checks[] = {
	    {c->memory, "WARNING: No memory limit support"},
	    {c->swap, "WARNING: No swap limit support"},
	    {c->cpu, "WARNING: No cpu cfs quota support"},
	    {c->cpuset, "WARNING: No cpuset support"},
	    {c->pids, "WARNING: No pids limit support"},
	    {forwarding,
	     "WARNING: IPv4 forwarding is disabled; it is switched on with the first container on a bridge"},
	};
	struct json *w = json_set(j, "Warnings", json_array());
	_cleanup_free_ char *kernel = path_join(e->cfg.vm_dir, "vmlinuz"), *text = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		if (!checks[i].good)
			json_add_str(w, checks[i].text);
	if (!fs_exists(kernel)) {
		text =
		    xasprintf("WARNING: No guest kernel at %s: --isolation=hyperv is not available", kernel);
		json_add_str(w, text);
	}
}

static void add_settings(struct json *j, struct engine *e)
{
	json_set_str(j, "ID", e->id);
	json_set_str(j, "ServerVersion", INSULA_VERSION);
	json_set_str(j, "DockerRootDir", e->cfg.data_root);
	json_set_str(j, "LoggingDriver", e->cfg.log_driver ? e->cfg.log_driver : "json-file");
	json_set_bool(j, "Debug", log_get_level() >= LOG_LVL_DEBUG);
	json_set_bool(j, "ExperimentalBuild", false);
	json_set_bool(j, "LiveRestoreEnabled", true);	/* containers always survive the daemon */
	json_set_int(j, "NEventsListener", 0);
	json_set_str(j, "HttpProxy", "");
	json_set_str(j, "HttpsProxy", "");
	json_set_str(j, "NoProxy", "");
	json_set_str(j, "ProductLicense", "Apache-2.0");
	json_set(j, "Labels", json_array());
	json_set(j, "GenericResources", json_array());
	json_set(j, "CDISpecDirs", json_array());
	set_list(j, "SecurityOptions",
		 (const char *const[]){"name=seccomp,profile=builtin", "name=cgroupns",
				       apparmor_on() ? "name=apparmor" : NULL, NULL});
}

static void on_accel(void *userdata, int r, const struct err *err, void *result)
{
	struct request *req = userdata;
	struct engine *e = req->engine;
	struct cgroup_facts cgroups = cgroup_facts();
	bool forwarding = file_says_1("/proc/sys/net/ipv4/ip_forward");
	struct json *j = json_object();

	add_settings(j, e);
	add_counts(j, e);
	add_isolation(j, e, r < 0 ? NULL : result, err);
	add_host(j);
	add_cgroups(j, &cgroups);
	json_set_bool(j, "IPv4Forwarding", forwarding);
	add_plugins(j);
	add_registries(j);
	add_runtimes(j);
	add_swarm(j);
	add_warnings(j, e, &cgroups, forwarding);
	resp_json(req, 200, j);
}

void route_info(struct request *r, struct engine *e)
{
	accel_get(e, on_accel, r);
}
