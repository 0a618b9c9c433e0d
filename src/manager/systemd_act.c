/* Starting, stopping and unloading, once it is sure whose unit stands behind the name. */
#include "base/memory.h"
#include "base/text.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <string.h>

#define ERROR(name) "org.freedesktop.systemd1." name

/* ---- start, stop, restart ---- */

static void unloaded(struct systemd_unit *unit);

static void act_on_refused(struct systemd_unit *unit)
{
	enum systemd_verb verb = systemd_request_of(unit)->verb;

	if (verb == VERB_UNLOAD) {
		/* A load anew that failed may have left them. */
		if (systemd_files_has(unit->systemd, unit->name))
			systemd_next(unit, STEP_DISABLE);
		else
			unloaded(unit);
		return;
	}
	unit->wanted = verb != VERB_STOP;
	systemd_unit_changed(unit);
	systemd_finish(unit, 0, "");
}

static int on_refused_checked(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	_cleanup_buf_ struct buf ignored = BUF_INIT(4096);
	struct systemd_properties properties;

	(void)unused;
	if (sdbus_is_lost(unit->systemd->bus, m))
		return 0;
	if (systemd_read_properties(unit->systemd->bus, m, &properties, &ignored) >= 0 &&
		systemd_is_free_now(unit, &properties)) {
		systemd_request_of(unit)->checked = true;
		systemd_load_refused(unit);
	} else {
		act_on_refused(unit);
	}
	return 0;
}

/* Its name may be free by now. */
static int guard_refused(struct systemd_unit *unit)
{
	struct systemd_request *request = systemd_request_of(unit);

	if (request->verb == VERB_UNLOAD || request->checked || !unit->taken || !unit->text) {
		act_on_refused(unit);
		return 0;
	}
	return systemd_ask(unit->systemd, unit->taken, on_refused_checked, unit);
}

/* Another file stands behind the name since: the host's, which is none of our business. */
static void act_on_hidden(struct systemd_unit *unit, const struct systemd_properties *properties)
{
	enum systemd_verb verb = systemd_request_of(unit)->verb;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);

	if (verb == VERB_UNLOAD) {
		/* To disable the name would undo what its new owner has enabled. */
		systemd_files_remove_links(unit);
		systemd_next(unit, STEP_FORGET);
		return;
	}
	systemd_add_taken(&error, unit->name, properties);
	buf_add_str(&error, " now, which hides fleet's");
	systemd_set_start_error(unit, verb == VERB_STOP ? NULL : buf_text(&error));
	systemd_files_want(unit, verb != VERB_STOP);
	systemd_finish(unit, 0, "");
}

/* Somebody may have removed the link, or the file. */
static void act_on_ours(struct systemd_unit *unit, const struct systemd_properties *properties)
{
	bool found = strcmp(properties->load, "not-found") != 0;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r = systemd_files_restore(unit, &error);

	/* What systemd has in memory it starts without a file. */
	if (r < 0 && !found)
		systemd_finish(unit, r, buf_text(&error));
	else
		systemd_next(unit, found ? STEP_ACT : STEP_LINK);
}

static int on_guarded(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	enum systemd_verb verb = systemd_request_of(unit)->verb;
	struct systemd_properties properties;

	(void)unused;
	if (!systemd_step_properties(unit, m, &properties))
		return 0;
	systemd_take_properties(unit, &properties);
	if (!unit->ours)
		act_on_hidden(unit, &properties);
	else if (verb == VERB_UNLOAD)
		systemd_next(unit, STEP_STOP);
	else if (verb == VERB_STOP)
		systemd_next(unit, STEP_ACT);
	else
		act_on_ours(unit, &properties);
	return 0;
}

int systemd_guard(struct systemd_unit *unit)
{
	enum systemd_verb verb = systemd_request_of(unit)->verb;
	_cleanup_free_ char *text = NULL;

	if (!unit->known && verb == VERB_UNLOAD) {
		systemd_finish(unit, 0, "");
	} else if (!unit->known) {
		text = mem_printf("Unit %s not loaded.", unit->name);
		systemd_finish(unit, -ENOENT, text);
	} else if (unit->refused) {
		return guard_refused(unit);
	} else if (uv_now(unit->systemd->config.loop) < unit->fresh_until_ms) {
		unit->fresh_until_ms = 0;
		systemd_next(unit, verb == VERB_UNLOAD ? STEP_STOP : STEP_ACT);
	} else {
		return systemd_ask(unit->systemd, unit->name, on_guarded, unit);
	}
	return 0;
}

/* The job's number is the last part of its path. */
static void note_job(struct systemd_unit *unit, sd_bus_message *m, const char *kind)
{
	const char *path, *slash;
	uint64_t id = 0;

	unit->job_id = 0;
	if (unit->systemd->bus->lib->sd_bus_message_read(m, "o", &path) < 0)
		return;
	slash = strrchr(path, '/');
	if (!slash || text_to_u64(slice_str(slash + 1), &id) < 0 || id > UINT32_MAX)
		return;
	unit->job_id = (uint32_t)id;
	unit->job = kind;
	systemd_unit_changed(unit);
}

static const char *const job_names[VERB_MAX] = {[VERB_LOAD] = "",
	[VERB_UNLOAD] = "stop",
	[VERB_START] = "start",
	[VERB_STOP] = "stop",
	[VERB_RESTART] = "restart"};

/* What it needs is not there: tried again when something comes. */
static bool lacks_something(struct sdbus *bus, sd_bus_message *m)
{
	return sdbus_is_error(bus, m, ERROR("NoSuchUnit")) || sdbus_is_error(bus, m, ERROR("LoadFailed"));
}

static int on_acted(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	struct sdbus *bus = unit->systemd->bus;
	enum systemd_verb verb = systemd_request_of(unit)->verb;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	int r;

	(void)unused;
	if (sdbus_is_lost(bus, m))
		return 0;
	r = sdbus_result(bus, m, &error);
	if (r < 0 && (!sdbus_is_final(bus, m) ||
			     (verb == VERB_STOP && !sdbus_is_error(bus, m, ERROR("NoSuchUnit"))))) {
		systemd_finish(unit, r, buf_text(&error));
		return 0;
	}
	systemd_set_start_error(unit, r < 0 && verb != VERB_STOP ? buf_text(&error) : NULL);
	if (r < 0)
		unit->lacks_something = verb != VERB_STOP && lacks_something(bus, m);
	else
		note_job(unit, m, job_names[verb]);
	systemd_files_want(unit, verb != VERB_STOP);
	systemd_finish(unit, 0, "");
	return 0;
}

static int call_unit(struct systemd_unit *unit, const char *method, bool mode, sd_bus_message_handler_t done)
{
	struct sdbus *bus = unit->systemd->bus;
	sd_bus_message *call = sdbus_call_new(bus, NULL, NULL, method);

	if (call)
		(void)bus->lib->sd_bus_message_append(call, "s", unit->name);
	if (call && mode)
		(void)bus->lib->sd_bus_message_append(call, "s", "replace");
	return sdbus_send(bus, call, 0, done, unit);
}

static int send_job(struct systemd_unit *unit)
{
	static const char *const methods[VERB_MAX] = {
		[VERB_START] = "StartUnit", [VERB_STOP] = "StopUnit", [VERB_RESTART] = "RestartUnit"};

	return call_unit(unit, methods[systemd_request_of(unit)->verb], true, on_acted);
}

static int on_reset_before(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;

	(void)unused;
	if (!sdbus_is_lost(unit->systemd->bus, m) && send_job(unit) < 0)
		systemd_lost(unit->systemd, "systemd cannot be asked");
	return 0;
}

int systemd_act_now(struct systemd_unit *unit)
{
	bool starts = systemd_request_of(unit)->verb != VERB_STOP;

	/* A start that is refused leaves a unit failed that was so before, and counts for the limit of
	 * starts, which no restart of such a unit can run into otherwise. */
	if (starts && systemd_is_trigger(unit->name) && systemd_is_down(unit->active) &&
		(unit->waits_for || strcmp(unit->active, "failed") == 0))
		return call_unit(unit, "ResetFailedUnit", false, on_reset_before);
	return send_job(unit);
}

/* ---- unload ---- */

static int on_stop_called(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	struct sdbus *bus = unit->systemd->bus;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	int r;

	(void)unused;
	if (sdbus_is_lost(bus, m))
		return 0;
	r = sdbus_result(bus, m, &error);
	if (r >= 0) {
		note_job(unit, m, job_names[VERB_UNLOAD]);
		unit->waits_for_job = unit->job_id != 0; /* systemd_job_ended() goes on */
		if (!unit->job_id)
			systemd_finish(unit, -EBADMSG, "systemd's answer to a stop names no job");
	} else if (sdbus_is_error(bus, m, ERROR("NoSuchUnit")) ||
		   (sdbus_is_final(bus, m) &&
			   (strcmp(unit->active, "inactive") == 0 || strcmp(unit->active, "failed") == 0))) {
		systemd_next(unit, STEP_DISABLE); /* it is down, and will not be had to stop */
	} else {
		systemd_finish(unit, r, buf_text(&error));
	}
	return 0;
}

int systemd_stop_unit(struct systemd_unit *unit)
{
	return call_unit(unit, "StopUnit", true, on_stop_called);
}

static void unloaded(struct systemd_unit *unit)
{
	struct systemd *systemd = unit->systemd;

	systemd_files_remove(unit);
	systemd_unit_keep_text(unit, NULL, 0);
	unit->taken = mem_free(unit->taken);
	unit->known = unit->refused = unit->ours = false;
	unit->hash[0] = unit->load[0] = unit->active[0] = unit->sub[0] = unit->result[0] = '\0';
	unit->main_pid = unit->exec_main_status = 0;
	unit->restarts = 0;
	unit->wanted = unit->marked = false;
	unit->job_id = 0;
	unit->job = "";
	systemd_set_start_error(unit, NULL);
	if (systemd->config.events.unloaded)
		systemd->config.events.unloaded(systemd->config.userdata, unit->name);
	if (!systemd->closing)
		systemd_finish(unit, 0, "");
}

static int on_reset(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;

	(void)unused;
	/* That it is not known any more is the rule. */
	if (!sdbus_is_lost(unit->systemd->bus, m))
		unloaded(unit);
	return 0;
}

/* A load that failed in between: nothing is left of it. */
static void undone(struct systemd_unit *unit)
{
	int error = unit->load_error;
	_cleanup_free_ char *text = take_ptr(unit->load_error_text);

	unit->load_error = 0;
	systemd_finish(unit, error, text ? text : "");
}

/* With [Install] other units have it among theirs until systemd reads its files again. */
int systemd_forget(struct systemd_unit *unit)
{
	struct systemd_install *install = systemd_install_of_unit(unit);

	unit->systemd->reload_wanted |= install->any;
	systemd_install_free(install);
	systemd_files_remove(unit);
	if (systemd_request_of(unit)->verb == VERB_LOAD)
		undone(unit); /* without an error: it is refused, and shown as such */
	else if (!unit->refused && unit->ours)
		return call_unit(unit, "ResetFailedUnit", false, on_reset);
	else
		unloaded(unit);
	return 0;
}
