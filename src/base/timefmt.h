/* Times and sizes as Docker writes and reads them. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

/* "2006-01-02T15:04:05.999999999Z" (trailing zeros of the fraction dropped, as Go's RFC3339Nano). ns=0:
 * "0001-01-01T00:00:00Z". */
char *time_rfc3339(uint64_t real_ns);
/* The same with exactly nine digits (json log lines, logs -t). buf of 40. */
void time_rfc3339_fixed(uint64_t real_ns, char buf[40]);
int time_parse_rfc3339(const char *s, uint64_t *ret_ns);
/* "10s", "1h30m", "5m" durations of Go, in nanoseconds. */
int time_parse_duration(const char *s, uint64_t *ret_ns);
/* --since/--until: unix seconds[.nanos], RFC 3339 or date forms, or a Go duration before now. */
int time_parse_since(const char *s, uint64_t now_ns, uint64_t *ret_ns);
/* "2 minutes", "About an hour", "Less than a second" (go-units HumanDuration). Heap string. */
char *time_human_duration(uint64_t seconds);

/* "512m", "1g", "1.5GiB", "64k": go-units RAMInBytes (powers of 1024). -1 allowed if neg_ok. */
int size_parse_ram(const char *s, bool neg_ok, int64_t *ret);
/* "1.2MB" (powers of 1000, 3 significant digits: go-units HumanSize with %.4g / HumanSizeWithPrecision 3).
 * Heap string. */
char *size_human(double bytes);
/* "1.5GiB" (powers of 1024, BytesSize). Heap string. */
char *size_human_bytes(double bytes);
