/* Maps of user and group ids, as text. */
#include "base/alloc.h"
#include "base/strv.h"
#include "oci/runtime_spec.h"

#include <errno.h>
#include <string.h>

bool oci_id_maps_find(const struct oci_id_maps *maps, uint32_t inside, uint32_t *ret)
{
	for (size_t i = 0; i < maps->n; i++) {
		const struct oci_id_map *m = &maps->v[i];

		if (inside >= m->inside && inside - m->inside < m->size) {
			*ret = m->outside + (inside - m->inside);
			return true;
		}
	}
	return false;
}

char *oci_id_maps_text(const struct oci_id_maps *maps)
{
	_cleanup_strv_ char **lines = NULL;

	for (size_t i = 0; i < maps->n; i++)
		strv_addf(&lines, "%u %u %u\n", maps->v[i].inside, maps->v[i].outside, maps->v[i].size);
	return strv_join(lines, "");
}

/* "[@]INSIDE-OUTSIDE-SIZE"; with '@' OUTSIDE is an id of the container's user namespace. */
static int parse_range(const char *text, const struct oci_id_maps *container, struct oci_id_maps *to)
{
	bool relative = *text == '@';
	_cleanup_strv_ char **words = strv_split(text + relative, "-");
	uint64_t v[3];

	for (size_t i = 0; i < 3; i++)
		if (strv_len(words) != 3 || str_to_u64(words[i], &v[i]) < 0 || v[i] > UINT32_MAX)
			return -EINVAL;
	to->v = xrealloc(to->v, to->n + 1, sizeof *to->v);
	to->v[to->n] = (struct oci_id_map){ (uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2] };
	if (relative && (!container || !oci_id_maps_find(container, (uint32_t)v[1], &to->v[to->n].outside)))
		return -EINVAL;
	to->n++;
	return 0;
}

int oci_id_maps_parse(const char *text, const struct oci_id_maps *own_uids,
		      const struct oci_id_maps *own_gids, struct oci_id_maps *uids, struct oci_id_maps *gids)
{
	_cleanup_strv_ char **parts = strv_split(text, ";");

	for (char **p = parts; p && *p; p++) {
		bool of_groups = str_starts(*p, "gids=");
		_cleanup_strv_ char **ranges = NULL;

		if (!of_groups && !str_starts(*p, "uids="))
			return -EINVAL;
		ranges = strv_split(*p + strlen("uids="), "#");
		for (char **range = ranges; range && *range; range++)
			if (parse_range(*range, of_groups ? own_gids : own_uids, of_groups ? gids : uids) < 0)
				return -EINVAL;
	}
	return uids->n && gids->n ? 0 : -EINVAL;
}
