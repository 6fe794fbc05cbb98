/* Trees to tar and back, and archives that want out of their directory. */
#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/base64.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static char top[] = "/tmp/insula-tree-XXXXXX";
static int root, other;

static int begin(void **state)
{
	assert_non_null(mkdtemp(top));
	root = open(top, O_PATH | O_DIRECTORY);
	assert_return_code(mkdirat(root, "in", 0755), errno);
	assert_return_code(mkdirat(root, "out", 0755), errno);
	assert_return_code(mkdirat(root, "copy", 0755), errno);
	assert_return_code(mkdirat(root, "tmp", 0755), errno);
	other = openat(root, "out", O_PATH | O_DIRECTORY);
	return 0;
}

static int end(void **state)
{
	close(root);
	close(other);
	return fs_rm_rf(AT_FDCWD, top);
}

static int archive(void)
{
	return memfd_create("tar", MFD_CLOEXEC);
}

static int unpack(int fd, const char *dest, bool keep, struct err *e)
{
	struct tree_unpack u = { .root = root, .dest = dest, .keep_types = keep, .own_ids = true };
	struct ustar_reader *in;
	int r;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	in = ustar_reader_new(fd);
	r = tree_unpack(&u, in, e);
	ustar_reader_free(in);
	return r;
}

/* An archive of entries without data. */
static int made_of(const struct ustar_entry *v, size_t n)
{
	int fd = archive();
	struct ustar_writer w = { .fd = fd };

	for (size_t i = 0; i < n; i++)
		assert_int_equal(ustar_put(&w, &v[i]), 0);
	assert_int_equal(ustar_put_end(&w), 0);
	ustar_writer_done(&w);
	return fd;
}

static void round_trip(void **state)
{
	_cleanup_close_ int fd = archive(), in = openat(root, "in", O_RDONLY | O_DIRECTORY), f = -EBADF;
	struct ustar_writer w = { .fd = fd };
	struct tree_pack p = { .w = &w };
	char name[256], text[] = "content";
	_cleanup_free_ char *got = NULL, *path = NULL;
	struct stat st;

	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = 0;
	f = openat(in, name, O_WRONLY | O_CREAT, 0640);
	assert_int_equal(write(f, text, sizeof text - 1), sizeof text - 1);
	assert_return_code(linkat(in, name, in, "hard", 0), errno);
	assert_return_code(symlinkat(name, in, "sym\xc3\xa4"), errno);
	assert_return_code(mkfifoat(in, "fifo", 0600), errno);
	assert_int_equal(tree_pack(&p, in, ".", "top", NULL), 0);
	assert_int_equal(ustar_put_end(&w), 0);
	tree_pack_done(&p);
	ustar_writer_done(&w);
	assert_int_equal(unpack(fd, "copy", false, NULL), 0);
	path = xasprintf("copy/top/%s", name);
	assert_int_equal(fs_read(root, path, 100, &got, NULL), 0);
	assert_string_equal(got, text);
	assert_return_code(fstatat(root, path, &st, 0), errno);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_return_code(fstatat(root, "copy/top/sym\xc3\xa4", &st, AT_SYMLINK_NOFOLLOW), errno);
	assert_true(S_ISLNK(st.st_mode));
	assert_return_code(fstatat(root, "copy/top/fifo", &st, 0), errno);
	assert_true(S_ISFIFO(st.st_mode));
}

/* Neither a name nor a link that the archive has planted leads out of the root. */
static void stays_inside(void **state)
{
	struct ustar_entry up[] = { { .path = (char *)"../out/x", .mode = S_IFREG | 0600 } };
	struct ustar_entry link[] = {
		{ .path = (char *)"l", .link = (char *)"/../../../../../../../tmp", .mode = S_IFLNK | 0777 },
		{ .path = (char *)"l/insula-escaped", .mode = S_IFREG | 0600 },
	};
	struct ustar_entry hard[] = { { .path = (char *)"h", .link = (char *)"../out/f", .hardlink = true,
					.mode = S_IFREG } };
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_close_ int a = made_of(up, 1), b = made_of(link, 2), c = made_of(hard, 1);

	assert_int_equal(unpack(a, "in", false, &e), -EXDEV);
	assert_int_equal(e.kind, ERR_INVALID);
	assert_int_equal(unpack(b, "in", false, NULL), 0);
	assert_false(fs_exists("/tmp/insula-escaped"));
	assert_int_equal(faccessat(root, "tmp/insula-escaped", F_OK, 0), 0);
	err_clear(&e);
	assert_int_equal(unpack(c, "in", false, &e), -EXDEV);
}

static void keeps_types(void **state)
{
	struct ustar_entry dir[] = { { .path = (char *)"t/", .mode = S_IFDIR | 0755 } };
	struct ustar_entry file[] = { { .path = (char *)"t", .mode = S_IFREG | 0644 } };
	_cleanup_close_ int d = made_of(dir, 1), f = made_of(file, 1);
	_cleanup_err_ struct err e = ERR_INIT;

	assert_int_equal(unpack(f, "out", true, NULL), 0);
	assert_int_equal(unpack(d, "out", true, &e), -EEXIST);
	assert_string_equal(err_text(&e),
			    "cannot overwrite non-directory \"/out/t\" with directory \"out\"");
	err_clear(&e);
	assert_int_equal(unpack(d, "out", false, NULL), 0);
	assert_int_equal(unpack(f, "out", true, &e), -EEXIST);
}

static void large_numbers(void **state)
{
	struct ustar_entry v[] = { { .path = (char *)"big", .mode = S_IFLNK | 0777, .link = (char *)"x",
				     .uid = 4000000000u, .gid = 3000000 } };
	_cleanup_close_ int fd = made_of(v, 1);
	const struct ustar_entry *t;
	struct ustar_reader *in;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	in = ustar_reader_new(fd);
	assert_int_equal(ustar_next(in, &t, NULL), 1);
	assert_int_equal(t->uid, 4000000000u);
	assert_int_equal(t->gid, 3000000);
	assert_int_equal(ustar_next(in, &t, NULL), 0);
	ustar_reader_free(in);
}

/* Every cut and every flipped byte of an archive ends in an error or an entry, never in a crash. */
static void damaged(void **state)
{
	struct ustar_entry v[] = { { .path = (char *)"d/", .mode = S_IFDIR | 0755, .uid = 3000000 },
				   { .path = (char *)"d/l", .mode = S_IFLNK, .link = (char *)"x" } };
	_cleanup_close_ int fd = made_of(v, 2);
	off_t n = lseek(fd, 0, SEEK_END);
	_cleanup_free_ char *bytes = xmalloc((size_t)n);
	unsigned refused = 0;

	assert_int_equal(pread(fd, bytes, (size_t)n, 0), n);
	for (off_t i = 0; i < n; i++) {
		_cleanup_close_ int bad = archive();
		char flipped = (char)~bytes[i];
		const struct ustar_entry *t;
		struct ustar_reader *in;
		int r;

		assert_int_equal(write(bad, bytes, (size_t)n), n);
		assert_int_equal(pwrite(bad, &flipped, 1, i), 1);
		assert_int_equal(lseek(bad, 0, SEEK_SET), 0);
		in = ustar_reader_new(bad);
		while ((r = ustar_next(in, &t, NULL)) > 0)
			;
		refused += r < 0;
		ustar_reader_free(in);
	}
	assert_true(refused > 1000);
}

static void base64(void **state)
{
	static const char *const pairs[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" },
						{ "foo", "Zm9v" }, { "foob", "Zm9vYg==" } };

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		_cleanup_free_ char *text = base64_encode(pairs[i][0], strlen(pairs[i][0])), *back = NULL;
		size_t n;

		assert_string_equal(text, pairs[i][1]);
		assert_int_equal(base64_decode(text, &back, &n), 0);
		assert_int_equal(n, strlen(pairs[i][0]));
		assert_string_equal(back, pairs[i][0]);
	}
	assert_int_equal(base64_decode("Zg=", &(char *){ NULL }, NULL), -EINVAL);
	assert_int_equal(base64_decode("Z*==", &(char *){ NULL }, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),	 cmocka_unit_test(stays_inside),
		cmocka_unit_test(keeps_types),	 cmocka_unit_test(large_numbers),
		cmocka_unit_test(damaged),	 cmocka_unit_test(base64),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
