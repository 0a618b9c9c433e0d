#include "base/macros.h"
#include "fake_server.h"
#include "flotilla/etcd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HEAD(index)                               \
	"HTTP/1.1 200 OK\r\nX-Etcd-Index: " index \
	"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
#define EVENT(index)                                                                                     \
	"{\"action\":\"set\",\"node\":{\"key\":\"/k\",\"value\":\"v" index "\",\"modifiedIndex\":" index \
	"}}\n"
#define LAST "0\r\n\r\n"
/* The event is 0x44 bytes with an index of one digit. */
#define CHUNK(index) "44\r\n" EVENT(index) "\r\n"
#define POLL(head_index, index) HEAD(head_index) CHUNK(index) LAST
#define CLEARED                                                                          \
	"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"                          \
	"{\"errorCode\":401,\"message\":\"The event in requested index is outdated and " \
	"cleared\",\"cause\":\"x\","                                                     \
	"\"index\":5000}\n"

struct fixture {
	uv_loop_t loop;
	struct etcd_client *client;
	struct etcd_watch *watch;
	char log[1024];		 /* one letter per news, events with their value */
	const char *close_after; /* the watch is closed when the log reads so */
	bool free_client;
};

static void on_news(struct etcd_watch *watch, enum etcd_watch_news news, const struct etcd_response *response,
	void *userdata)
{
	static const char *const letters[] = {"open", "", "cleared", "outage", "refused"};
	struct fixture *f = userdata;
	size_t len = strlen(f->log);

	if (news == ETCD_WATCH_EVENT)
		snprintf(f->log + len, sizeof(f->log) - len, "%s ", response->node->value);
	else if (news == ETCD_WATCH_OPEN)
		snprintf(f->log + len, sizeof(f->log) - len, "open@%llu ",
			(unsigned long long)response->etcd_index);
	else
		snprintf(f->log + len, sizeof(f->log) - len, "%s ", letters[news]);
	if (strcmp(f->log, f->close_after))
		return;
	f->watch = etcd_watch_close(watch);
	if (f->free_client)
		f->client = etcd_client_free(f->client);
}

/* Runs a watch on the endpoints until the log reads `expected`. */
static void check_watch(const char *endpoints, const struct etcd_watch_options *options, const char *expected)
{
	struct fixture f = {.close_after = expected, .free_client = true};
	struct etcd_client_options client_options = {.endpoints = endpoints};

	assert_int_equal(uv_loop_init(&f.loop), 0);
	assert_int_equal(etcd_client_new(&f.loop, &client_options, &f.client, NULL), 0);
	f.watch = etcd_watch_open(f.client, "/k", options, on_news, &f);
	for (int turns = 0; f.client && turns < 2000 && strlen(f.log) <= strlen(expected); turns++) {
		uv_run(&f.loop, UV_RUN_NOWAIT);
		usleep(2000);
	}
	etcd_client_free(f.client);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f.loop), 0);
	assert_string_equal(f.log, expected);
}

static void assert_asked(struct fake_server *server, size_t request, const char *text)
{
	assert_true(request < fake_count(server));
	if (!strstr(server->requests[request], text))
		fail_msg("request %zu has no %s:\n%s", request, text, server->requests[request]);
}

static void events_are_asked_for_one_after_the_other(void **state _unused_)
{
	static const struct fake_step steps[] = {{POLL("4", "5")}, {POLL("6", "6")}, {POLL("6", "9")}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, &(struct etcd_watch_options){.recursive = true}, "open@4 v5 v6 v9 ");
	assert_asked(&server, 0, "GET /v2/keys/k?recursive=true&wait=true HTTP");
	assert_asked(&server, 1, "&wait=true&waitIndex=6 HTTP");
	assert_asked(&server, 2, "&waitIndex=7 HTTP");
	fake_stop(&server);
}

static void a_watch_from_an_index_asks_for_the_next_one(void **state _unused_)
{
	static const struct fake_step steps[] = {{POLL("9", "4")}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, &(struct etcd_watch_options){.after_index = 3}, "open@9 v4 ");
	assert_asked(&server, 0, "waitIndex=4 HTTP");
	fake_stop(&server);
}

static void a_cut_poll_is_repeated_on_the_next_endpoint_and_loses_nothing(void **state _unused_)
{
	static const struct fake_step first[] = {{HEAD("4")}}, second[] = {{POLL("7", "5")}};
	struct fake_server a, b;
	char list[256];

	fake_start(&a, first, 1);
	fake_start(&b, second, 1);
	snprintf(list, sizeof(list), "%s,%s", a.url, b.url);
	check_watch(list, NULL, "open@4 outage v5 ");
	assert_asked(&b, 0, "waitIndex=5 HTTP");
	fake_stop(&a);
	fake_stop(&b);
}

static void a_dead_cluster_is_tried_again(void **state _unused_)
{
	char dead[64];

	fake_dead_url(dead, sizeof(dead));
	check_watch(dead, NULL, "outage outage outage ");
}

static void a_doubled_event_is_delivered_once(void **state _unused_)
{
	static const struct fake_step steps[] = {{POLL("4", "5")}, {POLL("4", "5")}, {POLL("5", "6")}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, NULL, "open@4 v5 v6 ");
	fake_stop(&server);
}

static void cleared_history_is_told_and_the_watch_goes_on_from_now(void **state _unused_)
{
	static const struct fake_step steps[] = {{CLEARED}, {HEAD("8") CHUNK("9") LAST}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, &(struct etcd_watch_options){.after_index = 1}, "cleared open@8 v9 ");
	assert_asked(&server, 1, "wait=true HTTP");
	fake_stop(&server);
}

static void an_empty_answer_is_no_event(void **state _unused_)
{
	static const struct fake_step steps[] = {{HEAD("4") LAST}, {POLL("4", "5")}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, NULL, "open@4 outage v5 ");
	assert_asked(&server, 1, "waitIndex=5 HTTP");
	fake_stop(&server);
}

static void a_refusal_is_told_and_tried_again(void **state _unused_)
{
	static const struct fake_step steps[] = {
		{"HTTP/1.1 401 Unauthorized\r\nConnection: "
		 "close\r\n\r\n{\"errorCode\":110,\"message\":\"m\",\"index\":0}"},
		{POLL("4", "5")}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, NULL, "refused open@4 v5 ");
	fake_stop(&server);
}

static void a_stream_delivers_line_by_line_and_starts_over_when_cut(void **state _unused_)
{
	static const struct fake_step steps[] = {
		{HEAD("4") CHUNK("5") "88\r\n" EVENT("6") EVENT("7") "\r\n10\r\n{\"action\":\"set\",\r\n"},
		{HEAD("9") CHUNK("9") LAST}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(
		server.url, &(struct etcd_watch_options){.stream = true}, "open@4 v5 v6 v7 cleared open@9 ");
	assert_asked(&server, 0, "stream=true&wait=true HTTP");
	assert_asked(&server, 1, "stream=true&wait=true HTTP");
	fake_stop(&server);
}

/* However the bytes come. */
static void an_event_of_a_stream_may_come_in_pieces(void **state _unused_)
{
	static const struct fake_step steps[] = {
		{HEAD("4") CHUNK("5") "1a\r\n{\"action\":\"set\",\"node\":{\"k\r\n"
				      "29\r\ney\":\"/k\",\"value\":\"v6\",\"modifiedIndex\":6}}\r\n"
				      "1\r\n\n\r\n" CHUNK("7") LAST}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, &(struct etcd_watch_options){.stream = true}, "open@4 v5 v6 v7 ");
	fake_stop(&server);
}

static void what_is_no_event_makes_a_stream_start_over(void **state _unused_)
{
	static const struct fake_step steps[] = {
		{HEAD("4") CHUNK("5") "5\r\noops\n\r\n" CHUNK("6"), FAKE_HANG}, {HEAD("6") CHUNK("7") LAST}};
	struct fake_server server;

	fake_start(&server, steps, ARRAY_LEN(steps));
	check_watch(server.url, &(struct etcd_watch_options){.stream = true}, "open@4 v5 cleared open@6 v7 ");
	fake_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_asked_for_one_after_the_other),
		cmocka_unit_test(a_watch_from_an_index_asks_for_the_next_one),
		cmocka_unit_test(a_cut_poll_is_repeated_on_the_next_endpoint_and_loses_nothing),
		cmocka_unit_test(a_dead_cluster_is_tried_again),
		cmocka_unit_test(a_doubled_event_is_delivered_once),
		cmocka_unit_test(cleared_history_is_told_and_the_watch_goes_on_from_now),
		cmocka_unit_test(an_empty_answer_is_no_event),
		cmocka_unit_test(a_refusal_is_told_and_tried_again),
		cmocka_unit_test(a_stream_delivers_line_by_line_and_starts_over_when_cut),
		cmocka_unit_test(an_event_of_a_stream_may_come_in_pieces),
		cmocka_unit_test(what_is_no_event_makes_a_stream_start_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
