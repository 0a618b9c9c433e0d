/* The HTTP client's interface over a simulated network: each call has a connection of its own, which may be
 * slow, break, or be silent for as long as a link is cut. What is on a cut link goes on when the link is
 * mended, if somebody still waits for it: who gives up resets the connection. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exchange.h"

#define KEEPALIVE_NS (20 * NS_PER_S) /* as the connections have it: 10 s, and ten probes */
#define SLOW_NS (1500 * NS_PER_MS)
#define STREAM_PIECES_MAX 1000

struct http_client {
	struct life *life;
	struct list calls;
};
struct http_call {
	struct list link;
	struct http_client *client;
	struct exchange *exchange; /* NULL: nothing was sent */
	struct event *timeout, *failure;
	uint32_t pause_ms; /* longest in the body; 0: any */
	int error;
	const char *text;
	bool sent;
	void (*on_head)(struct http_call *call, const struct http_response *response, void *user);
	void (*on_body)(struct http_call *call, struct slice piece, void *user);
	void (*on_done)(struct http_call *call, int error, const char *text,
		const struct http_response *response, void *user);
	void *user;
};

static int64_t latency(struct world *w)
{
	int64_t ns = 50000 + world_rand(w, w->profile.delay_ns);

	return w->net_slow_until_ns > w->now_ns ? ns + world_rand(w, SLOW_NS) : ns;
}

static bool link_is_cut(const struct exchange *x)
{
	return x->host->cut[x->endpoint];
}

/* ---- the end of things ---- */

void exchange_free(struct exchange *x)
{
	if (x->event)
		x->event->drop = NULL;
	event_cancel(&x->event);
	server_forget(x);
	list_remove(&x->link);
	list_remove(&x->in_streams);
	list_for_each_safe (it, &x->pieces)
		free(list_item(it, struct piece, link));
	buf_done(&x->answer);
	free(x->method);
	free(x->target);
	free(x->type);
	free(x->body);
	free(x);
}

static void exchange_drop(void *data)
{
	exchange_free(data);
}

/* Nobody waits any more. What is on its way to the store stays on it. */
static void exchange_leave(struct exchange *x)
{
	x->call = NULL;
	if (!x->busy && (x->answered || x->watching))
		exchange_free(x);
}

static void call_free(struct http_call *call)
{
	event_cancel(&call->timeout);
	event_cancel(&call->failure);
	list_remove(&call->link);
	if (call->exchange)
		exchange_leave(call->exchange);
	free(call);
}

static void call_finish(
	struct http_call *call, int error, const char *text, const struct http_response *response)
{
	event_cancel(&call->timeout);
	event_cancel(&call->failure);
	list_remove(&call->link);
	call->on_done(call, error, text, response, call->user);
	call_free(call);
}

static void call_failed(void *data)
{
	struct http_call *call = data;

	if (call->exchange && call->exchange->mute)
		call->exchange->host->trouble_ns =
			call->exchange->world->now_ns; /* that it did not know of */

	call_finish(call, call->error, call->text, NULL);
}

static void call_timed_out(void *data)
{
	struct http_call *call = data;

	call->error = -ETIMEDOUT;
	call->text = call->sent
			     ? "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
			     : "dial tcp: i/o timeout";
	call_failed(call);
}

static void call_fail_after(struct http_call *call, int64_t ns, int error, const char *text)
{
	struct world *w = call->client->life->world;

	if (call->failure)
		return;
	call->error = error;
	call->text = text;
	world_at(w, w->now_ns + ns, &call->client->life->gate, call_failed, call, &call->failure);
}

/* ---- the way there ---- */

static void arrives(void *data)
{
	struct exchange *x = data;

	if (link_is_cut(x)) {
		list_push_back(&x->world->stuck, &x->link);
		return;
	}
	server_take(x->world, x);
}

static struct exchange *exchange_new(struct http_call *call, const struct http_call_options *options,
	const char *target, unsigned endpoint)
{
	struct exchange *x = mem_new(struct exchange);
	struct life *life = call->client->life;

	x->world = life->world;
	x->host = life->host;
	x->endpoint = endpoint;
	x->call = call;
	x->method = mem_strdup(options->method ? options->method : "GET");
	x->target = mem_strdup(target);
	for (size_t i = 0; i < options->header_count; i++)
		if (slice_is(options->headers[i].name, "Content-Type"))
			x->type = mem_strndup(options->headers[i].value.data, options->headers[i].value.len);
	x->body = mem_strndup(options->body.data ? options->body.data : "", options->body.len);
	x->body_len = options->body.len;
	x->answer = BUF_INIT(0);
	list_init(&x->link);
	list_init(&x->in_streams);
	list_init(&x->pieces);
	return x;
}

struct http_call *http_client_send(struct http_client *client, const struct http_call_options *options)
{
	struct http_call *call = mem_new(struct http_call);
	struct life *life = client->life;
	struct world *w = life->world;
	uint32_t timeout_ms =
		options->total_timeout_ms ? options->total_timeout_ms : options->header_timeout_ms;
	unsigned endpoint = (unsigned)(options->url[strlen("http://s")] - '0');
	const char *target = strstr(options->url, "/v2/");
	bool lost;

	call->client = client;
	call->pause_ms = options->body_timeout_ms;
	call->on_head = options->on_head;
	call->on_body = options->on_body;
	call->on_done = options->on_done;
	call->user = options->user;
	list_push_back(&client->calls, &call->link);
	lost = host_step(life);
	if (lost)
		return call;
	if (w->endpoints[endpoint].down && !life->host->cut[endpoint]) {
		call_fail_after(call, 2 * latency(w), -ECONNREFUSED, "dial tcp: connect: connection refused");
		return call;
	}
	if (life->host->cut[endpoint] && world_chance(w, 500000)) {
		/* It has no connection, and gets none. */
		if (!life->dead)
			world_at(w, w->now_ns + options->connect_timeout_ms * NS_PER_MS, &life->gate,
				call_timed_out, call, &call->timeout);
		return call;
	}
	call->sent = true;
	if (strcmp(options->method ? options->method : "GET", "GET") != 0)
		world_log(w, "    h%u sends %s %s", life->host->number, options->method, target);
	call->exchange = exchange_new(call, options, target, endpoint);
	world_at(w, w->now_ns + latency(w), NULL, arrives, call->exchange, &call->exchange->event)->drop =
		exchange_drop;
	if (timeout_ms && !life->dead)
		world_at(w, w->now_ns + timeout_ms * NS_PER_MS, &life->gate, call_timed_out, call,
			&call->timeout);
	return call;
}

void http_call_cancel(struct http_call *call)
{
	call_free(call);
}

bool http_call_was_sent(const struct http_call *call)
{
	return call->sent;
}

/* ---- the way back ---- */

static void comes_back(void *data);

static void send_back(struct exchange *x, int64_t after_ns)
{
	struct world *w = x->world;

	if (x->call && !x->call->client->life->dead)
		world_at(w, w->now_ns + after_ns, &x->call->client->life->gate, comes_back, x, &x->event);
	else if (!x->call)
		exchange_free(x);
}

/* The time for the next piece of a body begins. */
static void expect_more(struct http_call *call)
{
	struct life *life = call->client->life;
	struct world *w = life->world;

	if (!call->pause_ms)
		return;
	event_cancel(&call->timeout);
	world_at(
		w, w->now_ns + call->pause_ms * NS_PER_MS, &life->gate, call_timed_out, call, &call->timeout);
}

/* Some of the body, or all of it. Whether the rest comes later, if it does. */
static bool rest_is_on_its_way(struct exchange *x)
{
	struct world *w = x->world;
	struct slice rest = slice_make(x->answer.data + x->told, x->answer.len - x->told);

	if (!x->call->on_body || !rest.len)
		return false;
	if (world_chance(w, 500000))
		rest.len = (size_t)world_rand(w, (int64_t)rest.len) + 1;
	x->told += rest.len;
	x->call->on_body(x->call, rest, x->call->user);
	if (!x->call || x->told == x->answer.len)
		return false;
	if (!w->calm && world_chance(w, w->profile.answer_lost)) {
		w->summary->faults[FAULT_ANSWER_LOST]++;
		x->busy = false;
		exchange_reset(x);
		return true;
	}
	expect_more(x->call);
	x->busy = false;
	send_back(x, world_chance(w, 900000) ? 1000 : latency(w));
	return true;
}

static void comes_back(void *data)
{
	struct exchange *x = data;
	struct http_call *call = x->call;
	char index[24];
	struct http_header header = {SLICE_LITERAL("X-Etcd-Index"), {index, 0}};
	struct http_response response = {.status = x->status,
		.version_minor = 1,
		.headers = &header,
		.header_count = 1,
		.body = buf_slice(&x->answer)};

	if (link_is_cut(x)) {
		list_push_back(&x->world->stuck, &x->link);
		return;
	}
	(void)snprintf(index, sizeof(index), "%llu", (unsigned long long)x->index);
	header.value.len = strlen(index);
	x->busy = true;
	if (call->on_head && !x->head_told)
		call->on_head(call, &response, call->user);
	x->head_told = true;
	if (x->call && rest_is_on_its_way(x))
		return;
	if (x->call)
		call_finish(call, 0, "", &response);
	x->busy = false;
	exchange_free(x);
}

void exchange_answer(struct exchange *x, int status, uint64_t index)
{
	struct world *w = x->world;

	x->answered = true;
	x->status = status;
	x->index = index;
	if (!w->calm && world_chance(w, w->profile.answer_lost)) {
		w->summary->faults[FAULT_ANSWER_LOST]++;
		exchange_reset(x);
		return;
	}
	send_back(x, latency(w));
}

void exchange_reset(struct exchange *x)
{
	struct http_call *call = x->call;

	if (call) {
		call->exchange = NULL;
		if (link_is_cut(x))
			call_fail_after(call, KEEPALIVE_NS, -ETIMEDOUT, "read tcp: connection timed out");
		else
			call_fail_after(call, latency(x->world), -ECONNRESET, "unexpected EOF");
	}
	exchange_free(x);
}

/* ---- streams ---- */

static bool stream_is_held(const struct exchange *x)
{
	const struct endpoint *endpoint = &x->world->endpoints[x->endpoint];

	return link_is_cut(x) || endpoint->frozen || endpoint->cut;
}

static void piece_comes(void *data)
{
	struct exchange *x = data;
	struct http_call *call = x->call;
	struct piece *piece;

	if (stream_is_held(x))
		return; /* kicked when it is not */
	piece = list_first(&x->pieces, struct piece, link);
	list_remove(&piece->link);
	x->world->summary->stream_events++;
	x->busy = true;
	if (!x->head_told) {
		char index[24];
		struct http_header header = {SLICE_LITERAL("X-Etcd-Index"), {index, 0}};
		struct http_response response = {
			.status = 200, .version_minor = 1, .headers = &header, .header_count = 1};

		(void)snprintf(index, sizeof(index), "%llu", (unsigned long long)x->index);
		header.value.len = strlen(index);
		x->head_told = true;
		event_cancel(&call->timeout);
		call->on_head(call, &response, call->user);
	} else {
		call->on_body(call, slice_make(piece->text, piece->len), call->user);
	}
	x->busy = false;
	free(piece);
	if (!x->call)
		exchange_free(x);
	else
		stream_kick(x);
}

void stream_kick(struct exchange *x)
{
	struct world *w = x->world;

	if (x->event || list_empty(&x->pieces) || stream_is_held(x) || x->call->client->life->dead)
		return;
	/* One after the other: what follows close behind does not wait for the delay again. */
	world_at(w, w->now_ns + (world_chance(w, 500000) ? latency(w) : 1000), &x->call->client->life->gate,
		piece_comes, x, &x->event);
}

static void add_piece(struct exchange *x, struct slice text)
{
	struct piece *piece = mem_alloc(sizeof(*piece) + text.len);

	piece->len = text.len;
	if (text.len)
		memcpy(piece->text, text.data, text.len);
	list_init(&piece->link);
	list_push_back(&x->pieces, &piece->link);
	stream_kick(x);
}

void stream_begin(struct exchange *x, uint64_t index)
{
	x->index = index;
	x->watching = true;
	list_push_back(&x->world->streams, &x->in_streams);
	add_piece(x, (struct slice){0});
}

void stream_event(struct exchange *x, struct slice json)
{
	if (!x->mute)
		add_piece(x, json);
}

void http_end_stream(struct world *w)
{
	unsigned count = 0, chosen;

	list_for_each (it, &w->streams)
		count++;
	if (!count)
		return;
	chosen = (unsigned)world_rand(w, count);
	list_for_each (it, &w->streams)
		if (!chosen--) {
			exchange_reset(list_item(it, struct exchange, in_streams));
			return;
		}
}

/* ---- faults ---- */

void http_settle(struct world *w)
{
	struct list stuck;

	list_init(&stuck);
	list_splice_back(&stuck, &w->stuck);
	list_for_each_safe (it, &stuck) {
		struct exchange *x = list_item(it, struct exchange, link);

		list_remove(&x->link);
		if (link_is_cut(x))
			list_push_back(&w->stuck, &x->link);
		else if (!x->call)
			exchange_free(x); /* reset by who gave up */
		else if (x->answered)
			send_back(x, latency(w));
		else
			world_at(w, w->now_ns + latency(w), NULL, arrives, x, &x->event)->drop =
				exchange_drop;
	}
	list_for_each (it, &w->streams)
		stream_kick(list_item(it, struct exchange, in_streams));
}

void http_reset(struct world *w, unsigned endpoint)
{
	list_for_each_safe (it, &w->streams) {
		struct exchange *x = list_item(it, struct exchange, in_streams);

		if (x->endpoint == endpoint)
			exchange_reset(x);
	}
	list_for_each_safe (it, &w->endpoints[endpoint].queue)
		exchange_reset(list_item(it, struct exchange, link));
}

void http_link_lost(struct host *host, unsigned endpoint)
{
	struct world *w = host->world;

	list_for_each (it, &w->streams) {
		struct exchange *x = list_item(it, struct exchange, in_streams);

		if (x->host != host || x->endpoint != endpoint || x->mute || !world_chance(w, 300000))
			continue;
		w->summary->faults[FAULT_STREAM_MUTE]++;
		x->mute = true;
		call_fail_after(x->call, KEEPALIVE_NS, -ETIMEDOUT, "read tcp: connection timed out");
	}
}

void http_world_done(struct world *w)
{
	for (unsigned i = 0; i < w->profile.endpoints; i++)
		list_for_each_safe (it, &w->endpoints[i].queue)
			exchange_free(list_item(it, struct exchange, link));
	list_for_each_safe (it, &w->stuck)
		exchange_free(list_item(it, struct exchange, link));
}

void http_streams_done(struct world *w)
{
	list_for_each_safe (it, &w->streams) {
		struct exchange *x = list_item(it, struct exchange, in_streams);

		fprintf(stderr, "seed %llu: h%u's stream from s%u is left: %s\n",
			(unsigned long long)w->options->seed, x->host->number, x->endpoint, x->target);
		exchange_free(x);
	}
}

/* ---- the client ---- */

struct http_client *http_client_new(uv_loop_t *loop, const struct http_client_options *options)
{
	struct http_client *client = mem_new(struct http_client);

	(void)options;
	client->life = life_of(loop);
	list_init(&client->calls);
	return client;
}

void http_client_set_tls(struct http_client *client, struct tls_context *context)
{
	(void)client;
	(void)context;
}

void http_client_route(struct http_client *client, const char *host, uint16_t port, const char *unix_path)
{
	(void)client;
	(void)host;
	(void)port;
	(void)unix_path;
	assert(false && "a daemon has no tunnel");
}

void http_client_close(struct http_client *client, void (*on_closed)(void *user), void *user)
{
	list_for_each_safe (it, &client->calls)
		call_free(list_item(it, struct http_call, link));
	free(client);
	if (on_closed)
		on_closed(user);
}
