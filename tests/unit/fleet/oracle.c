/* Every question walks over everything, by the words of the rules: slow, and with nothing of the scheduler's.
 */
#include "oracle.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

const char *const oracle_keys[ORACLE_KEYS] = {"disk", "zone"};
const char *const oracle_values[2] = {"a", "b"};

static const char *const ids[ORACLE_MACHINES] = {"11111111-one", "11111111-two", "22222222-other", "m4", "m5",
	"m6", "m7", "m8", "m9", "n1", "n2", "n3"};
static const char *const names[ORACLE_UNITS] = {
	"a.service", "b.timer", "db.service", "w@.x.service", "web@1.service", "web@2.service", "z.service"};
static const char *const patterns[] = {"a.service", "b.timer", "db.service", "web@1.service", "z.service",
	"*.service", "web@*.service", "?.service", "[a-d]*", "[^a-d]*", "w*@*", "*.timer", "none.service",
	"web@[12].service", "[broken", "w@\\.x.service", "*", "*b*"};

void oracle_init(struct oracle *o, int machine_count, bool peers_used, bool replaces_used)
{
	*o = (struct oracle){
		.machine_count = machine_count, .peers_used = peers_used, .replaces_used = replaces_used};
	for (int i = 0; i < ORACLE_MACHINES; i++)
		o->machines[i].id = ids[i];
	for (int i = 0; i < ORACLE_UNITS; i++)
		o->units[i].name = names[i];
}

struct oracle_unit *oracle_find(struct oracle *o, const char *name)
{
	for (int i = 0; i < ORACLE_UNITS; i++)
		if (strcmp(o->units[i].name, name) == 0)
			return &o->units[i];
	return NULL;
}

/* ---- patterns ---- */

/* One character class, from behind its '['; answers the place behind its ']', NULL when malformed. */
static const char *in_class(const char *pattern, char c, bool *ret_in)
{
	bool negated = *pattern == '^', in = false;

	for (pattern += negated; *pattern && *pattern != ']'; pattern++) {
		char low = *pattern, high = low;

		if (pattern[1] == '-') {
			high = pattern[2];
			pattern += 2;
		}
		in |= low <= c && c <= high;
	}
	*ret_in = in != negated;
	return *pattern == ']' ? pattern + 1 : NULL;
}

static bool matches(const char *pattern, const char *name)
{
	bool in = false;

	switch (*pattern) {
	case '\0':
		return !*name;
	case '*':
		return matches(pattern + 1, name) || (*name && matches(pattern, name + 1));
	case '?':
		return *name && matches(pattern + 1, name + 1);
	case '[':
		pattern = in_class(pattern + 1, *name, &in);
		return pattern && *name && in && matches(pattern, name + 1);
	case '\\':
		pattern++;
		break;
	default:
		break;
	}
	return *pattern == *name && matches(pattern + 1, name + 1);
}

static unsigned matching(const char *const list[static ORACLE_LIST])
{
	unsigned units = 0;

	for (int i = 0; i < ORACLE_LIST; i++)
		for (int k = 0; k < ORACLE_UNITS; k++)
			if (list[i] && matches(list[i], names[k]))
				units |= 1u << k;
	return units;
}

/* ---- rules ---- */

static int number(const struct oracle *o, const struct oracle_unit *unit)
{
	return (int)(unit - o->units);
}

static bool conflict(const struct oracle *o, const struct oracle_unit *a, const struct oracle_unit *b)
{
	return a != b && ((a->conflicts_with >> number(o, b) | b->conflicts_with >> number(o, a)) & 1);
}

static unsigned needed_by(const struct oracle_unit *unit)
{
	return unit->needs;
}

static unsigned replaced_by(const struct oracle_unit *unit)
{
	return unit->would_replace;
}

/* Whether steps from unit to unit lead from one to the other. */
static bool reaches(const struct oracle *o, const struct oracle_unit *from, const struct oracle_unit *to,
	unsigned steps(const struct oracle_unit *unit))
{
	unsigned met = 1u << number(o, from);

	for (int round = 0; round < ORACLE_UNITS; round++)
		for (int i = 0; i < ORACLE_UNITS; i++)
			if ((met >> i & 1) && o->units[i].exists)
				met |= steps(&o->units[i]);
	return met >> number(o, to) & 1;
}

bool oracle_replaces(const struct oracle *o, const struct oracle_unit *unit, const struct oracle_unit *other)
{
	return unit != other && (unit->would_replace >> number(o, other) & 1) &&
	       !reaches(o, other, unit, replaced_by) && !reaches(o, unit, other, needed_by);
}

static bool id_fits(const struct oracle_unit *unit, const struct oracle_machine *machine)
{
	const char *wanted = unit->machine_id;

	return !wanted || strcmp(wanted, machine->id) == 0 ||
	       (strlen(wanted) == 8 && strncmp(wanted, machine->id, 8) == 0);
}

/* Of each key that is asked for, one of the values. */
static bool metadata_fit(const struct oracle_unit *unit, const struct oracle_machine *machine)
{
	for (int i = 0; i < unit->metadata_count; i++) {
		bool fits = false;

		for (int k = 0; k < unit->metadata_count; k++)
			if (unit->metadata[k].key == unit->metadata[i].key &&
				unit->metadata[k].value == machine->metadata[unit->metadata[k].key])
				fits = true;
		if (!fits)
			return false;
	}
	return true;
}

static bool is_placed(const struct oracle_unit *unit, const struct oracle_machine *machine)
{
	return unit->exists && unit->target && strcmp(unit->target, machine->id) == 0;
}

bool oracle_runs(const struct oracle *o, const struct oracle_unit *unit, const struct oracle_machine *machine)
{
	if (is_placed(unit, machine))
		return true;
	if (!unit->exists || !unit->global || !unit->wanted || !machine->present || !id_fits(unit, machine) ||
		!metadata_fit(unit, machine))
		return false;
	for (int i = 0; i < ORACLE_UNITS; i++) {
		const struct oracle_unit *other = &o->units[i];

		if (!other->exists || !conflict(o, unit, other))
			continue;
		if (is_placed(other, machine))
			return false;
		/* Names are in order: it is decided by those before. */
		if (other < unit && other->global && oracle_runs(o, other, machine))
			return false;
	}
	return true;
}

enum scheduler_rule oracle_refusal(
	const struct oracle *o, const struct oracle_unit *unit, const struct oracle_machine *machine)
{
	if (!id_fits(unit, machine))
		return SCHEDULER_RULE_MACHINE_ID;
	if (!metadata_fit(unit, machine))
		return SCHEDULER_RULE_METADATA;
	for (int i = 0; i < ORACLE_LIST; i++) {
		bool there = !unit->peers[i];

		for (int k = 0; k < ORACLE_UNITS; k++)
			if (unit->peers[i] && strcmp(o->units[k].name, unit->peers[i]) == 0)
				there = o->units[k].global
						? !o->units[k].target && oracle_runs(o, &o->units[k], machine)
						: is_placed(&o->units[k], machine);
		if (!there)
			return SCHEDULER_RULE_MACHINE_OF;
	}
	for (int i = 0; i < ORACLE_UNITS; i++)
		if (oracle_runs(o, &o->units[i], machine) && conflict(o, unit, &o->units[i]))
			return SCHEDULER_RULE_CONFLICTS;
	for (int i = 0; i < ORACLE_UNITS; i++)
		if (is_placed(&o->units[i], machine) && oracle_replaces(o, &o->units[i], unit))
			return SCHEDULER_RULE_REPLACES;
	return SCHEDULER_RULE_NONE;
}

size_t oracle_load(const struct oracle *o, const struct oracle_machine *machine)
{
	size_t load = 0;

	for (int i = 0; i < ORACLE_UNITS; i++)
		load += oracle_runs(o, &o->units[i], machine);
	return load;
}

static const struct oracle_machine *machine_of(const struct oracle *o, const struct oracle_unit *unit)
{
	for (int i = 0; i < o->machine_count; i++)
		if (unit->target && o->machines[i].present && strcmp(o->machines[i].id, unit->target) == 0)
			return &o->machines[i];
	return NULL;
}

bool oracle_is_misplaced(const struct oracle *o, const struct oracle_unit *unit)
{
	const struct oracle_machine *machine = machine_of(o, unit);

	return unit->exists && unit->target &&
	       (!unit->wanted || unit->global || !machine ||
		       oracle_refusal(o, unit, machine) != SCHEDULER_RULE_NONE);
}

const struct oracle_machine *oracle_best(const struct oracle *o, const struct oracle_unit *unit)
{
	const struct oracle_machine *best = NULL;

	for (int i = 0; i < o->machine_count; i++) {
		const struct oracle_machine *machine = &o->machines[i];

		if (machine->present && oracle_refusal(o, unit, machine) == SCHEDULER_RULE_NONE &&
			(!best || oracle_load(o, machine) < oracle_load(o, best)))
			best = machine;
	}
	return best;
}

/* ---- decisions ---- */

/* False when it matters who of the misplaced leaves first. */
static bool misplaced_leave(struct oracle *o, bool *changed)
{
	struct oracle after = *o;

	for (int i = 0; i < ORACLE_UNITS; i++)
		if (oracle_is_misplaced(o, &o->units[i]))
			after.units[i].target = NULL;
	for (int i = 0; i < ORACLE_UNITS; i++) {
		struct oracle back = after;

		if (!o->units[i].target || after.units[i].target)
			continue;
		back.units[i].target = o->units[i].target;
		if (!oracle_is_misplaced(&back, &back.units[i]))
			return false;
		*changed = true;
	}
	for (int i = 0; i < ORACLE_UNITS; i++)
		if (oracle_is_misplaced(&after, &after.units[i]))
			return false;
	*o = after;
	return true;
}

bool oracle_decide(struct oracle *o)
{
	int placements[ORACLE_UNITS] = {0};
	bool changed = true;

	while (changed) {
		changed = false;
		if (o->peers_used || !misplaced_leave(o, &changed))
			return false;
		for (int i = 0; i < ORACLE_UNITS; i++) {
			struct oracle_unit *unit = &o->units[i];
			const struct oracle_machine *best;

			if (!unit->exists || !unit->wanted || unit->global || unit->target)
				continue;
			best = oracle_best(o, unit);
			if (!best)
				continue;
			if (++placements[i] > 8)
				return false; /* rules that chase each other */
			unit->target = best->id;
			changed = true;
		}
	}
	return true;
}

/* ---- random rules, and their text ---- */

static const char *random_pattern(struct rng *rng)
{
	return patterns[rng_below(rng, ARRAY_LEN(patterns))];
}

void oracle_random_rules(const struct oracle *o, struct oracle_unit *unit, struct rng *rng)
{
	static const char *const wanted[] = {"11111111", "11111111-two", "2222222", "22222222", "m4", "m"};

	unit->global = rng_below(rng, 5) == 0;
	unit->machine_id = rng_below(rng, 7) ? NULL : wanted[rng_below(rng, ARRAY_LEN(wanted))];
	unit->metadata_count = rng_below(rng, 3) ? 0 : 1 + (int)rng_below(rng, ORACLE_LIST + 1);
	for (int i = 0; i < unit->metadata_count; i++)
		unit->metadata[i] =
			(struct oracle_wish){(int)rng_below(rng, ORACLE_KEYS), (int)rng_below(rng, 2)};
	for (int i = 0; i < ORACLE_LIST; i++) {
		bool peer = o->peers_used && !unit->global && rng_below(rng, 5) == 0;

		unit->peers[i] =
			peer ? rng_below(rng, 9) ? names[rng_below(rng, ORACLE_UNITS)] : "none.service"
			     : NULL;
		unit->conflicts[i] = rng_below(rng, 4) ? NULL : random_pattern(rng);
		unit->replaces[i] =
			!o->replaces_used || unit->global || rng_below(rng, 6) ? NULL : random_pattern(rng);
	}
	unit->conflicts_with = matching(unit->conflicts);
	unit->would_replace = matching(unit->replaces);
	unit->needs = 0;
	for (int i = 0; i < ORACLE_LIST; i++)
		for (int k = 0; k < ORACLE_UNITS; k++)
			if (unit->peers[i] && strcmp(unit->peers[i], names[k]) == 0)
				unit->needs |= 1u << k;
}

static void add_list(struct buf *out, const char *key, const char *const list[static ORACLE_LIST])
{
	for (int i = 0; i < ORACLE_LIST; i++)
		if (list[i])
			buf_printf(out, "%s=%s\n", key, list[i]);
}

void oracle_rules_text(const struct oracle_unit *unit, struct buf *out)
{
	if (unit->global)
		buf_add_str(out, "Global=true\n");
	if (unit->machine_id)
		buf_printf(out, "MachineID=%s\n", unit->machine_id);
	for (int i = 0; i < unit->metadata_count; i++)
		buf_printf(out, "MachineMetadata=%s=%s\n", oracle_keys[unit->metadata[i].key],
			oracle_values[unit->metadata[i].value]);
	add_list(out, "MachineOf", unit->peers);
	add_list(out, "Conflicts", unit->conflicts);
	add_list(out, "Replaces", unit->replaces);
}

void oracle_print(const struct oracle *o, struct buf *out)
{
	for (int i = 0; i < o->machine_count; i++) {
		const struct oracle_machine *machine = &o->machines[i];

		if (!machine->present)
			continue;
		buf_printf(out, "%s:", machine->id);
		for (int k = 0; k < ORACLE_KEYS; k++)
			if (machine->metadata[k] >= 0)
				buf_printf(
					out, " %s=%s", oracle_keys[k], oracle_values[machine->metadata[k]]);
		for (int k = 0; k < ORACLE_UNITS; k++)
			if (oracle_runs(o, &o->units[k], machine))
				buf_printf(out, " [%s]", o->units[k].name);
		buf_add_str(out, "\n");
	}
	for (int i = 0; i < ORACLE_UNITS; i++) {
		const struct oracle_unit *unit = &o->units[i];
		_cleanup_buf_ struct buf rules = BUF_INIT(0);

		if (!unit->exists)
			continue;
		oracle_rules_text(unit, &rules);
		for (size_t k = 0; k < rules.len; k++)
			rules.data[k] = rules.data[k] == '\n' ? ' ' : rules.data[k];
		buf_printf(out, "%s (%s) on %s: %s\n", unit->name, unit->wanted ? "wanted" : "not wanted",
			unit->target ? unit->target : "-", buf_text(&rules));
	}
}
