/* The paths of `cp`, by Docker's rules: what a trailing slash or "/." means, and under which name something
 * arrives. */
#pragma once

#include "base/err.h"
#include <stdbool.h>

struct cp_end {
	char *path;
	char *rename;		/* the name it should arrive under, where that is not its own; NULL */
	bool exists, is_dir;
};
void cp_end_done(struct cp_end *p);

/* "CONTAINER:PATH"; *ret_container NULL for a local path. */
void cp_split_arg(const char *arg, char **ret_container, char **ret_path);
/* Go's filepath.Base. */
char *cp_base(const char *path);
/* "/a/b" -> "/a", "b"; "/a/b/." -> "/a/b", ".". */
void cp_split(const char *path, char **ret_dir, char **ret_base);
bool cp_asserts_dir(const char *path);
/* Absolute; a trailing "/" or "/." stays. */
char *cp_absolute(const char *path);
/* A local source; follow: the target of a symbolic link instead of it. */
int cp_source(const char *path, bool follow, struct cp_end *ret, struct err *e);
/* A local destination, behind all symbolic links. */
int cp_destination(const char *path, struct cp_end *ret, struct err *e);
/* What a symbolic link's target is to be called when it was asked for as `path`; NULL: as it is. */
char *cp_rename(const char *path, char **resolved);

/* Where src goes: the directory to unpack in, and the names to exchange in the archive (both NULL: none). */
struct cp_plan { char *dir, *from, *to; };
int cp_plan_make(const struct cp_end *src, const struct cp_end *dst, struct cp_plan *ret, struct err *e);
void cp_plan_done(struct cp_plan *p);
