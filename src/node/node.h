/* One member of a cluster: raft, its log on disk, the store, membership and the forwarding of requests, over
 * struct env.
 *
 * Use: node_open(), then hand in events as they come (node_receive, node_disk_done, node_propose,
 * node_read_index) and call node_turn() once per loop turn. A turn does everything that became due: raft's
 * clock, one log write (group commit: what was queued while the previous write was under way goes out in the
 * next), messages, applies, replies. node_deadline_ns() says when to come back if nothing happens. Event
 * functions only queue, but for node_receive(), which may answer requests: those that a leader without space
 * would refuse.
 *
 * One thread. Nothing is acknowledged before a quorum has it on disk. A failed write or sync, a damaged
 * invariant or a majority that contradicts this member's state stops the node for good: node_failure() says
 * why; from then on it writes and sends nothing, and requests under way are answered with NODE_ERROR_STOPPED.
 */
#pragma once
#include "base/slice.h"
#include "node/env.h"

struct node;
struct store;
struct store_result;

#define NODE_VOTERS_MAX 31		   /* of the initial cluster too */
#define NODE_MEMBERS_MAX 62		   /* with those that have no vote */
#define NODE_MEMBER_URLS_MAX 16		   /* of each kind */
#define NODE_URL_BYTES_MAX 272		   /* of one of a member's URLs */
#define NODE_NAME_BYTES_MAX 255		   /* of a member's name */
#define NODE_COMMAND_MAX (12u << 20)	   /* bytes of one proposed command */
#define NODE_MESSAGE_MAX (16u << 20)	   /* bytes of one peer message */
#define NODE_PENDING_BYTES_MAX (64u << 20) /* proposals under way on one member */
#define NODE_PENDING_COUNT_MAX 16384

/* What one turn does at most, so that it takes milliseconds however much there is to be done; then the next
 * one is due at once. Of bytes it may do more by one entry, which can be as large as a command. */
#define NODE_TURN_PROPOSED_MAX 2048 /* entries of this member's requests given to raft */
#define NODE_TURN_PROPOSED_BYTES (1u << 20)
#define NODE_TURN_APPLIED_MAX 2048 /* entries that become state */
#define NODE_TURN_APPLIED_BYTES (1u << 20)
#define NODE_TURN_REPLIES_MAX 1024 /* to reads, and to what waited for too long */

/* A member as the cluster knows it. Borrowed strings live until members_changed or the next node_turn(). */
struct node_member {
	uint64_t id;
	const char *name;	      /* "" until the member has started and published itself */
	const char *const *peer_urls; /* sorted, NULL-terminated */
	const char *const *client_urls;
	uint64_t replaces; /* has no vote yet, and will take the place of this one; 0: of none */
};

struct node_config {
	uint64_t cluster_id, member_id;
	const char *name;
	const char *const
		*client_urls; /* advertised, NULL-terminated; published through the log at each start */
	const struct node_member
		*members; /* the initial cluster, this member included; used on a fresh log only */
	size_t members_len;
	bool has_log; /* it had one when it ran last: none, or one that was never written to, is damage */
	bool joins;   /* a fresh log begins empty: this member was added to a cluster that runs, from whose
			 leader it gets all */
	const char *server_version; /* what the leader proposes as cluster version, such as "2.3.0" */
	uint32_t heartbeat_ms, election_ms;
	uint64_t segment_bytes; /* size of a log segment; 0: 16 MiB */
	/* Memory of log entries that are applied but may be needed by followers; what is older is read back
	 * from the disk. 0: 16 MiB. */
	uint64_t log_cache_bytes;
	/* A checkpoint is due when the log behind the last one has grown by so much, or by the size of that
	 * one if it is larger. 0: 64 MiB. A quarter of it is kept behind the next one for slow followers. */
	uint64_t checkpoint_log_bytes;
	uint64_t checkpoint_entries;   /* also due after so many log entries; 0: however many */
	size_t checkpoint_step_bytes;  /* worked off in a turn; 0: 64 KiB */
	size_t checkpoint_piece_bytes; /* of one message of a transfer; 0: 256 KiB */
	size_t append_bytes; /* entry data in one message to a follower; one entry always fits; 0: 1 MiB */
};

enum node_error {
	NODE_OK,
	NODE_ERROR_TIMEOUT,	/* "etcdserver: request timed out" */
	NODE_ERROR_LEADER_LOST, /* "etcdserver: request timed out, possibly due to previous leader failure" */
	NODE_ERROR_CONNECTION_LOST, /* "etcdserver: request timed out, possibly due to connection lost" */
	NODE_ERROR_TOO_MANY,	    /* "etcdserver: too many requests": refused, not proposed */
	NODE_ERROR_TOO_LARGE,	    /* "etcdserver: request is too large": refused; of a change of the
					membership: a URL is too long, or there are too many */
	NODE_ERROR_STOPPED,	    /* "etcdserver: server stopped" */
	NODE_ERROR_NO_SPACE,	    /* "etcdserver: mvcc: database space exceeded": refused, not proposed */
	/* Of changes of the membership: refused, nothing was changed. */
	NODE_ERROR_MEMBER_EXISTS,    /* the id is or was a member's */
	NODE_ERROR_PEER_URL_EXISTS,  /* one of the peer URLs is another member's */
	NODE_ERROR_MEMBER_NOT_FOUND, /* there is and was no such member */
	NODE_ERROR_MEMBER_REMOVED,   /* there was one; it was removed */
	NODE_ERROR_MEMBER_REPLACED,  /* another one is about to take its place, or it another's */
	NODE_ERROR_MEMBERS_FULL,     /* as many as there can be */
	NODE_ERROR_MEMBERS_LAST,     /* the others could not go on: they have no vote */
	NODE_ERROR_MAX,
};
const char *node_error_text(enum node_error error);

/* The answer to a request. For TIMEOUT, LEADER_LOST, CONNECTION_LOST and STOPPED it is unknown whether the
 * command takes effect; it is never sent a second time. */
struct node_reply {
	enum node_error error;
	/* Of the entry that carried the command; for reads: of the last one applied. */
	uint64_t raft_index, raft_term;
	/* What the store answered to a proposal that was applied; else NULL. */
	const struct store_result *result;
};

/* Recovers the member from its log, or makes a fresh one (fresh: no log file there). Members, cluster and
 * format are checked against the log. -errno with a message (*ret_error, owned) that names file and offset:
 * nothing was changed. */
int node_open(const struct node_config *config, struct env *env, struct node **ret_node, char **ret_error);
/* Forgets everything; plans under way stay the caller's problem: call only when none is, or the disk is gone.
 * No reply is called. NULL is accepted; answers NULL. */
struct node *node_free(struct node *node);
DEFINE_CLEANUP(struct node *, node_free)

/* Whose log lies in the directory, before node_open(): *ret_exists false: none. Errors as node_open(). */
int node_identity(struct env *env, bool *ret_exists, uint64_t *ret_cluster_id, uint64_t *ret_member_id,
	char **ret_error);

/* --- events --- */
/* Untrusted, copied as needed. 0 also for what is no longer of use; -EBADMSG: no message of this cluster from
 * that member. */
int node_receive(struct node *node, uint64_t from, struct slice message);
void node_disk_done(struct node *node, const struct wal_plan *plan, int error);
/* The transport lost or regained a peer; one that it said nothing of counts as connected. Affects what is
 * sent to it when, and error texts. */
void node_peer_state(struct node *node, uint64_t id, bool connected);

/* Proposes a store command (encoded by store/command.h). Answered by env->reply(request) with NODE_OK when
 * this member has applied it. 0, or -EBUSY (too many under way), -EMSGSIZE, -EBADMSG (no store command),
 * -ENOSPC (the disk is full, here or at the leader, and it grows the store), -ESHUTDOWN: then `request` is
 * not answered. */
int node_propose(struct node *node, struct slice command, void *request) _must_check_;
/* Changes the membership. Any member may be asked. NODE_OK once this member has applied the change; changes
 * that come together are done one after the other. A member that is added has no vote until it is caught up;
 * then the leader gives it one. One that is to replace another gets it in the same step in which the other is
 * removed. Errors as node_propose(); -EINVAL: an operation that is not for callers, no id, or no peer URL. */
enum node_member_op {
	NODE_MEMBER_ADD = 1, /* id, peer_urls */
	NODE_MEMBER_REMOVE,  /* id */
	NODE_MEMBER_UPDATE,  /* id, peer_urls */
	NODE_MEMBER_REPLACE, /* id and peer_urls of the new one; replaces */
	NODE_MEMBER_PROMOTE, /* only the node's own */
	NODE_MEMBER_OP_MAX
};
struct node_member_change {
	enum node_member_op op;
	uint64_t id; /* of a new member: never used before, such as a hash of its URLs and the time */
	uint64_t replaces;
	const char *const *peer_urls; /* sorted, NULL-terminated; borrowed for the call */
};
int node_propose_member(
	struct node *node, const struct node_member_change *change, void *request) _must_check_;
/* Asks for a linearizable read: answered with NODE_OK once the store of this member is at least as new as
 * everything acknowledged before the call. Read the store inside the reply. Errors as node_propose(). */
int node_read_index(struct node *node, void *request) _must_check_;
/* The client is gone: the request will not be answered (its command may still take effect). Of several of the
 * same name it is the oldest. Cheap, however many are under way. */
void node_forget(struct node *node, void *request);

/* Hands leadership to another voter, which takes it at once when it has all of the log; given up after an
 * election timeout, and meanwhile proposals wait. 0, -EHOSTUNREACH (this member does not lead), -ENOENT (no
 * such voter), -EBUSY (another transfer runs), -EALREADY (it is this member), -ESHUTDOWN. */
int node_transfer_leader(struct node *node, uint64_t to) _must_check_;

/* Hands leadership to the voter that is furthest: under way when it answers 0, and given up after an election
 * timeout; the status tells. -EHOSTUNREACH: this member does not lead; -ENOENT: nobody could take over. A
 * leader whose disk is slow while others are quicker does so by itself. */
int node_hand_over(struct node *node) _must_check_;
/* The member `by`, of the same cluster, says that this one was removed (its transport refused a connection,
 * by node_tells_removed()). */
void node_told_removed(struct node *node, uint64_t by);

/* --- a snapshot for somebody outside --- */
#define NODE_EXPORTS_MAX 4
struct node_export;
/* Of the state as it is now or later, once all acknowledged before a read index that was just confirmed is in
 * it. `ready` is called from turns whenever there is something new to be had; it may free the export. NULL:
 * too many at a time. The node holds the files of a snapshot as long; free all before the node. */
struct node_export *node_export_new(struct node *node, void (*ready)(void *arg), void *arg) _must_check_;
struct node_export *node_export_free(struct node_export *node_export); /* NULL is fine; answers NULL */
/* The next bytes of its file, borrowed until the next call; empty at the end. -EAGAIN: `ready` comes, give
 * the node a turn. Else -errno: it cannot be had. */
int node_export_next(struct node_export *node_export, size_t max_len, struct slice *ret_bytes) _must_check_;
/* After the first bytes: of which log index it is, and how many bytes it has. */
void node_export_get_info(const struct node_export *node_export, uint64_t *ret_index, uint64_t *ret_bytes);

/* --- the state of a snapshot as the beginning of a new cluster --- */
struct node_restore;
/* The first files of a member, in an empty log directory. config: cluster_id, member_id, members,
 * members_len, segment_bytes; all members of the new cluster must be given the same but for member_id.
 * `store` becomes the restore's, also on error; index and term: the snapshot's. -EEXIST: a member is named
 * twice; -ENOSPC: too many. */
int node_restore_new(struct store *store, const struct node_config *config, uint64_t index, uint64_t term,
	uint64_t random_seed, struct node_restore **ret_restore) _must_check_;
struct node_restore *node_restore_free(struct node_restore *restore); /* NULL is fine; answers NULL */
DEFINE_CLEANUP(struct node_restore *, node_restore_free)
/* The next plan, to be carried out before the next call; false: that was all. */
bool node_restore_next(struct node_restore *restore, struct wal_plan *plan);

/* --- the turn --- */
void node_turn(struct node *node);
/* When the next turn is due, in env's mono_ns. In the past: at once. INT64_MAX: only after an event. */
int64_t node_deadline_ns(const struct node *node);

/* --- what it knows --- */
/* For local reads and watches, between turns. Only the node applies. */
struct store *node_store(struct node *node);
/* The cluster clock as this member knows it: follows the leader's, never behind the store's. Expiry times of
 * commands (now + ttl), their time_ns and the now_ns of reads are counted on it. */
int64_t node_clock_ns(const struct node *node);
const char *node_failure(const struct node *node); /* NULL while it runs */

enum node_role { NODE_FOLLOWER, NODE_CANDIDATE, NODE_LEADER, NODE_ROLE_MAX };
enum node_space {
	NODE_SPACE_OK,
	NODE_SPACE_LOW,	 /* the alarm: what grows the store is refused */
	NODE_SPACE_NONE, /* nothing is written any more but votes */
};
struct node_status {
	enum node_role role;
	uint64_t id, cluster_id, leader; /* leader 0: none known */
	uint64_t term, commit, applied, last;
	uint64_t pending_count, pending_bytes;
	uint64_t checkpoint_index; /* of the newest one on the disk; 0: none */
	uint64_t checkpoints_written, checkpoints_received, checkpoints_sent; /* since the start */
	bool checkpoint_writing;
	enum node_space space;	      /* of this member's disk; a leader's is low too when most voters' are */
	uint64_t log_cached_bytes;    /* of entries in memory */
	uint64_t log_reads;	      /* runs of entries read back since the start */
	uint64_t log_first;	      /* the oldest entry that raft can still give to a follower */
	uint64_t log_disk_bytes;      /* the log's files */
	int64_t leader_since_wall_ns; /* when this member learned of the present leader; 0: none */
	uint64_t voters, learners;    /* members that vote, and that do not vote yet */
	bool joint;		      /* between two memberships */
	uint64_t handovers;	      /* begun by itself since the start, its disk being slow */
	bool removed;		      /* this member is one no longer: clients are better served elsewhere */
	/* Its owner ends it, and does not start it again: a majority of the voters have said that they know
	 * of its removal, or one has and the others did not in ten minutes. Until then those who have it in
	 * their logs, and do not know that it is committed, may need it to tell them: they would wait for its
	 * vote for ever. */
	bool may_end;
};
void node_get_status(const struct node *node, struct node_status *ret_status);
/* How a leader gets on with a follower: appends answered and lost, and the time from sending one to the
 * answer that its entries are on the follower's disk. Samples: one append under way is timed at a time. */
struct node_follower {
	uint64_t answered, lost, samples;
	double latest_ms, sum_ms, sum_squares, min_ms, max_ms;
};
bool node_get_follower(const struct node *node, uint64_t id, struct node_follower *ret_follower);
/* Everyone who gets the log or votes, also one that is about to lose its vote. */
size_t node_member_count(const struct node *node);
const struct node_member *node_member_at(const struct node *node, size_t position); /* ordered by id */
const struct node_member *node_member_by_id(const struct node *node, uint64_t id);  /* NULL: none */
bool node_member_votes(const struct node *node, uint64_t id);
/* A member that there was once: nothing is taken from it any more. */
bool node_was_removed(const struct node *node, uint64_t id);
/* The same, once this member knows it after any crash too: whoever it is told to may end. */
bool node_tells_removed(const struct node *node, uint64_t id);
const char *node_cluster_version(const struct node *node); /* "" until decided */
