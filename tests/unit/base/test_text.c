/* Text helpers against what Go answers for the same input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/text.h"
#include <errno.h>

static void numbers_are_read_strictly(void **state)
{
	static const struct {
		const char *text;
		int unsigned_error, signed_error;
		uint64_t value;
	} cases[] = {
		{"0", 0, 0, 0},
		{"007", 0, 0, 7},
		{"18446744073709551615", 0, -ERANGE, UINT64_MAX},
		{"18446744073709551616", -ERANGE, -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, -ERANGE, 0},
		{"9223372036854775807", 0, 0, INT64_MAX},
		{"", -EINVAL, -EINVAL, 0},
		{"+5", -EINVAL, 0, 5},
		{"-5", -EINVAL, 0, (uint64_t)-5},
		{"-9223372036854775808", -EINVAL, 0, (uint64_t)INT64_MIN},
		{"-9223372036854775809", -EINVAL, -ERANGE, 0},
		{"-", -EINVAL, -EINVAL, 0},
		{"--1", -EINVAL, -EINVAL, 0},
		{"0x10", -EINVAL, -EINVAL, 0},
		{" 1", -EINVAL, -EINVAL, 0},
		{"1_000", -EINVAL, -EINVAL, 0},
		{"99999999999999999999999x", -EINVAL, -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t u = 77;
		int64_t s = 77;

		assert_int_equal(text_to_u64(slice_str(cases[i].text), &u), cases[i].unsigned_error);
		assert_true(u == (cases[i].unsigned_error ? 77 : cases[i].value));
		assert_int_equal(text_to_i64(slice_str(cases[i].text), &s), cases[i].signed_error);
		assert_true(s == (cases[i].signed_error ? 77 : (int64_t)cases[i].value));
	}
}

static void hexadecimal_is_read(void **state)
{
	uint64_t value = 1;

	(void)state;
	assert_int_equal(text_hex_to_u64(SLICE_LITERAL("cdf818194e3a8C32"), &value), 0);
	assert_true(value == UINT64_C(0xcdf818194e3a8c32));
	assert_int_equal(text_hex_to_u64(SLICE_LITERAL("0000000000000000f"), &value), 0);
	assert_int_equal(value, 15);
	assert_int_equal(text_hex_to_u64(SLICE_LITERAL("10000000000000000"), &value), -ERANGE);
	assert_int_equal(text_hex_to_u64(SLICE_LITERAL("0x1"), &value), -EINVAL);
	assert_int_equal(text_hex_digit('9'), 9);
	assert_int_equal(text_hex_digit('a'), 10);
	assert_int_equal(text_hex_digit('F'), 15);
	assert_int_equal(text_hex_digit('g'), -1);
	assert_int_equal(text_hex_digit('\0'), -1);
	assert_int_equal(text_hex_to_u64(SLICE_LITERAL(""), &value), -EINVAL);
	assert_int_equal(value, 15);
}

static void truth_is_what_go_calls_true(void **state)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
	static const char *const neither[] = {"", "yes", "no", "tRUE", "01", "true "};
	bool value;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		value = false;
		assert_int_equal(text_to_bool(slice_str(yes[i]), &value), 0);
		assert_true(value);
		assert_int_equal(text_to_bool(slice_str(no[i]), &value), 0);
		assert_false(value);
		assert_int_equal(text_to_bool(slice_str(neither[i]), &value), -EINVAL);
	}
}

static void durations_are_go_durations(void **state)
{
	static const struct {
		const char *text;
		int error;
		int64_t ns;
	} cases[] = {
		{"0", 0, 0},
		{"30s", 0, INT64_C(30000000000)},
		{"1m30s", 0, INT64_C(90000000000)},
		{"500ms", 0, 500000000},
		{"1.5h", 0, INT64_C(5400000000000)},
		{".5s", 0, 500000000},
		{"1.s", 0, 1000000000},
		{"-1.5s", 0, -1500000000},
		{"+2us", 0, 2000},
		{"2\xc2\xb5s", 0, 2000},
		{"1h1m1s1ms1us1ns", 0, INT64_C(3661001001001)},
		{"0.3333333333333333333h", 0, INT64_C(1200000000000)},
		{"9223372036854775807ns", 0, INT64_MAX},
		{"-9223372036854775808ns", 0, INT64_MIN},
		{"9223372036854775808ns", -EINVAL, 0},
		{"3000000h", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"3", -EINVAL, 0},
		{"-", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{".s", -EINVAL, 0},
		{"1 s", -EINVAL, 0},
		{"1x", -EINVAL, 0},
		{"1s ", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t ns = 77;

		assert_int_equal(text_to_duration(slice_str(cases[i].text), &ns), cases[i].error);
		if (ns != (cases[i].error ? 77 : cases[i].ns))
			fail_msg("%s: %lld", cases[i].text, (long long)ns);
	}
}

static void texts_are_trimmed_and_cut(void **state)
{
	struct slice before, after;

	(void)state;
	assert_true(slice_is(text_trim(SLICE_LITERAL(" \t\r\n\v\fa b \n")), "a b"));
	assert_true(slice_is(text_trim(SLICE_LITERAL("  ")), ""));
	assert_true(text_cut(SLICE_LITERAL("a=b=c"), '=', &before, &after));
	assert_true(slice_is(before, "a") && slice_is(after, "b=c"));
	assert_true(text_cut(SLICE_LITERAL("="), '=', &before, &after));
	assert_true(!before.len && !after.len);
	assert_false(text_cut(SLICE_LITERAL("abc"), '=', &before, &after));
	assert_true(slice_is(before, "abc") && slice_is(after, ""));
	assert_false(text_cut(slice_make(NULL, 0), '=', &before, &after));
}

/* The table of Go's path/match_test.go. */
static const struct {
	const char *pattern, *name;
	int answer;
} path_matches[] = {
	{"abc", "abc", 1},
	{"*", "abc", 1},
	{"*c", "abc", 1},
	{"a*", "a", 1},
	{"a*", "abc", 1},
	{"a*", "ab/c", 0},
	{"a*/b", "abc/b", 1},
	{"a*/b", "a/c/b", 0},
	{"a*b*c*d*e*/f", "axbxcxdxe/f", 1},
	{"a*b*c*d*e*/f", "axbxcxdxexxx/f", 1},
	{"a*b*c*d*e*/f", "axbxcxdxe/xxx/f", 0},
	{"a*b*c*d*e*/f", "axbxcxdxexxx/fff", 0},
	{"a*b?c*x", "abxbbxdbxebxczzx", 1},
	{"a*b?c*x", "abxbbxdbxebxczzy", 0},
	{"ab[c]", "abc", 1},
	{"ab[b-d]", "abc", 1},
	{"ab[e-g]", "abc", 0},
	{"ab[^c]", "abc", 0},
	{"ab[^b-d]", "abc", 0},
	{"ab[^e-g]", "abc", 1},
	{"a\\*b", "a*b", 1},
	{"a\\*b", "ab", 0},
	{"a?b", "a\342\230\272b", 1},
	{"a[^a]b", "a\342\230\272b", 1},
	{"a???b", "a\342\230\272b", 0},
	{"a[^a][^a][^a]b", "a\342\230\272b", 0},
	{"[a-\xce\xb6]*", "\xce\xb1", 1},
	{"*[a-\xce\xb6]", "A", 0},
	{"a?b", "a/b", 0},
	{"a*b", "a/b", 0},
	{"[\\]a]", "]", 1},
	{"[\\-]", "-", 1},
	{"[x\\-]", "x", 1},
	{"[x\\-]", "-", 1},
	{"[x\\-]", "z", 0},
	{"[\\-x]", "x", 1},
	{"[\\-x]", "-", 1},
	{"[\\-x]", "a", 0},
	{"[]a]", "]", -EINVAL},
	{"[-]", "-", -EINVAL},
	{"[x-]", "x", -EINVAL},
	{"[x-]", "-", -EINVAL},
	{"[x-]", "z", -EINVAL},
	{"[-x]", "x", -EINVAL},
	{"[-x]", "-", -EINVAL},
	{"[-x]", "a", -EINVAL},
	{"\\", "a", -EINVAL},
	{"[a-b-c]", "a", -EINVAL},
	{"[", "a", -EINVAL},
	{"[^", "a", -EINVAL},
	{"[^bc", "a", -EINVAL},
	{"a[", "a", -EINVAL},
	{"a[", "ab", -EINVAL},
	{"a[", "x", -EINVAL},
	{"a/b[", "x", -EINVAL},
	{"*x", "xxx", 1},
	{"", "", 1},
	{"", "a", 0},
	{"*", "", 1},
	{"**", "abc", 1},
};

static void patterns_match_like_path_match(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(path_matches); i++) {
		int answer =
			text_path_match(slice_str(path_matches[i].pattern), slice_str(path_matches[i].name));

		if (answer != path_matches[i].answer)
			fail_msg("%s on %s: %d", path_matches[i].pattern, path_matches[i].name, answer);
	}
}

static void times_are_printed_like_rfc3339nano(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00Z"},
		{-1, "1969-12-31T23:59:59.999999999Z"},
		{INT64_C(951782400000000000), "2000-02-29T00:00:00Z"},
		{INT64_C(1709251199120000000), "2024-02-29T23:59:59.12Z"},
		{INT64_C(1767225600000000001), "2026-01-01T00:00:00.000000001Z"},
		{INT64_C(4107542400000000000), "2100-03-01T00:00:00Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
		{INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		text_add_rfc3339(&out, cases[i].ns);
		assert_string_equal(buf_text(&out), cases[i].text);
	}
}

static void quoting_is_go_quoting(void **state)
{
	static const struct {
		const char *text, *quoted;
	} cases[] = {
		{"", "\"\""},
		{"a\"b\\c", "\"a\\\"b\\\\c\""},
		{"\a\b\f\n\r\t\v", "\"\\a\\b\\f\\n\\r\\t\\v\""},
		{"\x01\x1f\x7f", "\"\\x01\\x1f\\x7f\""},
		{"\xff\xc3", "\"\\xff\\xc3\""},
		{"caf\xc3\xa9 \xe2\x98\xba", "\"caf\xc3\xa9 \xe2\x98\xba\""},
		{"\xc2\x80\xc2\xa0\xe2\x80\xa8", "\"\\u0080\\u00a0\\u2028\""},
		{"\xf3\xa0\x80\x81", "\"\\U000e0001\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		text_add_quoted(&out, slice_str(cases[i].text));
		assert_string_equal(buf_text(&out), cases[i].quoted);
	}
}

static void utf8_is_decoded_strictly(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		uint32_t rune;
	} cases[] = {
		{"a", 1, 'a'},
		{"\xc3\xa9", 2, 0xe9},
		{"\xe2\x82\xac", 3, 0x20ac},
		{"\xf0\x9f\x98\x80", 4, 0x1f600},
		{"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
		{"\xc0\x80", 0, 0},	    /* overlong */
		{"\xe0\x80\xaf", 0, 0},	    /* overlong */
		{"\xed\xa0\x80", 0, 0},	    /* a surrogate */
		{"\xf4\x90\x80\x80", 0, 0}, /* past the end */
		{"\x80", 0, 0},
		{"\xe2\x82", 0, 0},
		{"\xc3(", 0, 0},
		{"\xff", 0, 0},
		{"", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t rune = 0;

		assert_int_equal(text_utf8_decode(slice_str(cases[i].text), &rune), cases[i].len);
		if (cases[i].len)
			assert_int_equal(rune, cases[i].rune);
	}
}

static void the_nearest_word_is_found_when_one_is_near(void **state)
{
	static const char *const words[] = {"listen-client-urls", "name", "data-dir", "debug", NULL};

	(void)state;
	assert_string_equal(text_nearest("listen-client-url", words), "listen-client-urls");
	assert_string_equal(text_nearest("nmae", words), "name");
	assert_string_equal(text_nearest("datadir", words), "data-dir");
	assert_null(text_nearest("zzz", words));
	assert_null(text_nearest("", words));
	assert_null(text_nearest("completely-different-words-here", words));
}

static void numbers_are_written(void **state)
{
	static const struct {
		uint64_t value;
		const char *text;
	} cases[] = {{0, "0"}, {7, "7"}, {10, "10"}, {1234567890123, "1234567890123"},
		{UINT64_MAX, "18446744073709551615"}};
	char room[TEXT_U64_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_true(slice_is(text_from_u64(cases[i].value, room), cases[i].text));
}

static void errors_and_bytes_are_spelled(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	(void)state;
	text_add_errno(&out, -ECONNREFUSED);
	buf_add_char(&out, '|');
	text_add_errno(&out, ENOENT);
	buf_add_char(&out, '|');
	text_add_errno(&out, EIO);
	buf_add_char(&out, '|');
	text_add_hex(&out, "\x00\xfe\x10", 3);
	assert_string_equal(
		buf_text(&out), "connection refused|no such file or directory|input/output error|00fe10");
}

/* RFC 4648, 10; and bytes that a signed char would spoil. */
static void base64_is_rfc_4648(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		const char *text;
	} cases[] = {{"", 0, ""}, {"f", 1, "Zg=="}, {"fo", 2, "Zm8="}, {"foo", 3, "Zm9v"},
		{"foob", 4, "Zm9vYg=="}, {"fooba", 5, "Zm9vYmE="}, {"foobar", 6, "Zm9vYmFy"},
		{"\0\xff\xfe", 3, "AP/+"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		text_add_base64(&out, slice_make(cases[i].data, cases[i].len));
		assert_string_equal(buf_text(&out), cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_read_strictly),
		cmocka_unit_test(hexadecimal_is_read),
		cmocka_unit_test(truth_is_what_go_calls_true),
		cmocka_unit_test(durations_are_go_durations),
		cmocka_unit_test(texts_are_trimmed_and_cut),
		cmocka_unit_test(patterns_match_like_path_match),
		cmocka_unit_test(times_are_printed_like_rfc3339nano),
		cmocka_unit_test(quoting_is_go_quoting),
		cmocka_unit_test(utf8_is_decoded_strictly),
		cmocka_unit_test(the_nearest_word_is_found_when_one_is_near),
		cmocka_unit_test(numbers_are_written),
		cmocka_unit_test(errors_and_bytes_are_spelled),
		cmocka_unit_test(base64_is_rfc_4648),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
