/* The event loop of every insula process: one epoll with descriptors, timers (timerfd), signals
 * (signalfd), child processes (pidfd) and deferred calls. Single-threaded; callbacks run from
 * loop_run in the order the kernel reports, deferred calls after them.
 *
 * Ownership: each add returns a source; loop_source_free() removes it (NULL is fine) and may be
 * called from inside any callback, its own included: the memory goes after the current round.
 * The loop never closes descriptors it was given. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/types.h>
#include <sys/wait.h>

struct loop;
struct loop_source;

/* events: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR... level-triggered. */
typedef void (*loop_io_fn)(struct loop_source *s, int fd, uint32_t events, void *userdata);
typedef void (*loop_timer_fn)(struct loop_source *s, void *userdata);
typedef void (*loop_signal_fn)(struct loop_source *s, const struct signalfd_siginfo *si, void *userdata);
typedef void (*loop_child_fn)(struct loop_source *s, const siginfo_t *si, void *userdata);
typedef void (*loop_defer_fn)(void *userdata);

int loop_new(struct loop **ret);
void loop_free(struct loop *l);
DEFINE_CLEANUP(struct loop *, loop_free)
#define _cleanup_loop_ _cleanup_(loop_freep)

int loop_add_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *userdata,
		struct loop_source **ret);
/* Changes the event mask; 0 keeps the source but silences it (errors and hang-ups too). */
int loop_io_set(struct loop_source *s, uint32_t events);
/* First fires after delay_us, then every period_us (0 = once; a one-shot source still needs free). */
int loop_add_timer(struct loop *l, uint64_t delay_us, uint64_t period_us, loop_timer_fn fn, void *userdata,
		   struct loop_source **ret);
int loop_timer_set(struct loop_source *s, uint64_t delay_us,
		   uint64_t period_us); /* re-arms; delay 0 disarms */
/* Blocks the signal for the process and delivers it here. */
int loop_add_signal(struct loop *l, int signo, loop_signal_fn fn, void *userdata, struct loop_source **ret);
/* Calls fn once when the child held by pidfd has exited, after reaping it (waitid(P_PIDFD)).
 * The caller keeps owning pidfd. */
int loop_add_child(struct loop *l, int pidfd, loop_child_fn fn, void *userdata, struct loop_source **ret);
/* Runs fn once, after the current round of events. */
void loop_defer(struct loop *l, loop_defer_fn fn, void *userdata);
void loop_source_free(struct loop_source *s);
/* Runs until loop_exit. Returns its code, or -errno if epoll fails. */
int loop_run(struct loop *l);
/* One round, waiting at most timeout_ms (-1 = for ever). For tests and for draining at exit. */
int loop_run_once(struct loop *l, int timeout_ms);
void loop_exit(struct loop *l, int code);

uint64_t now_mono_us(void);
uint64_t now_real_ns(void);
