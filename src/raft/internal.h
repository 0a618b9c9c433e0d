/* What the files of the room share. Nothing here is for other rooms. */
#pragma once
#include "raft/log.h"
#include "base/memory.h"
#include "base/rng.h"

/* Makes room for one more item in a growing array. The callers bound what they add. */
#define raft_reserve(array, count, cap)                                               \
	do {                                                                          \
		if ((count) == (cap)) {                                               \
			(cap) = (cap) ? (cap)*2 : 16;                                 \
			(array) = mem_reallocarray((array), (cap), sizeof(*(array))); \
		}                                                                     \
	} while (0)

struct raft_inflight {
	uint64_t index, bytes; /* last entry and data of an append under way */
};

/* What this member knows of another one, or of itself (then only match and the vote count). */
struct raft_peer {
	uint64_t id;
	/* Leader: replication (thesis 3.5, 10.2.1). Entries up to match are on the follower's disk; next is
	 * sent next. */
	uint64_t match, next, sent_commit;
	enum raft_progress_state state;
	bool active;	 /* heard of since the last check of the quorum */
	bool was_active; /* heard of between that check and the one before it */
	bool probe_sent; /* RAFT_PROBE: wait for an answer */
	bool probe_full; /* RAFT_PROBE: the entries at next went with a probe; another one asks without them
			  */
	bool check_due;	 /* its next answer to a heartbeat is taken for a sign that an append may be lost */
	bool nudge;	 /* there was one: find out with an empty append */
	uint32_t snapshot_wait_ticks; /* RAFT_SNAPSHOT after a refusal: ticks until it is asked for again */
	uint64_t acked_round;	      /* newest read round it answered */
	struct raft_inflight *window; /* ring of window_cap */
	uint32_t window_head, window_count, window_cap;
	uint64_t window_bytes;
	/* Candidate: its vote. */
	bool voted, granted;
	/* Forwarded proposals seen from it in this term: the newest context, and bit i for `newest - i`. */
	uint64_t forward_newest, forward_bits;
};

struct raft_messages {
	struct raft_message *items;
	size_t count, cap;
};
struct raft_u64s {
	uint64_t *items;
	size_t count, cap;
};
struct raft_reads {
	struct raft_read *items;
	size_t count, cap;
};

/* A read on its way. On the leader: from whom, the commit index when it came, and the heartbeat round that
 * confirms it. On a follower: `wire` numbers the question to the leader, 0 before it is sent. */
struct raft_read_wait {
	uint64_t context, from, index, round, wire;
};
struct raft_read_waits {
	struct raft_read_wait *items;
	size_t count, cap;
};

struct raft_held {
	struct raft_message message;
	uint64_t write; /* may be sent when this write is durable */
};
struct raft_write_under_way {
	uint64_t id, last; /* entries up to `last` are durable when it is */
	uint64_t bytes;	   /* of them */
	uint64_t commit;   /* as this write tells it */
};

struct raft {
	struct raft_options options;
	struct rng rng;
	struct raft_log log;
	bool started;

	enum raft_role role;
	uint64_t term, vote, leader, commit;
	uint64_t commit_written;   /* commit as it was last given out for writing, or loaded */
	uint64_t commit_persisted; /* commit as the own disk has it */
	bool hard_state_dirty;
	uint64_t applied, applying; /* told by the owner; given to the owner */
	uint64_t persisted;	    /* entries up to here are on the own disk */
	uint64_t unstable;	    /* first entry not yet given out for writing */
	uint64_t write_next, write_done, self_vote_write;

	struct raft_conf conf;
	struct raft_peer *peers; /* ascending ids; this member too */
	size_t peer_count;

	uint32_t elapsed, timeout, heartbeat_elapsed, transfer_elapsed, read_elapsed;
	bool suspicious;	/* the connection to the leader broke, and nothing was heard of it since */
	bool yielded;		/* let another's pre-vote go before the own one, once per timeout */
	bool campaign_transfer; /* this candidacy was asked for by the leader */
	bool campaign_due;	/* it was asked for, but a membership change is to be applied first */
	uint64_t transfer_to, pending_conf_index, led_term, uncommitted_bytes, round;
	bool send_due, round_due, log_wait, apply_wait;
	uint64_t next_forward, next_read;

	struct raft_read_waits reads_early; /* leader: before the first commit of its term */
	struct raft_read_waits reads;	    /* leader: waiting for a round; follower: for the leader */

	struct raft_write_under_way *writes;
	uint64_t write_bytes;	 /* of all of them together */
	uint64_t unstable_bytes; /* leader: what it appended since the last batch */
	size_t write_count, write_cap;
	struct raft_held *held;
	size_t held_count, held_cap;
	struct raft_messages out;
	struct raft_reads reads_done;
	struct raft_u64s refused, snapshots;

	/* What the present batch points to. */
	bool in_batch;
	struct raft_messages batch_out;
	struct raft_reads batch_reads;
	struct raft_u64s batch_refused, batch_snapshots;
	struct raft_entry *batch_write, *batch_committed;
	size_t batch_write_count, batch_write_cap, batch_committed_count, batch_committed_cap;
	enum raft_role told_role;
	uint64_t told_leader, told_term;
};

/* raft.c */
struct raft_peer *raft_peer(struct raft *raft, uint64_t id);
void raft_set_conf(struct raft *raft, const struct raft_conf *conf);
/* Queues a message (from and term are filled in; entries must be an owned array or NULL). */
void raft_send(struct raft *raft, struct raft_message message);
/* As raft_send(), but it leaves only when all that this member promised so far is on its disk. No entries. */
void raft_send_durable(struct raft *raft, struct raft_message message);
/* Follower: hands a proposal to the leader; takes the array and its references, answers the context. */
uint64_t raft_forward(struct raft *raft, struct raft_entry *entries, size_t count);
uint64_t raft_pending_write(const struct raft *raft); /* the write after which all of now is durable */
void raft_commit_to(struct raft *raft, uint64_t index);
void raft_truncate(struct raft *raft, uint64_t from);
void raft_check(struct raft *raft); /* the end of every event */
void raft_assert_invariants(const struct raft *raft);

/* election.c */
void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader);
void raft_start_campaign(struct raft *raft, bool transfer);
void raft_elect(struct raft *raft); /* the real election, after a pre-vote was won */
void raft_request_votes(struct raft *raft);
void raft_count_votes(struct raft *raft);
bool raft_sticks_to_leader(const struct raft *raft);
void raft_learn_commit(
	struct raft *raft, const struct raft_message *message); /* of a question or an answer */
void raft_handle_vote(struct raft *raft, const struct raft_message *message);
void raft_handle_vote_res(struct raft *raft, const struct raft_message *message);
bool raft_may_lead(const struct raft *raft);

/* leader.c */
enum raft_quorum_of { RAFT_QUORUM_MATCH, RAFT_QUORUM_ROUND, RAFT_QUORUM_ACTIVE };
uint64_t raft_quorum(struct raft *raft, enum raft_quorum_of of); /* what a quorum of each half has reached */
void raft_lead(struct raft *raft);
void raft_leader_append(struct raft *raft, enum raft_entry_type type, struct raft_blob *data);
void raft_leader_commit(struct raft *raft);
void raft_leader_tick(struct raft *raft, uint32_t ticks);
void raft_leader_send(struct raft *raft);
void raft_leader_heartbeat(struct raft *raft);
void raft_probe(struct raft_peer *peer);
void raft_handle_append_res(struct raft *raft, struct raft_peer *peer, const struct raft_message *message);
void raft_handle_heartbeat_res(struct raft *raft, struct raft_peer *peer, const struct raft_message *message);
void raft_handle_propose(struct raft *raft, struct raft_peer *peer, const struct raft_message *message);
int raft_leader_propose(
	struct raft *raft, const struct raft_entry *entries, size_t count, uint64_t *ret_index);
void raft_leave_joint(struct raft *raft);
void raft_leader_removed(struct raft *raft); /* steps down, and helps the next one */

/* read.c */
void raft_reads_drop(struct raft *raft);
void raft_reads_committed(struct raft *raft); /* the leader's term has a committed entry */
void raft_reads_confirm(struct raft *raft);
void raft_reads_send(struct raft *raft, bool again);
void raft_handle_read(struct raft *raft, const struct raft_message *message);
void raft_handle_read_res(struct raft *raft, const struct raft_message *message);
