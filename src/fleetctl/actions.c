/* submit, load, start, stop, unload, destroy, restart. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleetctl/fleetctl.h"

static const char *desired_of(const struct target_unit *item)
{
	return ctl_text(item->unit, "desiredState");
}

static int fail(const char *what, const struct buf *error)
{
	fprintf(stderr, "%s%s\n", what, buf_text(error));
	return 1;
}

/* The units of a list that a predicate picks, as borrowed records. */
static struct target_units pick(const struct target_units *units, const bool *picked)
{
	struct target_units some = {.items = mem_new_array(struct target_unit, units->count + 1)};

	for (size_t i = 0; i < units->count; i++)
		if (picked[i])
			some.items[some.count++] = units->items[i];
	return some;
}

static void print_triggered(const struct target_unit *item, const char *verb)
{
	printf("Triggered %s %s %s\n", item->global ? "global unit" : "unit", item->name, verb);
}

/* Creates what is missing, and says so. */
static int create_units(struct fleetctl *ctl, int count, char **words, const char *state, const char *verb,
	struct target_units *units)
{
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024);
	int r;

	if (!count) {
		fputs("No units given\n", stderr);
		return 0;
	}
	if (ctl->options.sign)
		fputs("WARNING: The signed/verified units feature is DEPRECATED and cannot be used.\n",
			stderr);
	r = ctl_units_create(ctl, count, words, state, units, &error);
	for (size_t i = 0; i < units->count; i++) {
		struct target_unit *item = &units->items[i];

		if (!item->created)
			continue;
		if (ctl->options.no_block)
			print_triggered(item, verb);
		else
			printf("Unit %s %s\n", item->name, item->global ? "" : "inactive");
	}
	fflush(stdout);
	return r < 0 ? fail("Error creating units: ", &error) : 0;
}

/* Forgets those that are left alone. Answers whether there were any: not all that was asked for is so. */
static bool drop_kept(struct target_units *units)
{
	size_t count = 0;
	bool some = false;

	for (size_t i = 0; i < units->count; i++) {
		struct target_unit *item = &units->items[i];

		if (!item->kept) {
			units->items[count++] = *item;
			continue;
		}
		some = true;
		ctl_target_unit_done(item);
	}
	units->count = count;
	return some;
}

int ctl_command_submit(struct fleetctl *ctl, int argc, char **argv)
{
	struct target_units units = {0};
	int r = create_units(ctl, argc, argv, "inactive", "submit", &units);
	bool kept = drop_kept(&units);

	ctl_target_units_done(&units);
	return r ? r : kept;
}

/* The units that one machine runs, to be waited for: those that were not picked, since what they shall be was
 * said before, without a word, unless they were `there` already (NULL: not to be asked). */
static struct target_units on_one_machine(
	const struct target_units *units, const bool *picked, const char *there)
{
	struct target_units some = {.items = mem_new_array(struct target_unit, units->count + 1)};

	for (size_t i = 0; i < units->count; i++) {
		const char *current = ctl_text(units->items[i].unit, "currentState");

		if (units->items[i].global || (!picked[i] && there && strcmp(current, there) == 0))
			continue;
		some.items[some.count] = units->items[i];
		some.items[some.count++].quiet = !picked[i];
	}
	return some;
}

/* Sets the desired state where it differs; `picked` tells which units are to be told of. */
static int set_states(struct fleetctl *ctl, const struct target_units *units, const char *state,
	const char *verb, bool *picked, const char *failure)
{
	struct ctl_request *requests = mem_new_array(struct ctl_request, units->count + 1);
	_cleanup_free_ const struct target_unit **items =
		mem_new_array(const struct target_unit *, units->count + 1);
	size_t count = 0;
	int status = 0;

	for (size_t i = 0; i < units->count; i++) {
		const struct target_unit *item = &units->items[i];
		bool same = strcmp(desired_of(item), state) == 0;

		picked[i] = !item->global && (!same || item->created);
		if (same && !item->global)
			continue;
		items[count] = item;
		requests[count++] = (struct ctl_request){.method = "PUT",
			.path = ctl_path("/fleet/v1/units/", item->name, ""),
			.body = mem_printf("{\"desiredState\":\"%s\"}", state)};
	}
	ctl_call_all(ctl, requests, count);
	for (size_t i = 0; i < count; i++) {
		if (requests[i].result >= 0 && (items[i]->global || ctl->options.no_block))
			print_triggered(items[i], verb);
		else if (requests[i].result < 0 && requests[i].result != -ECANCELED && !status)
			status = fail(failure, &requests[i].error);
	}
	ctl_requests_free(requests, count);
	fflush(stdout);
	return status;
}

int ctl_command_load(struct fleetctl *ctl, int argc, char **argv)
{
	struct target_units units = {0}, some;
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024);
	_cleanup_free_ bool *picked = NULL;
	int r = create_units(ctl, argc, argv, "loaded", "load", &units);
	bool kept = drop_kept(&units);

	picked = mem_new_array(bool, units.count + 1);
	if (!r)
		r = set_states(ctl, &units, "loaded", "load", picked, "Error loading units: ");
	some = on_one_machine(&units, picked, "loaded");
	if (!r && !ctl->options.no_block &&
		ctl_wait_units(ctl, &some, WAIT_LOADED, ctl->options.block_attempts, true, &error) < 0)
		r = fail("Error waiting for units: ", &error);
	free(some.items);
	ctl_target_units_done(&units);
	return r ? r : kept;
}

/* Units that shall run already: those that do not are waited for as well, so that the answer is true. */
static void pick_not_active(struct fleetctl *ctl, const struct target_units *units, bool *picked)
{
	for (size_t i = 0; i < units->count; i++) {
		const struct target_unit *item = &units->items[i];
		_cleanup_free_ char *path = ctl_path("/fleet/v1/state?unitName=", item->name, "");
		_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024);
		json_t *states = NULL;
		const char *active, *load;
		_cleanup_free_ char *start_error = NULL;
		bool begun;

		if (picked[i] || item->global || ctl_list(ctl, path, "states", &states, &ignored) < 0)
			continue;
		active = ctl_text(json_array_get(states, 0), "systemdActiveState");
		load = ctl_text(json_array_get(states, 0), "systemdLoadState");
		begun = (!load[0] || strcmp(load, "loaded") == 0) && strcmp(active, "inactive") == 0 &&
			ctl_start_outcome(ctl, item->name, ctl_text(json_array_get(states, 0), "machineID"),
				&start_error) == 0;
		/* What ran and ended, or failed, was launched: fleet does not start it again. */
		if (begun)
			fprintf(stderr,
				"Unit %s was launched before and has ended: `fleetctl restart %s` runs it "
				"again\n",
				item->name, item->name);
		picked[i] = !active[0] || strcmp(active, "activating") == 0 ||
			    strcmp(active, "failed") == 0 || (strcmp(active, "inactive") == 0 && !begun);
		json_decref(states);
	}
}

static int wait_started(
	struct fleetctl *ctl, const struct target_units *units, const bool *picked, const bool *fresh)
{
	struct target_units all = pick(units, picked), launched = pick(units, fresh);
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024);
	int64_t attempts = ctl->options.block_attempts;
	int r = 0;

	if (ctl_wait_units(ctl, &launched, WAIT_LAUNCHED, attempts, true, &error) < 0) {
		fprintf(stderr, "Error waiting for units: %s\n", buf_text(&error));
		r = fail("Error waiting for unit states, exit status: ", &error);
	} else if (ctl_wait_units(ctl, &all, WAIT_ACTIVE, attempts, false, &error) < 0) {
		r = fail("Error waiting for systemd unit states, err: ", &error);
	}
	free(all.items);
	free(launched.items);
	return r;
}

int ctl_command_start(struct fleetctl *ctl, int argc, char **argv)
{
	struct target_units units = {0};
	_cleanup_free_ bool *picked = NULL, *fresh = NULL;
	int r = create_units(ctl, argc, argv, "launched", "start", &units);

	picked = mem_new_array(bool, units.count + 1);
	if (!r)
		r = set_states(ctl, &units, "launched", "start", picked, "Error starting units: ");
	fresh = mem_dup(picked, (units.count + 1) * sizeof(bool));
	for (size_t i = 0; i < units.count && !r && !ctl->options.no_block; i++)
		if (units.items[i].global)
			(void)ctl_runs_nowhere(ctl, units.items[i].name);
	if (!r && !ctl->options.no_block) {
		pick_not_active(ctl, &units, picked);
		r = wait_started(ctl, &units, picked, fresh);
	}
	ctl_target_units_done(&units);
	return r;
}

/* ---- what must exist already ---- */

/* The known units of the arguments; 1: answered, go on with *ret_status. */
static int find_units(
	struct fleetctl *ctl, int count, char **words, struct target_units *units, int *ret_status)
{
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024);

	*ret_status = 0;
	if (!count) {
		fputs("No units given\n", stderr);
		return 1;
	}
	if (ctl_units_find(ctl, count, words, units, &error) < 0) {
		*ret_status = fail("Error retrieving units from registry: ", &error);
		return 1;
	}
	if (units->count)
		return 0;
	fputs("Units not found in registry\n", stderr);
	return 1;
}

static void print_successful(const char *verb, const struct target_units *units)
{
	fprintf(stderr, "Successfully %s units [", verb);
	for (size_t i = 0; i < units->count; i++)
		fprintf(stderr, "%s%s", i ? " " : "", units->items[i].name);
	fputs("].\n", stderr);
}

/* What stop and unload do, each with its words. */
struct lowering {
	const char *state, *verb, *past, *error;
	enum wait_for wait;
};

static int lower(struct fleetctl *ctl, const struct target_units *units, const struct lowering *how)
{
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024);
	_cleanup_free_ bool *picked = mem_new_array(bool, units->count + 1);
	int status = set_states(ctl, units, how->state, how->verb, picked, how->error);
	struct target_units told = pick(units, picked), all = on_one_machine(units, picked, NULL);

	if (!status && !ctl->options.no_block &&
		ctl_wait_units(ctl, &all, how->wait, ctl->options.block_attempts, true, &error) < 0)
		status = fail("Error waiting for units: ", &error);
	if (!status)
		print_successful(how->past, &told);
	free(told.items);
	free(all.items);
	return status;
}

/* Which units can be stopped. A pattern means those that are on a machine; a name that was typed out and is
 * on none is refused, as in 1.0. Answers the exit status. */
static int pick_stoppable(const struct target_units *units, bool *picked)
{
	for (size_t i = 0; i < units->count; i++) {
		const struct target_unit *item = &units->items[i];
		bool idle = ctl_unit_is_idle(item->name, item->unit);

		if (idle && item->typed && !item->global) {
			fprintf(stderr, "Unable to stop unit %s in state inactive\n", item->name);
			return 1;
		}
		picked[i] = !idle || item->typed;
		if (!picked[i] && strcmp(desired_of(item), "inactive") != 0)
			fprintf(stderr,
				"Unit %s is on no machine yet, and is not stopped: "
				"`fleetctl unload %s` takes it back\n",
				item->name, item->name);
	}
	return 0;
}

int ctl_command_stop(struct fleetctl *ctl, int argc, char **argv)
{
	static const struct lowering how = {
		"loaded", "stop", "stopped", "Error stopping units: ", WAIT_LOADED};
	struct target_units units = {0}, some;
	_cleanup_free_ bool *picked = NULL;
	int status;

	if (find_units(ctl, argc, argv, &units, &status))
		return status;
	picked = mem_new_array(bool, units.count + 1);
	status = pick_stoppable(&units, picked);
	some = pick(&units, picked);
	if (!status)
		ctl_ask_for_running(ctl, &some);
	if (!status && some.count)
		status = lower(ctl, &some, &how);
	else if (!status)
		fputs("No unit that matches is loaded.\n", stderr);
	free(some.items);
	ctl_target_units_done(&units);
	return status;
}

int ctl_command_unload(struct fleetctl *ctl, int argc, char **argv)
{
	static const struct lowering how = {
		"inactive", "unload", "unloaded", "Error unloading units: ", WAIT_INACTIVE};
	struct target_units units = {0};
	int status;

	if (find_units(ctl, argc, argv, &units, &status))
		return status;
	status = lower(ctl, &units, &how);
	ctl_target_units_done(&units);
	return status;
}

static int destroy_all(struct fleetctl *ctl, const struct target_units *units)
{
	struct ctl_request *requests = mem_new_array(struct ctl_request, units->count + 1);
	int status = 0;

	for (size_t i = 0; i < units->count; i++)
		requests[i] = (struct ctl_request){
			.method = "DELETE", .path = ctl_path("/fleet/v1/units/", units->items[i].name, "")};
	ctl_call_all(ctl, requests, units->count);
	for (size_t i = 0; i < units->count; i++) {
		if (requests[i].result >= 0)
			printf("Destroyed %s\n", units->items[i].name);
		else if (requests[i].result != -ENOENT && requests[i].result != -ECANCELED && !status)
			status = fail("Error destroying units: ", &requests[i].error);
	}
	ctl_requests_free(requests, units->count);
	return status;
}

/* Waits, unlike the original, until the processes are gone (not for ever: the machine may be away). */
int ctl_command_destroy(struct fleetctl *ctl, int argc, char **argv)
{
	struct target_units units = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024);
	int status;

	if (find_units(ctl, argc, argv, &units, &status))
		return status;
	status = destroy_all(ctl, &units);
	fflush(stdout);
	if (!status && !ctl->options.no_block &&
		ctl_wait_units(ctl, &units, WAIT_GONE, ctl->options.block_attempts, false, &error) < 0)
		fprintf(stderr,
			"WARNING: the units are destroyed, but their processes have not ended yet (%s)\n",
			buf_text(&error));
	ctl_target_units_done(&units);
	return status;
}

int ctl_command_restart(struct fleetctl *ctl, int argc, char **argv)
{
	struct target_units units = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024);
	int status = create_units(ctl, argc, argv, "launched", "restart", &units);
	bool refused = false;

	for (size_t i = 0; i < units.count && !status; i++) {
		struct target_unit *item = &units.items[i];

		if (strcmp(desired_of(item), "inactive") == 0 && !item->created) {
			fprintf(stderr, "Unable to restart unit %s in state inactive\n", item->name);
			refused = true;
		} else if (ctl_restart(ctl, item, &error) < 0) {
			status = fail("Error restarting units: ", &error);
		}
	}
	ctl_target_units_done(&units);
	return status ? status : refused;
}
