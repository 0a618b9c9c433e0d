/* How it works: recent entries live in a ring indexed by `index & (cap - 1)`, so append, truncate and
 * eviction never move anything. Terms only go up along the log, so "the term of entry i" for the whole log is
 * a short sorted list of runs: questions about terms (log matching, conflict hints) never need an entry that
 * has left the memory. */
#include "raft/log.h"
#include "base/memory.h"
#include <errno.h>

struct raft_blob *raft_blob_join(struct slice head, struct slice tail)
{
	size_t len = head.len + tail.len;
	struct raft_blob *blob;

	assert(len >= tail.len && len <= RAFT_ENTRY_BYTES_MAX);
	blob = mem_alloc(sizeof(*blob) + len);
	blob->refs = 1;
	blob->len = (uint32_t)len;
	if (head.len)
		memcpy(blob->data, head.data, head.len);
	if (tail.len)
		memcpy(blob->data + head.len, tail.data, tail.len);
	return blob;
}

struct raft_blob *raft_blob_new(const void *data, size_t len)
{
	return raft_blob_join(slice_make(data, len), SLICE_LITERAL(""));
}

struct raft_blob *raft_blob_ref(struct raft_blob *blob)
{
	if (blob) {
		assert(blob->refs > 0 && blob->refs < UINT32_MAX);
		blob->refs++;
	}
	return blob;
}

struct raft_blob *raft_blob_unref(struct raft_blob *blob)
{
	if (!blob)
		return NULL;
	assert(blob->refs > 0);
	if (--blob->refs == 0)
		mem_free(blob);
	return NULL;
}

struct slice raft_blob_slice(const struct raft_blob *blob)
{
	return blob ? slice_make(blob->data, blob->len) : SLICE_LITERAL("");
}

void raft_entries_unref(struct raft_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		entries[i].data = raft_blob_unref(entries[i].data);
}

static void push_run(struct raft_log *log, uint64_t first, uint64_t term)
{
	if (log->run_count == log->run_cap) {
		log->run_cap = log->run_cap ? log->run_cap * 2 : 8;
		log->runs = mem_reallocarray(log->runs, log->run_cap, sizeof(*log->runs));
	}
	log->runs[log->run_count++] = (struct raft_term_run){first, term};
}

void raft_log_init(struct raft_log *log, uint64_t snapshot_index, uint64_t snapshot_term)
{
	*log = (struct raft_log){
		.snapshot_index = snapshot_index, .cache_first = snapshot_index + 1, .last = snapshot_index};
	push_run(log, snapshot_index, snapshot_term);
}

void raft_log_done(struct raft_log *log)
{
	raft_log_evict(log, log->last);
	mem_free(log->ring);
	mem_free(log->runs);
	*log = (struct raft_log){0};
}

/* The run that covers `index`; index is inside the log. Most questions are about its end, so look from there.
 */
static size_t find_run(const struct raft_log *log, uint64_t index)
{
	size_t lo = 0, hi = log->run_count;

	if (log->runs[hi - 1].first <= index)
		return hi - 1;
	while (hi - lo > 1) {
		size_t middle = lo + (hi - lo) / 2;

		if (log->runs[middle].first <= index)
			lo = middle;
		else
			hi = middle;
	}
	return lo;
}

uint64_t raft_log_term(const struct raft_log *log, uint64_t index)
{
	if (index < log->snapshot_index || index > log->last)
		return 0;
	return log->runs[find_run(log, index)].term;
}

struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index)
{
	assert(index >= log->cache_first && index <= log->last);
	return &log->ring[index & (log->ring_cap - 1)];
}

enum { RING_MIN = 64 };

static void resize_ring(struct raft_log *log, size_t cap)
{
	struct raft_entry *ring = mem_new_array(struct raft_entry, cap);

	for (uint64_t i = log->cache_first; i <= log->last; i++)
		ring[i & (cap - 1)] = *raft_log_at(log, i);
	mem_free(log->ring);
	log->ring = ring;
	log->ring_cap = cap;
}

void raft_log_append(struct raft_log *log, const struct raft_entry *entry)
{
	assert(entry->index == log->last + 1 && entry->term >= raft_log_last_term(log));
	if (log->last + 1 - log->cache_first == log->ring_cap)
		resize_ring(log, log->ring_cap ? log->ring_cap * 2 : RING_MIN);
	if (entry->term > raft_log_last_term(log))
		push_run(log, entry->index, entry->term);
	log->last++;
	*raft_log_at(log, log->last) = raft_entry_ref(entry);
	log->cached_bytes += raft_entry_bytes(entry);
}

static void drop_entry(struct raft_log *log, uint64_t index)
{
	struct raft_entry *entry = raft_log_at(log, index);

	log->cached_bytes -= raft_entry_bytes(entry);
	entry->data = raft_blob_unref(entry->data);
}

void raft_log_truncate(struct raft_log *log, uint64_t from)
{
	assert(from > log->snapshot_index);
	while (log->last >= from && log->last >= log->cache_first) {
		drop_entry(log, log->last);
		log->last--;
	}
	log->last = MIN(log->last, from - 1);
	log->cache_first = MIN(log->cache_first, log->last + 1);
	while (log->run_count > 1 && log->runs[log->run_count - 1].first > log->last)
		log->run_count--;
}

void raft_log_evict(struct raft_log *log, uint64_t upto)
{
	upto = MIN(upto, log->last);
	while (log->cache_first <= upto) {
		drop_entry(log, log->cache_first);
		log->cache_first++;
	}
}

void raft_log_shrink(struct raft_log *log)
{
	size_t count = (size_t)(log->last + 1 - log->cache_first), cap = log->ring_cap;

	while (cap > RING_MIN && cap / 8 > count)
		cap /= 2;
	if (cap < log->ring_cap)
		resize_ring(log, cap);
}

void raft_log_compact(struct raft_log *log, uint64_t upto)
{
	size_t run;

	assert(upto <= log->last);
	if (upto <= log->snapshot_index)
		return;
	run = find_run(log, upto);
	memmove(log->runs, log->runs + run, (log->run_count - run) * sizeof(*log->runs));
	log->run_count -= run;
	log->runs[0].first = upto;
	raft_log_evict(log, upto);
	log->snapshot_index = upto;
	log->cache_first = MAX(log->cache_first, upto + 1);
}

void raft_log_reset(struct raft_log *log, uint64_t snapshot_index, uint64_t snapshot_term)
{
	raft_log_done(log);
	raft_log_init(log, snapshot_index, snapshot_term);
}

uint64_t raft_log_find(const struct raft_log *log, uint64_t index, uint64_t term)
{
	size_t run;

	index = MIN(index, log->last);
	if (index <= log->snapshot_index)
		return index;
	for (run = find_run(log, index); run > 0 && log->runs[run].term > term; run--)
		index = log->runs[run].first - 1;
	return log->runs[run].term > term ? log->snapshot_index : index;
}

int raft_log_slice(const struct raft_log *log, const struct raft_log_ops *ops, uint64_t lo, uint64_t hi,
	uint64_t max_bytes, struct raft_entry *ret_entries, size_t max)
{
	uint64_t bytes = 0;
	size_t count = 0;

	assert(lo < hi && hi <= log->last + 1 && max > 0 && max <= INT32_MAX);
	if (lo <= log->snapshot_index)
		return -ENOENT;
	if (lo < log->cache_first)
		return ops->entries ? ops->entries(ops->userdata, lo, MIN(hi, log->cache_first), max_bytes,
					      ret_entries, max)
				    : -ENOENT;
	for (uint64_t i = lo; i < hi && count < max; i++) {
		const struct raft_entry *entry = raft_log_at(log, i);

		bytes += raft_entry_bytes(entry);
		if (count && bytes > max_bytes)
			break;
		ret_entries[count++] = raft_entry_ref(entry);
	}
	return (int)count;
}
