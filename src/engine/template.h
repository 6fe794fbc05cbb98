/* The template that the virtual machines of this daemon are clones of (vm/template.h): made or loaded by
 * `vmwp --template` at the first need, held as a sealed memfd. */
#pragma once

#include "engine/engine.h"

/* Of a container: "off", its machine boots; "on", as the daemon has it. */
#define TEMPLATE_ANNOTATION "insula.vm-template"

/* done's result points to the descriptor (int, borrowed), or is NULL where machines have to boot: templates
 * are switched off, or there is none, which was logged. The first machine on KVM is also the proof that KVM
 * works: where it is not seen to run within five seconds this fails (accel_refute), and once more is tried
 * while nobody waits. */
void template_get(struct engine *e, const char *accel, engine_done_fn done, void *userdata);
/* A machine could not be restored from it: from now on they boot. */
void template_distrust(struct engine *e, const char *why);
/* Memory that may be added to a machine: as much as the host has. The same for all, since it is part of the
 * template. Bytes. */
uint64_t template_region(void);
/* Processors that a machine may have at most: those of the host. */
unsigned template_vcpus(void);
/* Whether there is a kernel for machines; an error for people if not. */
int guest_kernel_check(const struct engine *e, struct err *err);
/* Those that are kept on disk, and the one in use: Name, Created (seconds), Size (bytes on disk), InUse. */
struct json *template_list(struct engine *e);
/* Machines that run are not concerned; the next one has it made anew. */
int template_remove(struct engine *e, const char *name, struct err *err);
void template_close(struct engine *e);
