/* How a request comes to be. The parser's callbacks append the target and all header names and values to one
 * buffer and note where each lies; when the head is whole the notes become slices, and the head is judged as
 * Go's net/http does. Request objects are recycled with their buffers.
 *
 * http-parser knows a fixed set of methods, but any token is one: the connection takes the method off in
 * front of it, and the parser is told GET, which changes nothing in how the rest is read. */
#include "io/http_server_internal.h"
#include <errno.h>
#include <stdio.h>

static struct conn *conn_of(http_parser *parser)
{
	return parser->data;
}

static int reject(struct conn *conn, int status, const char *text)
{
	conn->error_status = status;
	conn->error_text = text;
	return -1;
}

static int on_url(http_parser *parser, const char *at, size_t len)
{
	struct request *req = conn_of(parser)->req;

	buf_add(&req->head, at, len);
	req->target_len = (uint32_t)req->head.len;
	return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t len)
{
	struct conn *conn = conn_of(parser);
	struct request *req = conn->req;

	if (req->head_done)
		return 0; /* a trailer: read over */
	if (req->in_value || !req->mark_count) {
		if (req->mark_count >= HEADERS_MAX)
			return reject(conn, 431, NULL);
		if (req->mark_count == req->mark_cap) {
			req->mark_cap = MAX(req->mark_cap * 2, (size_t)16);
			req->marks = mem_reallocarray(req->marks, req->mark_cap, sizeof(*req->marks));
		}
		req->marks[req->mark_count++] = (struct mark){.name_at = (uint32_t)req->head.len};
		req->in_value = false;
	}
	buf_add(&req->head, at, len);
	req->marks[req->mark_count - 1].name_len += (uint32_t)len;
	return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t len)
{
	struct request *req = conn_of(parser)->req;
	struct mark *mark;

	if (req->head_done || !req->mark_count)
		return 0;
	mark = &req->marks[req->mark_count - 1];
	if (!req->in_value) {
		req->in_value = true;
		mark->value_at = (uint32_t)req->head.len;
	}
	buf_add(&req->head, at, len);
	mark->value_len += (uint32_t)len;
	return 0;
}

static bool value_is_valid(struct slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (((unsigned char)value.data[i] < 0x20 && value.data[i] != '\t') || value.data[i] == 0x7f)
			return false;
	return true;
}

static int make_headers(struct conn *conn)
{
	struct request *req = conn->req;

	if (req->mark_count > req->header_cap) {
		req->header_cap = req->mark_cap;
		req->headers = mem_reallocarray(req->headers, req->header_cap, sizeof(*req->headers));
	}
	for (size_t i = 0; i < req->mark_count; i++) {
		const struct mark *mark = &req->marks[i];
		struct http_header *header = &req->headers[i];

		header->name = slice_make(req->head.data + mark->name_at, mark->name_len);
		header->value = slice_make(req->head.data + mark->value_at, mark->value_len);
		while (header->value.len && (header->value.data[header->value.len - 1] == ' ' ||
						    header->value.data[header->value.len - 1] == '\t'))
			header->value.len--;
		if (!http_is_token(header->name))
			return reject(conn, 400, "invalid header name");
		if (!value_is_valid(header->value))
			return reject(conn, 400, "invalid header value");
	}
	req->pub.headers = req->headers;
	req->pub.header_count = req->mark_count;
	return 0;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* "/path?query", "*", or "http://host/path?query". */
static int split_target(struct conn *conn)
{
	struct http_request *pub = &conn->req->pub;
	struct slice rest = pub->target;
	const char *mark;

	if (rest.data[0] != '/' && !slice_is(rest, "*")) {
		size_t at;

		mark = memmem(rest.data, rest.len, "://", 3);
		if (!mark)
			return reject(conn, 400, NULL);
		rest = slice_make(mark + 3, rest.len - (size_t)(mark + 3 - rest.data));
		for (at = 0; at < rest.len && rest.data[at] != '/' && rest.data[at] != '?';)
			at++;
		if (!at)
			return reject(conn, 400, NULL);
		pub->host = slice_make(rest.data, at);
		rest = slice_make(rest.data + at, rest.len - at);
	}
	mark = rest.len ? memchr(rest.data, '?', rest.len) : NULL;
	pub->query =
		mark ? slice_make(mark + 1, rest.len - (size_t)(mark - rest.data) - 1) : slice_make("", 0);
	pub->path = slice_make(rest.data, mark ? (size_t)(mark - rest.data) : rest.len);
	if (!pub->path.len)
		pub->path = SLICE_LITERAL("/");
	for (size_t i = 0; i < pub->path.len; i++) {
		if (pub->path.data[i] != '%')
			continue;
		if (i + 2 >= pub->path.len || !is_hex(pub->path.data[i + 1]) ||
			!is_hex(pub->path.data[i + 2]))
			return reject(conn, 400, NULL);
	}
	return 0;
}

static bool host_is_valid(struct slice host)
{
	static const bool allowed[256] = {
		['!'] = true,
		['$' ... '.'] = true,
		['0' ... ';'] = true,
		['='] = true,
		['A' ... '['] = true,
		[']'] = true,
		['_'] = true,
		['a' ... 'z'] = true,
		['~'] = true,
	};

	for (size_t i = 0; i < host.len; i++)
		if (!allowed[(unsigned char)host.data[i]])
			return false;
	return true;
}

static int judge_host(struct conn *conn)
{
	struct http_request *pub = &conn->req->pub;
	size_t hosts = 0;
	struct slice host = {"", 0};

	for (size_t i = 0; i < pub->header_count; i++) {
		if (!http_equal_nocase(pub->headers[i].name, "host"))
			continue;
		host = pub->headers[i].value;
		hosts++;
	}
	if (hosts > 1)
		return reject(conn, 400, "too many Host headers");
	if (!hosts && pub->version_minor > 0)
		return reject(conn, 400, "missing required Host header");
	if (!host_is_valid(host))
		return reject(conn, 400, "malformed Host header");
	if (!pub->host.len)
		pub->host = host;
	return 0;
}

/* The codings of the body and what the client expects of us. */
static int judge_body(struct conn *conn, http_parser *parser)
{
	const struct http_request *pub = &conn->req->pub;
	const struct http_server_options *options = &conn->server->options;
	size_t ceiling = options->max_body_bytes;
	const struct slice *expect = http_request_header(pub, "expect");
	bool chunked = parser->flags & F_CHUNKED;
	bool has_length = parser->flags & F_CONTENTLENGTH;
	const struct slice *coding = http_request_header(pub, "transfer-encoding");

	if (coding && (!chunked || !http_equal_nocase(*coding, "chunked")))
		return reject(conn, 501, "Unsupported transfer encoding");
	if (expect && !http_equal_nocase(*expect, "100-continue"))
		return reject(conn, 417, NULL);
	if (options->body_ceiling)
		ceiling = MIN(ceiling, options->body_ceiling(pub, options->user));
	conn->req->body.max = MAX(ceiling, (size_t)1); /* 0 would be none */
	if (has_length && parser->content_length > ceiling) {
		conn->req->pub.body_too_large = true;
		http_parser_pause(parser, 1);
		return 0;
	}
	if (expect && pub->version_minor > 0 && (chunked || (has_length && parser->content_length)))
		buf_add_str(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
	return 0;
}

static int on_headers_complete(http_parser *parser)
{
	struct conn *conn = conn_of(parser);
	struct request *req = conn->req;
	struct http_request *pub = &req->pub;

	req->head_done = true;
	conn->state = CONN_BODY;
	if (parser->http_major == 0)
		return reject(conn, 400, NULL); /* a request line without a version */
	if (parser->http_major != 1)
		return reject(conn, 505, "unsupported protocol version");
	if (req->head.len > conn->server->options.max_head_bytes)
		return reject(conn, 431, NULL);
	pub->version_minor = (uint8_t)MIN(parser->http_minor, 1);
	pub->target = slice_make(req->head.data, req->target_len);
	if (!pub->target.len)
		return reject(conn, 400, NULL);
	if (make_headers(conn) < 0 || split_target(conn) < 0 || judge_host(conn) < 0)
		return -1;
	if (pub->version_minor > 0)
		pub->keep_alive =
			!http_header_has_word(pub->headers, pub->header_count, "connection", "close");
	else
		pub->keep_alive =
			http_header_has_word(pub->headers, pub->header_count, "connection", "keep-alive");
	pub->upgrade = parser->upgrade;
	return judge_body(conn, parser);
}

static int on_body(http_parser *parser, const char *at, size_t len)
{
	struct request *req = conn_of(parser)->req;

	if (req->pub.body_too_large)
		return 0;
	buf_add(&req->body, at, len);
	if (buf_error(&req->body) < 0) {
		buf_done(&req->body);
		req->pub.body_too_large = true;
		http_parser_pause(parser, 1);
	}
	return 0;
}

static int on_message_complete(http_parser *parser)
{
	http_parser_pause(parser, 1);
	return 0;
}

size_t request_execute(http_parser *parser, struct slice bytes)
{
	static const http_parser_settings settings = {
		.on_url = on_url,
		.on_header_field = on_header_field,
		.on_header_value = on_header_value,
		.on_headers_complete = on_headers_complete,
		.on_body = on_body,
		.on_message_complete = on_message_complete,
	};

	return http_parser_execute(parser, &settings, bytes.data, bytes.len);
}

void request_begin(struct conn *conn, struct slice method)
{
	struct request *req = conn->req;
	size_t used;

	assert(method.len < sizeof(req->method));
	memcpy(req->method, method.data, method.len);
	req->method[method.len] = '\0';
	req->pub.method = slice_make(req->method, method.len);
	req->is_head = slice_is(method, "HEAD");
	conn->error_status = 0;
	conn->line_done = false;
	conn->line_tail_len = 0;
	http_parser_init(&conn->parser, HTTP_REQUEST);
	conn->parser.data = conn;
	used = request_execute(&conn->parser, SLICE_LITERAL("GET "));
	assert(used == 4);
}

struct request *request_get(struct http_server *server)
{
	struct request *req;

	if (list_empty(&server->free_requests)) {
		req = mem_new(struct request);
		arena_init(&req->pub.arena);
		req->body = BUF_INIT(server->options.max_body_bytes);
	} else {
		req = list_first(&server->free_requests, struct request, link);
		list_remove(&req->link);
		server->free_count--;
	}
	req->refs = 1;
	req->pub.server = server;
	list_push_back(&server->requests, &req->link);
	return req;
}

void request_free(struct request *req)
{
	arena_done(&req->pub.arena);
	buf_done(&req->head);
	buf_done(&req->body);
	free(req->marks);
	free(req->headers);
	free(req);
}

static void buf_recycle(struct buf *buf)
{
	if (buf->cap > KEEP_BUF_BYTES)
		buf_done(buf);
	else
		buf_clear(buf);
}

void request_unref(struct request *req)
{
	struct http_server *server = req->pub.server;
	struct arena arena;

	assert(req->refs > 0);
	if (--req->refs)
		return;
	assert(!req->conn);
	list_remove(&req->link);
	if (!server || server->closing || server->free_count >= FREE_REQUESTS_MAX || req->mark_cap > 128) {
		request_free(req);
		return;
	}
	buf_recycle(&req->head);
	buf_recycle(&req->body);
	arena_reset(&req->pub.arena);
	arena = req->pub.arena;
	req->pub = (struct http_request){.arena = arena};
	req->mark_count = 0;
	req->target_len = 0;
	req->in_value = req->head_done = req->is_head = false;
	list_push_front(&server->free_requests, &req->link);
	server->free_count++;
}

static void forget_slices(struct http_request *pub)
{
	pub->headers = NULL;
	pub->header_count = 0;
	pub->target = pub->path = pub->query = pub->host = pub->body = SLICE_LITERAL("");
}

void http_request_release(struct http_request *pub)
{
	struct request *req = REQUEST(pub);
	bool large = req->head.cap > KEEP_BUF_BYTES || req->body.cap > KEEP_BUF_BYTES;

	buf_recycle(&req->head);
	buf_recycle(&req->body);
	forget_slices(pub);
	if (large && req->conn)
		limits_account(req->conn);
}

void http_request_shrink(struct http_request *pub)
{
	struct request *req = REQUEST(pub);

	arena_done(&pub->arena);
	buf_done(&req->head);
	buf_done(&req->body);
	req->marks = mem_free(req->marks);
	req->headers = mem_free(req->headers);
	req->mark_count = req->mark_cap = req->header_cap = 0;
	forget_slices(pub);
}

const struct slice *http_request_header(const struct http_request *req, const char *name)
{
	return http_header_find(req->headers, req->header_count, name);
}

struct http_request *http_request_ref(struct http_request *pub)
{
	REQUEST(pub)->refs++;
	return pub;
}

struct http_request *http_request_unref(struct http_request *pub)
{
	if (pub)
		request_unref(REQUEST(pub));
	return NULL;
}

bool http_request_is_open(const struct http_request *pub)
{
	const struct request *req = REQUEST(pub);

	return req->conn != NULL;
}

int http_request_take_over(
	struct http_request *pub, struct slice head, uv_stream_t **ret_stream, struct buf *ret_unread)
{
	struct request *req = REQUEST(pub);

	if (!req->conn || req->conn->state != CONN_PENDING || req->conn->cut)
		return -EPIPE;
	if (req->conn->tls)
		return -ENOTSUP;
	conn_take_over(req->conn, head, ret_stream, ret_unread);
	return 0;
}

void conn_peer(const struct conn *conn, char ret[static CONN_PEER_BYTES])
{
	struct sockaddr_storage address;
	int len = sizeof(address);
	char text[64];

	if (!conn || conn->stream->type != UV_TCP)
		(void)snprintf(ret, CONN_PEER_BYTES, "@");
	else if (uv_tcp_getpeername((uv_tcp_t *)conn->stream, (struct sockaddr *)&address, &len) < 0 ||
		 uv_ip_name((struct sockaddr *)&address, text, sizeof(text)) < 0)
		(void)snprintf(ret, CONN_PEER_BYTES, "?");
	else
		(void)snprintf(ret, CONN_PEER_BYTES, address.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u",
			text,
			ntohs(((struct sockaddr_in6 *)&address)->sin6_port)); /* at the same place in both */
}

const char *http_request_peer(struct http_request *pub)
{
	char text[CONN_PEER_BYTES];

	conn_peer(REQUEST(pub)->conn, text);
	return arena_strndup(&pub->arena, text, strlen(text));
}

bool http_request_has_certificate(const struct http_request *pub)
{
	const struct conn *conn = container_of(pub, struct request, pub)->conn;

	return conn && conn->tls && tls_has_peer(conn->tls);
}

const char *http_request_peer_name(const struct http_request *pub)
{
	const struct conn *conn = container_of(pub, struct request, pub)->conn;

	return conn && conn->tls ? tls_peer_name(conn->tls) : "";
}

int http_request_peer_uid(const struct http_request *pub, uid_t *ret_uid)
{
	const struct conn *conn = container_of(pub, struct request, pub)->conn;
	struct ucred credentials;
	socklen_t len = sizeof(credentials);
	uv_os_fd_t fd;

	if (!conn)
		return -ENOTCONN;
	if (conn->stream->type != UV_NAMED_PIPE)
		return -ENOTSUP;
	if (uv_fileno((const uv_handle_t *)conn->stream, &fd) < 0 ||
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0)
		return -ENOTCONN;
	*ret_uid = credentials.uid;
	return 0;
}

bool http_request_peer_in_group(const struct http_request *pub, gid_t gid)
{
	const struct conn *conn = container_of(pub, struct request, pub)->conn;
	gid_t groups[PEER_GROUPS_MAX];
	socklen_t len = sizeof(groups);
	struct ucred credentials;
	socklen_t credentials_len = sizeof(credentials);
	uv_os_fd_t fd;

	if (!conn || conn->stream->type != UV_NAMED_PIPE ||
		uv_fileno((const uv_handle_t *)conn->stream, &fd) < 0)
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_len) == 0 &&
		credentials.gid == gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(gid_t); i++)
		if (groups[i] == gid)
			return true;
	return false;
}
