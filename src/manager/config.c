/* A table of directives; each row has a parser for its kind of value. A value that does not parse is a
 * warning and the setting keeps what it had, as in systemd; what makes the unit unusable sets `error`. */
#include "manager/config.h"
#include "base/memory.h"
#include "base/text.h"
#include "manager/directives.h"
#include "unit/environment.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#define WARNINGS_MAX 100
#define STRINGS_MAX 16384

struct reader {
	struct service_config *config;
	const struct unit_specifiers *specifiers;
	const struct unit_option *option;
};
typedef void (*parse_fn)(struct reader *reader, struct slice value, size_t argument);

void strings_add(struct strings *strings, const char *text)
{
	if (strings->count >= STRINGS_MAX)
		return;
	if (strings->count == strings->cap) {
		strings->cap = strings->cap ? strings->cap * 2 : 4;
		strings->items = mem_reallocarray(strings->items, strings->cap, sizeof(char *));
	}
	strings->items[strings->count++] = mem_strdup(text);
}

void strings_done(struct strings *strings)
{
	for (size_t i = 0; i < strings->count; i++)
		free(strings->items[i]);
	free(strings->items);
	*strings = (struct strings){0};
}

bool strings_have(const struct strings *strings, const char *text)
{
	for (size_t i = 0; i < strings->count; i++)
		if (strcmp(strings->items[i], text) == 0)
			return true;
	return false;
}

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

static void warn(struct reader *reader, const char *format, ...) _printf_(2, 3);
static void warn(struct reader *reader, const char *format, ...)
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

static void fail(struct reader *reader, const char *text)
{
	if (!reader->config->error)
		reader->config->error = mem_strdup(text);
}

static void warn_value(struct reader *reader, struct slice value, const char *expected)
{
	warn(reader, "Failed to parse %.*s=%.*s, ignoring (expected %s)", (int)reader->option->name.len,
		reader->option->name.data, (int)MIN(value.len, (size_t)200), value.data, expected);
}

static char *expand(struct reader *reader, struct slice value)
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

#define FIELD(reader, type, offset) ((type *)(void *)((char *)(reader)->config + (offset)))

static void parse_string(struct reader *reader, struct slice value, size_t offset)
{
	char **field = FIELD(reader, char *, offset);

	free(*field);
	*field = value.len ? expand(reader, value) : NULL;
}

static void parse_bool(struct reader *reader, struct slice value, size_t offset)
{
	bool *field = FIELD(reader, bool, offset);

	if (unit_parse_bool(value, field) < 0)
		warn_value(reader, value, "yes or no");
}

static void parse_span(struct reader *reader, struct slice value, size_t offset)
{
	if (unit_parse_span(value, FIELD(reader, int64_t, offset)) < 0)
		warn_value(reader, value, "a time span such as 1min 30s");
}

/* Time-outs: 0 stands for none. TimeoutSec= sets both. */
static void parse_timeout(struct reader *reader, struct slice value, size_t which)
{
	int64_t ns;

	if (unit_parse_span(value, &ns) < 0) {
		warn_value(reader, value, "a time span such as 1min 30s, 0 or infinity");
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
}

static const struct words_row {
	const char *words[RESTART_MAX + 1];
	size_t offset;
} enum_rows[] = {
	{{"simple", "exec", "oneshot"}, offsetof(struct service_config, type)},
	{{"no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"},
		offsetof(struct service_config, restart)},
	{{"control-group", "mixed", "process", "none"}, offsetof(struct service_config, kill_mode)},
};
enum { WORDS_TYPE, WORDS_RESTART, WORDS_KILL_MODE };

static void parse_words(struct reader *reader, struct slice value, size_t index)
{
	const struct words_row *row = &enum_rows[index];

	for (unsigned i = 0; row->words[i]; i++) {
		if (slice_is(value, row->words[i])) {
			*FIELD(reader, unsigned, row->offset) = i;
			return;
		}
	}
	if (index == WORDS_TYPE) {
		_cleanup_free_ char *text =
			mem_printf("Type=%.*s is not supported (simple, exec and oneshot are)",
				(int)MIN(value.len, (size_t)100), value.data);

		/* A service that forks or notifies cannot be told from one that failed: it is not started at
		 * all. */
		warn(reader, "%s", text);
		if (slice_is(value, "forking") || slice_is(value, "dbus") || slice_is(value, "notify") ||
			slice_is(value, "notify-reload"))
			fail(reader, text);
		return;
	}
	warn(reader, "Failed to parse %.*s=%.*s, ignoring", (int)reader->option->name.len,
		reader->option->name.data, (int)MIN(value.len, (size_t)200), value.data);
}

static void parse_exec(struct reader *reader, struct slice value, size_t kind)
{
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), error = BUF_INIT(1024);
	struct unit_commands *commands = &reader->config->exec[kind];

	unit_value_join(value, &joined);
	if (unit_commands_parse(
		    commands, buf_slice(&joined), expand_word, (void *)reader->specifiers, &error) < 0) {
		warn(reader, "%s=: %s", exec_kind_name((enum exec_kind)kind), buf_text(&error));
		_cleanup_free_ char *text =
			mem_printf("%s=: %s", exec_kind_name((enum exec_kind)kind), buf_text(&error));
		fail(reader, text);
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
		_cleanup_free_ char *text = expand(reader, buf_slice(&word));

		if (!unset && (!text || unit_environment_assign(&check, slice_str(text)) < 0))
			warn(reader, "Invalid environment assignment, ignoring: %.200s", buf_text(&word));
		else if (text)
			strings_add(list, text);
	}
	if (r < 0)
		warn_value(reader, value, "balanced quotes");
}

static void parse_environment_file(struct reader *reader, struct slice value, size_t unused)
{
	_cleanup_free_ char *path = NULL;

	(void)unused;
	if (!value.len) {
		strings_done(&reader->config->environment_files);
		return;
	}
	path = expand(reader, value);
	if (!path || (path[0] == '-' ? path[1] : path[0]) != '/')
		warn_value(reader, value, "an absolute path");
	else
		strings_add(&reader->config->environment_files, path);
}

static void parse_signal(struct reader *reader, struct slice value, size_t offset)
{
	if (unit_parse_signal(value, FIELD(reader, int, offset)) < 0)
		warn_value(reader, value, "a signal such as SIGTERM");
}

static void parse_status_set(struct reader *reader, struct slice value, size_t offset)
{
	struct status_set *set = FIELD(reader, struct status_set, offset);
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
			warn_value(reader, buf_slice(&word), "exit statuses and signals");
	}
}

static void parse_umask(struct reader *reader, struct slice value, size_t unused)
{
	unsigned mask = 0;
	bool good = value.len > 0 && value.len <= 5;

	(void)unused;
	for (size_t i = 0; i < value.len && good; i++) {
		good = value.data[i] >= '0' && value.data[i] <= '7';
		mask = mask * 8 + (unsigned)(value.data[i] - '0');
	}
	if (good && mask <= 07777)
		reader->config->umask = mask;
	else
		warn_value(reader, value, "an octal mode such as 0022");
}

static void parse_nice(struct reader *reader, struct slice value, size_t unused)
{
	int64_t nice;

	(void)unused;
	if (text_to_i64(value, &nice) < 0 || nice < -20 || nice > 19)
		warn_value(reader, value, "-20 to 19");
	else
		reader->config->nice = (int)nice;
}

static void parse_count(struct reader *reader, struct slice value, size_t offset)
{
	if (text_to_u64(value, FIELD(reader, uint64_t, offset)) < 0)
		warn_value(reader, value, "a number");
}

static void parse_directory(struct reader *reader, struct slice value, size_t unused)
{
	struct service_config *config = reader->config;
	_cleanup_free_ char *path = NULL;

	(void)unused;
	config->working_directory_optional = value.len && value.data[0] == '-';
	if (config->working_directory_optional)
		value = slice_make(value.data + 1, value.len - 1);
	path = expand(reader, value);
	if (!value.len) {
		config->working_directory = mem_free(config->working_directory);
	} else if (!path || (path[0] != '/' && strcmp(path, "~") != 0)) {
		warn_value(reader, value, "an absolute path or ~");
		fail(reader, "WorkingDirectory= is no absolute path");
	} else {
		free(config->working_directory);
		config->working_directory = take_ptr(path);
	}
}

static void parse_output(struct reader *reader, struct slice value, size_t offset)
{
	static const char *const logged[] = {
		"journal", "inherit", "syslog", "kmsg", "journal+console", "syslog+console"};
	bool *null = FIELD(reader, bool, offset);

	*null = slice_is(value, "null");
	for (size_t i = 0; i < ARRAY_LEN(logged); i++)
		if (slice_is(value, logged[i]))
			return;
	if (!*null)
		warn(reader, "%.*s=%.*s is not supported, the output goes to the unit's log",
			(int)reader->option->name.len, reader->option->name.data,
			(int)MIN(value.len, (size_t)200), value.data);
}

static void parse_dependency(struct reader *reader, struct slice value, size_t kind)
{
	struct strings *list = &reader->config->dependencies[kind];
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), word = BUF_INIT(4096);
	struct slice rest;

	unit_value_join(value, &joined);
	rest = buf_slice(&joined);
	while (unit_word_next(&rest, false, &word, NULL) > 0) {
		_cleanup_free_ char *name = expand(reader, buf_slice(&word));

		if (!name || unit_name_validate(slice_str(name), NULL) < 0)
			warn(reader, "Invalid unit name in %.*s=, ignoring: %.200s",
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

#define OFFSET(field) offsetof(struct service_config, field)

static const struct directive {
	const char *section, *name;
	parse_fn parse;
	size_t argument;
} directives[] = {
	{"Unit", "Description", parse_string, OFFSET(description)},
	{"Unit", "Requires", parse_dependency, DEP_REQUIRES},
	{"Unit", "Requisite", parse_dependency, DEP_REQUISITE},
	{"Unit", "Wants", parse_dependency, DEP_WANTS},
	{"Unit", "BindsTo", parse_dependency, DEP_BINDS_TO},
	{"Unit", "PartOf", parse_dependency, DEP_PART_OF},
	{"Unit", "After", parse_dependency, DEP_AFTER},
	{"Unit", "Before", parse_dependency, DEP_BEFORE},
	{"Unit", "Conflicts", parse_dependency, DEP_CONFLICTS},
	{"Unit", "StartLimitIntervalSec", parse_span, OFFSET(start_limit_interval_ns)},
	{"Unit", "StartLimitInterval", parse_span, OFFSET(start_limit_interval_ns)},
	{"Unit", "StartLimitBurst", parse_count, OFFSET(start_limit_burst)},
	{"Unit", "Documentation", parse_quietly, 0},
	{"Unit", "DefaultDependencies", parse_quietly, 0},
	{"Unit", "SourcePath", parse_quietly, 0},
	{"Service", "Type", parse_words, WORDS_TYPE},
	{"Service", "ExecCondition", parse_exec, EXEC_CONDITION},
	{"Service", "ExecStartPre", parse_exec, EXEC_START_PRE},
	{"Service", "ExecStart", parse_exec, EXEC_START},
	{"Service", "ExecStartPost", parse_exec, EXEC_START_POST},
	{"Service", "ExecStop", parse_exec, EXEC_STOP},
	{"Service", "ExecStopPost", parse_exec, EXEC_STOP_POST},
	{"Service", "Environment", parse_environment, false},
	{"Service", "UnsetEnvironment", parse_environment, true},
	{"Service", "EnvironmentFile", parse_environment_file, 0},
	{"Service", "Restart", parse_words, WORDS_RESTART},
	{"Service", "RestartSec", parse_span, OFFSET(restart_ns)},
	{"Service", "TimeoutStartSec", parse_timeout, 1},
	{"Service", "TimeoutStopSec", parse_timeout, 2},
	{"Service", "TimeoutSec", parse_timeout, 3},
	{"Service", "KillMode", parse_words, WORDS_KILL_MODE},
	{"Service", "KillSignal", parse_signal, OFFSET(kill_signal)},
	{"Service", "FinalKillSignal", parse_signal, OFFSET(final_kill_signal)},
	{"Service", "SendSIGKILL", parse_bool, OFFSET(send_sigkill)},
	{"Service", "SendSIGHUP", parse_bool, OFFSET(send_sighup)},
	{"Service", "RemainAfterExit", parse_bool, OFFSET(remain_after_exit)},
	{"Service", "IgnoreSIGPIPE", parse_bool, OFFSET(ignore_sigpipe)},
	{"Service", "User", parse_string, OFFSET(user)},
	{"Service", "Group", parse_string, OFFSET(group)},
	{"Service", "WorkingDirectory", parse_directory, 0},
	{"Service", "SyslogIdentifier", parse_string, OFFSET(identifier)},
	{"Service", "StandardOutput", parse_output, OFFSET(null_stdout)},
	{"Service", "StandardError", parse_output, OFFSET(null_stderr)},
	{"Service", "UMask", parse_umask, 0},
	{"Service", "Nice", parse_nice, 0},
	{"Service", "SuccessExitStatus", parse_status_set, OFFSET(success)},
	{"Service", "RestartPreventExitStatus", parse_status_set, OFFSET(restart_prevent)},
	{"Service", "RestartForceExitStatus", parse_status_set, OFFSET(restart_force)},
	{"Service", "StartLimitInterval", parse_span, OFFSET(start_limit_interval_ns)},
	{"Service", "StartLimitBurst", parse_count, OFFSET(start_limit_burst)},
};

static void read_option(struct reader *reader)
{
	const struct unit_option *option = reader->option;

	for (size_t i = 0; i < ARRAY_LEN(directives); i++) {
		if (!slice_is(option->section, directives[i].section) ||
			!slice_is(option->name, directives[i].name))
			continue;
		directives[i].parse(reader, text_trim(option->value), directives[i].argument);
		return;
	}
	if (slice_is(option->section, "Install") || slice_starts_with(option->section, SLICE_LITERAL("X-")) ||
		slice_starts_with(option->name, SLICE_LITERAL("X-")))
		return;
	int section = (int)MIN(option->section.len, (size_t)100),
	    name = (int)MIN(option->name.len, (size_t)100);
	if (!slice_is(option->section, "Unit") && !slice_is(option->section, "Service"))
		warn(reader, "Unknown section '%.*s'. Ignoring.", section, option->section.data);
	else if (directive_is_known(option->section, option->name))
		warn(reader, "%.*s= in section '%.*s' is not supported by the supervisor, ignoring.", name,
			option->name.data, section, option->section.data);
	else
		warn(reader, "Unknown key name '%.*s' in section '%.*s', ignoring.", name, option->name.data,
			section, option->section.data);
}

static void verify(struct reader *reader)
{
	const struct service_config *config = reader->config;
	size_t starts = config->exec[EXEC_START].count;

	if (!slice_is(reader->specifiers->name.type, "service")) {
		_cleanup_free_ char *text =
			mem_printf("units of type %.*s are not supported by the supervisor",
				(int)MIN(reader->specifiers->name.type.len, (size_t)20),
				reader->specifiers->name.type.data);

		reader->config->error = mem_free(reader->config->error);
		reader->config->unsupported_type = true;
		fail(reader, text);
	} else if (config->type != SERVICE_ONESHOT && starts > 1) {
		fail(reader, "Service has more than one ExecStart= setting, which is only allowed for "
			     "Type=oneshot "
			     "services. Refusing.");
	} else if (!starts && !config->exec[EXEC_STOP].count) {
		fail(reader, "Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.");
	} else if (!starts && config->type != SERVICE_ONESHOT) {
		fail(reader,
			"Service has no ExecStart= setting, which is only allowed for Type=oneshot services. "
			"Refusing.");
	} else if (!starts && !config->remain_after_exit) {
		fail(reader, "Service has no ExecStart= and no SuccessAction= settings and does not have "
			     "RemainAfterExit=yes set. Refusing.");
	} else if (config->type == SERVICE_ONESHOT &&
		   (config->restart == RESTART_ALWAYS || config->restart == RESTART_ON_SUCCESS)) {
		fail(reader,
			"Service has Restart= set to either always or on-success, which isn't allowed for "
			"Type=oneshot services. Refusing.");
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
		.ignore_sigpipe = true,
		.umask = 0022,
		.start_limit_interval_ns = 10 * INT64_C(1000000000),
		.start_limit_burst = 5,
	};
	for (size_t i = 0; i < file->count; i++) {
		reader.option = &file->options[i];
		read_option(&reader);
	}
	reader.option = NULL;
	/* A oneshot may take as long as it needs, unless the unit says otherwise. */
	if (ret->type == SERVICE_ONESHOT && !ret->timeout_start_set)
		ret->timeout_start_ns = UNIT_SPAN_INFINITY;
	verify(&reader);
	if (ret->error)
		warn(&reader, "%s", ret->error);
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
	free(config->user);
	free(config->group);
	free(config->working_directory);
	free(config->identifier);
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
		[EXEC_STOP] = "ExecStop",
		[EXEC_STOP_POST] = "ExecStopPost",
	};

	return names[kind];
}
