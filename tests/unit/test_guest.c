/* The life of a machine and of what is in it, as vmwp tells it: boot, disks, memory, ends. */
#include "tests/unit/guest_fixture.h"

static void the_order_of_a_boot(void **state)
{
	struct fixture *f = *state;

	up(f);
	assert_string_equal(machine.disks, "01.0,02.0,03.0+");
	guest_says(f, MSG_DATA, 0, f->stream + 1, "hello", 5);
	guest_says(f, MSG_DATA, 0, f->stream + 2, "err", 3);
	guest_says(f, MSG_STREAM_EOF, 0, f->stream + 1, NULL, 0);
	guest_says(f, MSG_STREAM_EOF, 0, f->stream + 2, NULL, 0);
	guest_tells_exit(f, CTR, 3, "");
	assert_string_equal(take_log(f), "output 1 hello\noutput 2 err\neof 1\neof 2\nexited 3 ");
	assert_false(machine.killed);
}

static void disks_are_attached_once(void **state)
{
	struct fixture *f = *state;
	struct frame fr;
	struct msg_create m;

	up(f);
	create(f, "other", "", "second", 0);
	guest_serves(f, MSG_GUEST, NULL, 0);
	assert_string_equal(machine.disks, "01.0,02.0,03.0+,04.0+");
	assert_int_equal(guest_hears(f, &fr), MSG_CREATE);
	assert_int_equal(msg_create_decode(fr.payload, fr.len, &m), 0);
	assert_string_equal(m.lower[0], "01.0");
	assert_string_equal(m.lower[1], "02.0");
	assert_string_equal(m.upper, "04.0");
	msg_create_done(&m);
}

static void a_disk_that_fails(void **state)
{
	struct fixture *f = *state;

	machine.fail_disks = true;
	create(f, CTR, "", "scratch", 0);
	assert_string_equal(take_log(f), "done QEMU: no");
	machine.fail_disks = false;
	up(f);
}

static void further_creations_wait_for_the_boot(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	create(f, "other", "", "second", 0);
	guest_says_hello(f, AGENT_VERSION);
	guest_serves(f, MSG_GUEST, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	assert_string_equal(take_log(f), "done ok\ndone ok");
}

static void a_guest_that_cannot_prepare(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, AGENT_VERSION);
	assert_int_equal(guest_hears(f, &fr), MSG_GUEST);
	guest_replies(f, fr.seq, ERR_SYSTEM, "no\033[31m disk\n", NULL, 0);
	assert_string_equal(take_log(f), "done prepare the virtual machine: no [31m disk ");
}

static void the_death_of_the_machine_ends_all(void **state)
{
	struct fixture *f = *state;

	up(f);
	create(f, CTR, "e", "", TASK_TTY);
	guest_serves(f, MSG_CREATE, NULL, 0);
	(void)take_log(f);
	f->b->ops->ps(f->b, CTR, done, f);
	/* Sent before the end, read after it. */
	guest_says(f, MSG_DATA, 0, f->stream + 1, "last", 4);
	machine_dies(f);
	assert_string_equal(take_log(f),
			    "output 1 last\ndone the virtual machine ended: QEMU was ended by signal 9\n"
			    "eof 1\neof 2\nexited 137 the virtual machine ended: QEMU was ended by signal 9\n"
			    "eof e1\n"
			    "exited e137 the virtual machine ended: QEMU was ended by signal 9\n"
			    "lost the virtual machine ended: QEMU was ended by signal 9");
	create(f, CTR, "f", "", 0);
	f->b->ops->del(f->b, CTR, "", false, done, f);
	f->b->ops->shutdown(f->b, done, f);
	assert_string_equal(take_log(f), "done the virtual machine is not running\ndone ok\ndone ok");
}

static void a_machine_that_dies_in_its_boot(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	machine_dies(f);
	assert_string_equal(take_log(f), "done VM did not start: QEMU was ended by signal 9\n"
			    "lost the virtual machine ended: QEMU was ended by signal 9");
}

static void a_machine_that_dies_between_hello_and_guest(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, AGENT_VERSION);
	machine_dies(f);
	assert_string_equal(take_log(f), "done the virtual machine ended: QEMU was ended by signal 9\n"
			    "lost the virtual machine ended: QEMU was ended by signal 9");
}

static void another_version(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, AGENT_VERSION + 1);
	assert_true(machine.killed);
	machine_dies(f);
	assert_string_equal(
	    take_log(f),
	    "done VM did not start: its agent is of another version: \"insula vm prepare\" makes one that "
	    "fits: last words\nlost the virtual machine ended: its agent is of another version: "
	    "\"insula vm prepare\" makes one that fits");
}

static void shutdown_asks_the_agent(void **state)
{
	struct fixture *f = *state;

	up(f);
	f->b->ops->shutdown(f->b, done, f);
	assert_false(machine.killed);
	guest_serves(f, MSG_SHUTDOWN, NULL, 0);
	assert_true(machine.killed);
	machine_dies(f);
	/* Nothing is lost that was asked for. */
	assert_string_equal(take_log(f), "eof 1\neof 2\nexited 137 \ndone ok");
}

static void shutdown_of_an_empty_machine_is_its_end(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	up(f);
	guest_tells_exit(f, CTR, 0, "");
	f->b->ops->del(f->b, CTR, "", false, done, f);
	guest_serves(f, MSG_DELETE, NULL, 0);
	f->b->ops->shutdown(f->b, done, f);
	assert_true(machine.killed);
	assert_int_equal(guest_hears(f, &fr), 0);
	machine_dies(f);
	assert_string_equal(take_log(f), "exited 0 \ndone ok\ndone ok");
}

static void what_is_discarded_goes_with_the_machine(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	up(f);
	create(f, "other", "", "second", 0);
	guest_serves(f, MSG_GUEST, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	guest_tells_exit(f, "other", 0, "");
	guest_tells_exit(f, CTR, 0, "");
	(void)take_log(f);
	/* others are in it */
	f->b->ops->del(f->b, "other", "", true, done, f);
	guest_serves(f, MSG_DELETE, NULL, 0);
	assert_string_equal(take_log(f), "done ok");
	f->b->ops->del(f->b, CTR, "", true, done, f);
	assert_string_equal(take_log(f), "done ok");
	assert_int_equal(guest_hears(f, &fr), 0);
	f->b->ops->shutdown(f->b, done, f);
	assert_true(machine.killed);
	machine_dies(f);
}

static void guest_tells_memory(struct fixture *f, uint64_t come, uint64_t used, uint64_t spare, bool wanted)
{
	struct msg_memory m = { .come = come, .used = used, .spare = spare, .wanted = wanted };
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_memory_encode(&m, &b);
	guest_says(f, MSG_MEMORY, 0, 0, b.buf, b.len);
}

static void memory_comes_when_it_is_wanted(void **state)
{
	struct fixture *f = *state;

	up(f);
	guest_tells_memory(f, 0, 0, 0, true);
	assert_int_equal(machine.memory, 512 * MB);
	/* While it is on its way, it is not asked for again. */
	guest_tells_memory(f, 128 * MB, 100 * MB, 0, true);
	assert_int_equal(machine.memory, 512 * MB);
	for (uint64_t had = 0; had != machine.memory;) {
		had = machine.memory;
		guest_tells_memory(f, had, had, 0, true);
	}
	assert_int_equal(machine.memory, 2 * GB);
}

static void idle_memory_goes_back(void **state)
{
	struct fixture *f = *state;

	up(f);
	machine.touched = 512 * MB;
	guest_tells_memory(f, 0, 0, 0, true);
	guest_tells_memory(f, 512 * MB, 500 * MB, 600 * MB, false);
	for (int i = 0; i < 150; i++)
		(void)loop_run_once(f->loop, 10);
	assert_int_equal(machine.memory, 512 * MB);	/* what is used is not idle */
	guest_tells_memory(f, 512 * MB, 100 * MB, 300 * MB, false);
	assert_int_equal(machine.memory, 512 * MB);	/* not at once */
	for (int i = 0; i < 300 && machine.memory == 512 * MB; i++)
		(void)loop_run_once(f->loop, 10);
	assert_int_equal(machine.memory, 256 * MB);	/* whole blocks, and no more than can be spared */
	/* More than it has, of what it does not have. */
	guest_tells_memory(f, UINT64_MAX, 0, UINT64_MAX, false);
	guest_tells_memory(f, UINT64_MAX, UINT64_MAX, 0, true);
	assert_true(machine.memory <= 2 * GB);
}

/* Whether it is ended once its patience, a tick, is over. */
static bool is_given_up(struct fixture *f)
{
	container_of(f->b, struct guest, b)->patience_s = 1;
	for (int i = 0; i < 300 && !machine.killed; i++)
		(void)loop_run_once(f->loop, 10);
	return machine.killed;
}

static void an_agent_that_stands_still(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	up(f);
	f->b->ops->ps(f->b, CTR, done, f);
	assert_int_equal(guest_hears(f, &fr), MSG_PS);
	assert_true(is_given_up(f));
	machine_dies(f);
	assert_string_equal(take_log(f),
			    "done the virtual machine ended: no answer from its agent in 1 s\neof 1\neof 2\n"
			    "exited 137 the virtual machine ended: no answer from its agent in 1 s\n"
			    "lost the virtual machine ended: no answer from its agent in 1 s");
}

static void an_agent_that_prepares_for_ever(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, AGENT_VERSION);
	assert_int_equal(guest_hears(f, &fr), MSG_GUEST);
	assert_true(is_given_up(f));
	machine_dies(f);
	assert_string_equal(take_log(f), "done the virtual machine ended: no answer from its agent in 1 s\n"
			    "lost the virtual machine ended: no answer from its agent in 1 s");
}

/* What takes its time: the end of a container, and the copying of files. */
static void an_agent_that_works(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	up(f);
	create(f, "other", "", "second", 0);
	guest_serves(f, MSG_GUEST, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	f->b->ops->del(f->b, CTR, "", false, done, f);
	assert_int_equal(guest_hears(f, &fr), MSG_DELETE);
	assert_false(is_given_up(f));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(the_order_of_a_boot),
	    T(disks_are_attached_once),
	    T(a_disk_that_fails),
	    T(further_creations_wait_for_the_boot),
	    T(a_guest_that_cannot_prepare),
	    T(the_death_of_the_machine_ends_all),
	    T(a_machine_that_dies_in_its_boot),
	    T(a_machine_that_dies_between_hello_and_guest),
	    T(another_version),
	    T(shutdown_asks_the_agent),
	    T(shutdown_of_an_empty_machine_is_its_end),
	    T(what_is_discarded_goes_with_the_machine),
	    T(an_agent_that_stands_still),
	    T(an_agent_that_prepares_for_ever),
	    T(an_agent_that_works),
	    T(memory_comes_when_it_is_wanted),
	    T(idle_memory_goes_back),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
