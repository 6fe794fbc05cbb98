#include "vm/accel.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

static bool cpu_has_virtualization(void)
{
	_cleanup_free_ char *text = NULL;
	char *flags;

	if (fs_read(AT_FDCWD, "/proc/cpuinfo", 16 << 20, &text, NULL) < 0 ||
	    !(flags = strstr(text, "\nflags")))
		return false;
	flags[1 + strcspn(flags + 1, "\n")] = 0;
	for (char *save = NULL, *f = strtok_r(flags, " \t\n:", &save); f; f = strtok_r(NULL, " \t\n:", &save))
		if (!strcmp(f, "vmx") || !strcmp(f, "svm"))
			return true;
	return false;
}

bool accel_kvm_works(char **ret_reason)
{
	_cleanup_close_ int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = -EBADF;

	if (kvm < 0) {
		*ret_reason = errno == ENOENT ? xstrdup("there is no /dev/kvm")
					      : xasprintf("cannot open /dev/kvm: %s", strerror(errno));
		return false;
	}
	if (!cpu_has_virtualization()) {
		*ret_reason = xstrdup("the processor shows neither vmx nor svm");
		return false;
	}
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		*ret_reason = xstrdup("/dev/kvm speaks another version");
		return false;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		*ret_reason = xasprintf("KVM cannot make a virtual machine: %s", strerror(errno));
		return false;
	}
	return true;
}
