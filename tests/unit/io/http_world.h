/* A server and a client that sends raw bytes, on one loop, over loopback or a Unix socket. What is asked for
 * says how it is answered: see on_request(). */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "io/http_server.h"
#include "raw_client.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PACED_PIECES = 20, PACED_BYTES = 300 * 1000 };

static const char paced_piece[PACED_BYTES];

enum { BIG_BYTES = 5 * 1000 * 1000, HUGE_BYTES = 4 * BIG_BYTES /* more than sockets take */ };

struct world {
	uv_loop_t loop;
	struct http_server *server;
	uint16_t port;
	struct raw raw;
	struct http_request *held; /* a reference */
	unsigned int requests, cancelled, drained;
	struct buf seen; /* "METHOD path query body;" of each request */
	uv_timer_t timer;
	struct http_request *timed;
	unsigned int ticks;
	int piece_error;
	uv_stream_t *taken;
	struct buf unread;
};

static inline void on_cancel(struct http_request *req)
{
	struct world *world = req->user;

	world->cancelled++;
}

static inline void on_drain(struct http_request *req)
{
	struct world *world = req->user;

	world->drained++;
	if (!slice_is(req->path, "/paced"))
		return;
	if (world->drained > PACED_PIECES) {
		http_reply_end(req);
		return;
	}
	assert_int_equal(
		http_reply_piece(req, slice_make(paced_piece, world->drained == 1 ? 1 : PACED_BYTES)), 0);
	http_reply_await_drain(req);
}

static inline void on_timer(uv_timer_t *timer)
{
	struct world *world = timer->data;
	struct http_request *req = world->timed;

	if (slice_is(req->path, "/later")) {
		http_reply(req, 200, NULL, 0, SLICE_LITERAL("later"));
		uv_timer_stop(timer);
		return;
	}
	world->ticks++;
	(void)http_reply_piece(req, SLICE_LITERAL("tick "));
	if (world->ticks < 3)
		return;
	http_reply_end(req);
	uv_timer_stop(timer);
}

static inline void serve_stream(struct world *world, struct http_request *req)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "text/plain")};
	char *piece;

	http_reply_begin(req, 200, headers, 1);
	if (slice_is(req->path, "/stream")) {
		world->ticks = 0;
		world->timed = req;
		uv_timer_start(&world->timer, on_timer, 5, 5);
		return;
	}
	if (slice_is(req->path, "/open"))
		return;
	if (slice_is(req->path, "/piece")) {
		piece = calloc(1, BIG_BYTES);
		world->piece_error = http_reply_piece(req, slice_make(piece, BIG_BYTES));
		free(piece);
		http_reply_end(req);
		return;
	}
	piece = calloc(1, 10000); /* "/flood": until the queue is full */
	for (int i = 0; i < 100000 && !world->piece_error; i++)
		world->piece_error = http_reply_piece(req, slice_make(piece, 10000));
	free(piece);
}

static inline void on_request(struct http_request *req, void *user)
{
	struct world *world = user;
	struct http_header bad[] = {HTTP_HEADER("X-Odd", "a\r\nInjected: yes")};

	world->requests++;
	buf_add_slice(&world->seen, req->method);
	buf_add_char(&world->seen, ' ');
	buf_add_slice(&world->seen, req->path);
	buf_add_char(&world->seen, ' ');
	buf_add_slice(&world->seen, req->query);
	buf_add_char(&world->seen, ' ');
	if (req->body.len < 1000)
		buf_add_slice(&world->seen, req->body);
	buf_add_char(&world->seen, ';');
	req->user = world;
	req->on_cancel = on_cancel;
	req->on_drain = on_drain;
	if (slice_is(req->path, "/later")) {
		world->timed = req;
		uv_timer_start(&world->timer, on_timer, 10, 0);
	} else if (slice_is(req->path, "/hang") || slice_is(req->path, "/watch")) {
		req->cancel_on_eof = slice_is(req->path, "/watch");
		world->held = http_request_ref(req);
	} else if (slice_is(req->path, "/stream") || slice_is(req->path, "/flood") ||
		   slice_is(req->path, "/open") || slice_is(req->path, "/piece")) {
		bool open = slice_is(req->path, "/open");

		if (open)
			world->held = http_request_ref(req);
		serve_stream(world, req);
		if (open)
			http_request_shrink(req);
	} else if (slice_is(req->path, "/paced")) {
		http_reply_begin(req, 200, NULL, 0);
		http_reply_await_drain(req); /* nothing is queued: it comes all the same */
	} else if (slice_is(req->path, "/big") || slice_is(req->path, "/huge")) {
		size_t len = slice_is(req->path, "/big") ? BIG_BYTES : HUGE_BYTES;
		char *body = malloc(len);

		memset(body, 'b', len);
		http_reply_owned(req, 200, NULL, 0, body, len);
	} else if (slice_is(req->path, "/echo")) {
		http_reply(req, req->body_too_large ? 413 : 200, NULL, 0, req->body);
	} else if (slice_is(req->path, "/odd")) {
		http_reply(req, 200, bad, 1, SLICE_LITERAL("odd"));
	} else if (slice_is(req->path, "/nothing")) {
		http_reply(req, 204, NULL, 0, SLICE_LITERAL(""));
	} else if (slice_is(req->path, "/abort")) {
		http_request_abort(req);
	} else if (slice_is(req->path, "/raw")) {
		assert_int_equal(
			http_request_take_over(req, SLICE_LITERAL("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
				&world->taken, &world->unread),
			0);
	} else {
		http_reply(req, 200, NULL, 0, SLICE_LITERAL("hello"));
	}
}

static inline void world_open(struct world *world, struct http_server_options options)
{
	*world = (struct world){0};
	assert_int_equal(uv_loop_init(&world->loop), 0);
	uv_timer_init(&world->loop, &world->timer);
	world->timer.data = world;
	options.on_request = on_request;
	options.user = world;
	world->server = http_server_new(&world->loop, &options);
	assert_int_equal(http_server_listen_tcp(world->server, "127.0.0.1", 0, &world->port, NULL), 0);
	raw_open(&world->raw, &world->loop, world->port);
}

static inline void on_taken_closed(uv_handle_t *handle)
{
	free(handle);
}

static inline void world_close(struct world *world)
{
	raw_close(&world->raw);
	http_server_close(world->server, NULL, NULL);
	uv_close((uv_handle_t *)&world->timer, NULL);
	if (world->taken)
		uv_close((uv_handle_t *)world->taken, on_taken_closed);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	http_request_unref(world->held);
	buf_done(&world->seen);
	buf_done(&world->unread);
}
