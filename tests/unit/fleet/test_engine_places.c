/* The engine against a small store: who is given a unit, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine_world.h"

#define STATE_OF(id)                                                                     \
	"{\"loadState\":\"loaded\",\"activeState\":\"active\",\"subState\":\"running\"," \
	"\"machineState\":{\"ID\":\"" id "\"}}"
#define STATE STATE_OF("m2")

/* u.service runs on m2, and is wanted on m1 by its new text. */
static struct world world_of_a_move(void)
{
	struct world w = world_new();
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *text = set_text(w.cluster, TEXT "[X-Fleet]\nMachineID=m1\n", 7, hex, hash);

	(void)text;
	set_machine(w.cluster, "m2", true);
	set_unit(w.cluster, "u.service", hash, "launched");
	cluster_set(w.cluster, "job/u.service/target", SLICE_LITERAL("m2"), 6);
	cluster_set(w.cluster, "assigned/m2/u.service", SLICE_LITERAL("{}"), 6);
	fake_key(w.fake, "/f/job/u.service/target")->there = true;
	strcpy(fake_key(w.fake, "/f/job/u.service/target")->value, "m2");
	fake_key(w.fake, "/f/assigned/m2/u.service")->there = true;
	return w;
}

/* m2, which runs it, has been told to give it up. */
static struct world world_of_a_taken_unit(void)
{
	struct world w = world_of_a_move();

	cluster_set(w.cluster, "states/u.service/m2", SLICE_LITERAL(STATE), 6);
	lead(&w);
	fake_run_until(w.fake, !fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	return w;
}

static void a_unit_that_moves_is_started_when_its_copy_has_ended(void **state)
{
	struct world w = world_of_a_move();

	(void)state;
	cluster_set(w.cluster, "states/u.service/m2", SLICE_LITERAL(STATE), 6);
	lead(&w);
	fake_run_until(w.fake, !fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	assert_string_equal(fake_key(w.fake, "/f/job/u.service/target")->value, "m1");
	some_rounds(&w);
	assert_false(fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	cluster_remove(w.cluster, "states/u.service/m2", 0);
	fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	world_free(&w);
}

static void a_machine_that_is_gone_is_not_waited_for(void **state)
{
	struct world w = world_of_a_move();

	(void)state;
	cluster_set(w.cluster, "states/u.service/m2", SLICE_LITERAL(STATE), 6);
	lead(&w);
	fake_run_until(w.fake, !fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	cluster_remove(w.cluster, "machines/m2/object", 0);
	fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	world_free(&w);
}

static void a_machine_that_has_said_nothing_yet_gets_a_moment(void **state)
{
	struct world w = world_of_a_move();
	uint64_t taken_ms;

	(void)state;
	lead(&w);
	fake_run_until(w.fake, !fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	taken_ms = uv_now(&w.fake->loop);
	fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	assert_true(uv_now(&w.fake->loop) - taken_ms >= 900);
	world_free(&w);
}

static void on_unit(void *user, const char *name)
{
	engine_unit_changed(user, name);
}

/* Of two global units that conflict the one whose name comes first runs; the entries of the other follow at
 * once, and not with the next look at everything. */
static void global_units_make_room_for_each_other(void **state)
{
	struct world w = world_with(200, 60000);
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t alone[UNIT_HASH_SIZE], plain[UNIT_HASH_SIZE];
	struct fake_key *first = fake_key(w.fake, "/f/assigned/m1/a.service");
	struct fake_key *second = fake_key(w.fake, "/f/assigned/m1/b.service");

	(void)state;
	free(set_text(w.cluster, TEXT "[X-Fleet]\nGlobal=true\nConflicts=b.service\n", 7, hex, alone));
	free(set_text(w.cluster, TEXT "[X-Fleet]\nGlobal=true\n", 7, hex, plain));
	cluster_observe(w.cluster, &(struct cluster_observer){.unit = on_unit, .userdata = w.engine});
	lead(&w);
	some_rounds(&w);
	set_unit(w.cluster, "b.service", plain, "launched");
	engine_turn(w.engine);
	fake_run_until(w.fake, second->there);
	set_unit(w.cluster, "a.service", alone, "launched");
	engine_turn(w.engine);
	fake_run_until(w.fake, first->there && !second->there);
	set_unit(w.cluster, "a.service", alone, "inactive");
	engine_turn(w.engine);
	fake_run_until(w.fake, !first->there && second->there);
	world_free(&w);
}

/* What the last leader decided may be on its way still. */
static void nothing_is_decided_before_the_beginning_of_the_term_is_known(void **state)
{
	struct world w = world_new();
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];

	(void)state;
	free(set_text(w.cluster, TEXT, 7, hex, hash));
	set_unit(w.cluster, "u.service", hash, "launched");
	known_index = w.fake->index;
	lead(&w);
	for (uint64_t until = uv_now(&w.fake->loop) + 300; uv_now(&w.fake->loop) < until;)
		(void)uv_run(&w.fake->loop, UV_RUN_ONCE);
	assert_false(fake_key(w.fake, "/f/job/u.service/target")->there);
	assert_false(fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	known_index = fake_key(w.fake, "/f/lease/engine-leader")->index;
	fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	known_index = UINT64_MAX;
	world_free(&w);
}

/* It waits for nobody but itself, and knows how. */
static void a_machine_that_gets_the_unit_back_does_not_wait(void **state)
{
	struct world w = world_of_a_taken_unit();
	struct fake_key *entry = fake_key(w.fake, "/f/assigned/m2/u.service");
	uint64_t taken_ms;

	(void)state;
	taken_ms = uv_now(&w.fake->loop);
	{
		char hex[UNIT_HASH_HEX_SIZE];
		uint8_t hash[UNIT_HASH_SIZE];

		free(set_text(w.cluster, TEXT "[X-Fleet]\nMachineID=m2\n", 9, hex, hash));
		set_unit(w.cluster, "u.service", hash, "launched");
	}
	rounds_until(&w, entry->there);
	assert_true(uv_now(&w.fake->loop) - taken_ms < 900);
	world_free(&w);
}

/* Its state went before the unit was taken from it: that was the copy before, and another may have begun. */
static void what_ended_before_the_unit_was_taken_says_nothing(void **state)
{
	struct world w = world_of_a_taken_unit();
	struct fake_key *entry = fake_key(w.fake, "/f/assigned/m2/u.service");
	uint64_t taken_ms;

	(void)state;
	some_rounds(&w);
	taken_ms = uv_now(&w.fake->loop);
	cluster_remove(w.cluster, "states/u.service/m2", entry->index - 1);
	fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	assert_true(uv_now(&w.fake->loop) - taken_ms >= 700);
	world_free(&w);
}

static void who_is_not_present_itself_takes_nothing_off_others(void **state)
{
	struct world w = world_of_a_move();

	(void)state;
	cluster_remove(w.cluster, "machines/m1/object", 0);
	cluster_set(w.cluster, "machines/m1/object",
		SLICE_LITERAL("{\"ID\":\"m1\",\"Flotilla\":{\"API\":\"\"}}"), 7);
	lead(&w);
	cluster_remove(w.cluster, "machines/m1/object", 0);
	cluster_remove(w.cluster, "machines/m2/object", 0);
	for (uint64_t until = uv_now(&w.fake->loop) + 300; uv_now(&w.fake->loop) < until;)
		(void)uv_run(&w.fake->loop, UV_RUN_ONCE);
	assert_string_equal(fake_key(w.fake, "/f/job/u.service/target")->value, "m2");
	assert_true(fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	world_free(&w);
}

/* Its write is under way when the lease is lost, and never arrives. */
static void a_decision_of_an_earlier_term_is_none(void **state)
{
	struct world w = world_new();
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *text = set_text(w.cluster, TEXT, 7, hex, hash);
	struct fake_key *target = fake_key(w.fake, "/f/job/u.service/target");
	struct fake_key *lease = fake_key(w.fake, "/f/lease/engine-leader");

	(void)state;
	(void)text;
	lead(&w);
	some_rounds(&w);
	w.fake->hold = target->key;
	set_unit(w.cluster, "u.service", hash, "launched");
	engine_turn(w.engine);
	fake_run_until(w.fake, w.fake->held);
	strcpy(lease->value, "another's");
	lease->index = ++w.fake->index;
	engine_lease_seen(w.engine, SLICE_LITERAL("{\"MachineID\":\"m9\",\"Version\":1,\"Term\":\"other\"}"));
	fake_run_until(w.fake, !engine_leads(w.engine));
	fake_release(w.fake);
	target->there = lease->there = false;
	lead(&w);
	fake_run_until(w.fake, target->there);
	assert_string_equal(target->value, "m1");
	world_free(&w);
}

/* A renewal was carried out, and its answer lost: the index is another one, the lease is not. */
static void a_lost_answer_does_not_cost_the_lease(void **state)
{
	struct world w = world_new();
	struct fake_key *lease = fake_key(w.fake, "/f/lease/engine-leader");
	int refreshes;

	(void)state;
	lead(&w);
	lease->index = ++w.fake->index;
	refreshes = lease->refreshes;
	fake_run_until(w.fake, lease->refreshes > refreshes);
	assert_true(engine_leads(w.engine));
	assert_int_equal(lease->sets, 1);
	world_free(&w);
}

static void a_unit_whose_text_cannot_be_read_is_left_where_it_is(void **state)
{
	struct world w = world_new();
	uint8_t hash[UNIT_HASH_SIZE] = {7};

	(void)state;
	set_machine(w.cluster, "m2", true);
	set_unit(w.cluster, "u.service", hash, "launched");
	cluster_set(w.cluster, "job/u.service/target", SLICE_LITERAL("m2"), 6);
	cluster_set(w.cluster, "assigned/m2/u.service", SLICE_LITERAL("{}"), 6);
	fake_key(w.fake, "/f/assigned/m2/u.service")->there = true;
	lead(&w);
	some_rounds(&w);
	assert_int_equal(fake_key(w.fake, "/f/assigned/m2/u.service")->deletes, 0);
	assert_true(fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	world_free(&w);
}

/* The second move of a unit waits like the first. */
static void each_move_waits_for_its_own_copy(void **state)
{
	struct world w = world_of_a_move();
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *text = NULL;

	(void)state;
	lead(&w);
	fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	cluster_set(w.cluster, "states/u.service/m1", SLICE_LITERAL(STATE_OF("m1")), 6);
	text = set_text(w.cluster, TEXT "[X-Fleet]\nMachineID=m2\n", 7, hex, hash);
	set_unit(w.cluster, "u.service", hash, "launched");
	engine_turn(w.engine);
	fake_run_until(w.fake, !fake_key(w.fake, "/f/assigned/m1/u.service")->there);
	some_rounds(&w);
	assert_false(fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	cluster_remove(w.cluster, "states/u.service/m1", 0);
	fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m2/u.service")->there);
	world_free(&w);
}

/* The mirror is behind: it tells of the target that the unit had before the decision that was just made. */
static void older_news_of_a_target_undo_no_decision(void **state)
{
	struct world w = world_new();
	struct scheduler *s = cluster_scheduler(w.cluster);
	struct fake_key *target = fake_key(w.fake, "/f/job/u.service/target");
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *text = set_text(w.cluster, TEXT, 7, hex, hash);

	(void)state;
	(void)text;
	set_machine(w.cluster, "m2", true);
	set_unit(w.cluster, "u.service", hash, "launched");
	w.fake->hold = "/f/job/u.service/target";
	lead(&w);
	fake_run_until(w.fake, w.fake->held);
	{
		/* While the answer is on its way, and after it. */
		const char *decided = strcmp(scheduler_target(s, "u.service"), "m1") == 0 ? "m1" : "m2";
		const char *other = decided[1] == '1' ? "m2" : "m1";

		for (int answered = 0; answered < 2; answered++) {
			cluster_set(w.cluster, "job/u.service/target", slice_str(other), 50);
			engine_turn(w.engine);
			assert_string_equal(scheduler_target(s, "u.service"), decided);
			cluster_remove(w.cluster, "job/u.service/target", 51);
			some_rounds(&w);
			assert_string_equal(scheduler_target(s, "u.service"), decided);
			if (!answered)
				fake_release(w.fake);
			fake_run_until(w.fake, fake_key(w.fake, "/f/assigned/m1/u.service")->there ||
						       fake_key(w.fake, "/f/assigned/m2/u.service")->there);
		}
		assert_string_equal(target->value, decided);
		assert_int_equal(target->sets, 1);
		/* Newer ones count: somebody else has moved it. */
		strcpy(target->value, other);
		cluster_set(w.cluster, "job/u.service/target", slice_str(other), w.fake->index + 1);
		assert_string_equal(scheduler_target(s, "u.service"), other);
	}
	world_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_unit_that_moves_is_started_when_its_copy_has_ended),
		cmocka_unit_test(a_machine_that_is_gone_is_not_waited_for),
		cmocka_unit_test(a_machine_that_has_said_nothing_yet_gets_a_moment),
		cmocka_unit_test(who_is_not_present_itself_takes_nothing_off_others),
		cmocka_unit_test(a_decision_of_an_earlier_term_is_none),
		cmocka_unit_test(a_lost_answer_does_not_cost_the_lease),
		cmocka_unit_test(a_unit_whose_text_cannot_be_read_is_left_where_it_is),
		cmocka_unit_test(global_units_make_room_for_each_other),
		cmocka_unit_test(nothing_is_decided_before_the_beginning_of_the_term_is_known),
		cmocka_unit_test(a_machine_that_gets_the_unit_back_does_not_wait),
		cmocka_unit_test(what_ended_before_the_unit_was_taken_says_nothing),
		cmocka_unit_test(each_move_waits_for_its_own_copy),
		cmocka_unit_test(older_news_of_a_target_undo_no_decision),
	};

	return cmocka_run_group_tests_name("engine_places", tests, NULL, NULL);
}
