/* How much flows between members: over a link that is narrow, to a disk that hangs, and from a member that
 * asks for nonsense. */
#include "members_world.h"
#include "node/internal.h"
#include "raft/raft.h"

#define QUEUE_BYTES (32 << 20) /* what the transport keeps for one connection */
#define LINK_BYTES_PER_S 12500000
#define WRITES_MAX 20000u

/* The link to one member; entries have a connection of their own, whose messages stay in order. */
static struct {
	uint64_t to;
	int64_t busy_until_ns;
	uint64_t sent_bytes, dropped;
} narrow;
static int64_t latency_ns;
static uint64_t messages_sent;
static struct {
	uint64_t heartbeats, appends, empty_appends;
} sent;

/* All but those with large entries. */
static void count_sent(struct slice bytes)
{
	struct node_envelope envelope;
	struct raft_message message;

	messages_sent++;
	if (bytes.len > 4096 || node_envelope_decode(bytes, &envelope) < 0 ||
		envelope.kind != NODE_ENVELOPE_RAFT || raft_message_decode(envelope.payload, &message) < 0)
		return;
	sent.heartbeats += message.type == RAFT_MSG_HEARTBEAT;
	sent.appends += message.type == RAFT_MSG_APPEND;
	sent.empty_appends += message.type == RAFT_MSG_APPEND && !message.entry_count;
	raft_message_done(&message);
}

static void narrow_send(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	struct world_member *member = world_of(env);
	struct world *world = member->world;
	int64_t at_ns = world->now_ns + latency_ns, len = (int64_t)message.len;

	count_sent(message);
	if (to == narrow.to && bulk && !member->lonely && !world->members[to].lonely) {
		narrow.busy_until_ns = MAX(narrow.busy_until_ns, world->now_ns);
		if ((narrow.busy_until_ns - world->now_ns) * LINK_BYTES_PER_S / NS_PER_S + len >
			QUEUE_BYTES) {
			narrow.dropped++;
			return;
		}
		narrow.busy_until_ns += len * NS_PER_S / LINK_BYTES_PER_S;
		at_ns += narrow.busy_until_ns - world->now_ns;
		narrow.sent_bytes += message.len;
	}
	world_send_at(env, to, message, at_ns);
}

static struct env_ops flow_ops;
static unsigned errors_noted;

static void count_errors(struct env *env, int level, const char *text)
{
	errors_noted += level <= LOG_LEVEL_ERROR;
	world_note(env, level, text);
}

static struct world *cluster_of_three(void)
{
	struct world *world = world_new();

	memset(&narrow, 0, sizeof(narrow));
	latency_ns = NS_PER_MS / 5;
	world->segment_bytes = 4 << 20;
	flow_ops = world_ops;
	flow_ops.send = narrow_send;
	flow_ops.note = count_errors;
	for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++)
		world->members[id].env.ops = &flow_ops;
	for (uint64_t id = 1; id <= 3; id++)
		world_start(world, id, 3);
	world_run(world, 3000);
	assert_true(world_leader(world));
	return world;
}

/* Answers of the writes of one test. */
static struct world_answer answers[WRITES_MAX];
static unsigned wrote;

/* An entry of so many bytes that changes nothing: the log grows, the state does not. */
static void write_large(struct world *world, uint64_t at, size_t len)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0), value = BUF_INIT(0);
	struct node *node = world->members[at].node;
	struct store_command command = {.op = STORE_OP_UPDATE, .path = slice_str("/1/not/there")};

	assert_true(wrote < WRITES_MAX);
	answers[wrote] = (struct world_answer){0};
	buf_add_fill(&value, 'v', len);
	command.value = buf_slice(&value);
	command.time_ns = node_clock_ns(node);
	store_command_encode(&command, &bytes);
	assert_int_equal(node_propose(node, buf_slice(&bytes), &answers[wrote++]), 0);
}

static void write_many(struct world *world, uint64_t at, unsigned count, size_t len)
{
	for (unsigned i = 0; i < count; i++) {
		write_large(world, at, len);
		while (!answers[wrote - 1].came)
			world_run(world, 1);
		assert_int_equal(answers[wrote - 1].error, NODE_OK);
	}
}

/* 2 MB/s of writes for so long, or until `done`. */
static void write_on(struct world *world, int64_t ms, bool (*done)(struct world *world))
{
	uint64_t leader = world_leader(world);

	for (int64_t at = 0; at < ms && !(done && done(world)); at += 5) {
		write_large(world, leader, 10000);
		world_run(world, 5);
	}
}

static bool has_caught_up(struct world *world)
{
	return world_status(world, narrow.to).applied + 5 >= world_status(world, world_leader(world)).applied;
}

/* 20 MB, at 12.5 MB/s, with 2 MB/s more all the time. */
static void follower_behind_a_narrow_link_is_sent_everything_once(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world);

	(void)state;
	wrote = 0;
	narrow.to = leader == 3 ? 2 : 3;
	world->members[narrow.to].lonely = true;
	write_many(world, leader, 20, 1000000);
	assert_int_equal(world_leader(world), leader);
	world->members[narrow.to].lonely = false;
	write_on(world, 10000, has_caught_up);
	assert_true(has_caught_up(world));
	assert_int_equal(narrow.dropped, 0);
	assert_in_range(narrow.sent_bytes, 20000000, 35000000);
	world_free(world);
}

static bool votes(struct world *world)
{
	return node_member_votes(world->members[world_leader(world)].node, 4);
}

static void learner_behind_a_narrow_link_is_promoted(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world);
	struct node_member_change change = {
		.op = NODE_MEMBER_ADD, .id = 4, .peer_urls = (const char *const *)world->members[4].urls};

	(void)state;
	wrote = 0;
	write_many(world, leader, 20, 1000000);
	assert_int_equal(world_change(world, leader, change, 1000), NODE_OK);
	narrow.to = 4;
	world_start(world, 4, 0);
	write_on(world, 10000, votes);
	assert_true(votes(world));
	assert_in_range(narrow.sent_bytes, 20000000, 45000000);
	world_free(world);
}

static struct world_answer reads[10000];

/* For so long a read with each millisecond, and at every so many of them a write, all at the leader. */
static void read_and_write(struct world *world, unsigned ms, unsigned every, size_t len)
{
	uint64_t leader = world_leader(world);

	wrote = 0;
	memset(reads, 0, sizeof(reads));
	for (unsigned at = 0; at < ms; at++) {
		if (at % every == 0)
			write_large(world, leader, len);
		assert_int_equal(node_read_index(world->members[leader].node, &reads[at]), 0);
		world_run(world, 1);
	}
}

/* Each confirmed read is another heartbeat round, and each of its answers tells that appends are under way.
 */
static void reads_do_not_make_a_follower_be_sent_more(void **state)
{
	struct world *world = cluster_of_three();

	(void)state;
	narrow.to = world_leader(world) == 3 ? 2 : 3;
	read_and_write(world, 2000, 2, 20000);
	assert_int_equal(narrow.dropped, 0);
	assert_in_range(narrow.sent_bytes, 18000000, 26000000);
	world_free(world);
}

static void reads_of_one_turn_take_one_round(void **state)
{
	enum { EACH = 100 };
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world);

	(void)state;
	memset(reads, 0, sizeof(reads));
	memset(&sent, 0, sizeof(sent));
	while (!sent.heartbeats) /* the next one of a tick is far */
		world_run(world, 1);
	world_run(world, 10);
	memset(&sent, 0, sizeof(sent));
	for (unsigned i = 0; i < 3 * EACH; i++)
		assert_int_equal(node_read_index(world->members[1 + i / EACH].node, &reads[i]), 0);
	world_run(world, 10);
	for (unsigned i = 0; i < 3 * EACH; i++)
		assert_true(reads[i].came && reads[i].error == NODE_OK);
	/* The leader's own, then those of both followers, whose questions come together. */
	assert_int_equal(sent.heartbeats, 2 * 2);
	assert_int_equal(world_leader(world), leader);
	world_free(world);
}

/* A write and a read with each millisecond, and disks that take longer: something is always under way. */
static void reads_do_not_make_appends_be_asked_for(void **state)
{
	struct world *world = cluster_of_three();

	(void)state;
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_ns = 5 * NS_PER_MS;
	memset(&sent, 0, sizeof(sent));
	read_and_write(world, 2000, 1, 100);
	assert_in_range(sent.heartbeats, 2 * 2000, 2 * 2100);
	assert_in_range(sent.appends - sent.empty_appends, 2 * 2000, 2 * 2000);
	assert_in_range(sent.empty_appends, 0, 2 * 21); /* one a heartbeat interval */
	world_free(world);
}

/* 25 MB/s of writes and a read a millisecond, while the disk of one's log stands still. */
static void follower_whose_disk_hangs_is_sent_its_window(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), slow = leader == 3 ? 2 : 3;
	struct world_member *hung = &world->members[slow];

	(void)state;
	hung->disk_ns = 3600 * NS_PER_S;
	read_and_write(world, 5000, 40, 1000000);
	assert_in_range(wal_batch_bytes(hung->node->wal), 1, 16000000);
	hung->disk_ns = 0;
	hung->plans[0].done_ns = world->now_ns;
	world_run(world, 2000);
	assert_int_equal(world_status(world, slow).applied, world_status(world, leader).applied);
	world_free(world);
}

/* 10 MB/s of writes for three seconds, of which one has room for a few. */
static void follower_whose_disk_is_full_is_not_sent_everything_again(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), full = leader == 3 ? 2 : 3;

	(void)state;
	wrote = 0;
	narrow.to = full;
	world->members[full].no_space = true;
	for (unsigned i = 0; i < 30; i++) {
		write_large(world, leader, 1000000);
		world_run(world, 100);
	}
	assert_true(world_status(world, full).last < world_status(world, leader).last);
	assert_in_range(narrow.sent_bytes, 1000000, 30000000);
	world->members[full].no_space = false;
	world_run(world, 10000);
	assert_int_equal(world_status(world, full).applied, world_status(world, leader).applied);
	world_free(world);
}

/* What was lost on the way to the leader was lost on its connection only. */
static void connections_of_others_open_no_window(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), at = leader % 3 + 1, other = at % 3 + 1;
	struct node *node = world->members[at].node;

	(void)state;
	node->window_bytes = 1000;
	node_peer_state(node, other, false);
	node_peer_state(node, other, true);
	assert_int_equal(node->window_bytes, 1000);
	node_peer_state(node, leader, false);
	node_peer_state(node, leader, true);
	assert_int_equal(node->window_bytes, 0);
	world_free(world);
}

/* More questions follow all the time, each answered at once. */
static void lost_question_of_a_read_is_not_missed(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), asker = leader == 3 ? 2 : 3;
	unsigned ms = 0;

	(void)state;
	memset(reads, 0, sizeof(reads));
	world->members[asker].lonely = true;
	assert_int_equal(node_read_index(world->members[asker].node, &reads[0]), 0);
	world_run(world, 2);
	world->members[asker].lonely = false;
	for (; ms < 1000 && !reads[0].came; ms++) {
		if (ms % 20 == 0)
			assert_int_equal(node_read_index(world->members[asker].node, &reads[1 + ms / 20]), 0);
		world_run(world, 1);
	}
	assert_true(reads[0].came);
	assert_int_equal(reads[0].error, NODE_OK);
	world_free(world);
}

/* As long as the disks of a majority hang, a new leader can confirm no read. */
static void reads_without_an_answer_do_not_add_up(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t old = world_leader(world), next = old == 3 ? 2 : 3, first = 0;

	(void)state;
	memset(reads, 0, sizeof(reads));
	assert_int_equal(node_transfer_leader(world->members[old].node, next), 0);
	for (unsigned i = 0; i < 1000 && world_leader(world) != next; i++) {
		world->now_ns += NS_PER_MS / 10;
		world_deliver(world);
		for (uint64_t id = 1; id <= 3; id++) {
			world_run_plan(&world->members[id], 0);
			world_run_plan(&world->members[id], 1);
			world_turns(&world->members[id]);
		}
	}
	assert_int_equal(world_leader(world), next);
	for (uint64_t id = 1; id <= 3; id++)
		if (id != next)
			world->members[id].disk_ns = 3600 * NS_PER_S;
	for (unsigned second = 0; second < 10; second++) {
		messages_sent = 0;
		for (unsigned ms = 0; ms < 1000; ms++) {
			if (ms < 500)
				assert_int_equal(
					node_read_index(world->members[old].node, &reads[second * 500 + ms]),
					0);
			world_run(world, 1);
		}
		first = first ? first : messages_sent;
		assert_in_range(messages_sent, 1, 2 * first);
	}
	world_free(world);
}

/* An envelope of the transport's, around a message of raft's. */
static void receive(struct world *world, const struct raft_message *message)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct node_envelope envelope = {
		.kind = NODE_ENVELOPE_RAFT, .cluster_id = 77, .from = message->from, .to = message->to};

	node_envelope_encode(&envelope, &bytes);
	raft_message_encode(message, &bytes);
	assert_int_equal(node_receive(world->members[message->to].node, message->from, buf_slice(&bytes)), 0);
}

static void follower_takes_no_more_than_it_can_write(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), slow = leader == 3 ? 2 : 3;
	struct world_member *hung = &world->members[slow];
	struct node_status there = world_status(world, slow);
	_cleanup_buf_ struct buf value = BUF_INIT(0);

	(void)state;
	hung->disk_ns = 3600 * NS_PER_S;
	buf_add_fill(&value, 'v', 8000000);
	for (unsigned i = 0; i < 20; i++) {
		struct raft_entry entry = {.type = RAFT_ENTRY_DATA,
			.index = there.last + 1 + i,
			.term = there.term,
			.data = raft_blob_new(value.data, value.len)};

		receive(world, &(struct raft_message){.type = RAFT_MSG_APPEND,
				       .from = leader,
				       .to = slow,
				       .term = there.term,
				       .index = there.last + i,
				       .log_term = there.term,
				       .entries = &entry,
				       .entry_count = 1});
		raft_blob_unref(entry.data);
		node_turn(hung->node);
	}
	assert_in_range(wal_batch_bytes(hung->node->wal), 24000000, 48000000);
	world_free(world);
}

static void member_whose_disk_lost_entries_says_so(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world);
	struct node_status there = world_status(world, leader % 3 + 1);
	struct raft_message heartbeat = {.type = RAFT_MSG_HEARTBEAT,
		.from = leader,
		.to = leader % 3 + 1,
		.term = there.term,
		.commit = there.last};

	(void)state;
	errors_noted = 0;
	receive(world, &heartbeat);
	assert_int_equal(errors_noted, 0);
	heartbeat.commit++;
	receive(world, &heartbeat);
	receive(world, &heartbeat);
	assert_int_equal(errors_noted, 1);
	world_free(world);
}

static void forward(struct world *world, struct raft_blob *data, enum raft_entry_type type, uint64_t context)
{
	uint64_t leader = world_leader(world);
	struct raft_entry entry = {.type = type, .data = data};

	receive(world, &(struct raft_message){.type = RAFT_MSG_PROPOSE,
			       .from = leader == 3 ? 2 : 3,
			       .to = leader,
			       .term = world_status(world, leader).term,
			       .context = context,
			       .entries = &entry,
			       .entry_count = 1});
	raft_blob_unref(data);
	world_run(world, 50);
}

static struct raft_blob *entry_of(unsigned kind, uint64_t origin, struct slice payload)
{
	struct node_entry entry = {.kind = kind, .origin = origin, .boot = 9, .payload = payload};

	return node_entry_encode(&entry);
}

/* What is in the log once must be applied by everybody, again after each start. */
static void what_nobody_can_apply_does_not_get_into_the_log(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), from = leader == 3 ? 2 : 3;
	uint64_t last = world_status(world, leader).last, context = UINT64_MAX / 2;
	struct raft_conf_change change = {.step_count = 1, .context = slice_str("nonsense")};
	struct store_command tick = {.op = STORE_OP_TICK, .time_ns = INT64_MAX - 1};
	struct node_member_change promotion = {.op = NODE_MEMBER_PROMOTE, .id = from, .replaces = leader};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct raft_blob *promoting;

	(void)state;
	change.steps[0].op = RAFT_CONF_REMOVE;
	change.steps[0].id = from;
	forward(world, raft_blob_new("nonsense", 8), RAFT_ENTRY_DATA, ++context);
	forward(world, entry_of(NODE_ENTRY_COMMAND, from, slice_str("nonsense")), RAFT_ENTRY_DATA, ++context);
	forward(world, entry_of(NODE_ENTRY_MEMBER, from, slice_str("nonsense")), RAFT_ENTRY_DATA, ++context);
	forward(world, entry_of(NODE_ENTRY_MEMBER + 1, from, slice_str("")), RAFT_ENTRY_DATA, ++context);
	forward(world, raft_conf_change_encode(&change), RAFT_ENTRY_CONF, ++context);
	/* What only the leader of itself proposes. */
	forward(world, entry_of(NODE_ENTRY_VERSION_SET, from, slice_str("2.3.0")), RAFT_ENTRY_DATA,
		++context);
	store_command_encode(&tick, &bytes);
	forward(world, entry_of(NODE_ENTRY_COMMAND, from, buf_slice(&bytes)), RAFT_ENTRY_DATA, ++context);
	buf_clear(&bytes);
	node_change_encode(&promotion, &bytes);
	change.context = raft_blob_slice(promoting = entry_of(NODE_ENTRY_MEMBER, from, buf_slice(&bytes)));
	forward(world, raft_conf_change_encode(&change), RAFT_ENTRY_CONF, ++context);
	raft_blob_unref(promoting);
	/* A sound one, but another member's. */
	forward(world, entry_of(NODE_ENTRY_ATTRIBUTES, leader, slice_str("")), RAFT_ENTRY_DATA, ++context);
	assert_int_equal(world_status(world, leader).last, last);
	forward(world, entry_of(NODE_ENTRY_ATTRIBUTES, from, slice_str("")), RAFT_ENTRY_DATA, ++context);
	assert_int_equal(world_status(world, leader).applied, last + 1);
	world_free(world);
}

/* Also right after a check of the quorum, when nothing was heard of anybody since. */
static void leadership_can_be_handed_over_at_any_time(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world);

	(void)state;
	latency_ns = 50 * NS_PER_MS;
	world_run(world, 3000);
	for (unsigned ms = 0; ms < 3000; ms++) {
		unsigned active = 0;

		world_run(world, 1);
		for (uint64_t id = 1; id <= 3; id++) {
			struct raft_progress progress;

			if (id != leader) {
				assert_int_equal(
					raft_progress_get(world->members[leader].node->raft, id, &progress),
					0);
				active += progress.active;
			}
		}
		assert_int_equal(active, 2);
	}
	assert_int_equal(node_hand_over(world->members[leader].node), 0);
	world_run(world, 2000);
	assert_int_not_equal(world_leader(world), leader);
	world_free(world);
}

/* A write and a change of the membership, at a follower that lost its connection to the leader. */
static struct world *with_held_requests(uint64_t *ret_follower, struct world_answer *ret_held)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), follower = leader % 3 + 1;
	struct node *node = world->members[follower].node;
	struct node_member_change change = {
		.op = NODE_MEMBER_ADD, .id = 4, .peer_urls = (const char *const *)world->members[4].urls};

	node_peer_state(node, leader, false);
	memset(ret_held, 0, 2 * sizeof(*ret_held));
	world_write(world, follower, "/1/k", &ret_held[0]);
	assert_int_equal(node_propose_member(node, &change, &ret_held[1]), 0);
	world_run(world, 400);
	assert_false(ret_held[0].came); /* here they would have arrived */
	assert_false(ret_held[1].came);
	assert_null(node_member_by_id(node, 4));
	*ret_follower = follower;
	return world;
}

static void requests_at_a_follower_wait_for_the_connection_to_the_leader(void **state)
{
	struct world_answer held[2];
	uint64_t follower;
	struct world *world = with_held_requests(&follower, held);

	(void)state;
	node_peer_state(world->members[follower].node, world_leader(world), true);
	world_run(world, 20);
	for (size_t i = 0; i < 2; i++) {
		assert_true(held[i].came);
		assert_int_equal(held[i].error, NODE_OK);
	}
	world_free(world);
}

static void requests_at_a_follower_go_to_the_next_leader_that_is_connected(void **state)
{
	struct world_answer held[2];
	uint64_t follower, old;
	struct world *world = with_held_requests(&follower, held);

	(void)state;
	old = world_leader(world);
	assert_int_equal(node_transfer_leader(world->members[old].node, 6 - old - follower), 0);
	world_run(world, 100);
	assert_int_equal(world_leader(world), 6 - old - follower);
	for (size_t i = 0; i < 2; i++) {
		assert_true(held[i].came);
		assert_int_equal(held[i].error, NODE_OK);
	}
	world_free(world);
}

static void requests_at_a_follower_do_not_wait_for_ever(void **state)
{
	struct world_answer held[2];
	uint64_t follower;
	struct world *world = with_held_requests(&follower, held);

	(void)state;
	world_run(world, 6000);
	assert_false(held[0].came);
	world_run(world, 2000);
	for (size_t i = 0; i < 2; i++) {
		assert_true(held[i].came);
		assert_int_equal(held[i].error, NODE_ERROR_CONNECTION_LOST);
	}
	/* And they have no effect afterwards. */
	node_peer_state(world->members[follower].node, world_leader(world), true);
	world_run(world, 1000);
	assert_null(node_member_by_id(world->members[follower].node, 4));
	world_free(world);
}

/* Nobody commits, and the leader has taken what it may: it refuses what is forwarded to it, all of its bytes.
 */
static void what_a_full_leader_refuses_is_not_sent_again_and_again(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world);

	(void)state;
	wrote = 0;
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_ns = 4 * NS_PER_S;
	for (unsigned i = 0; i < 60; i++) {
		write_large(world, (leader + 2 + i / 20) % 3 + 1, 1000000); /* the leader first */
		world_run(world, 1);
	}
	narrow.to = leader;
	world_run(world, 3000);
	assert_int_equal(world_leader(world), leader);
	assert_in_range(narrow.sent_bytes, 2000000, 20000000);
	assert_in_range(wal_batch_bytes(world->members[leader].node->wal), 4000000, 10000000);
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_ns = NS_PER_MS;
	narrow.to = 0;
	world_run(world, 3500);
	for (unsigned i = 0; i < 60; i++) {
		assert_true(answers[i].came);
		assert_int_equal(answers[i].error, NODE_OK);
	}
	world_free(world);
}

/* Whatever was refused meanwhile. */
static void assert_in_order(const struct node *node)
{
	uint64_t last = 0;

	list_for_each (it, &node->queue) {
		const struct pending *pending = list_item(it, struct pending, queue_link);

		assert_true(pending->sequence > last);
		last = pending->sequence;
	}
}

/* More is asked for at each member than the leader's disk takes, again as soon as it is answered. */
static void no_member_is_refused_for_ever(void **state)
{
	enum { CLIENTS = 13, SECONDS = 7 };
	static struct world_answer under_way[4][CLIENTS];
	static unsigned since[4][CLIENTS];
	struct world *world = cluster_of_three();
	unsigned slowest = 0;

	(void)state;
	world->members[world_leader(world)].disk_ns = 300 * NS_PER_MS;
	for (unsigned ms = 0; ms < SECONDS * 1000; ms++) {
		for (unsigned i = 0; i < 3 * CLIENTS; i++) {
			uint64_t id = i / CLIENTS + 1;
			struct world_answer *answer = &under_way[id][i % CLIENTS];

			slowest = MAX(slowest, ms - since[id][i % CLIENTS]);
			if (ms && !answer->came)
				continue;
			assert_int_equal(answer->error, NODE_OK);
			since[id][i % CLIENTS] = ms;
			*answer = (struct world_answer){0};
			assert_int_equal(world_propose(world, id, STORE_OP_SET, "/1/k", 580000, answer), 0);
		}
		world_run(world, 1);
		for (uint64_t id = 1; id <= 3; id++)
			assert_in_order(world->members[id].node);
	}
	assert_in_range(slowest, 300, 4000);
	world_free(world);
}

static void what_only_a_leader_proposes_goes_with_its_leadership(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world), follower = leader % 3 + 1;
	struct node *node = world->members[follower].node;

	(void)state;
	node_peer_state(node, leader, false);
	node_propose_internal(node, NODE_VERSION, NODE_ENTRY_VERSION_SET, slice_str("2.3.0"));
	node_propose_internal(node, NODE_TICK, NODE_ENTRY_COMMAND, slice_str("never looked at"));
	node_propose_internal(node, NODE_PUBLISH, NODE_ENTRY_VERSION_SET, slice_str("2.3.0"));
	world_run(world, 1);
	assert_int_equal(world_status(world, follower).pending_count, 1);
	assert_null(node->under_way[NODE_VERSION]);
	assert_null(node->under_way[NODE_TICK]);
	assert_non_null(node->under_way[NODE_PUBLISH]);
	world_free(world);
}

/* Who leads again may have forgotten why: a member that was caught up then may not be any more. */
static void what_a_leader_proposed_in_an_earlier_term_is_not_proposed_again(void **state)
{
	struct world *world = cluster_of_three();
	uint64_t leader = world_leader(world);
	struct node *node = world->members[leader].node;

	(void)state;
	world->members[leader].lonely = true;
	node_propose_internal(node, NODE_VERSION, NODE_ENTRY_VERSION_SET, slice_str("2.3.0"));
	node_propose_internal(node, NODE_PUBLISH, NODE_ENTRY_ATTRIBUTES, slice_str(""));
	world_run(world, 1);
	assert_true(node->under_way[NODE_VERSION]->sent && node->under_way[NODE_PUBLISH]->sent);
	node_proposals_lost_before(node, node->status.term + 1);
	assert_null(node->under_way[NODE_VERSION]);
	assert_false(node->under_way[NODE_PUBLISH]->sent);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(follower_behind_a_narrow_link_is_sent_everything_once),
		cmocka_unit_test(learner_behind_a_narrow_link_is_promoted),
		cmocka_unit_test(reads_do_not_make_a_follower_be_sent_more),
		cmocka_unit_test(reads_of_one_turn_take_one_round),
		cmocka_unit_test(reads_do_not_make_appends_be_asked_for),
		cmocka_unit_test(connections_of_others_open_no_window),
		cmocka_unit_test(lost_question_of_a_read_is_not_missed),
		cmocka_unit_test(reads_without_an_answer_do_not_add_up),
		cmocka_unit_test(follower_whose_disk_hangs_is_sent_its_window),
		cmocka_unit_test(follower_whose_disk_is_full_is_not_sent_everything_again),
		cmocka_unit_test(follower_takes_no_more_than_it_can_write),
		cmocka_unit_test(member_whose_disk_lost_entries_says_so),
		cmocka_unit_test(what_nobody_can_apply_does_not_get_into_the_log),
		cmocka_unit_test(leadership_can_be_handed_over_at_any_time),
		cmocka_unit_test(requests_at_a_follower_wait_for_the_connection_to_the_leader),
		cmocka_unit_test(requests_at_a_follower_go_to_the_next_leader_that_is_connected),
		cmocka_unit_test(requests_at_a_follower_do_not_wait_for_ever),
		cmocka_unit_test(what_a_full_leader_refuses_is_not_sent_again_and_again),
		cmocka_unit_test(no_member_is_refused_for_ever),
		cmocka_unit_test(what_only_a_leader_proposes_goes_with_its_leadership),
		cmocka_unit_test(what_a_leader_proposed_in_an_earlier_term_is_not_proposed_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
