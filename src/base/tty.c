#include "base/tty.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

static struct termios saved;
static volatile sig_atomic_t saved_fd = -1;

void tty_restore(void)
{
	int fd = saved_fd;

	if (fd >= 0) {
		saved_fd = -1;
		(void)tcsetattr(fd, TCSANOW, &saved);
	}
}

static void on_fatal(int signo)
{
	tty_restore();
	/* SA_RESETHAND has put the default back: die of the same signal. */
	raise(signo);
}

int tty_raw(int fd)
{
	static const int fatal[] = {SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV,
				    SIGBUS,  SIGILL, SIGFPE,  SIGINT};
	static bool registered;
	struct termios raw;

	if (tcgetattr(fd, &saved) < 0)
		return -errno;
	raw = saved;
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (!registered) {
		struct sigaction sa = { .sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND }, old;

		registered = true;
		atexit(tty_restore);
		for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
			/* A handler the program has set itself is its own affair. */
			if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
				(void)sigaction(fatal[i], &sa, NULL);
	}
	saved_fd = fd;
	return tcsetattr(fd, TCSANOW, &raw) < 0 ? -errno : 0;
}

int tty_get_size(int fd, unsigned *ret_rows, unsigned *ret_cols)
{
	struct winsize ws;

	if (ioctl(fd, TIOCGWINSZ, &ws) < 0)
		return -errno;
	*ret_rows = ws.ws_row;
	*ret_cols = ws.ws_col;
	return 0;
}

int tty_set_size(int fd, unsigned rows, unsigned cols)
{
	struct winsize ws = {.ws_row = (unsigned short)MIN(rows, 65535u),
			     .ws_col = (unsigned short)MIN(cols, 65535u)};

	return ioctl(fd, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

int tty_parse_detach_keys(const char *spec, unsigned char ret[16], size_t *ret_len)
{
	_cleanup_strv_ char **parts = strv_split(spec, ",");
	size_t n = 0;

	for (char **p = parts; p && *p; p++) {
		const char *k = *p;

		if (n == 16)
			return -E2BIG;
		if (str_starts(k, "ctrl-") && strlen(k) == 6) {
			char c = k[5];

			if (c >= 'a' && c <= 'z')
				ret[n++] = (unsigned char)(c - 'a' + 1);
			else if (c && strchr("@[\\]^_", c))
				ret[n++] = (unsigned char)(c == '@' ? 0 : c - '[' + 27);
			else
				return -EINVAL;
		} else if (strlen(k) == 1) {
			ret[n++] = (unsigned char)*k;
		} else {
			return -EINVAL;
		}
	}
	*ret_len = n;
	return 0;
}
