#include "unit/environment.h"
#include "base/memory.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void files_are_read_as_systemd_reads_them(void **state)
{
	static const struct {
		const char *text, *want;
		size_t skipped;
	} rows[] = {
		{"A=1\nB=2", "A=1|B=2|"},
		{"# c\n; d\n\n  A = x y  \n", "A=x y|"},
		{"A='it is' \nB=\"a \\\"b\\\" \\n $c\"\n", "A=it is|B=a \"b\" \\n $c|"},
		{"A=a\\\nb\nB=c\\ d\n", "A=ab|B=c d|"},
		{"A=\nB=''\n", "A=|B=|"},
		{"A='x'y\"z\"\n", "A=xy\"z\"|"},
		{"A='x'\"z\"\n", "A=xz|"},
		{"A=1\nA=2\n", "A=2|"},
		{"nonsense\n1A=x\nA-B=y\nOK=1\n", "OK=1|", 3},
		{"A='two\nlines'\n", "A=two\nlines|"},
		{"COREOS_PUBLIC_IPV4=10.0.0.1\r\n", "COREOS_PUBLIC_IPV4=10.0.0.1|"},
		{"# comment \\\nA=1\nB=2\n", "B=2|"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(unit_environment_done) struct unit_environment environment = {0};
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		assert_int_equal(
			unit_environment_read(&environment, slice_str(rows[i].text)), rows[i].skipped);
		for (size_t j = 0; j < environment.count; j++)
			buf_printf(&out, "%s|", environment.items[j]);
		assert_string_equal(buf_text(&out), rows[i].want);
	}
}

static void variables_are_expanded_in_words(void **state)
{
	static const struct {
		const char *word, *want, *unset;
	} rows[] = {
		{"plain", "plain|", ""},
		{"$TWO", "one|two three|", ""},
		{"${TWO}", "one 'two three'|", ""},
		{"x${ONE}y", "x1y|", ""},
		{"x$ONE", "x$ONE|", ""},
		{"$ONE/x", "", "ONE/x"},
		{"$$ONE", "$ONE|", ""},
		{"$${ONE}", "${ONE}|", ""},
		{"${NONE}", "|", "NONE"},
		{"$NONE", "", "NONE"},
		{"$EMPTY", "", ""},
		{"${ONE", "${ONE|", ""},
		{"${IP}:${ONE}", "10.0.0.1:1|", ""},
	};
	_cleanup_(unit_environment_done) struct unit_environment environment = {0};

	(void)state;
	assert_int_equal(unit_environment_assign(&environment, slice_str("ONE=1")), 0);
	assert_int_equal(unit_environment_assign(&environment, slice_str("TWO=one 'two three'")), 0);
	assert_int_equal(unit_environment_assign(&environment, slice_str("EMPTY=")), 0);
	assert_int_equal(unit_environment_assign(&environment, slice_str("IP=10.0.0.1")), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *words[] = {(char *)rows[i].word, NULL};
		_cleanup_buf_ struct buf out = BUF_INIT(0), unset = BUF_INIT(0);
		char **argv = unit_argv_expand(words, &environment, &unset);

		for (size_t j = 0; argv[j]; j++)
			buf_printf(&out, "%s|", argv[j]);
		unit_argv_free(argv);
		assert_string_equal(buf_text(&out), rows[i].want);
		assert_string_equal(buf_text(&unset), rows[i].unset);
	}
}

static void bad_assignments_are_refused(void **state)
{
	_cleanup_(unit_environment_done) struct unit_environment environment = {0};

	(void)state;
	assert_int_equal(unit_environment_assign(&environment, slice_str("novalue")), -EINVAL);
	assert_int_equal(unit_environment_assign(&environment, slice_str("1A=x")), -EINVAL);
	assert_int_equal(unit_environment_assign(&environment, slice_str("=x")), -EINVAL);
	assert_int_equal(unit_environment_assign(&environment, slice_str("A=\x01")), -EINVAL);
	assert_null(unit_environment_get(&environment, slice_str("A")));
}

static void an_expansion_that_grows_without_bound_is_refused(void **state)
{
	_cleanup_(unit_environment_done) struct unit_environment environment = {0};
	_cleanup_buf_ struct buf value = BUF_INIT(0), word = BUF_INIT(0);

	(void)state;
	buf_add_fill(&value, 'x', 100000);
	assert_int_equal(unit_environment_set(&environment, slice_str("A"), buf_slice(&value)), 0);
	for (size_t i = 0; i < 100; i++)
		buf_add_str(&word, "${A}");
	char *words[] = {word.data, NULL};
	assert_null(unit_argv_expand(words, &environment, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_read_as_systemd_reads_them),
		cmocka_unit_test(variables_are_expanded_in_words),
		cmocka_unit_test(bad_assignments_are_refused),
		cmocka_unit_test(an_expansion_that_grows_without_bound_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
