/* Which accelerator hyperv isolation runs on: the verdict of `vmwp --probe-accel`, asked once per boot and
 * remembered in exec_root/vm/accel (a KVM that exists but cannot run a kernel costs seconds to find out). */
#pragma once

#include "engine/engine.h"

struct accel {
	char *name;	/* "kvm", "tcg", or "none": KVM does not start a machine, and nobody chose tcg */
	char *reason;	/* why not kvm, or "configured"; "" if kvm works */
};

/* done's result is a struct accel (borrowed). cfg.accel forces one without asking. Fails where the helper
 * cannot be run, and with ERR_FORBIDDEN where require_hardware is set and the verdict is software emulation,
 * or where KVM was refuted. */
void accel_get(struct engine *e, engine_done_fn done, void *userdata);
/* KVM was chosen and a first machine did not come up: hyperv isolation is refused with the reason, until
 * accel_confirm or, if it is final, the next boot of the host. Never a weaker wall in silence. */
void accel_refute(struct engine *e, const char *reason, bool final);
/* It did come up, when it was tried once more. */
void accel_confirm(struct engine *e);
/* The error of a verdict by which hyperv isolation is refused; 0 if it is not, or nothing is known yet. */
int accel_check(struct engine *e, struct err *err);
/* Frees the remembered verdict and forgets who waits (their done is not called). */
void accel_close(struct engine *e);
