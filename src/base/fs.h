/* Files: whole-file reads, atomic writes, trees, and resolution inside a root.
 *
 * Paths that come from users and images are never joined as strings: fs_open_in_root resolves them
 * with openat2(RESOLVE_IN_ROOT), so neither ".." nor an absolute symlink leaves the root
 * (CVE-2021-30465 and its kin). Kernels without openat2 are refused: fs_kernel_lacks. */
#pragma once

#include "base/macro.h"
#include "base/sbuf.h"
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Reads a whole file (any size st_size claims, /proc included) up to max bytes into *ret, NUL-terminated.
 * -EFBIG if larger. dirfd/path as openat. */
int fs_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);
/* First line without newline. */
int fs_read_line(int dirfd, const char *path, char **ret);
/* Which start of the kernel this is (/proc/sys/kernel/random/boot_id). Heap; "" if it does not say. */
char *fs_boot_id(void);
/* One write(2) to an existing file (cgroup, proc, sysfs). */
int fs_write(int dirfd, const char *path, const char *s);
/* Writes a temporary name beside path, fsyncs if durable, renames over it. Crash-safe. */
int fs_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool durable);
/* mkdir -p; existing directories are fine. */
int fs_mkdir_p(const char *path, mode_t mode);
/* Removes name below dirfd, whatever it is, without following symlinks or crossing mounts. Missing is fine.
 */
int fs_rm_rf(int dirfd, const char *name);
/* Opens path as seen from inside rootfd: openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS).
 * Retries EAGAIN a bounded number of times. flags get O_CLOEXEC. Returns the fd or -errno. */
int fs_open_in_root(int rootfd, const char *path, int flags, mode_t mode);
/* openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: for our own trees. */
int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* mkdir -p inside a root, component by component by fd; returns an O_PATH fd of the last directory. */
int fs_mkdir_in_root(int rootfd, const char *path, mode_t mode);
/* The names in a directory, sorted; heap vector, NULL if it is empty. The position of dirfd is not kept. */
int fs_list(int dirfd, char ***ret);
/* Copies the data extents of a regular file (SEEK_DATA, copy_file_range), keeping holes; sets the size. */
int fs_copy_sparse(int from, int to);
/* Sum of allocated bytes below name; a file with several names counts once (du). */
int fs_du(int dirfd, const char *name, uint64_t *ret);
/* 0, or -ENOSPC if fd's file system has hardly any room left: 1 % of it, at most 64 MiB, and 1 % of its
 * inodes, at most 1000. Strangers' bytes leave that to the engine. */
int fs_check_room(int fd);
bool fs_exists(const char *path);
/* The system call insula cannot do without and the kernel (or a filter around us) lacks: "NAME (Linux N.N)".
 * NULL if all are there. */
const char *fs_kernel_lacks(void);

/* Lexical path helpers. */
char *path_join(const char *a, const char *b);
const char *path_basename(const char *p);
bool path_is_absolute(const char *p);
/* Cleans "//", "/./", "/../" lexically; for absolute container paths shown to users. Heap string. */
char *path_clean(const char *p);
