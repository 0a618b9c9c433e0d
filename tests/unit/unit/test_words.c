#include "unit/words.h"
#include "base/memory.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void words_are_split_as_systemd_does(void **state)
{
	static const struct {
		const char *text, *words; /* words joined by '|'; NULL: refused */
		bool odd;
	} rows[] = {
		{"", ""},
		{"  a  b\tc ", "a|b|c|"},
		{"\"a b\" 'c d'", "a b|c d|"},
		{"a\"b c\"d", "ab cd|"},
		{"\"\" x", "|x|"},
		{"'it\\'s'", "it's|"},
		{"a\\ b", "a\\ b|", true},
		{"a\\sb", "a b|"},
		{"\\x41\\102\\u00e9\\n", "AB\xc3\xa9\n|"},
		{"\"while true; do echo \\\"x\\\"; done\"", "while true; do echo \"x\"; done|"},
		{"\\q", "\\q|", true},
		{"end\\", "end\\|", true},
		{"\"open", NULL},
		{"a 'open", NULL},
		{"'{ \"host\": \"%H\" }'", "{ \"host\": \"%H\" }|"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0), word = BUF_INIT(0);
		struct slice text = slice_str(rows[i].text);
		bool odd = false;
		int r;

		while ((r = unit_word_next(&text, true, &word, &odd)) > 0) {
			buf_add_slice(&out, buf_slice(&word));
			buf_add_char(&out, '|');
		}
		if (!rows[i].words) {
			assert_int_equal(r, -EINVAL);
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(buf_text(&out), rows[i].words);
		assert_int_equal(odd, rows[i].odd);
	}
}

static void continued_lines_are_joined_by_a_blank(void **state)
{
	static const char *const rows[][2] = {
		{"a", "a"},
		{"/bin/a \\\n  -b \\\n  -c", "/bin/a    -b    -c"},
		{"a \\\n# comment\n b", "a   b"},
		{"a \\\n ; comment \\\n b", "a   b"},
		{"a \\\n", "a"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		unit_value_join(slice_str(rows[i][0]), &out);
		assert_string_equal(buf_text(&out), rows[i][1]);
	}
}

static int expand_i(void *userdata, struct slice word, struct buf *out)
{
	(void)userdata;
	for (size_t i = 0; i < word.len; i++) {
		if (word.data[i] == '%' && i + 1 < word.len && word.data[i + 1] == 'i') {
			buf_add_str(out, "7 8");
			i++;
		} else {
			buf_add_char(out, word.data[i]);
		}
	}
	return 0;
}

static void print_commands(const struct unit_commands *commands, struct buf *out)
{
	for (size_t i = 0; i < commands->count; i++) {
		buf_printf(out, "%u:", commands->items[i].flags);
		for (size_t j = 0; j < commands->items[i].count; j++)
			buf_printf(out, "%s|", commands->items[i].words[j]);
	}
}

static void commands_have_prefixes_words_and_separators(void **state)
{
	static const struct {
		const char *text, *want, *error;
	} rows[] = {
		{"/bin/sleep 1", "0:/bin/sleep|1|"},
		{"sleep 1", "0:sleep|1|"},
		{"-/usr/bin/docker kill x", "1:/usr/bin/docker|kill|x|"},
		{"@/bin/sh mysh -c x", "2:/bin/sh|mysh|-c|x|"},
		{"-:@/bin/a b", "7:/bin/a|b|"},
		{"+/bin/a", "8:/bin/a|"},
		{"!!/bin/a", "16:/bin/a|"},
		{"/bin/a 1 ; /bin/b 2", "0:/bin/a|1|0:/bin/b|2|"},
		{"/bin/a \\; b;c", "0:/bin/a|;|b;c|"},
		{"/bin/a \"%i\" x%iy", "0:/bin/a|7 8|x7 8y|"},
		{"/bin/a \"b", NULL, "unbalanced quotes"},
		{"@/bin/a", NULL, "'@' needs a second word, which becomes argv[0]"},
		{"-", NULL, "the command has no executable"},
		{"bin/a", NULL, "\"bin/a\" is neither an absolute path nor a plain file name"},
		{"/bin/", NULL, "\"/bin/\" is a directory, not an executable"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(unit_commands_clear) struct unit_commands commands = {0};
		_cleanup_buf_ struct buf out = BUF_INIT(0), error = BUF_INIT(0);
		int r = unit_commands_parse(&commands, slice_str(rows[i].text), expand_i, NULL, &error);

		print_commands(&commands, &out);
		if (rows[i].error) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(buf_text(&error), rows[i].error);
		} else {
			assert_int_equal(r, 0);
			assert_string_equal(buf_text(&out), rows[i].want);
		}
	}
}

static void an_empty_command_line_clears_the_list(void **state)
{
	_cleanup_(unit_commands_clear) struct unit_commands commands = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(0);

	(void)state;
	assert_int_equal(unit_commands_parse(&commands, slice_str("/bin/a"), expand_i, NULL, &error), 0);
	assert_int_equal(commands.count, 1);
	assert_int_equal(unit_commands_parse(&commands, slice_str(""), expand_i, NULL, &error), 0);
	assert_int_equal(commands.count, 0);
}

static void spans_are_summed(void **state)
{
	static const struct {
		const char *text;
		int64_t ns; /* negative: the error */
	} rows[] = {
		{"5", 5000000000},
		{"0", 0},
		{"1min 30s", 90000000000},
		{"500ms", 500000000},
		{"1.5s", 1500000000},
		{"2h3m", 7380000000000},
		{"100 us", 100000},
		{"infinity", UNIT_SPAN_INFINITY},
		{"", -EINVAL},
		{"x", -EINVAL},
		{"5 parsecs", -EINVAL},
		{"-1", -EINVAL},
		{".5", 500000000},
		{"1 s 2 ms", 1002000000},
		{"99999999999999999999", -ERANGE},
		{"9223372036854775807", -ERANGE},
		{"1M", 2629800000000000},
		{"1 2", 3000000000},
		{"1h2", 3602000000000},
		{"1.", -EINVAL},
		{"1. 5s", -EINVAL},
		{" ", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t ns = 0;
		int r = unit_parse_span(slice_str(rows[i].text), &ns);

		assert_int_equal(r < 0 ? r : ns, rows[i].ns);
	}
}

static void booleans_and_signals_have_their_words(void **state)
{
	bool value = false;
	int number = 0;

	(void)state;
	assert_int_equal(unit_parse_bool(slice_str("Yes"), &value), 0);
	assert_true(value);
	assert_int_equal(unit_parse_bool(slice_str("off"), &value), 0);
	assert_false(value);
	assert_int_equal(unit_parse_bool(slice_str("2"), &value), -EINVAL);
	assert_int_equal(unit_parse_signal(slice_str("SIGINT"), &number), 0);
	assert_int_equal(number, SIGINT);
	assert_int_equal(unit_parse_signal(slice_str("KILL"), &number), 0);
	assert_int_equal(number, SIGKILL);
	assert_int_equal(unit_parse_signal(slice_str("10"), &number), 0);
	assert_int_equal(number, 10);
	assert_int_equal(unit_parse_signal(slice_str("RTMIN+3"), &number), 0);
	assert_int_equal(number, SIGRTMIN + 3);
	assert_int_equal(unit_parse_signal(slice_str("SIGFOO"), &number), -EINVAL);
	assert_int_equal(unit_parse_signal(slice_str("0"), &number), -EINVAL);
	assert_string_equal(unit_signal_name(SIGTERM), "TERM");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_split_as_systemd_does),
		cmocka_unit_test(continued_lines_are_joined_by_a_blank),
		cmocka_unit_test(commands_have_prefixes_words_and_separators),
		cmocka_unit_test(an_empty_command_line_clears_the_list),
		cmocka_unit_test(spans_are_summed),
		cmocka_unit_test(booleans_and_signals_have_their_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
