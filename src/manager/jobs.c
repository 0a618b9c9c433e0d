/* Requests to start and stop, in the order that After= and Before= ask for. A unit has at most one job; a job
 * runs when nothing it is ordered behind has a job left. Starting pulls in what is required or wanted
 * (jobs_pull.c), stopping takes along what depends on the unit. Jobs only run from jobs_run(), at the end of
 * a turn, never inside a state change. */
#include "base/memory.h"
#include "manager/activation.h"
#include "manager/jobs_internal.h"
#include <errno.h>

#define JOBS_PER_TURN 16 /* so that clients hear of the first units while many are starting */

bool jobs_says(const struct service *service, enum dependency kind, const struct service *on)
{
	return strings_have(&service->config.dependencies[kind], on->name);
}

bool jobs_depends(const struct service *service, enum dependency kind, const struct service *on)
{
	return jobs_says(service, kind, on) || (kind == DEP_WANTS && jobs_says(on, DEP_WANTED_BY, service)) ||
	       (kind == DEP_REQUIRES && jobs_says(on, DEP_REQUIRED_BY, service));
}

/* A target is reached once what it pulls in is there (systemd.target(5), Default Dependencies). */
static bool completes(const struct service *other, const struct service *target)
{
	return unit_kind_is_target(target->kind) && target->config.default_dependencies &&
	       other->config.default_dependencies && !jobs_says(target, DEP_BEFORE, other) &&
	       !jobs_says(other, DEP_AFTER, target) &&
	       (jobs_depends(target, DEP_WANTS, other) || jobs_depends(target, DEP_REQUIRES, other));
}

/* True when `service` is ordered behind `other` (starts after it, stops before it). */
static bool is_after(const struct service *service, const struct service *other)
{
	return jobs_says(service, DEP_AFTER, other) || jobs_says(other, DEP_BEFORE, service) ||
	       completes(other, service);
}

static void job_clear(struct service *service)
{
	service->job = JOB_NONE;
	service->job_running = service->job_announced = service->job_manual = false;
	service->dirty = service->keeper->jobs_waiting = true;
	activation_changed(service);
}

void jobs_set(struct service *service, enum job_kind kind, bool manual)
{
	service->job = kind;
	service->job_running = service->job_announced = false;
	service->job_manual = manual;
	service->dirty = service->keeper->jobs_waiting = true;
}

static void say_title(struct service *service, const char *before, const char *after)
{
	_cleanup_buf_ struct buf title = BUF_INIT(0);

	service_title(service, &title);
	service_say(service, "%s %s%s", before, buf_text(&title), after);
}

/* Why a start does not begin, for who asked for it; NULL: there is nothing (more) to say. */
static void set_start_error(struct service *service, char *text)
{
	free(service->start_error);
	service->start_error = text;
	service->dirty = true;
}

static void forget_visits(struct keeper *keeper)
{
	list_for_each (it, &keeper->services)
		list_item(it, struct service, entry)->job_visited = false;
}

static int begin_start(struct service *service, struct buf *reterr)
{
	int r = jobs_pull(service, true, reterr);

	if (r < 0) {
		service->missing_dependency = true;
		set_start_error(service, mem_strdup(buf_text(reterr)));
		service_say(service, "Failed to start %s: %s", service->name, buf_text(reterr));
		keeper_retry_later(service->keeper);
	}
	return r;
}

int jobs_start(struct service *service, struct buf *reterr)
{
	if (service->state == STATE_DEAD || service->state == STATE_FAILED)
		service_apply_text(service);
	service->missing_dependency = false;
	set_start_error(service, NULL);
	if (service_is_active(service) && service->job == JOB_NONE)
		return jobs_pull(service, false, reterr);
	if (service->job == JOB_START)
		return 0;
	if (service->state >= STATE_CONDITION && service->state <= STATE_START_POST &&
		service->job == JOB_NONE)
		return 0; /* an automatic start is under way */
	return begin_start(service, reterr);
}

/* What depends on the unit is stopped also when the unit itself is down: its parts may run without it. */
static void stop_with_dependents(struct service *service)
{
	static const enum dependency kinds[] = {DEP_REQUIRES, DEP_REQUISITE, DEP_BINDS_TO, DEP_PART_OF};

	if (service->job == JOB_STOP || service->job_visited)
		return;
	if (!service_is_dead(service) || service->job != JOB_NONE) {
		service->missing_dependency = false;
		set_start_error(service, NULL);
	}
	if (!service_is_dead(service))
		jobs_set(service, JOB_STOP, true);
	else if (service->job != JOB_NONE)
		job_clear(service); /* a start that had not begun */
	service->job_visited = true;
	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
			if (other != service && jobs_depends(other, kinds[k], service))
				stop_with_dependents(other);
	}
}

void jobs_stop(struct service *service)
{
	service->missing_dependency = false;
	set_start_error(service, NULL);
	stop_with_dependents(service);
	forget_visits(service->keeper);
}

/* Restarts what depends on the unit and runs, as `systemctl restart` does. */
static void restart_dependents(struct service *service)
{
	static const enum dependency kinds[] = {DEP_REQUIRES, DEP_BINDS_TO, DEP_PART_OF};

	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
			if (other == service || !jobs_depends(other, kinds[k], service) ||
				!service_is_active(other) || other->job != JOB_NONE)
				continue;
			jobs_set(other, JOB_RESTART, true);
			restart_dependents(other);
		}
	}
}

int jobs_restart(struct service *service, struct buf *reterr)
{
	if ((service->state == STATE_DEAD || service->state == STATE_FAILED) && service->job != JOB_STOP) {
		int r = jobs_start(service, reterr);

		if (r == 0)
			restart_dependents(service);
		return r;
	}
	if (service->job != JOB_RESTART) {
		jobs_set(service, JOB_RESTART, true);
		restart_dependents(service);
	}
	return 0;
}

void jobs_auto_restart(struct service *service)
{
	if (service->job != JOB_NONE)
		return; /* a stop is on its way */
	say_title(service, "Stopped", ".");
	jobs_set(service, JOB_START, false);
	restart_dependents(service);
}

static void fail_dependents(struct service *service);

static void dependency_failed(struct service *service, const struct service *on)
{
	job_clear(service);
	say_title(service, "Dependency failed for", ".");
	service_say(
		service, "%s: Job %s/start failed with result 'dependency'.", service->name, service->name);
	set_start_error(service, mem_printf("Its dependency %s is not active.", on->name));
	fail_dependents(service);
}

/* The start of `service` failed: those that wait for it and require it cannot start. */
static void fail_dependents(struct service *service)
{
	static const enum dependency kinds[] = {DEP_REQUIRES, DEP_REQUISITE, DEP_BINDS_TO};

	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);
		bool required = false;

		if (other->job != JOB_START || other->job_running || other == service)
			continue;
		for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
			required = required || jobs_depends(other, kinds[k], service);
		if (required)
			dependency_failed(other, service);
	}
}

static void start_finished(struct service *service)
{
	bool oneshot = service->config.type == SERVICE_ONESHOT;

	job_clear(service);
	if (service->state == STATE_FAILED) {
		say_title(service, "Failed to start", ".");
		fail_dependents(service);
	} else if (service->result == RESULT_SKIP_CONDITION) {
		say_title(service, "Condition check resulted in", " being skipped.");
	} else {
		say_title(service, oneshot ? "Finished" : service->kind->started, ".");
	}
}

static void stop_finished(struct service *service)
{
	bool restart = service->job == JOB_RESTART;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	job_clear(service);
	say_title(service, service->kind->stopped, ".");
	if (restart)
		(void)begin_start(service, &error);
}

static bool has_ended(const struct service *service)
{
	return service->state == STATE_DEAD || service->state == STATE_FAILED;
}

static void finish(struct service *service)
{
	if (!service->job_running)
		return;
	if (service->job == JOB_START && (service_is_active(service) || has_ended(service)))
		start_finished(service);
	else if ((service->job == JOB_STOP || service->job == JOB_RESTART) && has_ended(service))
		stop_finished(service);
}

/* BindsTo=: who is bound to a unit that went away goes too. */
static void stop_bound(struct service *service)
{
	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		if (other == service || !jobs_depends(other, DEP_BINDS_TO, service))
			continue;
		if (!service_is_dead(other) && !service_is_stopping(other) && other->job != JOB_STOP &&
			other->job != JOB_RESTART)
			jobs_stop(other);
	}
}

void jobs_state_changed(struct service *service, enum service_state before)
{
	bool was_up = before >= STATE_CONDITION && before <= STATE_ELAPSED;

	service->keeper->jobs_waiting = true;
	if (was_up && (service_is_stopping(service) || has_ended(service)) && service->job != JOB_RESTART)
		stop_bound(service);
	finish(service);
}

/* Why a start may not begin now; NULL when it may. */
static struct service *start_blocker(struct service *service)
{
	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		if (other == service || other->job == JOB_NONE)
			continue;
		if (is_after(service, other))
			return other;
		/* What is ordered behind and stops, stops first. */
		if (is_after(other, service) && other->job != JOB_START)
			return other;
	}
	return NULL;
}

static struct service *stop_blocker(struct service *service)
{
	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		if (other != service && (other->job == JOB_STOP || other->job == JOB_RESTART) &&
			!has_ended(other) && is_after(other, service))
			return other;
	}
	return NULL;
}

/* Requirements that are ordered before must be up by now: the one that is not, or NULL. */
static const struct service *missing_requirement(struct service *service)
{
	const struct strings *bound = &service->config.dependencies[DEP_BINDS_TO];
	const struct strings *required = &service->config.dependencies[DEP_REQUIRES];

	for (size_t i = 0; i < bound->count; i++) {
		const struct service *other = keeper_find(service->keeper, bound->items[i]);

		if (other && is_after(service, other) && !service_is_active(other)) {
			service_say(service, "%s: Bound to unit %s, but unit isn't active.", service->name,
				other->name);
			return other;
		}
	}
	for (size_t i = 0; i < required->count; i++) {
		const struct service *other = keeper_find(service->keeper, required->items[i]);

		if (other && is_after(service, other) && other->state == STATE_FAILED)
			return other;
	}
	return NULL;
}

static void run_start(struct service *service)
{
	bool automatic = !service->job_manual;
	const struct service *missing;

	if (service_is_active(service) || (!automatic && service->state == STATE_AUTO_RESTART) ||
		(automatic && service->state != STATE_AUTO_RESTART)) {
		job_clear(service);
		return;
	}
	missing = missing_requirement(service);
	if (missing) {
		if (service->state == STATE_AUTO_RESTART)
			service_stop(service);
		dependency_failed(service, missing);
		return;
	}
	service->job_running = true;
	if (service_start(service, automatic) < 0) {
		if (service->job == JOB_START) {
			job_clear(service);
			say_title(service, "Failed to start", ".");
			fail_dependents(service);
		}
		return;
	}
	if (service->job == JOB_START && service->job_running && !has_ended(service) &&
		!service_is_active(service)) {
		say_title(service, "Starting", "...");
		service->job_announced = true;
	}
	finish(service);
}

static void run_stop(struct service *service)
{
	service->job_running = true;
	if (has_ended(service) && !service->will_restart) {
		finish(service);
		return;
	}
	if (service->state != STATE_AUTO_RESTART && !service->kind->stop)
		say_title(service, "Stopping", "...");
	service_stop(service);
	finish(service);
}

/* One step; true when a job was run. With `force` ordering is not looked at: a circle is broken that way. */
static bool run_one(struct service *service, bool force)
{
	if (service->job == JOB_NONE || service->job_running)
		return false;
	if (service->job == JOB_START) {
		if (service_is_stopping(service) || (!force && start_blocker(service)))
			return false;
		if (service->state >= STATE_CONDITION && service->state <= STATE_START_POST) {
			service->job_running = true; /* it is starting already: its end is ours */
			return true;
		}
		run_start(service);
		return true;
	}
	if (!force && stop_blocker(service))
		return false;
	run_stop(service);
	return true;
}

static bool any_in_progress(struct keeper *keeper)
{
	list_for_each (it, &keeper->services) {
		const struct service *service = list_item(it, struct service, entry);

		if (service->job_running || (service->job != JOB_NONE && service_is_stopping(service)))
			return true;
	}
	return false;
}

static bool run_pass(struct keeper *keeper, bool force, int *budget)
{
	bool progress = false;

	list_for_each (it, &keeper->services) {
		struct service *service = list_item(it, struct service, entry);

		if (*budget <= 0)
			return progress;
		if (!run_one(service, force))
			continue;
		(*budget)--;
		if (force) {
			service_say(service, "%s: Found ordering cycle, the order of this unit is ignored.",
				service->name);
			return true;
		}
		progress = true;
	}
	return progress;
}

void jobs_run(struct keeper *keeper)
{
	int budget = JOBS_PER_TURN;

	keeper->jobs_left = false;
	while (keeper->jobs_waiting && budget > 0) {
		keeper->jobs_waiting = false;
		while (run_pass(keeper, false, &budget) && budget > 0)
			;
		/* Jobs that wait while nothing is under way wait for each other. */
		if (budget > 0 && !any_in_progress(keeper))
			(void)run_pass(keeper, true, &budget);
	}
	if (budget <= 0)
		keeper->jobs_waiting = keeper->jobs_left = true;
}

void jobs_retry_missing(struct keeper *keeper)
{
	bool again = false;

	list_for_each (it, &keeper->services) {
		struct service *service = list_item(it, struct service, entry);
		_cleanup_buf_ struct buf error = BUF_INIT(0);

		if (!service->missing_dependency || !service->wanted)
			continue;
		if (jobs_pull(service, true, &error) < 0) {
			again = true;
		} else {
			service->missing_dependency = false;
			set_start_error(service, NULL);
		}
	}
	if (again)
		keeper_retry_later(keeper);
}

void jobs_unit_loaded(struct service *service)
{
	jobs_retry_missing(service->keeper);
}
