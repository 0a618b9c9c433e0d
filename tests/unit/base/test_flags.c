/* Flags in both dialects, the environment, and the texts of their errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/flags.h"
#include <errno.h>
#include <stdlib.h>

static struct {
	bool debug;
	const char *name;
	struct flag_list nodes;
	int64_t count, wait;
	uint64_t size;
	double ratio;
} values;

static struct flag flags[] = {
	{"debug", FLAG_BOOL, &values.debug, "say more", NULL, "T_DEBUG"},
	{"name,n", FLAG_STRING, &values.name, "name of this member", "NAME", "T_NAME"},
	{"node", FLAG_LIST, &values.nodes, "an endpoint", "URL", "T_NODE"},
	{"count", FLAG_INT, &values.count, "how many", "N", "T_COUNT"},
	{"size", FLAG_UINT, &values.size, NULL, NULL, NULL},
	{"ratio", FLAG_FLOAT, &values.ratio, NULL, NULL, NULL},
	{"wait-this-long-for-an-answer", FLAG_DURATION, &values.wait, "how long", "DURATION", "T_WAIT"},
	{"old", FLAG_IGNORED, NULL, NULL, NULL, NULL},
	{0},
};

static char words_text[1000];
static char *words[20];
static int words_count;

/* Parses "a b c" as a command line; answers the rest joined by commas, or the error's text. */
static const char *parse(const char *line, enum flags_dialect dialect)
{
	static char answer[1000];
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	char *save = NULL;
	int count = -1, r;

	flags_done(flags);
	values.debug = false;
	values.name = "default";
	values.count = values.wait = 0;
	values.size = 0;
	snprintf(words_text, sizeof(words_text), "prog %s", line);
	words_count = 0;
	for (char *word = strtok_r(words_text, " ", &save); word; word = strtok_r(NULL, " ", &save))
		words[words_count++] = word;
	r = flags_parse(flags, dialect, words_count, words, &count, &why);
	answer[0] = '\0';
	if (r < 0) {
		assert_int_equal(r, -EINVAL);
		assert_int_equal(count, -1);
		snprintf(answer, sizeof(answer), "%s", buf_text(&why));
		return answer;
	}
	for (int i = 1; i <= count; i++) {
		strcat(answer, words[i]);
		strcat(answer, ",");
	}
	return answer;
}

static void one_dash_or_two_and_both_ways_to_give_a_value(void **state)
{
	(void)state;
	assert_string_equal(
		parse("-debug --name=x -count -5 --size 0x10 -ratio=1.5 rest", FLAGS_GO), "rest,");
	assert_true(values.debug);
	assert_string_equal(values.name, "x");
	assert_int_equal(values.count, -5);
	assert_int_equal(values.size, 16);
	assert_true(values.ratio > 1.49 && values.ratio < 1.51);
	assert_true(flags[0].set && !flags[0].from_env && !flags[2].set);
	assert_string_equal(
		parse("-n y -debug=false --old whatever -wait-this-long-for-an-answer 1m30s", FLAGS_GO), "");
	assert_string_equal(values.name, "y");
	assert_false(values.debug);
	assert_true(values.wait == INT64_C(90000000000));
	assert_string_equal(parse("-name= a", FLAGS_GO), "a,");
	assert_string_equal(values.name, "");
}

static void gos_dialect_stops_at_the_first_word(void **state)
{
	(void)state;
	assert_string_equal(parse("-debug word -name x", FLAGS_GO), "word,-name,x,");
	assert_string_equal(values.name, "default");
	assert_string_equal(parse("-debug -- -name x", FLAGS_GO), "-name,x,");
	assert_string_equal(parse("- -name x", FLAGS_GO), "-,-name,x,");
	/* A boolean does not take the next word. */
	assert_string_equal(parse("-debug false", FLAGS_GO), "false,");
	assert_true(values.debug);
}

static void flags_anywhere_are_found_between_words(void **state)
{
	(void)state;
	assert_string_equal(parse("set -debug key --name x value -- -count 5", FLAGS_ANYWHERE),
		"set,key,value,-count,5,");
	assert_true(values.debug);
	assert_string_equal(values.name, "x");
	assert_int_equal(values.count, 0);
	assert_string_equal(parse("a - b", FLAGS_ANYWHERE), "a,-,b,");
}

static void lists_gather_in_order(void **state)
{
	(void)state;
	assert_string_equal(parse("-node a -node=b --node c", FLAGS_GO), "");
	assert_int_equal(values.nodes.count, 3);
	assert_string_equal(values.nodes.items[0], "a");
	assert_string_equal(values.nodes.items[2], "c");
	assert_string_equal(parse("", FLAGS_GO), "");
	assert_int_equal(values.nodes.count, 0);
}

static void mistakes_are_told_in_go_words(void **state)
{
	static const char *const cases[][2] = {
		{"-nmae x", "flag provided but not defined: -nmae (did you mean -name?)"},
		{"-zzzzzz", "flag provided but not defined: -zzzzzz"},
		{"-count x", "invalid value \"x\" for flag -count: parse error"},
		{"-count 99999999999999999999",
			"invalid value \"99999999999999999999\" for flag -count: value out of range"},
		{"-size -1", "invalid value \"-1\" for flag -size: parse error"},
		{"-ratio 1x", "invalid value \"1x\" for flag -ratio: parse error"},
		{"-wait-this-long-for-an-answer 5",
			"invalid value \"5\" for flag -wait-this-long-for-an-answer: parse error"},
		{"-debug=maybe", "invalid boolean value \"maybe\" for -debug: parse error"},
		{"-name", "flag needs an argument: -name"},
		{"---name x", "bad flag syntax: ---name"},
		{"-=x", "bad flag syntax: -=x"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(parse(cases[i][0], FLAGS_GO), cases[i][1]);
}

static void the_environment_counts_where_no_flag_does(void **state)
{
	(void)state;
	setenv("T_NAME", "from-env", 1);
	setenv("T_DEBUG", "1", 1);
	setenv("T_NODE", "a,b", 1);
	setenv("T_COUNT", "", 1);
	assert_string_equal(parse("-node c", FLAGS_GO), "");
	assert_string_equal(values.name, "from-env");
	assert_true(values.debug && flags[0].set && flags[0].from_env);
	assert_int_equal(values.nodes.count, 1);
	assert_false(flags[2].from_env);
	assert_false(flags[3].set);
	assert_string_equal(parse("-name flag", FLAGS_GO), "");
	assert_string_equal(values.name, "flag");
	assert_int_equal(values.nodes.count, 2);
	assert_string_equal(values.nodes.items[1], "b");
	setenv("T_COUNT", "many", 1);
	assert_string_equal(parse("", FLAGS_GO), "invalid value \"many\" for T_COUNT: parse error");
	assert_string_equal(parse("-count 3", FLAGS_GO), ""); /* a flag hides a broken variable */
	unsetenv("T_NAME");
	unsetenv("T_DEBUG");
	unsetenv("T_NODE");
	unsetenv("T_COUNT");
	flags_done(flags);
}

static void help_is_aligned(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	(void)state;
	flags_add_help(&out, flags);
	assert_string_equal(buf_text(&out), "  --debug                         say more\n"
					    "  --name, -n NAME                 name of this member\n"
					    "  --node URL                      an endpoint\n"
					    "  --count N                       how many\n"
					    "  --wait-this-long-for-an-answer DURATION\n"
					    "                                  how long\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_dash_or_two_and_both_ways_to_give_a_value),
		cmocka_unit_test(gos_dialect_stops_at_the_first_word),
		cmocka_unit_test(flags_anywhere_are_found_between_words),
		cmocka_unit_test(lists_gather_in_order),
		cmocka_unit_test(mistakes_are_told_in_go_words),
		cmocka_unit_test(the_environment_counts_where_no_flag_does),
		cmocka_unit_test(help_is_aligned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
