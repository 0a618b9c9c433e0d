/* Encoding is plain stores at fixed offsets; decoding checks lengths first, then magic, then the checksum. */
#include "wal/format.h"
#include "base/hash.h"
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>

static const char segment_magic[8] = {'F', 'L', 'O', 'T', 'W', 'A', 'L', '\n'};
#define FRAME_MAGIC 0x4d524657u /* "WFRM" */
#define FRAME_CHECKED_BYTES 28u

static void put_u32(char *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void put_u64(char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static uint32_t get_u32(const char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get_u64(const char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

void wal_segment_header_encode(char out[WAL_SEGMENT_HEADER_BYTES], const struct wal_segment_header *header)
{
	memset(out, 0, WAL_SEGMENT_HEADER_BYTES);
	memcpy(out, segment_magic, sizeof(segment_magic));
	put_u32(out + 8, header->version);
	put_u32(out + 12, WAL_SEGMENT_HEADER_BYTES);
	put_u64(out + 16, header->cluster_id);
	put_u64(out + 24, header->member_id);
	put_u64(out + 32, header->number);
	put_u64(out + 40, header->seed);
	put_u64(out + 48, header->first_index);
	put_u64(out + 56, header->first_sequence);
	put_u32(out + 64, header->chain);
	put_u32(out + 92, crc32c(0, out, 92));
}

enum wal_header_check wal_segment_header_decode(struct slice bytes, struct wal_segment_header *ret_header)
{
	const char *at = bytes.data;
	struct wal_segment_header header = {0};

	if (bytes.len < WAL_SEGMENT_HEADER_BYTES || memcmp(at, segment_magic, sizeof(segment_magic)) != 0)
		return WAL_HEADER_INVALID;
	if (get_u32(at + 92) != crc32c(0, at, 92))
		return WAL_HEADER_INVALID;
	header.version = get_u32(at + 8);
	if (header.version > WAL_FORMAT_VERSION) {
		*ret_header = header;
		return WAL_HEADER_NEWER;
	}
	if (get_u32(at + 12) != WAL_SEGMENT_HEADER_BYTES)
		return WAL_HEADER_INVALID;
	header.cluster_id = get_u64(at + 16);
	header.member_id = get_u64(at + 24);
	header.number = get_u64(at + 32);
	header.seed = get_u64(at + 40);
	header.first_index = get_u64(at + 48);
	header.first_sequence = get_u64(at + 56);
	header.chain = get_u32(at + 64);
	*ret_header = header;
	return WAL_HEADER_VALID;
}

static uint32_t seeded(uint64_t seed, uint32_t chain)
{
	char bytes[12];

	put_u64(bytes, seed);
	put_u32(bytes + 8, chain);
	return crc32c(0, bytes, sizeof(bytes));
}

uint32_t wal_payload_crc(uint64_t seed, uint32_t chain, struct slice payload)
{
	return crc32c(seeded(seed, chain), payload.data, payload.len);
}

static uint32_t frame_header_crc(uint64_t seed, uint64_t offset, const char *at)
{
	char bytes[8];

	put_u64(bytes, offset);
	return crc32c(crc32c(seeded(seed, 0), bytes, sizeof(bytes)), at, FRAME_CHECKED_BYTES);
}

void wal_frame_header_encode(char out[WAL_FRAME_HEADER_BYTES], uint64_t seed, uint64_t offset,
	const struct wal_frame_header *header)
{
	memset(out, 0, WAL_FRAME_HEADER_BYTES);
	put_u32(out, FRAME_MAGIC);
	put_u32(out + 4, header->segment);
	put_u64(out + 8, header->sequence);
	put_u32(out + 16, header->payload_len);
	put_u32(out + 20, header->payload_crc);
	put_u32(out + FRAME_CHECKED_BYTES, frame_header_crc(seed, offset, out));
}

bool wal_frame_header_decode(
	struct slice segment, uint64_t offset, uint64_t seed, struct wal_frame_header *ret_header)
{
	return offset <= segment.len && segment.len - offset >= WAL_FRAME_HEADER_BYTES &&
	       wal_frame_header_check(segment.data + offset, offset, seed, ret_header);
}

bool wal_frame_header_check(
	const char *at, uint64_t offset, uint64_t seed, struct wal_frame_header *ret_header)
{
	if (get_u32(at) != FRAME_MAGIC ||
		get_u32(at + FRAME_CHECKED_BYTES) != frame_header_crc(seed, offset, at))
		return false;
	*ret_header = (struct wal_frame_header){
		.segment = get_u32(at + 4),
		.sequence = get_u64(at + 8),
		.payload_len = get_u32(at + 16),
		.payload_crc = get_u32(at + 20),
	};
	return true;
}

bool wal_frame_looks_begun(struct slice segment, uint64_t offset, uint64_t number)
{
	if (offset > segment.len || segment.len - offset < WAL_FRAME_HEADER_BYTES)
		return false;
	return get_u32(segment.data + offset) == FRAME_MAGIC &&
	       get_u32(segment.data + offset + 4) == (uint32_t)number;
}

uint64_t wal_frame_bytes(uint64_t payload_len)
{
	return WAL_FRAME_HEADER_BYTES + ((payload_len + 7) & ~UINT64_C(7));
}

void wal_segment_name(char out[WAL_NAME_MAX], uint64_t number)
{
	(void)snprintf(out, WAL_NAME_MAX, "%016" PRIx64 ".wal", number);
}

bool wal_segment_number(const char *name, uint64_t *ret_number)
{
	uint64_t number = 0;

	for (size_t i = 0; i < 16; i++) {
		char c = name[i];

		if (c >= '0' && c <= '9')
			number = number << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			number = number << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	if (strcmp(name + 16, ".wal") != 0 || !number)
		return false;
	*ret_number = number;
	return true;
}
