/* Kernel parameters of the container's own namespaces. They are written through a private procfs, not through
 * any /proc that the image or another container can shape (CVE-2025-52881). */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

static const struct { const char *name; bool prefix; enum oci_ns ns; } namespaced[] = {
	{ "net.", true, OCI_NS_NET },
	{ "fs.mqueue.", true, OCI_NS_IPC },
	{ "kernel.msgmax", false, OCI_NS_IPC }, { "kernel.msgmnb", false, OCI_NS_IPC },
	{ "kernel.msgmni", false, OCI_NS_IPC }, { "kernel.sem", false, OCI_NS_IPC },
	{ "kernel.shmall", false, OCI_NS_IPC }, { "kernel.shmmax", false, OCI_NS_IPC },
	{ "kernel.shmmni", false, OCI_NS_IPC }, { "kernel.shm_rmid_forced", false, OCI_NS_IPC },
	{ "kernel.domainname", false, OCI_NS_UTS }, { "user.", true, OCI_NS_USER },
};

int sysctl_check(const struct oci_spec *s, const char *key, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(namespaced); i++) {
		if (!(namespaced[i].prefix ? str_starts(key, namespaced[i].name)
					   : streq(key, namespaced[i].name)))
			continue;
		if (s->ns[namespaced[i].ns].given)
			return 0;
		return err_msg(e, ERR_INVALID, -EPERM,
			       "sysctl \"%s\" not allowed: the container has no %s namespace of its own", key,
			       oci_ns_name(namespaced[i].ns));
	}
	return err_msg(e, ERR_INVALID, -EPERM, "sysctl \"%s\" is not in a separate kernel namespace", key);
}

/* Dots separate; where a name itself holds a dot (an interface), the key is written with slashes. */
static char *sysctl_path(const char *key)
{
	char *path = xasprintf("sys/%s", key);

	if (!strchr(key, '/'))
		for (char *p = path + 4; *p; p++)
			if (*p == '.')
				*p = '/';
	return path;
}

static int write_one(int proc, const struct oci_kv *kv)
{
	_cleanup_free_ char *path = sysctl_path(kv->key);
	struct open_how how = {
		.flags = O_WRONLY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int fd = (int)syscall(SYS_openat2, proc, path, &how, sizeof how);

	if (fd < 0)
		return -errno;
	return fd_write_full(fd, kv->value, strlen(kv->value));
}

int sysctl_apply(const struct oci_spec *s, struct err *e)
{
	_cleanup_close_ int proc = -EBADF;

	if (!s->sysctl.n)
		return 0;
	proc = mount_new_fs("proc", "proc", NULL, 0, e);
	if (proc < 0)
		return proc;
	for (size_t i = 0; i < s->sysctl.n; i++) {
		int r = write_one(proc, &s->sysctl.v[i]);

		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "cannot set sysctl \"%s\"", s->sysctl.v[i].key);
	}
	return 0;
}
