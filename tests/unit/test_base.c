#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/sbuf.h"
#include "base/sock.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "base/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void sbuf_is_bounded(void **state)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(10);

	sbuf_puts(&b, "12345");
	sbuf_printf(&b, "%d", 678);
	assert_true(sbuf_ok(&b));
	sbuf_puts(&b, "abc");
	assert_false(sbuf_ok(&b));
	assert_string_equal(sbuf_str(&b), "12345678");
	sbuf_consume(&b, 6);
	assert_string_equal(sbuf_str(&b), "78");
}

static void strv_grows_and_splits(void **state)
{
	_cleanup_strv_ char **v = NULL, **parts = strv_split(" a,,b c ", " ,");

	for (int i = 0; i < 1000; i++)
		strv_addf(&v, "%d", i);
	assert_int_equal(strv_len(v), 1000);
	assert_string_equal(v[999], "999");
	assert_int_equal(strv_len(parts), 3);
	strv_env_set(&parts, "X=1");
	strv_env_set(&parts, "X=2");
	assert_string_equal(strv_env_get(parts, "X"), "2");
	assert_int_equal(strv_len(parts), 4);
}

static void numbers_are_parsed_whole(void **state)
{
	static const struct { const char *s; int r; } bad[] = {
		{ "", -EINVAL }, { "-", -EINVAL }, { "12x", -EINVAL }, { " 1", -EINVAL }, { "+1", -EINVAL },
		{ "18446744073709551616", -ERANGE },
	};
	uint64_t u;
	int64_t i;

	for (size_t k = 0; k < ARRAY_SIZE(bad); k++)
		assert_int_equal(str_to_u64(bad[k].s, &u), bad[k].r);
	assert_int_equal(str_to_u64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(str_to_i64("-9223372036854775808", &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(str_to_i64("9223372036854775808", &i), -ERANGE);
}

static void errors_carry_kind_and_cause(void **state)
{
	_cleanup_err_ struct err e = ERR_INIT;

	assert_int_equal(err_set(&e, ERR_SYSTEM, -ENOENT, "open '%s'", "x"), -ENOENT);
	assert_string_equal(err_text(&e), "open 'x': No such file or directory");
	assert_int_equal(err_wrap(&e, -ENOENT, "start"), -ENOENT);
	assert_string_equal(err_text(&e), "start: open 'x': No such file or directory");
	assert_int_equal(err_msg(&e, ERR_CONFLICT, 0, "busy"), -EBUSY);
	assert_string_equal(err_text(&e), "busy");
	assert_int_equal(err_set(NULL, ERR_INVALID, 0, "nobody listens"), -EINVAL);
}

static void hash_keeps_what_it_is_given(void **state)
{
	struct hmap m = HMAP_INIT;
	struct hmap_iter it = { 0 };
	size_t n = 0;

	for (uintptr_t i = 1; i <= 500; i++) {
		_cleanup_free_ char *k = xasprintf("key%lu", (unsigned long)i);

		hmap_set(&m, k, (void *)i);
	}
	assert_ptr_equal(hmap_get(&m, "key77"), (void *)77);
	assert_ptr_equal(hmap_remove(&m, "key77"), (void *)77);
	assert_null(hmap_get(&m, "key77"));
	while (hmap_next(&m, &it))
		n++;
	assert_int_equal(n, 499);
	hmap_done(&m);
}

static void paths_are_cleaned(void **state)
{
	static const char *const cases[][2] = {
	    {"/a/../../b/./c//d", "/b/c/d"},
	    {"a/../..", ".."},
	    {"/", "/"},
	    {"", "."},
	    {"/..", "/"},
	    {"./x/", "x"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *c = path_clean(cases[i][0]);

		assert_string_equal(c, cases[i][1]);
	}
}

static void roots_are_not_left(void **state)
{
	char dir[] = "/tmp/insula-unit-XXXXXX";
	_cleanup_close_ int root = -EBADF, fd = -EBADF;
	_cleanup_free_ char *inner = NULL;

	assert_non_null(mkdtemp(dir));
	root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	assert_int_equal(symlinkat("/etc", root, "abs"), 0);
	assert_int_equal(symlinkat("../../../../etc", root, "rel"), 0);
	/* Both links mean <root>/etc, which does not exist: the host's /etc is never seen. */
	assert_int_equal(fs_open_in_root(root, "abs/passwd", O_RDONLY, 0), -ENOENT);
	assert_int_equal(fs_open_in_root(root, "rel/passwd", O_RDONLY, 0), -ENOENT);
	assert_int_equal(fs_open_in_root(root, "../../etc/passwd", O_RDONLY, 0), -ENOENT);
	fd = fs_mkdir_in_root(root, "/a/../b/c", 0755);
	assert_true(fd >= 0);
	inner = path_join(dir, "b/c");
	assert_true(fs_exists(inner));
	assert_int_equal(fs_write_atomic(fd = fs_open_in_root(root, "b/c", O_RDONLY | O_DIRECTORY, 0), "f",
					 "x", 1, 0600, true),
			 0);
	assert_int_equal(fs_rm_rf(AT_FDCWD, dir), 0);
	assert_false(fs_exists(dir));
}

static void sparse_copies_keep_holes(void **state)
{
	_cleanup_close_ int a = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	_cleanup_close_ int b = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct stat st;
	char c[5] = "";

	assert_int_equal(ftruncate(a, 64 << 20), 0);
	assert_int_equal(pwrite(a, "data", 4, 32 << 20), 4);
	assert_int_equal(fs_copy_sparse(a, b), 0);
	assert_int_equal(fstat(b, &st), 0);
	assert_int_equal(st.st_size, 64 << 20);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_int_equal(pread(b, c, 4, 32 << 20), 4);
	assert_string_equal(c, "data");
}

/* Deeper than it goes down, with something on each level. */
static void deep_trees_are_removed(void **state)
{
	char dir[] = "/tmp/insula-test-XXXXXX";
	int top, at, next;
	uint64_t size, more;

	assert_non_null(mkdtemp(dir));
	top = open(dir, O_RDONLY | O_DIRECTORY);
	at = dup(top);
	for (int i = 0; i < 600; i++) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		if (i % 100 == 0)
			assert_int_equal(mkdirat(at, "empty", 0700), 0);
		next = openat(at, "d", O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		assert_int_equal(symlinkat("/etc", next, "link"), 0);
		assert_int_equal(mknodat(next, ".insula-rm-0", S_IFREG | 0600, 0), 0);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(fs_rm_rf(top, "d"), 0);
	assert_int_equal(faccessat(top, "d", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	/* Of two names one counts. */
	assert_int_equal(fs_write_atomic(top, "one", dir, sizeof dir, 0600, false), 0);
	assert_int_equal(fs_du(AT_FDCWD, dir, &size), 0);
	assert_int_equal(linkat(top, "one", top, "two", 0), 0);
	assert_int_equal(fs_du(AT_FDCWD, dir, &more), 0);
	assert_true(size == more && size > 0);
	assert_int_equal(fs_check_room(top), 0);
	close(top);
	assert_int_equal(fs_rm_rf(AT_FDCWD, dir), 0);
}

static void sizes_and_times(void **state)
{
	static const struct { const char *s; int64_t v;
	} ok[] = {
	    {"512m", 512 << 20}, {"1g", 1 << 30}, {"1.5GiB", 3ll << 29}, {"64k", 65536},
	    {"10", 10},          {"7b", 7},       {"2KB", 2048},
	};
	static const char *const bad[] = { "", "m", "1x", "-1", "1mm", "1 2", "1.2.3", "0x10" };
	uint64_t ns;
	int64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(ok); i++) {
		assert_int_equal(size_parse_ram(ok[i].s, false, &v), 0);
		assert_int_equal(v, ok[i].v);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(size_parse_ram(bad[i], false, &v), -EINVAL);
	_cleanup_free_ char *t = time_rfc3339(1700000000120000000ull), *h = time_human_duration(59),
			     *m = size_human(4264960);

	assert_string_equal(t, "2023-11-14T22:13:20.12Z");
	assert_int_equal(time_parse_rfc3339(t, &ns), 0);
	assert_true(ns == 1700000000120000000ull);
	assert_int_equal(time_parse_since("1700000000.5", 0, &ns), 0);
	assert_true(ns == 1700000000500000000ull);
	assert_int_equal(time_parse_since("2023-11-14T23:13:20+01:00", 0, &ns), 0);
	assert_true(ns == 1700000000000000000ull);
	assert_int_equal(time_parse_duration("1h30m0.5s", &ns), 0);
	assert_true(ns == 5400500000000ull);
	assert_string_equal(h, "59 seconds");
	assert_string_equal(m, "4.26MB");
}

/* Every day of five centuries, as the C library has them. */
static void dates(void **state)
{
	for (time_t t = 86399; t < 86400ll * 366 * 500; t += 86400) {
		char got[40], want[40];
		struct tm tm;

		gmtime_r(&t, &tm);
		strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S.000000007Z", &tm);
		time_rfc3339_fixed((uint64_t)t * 1000000000ull + 7, got);
		assert_string_equal(got, want);
	}
}

static void detach_keys(void **state)
{
	unsigned char k[16];
	size_t n;

	assert_int_equal(tty_parse_detach_keys("ctrl-p,ctrl-q", k, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(k[0], 16);
	assert_int_equal(k[1], 17);
	assert_int_equal(tty_parse_detach_keys("ctrl-@,a", k, &n), 0);
	assert_int_equal(k[0], 0);
	assert_int_equal(tty_parse_detach_keys("ctrl-pp", k, &n), -EINVAL);
}

static void names_and_ids(void **state)
{
	assert_true(name_valid("web.1_x-y"));
	assert_false(name_valid("x"));
	assert_false(name_valid("-x"));
	assert_false(name_valid("a/b"));
	assert_true(rt_id_valid("_a.b"));
	assert_false(rt_id_valid(".a"));
	assert_false(rt_id_valid("a..b"));
	assert_false(rt_id_valid(""));
	assert_int_equal(strlen(id_new().s), 64);
}

struct seen { struct loop *l; int timer, child, io, deferred; struct loop_source *src; };

static void on_timer(struct loop_source *s, void *ud)
{
	struct seen *x = ud;

	if (++x->timer == 3) {
		loop_source_free(s);
		if (x->child)
			loop_exit(x->l, 5);
	}
}

static void on_child(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct seen *x = ud;

	x->child = proc_exit_code(si->si_code, si->si_status);
	loop_source_free(s);
	if (x->timer >= 3)
		loop_exit(x->l, 5);
}

static void on_defer(void *ud)
{
	((struct seen *)ud)->deferred++;
}

static void loop_runs_timers_and_children(void **state)
{
	_cleanup_loop_ struct loop *l = NULL;
	_cleanup_proc_ struct proc p = PROC_INIT;
	struct seen x = { 0 };
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)"exit 42", NULL };
	struct spawn_args a = { .path = "/bin/sh", .argv = argv };

	assert_int_equal(loop_new(&l), 0);
	x.l = l;
	assert_int_equal(loop_add_timer(l, 1000, 1000, on_timer, &x, NULL), 0);
	assert_int_equal(proc_spawn(&a, &p), 0);
	assert_int_equal(loop_add_child(l, p.pidfd, on_child, &x, NULL), 0);
	loop_defer(l, on_defer, &x);
	assert_int_equal(loop_run(l), 5);
	assert_int_equal(x.child, 42);
	assert_int_equal(x.deferred, 1);
}

static void spawn_reports_exec_failure(void **state)
{
	struct proc p = PROC_INIT;
	char *argv[] = { (char *)"x", NULL };
	struct spawn_args a = { .path = "/nonexistent/program", .argv = argv };

	assert_int_equal(proc_spawn(&a, &p), -ENOENT);
}

static void spawn_places_descriptors(void **state)
{
	int io[2];
	char buf[64] = "";
	_cleanup_proc_ struct proc p = PROC_INIT;
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)"echo seven >&7; ls /proc/self/fd | wc -l >&7",
			NULL};

	assert_int_equal(fd_pipe(io, 0), 0);
	struct fd_map map[] = { { io[1], 7 } };
	struct spawn_args a = { .path = "/bin/sh", .argv = argv, .fds = map, .n_fds = 1 };

	assert_int_equal(proc_spawn(&a, &p), 0);
	close(io[1]);
	assert_int_equal(proc_wait(&p, NULL), 0);
	assert_true(fd_read_full(io[0], buf, sizeof buf - 1) > 0);
	assert_string_equal(buf, "seven\n5\n");	/* 0, 1, 2, 7 and the directory being read */
	close(io[0]);
}

/* As on a kernel without close_range, where to walk through all the numbers is death. */
static void without_close_range(void)
{
	const int at_nr = offsetof(struct seccomp_data, nr);
	const int at_fd = offsetof(struct seccomp_data, args[0]);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at_nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at_fd),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 60000, 2, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = { .len = sizeof code / sizeof *code, .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		_exit(2);
}

static void descriptors_are_found_without_close_range(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int low = open("/", O_PATH), high = fcntl(low, F_DUPFD, 900), left = dup(low);
		int keep[] = { left, -1 };

		without_close_range();
		if (fd_cloexec_from(3) < 0 || fcntl(low, F_GETFD) != FD_CLOEXEC ||
		    fcntl(high, F_GETFD) != FD_CLOEXEC)
			_exit(3);
		fd_close_except(keep, 2);
		_exit(fcntl(left, F_GETFD) >= 0 && fcntl(low, F_GETFD) < 0 && fcntl(high, F_GETFD) < 0 ?
		      0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void sockets_pass_descriptors(void **state)
{
	int sp[2], fds[4], pipefd[2];
	size_t n = 4;
	char c;

	assert_int_equal(sock_pair(sp), 0);
	assert_int_equal(fd_pipe(pipefd, 0), 0);
	assert_int_equal(sock_send_fds(sp[0], "x", 1, pipefd, 1), 1);
	assert_int_equal(sock_recv_fds(sp[1], &c, 1, fds, &n), 1);
	assert_int_equal(n, 1);
	assert_int_equal(write(pipefd[1], "y", 1), 1);
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	close(sp[0]); close(sp[1]); close(pipefd[0]); close(pipefd[1]); close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sbuf_is_bounded),
	    cmocka_unit_test(strv_grows_and_splits),
	    cmocka_unit_test(numbers_are_parsed_whole),
	    cmocka_unit_test(errors_carry_kind_and_cause),
	    cmocka_unit_test(hash_keeps_what_it_is_given),
	    cmocka_unit_test(paths_are_cleaned),
	    cmocka_unit_test(roots_are_not_left),
	    cmocka_unit_test(sparse_copies_keep_holes),
	    cmocka_unit_test(deep_trees_are_removed),
	    cmocka_unit_test(sizes_and_times),
	    cmocka_unit_test(dates), cmocka_unit_test(detach_keys),
	    cmocka_unit_test(names_and_ids),
	    cmocka_unit_test(loop_runs_timers_and_children),
	    cmocka_unit_test(spawn_reports_exec_failure),
	    cmocka_unit_test(spawn_places_descriptors),
	    cmocka_unit_test(descriptors_are_found_without_close_range),
	    cmocka_unit_test(sockets_pass_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
