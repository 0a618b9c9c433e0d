/* Plans of the log on a real directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "etcd/disk.h"
#include "base/memory.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
	char path[64];
	int dir_fd;
	uv_loop_t loop;
	struct disk *disk;
	struct {
		const struct wal_plan *plan;
		int error;
	} done[8];
	size_t done_count;
};

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);

	strcpy(f->path, "/tmp/flotilla-disk-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dir_fd >= 0);
	assert_int_equal(uv_loop_init(&f->loop), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->disk = disk_close(f->disk);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	close(f->dir_fd);
	assert_int_equal(file_remove_all(f->path), 0);
	mem_free(f);
	return 0;
}

static struct wal_step *add_step(struct wal_plan *plan, enum wal_step_kind kind, const char *name)
{
	struct wal_step *step = &plan->steps[plan->steps_len++];

	*step = (struct wal_step){.kind = kind};
	snprintf(step->name, sizeof(step->name), "%s", name);
	return step;
}

static void add_create(struct wal_plan *plan, const char *name, uint64_t size_bytes)
{
	add_step(plan, WAL_STEP_CREATE, name)->size_bytes = size_bytes;
}

static void add_rename(struct wal_plan *plan, const char *from, const char *to)
{
	struct wal_step *step = add_step(plan, WAL_STEP_RENAME, from);

	snprintf(step->to_name, sizeof(step->to_name), "%s", to);
}

static void add_write(struct wal_plan *plan, const char *name, uint64_t offset, const char *text)
{
	struct wal_step *step = add_step(plan, WAL_STEP_WRITE, name);

	step->offset = offset;
	step->bytes_at = plan->bytes.len;
	step->bytes_len = strlen(text);
	buf_add_str(&plan->bytes, text);
}

static void plan_done(struct wal_plan *plan)
{
	buf_done(&plan->bytes);
	*plan = (struct wal_plan){0};
}

static void assert_file(struct fixture *f, const char *name, size_t size, size_t at, const char *text)
{
	_cleanup_buf_ struct buf data = BUF_INIT(0);

	assert_int_equal(file_read_at(f->dir_fd, name, 64 << 20, &data), 0);
	assert_int_equal(data.len, size);
	assert_memory_equal(data.data + at, text, strlen(text));
	for (size_t i = 0; i < data.len; i++) {
		if (i < at || i >= at + strlen(text))
			assert_int_equal(data.data[i], 0);
	}
}

static void a_segment_is_made_written_renamed_and_removed(void **state)
{
	struct fixture *f = *state;
	struct wal_plan plan = {0};
	struct disk_counts counts = {0};
	struct disk_file file = DISK_FILE_INIT;
	struct stat st;

	add_create(&plan, "spare", 3 << 20);
	add_write(&plan, "spare", 100, "hello");
	add_step(&plan, WAL_STEP_SYNC, "spare");
	add_rename(&plan, "spare", "00.wal");
	add_step(&plan, WAL_STEP_SYNC_DIR, "");
	assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), 0);
	assert_file(f, "00.wal", 3 << 20, 100, "hello");
	assert_int_equal(fstatat(f->dir_fd, "00.wal", &st, 0), 0);
	assert_true(st.st_blocks * 512 >= 3 << 20);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_string_equal(file.name, "00.wal"); /* the open file follows its name */
	assert_int_equal(counts.writes, 1);
	assert_int_equal(counts.write_bytes, 5);
	assert_int_equal(counts.syncs, 1);
	plan_done(&plan);

	add_write(&plan, "00.wal", 100, "HELLO");
	add_step(&plan, WAL_STEP_SYNC, "00.wal");
	assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), 0);
	assert_file(f, "00.wal", 3 << 20, 100, "HELLO");
	plan_done(&plan);

	/* An existing file is replaced by zeros; a removed one is no longer held open. */
	add_create(&plan, "00.wal", 5000);
	assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), 0);
	assert_file(f, "00.wal", 5000, 0, "");
	plan_done(&plan);
	add_write(&plan, "00.wal", 0, "x");
	add_step(&plan, WAL_STEP_REMOVE, "00.wal");
	assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), 0);
	assert_int_equal(file.fd, -1);
	assert_int_equal(faccessat(f->dir_fd, "00.wal", F_OK, 0), -1);
	plan_done(&plan);
	disk_file_done(&file);
}

static void the_first_step_that_fails_ends_the_plan(void **state)
{
	struct fixture *f = *state;
	struct wal_plan plan = {0};
	struct disk_counts counts = {0};
	struct disk_file file = DISK_FILE_INIT;

	add_write(&plan, "missing", 0, "x");
	add_create(&plan, "after", 10);
	assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), -ENOENT);
	assert_int_equal(faccessat(f->dir_fd, "after", F_OK, 0), -1);
	plan_done(&plan);
	for (int kind = WAL_STEP_RENAME; kind <= WAL_STEP_READ; kind++) {
		if (kind == WAL_STEP_SYNC_DIR || kind == WAL_STEP_REMOVE)
			continue;
		add_step(&plan, (enum wal_step_kind)kind, "missing");
		assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), -ENOENT);
		plan_done(&plan);
	}
	/* More than the file system holds: nothing is left behind. */
	add_create(&plan, "huge", UINT64_C(1) << 60);
	assert_true(disk_run_plan(f->dir_fd, &file, &plan, &counts) < 0);
	assert_int_equal(faccessat(f->dir_fd, "huge", F_OK, 0), -1);
	plan_done(&plan);
}

static void a_link_is_not_followed(void **state)
{
	struct fixture *f = *state;
	struct wal_plan plan = {0};
	struct disk_counts counts = {0};
	struct disk_file file = DISK_FILE_INIT;

	assert_int_equal(symlinkat("/dev/null", f->dir_fd, "link"), 0);
	add_write(&plan, "link", 0, "x");
	assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), -ELOOP);
	plan_done(&plan);
}

static void a_checkpoint_grows_replaces_another_and_is_read_in_ranges(void **state)
{
	struct fixture *f = *state;
	struct wal_plan plan = {.background = true};
	struct disk_counts counts = {0};
	struct disk_file file = DISK_FILE_INIT;
	_cleanup_buf_ struct buf range = BUF_INIT(0);
	struct wal_step *step;

	for (unsigned round = 0; round < 2; round++) {
		add_step(&plan, WAL_STEP_REMOVE, "missing"); /* no error */
		add_create(&plan, "new", 0);
		add_write(&plan, "new", 0, round ? "other" : "first");
		add_write(&plan, "new", 5, round ? "wise" : "born");
		add_step(&plan, WAL_STEP_SYNC, "new");
		add_rename(&plan, "new", "whole");
		add_step(&plan, WAL_STEP_SYNC_DIR, "");
		assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), 0);
		plan_done(&plan);
		assert_file(f, "whole", 9, 0, round ? "otherwise" : "firstborn");
	}
	for (unsigned round = 0; round < 3; round++) {
		static const char *const parts[] = {"herw", "wise", ""};
		static const uint64_t offsets[] = {2, 5, 9};

		buf_clear(&range);
		step = add_step(&plan, WAL_STEP_READ, "whole");
		step->offset = offsets[round];
		step->size_bytes = round ? 100 : 4; /* fewer at the end */
		step->into = &range;
		assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), 0);
		assert_string_equal(buf_text(&range), parts[round]);
		plan_done(&plan);
	}
	disk_file_done(&file);
}

static void on_done(const struct wal_plan *plan, int error, void *user)
{
	struct fixture *f = user;

	assert_true(f->done_count < ARRAY_LEN(f->done));
	f->done[f->done_count].plan = plan;
	f->done[f->done_count++].error = error;
}

static void open_disk(struct fixture *f)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);

	assert_int_equal(disk_open(&f->loop, f->path, on_done, f, &f->disk, &why), 0);
}

static void plans_are_answered_on_the_loop(void **state)
{
	struct fixture *f = *state;
	struct wal_plan log = {0}, spare = {.background = true};
	struct disk_counts counts;

	open_disk(f);
	add_create(&log, "a", 4096);
	add_write(&log, "a", 0, "first");
	add_step(&log, WAL_STEP_SYNC, "a");
	add_create(&spare, "b", 2 << 20);
	disk_submit(f->disk, &spare);
	disk_submit(f->disk, &log);
	assert_int_equal(f->done_count, 0); /* never from inside */
	while (f->done_count < 2)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_int_equal(f->done[0].error, 0);
	assert_int_equal(f->done[1].error, 0);
	assert_true(f->done[0].plan != f->done[1].plan);
	assert_file(f, "a", 4096, 0, "first");
	assert_file(f, "b", 2 << 20, 0, "");
	disk_get_counts(f->disk, &counts);
	assert_int_equal(counts.writes, 1);
	assert_int_equal(counts.syncs, 1);
	plan_done(&log);

	add_rename(&log, "missing", "b");
	disk_submit(f->disk, &log);
	while (f->done_count < 3)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_ptr_equal(f->done[2].plan, &log);
	assert_int_equal(f->done[2].error, -ENOENT);
	plan_done(&log);
	plan_done(&spare);
}

static void closing_waits_for_the_plan_under_way(void **state)
{
	struct fixture *f = *state;
	struct wal_plan plan = {0};

	open_disk(f);
	add_create(&plan, "a", 4096);
	add_write(&plan, "a", 7, "kept");
	disk_submit(f->disk, &plan);
	f->disk = disk_close(f->disk);
	assert_file(f, "a", 4096, 7, "kept");
	assert_int_equal(f->done_count, 0);
	plan_done(&plan);
}

static void add_name(void *arg, const char *name, uint64_t size_bytes)
{
	buf_printf(arg, "%s:%llu;", name, (unsigned long long)size_bytes);
}

static void files_are_listed_and_read(void **state)
{
	struct fixture *f = *state;
	struct wal_plan plan = {0};
	struct disk_counts counts = {0};
	struct disk_file file = DISK_FILE_INIT;
	_cleanup_buf_ struct buf names = BUF_INIT(0);
	_cleanup_free_ char *data = NULL;
	size_t len;

	open_disk(f);
	assert_int_equal(mkdirat(f->dir_fd, "dir", 0700), 0);
	add_create(&plan, "a", 10);
	add_write(&plan, "a", 0, "0123456789");
	assert_int_equal(disk_run_plan(f->dir_fd, &file, &plan, &counts), 0);
	plan_done(&plan);
	disk_file_done(&file);
	assert_in_range(disk_room(f->disk), 1, INT64_MAX);
	/* Twice: listing does not use up the directory. */
	assert_int_equal(disk_list(f->disk, add_name, &names), 0);
	assert_int_equal(disk_list(f->disk, add_name, &names), 0);
	assert_string_equal(names.data, "a:10;a:10;");
	assert_int_equal(disk_read(f->disk, "a", 9, &data, &len), -EFBIG);
	assert_int_equal(disk_read(f->disk, "b", 9, &data, &len), -ENOENT);
	assert_int_equal(disk_read(f->disk, "a", 10, &data, &len), 0);
	assert_int_equal(len, 10);
	assert_memory_equal(data, "0123456789", 10);
}

static void a_missing_directory_is_named(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct buf why = BUF_INIT(0);

	assert_int_equal(disk_open(&f->loop, "/nowhere/at/all", on_done, f, &f->disk, &why), -ENOENT);
	assert_string_equal(
		why.data, "cannot open the log directory /nowhere/at/all: No such file or directory");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(a_segment_is_made_written_renamed_and_removed),
		CASE(the_first_step_that_fails_ends_the_plan),
		CASE(a_link_is_not_followed),
		CASE(a_checkpoint_grows_replaces_another_and_is_read_in_ranges),
		CASE(plans_are_answered_on_the_loop),
		CASE(closing_waits_for_the_plan_under_way),
		CASE(files_are_listed_and_read),
		CASE(a_missing_directory_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
