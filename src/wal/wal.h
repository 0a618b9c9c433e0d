/* The log of one member: what raft has promised (term, vote, commit) and its entries, on disk.
 *
 * Segments are files of a fixed size, taken ahead of time and used again ("recycled") when the log behind
 * them is no longer needed. Each life of a segment has its own random checksum seed, so bytes of an earlier
 * life never check. A batch (all records of one write) is one frame; frames are chained by CRC-32C. Format:
 * wal/format.h.
 *
 * Pure: files are read through struct wal_disk at start, and written by plans (wal/plan.h) that the owner
 * carries out in order, one at a time. A plan that fails ends the use of the log: nothing is ever written
 * again after a failed write or sync, since it is unknown what reached the disk. One owner, one thread. */
#pragma once
#include "base/slice.h"
#include "wal/plan.h"

struct wal;

#define WAL_SEGMENT_DEFAULT_BYTES (UINT64_C(16) << 20)
#define WAL_SEGMENT_MIN_BYTES UINT64_C(4096)
#define WAL_SEGMENT_MAX_BYTES (UINT64_C(256) << 20)
#define WAL_BATCH_MAX_BYTES (UINT64_C(128) << 20) /* records of one batch; the owner keeps well below */

struct wal_config {
	uint64_t cluster_id, member_id;
	uint64_t segment_bytes; /* of segments made ahead of time; 0: default. Others may be smaller or larger
				 */
	uint64_t random_seed;	/* secret to users of the store, different at each start */
};

struct wal_hard_state {
	uint64_t term, vote, commit;
	uint64_t boot; /* the owner's: tells the lives of the member apart, goes up with each start */
};

struct wal_entry {
	uint64_t index, term;
	uint8_t kind; /* the owner's */
	struct slice data;
};

/* Reading at start. list: calls fn for every plain file of the directory. read: the whole file into an owned
 * block
 * (-EFBIG when it is larger than max_bytes). Both 0 or -errno. */
struct wal_disk {
	int (*list)(void *arg, void (*fn)(void *fn_arg, const char *name, uint64_t size_bytes), void *fn_arg);
	int (*read)(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len);
	void *arg;
};

/* Where recovery puts what it reads, in the order written. An entry replaces all of the same or higher index
 * before it. entry: its data is borrowed for the call; a negative answer ends recovery with that error.
 * restart: all entries before are void, the next one is index + 1 (wal_restart_at()). */
struct wal_sink {
	int (*entry)(void *arg, const struct wal_entry *entry);
	void (*restart)(void *arg, uint64_t index);
	/* Optional: what was promised with or before the entries so far. */
	void (*hard_state)(void *arg, const struct wal_hard_state *hard_state);
	void *arg;
};

struct wal_recovered {
	bool fresh; /* there was no log */
	struct wal_hard_state hard_state;
	uint64_t first_index; /* of the oldest entry kept; 1 unless the log was cut */
	uint64_t last_index;  /* first_index - 1 when there is no entry */
	uint64_t torn_bytes;  /* cut off: a last write that did not complete */
};

/* Reads the log. Changes nothing on disk: the plan of wal_start_plan() must have been carried out before
 * anything that was read may be relied on or added to. -errno with *ret_error (owned) naming file and offset:
 * -EBADMSG damaged (also what the disk cannot read: it says to try again first), -EPROTONOSUPPORT a newer
 * format, -EXDEV another cluster's or member's log, or what reading the files answered. */
int wal_open(const struct wal_config *config, const struct wal_disk *disk, const struct wal_sink *sink,
	struct wal **ret_wal, struct wal_recovered *ret_recovered, char **ret_error) _must_check_;
struct wal *wal_free(struct wal *wal); /* accepts NULL, answers NULL */
DEFINE_CLEANUP(struct wal *, wal_free)

/* Whose log lies there, from its oldest segment's header, without reading the rest. *ret_exists false: no log
 * (or none that was ever begun). Errors as wal_open(). */
int wal_identity(const struct wal_disk *disk, bool *ret_exists, uint64_t *ret_cluster_id,
	uint64_t *ret_member_id, char **ret_error) _must_check_;

/* Makes durable what recovery saw (a crash of the process, or a sync that failed, may have left it in the
 * page cache only) and clears away files that were under construction. Once for each wal_open(). */
void wal_start_plan(struct wal *wal, struct wal_plan *ret_plan);

/* Adding to the next batch. Entries continue the log or, with a lower index, replace its end; never what is
 * committed. */
void wal_add_hard_state(struct wal *wal, const struct wal_hard_state *hard_state);
void wal_add_entry(struct wal *wal, const struct wal_entry *entry);
/* A received checkpoint takes the place of all entries so far: the log goes on at index + 1, wherever it
 * ended. Add a hard state whose commit is at least `index` behind it. */
void wal_restart_at(struct wal *wal, uint64_t index);
size_t wal_batch_bytes(const struct wal *wal); /* 0: nothing to write */

/* Turns the batch into a plan of writes and syncs; when the plan has been carried out the batch is durable.
 * `plan` is overwritten (its memory is used again); it must stay as it is until carried out. */
void wal_flush(struct wal *wal, struct wal_plan *plan);

/* The newest plan of wal_flush(), which is still there, was carried out: what it took the names of is free
 * again, and its memory when it took much. The next flush says so too. */
void wal_flushed(struct wal *wal);

/* Two segments are kept ready: the next one, and a reserve behind it, so that there is room to write for a
 * while when the space has run out.
 * True, with a background plan, when one should be taken now (`always`: without waiting until it is needed
 * soon); wal_spare_done() when it has been
 * carried out, wal_spare_failed() when there is no space for it: the only plan whose failure need not end the
 * use of the log, since nothing was promised on it. It may be asked for again then. */
bool wal_spare_plan(struct wal *wal, bool always, struct wal_plan *plan);
void wal_spare_done(struct wal *wal);
void wal_spare_failed(struct wal *wal);
bool wal_is_stocked(const struct wal *wal); /* both are there */
/* Neither of them is there, and the segment in use is half full: until the next one is made, or it turns out
 * that there is no space for it, the owner lets nothing new in, since it would have to take space in passing.
 */
bool wal_runs_short(const struct wal *wal);
/* True, with a background plan that gives the reserve's space back, for something else that frees more. */
bool wal_give_reserve(struct wal *wal, struct wal_plan *plan);
/* Bytes of frames that can be written without taking space, up to the end of segments. */
uint64_t wal_room(const struct wal *wal);

/* Entries below `index` are no longer needed. True, with a background plan that gives back or recycles whole
 * segments, oldest first, if there are such; wal_release_done() when it has been carried out. At most one of
 * these and of wal_spare_plan() at a time. */
bool wal_release(struct wal *wal, uint64_t index, struct wal_plan *plan);
void wal_release_done(struct wal *wal);

/* Reading entries back that were flushed and carried out: wal_locate() names the bytes of a file in which
 * those from `index` on are, to be read whenever the owner likes, but before their segment is released;
 * wal_read_back() takes them out and checks them. Answers false when the entry is not, or no longer, there.
 */
struct wal_range {
	char name[WAL_NAME_MAX];
	uint64_t offset;
	size_t len;	     /* frames that are not written yet may be among them, at the end */
	uint64_t first, end; /* only entries of these indices count, end is the first behind them */
	uint64_t seed;
	uint32_t segment, chain;
};
bool wal_locate(const struct wal *wal, uint64_t index, struct wal_range *ret_range);
/* Calls sink->entry (only) for the entries of the range, an entry replacing those of the same and higher
 * index before it, as far as frames check. A negative answer of the sink ends it with that error. */
int wal_read_back(
	const struct wal_range *range, struct slice bytes, const struct wal_sink *sink) _must_check_;

uint64_t wal_last_index(const struct wal *wal); /* of what was added, durable or not */
uint64_t wal_disk_bytes(const struct wal *wal); /* all segments and the spare */
/* The least index behind which the log takes no more than so many bytes of the disk, by whole segments. */
uint64_t wal_index_within(const struct wal *wal, uint64_t bytes);
