/* One connection of the client: look-up of the name, the addresses one after the other, then calls. Closing
 * is always safe: what libuv still has (connect, write) is called back before the handle's close callback
 * frees everything. */
#include "io/http_client_internal.h"
#include "base/text.h"
#include <errno.h>
#include <netdb.h>
#include <stdio.h>

static void conn_free(struct client_conn *conn)
{
	assert(!conn->call && !conn->lookup);
	if (conn->addresses)
		uv_freeaddrinfo(conn->addresses);
	blob_unref(conn->sending);
	buf_done(&conn->first_error);
	buf_done(&conn->wire);
	free(conn->wire_bytes);
	(void)tls_free(conn->tls);
	free(conn->stream);
	free(conn);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct client_conn *conn = handle->data;
	struct http_client *client = conn->client;

	conn_free(conn);
	client_handle_closed(client);
}

/* Everything of the connection but its memory ends here; its call must be taken off before. */
static void leave_origin(struct client_conn *conn)
{
	struct origin *origin = conn->origin;

	if (conn->state == CC_IDLE) {
		list_remove(&conn->link);
		origin->idle_count--;
	}
	conn->state = CC_CLOSED;
	conn->origin = NULL;
	if (conn->lookup) {
		conn->lookup->conn = NULL;
		(void)uv_cancel((uv_req_t *)&conn->lookup->req);
		conn->lookup = NULL;
	}
	origin_conn_gone(origin);
}

/* A request that nobody waits for any more shall not arrive later: what the kernel has not sent yet is
 * dropped with a reset. An ordinary close would try to deliver it for minutes. */
static bool close_with_reset(struct client_conn *conn)
{
	return conn->stream->type == UV_TCP &&
	       uv_tcp_close_reset((uv_tcp_t *)(void *)conn->stream, on_handle_closed) == 0;
}

void client_conn_close(struct client_conn *conn)
{
	bool given_up = conn->call && conn->state == CC_ACTIVE && !conn->got_bytes;

	if (conn->state == CC_CLOSED)
		return;
	if (conn->call)
		conn->call->conn = NULL;
	conn->call = NULL;
	leave_origin(conn);
	if (!conn->stream)
		conn_free(conn);
	else if (!given_up || !close_with_reset(conn))
		uv_close((uv_handle_t *)conn->stream, on_handle_closed);
}

/* Ends the connection and its call. A connection from the pool that was closed by the server before a byte of
 * the answer came says nothing about the request, which may then be sent again. */
static void conn_fail(struct client_conn *conn, int error, const char *text)
{
	struct http_call *call = conn->call;
	bool again = call && conn->reused && !conn->got_bytes && !call->fresh_only &&
		     (call->is_get || !call->sent_any) &&
		     (error == UV_EOF || error == -ECONNRESET || error == -EPIPE || error == -ECONNABORTED);

	client_conn_close(conn);
	if (again) {
		call->fresh_only = true;
		call->sent_any = false;
		call_start(call);
	} else if (call) {
		call_finish(call, error == UV_EOF ? -ECONNRESET : error, text);
	}
}

static void fail_io(struct client_conn *conn, const char *verb, int error)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	buf_printf(&text, "%s %s: %s: ", verb, conn->peer, verb);
	text_add_errno(&text, error);
	conn_fail(conn, error, buf_text(&text));
}

static void on_written(uv_write_t *write, int status)
{
	struct client_conn *conn = container_of(write, struct client_conn, write);

	conn->sending = blob_unref(conn->sending);
	/* A server may answer and close without reading it all: the read side tells the whole story. */
	if (status < 0 && status != UV_EPIPE && status != UV_ECONNRESET && conn->state == CC_ACTIVE)
		fail_io(conn, "write", status);
}

static int flush_wire(struct client_conn *conn);

static void on_wire_written(uv_write_t *write, int status)
{
	struct client_conn *conn = container_of(write, struct client_conn, wire_write);

	conn->wire_bytes = mem_free(conn->wire_bytes);
	if (conn->state == CC_CLOSED)
		return;
	if (status == 0)
		status = flush_wire(conn);
	if (status < 0 && status != UV_EPIPE && status != UV_ECONNRESET && conn->call)
		fail_io(conn, "write", status);
}

/* Sends what is encrypted, in its order: one write is under way at a time. */
static int flush_wire(struct client_conn *conn)
{
	size_t len = conn->wire.len;
	uv_buf_t bytes = uv_buf_init(conn->wire.data, (unsigned int)len);
	int n;

	if (conn->wire_bytes || !len)
		return 0;
	n = uv_try_write(conn->stream, &bytes, 1);
	if (n == UV_EAGAIN)
		n = 0;
	if (n < 0)
		return n;
	if ((size_t)n == len) {
		buf_clear(&conn->wire);
		return 0;
	}
	conn->wire_bytes = buf_take(&conn->wire, NULL);
	bytes = uv_buf_init(conn->wire_bytes + n, (unsigned int)(len - (size_t)n));
	n = uv_write(&conn->wire_write, conn->stream, &bytes, 1, on_wire_written);
	if (n < 0)
		conn->wire_bytes = mem_free(conn->wire_bytes);
	return n;
}

static void alloc_read(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
	struct client_conn *conn = handle->data;

	(void)suggested;
	*ret_buf = uv_buf_init(conn->client->read_buf, CLIENT_READ_BUF_BYTES);
}

static void send_sealed(struct client_conn *conn)
{
	struct http_call *call = conn->call;
	int n = tls_send(conn->tls, slice_make(call->request->data, call->request->len), &conn->wire);

	if (n < 0) {
		conn_fail(conn, n, tls_error(conn->tls));
		return;
	}
	call->sent_any = true;
	n = flush_wire(conn);
	/* A server that closed may have said why: the read side tells. */
	if (n < 0 && n != UV_EPIPE && n != UV_ECONNRESET)
		fail_io(conn, "write", n);
	else
		client_conn_set_reading(conn, true);
}

static void send_request(struct client_conn *conn)
{
	struct http_call *call = conn->call;
	struct blob *blob = call->request;
	uv_buf_t bytes = uv_buf_init(blob->data, (unsigned int)blob->len);
	int n;

	conn->state = CC_ACTIVE;
	response_begin(call, conn);
	call_set_phase_deadline(call, call->options.header_timeout_ms);
	if (conn->tls) {
		send_sealed(conn);
		return;
	}
	n = uv_try_write(conn->stream, &bytes, 1);
	if (n == UV_EAGAIN)
		n = 0;
	if (n < 0) {
		/* Not one byte could be sent, but what the server said before it closed may still be
		 * readable. */
		if (conn->reused)
			conn_fail(conn, n, "");
		else
			fail_io(conn, "write", n);
		return;
	}
	call->sent_any = n > 0;
	if ((size_t)n < blob->len) {
		bytes = uv_buf_init(blob->data + n, (unsigned int)(blob->len - (size_t)n));
		blob->refs++;
		conn->sending = blob;
		call->sent_any = true;
		n = uv_write(&conn->write, conn->stream, &bytes, 1, on_written);
		if (n < 0) {
			conn->sending = blob_unref(conn->sending);
			fail_io(conn, "write", n);
			return;
		}
	}
	client_conn_set_reading(conn, true);
}

/* The answer is whole. */
static void answer_complete(struct client_conn *conn, bool extra_bytes)
{
	struct http_call *call = conn->call;
	bool keep = conn->keep && !extra_bytes && !conn->sending && !conn->wire_bytes &&
		    !call->options.no_reuse && !call->client->closing;

	conn->call = NULL;
	call->conn = NULL;
	if (keep)
		origin_conn_idle(conn);
	else
		client_conn_close(conn);
	call_finish(call, 0, "");
}

static void hand_over(struct client_conn *conn, struct slice unread)
{
	struct http_call *call = conn->call;
	uv_stream_t *stream = conn->stream;
	struct http_client *client = conn->client;

	assert(!conn->sending);
	client_conn_set_reading(conn, false);
	conn->call = NULL;
	call->conn = NULL;
	leave_origin(conn);
	conn->stream = NULL;
	stream->data = NULL;
	conn_free(conn);
	client_handle_closed(client);
	call->done = true;
	call->options.on_upgrade(call, &call->response, stream, unread, call->options.user);
	call_free(call);
}

static void on_end(struct client_conn *conn, int error)
{
	struct http_call *call = conn->call;

	if (conn->state == CC_IDLE) {
		client_conn_close(conn);
		return;
	}
	if (error != UV_EOF) {
		fail_io(conn, "read", error);
		return;
	}
	/* Over TLS an end is said: anybody can cut a connection. */
	if (conn->got_bytes && call->head_done && (!conn->tls || tls_has_ended(conn->tls))) {
		/* The end of a body without a length. */
		(void)response_execute(conn, NULL, 0);
		if (!conn->call)
			return;
		if (call->complete) {
			answer_complete(conn, true);
			return;
		}
	}
	conn_fail(conn, UV_EOF, conn->got_bytes ? "unexpected EOF" : "EOF");
}

static void on_plain(struct client_conn *conn, struct slice bytes)
{
	struct http_call *call = conn->call;
	size_t used;

	if (conn->state != CC_ACTIVE) {
		client_conn_close(conn); /* an answer that nobody asked for */
		return;
	}
	conn->got_bytes = true;
	used = response_execute(conn, bytes.data, bytes.len);
	if (conn->call != call)
		return; /* cancelled by a callback */
	if (call->upgraded && HTTP_PARSER_ERRNO(&conn->parser) != HPE_CB_headers_complete) {
		if (conn->tls)
			conn_fail(conn, -ENOTSUP, "a connection that speaks TLS cannot be taken over");
		else
			hand_over(conn, slice_make(bytes.data + used, bytes.len - used));
	} else if (call->complete) {
		answer_complete(conn, used < bytes.len);
	} else if (call->parse_error) {
		conn_fail(conn, call->parse_error, call->parse_text);
	} else if (HTTP_PARSER_ERRNO(&conn->parser) != HPE_OK) {
		conn_fail(conn, -EPROTO,
			"net/http: HTTP/1.x transport connection broken: malformed HTTP response");
	} else {
		call_body_goes_on(call);
	}
}

static void on_wire(struct client_conn *conn, struct slice bytes)
{
	struct buf *plain = &conn->client->plain;
	bool was_ready = tls_is_ready(conn->tls);
	int r, sent;

	buf_clear(plain);
	r = tls_receive(conn->tls, bytes, plain, &conn->wire);
	conn->chatter_bytes = plain->len ? 0 : conn->chatter_bytes + bytes.len;
	if (r == 0 && (conn->chatter_bytes > CHATTER_MAX || conn->wire.len > CHATTER_MAX)) {
		if (conn->call)
			conn_fail(conn, -EPROTO, "tls: nothing but talk about the connection");
		else
			client_conn_close(conn);
		return;
	}
	sent = flush_wire(conn); /* with what tells the server why */
	if (r < 0 && conn->call) {
		conn_fail(conn, r, tls_error(conn->tls));
		return;
	}
	if (r < 0 || (sent < 0 && !conn->call)) {
		client_conn_close(conn);
		return;
	}
	if (!was_ready && tls_is_ready(conn->tls))
		send_request(conn);
	if (plain->len && conn->state != CC_CLOSED)
		on_plain(conn, buf_slice(plain));
	if (conn->state != CC_CLOSED && tls_has_ended(conn->tls))
		on_end(conn, UV_EOF);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct client_conn *conn = stream->data;
	struct slice bytes = slice_make(buf->base, len > 0 ? (size_t)len : 0);

	if (len < 0)
		on_end(conn, (int)len);
	else if (len > 0 && conn->tls)
		on_wire(conn, bytes);
	else if (len > 0)
		on_plain(conn, bytes);
}

void client_conn_set_reading(struct client_conn *conn, bool reading)
{
	if (conn->state == CC_CLOSED || conn->reading == reading)
		return;
	conn->reading = reading;
	if (reading)
		(void)uv_read_start(conn->stream, alloc_read, on_read);
	else
		(void)uv_read_stop(conn->stream);
}

static void connect_next(struct client_conn *conn);

static void note_error(struct client_conn *conn, int error)
{
	if (conn->first_errno)
		return;
	conn->first_errno = error;
	buf_printf(&conn->first_error, "dial %s: connect: ", conn->peer);
	text_add_errno(&conn->first_error, error);
}

static void begin_handshake(struct client_conn *conn)
{
	int n;

	/* The kernel's patience with a connect does not count here. */
	call_set_phase_deadline(conn->call, conn->call->options.connect_timeout_ms
						    ? conn->call->options.connect_timeout_ms
						    : HANDSHAKE_TIMEOUT_MS);
	conn->tls = tls_connect(conn->client->tls, conn->origin->host);
	n = tls_receive(conn->tls, SLICE_LITERAL(""), &conn->client->plain, &conn->wire);
	if (n < 0) {
		conn_fail(conn, n, tls_error(conn->tls));
		return;
	}
	n = flush_wire(conn);
	if (n < 0)
		fail_io(conn, "write", n);
	else
		client_conn_set_reading(conn, true);
}

static void on_attempt_closed(uv_handle_t *handle)
{
	struct http_client *client = handle->data;

	free(handle);
	client_handle_closed(client);
}

static void on_connected(uv_connect_t *connect, int status)
{
	struct client_conn *conn = container_of(connect, struct client_conn, connect);

	if (conn->state != CC_CONNECTING)
		return; /* closed meanwhile */
	if (status < 0) {
		uv_stream_t *stream = conn->stream;

		note_error(conn, status);
		conn->stream = NULL;
		stream->data = conn->client;
		uv_close((uv_handle_t *)stream, on_attempt_closed);
		connect_next(conn);
		return;
	}
	if (conn->stream->type == UV_TCP) {
		(void)uv_tcp_nodelay((uv_tcp_t *)conn->stream, 1);
		/* A stream whose other end is gone without a word is noticed after 20 s: libuv asks ten
		 * times. */
		(void)uv_tcp_keepalive((uv_tcp_t *)conn->stream, 1, 10);
	}
	if (conn->origin->is_tls)
		begin_handshake(conn);
	else
		send_request(conn);
}

static void new_stream(struct client_conn *conn, bool is_pipe)
{
	if (is_pipe) {
		uv_pipe_t *pipe = mem_new(uv_pipe_t);

		(void)uv_pipe_init(conn->client->loop, pipe, 0);
		conn->stream = (uv_stream_t *)pipe;
	} else {
		uv_tcp_t *tcp = mem_new(uv_tcp_t);

		(void)uv_tcp_init(conn->client->loop, tcp);
		conn->stream = (uv_stream_t *)tcp;
	}
	conn->stream->data = conn;
	conn->client->open_handles++;
}

static void connect_address(struct client_conn *conn, const struct sockaddr *address)
{
	_cleanup_buf_ struct buf name = BUF_INIT(0);
	char text[64] = "?";
	int r;

	(void)uv_ip_name(address, text, sizeof(text));
	buf_add_str(&name, "tcp ");
	url_add_host_port(&name, text, conn->origin->port);
	(void)snprintf(conn->peer, sizeof(conn->peer), "%s", buf_text(&name));
	new_stream(conn, false);
	conn->state = CC_CONNECTING;
	r = uv_tcp_connect(&conn->connect, (uv_tcp_t *)conn->stream, address, on_connected);
	if (r < 0)
		on_connected(&conn->connect, r);
}

/* The next address of the name, or the first error when all were tried. */
static void connect_next(struct client_conn *conn)
{
	struct addrinfo *at = conn->next_address;

	if (!at) {
		_cleanup_free_ char *text = mem_strdup(buf_text(&conn->first_error));

		conn_fail(conn, conn->first_errno ? conn->first_errno : -EHOSTUNREACH, text);
		return;
	}
	conn->next_address = at->ai_next;
	if (at->ai_family == AF_INET6)
		((struct sockaddr_in6 *)at->ai_addr)->sin6_port = htons(conn->origin->port);
	else
		((struct sockaddr_in *)at->ai_addr)->sin_port = htons(conn->origin->port);
	connect_address(conn, at->ai_addr);
}

static void fail_lookup(struct client_conn *conn, int status)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	bool unknown = status == UV_EAI_NONAME || status == UV_EAI_NODATA;

	buf_printf(&text, "dial tcp: lookup %s: %s", conn->origin->host,
		unknown ? "no such host" : uv_strerror(status));
	conn_fail(conn, -ENOENT, buf_text(&text));
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
	struct lookup *lookup = container_of(req, struct lookup, req);
	struct http_client *client = lookup->client;
	struct client_conn *conn = lookup->conn;

	free(lookup);
	if (!conn) {
		uv_freeaddrinfo(found);
	} else {
		conn->lookup = NULL;
		if (status < 0) {
			fail_lookup(conn, status);
		} else {
			conn->addresses = conn->next_address = found;
			connect_next(conn);
		}
	}
	client_handle_closed(client);
}

static void look_up(struct client_conn *conn)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct lookup *lookup = mem_new(struct lookup);
	int r;

	lookup->client = conn->client;
	lookup->conn = conn;
	conn->lookup = lookup;
	/* AI_ADDRCONFIG ignores loopback addresses, and "localhost" must work on a host without a network. */
	if (strcmp(conn->origin->host, "localhost") == 0)
		hints.ai_flags = 0;
	conn->client->open_handles++;
	r = uv_getaddrinfo(conn->client->loop, &lookup->req, on_looked_up, conn->origin->host, NULL, &hints);
	if (r < 0) {
		conn->lookup = NULL;
		free(lookup);
		conn->client->open_handles--; /* the call itself keeps the client */
		fail_lookup(conn, r);
	}
}

/* The socket that leads to the origin; NULL: it is reached by TCP. */
static const char *unix_way(const struct origin *origin)
{
	if (origin->is_unix)
		return origin->host;
	list_for_each (it, &origin->client->routes) {
		const struct route *route = list_item(it, struct route, link);

		if (route->port == origin->port && strcmp(route->host, origin->host) == 0)
			return route->unix_path;
	}
	return NULL;
}

/* What errors call it: a route's socket says nothing to a user. */
static void name_peer(struct client_conn *conn)
{
	const struct origin *origin = conn->origin;
	_cleanup_buf_ struct buf name = BUF_INIT(0);

	if (!origin->is_unix)
		url_add_host_port(&name, origin->host, origin->port);
	(void)snprintf(conn->peer, sizeof(conn->peer), "%s %s", origin->is_unix ? "unix" : "tcp",
		origin->is_unix ? origin->host : buf_text(&name));
}

void client_conn_open(struct origin *origin, struct http_call *call)
{
	const char *unix_path = unix_way(origin);
	struct client_conn *conn = mem_new(struct client_conn);
	struct sockaddr_in6 six;
	struct sockaddr_in four;

	conn->origin = origin;
	conn->client = origin->client;
	conn->call = call;
	call->conn = conn;
	list_init(&conn->link);
	origin->conn_count++;
	call_set_phase_deadline(call, call->options.connect_timeout_ms);
	if (unix_path) {
		name_peer(conn);
		new_stream(conn, true);
		conn->state = CC_CONNECTING;
		uv_pipe_connect(&conn->connect, (uv_pipe_t *)conn->stream, unix_path, on_connected);
	} else if (uv_ip4_addr(*origin->host ? origin->host : "127.0.0.1", origin->port, &four) == 0) {
		connect_address(conn, (struct sockaddr *)&four);
	} else if (uv_ip6_addr(origin->host, origin->port, &six) == 0) {
		connect_address(conn, (struct sockaddr *)&six);
	} else {
		look_up(conn);
	}
}

void client_conn_use(struct client_conn *conn, struct http_call *call)
{
	assert(conn->state == CC_IDLE);
	list_remove(&conn->link);
	conn->origin->idle_count--;
	conn->reused = true;
	conn->call = call;
	call->conn = conn;
	uv_ref((uv_handle_t *)conn->stream);
	send_request(conn);
}
