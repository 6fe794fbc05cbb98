/* needs: src/task/user.c src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c src/base/fd.c
 * src/base/fs.c src/base/hash.c src/base/id.c src/base/path.c src/base/log.c src/base/loop.c src/base/proc.c
 * src/base/timefmt.c */
/* /etc/passwd and /etc/group of an image, and the words that ask for a user: SPEC, passwd, group, with a NUL
 * between them. */
#include "task/user.h"
#include "base/fs.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int root = -1;
static char dir[] = "/dev/shm/fuzz-user-XXXXXX";

static void put(const char *name, const uint8_t *p, size_t n)
{
	int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	close(fd);
}

static void remove_root(void)
{
	(void)unlinkat(root, "etc/passwd", 0);
	(void)unlinkat(root, "etc/group", 0);
	(void)unlinkat(root, "etc", AT_REMOVEDIR);
	(void)rmdir(dir);
}

static void make_root(void)
{
	if (!mkdtemp(dir))
		abort();
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || mkdirat(root, "etc", 0755) < 0)
		abort();
	atexit(remove_root);
}

static size_t part(const uint8_t **p, size_t *n, const uint8_t **ret)
{
	const uint8_t *end = memchr(*p, 0, *n);
	size_t len = end ? (size_t)(end - *p) : *n, used = len + !!end;

	*ret = *p;
	*p += used;
	*n -= used;
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const uint8_t *spec, *passwd, *group;
	size_t n_spec = part(&p, &n, &spec), n_passwd = part(&p, &n, &passwd), n_group = part(&p, &n, &group);
	_cleanup_err_ struct err e = ERR_INIT;
	struct user u = { 0 };
	char words[256];
	int r;

	if (root < 0)
		make_root();
	if (n_spec >= sizeof words)
		return 0;
	memcpy(words, spec, n_spec);
	words[n_spec] = 0;
	put("etc/passwd", passwd, n_passwd);
	put("etc/group", group, n_group);
	r = user_resolve(root, words, &u, &e);
	/* A user with numbers that are ids, or words about what is wrong. */
	if (r == 0 ? u.uid > INT32_MAX || u.gid > INT32_MAX || !u.home : !e.msg)
		abort();
	user_done(&u);
	return 0;
}
