/* Consensus: the Raft algorithm as a pure machine. It never does I/O, reads a clock, starts a thread or keeps
 * global state: its owner feeds it events (ticks, messages, proposals, reads, finished writes) and takes
 * batches of work out of it. Randomness comes from the seed in struct raft_options. One owner, one thread.
 * Source: D. Ongaro, "Consensus: Bridging Theory and Practice" (2014), "the thesis" in comments.
 *
 * How an owner drives it:
 *
 *     raft_tick / raft_step / raft_propose / raft_read_index / raft_persisted / ...     any number of events
 *     while (raft_has_ready(raft)) {
 *             raft_ready(raft, &batch);
 *             send batch.messages; start the write batch.write; apply batch.committed; answer batch.reads ...
 *             raft_advance(raft);                       batch is void from here on
 *     }
 *     ... and when a write is on disk:  raft_persisted(raft, write id)  (then look for a batch again)
 *
 * What may leave before a write is durable is in batch.messages at once; what must not (votes, append
 * responses) is held inside until raft_persisted() tells of that write, and is in the messages of a later
 * batch. So all messages of a batch may always be sent at once, and the leader's own write runs in parallel
 * with replication (thesis 10.2.1). Writes finish in the order in which they were given out. Nothing needs to
 * be written when batch.write.id is 0. A commit index that moved makes no write on its own; it travels with
 * the next one. */
#pragma once
#include "base/macros.h"
#include "base/buf.h"
#include "base/slice.h"

enum {
	RAFT_MEMBERS_MAX = 31,		 /* voters, outgoing voters and learners, each */
	RAFT_MESSAGE_ENTRIES_MAX = 4096, /* entries in one message */
	RAFT_ENTRY_BYTES_MAX = 16 << 20, /* data of one entry; decoding refuses more */
};

/* Data of an entry: one shared copy for log, disk, network and apply. The count is not atomic: references are
 * taken and dropped on the owner's thread only; another thread may read the bytes while the owner holds a
 * reference for it. */
struct raft_blob {
	uint32_t refs;
	uint32_t len; /* bytes */
	char data[];
};
struct raft_blob *raft_blob_new(
	const void *data, size_t len); /* one reference; copies; len <= RAFT_ENTRY_BYTES_MAX */
struct raft_blob *raft_blob_join(struct slice head, struct slice tail); /* the same from two pieces */
struct raft_blob *raft_blob_ref(struct raft_blob *blob);		/* NULL stays NULL */
struct raft_blob *raft_blob_unref(struct raft_blob *blob);		/* answers NULL */
DEFINE_CLEANUP(struct raft_blob *, raft_blob_unref)
struct slice raft_blob_slice(const struct raft_blob *blob); /* empty for NULL */

enum raft_entry_type {
	RAFT_ENTRY_DATA,  /* the owner's bytes */
	RAFT_ENTRY_EMPTY, /* written by a new leader (thesis 6.4); nothing to apply */
	RAFT_ENTRY_CONF,  /* struct raft_conf_change, encoded; hand it to raft_apply_conf() when it is applied
			   */
	RAFT_ENTRY_TYPE_MAX
};

struct raft_entry {
	uint64_t index, term;
	enum raft_entry_type type;
	struct raft_blob *data; /* NULL: no data */
};

/* ---- Membership (thesis 4) ---- */
struct raft_set {
	uint64_t ids[RAFT_MEMBERS_MAX]; /* ascending */
	uint32_t count;
};
struct raft_conf {
	struct raft_set voters;	  /* the new half while joint */
	struct raft_set outgoing; /* the old half of a joint configuration; empty: not joint */
	struct raft_set learners; /* get the log, have no vote */
};
enum raft_conf_op { RAFT_CONF_ADD_VOTER, RAFT_CONF_ADD_LEARNER, RAFT_CONF_REMOVE, RAFT_CONF_OP_MAX };
struct raft_conf_change {
	struct {
		enum raft_conf_op op;
		uint64_t id;
	} steps[RAFT_MEMBERS_MAX];
	uint32_t step_count;  /* 0: leave the joint configuration; raft on the leader proposes that itself */
	struct slice context; /* the owner's bytes (names, URLs); borrowed */
};
bool raft_set_has(const struct raft_set *set, uint64_t id);
int raft_set_add(struct raft_set *set, uint64_t id);		    /* 0, -EEXIST, -ENOSPC */
int raft_set_remove(struct raft_set *set, uint64_t id);		    /* 0, -ENOENT */
bool raft_conf_is_voter(const struct raft_conf *conf, uint64_t id); /* in either half */
struct raft_blob *raft_conf_change_encode(const struct raft_conf_change *change);
int raft_conf_change_decode(
	struct slice bytes, struct raft_conf_change *ret_change) _must_check_; /* -EBADMSG */
/* What `conf` becomes: one voter added or removed is a simple step, more make it joint (thesis 4.1, 4.3). The
 * only member may be removed: that ends the cluster. -EINVAL: makes no sense (learners without a voter,
 * adding a member twice, a change on top of a joint configuration); -ENOSPC. */
int raft_conf_change_apply(const struct raft_conf *conf, const struct raft_conf_change *change,
	struct raft_conf *ret_conf) _must_check_;

/* ---- Messages ---- */
enum raft_message_type {
	RAFT_MSG_APPEND,     /* index, log_term: the entry before; commit; entries */
	RAFT_MSG_APPEND_RES, /* index: match, or with reject: what was rejected, hint_index/hint_term: where
				to go on */
	RAFT_MSG_HEARTBEAT,  /* commit; context: number of the read round */
	RAFT_MSG_HEARTBEAT_RES, /* context */
	RAFT_MSG_COMMIT,	/* commit; needs no answer */
	RAFT_MSG_PREVOTE,     /* term: the next one; index, log_term: last entry; commit of term hint_term */
	RAFT_MSG_PREVOTE_RES, /* reject */
	RAFT_MSG_VOTE,	      /* index, log_term: last entry; transfer: the leader wants it */
	RAFT_MSG_VOTE_RES,    /* reject */
	RAFT_MSG_READ,	      /* context: a follower asks for a read index */
	RAFT_MSG_READ_RES,    /* context, index */
	RAFT_MSG_PROPOSE, /* context, entries (index and term 0): forwarded proposal; reject: set by the owner
			    of a leader that cannot take it now */
	RAFT_MSG_PROPOSE_RES, /* context: refused, surely not in the log */
	RAFT_MSG_TIMEOUT_NOW, /* campaign at once (thesis 3.10) */
	RAFT_MSG_TYPE_MAX
};
struct raft_message {
	enum raft_message_type type;
	bool reject, transfer;
	uint64_t from, to, term;
	uint64_t index, log_term, commit, context;
	uint64_t hint_index, hint_term;
	const struct raft_entry *entries; /* borrowed from whoever made the message */
	size_t entry_count;
};
const char *raft_message_name(enum raft_message_type type);
/* Appends the encoding (version 1, little-endian varints; no length in front). The buffer's ceiling applies.
 */
void raft_message_encode(const struct raft_message *message, struct buf *out);
/* -EBADMSG: malformed, another version, or past a limit. On success the entries are owned:
 * raft_message_done(). */
int raft_message_decode(struct slice bytes, struct raft_message *ret_message) _must_check_;
void raft_message_done(
	struct raft_message *message); /* drops the entries of a decoded message; harmless twice */

/* ---- The machine ---- */
enum raft_role { RAFT_FOLLOWER, RAFT_PRECANDIDATE, RAFT_CANDIDATE, RAFT_LEADER, RAFT_ROLE_MAX };
const char *raft_role_name(enum raft_role role);

struct raft_hard_state {
	uint64_t term, vote, commit; /* vote 0: none */
};

/* Gives back entries that raft no longer holds in memory. Optional: without it the log since its first entry
 * stays in memory. Appends references to `ret_entries` (room for `max`): entries lo, lo+1, ... below hi, at
 * least one, stopping when their data passes max_bytes. Answers how many, -EAGAIN (being read: raft asks
 * again at a later event), or -ENOENT (gone: a follower that needs them needs a snapshot). */
struct raft_log_ops {
	int (*entries)(void *userdata, uint64_t lo, uint64_t hi, uint64_t max_bytes,
		struct raft_entry *ret_entries, size_t max);
	void *userdata;
};

struct raft_options {
	uint64_t id;   /* this member; not 0 */
	uint64_t seed; /* of the random generator */
	/* Numbers forwarded proposals and reads; must be above all that an earlier life of this member used,
	 * so that a late answer or a doubled message of an earlier life is recognised. Microseconds since
	 * 1970 do. */
	uint64_t first_context;
	uint32_t heartbeat_ticks; /* > 0 */
	uint32_t election_ticks; /* > heartbeat_ticks; a leader that hears of no quorum for so long steps down
				  */
	uint32_t election_jitter_ticks; /* a follower waits election_ticks + 0 ... jitter - 1; 0:
					   election_ticks */
	/* Limits; 0 takes the default in brackets. */
	uint64_t message_bytes_max;	/* entry data of one append; one entry always fits [1 MiB] */
	uint64_t window_bytes_max;	/* unacknowledged entry data per follower [8 MiB] */
	uint32_t window_messages_max;	/* unacknowledged appends per follower [256] */
	uint64_t uncommitted_bytes_max; /* beyond it, uncommitted or not yet on the leader's own disk,
					   proposals are refused [64 MiB] */
	uint64_t apply_bytes_max; /* entry data of one batch's committed entries; one always fits [8 MiB] */
	uint64_t cache_bytes_max; /* with log ops: memory of the entries kept; what is not durable always is
				     [64 MiB] */
	uint32_t reads_max;	  /* reads waiting [65536] */
	struct raft_log_ops log;
	/* Where the log begins: the last entry covered by a checkpoint (0, 0: none), and the membership at
	 * that entry. */
	uint64_t snapshot_index, snapshot_term;
	struct raft_conf conf;
};

struct raft;
/* The log's records are loaded next, then raft_start(). Never NULL; options are copied. */
struct raft *raft_new(const struct raft_options *options);
struct raft *raft_free(struct raft *raft);
DEFINE_CLEANUP(struct raft *, raft_free)

/* Before raft_start(), in the order of the log on disk. An entry at an index already loaded replaces it and
 * drops all behind it. Takes a reference of the data. -EBADMSG: a gap, or terms that go down. The last hard
 * state counts; -EBADMSG when it contradicts the one before (the term goes down). */
int raft_load_entry(struct raft *raft, const struct raft_entry *entry) _must_check_;
int raft_load_hard_state(struct raft *raft, const struct raft_hard_state *state) _must_check_;
/* All entries loaded so far are void: the log begins behind the snapshot again. */
void raft_load_clear(struct raft *raft);
/* In the place of options.first_context, for an owner that learns it from what it loads. */
void raft_set_first_context(struct raft *raft, uint64_t first_context);
/* Checks the whole (-EBADMSG: commit beyond the last entry, term below the last entry's) and begins as a
 * follower. The committed entries behind the snapshot come out in the first batches, to be applied. */
int raft_start(struct raft *raft) _must_check_;

/* Events. */
void raft_tick(struct raft *raft, uint32_t ticks);
/* Ticks until something is due (at least 1); an owner may sleep that long and then tell of all of them at
 * once. */
uint32_t raft_ticks_until_due(const struct raft *raft);
/* Takes references of the entries it keeps; the message stays the caller's. Messages to others, of lower
 * terms, and those that make no sense are dropped; answers of strangers too (a leader may be one: the own
 * membership can lag behind). */
void raft_step(struct raft *raft, const struct raft_message *message);

enum { RAFT_APPENDED = 0, RAFT_FORWARDED = 1 };
/* Proposes `count` entries of type DATA, in one piece, each with a reference of its data.
 * RAFT_APPENDED: *ret_id is the index of the first; whoever then applies an entry of another term at that
 * index knows that it was lost. RAFT_FORWARDED: *ret_id is a context; the entries come back by apply, or
 * batch.refused names the context (surely not in the log: it may be proposed again), or neither ever happens
 * (unknown; raft itself never sends a proposal twice, and a doubled message is recognised). After a change of
 * term or leader an answer no longer comes. -EHOSTUNREACH: no leader is known. -EBUSY: too much is
 * uncommitted, or leadership is being transferred. -EMSGSIZE: more than RAFT_MESSAGE_ENTRIES_MAX entries, or
 * one of more than RAFT_ENTRY_BYTES_MAX. */
int raft_propose(
	struct raft *raft, struct raft_blob *const *entries, size_t count, uint64_t *ret_id) _must_check_;
/* Proposes a membership change as one entry, on any member; answers and *ret_id as raft_propose(). -EBUSY on
 * the leader, and refused when it was forwarded: also when another change is in flight or the joint
 * configuration is not left yet. Whether it makes sense is decided when it is applied, the same on all
 * members. -EINVAL: it has no steps. */
int raft_propose_conf(
	struct raft *raft, const struct raft_conf_change *change, uint64_t *ret_id) _must_check_;
/* The owner applied a RAFT_ENTRY_CONF: the membership changes now, on every member. Must be called for every
 * such entry, in order, when it is applied, unless the owner refuses it, the same on all members. A change
 * that makes no sense changes nothing (-EINVAL, -ENOSPC as raft_conf_change_apply()). A leader that is no
 * longer a voter steps down and lets the voter that is furthest campaign at once. */
int raft_apply_conf(struct raft *raft, const struct raft_conf_change *change);
/* What is applied now is known to be committed after a start too: the commit index is written, although raft
 * does not need it to be. */
void raft_keep_commit(struct raft *raft);

/* Asks for a linearizable read (ReadIndex, thesis 6.4), on any member. A later batch.reads holds `context`
 * with the index that must be applied before the answer is read, or says that the read was dropped because
 * term or leader changed (it may be asked again at once). Contexts are the owner's and come back as they are.
 * -EHOSTUNREACH: no leader known. -EBUSY: reads_max. */
int raft_read_index(struct raft *raft, uint64_t context) _must_check_;

/* The write `id` of a batch, and all before it, is durable. */
void raft_persisted(struct raft *raft, uint64_t id);
/* All entries up to `index` are applied (at most what batches gave out). */
void raft_applied(struct raft *raft, uint64_t index);
/* Campaign now, as if the election timeout had passed (with pre-vote). For a sole voter at start. */
void raft_campaign(struct raft *raft);
/* Hands leadership to a voter (thesis 3.10); given up after an election timeout. -EHOSTUNREACH: not the
 * leader; -ENOENT: no such voter; -EBUSY: another transfer runs; -EALREADY: it is this member. */
int raft_transfer_leader(struct raft *raft, uint64_t to) _must_check_;
/* A message to this member could not be sent: its pipeline falls back to probing. */
void raft_unreachable(struct raft *raft, uint64_t id);
/* The connection to this member broke: its process has probably ended. When it is the leader, a follower
 * gives it only two to four heartbeat intervals more to be heard of, and meanwhile no longer defends it
 * against pre-votes. One alone that lost its connection changes nothing, since the others go on defending a
 * leader that they hear. */
void raft_suspect(struct raft *raft, uint64_t id);
/* Entries that the log's ops answered -EAGAIN for are there now. */
void raft_entries_read(struct raft *raft);
/* Entries up to `index` are covered by a durable checkpoint and may be forgotten (at most what is applied).
 */
void raft_compact(struct raft *raft, uint64_t index);

/* Snapshots. batch.snapshots names followers whose next entry is gone from the log. The owner sends them a
 * checkpoint, or answers that it has none to give: then the follower is asked for again after an election
 * timeout. */
void raft_snapshot_sent(struct raft *raft, uint64_t id, uint64_t index); /* arrived, covers up to index */
void raft_snapshot_refused(struct raft *raft, uint64_t id); /* not possible now, or failed on the way */
/* On the follower: the owner holds a durable checkpoint of (index, term) with this membership, received from
 * `from` in term `leader_term`. 0: the log now begins behind it. -ESTALE: older than what is committed, or
 * than the term. */
int raft_snapshot_install(struct raft *raft, uint64_t from, uint64_t leader_term, uint64_t index,
	uint64_t term, const struct raft_conf *conf) _must_check_;

/* Work. */
struct raft_read {
	uint64_t context;
	uint64_t index; /* to be applied before reading */
	bool dropped;	/* index means nothing; ask again */
};
struct raft_write {
	uint64_t id;			   /* 0: nothing to write */
	bool hard_state_changed;	   /* term or vote are new, or the commit index is asked for */
	struct raft_hard_state hard_state; /* written in each write, whether it changed or not */
	const struct raft_entry
		*entries; /* an entry at an index given before replaces it and voids all behind it */
	size_t entry_count;
};
struct raft_batch {
	struct raft_write write;
	const struct raft_message *messages; /* may all be sent at once */
	size_t message_count;
	const struct raft_entry
		*committed; /* to be applied, in order; may come before they are durable here */
	size_t committed_count;
	const struct raft_read *reads;
	size_t read_count;
	const uint64_t *refused; /* contexts of forwarded proposals that the leader refused */
	size_t refused_count;
	const uint64_t *snapshots; /* followers that need one */
	size_t snapshot_count;
	bool role_changed; /* role, leader or term differ from the batch before */
};
bool raft_has_ready(const struct raft *raft);
/* Fills the batch, borrowed until raft_advance(), which must follow before the next raft_ready(). Events may
 * come in between (applying calls raft_apply_conf, raft_applied). To keep data longer, take a reference of it
 * (raft_blob_ref). */
void raft_ready(struct raft *raft, struct raft_batch *ret_batch);
void raft_advance(struct raft *raft);

/* State, for statistics and decisions of the owner. */
struct raft_status {
	uint64_t id, term, vote, leader; /* leader 0: not known */
	enum raft_role role;
	uint64_t first_index, last_index, last_term, commit, applied, persisted;
	uint64_t commit_persisted; /* the commit index that a restart is sure to find */
	uint64_t transfer_to;	   /* 0: none */
	uint64_t uncommitted_bytes, cached_bytes;
};
void raft_status_get(const struct raft *raft, struct raft_status *ret_status);
const struct raft_conf *raft_conf_get(const struct raft *raft);
enum raft_progress_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SNAPSHOT, RAFT_PROGRESS_STATE_MAX };
const char *raft_progress_state_name(enum raft_progress_state state);
struct raft_progress {
	uint64_t id, match, next;
	enum raft_progress_state state;
	bool active; /* heard of in the last election timeout, or the one before: checks come once in each */
	uint64_t window_bytes;
	uint32_t window_messages;
};
/* How far a follower is; only on the leader. -ENOENT: no such member, or this one does not lead. */
int raft_progress_get(const struct raft *raft, uint64_t id, struct raft_progress *ret_progress) _must_check_;
/* The term of an entry, 0 when it is outside the log. */
uint64_t raft_term_of(const struct raft *raft, uint64_t index);
