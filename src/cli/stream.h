/* The session with an attached container or exec: standard streams, terminal, window size, signals.
 *
 * stream_prepare before the process is started: from then on signals wait to be proxied and the terminal
 * is raw; stream_run after the start; stream_finish on every path. */
#pragma once

#include "cli/cli.h"
#include "cli/demux.h"
#include <errno.h>

struct stream {
	int fd;				/* the hijacked socket, owned */
	struct sbuf preread;		/* output that came with the head of the answer */
	bool tty;			/* raw output, no frames */
	bool with_stdin;
	bool sig_proxy;
	const char *container;		/* receives proxied signals */
	char *resize_path;		/* "/containers/ID/resize" or "/exec/ID/resize", owned */
	const char *detach_keys;	/* NULL = ctrl-p,ctrl-q */

	/* private */
	struct demux demux;
	struct sbuf tx;			/* from stdin, not yet sent */
	unsigned char keys[16];
	size_t n_keys, n_matched;
	int sigfd;
	int resize_tries;		/* left, after a failure (the pty may not exist yet) */
	int n_terminations;
	bool stdin_done, write_closed;
};
#define STREAM_INIT { .fd = -EBADF, .sigfd = -EBADF }

/* Opens the hijacked stream of target (POST, with body or NULL) into s. */
int stream_open(struct cli *c, struct stream *s, const char *target, const struct json *body, struct err *e);
int stream_prepare(struct stream *s, struct err *e);
/* Until the stream ends (0), the user detaches (1), or an error. */
int stream_run(struct cli *c, struct stream *s, struct err *e);
void stream_finish(struct stream *s);
/* "the input device is not a TTY", as docker checks it. */
int stream_check_tty(bool attach_stdin, bool tty, struct err *e);

/* wait.c: the exit code of a container through an open POST .../wait. */
int wait_open(struct cli *c, const char *id, const char *condition, struct httpc **ret, struct err *e);
/* Reads the answer. A daemon that goes away meanwhile is asked again when it is back (not for removed ones).
 */
int wait_result(struct cli *c, struct httpc *w, const char *id, int *ret_code, struct err *e);
/* 127, 126 or 125 from the daemon's message about a failed start. */
int start_error_code(const struct err *e);
