/* A log on a disk made of memory (writes are volatile until synced, names until the directory is synced; a
 * sync that fails leaves what was written in the cache, clean, and no later one brings it to the platter),
 * and a model of what it should hold: struct bench has all three. */
#pragma once
#include "base/buf.h"
#include "base/memory.h"
#include "base/rng.h"
#include "wal/format.h"
#include "wal/wal.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka needs the headers above first. */
#include <cmocka.h>

#define FILES_MAX 64
#define ENTRIES_MAX 4096

struct file {
	char name[WAL_NAME_MAX];
	char *now, *durable; /* contents as read, and as they would be after the power failed */
	char *dirty;	     /* of each byte, whether the next sync writes it */
	size_t size;
};

struct disk {
	struct file files[FILES_MAX];
	size_t files_len;
	unsigned fail_at,
		calls; /* the fail_at-th write or sync fails (and a failed write leaves half of its bytes) */
};

static inline struct file *disk_find(struct disk *disk, const char *name)
{
	for (size_t i = 0; i < disk->files_len; i++)
		if (strcmp(disk->files[i].name, name) == 0)
			return &disk->files[i];
	return NULL;
}

static inline void disk_remove(struct disk *disk, struct file *file)
{
	free(file->now);
	free(file->durable);
	free(file->dirty);
	*file = disk->files[--disk->files_len];
}

static inline void disk_done(struct disk *disk)
{
	while (disk->files_len)
		disk_remove(disk, &disk->files[0]);
}

static inline void disk_power_off(struct disk *disk)
{
	for (size_t i = 0; i < disk->files_len; i++) {
		memcpy(disk->files[i].now, disk->files[i].durable, disk->files[i].size);
		memset(disk->files[i].dirty, 0, disk->files[i].size);
	}
}

static inline void sync_file(struct file *file, bool fails)
{
	for (size_t i = 0; i < file->size && !fails; i++)
		if (file->dirty[i])
			file->durable[i] = file->now[i];
	memset(file->dirty, 0, file->size);
}

static inline int disk_list(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct disk *disk = arg;

	for (size_t i = 0; i < disk->files_len; i++)
		fn(fn_arg, disk->files[i].name, disk->files[i].size);
	return 0;
}

static inline int disk_read(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
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

static inline int disk_step(
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
		file->dirty = mem_calloc(1, file->size);
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
		memset(file->dirty + step->offset, 1, len);
		return fails ? -EIO : 0;
	}
	case WAL_STEP_SYNC:
		assert_non_null(file);
		sync_file(file, fails);
		return fails ? -EIO : 0;
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

static inline int disk_run(struct disk *disk, const struct wal_plan *plan)
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

static inline void entry_text(char *out, size_t size, uint64_t index, uint64_t term)
{
	(void)snprintf(out, size, "entry %llu of term %llu %0*d", (unsigned long long)index,
		(unsigned long long)term, (int)(index * 7 % 90) + 1, 0);
}

static inline int sink_entry(void *arg, const struct wal_entry *entry)
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

static inline void sink_restart(void *arg, uint64_t index)
{
	struct model *model = arg;

	(void)index;
	memset(model->terms, 0, sizeof(model->terms));
	model->last = 0;
}

static const struct wal_config config = {
	.cluster_id = 5, .member_id = 6, .segment_bytes = 4096, .random_seed = 99};

/* One log through all its lives. What hangs on it goes with bench_done(). */
struct bench {
	struct disk disk;
	struct model model;  /* what the log should hold */
	struct model before; /* what it held before the batch that is under way: where a test says so */
	struct model back;   /* what the newest start read */
	struct wal_recovered found;
	struct wal_plan plan;
	struct wal *wal; /* NULL between two lives */
	char *error;	 /* why the newest start was refused; NULL: it was not */
};

/* Starts the log as a member would whose configuration is `as`. */
static inline int open_log(struct bench *bench, const struct wal_config *as, struct model *model)
{
	struct wal_disk disk = {.list = disk_list, .read = disk_read, .arg = &bench->disk};
	struct wal_sink sink = {.entry = sink_entry, .restart = sink_restart, .arg = model};
	struct wal_recovered *found = &bench->found;
	int r;

	assert_null(bench->wal);
	memset(model, 0, sizeof(*model));
	free(bench->error);
	bench->error = NULL;
	r = wal_open(as, &disk, &sink, &bench->wal, found, &bench->error);
	if (r < 0) {
		assert_non_null(bench->error);
		return r;
	}
	assert_null(bench->error);
	assert_int_equal(model->last, found->last_index >= found->first_index ? found->last_index : 0);
	model->last = found->last_index;
	model->first = found->first_index;
	model->hard_state = found->hard_state;
	return 0;
}

/* Starts the log that lies there, if it lets itself be started. */
static inline int bench_try(struct bench *bench)
{
	return open_log(bench, &config, &bench->back);
}

/* The first life of a log: there is nothing yet. */
static inline void bench_open(struct bench *bench)
{
	assert_int_equal(open_log(bench, &config, &bench->model), 0);
	assert_int_equal(bench->model.first, 1);
}

static inline void bench_run(struct bench *bench)
{
	assert_int_equal(disk_run(&bench->disk, &bench->plan), 0);
}

/* From a start up to where entries can be added. */
static inline void bench_begin(struct bench *bench)
{
	wal_start_plan(bench->wal, &bench->plan);
	bench_run(bench);
}

static inline void bench_start(struct bench *bench)
{
	bench_open(bench);
	bench_begin(bench);
}

static inline void bench_flush(struct bench *bench)
{
	wal_flush(bench->wal, &bench->plan);
	bench_run(bench);
}

static inline void bench_close(struct bench *bench)
{
	bench->wal = wal_free(bench->wal);
}

static inline void bench_reopen(struct bench *bench)
{
	bench_close(bench);
	assert_int_equal(bench_try(bench), 0);
}

static inline void bench_reopen_after_power_failed(struct bench *bench)
{
	bench_close(bench);
	disk_power_off(&bench->disk);
	bench_reopen(bench);
}

static inline void bench_done(struct bench *bench)
{
	bench_close(bench);
	free(bench->error);
	buf_done(&bench->plan.bytes);
	disk_done(&bench->disk);
}

static inline void add_entry(struct bench *bench, uint64_t index, uint64_t term)
{
	char text[160];

	entry_text(text, sizeof(text), index, term);
	wal_add_entry(bench->wal,
		&(struct wal_entry){
			.index = index, .term = term, .kind = (uint8_t)(index % 3), .data = slice_str(text)});
	bench->model.terms[index] = term;
	bench->model.last = index;
}

static inline void add_next_entry(struct bench *bench, uint64_t term)
{
	add_entry(bench, bench->model.last + 1, term);
}

static inline void add_hard_state(struct bench *bench, uint64_t term, uint64_t vote, uint64_t commit)
{
	bench->model.hard_state = (struct wal_hard_state){term, vote, commit};
	wal_add_hard_state(bench->wal, &bench->model.hard_state);
}

static inline bool model_equal(const struct model *a, const struct model *b)
{
	if (a->last != b->last || memcmp(&a->hard_state, &b->hard_state, sizeof(a->hard_state)) != 0)
		return false;
	for (uint64_t i = MAX(a->first, b->first); i <= a->last; i++)
		if (a->terms[i] != b->terms[i])
			return false;
	return true;
}

/* A random batch; now and then a new term that replaces what is not committed. */
static inline void add_batch(struct bench *bench, struct rng *rng)
{
	const struct model *model = &bench->model;
	uint64_t term = MAX(model->hard_state.term, UINT64_C(1)), commit = model->hard_state.commit;
	uint64_t next = model->last + 1, count = rng_below(rng, 8);

	if (rng_below(rng, 6) == 0) {
		term++;
		if (model->last > commit)
			next = commit + 1 + rng_below(rng, model->last - commit);
		count++;
	}
	for (uint64_t i = 0; i < count; i++)
		add_entry(bench, next + i, term);
	commit += rng_below(rng, model->last - commit + 1);
	add_hard_state(bench, term, rng_below(rng, 3), commit);
}

struct run {
	struct model model; /* of the entries of a range */
	uint64_t lowest;
};

static inline int run_entry(void *arg, const struct wal_entry *entry)
{
	struct run *run = arg;

	run->lowest = MIN(run->lowest, entry->index);
	return sink_entry(&run->model, entry);
}

/* All that is committed can be found in the files again, in its newest version. Answers how many were there.
 */
static inline unsigned read_all_back(struct bench *bench)
{
	const struct model *model = &bench->model;
	unsigned found = 0;

	for (uint64_t index = 1; index <= model->hard_state.commit; index++) {
		struct run *run = mem_new(struct run);
		struct wal_sink sink = {.entry = run_entry, .arg = run};
		struct wal_range range;
		struct file *file;

		run->lowest = UINT64_MAX;
		if (wal_locate(bench->wal, index, &range)) {
			assert_true(range.first <= index && index < range.end);
			file = disk_find(&bench->disk, range.name);
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

/* Makes a segment ahead of time if one is wanted; its plan can be another than that of a write under way. */
static inline void run_spare(struct bench *bench, struct wal_plan *plan)
{
	if (wal_spare_plan(bench->wal, false, plan)) {
		assert_true(plan->background);
		assert_int_equal(disk_run(&bench->disk, plan), 0);
		wal_spare_done(bench->wal);
	}
}

static inline bool takes_the_spare(const struct wal_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++)
		if (plan->steps[i].kind == WAL_STEP_RENAME && strcmp(plan->steps[i].name, "spare.wal") == 0)
			return true;
	return false;
}
