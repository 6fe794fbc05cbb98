/* Lines for systemd's journal, in its native protocol: one datagram an entry. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

struct journal;
/* fields: what each entry has beside its message: lines NAME=VALUE. -errno if nobody listens at path. */
int journal_open(const char *path, const char *fields, struct journal **ret);
void journal_free(struct journal *j);
/* One line; without its newline if it has one, else it is marked as a part. Never waits: what the journal
 * does not take is lost, and that is noted once. */
void journal_send(struct journal *j, bool is_err, const void *p, size_t n);
