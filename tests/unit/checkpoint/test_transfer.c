/* A checkpoint on its way to another member: pieces of any size, doubled, late, lost, damaged, from one
 * member and then another; the follower has the same bytes in the end or nothing. */
#include "checkpoint_helpers.h"

struct leader {
	struct disk disk;
	struct store *store;
	struct checkpoint *checkpoint;
	struct checkpoint_source *source;
	struct checkpoint_info info;
};

static void leader_begin(
	struct leader *leader, uint64_t seed, size_t changes, size_t value_max, uint64_t generation)
{
	*leader = (struct leader){.store = store_random(seed, changes, value_max)};
	leader->checkpoint = checkpoint_write(&leader->disk, leader->store, 50, generation, 100000);
	leader->source = checkpoint_source_new(leader->checkpoint);
	checkpoint_get_info(leader->checkpoint, &leader->info);
}

static void leader_done(struct leader *leader)
{
	(void)checkpoint_source_free(leader->source);
	(void)checkpoint_unref(leader->checkpoint);
	(void)store_free(leader->store);
	disk_done(&leader->disk);
}

static struct slice leader_piece(struct leader *leader, uint64_t offset, size_t max_len)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct checkpoint_range range;
	struct slice piece;
	char *error = NULL;

	if (checkpoint_source_needs(leader->source, offset, &range)) {
		assert_int_equal(checkpoint_source_piece(leader->source, offset, max_len, &piece), -EAGAIN);
		assert_int_equal(disk_read(&leader->disk, range.name, range.offset, range.len, &bytes), 0);
		assert_int_equal(
			checkpoint_source_fill(leader->source, offset, buf_slice(&bytes), &error), 0);
	}
	assert_int_equal(checkpoint_source_piece(leader->source, offset, max_len, &piece), 0);
	assert_true(piece.len <= max_len);
	return piece;
}

/* The receiver's files and store are the leader's. */
static void receiver_has_it(struct checkpoint_receiver *receiver, struct leader *leader, struct disk *disk)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *store = NULL, *loaded = NULL;
	struct checkpoint_info info;
	int r;

	checkpoint_receiver_take(receiver, &checkpoint, &store);
	checkpoint_get_info(checkpoint, &info);
	assert_true(checkpoint_id_equal(info.id, leader->info.id));
	assert_int_equal(checkpoint_receiver_total(receiver), info.manifest_bytes + info.data_bytes);
	same_state(leader->store, store);
	disk_power_off(disk, true, true);
	loaded = checkpoint_read(disk, NULL, &r);
	assert_non_null(loaded);
	same_state(leader->store, loaded);
}

static void transfer_arrives_whatever_the_network_does(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		/* Two members whose files have different generations and the same bytes. */
		struct leader leaders[2];
		_cleanup_(disk_done) struct disk disk = {0};
		_cleanup_(checkpoint_receiver_freep) struct checkpoint_receiver *receiver = NULL;
		struct checkpoint_plan plan = {0};
		struct rng rng;
		char *error = NULL;
		int r = 1;

		rng_seed(&rng, seed);
		leader_begin(&leaders[0], seed, 400 * (size_t)seed, 600, 3);
		leader_begin(&leaders[1], seed, 400 * (size_t)seed, 600, 9);
		assert_true(checkpoint_id_equal(leaders[0].info.id, leaders[1].info.id));
		receiver = checkpoint_receiver_new(CLUSTER, leaders[0].info.id, 1);
		assert_int_equal(checkpoint_receiver_total(receiver), 0);
		while (r != 0) {
			uint64_t offset = checkpoint_receiver_wanted(receiver);
			struct leader *from = &leaders[rng_below(&rng, 2)];
			_cleanup_free_ char *copy = NULL;
			struct slice piece;

			if (rng_below(&rng, 4) == 0) /* an old one again, or one that came too early */
				offset = rng_below(&rng, offset + 1000);
			piece = leader_piece(from, offset, 1 + (size_t)rng_below(&rng, 70000));
			copy = mem_dup(piece.len ? piece.data : "", MAX(piece.len, (size_t)1));
			if (piece.len && rng_below(&rng, 6) == 0)
				copy[rng_below(&rng, piece.len)] ^= (char)(1 << rng_below(&rng, 8));
			r = checkpoint_receiver_add(
				receiver, offset, slice_make(copy, piece.len), &plan, &error);
			assert_true(r == 0 || r == 1 || r == -EAGAIN);
			disk_run(&disk, &plan);
		}
		receiver_has_it(receiver, &leaders[0], &disk);
		buf_done(&plan.bytes);
		leader_done(&leaders[0]);
		leader_done(&leaders[1]);
	}
}

static void transfer_byte_by_byte_arrives(void **state)
{
	struct leader leader;
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(checkpoint_receiver_freep) struct checkpoint_receiver *receiver = NULL;
	struct checkpoint_plan plan = {0};
	char *error = NULL;
	int r = 1;

	(void)state;
	leader_begin(&leader, 3, 60, 30, 1);
	receiver = checkpoint_receiver_new(CLUSTER, leader.info.id, 1);
	for (uint64_t offset = 0; r == 1; offset++) {
		assert_int_equal(checkpoint_receiver_wanted(receiver), offset);
		r = checkpoint_receiver_add(
			receiver, offset, leader_piece(&leader, offset, 1), &plan, &error);
		disk_run(&disk, &plan);
	}
	assert_int_equal(r, 0);
	assert_int_equal(leader_piece(&leader, checkpoint_receiver_total(receiver), 10).len, 0);
	receiver_has_it(receiver, &leader, &disk);
	buf_done(&plan.bytes);
	leader_done(&leader);
}

static void piece_that_begins_early_is_taken_from_the_wanted_byte(void **state)
{
	struct leader leader;
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(checkpoint_receiver_freep) struct checkpoint_receiver *receiver = NULL;
	struct checkpoint_plan plan = {0};
	char *error = NULL;
	int r = 1;

	(void)state;
	leader_begin(&leader, 3, 60, 30, 1);
	receiver = checkpoint_receiver_new(CLUSTER, leader.info.id, 1);
	while (r == 1) {
		uint64_t wanted = checkpoint_receiver_wanted(receiver),
			 offset = wanted - MIN(wanted, UINT64_C(9));
		struct slice piece = leader_piece(&leader, offset, 23);

		r = checkpoint_receiver_add(receiver, offset, piece, &plan, &error);
		assert_true(r == 0 || r == 1);
		assert_int_equal(checkpoint_receiver_wanted(receiver), MAX(wanted, offset + piece.len));
		disk_run(&disk, &plan);
		if (piece.len < 23 &&
			r == 1) { /* ended with the manifest, which the wanted byte lies behind */
			r = checkpoint_receiver_add(
				receiver, wanted, leader_piece(&leader, wanted, 23), &plan, &error);
			disk_run(&disk, &plan);
		}
	}
	assert_int_equal(r, 0);
	receiver_has_it(receiver, &leader, &disk);
	buf_done(&plan.bytes);
	leader_done(&leader);
}

static void damaged_file_is_never_handed_on(void **state)
{
	struct leader leader;
	struct inode *inode;
	struct checkpoint_range range;
	struct slice piece;

	(void)state;
	leader_begin(&leader, 3, 60, 30, 1);
	inode = disk_inode(&leader.disk, "0000000000000001.checkpoint");
	for (size_t at = 0; at < inode->now.len; at++) {
		uint64_t offset = leader.info.manifest_bytes + at;
		_cleanup_buf_ struct buf bytes = BUF_INIT(0);
		_cleanup_free_ char *error = NULL;

		inode->now.data[at] ^= 0x40;
		assert_true(checkpoint_source_needs(leader.source, offset, &range));
		assert_int_equal(disk_read(&leader.disk, range.name, range.offset, range.len, &bytes), 0);
		assert_int_equal(
			checkpoint_source_fill(leader.source, offset, buf_slice(&bytes), &error), -EBADMSG);
		assert_non_null(strstr(error, "0000000000000001.checkpoint"));
		assert_int_equal(checkpoint_source_piece(leader.source, offset, 100, &piece), -EAGAIN);
		inode->now.data[at] ^= 0x40;
	}
	leader_done(&leader);
}

/* Whoever has the bytes of another checkpoint than was announced cannot pass them off. */
static void bytes_of_another_checkpoint_are_not_taken(void **state)
{
	struct leader leader, other;
	_cleanup_(checkpoint_receiver_freep) struct checkpoint_receiver *receiver = NULL;
	struct checkpoint_plan plan = {0};
	char *error = NULL;
	struct slice piece;

	(void)state;
	leader_begin(&leader, 3, 60, 30, 1);
	leader_begin(&other, 4, 60, 30, 1);
	receiver = checkpoint_receiver_new(CLUSTER, leader.info.id, 1);
	piece = leader_piece(&other, 0, SIZE_MAX);
	assert_int_equal(checkpoint_receiver_add(receiver, 0, piece, &plan, &error), -EAGAIN);
	assert_int_equal(checkpoint_receiver_wanted(receiver), 0);
	piece = leader_piece(&leader, 0, SIZE_MAX);
	assert_int_equal(checkpoint_receiver_add(receiver, 0, piece, &plan, &error), 1);
	piece = leader_piece(&other, other.info.manifest_bytes, SIZE_MAX);
	assert_true(piece.len > 0);
	for (int tries = 0; tries < 3; tries++) {
		uint64_t wanted = checkpoint_receiver_wanted(receiver);
		int r = checkpoint_receiver_add(receiver, wanted, piece, &plan, &error);

		assert_true(r == 1 || r == -EAGAIN);
		for (size_t i = 0; i < plan.steps_len; i++)
			assert_int_not_equal(plan.steps[i].kind, CHECKPOINT_WRITE);
	}
	assert_true(checkpoint_receiver_wanted(receiver) < checkpoint_receiver_total(receiver));
	buf_done(&plan.bytes);
	leader_done(&leader);
	leader_done(&other);
}

static void checkpoint_of_another_cluster_is_no_use(void **state)
{
	struct leader leader;
	_cleanup_(checkpoint_receiver_freep) struct checkpoint_receiver *receiver = NULL;
	struct checkpoint_plan plan = {0};
	_cleanup_free_ char *error = NULL;

	(void)state;
	leader_begin(&leader, 3, 60, 30, 1);
	receiver = checkpoint_receiver_new(CLUSTER + 1, leader.info.id, 1);
	assert_int_equal(
		checkpoint_receiver_add(receiver, 0, leader_piece(&leader, 0, SIZE_MAX), &plan, &error),
		-EXDEV);
	assert_int_equal(plan.steps_len, 0);
	assert_non_null(error);
	buf_done(&plan.bytes);
	leader_done(&leader);
}

static int read_bytes(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	const struct buf *file = arg;

	assert_string_equal(name, "saved");
	if (offset < file->len)
		buf_add(out, file->data + offset, MIN(len, file->len - (size_t)offset));
	return 0;
}

/* 0, or what opening and reading the file came to; the state must be the leader's. */
static int file_state(struct buf *file, uint64_t size_bytes, struct leader *leader)
{
	struct checkpoint_disk disk = {.read = read_bytes, .arg = file};
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *store = NULL;
	_cleanup_free_ char *error = NULL;
	int r = checkpoint_file_open(&disk, "saved", size_bytes, &checkpoint, &error);

	if (r == 0)
		r = checkpoint_file_read(&disk, "saved", checkpoint, NULL, &error);
	assert_true((r < 0) == (error != NULL));
	if (r < 0) {
		assert_non_null(strstr(error, "saved"));
		return r;
	}
	assert_int_equal(checkpoint_file_read(&disk, "saved", checkpoint, &store, &error), 0);
	same_state(leader->store, store);
	return 0;
}

static void saved_file_is_read_back_or_refused_whatever_byte_is_damaged(void **state)
{
	_cleanup_buf_ struct buf file = BUF_INIT(0);
	struct leader leader;
	struct slice piece;

	(void)state;
	leader_begin(&leader, 4, 60, 30, 1);
	while ((piece = leader_piece(&leader, file.len, 1000)).len)
		buf_add_slice(&file, piece);
	assert_int_equal(file_state(&file, file.len, &leader), 0);
	for (size_t at = 0; at < file.len; at++) {
		file.data[at] ^= (char)(1 << at % 8);
		assert_true(file_state(&file, file.len, &leader) < 0);
		file.data[at] ^= (char)(1 << at % 8);
	}
	assert_int_equal(file_state(&file, file.len + 1, &leader), -EBADMSG);
	for (size_t len = file.len; len-- > 0;) {
		file.len = len;
		assert_int_equal(file_state(&file, len, &leader), -EBADMSG);
	}
	leader_done(&leader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfer_arrives_whatever_the_network_does),
		cmocka_unit_test(transfer_byte_by_byte_arrives),
		cmocka_unit_test(piece_that_begins_early_is_taken_from_the_wanted_byte),
		cmocka_unit_test(damaged_file_is_never_handed_on),
		cmocka_unit_test(bytes_of_another_checkpoint_are_not_taken),
		cmocka_unit_test(checkpoint_of_another_cluster_is_no_use),
		cmocka_unit_test(saved_file_is_read_back_or_refused_whatever_byte_is_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
