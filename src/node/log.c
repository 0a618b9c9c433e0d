/* Entries that raft no longer holds in memory, read back from the log's files for followers that are behind.
 * Raft asks, is told to wait, and asks again when the bytes are there: what was read is kept in a few runs,
 * one for each follower that is likely to be served at a time. At start, when nothing else goes on, it is
 * read at once. Only what is committed is asked for, and only that is kept, so what is in a run never
 * changes. What is committed when a read ends does not count: another leader may have replaced meanwhile what
 * the read found behind it. */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

static void run_clear(struct log_run *run)
{
	while (run->len)
		raft_blob_unref(run->entries[--run->len].data);
}

static void run_use(struct node *node, struct log_run *run)
{
	run->used = ++node->log_reader.uses;
	run->used_ns = node_mono(node);
}

static struct log_run *run_of(struct log_reader *reader, uint64_t index)
{
	for (size_t i = 0; i < ARRAY_LEN(reader->runs); i++) {
		struct log_run *run = &reader->runs[i];

		if (run->len && index >= run->entries[0].index && index - run->entries[0].index < run->len)
			return run;
	}
	return NULL;
}

static int give(struct log_run *run, uint64_t lo, uint64_t hi, uint64_t max_bytes,
	struct raft_entry *ret_entries, size_t max)
{
	uint64_t bytes = 0;
	size_t count = 0;

	for (size_t at = (size_t)(lo - run->entries[0].index); at < run->len && count < max; at++) {
		const struct raft_entry *entry = &run->entries[at];

		bytes += raft_blob_slice(entry->data).len;
		if (entry->index >= hi || (count && bytes > max_bytes))
			break;
		ret_entries[count] = *entry;
		raft_blob_ref(ret_entries[count++].data);
	}
	return (int)count;
}

struct filling {
	struct log_run *run;
	uint64_t final;
};

static int add_entry(void *arg, const struct wal_entry *record)
{
	struct filling *filling = arg;
	struct log_run *run = filling->run;
	struct raft_entry *entry;

	if (record->kind >= RAFT_ENTRY_TYPE_MAX || record->data.len > RAFT_ENTRY_BYTES_MAX)
		return -EBADMSG;
	while (run->len && run->entries[run->len - 1].index >= record->index)
		raft_blob_unref(run->entries[--run->len].data);
	if (record->index > filling->final ||
		(run->len && run->entries[run->len - 1].index + 1 != record->index))
		return 0;
	if (run->len == run->cap) {
		run->cap = MAX(run->cap * 2, (size_t)64);
		run->entries = mem_reallocarray(run->entries, run->cap, sizeof(*run->entries));
	}
	entry = &run->entries[run->len++];
	*entry = (struct raft_entry){.index = record->index, .term = record->term, .type = record->kind};
	if (record->data.len)
		entry->data = raft_blob_new(record->data.data, record->data.len);
	return 0;
}

/* Entries up to here are in the files, and are never replaced: what is committed may not be on the own disk
 * yet, and something else in its place. */
static uint64_t final_index(const struct node *node)
{
	struct raft_status status;

	raft_status_get(node->raft, &status);
	return MIN(status.commit, status.persisted);
}

/* Takes what was read, as far as it was final when the read began, into the run that was not used for
 * longest. False: `index` is not in it. */
static bool take(
	struct node *node, const struct wal_range *range, struct slice bytes, uint64_t index, uint64_t final)
{
	struct log_reader *reader = &node->log_reader;
	struct log_run *run = &reader->runs[0];
	struct filling filling;
	struct wal_sink sink = {.entry = add_entry, .arg = &filling};
	int r;

	for (size_t i = 1; i < ARRAY_LEN(reader->runs); i++)
		if (reader->runs[i].used < run->used)
			run = &reader->runs[i];
	run_clear(run);
	run_use(node, run);
	reader->reads++;
	filling = (struct filling){.run = run, .final = final};
	r = wal_read_back(range, bytes, &sink);
	if (r == 0 && run_of(reader, index) == run)
		return true;
	run_clear(run);
	return false;
}

/* The log does not hold what it should any more: a follower that needs it gets a checkpoint, and the next
 * checkpoint makes it dispensable. */
static void is_damaged(struct node *node, const struct wal_range *range, const char *why)
{
	struct raft_status status;

	/* What is not committed is in memory, and no checkpoint can cover it yet. */
	raft_status_get(node->raft, &status);
	node->log_reader.damaged_index =
		MAX(node->log_reader.damaged_index, MIN(range->end - 1, status.commit));
	node->checkpoints.asked = true;
	node_note(node, LOG_LEVEL_ERROR,
		"log segment %s is damaged behind offset %" PRIu64
		" (%s): its entries can no longer be sent to "
		"other members, a checkpoint is written in their place; check the disk",
		range->name, range->offset, why);
}

static int read_now(struct node *node, const struct wal_range *range, uint64_t index)
{
	struct buf *bytes = &node->log_reader.bytes;
	int r;

	buf_clear(bytes);
	r = node->env->ops->disk_read_range(node->env, range->name, range->offset, range->len, bytes);
	if (r < 0)
		return r;
	return take(node, range, buf_slice(bytes), index, final_index(node)) ? 0 : -EBADMSG;
}

int node_log_entries(void *userdata, uint64_t lo, uint64_t hi, uint64_t max_bytes,
	struct raft_entry *ret_entries, size_t max)
{
	struct node *node = userdata;
	struct log_reader *reader = &node->log_reader;
	struct log_run *run = run_of(reader, lo);
	struct wal_range range;

	if (run) {
		run_use(node, run);
		return give(run, lo, hi, max_bytes, ret_entries, max);
	}
	if (lo <= reader->damaged_index || !wal_locate(node->wal, lo, &range))
		return -ENOENT;
	if (node->phase == NODE_PHASE_OPENING) {
		int r = read_now(node, &range, lo);

		return r < 0 ? r : give(run_of(reader, lo), lo, hi, max_bytes, ret_entries, max);
	}
	if (!reader->reading)
		reader->wanted = lo;
	return -EAGAIN;
}

bool node_log_background(struct node *node)
{
	struct log_reader *reader = &node->log_reader;
	struct wal_plan *plan = &node->checkpoints.plan;

	if (!reader->wanted)
		return false;
	reader->index = reader->wanted;
	reader->wanted = 0;
	if (!wal_locate(node->wal, reader->index, &reader->range)) {
		raft_entries_read(node->raft); /* released meanwhile: it is told so */
		return false;
	}
	buf_clear(&reader->bytes);
	plan->background = true;
	buf_clear(&plan->bytes);
	plan->steps_len = 1;
	plan->steps[0] = (struct wal_step){.kind = WAL_STEP_READ,
		.offset = reader->range.offset,
		.size_bytes = reader->range.len,
		.into = &reader->bytes};
	memcpy(plan->steps[0].name, reader->range.name, sizeof(plan->steps[0].name));
	reader->reading = true;
	reader->final = final_index(node);
	node->checkpoints.job = NODE_JOB_LOG;
	node->env->ops->disk_submit(node->env, plan);
	return true;
}

void node_log_done(struct node *node, int error)
{
	struct log_reader *reader = &node->log_reader;

	reader->reading = false;
	if (error < 0)
		is_damaged(node, &reader->range, strerror(-error));
	else if (!take(node, &reader->range, buf_slice(&reader->bytes), reader->index, reader->final))
		is_damaged(node, &reader->range, "a checksum does not fit");
	if (reader->bytes.cap > 8 * 1024 * 1024)
		buf_done(&reader->bytes);
	raft_entries_read(node->raft);
}

static void run_free(struct log_run *run)
{
	run_clear(run);
	free(run->entries);
	run->entries = NULL;
	run->cap = 0;
}

void node_log_turn(struct node *node, int64_t now_ns)
{
	struct log_reader *reader = &node->log_reader;

	for (size_t i = 0; i < ARRAY_LEN(reader->runs); i++)
		if (reader->runs[i].len && now_ns - reader->runs[i].used_ns > NODE_LOG_RUN_KEPT_NS)
			run_free(&reader->runs[i]);
}

void node_log_free(struct node *node)
{
	struct log_reader *reader = &node->log_reader;

	for (size_t i = 0; i < ARRAY_LEN(reader->runs); i++)
		run_free(&reader->runs[i]);
	buf_done(&reader->bytes);
}
