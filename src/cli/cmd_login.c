#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include "cli/creds.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>

static char *read_line(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n = getline(&line, &room, stdin);

	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		line[--n] = 0;
	if (n >= 0)
		return line;
	free(line);
	return NULL;
}

static char *ask_password(void)
{
	struct termios old, quiet;
	bool tty = tcgetattr(0, &old) == 0;
	char *line;

	fprintf(stderr, "Password: ");
	if (tty) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		(void)tcsetattr(0, TCSAFLUSH, &quiet);
	}
	line = read_line();
	if (tty) {
		(void)tcsetattr(0, TCSAFLUSH, &old);
		fprintf(stderr, "\n");
	}
	return line;
}

static char *all_of_stdin(void)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(64u << 10);
	char buf[4096];
	ssize_t n;

	while ((n = RETRY(read(0, buf, sizeof buf))) > 0)
		sbuf_add(&b, buf, (size_t)n);
	while (b.len && (b.buf[b.len - 1] == '\n' || b.buf[b.len - 1] == '\r'))
		b.len--;
	sbuf_putc(&b, 0);
	return sbuf_steal(&b);
}

struct login { char *user, *password; bool from_stdin; };

static int complete_login(struct login *l, const char *server, struct err *e)
{
	_cleanup_json_ struct json *known = NULL;

	if (l->from_stdin && l->password)
		return err_msg(e, ERR_INVALID, 0, "--password and --password-stdin are mutually exclusive");
	if (l->from_stdin && str_empty(l->user))
		return err_msg(e, ERR_INVALID, 0, "Must provide --username with --password-stdin");
	if (l->password)
		fprintf(stderr, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
	if (l->from_stdin)
		l->password = all_of_stdin();
	if (!l->user && !l->password) {
		known = creds_get(server, NULL);
		l->user = xstrdup(json_get_str(known, "username"));
		l->password = xstrdup(json_get_str(known, "password"));
		if (known)
			fprintf(stderr, "Authenticating with existing credentials...\n");
	}
	if (!isatty(0) && (!l->user || !l->password))
		return err_msg(e, ERR_INVALID, 0,
			       "Error: Cannot perform an interactive login from a non TTY device");
	if (!l->user) {
		fprintf(stderr, "Username: ");
		l->user = read_line();
	}
	if (!l->password)
		l->password = ask_password();
	if (str_empty(l->user))
		return err_msg(e, ERR_INVALID, 0, "Error: Non-null Username Required");
	if (str_empty(l->password))
		return err_msg(e, ERR_INVALID, 0, "Error: Password Required");
	return 0;
}

static int login(struct cli *c, struct login *l, const char *server, struct err *e)
{
	_cleanup_json_ struct json *auth = json_object(), *answer = NULL;
	_cleanup_free_ char *path = NULL;
	const char *token;
	int r;

	json_set_str(auth, "username", l->user);
	json_set_str(auth, "password", l->password);
	json_set_str(auth, "serveraddress", server);
	r = api_call(c, "POST", "/auth", auth, &answer, e);
	if (r < 0)
		return r;
	token = json_get_str(answer, "IdentityToken");
	if (!str_empty(token)) {
		json_set_str(auth, "identitytoken", token);
		json_del(auth, "password");
	}
	if (creds_plain(server, &path))
		fprintf(stderr, "WARNING! Your password will be stored unencrypted in %s.\n"
				"Configure a credential helper to remove this warning.\n", path ?: "");
	r = creds_store(auth, e);
	if (r == 0)
		printf("%s\n", json_get_str(answer, "Status") ?: "Login Succeeded");
	return r;
}

int cmd_login(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *server = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct login l = { 0 };
	int r;
	const struct opt opts[] = {
	    {'p', "password", OPT_STR, &l.password, "string", "Password or Personal Access Token (PAT)"},
	    {0, "password-stdin", OPT_BOOL, &l.from_stdin, NULL,
	     "Take the Password or Personal Access Token (PAT) from stdin"},
	    {'u', "username", OPT_STR, &l.user, "string", "Username"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 1, &args))
		return c->exit_code;
	server = creds_server(args[0]);
	r = complete_login(&l, server, &e);
	if (r == 0)
		r = login(c, &l, server, &e);
	free(l.user);
	free(l.password);
	return r < 0 ? cli_fail(&e) : 0;
}

int cmd_logout(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *server = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {OPT_END};
	int r;

	if (!cli_parse(c, opts, argc, argv, 0, 0, 1, &args))
		return c->exit_code;
	server = creds_server(args[0]);
	r = creds_erase(server, &e);
	if (r < 0)
		return cli_fail(&e);
	if (r == 0)
		printf("Not logged in to %s\n", server);
	else
		printf("Removing login credentials for %s\n", server);
	return 0;
}
