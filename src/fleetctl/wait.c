/* Waiting that tells the truth: the API is asked every few tens of milliseconds; what fails, ends, or cannot
 * be placed is said, with the reason. Few units are asked one by one, many through the lists. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "fleetctl/fleetctl.h"

#define WAIT_LIST_FROM 8	/* more units than this: read the lists */
#define WAIT_EXPLAIN_MS 300	/* not placed for so long: say why */
#define WAIT_ACTIVE_MS 30	/* active for so long: what dies at once is not taken for started */
#define WAIT_ENDED_MS 1000	/* launched and inactive for so long: it has ended */
#define WAIT_ALL_ACTIVE_MS 300	/* as WAIT_ACTIVE_MS for a global unit, whose machines hear of it in turn */
#define WAIT_RESTARTING_MS 2000 /* being restarted for so long: it fails */
#define WAIT_NOTE_MS 2000	/* still activating: say that we wait */
#define WAIT_GONE_MS 10000
#define WAIT_AGAIN_MS 5000    /* stopped, and active for so long: something else has started it */
#define WAIT_UNKNOWN_MS 45000 /* its machine cannot be asked for so long: how it ended stays unknown */
#define WAIT_SILENT_MS 60000  /* the API has not answered for so long: it is given up */

struct waiter {
	const char *name;
	bool global, quiet, done, explained, noted;
	bool asked;   /* its machine was, why it has not published anything */
	bool stirred; /* seen otherwise than failed: what fails now failed after it was asked to start */
	int64_t active_since_ms;   /* 0: not active at the last look */
	int64_t inactive_since_ms; /* launched, and not running; 0: not so */
	int64_t running_since_ms;  /* not to run, and active; 0: not so */
	json_t *states;		   /* of a global unit, at the last look; owned */
	int64_t states_since_ms;   /* they have been like that since */
	int64_t unknown_since_ms;  /* a machine that it ended on cannot be asked; 0: all can */
};
struct snapshot {
	json_t *units;	/* name -> unit; a unit that is missing is not known */
	json_t *states; /* name -> array of states */
};

static void snapshot_done(struct snapshot *snapshot)
{
	json_decref(snapshot->units);
	json_decref(snapshot->states);
}

static void keep_state(json_t *states, json_t *state)
{
	const char *name = ctl_text(state, "name");
	json_t *list = json_object_get(states, name);

	if (!list) {
		list = json_array();
		json_object_set_new(states, name, list);
	}
	json_array_append(list, state);
}

static int read_lists(struct fleetctl *ctl, struct snapshot *snapshot, struct buf *reterr)
{
	json_t *items = NULL, *item;
	size_t i;
	int r = ctl_list(ctl, "/fleet/v1/units", "units", &items, reterr);

	if (r < 0)
		return r;
	json_array_foreach(items, i, item) json_object_set(snapshot->units, ctl_text(item, "name"), item);
	json_decref(items);
	r = ctl_list(ctl, "/fleet/v1/state", "states", &items, reterr);
	if (r < 0)
		return r;
	json_array_foreach(items, i, item) keep_state(snapshot->states, item);
	json_decref(items);
	return 0;
}

static int read_one(struct fleetctl *ctl, const char *name, struct snapshot *snapshot, struct buf *reterr)
{
	_cleanup_free_ char *path = ctl_path("/fleet/v1/state?unitName=", name, "");
	json_t *unit = NULL, *items = NULL, *item;
	size_t i;
	int r = ctl_unit(ctl, name, &unit, reterr);

	if (r == -ENOENT)
		buf_clear(reterr);
	else if (r < 0)
		return r;
	if (unit)
		json_object_set_new(snapshot->units, name, unit);
	r = ctl_list(ctl, path, "states", &items, reterr);
	if (r < 0)
		return r;
	json_array_foreach(items, i, item) keep_state(snapshot->states, item);
	json_decref(items);
	return 0;
}

static int read_snapshot(struct fleetctl *ctl, const struct waiter *waiters, size_t count,
	struct snapshot *ret, struct buf *reterr)
{
	size_t open = 0;
	int r = 0;

	*ret = (struct snapshot){json_object(), json_object()};
	for (size_t i = 0; i < count; i++)
		open += !waiters[i].done;
	if (open > WAIT_LIST_FROM)
		r = read_lists(ctl, ret, reterr);
	for (size_t i = 0; open <= WAIT_LIST_FROM && i < count && r >= 0; i++)
		if (!waiters[i].done)
			r = read_one(ctl, waiters[i].name, ret, reterr);
	if (r < 0)
		snapshot_done(ret);
	return r;
}

/* ---- one unit ---- */

bool ctl_state_is_busy(const json_t *state)
{
	const char *active = ctl_text(state, "systemdActiveState");

	return strcmp(active, "inactive") != 0 && strcmp(active, "failed") != 0;
}

static bool state_is_active(const json_t *state)
{
	const char *active = ctl_text(state, "systemdActiveState");

	return strcmp(active, "active") == 0 || strcmp(active, "reloading") == 0;
}

static bool any_busy(const json_t *states)
{
	const json_t *state;
	size_t i;

	json_array_foreach(states, i, state) if (ctl_state_is_busy(state)) return true;
	return false;
}

const json_t *ctl_target_state(const json_t *unit, const json_t *states)
{
	const json_t *state;
	size_t i;

	json_array_foreach(states, i, state) if (strcmp(ctl_text(state, "machineID"),
							 ctl_text(unit, "machineID")) == 0) return state;
	return NULL;
}

/* ---- what the scheduler says ---- */

/* NULL: the server has nothing to say of it. */
static json_t *explanation(struct fleetctl *ctl, const char *name)
{
	_cleanup_free_ char *path = ctl_path("/flotilla/v1/units/", name, "/explain");
	_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024);
	json_t *root = NULL;
	int status;

	return ctl_call(ctl, "GET", path, NULL, &root, &status, &ignored) < 0 ? NULL : root;
}

/* How many machines take the unit. */
static size_t takers(const json_t *root)
{
	json_int_t machines = json_integer_value(json_object_get(root, "machines"));
	json_int_t refusals = (json_int_t)json_array_size(json_object_get(root, "refusals"));

	return machines > refusals ? (size_t)(machines - refusals) : 0;
}

static void tell_refusals(struct fleetctl *ctl, const char *name, const char *lot, const json_t *root)
{
	const json_t *refusal;
	size_t i;

	if (!json_integer_value(json_object_get(root, "machines"))) {
		fprintf(stderr, "Unit %s %s: no machine is present in the cluster\n", name, lot);
		return;
	}
	fprintf(stderr, "Unit %s %s, since no machine takes it:\n", name, lot);
	json_array_foreach(json_object_get(root, "refusals"), i, refusal)
	{
		_cleanup_free_ char *legend = ctl_machine_legend(ctl, ctl_text(refusal, "machine"), false);

		fprintf(stderr, "  %s: %s\n", legend, ctl_text(refusal, "detail"));
	}
}

static void explain(struct fleetctl *ctl, struct waiter *waiter)
{
	json_t *root = explanation(ctl, waiter->name);

	waiter->explained = true;
	if (!root)
		return;
	if (!takers(root))
		tell_refusals(ctl, waiter->name, "is not placed", root);
	else if (!ctl_text(root, "leader")[0])
		fprintf(stderr, "Unit %s is not placed yet: no engine leads the cluster at the moment\n",
			waiter->name);
	else
		waiter->explained = false; /* a machine would take it: the decision is on its way */
	json_decref(root);
}

bool ctl_runs_nowhere(struct fleetctl *ctl, const char *name)
{
	json_t *root = explanation(ctl, name);
	bool nowhere = root && !takers(root);

	if (nowhere)
		tell_refusals(ctl, name, "runs nowhere", root);
	json_decref(root);
	return nowhere;
}

/* ---- a unit that is to be active ---- */

/* The machine's manager does not take the unit: a setting is broken, or it is of a kind that it cannot run.
 */
static bool is_refused(const json_t *state)
{
	const char *load = ctl_text(state, "systemdLoadState");

	return strcmp(load, "bad-setting") == 0 || strcmp(load, "error") == 0;
}

/* The status tells file, line and what was expected: it is printed before the message. */
static int refused(struct fleetctl *ctl, const char *name, const json_t *state, struct buf *reterr)
{
	const char *machine = ctl_text(state, "machineID");
	_cleanup_free_ char *query = ctl_path("/status?machine=", machine, "");
	_cleanup_free_ char *path = ctl_path("/flotilla/v1/units/", name, query);
	_cleanup_free_ char *legend = ctl_machine_legend(ctl, machine, false);
	_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024);

	(void)!ctl_stream(ctl, path, NULL, &ignored);
	buf_printf(reterr,
		"Unit %s cannot be started (%s) on %s; correct it and use `fleetctl start --replace %s`",
		name, ctl_text(state, "systemdLoadState"), legend, name);
	return -EIO;
}

/* Says once what is waited for, when that takes a while. Answers 0: not yet. */
static int note_wait(struct waiter *waiter, const char *what, int64_t elapsed_ms)
{
	if (elapsed_ms >= WAIT_NOTE_MS && !waiter->noted) {
		fprintf(stderr, "Unit %s %s: waiting\n", waiter->name, what);
		waiter->noted = true;
	}
	return 0;
}

/* Launched, and its process is not there: it has ended, has not begun, or could not begin. */
static int judge_inactive(struct fleetctl *ctl, struct waiter *waiter, const json_t *state,
	int64_t elapsed_ms, int64_t now_ms, struct buf *reterr)
{
	const char *machine = ctl_text(state, "machineID"), *sub = ctl_text(state, "systemdSubState");
	_cleanup_free_ char *why = NULL, *legend = NULL;
	int64_t since_ms;
	int r;

	if (!waiter->inactive_since_ms)
		waiter->inactive_since_ms = now_ms;
	since_ms = now_ms - waiter->inactive_since_ms;
	if (since_ms < WAIT_ENDED_MS)
		return 0;
	r = ctl_start_outcome(ctl, waiter->name, machine, &why);
	if (r > 0 || (r == -EHOSTUNREACH && since_ms < WAIT_UNKNOWN_MS))
		return note_wait(waiter, why, elapsed_ms);
	if (r < 0) {
		legend = ctl_machine_legend(ctl, machine, false);
		buf_printf(reterr, "Unit %s %s on %s: %s", waiter->name,
			r == -EHOSTUNREACH ? "is not running" : "does not start", legend, why);
		return -EIO;
	}
	printf("Unit %s has ended (inactive/%s)\n", waiter->name, sub);
	return 1;
}

static int judge_active(struct fleetctl *ctl, struct waiter *waiter, const json_t *unit, const json_t *states,
	int64_t elapsed_ms, int64_t now_ms, struct buf *reterr)
{
	const json_t *state = ctl_target_state(unit, states);
	const char *active = ctl_text(state, "systemdActiveState"), *sub = ctl_text(state, "systemdSubState");
	_cleanup_free_ char *legend = NULL, *what = NULL;
	bool restarting = strcmp(sub, "auto-restart") == 0, failed = strcmp(active, "failed") == 0;

	waiter->stirred = waiter->stirred || !state || !(failed || is_refused(state));
	/* What was published may still be the failure of before. */
	if (!waiter->stirred && elapsed_ms < WAIT_ENDED_MS)
		return 0;
	if (!state)
		return 0;
	if (is_refused(state))
		return refused(ctl, waiter->name, state, reterr);
	if (state_is_active(state)) {
		if (!waiter->active_since_ms)
			waiter->active_since_ms = now_ms;
		return now_ms - waiter->active_since_ms >= WAIT_ACTIVE_MS;
	}
	waiter->active_since_ms = 0;
	if (failed || (restarting && elapsed_ms >= WAIT_RESTARTING_MS)) {
		legend = ctl_machine_legend(ctl, ctl_text(unit, "machineID"), false);
		buf_printf(reterr,
			"Unit %s %s (%s/%s) on %s; see `fleetctl status %s` and `fleetctl journal %s`",
			waiter->name, restarting ? "fails and is restarted again and again" : "failed",
			active, sub, legend, waiter->name, waiter->name);
		return -EIO;
	}
	if (strcmp(active, "inactive") == 0)
		return judge_inactive(ctl, waiter, state, elapsed_ms, now_ms, reterr);
	waiter->inactive_since_ms = 0;
	if (restarting)
		return 0;
	what = mem_printf("is %s (%s)", active, sub);
	return note_wait(waiter, what, elapsed_ms);
}

/* A global unit: what its machines say when none of them is on the way any more. Those that failed are
 * gathered into the message. 0: one waits for other units. */
static int judge_machines(
	struct fleetctl *ctl, struct waiter *waiter, int64_t elapsed_ms, int64_t now_ms, struct buf *reterr)
{
	_cleanup_buf_ struct buf failed = BUF_INIT(1024 * 1024), ended = BUF_INIT(1024 * 1024);
	const json_t *state;
	bool unknown = false;
	size_t i;

	json_array_foreach(waiter->states, i, state)
	{
		const char *machine = ctl_text(state, "machineID");
		const char *active = ctl_text(state, "systemdActiveState");
		const char *sub = ctl_text(state, "systemdSubState");
		_cleanup_free_ char *legend = ctl_machine_legend(ctl, machine, false), *why = NULL;
		bool inactive = strcmp(active, "inactive") == 0 && !is_refused(state);
		int r = inactive ? ctl_start_outcome(ctl, waiter->name, machine, &why) : -EIO;

		if (state_is_active(state))
			continue;
		if (r > 0)
			return note_wait(waiter, "waits for units that it needs", elapsed_ms);
		if (r == -EHOSTUNREACH) {
			unknown = true;
			waiter->unknown_since_ms =
				waiter->unknown_since_ms ? waiter->unknown_since_ms : now_ms;
			if (now_ms - waiter->unknown_since_ms < WAIT_UNKNOWN_MS)
				return note_wait(waiter, why, elapsed_ms);
		}
		if (r == 0)
			buf_printf(&ended, "Unit %s has ended (%s/%s) on %s\n", waiter->name, active, sub,
				legend);
		else if (why)
			buf_printf(&failed, "%s%s (%s)", failed.len ? ", " : "", legend, why);
		else
			buf_printf(&failed, "%s%s (%s/%s)", failed.len ? ", " : "", legend,
				is_refused(state) ? ctl_text(state, "systemdLoadState") : active, sub);
	}
	if (!unknown)
		waiter->unknown_since_ms = 0;
	if (ended.len)
		fputs(buf_text(&ended), stdout);
	if (!failed.len)
		return 1;
	buf_printf(reterr, "Unit %s failed on %s; see `fleetctl status %s`", waiter->name, buf_text(&failed),
		waiter->name);
	return -EIO;
}

/* A global unit has a state on each of its machines. What they publish right after the start may be of
 * before: it counts when it has stayed the same for a while. */
static int judge_everywhere(struct fleetctl *ctl, struct waiter *waiter, json_t *states, int64_t elapsed_ms,
	int64_t now_ms, struct buf *reterr)
{
	bool all_active = json_array_size(states) > 0, restarting = false;
	const json_t *state;
	json_t *root;
	size_t i, wanted;

	if (!waiter->states_since_ms || (states != waiter->states && !json_equal(states, waiter->states)))
		waiter->states_since_ms = now_ms;
	json_decref(waiter->states);
	waiter->states = json_incref(states);
	json_array_foreach(states, i, state)
	{
		bool again = strcmp(ctl_text(state, "systemdSubState"), "auto-restart") == 0 &&
			     elapsed_ms >= WAIT_RESTARTING_MS;

		if (ctl_state_is_busy(state) && !state_is_active(state) && !is_refused(state) && !again)
			return note_wait(waiter, "is not up on all machines yet", elapsed_ms);
		all_active = all_active && state_is_active(state);
		restarting = restarting || again;
	}
	if (!restarting &&
		now_ms - waiter->states_since_ms < (all_active ? WAIT_ALL_ACTIVE_MS : WAIT_ENDED_MS))
		return 0;
	root = explanation(ctl, waiter->name);
	wanted = takers(root);
	json_decref(root);
	if (json_array_size(states) < wanted)
		return note_wait(waiter, "is not on all machines yet", elapsed_ms);
	return judge_machines(ctl, waiter, elapsed_ms, now_ms, reterr);
}

/* All machines that published it active say that nobody stops it there. */
static bool runs_on(struct fleetctl *ctl, const char *name, const json_t *states)
{
	const json_t *state;
	size_t i;

	json_array_foreach(states, i, state)
	{
		_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024);
		_cleanup_(ctl_unit_now_done) struct unit_now now = {0};

		if (ctl_state_is_busy(state) &&
			(ctl_unit_now(ctl, name, ctl_text(state, "machineID"), &now, &ignored) < 0 ||
				!ctl_unit_now_runs_on(&now)))
			return false;
	}
	return true;
}

/* On its machine, and stopped. A socket, a timer or a unit that needs it may start it again at any time. */
static int judge_loaded(struct fleetctl *ctl, struct waiter *waiter, const char *current,
	const json_t *states, int64_t now_ms, struct buf *reterr)
{
	const json_t *state;
	size_t i;

	if (!waiter->global && strcmp(current, "loaded") != 0)
		return 0;
	if (!any_busy(states))
		return 1;
	json_array_foreach(states, i, state) if (ctl_state_is_busy(state) && !state_is_active(state))
	{
		waiter->running_since_ms = 0;
		return 0;
	}
	if (!waiter->running_since_ms)
		waiter->running_since_ms = now_ms;
	if (now_ms - waiter->running_since_ms < WAIT_AGAIN_MS)
		return 0;
	waiter->running_since_ms = 0;
	if (!runs_on(ctl, waiter->name, states))
		return 0;
	buf_printf(reterr,
		"Unit %s is active all the same: a socket, a timer or another unit has started it; stop that "
		"too, or unload the unit",
		waiter->name);
	return -EALREADY;
}

/* Its machine has published nothing of it: it may not be able to load it. */
static void note_unloaded(struct fleetctl *ctl, struct waiter *waiter, const char *machine)
{
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	_cleanup_(ctl_unit_now_done) struct unit_now now = {0};
	_cleanup_free_ char *legend = ctl_machine_legend(ctl, machine, false);
	int r = ctl_unit_now(ctl, waiter->name, machine, &now, &error);

	waiter->asked = true;
	if (now.start_error || r == -EHOSTUNREACH)
		fprintf(stderr, "Unit %s is not loaded yet on %s (%s): waiting\n", waiter->name, legend,
			now.start_error ? now.start_error : buf_text(&error));
}

/* Why it is on no machine, or why its machine has published nothing of it. */
static void explain_delay(struct fleetctl *ctl, struct waiter *waiter, const json_t *unit,
	const json_t *states, int64_t elapsed_ms)
{
	const char *machine = ctl_text(unit, "machineID");

	if (waiter->global)
		return;
	if (!machine[0] && elapsed_ms >= WAIT_EXPLAIN_MS && !waiter->explained)
		explain(ctl, waiter);
	if (machine[0] && elapsed_ms >= WAIT_NOTE_MS && !waiter->asked && !waiter->quiet &&
		!ctl_target_state(unit, states))
		note_unloaded(ctl, waiter, machine);
}

/* 1: there; 0: not yet; negative: it never will be, with a message. */
static int judge(struct fleetctl *ctl, struct waiter *waiter, const struct snapshot *snapshot,
	enum wait_for what, int64_t elapsed_ms, int64_t now_ms, struct buf *reterr)
{
	const json_t *unit = json_object_get(snapshot->units, waiter->name);
	json_t *states = json_object_get(snapshot->states, waiter->name);
	const char *current = ctl_text(unit, "currentState");

	if (what == WAIT_GONE)
		return !unit && !any_busy(states);
	if (!unit) {
		buf_printf(reterr, "unit %s was destroyed meanwhile", waiter->name);
		return -ENOENT;
	}
	if (what == WAIT_LAUNCHED || what == WAIT_LOADED || what == WAIT_ACTIVE)
		explain_delay(ctl, waiter, unit, states, elapsed_ms);
	switch (what) {
	case WAIT_EXISTS:
		return 1;
	case WAIT_INACTIVE:
		return (waiter->global || strcmp(current, "inactive") == 0) && !any_busy(states);
	case WAIT_LOADED:
		return judge_loaded(ctl, waiter, current, states, now_ms, reterr);
	case WAIT_LAUNCHED:
		return strcmp(current, "launched") == 0;
	case WAIT_ACTIVE:
		return waiter->global ? judge_everywhere(ctl, waiter, states, elapsed_ms, now_ms, reterr)
				      : judge_active(ctl, waiter, unit, states, elapsed_ms, now_ms, reterr);
	case WAIT_GONE:
		break;
	}
	return 0;
}

static const char *const wait_names[] = {[WAIT_EXISTS] = "inactive",
	[WAIT_INACTIVE] = "inactive",
	[WAIT_LOADED] = "loaded",
	[WAIT_LAUNCHED] = "launched",
	[WAIT_ACTIVE] = "active",
	[WAIT_GONE] = "gone"};

static void print_there(struct fleetctl *ctl, const struct waiter *waiter, const struct snapshot *snapshot,
	enum wait_for what)
{
	const char *machine = ctl_text(json_object_get(snapshot->units, waiter->name), "machineID");

	if (waiter->global) {
		printf("Unit %s \n", waiter->name);
	} else if (machine[0] && (what == WAIT_LOADED || what == WAIT_LAUNCHED)) {
		_cleanup_free_ char *legend = ctl_machine_legend(ctl, machine, false);

		printf("Unit %s %s on %s\n", waiter->name, wait_names[what], legend);
	} else {
		printf("Unit %s %s\n", waiter->name, wait_names[what]);
	}
	fflush(stdout);
}

/* ---- the loop ---- */

/* The API does not answer, as while its fleetd is started anew. */
struct silence {
	int64_t since_ms; /* 0: it does */
	bool told;
	struct buf why; /* at the last look */
};

/* 0: it is waited for. */
static int note_silence(struct silence *silence, int error, struct buf *reterr)
{
	int64_t now_ms = time_mono_ms();

	if (!silence->since_ms)
		silence->since_ms = now_ms;
	if (now_ms - silence->since_ms >= WAIT_NOTE_MS && !silence->told) {
		fprintf(stderr, "%s; trying again\n", buf_text(&silence->why));
		silence->told = true;
	}
	if (now_ms - silence->since_ms < WAIT_SILENT_MS)
		return 0;
	if (reterr->len)
		buf_add_char(reterr, '\n');
	buf_add_slice(reterr, buf_slice(&silence->why));
	return error;
}

static int look_at_all(struct fleetctl *ctl, struct waiter *waiters, size_t count, enum wait_for what,
	int64_t elapsed_ms, bool print, size_t *open, struct silence *silence, struct buf *reterr)
{
	struct snapshot snapshot;
	int r, failed = 0;

	buf_clear(&silence->why);
	r = read_snapshot(ctl, waiters, count, &snapshot, &silence->why);
	if (r < 0)
		return note_silence(silence, r, reterr);
	silence->since_ms = 0;
	silence->told = false;
	for (size_t i = 0; i < count; i++) {
		_cleanup_buf_ struct buf why = BUF_INIT(64 * 1024);

		if (waiters[i].done)
			continue;
		r = judge(ctl, &waiters[i], &snapshot, what, elapsed_ms, time_mono_ms(), &why);
		if (!r)
			continue;
		waiters[i].done = true;
		(*open)--;
		if (r < 0) {
			failed = r;
			if (reterr->len)
				buf_add_char(reterr, '\n');
			buf_add_slice(reterr, buf_slice(&why));
		} else if (print && !waiters[i].quiet) {
			print_there(ctl, &waiters[i], &snapshot, what);
		}
	}
	snapshot_done(&snapshot);
	return failed;
}

/* A line at the foot of a terminal: how many are there. Wiped before anything else is said. */
struct progress {
	size_t count;
	const char *state;
	bool on, drawn;
};

static void progress_draw(struct progress *progress, size_t open, int64_t elapsed_ms)
{
	if (!progress->on)
		return;
	fprintf(stderr, "\r\033[K%zu of %zu units %s, %lld s", progress->count - open, progress->count,
		progress->state, (long long)elapsed_ms / 1000);
	fflush(stderr);
	progress->drawn = true;
}

static void progress_wipe(struct progress *progress)
{
	if (!progress->drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	progress->drawn = false;
}

int ctl_wait_units(struct fleetctl *ctl, const struct target_units *units, enum wait_for what,
	int64_t attempts, bool print, struct buf *reterr)
{
	struct waiter *waiters = mem_new_array(struct waiter, units->count + 1);
	int64_t start_ms = time_mono_ms(),
		limit_ms = attempts > 0 ? attempts * FLEETCTL_ATTEMPT_MS : INT64_MAX;
	size_t open = units->count;
	struct silence silence = {.why = BUF_INIT(64 * 1024)};
	struct progress progress = {.count = units->count,
		.state = wait_names[what],
		.on = units->count > WAIT_LIST_FROM && isatty(STDERR_FILENO)};
	int r = 0;

	if (what == WAIT_GONE && attempts <= 0)
		limit_ms = WAIT_GONE_MS;
	for (size_t i = 0; i < units->count; i++) {
		waiters[i].name = units->items[i].name;
		waiters[i].global = units->items[i].global;
		waiters[i].quiet = units->items[i].quiet;
		/* Many would be asked about in turn, each for as long as its machine does not answer. */
		waiters[i].asked = units->count > WAIT_LIST_FROM;
	}
	while (open) {
		int64_t elapsed_ms = time_mono_ms() - start_ms, pause_ms;
		int one;

		progress_wipe(&progress);
		one = look_at_all(
			ctl, waiters, units->count, what, elapsed_ms, print, &open, &silence, reterr);
		r = one < 0 ? one : r;
		/* A unit that failed does not end the wait for the others. */
		if (!open || (one < 0 && silence.since_ms))
			break;
		if (elapsed_ms > limit_ms) {
			for (size_t i = 0; i < units->count; i++)
				if (!waiters[i].done)
					buf_printf(reterr,
						"%stimed out waiting for unit %s to report state %s%s%s",
						reterr->len ? "\n" : "", waiters[i].name, wait_names[what],
						silence.since_ms ? ": " : "",
						silence.since_ms ? buf_text(&silence.why) : "");
			r = -ETIME;
			break;
		}
		progress_draw(&progress, open, elapsed_ms);
		pause_ms =
			MIN(MAX(elapsed_ms / 10, (int64_t)FLEETCTL_POLL_MS), (int64_t)FLEETCTL_POLL_MAX_MS);
		nanosleep(&(struct timespec){.tv_nsec = pause_ms * 1000000}, NULL);
	}
	for (size_t i = 0; i < units->count; i++)
		json_decref(waiters[i].states);
	buf_done(&silence.why);
	free(waiters);
	return r;
}
