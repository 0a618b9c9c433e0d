/* Timers, paths and sockets: what their units say, when a timer is due, and what an address is. */
#include "base/memory.h"
#include "base/time.h"
#include "manager/config.h"
#include "manager/listen.h"
#include "io/file.h"
#include "manager/path_glob.h"
#include "manager/timer_schedule.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <cmocka.h>

#define S NS_PER_S
#define NOW_US (INT64_C(1769853600) * 1000000) /* 2026-01-31 10:00:00 UTC */

static void read_named(const char *name, const char *text, struct service_config *ret)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	struct unit_specifiers specifiers = {0};

	assert_int_equal(unit_file_parse(slice_str(text), &file, NULL), 0);
	assert_int_equal(unit_name_parse(slice_str(name), &specifiers.name), 0);
	service_config_read(file, &specifiers, ret);
}

/* A timer at 1000 s of uptime that has not fired; the unit has never run. */
static const struct timer_times fresh = {.now_ns = 1000 * S,
	.now_us = NOW_US,
	.active_ns = 1000 * S,
	.active_us = NOW_US,
	.boot_ns = 0,
	.startup_ns = 900 * S};

static struct timer_due due(const char *options, const struct timer_times *times, bool *spent)
{
	_cleanup_free_ char *text = mem_printf("[Timer]\n%s", options);
	_cleanup_(service_config_done) struct service_config config;
	struct timer_due answer;

	read_named("a.timer", text, &config);
	assert_null(config.error);
	assert_int_equal(config.warnings.count, 0);
	timer_schedule(&config.timer, times, spent, &answer);
	return answer;
}

static void a_span_counts_from_its_base(void **state)
{
	static const struct {
		const char *options;
		int64_t mono_s; /* -1: never */
		bool follows;
	} rows[] = {
		{"OnActiveSec=5\n", 1005, false},
		{"OnBootSec=1h\n", 3600, false},
		{"OnBootSec=1\n", 1, false}, /* it has passed: due at once */
		{"OnStartupSec=200\n", 1100, false},
		{"OnUnitActiveSec=5\n", -1, true}, /* it has not run yet */
		{"OnUnitInactiveSec=5\n", -1, true},
		{"OnActiveSec=50\nOnBootSec=1020\n", 1020, false},
		{"OnActiveSec=5\nOnActiveSec=\nOnActiveSec=7\n", 1007, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool spent[4] = {0};
		struct timer_due answer = due(rows[i].options, &fresh, spent);

		assert_int_equal(answer.mono_ns, rows[i].mono_s < 0 ? INT64_MAX : rows[i].mono_s * S);
		assert_int_equal(answer.wall_us, INT64_MAX);
		assert_int_equal(answer.follows, rows[i].follows);
	}
}

static void what_counts_from_one_time_is_due_once(void **state)
{
	struct timer_times times = fresh;
	bool spent[2] = {0};
	const char *options = "OnActiveSec=5\nOnUnitActiveSec=10\n";

	(void)state;
	assert_int_equal(due(options, &times, spent).mono_ns, 1005 * S);
	times.now_ns = times.last_ns = 1005 * S;
	times.unit_active_ns = 1005 * S + 1;
	assert_int_equal(due(options, &times, spent).mono_ns, 1015 * S + 1);
	assert_true(spent[0] && !spent[1]);
	/* The random delay belongs to the time it was drawn for: a longer one later does not revive it. */
	times.delay_ns = 60 * S;
	assert_int_equal(due(options, &times, spent).mono_ns, 1075 * S + 1);
	/* It is not spent as long as its delay goes on. */
	spent[0] = false;
	times = fresh;
	times.now_ns = 1007 * S;
	times.delay_ns = 10 * S;
	assert_int_equal(due("OnActiveSec=5\n", &times, spent).mono_ns, 1015 * S);
}

static void a_calendar_event_follows_the_last_one(void **state)
{
	struct timer_times times = fresh;
	bool spent[1] = {0};

	(void)state;
	assert_int_equal(due("OnCalendar=*:0/5\n", &times, spent).wall_us, NOW_US + 300000000);
	times.delay_ns = 7 * S;
	assert_int_equal(due("OnCalendar=*:0/5\n", &times, spent).wall_us, NOW_US + 307000000);
	times.delay_ns = 0;
	/* It fired an hour ago: what was missed is due at once. */
	times.last_us = NOW_US - INT64_C(3600000000);
	assert_true(due("OnCalendar=*:0/5\n", &times, spent).wall_us <= NOW_US);
	/* Where nothing ran meanwhile the delay counts from when something did again. */
	times.startup_us = NOW_US - 10000000;
	times.delay_ns = 60 * S;
	assert_int_equal(due("OnCalendar=*:0/5\n", &times, spent).wall_us, NOW_US + 50000000);
	times.delay_ns = 0;
	/* The clock was set back by a day: it does not wait for a day. */
	times.last_us = NOW_US + INT64_C(86400000000);
	assert_int_equal(due("OnCalendar=*:0/5\n", &times, spent).wall_us, NOW_US + 300000000);
	/* What has no time left never comes. */
	assert_int_equal(due("OnCalendar=2020-01-01\n", &fresh, spent).wall_us, INT64_MAX);
}

static void addresses_are_ports_hosts_paths_and_names(void **state)
{
	static const struct {
		enum listen_type type;
		const char *address;
		int family; /* 0: refused */
	} rows[] = {
		{LISTEN_STREAM, "80", AF_INET6},
		{LISTEN_STREAM, "127.0.0.1:80", AF_INET},
		{LISTEN_DATAGRAM, "[::1]:65535", AF_INET6},
		{LISTEN_STREAM, "[fe80::1]:80%lo", AF_INET6},
		{LISTEN_STREAM, "[fe80::1]:80%", 0},
		{LISTEN_STREAM, "[fe80::1]:80%a-name-that-is-too-long", 0},
		{LISTEN_STREAM, "/run/x", AF_UNIX},
		{LISTEN_SEQPACKET, "@x", AF_UNIX},
		{LISTEN_SEQPACKET, "80", 0},
		{LISTEN_STREAM, "", 0},
		{LISTEN_STREAM, "@", 0},
		{LISTEN_STREAM, "0", 0},
		{LISTEN_STREAM, "65536", 0},
		{LISTEN_STREAM, "localhost:80", 0},
		{LISTEN_STREAM, "1.2.3.4", 0},
		{LISTEN_STREAM, "1.2.3.4.5.6.7.8.9.10:80", 0},
		{LISTEN_STREAM, "[::1]", 0},
		{LISTEN_STREAM, "[::1]80", 0},
		{LISTEN_STREAM, "[1.2.3.4]:80", 0},
		{LISTEN_STREAM, "vsock:2:1", 0},
		{LISTEN_STREAM,
			"/12345678901234567890123456789012345678901234567890123456789012345678901234567890123"
			"45678"
			"90123456789012345678",
			0},
		{LISTEN_FIFO, "x", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct listen_spec spec = {rows[i].type, (char *)rows[i].address};
		_cleanup_buf_ struct buf error = BUF_INIT(1024);
		struct listen_address address;
		int r = listen_address_parse(&spec, &address, &error);

		assert_int_equal(r, rows[i].family ? 0 : -EINVAL);
		assert_int_equal(error.len > 0, !rows[i].family);
		if (rows[i].family)
			assert_int_equal(address.address.any.sa_family, rows[i].family);
	}
}

static void units_that_start_others_name_them(void **state)
{
	static const struct {
		const char *name, *text, *trigger;
		size_t warnings;
	} rows[] = {
		{"a.timer", "[Timer]\nOnBootSec=1\n", "a.service", 0},
		{"a@1.path", "[Path]\nPathExists=/%i\nUnit=b@%i.target\n", "b@1.target", 0},
		{"a.socket", "[Socket]\nListenStream=80\nService=b.service\n", "b.service", 0},
		{"a.socket", "[Socket]\nListenStream=80\nService=b.timer\n", "a.service", 1},
		{"a.timer", "[Timer]\nOnBootSec=1\nUnit=b.timer\n", "a.service", 1},
		{"a.timer", "[Timer]\nOnBootSec=1\nOnBootSec=x\nOnCalendar=never\n[Service]\nUser=x\n",
			"a.service", 3},
		{"a.path", "[Path]\nPathExists=x\nPathExists=/a/../b\nPathChanged=/a/./b\nPathChanged=/a//\n",
			"a.service", 2},
		{"a.socket",
			"[Socket]\nListenStream=80\nSocketMode=9\nFileDescriptorName=a:b\nIPTTL=0\n"
			"ReceiveBuffer=3G\nExecStartPre=/bin/true\nWhatever=1\n",
			"a.service", 6},
		{"a.target", "[Unit]\nWants=b.service\n", NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(service_config_done) struct service_config config;

		read_named(rows[i].name, rows[i].text, &config);
		assert_null(config.error);
		assert_int_equal(config.warnings.count, rows[i].warnings);
		if (!rows[i].trigger) {
			assert_null(config.trigger);
			continue;
		}
		assert_string_equal(config.trigger, rows[i].trigger);
		assert_true(strings_have(&config.dependencies[DEP_BEFORE], rows[i].trigger));
	}
}

static void paths_are_kept_in_their_simplest_form(void **state)
{
	static const char *const rows[][2] = {{"/", "/"}, {"//", "/"}, {"/a/", "/a"},
		{"/a//b/./c/.", "/a/b/c"}, {"/./a", "/a"}, {"/..a/b..", "/..a/b.."},
		{"/.hidden", "/.hidden"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *text = mem_printf("[Path]\nPathChanged=%s\n", rows[i][0]);
		_cleanup_(service_config_done) struct service_config config;

		read_named("a.path", text, &config);
		assert_int_equal(config.warnings.count, 0);
		assert_string_equal(config.path.specs[0].path, rows[i][1]);
	}
}

static void a_pattern_is_looked_for_within_bounds(void **state)
{
	char directory[] = "/tmp/flotilla-glob-XXXXXX";
	static const char *const names[] = {"a", "a/x1", "b", "b/x2", "b/y", ".hidden"};
	static const struct {
		const char *pattern;
		int found;
	} rows[] = {{"/*/x2", 1}, {"/?/y", 1}, {"/[ab]/x[2-9]", 1}, {"/b/y", 1}, {"/*/z", 0}, {"/c*", 0},
		{"/*hidden", 0}, {"/.h*", 1}, {"/nowhere/*", 0}, {"/*/x2/*", 0}};

	(void)state;
	assert_non_null(mkdtemp(directory));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", directory, names[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *pattern = mem_printf("%s%s", directory, rows[i].pattern);
		assert_int_equal(path_glob(pattern, 100), rows[i].found);
	}
	assert_int_equal(path_glob("/*/*/*/*/*/*/*/no-such-file", 1000), -E2BIG);
	assert_int_equal(path_glob("/*", 100), 1);
	assert_int_equal(file_remove_all(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_span_counts_from_its_base),
		cmocka_unit_test(what_counts_from_one_time_is_due_once),
		cmocka_unit_test(a_calendar_event_follows_the_last_one),
		cmocka_unit_test(addresses_are_ports_hosts_paths_and_names),
		cmocka_unit_test(units_that_start_others_name_them),
		cmocka_unit_test(paths_are_kept_in_their_simplest_form),
		cmocka_unit_test(a_pattern_is_looked_for_within_bounds),
	};

	setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
