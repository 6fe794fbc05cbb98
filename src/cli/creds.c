#include "cli/creds.h"

#include "base/alloc.h"
#include "base/base64.h"
#include "base/fs.h"
#include "base/sbuf.h"
#include "base/strv.h"
#include "cli/cli.h"
#include "cli/contexts.h"
#include "cli/program.h"
#include "cli/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define HUB "https://index.docker.io/v1/"
#define ANSWER_MAX (1u << 20)

char *creds_server(const char *address)
{
	const char *s = strstr(address ?: "", "://");
	_cleanup_free_ char *host = NULL;

	s = s ? s + 3 : address ?: "";
	host = xstrndup(s, strcspn(s, "/"));
	if (str_empty(host) || streq(host, "docker.io") || streq(host, "index.docker.io"))
		return xstrdup(HUB);
	return TAKE_PTR(host);
}

char *creds_server_of_image(const char *image)
{
	_cleanup_free_ char *canonical = reference_canonical(image);
	_cleanup_free_ char *host = xstrndup(canonical, strcspn(canonical, "/"));

	return creds_server(host);
}

/* --- the file --- */

/* The helper for a server: its own, else the one for all. NULL = the file. */
static const char *helper_of(const struct json *config, const char *server)
{
	return json_get_str(json_get(config, "credHelpers"), server) ?: json_get_str(config, "credsStore");
}

static struct json *from_file(const struct json *config, const char *server)
{
	const struct json *entry = json_get(json_get(config, "auths"), server);
	_cleanup_free_ char *pair = NULL, *user = NULL;
	struct json *auth;
	char *colon;
	size_t n;

	if (str_empty(json_get_str(entry, "auth")) ||
	    base64_decode(json_get_str(entry, "auth"), &pair, &n) < 0 || !(colon = strchr(pair, ':')))
		return NULL;
	user = xstrndup(pair, (size_t)(colon - pair));
	auth = json_object();
	json_set_str(auth, "username", user);
	if (!str_empty(json_get_str(entry, "identitytoken")))
		json_set_str(auth, "identitytoken", json_get_str(entry, "identitytoken"));
	else
		json_set_str(auth, "password", colon + 1);
	json_set_str(auth, "serveraddress", server);
	return auth;
}

/* --- helpers: docker-credential-NAME get|store|erase, the request on standard input --- */

static char *find_helper(const char *name)
{
	_cleanup_strv_ char **dirs = strv_split(getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin", ":");

	for (char **d = dirs; d && *d; d++) {
		_cleanup_free_ char *path = xasprintf("%s/docker-credential-%s", *d, name);

		if (!strchr(name, '/') && access(path, X_OK) == 0)
			return TAKE_PTR(path);
	}
	return NULL;
}

static int run_helper(const char *name, const char *verb, const char *input, struct sbuf *out, struct err *e)
{
	_cleanup_free_ char *path = find_helper(name);
	char *argv[] = { path, (char *)verb, NULL };
	int code, r;

	if (!path)
		return err_msg(
		    e, ERR_INVALID, -ENOENT,
		    "error getting credentials - err: exec: \"docker-credential-%s\": executable file not "
		    "found in $PATH",
		    name);
	r = program_run(path, argv, input, out, &code, e);
	if (r < 0 || code == 0)
		return r;
	return err_msg(e, ERR_SYSTEM, -EIO, "error %s credentials - err: exit status %d, out: `%s`",
		       streq(verb, "store") ? "storing" : "getting", code, sbuf_str(out));
}

static struct json *from_helper(const char *helper, const char *server, struct err *e)
{
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(ANSWER_MAX);
	_cleanup_json_ struct json *answer = NULL;
	const char *user, *secret;
	struct json *auth;

	/* "credentials not found" is no error, and helpers have no other way to say it. */
	if (run_helper(helper, "get", server, &out, e) < 0) {
		if (strstr(sbuf_str(&out), "credentials not found"))
			err_clear(e);
		return NULL;
	}
	if (json_parse(out.buf, out.len, &answer, NULL) < 0)
		return NULL;
	user = json_get_str(answer, "Username");
	secret = json_get_str(answer, "Secret");
	if (str_empty(user) || !secret)
		return NULL;
	auth = json_object();
	if (streq(user, "<token>")) {
		json_set_str(auth, "identitytoken", secret);
	} else {
		json_set_str(auth, "username", user);
		json_set_str(auth, "password", secret);
	}
	json_set_str(auth, "serveraddress", server);
	return auth;
}

struct json *creds_get(const char *server, struct err *e)
{
	_cleanup_json_ struct json *config = config_read();
	const char *helper = helper_of(config, server);

	return helper ? from_helper(helper, server, e) : from_file(config, server);
}

char *creds_header(const char *image)
{
	_cleanup_free_ char *server = creds_server_of_image(image), *text = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_json_ struct json *auth = creds_get(server, &e);

	if (e.kind)
		fprintf(stderr, "WARNING: %s\n", err_text(&e));
	text = auth ? json_dump(auth) : xstrdup("{}");
	return base64_url_encode(text, strlen(text));
}

bool creds_plain(const char *server, char **ret_path)
{
	_cleanup_json_ struct json *config = config_read();

	*ret_path = config_path();
	return !helper_of(config, server);
}

int creds_store(const struct json *auth, struct err *e)
{
	_cleanup_json_ struct json *config = config_read();
	const char *server = json_get_str(auth, "serveraddress"),
		   *token = json_get_str(auth, "identitytoken"), *user = json_get_str(auth, "username"),
		   *password = json_get_str(auth, "password"), *helper = helper_of(config, server);
	struct json *auths = json_get(config, "auths"), *entry = json_object();

	if (json_type(auths) != JSON_OBJECT)
		auths = json_set(config, "auths", json_object());
	json_set(auths, server, entry);
	if (helper) {
		_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(ANSWER_MAX);
		_cleanup_json_ struct json *o = json_object();
		_cleanup_free_ char *text = NULL;
		int r;

		json_set_str(o, "ServerURL", server);
		json_set_str(o, "Username", token ? "<token>" : user);
		json_set_str(o, "Secret", token ?: password);
		text = json_dump(o);
		r = run_helper(helper, "store", text, &out, e);
		if (r < 0)
			return r;
	} else {
		_cleanup_free_ char *text = NULL,
				    *pair = xasprintf("%s:%s", user ?: "", token ? "" : password ?: "");

		text = base64_encode(pair, strlen(pair));
		json_set_str(entry, "auth", text);
		if (token)
			json_set_str(entry, "identitytoken", token);
	}
	return config_write(config, e);
}

int creds_erase(const char *server, struct err *e)
{
	_cleanup_json_ struct json *config = config_read();
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(ANSWER_MAX);
	const char *helper = helper_of(config, server);
	struct json *auths = json_get(config, "auths");
	int r = 0;

	if (!json_get(auths, server))
		return 0;
	if (helper)
		r = run_helper(helper, "erase", server, &out, e);
	json_del(auths, server);
	if (r == 0)
		r = config_write(config, e);
	return r < 0 ? r : 1;
}
