/* What bounds a template: sizes, depths, steps, and that each bound is an error and not a crash. */
#include "template/template.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

struct limits {
	size_t max_output;
	uint64_t max_memory, max_steps;
};

static int repeat(struct template_call *call, const struct template_value *args, size_t count _unused_,
	struct template_value *ret)
{
	*ret = template_list_new(call->arena, &template_type_ints, (size_t)args[0].integer);
	return 0;
}

static const struct template_func funcs[] = {
	{"repeat", repeat, &template_type_ints, {&template_type_int}, 1, false}};

/* Parses and executes; `out` gets the output, or the error with "!" before it. */
static void run(struct slice text, struct limits limits, struct buf *ret)
{
	_cleanup_(template_freep) struct template *template = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT(limits.max_output), error = BUF_INIT(1 << 20);
	_cleanup_(arena_done) struct arena arena;
	struct template_run options = {
		.arena = &arena, .max_memory = limits.max_memory, .max_steps = limits.max_steps};
	int r;

	arena_init(&arena);
	r = template_parse("x", text, funcs, ARRAY_LEN(funcs), &template, &error);
	if (r == 0)
		r = template_execute(template, &options, template_int(1), &out, &error);
	if (r < 0)
		buf_add_char(ret, '!');
	buf_add_slice(ret, buf_slice(r < 0 ? &error : &out));
}

static void assert_result(const char *text, struct limits limits, const char *want)
{
	_cleanup_buf_ struct buf got = BUF_INIT(0);

	run(slice_str(text), limits, &got);
	assert_string_equal(buf_text(&got), want);
}

static void templates_nest_a_hundred_thousand_deep_and_no_deeper(void **state)
{
	static const char text[] = "{{define \"r\"}}{{if .}}{{with $x := 1}}{{template \"r\" "
				   ".}}{{end}}{{end}}{{end}}{{template \"r\" 1}}";
	_cleanup_buf_ struct buf got = BUF_INIT(0);

	(void)state;
	run(slice_str(text), (struct limits){0}, &got);
	assert_true(
		slice_ends_with(buf_slice(&got), SLICE_LITERAL("exceeded maximum template depth (100000)")));
}

static void statements_nest_as_deep_as_they_like(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), got = BUF_INIT(0);

	(void)state;
	for (int i = 0; i < 100000; i++)
		buf_add_str(&text, "{{if .}}");
	buf_add_str(&text, "x");
	for (int i = 0; i < 100000; i++)
		buf_add_str(&text, "{{end}}");
	run(buf_slice(&text), (struct limits){0}, &got);
	assert_string_equal(buf_text(&got), "x");
}

static void parentheses_have_a_limit(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), got = BUF_INIT(0);

	(void)state;
	buf_add_str(&text, "{{");
	buf_add_fill(&text, '(', 100000);
	run(buf_slice(&text), (struct limits){0}, &got);
	assert_string_equal(buf_text(&got), "!template: x:1: parentheses nested more than 500 deep");
}

static void the_text_has_a_limit(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), got = BUF_INIT(0);

	(void)state;
	buf_add_fill(&text, 'a', TEMPLATE_TEXT_MAX + 1);
	run(buf_slice(&text), (struct limits){0}, &got);
	assert_string_equal(buf_text(&got), "!template: x: the template is larger than 4194304 bytes");
}

static void output_memory_and_steps_have_limits(void **state)
{
	(void)state;
	assert_result("{{range repeat 10}}0123456789{{end}}", (struct limits){.max_output = 100},
		"01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901"
		"23456789");
	assert_result("{{range repeat 11}}0123456789{{end}}", (struct limits){.max_output = 100},
		"!template: x:1:19: executing \"x\" at <0123456789>: the output is larger than 100 bytes");
	assert_result("{{range repeat 1000000}}{{printf \"%1000d\" 1 | len}}{{end}}",
		(struct limits){.max_memory = 100 << 20},
		"!template: x:1:26: executing \"x\" at <{{printf \"%1000d\" 1 | len}}>: "
		"the template uses more than 104857600 bytes");
	assert_result("{{range repeat 10}}{{end}}{{1}}", (struct limits){.max_steps = 5},
		"!template: x:1:15: executing \"x\" at <10>: the template takes more than 5 steps");
	assert_result("{{printf \"%999999d%999999d\" 1 2 | len}}", (struct limits){0}, "1999998");
}

static void data_may_hold_itself(void **state)
{
	_cleanup_(template_freep) struct template *template = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT(1 << 20), error = BUF_INIT(0);
	_cleanup_(arena_done) struct arena arena;
	struct template_value map;

	(void)state;
	arena_init(&arena);
	map = template_map_new(&arena, &template_type_map);
	template_map_put(&arena, &map, template_str("me"), map);
	assert_int_equal(template_parse("x", SLICE_LITERAL("{{.me.me.me}}"), NULL, 0, &template, &error), 0);
	assert_int_equal(
		template_execute(template, &(struct template_run){.arena = &arena}, map, &out, &error), 0);
	assert_non_null(strstr(buf_text(&out), "...:..."));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(templates_nest_a_hundred_thousand_deep_and_no_deeper),
		cmocka_unit_test(statements_nest_as_deep_as_they_like),
		cmocka_unit_test(parentheses_have_a_limit),
		cmocka_unit_test(the_text_has_a_limit),
		cmocka_unit_test(output_memory_and_steps_have_limits),
		cmocka_unit_test(data_may_hold_itself),
	};

	return cmocka_run_group_tests_name("limits of templates", tests, NULL, NULL);
}
