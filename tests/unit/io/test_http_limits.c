/* What one client and all together may take of the server: bytes, time, places, files. */
#include "http_world.h"
#include <netinet/in.h>
#include <sys/resource.h>

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

static void one_piece_above_the_queue_ceiling_passes_behind_its_head(void **state)
{
	struct world world;

	(void)state;
	world_open(&world, (struct http_server_options){.max_queue_bytes = BIG_BYTES - 1});
	raw_send(&world.raw, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\nGET /piece HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "\r\n0\r\n\r\n"));
	assert_int_equal(world.piece_error, 0);
	assert_true(world.raw.in.len > BIG_BYTES);
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
	assert_non_null(strstr(text, limit == HTTP_LIMIT_FILES ? "RLIMIT_NOFILE" : "memory"));
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

static size_t small_for_orders(const struct http_request *req, void *user)
{
	(void)user;
	assert_true(req->method.len && req->header_count);
	return slice_starts_with(req->path, SLICE_LITERAL("/hang")) ? SIZE_MAX : 1000;
}

/* Each request has a ceiling of its own, whether it says its length or not; nothing above it is kept. */
static void a_body_above_its_own_ceiling_is_not_kept(void **state)
{
	static const char *const heads[] = {"PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n",
		"PUT /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"};
	char body[1001] = {0};
	struct world world;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		world_open(&world, (struct http_server_options){.body_ceiling = small_for_orders});
		raw_send(&world.raw, "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
		raw_send_bytes(&world.raw, slice_make(body, 1000));
		assert_non_null(raw_wait(&world.raw, "HTTP/1.1 200 OK"));
		raw_send(&world.raw, heads[i]);
		raw_send_bytes(&world.raw, slice_make(body, 1001));
		assert_non_null(raw_wait(&world.raw, "HTTP/1.1 413 "));
		world_close(&world);
		world_open(&world, (struct http_server_options){.body_ceiling = small_for_orders});
		raw_send(&world.raw, "PUT /hang HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n");
		raw_send_bytes(&world.raw, slice_make(body, 1001));
		while (!world.held)
			raw_turn(&world.raw);
		assert_int_equal(world.held->body.len, 1001);
		world_close(&world);
	}
}

static void send_hanging(struct world *world, struct raw *client)
{
	static char body[300 * 1000];

	raw_open(client, &world->loop, world->port);
	raw_send(client, "PUT /hang HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n");
	raw_send_bytes(client, slice_make(body, sizeof(body)));
}

/* Requests that wait for their answers may hold half of 1 MB: a third one of 300 kB is refused in words,
 * small ones are served, and what was taken on stays. When a handler gives a body back there is room. */
static void large_requests_that_wait_are_bounded_together(void **state)
{
	struct http_server_stats stats;
	struct http_request *first;
	struct raw clients[3];
	struct world world;

	(void)state;
	limit_told = (struct limit_told){0};
	world_open(&world, (struct http_server_options){.max_held_bytes = 1000 * 1000, .on_limit = on_limit});
	send_hanging(&world, &clients[0]);
	while (!world.held)
		raw_turn(&clients[0]);
	first = take_ptr(world.held);
	send_hanging(&world, &clients[1]);
	assert_non_null(raw_wait(&clients[1], "HTTP/1.1 503 Service Unavailable\r\n"));
	assert_non_null(raw_wait(&clients[1], "nothing was done, try again later"));
	assert_int_equal(world.requests, 1);
	assert_int_equal(limit_told.times, 1);
	assert_int_equal(limit_told.limit, HTTP_LIMIT_PENDING);
	raw_send(&world.raw, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_non_null(raw_wait(&world.raw, "HTTP/1.1 200 OK"));
	http_request_release(first);
	assert_int_equal(first->body.len, 0);
	send_hanging(&world, &clients[2]);
	while (!world.held)
		raw_turn(&clients[2]);
	http_server_get_stats(world.server, &stats);
	assert_int_equal(stats.refused_total, 1);
	assert_int_equal(stats.cut_off_total, 0);
	assert_int_equal(world.cancelled, 0);
	http_reply(first, 200, NULL, 0, SLICE_LITERAL("patience"));
	assert_non_null(raw_wait(&clients[0], "patience"));
	http_request_unref(first);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		raw_close(&clients[i]);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_body_above_the_ceiling_is_left_to_the_handler),
		cmocka_unit_test(a_head_above_the_ceiling_is_refused),
		cmocka_unit_test(a_slow_reader_is_cut_off_at_the_queue_ceiling),
		cmocka_unit_test(a_kept_slow_reader_is_told_when_there_is_room_again),
		cmocka_unit_test(one_piece_above_the_queue_ceiling_passes_behind_its_head),
		cmocka_unit_test(an_answer_that_paces_itself_arrives_whole),
		cmocka_unit_test(silent_clients_are_timed_out),
		cmocka_unit_test(a_slow_head_is_timed_out_although_bytes_keep_coming),
		cmocka_unit_test(a_client_that_does_not_read_its_answer_is_timed_out),
		cmocka_unit_test(a_pending_request_is_not_timed_out),
		cmocka_unit_test(clients_beyond_the_limit_wait_for_a_place),
		cmocka_unit_test(idle_clients_make_room_for_new_ones),
		cmocka_unit_test(a_client_that_is_being_served_keeps_its_place),
		cmocka_unit_test(bodies_that_are_too_much_together_cost_the_slowest_its_place),
		cmocka_unit_test(a_body_above_its_own_ceiling_is_not_kept),
		cmocka_unit_test(large_requests_that_wait_are_bounded_together),
		cmocka_unit_test(running_out_of_files_is_told),
		cmocka_unit_test(answers_that_are_too_much_together_cost_the_slowest_reader_its_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
