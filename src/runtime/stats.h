/* What a container uses, read from its control groups; the same numbers whichever cgroup version the host
 * has. A value that the host does not keep is 0; a limit that is not set is UINT64_MAX. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rt_usage { uint64_t usage, max, failcnt, limit; };	/* max: the peak */
struct rt_stat_item { char *key; uint64_t value; };
/* One counter of a block device. op: "Read", "Write", "Sync", "Async", "Discard", "Total" (v1), lower case
 * without the sums on v2. */
struct rt_io { uint64_t major, minor, value; char op[12]; };
struct rt_ios { struct rt_io *v; size_t n; };
struct rt_hugetlb { char *page_size; struct rt_usage u; };
struct rt_netif {
	char *name;
	uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped;
};
/* Pressure stall information (v2): shares in hundredths of a percent, total in microseconds. */
struct rt_psi { uint64_t avg10, avg60, avg300, total; };

struct rt_stats {
	struct {
		uint64_t total_ns, user_ns, system_ns;
		uint64_t *percpu_ns;		/* v1 only */
		size_t n_percpu;
		uint64_t periods, throttled_periods, throttled_ns;
		struct rt_psi psi_some, psi_full;
	} cpu;
	struct {
		struct rt_usage memory, swap, kernel, kernel_tcp; /* swap: v1 counts memory in it */
		uint64_t oom_kills;
		struct rt_stat_item *stat;	/* memory.stat */
		size_t n_stat;
		struct rt_psi psi_some, psi_full;
	} memory;
	struct { uint64_t current, limit; } pids;
	struct { struct rt_ios service_bytes, serviced; struct rt_psi psi_some, psi_full; } io;
	struct rt_hugetlb *hugetlb;
	size_t n_hugetlb;
	struct rt_netif *net;		/* of the network namespace of the container's init, without "lo" */
	size_t n_net;
};

void rt_stats_done(struct rt_stats *s);
#define _cleanup_rt_stats_ _cleanup_(rt_stats_done)
/* The value of a key of memory.stat, 0 if absent. */
uint64_t rt_stats_memory(const struct rt_stats *s, const char *key);
