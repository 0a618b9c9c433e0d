/* What a start makes of the files that a crash, damage or another hand left. */
#include "wal_helpers.h"

static void disk_copy(struct disk *to, const struct disk *from)
{
	*to = *from;
	for (size_t i = 0; i < from->files_len; i++) {
		to->files[i].now = mem_dup(from->files[i].now, from->files[i].size);
		to->files[i].durable = mem_dup(from->files[i].durable, from->files[i].size);
		to->files[i].dirty = mem_dup(from->files[i].dirty, from->files[i].size);
	}
}

static void assert_refused(struct bench *bench, const char *why)
{
	assert_int_equal(bench_try(bench), -EBADMSG);
	assert_non_null(strstr(bench->error, why));
}

/* Runs a fixed history; answers how far it came before the disk failed: bench->before is what was durable
 * then, bench->model what was being written. */
static int run_history(struct bench *bench)
{
	struct rng rng;
	int r;

	rng_seed(&rng, 3);
	bench_open(bench);
	bench->before = bench->model;
	wal_start_plan(bench->wal, &bench->plan);
	r = disk_run(&bench->disk, &bench->plan);
	for (int i = 0; i < 60 && r == 0; i++) {
		add_batch(bench, &rng);
		wal_flush(bench->wal, &bench->plan);
		r = disk_run(&bench->disk, &bench->plan);
		if (r == 0)
			bench->before = bench->model;
		if (r == 0 && wal_spare_plan(bench->wal, false, &bench->plan)) {
			r = disk_run(&bench->disk, &bench->plan);
			if (r == 0)
				wal_spare_done(bench->wal);
		}
	}
	bench_close(bench);
	return r;
}

/* What is promised on top of what a start found is there after the power failed, and so is that. */
static void promise_more(struct bench *bench)
{
	struct model *model = &bench->model;

	*model = bench->back;
	bench_begin(bench);
	for (int i = 0; i < 2; i++) {
		add_hard_state(bench, model->hard_state.term + 1, 2, model->hard_state.commit);
		add_next_entry(bench, model->hard_state.term);
		bench_flush(bench);
		disk_power_off(&bench->disk);
	}
	bench_reopen(bench);
	assert_true(model_equal(&bench->back, model));
}

static void after_the_nth_write_or_sync_fails_nothing_promised_is_lost(void **state)
{
	(void)state;
	for (unsigned n = 1;; n++) {
		for (int power = 0; power < 2; power++) {
			struct bench bench = {.disk.fail_at = n};
			int failed = run_history(&bench);

			if (power)
				disk_power_off(&bench.disk);
			bench_reopen(&bench);
			assert_true(model_equal(&bench.back, &bench.before) ||
				    (failed && model_equal(&bench.back, &bench.model)));
			bench.disk.fail_at = 0;
			promise_more(&bench);
			bench_done(&bench);
			if (!failed) {
				assert_true(n > 60);
				return;
			}
		}
	}
}

/* Makes a log of some segments; the plan of its last batch is not yet carried out, bench->before is what it
 * held without it. */
static void make_log(struct bench *bench, int batches)
{
	struct rng rng;

	rng_seed(&rng, 5);
	bench_start(bench);
	for (int i = 0; i < batches; i++) {
		bench->before = bench->model;
		if (i + 1 < batches)
			run_spare(bench, &bench->plan);
		add_batch(bench, &rng);
		wal_flush(bench->wal, &bench->plan);
		if (i + 1 < batches)
			bench_run(bench);
	}
}

/* All of it was written, and the log is closed. */
static void make_whole_log(struct bench *bench, int batches)
{
	make_log(bench, batches);
	bench_run(bench);
	bench_close(bench);
}

/* Of the last plan of `log` the steps before `step` were carried out, and of this one `cut` bytes: the log is
 * as it was before or as it would have been after, and goes on over what is left there. */
static void write_over_a_torn_tail(const struct bench *log, size_t step, size_t cut)
{
	const struct wal_plan *last = &log->plan;
	struct bench torn = {0};
	struct model *model = &torn.model;

	disk_copy(&torn.disk, &log->disk);
	for (size_t i = 0; i < step; i++)
		assert_int_equal(disk_step(&torn.disk, last, &last->steps[i], SIZE_MAX), 0);
	assert_int_equal(disk_step(&torn.disk, last, &last->steps[step], cut), 0);
	bench_reopen(&torn);
	torn.back.first = 1;
	assert_true(model_equal(&torn.back, &log->before) || model_equal(&torn.back, &log->model));
	*model = torn.back;
	bench_begin(&torn);
	add_next_entry(&torn, model->hard_state.term + 1);
	add_hard_state(&torn, model->hard_state.term + 1, 1, model->hard_state.commit);
	bench_flush(&torn);
	bench_reopen_after_power_failed(&torn);
	assert_true(model_equal(model, &torn.back));
	bench_done(&torn);
}

/* For every step of the plan, a write in it cut off at every byte; then a new batch is written over the tail.
 */
static void last_write_torn_at_every_byte_is_cut_off(void **state)
{
	(void)state;
	for (int batches = 1; batches <= 40; batches += 3) {
		struct bench bench = {0};
		const struct wal_plan *last = &bench.plan;

		make_log(&bench, batches);
		bench_close(&bench);
		for (size_t step = 0; step < last->steps_len; step++) {
			size_t len =
				last->steps[step].kind == WAL_STEP_WRITE ? last->steps[step].bytes_len : 0;

			for (size_t cut = 0; cut <= len; cut++)
				write_over_a_torn_tail(&bench, step, cut);
		}
		bench_done(&bench);
	}
}

static bool is_spare(const struct file *file)
{
	return strcmp(file->name, WAL_SPARE_NAME) == 0 || strcmp(file->name, WAL_RESERVE_NAME) == 0;
}

/* Damage anywhere but in the last frame must be reported, and must change nothing. */
static void damage_before_the_last_write_is_reported_with_file_and_offset(void **state)
{
	struct bench bench = {0};
	struct disk *disk = &bench.disk;
	char newest[WAL_NAME_MAX] = "";
	unsigned reported = 0;

	(void)state;
	make_whole_log(&bench, 45);
	for (size_t i = 0; i < disk->files_len; i++)
		if (!is_spare(&disk->files[i]) && strcmp(disk->files[i].name, newest) > 0)
			memcpy(newest, disk->files[i].name, sizeof(newest));
	for (size_t i = 0; i < disk->files_len; i++) {
		struct file *file = &disk->files[i];
		bool is_last = strcmp(file->name, newest) == 0;

		if (is_spare(file))
			continue;
		for (size_t at = 0; at < file->size; at += 3) {
			int r;

			file->now[at] ^= 0x10;
			r = bench_try(&bench);
			if (r < 0) {
				assert_int_equal(r, -EBADMSG);
				assert_non_null(strstr(bench.error, file->name));
				reported++;
			} else {
				bench.back.first = 1;
				/* Unused bytes, or the last frame of all. */
				assert_true(model_equal(&bench.back, &bench.model) ||
					    (is_last && model_equal(&bench.back, &bench.before)));
				bench_close(&bench);
			}
			file->now[at] ^= 0x10;
		}
	}
	assert_true(reported > 1000);
	bench_done(&bench);
}

static uint64_t last_frame_of(const struct file *file)
{
	struct slice bytes = slice_make(file->now, file->size);
	uint64_t at = WAL_SEGMENT_HEADER_BYTES, last = 0;
	struct wal_segment_header header;
	struct wal_frame_header frame;

	assert_int_equal(wal_segment_header_decode(bytes, &header), WAL_HEADER_VALID);
	for (; wal_frame_header_decode(bytes, at, header.seed, &frame);
		at += wal_frame_bytes(frame.payload_len))
		last = at;
	return last;
}

/* Answers whether the loss was reported; else nothing of it was in use. */
static bool loss_is_reported(const struct bench *log, size_t file, size_t at, size_t len)
{
	struct bench hurt = {0};
	bool reported;

	disk_copy(&hurt.disk, &log->disk);
	memset(hurt.disk.files[file].now + at, 0, len);
	reported = bench_try(&hurt) < 0;
	if (reported) {
		assert_non_null(strstr(hurt.error, log->disk.files[file].name));
	} else {
		hurt.back.first = 1;
		assert_true(model_equal(&hurt.back, &log->model));
	}
	bench_done(&hurt);
	return reported;
}

/* One to four sectors that read as zeros, with the header, the first frames or all but the last one in them.
 */
static void lost_sectors_before_the_last_write_are_reported(void **state)
{
	enum { SECTOR = 512 };
	struct bench bench = {0};
	struct disk *disk = &bench.disk;
	unsigned reported = 0, of_newest = 0;
	size_t newest = 0;

	(void)state;
	make_whole_log(&bench, 44);
	for (size_t i = 0; i < disk->files_len; i++)
		if (!is_spare(&disk->files[i]) &&
			(is_spare(&disk->files[newest]) ||
				strcmp(disk->files[i].name, disk->files[newest].name) > 0))
			newest = i;
	for (size_t i = 0; i < disk->files_len; i++) {
		uint64_t limit = i == newest ? last_frame_of(&disk->files[i]) : disk->files[i].size;

		for (size_t at = 0; !is_spare(&disk->files[i]) && at + SECTOR <= limit; at += SECTOR)
			for (size_t len = SECTOR; len <= (size_t)4 * SECTOR && at + len <= limit;
				len += SECTOR)
				if (loss_is_reported(&bench, i, at, len)) {
					reported++;
					of_newest += i == newest && !at;
				}
	}
	assert_true(reported > 50 && of_newest > 1);
	bench_done(&bench);
}

/* Adds batches up to the one that takes the spare, and carries that plan out until the spare has its name.
 * The spare held a life of segment 1, and something like a frame of the new one that a user wrote then.
 * Answers the segment's number. */
static uint64_t take_a_used_spare(struct bench *bench)
{
	struct wal_frame_header forged = {.payload_len = 8};
	struct wal_plan *plan = &bench->plan;
	struct disk *disk = &bench->disk;
	struct file *spare, *used;
	uint64_t number = 0;
	struct rng rng;

	rng_seed(&rng, 6);
	do {
		run_spare(bench, plan);
		bench->before = bench->model;
		add_batch(bench, &rng);
		wal_flush(bench->wal, plan);
	} while (!takes_the_spare(plan) && disk_run(disk, plan) == 0);
	spare = disk_find(disk, WAL_SPARE_NAME);
	used = disk_find(disk, "0000000000000001.wal");
	assert_true(spare && used && spare->size == used->size);
	memcpy(spare->now, used->now, spare->size);
	for (size_t i = 0; i < plan->steps_len && !number; i++) {
		(void)wal_segment_number(plan->steps[i].to_name, &number);
		forged.segment = (uint32_t)number;
		wal_frame_header_encode(spare->now + 2048, 1, 2048, &forged);
		assert_int_equal(disk_step(disk, plan, &plan->steps[i], SIZE_MAX), 0);
	}
	assert_true(number > 1);
	return number;
}

/* What is left of an earlier life in a segment that was not begun can be what users wrote, so also what looks
 * like frames of it. But a file under another's name is not such a segment. */
static void segment_not_begun_may_hold_anything_of_an_earlier_life(void **state)
{
	struct bench bench = {0};
	char name[WAL_NAME_MAX];
	uint64_t number;

	(void)state;
	make_log(&bench, 30);
	bench_run(&bench);
	number = take_a_used_spare(&bench);
	wal_segment_name(name, number);
	assert_non_null(disk_find(&bench.disk, name));
	bench_reopen(&bench);
	bench.back.first = 1;
	assert_true(model_equal(&bench.back, &bench.before));
	bench_begin(&bench);
	assert_null(disk_find(&bench.disk, name));
	bench_close(&bench);
	/* The newest one is there, but under the number of the one before. */
	wal_segment_name(name, number - 2);
	disk_remove(&bench.disk, disk_find(&bench.disk, name));
	wal_segment_name(name, number - 1);
	wal_segment_name(disk_find(&bench.disk, name)->name, number - 2);
	assert_refused(&bench, "later segment");
	bench_done(&bench);
}

/* A file that was cut off in its last frame, or so closely behind it that the next one finds no room, is
 * reported; with more room it is a log like any other, since nothing tells that it was longer. */
static void segment_cut_off_is_reported_or_can_be_added_to(void **state)
{
	struct bench bench = {0};
	struct wal_step last;
	size_t end, begin;

	(void)state;
	make_whole_log(&bench, 30);
	last = bench.plan.steps[bench.plan.steps_len - 2];
	assert_int_equal(last.kind, WAL_STEP_WRITE);
	begin = (size_t)last.offset;
	end = begin + last.bytes_len + WAL_SEAL_FRAME_BYTES;
	for (size_t size = begin; size < end + WAL_SEAL_FRAME_BYTES; size++) {
		struct bench cut = {0};
		int r;

		disk_copy(&cut.disk, &bench.disk);
		disk_find(&cut.disk, last.name)->size = size;
		r = bench_try(&cut);
		assert_int_equal(r, size < end ? -EBADMSG : 0);
		if (r == 0) {
			cut.back.first = bench.model.first;
			assert_true(model_equal(&cut.back, &bench.model));
			cut.model = cut.back;
			add_next_entry(&cut, cut.model.hard_state.term);
			bench_flush(&cut);
			bench_reopen(&cut);
			cut.back.first = cut.model.first;
			assert_true(model_equal(&cut.model, &cut.back));
		}
		bench_done(&cut);
	}
	bench_done(&bench);
}

static void missing_segment_is_reported(void **state)
{
	struct bench bench = {0};

	(void)state;
	make_whole_log(&bench, 45);
	disk_remove(&bench.disk, disk_find(&bench.disk, "0000000000000002.wal"));
	assert_refused(&bench, "0000000000000002.wal");
	assert_non_null(strstr(bench.error, "missing"));
	bench_done(&bench);
}

static void log_of_another_cluster_member_or_format_is_refused(void **state)
{
	struct bench bench = {0};
	struct file *file = &bench.disk.files[0];
	struct wal_config other = config;
	struct wal_segment_header header;

	(void)state;
	make_whole_log(&bench, 3);
	other.cluster_id = 77;
	assert_int_equal(open_log(&bench, &other, &bench.back), -EXDEV);
	assert_non_null(strstr(bench.error, "belongs to cluster 5"));
	other = config;
	other.member_id = 78;
	assert_int_equal(open_log(&bench, &other, &bench.back), -EXDEV);
	assert_non_null(strstr(bench.error, "belongs to member 6"));
	assert_int_equal(
		wal_segment_header_decode(slice_make(file->now, file->size), &header), WAL_HEADER_VALID);
	header.version = 2;
	wal_segment_header_encode(file->now, &header);
	assert_int_equal(bench_try(&bench), -EPROTONOSUPPORT);
	assert_non_null(strstr(bench.error, "newer version"));
	bench_done(&bench);
}

/* The next batch begins a segment unless it is tiny. */
static void fill_segment(struct bench *bench)
{
	do {
		add_next_entry(bench, 1);
		add_hard_state(bench, 1, 0, 1);
		bench_flush(bench);
	} while (wal_room(bench->wal) > 200);
}

/* Lets go of the entries before `index`: there are segments that hold nothing else. */
static void release(struct bench *bench, uint64_t index)
{
	assert_true(wal_release(bench->wal, index, &bench->plan));
	bench_run(bench);
}

/* A new leader's entries take the place of some that lie on both sides of a segment's beginning; later the
 * log is cut there. It is sound as long as what was committed behind the cut is there. */
static void cut_log_whose_end_was_replaced_below_the_cut_must_reach_it_again(void **state)
{
	struct bench bench = {0};
	struct wal_step last;
	uint64_t cut;

	(void)state;
	bench_start(&bench);
	while (bench.disk.files_len < 2) {
		add_next_entry(&bench, 1);
		add_hard_state(&bench, 1, 0, 10);
		bench_flush(&bench);
	}
	cut = bench.model.last;
	add_entry(&bench, cut - 5, 2);
	add_hard_state(&bench, 2, 0, 10);
	bench_flush(&bench);
	for (uint64_t i = cut - 4; i <= cut + 3; i++)
		add_entry(&bench, i, 2);
	add_hard_state(&bench, 2, 0, cut + 3);
	bench_flush(&bench);
	last = bench.plan.steps[0];
	release(&bench, cut + 1);
	bench_reopen(&bench);
	assert_int_equal(bench.found.first_index, cut);
	assert_int_equal(bench.found.last_index, cut + 3);
	assert_true(model_equal(&bench.model, &bench.back));
	bench_close(&bench);

	memset(disk_find(&bench.disk, last.name)->now + last.offset, 0, last.bytes_len);
	assert_refused(&bench, "ends before the index at which it was cut");
	bench_done(&bench);
}

/* While a write is under way the entries of two leaders gather in one batch, the later one's from further
 * down, and the batch happens to begin a segment. When those before it are released it must stand alone. */
static void segment_begun_by_entries_of_two_leaders_stands_alone(void **state)
{
	struct bench bench = {0};
	uint64_t end;

	(void)state;
	bench_start(&bench);
	fill_segment(&bench);
	end = bench.model.last;
	add_entry(&bench, end + 1, 1);
	for (uint64_t i = end - 5; i <= end + 3; i++)
		add_entry(&bench, i, 2);
	add_hard_state(&bench, 2, 0, end + 3);
	bench_flush(&bench);
	wal_flushed(bench.wal);
	assert_int_equal(bench.disk.files_len, 2);
	release(&bench, end + 1);
	bench_reopen(&bench);
	assert_int_equal(bench.found.first_index, end + 1);
	assert_true(model_equal(&bench.model, &bench.back));
	bench_done(&bench);
}

/* A new leader's entries were to begin a segment, and only its header got there. The log goes on otherwise.
 */
static void segment_begun_by_entries_that_were_lost_stands_alone(void **state)
{
	struct bench bench = {0};
	const struct wal_plan *plan = &bench.plan;
	uint64_t end;

	(void)state;
	bench_start(&bench);
	fill_segment(&bench);
	bench.before = bench.model;
	end = bench.model.last;
	for (uint64_t i = end - 5; i <= end + 3; i++)
		add_entry(&bench, i, 2);
	wal_flush(bench.wal, &bench.plan);
	for (size_t i = 0; i + 2 < plan->steps_len; i++)
		assert_int_equal(disk_step(&bench.disk, plan, &plan->steps[i], SIZE_MAX), 0);
	bench.model = bench.before;
	bench_reopen(&bench);
	assert_true(model_equal(&bench.model, &bench.back));
	bench_begin(&bench);
	add_hard_state(&bench, 1, 0, end);
	bench_flush(&bench);
	wal_flushed(bench.wal);
	release(&bench, end + 1);
	wal_release_done(bench.wal);
	for (int i = 0; i < 2; i++) { /* with nothing but a hard state, then with an entry */
		bench_reopen(&bench);
		assert_int_equal(bench.found.last_index, bench.model.last);
		assert_true(model_equal(&bench.model, &bench.back));
		bench_begin(&bench);
		add_next_entry(&bench, 1);
		bench_flush(&bench);
	}
	bench_done(&bench);
}

/* It tells the term and the vote too. */
static void damage_of_the_only_frame_is_reported(void **state)
{
	struct bench bench = {0};
	struct file *file;

	(void)state;
	bench_start(&bench);
	fill_segment(&bench);
	for (int i = 0; i < 10; i++)
		add_next_entry(&bench, 1);
	add_hard_state(&bench, 1, 0, bench.model.last);
	bench_flush(&bench);
	wal_flushed(bench.wal);
	release(&bench, bench.model.last - 9);
	bench_reopen(&bench);
	assert_int_equal(bench.found.first_index, bench.model.last - 9);
	bench_close(&bench);

	file = disk_find(&bench.disk, "0000000000000002.wal");
	assert_non_null(file);
	file->now[WAL_SEGMENT_HEADER_BYTES + 5]++;
	assert_refused(&bench, "the frame with which the log begins does not check");
	memset(file->now, 0, file->size);
	assert_refused(&bench, "header does not check");
	bench_done(&bench);
}

static void restart_takes_the_place_of_all_entries(void **state)
{
	struct bench bench = {0};
	struct model *model = &bench.model;
	struct rng rng;

	(void)state;
	rng_seed(&rng, 9);
	bench_start(&bench);
	for (int round = 0; round < 60; round++) {
		/* Beyond the end of the log, or before it, where another term's entry stands. */
		uint64_t index = model->hard_state.commit + 1 + rng_below(&rng, 20);
		bool more = rng_below(&rng, 2);

		wal_restart_at(bench.wal, index);
		assert_int_equal(wal_last_index(bench.wal), index);
		memset(model->terms, 0, sizeof(model->terms));
		model->last = index;
		add_hard_state(&bench, model->hard_state.term, 1, index);
		for (int i = 0; i < 10 && more; i++) {
			add_batch(&bench, &rng);
			bench_flush(&bench);
		}
		if (!more)
			bench_flush(&bench);
		if (wal_release(bench.wal, index + 1, &bench.plan)) {
			bench_run(&bench);
			wal_release_done(bench.wal);
		}
		assert_int_equal(read_all_back(&bench), model->hard_state.commit - index);
		bench_reopen_after_power_failed(&bench);
		assert_int_equal(read_all_back(&bench), model->hard_state.commit - index);
		assert_true(bench.found.first_index <= index + 1);
		assert_int_equal(bench.found.last_index, model->last);
		assert_true(model_equal(model, &bench.back));
		bench_begin(&bench);
	}
	bench_done(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_the_nth_write_or_sync_fails_nothing_promised_is_lost),
		cmocka_unit_test(last_write_torn_at_every_byte_is_cut_off),
		cmocka_unit_test(damage_before_the_last_write_is_reported_with_file_and_offset),
		cmocka_unit_test(lost_sectors_before_the_last_write_are_reported),
		cmocka_unit_test(segment_not_begun_may_hold_anything_of_an_earlier_life),
		cmocka_unit_test(segment_cut_off_is_reported_or_can_be_added_to),
		cmocka_unit_test(missing_segment_is_reported),
		cmocka_unit_test(log_of_another_cluster_member_or_format_is_refused),
		cmocka_unit_test(cut_log_whose_end_was_replaced_below_the_cut_must_reach_it_again),
		cmocka_unit_test(segment_begun_by_entries_of_two_leaders_stands_alone),
		cmocka_unit_test(segment_begun_by_entries_that_were_lost_stands_alone),
		cmocka_unit_test(damage_of_the_only_frame_is_reported),
		cmocka_unit_test(restart_takes_the_place_of_all_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
