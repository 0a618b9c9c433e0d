/* The server against a client that sends raw bytes, over loopback and a Unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "io/http_server.h"
#include "raw_client.h"
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/resource.h>
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

static void on_cancel(struct http_request *req)
{
	struct world *world = req->user;

	world->cancelled++;
}

static void on_drain(struct http_request *req)
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

static void on_timer(uv_timer_t *timer)
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

static void serve_stream(struct world *world, struct http_request *req)
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
	piece = calloc(1, 10000); /* "/flood": until the queue is full */
	for (int i = 0; i < 100000 && !world->piece_error; i++)
		world->piece_error = http_reply_piece(req, slice_make(piece, 10000));
	free(piece);
}

static void on_request(struct http_request *req, void *user)
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
		   slice_is(req->path, "/open")) {
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

static void world_open(struct world *world, struct http_server_options options)
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

static void on_taken_closed(uv_handle_t *handle)
{
	free(handle);
}

static void world_close(struct world *world)
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

static size_t requests_open(struct world *world)
{
	struct http_server_stats stats;

	http_server_get_stats(world->server, &stats);
	return stats.requests_open;
}

static void a_request_gets_its_answer_and_the_connection_stays(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nhello"));
	assert_non_null(strstr(buf_text(&world.raw.in), "HTTP/1.1 200 OK\r\nDate: "));
	assert_non_null(strstr(buf_text(&world.raw.in), "Content-Length: 5\r\n"));
	assert_null(strstr(buf_text(&world.raw.in), "Connection:"));
	buf_clear(&world.raw.in);
	raw_send(&world.raw, "FROB / HTTP/1.1\nHost: h\n\n"); /* bare line feeds, a method of one's own */
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nhello"));
	assert_string_equal(buf_text(&world.seen), "GET /a%20b x=1&y ;FROB /  ;");
	world_close(&world);
}

static void a_request_may_come_byte_by_byte(void **state)
{
	static const char text[] =
		"\r\nPUT /echo HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nContent-Length: 4\r\n\r\nabcd";
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		raw_send_bytes(&world.raw, slice_make(text + i, 1));
		raw_turn(&world.raw);
	}
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nabcd"));
	world_close(&world);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /one HTTP/1.1\r\nHost: h\r\n\r\nGET /later HTTP/1.1\r\nHost: h\r\n\r\n"
			     "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz"
			     "GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /last HTTP/1.1\r\nHost: "
			     "h\r\nConnection: close\r\n\r\n");
	raw_wait_end(&world.raw);
	assert_string_equal(
		buf_text(&world.seen), "GET /one  ;GET /later  ;PUT /echo  xyz;GET /stream  ;GET /last  ;");
	assert_int_equal(raw_count(&world.raw, "HTTP/1.1 200 OK"), 5);
	{
		const char *later = strstr(buf_text(&world.raw.in), "later");
		const char *echo = strstr(buf_text(&world.raw.in), "xyz");
		const char *tick = strstr(
			buf_text(&world.raw.in), "5\r\ntick \r\n5\r\ntick \r\n5\r\ntick \r\n0\r\n\r\n");

		assert_true(later && echo && tick && later < echo && echo < tick);
	}
	assert_non_null(strstr(buf_text(&world.raw.in), "Connection: close\r\n"));
	world_close(&world);
}

static void a_thousand_pipelined_requests_are_all_answered(void **state)
{
	struct world world;
	struct buf many = BUF_INIT(0);

	(void)state;
	world_open(&world, (struct http_server_options){0});
	for (int i = 0; i < 3000; i++)
		buf_add_str(&many, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	buf_add_str(&many, "GET / HTTP/1.0\r\n\r\n");
	raw_send_bytes(&world.raw, buf_slice(&many));
	raw_wait_end(&world.raw);
	assert_int_equal(world.requests, 3001);
	assert_int_equal(raw_count(&world.raw, "\r\n\r\nhello"), 3001);
	buf_done(&many);
	world_close(&world);
}

static void pipelined_large_answers_all_arrive(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /big HTTP/1.1\r\nHost: h\r\n\r\nGET /big HTTP/1.1\r\nHost: h\r\n\r\n"
			     "GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	raw_idle(&world.raw, 30); /* the socket's buffers fill up */
	raw_wait_end(&world.raw);
	assert_int_equal(raw_count(&world.raw, "HTTP/1.1 200 OK"), 3);
	assert_true(
		world.raw.in.len > 3 * (size_t)BIG_BYTES && world.raw.in.len < 3 * (size_t)BIG_BYTES + 1000);
	world_close(&world);
}

/* The answer alone is more than may be unsent when the next request is taken up. */
static void a_request_behind_a_large_late_answer_is_answered(void **state)
{
	static char body[400000];
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n");
	raw_idle(&world.raw, 20);
	assert_int_equal(world.requests, 1);
	memset(body, 'l', sizeof(body));
	http_reply(world.held, 200, NULL, 0, slice_make(body, sizeof(body)));
	assert_non_null(raw_wait(&world.raw, "hello"));
	assert_true(world.raw.in.len > sizeof(body));
	world_close(&world);
}

static void chunked_bodies_are_put_together(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
			     "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n"
			     "GET /after HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nabcdefg"));
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nhello"));
	world_close(&world);
}

static void http_1_0_closes_unless_asked_to_stay(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nhello"));
	assert_non_null(strstr(buf_text(&world.raw.in), "HTTP/1.0 200 OK\r\n"));
	assert_non_null(strstr(buf_text(&world.raw.in), "Connection: keep-alive\r\n"));
	buf_clear(&world.raw.in);
	raw_send(&world.raw, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	raw_wait_end(&world.raw);
	assert_null(strstr(buf_text(&world.raw.in), "chunked"));
	assert_non_null(strstr(buf_text(&world.raw.in), "\r\n\r\ntick tick tick "));
	world_close(&world);
}

static void head_is_answered_without_a_body(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\nHEAD /big HTTP/1.1\r\nHost: h\r\n\r\n"
			     "HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /nothing HTTP/1.0\r\n\r\n");
	raw_wait_end(&world.raw);
	assert_non_null(strstr(buf_text(&world.raw.in), "Content-Length: 5\r\n"));
	assert_non_null(strstr(buf_text(&world.raw.in), "Content-Length: 5000000\r\n"));
	assert_null(strstr(buf_text(&world.raw.in), "hello"));
	assert_null(strstr(buf_text(&world.raw.in), "tick"));
	assert_non_null(strstr(buf_text(&world.raw.in), "HTTP/1.0 204 No Content\r\n"));
	assert_int_equal(raw_count(&world.raw, "\r\n\r\nHTTP/1."), 3);
	world_close(&world);
}

static void continue_is_said_before_the_body_and_other_expectations_fail(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw,
		"PUT /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "HTTP/1.1 100 Continue\r\n\r\n"));
	assert_int_equal(world.requests, 0);
	raw_send(&world.raw, "ok");
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nok"));
	raw_send(&world.raw, "PUT /echo HTTP/1.1\r\nHost: h\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n");
	raw_wait_end(&world.raw);
	assert_non_null(strstr(buf_text(&world.raw.in), "HTTP/1.1 417 Expectation Failed\r\n"));
	assert_int_equal(world.requests, 1);
	world_close(&world);
}

static void header_values_cannot_inject_lines(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /odd HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nodd"));
	assert_non_null(strstr(buf_text(&world.raw.in), "X-Odd: a  Injected: yes\r\n"));
	world_close(&world);
}

static void a_body_above_the_ceiling_is_left_to_the_handler(void **state)
{
	struct buf body = BUF_INIT(0);
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){.max_body_bytes = 1000});
	buf_add_str(&body, "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n");
	buf_add_fill(&body, 'x', 3000000);
	raw_send_bytes(&world.raw, buf_slice(&body));
	raw_wait_end(&world.raw);
	assert_false(world.raw.reset);
	assert_non_null(strstr(buf_text(&world.raw.in), "HTTP/1.1 413 Request Entity Too Large\r\n"));
	assert_non_null(strstr(buf_text(&world.raw.in), "Connection: close\r\n"));
	raw_close(&world.raw);
	raw_open(&world.raw, &world.loop, world.port);
	raw_send(&world.raw, "PUT /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n");
	raw_send_bytes(&world.raw, slice_make(body.data + 1000, 4096));
	assert_non_null(raw_wait(&world.raw, "HTTP/1.1 413 "));
	buf_done(&body);
	world_close(&world);
}

static void a_head_above_the_ceiling_is_refused(void **state)
{
	struct buf head = BUF_INIT(0);
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	buf_add_str(&head, "GET / HTTP/1.1\r\nHost: h\r\nX-Long: ");
	buf_add_fill(&head, 'x', 900 * 1024);
	raw_send_bytes(&world.raw, buf_slice(&head));
	raw_send(&world.raw, "\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nhello"));
	buf_add_fill(&head, 'x', 200 * 1024);
	raw_send_bytes(&world.raw, buf_slice(&head));
	raw_wait_end(&world.raw);
	assert_non_null(strstr(buf_text(&world.raw.in), "HTTP/1.1 431 Request Header Fields Too Large\r\n"));
	assert_int_equal(world.requests, 1);
	buf_done(&head);
	world_close(&world);
}

static void a_request_may_be_answered_after_its_client_has_gone(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /watch HTTP/1.1\r\nHost: h\r\n\r\n");
	while (!world.held)
		raw_turn(&world.raw);
	assert_true(http_request_is_open(world.held));
	raw_close(&world.raw);
	for (int i = 0; i < 1000 && !world.cancelled; i++, usleep(1000))
		raw_turn(&world.raw);
	assert_int_equal(world.cancelled, 1);
	assert_false(http_request_is_open(world.held));
	assert_true(slice_is(world.held->path, "/watch")); /* its texts are still there */
	http_reply(world.held, 200, NULL, 0, SLICE_LITERAL("nobody hears"));
	http_reply_begin(world.held, 200, NULL, 0);
	assert_int_equal(http_reply_piece(world.held, SLICE_LITERAL("x")), -EPIPE);
	http_reply_end(world.held);
	http_request_abort(world.held);
	assert_int_equal(requests_open(&world), 0);
	world_close(&world);
	assert_int_equal(world.cancelled, 1);
}

static void a_client_that_only_closed_its_sending_side_is_still_answered(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\nGET /two HTTP/1.1\r\nHost: h\r\n\r\n");
	shutdown(world.raw.fd, SHUT_WR);
	raw_idle(&world.raw, 30);
	assert_int_equal(world.cancelled, 0);
	http_reply(world.held, 200, NULL, 0, SLICE_LITERAL("after all"));
	raw_wait_end(&world.raw);
	assert_non_null(strstr(buf_text(&world.raw.in), "after all"));
	assert_non_null(strstr(buf_text(&world.raw.in), "hello"));
	world_close(&world);
}

static void a_reset_connection_cancels_its_stream(void **state)
{
	struct linger hard = {.l_onoff = 1};
	struct world world;
	char *piece;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /open HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "chunked\r\n\r\n"));
	assert_int_equal(http_reply_piece(world.held, SLICE_LITERAL("event")), 0);
	assert_non_null(raw_wait(&world.raw, "5\r\nevent\r\n"));
	piece = calloc(1, 300);
	assert_int_equal(http_reply_piece(world.held, slice_make(piece, 300)), 0);
	free(piece);
	assert_non_null(raw_wait(&world.raw, "\r\n12c\r\n"));
	/* What was given back reads as empty. */
	assert_null(http_request_header(world.held, "Host"));
	assert_true(slice_is(world.held->method, "GET") && !world.held->path.len);
	setsockopt(world.raw.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	raw_close(&world.raw);
	for (int i = 0; i < 1000 && !world.cancelled; i++, usleep(1000))
		raw_turn(&world.raw);
	assert_int_equal(world.cancelled, 1);
	assert_int_equal(http_reply_piece(world.held, SLICE_LITERAL("more")), -EPIPE);
	world_close(&world);
}

static void a_shrunk_request_ends_and_the_next_one_is_read(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /open HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "chunked\r\n\r\n"));
	http_reply_end(world.held);
	assert_non_null(raw_wait(&world.raw, "0\r\n\r\n"));
	world.held = http_request_unref(world.held);
	raw_send(&world.raw, "PUT /echo?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
	assert_non_null(raw_wait(&world.raw, "\r\n\r\nbody"));
	assert_string_equal(buf_text(&world.seen), "GET /open  ;PUT /echo a=b body;");
	world_close(&world);
}

static void a_slow_reader_is_cut_off_at_the_queue_ceiling(void **state)
{
	struct http_server_stats stats;
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){.max_queue_bytes = 1000 * 1000});
	raw_send(&world.raw, "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n");
	while (!world.piece_error)
		raw_turn(&world.raw);
	assert_int_equal(world.piece_error, -ENOBUFS);
	raw_wait_end(&world.raw);
	assert_int_equal(world.cancelled, 1);
	http_server_get_stats(world.server, &stats);
	assert_int_equal(stats.slow_readers_total, 1);
	assert_int_equal(stats.connections, 0);
	world_close(&world);
}

static void a_kept_slow_reader_is_told_when_there_is_room_again(void **state)
{
	struct world world;

	(void)state;
	world_open(&world,
		(struct http_server_options){.max_queue_bytes = 8 * 1000 * 1000, .keep_slow_readers = true});
	raw_send(&world.raw, "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n");
	while (!world.piece_error)
		raw_turn(&world.raw);
	raw_idle(&world.raw, 20);
	assert_int_equal(world.drained, 0);
	for (int i = 0; i < 100000 && !world.drained; i++) {
		raw_turn(&world.raw);
		raw_receive(&world.raw);
	}
	assert_int_equal(world.drained, 1);
	assert_int_equal(world.cancelled, 0);
	world_close(&world);
}

static void an_answer_that_paces_itself_arrives_whole(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /paced HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "\r\n0\r\n\r\n"));
	assert_in_range(world.raw.in.len, (PACED_PIECES - 1) * PACED_BYTES, PACED_PIECES * PACED_BYTES);
	assert_int_equal(world.drained, PACED_PIECES + 1);
	assert_int_equal(world.cancelled, 0);
	world_close(&world);
}

static void silent_clients_are_timed_out(void **state)
{
	static const char *const starts[] = {"", "GET / HTTP/1.1\r\nHo", "GE",
		"PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"};
	struct http_server_stats stats;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
		struct world world;

		world_open(
			&world, (struct http_server_options){
					.head_timeout_ms = 80, .body_timeout_ms = 80, .idle_timeout_ms = 80});
		raw_send(&world.raw, starts[i]);
		raw_wait_end(&world.raw);
		http_server_get_stats(world.server, &stats);
		assert_int_equal(stats.timeouts_total, 1);
		assert_int_equal(world.requests, 0);
		world_close(&world);
	}
}

static void a_slow_head_is_timed_out_although_bytes_keep_coming(void **state)
{
	struct world world;
	int64_t begin = time_mono_ms();

	(void)state;
	world_open(&world, (struct http_server_options){.head_timeout_ms = 150});
	raw_send(&world.raw, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
	while (!world.raw.end && time_mono_ms() - begin < 5000) {
		raw_send(&world.raw, "x");
		raw_idle(&world.raw, 10);
		raw_receive(&world.raw);
	}
	assert_true(world.raw.end && time_mono_ms() - begin < 2000);
	world_close(&world);
}

static void a_client_that_does_not_read_its_answer_is_timed_out(void **state)
{
	struct http_server_stats stats = {0};
	struct world world;
	int64_t begin = time_mono_ms();

	(void)state;
	world_open(&world, (struct http_server_options){.write_timeout_ms = 100});
	raw_send(&world.raw, "GET /big HTTP/1.1\r\nHost: h\r\n\r\nGET /big HTTP/1.1\r\nHost: h\r\n\r\n");
	while (!stats.timeouts_total && time_mono_ms() - begin < 5000) {
		raw_idle(&world.raw, 10);
		http_server_get_stats(world.server, &stats);
	}
	assert_int_equal(stats.timeouts_total, 1);
	world_close(&world);
}

static void a_pending_request_is_not_timed_out(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){
				   .head_timeout_ms = 50, .body_timeout_ms = 50, .idle_timeout_ms = 50});
	raw_send(&world.raw, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n");
	raw_idle(&world.raw, 250);
	assert_true(http_request_is_open(world.held));
	http_reply(world.held, 200, NULL, 0, SLICE_LITERAL("patience"));
	assert_non_null(raw_wait(&world.raw, "patience"));
	world_close(&world);
}

static void a_connection_can_be_taken_over(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw,
		"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /raw HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
		"Upgrade: frames\r\n\r\nfirst bytes");
	assert_non_null(raw_wait(&world.raw, "HTTP/1.1 101 Switching Protocols\r\n\r\n"));
	assert_non_null(strstr(buf_text(&world.raw.in), "hello"));
	assert_non_null(world.taken);
	assert_string_equal(buf_text(&world.unread), "first bytes");
	assert_int_equal(requests_open(&world), 0);
	world_close(&world);
}

static void clients_beyond_the_limit_wait_for_a_place(void **state)
{
	struct http_server_stats stats;
	struct world world;
	struct raw second;

	(void)state;
	world_open(&world, (struct http_server_options){.max_connections = 1});
	raw_idle(&world.raw, 5);
	raw_open(&second, &world.loop, world.port);
	raw_send(&second, "GET /second HTTP/1.1\r\nHost: h\r\n\r\n");
	raw_idle(&second, 30);
	assert_int_equal(world.requests, 0);
	http_server_get_stats(world.server, &stats);
	assert_int_equal(stats.connections, 1);
	raw_close(&world.raw);
	assert_non_null(raw_wait(&second, "hello"));
	raw_close(&second);
	world_close(&world);
}

static void idle_clients_make_room_for_new_ones(void **state)
{
	static const char *const starts[] = {
		"", "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"};
	struct http_server_stats stats;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
		struct world world;
		struct raw second;

		int64_t begin = time_mono_ms();

		/* Half a timeout of waiting is enough to lose one's place, no more than 1 s. */
		world_open(&world, (struct http_server_options){.max_connections = 1,
					   .head_timeout_ms = 60000,
					   .body_timeout_ms = 60000,
					   .idle_timeout_ms = 60000});
		raw_send(&world.raw, starts[i]);
		raw_idle(&world.raw, 300);
		raw_open(&second, &world.loop, world.port);
		raw_send(&second, "GET /second HTTP/1.1\r\nHost: h\r\n\r\n");
		raw_idle(&second, 100);
		if (time_mono_ms() < begin + 900) /* else this machine is too busy to tell */
			assert_int_equal(world.requests, 0);
		raw_close(&second);
		raw_idle(&world.raw, 1200);
		raw_open(&second, &world.loop, world.port);
		raw_send(&second, "GET /second HTTP/1.1\r\nHost: h\r\n\r\n");
		assert_non_null(raw_wait(&second, "hello"));
		http_server_get_stats(world.server, &stats);
		assert_true(stats.evicted_total > 0);
		raw_close(&second);
		world_close(&world);
	}
}

static void a_client_that_is_being_served_keeps_its_place(void **state)
{
	struct world world;
	struct raw second;

	(void)state;
	world_open(&world, (struct http_server_options){.max_connections = 1});
	raw_send(&world.raw, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n");
	raw_idle(&world.raw, 1200);
	raw_open(&second, &world.loop, world.port);
	raw_send(&second, "GET /second HTTP/1.1\r\nHost: h\r\n\r\n");
	raw_idle(&second, 100);
	assert_true(http_request_is_open(world.held));
	http_reply(world.held, 200, NULL, 0, SLICE_LITERAL("patience"));
	assert_non_null(raw_wait(&world.raw, "patience"));
	raw_close(&world.raw);
	assert_non_null(raw_wait(&second, "hello"));
	raw_close(&second);
	world_close(&world);
}

struct limit_told {
	enum http_limit limit;
	unsigned int times;
} limit_told;

static void on_limit(enum http_limit limit, const char *text, void *user)
{
	(void)user;
	assert_non_null(strstr(text, limit == HTTP_LIMIT_MEMORY ? "memory" : "RLIMIT_NOFILE"));
	limit_told.limit = limit;
	limit_told.times++;
}

/* Three clients are in the middle of bodies when all together may hold 1 MB: the one that has been silent for
 * the longest goes, and the others are served. */
static void bodies_that_are_too_much_together_cost_the_slowest_its_place(void **state)
{
	static const char head[] = "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\n";
	struct http_server_stats stats;
	struct world world;
	struct raw second, third, *clients[] = {&world.raw, &second, &third};
	char *body = calloc(1, 400000);

	(void)state;
	limit_told = (struct limit_told){0};
	world_open(&world, (struct http_server_options){.max_held_bytes = 1000 * 1000, .on_limit = on_limit});
	raw_open(&second, &world.loop, world.port);
	raw_open(&third, &world.loop, world.port);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		raw_send(clients[i], head);
		raw_send_bytes(clients[i], slice_make(body, 300000));
		raw_idle(clients[i], 20);
	}
	raw_send_bytes(&world.raw, slice_make(body, 50000)); /* now it is the second that stood still */
	raw_idle(&world.raw, 20);
	assert_int_equal(limit_told.times, 0);
	raw_send_bytes(&third, slice_make(body, 99999));
	raw_wait_end(&second);
	assert_int_equal(limit_told.times, 1);
	assert_int_equal(limit_told.limit, HTTP_LIMIT_MEMORY);
	raw_send_bytes(&third, slice_make(body, 1));
	assert_non_null(raw_wait(&third, "HTTP/1.1 200 OK"));
	raw_send_bytes(&world.raw, slice_make(body, 50000));
	assert_non_null(raw_wait(&world.raw, "HTTP/1.1 200 OK"));
	http_server_get_stats(world.server, &stats);
	assert_int_equal(stats.cut_off_total, 1);
	free(body);
	raw_close(&second);
	raw_close(&third);
	world_close(&world);
}

/* The limit goes down to what is open: a newcomer finds its connection closed, the one that is there is
 * served, and it is told once. */
static void running_out_of_files_is_told(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int newcomer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), probe;
	struct rlimit before, none;
	struct world world;

	(void)state;
	limit_told = (struct limit_told){0};
	world_open(&world, (struct http_server_options){.on_limit = on_limit, .head_timeout_ms = 200});
	raw_send(&world.raw, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "HTTP/1.1 200 OK"));
	assert_int_equal(limit_told.times, 0);
	probe = dup(newcomer);
	(void)close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){.rlim_cur = (rlim_t)probe, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	address.sin_port = htons(world.port);
	assert_int_equal(connect(newcomer, (struct sockaddr *)&address, sizeof(address)), 0);
	for (int i = 0; i < 100 && !limit_told.times; i++)
		raw_idle(&world.raw, 50);
	assert_int_equal(recv(newcomer, (char[1]){0}, 1, 0), 0);
	raw_idle(&world.raw, 500);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(limit_told.times, 1);
	assert_int_equal(limit_told.limit, HTTP_LIMIT_FILES);
	raw_send(&world.raw, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "HTTP/1.1 200 OK"));
	(void)close(newcomer);
	world_close(&world);
}

static void answers_that_are_too_much_together_cost_the_slowest_reader_its_place(void **state)
{
	static const char get[] = "GET /huge HTTP/1.1\r\nHost: h\r\n\r\n";
	struct http_server_stats stats;
	struct world world;
	struct raw second;

	(void)state;
	limit_told = (struct limit_told){0};
	world_open(&world, (struct http_server_options){
				   .max_held_bytes = HUGE_BYTES + BIG_BYTES / 2, .on_limit = on_limit});
	raw_open(&second, &world.loop, world.port);
	raw_send(&world.raw, get);
	raw_idle(&world.raw, 20);
	raw_send(&second, get);
	raw_idle(&second, 20);
	http_server_get_stats(world.server, &stats);
	assert_int_equal(stats.cut_off_total, 1);
	assert_int_equal(stats.connections, 1);
	assert_int_equal(limit_told.times, 1);
	while (second.in.len < HUGE_BYTES && !second.end)
		raw_receive(&second), raw_turn(&second);
	assert_true(second.in.len > HUGE_BYTES);
	raw_close(&second);
	world_close(&world);
}

static void an_aborted_request_closes_without_an_answer(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /abort HTTP/1.1\r\nHost: h\r\n\r\n");
	raw_wait_end(&world.raw);
	assert_int_equal(world.raw.in.len, 0);
	assert_int_equal(world.cancelled, 0);
	world_close(&world);
}

static void draining_finishes_what_was_begun(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n");
	while (!world.held)
		raw_turn(&world.raw);
	http_server_drain(world.server);
	raw_idle(&world.raw, 10);
	http_reply(world.held, 200, NULL, 0, SLICE_LITERAL("done"));
	raw_wait_end(&world.raw);
	assert_non_null(strstr(buf_text(&world.raw.in), "Connection: close\r\n"));
	assert_non_null(strstr(buf_text(&world.raw.in), "done"));
	world_close(&world);
}

static void closing_the_server_cancels_what_is_pending(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n");
	while (!world.held)
		raw_turn(&world.raw);
	world_close(&world);
	assert_int_equal(world.cancelled, 1);
}

static void a_unix_socket_serves_and_is_removed_at_the_end(void **state)
{
	char dir[] = "/tmp/flotilla-test-XXXXXX", path[64];
	struct buf why = BUF_INIT(0);
	struct world world;
	struct raw raw;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	world_open(&world, (struct http_server_options){0});
	assert_int_equal(http_server_listen_unix(world.server, path, 0600, &why), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(http_server_listen_unix(world.server, path, 0600, &why), -EADDRINUSE);
	assert_non_null(strstr(buf_text(&why), ": bind: address already in use"));
	raw_open_unix(&raw, &world.loop, path);
	raw_send(&raw, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&raw, "hello"));
	raw_close(&raw);
	world_close(&world);
	assert_int_equal(access(path, F_OK), -1);
	rmdir(dir);
	buf_done(&why);
}

static void a_stale_unix_socket_is_replaced(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char dir[] = "/tmp/flotilla-test-XXXXXX";
	struct world world;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	world_open(&world, (struct http_server_options){0});
	assert_int_equal(http_server_listen_unix(world.server, address.sun_path, 0660, NULL), 0);
	world_close(&world);
	rmdir(dir);
}

static void a_port_in_use_is_told_in_words(void **state)
{
	struct buf why = BUF_INIT(0), want = BUF_INIT(0);
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	assert_int_equal(
		http_server_listen_tcp(world.server, "127.0.0.1", world.port, NULL, &why), -EADDRINUSE);
	buf_printf(&want, "listen tcp 127.0.0.1:%u: bind: address already in use", world.port);
	assert_string_equal(buf_text(&why), buf_text(&want));
	buf_done(&why);
	buf_done(&want);
	world_close(&world);
}

static void a_name_is_listened_on_at_its_addresses(void **state)
{
	struct buf why = BUF_INIT(0);
	struct world world;
	struct raw raw;
	uint16_t port;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	assert_int_equal(http_server_listen_tcp(world.server, "localhost", 0, &port, &why), 0);
	assert_string_equal(buf_text(&why), "");
	raw_open(&raw, &world.loop, port);
	raw_send(&raw, "GET / HTTP/1.0\r\n\r\n");
	assert_non_null(raw_wait(&raw, "hello"));
	raw_close(&raw);
	assert_int_equal(http_server_listen_tcp(world.server, "", 0, &port, NULL), 0);
	raw_open(&raw, &world.loop, port);
	raw_send(&raw, "GET / HTTP/1.0\r\n\r\n");
	assert_non_null(raw_wait(&raw, "hello"));
	raw_close(&raw);
	assert_int_equal(
		http_server_listen_tcp(world.server, "no.such.name.invalid", 0, &port, &why), -ENOENT);
	assert_non_null(strstr(buf_text(&why), "listen tcp: lookup no.such.name.invalid: "));
	/* An address of somebody else (TEST-NET-1). */
	buf_clear(&why);
	assert_int_equal(
		http_server_listen_tcp(world.server, "192.0.2.1", 4001, &port, &why), -EADDRNOTAVAIL);
	assert_string_equal(
		buf_text(&why), "listen tcp 192.0.2.1:4001: bind: cannot assign requested address");
	buf_done(&why);
	world_close(&world);
}

static void malformed_requests_are_refused(void **state)
{
	static const struct {
		const char *bytes, *answer;
	} cases[] = {
		{"GET / HTTP/1.1\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
			"Connection: close\r\n\r\n400 Bad Request: missing required Host header"},
		{"GET /\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET  HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"G@T / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
			"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: text/plain; "
			"charset=utf-8\r\n"
			"Connection: close\r\n\r\n505 HTTP Version Not Supported: unsupported protocol "
			"version"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
		{"GET / HTTX/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
			"Connection: close\r\n\r\n400 Bad Request: too many Host headers"},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET / HTTP/1.1\r\nHost: h\r\nbad header: x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: a\x01z\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET /%2 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"GET nonsense HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
		{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\n"},
		{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\n"},
		{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\n"},
		{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
			"HTTP/1.1 501 Not Implemented\r\n"},
		{"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
			"HTTP/1.1 400 Bad Request\r\n"},
		{"\x16\x03\x01\x02\x01\x01\xfc\x03\x03",
			"HTTP/1.1 400 Bad Request\r\n"}, /* the start of TLS */
		{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "HTTP/1.1 400 Bad Request\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct http_server_stats stats;
		struct world world;

		world_open(&world, (struct http_server_options){0});
		raw_send(&world.raw, cases[i].bytes);
		raw_wait(&world.raw, "\r\n\r\n");
		if (strstr(cases[i].answer, "\r\n\r\n"))
			raw_wait(&world.raw, cases[i].answer);
		if (strncmp(buf_text(&world.raw.in), cases[i].answer, strlen(cases[i].answer)) != 0)
			fail_msg("case %zu: got \"%s\"", i, buf_text(&world.raw.in));
		http_server_get_stats(world.server, &stats);
		assert_int_equal(stats.malformed_total, 1);
		assert_int_equal(world.requests, 0);
		shutdown(world.raw.fd, SHUT_WR);
		raw_wait_end(&world.raw);
		world_close(&world);
	}
}

static void odd_but_valid_requests_are_taken(void **state)
{
	static const struct {
		const char *bytes, *seen;
	} cases[] = {
		{"GET http://other:80/p?q=1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET /p q=1 ;"},
		{"GET http://other HTTP/1.1\r\nHost: h\r\n\r\n", "GET /  ;"},
		{"GET http://other?x=1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET / x=1 ;"},
		{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS *  ;"},
		{"GET //a/./b/../c HTTP/1.1\r\nHost: h\r\n\r\n", "GET //a/./b/../c  ;"},
		{"GET /?a?b?c HTTP/1.1\r\nHost: h\r\n\r\n", "GET / a?b?c ;"},
		{"get / HTTP/1.1\r\nhost: h\r\n\r\n", "get /  ;"},
		{"DELETE /k HTTP/1.1\r\nHost:h\r\nX-Empty:\r\nX-Tab:\tv\t\r\n\r\n", "DELETE /k  ;"},
		{"GET / HTTP/1.0\r\n\r\n", "GET /  ;"},
		{"PUT /k HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n", "PUT /k  ;"},
		{"GET /u HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
			"GET /u  ;"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct world world;

		world_open(&world, (struct http_server_options){0});
		raw_send(&world.raw, cases[i].bytes);
		raw_wait(&world.raw, "\r\n\r\n");
		if (strcmp(buf_text(&world.seen), cases[i].seen) != 0)
			fail_msg("case %zu: saw \"%s\", answered \"%s\"", i, buf_text(&world.seen),
				buf_text(&world.raw.in));
		assert_non_null(strstr(buf_text(&world.raw.in), " 200 OK\r\n"));
		world_close(&world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_gets_its_answer_and_the_connection_stays),
		cmocka_unit_test(a_request_may_come_byte_by_byte),
		cmocka_unit_test(pipelined_requests_are_answered_in_order),
		cmocka_unit_test(a_thousand_pipelined_requests_are_all_answered),
		cmocka_unit_test(pipelined_large_answers_all_arrive),
		cmocka_unit_test(a_request_behind_a_large_late_answer_is_answered),
		cmocka_unit_test(chunked_bodies_are_put_together),
		cmocka_unit_test(http_1_0_closes_unless_asked_to_stay),
		cmocka_unit_test(head_is_answered_without_a_body),
		cmocka_unit_test(continue_is_said_before_the_body_and_other_expectations_fail),
		cmocka_unit_test(header_values_cannot_inject_lines),
		cmocka_unit_test(a_body_above_the_ceiling_is_left_to_the_handler),
		cmocka_unit_test(a_head_above_the_ceiling_is_refused),
		cmocka_unit_test(a_request_may_be_answered_after_its_client_has_gone),
		cmocka_unit_test(a_client_that_only_closed_its_sending_side_is_still_answered),
		cmocka_unit_test(a_reset_connection_cancels_its_stream),
		cmocka_unit_test(a_shrunk_request_ends_and_the_next_one_is_read),
		cmocka_unit_test(a_slow_reader_is_cut_off_at_the_queue_ceiling),
		cmocka_unit_test(a_kept_slow_reader_is_told_when_there_is_room_again),
		cmocka_unit_test(an_answer_that_paces_itself_arrives_whole),
		cmocka_unit_test(silent_clients_are_timed_out),
		cmocka_unit_test(a_slow_head_is_timed_out_although_bytes_keep_coming),
		cmocka_unit_test(a_client_that_does_not_read_its_answer_is_timed_out),
		cmocka_unit_test(a_pending_request_is_not_timed_out),
		cmocka_unit_test(a_connection_can_be_taken_over),
		cmocka_unit_test(clients_beyond_the_limit_wait_for_a_place),
		cmocka_unit_test(idle_clients_make_room_for_new_ones),
		cmocka_unit_test(a_client_that_is_being_served_keeps_its_place),
		cmocka_unit_test(bodies_that_are_too_much_together_cost_the_slowest_its_place),
		cmocka_unit_test(running_out_of_files_is_told),
		cmocka_unit_test(answers_that_are_too_much_together_cost_the_slowest_reader_its_place),
		cmocka_unit_test(an_aborted_request_closes_without_an_answer),
		cmocka_unit_test(draining_finishes_what_was_begun),
		cmocka_unit_test(closing_the_server_cancels_what_is_pending),
		cmocka_unit_test(a_unix_socket_serves_and_is_removed_at_the_end),
		cmocka_unit_test(a_stale_unix_socket_is_replaced),
		cmocka_unit_test(a_port_in_use_is_told_in_words),
		cmocka_unit_test(a_name_is_listened_on_at_its_addresses),
		cmocka_unit_test(malformed_requests_are_refused),
		cmocka_unit_test(odd_but_valid_requests_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
