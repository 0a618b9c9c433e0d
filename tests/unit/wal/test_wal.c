/* The log as it is written: batches, segments, spares, cuts, reading back. */
#include "wal_helpers.h"
#include "wal/state.h"

/* A log whose next segment is not made in time says so while it can still be written to without taking space.
 */
static void a_log_without_a_next_segment_runs_short_at_half_of_its_own(void **state)
{
	struct bench bench = {0};
	struct wal_plan spare = {0};
	uint64_t whole;

	(void)state;
	bench_start(&bench);
	assert_false(wal_runs_short(bench.wal));
	add_hard_state(&bench, 1, 1, 0);
	bench_flush(&bench);
	whole = wal_room(bench.wal);
	while (!wal_runs_short(bench.wal)) {
		add_next_entry(&bench, 1);
		add_hard_state(&bench, 1, 1, 0);
		bench_flush(&bench);
		wal_flushed(bench.wal);
		assert_true(wal_room(bench.wal) > whole / 4);
	}
	assert_true(wal_spare_plan(bench.wal, true, &spare));
	assert_true(wal_runs_short(bench.wal)); /* it is still to be made */
	assert_int_equal(disk_run(&bench.disk, &spare), 0);
	wal_spare_done(bench.wal);
	assert_false(wal_runs_short(bench.wal));
	buf_done(&spare.bytes);
	bench_done(&bench);
}

/* Else the new one would be renamed onto the one that the write is about to take. */
static void no_spare_is_made_while_a_write_under_way_takes_the_one_there_is(void **state)
{
	struct bench bench = {0};
	struct wal_plan spare = {0};

	(void)state;
	bench_start(&bench);
	for (unsigned i = 0; !takes_the_spare(&bench.plan); i++) {
		if (i)
			bench_run(&bench);
		run_spare(&bench, &spare);
		for (unsigned k = 0; k < 4; k++)
			add_next_entry(&bench, 1);
		add_hard_state(&bench, 1, 1, 0);
		wal_flush(bench.wal, &bench.plan);
		assert_true(i < 10000);
	}
	assert_false(wal_spare_plan(bench.wal, false, &spare));
	bench_run(&bench);
	bench.plan.steps_len = spare.steps_len = 0;
	add_hard_state(&bench, 1, 1, 0);
	bench_flush(&bench);
	for (unsigned i = 0; !wal_spare_plan(bench.wal, false, &spare); i++) {
		assert_true(i < 10000);
		add_next_entry(&bench, 1);
		add_hard_state(&bench, 1, 1, 0);
		bench_flush(&bench);
	}
	buf_done(&spare.bytes);
	bench_done(&bench);
}

static void what_was_written_is_read_back(void **state)
{
	struct bench bench = {0};
	struct rng rng;

	(void)state;
	rng_seed(&rng, 1);
	bench_open(&bench);
	assert_true(bench.found.fresh);
	assert_int_equal(bench.found.first_index, 1);
	for (int life = 0; life < 20; life++) {
		bench_begin(&bench);
		for (int i = 0; i < 12; i++) {
			add_batch(&bench, &rng);
			wal_flush(bench.wal, &bench.plan);
			assert_int_equal(wal_batch_bytes(bench.wal), 0);
			bench_run(&bench);
			run_spare(&bench, &bench.plan);
		}
		assert_int_equal(read_all_back(&bench), bench.model.hard_state.commit);
		bench_reopen_after_power_failed(&bench);
		assert_false(bench.found.fresh);
		assert_int_equal(bench.found.torn_bytes, 0);
		assert_true(model_equal(&bench.model, &bench.back));
		assert_int_equal(wal_last_index(bench.wal), bench.model.last);
		assert_int_equal(read_all_back(&bench), bench.model.hard_state.commit);
	}
	assert_true(bench.disk.files_len > 5);
	bench_done(&bench);
}

static void batch_larger_than_a_segment_gets_a_large_one(void **state)
{
	struct bench bench = {0};

	(void)state;
	bench_start(&bench);
	for (uint64_t i = 1; i <= 300; i++)
		add_entry(&bench, i, 1);
	add_hard_state(&bench, 1, 0, 0);
	bench_flush(&bench);
	assert_true(bench.disk.files[0].size > 4096);
	assert_int_equal(wal_disk_bytes(bench.wal), bench.disk.files[0].size);
	add_entry(&bench, 301, 1);
	bench_flush(&bench);
	bench_reopen(&bench);
	assert_true(model_equal(&bench.model, &bench.back));
	bench_done(&bench);
}

/* The log is cut again and again while it grows, with a crash after each cut: it stays small, recycles its
 * files, and what is behind the cut is read back. */
static void log_cut_behind_a_checkpoint_recycles_segments(void **state)
{
	struct bench bench = {0};
	struct rng rng;
	unsigned renamed = 0;

	(void)state;
	rng_seed(&rng, 8);
	bench_start(&bench);
	for (int round = 0; round < 60; round++) {
		uint64_t keep;

		for (int i = 0; i < 10; i++) {
			add_batch(&bench, &rng);
			bench_flush(&bench);
			if (round % 2)
				run_spare(&bench, &bench.plan);
		}
		keep = bench.model.hard_state.commit;
		if (wal_release(bench.wal, keep, &bench.plan)) {
			renamed += bench.plan.steps[0].kind == WAL_STEP_RENAME;
			assert_true(bench.plan.background);
			bench_run(&bench);
			wal_release_done(bench.wal);
		}
		assert_true(bench.disk.files_len < 12);
		assert_true(read_all_back(&bench) >= bench.model.hard_state.commit + 1 - keep);
		bench_reopen_after_power_failed(&bench);
		assert_true(bench.found.first_index <= keep + 1);
		assert_true(model_equal(&bench.model, &bench.back));
		bench_begin(&bench);
	}
	assert_true(renamed > 3);
	assert_true(bench.found.first_index > 1000);
	bench_done(&bench);
}

/* A file that was changed behind the log's back: what is given out is right, or nothing. */
static void what_is_read_back_is_checked(void **state)
{
	struct bench bench = {0};
	struct wal_range range;
	struct file *file;

	(void)state;
	bench_start(&bench);
	for (uint64_t i = 1; i <= 5; i++) {
		add_entry(&bench, i, 1);
		add_hard_state(&bench, 1, 0, i);
		bench_flush(&bench);
	}
	assert_true(wal_locate(bench.wal, 3, &range));
	assert_false(wal_locate(bench.wal, 6, &range));
	file = disk_find(&bench.disk, range.name);
	for (size_t at = 0; at < range.len; at++) {
		struct run *run = mem_new(struct run);
		struct wal_sink sink = {.entry = run_entry, .arg = run};

		file->now[range.offset + at] ^= 4;
		assert_int_equal(
			wal_read_back(&range, slice_make(file->now + range.offset, range.len), &sink), 0);
		for (uint64_t i = range.first; i <= run->model.last; i++)
			assert_int_equal(run->model.terms[i], 1); /* no gap; sink_entry() compares the data */
		file->now[range.offset + at] ^= 4;
		free(run);
	}
	bench_done(&bench);
}

/* No space: the next segments come from the spare and then the reserve, without anything being made; both are
 * found again at a start. */
static void reserve_lasts_when_nothing_can_be_made(void **state)
{
	struct bench bench = {0};
	uint64_t index = 1, room;

	(void)state;
	bench_start(&bench);
	for (; !wal_is_stocked(bench.wal); index++) {
		add_entry(&bench, index, 1);
		add_hard_state(&bench, 1, 0, index);
		bench_flush(&bench);
		run_spare(&bench, &bench.plan);
	}
	bench_reopen(&bench);
	bench_begin(&bench);
	assert_true(wal_is_stocked(bench.wal));
	room = wal_room(bench.wal);
	assert_true(room > 2 * config.segment_bytes);
	while (wal_room(bench.wal) > 400) {
		assert_true(wal_room(bench.wal) <= room);
		room = wal_room(bench.wal);
		add_entry(&bench, index, 1);
		add_hard_state(&bench, 1, 0, index++);
		wal_flush(bench.wal, &bench.plan);
		for (size_t i = 0; i < bench.plan.steps_len; i++)
			assert_true(bench.plan.steps[i].kind != WAL_STEP_CREATE);
		bench_run(&bench);
		wal_flushed(bench.wal);
	}
	assert_false(wal_give_reserve(bench.wal, &bench.plan));
	assert_true(wal_spare_plan(bench.wal, true, &bench.plan)); /* there is space again */
	bench_run(&bench);
	wal_spare_done(bench.wal);
	assert_true(wal_spare_plan(bench.wal, true, &bench.plan));
	wal_spare_failed(bench.wal);
	assert_true(wal_spare_plan(bench.wal, true, &bench.plan));
	bench_run(&bench);
	wal_spare_done(bench.wal);
	assert_true(wal_is_stocked(bench.wal));
	assert_true(wal_give_reserve(bench.wal, &bench.plan) && bench.plan.background);
	bench_run(&bench);
	assert_null(disk_find(&bench.disk, WAL_RESERVE_NAME));
	bench_reopen(&bench);
	assert_int_equal(bench.found.last_index, index - 1);
	assert_false(wal_is_stocked(bench.wal));
	bench_done(&bench);
}

static void write_so_much(struct bench *bench, size_t len)
{
	_cleanup_buf_ struct buf value = BUF_INIT(0);

	buf_add_fill(&value, 'v', len);
	wal_add_entry(bench->wal,
		&(struct wal_entry){
			.index = wal_last_index(bench->wal) + 1, .term = 1, .data = buf_slice(&value)});
	wal_flush(bench->wal, &bench->plan);
	assert_true(bench->plan.bytes.len > len); /* as long as it is carried out */
	bench_run(bench);
}

/* A batch is copied behind a hard state where a segment begins, else its buffer becomes the plan's. */
static void memory_of_a_burst_is_given_back(void **state)
{
	const size_t burst = WAL_KEPT_BYTES + 1000000;
	struct wal_config large = config;
	struct bench bench = {0};
	const struct buf *carried_out = &bench.plan.bytes, *batch;

	(void)state;
	large.segment_bytes = WAL_SEGMENT_MAX_BYTES;
	assert_int_equal(open_log(&bench, &large, &bench.model), 0);
	batch = &bench.wal->batch;
	wal_start_plan(bench.wal, &bench.plan);
	wal_flushed(bench.wal);
	write_so_much(&bench, 100000);
	wal_flushed(bench.wal);
	assert_true(carried_out->cap >= 100000); /* this much is used again */
	write_so_much(&bench, burst);
	assert_int_equal(bench.disk.files_len, 1);
	wal_flushed(bench.wal);
	assert_true(carried_out->cap <= WAL_KEPT_BYTES && batch->cap <= WAL_KEPT_BYTES);
	write_so_much(&bench, burst);
	assert_int_equal(bench.disk.files_len, 2);
	assert_true(batch->cap <= WAL_KEPT_BYTES);
	wal_flushed(bench.wal);
	assert_true(carried_out->cap <= WAL_KEPT_BYTES);
	/* Nobody said that it was carried out: the next flush gives it back. */
	write_so_much(&bench, burst);
	write_so_much(&bench, 1);
	assert_true(carried_out->cap <= WAL_KEPT_BYTES && batch->cap <= WAL_KEPT_BYTES);
	bench_done(&bench);
}

static void much_is_read_back_at_once(void **state)
{
	struct wal_config large = config;
	struct wal_plan spare = {0};
	struct bench bench = {0};
	struct wal_range range;

	(void)state;
	large.segment_bytes = 1u << 20;
	assert_int_equal(open_log(&bench, &large, &bench.model), 0);
	wal_start_plan(bench.wal, &bench.plan);
	wal_flushed(bench.wal);
	for (unsigned i = 0; i < 600; i++) { /* the first segment is a small one */
		run_spare(&bench, &spare);
		write_so_much(&bench, 3000);
		wal_flushed(bench.wal);
	}
	assert_true(wal_locate(bench.wal, 100, &range));
	assert_in_range(range.len, WAL_READ_BYTES, WAL_READ_BYTES * 5 / 4);
	assert_in_range(range.end - range.first, WAL_READ_BYTES / 3100, WAL_READ_BYTES / 2400);
	assert_true(wal_locate(bench.wal, 599, &range));
	assert_int_equal(range.end, 601);
	buf_done(&spare.bytes);
	bench_done(&bench);
}

static void index_is_found_by_what_the_log_takes_behind_it(void **state)
{
	struct bench bench = {0};
	struct wal_range range;
	uint64_t index, newest;

	(void)state;
	bench_start(&bench);
	for (unsigned i = 0; i < 500; i++) {
		add_next_entry(&bench, 1);
		bench_flush(&bench);
	}
	newest = bench.wal->segments[bench.wal->segments_len - 1].number;
	assert_true(newest > 5);
	assert_int_equal(wal_index_within(bench.wal, 4095), 500);
	for (uint64_t count = 1; count <= newest; count++) {
		index = wal_index_within(bench.wal, count * 4096 + 100);
		assert_true(wal_locate(bench.wal, index + 1, &range));
		assert_int_equal(range.segment, newest + 1 - count);
		if (index > 0)
			assert_true(wal_locate(bench.wal, index, &range) && range.segment == newest - count);
	}
	assert_int_equal(wal_index_within(bench.wal, UINT64_MAX), 0);
	bench_done(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read_back),
		cmocka_unit_test(what_is_read_back_is_checked),
		cmocka_unit_test(a_log_without_a_next_segment_runs_short_at_half_of_its_own),
		cmocka_unit_test(no_spare_is_made_while_a_write_under_way_takes_the_one_there_is),
		cmocka_unit_test(reserve_lasts_when_nothing_can_be_made),
		cmocka_unit_test(batch_larger_than_a_segment_gets_a_large_one),
		cmocka_unit_test(log_cut_behind_a_checkpoint_recycles_segments),
		cmocka_unit_test(memory_of_a_burst_is_given_back),
		cmocka_unit_test(much_is_read_back_at_once),
		cmocka_unit_test(index_is_found_by_what_the_log_takes_behind_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
