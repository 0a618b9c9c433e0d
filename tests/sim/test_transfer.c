/* A checkpoint on its way from a leader to a member that was away for long: over slow links, with slow disks,
 * beside all else that goes on. */
#include "members_world.h"
#include "node/internal.h"

#define KEYS 200u
#define VALUE_BYTES 10000u
#define LEAST_BYTES (KEYS * VALUE_BYTES) /* of the checkpoint */

static struct world_answer answers[40000];
static unsigned asked;

static bool ask(struct world *world, uint64_t at, enum store_op op, unsigned key, size_t len)
{
	char path[32];

	assert_true(asked < ARRAY_LEN(answers));
	(void)snprintf(path, sizeof(path), "/1/k%u", key);
	return world_propose(world, at, op, path, len, &answers[asked++]) == 0;
}

static void write_and_wait(struct world *world, uint64_t at, unsigned key)
{
	assert_true(ask(world, at, STORE_OP_SET, key, VALUE_BYTES));
	for (unsigned ms = 0; ms < 1000 && !answers[asked - 1].came; ms++)
		world_run(world, 1);
	assert_int_equal(answers[asked - 1].error, NODE_OK);
	assert_true(answers[asked - 1].came);
}

/* Members of which the leader has a checkpoint, and one was away while the log behind it was cut. */
static struct world *with_one_behind(
	const struct env_ops *ops, uint64_t count, uint64_t *ret_leader, uint64_t *ret_behind)
{
	struct world *world = world_new();

	asked = 0;
	world->checkpoint_entries = KEYS + KEYS / 4;
	for (uint64_t id = 1; id <= count; id++) {
		world->members[id].env.ops = ops;
		world_start(world, id, count);
	}
	world_run(world, 3000);
	*ret_leader = world_leader(world);
	*ret_behind = *ret_leader % count + 1;
	world_stop(&world->members[*ret_behind]);
	world_run(world, 3000); /* no log is kept for it */
	for (unsigned i = 0; world_status(world, *ret_leader).log_first < KEYS; i++)
		write_and_wait(world, *ret_leader, i % KEYS);
	return world;
}

static const struct incoming *incoming_of(const struct world *world, uint64_t id)
{
	return &world->members[id].node->checkpoints.incoming;
}

/* The same, and it is back and being sent the checkpoint. */
static struct world *with_receiver(const struct env_ops *ops, uint64_t *ret_leader, uint64_t *ret_behind)
{
	struct world *world = with_one_behind(ops, 3, ret_leader, ret_behind);

	world_start(world, *ret_behind, 3);
	for (unsigned ms = 0; ms < 5000 && !incoming_of(world, *ret_behind)->receiver; ms++)
		world_run(world, 1);
	assert_non_null(incoming_of(world, *ret_behind)->receiver);
	return world;
}

static bool is_received(struct world *world, uint64_t id, int64_t ms)
{
	for (int64_t waited = 0; waited < ms && !world_status(world, id).checkpoints_received; waited++)
		world_run(world, 1);
	return world_status(world, id).checkpoints_received == 1;
}

/* One was, and all behind it. */
static void assert_sent(struct world *world, uint64_t leader, uint64_t behind)
{
	assert_int_equal(world_status(world, behind).checkpoints_received, 1);
	assert_int_equal(world_status(world, leader).checkpoints_sent, 1);
	assert_int_equal(world_status(world, behind).applied, world_status(world, leader).applied);
}

static bool transfers_lost;

static void send_no_transfers(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	struct node_envelope envelope;

	assert_int_equal(node_envelope_decode(message, &envelope), 0);
	if (!transfers_lost || envelope.kind != NODE_ENVELOPE_CHECKPOINT)
		world_send(env, to, message, bulk);
}

/* A leader that has all of the log speaks of none. Without a leader, nobody could. */
static void checkpoint_that_no_leader_goes_on_with_is_not_waited_for(void **state)
{
	struct env_ops ops = world_ops;
	struct world *world;
	const struct incoming *in;
	uint64_t leader, behind;

	(void)state;
	ops.send = send_no_transfers;
	transfers_lost = false;
	world = with_receiver(&ops, &leader, &behind);
	in = incoming_of(world, behind);
	world->members[behind].lonely = transfers_lost = true;
	world_run(world, 20000);
	assert_non_null(in->receiver);
	world->members[behind].lonely = false;
	world_run(world, 9000);
	assert_non_null(in->receiver);
	world_run(world, 4000);
	assert_null(in->receiver);
	transfers_lost = false;
	world_run(world, 5000);
	assert_sent(world, leader, behind);
	world_free(world);
}

/* Its answers to the offers are all that is heard of it meanwhile. */
static void receiver_is_waited_for_as_long_as_its_disk_takes(void **state)
{
	uint64_t leader, behind;
	struct world *world = with_receiver(&world_ops, &leader, &behind);
	const struct incoming *in = incoming_of(world, behind);
	const struct list *outgoing = &world->members[leader].node->checkpoints.outgoing;
	const void *receiver = in->receiver;

	(void)state;
	world->members[behind].background_ns = 12 * NS_PER_S;
	for (unsigned ms = 0; ms < 200000 && in->receiver; ms++) {
		assert_ptr_equal(in->receiver, receiver);
		assert_false(list_empty(outgoing));
		world_run(world, 1);
	}
	assert_int_equal(world_status(world, behind).checkpoints_received, 1);
	world_run(world, 1000);
	assert_sent(world, leader, behind);
	world_free(world);
}

static void leader_waits_for_its_own_disk_too(void **state)
{
	uint64_t leader, behind;
	struct world *world = with_receiver(&world_ops, &leader, &behind);

	(void)state;
	world->members[leader].background_ns = 2100 * NS_PER_MS;
	assert_true(is_received(world, behind, 60000));
	world_free(world);
}

/* The link to one member; what is sent in bulk has a connection of its own. */
static struct {
	uint64_t to;
	int64_t bytes_per_s, free_ns;
	uint64_t sent_bytes;
	bool cut;
} slow;

static void send_slowly(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	struct world *world = world_of(env)->world;

	if (!bulk || to != slow.to) {
		world_send(env, to, message, bulk);
		return;
	}
	slow.sent_bytes += message.len;
	if (slow.cut)
		return;
	slow.free_ns = MAX(slow.free_ns, world->now_ns) + (int64_t)message.len * NS_PER_S / slow.bytes_per_s;
	world_send_at(env, to, message, slow.free_ns);
}

static struct world *with_slow_link(int64_t bytes_per_s, uint64_t *ret_leader, uint64_t *ret_behind)
{
	static struct env_ops ops;
	struct world *world;

	ops = world_ops;
	ops.send = send_slowly;
	memset(&slow, 0, sizeof(slow));
	world = with_one_behind(&ops, 3, ret_leader, ret_behind);
	slow.to = *ret_behind;
	slow.bytes_per_s = bytes_per_s;
	world_start(world, *ret_behind, 3);
	return world;
}

/* Offers, which are small, overtake the pieces. */
static void piece_on_a_slow_link_is_not_sent_again_and_again(void **state)
{
	static const int64_t bytes_per_s[] = {600000, 150000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bytes_per_s); i++) {
		uint64_t leader, behind;
		struct world *world = with_slow_link(bytes_per_s[i], &leader, &behind);

		assert_true(is_received(world, behind, 2 * LEAST_BYTES * INT64_C(1000) / bytes_per_s[i]));
		assert_in_range(slow.sent_bytes, LEAST_BYTES, LEAST_BYTES * 3 / 2);
		world_free(world);
	}
}

/* 4 MB a second are written all the while. What is written while the checkpoint is on its way is more than
 * the log's tail and a window. */
static void one_checkpoint_is_enough_over_a_link_that_suffices(void **state)
{
	struct env_ops ops = world_ops;
	struct world *world = world_new();
	struct world_member *behind;
	uint64_t leader;

	(void)state;
	memset(&slow, 0, sizeof(slow));
	ops.send = send_slowly;
	asked = 0;
	world->segment_bytes = world->checkpoint_log_bytes = 2u << 20;
	for (uint64_t id = 1; id <= 3; id++) {
		world->members[id].env.ops = &ops;
		world->members[id].background_ns = NS_PER_MS;
		world_start(world, id, 3);
	}
	world_run(world, 3000);
	leader = world_leader(world);
	behind = &world->members[leader % 3 + 1];
	world_stop(behind);
	slow.to = behind->id;
	slow.bytes_per_s = 6000000;
	for (unsigned ms = 0; ms < 18000; ms += 5) {
		if (ms == 6000)
			world_start(world, behind->id, 3);
		assert_true(ask(world, leader, STORE_OP_SET, asked % 1000, 20000));
		world_run(world, 5);
	}
	assert_int_equal(world_status(world, behind->id).checkpoints_received, 1);
	assert_in_range(
		world_status(world, leader).applied - world_status(world, behind->id).applied, 0, 400);
	assert_in_range(world_status(world, leader).log_disk_bytes, 0, 60000000);
	world_free(world);
}

static void what_was_lost_with_a_connection_is_sent_again_at_once(void **state)
{
	uint64_t leader, behind;
	struct world *world = with_slow_link(100000, &leader, &behind);
	struct node *node = world->members[leader].node;

	(void)state;
	world_run(world, 8000); /* a piece takes more than two seconds */
	slow.cut = true;
	world_run(world, 3000);
	slow.cut = false;
	slow.free_ns = 0;
	slow.sent_bytes = 0;
	world_run(world, 300);
	assert_int_equal(slow.sent_bytes, 0);
	node_peer_state(node, behind, false);
	node_peer_state(node, behind, true);
	world_run(world, 300); /* the next offer */
	assert_in_range(slow.sent_bytes, 100000, 300000);
	world_free(world);
}

/* Keys go all the time, so that another checkpoint would be a smaller one. */
static void receiver_that_fails_does_not_make_the_leader_write_more_checkpoints(void **state)
{
	uint64_t leader, behind, written;
	struct world *world = with_one_behind(&world_ops, 3, &leader, &behind);

	(void)state;
	world->members[behind].checkpoints_to_fail = 1000;
	world_start(world, behind, 3);
	written = world_status(world, leader).checkpoints_written;
	for (unsigned i = 0; i < KEYS; i++) {
		assert_true(ask(world, leader, i % 2 ? STORE_OP_SET : STORE_OP_DELETE, i / 2, i % 2 * 100));
		world_run(world, 100);
		if (i % 2)
			assert_true(ask(world, leader, STORE_OP_DELETE, i / 2, 0));
	}
	assert_true(world->members[behind].checkpoints_to_fail < 990);
	assert_in_range(world_status(world, leader).checkpoints_written - written, 0, 2);
	world->members[behind].checkpoints_to_fail = 0;
	assert_true(is_received(world, behind, 5000));
	world_free(world);
}

/* One member is behind by much of the log, another one by more than all of it, and a checkpoint is due. */
static void nothing_is_kept_waiting_while_the_log_is_read(void **state)
{
	uint64_t leader, behind, late, written, reads;
	struct world *world = with_one_behind(&world_ops, 5, &leader, &behind);
	struct node *node = world->members[leader].node;

	(void)state;
	late = behind % 5 + 1;
	world_stop(&world->members[late]);
	node->checkpoints.entries_max = node->checkpoints.log_min_bytes = UINT64_MAX; /* the log only grows */
	for (unsigned i = 0; i < 3000; i++)
		write_and_wait(world, leader, i % KEYS);
	world->members[leader].background_ns = 20 * NS_PER_MS;
	written = world_status(world, leader).checkpoints_written;
	reads = world_status(world, leader).log_reads;
	node->checkpoints.asked = true;
	world_start(world, late, 5);
	world_start(world, behind, 5);
	while (!world_status(world, behind).checkpoints_received ||
		world_status(world, leader).checkpoints_written == written) {
		assert_true(world_status(world, late).applied + 100 < world_status(world, leader).applied);
		world_run(world, 10);
	}
	assert_true(world_status(world, leader).log_reads > reads);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checkpoint_that_no_leader_goes_on_with_is_not_waited_for),
		cmocka_unit_test(receiver_is_waited_for_as_long_as_its_disk_takes),
		cmocka_unit_test(leader_waits_for_its_own_disk_too),
		cmocka_unit_test(piece_on_a_slow_link_is_not_sent_again_and_again),
		cmocka_unit_test(one_checkpoint_is_enough_over_a_link_that_suffices),
		cmocka_unit_test(what_was_lost_with_a_connection_is_sent_again_at_once),
		cmocka_unit_test(receiver_that_fails_does_not_make_the_leader_write_more_checkpoints),
		cmocka_unit_test(nothing_is_kept_waiting_while_the_log_is_read),
	};

	return cmocka_run_group_tests_name("transfer", tests, NULL, NULL);
}
