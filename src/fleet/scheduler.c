/* Machines stand in one array ordered by (load, ID); a placement walks it until a machine is able, and a
 * change of load moves one entry. Changes mark units dirty: the unit itself, the followers of a unit that
 * came or went (MachineOf), the units on a machine that changed or went. Units that no machine takes wait;
 * they are tried again only on machines that were freed (a unit left, metadata changed, the machine is new).
 * A run works in rounds: check every dirty unit that has a target, then place what has none, in order of
 * names, until nothing is dirty. A unit that others replace wherever it goes may be placed several times in a
 * run; rules that chase each other in a circle cannot spin, as the number of times has a limit. */
#include "fleet/scheduler_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLACEMENTS_PER_RUN_MAX 8

/* ---- small lists ---- */

void scheduler_list_add(struct sched_list *list, struct sched_unit *unit)
{
	if (list->count == list->cap) {
		list->cap = list->cap ? list->cap * 2 : 8;
		list->items = mem_reallocarray(list->items, list->cap, sizeof(*list->items));
	}
	list->items[list->count++] = unit;
}

static void list_drop(struct sched_list *list, const struct sched_unit *unit)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i] != unit)
			continue;
		memmove(list->items + i, list->items + i + 1, (list->count - i - 1) * sizeof(*list->items));
		list->count--;
		return;
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct sched_unit *const *)a)->name, (*(struct sched_unit *const *)b)->name);
}

static void list_sort(struct sched_list *list)
{
	if (list->count > 1)
		qsort(list->items, list->count, sizeof(*list->items), by_name);
}

/* ---- the order of machines ---- */

static int machine_compare(size_t load, const char *id, const struct sched_machine *machine)
{
	if (load != machine->load)
		return load < machine->load ? -1 : 1;
	return strcmp(id, machine->id);
}

/* Where a machine of that load and ID stands, or would stand. */
static size_t order_find(const struct scheduler *s, size_t load, const char *id)
{
	size_t low = 0, high = s->order_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (machine_compare(load, id, s->order[mid]) > 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void order_insert(struct scheduler *s, struct sched_machine *machine)
{
	size_t at = order_find(s, machine->load, machine->id);

	if (s->order_count == s->order_cap) {
		s->order_cap = s->order_cap ? s->order_cap * 2 : 16;
		s->order = mem_reallocarray(s->order, s->order_cap, sizeof(*s->order));
	}
	memmove(s->order + at + 1, s->order + at, (s->order_count - at) * sizeof(*s->order));
	s->order[at] = machine;
	s->order_count++;
}

static void order_remove(struct scheduler *s, const struct sched_machine *machine)
{
	size_t at = order_find(s, machine->load, machine->id);

	assert(at < s->order_count && s->order[at] == machine);
	s->order_count--;
	memmove(s->order + at, s->order + at + 1, (s->order_count - at) * sizeof(*s->order));
}

static void machine_count_load(struct scheduler *s, struct sched_machine *machine)
{
	size_t load = machine->units.count + machine->globals.count;

	if (load == machine->load)
		return;
	if (machine->present)
		order_remove(s, machine);
	machine->load = load;
	if (machine->present)
		order_insert(s, machine);
}

/* ---- changes ---- */

static void mark_dirty(struct scheduler *s, struct sched_unit *unit)
{
	if (unit->dirty)
		return;
	unit->dirty = true;
	scheduler_list_add(&s->dirty, unit);
}

static void mark_freed(struct scheduler *s, struct sched_machine *machine)
{
	if (machine->freed || !machine->present)
		return;
	if (s->freed_count == s->freed_cap) {
		s->freed_cap = s->freed_cap ? s->freed_cap * 2 : 8;
		s->freed = mem_reallocarray(s->freed, s->freed_cap, sizeof(struct sched_machine *));
	}
	machine->freed = true;
	s->freed[s->freed_count++] = machine;
}

static void forget_freed(struct scheduler *s, struct sched_machine *machine)
{
	for (size_t i = 0; machine->freed && i < s->freed_count; i++)
		if (s->freed[i] == machine) {
			s->freed[i] = s->freed[--s->freed_count];
			machine->freed = false;
		}
}

static void mark_followers(struct scheduler *s, const char *name)
{
	struct sched_followers *followers = map_get(&s->followers, slice_str(name));

	for (size_t i = 0; followers && i < followers->units.count; i++)
		mark_dirty(s, followers->units.items[i]);
}

/* Works out which global units run on the machine, and what that changes. */
static void machine_place_globals(struct scheduler *s, struct sched_machine *machine)
{
	struct sched_list old = machine->globals;
	struct slice unused;

	machine->globals = (struct sched_list){0};
	for (size_t i = 0; machine->present && i < s->globals.count; i++) {
		struct sched_unit *unit = s->globals.items[i];

		if (!unit->wanted || !scheduler_metadata_fits(unit, machine) ||
			scheduler_conflict_in(unit, &machine->units, &unused) ||
			scheduler_conflict_in(unit, &machine->globals, &unused))
			continue;
		if (unit->rules.has_machine_id &&
			!unit_machine_id_match(unit->rules.machine_id, slice_str(machine->id)))
			continue;
		scheduler_list_add(&machine->globals, unit);
		if (scheduler_list_has(&old, unit))
			continue;
		scheduler_note_global(s, unit, machine);
		mark_followers(s, unit->name);
	}
	for (size_t i = 0; i < old.count; i++) {
		if (scheduler_list_has(&machine->globals, old.items[i]))
			continue;
		scheduler_note_global(s, old.items[i], machine);
		mark_freed(s, machine);
		mark_followers(s, old.items[i]->name);
	}
	free(old.items);
	machine_count_load(s, machine);
}

static void machine_units_changed(
	struct scheduler *s, struct sched_machine *machine, const struct sched_unit *cause)
{
	if (s->globals.count && (s->globals_patterned || cause->patterned))
		machine_place_globals(s, machine);
	else
		machine_count_load(s, machine);
}

static void machine_free_if_unused(struct scheduler *s, struct sched_machine *machine)
{
	if (machine->present || machine->units.count)
		return;
	map_remove(&s->machines, slice_str(machine->id));
	forget_freed(s, machine);
	free(machine->units.items);
	free(machine->globals.items);
	arena_done(&machine->arena);
	free(machine->id);
	free(machine);
}

static struct sched_machine *machine_get(struct scheduler *s, const char *id)
{
	struct sched_machine *machine = map_get(&s->machines, slice_str(id));

	if (!machine) {
		machine = mem_new(struct sched_machine);
		machine->id = mem_strdup(id);
		arena_init(&machine->arena);
		map_put(&s->machines, slice_str(id), machine);
	}
	return machine;
}

static void unit_leave(struct scheduler *s, struct sched_unit *unit)
{
	struct sched_machine *machine = unit->machine;
	struct sched_unit *last;

	if (!machine)
		return;
	assert(machine->units.items[unit->slot] == unit);
	last = machine->units.items[--machine->units.count];
	machine->units.items[unit->slot] = last;
	last->slot = unit->slot;
	unit->machine = NULL;
	mark_freed(s, machine);
	machine_units_changed(s, machine, unit);
	mark_followers(s, unit->name);
	machine_free_if_unused(s, machine);
}

static void unit_enter(struct scheduler *s, struct sched_unit *unit, struct sched_machine *machine)
{
	struct slice unused;

	assert(!unit->machine);
	unit->machine = machine;
	unit->slot = machine->units.count;
	scheduler_list_add(&machine->units, unit);
	machine_units_changed(s, machine, unit);
	mark_followers(s, unit->name);
	for (size_t i = 0; unit->rules.replaces.count && i < machine->units.count; i++)
		if (scheduler_unit_replaces(s, unit, machine->units.items[i], &unused))
			mark_dirty(s, machine->units.items[i]);
}

static void unit_set_waiting(struct scheduler *s, struct sched_unit *unit, bool waiting)
{
	struct sched_unit *last;

	if (unit->waiting == waiting)
		return;
	unit->waiting = waiting;
	if (waiting) {
		unit->waiting_slot = s->waiting.count;
		scheduler_list_add(&s->waiting, unit);
		return;
	}
	last = s->waiting.items[--s->waiting.count];
	s->waiting.items[unit->waiting_slot] = last;
	last->waiting_slot = unit->waiting_slot;
}

/* ---- indexes of a unit's rules ---- */

static void follow_peers(struct scheduler *s, struct sched_unit *unit, bool follow)
{
	for (size_t i = 0; i < unit->rules.machine_of.count; i++) {
		struct slice name = unit->rules.machine_of.items[i];
		struct sched_followers *followers = map_get(&s->followers, name);

		if (!followers) {
			if (!follow)
				continue;
			followers = mem_new(struct sched_followers);
			map_put(&s->followers, name, followers);
		}
		if (follow && !scheduler_list_has(&followers->units, unit))
			scheduler_list_add(&followers->units, unit);
		else if (!follow)
			list_drop(&followers->units, unit);
		if (!followers->units.count) {
			map_remove(&s->followers, name);
			free(followers->units.items);
			free(followers);
		}
	}
}

static void index_rules(struct scheduler *s, struct sched_unit *unit, bool add)
{
	follow_peers(s, unit, add);
	if (unit->rules.replaces.count && add)
		scheduler_list_add(&s->replacing, unit);
	else if (unit->rules.replaces.count)
		list_drop(&s->replacing, unit);
	/* Circles may have closed or opened anywhere. */
	s->replacing_changed |=
		unit->rules.replaces.count || (s->replacing.count && unit->rules.machine_of.count);
	if (!unit->rules.global)
		return;
	if (add) {
		scheduler_list_add(&s->globals, unit);
		list_sort(&s->globals);
	} else {
		list_drop(&s->globals, unit);
	}
	s->globals_patterned = false;
	for (size_t i = 0; i < s->globals.count; i++)
		s->globals_patterned |= s->globals.items[i]->patterned;
	s->globals_changed = true;
}

void scheduler_refresh_globals(struct scheduler *s)
{
	size_t position = 0;
	void *value;

	if (!s->globals_changed)
		return;
	s->globals_changed = false;
	while (map_next(&s->machines, &position, NULL, &value)) {
		machine_place_globals(s, value);
		mark_freed(s, value); /* a global unit may have gone, or lost a rule */
	}
}

/* ---- public: what is known ---- */

struct scheduler *scheduler_new(void)
{
	struct scheduler *s = mem_new(struct scheduler);

	map_init(&s->machines, 0);
	map_init(&s->units, 0);
	map_init(&s->followers, 0);
	arena_init(&s->run_arena);
	arena_init(&s->answer_arena);
	arena_init(&s->change_arena);
	return s;
}

static void unit_free(struct sched_unit *unit)
{
	arena_done(&unit->rules.arena);
	free(unit->name);
	free(unit);
}

struct scheduler *scheduler_free(struct scheduler *s)
{
	size_t position;
	void *value;

	if (!s)
		return NULL;
	for (position = 0; map_next(&s->units, &position, NULL, &value);)
		unit_free(value);
	for (position = 0; map_next(&s->machines, &position, NULL, &value);) {
		struct sched_machine *machine = value;

		free(machine->units.items);
		free(machine->globals.items);
		arena_done(&machine->arena);
		free(machine->id);
		free(machine);
	}
	for (position = 0; map_next(&s->followers, &position, NULL, &value);) {
		free(((struct sched_followers *)value)->units.items);
		free(value);
	}
	map_done(&s->units);
	map_done(&s->machines);
	map_done(&s->followers);
	free(s->order);
	free(s->freed);
	free(s->dirty.items);
	free(s->waiting.items);
	free(s->globals.items);
	free(s->changes);
	arena_done(&s->change_arena);
	free(s->replacing.items);
	free(s->touched.items);
	free(s->trail.items);
	arena_done(&s->run_arena);
	arena_done(&s->answer_arena);
	free(s);
	return NULL;
}

void scheduler_put_machine(
	struct scheduler *s, const char *id, const struct scheduler_pair *metadata, size_t count)
{
	struct sched_machine *machine = machine_get(s, id);

	arena_reset(&machine->arena);
	machine->metadata = count ? arena_alloc(&machine->arena, count * sizeof(*metadata)) : NULL;
	machine->metadata_count = count;
	for (size_t i = 0; i < count; i++) {
		machine->metadata[i].key =
			arena_strndup(&machine->arena, metadata[i].key, strlen(metadata[i].key));
		machine->metadata[i].value =
			arena_strndup(&machine->arena, metadata[i].value, strlen(metadata[i].value));
	}
	if (!machine->present) {
		machine->present = true;
		order_insert(s, machine);
	}
	machine_place_globals(s, machine);
	mark_freed(s, machine);
	for (size_t i = 0; i < machine->units.count; i++)
		mark_dirty(s, machine->units.items[i]);
}

void scheduler_remove_machine(struct scheduler *s, const char *id)
{
	struct sched_machine *machine = map_get(&s->machines, slice_str(id));

	if (!machine || !machine->present)
		return;
	order_remove(s, machine);
	machine->present = false;
	machine_place_globals(s, machine);
	forget_freed(s, machine);
	for (size_t i = 0; i < machine->units.count; i++)
		mark_dirty(s, machine->units.items[i]);
	machine_free_if_unused(s, machine);
}

static void unit_set_rules(
	struct scheduler *s, struct sched_unit *unit, const struct unit_requirements *rules)
{
	scheduler_rules_copy(&unit->rules, rules);
	unit->patterned = rules->conflicts.count > 0;
	index_rules(s, unit, true);
}

void scheduler_put_unit(
	struct scheduler *s, const char *name, const struct unit_requirements *rules, bool wanted)
{
	struct sched_unit *unit = map_get(&s->units, slice_str(name));

	if (!unit) {
		unit = mem_new(struct sched_unit);
		unit->name = mem_strdup(name);
		map_put(&s->units, slice_str(name), unit);
		unit_set_rules(s, unit, rules);
	} else if (!scheduler_rules_equal(&unit->rules, rules)) {
		index_rules(s, unit, false);
		arena_done(&unit->rules.arena);
		unit_set_rules(s, unit, rules);
	}
	s->globals_changed |= unit->rules.global && unit->wanted != wanted;
	unit->wanted = wanted;
	unit_set_waiting(s, unit, false);
	mark_dirty(s, unit);
	/* Fewer rules on a placed unit may make room for others on its machine. */
	if (unit->machine) {
		mark_freed(s, unit->machine);
		if (s->globals.count)
			machine_place_globals(s, unit->machine);
	}
}

void scheduler_remove_unit(struct scheduler *s, const char *name)
{
	struct sched_unit *unit = map_get(&s->units, slice_str(name));

	if (!unit)
		return;
	unit_leave(s, unit);
	index_rules(s, unit, false);
	scheduler_refresh_globals(s);
	unit_set_waiting(s, unit, false);
	if (unit->dirty)
		list_drop(&s->dirty, unit);
	map_remove(&s->units, slice_str(name));
	mark_followers(s, name);
	unit_free(unit);
}

void scheduler_set_target(struct scheduler *s, const char *name, const char *machine_id)
{
	struct sched_unit *unit = map_get(&s->units, slice_str(name));

	if (!unit)
		return;
	if (machine_id ? unit->machine && strcmp(unit->machine->id, machine_id) == 0 : !unit->machine)
		return;
	unit_leave(s, unit);
	if (machine_id) {
		unit_set_waiting(s, unit, false);
		unit_enter(s, unit, machine_get(s, machine_id));
	}
	mark_dirty(s, unit);
}

void scheduler_touch_all(struct scheduler *s)
{
	size_t position = 0;
	void *value;

	while (map_next(&s->units, &position, NULL, &value))
		mark_dirty(s, value);
}

void scheduler_touch_unit(struct scheduler *s, const char *name)
{
	struct sched_unit *unit = map_get(&s->units, slice_str(name));

	if (unit)
		mark_dirty(s, unit);
}

/* ---- public: decisions ---- */

static void note_change(struct scheduler *s, struct sched_unit *unit)
{
	if (unit->run == s->run)
		return;
	unit->run = s->run;
	unit->run_placements = 0;
	unit->run_from = unit->machine
				 ? arena_strndup(&s->run_arena, unit->machine->id, strlen(unit->machine->id))
				 : NULL;
	scheduler_list_add(&s->touched, unit);
}

static void check_placed(struct scheduler *s, struct sched_unit *unit)
{
	if (!unit->machine)
		return;
	if (unit->wanted && !unit->rules.global && unit->machine->present &&
		scheduler_refusal_of(s, unit, unit->machine, NULL) == SCHEDULER_RULE_NONE)
		return;
	note_change(s, unit);
	unit_leave(s, unit);
}

/* Whether the unit's peers will be where they are after this round: who follows one that has to leave would
 * only chase others away on the way. */
static bool peers_stay(struct scheduler *s, struct sched_unit *unit)
{
	struct sched_list trail = {0};
	bool stay = true;

	s->peer_walk++;
	unit->peer_walk = s->peer_walk;
	do {
		for (size_t i = 0; stay && i < unit->rules.machine_of.count; i++) {
			struct sched_unit *peer = map_get(&s->units, unit->rules.machine_of.items[i]);

			if (!peer || !peer->machine || peer->peer_walk == s->peer_walk)
				continue;
			peer->peer_walk = s->peer_walk;
			stay = scheduler_refusal_of(s, peer, peer->machine, NULL) == SCHEDULER_RULE_NONE;
			scheduler_list_add(&trail, peer);
		}
		unit = trail.count ? trail.items[--trail.count] : NULL;
	} while (stay && unit);
	free(trail.items);
	return stay;
}

static struct sched_machine *find_machine(
	struct scheduler *s, struct sched_unit *unit, struct sched_machine **machines, size_t count)
{
	/* A follower can go only where its first peer is. */
	if (unit->rules.machine_of.count) {
		const struct sched_unit *peer = map_get(&s->units, unit->rules.machine_of.items[0]);

		if (!peer || !peers_stay(s, unit))
			return NULL;
		if (!peer->rules.global)
			return peer->machine && peer->machine->present &&
					       scheduler_refusal_of(s, unit, peer->machine, NULL) ==
						       SCHEDULER_RULE_NONE
				       ? peer->machine
				       : NULL;
	}
	for (size_t i = 0; i < count; i++)
		if (scheduler_refusal_of(s, unit, machines[i], NULL) == SCHEDULER_RULE_NONE)
			return machines[i];
	return NULL;
}

static void place(struct scheduler *s, struct sched_unit *unit, struct sched_machine **machines, size_t count)
{
	struct sched_machine *machine = NULL;

	if (unit->machine || !unit->wanted || unit->rules.global) {
		unit_set_waiting(s, unit, false);
		return;
	}
	note_change(s, unit);
	if (unit->run_placements < PLACEMENTS_PER_RUN_MAX)
		machine = find_machine(s, unit, machines, count);
	unit_set_waiting(s, unit, !machine);
	if (!machine)
		return;
	unit->run_placements++;
	unit_enter(s, unit, machine);
}

static int by_load(const void *a, const void *b)
{
	const struct sched_machine *one = *(struct sched_machine *const *)a,
				   *two = *(struct sched_machine *const *)b;

	return machine_compare(one->load, one->id, two);
}

/* Units that were dirty may go anywhere, units that wait only to the machines freed since they were refused;
 * both in one walk in order of names. */
static void place_round(
	struct scheduler *s, struct sched_list *dirty, struct sched_machine **freed, size_t freed_count)
{
	struct sched_list both = {0};
	bool few = freed_count * 4 < s->order_count, sorted = false;

	for (size_t i = 0; i < dirty->count; i++)
		scheduler_list_add(&both, dirty->items[i]);
	for (size_t i = 0; freed_count && i < s->waiting.count; i++)
		if (!s->waiting.items[i]->anywhere)
			scheduler_list_add(&both, s->waiting.items[i]);
	list_sort(&both);
	for (size_t i = 0; i < both.count; i++) {
		struct sched_unit *unit = both.items[i];

		if (unit->anywhere || !few) {
			place(s, unit, s->order, s->order_count);
		} else {
			if (!sorted)
				qsort(freed, freed_count, sizeof(struct sched_machine *), by_load);
			sorted = true;
			place(s, unit, freed, freed_count);
		}
		if (unit->machine) /* a placement changed a load */
			sorted = false;
		unit->anywhere = false;
	}
	free(both.items);
}

static void run_round(struct scheduler *s)
{
	struct sched_list dirty = s->dirty;
	struct sched_machine **freed;
	size_t freed_count;

	s->dirty = (struct sched_list){0};
	list_sort(&dirty);
	for (size_t i = 0; i < dirty.count; i++) {
		dirty.items[i]->dirty = false;
		dirty.items[i]->anywhere = true;
	}
	for (size_t i = 0; i < dirty.count; i++)
		check_placed(s, dirty.items[i]);
	freed = s->freed;
	freed_count = s->freed_count;
	s->freed = NULL;
	s->freed_count = s->freed_cap = 0;
	for (size_t i = 0; i < freed_count; i++)
		freed[i]->freed = false;
	place_round(s, &dirty, freed, freed_count);
	free(freed);
	free(dirty.items);
}

size_t scheduler_run(struct scheduler *s, const struct scheduler_decision **ret_decisions)
{
	struct scheduler_decision *decisions;
	size_t count = 0;

	arena_reset(&s->run_arena);
	s->run++;
	s->touched.count = 0;
	scheduler_refresh_globals(s);
	if (s->replacing_changed)
		scheduler_touch_all(s);
	s->replacing_changed = false;
	while (s->dirty.count || s->freed_count)
		run_round(s);
	decisions = arena_alloc(&s->run_arena, (s->touched.count + 1) * sizeof(*decisions));
	for (size_t i = 0; i < s->touched.count; i++) {
		const struct sched_unit *unit = s->touched.items[i];
		const char *to = unit->machine ? unit->machine->id : NULL;

		if (unit->run_from && to ? strcmp(unit->run_from, to) == 0 : unit->run_from == to)
			continue;
		decisions[count++] =
			(struct scheduler_decision){.unit = unit->name, .from = unit->run_from, .to = to};
	}
	*ret_decisions = decisions;
	return count;
}

/* ---- public: questions ---- */

const char *scheduler_target(const struct scheduler *s, const char *name)
{
	const struct sched_unit *unit = map_get(&s->units, slice_str(name));

	return unit && unit->machine ? unit->machine->id : NULL;
}

size_t scheduler_load(const struct scheduler *s, const char *machine_id)
{
	const struct sched_machine *machine = map_get(&s->machines, slice_str(machine_id));

	return machine && machine->present ? machine->load : 0;
}

size_t scheduler_machine_count(const struct scheduler *s)
{
	return s->order_count;
}

bool scheduler_global_runs(struct scheduler *s, const char *name, const char *machine_id)
{
	const struct sched_machine *machine = map_get(&s->machines, slice_str(machine_id));
	const struct sched_unit *unit = map_get(&s->units, slice_str(name));

	scheduler_refresh_globals(s);
	return machine && unit && scheduler_list_has(&machine->globals, unit);
}

static int by_machine(const void *a, const void *b)
{
	return strcmp(((const struct scheduler_refusal *)a)->machine,
		((const struct scheduler_refusal *)b)->machine);
}

int scheduler_explain(struct scheduler *s, const char *name, const struct scheduler_refusal **ret_refusals,
	size_t *ret_count)
{
	struct sched_unit *unit = map_get(&s->units, slice_str(name));
	struct scheduler_refusal *refusals;
	size_t count = 0;

	if (!unit)
		return -ENOENT;
	scheduler_refresh_globals(s);
	arena_reset(&s->answer_arena);
	refusals = arena_alloc(&s->answer_arena, (s->order_count + 1) * sizeof(*refusals));
	for (size_t i = 0; i < s->order_count; i++) {
		_cleanup_buf_ struct buf detail = BUF_INIT(4096);
		enum scheduler_rule rule = scheduler_refusal_of(s, unit, s->order[i], &detail);

		if (rule == SCHEDULER_RULE_NONE)
			continue;
		refusals[count++] = (struct scheduler_refusal){.machine = s->order[i]->id,
			.rule = rule,
			.detail = arena_strndup(&s->answer_arena, buf_text(&detail), detail.len)};
	}
	qsort(refusals, count, sizeof(*refusals), by_machine);
	*ret_refusals = refusals;
	*ret_count = count;
	return 0;
}
