/* Calls, their deadlines, and the pool. Every call has one deadline (the earlier one of its phase's and its
 * total); they stand in a heap, and one timer runs for the earliest. An error that is found while a call is
 * being made uses the same way: its deadline is now, so that on_done comes from the loop and never from
 * inside http_client_send(). */
#include "io/http_client_internal.h"
#include "io/sigpipe.h"
#include <errno.h>
#include <inttypes.h>

enum { IDLE_CHECK_MS = 5000 };

struct blob *blob_unref(struct blob *blob)
{
	if (blob && !--blob->refs)
		free(blob);
	return NULL;
}

static bool deadline_before(const struct heap_item *a, const struct heap_item *b)
{
	return container_of(a, struct http_call, deadline_item)->deadline_ms <
	       container_of(b, struct http_call, deadline_item)->deadline_ms;
}

static void on_timer(uv_timer_t *timer);

static void update_timer(struct http_client *client)
{
	struct heap_item *top = heap_top(&client->deadlines);
	uint64_t now_ms = uv_now(client->loop), at_ms;

	if (client->closing)
		return;
	if (!top) {
		(void)uv_timer_stop(&client->timer);
		return;
	}
	at_ms = container_of(top, struct http_call, deadline_item)->deadline_ms;
	(void)uv_timer_start(&client->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

static void update_deadline(struct http_call *call)
{
	uint64_t deadline_ms = MIN(call->phase_deadline_ms, call->total_deadline_ms);

	if (deadline_ms == call->deadline_ms)
		return;
	heap_remove(&call->client->deadlines, &call->deadline_item);
	call->deadline_ms = deadline_ms;
	if (deadline_ms != UINT64_MAX)
		heap_insert(&call->client->deadlines, &call->deadline_item);
	update_timer(call->client);
}

void call_set_phase_deadline(struct http_call *call, uint32_t timeout_ms)
{
	call->phase_deadline_ms = timeout_ms ? uv_now(call->client->loop) + timeout_ms : UINT64_MAX;
	update_deadline(call);
}

void call_body_goes_on(struct http_call *call)
{
	if (!call->options.body_timeout_ms || !call->head_done)
		return;
	/* What the callbacks took is no silence of the server's. */
	uv_update_time(call->client->loop);
	call_set_phase_deadline(call, call->conn->reading ? call->options.body_timeout_ms : 0);
}

void call_free(struct http_call *call)
{
	heap_remove(&call->client->deadlines, &call->deadline_item);
	update_timer(call->client);
	list_remove(&call->link);
	list_remove(&call->waiting_link);
	blob_unref(call->request);
	buf_done(&call->fail_text);
	buf_done(&call->head);
	buf_done(&call->body);
	free(call->marks);
	free(call->headers);
	free(call);
}

void call_finish(struct http_call *call, int error, const char *text)
{
	assert(!call->conn && !call->done);
	call->done = true;
	call->response.body = buf_slice(&call->body);
	if (call->options.on_done)
		call->options.on_done(
			call, error, text, call->head_done ? &call->response : NULL, call->options.user);
	call_free(call);
}

static void time_out(struct http_call *call)
{
	bool total = call->total_deadline_ms <= call->phase_deadline_ms;
	enum client_conn_state state = call->conn ? call->conn->state : CC_RESOLVING;
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (call->head_done && !total)
		buf_printf(&text, "the answer stopped in its middle: nothing came for %" PRIu32 " ms",
			call->options.body_timeout_ms);
	else if (call->head_done)
		buf_add_str(&text, "net/http: request canceled (Client.Timeout exceeded while reading body)");
	else if (state == CC_ACTIVE && !total)
		buf_add_str(&text, "net/http: timeout awaiting response headers");
	else if (state == CC_ACTIVE)
		buf_add_str(
			&text, "net/http: request canceled (Client.Timeout exceeded while awaiting headers)");
	else if (state == CC_CONNECTING && call->conn->tls)
		buf_add_str(&text, "net/http: TLS handshake timeout");
	else if (state == CC_CONNECTING)
		buf_printf(&text, "dial %s: i/o timeout", call->conn->peer);
	else
		buf_printf(&text, "dial tcp: lookup %s: i/o timeout", call->origin ? call->origin->host : "");
	if (call->conn)
		client_conn_close(call->conn);
	call_finish(call, -ETIMEDOUT, buf_text(&text));
}

static void on_timer(uv_timer_t *timer)
{
	struct http_client *client = container_of(timer, struct http_client, timer);
	uint64_t now_ms = uv_now(client->loop);
	struct heap_item *top;

	while (!client->closing && (top = heap_top(&client->deadlines))) {
		struct http_call *call = container_of(top, struct http_call, deadline_item);

		if (call->deadline_ms > now_ms)
			break;
		if (call->failed) {
			call_finish(call, call->failed, buf_text(&call->fail_text));
		} else if (!call->started) {
			call->started = true;
			call_set_phase_deadline(call, 0);
			call_start(call);
		} else {
			time_out(call);
		}
	}
	update_timer(client);
}

static void on_idle_timer(uv_timer_t *timer)
{
	struct http_client *client = container_of(timer, struct http_client, idle_timer);
	uint64_t now_ms = uv_now(client->loop);
	bool any = false;

	list_for_each (it, &client->origins) {
		struct origin *origin = list_item(it, struct origin, link);

		list_for_each_safe (at, &origin->idle) {
			struct client_conn *conn = list_item(at, struct client_conn, link);

			if (now_ms - conn->idle_since_ms >= client->options.idle_timeout_ms)
				client_conn_close(conn);
		}
		any = any || origin->idle_count;
	}
	if (!any)
		(void)uv_timer_stop(timer);
}

/* In the next turn: the caller may be in the middle of another call's end. */
static void start_waiting(struct origin *origin)
{
	struct http_call *call;

	if (list_empty(&origin->waiting) || origin->client->closing)
		return;
	call = list_first(&origin->waiting, struct http_call, waiting_link);
	list_remove(&call->waiting_link);
	call->started = false;
	call->phase_deadline_ms = uv_now(call->client->loop);
	update_deadline(call);
}

void origin_conn_gone(struct origin *origin)
{
	assert(origin->conn_count > 0);
	origin->conn_count--;
	start_waiting(origin);
}

void origin_conn_idle(struct client_conn *conn)
{
	struct origin *origin = conn->origin;
	struct http_client *client = origin->client;

	if (origin->idle_count >= client->options.max_idle_per_origin) {
		client_conn_close(conn);
		return;
	}
	conn->state = CC_IDLE;
	conn->idle_since_ms = uv_now(client->loop);
	/* Still read, so that a close by the server is seen; but it does not keep the loop alive. */
	client_conn_set_reading(conn, true);
	uv_unref((uv_handle_t *)conn->stream);
	list_push_front(&origin->idle, &conn->link);
	origin->idle_count++;
	if (!uv_is_active((uv_handle_t *)&client->idle_timer)) {
		uint64_t step_ms =
			MIN((uint64_t)client->options.idle_timeout_ms / 2 + 1, (uint64_t)IDLE_CHECK_MS);

		(void)uv_timer_start(&client->idle_timer, on_idle_timer, step_ms, step_ms);
	}
	start_waiting(origin);
}

void call_start(struct http_call *call)
{
	struct origin *origin = call->origin;
	size_t max = call->client->options.max_connections_per_origin;

	if (!list_empty(&origin->idle) && !call->fresh_only && !call->options.no_reuse) {
		client_conn_use(list_first(&origin->idle, struct client_conn, link), call);
		return;
	}
	if (max && origin->conn_count >= max) {
		if (list_empty(&origin->idle)) {
			list_push_back(&origin->waiting, &call->waiting_link);
			return;
		}
		client_conn_close(list_item(origin->idle.prev, struct client_conn, link));
	}
	client_conn_open(origin, call);
}

static struct origin *origin_get(
	struct http_client *client, const char *host, uint16_t port, bool is_unix, bool is_tls)
{
	struct origin *origin;

	list_for_each (it, &client->origins) {
		origin = list_item(it, struct origin, link);
		if (origin->port == port && origin->is_unix == is_unix && origin->is_tls == is_tls &&
			strcmp(origin->host, host) == 0)
			return origin;
	}
	origin = mem_new(struct origin);
	origin->client = client;
	origin->host = mem_strdup(host);
	origin->port = port;
	origin->is_unix = is_unix;
	origin->is_tls = is_tls;
	list_init(&origin->idle);
	list_init(&origin->waiting);
	list_push_back(&client->origins, &origin->link);
	return origin;
}

static bool text_is_clean(struct slice text, bool blanks_allowed)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.data[i];

		if (c == 0x7f || (c < 0x20 && !(blanks_allowed && c == '\t')) ||
			(c == ' ' && !blanks_allowed))
			return false;
	}
	return true;
}

static int add_request_headers(
	struct buf *out, const struct http_call_options *options, const char *method, const struct url *url)
{
	bool with_body = options->body.len || strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0 ||
			 strcmp(method, "PATCH") == 0;
	const struct http_header *headers = options->headers;

	if (!http_header_find(headers, options->header_count, "host"))
		buf_printf(out, "Host: %s\r\n", url->scheme == URL_UNIX ? "localhost" : url->authority);
	for (size_t i = 0; i < options->header_count; i++) {
		if (!http_is_token(headers[i].name) || !text_is_clean(headers[i].value, true))
			return -EINVAL;
		buf_add_slice(out, headers[i].name);
		buf_add_str(out, ": ");
		buf_add_slice(out, headers[i].value);
		buf_add_str(out, "\r\n");
	}
	if (with_body)
		buf_printf(out, "Content-Length: %zu\r\n", options->body.len);
	if (options->no_reuse && !http_header_find(headers, options->header_count, "connection"))
		buf_add_str(out, "Connection: close\r\n");
	buf_add_str(out, "\r\n");
	return 0;
}

/* Checks everything that can be wrong with a call before a connection is needed, and writes its bytes. */
static int prepare_call(struct http_call *call, const struct http_call_options *options, struct buf *reterr)
{
	const char *method = options->method ? options->method : "GET";
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	_cleanup_url_ struct url url = {0};
	struct slice target;
	int r;

	call->is_head = strcmp(method, "HEAD") == 0;
	call->is_get = call->is_head || strcmp(method, "GET") == 0;
	r = url_parse(options->url ? options->url : "http://localhost/", &url, reterr);
	if (r < 0)
		return r;
	if (url.scheme == URL_HTTPS && !options->unix_path && !call->client->tls) {
		r = tls_client_new(&(struct tls_files){0}, false, &call->client->tls, reterr);
		if (r < 0)
			return r;
	}
	if (options->unix_path || url.scheme == URL_UNIX) {
		const char *path = options->unix_path ? options->unix_path : url.path;

		call->origin = origin_get(call->client, path, 0, true, false);
	} else if (!*url.host && url.scheme_given) {
		buf_add_str(reterr, "http: no Host in request URL");
		return -EINVAL;
	} else {
		call->origin = origin_get(call->client, url.host, url.port, false, url.scheme == URL_HTTPS);
	}
	buf_printf(&out, "%s ", method);
	target.len = out.len;
	if (options->target)
		buf_add_str(&out, options->target);
	else if (url.scheme == URL_UNIX)
		buf_add_str(&out, "/");
	else
		buf_printf(&out, "%s%s%s", *url.path ? url.path : "/", *url.query ? "?" : "", url.query);
	target = slice_make(out.data + target.len, out.len - target.len);
	if (!http_is_token(slice_str(method)) || !target.len || !text_is_clean(target, false)) {
		buf_add_str(reterr, "invalid character in the request's method or target");
		return -EINVAL;
	}
	buf_add_str(&out, " HTTP/1.1\r\n");
	if (add_request_headers(&out, options, method, &url) < 0) {
		buf_add_str(reterr, "net/http: invalid header field");
		return -EINVAL;
	}
	buf_add_slice(&out, options->body);
	call->request = mem_alloc(sizeof(*call->request) + out.len);
	call->request->refs = 1;
	call->request->len = out.len;
	memcpy(call->request->data, out.data, out.len);
	return 0;
}

struct http_call *http_client_send(struct http_client *client, const struct http_call_options *options)
{
	struct http_call *call = mem_new(struct http_call);
	uint64_t now_ms = uv_now(client->loop);

	assert(!client->closing);
	call->client = client;
	call->options = *options;
	call->options.method = call->options.url = call->options.unix_path = call->options.target = NULL;
	call->options.headers = NULL;
	call->options.body = slice_make("", 0);
	call->body.max = options->max_body_bytes ? options->max_body_bytes : 64 * 1024 * 1024;
	call->deadline_ms = call->phase_deadline_ms = UINT64_MAX;
	call->total_deadline_ms = options->total_timeout_ms ? now_ms + options->total_timeout_ms : UINT64_MAX;
	list_init(&call->waiting_link);
	list_push_back(&client->calls, &call->link);
	call->failed = prepare_call(call, options, &call->fail_text);
	/* The way to the connection begins in the next turn too: a connect may fail at once. */
	call->phase_deadline_ms = now_ms;
	update_deadline(call);
	return call;
}

bool http_call_was_sent(const struct http_call *call)
{
	return call->sent_any;
}

void http_call_cancel(struct http_call *call)
{
	if (!call || call->done)
		return;
	call->done = true;
	if (call->conn)
		client_conn_close(call->conn);
	call_free(call);
}

void http_call_pause(struct http_call *call)
{
	if (!call->conn || call->conn->state != CC_ACTIVE)
		return;
	client_conn_set_reading(call->conn, false);
	call_body_goes_on(call);
}

void http_call_resume(struct http_call *call)
{
	if (!call->conn || call->conn->state != CC_ACTIVE)
		return;
	client_conn_set_reading(call->conn, true);
	call_body_goes_on(call);
}

void http_client_set_tls(struct http_client *client, struct tls_context *context)
{
	(void)tls_context_ref(context);
	(void)tls_context_unref(client->tls);
	client->tls = context;
}

void http_client_route(struct http_client *client, const char *host, uint16_t port, const char *unix_path)
{
	struct route *route = mem_new(struct route);

	route->host = mem_strdup(host);
	route->port = port;
	route->unix_path = mem_strdup(unix_path);
	list_push_back(&client->routes, &route->link);
}

struct http_client *http_client_new(uv_loop_t *loop, const struct http_client_options *options)
{
	struct http_client *client = mem_new(struct http_client);
	struct http_client_options *set = &client->options;

	ignore_sigpipe();
	http_parser_set_max_header_size(UINT32_MAX / 2); /* each client has its own ceiling */
	client->loop = loop;
	if (options)
		*set = *options;
	set->max_idle_per_origin = set->max_idle_per_origin ? set->max_idle_per_origin : 8;
	set->idle_timeout_ms = set->idle_timeout_ms ? set->idle_timeout_ms : 60 * 1000;
	set->max_head_bytes = set->max_head_bytes ? set->max_head_bytes : 1024 * 1024;
	list_init(&client->origins);
	list_init(&client->routes);
	list_init(&client->calls);
	heap_init(&client->deadlines, deadline_before);
	client->read_buf = mem_alloc(CLIENT_READ_BUF_BYTES);
	client->plain = BUF_INIT(4 * CLIENT_READ_BUF_BYTES);
	if (client->options.tls)
		http_client_set_tls(client, client->options.tls);
	(void)uv_timer_init(loop, &client->timer);
	(void)uv_timer_init(loop, &client->idle_timer);
	uv_unref((uv_handle_t *)&client->idle_timer);
	client->open_handles = 2;
	return client;
}

void client_handle_closed(struct http_client *client)
{
	assert(client->open_handles > 0);
	if (--client->open_handles)
		return;
	assert(client->closing);
	list_for_each_safe (it, &client->origins) {
		struct origin *origin = list_item(it, struct origin, link);

		assert(!origin->conn_count);
		free(origin->host);
		free(origin);
	}
	list_for_each_safe (it, &client->routes) {
		struct route *route = list_item(it, struct route, link);

		free(route->host);
		free(route->unix_path);
		free(route);
	}
	heap_done(&client->deadlines);
	if (client->on_closed)
		client->on_closed(client->on_closed_user);
	(void)tls_context_unref(client->tls);
	buf_done(&client->plain);
	free(client->read_buf);
	free(client);
}

static void on_own_closed(uv_handle_t *handle)
{
	client_handle_closed(handle->data);
}

void http_client_close(struct http_client *client, void (*on_closed)(void *user), void *user)
{
	if (client->closing)
		return;
	client->closing = true;
	client->on_closed = on_closed;
	client->on_closed_user = user;
	list_for_each_safe (it, &client->calls) {
		struct http_call *call = list_item(it, struct http_call, link);

		/* One whose callback is running right now frees itself. */
		if (!call->done)
			http_call_cancel(call);
	}
	list_for_each (it, &client->origins) {
		struct origin *origin = list_item(it, struct origin, link);

		while (!list_empty(&origin->idle))
			client_conn_close(list_first(&origin->idle, struct client_conn, link));
	}
	client->timer.data = client->idle_timer.data = client;
	uv_close((uv_handle_t *)&client->timer, on_own_closed);
	uv_close((uv_handle_t *)&client->idle_timer, on_own_closed);
}
