/* A disk that runs full, and what brings writes back. */
#include "node_bench.h"

static int token;

static void full_disk_refuses_growth_and_takes_deletes_until_there_is_space(void **state)
{
	struct bench *bench = bench_new();
	struct store_command delete = {.op = STORE_OP_DELETE, .path = slice_str("/1/a"), .time_ns = 1};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct node_status status;
	unsigned grown = 0;
	int r;

	(void)state;
	bench->no_space = true;
	bench_open(bench, 1);
	while ((r = propose(bench, "/1/a", 900, 0, &token)) == 0 && grown < 1000) {
		grown++;
		run_for(bench, 10 * NS_PER_MS);
	}
	assert_int_equal(r, -ENOSPC);
	assert_in_range(grown, 1, 999);
	assert_in_range(bench->spares_refused, 1, 4); /* with the checkpoint that is tried */
	node_get_status(bench->node, &status);
	assert_int_equal(status.space, NODE_SPACE_LOW);
	assert_int_equal(bench->replies, grown);
	assert_true(bench->error == NODE_OK || bench->error == NODE_ERROR_NO_SPACE);
	store_command_encode(&delete, &bytes);
	assert_int_equal(node_propose(bench->node, buf_slice(&bytes), &token), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, grown + 1);
	assert_int_equal(bench->error, NODE_OK);
	/* Deletes too end when the log has room left only for votes. */
	for (unsigned i = 0; i < 10000 && status.space == NODE_SPACE_LOW; i++) {
		r = node_propose(bench->node, buf_slice(&bytes), &token);
		assert_true(r == 0 || r == -ENOSPC);
		run_for(bench, NS_PER_MS);
		node_get_status(bench->node, &status);
	}
	assert_int_equal(status.space, NODE_SPACE_NONE);
	assert_int_equal(node_propose(bench->node, buf_slice(&bytes), &token), -ENOSPC);
	assert_null(node_failure(bench->node));
	bench->no_space = false;
	run_for(bench, 5 * NS_PER_S);
	node_get_status(bench->node, &status);
	assert_int_equal(status.space, NODE_SPACE_OK);
	assert_int_equal(propose(bench, "/1/a", 900, 0, &token), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->error, NODE_OK);
	bench_free(bench);
}

/* Nothing can be done about the key, so nothing is to be tried again and again. */
static void full_member_sleeps_when_a_key_is_due(void **state)
{
	struct store_command delete = {.op = STORE_OP_DELETE, .path = slice_str("/1/a"), .time_ns = 1};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct bench *bench = bench_new();
	struct node_status status = {0};
	struct slice value;
	unsigned turns = 0;
	int64_t end_ns;

	(void)state;
	bench->no_space = true;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	assert_int_equal(propose(bench, "/1/t", 1, 60 * NS_PER_S, &token), 0);
	while (propose(bench, "/1/a", 900, 0, &token) == 0)
		run_for(bench, 10 * NS_PER_MS);
	store_command_encode(&delete, &bytes);
	for (unsigned i = 0; i < 10000 && status.space != NODE_SPACE_NONE; i++) {
		int r = node_propose(bench->node, buf_slice(&bytes), &token);

		assert_true(r == 0 || r == -ENOSPC);
		run_for(bench, NS_PER_MS);
		node_get_status(bench->node, &status);
	}
	assert_int_equal(status.space, NODE_SPACE_NONE);
	bench->now_ns += 60 * NS_PER_S;
	for (end_ns = bench->now_ns + NS_PER_S; bench->now_ns < end_ns && turns < 10000; turns++) {
		node_turn(bench->node);
		run_plan(bench, 0);
		run_plan(bench, 1);
		bench->now_ns = MAX(bench->now_ns + 1000, node_deadline_ns(bench->node));
	}
	assert_in_range(turns, 1, 100);
	assert_true(store_peek(node_store(bench->node), slice_str("/1/t"), &value));
	bench->no_space = false;
	run_for(bench, 5 * NS_PER_S);
	assert_false(store_peek(node_store(bench->node), slice_str("/1/t"), &value));
	bench_free(bench);
}

static enum node_space space(const struct bench *bench)
{
	struct node_status status;

	node_get_status(bench->node, &status);
	return status.space;
}

static bool is_taken(struct bench *bench, unsigned number, size_t value_len)
{
	char path[32];
	unsigned replies = bench->replies;
	int r;

	(void)snprintf(path, sizeof(path), "/1/fill/%u", number);
	r = propose(bench, path, value_len, 0, &token);
	assert_true(r == 0 || r == -ENOSPC);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, replies + (r == 0));
	return r == 0 && bench->error == NODE_OK;
}

static void delete_all(struct bench *bench)
{
	struct store_command delete = {.op = STORE_OP_DELETE,
		.path = slice_str("/1/fill"),
		.recursive = true,
		.dir = true,
		.time_ns = 1};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	store_command_encode(&delete, &bytes);
	assert_int_equal(node_propose(bench->node, buf_slice(&bytes), &token), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->error, NODE_OK);
	assert_int_equal(bench->store_error, STORE_OK);
}

static void assert_deletes_help(struct bench *bench)
{
	delete_all(bench);
	run_for(bench, 40 * NS_PER_S);
	assert_int_equal(space(bench), NODE_SPACE_OK);
	assert_true(is_taken(bench, 0, 900));
}

/* Writes are tried as long as some are taken, also after alarms that end by themselves. The store and its log
 * fill the disk; then the store shrinks to its history of a thousand values. */
static void fill_and_empty(uint64_t disk_bytes_max)
{
	struct bench *bench = bench_new();
	unsigned taken = 0, refusals = 0;

	bench->disk_bytes_max = disk_bytes_max;
	bench_open_sized(bench, 128u << 10, 256u << 10);
	run_for(bench, NS_PER_S);
	while (refusals < 30 && taken < 20000) {
		if (is_taken(bench, taken, 900)) {
			taken++;
			refusals = 0;
		} else {
			refusals++;
			run_for(bench, NS_PER_S);
		}
	}
	/* Two checkpoints and a little log share the disk. */
	assert_in_range(taken, disk_bytes_max * 35 / 100 / 900, disk_bytes_max * 60 / 100 / 900);
	assert_int_equal(space(bench), NODE_SPACE_LOW);
	assert_deletes_help(bench);
	assert_true(disk_bytes(bench->disk) < disk_bytes_max / 2);
	bench_free(bench);
}

/* How much is left when the next checkpoint is due depends on the size of the disk. */
static void disk_that_the_store_has_filled_is_emptied_by_deletes(void **state)
{
	(void)state;
	for (unsigned kib = 6144; kib < 8192; kib += 256)
		fill_and_empty((uint64_t)kib << 10);
}

/* A checkpoint that does not fit raises the alarm while the log still has all it wants, so that deletes do.
 */
static void checkpoint_that_does_not_fit_stops_growth_before_the_log_ends(void **state)
{
	struct bench *bench = bench_new();
	uint64_t written = 0, refused;
	struct node_status status;
	unsigned taken = 0;

	(void)state;
	bench_open_sized(bench, 64u << 10, 256u << 10);
	run_for(bench, NS_PER_S);
	while (!written) {
		assert_true(is_taken(bench, taken++, 900));
		node_get_status(bench->node, &status);
		written = status.checkpoints_written;
	}
	/* As much again does not fit, though the cut of the log still gives some back. */
	bench->disk_bytes_max = disk_bytes(bench->disk) + (288u << 10);
	while (is_taken(bench, taken, 900))
		assert_in_range(++taken, 1, 5000);
	assert_int_equal(space(bench), NODE_SPACE_LOW);
	/* It is tried again, less and less often, and deletes have room all the while. */
	refused = bench->spares_refused;
	run_for(bench, 60 * NS_PER_S);
	assert_in_range(bench->spares_refused - refused, 2, 14);
	assert_int_equal(space(bench), NODE_SPACE_LOW);
	assert_false(is_taken(bench, taken, 900));
	for (unsigned i = 0; i < 1000; i++) {
		struct store_command delete = {
			.op = STORE_OP_DELETE, .path = slice_str("/1/none"), .time_ns = 1};
		_cleanup_buf_ struct buf bytes = BUF_INIT(0);

		store_command_encode(&delete, &bytes);
		assert_int_equal(node_propose(bench->node, buf_slice(&bytes), &token), 0);
		run_for(bench, 10 * NS_PER_MS);
		assert_int_equal(bench->error, NODE_OK);
	}
	/* Space from outside ends it. */
	bench->disk_bytes_max *= 4;
	run_for(bench, 20 * NS_PER_S);
	assert_int_equal(space(bench), NODE_SPACE_OK);
	assert_true(is_taken(bench, taken, 900));
	node_get_status(bench->node, &status);
	assert_true(status.checkpoints_written > written);
	bench_free(bench);
}

/* The disk is so slow that the store grows by as much as is written of the checkpoint meanwhile. */
static void fill_and_empty_slowly(uint64_t disk_bytes_max, unsigned writes_per_plan)
{
	struct bench *bench = bench_new();
	unsigned number = 0, turns = 0;

	bench->disk_bytes_max = disk_bytes_max;
	bench_open_sized(bench, 128u << 10, 256u << 10);
	run_for(bench, NS_PER_S);
	for (unsigned refusals = 0; refusals < 30 && number < 20000;) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/1/fill/%u", number);
		if (number - bench->replies >= 16) { /* clients wait for answers */
			bench->now_ns += NS_PER_MS;
		} else if (propose(bench, path, 2000, 0, &token) == 0) {
			refusals = 0;
			number++;
		} else {
			refusals++;
			run_for(bench, NS_PER_S);
		}
		bench->now_ns += NS_PER_MS;
		node_turn(bench->node);
		run_plan(bench, 0);
		if (turns++ % writes_per_plan == 0)
			run_plan(bench, 1);
	}
	/* As with a fast one. */
	assert_in_range(number, disk_bytes_max * 40 / 100 / 2000, disk_bytes_max * 65 / 100 / 2000);
	assert_deletes_help(bench);
	bench_free(bench);
}

static void store_that_grows_while_its_checkpoint_is_written_leaves_room_for_it(void **state)
{
	(void)state;
	for (unsigned kib = 8192; kib < 10240; kib += 1024)
		for (unsigned writes = 8; writes <= 256; writes *= 4)
			fill_and_empty_slowly((uint64_t)kib << 10, writes);
}

/* Space that others took makes the alarm; then come commands that change nothing. */
static void log_leaves_room_for_a_smaller_checkpoint_during_an_alarm(void **state)
{
	struct bench *bench = bench_new();
	_cleanup_buf_ struct buf path = BUF_INIT(0), bytes = BUF_INIT(0);
	struct store_command noise = {.op = STORE_OP_DELETE, .time_ns = 1};

	(void)state;
	bench_open_sized(bench, 128u << 10, 256u << 10);
	run_for(bench, NS_PER_S);
	for (unsigned number = 0; number < 10000; number++)
		assert_true(is_taken(bench, number, 100));
	run_for(bench, 5 * NS_PER_S);
	bench->disk_bytes_max = disk_bytes(bench->disk) + (200u << 10);
	for (unsigned number = 0; is_taken(bench, number, 100); number++)
		assert_in_range(number, 0, 5000); /* noticed with the next segment */
	assert_int_equal(space(bench), NODE_SPACE_LOW);
	buf_add_slice(&path, slice_str("/1/"));
	buf_add_fill(&path, 'n', 1000);
	noise.path = buf_slice(&path);
	store_command_encode(&noise, &bytes);
	for (unsigned i = 0; i < 150; i++) {
		assert_int_equal(node_propose(bench->node, buf_slice(&bytes), &token), 0);
		run_for(bench, 10 * NS_PER_MS);
		assert_int_equal(bench->error, NODE_OK);
	}
	assert_deletes_help(bench);
	bench_free(bench);
}

static void restarts_do_not_let_the_log_take_what_a_checkpoint_needs(void **state)
{
	struct bench *bench = bench_new();
	unsigned taken = 0;

	(void)state;
	bench->disk_bytes_max = 8u << 20;
	for (unsigned life = 0; life < 30; life++) {
		bench_open_sized(bench, 128u << 10, 256u << 10);
		run_for(bench, NS_PER_S);
		for (unsigned refusals = 0; refusals < 5;) {
			if (is_taken(bench, taken, 900)) {
				taken++;
				refusals = 0;
			} else {
				refusals++;
				run_for(bench, NS_PER_S);
			}
		}
		bench_stop(bench, false);
	}
	bench_open_sized(bench, 128u << 10, 256u << 10);
	run_for(bench, NS_PER_S);
	assert_deletes_help(bench);
	bench_free(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_disk_refuses_growth_and_takes_deletes_until_there_is_space),
		cmocka_unit_test(full_member_sleeps_when_a_key_is_due),
		cmocka_unit_test(disk_that_the_store_has_filled_is_emptied_by_deletes),
		cmocka_unit_test(checkpoint_that_does_not_fit_stops_growth_before_the_log_ends),
		cmocka_unit_test(store_that_grows_while_its_checkpoint_is_written_leaves_room_for_it),
		cmocka_unit_test(log_leaves_room_for_a_smaller_checkpoint_during_an_alarm),
		cmocka_unit_test(restarts_do_not_let_the_log_take_what_a_checkpoint_needs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
