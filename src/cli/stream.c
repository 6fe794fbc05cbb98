#include "cli/stream.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include "base/tty.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

/* What docker proxies, less what a program gets for its own faults or its own terminal. */
static const struct { int signo; const char *name; } proxied[] = {
	{ SIGHUP, "HUP" }, { SIGINT, "INT" }, { SIGQUIT, "QUIT" }, { SIGUSR1, "USR1" }, { SIGUSR2, "USR2" },
	{ SIGALRM, "ALRM" }, { SIGTERM, "TERM" }, { SIGCONT, "CONT" }, { SIGTSTP, "TSTP" },
};

enum { TX_MAX = 256 << 10, RESIZE_TRIES = 10, RESIZE_DELAY_MS = 10, FORCE_AFTER = 3 };

int stream_check_tty(bool attach_stdin, bool tty, struct err *e)
{
	if (attach_stdin && tty && !isatty(0))
		return err_msg(e, ERR_INVALID, -ENOTTY, "the input device is not a TTY");
	return 0;
}

int stream_open(struct cli *c, struct stream *s, const char *target, const struct json *body, struct err *e)
{
	_cleanup_free_ char *text = body ? json_dump(body) : NULL;
	struct httpc_request req = {
		.method = "POST", .target = target, .body = text, .body_len = text ? strlen(text) : 0,
		.content_type = text ? "application/json" : "text/plain", .upgrade = true,
	};
	struct httpc *h;
	int r = api_open(c, &req, &h, NULL, e);

	if (r < 0)
		return r;
	s->fd = httpc_hijack(h, &s->preread);
	httpc_free(h);
	return 0;
}

int stream_prepare(struct stream *s, struct err *e)
{
	sigset_t set;
	int r;

	if (tty_parse_detach_keys(str_empty(s->detach_keys) ? "ctrl-p,ctrl-q" : s->detach_keys, s->keys,
				  &s->n_keys) < 0)
		return err_msg(e, ERR_INVALID, 0, "invalid detach keys (%s)", s->detach_keys);
	sigemptyset(&set);
	if (s->tty)
		sigaddset(&set, SIGWINCH);
	for (size_t i = 0; s->sig_proxy && i < ARRAY_SIZE(proxied); i++)
		sigaddset(&set, proxied[i].signo);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->sigfd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "signalfd");
	r = fd_set_nonblock(s->fd, true);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "the daemon's stream");
	if (s->tty && s->with_stdin && isatty(0)) {
		r = tty_raw(0);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "cannot set the terminal to raw mode");
	}
	if (s->tty && isatty(1))
		s->resize_tries = RESIZE_TRIES;
	return 0;
}

void stream_finish(struct stream *s)
{
	tty_restore();
	fd_close(&s->fd);
	fd_close(&s->sigfd);
	sbuf_done(&s->preread);
	sbuf_done(&s->tx);
	free(s->resize_path);
	s->resize_path = NULL;
}

static void resize(struct cli *c, struct stream *s)
{
	_cleanup_free_ char *url = NULL;
	unsigned rows, cols;

	if (tty_get_size(1, &rows, &cols) < 0 || !s->resize_path || !rows || !cols) {
		s->resize_tries = 0;
		return;
	}
	url = xasprintf("%s?h=%u&w=%u", s->resize_path, rows, cols);
	s->resize_tries = api_call(c, "POST", url, NULL, NULL, NULL) < 0 ? s->resize_tries - 1 : 0;
}

static int proxy_signal(struct cli *c, struct stream *s, int signo)
{
	for (size_t i = 0; i < ARRAY_SIZE(proxied); i++) {
		_cleanup_free_ char *suffix = NULL, *url = NULL;

		if (proxied[i].signo != signo)
			continue;
		suffix = xasprintf("/kill?signal=%s", proxied[i].name);
		url = url_path("/containers/", s->container, suffix);
		(void)api_call(c, "POST", url, NULL, NULL, NULL);
	}
	if ((signo == SIGINT || signo == SIGTERM) && ++s->n_terminations >= FORCE_AFTER) {
		tty_restore();
		fprintf(stderr, "\ngot %d SIGTERM/SIGINTs, forcefully exiting\n", FORCE_AFTER);
		exit(1);
	}
	return 0;
}

static void on_signals(struct cli *c, struct stream *s)
{
	struct signalfd_siginfo si;

	while (read(s->sigfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGWINCH) {
			s->resize_tries = RESIZE_TRIES;
			resize(c, s);
		} else {
			proxy_signal(c, s, si.ssi_signo);
		}
	}
}

/* Looks for the detach keys; what is not part of them goes to tx. True if they were completed. */
static bool scan_keys(struct stream *s, const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s->n_keys && p[i] == s->keys[s->n_matched]) {
			if (++s->n_matched == s->n_keys)
				return true;
			continue;
		}
		if (s->n_matched) {
			sbuf_add(&s->tx, s->keys, s->n_matched);
			s->n_matched = 0;
			i--;
			continue;
		}
		sbuf_add(&s->tx, &p[i], 1);
	}
	return false;
}

/* 1 if the user detached. */
static int on_stdin(struct stream *s)
{
	unsigned char buf[32768];
	ssize_t n = RETRY(read(0, buf, sizeof(buf)));

	if (n <= 0) {
		s->stdin_done = true;
		return 0;
	}
	if (s->tty && isatty(0))
		return scan_keys(s, buf, n);
	sbuf_add(&s->tx, buf, n);
	return 0;
}

static void flush_tx(struct stream *s)
{
	while (s->tx.len > 0) {
		ssize_t n = RETRY(send(s->fd, s->tx.buf, s->tx.len, MSG_NOSIGNAL));

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			/* The other end reads no more; its output may still come. */
			s->stdin_done = true;
			sbuf_reset(&s->tx);
			break;
		}
		sbuf_consume(&s->tx, n);
	}
	if (s->stdin_done && !s->write_closed) {
		s->write_closed = true;
		shutdown(s->fd, SHUT_WR);
	}
}

/* Bytes read, 0 at the end of the stream. */
static ssize_t on_output(struct stream *s)
{
	char buf[65536];
	ssize_t n = RETRY(recv(s->fd, buf, sizeof(buf), 0));
	int r;

	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	r = n > 0 ? demux_write(&s->demux, s->tty, buf, n) : 0;
	return r < 0 ? r : n;
}

int stream_run(struct cli *c, struct stream *s, struct err *e)
{
	int r = demux_write(&s->demux, s->tty, s->preread.buf, s->preread.len);

	s->stdin_done = !s->with_stdin;
	if (r >= 0 && s->resize_tries)
		resize(c, s);
	while (r >= 0) {
		struct pollfd p[] = {
			{ .fd = s->fd, .events = POLLIN },
			{ .fd = s->sigfd, .events = POLLIN },
			{ .fd = s->stdin_done || s->tx.len > TX_MAX ? -1 : 0, .events = POLLIN },
		};
		int n, delay = s->resize_tries ? RESIZE_DELAY_MS * (RESIZE_TRIES - s->resize_tries + 1) : -1;

		flush_tx(s);
		if (s->tx.len > 0)
			p[0].events |= POLLOUT;
		n = poll(p, ARRAY_SIZE(p), delay);
		if (n < 0 && errno != EINTR)
			return err_set(e, ERR_SYSTEM, -errno, "poll");
		if (n == 0 && s->resize_tries)
			resize(c, s);
		if (n <= 0)
			continue;
		if (p[1].revents)
			on_signals(c, s);
		if (p[2].revents && on_stdin(s))
			return 1;
		if (p[0].revents & (POLLIN | POLLHUP | POLLERR)) {
			ssize_t k = on_output(s);

			if (k == 0)
				return 0;
			if (k < 0 && k != -EAGAIN)
				r = k;
		}
	}
	return err_set(e, ERR_SYSTEM, r, "copying the container's output");
}
