/* One connection of the server. Bytes arrive in the server's one read buffer and are fed to the parser right
 * there; what cannot be used yet (the handler still has a request) is kept in conn->input. conn_feed() goes
 * from request to request as long as handlers answer at once. Answers gather in conn->out, which leaves by
 * one uv_try_write() at the end of the read callback, or, when they come later, before the loop sleeps (the
 * server's dirty list). Only what the socket does not take becomes a uv_write(), and there is at most one
 * under way. */
#include "io/http_server_internal.h"
#include <errno.h>

static void conn_unref(struct conn *conn)
{
	assert(conn->refs > 0);
	if (--conn->refs)
		return;
	assert(!conn->req && !conn->inflight.active && list_empty(&conn->dirty_link));
	buf_done(&conn->input);
	buf_done(&conn->out);
	buf_done(&conn->wire);
	(void)tls_free(conn->tls);
	free(conn);
}

static void set_deadline(struct conn *conn, uint32_t timeout_ms)
{
	conn->deadline_ms = uv_now(conn->server->loop) + timeout_ms;
}

void conn_mark_dirty(struct conn *conn)
{
	if (conn->state == CONN_CLOSED || !list_empty(&conn->dirty_link))
		return;
	if (list_empty(&conn->server->dirty))
		server_wake(conn->server);
	list_push_back(&conn->server->dirty, &conn->dirty_link);
}

size_t conn_queued_bytes(const struct conn *conn)
{
	size_t queued = conn->out.len + conn->wire.len;

	if (conn->inflight.active && conn->state != CONN_CLOSED)
		queued += uv_stream_get_write_queue_size(conn->stream);
	return queued;
}

/* Takes the request away from its connection: answered, cancelled, aborted or handed over. */
static struct request *detach_request(struct conn *conn)
{
	struct request *req = conn->req;

	conn->req = NULL;
	if (!req)
		return NULL;
	if (conn->state == CONN_PENDING || conn->state == CONN_STREAM)
		conn->server->stats.requests_open--;
	req->conn = NULL;
	return req;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;

	free(handle);
	conn->stream = NULL;
	server_conn_gone(conn->server);
	server_handle_closed(conn->server);
	conn->server = NULL;
	conn_unref(conn);
}

void conn_close(struct conn *conn)
{
	bool was_open = conn->state == CONN_PENDING || conn->state == CONN_STREAM;
	struct request *req;

	if (conn->state == CONN_CLOSED)
		return;
	req = detach_request(conn);
	conn->state = CONN_CLOSED;
	limits_forget(conn);
	list_remove(&conn->dirty_link);
	list_remove(&conn->link);
	uv_close((uv_handle_t *)conn->stream, on_handle_closed);
	if (req && was_open && req->pub.on_cancel)
		req->pub.on_cancel(&req->pub);
	if (req)
		request_unref(req);
}

void conn_request_done(struct conn *conn)
{
	struct request *req = detach_request(conn);

	assert(req);
	if (!req->pub.keep_alive || conn->server->draining)
		conn->close_after = true;
	conn->state = CONN_IDLE;
	conn->head_bytes = 0;
	set_deadline(conn, conn->server->options.idle_timeout_ms);
	request_unref(req);
	if (!conn->running)
		conn_mark_dirty(conn);
}

void http_request_abort(struct http_request *pub)
{
	struct request *req = REQUEST(pub);
	struct conn *conn = req->conn;

	if (!conn)
		return;
	(void)detach_request(conn);
	conn->state = CONN_IDLE;
	conn->cut = true;
	request_unref(req);
	conn_mark_dirty(conn);
}

static void release_inflight(struct conn *conn)
{
	free(conn->inflight.blocks[0]);
	free(conn->inflight.blocks[1]);
	conn->inflight.blocks[0] = conn->inflight.blocks[1] = NULL;
	conn->inflight.active = false;
}

static void on_written(uv_write_t *write, int status)
{
	struct conn *conn = container_of(write, struct conn, inflight.req);

	release_inflight(conn);
	if (conn->state != CONN_CLOSED) {
		if (status < 0)
			conn_close(conn);
		else
			conn_process(conn);
	}
	conn_unref(conn);
}

/* Gives what the socket did not take to libuv: the rest of `out` behind `sent` bytes, and of `body`, which is
 * owned. */
static void start_write(struct conn *conn, size_t sent, char *body, size_t body_len)
{
	size_t head_len = conn->out.len, body_sent = sent > head_len ? sent - head_len : 0;
	uv_buf_t bufs[2];
	unsigned int count = 0;

	assert(!conn->inflight.active);
	conn->inflight.blocks[0] = buf_take(&conn->out, NULL);
	conn->inflight.blocks[1] = body;
	if (sent < head_len)
		bufs[count++] = uv_buf_init(conn->inflight.blocks[0] + sent, (unsigned int)(head_len - sent));
	if (body_len > body_sent)
		bufs[count++] = uv_buf_init(body + body_sent, (unsigned int)(body_len - body_sent));
	conn->inflight.active = true;
	conn->refs++;
	if (uv_write(&conn->inflight.req, conn->stream, bufs, count, on_written) < 0) {
		release_inflight(conn);
		conn->cut = true;
		conn_mark_dirty(conn);
		conn_unref(conn);
	}
}

void conn_send_owned(struct conn *conn, char *body, size_t len)
{
	uv_buf_t bufs[2];
	int n;

	if (conn->inflight.active || conn->tls) {
		buf_add(&conn->out, body, len);
		free(body);
		return;
	}
	bufs[0] = uv_buf_init(conn->out.data, (unsigned int)conn->out.len);
	bufs[1] = uv_buf_init(body, (unsigned int)len);
	n = uv_try_write(conn->stream, bufs, 2);
	if (n >= 0 && (size_t)n == conn->out.len + len) {
		buf_clear(&conn->out);
		free(body);
	} else if (n >= 0 || n == UV_EAGAIN) {
		start_write(conn, n > 0 ? (size_t)n : 0, body, len);
	} else {
		free(body);
		conn->cut = true; /* closed at the next safe place: the caller is a handler */
		conn_mark_dirty(conn);
	}
}

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
	struct conn *conn = container_of(shutdown, struct conn, shutdown);

	(void)status;
	conn_unref(conn);
}

/* What is to be sent becomes what is sent. */
static bool seal(struct conn *conn)
{
	struct buf sealed;

	if (conn->out.len && tls_send(conn->tls, buf_slice(&conn->out), &conn->wire) < 0)
		return false;
	buf_clear(&conn->out);
	sealed = conn->wire;
	conn->wire = conn->out;
	conn->out = sealed;
	return true;
}

/* Over TLS an end is said, so that nobody takes a cut for it. */
static void say_end(struct conn *conn)
{
	uv_buf_t wire;

	if (!conn->tls)
		return;
	tls_send_end(conn->tls, &conn->wire);
	wire = uv_buf_init(conn->wire.data, (unsigned int)conn->wire.len);
	if (wire.len)
		(void)uv_try_write(
			conn->stream, &wire, 1); /* what is not taken now is not worth waiting for */
	buf_clear(&conn->wire);
}

static void begin_linger(struct conn *conn)
{
	conn->state = CONN_LINGER;
	set_deadline(conn, conn->discard ? DISCARD_MS : LINGER_MS);
	buf_done(&conn->input);
	say_end(conn);
	conn->refs++;
	if (conn->eof || uv_shutdown(&conn->shutdown, conn->stream, on_shutdown) < 0) {
		conn_unref(conn);
		conn_close(conn);
	}
}

static void conn_send(struct conn *conn)
{
	uv_buf_t out;
	int n;

	if (conn->state == CONN_CLOSED || conn->cut || conn->inflight.active ||
		(!conn->out.len && !conn->wire.len))
		return;
	if (conn->tls && !seal(conn)) {
		conn->cut = true;
		return;
	}
	out = uv_buf_init(conn->out.data, (unsigned int)conn->out.len);
	n = uv_try_write(conn->stream, &out, 1);
	if (n < 0 && n != UV_EAGAIN) {
		conn->cut = true;
		return;
	}
	if (n < 0 || (size_t)n < conn->out.len) {
		start_write(conn, n > 0 ? (size_t)n : 0, NULL, 0);
		return;
	}
	/* A stream may be silent for long. */
	if (conn->out.cap > KEEP_BUF_BYTES || conn->state == CONN_STREAM)
		buf_done(&conn->out);
	else
		buf_clear(&conn->out);
	if (!conn->wire.len && (conn->wire.cap > KEEP_BUF_BYTES || conn->state == CONN_STREAM))
		buf_done(&conn->wire);
}

/* When all is sent: closes what should close, and tells a stream's handler that there is room again. */
static void conn_settle(struct conn *conn)
{
	bool between = conn->state == CONN_IDLE || conn->state == CONN_HEAD || conn->state == CONN_BODY;

	if (conn->cut) {
		conn_close(conn);
		return;
	}
	if (conn->state == CONN_CLOSED || conn->inflight.active || conn->out.len)
		return;
	if (between && (conn->close_after || conn->eof)) {
		if (conn->linger || (conn->close_after && conn->input.len)) {
			begin_linger(conn);
		} else {
			say_end(conn);
			conn_close(conn);
		}
		return;
	}
	if (conn->want_drain && conn->state == CONN_STREAM) {
		conn->want_drain = false;
		if (conn->req->pub.on_drain)
			conn->req->pub.on_drain(&conn->req->pub);
	}
}

static void fail_request(struct conn *conn, int status, const char *detail)
{
	struct request *req = detach_request(conn);

	if (req)
		request_unref(req);
	conn->server->stats.malformed_total++;
	conn->state = CONN_IDLE;
	conn->close_after = conn->linger = true;
	reply_malformed(conn, status, detail);
}

/* At the start of a request: takes the method off. Answers the bytes used; 0 with the state still idle: more
 * is needed. */
static size_t begin_request(struct conn *conn, struct slice bytes)
{
	size_t skipped = 0, len;
	const char *blank;

	/* Empty lines in front of a request are a known fault of old clients (RFC 9112, 2.2). */
	while (skipped < bytes.len && (bytes.data[skipped] == '\r' || bytes.data[skipped] == '\n'))
		skipped++;
	if (skipped)
		return skipped;
	len = MIN(bytes.len, (size_t)METHOD_MAX_BYTES);
	blank = memchr(bytes.data, ' ', len);
	len = blank ? (size_t)(blank - bytes.data) : len;
	if (!http_is_token(slice_make(bytes.data, len)) || (!blank && bytes.len >= METHOD_MAX_BYTES)) {
		fail_request(conn, 400, NULL);
		return bytes.len;
	}
	if (!conn->head_bytes) {
		conn->head_bytes = 1;
		set_deadline(conn, conn->server->options.head_timeout_ms);
	}
	if (!blank)
		return 0;
	conn->req = request_get(conn->server);
	conn->req->conn = conn;
	request_begin(conn, slice_make(bytes.data, len));
	conn->state = CONN_HEAD;
	conn->head_bytes = len + 1;
	return len + 1;
}

static void dispatch(struct conn *conn)
{
	struct http_server *server = conn->server;
	struct request *req = conn->req;

	conn->state = CONN_PENDING;
	conn->deadline_ms = 0;
	conn->head_bytes = 0;
	server->stats.requests_total++;
	server->stats.requests_open++;
	req->pub.body = buf_slice(&req->body);
	if (req->pub.body_too_large) {
		req->pub.keep_alive = false;
		conn->linger = conn->discard = true;
	}
	if (limits_admit(conn))
		server->options.on_request(&req->pub, server->options.user);
	else
		http_reply_error(&req->pub, 503,
			"too many large requests wait for their answers: nothing was done, try again later");
}

/* Feeds the parser inside a request. */
static size_t execute_some(struct conn *conn, struct slice bytes)
{
	size_t used = request_execute(&conn->parser, bytes);
	enum http_errno error = HTTP_PARSER_ERRNO(&conn->parser);

	if (conn->state == CONN_HEAD) {
		conn->head_bytes += used;
		if (!conn->error_status && conn->head_bytes > conn->server->options.max_head_bytes) {
			conn->error_status = 431;
			conn->error_text = NULL;
		}
	} else {
		set_deadline(conn, conn->server->options.body_timeout_ms);
	}
	if (conn->error_status) {
		fail_request(conn, conn->error_status, conn->error_text);
		return bytes.len;
	}
	if (error == HPE_PAUSED) {
		http_parser_pause(&conn->parser, 0);
		conn->rest = slice_make(bytes.data + used, bytes.len - used);
		dispatch(conn);
		return used;
	}
	if (error != HPE_OK) {
		fail_request(conn, error == HPE_HEADER_OVERFLOW ? 431 : 400, NULL);
		return bytes.len;
	}
	return used;
}

/* The parser is not strict about the word HTTP: looks at the last bytes of the request line itself. False:
 * the line is whole and does not end as it must. */
static bool check_line_end(struct conn *conn, struct slice bytes)
{
	const char *end = memchr(bytes.data, '\n', bytes.len);
	size_t len = end ? (size_t)(end - bytes.data) : bytes.len, keep;
	struct slice tail;

	keep = MIN(sizeof(conn->line_tail) - MIN(len, sizeof(conn->line_tail)), conn->line_tail_len);
	memmove(conn->line_tail, conn->line_tail + conn->line_tail_len - keep, keep);
	len = MIN(len, sizeof(conn->line_tail) - keep);
	memcpy(conn->line_tail + keep, (end ? end : bytes.data + bytes.len) - len, len);
	conn->line_tail_len = (unsigned char)(keep + len);
	if (!end)
		return true;
	conn->line_done = true;
	tail = slice_make(conn->line_tail, conn->line_tail_len);
	if (tail.len && tail.data[tail.len - 1] == '\r')
		tail.len--;
	if (tail.len < 9)
		return false;
	tail = slice_make(tail.data + tail.len - 9, 9);
	return memcmp(tail.data, " HTTP/", 6) == 0 && tail.data[7] == '.';
}

/* Feeds the parser inside a request. */
static size_t parse_some(struct conn *conn, struct slice bytes)
{
	if (conn->state == CONN_HEAD && !conn->line_done && !check_line_end(conn, bytes)) {
		fail_request(conn, 400, NULL);
		return bytes.len;
	}
	return execute_some(conn, bytes);
}

static bool may_parse(const struct conn *conn)
{
	if (conn->close_after || conn->cut)
		return false;
	if (conn->state == CONN_IDLE)
		return conn_queued_bytes(conn) <= QUEUE_NEXT_BYTES;
	return conn->state == CONN_HEAD || conn->state == CONN_BODY;
}

/* Answers how many bytes were used. */
static size_t conn_feed(struct conn *conn, struct slice bytes)
{
	size_t at = 0;

	assert(!conn->running);
	conn->running = true;
	while (at < bytes.len && may_parse(conn)) {
		struct slice rest = slice_make(bytes.data + at, bytes.len - at);
		size_t used = conn->state == CONN_IDLE ? begin_request(conn, rest) : parse_some(conn, rest);

		if (!used)
			break;
		at += used;
	}
	conn->running = false;
	return at;
}

static void alloc_read(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
	struct conn *conn = handle->data;

	(void)suggested;
	*ret_buf = uv_buf_init(conn->server->read_buf, READ_BUF_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf);

static void set_reading(struct conn *conn, bool reading)
{
	if (conn->state == CONN_CLOSED || conn->reading == reading)
		return;
	conn->reading = reading;
	if (reading)
		(void)uv_read_start(conn->stream, alloc_read, on_read);
	else
		(void)uv_read_stop(conn->stream);
}

void conn_process(struct conn *conn)
{
	bool more = conn->input.len > 0;

	conn->refs++;
	list_remove(&conn->dirty_link);
	if (more && may_parse(conn)) {
		size_t used = conn_feed(conn, buf_slice(&conn->input));

		more = used > 0; /* else it waits for the rest of a request line */
		buf_consume(&conn->input, MIN(used, conn->input.len));
	}
	conn_send(conn);
	/* Requests that wait for room in the queue go on if the socket took it all: in the next turn, since
	 * others wait too. */
	if (more && conn->state == CONN_IDLE && conn->input.len && may_parse(conn))
		conn_mark_dirty(conn);
	if (!conn->input.len && conn->input.cap > KEEP_BUF_BYTES)
		buf_done(&conn->input);
	limits_account(conn);
	conn_settle(conn);
	set_reading(conn, !conn->eof && !conn->resting && conn->input.len < INPUT_MAX_BYTES &&
				  conn->wire.len < TLS_WIRE_MAX);
	conn_unref(conn);
}

void conn_next_turn(struct conn *conn)
{
	conn->resting = false;
	conn->burst_bytes = 0;
	conn_process(conn);
}

static void on_read_end(struct conn *conn, ssize_t error)
{
	conn->eof = true;
	set_reading(conn, false);
	if (error != UV_EOF || conn->state == CONN_LINGER || conn->cut) {
		conn_close(conn);
	} else if (conn->state == CONN_PENDING || conn->state == CONN_STREAM) {
		/* Only its sending side is closed for sure: an answer may still be read. */
		if (conn->req->pub.cancel_on_eof)
			conn_close(conn);
	} else {
		conn_process(conn);
	}
}

static void on_plain(struct conn *conn, struct slice bytes)
{
	size_t len = bytes.len;

	if (conn->state == CONN_LINGER || conn->discard || conn->close_after)
		return;
	conn->refs++;
	if (!conn->input.len) {
		size_t used = conn_feed(conn, bytes);

		bytes = slice_make(bytes.data + used, bytes.len - used);
	}
	if (conn->state != CONN_CLOSED && !conn->discard && bytes.len) {
		/* Bounded: reading stops at INPUT_MAX_BYTES, and one read brings at most READ_BUF_BYTES more.
		 */
		buf_add_slice(&conn->input, bytes);
	}
	/* libuv reads a socket up to 32 times in a row: enough uploads would make a turn last for seconds. */
	conn->burst_bytes += len;
	conn->resting = conn->burst_bytes > BURST_BYTES;
	conn_process(conn);
	if (conn->resting)
		conn_mark_dirty(conn);
	conn_unref(conn);
}

/* The alert, or the answer to who speaks no TLS, is the last word: it is sent, and what still comes is
 * dropped. */
static void refuse_tls(struct conn *conn, bool was_ready)
{
	static const char no_tls[] =
		"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
	const struct http_server_options *options = &conn->server->options;
	char peer[CONN_PEER_BYTES];

	conn->server->stats.malformed_total++;
	conn_peer(conn, peer);
	if (options->on_tls_refused)
		options->on_tls_refused(peer, tls_error(conn->tls), options->user);
	buf_clear(&conn->out);
	if (!was_ready && strcmp(tls_error(conn->tls), "tls: http request") == 0)
		buf_add_str(&conn->wire, no_tls);
	conn_send(conn);
	if (conn->cut || conn->inflight.active || conn->state != CONN_IDLE)
		conn_close(conn);
	else
		begin_linger(conn);
}

static void on_wire(struct conn *conn, struct slice bytes)
{
	struct buf *plain = &conn->server->plain;
	bool was_ready = tls_is_ready(conn->tls);
	int r;

	conn->refs++;
	buf_clear(plain);
	r = tls_receive(conn->tls, bytes, plain, &conn->wire);
	if (!was_ready && tls_is_ready(conn->tls))
		set_deadline(conn, conn->server->options.idle_timeout_ms);
	conn->chatter_bytes = plain->len ? 0 : conn->chatter_bytes + bytes.len;
	if (r < 0) {
		refuse_tls(conn, was_ready);
	} else if (conn->chatter_bytes > (tls_is_ready(conn->tls) ? TLS_CHATTER_MAX : TLS_SHAKING_MAX)) {
		conn->server->stats.malformed_total++;
		conn_close(conn);
	} else if (plain->len) {
		on_plain(conn, buf_slice(plain));
	} else {
		conn_process(conn);
	}
	if (conn->state != CONN_CLOSED && conn->state != CONN_LINGER && tls_has_ended(conn->tls) &&
		!conn->eof)
		on_read_end(conn, UV_EOF);
	conn_unref(conn);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct conn *conn = stream->data;
	struct slice bytes = slice_make(buf->base, len > 0 ? (size_t)len : 0);

	if (len < 0)
		on_read_end(conn, len);
	else if (len > 0 && conn->tls && conn->state != CONN_LINGER)
		on_wire(conn, bytes);
	else if (len > 0)
		on_plain(conn, bytes);
}

void conn_accept(struct listener *listener)
{
	struct http_server *server = listener->server;
	uv_handle_t *handle;
	struct conn *conn;

	if (listener->is_pipe) {
		uv_pipe_t *pipe = mem_new(uv_pipe_t);

		(void)uv_pipe_init(server->loop, pipe, 0);
		handle = (uv_handle_t *)pipe;
	} else {
		uv_tcp_t *tcp = mem_new(uv_tcp_t);

		(void)uv_tcp_init(server->loop, tcp);
		handle = (uv_handle_t *)tcp;
	}
	server->open_handles++;
	conn = mem_new(struct conn);
	conn->server = server;
	conn->stream = (uv_stream_t *)handle;
	conn->refs = 1;
	list_init(&conn->dirty_link);
	list_init(&conn->held_link);
	list_push_back(&server->conns, &conn->link);
	handle->data = conn;
	server->stats.connections++;
	server->stats.connections_total++;
	set_deadline(conn, server->options.idle_timeout_ms);
	if (listener->is_tls) {
		conn->tls = tls_accept(server->tls);
		set_deadline(conn, server->options.head_timeout_ms); /* for the handshake */
	}
	if (uv_accept(&listener->uv.stream, conn->stream) < 0) {
		conn_close(conn);
		return;
	}
	if (!listener->is_pipe) {
		(void)uv_tcp_nodelay((uv_tcp_t *)handle, 1);
		(void)uv_tcp_keepalive((uv_tcp_t *)handle, 1, 30);
	}
	set_reading(conn, true);
}

void conn_sweep(struct conn *conn, uint64_t now_ms)
{
	size_t queued = conn->inflight.active ? uv_stream_get_write_queue_size(conn->stream) : 0;

	if (queued && (queued != conn->last_queue_bytes || !conn->write_deadline_ms))
		conn->write_deadline_ms = now_ms + conn->server->options.write_timeout_ms;
	if (!queued)
		conn->write_deadline_ms = 0;
	conn->last_queue_bytes = queued;
	limits_account(conn);
	/* An unread answer is judged by its own progress, not by the time since the last request. */
	if (conn->write_deadline_ms ? now_ms < conn->write_deadline_ms
				    : !conn->deadline_ms || now_ms < conn->deadline_ms)
		return;
	if (conn->state != CONN_LINGER)
		conn->server->stats.timeouts_total++;
	conn_close(conn);
}

struct handed_write {
	uv_write_t req;
	char data[];
};

static void on_handed_written(uv_write_t *write, int status)
{
	(void)status;
	free(container_of(write, struct handed_write, req));
}

void conn_take_over(struct conn *conn, struct slice head, uv_stream_t **ret_stream, struct buf *ret_unread)
{
	struct http_server *server = conn->server;
	struct request *req = detach_request(conn);
	uv_stream_t *stream = conn->stream;

	set_reading(conn, false);
	buf_add_slice(ret_unread, conn->running ? conn->rest : buf_slice(&conn->input));
	buf_add_slice(&conn->out, head);
	if (conn->out.len) {
		struct handed_write *write = mem_alloc(sizeof(*write) + conn->out.len);
		uv_buf_t out = uv_buf_init(write->data, (unsigned int)conn->out.len);

		memcpy(write->data, conn->out.data, conn->out.len);
		/* An error here also meets the new owner, at its first read or write. */
		if (uv_write(&write->req, stream, &out, 1, on_handed_written) < 0)
			free(write);
	}
	conn->state = CONN_CLOSED;
	limits_forget(conn);
	conn->stream = NULL;
	conn->server = NULL;
	list_remove(&conn->dirty_link);
	list_remove(&conn->link);
	stream->data = NULL;
	buf_clear(&conn->out);
	request_unref(req);
	server_conn_gone(server);
	server_handle_closed(server);
	*ret_stream = stream;
	conn_unref(conn);
}
