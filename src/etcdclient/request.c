/* A request goes to one endpoint after the other until one answers. What moves it on is decided in
 * request_done(): a read moves on after any failure, a write only when the connection could not even be made
 * (the HTTP client's error begins with "dial "), so that a write which may have been executed is never sent
 * again. */
#include "etcdclient/client.h"
#include "etcdclient/pieces.h"
#include "etcdclient/target.h"
#include <errno.h>

/* An answer that is told piece by piece. */
struct telling {
	void (*each)(const struct etcd_response *head, const struct etcd_node *node, void *userdata);
	struct pieces pieces;
	struct response *leaf; /* scratch: its arena */
	struct buf error;      /* body of an answer that is no success */
	bool began, broken;
};
struct etcd_request {
	struct list in_client; /* first */
	struct etcd_client *client;
	char *method, *target, *content_type, *body; /* owned; the last two may be NULL */
	size_t body_len;
	enum response_kind kind;
	bool sync;
	struct telling *telling; /* owned; NULL: the answer is kept */
	etcd_response_fn *fn;
	void *userdata;
	char **endpoints; /* owned: those to be tried, in order; the client's may change meanwhile */
	size_t endpoint_count, next;
	int64_t timeout_ms;   /* of one attempt */
	uint64_t deadline_ms; /* of the loop's clock */
	struct response *response;
	struct http_call *call;
	bool finished; /* waiting for etcd_request_wait() */
	bool calling;  /* inside fn: cancelling it there is harmless */
};

static bool is_read(const struct etcd_request *request)
{
	return !strcmp(request->method, "GET") || !strcmp(request->method, "HEAD");
}

static void telling_free(struct telling *telling)
{
	if (!telling)
		return;
	pieces_done(&telling->pieces);
	buf_done(&telling->error);
	etcd_response_unref(&telling->leaf->pub);
	free(telling);
}

static void request_free(struct etcd_request *request)
{
	telling_free(request->telling);
	list_remove(&request->in_client);
	target_endpoints_free(request->endpoints, request->endpoint_count);
	etcd_response_unref(&request->response->pub);
	free(request->method);
	free(request->target);
	free(request->content_type);
	free(request->body);
	free(request);
}

void request_abandon(struct etcd_request *request)
{
	if (request->call)
		http_call_cancel(request->call);
	request_free(request);
}

struct etcd_request *etcd_request_cancel(struct etcd_request *request)
{
	if (request && !request->calling)
		request_abandon(request);
	return NULL;
}

static void finish(struct etcd_request *request)
{
	list_remove(&request->in_client);
	if (request->response->pub.endpoint && request->response->pub.outcome != ETCD_BAD_ANSWER)
		client_prefer(request->client, request->response->pub.endpoint);
	if (request->sync && request->response->pub.outcome == ETCD_OK)
		client_use_members(request->client, &request->response->pub);
	if (!request->fn) {
		request->finished = true;
		return;
	}
	/* The callback may free the client: nothing of it is touched afterwards. */
	request->calling = true;
	request->fn(&request->response->pub, request->userdata);
	request_free(request);
}

static void attempt(struct etcd_request *request);

static void fail_or_move_on(struct etcd_request *request, bool may_move_on)
{
	bool time_left = uv_now(request->client->loop) < request->deadline_ms;

	if (may_move_on && time_left && request->next < request->endpoint_count) {
		attempt(request);
		return;
	}
	response_set_failure(request->response, may_move_on ? ETCD_UNREACHABLE : ETCD_UNKNOWN);
	finish(request);
}

static void take_failure(struct etcd_request *request, int error, const char *text, bool sent)
{
	const char *endpoint = request->endpoints[request->next - 1];
	_cleanup_free_ char *own = NULL;

	if (error == -EMSGSIZE && is_read(request)) {
		struct response *response = request->response;
		response->pub.outcome = ETCD_BAD_ANSWER;
		response->pub.error_text =
			arena_printf(&response->arena, "%s: the answer is larger than %zu bytes", endpoint,
				request->client->response_max_bytes);
		finish(request);
		return;
	}
	if (error == -ETIMEDOUT && sent)
		own = mem_printf("client: endpoint %s exceeded header timeout", endpoint);
	response_add_attempt(request->response, endpoint, own ? own : text, error == -ETIMEDOUT);
	fail_or_move_on(request, !sent || is_read(request));
}

static struct slice body_of(const struct etcd_request *request, const struct http_response *http)
{
	return request->telling ? buf_slice(&request->telling->error) : http->body;
}

/* 500 and 503 of a member mean that it could not reach agreement; what a write became is then unknown. */
static void take_server_failure(struct etcd_request *request, const struct http_response *http)
{
	struct response *response = request->response;
	const char *endpoint = request->endpoints[request->next - 1];
	_cleanup_free_ char *text = NULL;

	if (http->status == 500 || http->status == 503)
		text = mem_printf("client: etcd member %s has no leader", endpoint);
	else
		text = mem_printf("client: etcd member %s returns server error [%d %s]", endpoint,
			http->status, http_status_text(http->status));
	response_add_attempt(response, endpoint, text, false);
	(void)response_parse(response, request->kind, body_of(request, http));
	fail_or_move_on(request, is_read(request));
}

static int read_answer(struct etcd_request *request, const struct http_response *http)
{
	const struct telling *telling = request->telling;

	if (telling && telling->began)
		return response_end_pieces(
			request->response, !telling->broken && pieces_are_complete(&telling->pieces));
	return response_parse(request->response, request->kind, body_of(request, http));
}

static void request_done(
	struct http_call *call, int error, const char *text, const struct http_response *http, void *user)
{
	struct etcd_request *request = user;
	struct response *response = request->response;

	request->call = NULL;
	if (http)
		client_take_head(response, request->endpoints[request->next - 1], http);
	if (error < 0 || !http) {
		take_failure(request, error, text, http_call_was_sent(call));
		return;
	}
	if (http->status >= 500 && request->kind != RESPONSE_RAW) {
		take_server_failure(request, http);
		return;
	}
	/* An answer to a write that nobody can read says nothing about what was done. */
	if (read_answer(request, http) < 0 && !is_read(request))
		response->pub.outcome = ETCD_UNKNOWN;
	if (response->pub.outcome >= ETCD_UNKNOWN && !response->pub.error_text[0])
		response->pub.error_text = arena_printf(&response->arena, "%s: unexpected answer (status %d)",
			response->pub.endpoint, http->status);
	finish(request);
}

static void tell_head(struct http_call *call _unused_, const struct http_response *http, void *user)
{
	struct etcd_request *request = user;
	struct telling *telling = request->telling;

	client_take_head(request->response, request->endpoints[request->next - 1], http);
	pieces_done(&telling->pieces);
	pieces_init(&telling->pieces, request->client->response_max_bytes);
	buf_clear(&telling->error);
	telling->broken = false;
	telling->began = http->status == 200;
	if (telling->began)
		telling->each(&request->response->pub, NULL, request->userdata);
}

static void tell_body(struct http_call *call _unused_, struct slice piece, void *user)
{
	struct etcd_request *request = user;
	struct telling *telling = request->telling;
	struct etcd_node node;
	struct slice leaf;
	int r;

	if (!telling->began) {
		buf_add_slice(&telling->error, piece);
		return;
	}
	while (!telling->broken && (r = pieces_next(&telling->pieces, &piece, &leaf)) != 0) {
		arena_reset(&telling->leaf->arena);
		telling->broken = r < 0 || response_parse_leaf(telling->leaf, leaf, &node) < 0;
		if (!telling->broken)
			telling->each(&request->response->pub, &node, request->userdata);
	}
}

static void attempt(struct etcd_request *request)
{
	struct etcd_client *client = request->client;
	uint64_t now_ms = uv_now(client->loop);
	int64_t left_ms = request->deadline_ms > now_ms ? (int64_t)(request->deadline_ms - now_ms) : 1;
	int64_t timeout_ms = MIN(request->timeout_ms, left_ms);

	request->call = client_send(client, &(struct client_send){
						    .endpoint = request->endpoints[request->next++],
						    .method = request->method,
						    .target = request->target,
						    .content_type = request->content_type,
						    .body = slice_make(request->body, request->body_len),
						    .timeout_ms = request->telling ? 0 : timeout_ms,
						    .pause_ms = request->telling ? timeout_ms : 0,
						    .on_head = request->telling ? tell_head : NULL,
						    .on_body = request->telling ? tell_body : NULL,
						    .on_done = request_done,
						    .user = request,
					    });
}

static struct telling *telling_new(const struct etcd_client *client, const struct etcd_get_options *options)
{
	struct telling *telling = mem_new(struct telling);

	telling->each = options->each;
	telling->leaf = response_new();
	telling->error = BUF_INIT(client->response_max_bytes);
	return telling;
}

static struct etcd_request *request_new(struct etcd_client *client, enum response_kind kind,
	const struct etcd_raw_request *raw, etcd_response_fn *fn, void *userdata)
{
	struct etcd_request *request = mem_new(struct etcd_request);
	int64_t total_ms = raw->timeout_ms > 0 ? raw->timeout_ms : client->total_timeout_ms;

	request->client = client;
	request->kind = kind;
	request->method = mem_strdup(raw->method ? raw->method : "GET");
	request->target = mem_strdup(raw->target);
	request->content_type = raw->content_type ? mem_strdup(raw->content_type) : NULL;
	if (raw->body) {
		request->body_len = raw->body_len ? raw->body_len : strlen(raw->body);
		request->body = mem_strndup(raw->body, request->body_len);
	}
	request->fn = fn;
	request->userdata = userdata;
	request->response = response_new();
	request->endpoint_count = raw->endpoint ? 1 : client->endpoint_count;
	request->endpoints = mem_new_array(char *, request->endpoint_count);
	for (size_t i = 0; i < request->endpoint_count; i++)
		request->endpoints[i] = mem_strdup(
			raw->endpoint ? raw->endpoint
				      : client->endpoints[(client->current + i) % client->endpoint_count]);
	uv_update_time(client->loop);
	request->timeout_ms = raw->timeout_ms > 0 ? raw->timeout_ms : client->timeout_ms;
	request->deadline_ms = uv_now(client->loop) + (uint64_t)total_ms;
	list_push_back(&client->requests, &request->in_client);
	return request;
}

static struct etcd_request *start(struct etcd_request *request)
{
	attempt(request);
	return request;
}

static void add_key_target(struct buf *target, const struct etcd_client *client, const char *key)
{
	target_add_key(target, client->key_prefix, key);
	buf_add_char(target, '?');
}

static struct etcd_request *key_request_new(struct etcd_client *client, const char *method,
	struct buf *target, struct buf *form, etcd_response_fn *fn, void *userdata)
{
	if (target->data[target->len - 1] == '?')
		buf_truncate(target, target->len - 1);
	return request_new(client, RESPONSE_KEYS,
		&(struct etcd_raw_request){
			.method = method,
			.target = buf_text(target),
			.content_type = form ? "application/x-www-form-urlencoded" : NULL,
			.body = form ? buf_text(form) : NULL,
			.body_len = form ? form->len : 0,
		},
		fn, userdata);
}

struct etcd_request *etcd_get(struct etcd_client *client, const char *key,
	const struct etcd_get_options *options, etcd_response_fn *fn, void *userdata)
{
	_cleanup_buf_ struct buf target = BUF_INIT(0);
	struct etcd_get_options defaults = {0};
	struct etcd_request *request;

	if (!options)
		options = &defaults;
	add_key_target(&target, client, key);
	target_add_bool(&target, "quorum", options->quorum);
	target_add_bool(&target, "recursive", options->recursive);
	target_add_bool(&target, "sorted", options->sorted);
	request = key_request_new(client, "GET", &target, NULL, fn, userdata);
	request->telling = options->each ? telling_new(client, options) : NULL;
	return start(request);
}

static void add_put_form(struct buf *form, const struct etcd_put_options *options)
{
	if (options->refresh)
		target_add_bool(form, "refresh", true);
	if (options->ttl_s > 0)
		target_add_number(form, "ttl", (uint64_t)options->ttl_s);
	if (options->value)
		target_add_param(form, "value",
			slice_make(options->value,
				options->value_len ? options->value_len : strlen(options->value)));
}

struct etcd_request *etcd_put(struct etcd_client *client, const char *key,
	const struct etcd_put_options *options, etcd_response_fn *fn, void *userdata)
{
	_cleanup_buf_ struct buf target = BUF_INIT(0), form = BUF_INIT(0);

	add_key_target(&target, client, key);
	if (options->dir)
		target_add_bool(&target, "dir", true);
	if (options->prev_exist != ETCD_PREV_IGNORE)
		target_add_bool(&target, "prevExist", options->prev_exist == ETCD_PREV_EXIST);
	if (options->prev_index)
		target_add_number(&target, "prevIndex", options->prev_index);
	if (options->prev_value && options->prev_value[0])
		target_add_param(&target, "prevValue", slice_str(options->prev_value));
	add_put_form(&form, options);
	return start(key_request_new(client, "PUT", &target, &form, fn, userdata));
}

struct etcd_request *etcd_set(struct etcd_client *client, const char *key, const char *value, int64_t ttl_s,
	etcd_response_fn *fn, void *userdata)
{
	return etcd_put(
		client, key, &(struct etcd_put_options){.value = value, .ttl_s = ttl_s}, fn, userdata);
}

struct etcd_request *etcd_create(struct etcd_client *client, const char *key, const char *value,
	int64_t ttl_s, etcd_response_fn *fn, void *userdata)
{
	return etcd_put(client, key,
		&(struct etcd_put_options){.value = value, .ttl_s = ttl_s, .prev_exist = ETCD_PREV_NO_EXIST},
		fn, userdata);
}

struct etcd_request *etcd_refresh(
	struct etcd_client *client, const char *key, int64_t ttl_s, etcd_response_fn *fn, void *userdata)
{
	return etcd_put(client, key,
		&(struct etcd_put_options){.ttl_s = ttl_s, .refresh = true, .prev_exist = ETCD_PREV_EXIST},
		fn, userdata);
}

struct etcd_request *etcd_create_in_order(struct etcd_client *client, const char *key,
	const struct etcd_put_options *options, etcd_response_fn *fn, void *userdata)
{
	_cleanup_buf_ struct buf target = BUF_INIT(0), form = BUF_INIT(0);

	add_key_target(&target, client, key);
	if (options->dir)
		target_add_bool(&target, "dir", true);
	add_put_form(&form, options);
	return start(key_request_new(client, "POST", &target, &form, fn, userdata));
}

struct etcd_request *etcd_delete(struct etcd_client *client, const char *key,
	const struct etcd_delete_options *options, etcd_response_fn *fn, void *userdata)
{
	_cleanup_buf_ struct buf target = BUF_INIT(0);
	struct etcd_delete_options defaults = {0};

	if (!options)
		options = &defaults;
	add_key_target(&target, client, key);
	if (options->dir)
		target_add_bool(&target, "dir", true);
	if (options->prev_index)
		target_add_number(&target, "prevIndex", options->prev_index);
	if (options->prev_value && options->prev_value[0])
		target_add_param(&target, "prevValue", slice_str(options->prev_value));
	if (options->recursive)
		target_add_bool(&target, "recursive", true);
	return start(key_request_new(client, "DELETE", &target, NULL, fn, userdata));
}

struct etcd_request *etcd_members(struct etcd_client *client, etcd_response_fn *fn, void *userdata)
{
	return start(request_new(
		client, RESPONSE_MEMBERS, &(struct etcd_raw_request){.target = "/v2/members"}, fn, userdata));
}

struct etcd_request *etcd_sync(struct etcd_client *client, etcd_response_fn *fn, void *userdata)
{
	struct etcd_request *request = etcd_members(client, fn, userdata);

	request->sync = true;
	return request;
}

struct etcd_request *etcd_raw(
	struct etcd_client *client, const struct etcd_raw_request *raw, etcd_response_fn *fn, void *userdata)
{
	return start(request_new(client, RESPONSE_RAW, raw, fn, userdata));
}

void etcd_wait(struct etcd_client *client)
{
	while (!list_empty(&client->requests))
		(void)uv_run(client->loop, UV_RUN_ONCE);
}

struct etcd_response *etcd_request_wait(struct etcd_request *request)
{
	struct etcd_response *response;

	assert(!request->fn);
	while (!request->finished)
		(void)uv_run(request->client->loop, UV_RUN_ONCE);
	response = etcd_response_ref(&request->response->pub);
	request_free(request);
	return response;
}
