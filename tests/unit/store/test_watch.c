#include "store_helpers.h"

struct probe {
	struct store_watch watch;
	struct store *store;
	struct probe *stops; /* another watch to stop when called */
	unsigned calls;
	uint64_t last_index;
};

static void probe_fn(struct store_watch *watch, struct store_event *event)
{
	struct probe *probe = container_of(watch, struct probe, watch);

	probe->calls++;
	probe->last_index = store_event_index(event);
	if (probe->stops)
		store_watch_stop(probe->store, &probe->stops->watch);
}

static void probe_start(
	struct store *store, struct probe *probe, const char *path, bool recursive, bool stream)
{
	struct store_result result;
	struct store_event *event;

	*probe = (struct probe){.store = store};
	assert_int_equal(store_watch_start(store, &probe->watch, slice_str(path), recursive, stream, 0,
				 probe_fn, &event, &result),
		0);
}

static void drain(struct store *store)
{
	while (store_deliver(store, 1))
		;
	assert_int_equal(store_undelivered(store), 0);
}

static void watches_see_their_key_and_recursive_ones_what_is_below(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct probe exact, dir, below, root, other;

	(void)state;
	probe_start(store, &exact, "/1/d/k", false, false);
	probe_start(store, &dir, "/1/d", false, false);
	probe_start(store, &below, "/1/d", true, true);
	probe_start(store, &root, "/1", true, true);
	probe_start(store, &other, "/1/dx", true, false);
	apply_ok(store, command_make(STORE_OP_SET, "/1/d/k", "1"));
	apply_ok(store, command_make(STORE_OP_SET, "/1/d/_h", "1"));
	apply_ok(store, command_make(STORE_OP_SET, "/1/d/k", "2"));
	assert_int_equal(exact.calls, 0);
	drain(store);
	assert_true(exact.calls == 1 && exact.last_index == 1 && !exact.watch.active);
	assert_int_equal(dir.calls, 0);
	assert_true(below.calls == 2 && below.watch.active);
	assert_int_equal(root.calls, 2);
	assert_int_equal(other.calls, 0);
	store_watch_stop(store, &dir.watch);
	store_watch_stop(store, &below.watch);
	store_watch_stop(store, &root.watch);
	store_watch_stop(store, &other.watch);
	store_watch_stop(store, &other.watch);
}

static void deleting_a_directory_wakes_those_who_watch_what_existed_below(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command gone = command_make(STORE_OP_DELETE, "/1/d", "");
	struct probe key, missing, above;

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/d/s/k", "1"));
	probe_start(store, &key, "/1/d/s/k", false, false);
	probe_start(store, &missing, "/1/d/s/none", false, false);
	probe_start(store, &above, "/1/d", true, true);
	gone.recursive = true;
	apply_ok(store, gone);
	drain(store);
	assert_int_equal(key.calls, 1);
	assert_int_equal(missing.calls, 0);
	assert_int_equal(above.calls, 1);
	store_watch_stop(store, &missing.watch);
	store_watch_stop(store, &above.watch);
}

static void a_watch_may_be_stopped_between_event_and_delivery(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct probe first, second, third;

	(void)state;
	probe_start(store, &first, "/1/k", false, false);
	probe_start(store, &second, "/1/k", false, false);
	probe_start(store, &third, "/1/k", false, false);
	first.stops = &second;
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "1"));
	drain(store);
	assert_true(first.calls == 1 && second.calls == 0 && third.calls == 1);
}

static void a_watch_that_begins_before_delivery_sees_only_later_events(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct probe early, late;

	(void)state;
	probe_start(store, &early, "/1/k", false, false);
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "1"));
	probe_start(store, &late, "/1/k", false, false);
	drain(store);
	assert_true(early.calls == 1 && late.calls == 0);
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "2"));
	drain(store);
	assert_true(late.calls == 1 && late.last_index == 2);
}

static void refresh_wakes_nobody_and_history_skips_it(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command refresh = command_make(STORE_OP_SET, "/1/k", "");
	struct store_event *event = NULL;
	struct store_result result;
	struct probe probe;

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "1"));
	probe_start(store, &probe, "/1/k", false, true);
	refresh.refresh = true;
	apply_ok(store, refresh);
	drain(store);
	assert_int_equal(probe.calls, 0);
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "2"));
	drain(store);
	store_watch_stop(store, &probe.watch);
	assert_int_equal(store_watch_start(store, &probe.watch, slice_str("/1/k"), false, false, 2, probe_fn,
				 &event, &result),
		1);
	assert_int_equal(store_event_index(event), 3);
	(void)store_event_unref(event);
}

static int since(struct store *store, uint64_t index, uint64_t *ret_index, char **ret_cause)
{
	struct probe probe = {.store = store};
	struct store_event *event = NULL;
	struct store_result result;
	int r = store_watch_start(
		store, &probe.watch, slice_str("/1"), true, false, index, probe_fn, &event, &result);

	store_watch_stop(store, &probe.watch);
	*ret_index = event ? store_event_index(event) : 0;
	(void)store_event_unref(event);
	*ret_cause = take_ptr(result.cause);
	return r;
}

static void the_history_keeps_exactly_a_thousand_events(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	_cleanup_free_ char *none = NULL, *cause = NULL;
	uint64_t index;

	(void)state;
	for (int i = 0; i < 1000; i++)
		apply_ok(store, command_make(STORE_OP_SET, "/1/k", "v"));
	assert_int_equal(since(store, 1, &index, &none), 1);
	assert_int_equal(index, 1);
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "v"));
	assert_int_equal(since(store, 1, &index, &cause), -1);
	assert_string_equal(cause, "the requested history has been cleared [2/1]");
	assert_int_equal(since(store, 2, &index, &none), 1);
	assert_int_equal(since(store, 1001, &index, &none), 1);
	assert_int_equal(since(store, 1002, &index, &none), 0);
}

/* Values of 1 MiB: what is kept holds 16 MiB at most, an old and a new value each, and never nothing. */
static void the_history_is_bounded_in_bytes_too(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	_cleanup_free_ char *none = NULL, *first = NULL, *cause = NULL, *huge = NULL;
	char *value = mem_calloc(1, (1 << 20) + 1), path[32];
	uint64_t index;

	(void)state;
	memset(value, 'v', 1 << 20);
	for (int i = 0; i < 100; i++)
		apply_ok(store, command_make(STORE_OP_SET, "/1/small", "v"));
	for (int i = 0; i < 15; i++) {
		(void)snprintf(path, sizeof(path), "/1/k%d", i);
		apply_ok(store, command_make(STORE_OP_SET, path, value));
	}
	assert_int_equal(since(store, 1, &index, &none), 1);
	assert_int_equal(index, 1);
	for (int i = 0; i < 15; i++) {
		(void)snprintf(path, sizeof(path), "/1/k%d", i);
		apply_ok(store, command_make(STORE_OP_SET, path, value));
	}
	assert_int_equal(since(store, 123, &index, &first), -1);
	assert_string_equal(first, "the requested history has been cleared [124/123]");
	assert_int_equal(since(store, 124, &index, &none), 1);
	for (int i = 0; i < 1000; i++)
		apply_ok(store, command_make(STORE_OP_SET, "/1/small", "v"));
	assert_int_equal(since(store, 130, &index, &cause), -1);
	assert_string_equal(cause, "the requested history has been cleared [131/130]");
	free(value);
	value = mem_calloc(1, (40 << 20) + 1);
	memset(value, 'v', 40 << 20);
	apply_ok(store, command_make(STORE_OP_SET, "/1/huge", value));
	apply_ok(store, command_make(STORE_OP_SET, "/1/huge", value));
	assert_int_equal(since(store, 1131, &index, &huge), -1);
	assert_string_equal(huge, "the requested history has been cleared [1132/1131]");
	assert_int_equal(since(store, 1132, &index, &none), 1);
	free(value);
}

static void a_past_delete_of_a_directory_matches_by_raw_prefix(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command gone = command_make(STORE_OP_DELETE, "/1/d", "");
	struct probe probe = {.store = store};
	struct store_event *event = NULL;
	struct store_result result;

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/d/k", "v"));
	gone.recursive = true;
	apply_ok(store, gone);
	assert_int_equal(store_watch_start(store, &probe.watch, slice_str("/1/dx"), false, false, 2, probe_fn,
				 &event, &result),
		1);
	assert_string_equal(store_event_json(event).data,
		"{\"action\":\"delete\",\"node\":{\"key\":\"/"
		"d\",\"dir\":true,\"modifiedIndex\":2,\"createdIndex\":1},"
		"\"prevNode\":{\"key\":\"/d\",\"dir\":true,\"modifiedIndex\":1,\"createdIndex\":1}}\n");
	(void)store_event_unref(event);
}

static void ten_thousand_watchers_of_one_key_are_told_in_slices(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct probe *probes = mem_new_array(struct probe, 10000);
	unsigned slices = 0, calls = 0;

	(void)state;
	for (int i = 0; i < 10000; i++)
		probe_start(store, &probes[i], "/1/k", false, false);
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "v"));
	while (store_deliver(store, 256))
		slices++;
	for (int i = 0; i < 10000; i++)
		calls += probes[i].calls;
	assert_true(calls == 10000 && slices == 39);
	free(probes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watches_see_their_key_and_recursive_ones_what_is_below),
		cmocka_unit_test(deleting_a_directory_wakes_those_who_watch_what_existed_below),
		cmocka_unit_test(a_watch_may_be_stopped_between_event_and_delivery),
		cmocka_unit_test(a_watch_that_begins_before_delivery_sees_only_later_events),
		cmocka_unit_test(refresh_wakes_nobody_and_history_skips_it),
		cmocka_unit_test(the_history_keeps_exactly_a_thousand_events),
		cmocka_unit_test(the_history_is_bounded_in_bytes_too),
		cmocka_unit_test(a_past_delete_of_a_directory_matches_by_raw_prefix),
		cmocka_unit_test(ten_thousand_watchers_of_one_key_are_told_in_slices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
