/* Path and method to handler, by one table. Paths are decoded and cleaned first: what is not clean is sent
 * elsewhere by a 301, so that no handler sees "//" or "..". */
#include "etcd/server.h"
#include "base/json.h"
#include "io/url.h"

struct route {
	const char *path;
	bool below;	   /* the path with a slash and anything after it as well */
	const char *allow; /* methods, separated by commas */
	void (*serve)(struct server *server, struct http_request *req, struct slice rest);
	bool takes_values; /* bodies of PUT and POST may be as large as the server's own ceiling */
};

/* Of all other bodies: these are small orders, and what is read as JSON costs a hundred times its size. */
enum { ORDER_MAX_BYTES = 64 * 1024 };

static const struct route routes[] = {
	{"/v2/keys", true, "HEAD,GET,PUT,POST,DELETE", keys_serve, true},
	{"/v2/members", true, "GET,POST,DELETE,PUT", members_serve},
	{"/v2/machines", false, "GET,HEAD", members_machines},
	{"/v2/stats/self", false, "GET", status_self},
	{"/v2/stats/store", false, "GET", status_store},
	{"/v2/stats/leader", false, "GET", status_leader},
	{"/v2/auth/enable", false, "GET,PUT,DELETE", status_auth},
	{"/v2/auth/users/", true, "GET,PUT,DELETE", status_auth},
	{"/v2/auth/users", false, "GET", status_auth},
	{"/v2/auth/roles/", true, "GET,PUT,DELETE", status_auth},
	{"/v2/auth/roles", false, "GET", status_auth},
	{"/flotilla/snapshot", false, "GET", snapshot_serve},
	{"/version", false, "GET", status_version},
	{"/health", false, "GET", status_health},
	{"/metrics", false, "GET,HEAD", status_metrics},
	{"/debug/vars", false, "GET", status_vars},
	{"/flotilla/members", true, "GET,POST", members_serve_own},
	{"/config/local/log", false, "PUT", status_log_level},
};

void reply_json(struct http_request *req, int status, struct slice body)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "application/json")};

	http_reply(req, status, headers, ARRAY_LEN(headers), body);
}

void reply_message(struct server *server, struct http_request *req, int status, const char *text)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "application/json"),
		HTTP_HEADER("X-Etcd-Cluster-Id", server ? server->cluster_id_text : "")};
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	buf_add_str(&body, "{\"message\":");
	json_add_string(&body, slice_str(text));
	buf_add_char(&body, '}');
	http_reply(req, status, headers, server ? 2 : 1, buf_slice(&body));
}

void reply_not_allowed(struct server *server, struct http_request *req, const char *allow)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "text/plain; charset=utf-8"),
		HTTP_HEADER("X-Content-Type-Options", "nosniff"),
		allow ? HTTP_HEADER("Allow", allow)
		      : HTTP_HEADER("X-Etcd-Cluster-Id", server->cluster_id_text)};

	http_reply(req, 405, headers, ARRAY_LEN(headers), slice_str("Method Not Allowed\n"));
}

static void reply_bad_path(struct http_request *req)
{
	struct http_header headers[] = {
		HTTP_HEADER("Content-Type", "text/plain; charset=utf-8"), HTTP_HEADER("Connection", "close")};

	http_reply(req, 400, headers, ARRAY_LEN(headers), slice_str("400 Bad Request"));
}

static void add_html_escaped(struct buf *out, struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		switch (text.data[i]) {
		case '&':
			buf_add_str(out, "&amp;");
			break;
		case '<':
			buf_add_str(out, "&lt;");
			break;
		case '>':
			buf_add_str(out, "&gt;");
			break;
		case '"':
			buf_add_str(out, "&#34;");
			break;
		case '\'':
			buf_add_str(out, "&#39;");
			break;
		default:
			buf_add_char(out, text.data[i]);
		}
	}
}

static void reply_moved(struct http_request *req, struct slice clean)
{
	_cleanup_buf_ struct buf location = BUF_INIT(0), body = BUF_INIT(0);
	bool get = slice_is(req->method, "GET"), typed = get || slice_is(req->method, "HEAD");
	struct http_header headers[2];

	url_escape(&location, clean, URL_PART_PATH);
	if (req->query.len) {
		buf_add_char(&location, '?');
		buf_add_slice(&location, req->query);
	}
	if (get) {
		buf_add_str(&body, "<a href=\"");
		add_html_escaped(&body, buf_slice(&location));
		buf_add_str(&body, "\">Moved Permanently</a>.\n\n");
	}
	headers[0] = (struct http_header){SLICE_LITERAL("Location"), buf_slice(&location)};
	headers[1] = HTTP_HEADER("Content-Type", "text/html; charset=utf-8");
	http_reply(req, 301, headers, typed ? 2 : 1, buf_slice(&body));
}

static bool route_matches(const struct route *route, struct slice path, struct slice *ret_rest)
{
	struct slice prefix = slice_str(route->path);

	if (!slice_starts_with(path, prefix))
		return false;
	*ret_rest = slice_make(path.data + prefix.len, path.len - prefix.len);
	if (!ret_rest->len)
		return true;
	return route->below && (ret_rest->data[0] == '/' || prefix.data[prefix.len - 1] == '/');
}

static bool method_allowed(const char *allow, struct slice method)
{
	struct slice rest = slice_str(allow);

	for (size_t from = 0, at = 0; at <= rest.len; at++) {
		if (at < rest.len && rest.data[at] != ',')
			continue;
		if (slice_equal(slice_make(rest.data + from, at - from), method))
			return true;
		from = at + 1;
	}
	return false;
}

/* Nothing to decode, nothing to clean: as nearly all paths are. */
static bool path_is_plain(struct slice path)
{
	for (size_t i = 0; i < path.len; i++) {
		char c = path.data[i];

		if (c == '%' || (c == '/' && i + 1 < path.len &&
					(path.data[i + 1] == '/' || path.data[i + 1] == '.')))
			return false;
	}
	return path.len && path.data[0] == '/';
}

/* The decoded path, which lives as long as the request. False: the request was answered. */
static bool decode_path(struct http_request *req, struct slice *ret_path)
{
	_cleanup_buf_ struct buf path = BUF_INIT(0), clean = BUF_INIT(0);

	if (path_is_plain(req->path)) {
		*ret_path = req->path;
		return true;
	}
	if (url_unescape(&path, req->path, URL_PART_PATH, NULL) < 0) {
		reply_bad_path(req);
		return false;
	}
	url_clean_path(&clean, buf_slice(&path));
	if (!slice_equal(buf_slice(&clean), buf_slice(&path))) {
		reply_moved(req, buf_slice(&clean));
		return false;
	}
	*ret_path = slice_make(arena_strndup(&req->arena, path.data, path.len), path.len);
	return true;
}

static const struct route *find_route(struct slice path, struct slice *ret_rest)
{
	for (size_t i = 0; i < ARRAY_LEN(routes); i++)
		if (route_matches(&routes[i], path, ret_rest))
			return &routes[i];
	return NULL;
}

static bool brings_body(const struct http_request *req)
{
	return slice_is(req->method, "PUT") || slice_is(req->method, "POST");
}

size_t route_body_ceiling(const struct http_request *req, void *user)
{
	_cleanup_buf_ struct buf decoded = BUF_INIT(0);
	const struct route *route;
	struct slice path = req->path, rest;

	(void)user;
	if (!path_is_plain(path)) {
		if (url_unescape(&decoded, path, URL_PART_PATH, NULL) < 0)
			return ORDER_MAX_BYTES;
		path = buf_slice(&decoded);
	}
	route = find_route(path, &rest);
	return route && route->takes_values && brings_body(req) ? SIZE_MAX : ORDER_MAX_BYTES;
}

void route_request(struct http_request *req, void *user)
{
	struct server *server = user;
	const struct route *route;
	struct slice path, rest;

	if (slice_is(req->method, "OPTIONS")) {
		http_reply(req, 200, NULL, 0, slice_make("", 0));
		return;
	}
	if (!decode_path(req, &path))
		return;
	route = find_route(path, &rest);
	if (!route)
		http_reply_error(req, 404, "404 page not found");
	else if (!method_allowed(route->allow, req->method))
		reply_not_allowed(server, req, route->allow);
	else if (!route->takes_values && brings_body(req) &&
		 (req->body_too_large || req->body.len > ORDER_MAX_BYTES))
		reply_message(server, req, 413,
			arena_printf(&req->arena, "request body too large: at most %d bytes here",
				ORDER_MAX_BYTES));
	else
		route->serve(server, req, rest);
}

/* ---- questions to the node ---- */

static void question_cancelled(struct http_request *req)
{
	struct question *question = req->user;

	node_forget(question->server->node, question);
}

void question_begin(struct question *question)
{
	question->req->user = question;
	question->req->on_cancel = question_cancelled;
	question->server->wake(question->server);
}

void route_reply(void *request, const struct node_reply *reply)
{
	struct question *question = request;

	question->req->on_cancel = NULL;
	question->answered(question, reply);
}
