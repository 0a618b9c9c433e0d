#include "etcdclient/target.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void endpoints_are_brought_to_one_form(void **state _unused_)
{
	static const struct {
		const char *text, *urls; /* joined by blanks */
	} cases[] = {
		{"http://127.0.0.1:2379", "http://127.0.0.1:2379"},
		{"http://127.0.0.1:2379/", "http://127.0.0.1:2379"},
		{"127.0.0.1:4001", "http://127.0.0.1:4001"},
		{"localhost:1,http://b:2", "http://localhost:1 http://b:2"},
		{" http://a:1 , http://b:2,", "http://a:1 http://b:2"},
		{"http://[::1]:2379", "http://[::1]:2379"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(0), joined = BUF_INIT(0);
		char **urls = NULL;
		size_t count = 0;
		assert_int_equal(target_parse_endpoints(cases[i].text, &urls, &count, &error), 0);
		for (size_t j = 0; j < count; j++)
			buf_printf(&joined, "%s%s", j ? " " : "", urls[j]);
		assert_string_equal(buf_text(&joined), cases[i].urls);
		target_endpoints_free(urls, count);
	}
}

static void bad_endpoints_are_refused_with_a_reason(void **state _unused_)
{
	static const struct {
		const char *text;
		int error;
		const char *why;
	} cases[] = {
		{"", -EINVAL, "no endpoint given"},
		{",", -EINVAL, "no endpoint given"},
		{"unix:///a", -EPROTONOSUPPORT, "the scheme must be http or https"},
		{"https://a:1,unix:///b", -EPROTONOSUPPORT, "\"unix:///b\""},
		{"http://a:1/v2", -EINVAL, "http://host:port"},
		{"http://a:1?x=y", -EINVAL, "http://host:port"},
		{"http://me@a:1", -EINVAL, "user or password before"},
		{"http://:80", -EINVAL, ""},
		{"http://%zz", -EINVAL, "invalid URL escape"},
		{"ftp://a:1", 0, ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(0);
		char **urls = NULL;
		size_t count = 0;
		int r = target_parse_endpoints(cases[i].text, &urls, &count, &error);
		assert_true(r < 0);
		if (cases[i].error)
			assert_int_equal(r, cases[i].error);
		assert_non_null(strstr(buf_text(&error), cases[i].why));
		assert_null(urls);
	}
}

static void too_many_endpoints_are_refused(void **state _unused_)
{
	_cleanup_buf_ struct buf list = BUF_INIT(0), error = BUF_INIT(0);
	char **urls = NULL;
	size_t count = 0;

	for (int i = 0; i <= TARGET_ENDPOINTS_MAX; i++)
		buf_add_str(&list, "a:1,");
	assert_int_equal(target_parse_endpoints(buf_text(&list), &urls, &count, &error), -E2BIG);
}

static void keys_are_cleaned_and_escaped(void **state _unused_)
{
	static const struct {
		const char *prefix, *key, *target;
	} cases[] = {
		{NULL, "/k", "/v2/keys/k"},
		{NULL, "k", "/v2/keys/k"},
		{NULL, "", "/v2/keys/"},
		{NULL, "/", "/v2/keys/"},
		{NULL, "//a//b", "/v2/keys/a/b"},
		{NULL, "/a/../b", "/v2/keys/b"},
		{NULL, "/../../x", "/v2/keys/x"},
		{NULL, "/t/", "/v2/keys/t/"},
		{NULL, "/a b/\xc3\xa9", "/v2/keys/a%20b/%C3%A9"},
		{NULL, "/a?b#c%d&e=f", "/v2/keys/a%3Fb%23c%25d&e=f"},
		{"/p", "/k", "/v2/keys/p/k"},
		{"p/", "k", "/v2/keys/p/k"},
		{"/p", "/../k", "/v2/keys/p/k"},
		{"", "/k", "/v2/keys/k"},
		{"/", "/k", "/v2/keys/k"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf target = BUF_INIT(0);
		target_add_key(&target, cases[i].prefix, cases[i].key);
		assert_string_equal(buf_text(&target), cases[i].target);
	}
}

static void parameters_are_separated_and_escaped(void **state _unused_)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	buf_add_str(&out, "/x?");
	target_add_bool(&out, "dir", true);
	target_add_number(&out, "prevIndex", UINT64_MAX);
	target_add_param(&out, "value", SLICE_LITERAL("a b&c=\xff+"));
	assert_string_equal(
		buf_text(&out), "/x?dir=true&prevIndex=18446744073709551615&value=a+b%26c%3D%FF%2B");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoints_are_brought_to_one_form),
		cmocka_unit_test(bad_endpoints_are_refused_with_a_reason),
		cmocka_unit_test(too_many_endpoints_are_refused),
		cmocka_unit_test(keys_are_cleaned_and_escaped),
		cmocka_unit_test(parameters_are_separated_and_escaped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
