/* vmwp: the supervisor of one hyperv sandbox, the worker process of its virtual machine. */
#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"
#include "super/super.h"
#include "vm/accel.h"
#include "vm/guest.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int probe_accel(void)
{
	_cleanup_free_ char *reason = NULL;

	if (accel_kvm_works(&reason))
		puts("kvm");
	else
		printf("tcg %s\n", reason);
	return 0;
}

int main(int argc, char **argv)
{
	_cleanup_loop_ struct loop *loop = NULL;
	struct super_args args;
	int r;

	if (argc == 2 && streq(argv[1], "--probe-accel"))
		return probe_accel();
	argv[0] = (char *)"vmwp";
	if (super_parse_args(argc, argv, &args) < 0)
		return 2;
	umask(077);
	r = loop_new(&loop);
	if (r == 0)
		r = guest_new(loop, args.sandbox, log_get_level() >= LOG_LVL_DEBUG, &args.backend);
	if (r < 0) {
		log_error("start sandbox '%s': %s", args.sandbox, strerror(-r));
		return 1;
	}
	r = super_run(loop, &args);
	args.backend->ops->free(args.backend);
	return r;
}
