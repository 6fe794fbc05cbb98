/* The device filter of cgroup v2: a small eBPF program made from the rules.
 *
 * The kernel calls it with struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, where
 * access_type is (access << 16) | type. v1 applies rules in order, so the last one that matches counts:
 * here they are tested from the last to the first, and the first that matches decides. A rule matches an
 * access if it covers all of it (allow) or any of it (deny). */
#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INSNS_MAX 4096

struct prog { struct bpf_insn v[INSNS_MAX]; size_t n; };

static void emit(struct prog *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	if (p->n < INSNS_MAX)
		p->v[p->n++] = (struct bpf_insn){ code, dst, src, off, imm };
}

bool device_rules_allow_all(const struct oci_device_rules *rules)
{
	if (!rules->n)
		return true;
	const struct oci_device_rule *last = &rules->v[rules->n - 1];

	return last->allow && last->type == 'a' && last->major < 0 && last->minor < 0;
}

/* r2 = type, r3 = access, r4 = major, r5 = minor. */
static void prologue(struct prog *p)
{
	emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, 0, 0);
	emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
	emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_3, BPF_REG_1, 0, 0);
	emit(p, BPF_ALU | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
	emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, 4, 0);
	emit(p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, 8, 0);
}

static void rule(struct prog *p, const struct oci_device_rule *d)
{
	int32_t access = (d->read ? BPF_DEVCG_ACC_READ : 0) | (d->write ? BPF_DEVCG_ACC_WRITE : 0) |
			 (d->mknod ? BPF_DEVCG_ACC_MKNOD : 0);
	bool all = access == (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD);
	size_t jumps[5], n = 0;

	if (d->type != 'a') {
		jumps[n++] = p->n;
		emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 0,
		     d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
		if (!all) {
			emit(p, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
			if (d->allow) { /* all that is asked must be granted: nothing outside the rule's bits
					 */
				emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_1, 0, 0, ~access & 7);
				jumps[n++] = p->n;
				emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_1, 0, 0, 0);
			} else {
				emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_1, 0, 0, access);
				jumps[n++] = p->n;
				emit(p, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 0, 0);
			}
		}
		if (d->major >= 0) {
			jumps[n++] = p->n;
			emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, 0, (int32_t)d->major);
		}
		if (d->minor >= 0) {
			jumps[n++] = p->n;
			emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, 0, (int32_t)d->minor);
		}
	}
	emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, d->allow);
	emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (size_t i = 0; i < n; i++)
		p->v[jumps[i]].off = (int16_t)(p->n - jumps[i] - 1);
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof *attr);
}

/* The rules as a program, in *p. */
static int compile(struct prog *p, const struct oci_device_rules *rules, struct err *e)
{
	bool decided = false;

	prologue(p);
	for (size_t i = rules->n; i-- > 0 && !decided;) {
		rule(p, &rules->v[i]);
		decided = rules->v[i].type == 'a';	/* nothing before it can matter */
	}
	/* The kernel refuses programs with code that is never reached. */
	if (!decided)
		rule(p, &(struct oci_device_rule){ .type = 'a' });
	if (p->n >= INSNS_MAX)
		return err_msg(e, ERR_INVALID, -E2BIG, "linux.resources.devices: too many rules");
	return 0;
}

/* Returns its descriptor. */
static int load(const struct prog *p)
{
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uint64_t)(uintptr_t)p->v;
	attr.insn_cnt = (uint32_t)p->n;
	attr.license = (uint64_t)(uintptr_t)"Apache-2.0";
	fd = bpf(BPF_PROG_LOAD, &attr);
	return fd < 0 ? -errno : fd;
}

/* The program that is kept loaded; a filter holds nothing of the container that it is for. */
static struct { struct bpf_insn *v; size_t n; int fd; } kept;

static bool is_kept(const struct prog *p)
{
	return kept.n && kept.n == p->n && memcmp(kept.v, p->v, p->n * sizeof *p->v) == 0;
}

static int attach(const struct cgroup *cg, int prog, struct err *e)
{
	_cleanup_close_ int dir = cgroup_open_v2(cg);
	union bpf_attr attr;

	if (dir < 0)
		return err_set(e, ERR_SYSTEM, dir, "cannot open the cgroup");
	memset(&attr, 0, sizeof attr);
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	return bpf(BPF_PROG_ATTACH, &attr) < 0
		   ? err_set(e, ERR_SYSTEM, -errno, "cannot attach the device filter")
		   : 0;
}

int cgroup2_devices(const struct cgroup *cg, const struct oci_device_rules *rules, struct err *e)
{
	_cleanup_free_ struct prog *p = NULL;
	_cleanup_close_ int prog = -EBADF;
	int r;

	if (device_rules_allow_all(rules))
		return 0;
	p = new0(struct prog);
	r = compile(p, rules, e);
	if (r < 0)
		return r;
	if (is_kept(p))
		return attach(cg, kept.fd, e);
	prog = load(p);
	if (prog < 0)
		return err_set(e, ERR_SYSTEM, prog, "cannot load the device filter");
	return attach(cg, prog, e);
}

int cgroup_keep_filter(const struct cgroup *cg, const struct oci_device_rules *rules, struct err *e)
{
	struct oci_device_rules full = device_rules_full(rules);
	_cleanup_free_ struct oci_device_rule *v = full.v;
	_cleanup_free_ struct prog *p = new0(struct prog);
	int fd, r = compile(p, &full, e);

	if (r < 0)
		return r;
	fd = load(p);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "cannot load the device filter");
	free(kept.v);
	if (kept.n)
		(void)close(kept.fd);
	kept.n = p->n;
	kept.v = xmemdup(p->v, p->n * sizeof *p->v);
	kept.fd = fd;
	return attach(cg, fd, e);
}
