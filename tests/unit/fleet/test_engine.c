/* The engine against a small store: what a leader cleans up, and what it leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine_world.h"

static void a_new_leader_removes_the_empty_directories_that_others_left(void **state)
{
	struct world w = world_new();
	static const char *const empty[] = {
		"/f/states/gone.service", "/f/job/gone.service", "/f/states/told.service"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(empty); i++)
		fake_key(w.fake, empty[i])->there = true;
	fake_key(w.fake, "/f/states/here.service")->there = true;
	fake_key(w.fake, "/f/states/odd.service")->refuse = ETCD_DIRECTORY_NOT_EMPTY;
	/* Nobody leads while these keys go. */
	cluster_set(w.cluster, "states/gone.service/m1", SLICE_LITERAL("{}"), 5);
	cluster_remove(w.cluster, "states/gone.service/m1", 0);
	cluster_set(w.cluster, "job/gone.service/target", SLICE_LITERAL("m1"), 5);
	cluster_remove(w.cluster, "job/gone.service/target", 0);
	cluster_set_empty(w.cluster, "states/told.service");
	cluster_set_empty(w.cluster, "states/odd.service");
	/* A unit that is there fills its directory again. */
	cluster_set(w.cluster, "job/here.service/target-state", SLICE_LITERAL("inactive"), 5);
	cluster_set_empty(w.cluster, "states/here.service");
	lead(&w);
	for (size_t i = 0; i < ARRAY_LEN(empty); i++)
		rounds_until(&w, !fake_key(w.fake, empty[i])->there);
	rounds_until(&w, fake_key(w.fake, "/f/states/odd.service")->deletes);
	some_rounds(&w);
	assert_int_equal(fake_key(w.fake, "/f/states/odd.service")->deletes, 1);
	assert_int_equal(fake_key(w.fake, "/f/states/gone.service")->deletes, 1);
	assert_true(fake_key(w.fake, "/f/states/here.service")->there);
	world_free(&w);
}

static void an_empty_directory_is_asked_for_again_after_an_outage(void **state)
{
	struct world w = world_new();
	struct fake_key *directory = fake_key(w.fake, "/f/states/gone.service");

	(void)state;
	directory->there = true;
	lead(&w);
	some_rounds(&w);
	directory->refuse = ETCD_RAFT_ERROR;
	cluster_set_empty(w.cluster, "states/gone.service");
	rounds_until(&w, directory->deletes);
	directory->refuse = 0;
	rounds_until(&w, !directory->there);
	world_free(&w);
}

/* ---- what is left without a meaning ---- */

/* The mirror knows already that it was emptied when the answer of before comes: it was not empty. */
static void a_directory_that_was_emptied_behind_a_refusal_goes(void **state)
{
	struct world w = world_new();
	struct fake_key *gone = fake_key(w.fake, "/f/job/gone.service");

	(void)state;
	gone->there = true;
	gone->refuse = ETCD_DIRECTORY_NOT_EMPTY; /* as of index 7 */
	lead(&w);
	cluster_set(w.cluster, "job/gone.service/target", SLICE_LITERAL("m1"), 6);
	cluster_remove(w.cluster, "job/gone.service/target", 8);
	rounds_until(&w, gone->deletes);
	gone->refuse = 0;
	rounds_until(&w, !gone->there);
	world_free(&w);
}

static void a_value_that_is_no_state_is_removed_and_nothing_else(void **state)
{
	struct world w = world_new();
	struct fake_key *garbage = fake_key(w.fake, "/f/states/gone.service/m1");
	struct fake_key *sound = fake_key(w.fake, "/f/states/gone.service/m2");

	(void)state;
	set_machine(w.cluster, "m2", true);
	garbage->there = sound->there = true;
	garbage->index = sound->index = 7;
	cluster_set(w.cluster, "states/gone.service/m1", SLICE_LITERAL("{\"activeState\":\"active\"}"), 6);
	cluster_set(w.cluster, "states/gone.service/m1", SLICE_LITERAL("what is this"), 7);
	cluster_set(w.cluster, "states/gone.service/m2", SLICE_LITERAL("{\"activeState\":\"active\"}"), 7);
	assert_null(cluster_unit_state(cluster_entry(w.cluster, "gone.service"), "m1"));
	lead(&w);
	rounds_until(&w, !garbage->there);
	cluster_remove(w.cluster, "states/gone.service/m1", 0);
	some_rounds(&w);
	assert_int_equal(garbage->deletes, 1);
	assert_true(sound->there);
	world_free(&w);
}

static void garbage_that_was_written_again_is_left_alone(void **state)
{
	struct world w = world_new();
	struct fake_key *key = fake_key(w.fake, "/f/states/a.service/m1");

	(void)state;
	key->there = true;
	key->index = 9; /* the news of it are still on their way */
	cluster_set(w.cluster, "states/a.service/m1", SLICE_LITERAL("garbage"), 7);
	lead(&w);
	rounds_until(&w, key->deletes);
	cluster_set(w.cluster, "states/a.service/m1", SLICE_LITERAL("{}"), 9);
	some_rounds(&w);
	assert_true(key->there);
	assert_int_equal(cluster_garbage_index(w.cluster, "states/a.service/m1"), 0);
	world_free(&w);
}

static void a_text_that_no_unit_refers_to_goes_after_a_while(void **state)
{
	struct world w = world_new();
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *unused = set_text(w.cluster, TEXT, 7, hex, hash);
	_cleanup_free_ char *used = set_text(w.cluster, TEXT "Nice=1\n", 7, hex, hash);
	_cleanup_free_ char *unused_key = mem_printf("/f/%s", unused), *used_key = mem_printf("/f/%s", used);
	struct fake_key *one = fake_key(w.fake, unused_key), *two = fake_key(w.fake, used_key);
	uint64_t begun;

	(void)state;
	one->there = two->there = true;
	one->index = two->index = 7;
	set_unit(w.cluster, "a.service", hash, "inactive");
	lead(&w);
	begun = uv_now(&w.fake->loop);
	rounds_until(&w, one->deletes);
	assert_true(uv_now(&w.fake->loop) >= begun + 150);
	rounds_until(&w, !one->there);
	cluster_remove(w.cluster, unused, 0);
	assert_int_equal(two->deletes, 0);
	/* Removed although a unit refers to it, as by a former leader that did not know yet: written again.
	 */
	two->there = false;
	cluster_remove(w.cluster, used, 0);
	rounds_until(&w, two->there);
	assert_non_null(strstr(two->value, "Nice=1"));
	assert_non_null(cluster_unit(w.cluster, "a.service"));
	/* Something else was written in its place: the unit is what it was, and the text comes back. */
	cluster_set(w.cluster, used, slice_str(two->value), 8);
	for (int garbage = 0; garbage < 2; garbage++) {
		strcpy(two->value,
			garbage ? "what is this" : "{\"Raw\":\"[Service]\\nExecStart=/bin/false\\n\"}");
		cluster_set(w.cluster, used, slice_str(two->value), 9);
		assert_non_null(cluster_unit(w.cluster, "a.service"));
		rounds_until(&w, strstr(two->value, "Nice=1"));
		cluster_set(w.cluster, used, slice_str(two->value), 10);
	}
	world_free(&w);
}

static void wait_ms(struct world *w, uint64_t ms)
{
	uint64_t begun = uv_now(&w->fake->loop);

	fake_run_until(w->fake, uv_now(&w->fake->loop) >= begun + ms);
}

static void a_text_that_was_used_meanwhile_is_as_new(void **state)
{
	struct world w = world_collecting(1500);
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *path = set_text(w.cluster, TEXT, 7, hex, hash);
	_cleanup_free_ char *path_key = mem_printf("/f/%s", path);
	struct fake_key *key = fake_key(w.fake, path_key);
	uint64_t unused_ms;

	(void)state;
	key->there = true;
	key->index = 7;
	lead(&w);
	wait_ms(&w, 300);
	set_unit(w.cluster, "a.service", hash, "inactive");
	wait_ms(&w, 100);
	some_rounds(&w); /* it is looked at meanwhile */
	cluster_remove(w.cluster, "job/a.service", 0);
	unused_ms = uv_now(&w.fake->loop);
	rounds_until(&w, key->deletes);
	assert_true(uv_now(&w.fake->loop) - unused_ms >= 1450);
	world_free(&w);
}

static void a_wish_without_a_unit_goes_after_a_while(void **state)
{
	struct world w = world_new();
	struct fake_key *key = fake_key(w.fake, "/f/job/gone.service/target-state");

	(void)state;
	key->there = true;
	key->index = 7;
	cluster_set(w.cluster, "job/gone.service/target-state", SLICE_LITERAL("launched"), 7);
	lead(&w);
	rounds_until(&w, !key->there);
	world_free(&w);
}

static void the_index_of_a_machine_that_stays_away_goes(void **state)
{
	struct world w = world_new();
	struct fake_key *away = fake_key(w.fake, "/f/assigned/away"),
			*here = fake_key(w.fake, "/f/assigned/m1");

	(void)state;
	away->there = here->there = true;
	cluster_set(w.cluster, "assigned/away/epoch", SLICE_LITERAL("t"), 7);
	cluster_set(w.cluster, "assigned/m1/epoch", SLICE_LITERAL("t"), 7);
	cluster_set_empty(w.cluster, "assigned/empty");
	lead(&w);
	rounds_until(&w, !away->there && fake_key(w.fake, "/f/assigned/empty")->deletes);
	some_rounds(&w);
	assert_int_equal(away->deletes, 1);
	assert_int_equal(here->deletes, 0);
	world_free(&w);
}

static void a_machine_that_comes_back_while_its_index_goes_gets_it_anew(void **state)
{
	struct world w = world_new();
	struct fake_key *entry = fake_key(w.fake, "/f/assigned/m2/g.service");
	struct fake_key *epoch = fake_key(w.fake, "/f/assigned/m2/epoch");
	struct registry_assignment assignment = {.state = REGISTRY_LAUNCHED, .global = true};
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *text = set_text(w.cluster, "[X-Fleet]\nGlobal=true\n", 7, assignment.hash, hash);
	_cleanup_buf_ struct buf value = BUF_INIT(0);

	(void)state;
	(void)text;
	fake_key(w.fake, "/f/assigned/m2")->there = true;
	set_unit(w.cluster, "g.service", hash, "launched");
	registry_encode_assignment(&value, &assignment);
	cluster_set(w.cluster, "assigned/m2/g.service", buf_slice(&value), 7);
	w.fake->hold = "/f/assigned/m2";
	lead(&w);
	rounds_until(&w, w.fake->held);
	set_machine(w.cluster, "m2", true);
	engine_machine_changed(w.engine, "m2");
	engine_turn(w.engine);
	some_rounds(&w);
	/* The machine would take an index that is gone for the truth. */
	assert_false(epoch->there);
	fake_release(w.fake);
	rounds_until(&w, epoch->there);
	assert_true(entry->there && entry->index < epoch->index);
	/* Lost by hand: without it the machine trusts nothing. */
	epoch->there = false;
	cluster_remove(w.cluster, "assigned/m2/epoch", 0);
	rounds_until(&w, epoch->there);
	world_free(&w);
}

/* ---- whether what is published lasts ---- */

static void a_word_that_a_former_leader_takes_back_late_is_given_again(void **state)
{
	struct world w = world_new();
	struct fake_key *word = fake_key(w.fake, "/f/lease/states");

	(void)state;
	engine_states_seen(w.engine, false);
	w.fake->hold = "/f/lease/states";
	lead(&w);
	rounds_until(&w, w.fake->held);
	/* The mirror is faster than the answer: ours is told, and then the other's deletion. */
	engine_states_seen(w.engine, true);
	engine_states_seen(w.engine, false);
	fake_release(w.fake);
	rounds_until(&w, word->sets >= 2);
	engine_states_seen(w.engine, true);
	world_free(&w);
}

static void under_a_foreign_engine_the_word_is_taken_back(void **state)
{
	struct world w = world_new();
	struct fake_key *word = fake_key(w.fake, "/f/lease/states");

	(void)state;
	word->there = true;
	set_machine(w.cluster, "old", false);
	engine_states_seen(w.engine, true);
	engine_lease_seen(w.engine, SLICE_LITERAL("{\"MachineID\":\"old\",\"Version\":1}"));
	rounds_until(&w, !word->there);
	engine_states_seen(w.engine, false);
	assert_false(engine_leads(w.engine));
	world_free(&w);
}

static void decisions_that_were_not_written_are_counted(void **state)
{
	struct world w = world_new();
	struct engine_stats stats;
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *text = set_text(w.cluster, TEXT, 7, hex, hash);

	(void)state;
	(void)text;
	/* Somebody has placed it, and the news are still on their way. */
	fake_key(w.fake, "/f/job/a.service/target")->there = true;
	set_unit(w.cluster, "a.service", hash, "launched");
	lead(&w);
	rounds_until(&w, (engine_get_stats(w.engine, &stats), stats.not_placed >= 1));
	assert_int_equal(stats.not_taken_off, 0);
	world_free(&w);
}

/* ---- engine/version ---- */

static void an_engine_stands_down_for_a_newer_version_of_the_registry(void **state)
{
	struct world w = world_new();
	struct fake_key *version = fake_key(w.fake, "/f/engine/version");
	struct fake_key *lease = fake_key(w.fake, "/f/lease/engine-leader");
	char hex[UNIT_HASH_HEX_SIZE];
	uint8_t hash[UNIT_HASH_SIZE];
	_cleanup_free_ char *text = set_text(w.cluster, TEXT, 7, hex, hash);

	(void)state;
	(void)text;
	version->there = true;
	snprintf(version->value, sizeof(version->value), "2");
	set_unit(w.cluster, "a.service", hash, "launched");
	lead(&w); /* the version is read by who holds the lease */
	rounds_until(&w, !engine_leads(w.engine) && !lease->there);
	/* It has given the lease back, which is not for it. */
	engine_lease_seen(w.engine, (struct slice){0});
	wait_ms(&w, 300);
	assert_false(engine_leads(w.engine));
	assert_int_equal(lease->sets, 1);
	assert_int_equal(lease->refreshes, 0);
	assert_int_equal(fake_key(w.fake, "/f/job/a.service/target")->sets, 0);
	assert_int_equal(version->sets, 0);
	/* Not for good: the machines that were newer are gone, say. */
	snprintf(version->value, sizeof(version->value), "1");
	rounds_until(&w, engine_leads(w.engine) && fake_key(w.fake, "/f/job/a.service/target")->sets);
	world_free(&w);
}

static void a_leader_stands_down_when_the_version_is_raised(void **state)
{
	struct world w = world_new();
	struct fake_key *version = fake_key(w.fake, "/f/engine/version");
	struct fake_key *lease = fake_key(w.fake, "/f/lease/engine-leader");

	(void)state;
	lead(&w);
	rounds_until(&w, version->sets);
	engine_version_seen(w.engine, slice_str("1"));
	engine_version_seen(w.engine, slice_str("-2"));
	assert_true(engine_leads(w.engine));
	snprintf(version->value, sizeof(version->value), "2");
	engine_version_seen(w.engine, slice_str("2"));
	assert_false(engine_leads(w.engine));
	rounds_until(&w, !lease->there);
	engine_lease_seen(w.engine, (struct slice){0});
	wait_ms(&w, 300);
	assert_int_equal(lease->sets, 1);
	/* What the news say first is looked up. */
	engine_version_seen(w.engine, slice_str("1"));
	wait_ms(&w, 300);
	assert_false(engine_leads(w.engine));
	version->there = false;
	rounds_until(&w, engine_leads(w.engine) && version->sets == 2);
	assert_string_equal(version->value, "1");
	world_free(&w);
}

static void who_does_not_lead_hears_of_a_newer_version_before_it_asks_for_the_lease(void **state)
{
	struct world w = world_new();
	struct fake_key *version = fake_key(w.fake, "/f/engine/version");

	(void)state;
	version->there = true;
	snprintf(version->value, sizeof(version->value), "2");
	engine_version_seen(w.engine, slice_str("2"));
	engine_lease_seen(w.engine, (struct slice){0});
	wait_ms(&w, 300);
	assert_false(engine_leads(w.engine));
	assert_int_equal(fake_key(w.fake, "/f/lease/engine-leader")->sets, 0);
	world_free(&w);
}

static void a_version_that_is_missing_old_or_garbage_is_written(void **state)
{
	static const char *const values[] = {
		NULL, "", "0", "one", "2x", "-2", "{}", "99999999999999999999999"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct world w = world_new();
		struct fake_key *version = fake_key(w.fake, "/f/engine/version");

		version->there = values[i];
		snprintf(version->value, sizeof(version->value), "%s", values[i] ? values[i] : "");
		lead(&w);
		rounds_until(&w, version->sets);
		assert_string_equal(version->value, "1");
		some_rounds(&w);
		assert_true(engine_leads(w.engine));
		assert_int_equal(version->sets, 1);
		world_free(&w);
	}
}

static void a_version_that_is_ours_is_left_alone(void **state)
{
	struct world w = world_new();
	struct fake_key *version = fake_key(w.fake, "/f/engine/version");

	(void)state;
	version->there = true;
	snprintf(version->value, sizeof(version->value), "1");
	lead(&w);
	some_rounds(&w);
	assert_true(engine_leads(w.engine));
	assert_int_equal(version->sets, 0);
	world_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_leader_removes_the_empty_directories_that_others_left),
		cmocka_unit_test(an_empty_directory_is_asked_for_again_after_an_outage),
		cmocka_unit_test(a_directory_that_was_emptied_behind_a_refusal_goes),
		cmocka_unit_test(a_value_that_is_no_state_is_removed_and_nothing_else),
		cmocka_unit_test(garbage_that_was_written_again_is_left_alone),
		cmocka_unit_test(a_text_that_no_unit_refers_to_goes_after_a_while),
		cmocka_unit_test(a_text_that_was_used_meanwhile_is_as_new),
		cmocka_unit_test(a_wish_without_a_unit_goes_after_a_while),
		cmocka_unit_test(the_index_of_a_machine_that_stays_away_goes),
		cmocka_unit_test(a_machine_that_comes_back_while_its_index_goes_gets_it_anew),
		cmocka_unit_test(a_word_that_a_former_leader_takes_back_late_is_given_again),
		cmocka_unit_test(under_a_foreign_engine_the_word_is_taken_back),
		cmocka_unit_test(decisions_that_were_not_written_are_counted),
		cmocka_unit_test(an_engine_stands_down_for_a_newer_version_of_the_registry),
		cmocka_unit_test(a_leader_stands_down_when_the_version_is_raised),
		cmocka_unit_test(who_does_not_lead_hears_of_a_newer_version_before_it_asks_for_the_lease),
		cmocka_unit_test(a_version_that_is_missing_old_or_garbage_is_written),
		cmocka_unit_test(a_version_that_is_ours_is_left_alone),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
