/* No turn is long: what one does at most, however much there is to be done, and what requests cost whose
 * clients leave. Work is counted, since time depends on the machine. */
#include "members_world.h"
#include <time.h>

static struct world_answer answers[NODE_PENDING_COUNT_MAX], more_answers[NODE_PENDING_COUNT_MAX];
static uint64_t replied;
/* What was seen in one turn at most, by member. */
static struct {
	uint64_t proposed, applied, replied;
} most[WORLD_MEMBERS_MAX + 1];

static void count_reply(struct env *env, void *request, const struct node_reply *reply)
{
	replied++;
	world_reply(env, request, reply);
}

/* The first `running` members of three. */
static struct world *cluster(uint64_t running)
{
	static struct env_ops ops;
	struct world *world = world_new();

	ops = world_ops;
	ops.reply = count_reply;
	world->segment_bytes = 16u << 20;
	memset(most, 0, sizeof(most));
	memset(answers, 0, sizeof(answers));
	memset(more_answers, 0, sizeof(more_answers));
	for (uint64_t id = 1; id <= running; id++) {
		world->members[id].env.ops = &ops;
		world_start(world, id, 3);
	}
	world_run(world, 3000);
	assert_int_equal(world_leader(world) != 0, running == 3);
	return world;
}

static void counted_turn(struct world *world, uint64_t id)
{
	struct node_status before = world_status(world, id), after;
	uint64_t replied_before = replied;

	node_turn(world->members[id].node);
	after = world_status(world, id);
	if (after.role == NODE_LEADER)
		most[id].proposed = MAX(most[id].proposed, after.last - before.last);
	most[id].applied = MAX(most[id].applied, after.applied - before.applied);
	most[id].replied = MAX(most[id].replied, replied - replied_before);
}

static void counted_run(struct world *world, int64_t ms)
{
	int64_t end_ns = world->now_ns + ms * NS_PER_MS;

	for (; world->now_ns < end_ns; world->now_ns += NS_PER_MS / 10) {
		world_deliver(world);
		for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++) {
			if (!world->members[id].node)
				continue;
			world_run_plan(&world->members[id], 0);
			world_run_plan(&world->members[id], 1);
			counted_turn(world, id);
		}
	}
}

/* Writes that change nothing but the log. */
static void queue_writes(struct world *world, uint64_t at, size_t count, size_t len)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0), value = BUF_INIT(0);
	struct node *node = world->members[at].node;
	struct store_command command = {.op = STORE_OP_UPDATE, .path = SLICE_LITERAL("/1/not/there")};

	buf_add_fill(&value, 'v', len);
	command.value = buf_slice(&value);
	command.time_ns = node_clock_ns(node);
	store_command_encode(&command, &bytes);
	for (size_t i = 0; i < count; i++) {
		answers[i] = (struct world_answer){0};
		assert_int_equal(node_propose(node, buf_slice(&bytes), &answers[i]), 0);
	}
}

static void queue_reads(struct world *world, uint64_t at, struct world_answer *list)
{
	for (size_t i = 0; i < NODE_PENDING_COUNT_MAX; i++)
		assert_int_equal(node_read_index(world->members[at].node, &list[i]), 0);
}

static void expect_answers(const struct world_answer *list, size_t count, enum node_error error)
{
	for (size_t i = 0; i < count; i++)
		assert_true(list[i].came && list[i].error == error);
}

static void follower_that_catches_up_applies_some_in_a_turn(void **state)
{
	struct world *world = cluster(3);
	uint64_t leader = world_leader(world), behind = leader % 3 + 1;

	(void)state;
	world->members[behind].lonely = true;
	for (unsigned round = 0; round < 2; round++) {
		queue_writes(world, leader, NODE_PENDING_COUNT_MAX, 8);
		counted_run(world, 20);
		expect_answers(answers, NODE_PENDING_COUNT_MAX, NODE_OK);
	}
	assert_in_range(most[leader].applied, NODE_TURN_APPLIED_MAX / 2, NODE_TURN_APPLIED_MAX);
	assert_int_equal(most[behind].applied, 0);
	world->members[behind].lonely = false;
	counted_run(world, 500);
	assert_true(world_status(world, behind).applied > (uint64_t)2 * NODE_PENDING_COUNT_MAX);
	assert_int_equal(world_status(world, behind).applied, world_status(world, leader).applied);
	assert_in_range(most[behind].applied, NODE_TURN_APPLIED_MAX / 2, NODE_TURN_APPLIED_MAX);
	world_free(world);
}

static void queued_writes_begin_to_be_written_in_the_first_turn(void **state)
{
	struct world *world = cluster(3);
	uint64_t leader = world_leader(world);
	struct world_member *member = &world->members[leader];

	(void)state;
	queue_writes(world, leader, NODE_PENDING_COUNT_MAX, 8);
	assert_null(member->plans[0].plan);
	counted_turn(world, leader);
	assert_non_null(member->plans[0].plan); /* the disk does not wait for the rest of them */
	assert_int_equal(most[leader].proposed, NODE_TURN_PROPOSED_MAX);
	assert_true(node_deadline_ns(member->node) <= world->now_ns);
	counted_run(world, 20);
	assert_int_equal(most[leader].proposed, NODE_TURN_PROPOSED_MAX);
	expect_answers(answers, NODE_PENDING_COUNT_MAX, NODE_OK);
	world_free(world);
}

static void bytes_of_a_turn_and_of_a_write_are_bounded(void **state)
{
	const size_t count = 60, len = 400000;
	struct world *world = cluster(3);
	uint64_t leader = world_leader(world), first;
	struct world_member *member = &world->members[leader];

	(void)state;
	member->disk_ns = 20 * NS_PER_MS;
	first = world_status(world, leader).last;
	queue_writes(world, leader, count, len);
	counted_run(world, 15);
	/* One write is under way, and as much as a write may be waits for it, but nobody turns in vain. */
	assert_in_range((world_status(world, leader).last - first) * len, 4u << 20, 6u << 20);
	assert_true(node_deadline_ns(member->node) > world->now_ns);
	counted_run(world, 500);
	expect_answers(answers, count, NODE_OK);
	assert_int_equal(most[leader].proposed, NODE_TURN_PROPOSED_BYTES / len);
	for (uint64_t id = 1; id <= 3; id++)
		assert_in_range(most[id].applied, 1, NODE_TURN_APPLIED_BYTES / len + 1);
	world_free(world);
}

static void reads_are_answered_some_in_a_turn(void **state)
{
	struct world *world = cluster(3);
	uint64_t leader = world_leader(world);

	(void)state;
	queue_reads(world, leader, answers);
	counted_run(world, 10);
	expect_answers(answers, NODE_PENDING_COUNT_MAX, NODE_OK);
	assert_int_equal(most[leader].replied, NODE_TURN_REPLIES_MAX);
	world_free(world);
}

static void requests_that_waited_too_long_are_answered_some_in_a_turn(void **state)
{
	struct world *world = cluster(1);

	(void)state;
	queue_writes(world, 1, NODE_PENDING_COUNT_MAX, 8);
	queue_reads(world, 1, more_answers);
	world_run(world, 6990);
	assert_false(answers[0].came);
	counted_run(world, 20);
	expect_answers(answers, NODE_PENDING_COUNT_MAX, NODE_ERROR_LEADER_LOST);
	expect_answers(more_answers, NODE_PENDING_COUNT_MAX, NODE_ERROR_LEADER_LOST);
	assert_int_equal(most[1].replied, NODE_TURN_REPLIES_MAX);
	world_free(world);
}

static int64_t cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * NS_PER_S + time.tv_nsec;
}

/* A walk past all the others for each of them took more than a second. */
static void clients_that_leave_together_cost_little(void **state)
{
	struct world *world = cluster(1);
	struct node *node = world->members[1].node;
	int64_t begun_ns;

	(void)state;
	queue_writes(world, 1, NODE_PENDING_COUNT_MAX, 8);
	queue_reads(world, 1, more_answers);
	begun_ns = cpu_ns();
	for (size_t i = 0; i < NODE_PENDING_COUNT_MAX; i++) {
		node_forget(node, &answers[i]);
		node_forget(node, &more_answers[i]);
	}
	assert_true(cpu_ns() - begun_ns < 300 * NS_PER_MS);
	/* A read that nobody waits for takes no place; a write does, as it may be under way. */
	queue_reads(world, 1, more_answers);
	assert_int_equal(node_read_index(node, &answers[0]), -EBUSY);
	replied = 0;
	world_run(world, 8000);
	assert_int_equal(replied, NODE_PENDING_COUNT_MAX);
	expect_answers(more_answers, NODE_PENDING_COUNT_MAX, NODE_ERROR_LEADER_LOST);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(follower_that_catches_up_applies_some_in_a_turn),
		cmocka_unit_test(queued_writes_begin_to_be_written_in_the_first_turn),
		cmocka_unit_test(bytes_of_a_turn_and_of_a_write_are_bounded),
		cmocka_unit_test(reads_are_answered_some_in_a_turn),
		cmocka_unit_test(requests_that_waited_too_long_are_answered_some_in_a_turn),
		cmocka_unit_test(clients_that_leave_together_cost_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
