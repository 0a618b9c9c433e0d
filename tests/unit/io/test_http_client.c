/* The client against the room's own server, and against scripted peers that answer badly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/memory.h"
#include "base/time.h"
#include "io/http_client.h"
#include "io/http_server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct world {
	uv_loop_t loop;
	struct http_server *server;
	struct http_client *client;
	uint16_t port;
	char url[64];
	struct http_request *held;
	unsigned int cancelled;
	/* what the calls told */
	unsigned int done, heads;
	int error, status;
	struct buf text, body;
	uv_stream_t *upgraded;
	bool cancel_in_body;
	unsigned int take_ms; /* so long the client takes for a piece */
	struct buf order;
};

static void on_cancel(struct http_request *req)
{
	struct world *world = req->user;

	world->cancelled++;
}

static void on_request(struct http_request *req, void *user)
{
	struct world *world = user;
	struct http_header headers[] = {
		HTTP_HEADER("X-One", "1 "), HTTP_HEADER("Content-Type", "text/plain")};
	const struct slice *host = http_request_header(req, "HOST");

	req->user = world;
	req->on_cancel = on_cancel;
	if (slice_is(req->path, "/hang")) {
		req->cancel_on_eof = true;
		http_request_unref(world->held);
		world->held = http_request_ref(req);
	} else if (slice_is(req->path, "/stream")) {
		req->cancel_on_eof = true;
		http_request_unref(world->held);
		world->held = http_request_ref(req);
		http_reply_begin(req, 200, headers, ARRAY_LEN(headers));
		(void)http_reply_piece(req, SLICE_LITERAL("first "));
	} else if (slice_is(req->path, "/echo")) {
		http_reply(req, 201, headers, ARRAY_LEN(headers), req->body);
	} else if (slice_is(req->path, "/host")) {
		http_reply(req, 200, NULL, 0, *host);
	} else if (slice_is(req->path, "/up")) {
		_cleanup_buf_ struct buf unread = BUF_INIT(0);

		assert_int_equal(
			http_request_take_over(req,
				SLICE_LITERAL("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
					      "Upgrade: x\r\n\r\nearly"),
				&world->upgraded, &unread),
			0);
	} else if (slice_is(req->path, "/close")) {
		http_request_abort(req);
	} else {
		http_reply(req, 200, headers, ARRAY_LEN(headers), req->target);
	}
}

static void world_open(struct world *world)
{
	struct http_server_options options = {.on_request = on_request, .user = world};

	*world = (struct world){0};
	uv_loop_init(&world->loop);
	world->server = http_server_new(&world->loop, &options);
	assert_int_equal(http_server_listen_tcp(world->server, "127.0.0.1", 0, &world->port, NULL), 0);
	world->client = http_client_new(&world->loop, NULL);
	snprintf(world->url, sizeof(world->url), "http://127.0.0.1:%u", world->port);
}

static void on_freed(uv_handle_t *handle)
{
	free(handle);
}

static void world_close(struct world *world)
{
	http_client_close(world->client, NULL, NULL);
	http_server_close(world->server, NULL, NULL);
	if (world->upgraded)
		uv_close((uv_handle_t *)world->upgraded, on_freed);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	http_request_unref(world->held);
	buf_done(&world->text);
	buf_done(&world->body);
	buf_done(&world->order);
}

static void on_done(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct world *world = user;

	(void)call;
	world->done++;
	world->error = error;
	world->status = response ? response->status : 0;
	buf_clear(&world->text);
	buf_add_str(&world->text, text);
	if (response && response->body.len) {
		buf_clear(&world->body);
		buf_add_slice(&world->body, response->body);
	}
}

static void run_until_done(struct world *world, unsigned int count)
{
	int64_t until = time_mono_ms() + 10000;

	while (world->done < count) {
		assert_true(time_mono_ms() < until);
		(void)uv_run(&world->loop, UV_RUN_NOWAIT);
		usleep(100);
	}
}

static uint64_t connections_total(struct world *world)
{
	struct http_server_stats stats;

	http_server_get_stats(world->server, &stats);
	return stats.connections_total;
}

static void a_body_goes_there_and_back_and_the_connection_is_reused(void **state)
{
	char *url;
	struct world world;
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "text/plain")};

	(void)state;
	world_open(&world);
	url = mem_printf("%s/echo", world.url);
	for (unsigned int i = 1; i <= 5; i++) {
		struct http_call_options options = {.method = "PUT",
			.url = url,
			.headers = headers,
			.header_count = 1,
			.body = SLICE_LITERAL("some text"),
			.on_done = on_done,
			.user = &world};

		(void)http_client_send(world.client, &options);
		assert_int_equal(world.done, i - 1); /* never from inside */
		run_until_done(&world, i);
		assert_int_equal(world.error, 0);
		assert_int_equal(world.status, 201);
		assert_string_equal(buf_text(&world.body), "some text");
	}
	assert_int_equal(connections_total(&world), 1);
	free(url);
	world_close(&world);
}

static void fetch(
	struct world *world, const char *path, struct http_call_options options, struct http_result *result)
{
	char *url = mem_printf("%s%s", world->url, path);

	options.url = url;
	(void)http_client_fetch(world->client, &options, result);
	free(url);
}

static void the_blocking_form_answers_with_headers_and_body(void **state)
{
	struct http_result result;
	struct world world;

	(void)state;
	world_open(&world);
	fetch(&world, "/a/b?c=%20d", (struct http_call_options){0}, &result);
	assert_int_equal(result.error, 0);
	assert_int_equal(result.response.status, 200);
	assert_true(slice_is(result.response.reason, "OK"));
	assert_true(slice_is(*http_response_header(&result.response, "x-ONE"), "1"));
	assert_null(http_response_header(&result.response, "x-two"));
	assert_true(slice_is(result.response.body, "/a/b?c=%20d"));
	http_result_done(&result);
	fetch(&world, "/x", (struct http_call_options){.method = "HEAD"}, &result);
	assert_int_equal(result.error, 0);
	assert_true(slice_is(*http_response_header(&result.response, "Content-Length"), "2"));
	assert_int_equal(result.response.body.len, 0);
	http_result_done(&result);
	fetch(&world, "", (struct http_call_options){0}, &result);
	assert_true(slice_is(result.response.body, "/"));
	http_result_done(&result);
	fetch(&world, "/host", (struct http_call_options){.no_reuse = true}, &result);
	assert_int_equal(result.response.body.len, strlen(world.url) - strlen("http://"));
	http_result_done(&result);
	world_close(&world);
}

static void a_stopped_server_is_told_in_go_words(void **state)
{
	struct buf want = BUF_INIT(0);
	struct http_result result;
	struct world world;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);

	(void)state;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(
		bind(fd, (struct sockaddr *)&address, sizeof(address)), 0); /* bound, but not listening */
	getsockname(fd, (struct sockaddr *)&address, &len);
	world_open(&world);
	snprintf(world.url, sizeof(world.url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	fetch(&world, "/", (struct http_call_options){0}, &result);
	assert_int_equal(result.error, -ECONNREFUSED);
	buf_printf(&want, "dial tcp 127.0.0.1:%u: connect: connection refused", ntohs(address.sin_port));
	assert_string_equal(result.text, buf_text(&want));
	assert_int_equal(result.response.status, 0);
	http_result_done(&result);
	/* The same by name: the first address counts. */
	snprintf(world.url, sizeof(world.url), "http://localhost:%u", ntohs(address.sin_port));
	fetch(&world, "/", (struct http_call_options){0}, &result);
	assert_int_equal(result.error, -ECONNREFUSED);
	http_result_done(&result);
	close(fd);
	buf_done(&want);
	world_close(&world);
}

static void bad_calls_fail_with_a_reason(void **state)
{
	static const struct {
		struct http_call_options options;
		int error;
		const char *text;
	} cases[] = {
		{{.url = "https://127.0.0.1:1/"}, -ECONNREFUSED,
			"dial tcp 127.0.0.1:1: connect: connection refused"},
		{{.url = "ftp://h/"}, -EINVAL, "parse \"ftp://h/\": unsupported protocol scheme \"ftp\""},
		{{.url = "http:///x"}, -EINVAL, "http: no Host in request URL"},
		{{.url = "http://127.0.0.1:1/a b"}, -EINVAL,
			"invalid character in the request's method or target"},
		{{.url = "http://127.0.0.1:1/", .method = "A B"}, -EINVAL,
			"invalid character in the request's method or target"},
		{{.url = "http://127.0.0.1:1/", .target = "/x\r\ny"}, -EINVAL,
			"invalid character in the request's method or target"},
		{{.url = "unix:///nonexistent/socket"}, -ENOENT,
			"dial unix /nonexistent/socket: connect: no such file or directory"},
		{{.url = "http://name.invalid:1/"}, -ENOENT, "dial tcp: lookup name.invalid: no such host"},
	};
	struct http_header bad[] = {HTTP_HEADER("X", "a\nb")};
	struct http_result result;
	struct world world;

	(void)state;
	world_open(&world);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		(void)http_client_fetch(world.client, &cases[i].options, &result);
		/* Without a resolver a look-up fails with another reason. */
		if (strcmp(result.text, cases[i].text) != 0 &&
			!strstr(result.text, "lookup name.invalid: temporary"))
			fail_msg("case %zu: \"%s\"", i, result.text);
		assert_int_equal(result.error, cases[i].error);
		http_result_done(&result);
	}
	fetch(&world, "/", (struct http_call_options){.headers = bad, .header_count = 1}, &result);
	assert_string_equal(result.text, "net/http: invalid header field");
	http_result_done(&result);
	world_close(&world);
}

static void time_outs_are_told_and_the_server_sees_the_close(void **state)
{
	struct http_result result;
	struct world world;

	(void)state;
	world_open(&world);
	fetch(&world, "/hang", (struct http_call_options){.header_timeout_ms = 60}, &result);
	assert_int_equal(result.error, -ETIMEDOUT);
	assert_string_equal(result.text, "net/http: timeout awaiting response headers");
	http_result_done(&result);
	while (!world.cancelled)
		uv_run(&world.loop, UV_RUN_NOWAIT);
	world.held = http_request_unref(world.held);
	fetch(&world, "/hang", (struct http_call_options){.total_timeout_ms = 60}, &result);
	assert_string_equal(
		result.text, "net/http: request canceled (Client.Timeout exceeded while awaiting headers)");
	http_result_done(&result);
	world.held = http_request_unref(world.held);
	fetch(&world, "/stream", (struct http_call_options){.total_timeout_ms = 60, .header_timeout_ms = 30},
		&result);
	assert_string_equal(
		result.text, "net/http: request canceled (Client.Timeout exceeded while reading body)");
	assert_int_equal(result.response.status, 200);
	http_result_done(&result);
	world_close(&world);
}

static void on_head(struct http_call *call, const struct http_response *response, void *user)
{
	struct world *world = user;

	(void)call;
	world->heads++;
	world->status = response->status;
}

static void on_body(struct http_call *call, struct slice piece, void *user)
{
	struct world *world = user;

	buf_add_slice(&world->body, piece);
	usleep(world->take_ms * 1000);
	if (world->cancel_in_body)
		http_call_cancel(call);
}

static void a_stream_is_delivered_as_it_comes(void **state)
{
	struct world world;
	char *url;

	(void)state;
	world_open(&world);
	url = mem_printf("%s/stream", world.url);
	(void)http_client_send(world.client, &(struct http_call_options){.url = url,
						     .on_head = on_head,
						     .on_body = on_body,
						     .on_done = on_done,
						     .user = &world});
	while (world.body.len < 6)
		uv_run(&world.loop, UV_RUN_NOWAIT);
	assert_int_equal(world.heads, 1);
	assert_int_equal(world.done, 0);
	(void)http_reply_piece(world.held, SLICE_LITERAL("second"));
	http_reply_end(world.held);
	run_until_done(&world, 1);
	assert_int_equal(world.error, 0);
	assert_string_equal(buf_text(&world.body), "first second");
	free(url);
	world_close(&world);
}

static void run_for_ms(struct world *world, int64_t ms)
{
	for (int64_t until = time_mono_ms() + ms; time_mono_ms() < until; usleep(500))
		(void)uv_run(&world->loop, UV_RUN_NOWAIT);
}

/* SILENCE_MS is far above what a busy machine holds a loop up for, since pieces within it must be in time. */
static void a_body_may_take_long_but_not_be_silent(void **state)
{
	enum { SILENCE_MS = 400 };
	struct http_call *call;
	struct world world;
	char *url;

	(void)state;
	world_open(&world);
	url = mem_printf("%s/stream", world.url);
	call = http_client_send(world.client, &(struct http_call_options){.url = url,
						      .body_timeout_ms = SILENCE_MS,
						      .on_body = on_body,
						      .on_done = on_done,
						      .user = &world});
	while (world.body.len < 6)
		uv_run(&world.loop, UV_RUN_NOWAIT);
	/* Piece by piece, for longer than the time out, though no piece is. */
	for (int i = 0; i < 6; i++) {
		(void)http_reply_piece(world.held, SLICE_LITERAL("more "));
		run_for_ms(&world, SILENCE_MS / 4);
	}
	/* The client's own slowness, and a pause of its own, are no silence. */
	world.take_ms = SILENCE_MS + 50;
	(void)http_reply_piece(world.held, SLICE_LITERAL("slow "));
	run_for_ms(&world, SILENCE_MS + 150);
	world.take_ms = 0;
	http_call_pause(call);
	run_for_ms(&world, SILENCE_MS + 50);
	assert_int_equal(world.done, 0);
	http_call_resume(call);
	(void)http_reply_piece(world.held, SLICE_LITERAL("last"));
	run_until_done(&world, 1);
	assert_int_equal(world.error, -ETIMEDOUT);
	assert_int_equal(world.status, 200);
	assert_string_equal(
		buf_text(&world.text), "the answer stopped in its middle: nothing came for 400 ms");
	assert_string_equal(buf_text(&world.body), "first more more more more more more slow last");
	while (!world.cancelled)
		uv_run(&world.loop, UV_RUN_NOWAIT);
	free(url);
	world_close(&world);
}

static void a_call_can_be_cancelled_at_any_time(void **state)
{
	struct http_call *call;
	struct world world;
	char *url;

	(void)state;
	world_open(&world);
	url = mem_printf("%s/stream", world.url);
	call = http_client_send(
		world.client, &(struct http_call_options){.url = url, .on_done = on_done, .user = &world});
	http_call_cancel(call); /* before anything happened */
	call = http_client_send(
		world.client, &(struct http_call_options){.url = url, .on_done = on_done, .user = &world});
	uv_run(&world.loop, UV_RUN_NOWAIT); /* while it connects */
	http_call_cancel(call);
	world.cancel_in_body = true;
	(void)http_client_send(
		world.client, &(struct http_call_options){
				      .url = url, .on_body = on_body, .on_done = on_done, .user = &world});
	while (!world.body.len || !world.cancelled)
		uv_run(&world.loop, UV_RUN_NOWAIT);
	assert_string_equal(buf_text(&world.body), "first ");
	assert_int_equal(world.done, 0);
	free(url);
	world_close(&world);
	assert_int_equal(world.done, 0);
}

static void a_body_above_the_ceiling_fails_the_call(void **state)
{
	struct http_result result;
	struct world world;

	(void)state;
	world_open(&world);
	fetch(&world, "/echo",
		(struct http_call_options){
			.method = "POST", .body = SLICE_LITERAL("0123456789"), .max_body_bytes = 5},
		&result);
	assert_int_equal(result.error, -EMSGSIZE);
	http_result_done(&result);
	world_close(&world);
}

static void a_stale_pooled_connection_is_replaced_for_reads_only(void **state)
{
	struct http_server_options options = {.on_request = on_request, .idle_timeout_ms = 100000};
	struct http_result result;
	struct world world;
	uint16_t port;

	(void)state;
	world_open(&world);
	fetch(&world, "/a", (struct http_call_options){0}, &result);
	http_result_done(&result);
	/* The server goes and comes back; the pool still holds the old connection, since the loop has not run
	 * since. */
	port = world.port;
	http_server_close(world.server, NULL, NULL);
	while (http_client_fetch(
		       world.client, &(struct http_call_options){.url = "http://127.0.0.1:1/"}, &result) == 0)
		http_result_done(&result);
	http_result_done(&result);
	options.user = &world;
	world.server = http_server_new(&world.loop, &options);
	assert_int_equal(http_server_listen_tcp(world.server, "127.0.0.1", port, NULL, NULL), 0);
	fetch(&world, "/b", (struct http_call_options){0}, &result);
	assert_int_equal(result.error, 0);
	assert_true(slice_is(result.response.body, "/b"));
	http_result_done(&result);
	/* A request that reached the server and got no answer is not repeated on a first connection. */
	fetch(&world, "/close", (struct http_call_options){.no_reuse = true}, &result);
	assert_string_equal(result.text, "EOF");
	http_result_done(&result);
	/* On a pooled one a PUT, whose fate is unknown, is not repeated either. */
	fetch(&world, "/close", (struct http_call_options){.method = "PUT"}, &result);
	assert_string_equal(result.text, "EOF");
	http_result_done(&result);
	world_close(&world);
}

static void calls_beyond_the_limit_wait_for_a_connection(void **state)
{
	struct http_client_options options = {.max_connections_per_origin = 2};
	struct world world;
	char *url;

	(void)state;
	world_open(&world);
	http_client_close(world.client, NULL, NULL);
	world.client = http_client_new(&world.loop, &options);
	url = mem_printf("%s/x", world.url);
	for (int i = 0; i < 50; i++)
		(void)http_client_send(world.client,
			&(struct http_call_options){.url = url, .on_done = on_done, .user = &world});
	run_until_done(&world, 50);
	assert_int_equal(world.error, 0);
	assert_int_equal(connections_total(&world), 2);
	free(url);
	world_close(&world);
}

static void on_upgrade(struct http_call *call, const struct http_response *response, uv_stream_t *stream,
	struct slice unread, void *user)
{
	struct world *world = user;

	(void)call;
	assert_int_equal(response->status, 101);
	buf_add_slice(&world->body, unread);
	world->done++;
	uv_close((uv_handle_t *)stream, on_freed);
}

static void an_upgrade_hands_the_connection_over(void **state)
{
	struct http_header headers[] = {HTTP_HEADER("Connection", "Upgrade"), HTTP_HEADER("Upgrade", "x")};
	struct world world;
	char *url;

	(void)state;
	world_open(&world);
	url = mem_printf("%s/up", world.url);
	(void)http_client_send(world.client, &(struct http_call_options){.url = url,
						     .headers = headers,
						     .header_count = 2,
						     .on_done = on_done,
						     .on_upgrade = on_upgrade,
						     .user = &world});
	run_until_done(&world, 1);
	assert_string_equal(buf_text(&world.body), "early");
	free(url);
	world_close(&world);
}

static void a_unix_socket_works_like_tcp(void **state)
{
	char dir[] = "/tmp/flotilla-test-XXXXXX", path[64];
	struct http_result result;
	struct world world;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	world_open(&world);
	assert_int_equal(http_server_listen_unix(world.server, path, 0600, NULL), 0);
	fetch(&world, "/over/unix", (struct http_call_options){.unix_path = path}, &result);
	assert_true(slice_is(result.response.body, "/over/unix"));
	http_result_done(&result);
	world_close(&world);
	rmdir(dir);
}

static void a_route_leads_to_a_unix_socket_and_leaves_the_host_as_it_is(void **state)
{
	char dir[] = "/tmp/flotilla-test-XXXXXX", path[64];
	struct http_call_options options = {.url = "http://no-such-host.invalid:81/host"};
	struct http_result result;
	struct world world;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	world_open(&world);
	assert_int_equal(http_server_listen_unix(world.server, path, 0600, NULL), 0);
	http_client_route(world.client, "no-such-host.invalid", 82, "/nonexistent/socket");
	http_client_route(world.client, "no-such-host.invalid", 81, path);
	assert_int_equal(http_client_fetch(world.client, &options, &result), 0);
	assert_true(slice_is(result.response.body, "no-such-host.invalid:81"));
	http_result_done(&result);
	options.url = "http://no-such-host.invalid:82/host";
	assert_int_equal(http_client_fetch(world.client, &options, &result), -ENOENT);
	assert_string_equal(
		result.text, "dial tcp no-such-host.invalid:82: connect: no such file or directory");
	http_result_done(&result);
	fetch(&world, "/by/tcp", (struct http_call_options){0}, &result);
	assert_true(slice_is(result.response.body, "/by/tcp"));
	http_result_done(&result);
	world_close(&world);
	rmdir(dir);
}

/* A peer that sends a fixed text to whoever connects, and closes. */
struct scripted {
	const char *text;
	int listener;
	uv_thread_t thread;
};

static void scripted_main(void *arg)
{
	struct scripted *scripted = arg;
	char bytes[4096];
	int fd = accept(scripted->listener, NULL, NULL);

	if (fd < 0)
		return;
	(void)!recv(fd, bytes, sizeof(bytes), 0);
	(void)!send(fd, scripted->text, strlen(scripted->text), MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	(void)!recv(fd, bytes, sizeof(bytes), 0);
	close(fd);
}

static void odd_answers_are_understood_or_named(void **state)
{
	static const struct {
		const char *answer;
		int error, status;
		const char *text, *body;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, 200, "", "ok"},
		{"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
			0, 404, "", "no"},
		{"HTTP/1.0 200 OK\r\n\r\nuntil the end", 0, 200, "", "until the end"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 0,
			200, "", "abc"},
		{"HTTP/1.1 204 No Content\r\n\r\n", 0, 204, "", ""},
		{"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf", -ECONNRESET, 200, "unexpected EOF",
			NULL},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", -ECONNRESET, 200,
			"unexpected EOF", NULL},
		{"HTTP/1.1 200", -ECONNRESET, 0, "unexpected EOF", NULL},
		{"", -ECONNRESET, 0, "EOF", NULL},
		{"SSH-2.0-OpenSSH\r\n", -EPROTO, 0,
			"net/http: HTTP/1.x transport connection broken: malformed HTTP response", NULL},
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", -EPROTO, 101,
			"unexpected 101 Switching Protocols", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct sockaddr_in address = {.sin_family = AF_INET};
		struct scripted scripted = {.text = cases[i].answer};
		socklen_t len = sizeof(address);
		struct http_result result;
		struct world world;

		world_open(&world);
		scripted.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		assert_int_equal(bind(scripted.listener, (struct sockaddr *)&address, sizeof(address)), 0);
		listen(scripted.listener, 8);
		getsockname(scripted.listener, (struct sockaddr *)&address, &len);
		snprintf(world.url, sizeof(world.url), "http://127.0.0.1:%u", ntohs(address.sin_port));
		uv_thread_create(&scripted.thread, scripted_main, &scripted);
		fetch(&world, "/", (struct http_call_options){.total_timeout_ms = 5000}, &result);
		if (strcmp(result.text, cases[i].text) != 0 || result.response.status != cases[i].status ||
			result.error != cases[i].error)
			fail_msg("case %zu: %d \"%s\" status %d", i, result.error, result.text,
				result.response.status);
		if (cases[i].body)
			assert_true(slice_is(result.response.body, cases[i].body));
		http_result_done(&result);
		world_close(&world);
		uv_thread_join(&scripted.thread);
		close(scripted.listener);
	}
}

/* The peer stands still while the request is given up: what it had not been sent yet must not come later. */
static void a_request_that_was_given_up_is_not_delivered_later(void **state)
{
	enum { BODY = 8 << 20 };
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	_cleanup_free_ char *body = mem_calloc(1, BODY);
	struct http_result result;
	struct world world;
	size_t got = 0;
	ssize_t n;

	(void)state;
	world_open(&world);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	listen(listener, 8);
	getsockname(listener, (struct sockaddr *)&address, &len);
	snprintf(world.url, sizeof(world.url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	fetch(&world, "/",
		(struct http_call_options){
			.method = "PUT", .body = slice_make(body, BODY), .total_timeout_ms = 1000},
		&result);
	assert_int_equal(result.error, -ETIMEDOUT);
	http_result_done(&result);
	fd = accept(listener, NULL, NULL);
	while ((n = recv(fd, body, BODY, 0)) > 0)
		got += (size_t)n;
	/* A machine so busy that nothing was sent in that second has nothing to reset. */
	assert_true(n < 0 ? errno == ECONNRESET : got == 0);
	assert_true(got < BODY);
	close(fd);
	close(listener);
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_body_goes_there_and_back_and_the_connection_is_reused),
		cmocka_unit_test(the_blocking_form_answers_with_headers_and_body),
		cmocka_unit_test(a_stopped_server_is_told_in_go_words),
		cmocka_unit_test(bad_calls_fail_with_a_reason),
		cmocka_unit_test(time_outs_are_told_and_the_server_sees_the_close),
		cmocka_unit_test(a_stream_is_delivered_as_it_comes),
		cmocka_unit_test(a_body_may_take_long_but_not_be_silent),
		cmocka_unit_test(a_call_can_be_cancelled_at_any_time),
		cmocka_unit_test(a_body_above_the_ceiling_fails_the_call),
		cmocka_unit_test(a_stale_pooled_connection_is_replaced_for_reads_only),
		cmocka_unit_test(calls_beyond_the_limit_wait_for_a_connection),
		cmocka_unit_test(an_upgrade_hands_the_connection_over),
		cmocka_unit_test(a_unix_socket_works_like_tcp),
		cmocka_unit_test(a_route_leads_to_a_unix_socket_and_leaves_the_host_as_it_is),
		cmocka_unit_test(odd_answers_are_understood_or_named),
		cmocka_unit_test(a_request_that_was_given_up_is_not_delivered_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
