/* Shared by the server's files only: listeners (http_server.c), connections (http_conn.c), requests
 * (http_request.c), replies
 * (http_reply.c), what all clients together may take (http_limits.c). */
#pragma once
#include "base/list.h"
#include "io/http_server.h"
#include "io/tls.h"
#include <http_parser.h>

enum {
	READ_BUF_BYTES = 64 * 1024,  /* one buffer for all connections: bytes are used before the next read */
	INPUT_MAX_BYTES = 64 * 1024, /* received while a request is being answered; beyond, reading stops */
	BURST_BYTES = 128 * 1024,    /* taken from one connection in a turn while others wait */
	QUEUE_NEXT_BYTES = 256 * 1024, /* the next pipelined request waits while more than this is unsent */
	KEEP_BUF_BYTES = 16 * 1024,    /* larger buffers are given back after use */
	FREE_REQUESTS_MAX = 256,
	HEADERS_MAX = 2000,
	METHOD_MAX_BYTES = 32,
	PEER_GROUPS_MAX = 1024,
	CONN_PEER_BYTES = 80,
	TLS_HELD_BYTES = 40 * 1024,  /* what OpenSSL keeps for a connection, about */
	TLS_SHAKING_MAX = 64 * 1024, /* received in a handshake */
	TLS_CHATTER_MAX = 64 * 1024, /* received without a byte for the user */
	TLS_WIRE_MAX = 16 * 1024,    /* of TLS's own to be sent; beyond, reading stops */
	LINGER_MS = 2000,
	DISCARD_MS = 15000, /* for a body above the ceiling to be sent to its end */
	LISTEN_BACKLOG = 4096,
};

struct listener {
	struct list link;
	struct http_server *server;
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} uv;
	bool is_pipe;
	bool is_tls;
	bool waiting; /* a client waits, but there are too many connections */
	char *path;   /* the socket file to remove, or NULL */
	dev_t path_dev;
	ino_t path_ino;
};

struct http_server {
	uv_loop_t *loop;
	struct http_server_options options;
	struct list listeners;
	struct list conns;
	struct list dirty;    /* connections with something to parse or send before the loop sleeps */
	struct list requests; /* in use, also only referenced ones */
	struct list free_requests;
	size_t free_count;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle;
	uv_timer_t sweep;
	size_t open_handles;
	bool closing, draining;
	void (*on_closed)(void *user);
	void *on_closed_user;
	char *read_buf;
	struct tls_context *tls; /* for new connections of the listeners that speak it; NULL: none does */
	struct buf plain;	 /* what was in one read of an encrypted connection */
	char date[64];		 /* the whole header line */
	size_t date_len;
	int64_t date_at_s;
	struct list holders;	     /* connections that hold more than a little, by their last progress */
	struct list pending_holders; /* the same of those whose request waits for its answer: they stand still
					for our sake */
	size_t held_bytes;	     /* by all of those */
	size_t pending_bytes;	     /* of it: by the pending ones */
	uint64_t limit_told_ms[HTTP_LIMIT_MAX], evict_again_ms;
	struct http_server_stats stats;
};

enum conn_state {
	CONN_IDLE,    /* between requests */
	CONN_HEAD,    /* inside a request's head */
	CONN_BODY,    /* inside its body */
	CONN_PENDING, /* the handler has the request; no answer yet */
	CONN_STREAM,  /* the answer's head was sent, pieces follow */
	CONN_LINGER,  /* all was said; reads and drops until the client closes, so that it sees the answer */
	CONN_CLOSED,  /* the handle is closing or was handed over */
	CONN_STATE_MAX
};

struct conn {
	struct list link, dirty_link, held_link;
	size_t held_bytes;	    /* as counted in the server's; 0: in none of its lists */
	bool held_pending;	    /* counted among the pending ones */
	struct http_server *server; /* NULL once detached */
	uv_stream_t *stream;	    /* a malloc'd uv_tcp_t or uv_pipe_t, so that it can be handed over */
	enum conn_state state;
	unsigned int refs;
	http_parser parser;
	struct request *req;
	struct buf input;  /* received, not parsed yet */
	struct slice rest; /* while running: what follows the request just handed out */
	size_t head_bytes;
	char line_tail[12]; /* the last bytes of the request line */
	unsigned char line_tail_len;
	bool line_done;
	struct buf out;	      /* to be sent in this turn */
	struct tls *tls;      /* NULL: plain */
	struct buf wire;      /* encrypted, to be sent before `out` */
	size_t chatter_bytes; /* received since there was anything for the user */
	struct {
		uv_write_t req;
		char *blocks[2]; /* what the bytes lie in */
		size_t bytes;
		bool active;
	} inflight;
	size_t last_queue_bytes; /* at the last sweep: shows whether the client reads */
	uint64_t write_deadline_ms;
	uint64_t deadline_ms; /* of the state, loop time; 0: none */
	uv_shutdown_t shutdown;
	int error_status; /* set by the parser's callbacks */
	const char *error_text;
	bool running; /* inside conn_feed(): replies must not feed again */
	size_t burst_bytes;
	bool resting; /* has had its BURST_BYTES; goes on in the next turn */
	bool reading, eof;
	bool close_after; /* no further request is taken; close when all is sent */
	bool linger;	  /* there may be unread input: close by CONN_LINGER */
	bool cut;	  /* to be closed at once, from the next safe place */
	bool discard;	  /* the rest of a too large body is still coming */
	bool want_drain;
	bool chunked; /* of the streamed answer */
};

struct mark {
	uint32_t name_at, name_len, value_at, value_len;
};

struct request {
	struct http_request pub;
	struct list link;
	unsigned int refs;
	struct conn *conn; /* NULL: answered or cancelled */
	struct buf head;   /* target, names and values one after the other */
	struct buf body;
	char method[METHOD_MAX_BYTES];
	uint32_t target_len;
	struct mark *marks;
	struct http_header *headers;
	size_t mark_count, mark_cap, header_cap;
	bool in_value, head_done, is_head;
};

#define REQUEST(req_) container_of(req_, struct request, pub)

void conn_accept(struct listener *listener);
/* "127.0.0.1:4711", "[::1]:4711", "@" for Unix sockets. */
void conn_peer(const struct conn *conn, char ret[static CONN_PEER_BYTES]);
void conn_mark_dirty(struct conn *conn);
void conn_next_turn(struct conn *conn); /* conn_process() at a turn's end */
void conn_process(struct conn *conn);	/* parses what waits and sends what is there */
void conn_close(struct conn *conn);	/* cancels its request and closes */
void conn_sweep(struct conn *conn, uint64_t now_ms);
size_t conn_queued_bytes(const struct conn *conn);
void conn_send_owned(
	struct conn *conn, char *body, size_t len); /* sends `out` and then the block, which it frees */
/* The connection may hold more or less than before. */
void limits_account(struct conn *conn);
void limits_forget(struct conn *conn); /* it is going */
/* False: the request, which is whole, is one too many of those that wait for their answers. */
bool limits_admit(const struct conn *conn);
/* All places are taken: closes connections that wait for their client. */
void limits_make_room(struct http_server *server);
size_t limits_connections(void); /* the default of max_connections */
void limits_tell(struct http_server *server, enum http_limit limit);
/* Tells when no file can be opened: libuv takes and closes the connections that it cannot keep then, and says
 * nothing. */
void limits_check_files(struct http_server *server);
/* The request of the connection was answered. */
void conn_request_done(struct conn *conn);
void conn_take_over(struct conn *conn, struct slice head, uv_stream_t **ret_stream, struct buf *ret_unread);

struct request *request_get(struct http_server *server);
void request_begin(struct conn *conn, struct slice method);
/* http_parser_execute() with the callbacks; they set conn->error_status, or pause the parser when the request
 * is whole. */
size_t request_execute(http_parser *parser, struct slice bytes);
void request_unref(struct request *req);
void request_free(struct request *req);
void server_wake(struct http_server *server); /* the dirty list is not empty: do not sleep */
void server_handle_closed(struct http_server *server);
void server_conn_gone(struct http_server *server);
/* Answers a request that never reached the handler, in Go's form. */
void reply_malformed(struct conn *conn, int status, const char *detail);
