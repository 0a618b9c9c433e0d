/* Keys kept in the store: written, refreshed, written again when lost, taken back only if they are still
 * ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_etcd.h"
#include "fleet/held.h"

static void a_key_is_written_once_and_then_refreshed(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 1, false);

	(void)state;
	held_set(held, "/a", "1");
	held_set(held, "/a", "1");
	fake_run_until(fake, fake_key(fake, "/a")->refreshes >= 2);
	assert_int_equal(fake_key(fake, "/a")->sets, 1);
	held_free(held);
	fake_etcd_free(fake);
}

static void the_last_value_wins_also_while_a_write_is_under_way(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, false);

	(void)state;
	held_set(held, "/a", "1");
	fake_run_until(fake, fake->requests == 1);
	held_set(held, "/a", "2");
	held_set(held, "/a", "3");
	fake_run_until(fake, strcmp(fake_key(fake, "/a")->value, "3") == 0);
	assert_int_equal(fake_key(fake, "/a")->sets, 2);
	held_drop(held, "/a");
	held_set(held, "/a", "4");
	fake_run_until(fake, fake_key(fake, "/a")->there && strcmp(fake_key(fake, "/a")->value, "4") == 0);
	assert_int_equal(held_dropping(held), 0);
	held_free(held);
	fake_etcd_free(fake);
}

static void a_lost_key_is_written_again(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, false);

	(void)state;
	held_set(held, "/a", "1");
	held_set(held, "/b", "1");
	fake_run_until(fake, fake_key(fake, "/a")->there && fake_key(fake, "/b")->there);
	fake_key(fake, "/a")->there = false;
	held_renew_all(held);
	fake_run_until(fake, fake_key(fake, "/a")->there && fake_key(fake, "/b")->refreshes == 1);
	assert_int_equal(fake_key(fake, "/b")->sets, 1);
	held_free(held);
	fake_etcd_free(fake);
}

static void a_drop_deletes_what_is_ours_and_leaves_what_is_not(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, false);
	int requests;

	(void)state;
	held_set(held, "/a", "mine");
	held_set(held, "/b", "mine");
	fake_run_until(fake, fake_key(fake, "/a")->there && fake_key(fake, "/b")->there);
	strcpy(fake_key(fake, "/b")->value, "another's");
	fake_key(fake, "/b")->index = ++fake->index;
	held_drop(held, "/a");
	held_drop(held, "/b");
	held_drop(held, "/never");
	assert_int_equal(held_dropping(held), 2);
	fake_run_until(fake, held_dropping(held) == 0);
	assert_false(fake_key(fake, "/a")->there);
	assert_true(fake_key(fake, "/b")->there);
	requests = fake->requests;
	held_renew_all(held);
	fake_run_until(fake, fake->requests == requests);
	held_free(held);
	fake_etcd_free(fake);
}

static void everything_arrives_after_an_outage(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, false);

	(void)state;
	held_set(held, "/gone", "1");
	fake_run_until(fake, fake_key(fake, "/gone")->there);
	fake->away = true;
	held_set(held, "/a", "1");
	held_drop(held, "/gone");
	fake_run_until(fake, fake->requests >= 5);
	assert_false(fake_key(fake, "/a")->there);
	fake->away = false;
	fake_run_until(
		fake, fake_key(fake, "/a")->there && !fake_key(fake, "/gone")->there && !held_dropping(held));
	held_free(held);
	fake_etcd_free(fake);
}

static void what_lasts_costs_nothing_until_it_changes(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 1, false);
	int requests;

	(void)state;
	held_set(held, "/a", "1");
	held_set(held, "/b", "1");
	fake_run_until(fake, fake_key(fake, "/a")->there && fake_key(fake, "/b")->there);
	held_set_lasting(held, true);
	fake_run_until(fake, fake_key(fake, "/a")->sets == 2 && fake_key(fake, "/b")->sets == 2);
	requests = fake->requests;
	/* Longer than a refresh would have been away. */
	for (uint64_t until = uv_now(&fake->loop) + 1200; uv_now(&fake->loop) < until;)
		(void)uv_run(&fake->loop, UV_RUN_NOWAIT);
	assert_int_equal(fake->requests, requests);
	held_set(held, "/a", "2");
	fake_run_until(fake, strcmp(fake_key(fake, "/a")->value, "2") == 0);
	fake_key(fake, "/b")->there = false;
	held_renew_all(held);
	fake_run_until(fake, fake_key(fake, "/b")->there);
	held_set_lasting(held, false);
	fake_run_until(fake, fake_key(fake, "/a")->refreshes >= 1 && fake_key(fake, "/b")->refreshes >= 1);
	held_free(held);
	fake_etcd_free(fake);
}

static void what_an_earlier_life_left_is_removed_if_it_is_still_that(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, false);

	(void)state;
	held_set(held, "/held", "1");
	held_set(held, "/old", "1");
	held_set(held, "/other", "2");
	fake_run_until(fake, fake_key(fake, "/held")->there && fake_key(fake, "/old")->there &&
				     fake_key(fake, "/other")->there);
	held_free(held);
	held = held_new(fake->client, 30, false);
	held_set(held, "/held", "1");
	held_remove(held, "/held", "1");
	held_remove(held, "/old", "1");
	held_remove(held, "/other", "1");
	fake_run_until(fake, held_dropping(held) == 0);
	assert_true(fake_key(fake, "/held")->there && fake_key(fake, "/other")->there);
	assert_false(fake_key(fake, "/old")->there);
	held_free(held);
	fake_etcd_free(fake);
}

static void what_nobody_else_writes_goes_whatever_is_in_it(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, true);

	(void)state;
	held_set(held, "/a", "1");
	fake_run_until(fake, fake_key(fake, "/a")->there);
	strcpy(fake_key(fake, "/a")->value, "2");
	held_drop(held, "/a");
	fake_run_until(fake, held_dropping(held) == 0);
	assert_false(fake_key(fake, "/a")->there);
	held_free(held);
	fake_etcd_free(fake);
}

static void one_that_lasts_is_written_again_when_it_is_missed(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, false);

	(void)state;
	held_set_lasting(held, true);
	held_set(held, "/a", "1");
	held_set(held, "/b", "1");
	fake_run_until(fake, fake_key(fake, "/a")->there && fake_key(fake, "/b")->there);
	fake_key(fake, "/a")->there = fake_key(fake, "/b")->there = false;
	held_renew(held, "/a");
	held_renew(held, "/never");
	fake_run_until(fake, fake_key(fake, "/a")->there);
	assert_false(fake_key(fake, "/b")->there);
	held_free(held);
	fake_etcd_free(fake);
}

static void a_write_that_comes_late_changes_nothing(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, true);

	(void)state;
	held_set_lasting(held, true);
	held_set(held, "/changed", "1");
	held_set(held, "/gone", "1");
	fake_run_until(fake, fake_key(fake, "/changed")->there && fake_key(fake, "/gone")->there);
	fake->stall = true;
	held_set(held, "/changed", "2");
	held_set(held, "/gone", "2");
	held_set(held, "/new", "2");
	fake_run_until(fake, fake->stalled_count == 3);
	fake->stall = false;
	held_set(held, "/changed", "3");
	held_drop(held, "/gone");
	held_set(held, "/new", "3");
	fake_run_until(fake, strcmp(fake_key(fake, "/changed")->value, "3") == 0 &&
				     strcmp(fake_key(fake, "/new")->value, "3") == 0 && !held_dropping(held));
	fake_go_on(fake);
	assert_string_equal(fake_key(fake, "/changed")->value, "3");
	assert_string_equal(fake_key(fake, "/new")->value, "3");
	assert_false(fake_key(fake, "/gone")->there);
	held_free(held);
	fake_etcd_free(fake);
}

static void what_comes_back_after_it_was_gone_is_found_and_removed(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, true);

	(void)state;
	held_set_lasting(held, true);
	fake->stall = true;
	held_set(held, "/a", "1");
	fake_run_until(fake, fake->stalled_count == 1);
	fake->stall = false;
	held_drop(held, "/a");
	fake_run_until(fake, !held_dropping(held));
	fake_go_on(fake);
	assert_true(fake_key(fake, "/a")->there);
	fake_run_until(fake, !fake_key(fake, "/a")->there);
	held_free(held);
	fake_etcd_free(fake);
}

static void what_is_as_it_shall_be_is_not_written(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, true);
	int requests;

	(void)state;
	held_set_lasting(held, true);
	held_set(held, "/a", "1");
	held_set(held, "/b", "1");
	fake_run_until(fake, fake_key(fake, "/a")->there && fake_key(fake, "/b")->there);
	held_free(held);
	/* The next life. */
	held = held_new(fake->client, 30, true);
	held_set_lasting(held, true);
	requests = fake->requests;
	held_set(held, "/a", "1");
	held_set(held, "/b", "2");
	fake_run_until(fake, strcmp(fake_key(fake, "/b")->value, "2") == 0 && fake->requests == requests + 5);
	assert_int_equal(fake_key(fake, "/a")->sets, 1);
	held_free(held);
	fake_etcd_free(fake);
}

static void what_another_wrote_since_is_put_right(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct held *held = held_new(fake->client, 30, true);
	int requests;

	(void)state;
	held_set_lasting(held, true);
	held_set(held, "/a", "1");
	fake_run_until(fake, fake_key(fake, "/a")->there && fake_key(fake, "/a")->index > 0);
	for (int i = 0; i < 20; i++)
		(void)uv_run(&fake->loop, UV_RUN_NOWAIT);
	requests = fake->requests;
	held_seen(held, "/a", fake_key(fake, "/a")->index);
	for (int i = 0; i < 20; i++)
		(void)uv_run(&fake->loop, UV_RUN_NOWAIT);
	assert_int_equal(fake->requests, requests);
	strcpy(fake_key(fake, "/a")->value, "another's");
	fake_key(fake, "/a")->index = ++fake->index;
	held_seen(held, "/a", fake->index);
	fake_run_until(fake, strcmp(fake_key(fake, "/a")->value, "1") == 0);
	held_free(held);
	fake_etcd_free(fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_written_once_and_then_refreshed),
		cmocka_unit_test(the_last_value_wins_also_while_a_write_is_under_way),
		cmocka_unit_test(a_lost_key_is_written_again),
		cmocka_unit_test(a_drop_deletes_what_is_ours_and_leaves_what_is_not),
		cmocka_unit_test(everything_arrives_after_an_outage),
		cmocka_unit_test(what_lasts_costs_nothing_until_it_changes),
		cmocka_unit_test(what_an_earlier_life_left_is_removed_if_it_is_still_that),
		cmocka_unit_test(what_nobody_else_writes_goes_whatever_is_in_it),
		cmocka_unit_test(one_that_lasts_is_written_again_when_it_is_missed),
		cmocka_unit_test(a_write_that_comes_late_changes_nothing),
		cmocka_unit_test(what_comes_back_after_it_was_gone_is_found_and_removed),
		cmocka_unit_test(what_is_as_it_shall_be_is_not_written),
		cmocka_unit_test(what_another_wrote_since_is_put_right),
	};

	return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}
