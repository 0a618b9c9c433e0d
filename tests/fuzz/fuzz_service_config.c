/* What the supervisor makes of a unit file: any text must give a configuration that holds together. */
#include "manager/config.h"
#include "manager/listen.h"
#include "manager/timer_schedule.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool host(void *userdata, char letter, struct buf *out)
{
	(void)userdata;
	buf_add_char(out, letter);
	return letter == 'H' || letter == 'm';
}

static void read_as(const char *name, const struct unit_file *file, struct service_config *ret)
{
	struct unit_specifiers specifiers = {.host = host};

	if (unit_name_parse(slice_str(name), &specifiers.name) < 0)
		abort();
	service_config_read(file, &specifiers, ret);
}

static void check_path(const char *path)
{
	assert(path[0] == '/' && !strstr(path, "//") && !strstr(path, "/../"));
}

/* Units that start others. */
static void check_triggers(const struct unit_file *file)
{
	static const char *const names[] = {"web@a-b.timer", "web@a-b.path", "web@a-b.socket"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		_cleanup_(service_config_done) struct service_config config = {0};
		_cleanup_buf_ struct buf error = BUF_INIT(4096);
		struct timer_times times = {.now_us = INT64_C(1769853600000000), .active_us = 1};
		_cleanup_free_ bool *spent = NULL;
		struct listen_address address;
		struct timer_due due;

		read_as(names[i], file, &config);
		assert(config.trigger && strings_have(&config.dependencies[DEP_BEFORE], config.trigger));
		assert(config.error || config.timer.count || config.timer.on_clock_change ||
			config.path.count || config.socket.count);
		spent = calloc(config.timer.count + 1, sizeof(bool));
		timer_schedule(&config.timer, &times, spent, &due);
		assert(due.wall_us >= 0 && due.mono_ns >= 0);
		for (size_t j = 0; j < config.path.count; j++)
			check_path(config.path.specs[j].path);
		for (size_t j = 0; j < config.socket.symlinks.count; j++)
			check_path(config.socket.symlinks.items[j]);
		for (size_t j = 0; j < config.socket.count; j++)
			if (listen_address_parse(&config.socket.specs[j], &address, &error) < 0)
				abort();
		assert(config.socket.socket_mode <= 07777 && config.socket.directory_mode <= 07777);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	_cleanup_(service_config_done) struct service_config config = {0};

	if (unit_file_parse(slice_make(data, size), &file, NULL) < 0)
		return 0;
	check_triggers(file);
	read_as("web@a-b.service", file, &config);
	assert(config.type < SERVICE_TYPE_MAX && config.restart < RESTART_MAX &&
		config.kill_mode < KILL_MODE_MAX);
	assert(config.exit_type < EXIT_TYPE_MAX && config.oom_policy < OOM_POLICY_MAX &&
		config.start_failure_mode < FAILURE_MODE_MAX && config.stop_failure_mode < FAILURE_MODE_MAX);
	assert(config.notify_access > NOTIFY_UNSET && config.notify_access < NOTIFY_ACCESS_MAX);
	assert(config.timeout_abort_ns > 0 && config.runtime_max_ns > 0 && config.watchdog_ns >= 0);
	assert(config.process.nice >= -20 && config.process.nice <= 19 && config.process.umask <= 07777);
	assert(config.resources.cpu_period_ns > 0 && config.resources.cpu_weight <= 10000);
	for (size_t i = 0; i < RLIM_NLIMITS; i++)
		assert(config.process.limits[i].soft <= config.process.limits[i].hard);
	for (size_t i = 0; i < config.process.directories[DIRECTORY_RUNTIME].names.count; i++) {
		const char *name = config.process.directories[DIRECTORY_RUNTIME].names.items[i];

		assert(name[0] && name[0] != '/' && strncmp(name, "../", 3) != 0 && !strstr(name, "/../"));
	}
	assert(config.kill_signal > 0 && config.timeout_stop_ns > 0 && config.restart_ns >= 0);
	assert(config.error || config.exec[EXEC_START].count || config.type == SERVICE_ONESHOT);
	for (size_t kind = 0; kind < EXEC_KIND_MAX; kind++)
		for (size_t i = 0; i < config.exec[kind].count; i++)
			assert(config.exec[kind].items[i].count > 0 &&
				config.exec[kind].items[i].words[0][0]);
	for (size_t i = 0; i < config.environment.count; i++)
		assert(strchr(config.environment.items[i], '='));
	return 0;
}
