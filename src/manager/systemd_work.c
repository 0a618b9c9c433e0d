/* The requests of units, in steps (systemd_internal.h lists them). A step ends by systemd_next(), which goes
 * on in this or the next turn, or by systemd_finish(). What a lost connection leaves is begun anew with the
 * next one: every step may be done twice. */
#include "base/memory.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <stdio.h>

struct systemd_request *systemd_request_of(const struct systemd_unit *unit)
{
	return list_first(&unit->requests, struct systemd_request, entry);
}

static void request_free(struct systemd_request *request)
{
	list_remove(&request->entry);
	free(request->text);
	free(request);
}

void systemd_next(struct systemd_unit *unit, enum systemd_step step)
{
	unit->step = step;
	unit->alone = unit->waits_for_job = false;
	list_remove(&unit->entry);
	list_push_back(&unit->systemd->steps, &unit->entry);
}

static void begin(struct systemd_unit *unit)
{
	unit->reloaded = unit->stale = false;
	unit->load_error = 0;
	unit->load_error_text = mem_free(unit->load_error_text);
	unit->stops_tried = 0;
	if (systemd_request_of(unit)->verb != VERB_LOAD)
		systemd_next(unit, STEP_GUARD);
	else
		systemd_next(unit, STEP_CHECK);
}

static struct systemd_request *request_new(enum systemd_verb verb, struct slice text, const char *hash)
{
	struct systemd_request *request = mem_new(struct systemd_request);

	list_init(&request->entry);
	request->verb = verb;
	request->text = text.data ? mem_strndup(text.data, text.len) : NULL;
	request->text_len = text.len;
	(void)snprintf(request->hash, sizeof(request->hash), "%s", hash);
	return request;
}

void systemd_request_add(struct systemd_unit *unit, enum systemd_verb verb, struct slice text,
	const char *hash, manager_done_fn done, void *userdata)
{
	struct systemd_request *request = request_new(verb, text, hash);
	bool first = list_empty(&unit->requests);

	request->done = done;
	request->userdata = userdata;
	list_push_back(&unit->requests, &request->entry);
	if (first)
		begin(unit);
}

void systemd_load_refused(struct systemd_unit *unit)
{
	struct slice text = slice_make(unit->text, unit->text_len);

	list_push_front(&unit->requests, &request_new(VERB_LOAD, text, unit->hash)->entry);
	begin(unit);
}

void systemd_requests_cancel(struct systemd_unit *unit)
{
	while (!list_empty(&unit->requests)) {
		struct systemd_request *request = systemd_request_of(unit);
		manager_done_fn done = request->done;
		void *userdata = request->userdata;

		request_free(request);
		if (done)
			done(userdata, -ECANCELED, "the manager is closed");
	}
}

/* The first request has ended. The unit may be gone afterwards. */
void systemd_finish(struct systemd_unit *unit, int result, const char *message)
{
	struct systemd_request *request = systemd_request_of(unit);
	manager_done_fn done = request->done;
	void *userdata = request->userdata;
	_cleanup_free_ char *text = mem_strdup(message);

	/* Of a refused unit that was loaded anew nobody else hears. */
	if (result < 0 && !done && unit->refused)
		systemd_set_start_error(unit, text);
	list_remove(&unit->entry);
	unit->install = systemd_install_free(unit->install);
	request_free(request);
	if (!list_empty(&unit->requests))
		begin(unit);
	else if (!unit->known)
		systemd_unit_gone(unit);
	if (done)
		done(userdata, result, text);
}

void systemd_set_start_error(struct systemd_unit *unit, const char *text)
{
	free(unit->start_error);
	unit->start_error = text ? mem_strdup(text) : NULL;
	unit->waits_for = mem_free(unit->waits_for);
	unit->lacks_something = unit->again_now = false;
	systemd_unit_changed(unit);
}

/* ---- the turn ---- */

static int do_step(struct systemd_unit *unit)
{
	static const enum systemd_batch batches[STEP_MAX] = {[STEP_INSPECT] = BATCH_LIST,
		[STEP_LINK] = BATCH_LINK,
		[STEP_ENABLE] = BATCH_ENABLE,
		[STEP_RELOAD] = BATCH_RELOAD,
		[STEP_DISABLE] = BATCH_DISABLE};

	switch (unit->step) {
	case STEP_CHECK:
		if (systemd_check_name(unit))
			systemd_batch_join(unit, BATCH_LIST);
		return 0;
	case STEP_CHECK_ALL:
		return systemd_check_all(unit);
	case STEP_ALIASES:
		return systemd_check_aliases(unit);
	case STEP_INSPECT_ALL:
		return systemd_inspect_all(unit);
	case STEP_GUARD:
		return systemd_guard(unit);
	case STEP_ACT:
		return systemd_act_now(unit);
	case STEP_STOP:
		return systemd_stop_unit(unit);
	case STEP_FORGET:
		return systemd_forget(unit);
	default:
		systemd_batch_join(unit, batches[unit->step]);
		return 0;
	}
}

/* Units whose start lacked that one (name NULL: any) are started again in this turn. */
static void mark_waiting(struct systemd *systemd, const char *name, bool loaded)
{
	size_t position = 0;
	void *value;

	while (map_next(&systemd->units, &position, NULL, &value)) {
		struct systemd_unit *unit = value;

		if (!(loaded && unit->lacks_something) &&
			!(unit->waits_for && (!name || strcmp(unit->waits_for, name) == 0)))
			continue;
		unit->again_now = systemd->again_due = true;
		unit->tried_again = false;
	}
}

void systemd_loaded_now(struct systemd *systemd, const char *name)
{
	mark_waiting(systemd, name, true);
}

void systemd_ended_now(struct systemd *systemd, const char *name)
{
	mark_waiting(systemd, name, false);
}

bool systemd_is_down(const char *active)
{
	return !active[0] || strcmp(active, "inactive") == 0 || strcmp(active, "failed") == 0;
}

/* What is about to do something else of its own is left to that. */
static void start_again(struct systemd *systemd)
{
	size_t position = 0;
	void *value;

	systemd->again_due = false;
	while (map_next(&systemd->units, &position, NULL, &value)) {
		struct systemd_unit *unit = value;
		bool now = unit->again_now && unit->wanted && list_empty(&unit->requests);

		unit->again_now = false;
		if (now)
			systemd_request_add(unit, VERB_START, (struct slice){0}, "", NULL, NULL);
	}
}

void systemd_work(struct systemd *systemd)
{
	int r = 0;

	if (!systemd->ready)
		return;
	if (systemd->again_due)
		start_again(systemd);
	while (r >= 0 && systemd->bus && !list_empty(&systemd->steps)) {
		struct systemd_unit *unit = list_first(&systemd->steps, struct systemd_unit, entry);

		list_remove(&unit->entry);
		r = do_step(unit);
	}
	if (r >= 0 && systemd->bus)
		r = systemd_batches_send(systemd);
	if (r < 0 && systemd->bus)
		systemd_lost(systemd, strerror(-r));
}

void systemd_work_again(struct systemd *systemd)
{
	size_t position = 0;
	void *value;

	while (map_next(&systemd->units, &position, NULL, &value)) {
		struct systemd_unit *unit = value;

		unit->job_id = 0;
		unit->fresh_until_ms = 0;
		unit->job = "";
		if (!list_empty(&unit->requests))
			begin(unit);
	}
}
