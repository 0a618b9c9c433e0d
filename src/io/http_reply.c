/* Answers are written straight into the connection's outgoing buffer; conn_process() sends it once per turn.
 */
#include "io/http_server_internal.h"
#include "base/time.h"
#include <errno.h>
#include <time.h>

enum body_kind { BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE, BODY_NONE };

static void add_date(struct http_server *server, struct buf *out)
{
	int64_t now_s = time_wall_ns() / NS_PER_S;

	if (server->options.no_date)
		return;
	if (now_s != server->date_at_s) {
		time_t now = (time_t)now_s;
		struct tm tm;

		server->date_at_s = now_s;
		server->date_len = gmtime_r(&now, &tm) ? strftime(server->date, sizeof(server->date),
								 "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm)
						       : 0;
	}
	buf_add(out, server->date, server->date_len);
}

static void add_status_line(struct buf *out, uint8_t version_minor, int status)
{
	if (status == 200) {
		buf_add_slice(out, version_minor ? SLICE_LITERAL("HTTP/1.1 200 OK\r\n")
						 : SLICE_LITERAL("HTTP/1.0 200 OK\r\n"));
		return;
	}
	buf_add_slice(out, version_minor ? SLICE_LITERAL("HTTP/1.1 ") : SLICE_LITERAL("HTTP/1.0 "));
	buf_add_u64(out, (uint64_t)status);
	buf_add_char(out, ' ');
	buf_add_str(out, http_status_text(status));
	buf_add_slice(out, SLICE_LITERAL("\r\n"));
}

static size_t headers_bytes(const struct http_header *headers, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += headers[i].name.len + headers[i].value.len + 4;
	return bytes;
}

static void add_headers(struct buf *out, const struct http_header *headers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t value_at;

		assert(http_is_token(headers[i].name));
		buf_add_slice(out, headers[i].name);
		buf_add_slice(out, SLICE_LITERAL(": "));
		value_at = out->len;
		buf_add_slice(out, headers[i].value);
		for (size_t at = value_at; at < out->len; at++)
			if (unlikely(out->data[at] == '\r' || out->data[at] == '\n' || !out->data[at]))
				out->data[at] = ' ';
		buf_add_slice(out, SLICE_LITERAL("\r\n"));
	}
}

static void add_head(struct conn *conn, int status, const struct http_header *headers, size_t header_count,
	enum body_kind kind, size_t body_len)
{
	enum { HEAD_FIXED_BYTES = 256 };
	struct request *req = conn->req;
	struct buf *out = &conn->out;

	/* One growth for all of it. */
	(void)buf_reserve(out, HEAD_FIXED_BYTES + headers_bytes(headers, header_count) +
				       (kind == BODY_LENGTH ? body_len : 0));
	add_status_line(out, req->pub.version_minor, status);
	add_headers(out, headers, header_count);
	add_date(conn->server, out);
	if (kind == BODY_LENGTH) {
		buf_add_slice(out, SLICE_LITERAL("Content-Length: "));
		buf_add_u64(out, body_len);
		buf_add_slice(out, SLICE_LITERAL("\r\n"));
	}
	if (kind == BODY_UNTIL_CLOSE || conn->server->draining)
		req->pub.keep_alive = false;
	if (!req->pub.keep_alive && req->pub.version_minor)
		buf_add_slice(out, SLICE_LITERAL("Connection: close\r\n"));
	else if (req->pub.keep_alive && !req->pub.version_minor)
		buf_add_slice(out, SLICE_LITERAL("Connection: keep-alive\r\n"));
	if (kind == BODY_CHUNKED)
		buf_add_slice(out, SLICE_LITERAL("Transfer-Encoding: chunked\r\n"));
	buf_add_slice(out, SLICE_LITERAL("\r\n"));
}

static bool status_has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

void http_reply(struct http_request *pub, int status, const struct http_header *headers, size_t header_count,
	struct slice body)
{
	struct request *req = REQUEST(pub);
	struct conn *conn = req->conn;
	bool has_body = status_has_body(status);

	if (!conn)
		return;
	assert(conn->state == CONN_PENDING);
	add_head(conn, status, headers, header_count, has_body ? BODY_LENGTH : BODY_NONE, body.len);
	if (has_body && !req->is_head)
		buf_add_slice(&conn->out, body);
	conn_request_done(conn);
}

void http_reply_owned(struct http_request *pub, int status, const struct http_header *headers,
	size_t header_count, char *body, size_t body_len)
{
	struct request *req = REQUEST(pub);
	struct conn *conn = req->conn;
	bool has_body = status_has_body(status);

	if (!conn) {
		free(body);
		return;
	}
	assert(conn->state == CONN_PENDING);
	add_head(conn, status, headers, header_count, has_body ? BODY_LENGTH : BODY_NONE, body_len);
	if (has_body && !req->is_head && body_len)
		conn_send_owned(conn, body, body_len);
	else
		free(body);
	conn_request_done(conn);
}

void http_reply_error(struct http_request *req, int status, const char *text)
{
	static const struct http_header headers[] = {
		{{"Content-Type", 12}, {"text/plain; charset=utf-8", 25}},
		{{"X-Content-Type-Options", 22}, {"nosniff", 7}},
	};
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	buf_add_str(&body, text);
	buf_add_char(&body, '\n');
	http_reply(req, status, headers, ARRAY_LEN(headers), buf_slice(&body));
}

void http_reply_begin(
	struct http_request *pub, int status, const struct http_header *headers, size_t header_count)
{
	struct request *req = REQUEST(pub);
	struct conn *conn = req->conn;

	if (!conn)
		return;
	assert(conn->state == CONN_PENDING);
	conn->chunked = pub->version_minor > 0;
	add_head(conn, status, headers, header_count,
		req->is_head || !status_has_body(status) ? BODY_NONE
		: conn->chunked				 ? BODY_CHUNKED
							 : BODY_UNTIL_CLOSE,
		0);
	conn->state = CONN_STREAM;
	if (!conn->running)
		conn_mark_dirty(conn);
}

/* A chunk's first line. */
static void add_chunk_size(struct buf *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	char digits[2 * sizeof(size)];
	size_t at = sizeof(digits);

	do {
		digits[--at] = hex[size & 15];
		size >>= 4;
	} while (size);
	buf_add(out, digits + at, sizeof(digits) - at);
	buf_add_slice(out, SLICE_LITERAL("\r\n"));
}

int http_reply_piece(struct http_request *pub, struct slice piece)
{
	/* Around a chunk, and behind the last one. */
	enum { CHUNK_FRAME_BYTES = 2 * sizeof(size_t) + 4 + 5 };

	struct request *req = REQUEST(pub);
	struct conn *conn = req->conn;
	size_t queued, max, little;

	if (!conn || conn->cut)
		return -EPIPE;
	assert(conn->state == CONN_STREAM);
	if (!piece.len || req->is_head)
		return 0;
	max = conn->server->options.max_queue_bytes;
	little = MIN(max / 4, (size_t)QUEUE_NEXT_BYTES);
	queued = conn_queued_bytes(conn);
	/* A piece that is larger than the ceiling by itself may still pass when little is waiting in front of
	 * it: the head of its own answer is, and may be those of pipelined requests before it. */
	if (queued > little && queued + piece.len > max) {
		conn->want_drain = true;
		if (!conn->server->options.keep_slow_readers) {
			conn->server->stats.slow_readers_total++;
			conn->cut = true;
			conn_mark_dirty(conn);
		}
		return -ENOBUFS;
	}
	(void)buf_reserve(&conn->out, CHUNK_FRAME_BYTES + piece.len);
	if (conn->chunked)
		add_chunk_size(&conn->out, piece.len);
	buf_add_slice(&conn->out, piece);
	if (conn->chunked)
		buf_add_slice(&conn->out, SLICE_LITERAL("\r\n"));
	if (!conn->running)
		conn_mark_dirty(conn);
	return 0;
}

void http_reply_end(struct http_request *pub)
{
	struct request *req = REQUEST(pub);
	struct conn *conn = req->conn;

	if (!conn)
		return;
	assert(conn->state == CONN_STREAM);
	if (conn->chunked && !req->is_head)
		buf_add_slice(&conn->out, SLICE_LITERAL("0\r\n\r\n"));
	conn->want_drain = false;
	conn_request_done(conn);
}

void http_reply_await_drain(struct http_request *pub)
{
	struct conn *conn = REQUEST(pub)->conn;

	if (!conn)
		return;
	assert(conn->state == CONN_STREAM);
	conn->want_drain = true;
	if (!conn_queued_bytes(conn))
		conn_mark_dirty(conn);
}

size_t http_reply_queued_bytes(const struct http_request *pub)
{
	const struct request *req = REQUEST(pub);

	return req->conn ? conn_queued_bytes(req->conn) : 0;
}

void reply_malformed(struct conn *conn, int status, const char *detail)
{
	buf_printf(&conn->out,
		"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%d "
		"%s%s%s",
		status, http_status_text(status), status, http_status_text(status), detail ? ": " : "",
		detail ? detail : "");
}
