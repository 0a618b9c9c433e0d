/* How it works: this file holds the machine together: its life, its clock, the doors for events and for work,
 * and the bookkeeping of what is durable. Elections are in election.c, the leader's side of replication in
 * leader.c, the follower's in follower.c, reads in read.c. Every event changes the state at once; what
 * follows from it for the world is collected and handed out by raft_ready(). Each write handed out has a
 * number; messages that promise something are held with the number of the write that makes the promise
 * durable. */
#include "raft/internal.h"
#include <errno.h>

enum { COMMITTED_COUNT_MAX = 4096 };

static void set_default(uint64_t *option, uint64_t value)
{
	if (!*option)
		*option = value;
}

struct raft *raft_new(const struct raft_options *options)
{
	struct raft *raft = mem_new(struct raft);
	struct raft_options *own = &raft->options;

	assert(options->id && options->heartbeat_ticks && options->election_ticks > options->heartbeat_ticks);
	*own = *options;
	if (!own->election_jitter_ticks)
		own->election_jitter_ticks = own->election_ticks;
	set_default(&own->message_bytes_max, 1 << 20);
	set_default(&own->window_bytes_max, 8 << 20);
	if (!own->window_messages_max)
		own->window_messages_max = 256;
	set_default(&own->uncommitted_bytes_max, 64 << 20);
	set_default(&own->apply_bytes_max, 8 << 20);
	set_default(&own->cache_bytes_max, 64 << 20);
	if (!own->reads_max)
		own->reads_max = 65536;
	rng_seed(&raft->rng, own->seed);
	raft_log_init(&raft->log, own->snapshot_index, own->snapshot_term);
	raft->commit = raft->applied = raft->applying = raft->persisted = own->snapshot_index;
	raft->commit_written = raft->commit_persisted = own->snapshot_index;
	raft->term = own->snapshot_term;
	raft->write_next = 1;
	raft->next_forward = raft->next_read = MAX(own->first_context, (uint64_t)1);
	raft_set_conf(raft, &own->conf);
	return raft;
}

static void free_messages(struct raft_messages *messages)
{
	for (size_t i = 0; i < messages->count; i++)
		raft_message_done(&messages->items[i]);
	messages->count = 0;
}

struct raft *raft_free(struct raft *raft)
{
	if (!raft)
		return NULL;
	raft_entries_unref(raft->batch_write, raft->batch_write_count);
	raft_entries_unref(raft->batch_committed, raft->batch_committed_count);
	free_messages(&raft->out);
	free_messages(&raft->batch_out);
	for (size_t i = 0; i < raft->peer_count; i++)
		mem_free(raft->peers[i].window);
	mem_free(raft->peers);
	mem_free(raft->reads_early.items);
	mem_free(raft->reads.items);
	mem_free(raft->writes);
	mem_free(raft->held);
	mem_free(raft->out.items);
	mem_free(raft->reads_done.items);
	mem_free(raft->refused.items);
	mem_free(raft->snapshots.items);
	mem_free(raft->batch_out.items);
	mem_free(raft->batch_reads.items);
	mem_free(raft->batch_refused.items);
	mem_free(raft->batch_snapshots.items);
	mem_free(raft->batch_write);
	mem_free(raft->batch_committed);
	raft_log_done(&raft->log);
	return mem_free(raft);
}

/* ---- Membership ---- */

struct raft_peer *raft_peer(struct raft *raft, uint64_t id)
{
	size_t lo = 0, hi = raft->peer_count;

	while (lo < hi) {
		size_t middle = lo + (hi - lo) / 2;

		if (raft->peers[middle].id < id)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo < raft->peer_count && raft->peers[lo].id == id ? &raft->peers[lo] : NULL;
}

static void add_peers(struct raft *raft, const struct raft_set *set, struct raft_peer *peers, size_t *count)
{
	for (uint32_t i = 0; i < set->count; i++) {
		struct raft_peer *known = raft_peer(raft, set->ids[i]);
		size_t at = 0;

		while (at < *count && peers[at].id < set->ids[i])
			at++;
		if (at < *count && peers[at].id == set->ids[i])
			continue;
		memmove(peers + at + 1, peers + at, (*count - at) * sizeof(*peers));
		if (known) {
			peers[at] = *known;
			known->window = NULL;
		} else {
			peers[at] = (struct raft_peer){
				.id = set->ids[i], .next = raft->log.last + 1, .active = true};
		}
		(*count)++;
	}
}

void raft_set_conf(struct raft *raft, const struct raft_conf *conf)
{
	size_t count = 0;
	struct raft_peer *peers = mem_new_array(struct raft_peer, 3 * RAFT_MEMBERS_MAX);

	add_peers(raft, &conf->voters, peers, &count);
	add_peers(raft, &conf->outgoing, peers, &count);
	add_peers(raft, &conf->learners, peers, &count);
	for (size_t i = 0; i < raft->peer_count; i++)
		mem_free(raft->peers[i].window);
	mem_free(raft->peers);
	raft->peers = peers;
	raft->peer_count = count;
	raft->conf = *conf;
}

void raft_keep_commit(struct raft *raft)
{
	if (raft->commit > raft->commit_written)
		raft->hard_state_dirty = true;
}

int raft_apply_conf(struct raft *raft, const struct raft_conf_change *change)
{
	struct raft_conf next;

	int r = raft_conf_change_apply(&raft->conf, change, &next);

	if (r < 0)
		return r;
	raft_set_conf(raft, &next);
	/* Once started anew this member must still know that it is committed: who was removed may be gone
	 * then, and with the old membership it would wait for its vote for ever. */
	raft_keep_commit(raft);
	if (raft->role == RAFT_LEADER) {
		if (!raft_may_lead(raft)) {
			raft_leader_removed(raft);
		} else {
			if (raft->transfer_to && !raft_conf_is_voter(&next, raft->transfer_to))
				raft->transfer_to = 0;
			raft->send_due = true;
			raft_leader_commit(raft); /* the new majority may be smaller */
			raft_reads_confirm(raft);
		}
	} else if (raft->role != RAFT_FOLLOWER) {
		raft_become_follower(raft, raft->term, 0); /* votes were counted by another membership */
	}
	raft_check(raft);
	return 0;
}

/* ---- Start ---- */

int raft_load_entry(struct raft *raft, const struct raft_entry *entry)
{
	struct raft_log *log = &raft->log;

	assert(!raft->started);
	if (entry->index <= log->snapshot_index || entry->index > log->last + 1 ||
		entry->type >= RAFT_ENTRY_TYPE_MAX)
		return -EBADMSG;
	if (!entry->term || entry->term < raft_log_term(log, entry->index - 1))
		return -EBADMSG;
	if (entry->index <= MIN(raft->commit, log->last))
		return entry->term == raft_log_term(log, entry->index) ? 0 : -EBADMSG;
	if (entry->index <= log->last)
		raft_log_truncate(log, entry->index);
	raft_log_append(log, entry);
	return 0;
}

/* Drops from memory what the owner can give back, as far as it is committed. */
static void trim_cache(struct raft *raft, uint64_t upto)
{
	struct raft_log *log = &raft->log;

	if (!raft->options.log.entries)
		return;
	upto = MIN(upto, raft->commit);
	upto = MIN(upto, raft->persisted);
	while (raft_log_memory(log) > raft->options.cache_bytes_max && log->cache_first <= upto)
		raft_log_evict(log, log->cache_first);
	raft_log_shrink(log);
}

void raft_load_clear(struct raft *raft)
{
	struct raft_log *log = &raft->log;

	assert(!raft->started);
	raft_log_reset(log, log->snapshot_index, raft_log_term(log, log->snapshot_index));
	raft->commit = raft->persisted = log->snapshot_index;
}

void raft_set_first_context(struct raft *raft, uint64_t first_context)
{
	assert(!raft->started);
	raft->next_forward = raft->next_read = MAX(first_context, (uint64_t)1);
}

int raft_load_hard_state(struct raft *raft, const struct raft_hard_state *state)
{
	assert(!raft->started);
	if (state->term < raft->term)
		return -EBADMSG;
	raft->term = state->term;
	raft->vote = state->vote;
	raft->commit = MAX(raft->commit, state->commit);
	raft->commit_written = raft->commit_persisted = raft->commit;
	raft->persisted = raft->log.last;
	trim_cache(raft, raft->commit);
	return 0;
}

int raft_start(struct raft *raft)
{
	assert(!raft->started);
	if (raft->term < raft_log_last_term(&raft->log) || raft->commit > raft->log.last)
		return -EBADMSG;
	raft->persisted = raft->log.last;
	raft->unstable = raft->log.last + 1;
	raft->started = true;
	raft_become_follower(raft, raft->term, 0);
	raft->timeout = raft->options.election_ticks +
			(uint32_t)rng_below(&raft->rng, raft->options.election_jitter_ticks);
	raft_check(raft);
	return 0;
}

/* ---- Durability ---- */

void raft_send(struct raft *raft, struct raft_message message)
{
	message.from = raft->options.id;
	if (!message.term)
		message.term = raft->term;
	raft_reserve(raft->out.items, raft->out.count, raft->out.cap);
	raft->out.items[raft->out.count++] = message;
}

uint64_t raft_pending_write(const struct raft *raft)
{
	bool more = raft->hard_state_dirty || raft->unstable <= raft->log.last;

	return more ? raft->write_next : raft->write_next - 1;
}

void raft_send_durable(struct raft *raft, struct raft_message message)
{
	uint64_t write = raft_pending_write(raft);

	assert(!message.entry_count);
	if (write <= raft->write_done) {
		raft_send(raft, message);
		return;
	}
	if (!message.term)
		message.term = raft->term;
	if (raft->held_count && message.type == RAFT_MSG_APPEND_RES) {
		struct raft_held *last = &raft->held[raft->held_count - 1];

		/* Of answers that wait for the same write the furthest says it all. */
		if (last->message.type == message.type && last->write == write &&
			last->message.to == message.to && last->message.term == message.term) {
			last->message.index = MAX(last->message.index, message.index);
			return;
		}
	}
	raft_reserve(raft->held, raft->held_count, raft->held_cap);
	raft->held[raft->held_count++] = (struct raft_held){message, write};
}

/* What was promised to an earlier term is void. */
static void release_held(struct raft *raft)
{
	size_t kept = 0;

	for (size_t i = 0; i < raft->held_count; i++) {
		if (raft->held[i].write > raft->write_done)
			raft->held[kept++] = raft->held[i];
		else if (raft->held[i].message.term == raft->term)
			raft_send(raft, raft->held[i].message);
	}
	raft->held_count = kept;
}

void raft_persisted(struct raft *raft, uint64_t id)
{
	size_t done = 0;

	assert(id < raft->write_next);
	if (id <= raft->write_done)
		return;
	while (done < raft->write_count && raft->writes[done].id <= id) {
		raft->persisted = MAX(raft->persisted, raft->writes[done].last);
		raft->commit_persisted = MAX(raft->commit_persisted, raft->writes[done].commit);
		raft->write_bytes -= raft->writes[done].bytes;
		done++;
	}
	raft->write_count -= done;
	memmove(raft->writes, raft->writes + done, raft->write_count * sizeof(*raft->writes));
	raft->write_done = id;
	release_held(raft);
	if (raft->role == RAFT_CANDIDATE)
		raft_count_votes(raft);
	else if (raft->role == RAFT_LEADER)
		raft_leader_commit(raft);
	raft_check(raft);
}

void raft_truncate(struct raft *raft, uint64_t from)
{
	assert(from > raft->commit);
	raft_log_truncate(&raft->log, from);
	raft->unstable = MIN(raft->unstable, from);
	raft->persisted = MIN(raft->persisted, from - 1);
	/* A write under way can no longer make durable what a later one replaces. */
	for (size_t i = 0; i < raft->write_count; i++)
		raft->writes[i].last = MIN(raft->writes[i].last, from - 1);
}

void raft_commit_to(struct raft *raft, uint64_t index)
{
	assert(index <= raft->log.last);
	raft->commit = MAX(raft->commit, index);
}

void raft_applied(struct raft *raft, uint64_t index)
{
	assert(index <= raft->applying);
	if (index <= raft->applied)
		return;
	raft->applied = index;
	trim_cache(raft, index);
	raft_leave_joint(raft);
	if (raft->campaign_due)
		raft_start_campaign(raft, true);
	raft_check(raft);
}

void raft_entries_read(struct raft *raft)
{
	raft_check(raft); /* it looks again at any event */
}

void raft_compact(struct raft *raft, uint64_t index)
{
	index = MIN(index, raft->applied);
	raft_log_compact(&raft->log, MIN(index, raft->persisted));
	raft_log_shrink(&raft->log);
	raft_check(raft);
}

/* ---- Clock ---- */

void raft_tick(struct raft *raft, uint32_t ticks)
{
	if (raft->role == RAFT_LEADER) {
		raft_leader_tick(raft, ticks);
		raft_check(raft);
		return;
	}
	raft->elapsed = raft->elapsed > UINT32_MAX - ticks ? UINT32_MAX : raft->elapsed + ticks;
	raft->heartbeat_elapsed += ticks;
	raft->read_elapsed += ticks;
	if (raft->elapsed >= raft->timeout) {
		if (raft_may_lead(raft))
			raft_start_campaign(raft, false);
		else if (raft->leader)
			raft_become_follower(raft, raft->term, 0);
	} else if (raft->role != RAFT_FOLLOWER && raft->heartbeat_elapsed >= raft->options.heartbeat_ticks) {
		raft->heartbeat_elapsed = 0;
		raft_request_votes(raft);
	} else if (raft->leader && raft->read_elapsed >= raft->options.heartbeat_ticks) {
		raft_reads_send(raft, true);
	}
	raft_check(raft);
}

static uint32_t left(uint32_t limit, uint32_t elapsed)
{
	return elapsed < limit ? limit - elapsed : 1;
}

uint32_t raft_ticks_until_due(const struct raft *raft)
{
	const struct raft_options *options = &raft->options;
	uint32_t due;

	if (raft->role == RAFT_LEADER) {
		due = MIN(left(options->heartbeat_ticks, raft->heartbeat_elapsed),
			left(options->election_ticks, raft->elapsed));
		if (raft->transfer_to)
			due = MIN(due, left(options->election_ticks, raft->transfer_elapsed));
		return due; /* waits for snapshots are as long as an election timeout: a tick late does not
			       matter */
	}
	if (!raft->leader && !raft_may_lead(raft))
		return options->election_ticks; /* it can do nothing about that */
	due = left(raft->timeout, raft->elapsed);
	if (raft->role != RAFT_FOLLOWER)
		due = MIN(due, left(options->heartbeat_ticks, raft->heartbeat_elapsed));
	if (raft->reads.count)
		due = MIN(due, left(options->heartbeat_ticks, raft->read_elapsed));
	return due;
}

void raft_campaign(struct raft *raft)
{
	raft_start_campaign(raft, false);
	raft_check(raft);
}

/* ---- Proposals ---- */

uint64_t raft_forward(struct raft *raft, struct raft_entry *entries, size_t count)
{
	uint64_t context = raft->next_forward++;

	raft_send(raft, (struct raft_message){.type = RAFT_MSG_PROPOSE,
				.to = raft->leader,
				.context = context,
				.entries = entries,
				.entry_count = count});
	return context;
}

int raft_propose(struct raft *raft, struct raft_blob *const *entries, size_t count, uint64_t *ret_id)
{
	struct raft_entry *copies;
	int r = RAFT_FORWARDED;

	if (count > RAFT_MESSAGE_ENTRIES_MAX)
		return -EMSGSIZE;
	for (size_t i = 0; i < count; i++) {
		if (entries[i]->len > RAFT_ENTRY_BYTES_MAX)
			return -EMSGSIZE;
	}
	if (!raft->leader)
		return -EHOSTUNREACH;
	assert(count > 0);
	copies = mem_new_array(struct raft_entry, count);
	for (size_t i = 0; i < count; i++)
		copies[i] = (struct raft_entry){.type = RAFT_ENTRY_DATA, .data = raft_blob_ref(entries[i])};
	if (raft->role == RAFT_LEADER) {
		r = raft_leader_propose(raft, copies, count, ret_id);
		raft_entries_unref(copies, count);
		mem_free(copies);
	} else {
		*ret_id = raft_forward(raft, copies, count);
	}
	raft_check(raft);
	return r;
}

/* ---- Batches ---- */

static bool role_changed(const struct raft *raft)
{
	return raft->told_role != raft->role || raft->told_leader != raft->leader ||
	       raft->told_term != raft->term;
}

static bool unasked_reads(const struct raft *raft)
{
	return raft->role == RAFT_FOLLOWER && raft->reads.count &&
	       !raft->reads.items[raft->reads.count - 1].wire;
}

bool raft_has_ready(const struct raft *raft)
{
	if (raft->role == RAFT_LEADER && (raft->send_due || raft->round_due))
		return true;
	return raft->out.count || raft->hard_state_dirty || raft->unstable <= raft->log.last ||
	       (raft->applying < raft->commit && !raft->apply_wait) || raft->reads_done.count ||
	       raft->refused.count || raft->snapshots.count || role_changed(raft) || unasked_reads(raft);
}

static void fill_write(struct raft *raft, struct raft_write *write)
{
	const struct raft_log *log = &raft->log;
	size_t count = log->last + 1 - raft->unstable;
	uint64_t bytes = 0;

	write->hard_state = (struct raft_hard_state){raft->term, raft->vote, raft->commit};
	if (!raft->hard_state_dirty && !count)
		return;
	if (count > raft->batch_write_cap) {
		raft->batch_write_cap = MAX(count, 2 * raft->batch_write_cap);
		raft->batch_write = mem_reallocarray(
			raft->batch_write, raft->batch_write_cap, sizeof(*raft->batch_write));
	}
	for (size_t i = 0; i < count; i++) {
		raft->batch_write[i] = raft_entry_ref(raft_log_at(log, raft->unstable + i));
		bytes += raft_entry_bytes(&raft->batch_write[i]);
	}
	raft->write_bytes += bytes;
	raft->unstable_bytes = 0;
	raft->batch_write_count = count;
	write->id = raft->write_next++;
	write->hard_state_changed = raft->hard_state_dirty;
	write->entries = raft->batch_write;
	write->entry_count = count;
	raft_reserve(raft->writes, raft->write_count, raft->write_cap);
	raft->writes[raft->write_count++] =
		(struct raft_write_under_way){write->id, log->last, bytes, raft->commit};
	raft->unstable = log->last + 1;
	raft->hard_state_dirty = false;
	raft->commit_written = raft->commit;
}

static void fill_committed(struct raft *raft, struct raft_batch *batch)
{
	size_t max = MIN(raft->commit - raft->applying, (uint64_t)COMMITTED_COUNT_MAX);
	int count;

	if (!max || raft->apply_wait)
		return;
	if (max > raft->batch_committed_cap) {
		raft->batch_committed_cap = max;
		raft->batch_committed =
			mem_reallocarray(raft->batch_committed, max, sizeof(*raft->batch_committed));
	}
	count = raft_log_slice(&raft->log, &raft->options.log, raft->applying + 1, raft->commit + 1,
		raft->options.apply_bytes_max, raft->batch_committed, max);
	if (count <= 0) {
		raft->apply_wait = true;
		return;
	}
	assert(raft->batch_committed[0].index == raft->applying + 1);
	raft->applying += (uint64_t)count;
	raft->batch_committed_count = (size_t)count;
	batch->committed = raft->batch_committed;
	batch->committed_count = raft->batch_committed_count;
}

#define swap_into(batch_list, list)                       \
	do {                                              \
		__typeof__(list) swapped_ = (batch_list); \
		(batch_list) = (list);                    \
		(list) = swapped_;                        \
	} while (0)

void raft_ready(struct raft *raft, struct raft_batch *ret_batch)
{
	struct raft_batch batch = {0};

	assert(raft->started && !raft->in_batch);
	raft->in_batch = true;
	if (raft->role == RAFT_LEADER)
		raft_leader_send(raft);
	else if (unasked_reads(raft))
		raft_reads_send(raft, false);
	fill_write(raft, &batch.write);
	fill_committed(raft, &batch);
	swap_into(raft->batch_out, raft->out);
	swap_into(raft->batch_reads, raft->reads_done);
	swap_into(raft->batch_refused, raft->refused);
	swap_into(raft->batch_snapshots, raft->snapshots);
	batch.messages = raft->batch_out.items;
	batch.message_count = raft->batch_out.count;
	batch.reads = raft->batch_reads.items;
	batch.read_count = raft->batch_reads.count;
	batch.refused = raft->batch_refused.items;
	batch.refused_count = raft->batch_refused.count;
	batch.snapshots = raft->batch_snapshots.items;
	batch.snapshot_count = raft->batch_snapshots.count;
	batch.role_changed = role_changed(raft);
	raft->told_role = raft->role;
	raft->told_leader = raft->leader;
	raft->told_term = raft->term;
	raft_assert_invariants(raft);
	*ret_batch = batch;
}

void raft_advance(struct raft *raft)
{
	assert(raft->in_batch);
	raft->in_batch = false;
	raft_entries_unref(raft->batch_write, raft->batch_write_count);
	raft_entries_unref(raft->batch_committed, raft->batch_committed_count);
	raft->batch_write_count = raft->batch_committed_count = 0;
	free_messages(&raft->batch_out);
	raft->batch_reads.count = raft->batch_refused.count = raft->batch_snapshots.count = 0;
}
