/* Whether this host can run a VM in hardware. A /dev/kvm that exists and accepts VMs is not enough:
 * nested paravirtual hosts offer one that never boots a standard kernel; there the processor shows
 * neither vmx nor svm. */
#pragma once

/* True if KVM looks real. Else *ret_reason (heap) says why not. */
#include <stdbool.h>
bool accel_kvm_works(char **ret_reason);
