/* What the tables of the runtime configuration share: readers of the shapes that occur in several objects.
 * Internal to the files runtime_*.c of oci/. */
#pragma once

#include "oci/runtime_spec.h"

#define PATH_BUF 256
#define ITEMS_MAX 65536		/* elements of any array */

/* Each is a `call` of struct json_field; target is what the comment names. */

/* A field that is known and that insula does not implement: only an empty value passes. */
int field_refuse(const struct json *v, void *target, const char *path, struct err *e);
/* struct json *: an object as it stands. */
int field_json(const struct json *v, void *target, const char *path, struct err *e);
/* struct json *: an object whose values are strings. */
int field_str_map(const struct json *v, void *target, const char *path, struct err *e);
/* struct oci_kvs: the same, as an array of pairs. */
int field_kvs(const struct json *v, void *target, const char *path, struct err *e);
void oci_kvs_done(struct oci_kvs *k);
/* runtime_sched.c: struct oci_scheduler, struct oci_io_priority */
int field_scheduler(const struct json *v, void *target, const char *path, struct err *e);
int field_io_priority(const struct json *v, void *target, const char *path, struct err *e);

/* runtime_ns.c: struct oci_namespace[_OCI_NS_MAX], struct oci_time_offset[_OCI_CLOCK_MAX] */
int field_namespaces(const struct json *v, void *target, const char *path, struct err *e);
/* struct oci_id_maps */
int field_id_maps(const struct json *v, void *target, const char *path, struct err *e);
int field_time_offsets(const struct json *v, void *target, const char *path, struct err *e);

/* An array of objects, each of `size` zeroed bytes filled by the table; target has the shape
 * struct { T *v; size_t n; }. */
int field_vec(const struct json *v, void *target, size_t size, const struct json_field *table,
	      const char *path, struct err *e);
#define DEFINE_READ_VEC(name, type, table) \
	static int name(const struct json *v, void *target, const char *path, struct err *e) \
	{ \
		return field_vec(v, target, sizeof(struct type), table, path, e); \
	}

/* runtime_resources.c: linux.resources, based on struct oci_resources. */
extern const struct json_field oci_resources_fields[];
/* struct oci_rdt */
int field_rdt(const struct json *v, void *target, const char *path, struct err *e);
void oci_rdt_done(struct oci_rdt *r);
