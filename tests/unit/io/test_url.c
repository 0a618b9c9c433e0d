/* URLs, percent coding and forms against what Go answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "io/http.h"
#include "io/url.h"
#include <errno.h>

static void urls_are_taken_apart(void **state)
{
	static const struct {
		const char *text;
		enum url_scheme scheme;
		const char *host;
		uint16_t port;
		const char *authority, *path, *query;
	} cases[] = {
		{"http://127.0.0.1:2379", URL_HTTP, "127.0.0.1", 2379, "127.0.0.1:2379", "", ""},
		{"http://h/", URL_HTTP, "h", 80, "h", "/", ""},
		{"HTTPS://h/a%20b?x=1&y=/?#frag", URL_HTTPS, "h", 443, "h", "/a%20b", "x=1&y=/?"},
		{"http://[::1]:4001/v2", URL_HTTP, "::1", 4001, "[::1]:4001", "/v2", ""},
		{"http://[fe80::1%25eth0]/", URL_HTTP, "fe80::1%eth0", 80, "[fe80::1%25eth0]", "/", ""},
		{"http://u:p@h:1/", URL_HTTP, "h", 1, "h:1", "/", ""},
		{"http://h?q", URL_HTTP, "h", 80, "h", "", "q"},
		{"http://h:/", URL_HTTP, "h", 80, "h:", "/", ""},
		{"unix:///var/run/fleet.sock", URL_UNIX, "", 0, "", "/var/run/fleet.sock", ""},
		{"127.0.0.1:4001", URL_HTTP, "127.0.0.1", 4001, "127.0.0.1:4001", "", ""},
		{":2379", URL_HTTP, "", 2379, ":2379", "", ""},
		{"host.name", URL_HTTP, "host.name", 80, "host.name", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_url_ struct url url = {0};

		assert_int_equal(url_parse(cases[i].text, &url, NULL), 0);
		assert_int_equal(url.scheme, cases[i].scheme);
		assert_string_equal(url.host, cases[i].host);
		assert_int_equal(url.port, cases[i].port);
		assert_string_equal(url.authority, cases[i].authority);
		assert_string_equal(url.path, cases[i].path);
		assert_string_equal(url.query, cases[i].query);
	}
}

static void broken_urls_are_refused_in_go_words(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"http://a b/", "parse \"http://a b/\": invalid character \" \" in host name"},
		{"http://h:x/", "parse \"http://h:x/\": invalid port \":x\" after host"},
		{"http://h:99999/", "parse \"http://h:99999/\": invalid port \":99999\" after host"},
		{"http://[::1/", "parse \"http://[::1/\": missing ']' in host"},
		{"http://h/%zz", "parse \"http://h/%zz\": invalid URL escape \"%zz\""},
		{"http://h/%2", "parse \"http://h/%2\": invalid URL escape \"%2\""},
		{"http://h/\n", "parse \"http://h/\\n\": net/url: invalid control character in URL"},
		{"ftp://h/", "parse \"ftp://h/\": unsupported protocol scheme \"ftp\""},
		{"://h/", "parse \"://h/\": missing protocol scheme"},
		{"", "parse \"\": missing host"},
		{"unix://", "parse \"unix://\": missing path of the socket"},
		{"http://h%00/", "parse \"http://h%00/\": invalid NUL in host name"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf why = BUF_INIT(0);
		struct url url = {0};

		assert_int_equal(url_parse(cases[i].text, &url, &why), -EINVAL);
		assert_string_equal(buf_text(&why), cases[i].why);
	}
}

static void escapes_are_undone(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0), why = BUF_INIT(0);

	(void)state;
	buf_add_str(&out, "before ");
	assert_int_equal(url_unescape(&out, SLICE_LITERAL("a%2Fb+c%41"), URL_PART_QUERY, &why), 0);
	assert_string_equal(buf_text(&out), "before a/b cA");
	assert_int_equal(url_unescape(&out, SLICE_LITERAL("+"), URL_PART_PATH, &why), 0);
	assert_string_equal(buf_text(&out), "before a/b cA+");
	assert_int_equal(url_unescape(&out, SLICE_LITERAL("x%4"), URL_PART_PATH, &why), -EINVAL);
	assert_string_equal(buf_text(&why), "invalid URL escape \"%4\"");
	assert_string_equal(buf_text(&out), "before a/b cA+");
}

static void texts_are_escaped_by_where_they_stand(void **state)
{
	static const char text[] = "a/b c?d&e=f+g%\xc3\xa9;,~";
	_cleanup_buf_ struct buf path = BUF_INIT(0), segment = BUF_INIT(0), query = BUF_INIT(0);

	(void)state;
	url_escape(&path, slice_str(text), URL_PART_PATH);
	assert_string_equal(buf_text(&path), "a/b%20c%3Fd&e=f+g%25%C3%A9;,~");
	url_escape(&segment, slice_str(text), URL_PART_SEGMENT);
	assert_string_equal(buf_text(&segment), "a%2Fb%20c%3Fd&e=f+g%25%C3%A9%3B%2C~");
	url_escape(&query, slice_str(text), URL_PART_QUERY);
	assert_string_equal(buf_text(&query), "a%2Fb+c%3Fd%26e%3Df%2Bg%25%C3%A9%3B%2C~");
}

static void forms_keep_their_order_and_tell_the_error(void **state)
{
	static const struct {
		const char *text, *pairs, *why;
	} cases[] = {
		{"", "", ""},
		{"a=1&b=2&a=3", "a=1,b=2,a=3,", ""},
		{"a&b=&=c&&d=e=f", "a=,b=,=c,d=e=f,", ""},
		{"v=a+b%20c%2B", "v=a b c+,", ""},
		{"a=%zz&b=2", "b=2,", "invalid URL escape \"%zz\""},
		{"a=%&b=%q", "", "invalid URL escape \"%\""},
		{"a=1;b=2&c=3", "c=3,", "invalid semicolon separator in query"},
		{"a=%zz&x;y&b=%q", "", "invalid semicolon separator in query"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf pairs = BUF_INIT(0), why = BUF_INIT(0);
		struct url_form form = {0};
		struct arena arena;

		arena_init(&arena);
		assert_int_equal(url_form_parse(&arena, &form, slice_str(cases[i].text), &why),
			*cases[i].why ? -EINVAL : 0);
		for (size_t k = 0; k < form.count; k++) {
			buf_add_slice(&pairs, form.pairs[k].name);
			buf_add_char(&pairs, '=');
			buf_add_slice(&pairs, form.pairs[k].value);
			buf_add_char(&pairs, ',');
		}
		assert_string_equal(buf_text(&pairs), cases[i].pairs);
		assert_string_equal(buf_text(&why), cases[i].why);
		arena_done(&arena);
	}
}

static void forms_have_a_ceiling(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), why = BUF_INIT(0);
	struct url_form form = {0};
	struct arena arena;

	(void)state;
	arena_init(&arena);
	for (int i = 0; i <= URL_FORM_MAX_PAIRS; i++)
		buf_add_str(&text, "a=1&");
	assert_int_equal(url_form_parse(&arena, &form, buf_slice(&text), &why), -E2BIG);
	assert_int_equal(form.count, URL_FORM_MAX_PAIRS);
	assert_true(slice_is(*url_form_get(&form, "a"), "1"));
	assert_null(url_form_get(&form, "b"));
	arena_done(&arena);
}

static void paths_are_cleaned_like_net_http_does(void **state)
{
	static const char *const cases[][2] = {{"", "/"}, {"/", "/"}, {"//", "/"}, {"/a", "/a"},
		{"/a/", "/a/"}, {"a", "/a"}, {"/a//b", "/a/b"}, {"/a/./b/", "/a/b/"}, {"/a/../b", "/b"},
		{"/../../x", "/x"}, {"/a/..", "/"}, {"/a/../", "/"}, {"/a/b/../..", "/"}, {"/...", "/..."}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		url_clean_path(&out, slice_str(cases[i][0]));
		assert_string_equal(buf_text(&out), cases[i][1]);
	}
}

static void host_and_port_are_split(void **state)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0), out = BUF_INIT(0);
	uint16_t port;
	char *host;

	(void)state;
	assert_int_equal(url_split_host_port("[::1]:80", &host, &port, NULL), 0);
	assert_string_equal(host, "::1");
	url_add_host_port(&out, host, port);
	free(host);
	assert_int_equal(url_split_host_port(":8080", &host, &port, NULL), 0);
	assert_string_equal(host, "");
	url_add_host_port(&out, "h", port);
	free(host);
	assert_string_equal(buf_text(&out), "[::1]:80h:8080");
	assert_int_equal(url_split_host_port("a", &host, &port, &why), -EINVAL);
	assert_string_equal(buf_text(&why), "address a: missing port in address");
	buf_clear(&why);
	assert_int_equal(url_split_host_port("::1:80", &host, &port, &why), -EINVAL);
	assert_string_equal(buf_text(&why), "address ::1:80: too many colons in address");
	assert_int_equal(url_split_host_port("a:", &host, &port, NULL), -EINVAL);
	assert_int_equal(url_split_host_port("a:70000", &host, &port, NULL), -EINVAL);
}

static void header_words_are_found_in_any_case(void **state)
{
	const struct http_header headers[] = {
		HTTP_HEADER("Connection", " keep-alive ,Upgrade"), HTTP_HEADER("connection", "close")};

	(void)state;
	assert_true(http_header_has_word(headers, 2, "CONNECTION", "upgrade"));
	assert_true(http_header_has_word(headers, 2, "connection", "Keep-Alive"));
	assert_true(http_header_has_word(headers, 2, "connection", "close"));
	assert_false(http_header_has_word(headers, 2, "connection", "clos"));
	assert_false(http_header_has_word(headers, 2, "upgrade", "close"));
	assert_true(http_is_token(SLICE_LITERAL("X-a_1!")));
	assert_false(http_is_token(SLICE_LITERAL("a b")));
	assert_false(http_is_token(SLICE_LITERAL("")));
	assert_false(http_is_token(SLICE_LITERAL("a\x80")));
	assert_int_equal(http_token_len(SLICE_LITERAL("form-data; x=1")), 9);
	assert_int_equal(http_token_len(SLICE_LITERAL("abc")), 3);
	assert_int_equal(http_token_len(SLICE_LITERAL("/abc")), 0);
	assert_true(http_equal_nocase(SLICE_LITERAL("X-Odd_Name"), "x-oDD_nAME"));
	assert_false(http_equal_nocase(SLICE_LITERAL("X-Odd"), "x-odd2"));
	assert_false(http_equal_nocase(SLICE_LITERAL("@"), "`"));
	assert_string_equal(http_status_text(412), "Precondition Failed");
	assert_string_equal(http_status_text(299), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_are_taken_apart),
		cmocka_unit_test(broken_urls_are_refused_in_go_words),
		cmocka_unit_test(escapes_are_undone),
		cmocka_unit_test(texts_are_escaped_by_where_they_stand),
		cmocka_unit_test(forms_keep_their_order_and_tell_the_error),
		cmocka_unit_test(forms_have_a_ceiling),
		cmocka_unit_test(paths_are_cleaned_like_net_http_does),
		cmocka_unit_test(host_and_port_are_split),
		cmocka_unit_test(header_words_are_found_in_any_case),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
