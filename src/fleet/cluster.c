/* Keys come one by one and are filed by their path. A full read is a generation: what it did not have is
 * dropped at its end, so that observers hear only of real changes. The scheduler is fed on the way: a unit as
 * soon as object, text and wish are all known, in whatever order they come. */
#include "fleet/cluster.h"

#include <stdlib.h>
#include <string.h>

struct cluster {
	struct map machines, texts, units;
	struct scheduler *scheduler;
	struct cluster_observer observer;
	uint64_t generation;
	size_t textless; /* units that wait for their text */
};

/* ---- telling ---- */

static void tell(const struct cluster *c, void (*fn)(void *, const char *), const char *name)
{
	if (fn)
		fn(c->observer.userdata, name);
}

static char *replace_text(char *old, struct slice value)
{
	free(old);
	return value.data ? mem_strndup(value.data, value.len) : NULL;
}

static bool text_is(const char *text, struct slice value)
{
	return text && slice_is(value, text);
}

/* ---- machines ---- */

static struct cluster_machine *machine_entry(struct cluster *c, struct slice id)
{
	struct cluster_machine *machine = map_get(&c->machines, id);

	if (!machine) {
		machine = mem_new(struct cluster_machine);
		machine->id = mem_strndup(id.data, id.len);
		map_put(&c->machines, id, machine);
	}
	return machine;
}

static void pair_done(struct registry_pair *pair)
{
	free(pair->key);
	free(pair->value);
}

static void pairs_free(struct registry_pair *pairs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pair_done(&pairs[i]);
	free(pairs);
}

static void machine_free(struct cluster_machine *machine)
{
	pairs_free(machine->dynamic, machine->dynamic_count);
	pairs_free(machine->stale, machine->stale_count);
	registry_machine_done(&machine->object);
	free(machine->id);
	free(machine);
}

struct scheduler_pair *cluster_machine_metadata(const struct cluster_machine *machine, size_t *ret_count)
{
	size_t fixed = 0, dynamic = 0, count = 0;
	struct scheduler_pair *pairs = mem_new_array(
		struct scheduler_pair, machine->object.metadata_count + machine->dynamic_count + 1);

	while (fixed < machine->object.metadata_count || dynamic < machine->dynamic_count) {
		const struct registry_pair *one =
			fixed < machine->object.metadata_count ? &machine->object.metadata[fixed] : NULL;
		const struct registry_pair *two =
			dynamic < machine->dynamic_count ? &machine->dynamic[dynamic] : NULL;
		int order = !one ? 1 : !two ? -1 : strcmp(one->key, two->key);
		const struct registry_pair *take = order < 0 ? one : two;

		fixed += order <= 0;
		dynamic += order >= 0;
		if (take->value[0])
			pairs[count++] = (struct scheduler_pair){take->key, take->value};
	}
	*ret_count = count;
	return pairs;
}

static void machine_changed(struct cluster *c, struct cluster_machine *machine)
{
	if (machine->present) {
		size_t count;
		_cleanup_free_ struct scheduler_pair *pairs = cluster_machine_metadata(machine, &count);

		scheduler_put_machine(c->scheduler, machine->id, pairs, count);
	} else {
		scheduler_remove_machine(c->scheduler, machine->id);
	}
	tell(c, c->observer.machine, machine->id);
	if (!machine->present && !machine->dynamic_count) {
		map_remove(&c->machines, slice_str(machine->id));
		machine_free(machine);
	}
}

static void machine_set_object(struct cluster *c, struct slice id, struct slice value)
{
	struct registry_machine object;
	struct cluster_machine *machine;

	if (registry_decode_machine(value, &object) < 0)
		return;
	if (!slice_is(id, object.id)) {
		registry_machine_done(&object);
		return;
	}
	machine = machine_entry(c, id);
	registry_machine_done(&machine->object);
	machine->object = object;
	machine->present = true;
	machine->object_seen = c->generation;
	machine_changed(c, machine);
}

static void machine_remove_object(struct cluster *c, struct slice id)
{
	struct cluster_machine *machine = map_get(&c->machines, id);

	if (!machine || !machine->present)
		return;
	machine->present = false;
	registry_machine_done(&machine->object);
	machine_changed(c, machine);
}

static void machine_set_dynamic(struct cluster *c, struct slice id, struct slice key, struct slice value)
{
	struct cluster_machine *machine = machine_entry(c, id);

	for (size_t i = 0; i < machine->dynamic_count; i++)
		if (slice_is(key, machine->dynamic[i].key)) {
			if (text_is(machine->dynamic[i].value, value))
				return;
			machine->dynamic[i].value = replace_text(machine->dynamic[i].value, value);
			machine_changed(c, machine);
			return;
		}
	if (machine->dynamic_count == REGISTRY_METADATA_MAX)
		return;
	machine->dynamic =
		mem_reallocarray(machine->dynamic, machine->dynamic_count + 1, sizeof(struct registry_pair));
	machine->dynamic[machine->dynamic_count++] =
		(struct registry_pair){mem_strndup(key.data, key.len), mem_strndup(value.data, value.len)};
	machine->dynamic_count = registry_pairs_sort(machine->dynamic, machine->dynamic_count);
	machine_changed(c, machine);
}

static void machine_remove_dynamic(struct cluster *c, struct slice id, struct slice key)
{
	struct cluster_machine *machine = map_get(&c->machines, id);
	size_t kept = 0;

	if (!machine || !machine->dynamic_count)
		return;
	for (size_t i = 0; i < machine->dynamic_count; i++) {
		if (!key.len || slice_is(key, machine->dynamic[i].key))
			pair_done(&machine->dynamic[i]);
		else
			machine->dynamic[kept++] = machine->dynamic[i];
	}
	machine->dynamic_count = kept;
	machine_changed(c, machine);
}

/* ---- units ---- */

static struct cluster_unit *unit_entry(struct cluster *c, struct slice name)
{
	struct cluster_unit *unit = map_get(&c->units, name);

	if (!unit) {
		unit = mem_new(struct cluster_unit);
		unit->name = mem_strndup(name.data, name.len);
		map_put(&c->units, name, unit);
	}
	return unit;
}

static void unit_free(struct cluster_unit *unit)
{
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
		unit->assignment_count)
		return;
	map_remove(&c->units, slice_str(unit->name));
	unit_free(unit);
}

static void unit_set_textless(struct cluster *c, struct cluster_unit *unit, bool textless)
{
	c->textless += textless;
	c->textless -= unit->textless;
	unit->textless = textless;
}

/* Brings the scheduler up to date with the unit. */
static void unit_plan(struct cluster *c, struct cluster_unit *unit)
{
	const struct cluster_text *text = unit->hash[0] ? map_get(&c->texts, slice_str(unit->hash)) : NULL;
	struct unit_requirements rules;

	unit_set_textless(c, unit, unit->hash[0] && !text);
	/* Without a wish it is one that nobody wants to run, as in fleet 1.0: who created it may have been
	 * cut off before that was written. It can be seen, and destroyed. */
	if (!text || !text->file) {
		if (unit->planned)
			scheduler_remove_unit(c->scheduler, unit->name);
		unit->planned = false;
		return;
	}
	unit_requirements_read(text->file, slice_str(unit->name), &rules);
	unit->global = rules.global;
	/* A template is never run itself, whatever its desired state says. */
	scheduler_put_unit(c->scheduler, unit->name, &rules,
		unit->desired != REGISTRY_INACTIVE && !unit_name_is_template(slice_str(unit->name)));
	unit_requirements_done(&rules);
	if (!unit->planned)
		scheduler_set_target(c->scheduler, unit->name, unit->target);
	unit->planned = true;
}

static void unit_changed(struct cluster *c, struct cluster_unit *unit)
{
	unit_plan(c, unit);
	tell(c, c->observer.unit, unit->name);
	unit_drop_if_empty(c, unit);
}

static void unit_target_changed(struct cluster *c, struct cluster_unit *unit)
{
	if (unit->planned)
		scheduler_set_target(c->scheduler, unit->name, unit->target);
	tell(c, c->observer.unit, unit->name);
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
		unit_changed(c, unit);
	} else if (slice_is(field, "target-state")) {
		enum registry_state desired = registry_state_from_name(value);

		unit = unit_entry(c, name);
		unit->desired_seen = c->generation;
		if (desired == REGISTRY_STATE_INVALID)
			desired = REGISTRY_INACTIVE; /* a foreign writer's; what runs is then taken off */
		if (unit->has_desired && unit->desired == desired)
			return;
		unit->has_desired = true;
		unit->desired = desired;
		unit_changed(c, unit);
	} else if (slice_is(field, "target")) {
		unit = unit_entry(c, name);
		unit->target_seen = c->generation;
		if (text_is(unit->target, value))
			return;
		unit->target = replace_text(unit->target, value);
		unit_target_changed(c, unit);
	} else if (slice_is(field, "job-state")) {
		unit = unit_entry(c, name);
		unit->heartbeat_seen = c->generation;
		unit->heartbeat_index = index;
		if (text_is(unit->heartbeat, value))
			return;
		unit->heartbeat = replace_text(unit->heartbeat, value);
		tell(c, c->observer.state, unit->name);
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
		changed = true;
	}
	if ((all || slice_is(field, "target-state")) && unit->has_desired) {
		unit->has_desired = false;
		unit->desired = REGISTRY_INACTIVE;
		changed = true;
	}
	if ((all || slice_is(field, "target")) && unit->target) {
		unit->target = mem_free(unit->target);
		target = true;
	}
	if ((all || slice_is(field, "job-state")) && unit->heartbeat) {
		unit->heartbeat = mem_free(unit->heartbeat);
		heartbeat = true;
	}
	if (heartbeat)
		tell(c, c->observer.state, unit->name);
	if (target && unit->planned)
		scheduler_set_target(c->scheduler, unit->name, NULL);
	if (changed)
		unit_changed(c, unit);
	else if (target)
		unit_target_changed(c, unit);
	else
		unit_drop_if_empty(c, unit);
}

static void set_text(struct cluster *c, struct slice hash, struct slice value)
{
	struct cluster_text *text = map_get(&c->texts, hash);
	uint8_t bytes[UNIT_HASH_SIZE];
	size_t position = 0;
	void *unit;

	if (text) {
		text->seen = c->generation;
		return; /* named by its contents: it never changes */
	}
	if (unit_hash_from_hex(hash, bytes) < 0)
		return;
	text = mem_new(struct cluster_text);
	if (registry_decode_unit(value, &text->raw, &text->raw_len) < 0) {
		free(text);
		return;
	}
	unit_hash_hex(bytes, text->hash);
	if (unit_file_parse(slice_make(text->raw, text->raw_len), &text->file, NULL) < 0)
		text->file = NULL;
	text->seen = c->generation;
	map_put(&c->texts, slice_str(text->hash), text);
	while (c->textless && map_next(&c->units, &position, NULL, &unit))
		if (strcmp(((struct cluster_unit *)unit)->hash, text->hash) == 0)
			unit_changed(c, unit);
}

static void text_free(struct cluster_text *text)
{
	unit_file_free(text->file);
	free(text->raw);
	free(text);
}

/* ---- states and assignments ---- */

static void set_state(
	struct cluster *c, struct slice name, struct slice machine, struct slice value, uint64_t index)
{
	struct registry_unit_state state;
	struct cluster_unit *unit;
	size_t at = 0;

	if (registry_decode_unit_state(value, &state) < 0)
		return;
	state.machine = replace_text(state.machine, machine);
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
	tell(c, c->observer.state, unit->name);
}

/* Drops the states of `machine` (all when empty), or those that a read did not have when `unseen`. */
static void drop_states(struct cluster *c, struct cluster_unit *unit, struct slice machine, bool unseen)
{
	size_t kept = 0;

	for (size_t i = 0; i < unit->state_count; i++) {
		bool drop = unseen ? unit->states[i].seen != c->generation
				   : !machine.len || slice_is(machine, unit->states[i].state.machine);

		if (drop)
			registry_unit_state_done(&unit->states[i].state);
		else
			unit->states[kept++] = unit->states[i];
	}
	if (kept == unit->state_count)
		return;
	unit->state_count = kept;
	tell(c, c->observer.state, unit->name);
}

static void set_assignment(struct cluster *c, struct slice machine, struct slice name, struct slice value)
{
	struct cluster_unit *unit = unit_entry(c, name);
	size_t i = 0;

	while (i < unit->assignment_count && !slice_is(machine, unit->assignments[i].machine))
		i++;
	if (i == unit->assignment_count) {
		unit->assignments = mem_reallocarray(
			unit->assignments, unit->assignment_count + 1, sizeof(struct cluster_assignment));
		unit->assignments[unit->assignment_count++] =
			(struct cluster_assignment){.machine = mem_strndup(machine.data, machine.len)};
	}
	unit->assignments[i].value = replace_text(unit->assignments[i].value, value);
	unit->assignments[i].seen = c->generation;
	tell(c, c->observer.assigned, unit->name);
}

static void drop_assignments(struct cluster *c, struct cluster_unit *unit, struct slice machine, bool unseen)
{
	size_t kept = 0;

	for (size_t i = 0; i < unit->assignment_count; i++) {
		if (unseen ? unit->assignments[i].seen != c->generation
			   : slice_is(machine, unit->assignments[i].machine)) {
			free(unit->assignments[i].machine);
			free(unit->assignments[i].value);
		} else {
			unit->assignments[kept++] = unit->assignments[i];
		}
	}
	if (kept == unit->assignment_count)
		return;
	unit->assignment_count = kept;
	tell(c, c->observer.assigned, unit->name);
}

/* ---- keys ---- */

/* Cuts "a/b/c" into at most `max` parts; the last one keeps the rest. */
static size_t cut_path(const char *path, struct slice *parts, size_t max)
{
	size_t count = 0;

	while (*path && count < max) {
		const char *slash = count + 1 < max ? strchr(path, '/') : NULL;
		size_t len = slash ? (size_t)(slash - path) : strlen(path);

		parts[count++] = slice_make(path, len);
		path += len + (slash ? 1 : 0);
	}
	return count;
}

void cluster_set(struct cluster *c, const char *path, struct slice value, uint64_t index)
{
	struct slice parts[5] = {0};
	size_t count = cut_path(path, parts, 5);

	if (count == 3 && slice_is(parts[0], "job"))
		unit_set_field(c, parts[1], parts[2], value, index);
	else if (count == 3 && slice_is(parts[0], "states"))
		set_state(c, parts[1], parts[2], value, index);
	else if (count == 3 && slice_is(parts[0], "assigned") && !slice_is(parts[2], "epoch"))
		set_assignment(c, parts[1], parts[2], value);
	else if (count == 3 && slice_is(parts[0], "machines") && slice_is(parts[2], "object"))
		machine_set_object(c, parts[1], value);
	else if (count == 4 && slice_is(parts[0], "machines") && slice_is(parts[2], "metadata"))
		machine_set_dynamic(c, parts[1], parts[3], value);
	else if (count == 2 && slice_is(parts[0], "unit"))
		set_text(c, parts[1], value);
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

static void remove_states(struct cluster *c, struct cluster_unit *unit, struct slice machine)
{
	drop_states(c, unit, machine, false);
	unit_drop_if_empty(c, unit);
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
		machine_remove_dynamic(c, id, count == 4 ? parts[3] : (struct slice){0});
	if (count == 2 || slice_is(parts[2], "object"))
		machine_remove_object(c, id);
}

void cluster_remove(struct cluster *c, const char *path)
{
	struct slice parts[5] = {0};
	size_t count = cut_path(path, parts, 5);

	if (count == 0) {
		/* The whole prefix: as a read that found nothing. */
		cluster_begin(c);
		cluster_end(c);
	} else if (slice_is(parts[0], "job")) {
		each_entry(c, parts[1], remove_job, parts[2]);
	} else if (slice_is(parts[0], "states")) {
		each_entry(c, parts[1], remove_states, parts[2]);
	} else if (slice_is(parts[0], "assigned") && count >= 2) {
		each_entry(c, parts[2], remove_assignments, parts[1]);
	} else if (slice_is(parts[0], "machines") && count >= 2) {
		remove_machine(c, parts[1], parts, count);
	}
}

void cluster_begin(struct cluster *c)
{
	size_t position = 0;
	void *value;

	c->generation++;
	while (map_next(&c->machines, &position, NULL, &value)) {
		struct cluster_machine *machine = value;

		pairs_free(machine->stale, machine->stale_count);
		machine->stale = take_ptr(machine->dynamic);
		machine->stale_count = machine->dynamic_count;
		machine->dynamic_count = 0;
	}
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
	size_t position = 0;
	void *value;

	while (map_next(&c->machines, &position, NULL, &value)) {
		struct cluster_machine *machine = value;
		bool had_more = machine->stale_count > 0;

		pairs_free(machine->stale, machine->stale_count);
		machine->stale = NULL;
		machine->stale_count = 0;
		if (machine->object_seen != c->generation) {
			machine->present = false;
			registry_machine_done(&machine->object);
		} else if (!had_more) {
			continue;
		}
		machine_changed(c, machine);
	}
	each_entry(c, (struct slice){0}, sweep_unit, (struct slice){0});
	for (position = 0; map_next(&c->texts, &position, NULL, &value);) {
		struct cluster_text *text = value;

		if (text->seen == c->generation)
			continue;
		map_remove(&c->texts, slice_str(text->hash));
		text_free(text);
	}
}

/* ---- life ---- */

struct cluster *cluster_new(void)
{
	struct cluster *c = mem_new(struct cluster);

	map_init(&c->machines, 0);
	map_init(&c->texts, 0);
	map_init(&c->units, 0);
	c->scheduler = scheduler_new();
	return c;
}

void cluster_clear(struct cluster *c)
{
	size_t position;
	void *value;

	for (position = 0; map_next(&c->machines, &position, NULL, &value);)
		machine_free(value);
	for (position = 0; map_next(&c->texts, &position, NULL, &value);)
		text_free(value);
	for (position = 0; map_next(&c->units, &position, NULL, &value);)
		unit_free(value);
	map_done(&c->machines);
	map_done(&c->texts);
	map_done(&c->units);
	map_init(&c->machines, 0);
	map_init(&c->texts, 0);
	map_init(&c->units, 0);
	scheduler_free(c->scheduler);
	c->scheduler = scheduler_new();
	c->textless = 0;
}

struct cluster *cluster_free(struct cluster *c)
{
	if (!c)
		return NULL;
	cluster_clear(c);
	map_done(&c->machines);
	map_done(&c->texts);
	map_done(&c->units);
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

const struct cluster_text *cluster_text(const struct cluster *c, const char *hash)
{
	return map_get(&c->texts, slice_str(hash));
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

size_t cluster_unit_count(const struct cluster *c)
{
	return c->units.count;
}
