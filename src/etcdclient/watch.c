/* A watch is a chain of long polls: each asks for the first event after the last one delivered (waitIndex),
 * so that nothing is lost or doubled between two polls, over reconnects and over a change of the endpoint.
 * The first poll of a watch "from now" has no waitIndex; the X-Etcd-Index of its head, which comes at once,
 * is where the watch stands then. (A stream that is opened with an index in the past would do with one
 * request, but etcd falls silent after its first event; streams are therefore used from now on only, and a
 * cut one means a fresh start.)
 *
 * After a failure the next endpoint is asked at once; when all have failed, after a pause that doubles up to
 * the limit. */
#include "etcdclient/client.h"
#include "base/text.h"
#include "etcdclient/target.h"
#include <errno.h>

enum {
	PAUSE_FIRST_MS = 50,
	PAUSE_MAX_MS = 5000,
	LIVED_MS = 1000, /* a poll that was open for so long, or brought an event, ends a row of failures */
};

struct etcd_watch {
	struct list in_client; /* first */
	struct etcd_client *client;
	char *key;
	bool recursive, stream;
	int64_t pause_max_ms;
	etcd_watch_fn *fn; /* NULL: closed */
	void *userdata;
	uv_timer_t timer;
	struct http_call *call;
	uint64_t index;
	bool has_index; /* index is where the watch stands: waitIndex = index + 1 */
	bool told_open;
	size_t endpoint;   /* position of the next one to ask */
	char *asked;	   /* owned: the endpoint of this poll */
	unsigned failures; /* in a row */
	uint64_t opened_ms;
	bool head_ok;
	int status;
	uint64_t poll_index; /* X-Etcd-Index of this poll */
	struct buf line;     /* of a stream: what came of the next event */
};

static void poll_start(struct etcd_watch *watch);

static void timer_closed(uv_handle_t *handle)
{
	struct etcd_watch *watch = container_of((uv_timer_t *)handle, struct etcd_watch, timer);

	free(watch->key);
	free(watch->asked);
	buf_done(&watch->line);
	free(watch);
}

void watch_abandon(struct etcd_watch *watch)
{
	if (!watch->fn)
		return;
	watch->fn = NULL;
	list_remove(&watch->in_client);
	if (watch->call)
		http_call_cancel(watch->call);
	watch->call = NULL;
	uv_close((uv_handle_t *)&watch->timer, timer_closed);
}

struct etcd_watch *etcd_watch_close(struct etcd_watch *watch)
{
	if (watch)
		watch_abandon(watch);
	return NULL;
}

uint64_t etcd_watch_index(const struct etcd_watch *watch)
{
	return watch->index;
}

/* False when the owner has closed the watch (or the client) meanwhile. */
static bool tell(struct etcd_watch *watch, enum etcd_watch_news news, const struct response *response)
{
	watch->fn(watch, news, &response->pub, watch->userdata);
	return watch->fn != NULL;
}

static bool tell_failure(struct etcd_watch *watch, enum etcd_watch_news news, const char *text)
{
	_cleanup_response_ struct etcd_response *owned = NULL;
	struct response *response = response_new();

	owned = &response->pub;
	response->pub.status = watch->status;
	response_add_attempt(response, watch->asked, text, false);
	response_set_failure(response, ETCD_UNREACHABLE);
	return tell(watch, news, response);
}

static void timer_due(uv_timer_t *timer)
{
	poll_start(container_of(timer, struct etcd_watch, timer));
}

/* The row of failures grows by one; what comes next is decided here. */
static void retry(struct etcd_watch *watch)
{
	size_t count = watch->client->endpoint_count;
	uint64_t pause_ms = 0;

	watch->endpoint++;
	watch->failures++;
	if (watch->failures >= count) {
		unsigned doublings = (unsigned)MIN(watch->failures - count, (size_t)16);
		pause_ms = MIN((uint64_t)PAUSE_FIRST_MS << doublings, (uint64_t)watch->pause_max_ms);
		/* Spread, so that a thousand watchers do not come back in the same millisecond. */
		pause_ms = pause_ms / 2 + rng_below(&watch->client->rng, pause_ms / 2 + 1);
	}
	(void)uv_timer_start(&watch->timer, timer_due, pause_ms, 0);
}

static void start_over(struct etcd_watch *watch)
{
	watch->has_index = false;
	watch->told_open = false;
	buf_clear(&watch->line);
}

static struct response *event_new(struct etcd_watch *watch, struct slice body)
{
	struct response *response = response_new();

	response->pub.status = watch->status;
	response->pub.etcd_index = watch->poll_index;
	response->pub.endpoint = arena_printf(&response->arena, "%s", watch->asked);
	(void)response_parse(response, RESPONSE_KEYS, body);
	return response;
}

/* Answers false when the watch was closed, or must start over because of what came. */
static bool take_event(struct etcd_watch *watch, struct slice body, bool *ret_ok)
{
	_cleanup_response_ struct etcd_response *event = &event_new(watch, body)->pub;
	uint64_t index = event->node ? event->node->modified_index : 0;

	*ret_ok = event->outcome == ETCD_OK;
	if (!*ret_ok)
		return true;
	watch->failures = 0;
	if (watch->has_index && index <= watch->index)
		return true; /* seen already */
	watch->index = index;
	watch->has_index = true;
	return tell(watch, ETCD_WATCH_EVENT, container_of(event, struct response, pub));
}

static void on_head(struct http_call *call _unused_, const struct http_response *http, void *user)
{
	struct etcd_watch *watch = user;
	struct response *response;
	_cleanup_response_ struct etcd_response *owned = NULL;

	watch->status = http->status;
	watch->head_ok = http->status == 200;
	if (!watch->head_ok)
		return;
	response = response_new();
	owned = &response->pub;
	client_take_head(response, watch->asked, http);
	watch->opened_ms = uv_now(watch->client->loop);
	watch->poll_index = response->pub.etcd_index;
	client_prefer(watch->client, watch->asked);
	if (!watch->has_index) {
		watch->index = watch->poll_index;
		watch->has_index = true;
	}
	if (!watch->told_open) {
		watch->told_open = true;
		(void)tell(watch, ETCD_WATCH_OPEN, response);
	}
}

/* The stream is of no use any more: the owner begins anew. */
static void give_up_stream(struct etcd_watch *watch, const char *why)
{
	http_call_cancel(take_ptr(watch->call));
	if (tell_failure(watch, ETCD_WATCH_CLEARED, why)) {
		start_over(watch);
		retry(watch);
	}
}

static void on_body(struct http_call *call _unused_, struct slice piece, void *user)
{
	struct etcd_watch *watch = user;
	struct slice line, rest, after;
	bool ok;

	buf_add_slice(&watch->line, piece);
	if (buf_error(&watch->line) < 0) {
		give_up_stream(watch, "an event is larger than the limit");
		return;
	}
	if (!watch->head_ok)
		return; /* an error's body: read in on_done */
	rest = buf_slice(&watch->line);
	while (text_cut(rest, '\n', &line, &after)) {
		rest = after;
		if (!line.len)
			continue;
		if (!take_event(watch, line, &ok))
			return;
		if (!ok) {
			give_up_stream(watch, "what came is not an event");
			return;
		}
	}
	/* The beginning of a line waits for its end. */
	buf_consume(&watch->line, watch->line.len - rest.len);
}

static void take_error(struct etcd_watch *watch, struct slice body)
{
	_cleanup_response_ struct etcd_response *error = &event_new(watch, body)->pub;
	struct response *response = container_of(error, struct response, pub);
	bool cleared = etcd_response_is(error, ETCD_HISTORY_CLEARED);

	if (cleared) {
		start_over(watch);
		if (tell(watch, ETCD_WATCH_CLEARED, response))
			poll_start(watch);
		return;
	}
	if (tell(watch, watch->status >= 500 ? ETCD_WATCH_OUTAGE : ETCD_WATCH_REFUSED, response))
		retry(watch);
}

static void cut(struct etcd_watch *watch, const char *text)
{
	bool lost = watch->stream && watch->told_open;

	if (watch->head_ok && uv_now(watch->client->loop) - watch->opened_ms >= LIVED_MS)
		watch->failures = 0;
	if (lost)
		start_over(watch);
	if (tell_failure(watch, lost ? ETCD_WATCH_CLEARED : ETCD_WATCH_OUTAGE, text))
		retry(watch);
}

static void on_done(struct http_call *call _unused_, int error, const char *text,
	const struct http_response *http, void *user)
{
	struct etcd_watch *watch = user;
	bool ok = false;

	watch->call = NULL;
	if (error < 0 || !http) {
		cut(watch, text);
	} else if (!watch->head_ok) {
		take_error(watch, watch->stream ? buf_slice(&watch->line) : http->body);
	} else if (watch->stream || !http->body.len) {
		cut(watch, "the server ended the watch");
	} else if (take_event(watch, http->body, &ok)) {
		if (ok)
			poll_start(watch);
		else
			cut(watch, "the answer is not an event");
	}
}

static void poll_start(struct etcd_watch *watch)
{
	struct etcd_client *client = watch->client;
	_cleanup_buf_ struct buf target = BUF_INIT(0);

	if (!watch->failures)
		watch->endpoint = client->current;
	free(watch->asked);
	watch->asked = mem_strdup(client->endpoints[watch->endpoint % client->endpoint_count]);
	watch->head_ok = false;
	watch->status = 0;
	buf_clear(&watch->line);
	target_add_key(&target, client->key_prefix, watch->key);
	buf_add_char(&target, '?');
	target_add_bool(&target, "recursive", watch->recursive);
	if (watch->stream)
		target_add_bool(&target, "stream", true);
	target_add_bool(&target, "wait", true);
	if (watch->has_index)
		target_add_number(&target, "waitIndex", watch->index + 1);
	watch->call = client_send(client, &(struct client_send){
						  .endpoint = watch->asked,
						  .method = "GET",
						  .target = buf_text(&target),
						  .on_head = on_head,
						  .on_body = watch->stream ? on_body : NULL,
						  .on_done = on_done,
						  .user = watch,
					  });
}

struct etcd_watch *etcd_watch_open(struct etcd_client *client, const char *key,
	const struct etcd_watch_options *options, etcd_watch_fn *fn, void *userdata)
{
	struct etcd_watch *watch = mem_new(struct etcd_watch);
	struct etcd_watch_options defaults = {0};

	if (!options)
		options = &defaults;
	watch->client = client;
	watch->key = mem_strdup(key);
	watch->recursive = options->recursive;
	watch->stream = options->stream;
	watch->index = options->after_index;
	watch->has_index = options->after_index > 0 && !options->stream;
	watch->pause_max_ms = options->backoff_max_ms > 0 ? options->backoff_max_ms : PAUSE_MAX_MS;
	watch->fn = fn;
	watch->userdata = userdata;
	watch->line = BUF_INIT(client->response_max_bytes);
	(void)uv_timer_init(client->loop, &watch->timer);
	list_push_back(&client->watches, &watch->in_client);
	poll_start(watch);
	return watch;
}
