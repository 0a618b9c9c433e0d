/* The scheduler: rules one by one, and random clusters against the definition, worked out by brute force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/map.h"
#include "base/memory.h"
#include "base/rng.h"
#include "fleet/scheduler.h"

static void put_unit(struct scheduler *s, const char *name, const char *fleet_section, bool wanted)
{
	_cleanup_free_ char *text = mem_printf("[X-Fleet]\n%s", fleet_section);
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	struct unit_requirements rules;

	assert_int_equal(unit_file_parse(slice_str(text), &file, NULL), 0);
	unit_requirements_read(file, slice_str(name), &rules);
	scheduler_put_unit(s, name, &rules, wanted);
	unit_requirements_done(&rules);
}

static void put_machine(struct scheduler *s, const char *id, const char *key, const char *value)
{
	struct scheduler_pair pair = {key, value};

	scheduler_put_machine(s, id, &pair, key ? 1 : 0);
}

/* The decisions of one run as text: "a:-/m1 b:m1/m2". */
static char *run(struct scheduler *s)
{
	static char text[4096];
	const struct scheduler_decision *decisions;
	size_t count = scheduler_run(s, &decisions), at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < count; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s:%s/%s", i ? " " : "",
			decisions[i].unit, decisions[i].from ? decisions[i].from : "-",
			decisions[i].to ? decisions[i].to : "-");
	return text;
}

static struct scheduler *three_machines(void)
{
	struct scheduler *s = scheduler_new();

	put_machine(s, "m3", "disk", "ssd");
	put_machine(s, "m1", "disk", "hdd");
	put_machine(s, "m2", "disk", "ssd");
	return s;
}

static void units_go_to_the_least_loaded_machine_then_by_id(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "a.service", "", true);
	put_unit(s, "b.service", "", true);
	put_unit(s, "c.service", "", true);
	put_unit(s, "d.service", "", true);
	put_unit(s, "e.service", "", false);
	assert_string_equal(run(s), "a.service:-/m1 b.service:-/m2 c.service:-/m3 d.service:-/m1");
	assert_string_equal(run(s), "");
	scheduler_touch_all(s);
	assert_string_equal(run(s), "");
	assert_int_equal(scheduler_load(s, "m1"), 2);
}

static void a_lost_machine_gives_its_units_to_the_others_and_nothing_else_moves(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "a.service", "", true);
	put_unit(s, "b.service", "", true);
	put_unit(s, "c.service", "", true);
	run(s);
	scheduler_remove_machine(s, "m2");
	assert_string_equal(run(s), "b.service:m2/m1");
	put_machine(s, "m2", NULL, NULL);
	assert_string_equal(run(s), "");
}

static void machine_id_and_metadata_choose_the_machine(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_machine(s, "0123456789abcdef", "disk", "tape");
	put_unit(s, "i.service", "MachineID=01234567\n", true);
	put_unit(s, "s.service", "MachineMetadata=disk=ssd\n", true);
	put_unit(s, "t.service", "MachineMetadata=\"disk=ssd\" \"disk=tape\"\n", true);
	put_unit(s, "x.service", "MachineMetadata=disk=ssd\nMachineMetadata=region=east\n", true);
	assert_string_equal(run(s), "i.service:-/0123456789abcdef s.service:-/m2 t.service:-/m3");
	put_machine(s, "m2", "disk", "hdd");
	assert_string_equal(run(s), "s.service:m2/m3");
}

static void followers_go_with_their_peer_in_the_same_run(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "a-side.service", "MachineOf=web.service\n", true);
	put_unit(s, "b-deep.service", "MachineOf=a-side.service\n", true);
	assert_string_equal(run(s), "");
	put_unit(s, "web.service", "MachineMetadata=disk=ssd\n", true);
	assert_string_equal(run(s), "web.service:-/m2 a-side.service:-/m2 b-deep.service:-/m2");
	scheduler_remove_machine(s, "m2");
	assert_string_equal(run(s), "a-side.service:m2/m3 b-deep.service:m2/m3 web.service:m2/m3");
	scheduler_remove_unit(s, "web.service");
	assert_string_equal(run(s), "a-side.service:m3/- b-deep.service:m3/-");
}

static void conflicts_hold_in_both_directions_and_waiting_units_take_freed_machines(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	for (int i = 1; i <= 4; i++) {
		char name[32];

		snprintf(name, sizeof(name), "web@%d.service", i);
		put_unit(s, name, "Conflicts=web@*.service\n", true);
	}
	assert_string_equal(run(s), "web@1.service:-/m1 web@2.service:-/m2 web@3.service:-/m3");
	put_unit(s, "z.service", "", true);
	put_unit(s, "only.service", "Conflicts=web@1.service z.service\n", true);
	assert_string_equal(run(s), "only.service:-/m2 z.service:-/m1");
	scheduler_remove_unit(s, "web@3.service");
	assert_string_equal(run(s), "web@4.service:-/m3");
	scheduler_set_target(s, "z.service", "m2"); /* someone else placed it badly */
	assert_string_equal(run(s), "z.service:m2/m1");
}

static void refusals_name_machine_and_rule(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();
	const struct scheduler_refusal *refusals;
	size_t count;

	(void)state;
	put_unit(s, "b.service", "MachineID=m3\n", true);
	put_unit(s, "a.service", "MachineMetadata=disk=ssd\nConflicts=b.*\nMachineOf=web.service\n", true);
	put_unit(s, "c.service", "MachineMetadata=disk=ssd\nConflicts=b.*\n", true);
	put_unit(s, "d.service", "Conflicts=*.service\nMachineMetadata=disk=ssd\n", true);
	run(s);
	assert_int_equal(scheduler_explain(s, "a.service", &refusals, &count), 0);
	assert_int_equal(count, 3);
	assert_string_equal(refusals[0].machine, "m1");
	assert_int_equal(refusals[0].rule, SCHEDULER_RULE_METADATA);
	assert_string_equal(refusals[0].detail, "its disk is hdd (MachineMetadata=disk=ssd)");
	assert_int_equal(refusals[1].rule, SCHEDULER_RULE_MACHINE_OF);
	assert_string_equal(refusals[1].detail, "web.service does not exist (MachineOf=web.service)");
	assert_int_equal(scheduler_explain(s, "d.service", &refusals, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(refusals[2].rule, SCHEDULER_RULE_CONFLICTS);
	assert_string_equal(refusals[2].detail, "it runs b.service (Conflicts=*.service)");
	assert_int_equal(scheduler_explain(s, "none.service", &refusals, &count), -2);
}

static void globals_run_where_metadata_fit_and_count_as_load(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "g.service", "Global=true\nMachineMetadata=disk=ssd\n", true);
	put_unit(s, "h.service", "Global=true\nConflicts=g.service\n", true);
	assert_string_equal(run(s), "");
	assert_true(scheduler_global_runs(s, "g.service", "m2"));
	assert_false(scheduler_global_runs(s, "g.service", "m1"));
	assert_true(scheduler_global_runs(s, "h.service", "m1"));
	assert_false(scheduler_global_runs(s, "h.service", "m2"));
	assert_int_equal(scheduler_load(s, "m3"), 1);
	put_unit(s, "a.service", "Conflicts=g.service\n", true);
	assert_string_equal(run(s), "a.service:-/m1");
	put_unit(s, "b.service", "Conflicts=h.service\nMachineID=m1\n", true);
	assert_string_equal(run(s), "");
	scheduler_remove_unit(s, "h.service");
	assert_string_equal(run(s), "b.service:-/m1");
}

static void a_replacing_unit_sends_the_other_away_once_and_for_all(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "old.service", "MachineID=m1\n", true);
	put_unit(s, "roams.service", "", true);
	assert_string_equal(run(s), "old.service:-/m1 roams.service:-/m2");
	put_unit(s, "new.service", "Replaces=roams.service\nMachineMetadata=disk=ssd\nConflicts=never\n",
		true);
	run(s);
	scheduler_touch_all(s);
	assert_string_equal(run(s), "");
	put_unit(s, "new2.service", "Replaces=roams.service\nMachineID=m2\n", true);
	assert_string_equal(run(s), "new2.service:-/m2 roams.service:m2/m1");
	scheduler_touch_all(s);
	assert_string_equal(run(s), "");
}

static void circular_rules_do_not_spin(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "a.service", "MachineOf=b.service\n", true);
	put_unit(s, "b.service", "MachineOf=a.service\n", true);
	assert_string_equal(run(s), "");
	put_unit(s, "p.service", "Replaces=r.service\nMachineOf=q.service\n", true);
	put_unit(s, "q.service", "MachineOf=r.service\n", true);
	put_unit(s, "r.service", "", true);
	run(s); /* ends: that is the point */
	scheduler_touch_all(s);
	run(s);
}

/* ---- random clusters ---- */

enum { MACHINES = 4, UNITS = 9 };
struct oracle_unit {
	bool exists, wanted, global;
	char conflicts[2][32], peer[32], disk[16], machine_id[16], target[16];
	char name[32];
};
struct oracle {
	bool present[MACHINES];
	char disk[MACHINES][16];
	struct oracle_unit units[UNITS];
};

static bool oracle_matches(const struct oracle_unit *a, const struct oracle_unit *b)
{
	for (int i = 0; i < 2; i++)
		if (a->conflicts[i][0] && unit_glob_match(slice_str(a->conflicts[i]), slice_str(b->name)))
			return true;
	return false;
}

static bool oracle_on(const struct oracle *o, const struct oracle_unit *unit, int machine);

/* The definition, straight from the words: placed units first, then global ones by name. */
static bool oracle_global_runs(const struct oracle *o, const struct oracle_unit *unit, int machine)
{
	if (!unit->exists || !unit->global || !unit->wanted || !o->present[machine])
		return false;
	if (unit->disk[0] && strcmp(unit->disk, o->disk[machine]) != 0)
		return false;
	for (int i = 0; i < UNITS; i++) {
		const struct oracle_unit *other = &o->units[i];
		bool before = !other->global || strcmp(other->name, unit->name) < 0;

		if (other != unit && other->exists && before && oracle_on(o, other, machine) &&
			(oracle_matches(unit, other) || oracle_matches(other, unit)))
			return false;
	}
	return true;
}

static bool oracle_on(const struct oracle *o, const struct oracle_unit *unit, int machine)
{
	char id[16];

	snprintf(id, sizeof(id), "m%d", machine);
	if (unit->global)
		return oracle_global_runs(o, unit, machine);
	return unit->exists && strcmp(unit->target, id) == 0;
}

static bool oracle_able(const struct oracle *o, const struct oracle_unit *unit, int machine)
{
	char id[16];

	snprintf(id, sizeof(id), "m%d", machine);
	if (!o->present[machine])
		return false;
	if (unit->machine_id[0] && strcmp(unit->machine_id, id) != 0)
		return false;
	if (unit->disk[0] && strcmp(unit->disk, o->disk[machine]) != 0)
		return false;
	if (unit->peer[0]) {
		bool there = false;

		for (int i = 0; i < UNITS; i++)
			if (strcmp(o->units[i].name, unit->peer) == 0)
				there = oracle_on(o, &o->units[i], machine);
		if (!there)
			return false;
	}
	for (int i = 0; i < UNITS; i++) {
		const struct oracle_unit *other = &o->units[i];

		if (other != unit && other->exists && oracle_on(o, other, machine) &&
			(oracle_matches(unit, other) || oracle_matches(other, unit)))
			return false;
	}
	return true;
}

static size_t oracle_load(const struct oracle *o, int machine)
{
	size_t load = 0;

	for (int i = 0; i < UNITS; i++)
		load += o->units[i].exists && oracle_on(o, &o->units[i], machine);
	return load;
}

static void oracle_random_rules(struct rng *rng, struct oracle_unit *unit, char *text, size_t size)
{
	size_t at = 0;

	unit->global = rng_below(rng, 6) == 0;
	unit->conflicts[0][0] = unit->conflicts[1][0] = unit->peer[0] = unit->disk[0] = unit->machine_id[0] =
		'\0';
	text[0] = '\0';
	if (unit->global)
		at += (size_t)snprintf(text + at, size - at, "Global=true\n");
	for (int i = 0; i < 2; i++) {
		if (rng_below(rng, 3))
			continue;
		if (rng_below(rng, 4) == 0)
			snprintf(unit->conflicts[i], sizeof(unit->conflicts[i]), "u[%d-%d].*",
				(int)rng_below(rng, 5), (int)rng_below(rng, 9));
		else
			snprintf(unit->conflicts[i], sizeof(unit->conflicts[i]), "u%d.service",
				(int)rng_below(rng, UNITS));
		at += (size_t)snprintf(text + at, size - at, "Conflicts=%s\n", unit->conflicts[i]);
	}
	if (rng_below(rng, 4) == 0) {
		snprintf(unit->disk, sizeof(unit->disk), "d%d", (int)rng_below(rng, 2));
		at += (size_t)snprintf(text + at, size - at, "MachineMetadata=disk=%s\n", unit->disk);
	}
	if (!unit->global && rng_below(rng, 5) == 0) {
		snprintf(unit->peer, sizeof(unit->peer), "u%d.service", (int)rng_below(rng, UNITS));
		at += (size_t)snprintf(text + at, size - at, "MachineOf=%s\n", unit->peer);
	}
	if (!unit->global && rng_below(rng, 8) == 0) {
		snprintf(unit->machine_id, sizeof(unit->machine_id), "m%d", (int)rng_below(rng, MACHINES));
		snprintf(text + at, size - at, "MachineID=%s\n", unit->machine_id);
	}
}

static void oracle_change(struct oracle *o, struct scheduler *s, struct rng *rng)
{
	int machine = (int)rng_below(rng, MACHINES);
	struct oracle_unit *unit = &o->units[rng_below(rng, UNITS)];
	char id[16], text[256];

	snprintf(id, sizeof(id), "m%d", machine);
	switch (rng_below(rng, 8)) {
	case 0:
		o->present[machine] = false;
		scheduler_remove_machine(s, id);
		break;
	case 1:
	case 2:
		o->present[machine] = true;
		snprintf(o->disk[machine], sizeof(o->disk[machine]), "d%d", (int)rng_below(rng, 2));
		put_machine(s, id, "disk", o->disk[machine]);
		break;
	case 3:
		unit->exists = false;
		unit->target[0] = '\0';
		scheduler_remove_unit(s, unit->name);
		break;
	case 4:
		if (!unit->exists || unit->global)
			break;
		snprintf(unit->target, sizeof(unit->target), "%s", id); /* a foreign engine's doing */
		scheduler_set_target(s, unit->name, id);
		break;
	default:
		if (!unit->exists)
			unit->target[0] = '\0';
		unit->exists = true;
		unit->wanted = rng_below(rng, 6) != 0;
		oracle_random_rules(rng, unit, text, sizeof(text));
		put_unit(s, unit->name, text, unit->wanted);
	}
}

static void oracle_take(struct oracle *o, const struct scheduler_decision *decisions, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (int k = 0; k < UNITS; k++)
			if (strcmp(o->units[k].name, decisions[i].unit) == 0) {
				assert_string_equal(
					o->units[k].target, decisions[i].from ? decisions[i].from : "");
				snprintf(o->units[k].target, sizeof(o->units[k].target), "%s",
					decisions[i].to ? decisions[i].to : "");
			}
}

static void oracle_check(const struct oracle *o, const struct scheduler *s, uint64_t seed, int step)
{
	for (int m = 0; m < MACHINES; m++) {
		char id[16];

		snprintf(id, sizeof(id), "m%d", m);
		if (o->present[m] && scheduler_load(s, id) != oracle_load(o, m))
			fail_msg("seed %lu step %d: load of %s is %zu, not %zu", (unsigned long)seed, step,
				id, scheduler_load(s, id), oracle_load(o, m));
	}
	for (int i = 0; i < UNITS; i++) {
		const struct oracle_unit *unit = &o->units[i];
		bool placed = unit->target[0] != '\0';

		if (!unit->exists)
			continue;
		if ((!unit->wanted || unit->global) && placed)
			fail_msg("seed %lu step %d: %s should have no target", (unsigned long)seed, step,
				unit->name);
		if (!unit->wanted || unit->global)
			continue;
		for (int m = 0; m < MACHINES; m++) {
			bool able = oracle_able(o, unit, m), here = placed && atoi(unit->target + 1) == m;

			if (here && !able)
				fail_msg("seed %lu step %d: %s must not be on m%d", (unsigned long)seed, step,
					unit->name, m);
			if (!placed && able)
				fail_msg("seed %lu step %d: %s could be on m%d", (unsigned long)seed, step,
					unit->name, m);
		}
	}
}

static void random_clusters_equal_the_definition(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 400; seed++) {
		_cleanup_(scheduler_freep) struct scheduler *s = scheduler_new();
		struct oracle o = {0};
		struct rng rng;

		rng_seed(&rng, seed);
		for (int i = 0; i < UNITS; i++)
			snprintf(o.units[i].name, sizeof(o.units[i].name), "u%d.service", i);
		for (int step = 0; step < 60; step++) {
			const struct scheduler_decision *decisions;
			size_t count;

			for (uint64_t n = rng_below(&rng, 3) + 1; n > 0; n--)
				oracle_change(&o, s, &rng);
			count = scheduler_run(s, &decisions);
			oracle_take(&o, decisions, count);
			oracle_check(&o, s, seed, step);
			scheduler_touch_all(s);
			assert_int_equal(scheduler_run(s, &decisions), 0);
		}
	}
}

static void one_new_unit_goes_to_the_best_machine_by_definition(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2000; seed++) {
		_cleanup_(scheduler_freep) struct scheduler *s = scheduler_new();
		struct oracle o = {0};
		struct oracle_unit *last = &o.units[UNITS - 1];
		const struct scheduler_decision *decisions;
		struct rng rng;
		char text[256];
		int best = -1;

		rng_seed(&rng, seed);
		for (int i = 0; i < UNITS; i++)
			snprintf(o.units[i].name, sizeof(o.units[i].name), "u%d.service", i);
		for (int step = 0; step < 25; step++)
			oracle_change(&o, s, &rng);
		scheduler_remove_unit(s, last->name);
		last->exists = false;
		last->target[0] = '\0';
		oracle_take(&o, decisions, scheduler_run(s, &decisions));
		do {
			oracle_random_rules(&rng, last, text, sizeof(text));
		} while (last->global);
		last->exists = last->wanted = true;
		for (int m = 0; m < MACHINES; m++)
			if (oracle_able(&o, last, m) &&
				(best < 0 || oracle_load(&o, m) < oracle_load(&o, best)))
				best = m;
		put_unit(s, last->name, text, true);
		(void)scheduler_run(s, &decisions);
		if (best < 0) {
			assert_null(scheduler_target(s, last->name));
		} else {
			snprintf(text, sizeof(text), "m%d", best);
			assert_non_null(scheduler_target(s, last->name));
			assert_string_equal(scheduler_target(s, last->name), text);
		}
	}
}

static void a_thousand_machines_take_many_units_quickly(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = scheduler_new();
	const struct scheduler_decision *decisions;
	char name[40];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "machine%04d", i);
		put_machine(s, name, "disk", i % 2 ? "ssd" : "hdd");
	}
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "app%03d@%d.service", i / 100, i % 100);
		put_unit(s, name, i % 3 ? "" : "Conflicts=%p@*.service\nMachineMetadata=disk=ssd\n", true);
	}
	assert_int_equal(scheduler_run(s, &decisions), 20000);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "machine%04d", i);
		assert_in_range(scheduler_load(s, name), 19, 21);
	}
	scheduler_remove_machine(s, "machine0500");
	assert_in_range(scheduler_run(s, &decisions), 19, 21);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(units_go_to_the_least_loaded_machine_then_by_id),
		cmocka_unit_test(a_lost_machine_gives_its_units_to_the_others_and_nothing_else_moves),
		cmocka_unit_test(machine_id_and_metadata_choose_the_machine),
		cmocka_unit_test(followers_go_with_their_peer_in_the_same_run),
		cmocka_unit_test(conflicts_hold_in_both_directions_and_waiting_units_take_freed_machines),
		cmocka_unit_test(refusals_name_machine_and_rule),
		cmocka_unit_test(globals_run_where_metadata_fit_and_count_as_load),
		cmocka_unit_test(a_replacing_unit_sends_the_other_away_once_and_for_all),
		cmocka_unit_test(circular_rules_do_not_spin),
		cmocka_unit_test(random_clusters_equal_the_definition),
		cmocka_unit_test(one_new_unit_goes_to_the_best_machine_by_definition),
		cmocka_unit_test(a_thousand_machines_take_many_units_quickly),
	};

	return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
