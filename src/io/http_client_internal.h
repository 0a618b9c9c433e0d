/* Shared by the client's files only: calls and the pool (http_client.c), connections (http_client_conn.c),
 * answers (http_response.c), the blocking form (http_fetch.c). */
#pragma once
#include "base/heap.h"
#include "base/list.h"
#include "base/memory.h"
#include "io/http_client.h"
#include "io/tls.h"
#include "io/url.h"
#include <http_parser.h>

enum {
	CLIENT_READ_BUF_BYTES = 64 * 1024,
	RESPONSE_HEADERS_MAX = 2000,
	HTTP_STATUS_SWITCHING = 101,
	HANDSHAKE_TIMEOUT_MS = 10 * 1000, /* where none is set for connecting */
	CHATTER_MAX = 256 * 1024,	  /* received in a row that is nothing for the user */
};

/* The bytes of a request: shared by the call (for another try) and the connection that is sending them. */
struct blob {
	unsigned int refs;
	size_t len;
	char data[];
};
struct blob *blob_unref(struct blob *blob);

struct http_client {
	uv_loop_t *loop;
	struct http_client_options options;
	struct list origins;
	struct list routes;
	struct list calls;
	struct heap deadlines;
	uv_timer_t timer;      /* the earliest deadline of a call */
	uv_timer_t idle_timer; /* looks for connections that were idle for too long */
	size_t open_handles;   /* with look-ups under way */
	bool closing;
	char *read_buf;
	struct tls_context *tls; /* NULL: not needed so far */
	struct buf plain;	 /* what was in one read of an encrypted connection */
	void (*on_closed)(void *user);
	void *on_closed_user;
};

/* Where connections lead: "host:port" or a socket's path. Kept as long as the client: bounded by what is
 * called. */
struct origin {
	struct list link;
	struct http_client *client;
	char *host; /* or the path */
	uint16_t port;
	bool is_unix, is_tls;
	struct list idle;    /* connections, the last used one first */
	struct list waiting; /* calls, while there are max_connections_per_origin */
	size_t idle_count, conn_count;
};

/* A Unix socket that stands for a host and port. */
struct route {
	struct list link;
	char *host, *unix_path;
	uint16_t port;
};

enum client_conn_state { CC_RESOLVING, CC_CONNECTING, CC_ACTIVE, CC_IDLE, CC_CLOSED, CC_STATE_MAX };

struct lookup {
	uv_getaddrinfo_t req;
	struct http_client *client;
	struct client_conn *conn; /* NULL: nobody waits any more */
};

struct client_conn {
	struct list link; /* in origin->idle */
	struct origin *origin;
	struct http_client *client;
	struct http_call *call;
	enum client_conn_state state;
	uv_stream_t *stream; /* malloc'd; NULL while resolving */
	struct lookup *lookup;
	struct addrinfo *addresses, *next_address;
	struct buf first_error; /* of the first address that failed, and its number */
	int first_errno;
	char peer[80]; /* "tcp 127.0.0.1:2379", "unix /path" */
	uv_connect_t connect;
	uv_write_t write;
	struct blob *sending; /* set while `write` is under way */
	struct tls *tls;      /* NULL: plain */
	struct buf wire;      /* encrypted, to be sent */
	size_t chatter_bytes; /* received since there was anything for the user */
	char *wire_bytes;     /* set while `wire_write` is under way */
	uv_write_t wire_write;
	http_parser parser;
	bool reused;	/* this is not its first call */
	bool got_bytes; /* of the present answer */
	bool keep;	/* may be used again after the present answer */
	bool reading;
	uint64_t idle_since_ms;
};

struct response_mark {
	uint32_t name_at, name_len, value_at, value_len;
};

struct http_call {
	struct list link, waiting_link;
	struct http_client *client;
	struct origin *origin;
	struct client_conn *conn;
	struct heap_item deadline_item;
	uint64_t deadline_ms; /* loop time, the earlier one of the next two; UINT64_MAX: none */
	uint64_t phase_deadline_ms, total_deadline_ms;
	struct http_call_options options; /* only numbers and callbacks: the texts were used by then */
	struct blob *request;
	bool is_get, is_head;
	bool fresh_only; /* a second try: no connection from the pool */
	bool sent_any;
	bool started; /* from the first turn of the loop on */
	bool done;
	int failed; /* an error found while sending: told by the deadline timer in the next turn */
	struct buf fail_text;
	/* the answer */
	struct buf head;
	struct response_mark *marks;
	size_t mark_count, mark_cap;
	bool in_value, head_done, complete, upgraded;
	struct http_response response;
	struct http_header *headers;
	struct buf body;
	int parse_error;
	const char *parse_text;
};

/* http_client.c */
void client_handle_closed(struct http_client *client);
void call_finish(struct http_call *call, int error, const char *text); /* on_done, then frees */
void call_free(struct http_call *call);
void call_set_phase_deadline(struct http_call *call, uint32_t timeout_ms); /* 0: none */
void call_body_goes_on(struct http_call *call); /* the time out of silence begins anew */
void call_start(struct http_call *call);
void origin_conn_gone(struct origin *origin);
void origin_conn_idle(struct client_conn *conn);

/* http_client_conn.c */
void client_conn_open(struct origin *origin, struct http_call *call);
void client_conn_use(struct client_conn *conn, struct http_call *call); /* an idle one */
void client_conn_close(struct client_conn *conn);
void client_conn_set_reading(struct client_conn *conn, bool reading);

/* http_response.c */
void response_begin(struct http_call *call, struct client_conn *conn);
size_t response_execute(struct client_conn *conn, const char *data, size_t len);
