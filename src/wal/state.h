/* What the writer and recovery share: where the log stands. Private to this room. */
#pragma once
#include "wal/format.h"

struct wal_segment {
	uint64_t number, size_bytes;
	uint64_t last_index; /* highest entry index in it or before it; closed segments only */
	uint64_t seed;	     /* of its life */
	uint64_t used_bytes; /* where its frames end; closed segments only */
};

/* Where entries are: those from `index` on, up to the next mark's, have their newest versions in frames of
 * one segment from `offset` on. Marks ascend in index and in place. */
struct wal_mark {
	uint64_t index, segment, offset;
	uint32_t chain; /* payload checksum of the frame before */
};
#define WAL_MARKS_PER_SEGMENT 128u	     /* about */
#define WAL_READ_BYTES (UINT64_C(256) << 10) /* about so much is read at once, of one segment */

/* What a buffer keeps for the next batch: what a burst took is given back. */
#define WAL_KEPT_BYTES (8u << 20)

/* What a frame holds, as far as marks need to know. */
struct wal_frame_entries {
	uint64_t lowest; /* index of its entries behind the last restart in it; 0: none */
	bool restarts;
};

struct wal {
	struct wal_config config;
	struct wal_mark *marks;
	size_t marks_len, marks_cap;
	struct wal_segment *segments; /* oldest first; the last is written to unless `sealed` */
	size_t segments_len, segments_cap;
	uint64_t offset; /* in the last segment, of the next frame */
	uint64_t seed;	 /* of the last segment's life */
	uint32_t chain;
	uint64_t sequence; /* of the next frame */
	bool sealed; /* the last segment is closed (or there is none): the next batch begins a new one */

	uint64_t last_index;
	struct wal_hard_state hard_state;	  /* of everything added */
	struct wal_hard_state flushed_hard_state; /* of everything flushed */

	struct wal_plan *plan;	    /* of the newest flush, its owner's; NULL: it was carried out */
	struct buf batch;	    /* room for a frame header, then records */
	uint64_t batch_first_index; /* of the first entry in the batch, which later ones may replace from
				       below; 0: none */
	struct wal_frame_entries batch_entries;
	uint64_t flushed_last_index;

	uint64_t spare_bytes;	/* size of the spare segment; 0: none */
	uint64_t reserve_bytes; /* of the one behind it, for when there is no space for another; 0: none */
	bool making_reserve;	/* the spare plan under way is for the reserve */
	bool spare_under_way;	/* is being made, or a segment is being recycled as it */
	bool recycling;
	/* The newest plan takes the spare: until it is carried out, which the next flush shows, its name is
	 * in use. */
	bool spare_leaving;
	bool reserve_leaving; /* the same of the reserve */
	bool sealing; /* the newest plan closes the segment before the last one: it is in use as long */

	/* The last frame that recovery found, or the header, and where in the last segment: the start plan
	 * writes it again. */
	struct buf tail;
	uint64_t tail_offset;

	char (*doomed)[WAL_NAME_MAX]; /* files that the start plan removes */
	size_t doomed_len;
};

/* locate.c: the next frame, at wal->offset of `segment`, holds these; before it the log ended at last_index.
 */
void wal_mark_frame(struct wal *wal, uint64_t segment, struct wal_frame_entries entries, uint64_t last_index);
/* Entries below the oldest segment's can no longer be read. */
void wal_marks_drop_before(struct wal *wal, uint64_t segment);

void wal_batch_reset(struct wal *wal);
struct wal_segment *wal_segment_push(struct wal *wal, uint64_t number, uint64_t size_bytes);
