#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FD_STAGING 3
#define FD_CONFIG 4
#define CONFIG_MAX (1u << 20)

static int read_config(struct json **ret, struct err *e)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(CONFIG_MAX);
	char chunk[4096];
	ssize_t n;

	while ((n = RETRY(read(FD_CONFIG, chunk, sizeof chunk))) > 0)
		sbuf_add(&b, chunk, (size_t)n);
	if (n < 0 || !sbuf_ok(&b))
		return err_msg(e, ERR_INVALID, -EBADMSG, "the image's config cannot be read");
	return json_parse(sbuf_str(&b), b.len, ret, e);
}

static int run_load(const struct json *config, struct json *result, struct err *e)
{
	return load_archive(FD_STAGING, STDIN_FILENO, result, e);
}

static int run_import(const struct json *config, struct json *result, struct err *e)
{
	return import_archive(FD_STAGING, STDIN_FILENO, config, result, e);
}

static int run_pull(const struct json *config, struct json *result, struct err *e)
{
	return load_layout(FD_STAGING, STDIN_FILENO, config, result, e);
}

static int run_save(const struct json *config, struct json *result, struct err *e)
{
	return save_archive(FD_STAGING, STDOUT_FILENO, config, e);
}

static const struct mode {
	const char *name;
	bool config;		/* reads a document from FD_CONFIG */
	int (*run)(const struct json *config, struct json *result, struct err *e);
	bool raw;		/* standard output is no result: errors go to the log */
} modes[] = {
    {"load", false, run_load},
    {"import", true, run_import},
    {"pull", true, run_pull},
    {"save", true, run_save, true},
};

static const struct mode *mode_find(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(modes); i++)
		if (streq(modes[i].name, name))
			return &modes[i];
	return NULL;
}

static int run(const struct mode *mode, struct json *result, struct err *e)
{
	_cleanup_json_ struct json *config = NULL;
	int r = mode->config ? read_config(&config, e) : 0;

	if (r == 0)
		r = sandbox_enter(FD_STAGING, e);
	return r < 0 ? r : mode->run(config, result, e);
}

int main(int argc, char **argv)
{
	_cleanup_json_ struct json *result = json_object();
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *text = NULL;
	const struct mode *mode;
	int r;

	log_init("insula-puller", LOG_LVL_INFO);
	mode = argc == 2 ? mode_find(argv[1]) : NULL;
	if (!mode) {
		fprintf(stderr, "usage: insula-puller load|import|pull|save (started by insulad only)\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	r = run(mode, result, &e);
	if (mode->raw) {
		if (r < 0)
			log_warn("%s: %s", mode->name, err_text(&e));
		return r < 0;
	}
	if (r < 0) {
		json_set_str(result, "error", err_text(&e));
		json_set_int(result, "kind", e.kind);
		json_set_int(result, "errno", -r);
	}
	text = json_dump(result);
	if (fd_write_full(STDOUT_FILENO, text, strlen(text)) < 0)
		return 1;
	return r < 0 ? 1 : 0;
}
