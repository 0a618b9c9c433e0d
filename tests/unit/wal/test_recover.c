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

static void flush_batch(struct disk *disk, struct wal *wal, struct wal_plan *plan)
{
	wal_flush(wal, plan);
	assert_int_equal(disk_run(disk, plan), 0);
}

/* Runs a fixed history; answers how far it came before the disk failed: `promised` is what was durable then,
 * `tried` what was being written. */
static int run_history(struct disk *disk, struct model *promised, struct model *tried)
{
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal = NULL;
	struct rng rng;
	char *error;
	int r;

	rng_seed(&rng, 3);
	r = open_log(disk, tried, &wal, &found, &error);
	assert_int_equal(r, 0);
	tried->first = 1;
	*promised = *tried;
	wal_start_plan(wal, &plan);
	r = disk_run(disk, &plan);
	for (int i = 0; i < 60 && r == 0; i++) {
		add_batch(wal, tried, &rng);
		wal_flush(wal, &plan);
		r = disk_run(disk, &plan);
		if (r == 0)
			*promised = *tried;
		if (r == 0 && wal_spare_plan(wal, false, &plan)) {
			r = disk_run(disk, &plan);
			if (r == 0)
				wal_spare_done(wal);
		}
	}
	wal_free(wal);
	buf_done(&plan.bytes);
	return r;
}

/* What is promised on top of what a start found is there after the power failed, and so is that. */
static void promise_more(struct disk *disk, struct wal *wal, struct model *model)
{
	struct wal_plan plan = {0};
	struct wal_recovered found;
	struct model *back = mem_new(struct model);
	char *error;

	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(disk, &plan), 0);
	for (int i = 0; i < 2; i++) {
		add_hard_state(wal, model, model->hard_state.term + 1, 2, model->hard_state.commit);
		add_entry(wal, model, model->last + 1, model->hard_state.term);
		flush_batch(disk, wal, &plan);
		disk_power_off(disk);
	}
	wal_free(wal);
	assert_int_equal(open_log(disk, back, &wal, &found, &error), 0);
	assert_true(model_equal(back, model));
	wal_free(wal);
	free(back);
	buf_done(&plan.bytes);
}

static void after_the_nth_write_or_sync_fails_nothing_promised_is_lost(void **state)
{
	(void)state;
	for (unsigned n = 1;; n++) {
		for (int power = 0; power < 2; power++) {
			struct disk disk = {.fail_at = n};
			struct model promised, tried, back;
			struct wal_recovered found;
			struct wal *wal;
			char *error;
			int failed = run_history(&disk, &promised, &tried);

			if (power)
				disk_power_off(&disk);
			assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
			assert_true(model_equal(&back, &promised) || (failed && model_equal(&back, &tried)));
			disk.fail_at = 0;
			promise_more(&disk, wal, &back);
			disk_done(&disk);
			if (!failed) {
				assert_true(n > 60);
				return;
			}
		}
	}
}

/* Makes a log of some segments on `disk`; *last is the plan of its last batch, not yet carried out. */
static struct wal *make_log(
	struct disk *disk, struct model *model, struct model *before, struct wal_plan *last, int batches)
{
	struct wal_recovered found;
	struct wal *wal;
	struct rng rng;
	char *error;

	rng_seed(&rng, 5);
	assert_int_equal(open_log(disk, model, &wal, &found, &error), 0);
	model->first = 1;
	wal_start_plan(wal, last);
	assert_int_equal(disk_run(disk, last), 0);
	for (int i = 0; i < batches; i++) {
		*before = *model;
		if (i + 1 < batches)
			run_spare(wal, disk, last);
		add_batch(wal, model, &rng);
		wal_flush(wal, last);
		if (i + 1 < batches)
			assert_int_equal(disk_run(disk, last), 0);
	}
	return wal;
}

/* For every step of the plan, a write in it cut off at every byte; then a new batch is written over the tail.
 */
static void last_write_torn_at_every_byte_is_cut_off(void **state)
{
	(void)state;
	for (int batches = 1; batches <= 40; batches += 3) {
		struct disk disk = {0};
		struct model model, before;
		struct wal_plan last = {0};
		struct wal *wal = make_log(&disk, &model, &before, &last, batches);

		wal_free(wal);
		for (size_t step = 0; step < last.steps_len; step++) {
			size_t len = last.steps[step].kind == WAL_STEP_WRITE ? last.steps[step].bytes_len : 0;

			for (size_t cut = 0; cut <= len; cut++) {
				struct disk torn;
				struct model back, again;
				struct wal_recovered found;
				struct wal_plan plan = {0};
				char *error;

				disk_copy(&torn, &disk);
				for (size_t i = 0; i < step; i++)
					assert_int_equal(
						disk_step(&torn, &last, &last.steps[i], SIZE_MAX), 0);
				assert_int_equal(disk_step(&torn, &last, &last.steps[step], cut), 0);
				assert_int_equal(open_log(&torn, &back, &wal, &found, &error), 0);
				back.first = 1;
				assert_true(model_equal(&back, &before) || model_equal(&back, &model));
				wal_start_plan(wal, &plan);
				assert_int_equal(disk_run(&torn, &plan), 0);
				add_entry(wal, &back, back.last + 1, back.hard_state.term + 1);
				add_hard_state(
					wal, &back, back.hard_state.term + 1, 1, back.hard_state.commit);
				wal_flush(wal, &plan);
				assert_int_equal(disk_run(&torn, &plan), 0);
				wal_free(wal);
				disk_power_off(&torn);
				assert_int_equal(open_log(&torn, &again, &wal, &found, &error), 0);
				assert_true(model_equal(&back, &again));
				wal_free(wal);
				buf_done(&plan.bytes);
				disk_done(&torn);
			}
		}
		buf_done(&last.bytes);
		disk_done(&disk);
	}
}

static bool is_spare(const struct file *file)
{
	return strcmp(file->name, WAL_SPARE_NAME) == 0 || strcmp(file->name, WAL_RESERVE_NAME) == 0;
}

/* Damage anywhere but in the last frame must be reported, and must change nothing. */
static void damage_before_the_last_write_is_reported_with_file_and_offset(void **state)
{
	struct disk disk = {0};
	struct model model, before, back;
	struct wal_plan last = {0};
	struct wal_recovered found;
	struct wal *wal = make_log(&disk, &model, &before, &last, 45);
	char *error, newest[WAL_NAME_MAX] = "";
	unsigned reported = 0;

	(void)state;
	assert_int_equal(disk_run(&disk, &last), 0);
	wal_free(wal);
	for (size_t i = 0; i < disk.files_len; i++)
		if (!is_spare(&disk.files[i]) && strcmp(disk.files[i].name, newest) > 0)
			memcpy(newest, disk.files[i].name, sizeof(newest));
	for (size_t i = 0; i < disk.files_len; i++) {
		struct file *file = &disk.files[i];
		bool is_last = strcmp(file->name, newest) == 0;

		if (is_spare(file))
			continue;
		for (size_t at = 0; at < file->size; at += 3) {
			int r;

			file->now[at] ^= 0x10;
			r = open_log(&disk, &back, &wal, &found, &error);
			if (r < 0) {
				assert_int_equal(r, -EBADMSG);
				assert_non_null(strstr(error, file->name));
				reported++;
				free(error);
			} else {
				back.first = 1;
				/* Unused bytes, or the last frame of all. */
				assert_true(model_equal(&back, &model) ||
					    (is_last && model_equal(&back, &before)));
				wal_free(wal);
			}
			file->now[at] ^= 0x10;
		}
	}
	assert_true(reported > 1000);
	buf_done(&last.bytes);
	disk_done(&disk);
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

/* One to four sectors that read as zeros, with the header, the first frames or all but the last one in them.
 */
static void lost_sectors_before_the_last_write_are_reported(void **state)
{
	enum { SECTOR = 512 };
	struct disk disk = {0}, hurt;
	struct model model, before, back;
	struct wal_plan last = {0};
	struct wal_recovered found;
	struct wal *wal = make_log(&disk, &model, &before, &last, 44);
	unsigned reported = 0, of_newest = 0;
	size_t newest = 0;

	(void)state;
	assert_int_equal(disk_run(&disk, &last), 0);
	wal_free(wal);
	for (size_t i = 0; i < disk.files_len; i++)
		if (!is_spare(&disk.files[i]) &&
			(is_spare(&disk.files[newest]) ||
				strcmp(disk.files[i].name, disk.files[newest].name) > 0))
			newest = i;
	for (size_t i = 0; i < disk.files_len; i++) {
		uint64_t limit = i == newest ? last_frame_of(&disk.files[i]) : disk.files[i].size;

		for (size_t at = 0; !is_spare(&disk.files[i]) && at + SECTOR <= limit; at += SECTOR)
			for (size_t len = SECTOR; len <= (size_t)4 * SECTOR && at + len <= limit;
				len += SECTOR) {
				char *error;

				disk_copy(&hurt, &disk);
				memset(hurt.files[i].now + at, 0, len);
				if (open_log(&hurt, &back, &wal, &found, &error) < 0) {
					assert_non_null(strstr(error, disk.files[i].name));
					free(error);
					reported++;
					of_newest += i == newest && !at;
				} else { /* nothing of it was in use */
					back.first = 1;
					assert_true(model_equal(&back, &model));
					wal_free(wal);
				}
				disk_done(&hurt);
			}
	}
	assert_true(reported > 50 && of_newest > 1);
	buf_done(&last.bytes);
	disk_done(&disk);
}

/* Adds batches up to the one that takes the spare, and carries that plan out until the spare has its name.
 * The spare held a life of segment 1, and something like a frame of the new one that a user wrote then.
 * Answers the segment's number. */
static uint64_t take_a_used_spare(
	struct disk *disk, struct wal *wal, struct wal_plan *plan, struct model *model, struct model *before)
{
	struct wal_frame_header forged = {.payload_len = 8};
	struct file *spare, *used;
	uint64_t number = 0;
	struct rng rng;

	rng_seed(&rng, 6);
	do {
		run_spare(wal, disk, plan);
		*before = *model;
		add_batch(wal, model, &rng);
		wal_flush(wal, plan);
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
	struct disk disk = {0};
	struct model model, before, back;
	struct wal_plan last = {0};
	struct wal_recovered found;
	struct wal *wal = make_log(&disk, &model, &before, &last, 30);
	char *error, name[WAL_NAME_MAX];
	uint64_t number;

	(void)state;
	assert_int_equal(disk_run(&disk, &last), 0);
	number = take_a_used_spare(&disk, wal, &last, &model, &before);
	wal_free(wal);
	wal_segment_name(name, number);
	assert_non_null(disk_find(&disk, name));
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	back.first = 1;
	assert_true(model_equal(&back, &before));
	wal_start_plan(wal, &last);
	assert_int_equal(disk_run(&disk, &last), 0);
	assert_null(disk_find(&disk, name));
	wal_free(wal);
	/* The newest one is there, but under the number of the one before. */
	wal_segment_name(name, number - 2);
	disk_remove(&disk, disk_find(&disk, name));
	wal_segment_name(name, number - 1);
	wal_segment_name(disk_find(&disk, name)->name, number - 2);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), -EBADMSG);
	assert_non_null(strstr(error, "later segment"));
	free(error);
	buf_done(&last.bytes);
	disk_done(&disk);
}

/* A file that was cut off in its last frame, or so closely behind it that the next one finds no room, is
 * reported; with more room it is a log like any other, since nothing tells that it was longer. */
static void segment_cut_off_is_reported_or_can_be_added_to(void **state)
{
	struct disk disk = {0};
	struct model model, before;
	struct wal_plan plan = {0};
	struct wal_step last;
	size_t end, begin;

	(void)state;
	wal_free(make_log(&disk, &model, &before, &plan, 30));
	assert_int_equal(disk_run(&disk, &plan), 0);
	last = plan.steps[plan.steps_len - 2];
	assert_int_equal(last.kind, WAL_STEP_WRITE);
	begin = (size_t)last.offset;
	end = begin + last.bytes_len + WAL_SEAL_FRAME_BYTES;
	for (size_t size = begin; size < end + WAL_SEAL_FRAME_BYTES; size++) {
		struct disk cut;
		struct wal *wal;
		struct wal_recovered found;
		struct model back, again;
		char *error;
		int r;

		disk_copy(&cut, &disk);
		disk_find(&cut, last.name)->size = size;
		r = open_log(&cut, &back, &wal, &found, &error);
		assert_int_equal(r, size < end ? -EBADMSG : 0);
		if (r == 0) {
			back.first = model.first;
			assert_true(model_equal(&back, &model));
			add_entry(wal, &back, back.last + 1, back.hard_state.term);
			flush_batch(&cut, wal, &plan);
			wal_free(wal);
			assert_int_equal(open_log(&cut, &again, &wal, &found, &error), 0);
			again.first = back.first;
			assert_true(model_equal(&back, &again));
			wal_free(wal);
		}
		free(error);
		disk_done(&cut);
	}
	buf_done(&plan.bytes);
	disk_done(&disk);
}

static void missing_segment_is_reported(void **state)
{
	struct disk disk = {0};
	struct model model, before, back;
	struct wal_plan last = {0};
	struct wal_recovered found;
	struct wal *wal = make_log(&disk, &model, &before, &last, 45);
	char *error;

	(void)state;
	assert_int_equal(disk_run(&disk, &last), 0);
	wal_free(wal);
	disk_remove(&disk, disk_find(&disk, "0000000000000002.wal"));
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), -EBADMSG);
	assert_non_null(strstr(error, "0000000000000002.wal"));
	assert_non_null(strstr(error, "missing"));
	free(error);
	buf_done(&last.bytes);
	disk_done(&disk);
}

static void log_of_another_cluster_member_or_format_is_refused(void **state)
{
	struct disk disk = {0};
	struct model model, before, back = {0};
	struct wal_plan last = {0};
	struct wal_recovered found;
	struct wal *wal = make_log(&disk, &model, &before, &last, 3);
	struct wal_disk ops = disk_ops(&disk);
	struct wal_sink sink = {.entry = sink_entry, .arg = &back};
	struct wal_config other = config;
	struct wal_segment_header header;
	char *error;

	(void)state;
	assert_int_equal(disk_run(&disk, &last), 0);
	wal_free(wal);
	other.cluster_id = 77;
	assert_int_equal(wal_open(&other, &ops, &sink, &wal, &found, &error), -EXDEV);
	assert_non_null(strstr(error, "belongs to cluster 5"));
	free(error);
	other = config;
	other.member_id = 78;
	assert_int_equal(wal_open(&other, &ops, &sink, &wal, &found, &error), -EXDEV);
	assert_non_null(strstr(error, "belongs to member 6"));
	free(error);
	assert_int_equal(
		wal_segment_header_decode(slice_make(disk.files[0].now, disk.files[0].size), &header),
		WAL_HEADER_VALID);
	header.version = 2;
	wal_segment_header_encode(disk.files[0].now, &header);
	assert_int_equal(wal_open(&config, &ops, &sink, &wal, &found, &error), -EPROTONOSUPPORT);
	assert_non_null(strstr(error, "newer version"));
	free(error);
	buf_done(&last.bytes);
	disk_done(&disk);
}

/* The next batch begins a segment unless it is tiny. */
static void fill_segment(struct disk *disk, struct wal *wal, struct model *model, struct wal_plan *plan)
{
	model->first = 1;
	do {
		add_entry(wal, model, model->last + 1, 1);
		add_hard_state(wal, model, 1, 0, 1);
		flush_batch(disk, wal, plan);
	} while (wal_room(wal) > 200);
}

/* A new leader's entries take the place of some that lie on both sides of a segment's beginning; later the
 * log is cut there. It is sound as long as what was committed behind the cut is there. */
static void cut_log_whose_end_was_replaced_below_the_cut_must_reach_it_again(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	struct wal_step last;
	uint64_t cut;
	char *error;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	model.first = 1;
	while (disk.files_len < 2) {
		add_entry(wal, &model, model.last + 1, 1);
		add_hard_state(wal, &model, 1, 0, 10);
		flush_batch(&disk, wal, &plan);
	}
	cut = model.last;
	add_entry(wal, &model, cut - 5, 2);
	add_hard_state(wal, &model, 2, 0, 10);
	flush_batch(&disk, wal, &plan);
	for (uint64_t i = cut - 4; i <= cut + 3; i++)
		add_entry(wal, &model, i, 2);
	add_hard_state(wal, &model, 2, 0, cut + 3);
	flush_batch(&disk, wal, &plan);
	last = plan.steps[0];
	assert_true(wal_release(wal, cut + 1, &plan));
	assert_int_equal(disk_run(&disk, &plan), 0);
	wal_free(wal);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	assert_int_equal(found.first_index, cut);
	assert_int_equal(found.last_index, cut + 3);
	assert_true(model_equal(&model, &back));
	wal_free(wal);

	memset(disk_find(&disk, last.name)->now + last.offset, 0, last.bytes_len);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), -EBADMSG);
	assert_non_null(strstr(error, "ends before the index at which it was cut"));
	free(error);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

/* While a write is under way the entries of two leaders gather in one batch, the later one's from further
 * down, and the batch happens to begin a segment. When those before it are released it must stand alone. */
static void segment_begun_by_entries_of_two_leaders_stands_alone(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	uint64_t end;
	char *error;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	fill_segment(&disk, wal, &model, &plan);
	end = model.last;
	add_entry(wal, &model, end + 1, 1);
	for (uint64_t i = end - 5; i <= end + 3; i++)
		add_entry(wal, &model, i, 2);
	add_hard_state(wal, &model, 2, 0, end + 3);
	flush_batch(&disk, wal, &plan);
	wal_flushed(wal);
	assert_int_equal(disk.files_len, 2);
	assert_true(wal_release(wal, end + 1, &plan));
	assert_int_equal(disk_run(&disk, &plan), 0);
	wal_free(wal);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	assert_int_equal(found.first_index, end + 1);
	assert_true(model_equal(&model, &back));
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

/* A new leader's entries were to begin a segment, and only its header got there. The log goes on otherwise.
 */
static void segment_begun_by_entries_that_were_lost_stands_alone(void **state)
{
	struct disk disk = {0};
	struct model model, back, lost;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	char *error;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	fill_segment(&disk, wal, &model, &plan);
	lost = model;
	for (uint64_t i = model.last - 5; i <= model.last + 3; i++)
		add_entry(wal, &lost, i, 2);
	wal_flush(wal, &plan);
	for (size_t i = 0; i + 2 < plan.steps_len; i++)
		assert_int_equal(disk_step(&disk, &plan, &plan.steps[i], SIZE_MAX), 0);
	wal_free(wal);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	assert_true(model_equal(&model, &back));
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
	add_hard_state(wal, &model, 1, 0, model.last);
	flush_batch(&disk, wal, &plan);
	wal_flushed(wal);
	assert_true(wal_release(wal, model.last + 1, &plan));
	assert_int_equal(disk_run(&disk, &plan), 0);
	wal_release_done(wal);
	for (int i = 0; i < 2; i++) { /* with nothing but a hard state, then with an entry */
		wal_free(wal);
		assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
		assert_int_equal(found.last_index, model.last);
		assert_true(model_equal(&model, &back));
		wal_start_plan(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
		add_entry(wal, &model, model.last + 1, 1);
		flush_batch(&disk, wal, &plan);
	}
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

/* It tells the term and the vote too. */
static void damage_of_the_only_frame_is_reported(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	struct file *file;
	char *error;

	(void)state;
	start_log(&disk, &model, &wal, &plan);
	fill_segment(&disk, wal, &model, &plan);
	for (int i = 0; i < 10; i++)
		add_entry(wal, &model, model.last + 1, 1);
	add_hard_state(wal, &model, 1, 0, model.last);
	flush_batch(&disk, wal, &plan);
	wal_flushed(wal);
	assert_true(wal_release(wal, model.last - 9, &plan));
	assert_int_equal(disk_run(&disk, &plan), 0);
	wal_free(wal);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
	assert_int_equal(found.first_index, model.last - 9);
	wal_free(wal);

	file = disk_find(&disk, "0000000000000002.wal");
	assert_non_null(file);
	file->now[WAL_SEGMENT_HEADER_BYTES + 5]++;
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), -EBADMSG);
	assert_non_null(strstr(error, "the frame with which the log begins does not check"));
	free(error);
	memset(file->now, 0, file->size);
	assert_int_equal(open_log(&disk, &back, &wal, &found, &error), -EBADMSG);
	assert_non_null(strstr(error, "header does not check"));
	free(error);
	buf_done(&plan.bytes);
	disk_done(&disk);
}

static void restart_takes_the_place_of_all_entries(void **state)
{
	struct disk disk = {0};
	struct model model, back;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal *wal;
	struct rng rng;
	char *error;

	(void)state;
	rng_seed(&rng, 9);
	start_log(&disk, &model, &wal, &plan);
	for (int round = 0; round < 60; round++) {
		/* Beyond the end of the log, or before it, where another term's entry stands. */
		uint64_t index = model.hard_state.commit + 1 + rng_below(&rng, 20);
		bool more = rng_below(&rng, 2);

		wal_restart_at(wal, index);
		assert_int_equal(wal_last_index(wal), index);
		memset(model.terms, 0, sizeof(model.terms));
		model.last = index;
		add_hard_state(wal, &model, model.hard_state.term, 1, index);
		for (int i = 0; i < 10 && more; i++) {
			add_batch(wal, &model, &rng);
			wal_flush(wal, &plan);
			assert_int_equal(disk_run(&disk, &plan), 0);
		}
		if (!more) {
			wal_flush(wal, &plan);
			assert_int_equal(disk_run(&disk, &plan), 0);
		}
		if (wal_release(wal, index + 1, &plan)) {
			assert_int_equal(disk_run(&disk, &plan), 0);
			wal_release_done(wal);
		}
		assert_int_equal(read_all_back(wal, &disk, &model), model.hard_state.commit - index);
		wal_free(wal);
		disk_power_off(&disk);
		assert_int_equal(open_log(&disk, &back, &wal, &found, &error), 0);
		assert_int_equal(read_all_back(wal, &disk, &model), model.hard_state.commit - index);
		assert_true(found.first_index <= index + 1);
		assert_int_equal(found.last_index, model.last);
		assert_true(model_equal(&model, &back));
		wal_start_plan(wal, &plan);
		assert_int_equal(disk_run(&disk, &plan), 0);
	}
	wal_free(wal);
	buf_done(&plan.bytes);
	disk_done(&disk);
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
