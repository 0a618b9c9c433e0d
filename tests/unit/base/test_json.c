/* JSON strings as encoding/json writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/json.h"

static void strings_are_written_like_encoding_json_does(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *json;
	} cases[] = {
		{"", 0, "\"\""},
		{"plain text", 10, "\"plain text\""},
		{"a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\""},
		{"<a href='x'>&</a>", 17, "\"\\u003ca href='x'\\u003e\\u0026\\u003c/a\\u003e\""},
		{"\n\r\t\b\f\x01\x1f\x7f", 8, "\"\\n\\r\\t\\u0008\\u000c\\u0001\\u001f\x7f\""},
		{"a\0b", 3, "\"a\\u0000b\""},
		{"caf\xc3\xa9 \xf0\x9f\x98\x80", 10, "\"caf\xc3\xa9 \xf0\x9f\x98\x80\""},
		{"\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", 9, "\"\\u2028\\u2029\xe2\x80\xaa\""},
		{"x\xff\xc3y\xe2\x82", 6, "\"x\\ufffd\\ufffdy\\ufffd\\ufffd\""},
		{"\xef\xbf\xbd", 3, "\"\xef\xbf\xbd\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		json_add_string(&out, slice_make(cases[i].text, cases[i].len));
		assert_string_equal(buf_text(&out), cases[i].json);
	}
}

/* Runs are looked through in blocks: whatever stands at whatever place of however long a text is seen. */
static void odd_bytes_are_found_at_every_place(void **state)
{
	static const struct {
		const char *text;
		const char *json;
	} odd[] = {
		{"\"", "\\\""},
		{"\x1f", "\\u001f"},
		{"<", "\\u003c"},
		{"&", "\\u0026"},
		{"\\", "\\\\"},
		{"\xff", "\\ufffd"},
		{"\xc3\xa9", "\xc3\xa9"},
		{"\x7f", "\x7f"},
	};
	static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		for (size_t len = 0; len < sizeof(plain); len++)
			for (size_t at = 0; at <= len; at++) {
				_cleanup_buf_ struct buf text = BUF_INIT(0), json = BUF_INIT(0),
							 out = BUF_INIT(0);

				buf_printf(&text, "%.*s%s%.*s", (int)at, plain, odd[i].text, (int)(len - at),
					plain);
				buf_printf(&json, "\"%.*s%s%.*s\"", (int)at, plain, odd[i].json,
					(int)(len - at), plain);
				json_add_string(&out, buf_slice(&text));
				assert_string_equal(buf_text(&out), buf_text(&json));
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_are_written_like_encoding_json_does),
		cmocka_unit_test(odd_bytes_are_found_at_every_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
