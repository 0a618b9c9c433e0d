/* Keys come one by one and are filed by their path. A full read is a generation: what it did not have is
 * dropped at its end, so that observers hear only of real changes. The scheduler is fed on the way: a unit as
 * soon as object, text and wish are all known, in whatever order they come. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fleet/cluster_internal.h"

/* ---- telling ---- */

void cluster_tell(const struct cluster *c, void (*fn)(void *, const char *), const char *name)
{
	if (fn)
		fn(c->observer.userdata, name);
}

char *cluster_replace_text(char *old, struct slice value)
{
	free(old);
	return value.data ? mem_strndup(value.data, value.len) : NULL;
}

bool cluster_text_is(const char *text, struct slice value)
{
	return text && slice_is(value, text);
}

/* ---- units ---- */

static struct cluster_unit *unit_entry(struct cluster *c, struct slice name)
{
	struct cluster_unit *unit = map_get(&c->units, name);

	if (!unit) {
		unit = mem_new(struct cluster_unit);
		unit->name = mem_strndup(name.data, name.len);
		list_init(&unit->text_link);
		map_put(&c->units, name, unit);
	}
	return unit;
}

static void unit_free(struct cluster_unit *unit)
{
	list_remove(&unit->text_link);
	for (size_t i = 0; i < unit->state_count; i++)
		registry_unit_state_done(&unit->states[i].state);
	for (size_t i = 0; i < unit->assignment_count; i++) {
		free(unit->assignments[i].machine);
		free(unit->assignments[i].value);
	}
	free(unit->states);
	free(unit->assignments);
	free(unit->target);
	free(unit->heartbeat);
	free(unit->name);
	free(unit);
}

static void unit_drop_if_empty(struct cluster *c, struct cluster_unit *unit)
{
	if (unit->hash[0] || unit->has_desired || unit->target || unit->heartbeat || unit->state_count ||
		unit->assignment_count || unit->deciding)
		return;
	map_remove(&c->units, slice_str(unit->name));
	unit_free(unit);
}

/* Brings the scheduler up to date with the unit. */
static void unit_plan(struct cluster *c, struct cluster_unit *unit)
{
	const struct unit_file *file = unit->text ? unit->text->file : NULL;
	struct unit_requirements rules;

	/* Without a wish it is one that nobody wants to run, as in fleet 1.0: who created it may have been
	 * cut off before that was written. It can be seen, and destroyed. */
	if (!file) {
		if (unit->planned)
			scheduler_remove_unit(c->scheduler, unit->name);
		unit->planned = false;
		return;
	}
	unit_requirements_read(file, slice_str(unit->name), &rules);
	unit->global = rules.global;
	/* A template is never run itself, whatever its desired state says. */
	scheduler_put_unit(c->scheduler, unit->name, &rules,
		unit->desired != REGISTRY_INACTIVE && !unit_name_is_template(slice_str(unit->name)));
	unit_requirements_done(&rules);
	if (!unit->planned)
		scheduler_set_target(c->scheduler, unit->name, unit->target);
	unit->planned = true;
}

static void unit_target_plan(struct cluster *c, struct cluster_unit *unit)
{
	if (unit->planned && !unit->deciding)
		scheduler_set_target(c->scheduler, unit->name, unit->target);
}

void cluster_unit_changed(struct cluster *c, struct cluster_unit *unit)
{
	unit_plan(c, unit);
	cluster_tell(c, c->observer.unit, unit->name);
	unit_drop_if_empty(c, unit);
}

static void unit_target_changed(struct cluster *c, struct cluster_unit *unit)
{
	unit_target_plan(c, unit);
	cluster_tell(c, c->observer.unit, unit->name);
	unit_drop_if_empty(c, unit);
}

static void unit_set_field(
	struct cluster *c, struct slice name, struct slice field, struct slice value, uint64_t index)
{
	struct cluster_unit *unit;

	if (slice_is(field, "object")) {
		char hash[UNIT_HASH_HEX_SIZE];

		if (registry_decode_job(value, hash) < 0)
			return;
		unit = unit_entry(c, name);
		unit->object_seen = c->generation;
		if (strcmp(unit->hash, hash) == 0)
			return;
		memcpy(unit->hash, hash, sizeof(hash));
		cluster_text_refer(c, unit);
		cluster_unit_changed(c, unit);
	} else if (slice_is(field, "target-state")) {
		enum registry_state desired = registry_state_from_name(value);

		unit = unit_entry(c, name);
		unit->desired_seen = c->generation;
		unit->desired_index = index;
		if (desired == REGISTRY_STATE_INVALID)
			desired = REGISTRY_INACTIVE; /* a foreign writer's; what runs is then taken off */
		if (unit->has_desired && unit->desired == desired)
			return;
		unit->has_desired = true;
		unit->desired = desired;
		cluster_unit_changed(c, unit);
	} else if (slice_is(field, "target")) {
		unit = unit_entry(c, name);
		unit->target_seen = c->generation;
		if (cluster_text_is(unit->target, value))
			return;
		unit->target = cluster_replace_text(unit->target, value);
		unit_target_changed(c, unit);
	} else if (slice_is(field, "job-state")) {
		unit = unit_entry(c, name);
		unit->heartbeat_seen = c->generation;
		unit->heartbeat_index = index;
		if (cluster_text_is(unit->heartbeat, value))
			return;
		unit->heartbeat = cluster_replace_text(unit->heartbeat, value);
		cluster_tell(c, c->observer.state, unit->name);
	}
}

/* field "": the whole directory. */
static void unit_remove_field(struct cluster *c, struct slice name, struct slice field)
{
	struct cluster_unit *unit = map_get(&c->units, name);
	bool all = field.len == 0, changed = false, target = false, heartbeat = false;

	if (!unit)
		return;
	if ((all || slice_is(field, "object")) && unit->hash[0]) {
		unit->hash[0] = '\0';
		cluster_text_refer(c, unit);
		changed = true;
	}
	if ((all || slice_is(field, "target-state")) && unit->has_desired) {
		unit->has_desired = false;
		unit->desired = REGISTRY_INACTIVE;
		changed = true;
	}
	if ((all || slice_is(field, "target")) && unit->target &&
		!cluster_part_is_outdated(c, "job", name, "target")) {
		unit->target = mem_free(unit->target);
		target = true;
	}
	if ((all || slice_is(field, "job-state")) && unit->heartbeat) {
		unit->heartbeat = mem_free(unit->heartbeat);
		heartbeat = true;
	}
	if (heartbeat)
		cluster_tell(c, c->observer.state, unit->name);
	if (target)
		unit_target_plan(c, unit);
	if (changed)
		cluster_unit_changed(c, unit);
	else if (target)
		unit_target_changed(c, unit);
	else
		unit_drop_if_empty(c, unit);
}

/* ---- states and assignments ---- */

/* Drops the states of `machine` (all when empty), or those that a read did not have when `unseen`. */
static void drop_states(struct cluster *c, struct cluster_unit *unit, struct slice machine, bool unseen)
{
	size_t kept = 0;

	for (size_t i = 0; i < unit->state_count; i++) {
		bool drop = unseen ? unit->states[i].seen != c->generation
				   : !machine.len || slice_is(machine, unit->states[i].state.machine);

		if (!drop) {
			unit->states[kept++] = unit->states[i];
			continue;
		}
		if (c->observer.state_gone)
			c->observer.state_gone(
				c->observer.userdata, unit->name, unit->states[i].state.machine, c->index);
		registry_unit_state_done(&unit->states[i].state);
	}
	if (kept == unit->state_count)
		return;
	unit->state_count = kept;
	cluster_tell(c, c->observer.state, unit->name);
}

static void remove_states(struct cluster *c, struct cluster_unit *unit, struct slice machine)
{
	drop_states(c, unit, machine, false);
	unit_drop_if_empty(c, unit);
}

static void set_state(struct cluster *c, const char *path, struct slice name, struct slice machine,
	struct slice value, uint64_t index)
{
	struct registry_unit_state state;
	struct cluster_unit *unit;
	size_t at = 0;

	if (registry_decode_unit_state(value, &state) < 0) {
		/* Whatever it said before, it does not any more. */
		cluster_note_garbage(c, path, index);
		unit = map_get(&c->units, name);
		if (unit)
			remove_states(c, unit, machine);
		return;
	}
	cluster_note_sound(c, path);
	state.machine = cluster_replace_text(state.machine, machine);
	unit = unit_entry(c, name);
	while (at < unit->state_count && strcmp(unit->states[at].state.machine, state.machine) < 0)
		at++;
	if (at < unit->state_count && strcmp(unit->states[at].state.machine, state.machine) == 0) {
		registry_unit_state_done(&unit->states[at].state);
	} else {
		unit->states =
			mem_reallocarray(unit->states, unit->state_count + 1, sizeof(struct cluster_state));
		memmove(unit->states + at + 1, unit->states + at,
			(unit->state_count - at) * sizeof(*unit->states));
		unit->state_count++;
	}
	unit->states[at] = (struct cluster_state){state, index, c->generation};
	cluster_tell(c, c->observer.state, unit->name);
}

/* Where the machine's entry is, or belongs: a global unit has one for each machine. */
static size_t assignment_find(const struct cluster_unit *unit, struct slice machine)
{
	size_t low = 0, high = unit->assignment_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (slice_compare(slice_str(unit->assignments[middle].machine), machine) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool assignment_is_of(const struct cluster_unit *unit, size_t at, struct slice machine)
{
	return at < unit->assignment_count && slice_is(machine, unit->assignments[at].machine);
}

const struct cluster_assignment *cluster_unit_assignment(const struct cluster_unit *unit, const char *machine)
{
	size_t at = assignment_find(unit, slice_str(machine));

	return assignment_is_of(unit, at, slice_str(machine)) ? &unit->assignments[at] : NULL;
}

static void set_assignment(struct cluster *c, struct slice machine, struct slice name, struct slice value)
{
	struct cluster_unit *unit = unit_entry(c, name);
	size_t i = assignment_find(unit, machine);

	if (!assignment_is_of(unit, i, machine)) {
		unit->assignments = mem_reallocarray(
			unit->assignments, unit->assignment_count + 1, sizeof(struct cluster_assignment));
		memmove(unit->assignments + i + 1, unit->assignments + i,
			(unit->assignment_count++ - i) * sizeof(*unit->assignments));
		unit->assignments[i] =
			(struct cluster_assignment){.machine = mem_strndup(machine.data, machine.len)};
	}
	unit->assignments[i].value = cluster_replace_text(unit->assignments[i].value, value);
	unit->assignments[i].seen = c->generation;
	cluster_tell(c, c->observer.assigned, unit->name);
}

static void drop_assignments(struct cluster *c, struct cluster_unit *unit, struct slice machine, bool unseen)
{
	size_t kept = 0;

	for (size_t i = 0; i < unit->assignment_count; i++) {
		bool drop = unseen ? unit->assignments[i].seen != c->generation
				   : slice_is(machine, unit->assignments[i].machine);

		if (drop && !cluster_part_is_outdated(
				    c, "assigned", slice_str(unit->assignments[i].machine), unit->name)) {
			free(unit->assignments[i].machine);
			free(unit->assignments[i].value);
		} else {
			unit->assignments[kept++] = unit->assignments[i];
		}
	}
	if (kept == unit->assignment_count)
		return;
	unit->assignment_count = kept;
	cluster_tell(c, c->observer.assigned, unit->name);
}

/* ---- keys ---- */

void cluster_set(struct cluster *c, const char *path, struct slice value, uint64_t index)
{
	cluster_written_event(c, index);
	if (!cluster_is_outdated(c, path))
		cluster_apply_set(c, path, value, index);
}

void cluster_apply_set(struct cluster *c, const char *path, struct slice value, uint64_t index)
{
	struct slice parts[5] = {0};
	size_t count = cluster_cut_path(path, parts, 5);

	cluster_note_set(c, path, parts, count);
	if (count == 3 && slice_is(parts[0], "job"))
		unit_set_field(c, parts[1], parts[2], value, index);
	else if (count == 3 && slice_is(parts[0], "states"))
		set_state(c, path, parts[1], parts[2], value, index);
	else if (count == 3 && slice_is(parts[0], "assigned") && !slice_is(parts[2], "epoch"))
		set_assignment(c, parts[1], parts[2], value);
	else if (count == 3 && slice_is(parts[0], "assigned"))
		cluster_note_epoch(c, parts[1], value);
	else if (count == 3 && slice_is(parts[0], "machines") && slice_is(parts[2], "object"))
		cluster_machine_set_object(c, parts[1], value);
	else if (count == 4 && slice_is(parts[0], "machines") && slice_is(parts[2], "metadata"))
		cluster_machine_set_dynamic(c, parts[1], parts[3], value);
	else if (count == 2 && slice_is(parts[0], "unit"))
		cluster_text_set(c, parts[1], value, index);
}

typedef void each_unit_fn(struct cluster *c, struct cluster_unit *unit, struct slice argument);

static void each_entry(struct cluster *c, struct slice name, each_unit_fn *fn, struct slice argument)
{
	size_t count;
	_cleanup_free_ const struct cluster_unit **units = NULL;
	struct cluster_unit *unit;

	if (name.len) {
		unit = map_get(&c->units, name);
		if (unit)
			fn(c, unit, argument);
		return;
	}
	units = cluster_entries(c, &count);
	for (size_t i = 0; i < count; i++) {
		unit = map_get(&c->units, slice_str(units[i]->name));
		if (unit)
			fn(c, unit, argument);
	}
}

static void remove_assignments(struct cluster *c, struct cluster_unit *unit, struct slice machine)
{
	drop_assignments(c, unit, machine, false);
	unit_drop_if_empty(c, unit);
}

static void remove_job(struct cluster *c, struct cluster_unit *unit, struct slice field)
{
	unit_remove_field(c, slice_str(unit->name), field);
}

static void remove_machine(struct cluster *c, struct slice id, struct slice *parts, size_t count)
{
	if (count == 2 || slice_is(parts[2], "metadata"))
		cluster_machine_remove_dynamic(c, id, count == 4 ? parts[3] : (struct slice){0});
	if (count == 2 || slice_is(parts[2], "object"))
		cluster_machine_remove_object(c, id);
}

void cluster_remove(struct cluster *c, const char *path, uint64_t index)
{
	cluster_written_event(c, index);
	if (!cluster_is_outdated(c, path))
		cluster_apply_removal(c, path);
}

void cluster_apply_removal(struct cluster *c, const char *path)
{
	struct slice parts[5] = {0};
	size_t count = cluster_cut_path(path, parts, 5);

	if (count == 0) {
		/* The whole prefix: as a read that found nothing. */
		cluster_begin(c, c->index);
		cluster_end(c);
	} else if (slice_is(parts[0], "job")) {
		each_entry(c, parts[1], remove_job, parts[2]);
	} else if (slice_is(parts[0], "states")) {
		each_entry(c, parts[1], remove_states, parts[2]);
	} else if (slice_is(parts[0], "unit") && count <= 2) {
		cluster_text_remove(c, parts[1]);
	} else if (slice_is(parts[0], "assigned") && count >= 2) {
		each_entry(c, parts[2], remove_assignments, parts[1]);
	} else if (slice_is(parts[0], "machines") && count >= 2) {
		remove_machine(c, parts[1], parts, count);
	}
	cluster_note_removed(c, path, parts, count);
}

void cluster_begin(struct cluster *c, uint64_t index)
{
	c->generation++;
	cluster_written_begin(c, index);
	cluster_machines_begin(c);
	cluster_leftovers_clear(c);
}

static void sweep_unit(struct cluster *c, struct cluster_unit *unit, struct slice unused)
{
	const char *fields[4];
	size_t count = 0;
	_cleanup_free_ char *name = mem_strdup(unit->name);

	(void)unused;
	if (unit->hash[0] && unit->object_seen != c->generation)
		fields[count++] = "object";
	if (unit->has_desired && unit->desired_seen != c->generation)
		fields[count++] = "target-state";
	if (unit->target && unit->target_seen != c->generation)
		fields[count++] = "target";
	if (unit->heartbeat && unit->heartbeat_seen != c->generation)
		fields[count++] = "job-state";
	drop_states(c, unit, (struct slice){0}, true);
	drop_assignments(c, unit, (struct slice){0}, true);
	if (!count)
		unit_drop_if_empty(c, unit);
	for (size_t i = 0; i < count; i++)
		unit_remove_field(c, slice_str(name), slice_str(fields[i]));
}

void cluster_end(struct cluster *c)
{
	cluster_machines_end(c);
	each_entry(c, (struct slice){0}, sweep_unit, (struct slice){0});
	cluster_texts_end(c);
}

/* ---- decisions ---- */

void cluster_decision_sent(struct cluster *c, const char *unit)
{
	struct cluster_unit *entry = map_get(&c->units, slice_str(unit));

	assert(entry);
	entry->deciding++;
}

void cluster_decision_answered(struct cluster *c, const char *unit)
{
	struct cluster_unit *entry = map_get(&c->units, slice_str(unit));

	/* Without one the mirror was closed meanwhile. */
	if (!entry || !entry->deciding || --entry->deciding)
		return;
	unit_target_plan(c, entry);
	unit_drop_if_empty(c, entry);
}

static void forget_decision(struct cluster *c, struct cluster_unit *unit, struct slice unused)
{
	(void)unused;
	unit->deciding = 0;
	unit_target_plan(c, unit);
	unit_drop_if_empty(c, unit);
}

void cluster_forget_decisions(struct cluster *c)
{
	each_entry(c, (struct slice){0}, forget_decision, (struct slice){0});
}

/* ---- life ---- */

struct cluster *cluster_new(void)
{
	struct cluster *c = mem_new(struct cluster);

	map_init(&c->machines, 0);
	map_init(&c->texts, 0);
	map_init(&c->units, 0);
	map_init(&c->bare, 0);
	map_init(&c->garbage, 0);
	map_init(&c->indexed, 0);
	map_init(&c->epochs, 0);
	map_init(&c->written, 0);
	c->scheduler = scheduler_new();
	return c;
}

void cluster_clear(struct cluster *c)
{
	size_t position;
	void *value;

	c->reading = false;
	cluster_texts_clear(c);
	for (position = 0; map_next(&c->machines, &position, NULL, &value);)
		cluster_machine_free(value);
	for (position = 0; map_next(&c->units, &position, NULL, &value);)
		unit_free(value);
	map_done(&c->machines);
	map_done(&c->units);
	cluster_written_clear(c);
	cluster_leftovers_clear(c);
	map_init(&c->machines, 0);
	map_init(&c->units, 0);
	scheduler_free(c->scheduler);
	c->scheduler = scheduler_new();
}

struct cluster *cluster_free(struct cluster *c)
{
	if (!c)
		return NULL;
	cluster_clear(c);
	map_done(&c->machines);
	map_done(&c->texts);
	map_done(&c->units);
	map_done(&c->bare);
	map_done(&c->garbage);
	map_done(&c->indexed);
	map_done(&c->epochs);
	map_done(&c->written);
	scheduler_free(c->scheduler);
	free(c);
	return NULL;
}

void cluster_observe(struct cluster *c, const struct cluster_observer *observer)
{
	c->observer = *observer;
}

/* ---- questions ---- */

struct scheduler *cluster_scheduler(const struct cluster *c)
{
	return c->scheduler;
}

const struct cluster_machine *cluster_machine(const struct cluster *c, const char *id)
{
	const struct cluster_machine *machine = map_get(&c->machines, slice_str(id));

	return machine && machine->present ? machine : NULL;
}

const struct cluster_unit *cluster_entry(const struct cluster *c, const char *name)
{
	return map_get(&c->units, slice_str(name));
}

const struct cluster_unit *cluster_unit(const struct cluster *c, const char *name)
{
	const struct cluster_unit *unit = cluster_entry(c, name);

	return unit && unit->planned ? unit : NULL;
}

const struct cluster_state *cluster_unit_state(const struct cluster_unit *unit, const char *machine)
{
	for (size_t i = 0; i < unit->state_count; i++)
		if (strcmp(unit->states[i].state.machine, machine) == 0)
			return &unit->states[i];
	return NULL;
}

enum registry_state cluster_unit_current(const struct cluster_unit *unit)
{
	if (!unit->target || !cluster_unit_state(unit, unit->target))
		return REGISTRY_INACTIVE;
	if (unit->heartbeat && strcmp(unit->heartbeat, unit->target) == 0)
		return REGISTRY_LAUNCHED;
	return REGISTRY_LOADED;
}

static int machines_by_id(const void *a, const void *b)
{
	return strcmp((*(const struct cluster_machine *const *)a)->id,
		(*(const struct cluster_machine *const *)b)->id);
}

static int units_by_name(const void *a, const void *b)
{
	return strcmp((*(const struct cluster_unit *const *)a)->name,
		(*(const struct cluster_unit *const *)b)->name);
}

const struct cluster_machine **cluster_machines(const struct cluster *c, size_t *ret_count)
{
	const struct cluster_machine **machines =
		mem_new_array(const struct cluster_machine *, c->machines.count + 1);
	size_t count = 0, position = 0;
	void *value;

	while (map_next(&c->machines, &position, NULL, &value))
		if (((struct cluster_machine *)value)->present)
			machines[count++] = value;
	qsort(machines, count, sizeof(*machines), machines_by_id);
	*ret_count = count;
	return machines;
}

const struct cluster_unit **cluster_entries(const struct cluster *c, size_t *ret_count)
{
	const struct cluster_unit **units = mem_new_array(const struct cluster_unit *, c->units.count + 1);
	size_t count = 0, position = 0;
	void *value;

	while (map_next(&c->units, &position, NULL, &value))
		units[count++] = value;
	qsort(units, count, sizeof(*units), units_by_name);
	*ret_count = count;
	return units;
}

const struct cluster_unit *cluster_next_entry(const struct cluster *c, size_t *position)
{
	void *unit;

	return map_next(&c->units, position, NULL, &unit) ? unit : NULL;
}

size_t cluster_unit_count(const struct cluster *c)
{
	return c->units.count;
}
