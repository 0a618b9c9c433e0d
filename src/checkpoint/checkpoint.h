/* The durable image of a member's applied state: its format, writing it while changes go on, loading it, and
 * handing it to another member.
 *
 * A checkpoint is a data file of chunks and a manifest that names every chunk with its length and CRC-32C
 * (format: checkpoint/format.h). The manifest is written last, to CHECKPOINT.new, and renamed to CHECKPOINT:
 * that is the switch, and there is no moment without a whole checkpoint. Each checkpoint of a member has a
 * generation of its own, which is in the name of its data file, so nothing that is in use is ever
 * overwritten. Without its generation a checkpoint is a function of the state at its index: members write the
 * same bytes, so that a transfer begun from one can go on from another.
 *
 * Pure: files are changed by plans, which the owner carries out in order, and read in ranges that the owner
 * fetches. Bytes that do not check are never used or handed on. One owner, one thread.
 *
 * How a member uses it
 * --------------------
 * The owner keeps `current` (struct checkpoint, or NULL), `next_generation`, and at most one writer and one
 * receiver; both make background plans (struct wal_plan with `background` set; a step here has the same
 * fields as a step there). What env has to offer for them: CREATE with size 0; WRITE at the end of a file
 * makes it longer; RENAME replaces; REMOVE of a name that is not there is no error; and a read of a range of
 * a file, at start blocking (struct checkpoint_disk), later answered as an event.
 *
 * Start: checkpoint_open(). checkpoint_load() fills the store, checkpoint_get_info() has index, term and
 * membership: raft_options.snapshot_index, snapshot_term and conf, node's applied and applied_term. Then
 * wal_open(); entries up to the index are dropped by the sink, those behind it go to raft_load_entry(). The
 * log must begin at or before index + 1 (wal_recovered.first_index), and without a checkpoint at 1: else the
 * member says "log and checkpoint do not meet" and stops, since one of them was damaged or taken away. A log
 * that ends before the index, or whose entry at the index has another term, is one that a received checkpoint
 * was to replace: all of it is dropped (wal_restart_at() of the wal room, to be added there for this). The
 * checkpoint's index is committed: the hard state's commit is raised to it. checkpoint_start_plan() makes the
 * names durable that were seen and removes leftovers; it must be done before the log is cut and before
 * anything is relied on. next_generation = that of CHECKPOINT (or 0) + 1.
 *
 * When one is due, by the bytes of log behind the current one's index (docs/architecture.md); and when
 * the shell asks for one ("snapshot save"). The index is node->applied; it must also be durable in the own
 * log: as long as raft_status.persisted < applied (entries may be applied before the own disk has them) the
 * owner waits a turn. A joint membership is no obstacle. Begin it between two applies:
 *
 *     meta = {cluster_id, applied, applied_term, encoded raft_conf and members}
 *     writer = checkpoint_writer_new(store, &meta, next_generation++)
 *     each turn, when no background plan is under way:
 *             more = checkpoint_writer_step(writer, CHECKPOINT_STEP_BYTES, &plan);
 *             if (plan.steps_len) submit it, and go on when it was answered
 *     when not `more` and the plan has been answered with 0:
 *             the old one becomes unused: checkpoint_remove_plan() once no source reads it
 *             current = checkpoint_writer_take(writer)
 *             cut the log: wal_release(wal, index + 1 - tail), raft_compact(raft, index - tail)
 *
 * where the tail, kept for slow followers, is what fits into a quarter of CHECKPOINT_LOG_MIN_BYTES. Only the
 * answer to the last plan allows the cut. A plan that fails ends the checkpoint, not the member: free the
 * writer, keep the current one, remove the new data file (checkpoint_remove_plan()), raise the alarm, try
 * again later with a new generation. Only when the rename, or the sync behind it, failed it is unknown which
 * CHECKPOINT is there: both are whole, so nothing is removed and nothing cut until a later checkpoint or
 * restart. The owner may carry out what comes before the rename as a plan of its own, to tell.
 *
 * To a follower (raft batch.snapshots names it): the leader offers checkpoint_get_info()'s id; when its index
 * is below the first entry of the own log (it never is after a cut as above) or there is none, it writes one
 * first and answers raft_snapshot_refused() meanwhile. The follower asks for bytes at an offset, the leader
 * answers with a piece of at most CHECKPOINT_PIECE_BYTES (struct checkpoint_source: range, read, piece), in
 * answers to requests only, so that the window is the follower's. A source keeps its data file from being
 * removed: take a checkpoint_ref() per transfer. A transfer holds no entries back: when it is done the
 * follower may need another, if the log was cut further meanwhile; the owner does not cut beyond the index of
 * a checkpoint that is being transferred. raft_snapshot_sent(raft, id, index) when the follower says that it
 * has switched, raft_snapshot_refused() when it gave up or was silent for an election timeout.
 *
 * On the follower: checkpoint_receiver_new(cluster, id, next_generation++). Each piece goes to
 * checkpoint_receiver_add(), its plan to the disk, then the next bytes (checkpoint_receiver_wanted()) are
 * asked for, from whoever leads and has the same id: a broken connection, a doubled or a late piece costs
 * nothing. The receiver builds the new store as chunks come and compares the state hash before it gives out
 * the plan that switches. When that plan is done: checkpoint_receiver_take(); raft_snapshot_install(raft,
 * from, term, index, term, conf) and, when it answers 0, the store, the members and the cluster version are
 * replaced (watchers of the old store are told to come again), and the log begins anew at index + 1. -ESTALE:
 * the member has caught up meanwhile; the received checkpoint is still a good one of an index that is
 * committed, and stays as current only if its index is above the one before, which has to be checked before
 * the switch: a receiver whose index is not above node->applied any more is freed. A crash between switch and
 * new log is what "Start" handles.
 *
 * Saving to a file and restoring from it is a transfer: the bytes of a source from 0 to the end are the file,
 * and a receiver without owner verifies it. */
#pragma once
#include "base/buf.h"
#include "store/snapshot.h"

#define CHECKPOINT_NAME "CHECKPOINT"
#define CHECKPOINT_NEW_NAME "CHECKPOINT.new"
#define CHECKPOINT_NAME_MAX 40

enum {
	CHECKPOINT_CHUNK_BYTES = 256 * 1024, /* a chunk ends with the first record that makes it so long */
	CHECKPOINT_STEP_BYTES = 64 * 1024,   /* a good budget for a turn: a fraction of a millisecond */
	CHECKPOINT_PIECE_BYTES = 256 * 1024, /* of one message of a transfer: taken in one turn */
	CHECKPOINT_SYNC_BYTES = 512 * 1024,  /* written between two syncs of the data file: those of the log
					      * wait behind each of them */
	CHECKPOINT_MEMBERSHIP_MAX = 4 * 1024 * 1024,
	CHECKPOINT_MANIFEST_MAX = 64 * 1024 * 1024,
};
#define CHECKPOINT_LOG_MIN_BYTES (UINT64_C(64) << 20)

/* ---- Plans: what is to be done to files, as the log's (wal/plan.h) ---- */
enum checkpoint_step_kind {
	CHECKPOINT_CREATE,   /* an empty file `name`; one of that name is emptied */
	CHECKPOINT_WRITE,    /* bytes at offset, which is the file's end */
	CHECKPOINT_SYNC,     /* what was written to `name` is durable (fdatasync) */
	CHECKPOINT_RENAME,   /* name becomes to_name, which is replaced */
	CHECKPOINT_SYNC_DIR, /* created, renamed and removed names are durable */
	CHECKPOINT_REMOVE,   /* the file `name` goes, if it is there */
	CHECKPOINT_STEP_MAX,
};
struct checkpoint_step {
	enum checkpoint_step_kind kind;
	char name[CHECKPOINT_NAME_MAX];
	char to_name[CHECKPOINT_NAME_MAX]; /* RENAME */
	uint64_t offset;		   /* WRITE */
	size_t bytes_at, bytes_len;	   /* WRITE: which part of the plan's bytes */
};
#define CHECKPOINT_PLAN_STEPS_MAX 16
/* Zeroed before the first use, overwritten by each function that fills it (its memory is used again),
 * unchanged from submission to the answer; buf_done(&plan.bytes) at the end. Steps in order; the first that
 * fails ends it. */
struct checkpoint_plan {
	struct checkpoint_step steps[CHECKPOINT_PLAN_STEPS_MAX];
	size_t steps_len;
	struct buf bytes;
};

/* Reading, blocking. read: appends up to `len` bytes from `offset` on, fewer only at the file's end; 0,
 * -ENOENT, or what reading answered. list: calls fn for every plain file. */
struct checkpoint_disk {
	int (*list)(void *arg, void (*fn)(void *fn_arg, const char *name, uint64_t size_bytes), void *fn_arg);
	int (*read)(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out);
	void *arg;
};

/* ---- A whole checkpoint, as its manifest tells ---- */

/* Names the bytes of a checkpoint in the cluster; equal ids, equal bytes. */
struct checkpoint_id {
	uint64_t index, term; /* raft's */
	uint32_t check;	      /* CRC-32C of the manifest, in which all others are */
};
bool checkpoint_id_equal(struct checkpoint_id one, struct checkpoint_id other);

struct checkpoint_info {
	struct checkpoint_id id;
	uint64_t generation, cluster_id;
	struct slice membership; /* the owner's bytes; borrowed */
	struct store_image image;
	uint64_t manifest_bytes, data_bytes; /* together what a transfer carries */
	size_t chunks;
};

/* Immutable, counted; the count is not atomic. */
struct checkpoint;
struct checkpoint *checkpoint_ref(struct checkpoint *checkpoint);
struct checkpoint *checkpoint_unref(struct checkpoint *checkpoint); /* NULL is fine; answers NULL */
DEFINE_CLEANUP(struct checkpoint *, checkpoint_unref)
void checkpoint_get_info(const struct checkpoint *checkpoint, struct checkpoint_info *ret_info);

/* Reads the manifest. *ret_checkpoint NULL: there is none. -EBADMSG damaged, -EPROTONOSUPPORT of a newer
 * format, -EXDEV another cluster's, or what reading answered, with *ret_error (owned) naming file and place.
 * Chunks are checked when they are read. */
int checkpoint_open(const struct checkpoint_disk *disk, uint64_t cluster_id,
	struct checkpoint **ret_checkpoint, char **ret_error) _must_check_;
/* Makes durable what checkpoint_open() saw and removes what an interrupted checkpoint or transfer left
 * behind. Also right when there is none. 0 or what listing answered. */
int checkpoint_start_plan(const struct checkpoint_disk *disk, const struct checkpoint *checkpoint,
	struct checkpoint_plan *ret_plan) _must_check_;
/* Removes the data file of a generation that CHECKPOINT does not name (any more). */
void checkpoint_remove_plan(uint64_t generation, struct checkpoint_plan *ret_plan);

/* ---- Writing ---- */
struct checkpoint_meta {
	uint64_t cluster_id;
	uint64_t index, term;	 /* of the last entry applied; index > 0 */
	struct slice membership; /* at this index, with its joint state; at most CHECKPOINT_MEMBERSHIP_MAX;
				    copied */
};
struct checkpoint_writer;
/* The image is of the store as it is now; changes may go on at once. generation: above all used before. */
struct checkpoint_writer *checkpoint_writer_new(
	struct store *store, const struct checkpoint_meta *meta, uint64_t generation);
/* Gives up, or ends, at any time; lets the snapshot handle go. NULL is fine; answers NULL. */
struct checkpoint_writer *checkpoint_writer_free(struct checkpoint_writer *writer);
DEFINE_CLEANUP(struct checkpoint_writer *, checkpoint_writer_free)
/* Works off about `budget_bytes` (a record is never cut) and overwrites the plan with what is to be written;
 * it may be empty. True: call again when the plan was carried out. False: the plan is the last one and
 * switches. The snapshot handle is let go as soon as all of it was read. */
bool checkpoint_writer_step(
	struct checkpoint_writer *writer, size_t budget_bytes, struct checkpoint_plan *plan) _must_check_;
/* After the last plan was carried out: the new checkpoint, one reference. */
struct checkpoint *checkpoint_writer_take(struct checkpoint_writer *writer);

/* ---- Reading it back ---- */

/* Bytes that are to be read from a file. */
struct checkpoint_range {
	char name[CHECKPOINT_NAME_MAX];
	uint64_t offset;
	size_t len;
};

/* A store from a checkpoint, chunk by chunk: while checkpoint_loader_next() gives a range, read it and hand
 * the bytes (fewer when the file ended) to checkpoint_loader_add(); then checkpoint_loader_finish(), which
 * compares counts and the state hash. Errors: -EBADMSG with *ret_error (owned); the loader can then only be
 * freed. */
struct checkpoint_loader;
struct checkpoint_loader *checkpoint_loader_new(struct checkpoint *checkpoint); /* takes a reference */
struct checkpoint_loader *checkpoint_loader_free(struct checkpoint_loader *loader);
DEFINE_CLEANUP(struct checkpoint_loader *, checkpoint_loader_free)
/* As checkpoint_loader_free(), but the unfinished store is answered, for store_free_some(); NULL: none. */
struct store *checkpoint_loader_end(struct checkpoint_loader *loader) _must_check_;
bool checkpoint_loader_next(const struct checkpoint_loader *loader, struct checkpoint_range *ret_range);
int checkpoint_loader_add(
	struct checkpoint_loader *loader, struct slice bytes, char **ret_error) _must_check_;
int checkpoint_loader_finish(
	struct checkpoint_loader *loader, struct store **ret_store, char **ret_error) _must_check_;
/* All of it at once, for start. */
int checkpoint_load(const struct checkpoint_disk *disk, struct checkpoint *checkpoint,
	struct store **ret_store, char **ret_error) _must_check_;

/* ---- A file that holds the bytes of a transfer: a snapshot that is kept outside the cluster ---- */

/* `size_bytes`: how long the file is; disk->list is not used. Reads the manifest, of whatever cluster, and
 * compares the file's length with it. Errors as checkpoint_open(); -EBADMSG too when it is no snapshot. */
int checkpoint_file_open(const struct checkpoint_disk *disk, const char *name, uint64_t size_bytes,
	struct checkpoint **ret_checkpoint, char **ret_error) _must_check_;
/* Checks every chunk. ret_store may be NULL; else the store is made of them. */
int checkpoint_file_read(const struct checkpoint_disk *disk, const char *name, struct checkpoint *checkpoint,
	struct store **ret_store, char **ret_error) _must_check_;

/* ---- Transfer. Its bytes are the manifest, then the data; offsets count over both ---- */

struct checkpoint_source;
struct checkpoint_source *checkpoint_source_new(struct checkpoint *checkpoint); /* takes a reference */
struct checkpoint_source *checkpoint_source_free(struct checkpoint_source *source);
DEFINE_CLEANUP(struct checkpoint_source *, checkpoint_source_free)
/* True: the range must be read and handed to checkpoint_source_fill() before bytes at `offset` can be given.
 */
bool checkpoint_source_needs(const struct checkpoint_source *source, uint64_t offset,
	struct checkpoint_range *ret_range) _must_check_;
/* Takes what was read for the range that was asked for last by this offset. -EBADMSG: it does not check: this
 * member's checkpoint is damaged, and nothing of the chunk is given out. */
int checkpoint_source_fill(
	struct checkpoint_source *source, uint64_t offset, struct slice bytes, char **ret_error) _must_check_;
/* At most max_len bytes from `offset` on, borrowed until the next fill; empty at the end. -EAGAIN: to be
 * filled first. */
int checkpoint_source_piece(struct checkpoint_source *source, uint64_t offset, size_t max_len,
	struct slice *ret_bytes) _must_check_;

struct checkpoint_receiver;
struct checkpoint_receiver *checkpoint_receiver_new(
	uint64_t cluster_id, struct checkpoint_id id, uint64_t generation);
struct checkpoint_receiver *checkpoint_receiver_free(struct checkpoint_receiver *receiver);
/* The same, but the store, unfinished or not, is answered, for store_free_some(); NULL: none. */
struct store *checkpoint_receiver_end(struct checkpoint_receiver *receiver) _must_check_;
DEFINE_CLEANUP(struct checkpoint_receiver *, checkpoint_receiver_free)
uint64_t checkpoint_receiver_wanted(const struct checkpoint_receiver *receiver); /* the next byte's offset */
uint64_t checkpoint_receiver_total(const struct checkpoint_receiver *receiver);	 /* bytes; 0: not known yet */
/* False: its manifest is not here yet. What ret_info borrows lasts as long as the receiver. */
bool checkpoint_receiver_knows(
	const struct checkpoint_receiver *receiver, struct checkpoint_info *ret_info) _must_check_;
/* Takes a piece; what was there already is skipped, what lies beyond the wanted offset is dropped. Overwrites
 * the plan, which is to be carried out whatever the answer, when it has steps: 1  more is wanted 0  all of it
 * is here and was verified: the plan switches; then checkpoint_receiver_take() -EAGAIN  a chunk did not
 * check: it is wanted again (the owner counts, and gives up after a few) -EBADMSG, -EPROTONOSUPPORT, -EXDEV
 * no use: not what the id names, or as checkpoint_open(); *ret_error owned */
int checkpoint_receiver_add(struct checkpoint_receiver *receiver, uint64_t offset, struct slice bytes,
	struct checkpoint_plan *plan, char **ret_error) _must_check_;
/* After the last plan was carried out. Both owned. */
void checkpoint_receiver_take(
	struct checkpoint_receiver *receiver, struct checkpoint **ret_checkpoint, struct store **ret_store);
