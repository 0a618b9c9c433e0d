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
	assert_int_equal(config.process.umask, 0022);
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
	assert_string_equal(config.process.user, "1");
	assert_string_equal(config.process.working_directory, "/srv/web");
	assert_true(config.process.working_directory_optional);
	assert_int_equal(config.process.umask, 0077);
	assert_true(status_set_has(&config.success, false, 3));
	assert_true(status_set_has(&config.success, false, 75));
	assert_true(status_set_has(&config.success, true, SIGUSR1));
	assert_false(status_set_has(&config.success, false, 4));
	assert_int_equal(config.environment.count, 3);
	assert_string_equal(config.environment.items[1], "B=x y");
	assert_string_equal(config.environment.items[2], "C=host1");
	assert_string_equal(config.environment_files.items[0], "-/etc/web");
	assert_int_equal(config.process.output.kind, STREAM_NULL);
	assert_int_equal(config.process.nice, 5);
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
		{"a.service", "[Service]\nType=dbus\nBusName=a.b\nExecStart=/bin/a\n",
			"Type=dbus is not supported: the supervisor has no bus to see the name on"},
		{"a.service", "[Service]\nType=forking\nExecStart=/bin/a\nExecStart=/bin/b\n",
			"Service has more than one ExecStart= setting, which is only allowed for "
			"Type=oneshot services. Refusing."},
		{"a.service", "[Service]\nType=oneshot\nExitType=cgroup\nExecStart=/bin/a\n",
			"Service has ExitType=cgroup set, which isn't allowed for Type=oneshot services. "
			"Refusing."},
		{"a.service", "[Service]\nExecStart=/bin/a \"b\n", "ExecStart=: unbalanced quotes"},
		{"a.service", "[Service]\nExecStart=./a\n",
			"ExecStart=: \"./a\" is neither an absolute path nor a plain file name"},
		{"a.timer", "[Unit]\nDescription=a\n", "Timer unit lacks value setting. Refusing."},
		{"a.path", "[Path]\nUnit=b.service\n", "Path unit lacks path setting. Refusing."},
		{"a.socket", "[Socket]\nListenStream=80\nListenStream=\n",
			"Unit has no Listen setting (ListenStream=, ListenDatagram=, ListenFIFO=, ...). "
			"Refusing."},
		{"a.socket", "[Socket]\nListenStream=80\nAccept=yes\n",
			"Accept=yes is not supported by the supervisor: it starts one service for all "
			"connections"},
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

static void units_of_other_types_are_refused(void **state)
{
	static const char *const types[] = {"mount", "automount", "swap", "slice", "scope", "device"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		_cleanup_free_ char *name = mem_printf("a.%s", types[i]);
		_cleanup_free_ char *error =
			mem_printf("units of type %s are not supported by the supervisor", types[i]);
		_cleanup_(service_config_done) struct service_config config;

		read_named(name, "[Unit]\nDescription=a\n", &config);
		assert_true(config.unsupported_type);
		assert_string_equal(config.error, error);
	}
}

static void what_is_not_understood_is_a_warning_with_its_line(void **state)
{
	static const struct {
		const char *body, *warning; /* NULL: none */
	} rows[] = {
		{"PrivateTmp=yes\n", "web@1.service:3: PrivateTmp= in section 'Service' is not supported by "
				     "the supervisor, ignoring (it needs a mount namespace)."},
		{"LimitNOFILE=9:5\n", "web@1.service:3: Failed to parse LimitNOFILE=9:5, ignoring (expected "
				      "a limit, SOFT:HARD or infinity)"},
		{"StateDirectory=../x\n", "web@1.service:3: Failed to parse StateDirectory=../x, ignoring "
					  "(expected relative paths without . and .. (links are not "
					  "supported))"},
		{"MemoryMax=0\n", "web@1.service:3: Failed to parse MemoryMax=0, ignoring (expected a size "
				  "such as 512M, a percentage or infinity)"},
		{"[Unit]\nStartLimitAction=reboot\n",
			"web@1.service:4: StartLimitAction=reboot is refused: the supervisor does nothing to "
			"the host, ignoring."},
		{"[Unit]\nStartLimitAction=none\n", NULL},
		{"StandardInput=tty\n",
			"web@1.service:3: StandardInput=tty is not supported, the input is empty"},
		{"Frobnicate=5\n",
			"web@1.service:3: Unknown key name 'Frobnicate' in section 'Service', ignoring."},
		{"[Unit]\nEnvironmentFile=/etc/environment\n",
			"web@1.service:4: Unknown key name 'EnvironmentFile' in section 'Unit', ignoring."},
		{"[Unit]\nConditionPathExists=/x\n",
			"web@1.service:4: ConditionPathExists= in section 'Unit' is not "
			"supported by the supervisor, ignoring (use ExecCondition=)."},
		{"ExecReload=/bin/kill -HUP $MAINPID\n", NULL},
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

static void what_sets_up_processes_is_ignored_in_a_socket(void **state)
{
	_cleanup_(service_config_done) struct service_config config;

	(void)state;
	read_named(
		"a.socket", "[Socket]\nListenStream=80\nUser=nobody\nMemoryMax=1G\nFrobnicate=5\n", &config);
	assert_null(config.error);
	assert_int_equal(config.warnings.count, 3);
	assert_string_equal(config.warnings.items[0],
		"a.socket:3: User= in section 'Socket' is not supported by the supervisor, ignoring (sockets "
		"run no commands).");
	assert_non_null(strstr(config.warnings.items[1], "MemoryMax= in section 'Socket' is not supported"));
	assert_string_equal(config.warnings.items[2],
		"a.socket:5: Unknown key name 'Frobnicate' in section 'Socket', ignoring.");
}

static void types_decide_who_may_notify(void **state)
{
	static const struct {
		const char *body;
		enum service_type type;
		enum notify_access access;
	} rows[] = {
		{"", SERVICE_SIMPLE, NOTIFY_NONE},
		{"Type=forking\n", SERVICE_FORKING, NOTIFY_NONE},
		{"Type=notify\n", SERVICE_NOTIFY, NOTIFY_MAIN},
		{"Type=notify\nNotifyAccess=all\n", SERVICE_NOTIFY, NOTIFY_ALL},
		{"Type=notify-reload\nNotifyAccess=exec\n", SERVICE_NOTIFY_RELOAD, NOTIFY_EXEC},
		{"Type=idle\nWatchdogSec=5\n", SERVICE_IDLE, NOTIFY_MAIN},
		{"NotifyAccess=none\n", SERVICE_SIMPLE, NOTIFY_NONE},
		{"WatchdogSec=5\nNotifyAccess=none\n", SERVICE_SIMPLE, NOTIFY_MAIN},
		{"Type=notify\nNotifyAccess=none\n", SERVICE_NOTIFY, NOTIFY_MAIN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(service_config_done) struct service_config config;

		read_service(rows[i].body, &config);
		assert_null(config.error);
		assert_int_equal(config.type, rows[i].type);
		assert_int_equal(config.notify_access, rows[i].access);
	}
}

static void resource_limits_are_counts_sizes_and_times(void **state)
{
	static const struct {
		const char *body;
		int resource;
		rlim_t soft, hard;
	} rows[] = {
		{"LimitNOFILE=1024:4096\n", RLIMIT_NOFILE, 1024, 4096},
		{"LimitNOFILE=infinity\n", RLIMIT_NOFILE, RLIM_INFINITY, RLIM_INFINITY},
		{"LimitAS=64K:1.5G\n", RLIMIT_AS, 65536, 1610612736},
		{"LimitCORE=0\n", RLIMIT_CORE, 0, 0},
		{"LimitCPU=1min 30s\n", RLIMIT_CPU, 90, 90},
		{"LimitCPU=1500ms:infinity\n", RLIMIT_CPU, 2, RLIM_INFINITY},
		{"LimitRTTIME=500\n", RLIMIT_RTTIME, 500, 500},
		{"LimitRTTIME=2s\n", RLIMIT_RTTIME, 2000000, 2000000},
		{"LimitNICE=+5\n", RLIMIT_NICE, 15, 15},
		{"LimitNICE=-5\n", RLIMIT_NICE, 25, 25},
		{"LimitNICE=30\n", RLIMIT_NICE, 30, 30},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(service_config_done) struct service_config config;

		read_service(rows[i].body, &config);
		assert_int_equal(config.warnings.count, 0);
		assert_true(config.process.limits[rows[i].resource].set);
		assert_int_equal(config.process.limits[rows[i].resource].soft, rows[i].soft);
		assert_int_equal(config.process.limits[rows[i].resource].hard, rows[i].hard);
	}
}

static void processes_are_set_up_as_said(void **state)
{
	_cleanup_(service_config_done) struct service_config config;
	const struct process_config *process = &config.process;

	(void)state;
	read_service("OOMScoreAdjust=-500\nCPUSchedulingPolicy=rr\nCPUSchedulingPriority=50\n"
		     "CPUAffinity=0-2,5\nIOSchedulingClass=idle\nIOSchedulingPriority=3\n"
		     "SupplementaryGroups=audio video\nRuntimeDirectory=a/b c\nRuntimeDirectoryMode=0700\n"
		     "RuntimeDirectoryPreserve=restart\nStandardInput=file:/in\nStandardOutput=append:/out\n"
		     "PassEnvironment=A B\nCapabilityBoundingSet=CAP_CHOWN CAP_KILL\n"
		     "CapabilityBoundingSet=~CAP_KILL\nAmbientCapabilities=CAP_NET_RAW\n"
		     "NoNewPrivileges=yes\nIgnoreSIGPIPE=no\n",
		&config);
	assert_int_equal(config.warnings.count, 0);
	assert_true(process->oom_score_set && process->oom_score == -500);
	assert_true(process->policy_set && process->policy == 2 && process->priority == 50);
	assert_true(process->affinity_set && process->affinity[0] == 0x27);
	assert_true(process->io_set && process->io_class == 3 && process->io_priority == 3);
	assert_true(strings_have(&process->groups, "video"));
	assert_true(strings_have(&process->directories[DIRECTORY_RUNTIME].names, "a/b"));
	assert_int_equal(process->directories[DIRECTORY_RUNTIME].mode, 0700);
	assert_int_equal(process->directories[DIRECTORY_STATE].mode, 0755);
	assert_int_equal(process->runtime_preserve, PRESERVE_RESTART);
	assert_string_equal(process->input.path, "/in");
	assert_int_equal(process->output.kind, STREAM_APPEND);
	assert_int_equal(process->error.kind, STREAM_DEFAULT);
	assert_int_equal(process->pass_environment.count, 2);
	assert_int_equal(process->capability_bounds, 1);
	assert_int_equal(process->ambient_capabilities, 1 << 13);
	assert_true(process->no_new_privileges && !process->ignore_sigpipe);
}

static void resources_are_amounts_shares_and_weights(void **state)
{
	_cleanup_(service_config_done) struct service_config config;
	const struct resource_config *resources = &config.resources;

	(void)state;
	read_service("MemoryMax=512M\nMemoryHigh=12.5%\nMemoryLow=infinity\nTasksMax=50%\nCPUQuota=150%\n"
		     "CPUQuotaPeriodSec=10ms\nCPUWeight=20\nCPUShares=2048\n",
		&config);
	assert_int_equal(config.warnings.count, 0);
	assert_int_equal(resources->memory_max.kind, AMOUNT_ABSOLUTE);
	assert_int_equal(resources->memory_max.value, 512 * 1024 * 1024);
	assert_int_equal(resources->memory_high.kind, AMOUNT_SHARE);
	assert_int_equal(resources->memory_high.value, 1250);
	assert_int_equal(resources->memory_low.kind, AMOUNT_INFINITY);
	assert_int_equal(resources->memory_limit.kind, AMOUNT_UNSET);
	assert_int_equal(resources->tasks_max.value, 5000);
	assert_int_equal(resources->cpu_quota_us, 1500000);
	assert_int_equal(resources->cpu_period_ns, 10000000);
	assert_int_equal(resources->cpu_weight, 20);
	assert_int_equal(resources->cpu_shares, 2048);
}

static void times_of_the_end_follow_one_another(void **state)
{
	_cleanup_(service_config_done) struct service_config plain, set;

	(void)state;
	read_service("TimeoutStopSec=7\n", &plain);
	assert_int_equal(plain.timeout_abort_ns, INT64_C(7000000000));
	assert_int_equal(plain.runtime_max_ns, UNIT_SPAN_INFINITY);
	assert_int_equal(plain.watchdog_signal, SIGABRT);
	read_service("TimeoutStopSec=7\nTimeoutAbortSec=9\nRuntimeMaxSec=5\nWatchdogSec=3\n"
		     "WatchdogSignal=SIGUSR1\nRestartKillSignal=SIGUSR2\nTimeoutStopFailureMode=abort\n"
		     "PIDFile=a.pid\nGuessMainPID=no\n",
		&set);
	assert_int_equal(set.timeout_abort_ns, INT64_C(9000000000));
	assert_int_equal(set.runtime_max_ns, INT64_C(5000000000));
	assert_int_equal(set.watchdog_ns, INT64_C(3000000000));
	assert_int_equal(set.watchdog_signal, SIGUSR1);
	assert_int_equal(set.restart_kill_signal, SIGUSR2);
	assert_int_equal(set.stop_failure_mode, FAILURE_ABORT);
	assert_string_equal(set.pid_file, "/run/a.pid");
	assert_false(set.guess_main_pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_systemd),
		cmocka_unit_test(directives_set_what_they_name),
		cmocka_unit_test(an_empty_value_clears_a_list),
		cmocka_unit_test(a_oneshot_has_no_start_timeout_of_its_own),
		cmocka_unit_test(what_cannot_work_is_an_error),
		cmocka_unit_test(units_of_other_types_are_refused),
		cmocka_unit_test(what_is_not_understood_is_a_warning_with_its_line),
		cmocka_unit_test(what_sets_up_processes_is_ignored_in_a_socket),
		cmocka_unit_test(types_decide_who_may_notify),
		cmocka_unit_test(resource_limits_are_counts_sizes_and_times),
		cmocka_unit_test(processes_are_set_up_as_said),
		cmocka_unit_test(resources_are_amounts_shares_and_weights),
		cmocka_unit_test(times_of_the_end_follow_one_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
