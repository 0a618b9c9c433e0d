/* Where entries are, to read them back. A mark is kept about every 128 KiB of frames, so that a log of
 * a gigabyte costs a few hundred kilobytes. Entries can be replaced by later frames: a frame that does so
 * gets a mark of its own, and the marks of what it replaced go. */
#include "wal/state.h"
#include "base/memory.h"
#include "base/wire.h"
#include <errno.h>

void wal_mark_frame(struct wal *wal, uint64_t segment, struct wal_frame_entries entries, uint64_t last_index)
{
	const struct wal_mark *last;

	if (entries.restarts)
		wal->marks_len = 0;
	if (!entries.lowest)
		return;
	while (wal->marks_len && wal->marks[wal->marks_len - 1].index >= entries.lowest)
		wal->marks_len--;
	last = wal->marks_len ? &wal->marks[wal->marks_len - 1] : NULL;
	if (last && entries.lowest > last_index && last->segment == segment &&
		wal->offset - last->offset <
			MAX(wal->config.segment_bytes / WAL_MARKS_PER_SEGMENT, UINT64_C(512)))
		return;
	if (wal->marks_len == wal->marks_cap) {
		wal->marks_cap = MAX(wal->marks_cap * 2, (size_t)16);
		wal->marks = mem_reallocarray(wal->marks, wal->marks_cap, sizeof(*wal->marks));
	}
	wal->marks[wal->marks_len++] = (struct wal_mark){
		.index = entries.lowest, .segment = segment, .offset = wal->offset, .chain = wal->chain};
}

void wal_marks_drop_before(struct wal *wal, uint64_t segment)
{
	size_t count = 0;

	while (count < wal->marks_len && wal->marks[count].segment < segment)
		count++;
	if (!count)
		return;
	wal->marks_len -= count;
	memmove(wal->marks, wal->marks + count, wal->marks_len * sizeof(*wal->marks));
}

/* The last mark at or before `index`; NULL: none. */
static const struct wal_mark *find_mark(const struct wal *wal, uint64_t index)
{
	size_t low = 0, high = wal->marks_len;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (wal->marks[middle].index <= index)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &wal->marks[low - 1] : NULL;
}

bool wal_locate(const struct wal *wal, uint64_t index, struct wal_range *ret_range)
{
	const struct wal_mark *mark = find_mark(wal, index), *next = mark ? mark + 1 : NULL;
	const struct wal_segment *segment;
	uint64_t end_offset;

	if (!mark || index > wal->flushed_last_index)
		return false;
	/* However near the marks are: a read takes long on a slow disk. */
	while (next < wal->marks + wal->marks_len && next->segment == mark->segment &&
		next->offset - mark->offset < WAL_READ_BYTES)
		next++;
	if (next == wal->marks + wal->marks_len)
		next = NULL;
	assert(mark->segment >= wal->segments[0].number);
	segment = &wal->segments[mark->segment - wal->segments[0].number];
	assert(segment->number == mark->segment);
	if (next && next->segment == mark->segment)
		end_offset = next->offset;
	else if (segment == &wal->segments[wal->segments_len - 1] && !wal->sealed)
		end_offset = wal->offset;
	else
		end_offset = segment->used_bytes;
	*ret_range = (struct wal_range){
		.offset = mark->offset,
		.len = (size_t)(end_offset - mark->offset),
		.first = mark->index,
		.end = next ? next->index : wal->flushed_last_index + 1,
		.seed = segment->seed,
		.segment = (uint32_t)segment->number,
		.chain = mark->chain,
	};
	wal_segment_name(ret_range->name, segment->number);
	return true;
}

static int read_records(const struct wal_range *range, struct slice payload, const struct wal_sink *sink)
{
	struct wire_reader reader = wire_reader_make(payload);

	while (wire_left(&reader)) {
		uint8_t kind = wire_read_u8(&reader);

		if (kind == WAL_RECORD_HARD_STATE) {
			for (int i = 0; i < 4; i++)
				(void)wire_read_varint(&reader);
		} else if (kind == WAL_RECORD_ENTRY) {
			struct wal_entry entry;
			int r;

			entry.index = wire_read_varint(&reader);
			entry.term = wire_read_varint(&reader);
			entry.kind = wire_read_u8(&reader);
			entry.data = wire_read_bytes(&reader);
			if (reader.failed)
				return -EBADMSG;
			r = entry.index < range->first || entry.index >= range->end
				    ? 0
				    : sink->entry(sink->arg, &entry);
			if (r < 0)
				return r;
		} else if (kind == WAL_RECORD_RESTART) {
			(void)wire_read_varint(&reader); /* what came before it is below the range's first */
		} else if (kind != WAL_RECORD_SEAL) {
			return -EBADMSG;
		}
	}
	return wire_finish(&reader);
}

int wal_read_back(const struct wal_range *range, struct slice bytes, const struct wal_sink *sink)
{
	uint32_t chain = range->chain;
	size_t at = 0;

	while (bytes.len - at >= WAL_FRAME_HEADER_BYTES) {
		struct wal_frame_header header;
		struct slice payload;
		int r;

		if (!wal_frame_header_check(bytes.data + at, range->offset + at, range->seed, &header) ||
			header.segment != range->segment ||
			wal_frame_bytes(header.payload_len) > bytes.len - at)
			break;
		payload = slice_make(bytes.data + at + WAL_FRAME_HEADER_BYTES, header.payload_len);
		if (wal_payload_crc(range->seed, chain, payload) != header.payload_crc)
			break;
		r = read_records(range, payload, sink);
		if (r < 0)
			return r;
		chain = header.payload_crc;
		at += (size_t)wal_frame_bytes(header.payload_len);
	}
	return 0;
}
