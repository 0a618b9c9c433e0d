/* A controller is looked for when the first unit needs it: to enable one costs every fork a little, and most
 * units limit nothing. In v2 a controller is enabled from the parent of the keeper's cgroups downwards; that
 * fails where the parent itself holds processes, which is the usual reason to fall back. In v1 each hierarchy
 * gets directories of its own, as the tracker's is another one. */
#include "manager/limits.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include "manager/cgroup.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1024 * 1024)
#define SHARE_ONE 10000

static const char *const controller_names[] = {
	[LIMITS_CPU] = "cpu", [LIMITS_MEMORY] = "memory", [LIMITS_PIDS] = "pids"};

static int write_text(const char *dir, const char *file, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, file);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	return write(fd, text, len) == (ssize_t)len ? 0 : -errno;
}

static bool lists(const char *dir, const char *file, const char *word)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, file);
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	struct slice rest, part;

	if (file_read(path, FILE_MAX, &text) < 0)
		return false;
	rest = text_trim(buf_slice(&text));
	while (rest.len) {
		(void)text_cut(rest, ' ', &part, &rest);
		if (slice_is(part, word))
			return true;
	}
	return false;
}

/* True when the tracker's cgroups have it, or could be given it. */
static bool find_unified(struct limits *limits, enum limits_controller controller)
{
	const char *name = controller_names[controller], *base = limits->tracker->base;
	_cleanup_free_ char *enable = mem_printf("+%s", name), *parent = NULL;

	if (!limits->tracker->unified)
		return false;
	parent = mem_strndup(base, (size_t)(strrchr(base, '/') - base));
	if (!lists(base, "cgroup.controllers", name) &&
		write_text(parent, "cgroup.subtree_control", enable) < 0)
		return false;
	if (write_text(base, "cgroup.subtree_control", enable) < 0)
		return false;
	limits->controllers[controller].unified = true;
	limits->controllers[controller].base = mem_strdup(base);
	return true;
}

static char *legacy_base(const struct limits *limits, enum limits_controller controller, bool at_root)
{
	const char *name = controller_names[controller];
	_cleanup_free_ char *root = cgroup_mount("cgroup", name), *own = cgroup_own(name);

	if (!root || !own)
		return NULL;
	return mem_printf("%s%s/flotilla-%s", root, at_root || strcmp(own, "/") == 0 ? "" : own, limits->id);
}

static void find_controller(struct limits *limits, enum limits_controller controller)
{
	limits->controllers[controller].looked = true;
	if (!limits->tracker->base || find_unified(limits, controller))
		return;
	for (int at_root = 0; at_root < 2; at_root++) {
		_cleanup_free_ char *base = legacy_base(limits, controller, at_root);

		if (base && (mkdir(base, 0755) == 0 || errno == EEXIST)) {
			limits->controllers[controller].base = take_ptr(base);
			return;
		}
	}
}

/* As with the tracker's cgroups, those whose keeper is gone are removed as far as they are empty: the ones
 * whose directory beside the tracker's is gone, too. */
static void remove_abandoned(const struct tracker *tracker, const char *base)
{
	const char *name = strrchr(base, '/') + 1;
	_cleanup_free_ char *parent = mem_strndup(base, (size_t)(name - base));
	_cleanup_free_ char *keepers =
		mem_strndup(tracker->base, (size_t)(strrchr(tracker->base, '/') + 1 - tracker->base));
	DIR *dir = opendir(parent);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *keeper = mem_printf("%s%s", keepers, entry->d_name);
		_cleanup_free_ char *other = mem_printf("%s%s", parent, entry->d_name);

		if (strcmp(entry->d_name, name) == 0 ||
			(cgroup_is_keepers(entry->d_name) && access(keeper, F_OK) < 0))
			cgroup_remove_tree(other);
	}
	if (dir)
		closedir(dir);
}

void limits_open(struct limits *limits, const struct tracker *tracker, const char *id)
{
	*limits = (struct limits){.tracker = tracker, .id = mem_strdup(id)};
	for (int i = 0; i < LIMITS_CONTROLLERS && tracker->base; i++) {
		for (int at_root = 0; at_root < 2; at_root++) {
			_cleanup_free_ char *base = legacy_base(limits, (enum limits_controller)i, at_root);

			if (base)
				remove_abandoned(tracker, base);
		}
	}
}

void limits_done(struct limits *limits)
{
	for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
		if (limits->controllers[i].base && !limits->controllers[i].unified)
			cgroup_remove_tree(limits->controllers[i].base);
		free(limits->controllers[i].base);
	}
	free(limits->id);
	*limits = (struct limits){0};
}

/* A share is one of the whole machine's. "max" (v2) and -1 (v1) are no limit. */
static void amount_text(
	const struct amount *amount, uint64_t whole, const char *infinity, char *ret, size_t size)
{
	if (amount->kind == AMOUNT_INFINITY)
		(void)snprintf(ret, size, "%s", infinity);
	else if (amount->kind == AMOUNT_SHARE)
		(void)snprintf(ret, size, "%llu",
			(unsigned long long)((double)whole * (double)amount->value / SHARE_ONE));
	else
		(void)snprintf(ret, size, "%llu", (unsigned long long)amount->value);
}

static uint64_t memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

static uint64_t tasks_count(void)
{
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	uint64_t count = 0;

	if (file_read("/proc/sys/kernel/pid_max", FILE_MAX, &text) < 0 ||
		text_to_u64(text_trim(buf_slice(&text)), &count) < 0)
		return 32768;
	return count;
}

/* What is being set for one unit. */
struct setting {
	const struct limits *limits;
	const char *name;
	const struct resource_config *config;
	struct limits_unit *unit;
	struct strings *missing;
	char *dirs[LIMITS_CONTROLLERS]; /* NULL: not used or not there */
};

static void miss(struct setting *setting, const char *directive, enum limits_controller controller, int error)
{
	_cleanup_free_ char *text = NULL;
	bool there = setting->limits->controllers[controller].base != NULL;

	if (!there)
		text = mem_printf("%s= is not in force: the cgroup controller %s cannot be used here",
			directive, controller_names[controller]);
	else if (error == -ENOENT)
		text = mem_printf("%s= is not in force: the cgroup controller %s here has no such limit",
			directive, controller_names[controller]);
	else
		text = mem_printf("%s= is not in force: %s", directive, strerror(-error));
	strings_add(setting->missing, text);
}

/* Sets one file; v1_file NULL: v1 has nothing like it. */
static void put(struct setting *setting, const char *directive, enum limits_controller controller,
	const char *v2_file, const char *v1_file, const char *text)
{
	const char *file = setting->limits->controllers[controller].unified ? v2_file : v1_file;
	int r = -ENOENT;

	if (setting->dirs[controller] && file)
		r = write_text(setting->dirs[controller], file, text);
	if (r < 0)
		miss(setting, directive, controller, r);
}

static void put_memory(struct setting *setting, const char *directive, const struct amount *amount,
	const char *v2_file, const char *v1_file)
{
	bool unified = setting->limits->controllers[LIMITS_MEMORY].unified;
	char text[32];

	if (amount->kind == AMOUNT_UNSET)
		return;
	amount_text(amount, memory_bytes(), unified ? "max" : "-1", text, sizeof(text));
	put(setting, directive, LIMITS_MEMORY, v2_file, v1_file, text);
}

static void set_memory(struct setting *setting, bool kill_together)
{
	const struct resource_config *config = setting->config;
	bool old_name = config->memory_max.kind == AMOUNT_UNSET;

	put_memory(setting, "MemoryMin", &config->memory_min, "memory.min", NULL);
	put_memory(setting, "MemoryLow", &config->memory_low, "memory.low", NULL);
	put_memory(setting, "MemoryHigh", &config->memory_high, "memory.high", NULL);
	put_memory(setting, old_name ? "MemoryLimit" : "MemoryMax",
		old_name ? &config->memory_limit : &config->memory_max, "memory.max",
		"memory.limit_in_bytes");
	put_memory(setting, "MemorySwapMax", &config->memory_swap_max, "memory.swap.max", NULL);
	if (kill_together && setting->dirs[LIMITS_MEMORY] &&
		setting->limits->controllers[LIMITS_MEMORY].unified)
		(void)write_text(setting->dirs[LIMITS_MEMORY], "memory.oom.group", "1");
}

static void set_cpu(struct setting *setting)
{
	const struct resource_config *config = setting->config;
	uint64_t period_us = (uint64_t)config->cpu_period_ns / 1000;
	uint64_t quota_us = config->cpu_quota_us * period_us / 1000000;
	bool unified = setting->limits->controllers[LIMITS_CPU].unified;
	char text[64];

	if (config->cpu_weight || config->cpu_shares) {
		/* One is the other in another scale: 100 of weight are 1024 shares. */
		uint64_t weight = config->cpu_weight ? config->cpu_weight : config->cpu_shares * 100 / 1024;
		uint64_t shares = config->cpu_weight ? config->cpu_weight * 1024 / 100 : config->cpu_shares;

		(void)snprintf(text, sizeof(text), "%llu",
			(unsigned long long)(unified ? MAX(MIN(weight, UINT64_C(10000)), UINT64_C(1))
						     : MAX(MIN(shares, UINT64_C(262144)), UINT64_C(2))));
		put(setting, config->cpu_weight ? "CPUWeight" : "CPUShares", LIMITS_CPU, "cpu.weight",
			"cpu.shares", text);
	}
	if (!config->cpu_quota_us)
		return;
	quota_us = MAX(quota_us, UINT64_C(1000)); /* the kernel takes no less */
	if (unified) {
		(void)snprintf(text, sizeof(text), "%llu %llu", (unsigned long long)quota_us,
			(unsigned long long)period_us);
		put(setting, "CPUQuota", LIMITS_CPU, "cpu.max", NULL, text);
		return;
	}
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)period_us);
	if (setting->dirs[LIMITS_CPU])
		(void)write_text(setting->dirs[LIMITS_CPU], "cpu.cfs_period_us", text);
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)quota_us);
	put(setting, "CPUQuota", LIMITS_CPU, NULL, "cpu.cfs_quota_us", text);
}

static void set_tasks(struct setting *setting)
{
	char text[32];

	amount_text(&setting->config->tasks_max, tasks_count(), "max", text, sizeof(text));
	put(setting, "TasksMax", LIMITS_PIDS, "pids.max", "pids.max", text);
}

static void needed(const struct resource_config *config, bool ret[static LIMITS_CONTROLLERS])
{
	const struct amount *memory[] = {&config->memory_min, &config->memory_low, &config->memory_high,
		&config->memory_max, &config->memory_swap_max, &config->memory_limit};

	ret[LIMITS_CPU] = config->cpu_weight || config->cpu_shares || config->cpu_quota_us;
	ret[LIMITS_PIDS] = config->tasks_max.kind != AMOUNT_UNSET;
	ret[LIMITS_MEMORY] = false;
	for (size_t i = 0; i < ARRAY_LEN(memory); i++)
		ret[LIMITS_MEMORY] = ret[LIMITS_MEMORY] || memory[i]->kind != AMOUNT_UNSET;
}

void limits_unit_open(struct limits *limits, const char *name, const struct resource_config *config,
	bool kill_together, struct limits_unit *ret, int ret_fds[static LIMITS_CONTROLLERS],
	struct strings *ret_missing)
{
	struct setting setting = {
		.limits = limits, .name = name, .config = config, .unit = ret, .missing = ret_missing};
	bool need[LIMITS_CONTROLLERS];

	needed(config, need);
	for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
		ret_fds[i] = -1;
		if (!need[i])
			continue;
		if (!limits->controllers[i].looked)
			find_controller(limits, (enum limits_controller)i);
		if (!limits->controllers[i].base)
			continue;
		setting.dirs[i] = mem_printf("%s/%s", limits->controllers[i].base, name);
		ret->used[i] = true;
		if (limits->controllers[i].unified)
			continue;
		/* Another keeper may have taken an empty one for abandoned. */
		(void)mkdir(limits->controllers[i].base, 0755);
		if (mkdir(setting.dirs[i], 0755) == 0 || errno == EEXIST) {
			_cleanup_free_ char *procs = mem_printf("%s/cgroup.procs", setting.dirs[i]);

			ret_fds[i] = open(procs, O_WRONLY | O_CLOEXEC);
		}
	}
	if (need[LIMITS_MEMORY])
		set_memory(&setting, kill_together);
	if (need[LIMITS_CPU])
		set_cpu(&setting);
	if (need[LIMITS_PIDS])
		set_tasks(&setting);
	for (int i = 0; i < LIMITS_CONTROLLERS; i++)
		free(setting.dirs[i]);
}

void limits_unit_remove(const struct limits *limits, const char *name, struct limits_unit *unit)
{
	for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
		if (unit->used[i] && limits->controllers[i].base && !limits->controllers[i].unified) {
			_cleanup_free_ char *dir = mem_printf("%s/%s", limits->controllers[i].base, name);

			cgroup_remove_tree(dir);
		}
	}
	*unit = (struct limits_unit){0};
}

uint64_t limits_oom_kills(const struct limits *limits, const char *name, const struct limits_unit *unit)
{
	const char *base = limits->controllers[LIMITS_MEMORY].base;
	_cleanup_free_ char *path = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	struct slice rest;

	if (!unit->used[LIMITS_MEMORY] || !base)
		return 0;
	path = mem_printf("%s/%s/%s", base, name,
		limits->controllers[LIMITS_MEMORY].unified ? "memory.events" : "memory.oom_control");
	if (file_read(path, FILE_MAX, &text) < 0)
		return 0;
	rest = buf_slice(&text);
	while (rest.len) {
		struct slice line, key, value;
		uint64_t count;

		(void)text_cut(rest, '\n', &line, &rest);
		if (text_cut(line, ' ', &key, &value) && slice_is(key, "oom_kill") &&
			text_to_u64(value, &count) == 0)
			return count;
	}
	return 0;
}
