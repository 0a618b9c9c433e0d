/* Tables as Go's tabwriter lays them out; the expected texts are fleet 1.0's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fleetctl/fleetctl.h"

static void check(size_t columns, const char *const *cells, const char *expected)
{
	struct table table = {.columns = columns};
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	for (; *cells; cells++)
		ctl_table_add(&table, *cells);
	ctl_table_print(&table, &out);
	ctl_table_done(&table);
	assert_string_equal(buf_text(&out), expected);
}

static void headers_alone_are_one_tab_apart(void **state)
{
	(void)state;
	check(4, (const char *const[]){"UNIT", "MACHINE", "ACTIVE", "SUB", NULL},
		"UNIT\tMACHINE\tACTIVE\tSUB\n");
}

static void columns_are_multiples_of_eight_with_one_blank_at_least(void **state)
{
	(void)state;
	check(4,
		(const char *const[]){"UNIT", "MACHINE", "ACTIVE", "SUB", "hello.service",
			"1a2b3c4d.../172.31.78.11", "active", "running", NULL},
		"UNIT\t\tMACHINE\t\t\t\tACTIVE\tSUB\nhello.service\t1a2b3c4d.../"
		"172.31.78.11\tactive\trunning\n");
	check(5,
		(const char *const[]){"UNIT", "HASH", "DSTATE", "STATE", "TARGET", "hello.service", "d0f1bb9",
			"inactive", "inactive", "-", NULL},
		"UNIT\t\tHASH\tDSTATE\t\tSTATE\t\tTARGET\nhello.service\td0f1bb9\tinactive\tinactive\t-\n");
	check(2, (const char *const[]){"1234567", "x", "12345678", "x", NULL}, "1234567\t\tx\n12345678\tx\n");
}

static void letters_count_not_bytes(void **state)
{
	(void)state;
	check(2, (const char *const[]){"ééééééé", "x", NULL}, "ééééééé\tx\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_alone_are_one_tab_apart),
		cmocka_unit_test(columns_are_multiples_of_eight_with_one_blank_at_least),
		cmocka_unit_test(letters_count_not_bytes),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
