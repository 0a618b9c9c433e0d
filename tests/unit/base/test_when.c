#include "base/when.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#define S INT64_C(1000000)
/* Sunday 2026-11-22 08:05:31.5 UTC, 09:05 in Berlin. */
#define NOW (INT64_C(1795334731) * S + 500000)
#define TODAY (INT64_C(1795302000) * S) /* 00:00 in Berlin */
#define HOUR (3600 * S)

static void the_common_forms_are_understood(void **state)
{
	static const struct {
		const char *text;
		int64_t us;
	} rows[] = {
		{"now", NOW},
		{"  now ", NOW},
		{"today", TODAY},
		{"yesterday", TODAY - 24 * HOUR},
		{"tomorrow", TODAY + 24 * HOUR},
		{"@0", 0},
		{"@1795334731", NOW - 500000},
		{"@1795334731.5", NOW},
		{"@1.000001", S + 1},
		{"-1h", NOW - HOUR},
		{"+5min", NOW + 300 * S},
		{"-90", NOW - 90 * S},
		{"-1.5h", NOW - 90 * 60 * S},
		{"1h ago", NOW - HOUR},
		{"2 hours ago", NOW - 2 * HOUR},
		{"1h 30min ago", NOW - 90 * 60 * S},
		{"1h30min ago", NOW - 90 * 60 * S},
		{"3 days ago", NOW - 72 * HOUR},
		{"-1w", NOW - 168 * HOUR},
		{"- 1h", NOW - HOUR},
		{"-500ms", NOW - S / 2},
		{"-1us", NOW - 1},
		{"-2\xc2\xb5s", NOW - 2},
		{"-1M", NOW - 2629800 * S},
		{"-1y", NOW - 31557600 * S},
		{"-0.25s", NOW - S / 4},
		{"2026-11-22", TODAY},
		{"2026-11-22 09:05", TODAY + 9 * HOUR + 300 * S},
		{"2026-11-22 09:05:31.5", NOW},
		{"2026-11-22T09:05:31.5", NOW},
		{"2026-11-22 08:05:31.5 UTC", NOW},
		{"2026-11-22T08:05:31.5Z", NOW},
		{"2026-11-22T10:05:31.5+02:00", NOW},
		{"2026-11-22T02:35:31.500-05:30", NOW},
		{"2026-11-22 UTC", TODAY + HOUR},
		{"09:05", TODAY + 9 * HOUR + 300 * S},
		{"09:05:31.5", NOW},
		{"2024-02-29", INT64_C(1709161200) * S},
		{"2026-07-01 00:00:00", INT64_C(1782856800) * S},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(0);
		int64_t us = -1;

		if (when_parse(slice_str(rows[i].text), NOW, &us, &error) < 0 || us != rows[i].us)
			fail_msg("%s: %lld instead of %lld %s", rows[i].text, (long long)us,
				(long long)rows[i].us, buf_text(&error));
	}
}

static void what_is_no_time_is_told(void **state)
{
	static const char *const rows[] = {"", " ", "soon", "1h", "-", "+", "ago", " ago", "-1x", "--1h",
		"-1h ago", "@", "@x", "@1x", "@-1", "@1.", "@9999999999999", "2026", "2026-13-01",
		"2026-02-30", "2026-00-10", "2026-11-22 24:00", "2026-11-22 08:60", "2026-11-22 08:05:60",
		"2026-11-22 8:05", "2026-11-22T08:05:31+2", "2026-11-22 08:05 CET", "2026-11-22x",
		"1969-01-01", "08:05:31 x", "-99999999999999y", "-1..5h", "-1.h", "2026-11-22\n08:05"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(0);
		int64_t us = -1;

		if (when_parse(slice_str(rows[i]), NOW, &us, &error) != -EINVAL)
			fail_msg("\"%s\" is %lld", rows[i], (long long)us);
		assert_true(us == -1 && error.len > 0);
	}
	assert_int_equal(when_parse(SLICE_LITERAL("x"), NOW, &(int64_t){0}, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_common_forms_are_understood),
		cmocka_unit_test(what_is_no_time_is_told),
	};

	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
