/* Recovery reads the segments in order and checks everything: header, chain of frames, order of records. A
 * frame that does not check ends the log if it can be a last write that did not complete: it is in the last
 * segment and no whole frame of this life lies behind it. Otherwise acknowledged data would be lost silently,
 * so it is reported as damage. */
#include "wal/wal.h"
#include "wal/state.h"
#include "base/memory.h"
#include "base/wire.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define DOOMED_MAX (WAL_PLAN_STEPS_MAX - 2)
#define SEGMENTS_MAX 1000000u

struct scan {
	struct wal *wal;
	const struct wal_disk *disk;
	const struct wal_sink *sink;
	struct wal_recovered found;
	char **ret_error;
	char name[WAL_NAME_MAX]; /* the segment being read */
	struct slice bytes;
	bool seal_seen;
	uint64_t own_last; /* the last index by the segment alone: the log may be cut before it */
	uint64_t newest;   /* where the last whole frame begins; 0: the header is all there is */
	struct wal_frame_entries frame;
};

static int _printf_(3, 4) fail(struct scan *scan, int error, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	*scan->ret_error = mem_strdup(text);
	return error;
}

static int damaged(struct scan *scan, uint64_t offset, const char *what)
{
	return fail(scan, -EBADMSG,
		"log segment %s, offset %" PRIu64 ": %s. The log is damaged and was left as it is; "
		"start it once with --rebuild and its usual flags to get its data from the other members, or "
		"restore a snapshot",
		scan->name, offset, what);
}

static int unreadable(struct scan *scan, int error)
{
	/* A file system that checks what it reads says EUCLEAN or EBADMSG. */
	if (error != -EIO && error != -EUCLEAN && error != -EBADMSG)
		return fail(scan, error, "cannot read log segment %s: %s", scan->name, strerror(-error));
	return fail(scan, -EBADMSG,
		"cannot read log segment %s: %s. Nothing was changed: check the disk and start again; if it "
		"cannot be read then either, start this member once with --rebuild and its usual flags to "
		"get its data from the other members, or restore a snapshot",
		scan->name, strerror(-error));
}

static int read_hard_state(struct scan *scan, struct wire_reader *reader, uint64_t offset)
{
	struct wal *wal = scan->wal;
	struct wal_hard_state state;

	state.term = wire_read_varint(reader);
	state.vote = wire_read_varint(reader);
	state.commit = wire_read_varint(reader);
	state.boot = wire_read_varint(reader);
	if (reader->failed)
		return damaged(scan, offset, "a hard state record ends early");
	if (state.term < wal->hard_state.term || state.commit < wal->hard_state.commit ||
		state.boot < wal->hard_state.boot)
		return damaged(scan, offset, "term, commit or boot number goes backwards");
	wal->hard_state = state;
	if (scan->sink->hard_state)
		scan->sink->hard_state(scan->sink->arg, &state);
	return 0;
}

static int read_entry(struct scan *scan, struct wire_reader *reader, uint64_t offset)
{
	struct wal *wal = scan->wal;
	struct wal_entry entry;
	int r;

	entry.index = wire_read_varint(reader);
	entry.term = wire_read_varint(reader);
	entry.kind = wire_read_u8(reader);
	entry.data = wire_read_bytes(reader);
	if (reader->failed)
		return damaged(scan, offset, "an entry record ends early");
	if (!entry.index || entry.index > MIN(wal->last_index, scan->own_last) + 1)
		return damaged(scan, offset, "an entry leaves a gap behind the one before");
	/* The hard state in front of the entry was written with it or before it. What was committed by then
	 * was durable on a quorum, so only indices that did not exist yet may follow. */
	if (entry.index <= wal->flushed_hard_state.commit && entry.index <= wal->last_index)
		return damaged(scan, offset, "an entry replaces one that was committed");
	wal->last_index = scan->own_last = entry.index;
	if (!scan->frame.lowest || entry.index < scan->frame.lowest)
		scan->frame.lowest = entry.index;
	r = scan->sink->entry(scan->sink->arg, &entry);
	if (r == -EPROTONOSUPPORT)
		return fail(scan, r,
			"log segment %s holds an entry of kind %u, which this version does not know: update "
			"the program on this host, what wrote it is newer",
			scan->name, entry.kind);
	return r < 0 ? damaged(scan, offset, "an entry makes no sense behind those before it") : 0;
}

static int read_restart(struct scan *scan, struct wire_reader *reader, uint64_t offset)
{
	struct wal *wal = scan->wal;
	uint64_t index = wire_read_varint(reader);

	if (reader->failed || !index || index == UINT64_MAX || index < wal->flushed_hard_state.commit)
		return damaged(scan, offset, "a restart of the log makes no sense");
	wal->last_index = scan->own_last = index;
	scan->found.first_index = index + 1;
	scan->frame = (struct wal_frame_entries){.restarts = true};
	if (scan->sink->restart)
		scan->sink->restart(scan->sink->arg, index);
	return 0;
}

static int read_payload(struct scan *scan, struct slice payload, uint64_t offset, bool first_of_segment)
{
	struct wire_reader reader = wire_reader_make(payload);
	int r;

	scan->frame = (struct wal_frame_entries){0};
	if (scan->seal_seen)
		return damaged(scan, offset, "a frame follows the end of the segment");
	if (first_of_segment && (!payload.len || (payload.data[0] != WAL_RECORD_HARD_STATE &&
							 payload.data[0] != WAL_RECORD_SEAL)))
		return damaged(scan, offset, "the segment does not begin with a hard state");
	while (wire_left(&reader)) {
		switch (wire_read_u8(&reader)) {
		case WAL_RECORD_HARD_STATE:
			r = read_hard_state(scan, &reader, offset);
			break;
		case WAL_RECORD_ENTRY:
			r = read_entry(scan, &reader, offset);
			break;
		case WAL_RECORD_RESTART:
			r = read_restart(scan, &reader, offset);
			break;
		case WAL_RECORD_SEAL:
			scan->seal_seen = true;
			r = wire_left(&reader) ? damaged(scan, offset, "records follow the seal") : 0;
			break;
		default:
			r = damaged(scan, offset, "a record of unknown kind");
		}
		if (r < 0)
			return r;
	}
	scan->wal->flushed_hard_state = scan->wal->hard_state;
	return 0;
}

/* The offset of the first whole frame header of this life behind `offset`, or 0. */
static uint64_t frame_behind(const struct scan *scan, uint64_t offset)
{
	struct wal_frame_header header;

	for (uint64_t at = offset + 8; at + WAL_FRAME_HEADER_BYTES <= scan->bytes.len; at += 8)
		if (wal_frame_header_decode(scan->bytes, at, scan->wal->seed, &header))
			return at;
	return 0;
}

/* What stands at `offset` is no whole frame: the end of the log, if this is the last segment and nothing
 * follows. */
static int end_of_frames(struct scan *scan, uint64_t offset, uint64_t torn_bytes, bool last)
{
	uint64_t behind = frame_behind(scan, offset);

	if (behind)
		return damaged(scan, offset, "the frame here does not check, and whole ones follow it");
	if (!last && !scan->seal_seen)
		return damaged(scan, offset, "the segment ends before its seal, and another follows it");
	/* The writer keeps room for the seal behind every frame. */
	if (!scan->seal_seen && scan->bytes.len - offset < WAL_SEAL_FRAME_BYTES)
		return damaged(scan, offset, "the file ends here, it was longer when it was written");
	scan->found.torn_bytes = torn_bytes;
	return 0;
}

static int read_frames(struct scan *scan, uint64_t number, bool last)
{
	struct wal *wal = scan->wal;
	uint64_t offset = WAL_SEGMENT_HEADER_BYTES;
	struct wal_frame_header header;
	struct slice payload;
	uint64_t whole, last_index;
	int r;

	scan->seal_seen = false;
	scan->newest = 0;
	for (;;) {
		wal->offset = offset;
		if (!wal_frame_header_decode(scan->bytes, offset, wal->seed, &header))
			return end_of_frames(scan, offset, 0, last);
		whole = wal_frame_bytes(header.payload_len);
		if (header.segment != (uint32_t)number || header.sequence != wal->sequence ||
			whole > scan->bytes.len - offset)
			return damaged(scan, offset, "a frame is out of order");
		payload = slice_make(scan->bytes.data + offset + WAL_FRAME_HEADER_BYTES, header.payload_len);
		if (wal_payload_crc(wal->seed, wal->chain, payload) != header.payload_crc)
			return end_of_frames(scan, offset, whole, last);
		last_index = wal->last_index;
		r = read_payload(scan, payload, offset, offset == WAL_SEGMENT_HEADER_BYTES);
		if (r < 0)
			return r;
		wal_mark_frame(wal, number, scan->frame, last_index);
		wal->chain = header.payload_crc;
		wal->sequence++;
		scan->newest = offset;
		offset += whole;
	}
}

/* Checks a valid header against what came before; `first`: the oldest segment kept. */
static int check_header(
	struct scan *scan, const struct wal_segment_header *header, uint64_t number, bool first)
{
	struct wal *wal = scan->wal;

	if (header->cluster_id != wal->config.cluster_id)
		return fail(scan, -EXDEV,
			"log segment %s belongs to cluster %" PRIx64 ", this member is of cluster %" PRIx64
			": check the data directory, --initial-cluster and --initial-cluster-token",
			scan->name, header->cluster_id, wal->config.cluster_id);
	if (header->member_id != wal->config.member_id)
		return fail(scan, -EXDEV,
			"log segment %s belongs to member %" PRIx64 ", this is member %" PRIx64
			": check the data directory",
			scan->name, header->member_id, wal->config.member_id);
	if (!header->first_index) /* it may be the first one some day */
		return damaged(scan, 0, "the segment does not begin with an entry");
	if (first) {
		if (number == 1 && (header->first_index != 1 || header->first_sequence != 1))
			return damaged(scan, 0, "the first segment does not begin the log");
		wal->last_index = header->first_index - 1;
		wal->sequence = header->first_sequence;
		wal->chain = header->chain;
		scan->found.first_index = header->first_index;
	}
	if (header->first_sequence != wal->sequence || header->chain != wal->chain ||
		header->first_index > wal->last_index + 1)
		return damaged(scan, 0, "the segment does not continue the one before");
	return 0;
}

/* A segment whose header was never completed: only the newest can be one, and no frame may have followed.
 * `old`: the header is sound and of an earlier life, so what lies behind may be anything that users wrote
 * then. Else a frame anywhere tells that header and first frames are damaged, a whole sector say. */
static int unstarted_segment(struct scan *scan, uint64_t number, bool last, bool old)
{
	uint64_t at = WAL_SEGMENT_HEADER_BYTES, end = old ? at + 1 : scan->bytes.len;

	for (; last && at < end; at += 8)
		last = !wal_frame_looks_begun(scan->bytes, at, number);
	if (!last)
		return damaged(scan, 0, "the segment's header does not check");
	return 0;
}

static void keep_tail(struct scan *scan)
{
	struct wal *wal = scan->wal;

	buf_clear(&wal->tail);
	buf_add(&wal->tail, scan->bytes.data + scan->newest, (size_t)(wal->offset - scan->newest));
	wal->tail_offset = scan->newest;
}

static int newer_format(struct scan *scan, const struct wal_segment_header *header)
{
	return fail(scan, -EPROTONOSUPPORT,
		"log segment %s has format %" PRIu32
		", this program reads up to %u: it was written by a newer version",
		scan->name, header->version, WAL_FORMAT_VERSION);
}

/* Answers 1 when the segment was under construction and holds nothing. */
static int read_segment(struct scan *scan, size_t position)
{
	struct wal *wal = scan->wal;
	struct wal_segment *segment = &wal->segments[position];
	bool last = position + 1 == wal->segments_len;
	/* Those before it were removed behind its first write, which told all over again what they had told.
	 */
	bool begun = position == 0 && segment->number > 1;
	_cleanup_free_ char *data = NULL;
	struct wal_segment_header header;
	enum wal_header_check check;
	size_t len;
	int r;

	wal_segment_name(scan->name, segment->number);
	r = scan->disk->read(scan->disk->arg, scan->name, WAL_SEGMENT_MAX_BYTES, &data, &len);
	if (r < 0)
		return unreadable(scan, r);
	scan->bytes = slice_make(data, len);
	segment->size_bytes = len;
	check = wal_segment_header_decode(scan->bytes, &header);
	if (check == WAL_HEADER_NEWER)
		return newer_format(scan, &header);
	if (check == WAL_HEADER_VALID && header.number > segment->number)
		return damaged(scan, 0, "the header is that of a later segment");
	if (check == WAL_HEADER_INVALID || header.number != segment->number) {
		r = unstarted_segment(scan, segment->number, last && !begun, check == WAL_HEADER_VALID);
		return r < 0 ? r : 1;
	}
	r = check_header(scan, &header, segment->number, position == 0);
	if (r < 0)
		return r;
	wal->seed = segment->seed = header.seed;
	scan->own_last = header.first_index - 1;
	r = read_frames(scan, segment->number, last);
	if (r < 0)
		return r;
	if (begun && wal->offset == WAL_SEGMENT_HEADER_BYTES)
		return damaged(scan, wal->offset, "the frame with which the log begins does not check");
	/* Its first write never got there, but its header tells of it: the log may go on with other entries.
	 * It is made anew, behind the seal of the one before. */
	if (last && position && wal->offset == WAL_SEGMENT_HEADER_BYTES) {
		scan->seal_seen = true;
		return 1;
	}
	segment->last_index = wal->last_index;
	segment->used_bytes = wal->offset;
	if (position + 2 >= wal->segments_len) /* the last one may be unstarted */
		keep_tail(scan);
	return 0;
}

static void doom(struct wal *wal, const char *name)
{
	assert(wal->doomed_len < DOOMED_MAX);
	wal->doomed = mem_reallocarray(wal->doomed, wal->doomed_len + 1, sizeof(*wal->doomed));
	memcpy(wal->doomed[wal->doomed_len++], name, strlen(name) + 1);
}

static void found_file(void *arg, const char *name, uint64_t size_bytes)
{
	struct scan *scan = arg;
	struct wal *wal = scan->wal;
	uint64_t number;

	if (wal_segment_number(name, &number) && wal->segments_len < SEGMENTS_MAX)
		(void)wal_segment_push(wal, number, size_bytes);
	else if (strcmp(name, WAL_SPARE_NAME) == 0 && size_bytes == wal->config.segment_bytes)
		wal->spare_bytes = size_bytes;
	else if (strcmp(name, WAL_RESERVE_NAME) == 0 && size_bytes == wal->config.segment_bytes)
		wal->reserve_bytes = size_bytes;
	else if (strcmp(name, WAL_SPARE_NAME) == 0 || strcmp(name, WAL_RESERVE_NAME) == 0 ||
		 strcmp(name, WAL_PARTIAL_NAME) == 0)
		doom(wal, name);
}

static int by_number(const void *a, const void *b)
{
	const struct wal_segment *left = a, *right = b;

	return left->number < right->number ? -1 : left->number > right->number;
}

static int read_log(struct scan *scan)
{
	struct wal *wal = scan->wal;
	int r;

	r = scan->disk->list(scan->disk->arg, found_file, scan);
	if (r < 0)
		return fail(scan, r, "cannot list the log directory");
	if (wal->segments_len)
		qsort(wal->segments, wal->segments_len, sizeof(*wal->segments), by_number);
	for (size_t i = 1; i < wal->segments_len; i++)
		if (wal->segments[i].number != wal->segments[i - 1].number + 1) {
			wal_segment_name(scan->name, wal->segments[i - 1].number + 1);
			return damaged(scan, 0, "the segment is missing");
		}
	for (size_t i = 0; i < wal->segments_len; i++) {
		r = read_segment(scan, i);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		/* Behind an unstarted segment nothing follows; the one before it is sealed. */
		doom(wal, scan->name);
		wal->segments_len = i;
	}
	wal->sealed = !wal->segments_len || scan->seal_seen;
	/* The end of a cut log may have been replaced from below the cut on, as long as nothing there was
	 * committed. But the log was cut only when all in front of the cut was committed and durable behind
	 * it again: an end below the cut has lost some of that. */
	if (wal->last_index + 1 < scan->found.first_index)
		return damaged(scan, wal->offset, "the log ends before the index at which it was cut");
	return 0;
}

int wal_open(const struct wal_config *config, const struct wal_disk *disk, const struct wal_sink *sink,
	struct wal **ret_wal, struct wal_recovered *ret_recovered, char **ret_error)
{
	_cleanup_(wal_freep) struct wal *wal = mem_new(struct wal);
	struct scan scan = {
		.wal = wal, .disk = disk, .sink = sink, .ret_error = ret_error, .found.first_index = 1};
	int r;

	wal->config = *config;
	if (!wal->config.segment_bytes)
		wal->config.segment_bytes = WAL_SEGMENT_DEFAULT_BYTES;
	assert(wal->config.segment_bytes >= WAL_SEGMENT_MIN_BYTES &&
		wal->config.segment_bytes <= WAL_SEGMENT_MAX_BYTES);
	wal->sequence = 1;
	buf_init(&wal->batch, 0);
	wal_batch_reset(wal);
	r = read_log(&scan);
	if (r < 0)
		return r;
	/* A first write that did not complete may have left a started segment: still nothing was ever
	 * promised. */
	scan.found.fresh = wal->sequence == 1;
	scan.found.hard_state = wal->hard_state;
	scan.found.last_index = wal->last_index;
	wal->flushed_hard_state = wal->hard_state;
	wal->flushed_last_index = wal->last_index;
	*ret_recovered = scan.found;
	*ret_wal = take_ptr(wal);
	return 0;
}

struct oldest {
	char name[WAL_NAME_MAX];
	uint64_t number;
};

static void found_oldest(void *arg, const char *name, uint64_t size_bytes)
{
	struct oldest *oldest = arg;
	uint64_t number;

	(void)size_bytes;
	if (!wal_segment_number(name, &number) || (oldest->number && number >= oldest->number))
		return;
	oldest->number = number;
	wal_segment_name(oldest->name, number);
}

int wal_identity(const struct wal_disk *disk, bool *ret_exists, uint64_t *ret_cluster_id,
	uint64_t *ret_member_id, char **ret_error)
{
	struct oldest oldest = {.number = 0};
	struct scan scan = {.ret_error = ret_error};
	_cleanup_free_ char *data = NULL;
	struct wal_segment_header header;
	enum wal_header_check check;
	size_t len;
	int r;

	r = disk->list(disk->arg, found_oldest, &oldest);
	if (r < 0)
		return fail(&scan, r, "cannot list the log directory");
	*ret_exists = false;
	if (!oldest.number)
		return 0;
	memcpy(scan.name, oldest.name, sizeof(scan.name));
	r = disk->read(disk->arg, oldest.name, WAL_SEGMENT_MAX_BYTES, &data, &len);
	if (r < 0)
		return unreadable(&scan, r);
	check = wal_segment_header_decode(slice_make(data, len), &header);
	if (check == WAL_HEADER_NEWER)
		return newer_format(&scan, &header);
	/* An unfinished first segment is no log; wal_open() tells it from a damaged one. */
	if (check == WAL_HEADER_INVALID || header.number != oldest.number)
		return 0;
	*ret_exists = true;
	*ret_cluster_id = header.cluster_id;
	*ret_member_id = header.member_id;
	return 0;
}
