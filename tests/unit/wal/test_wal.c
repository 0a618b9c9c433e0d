/* The log as it is written: batches, segments, spares, cuts, reading back. */
#include "wal_helpers.h"

/* A log whose next segment is not made in time says so while it can still be written to without taking space.
 */
static void a_log_without_a_next_segment_runs_short_at_half_of_its_own(void **state)
{
	struct disk disk = {0};
	struct model model;
	struct wal_plan plan = {0}, spare = {0};
	struct wal *wal;
	uint64_t whole;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	assert_false(wal_runs_short(wal));
	add_hard_state(wal, &model, 1, 1, 0);
	wal_flush(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
	whole = wal_room(wal);
	while (!wal_runs_short(wal)) {
		add_entry(wal, &model, model.last + 1, 1);
		add_hard_state(wal, &model, 1, 1, 0);
		wal_flush(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
		wal_flushed(wal);
		assert_true(wal_room(wal) > whole / 4);
	}
	assert_true(wal_spare_plan(wal, true, &spare));
	assert_true(wal_runs_short(wal)); /* it is still to be made */
	assert_int_equal(disk_run(&disk, &spare), 0);
	wal_spare_done(wal);
	assert_false(wal_runs_short(wal));
	wal_free(wal);
	buf_done(&plan.bytes);
	buf_done(&spare.bytes);
	disk_done(&disk);
}

/* Else the new one would be renamed onto the one that the write is about to take. */
static void no_spare_is_made_while_a_write_under_way_takes_the_one_there_is(void **state)
{
	struct disk disk = {0};
	struct model model;
	struct wal_plan plan = {0}, spare = {0};
	struct wal *wal;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	for (unsigned i = 0; !takes_the_spare(&plan); i++) {
		if (i)
			assert_int_equal(disk_run(&disk, &plan), 0);
		run_spare(wal, &disk, &spare);
		for (unsigned k = 0; k < 4; k++)
			add_entry(wal, &model, model.last + 1, 1);
		add_hard_state(wal, &model, 1, 1, 0);
		wal_flush(wal, &plan);
		assert_true(i < 10000);
	}
	assert_false(wal_spare_plan(wal, false, &spare));
	assert_int_equal(disk_run(&disk, &plan), 0);
	plan.steps_len = spare.steps_len = 0;
	add_hard_state(wal, &model, 1, 1, 0);
	wal_flush(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
	for (unsigned i = 0; !wal_spare_plan(wal, false, &spare); i++) {
		assert_true(i < 10000);
		add_entry(wal, &model, model.last + 1, 1);
		add_hard_state(wal, &model, 1, 1, 0);
		wal_flush(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
	}
	wal_free(wal);
	buf_done(&plan.bytes);
	buf_done(&spare.bytes);
	disk_done(&disk);
}

static void what_was_written_is_read_back(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	struct rng rng;
	char *error;

	(void)state;
	rng_seed(&rng, 1);
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	assert_true(found.fresh);
	assert_int_equal(found.first_index, 1);
	for (int life = 0; life < 20; life++) {
		wal_start_plan(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
		for (int i = 0; i < 12; i++) {
			add_batch(wal, &model, &rng);
			wal_flush(wal, &plan);
			assert_int_equal(wal_batch_bytes(wal), 0);
			assert_int_equal(disk_run(&disk, &plan), 0);
			run_spare(wal, &disk, &plan);
		}
		assert_int_equal(read_all_back(wal, &disk, &model), model.hard_state.commit);
		wal_free(wal);
		disk_power_off(&disk);
		assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
		assert_false(found.fresh);
		assert_int_equal(found.torn_bytes, 0);
		model.first = 1;
		assert_true(model_equal(&model, &back));
		assert_int_equal(wal_last_index(wal), model.last);
		assert_int_equal(read_all_back(wal, &disk, &model), model.hard_state.commit);
	}
	assert_true(disk.files_len > 5);
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

static void batch_larger_than_a_segment_gets_a_large_one(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	char *error;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	for (uint64_t i = 1; i <= 300; i++)
		add_entry(wal, &model, i, 1);
	add_hard_state(wal, &model, 1, 0, 0);
	wal_flush(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
	assert_true(disk.files[0].size > 4096);
	assert_int_equal(wal_disk_bytes(wal), disk.files[0].size);
	add_entry(wal, &model, 301, 1);
	wal_flush(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
	wal_free(wal);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	model.first = 1;
	assert_true(model_equal(&model, &back));
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

/* The log is cut again and again while it grows, with a crash after each cut: it stays small, recycles its
 * files, and what is behind the cut is read back. */
static void log_cut_behind_a_checkpoint_recycles_segments(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	struct rng rng;
	char *error;
	unsigned renamed = 0;

	(void)state;
	rng_seed(&rng, 8);
	start_log(&disk, &model, &wal, &plan);
	for (int round = 0; round < 60; round++) {
		uint64_t keep;

		for (int i = 0; i < 10; i++) {
			add_batch(wal, &model, &rng);
			wal_flush(wal, &plan);
			assert_int_equal(disk_run(&disk, &plan), 0);
			if (round % 2)
				run_spare(wal, &disk, &plan);
		}
		keep = model.hard_state.commit;
		if (wal_release(wal, keep, &plan)) {
			renamed += plan.steps[0].kind == WAL_STEP_RENAME;
			assert_true(plan.background);
			assert_int_equal(disk_run(&disk, &plan), 0);
			wal_release_done(wal);
		}
		assert_true(disk.files_len < 12);
		assert_true(read_all_back(wal, &disk, &model) >= model.hard_state.commit + 1 - keep);
		wal_free(wal);
		disk_power_off(&disk);
		assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
		assert_true(found.first_index <= keep + 1);
		assert_true(model_equal(&model, &back));
		wal_start_plan(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
	}
	assert_true(renamed > 3);
	assert_true(found.first_index > 1000);
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

/* A file that was changed behind the log's back: what is given out is right, or nothing. */
static void what_is_read_back_is_checked(void **state)
{
	struct disk disk = {0};
	struct model model;
	struct wal_plan plan = {0};
	struct wal_range range;
	struct wal *wal;
	struct file *file;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	for (uint64_t i = 1; i <= 5; i++) {
		add_entry(wal, &model, i, 1);
		add_hard_state(wal, &model, 1, 0, i);
		wal_flush(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
	}
	assert_true(wal_locate(wal, 3, &range));
	assert_false(wal_locate(wal, 6, &range));
	file = disk_find(&disk, range.name);
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
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

/* No space: the next segments come from the spare and then the reserve, without anything being made; both are
 * found again at a start. */
static void reserve_lasts_when_nothing_can_be_made(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	uint64_t index = 1, room;
	char *error;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	for (; !wal_is_stocked(wal); index++) {
		add_entry(wal, &model, index, 1);
		add_hard_state(wal, &model, 1, 0, index);
		wal_flush(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
		run_spare(wal, &disk, &plan);
	}
	wal_free(wal);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
	assert_true(wal_is_stocked(wal));
	room = wal_room(wal);
	assert_true(room > 2 * config.segment_bytes);
	while (wal_room(wal) > 400) {
		assert_true(wal_room(wal) <= room);
		room = wal_room(wal);
		add_entry(wal, &model, index, 1);
		add_hard_state(wal, &model, 1, 0, index++);
		wal_flush(wal, &plan);
		for (size_t i = 0; i < plan.steps_len; i++)
			assert_true(plan.steps[i].kind != WAL_STEP_CREATE);
		assert_int_equal(disk_run(&disk, &plan), 0);
		wal_flushed(wal);
	}
	assert_false(wal_give_reserve(wal, &plan));
	assert_true(wal_spare_plan(wal, true, &plan)); /* there is space again */
	assert_int_equal(disk_run(&disk, &plan), 0);
	wal_spare_done(wal);
	assert_true(wal_spare_plan(wal, true, &plan));
	wal_spare_failed(wal);
	assert_true(wal_spare_plan(wal, true, &plan));
	assert_int_equal(disk_run(&disk, &plan), 0);
	wal_spare_done(wal);
	assert_true(wal_is_stocked(wal));
	assert_true(wal_give_reserve(wal, &plan) && plan.background);
	assert_int_equal(disk_run(&disk, &plan), 0);
	assert_null(disk_find(&disk, WAL_RESERVE_NAME));
	wal_free(wal);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	assert_int_equal(found.last_index, index - 1);
	assert_false(wal_is_stocked(wal));
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
