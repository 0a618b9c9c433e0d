/* Calls for many units at once: one of each kind is under way, and those who wait meanwhile are in the next.
 */
#include "base/memory.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <stdio.h>

#define BATCH_UNITS_MAX 256
#define BATCH_TIMEOUT_MS 90000 /* a reload waits for systemd's generators */

struct systemd_batch_call {
	struct systemd *systemd;
	enum systemd_batch kind;
	size_t count;
	struct systemd_unit *units[BATCH_UNITS_MAX];
};

void systemd_batch_join(struct systemd_unit *unit, enum systemd_batch kind)
{
	list_push_back(&unit->systemd->batches[kind], &unit->entry);
}

static int batch_ended(struct systemd_unit *unit, enum systemd_batch kind)
{
	switch (kind) {
	case BATCH_LIST:
		return systemd_listed(unit);
	case BATCH_LINK:
		systemd_next(unit, unit->install && unit->install->any ? STEP_ENABLE : STEP_INSPECT);
		return 0;
	case BATCH_ENABLE:
		systemd_next(unit, STEP_RELOAD);
		return 0;
	case BATCH_RELOAD:
		systemd_next(unit, STEP_INSPECT);
		unit->reloaded = true;
		return 0;
	default:
		systemd_next(unit, STEP_FORGET);
		return 0;
	}
}

static void batch_failed(struct systemd_unit *unit, enum systemd_batch kind, int error, const char *text,
	bool final, bool alone)
{
	if (!alone && kind != BATCH_RELOAD) {
		unit->alone = true;
		systemd_batch_join(unit, kind);
	} else if (kind == BATCH_LIST) {
		systemd_next(unit, unit->step == STEP_CHECK ? STEP_CHECK_ALL : STEP_INSPECT_ALL);
	} else if (kind == BATCH_DISABLE && (final || unit->load_error)) {
		systemd_next(unit, STEP_FORGET); /* there was no link, or it cannot be had away */
	} else {
		systemd_give_up(unit, error, text, final);
	}
}

/* What ListUnitsByNames says of the units of the call. Names that are another unit's by now are not listed.
 */
static int read_list(struct systemd *systemd, sd_bus_message *m, const struct systemd_batch_call *call)
{
	const struct sdbus_library *lib = systemd->bus->lib;
	const char *name, *load, *active, *sub;
	int r;

	for (size_t i = 0; i < call->count; i++)
		call->units[i]->listed = false;
	r = lib->sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "(ssssssouso)");
	while (r >= 0 && (r = lib->sd_bus_message_enter_container(m, SD_BUS_TYPE_STRUCT, "ssssssouso")) > 0) {
		struct systemd_unit *unit;

		r = lib->sd_bus_message_read(m, "sssss", &name, NULL, &load, &active, &sub);
		unit = r >= 0 ? map_get(&systemd->units, slice_str(name)) : NULL;
		if (unit) {
			unit->listed = true;
			(void)snprintf(unit->listed_load, sizeof(unit->listed_load), "%s", load);
			(void)snprintf(unit->listed_active, sizeof(unit->listed_active), "%s", active);
			(void)snprintf(unit->listed_sub, sizeof(unit->listed_sub), "%s", sub);
		}
		if (r >= 0)
			r = lib->sd_bus_message_skip(m, "souso");
		if (r >= 0)
			r = lib->sd_bus_message_exit_container(m);
	}
	return r;
}

static int on_batch(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_batch_call *call = userdata;
	struct systemd *systemd = call->systemd;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	bool final;
	int r;

	(void)unused;
	if (sdbus_is_lost(systemd->bus, m))
		return 0;
	final = sdbus_is_final(systemd->bus, m);
	r = sdbus_result(systemd->bus, m, &error);
	if (r >= 0 && call->kind == BATCH_LIST)
		r = read_list(systemd, m, call);
	systemd->batches_out[call->kind] = NULL;
	/* A callback may close the manager. */
	for (size_t i = 0; i < call->count && systemd->bus; i++) {
		if (r < 0)
			batch_failed(
				call->units[i], call->kind, r, buf_text(&error), final, call->count == 1);
		else if (batch_ended(call->units[i], call->kind) < 0)
			systemd_lost(systemd, "systemd cannot be asked");
	}
	free(call);
	return 0;
}

static void take_units(struct systemd *systemd, struct systemd_batch_call *call)
{
	struct list *waiting = &systemd->batches[call->kind];

	while (!list_empty(waiting) && call->count < BATCH_UNITS_MAX) {
		struct systemd_unit *unit = list_first(waiting, struct systemd_unit, entry);

		if (unit->alone && call->count)
			return;
		list_remove(&unit->entry);
		call->units[call->count++] = unit;
		if (unit->alone)
			return;
	}
}

static int add_units(struct systemd *systemd, sd_bus_message *m, const struct systemd_batch_call *call)
{
	const struct sdbus_library *lib = systemd->bus->lib;
	bool by_name = call->kind == BATCH_DISABLE || call->kind == BATCH_LIST;
	int r = lib->sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "s");

	for (size_t i = 0; i < call->count && r >= 0; i++) {
		const char *name = call->units[i]->name;
		_cleanup_free_ char *path = systemd_files_path(systemd, name);

		r = lib->sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, by_name ? name : path);
	}
	if (r >= 0)
		r = lib->sd_bus_message_close_container(m);
	/* Until the next boot only; over what an earlier life left. */
	if (r >= 0 && call->kind != BATCH_LIST)
		r = lib->sd_bus_message_append(m, call->kind == BATCH_DISABLE ? "b" : "bb", true, true);
	return r;
}

static int batch_send(struct systemd *systemd, enum systemd_batch kind)
{
	static const char *const methods[BATCH_MAX] = {
		"ListUnitsByNames", "LinkUnitFiles", "EnableUnitFiles", "Reload", "DisableUnitFiles"};
	struct systemd_batch_call *call = mem_new(struct systemd_batch_call);
	sd_bus_message *m = sdbus_call_new(systemd->bus, NULL, NULL, methods[kind]);
	int r = 0;

	call->systemd = systemd;
	call->kind = kind;
	systemd->batches_out[kind] = call;
	take_units(systemd, call);
	if (kind == BATCH_RELOAD)
		systemd->reload_wanted = false;
	else if (m)
		r = add_units(systemd, m, call);
	if (r < 0) {
		(void)systemd->bus->lib->sd_bus_message_unref(m);
		return r;
	}
	return sdbus_send(systemd->bus, m, BATCH_TIMEOUT_MS, on_batch, call);
}

void systemd_batches_forget(struct systemd *systemd)
{
	for (size_t i = 0; i < BATCH_MAX; i++)
		systemd->batches_out[i] = mem_free(systemd->batches_out[i]);
}

static bool batch_is_due(const struct systemd *systemd, enum systemd_batch kind)
{
	if (systemd->batches_out[kind])
		return false;
	return !list_empty(&systemd->batches[kind]) || (kind == BATCH_RELOAD && systemd->reload_wanted);
}

int systemd_batches_send(struct systemd *systemd)
{
	int r = 0;

	for (enum systemd_batch kind = 0; kind < BATCH_MAX && r >= 0; kind++)
		if (batch_is_due(systemd, kind))
			r = batch_send(systemd, kind);
	return r;
}
