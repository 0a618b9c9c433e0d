/* The log as raft sees it: the terms of all entries behind the snapshot, and the recent entries themselves.
 * Internal to the room. */
#pragma once
#include "raft/raft.h"

struct raft_term_run {
	uint64_t first, term; /* entries from `first` up to the next run have this term */
};

struct raft_log {
	struct raft_entry *ring; /* entries cache_first … last; capacity is a power of two */
	size_t ring_cap;
	uint64_t snapshot_index;    /* the log begins behind it; its term is that of runs[0] */
	uint64_t cache_first, last; /* cache_first == last + 1: nothing in memory */
	uint64_t cached_bytes;	    /* entry data in memory */
	struct raft_term_run *runs; /* ascending in both fields; never empty */
	size_t run_count, run_cap;
};

void raft_log_init(struct raft_log *log, uint64_t snapshot_index, uint64_t snapshot_term);
void raft_log_done(struct raft_log *log);
uint64_t raft_log_term(
	const struct raft_log *log, uint64_t index); /* 0: outside, or before the first entry */
static inline uint64_t raft_log_last_term(const struct raft_log *log)
{
	return log->runs[log->run_count - 1].term;
}
/* The entry, in memory: cache_first <= index <= last. */
struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index);
/* entry->index is last + 1, its term not below the last; takes a reference of the data. */
void raft_log_append(struct raft_log *log, const struct raft_entry *entry);
void raft_log_truncate(
	struct raft_log *log, uint64_t from); /* drops entries at `from` and behind; from > snapshot */
void raft_log_evict(struct raft_log *log, uint64_t upto); /* from memory only */
void raft_log_shrink(struct raft_log *log); /* gives memory back that many more entries once took */
static inline uint64_t raft_log_memory(const struct raft_log *log)
{
	enum { OVERHEAD_BYTES = sizeof(struct raft_entry) + sizeof(struct raft_blob) + 16 };

	return log->cached_bytes + (log->last + 1 - log->cache_first) * OVERHEAD_BYTES;
}
void raft_log_compact(struct raft_log *log, uint64_t upto); /* the log then begins behind `upto` */
void raft_log_reset(struct raft_log *log, uint64_t snapshot_index, uint64_t snapshot_term);
/* The last index at most `index` whose term is at most `term`; not below the snapshot. */
uint64_t raft_log_find(const struct raft_log *log, uint64_t index, uint64_t term);
/* Copies entries lo … hi - 1 with references, at most `max`, stopping before max_bytes of data would be
 * passed (but at least one), from memory or else from the owner's ops. Answers as raft_log_ops.entries. */
int raft_log_slice(const struct raft_log *log, const struct raft_log_ops *ops, uint64_t lo, uint64_t hi,
	uint64_t max_bytes, struct raft_entry *ret_entries, size_t max);

static inline uint64_t raft_entry_bytes(const struct raft_entry *entry)
{
	return entry->data ? entry->data->len : 0;
}
static inline struct raft_entry raft_entry_ref(const struct raft_entry *entry)
{
	struct raft_entry copy = *entry;

	raft_blob_ref(copy.data);
	return copy;
}
void raft_entries_unref(struct raft_entry *entries, size_t count); /* drops the data, keeps the array */
