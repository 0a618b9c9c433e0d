/* The functions over a store, and the first generation's dot. */
#include "confd/functions.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

struct pair {
	const char *key, *value;
};

struct function_case {
	const char *template, *want; /* want: the output, or the end of the error */
};

static struct confd_node *leaf_new(struct arena *arena, const struct pair *pair)
{
	struct confd_node *node = confd_node_new(arena, slice_str(pair->key));

	node->value = slice_str(pair->value);
	return node;
}

static void render(struct arena *arena, const struct confd_tree *tree, const char *prefix, const char *text,
	struct buf *out)
{
	_cleanup_(template_freep) struct template *template = NULL;
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct functions_data data = {.tree = tree};
	struct template_run run = {.arena = arena, .user = &data};

	if (template_parse("x", slice_str(text), confd_funcs, confd_func_count, &template, &error) < 0 ||
		template_execute(template, &run, functions_dot(arena, tree, slice_str(prefix)), out, &error) <
			0) {
		buf_clear(out);
		buf_add_slice(out, buf_slice(&error));
	}
}

static void run_cases(const struct pair *pairs, const struct function_case *cases, size_t count)
{
	_cleanup_(arena_done) struct arena arena;
	struct confd_tree tree;

	arena_init(&arena);
	confd_tree_init(&tree, &arena);
	for (; pairs->key; pairs++)
		confd_tree_add_root(&tree, leaf_new(&arena, pairs));
	confd_tree_finish(&tree, (struct slice){"", 0});
	for (size_t i = 0; i < count; i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		render(&arena, &tree, "", cases[i].template, &out);
		if (!slice_ends_with(buf_slice(&out), slice_str(cases[i].want)) ||
			(strncmp(buf_text(&out), "template:", 9) != 0 &&
				strcmp(buf_text(&out), cases[i].want) != 0))
			fail_msg("%s gives %s, want %s", cases[i].template, buf_text(&out), cases[i].want);
	}
}

static void a_key_may_be_a_value_and_a_directory(void **state)
{
	static const struct pair pairs[] = {{"/d", "1"}, {"/d/a", "2"}, {"/d/b/c", "3"}, {"/dx", "4"}, {0}};
	static const struct function_case cases[] = {
		{"{{ls \"/d\"}}{{ls \"/d/\"}}", "[a b d][a b]"},
		{"{{lsdir \"/d\"}}", "[b]"},
		{"{{getv \"/d\"}}{{getv \"/d/a\"}}", "12"},
		{"{{ls \"/\"}}", "[d dx]"},
		{"{{range gets \"/d*\"}}{{.Key}} {{end}}", "/d /dx "},
	};

	(void)state;
	run_cases(pairs, cases, ARRAY_LEN(cases));
}

static void limits_and_corners_of_functions_are_errors_not_crashes(void **state)
{
	static const struct pair pairs[] = {{"/a", "1"}, {0}};
	static const struct function_case cases[] = {
		{"{{seq 1 1000001}}", "error calling seq: more than 1000000 numbers"},
		{"{{len (seq -9223372036854775808 9223372036854775807)}}", "more than 1000000 numbers"},
		{"{{len (seq 9223372036854775807 9223372036854775807)}}", "1"},
		{"{{mod -9223372036854775808 -1}}", "0"},
		{"{{replace \"\" \"\" \"x\" -1}}", "x"},
		{"{{replace \"aa\" \"a\" \"\" -1}}|", "|"},
		{"{{split \"a\" \"abc\"}}", "[a]"},
		{"{{base64Decode \"QQ=\"}}", "illegal base64 data at input byte 3"},
		{"{{base64Decode \"QQ==x\"}}", "illegal base64 data at input byte 4"},
		{"{{base64Decode \"Q===\"}}", "illegal base64 data at input byte 1"},
		{"{{MapDir nil}}", "MapDir of nil"},
		{"{{json \"{\\\"a\\\":1e999}\"}}",
			"json: cannot unmarshal number 1e999 into Go value of type float64"},
		{"{{jsonArray \"[1\"}}", "unexpected end of JSON input"},
		{"{{jsonArray \"[\\\"\\\\u12\"}}",
			"invalid character ' ' in \\u hexadecimal character escape"},
		{"{{sortByLength (split \"\" \"\")}}", "[]"},
		{"{{with datetime}}{{(.AddDate 0 0 1).After .}}{{end}}", "true"},
	};

	(void)state;
	run_cases(pairs, cases, ARRAY_LEN(cases));
}

static void deep_json_is_refused(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), out = BUF_INIT(0);
	_cleanup_(arena_done) struct arena arena;
	struct confd_tree tree;

	(void)state;
	arena_init(&arena);
	confd_tree_init(&tree, &arena);
	buf_add_str(&text, "{{jsonArray `");
	buf_add_fill(&text, '[', 100000);
	buf_add_str(&text, "`}}");
	render(&arena, &tree, "", buf_text(&text), &out);
	assert_true(slice_ends_with(buf_slice(&out), SLICE_LITERAL("exceeded max depth")));
}

/* "/prod/web-1" as the directory, with what etcd would have sent below it. */
static void dot_is_the_flat_map_of_the_first_generation(void **state)
{
	static const struct pair leaves[] = {{"/prod/web-1/b", "B"}, {"/prod/web-1/a", "A"}};
	static const struct function_case cases[] = {
		{"{{range .web_1}}{{Base .Key}}={{.Value}} {{end}}", "a=A b=B sub= "},
		{"{{.web_1_a}}{{.web_1_sub_c}}", "AC"},
		{"{{range $k, $v := .}}{{$k}} {{end}}", "web_1 web_1_a web_1_b web_1_sub web_1_sub_c "},
		{"{{range .web_1_sub}}{{.Key}} {{.Dir}} {{.ModifiedIndex}}{{end}}",
			"/prod/web-1/sub/c false 7"},
		{"{{range .nothing}}x{{else}}none{{end}}", "none"},
		{"{{getv \"/web-1/a\"}}", "A"},
		{"{{range $k, $v := MapDir (index .web_1 2)}}{{$k}}={{$v}}{{end}}", "c=C"},
		{"{{range GetDir \"web_1\"}}{{.Key}}={{.Value}} {{end}}", "a=A b=B sub_c=C "},
	};
	_cleanup_(arena_done) struct arena arena;
	struct confd_node *root, *sub, *leaf;
	struct confd_tree tree;

	(void)state;
	arena_init(&arena);
	confd_tree_init(&tree, &arena);
	root = confd_node_new(&arena, SLICE_LITERAL("/prod/web-1"));
	root->dir = true;
	sub = confd_node_new(&arena, SLICE_LITERAL("/prod/web-1/sub"));
	sub->dir = true;
	leaf = leaf_new(&arena, &(struct pair){"/prod/web-1/sub/c", "C"});
	leaf->modified_index = 7;
	confd_node_add(&arena, sub, leaf);
	confd_node_add(&arena, root, sub);
	for (size_t i = 0; i < ARRAY_LEN(leaves); i++)
		confd_node_add(&arena, root, leaf_new(&arena, &leaves[i]));
	confd_tree_add_root(&tree, root);
	confd_tree_finish(&tree, SLICE_LITERAL("/prod"));
	assert_int_equal(tree.leaf_count, 3);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		render(&arena, &tree, "/prod", cases[i].template, &out);
		assert_string_equal(buf_text(&out), cases[i].want);
	}
}

static void paths_are_cleaned_as_in_go(void **state)
{
	static const struct pair cases[] = {
		{"", "."},
		{"abc", "abc"},
		{"a//b", "a/b"},
		{"a/./b", "a/b"},
		{"a/../b", "b"},
		{"../a", "../a"},
		{"../../a/..", "../.."},
		{"/..", "/"},
		{"/../a", "/a"},
		{"//a//", "/a"},
		{"/a/b/../../..", "/"},
		{"a/..", "."},
		{"./a", "a"},
		{"..a/..", "."},
	};
	_cleanup_(arena_done) struct arena arena;

	(void)state;
	arena_init(&arena);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(path_clean(&arena, slice_str(cases[i].key)).data, cases[i].value);
	assert_string_equal(path_join(&arena, SLICE_LITERAL("/prod/"), SLICE_LITERAL("/a/")).data, "/prod/a");
	assert_int_equal(path_join(&arena, SLICE_LITERAL(""), SLICE_LITERAL("")).len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_may_be_a_value_and_a_directory),
		cmocka_unit_test(limits_and_corners_of_functions_are_errors_not_crashes),
		cmocka_unit_test(deep_json_is_refused),
		cmocka_unit_test(dot_is_the_flat_map_of_the_first_generation),
		cmocka_unit_test(paths_are_cleaned_as_in_go),
	};

	return cmocka_run_group_tests_name("functions", tests, NULL, NULL);
}
