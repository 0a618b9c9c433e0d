/* Checkpoints are written beside writes: how much of the disk's time they take, how many members write one at
 * a time, and what they wait for. */
#include "members_world.h"
#include "node/internal.h"

enum { WRITES_MAX = 16000, KEYS = 1000 };

static struct world_answer answers[WRITES_MAX];
static unsigned asked;
/* Of checkpoints under way, in ms: the disk was busy with one, or with none. */
static unsigned busy, resting;
static unsigned together; /* of two or more members */

static struct world *cluster(size_t count)
{
	struct world *world = world_new();

	asked = busy = resting = together = 0;
	world->segment_bytes = 2u << 20;
	world->checkpoint_log_bytes = 1u << 20;
	for (uint64_t id = 1; id <= count; id++) {
		world->members[id].background_ns = 10 * NS_PER_MS;
		world_start(world, id, count);
	}
	world_run(world, 3000);
	assert_true(world_leader(world));
	return world;
}

static void write_one(struct world *world)
{
	char path[32];

	assert_true(asked < WRITES_MAX);
	(void)snprintf(path, sizeof(path), "/1/k%u", asked % KEYS);
	assert_int_equal(
		world_propose(world, world_leader(world), STORE_OP_SET, path, 4000, &answers[asked]), 0);
	asked++;
}

static bool is_writing(struct world *world, uint64_t id)
{
	return world->members[id].node && world_status(world, id).checkpoint_writing;
}

static void look(struct world *world)
{
	unsigned writing = 0;

	for (uint64_t id = 1; id <= 3; id++) {
		if (!is_writing(world, id))
			continue;
		writing++;
		if (world->members[id].plans[1].plan)
			busy++;
		else
			resting++;
	}
	together += writing > 1;
}

static void write_some(struct world *world, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		write_one(world);
		world_run(world, 1);
		look(world);
	}
}

static void checkpoint_takes_a_third_of_the_time_while_there_are_writes(void **state)
{
	struct world *world = cluster(1);

	(void)state;
	write_some(world, 6000);
	assert_true(world_status(world, 1).checkpoints_written >= 3);
	assert_in_range(resting, busy, 2 * busy);
	world_free(world);
}

/* After the last write one piece at most is waited for. */
static void checkpoint_does_not_wait_without_writes(void **state)
{
	struct world *world = cluster(1);

	(void)state;
	write_some(world, 2000);
	while (!is_writing(world, 1))
		write_some(world, 1);
	busy = resting = 0;
	while (is_writing(world, 1)) {
		world_run(world, 1);
		look(world);
	}
	assert_true(busy > 100);
	assert_in_range(resting, 0, 15);
	world_free(world);
}

/* Else restarts read more and more of a log. */
static void checkpoint_on_a_slow_disk_does_not_fall_behind_the_log(void **state)
{
	struct world *world = cluster(1);
	struct node_status before;

	(void)state;
	write_some(world, 2000);
	world->members[1].background_ns = 60 * NS_PER_MS;
	while (!is_writing(world, 1))
		write_some(world, 1);
	before = world_status(world, 1);
	busy = resting = 0;
	while (is_writing(world, 1))
		write_some(world, 1);
	assert_true(world_status(world, 1).checkpoints_written > before.checkpoints_written);
	assert_in_range(resting, 120, busy / 4);
	/* A write a ms: with a rest after each piece it were three times the time the disk needs. */
	assert_in_range(world_status(world, 1).applied - before.applied, busy, busy * 5 / 4);
	world_free(world);
}

static void members_write_theirs_at_different_times(void **state)
{
	struct world *world = cluster(3);

	(void)state;
	write_some(world, 5000);
	assert_true(busy > 0);
	for (uint64_t id = 1; id <= 3; id++)
		assert_true(world_status(world, id).checkpoints_written >= 2);
	assert_in_range(together * 100 / (busy + resting), 0, 20);
	world_free(world);
}

/* What others have committed it applies before its own log has it, all the time. */
static void member_with_a_slower_disk_writes_checkpoints_too(uint64_t ms, bool leads)
{
	struct world *world = cluster(3);
	uint64_t leader = world_leader(world), slow = leads ? leader : leader % 3 + 1;

	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_ns = NS_PER_MS / 2;
	world->members[slow].disk_ns = (int64_t)ms * NS_PER_MS;
	write_some(world, 3000);
	for (uint64_t id = 1; id <= 3; id++)
		assert_true(world_status(world, id).checkpoints_written >= 2);
	assert_in_range(world_status(world, slow).log_disk_bytes, 0, 16u << 20);
	world_free(world);
}

static void checkpoints_are_written_where_the_disk_is_slower_than_the_others(void **state)
{
	(void)state;
	member_with_a_slower_disk_writes_checkpoints_too(2, false);
	member_with_a_slower_disk_writes_checkpoints_too(3, true);
	member_with_a_slower_disk_writes_checkpoints_too(5, false);
}

/* Else the log on the disk could end before the index behind which it was cut. */
static void checkpoint_waits_for_what_is_in_it_to_be_in_the_log(void **state)
{
	struct world *world = cluster(3);
	uint64_t slow = world_leader(world) % 3 + 1;
	struct world_member *member = &world->members[slow];
	uint64_t applied = world_status(world, slow).applied;

	(void)state;
	member->disk_ns = 3600 * NS_PER_S;
	write_some(world, 150);
	member->node->checkpoints.asked = true;
	world_run(world, 5000);
	assert_true(world_status(world, slow).applied >= applied + 150);
	assert_true(world_status(world, slow).checkpoint_writing);
	assert_int_equal(world_status(world, slow).checkpoints_written, 0);
	member->disk_ns = 0;
	member->plans[0].done_ns = world->now_ns;
	world_run(world, 5000);
	assert_int_equal(world_status(world, slow).checkpoints_written, 1);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checkpoint_takes_a_third_of_the_time_while_there_are_writes),
		cmocka_unit_test(checkpoint_does_not_wait_without_writes),
		cmocka_unit_test(checkpoint_on_a_slow_disk_does_not_fall_behind_the_log),
		cmocka_unit_test(members_write_theirs_at_different_times),
		cmocka_unit_test(checkpoints_are_written_where_the_disk_is_slower_than_the_others),
		cmocka_unit_test(checkpoint_waits_for_what_is_in_it_to_be_in_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
