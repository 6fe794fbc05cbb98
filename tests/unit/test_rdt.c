/* Classes of Intel RDT, on a tree of plain files in place of resctrl. */
#include "test.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "runtime/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[64];

static int setup(void **state)
{
	strcpy(root, "/tmp/test-rdt-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	return fs_rm_rf(AT_FDCWD, root);
}

static char *in_root(const char *class, const char *file)
{
	return xasprintf("%s/%s/%s", root, class, file);
}

static void put(const char *class, const char *file, const char *text)
{
	_cleanup_free_ char *path = in_root(class, file), *dir = in_root(class, "");

	assert_int_equal(fs_mkdir_p(dir, 0755), 0);
	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, false), 0);
}

static void holds(const char *class, const char *file, const char *want)
{
	_cleanup_free_ char *path = in_root(class, file), *text = NULL;

	assert_int_equal(fs_read(AT_FDCWD, path, 65536, &text, NULL), 0);
	assert_string_equal(text, want);
}

static void test_join_and_update(void **state)
{
	const struct oci_rdt spec = { .given = true, .clos_id = (char *)"gold",
		.l3 = (char *)"L3:0=0ff; 1=f" };
	const struct oci_rdt change = { .mb = (char *)"MB:0=20" };
	_cleanup_(rdt_freep) struct rdt *x = NULL;
	_cleanup_err_ struct err e = ERR_INIT;

	put("gold", "schemata", "MB:0=100\n    L3:0=ff;1=f\n");
	put("gold", "tasks", "");
	assert_int_equal(rdt_new(&spec, "id", root, &x, &e), 0);
	assert_int_equal(rdt_create(x, &spec, &e), 0);
	assert_int_equal(rdt_join(x, 42, &e), 0);
	holds("gold", "tasks", "42");
	put("gold", "schemata", "");
	assert_int_equal(rdt_update(x, &change, &e), 0);
	holds("gold", "schemata", "MB:0=20\n");
	/* It serves others too. */
	rdt_remove(x);
	holds("gold", "tasks", "42");
}

static void test_another_content_is_refused(void **state)
{
	const struct oci_rdt spec = { .given = true, .clos_id = (char *)"gold", .l3 = (char *)"L3:0=1" };
	_cleanup_(rdt_freep) struct rdt *x = NULL;
	_cleanup_err_ struct err e = ERR_INIT;

	put("gold", "schemata", "L3:0=f\n");
	assert_int_equal(rdt_new(&spec, "id", root, &x, &e), 0);
	assert_int_equal(rdt_create(x, &spec, &e), -EEXIST);
	assert_string_equal(err_text(&e), "linux.intelRdt: class 'gold' exists and does not have 'L3:0=1'");
}

static void test_a_named_class_must_exist(void **state)
{
	const struct oci_rdt spec = { .given = true, .clos_id = (char *)"none" };
	_cleanup_(rdt_freep) struct rdt *x = NULL;
	_cleanup_err_ struct err e = ERR_INIT;

	assert_int_equal(rdt_new(&spec, "id", root, &x, &e), 0);
	assert_int_equal(rdt_create(x, &spec, &e), -ENOENT);
	assert_false(fs_exists(x->dir));
}

static void test_own_class(void **state)
{
	const struct oci_rdt spec = { .given = true };
	_cleanup_(rdt_freep) struct rdt *x = NULL;
	_cleanup_err_ struct err e = ERR_INIT;

	assert_int_equal(rdt_new(&spec, "id", root, &x, &e), 0);
	assert_int_equal(rdt_create(x, &spec, &e), 0);
	assert_true(fs_exists(x->dir));
	rdt_remove(x);
	assert_false(fs_exists(x->dir));
}

static void test_names_and_hosts(void **state)
{
	static const char *const bad[] = { "..", ".", "a/b" };
	_cleanup_err_ struct err e = ERR_INIT;
	struct rdt *x = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct oci_rdt spec = { .given = true, .clos_id = (char *)bad[i] };

		assert_true(rdt_new(&spec, "id", root, &x, NULL) < 0);
	}
	assert_null(x);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_join_and_update), T(test_another_content_is_refused), T(test_a_named_class_must_exist),
		T(test_own_class), T(test_names_and_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
