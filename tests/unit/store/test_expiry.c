#include "store_helpers.h"
#include "store/expiry.h"

static void the_earliest_comes_first_and_ties_go_by_path(void **state)
{
	struct expiry expiry;
	struct slice path;
	int64_t at;
	static const char *const order[] = {"/c", "/a", "/b", "/d"};

	(void)state;
	expiry_init(&expiry);
	expiry_set(&expiry, slice_str("/d"), 9);
	expiry_set(&expiry, slice_str("/b"), 5);
	expiry_set(&expiry, slice_str("/a"), 5);
	expiry_set(&expiry, slice_str("/c"), 7);
	expiry_set(&expiry, slice_str("/c"), 1);
	expiry_remove(&expiry, slice_str("/none"));
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		assert_true(expiry_top(&expiry, &path, &at));
		assert_true(slice_is(path, order[i]));
		expiry_remove(&expiry, slice_str(order[i]));
	}
	assert_false(expiry_top(&expiry, &path, &at));
	expiry_done(&expiry);
}

static struct store_command with_expiry(const char *path, int64_t expires_ns)
{
	struct store_command command = command_make(STORE_OP_SET, path, "v");

	command.has_expiry = true;
	command.expires_ns = expires_ns;
	return command;
}

static struct store_command tick(int64_t now_ns)
{
	return (struct store_command){.op = STORE_OP_TICK, .time_ns = now_ns};
}

static void a_tick_expires_what_is_due_in_order_of_time(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();

	(void)state;
	apply_ok(store, with_expiry("/1/late", NOW + 3));
	apply_ok(store, with_expiry("/1/soon", NOW + 1));
	apply_ok(store, with_expiry("/1/d/x", NOW + 2));
	assert_true(store_next_expiry_ns(store) == NOW + 1);
	apply_is(store, tick(NOW), "expired 0");
	apply_is(store, tick(NOW + 2), "expired 2");
	assert_int_equal(store_index(store), 5);
	get_is(store, "/1/soon", false,
		"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/soon\",\"index\":5}");
	apply_is(store, tick(NOW + 1), "expired 0");
	assert_true(store_clock_ns(store) == NOW + 2);
	assert_true(store_next_expiry_ns(store) == NOW + 3);
}

/* As of a leader that was just elected, with a clock behind what its log tells. */
static void a_lifetime_is_not_shorter_for_a_proposer_behind_the_clock(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command = with_expiry("/1/k", NOW + 3 * NS_PER_S);

	(void)state;
	apply_is(store, tick(NOW + 10 * NS_PER_S), "expired 0");
	command.time_ns = NOW + NS_PER_S;
	apply_ok(store, command);
	assert_true(store_next_expiry_ns(store) == NOW + 12 * NS_PER_S);
	command.op = STORE_OP_UPDATE;
	command.refresh = true;
	command.expires_ns = NOW + 9 * NS_PER_S;
	apply_ok(store, command);
	assert_true(store_next_expiry_ns(store) == NOW + 18 * NS_PER_S);
	/* Not even for nonsense. */
	command.time_ns = INT64_MIN;
	apply_ok(store, command);
	assert_true(store_next_expiry_ns(store) == INT64_MAX);
	apply_is(store, tick(NOW + 20 * NS_PER_S), "expired 0");
}

static void deleting_a_directory_forgets_the_expiry_of_what_was_below(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command = command_make(STORE_OP_DELETE, "/1/d", "");

	(void)state;
	apply_ok(store, with_expiry("/1/d/a/b", NOW + 1));
	apply_ok(store, with_expiry("/1/d/c", NOW + 1));
	command.recursive = true;
	apply_ok(store, command);
	assert_true(store_next_expiry_ns(store) == INT64_MAX);
	apply_is(store, tick(NOW + 5), "expired 0");
}

static void an_expiring_directory_takes_its_children_and_makes_one_event(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command = with_expiry("/1/d", NOW + 1);

	(void)state;
	command.dir = true;
	apply_ok(store, command);
	apply_ok(store, with_expiry("/1/d/k", NOW + 1));
	apply_is(store, tick(NOW + 1), "expired 1");
	assert_int_equal(store_index(store), 3);
	assert_true(store_next_expiry_ns(store) == INT64_MAX);
}

static void a_large_expiry_is_spread_over_several_ticks(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	char path[32];

	(void)state;
	for (int i = 0; i < STORE_EXPIRE_MAX + 5; i++) {
		(void)snprintf(path, sizeof(path), "/1/k%d", i);
		apply_ok(store, with_expiry(path, NOW + 1));
	}
	apply_is(store, tick(NOW + 1), "expired 1000");
	assert_true(store_next_expiry_ns(store) == NOW + 1);
	apply_is(store, tick(NOW + 1), "expired 5");
}

static void an_update_without_ttl_makes_permanent(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();

	(void)state;
	apply_ok(store, with_expiry("/1/k", NOW + 1));
	apply_ok(store, command_make(STORE_OP_UPDATE, "/1/k", "w"));
	assert_true(store_next_expiry_ns(store) == INT64_MAX);
	get_is(store, "/1/k", false,
		"{\"action\":\"get\",\"node\":{\"key\":\"/"
		"k\",\"value\":\"w\",\"modifiedIndex\":2,\"createdIndex\":1}}");
}

/* Many records are forgotten in slices: nothing of that may show in the state. */
static void a_large_directory_that_goes_takes_its_expiries_along_slowly(void **state)
{
	enum { KEYS = 5000 };
	_cleanup_(store_freep) struct store *store = store_new(), *other = store_new();
	struct store_command delete = command_make(STORE_OP_DELETE, "/1/d", "");
	char path[32];

	(void)state;
	delete.recursive = true;
	for (int i = 0; i < KEYS; i++) {
		(void)snprintf(path, sizeof(path), "/1/d/k%d", i);
		apply_ok(store, with_expiry(path, NOW + 1));
		apply_ok(other, with_expiry(path, NOW + 1));
	}
	apply_ok(store, delete);
	apply_ok(other, delete);
	while (store_collect(other, 100))
		;
	assert_true(store_next_expiry_ns(other) == INT64_MAX);
	assert_true(store_next_expiry_ns(store) == NOW + 1); /* of one that is gone */
	/* In the place of one that is gone another, which expires at the same time; and one that does not. */
	apply_ok(store, with_expiry("/1/d/k7", NOW + 1));
	apply_ok(other, with_expiry("/1/d/k7", NOW + 1));
	apply_ok(store, command_make(STORE_OP_SET, "/1/d/k4999", "v"));
	apply_ok(other, command_make(STORE_OP_SET, "/1/d/k4999", "v"));
	apply_is(store, tick(NOW + 1), "expired 1");
	apply_is(other, tick(NOW + 1), "expired 1");
	assert_true(store_hash(store) == store_hash(other));
	while (store_collect(store, 1))
		;
	assert_true(store_next_expiry_ns(store) == INT64_MAX);
	get_is(store, "/1/d/k4999", false,
		"{\"action\":\"get\",\"node\":{\"key\":\"/d/"
		"k4999\",\"value\":\"v\",\"modifiedIndex\":5003,\"createdIndex\":5003}}");
}

static void a_store_ends_in_slices_whatever_is_in_it(void **state)
{
	struct store *store = store_new();
	struct store_command delete = command_make(STORE_OP_DELETE, "/1/d", "");
	char path[40];
	int slices = 0;

	(void)state;
	delete.recursive = true;
	for (int i = 0; i < 20000; i++) {
		(void)snprintf(path, sizeof(path), "/1/%c/k%d", i < 3000 ? 'd' : 'e', i);
		apply_ok(store, i % 2 ? with_expiry(path, NOW + i) : command_make(STORE_OP_SET, path, "v"));
	}
	apply_ok(store, delete); /* still being forgotten when the store ends */
	while (store) {
		store = store_free_some(store, 10);
		slices++;
	}
	assert_in_range(slices, 50, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_earliest_comes_first_and_ties_go_by_path),
		cmocka_unit_test(a_tick_expires_what_is_due_in_order_of_time),
		cmocka_unit_test(a_lifetime_is_not_shorter_for_a_proposer_behind_the_clock),
		cmocka_unit_test(deleting_a_directory_forgets_the_expiry_of_what_was_below),
		cmocka_unit_test(an_expiring_directory_takes_its_children_and_makes_one_event),
		cmocka_unit_test(a_large_expiry_is_spread_over_several_ticks),
		cmocka_unit_test(an_update_without_ttl_makes_permanent),
		cmocka_unit_test(a_large_directory_that_goes_takes_its_expiries_along_slowly),
		cmocka_unit_test(a_store_ends_in_slices_whatever_is_in_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
