/* What the simulator found and what needs more than one member, step by step. */
#include "base/hash.h"
#include "checkpoint/format.h"
#include "members_world.h"
#include "node/internal.h"

static void find_data_file(void *arg, const char *name, uint64_t size_bytes)
{
	(void)size_bytes;
	if (strstr(name, ".checkpoint"))
		(void)snprintf(arg, WAL_NAME_MAX, "%s", name);
}

static void write_one(struct world *world, uint64_t at)
{
	world_write_to(world, at, "/1/k");
}

/* Nothing can be committed until the follower has a checkpoint, so none of a later index can be made. */
static void leader_whose_checkpoint_rotted_makes_another_for_the_follower_it_needs(void **state)
{
	struct world *world = world_new();
	uint64_t leader, behind, other;
	struct node_status status;
	char name[WAL_NAME_MAX] = "";

	(void)state;
	world->checkpoint_entries = 50;
	for (uint64_t id = 1; id <= 3; id++)
		world_start(world, id, 3);
	world_run(world, 3000);
	leader = world_leader(world);
	assert_true(leader);
	behind = leader % 3 + 1;
	other = behind % 3 + 1;
	world_stop(&world->members[behind]);
	world_run(world, 3000); /* no log is kept for it */
	/* Up to a moment when the checkpoint covers all that is applied. */
	do {
		write_one(world, leader);
		world_run(world, 20);
		status = world_status(world, leader);
	} while (status.log_first < 2 || status.checkpoint_index != status.applied);
	world_stop(&world->members[other]);
	assert_int_equal(disk_list(world->members[leader].disk, find_data_file, name), 0);
	assert_true(disk_flip(world->members[leader].disk, name, 100, 3));
	world_start(world, behind, 3);
	world_run(world, 15000);
	assert_int_equal(world_status(world, behind).checkpoints_received, 1);
	write_one(world, world_leader(world));
	world_free(world);
}

/* Behind the last byte that is in use. */
static uint64_t log_end(const struct world_member *member)
{
	struct slice bytes = disk_peek(member->disk, "0000000000000001.wal");

	while (bytes.len && !bytes.data[bytes.len - 1])
		bytes.len--;
	return bytes.len;
}

/* The checkpoint that there is ends before the damage: it would lead to the same place again and again.
 * Another one is asked for until there is one, also when it cannot be written at first. */
static void follower_that_needs_damaged_entries_gets_a_checkpoint_that_covers_them(void **state)
{
	struct world *world = world_new();
	uint64_t leader, behind, from;

	(void)state;
	world->checkpoint_entries = 30;
	world->log_cache_bytes = 1;
	for (uint64_t id = 1; id <= 3; id++)
		world_start(world, id, 3);
	world_run(world, 3000);
	leader = world_leader(world);
	behind = leader % 3 + 1;
	while (!world_status(world, leader).checkpoint_index)
		write_one(world, leader);
	world_run(world, 100);
	world_stop(&world->members[behind]);
	from = log_end(&world->members[leader]);
	for (unsigned i = 0; i < 15; i++)
		write_one(world, leader);
	assert_true(disk_flip(world->members[leader].disk, "0000000000000001.wal",
		(from + log_end(&world->members[leader])) / 2, 1));
	assert_int_equal(world_status(world, leader).checkpoints_written, 1);
	world->members[leader].checkpoints_to_fail = 1;
	world_start(world, behind, 3);
	world_run(world, 20000);
	assert_int_equal(world->members[leader].checkpoints_to_fail, 0);
	assert_int_equal(world_status(world, behind).checkpoints_received, 1);
	assert_int_equal(world_status(world, leader).checkpoints_written, 2);
	assert_int_equal(world_status(world, leader).checkpoints_sent, 1);
	assert_int_equal(world_status(world, behind).applied, world_status(world, leader).applied);
	world_free(world);
}

/* Starts member 1 anew with its wall clock that far ahead; whether it leads next, and none before it. */
static bool restart_to_lead(struct world *world, int64_t wall_ns)
{
	world_stop(&world->members[1]);
	world->members[1].wall_ns = wall_ns;
	world_start(world, 1, 2);
	for (unsigned waited = 0; waited < 10000 && !world_leader(world); waited++)
		world_run(world, 1);
	return world_leader(world) == 1;
}

static int64_t clocks_apart_ns(struct world *world)
{
	int64_t apart_ns = node_clock_ns(world->members[2].node) - node_clock_ns(world->members[1].node);

	return MAX(apart_ns, -apart_ns);
}

/* What was known of its clock is of no worth when a leader was started anew, also when nobody led in between.
 */
static void leader_that_comes_back_with_an_earlier_clock_is_followed_at_once(void **state)
{
	const int64_t ahead_ns = 600 * NS_PER_S;
	bool done = false;

	(void)state;
	for (uint64_t seed = 1; seed <= 50 && !done; seed++) {
		struct world *world = world_new();

		rng_seed(&world->rng, seed);
		world_start(world, 1, 2);
		world_start(world, 2, 2);
		world_run(world, 5000);
		if (restart_to_lead(world, ahead_ns)) {
			world_run(world, 1000);
			assert_true(clocks_apart_ns(world) < NS_PER_S);
			assert_true(
				node_clock_ns(world->members[2].node) - world_wall(&world->members[2].env) >
				ahead_ns - NS_PER_S);
			done = restart_to_lead(world, 0);
		}
		if (done) {
			world_run(world, 1000);
			assert_true(clocks_apart_ns(world) < NS_PER_S);
		}
		world_free(world);
	}
	assert_true(done);
}

static bool has(struct world *world, uint64_t id, const char *path)
{
	struct slice value;

	return store_peek(node_store(world->members[id].node), slice_str(path), &value);
}

static uint64_t another_leader(struct world *world, uint64_t before)
{
	uint64_t leader = 0;

	for (unsigned waited = 0; waited < 10000 && (!leader || leader == before); waited++) {
		world_run(world, 1);
		leader = world_leader(world);
	}
	assert_true(leader && leader != before);
	return leader;
}

/* A leader of five, with two of the others down, writes three values that go nowhere, and begins to read its
 * log, with them in it, for the third. */
static void begin_to_read_what_is_not_committed(
	struct world *world, uint64_t leader, const uint64_t others[4], struct world_answer lost[3])
{
	static const char *const paths[] = {"/1/lost-0", "/1/lost-1", "/1/lost-2"};

	for (unsigned i = 0; i < 20; i++)
		write_one(world, leader);
	world_run(world, 200);
	world_stop(&world->members[others[2]]);
	world_stop(&world->members[others[3]]);
	write_one(world, leader);
	write_one(world, leader);
	world_run(world, 200);
	world->members[others[0]].lonely = world->members[others[1]].lonely = true;
	for (unsigned i = 0; i < 3; i++) {
		world_write(world, leader, paths[i], &lost[i]);
		world_run(world, 2);
	}
	world->members[leader].hold_reads = true;
	world_start(world, others[2], 5);
	for (unsigned waited = 0; waited < 300 && !world->members[leader].plans[1].plan; waited++)
		world_run(world, 1);
	assert_non_null(world->members[leader].plans[1].plan);
	assert_int_equal(world->members[leader].plans[1].plan->steps[0].kind, WAL_STEP_READ);
	assert_int_equal(world_status(world, leader).role, NODE_LEADER);
}

/* The read ends when the leader has been deposed, other entries have taken the place of those that it found,
 * and more is committed than it found. The leader leads again then. */
static void read_of_the_log_that_outlasts_a_leader_hands_on_nothing_that_was_replaced(void **state)
{
	struct world *world = world_new();
	struct world_answer lost[3];
	uint64_t leader, next, others[4], count = 0;
	char path[16];

	(void)state;
	world->log_cache_bytes = 1;
	for (uint64_t id = 1; id <= 5; id++)
		world_start(world, id, 5);
	world_run(world, 4000);
	leader = world_leader(world);
	assert_true(leader);
	for (uint64_t id = 1; id <= 5; id++)
		if (id != leader)
			others[count++] = id;
	begin_to_read_what_is_not_committed(world, leader, others, lost);
	world->members[leader].lonely = true;
	world->members[others[0]].lonely = world->members[others[1]].lonely = false;
	next = another_leader(world, leader);
	for (unsigned i = 0; i < 20; i++) {
		(void)snprintf(path, sizeof(path), "/1/new-%u", i);
		world_write_to(world, next, path);
	}
	world_run(world, 8000); /* the clients give up: else it would propose them once more */
	assert_true(lost[0].came && lost[0].error);
	world->members[leader].lonely = false;
	world_run(world, 3000);
	assert_true(has(world, leader, "/1/new-19") && !has(world, leader, "/1/lost-0"));
	world->members[leader].hold_reads = false;
	world_run(world, 100);
	for (unsigned i = 0; i < 10 && world_leader(world) != leader; i++) {
		next = world_leader(world);
		if (next)
			(void)!node_transfer_leader(world->members[next].node, leader);
		world_run(world, 1500);
	}
	assert_int_equal(world_leader(world), leader);
	world_start(world, others[3], 5);
	world_run(world, 3000);
	assert_false(has(world, others[3], "/1/lost-0"));
	assert_true(has(world, others[3], "/1/new-0"));
	world_free(world);
}

/* Three members; writes go on until the log no longer has what the one that is answered, which is cut off,
 * needs next. */
static uint64_t cut_off(struct world *world, uint64_t *ret_leader)
{
	uint64_t leader, behind, needs;

	for (uint64_t id = 1; id <= 3; id++)
		if (!world->members[id].node)
			world_start(world, id, 3);
	world_run(world, 3000);
	*ret_leader = leader = world_leader(world);
	assert_true(leader);
	behind = leader % 3 + 1;
	world->members[behind].lonely = true;
	world_run(world, 3000); /* no log is kept for it */
	needs = world_status(world, behind).applied + 1;
	while (world_status(world, leader).log_first <= needs + 20)
		write_one(world, leader);
	return behind;
}

/* None of its own is ever due, since each one that comes is newer than all of its log. */
static void follower_that_only_receives_cuts_its_log(void **state)
{
	struct world *world = world_new();
	uint64_t leader, behind = 0, most = 0;

	(void)state;
	world->checkpoint_entries = 60;
	for (unsigned round = 0; round < 12; round++) {
		if (!behind) {
			behind = cut_off(world, &leader);
		} else {
			world->members[behind].lonely = true;
			world_run(world, 3000);
			for (unsigned i = 0; i < 200 || world_status(world, leader).checkpoint_index + 3 <
								world_status(world, leader).applied;
				i++)
				write_one(world, leader);
		}
		world->members[behind].lonely = false;
		world_run(world, 3000);
		leader = world_leader(world);
		assert_true(leader && leader != behind);
		assert_int_equal(world_status(world, behind).checkpoints_received, round + 1);
		for (unsigned i = 0; i < 40; i++) /* more than a segment in two rounds */
			write_one(world, leader);
		world_run(world, 1000);
		most = MAX(most, world_status(world, behind).log_disk_bytes);
	}
	assert_int_equal(world_status(world, behind).checkpoints_written, 0);
	assert_in_range(most, 16384, 5 * 16384);
	/* What is left leads on from the checkpoint. */
	world_stop(&world->members[behind]);
	(void)disk_power_off(world->members[behind].disk);
	world_start(world, behind, 3);
	world_run(world, 3000);
	assert_int_equal(world_status(world, behind).applied, world_status(world, leader).applied);
	world_free(world);
}

static void write_at(struct world_member *member, const char *name, uint64_t offset, struct slice bytes)
{
	struct wal_plan plan = {.steps = {{.kind = WAL_STEP_WRITE, .offset = offset, .bytes_len = bytes.len}},
		.steps_len = 1};

	(void)snprintf(plan.steps[0].name, WAL_NAME_MAX, "%s", name);
	buf_add_slice(&plan.bytes, bytes);
	assert_int_equal(disk_step(member->disk, &plan, &plan.steps[0]), 0);
	buf_done(&plan.bytes);
}

/* The checkpoint of this member becomes one that a later version wrote, in memory and on the disk. */
static void make_newer(struct world_member *member)
{
	struct checkpoint *checkpoint = member->node->checkpoints.current;
	struct checkpoint_info *info = &checkpoint->info;
	char *version = checkpoint->manifest + (info->membership.data - checkpoint->manifest);
	size_t crc_at = (size_t)info->manifest_bytes - sizeof(uint32_t);

	++*version;
	info->id.check = crc32c(0, checkpoint->manifest, crc_at);
	for (size_t i = 0; i < sizeof(uint32_t); i++)
		checkpoint->manifest[crc_at + i] = (char)(info->id.check >> 8 * i);
	write_at(member, CHECKPOINT_NAME, CHECKPOINT_FILE_HEADER_BYTES,
		slice_make(checkpoint->manifest, (size_t)info->manifest_bytes));
}

/* Behind the switch there would be no way back: the member could not even be started any more. */
static void checkpoint_of_a_newer_version_is_refused_before_it_is_switched_to(void **state)
{
	struct world *world = world_new();
	uint64_t leader, behind;
	char *error = NULL;

	(void)state;
	world->checkpoint_entries = 60;
	behind = cut_off(world, &leader);
	make_newer(&world->members[leader]);
	world->members[behind].lonely = false;
	world_run(world, 5000);
	assert_true(world_status(world, behind).applied < world_status(world, leader).applied);
	assert_int_equal(world_status(world, behind).checkpoint_index, 0);
	world_stop(&world->members[behind]);
	world_start(world, behind, 3);
	world_run(world, 1000);
	/* Who wrote it, started by this version. */
	world_stop(&world->members[leader]);
	assert_int_equal(world_open(world, leader, 3, &error), -EPROTONOSUPPORT);
	assert_non_null(strstr(error, "format 3, this version knows up to 2"));
	assert_non_null(strstr(error, "update the program"));
	free(error);
	/* One that is of this version again is taken. */
	world_run(world, 10000);
	leader = world_leader(world);
	write_one(world, leader);
	world_run(world, 3000);
	assert_int_equal(world_status(world, behind).applied, world_status(world, leader).applied);
	world_free(world);
}

struct export
{
	struct node *node;
	struct node_export *first, *again;
};

static void on_ready(void *arg)
{
	struct export *export = arg;
	struct slice bytes;

	/* At once, before there can be another checkpoint. */
	if (!export->again && node_export_next(export->first, 1, &bytes) == -EBADMSG)
		export->again = node_export_new(export->node, on_ready, export);
}

/* All of a snapshot; 0, or what ended it. */
static int take_all(struct world *world, struct node_export *export)
{
	struct slice bytes;
	int r = -EAGAIN;

	assert_non_null(export);
	for (unsigned waited = 0; waited < 2000; waited++) {
		r = node_export_next(export, 65536, &bytes);
		if (r == -EAGAIN)
			world_run(world, 1);
		else if (r < 0 || !bytes.len)
			break;
	}
	(void)node_export_free(export);
	return r;
}

/* Nothing is committed meanwhile, so that none of a later index can be made. */
static void rotten_checkpoint_of_an_idle_member_is_made_anew_for_an_export(void **state)
{
	struct world *world = world_new();
	char name[WAL_NAME_MAX] = "";
	struct export export = {0};

	(void)state;
	world_start(world, 1, 1);
	world_run(world, 3000);
	for (unsigned i = 0; i < 20; i++)
		write_one(world, 1);
	export.node = world->members[1].node;
	/* So that there is one. */
	export.first = export.again = node_export_new(export.node, on_ready, &export);
	assert_int_equal(take_all(world, export.first), 0);
	assert_int_equal(disk_list(world->members[1].disk, find_data_file, name), 0);
	assert_true(disk_flip(world->members[1].disk, name, 10, 1));
	export.again = NULL;
	export.first = node_export_new(export.node, on_ready, &export);
	assert_int_equal(take_all(world, export.first), -EBADMSG);
	assert_int_equal(take_all(world, export.again), 0);
	assert_int_equal(world_status(world, 1).checkpoints_written, 2);
	world_free(world);
}

/* What was read back for one follower serves the next one too, but not for ever: it may be large. */
static void what_was_read_of_the_log_is_kept_for_a_while(void **state)
{
	struct world *world = world_new();
	uint64_t leader, others[4], count = 0, reads, again[2];

	(void)state;
	world->log_cache_bytes = 1;
	for (uint64_t id = 1; id <= 5; id++)
		world_start(world, id, 5);
	world_run(world, 4000);
	leader = world_leader(world);
	assert_true(leader);
	for (uint64_t id = 1; id <= 5; id++)
		if (id != leader)
			others[count++] = id;
	for (unsigned round = 0; round < 2; round++) {
		world_stop(&world->members[others[0]]);
		world_stop(&world->members[others[1]]);
		for (unsigned i = 0; i < 5; i++)
			write_one(world, leader);
		world_run(world, 200);
		reads = world_status(world, leader).log_reads;
		world_start(world, others[0], 5);
		world_run(world, 1000);
		assert_int_equal(world_status(world, others[0]).applied, world_status(world, leader).applied);
		assert_true(world_status(world, leader).log_reads > reads);
		reads = world_status(world, leader).log_reads;
		world_run(world, round ? 21000 : 1000);
		world_start(world, others[1], 5);
		world_run(world, 1000);
		assert_int_equal(world_status(world, others[1]).applied, world_status(world, leader).applied);
		assert_int_equal(world_leader(world), leader);
		again[round] = world_status(world, leader).log_reads - reads;
	}
	assert_true(again[1] > again[0]);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_read_of_the_log_is_kept_for_a_while),
		cmocka_unit_test(read_of_the_log_that_outlasts_a_leader_hands_on_nothing_that_was_replaced),
		cmocka_unit_test(follower_that_only_receives_cuts_its_log),
		cmocka_unit_test(checkpoint_of_a_newer_version_is_refused_before_it_is_switched_to),
		cmocka_unit_test(rotten_checkpoint_of_an_idle_member_is_made_anew_for_an_export),
		cmocka_unit_test(leader_whose_checkpoint_rotted_makes_another_for_the_follower_it_needs),
		cmocka_unit_test(follower_that_needs_damaged_entries_gets_a_checkpoint_that_covers_them),
		cmocka_unit_test(leader_that_comes_back_with_an_earlier_clock_is_followed_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
