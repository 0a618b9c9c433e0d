/* What the supervisor makes of a unit file: any text must give a configuration that holds together. */
#include "manager/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool host(void *userdata, char letter, struct buf *out)
{
	(void)userdata;
	buf_add_char(out, letter);
	return letter == 'H' || letter == 'm';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	_cleanup_(service_config_done) struct service_config config = {0};
	struct unit_specifiers specifiers = {.host = host};

	if (unit_name_parse(SLICE_LITERAL("web@a-b.service"), &specifiers.name) < 0)
		abort();
	if (unit_file_parse(slice_make(data, size), &file, NULL) < 0)
		return 0;
	service_config_read(file, &specifiers, &config);
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
