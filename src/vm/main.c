/* vmwp: the supervisor of one hyperv sandbox, the worker process of its virtual machine. */
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/strv.h"
#include "super/super.h"
#include "vm/accel.h"
#include "vm/guest.h"
#include "vm/template.h"
#include "vm/vmm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEMPLATE_FD 3

/* For insulad: "kvm", or "tcg" and the reason. */
static int probe_accel(int argc, char **argv)
{
	_cleanup_free_ char *reason = NULL;

	if (accel_kvm_works(&reason))
		puts("kvm");
	else
		printf("tcg %s\n", reason);
	return 0;
}

/* Says, a line each, what is missing for hyperv isolation: exit code 1 if anything is. */
static int check(int argc, char **argv)
{
	_cleanup_free_ char *kernel = NULL, *initrd = NULL, *error = NULL;
	_cleanup_free_ char **rest = NULL;
	const struct opt opts[] = {
		{ 0, "kernel", OPT_STR, &kernel, "file", "The guest's kernel" },
		{ 0, "initrd", OPT_STR, &initrd, "file", "Its initramfs" },
		OPT_END
	};
	int missing = 0;

	if (opt_parse(opts, argc, argv, false, &rest, &error) < 0 || rest[0]) {
		fprintf(stderr, "vmwp --check: %s\n", error ? error : "unexpected argument");
		return 2;
	}
	if (!qemu_program() && ++missing)
		puts(NEEDS_QEMU);
	if (kernel && !fs_exists(kernel) && ++missing)
		printf(NEEDS_KERNEL "\n", kernel);
	else if (initrd && !fs_exists(initrd) && ++missing)
		printf(NEEDS_KERNEL "\n", initrd);
	return missing > 0;
}

static bool size_of(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = text ? strtoull(text, &end, 10) : 0;
	return text && *text && !*end && errno == 0;
}

/* For insulad: fills the memfd it was given as descriptor 3, and says its name. A failure is one line. */
static int make_template(int argc, char **argv)
{
	_cleanup_free_ char *dir = NULL, *kernel = NULL, *initrd = NULL, *accel = NULL, *memory = NULL;
	_cleanup_free_ char *region = NULL, *vcpus = NULL, *patience = NULL, *proof = NULL,
			    *name = NULL, *error = NULL;
	_cleanup_free_ char **rest = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {
		{ 0, "dir", OPT_STR, &dir, "path", "Where templates are kept" },
		{ 0, "kernel", OPT_STR, &kernel, "file", "The guest's kernel" },
		{ 0, "initrd", OPT_STR, &initrd, "file", "Its initramfs" },
		{ 0, "accel", OPT_STR, &accel, "name", "kvm or tcg" },
		{ 0, "memory", OPT_STR, &memory, "bytes", "Memory from the first moment on" },
		{ 0, "region", OPT_STR, &region, "bytes", "Memory that may be added" },
		{ 0, "cpus", OPT_STR, &vcpus, "number", "Processors at most" },
		{ 0, "patience", OPT_STR, &patience, "seconds", "Until its agent must have come up" },
		{ 0, "proof", OPT_STR, &proof, "seconds", "Until its kernel must be seen to run" },
		OPT_END
	};
	struct template_config c = {0};

	if (opt_parse(opts, argc, argv, false, &rest, &error) < 0 || rest[0] || !dir || !kernel || !initrd ||
	    !accel || !size_of(memory, &c.memory) || !size_of(region, &c.region) ||
	    !size_of(vcpus, &c.vcpus_max) || !size_of(patience, &c.patience_s) ||
	    (proof && !size_of(proof, &c.proof_s))) {
		fprintf(stderr, "vmwp --template: %s\n", error ? error : "missing or unexpected argument");
		return 2;
	}
	c.dir = dir;
	c.kernel = kernel;
	c.initrd = initrd;
	c.accel = accel;
	if (template_fill(&c, TEMPLATE_FD, &name, &e) == 0)
		return puts(name) < 0;
	fprintf(stderr, "%s\n", err_text(&e));
	return 1;
}

static int supervise(int argc, char **argv)
{
	_cleanup_loop_ struct loop *loop = NULL;
	struct super_args args;
	int r;

	argv[0] = (char *)"vmwp";
	if (super_parse_args(argc, argv, &args) < 0)
		return 2;
	umask(077);
	r = loop_new(&loop);
	if (r == 0)
		r = guest_new(loop, args.sandbox, log_get_level() >= LOG_LVL_DEBUG, &args.backend);
	if (r < 0)
		log_error("start sandbox '%s': %s", args.sandbox, strerror(-r));
	else
		r = super_run(loop, &args);
	super_args_done(&args);
	return r < 0 ? 1 : r;
}

int main(int argc, char **argv)
{
	if (argc == 2 && streq(argv[1], "--probe-accel"))
		return probe_accel(argc, argv);
	if (argc >= 2 && streq(argv[1], "--check"))
		return check(argc - 1, argv + 1);
	if (argc >= 2 && streq(argv[1], "--template"))
		return make_template(argc - 1, argv + 1);
	return supervise(argc, argv);
}
