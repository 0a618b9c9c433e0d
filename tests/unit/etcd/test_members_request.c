#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include "etcd/members_request.h"
#include <cmocka.h>

static const struct slice json_type = SLICE_LITERAL("application/json");

static struct arena arena;

static int setup(void **state)
{
	(void)state;
	arena_init(&arena);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_done(&arena);
	return 0;
}

static void refused(struct slice body, const char *expected)
{
	struct members_request request;
	const char *message;

	assert_int_equal(members_request_parse(&arena, &json_type, body, &request, &message), 400);
	assert_string_equal(message, expected);
}

static void good_bodies_give_sorted_urls(void **state)
{
	struct members_request request;
	const char *message;

	(void)state;
	assert_int_equal(
		members_request_parse(&arena, &json_type,
			slice_str("{\"peerurls\":[\" http://b:2 \",\"http://a:1\"],\"x\":[1,{}]} \n"),
			&request, &message),
		0);
	assert_int_equal(request.url_count, 2);
	assert_string_equal(request.urls[0], "http://a:1");
	assert_string_equal(request.urls[1], "http://b:2");
	assert_null(request.urls[2]);
}

static void bad_bodies_are_refused_in_the_words_of_the_original(void **state)
{
	static const char *const cases[][2] = {
		{"", "unexpected end of JSON input"}, {" ", "unexpected end of JSON input"},
		{"{", "unexpected end of JSON input"}, {"[1", "unexpected end of JSON input"},
		{"{\"a\"", "unexpected end of JSON input"}, {"{\"a\":\"", "unexpected end of JSON input"},
		{"bad", "invalid character 'b' looking for beginning of value"},
		{"{}x", "invalid character 'x' after top-level value"},
		{"{'a':1}", "invalid character '\\'' looking for beginning of object key string"},
		{"{\"a\" 1}", "invalid character '1' after object key"},
		{"{\"a\":1 1}", "invalid character '1' after object key:value pair"},
		{"[1 1]", "invalid character '1' after array element"},
		{"tru", "invalid character ' ' in literal true (expecting 'e')"},
		{"-", "invalid character ' ' in numeric literal"},
		{"1.", "invalid character ' ' after decimal point in numeric literal"},
		{"1e+x", "invalid character 'x' in exponent of numeric literal"},
		{"01", "invalid character '1' after top-level value"},
		{"\"\\q\"", "invalid character 'q' in string escape code"},
		{"\"\\u12x4\"", "invalid character 'x' in \\u hexadecimal character escape"},
		{"\"a\nb\"", "invalid character '\\x0a' in string literal"}, {"{}", "no valid URLs given"},
		{"null", "no valid URLs given"}, {"{\"peerURLs\":null}", "no valid URLs given"},
		{"{\"peerURLs\":[]}", "no valid URLs given"},
		{"{\"peerURLs\":\"x\"}",
			"json: cannot unmarshal string into Go struct field .peerURLs of type []string"},
		{"{\"peerURLs\":[1]}",
			"json: cannot unmarshal number into Go struct field .peerURLs of type string"},
		{"{\"peerURLs\":[null]}", "URL scheme must be http or https: "},
		{"{\"peerURLs\":[\"http://a:1\",\"bad\"]}", "URL scheme must be http or https: bad"},
		{"{\"peerURLs\":[\"http://a:1/x\"]}", "URL must not contain a path: http://a:1/x"},
		{"{\"peerURLs\":[\"https://a:1\"]}", "TLS is not supported yet, use http: https://a:1"},
		{"\"\\ud800\"", "invalid JSON"}, /* Go would take it */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		refused(slice_str(cases[i][0]), cases[i][1]);
}

static void what_is_no_object_is_named(void **state)
{
	static const char *const cases[][2] = {{"[]", "array"}, {"\"x\"", "string"}, {"1", "number"},
		{"99999999999999999999", "number"}, {"true", "bool"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		refused(slice_str(cases[i][0]),
			arena_printf(&arena,
				"json: cannot unmarshal %s into Go value of type struct { PeerURLs []string "
				"\"json:\\\"peerURLs\\\"\" }",
				cases[i][1]));
}

static void limits_hold(void **state)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct members_request request;
	const char *message;

	(void)state;
	buf_add_str(&body, "{\"peerURLs\":[\"http://a:0\"");
	for (int i = 1; i <= IDENTITY_URLS_MAX; i++)
		buf_printf(&body, ",\"http://a:%d\"", i);
	buf_add_str(&body, "]}");
	refused(buf_slice(&body), "more than 16 peer URLs");
	buf_clear(&body);
	buf_add_str(&body, "{\"peerURLs\":[\"http://");
	buf_add_fill(&body, 'a', 300);
	buf_add_str(&body, ":2380\"]}");
	assert_int_equal(
		members_request_parse(&arena, &json_type, buf_slice(&body), &request, &message), 400);
	assert_non_null(strstr(message, "URL is too long (312 bytes"));
	buf_clear(&body);
	buf_add_fill(&body, '[', 100000);
	refused(buf_slice(&body), "exceeded max depth");
	assert_int_equal(members_request_parse(&arena, NULL, slice_str("{}"), &request, &message), 415);
	assert_string_equal(message, "Bad Content-Type , accept application/json");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(good_bodies_give_sorted_urls),
		CASE(bad_bodies_are_refused_in_the_words_of_the_original),
		CASE(what_is_no_object_is_named),
		CASE(limits_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
