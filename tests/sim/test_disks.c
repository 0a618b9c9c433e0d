/* Members whose disks run full, each at a time of its own. */
#include "members_world.h"
#include "node/internal.h"

#define KIB ((uint64_t)1 << 10)
#define WRITES_MAX 40000u

static struct world_answer answers[WRITES_MAX];
static unsigned asked;
static uint64_t watched, watched_bytes; /* sent to one member in bulk */
static struct env_ops ops;

static void count_and_send(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	if (to == watched && bulk)
		watched_bytes += message.len;
	world_ops.send(env, to, message, bulk);
}

static struct world *cluster_of_three(
	uint64_t segment_bytes, uint64_t checkpoint_log_bytes, uint64_t checkpoint_entries)
{
	struct world *world = world_new();

	asked = 0;
	watched = watched_bytes = 0;
	ops = world_ops;
	ops.send = count_and_send;
	world->segment_bytes = segment_bytes;
	world->checkpoint_log_bytes = checkpoint_log_bytes;
	world->checkpoint_entries = checkpoint_entries;
	for (uint64_t id = 1; id <= 3; id++) {
		world->members[id].env.ops = &ops;
		world_start(world, id, 3);
	}
	world_run(world, 3000);
	assert_true(world_leader(world));
	return world;
}

/* A write of so many bytes, or with 0 the removal of the key, at one member. */
static bool is_taken_at(struct world *world, uint64_t id, unsigned key, size_t len)
{
	struct world_answer *answer = &answers[asked];
	char path[32];

	assert_true(asked < WRITES_MAX);
	(void)snprintf(path, sizeof(path), "/1/k%u", key);
	if (world_propose(world, id, len ? STORE_OP_SET : STORE_OP_DELETE, path, len, answer) < 0)
		return false;
	asked++;
	for (unsigned ms = 0; ms < 8000 && !answer->came; ms++)
		world_run(world, 1);
	assert_true(answer->came);
	return answer->error == NODE_OK;
}

/* At whichever member takes it, as a client with several endpoints does; tried for a while. */
static bool is_taken(struct world *world, unsigned key, size_t len)
{
	for (unsigned tries = 0; tries < 5; tries++) {
		for (uint64_t id = 1; id <= 3; id++)
			if (is_taken_at(world, id, key, len))
				return true;
		world_run(world, 4000);
	}
	return false;
}

static void assert_all_are_well(struct world *world)
{
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(world_status(world, id).space, NODE_SPACE_OK);
		assert_int_equal(world_status(world, id).applied, world_status(world, 1).applied);
	}
}

static void fill_and_empty(uint64_t one, uint64_t two, uint64_t three)
{
	struct world *world = cluster_of_three(64 * KIB, 128 * KIB, 0);
	unsigned taken = 0;

	world->members[1].disk_bytes_max = one;
	world->members[2].disk_bytes_max = two;
	world->members[3].disk_bytes_max = three;
	while (is_taken(world, taken, 500))
		taken++;
	assert_in_range(taken, 1000, 12000);
	for (unsigned key = 0; key < taken; key++)
		assert_true(is_taken(world, key, 0));
	world_run(world, 60000);
	assert_true(is_taken(world, 0, 500));
	world_run(world, 1000);
	assert_all_are_well(world);
	world_free(world);
}

static void cluster_is_filled_and_emptied_whichever_disk_is_smallest(void **state)
{
	(void)state;
	fill_and_empty(4096 * KIB, 4096 * KIB, 4096 * KIB);
	fill_and_empty(4096 * KIB, 4096 * KIB, 0);
	fill_and_empty(0, 4096 * KIB, 4096 * KIB);
	fill_and_empty(4608 * KIB, 4096 * KIB, 5120 * KIB);
}

/* The others go on with the majority that they are, slowly or all within the second that a checkpoint waits.
 */
static void outgrow_one_disk(unsigned keys, size_t len)
{
	struct world *world = cluster_of_three(64 * KIB, 128 * KIB, 0);
	uint64_t leader = world_leader(world);

	watched = leader == 3 ? 2 : 3;
	world->members[watched].disk_bytes_max = 4096 * KIB;
	for (unsigned key = 0; key < keys; key++)
		assert_true(is_taken_at(world, leader, key, len));
	assert_true(world_status(world, watched).space != NODE_SPACE_OK);
	for (unsigned key = 0; key < keys; key++)
		assert_true(is_taken_at(world, leader, key, 0));
	for (unsigned i = 0; i < 8000; i++) /* the leader's log behind it goes */
		assert_true(is_taken_at(world, leader, 0, 500));
	watched_bytes = 0;
	world_run(world, 60000);
	assert_all_are_well(world);
	assert_in_range(watched_bytes, 0, 16 << 20);
	world_free(world);
}

static void member_with_the_only_small_disk_comes_back_when_the_store_is_small_again(void **state)
{
	(void)state;
	outgrow_one_disk(8000, 500);
	outgrow_one_disk(400, 10000);
	outgrow_one_disk(100, 50000);
}

/* Its own state does not fit a second time, and its log is at its end; the leader's is small by now. */
static void member_without_room_for_its_log_takes_a_checkpoint(void **state)
{
	struct world *world = cluster_of_three(128 * KIB, 256 * KIB, 500);
	uint64_t leader = world_leader(world);
	struct world_member *full;

	(void)state;
	watched = leader == 3 ? 2 : 3;
	full = &world->members[watched];
	for (unsigned key = 0; key < 400; key++)
		assert_true(is_taken_at(world, leader, key, 2500));
	world_run(world, 1000);
	full->no_space = true;
	for (unsigned key = 0; key < 400; key++)
		assert_true(is_taken_at(world, leader, key, 0));
	for (unsigned i = 0; i < 8000; i++)
		assert_true(is_taken_at(world, leader, 0, 1));
	assert_int_equal(world_status(world, watched).space, NODE_SPACE_NONE);
	assert_true(world_status(world, watched).applied < world_status(world, leader).applied - 1000);
	full->no_space = false;
	full->disk_bytes_max = disk_bytes(full->disk) + 120 * KIB;
	world_run(world, 30000);
	assert_int_equal(world_status(world, watched).applied, world_status(world, leader).applied);
	assert_int_equal(world_status(world, watched).checkpoints_received, 1);
	world_free(world);
}

static void checkpoint_that_does_not_fit_is_not_sent_again_and_again(void **state)
{
	struct world *world = cluster_of_three(256 * KIB, 512 * KIB, 20);
	uint64_t leader = world_leader(world);

	(void)state;
	watched = leader == 3 ? 2 : 3;
	world->members[watched].lonely = true;
	for (unsigned key = 0; key < 100; key++)
		assert_true(is_taken_at(world, leader, key, 40000));
	world_run(world, 3000);
	assert_int_equal(world_leader(world), leader);
	world->members[watched].checkpoint_room = 3000 * KIB;
	world->members[watched].lonely = false;
	watched_bytes = 0;
	world_run(world, 60000);
	/* After 1, 2, 4, 8, 16, 16 seconds. */
	assert_in_range(watched_bytes, 1, (uint64_t)9 * 100 * 40000);
	assert_int_equal(world_status(world, watched).space, NODE_SPACE_LOW);
	world->members[watched].checkpoint_room = 0;
	world_run(world, 20000);
	assert_all_are_well(world);
	world_free(world);
}

/* Its log goes on under a leader that has all of it, and nobody offers the checkpoint again. */
static void member_without_room_for_a_checkpoint_is_well_when_it_needs_none(void **state)
{
	struct world *world = cluster_of_three(64 * KIB, 0, 30);
	uint64_t first = world_leader(world), behind = first % 3 + 1, other = behind % 3 + 1;
	unsigned key = 0;

	(void)state;
	world_stop(&world->members[behind]);
	world->members[other].checkpoints_to_fail = 1000; /* keeps its log */
	world_run(world, 3000);				  /* the leader keeps none for who is away */
	while (world_status(world, first).log_first < 2)
		assert_true(is_taken_at(world, first, key++, 8000));
	world->members[behind].checkpoint_room = 1;
	world_start(world, behind, 3);
	for (unsigned ms = 0; ms < 5000 && world_status(world, behind).space == NODE_SPACE_OK; ms++)
		world_run(world, 1);
	assert_int_not_equal(world_status(world, behind).space, NODE_SPACE_OK);
	world_stop(&world->members[first]);
	world->members[behind].checkpoint_room = 0;
	world_run(world, 20000);
	assert_int_equal(world_leader(world), other);
	assert_int_equal(world_status(world, behind).space, NODE_SPACE_OK);
	assert_int_equal(world_status(world, behind).checkpoints_received, 0);
	assert_true(is_taken_at(world, behind, 0, 100));
	world_free(world);
}

static void on_export(void *arg)
{
	(void)arg;
}

/* Somebody takes long to fetch a snapshot, and its file stays for so long. */
static void alarm_ends_although_an_old_checkpoint_is_still_read(void **state)
{
	struct world *world = cluster_of_three(64 * KIB, 1024 * KIB, 0);
	uint64_t leader = world_leader(world);
	struct world_member *member = &world->members[leader];
	struct node_export *saving = node_export_new(member->node, on_export, NULL);
	struct slice bytes;

	(void)state;
	assert_true(is_taken_at(world, leader, 0, 4000));
	world_run(world, 1000);
	assert_int_equal(node_export_next(saving, 10, &bytes), 0);
	for (unsigned i = 0; !member->node->checkpoints.stale.len; i++)
		assert_true(is_taken_at(world, leader, 0, 4000) && i < 1000);
	member->disk_bytes_max = 1024 * 1024 * KIB;
	member->no_space = true;
	for (unsigned i = 0; world_status(world, leader).space == NODE_SPACE_OK; i++)
		assert_true((is_taken_at(world, leader, 0, 4000) || i) && i < 1000);
	member->no_space = false;
	world_run(world, 20000);
	assert_int_equal(world_status(world, leader).space, NODE_SPACE_OK);
	assert_true(member->node->checkpoints.stale.len);
	(void)node_export_free(saving);
	world_run(world, 1000);
	assert_int_equal(member->node->checkpoints.stale.len, 0);
	world_free(world);
}

/* Segments go one after the other then, so there is nearly always one that could go next. */
static void log_that_is_always_written_to_hides_no_lack_of_space(void **state)
{
	struct world *world = cluster_of_three(64 * KIB, 256 * KIB, 0);
	uint64_t leader = world_leader(world);
	unsigned hidden = 0, all = 0;

	(void)state;
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_ns = 2 * NS_PER_MS;
	for (unsigned ms = 0; ms < 8000; ms++) {
		struct node *node = world->members[leader].node;

		assert_int_equal(
			world_propose(world, leader, STORE_OP_SET, "/1/k", 300, &answers[asked++]), 0);
		world_run(world, 1);
		if (!world_status(world, leader).checkpoints_written)
			continue;
		all++;
		hidden += node_checkpoint_gives_back(node);
	}
	assert_true(all > 4000);
	assert_in_range(hidden, 1, all / 2);
	world_free(world);
}

/* Writes the same keys again and again, which each time takes more log. False: one was refused. */
static bool is_rewritten(struct world *world, unsigned count, unsigned keys)
{
	for (unsigned i = 0; i < count; i++)
		if (!is_taken_at(world, world_leader(world), i % keys, 900))
			return false;
	return true;
}

/* Dozens of segments go with a checkpoint, some in a plan. */
static void assert_no_alarm_between_plans(uint64_t disk_bytes_max)
{
	struct world *world = world_new();
	struct world_member *member = &world->members[1];
	const struct checkpoints *own;
	uint64_t log_bytes;

	asked = 0;
	world->segment_bytes = 16 * KIB;
	world->checkpoint_log_bytes = 1024 * KIB;
	world_start(world, 1, 1);
	member->disk_bytes_max = disk_bytes_max;
	member->background_ns = NS_PER_MS;
	world_run(world, 500);
	own = &member->node->checkpoints;
	while (asked < 12000 && !member->node->space_low && is_taken_at(world, 1, asked % 1400, 900))
		;
	assert_true(member->node->space_low);
	if (own->release_index || own->job == NODE_JOB_RELEASE) {
		log_bytes = world_status(world, 1).log_disk_bytes;
		world_run(world, 300);
		assert_in_range(log_bytes - world_status(world, 1).log_disk_bytes, 0, 3 * 16 * KIB);
	}
	world_free(world);
}

static void space_that_is_being_given_back_is_waited_for(void **state)
{
	(void)state;
	for (uint64_t kib = 3400; kib < 4600; kib += 240)
		assert_no_alarm_between_plans(kib * KIB);
}

/* For a while there are two checkpoints and a log that nobody needs any more. */
static void member_that_receives_a_checkpoint_that_fits_raises_no_alarm(void **state)
{
	struct world *world = cluster_of_three(16 * KIB, 512 * KIB, 0);
	uint64_t behind;

	(void)state;
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_bytes_max = 4800 * KIB;
	assert_true(is_rewritten(world, 6000, 1000));
	behind = world_leader(world) % 3 + 1;
	world_stop(&world->members[behind]);
	assert_true(is_rewritten(world, 5000, 1000));
	world->members[behind].background_ns = 200 * NS_PER_MS;
	world_start(world, behind, 3);
	for (unsigned ms = 0; ms < 20000; ms++) {
		world_run(world, 1);
		assert_false(world->members[behind].node->space_low);
	}
	assert_int_equal(world_status(world, behind).checkpoints_received, 1);
	world_free(world);
}

/* At a follower that is not connected to the leader it waits; what gets to the leader is refused there. */
static void growth_is_refused_wherever_it_is_when_the_leader_has_an_alarm(void **state)
{
	struct world *world = cluster_of_three(64 * KIB, 1024 * KIB, 0);
	uint64_t leader = world_leader(world), one = leader % 3 + 1, other = one % 3 + 1;
	struct world_answer waiting, sent, removal;

	(void)state;
	node_peer_state(world->members[one].node, leader, false);
	assert_int_equal(world_propose(world, one, STORE_OP_SET, "/1/k", 300, &waiting), 0);
	assert_int_equal(world_propose(world, one, STORE_OP_DELETE, "/1/k", 0, &removal), 0);
	world->members[leader].no_space = true;
	world->members[leader].node->hand_over_after_ns = INT64_MAX;
	node_space_out(world->members[leader].node);
	assert_int_equal(world_propose(world, other, STORE_OP_SET, "/1/k", 300, &sent), 0);
	world_run(world, 200);
	assert_true(waiting.came && sent.came);
	assert_int_equal(waiting.error, NODE_ERROR_NO_SPACE);
	assert_int_equal(sent.error, NODE_ERROR_NO_SPACE);
	node_peer_state(world->members[one].node, leader, true);
	world_run(world, 1000);
	assert_true(removal.came);
	assert_int_equal(removal.error, NODE_OK);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cluster_is_filled_and_emptied_whichever_disk_is_smallest),
		cmocka_unit_test(member_with_the_only_small_disk_comes_back_when_the_store_is_small_again),
		cmocka_unit_test(member_without_room_for_its_log_takes_a_checkpoint),
		cmocka_unit_test(checkpoint_that_does_not_fit_is_not_sent_again_and_again),
		cmocka_unit_test(member_without_room_for_a_checkpoint_is_well_when_it_needs_none),
		cmocka_unit_test(alarm_ends_although_an_old_checkpoint_is_still_read),
		cmocka_unit_test(log_that_is_always_written_to_hides_no_lack_of_space),
		cmocka_unit_test(space_that_is_being_given_back_is_waited_for),
		cmocka_unit_test(member_that_receives_a_checkpoint_that_fits_raises_no_alarm),
		cmocka_unit_test(growth_is_refused_wherever_it_is_when_the_leader_has_an_alarm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
