#include "manager/unitlog.h"
#include "base/memory.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char dir[64];
	struct unit_log log;
};

static void fixture_open(struct fixture *fixture, size_t max_bytes)
{
	char path[128];

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/flotilla-unitlog-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	(void)snprintf(path, sizeof(path), "%s/log", fixture->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/log/old", fixture->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	unit_log_init(&fixture->log, fixture->dir, "web.service", max_bytes);
}

static void fixture_done(struct fixture *fixture)
{
	char path[128];

	(void)unlink(fixture->log.path);
	(void)unlink(fixture->log.old_path);
	unit_log_done(&fixture->log);
	(void)snprintf(path, sizeof(path), "%s/log/old", fixture->dir);
	assert_int_equal(rmdir(path), 0);
	(void)snprintf(path, sizeof(path), "%s/log", fixture->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(fixture->dir), 0);
}

static size_t count_lines(const struct buf *text)
{
	size_t count = 0;

	for (size_t i = 0; i < text->len; i++)
		count += text->data[i] == '\n';
	return count;
}

static void the_last_lines_come_back_in_order(void **state)
{
	_cleanup_buf_ struct buf line = BUF_INIT(0), tail = BUF_INIT(0), none = BUF_INIT(0),
				 all = BUF_INIT(0);
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture, 4096);
	assert_int_equal(unit_log_tail(&fixture.log, 10, &none), 0);
	assert_int_equal(none.len, 0);
	unit_log_append(&fixture.log, 1000001, 7, "sh", SLICE_LITERAL("one"), &line);
	assert_string_equal(buf_text(&line), "1000001 7 sh one");
	unit_log_append(&fixture.log, 2000000, 7, "odd name", SLICE_LITERAL("two words"), NULL);
	unit_log_append(&fixture.log, 3000000, 8, "", SLICE_LITERAL(""), NULL);
	assert_int_equal(unit_log_tail(&fixture.log, 2, &tail), 0);
	assert_string_equal(buf_text(&tail), "2000000 7 odd_name two words\n3000000 8 _ \n");
	assert_int_equal(unit_log_tail(&fixture.log, -1, &all), 0);
	assert_int_equal(count_lines(&all), 3);
	fixture_done(&fixture);
}

static void two_bounded_files_hold_the_newest_messages(void **state)
{
	_cleanup_buf_ struct buf all = BUF_INIT(0);
	struct fixture fixture;
	struct stat now, old;

	(void)state;
	fixture_open(&fixture, 4096);
	for (int i = 0; i < 1000; i++) {
		char text[64];

		(void)snprintf(text, sizeof(text), "message %d", i);
		unit_log_append(&fixture.log, i, 1, "a", slice_str(text), NULL);
	}
	assert_int_equal(stat(fixture.log.path, &now), 0);
	assert_int_equal(stat(fixture.log.old_path, &old), 0);
	assert_true(now.st_size <= 4096 && old.st_size <= 4096 && old.st_size > 2048);
	assert_int_equal(unit_log_tail(&fixture.log, -1, &all), 0);
	assert_non_null(strstr(buf_text(&all), "message 999\n"));
	assert_null(strstr(buf_text(&all), "message 1\n"));
	assert_int_equal(
		count_lines(&all), (size_t)(now.st_size + old.st_size) / strlen("999 1 a message 999\n"));
	fixture_done(&fixture);
}

static void a_reopened_log_goes_on(void **state)
{
	_cleanup_buf_ struct buf all = BUF_INIT(0);
	struct fixture fixture;

	(void)state;
	fixture_open(&fixture, 4096);
	unit_log_append(&fixture.log, 1, 1, "a", SLICE_LITERAL("x"), NULL);
	unit_log_close(&fixture.log);
	unit_log_append(&fixture.log, 2, 1, "a", SLICE_LITERAL("y"), NULL);
	assert_int_equal(unit_log_tail(&fixture.log, 5, &all), 0);
	assert_string_equal(buf_text(&all), "1 1 a x\n2 1 a y\n");
	fixture_done(&fixture);
}

static void lines_print_as_journalctl_prints_them(void **state)
{
	static const struct {
		const char *line, *want;
	} rows[] = {
		{"1795334731000000 2743 bash Hello, World", "Nov 22 08:05:31 n1 bash[2743]: Hello, World\n"},
		{"1795334731999999 1 a ", "Nov 22 08:05:31 n1 a[1]: \n"},
		{"1795334731000000 1 a tab\there", "Nov 22 08:05:31 n1 a[1]: tab        here\n"},
		{"1795334731000000 1 a \x1b[31mred\x1b[0m", "Nov 22 08:05:31 n1 a[1]: red\n"},
		{"1795334731000000 1 a \x01\x02", "Nov 22 08:05:31 n1 a[1]: [2B blob data]\n"},
		{"1795334731000000 1 a \xff", "Nov 22 08:05:31 n1 a[1]: [1B blob data]\n"},
		{"1795334731000000 1 a \xc3\xa9\r", "Nov 22 08:05:31 n1 a[1]: \xc3\xa9\n"},
		{"torn", ""},
	};

	(void)state;
	assert_int_equal(setenv("TZ", "UTC", 1), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		unit_log_format(slice_str(rows[i].line), UNIT_LOG_SHORT, "n1", &out);
		assert_string_equal(buf_text(&out), rows[i].want);
	}
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	unit_log_format(slice_str(rows[0].line), UNIT_LOG_CAT, "n1", &out);
	assert_string_equal(buf_text(&out), "Hello, World\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_lines_come_back_in_order),
		cmocka_unit_test(two_bounded_files_hold_the_newest_messages),
		cmocka_unit_test(a_reopened_log_goes_on),
		cmocka_unit_test(lines_print_as_journalctl_prints_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
