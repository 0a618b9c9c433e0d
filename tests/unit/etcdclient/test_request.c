#include "base/macros.h"
#include "fake_server.h"
#include "flotilla/etcd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ANSWER(status, body) \
	"HTTP/1.1 " status   \
	"\r\nX-Etcd-Index: 7\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" body
#define NODE             \
	ANSWER("200 OK", \
		"{\"action\":\"get\",\"node\":{\"key\":\"/k\",\"value\":\"v\",\"modifiedIndex\":5}}\n")
#define RAFT_ERROR                                                                            \
	ANSWER("500 Internal Server Error", "{\"errorCode\":300,\"message\":\"Raft Internal " \
					    "Error\",\"cause\":\"timed out\",\"index\":0}\n")

struct fixture {
	uv_loop_t loop;
	struct etcd_client *client;
};

static void open_client(struct fixture *f, const char *endpoints, int64_t timeout_ms)
{
	struct etcd_client_options options = {
		.endpoints = endpoints,
		.timeout_ms = timeout_ms,
		.username = "al",
		.password = "pw",
		.response_max_bytes = 64 << 10,
	};

	assert_int_equal(uv_loop_init(&f->loop), 0);
	assert_int_equal(etcd_client_new(&f->loop, &options, &f->client, NULL), 0);
}

static void close_client(struct fixture *f)
{
	f->client = etcd_client_free(f->client);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
}

static void two_urls(char *list, size_t size, const char *a, const char *b)
{
	snprintf(list, size, "%s,%s", a, b);
}

static void a_read_brings_node_and_index(void **state _unused_)
{
	static const struct fake_step steps[] = {{NODE}};
	struct fake_server server;
	struct fixture f;

	fake_start(&server, steps, ARRAY_LEN(steps));
	open_client(&f, server.url, 0);
	struct etcd_response *r = etcd_request_wait(etcd_get(f.client, "/k", NULL, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_OK);
	assert_string_equal(r->node->value, "v");
	assert_int_equal(r->etcd_index, 7);
	assert_string_equal(r->endpoint, server.url);
	etcd_response_unref(r);
	assert_non_null(strstr(
		server.requests[0], "GET /v2/keys/k?quorum=false&recursive=false&sorted=false HTTP/1.1\r\n"));
	assert_non_null(strstr(server.requests[0], "Authorization: Basic YWw6cHc=\r\n"));
	close_client(&f);
	fake_stop(&server);
}

static void a_write_carries_conditions_in_the_query_and_the_value_in_the_form(void **state _unused_)
{
	static const struct fake_step steps[] = {{NODE}};
	struct etcd_put_options options = {.value = "a b&c",
		.ttl_s = 60,
		.prev_value = "old",
		.prev_index = 3,
		.prev_exist = ETCD_PREV_EXIST};
	struct fake_server server;
	struct fixture f;

	fake_start(&server, steps, ARRAY_LEN(steps));
	open_client(&f, server.url, 0);
	etcd_response_unref(etcd_request_wait(etcd_put(f.client, "/k", &options, NULL, NULL)));
	assert_non_null(strstr(
		server.requests[0], "PUT /v2/keys/k?prevExist=true&prevIndex=3&prevValue=old HTTP/1.1\r\n"));
	assert_non_null(strstr(server.requests[0], "Content-Type: application/x-www-form-urlencoded\r\n"));
	assert_non_null(strstr(server.requests[0], "\r\n\r\nttl=60&value=a+b%26c"));
	close_client(&f);
	fake_stop(&server);
}

static void a_read_moves_on_over_refused_cut_and_failing_endpoints(void **state _unused_)
{
	static const struct fake_step cut[] = {{NULL}}, fails[] = {{RAFT_ERROR}}, good[] = {{NODE}};
	struct fake_server cutting, failing, serving;
	struct fixture f;
	char dead[64], list[512];

	fake_dead_url(dead, sizeof(dead));
	fake_start(&cutting, cut, 1);
	fake_start(&failing, fails, 1);
	fake_start(&serving, good, 1);
	snprintf(list, sizeof(list), "%s,%s,%s,%s", dead, cutting.url, failing.url, serving.url);
	open_client(&f, list, 0);
	struct etcd_response *r = etcd_request_wait(etcd_get(f.client, "/k", NULL, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_OK);
	assert_int_equal(r->code, 0);
	assert_int_equal(r->attempt_count, 3);
	assert_non_null(strstr(r->attempts[0].error, "connection refused"));
	etcd_response_unref(r);
	close_client(&f);
	fake_stop(&cutting);
	fake_stop(&failing);
	fake_stop(&serving);
}

static void a_write_moves_on_only_when_no_connection_was_made(void **state _unused_)
{
	static const struct fake_step good[] = {{NODE}};
	struct fake_server serving;
	struct fixture f;
	char dead[64], list[256];

	fake_dead_url(dead, sizeof(dead));
	fake_start(&serving, good, 1);
	two_urls(list, sizeof(list), dead, serving.url);
	open_client(&f, list, 0);
	struct etcd_response *r = etcd_request_wait(etcd_set(f.client, "/k", "v", 0, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_OK);
	etcd_response_unref(r);
	close_client(&f);
	fake_stop(&serving);
}

static void check_write_is_sent_once(const struct fake_step *first, int64_t timeout_ms, int code)
{
	static const struct fake_step good[] = {{NODE}, {NODE}};
	struct fake_server failing, serving;
	struct fixture f;
	char list[256];

	fake_start(&failing, first, 1);
	fake_start(&serving, good, 2);
	two_urls(list, sizeof(list), failing.url, serving.url);
	open_client(&f, list, timeout_ms);
	struct etcd_response *r = etcd_request_wait(etcd_set(f.client, "/k", "v", 0, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_UNKNOWN);
	assert_int_equal(r->code, code);
	assert_non_null(strstr(r->error_text, "outcome is unknown"));
	etcd_response_unref(r);
	assert_int_equal(fake_count(&failing), 1);
	assert_int_equal(fake_count(&serving), 0);
	close_client(&f);
	fake_stop(&failing);
	fake_stop(&serving);
}

static void a_write_is_never_sent_twice(void **state _unused_)
{
	static const struct fake_step cut = {NULL}, half = {"HTTP/1.1 200 OK\r\nContent-Len"},
				      fails = {RAFT_ERROR};
	static const struct fake_step hang = {NULL, FAKE_HANG}, garbage = {ANSWER("200 OK", "<html>")};

	check_write_is_sent_once(&cut, 0, 0);
	check_write_is_sent_once(&half, 0, 0);
	check_write_is_sent_once(&fails, 0, 300);
	check_write_is_sent_once(&hang, 100, 0);
	struct fake_server server;
	struct fixture f;

	fake_start(&server, &garbage, 1);
	open_client(&f, server.url, 0);
	struct etcd_response *r = etcd_request_wait(etcd_delete(f.client, "/k", NULL, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_UNKNOWN);
	etcd_response_unref(r);
	close_client(&f);
	fake_stop(&server);
}

static void a_slow_endpoint_is_left_for_the_next_one(void **state _unused_)
{
	static const struct fake_step hang[] = {{NULL, FAKE_HANG}}, good[] = {{NODE}};
	struct fake_server slow, serving;
	struct fixture f;
	char list[256];

	fake_start(&slow, hang, 1);
	fake_start(&serving, good, 1);
	two_urls(list, sizeof(list), slow.url, serving.url);
	open_client(&f, list, 100);
	struct etcd_response *r = etcd_request_wait(etcd_get(f.client, "/k", NULL, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_OK);
	assert_int_equal(r->attempt_count, 1);
	assert_true(r->attempts[0].timed_out);
	assert_non_null(strstr(r->attempts[0].error, "exceeded header timeout"));
	etcd_response_unref(r);
	close_client(&f);
	fake_stop(&slow);
	fake_stop(&serving);
}

static void all_endpoints_dead_is_unreachable(void **state _unused_)
{
	struct fixture f;
	char a[64], b[64], list[256];

	fake_dead_url(a, sizeof(a));
	fake_dead_url(b, sizeof(b));
	two_urls(list, sizeof(list), a, b);
	open_client(&f, list, 0);
	struct etcd_response *r = etcd_request_wait(etcd_set(f.client, "/k", "v", 0, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_UNREACHABLE);
	assert_int_equal(r->attempt_count, 2);
	assert_int_equal(r->status, 0);
	etcd_response_unref(r);
	close_client(&f);
}

static void etcds_error_is_the_answer(void **state _unused_)
{
	static const struct fake_step steps[] = {{ANSWER("404 Not Found",
		"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/k\",\"index\":9}\n")}};
	struct fake_server server;
	struct fixture f;

	fake_start(&server, steps, 1);
	open_client(&f, server.url, 0);
	struct etcd_response *r = etcd_request_wait(etcd_get(f.client, "/k", NULL, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_REFUSED);
	assert_int_equal(r->status, 404);
	assert_string_equal(r->error_text, "100: Key not found (/k) [9]");
	etcd_response_unref(r);
	close_client(&f);
	fake_stop(&server);
}

static void an_answer_above_the_limit_is_refused(void **state _unused_)
{
	struct fake_step steps[] = {{NULL}};
	struct fake_server server;
	struct fixture f;
	size_t big = 128 << 10;
	char *answer = malloc(big + 512);
	int head = snprintf(answer, 512, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");

	memset(answer + head, 'x', big);
	answer[(size_t)head + big] = 0;
	steps[0].answer = answer;
	fake_start(&server, steps, 1);
	open_client(&f, server.url, 0);
	struct etcd_response *r = etcd_request_wait(etcd_get(f.client, "/k", NULL, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_BAD_ANSWER);
	assert_non_null(strstr(r->error_text, "larger than 65536 bytes"));
	etcd_response_unref(r);
	close_client(&f);
	fake_stop(&server);
	free(answer);
}

static void sync_takes_over_the_advertised_urls(void **state _unused_)
{
	static const struct fake_step steps[] = {{ANSWER("200 OK",
		"{\"members\":[{\"id\":\"a\",\"name\":\"a\",\"peerURLs\":[],\"clientURLs\":[\"http://x:1\","
		"\"https://y:2\"]},{\"id\":\"b\",\"name\":\"b\",\"peerURLs\":[],\"clientURLs\":[\"http://z:3/"
		"\"]}]}")}};
	struct fake_server server;
	struct fixture f;

	fake_start(&server, steps, 1);
	open_client(&f, server.url, 0);
	struct etcd_response *r = etcd_request_wait(etcd_sync(f.client, NULL, NULL));
	assert_int_equal(r->outcome, ETCD_OK);
	assert_int_equal(r->member_count, 2);
	assert_int_equal(etcd_client_endpoint_count(f.client), 3);
	assert_string_equal(etcd_client_endpoint(f.client, 0), "http://x:1");
	assert_string_equal(etcd_client_endpoint(f.client, 1), "https://y:2");
	assert_string_equal(etcd_client_endpoint(f.client, 2), "http://z:3");
	assert_null(etcd_client_endpoint(f.client, 3));
	etcd_response_unref(r);
	close_client(&f);
	fake_stop(&server);
}

static void count_call(const struct etcd_response *response _unused_, void *userdata)
{
	(*(int *)userdata)++;
}

static void a_cancelled_request_calls_nothing(void **state _unused_)
{
	static const struct fake_step steps[] = {{NULL, FAKE_HANG}, {NODE}};
	struct fake_server server;
	struct fixture f;
	int cancelled = 0, done = 0;

	fake_start(&server, steps, 2);
	open_client(&f, server.url, 0);
	struct etcd_request *request = etcd_get(f.client, "/k", NULL, count_call, &cancelled);
	while (!fake_count(&server))
		uv_run(&f.loop, UV_RUN_NOWAIT);
	assert_null(etcd_request_cancel(request));
	etcd_get(f.client, "/k", NULL, count_call, &done);
	etcd_wait(f.client);
	assert_int_equal(cancelled, 0);
	assert_int_equal(done, 1);
	close_client(&f);
	fake_stop(&server);
}

struct self_cancelling {
	struct etcd_request *request;
	int calls;
};

static void cancel_self(const struct etcd_response *response, void *userdata)
{
	struct self_cancelling *self = userdata;

	self->request = etcd_request_cancel(self->request);
	self->calls += response->outcome == ETCD_OK;
}

static void cancelling_a_request_in_its_own_callback_is_harmless(void **state _unused_)
{
	static const struct fake_step steps[] = {{NODE}};
	struct self_cancelling self = {0};
	struct fake_server server;
	struct fixture f;

	fake_start(&server, steps, 1);
	open_client(&f, server.url, 0);
	self.request = etcd_get(f.client, "/k", NULL, cancel_self, &self);
	etcd_wait(f.client);
	assert_int_equal(self.calls, 1);
	close_client(&f);
	fake_stop(&server);
}

static void free_client(const struct etcd_response *response, void *userdata)
{
	struct fixture *f = userdata;

	assert_int_equal(response->outcome, ETCD_OK);
	f->client = etcd_client_free(f->client);
}

static void the_client_may_be_freed_in_a_callback_with_requests_under_way(void **state _unused_)
{
	static const struct fake_step steps[] = {{NULL, FAKE_HANG}, {NODE}};
	struct fake_server server;
	struct fixture f;
	int other = 0;

	fake_start(&server, steps, 2);
	open_client(&f, server.url, 0);
	etcd_get(f.client, "/a", NULL, count_call, &other);
	while (!fake_count(&server))
		uv_run(&f.loop, UV_RUN_NOWAIT);
	etcd_get(f.client, "/b", NULL, free_client, &f);
	while (f.client)
		uv_run(&f.loop, UV_RUN_ONCE);
	close_client(&f);
	assert_int_equal(other, 0);
	fake_stop(&server);
}

static void bad_endpoints_make_no_client(void **state _unused_)
{
	struct etcd_client *client = NULL;
	char *error = NULL;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_true(etcd_client_new(&loop, &(struct etcd_client_options){.endpoints = "https://a:1/b"},
			    &client, &error) < 0);
	assert_null(client);
	assert_non_null(strstr(error, "not of the form"));
	free(error);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- an answer that is told piece by piece ---- */

#define TREE                                                                                               \
	"{\"action\":\"get\",\"node\":{\"key\":\"/t\",\"dir\":true,\"nodes\":["                            \
	"{\"key\":\"/t/a\",\"value\":\"br{ace\\\"}\",\"modifiedIndex\":5},"                                \
	"{\"key\":\"/t/d\",\"dir\":true,\"nodes\":[{\"key\":\"/t/d/e\",\"dir\":true,\"modifiedIndex\":3}," \
	"{\"key\":\"/t/d/f\",\"value\":\"\",\"ttl\":9}]},{\"key\":\"/t/n\",\"dir\":true,\"nodes\":[]}"     \
	"],\"modifiedIndex\":2}}\n"

struct told {
	char text[512];
	int begun;
	int outcome, code; /* of the end */
	uint64_t index;
};

static void tell(const struct etcd_response *head, const struct etcd_node *node, void *userdata)
{
	struct told *told = userdata;
	size_t len = strlen(told->text);

	told->index = head->etcd_index;
	if (!node) {
		told->begun++;
		told->text[0] = 0;
		return;
	}
	assert_int_equal(node->node_count, 0);
	snprintf(told->text + len, sizeof(told->text) - len, "%s=%s ", node->key,
		node->dir ? "dir" : node->value);
}

static void told_all(const struct etcd_response *response, void *userdata)
{
	struct told *told = userdata;

	assert_null(response->node);
	told->outcome = response->outcome;
	told->code = response->code;
}

static struct told get_in_pieces(const struct fake_step *steps, size_t count)
{
	static const struct etcd_get_options options = {.recursive = true, .each = tell};
	struct told told = {.outcome = -1};
	struct fake_server server;
	struct fixture f;
	char urls[128];

	fake_start(&server, steps, count);
	two_urls(urls, sizeof(urls), server.url, count > 1 ? server.url : "http://127.0.0.1:1");
	open_client(&f, urls, 300);
	etcd_get(f.client, "/t", &options, told_all, &told);
	etcd_wait(f.client);
	close_client(&f);
	fake_stop(&server);
	return told;
}

static void files_and_empty_directories_are_told_as_they_come(void **state _unused_)
{
	static const struct fake_step steps[] = {{ANSWER("200 OK", TREE)}};
	struct told told = get_in_pieces(steps, 1);

	assert_int_equal(told.outcome, ETCD_OK);
	assert_int_equal(told.begun, 1);
	assert_int_equal(told.index, 7);
	assert_string_equal(told.text, "/t/a=br{ace\"} /t/d/e=dir /t/d/f= /t/n=dir ");
}

static void what_broke_off_is_told_anew_by_the_next(void **state _unused_)
{
	static const struct fake_step steps[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 999\r\nX-Etcd-Index: 6\r\n\r\n"
		 "{\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/t/x\",\"value\":\"v\"},{\"key\":\"/t/y"},
		{ANSWER("200 OK", TREE)}};
	static const struct fake_step hanging[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"node\":{\"dir\":true,\"nodes\":[",
			FAKE_HANG},
		{ANSWER("200 OK", TREE)}};
	struct told told = get_in_pieces(steps, 2);

	assert_int_equal(told.outcome, ETCD_OK);
	assert_int_equal(told.begun, 2);
	assert_string_equal(told.text, "/t/a=br{ace\"} /t/d/e=dir /t/d/f= /t/n=dir ");
	told = get_in_pieces(hanging, 2);
	assert_int_equal(told.outcome, ETCD_OK);
	assert_int_equal(told.begun, 2);
}

static void what_is_no_tree_is_a_bad_answer(void **state _unused_)
{
	static const char *const answers[] = {
		ANSWER("200 OK", ""),
		ANSWER("200 OK", "hello"),
		ANSWER("200 OK", "}"),
		ANSWER("200 OK", "{\"action\":\"get\",\"node\":{\"key\":\"/t\",\"dir\":true,\"nodes\":["),
		ANSWER("200 OK", "{\"action\":\"get\",\"node\":{\"key\":\"/t\" \"value\":\"v\"}}"),
		ANSWER("200 OK", "{\"errorCode\":100,\"message\":\"m\"}"),
		ANSWER("200 OK", "{\"node\":{\"key\":\"/t"),
	};

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct fake_step step = {answers[i], FAKE_CLOSE};
		struct told told = get_in_pieces(&step, 1);

		assert_int_equal(told.outcome, ETCD_BAD_ANSWER);
	}
}

static void an_error_is_an_error_also_in_pieces(void **state _unused_)
{
	static const struct fake_step missing[] = {{ANSWER("404 Not Found",
		"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/t\",\"index\":12}")}};
	static const struct fake_step failing[] = {{RAFT_ERROR}, {ANSWER("200 OK", TREE)}};
	struct told told = get_in_pieces(missing, 1);

	assert_int_equal(told.outcome, ETCD_REFUSED);
	assert_int_equal(told.code, ETCD_KEY_NOT_FOUND);
	assert_int_equal(told.begun, 0);
	told = get_in_pieces(failing, 2);
	assert_int_equal(told.outcome, ETCD_OK);
	assert_int_equal(told.begun, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_read_brings_node_and_index),
		cmocka_unit_test(a_write_carries_conditions_in_the_query_and_the_value_in_the_form),
		cmocka_unit_test(a_read_moves_on_over_refused_cut_and_failing_endpoints),
		cmocka_unit_test(a_write_moves_on_only_when_no_connection_was_made),
		cmocka_unit_test(a_write_is_never_sent_twice),
		cmocka_unit_test(a_slow_endpoint_is_left_for_the_next_one),
		cmocka_unit_test(all_endpoints_dead_is_unreachable),
		cmocka_unit_test(etcds_error_is_the_answer),
		cmocka_unit_test(an_answer_above_the_limit_is_refused),
		cmocka_unit_test(sync_takes_over_the_advertised_urls),
		cmocka_unit_test(a_cancelled_request_calls_nothing),
		cmocka_unit_test(cancelling_a_request_in_its_own_callback_is_harmless),
		cmocka_unit_test(the_client_may_be_freed_in_a_callback_with_requests_under_way),
		cmocka_unit_test(bad_endpoints_make_no_client),
		cmocka_unit_test(files_and_empty_directories_are_told_as_they_come),
		cmocka_unit_test(what_broke_off_is_told_anew_by_the_next),
		cmocka_unit_test(what_is_no_tree_is_a_bad_answer),
		cmocka_unit_test(an_error_is_an_error_also_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
