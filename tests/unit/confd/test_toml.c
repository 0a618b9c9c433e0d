/* TOML: what is accepted and what it means, what is refused and what is said about it. */
#include "confd/toml.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/* A value as JSON-like text, to compare. */
static void add_value(struct buf *out, const struct toml *value)
{
	switch (value->type) {
	case TOML_STRING:
		buf_printf(out, "\"%.*s\"", (int)value->text.len, value->text.data);
		return;
	case TOML_TIME:
		buf_printf(out, "@%.*s", (int)value->text.len, value->text.data);
		return;
	case TOML_INTEGER:
		buf_add_i64(out, value->integer);
		return;
	case TOML_FLOAT:
		buf_printf(out, "%g", value->number);
		return;
	case TOML_BOOL:
		buf_add_str(out, value->boolean ? "true" : "false");
		return;
	default:
		break;
	}
	buf_add_char(out, value->type == TOML_ARRAY ? '[' : '{');
	for (const struct toml *item = value->first; item; item = item->next) {
		if (item != value->first)
			buf_add_char(out, ',');
		if (value->type == TOML_TABLE)
			buf_printf(out, "%.*s:", (int)item->key.len, item->key.data);
		add_value(out, item);
	}
	buf_add_char(out, value->type == TOML_ARRAY ? ']' : '}');
}

struct toml_case {
	const char *text, *want; /* want: the tree, or the error */
};

static void run_cases(const struct toml_case *cases, size_t count, bool accepted)
{
	for (size_t i = 0; i < count; i++) {
		_cleanup_buf_ struct buf got = BUF_INIT(0);
		_cleanup_(arena_done) struct arena arena;
		struct toml *root;
		int r;

		arena_init(&arena);
		r = toml_parse(slice_str(cases[i].text), &arena, &root, &got);
		if (r == 0)
			add_value(&got, root);
		if ((r == 0) != accepted || strcmp(buf_text(&got), cases[i].want) != 0)
			fail_msg("%s\n  gives %s\n  want  %s", cases[i].text, buf_text(&got), cases[i].want);
	}
}

static void documents_become_trees(void **state)
{
	static const struct toml_case cases[] = {
		{"", "{}"},
		{"# only a comment", "{}"},
		{"\xef\xbb\xbf"
		 "a = 1\r\nb = 2\r\n",
			"{a:1,b:2}"},
		{"a = \"x\" # y\nb = 'c:\\d'", "{a:\"x\",b:\"c:\\d\"}"},
		{"a = \"\\t\\\"\\\\\\u00e9\\U0001F600\"", "{a:\"\t\"\\\xc3\xa9\xf0\x9f\x98\x80\"}"},
		{"a = \"\"\"\nx\ny\"\"\"", "{a:\"x\ny\"}"},
		{"a = \"\"\"x \\\n   y\"\"\"", "{a:\"x y\"}"},
		{"a = \"\"\"\"q\"\"\"\"", "{a:\"\"q\"\"}"},
		{"a = '''\n'x'\n'''", "{a:\"'x'\n\"}"},
		{"a = 1_000\nb = -17\nc = +5\nd = 0xdead_beef\ne = 0o17\nf = 0b101",
			"{a:1000,b:-17,c:5,d:3735928559,e:15,f:5}"},
		{"a = 9223372036854775807\nb = -9223372036854775808",
			"{a:9223372036854775807,b:-9223372036854775808}"},
		{"a = 1.5\nb = -0.01\nc = 5e+2\nd = 1e3\ne = 6.5E-1", "{a:1.5,b:-0.01,c:500,d:1000,e:0.65}"},
		{"a = inf\nb = -inf", "{a:inf,b:-inf}"},
		{"a = true\nb = false", "{a:true,b:false}"},
		{"a = 1979-05-27T07:32:00Z\nb = 1979-05-27 07:32:00.5-07:00\nc = 1979-05-27\nd = 07:32:00",
			"{a:@1979-05-27T07:32:00Z,b:@1979-05-27 07:32:00.5-07:00,c:@1979-05-27,d:@07:32:00}"},
		{"a = [ 1, 2 ]\nb = []\nc = [\n \"x\", # first\n \"y\",\n]",
			"{a:[1,2],b:[],c:[\"x\",\"y\"]}"},
		{"a = [[1], [\"x\"]]", "{a:[[1],[\"x\"]]}"},
		{"a = { b = 1, c.d = \"x\" }\ne = {}", "{a:{b:1,c:{d:\"x\"}},e:{}}"},
		{"a.b.c = 1\na.b.d = 2", "{a:{b:{c:1,d:2}}}"},
		{"\"a b\" = 1\n'c' = 2\n3 = 4\n-_ = 5", "{a b:1,c:2,3:4,-_:5}"},
		{"[t]\na = 1\n[t.u]\nb = 2\n[v]", "{t:{a:1,u:{b:2}},v:{}}"},
		{"[t.u]\na = 1\n[t]\nb = 2", "{t:{u:{a:1},b:2}}"},
		{"[[x]]\na = 1\n[[x]]\na = 2\n[x.y]\nb = 3", "{x:[{a:1},{a:2,y:{b:3}}]}"},
		{" [ t . \"u\" ] \n a = 1 ", "{t:{u:{a:1}}}"},
	};

	(void)state;
	run_cases(cases, ARRAY_LEN(cases), true);
}

static void mistakes_are_told_with_their_line(void **state)
{
	static const struct toml_case cases[] = {
		{"a", "line 1: expected '=' behind the key but found the end of the file"},
		{"a = ", "line 1 (last key \"a\"): expected a value but found the end of the file"},
		{"a = 1\nb = rw",
			"line 2 (last key \"b\"): expected a value but found rw (a text needs quotes)"},
		{"a = 1 2", "line 1 (last key \"a\"): expected the end of the line but found '2'"},
		{"mode = 0644", "line 1 (last key \"mode\"): 0644: a number must not begin with 0 (an octal "
				"mode is a string: "
				"\"0644\")"},
		{"a = 1\n\na = 2", "line 3 (last key \"a\"): key \"a\" is there twice (line 1)"},
		{"a = \"x", "line 1 (last key \"a\"): the string has no closing \""},
		{"a = \"x\nb = 1", "line 1 (last key \"a\"): the string has no closing \" on its line"},
		{"a = \"\"\"x", "line 1 (last key \"a\"): the string has no closing \"\"\""},
		{"a = \"\\d\"",
			"line 1 (last key \"a\"): invalid escape '\\d' (a backslash is written \\\\)"},
		{"a = \"\\ud800\"", "line 1 (last key \"a\"): escape U+D800 is no character"},
		{"a = \"\\u12\"", "line 1 (last key \"a\"): an escape needs 4 hexadecimal digits"},
		{"a = \"\xff\"", "line 1 (last key \"a\"): byte 0xff is not UTF-8"},
		{"a = \"\x01\"", "line 1 (last key \"a\"): control character 0x01 in a string"},
		{"# \x01", "line 1: control character 0x01 in a comment"},
		{"a = [1", "line 1 (last key \"a\"): expected ',' or ']' in the array that begins in line 1 "
			   "but found the end "
			   "of the file"},
		{"a = [", "line 1 (last key \"a\"): the array that begins in line 1 has no closing ]"},
		{"a = [,]", "line 1 (last key \"a\"): expected a value but found ','"},
		{"a = {b = 1,}", "line 1 (last key \"b\"): an inline table must not end with a comma"},
		{"a = {b = 1\n}", "line 1 (last key \"b\"): expected ',' or '}' in the inline table but "
				  "found the end of the "
				  "line"},
		{"a = 1__0",
			"line 1 (last key \"a\"): an underscore in a number must stand between two digits"},
		{"a = 9223372036854775808",
			"line 1 (last key \"a\"): 9223372036854775808 does not fit into 64 bits"},
		{"a = 1979-13",
			"line 1 (last key \"a\"): expected a value but found 1979-13 (a text needs quotes)"},
		{"a = 1979-05-27T0", "line 1 (last key \"a\"): invalid date 1979-05-27T0"},
		{"[t", "line 1: expected ] behind the table's name but found the end of the file"},
		{"[]", "line 1: expected a key but found ']'"},
		{"[t]\n[t]", "line 2 (last key \"t\"): key \"t\" is there twice (line 1)"},
		{"a = 1\n[a]", "line 2 (last key \"a\"): key \"a\" is there twice (line 1)"},
		{"a = {}\na.b = 1", "line 2 (last key \"a\"): key \"a\" is already something else (line 1)"},
		{"a = [1]\n[[a]]", "line 2 (last key \"a\"): key \"a\" is already something else (line 1)"},
		{"= 1", "line 1: expected a key but found '='"},
		{"a.b = 1\na.b.c = 2",
			"line 2 (last key \"b\"): key \"b\" is already something else (line 1)"},
	};

	(void)state;
	run_cases(cases, ARRAY_LEN(cases), false);
}

static void nesting_has_a_limit(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), error = BUF_INIT(0);
	_cleanup_(arena_done) struct arena arena;
	struct toml *root;

	(void)state;
	arena_init(&arena);
	buf_add_str(&text, "a = ");
	buf_add_fill(&text, '[', 100000);
	assert_int_equal(toml_parse(buf_slice(&text), &arena, &root, &error), -EINVAL);
	assert_string_equal(
		buf_text(&error), "line 1 (last key \"a\"): values are nested more than 100 deep");
}

static void names_can_be_looked_up_without_regard_to_case(void **state)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	_cleanup_(arena_done) struct arena arena;
	struct toml *root;

	(void)state;
	arena_init(&arena);
	assert_int_equal(toml_parse(SLICE_LITERAL("SRC = 1\nsrc = 2\nDest = 3"), &arena, &root, &error), 0);
	assert_int_equal(toml_get(root, "src", true)->integer, 2);
	assert_int_equal(toml_get(root, "dest", true)->integer, 3);
	assert_null(toml_get(root, "dest", false));
	assert_null(toml_get(root, "keys", true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_become_trees),
		cmocka_unit_test(mistakes_are_told_with_their_line),
		cmocka_unit_test(nesting_has_a_limit),
		cmocka_unit_test(names_can_be_looked_up_without_regard_to_case),
	};

	return cmocka_run_group_tests_name("toml", tests, NULL, NULL);
}
