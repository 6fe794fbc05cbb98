#include "lib/dbus.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/sock.h"
#include "base/strv.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_MAX (1u << 20)
#define HEADER_FIXED 16			/* up to and with the length of the field array */
#define TIMEOUT_US 30000000ull		/* as long as runc waits for systemd */
#define SIGNALS_MAX 64			/* kept while a reply is awaited */

enum field {
	FIELD_PATH = 1, FIELD_INTERFACE, FIELD_MEMBER, FIELD_ERROR, FIELD_REPLY, FIELD_DESTINATION,
	FIELD_SENDER, FIELD_SIGNATURE,
};

/* --- values --- */

static void align_to(struct sbuf *b, size_t align)
{
	while (b->len % align)
		sbuf_putc(b, 0);
}

void dbus_put_byte(struct sbuf *b, uint8_t v)
{
	sbuf_putc(b, (char)v);
}

void dbus_put_u32(struct sbuf *b, uint32_t v)
{
	uint32_t le = htole32(v);

	align_to(b, 4);
	sbuf_add(b, &le, sizeof le);
}

void dbus_put_u64(struct sbuf *b, uint64_t v)
{
	uint64_t le = htole64(v);

	align_to(b, 8);
	sbuf_add(b, &le, sizeof le);
}

void dbus_put_str(struct sbuf *b, const char *s)
{
	dbus_put_u32(b, (uint32_t)strlen(s));
	sbuf_add(b, s, strlen(s) + 1);
}

void dbus_put_sig(struct sbuf *b, const char *s)
{
	sbuf_putc(b, (char)strlen(s));
	sbuf_add(b, s, strlen(s) + 1);
}

void dbus_put_struct(struct sbuf *b)
{
	align_to(b, 8);
}

size_t dbus_open_array(struct sbuf *b, size_t align)
{
	size_t token;

	dbus_put_u32(b, 0);
	token = b->len - 4;
	align_to(b, align);
	return token;
}

void dbus_close_array(struct sbuf *b, size_t token, size_t align)
{
	/* The padding before the first element does not count. */
	size_t start = (token + 4 + align - 1) / align * align;
	uint32_t le;

	if (!sbuf_ok(b))
		return;
	le = htole32((uint32_t)(b->len - start));
	memcpy(b->buf + token, &le, sizeof le);
}

bool dbus_skip_to(struct dbus_in *in, size_t align)
{
	size_t at = (in->at + align - 1) / align * align;

	if (at > in->n)
		return false;
	in->at = at;
	return true;
}

bool dbus_get_byte(struct dbus_in *in, uint8_t *ret)
{
	if (in->at >= in->n)
		return false;
	*ret = in->p[in->at++];
	return true;
}

bool dbus_get_u32(struct dbus_in *in, uint32_t *ret)
{
	uint32_t le;

	if (!dbus_skip_to(in, 4) || in->n - in->at < sizeof le)
		return false;
	memcpy(&le, in->p + in->at, sizeof le);
	in->at += sizeof le;
	*ret = le32toh(le);
	return true;
}

static bool get_text(struct dbus_in *in, size_t len, const char **ret)
{
	const char *s = (const char *)in->p + in->at;

	/* The text, ended by the only NUL in it. */
	if (in->n - in->at <= len || strnlen(s, len + 1) != len)
		return false;
	in->at += len + 1;
	*ret = s;
	return true;
}

bool dbus_get_str(struct dbus_in *in, const char **ret)
{
	uint32_t len;

	return dbus_get_u32(in, &len) && get_text(in, len, ret);
}

bool dbus_get_sig(struct dbus_in *in, const char **ret)
{
	uint8_t len;

	return dbus_get_byte(in, &len) && get_text(in, len, ret);
}

/* --- messages --- */

void dbus_msg_done(struct dbus_msg *m)
{
	free(m->path);
	free(m->interface);
	free(m->member);
	free(m->error);
	free(m->destination);
	free(m->signature);
	free(m->body);
	*m = (struct dbus_msg){ 0 };
}

static void put_field(struct sbuf *b, enum field code, const char *sig, const char *value)
{
	if (!value)
		return;
	dbus_put_struct(b);
	dbus_put_byte(b, (uint8_t)code);
	dbus_put_sig(b, sig);
	if (streq(sig, "g"))
		dbus_put_sig(b, value);
	else
		dbus_put_str(b, value);
}

void dbus_encode(const struct dbus_msg *m, struct sbuf *out)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(MESSAGE_MAX);
	size_t fields;

	dbus_put_byte(&b, 'l');
	dbus_put_byte(&b, m->type);
	dbus_put_byte(&b, 0);
	dbus_put_byte(&b, 1);
	dbus_put_u32(&b, (uint32_t)m->n_body);
	dbus_put_u32(&b, m->serial);
	fields = dbus_open_array(&b, 8);
	put_field(&b, FIELD_PATH, "o", m->path);
	put_field(&b, FIELD_INTERFACE, "s", m->interface);
	put_field(&b, FIELD_MEMBER, "s", m->member);
	put_field(&b, FIELD_ERROR, "s", m->error);
	if (m->reply_to) {
		dbus_put_struct(&b);
		dbus_put_byte(&b, FIELD_REPLY);
		dbus_put_sig(&b, "u");
		dbus_put_u32(&b, m->reply_to);
	}
	put_field(&b, FIELD_DESTINATION, "s", m->destination);
	if (!str_empty(m->signature))
		put_field(&b, FIELD_SIGNATURE, "g", m->signature);
	dbus_close_array(&b, fields, 8);
	align_to(&b, 8);
	sbuf_add(out, b.buf, b.len);
	if (m->n_body)
		sbuf_add(out, m->body, m->n_body);
}

size_t dbus_message_size(const void *p, size_t n)
{
	struct dbus_in in = { p, n, 4 };
	uint32_t body, serial, fields;
	uint64_t size;

	if (n < HEADER_FIXED || *(const char *)p != 'l' || !dbus_get_u32(&in, &body) ||
	    !dbus_get_u32(&in, &serial) || !dbus_get_u32(&in, &fields))
		return 0;
	size = (HEADER_FIXED + (uint64_t)fields + 7) / 8 * 8 + body;
	return size <= MESSAGE_MAX ? (size_t)size : 0;
}

/* One field of the header. Those that are not known can only be of these simple types. */
static bool get_field(struct dbus_in *in, struct dbus_msg *m)
{
	char **const strings[] = {
		[FIELD_PATH] = &m->path, [FIELD_INTERFACE] = &m->interface, [FIELD_MEMBER] = &m->member,
		[FIELD_ERROR] = &m->error, [FIELD_DESTINATION] = &m->destination,
		[FIELD_SIGNATURE] = &m->signature,
	};
	const char *sig, *text = NULL;
	uint32_t number = 0;
	uint8_t code;

	if (!dbus_skip_to(in, 8) || !dbus_get_byte(in, &code) || !dbus_get_sig(in, &sig))
		return false;
	if (streq(sig, "u")) {
		if (!dbus_get_u32(in, &number))
			return false;
	} else if (!(streq(sig, "g") ? dbus_get_sig(in, &text) :
		     streq(sig, "s") || streq(sig, "o") ? dbus_get_str(in, &text) : false)) {
		return false;
	}
	if (code == FIELD_REPLY)
		m->reply_to = number;
	else if (text && code < ARRAY_SIZE(strings) && strings[code])
		str_replace(strings[code], text);
	return true;
}

int dbus_decode(const void *p, size_t n, struct dbus_msg *ret)
{
	_cleanup_dbus_msg_ struct dbus_msg m = { 0 };
	struct dbus_in in = { p, n, 1 };
	uint8_t flags, version;
	uint32_t body, fields;

	if (dbus_message_size(p, n) != n || !dbus_get_byte(&in, &m.type) || !dbus_get_byte(&in, &flags) ||
	    !dbus_get_byte(&in, &version) || version != 1 || !dbus_get_u32(&in, &body) ||
	    !dbus_get_u32(&in, &m.serial) || !dbus_get_u32(&in, &fields))
		return -EBADMSG;
	in.n = HEADER_FIXED + fields;
	while (in.at < in.n)
		if (!get_field(&in, &m))
			return -EBADMSG;
	m.body = xmemdup((const char *)p + n - body, body);
	m.n_body = body;
	*ret = m;
	m = (struct dbus_msg){ 0 };
	return 0;
}

/* --- a connection --- */

struct dbus {
	int fd;
	uint32_t serial;
	struct sbuf in;
	struct dbus_msg signals[SIGNALS_MAX];
	size_t n_signals;
};

static int wait_readable(int fd, uint64_t deadline)
{
	for (;;) {
		uint64_t now = now_mono_us();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int n;

		if (now >= deadline)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)((deadline - now) / 1000) + 1);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int read_more(struct dbus *d, uint64_t deadline)
{
	char buf[4096];
	ssize_t n;
	int r = wait_readable(d->fd, deadline);

	if (r < 0)
		return r;
	n = RETRY(read(d->fd, buf, sizeof buf));
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	sbuf_add(&d->in, buf, (size_t)n);
	return sbuf_ok(&d->in) ? 0 : -EMSGSIZE;
}

/* SASL EXTERNAL: who we are, the socket tells. */
static int authenticate(struct dbus *d)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(256);
	_cleanup_free_ char *uid = xasprintf("%u", geteuid());
	uint64_t deadline = now_mono_us() + TIMEOUT_US;
	char *end;
	int r;

	sbuf_putc(&b, 0);
	sbuf_puts(&b, "AUTH EXTERNAL ");
	for (const char *c = uid; *c; c++)
		sbuf_printf(&b, "%02x", *c);
	sbuf_puts(&b, "\r\n");
	r = fd_write_full(d->fd, b.buf, b.len);
	while (r == 0 && !(d->in.len && (end = strstr(d->in.buf, "\r\n"))))
		r = read_more(d, deadline);
	if (r < 0)
		return r;
	if (!str_starts(d->in.buf, "OK "))
		return -EACCES;
	sbuf_consume(&d->in, (size_t)(end + 2 - d->in.buf));
	return fd_write_full(d->fd, "BEGIN\r\n", 7);
}

int dbus_open(const char *socket, bool bus, struct dbus **ret, struct err *e)
{
	_cleanup_(dbus_closep) struct dbus *d = new0(struct dbus);
	_cleanup_dbus_msg_ struct dbus_msg reply = { 0 };
	struct dbus_msg hello = { .path = (char *)"/org/freedesktop/DBus", .member = (char *)"Hello",
				  .interface = (char *)"org.freedesktop.DBus",
				  .destination = (char *)"org.freedesktop.DBus" };
	int r;

	d->in.max = MESSAGE_MAX;
	d->fd = sock_connect_unix(socket);
	r = d->fd < 0 ? d->fd : authenticate(d);
	if (r < 0)
		return err_set(e, ERR_UNAVAILABLE, r, "connect to D-Bus at '%s'", socket);
	r = bus ? dbus_call(d, &hello, &reply, e) : 0;
	if (r == 0)
		*ret = TAKE_PTR(d);
	return r;
}

void dbus_close(struct dbus *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n_signals; i++)
		dbus_msg_done(&d->signals[i]);
	sbuf_done(&d->in);
	fd_close(&d->fd);
	free(d);
}

static int next_message(struct dbus *d, uint64_t deadline, struct dbus_msg *ret)
{
	for (;;) {
		size_t size = d->in.len >= HEADER_FIXED ? dbus_message_size(d->in.buf, d->in.len) : 0;
		int r;

		if (d->in.len >= HEADER_FIXED && !size)
			return -EBADMSG;
		if (size && d->in.len >= size) {
			r = dbus_decode(d->in.buf, size, ret);
			sbuf_consume(&d->in, size);
			return r;
		}
		r = read_more(d, deadline);
		if (r < 0)
			return r;
	}
}

static void keep_signal(struct dbus *d, struct dbus_msg *m)
{
	if (m->type == DBUS_SIGNAL && d->n_signals < SIGNALS_MAX)
		d->signals[d->n_signals++] = *m;
	else
		dbus_msg_done(m);
}

static int error_reply(const struct dbus_msg *m, struct err *e)
{
	struct dbus_in in = { (const uint8_t *)m->body, m->n_body, 0 };
	const char *text = "";

	if (m->signature && m->signature[0] == 's')
		(void)dbus_get_str(&in, &text);
	return err_msg(e, ERR_SYSTEM, -EIO, "%s%s%s", m->error ? m->error : "D-Bus error",
		       *text ? ": " : "", text);
}

int dbus_call(struct dbus *d, struct dbus_msg *call, struct dbus_msg *ret, struct err *e)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(MESSAGE_MAX);
	uint64_t deadline = now_mono_us() + TIMEOUT_US;
	int r;

	call->type = DBUS_CALL;
	call->serial = ++d->serial;
	dbus_encode(call, &b);
	r = sbuf_ok(&b) ? fd_write_full(d->fd, b.buf, b.len) : -EMSGSIZE;
	while (r == 0) {
		struct dbus_msg m;

		r = next_message(d, deadline, &m);
		if (r < 0)
			break;
		if (m.reply_to != call->serial || (m.type != DBUS_REPLY && m.type != DBUS_ERROR)) {
			keep_signal(d, &m);
			continue;
		}
		if (m.type == DBUS_ERROR) {
			r = error_reply(&m, e);
			dbus_msg_done(&m);
			return r;
		}
		*ret = m;
		return 0;
	}
	return err_set(e, ERR_UNAVAILABLE, r, "call %s", call->member);
}

int dbus_wait_signal(struct dbus *d, const char *member, struct dbus_msg *ret, struct err *e)
{
	uint64_t deadline = now_mono_us() + TIMEOUT_US;

	for (size_t i = 0; i < d->n_signals; i++)
		if (streq(d->signals[i].member, member)) {
			*ret = d->signals[i];
			d->signals[i] = d->signals[--d->n_signals];
			return 0;
		}
	for (;;) {
		struct dbus_msg m;
		int r = next_message(d, deadline, &m);

		if (r < 0)
			return err_set(e, ERR_UNAVAILABLE, r, "wait for %s", member);
		if (m.type == DBUS_SIGNAL && streq(m.member, member)) {
			*ret = m;
			return 0;
		}
		dbus_msg_done(&m);
	}
}
