/* How it works: a follower that hears of no leader for its (random) timeout asks first whether it could win
 * (pre-vote, thesis 9.6), without touching its term, so that a member coming back from a partition disturbs
 * nobody; only a majority of yes lets it raise the term and campaign (3.4). Whoever hears from a leader
 * ignores both kinds of question (4.2.3), unless the leader itself asked for the transfer (3.10). The own
 * vote counts when it is on disk, like any other. Questions and answers also tell what is committed:
 * membership takes effect when it is applied, so a member that has a committed change in its log but does not
 * know it to be committed might otherwise wait for ever for the vote of one that the change removed. */
#include "raft/internal.h"

static void reset_timeout(struct raft *raft)
{
	uint32_t jitter = raft->options.election_jitter_ticks;

	raft->timeout = raft->options.election_ticks + (uint32_t)rng_below(&raft->rng, jitter);
	raft->elapsed = 0;
	raft->heartbeat_elapsed = 0;
	raft->suspicious = false;
	raft->yielded = false;
}

static void set_term(struct raft *raft, uint64_t term, uint64_t vote)
{
	assert(term > raft->term);
	raft->term = term;
	raft->vote = vote;
	raft->hard_state_dirty = true;
	for (size_t i = 0; i < raft->peer_count; i++) {
		raft->peers[i].forward_newest = 0;
		raft->peers[i].forward_bits = 0;
	}
}

void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader)
{
	assert(term >= raft->term);
	if (term > raft->term || leader != raft->leader || raft->role == RAFT_LEADER)
		raft_reads_drop(raft);
	/* A vote request alone gives nobody time: only a leader, or stepping down, starts the timeout anew.
	 */
	if (leader || raft->role != RAFT_FOLLOWER)
		reset_timeout(raft);
	if (term > raft->term)
		set_term(raft, term, 0);
	raft->role = RAFT_FOLLOWER;
	raft->leader = leader;
	raft->transfer_to = 0;
	raft->campaign_due = false;
}

bool raft_may_lead(const struct raft *raft)
{
	return raft_conf_is_voter(&raft->conf, raft->options.id);
}

/* A membership change that is committed but not applied here: the own idea of a majority may be out of date.
 */
static bool conf_unapplied(const struct raft *raft)
{
	if (raft->applied >= raft->commit)
		return false;
	if (raft->applied + 1 < raft->log.cache_first)
		return true;
	for (uint64_t i = raft->applied + 1; i <= raft->commit; i++) {
		if (raft_log_at(&raft->log, i)->type == RAFT_ENTRY_CONF)
			return true;
	}
	return false;
}

static void clear_votes(struct raft *raft)
{
	for (size_t i = 0; i < raft->peer_count; i++)
		raft->peers[i].voted = raft->peers[i].granted = false;
}

static void vote_for_self(struct raft *raft)
{
	struct raft_peer *self = raft_peer(raft, raft->options.id);

	self->voted = self->granted = true;
}

/* Asks all voters that have not answered yet. Asked again at the heartbeat interval: a lost question must not
 * cost a whole election timeout. */
void raft_request_votes(struct raft *raft)
{
	bool pre = raft->role == RAFT_PRECANDIDATE;

	for (size_t i = 0; i < raft->peer_count; i++) {
		const struct raft_peer *peer = &raft->peers[i];
		struct raft_message message = {
			.type = pre ? RAFT_MSG_PREVOTE : RAFT_MSG_VOTE,
			.to = peer->id,
			.term = raft->term + (pre ? 1 : 0),
			.index = raft->log.last,
			.log_term = raft_log_last_term(&raft->log),
			.transfer = raft->campaign_transfer,
			.commit = raft->commit,
			.hint_term = raft_log_term(&raft->log, raft->commit),
		};

		if (peer->id == raft->options.id || peer->voted || !raft_conf_is_voter(&raft->conf, peer->id))
			continue;
		if (pre)
			raft_send(raft, message);
		else
			raft_send_durable(raft, message);
	}
}

void raft_elect(struct raft *raft)
{
	raft_reads_drop(raft);
	set_term(raft, raft->term + 1, raft->options.id);
	raft->role = RAFT_CANDIDATE;
	raft->leader = 0;
	reset_timeout(raft);
	clear_votes(raft);
	raft->self_vote_write = raft_pending_write(raft);
	raft_request_votes(raft);
}

void raft_start_campaign(struct raft *raft, bool transfer)
{
	/* One that is asked for waits until the change is applied: a leader that removed itself asks before.
	 */
	raft->campaign_due = transfer && raft->role == RAFT_FOLLOWER && conf_unapplied(raft);
	if (raft->role == RAFT_LEADER || !raft_may_lead(raft) || conf_unapplied(raft))
		return;
	raft->campaign_transfer = transfer;
	if (transfer) {
		raft_elect(raft);
		return;
	}
	raft_reads_drop(raft);
	raft->role = RAFT_PRECANDIDATE;
	raft->leader = 0;
	reset_timeout(raft);
	clear_votes(raft);
	vote_for_self(raft);
	raft_request_votes(raft);
	raft_count_votes(raft);
}

enum outcome { OPEN, WON, LOST };

static enum outcome tally(struct raft *raft, const struct raft_set *set)
{
	uint32_t granted = 0, refused = 0, majority = set->count / 2 + 1;

	if (!set->count)
		return WON;
	for (uint32_t i = 0; i < set->count; i++) {
		const struct raft_peer *peer = raft_peer(raft, set->ids[i]);

		granted += peer->voted && peer->granted;
		refused += peer->voted && !peer->granted;
	}
	if (granted >= majority)
		return WON;
	return set->count - refused < majority ? LOST : OPEN;
}

void raft_count_votes(struct raft *raft)
{
	enum outcome voters, outgoing;

	if (raft->role == RAFT_CANDIDATE && raft->self_vote_write <= raft->write_done)
		vote_for_self(raft);
	voters = tally(raft, &raft->conf.voters);
	outgoing = tally(raft, &raft->conf.outgoing);
	if (voters == LOST || outgoing == LOST)
		raft_become_follower(raft, raft->term, 0);
	else if (voters == WON && outgoing == WON && raft->role == RAFT_PRECANDIDATE)
		raft_elect(raft);
	else if (voters == WON && outgoing == WON)
		raft_lead(raft);
}

bool raft_sticks_to_leader(const struct raft *raft)
{
	if (raft->role == RAFT_LEADER)
		return true;
	return raft->leader && !raft->suspicious && raft->elapsed < raft->options.election_ticks;
}

void raft_suspect(struct raft *raft, uint64_t id)
{
	uint32_t wait = 2 * raft->options.heartbeat_ticks;

	if (raft->role != RAFT_FOLLOWER || raft->leader != id)
		return;
	raft->suspicious = true;
	wait += (uint32_t)rng_below(&raft->rng, wait);
	if (raft->timeout > wait)
		raft->elapsed = MAX(raft->elapsed, raft->timeout - wait);
	raft_check(raft);
}

/* Thesis 3.6.1: a vote only for a log at least as complete as the own one. */
static bool up_to_date(const struct raft *raft, const struct raft_message *message)
{
	uint64_t term = raft_log_last_term(&raft->log);

	return message->log_term > term || (message->log_term == term && message->index >= raft->log.last);
}

/* What is committed is committed for ever and everywhere: an entry of that index and term here is it. */
void raft_learn_commit(struct raft *raft, const struct raft_message *message)
{
	if (raft->role != RAFT_LEADER && message->commit > raft->commit && message->hint_term &&
		raft_log_term(&raft->log, message->commit) == message->hint_term)
		raft_commit_to(raft, message->commit);
}

/* Two that ask at the same moment would both be let through by pre-vote, share the votes, and lose an
 * election timeout: of two with the same log the one with the greater id goes first. */
static bool goes_before(const struct raft *raft, const struct raft_message *message)
{
	return raft->role == RAFT_PRECANDIDATE && raft->options.id > message->from &&
	       message->index == raft->log.last && message->log_term == raft_log_last_term(&raft->log);
}

/* Whoever was just allowed to campaign gets a heartbeat interval to do it. */
static void yield_once(struct raft *raft)
{
	uint32_t wait = raft->options.heartbeat_ticks;

	if (raft->role == RAFT_FOLLOWER && !raft->yielded && raft->timeout > wait)
		raft->elapsed = MIN(raft->elapsed, raft->timeout - wait);
	raft->yielded = true;
}

void raft_handle_vote(struct raft *raft, const struct raft_message *message)
{
	bool pre = message->type == RAFT_MSG_PREVOTE;
	bool free = raft->vote == message->from || (!raft->vote && !raft->leader) ||
		    (pre && message->term > raft->term);
	bool grant = free && up_to_date(raft, message) && !(pre && goes_before(raft, message));
	struct raft_message answer = {
		.type = pre ? RAFT_MSG_PREVOTE_RES : RAFT_MSG_VOTE_RES,
		.to = message->from,
		.reject = !grant,
		/* The term that was asked about, or the own one to bring the asker up to date. */
		.term = grant ? message->term : raft->term,
		.commit = raft->commit,
		.hint_term = raft_log_term(&raft->log, raft->commit),
	};

	raft_learn_commit(raft, message);
	if (grant && pre)
		yield_once(raft);
	if (!grant || pre) {
		raft_send(raft, answer);
		return;
	}
	if (!raft->vote) {
		raft->vote = message->from;
		raft->hard_state_dirty = true;
	}
	reset_timeout(raft);
	raft_send_durable(raft, answer);
}

void raft_handle_vote_res(struct raft *raft, const struct raft_message *message)
{
	struct raft_peer *peer = raft_peer(raft, message->from);
	bool pre = message->type == RAFT_MSG_PREVOTE_RES;

	raft_learn_commit(raft, message);
	/* An answer that tells of a committed change of membership: votes are counted anew when it is
	 * applied. */
	if (!peer || raft->role != (pre ? RAFT_PRECANDIDATE : RAFT_CANDIDATE) || conf_unapplied(raft))
		return;
	if (pre && !message->reject && message->term != raft->term + 1)
		return; /* granted for a question of an earlier term */
	/* A refused pre-vote may be asked again later in the same term, and answered differently then. */
	if (peer->voted && !pre)
		return;
	peer->voted = true;
	peer->granted = !message->reject;
	raft_count_votes(raft);
}
