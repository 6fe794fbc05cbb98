/* From the kernel's first process to a machine that can run containers. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "lib/json.h"
#include "lib/netlink.h"
#include "oci/defaults.h"
#include "runtime/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULES "/lib/modules"
#define MODULES_LATER MODULES "/later"

static const struct mnt {
	const char *source, *target, *type, *data;
	unsigned long flags;
} mounts[] = {
	{"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	{"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	{"devtmpfs", "/dev", "devtmpfs", "mode=0755", MS_NOSUID | MS_NOEXEC},
	{"devpts", "/dev/pts", "devpts", "mode=0620,ptmxmode=0666,gid=5", MS_NOSUID | MS_NOEXEC},
	{"tmpfs", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
	{"mqueue", "/dev/mqueue", "mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	{"tmpfs", "/run", "tmpfs", "mode=0755,size=16m", MS_NOSUID | MS_NODEV},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", "nsdelegate", MS_NOSUID | MS_NODEV | MS_NOEXEC},
};

/* The kernel unpacks an initramfs into its rootfs, which has no parent mount, and pivot_root(2), with
 * which containers get their root, refuses that. A bind mount of the same files, moved over it, is an
 * ordinary mount: nothing has to be copied. */
static int leave_rootfs(void)
{
	if (mkdir("/newroot", 0755) < 0 && errno != EEXIST)
		return -errno;
	if (mount("/", "/newroot", NULL, MS_BIND, NULL) < 0 || chdir("/newroot") < 0 ||
	    mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return -errno;
	(void)rmdir("/newroot");
	return 0;
}

static int mount_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		const struct mnt *m = &mounts[i];

		(void)mkdir(m->target, 0755);
		if (mount(m->source, m->target, m->type, m->flags, m->data) < 0 &&
		    (errno != ENODEV || i < ARRAY_SIZE(mounts) - 3))
			return -errno;
	}
	return 0;
}

/* The console is the serial line, if there is one: its reader is the host's log. Without one the kernel
 * has left 0, 1 and 2 closed, so this comes before anything else is opened. */
static void init_stdio(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		if (fd != i)
			(void)dup2(fd, i);
	if (fd > 2)
		(void)close(fd);
}

/* All controllers for the groups of containers. */
static void enable_controllers(const char *dir)
{
	_cleanup_free_ char *line = NULL, *path = path_join(dir, "cgroup.subtree_control");
	_cleanup_free_ char *list = path_join(dir, "cgroup.controllers");
	_cleanup_strv_ char **names = NULL;

	if (fs_read_line(AT_FDCWD, list, &line) < 0)
		return;
	names = strv_split(line, " ");
	for (size_t i = 0; i < strv_len(names); i++) {
		_cleanup_free_ char *word = xasprintf("+%s", names[i]);

		(void)fs_write(AT_FDCWD, path, word);
	}
}

/* Most devices are bound to their drivers on the request GUEST only, since what stands behind them in a
 * template is not what the container will find there. The link itself is an exception. */
static void module_loaded(const char *name)
{
	if (streq(name, "virtio_console.ko"))
		(void)fs_write(AT_FDCWD, "/sys/bus/virtio/drivers_autoprobe", "0");
}

/* What Docker sets in every network namespace that it makes; here the container's is the machine's. */
static void set_net_defaults(void)
{
	(void)fs_write(AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	(void)fs_write(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
}

static int load_module(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		return -errno;
	(void)unlink(path);	/* its memory is the guest's */
	return 0;
}

int module_load(const char *name)
{
	_cleanup_free_ char *path = xasprintf(MODULES_LATER "/%s.ko", name);

	/* Loaded before, or built in. */
	return fs_exists(path) ? load_module(path) : 0;
}

static int load_modules(void)
{
	_cleanup_free_ char *list = NULL;
	_cleanup_strv_ char **names = NULL;
	size_t n;
	int r;

	r = fs_read(AT_FDCWD, MODULES "/order", 1 << 16, &list, &n);
	if (r == -ENOENT)
		return 0;		/* a kernel that has everything built in */
	if (r < 0)
		return r;
	names = strv_split(list, "\n");
	for (size_t i = 0; i < strv_len(names); i++) {
		_cleanup_free_ char *path = path_join(MODULES, names[i]);

		r = load_module(path);
		if (r < 0) {
			log_error("kernel module %s: %s", names[i], strerror(-r));
			return r;
		}
		module_loaded(names[i]);
	}
	return 0;
}

static int loopback_up(void)
{
	_cleanup_nl_ struct nl *n = NULL;
	int index, r;

	r = nl_open(&n);
	if (r < 0)
		return r;
	r = nl_link_index(n, "lo", &index);
	return r < 0 ? r : nl_link_set_up(n, index, true);
}

int uevent_open(void)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = 1};
	_cleanup_close_ int fd =
	    socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* Processors that the host adds stay off until somebody turns them on. */
static void cpu_online(const char *event)
{
	static const char prefix[] = "add@/devices/system/cpu/cpu";
	_cleanup_free_ char *path = NULL;

	if (!str_starts(event, prefix))
		return;
	path = xasprintf("/sys/devices/system/cpu/cpu%s/online", event + strlen(prefix));
	if (fs_write(AT_FDCWD, path, "1") < 0)
		log_warn("processor %s does not come online", event + strlen(prefix));
}

bool uevent_drain(int fd)
{
	bool devices = false;

	for (;;) {
		char buf[1024];
		ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

		if (n > 0) {
			buf[n] = 0;
			cpu_online(buf);
			devices |= strstr(buf, "/virtio") != NULL;
		} else if (n < 0 && errno == ENOBUFS) {
			devices = true;		/* some were lost */
		} else if (n == 0 || errno != EINTR) {
			return devices;
		}
	}
}

int uevent_wait(int fd, uint64_t deadline_us)
{
	for (;;) {
		uint64_t now = now_mono_us();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int r;

		if (now >= deadline_us)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)((deadline_us - now + 999) / 1000));
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0) {
			(void)uevent_drain(fd);
			return 0;
		}
	}
}

/* The host orders requests: doing it twice costs time and helps nobody. */
static void plain_queues(void)
{
	DIR *d = opendir("/sys/block");
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *path = xasprintf("/sys/block/%s/queue/scheduler", de->d_name);

		if (de->d_name[0] != '.')
			(void)fs_write(AT_FDCWD, path, "none");
	}
	if (d)
		closedir(d);
}

/* Nobody reads the statistics of an idle machine, and each round of them wakes it; nor is memory put in order
 * ahead of need. Said early: what sleeps until its next round is not in the template any more. */
static void be_quiet(void)
{
	static const struct { const char *path, *value; } settings[] = {
		{ "/proc/sys/vm/stat_interval", "60" },
		{ "/proc/sys/vm/compaction_proactiveness", "0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		(void)fs_write(AT_FDCWD, settings[i].path, settings[i].value);
}

/* Most containers have the same rules for devices: the filter that they make, and what the kernel must patch
 * in itself for the first one, are there in a template. */
static int make_filter(struct err *e)
{
	_cleanup_json_ struct json *resources = json_object();
	_cleanup_oci_resources_ struct oci_resources res = { 0 };
	const struct oci_resources none = { 0 };
	_cleanup_(cgroup_freep) struct cgroup *cg = NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	json_set(resources, "devices", oci_default_device_rules(false));
	text = json_dump(resources);
	r = oci_resources_parse(text, strlen(text), &res, e);
	if (r == 0)
		r = cgroup_new("/agent", "", &cg, e);
	if (r == 0)
		r = cgroup_create(cg, &none, true, e);
	return r == 0 ? cgroup_keep_filter(cg, &res.devices, e) : r;
}

int boot(struct agent *a)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	umask(022);
	r = leave_rootfs();
	if (r < 0)
		return r;
	r = mount_all();
	if (r < 0)
		return r;
	be_quiet();
	init_stdio();
	(void)!symlink("/proc/self/fd", "/dev/fd");
	r = fs_mkdir_p(AGENT_RUN, 0700);
	if (r < 0)
		return r;
	r = a->uevent_fd = uevent_open();
	if (r < 0)
		return r;
	r = load_modules();
	if (r < 0)
		return r;
	enable_controllers("/sys/fs/cgroup");
	r = fs_mkdir_p("/sys/fs/cgroup/insula", 0755);
	if (r < 0)
		return r;
	enable_controllers("/sys/fs/cgroup/insula");
	r = net_prepare(a);
	if (r < 0)
		return r;
	set_net_defaults();
	/* Place holders too: once they are other devices, nothing is left to do. */
	guest_bind(VIRTIO_ID_BLOCK);
	guest_bind(VIRTIO_ID_NET);
	plain_queues();
	if (make_filter(&e) < 0)
		log_warn("prepare the device filter: %s", err_text(&e));
	return loopback_up();
}
