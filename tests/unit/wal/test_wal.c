/* The log on a disk made of memory: writes are volatile until synced, names until the directory is synced. */
#include "base/buf.h"
#include "base/memory.h"
#include "base/rng.h"
#include "wal/format.h"
#include "wal/wal.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define FILES_MAX 64
#define ENTRIES_MAX 4096

struct file {
	char name[WAL_NAME_MAX];
	char *now, *durable; /* contents as read, and as they would be after the power failed */
	size_t size;
};

struct disk {
	struct file files[FILES_MAX];
	size_t files_len;
	unsigned fail_at,
		calls; /* the fail_at-th write or sync fails (and a failed write leaves half of its bytes) */
};

static struct file *disk_find(struct disk *disk, const char *name)
{
	for (size_t i = 0; i < disk->files_len; i++)
		if (strcmp(disk->files[i].name, name) == 0)
			return &disk->files[i];
	return NULL;
}

static void disk_remove(struct disk *disk, struct file *file)
{
	free(file->now);
	free(file->durable);
	*file = disk->files[--disk->files_len];
}

static void disk_done(struct disk *disk)
{
	while (disk->files_len)
		disk_remove(disk, &disk->files[0]);
}

static void disk_copy(struct disk *to, const struct disk *from)
{
	*to = *from;
	for (size_t i = 0; i < from->files_len; i++) {
		to->files[i].now = mem_dup(from->files[i].now, from->files[i].size);
		to->files[i].durable = mem_dup(from->files[i].durable, from->files[i].size);
	}
}

static void disk_power_off(struct disk *disk)
{
	for (size_t i = 0; i < disk->files_len; i++)
		memcpy(disk->files[i].now, disk->files[i].durable, disk->files[i].size);
}

static int disk_list(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct disk *disk = arg;

	for (size_t i = 0; i < disk->files_len; i++)
		fn(fn_arg, disk->files[i].name, disk->files[i].size);
	return 0;
}

static int disk_read(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	struct file *file = disk_find(arg, name);

	if (!file)
		return -ENOENT;
	if (file->size > max_bytes)
		return -EFBIG;
	*ret_data = mem_dup(file->now, file->size);
	*ret_len = file->size;
	return 0;
}

static struct wal_disk disk_ops(struct disk *disk)
{
	return (struct wal_disk){.list = disk_list, .read = disk_read, .arg = disk};
}

static int disk_step(
	struct disk *disk, const struct wal_plan *plan, const struct wal_step *step, size_t write_at_most)
{
	struct file *file = disk_find(disk, step->name);
	bool fails = ++disk->calls == disk->fail_at;

	switch (step->kind) {
	case WAL_STEP_CREATE:
		if (fails)
			return -ENOSPC;
		if (file)
			disk_remove(disk, file);
		assert_true(disk->files_len < FILES_MAX);
		file = &disk->files[disk->files_len++];
		memcpy(file->name, step->name, sizeof(file->name));
		file->size = step->size_bytes;
		file->now = mem_calloc(1, file->size);
		file->durable = mem_calloc(1, file->size);
		return 0;
	case WAL_STEP_RENAME:
		if (fails)
			return -EIO;
		assert_non_null(file);
		assert_null(disk_find(disk, step->to_name));
		memcpy(file->name, step->to_name, sizeof(file->name));
		return 0;
	case WAL_STEP_WRITE: {
		size_t len = MIN(step->bytes_len, fails ? step->bytes_len / 2 : write_at_most);

		assert_non_null(file);
		assert_true(step->offset + step->bytes_len <= file->size);
		assert_true(step->bytes_at + step->bytes_len <= plan->bytes.len);
		memcpy(file->now + step->offset, plan->bytes.data + step->bytes_at, len);
		return fails ? -EIO : 0;
	}
	case WAL_STEP_SYNC:
		if (fails)
			return -EIO;
		assert_non_null(file);
		memcpy(file->durable, file->now, file->size);
		return 0;
	case WAL_STEP_SYNC_DIR:
		return fails ? -EIO : 0;
	case WAL_STEP_REMOVE:
		assert_non_null(file);
		disk_remove(disk, file);
		return 0;
	default:
		fail();
		return -EINVAL;
	}
}

static int disk_run(struct disk *disk, const struct wal_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++) {
		int r = disk_step(disk, plan, &plan->steps[i], SIZE_MAX);

		if (r < 0)
			return r;
	}
	return 0;
}

/* What a log should hold. */
struct model {
	struct wal_hard_state hard_state;
	uint64_t terms[ENTRIES_MAX]; /* by index; the data is made from index and term */
	uint64_t first, last;
};

static void entry_text(char *out, size_t size, uint64_t index, uint64_t term)
{
	(void)snprintf(out, size, "entry %llu of term %llu %0*d", (unsigned long long)index,
		(unsigned long long)term, (int)(index * 7 % 90) + 1, 0);
}

static int sink_entry(void *arg, const struct wal_entry *entry)
{
	struct model *model = arg;
	char text[160];

	assert_true(entry->index < ENTRIES_MAX);
	entry_text(text, sizeof(text), entry->index, entry->term);
	assert_true(slice_is(entry->data, text));
	assert_int_equal(entry->kind, entry->index % 3);
	model->terms[entry->index] = entry->term;
	model->last = entry->index;
	return 0;
}

static void sink_restart(void *arg, uint64_t index)
{
	struct model *model = arg;

	(void)index;
	memset(model->terms, 0, sizeof(model->terms));
	model->last = 0;
}

static const struct wal_config config = {
	.cluster_id = 5, .member_id = 6, .segment_bytes = 4096, .random_seed = 99};

static int open_log(struct disk *disk, struct model *model, struct wal **ret_wal, struct wal_recovered *found,
	char **error)
{
	struct wal_disk ops = disk_ops(disk);
	struct wal_sink sink = {.entry = sink_entry, .restart = sink_restart, .arg = model};
	int r;

	memset(model, 0, sizeof(*model));
	*error = NULL;
	r = wal_open(&config, &ops, &sink, ret_wal, found, error);
	if (r < 0) {
		assert_non_null(*error);
		return r;
	}
	assert_null(*error);
	assert_int_equal(model->last, found->last_index >= found->first_index ? found->last_index : 0);
	model->last = found->last_index;
	model->first = found->first_index;
	model->hard_state = found->hard_state;
	return 0;
}

static void add_entry(struct wal *wal, struct model *model, uint64_t index, uint64_t term)
{
	char text[160];

	entry_text(text, sizeof(text), index, term);
	wal_add_entry(wal,
		&(struct wal_entry){
			.index = index, .term = term, .kind = (uint8_t)(index % 3), .data = slice_str(text)});
	model->terms[index] = term;
	model->last = index;
}

static void add_hard_state(
	struct wal *wal, struct model *model, uint64_t term, uint64_t vote, uint64_t commit)
{
	model->hard_state = (struct wal_hard_state){term, vote, commit};
	wal_add_hard_state(wal, &model->hard_state);
}

static bool model_equal(const struct model *a, const struct model *b)
{
	if (a->last != b->last || memcmp(&a->hard_state, &b->hard_state, sizeof(a->hard_state)) != 0)
		return false;
	for (uint64_t i = MAX(a->first, b->first); i <= a->last; i++)
		if (a->terms[i] != b->terms[i])
			return false;
	return true;
}

/* A random batch; now and then a new term that replaces what is not committed. */
static void add_batch(struct wal *wal, struct model *model, struct rng *rng)
{
	uint64_t term = MAX(model->hard_state.term, UINT64_C(1)), commit = model->hard_state.commit;
	uint64_t next = model->last + 1, count = rng_below(rng, 8);

	if (rng_below(rng, 6) == 0) {
		term++;
		if (model->last > commit)
			next = commit + 1 + rng_below(rng, model->last - commit);
		count++;
	}
	for (uint64_t i = 0; i < count; i++)
		add_entry(wal, model, next + i, term);
	commit += rng_below(rng, model->last - commit + 1);
	add_hard_state(wal, model, term, rng_below(rng, 3), commit);
}

struct run {
	struct model model; /* of the entries of a range */
	uint64_t lowest;
};

static int run_entry(void *arg, const struct wal_entry *entry)
{
	struct run *run = arg;

	run->lowest = MIN(run->lowest, entry->index);
	return sink_entry(&run->model, entry);
}

/* All that is committed can be found in the files again, in its newest version. Answers how many were there.
 */
static unsigned read_all_back(const struct wal *wal, struct disk *disk, const struct model *model)
{
	unsigned found = 0;

	for (uint64_t index = 1; index <= model->hard_state.commit; index++) {
		struct run *run = mem_new(struct run);
		struct wal_sink sink = {.entry = run_entry, .arg = run};
		struct wal_range range;
		struct file *file;

		run->lowest = UINT64_MAX;
		if (wal_locate(wal, index, &range)) {
			assert_true(range.first <= index && index < range.end);
			file = disk_find(disk, range.name);
			assert_true(file && range.offset + range.len <= file->size);
			assert_int_equal(
				wal_read_back(&range, slice_make(file->now + range.offset, range.len), &sink),
				0);
			assert_true(run->lowest >= range.first);
			assert_int_equal(run->model.terms[index], model->terms[index]);
			found++;
		} else {
			assert_int_equal(found, 0); /* only at the beginning some are gone */
		}
		free(run);
	}
	return found;
}

static void flush_batch(struct disk *disk, struct wal *wal, struct wal_plan *plan)
{
	wal_flush(wal, plan);
	assert_int_equal(disk_run(disk, plan), 0);
}

static void run_spare(struct wal *wal, struct disk *disk, struct wal_plan *plan)
{
	if (wal_spare_plan(wal, false, plan)) {
		assert_true(plan->background);
		assert_int_equal(disk_run(disk, plan), 0);
		wal_spare_done(wal);
	}
}

static bool takes_the_spare(const struct wal_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++)
		if (plan->steps[i].kind == WAL_STEP_RENAME && strcmp(plan->steps[i].name, "spare.wal") == 0)
			return true;
	return false;
}

/* Else the new one would be renamed onto the one that the write is about to take. */
/* A log whose next segment is not made in time says so while it can still be written to without taking space.
 */
static void a_log_without_a_next_segment_runs_short_at_half_of_its_own(void **state)
{
	struct disk disk = {0};
	struct model model;
	struct wal_recovered found;
	struct wal_plan plan = {0}, spare = {0};
	struct wal *wal;
	char *error;
	uint64_t whole;

	(void)state;
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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

static void no_spare_is_made_while_a_write_under_way_takes_the_one_there_is(void **state)
{
	struct disk disk = {0};
	struct model model;
	struct wal_recovered found;
	struct wal_plan plan = {0}, spare = {0};
	struct wal *wal;
	char *error;

	(void)state;
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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
			wal_free(wal);
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
				assert_true(r == -EBADMSG || r == -EPROTONOSUPPORT);
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
	disk.files[0].now[8] = 2;
	assert_int_equal(wal_open(&config, &ops, &sink, &wal, &found, &error), -EPROTONOSUPPORT);
	assert_non_null(strstr(error, "newer version"));
	free(error);
	buf_done(&last.bytes);
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
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	model.first = 1;
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	model.first = 1;
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
	do {
		add_entry(wal, &model, model.last + 1, 1);
		add_hard_state(wal, &model, 1, 0, 1);
		flush_batch(&disk, wal, &plan);
	} while (wal_room(wal) > 200);
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
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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

/* A file that was changed behind the log's back: what is given out is right, or nothing. */
static void what_is_read_back_is_checked(void **state)
{
	struct disk disk = {0};
	struct model model;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	struct wal_range range;
	struct wal *wal;
	struct file *file;
	char *error;

	(void)state;
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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
	assert_int_equal(open_log(&disk, &model, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	assert_int_equal(disk_run(&disk, &plan), 0);
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
		cmocka_unit_test(after_the_nth_write_or_sync_fails_nothing_promised_is_lost),
		cmocka_unit_test(last_write_torn_at_every_byte_is_cut_off),
		cmocka_unit_test(damage_before_the_last_write_is_reported_with_file_and_offset),
		cmocka_unit_test(segment_cut_off_is_reported_or_can_be_added_to),
		cmocka_unit_test(missing_segment_is_reported),
		cmocka_unit_test(log_of_another_cluster_member_or_format_is_refused),
		cmocka_unit_test(log_cut_behind_a_checkpoint_recycles_segments),
		cmocka_unit_test(cut_log_whose_end_was_replaced_below_the_cut_must_reach_it_again),
		cmocka_unit_test(segment_begun_by_entries_of_two_leaders_stands_alone),
		cmocka_unit_test(restart_takes_the_place_of_all_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
