/* fleetd's configuration: the file's syntax, the order of sources, and what is said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fleet/config.h"

static int parse(struct fleetd_config *config, const char *text, struct buf *error)
{
	fleetd_config_defaults(config);
	return fleetd_config_parse(config, "fleet.conf", slice_str(text), error);
}

static void defaults_are_fleets(void **state)
{
	struct fleetd_config config;

	(void)state;
	fleetd_config_defaults(&config);
	assert_string_equal(config.etcd_servers, "http://127.0.0.1:2379,http://127.0.0.1:4001");
	assert_int_equal(config.agent_ttl_s, 30);
	assert_int_equal(config.reconcile_ms, 2000);
	assert_int_equal(config.etcd_request_timeout_ms, 1000);
	assert_int_equal(config.token_limit, 100);
	assert_string_equal(config.listen, "unix:///var/run/fleet.sock");
	assert_string_equal(config.peer_listen, ":49153");
	assert_false(fleetd_config_names(&config, "peer_listen"));
	assert_int_equal(config.warnings.len, 0);
	fleetd_config_done(&config);
}

static void lists_quotes_comments_and_continued_lines_are_read(void **state)
{
	struct fleetd_config config;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	assert_int_equal(
		parse(&config,
			"# comment\n; other\nETCD_SERVERS = [\"http://a:1\", \"http://b:2\"] # tail\n"
			"metadata=\"region=east, disk=ssd,nonsense,disk=hdd\"\nagent_ttl='1m30s'\n"
			"public_ip=10.0.0.\\\n7\nverbosity=1 ; loud\nengine_reconcile_interval=0.5\n",
			&error),
		0);
	assert_string_equal(config.etcd_servers, "http://a:1,http://b:2");
	assert_true(fleetd_config_names(&config, "metadata"));
	assert_false(fleetd_config_names(&config, "listen"));
	assert_int_equal(config.metadata_count, 2);
	assert_string_equal(config.metadata[0].key, "disk");
	assert_string_equal(config.metadata[0].value, "hdd");
	assert_int_equal(config.agent_ttl_s, 90);
	assert_string_equal(config.public_ip, "10.0.0.7");
	assert_int_equal(config.verbosity, 1);
	assert_int_equal(config.reconcile_ms, 500);
	fleetd_config_done(&config);
}

static void mistakes_name_file_line_and_what_was_expected(void **state)
{
	struct fleetd_config config;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	assert_int_equal(parse(&config, "verbosity=1\nnonsense\n", &error), -22);
	assert_string_equal(buf_text(&error), "fleet.conf:2: iniparser: syntax error: expected KEY=VALUE");
	fleetd_config_done(&config);
	buf_clear(&error);
	assert_int_equal(parse(&config, "agent_ttl=30\n", &error), -22);
	assert_string_equal(buf_text(&error),
		"fleet.conf:1: agent_ttl: time: invalid duration \"30\" (write it as 30s or 1m)");
	fleetd_config_done(&config);
	buf_clear(&error);
	assert_int_equal(parse(&config, "unit_manager=upstart\n", &error), -22);
	assert_non_null(strstr(buf_text(&error), "fleet.conf:1: unit_manager: \"upstart\" is unknown"));
	fleetd_config_done(&config);
	buf_clear(&error);
	assert_int_equal(parse(&config, "etcd_cafile=/x\napi_writers=[\"user:a\",\"tcp\"]\n", &error), 0);
	assert_string_equal(config.etcd_cafile, "/x");
	assert_string_equal(config.api_writers, "user:a,tcp");
	fleetd_config_done(&config);
}

static void what_fleet_ignores_in_silence_is_ignored_with_a_warning(void **state)
{
	struct fleetd_config config;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	assert_int_equal(parse(&config,
				 "metadat=x\ntoken_limit=many\ndisable_engine=perhaps\nverify_units=true\n["
				 "fleet]\nverbosity=1\n",
				 &error),
		0);
	assert_int_equal(config.verbosity, 0);
	assert_int_equal(config.token_limit, 100);
	assert_non_null(strstr(buf_text(&config.warnings), "fleet.conf:1: metadat: is no known key"));
	assert_non_null(strstr(buf_text(&config.warnings), "fleet.conf:2: token_limit: is no number"));
	assert_non_null(strstr(
		buf_text(&config.warnings), "fleet.conf:3: disable_engine: is neither true nor false"));
	assert_non_null(
		strstr(buf_text(&config.warnings), "fleet.conf:4: verify_units: has no meaning here"));
	assert_non_null(strstr(buf_text(&config.warnings), "fleet.conf:6: verbosity: stands in a section"));
	fleetd_config_done(&config);
}

static void the_environment_beats_the_file_and_a_missing_file_is_named(void **state)
{
	struct fleetd_config config;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	assert_true(fleetd_config_load("/nonexistent/fleet.conf", &config, &error) < 0);
	assert_string_equal(buf_text(&error),
		"cannot read the configuration /nonexistent/fleet.conf: No such file or directory");
	buf_clear(&error);
	setenv("FLEET_METADATA", "a=1", 1);
	setenv("FLEET_ETCD_KEY_PREFIX", "/x/y/", 1);
	assert_int_equal(fleetd_config_load("/dev/null", &config, &error), 0);
	assert_string_equal(config.metadata[0].value, "1");
	assert_string_equal(config.prefix, "/x/y");
	fleetd_config_done(&config);
	unsetenv("FLEET_METADATA");
	unsetenv("FLEET_ETCD_KEY_PREFIX");
}

/* As in fleet 1.0.0, which looks whether the variable is there; 0.13 looked at its value. */
static void an_empty_variable_empties_what_the_file_says(void **state)
{
	struct fleetd_config config;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	char path[] = "/tmp/test_config.XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(dprintf(fd, "metadata=a=1\npublic_ip=10.0.0.7\n"), 32);
	close(fd);
	setenv("FLEET_METADATA", "", 1);
	assert_int_equal(fleetd_config_load(path, &config, &error), 0);
	assert_int_equal(config.metadata_count, 0);
	assert_true(fleetd_config_names(&config, "metadata"));
	assert_string_equal(config.public_ip, "10.0.0.7");
	fleetd_config_done(&config);
	unsetenv("FLEET_METADATA");
	unlink(path);
}

static void what_a_new_configuration_cannot_change_is_named(void **state)
{
	struct fleetd_config a, b;
	_cleanup_buf_ struct buf error = BUF_INIT(4096), fixed = BUF_INIT(4096);

	(void)state;
	fleetd_config_defaults(&a);
	fleetd_config_defaults(&b);
	fleetd_config_add_fixed(&fixed, &a, &b);
	assert_string_equal(buf_text(&fixed), "");
	assert_int_equal(fleetd_config_parse(&b, "f",
				 SLICE_LITERAL("agent_ttl=7s\ntoken_limit=3\nmetadata=a=b\nverbosity=1\n"
					       "etcd_servers=http://x:1\nunit_manager=supervisor\n"
					       "disable_engine=true\nengine_reconcile_interval=9\n"),
				 &error),
		0);
	fleetd_config_add_fixed(&fixed, &a, &b);
	assert_string_equal(buf_text(&fixed), "etcd_servers, engine_reconcile_interval, agent_ttl, "
					      "token_limit, disable_engine, unit_manager");
	fleetd_config_done(&a);
	fleetd_config_done(&b);
}

static void an_ordinary_user_has_defaults_of_its_own(void **state)
{
	bool own = access("/var/lib/fleet", W_OK) == 0; /* of the user who runs this */
	struct fleetd_config config;

	(void)state;
	setenv("HOME", "/home/a", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	unsetenv("XDG_STATE_HOME");
	fleetd_config_defaults(&config);
	fleetd_config_for_user(&config);
	assert_string_equal(config.data_dir, own ? "/var/lib/fleet" : "/home/a/.local/state/fleet");
	assert_string_equal(config.listen, "unix:///run/user/7/fleet.sock");
	assert_string_equal(config.supervisor_dir, "/run/user/7/fleet/supervisor");
	fleetd_config_done(&config);

	setenv("XDG_STATE_HOME", "/state", 1);
	unsetenv("XDG_RUNTIME_DIR");
	fleetd_config_defaults(&config);
	fleetd_config_for_user(&config);
	assert_string_equal(config.data_dir, own ? "/var/lib/fleet" : "/state/fleet");
	assert_string_equal(config.listen, "unix:///var/run/fleet.sock");
	assert_string_equal(config.supervisor_dir, "/run/fleet/supervisor");
	fleetd_config_done(&config);
}

static void what_a_user_names_is_taken_for_the_user_too(void **state)
{
	struct fleetd_config config;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)state;
	setenv("XDG_STATE_HOME", "/state", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	assert_int_equal(parse(&config,
				 "agent_data_dir=/nonexistent/data\nlisten=unix:///var/run/fleet.sock\n"
				 "supervisor_dir=/run/fleet/supervisor\n",
				 &error),
		0);
	fleetd_config_for_user(&config);
	assert_string_equal(config.data_dir, "/nonexistent/data");
	assert_string_equal(config.listen, "unix:///var/run/fleet.sock");
	assert_string_equal(config.supervisor_dir, "/run/fleet/supervisor");
	fleetd_config_done(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_fleets),
		cmocka_unit_test(lists_quotes_comments_and_continued_lines_are_read),
		cmocka_unit_test(mistakes_name_file_line_and_what_was_expected),
		cmocka_unit_test(what_fleet_ignores_in_silence_is_ignored_with_a_warning),
		cmocka_unit_test(what_a_new_configuration_cannot_change_is_named),
		cmocka_unit_test(the_environment_beats_the_file_and_a_missing_file_is_named),
		cmocka_unit_test(an_empty_variable_empties_what_the_file_says),
		cmocka_unit_test(an_ordinary_user_has_defaults_of_its_own),
		cmocka_unit_test(what_a_user_names_is_taken_for_the_user_too),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
