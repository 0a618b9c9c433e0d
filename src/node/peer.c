/* Messages between members, and the comparing of states. Every message carries the sender's newest state hash
 * at an index that is a multiple of NODE_HASH_INTERVAL, and the newest on which the sender knows a majority
 * to agree: followers talk only to the leader, so it is the leader who learns what the majority has, and
 * tells the others. A member whose own hash differs from the majority's stops before it serves more of a
 * wrong state. */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

static size_t slot_of(uint64_t index)
{
	return (index / NODE_HASH_INTERVAL) % NODE_HASHES_KEPT;
}

/* How many voters are known to have this hash at this index, this one included. */
static size_t count_agreeing(const struct node *node, uint64_t index, uint64_t hash)
{
	const struct raft_conf *conf = raft_conf_get(node->raft);
	size_t slot = slot_of(index), count = 0;

	for (size_t i = 0; i < node->members_len; i++) {
		const struct member *member = &node->members[i];
		bool own = member->view.id == node->id;
		const uint64_t *indices = own ? node->hash_index : member->hash_index;
		const uint64_t *hashes = own ? node->hash : member->hash;

		count += indices[slot] == index && hashes[slot] == hash &&
			 raft_set_has(&conf->voters, member->view.id);
	}
	return count;
}

static void check_agreed(struct node *node, uint64_t index)
{
	size_t slot = slot_of(index);

	if (node->hash_index[slot] != index || node->agreed_index[slot] != index ||
		node->hash[slot] == node->agreed_hash[slot])
		return;
	(void)node_fail(node,
		"the state of this member differs from the majority's at log index %" PRIu64 " (%016" PRIx64
		" here, %016" PRIx64
		" there): stopped; remove the member and add it again with an empty data directory",
		index, node->hash[slot], node->agreed_hash[slot]);
}

static void agree(struct node *node, uint64_t index, uint64_t hash)
{
	size_t slot = slot_of(index);

	if (index <= node->agreed_index[slot])
		return;
	node->agreed_index[slot] = index;
	node->agreed_hash[slot] = hash;
	node->agreed_newest = MAX(node->agreed_newest, index);
	check_agreed(node, index);
}

static void heard(struct node *node, uint64_t index, uint64_t hash)
{
	/* What is applied again at start was agreed on by other memberships. */
	if (node->phase == NODE_PHASE_RUNNING &&
		count_agreeing(node, index, hash) >= raft_conf_get(node->raft)->voters.count / 2 + 1)
		agree(node, index, hash);
}

void node_hash_reached(struct node *node, uint64_t index)
{
	size_t slot = slot_of(index);

	node->hash_index[slot] = index;
	node->hash[slot] = store_hash(node->store);
	node->hash_newest = index;
	heard(node, index, node->hash[slot]);
	check_agreed(node, index);
}

static void take_hashes(struct node *node, struct member *member, const struct node_envelope *envelope)
{
	uint64_t index = envelope->hash_index;
	size_t slot = slot_of(index);

	if (envelope->agreed_index && envelope->agreed_index % NODE_HASH_INTERVAL == 0)
		agree(node, envelope->agreed_index, envelope->agreed_hash);
	if (!index || index % NODE_HASH_INTERVAL || index <= member->hash_index[slot])
		return;
	member->hash_index[slot] = index;
	member->hash[slot] = envelope->hash;
	heard(node, index, envelope->hash);
}

static void append_sent(struct node *node, const struct raft_message *message)
{
	struct member *member = node_member_find(node, message->to);

	if (!member || message->type != RAFT_MSG_APPEND || !message->entry_count ||
		(member->timed_index && member->timed_term == message->term))
		return;
	member->timed_index = message->index + message->entry_count;
	member->timed_term = message->term;
	member->timed_ns = node_mono(node);
}

static void append_answered(
	const struct node *node, struct member *member, const struct raft_message *message)
{
	struct node_follower *follower = &member->follower;
	double ms;

	if (node->status.role != RAFT_LEADER || message->type != RAFT_MSG_APPEND_RES || message->reject)
		return;
	follower->answered++;
	if (!member->timed_index || member->timed_term != message->term ||
		message->index < member->timed_index)
		return;
	member->timed_index = 0;
	ms = (double)(node_mono(node) - member->timed_ns) / (double)NS_PER_MS;
	follower->min_ms = follower->samples ? MIN(follower->min_ms, ms) : ms;
	follower->max_ms = MAX(follower->max_ms, ms);
	follower->latest_ms = ms;
	follower->sum_ms += ms;
	follower->sum_squares += ms * ms;
	follower->samples++;
}

void node_append_lost(struct member *member)
{
	member->follower.lost += member->timed_index != 0;
	member->timed_index = 0;
}

bool node_get_follower(const struct node *node, uint64_t id, struct node_follower *ret_follower)
{
	const struct member *member = node_member_find(node, id);

	if (!member)
		return false;
	*ret_follower = member->follower;
	return true;
}

/* The empty appends too: one that overtook those with entries would be refused, and all of them be sent
 * again. */
static bool is_bulk(const struct raft_message *message)
{
	return message->type == RAFT_MSG_APPEND || message->entry_count > 0;
}

static void begin_message(struct node *node, uint64_t to, enum node_envelope_kind kind, int64_t clock_ns)
{
	struct node_envelope envelope = {
		.kind = kind,
		.no_space = node_ends_growth(node),
		.cluster_id = node->cluster_id,
		.from = node->id,
		.to = to,
		.clock_ns = clock_ns,
		.hash_index = node->hash_newest,
		.hash = node->hash[slot_of(node->hash_newest)],
		.agreed_index = node->agreed_newest,
		.agreed_hash = node->agreed_hash[slot_of(node->agreed_newest)],
	};

	buf_clear(&node->send_buf);
	node_envelope_encode(&envelope, &node->send_buf);
}

void node_send(struct node *node, uint64_t to, enum node_envelope_kind kind, struct slice payload, bool bulk)
{
	begin_message(node, to, kind, 0);
	buf_add_slice(&node->send_buf, payload);
	if (buf_error(&node->send_buf) == 0)
		node->env->ops->send(node->env, to, buf_slice(&node->send_buf), bulk);
}

void node_send_messages(struct node *node, const struct raft_message *messages, size_t count)
{
	bool leads = node->status.role == RAFT_LEADER;
	int64_t clock_ns = leads ? node_clock_ns(node) : 0;

	for (size_t i = 0; i < count; i++) {
		begin_message(node, messages[i].to, NODE_ENVELOPE_RAFT, clock_ns);
		raft_message_encode(&messages[i], &node->send_buf);
		if (buf_error(&node->send_buf) < 0) {
			node_note(node, LOG_LEVEL_ERROR,
				"a %s of %zu entries to member %" PRIx64 " is too large to send",
				raft_message_name(messages[i].type), messages[i].entry_count, messages[i].to);
			raft_unreachable(node->raft, messages[i].to);
			continue;
		}
		append_sent(node, &messages[i]);
		node->env->ops->send(
			node->env, messages[i].to, buf_slice(&node->send_buf), is_bulk(&messages[i]));
	}
}

/* Once in a while. */
static bool may_complain(struct node *node)
{
	int64_t now_ns = node_mono(node);

	if (now_ns < node->complain_after_ns)
		return false;
	node->complain_after_ns = now_ns + NODE_COMPLAINT_PAUSE_NS;
	return true;
}

/* A leader tells no member of more than what this one said, in this term, to have on its disk. */
static void look_for_loss(struct node *node, const struct raft_message *message)
{
	struct raft_status status;

	if (message->type != RAFT_MSG_HEARTBEAT)
		return;
	raft_status_get(node->raft, &status);
	if (message->term == status.term && message->commit > status.last_index && may_complain(node))
		node_note(node, LOG_LEVEL_ERROR,
			"the log of this member ends at index %" PRIu64 ", but had entries up to %" PRIu64
			": its disk has lost what it said to have written; they are sent again, check the "
			"disk",
			status.last_index, message->commit);
}

/* Can every member apply what another one forwards? What is in the log once must be applied by all. */
static bool may_be_proposed(struct node *node, const struct raft_message *message)
{
	for (size_t i = 0; i < message->entry_count; i++) {
		if (node_entry_is_sound(&message->entries[i], message->from))
			continue;
		if (may_complain(node))
			node_note(node, LOG_LEVEL_WARNING,
				"member %" PRIx64
				" asks for a log entry that this version does not know: dropped; "
				"do all members run the same version?",
				message->from);
		return false;
	}
	return true;
}

/* There is no room for entries. An empty append goes the same way, since the answer would tell the leader to
 * send its whole window, in vain and again and again; but not one from beyond the log, since its refusal
 * makes the leader offer a checkpoint, which may fit by now. */
static bool is_append_dropped(struct node *node, const struct raft_message *message, size_t bytes)
{
	struct raft_status status;

	if (wal_batch_bytes(node->wal) > NODE_UNWRITTEN_BYTES_MAX)
		return true;
	if (node_space(node) != NODE_SPACE_NONE)
		return message->entry_count && !node_space_for_append(node, bytes);
	raft_status_get(node->raft, &status);
	return message->entry_count || message->index <= status.last_index;
}

/* As if it were lost. */
static bool is_dropped(struct node *node, const struct raft_message *message, size_t bytes)
{
	if (message->type == RAFT_MSG_APPEND)
		return is_append_dropped(node, message, bytes);
	return message->entry_count && !may_be_proposed(node, message);
}

/* Each member has a share of what others forward. Without, those that are answered first would be first again
 * with the next write, and one that was refused would find no room at whatever moment it asks. */
static bool has_share(struct node *node, const struct raft_message *message, size_t bytes)
{
	struct member *member = node_member_find(node, message->from);

	if (!member || !node->log_busy)
		return true;
	if (member->gathered_write != node->log_writes) {
		member->gathered_write = node->log_writes;
		member->gathered_bytes = 0;
	}
	if (member->gathered_bytes && member->gathered_bytes + bytes >
					      NODE_GATHERED_BYTES_MAX / MAX(node->members_len - 1, (size_t)1))
		return false;
	member->gathered_bytes += bytes;
	return true;
}

/* What other members forward waits there, as the leader's own proposals do here; later than those, since it
 * has come a long way. */
static bool must_wait(struct node *node, const struct raft_message *message, size_t bytes)
{
	if (node_log_is_behind(node, 4 * NODE_GATHERED_BYTES_MAX) || node_space(node) == NODE_SPACE_NONE ||
		!has_share(node, message, bytes))
		return true;
	for (size_t i = 0; i < message->entry_count && node_ends_growth(node); i++)
		if (node_entry_grows(&message->entries[i]))
			return true;
	return false;
}

/* What waits in this member's queue would be refused by the leader. */
static void hear_of_space(struct node *node, struct member *member, bool no_space)
{
	bool ends = no_space && !member->no_space && member->view.id == node->status.leader;

	member->no_space = no_space;
	if (ends)
		node_refuse_growth(node);
}

int node_receive(struct node *node, uint64_t from, struct slice bytes)
{
	struct node_envelope envelope;
	struct raft_message message;
	struct raft_status status;
	struct member *member;

	if (node->failure || node->phase != NODE_PHASE_RUNNING)
		return 0;
	if (bytes.len > NODE_MESSAGE_MAX || node_envelope_decode(bytes, &envelope) < 0)
		return -EBADMSG;
	if (envelope.cluster_id != node->cluster_id || envelope.from != from || envelope.to != node->id ||
		from == node->id)
		return -EBADMSG;
	if (node_was_removed(node, from))
		return 0;
	member = node_member_find(node, from);
	if (member)
		hear_of_space(node, member, envelope.no_space);
	if (envelope.kind == NODE_ENVELOPE_CHECKPOINT) {
		node_transfer_receive(node, &envelope);
		return 0;
	}
	if (raft_message_decode(envelope.payload, &message) < 0)
		return -EBADMSG;
	if (message.from == from && message.to == node->id && !is_dropped(node, &message, bytes.len)) {
		look_for_loss(node, &message);
		if (message.type == RAFT_MSG_PROPOSE)
			message.reject = must_wait(node, &message, bytes.len);
		raft_step(node->raft, &message);
		raft_status_get(node->raft, &status);
		if (envelope.clock_ns && status.leader == from && message.term == status.term)
			node_clock_adopt(node, from, status.term, envelope.clock_ns, node_mono(node));
		member = node_member_find(node, from);
		if (member) {
			append_answered(node, member, &message);
			take_hashes(node, member, &envelope);
		}
	}
	raft_message_done(&message);
	return 0;
}
