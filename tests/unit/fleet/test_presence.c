/* Presence: registration, adoption of one's own earlier life, refusal of a double, and what counts as
 * contact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "fake_etcd.h"
#include "fleet/presence.h"

#define KEY "/fleet/machines/m1/object"

struct heard {
	int registered, lost, regained, refused, withdrawn;
};

static void on_registered(void *userdata)
{
	((struct heard *)userdata)->registered++;
}

static void on_contact(void *userdata, bool ok, const char *why)
{
	struct heard *heard = userdata;

	(void)why;
	heard->regained += ok;
	heard->lost += !ok;
}

static void on_refused(void *userdata, const char *why)
{
	assert_non_null(strstr(why, "another machine is registered"));
	((struct heard *)userdata)->refused++;
}

static void on_withdrawn(void *userdata)
{
	((struct heard *)userdata)->withdrawn++;
}

static struct presence *begin(
	struct fake_etcd *fake, struct heard *heard, char *boot, char *nonce, int64_t ttl_s)
{
	struct registry_machine machine = {.id = "m1",
		.public_ip = "10.0.0.1",
		.version = "1",
		.peer_api = "",
		.boot = boot,
		.nonce = nonce};
	struct presence_events events = {on_registered, on_contact, on_refused};

	return presence_new(fake->client, KEY, &machine, ttl_s, &events, heard);
}

static void leave_key(struct fake_etcd *fake, const char *boot, const char *nonce)
{
	struct fake_key *key = fake_key(fake, KEY);

	snprintf(key->value, sizeof(key->value),
		"{\"ID\":\"m1\",\"PublicIP\":\"10.9.9.9\",\"Flotilla\":{\"API\":\"\",\"Boot\":\"%s\","
		"\"Nonce\":\"%s\"}}",
		boot, nonce);
	key->index = ++fake->index;
	key->there = true;
}

static void a_free_place_is_taken_refreshed_and_given_back(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 1);

	(void)state;
	fake_run_until(fake, heard.registered == 1 && fake_key(fake, KEY)->refreshes >= 2);
	assert_int_equal(fake_key(fake, KEY)->sets, 1);
	assert_true(presence_contact_since_ms(presence) > 0);
	presence_withdraw(presence, on_withdrawn, &heard);
	fake_run_until(fake, heard.withdrawn == 1);
	assert_false(fake_key(fake, KEY)->there);
	presence_free(presence);
	fake_etcd_free(fake);
}

/* It was given up for the end, and carried out: the key is not what it was known as. */
static void a_refresh_that_was_on_its_way_does_not_keep_it(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 1);
	struct fake_key *key = fake_key(fake, KEY);

	(void)state;
	fake_run_until(fake, heard.registered == 1);
	fake->hold = KEY;
	fake_run_until(fake, fake->held);
	presence_withdraw(presence, on_withdrawn, &heard);
	fake_run_until(fake, heard.withdrawn == 1);
	assert_false(key->there);
	assert_int_equal(key->deletes, 2);
	fake_release(fake);
	presence_free(presence);
	fake_etcd_free(fake);
}

/* No machine has written that, and none can be there by it. */
static void what_nobody_understands_is_overwritten(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct fake_key *key = fake_key(fake, KEY);
	struct presence *presence;

	(void)state;
	(void)snprintf(key->value, sizeof(key->value), "{\"ID\":7}");
	key->index = ++fake->index;
	key->there = true;
	presence = begin(fake, &heard, "b", "n", 30);
	fake_run_until(fake, heard.registered == 1);
	assert_non_null(strstr(key->value, "10.0.0.1"));
	presence_free(presence);
	fake_etcd_free(fake);
}

/* Another machine's, or nobody's whom this one knows. */
static void what_is_anothers_by_now_is_left(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 30);

	(void)state;
	fake_run_until(fake, heard.registered == 1);
	leave_key(fake, "other", "other");
	presence_withdraw(presence, on_withdrawn, &heard);
	fake_run_until(fake, heard.withdrawn == 1);
	assert_true(fake_key(fake, KEY)->there);
	presence_free(presence);
	fake_etcd_free(fake);
}

static void the_key_of_an_earlier_life_is_taken_up_at_once(void **state)
{
	static const char *const boots[] = {"b", "before the reboot"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(boots); i++) {
		struct fake_etcd *fake = fake_etcd_new();
		struct heard heard = {0};
		struct presence *presence;

		leave_key(fake, boots[i], "n");
		presence = begin(fake, &heard, "b", "n", 30);
		fake_run_until(fake, heard.registered == 1);
		assert_int_equal(heard.refused, 0);
		assert_non_null(strstr(fake_key(fake, KEY)->value, "10.0.0.1"));
		presence_free(presence);
		fake_etcd_free(fake);
	}
}

static void a_double_is_refused_until_the_other_is_gone(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence;

	(void)state;
	leave_key(fake, "b", "other");
	presence = begin(fake, &heard, "b", "n", 30);
	fake_run_until(fake, heard.refused == 1 && fake->requests >= 5);
	assert_int_equal(heard.registered, 0);
	assert_int_equal(heard.refused, 1);
	assert_non_null(strstr(fake_key(fake, KEY)->value, "10.9.9.9"));
	fake_key(fake, KEY)->there = false;
	fake_run_until(fake, heard.registered == 1);
	presence_free(presence);
	fake_etcd_free(fake);
}

static void a_copied_installation_does_not_fight_for_the_place(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 1);

	(void)state;
	fake_run_until(fake, heard.registered == 1);
	/* The same nonce from another boot while we are alive: a clone has taken the key. */
	leave_key(fake, "the clone's boot", "n");
	fake_run_until(fake, heard.refused == 1);
	assert_non_null(strstr(fake_key(fake, KEY)->value, "10.9.9.9"));
	presence_free(presence);
	fake_etcd_free(fake);
}

static void a_lost_key_is_written_again_and_outages_are_told(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 1);
	uint64_t since;

	(void)state;
	fake_run_until(fake, heard.registered == 1);
	fake_key(fake, KEY)->there = false;
	fake_run_until(fake, heard.registered == 2);
	assert_int_equal(heard.lost, 0);
	since = presence_contact_since_ms(presence);
	fake->away = true;
	fake_run_until(fake, heard.lost == 1);
	assert_int_equal(presence_contact_since_ms(presence), 0);
	/* Long enough for keys to have expired: the contact is a new one. */
	fake_key(fake, KEY)->there = false;
	for (int requests = fake->requests; fake->requests < requests + 5;)
		uv_run(&fake->loop, UV_RUN_ONCE);
	fake->away = false;
	fake_run_until(fake, heard.regained == 2 && heard.registered == 3);
	assert_true(presence_contact_since_ms(presence) > since);
	presence_free(presence);
	fake_etcd_free(fake);
}

static void a_process_that_was_stopped_for_a_while_had_no_contact(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 1);
	uint64_t since;

	(void)state;
	fake_run_until(fake, heard.registered == 1);
	since = presence_contact_since_ms(presence);
	assert_true(since > 0);
	usleep(700000); /* more than half its TTL: enough for the others' presence to have expired */
	uv_update_time(&fake->loop);
	assert_int_equal(presence_contact_since_ms(presence), 0);
	fake_run_until(fake, heard.lost >= 1 && heard.regained >= 2);
	assert_true(presence_contact_since_ms(presence) > since);
	presence_free(presence);
	fake_etcd_free(fake);
}

static void a_lost_answer_leaves_time_to_try_again(void **state)
{
	(void)state;
	assert_int_equal(presence_timeout_ms(30, 1000), 1000);
	assert_true(presence_timeout_ms(1, 1000) > 0);
	for (int64_t ttl = 2; ttl < 30; ttl++) {
		int64_t timeout = presence_timeout_ms(ttl, 1000), retry = 200;

		/* The first refresh, on each of two servers, and the next one. */
		assert_true(timeout > 0 && ttl * 1000 / 3 + 2 * timeout + retry + timeout <= ttl * 1000);
	}
}

/* Borrows the address. */
static struct registry_machine machine_at(const char *ip)
{
	return (struct registry_machine){.id = "m1",
		.public_ip = (char *)ip,
		.version = "1",
		.peer_api = "",
		.boot = "b",
		.nonce = "n"};
}

static void other_contents_are_written_without_losing_the_place(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 30);
	struct registry_machine machine = machine_at("10.0.0.2");

	(void)state;
	fake_run_until(fake, heard.registered == 1);
	presence_update(presence, &machine);
	fake_run_until(fake, strstr(fake_key(fake, KEY)->value, "10.0.0.2"));
	assert_int_equal(heard.registered, 1);
	presence_free(presence);
	fake_etcd_free(fake);
}

static void what_changes_while_it_is_written_is_written_again(void **state)
{
	struct fake_etcd *fake = fake_etcd_new();
	struct heard heard = {0};
	struct presence *presence = begin(fake, &heard, "b", "n", 30);
	struct registry_machine machine = machine_at("10.0.0.2");

	(void)state;
	fake_run_until(fake, heard.registered == 1);
	fake->stall = true;
	presence_update(presence, &machine);
	fake_run_until(fake, fake->stalled_count == 1);
	machine.public_ip = "10.0.0.3";
	presence_update(presence, &machine);
	fake_go_on(fake);
	fake_run_until(fake, strstr(fake_key(fake, KEY)->value, "10.0.0.3"));
	presence_free(presence);
	fake_etcd_free(fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_free_place_is_taken_refreshed_and_given_back),
		cmocka_unit_test(a_refresh_that_was_on_its_way_does_not_keep_it),
		cmocka_unit_test(what_nobody_understands_is_overwritten),
		cmocka_unit_test(what_is_anothers_by_now_is_left),
		cmocka_unit_test(the_key_of_an_earlier_life_is_taken_up_at_once),
		cmocka_unit_test(a_double_is_refused_until_the_other_is_gone),
		cmocka_unit_test(a_copied_installation_does_not_fight_for_the_place),
		cmocka_unit_test(a_lost_key_is_written_again_and_outages_are_told),
		cmocka_unit_test(a_process_that_was_stopped_for_a_while_had_no_contact),
		cmocka_unit_test(a_lost_answer_leaves_time_to_try_again),
		cmocka_unit_test(other_contents_are_written_without_losing_the_place),
		cmocka_unit_test(what_changes_while_it_is_written_is_written_again),
	};

	return cmocka_run_group_tests_name("presence", tests, NULL, NULL);
}
