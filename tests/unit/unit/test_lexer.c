#include "unit/unit.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

struct row {
	const char *text;
	const char *options; /* "Section|name|value" joined by '^'; NULL: refused */
	const char *error;
	unsigned line;
};

static const struct row rows[] = {
	{"", ""},
	{"hello\nworld\n", ""},
	{"[Unit]\n", ""},
	{"[Unit]\nDescription=Foo\n", "Unit|Description|Foo"},
	{"[Unit]\nDescription=Foo", "Unit|Description|Foo"},
	{"[Unit]\r\nDescription=Foo\r\n", "Unit|Description|Foo"},
	{"junk [Unit]\n  Description =  Foo bar \t\n", "Unit|Description|Foo bar"},
	{"# c\n[Unit]\n# x=y\n; z=1\nA=1\n", "Unit|A|1"},
	{"[Unit]\n# swallows \\\nA=1\nB=2\n", "Unit|B|2"},
	{"[Unit]\n# swallows \\ \nA=1\nB=2\n", "Unit|B|2"},
	{"# swallows \\\n[Unit]\nA=1\n[S]\nB=2\n", "S|B|2"},
	{"[Unit]\nA=\n", "Unit|A|"},
	{"[Unit]\nA=b=c\n", "Unit|A|b=c"},
	{"[Unit]\n=v\n", "Unit||v"},
	{"[S]\nExecStart=/bin/a \\\n  -b \\\n  -c\nX=1\n", "S|ExecStart|/bin/a \\\n  -b \\\n  -c^S|X|1"},
	{"[S]\nA=x \\\n\nB=1\n", "S|A|x \\\n^S|B|1"},
	{"[S]\nA=x \\", "S|A|x \\"},
	{"[S]\nA=x \\\n", "S|A|x \\\n"},
	{"[S]\nA=x\\ \nB=1\n", "S|A|x\\^S|B|1"},
	{"[S]\nA=1\n[T]\nB=2\n[S]\nC=3\n", "S|A|1^T|B|2^S|C|3"},
	{"[S\nT]\nA=1\n", "S\nT|A|1"},
	{"[S]  \t\nA=1\n", "S|A|1"},
	{"[S]\n \n\t A=1\n", "S|A|1"},
	{"[S]\n\xc2\xa0"
	 "A=1\xc2\xa0\n",
		"S|A|1"},
	{"[S]\nA\xff=1\n", "S|A\xef\xbf\xbd|1"},
	{"[S]\nA=1\xff\n", "S|A|1\xff"},
	{"[Unit", NULL, "unable to find end of section", 1},
	{"[Unit]\nA=1\n[X\nB=2\n", NULL, "unable to find end of section", 3},
	{"[Unit]x\n", NULL, "found garbage after section name : [120]", 1},
	{"[Unit]\nA=1\n[S] ab\n", NULL, "found garbage after section name Unit: [97 98]", 3},
	{"[Unit]\nA=1\nDescription\nB=2\n", NULL, "unexpected newline encountered while parsing option name",
		3},
	{"[Unit]\nDescription", NULL, "EOF", 2},
};

static void print_options(const struct unit_file *file, struct buf *out)
{
	for (size_t i = 0; i < file->count; i++) {
		if (i)
			buf_add_char(out, '^');
		buf_add_slice(out, file->options[i].section);
		buf_add_char(out, '|');
		buf_add_slice(out, file->options[i].name);
		buf_add_char(out, '|');
		buf_add_slice(out, file->options[i].value);
	}
}

static void texts_become_the_options_that_fleet_reads(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(unit_file_freep) struct unit_file *file = NULL;
		_cleanup_buf_ struct buf out = BUF_INIT(0);
		struct unit_error error = {0};
		int r = unit_file_parse(slice_str(rows[i].text), &file, &error);

		if (!rows[i].options) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(error.text, rows[i].error);
			assert_int_equal(error.line, rows[i].line);
			assert_null(file);
			continue;
		}
		if (r < 0)
			fail_msg("row %zu: %s", i, error.text);
		print_options(file, &out);
		assert_string_equal(buf_text(&out), rows[i].options);
	}
}

static int parse_long(size_t before, size_t len, struct unit_error *error)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	buf_add_str(&text, "[S]\n");
	buf_add_fill(&text, '\n', before);
	buf_add_str(&text, "A=");
	buf_add_fill(&text, 'x', len);
	buf_add_str(&text, "\nB=1\n");
	return unit_file_parse(buf_slice(&text), &file, error);
}

static void a_line_is_too_long_when_2048_buffered_bytes_hold_no_newline(void **state)
{
	struct unit_error error = {0};

	(void)state;
	assert_int_equal(parse_long(0, 2045, &error), 0);
	assert_int_equal(parse_long(0, 2046, &error), -EINVAL);
	assert_string_equal(error.text, "line too long (max 2048 bytes)");
	assert_int_equal(error.line, 2);
	/* The window ends inside the line, fewer than 2048 bytes of it are buffered: the original lets it
	 * pass. */
	assert_int_equal(parse_long(4096 - 4 - 1000, 3000, &error), 0);
	assert_int_equal(parse_long(4096 - 4 - 2100, 3000, &error), -EINVAL);
}

static void each_option_knows_its_line(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;

	(void)state;
	assert_int_equal(
		unit_file_parse(slice_str("[U]\n\nA=1 \\\n  2\nB=3\n# c\n[S]\nC=1"), &file, NULL), 0);
	assert_int_equal(file->count, 3);
	assert_int_equal(file->options[0].line, 3);
	assert_int_equal(file->options[1].line, 5);
	assert_int_equal(file->options[2].line, 8);
}

static void sizes_are_bounded(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	struct unit_error error = {0};

	(void)state;
	buf_add_str(&text, "[S]\n");
	for (size_t i = 0; i <= UNIT_OPTIONS_MAX; i++)
		buf_add_str(&text, "A=1\n");
	assert_int_equal(unit_file_parse(buf_slice(&text), &file, &error), -E2BIG);
	assert_string_equal(error.text, "unit file has too many options");
	buf_add_fill(&text, '#', UNIT_TEXT_MAX);
	assert_int_equal(unit_file_parse(buf_slice(&text), &file, &error), -E2BIG);
}

static void errors_name_file_and_line(void **state)
{
	struct unit_error error = {.text = "EOF", .line = 3};
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	(void)state;
	unit_error_format(&error, "web.service", &out);
	assert_string_equal(buf_text(&out), "web.service:3: EOF");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_become_the_options_that_fleet_reads),
		cmocka_unit_test(a_line_is_too_long_when_2048_buffered_bytes_hold_no_newline),
		cmocka_unit_test(each_option_knows_its_line),
		cmocka_unit_test(sizes_are_bounded),
		cmocka_unit_test(errors_name_file_and_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
