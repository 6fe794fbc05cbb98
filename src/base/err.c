#include "base/err.h"
#include "base/alloc.h"

#include <errno.h>
#include <string.h>

static const int kind_errno[_ERR_KIND_MAX] = {
	[ERR_SYSTEM] = EIO,
	[ERR_INVALID] = EINVAL,
	[ERR_FORBIDDEN] = EPERM,
	[ERR_UNAUTHORIZED] = EACCES,
	[ERR_NOT_FOUND] = ENOENT,
	[ERR_CONFLICT] = EBUSY,
	[ERR_NOT_MODIFIED] = EALREADY,
	[ERR_NOT_IMPLEMENTED] = ENOSYS,
	[ERR_UNAVAILABLE] = ECONNREFUSED,
	[ERR_CMD_NOT_FOUND] = ENOENT,
	[ERR_CMD_NOT_EXECUTABLE] = EACCES,
};

void err_clear(struct err *e)
{
	free(e->msg);
	*e = (struct err)ERR_INIT;
}

int err_kind_errno(enum err_kind kind)
{
	return kind > ERR_NONE && kind < _ERR_KIND_MAX ? -kind_errno[kind] : -EIO;
}

static int err_vset(struct err *e, enum err_kind kind, int r, bool append, const char *fmt, va_list ap)
{
	if (e) {
		char *msg = xvasprintf(fmt, ap);

		if (append && r < 0) {
			char *full = xasprintf("%s: %s", msg, strerror(-r));

			free(msg);
			msg = full;
		}
		free(e->msg);
		*e = (struct err){ .kind = kind, .errnum = r < 0 ? -r : 0, .msg = msg };
	}
	return r < 0 ? r : err_kind_errno(kind);
}

int err_set(struct err *e, enum err_kind kind, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r = err_vset(e, kind, r, true, fmt, ap);
	va_end(ap);
	return r;
}

int err_msg(struct err *e, enum err_kind kind, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r = err_vset(e, kind, r, false, fmt, ap);
	va_end(ap);
	return r;
}

int err_wrap(struct err *e, int r, const char *fmt, ...)
{
	_cleanup_free_ char *prefix = NULL;
	va_list ap;

	if (!e)
		return r;
	va_start(ap, fmt);
	prefix = xvasprintf(fmt, ap);
	va_end(ap);
	if (e->kind == ERR_NONE) {
		e->kind = ERR_SYSTEM;
		e->errnum = r < 0 ? -r : 0;
	}
	char *msg = xasprintf("%s: %s", prefix, e->msg ? e->msg : strerror(r < 0 ? -r : EIO));

	free(e->msg);
	e->msg = msg;
	return r;
}

int err_one_line(struct err *e, int r)
{
	for (char *c = e ? e->msg : NULL; c && *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return r;
}

void err_move(struct err *dst, struct err *src)
{
	if (dst) {
		err_clear(dst);
		*dst = *src;
		*src = (struct err)ERR_INIT;
	} else {
		err_clear(src);
	}
}

const char *err_text(const struct err *e)
{
	if (e && e->msg)
		return e->msg;
	return strerror(e && e->errnum ? e->errnum : EIO);
}
