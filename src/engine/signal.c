/* Signal names as Docker takes them. */
#include "engine/container.h"

#include "base/strv.h"
#include <signal.h>
#include <string.h>
#include <strings.h>

static const struct { const char *name; int signo;
} names[] = {
    {"ABRT", SIGABRT},     {"ALRM", SIGALRM},   {"BUS", SIGBUS},   {"CHLD", SIGCHLD}, {"CLD", SIGCHLD},
    {"CONT", SIGCONT},     {"FPE", SIGFPE},     {"HUP", SIGHUP},   {"ILL", SIGILL},   {"INT", SIGINT},
    {"IO", SIGIO},         {"IOT", SIGIOT},     {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"POLL", SIGPOLL},
    {"PROF", SIGPROF},     {"PWR", SIGPWR},     {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV}, {"STKFLT", SIGSTKFLT},
    {"STOP", SIGSTOP},     {"SYS", SIGSYS},     {"TERM", SIGTERM}, {"TRAP", SIGTRAP}, {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU},   {"URG", SIGURG},   {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
    {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
};

#define RT_FIRST 34	/* as seen by programs of glibc */
#define RT_LAST 64

/* RTMIN, RTMIN+n, RTMAX, RTMAX-n */
static int parse_rt(const char *s, int *ret)
{
	bool min = !strncasecmp(s, "RTMIN", 5), max = !strncasecmp(s, "RTMAX", 5);
	uint64_t n = 0;

	if (!min && !max)
		return -1;
	if (s[5] && (s[5] != (min ? '+' : '-') || str_to_u64(s + 6, &n) < 0 || n > RT_LAST - RT_FIRST))
		return -1;
	*ret = min ? RT_FIRST + (int)n : RT_LAST - (int)n;
	return 0;
}

int signal_parse(const char *s, int *ret, struct err *err)
{
	const char *name = strncasecmp(s, "SIG", 3) ? s : s + 3;
	uint64_t n;

	if (str_to_u64(s, &n) == 0) {
		if (n < 1 || n > RT_LAST)
			return err_msg(err, ERR_INVALID, 0, "invalid signal: %s", s);
		*ret = (int)n;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcasecmp(names[i].name, name)) {
			*ret = names[i].signo;
			return 0;
		}
	if (parse_rt(name, ret) == 0)
		return 0;
	return err_msg(err, ERR_INVALID, 0, "invalid signal: %s", s);
}
