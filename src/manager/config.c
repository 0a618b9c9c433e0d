/* A table of directives; each row has a parser for its kind of value. A value that does not parse is a
 * warning and the setting keeps what it had, as in systemd; what makes the unit unusable sets `error`. */
#include "manager/config_internal.h"
#include "base/memory.h"
#include "base/text.h"
#include "manager/directives.h"
#include "unit/environment.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#define WARNINGS_MAX 100

bool status_set_has(const struct status_set *set, bool is_signal, int value)
{
	if (value < 0 || value >= (is_signal ? 128 : 256))
		return false;
	return (is_signal ? set->signals : set->codes)[value / 64] >> (value % 64) & 1;
}

static void status_set_add(struct status_set *set, bool is_signal, int value)
{
	(is_signal ? set->signals : set->codes)[value / 64] |= UINT64_C(1) << (value % 64);
}

void config_warn(struct reader *reader, const char *format, ...)
{
	struct strings *warnings = &reader->config->warnings;
	struct slice name = reader->specifiers->name.full;
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	char line[1024];
	va_list args;

	if (warnings->count >= WARNINGS_MAX)
		return;
	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	buf_add_slice(&text, name);
	if (reader->option && reader->option->line)
		buf_printf(&text, ":%u", reader->option->line);
	buf_printf(&text, ": %s", line);
	strings_add(warnings, buf_text(&text));
}

void config_fail(struct reader *reader, const char *text)
{
	if (!reader->config->error)
		reader->config->error = mem_strdup(text);
}

void config_warn_value(struct reader *reader, struct slice value, const char *expected)
{
	config_warn(reader, "Failed to parse %.*s=%.*s, ignoring (expected %s)",
		(int)reader->option->name.len, reader->option->name.data, (int)MIN(value.len, (size_t)200),
		value.data, expected);
}

char *config_expand(struct reader *reader, struct slice value)
{
	_cleanup_buf_ struct buf out = BUF_INIT(UNIT_TEXT_MAX);

	if (unit_specifiers_expand(reader->specifiers, value, &out) < 0)
		return NULL;
	return buf_take(&out, NULL);
}

static int expand_word(void *userdata, struct slice word, struct buf *out)
{
	return unit_specifiers_expand(userdata, word, out);
}

void parse_string(struct reader *reader, struct slice value, size_t offset)
{
	char **field = CONFIG_FIELD(reader, char *, offset);

	free(*field);
	*field = value.len ? config_expand(reader, value) : NULL;
}

void parse_bool(struct reader *reader, struct slice value, size_t offset)
{
	bool *field = CONFIG_FIELD(reader, bool, offset);

	if (unit_parse_bool(value, field) < 0)
		config_warn_value(reader, value, "yes or no");
}

void parse_span(struct reader *reader, struct slice value, size_t offset)
{
	if (unit_parse_span(value, CONFIG_FIELD(reader, int64_t, offset)) < 0)
		config_warn_value(reader, value, "a time span such as 1min 30s");
}

/* A time span of which 0 stands for none. */
static void parse_bound(struct reader *reader, struct slice value, size_t offset)
{
	int64_t *field = CONFIG_FIELD(reader, int64_t, offset);

	if (unit_parse_span(value, field) < 0)
		config_warn_value(reader, value, "a time span such as 1min 30s, 0 or infinity");
	else if (*field == 0)
		*field = UNIT_SPAN_INFINITY;
}

static void parse_watchdog(struct reader *reader, struct slice value, size_t unused)
{
	int64_t ns;

	(void)unused;
	if (unit_parse_span(value, &ns) < 0)
		config_warn_value(reader, value, "a time span such as 30s");
	else
		reader->config->watchdog_ns = ns == UNIT_SPAN_INFINITY ? 0 : ns;
}

/* Time-outs: 0 stands for none. TimeoutSec= sets both. */
static void parse_timeout(struct reader *reader, struct slice value, size_t which)
{
	int64_t ns;

	if ((which & 4) && !value.len) { /* as TimeoutStopSec= again */
		reader->config->timeout_abort_set = false;
		return;
	}
	if (unit_parse_span(value, &ns) < 0) {
		config_warn_value(reader, value, "a time span such as 1min 30s, 0 or infinity");
		return;
	}
	if (ns == 0)
		ns = UNIT_SPAN_INFINITY;
	if (which & 1) {
		reader->config->timeout_start_ns = ns;
		reader->config->timeout_start_set = true;
	}
	if (which & 2)
		reader->config->timeout_stop_ns = ns;
	if (which & 4) {
		reader->config->timeout_abort_ns = ns;
		reader->config->timeout_abort_set = true;
	}
}

#define WORDS_MAX 8
static const struct words_row {
	const char *words[WORDS_MAX];
	size_t offset;
} enum_rows[] = {
	{{"simple", "exec", "oneshot", "forking", "notify", "notify-reload", "idle"}, CONFIG_OFFSET(type)},
	{{"no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"},
		CONFIG_OFFSET(restart)},
	{{"control-group", "mixed", "process", "none"}, CONFIG_OFFSET(kill_mode)},
	{{"", "none", "main", "exec", "all"}, CONFIG_OFFSET(notify_access)},
	{{"terminate", "abort", "kill"}, CONFIG_OFFSET(start_failure_mode)},
	{{"terminate", "abort", "kill"}, CONFIG_OFFSET(stop_failure_mode)},
	{{"stop", "continue", "kill"}, CONFIG_OFFSET(oom_policy)},
	{{"main", "cgroup"}, CONFIG_OFFSET(exit_type)},
	{{"no", "yes", "restart"}, CONFIG_OFFSET(process.runtime_preserve)},
};
enum {
	WORDS_TYPE,
	WORDS_RESTART,
	WORDS_KILL_MODE,
	WORDS_NOTIFY,
	WORDS_START_FAILURE,
	WORDS_STOP_FAILURE,
	WORDS_OOM,
	WORDS_EXIT_TYPE,
	WORDS_PRESERVE
};

static void parse_words(struct reader *reader, struct slice value, size_t index)
{
	const struct words_row *row = &enum_rows[index];

	for (unsigned i = 0; i < WORDS_MAX && row->words[i]; i++) {
		if (value.len && slice_is(value, row->words[i])) {
			*CONFIG_FIELD(reader, unsigned, row->offset) = i;
			return;
		}
	}
	if (index == WORDS_TYPE && slice_is(value, "dbus")) {
		static const char text[] =
			"Type=dbus is not supported: the supervisor has no bus to see the name on";

		/* Whether it has started cannot be told: it is not started at all. */
		config_warn(reader, "%s", text);
		config_fail(reader, text);
		return;
	}
	config_warn(reader, "Failed to parse %.*s=%.*s, ignoring", (int)reader->option->name.len,
		reader->option->name.data, (int)MIN(value.len, (size_t)200), value.data);
}

/* What would be done to the host after the unit's end: only the word that does nothing is taken. */
static void parse_action(struct reader *reader, struct slice value, size_t unused)
{
	(void)unused;
	if (value.len && !slice_is(value, "none"))
		config_warn(reader,
			"%.*s=%.*s is refused: the supervisor does nothing to the host, ignoring.",
			(int)reader->option->name.len, reader->option->name.data,
			(int)MIN(value.len, (size_t)100), value.data);
}

static void parse_exec(struct reader *reader, struct slice value, size_t kind)
{
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), error = BUF_INIT(1024);
	struct unit_commands *commands = &reader->config->exec[kind];

	unit_value_join(value, &joined);
	if (unit_commands_parse(
		    commands, buf_slice(&joined), expand_word, (void *)reader->specifiers, &error) < 0) {
		config_warn(reader, "%s=: %s", exec_kind_name((enum exec_kind)kind), buf_text(&error));
		_cleanup_free_ char *text =
			mem_printf("%s=: %s", exec_kind_name((enum exec_kind)kind), buf_text(&error));
		config_fail(reader, text);
	}
}

static void parse_environment(struct reader *reader, struct slice value, size_t unset)
{
	struct strings *list = unset ? &reader->config->unset_environment : &reader->config->environment;
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), word = BUF_INIT(UNIT_TEXT_MAX);
	struct slice rest;
	int r;

	unit_value_join(value, &joined);
	rest = buf_slice(&joined);
	if (!rest.len)
		strings_done(list);
	while ((r = unit_word_next(&rest, true, &word, NULL)) > 0) {
		_cleanup_(unit_environment_done) struct unit_environment check = {0};
		_cleanup_free_ char *text = config_expand(reader, buf_slice(&word));

		if (!unset && (!text || unit_environment_assign(&check, slice_str(text)) < 0))
			config_warn(
				reader, "Invalid environment assignment, ignoring: %.200s", buf_text(&word));
		else if (text)
			strings_add(list, text);
	}
	if (r < 0)
		config_warn_value(reader, value, "balanced quotes");
}

static void parse_environment_file(struct reader *reader, struct slice value, size_t unused)
{
	_cleanup_free_ char *path = NULL;

	(void)unused;
	if (!value.len) {
		strings_done(&reader->config->environment_files);
		return;
	}
	path = config_expand(reader, value);
	if (!path || (path[0] == '-' ? path[1] : path[0]) != '/')
		config_warn_value(reader, value, "an absolute path");
	else
		strings_add(&reader->config->environment_files, path);
}

static void parse_signal(struct reader *reader, struct slice value, size_t offset)
{
	if (unit_parse_signal(value, CONFIG_FIELD(reader, int, offset)) < 0)
		config_warn_value(reader, value, "a signal such as SIGTERM");
}

static void parse_status_set(struct reader *reader, struct slice value, size_t offset)
{
	struct status_set *set = CONFIG_FIELD(reader, struct status_set, offset);
	_cleanup_buf_ struct buf word = BUF_INIT(4096);
	struct slice rest = value;

	if (!value.len)
		*set = (struct status_set){0};
	while (unit_word_next(&rest, false, &word, NULL) > 0) {
		uint64_t code;
		int number;

		if (text_to_u64(buf_slice(&word), &code) == 0 && code < 256)
			status_set_add(set, false, (int)code);
		else if (unit_parse_signal(buf_slice(&word), &number) == 0)
			status_set_add(set, true, number);
		else if (exit_status_from_name(buf_text(&word)) >= 0)
			status_set_add(set, false, exit_status_from_name(buf_text(&word)));
		else
			config_warn_value(reader, buf_slice(&word), "exit statuses and signals");
	}
}

bool config_parse_number(struct reader *reader, struct slice value, int64_t low, int64_t high, int64_t *ret)
{
	char expected[64];
	int64_t number;

	if (text_to_i64(value, &number) == 0 && number >= low && number <= high) {
		*ret = number;
		return true;
	}
	(void)snprintf(expected, sizeof(expected), "%lld to %lld", (long long)low, (long long)high);
	config_warn_value(reader, value, expected);
	return false;
}

void config_parse_words(struct reader *reader, struct slice value, struct strings *list, size_t max,
	char *(*read)(struct reader *reader, struct slice word))
{
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), word = BUF_INIT(4096);
	struct slice rest;

	unit_value_join(value, &joined);
	rest = text_trim(buf_slice(&joined));
	if (!rest.len)
		strings_done(list);
	while (unit_word_next(&rest, true, &word, NULL) > 0) {
		_cleanup_free_ char *text = read(reader, buf_slice(&word));

		if (text && list->count < max && !strings_have(list, text))
			strings_add(list, text);
	}
}

char *config_read_word(
	struct reader *reader, struct slice word, bool (*check)(const char *word), const char *expected)
{
	char *text = config_expand(reader, word);

	if (text && (!check || check(text)))
		return text;
	config_warn_value(reader, word, expected);
	return mem_free(text);
}

/* Relative to /run, as systemd has it. */
static void parse_pid_file(struct reader *reader, struct slice value, size_t unused)
{
	char **field = &reader->config->pid_file;
	char *path = value.len ? config_expand(reader, value) : NULL;

	(void)unused;
	*field = mem_free(*field);
	if (path && path[0] != '/') {
		*field = mem_printf("/run/%s", path);
		free(path);
	} else {
		*field = path;
	}
}

void parse_count(struct reader *reader, struct slice value, size_t offset)
{
	if (text_to_u64(value, CONFIG_FIELD(reader, uint64_t, offset)) < 0)
		config_warn_value(reader, value, "a number");
}

void parse_dependency(struct reader *reader, struct slice value, size_t kind)
{
	struct strings *list = &reader->config->dependencies[kind];
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), word = BUF_INIT(4096);
	struct slice rest;

	unit_value_join(value, &joined);
	rest = buf_slice(&joined);
	while (unit_word_next(&rest, false, &word, NULL) > 0) {
		_cleanup_free_ char *name = config_expand(reader, buf_slice(&word));

		if (!name || unit_name_validate(slice_str(name), NULL) < 0)
			config_warn(reader, "Invalid unit name in %.*s=, ignoring: %.200s",
				(int)reader->option->name.len, reader->option->name.data, buf_text(&word));
		else if (!strings_have(list, name))
			strings_add(list, name);
	}
}

static void parse_quietly(struct reader *reader, struct slice value, size_t unused)
{
	(void)reader;
	(void)value;
	(void)unused;
}

static const struct directive directives[] = {
	{"Unit", "Description", parse_string, CONFIG_OFFSET(description)},
	{"Unit", "Requires", parse_dependency, DEP_REQUIRES},
	{"Unit", "Requisite", parse_dependency, DEP_REQUISITE},
	{"Unit", "Wants", parse_dependency, DEP_WANTS},
	{"Unit", "BindsTo", parse_dependency, DEP_BINDS_TO},
	{"Unit", "PartOf", parse_dependency, DEP_PART_OF},
	{"Unit", "After", parse_dependency, DEP_AFTER},
	{"Unit", "Before", parse_dependency, DEP_BEFORE},
	{"Unit", "Conflicts", parse_dependency, DEP_CONFLICTS},
	{"Unit", "StartLimitIntervalSec", parse_span, CONFIG_OFFSET(start_limit_interval_ns)},
	{"Unit", "StartLimitInterval", parse_span, CONFIG_OFFSET(start_limit_interval_ns)},
	{"Unit", "StartLimitBurst", parse_count, CONFIG_OFFSET(start_limit_burst)},
	{"Unit", "StartLimitAction", parse_action, 0},
	{"Unit", "FailureAction", parse_action, 0},
	{"Unit", "SuccessAction", parse_action, 0},
	{"Unit", "Documentation", parse_quietly, 0},
	{"Unit", "DefaultDependencies", parse_bool, CONFIG_OFFSET(default_dependencies)},
	{"Unit", "SourcePath", parse_quietly, 0},
	{"Service", "Type", parse_words, WORDS_TYPE},
	{"Service", "ExecCondition", parse_exec, EXEC_CONDITION},
	{"Service", "ExecStartPre", parse_exec, EXEC_START_PRE},
	{"Service", "ExecStart", parse_exec, EXEC_START},
	{"Service", "ExecStartPost", parse_exec, EXEC_START_POST},
	{"Service", "ExecReload", parse_exec, EXEC_RELOAD},
	{"Service", "ExecStop", parse_exec, EXEC_STOP},
	{"Service", "ExecStopPost", parse_exec, EXEC_STOP_POST},
	{"Service", "Environment", parse_environment, false},
	{"Service", "UnsetEnvironment", parse_environment, true},
	{"Service", "EnvironmentFile", parse_environment_file, 0},
	{"Service", "Restart", parse_words, WORDS_RESTART},
	{"Service", "RestartSec", parse_span, CONFIG_OFFSET(restart_ns)},
	{"Service", "TimeoutStartSec", parse_timeout, 1},
	{"Service", "TimeoutStopSec", parse_timeout, 2},
	{"Service", "TimeoutSec", parse_timeout, 3},
	{"Service", "TimeoutAbortSec", parse_timeout, 4},
	{"Service", "TimeoutStartFailureMode", parse_words, WORDS_START_FAILURE},
	{"Service", "TimeoutStopFailureMode", parse_words, WORDS_STOP_FAILURE},
	{"Service", "RuntimeMaxSec", parse_bound, CONFIG_OFFSET(runtime_max_ns)},
	{"Service", "RuntimeRandomizedExtraSec", parse_span, CONFIG_OFFSET(runtime_extra_ns)},
	{"Service", "PIDFile", parse_pid_file, 0},
	{"Service", "GuessMainPID", parse_bool, CONFIG_OFFSET(guess_main_pid)},
	{"Service", "ExitType", parse_words, WORDS_EXIT_TYPE},
	{"Service", "NotifyAccess", parse_words, WORDS_NOTIFY},
	{"Service", "WatchdogSec", parse_watchdog, 0},
	{"Service", "WatchdogSignal", parse_signal, CONFIG_OFFSET(watchdog_signal)},
	{"Service", "ReloadSignal", parse_signal, CONFIG_OFFSET(reload_signal)},
	{"Service", "OOMPolicy", parse_words, WORDS_OOM},
	{"Service", "RestartKillSignal", parse_signal, CONFIG_OFFSET(restart_kill_signal)},
	{"Service", "KillMode", parse_words, WORDS_KILL_MODE},
	{"Service", "KillSignal", parse_signal, CONFIG_OFFSET(kill_signal)},
	{"Service", "FinalKillSignal", parse_signal, CONFIG_OFFSET(final_kill_signal)},
	{"Service", "SendSIGKILL", parse_bool, CONFIG_OFFSET(send_sigkill)},
	{"Service", "SendSIGHUP", parse_bool, CONFIG_OFFSET(send_sighup)},
	{"Service", "RemainAfterExit", parse_bool, CONFIG_OFFSET(remain_after_exit)},
	{"Service", "IgnoreSIGPIPE", parse_bool, CONFIG_OFFSET(process.ignore_sigpipe)},
	{"Service", "NoNewPrivileges", parse_bool, CONFIG_OFFSET(process.no_new_privileges)},
	{"Service", "CapabilityBoundingSet", parse_capabilities, CONFIG_OFFSET(process.capability_bounds)},
	{"Service", "AmbientCapabilities", parse_capabilities, CONFIG_OFFSET(process.ambient_capabilities)},
	{"Service", "User", parse_string, CONFIG_OFFSET(process.user)},
	{"Service", "Group", parse_string, CONFIG_OFFSET(process.group)},
	{"Service", "SupplementaryGroups", parse_groups, 0},
	{"Service", "WorkingDirectory", parse_directory, 0},
	{"Service", "SyslogIdentifier", parse_string, CONFIG_OFFSET(process.identifier)},
	{"Service", "StandardInput", parse_stream, 0},
	{"Service", "StandardOutput", parse_stream, 1},
	{"Service", "StandardError", parse_stream, 2},
	{"Service", "UMask", parse_umask, 0},
	{"Service", "Nice", parse_nice, 0},
	{"Service", "OOMScoreAdjust", parse_oom_score, 0},
	{"Service", "CPUSchedulingPolicy", parse_cpu_policy, 0},
	{"Service", "CPUSchedulingPriority", parse_cpu_priority, 0},
	{"Service", "CPUSchedulingResetOnFork", parse_bool, CONFIG_OFFSET(process.reset_on_fork)},
	{"Service", "CPUAffinity", parse_affinity, 0},
	{"Service", "IOSchedulingClass", parse_io_class, 0},
	{"Service", "IOSchedulingPriority", parse_io_priority, 0},
	{"Service", "PassEnvironment", parse_pass_environment, 0},
	{"Service", "RuntimeDirectory", parse_directories, DIRECTORY_RUNTIME},
	{"Service", "RuntimeDirectoryMode", parse_directory_mode, DIRECTORY_RUNTIME},
	{"Service", "StateDirectory", parse_directories, DIRECTORY_STATE},
	{"Service", "StateDirectoryMode", parse_directory_mode, DIRECTORY_STATE},
	{"Service", "CacheDirectory", parse_directories, DIRECTORY_CACHE},
	{"Service", "CacheDirectoryMode", parse_directory_mode, DIRECTORY_CACHE},
	{"Service", "LogsDirectory", parse_directories, DIRECTORY_LOGS},
	{"Service", "LogsDirectoryMode", parse_directory_mode, DIRECTORY_LOGS},
	{"Service", "ConfigurationDirectory", parse_directories, DIRECTORY_CONFIGURATION},
	{"Service", "ConfigurationDirectoryMode", parse_directory_mode, DIRECTORY_CONFIGURATION},
	{"Service", "RuntimeDirectoryPreserve", parse_words, WORDS_PRESERVE},
	{"Service", "LimitCPU", parse_rlimit, RLIMIT_CPU},
	{"Service", "LimitFSIZE", parse_rlimit, RLIMIT_FSIZE},
	{"Service", "LimitDATA", parse_rlimit, RLIMIT_DATA},
	{"Service", "LimitSTACK", parse_rlimit, RLIMIT_STACK},
	{"Service", "LimitCORE", parse_rlimit, RLIMIT_CORE},
	{"Service", "LimitRSS", parse_rlimit, RLIMIT_RSS},
	{"Service", "LimitNOFILE", parse_rlimit, RLIMIT_NOFILE},
	{"Service", "LimitAS", parse_rlimit, RLIMIT_AS},
	{"Service", "LimitNPROC", parse_rlimit, RLIMIT_NPROC},
	{"Service", "LimitMEMLOCK", parse_rlimit, RLIMIT_MEMLOCK},
	{"Service", "LimitLOCKS", parse_rlimit, RLIMIT_LOCKS},
	{"Service", "LimitSIGPENDING", parse_rlimit, RLIMIT_SIGPENDING},
	{"Service", "LimitMSGQUEUE", parse_rlimit, RLIMIT_MSGQUEUE},
	{"Service", "LimitNICE", parse_rlimit, RLIMIT_NICE},
	{"Service", "LimitRTPRIO", parse_rlimit, RLIMIT_RTPRIO},
	{"Service", "LimitRTTIME", parse_rlimit, RLIMIT_RTTIME},
	{"Service", "MemoryMin", parse_memory, CONFIG_OFFSET(resources.memory_min)},
	{"Service", "MemoryLow", parse_memory, CONFIG_OFFSET(resources.memory_low)},
	{"Service", "MemoryHigh", parse_memory, CONFIG_OFFSET(resources.memory_high)},
	{"Service", "MemoryMax", parse_memory, CONFIG_OFFSET(resources.memory_max)},
	{"Service", "MemorySwapMax", parse_memory, CONFIG_OFFSET(resources.memory_swap_max)},
	{"Service", "MemoryLimit", parse_memory, CONFIG_OFFSET(resources.memory_limit)},
	{"Service", "TasksMax", parse_tasks, CONFIG_OFFSET(resources.tasks_max)},
	{"Service", "CPUQuota", parse_cpu_quota, 0},
	{"Service", "CPUQuotaPeriodSec", parse_cpu_period, 0},
	{"Service", "CPUWeight", parse_cpu_weight, 0},
	{"Service", "CPUShares", parse_cpu_weight, 1},
	{"Service", "SuccessExitStatus", parse_status_set, CONFIG_OFFSET(success)},
	{"Service", "RestartPreventExitStatus", parse_status_set, CONFIG_OFFSET(restart_prevent)},
	{"Service", "RestartForceExitStatus", parse_status_set, CONFIG_OFFSET(restart_force)},
	{"Service", "StartLimitInterval", parse_span, CONFIG_OFFSET(start_limit_interval_ns)},
	{"Service", "StartLimitBurst", parse_count, CONFIG_OFFSET(start_limit_burst)},
	{"Service", "StartLimitAction", parse_action, 0},
	{"Service", "FailureAction", parse_action, 0},
	{"Service", "Sockets", parse_sockets, 0},
	{"Service", "NonBlocking", parse_bool, CONFIG_OFFSET(process.non_blocking)},
	{"Install", "WantedBy", parse_dependency, DEP_WANTED_BY},
	{"Install", "RequiredBy", parse_dependency, DEP_REQUIRED_BY},
};

static const struct directive *directive_at_place(size_t index)
{
	if (index < ARRAY_LEN(directives))
		return &directives[index];
	index -= ARRAY_LEN(directives);
	return index < trigger_directive_count ? &trigger_directives[index] : NULL;
}

bool service_config_reads_at(size_t index, const char **ret_section, const char **ret_name)
{
	const struct directive *directive = directive_at_place(index);

	if (!directive)
		return false;
	*ret_section = directive->section;
	*ret_name = directive->name;
	return true;
}

bool service_config_reads(const char *section, const char *name)
{
	const struct directive *directive;

	for (size_t i = 0; (directive = directive_at_place(i)); i++)
		if (strcmp(directive->section, section) == 0 && strcmp(directive->name, name) == 0)
			return true;
	return false;
}

/* The section of the unit's own type: "Service" of a service. Those of other types are not its. */
static bool is_foreign(const struct reader *reader, struct slice section)
{
	static const char *const types[][2] = {
		{"service", "Service"}, {"timer", "Timer"}, {"path", "Path"}, {"socket", "Socket"}};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (slice_is(section, types[i][1]))
			return !slice_is(reader->specifiers->name.type, types[i][0]);
	return false;
}

static bool is_known(struct slice section)
{
	static const char *const names[] = {"Unit", "Service", "Timer", "Path", "Socket"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (slice_is(section, names[i]))
			return true;
	return false;
}

/* systemd takes in [Socket] what sets up processes, for the commands of sockets: those are not run. */
static const struct directive_row *row_of(struct slice section, struct slice name)
{
	static const struct directive_row of_commands = {
		"Socket", "", DIRECTIVE_IGNORED, "sockets run no commands"};
	const struct directive_row *row = directive_find(section, name);

	if (!row && slice_is(section, "Socket") && directive_find(SLICE_LITERAL("Service"), name))
		row = &of_commands;
	return row;
}

static void read_option(struct reader *reader)
{
	const struct unit_option *option = reader->option;
	bool foreign = is_foreign(reader, option->section);
	const struct directive *directive;

	for (size_t i = 0; !foreign && (directive = directive_at_place(i)); i++) {
		if (!slice_is(option->section, directive->section) ||
			!slice_is(option->name, directive->name))
			continue;
		directive->parse(reader, text_trim(option->value), directive->argument);
		return;
	}
	if (slice_is(option->section, "Install") || slice_starts_with(option->section, SLICE_LITERAL("X-")) ||
		slice_starts_with(option->name, SLICE_LITERAL("X-")))
		return;
	int section = (int)MIN(option->section.len, (size_t)100),
	    name = (int)MIN(option->name.len, (size_t)100);
	const struct directive_row *row = foreign ? NULL : row_of(option->section, option->name);
	if (row)
		config_warn(reader,
			"%.*s= in section '%.*s' is not supported by the supervisor, ignoring (%s).", name,
			option->name.data, section, option->section.data, row->why);
	else if (foreign || !is_known(option->section))
		config_warn(reader, "Unknown section '%.*s'. Ignoring.", section, option->section.data);
	else
		config_warn(reader, "Unknown key name '%.*s' in section '%.*s', ignoring.", name,
			option->name.data, section, option->section.data);
}

static void verify_service(struct reader *reader)
{
	const struct service_config *config = reader->config;
	size_t starts = config->exec[EXEC_START].count;

	if (config->type != SERVICE_ONESHOT && starts > 1) {
		config_fail(reader, "Service has more than one ExecStart= setting, which is only allowed for "
				    "Type=oneshot "
				    "services. Refusing.");
	} else if (!starts && !config->exec[EXEC_STOP].count) {
		config_fail(reader, "Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.");
	} else if (!starts && config->type != SERVICE_ONESHOT) {
		config_fail(reader,
			"Service has no ExecStart= setting, which is only allowed for Type=oneshot services. "
			"Refusing.");
	} else if (!starts && !config->remain_after_exit) {
		config_fail(reader,
			"Service has no ExecStart= and no SuccessAction= settings and does not have "
			"RemainAfterExit=yes set. Refusing.");
	} else if (config->type == SERVICE_ONESHOT && config->exit_type == EXIT_CGROUP) {
		config_fail(reader, "Service has ExitType=cgroup set, which isn't allowed for Type=oneshot "
				    "services. Refusing.");
	} else if (config->type == SERVICE_ONESHOT &&
		   (config->restart == RESTART_ALWAYS || config->restart == RESTART_ON_SUCCESS)) {
		config_fail(reader,
			"Service has Restart= set to either always or on-success, which isn't allowed for "
			"Type=oneshot services. Refusing.");
	}
}

static void verify(struct reader *reader)
{
	struct slice type = reader->specifiers->name.type;

	if (slice_is(type, "service")) {
		verify_service(reader);
	} else if (!config_verify_trigger(reader)) {
		_cleanup_free_ char *text =
			mem_printf("units of type %.*s are not supported by the supervisor",
				(int)MIN(type.len, (size_t)20), type.data);

		reader->config->error = mem_free(reader->config->error);
		reader->config->unsupported_type = true;
		config_fail(reader, text);
	}
}

void service_config_read(
	const struct unit_file *file, const struct unit_specifiers *specifiers, struct service_config *ret)
{
	struct reader reader = {.config = ret, .specifiers = specifiers};

	*ret = (struct service_config){
		.restart_ns = 100 * INT64_C(1000000),
		.timeout_start_ns = 90 * INT64_C(1000000000),
		.timeout_stop_ns = 90 * INT64_C(1000000000),
		.kill_signal = SIGTERM,
		.final_kill_signal = SIGKILL,
		.send_sigkill = true,
		.watchdog_signal = SIGABRT,
		.reload_signal = SIGHUP,
		.guess_main_pid = true,
		.runtime_max_ns = UNIT_SPAN_INFINITY,
		.start_limit_interval_ns = 10 * INT64_C(1000000000),
		.start_limit_burst = 5,
		.process = {.umask = 0022, .ignore_sigpipe = true, .capability_bounds = UINT64_MAX},
		.resources = {.cpu_period_ns = 100 * INT64_C(1000000)},
		.default_dependencies = true,
	};
	config_default_trigger(ret);
	for (size_t i = 0; i < DIRECTORY_KIND_MAX; i++)
		ret->process.directories[i].mode = 0755;
	for (size_t i = 0; i < file->count; i++) {
		reader.option = &file->options[i];
		read_option(&reader);
	}
	reader.option = NULL;
	/* A oneshot may take as long as it needs, unless the unit says otherwise. */
	if (ret->type == SERVICE_ONESHOT && !ret->timeout_start_set)
		ret->timeout_start_ns = UNIT_SPAN_INFINITY;
	if (!ret->timeout_abort_set)
		ret->timeout_abort_ns = ret->timeout_stop_ns;
	/* Who has to say something is heard, whatever NotifyAccess= says (systemd.service(5)). */
	if (ret->notify_access == NOTIFY_UNSET || ret->notify_access == NOTIFY_NONE)
		ret->notify_access =
			ret->type == SERVICE_NOTIFY || ret->type == SERVICE_NOTIFY_RELOAD || ret->watchdog_ns
				? NOTIFY_MAIN
				: NOTIFY_NONE;
	verify(&reader);
	if (ret->error)
		config_warn(&reader, "%s", ret->error);
}

static void process_config_done(struct process_config *process)
{
	free(process->user);
	free(process->group);
	free(process->working_directory);
	free(process->identifier);
	free(process->input.path);
	free(process->output.path);
	free(process->error.path);
	strings_done(&process->groups);
	strings_done(&process->pass_environment);
	for (size_t i = 0; i < DIRECTORY_KIND_MAX; i++)
		strings_done(&process->directories[i].names);
}

void service_config_done(struct service_config *config)
{
	for (size_t i = 0; i < EXEC_KIND_MAX; i++)
		unit_commands_clear(&config->exec[i]);
	for (size_t i = 0; i < DEP_MAX; i++)
		strings_done(&config->dependencies[i]);
	strings_done(&config->environment);
	strings_done(&config->environment_files);
	strings_done(&config->unset_environment);
	strings_done(&config->warnings);
	free(config->description);
	free(config->pid_file);
	process_config_done(&config->process);
	config_trigger_done(config);
	free(config->error);
	*config = (struct service_config){0};
}

const char *exec_kind_name(enum exec_kind kind)
{
	static const char *const names[] = {
		[EXEC_CONDITION] = "ExecCondition",
		[EXEC_START_PRE] = "ExecStartPre",
		[EXEC_START] = "ExecStart",
		[EXEC_START_POST] = "ExecStartPost",
		[EXEC_RELOAD] = "ExecReload",
		[EXEC_STOP] = "ExecStop",
		[EXEC_STOP_POST] = "ExecStopPost",
	};

	return names[kind];
}
