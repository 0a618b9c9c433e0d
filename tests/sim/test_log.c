/* Where the log begins after segments of it were released, and what takes its place. */
#include "members_world.h"
#include "node/internal.h"

/* A leader writes some segments that nobody follows, and the next one replaces most of it. Answers who it
 * was. */
static struct world_member *write_what_is_replaced(struct world *world)
{
	static struct world_answer lost[12];
	struct world_member *old;

	world->checkpoint_log_bytes = 100000;
	for (uint64_t id = 1; id <= 3; id++)
		world_start(world, id, 3);
	world_run(world, 3000);
	old = &world->members[world_leader(world)];
	old->lonely = true;
	for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
		assert_int_equal(world_propose(world, old->id, STORE_OP_SET, "/1/lost", 2500, &lost[i]), 0);
		world_run(world, 10);
	}
	world_run(world, 8000); /* nobody asks for them any more */
	old->lonely = false;
	world_run(world, 1000);
	assert_int_not_equal(world_leader(world), old->id);
	assert_true(world_status(world, old->id).last < 3 + ARRAY_LEN(lost));
	return old;
}

static void assert_has_all(struct world *world, const struct world_member *member)
{
	assert_int_equal(
		world_status(world, member->id).applied, world_status(world, world_leader(world)).applied);
}

/* When the segment before is released, the log begins with entries that are replaced from further down. */
static void begin_with_entries_that_were_replaced(unsigned writes_first)
{
	struct world *world = world_new();
	struct world_member *old = write_what_is_replaced(world);

	for (unsigned i = 0; i < writes_first; i++)
		world_write_to(world, world_leader(world), "/1/k");
	for (unsigned i = 0; i < 12; i++) {
		world_write_to(world, world_leader(world), "/1/k");
		world_run(world, 200);
		old->node->checkpoints.asked = true;
		world_run(world, 200);
		world_stop(old);
		world_start(world, old->id, 3);
		world_run(world, 200);
	}
	assert_has_all(world, old);
	world_free(world);
}

/* Each round is two entries. */
static void log_may_begin_with_entries_that_were_replaced(void **state)
{
	(void)state;
	begin_with_entries_that_were_replaced(0);
	begin_with_entries_that_were_replaced(1);
}

/* Of one whose log goes on beyond what the others have, and whose log's disk hangs from then on. */
static struct world_member *receive_with_a_hung_disk(struct world *world)
{
	struct world_member *old;
	uint64_t next;

	world->checkpoint_entries = 60;
	old = write_what_is_replaced(world);
	old->lonely = true;
	world_run(world, 3000);
	next = world_leader(world);
	do {
		world_write_to(world, next, "/1/k");
		world_run(world, 50);
	} while (world_status(world, next).log_first < 20 ||
		 world_status(world, next).checkpoint_index != world_status(world, next).applied);
	old->disk_ns = 3600 * NS_PER_S;
	old->lonely = false;
	world_run(world, 3000);
	assert_int_equal(world_status(world, old->id).checkpoints_received, 1);
	return old;
}

static void restart_with_all(struct world *world, struct world_member *member)
{
	world_stop(member);
	member->disk_ns = NS_PER_MS;
	world_start(world, member->id, 3);
	world_run(world, 3000);
	assert_has_all(world, member);
}

/* The log ends below where its newest segment begins, and a checkpoint takes its place. */
static void log_is_released_when_what_takes_its_place_is_durable(void **state)
{
	struct world *world = world_new();

	(void)state;
	restart_with_all(world, receive_with_a_hung_disk(world));
	world_free(world);
}

static void find_data_file(void *arg, const char *name, uint64_t size_bytes)
{
	(void)size_bytes;
	if (strstr(name, ".checkpoint"))
		(void)snprintf(arg, WAL_NAME_MAX, "%s", name);
}

static struct node_export *export;

static void on_ready(void *arg)
{
	struct slice bytes;

	(void)arg;
	while (node_export_next(export, 1 << 20, &bytes) == 0 && bytes.len)
		;
}

/* It cannot be read, so that an own one of the same index is written. */
static void log_is_not_released_earlier_when_another_checkpoint_is_written(void **state)
{
	struct world *world = world_new();
	struct world_member *old = receive_with_a_hung_disk(world);
	char name[WAL_NAME_MAX] = "";

	(void)state;
	assert_int_equal(disk_list(old->disk, find_data_file, name), 0);
	assert_true(disk_flip(old->disk, name, 100, 3));
	export = node_export_new(old->node, on_ready, NULL);
	world_run(world, 3000);
	(void)node_export_free(export);
	assert_int_equal(world_status(world, old->id).checkpoints_written, 1);
	restart_with_all(world, old);
	world_free(world);
}

/* ---- a log by hand ---- */

static int list_nothing(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	(void)arg;
	(void)fn;
	(void)fn_arg;
	return 0;
}

static void run_steps(struct disk *disk, const struct wal_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++)
		assert_int_equal(disk_step(disk, plan, &plan->steps[i]), 0);
}

static void add(struct wal *wal, uint64_t index, uint64_t term, size_t len)
{
	static char data[4000];
	struct wal_entry entry = {.index = index,
		.term = term,
		.kind = len ? RAFT_ENTRY_DATA : RAFT_ENTRY_EMPTY,
		.data = {data, len}};

	wal_add_entry(wal, &entry);
}

static void write_added(struct wal *wal, struct disk *disk, uint64_t term, uint64_t commit)
{
	struct wal_hard_state hard_state = {.term = term, .commit = commit};
	struct wal_plan plan = {0};

	wal_add_hard_state(wal, &hard_state);
	wal_flush(wal, &plan);
	run_steps(disk, &plan);
	wal_flushed(wal);
	buf_done(&plan.bytes);
}

/* Of index 5 and term 3, without a log. */
static void make_checkpoint(struct world *world, struct world_member *member)
{
	struct node_member members[3];
	struct node_config config = {.cluster_id = 77,
		.member_id = member->id,
		.members = members,
		.members_len = 3,
		.segment_bytes = world->segment_bytes};
	struct node_restore *restore;
	struct wal_plan plan = {0};

	for (size_t i = 0; i < 3; i++)
		members[i] = (struct node_member){.id = i + 1,
			.name = "",
			.peer_urls = (const char *const *)world->members[i + 1].urls};
	assert_int_equal(node_restore_new(store_new(), &config, 5, 3, 1, &restore), 0);
	while (node_restore_next(restore, &plan))
		if (plan.steps_len > 1 && !strstr(plan.steps[0].name, ".wal"))
			run_steps(member->disk, &plan);
	(void)node_restore_free(restore);
	buf_done(&plan.bytes);
}

/* The second segment, where it begins when the first one is released, goes on with entries of two leaders
 * whom nobody followed, then with what takes their place and that of the first segment's end. */
static void write_log_of_three_leaders(struct world *world, struct disk *disk)
{
	struct wal_config config = {
		.cluster_id = 77, .member_id = 1, .segment_bytes = world->segment_bytes, .random_seed = 5};
	struct wal_disk nothing = {.list = list_nothing};
	struct wal_sink sink = {0};
	struct wal_recovered found;
	struct wal_plan plan = {0};
	char *error = NULL;
	struct wal *wal;

	assert_int_equal(wal_open(&config, &nothing, &sink, &wal, &found, &error), 0);
	wal_start_plan(wal, &plan);
	run_steps(disk, &plan);
	for (uint64_t index = 1; index <= 5; index++)
		add(wal, index, 2, index == 5 ? 3500 : 0);
	write_added(wal, disk, 2, 2);
	add(wal, 6, 2, 400);
	write_added(wal, disk, 2, 2);
	add(wal, 7, 4, 0);
	write_added(wal, disk, 4, 2);
	for (uint64_t index = 3; index <= 5; index++)
		add(wal, index, 3, 0);
	add(wal, 6, 5, 0);
	write_added(wal, disk, 5, 2);
	add(wal, 7, 5, 0);
	write_added(wal, disk, 5, 5);
	assert_true(wal_release(wal, 6, &plan));
	run_steps(disk, &plan);
	(void)wal_free(wal);
	buf_done(&plan.bytes);
}

static void log_may_begin_with_replaced_entries_of_two_leaders(void **state)
{
	struct world *world = world_new();

	(void)state;
	world->segment_bytes = 4096;
	make_checkpoint(world, &world->members[1]);
	write_log_of_three_leaders(world, world->members[1].disk);
	world_start(world, 1, 3);
	assert_int_equal(world_status(world, 1).last, 7);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_may_begin_with_entries_that_were_replaced),
		cmocka_unit_test(log_is_released_when_what_takes_its_place_is_durable),
		cmocka_unit_test(log_is_not_released_earlier_when_another_checkpoint_is_written),
		cmocka_unit_test(log_may_begin_with_replaced_entries_of_two_leaders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
