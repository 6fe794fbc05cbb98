/* User namespaces without processes, for idmapped mounts. */
#pragma once

#include <sys/types.h>

/* A new one, whose maps write() has written for pid. The descriptor, or -errno, or what write() returned. */
int userns_open(int (*write)(pid_t pid, void *arg), void *arg);
