/* clang-format off */
/* The bytes of a checkpoint; all numbers little-endian.
 *
 *   CHECKPOINT = u8[8] "FLOTCKF\n" | u32 version | u32 manifest length | u64 generation |
 *                u32 CRC-32C of these | manifest
 *   manifest   = u8[8] "FLOTCKM\n" | u32 version | u32 length of the manifest | body | u32 CRC-32C of all before
 *   body       = u64 cluster id | u64 index | u64 term | u64 store index | u64 first kept | u64 clock_ns |
 *                u64 state hash | u64 nodes | u32 length, membership |
 *                u32 sections { u16 kind, u16 version, u16 flags, u16 0, u32 chunks } |
 *                u32 chunks { u32 length, u32 CRC-32C }, of all sections one after the other
 *   data file  = the chunks, without gaps, in this order; name: generation in 16 hex digits, ".checkpoint"
 *
 * A chunk is a run of whole records of one section (store/snapshot.h); it is checked before it is parsed. The
 * length and the CRC at a manifest's end are there in every version, so that a newer one is told from a
 * damaged one.
 *
 * Sections have a version each. One that a reader does not know, or in a version that it does not know, means
 * "of a newer format", unless its flags say that the state is whole without it: then it is skipped. */
/* clang-format on */
#pragma once
#include "checkpoint/checkpoint.h"

#define CHECKPOINT_FORMAT_VERSION 1u
#define CHECKPOINT_FILE_HEADER_BYTES 28u

enum checkpoint_section_kind {
	CHECKPOINT_SECTION_NODES = 1,	/* version 1: node records; required */
	CHECKPOINT_SECTION_HISTORY = 2, /* version 1: event records; required */
	CHECKPOINT_SECTIONS_MAX = 64,	/* in one manifest */
};
#define CHECKPOINT_SECTION_VERSION 1u /* of both */
enum { CHECKPOINT_SECTION_OPTIONAL = 1 };

struct checkpoint_section {
	uint16_t kind, version, flags;
	uint32_t chunks;
};
struct checkpoint_chunk {
	uint64_t offset; /* in the data file */
	uint32_t len, crc;
};

struct checkpoint {
	uint32_t refs;
	struct checkpoint_info info;
	char *manifest; /* owned; info.membership points into it */
	struct checkpoint_section sections[CHECKPOINT_SECTIONS_MAX];
	size_t sections_len;
	struct checkpoint_chunk *chunks; /* owned */
};

/* The longest record is an event with two values. */
#define CHECKPOINT_CHUNK_MAX (UINT64_C(2) * STORE_VALUE_MAX + 2 * STORE_PATH_MAX + CHECKPOINT_CHUNK_BYTES)

#define CHECKPOINT_MANIFEST_HEAD_BYTES 16u
/* How long the manifest is that begins with these CHECKPOINT_MANIFEST_HEAD_BYTES; -EBADMSG. */
int checkpoint_manifest_length(struct slice head, size_t *ret_len) _must_check_;
/* Completes `checkpoint` (its info but for id and sizes, sections and chunks are set) by its manifest. */
void checkpoint_seal(struct checkpoint *checkpoint, struct slice membership);
/* Parses a manifest (copied); cluster_id 0: of any. -EBADMSG, -EPROTONOSUPPORT, -EXDEV with *ret_error owned.
 */
int checkpoint_parse(struct slice manifest, uint64_t cluster_id, uint64_t generation,
	struct checkpoint **ret_checkpoint, char **ret_error) _must_check_;
/* The chunk that holds the byte at `offset` of the data file, which is below data_bytes. */
size_t checkpoint_chunk_at(const struct checkpoint *checkpoint, uint64_t offset);
/* The section of a chunk; NULL beyond the last one. */
const struct checkpoint_section *checkpoint_chunk_section(const struct checkpoint *checkpoint, size_t chunk);
bool checkpoint_chunk_checks(const struct checkpoint *checkpoint, size_t chunk, struct slice bytes);
/* Refuses a checkpoint whose state needs a section that is not known here. */
int checkpoint_check_sections(const struct checkpoint *checkpoint, char **ret_error) _must_check_;

void checkpoint_data_name(char out[CHECKPOINT_NAME_MAX], uint64_t generation);
bool checkpoint_data_generation(const char *name, uint64_t *ret_generation);

void checkpoint_plan_begin(struct checkpoint_plan *plan);
struct checkpoint_step *checkpoint_plan_step(
	struct checkpoint_plan *plan, enum checkpoint_step_kind kind, const char *name);
/* Appends data to the plan as a write at `offset`; goes on with the last step where it can. */
void checkpoint_plan_write(
	struct checkpoint_plan *plan, const char *name, uint64_t offset, struct slice bytes);
/* The end: the data file is synced, then CHECKPOINT is made anew and switched. Takes 8 steps. */
void checkpoint_plan_switch(struct checkpoint_plan *plan, const struct checkpoint *checkpoint);
