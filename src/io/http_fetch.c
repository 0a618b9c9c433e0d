/* The blocking form: runs the loop until the call is done and copies the answer out. */
#include "io/http_client_internal.h"
#include <errno.h>

struct fetch {
	struct http_result *result;
	bool done;
	uv_loop_t *loop;
};

struct owned {
	struct buf texts;
	struct http_header *headers;
	char *body;
};

static struct slice moved(struct owned *owned, const struct buf *from, struct slice text)
{
	return text.len ? slice_make(owned->texts.data + (text.data - from->data), text.len)
			: slice_make("", 0);
}

static void copy_response(struct http_result *result, struct http_call *call)
{
	struct owned *owned = mem_new(struct owned);
	struct http_response *response = &result->response;
	size_t body_len;

	*response = call->response;
	buf_add_slice(&owned->texts, buf_slice(&call->head));
	owned->headers = mem_new_array(struct http_header, response->header_count);
	for (size_t i = 0; i < response->header_count; i++)
		owned->headers[i] = (struct http_header){moved(owned, &call->head, call->headers[i].name),
			moved(owned, &call->head, call->headers[i].value)};
	response->headers = owned->headers;
	response->reason = moved(owned, &call->head, response->reason);
	owned->body = buf_take(&call->body, &body_len);
	response->body = slice_make(owned->body, body_len);
	result->owned = owned;
}

static void on_done(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct fetch *fetch = user;

	fetch->done = true;
	uv_stop(fetch->loop); /* else it would wait for an event that has nothing to do with this call */
	fetch->result->error = error;
	fetch->result->text = mem_strdup(text);
	if (response)
		copy_response(fetch->result, call);
}

struct piece_relay {
	struct fetch fetch;
	void (*on_body)(struct http_call *call, struct slice piece, void *user);
	void *user;
};

static void on_piece(struct http_call *call, struct slice piece, void *user)
{
	struct piece_relay *relay = user;

	relay->on_body(call, piece, relay->user);
}

int http_client_fetch(
	struct http_client *client, const struct http_call_options *options, struct http_result *ret_result)
{
	struct piece_relay relay = {.fetch = {.result = ret_result, .loop = client->loop},
		.on_body = options->on_body,
		.user = options->user};
	struct http_call_options own = *options;

	*ret_result = (struct http_result){0};
	own.on_head = NULL;
	own.on_upgrade = NULL;
	own.on_done = on_done;
	own.on_body = options->on_body ? on_piece : NULL;
	own.user = &relay;
	uv_update_time(client->loop); /* the time outs begin now, not when the loop last ran */
	(void)http_client_send(client, &own);
	while (!relay.fetch.done)
		(void)uv_run(client->loop, UV_RUN_ONCE);
	return ret_result->error;
}

void http_result_done(struct http_result *result)
{
	struct owned *owned = result->owned;

	if (owned) {
		buf_done(&owned->texts);
		free(owned->headers);
		free(owned->body);
		free(owned);
	}
	free(result->text);
	*result = (struct http_result){0};
}

int http_client_alone(struct http_client **ret_client, struct buf *reterr)
{
	uv_loop_t *loop = mem_new(uv_loop_t);
	int r = uv_loop_init(loop);

	if (r < 0) {
		buf_printf(reterr, "cannot make an event loop: %s", uv_strerror(r));
		free(loop);
		return r;
	}
	*ret_client = http_client_new(loop, NULL);
	return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

struct http_client *http_client_alone_done(struct http_client *client)
{
	uv_loop_t *loop;
	int r;

	if (!client)
		return NULL;
	loop = client->loop;
	http_client_close(client, NULL, NULL);
	(void)uv_run(loop, UV_RUN_DEFAULT);
	uv_walk(loop, close_handle, NULL);
	(void)uv_run(loop, UV_RUN_DEFAULT);
	r = uv_loop_close(loop);
	assert(r == 0);
	free(loop);
	return NULL;
}
