/* cgroup v2 in a directory of plain files: what is written where. The real controllers, where a machine has
 * them, are tried by tests/system/test_supervisor_exec.py. */
#include "manager/limits.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char dir[64];
	struct tracker tracker;
	struct limits limits;
};

static void put_file(const struct fixture *fixture, const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", fixture->dir, name);

	assert_int_equal(
		file_write_atomic(path, slice_str(text), &(struct file_write_options){.no_sync = true}), 0);
}

static void assert_file(const struct fixture *fixture, const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", fixture->dir, name);
	_cleanup_buf_ struct buf found = BUF_INIT(0);

	assert_int_equal(file_read(path, 65536, &found), 0);
	assert_string_equal(buf_text(&found), text);
}

static int setup(void **state)
{
	static const char *const files[] = {"cgroup.subtree_control", "k/cgroup.subtree_control",
		"k/a.service/memory.max", "k/a.service/memory.low", "k/a.service/memory.high",
		"k/a.service/memory.oom.group", "k/a.service/cpu.weight", "k/a.service/cpu.max",
		"k/a.service/pids.max"};
	struct fixture *fixture = mem_new(struct fixture);
	_cleanup_free_ char *unit = NULL;

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/flotilla-limits-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	unit = mem_printf("%s/k/a.service", fixture->dir);
	assert_int_equal(file_mkdir_all(unit, 0755), 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		put_file(fixture, files[i], "");
	put_file(fixture, "k/cgroup.controllers", "cpuset cpu io memory pids\n");
	fixture->tracker.base = mem_printf("%s/k", fixture->dir);
	fixture->tracker.unified = true;
	fixture->limits = (struct limits){.tracker = &fixture->tracker, .id = mem_strdup("0")};
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	limits_done(&fixture->limits);
	assert_int_equal(file_remove_all(fixture->dir), 0);
	free(fixture->tracker.base);
	free(fixture);
	return 0;
}

static void set(struct fixture *fixture, const struct resource_config *config, bool together,
	struct limits_unit *ret, struct strings *ret_missing)
{
	int fds[LIMITS_CONTROLLERS];

	limits_unit_open(&fixture->limits, "a.service", config, together, ret, fds, ret_missing);
	for (size_t i = 0; i < LIMITS_CONTROLLERS; i++)
		assert_int_equal(fds[i], -1); /* v2: the tracker's cgroup is the one */
}

static void every_limit_has_its_file(void **state)
{
	struct fixture *fixture = *state;
	struct resource_config config = {.memory_max = {AMOUNT_ABSOLUTE, 4096},
		.memory_high = {AMOUNT_INFINITY, 0},
		.memory_low = {AMOUNT_ABSOLUTE, 0},
		.tasks_max = {AMOUNT_ABSOLUTE, 7},
		.cpu_weight = 50,
		.cpu_quota_us = 200000,
		.cpu_period_ns = 100000000};
	struct limits_unit unit = {0};
	struct strings missing = {0};

	set(fixture, &config, true, &unit, &missing);
	assert_int_equal(missing.count, 0);
	assert_true(unit.used[LIMITS_CPU] && unit.used[LIMITS_MEMORY] && unit.used[LIMITS_PIDS]);
	assert_file(fixture, "k/a.service/memory.max", "4096");
	assert_file(fixture, "k/a.service/memory.high", "max");
	assert_file(fixture, "k/a.service/memory.low", "0");
	assert_file(fixture, "k/a.service/memory.oom.group", "1");
	assert_file(fixture, "k/a.service/pids.max", "7");
	assert_file(fixture, "k/a.service/cpu.weight", "50");
	assert_file(fixture, "k/a.service/cpu.max", "20000 100000");
}

static void old_names_are_other_scales_of_the_same(void **state)
{
	struct fixture *fixture = *state;
	struct resource_config config = {
		.memory_limit = {AMOUNT_ABSOLUTE, 8192}, .cpu_shares = 2048, .cpu_period_ns = 100000000};
	struct limits_unit unit = {0};
	struct strings missing = {0};

	set(fixture, &config, false, &unit, &missing);
	assert_int_equal(missing.count, 0);
	assert_file(fixture, "k/a.service/memory.max", "8192");
	assert_file(fixture, "k/a.service/memory.oom.group", "");
	assert_file(fixture, "k/a.service/cpu.weight", "200");
	assert_file(fixture, "k/a.service/pids.max", "");
}

static void what_the_kernel_lacks_is_named(void **state)
{
	struct fixture *fixture = *state;
	struct resource_config config = {.memory_swap_max = {AMOUNT_ABSOLUTE, 0}};
	struct limits_unit unit = {0};
	struct strings missing = {0};

	set(fixture, &config, false, &unit, &missing);
	assert_int_equal(missing.count, 1);
	assert_string_equal(missing.items[0],
		"MemorySwapMax= is not in force: the cgroup controller memory here has no such limit");
	strings_done(&missing);
}

static void kills_are_counted(void **state)
{
	struct fixture *fixture = *state;
	struct resource_config config = {.memory_max = {AMOUNT_ABSOLUTE, 4096}};
	struct limits_unit unit = {0};
	struct strings missing = {0};

	assert_int_equal(limits_oom_kills(&fixture->limits, "a.service", &unit), 0);
	set(fixture, &config, false, &unit, &missing);
	put_file(fixture, "k/a.service/memory.events",
		"low 0\nhigh 1\nmax 12\noom 3\noom_kill 2\noom_group_kill 9\n");
	assert_int_equal(limits_oom_kills(&fixture->limits, "a.service", &unit), 2);
	limits_unit_remove(&fixture->limits, "a.service", &unit);
	assert_false(unit.used[LIMITS_MEMORY]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_limit_has_its_file, setup, teardown),
		cmocka_unit_test_setup_teardown(old_names_are_other_scales_of_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(what_the_kernel_lacks_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(kills_are_counted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
