/* HTTP/1.1 client on a libuv loop, with connections kept alive per origin. Everything happens in the loop's
 * thread.
 *
 * A call is sent by http_client_send() and ends with exactly one on_done (never from inside
 * http_client_send()), or with http_call_cancel(), after which nothing is called. The call is freed right
 * after on_done or cancel.
 *
 * An idle connection that turns out to be closed before a byte of the answer came is replaced and the call
 * repeated only for GET and HEAD (and for others only if not a byte of the request could be sent). */
#pragma once
#include "base/buf.h"
#include "io/http.h"
#include <uv.h>

struct tls_context;
struct http_client;
struct http_call;

struct http_client_options {
	size_t max_idle_per_origin;	   /* default 8 */
	size_t max_connections_per_origin; /* default 0: no limit; else further calls wait for a free
					      connection */
	uint32_t idle_timeout_ms;	   /* default 60 s */
	size_t max_head_bytes;		   /* default 1 MiB */
	struct tls_context *tls; /* for https; a reference is taken. NULL: servers whose certificates the
				    system's authorities have signed */
};
/* options may be NULL. */
struct http_client *http_client_new(uv_loop_t *loop, const struct http_client_options *options);
/* For connections that are made from here on, instead of the options' one; a reference is taken. */
void http_client_set_tls(struct http_client *client, struct tls_context *context);
/* Connections to that host and port, as URLs have them, are made to the Unix socket from here on: the end of
 * a tunnel. The Host header, and the name that a certificate must be for, stay the URL's. */
void http_client_route(struct http_client *client, const char *host, uint16_t port, const char *unix_path);
/* Cancels what is under way (no on_done) and frees the client when all is closed, then calls on_closed (may
 * be NULL). */
void http_client_close(struct http_client *client, void (*on_closed)(void *user), void *user);

struct http_response {
	int status;
	struct slice reason;
	uint8_t version_minor;
	const struct http_header *headers;
	size_t header_count;
	struct slice body; /* with on_body NULL: the whole body, in on_done; NUL-terminated */
};
const struct slice *http_response_header(
	const struct http_response *response, const char *name); /* NULL: not there */

struct http_call_options {
	const char *method;    /* NULL: GET */
	const char *url;       /* "http://host:port/path?query", or "unix:///path/of/socket" with `target` */
	const char *unix_path; /* not NULL: connect there instead of the URL's host (which still is the Host
				  header) */
	const char *target;    /* not NULL: request target instead of the URL's path and query */
	const struct http_header
		*headers; /* Host, Content-Length and Connection are added; an own Host replaces it */
	size_t header_count;
	struct slice body;	     /* copied; sent when len > 0 or the method is PUT, POST or PATCH */
	uint32_t connect_timeout_ms; /* with the look-up of the name; 0: none (the kernel's) */
	uint32_t header_timeout_ms;  /* from the request sent to the answer's head; 0: none */
	uint32_t body_timeout_ms;    /* without a byte of the body, unless the call is paused; 0: none */
	uint32_t total_timeout_ms;   /* 0: none */
	size_t max_body_bytes; /* when collected: beyond it the call fails with -EMSGSIZE; default 64 MiB */
	bool no_reuse;	       /* own connection, closed afterwards */
	/* Called with the answer's head (the final one; 100 Continue is skipped). May be NULL. May cancel the
	 * call. */
	void (*on_head)(struct http_call *call, const struct http_response *response, void *user);
	/* Called with each piece of the body as it comes; NULL: it is collected. May cancel the call. */
	void (*on_body)(struct http_call *call, struct slice piece, void *user);
	/* error 0: complete, any status. Else -errno, and `text` says what in Go's words: "dial tcp
	 * 127.0.0.1:2379: connect: connection refused", "dial tcp: lookup x: no such host", "unexpected EOF",
	 * "net/http: request canceled (Client.Timeout exceeded while awaiting headers)". response: NULL when
	 * no head came. All is borrowed until on_done returns. */
	void (*on_done)(struct http_call *call, int error, const char *text,
		const struct http_response *response, void *user);
	/* A 101 answer hands the connection over: the stream becomes the callee's (reading is stopped; it
	 * ends with uv_close() and free() of the handle). No on_done follows. NULL: 101 is an error. */
	void (*on_upgrade)(struct http_call *call, const struct http_response *response, uv_stream_t *stream,
		struct slice unread, void *user);
	void *user;
};
struct http_call *http_client_send(struct http_client *client, const struct http_call_options *options);
void http_call_cancel(struct http_call *call);
/* In on_done: whether anything of the request may have reached the server. */
bool http_call_was_sent(const struct http_call *call);
/* Stops and resumes reading from the connection: the sender is then slowed down by TCP. Pieces that were
 * already received may still be delivered. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);

/* For command-line tools: sends, runs the client's loop until the call is done, and answers error (0 or
 * -errno). The callbacks in `options` other than on_body are not used; a name and password in the URL are not
 * sent. The result's texts are owned by it. */
struct http_result {
	int error;
	char *text;		       /* the error's text, or "" */
	struct http_response response; /* status 0: no answer */
	void *owned;
};
int http_client_fetch(
	struct http_client *client, const struct http_call_options *options, struct http_result *ret_result);
void http_result_done(struct http_result *result);

/* A client with a loop of its own, for a few calls of http_client_fetch() in a program that has no loop
 * (yet). -errno, with a text in reterr, when no loop can be made. */
int http_client_alone(struct http_client **ret_client, struct buf *reterr) _must_check_;
struct http_client *http_client_alone_done(struct http_client *client); /* NULL is fine; answers NULL */
DEFINE_CLEANUP(struct http_client *, http_client_alone_done)
