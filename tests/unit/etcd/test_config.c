#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include "etcd/config.h"
#include <cmocka.h>

enum { ARGS_MAX = 12 };

static int read_args(struct config *config, struct buf *warnings, const char *const *args)
{
	char *argv[ARGS_MAX + 2] = {"etcd"};
	int argc = 1;

	for (; args[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)args[argc - 1];
	return config_read(config, argc, argv, warnings);
}

static void no_flags_at_all_make_a_member_on_localhost(void **state)
{
	static const char *const args[] = {NULL};
	_cleanup_buf_ struct buf warnings = BUF_INIT(0);
	struct config config;

	(void)state;
	assert_int_equal(read_args(&config, &warnings, args), -1);
	assert_string_equal(config.name, "default");
	assert_string_equal(config.data_dir, "default.etcd");
	assert_string_equal(config.listen_client_urls[1], "http://localhost:4001");
	assert_string_equal(config.listen_peer_urls[1], "http://localhost:7001");
	assert_int_equal(config.cluster.count, 1);
	assert_false(config.cluster_given);
	assert_string_equal(buf_text(&warnings), "");
	config_done(&config);
}

static void flags_beat_the_environment(void **state)
{
	static const char *const args[] = {"--name", "a", NULL};
	_cleanup_buf_ struct buf warnings = BUF_INIT(0);
	struct config config;

	(void)state;
	(void)setenv("ETCD_NAME", "b", 1);
	(void)setenv("ETCD_HEARTBEAT_INTERVAL", "50", 1);
	(void)setenv("ETCD_UNHEARD_OF", "1", 1);
	assert_int_equal(read_args(&config, &warnings, args), -1);
	assert_string_equal(config.name, "a");
	assert_int_equal(config.heartbeat_ms, 50);
	assert_string_equal(buf_text(&warnings), "unrecognized environment variable ETCD_UNHEARD_OF\n");
	config_done(&config);
	(void)unsetenv("ETCD_NAME");
	(void)unsetenv("ETCD_HEARTBEAT_INTERVAL");
	(void)unsetenv("ETCD_UNHEARD_OF");
}

static void what_cannot_work_ends_with_a_status(void **state)
{
	static char too_long[IDENTITY_NAME_BYTES_MAX + 2];
	static const struct {
		const char *args[6];
		int status;
	} cases[] = {
		{{"--name", too_long}, 1},
		{{"--name", "n\nmember 1"}, 1},
		{{"--name", "n\x7f"}, 1},
		{{"--nonsense"}, 2},
		{{"--heartbeat-interval=x"}, 2},
		{{"word"}, 1},
		{{"--listen-client-urls", "http://127.0.0.1:1"}, 1},
		{{"--listen-peer-urls", "http://127.0.0.1"}, 1},
		{{"--listen-peer-urls", "https://127.0.0.1:1"}, 1},
		{{"--initial-cluster-state", "old"}, 1},
		{{"--heartbeat-interval=0"}, 1},
		{{"--election-timeout=400"}, 1},
		{{"--election-timeout=60000"}, 1},
		{{"--discovery", "http://x"}, 1},
		{{"--proxy=on"}, 1},
		{{"--force-new-cluster"}, 1},
		{{"--version"}, 0},
	};

	(void)state;
	memset(too_long, 'n', sizeof(too_long) - 1);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf warnings = BUF_INIT(0);
		struct config config;

		assert_int_equal(read_args(&config, &warnings, cases[i].args), cases[i].status);
		config_done(&config);
	}
}

/* A data directory in use does not mind, so it is not decided here. */
static void an_initial_cluster_that_makes_no_sense_is_told(void **state)
{
	static const struct {
		const char *args[3], *part;
	} cases[] = {
		{{"--initial-cluster", "x=http://localhost:2380"}, "couldn't find local name \"default\""},
		{{"--initial-cluster", "default=http://localhost:1"}, "different URLs"},
		{{"--initial-cluster", "nonsense"}, "--initial-cluster: "},
		{{"--initial-cluster", "default=http://localhost:2380,a\nb=http://h:1"},
			"must not contain control characters (byte 0x0a after \"a\")"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf warnings = BUF_INIT(0);
		struct config config;

		assert_int_equal(read_args(&config, &warnings, cases[i].args), -1);
		assert_non_null(strstr(config.cluster_error, cases[i].part));
		config_done(&config);
	}
}

static void what_has_no_effect_is_accepted_and_said(void **state)
{
	static const char *const args[] = {"--enable-v2", "--snapshot-count", "5", "--max-wals=3",
		"--proxy=off", "--discovery=", "--vv", NULL};
	_cleanup_buf_ struct buf warnings = BUF_INIT(0);
	struct config config;

	(void)state;
	assert_int_equal(read_args(&config, &warnings, args), -1);
	assert_string_equal(buf_text(&warnings), "--max-wals has no "
						 "effect here\n--vv has no effect here\n");
	assert_int_equal(config.snapshot_count, 5);
	config_done(&config);
}

static void a_cluster_of_three_is_read(void **state)
{
	static const char *const args[] = {"--name=b", "--initial-advertise-peer-urls",
		"http://10.0.0.2:2380", "--initial-cluster",
		"a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380",
		"--listen-client-urls=http://0.0.0.0:2379",
		"--advertise-client-urls=http://10.0.0.2:2379,http://10.0.0.2:2378", NULL};
	_cleanup_buf_ struct buf warnings = BUF_INIT(0);
	struct config config;

	(void)state;
	assert_int_equal(read_args(&config, &warnings, args), -1);
	assert_int_equal(config.cluster.count, 3);
	assert_true(config.cluster_given);
	assert_string_equal(config.advertise_client_urls[0], "http://10.0.0.2:2378");
	config_done(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_flags_at_all_make_a_member_on_localhost),
		cmocka_unit_test(flags_beat_the_environment),
		cmocka_unit_test(what_cannot_work_ends_with_a_status),
		cmocka_unit_test(what_has_no_effect_is_accepted_and_said),
		cmocka_unit_test(an_initial_cluster_that_makes_no_sense_is_told),
		cmocka_unit_test(a_cluster_of_three_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
