/* Terminals. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>
#include <termios.h>

/* Puts fd in raw mode, saving the old state; restored by tty_restore, at exit() and on fatal signals
 * (SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV...), so that no exit path leaves a raw terminal. */
int tty_raw(int fd);
void tty_restore(void);
int tty_get_size(int fd, unsigned *ret_rows, unsigned *ret_cols);
int tty_set_size(int fd, unsigned rows, unsigned cols);
/* Parses Docker's detach key spec ("ctrl-p,ctrl-q", "a", "ctrl-@") into bytes; -EINVAL if malformed. */
int tty_parse_detach_keys(const char *spec, unsigned char ret[16], size_t *ret_len);
