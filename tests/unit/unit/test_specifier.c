#include "unit/specifier.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static bool host(void *userdata, char letter, struct buf *out)
{
	if (letter != 'H')
		return false;
	buf_add_str(out, userdata);
	return true;
}

static void specifiers_come_from_the_name_and_the_host(void **state)
{
	static const char *const rows[][2] = {
		{"plain", "plain"},
		{"%n %N %p %i", "a-b@x-y\\x2dz.service a-b@x-y\\x2dz a-b x-y\\x2dz"},
		{"%P %I %j %J %f", "a/b x/y-z b b /x/y-z"},
		{"%%n %H", "%n host1"},
		{"100%", "100%"},
		{"%H%H", "host1host1"},
		{"%Q %m", "%Q %m"},
	};
	struct unit_specifiers specifiers = {.host = host, .userdata = (void *)"host1"};

	(void)state;
	assert_int_equal(unit_name_parse(slice_str("a-b@x-y\\x2dz.service"), &specifiers.name), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		assert_int_equal(unit_specifiers_expand(&specifiers, slice_str(rows[i][0]), &out), 0);
		assert_string_equal(buf_text(&out), rows[i][1]);
	}
}

static void a_ceiling_is_an_error(void **state)
{
	struct unit_specifiers specifiers = {0};
	_cleanup_buf_ struct buf out = BUF_INIT(8);

	(void)state;
	assert_int_equal(unit_name_parse(slice_str("web@1.service"), &specifiers.name), 0);
	assert_true(unit_specifiers_expand(&specifiers, slice_str("%n"), &out) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specifiers_come_from_the_name_and_the_host),
		cmocka_unit_test(a_ceiling_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
