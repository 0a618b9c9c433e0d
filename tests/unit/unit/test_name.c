#include "unit/unit.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void names_are_judged_in_fleets_words_and_order(void **state)
{
	static const struct {
		const char *name, *error;
	} rows[] = {
		{"", "unit name cannot be empty"},
		{"a", "unit name must contain \".\""},
		{"a.", "unit name cannot end in \".\""},
		{"a.foo", "invalid unit type: \"foo\""},
		{"a.f\"o", "invalid unit type: \"f\\\"o\""},
		{"a@b.mount", "invalid unit type for template: \"mount\""},
		{"a b.service", "invalid character ' ' in unit name"},
		{"\xc3\xa9.service", "invalid character '\xc3\xa9' in unit name"},
		{"\xff.service", "invalid character '\xef\xbf\xbd' in unit name"},
		{"a\nb.service", "invalid character '\\n' in unit name"},
		{"a'.service", "invalid character '\\'' in unit name"},
		{"a/b.service", "invalid character '/' in unit name"},
		{"@a.service", "unit name cannot start in \"@\""},
		{"@ a.service", "invalid character ' ' in unit name"},
		{".service", NULL},
		{"web@1.service", NULL},
		{"a\\x2db:c_d-e.f.slice", NULL},
		{"x.busname", NULL},
		{"a@@b.timer", NULL},
	};
	char name[UNIT_NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct unit_error error = {0};
		int r = unit_name_validate(slice_str(rows[i].name), &error);

		if (rows[i].error) {
			assert_int_equal(r, -EINVAL);
			assert_string_equal(error.text, rows[i].error);
		} else if (r < 0) {
			fail_msg("%s: %s", rows[i].name, error.text);
		}
	}
	memset(name, 'y', sizeof(name));
	memcpy(name + UNIT_NAME_MAX - 8, ".service", 8);
	assert_int_equal(unit_name_validate(slice_make(name, UNIT_NAME_MAX), NULL), 0);
	assert_int_equal(unit_name_validate(slice_make(name, UNIT_NAME_MAX + 1), NULL), -EINVAL);
}

static void a_name_has_its_parts(void **state)
{
	static const struct {
		const char *name, *stem, *prefix, *instance, *type;
		bool template, instantiated;
	} rows[] = {
		{"web.service", "web", "web", "", "service", false, false},
		{"web@1.service", "web@1", "web", "1", "service", false, true},
		{"web@.service", "web@", "web", "", "service", true, false},
		{"web@a@b.c.service", "web@a@b.c", "web", "a@b.c", "service", false, true},
		{".service", "", "", "", "service", false, false},
	};
	struct unit_name parts;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice name = slice_str(rows[i].name);

		assert_int_equal(unit_name_parse(name, &parts), 0);
		assert_true(slice_is(parts.full, rows[i].name));
		assert_true(slice_is(parts.stem, rows[i].stem));
		assert_true(slice_is(parts.prefix, rows[i].prefix));
		assert_true(slice_is(parts.instance, rows[i].instance));
		assert_true(slice_is(parts.type, rows[i].type));
		assert_int_equal(unit_name_is_template(name), rows[i].template);
		assert_int_equal(unit_name_is_instance(name), rows[i].instantiated);
	}
	assert_int_equal(unit_name_parse(slice_str("web"), &parts), -EINVAL);
}

static void an_instance_names_its_template(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	(void)state;
	assert_int_equal(unit_name_template(slice_str("web@1.service"), &out), 0);
	assert_string_equal(buf_text(&out), "web@.service");
	assert_int_equal(unit_name_template(slice_str("web.service"), &out), -EINVAL);
}

static void arguments_become_names_as_in_fleetctl(void **state)
{
	static const char *const rows[][2] = {
		{"web", "web.service"},
		{"web.service", "web.service"},
		{"./dir/web@1.service", "web@1.service"},
		{"/a/b/x.slice", "x.slice"},
		{"x.target", "x.target"},
		{"x.scope", "x.scope.service"},
		{"x.automount", "x.automount"},
		{"dir/", "dir.service"},
		{"a.b", "a.b.service"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		unit_name_mangle(slice_str(rows[i][0]), &out);
		assert_string_equal(buf_text(&out), rows[i][1]);
	}
}

static void specifiers_are_replaced_one_after_the_other(void **state)
{
	static const char *const rows[][2] = {
		{"%n|%N|%p|%i", "web@1.service|web@1|web|1"},
		{"%%n", "%web@1.service"},
		{"%x %", "%x %"},
		{"plain", "plain"},
	};
	struct unit_name parts;

	(void)state;
	assert_int_equal(unit_name_parse(slice_str("web@1.service"), &parts), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		unit_name_expand(&parts, slice_str(rows[i][0]), &out);
		assert_string_equal(buf_text(&out), rows[i][1]);
	}
	/* What one replacement brings in, the next one sees. */
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	assert_int_equal(unit_name_parse(slice_str("a%i@7.service"), &parts), 0);
	unit_name_expand(&parts, slice_str("%p"), &out);
	assert_string_equal(buf_text(&out), "a7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_judged_in_fleets_words_and_order),
		cmocka_unit_test(a_name_has_its_parts),
		cmocka_unit_test(an_instance_names_its_template),
		cmocka_unit_test(arguments_become_names_as_in_fleetctl),
		cmocka_unit_test(specifiers_are_replaced_one_after_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
