#include "base/hash.h"
#include "base/alloc.h"

#include <string.h>

static size_t hash_str(const char *s)
{
	uint64_t h = 1469598103934665603u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211u;
	return (size_t)(h ^ (h >> 32));
}

static struct hmap_entry **slot(const struct hmap *m, const char *key)
{
	struct hmap_entry **p = &m->buckets[hash_str(key) % m->n_buckets];

	while (*p && strcmp((*p)->key, key))
		p = &(*p)->next;
	return p;
}

static void grow(struct hmap *m)
{
	size_t n = m->n_buckets ? m->n_buckets * 2 : 16;
	struct hmap_entry **fresh = new_array(struct hmap_entry *, n);

	for (size_t i = 0; i < m->n_buckets; i++)
		for (struct hmap_entry *e = m->buckets[i], *next; e; e = next) {
			struct hmap_entry **to = &fresh[hash_str(e->key) % n];

			next = e->next;
			e->next = *to;
			*to = e;
		}
	free(m->buckets);
	m->buckets = fresh;
	m->n_buckets = n;
}

void hmap_done(struct hmap *m)
{
	for (size_t i = 0; i < m->n_buckets; i++)
		for (struct hmap_entry *e = m->buckets[i], *next; e; e = next) {
			next = e->next;
			free(e->key);
			free(e);
		}
	free(m->buckets);
	*m = (struct hmap)HMAP_INIT;
}

void *hmap_get(const struct hmap *m, const char *key)
{
	struct hmap_entry *e = m->n_buckets ? *slot(m, key) : NULL;

	return e ? e->value : NULL;
}

void hmap_set(struct hmap *m, const char *key, void *value)
{
	struct hmap_entry **p, *e;

	if (m->len >= m->n_buckets)
		grow(m);
	p = slot(m, key);
	if (*p) {
		(*p)->value = value;
		return;
	}
	e = new0(struct hmap_entry);
	e->key = xstrdup(key);
	e->value = value;
	*p = e;
	m->len++;
}

void *hmap_remove(struct hmap *m, const char *key)
{
	struct hmap_entry **p = m->n_buckets ? slot(m, key) : NULL, *e;
	void *value;

	if (!p || !*p)
		return NULL;
	e = *p;
	*p = e->next;
	value = e->value;
	free(e->key);
	free(e);
	m->len--;
	return value;
}

bool hmap_next(const struct hmap *m, struct hmap_iter *it)
{
	if (!it->started) {
		it->started = true;
		it->next = NULL;
	}
	while (!it->next) {
		if (it->bucket >= m->n_buckets)
			return false;
		it->next = m->buckets[it->bucket++];
	}
	it->entry = it->next;
	it->next = it->entry->next;
	return true;
}
