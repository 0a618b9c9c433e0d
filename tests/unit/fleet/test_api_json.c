/* Bodies of requests are read as Go's decoder reads them, which clients of fleet 1.0 were written against. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fleet/api_internal.h"

static void members_are_found_whatever_the_case_of_their_names(void **state)
{
	json_error_t error;
	json_t *body = api_json_read(
		SLICE_LITERAL("{\"DesiredState\":1,\"Name\":2,\"name\":3,\"NAME\":4,\"options\":null}"),
		&error);

	(void)state;
	assert_non_null(body);
	assert_int_equal(json_integer_value(api_json_member(body, "desiredState")), 1);
	assert_int_equal(json_integer_value(api_json_member(body, "name")), 3);
	assert_true(json_is_null(api_json_member(body, "options")));
	assert_null(api_json_member(body, "nam"));
	assert_null(api_json_member(body, "names"));
	assert_null(api_json_member(json_object_get(body, "name"), "name"));
	assert_null(api_json_member(NULL, "name"));
	json_decref(body);
}

static void only_the_first_value_of_a_body_is_read(void **state)
{
	static const struct {
		const char *body, *error; /* NULL: is read */
	} cases[] = {
		{"{\"name\":\"a\"}", NULL},
		{" {\"name\":\"a\"}\n", NULL},
		{"{\"name\":\"a\"}{\"name\":\"b\"}", NULL},
		{"{\"name\":\"a\"} nonsense", NULL},
		{"", "EOF"},
		{" \n", "EOF"},
		{"{\"name\":\"a\"", "unexpected EOF"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_error_t error;
		json_t *body = api_json_read(slice_str(cases[i].body), &error);

		if (cases[i].error)
			assert_string_equal(api_json_error(slice_str(cases[i].body), &error), cases[i].error);
		else
			assert_string_equal(json_string_value(api_json_member(body, "name")), "a");
		json_decref(body);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_are_found_whatever_the_case_of_their_names),
		cmocka_unit_test(only_the_first_value_of_a_body_is_read),
	};

	return cmocka_run_group_tests_name("api_json", tests, NULL, NULL);
}
