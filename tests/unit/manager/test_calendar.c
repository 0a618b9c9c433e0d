/* Calendar events. What they lead to is what `systemd-analyze calendar` says of them. */
#include "manager/calendar.h"
#include "base/memory.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#define BASE_S 1769853600 /* 2026-01-31 10:00:00 UTC */
#define US_PER_S 1000000

static void the_next_three_times_are_systemds(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds[3]; /* 0: never again */
	} cases[] = {
		{"*-*-* *:*:*", {1769853601, 1769853602, 1769853603}},
		{"daily", {1769904000, 1769990400, 1770076800}},
		{"weekly", {1769990400, 1770595200, 1771200000}},
		{"Mon", {1769990400, 1770595200, 1771200000}},
		{"Mon..Fri *-1/2-1,3 *:*", {1772496000, 1772496060, 1772496120}},
		{"10:*:00/15", {1769853615, 1769853630, 1769853645}},
		{"*:0/5", {1769853900, 1769854200, 1769854500}},
		{"03-05", {1772668800, 1804204800, 1835827200}},
		{"12..14:10,20,30", {1769861400, 1769862000, 1769862600}},
		{"*-*-* 0/4:00", {1769860800, 1769875200, 1769889600}},
		{"*-02~01", {1772236800, 1803772800, 1835395200}},
		{"*-02~01..05/2", {1771891200, 1772064000, 1772236800}},
		{"Mon *-05~07/1", {1779667200, 1811721600, 1843171200}},
		{"*-*~02", {1772150400, 1774828800, 1777420800}},
		{"05~03", {1780012800, 1811548800, 1843171200}},
		{"20..30-1-1", {1798761600, 1830297600, 1861920000}},
		{"2026/2-1-1", {1830297600, 1893456000, 1956528000}},
		{"1..3/2:00", {1769907600, 1769914800, 1769994000}},
		{"Monday,tue 1:2", {1769994120, 1770080520, 1770598920}},
		{"08:05:40.4", {1769933140, 1770019540, 1770105940}},
		{"*-*-1/7", {1769904000, 1770508800, 1771113600}},
		{"2003-03-05", {0, 0, 0}},
		{"2026-02-30", {0, 0, 0}},
		{"hourly Europe/Berlin", {1769857200, 1769860800, 1769864400}},
		{"2026-03-29 02:30 Europe/Berlin", {0, 0, 0}},
		{"*-03-29 02:30 Europe/Berlin", {1806280200, 1837902600, 1869438600}},
		{"2026-10-25 02:30 Europe/Berlin", {1792888200, 0, 0}},
		{"10:00 utc", {1769940000, 1770026400, 1770112800}},
		{"@1893456000", {1893456000, 0, 0}},
		{"Wed,Sat *-6..8~1 7:30:59", {1814340659, 1817019059, 1877499059}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(calendar_freep) struct calendar *calendar = NULL;
		_cleanup_buf_ struct buf error = BUF_INIT(1024);
		int64_t at_us = (int64_t)BASE_S * US_PER_S;

		if (calendar_parse(slice_str(cases[i].text), &calendar, &error) < 0)
			fail_msg("%s: %s", cases[i].text, buf_text(&error));
		for (size_t j = 0; j < 3; j++) {
			int64_t seconds = calendar_next(calendar, at_us, &at_us) == 0 ? at_us / US_PER_S : 0;

			if (seconds != cases[i].seconds[j])
				fail_msg("%s, number %zu: %lld", cases[i].text, j + 1, (long long)seconds);
			if (!seconds)
				break;
		}
	}
}

static void what_is_no_calendar_event_is_refused(void **state)
{
	static const char *const cases[] = {"", "10", "24:00", "00:60", "*-13-01", "*-0-1", "*-*-32",
		"*-05~31", "*-02~03..01", "*/2:00", "*-*-*/7", "*-*-*,3", "1/0:00", "9/20:00", "Mon,,Tue",
		"Mon..", "Fri..Mon", ",Mon", "Mon *", "10:00UTC", "10:30 pm", "Mon 10:00 Foo/Bar",
		"10:00 ../etc/x", "1969-1-1", "2200-1-1", "1:2:3.", "*-*-*T10:00", "weekly,daily", "@1.5",
		"@", "12:30:00:00", "Mon.Tue 10:00"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(1024);
		struct calendar *calendar;

		if (calendar_parse(slice_str(cases[i]), &calendar, &error) >= 0)
			fail_msg("%s was taken", cases[i]);
		assert_true(error.len > 0);
	}
}

static void a_zone_of_its_own_leaves_the_process_in_its_zone(void **state)
{
	_cleanup_(calendar_freep) struct calendar *calendar = NULL;
	_cleanup_buf_ struct buf error = BUF_INIT(1024);
	int64_t at_us;

	(void)state;
	assert_int_equal(calendar_parse(slice_str("daily Asia/Kolkata"), &calendar, &error), 0);
	assert_int_equal(calendar_next(calendar, (int64_t)BASE_S * US_PER_S, &at_us), 0);
	assert_int_equal(at_us / US_PER_S % 86400, 66600); /* 18:30 UTC */
	assert_string_equal(getenv("TZ"), "UTC");
	assert_string_equal(tzname[0], "UTC");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_three_times_are_systemds),
		cmocka_unit_test(what_is_no_calendar_event_is_refused),
		cmocka_unit_test(a_zone_of_its_own_leaves_the_process_in_its_zone),
	};

	(void)setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests_name("manager/calendar", tests, NULL, NULL);
}
