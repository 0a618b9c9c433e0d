/* The manager's systemd implementation: the object, its connection, and what the interface asks of it at
 * once. What takes time is in systemd_work.c, what systemd tells by itself in systemd_watch.c. */
#include "base/memory.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define RETRY_MIN_MS 20
#define RETRY_MAX_MS 1000
#define UNITS_DIR_DEFAULT "/run/fleet/units"

static void connect_now(struct systemd *systemd);

/* ---- units ---- */

struct systemd_unit *systemd_unit_get(struct systemd *systemd, const char *name)
{
	struct systemd_unit *unit = map_get(&systemd->units, slice_str(name));

	if (unit)
		return unit;
	unit = mem_new(struct systemd_unit);
	unit->systemd = systemd;
	unit->name = mem_strdup(name);
	unit->job = "";
	list_init(&unit->requests);
	list_init(&unit->entry);
	list_init(&unit->changed);
	unit->path = systemd_object_path(name);
	(void)map_put(&systemd->paths, slice_str(unit->path), unit);
	(void)map_put(&systemd->units, slice_str(unit->name), unit);
	return unit;
}

static void unit_free(struct systemd_unit *unit)
{
	list_remove(&unit->entry);
	list_remove(&unit->changed);
	systemd_install_free(unit->install);
	free(unit->start_error);
	free(unit->load_error_text);
	free(unit->text);
	free(unit->taken);
	free(unit->waits_for);
	free(unit->path);
	free(unit->name);
	free(unit);
}

void systemd_unit_gone(struct systemd_unit *unit)
{
	struct systemd *systemd = unit->systemd;

	(void)map_remove(&systemd->units, slice_str(unit->name));
	(void)map_remove(&systemd->paths, slice_str(unit->path));
	unit_free(unit);
}

void systemd_unit_keep_text(struct systemd_unit *unit, char *text, size_t len)
{
	free(unit->text);
	unit->text = text;
	unit->text_len = len;
}

static void fill_state(const struct systemd_unit *unit, struct manager_unit_state *ret)
{
	/* A failure of before is none of the start that is under way. */
	bool starting = strcmp(unit->active, "failed") == 0 && unit->job[0] && strcmp(unit->job, "stop") != 0;

	*ret = (struct manager_unit_state){
		.name = unit->name,
		.hash = unit->hash,
		.load = unit->load,
		.active = starting ? "inactive" : unit->active,
		.sub = starting ? "dead" : unit->sub,
		.result = unit->result[0] ? unit->result : "success",
		.main_pid = unit->main_pid,
		.exec_main_status = unit->exec_main_status,
		.restarts = unit->restarts,
		.wanted = unit->wanted,
		.job = unit->job,
		.start_error = unit->start_error ? unit->start_error : "",
	};
}

void systemd_unit_changed(struct systemd_unit *unit)
{
	list_remove(&unit->changed);
	list_push_back(&unit->systemd->changed, &unit->changed);
}

/* Units whose state has changed, told once a turn however often it changed in it. */
static void tell_changes(struct systemd *systemd)
{
	while (!list_empty(&systemd->changed)) {
		struct systemd_unit *unit = list_first(&systemd->changed, struct systemd_unit, changed);
		struct manager_unit_state state;

		list_remove(&unit->changed);
		if (!unit->known || !systemd->config.events.state_changed)
			continue;
		fill_state(unit, &state);
		systemd->config.events.state_changed(systemd->config.userdata, &state);
	}
}

/* ---- the interface ---- */

static struct systemd *of(const struct manager *manager)
{
	return container_of((struct manager *)(uintptr_t)manager, struct systemd, manager);
}

static const struct systemd_unit *known_unit(const struct systemd *systemd, const char *name)
{
	const struct systemd_unit *unit = map_get(&systemd->units, slice_str(name));

	return unit && unit->known ? unit : NULL;
}

static bool systemd_is_ready(const struct manager *manager)
{
	return of(manager)->ready;
}

static bool systemd_state(const struct manager *manager, const char *name, struct manager_unit_state *ret)
{
	const struct systemd_unit *unit = known_unit(of(manager), name);

	if (unit)
		fill_state(unit, ret);
	return unit != NULL;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp((*(const struct systemd_unit *const *)a)->name,
		(*(const struct systemd_unit *const *)b)->name);
}

static size_t systemd_count(const struct manager *manager)
{
	const struct systemd *systemd = of(manager);
	size_t position = 0, count = 0;
	void *value;

	while (map_next(&systemd->units, &position, NULL, &value))
		count += ((const struct systemd_unit *)value)->known;
	return count;
}

static void systemd_list(const struct manager *manager,
	void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata)
{
	const struct systemd *systemd = of(manager);
	_cleanup_free_ const struct systemd_unit **sorted =
		mem_calloc(systemd->units.count + 1, sizeof(*sorted));
	size_t position = 0, count = 0;
	void *value;

	while (map_next(&systemd->units, &position, NULL, &value))
		if (((const struct systemd_unit *)value)->known)
			sorted[count++] = value;
	qsort(sorted, count, sizeof(*sorted), compare_names);
	for (size_t i = 0; i < count; i++) {
		struct manager_unit_state state;

		fill_state(sorted[i], &state);
		each(userdata, &state);
	}
}

static void systemd_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata)
{
	systemd_request_add(systemd_unit_get(of(manager), name), VERB_LOAD, text, hash, done, userdata);
}

static void systemd_act(
	struct manager *manager, const char *verb, const char *name, manager_done_fn done, void *userdata)
{
	static const char *const verbs[VERB_MAX] = {"load", "unload", "start", "stop", "restart"};

	for (enum systemd_verb i = 0; i < VERB_MAX; i++)
		if (strcmp(verbs[i], verb) == 0)
			systemd_request_add(systemd_unit_get(of(manager), name), i, (struct slice){0}, "",
				done, userdata);
}

/* ---- the connection ---- */

static void retry_fired(uv_timer_t *timer)
{
	connect_now(timer->data);
}

static void retry_later(struct systemd *systemd)
{
	(void)uv_timer_start(&systemd->retry, retry_fired, systemd->retry_ms, 0);
	systemd->retry_ms = MIN(systemd->retry_ms * 2, (uint64_t)RETRY_MAX_MS);
}

void systemd_lost(struct systemd *systemd, const char *why)
{
	struct sdbus *bus = take_ptr(systemd->bus);

	if (bus)
		sdbus_close(bus, NULL, NULL);
	systemd->ready = false;
	systemd->sender[0] = '\0';
	systemd_watch_end(systemd);
	systemd_batches_forget(systemd);
	retry_later(systemd);
	/* Once: it is tried again and again. */
	if (!systemd->told_lost && systemd->config.events.lost)
		systemd->config.events.lost(systemd->config.userdata, why);
	systemd->told_lost = true;
}

static void on_lost(void *userdata, const char *why)
{
	systemd_lost(userdata, why);
}

static bool on_turn(void *userdata)
{
	struct systemd *systemd = userdata;

	systemd_work(systemd);
	tell_changes(systemd);
	/* What was told may have led to new requests. */
	return systemd->ready && (!list_empty(&systemd->steps) || !list_empty(&systemd->changed));
}

void systemd_ready(struct systemd *systemd)
{
	systemd->ready = true;
	systemd->told_lost = false;
	systemd->retry_ms = RETRY_MIN_MS;
	systemd_work_again(systemd);
	tell_changes(systemd);
	if (!systemd->closing && systemd->config.events.ready)
		systemd->config.events.ready(systemd->config.userdata);
}

static void connect_now(struct systemd *systemd)
{
	struct sdbus_config config = {
		.loop = systemd->config.loop,
		.user = systemd->config.user,
		.lost = on_lost,
		.turn = on_turn,
		.userdata = systemd,
	};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r = sdbus_open(&config, &systemd->bus, &error);

	if (r >= 0)
		r = systemd_watch_begin(systemd);
	if (r < 0)
		systemd_lost(systemd, error.len ? buf_text(&error) : strerror(-r));
}

/* ---- life ---- */

static void free_units(struct systemd *systemd)
{
	size_t position = 0;
	void *value;

	while (map_next(&systemd->units, &position, NULL, &value))
		unit_free(value);
	map_done(&systemd->units);
	map_done(&systemd->paths);
	free(systemd->units_dir);
}

static void retry_closed(uv_handle_t *handle)
{
	struct systemd *systemd = handle->data;

	if (systemd->closed)
		systemd->closed(systemd->closed_userdata);
	free(systemd);
}

static void bus_closed(void *userdata)
{
	struct systemd *systemd = userdata;

	uv_close((uv_handle_t *)&systemd->retry, retry_closed);
}

static void systemd_close(struct manager *manager, void (*closed)(void *userdata), void *userdata)
{
	struct systemd *systemd = of(manager);
	struct sdbus *bus = take_ptr(systemd->bus);
	size_t position = 0;
	void *value;

	systemd->ready = false;
	systemd->closing = true;
	systemd->closed = closed;
	systemd->closed_userdata = userdata;
	systemd_watch_end(systemd);
	systemd_batches_forget(systemd);
	systemd_streams_close(systemd);
	while (map_next(&systemd->units, &position, NULL, &value))
		systemd_requests_cancel(value);
	free_units(systemd); /* whoever goes over a list of them in an outer call finds it empty */
	if (bus)
		sdbus_close(bus, bus_closed, systemd);
	else
		bus_closed(systemd);
}

static const struct manager_operations systemd_operations = {
	.close = systemd_close,
	.is_ready = systemd_is_ready,
	.load = systemd_load,
	.act = systemd_act,
	.state = systemd_state,
	.count = systemd_count,
	.list = systemd_list,
	.status = systemd_status,
	.journal = systemd_journal,
	.cancel = systemd_stream_cancel,
};

bool systemd_is_there(bool user)
{
	const char *runtime = user ? getenv("XDG_RUNTIME_DIR") : "/run";
	_cleanup_free_ char *path =
		mem_printf("%s/systemd/%s", runtime ? runtime : "", user ? "private" : "system");
	struct stat status;

	/* sd_booted(3): this directory is there if and only if systemd is the init system. */
	return runtime && lstat(path, &status) == 0 && (user || S_ISDIR(status.st_mode));
}

static char *units_dir_of(const struct manager_config *config)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (config->units_dir && config->units_dir[0])
		return mem_strdup(config->units_dir);
	if (config->user && runtime)
		return mem_printf("%s/fleet/units", runtime);
	return mem_strdup(UNITS_DIR_DEFAULT);
}

static int open_units(struct systemd *systemd, struct buf *reterr)
{
	bool user = systemd->config.user;
	int r;

	if (systemd->units_dir[0] != '/') {
		buf_printf(reterr, "units_directory must be an absolute path: %s", systemd->units_dir);
		return -EINVAL;
	}
	if (!systemd_is_there(user)) {
		buf_printf(reterr, "%s is not running here: use the supervisor (unit_manager=supervisor)",
			user ? "this user's systemd" : "systemd");
		return -EHOSTDOWN;
	}
	r = systemd_files_open(systemd, reterr);
	if (r < 0)
		return r;
	r = systemd_files_scan(systemd);
	if (r < 0)
		buf_printf(reterr, "cannot read %s: %s", systemd->units_dir, strerror(-r));
	return r;
}

int systemd_new(const struct manager_config *config, struct manager **ret, struct buf *reterr)
{
	struct systemd *systemd = mem_new(struct systemd);
	int r;

	systemd->manager.operations = &systemd_operations;
	systemd->config = *config;
	systemd->retry_ms = RETRY_MIN_MS;
	map_init(&systemd->units, 0);
	map_init(&systemd->paths, 0);
	list_init(&systemd->steps);
	list_init(&systemd->streams);
	list_init(&systemd->looks);
	list_init(&systemd->changed);
	for (size_t i = 0; i < BATCH_MAX; i++)
		list_init(&systemd->batches[i]);
	systemd->units_dir = units_dir_of(config);
	for (size_t len = strlen(systemd->units_dir); len > 1 && systemd->units_dir[len - 1] == '/'; len--)
		systemd->units_dir[len - 1] = '\0';
	r = open_units(systemd, reterr);
	if (r < 0) {
		free_units(systemd);
		free(systemd);
		return r;
	}
	(void)uv_timer_init(config->loop, &systemd->retry);
	systemd->retry.data = systemd;
	(void)uv_timer_start(&systemd->retry, retry_fired, 0, 0);
	*ret = &systemd->manager;
	return 0;
}
