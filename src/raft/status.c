/* What can be seen of the machine from outside, and what must always hold inside. */
#include "raft/internal.h"
#include <errno.h>

const char *raft_role_name(enum raft_role role)
{
	static const char *const names[RAFT_ROLE_MAX] = {"follower", "precandidate", "candidate", "leader"};

	return role < RAFT_ROLE_MAX ? names[role] : "unknown";
}

const char *raft_progress_state_name(enum raft_progress_state state)
{
	static const char *const names[RAFT_PROGRESS_STATE_MAX] = {"probe", "replicate", "snapshot"};

	return state < RAFT_PROGRESS_STATE_MAX ? names[state] : "unknown";
}

void raft_status_get(const struct raft *raft, struct raft_status *ret_status)
{
	*ret_status = (struct raft_status){
		.id = raft->options.id,
		.term = raft->term,
		.vote = raft->vote,
		.leader = raft->leader,
		.role = raft->role,
		.first_index = raft->log.snapshot_index + 1,
		.last_index = raft->log.last,
		.last_term = raft_log_last_term(&raft->log),
		.commit = raft->commit,
		.applied = raft->applied,
		.persisted = raft->persisted,
		.commit_persisted = raft->commit_persisted,
		.transfer_to = raft->transfer_to,
		.uncommitted_bytes = raft->role == RAFT_LEADER ? raft->uncommitted_bytes : 0,
		.cached_bytes = raft->log.cached_bytes,
	};
}

const struct raft_conf *raft_conf_get(const struct raft *raft)
{
	return &raft->conf;
}

int raft_progress_get(const struct raft *raft, uint64_t id, struct raft_progress *ret_progress)
{
	if (raft->role != RAFT_LEADER)
		return -ENOENT;
	for (size_t i = 0; i < raft->peer_count; i++) {
		const struct raft_peer *peer = &raft->peers[i];
		bool self = id == raft->options.id;

		if (peer->id != id)
			continue;
		*ret_progress = (struct raft_progress){
			.id = id,
			.match = self ? raft->persisted : peer->match,
			.next = self ? raft->log.last + 1 : peer->next,
			.state = self ? RAFT_REPLICATE : peer->state,
			.active = self || peer->active || peer->was_active,
			.window_bytes = peer->window_bytes,
			.window_messages = peer->window_count,
		};
		return 0;
	}
	return -ENOENT;
}

uint64_t raft_term_of(const struct raft *raft, uint64_t index)
{
	return raft_log_term(&raft->log, index);
}

static void check_peer(const struct raft *raft, const struct raft_peer *peer)
{
	assert(peer->match < peer->next && peer->next <= raft->log.last + 1);
	assert(peer->state == RAFT_REPLICATE || !peer->window_count);
	assert(peer->window_count <= raft->options.window_messages_max);
	assert(peer->window_count || !peer->window_bytes);
}

void raft_assert_invariants(const struct raft *raft)
{
	const struct raft_log *log = &raft->log;

	assert(log->snapshot_index <= raft->applied && raft->applied <= raft->applying);
	assert(raft->applying <= raft->commit && raft->commit <= log->last);
	assert(raft->persisted <= log->last && raft->persisted < raft->unstable &&
		raft->unstable <= log->last + 1);
	assert(log->cache_first > log->snapshot_index && log->cache_first <= log->last + 1);
	assert(log->cache_first <= raft->unstable);
	assert(raft->term >= raft_log_last_term(log));
	assert(raft->write_done < raft->write_next);
	assert((raft->role == RAFT_LEADER) == (raft->leader == raft->options.id));
	if (raft->role == RAFT_LEADER) {
		assert(raft_log_last_term(log) == raft->term && raft->led_term == raft->term);
		assert(raft->term == raft_log_term(log, log->last));
		for (size_t i = 0; i < raft->peer_count; i++) {
			if (raft->peers[i].id != raft->options.id)
				check_peer(raft, &raft->peers[i]);
		}
	} else {
		assert(!raft->transfer_to && !raft->reads_early.count);
	}
}

void raft_check(struct raft *raft)
{
	raft_assert_invariants(raft);
	/* Something happened: what waited for the owner to read its log may be there now. */
	raft->apply_wait = false;
	if (raft->log_wait) {
		raft->log_wait = false;
		raft->send_due = true;
	}
}
