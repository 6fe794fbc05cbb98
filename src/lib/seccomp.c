#include "lib/seccomp.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PROFILE_PATH "linux.seccomp"
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1u << 5)	/* Linux 5.19 */
#endif
#define X32_BIT 0x40000000u
#define CACHE_MAX (4u << 20)

struct raw_arg { uint32_t index; uint64_t value, value_two; char *op; };
struct raw_rule { char **names, *action; int64_t *errno_ret; struct json *args; };
struct raw_profile {
	char *action, **archs, **flags;
	int64_t *errno_ret;
	struct json *rules;
};

struct compiler {
	scmp_filter_ctx ctx;
	uint32_t def;			/* default action */
	uint32_t archs[16];
	int newest[16];			/* per architecture: highest syscall number the profile names */
	size_t n_archs;
	bool notifies;
};

/* --- names --- */

static const struct { const char *name; uint32_t action; bool has_data; } actions[] = {
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW, false },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0), true },
	{ "SCMP_ACT_KILL", SCMP_ACT_KILL, false },
	{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD, false },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS, false },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP, false },
	{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(0), true },
	{ "SCMP_ACT_LOG", SCMP_ACT_LOG, false },
	{ "SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY, false },
};

static const struct { const char *name; enum scmp_compare op; } ops[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE }, { "SCMP_CMP_LT", SCMP_CMP_LT }, { "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ }, { "SCMP_CMP_GE", SCMP_CMP_GE }, { "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
};

static const struct { const char *name; uint32_t scmp, audit; bool x32; } archs[] = {
	{ "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64, false },
	{ "SCMP_ARCH_X86", SCMP_ARCH_X86, AUDIT_ARCH_I386, false },
	{ "SCMP_ARCH_X32", SCMP_ARCH_X32, AUDIT_ARCH_X86_64, true },
	{ "SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64, false },
	{ "SCMP_ARCH_ARM", SCMP_ARCH_ARM, AUDIT_ARCH_ARM, false },
	{ "SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64, AUDIT_ARCH_RISCV64, false },
	{ "SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE, AUDIT_ARCH_PPC64LE, false },
	{ "SCMP_ARCH_S390X", SCMP_ARCH_S390X, AUDIT_ARCH_S390X, false },
};

static const struct { const char *name; unsigned flag; } flags[] = {
	{ "SECCOMP_FILTER_FLAG_TSYNC", 0 },		/* one thread: nothing to synchronise */
	{ "SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG },
	{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
	{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV },
};

const char *seccomp_name(enum seccomp_names list, size_t i)
{
	switch (list) {
	case SECCOMP_NAMES_ACTIONS: return i < ARRAY_SIZE(actions) ? actions[i].name : NULL;
	case SECCOMP_NAMES_OPERATORS: return i < ARRAY_SIZE(ops) ? ops[i].name : NULL;
	case SECCOMP_NAMES_ARCHS: return i < ARRAY_SIZE(archs) ? archs[i].name : NULL;
	case SECCOMP_NAMES_FLAGS: return i < ARRAY_SIZE(flags) ? flags[i].name : NULL;
	}
	return NULL;
}

static int find_action(const char *name, const int64_t *data, const char *path, uint32_t *ret, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (!streq(name, actions[i].name))
			continue;
		if (actions[i].has_data && data && (*data < 0 || *data > 0xffff))
			return err_msg(e, ERR_INVALID, 0, "%s: errnoRet out of range", path);
		*ret = actions[i].action;
		if (actions[i].has_data)
			*ret |= (uint32_t)(data ? *data : EPERM);
		return 0;
	}
	return err_msg(e, ERR_INVALID, 0, "%s: unknown seccomp action '%s'", path, name ? name : "");
}

/* --- reading the profile --- */

static int keep_json(const struct json *v, void *target, const char *path, struct err *e)
{
	if (json_type(v) != JSON_ARRAY)
		return json_expected(e, path, "array of objects");
	*(const struct json **)target = v;
	return 0;
}

static const struct json_field arg_fields[] = {
	{ "index", JK_U32, offsetof(struct raw_arg, index), .required = true },
	{ "value", JK_U64, offsetof(struct raw_arg, value), .required = true },
	{ "valueTwo", JK_U64, offsetof(struct raw_arg, value_two) },
	{ "op", JK_STR, offsetof(struct raw_arg, op), .required = true },
	JSON_FIELD_END,
};

static const struct json_field rule_fields[] = {
	{ "names", JK_STRV, offsetof(struct raw_rule, names), .required = true },
	{ "action", JK_STR, offsetof(struct raw_rule, action), .required = true },
	{ "errnoRet", JK_OPT_I64, offsetof(struct raw_rule, errno_ret) },
	{ "args", JK_CALL, offsetof(struct raw_rule, args), .call = keep_json },
	JSON_FIELD_END,
};

static const struct json_field profile_fields[] = {
	{ "defaultAction", JK_STR, offsetof(struct raw_profile, action), .required = true },
	{ "defaultErrnoRet", JK_OPT_I64, offsetof(struct raw_profile, errno_ret) },
	{ "architectures", JK_STRV, offsetof(struct raw_profile, archs) },
	{ "flags", JK_STRV, offsetof(struct raw_profile, flags) },
	{ "syscalls", JK_CALL, offsetof(struct raw_profile, rules), .call = keep_json },
	JSON_FIELD_END,
};

static void raw_rule_done(struct raw_rule *r)
{
	strv_free(r->names);
	free(r->action);
	free(r->errno_ret);
}

static void raw_profile_done(struct raw_profile *p)
{
	free(p->action);
	free(p->errno_ret);
	strv_free(p->archs);
	strv_free(p->flags);
}

static int read_flags(char *const *names, unsigned *ret, struct err *e)
{
	*ret = 0;
	for (; names && *names; names++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(flags) && !streq(*names, flags[i].name))
			i++;
		if (i == ARRAY_SIZE(flags))
			return err_msg(e, ERR_INVALID, 0, PROFILE_PATH ".flags: '%s' is not supported",
				       *names);
		*ret |= flags[i].flag;
	}
	return 0;
}

/* --- rules --- */

static int read_args(const struct json *list, struct scmp_arg_cmp cmp[6], unsigned *ret_n, const char *path,
		     struct err *e)
{
	char buf[128];

	if (json_len(list) > 6)
		return err_msg(e, ERR_INVALID, 0, "%s.args: more than 6 comparisons", path);
	for (size_t i = 0; i < json_len(list); i++) {
		struct raw_arg a = { 0 };
		size_t k = 0;
		int r;

		snprintf(buf, sizeof buf, "%s.args[%zu]", path, i);
		r = json_dispatch(json_at(list, i), arg_fields, &a, buf, e);
		while (r == 0 && k < ARRAY_SIZE(ops) && !streq(a.op, ops[k].name))
			k++;
		if (r == 0 && (k == ARRAY_SIZE(ops) || a.index > 5))
			r = err_msg(e, ERR_INVALID, 0, "%s: unknown operator '%s' or argument index above 5",
				    buf, a.op);
		free(a.op);
		if (r < 0)
			return r;
		cmp[i] = (struct scmp_arg_cmp){ a.index, ops[k].op, a.value, a.value_two };
	}
	*ret_n = (unsigned)json_len(list);
	return 0;
}

/* The highest numbers among the names tell how new the profile is. */
static void date_profile(struct compiler *c, const char *name)
{
	for (size_t i = 0; i < c->n_archs; i++) {
		int nr = seccomp_syscall_resolve_name_arch(c->archs[i], name);

		if (nr >= 0)	/* negative: unknown, or multiplexed as on old 32-bit x86 */
			c->newest[i] =
			    MAX(c->newest[i], c->archs[i] == SCMP_ARCH_X32 ? nr & ~(int)X32_BIT : nr);
	}
}

static int add_call(struct compiler *c, const char *name, uint32_t action, const struct scmp_arg_cmp *cmp,
		    unsigned n)
{
	int nr = seccomp_syscall_resolve_name(name), r;

	if (nr == __NR_SCMP_ERROR)
		return 0;	/* newer than the library, or of another architecture */
	r = seccomp_rule_add_array(c->ctx, action, nr, n, cmp);
	/* Several comparisons of one argument are alternatives; the library wants a rule for each. */
	if (r == -EINVAL && n > 1) {
		r = 0;
		for (unsigned i = 0; r == 0 && i < n; i++)
			r = seccomp_rule_add_array(c->ctx, action, nr, 1, &cmp[i]);
	}
	return r == -EEXIST || r == -EDOM ? 0 : r;
}

static int add_rule(struct compiler *c, const struct json *j, const char *path, struct err *e)
{
	_cleanup_(raw_rule_done) struct raw_rule raw = { 0 };
	struct scmp_arg_cmp cmp[6];
	uint32_t action;
	unsigned n = 0;
	int r;

	r = json_dispatch(j, rule_fields, &raw, path, e);
	if (r == 0)
		r = find_action(raw.action, raw.errno_ret, path, &action, e);
	if (r == 0 && !strv_len(raw.names))
		r = err_msg(e, ERR_INVALID, 0, "%s.names: must name a syscall", path);
	if (r == 0 && raw.args)
		r = read_args(raw.args, cmp, &n, path, e);
	if (r < 0)
		return r;
	for (char **name = raw.names; name && *name; name++) {
		date_profile(c, *name);
		if (action == SCMP_ACT_NOTIFY && streq(*name, "sendmsg"))
			return err_msg(e, ERR_INVALID, 0,
				       "%s: SCMP_ACT_NOTIFY cannot be used for sendmsg, by which the "
				       "listener is passed on", path);
		c->notifies |= action == SCMP_ACT_NOTIFY;
		if (action == c->def)
			continue;	/* the library refuses what changes nothing */
		r = add_call(c, *name, action, cmp, n);
		if (r < 0)
			return err_set(e, ERR_INVALID, r, "%s: cannot add a rule for syscall '%s'", path,
				       *name);
	}
	return 0;
}

static int set_archs(struct compiler *c, char *const *names, struct err *e)
{
	uint32_t native = seccomp_arch_native();

	c->archs[c->n_archs++] = native;
	for (; names && *names; names++) {
		size_t i = 0;
		int r;

		while (i < ARRAY_SIZE(archs) && !streq(*names, archs[i].name))
			i++;
		if (i == ARRAY_SIZE(archs)) {
			log_debug("seccomp: architecture %s is unknown, left out", *names);
			continue;
		}
		if (archs[i].scmp == native || c->n_archs == ARRAY_SIZE(c->archs))
			continue;
		r = seccomp_arch_add(c->ctx, archs[i].scmp);
		if (r == -EEXIST)
			continue;
		if (r < 0)
			return err_set(e, ERR_INVALID, r, PROFILE_PATH ".architectures: %s", *names);
		c->archs[c->n_archs++] = archs[i].scmp;
	}
	for (size_t i = 0; i < c->n_archs; i++)
		c->newest[i] = -1;
	return 0;
}

/* --- the stub for syscalls newer than the profile --- */

/* For one architecture: if (arch == A [&& the x32 bit is as expected] && nr > newest) return ENOSYS. */
static size_t stub_arch(struct sock_filter *f, uint32_t audit, bool x32, bool split_x32, int newest)
{
	uint32_t limit = (uint32_t)newest | (x32 ? X32_BIT : 0);
	size_t n = 0;

	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, audit, 0, split_x32 ? 4 : 3);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	/* x86-64 and x32 share an audit architecture and differ by a bit of the number. */
	if (split_x32)
		f[n++] = x32 ? (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, X32_BIT, 0, 2)
			     : (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, X32_BIT, 2, 0);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, limit, 0, 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	return n;
}

static size_t make_stub(const struct compiler *c, struct sock_filter *f)
{
	size_t n = 0;
	uint32_t kind = c->def & SECCOMP_RET_ACTION_FULL;

	/* Profiles that let unknown calls through, or already answer ENOSYS, need none. */
	if (kind == SECCOMP_RET_ALLOW || kind == SECCOMP_RET_LOG || c->def == SCMP_ACT_ERRNO(ENOSYS))
		return 0;
	for (size_t i = 0; i < c->n_archs; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(archs); k++) {
			if (archs[k].scmp != c->archs[i] || c->newest[i] < 0)
				continue;
			n += stub_arch(f + n, archs[k].audit, archs[k].x32,
				       archs[k].audit == AUDIT_ARCH_X86_64, c->newest[i]);
		}
	}
	return n;
}

/* --- compiling --- */

static int export_prog(const struct compiler *c, struct seccomp_prog *ret, struct err *e)
{
	_cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
	struct sock_filter stub[6 * ARRAY_SIZE(archs)];
	size_t n_stub = make_stub(c, stub);
	struct stat st;
	int r = fd < 0 ? -errno : seccomp_export_bpf(c->ctx, fd);

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "seccomp: cannot make the filter program");
	size_t n = (size_t)st.st_size / sizeof(struct sock_filter);

	if (n + n_stub > BPF_MAXINSNS)
		return err_msg(e, ERR_INVALID, 0, PROFILE_PATH ": the filter is too large (%zu instructions)",
			       n);
	struct sock_filter *f = new_array(struct sock_filter, n + n_stub);

	memcpy(f, stub, n_stub * sizeof *f);
	if (lseek(fd, 0, SEEK_SET) < 0 ||
	    fd_read_full(fd, f + n_stub, n * sizeof *f) != (ssize_t)(n * sizeof *f)) {
		free(f);
		return err_msg(e, ERR_SYSTEM, -EIO, "seccomp: cannot read the filter program");
	}
	ret->insns = f;
	ret->len = (unsigned short)(n + n_stub);
	return 0;
}

int seccomp_prog_compile_here(const struct json *profile, struct seccomp_prog *ret, struct err *e)
{
	_cleanup_(raw_profile_done) struct raw_profile raw = { 0 };
	struct compiler c = { 0 };
	char path[64];
	int r;

	r = json_dispatch(profile, profile_fields, &raw, PROFILE_PATH, e);
	if (r == 0)
		r = find_action(raw.action, raw.errno_ret, PROFILE_PATH ".defaultAction", &c.def, e);
	if (r == 0)
		r = read_flags(raw.flags, &ret->flags, e);
	if (r == 0 && c.def == SCMP_ACT_NOTIFY)
		r = err_msg(e, ERR_INVALID, 0, PROFILE_PATH ".defaultAction: cannot be SCMP_ACT_NOTIFY");
	if (r < 0)
		return err_one_line(e, r);
	c.ctx = seccomp_init(c.def);
	if (!c.ctx)
		return err_msg(e, ERR_INVALID, 0, PROFILE_PATH ".defaultAction: refused by libseccomp");
	/* The binary tree makes a call cost a dozen comparisons instead of hundreds. */
	(void)seccomp_attr_set(c.ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	(void)seccomp_attr_set(c.ctx, SCMP_FLTATR_CTL_NNP, 0);
	r = set_archs(&c, raw.archs, e);
	for (size_t i = 0; r == 0 && i < json_len(raw.rules); i++) {
		snprintf(path, sizeof path, PROFILE_PATH ".syscalls[%zu]", i);
		r = add_rule(&c, json_at(raw.rules, i), path, e);
	}
	if (r == 0 && (ret->flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) && !c.notifies)
		r = err_msg(e, ERR_INVALID, 0,
			    PROFILE_PATH ".flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs "
					 "SCMP_ACT_NOTIFY");
	if (r == 0 && c.notifies)
		ret->flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	if (r == 0)
		r = export_prog(&c, ret, e);
	seccomp_release(c.ctx);
	return err_one_line(e, r);
}

/* What the compiling child hands back through a memfd: this, then the program or the error text. */
struct outcome { int32_t r; uint32_t kind, len, flags; };

static _noreturn_ void compile_child(const struct json *profile, int fd)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct seccomp_prog p = { 0 };
	struct outcome o = { .r = seccomp_prog_compile_here(profile, &p, &err) };

	o.kind = err.kind;
	o.flags = p.flags;
	o.len = o.r == 0 ? p.len : (uint32_t)strlen(err_text(&err));
	if (fd_write_full(fd, &o, sizeof o) < 0 ||
	    fd_write_full(fd, o.r == 0 ? p.insns : err_text(&err),
			  o.r == 0 ? p.len * sizeof(struct sock_filter) : o.len) < 0)
		_exit(1);
	_exit(0);
}

static int compile_forked(const struct json *profile, struct seccomp_prog *ret, struct err *e)
{
	_cleanup_close_ int fd = memfd_create("seccomp-out", MFD_CLOEXEC);
	_cleanup_proc_ struct proc child = PROC_INIT;
	_cleanup_free_ char *body = NULL;
	struct outcome o;
	int r = fd < 0 ? -errno : proc_fork(&child), code = 0;
	size_t n;

	if (r == 0)
		compile_child(profile, fd);
	if (r > 0)
		r = proc_wait(&child, &code);
	if (r < 0 || code || lseek(fd, 0, SEEK_SET) < 0 || fd_read_full(fd, &o, sizeof o) != sizeof o)
		return err_msg(e, ERR_SYSTEM, r < 0 ? r : -EIO,
			       "seccomp: compiling the profile failed (status %d)", code);
	if (o.len > BPF_MAXINSNS)
		return err_msg(e, ERR_SYSTEM, -EIO, "seccomp: compiling the profile failed");
	n = o.r == 0 ? o.len * sizeof(struct sock_filter) : o.len;
	body = xcalloc(n + 1, 1);
	if (fd_read_full(fd, body, n) != (ssize_t)n)
		return err_msg(e, ERR_SYSTEM, -EIO, "seccomp: compiling the profile failed");
	if (o.r < 0)
		return err_msg(e, o.kind, o.r, "%s", body);
	*ret = (struct seccomp_prog){ TAKE_PTR(body), (unsigned short)o.len, o.flags };
	return 0;
}

/* --- the cache --- */

/* A file is this header, the profile's text, the program. The text is compared in full, so a collision of
 * the hash in the name costs a compilation, never a wrong filter. */
struct cache_header { char magic[8]; uint32_t text_len, prog_len, flags, reserved; };
#define CACHE_MAGIC "inscmp2"	/* counts up when profiles are compiled otherwise */

static uint64_t fnv1a(const char *s)
{
	uint64_t h = 14695981039346656037ull;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211ull;
	return h;
}

static int cache_open_dir(const char *path)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (!path)
		return -ENOENT;
	if (mkdir(path, 0700) < 0 && errno == ENOENT) {
		_cleanup_free_ char *parent = xstrndup(path, (size_t)(path_basename(path) - path));

		if (fs_mkdir_p(parent, 0711) < 0 || (mkdir(path, 0700) < 0 && errno != EEXIST))
			return -errno;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 077))
		return -EPERM;
	return TAKE_FD(fd);
}

static bool cache_load(int dir, const char *name, const char *text, struct seccomp_prog *ret)
{
	_cleanup_free_ char *data = NULL;
	struct cache_header h;
	size_t n, size;

	if (fs_read(dir, name, CACHE_MAX, &data, &n) < 0 || n < sizeof h)
		return false;
	memcpy(&h, data, sizeof h);
	size = h.prog_len * sizeof(struct sock_filter);
	if (memcmp(h.magic, CACHE_MAGIC, sizeof h.magic) || h.text_len != strlen(text) ||
	    h.prog_len > BPF_MAXINSNS || !h.prog_len || n != sizeof h + h.text_len + size ||
	    memcmp(data + sizeof h, text, h.text_len))
		return false;
	*ret = (struct seccomp_prog){xmemdup(data + sizeof h + h.text_len, size), (unsigned short)h.prog_len,
				     h.flags};
	return true;
}

static void cache_store(int dir, const char *name, const char *text, const struct seccomp_prog *p)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(CACHE_MAX);
	struct cache_header h = {
	    .magic = CACHE_MAGIC,
	    .text_len = (uint32_t)strlen(text),
	    .prog_len = p->len,
	    .flags = p->flags,
	};

	sbuf_add(&b, &h, sizeof h);
	sbuf_puts(&b, text);
	sbuf_add(&b, p->insns, p->len * sizeof(struct sock_filter));
	if (sbuf_ok(&b))
		(void)fs_write_atomic(dir, name, b.buf, b.len, 0600, false);
}

int seccomp_prog_compile(const struct json *profile, const char *cache_dir, struct seccomp_prog *ret,
			 struct err *e)
{
	_cleanup_free_ char *json = json_dump(profile);
	_cleanup_free_ char *text = xasprintf("%s %x %s", seccomp_lib_version(), seccomp_arch_native(), json);
	_cleanup_close_ int dir = cache_open_dir(cache_dir);
	char name[32];
	int r;

	snprintf(name, sizeof name, "%016llx.bpf", (unsigned long long)fnv1a(text));
	if (dir >= 0 && cache_load(dir, name, text, ret))
		return 0;
	r = compile_forked(profile, ret, e);
	if (r == 0 && dir >= 0)
		cache_store(dir, name, text, ret);
	return r;
}

void seccomp_prog_encode(const struct seccomp_prog *p, struct sbuf *b)
{
	uint32_t bits = p->flags;

	sbuf_add(b, &bits, sizeof bits);
	sbuf_add(b, p->insns, p->len * sizeof(struct sock_filter));
}

int seccomp_prog_decode(const void *bytes, size_t n, struct seccomp_prog *ret)
{
	uint32_t bits;
	size_t body = n - sizeof bits;

	if (n <= sizeof bits || body % sizeof(struct sock_filter) ||
	    body / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -EPROTO;
	memcpy(&bits, bytes, sizeof bits);
	*ret = (struct seccomp_prog){.insns = xmalloc(body),
				     .len = (unsigned short)(body / sizeof(struct sock_filter)),
				     .flags = bits};
	memcpy(ret->insns, (const char *)bytes + sizeof bits, body);
	return 0;
}

int seccomp_prog_load(const struct seccomp_prog *p)
{
	struct sock_fprog prog = { .len = p->len, .filter = p->insns };
	int r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, p->flags, &prog);

	return r < 0 ? -errno : r;
}

bool seccomp_prog_notifies(const struct seccomp_prog *p)
{
	return p->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER;
}

void seccomp_prog_done(struct seccomp_prog *p)
{
	free(p->insns);
	*p = (struct seccomp_prog){ 0 };
}

const char *seccomp_lib_version(void)
{
	static char text[32];
	const struct scmp_version *v = seccomp_version();

	snprintf(text, sizeof text, "%u.%u.%u", v->major, v->minor, v->micro);
	return text;
}
