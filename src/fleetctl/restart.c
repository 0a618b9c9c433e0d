/* What it takes so that restart restarts: fleet stops only what it has started, and what goes down with a
 * unit does not come up with it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fleetctl/fleetctl.h"
#include "unit/specifier.h"
#include "unit/words.h"

#define RESTART_ASK_ATTEMPTS 3

/* ---- what something else has started ---- */

/* Whether it runs on its machine, where it is loaded and no more. *ret_sure: the machine has said so itself,
 * else it may be that it just stops. */
static bool runs_unasked(struct fleetctl *ctl, const char *name, bool *ret_sure)
{
	_cleanup_free_ char *path = ctl_path("/fleet/v1/state?unitName=", name, "");
	_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024);
	_cleanup_(ctl_unit_now_done) struct unit_now now = {0};
	json_t *unit = NULL, *states = NULL;
	const json_t *state;
	bool runs = false;

	*ret_sure = true;
	if (ctl_unit(ctl, name, &unit, &ignored) == 0 &&
		ctl_list(ctl, path, "states", &states, &ignored) == 0) {
		state = ctl_target_state(unit, states);
		runs = strcmp(ctl_text(unit, "currentState"), "loaded") == 0 &&
		       strcmp(ctl_text(unit, "desiredState"), "loaded") == 0 && state &&
		       ctl_state_is_busy(state) &&
		       strcmp(ctl_text(state, "systemdActiveState"), "deactivating") != 0;
	}
	if (runs) {
		*ret_sure = ctl_unit_now(ctl, name, ctl_text(unit, "machineID"), &now, &ignored) == 0;
		runs = !*ret_sure || ctl_unit_now_runs_on(&now);
	}
	json_decref(unit);
	json_decref(states);
	return runs;
}

/* Which of them are loaded and run all the same, since a socket, a timer or another unit has started them. */
static size_t pick_running(struct fleetctl *ctl, const struct target_units *units, bool *picked)
{
	bool look_again = false, sure;
	size_t count = 0;

	for (size_t i = 0; i < units->count; i++) {
		const struct target_unit *item = &units->items[i];

		picked[i] = !item->global && strcmp(ctl_text(item->unit, "desiredState"), "loaded") == 0 &&
			    runs_unasked(ctl, item->name, &sure);
		look_again |= picked[i] && !sure;
	}
	/* A fleet 1.0 looks once a second what has become of a unit that it stops. */
	if (look_again)
		nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
	for (size_t i = 0; i < units->count; i++) {
		picked[i] = picked[i] && (!look_again || runs_unasked(ctl, units->items[i].name, &sure));
		count += picked[i];
	}
	return count;
}

void ctl_ask_for_running(struct fleetctl *ctl, const struct target_units *units)
{
	_cleanup_free_ bool *picked = mem_new_array(bool, units->count + 1);
	_cleanup_buf_ struct buf ignored = BUF_INIT(1024 * 1024);
	_cleanup_free_ struct target_unit *items = mem_new_array(struct target_unit, units->count + 1);
	struct target_units running = {.items = items};

	if (!pick_running(ctl, units, picked))
		return;
	for (size_t i = 0; i < units->count; i++) {
		if (!picked[i] || ctl_set_desired(ctl, units->items[i].name, "launched", &ignored) < 0)
			continue;
		json_object_set_new(units->items[i].unit, "desiredState", json_string("launched"));
		items[running.count++] = units->items[i];
	}
	(void)!ctl_wait_units(ctl, &running, WAIT_LAUNCHED, RESTART_ASK_ATTEMPTS, false, &ignored);
}

/* ---- what goes down with a unit ---- */

/* Units of one machine, in the order in which they are started again. */
struct followers {
	const char *machine;
	json_t *units; /* all that there are; the items' units are borrowed from it */
	struct target_units found;
};

/* Whether one of the words of that value is the unit's name. */
static bool value_names(const char *owner, struct slice value, const char *name)
{
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), word = BUF_INIT(UNIT_TEXT_MAX),
				 expanded = BUF_INIT(UNIT_TEXT_MAX);
	struct unit_specifiers specifiers = {0};
	struct slice rest;

	if (unit_name_parse(slice_str(owner), &specifiers.name) < 0)
		return false;
	unit_value_join(value, &joined);
	rest = buf_slice(&joined);
	while (unit_word_next(&rest, true, &word, NULL) > 0) {
		buf_clear(&expanded);
		if (unit_specifiers_expand(&specifiers, buf_slice(&word), &expanded) == 0 &&
			slice_is(buf_slice(&expanded), name))
			return true;
	}
	return false;
}

/* Whether the unit says that it is stopped with `name` (systemd.unit(5)). What others say of it is not
 * looked for: PropagatesStopTo=, RequiredBy=. */
static bool follows(const json_t *unit, const char *name)
{
	static const char *const keys[] = {
		"Requires", "BindsTo", "BindTo", "Requisite", "PartOf", "StopPropagatedFrom"};
	_cleanup_(unit_file_freep) struct unit_file *file = ctl_unit_object_file(unit);

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const struct unit_option *option;
		size_t position = 0;

		while ((option = unit_file_next(file, "Unit", keys[i], &position)))
			if (value_names(ctl_text(unit, "name"), option->value, name))
				return true;
	}
	return false;
}

static bool is_found(const struct followers *followers, const char *name)
{
	for (size_t i = 0; i < followers->found.count; i++)
		if (strcmp(followers->found.items[i].name, name) == 0)
			return true;
	return false;
}

static void add_followers_of(struct fleetctl *ctl, struct followers *followers, const char *name)
{
	_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024);
	json_t *unit;
	size_t i;

	json_array_foreach(followers->units, i, unit)
	{
		_cleanup_(ctl_unit_now_done) struct unit_now now = {0};
		const char *its = ctl_text(unit, "name");

		if (strcmp(ctl_text(unit, "machineID"), followers->machine) != 0 ||
			strcmp(ctl_text(unit, "desiredState"), "launched") != 0 ||
			ctl_unit_object_is_global(unit) || is_found(followers, its) || !follows(unit, name))
			continue;
		/* What does not run is not started because another unit is. */
		if (ctl_unit_now(ctl, its, followers->machine, &now, &ignored) < 0 ||
			!ctl_unit_now_runs_on(&now))
			continue;
		followers->found.items[followers->found.count++] =
			(struct target_unit){.name = (char *)its, .unit = unit, .quiet = true};
	}
}

static void find_followers(struct fleetctl *ctl, const struct target_unit *item, struct followers *ret)
{
	_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024);

	*ret = (struct followers){.machine = ctl_text(item->unit, "machineID")};
	if (!ret->machine[0] || ctl_list(ctl, "/fleet/v1/units", "units", &ret->units, &ignored) < 0)
		return;
	ret->found.items = mem_new_array(struct target_unit, json_array_size(ret->units) + 2);
	ret->found.items[ret->found.count++] = *item;
	/* What follows one that follows goes down as well. */
	for (size_t i = 0; i < ret->found.count; i++)
		add_followers_of(ctl, ret, ret->found.items[i].name);
}

static void followers_done(struct followers *followers)
{
	free(followers->found.items);
	json_decref(followers->units);
}

/* ---- restart ---- */

/* Stops and starts for good: the second half begins when the processes of the first are gone. */
static int stop_and_start(struct fleetctl *ctl, struct target_unit *item, bool print, struct buf *reterr)
{
	struct target_units one = {.items = item, .count = 1};
	int64_t attempts = ctl->options.block_attempts;
	int r;

	ctl_ask_for_running(ctl, &one);
	r = ctl_set_desired(ctl, item->name, "loaded", reterr);
	if (r >= 0)
		r = ctl_wait_units(ctl, &one, WAIT_LOADED, attempts, print && !item->global, reterr);
	/* What has started it again has restarted it. */
	if (r == -EALREADY) {
		buf_clear(reterr);
		r = 0;
	}
	if (r >= 0)
		r = ctl_set_desired(ctl, item->name, "launched", reterr);
	if (r >= 0 && !item->global)
		r = ctl_wait_units(ctl, &one, WAIT_LAUNCHED, attempts, print, reterr);
	if (r >= 0)
		r = ctl_wait_units(ctl, &one, WAIT_ACTIVE, attempts, false, reterr);
	return r;
}

/* Whether it ran before and does not now, and is to run as before. */
static bool is_down(struct fleetctl *ctl, const char *name, const char *machine)
{
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	_cleanup_(ctl_unit_now_done) struct unit_now now = {0};
	json_t *unit = NULL;
	bool wanted;
	int r;

	if (ctl_unit(ctl, name, &unit, &error) < 0)
		return false;
	wanted = strcmp(ctl_text(unit, "desiredState"), "launched") == 0;
	json_decref(unit);
	if (!wanted)
		return false;
	r = ctl_unit_now(ctl, name, machine, &now, &error);
	if (r < 0)
		fprintf(stderr, "Unit %s may have been stopped with it: %s\n", name, buf_text(&error));
	return r >= 0 && !ctl_unit_now_runs_on(&now);
}

/* systemd starts again what a restart took down, and so do we. One that fails keeps no other down. */
static int start_followers(struct fleetctl *ctl, const struct followers *followers, struct buf *reterr)
{
	int r = 0;

	for (size_t i = 1; i < followers->found.count; i++) {
		struct target_unit *item = &followers->found.items[i];
		_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024), ignored = BUF_INIT(64 * 1024);
		int one;

		if (!is_down(ctl, item->name, followers->machine))
			continue;
		one = stop_and_start(ctl, item, false, &error);
		if (one >= 0) {
			printf("Unit(%s) was stopped with it, and runs again.\n", item->name);
			continue;
		}
		r = one;
		if (reterr->len)
			buf_add_char(reterr, '\n');
		buf_add_slice(reterr, buf_slice(&error));
		(void)!ctl_set_desired(ctl, item->name, "launched", &ignored); /* as it was */
	}
	return r;
}

int ctl_restart(struct fleetctl *ctl, struct target_unit *item, struct buf *reterr)
{
	_cleanup_(followers_done) struct followers followers = {0};
	int r;

	if (!item->global)
		find_followers(ctl, item, &followers);
	r = stop_and_start(ctl, item, true, reterr);
	if (r >= 0 && !(item->global && ctl_runs_nowhere(ctl, item->name)))
		printf("Unit(%s) was restarted.\n", item->name);
	return r < 0 ? r : start_followers(ctl, &followers, reterr);
}
