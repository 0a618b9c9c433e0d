/* Writing and reading back; damage; what is of another format or cluster. */
#include "checkpoint_helpers.h"
#include "base/hash.h"

static void loaded_store_is_the_one_that_was_written_and_goes_on_alike(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		_cleanup_(disk_done) struct disk disk = {0};
		_cleanup_(checkpoint_unrefp) struct checkpoint *written = NULL, *read = NULL, *second = NULL;
		_cleanup_(store_freep) struct store *store = store_random(seed, seed * 300, 300);
		_cleanup_(store_freep) struct store *loaded = NULL;
		struct checkpoint_info info, info_read;
		struct rng one, other;
		int r;

		written = checkpoint_write(&disk, store, 77, 1, 1000);
		loaded = checkpoint_read(&disk, &read, &r);
		assert_int_equal(r, 0);
		checkpoint_get_info(written, &info);
		checkpoint_get_info(read, &info_read);
		assert_true(checkpoint_id_equal(info.id, info_read.id));
		assert_int_equal(info_read.id.index, 77);
		assert_int_equal(info_read.id.term, 3);
		assert_true(slice_is(info_read.membership, "voters 1 2 3"));
		assert_int_equal(info_read.generation, 1);
		same_state(store, loaded);
		rng_seed(&one, seed);
		rng_seed(&other, seed);
		for (size_t i = 0; i < 400; i++) {
			live(store, &one, 300);
			live(loaded, &other, 300);
			assert_int_equal(store_hash(store), store_hash(loaded));
		}
		same_state(store, loaded);
		/* A member that was restarted writes the same bytes as one that was not. */
		second = checkpoint_write(&disk, store, 500, 2, 1 << 20);
		checkpoint_get_info(second, &info);
		read = checkpoint_unref(read);
		read = checkpoint_write(&disk, loaded, 500, 3, 1 << 20);
		checkpoint_get_info(read, &info_read);
		assert_true(checkpoint_id_equal(info.id, info_read.id));
	}
}

static void empty_store_round_trips(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(store_freep) struct store *store = store_new(), *loaded = NULL;
	_cleanup_(checkpoint_unrefp) struct checkpoint *written =
		checkpoint_write(&disk, store, 1, 1, 1 << 20);
	int r;

	(void)state;
	assert_non_null(written);
	loaded = checkpoint_read(&disk, NULL, &r);
	assert_non_null(loaded);
	same_state(store, loaded);
	put(store, "/1/a", "1");
	put(loaded, "/1/a", "1");
	same_state(store, loaded);
}

static void no_checkpoint_is_told_apart_from_a_damaged_one(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	int r;

	(void)state;
	assert_null(checkpoint_read(&disk, NULL, &r));
	assert_int_equal(r, 0);
}

static void image_is_of_the_moment_it_was_begun_while_writes_go_on(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		_cleanup_(disk_done) struct disk disk = {0};
		_cleanup_(store_freep) struct store *store = store_random(seed, 1500, 100);
		_cleanup_(store_freep) struct store *twin = store_random(seed, 1500, 100), *loaded = NULL;
		struct checkpoint_meta meta = meta_make(9);
		struct checkpoint_writer *writer = checkpoint_writer_new(store, &meta, 1);
		struct checkpoint_plan plan = {0};
		struct rng rng;
		bool more = true;
		int r;

		rng_seed(&rng, seed + 100);
		while (more) {
			more = checkpoint_writer_step(writer, 300, &plan);
			disk_run(&disk, &plan);
			for (int i = 0; i < 3; i++)
				live(store, &rng, 100);
		}
		buf_done(&plan.bytes);
		loaded = checkpoint_read(&disk, NULL, &r);
		assert_int_equal(r, 0);
		same_state(twin, loaded);
		(void)checkpoint_writer_free(writer);
	}
}

static void handle_is_let_go_with_the_last_record(void **state)
{
	_cleanup_(checkpoint_writer_freep) struct checkpoint_writer *writer = NULL;
	struct store *store = store_random(5, 500, 50);
	struct checkpoint_meta meta = meta_make(9);
	struct checkpoint_plan plan = {0};

	(void)state;
	writer = checkpoint_writer_new(store, &meta, 1);
	while (checkpoint_writer_step(writer, 500, &plan))
		;
	/* It asserts that nobody holds a handle any more. */
	(void)store_free(store);
	buf_done(&plan.bytes);
}

static void given_up_writer_leaves_the_store_as_it_was(void **state)
{
	_cleanup_(store_freep) struct store *store = store_random(5, 500, 50),
					    *twin = store_random(5, 500, 50);
	struct checkpoint_meta meta = meta_make(9);
	struct checkpoint_writer *writer = checkpoint_writer_new(store, &meta, 1);
	struct checkpoint_plan plan = {0};

	(void)state;
	assert_true(checkpoint_writer_step(writer, 1, &plan));
	(void)checkpoint_writer_free(writer);
	buf_done(&plan.bytes);
	same_state(store, twin);
}

static void bytes_do_not_depend_on_the_budget(void **state)
{
	const size_t budgets[] = {1, 999, 100000, SIZE_MAX};
	_cleanup_(store_freep) struct store *store = store_random(3, 6000, 1500);
	struct checkpoint_info first = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(budgets); i++) {
		_cleanup_(disk_done) struct disk disk = {0};
		_cleanup_(checkpoint_unrefp) struct checkpoint *made =
			checkpoint_write(&disk, store, 9, 1, budgets[i]);
		struct checkpoint_info info;

		checkpoint_get_info(made, &info);
		assert_true(info.chunks >= 3);
		if (!i)
			first = info;
		assert_true(checkpoint_id_equal(first.id, info.id));
	}
}

static void step_stays_within_its_budget_but_for_one_chunk(void **state)
{
	_cleanup_(checkpoint_writer_freep) struct checkpoint_writer *writer = NULL;
	_cleanup_(store_freep) struct store *store = store_random(3, 6000, 1500);
	struct checkpoint_meta meta = meta_make(9);
	struct checkpoint_plan plan = {0};
	size_t steps = 0;

	(void)state;
	writer = checkpoint_writer_new(store, &meta, 1);
	while (checkpoint_writer_step(writer, 4096, &plan)) {
		assert_true(plan.bytes.len <= 4096 + CHECKPOINT_CHUNK_BYTES + 4096);
		steps++;
	}
	assert_true(steps > 100);
	buf_done(&plan.bytes);
}

/* ---- damage ---- */

static void small_checkpoint(struct disk *disk)
{
	_cleanup_(store_freep) struct store *store = store_new();
	_cleanup_(checkpoint_unrefp) struct checkpoint *made = NULL;
	struct store_command command = {.op = STORE_OP_SET,
		.path = slice_str("/1/b/c"),
		.value = slice_str("later gone"),
		.time_ns = NOW,
		.has_expiry = true,
		.expires_ns = NOW + NS_PER_S};

	put(store, "/1/a", "one");
	put(store, "/1/a", "two");
	apply(store, &command);
	made = checkpoint_write(disk, store, 4, 1, SIZE_MAX);
}

static void damage_is_detected(struct disk *disk)
{
	struct store *loaded;
	int r;

	loaded = checkpoint_read(disk, NULL, &r);
	assert_null(loaded);
	assert_int_equal(r, -EBADMSG);
}

static void every_flipped_bit_is_detected(void **state)
{
	const char *files[] = {CHECKPOINT_NAME, "0000000000000001.checkpoint"};
	_cleanup_(disk_done) struct disk disk = {0};

	(void)state;
	small_checkpoint(&disk);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct inode *inode = disk_inode(&disk, files[i]);

		assert_true(inode->now.len > 100);
		for (size_t bit = 0; bit < inode->now.len * 8; bit++) {
			inode->now.data[bit / 8] ^= (char)(1 << bit % 8);
			damage_is_detected(&disk);
			inode->now.data[bit / 8] ^= (char)(1 << bit % 8);
		}
	}
}

static void truncation_at_every_byte_is_detected(void **state)
{
	const char *files[] = {CHECKPOINT_NAME, "0000000000000001.checkpoint"};
	_cleanup_(disk_done) struct disk disk = {0};

	(void)state;
	small_checkpoint(&disk);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct inode *inode = disk_inode(&disk, files[i]);
		size_t len = inode->now.len;

		for (inode->now.len = 0; inode->now.len < len; inode->now.len++)
			damage_is_detected(&disk);
	}
}

static void missing_data_file_is_named(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	struct checkpoint_disk ops = disk_ops(&disk);
	_cleanup_free_ char *error = NULL;
	struct store *store;

	(void)state;
	small_checkpoint(&disk);
	assert_int_equal(checkpoint_open(&ops, CLUSTER, &checkpoint, &error), 0);
	*names_find(&disk.now, "0000000000000001.checkpoint") = disk.now.at[--disk.now.count];
	assert_int_equal(checkpoint_load(&ops, checkpoint, &store, &error), -ENOENT);
	assert_non_null(strstr(error, "0000000000000001.checkpoint"));
}

static void chunk_of_another_checkpoint_is_detected(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0}, other = {0};
	_cleanup_(store_freep) struct store *store = store_random(8, 200, 20);
	_cleanup_(checkpoint_unrefp) struct checkpoint *made = NULL;
	struct inode *mine, *theirs;

	(void)state;
	small_checkpoint(&disk);
	made = checkpoint_write(&other, store, 4, 1, SIZE_MAX);
	mine = disk_inode(&disk, "0000000000000001.checkpoint");
	theirs = disk_inode(&other, "0000000000000001.checkpoint");
	free(mine->now.data);
	mine->now = contents_copy(theirs->now);
	damage_is_detected(&disk);
}

/* ---- formats ---- */

static void put_u32(char *at, uint32_t value)
{
	for (size_t i = 0; i < 4; i++)
		at[i] = (char)(value >> (8 * i));
}

static void checksums_again(struct inode *inode)
{
	char *data = inode->now.data;
	size_t len = inode->now.len;

	put_u32(data + 24, crc32c(0, data, 24));
	put_u32(data + len - 4, crc32c(0, data + 28, len - 28 - 4));
}

static void newer_formats_are_refused(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	struct inode *inode;
	int r;

	(void)state;
	small_checkpoint(&disk);
	inode = disk_inode(&disk, CHECKPOINT_NAME);
	inode->now.data[8] = 2;
	checksums_again(inode);
	assert_null(checkpoint_read(&disk, NULL, &r));
	assert_int_equal(r, -EPROTONOSUPPORT);
	inode->now.data[8] = 1;
	inode->now.data[28 + 8] = 2;
	checksums_again(inode);
	assert_null(checkpoint_read(&disk, NULL, &r));
	assert_int_equal(r, -EPROTONOSUPPORT);
}

/* Of the small checkpoint: 28 of the file, 16 of the head, 64 of numbers, the membership, the count. */
static char *section_row(struct inode *inode, size_t section)
{
	return inode->now.data + 28 + 16 + 64 + 4 + strlen("voters 1 2 3") + 4 + 12 * section;
}

static void unknown_section_is_refused_unless_it_is_optional(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	struct inode *inode;
	char *row;
	int r;

	(void)state;
	small_checkpoint(&disk);
	inode = disk_inode(&disk, CHECKPOINT_NAME);
	row = section_row(inode, 1);
	assert_int_equal(row[0], CHECKPOINT_SECTION_HISTORY);
	row[2] = 2; /* its version */
	checksums_again(inode);
	assert_null(checkpoint_read(&disk, NULL, &r));
	assert_int_equal(r, -EPROTONOSUPPORT);
	row[2] = 1;
	row[0] = 9; /* its kind */
	checksums_again(inode);
	assert_null(checkpoint_read(&disk, NULL, &r));
	assert_int_equal(r, -EPROTONOSUPPORT);
	/* Optional: it is skipped, but here the history is missing then. */
	row[4] = CHECKPOINT_SECTION_OPTIONAL;
	checksums_again(inode);
	assert_null(checkpoint_read(&disk, NULL, &r));
	assert_int_equal(r, -EBADMSG);
}

static void optional_section_behind_the_known_ones_is_skipped(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(checkpoint_unrefp) struct checkpoint *made = NULL;
	_cleanup_(store_freep) struct store *store = store_random(4, 300, 30), *loaded = NULL;
	struct checkpoint_plan plan = {0};
	struct inode *data;
	struct checkpoint *more;
	struct slice extra = slice_str("of a later version");
	int r;

	(void)state;
	made = checkpoint_write(&disk, store, 4, 1, SIZE_MAX);
	more = mem_new(struct checkpoint);
	*more = *made;
	more->refs = 1;
	more->chunks = mem_new_array(struct checkpoint_chunk, made->info.chunks + 1);
	memcpy(more->chunks, made->chunks, made->info.chunks * sizeof(*made->chunks));
	more->sections[more->sections_len++] = (struct checkpoint_section){
		.kind = 40, .version = 7, .flags = CHECKPOINT_SECTION_OPTIONAL, .chunks = 1};
	more->chunks[more->info.chunks++] = (struct checkpoint_chunk){.offset = more->info.data_bytes,
		.len = (uint32_t)extra.len,
		.crc = crc32c(0, extra.data, extra.len)};
	more->info.data_bytes += extra.len;
	checkpoint_seal(more, made->info.membership);
	data = disk_inode(&disk, "0000000000000001.checkpoint");
	data->now.data = mem_realloc(data->now.data, data->now.len + extra.len);
	memcpy(data->now.data + data->now.len, extra.data, extra.len);
	data->now.len += extra.len;
	checkpoint_plan_begin(&plan);
	checkpoint_plan_switch(&plan, more);
	disk_run(&disk, &plan);
	buf_done(&plan.bytes);
	(void)checkpoint_unref(more);
	loaded = checkpoint_read(&disk, NULL, &r);
	assert_int_equal(r, 0);
	same_state(store, loaded);
}

static void checkpoint_of_another_cluster_is_refused(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	struct checkpoint_disk ops = disk_ops(&disk);
	struct checkpoint *checkpoint = NULL;
	_cleanup_free_ char *error = NULL;

	(void)state;
	small_checkpoint(&disk);
	assert_int_equal(checkpoint_open(&ops, CLUSTER + 1, &checkpoint, &error), -EXDEV);
	assert_non_null(strstr(error, "cluster c1"));
}

/* ---- files ---- */

static void start_removes_leftovers_and_nothing_else(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(checkpoint_unrefp) struct checkpoint *read = NULL;
	_cleanup_(store_freep) struct store *loaded = NULL;
	struct checkpoint_disk ops = disk_ops(&disk);
	struct checkpoint_plan plan = {0};
	const char *more[] = {"0000000000000007.checkpoint", CHECKPOINT_NEW_NAME, "0000000000000001.wal",
		"notes.checkpoint", "0000000000000000.checkpoint"};
	int r;

	(void)state;
	small_checkpoint(&disk);
	for (size_t i = 0; i < ARRAY_LEN(more); i++) {
		struct checkpoint_step step = {.kind = CHECKPOINT_CREATE};

		(void)snprintf(step.name, sizeof(step.name), "%s", more[i]);
		disk_step(&disk, &plan, &step, 0);
	}
	loaded = checkpoint_read(&disk, &read, &r);
	assert_int_equal(checkpoint_start_plan(&ops, read, &plan), 0);
	assert_int_equal(plan.steps[0].kind, CHECKPOINT_SYNC_DIR);
	disk_run(&disk, &plan);
	assert_int_equal(disk.now.count, 4);
	assert_non_null(disk_inode(&disk, CHECKPOINT_NAME));
	assert_non_null(disk_inode(&disk, "0000000000000001.checkpoint"));
	assert_non_null(disk_inode(&disk, "0000000000000001.wal"));
	assert_non_null(disk_inode(&disk, "notes.checkpoint"));
	/* Without CHECKPOINT every data file is one. */
	assert_int_equal(checkpoint_start_plan(&ops, NULL, &plan), 0);
	disk_run(&disk, &plan);
	assert_null(disk_inode(&disk, "0000000000000001.checkpoint"));
	buf_done(&plan.bytes);
}

static void replaced_generation_is_removed_and_the_files_shrink_with_the_state(void **state)
{
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(store_freep) struct store *store = store_random(3, 2000, 1500);
	_cleanup_(checkpoint_unrefp) struct checkpoint *first = NULL, *second = NULL;
	struct checkpoint_plan plan = {0};
	struct checkpoint_info one, other;
	char path[32];

	(void)state;
	first = checkpoint_write(&disk, store, 9, 1, 100000);
	for (unsigned i = 0; i < 6; i++) {
		struct store_command command = {.op = STORE_OP_DELETE, .recursive = true, .dir = true};

		(void)snprintf(path, sizeof(path), "/1/d%u", i);
		command.path = slice_str(path);
		apply(store, &command);
	}
	for (unsigned i = 0; i < 1100; i++)
		put(store, "/1/only", "small");
	second = checkpoint_write(&disk, store, 12, 2, 100000);
	checkpoint_get_info(first, &one);
	checkpoint_get_info(second, &other);
	assert_true(other.data_bytes * 4 < one.data_bytes);
	checkpoint_remove_plan(one.generation, &plan);
	disk_run(&disk, &plan);
	assert_int_equal(disk.now.count, 2);
	buf_done(&plan.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loaded_store_is_the_one_that_was_written_and_goes_on_alike),
		cmocka_unit_test(empty_store_round_trips),
		cmocka_unit_test(no_checkpoint_is_told_apart_from_a_damaged_one),
		cmocka_unit_test(image_is_of_the_moment_it_was_begun_while_writes_go_on),
		cmocka_unit_test(handle_is_let_go_with_the_last_record),
		cmocka_unit_test(given_up_writer_leaves_the_store_as_it_was),
		cmocka_unit_test(bytes_do_not_depend_on_the_budget),
		cmocka_unit_test(step_stays_within_its_budget_but_for_one_chunk),
		cmocka_unit_test(every_flipped_bit_is_detected),
		cmocka_unit_test(truncation_at_every_byte_is_detected),
		cmocka_unit_test(missing_data_file_is_named),
		cmocka_unit_test(chunk_of_another_checkpoint_is_detected),
		cmocka_unit_test(newer_formats_are_refused),
		cmocka_unit_test(unknown_section_is_refused_unless_it_is_optional),
		cmocka_unit_test(optional_section_behind_the_known_ones_is_skipped),
		cmocka_unit_test(checkpoint_of_another_cluster_is_refused),
		cmocka_unit_test(start_removes_leftovers_and_nothing_else),
		cmocka_unit_test(replaced_generation_is_removed_and_the_files_shrink_with_the_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
