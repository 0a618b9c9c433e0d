/* How it works: the leader keeps for each follower what is surely on its disk (match) and what to send next.
 * It probes with one append at a time until the logs agree, then streams appends without waiting
 * (thesis 10.2.1), bounded by a window of bytes and messages. A refused append falls back to probing; the
 * follower's hint skips whole terms at a time (3.5). Appends are built when a batch is taken, so that all
 * proposals of one turn travel in one message. An entry is committed when a majority has it and it is of the
 * leader's own term (3.6.2); in a joint configuration each half needs its majority (4.3). The leader's own
 * disk is one member among the others here. */
#include "raft/internal.h"
#include <errno.h>

static uint64_t quorum_of_set(struct raft *raft, const struct raft_set *set, enum raft_quorum_of of)
{
	uint64_t values[RAFT_MEMBERS_MAX];

	if (!set->count)
		return UINT64_MAX;
	for (uint32_t i = 0; i < set->count; i++) {
		const struct raft_peer *peer = raft_peer(raft, set->ids[i]);
		bool self = peer->id == raft->options.id;
		uint64_t value = 0;
		uint32_t at = i;

		if (of == RAFT_QUORUM_MATCH)
			value = self ? raft->persisted : peer->match;
		else if (of == RAFT_QUORUM_ROUND)
			value = self ? UINT64_MAX : peer->acked_round;
		else
			value = self || peer->active;
		for (; at > 0 && values[at - 1] > value; at--)
			values[at] = values[at - 1];
		values[at] = value;
	}
	return values[(set->count - 1) / 2];
}

uint64_t raft_quorum(struct raft *raft, enum raft_quorum_of of)
{
	uint64_t voters = quorum_of_set(raft, &raft->conf.voters, of);
	uint64_t outgoing = quorum_of_set(raft, &raft->conf.outgoing, of);

	return MIN(voters, outgoing);
}

static void clear_window(struct raft_peer *peer)
{
	peer->window_head = peer->window_count = 0;
	peer->window_bytes = 0;
}

static void push_window(struct raft_peer *peer, uint64_t index, uint64_t bytes)
{
	if (peer->window_count == peer->window_cap) {
		uint32_t cap = peer->window_cap ? peer->window_cap * 2 : 16;
		struct raft_inflight *window = mem_new_array(struct raft_inflight, cap);

		for (uint32_t i = 0; i < peer->window_count; i++)
			window[i] = peer->window[(peer->window_head + i) % peer->window_cap];
		mem_free(peer->window);
		peer->window = window;
		peer->window_cap = cap;
		peer->window_head = 0;
	}
	peer->window[(peer->window_head + peer->window_count) % peer->window_cap] =
		(struct raft_inflight){index, bytes};
	peer->window_count++;
	peer->window_bytes += bytes;
}

static void pop_window(struct raft_peer *peer)
{
	peer->window_bytes -= peer->window[peer->window_head].bytes;
	peer->window_head = (peer->window_head + 1) % peer->window_cap;
	peer->window_count--;
}

void raft_probe(struct raft_peer *peer)
{
	peer->state = RAFT_PROBE;
	peer->next = peer->match + 1;
	peer->probe_sent = peer->probe_full = false;
	peer->nudge = false;
	peer->snapshot_wait_ticks = 0;
	clear_window(peer);
}

void raft_lead(struct raft *raft)
{
	assert(raft->role == RAFT_CANDIDATE);
	raft->role = RAFT_LEADER;
	raft->leader = raft->options.id;
	raft->elapsed = 0;
	raft->heartbeat_elapsed = 0;
	raft->transfer_to = 0;
	raft->led_term = raft->term;
	/* Whatever is in the log may hold a membership change: no other one before all of it is applied. */
	raft->pending_conf_index = raft->log.last;
	raft->uncommitted_bytes = 0;
	for (uint64_t i = raft->commit + 1; i <= raft->log.last; i++)
		raft->uncommitted_bytes += raft_entry_bytes(raft_log_at(&raft->log, i));
	for (size_t i = 0; i < raft->peer_count; i++) {
		struct raft_peer *peer = &raft->peers[i];

		peer->match = 0;
		raft_probe(peer);
		peer->next = raft->log.last + 1;
		peer->active = peer->was_active = false;
		peer->acked_round = 0;
		peer->sent_commit = 0;
	}
	raft_leader_append(raft, RAFT_ENTRY_EMPTY, NULL);
}

void raft_leader_append(struct raft *raft, enum raft_entry_type type, struct raft_blob *data)
{
	struct raft_entry entry = {
		.index = raft->log.last + 1, .term = raft->term, .type = type, .data = data};

	assert(raft->role == RAFT_LEADER);
	raft_log_append(&raft->log, &entry);
	raft->uncommitted_bytes += raft_entry_bytes(&entry);
	raft->unstable_bytes += raft_entry_bytes(&entry);
	raft->send_due = true;
}

void raft_leader_commit(struct raft *raft)
{
	uint64_t index = raft_quorum(raft, RAFT_QUORUM_MATCH);

	if (index <= raft->commit || raft_log_term(&raft->log, index) != raft->term)
		return;
	for (uint64_t i = raft->commit + 1; i <= index; i++)
		raft->uncommitted_bytes -= raft_entry_bytes(raft_log_at(&raft->log, i));
	raft_commit_to(raft, index);
	raft->send_due = true;
	raft_reads_committed(raft);
}

/* ---- Sending ---- */

static void ask_for_snapshot(struct raft *raft, struct raft_peer *peer)
{
	if (!peer->active)
		return; /* not there to take it; its next answer brings us back here */
	peer->state = RAFT_SNAPSHOT;
	clear_window(peer);
	raft_reserve(raft->snapshots.items, raft->snapshots.count, raft->snapshots.cap);
	raft->snapshots.items[raft->snapshots.count++] = peer->id;
}

static void send_append(struct raft *raft, struct raft_peer *peer, struct raft_entry *entries, size_t count)
{
	uint64_t prev = peer->next - 1;

	raft_send(raft, (struct raft_message){.type = RAFT_MSG_APPEND,
				.to = peer->id,
				.index = prev,
				.log_term = raft_log_term(&raft->log, prev),
				.commit = raft->commit,
				.entries = entries,
				.entry_count = count});
	peer->sent_commit = MIN(raft->commit, prev + count);
	peer->nudge = false;
}

static void send_empty_probe(struct raft *raft, struct raft_peer *peer)
{
	send_append(raft, peer, NULL, 0);
	peer->probe_sent = true;
}

/* One append with the next entries: 1, or 0 when there is nothing to send or the log is being read. */
static int send_entries(struct raft *raft, struct raft_peer *peer)
{
	const struct raft_options *options = &raft->options;
	uint64_t room = options->message_bytes_max, hi = raft->log.last + 1, bytes = 0;
	struct raft_entry *entries;
	size_t max;
	int count;

	if (peer->state == RAFT_PROBE && peer->probe_full && peer->next - 1 >= raft->log.snapshot_index) {
		/* They may be on their way for long: twice they would only make it longer. */
		send_empty_probe(raft, peer);
		return 0;
	}
	if (peer->next < hi && peer->next - 1 >= raft->log.snapshot_index) {
		max = MIN(hi - peer->next, (uint64_t)RAFT_MESSAGE_ENTRIES_MAX);
		if (peer->state == RAFT_REPLICATE)
			room = MIN(room, options->window_bytes_max - peer->window_bytes);
		entries = mem_new_array(struct raft_entry, max);
		count = raft_log_slice(&raft->log, &options->log, peer->next, hi, room, entries, max);
		if (count > 0) {
			for (int i = 0; i < count; i++)
				bytes += raft_entry_bytes(&entries[i]);
			send_append(raft, peer, entries, (size_t)count);
			if (peer->state == RAFT_REPLICATE) {
				peer->next += (uint64_t)count;
				push_window(peer, peer->next - 1, bytes);
			} else {
				peer->probe_sent = peer->probe_full = true;
			}
			return 1;
		}
		mem_free(entries);
		if (count == -EAGAIN) {
			raft->log_wait = true;
			return 0;
		}
	} else if (peer->next >= hi) {
		if (peer->state == RAFT_PROBE && peer->match < raft->log.last)
			send_empty_probe(raft, peer);
		return 0;
	}
	ask_for_snapshot(raft, peer);
	return 0;
}

static bool paused(const struct raft *raft, const struct raft_peer *peer)
{
	if (peer->state == RAFT_REPLICATE)
		return peer->window_count >= raft->options.window_messages_max ||
		       peer->window_bytes >= raft->options.window_bytes_max;
	return peer->state == RAFT_SNAPSHOT || peer->probe_sent;
}

static void send_to(struct raft *raft, struct raft_peer *peer)
{
	uint64_t known;

	while (!paused(raft, peer) && send_entries(raft, peer) > 0)
		;
	if (peer->nudge && peer->state == RAFT_REPLICATE && peer->next - 1 > peer->match)
		send_append(raft, peer, NULL, 0);
	peer->nudge = false;
	/* What it surely has may be told committed without waiting for the next append or heartbeat. */
	known = MIN(raft->commit, peer->match);
	if (known > peer->sent_commit) {
		raft_send(raft,
			(struct raft_message){.type = RAFT_MSG_COMMIT, .to = peer->id, .commit = known});
		peer->sent_commit = known;
	}
}

void raft_leader_send(struct raft *raft)
{
	if (raft->round_due) {
		raft->round_due = false;
		raft->round++;
		raft_leader_heartbeat(raft);
		raft_reads_confirm(raft); /* a sole voter needs nobody */
	}
	if (!raft->send_due)
		return;
	raft->send_due = false;
	for (size_t i = 0; i < raft->peer_count; i++) {
		if (raft->peers[i].id != raft->options.id)
			send_to(raft, &raft->peers[i]);
	}
}

void raft_leader_heartbeat(struct raft *raft)
{
	for (size_t i = 0; i < raft->peer_count; i++) {
		struct raft_peer *peer = &raft->peers[i];

		if (peer->id == raft->options.id)
			continue;
		raft_send(raft, (struct raft_message){.type = RAFT_MSG_HEARTBEAT,
					.to = peer->id,
					.commit = MIN(raft->commit, peer->match),
					.context = raft->round});
	}
}

void raft_leader_tick(struct raft *raft, uint32_t ticks)
{
	raft->elapsed += ticks;
	raft->heartbeat_elapsed += ticks;
	for (size_t i = 0; i < raft->peer_count; i++) {
		struct raft_peer *peer = &raft->peers[i];

		if (!peer->snapshot_wait_ticks)
			continue;
		peer->snapshot_wait_ticks -= MIN(peer->snapshot_wait_ticks, ticks);
		if (!peer->snapshot_wait_ticks) {
			raft_probe(peer);
			raft->send_due = true;
		}
	}
	if (raft->transfer_to) {
		raft->transfer_elapsed += ticks;
		if (raft->transfer_elapsed >= raft->options.election_ticks)
			raft->transfer_to = 0;
	}
	if (raft->elapsed >= raft->options.election_ticks) {
		/* Check-quorum (thesis 6.2): a leader that a majority no longer answers must not go on as
		 * one. */
		raft->elapsed = 0;
		if (!raft_quorum(raft, RAFT_QUORUM_ACTIVE)) {
			raft_become_follower(raft, raft->term, 0);
			return;
		}
		for (size_t i = 0; i < raft->peer_count; i++) {
			raft->peers[i].was_active = raft->peers[i].active;
			raft->peers[i].active = false;
		}
	}
	if (raft->heartbeat_elapsed >= raft->options.heartbeat_ticks) {
		raft->heartbeat_elapsed = 0;
		for (size_t i = 0; i < raft->peer_count; i++)
			raft->peers[i].check_due = true;
		raft_leader_heartbeat(raft);
	}
}

/* ---- Answers ---- */

/* Whether its disk lost what it once confirmed. Of a learner any refusal of an append behind that says so: it
 * had no vote, so nothing was decided by what it had. Of a voter only one at the place that it is probed at
 * does, where probing begins when an append further on was refused. That may still be a late refusal, of the
 * time before it confirmed this much. To believe it is safe, since what is committed stays so and a lower
 * match can only delay what is not; and it costs one probe, whose answer sets the match right, while another
 * copy of the refusal is no answer to it. Not to believe a true one would leave the others without this voter
 * until there is another leader. */
static bool has_lost_confirmed(
	const struct raft *raft, const struct raft_peer *peer, const struct raft_message *message)
{
	if (!peer->match || message->index != peer->match || message->hint_index >= peer->match)
		return false;
	return !raft_conf_is_voter(&raft->conf, peer->id) ||
	       (peer->state == RAFT_PROBE && peer->next == message->index + 1);
}

static void rejected(struct raft *raft, struct raft_peer *peer, const struct raft_message *message)
{
	uint64_t hint = message->hint_index;

	if (has_lost_confirmed(raft, peer, message)) {
		peer->match = 0;
		raft_probe(peer);
		peer->next = message->index + 1; /* what was asked about: the hint leads back from here */
	}
	if (message->index <= peer->match || message->index >= peer->next)
		return; /* late, or nonsense */
	if (peer->state == RAFT_REPLICATE) {
		raft_probe(peer);
	} else if (peer->state == RAFT_PROBE && peer->next - 1 == message->index) {
		/* The follower's last entry of at most our term there; skip what of ours it cannot have
		 * either. */
		if (message->hint_term)
			hint = raft_log_find(&raft->log, hint, message->hint_term);
		peer->next = MAX(MIN(message->index, hint + 1), peer->match + 1);
		peer->probe_sent = peer->probe_full = false;
	}
	raft->send_due = true;
}

static void maybe_hand_over(struct raft *raft, const struct raft_peer *peer)
{
	if (raft->transfer_to == peer->id && peer->match == raft->log.last)
		raft_send(raft, (struct raft_message){.type = RAFT_MSG_TIMEOUT_NOW, .to = peer->id});
}

void raft_handle_append_res(struct raft *raft, struct raft_peer *peer, const struct raft_message *message)
{
	peer->active = true;
	if (message->reject) {
		rejected(raft, peer, message);
		return;
	}
	if (message->index > raft->log.last || message->index < peer->match)
		return;
	if (message->index == peer->match && peer->state != RAFT_PROBE)
		return;
	peer->match = message->index;
	if (peer->state == RAFT_REPLICATE) {
		peer->next = MAX(peer->next, peer->match + 1);
		while (peer->window_count && peer->window[peer->window_head].index <= peer->match)
			pop_window(peer);
	} else if (peer->state == RAFT_PROBE || peer->match >= raft->log.snapshot_index) {
		raft_probe(peer);
		peer->state = RAFT_REPLICATE;
	} else {
		peer->next = MAX(peer->next, peer->match + 1); /* a late answer, still behind the log */
	}
	raft->send_due = true;
	raft_leader_commit(raft);
	maybe_hand_over(raft, peer);
}

void raft_handle_heartbeat_res(struct raft *raft, struct raft_peer *peer, const struct raft_message *message)
{
	peer->active = true;
	peer->acked_round = MAX(peer->acked_round, MIN(message->context, raft->round));
	raft_reads_confirm(raft);
	/* What is under way, or the answer to it, may be lost. Rounds of reads say so as well, but they may
	 * come with every turn, while much is under way that is not lost: once in a heartbeat interval is
	 * enough. */
	if (!peer->check_due)
		return;
	peer->check_due = false;
	peer->probe_sent = false;
	if (peer->match < raft->log.last) {
		peer->nudge = true;
		raft->send_due = true;
	}
}

/* ---- Proposals ---- */

int raft_leader_propose(
	struct raft *raft, const struct raft_entry *entries, size_t count, uint64_t *ret_index)
{
	uint64_t bytes = 0, max = raft->options.uncommitted_bytes_max;
	uint64_t unwritten = raft->write_bytes + raft->unstable_bytes;

	for (size_t i = 0; i < count; i++)
		bytes += raft_entry_bytes(&entries[i]);
	/* One proposal always fits, however large, when nothing else is under way. */
	if (raft->transfer_to || (raft->uncommitted_bytes && raft->uncommitted_bytes + bytes > max))
		return -EBUSY;
	/* The others may commit without this member's disk, but what waits for it stays in memory. */
	if (unwritten && unwritten + bytes > max)
		return -EBUSY;
	*ret_index = raft->log.last + 1;
	for (size_t i = 0; i < count; i++)
		raft_leader_append(raft, entries[i].type, entries[i].data);
	return 0;
}

/* Was a forwarded proposal seen before in this term? Remembers it. What is too old to tell counts as seen. */
static bool seen_before(struct raft_peer *peer, uint64_t context)
{
	uint64_t ahead = context - peer->forward_newest, behind = peer->forward_newest - context;

	if (context > peer->forward_newest) {
		peer->forward_bits = (ahead < 64 ? peer->forward_bits << ahead : 0) | 1;
		peer->forward_newest = context;
		return false;
	}
	if (behind >= 64 || (peer->forward_bits >> behind & 1))
		return true;
	peer->forward_bits |= 1ULL << behind;
	return false;
}

static bool conf_in_flight(const struct raft *raft)
{
	return raft->pending_conf_index > raft->applied || raft->conf.outgoing.count;
}

/* Data, or one membership change that is none of the leader's own. */
static bool may_be_forwarded(const struct raft_message *message, bool *ret_is_conf)
{
	struct raft_conf_change change;

	*ret_is_conf = message->entry_count == 1 && message->entries[0].type == RAFT_ENTRY_CONF;
	if (*ret_is_conf)
		return raft_conf_change_decode(raft_blob_slice(message->entries[0].data), &change) == 0 &&
		       change.step_count;
	for (size_t i = 0; i < message->entry_count; i++) {
		if (message->entries[i].type != RAFT_ENTRY_DATA)
			return false;
	}
	return true;
}

void raft_handle_propose(struct raft *raft, struct raft_peer *peer, const struct raft_message *message)
{
	uint64_t index;
	bool is_conf;

	if (!may_be_forwarded(message, &is_conf))
		return;
	/* Only who led in this term, in this life, remembers what it took: others must not say that they did
	 * not. */
	if (raft->led_term != raft->term || !message->entry_count || seen_before(peer, message->context))
		return;
	if (raft->role == RAFT_LEADER && !message->reject && !(is_conf && conf_in_flight(raft)) &&
		raft_leader_propose(raft, message->entries, message->entry_count, &index) == 0) {
		if (is_conf)
			raft->pending_conf_index = index;
		return;
	}
	raft_send(raft,
		(struct raft_message){
			.type = RAFT_MSG_PROPOSE_RES, .to = message->from, .context = message->context});
}

int raft_propose_conf(struct raft *raft, const struct raft_conf_change *change, uint64_t *ret_id)
{
	struct raft_entry entry = {.type = RAFT_ENTRY_CONF};
	int r = RAFT_FORWARDED;

	if (!change->step_count)
		return -EINVAL;
	if (!raft->leader)
		return -EHOSTUNREACH;
	if (raft->role == RAFT_LEADER && conf_in_flight(raft))
		return -EBUSY;
	entry.data = raft_conf_change_encode(change);
	if (raft->role == RAFT_LEADER) {
		r = raft_leader_propose(raft, &entry, 1, ret_id);
		if (r == RAFT_APPENDED)
			raft->pending_conf_index = *ret_id;
		raft_blob_unref(entry.data);
	} else {
		*ret_id = raft_forward(raft, mem_dup(&entry, sizeof(entry)), 1);
	}
	raft_check(raft);
	return r;
}

/* Whoever leads leaves the joint configuration as soon as it is applied (thesis 4.3). */
void raft_leave_joint(struct raft *raft)
{
	_cleanup_(raft_blob_unrefp) struct raft_blob *data = NULL;
	struct raft_conf_change leave = {0};

	if (raft->role != RAFT_LEADER || !raft->conf.outgoing.count ||
		raft->pending_conf_index > raft->applied)
		return;
	data = raft_conf_change_encode(&leave);
	raft_leader_append(raft, RAFT_ENTRY_CONF, data);
	raft->pending_conf_index = raft->log.last;
}

int raft_transfer_leader(struct raft *raft, uint64_t to)
{
	if (raft->role != RAFT_LEADER)
		return -EHOSTUNREACH;
	if (to == raft->options.id)
		return -EALREADY;
	if (!raft_conf_is_voter(&raft->conf, to))
		return -ENOENT;
	if (raft->transfer_to)
		return -EBUSY;
	raft->transfer_to = to;
	raft->transfer_elapsed = 0;
	raft->send_due = true;
	maybe_hand_over(raft, raft_peer(raft, to));
	raft_check(raft);
	return 0;
}

void raft_leader_removed(struct raft *raft)
{
	const struct raft_set *voters = &raft->conf.voters;
	const struct raft_peer *best = NULL;

	assert(raft->role == RAFT_LEADER && !raft_may_lead(raft));
	/* Tell the others what is committed, or they could not elect without this one. */
	raft_leader_heartbeat(raft);
	for (uint32_t i = 0; i < voters->count; i++) {
		const struct raft_peer *peer = raft_peer(raft, voters->ids[i]);

		if ((peer->active || peer->was_active) && (!best || peer->match > best->match))
			best = peer;
	}
	if (best)
		raft_send(raft, (struct raft_message){.type = RAFT_MSG_TIMEOUT_NOW, .to = best->id});
	raft_become_follower(raft, raft->term, 0);
}

void raft_unreachable(struct raft *raft, uint64_t id)
{
	struct raft_peer *peer = raft_peer(raft, id);

	if (raft->role != RAFT_LEADER || !peer || peer->state != RAFT_REPLICATE)
		return;
	raft_probe(peer);
	peer->probe_sent = true; /* until it answers a heartbeat: not into the same hole at once */
	raft_check(raft);
}

void raft_snapshot_sent(struct raft *raft, uint64_t id, uint64_t index)
{
	struct raft_peer *peer = raft_peer(raft, id);

	if (raft->role != RAFT_LEADER || !peer || peer->state != RAFT_SNAPSHOT || index > raft->log.last)
		return;
	raft_probe(peer);
	peer->next = MAX(peer->next, index + 1);
	raft->send_due = true;
	raft_check(raft);
}

void raft_snapshot_refused(struct raft *raft, uint64_t id)
{
	struct raft_peer *peer = raft_peer(raft, id);

	if (raft->role == RAFT_LEADER && peer && peer->state == RAFT_SNAPSHOT)
		peer->snapshot_wait_ticks = raft->options.election_ticks;
}
