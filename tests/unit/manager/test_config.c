#include "manager/config.h"
#include "base/memory.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static bool host(void *userdata, char letter, struct buf *out)
{
	(void)userdata;
	if (letter == 'H')
		buf_add_str(out, "host1");
	return letter == 'H';
}

static void read_named(const char *name, const char *text, struct service_config *ret)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	struct unit_specifiers specifiers = {.host = host};

	assert_int_equal(unit_file_parse(slice_str(text), &file, NULL), 0);
	assert_int_equal(unit_name_parse(slice_str(name), &specifiers.name), 0);
	service_config_read(file, &specifiers, ret);
}

static void read_service(const char *body, struct service_config *ret)
{
	_cleanup_free_ char *text = mem_printf("[Service]\nExecStart=/bin/true\n%s", body);

	read_named("web@1.service", text, ret);
}

static void defaults_are_those_of_systemd(void **state)
{
	_cleanup_(service_config_done) struct service_config config;

	(void)state;
	read_service("", &config);
	assert_null(config.error);
	assert_int_equal(config.type, SERVICE_SIMPLE);
	assert_int_equal(config.restart, RESTART_NO);
	assert_int_equal(config.restart_ns, 100000000);
	assert_int_equal(config.timeout_start_ns, INT64_C(90000000000));
	assert_int_equal(config.timeout_stop_ns, INT64_C(90000000000));
	assert_int_equal(config.kill_mode, KILL_CONTROL_GROUP);
	assert_int_equal(config.kill_signal, SIGTERM);
	assert_true(config.send_sigkill);
	assert_int_equal(config.umask, 0022);
	assert_int_equal(config.start_limit_burst, 5);
	assert_int_equal(config.warnings.count, 0);
}

static void directives_set_what_they_name(void **state)
{
	_cleanup_(service_config_done) struct service_config config;

	(void)state;
	read_service(
		"Restart=on-failure\nRestartSec=1min 30s\nTimeoutSec=0\nKillMode=mixed\nKillSignal=SIGINT\n"
		"SendSIGKILL=no\nRemainAfterExit=yes\nUser=%i\nWorkingDirectory=-/srv/%p\nUMask=0077\n"
		"SuccessExitStatus=3 SIGUSR1 TEMPFAIL\nEnvironment=A=1 \"B=x y\" "
		"C=%H\nEnvironmentFile=-/etc/%p\n"
		"StandardOutput=null\nNice=5\n[Unit]\nDescription=The %p on "
		"%H\nStartLimitBurst=2\nAfter=a.service b@%i.service\n",
		&config);
	assert_null(config.error);
	assert_int_equal(config.restart, RESTART_ON_FAILURE);
	assert_int_equal(config.restart_ns, INT64_C(90000000000));
	assert_int_equal(config.timeout_start_ns, UNIT_SPAN_INFINITY);
	assert_int_equal(config.timeout_stop_ns, UNIT_SPAN_INFINITY);
	assert_int_equal(config.kill_mode, KILL_MIXED);
	assert_int_equal(config.kill_signal, SIGINT);
	assert_false(config.send_sigkill);
	assert_true(config.remain_after_exit);
	assert_string_equal(config.user, "1");
	assert_string_equal(config.working_directory, "/srv/web");
	assert_true(config.working_directory_optional);
	assert_int_equal(config.umask, 0077);
	assert_true(status_set_has(&config.success, false, 3));
	assert_true(status_set_has(&config.success, false, 75));
	assert_true(status_set_has(&config.success, true, SIGUSR1));
	assert_false(status_set_has(&config.success, false, 4));
	assert_int_equal(config.environment.count, 3);
	assert_string_equal(config.environment.items[1], "B=x y");
	assert_string_equal(config.environment.items[2], "C=host1");
	assert_string_equal(config.environment_files.items[0], "-/etc/web");
	assert_true(config.null_stdout);
	assert_int_equal(config.nice, 5);
	assert_string_equal(config.description, "The web on host1");
	assert_int_equal(config.start_limit_burst, 2);
	assert_true(strings_have(&config.dependencies[DEP_AFTER], "b@1.service"));
	assert_int_equal(config.warnings.count, 0);
}

static void an_empty_value_clears_a_list(void **state)
{
	_cleanup_(service_config_done) struct service_config config;

	(void)state;
	read_service(
		"ExecStartPre=/bin/a\nExecStartPre=\nExecStartPre=/bin/b\nEnvironment=A=1\nEnvironment=\n"
		"EnvironmentFile=/a\nEnvironmentFile=\nEnvironmentFile=/b\n",
		&config);
	assert_int_equal(config.exec[EXEC_START_PRE].count, 1);
	assert_string_equal(config.exec[EXEC_START_PRE].items[0].words[0], "/bin/b");
	assert_int_equal(config.environment.count, 0);
	assert_int_equal(config.environment_files.count, 1);
	assert_string_equal(config.environment_files.items[0], "/b");
}

static void a_oneshot_has_no_start_timeout_of_its_own(void **state)
{
	_cleanup_(service_config_done) struct service_config plain, set;

	(void)state;
	read_service("Type=oneshot\nExecStart=/bin/false\n", &plain);
	assert_null(plain.error);
	assert_int_equal(plain.exec[EXEC_START].count, 2);
	assert_int_equal(plain.timeout_start_ns, UNIT_SPAN_INFINITY);
	read_service("Type=oneshot\nTimeoutStartSec=5\n", &set);
	assert_int_equal(set.timeout_start_ns, INT64_C(5000000000));
}

static void what_cannot_work_is_an_error(void **state)
{
	static const struct {
		const char *name, *text, *error;
	} rows[] = {
		{"a.service", "[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n",
			"Service has more than one ExecStart= setting, which is only allowed for "
			"Type=oneshot services. "
			"Refusing."},
		{"a.service", "[Service]\nRestart=no\n",
			"Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing."},
		{"a.service", "[Service]\nType=oneshot\nExecStart=/bin/a\nRestart=always\n",
			"Service has Restart= set to either always or on-success, which isn't allowed for "
			"Type=oneshot "
			"services. Refusing."},
		{"a.service", "[Service]\nType=notify\nExecStart=/bin/a\n",
			"Type=notify is not supported (simple, exec and oneshot are)"},
		{"a.service", "[Service]\nExecStart=/bin/a \"b\n", "ExecStart=: unbalanced quotes"},
		{"a.service", "[Service]\nExecStart=./a\n",
			"ExecStart=: \"./a\" is neither an absolute path nor a plain file name"},
		{"a.timer", "[Timer]\nOnCalendar=daily\n",
			"units of type timer are not supported by the supervisor"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(service_config_done) struct service_config config;

		read_named(rows[i].name, rows[i].text, &config);
		assert_non_null(config.error);
		assert_string_equal(config.error, rows[i].error);
		assert_true(config.warnings.count > 0);
	}
}

static void what_is_not_understood_is_a_warning_with_its_line(void **state)
{
	static const struct {
		const char *body, *warning; /* NULL: none */
	} rows[] = {
		{"LimitNOFILE=5\n", "web@1.service:3: LimitNOFILE= in section 'Service' is not supported by "
				    "the supervisor, ignoring."},
		{"Frobnicate=5\n",
			"web@1.service:3: Unknown key name 'Frobnicate' in section 'Service', ignoring."},
		{"[Unit]\nEnvironmentFile=/etc/environment\n",
			"web@1.service:4: Unknown key name 'EnvironmentFile' in section 'Unit', ignoring."},
		{"[Unit]\nConditionPathExists=/x\n",
			"web@1.service:4: ConditionPathExists= in section 'Unit' is not "
			"supported by the supervisor, ignoring."},
		{"ExecReload=/bin/kill -HUP $MAINPID\n", "web@1.service:3: ExecReload= in section 'Service' "
							 "is not supported by the supervisor, ignoring."},
		{"[Mount]\nWhat=x\n", "web@1.service:4: Unknown section 'Mount'. Ignoring."},
		{"Restart=sometimes\n", "web@1.service:3: Failed to parse Restart=sometimes, ignoring"},
		{"RestartSec=soon\n", "web@1.service:3: Failed to parse RestartSec=soon, ignoring (expected "
				      "a time span such "
				      "as 1min 30s)"},
		{"Environment=1=2\n", "web@1.service:3: Invalid environment assignment, ignoring: 1=2"},
		{"[Unit]\nAfter=nonsense\n",
			"web@1.service:4: Invalid unit name in After=, ignoring: nonsense"},
		{"[X-Fleet]\nConflicts=a\n[Install]\nWantedBy=multi-user.target\n", NULL},
		{"[Unit]\nDocumentation=man:x\nX-Mine=1\n", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(service_config_done) struct service_config config;

		read_service(rows[i].body, &config);
		assert_null(config.error);
		assert_int_equal(config.warnings.count, rows[i].warning ? 1 : 0);
		if (rows[i].warning)
			assert_string_equal(config.warnings.items[0], rows[i].warning);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_systemd),
		cmocka_unit_test(directives_set_what_they_name),
		cmocka_unit_test(an_empty_value_clears_a_list),
		cmocka_unit_test(a_oneshot_has_no_start_timeout_of_its_own),
		cmocka_unit_test(what_cannot_work_is_an_error),
		cmocka_unit_test(what_is_not_understood_is_a_warning_with_its_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
