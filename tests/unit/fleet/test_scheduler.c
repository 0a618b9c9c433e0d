/* The scheduler: rules one by one. Random clusters are for test_scheduler_oracle.c. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/memory.h"
#include "fleet/scheduler_internal.h"

enum { CHAIN = 400, CIRCLE = 100 };

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

static void units_that_replace_each_other_in_a_circle_run_together(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = scheduler_new();

	(void)state;
	put_machine(s, "m1", NULL, NULL);
	put_unit(s, "a.service", "Replaces=b.service\n", true);
	put_unit(s, "b.service", "Replaces=c.service\n", true);
	put_unit(s, "c.service", "Replaces=a.service\n", true);
	assert_string_equal(run(s), "a.service:-/m1 b.service:-/m1 c.service:-/m1");
	scheduler_touch_all(s);
	assert_string_equal(run(s), "");
	/* The circle is open: a replaces b, and b replaces c. */
	put_unit(s, "c.service", "", true);
	assert_string_equal(run(s), "b.service:m1/-");
}

static void what_is_needed_by_a_peer_is_not_replaced(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "p.service", "Replaces=r.service\nMachineOf=q.service\n", true);
	put_unit(s, "q.service", "MachineOf=r.service\n", true);
	put_unit(s, "r.service", "", true);
	assert_string_equal(run(s), "p.service:-/m1 q.service:-/m1 r.service:-/m1");
	scheduler_touch_all(s);
	assert_string_equal(run(s), "");
	put_unit(s, "q.service", "", true);
	assert_string_equal(run(s), "r.service:m1/m2");
}

static void a_rule_that_a_placed_unit_gets_holds_for_what_is_there(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "a.service", "MachineID=m1\n", true);
	put_unit(s, "b.service", "MachineID=m1\n", true);
	assert_string_equal(run(s), "a.service:-/m1 b.service:-/m1");
	put_unit(s, "b.service", "MachineID=m1\nReplaces=a.*\n", true);
	assert_string_equal(run(s), "a.service:m1/-");
	put_unit(s, "b.service", "MachineID=m1\n", true);
	assert_string_equal(run(s), "a.service:-/m1");
}

static void a_global_unit_that_gives_way_makes_room(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = scheduler_new();

	(void)state;
	put_machine(s, "m1", NULL, NULL);
	put_unit(s, "g.service", "Global=true\nConflicts=w.service x.service\n", true);
	put_unit(s, "w.service", "", true);
	put_unit(s, "x.service", "", true);
	assert_string_equal(run(s), "");
	scheduler_set_target(s, "x.service", "m1"); /* someone else's decision */
	assert_string_equal(run(s), "w.service:-/m1");
}

static void units_that_wait_are_spread_over_the_few_machines_that_were_freed(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = scheduler_new();
	char name[40];

	(void)state;
	for (int i = 10; i < 22; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		put_machine(s, name, NULL, NULL);
		snprintf(name, sizeof(name), "busy@%d.service", i);
		put_unit(s, name, "Conflicts=w*.service\n", true);
	}
	run(s);
	put_unit(s, "w1.service", "", true);
	put_unit(s, "w2.service", "", true);
	assert_string_equal(run(s), "");
	scheduler_remove_unit(s, "busy@17.service");
	scheduler_remove_unit(s, "busy@13.service");
	assert_string_equal(run(s), "w1.service:-/m13 w2.service:-/m17");
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

/* Each follows the one before and replaces the first, which it therefore needs; and a circle of others. */
static void *run_chain(void *decisions)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();
	const struct scheduler_decision *unused;
	char name[32], rules[96];

	for (int i = 0; i < CHAIN; i++) {
		snprintf(name, sizeof(name), "u%03d.service", i);
		snprintf(rules, sizeof(rules), "MachineOf=u%03d.service\nReplaces=u000.service\n", i - 1);
		put_unit(s, name, i ? rules : "", true);
	}
	for (int i = 0; i < CIRCLE; i++) {
		snprintf(name, sizeof(name), "z%03d.service", i);
		snprintf(rules, sizeof(rules), "Replaces=z%03d.service\n", (i + 1) % CIRCLE);
		put_unit(s, name, rules, true);
	}
	*(size_t *)decisions = scheduler_run(s, &unused);
	return NULL;
}

static void a_long_chain_needs_no_stack(void **state)
{
	pthread_attr_t small;
	pthread_t thread;
	size_t decisions = 0;

	(void)state;
	assert_int_equal(pthread_attr_init(&small), 0);
	assert_int_equal(pthread_attr_setstacksize(&small, 40 * 1024), 0);
	assert_int_equal(pthread_create(&thread, &small, run_chain, &decisions), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&small);
	assert_int_equal(decisions, CHAIN + CIRCLE);
}

/* What a wish says changes no rule: the others are not looked at again. */
static void a_wish_is_no_new_rule(void **state)
{
	_cleanup_(scheduler_freep) struct scheduler *s = three_machines();

	(void)state;
	put_unit(s, "a.service", "MachineID=m1\n", true);
	put_unit(s, "b.service", "MachineOf=a.service\n", true);
	put_unit(s, "g.service", "Global=true\n", true);
	put_unit(s, "r.service", "MachineID=m2\nReplaces=old.service\n", true);
	assert_string_equal(run(s), "a.service:-/m1 b.service:-/m1 r.service:-/m2");
	assert_false(s->replacing_changed);
	put_unit(s, "b.service", "MachineOf=a.service\n", false);
	assert_false(s->replacing_changed);
	assert_string_equal(run(s), "b.service:m1/-");
	put_unit(s, "b.service", "MachineOf=a.service\n", true);
	assert_string_equal(run(s), "b.service:-/m1");
	put_unit(s, "g.service", "Global=true\n", false);
	assert_false(scheduler_global_runs(s, "g.service", "m1"));
	put_unit(s, "g.service", "Global=true\n", true);
	assert_true(scheduler_global_runs(s, "g.service", "m1"));
	put_unit(s, "b.service", "MachineOf=r.service\n", true);
	assert_true(s->replacing_changed);
	assert_string_equal(run(s), "b.service:m1/m2");
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
		cmocka_unit_test(units_that_replace_each_other_in_a_circle_run_together),
		cmocka_unit_test(what_is_needed_by_a_peer_is_not_replaced),
		cmocka_unit_test(a_rule_that_a_placed_unit_gets_holds_for_what_is_there),
		cmocka_unit_test(a_global_unit_that_gives_way_makes_room),
		cmocka_unit_test(units_that_wait_are_spread_over_the_few_machines_that_were_freed),
		cmocka_unit_test(a_long_chain_needs_no_stack),
		cmocka_unit_test(a_wish_is_no_new_rule),
		cmocka_unit_test(a_thousand_machines_take_many_units_quickly),
	};

	return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
