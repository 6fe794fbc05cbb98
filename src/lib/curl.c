#include "lib/curl.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX 100
#define STALL_SECONDS 60

struct web { CURL *curl; };

struct transfer {
	const struct web_request *q;
	struct web_answer *a;
	CURL *curl;
	int64_t sent;
	int failed;		/* -errno of the sink */
};

void web_answer_done(struct web_answer *a)
{
	strv_free(a->headers);
	sbuf_done(&a->body);
	*a = (struct web_answer){ 0 };
}

const char *web_header(const struct web_answer *a, const char *name)
{
	size_t n = strlen(name);

	for (char **h = a->headers; h && *h; h++)
		if (!strncasecmp(*h, name, n) && (*h)[n] == ':')
			return *h + n + 1 + strspn(*h + n + 1, " \t");
	return NULL;
}

void web_init(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort();
}

struct web *web_new(void)
{
	struct web *w = new0(struct web);

	w->curl = curl_easy_init();
	if (!w->curl)
		abort();
	return w;
}

void web_free(struct web *w)
{
	if (!w)
		return;
	curl_easy_cleanup(w->curl);
	free(w);
}

static size_t on_header(char *p, size_t size, size_t n, void *ud)
{
	struct transfer *t = ud;
	size_t len = n;

	while (len && (p[len - 1] == '\r' || p[len - 1] == '\n'))
		len--;
	if (len > 5 && !strncmp(p, "HTTP/", 5)) {
		strv_free(t->a->headers);	/* the head before was a 100 or 103 */
		t->a->headers = NULL;
	} else if (len && strv_len(t->a->headers) < HEADERS_MAX) {
		strv_take(&t->a->headers, xstrndup(p, len));
	}
	return n;
}

static size_t on_body(char *p, size_t size, size_t n, void *ud)
{
	struct transfer *t = ud;
	long status = 0;
	int r;

	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (t->q->sink && (status == 200 || status == 206)) {
		r = t->q->sink(t->q->ud, (int)status, p, n);
		if (r < 0)
			t->failed = r;
		return r < 0 ? 0 : n;
	}
	sbuf_add(&t->a->body, p, n);
	if (!sbuf_ok(&t->a->body))
		t->failed = -EFBIG;
	return t->failed ? 0 : n;
}

static size_t on_read(char *p, size_t size, size_t n, void *ud)
{
	struct transfer *t = ud;
	ssize_t got = RETRY(pread(t->q->body_fd, p, size * n, t->sent));

	if (got < 0) {
		t->failed = -errno;
		return CURL_READFUNC_ABORT;
	}
	t->sent += got;
	if (t->q->sent)
		t->q->sent(t->q->ud, t->sent);
	return (size_t)got;
}

static int on_seek(void *ud, curl_off_t off, int origin)
{
	struct transfer *t = ud;

	if (origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	t->sent = off;
	return CURL_SEEKFUNC_OK;
}

static void set_blob(CURL *c, CURLoption option, const char *pem)
{
	struct curl_blob b = { (void *)pem, pem ? strlen(pem) : 0, CURL_BLOB_COPY };

	if (pem)
		curl_easy_setopt(c, option, &b);
}

static void set_tls(CURL *c, const struct web_tls *t)
{
	if (!t)
		return;
	set_blob(c, CURLOPT_CAINFO_BLOB, t->ca);
	set_blob(c, CURLOPT_SSLCERT_BLOB, t->cert);
	set_blob(c, CURLOPT_SSLKEY_BLOB, t->key);
	if (t->insecure) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static void set_body(CURL *c, struct transfer *t)
{
	const struct web_request *q = t->q;

	if (q->body_fd > 0) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_size);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(c, CURLOPT_READDATA, t);
		curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(c, CURLOPT_SEEKDATA, t);
	} else if (q->body || streq(q->method, "POST") || streq(q->method, "PUT")) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body ? q->body : "");
	}
	if (streq(q->method, "HEAD"))
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

static bool is_transient(CURLcode r)
{
	return r == CURLE_PARTIAL_FILE || r == CURLE_RECV_ERROR || r == CURLE_SEND_ERROR ||
	       r == CURLE_GOT_NOTHING || r == CURLE_OPERATION_TIMEDOUT || r == CURLE_HTTP2 ||
	       r == CURLE_HTTP2_STREAM;
}

int web_call(struct web *w, const struct web_request *q, struct web_answer *ret, struct err *e)
{
	struct transfer t = { .q = q, .a = ret, .curl = w->curl };
	struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
	char text[CURL_ERROR_SIZE] = "";
	curl_off_t after = 0;
	CURL *c = w->curl;
	long status = 0;
	CURLcode r;

	*ret = (struct web_answer){ .body = SBUF_INIT_MAX(q->max ? q->max : 64 << 10) };
	for (char *const *h = q->headers; h && *h; h++)
		headers = curl_slist_append(headers, *h);
	curl_easy_reset(c);	/* connections stay open */
	curl_easy_setopt(c, CURLOPT_URL, q->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "insula/" INSULA_VERSION);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 15L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, text);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, &t);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
	set_tls(c, q->tls);
	set_body(c, &t);
	r = curl_easy_perform(c);
	curl_slist_free_all(headers);
	curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
	if (curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0)
		ret->retry_after = (unsigned)MIN(after, (curl_off_t)3600);
	ret->status = (int)status;
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, NULL);
	if (r == CURLE_OK)
		return 0;
	ret->transient = !t.failed && is_transient(r);
	ret->no_tls = r == CURLE_SSL_CONNECT_ERROR;
	if (t.failed)
		return err_set(e, ERR_SYSTEM, t.failed, "%s \"%s\"", q->method, q->url);
	return err_msg(e, ERR_SYSTEM, -EIO, "%s \"%s\": %s", q->method, q->url,
		       *text ? text : curl_easy_strerror(r));
}

int web_resolve(const char *base, const char *location, char **ret)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *url = NULL;
	bool ok = u && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
		  curl_url_set(u, CURLUPART_URL, location, CURLU_DISALLOW_USER) == CURLUE_OK &&
		  curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
		  curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		  (streq(scheme, "http") || streq(scheme, "https")) &&
		  curl_url_get(u, CURLUPART_URL, &url, 0) == CURLUE_OK;

	if (ok)
		*ret = xstrdup(url);
	curl_free(scheme);
	curl_free(url);
	curl_url_cleanup(u);
	return ok ? 0 : -EINVAL;
}

char *web_origin(const char *text)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;

	if (u && curl_url_set(u, CURLUPART_URL, text, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
		origin = xasprintf("%s://%s:%s", scheme, host, port);
	for (char *c = origin; c && *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? *c + 32 : *c;
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return origin;
}
