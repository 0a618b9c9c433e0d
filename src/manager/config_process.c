/* Values of systemd.exec(5): how a unit's processes are set up. */
#include "base/memory.h"
#include "base/text.h"
#include "manager/config_internal.h"
#include "unit/environment.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

bool config_parse_mode(struct reader *reader, struct slice value, unsigned *ret)
{
	unsigned mode = 0;
	bool good = value.len > 0 && value.len <= 5;

	for (size_t i = 0; i < value.len && good; i++) {
		good = value.data[i] >= '0' && value.data[i] <= '7';
		mode = mode * 8 + (unsigned)(value.data[i] - '0');
	}
	if (good && mode <= 07777) {
		*ret = mode;
		return true;
	}
	config_warn_value(reader, value, "an octal mode such as 0022");
	return false;
}

void parse_umask(struct reader *reader, struct slice value, size_t unused)
{
	(void)unused;
	(void)config_parse_mode(reader, value, &reader->config->process.umask);
}

void parse_nice(struct reader *reader, struct slice value, size_t unused)
{
	struct process_config *process = &reader->config->process;
	int64_t nice;

	(void)unused;
	process->nice_set = value.len && process->nice_set;
	if (value.len && config_parse_number(reader, value, -20, 19, &nice)) {
		process->nice = (int)nice;
		process->nice_set = true;
	}
}

void parse_oom_score(struct reader *reader, struct slice value, size_t unused)
{
	struct process_config *process = &reader->config->process;
	int64_t score;

	(void)unused;
	process->oom_score_set = value.len && process->oom_score_set;
	if (value.len && config_parse_number(reader, value, -1000, 1000, &score)) {
		process->oom_score = (int)score;
		process->oom_score_set = true;
	}
}

/* The index of a word or its number; -1 for neither. */
static int word_index(struct slice value, const char *const *words, size_t count)
{
	uint64_t number;

	for (size_t i = 0; i < count; i++)
		if (words[i] && slice_is(value, words[i]))
			return (int)i;
	return text_to_u64(value, &number) == 0 && number < count ? (int)number : -1;
}

void parse_cpu_policy(struct reader *reader, struct slice value, size_t unused)
{
	static const char *const policies[] = {[SCHED_OTHER] = "other",
		[SCHED_FIFO] = "fifo",
		[SCHED_RR] = "rr",
		[SCHED_BATCH] = "batch",
		[SCHED_IDLE] = "idle"};
	struct process_config *process = &reader->config->process;
	int policy = word_index(value, policies, ARRAY_LEN(policies));

	(void)unused;
	if (policy < 0 || !policies[policy]) {
		config_warn_value(reader, value, "other, batch, idle, fifo or rr");
		return;
	}
	process->policy = policy;
	process->policy_set = true;
	/* A real-time policy needs a priority, the others have none. */
	if (policy != SCHED_FIFO && policy != SCHED_RR)
		process->priority = 0;
	else if (process->priority < 1)
		process->priority = 1;
}

void parse_cpu_priority(struct reader *reader, struct slice value, size_t unused)
{
	struct process_config *process = &reader->config->process;
	int64_t priority;
	bool real_time = process->policy == SCHED_FIFO || process->policy == SCHED_RR;

	(void)unused;
	if (config_parse_number(reader, value, real_time ? 1 : 0, real_time ? 99 : 0, &priority))
		process->priority = (int)priority;
}

void parse_affinity(struct reader *reader, struct slice value, size_t unused)
{
	struct process_config *process = &reader->config->process;
	struct slice rest = value;

	(void)unused;
	if (!value.len) {
		memset(process->affinity, 0, sizeof(process->affinity));
		process->affinity_set = false;
	}
	while (rest.len) {
		size_t len = 0;
		struct slice word, from, to;
		uint64_t first, last;

		while (len < rest.len && rest.data[len] != ' ' && rest.data[len] != ',' &&
			rest.data[len] != '\t')
			len++;
		word = slice_make(rest.data, len);
		rest = slice_make(rest.data + len + (len < rest.len), rest.len - len - (len < rest.len));
		if (!word.len)
			continue;
		if (!text_cut(word, '-', &from, &to))
			to = from;
		if (text_to_u64(from, &first) < 0 || text_to_u64(to, &last) < 0 || last < first ||
			last >= AFFINITY_CPUS_MAX) {
			config_warn_value(reader, word, "CPU numbers and ranges such as 0-3");
			return;
		}
		for (uint64_t cpu = first; cpu <= last; cpu++)
			process->affinity[cpu / 8] |= (unsigned char)(1u << (cpu % 8));
		process->affinity_set = true;
	}
}

void parse_io_class(struct reader *reader, struct slice value, size_t unused)
{
	static const char *const classes[] = {"none", "realtime", "best-effort", "idle"};
	struct process_config *process = &reader->config->process;
	int class = word_index(value, classes, ARRAY_LEN(classes));

	(void)unused;
	if (!value.len) {
		process->io_set = false;
	} else if (class < 0) {
		config_warn_value(reader, value, "realtime, best-effort or idle");
	} else {
		/* Best effort at 4 is what the kernel does without being asked. */
		if (!process->io_set)
			process->io_priority = 4;
		process->io_class = class;
		process->io_set = true;
	}
}

void parse_io_priority(struct reader *reader, struct slice value, size_t unused)
{
	struct process_config *process = &reader->config->process;
	int64_t priority;

	(void)unused;
	if (!value.len) {
		process->io_set = false;
	} else if (config_parse_number(reader, value, 0, 7, &priority)) {
		if (!process->io_set)
			process->io_class = 2;
		process->io_priority = (int)priority;
		process->io_set = true;
	}
}

void parse_directory(struct reader *reader, struct slice value, size_t unused)
{
	struct process_config *process = &reader->config->process;
	_cleanup_free_ char *path = NULL;

	(void)unused;
	process->working_directory_optional = value.len && value.data[0] == '-';
	if (process->working_directory_optional)
		value = slice_make(value.data + 1, value.len - 1);
	path = config_expand(reader, value);
	if (!value.len) {
		process->working_directory = mem_free(process->working_directory);
	} else if (!path || (path[0] != '/' && strcmp(path, "~") != 0)) {
		config_warn_value(reader, value, "an absolute path or ~");
		config_fail(reader, "WorkingDirectory= is no absolute path");
	} else {
		free(process->working_directory);
		process->working_directory = take_ptr(path);
	}
}

static void set_stream(struct stream_config *stream, enum stream_kind kind, char *path)
{
	free(stream->path);
	*stream = (struct stream_config){.kind = kind, .path = path};
}

void parse_stream(struct reader *reader, struct slice value, size_t which)
{
	static const struct {
		const char *word;
		enum stream_kind kind;
		bool for_input, for_output;
	} words[] = {
		{"null", STREAM_NULL, true, true},
		{"inherit", STREAM_INHERIT, false, true},
		{"journal", STREAM_LOG, false, true},
		{"kmsg", STREAM_LOG, false, true},
		{"syslog", STREAM_LOG, false, true},
		{"journal+console", STREAM_LOG, false, true},
		{"kmsg+console", STREAM_LOG, false, true},
		{"syslog+console", STREAM_LOG, false, true},
	};
	static const struct {
		struct slice prefix;
		enum stream_kind kind;
	} files[] = {{SLICE_LITERAL("file:"), STREAM_FILE}, {SLICE_LITERAL("append:"), STREAM_APPEND},
		{SLICE_LITERAL("truncate:"), STREAM_TRUNCATE}};
	struct process_config *process = &reader->config->process;
	struct stream_config *stream = which == 0   ? &process->input
				       : which == 1 ? &process->output
						    : &process->error;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (slice_is(value, words[i].word) && (which ? words[i].for_output : words[i].for_input)) {
			set_stream(stream, words[i].kind, NULL);
			return;
		}
	}
	for (size_t i = 0; i < (which ? ARRAY_LEN(files) : 1); i++) {
		struct slice prefix = files[i].prefix;
		char *path;

		if (!slice_starts_with(value, prefix))
			continue;
		path = config_expand(reader, slice_make(value.data + prefix.len, value.len - prefix.len));
		if (path && path[0] == '/') {
			set_stream(stream, files[i].kind, path);
			return;
		}
		free(path);
		config_warn_value(reader, value, "an absolute path");
		return;
	}
	if (!value.len) {
		set_stream(stream, STREAM_DEFAULT, NULL);
		return;
	}
	config_warn(reader, "%.*s=%.*s is not supported, %s", (int)reader->option->name.len,
		reader->option->name.data, (int)MIN(value.len, (size_t)200), value.data,
		which ? "the output goes to the unit's log" : "the input is empty");
}

/* LimitNICE=: with a sign a nice level, without one the kernel's value, which counts the other way. */
static int parse_nice_limit(struct slice text, rlim_t *ret)
{
	int64_t value;

	if (text_to_i64(text, &value) < 0)
		return -EINVAL;
	if (text.data[0] == '+' || text.data[0] == '-') {
		if (value < -20 || value > 19)
			return -ERANGE;
		*ret = (rlim_t)(20 - value);
		return 0;
	}
	if (value < 0 || value > 40)
		return -ERANGE;
	*ret = (rlim_t)value;
	return 0;
}

/* One half of a limit: a size, a time or a count, as the resource has it. */
static int parse_limit_value(struct slice text, size_t resource, rlim_t *ret)
{
	uint64_t value;
	int64_t ns;

	if (slice_is(text, "infinity")) {
		*ret = RLIM_INFINITY;
		return 0;
	}
	switch (resource) {
	case RLIMIT_NICE:
		return text.len ? parse_nice_limit(text, ret) : -EINVAL;
	case RLIMIT_CPU:
		if (unit_parse_span(text, &ns) < 0)
			return -EINVAL;
		*ret = (rlim_t)(ns / 1000000000 + (ns % 1000000000 != 0));
		return 0;
	case RLIMIT_RTTIME: /* a plain number is in microseconds */
		if (text_to_u64(text, &value) == 0) {
			*ret = value;
			return 0;
		}
		if (unit_parse_span(text, &ns) < 0)
			return -EINVAL;
		*ret = (rlim_t)(ns / 1000);
		return 0;
	case RLIMIT_NOFILE:
	case RLIMIT_NPROC:
	case RLIMIT_LOCKS:
	case RLIMIT_SIGPENDING:
	case RLIMIT_RTPRIO:
		if (text_to_u64(text, &value) < 0)
			return -EINVAL;
		break;
	default:
		if (config_parse_size(text, &value) < 0)
			return -EINVAL;
	}
	*ret = value;
	return value < RLIM_INFINITY ? 0 : -ERANGE;
}

void parse_rlimit(struct reader *reader, struct slice value, size_t resource)
{
	struct slice soft_text, hard_text;
	bool both = text_cut(value, ':', &soft_text, &hard_text);
	rlim_t soft, hard;

	if (!value.len) {
		reader->config->process.limits[resource].set = false;
		return;
	}
	if (parse_limit_value(text_trim(soft_text), resource, &soft) < 0 ||
		parse_limit_value(text_trim(both ? hard_text : soft_text), resource, &hard) < 0 ||
		soft > hard) {
		config_warn_value(reader, value, "a limit, SOFT:HARD or infinity");
		return;
	}
	reader->config->process.limits[resource].set = true;
	reader->config->process.limits[resource].soft = soft;
	reader->config->process.limits[resource].hard = hard;
}

/* Below the kind's directory, and nowhere else. */
static bool is_relative_inside(const char *path)
{
	size_t len = strlen(path);

	if (!len || len > 255 || path[0] == '/' || path[len - 1] == '/' || strchr(path, ':'))
		return false;
	for (const char *at = path; at;) {
		size_t part = strcspn(at, "/");

		if (!part || (part == 1 && at[0] == '.') || (part == 2 && at[0] == '.' && at[1] == '.'))
			return false;
		at = at[part] ? at + part + 1 : NULL;
	}
	return true;
}

static char *read_directory(struct reader *reader, struct slice word)
{
	return config_read_word(reader, word, is_relative_inside,
		"relative paths without . and .. (links are not supported)");
}

void parse_directories(struct reader *reader, struct slice value, size_t kind)
{
	config_parse_words(
		reader, value, &reader->config->process.directories[kind].names, SIZE_MAX, read_directory);
}

void parse_directory_mode(struct reader *reader, struct slice value, size_t kind)
{
	(void)config_parse_mode(reader, value, &reader->config->process.directories[kind].mode);
}

static char *read_group(struct reader *reader, struct slice word)
{
	return config_read_word(reader, word, NULL, "group names");
}

void parse_groups(struct reader *reader, struct slice value, size_t unused)
{
	(void)unused;
	config_parse_words(reader, value, &reader->config->process.groups, SIZE_MAX, read_group);
}

static bool is_variable_name(const char *word)
{
	_cleanup_(unit_environment_done) struct unit_environment check = {0};

	return unit_environment_set(&check, slice_str(word), slice_str("")) == 0;
}

static char *read_variable_name(struct reader *reader, struct slice word)
{
	return config_read_word(reader, word, is_variable_name, "names of variables");
}

void parse_pass_environment(struct reader *reader, struct slice value, size_t unused)
{
	(void)unused;
	config_parse_words(
		reader, value, &reader->config->process.pass_environment, SIZE_MAX, read_variable_name);
}

static int capability_from_name(struct slice name)
{
	/* capabilities(7), in the kernel's order. */
	static const char *const names[] = {"chown", "dac_override", "dac_read_search", "fowner", "fsetid",
		"kill", "setgid", "setuid", "setpcap", "linux_immutable", "net_bind_service", "net_broadcast",
		"net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot",
		"sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time",
		"sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap", "mac_override",
		"mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
		"checkpoint_restore"};

	if (name.len <= 4 || strncasecmp(name.data, "CAP_", 4) != 0)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (name.len - 4 == strlen(names[i]) &&
			strncasecmp(name.data + 4, names[i], name.len - 4) == 0)
			return (int)i;
	return -1;
}

/* Lines add up; with '~' in front one takes away. The first line, or an empty one, stands for itself. */
void parse_capabilities(struct reader *reader, struct slice value, size_t offset)
{
	uint64_t *field = CONFIG_FIELD(reader, uint64_t, offset), sum = 0;
	uint64_t initial = offset == CONFIG_OFFSET(process.capability_bounds) ? UINT64_MAX : 0;
	bool invert = value.len && value.data[0] == '~';
	struct slice rest = invert ? slice_make(value.data + 1, value.len - 1) : value;
	_cleanup_buf_ struct buf word = BUF_INIT(4096);

	while (unit_word_next(&rest, false, &word, NULL) > 0) {
		int number = capability_from_name(buf_slice(&word));

		if (number < 0)
			config_warn_value(reader, buf_slice(&word), "names such as CAP_NET_BIND_SERVICE");
		else
			sum |= UINT64_C(1) << number;
	}
	if (!sum || *field == initial)
		*field = invert ? ~sum : sum;
	else if (invert)
		*field &= ~sum;
	else
		*field |= sum;
}
