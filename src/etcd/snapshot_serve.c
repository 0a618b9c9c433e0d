/* GET /flotilla/snapshot: the state as it is once all acknowledged so far is in it, as a file (checkpoint.h),
 * at the pace of the client. A client that takes nothing is cut off by the HTTP server; meanwhile it costs
 * the pieces that are queued for it and the file, which stays as long. */
#include "etcd/server.h"
#include "base/memory.h"
#include <errno.h>
#include <stdio.h>

enum {
	PIECE_BYTES = 256 * 1024,
	QUEUE_BYTES = 1024 * 1024, /* unsent bytes at which a snapshot waits for its client */
};

struct saving {
	struct question question; /* first the read index */
	struct node_export *export;
	bool begun;
	char numbers[2][24];
};

static void saving_end(struct saving *saving)
{
	saving->export = node_export_free(saving->export);
	saving->question.req->on_cancel = NULL;
	saving->question.req->on_drain = NULL;
}

static void begin_answer(struct saving *saving)
{
	uint64_t index, bytes;
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "application/octet-stream"),
		HTTP_HEADER("X-Etcd-Cluster-Id", saving->question.server->cluster_id_text),
		HTTP_HEADER("X-Raft-Index", saving->numbers[0]),
		HTTP_HEADER("X-Snapshot-Bytes", saving->numbers[1])};

	node_export_get_info(saving->export, &index, &bytes);
	(void)snprintf(saving->numbers[0], sizeof(saving->numbers[0]), "%llu", (unsigned long long)index);
	(void)snprintf(saving->numbers[1], sizeof(saving->numbers[1]), "%llu", (unsigned long long)bytes);
	headers[2].value = slice_str(saving->numbers[0]);
	headers[3].value = slice_str(saving->numbers[1]);
	http_reply_begin(saving->question.req, 200, headers, ARRAY_LEN(headers));
	saving->begun = true;
}

static void saving_failed(struct saving *saving)
{
	struct http_request *req = saving->question.req;
	bool begun = saving->begun;

	saving_end(saving);
	if (begun)
		http_request_abort(req);
	else
		reply_message(saving->question.server, req, 503,
			"the snapshot could not be written: see this member's log, or ask another member");
}

static void saving_step(void *arg)
{
	struct saving *saving = arg;
	struct http_request *req = saving->question.req;
	struct slice bytes;
	int r = 0;

	while (http_reply_queued_bytes(req) < QUEUE_BYTES) {
		r = node_export_next(saving->export, PIECE_BYTES, &bytes);
		if (r < 0)
			break;
		if (!saving->begun)
			begin_answer(saving);
		if (!bytes.len) {
			saving_end(saving);
			http_reply_end(req);
			return;
		}
		if (http_reply_piece(req, bytes) < 0)
			return; /* gone: on_cancel comes */
	}
	if (r == 0)
		http_reply_await_drain(req);
	else if (r == -EAGAIN)
		saving->question.server->wake(saving->question.server);
	else
		saving_failed(saving);
}

static void saving_drained(struct http_request *req)
{
	saving_step(req->user);
}

static void saving_cancelled(struct http_request *req)
{
	struct saving *saving = req->user;

	saving->export = node_export_free(saving->export);
}

static void saving_confirmed(struct question *question, const struct node_reply *reply)
{
	struct saving *saving = container_of(question, struct saving, question);
	struct http_request *req = question->req;

	if (reply->error) {
		reply_message(question->server, req, 503, node_error_text(reply->error));
		return;
	}
	saving->export = node_export_new(question->server->node, saving_step, saving);
	if (!saving->export) {
		reply_message(question->server, req, 503,
			"too many snapshots are being saved from this member: try again later");
		return;
	}
	req->user = saving;
	req->on_cancel = saving_cancelled;
	req->on_drain = saving_drained;
	req->cancel_on_eof = true;
}

void snapshot_serve(struct server *server, struct http_request *req, struct slice rest)
{
	struct saving *saving = arena_alloc(&req->arena, sizeof(*saving));

	(void)rest;
	*saving = (struct saving){.question = {server, req, saving_confirmed}};
	question_begin(&saving->question);
	if (node_read_index(server->node, &saving->question) == 0)
		return;
	req->on_cancel = NULL;
	reply_message(server, req, 503, node_error_text(NODE_ERROR_TOO_MANY));
}
