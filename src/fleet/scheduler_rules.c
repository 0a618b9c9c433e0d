/* The rules: may this unit run on that machine, and if not, by which rule and why. */
#include "fleet/scheduler_internal.h"

#include <string.h>

static const char *const rule_names[SCHEDULER_RULE_MAX] = {
	[SCHEDULER_RULE_NONE] = "none",
	[SCHEDULER_RULE_MACHINE_ID] = "MachineID",
	[SCHEDULER_RULE_METADATA] = "MachineMetadata",
	[SCHEDULER_RULE_MACHINE_OF] = "MachineOf",
	[SCHEDULER_RULE_CONFLICTS] = "Conflicts",
	[SCHEDULER_RULE_REPLACES] = "Replaces",
};

const char *scheduler_rule_name(enum scheduler_rule rule)
{
	return rule_names[rule];
}

static bool pattern_match(const struct unit_slices *patterns, const char *name, struct slice *ret_pattern)
{
	for (size_t i = 0; i < patterns->count; i++)
		if (unit_glob_match(patterns->items[i], slice_str(name))) {
			*ret_pattern = patterns->items[i];
			return true;
		}
	return false;
}

static bool conflict_between(
	const struct sched_unit *a, const struct sched_unit *b, struct slice *ret_pattern)
{
	if (a == b)
		return false;
	return pattern_match(&a->rules.conflicts, b->name, ret_pattern) ||
	       pattern_match(&b->rules.conflicts, a->name, ret_pattern);
}

/* ---- walks from unit to unit, however long the chain ---- */

static void visit(struct scheduler *s, struct sched_unit *unit)
{
	if (unit->walk == s->walk)
		return;
	unit->walk = s->walk;
	scheduler_list_add(&s->trail, unit);
}

static void visit_peers(struct scheduler *s, const struct sched_unit *unit)
{
	for (size_t i = 0; i < unit->rules.machine_of.count; i++) {
		struct sched_unit *peer = map_get(&s->units, unit->rules.machine_of.items[i]);

		if (peer)
			visit(s, peer);
	}
}

static void visit_replaced(struct scheduler *s, const struct sched_unit *unit)
{
	struct slice unused;

	for (size_t i = 0; unit->rules.replaces.count && i < s->replacing.count; i++)
		if (s->replacing.items[i]->walk != s->walk &&
			pattern_match(&unit->rules.replaces, s->replacing.items[i]->name, &unused))
			visit(s, s->replacing.items[i]);
}

/* Whether steps of that kind lead from the unit to the other one. */
static bool leads_to(struct scheduler *s, const struct sched_unit *unit, const struct sched_unit *other,
	void (*step)(struct scheduler *s, const struct sched_unit *unit))
{
	s->walk++;
	s->trail.count = 0;
	for (step(s, unit); s->trail.count && other->walk != s->walk;)
		step(s, s->trail.items[--s->trail.count]);
	return other->walk == s->walk;
}

bool scheduler_unit_replaces(struct scheduler *s, const struct sched_unit *unit,
	const struct sched_unit *other, struct slice *ret_pattern)
{
	if (unit == other || !pattern_match(&unit->rules.replaces, other->name, ret_pattern))
		return false;
	/* It has Replaces itself, so that the walk can meet it. */
	return !leads_to(s, other, unit, visit_replaced) && !leads_to(s, unit, other, visit_peers);
}

static struct slice machine_metadata_get(void *userdata, struct slice key)
{
	const struct sched_machine *machine = userdata;

	for (size_t i = 0; i < machine->metadata_count; i++)
		if (slice_is(key, machine->metadata[i].key))
			return slice_str(machine->metadata[i].value);
	return (struct slice){0};
}

bool scheduler_metadata_fits(const struct sched_unit *unit, struct sched_machine *machine)
{
	return unit_metadata_match(&unit->rules, machine_metadata_get, machine);
}

bool scheduler_list_has(const struct sched_list *list, const struct sched_unit *unit)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->items[i] == unit)
			return true;
	return false;
}

static bool peers_are_there(struct scheduler *s, const struct sched_unit *unit,
	const struct sched_machine *machine, struct buf *detail)
{
	for (size_t i = 0; i < unit->rules.machine_of.count; i++) {
		struct slice name = unit->rules.machine_of.items[i];
		const struct sched_unit *peer = map_get(&s->units, name);
		bool there = peer && (peer->rules.global ? scheduler_list_has(&machine->globals, peer)
							 : peer->machine == machine);

		if (there)
			continue;
		if (detail) {
			buf_printf(detail, "%.*s ", (int)name.len, name.data);
			if (!peer)
				buf_add_str(detail, "does not exist");
			else if (peer->machine)
				buf_printf(detail, "is on %.8s", peer->machine->id);
			else
				buf_add_str(detail, "is not here");
			buf_printf(detail, " (MachineOf=%.*s)", (int)name.len, name.data);
		}
		return false;
	}
	return true;
}

const struct sched_unit *scheduler_conflict_in(
	const struct sched_unit *unit, const struct sched_list *list, struct slice *ret_pattern)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct sched_unit *other = list->items[i];

		if ((unit->patterned || other->patterned) && conflict_between(unit, other, ret_pattern))
			return other;
	}
	return NULL;
}

static void describe_metadata(
	const struct sched_unit *unit, struct sched_machine *machine, struct buf *detail)
{
	for (size_t i = 0; i < unit->rules.metadata_count; i++) {
		const struct unit_metadata *wanted = &unit->rules.metadata[i];
		struct slice has = machine_metadata_get(machine, wanted->key);
		bool fits = false;

		for (size_t k = 0; k < unit->rules.metadata_count; k++)
			if (slice_equal(unit->rules.metadata[k].key, wanted->key) && has.data &&
				slice_equal(unit->rules.metadata[k].value, has))
				fits = true;
		if (fits)
			continue;
		if (has.data)
			buf_printf(detail, "its %.*s is %.*s", (int)wanted->key.len, wanted->key.data,
				(int)has.len, has.data);
		else
			buf_printf(detail, "it has no %.*s", (int)wanted->key.len, wanted->key.data);
		buf_printf(detail, " (MachineMetadata=%.*s=%.*s)", (int)wanted->key.len, wanted->key.data,
			(int)wanted->value.len, wanted->value.data);
		return;
	}
}

/* The first rule by which the machine refuses the unit; `detail` (may be NULL) gets the reason. */
enum scheduler_rule scheduler_refusal_of(
	struct scheduler *s, const struct sched_unit *unit, struct sched_machine *machine, struct buf *detail)
{
	struct slice pattern;
	const struct sched_unit *other;

	if (unit->rules.has_machine_id &&
		!unit_machine_id_match(unit->rules.machine_id, slice_str(machine->id))) {
		if (detail)
			buf_printf(detail, "it is not the machine wanted (MachineID=%.*s)",
				(int)unit->rules.machine_id.len, unit->rules.machine_id.data);
		return SCHEDULER_RULE_MACHINE_ID;
	}
	if (!scheduler_metadata_fits(unit, machine)) {
		if (detail)
			describe_metadata(unit, machine, detail);
		return SCHEDULER_RULE_METADATA;
	}
	if (!peers_are_there(s, unit, machine, detail))
		return SCHEDULER_RULE_MACHINE_OF;
	other = scheduler_conflict_in(unit, &machine->units, &pattern);
	if (!other)
		other = scheduler_conflict_in(unit, &machine->globals, &pattern);
	if (other) {
		if (detail)
			buf_printf(detail, "it runs %s (Conflicts=%.*s)", other->name, (int)pattern.len,
				pattern.data);
		return SCHEDULER_RULE_CONFLICTS;
	}
	for (size_t i = 0; i < machine->units.count; i++) {
		other = machine->units.items[i];
		if (!other->rules.replaces.count || !scheduler_unit_replaces(s, other, unit, &pattern))
			continue;
		if (detail)
			buf_printf(detail, "%s replaces it there (Replaces=%.*s)", other->name,
				(int)pattern.len, pattern.data);
		return SCHEDULER_RULE_REPLACES;
	}
	return SCHEDULER_RULE_NONE;
}

/* ---- own copies ---- */

static bool slices_equal(const struct unit_slices *a, const struct unit_slices *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (!slice_equal(a->items[i], b->items[i]))
			return false;
	return true;
}

bool scheduler_rules_equal(const struct unit_requirements *a, const struct unit_requirements *b)
{
	if (a->global != b->global || a->has_machine_id != b->has_machine_id ||
		(a->has_machine_id && !slice_equal(a->machine_id, b->machine_id)) ||
		!slices_equal(&a->machine_of, &b->machine_of) ||
		!slices_equal(&a->conflicts, &b->conflicts) || !slices_equal(&a->replaces, &b->replaces) ||
		a->metadata_count != b->metadata_count)
		return false;
	for (size_t i = 0; i < a->metadata_count; i++)
		if (!slice_equal(a->metadata[i].key, b->metadata[i].key) ||
			!slice_equal(a->metadata[i].value, b->metadata[i].value))
			return false;
	return true;
}

static struct unit_slices slices_copy(struct arena *arena, const struct unit_slices *from)
{
	struct unit_slices copy = {.count = from->count, .cap = from->count};

	if (from->count)
		copy.items = arena_alloc(arena, from->count * sizeof(struct slice));
	for (size_t i = 0; i < from->count; i++)
		copy.items[i] = slice_str(arena_strndup(arena, from->items[i].data, from->items[i].len));
	return copy;
}

/* What a piece takes in an arena at most. */
static size_t room_bytes(size_t bytes)
{
	return bytes + 16;
}

static size_t slices_room_bytes(const struct unit_slices *slices)
{
	size_t bytes = slices->count ? room_bytes(slices->count * sizeof(struct slice)) : 0;

	for (size_t i = 0; i < slices->count; i++)
		bytes += room_bytes(slices->items[i].len + 1);
	return bytes;
}

static size_t rules_room_bytes(const struct unit_requirements *rules)
{
	size_t bytes = slices_room_bytes(&rules->machine_of) + slices_room_bytes(&rules->conflicts) +
		       slices_room_bytes(&rules->replaces);

	if (rules->has_machine_id)
		bytes += room_bytes(rules->machine_id.len + 1);
	if (rules->metadata_count)
		bytes += room_bytes(rules->metadata_count * sizeof(*rules->metadata));
	for (size_t i = 0; i < rules->metadata_count; i++)
		bytes += room_bytes(rules->metadata[i].key.len + 1) +
			 room_bytes(rules->metadata[i].value.len + 1);
	return bytes;
}

void scheduler_rules_copy(struct unit_requirements *to, const struct unit_requirements *from)
{
	*to = (struct unit_requirements){.has_machine_id = from->has_machine_id, .global = from->global};
	/* Of each of many units, for as long as it lives. */
	arena_init_sized(&to->arena, rules_room_bytes(from));
	if (from->has_machine_id)
		to->machine_id =
			slice_str(arena_strndup(&to->arena, from->machine_id.data, from->machine_id.len));
	to->machine_of = slices_copy(&to->arena, &from->machine_of);
	to->conflicts = slices_copy(&to->arena, &from->conflicts);
	to->replaces = slices_copy(&to->arena, &from->replaces);
	to->metadata_count = to->metadata_cap = from->metadata_count;
	if (from->metadata_count)
		to->metadata = arena_alloc(&to->arena, from->metadata_count * sizeof(*to->metadata));
	for (size_t i = 0; i < from->metadata_count; i++) {
		const struct unit_metadata *pair = &from->metadata[i];

		to->metadata[i].key = slice_str(arena_strndup(&to->arena, pair->key.data, pair->key.len));
		to->metadata[i].value =
			slice_str(arena_strndup(&to->arena, pair->value.data, pair->value.len));
	}
}
