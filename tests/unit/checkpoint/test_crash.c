/* The machine stops before, in the middle of, and after each step: the checkpoint before or the new one is
 * there and whole, and what a restart saw stays. */
#include "checkpoint_helpers.h"

/* All steps of a checkpoint, one after the other, each with a plan of its own for its bytes. */
struct steps {
	struct checkpoint_plan plans[256];
	size_t count;
};

static void steps_add(struct steps *steps, const struct checkpoint_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++) {
		struct checkpoint_plan *one = &steps->plans[steps->count++];

		assert_true(steps->count < ARRAY_LEN(steps->plans));
		*one = (struct checkpoint_plan){.steps_len = 1};
		one->steps[0] = plan->steps[i];
		buf_add_slice(&one->bytes, buf_slice(&plan->bytes));
	}
}

static void steps_done(struct steps *steps)
{
	for (size_t i = 0; i < steps->count; i++)
		buf_done(&steps->plans[i].bytes);
	free(steps);
}

static struct steps *steps_of_writing(struct store *store, uint64_t index, uint64_t generation)
{
	struct steps *steps = mem_new(struct steps);
	struct checkpoint_meta meta = meta_make(index);
	_cleanup_(checkpoint_writer_freep) struct checkpoint_writer *writer =
		checkpoint_writer_new(store, &meta, generation);
	struct checkpoint_plan plan = {0};
	bool more = true;

	while (more) {
		more = checkpoint_writer_step(writer, 100000, &plan);
		steps_add(steps, &plan);
	}
	buf_done(&plan.bytes);
	return steps;
}

static struct steps *steps_of_receiving(struct disk *from, uint64_t generation)
{
	struct steps *steps = mem_new(struct steps);
	struct checkpoint_disk ops = disk_ops(from);
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(checkpoint_source_freep) struct checkpoint_source *source = NULL;
	_cleanup_(checkpoint_receiver_freep) struct checkpoint_receiver *receiver = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct checkpoint_plan plan = {0};
	struct checkpoint_info info;
	char *error = NULL;
	int r = checkpoint_open(&ops, CLUSTER, &checkpoint, &error);

	assert_int_equal(r, 0);
	checkpoint_get_info(checkpoint, &info);
	source = checkpoint_source_new(checkpoint);
	receiver = checkpoint_receiver_new(CLUSTER, info.id, generation);
	for (r = 1; r == 1;) {
		uint64_t offset = checkpoint_receiver_wanted(receiver);
		struct checkpoint_range range;
		struct slice piece;

		if (checkpoint_source_needs(source, offset, &range)) {
			buf_clear(&bytes);
			assert_int_equal(disk_read(from, range.name, range.offset, range.len, &bytes), 0);
			assert_int_equal(
				checkpoint_source_fill(source, offset, buf_slice(&bytes), &error), 0);
		}
		assert_int_equal(checkpoint_source_piece(source, offset, 150000, &piece), 0);
		r = checkpoint_receiver_add(receiver, offset, piece, &plan, &error);
		steps_add(steps, &plan);
	}
	assert_int_equal(r, 0);
	buf_done(&plan.bytes);
	return steps;
}

/* What is there after a stop, and that it lasts: 0 when it is the one before, 1 when it is the new one. */
static int after_a_stop(struct disk *disk, struct store *before, struct store *after)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *found = NULL, *again = NULL, *next = NULL;
	struct checkpoint_disk ops = disk_ops(disk);
	struct checkpoint_plan plan = {0};
	struct checkpoint_info info = {0};
	bool is_new;
	int r;

	found = checkpoint_read(disk, &checkpoint, &r);
	assert_int_equal(r, 0);
	if (checkpoint)
		checkpoint_get_info(checkpoint, &info);
	is_new = found && store_hash(found) == store_hash(after);
	if (found && !is_new) {
		assert_non_null(before);
		assert_int_equal(store_hash(found), store_hash(before));
	}
	if (before)
		assert_non_null(found);
	assert_int_equal(info.id.index, is_new ? 20 : before ? 10 : 0);
	/* What was seen at start is durable once the start plan was carried out. */
	assert_int_equal(checkpoint_start_plan(&ops, checkpoint, &plan), 0);
	disk_run(disk, &plan);
	disk_power_off(disk, true, true);
	again = checkpoint_read(disk, NULL, &r);
	assert_int_equal(r, 0);
	assert_true(!again == !found);
	if (again)
		assert_int_equal(store_hash(again), store_hash(found));
	/* And the next checkpoint goes through. */
	checkpoint = checkpoint_unref(checkpoint);
	checkpoint = checkpoint_write(disk, after, 30, info.generation + 1, SIZE_MAX);
	disk_power_off(disk, true, true);
	next = checkpoint_read(disk, NULL, &r);
	assert_non_null(next);
	assert_int_equal(store_hash(next), store_hash(after));
	buf_done(&plan.bytes);
	return is_new;
}

static void stop_everywhere(
	const struct disk *base, struct store *before, struct store *after, struct steps *steps)
{
	size_t switched_at = SIZE_MAX;
	unsigned seen[2] = {0};

	for (size_t i = 0; i < steps->count; i++)
		if (steps->plans[i].steps[0].kind == CHECKPOINT_RENAME)
			switched_at = i;
	assert_int_equal(switched_at + 2, steps->count);
	for (size_t at = 0; at <= steps->count; at++) {
		for (unsigned how = 0; how < 10; how++) {
			_cleanup_(disk_done) struct disk disk;
			int is_new;

			disk_copy(&disk, base);
			for (size_t i = 0; i < at; i++)
				disk_run(&disk, &steps->plans[i]);
			if (at < steps->count && (how & 4)) {
				const struct checkpoint_step *step = &steps->plans[at].steps[0];

				if (step->kind == CHECKPOINT_WRITE)
					disk_step(&disk, &steps->plans[at], step, step->bytes_len / 2);
			}
			if (how & 8)
				disk_lose_new_files(&disk);
			disk_power_off(&disk, how & 1, how & 2);
			is_new = after_a_stop(&disk, before, after);
			if (at <= switched_at)
				assert_int_equal(is_new, 0);
			if (at == steps->count)
				assert_int_equal(is_new, 1);
			seen[is_new]++;
		}
	}
	assert_true(seen[0] > 8 && seen[1] > 8);
}

static void stop_while_writing_leaves_the_old_or_the_new_one(void **state)
{
	_cleanup_(disk_done) struct disk base = {0};
	_cleanup_(store_freep) struct store *before = store_random(1, 300, 50);
	_cleanup_(store_freep) struct store *after = store_random(2, 600, 2000);
	struct steps *steps = steps_of_writing(after, 20, 2);

	(void)state;
	(void)checkpoint_unref(checkpoint_write(&base, before, 10, 1, SIZE_MAX));
	stop_everywhere(&base, before, after, steps);
	steps_done(steps);
}

static void stop_while_writing_the_first_leaves_none_or_it(void **state)
{
	_cleanup_(disk_done) struct disk base = {0};
	_cleanup_(store_freep) struct store *after = store_random(2, 300, 50);
	struct steps *steps = steps_of_writing(after, 20, 1);

	(void)state;
	stop_everywhere(&base, NULL, after, steps);
	steps_done(steps);
}

static void stop_while_receiving_leaves_the_old_or_the_new_one(void **state)
{
	_cleanup_(disk_done) struct disk base = {0}, leader = {0};
	_cleanup_(store_freep) struct store *before = store_random(1, 300, 50);
	_cleanup_(store_freep) struct store *after = store_random(2, 600, 2000);
	struct steps *steps;

	(void)state;
	(void)checkpoint_unref(checkpoint_write(&base, before, 10, 1, SIZE_MAX));
	(void)checkpoint_unref(checkpoint_write(&leader, after, 20, 5, SIZE_MAX));
	steps = steps_of_receiving(&leader, 2);
	stop_everywhere(&base, before, after, steps);
	steps_done(steps);
}

static void stop_over_leftovers_of_an_earlier_stop(void **state)
{
	_cleanup_(disk_done) struct disk base = {0};
	_cleanup_(store_freep) struct store *before = store_random(1, 300, 50);
	_cleanup_(store_freep) struct store *after = store_random(2, 400, 300);
	struct steps *steps = steps_of_writing(after, 20, 2);

	(void)state;
	(void)checkpoint_unref(checkpoint_write(&base, before, 10, 1, SIZE_MAX));
	/* The first attempt came as far as the new manifest; the same generation is begun again over it. */
	for (size_t i = 0; steps->plans[i].steps[0].kind != CHECKPOINT_RENAME; i++)
		disk_run(&base, &steps->plans[i]);
	stop_everywhere(&base, before, after, steps);
	steps_done(steps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stop_while_writing_leaves_the_old_or_the_new_one),
		cmocka_unit_test(stop_while_writing_the_first_leaves_none_or_it),
		cmocka_unit_test(stop_while_receiving_leaves_the_old_or_the_new_one),
		cmocka_unit_test(stop_over_leftovers_of_an_earlier_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
