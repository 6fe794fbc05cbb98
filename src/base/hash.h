/* String-keyed hash map and intrusive list. Keys are copied; values are the caller's. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

struct hmap_entry { char *key; void *value; struct hmap_entry *next; };
struct hmap { struct hmap_entry **buckets; size_t n_buckets, len; };
#define HMAP_INIT {0}

void hmap_done(struct hmap *m);					/* does not free values */
void *hmap_get(const struct hmap *m, const char *key);
void hmap_set(struct hmap *m, const char *key, void *value);	/* replaces */
void *hmap_remove(struct hmap *m, const char *key);		/* returns the value or NULL */
/* Iteration: `struct hmap_iter it = {0}; while (hmap_next(m, &it)) it.entry->...`. Removing the
 * current entry is allowed, adding is not. */
struct hmap_iter { size_t bucket; struct hmap_entry *entry, *next; bool started; };
bool hmap_next(const struct hmap *m, struct hmap_iter *it);

struct list { struct list *prev, *next; };
static inline void list_init(struct list *l) { l->prev = l->next = l; }
static inline bool list_empty(const struct list *l) { return l->next == l || !l->next; }
static inline bool list_single(const struct list *l) { return !list_empty(l) && l->next == l->prev; }
static inline void list_append(struct list *head, struct list *n)
{ n->prev = head->prev; n->next = head; head->prev->next = n; head->prev = n; }
static inline void list_remove(struct list *n)
{ if (n->next) { n->prev->next = n->next; n->next->prev = n->prev; n->prev = n->next = NULL; } }
#define list_first(head, type, member) (list_empty(head) ? NULL : container_of((head)->next, type, member))
#define list_for_each(it, head, type, member)                                                                \
	for (type *it = container_of((head)->next, type, member),                                            \
		  *_n_##it = container_of(it->member.next, type, member);                                    \
	     &it->member != (head); it = _n_##it, _n_##it = container_of(it->member.next, type, member))
