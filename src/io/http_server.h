/* HTTP/1.x server on a libuv loop. Everything happens in the loop's thread.
 * (Servers, clients, processes and streams ignore SIGPIPE unless the program handles it.)
 *
 * Life of a request: on_request is called once per complete request (head and body). The handler answers it,
 * at once or in any later turn, by http_reply() or by http_reply_begin() ... http_reply_end(). The requests
 * of one connection are handed out one after the other: the next one when the last one is answered, so that
 * answers keep their order and a pipelined GET sees the PUT before it. Replies made in one turn leave in one
 * write.
 *
 * The request is valid until it is answered, or until on_cancel was called (the client went away or was cut
 * off; nothing can be answered any more). Who may need it longer takes a reference: every call on an answered
 * or cancelled request is then harmless and does nothing. All its slices live as long as the request itself.
 *
 * What is malformed is answered by the server itself: 400, 417 (Expect), 431, 501 (transfer codings), 505,
 * then closed.
 */
#pragma once
#include "base/buf.h"
#include "base/memory.h"
#include "io/http.h"
#include <uv.h>

struct tls_context;
struct http_server;
struct http_request;

/* What clients together have met. */
enum http_limit {
	HTTP_LIMIT_MEMORY,	/* max_held_bytes: the slowest clients are cut off */
	HTTP_LIMIT_PENDING,	/* half of it by requests that wait for their answers: more are refused */
	HTTP_LIMIT_CONNECTIONS, /* max_connections: idle ones are closed for new ones */
	HTTP_LIMIT_FILES,	/* of open files, the process's or the machine's: newcomers are turned away */
	HTTP_LIMIT_MAX
};

struct http_server_options {
	void (*on_request)(struct http_request *req, void *user);
	void *user;
	size_t max_head_bytes; /* default 1 MiB; beyond: 431 */
	size_t max_body_bytes; /* default 10 MiB + 1 kB; beyond: the request comes with body_too_large */
	/* The ceiling for the body of this request, of which method, path, query and headers are there, if it
	 * is lower than max_body_bytes: nothing is kept of what will not be used. May be NULL. */
	size_t (*body_ceiling)(const struct http_request *req, void *user);
	size_t max_queue_bytes; /* default 4 MiB: unsent bytes a stream may have (see http_reply_piece) */
	size_t max_connections; /* default 16384, at most what the limit of open files leaves; beyond,
				   connections that wait for their client (idle, or in the middle of a
				   request) are closed for new ones; if there are none, new clients wait in
				   the backlog */
	size_t max_held_bytes;	/* default 256 MiB: what all connections together may hold of requests and of
				   answers that are not taken; beyond, those that have stood still for the
				   longest are cut off. Requests that wait for their answers may hold half of
				   it, arenas included: beyond, a large one is answered 503 */
	/* A limit was met (at most once a minute for each); text: for the log. May be NULL. */
	void (*on_limit)(enum http_limit limit, const char *text, void *user);
	/* Somebody (its address) did not get through the handshake, and why. May be NULL. */
	void (*on_tls_refused)(const char *peer, const char *why, void *user);
	uint32_t head_timeout_ms; /* default 30 s for a whole request head, from its first byte */
	uint32_t body_timeout_ms; /* default 60 s of silence inside a body */
	uint32_t idle_timeout_ms; /* default 300 s between requests */
	uint32_t
		write_timeout_ms; /* default 60 s without progress of a reply that the client does not read */
	bool no_date;		  /* leave out the Date header */
	bool keep_slow_readers;	  /* a stream over max_queue_bytes is not closed, only refused */
};
/* Zero fields take their defaults. The options are copied. */
struct http_server *http_server_new(uv_loop_t *loop, const struct http_server_options *options);

/* Any number of listeners. -errno with a text in reterr (may be NULL): `listen tcp 127.0.0.1:2379: bind:
 * address already in use`. host: a name or address ("" or NULL: all, IPv6 and IPv4); every address that the
 * name has is listened on. port 0 picks one; ret_port (may be NULL) tells it. Resolving a name blocks: call
 * at start. */
int http_server_listen_tcp(struct http_server *server, const char *host, uint16_t port, uint16_t *ret_port,
	struct buf *reterr) _must_check_;
/* A stale socket file that nobody listens on is replaced; it is removed at close. mode: permissions of the
 * file. */
int http_server_listen_unix(
	struct http_server *server, const char *path, mode_t mode, struct buf *reterr) _must_check_;
/* The same, speaking TLS: http_server_set_tls() comes before. */
int http_server_listen_tls(struct http_server *server, const char *host, uint16_t port, uint16_t *ret_port,
	struct buf *reterr) _must_check_;
/* A listening TCP or Unix socket that was inherited (notify_listen_fds()); it becomes the server's. tls: it
 * speaks TLS if it is TCP. */
int http_server_listen_fd(struct http_server *server, int fd, bool tls, struct buf *reterr) _must_check_;

/* The certificate, key and authorities of listeners that speak TLS, for connections that come from now on.
 * Takes a reference. A connection that speaks TLS cannot be taken over. */
void http_server_set_tls(struct http_server *server, struct tls_context *context);

/* Stops listening; connections close after the request they are at. */
void http_server_drain(struct http_server *server);
/* Stops everything: pending requests are cancelled, connections cut. Frees the server when all is closed,
 * then calls on_closed (may be NULL). References to requests may be held longer. */
void http_server_close(struct http_server *server, void (*on_closed)(void *user), void *user);

struct http_server_stats {
	uint64_t connections_total, requests_total, malformed_total, timeouts_total, slow_readers_total;
	uint64_t cut_off_total, evicted_total; /* for max_held_bytes, for max_connections */
	uint64_t refused_total;		       /* for what pending requests hold */
	size_t connections, requests_open;
};
void http_server_get_stats(const struct http_server *server, struct http_server_stats *ret_stats);

struct http_request {
	struct slice method; /* as sent: any token */
	struct slice target; /* as sent, also in absolute form */
	struct slice path;   /* undecoded, from the target; begins with '/' (or is "*") */
	struct slice query;  /* undecoded, without '?' */
	struct slice host;   /* of the absolute target or the Host header; "" for HTTP/1.0 without one */
	const struct http_header *headers;
	size_t header_count;
	struct slice body;   /* chunked codings taken off; NUL-terminated */
	bool body_too_large; /* the body was above the ceiling and is not here; the connection closes after
				the answer */
	bool keep_alive;     /* the connection stays after the answer; the handler may clear it */
	bool upgrade;	     /* asked by "Connection: Upgrade" and "Upgrade:": see http_request_take_over() */
	uint8_t version_minor;	    /* HTTP/1.x */
	struct arena arena;	    /* for the handler: lives as long as the request */
	struct http_server *server; /* NULL once the server is gone */

	/* For the handler. on_cancel: called once, if the request can no longer be answered; not after the
	 * answer. */
	void *user;
	void (*on_cancel)(struct http_request *req);
	/* A client that has closed its sending side is by default still answered. Set this for long waits
	 * (watches): then it counts as gone. */
	bool cancel_on_eof;
	/* Called when a stream's queue has become empty again, after http_reply_await_drain() or a refused
	 * piece. */
	void (*on_drain)(struct http_request *req);
};

/* Value of the first header of that name (any case), or NULL. */
const struct slice *http_request_header(const struct http_request *req, const char *name);
/* Peer's address as text ("127.0.0.1:4711", "[::1]:4711", "@" for Unix sockets), for logs and errors. */
const char *http_request_peer(struct http_request *req);
/* Credentials of the process at the other end of a Unix socket: -ENOTSUP on TCP, -ENOTCONN when it is gone.
 */
int http_request_peer_uid(const struct http_request *req, uid_t *ret_uid) _must_check_;
/* Whether that process is in the group; false on TCP. */
bool http_request_peer_in_group(const struct http_request *req, gid_t gid);

/* Whether the client has shown a certificate, which was checked. */
bool http_request_has_certificate(const struct http_request *req);
/* The common name in it (see tls_peer_name()); "" where there is none. Valid as long as the request is open.
 */
const char *http_request_peer_name(const struct http_request *req);

/* For an answer that takes a while: gives back what the request brought. All slices but the method are empty
 * from here on; the arena stays. */
void http_request_release(struct http_request *req);
/* For one that takes long: the same, and the arena is given back too. */
void http_request_shrink(struct http_request *req);

struct http_request *http_request_ref(struct http_request *req);
struct http_request *http_request_unref(struct http_request *req); /* NULL is fine; answers NULL */
DEFINE_CLEANUP(struct http_request *, http_request_unref)
bool http_request_is_open(const struct http_request *req); /* neither answered nor cancelled */

/* The whole answer. Content-Length is added (not for 1xx, 204, 304), also Date, and Connection where needed;
 * CR, LF and NUL in header values become blanks. A HEAD request is answered by the same call: the body is
 * counted and left out. `body` is copied. */
void http_reply(struct http_request *req, int status, const struct http_header *headers, size_t header_count,
	struct slice body);
/* The same without a copy: `body` is a malloc'd block that becomes the server's. For bodies from some 10 kB.
 */
void http_reply_owned(struct http_request *req, int status, const struct http_header *headers,
	size_t header_count, char *body, size_t body_len);
/* Go's http.Error: text/plain, X-Content-Type-Options: nosniff, the text and a line end. */
void http_reply_error(struct http_request *req, int status, const char *text);

/* A streamed answer: the head leaves in this turn, each piece becomes a chunk (HTTP/1.0: plain, until close).
 * With HEAD the pieces are dropped. */
void http_reply_begin(
	struct http_request *req, int status, const struct http_header *headers, size_t header_count);
/* `piece` is copied; empty ones are ignored. 0; -EPIPE when the request is no longer open; -ENOBUFS when the
 * client reads too slowly, more than max_queue_bytes are waiting and nothing was added: unless
 * keep_slow_readers is set the connection is then cut and on_cancel follows in a later turn. */
int http_reply_piece(struct http_request *req, struct slice piece);
void http_reply_end(struct http_request *req);
size_t http_reply_queued_bytes(const struct http_request *req);
/* The handler has more to send but lets what is queued go first: on_drain is called once when it has gone, in
 * a later turn if it has already. */
void http_reply_await_drain(struct http_request *req);
/* Ends the connection without (the rest of) an answer. on_cancel is not called. */
void http_request_abort(struct http_request *req);

/* Takes a request's connection over as a raw stream: `head` (e.g. "HTTP/1.1 101 ...\r\n\r\n"; may be empty)
 * is sent, the request counts as answered, and the stream is the caller's: reading is stopped, ->data is
 * free, it ends with uv_close() and free() of the handle in its close callback. Bytes that came after the
 * request are put into ret_unread. -EPIPE when the request is no longer open. Any open request may be taken
 * over, with or without `upgrade`; -ENOTSUP when it speaks TLS. */
int http_request_take_over(struct http_request *req, struct slice head, uv_stream_t **ret_stream,
	struct buf *ret_unread) _must_check_;
