/* The writer. A batch is encoded straight into a buffer that leaves room for the frame header; wal_flush()
 * fills the header in and hands the buffer to the plan, so entries are copied once. A batch that does not fit
 * behind the last frame closes the segment with a seal and begins the next one: never does a batch span two
 * files. */
#include "wal/wal.h"
#include "wal/state.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/wire.h"

#define HARD_STATE_MAX_BYTES 41u

struct wal *wal_free(struct wal *wal)
{
	if (!wal)
		return NULL;
	free(wal->segments);
	free(wal->marks);
	free(wal->doomed);
	buf_done(&wal->batch);
	buf_done(&wal->tail);
	free(wal);
	return NULL;
}

/* Of what nobody uses. */
static void give_back(struct buf *buf)
{
	if (buf->cap > WAL_KEPT_BYTES)
		buf_done(buf);
}

void wal_batch_reset(struct wal *wal)
{
	give_back(&wal->batch);
	buf_clear(&wal->batch);
	buf_add_fill(&wal->batch, 0, WAL_FRAME_HEADER_BYTES);
	wal->batch_first_index = 0;
	wal->batch_entries = (struct wal_frame_entries){0};
}

struct wal_segment *wal_segment_push(struct wal *wal, uint64_t number, uint64_t size_bytes)
{
	if (wal->segments_len == wal->segments_cap) {
		wal->segments_cap = MAX(wal->segments_cap * 2, (size_t)8);
		wal->segments = mem_reallocarray(wal->segments, wal->segments_cap, sizeof(*wal->segments));
	}
	wal->segments[wal->segments_len] = (struct wal_segment){.number = number, .size_bytes = size_bytes};
	return &wal->segments[wal->segments_len++];
}

static void record_hard_state(struct buf *out, const struct wal_hard_state *hard_state)
{
	wire_add_u8(out, WAL_RECORD_HARD_STATE);
	wire_add_varint(out, hard_state->term);
	wire_add_varint(out, hard_state->vote);
	wire_add_varint(out, hard_state->commit);
	wire_add_varint(out, hard_state->boot);
}

void wal_add_hard_state(struct wal *wal, const struct wal_hard_state *hard_state)
{
	assert(hard_state->term >= wal->hard_state.term && hard_state->commit >= wal->hard_state.commit);
	assert(hard_state->boot >= wal->hard_state.boot);
	record_hard_state(&wal->batch, hard_state);
	wal->hard_state = *hard_state;
}

void wal_add_entry(struct wal *wal, const struct wal_entry *entry)
{
	assert(entry->index > 0 && entry->index <= wal->last_index + 1);
	assert(entry->index > wal->flushed_hard_state.commit || entry->index == wal->last_index + 1);
	wire_add_u8(&wal->batch, WAL_RECORD_ENTRY);
	wire_add_varint(&wal->batch, entry->index);
	wire_add_varint(&wal->batch, entry->term);
	wire_add_u8(&wal->batch, entry->kind);
	wire_add_bytes(&wal->batch, entry->data);
	wal->last_index = entry->index;
	if (!wal->batch_first_index)
		wal->batch_first_index = entry->index;
	if (!wal->batch_entries.lowest || entry->index < wal->batch_entries.lowest)
		wal->batch_entries.lowest = entry->index;
}

void wal_restart_at(struct wal *wal, uint64_t index)
{
	wire_add_u8(&wal->batch, WAL_RECORD_RESTART);
	wire_add_varint(&wal->batch, index);
	wal->last_index = index;
	wal->batch_entries = (struct wal_frame_entries){.restarts = true};
}

size_t wal_batch_bytes(const struct wal *wal)
{
	return wal->batch.len - WAL_FRAME_HEADER_BYTES;
}

uint64_t wal_last_index(const struct wal *wal)
{
	return wal->last_index;
}

uint64_t wal_disk_bytes(const struct wal *wal)
{
	uint64_t bytes = wal->spare_bytes + wal->reserve_bytes;

	for (size_t i = 0; i < wal->segments_len; i++)
		bytes += wal->segments[i].size_bytes;
	return bytes;
}

uint64_t wal_index_within(const struct wal *wal, uint64_t bytes)
{
	uint64_t index = wal->last_index;

	for (size_t i = wal->segments_len; i-- > 0 && wal->segments[i].size_bytes <= bytes;) {
		bytes -= wal->segments[i].size_bytes;
		index = i ? wal->segments[i - 1].last_index : 0;
	}
	return index;
}

static struct wal_step *plan_add(struct wal_plan *plan, enum wal_step_kind kind, const char *name)
{
	struct wal_step *step = &plan->steps[plan->steps_len];

	assert(plan->steps_len < WAL_PLAN_STEPS_MAX);
	plan->steps_len++;
	*step = (struct wal_step){.kind = kind};
	if (name)
		memcpy(step->name, name, strlen(name) + 1);
	return step;
}

static void plan_add_write(struct wal_plan *plan, const char *name, uint64_t offset, size_t at, size_t len)
{
	struct wal_step *step = plan_add(plan, WAL_STEP_WRITE, name);

	step->offset = offset;
	step->bytes_at = at;
	step->bytes_len = len;
}

static void plan_add_rename(struct wal_plan *plan, const char *name, const char *to_name)
{
	memcpy(plan_add(plan, WAL_STEP_RENAME, name)->to_name, to_name, strlen(to_name) + 1);
}

static void plan_reset(struct wal_plan *plan, bool background)
{
	give_back(&plan->bytes);
	buf_clear(&plan->bytes);
	plan->steps_len = 0;
	plan->background = background;
}

/* Fills in the header of a frame that begins at bytes[at] (its payload and padding being complete) and moves
 * on. */
static void frame_finish(struct wal *wal, struct buf *bytes, size_t at, size_t payload_len, uint64_t number)
{
	struct slice payload = slice_make(bytes->data + at + WAL_FRAME_HEADER_BYTES, payload_len);
	struct wal_frame_header header = {
		.payload_len = (uint32_t)payload_len,
		.segment = (uint32_t)number,
		.sequence = wal->sequence,
		.payload_crc = wal_payload_crc(wal->seed, wal->chain, payload),
	};

	wal_frame_header_encode(bytes->data + at, wal->seed, wal->offset, &header);
	wal->sequence++;
	wal->chain = header.payload_crc;
	wal->offset += wal_frame_bytes(payload_len);
}

/* Closes the segment in use. */
static void plan_add_seal(struct wal *wal, struct wal_plan *plan)
{
	struct wal_segment *segment = &wal->segments[wal->segments_len - 1];
	size_t at = plan->bytes.len;
	char name[WAL_NAME_MAX];
	uint64_t offset = wal->offset;

	buf_add_fill(&plan->bytes, 0, WAL_SEAL_FRAME_BYTES);
	plan->bytes.data[at + WAL_FRAME_HEADER_BYTES] = WAL_RECORD_SEAL;
	frame_finish(wal, &plan->bytes, at, 1, segment->number);
	assert(wal->offset <= segment->size_bytes);
	segment->last_index = wal->flushed_last_index;
	segment->used_bytes = wal->offset;
	wal_segment_name(name, segment->number);
	plan_add_write(plan, name, offset, at, WAL_SEAL_FRAME_BYTES);
	plan_add(plan, WAL_STEP_SYNC, name);
	wal->sealed = true;
}

/* A segment that is made while a write waits for it is small: filling it must not take long. */
static uint64_t hurried_bytes(const struct wal *wal)
{
	return MAX(wal->config.segment_bytes / 16, WAL_SEGMENT_MIN_BYTES);
}

/* Begins the next segment, large enough for a frame of `frame_bytes`: takes the spare, else makes a file. */
static void plan_add_segment(struct wal *wal, struct wal_plan *plan, uint64_t frame_bytes)
{
	uint64_t need = WAL_SEGMENT_HEADER_BYTES + frame_bytes + WAL_SEAL_FRAME_BYTES;
	uint64_t number = wal->segments_len ? wal->segments[wal->segments_len - 1].number + 1 : 1;
	uint64_t size = MAX(hurried_bytes(wal), (need + 4095) & ~UINT64_C(4095));
	uint64_t next = wal->flushed_last_index + 1;
	struct wal_segment_header header;
	size_t at = plan->bytes.len;
	char name[WAL_NAME_MAX];

	wal_segment_name(name, number);
	if (wal->spare_bytes >= need) {
		size = wal->spare_bytes;
		wal->spare_bytes = 0;
		wal->spare_leaving = true;
		plan_add_rename(plan, WAL_SPARE_NAME, name);
		plan_add(plan, WAL_STEP_SYNC_DIR, NULL);
	} else if (wal->reserve_bytes >= need) {
		size = wal->reserve_bytes;
		wal->reserve_bytes = 0;
		wal->reserve_leaving = true;
		plan_add_rename(plan, WAL_RESERVE_NAME, name);
		plan_add(plan, WAL_STEP_SYNC_DIR, NULL);
	} else {
		plan_add(plan, WAL_STEP_CREATE, name)->size_bytes = size;
	}
	wal->seed = hash_u64(wal->config.random_seed + number * UINT64_C(0x9e3779b97f4a7c15));
	wal_segment_push(wal, number, size)->seed = wal->seed;
	header = (struct wal_segment_header){
		.version = WAL_FORMAT_VERSION,
		.cluster_id = wal->config.cluster_id,
		.member_id = wal->config.member_id,
		.number = number,
		.seed = wal->seed,
		/* A restart stands behind entries that go on where the log was. */
		.first_index = wal->batch_first_index ? MIN(wal->batch_first_index, next) : next,
		.first_sequence = wal->sequence,
		.chain = wal->chain,
	};
	buf_add_fill(&plan->bytes, 0, WAL_SEGMENT_HEADER_BYTES);
	wal_segment_header_encode(plan->bytes.data + at, &header);
	plan_add_write(plan, name, 0, at, WAL_SEGMENT_HEADER_BYTES);
	plan_add(plan, WAL_STEP_SYNC, name);
	wal->offset = WAL_SEGMENT_HEADER_BYTES;
	wal->sealed = false;
}

/* Moves the batch into an emptied plan. With `with_hard_state` the frame is to stand first in a segment. */
static size_t plan_take_batch(struct wal *wal, struct wal_plan *plan, bool with_hard_state)
{
	size_t payload_len;

	if (with_hard_state) {
		buf_add_fill(&plan->bytes, 0, WAL_FRAME_HEADER_BYTES);
		record_hard_state(&plan->bytes, &wal->flushed_hard_state);
		buf_add(&plan->bytes, wal->batch.data + WAL_FRAME_HEADER_BYTES, wal_batch_bytes(wal));
	} else {
		struct buf empty = plan->bytes;

		plan->bytes = wal->batch;
		wal->batch = empty;
	}
	payload_len = plan->bytes.len - WAL_FRAME_HEADER_BYTES;
	buf_add_fill(&plan->bytes, 0, (size_t)wal_frame_bytes(payload_len) - plan->bytes.len);
	return payload_len;
}

void wal_flush(struct wal *wal, struct wal_plan *plan)
{
	uint64_t frame_bytes = wal_frame_bytes(wal_batch_bytes(wal) + HARD_STATE_MAX_BYTES);
	char name[WAL_NAME_MAX];
	size_t payload_len;
	uint64_t offset, number;
	bool opens = wal->sealed || wal->offset + frame_bytes + WAL_SEAL_FRAME_BYTES >
					    wal->segments[wal->segments_len - 1].size_bytes;
	/* Also in a segment that was begun by an earlier run whose first frame never got there. */
	bool first = opens || wal->offset == WAL_SEGMENT_HEADER_BYTES;

	assert(wal_batch_bytes(wal) > 0 && wal_batch_bytes(wal) <= WAL_BATCH_MAX_BYTES);
	assert(!wal->doomed_len);
	plan_reset(plan, false);
	wal->plan = plan;
	wal->spare_leaving = wal->reserve_leaving = false;
	payload_len = plan_take_batch(wal, plan, first);
	frame_bytes = wal_frame_bytes(payload_len);
	wal->sealing = opens && !wal->sealed;
	if (wal->sealing)
		plan_add_seal(wal, plan);
	if (opens)
		plan_add_segment(wal, plan, frame_bytes);
	offset = wal->offset;
	number = wal->segments[wal->segments_len - 1].number;
	wal_mark_frame(wal, number, wal->batch_entries, wal->flushed_last_index);
	frame_finish(wal, &plan->bytes, 0, payload_len, number);
	assert(wal->offset + WAL_SEAL_FRAME_BYTES <= wal->segments[wal->segments_len - 1].size_bytes);
	wal_segment_name(name, number);
	plan_add_write(plan, name, offset, 0, (size_t)frame_bytes);
	plan_add(plan, WAL_STEP_SYNC, name);
	wal->flushed_hard_state = wal->hard_state;
	wal->flushed_last_index = wal->last_index;
	wal_batch_reset(wal);
}

/* After a sync that failed the cache may hold what it was to write, clean, and the disk not: another sync has
 * nothing to do then and succeeds. So what could have been lost in this way is written again first. One frame
 * is all: it was under way alone, and nothing is written after a failure. */
void wal_start_plan(struct wal *wal, struct wal_plan *plan)
{
	char name[WAL_NAME_MAX];

	plan_reset(plan, false);
	for (size_t i = 0; i < wal->doomed_len; i++)
		plan_add(plan, WAL_STEP_REMOVE, wal->doomed[i]);
	wal->doomed_len = 0;
	if (wal->segments_len) {
		wal_segment_name(name, wal->segments[wal->segments_len - 1].number);
		buf_add_slice(&plan->bytes, buf_slice(&wal->tail));
		plan_add_write(plan, name, wal->tail_offset, 0, wal->tail.len);
		plan_add(plan, WAL_STEP_SYNC, name);
		buf_done(&wal->tail);
	}
	plan_add(plan, WAL_STEP_SYNC_DIR, NULL);
}

void wal_flushed(struct wal *wal)
{
	wal->spare_leaving = wal->reserve_leaving = wal->sealing = false;
	/* The next write may be far away. */
	if (wal->plan)
		give_back(&wal->plan->bytes);
	wal->plan = NULL;
}

bool wal_is_stocked(const struct wal *wal)
{
	return wal->spare_bytes && wal->reserve_bytes;
}

bool wal_runs_short(const struct wal *wal)
{
	return wal->segments_len && !wal->sealed && !wal->spare_bytes && !wal->reserve_bytes &&
	       wal->offset > wal->segments[wal->segments_len - 1].size_bytes / 2;
}

bool wal_spare_plan(struct wal *wal, bool always, struct wal_plan *plan)
{
	const struct wal_segment *segment;
	bool spare = !wal->spare_bytes && !wal->spare_leaving;
	bool reserve = wal->spare_bytes && !wal->reserve_bytes && !wal->reserve_leaving;

	if ((!spare && !reserve) || wal->spare_under_way || !wal->segments_len)
		return false;
	segment = &wal->segments[wal->segments_len - 1];
	if (!always && (wal->sealed || (spare && wal->offset < segment->size_bytes / 4)))
		return false;
	wal->spare_under_way = true;
	wal->making_reserve = reserve;
	plan_reset(plan, true);
	plan_add(plan, WAL_STEP_CREATE, WAL_PARTIAL_NAME)->size_bytes = wal->config.segment_bytes;
	plan_add_rename(plan, WAL_PARTIAL_NAME, reserve ? WAL_RESERVE_NAME : WAL_SPARE_NAME);
	plan_add(plan, WAL_STEP_SYNC_DIR, NULL);
	return true;
}

void wal_spare_done(struct wal *wal)
{
	assert(wal->spare_under_way);
	wal->spare_under_way = false;
	if (wal->making_reserve)
		wal->reserve_bytes = wal->config.segment_bytes;
	else
		wal->spare_bytes = wal->config.segment_bytes;
	wal->making_reserve = false;
}

void wal_spare_failed(struct wal *wal)
{
	assert(wal->spare_under_way);
	wal->spare_under_way = wal->making_reserve = false;
}

bool wal_give_reserve(struct wal *wal, struct wal_plan *plan)
{
	if (!wal->reserve_bytes)
		return false;
	wal->reserve_bytes = 0;
	plan_reset(plan, true);
	plan_add(plan, WAL_STEP_REMOVE, WAL_RESERVE_NAME);
	plan_add(plan, WAL_STEP_SYNC_DIR, NULL);
	return true;
}

uint64_t wal_room(const struct wal *wal)
{
	uint64_t room = wal->spare_bytes + wal->reserve_bytes, size;

	if (wal->sealed || !wal->segments_len)
		return room;
	size = wal->segments[wal->segments_len - 1].size_bytes;
	return room +
	       (size > wal->offset + WAL_SEAL_FRAME_BYTES ? size - wal->offset - WAL_SEAL_FRAME_BYTES : 0);
}

bool wal_release(struct wal *wal, uint64_t index, struct wal_plan *plan)
{
	size_t count = 0, in_use = wal->sealing ? 2 : 1;
	char name[WAL_NAME_MAX];

	plan_reset(plan, true);
	while (count + in_use < wal->segments_len && plan->steps_len + 1 < WAL_PLAN_STEPS_MAX &&
		wal->segments[count].last_index < index) {
		const struct wal_segment *segment = &wal->segments[count];

		wal_segment_name(name, segment->number);
		if (!wal->spare_bytes && !wal->spare_under_way && !wal->spare_leaving &&
			segment->size_bytes == wal->config.segment_bytes) {
			plan_add_rename(plan, name, WAL_SPARE_NAME);
			wal->spare_under_way = wal->recycling = true;
		} else {
			plan_add(plan, WAL_STEP_REMOVE, name);
		}
		count++;
	}
	if (!count)
		return false;
	plan_add(plan, WAL_STEP_SYNC_DIR, NULL);
	wal->segments_len -= count;
	memmove(wal->segments, wal->segments + count, wal->segments_len * sizeof(*wal->segments));
	wal_marks_drop_before(wal, wal->segments[0].number);
	return true;
}

void wal_release_done(struct wal *wal)
{
	if (wal->recycling)
		wal_spare_done(wal);
	wal->recycling = false;
}
