/* A log that is written into several files, and its readers. */
#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "engine/logs.h"
#include "super/journal.h"
#include "super/jsonlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[] = "/tmp/insula-logrotate-XXXXXX";
static char *path;

static int fresh(void **state)
{
	_cleanup_free_ char *wipe = xasprintf("rm -rf %s/*", dir);

	return system(wipe);
}

static void write_number(struct jsonlog *l, unsigned i)
{
	char line[32];
	int n = snprintf(line, sizeof line, "%u\n", i);

	jsonlog_write(l, 1, line, (size_t)n);
}

static unsigned files(void)
{
	unsigned n = 0;

	for (unsigned k = 0; k < 100; k++) {
		_cleanup_free_ char *name = k ? xasprintf("%s.%u", path, k) : xstrdup(path);

		n += access(name, F_OK) == 0;
	}
	return n;
}

/* Reads what there is: consecutive numbers. Returns how many. */
static unsigned read_numbers(struct log_reader *r, unsigned *next)
{
	struct log_entry e;
	unsigned n = 0;
	int k;

	while ((k = log_reader_next(r, &e)) == 1 || k == -EAGAIN) {
		if (k != 1)
			continue;
		if (*next == UINT32_MAX)
			*next = (unsigned)strtoul(e.text, NULL, 10);
		assert_int_equal(strtoul(e.text, NULL, 10), *next);
		++*next;
		n++;
	}
	assert_int_equal(k, 0);
	return n;
}

static char *three[] = {(char *)"max-size", (char *)"1000", (char *)"max-file", (char *)"3", NULL};

static void bounded(void **state)
{
	struct jsonlog l;
	struct log_reader *r;
	unsigned next = UINT32_MAX, n;
	struct stat st;

	assert_int_equal(jsonlog_open(&l, path, three), 0);
	for (unsigned i = 0; i < 1000; i++) {
		write_number(&l, i);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size <= 1000 && files() <= 3);
	}
	assert_int_equal(files(), 3);
	jsonlog_close(&l);
	assert_int_equal(log_reader_open(path, -1, &r), 0);
	n = read_numbers(r, &next);
	assert_int_equal(next, 1000);
	assert_true(n > 25 && n < 100);
	log_reader_free(r);
	for (unsigned tail = 0; tail <= n + 1; tail++) {
		next = UINT32_MAX;
		assert_int_equal(log_reader_open(path, tail, &r), 0);
		assert_int_equal(read_numbers(r, &next), MIN(tail, n));
		log_reader_free(r);
	}
	/* opened again it goes on where it was */
	assert_int_equal(jsonlog_open(&l, path, three), 0);
	write_number(&l, 1000);
	jsonlog_close(&l);
	next = UINT32_MAX;
	assert_int_equal(log_reader_open(path, 30, &r), 0);
	assert_int_equal(read_numbers(r, &next), MIN(30u, n));
	assert_int_equal(next, 1001);
	log_reader_free(r);
}

/* What is read at one time is written in as many files as it needs; a line that is longer than one has it to
 * itself. */
static void a_burst(void **state)
{
	static const unsigned sizes[] = {10, 20, 1500, 10, 300, 300, 300, 10};
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	char *many[] = {(char *)"max-size", (char *)"1000", (char *)"max-file", (char *)"900", NULL};
	struct jsonlog l;
	struct log_reader *r;
	struct log_entry e;
	struct stat st;

	for (unsigned i = 0; i < 800; i++) {
		for (unsigned k = 0; k < sizes[i % 8]; k++)
			sbuf_putc(&b, 'x');
		sbuf_putc(&b, '\n');
	}
	assert_int_equal(jsonlog_open(&l, path, many), 0);
	jsonlog_write(&l, 1, b.buf, b.len);
	jsonlog_close(&l);
	for (unsigned k = 0; k < 400; k++) {
		_cleanup_free_ char *name = k ? xasprintf("%s.%u", path, k) : xstrdup(path);

		if (stat(name, &st) < 0)
			break;
		assert_true(st.st_size <= 1000 || (st.st_size > 1500 && st.st_size < 1600));
	}
	assert_int_equal(log_reader_open(path, -1, &r), 0);
	for (unsigned i = 0; i < 800; i++) {
		int k;

		while ((k = log_reader_next(r, &e)) == -EAGAIN)
			;
		assert_int_equal(k, 1);
		assert_int_equal(e.n, sizes[i % 8] + 1);
	}
	assert_int_equal(log_reader_next(r, &e), 0);
	log_reader_free(r);
}

/* However far it is behind, as long as no file was deleted, a follower misses nothing. */
static void followed(void **state)
{
	struct jsonlog l;
	struct log_reader *r;
	unsigned next = 0, i = 0;

	assert_int_equal(jsonlog_open(&l, path, three), 0);
	assert_int_equal(log_reader_open(path, -1, &r), 0);
	for (unsigned step = 0; step < 200; step++) {
		for (unsigned k = 0; k < step % 30; k++)
			write_number(&l, i++);
		assert_int_equal(read_numbers(r, &next), step % 30);
	}
	log_reader_free(r);
	jsonlog_close(&l);
	assert_int_equal(next, i);
}

/* One that is too far behind reads the file it has to its end, and goes on with the oldest that is left. */
static void overtaken(void **state)
{
	struct jsonlog l;
	struct log_reader *r;
	struct log_entry e;
	unsigned next = 0, last = 0, n = 0, jumps = 0;

	assert_int_equal(jsonlog_open(&l, path, three), 0);
	write_number(&l, 0);
	assert_int_equal(log_reader_open(path, -1, &r), 0);
	assert_int_equal(read_numbers(r, &next), 1);
	for (unsigned i = 1; i < 500; i++)
		write_number(&l, i);
	while (log_reader_next(r, &e) == 1) {
		unsigned i = (unsigned)strtoul(e.text, NULL, 10);

		assert_true(i > last);
		jumps += i != last + 1;
		last = i;
		n++;
	}
	assert_int_equal(last, 499);
	assert_int_equal(jumps, 1);
	assert_true(n > 25);
	log_reader_free(r);
	jsonlog_close(&l);
}

static void one_file(void **state)
{
	static char *one[] = {(char *)"max-size", (char *)"500", (char *)"max-file", (char *)"1", NULL};
	struct jsonlog l;
	struct log_reader *r;
	unsigned next = 0;

	assert_int_equal(jsonlog_open(&l, path, one), 0);
	assert_int_equal(log_reader_open(path, -1, &r), 0);
	for (unsigned i = 0; i < 100; i++) {
		write_number(&l, i);
		assert_int_equal(read_numbers(r, &next), 1);
	}
	assert_int_equal(files(), 1);
	log_reader_free(r);
	jsonlog_close(&l);
}

/* A crash between the two names of a file: no line is read twice. */
static void cut_short(void **state)
{
	_cleanup_free_ char *first = xasprintf("%s.1", path);
	struct jsonlog l;
	struct log_reader *r;
	unsigned next = 0;

	assert_int_equal(jsonlog_open(&l, path, three), 0);
	for (unsigned i = 0; i < 3; i++)
		write_number(&l, i);
	assert_int_equal(link(path, first), 0);
	assert_int_equal(log_reader_open(path, 10, &r), 0);
	assert_int_equal(read_numbers(r, &next), 3);
	log_reader_free(r);
	for (unsigned i = 3; i < 25; i++)
		write_number(&l, i);
	next = 0;
	assert_int_equal(log_reader_open(path, -1, &r), 0);
	assert_int_equal(read_numbers(r, &next), 25);
	log_reader_free(r);
	jsonlog_close(&l);
}

static void attributes(void **state)
{
	static const char attrs[] = "{\"a\":\"b\",\"c\":\"\\\"},\\\"time\\\":\\\"\"}";
	char *opts[] = {(char *)"attrs", (char *)attrs, NULL};
	struct jsonlog l;
	struct log_reader *r;
	struct log_entry e;

	assert_int_equal(jsonlog_open(&l, path, opts), 0);
	write_number(&l, 7);
	jsonlog_close(&l);
	assert_int_equal(log_reader_open(path, -1, &r), 0);
	assert_int_equal(log_reader_next(r, &e), 1);
	assert_int_equal(e.n_attrs, strlen(attrs));
	assert_memory_equal(e.attrs, attrs, e.n_attrs);
	assert_memory_equal(e.text, "7\n", 2);
	log_reader_free(r);
}

static void bad_options(void **state)
{
	static char *bad[][3] = {{(char *)"max-size", (char *)"x", NULL},
				 {(char *)"what", (char *)"1", NULL}};
	struct jsonlog l;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(jsonlog_open(&l, path, bad[i]), -EINVAL);
		jsonlog_close(&l);
	}
}

static void to_the_journal(void **state)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct journal *j;
	char buf[512];
	static const char want[] = "CONTAINER_NAME=c\nPRIORITY=3\nMESSAGE\n\3\0\0\0\0\0\0\0a\nb\n";
	static const char part[] =
	    "CONTAINER_NAME=c\nPRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE\n\1\0\0\0\0\0\0\0z\n";
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof sun.sun_path, "%s/journal", dir);
	assert_true(journal_open(sun.sun_path, "", &j) < 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof sun), 0);
	assert_int_equal(journal_open(sun.sun_path, "CONTAINER_NAME=c\n", &j), 0);
	journal_send(j, true, "a\nb\n", 4);
	assert_int_equal(recv(fd, buf, sizeof buf, 0), sizeof want - 1);
	assert_memory_equal(buf, want, sizeof want - 1);
	journal_send(j, false, "z", 1);
	assert_int_equal(recv(fd, buf, sizeof buf, 0), sizeof part - 1);
	assert_memory_equal(buf, part, sizeof part - 1);
	close(fd);
	journal_send(j, false, "nobody\n", 7);		/* is lost, and does no harm */
	journal_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(bounded, fresh),	   cmocka_unit_test_setup(followed, fresh),
		cmocka_unit_test_setup(a_burst, fresh),
		cmocka_unit_test_setup(overtaken, fresh),  cmocka_unit_test_setup(one_file, fresh),
		cmocka_unit_test_setup(cut_short, fresh),  cmocka_unit_test_setup(attributes, fresh),
		cmocka_unit_test_setup(bad_options, fresh), cmocka_unit_test_setup(to_the_journal, fresh),
	};
	int r;

	if (!mkdtemp(dir))
		return 1;
	path = xasprintf("%s/x-json.log", dir);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	(void)fresh(NULL);
	(void)rmdir(dir);
	free(path);
	return r;
}
