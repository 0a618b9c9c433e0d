#include "io/library.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define MATH_FUNCTIONS(X) X(fabs) X(fmax)
struct math {
	MATH_FUNCTIONS(LIBRARY_POINTER)
};
static const char *const names[] = {MATH_FUNCTIONS(LIBRARY_NAME)};

static void a_table_is_filled_in_the_order_of_its_names(void **state)
{
	struct math math = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	assert_int_equal(library_open("libm.so.6", names, ARRAY_LEN(names), &math, &error), 0);
	assert_true(math.fabs(-3) == 3 && math.fmax(3, 4) == 4);
	assert_int_equal(error.len, 0);
	/* Filled, it is left as it is. */
	assert_int_equal(library_open("libnobody.so.7", names, ARRAY_LEN(names), &math, &error), 0);
}

static void a_library_that_is_not_there_is_named(void **state)
{
	struct math math = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	assert_int_equal(library_open("libnobody.so.7", names, ARRAY_LEN(names), &math, &error), -ENOENT);
	assert_non_null(strstr(buf_text(&error), "libnobody.so.7"));
	assert_int_equal(library_open("libnobody.so.7", names, ARRAY_LEN(names), &math, NULL), -ENOENT);
}

static void a_function_that_is_not_there_is_named(void **state)
{
	static const char *const others[] = {"fabs", "no_such_function"};
	struct math math = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	assert_int_equal(library_open("libm.so.6", others, ARRAY_LEN(others), &math, &error), -ENOSYS);
	assert_string_equal(buf_text(&error), "libm.so.6 has no no_such_function(): it is too old");
	assert_null(math.fabs);
	assert_int_equal(library_open("libm.so.6", others, ARRAY_LEN(others), &math, NULL), -ENOSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_is_filled_in_the_order_of_its_names),
		cmocka_unit_test(a_library_that_is_not_there_is_named),
		cmocka_unit_test(a_function_that_is_not_there_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
