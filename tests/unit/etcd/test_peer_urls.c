#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include "etcd/peer_urls.h"
#include "base/macros.h"
#include <cmocka.h>
#include <errno.h>

static void lists_have_no_url_twice_and_nothing_that_is_none(void **state)
{
	static const char *const one[] = {"http://a:1", "http://b:2", "http://a:1", NULL};
	static const char *const more[] = {
		"http://b:2", "nonsense", "http://c,d:4", "http://c:3/path", "http://c:3", NULL};
	static const char *const strange[] = {"http://a:2", NULL};
	_cleanup_peer_urls_ struct peer_urls urls = {0}, other = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	(void)state;
	peer_urls_write(&urls, &text);
	assert_string_equal(buf_text(&text), "");
	peer_urls_add(&urls, NULL);
	peer_urls_add(&urls, one);
	peer_urls_add(&urls, more);
	peer_urls_write(&urls, &text);
	assert_string_equal(buf_text(&text), "http://a:1,http://b:2,http://c:3");
	assert_false(peer_urls_meet(&urls, &other) || peer_urls_meet(&other, &urls));
	peer_urls_add(&other, strange);
	assert_false(peer_urls_meet(&urls, &other));
	peer_urls_add(&other, more);
	assert_true(peer_urls_meet(&urls, &other) && peer_urls_meet(&other, &urls));
}

static void what_is_written_can_be_read_and_what_is_told_is_checked(void **state)
{
	static const struct {
		const char *text, *written, *why;
	} cases[] = {
		{"http://a:1,http://b:2", "http://a:1,http://b:2", NULL},
		{" http://a:1 , http://a:1", "http://a:1", NULL},
		{"", "", NULL},
		{"http://a:1,", "http://a:1", NULL},
		{"http://a:1,x", NULL, "URL scheme must be http or https: x"},
		{"http://a:1,,http://b:2", NULL, "URL scheme must be http or https: "},
		{"http://a:1/x", NULL, "URL must not contain a path: http://a:1/x"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_peer_urls_ struct peer_urls urls = {0};
		_cleanup_buf_ struct buf text = BUF_INIT(0), why = BUF_INIT(0);

		assert_int_equal(
			peer_urls_read(slice_str(cases[i].text), &urls, &why), cases[i].why ? -EINVAL : 0);
		assert_string_equal(buf_text(&why), cases[i].why ? cases[i].why : "");
		peer_urls_write(&urls, &text);
		assert_string_equal(buf_text(&text), cases[i].written ? cases[i].written : "");
	}
}

static void lists_are_bounded(void **state)
{
	_cleanup_peer_urls_ struct peer_urls urls = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(0), why = BUF_INIT(0);

	(void)state;
	for (int i = 1; i <= PEER_URLS_MAX; i++)
		buf_printf(&text, "%shttp://a:%d", i > 1 ? "," : "", i);
	assert_int_equal(peer_urls_read(buf_slice(&text), &urls, &why), 0);
	assert_int_equal(urls.count, PEER_URLS_MAX);
	peer_urls_add(&urls, (const char *const[]){"http://b:1", NULL});
	assert_int_equal(urls.count, PEER_URLS_MAX);
	peer_urls_done(&urls);
	buf_add_str(&text, ",http://a:33");
	assert_int_equal(peer_urls_read(buf_slice(&text), &urls, &why), -EINVAL);
	assert_string_equal(buf_text(&why), "more than 32 peer URLs");
	assert_int_equal(urls.count, 0);
}

static void known_and_said_urls_take_turns(void **state)
{
	static const char *const of_membership[] = {"http://a:1", "http://a:2", NULL};
	static const char *const of_itself[] = {"http://a:2", "http://b:1", "http://b:2", NULL};
	static const char *const expected[] = {"http://a:1", "http://a:2", "http://b:1", "http://b:2"};
	_cleanup_peer_urls_ struct peer_urls known = {0}, said = {0};

	(void)state;
	assert_null(peer_urls_pick(&known, &said, 3));
	peer_urls_add(&known, of_membership);
	assert_string_equal(peer_urls_pick(&known, &said, 0), "http://a:1");
	assert_string_equal(peer_urls_pick(&known, &said, 1), "http://a:2");
	assert_string_equal(peer_urls_pick(&said, &known, 2), "http://a:1");
	peer_urls_add(&said, of_itself);
	for (size_t turn = 0; turn < 2 * ARRAY_LEN(expected); turn++)
		assert_string_equal(
			peer_urls_pick(&known, &said, turn), expected[turn % ARRAY_LEN(expected)]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_have_no_url_twice_and_nothing_that_is_none),
		cmocka_unit_test(what_is_written_can_be_read_and_what_is_told_is_checked),
		cmocka_unit_test(lists_are_bounded),
		cmocka_unit_test(known_and_said_urls_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
