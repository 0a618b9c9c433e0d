/* Messages between members, and the comparing of states: every message carries the sender's newest state hash
 * at an index that is a multiple of NODE_HASH_INTERVAL. Each member keeps a few of its own and of each other
 * member's. When a majority of all members agrees on a hash that differs from the own at the same index, this
 * member's state is wrong: it stops before it serves more of it. */
#include "node/internal.h"
#include <inttypes.h>

static uint64_t own_hash(const struct node *node, uint64_t index)
{
	return node->hash[(index / NODE_HASH_INTERVAL) % NODE_HASHES_KEPT];
}

static bool has_hash(const uint64_t *indices, uint64_t index)
{
	return indices[(index / NODE_HASH_INTERVAL) % NODE_HASHES_KEPT] == index;
}

static void compare_hashes(struct node *node, uint64_t index)
{
	size_t slot = (index / NODE_HASH_INTERVAL) % NODE_HASHES_KEPT, quorum = node->members_len / 2 + 1;

	if (!index || !has_hash(node->hash_index, index))
		return;
	for (size_t i = 0; i < node->members_len; i++) {
		size_t agree = 0;
		uint64_t theirs = node->members[i].hash[slot];

		if (node->members[i].view.id == node->id || !has_hash(node->members[i].hash_index, index) ||
			theirs == own_hash(node, index))
			continue;
		for (size_t j = 0; j < node->members_len; j++)
			agree += node->members[j].view.id != node->id &&
				 has_hash(node->members[j].hash_index, index) &&
				 node->members[j].hash[slot] == theirs;
		if (agree >= quorum) {
			(void)node_fail(node,
				"the state of this member differs from the majority's at log index %" PRIu64
				" (%016" PRIx64 " here, %016" PRIx64
				" there): stopped; remove the member and add it again with an empty data "
				"directory",
				index, own_hash(node, index), theirs);
			return;
		}
	}
}

void node_hash_reached(struct node *node, uint64_t index)
{
	size_t slot = (index / NODE_HASH_INTERVAL) % NODE_HASHES_KEPT;

	node->hash_index[slot] = index;
	node->hash[slot] = store_hash(node->store);
	node->hash_newest = index;
	compare_hashes(node, index);
}

static void hash_heard(struct node *node, struct member *member, uint64_t index, uint64_t hash)
{
	size_t slot = (index / NODE_HASH_INTERVAL) % NODE_HASHES_KEPT;

	if (!index || index % NODE_HASH_INTERVAL || index < member->hash_index[slot])
		return;
	if (member->hash_index[slot] == index && member->hash[slot] == hash)
		return;
	member->hash_index[slot] = index;
	member->hash[slot] = hash;
	compare_hashes(node, index);
}

static bool is_bulk(const struct raft_message *message)
{
	return message->entry_count > 0;
}

void node_send_messages(struct node *node, const struct raft_message *messages, size_t count)
{
	bool leads = node->status.role == RAFT_LEADER;
	int64_t clock_ns = leads ? node_clock_ns(node) : 0;

	for (size_t i = 0; i < count; i++) {
		struct node_envelope envelope = {
			.cluster_id = node->cluster_id,
			.from = node->id,
			.to = messages[i].to,
			.clock_ns = clock_ns,
			.hash_index = node->hash_newest,
			.hash = node->hash_newest ? own_hash(node, node->hash_newest) : 0,
		};

		buf_clear(&node->send_buf);
		node_envelope_encode(&envelope, &node->send_buf);
		raft_message_encode(&messages[i], &node->send_buf);
		if (buf_error(&node->send_buf) < 0) {
			node_note(node, LOG_LEVEL_ERROR,
				"a %s of %zu entries to member %" PRIx64 " is too large to send",
				raft_message_name(messages[i].type), messages[i].entry_count, messages[i].to);
			raft_unreachable(node->raft, messages[i].to);
			continue;
		}
		node->env->ops->send(
			node->env, messages[i].to, buf_slice(&node->send_buf), is_bulk(&messages[i]));
	}
}

void node_receive(struct node *node, uint64_t from, struct slice bytes)
{
	struct node_envelope envelope;
	struct raft_message message;
	struct raft_status status;
	struct member *member;

	if (node->failure || node->phase != NODE_PHASE_RUNNING || bytes.len > NODE_MESSAGE_MAX ||
		node_envelope_decode(bytes, &envelope) < 0)
		return;
	if (envelope.cluster_id != node->cluster_id || envelope.from != from || envelope.to != node->id ||
		from == node->id)
		return;
	if (raft_message_decode(envelope.payload, &message) < 0)
		return;
	if (message.from == from && message.to == node->id) {
		raft_step(node->raft, &message);
		raft_status_get(node->raft, &status);
		if (envelope.clock_ns && status.leader == from && message.term == status.term)
			node_clock_adopt(node, from, status.term, envelope.clock_ns, node_mono(node));
		member = node_member_find(node, from);
		if (member)
			hash_heard(node, member, envelope.hash_index, envelope.hash);
	}
	raft_message_done(&message);
}
