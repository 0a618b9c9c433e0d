/* The bytes of a log segment; all numbers little-endian.
 *
 *   segment   = header, frames, unused bytes (zeros or an earlier life's)
 *   header    = 96 bytes, see struct wal_segment_header
 *   frame     = 32 bytes of frame header, payload, zeros up to a multiple of 8
 *   payload   = records: one byte of kind, then
 *      1 hard state   varint term, varint vote, varint commit, varint boot
 *      2 entry        varint index, varint term, u8 kind, varint length, data
 *      3 seal         nothing; the last record of a segment that has a successor
 *      4 restart      varint index: all entries before are void, the log goes on at index + 1
 *
 * Checksums: every CRC-32C starts from the life's seed, so frames of an earlier life in the same file never
 * check. A frame's payload checksum goes on from the one before it (the chain), across segments too. The
 * frame header has a checksum of its own, over its offset as well, so that a later whole frame can be
 * recognised behind a damaged one: that tells damage from a torn last write. The first frame of each segment
 * begins with a hard state, so a segment needs nothing of those before it: the log can be cut at any
 * segment's start.
 *
 * A new segment's header is durable before its first frame is written. */
#pragma once
#include "base/buf.h"
#include "wal/wal.h"

#define WAL_FORMAT_VERSION 1u
#define WAL_SEGMENT_HEADER_BYTES 96u
#define WAL_FRAME_HEADER_BYTES 32u
#define WAL_SEAL_FRAME_BYTES (WAL_FRAME_HEADER_BYTES + 8u)

enum wal_record_kind {
	WAL_RECORD_HARD_STATE = 1,
	WAL_RECORD_ENTRY = 2,
	WAL_RECORD_SEAL = 3,
	WAL_RECORD_RESTART = 4
};

struct wal_segment_header {
	uint32_t version;
	uint64_t cluster_id, member_id;
	uint64_t number;	 /* 1, 2, 3 … */
	uint64_t seed;		 /* of this life */
	uint64_t first_index;	 /* entries from here on are in this segment and its successors */
	uint64_t first_sequence; /* of its first frame */
	uint32_t chain;		 /* payload checksum of the last frame before */
};

struct wal_frame_header {
	uint32_t payload_len, segment; /* segment: low half of its number */
	uint64_t sequence;	       /* 1, 2, 3 … over the whole log */
	uint32_t payload_crc;
};

enum wal_header_check {
	WAL_HEADER_VALID,
	WAL_HEADER_INVALID, /* no header, or one that does not check */
	WAL_HEADER_NEWER,   /* it checks; version is set */
};

void wal_segment_header_encode(char out[WAL_SEGMENT_HEADER_BYTES], const struct wal_segment_header *header);
enum wal_header_check wal_segment_header_decode(struct slice bytes, struct wal_segment_header *ret_header);

uint32_t wal_payload_crc(uint64_t seed, uint32_t chain, struct slice payload);
void wal_frame_header_encode(char out[WAL_FRAME_HEADER_BYTES], uint64_t seed, uint64_t offset,
	const struct wal_frame_header *header);
/* False when the bytes at `offset` are no frame header of this life. */
bool wal_frame_header_decode(
	struct slice segment, uint64_t offset, uint64_t seed, struct wal_frame_header *ret_header);
/* The same for WAL_FRAME_HEADER_BYTES that stand at `offset` of their segment. */
bool wal_frame_header_check(
	const char *bytes, uint64_t offset, uint64_t seed, struct wal_frame_header *ret_header);
/* Whether a frame of segment `number` seems to begin at `offset`, judged without the seed. */
bool wal_frame_looks_begun(struct slice segment, uint64_t offset, uint64_t number);
uint64_t wal_frame_bytes(uint64_t payload_len); /* with header and padding */

void wal_segment_name(char out[WAL_NAME_MAX], uint64_t number);
bool wal_segment_number(const char *name, uint64_t *ret_number);
#define WAL_SPARE_NAME "spare.wal"
#define WAL_RESERVE_NAME "reserve.wal"
#define WAL_PARTIAL_NAME "spare.partial"
