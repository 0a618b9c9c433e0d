#include "store_helpers.h"

static struct store_command cas(
	enum store_op op, const char *path, const char *value, const char *prev, uint64_t index)
{
	struct store_command command = command_make(op, path, value);

	command.prev_value = slice_str(prev);
	command.prev_index = index;
	return command;
}

static void a_set_makes_the_key_and_its_parents_and_then_replaces_it(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();

	(void)state;
	apply_is(store, command_make(STORE_OP_SET, "/1/a/b", "x"),
		"{\"action\":\"set\",\"node\":{\"key\":\"/a/"
		"b\",\"value\":\"x\",\"modifiedIndex\":1,\"createdIndex\":1}}");
	apply_is(store, command_make(STORE_OP_SET, "/1/a/b", ""),
		"{\"action\":\"set\",\"node\":{\"key\":\"/a/"
		"b\",\"value\":\"\",\"modifiedIndex\":2,\"createdIndex\":2},"
		"\"prevNode\":{\"key\":\"/a/b\",\"value\":\"x\",\"modifiedIndex\":1,\"createdIndex\":1}}");
	get_is(store, "/1", true,
		"{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/"
		"a\",\"dir\":true,\"nodes\":[{\"key\":\"/a/b\","
		"\"value\":\"\",\"modifiedIndex\":2,\"createdIndex\":2}],\"modifiedIndex\":1,"
		"\"createdIndex\":1}]}}");
	get_is(store, "/1", false,
		"{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/"
		"a\",\"dir\":true,\"modifiedIndex\":1,"
		"\"createdIndex\":1}]}}");
}

static void errors_name_what_is_in_the_way(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command;

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/f", "x"));
	apply_is(store, command_make(STORE_OP_SET, "/1/f/g/h", "x"),
		"{\"errorCode\":104,\"message\":\"Not a directory\",\"cause\":\"/f\",\"index\":1}");
	apply_is(store, command_make(STORE_OP_CREATE, "/1/f", "x"),
		"{\"errorCode\":105,\"message\":\"Key already exists\",\"cause\":\"/f\",\"index\":1}");
	apply_is(store, command_make(STORE_OP_UPDATE, "/1/no/thing", "x"),
		"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/no\",\"index\":1}");
	apply_is(store, command_make(STORE_OP_SET, "/1", "x"),
		"{\"errorCode\":107,\"message\":\"Root is read only\",\"cause\":\"/\",\"index\":1}");
	apply_is(store, cas(STORE_OP_COMPARE_AND_DELETE, "/1", "", "x", 0),
		"{\"errorCode\":102,\"message\":\"Not a file\",\"index\":1}");
	apply_ok(store, command_make(STORE_OP_SET, "/1/d/k", "x"));
	apply_is(store, command_make(STORE_OP_SET, "/1/d", "x"),
		"{\"errorCode\":102,\"message\":\"Not a file\",\"cause\":\"/d\",\"index\":2}");
	apply_is(store, command_make(STORE_OP_DELETE, "/1/d", ""),
		"{\"errorCode\":102,\"message\":\"Not a file\",\"cause\":\"/d\",\"index\":2}");
	command = command_make(STORE_OP_DELETE, "/1/d", "");
	command.dir = true;
	apply_is(store, command,
		"{\"errorCode\":108,\"message\":\"Directory not empty\",\"cause\":\"/d\",\"index\":2}");
}

static void compare_and_swap_says_which_half_failed(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "one"));
	apply_is(store, cas(STORE_OP_COMPARE_AND_SWAP, "/1/k", "two", "x", 0),
		"{\"errorCode\":101,\"message\":\"Compare failed\",\"cause\":\"[x != one]\",\"index\":1}");
	apply_is(store, cas(STORE_OP_COMPARE_AND_SWAP, "/1/k", "two", "one", 7),
		"{\"errorCode\":101,\"message\":\"Compare failed\",\"cause\":\"[7 != 1]\",\"index\":1}");
	apply_is(store, cas(STORE_OP_COMPARE_AND_SWAP, "/1/k", "two", "x", 7),
		"{\"errorCode\":101,\"message\":\"Compare failed\",\"cause\":\"[x != one] [7 != "
		"1]\",\"index\":1}");
	apply_is(store, cas(STORE_OP_COMPARE_AND_SWAP, "/1/k", "two", "one", 1),
		"{\"action\":\"compareAndSwap\",\"node\":{\"key\":\"/"
		"k\",\"value\":\"two\",\"modifiedIndex\":2,\"createdIndex\":1},"
		"\"prevNode\":{\"key\":\"/k\",\"value\":\"one\",\"modifiedIndex\":1,\"createdIndex\":1}}");
	apply_is(store, cas(STORE_OP_COMPARE_AND_DELETE, "/1/k", "", "two", 2),
		"{\"action\":\"compareAndDelete\",\"node\":{\"key\":\"/"
		"k\",\"modifiedIndex\":3,\"createdIndex\":1},"
		"\"prevNode\":{\"key\":\"/k\",\"value\":\"two\",\"modifiedIndex\":2,\"createdIndex\":1}}");
}

static void an_updated_directory_keeps_its_modified_index(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command = command_make(STORE_OP_SET, "/1/d", "");

	(void)state;
	command.dir = true;
	apply_ok(store, command);
	command = command_make(STORE_OP_UPDATE, "/1/d", "");
	command.has_expiry = true;
	command.expires_ns = NOW + 10 * NS_PER_S;
	apply_is(store, command,
		"{\"action\":\"update\",\"node\":{\"key\":\"/"
		"d\",\"dir\":true,\"expiration\":\"2023-11-14T22:13:30Z\",\"ttl\":10,"
		"\"modifiedIndex\":2,\"createdIndex\":1},\"prevNode\":{\"key\":\"/"
		"d\",\"dir\":true,\"modifiedIndex\":1,"
		"\"createdIndex\":1}}");
	get_is(store, "/1/d", false,
		"{\"action\":\"get\",\"node\":{\"key\":\"/"
		"d\",\"dir\":true,\"expiration\":\"2023-11-14T22:13:30Z\",\"ttl\":10,"
		"\"modifiedIndex\":1,\"createdIndex\":1}}");
}

static void in_order_names_are_the_index_in_twenty_digits(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command = command_make(STORE_OP_CREATE, "/1/q", "a");

	(void)state;
	command.in_order = true;
	apply_is(store, command,
		"{\"action\":\"create\",\"node\":{\"key\":\"/q/"
		"00000000000000000001\",\"value\":\"a\",\"modifiedIndex\":1,"
		"\"createdIndex\":1}}");
}

static void refresh_keeps_the_value_and_changes_the_expiry(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command = command_make(STORE_OP_UPDATE, "/1/k", "");

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/k", "kept"));
	command.refresh = command.has_expiry = true;
	command.expires_ns = NOW + 1500000000;
	apply_is(store, command,
		"{\"action\":\"update\",\"node\":{\"key\":\"/"
		"k\",\"value\":\"kept\",\"expiration\":\"2023-11-14T22:13:21.5Z\","
		"\"ttl\":2,\"modifiedIndex\":2,\"createdIndex\":1},\"prevNode\":{\"key\":\"/"
		"k\",\"value\":\"kept\","
		"\"modifiedIndex\":1,\"createdIndex\":1}}");
	command = command_make(STORE_OP_SET, "/1/none", "");
	command.refresh = true;
	apply_is(store, command,
		"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/none\",\"index\":2}");
}

static void hidden_nodes_are_left_out_of_listings_only(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/_h/k", "v"));
	get_is(store, "/1", true, "{\"action\":\"get\",\"node\":{\"dir\":true}}");
	get_is(store, "/1/_h/k", false,
		"{\"action\":\"get\",\"node\":{\"key\":\"/_h/"
		"k\",\"value\":\"v\",\"modifiedIndex\":1,\"createdIndex\":1}}");
}

static void the_same_commands_give_the_same_hash_and_any_difference_another(void **state)
{
	_cleanup_(store_freep) struct store *a = store_new(), *b = store_new();
	struct store_command gone = command_make(STORE_OP_DELETE, "/1/d", "");

	(void)state;
	apply_ok(a, command_make(STORE_OP_SET, "/1/d/x", "1"));
	apply_ok(b, command_make(STORE_OP_SET, "/1/d/x", "1"));
	assert_true(store_hash(a) == store_hash(b));
	apply_ok(a, command_make(STORE_OP_SET, "/1/d/y", "1"));
	apply_ok(b, command_make(STORE_OP_SET, "/1/d/y", "2"));
	assert_true(store_hash(a) != store_hash(b));
	gone.recursive = true;
	apply_ok(a, gone);
	apply_ok(b, gone);
	assert_true(store_hash(a) == store_hash(b));
	assert_int_equal(store_nodes(a), 3);
}

static void counters_have_the_oddities_of_the_original(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_stats stats;
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	(void)state;
	apply_ok(store, command_make(STORE_OP_SET, "/1/f", "x"));
	free(apply_text(store, command_make(STORE_OP_CREATE, "/1/f/x", "")));
	free(apply_text(store, command_make(STORE_OP_DELETE, "/1", "")));
	free(apply_text(store, cas(STORE_OP_COMPARE_AND_DELETE, "/1/f", "", "y", 0)));
	free(apply_text(store, cas(STORE_OP_COMPARE_AND_SWAP, "/1/f", "", "y", 0)));
	store_get_stats(store, &stats);
	store_stats_add_json(&stats, &out);
	assert_string_equal(buf_text(&out), "{\"getsSuccess\":0,\"getsFail\":0,\"setsSuccess\":1,"
					    "\"setsFail\":1,\"deleteSuccess\":1,\"deleteFail\":0,"
					    "\"updateSuccess\":0,\"updateFail\":0,\"createSuccess\":0,"
					    "\"createFail\":1,\"compareAndSwapSuccess\":0,"
					    "\"compareAndSwapFail\":1,\"compareAndDeleteSuccess\":1,"
					    "\"compareAndDeleteFail\":0,\"expireCount\":0,"
					    "\"watchers\":0}");
}

static void a_reader_shows_its_moment_while_writes_go_on(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	_cleanup_buf_ struct buf out = BUF_INIT(0), expected = BUF_INIT(0);
	struct store_result result;
	struct store_reader *reader;
	struct store_command gone = command_make(STORE_OP_DELETE, "/1/d", "");
	char path[32];

	(void)state;
	for (int i = 0; i < 500; i++) {
		(void)snprintf(path, sizeof(path), "/1/d/%d/k", i);
		apply_ok(store, command_make(STORE_OP_SET, path, "v"));
	}
	store_get(store, slice_str("/1"), true, NOW, &expected, &result);
	reader = store_reader_open(store, slice_str("/1"), true, NOW, &result);
	assert_non_null(reader);
	for (int i = 0; store_reader_step(reader, &out, 200); i++) {
		(void)snprintf(path, sizeof(path), "/1/d/%d/k", i * 7 % 500);
		apply_ok(store, command_make(STORE_OP_SET, path, "changed"));
	}
	gone.recursive = true;
	apply_ok(store, gone);
	assert_string_equal(buf_text(&out), buf_text(&expected));
	(void)store_reader_free(reader);
	while (store_collect(store, 1))
		;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_makes_the_key_and_its_parents_and_then_replaces_it),
		cmocka_unit_test(errors_name_what_is_in_the_way),
		cmocka_unit_test(compare_and_swap_says_which_half_failed),
		cmocka_unit_test(an_updated_directory_keeps_its_modified_index),
		cmocka_unit_test(in_order_names_are_the_index_in_twenty_digits),
		cmocka_unit_test(refresh_keeps_the_value_and_changes_the_expiry),
		cmocka_unit_test(hidden_nodes_are_left_out_of_listings_only),
		cmocka_unit_test(the_same_commands_give_the_same_hash_and_any_difference_another),
		cmocka_unit_test(counters_have_the_oddities_of_the_original),
		cmocka_unit_test(a_reader_shows_its_moment_while_writes_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
