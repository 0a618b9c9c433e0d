/* How an answer comes to be: as with the server's requests, the head's pieces go into one buffer and become
 * slices when it is whole. Any callback may end the call; conn->call is then NULL and the parser is stopped
 * by an error of its own. */
#include "io/http_client_internal.h"
#include <errno.h>

static struct http_call *call_of(http_parser *parser)
{
	struct client_conn *conn = parser->data;

	return conn->call;
}

static int fail(struct http_call *call, int error, const char *text)
{
	call->parse_error = error;
	call->parse_text = text;
	return -1;
}

static int add_to_head(struct http_call *call, const char *at, size_t len)
{
	buf_add(&call->head, at, len);
	return buf_error(&call->head) < 0
		       ? fail(call, -EMSGSIZE, "net/http: server response headers are too large")
		       : 0;
}

static int on_status(http_parser *parser, const char *at, size_t len)
{
	struct http_call *call = call_of(parser);

	call->response.reason.len += len;
	return add_to_head(call, at, len);
}

static int on_header_field(http_parser *parser, const char *at, size_t len)
{
	struct http_call *call = call_of(parser);

	if (call->head_done)
		return 0; /* a trailer: read over */
	if (call->in_value || !call->mark_count) {
		if (call->mark_count >= RESPONSE_HEADERS_MAX)
			return fail(call, -EMSGSIZE, "net/http: server response has too many headers");
		if (call->mark_count == call->mark_cap) {
			call->mark_cap = MAX(call->mark_cap * 2, (size_t)16);
			call->marks = mem_reallocarray(call->marks, call->mark_cap, sizeof(*call->marks));
		}
		call->marks[call->mark_count++] = (struct response_mark){.name_at = (uint32_t)call->head.len};
		call->in_value = false;
	}
	call->marks[call->mark_count - 1].name_len += (uint32_t)len;
	return add_to_head(call, at, len);
}

static int on_header_value(http_parser *parser, const char *at, size_t len)
{
	struct http_call *call = call_of(parser);
	struct response_mark *mark;

	if (call->head_done || !call->mark_count)
		return 0;
	mark = &call->marks[call->mark_count - 1];
	if (!call->in_value) {
		call->in_value = true;
		mark->value_at = (uint32_t)call->head.len;
	}
	mark->value_len += (uint32_t)len;
	return add_to_head(call, at, len);
}

static void make_response(struct http_call *call, const http_parser *parser)
{
	struct http_response *response = &call->response;
	const char *base = buf_text(&call->head);

	free(call->headers);
	call->headers = mem_new_array(struct http_header, call->mark_count);
	for (size_t i = 0; i < call->mark_count; i++) {
		const struct response_mark *mark = &call->marks[i];
		struct slice value = slice_make(base + mark->value_at, mark->value_len);

		while (value.len && (value.data[value.len - 1] == ' ' || value.data[value.len - 1] == '\t'))
			value.len--;
		call->headers[i] =
			(struct http_header){slice_make(base + mark->name_at, mark->name_len), value};
	}
	response->status = parser->status_code;
	response->reason = slice_make(base, response->reason.len);
	response->version_minor = (uint8_t)MIN(parser->http_minor, 1);
	response->headers = call->headers;
	response->header_count = call->mark_count;
	call->head_done = true;
}

static int on_headers_complete(http_parser *parser)
{
	struct client_conn *conn = parser->data;
	struct http_call *call = conn->call;

	if (parser->http_major != 1)
		return fail(call, -EPROTO, "malformed HTTP version");
	if (parser->status_code < 200 && parser->status_code != HTTP_STATUS_SWITCHING)
		return 1; /* a note in front of the answer: thrown away when it is complete */
	make_response(call, parser);
	if (parser->status_code == HTTP_STATUS_SWITCHING) {
		if (!call->options.on_upgrade)
			return fail(call, -EPROTO, "unexpected 101 Switching Protocols");
		call->upgraded = true;
		return 2;
	}
	call_set_phase_deadline(call, 0);
	if (call->options.on_head)
		call->options.on_head(call, &call->response, call->options.user);
	if (!conn->call)
		return -1;
	return call->is_head ? 1 : 0;
}

static int on_body(http_parser *parser, const char *at, size_t len)
{
	struct client_conn *conn = parser->data;
	struct http_call *call = conn->call;

	if (call->options.on_body) {
		call->options.on_body(call, slice_make(at, len), call->options.user);
		return conn->call ? 0 : -1;
	}
	buf_add(&call->body, at, len);
	return buf_error(&call->body) < 0 ? fail(call, -EMSGSIZE, "http: response body too large") : 0;
}

static int on_message_complete(http_parser *parser)
{
	struct client_conn *conn = parser->data;
	struct http_call *call = conn->call;

	if (!call->head_done) {
		response_begin(call, NULL);
		return 0;
	}
	conn->keep = http_should_keep_alive(parser);
	call->complete = true;
	http_parser_pause(parser, 1);
	return 0;
}

void response_begin(struct http_call *call, struct client_conn *conn)
{
	call->head.max = call->client->options.max_head_bytes;
	buf_clear(&call->head);
	call->mark_count = 0;
	call->in_value = call->head_done = call->complete = call->upgraded = false;
	call->response = (struct http_response){0};
	call->parse_error = 0;
	if (conn) {
		http_parser_init(&conn->parser, HTTP_RESPONSE);
		conn->parser.data = conn;
		conn->got_bytes = conn->keep = false;
	}
}

size_t response_execute(struct client_conn *conn, const char *data, size_t len)
{
	static const http_parser_settings settings = {
		.on_status = on_status,
		.on_header_field = on_header_field,
		.on_header_value = on_header_value,
		.on_headers_complete = on_headers_complete,
		.on_body = on_body,
		.on_message_complete = on_message_complete,
	};

	return http_parser_execute(&conn->parser, &settings, data, len);
}

const struct slice *http_response_header(const struct http_response *response, const char *name)
{
	return http_header_find(response->headers, response->header_count, name);
}
