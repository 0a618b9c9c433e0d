/* Routing, error bodies, page tokens. A request that comes before the cluster is known waits for it a moment:
 * the mirror may just be opening. */
#include "fleet/api_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "io/url.h"

#define API_WAIT_MS 2000
#define API_TOKEN_BYTES 4
#define API_TELL_EVERY_MS 1000

struct waiting_request {
	struct list link;
	struct http_request *req;
	uint64_t until_ms;
};

static const struct http_header json_headers[] = {
	{SLICE_LITERAL("Content-Type"), SLICE_LITERAL("application/json")},
	{SLICE_LITERAL("Server"), SLICE_LITERAL("fleetd/" FLEET_VERSION)},
};

void api_reply_json(struct http_request *req, int status, struct buf *body)
{
	http_reply(req, status, json_headers, ARRAY_LEN(json_headers), buf_slice(body));
}

void api_reply_empty(struct http_request *req, int status, bool json_type)
{
	http_reply(req, status, json_type ? json_headers : json_headers + 1, json_type ? 2 : 1,
		(struct slice){0});
}

void api_reply_error(struct http_request *req, int status, const char *message)
{
	_cleanup_buf_ struct buf body = BUF_INIT(64 * 1024);

	buf_printf(&body, "{\"error\":{\"code\":%d,\"message\":", status);
	json_add_string(&body, slice_str(message));
	buf_add_str(&body, "}}");
	api_reply_json(req, status, &body);
}

void api_reply_store_error(struct http_request *req, const struct etcd_response *response)
{
	_cleanup_free_ char *message =
		mem_printf("fleet server unable to communicate with etcd: %s%s", response->error_text,
			response->outcome == ETCD_UNKNOWN
				? " (the change may have been made: look before trying again)"
				: "");

	if (response->outcome == ETCD_REFUSED && response->code != ETCD_RAFT_ERROR)
		api_reply_error(req, 500, response->error_text);
	else
		api_reply_error(req, 503, message);
}

const char *api_json_error(struct slice body, const json_error_t *error)
{
	for (size_t i = 0; i < body.len; i++)
		if (!strchr(" \t\r\n", body.data[i]))
			return json_error_code(error) == json_error_premature_end_of_input ? "unexpected EOF"
											   : error->text;
	return "EOF";
}

json_t *api_json_read(struct slice body, json_error_t *error)
{
	return json_loadb(body.len ? body.data : "", body.len, JSON_DISABLE_EOF_CHECK, error);
}

json_t *api_json_member(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);
	const char *name;

	if (value)
		return value;
	json_object_foreach(object, name, value) if (strcasecmp(name, key) == 0) return value;
	return NULL;
}

/* ---- page tokens ---- */

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Decodes up to API_TOKEN_BYTES of padded URL-safe base64. Answers the number of bytes, or -EINVAL and where.
 */
static int base64_decode(struct slice text, uint8_t *ret_bytes, size_t *ret_bad)
{
	uint32_t bits = 0;
	unsigned have = 0;
	size_t count = 0, i = 0, padding = 0;

	for (; i < text.len && text.data[i] != '='; i++) {
		int value = base64_value(text.data[i]);

		if (value < 0) {
			*ret_bad = i;
			return -EINVAL;
		}
		bits = bits << 6 | (uint32_t)value;
		have += 6;
		if (have >= 8) {
			have -= 8;
			if (count < API_TOKEN_BYTES)
				ret_bytes[count] = (uint8_t)(bits >> have);
			count++;
		}
	}
	while (i + padding < text.len && text.data[i + padding] == '=')
		padding++;
	if (text.len % 4 || i + padding != text.len || padding > 2) {
		*ret_bad = padding ? i : text.len;
		return -EINVAL;
	}
	return (int)count;
}

int api_read_page(struct api *api, struct http_request *req, size_t *ret_page, const char **ret_message)
{
	struct url_form form = {0};
	const struct slice *token = NULL;
	uint8_t bytes[API_TOKEN_BYTES] = {0};
	size_t bad = 0, count = 0;
	int len;

	(void)!url_form_parse(&req->arena, &form, req->query, NULL);
	for (size_t i = 0; i < form.count; i++)
		if (slice_is(form.pairs[i].name, "nextPageToken")) {
			token = token ? token : &form.pairs[i].value;
			count++;
		}
	*ret_page = 1;
	if (!count)
		return 0;
	*ret_message = "too many values for page token";
	if (count > 1)
		return -EINVAL;
	len = base64_decode(*token, bytes, &bad);
	if (len < 0) {
		*ret_message = arena_printf(&req->arena, "illegal base64 data at input byte %zu", bad);
		return -EINVAL;
	}
	*ret_message = len == 0 ? "EOF" : "unexpected EOF";
	if (len < API_TOKEN_BYTES)
		return -EINVAL;
	*ret_message = arena_printf(&req->arena, "token limit must be %u", api->config.token_limit);
	if ((bytes[0] | bytes[1] << 8) != api->config.token_limit)
		return -EINVAL;
	*ret_page = (size_t)(bytes[2] | bytes[3] << 8);
	*ret_message = "token page must be greater than zero";
	return *ret_page ? 0 : -EINVAL;
}

void api_add_token(struct buf *out, uint16_t limit, size_t page)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8_t b[4] = {(uint8_t)limit, (uint8_t)(limit >> 8), (uint8_t)page, (uint8_t)(page >> 8)};

	buf_printf(out, "\"nextPageToken\":\"%c%c%c%c%c%c==\"", digits[b[0] >> 2],
		digits[(b[0] & 3) << 4 | b[1] >> 4], digits[(b[1] & 15) << 2 | b[2] >> 6], digits[b[2] & 63],
		digits[b[3] >> 2], digits[(b[3] & 3) << 4]);
}

/* ---- routes ---- */

static bool cut_prefix(struct slice *path, const char *prefix)
{
	size_t len = strlen(prefix);

	if (!slice_starts_with(*path, slice_str(prefix)))
		return false;
	if (path->len > len && path->data[len] != '/')
		return false;
	*path = slice_make(path->data + len, path->len - len);
	return true;
}

/* "/units/a.service" below "/units": true with the item; false and *ret_found when it is the collection
 * itself. */
static bool route_item(struct slice path, const char *collection, bool *ret_found, struct slice *ret_item)
{
	*ret_found = slice_is(path, collection);
	if (*ret_found || !cut_prefix(&path, collection))
		return false;
	*ret_item = slice_make(path.data + 1, path.len - 1);
	return true;
}

static void redirect_clean(struct http_request *req, const struct buf *clean)
{
	struct http_header headers[] = {
		{SLICE_LITERAL("Content-Type"), SLICE_LITERAL("text/html; charset=utf-8")},
		{SLICE_LITERAL("Location"), buf_slice(clean)},
		json_headers[1],
	};
	_cleanup_buf_ struct buf body = BUF_INIT(256 * 1024);

	buf_printf(&body, "<a href=\"%s\">Moved Permanently</a>.\n\n", buf_text(clean));
	http_reply(req, 301, headers, ARRAY_LEN(headers), buf_slice(&body));
}

static void route_fleet(struct api *api, struct http_request *req, struct slice path)
{
	struct slice item = {0};
	bool found;

	if (!path.len) {
		api_reply_error(req, 405, "");
	} else if (route_item(path, "/units", &found, &item) || found) {
		api_units(api, req, item, !found);
	} else if (route_item(path, "/state", &found, &item) || found) {
		api_states(api, req, item, !found);
	} else if (slice_is(path, "/machines")) {
		api_machines(api, req);
	} else if (slice_is(path, "/discovery")) {
		api_discovery(req);
	} else {
		api_reply_error(req, 404, "");
	}
}

static void route(struct api *api, struct http_request *req)
{
	struct slice path = req->path;

	if (slice_is(path, "/"))
		api_reply_error(req, 405, "");
	else if (slice_is(path, "/metrics"))
		api_metrics(api, req);
	else if (cut_prefix(&path, "/fleet/v1") || cut_prefix(&path, "/v1-alpha"))
		route_fleet(api, req, path);
	else if (cut_prefix(&path, "/flotilla/v1"))
		api_runtime(api, req, path, false);
	else
		api_reply_error(req, 404, "");
}

static const char unreachable[] = "fleet server unable to communicate with etcd";

/* Routes that need no cluster are answered whatever the store does. */
static bool needs_cluster(const struct http_request *req)
{
	struct slice path = req->path;

	if (slice_is(req->path, "/fleet/v1/discovery") || slice_is(req->path, "/v1-alpha/discovery"))
		return false;
	if (cut_prefix(&path, "/flotilla/v1/local"))
		return false;
	path = req->path;
	return cut_prefix(&path, "/fleet/v1") || cut_prefix(&path, "/v1-alpha") ||
	       cut_prefix(&path, "/flotilla/v1");
}

static void waiting_free(struct waiting_request *waiting)
{
	list_remove(&waiting->link);
	http_request_unref(waiting->req);
	free(waiting);
}

static void expire_waiting(uv_timer_t *timer)
{
	struct api *api = timer->data;
	uint64_t now = uv_now(api->config.loop);

	list_for_each_safe (it, &api->waiting) {
		struct waiting_request *waiting = list_item(it, struct waiting_request, link);

		if (waiting->until_ms > now && http_request_is_open(waiting->req))
			continue;
		api_reply_error(waiting->req, 503, unreachable);
		waiting_free(waiting);
	}
	if (list_empty(&api->waiting))
		uv_timer_stop(timer);
}

void api_refuse_waiting(struct api *api)
{
	const char *why = api->config.unavailable(api->config.userdata);

	list_for_each_safe (it, &api->waiting) {
		struct waiting_request *waiting = list_item(it, struct waiting_request, link);

		api_reply_error(waiting->req, 503, why ? why : unreachable);
		waiting_free(waiting);
	}
}

/* Answers who may only read and wants more. */
static bool may(struct api *api, struct http_request *req)
{
	_cleanup_buf_ struct buf why = BUF_INIT(1024);

	if (slice_is(req->method, "GET") || slice_is(req->method, "HEAD") ||
		api_access_may_write(api->config.access(api->config.userdata), req, &why))
		return true;
	api_reply_error(req, 403, buf_text(&why));
	return false;
}

static void on_request(struct http_request *req, void *user)
{
	struct api *api = user;
	const char *why = api->config.unavailable(api->config.userdata);
	_cleanup_buf_ struct buf clean = BUF_INIT(64 * 1024);
	struct waiting_request *waiting;

	url_clean_path(&clean, req->path);
	if (!slice_equal(buf_slice(&clean), req->path)) {
		redirect_clean(req, &clean);
		return;
	}
	if (req->body_too_large) {
		api_reply_error(req, 413, "the request body is too large");
		return;
	}
	if (!may(api, req))
		return;
	if (!needs_cluster(req)) {
		route(api, req);
		return;
	}
	if (why) {
		api_reply_error(req, 503, why);
		return;
	}
	api->config.cluster_needed(api->config.userdata);
	if (api->config.cluster_loaded(api->config.userdata)) {
		route(api, req);
		return;
	}
	waiting = mem_new(struct waiting_request);
	waiting->req = http_request_ref(req);
	waiting->until_ms =
		uv_now(api->config.loop) + (api->config.wait_ms ? api->config.wait_ms : API_WAIT_MS);
	list_push_back(&api->waiting, &waiting->link);
	if (!uv_is_active((uv_handle_t *)api->timer))
		uv_timer_start(api->timer, expire_waiting, API_WAIT_MS / 10, API_WAIT_MS / 10);
}

/* Compared in the same time whatever is different, so that a token cannot be found out piece by piece. */
static bool shows_token(const struct http_request *req, const char *token)
{
	const struct slice *shown = http_request_header(req, "Authorization");
	struct slice scheme, text;
	unsigned difference = 0;

	if (!shown || !text_cut(*shown, ' ', &scheme, &text) || !slice_is(scheme, "Bearer"))
		return false;
	if (!token[0] || text.len != strlen(token))
		return false;
	for (size_t i = 0; i < text.len; i++)
		difference |= (unsigned char)text.data[i] ^ (unsigned char)token[i];
	return difference == 0;
}

static void on_peer_request(struct http_request *req, void *user)
{
	struct api *api = user;
	struct slice path = req->path;

	if (!shows_token(req, api->config.peer_token))
		api_reply_error(req, 401,
			"this port serves other fleetds only, who know its token from the registry; ask the "
			"API's own socket");
	else if (cut_prefix(&path, "/flotilla/v1"))
		api_runtime(api, req, path, true);
	else
		api_reply_error(req, 404, "this port serves other fleetds only; ask the API's own socket");
}

void api_turn(struct api *api)
{
	if (!list_empty(&api->waiting) && api->config.cluster_loaded(api->config.userdata)) {
		struct list ready;

		list_init(&ready);
		list_splice_back(&ready, &api->waiting);
		list_for_each_safe (it, &ready) {
			struct waiting_request *waiting = list_item(it, struct waiting_request, link);

			if (http_request_is_open(waiting->req))
				route(api, waiting->req);
			waiting_free(waiting);
		}
	}
	api_writes_turn(api);
}

/* Whoever may connect could fill the log: one line a second at most. */
static void on_tls_refused(const char *peer, const char *why, void *user)
{
	struct api *api = user;
	uint64_t now = uv_now(api->config.loop);

	if (api->tls_told_ms && now - api->tls_told_ms < API_TELL_EVERY_MS)
		return;
	api->tls_told_ms = MAX(now, UINT64_C(1));
	log_info("refused %s at the API: %s", peer, why);
}

struct http_server *api_server(struct api *api, bool for_peers)
{
	struct http_server_options options = {.on_request = for_peers ? on_peer_request : on_request,
		.on_tls_refused = on_tls_refused,
		.user = api};

	api->servers[for_peers] = http_server_new(api->config.loop, &options);
	return api->servers[for_peers];
}

struct api *api_new(const struct api_config *config)
{
	struct api *api = mem_new(struct api);

	api->config = *config;
	api->start_s = (uint64_t)(time_wall_ns() / NS_PER_S);
	api->peers = http_client_new(config->loop, NULL);
	list_init(&api->waiting);
	list_init(&api->writes);
	list_init(&api->streams);
	api->timer = mem_new(uv_timer_t);
	api->timer->data = api;
	uv_timer_init(config->loop, api->timer);
	return api;
}

void api_set_peer_tls(struct api *api, struct tls_context *context)
{
	http_client_set_tls(api->peers, context);
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct api *api_free(struct api *api)
{
	if (!api)
		return NULL;
	list_for_each_safe (it, &api->waiting)
		waiting_free(list_item(it, struct waiting_request, link));
	api_writes_free(api);
	api_streams_free(api);
	http_client_close(api->peers, NULL, NULL);
	uv_close((uv_handle_t *)api->timer, timer_closed);
	free(api);
	return NULL;
}
