/* How it works: here messages come in. First the term decides (thesis 3.3): a higher one makes this member a
 * follower of it, a lower one is answered so that its sender learns of the change, or dropped. Then the
 * follower's side of replication: an append is taken when the entry before it matches, conflicting entries
 * give way, and the answer waits until everything is on disk. A member does not trust that its peers are
 * sound: what cannot be right is dropped. */
#include "raft/internal.h"
#include <errno.h>

/* How far a message's term may be ahead: each term takes an election, so no true one ever is. */
#define TERM_LEAP_MAX (UINT64_C(1) << 32)

static void handle_append(struct raft *raft, const struct raft_message *message)
{
	struct raft_log *log = &raft->log;
	uint64_t last = message->index + message->entry_count, hint;
	struct raft_message answer = {
		.type = RAFT_MSG_APPEND_RES, .to = message->from, .index = message->index};

	if (message->index < raft->commit) {
		answer.index = raft->commit;
		raft_send_durable(raft, answer);
		return;
	}
	if (message->index > log->last || raft_log_term(log, message->index) != message->log_term) {
		hint = raft_log_find(log, MIN(message->index, log->last), message->log_term);
		answer.reject = true;
		answer.hint_index = hint;
		answer.hint_term = raft_log_term(log, hint);
		raft_send(raft, answer);
		return;
	}
	for (size_t i = 0; i < message->entry_count; i++) {
		const struct raft_entry *entry = &message->entries[i];

		if (entry->index <= log->last) {
			if (raft_log_term(log, entry->index) == entry->term)
				continue;
			raft_truncate(raft, entry->index);
		}
		raft_log_append(log, entry);
	}
	raft_commit_to(raft, MIN(message->commit, last));
	answer.index = last;
	raft_send_durable(raft, answer);
}

static void handle_heartbeat(struct raft *raft, const struct raft_message *message)
{
	/* The leader never tells of more than what this member confirmed to have. */
	if (message->commit <= raft->log.last)
		raft_commit_to(raft, message->commit);
	if (message->type == RAFT_MSG_HEARTBEAT)
		raft_send(raft, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RES,
					.to = message->from,
					.context = message->context});
}

static bool from_leader(const struct raft_message *message)
{
	return message->type == RAFT_MSG_APPEND || message->type == RAFT_MSG_HEARTBEAT ||
	       message->type == RAFT_MSG_COMMIT;
}

/* A term that was damaged on its way, or made up, would be followed and written down, and near the end of all
 * terms nobody could ever be elected again. */
static bool is_out_of_reach(const struct raft *raft, uint64_t term)
{
	return term > UINT64_MAX / 2 || (term > raft->term && term - raft->term > TERM_LEAP_MAX);
}

static bool makes_sense(const struct raft *raft, const struct raft_message *message)
{
	uint64_t term = message->log_term;

	if (message->type >= RAFT_MSG_TYPE_MAX || !message->term || !message->from ||
		message->to != raft->options.id || message->from == raft->options.id)
		return false;
	if (is_out_of_reach(raft, message->term))
		return false;
	if (message->type != RAFT_MSG_APPEND)
		return true;
	if (message->index > UINT64_MAX / 2 || message->entry_count > RAFT_MESSAGE_ENTRIES_MAX ||
		term > message->term)
		return false;
	for (size_t i = 0; i < message->entry_count; i++) {
		const struct raft_entry *entry = &message->entries[i];

		if (entry->index != message->index + 1 + i || entry->term < term || !entry->term ||
			entry->term > message->term)
			return false;
		/* What is committed is the same everywhere for ever. */
		if (entry->index > raft->log.snapshot_index && entry->index <= raft->commit &&
			raft_log_term(&raft->log, entry->index) != entry->term)
			return false;
		term = entry->term;
	}
	return true;
}

/* Brings the terms together. False: the message is done with. */
static bool step_term(struct raft *raft, const struct raft_message *message)
{
	bool asks = message->type == RAFT_MSG_VOTE || message->type == RAFT_MSG_PREVOTE;

	if (message->term > raft->term) {
		if (asks && !message->transfer && raft_sticks_to_leader(raft))
			return false;
		if (message->type == RAFT_MSG_PREVOTE ||
			(message->type == RAFT_MSG_PREVOTE_RES && !message->reject))
			return true;
		raft_become_follower(raft, message->term, from_leader(message) ? message->from : 0);
		return true;
	}
	if (message->term == raft->term)
		return true;
	/* A leader of the past steps down at this answer; without it a member that came back with a higher
	 * term could neither be reached nor win (thesis 9.6 leaves this case open). Not before the term is on
	 * the disk: until then this member can ask for no votes, and nobody would lead. */
	if (from_leader(message))
		raft_send_durable(
			raft, (struct raft_message){.type = RAFT_MSG_APPEND_RES, .to = message->from});
	else if (message->type == RAFT_MSG_PREVOTE)
		raft_send(raft, (struct raft_message){
					.type = RAFT_MSG_PREVOTE_RES, .to = message->from, .reject = true});
	else if (message->type == RAFT_MSG_PREVOTE_RES || message->type == RAFT_MSG_VOTE_RES)
		raft_learn_commit(raft, message); /* that does not depend on the term */
	return false;
}

static void step_from_leader(struct raft *raft, const struct raft_message *message)
{
	if (raft->role == RAFT_LEADER)
		return; /* two leaders in a term cannot be: someone lies */
	if (raft->role != RAFT_FOLLOWER || raft->leader != message->from)
		raft_become_follower(raft, message->term, message->from);
	raft->elapsed = 0;
	raft->suspicious = false;
	if (message->type == RAFT_MSG_APPEND)
		handle_append(raft, message);
	else
		handle_heartbeat(raft, message);
}

static void step_peer(struct raft *raft, struct raft_peer *peer, const struct raft_message *message)
{
	bool leads = raft->role == RAFT_LEADER;

	switch (message->type) {
	case RAFT_MSG_APPEND_RES:
		if (leads)
			raft_handle_append_res(raft, peer, message);
		break;
	case RAFT_MSG_HEARTBEAT_RES:
		if (leads)
			raft_handle_heartbeat_res(raft, peer, message);
		break;
	case RAFT_MSG_READ:
		raft_handle_read(raft, message);
		break;
	case RAFT_MSG_READ_RES:
		raft_handle_read_res(raft, message);
		break;
	case RAFT_MSG_PROPOSE:
		raft_handle_propose(raft, peer, message);
		break;
	case RAFT_MSG_PROPOSE_RES:
		if (raft->role == RAFT_FOLLOWER && message->from == raft->leader) {
			raft_reserve(raft->refused.items, raft->refused.count, raft->refused.cap);
			raft->refused.items[raft->refused.count++] = message->context;
		}
		break;
	default:
		raft_handle_vote_res(raft, message);
		break;
	}
}

/* The leader may be a member no longer: one that was removed asks for its successor's campaign. */
static void step_timeout_now(struct raft *raft, const struct raft_message *message)
{
	if (raft->role == RAFT_FOLLOWER && message->from == raft->leader)
		raft_start_campaign(raft, true);
}

void raft_step(struct raft *raft, const struct raft_message *message)
{
	struct raft_peer *peer;

	if (!makes_sense(raft, message))
		return;
	if (!step_term(raft, message)) {
		raft_check(raft);
		return;
	}
	peer = raft_peer(raft, message->from);
	if (from_leader(message))
		step_from_leader(raft, message);
	else if (message->type == RAFT_MSG_VOTE || message->type == RAFT_MSG_PREVOTE)
		raft_handle_vote(raft, message);
	else if (message->type == RAFT_MSG_TIMEOUT_NOW)
		step_timeout_now(raft, message);
	else if (peer)
		step_peer(raft, peer, message);
	raft_check(raft);
}

int raft_snapshot_install(struct raft *raft, uint64_t from, uint64_t leader_term, uint64_t index,
	uint64_t term, const struct raft_conf *conf)
{
	if (leader_term < raft->term || index <= raft->commit || term > leader_term ||
		raft->role == RAFT_LEADER)
		return -ESTALE;
	raft_become_follower(raft, leader_term, from);
	if (index <= raft->log.last && raft_log_term(&raft->log, index) == term) {
		/* What is behind it may have been confirmed to the leader: it stays. */
		raft_log_compact(&raft->log, index);
		raft->persisted = MAX(raft->persisted, index);
		raft->unstable = MAX(raft->unstable, index + 1);
	} else {
		raft_log_reset(&raft->log, index, term);
		raft->persisted = index;
		raft->unstable = index + 1;
		for (size_t i = 0; i < raft->write_count; i++)
			raft->writes[i].last = 0;
	}
	raft->commit = raft->applied = raft->applying = index;
	raft->commit_persisted = MAX(raft->commit_persisted, index);
	raft_set_conf(raft, conf);
	raft_send_durable(
		raft, (struct raft_message){.type = RAFT_MSG_APPEND_RES, .to = from, .index = index});
	raft_check(raft);
	return 0;
}
