/* Timers, paths and sockets: what their units say, and the dependency they have without a word
 * (systemd.timer(5), systemd.path(5), systemd.socket(5): AUTOMATIC DEPENDENCIES). */
#include "base/memory.h"
#include "base/text.h"
#include "manager/calendar.h"
#include "manager/config_internal.h"
#include <errno.h>
#include <limits.h>

#define VALUES_MAX 256 /* conditions or addresses of one unit */

static void clear_timer(struct timer_config *timer)
{
	for (size_t i = 0; i < timer->count; i++)
		(void)calendar_free(timer->values[i].calendar);
	timer->values = mem_free(timer->values);
	timer->count = 0;
}

static void parse_timer(struct reader *reader, struct slice value, size_t base)
{
	struct timer_config *timer = &reader->config->timer;
	struct timer_value add = {.base = (enum timer_base)base};
	_cleanup_free_ char *text = config_expand(reader, value);
	_cleanup_buf_ struct buf error = BUF_INIT(1024);

	if (!value.len) {
		clear_timer(timer);
		return;
	}
	if (timer->count >= VALUES_MAX) {
		config_warn(reader, "More than %d times in one timer, ignoring.", VALUES_MAX);
		return;
	}
	if (!text)
		return;
	if (base == TIMER_CALENDAR) {
		if (calendar_parse(slice_str(text), &add.calendar, &error) < 0) {
			config_warn_value(reader, value, buf_text(&error));
			return;
		}
	} else if (unit_parse_span(slice_str(text), &add.span_ns) < 0 || add.span_ns == UNIT_SPAN_INFINITY) {
		config_warn_value(reader, value, "a time span such as 1min 30s");
		return;
	}
	timer->values = mem_reallocarray(timer->values, timer->count + 1, sizeof(*timer->values));
	timer->values[timer->count++] = add;
}

/* A timer here fires when it is due, never later for the sake of company: any accuracy is kept. */
static void parse_accuracy(struct reader *reader, struct slice value, size_t unused)
{
	int64_t ns;

	(void)unused;
	if (unit_parse_span(value, &ns) < 0)
		config_warn_value(reader, value, "a time span such as 1min");
}

/* Takes empty and "." parts out, and the slash at the end; false: it has a ".." part. */
static bool path_simplify(char *path)
{
	char *out = path;

	for (const char *at = path; *at;) {
		size_t slashes = strspn(at, "/"), part = strcspn(at + slashes, "/");

		at += slashes;
		if (part == 2 && strncmp(at, "..", 2) == 0)
			return false;
		if (part && !(part == 1 && *at == '.')) {
			*out++ = '/';
			memmove(out, at, part);
			out += part;
		}
		at += part;
	}
	if (out == path)
		*out++ = '/';
	*out = 0;
	return true;
}

/* An absolute path in its simplest form, owned; NULL after a warning. */
static char *read_path(struct reader *reader, struct slice value)
{
	char *path = config_expand(reader, value);

	if (path && path[0] == '/' && strlen(path) < PATH_MAX && path_simplify(path))
		return path;
	config_warn_value(reader, value, "an absolute path without \"..\"");
	free(path);
	return NULL;
}

static void clear_path(struct path_config *config)
{
	for (size_t i = 0; i < config->count; i++)
		free(config->specs[i].path);
	config->specs = mem_free(config->specs);
	config->count = 0;
}

static void parse_path(struct reader *reader, struct slice value, size_t type)
{
	struct path_config *config = &reader->config->path;
	struct path_spec add = {.type = (enum path_type)type};

	if (!value.len) {
		clear_path(config);
		return;
	}
	if (config->count >= VALUES_MAX) {
		config_warn(reader, "More than %d paths in one unit, ignoring.", VALUES_MAX);
		return;
	}
	add.path = read_path(reader, value);
	if (!add.path)
		return;
	config->specs = mem_reallocarray(config->specs, config->count + 1, sizeof(*config->specs));
	config->specs[config->count++] = add;
}

void parse_path_list(struct reader *reader, struct slice value, size_t offset)
{
	config_parse_words(
		reader, value, CONFIG_FIELD(reader, struct strings, offset), VALUES_MAX, read_path);
}

static void parse_mode(struct reader *reader, struct slice value, size_t offset)
{
	(void)config_parse_mode(reader, value, CONFIG_FIELD(reader, unsigned, offset));
}

static void parse_burst(struct reader *reader, struct slice value, size_t unused)
{
	(void)unused;
	if (text_to_u64(value, &reader->config->trigger_limit.burst) < 0)
		config_warn_value(reader, value, "a number");
	else
		reader->config->trigger_limit.burst_set = true;
}

/* Unit= and Service=: which unit is started. */
static void parse_trigger(struct reader *reader, struct slice value, size_t unused)
{
	struct slice own = reader->specifiers->name.type;
	struct unit_name name;
	char *text = config_expand(reader, value);

	(void)unused;
	if (!text || unit_name_validate(slice_str(text), NULL) < 0 ||
		unit_name_parse(slice_str(text), &name) < 0 || slice_equal(name.type, own) ||
		(slice_is(own, "socket") && !slice_is(name.type, "service"))) {
		config_warn_value(reader, value, "the name of a unit to start, of another type");
		free(text);
		return;
	}
	free(reader->config->trigger);
	reader->config->trigger = text;
}

/* Sockets= of a service: they are wanted, and come first. */
void parse_sockets(struct reader *reader, struct slice value, size_t unused)
{
	(void)unused;
	parse_dependency(reader, value, DEP_SOCKETS);
	parse_dependency(reader, value, DEP_WANTS);
	parse_dependency(reader, value, DEP_AFTER);
}

/* One row, one line. */
/* clang-format off */
const struct directive trigger_directives[] = {
	{"Timer", "OnActiveSec", parse_timer, TIMER_ACTIVE},
	{"Timer", "OnBootSec", parse_timer, TIMER_BOOT},
	{"Timer", "OnStartupSec", parse_timer, TIMER_STARTUP},
	{"Timer", "OnUnitActiveSec", parse_timer, TIMER_UNIT_ACTIVE},
	{"Timer", "OnUnitInactiveSec", parse_timer, TIMER_UNIT_INACTIVE},
	{"Timer", "OnCalendar", parse_timer, TIMER_CALENDAR},
	{"Timer", "AccuracySec", parse_accuracy, 0},
	{"Timer", "RandomizedDelaySec", parse_span, CONFIG_OFFSET(timer.random_delay_ns)},
	{"Timer", "FixedRandomDelay", parse_bool, CONFIG_OFFSET(timer.fixed_random_delay)},
	{"Timer", "OnClockChange", parse_bool, CONFIG_OFFSET(timer.on_clock_change)},
	{"Timer", "Persistent", parse_bool, CONFIG_OFFSET(timer.persistent)},
	{"Timer", "RemainAfterElapse", parse_bool, CONFIG_OFFSET(timer.remain_after_elapse)},
	{"Timer", "Unit", parse_trigger, 0},
	{"Path", "PathExists", parse_path, PATH_EXISTS},
	{"Path", "PathExistsGlob", parse_path, PATH_EXISTS_GLOB},
	{"Path", "PathChanged", parse_path, PATH_CHANGED},
	{"Path", "PathModified", parse_path, PATH_MODIFIED},
	{"Path", "DirectoryNotEmpty", parse_path, PATH_DIRECTORY_NOT_EMPTY},
	{"Path", "MakeDirectory", parse_bool, CONFIG_OFFSET(path.make_directory)},
	{"Path", "DirectoryMode", parse_mode, CONFIG_OFFSET(path.directory_mode)},
	{"Path", "TriggerLimitIntervalSec", parse_span, CONFIG_OFFSET(trigger_limit.interval_ns)},
	{"Path", "TriggerLimitBurst", parse_burst, 0},
	{"Path", "Unit", parse_trigger, 0},
	{"Socket", "ListenStream", parse_listen, LISTEN_STREAM},
	{"Socket", "ListenDatagram", parse_listen, LISTEN_DATAGRAM},
	{"Socket", "ListenSequentialPacket", parse_listen, LISTEN_SEQPACKET},
	{"Socket", "ListenFIFO", parse_listen, LISTEN_FIFO},
	{"Socket", "Service", parse_trigger, 0},
	{"Socket", "Accept", parse_accept, 0},
	{"Socket", "SocketUser", parse_string, CONFIG_OFFSET(socket.user)},
	{"Socket", "SocketGroup", parse_string, CONFIG_OFFSET(socket.group)},
	{"Socket", "SocketMode", parse_mode, CONFIG_OFFSET(socket.socket_mode)},
	{"Socket", "DirectoryMode", parse_mode, CONFIG_OFFSET(socket.directory_mode)},
	{"Socket", "FileDescriptorName", parse_descriptor_name, 0},
	{"Socket", "Symlinks", parse_path_list, CONFIG_OFFSET(socket.symlinks)},
	{"Socket", "RemoveOnStop", parse_bool, CONFIG_OFFSET(socket.remove_on_stop)},
	{"Socket", "FlushPending", parse_bool, CONFIG_OFFSET(socket.flush_pending)},
	{"Socket", "Backlog", parse_count, CONFIG_OFFSET(socket.backlog)},
	{"Socket", "BindIPv6Only", parse_bind_ipv6_only, 0},
	{"Socket", "BindToDevice", parse_string, CONFIG_OFFSET(socket.bind_to_device)},
	{"Socket", "FreeBind", parse_bool, CONFIG_OFFSET(socket.free_bind)},
	{"Socket", "Transparent", parse_bool, CONFIG_OFFSET(socket.transparent)},
	{"Socket", "Broadcast", parse_bool, CONFIG_OFFSET(socket.broadcast)},
	{"Socket", "ReusePort", parse_bool, CONFIG_OFFSET(socket.reuse_port)},
	{"Socket", "PassCredentials", parse_bool, CONFIG_OFFSET(socket.pass_credentials)},
	{"Socket", "PassPacketInfo", parse_bool, CONFIG_OFFSET(socket.pass_packet_info)},
	{"Socket", "NoDelay", parse_bool, CONFIG_OFFSET(socket.no_delay)},
	{"Socket", "KeepAlive", parse_bool, CONFIG_OFFSET(socket.keep_alive)},
	{"Socket", "KeepAliveTimeSec", parse_span, CONFIG_OFFSET(socket.keep_alive_time_ns)},
	{"Socket", "KeepAliveIntervalSec", parse_span, CONFIG_OFFSET(socket.keep_alive_interval_ns)},
	{"Socket", "KeepAliveProbes", parse_count, CONFIG_OFFSET(socket.keep_alive_probes)},
	{"Socket", "DeferAcceptSec", parse_span, CONFIG_OFFSET(socket.defer_accept_ns)},
	{"Socket", "ReceiveBuffer", parse_bytes, CONFIG_OFFSET(socket.receive_buffer)},
	{"Socket", "SendBuffer", parse_bytes, CONFIG_OFFSET(socket.send_buffer)},
	{"Socket", "PipeSize", parse_bytes, CONFIG_OFFSET(socket.pipe_size)},
	{"Socket", "Priority", parse_socket_number, CONFIG_OFFSET(socket.priority)},
	{"Socket", "Mark", parse_socket_number, CONFIG_OFFSET(socket.mark)},
	{"Socket", "IPTTL", parse_socket_number, CONFIG_OFFSET(socket.ip_ttl)},
	{"Socket", "IPTOS", parse_ip_tos, 0},
	{"Socket", "TCPCongestion", parse_string, CONFIG_OFFSET(socket.congestion)},
	{"Socket", "TriggerLimitIntervalSec", parse_span, CONFIG_OFFSET(trigger_limit.interval_ns)},
	{"Socket", "TriggerLimitBurst", parse_burst, 0},
};
/* clang-format on */
const size_t trigger_directive_count = ARRAY_LEN(trigger_directives);

void config_default_trigger(struct service_config *config)
{
	config->timer.remain_after_elapse = true;
	config->path.directory_mode = 0755;
	config->socket = (struct socket_config){.socket_mode = 0666,
		.directory_mode = 0755,
		.backlog = 4096,
		.priority = -1,
		.mark = -1,
		.ip_tos = -1,
		.ip_ttl = -1};
	config->trigger_limit = (struct trigger_limit){.interval_ns = 2 * INT64_C(1000000000)};
}

void config_trigger_done(struct service_config *config)
{
	struct socket_config *socket = &config->socket;

	clear_timer(&config->timer);
	clear_path(&config->path);
	for (size_t i = 0; i < socket->count; i++)
		free(socket->specs[i].address);
	free(socket->specs);
	free(socket->user);
	free(socket->group);
	free(socket->name);
	free(socket->bind_to_device);
	free(socket->congestion);
	strings_done(&socket->symlinks);
	free(config->trigger);
}

/* What has no Unit= starts the service of its own name, after itself. */
static void complete_trigger(struct reader *reader)
{
	struct service_config *config = reader->config;
	struct slice stem = reader->specifiers->name.stem;

	if (!config->trigger)
		config->trigger = mem_printf("%.*s.service", (int)stem.len, stem.data);
	if (!strings_have(&config->dependencies[DEP_BEFORE], config->trigger))
		strings_add(&config->dependencies[DEP_BEFORE], config->trigger);
}

static void default_burst(struct service_config *config, uint64_t burst)
{
	if (!config->trigger_limit.burst_set)
		config->trigger_limit.burst = burst;
}

bool config_verify_trigger(struct reader *reader)
{
	struct slice type = reader->specifiers->name.type;
	struct service_config *config = reader->config;

	if (slice_is(type, "target"))
		return true;
	if (slice_is(type, "timer")) {
		if (!config->timer.count && !config->timer.on_clock_change)
			config_fail(reader, "Timer unit lacks value setting. Refusing.");
	} else if (slice_is(type, "path")) {
		default_burst(config, 200);
		if (!config->path.count)
			config_fail(reader, "Path unit lacks path setting. Refusing.");
	} else if (slice_is(type, "socket")) {
		default_burst(config, 20);
		if (!config->socket.count)
			config_fail(reader, "Unit has no Listen setting (ListenStream=, ListenDatagram=, "
					    "ListenFIFO=, ...). Refusing.");
	} else {
		return false;
	}
	complete_trigger(reader);
	return true;
}
