/* What the writer and recovery share: where the log stands. Private to this room. */
#pragma once
#include "wal/format.h"

struct wal_segment {
	uint64_t number, size_bytes;
	uint64_t last_index; /* highest entry index in it or before it; closed segments only */
};

struct wal {
	struct wal_config config;
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

	struct buf batch;	    /* room for a frame header, then records */
	uint64_t batch_first_index; /* lowest entry index in the batch; 0: none */
	uint64_t flushed_last_index;

	uint64_t spare_bytes; /* size of the spare segment; 0: none */
	bool spare_under_way; /* is being made, or a segment is being recycled as it */
	bool recycling;
	/* The newest plan takes the spare: until it is carried out, which the next flush shows, its name is
	 * in use. */
	bool spare_leaving;

	char (*doomed)[WAL_NAME_MAX]; /* files that the start plan removes */
	size_t doomed_len;
};

void wal_batch_reset(struct wal *wal);
struct wal_segment *wal_segment_push(struct wal *wal, uint64_t number, uint64_t size_bytes);
