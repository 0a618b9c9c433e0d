/* The members of the store: production's rules for requests and production's state machine, in place of what
 * makes the members agree. One state for all of them; a member without a quorum answers nothing and its
 * streams are silent until it has one, then it catches up. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "etcd/keys_request.h"
#include "exchange.h"
#include "io/url.h"

#define EPOCH_NS (INT64_C(1700000000) * NS_PER_S)

static int64_t store_now(const struct world *w)
{
	return EPOCH_NS + w->now_ns;
}

bool server_answers(const struct world *w, unsigned endpoint)
{
	const struct endpoint *e = &w->endpoints[endpoint];

	return !e->down && !e->frozen && !e->cut;
}

static bool any_answers(const struct world *w)
{
	for (unsigned i = 0; i < w->profile.endpoints; i++)
		if (server_answers(w, i))
			return true;
	return false;
}

/* ---- what happens, to who watches ---- */

static void model_told(struct store_watch *watch, struct store_event *event)
{
	struct world *w = container_of(watch, struct world, model_watch);
	struct slice path = store_event_path(event), value;
	_cleanup_free_ char *name = NULL, *text = NULL;

	if (!slice_starts_with(path, SLICE_LITERAL(STORE_PREFIX)))
		return;
	name = mem_strndup(path.data + strlen(STORE_PREFIX), path.len - strlen(STORE_PREFIX));
	if (store_peek(w->store, path, &value))
		text = mem_strndup(value.data, value.len);
	world_log(w, "        %s %s%s%.200s", store_action_name(store_event_action(event)), name,
		text ? " = " : "", text ? text : "");
	model_event(w, name, text);
}

static void watch_told(struct store_watch *watch, struct store_event *event)
{
	stream_event(container_of(watch, struct exchange, watch), store_event_json(event));
}

static void tick_due(void *data);

static void schedule_tick(struct world *w)
{
	int64_t at_ns = store_next_expiry_ns(w->store);

	event_cancel(&w->tick);
	if (at_ns != INT64_MAX && any_answers(w))
		world_at(w, MAX(at_ns - EPOCH_NS, w->now_ns) + 1 + world_rand(w, w->profile.tick_ns), NULL,
			tick_due, w, &w->tick);
}

static bool apply(struct world *w, const struct store_command *command, struct store_result *ret)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	store_command_encode(command, &bytes);
	if (store_apply(w->store, buf_slice(&bytes), ret) < 0)
		return false;
	while (store_deliver(w->store, 1000)) {
	}
	check_changed(w);
	return true;
}

static void tick_due(void *data)
{
	struct world *w = data;
	struct store_command command = {.op = STORE_OP_TICK, .time_ns = store_now(w)};
	struct store_result result;

	if (any_answers(w) && apply(w, &command, &result))
		store_result_done(&result);
	schedule_tick(w);
}

/* ---- requests ---- */

void server_forget(struct exchange *x)
{
	if (x->watching)
		store_watch_stop(x->world->store, &x->watch);
	x->watching = false;
}

static void take_write(struct exchange *x, struct keys_request *request)
{
	struct world *w = x->world;
	struct store_result result;

	keys_request_stamp(request, store_now(w));
	w->summary->writes++;
	if (!apply(w, &request->command, &result)) {
		world_finding(w, "the store takes no %s of %s", x->method, x->target);
		exchange_reset(x);
		return;
	}
	world_trace(w, result.index, result.error);
	schedule_tick(w);
	if (result.error) {
		store_error_add_json(&x->answer, result.error, result.cause, result.index);
		exchange_answer(x, store_error_http_status(result.error), result.index);
	} else {
		buf_add_slice(&x->answer, store_event_json(result.event));
		exchange_answer(x, store_event_http_status(result.event), result.index);
	}
	store_result_done(&result);
}

static void take_read(struct exchange *x, const struct keys_request *request)
{
	struct world *w = x->world;
	struct store_result result;

	w->summary->reads++;
	store_get(w->store, request->command.path, request->recursive, store_now(w), &x->answer, &result);
	if (result.error)
		store_error_add_json(&x->answer, result.error, result.cause, result.index);
	exchange_answer(x, result.error ? store_error_http_status(result.error) : 200, result.index);
	store_result_done(&result);
}

static void take_watch(struct exchange *x, const struct keys_request *request)
{
	struct world *w = x->world;
	struct store_event *event = NULL;
	struct store_result result;

	w->summary->watches++;
	if (!request->stream || request->wait_index)
		world_finding(w, "a watch that is no stream from now on: %s", x->target);
	if (store_watch_start(w->store, &x->watch, request->command.path, request->recursive, true, 0,
		    watch_told, &event, &result) != 0)
		world_finding(w, "no watch of %s", x->target);
	else
		stream_begin(x, store_index(w->store));
}

static void take(struct exchange *x)
{
	struct arena arena;
	struct buf key = BUF_INIT(0);
	struct keys_request request;
	struct slice target = slice_str(x->target), path = target, query = {0}, type = {0};
	struct keys_input input = {.method = slice_str(x->method), .body = slice_make(x->body, x->body_len)};
	const char *mark = memchr(target.data, '?', target.len), *cause;
	enum store_error error;

	if (mark) {
		path.len = (size_t)(mark - target.data);
		query = slice_make(mark + 1, target.len - path.len - 1);
	}
	if (x->type) {
		type = slice_str(x->type);
		input.content_type = &type;
	}
	arena_init(&arena);
	(void)!url_unescape(&key, slice_make(path.data + strlen("/v2/keys"), path.len - strlen("/v2/keys")),
		URL_PART_PATH, NULL);
	input.key = buf_slice(&key);
	input.query = query;
	error = keys_request_parse(&arena, &input, &request, &cause);
	if (error) {
		world_finding(
			x->world, "the store refuses the request %s %s: %s", x->method, x->target, cause);
		exchange_reset(x);
	} else if (request.kind == KEYS_WRITE) {
		take_write(x, &request);
	} else if (request.kind == KEYS_READ) {
		take_read(x, &request);
	} else {
		take_watch(x, &request);
	}
	buf_done(&key);
	arena_done(&arena);
}

void server_take(struct world *w, struct exchange *x)
{
	struct endpoint *endpoint = &w->endpoints[x->endpoint];

	if (endpoint->down) {
		exchange_reset(x);
	} else if (!server_answers(w, x->endpoint)) {
		list_push_back(&endpoint->queue, &x->link);
	} else if (!x->call && strcmp(x->method, "GET") == 0) {
		exchange_free(x);
	} else {
		take(x);
	}
}

void server_wake(struct world *w, unsigned number)
{
	struct endpoint *endpoint = &w->endpoints[number];
	struct list queue;

	if (!server_answers(w, number))
		return;
	list_init(&queue);
	list_splice_back(&queue, &endpoint->queue);
	/* Either is possible: what was waiting comes first, or what was due. */
	if (world_chance(w, 500000))
		tick_due(w);
	list_for_each_safe (it, &queue) {
		struct exchange *x = list_item(it, struct exchange, link);

		list_remove(&x->link);
		server_take(w, x);
	}
	schedule_tick(w);
	list_for_each (it, &w->streams)
		stream_kick(list_item(it, struct exchange, in_streams));
}

bool server_write(struct world *w, const char *path, const char *value, bool create)
{
	_cleanup_free_ char *key = mem_printf(STORE_PREFIX "%s", path);
	struct store_command command = {
		.op = value ? create ? STORE_OP_CREATE : STORE_OP_SET : STORE_OP_DELETE,
		.recursive = !value,
		.dir = !value,
		.time_ns = store_now(w),
		.path = slice_str(key),
		.value = slice_str(value ? value : "")};
	struct store_result result;
	bool done;

	if (!any_answers(w) || !apply(w, &command, &result))
		return false;
	done = result.error == STORE_OK || (create && result.error == STORE_NODE_EXISTS);
	store_result_done(&result);
	return done;
}

void server_init(struct world *w)
{
	struct store_event *event = NULL;
	struct store_result result;

	w->store = store_new();
	for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
		list_init(&w->endpoints[i].queue);
	}
	if (store_watch_start(w->store, &w->model_watch, SLICE_LITERAL(STORE_USER_PREFIX PREFIX), true, true,
		    0, model_told, &event, &result) != 0)
		abort();
}

void server_done(struct world *w)
{
	event_cancel(&w->tick);
	store_watch_stop(w->store, &w->model_watch);
	w->store = store_free(w->store);
}
