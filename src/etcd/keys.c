/* /v2/keys: writes go through the log, reads come from this member's own store (or wait for a confirmed read
 * index), watches hang on the store's hub. Answers that are too large for one go are streamed from a
 * snapshot, a slice per turn, at the pace of the client. Each keeps what the store was when it began, so only
 * so many may be open; others wait for them, and then those are cut off whose clients take nothing. */
#include "etcd/keys_request.h"
#include "etcd/server.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include <errno.h>

enum {
	READ_SLICE_BYTES = 256 * 1024,
	READ_QUEUE_BYTES = 512 * 1024, /* unsent bytes at which a large answer waits for its client */
	ENDINGS_PER_TURN = 256,
	READS_PER_TURN = 2, /* slices: others wait for the end of the turn */
	SCRATCH_KEEP_BYTES = 16 * 1024,
	READINGS_MAX = 32,
	POSTPONED_MAX = 4096,
	PLACES_KEPT_MIN = 16, /* for what is no watch, if there are as many */
	PLACES_KEPT_MAX = 1024,
};

#define HOLD_NS (2 * NS_PER_S)
/* A client that takes nothing for so long is cut off while others wait. */
#define STALLED_NS (2 * NS_PER_S)
#define POSTPONE_NS (5 * NS_PER_S) /* for a place among the large answers */
#define TELL_EVERY_NS (60 * NS_PER_S)

struct keys_op {
	struct list link; /* in server->held, or in none */
	int64_t held_until_ns;
	struct question question;
	struct keys_request request;
};

/* ---- answers ---- */

struct head {
	struct http_header headers[8];
	size_t count;
	char numbers[3][TEXT_U64_BYTES];
};

static void head_add_u64(struct head *head, size_t slot, struct slice name, uint64_t value)
{
	head->headers[head->count++] = (struct http_header){name, text_from_u64(value, head->numbers[slot])};
}

static void head_begin(struct head *head, const struct server *server, uint64_t index)
{
	head->count = 0;
	head->headers[head->count++] = HTTP_HEADER("Content-Type", "application/json");
	head->headers[head->count++] = HTTP_HEADER("X-Etcd-Cluster-Id", server->cluster_id_text);
	head_add_u64(head, 0, SLICE_LITERAL("X-Etcd-Index"), index);
}

static void head_add_raft(struct head *head, uint64_t raft_index, uint64_t raft_term)
{
	head_add_u64(head, 1, SLICE_LITERAL("X-Raft-Index"), raft_index);
	head_add_u64(head, 2, SLICE_LITERAL("X-Raft-Term"), raft_term);
}

static void reply_error(struct server *server, struct http_request *req, enum store_error error,
	const char *cause, uint64_t index)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct head head;

	head_begin(&head, server, index);
	store_error_add_json(&body, error, cause, index);
	http_reply(req, store_error_http_status(error), head.headers, head.count, buf_slice(&body));
}

static void reply_node_error(struct server *server, struct http_request *req, enum node_error error)
{
	reply_error(server, req, STORE_RAFT_INTERNAL, node_error_text(error), 0);
}

/* ---- reads ---- */

struct reading {
	struct list link;   /* in server->readings, or in server->stalled while the client is slow */
	int64_t stalled_ns; /* since when */
	struct server *server;
	struct http_request *req;
	struct store_reader *reader;
	struct buf piece; /* written but not taken by the connection yet */
	bool more;	  /* after this piece */
};

/* A read that waits until fewer large answers are open; in its request's arena. */
struct postponed {
	struct list link;
	int64_t until_ns;
	struct server *server;
	struct http_request *req;
	struct keys_request request;
};

static void tell(int64_t *told_ns, const char *text)
{
	int64_t now_ns = time_mono_ns();

	if (*told_ns && now_ns - *told_ns < TELL_EVERY_NS)
		return;
	*told_ns = now_ns;
	log_warning("client requests: %s", text);
}

static void reading_free(struct reading *reading)
{
	list_remove(&reading->link);
	reading->server->reading_count--;
	if (reading->server->postponed_count)
		reading->server->wake(reading->server);
	buf_done(&reading->piece);
	(void)store_reader_free(reading->reader);
	free(reading);
}

static void reading_cancelled(struct http_request *req)
{
	reading_free(req->user);
}

static void reading_drained(struct http_request *req)
{
	struct reading *reading = req->user;

	list_remove(&reading->link);
	list_push_back(&reading->server->readings, &reading->link);
}

static void reading_stall(struct reading *reading)
{
	reading->stalled_ns = time_mono_ns();
	list_remove(&reading->link);
	list_push_back(&reading->server->stalled, &reading->link);
}

static const struct reading *first_stalled(const struct server *server)
{
	return list_empty(&server->stalled) ? NULL : list_first(&server->stalled, struct reading, link);
}

/* Is there a place for one more, or a client that has lost its own? */
static bool may_begin_reading(const struct server *server)
{
	const struct reading *slowest = first_stalled(server);

	return server->reading_count < READINGS_MAX ||
	       (slowest && time_mono_ns() - slowest->stalled_ns >= STALLED_NS);
}

static void cut_off_slowest(struct server *server)
{
	struct reading *slowest = list_first(&server->stalled, struct reading, link);
	struct http_request *req = slowest->req;

	tell(&server->told_readings_ns,
		"too many large answers are read too slowly: others wait for them, and "
		"those that take nothing are cut off");
	req->on_cancel = NULL;
	req->on_drain = NULL;
	reading_free(slowest);
	http_request_abort(req);
}

/* Sends one slice, or waits for on_drain when the client is slow. The reading is gone when it was the last.
 */
static void reading_step(struct reading *reading)
{
	struct http_request *req = reading->req;

	if (!reading->piece.len)
		reading->more = store_reader_step(reading->reader, &reading->piece, READ_SLICE_BYTES);
	if (http_reply_piece(req, buf_slice(&reading->piece)) < 0) {
		reading_stall(reading);
		return;
	}
	buf_clear(&reading->piece);
	if (!reading->more) {
		req->on_cancel = NULL;
		req->on_drain = NULL;
		reading_free(reading);
		http_reply_end(req);
	} else if (http_reply_queued_bytes(req) > READ_QUEUE_BYTES) {
		reading_stall(reading);
		http_reply_await_drain(req);
	}
}

static void continue_readings(struct server *server)
{
	for (unsigned steps = 0; steps < READS_PER_TURN && !list_empty(&server->readings); steps++) {
		struct reading *reading = list_first(&server->readings, struct reading, link);

		list_remove(&reading->link);
		list_push_back(&server->readings, &reading->link);
		reading_step(reading);
	}
}

static void reading_begin(struct server *server, struct http_request *req, const struct head *head,
	struct store_reader *reader, struct slice begun)
{
	struct reading *reading = mem_new(struct reading);

	*reading = (struct reading){.server = server, .req = req, .reader = reader};
	list_init(&reading->link);
	req->user = reading;
	req->on_cancel = reading_cancelled;
	req->on_drain = reading_drained;
	list_push_back(&server->readings, &reading->link);
	server->reading_count++;
	http_reply_begin(req, 200, head->headers, head->count);
	(void)http_reply_piece(req, begun);
}

static void postponed_forget(struct postponed *postponed)
{
	list_remove(&postponed->link);
	postponed->server->postponed_count--;
	postponed->req->on_cancel = NULL;
}

static void postponed_cancelled(struct http_request *req)
{
	postponed_forget(req->user);
}

static void refuse_reading(struct server *server, struct http_request *req)
{
	tell(&server->told_readings_ns,
		"too many large answers are read too slowly: reads of large directories are refused (503)");
	reply_message(server, req, 503,
		"too many large answers are being read from this member: try again later, or ask another "
		"member");
}

static void postpone(struct server *server, struct http_request *req, const struct keys_request *request)
{
	struct postponed *postponed;

	if (server->postponed_count >= POSTPONED_MAX) {
		refuse_reading(server, req);
		return;
	}
	postponed = arena_alloc(&req->arena, sizeof(*postponed));
	*postponed = (struct postponed){
		.until_ns = time_mono_ns() + POSTPONE_NS, .server = server, .req = req, .request = *request};
	http_request_release(req);
	req->user = postponed;
	req->on_cancel = postponed_cancelled;
	list_push_back(&server->postponed, &postponed->link);
	server->postponed_count++;
}

/* in_turn: it was the first of those that wait. */
static void keys_read(
	struct server *server, struct http_request *req, const struct keys_request *request, bool in_turn)
{
	struct buf *body = &server->scratch;
	struct store_result result;
	struct store_reader *reader;
	struct node_status status;
	struct head head;

	reader = store_reader_open(node_store(server->node), request->command.path, request->recursive,
		node_clock_ns(server->node), &result);
	if (!reader) {
		reply_error(server, req, result.error, result.cause, result.index);
		store_result_done(&result);
		return;
	}
	node_get_status(server->node, &status);
	head_begin(&head, server, result.index);
	head_add_raft(&head, status.applied, status.term);
	buf_clear(body);
	if (store_reader_step(reader, body, READ_SLICE_BYTES)) {
		if (may_begin_reading(server) && (in_turn || !server->postponed_count)) {
			if (server->reading_count >= READINGS_MAX)
				cut_off_slowest(server);
			reading_begin(server, req, &head, reader, buf_slice(body));
		} else {
			(void)store_reader_free(reader);
			postpone(server, req, request);
		}
	} else {
		(void)store_reader_free(reader);
		http_reply(req, 200, head.headers, head.count, buf_slice(body));
	}
	if (body->cap > SCRATCH_KEEP_BYTES)
		buf_done(body);
}

/* Those that have waited for too long are answered, and as many begin as a turn has time for. */
static void continue_postponed(struct server *server)
{
	int64_t now_ns = time_mono_ns();
	unsigned begun = 0;

	while (!list_empty(&server->postponed)) {
		struct postponed *first = list_first(&server->postponed, struct postponed, link);
		struct http_request *req = first->req;
		bool may_begin = may_begin_reading(server);

		if (may_begin ? begun == READS_PER_TURN : now_ns < first->until_ns)
			break;
		postponed_forget(first);
		if (may_begin) {
			begun++;
			keys_read(server, req, &first->request, true);
		} else {
			refuse_reading(server, req);
		}
	}
}

bool keys_continue(struct server *server)
{
	continue_postponed(server);
	continue_readings(server);
	return !list_empty(&server->readings) || (server->postponed_count && may_begin_reading(server));
}

static void read_answered(struct question *question, const struct node_reply *reply)
{
	struct keys_op *op = container_of(question, struct keys_op, question);

	if (reply->error)
		reply_node_error(question->server, question->req, reply->error);
	else
		keys_read(question->server, question->req, &op->request, false);
}

/* ---- writes ---- */

static void write_answered(struct question *question, const struct node_reply *reply)
{
	const struct store_result *result = reply->result;
	struct head head;

	if (reply->error) {
		reply_node_error(question->server, question->req, reply->error);
		return;
	}
	if (result->error) {
		reply_error(question->server, question->req, result->error, result->cause, result->index);
		return;
	}
	head_begin(&head, question->server, result->index);
	head_add_raft(&head, reply->raft_index, reply->raft_term);
	http_reply(question->req, store_event_http_status(result->event), head.headers, head.count,
		store_event_json(result->event));
}

static void ask(struct keys_op *op)
{
	struct server *server = op->question.server;
	struct http_request *req = op->question.req;
	int r;

	/* Nothing of it is needed any more: while the cluster is without a quorum many may wait. */
	http_request_release(req);
	question_begin(&op->question);
	if (op->request.kind == KEYS_WRITE) {
		struct buf *command = &server->scratch;

		keys_request_stamp(&op->request, node_clock_ns(server->node));
		buf_clear(command);
		store_command_encode(&op->request.command, command);
		r = node_propose(server->node, buf_slice(command), &op->question);
		if (command->cap > SCRATCH_KEEP_BYTES)
			buf_done(command);
	} else {
		r = node_read_index(server->node, &op->question);
	}
	if (r == 0)
		return;
	req->on_cancel = NULL;
	reply_node_error(server, req,
		r == -EMSGSIZE	  ? NODE_ERROR_TOO_LARGE
		: r == -ENOSPC	  ? NODE_ERROR_NO_SPACE
		: r == -ESHUTDOWN ? NODE_ERROR_STOPPED
				  : NODE_ERROR_TOO_MANY);
}

/* The first events of a fresh cluster are its own: members publish themselves, the version is decided. A
 * write that comes earlier waits for them for a moment, so that users find the indices that they know from
 * the original. */
static bool is_settled(const struct server *server)
{
	const struct node_member *self = node_member_by_id(server->node, server->member_id);

	return self && *self->name && *node_cluster_version(server->node);
}

static void held_cancelled(struct http_request *req)
{
	struct keys_op *op = req->user;

	list_remove(&op->link);
}

static void hold(struct server *server, struct keys_op *op)
{
	http_request_release(op->question.req);
	op->held_until_ns = time_mono_ns() + HOLD_NS;
	op->question.req->user = op;
	op->question.req->on_cancel = held_cancelled;
	list_push_back(&server->held, &op->link);
}

void keys_release(struct server *server)
{
	while (!list_empty(&server->held)) {
		struct keys_op *op = list_first(&server->held, struct keys_op, link);

		if (!is_settled(server) && time_mono_ns() < op->held_until_ns)
			return;
		list_remove(&op->link);
		ask(op);
	}
}

int64_t keys_due_ns(const struct server *server)
{
	const struct reading *slowest = first_stalled(server);
	int64_t due_ns = INT64_MAX;

	if (!list_empty(&server->held))
		due_ns = list_first(&server->held, struct keys_op, link)->held_until_ns;
	if (server->postponed_count) {
		due_ns = MIN(due_ns, list_first(&server->postponed, struct postponed, link)->until_ns);
		if (slowest)
			due_ns = MIN(due_ns, slowest->stalled_ns + STALLED_NS);
	}
	return due_ns;
}

/* ---- watches ---- */

struct watching {
	struct store_watch watch;
	struct list link; /* server.watchings, or server.endings: its store is gone */
	bool ending;
	struct server *server;
	struct http_request *req;
};

static void watching_free(struct watching *watching)
{
	list_remove(&watching->link);
	watching->server->watch_count--;
	free(watching);
}

static void watch_cancelled(struct http_request *req)
{
	struct watching *watching = req->user;

	if (!watching->ending)
		store_watch_stop(node_store(watching->server->node), &watching->watch);
	watching_free(watching);
}

static void watch_event(struct store_watch *watch, struct store_event *event)
{
	struct watching *watching = container_of(watch, struct watching, watch);
	struct http_request *req = watching->req;
	int r = http_reply_piece(req, store_event_json(event));

	if (watch->stream) {
		if (r < 0) {
			/* A client that cannot keep up is cut off. */
			store_watch_stop(node_store(watching->server->node), watch);
			req->on_cancel = NULL;
			watching_free(watching);
			http_request_abort(req);
		}
		return;
	}
	req->on_cancel = NULL;
	watching_free(watching);
	http_reply_end(req);
}

/* What the store still has to tell is told. Then the answers end, as the original's do when it cannot
 * keep up: a client that asks again from the next index on misses nothing, or learns that it did (401). */
void keys_store_leaving(struct server *server, struct store *store)
{
	while (store_deliver(store, 1000))
		;
	list_for_each (it, &server->watchings) {
		struct watching *watching = list_item(it, struct watching, link);

		store_watch_stop(store, &watching->watch);
		watching->ending = true;
	}
	list_splice_back(&server->endings, &server->watchings);
}

bool keys_end_watches(struct server *server)
{
	for (unsigned i = 0; i < ENDINGS_PER_TURN && !list_empty(&server->endings); i++) {
		struct watching *watching = list_first(&server->endings, struct watching, link);
		struct http_request *req = watching->req;

		req->on_cancel = NULL;
		watching_free(watching);
		http_reply_end(req);
	}
	return !list_empty(&server->endings);
}

/* Watches keep their places for as long as they like. */
static void refuse_watch(struct server *server, struct http_request *req)
{
	tell(&server->told_watches_ns, "watches have taken all places that they may have: more are refused "
				       "(503); raise the limit of "
				       "open files (RLIMIT_NOFILE), or let clients watch on other members");
	req->keep_alive = false; /* its place is for others */
	reply_message(server, req, 503,
		"too many watches are open on this member: ask another member, or raise its limit of open "
		"files "
		"(RLIMIT_NOFILE)");
}

static void keys_watch(struct server *server, struct http_request *req, const struct keys_request *request)
{
	struct watching *watching;
	struct store *store = node_store(server->node);
	struct store_event *event = NULL;
	struct store_result result;
	struct node_status status;
	struct head head;
	int r;

	if (server->watch_count >= server->watch_max) {
		refuse_watch(server, req);
		return;
	}
	watching = mem_new(struct watching);
	watching->server = server;
	watching->req = req;
	watching->ending = false;
	list_init(&watching->link);
	r = store_watch_start(store, &watching->watch, request->command.path, request->recursive,
		request->stream, request->wait_index, watch_event, &event, &result);
	if (r < 0) {
		free(watching);
		reply_error(server, req, result.error, result.cause, result.index);
		store_result_done(&result);
		return;
	}
	node_get_status(server->node, &status);
	head_begin(&head, server, result.index);
	head_add_raft(&head, status.applied, status.term);
	req->user = watching;
	req->on_cancel = watch_cancelled;
	req->cancel_on_eof = true;
	http_reply_begin(req, 200, head.headers, head.count);
	list_push_back(&server->watchings, &watching->link);
	server->watch_count++;
	if (r == 0) {
		http_request_shrink(req);
		return;
	}
	(void)http_reply_piece(req, store_event_json(event));
	(void)store_event_unref(event);
	if (!request->stream) {
		req->on_cancel = NULL;
		watching_free(watching);
		http_reply_end(req);
	}
}

static void serve(struct server *server, struct http_request *req, struct slice key, struct arena *arena)
{
	const struct keys_input input = {.method = req->method,
		.key = key,
		.query = req->query,
		.content_type = http_request_header(req, "Content-Type"),
		.body = req->body,
		.body_too_large = req->body_too_large};
	struct keys_request request;
	const char *cause = NULL;
	enum store_error error = keys_request_parse(arena, &input, &request, &cause);
	struct keys_op *op;

	if (error) {
		reply_error(server, req, error, cause, 0);
		return;
	}
	if (request.kind == KEYS_WATCH) {
		keys_watch(server, req, &request);
	} else if (request.kind == KEYS_READ && (!request.quorum || slice_is(req->method, "HEAD"))) {
		keys_read(server, req, &request, false);
	} else {
		op = arena_alloc(&req->arena, sizeof(*op));
		op->question = (struct question){
			server, req, request.kind == KEYS_WRITE ? write_answered : read_answered};
		op->request = request;
		list_init(&op->link);
		if (request.kind == KEYS_WRITE && !is_settled(server))
			hold(server, op);
		else
			ask(op);
	}
}

/* What is proposed at once is taken apart in a place that is given back before the answer comes. */
void keys_serve(struct server *server, struct http_request *req, struct slice key)
{
	bool reads = slice_is(req->method, "GET") || slice_is(req->method, "HEAD");

	if (reads || !is_settled(server)) {
		serve(server, req, key, &req->arena);
		return;
	}
	serve(server, req, key, &server->forms);
	arena_reset(&server->forms);
}

void keys_init(struct server *server, size_t max_connections)
{
	size_t kept = MIN(MAX(max_connections / 8, (size_t)PLACES_KEPT_MIN), (size_t)PLACES_KEPT_MAX);

	list_init(&server->readings);
	list_init(&server->stalled);
	list_init(&server->postponed);
	list_init(&server->watchings);
	list_init(&server->endings);
	list_init(&server->held);
	/* With very few places, half. */
	server->watch_max = max_connections - MIN(kept, max_connections / 2);
}
