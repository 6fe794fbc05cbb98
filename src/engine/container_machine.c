/* What `inspect` tells of the virtual machine of a running hyperv container. It is written beside the
 * supervisor's socket when the machine is asked for, so the next daemon knows it too, and goes with it. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/paths.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX 4096

static char *file_of(const struct container *c)
{
	_cleanup_free_ char *dir = sandbox_dir(c->engine, c->sandbox);

	return path_join(dir, "machine");
}

void machine_remember(struct container *c, const struct msg_sandbox *m, bool cloned)
{
	_cleanup_free_ char *path = file_of(c), *text = NULL, *release = NULL;
	_cleanup_free_ char *release_path = path_join(c->engine->cfg.vm_dir, "kernel-release");
	_cleanup_json_ struct json *j = json_object();
	int r;

	(void)fs_read_line(AT_FDCWD, release_path, &release);
	json_set_str(j, "Monitor", "qemu");
	json_set_str(j, "Accelerator", m->accel);
	json_set_bool(j, "HardwareIsolation", streq(m->accel, "kvm"));
	json_set_str(j, "Kernel", release ? release : m->kernel);
	json_set_str(j, "Start", cloned ? "template" : "boot");
	json_set_int(j, "Cpus", m->vcpus);
	json_set_int(j, "Memory", (int64_t)(m->memory + m->memory_extra));
	text = json_dump(j);
	r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false);
	if (r < 0)
		log_warn("write '%s': %s", path, strerror(-r));
}

/* Among the worker's children, beside the file servers of shares. 0 = not found. */
static int64_t monitor_of(pid_t worker)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/task/%d/children", worker, worker), *line = NULL;
	_cleanup_strv_ char **pids = NULL;

	if (worker <= 0 || fs_read_line(AT_FDCWD, path, &line) < 0)
		return 0;
	pids = strv_split(line, " ");
	for (size_t i = 0; i < strv_len(pids); i++) {
		_cleanup_free_ char *comm_path = xasprintf("/proc/%s/comm", pids[i]), *comm = NULL;

		if (fs_read_line(AT_FDCWD, comm_path, &comm) >= 0 && str_starts(comm, "qemu-"))
			return strtol(pids[i], NULL, 10);
	}
	return 0;
}

struct json *machine_json(const struct container *c)
{
	_cleanup_free_ char *path = file_of(c), *text = NULL;
	struct json *j = NULL;
	size_t n;
	pid_t pid;

	if (c->isolation != ISOLATION_HYPERV || c->status != CTR_RUNNING ||
	    fs_read(AT_FDCWD, path, FILE_MAX, &text, &n) < 0 || json_parse(text, n, &j, NULL) < 0)
		return NULL;
	pid = sup_pid(c);
	json_set_int(j, "WorkerPid", pid);
	json_set_int(j, "MonitorPid", monitor_of(pid));
	return j;
}
