#include "store_helpers.h"
#include <errno.h>

static void what_is_encoded_decodes_to_the_same(void **state)
{
	struct store_command command = {.op = STORE_OP_COMPARE_AND_SWAP,
		.path = slice_str("/1/a/b"),
		.value = slice_str("v"),
		.prev_value = slice_str("old"),
		.prev_index = 77,
		.has_expiry = true,
		.expires_ns = -5,
		.time_ns = NOW,
		.refresh = true};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_command back;

	(void)state;
	store_command_encode(&command, &bytes);
	assert_int_equal(store_command_decode(buf_slice(&bytes), &back), 0);
	assert_int_equal(back.op, command.op);
	assert_true(slice_equal(back.path, command.path));
	assert_true(slice_equal(back.value, command.value));
	assert_true(slice_equal(back.prev_value, command.prev_value));
	assert_int_equal(back.prev_index, 77);
	assert_true(back.has_expiry && back.refresh && !back.dir && !back.recursive && !back.in_order);
	assert_true(back.expires_ns == -5 && back.time_ns == NOW);
}

static void every_cut_and_every_extra_byte_is_refused(void **state)
{
	struct store_command command = command_make(STORE_OP_SET, "/1/a", "value"), back;
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	(void)state;
	store_command_encode(&command, &bytes);
	for (size_t len = 0; len < bytes.len; len++)
		assert_int_equal(store_command_decode(slice_make(bytes.data, len), &back), -EBADMSG);
	buf_add_char(&bytes, 'x');
	assert_int_equal(store_command_decode(buf_slice(&bytes), &back), -EBADMSG);
}

static void paths_that_are_not_canonical_are_refused(void **state)
{
	static const char *const bad[] = {"", "a", "/a/", "//", "/a//b", "/./a", "/a/..", "/a/./b"};
	static const char *const good[] = {"/", "/a", "/a/b", "/.a/..b", "/a b"};
	struct store_command back;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad) + ARRAY_LEN(good); i++) {
		bool is_bad = i < ARRAY_LEN(bad);
		struct store_command command =
			command_make(STORE_OP_SET, is_bad ? bad[i] : good[i - ARRAY_LEN(bad)], "");
		_cleanup_buf_ struct buf bytes = BUF_INIT(0);

		store_command_encode(&command, &bytes);
		assert_int_equal(store_command_decode(buf_slice(&bytes), &back), is_bad ? -EBADMSG : 0);
	}
}

static void unknown_versions_and_operations_change_nothing(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	struct store_command command = command_make(STORE_OP_SET, "/1/a", "value");
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_result result;
	uint64_t hash = store_hash(store);

	(void)state;
	store_command_encode(&command, &bytes);
	bytes.data[0] = 2;
	assert_int_equal(store_apply(store, buf_slice(&bytes), &result), -EBADMSG);
	bytes.data[0] = 1;
	bytes.data[1] = STORE_OP_MAX;
	assert_int_equal(store_apply(store, buf_slice(&bytes), &result), -EBADMSG);
	assert_true(hash == store_hash(store) && store_index(store) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_encoded_decodes_to_the_same),
		cmocka_unit_test(every_cut_and_every_extra_byte_is_refused),
		cmocka_unit_test(paths_that_are_not_canonical_are_refused),
		cmocka_unit_test(unknown_versions_and_operations_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
