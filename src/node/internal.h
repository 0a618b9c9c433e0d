/* What the files of this room share. Private to it. */
#pragma once
#include "node/node.h"
#include "base/list.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "base/wire.h"
#include "checkpoint/checkpoint.h"
#include "raft/raft.h"
#include "store/store.h"
#include "wal/wal.h"

/* What to do about damaged data. */
#define NODE_REBUILD_HINT                                                                                    \
	"start this member once with --rebuild and its usual flags to get its data from the other members, " \
	"or "                                                                                                \
	"restore a snapshot"
/* Of entries applied in one piece. A command's has more than 32 bytes, so that this bounds their number too.
 */
#define NODE_APPLY_PIECE_BYTES (32u << 10)
#define NODE_APPLY_PIECE_ENTRIES (NODE_APPLY_PIECE_BYTES / 32)
/* A leader proposes no more while so much waits for the write of its log that is under way: to make the next
 * write of all that clients may have under way would take too long for a turn. */
#define NODE_GATHERED_BYTES_MAX (4u << 20)
#define NODE_FORWARDED_BYTES_MAX (4u << 20) /* to a leader, and not applied yet */
#define NODE_VERSION_BYTES_MAX 64u
#define NODE_CLOCK_MAX_NS (INT64_MAX / 2) /* of a cluster clock that another member tells: the year 2116 */
#define NODE_REQUEST_TIMEOUT_NS (5 * NS_PER_S) /* plus two election timeouts, as in etcd */
#define NODE_EXPIRY_INTERVAL_NS (25 * NS_PER_MS)
#define NODE_PUBLISH_RETRY_NS (500 * NS_PER_MS)
#define NODE_SPARE_RETRY_NS NS_PER_S	       /* after there was no space for a segment made ahead of time */
#define NODE_ROOM_LEAST_BYTES UINT64_C(262144) /* of the log, for votes */
#define NODE_TICKS_PER_HEARTBEAT 10u
#define NODE_COMPLAINT_PAUSE_NS (60 * NS_PER_S)
/* One that was told that it was removed, and does not hear it from a majority, ends all the same. */
#define NODE_TOLD_REMOVED_NS (600 * NS_PER_S)
#define NODE_UNWRITTEN_BYTES_MAX \
	(32u << 20) /* a follower whose disk hangs takes no more: four windows of a leader */
#define NODE_BATCHES_PER_TURN 64u
#define NODE_BUCKETS 4096u
#define NODE_HASH_INTERVAL 64u /* raft indices between state hashes that members compare */
#define NODE_HASHES_KEPT 8u
/* Of what the members and the ids of those removed take in a checkpoint: no change lets it grow beyond this.
 * Names and client URLs, which come later, are bounded for each member. */
#define NODE_MEMBERSHIP_BYTES_MAX (1u << 20)
static_assert(
	NODE_MEMBERSHIP_BYTES_MAX + NODE_MEMBERS_MAX * ((NODE_MEMBER_URLS_MAX + 1) * 2 * NODE_URL_BYTES_MAX) <
		CHECKPOINT_MEMBERSHIP_MAX / 2,
	"a membership must fit into a checkpoint");

/* ---- Entries: u8 version (1) | u8 kind | u64 origin member | u64 boot | u64 sequence | payload ---- */
#define NODE_ENTRY_VERSION 1u
#define NODE_ENTRY_HEADER_BYTES 26u
enum node_entry_kind {
	NODE_ENTRY_COMMAND = 1, /* a store command */
	NODE_ENTRY_ATTRIBUTES =
		2, /* a member's name and client URLs: varint id, bytes name, varint count, URLs */
	NODE_ENTRY_VERSION_SET = 3, /* the cluster version: bytes */
	NODE_ENTRY_MEMBER = 4	    /* a change of the membership (change.c); for raft's in the context of its
				       entry */
};
#define NODE_BOOTSTRAP_TERM 1u /* of the initial cluster's entries, whose contexts are peer URLs alone */
struct node_entry {
	enum node_entry_kind kind;
	uint64_t origin, boot, sequence;
	struct slice payload;
};
struct raft_blob *node_entry_encode(const struct node_entry *entry);
int node_entry_decode(struct slice bytes, struct node_entry *ret_entry) _must_check_;
/* Is it an entry that members of this version can apply, and that member `origin` may ask for? */
bool node_entry_is_sound(const struct raft_entry *entry, uint64_t origin);

/* ---- Peer messages: an envelope around a raft message or one of a checkpoint's transfer ---- */
#define NODE_ENVELOPE_VERSION 1u
#define NODE_ENVELOPE_BYTES 66u
#define NODE_ENVELOPE_NO_SPACE 0x80u /* beside the kind */
enum node_envelope_kind { NODE_ENVELOPE_RAFT = 1, NODE_ENVELOPE_CHECKPOINT = 2 };
struct node_envelope {
	enum node_envelope_kind kind;
	bool no_space; /* the sender's alarm */
	uint64_t cluster_id, from, to;
	int64_t clock_ns; /* the leader's cluster clock; 0 from others */
	/* State hash of the sender at a fixed index, and the newest that it knows a majority to agree on.
	 * Index 0: none yet. */
	uint64_t hash_index, hash, agreed_index, agreed_hash;
	struct slice payload;
};
void node_envelope_encode(const struct node_envelope *envelope, struct buf *out); /* without the payload */
int node_envelope_decode(struct slice bytes, struct node_envelope *ret_envelope) _must_check_;

/* ---- Requests under way ---- */
enum node_internal { NODE_REQUEST, NODE_PUBLISH, NODE_VERSION, NODE_TICK, NODE_PROMOTE, NODE_INTERNAL_MAX };

struct request {
	struct list link; /* node.requests */
	void *name;	  /* as the caller calls it; NULL: forgotten, or internal */
	bool is_read;
};

struct pending {
	struct list link;		  /* node.pendings, oldest first */
	struct pending *chain;		  /* bucket, by sequence */
	struct list queue_link;		  /* node.queue, or conf_queue, while not proposed */
	struct raft_blob *blob;		  /* the entry; of a conf: the encoded raft_conf_change */
	uint64_t sequence, term, raft_id; /* term and id it was proposed with */
	uint64_t leader_changes;	  /* node.leader_changes when it arrived */
	int64_t deadline_ns;
	enum node_internal internal;
	bool conf; /* goes through raft_propose_conf() */
	bool sent, forwarded;
	uint64_t window; /* node.window in which it was forwarded; another one: it no longer counts */
	struct request request;
};

struct read_request {
	struct list link;	/* node.reads, oldest first */
	struct list queue_link; /* node.read_queue, or those of a batch */
	int64_t deadline_ns;
	uint64_t leader_changes;
	struct request request;
};
/* Reads that were asked for in one turn share a context. */
struct read_batch {
	struct list link; /* node.read_batches, oldest first */
	struct list reads;
	uint64_t context, index; /* index 0: not known yet */
};

struct member {
	struct node_member view;
	char **peer_urls, **client_urls, *name; /* owned */
	bool connected;
	bool no_space;	     /* as it told last */
	uint64_t told_index; /* of the checkpoint that it was last said to be sent */
	uint64_t hash_index[NODE_HASHES_KEPT], hash[NODE_HASHES_KEPT]; /* what it told of its state */
	struct node_follower follower;
	uint64_t timed_index, timed_term; /* of the append that is being timed; 0: none */
	int64_t timed_ns;
	/* Catching up: the leader's last entry at the begin of the round; 0: none runs. */
	uint64_t round_target, round_term;
	int64_t round_begun_ns;
	/* Bytes that it forwarded, and were taken, while the log's write of this number was under way. */
	uint64_t gathered_bytes, gathered_write;
};

/* ---- Checkpoints ---- */
#define NODE_CHECKPOINT_RETRY_NS (10 * NS_PER_S) /* after one failed */
#define NODE_CHECKPOINT_REST_MAX_NS NS_PER_S	 /* between two pieces */
#define NODE_RECEIVE_PATIENCE 10 /* election timeouts without an offer or a piece, then it is given up */
/* After one that did not fit on the disk, each time twice as long: trying costs writing all that fits. */
#define NODE_ROOM_RETRY_NS NS_PER_S
#define NODE_ROOM_RETRY_MAX_NS (16 * NS_PER_S)
#define NODE_MARKS 32u
#define NODE_GENERATIONS_MAX 16u
#define NODE_FREE_PER_TURN 32u /* pages of a replaced store: a fraction of a millisecond */
#define NODE_BAD_CHUNKS_MAX 8u
#define NODE_ENTRY_OVERHEAD_BYTES 48u /* of an entry in the log, beside its data */

enum node_job { /* what the checkpoints' background plan does */
	NODE_JOB_NONE,
	NODE_JOB_START,
	NODE_JOB_WRITE,
	NODE_JOB_WRITE_SWITCH,
	NODE_JOB_RECEIVE,
	NODE_JOB_RECEIVE_SWITCH,
	NODE_JOB_READ,
	NODE_JOB_REMOVE,
	NODE_JOB_RELEASE, /* of the log's segments */
	NODE_JOB_LOG,	  /* reading it */
	NODE_JOB_GIVE,	  /* the log's reserve, to make room for a checkpoint */
	NODE_JOB_EXPORT,  /* reading a checkpoint for somebody outside */
};

/* Data files that are to be removed. */
struct generations {
	uint64_t at[NODE_GENERATIONS_MAX];
	size_t len;
};

/* A checkpoint on its way to a follower. */
struct outgoing {
	struct list link; /* node.outgoing */
	uint64_t to;
	struct checkpoint_info info;
	struct checkpoint_source *source;
	int64_t heard_ns, offered_ns;
	bool offer_due, wanted;
	uint64_t offset; /* of the bytes wanted */
	/* The last piece: its offset, when it was sent first and last (0: none is on its way), and after how
	 * long again. */
	uint64_t sent_offset;
	int64_t first_ns, sent_ns, again_ns;
};

/* A checkpoint on its way here: first `receiver`, then `store`, while a leader is waited for under whom it
 * can be installed. */
struct incoming {
	struct checkpoint_receiver *receiver;
	struct checkpoint *checkpoint;
	struct store *store;
	struct checkpoint_id id;
	uint64_t generation, from;
	int64_t heard_ns;     /* when a leader last offered one or sent a piece */
	int64_t turn_ns;      /* of the last turn */
	bool want_due, begun; /* begun: the data file may be there */
	bool understood;      /* its membership was read */
	bool plan_ready, plan_switches;
	struct checkpoint_plan plan;
	/* `id` did not fit on the disk: not taken before, and for how long; 0: it may. */
	int64_t after_ns, pause_ns;
	unsigned bad_chunks;
	uint8_t answer; /* due to answer_to; 0: none */
	uint64_t answer_to;
	struct checkpoint_id answer_id;
	uint8_t answer_why; /* of a refusal */
};

/* What decides whether the next checkpoint will fit: the size of the current one, by how much the log has
 * grown since and by how much it grows until a checkpoint that is written early, what is still to be written
 * of the one under way (at most; 0: none), and what is left on the disk. */
struct checkpoint_space {
	uint64_t data_bytes, log_bytes, step_bytes, pending_bytes, room;
};
struct checkpoints {
	uint64_t log_min_bytes, entries_max;
	size_t step_bytes, piece_bytes;

	struct checkpoint *current; /* NULL: none */
	uint64_t next_generation;
	struct checkpoint_writer *writer;
	uint64_t writer_index, writer_generation, writer_log_bytes, writer_bytes; /* bytes: written so far */
	bool give_reserve, gave_reserve;
	uint64_t disk_room; /* as it was seen last */
	bool asked;	    /* one is needed though none is due */
	bool unreadable;    /* the current one cannot be read: one of the same index is better than it */
	int64_t after_ns;   /* the next one not before */
	/* Of the one under way: when its last piece was begun, how far the log had grown when writes were
	 * looked for last, and when it goes on unless it has to at once. */
	int64_t piece_ns;
	uint64_t piece_log_bytes;
	int64_t rest_until_ns;
	int64_t room_pause_ns; /* none fitted on the disk since the current one: how long after that; 0: one
				  may */

	/* Bytes of entries applied, and how many there were at the index of the current checkpoint. */
	uint64_t log_bytes, current_log_bytes;
	struct {
		uint64_t index, log_bytes;
	} marks[NODE_MARKS]; /* oldest first: where the log can be cut */
	size_t marks_len;
	uint64_t release_index; /* the log's entries below it can go; 0: nothing to do */
	uint64_t release_after; /* so many writes of the log are done */
	bool release_due;	/* there may be more that can go at once */
	unsigned last_kind;	/* of background work, see node_checkpoint_background() */

	/* Unsure: what CHECKPOINT names after its switch failed; to be removed after the next one. */
	struct generations stale, unsure;

	struct wal_plan plan; /* under way, or its memory */
	struct checkpoint_plan steps;
	struct wal_step switch_steps[2]; /* what is left of the switch when the plan has been carried out */
	size_t switch_steps_len;
	enum node_job job;
	bool done;
	int error;
	uint64_t job_to; /* READ: for whom */
	struct checkpoint_id job_id;
	uint64_t job_offset;
	struct buf read;

	struct list exports; /* struct node_export.link */
	size_t exports_len;
	struct node_export *exporting; /* for which the EXPORT job reads; NULL: it was freed */

	struct list outgoing;
	struct incoming incoming;
	struct store **retired; /* no longer needed: to be freed, in slices, when they are no longer read */
	size_t retired_len;
	struct store *ending; /* the one that is being freed; NULL: none */
	bool freeing;	      /* there is more to do at once */
	uint64_t written, received, sent;
};

/* ---- Entries read back from the log ---- */
#define NODE_LOG_CACHE_BYTES (UINT64_C(16) << 20) /* of entries that raft keeps in memory */
#define NODE_LOG_RUNS 4u
/* Unused for so long, a run goes: it is as large as the write it was read from, tens of megabytes at most. */
#define NODE_LOG_RUN_KEPT_NS (20 * NS_PER_S)

struct log_run { /* without a gap */
	struct raft_entry *entries;
	size_t len, cap;
	uint64_t used; /* log_reader.uses then */
	int64_t used_ns;
};
struct log_reader {
	struct log_run runs[NODE_LOG_RUNS];
	uint64_t uses, reads;
	uint64_t wanted; /* to be read next; 0: nothing */
	bool reading;	 /* entry `index`, with its neighbours */
	uint64_t index;
	uint64_t final; /* when the read began, entries up to here were in the files as they stay */
	struct wal_range range;
	struct buf bytes;
	uint64_t damaged_index; /* up to here entries cannot be read; 0: none */
};

enum node_phase {
	NODE_PHASE_OPENING,
	NODE_PHASE_CLEANING, /* what recovery saw is being made durable */
	NODE_PHASE_BOOTING,  /* the boot number (and a fresh log's first entries) is being written */
	NODE_PHASE_RUNNING,
};

/* Handing over because of a slow disk (handover.c). */
#define NODE_SLOW_WRITES 3u		 /* in a row */
#define NODE_HANDOVER_PAUSE_ELECTIONS 10 /* a leader keeps what it was given so long at least */
struct slowness {
	int64_t submitted_ns; /* of the log write under way */
	uint64_t last_index;  /* of the entries in it */
	int64_t looked_ns;    /* when it was last seen how long that takes */
	bool outrun;	      /* others had all of it on their disks long before this member */
	unsigned writes;      /* that were outrun, in a row */
	int64_t after_ns;     /* no handover before */
	uint64_t term;	      /* led in; after_ns belongs to it */
	uint64_t handovers;
};

struct node {
	struct env *env;
	enum node_phase phase;
	char *failure;
	bool failure_told;

	uint64_t cluster_id, id, boot;
	char *name, **client_urls, *server_version;
	uint32_t election_ms;

	/* raft and its clock */
	struct raft *raft;
	struct raft_status status;	     /* as of the last batch */
	int64_t tick_ns, ticked_ns, turn_ns; /* the last tick; when the last turn began */
	uint64_t leader_changes;
	int64_t leader_since_wall_ns;
	bool propose_blocked; /* raft took nothing: look again at the next tick or change */
	bool conf_blocked;    /* the same for changes of the membership */
	/* What the leader refused is sent again, all of its bytes: after twice as long each time. */
	int64_t propose_after_ns, refused_pause_ns;
	/* Of what is forwarded: a leader that is full refuses all of it. What was on its way to another one,
	 * or over another connection, is not waited for. */
	uint64_t window, window_bytes;
	bool more_work;
	/* Of the present turn: what it may still answer, and what it applied. */
	unsigned replies_left;
	uint64_t turn_entries, turn_bytes;

	/* disk */
	struct wal *wal;
	uint64_t segment_bytes;
	int64_t look_after_ns; /* at the disk, while there is an alarm */
	bool space_low;	       /* the alarm */
	bool others_low;       /* the same of a leader most of whose voters have it */
	bool no_fit;	       /* what the leader sent is more than what is left: a wait for space */
	uint64_t taken_bytes;  /* of appends since the last turn */
	int64_t hand_over_after_ns;
	struct wal_plan log_plan, spare_plan;
	bool log_busy, spare_busy, log_done, spare_done;
	uint64_t log_writes, log_writes_done; /* how many there were */
	bool spare_was_last;		      /* of what was done in the background */
	bool spare_full;		      /* spare_done, but there was no space */
	int64_t spare_after_ns;
	uint64_t write_id_added, write_id_submitted;
	struct slowness slowness;
	bool log_cleaned;
	struct log_reader log_reader;
	struct checkpoints checkpoints;

	/* state */
	struct store *store;
	uint64_t applied, applied_term;
	struct member *members; /* by id */
	size_t members_len;
	bool members_dirty;
	uint64_t *removed_ids; /* ascending; never used again */
	size_t removed_len;
	/* The last change that removed a member, until a restart is sure to know it committed; or 0. */
	uint64_t removal_unkept;
	/* This member itself. */
	bool removed;
	struct raft_set told_by; /* the voters that said so */
	int64_t told_ns;	 /* when anybody did first; 0: nobody */
	char *cluster_version;
	uint64_t hash_index[NODE_HASHES_KEPT], hash[NODE_HASHES_KEPT];
	uint64_t hash_newest;
	int64_t complain_after_ns; /* of what members forward */
	/* What a majority agrees on, as far as this member heard. */
	uint64_t agreed_index[NODE_HASHES_KEPT], agreed_hash[NODE_HASHES_KEPT], agreed_newest;

	/* cluster clock: base_ns when the monotonic clock showed base_mono_ns */
	int64_t clock_base_ns, clock_base_mono_ns;
	uint64_t clock_source, clock_term; /* the leader that it follows */

	/* requests */
	struct list pendings, queue, conf_queue;
	struct pending *buckets[NODE_BUCKETS];
	struct list requests[NODE_BUCKETS]; /* under way, by name */
	uint64_t next_sequence;
	size_t pending_count, pending_bytes;
	struct pending *under_way[NODE_INTERNAL_MAX]; /* of this member's own accord: one of each kind */
	bool published;
	int64_t publish_after_ns, expiry_after_ns;
	struct list reads, read_queue, read_batches;
	size_t read_count;
	uint64_t next_read_context;

	struct buf send_buf;
};

static inline int64_t node_mono(const struct node *node)
{
	return node->env->ops->mono_ns(node->env);
}
void node_note(struct node *node, enum log_level level, const char *format, ...) _printf_(3, 4);
/* The node stops for good; answers -ESHUTDOWN. The first reason counts. */
int node_fail(struct node *node, const char *format, ...) _printf_(2, 3);

/* apply.c */
void node_apply_batch(struct node *node, const struct raft_batch *batch);
struct raft_blob *node_conf_entry(uint64_t id, const char *const *peer_urls);
/* change.c */
void node_change_encode(const struct node_member_change *change, struct buf *out);
int node_change_decode(struct slice bytes, struct node_member_change *ret_change,
	char ***ret_urls) _must_check_; /* the URLs are owned: node_urls_free() */
void node_change_steps(const struct node_member_change *change, struct raft_conf_change *ret_steps);
enum node_error node_change_check(const struct node *node, const struct node_member_change *change);
enum node_error node_change_apply(struct node *node, const struct node_member_change *change);
void node_change_settle(struct node *node); /* after raft's membership changed: who is gone is removed */
void node_removal_kept(struct node *node);  /* looks whether the last removal is on the disk as committed */
void node_found_removed(struct node *node); /* this member, in the log or a checkpoint */
bool node_may_end(const struct node *node); /* node_status.may_end */
void node_member_set_peer_urls(struct node *node, uint64_t id, const char *const *urls);
void node_promote_turn(struct node *node, int64_t now_ns);
/* members.c */
struct member *node_member_find(const struct node *node, uint64_t id);
struct member *node_member_add(struct node *node, uint64_t id);
void node_member_remove(struct node *node, uint64_t id);
void node_members_free(struct node *node);
char **node_urls_dup(const char *const *urls);
char **node_urls_free(char **urls);
void node_urls_encode(struct buf *out, const char *const *urls);
char **node_urls_decode(struct wire_reader *reader); /* NULL when malformed */
void node_urls_add_json(struct buf *out, char *const *urls);
bool node_urls_fit(const char *const *urls); /* as many and as long as they may be */
/* propose.c */
void node_propose_internal(
	struct node *node, enum node_internal internal, enum node_entry_kind kind, struct slice payload);
void node_propose_conf(struct node *node, enum node_internal internal,
	const struct node_member_change *change, void *request);
void node_flush_proposals(struct node *node);
/* So many bytes wait for the log, or it has no next segment: a leader takes no more until it is not. */
bool node_log_is_behind(const struct node *node, size_t gathered_max);
bool node_entry_grows(const struct raft_entry *entry); /* the store */
bool node_queue_waits(const struct node *node);	       /* for something to happen, or for proposals */
void node_proposals_refused(struct node *node, const uint64_t *contexts, size_t count);
void node_proposals_go_on(struct node *node); /* under another leader or term, or over another connection */
void node_proposals_lost_before(struct node *node, uint64_t term);
/* Entries were skipped: what was proposed may be among them. */
void node_proposals_skipped(struct node *node);
void node_complete(struct node *node, const struct node_entry *entry, const struct raft_entry *raft_entry,
	enum node_error error, const struct store_result *result);
void node_expire_requests(struct node *node, int64_t now_ns);
void node_stop_requests(struct node *node);
void node_requests_free(struct node *node);
enum node_error node_unknown_fate(const struct node *node, uint64_t leader_changes_then);
/* Refuses what waits and grows the store. */
void node_refuse_growth(struct node *node);
/* request.c */
void node_requests_init(struct node *node);
void node_request_begin(struct node *node, struct request *request, void *name); /* NULL: an internal one */
void *node_request_end(struct request *request); /* answers the name; NULL: nobody waits for it */
/* space.c */
enum node_space node_space(const struct node *node);
bool node_grows(const struct store_command *command);
bool node_space_is_out(int error); /* what a plan's error says */
/* Until it is tried again what did not fit: longer than the last time; 0: it is the first. */
int64_t node_space_pause_ns(int64_t last_ns);
bool node_ends_growth(const struct node *node); /* by its own alarm, or as a leader by the others' */
bool node_refuses(const struct node *node, const struct store_command *command);
void node_space_out(struct node *node); /* a plan had no space */
/* Whether a follower's log can take so many bytes more. If not, that is a cause for the alarm. */
bool node_space_for_append(struct node *node, uint64_t bytes);
void node_space_look(struct node *node);	      /* what is left may have changed */
bool node_space_for_segment(const struct node *node); /* beside what a checkpoint may need */
void node_space_turn(struct node *node, int64_t now_ns);
/* read.c */
void node_flush_reads(struct node *node);
void node_reads_answered(struct node *node, const struct raft_read *reads, size_t count);
void node_serve_reads(struct node *node);
void node_expire_reads(struct node *node, int64_t now_ns);
int64_t node_reads_deadline(const struct node *node);
void node_stop_reads(struct node *node, bool tell);
void node_read_forgotten(struct node *node, struct request *request);
/* handover.c */
void node_slowness_submitted(struct node *node);
void node_slowness_written(struct node *node);
void node_handover_turn(struct node *node, int64_t now_ns);
int64_t node_handover_due_ns(const struct node *node);
/* clock.c */
void node_clock_start(struct node *node, int64_t now_ns);
int64_t node_clock_at(const struct node *node, int64_t now_ns);
void node_clock_adopt(struct node *node, uint64_t leader, uint64_t term, int64_t clock_ns, int64_t now_ns);
void node_clock_lead(struct node *node, int64_t now_ns);
/* peer.c */
void node_send_messages(struct node *node, const struct raft_message *messages, size_t count);
void node_append_lost(struct member *member);
void node_hash_reached(struct node *node, uint64_t index);
/* checkpoint.c */
int node_checkpoint_open(struct node *node, struct raft_conf *ret_conf, char **ret_error) _must_check_;
int node_checkpoint_start(struct node *node, char **ret_error) _must_check_;
void node_checkpoint_applied(struct node *node, const struct raft_entry *entry);
bool node_checkpoint_gives_back(const struct node *node); /* space, before long */
/* What is in it is applied, and not in the own log yet: on a disk that is slower than the others' there may
 * always be such entries, but these will be there with the next write. */
bool node_checkpoint_waits(const struct node *node);
void node_checkpoint_background(struct node *node);
void node_checkpoint_done(struct node *node);
void node_checkpoint_became(struct node *node, struct checkpoint *checkpoint);
void node_checkpoint_space(const struct node *node, struct checkpoint_space *ret);
void node_checkpoint_submit(struct node *node, enum node_job job, struct checkpoint_plan *steps);
void node_membership_encode(const struct node *node, struct buf *out);
/* Turns a checkpoint's plan into one of the log's kind; their memory changes hands. */
void node_checkpoint_to_plan(struct checkpoint_plan *steps, struct wal_plan *plan);
/* Submits a plan that reads a range into checkpoints.read. */
void node_checkpoint_read(struct node *node, enum node_job job, const struct checkpoint_range *range);
bool node_generations_add(struct generations *generations, uint64_t generation);
void node_checkpoints_free(struct node *node);
/* -EBADMSG, or -EPROTONOSUPPORT: of a newer version. Then nothing is changed. */
int node_membership_set(struct node *node, struct slice bytes, struct raft_conf *ret_conf) _must_check_;
/* Whether that would be taken; *ret_error (owned) says what is wrong with the checkpoint that has it. */
int node_membership_check(struct slice bytes, struct raft_conf *ret_conf, char **ret_error) _must_check_;
/* log.c */
int node_log_entries(void *userdata, uint64_t lo, uint64_t hi, uint64_t max_bytes,
	struct raft_entry *ret_entries, size_t max);
bool node_log_background(struct node *node); /* true: it submitted a plan */
void node_log_done(struct node *node, int error);
void node_log_turn(struct node *node, int64_t now_ns);
void node_log_free(struct node *node);
/* export.c */
void node_exports_turn(struct node *node);
void node_exports_failed(struct node *node, int error); /* those that wait */
bool node_exports_read(const struct node *node, uint64_t generation);
bool node_exports_background(struct node *node); /* true: it submitted a plan */
void node_export_done(struct node *node, int error);
/* transfer.c */
void node_transfer_receive(struct node *node, const struct node_envelope *envelope);
void node_transfer_wanted(struct node *node, uint64_t to);
void node_transfer_turn(struct node *node, int64_t now_ns);
bool node_transfer_background(struct node *node); /* true: it submitted a plan */
void node_transfer_done(struct node *node, enum node_job job, int error);
bool node_transfer_reads(const struct node *node, uint64_t generation);
/* A checkpoint that this member needs does not fit on its disk. */
bool node_transfer_lacks_room(const struct node *node);
/* Where the log is to be cut, at `index` at most. Who follows and is heard of is not cut off from what it
 * needs: it would be sent a checkpoint, and what is written meanwhile could cut it off again, for ever. But
 * not much more is kept than that checkpoint is large, since to send so much log takes as long, nor where
 * space is short.
 */
uint64_t node_transfer_keeps(const struct node *node, uint64_t index);
void node_transfer_cut_off(struct node *node, uint64_t to); /* what was on its way to it is lost */
void node_transfers_free(struct node *node);
/* node.c */
void node_run_batch(struct node *node);
/* peer.c */
void node_send(struct node *node, uint64_t to, enum node_envelope_kind kind, struct slice payload, bool bulk);
