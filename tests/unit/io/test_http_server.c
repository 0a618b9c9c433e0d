/* The server and its requests. */
#include "http_world.h"

#define GET(target) "GET " target " HTTP/1.1\r\nHost: h\r\n\r\n"

static int setup(void **state)
{
	struct world *world = malloc(sizeof(*world));

	world_open(world, (struct http_server_options){0});
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	world_close(*state);
	free(*state);
	return 0;
}

static size_t requests_open(struct world *world)
{
	struct http_server_stats stats;

	http_server_get_stats(world->server, &stats);
	return stats.requests_open;
}

static void await(struct world *world, const char *text)
{
	if (!raw_wait(&world->raw, text))
		fail_msg("the connection ended before \"%s\"; got \"%s\"", text, buf_text(&world->raw.in));
}

static void assert_arrived(struct world *world, const char *text)
{
	if (!strstr(buf_text(&world->raw.in), text))
		fail_msg("no \"%s\" in \"%s\"", text, buf_text(&world->raw.in));
}

static void assert_not_arrived(struct world *world, const char *text)
{
	if (strstr(buf_text(&world->raw.in), text))
		fail_msg("there is \"%s\" in \"%s\"", text, buf_text(&world->raw.in));
}

static void await_request_held(struct world *world)
{
	while (!world->held)
		raw_turn(&world->raw);
}

static void await_cancel(struct world *world)
{
	for (int i = 0; i < 1000 && !world->cancelled; i++, usleep(1000))
		raw_turn(&world->raw);
	assert_int_equal(world->cancelled, 1);
}

static void a_request_gets_its_answer_and_the_connection_stays(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, GET("/a%20b?x=1&y"));
	await(world, "\r\n\r\nhello");
	assert_arrived(world, "HTTP/1.1 200 OK\r\nDate: ");
	assert_arrived(world, "Content-Length: 5\r\n");
	assert_not_arrived(world, "Connection:");
	buf_clear(&world->raw.in);
	raw_send(&world->raw, "FROB / HTTP/1.1\nHost: h\n\n"); /* bare line feeds, a method of one's own */
	await(world, "\r\n\r\nhello");
	assert_string_equal(buf_text(&world->seen), "GET /a%20b x=1&y ;FROB /  ;");
}

static void a_request_may_come_byte_by_byte(void **state)
{
	struct world *world = *state;
	static const char text[] =
		"\r\nPUT /echo HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nContent-Length: 4\r\n\r\nabcd";

	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		raw_send_bytes(&world->raw, slice_make(text + i, 1));
		raw_turn(&world->raw);
	}
	await(world, "\r\n\r\nabcd");
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, "GET /one HTTP/1.1\r\nHost: h\r\n\r\nGET /later HTTP/1.1\r\nHost: h\r\n\r\n"
			      "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz"
			      "GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /last HTTP/1.1\r\nHost: "
			      "h\r\nConnection: close\r\n\r\n");
	raw_wait_end(&world->raw);
	assert_string_equal(
		buf_text(&world->seen), "GET /one  ;GET /later  ;PUT /echo  xyz;GET /stream  ;GET /last  ;");
	assert_int_equal(raw_count(&world->raw, "HTTP/1.1 200 OK"), 5);
	{
		const char *later = strstr(buf_text(&world->raw.in), "later");
		const char *echo = strstr(buf_text(&world->raw.in), "xyz");
		const char *tick = strstr(
			buf_text(&world->raw.in), "5\r\ntick \r\n5\r\ntick \r\n5\r\ntick \r\n0\r\n\r\n");

		assert_true(later && echo && tick && later < echo && echo < tick);
	}
	assert_arrived(world, "Connection: close\r\n");
}

static void a_thousand_pipelined_requests_are_all_answered(void **state)
{
	struct world *world = *state;
	struct buf many = BUF_INIT(0);

	for (int i = 0; i < 3000; i++)
		buf_add_str(&many, GET("/"));
	buf_add_str(&many, "GET / HTTP/1.0\r\n\r\n");
	raw_send_bytes(&world->raw, buf_slice(&many));
	raw_wait_end(&world->raw);
	assert_int_equal(world->requests, 3001);
	assert_int_equal(raw_count(&world->raw, "\r\n\r\nhello"), 3001);
	buf_done(&many);
}

static void pipelined_large_answers_all_arrive(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw,
		GET("/big") GET("/big") "GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	raw_idle(&world->raw, 30); /* the socket's buffers fill up */
	raw_wait_end(&world->raw);
	assert_int_equal(raw_count(&world->raw, "HTTP/1.1 200 OK"), 3);
	assert_true(world->raw.in.len > 3 * (size_t)BIG_BYTES &&
		    world->raw.in.len < 3 * (size_t)BIG_BYTES + 1000);
}

/* The answer alone is more than may be unsent when the next request is taken up. */
static void a_request_behind_a_large_late_answer_is_answered(void **state)
{
	struct world *world = *state;
	static char body[400000];

	raw_send(&world->raw, GET("/hang") GET("/x"));
	raw_idle(&world->raw, 20);
	assert_int_equal(world->requests, 1);
	memset(body, 'l', sizeof(body));
	http_reply(world->held, 200, NULL, 0, slice_make(body, sizeof(body)));
	await(world, "hello");
	assert_true(world->raw.in.len > sizeof(body));
}

static void chunked_bodies_are_put_together(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
			      "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n" GET("/after"));
	await(world, "\r\n\r\nabcdefg");
	await(world, "\r\n\r\nhello");
}

static void http_1_0_closes_unless_asked_to_stay(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	await(world, "\r\n\r\nhello");
	assert_arrived(world, "HTTP/1.0 200 OK\r\n");
	assert_arrived(world, "Connection: keep-alive\r\n");
	buf_clear(&world->raw.in);
	raw_send(&world->raw, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	raw_wait_end(&world->raw);
	assert_not_arrived(world, "chunked");
	assert_arrived(world, "\r\n\r\ntick tick tick ");
}

static void head_is_answered_without_a_body(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\nHEAD /big HTTP/1.1\r\nHost: h\r\n\r\n"
			      "HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /nothing HTTP/1.0\r\n\r\n");
	raw_wait_end(&world->raw);
	assert_arrived(world, "Content-Length: 5\r\n");
	assert_arrived(world, "Content-Length: 5000000\r\n");
	assert_not_arrived(world, "hello");
	assert_not_arrived(world, "tick");
	assert_arrived(world, "HTTP/1.0 204 No Content\r\n");
	assert_int_equal(raw_count(&world->raw, "\r\n\r\nHTTP/1."), 3);
}

static void continue_is_said_before_the_body_and_other_expectations_fail(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw,
		"PUT /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	await(world, "HTTP/1.1 100 Continue\r\n\r\n");
	assert_int_equal(world->requests, 0);
	raw_send(&world->raw, "ok");
	await(world, "\r\n\r\nok");
	raw_send(&world->raw, "PUT /echo HTTP/1.1\r\nHost: h\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n");
	raw_wait_end(&world->raw);
	assert_arrived(world, "HTTP/1.1 417 Expectation Failed\r\n");
	assert_int_equal(world->requests, 1);
}

static void header_values_cannot_inject_lines(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, GET("/odd"));
	await(world, "\r\n\r\nodd");
	assert_arrived(world, "X-Odd: a  Injected: yes\r\n");
}

static void a_request_may_be_answered_after_its_client_has_gone(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, GET("/watch"));
	await_request_held(&world);
	assert_true(http_request_is_open(world.held));
	raw_close(&world.raw);
	await_cancel(&world);
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
	struct world *world = *state;

	raw_send(&world->raw, GET("/hang") GET("/two"));
	shutdown(world->raw.fd, SHUT_WR);
	raw_idle(&world->raw, 30);
	assert_int_equal(world->cancelled, 0);
	http_reply(world->held, 200, NULL, 0, SLICE_LITERAL("after all"));
	raw_wait_end(&world->raw);
	assert_arrived(world, "after all");
	assert_arrived(world, "hello");
}

static void a_reset_connection_cancels_its_stream(void **state)
{
	struct world *world = *state;
	struct linger hard = {.l_onoff = 1};
	char *piece;

	raw_send(&world->raw, GET("/open"));
	await(world, "chunked\r\n\r\n");
	assert_int_equal(http_reply_piece(world->held, SLICE_LITERAL("event")), 0);
	await(world, "5\r\nevent\r\n");
	piece = calloc(1, 300);
	assert_int_equal(http_reply_piece(world->held, slice_make(piece, 300)), 0);
	free(piece);
	await(world, "\r\n12c\r\n");
	/* What was given back reads as empty. */
	assert_null(http_request_header(world->held, "Host"));
	assert_true(slice_is(world->held->method, "GET") && !world->held->path.len);
	setsockopt(world->raw.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	raw_close(&world->raw);
	await_cancel(world);
	assert_int_equal(http_reply_piece(world->held, SLICE_LITERAL("more")), -EPIPE);
}

static void a_shrunk_request_ends_and_the_next_one_is_read(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, GET("/open"));
	await(world, "chunked\r\n\r\n");
	http_reply_end(world->held);
	await(world, "0\r\n\r\n");
	world->held = http_request_unref(world->held);
	raw_send(&world->raw, "PUT /echo?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
	await(world, "\r\n\r\nbody");
	assert_string_equal(buf_text(&world->seen), "GET /open  ;PUT /echo a=b body;");
}

static void a_connection_can_be_taken_over(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, GET("/") "GET /raw HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
				       "Upgrade: frames\r\n\r\nfirst bytes");
	await(world, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
	assert_arrived(world, "hello");
	assert_non_null(world->taken);
	assert_string_equal(buf_text(&world->unread), "first bytes");
	assert_int_equal(requests_open(world), 0);
}

static void an_aborted_request_closes_without_an_answer(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, GET("/abort"));
	raw_wait_end(&world->raw);
	assert_int_equal(world->raw.in.len, 0);
	assert_int_equal(world->cancelled, 0);
}

static void draining_finishes_what_was_begun(void **state)
{
	struct world *world = *state;

	raw_send(&world->raw, GET("/hang"));
	await_request_held(world);
	http_server_drain(world->server);
	raw_idle(&world->raw, 10);
	http_reply(world->held, 200, NULL, 0, SLICE_LITERAL("done"));
	raw_wait_end(&world->raw);
	assert_arrived(world, "Connection: close\r\n");
	assert_arrived(world, "done");
}

static void closing_the_server_cancels_what_is_pending(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){0});
	raw_send(&world.raw, GET("/hang"));
	await_request_held(&world);
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
	raw_send(&raw, GET("/"));
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
	struct world *world = *state;
	struct buf why = BUF_INIT(0), want = BUF_INIT(0);

	assert_int_equal(
		http_server_listen_tcp(world->server, "127.0.0.1", world->port, NULL, &why), -EADDRINUSE);
	buf_printf(&want, "listen tcp 127.0.0.1:%u: bind: address already in use", world->port);
	assert_string_equal(buf_text(&why), buf_text(&want));
	buf_done(&why);
	buf_done(&want);
}

static void assert_served_at(struct world *world, uint16_t port)
{
	struct raw raw;

	raw_open(&raw, &world->loop, port);
	raw_send(&raw, "GET / HTTP/1.0\r\n\r\n");
	assert_non_null(raw_wait(&raw, "hello"));
	raw_close(&raw);
}

static void a_name_is_listened_on_at_its_addresses(void **state)
{
	struct world *world = *state;
	struct buf why = BUF_INIT(0);
	uint16_t port;

	assert_int_equal(http_server_listen_tcp(world->server, "localhost", 0, &port, &why), 0);
	assert_string_equal(buf_text(&why), "");
	assert_served_at(world, port);
	assert_int_equal(http_server_listen_tcp(world->server, "", 0, &port, NULL), 0);
	assert_served_at(world, port);
	assert_int_equal(
		http_server_listen_tcp(world->server, "no.such.name.invalid", 0, &port, &why), -ENOENT);
	assert_non_null(strstr(buf_text(&why), "listen tcp: lookup no.such.name.invalid: "));
	/* An address of somebody else (TEST-NET-1). */
	buf_clear(&why);
	assert_int_equal(
		http_server_listen_tcp(world->server, "192.0.2.1", 4001, &port, &why), -EADDRNOTAVAIL);
	assert_string_equal(
		buf_text(&why), "listen tcp 192.0.2.1:4001: bind: cannot assign requested address");
	buf_done(&why);
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
		assert_arrived(&world, " 200 OK\r\n");
		world_close(&world);
	}
}

/* The others say themselves when their server is opened and closed. */
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_request_gets_its_answer_and_the_connection_stays),
		CASE(a_request_may_come_byte_by_byte),
		CASE(pipelined_requests_are_answered_in_order),
		CASE(a_thousand_pipelined_requests_are_all_answered),
		CASE(pipelined_large_answers_all_arrive),
		CASE(a_request_behind_a_large_late_answer_is_answered),
		CASE(chunked_bodies_are_put_together),
		CASE(http_1_0_closes_unless_asked_to_stay),
		CASE(head_is_answered_without_a_body),
		CASE(continue_is_said_before_the_body_and_other_expectations_fail),
		CASE(header_values_cannot_inject_lines),
		cmocka_unit_test(a_request_may_be_answered_after_its_client_has_gone),
		CASE(a_client_that_only_closed_its_sending_side_is_still_answered),
		CASE(a_reset_connection_cancels_its_stream),
		CASE(a_shrunk_request_ends_and_the_next_one_is_read),
		CASE(a_connection_can_be_taken_over),
		CASE(an_aborted_request_closes_without_an_answer),
		CASE(draining_finishes_what_was_begun),
		cmocka_unit_test(closing_the_server_cancels_what_is_pending),
		cmocka_unit_test(a_unix_socket_serves_and_is_removed_at_the_end),
		cmocka_unit_test(a_stale_unix_socket_is_replaced),
		CASE(a_port_in_use_is_told_in_words),
		CASE(a_name_is_listened_on_at_its_addresses),
		cmocka_unit_test(malformed_requests_are_refused),
		cmocka_unit_test(odd_but_valid_requests_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
