/* Encoding appends fields to a buffer; decoding checks magic, checksum and version before it looks at a
 * field, and every count against the bytes that are left before anything is allocated. */
#include "checkpoint/format.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/wire.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const char file_magic[8] = {'F', 'L', 'O', 'T', 'C', 'K', 'F', '\n'};
static const char manifest_magic[8] = {'F', 'L', 'O', 'T', 'C', 'K', 'M', '\n'};
enum { CRC_BYTES = 4, CHUNK_ROW_BYTES = 8, SECTION_ROW_BYTES = 12, MANIFEST_LENGTH_AT = 12 };

bool checkpoint_id_equal(struct checkpoint_id one, struct checkpoint_id other)
{
	return one.index == other.index && one.term == other.term && one.check == other.check;
}

struct checkpoint *checkpoint_ref(struct checkpoint *checkpoint)
{
	assert(checkpoint->refs > 0 && checkpoint->refs < UINT32_MAX);
	checkpoint->refs++;
	return checkpoint;
}

struct checkpoint *checkpoint_unref(struct checkpoint *checkpoint)
{
	if (!checkpoint)
		return NULL;
	assert(checkpoint->refs > 0);
	if (--checkpoint->refs > 0)
		return NULL;
	free(checkpoint->manifest);
	free(checkpoint->chunks);
	free(checkpoint);
	return NULL;
}

void checkpoint_get_info(const struct checkpoint *checkpoint, struct checkpoint_info *ret_info)
{
	*ret_info = checkpoint->info;
}

/* ---- manifest ---- */

void checkpoint_seal(struct checkpoint *checkpoint, struct slice membership)
{
	_cleanup_buf_ struct buf out = BUF_INIT(CHECKPOINT_MANIFEST_MAX);
	struct checkpoint_info *info = &checkpoint->info;
	size_t len;

	assert(membership.len <= CHECKPOINT_MEMBERSHIP_MAX);
	/* Head, nine numbers of the body and the membership; counts; rows; the checksum. */
	len = CHECKPOINT_MANIFEST_HEAD_BYTES + 8 * sizeof(uint64_t) + 4 + membership.len + 4 +
	      checkpoint->sections_len * SECTION_ROW_BYTES + 4 + info->chunks * CHUNK_ROW_BYTES + CRC_BYTES;
	assert(len <= CHECKPOINT_MANIFEST_MAX); /* two terabytes of chunks */
	buf_add(&out, manifest_magic, sizeof(manifest_magic));
	wire_add_u32(&out, CHECKPOINT_FORMAT_VERSION);
	wire_add_u32(&out, (uint32_t)len);
	wire_add_u64(&out, info->cluster_id);
	wire_add_u64(&out, info->id.index);
	wire_add_u64(&out, info->id.term);
	wire_add_u64(&out, info->image.index);
	wire_add_u64(&out, info->image.first_kept);
	wire_add_u64(&out, (uint64_t)info->image.clock_ns);
	wire_add_u64(&out, info->image.hash);
	wire_add_u64(&out, info->image.nodes);
	wire_add_u32(&out, (uint32_t)membership.len);
	buf_add_slice(&out, membership);
	wire_add_u32(&out, (uint32_t)checkpoint->sections_len);
	for (size_t i = 0; i < checkpoint->sections_len; i++) {
		wire_add_u16(&out, checkpoint->sections[i].kind);
		wire_add_u16(&out, checkpoint->sections[i].version);
		wire_add_u16(&out, checkpoint->sections[i].flags);
		wire_add_u16(&out, 0);
		wire_add_u32(&out, checkpoint->sections[i].chunks);
	}
	wire_add_u32(&out, (uint32_t)info->chunks);
	for (size_t i = 0; i < info->chunks; i++) {
		wire_add_u32(&out, checkpoint->chunks[i].len);
		wire_add_u32(&out, checkpoint->chunks[i].crc);
	}
	wire_add_u32(&out, crc32c(0, out.data, out.len));
	assert(!out.failed && out.len == len);
	info->id.check = crc32c(0, out.data, out.len - CRC_BYTES);
	info->manifest_bytes = out.len;
	checkpoint->manifest = buf_take(&out, NULL);
	info->membership =
		slice_make(checkpoint->manifest + CHECKPOINT_MANIFEST_HEAD_BYTES + 8 * sizeof(uint64_t) + 4,
			membership.len);
	assert(slice_equal(info->membership, membership));
}

static uint32_t u32_at(struct slice bytes, size_t at)
{
	struct wire_reader reader = wire_reader_make(slice_make(bytes.data + at, CRC_BYTES));

	return wire_read_u32(&reader);
}

int checkpoint_manifest_length(struct slice head, size_t *ret_len)
{
	uint32_t len;

	if (head.len < CHECKPOINT_MANIFEST_HEAD_BYTES ||
		memcmp(head.data, manifest_magic, sizeof(manifest_magic)) != 0)
		return -EBADMSG;
	len = u32_at(head, MANIFEST_LENGTH_AT);
	if (len < CHECKPOINT_MANIFEST_HEAD_BYTES + CRC_BYTES || len > CHECKPOINT_MANIFEST_MAX)
		return -EBADMSG;
	*ret_len = len;
	return 0;
}

static struct slice read_exactly(struct wire_reader *reader, size_t len)
{
	struct slice bytes = slice_make(reader->at, len);

	if (reader->failed || wire_left(reader) < len) {
		reader->failed = true;
		reader->at = reader->end;
		return slice_make("", 0);
	}
	reader->at += len;
	return bytes;
}

static int read_sections(struct wire_reader *reader, struct checkpoint *checkpoint, uint64_t *ret_chunks)
{
	uint32_t count = wire_read_u32(reader);

	if (count > CHECKPOINT_SECTIONS_MAX)
		return -EBADMSG;
	*ret_chunks = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct checkpoint_section *section = &checkpoint->sections[i];

		section->kind = wire_read_u16(reader);
		section->version = wire_read_u16(reader);
		section->flags = wire_read_u16(reader);
		if (wire_read_u16(reader) || (i && section->kind <= section[-1].kind))
			return -EBADMSG;
		section->chunks = wire_read_u32(reader);
		*ret_chunks += section->chunks;
	}
	checkpoint->sections_len = count;
	return reader->failed ? -EBADMSG : 0;
}

static int read_body(struct wire_reader *reader, struct checkpoint *checkpoint)
{
	struct checkpoint_info *info = &checkpoint->info;
	uint64_t expected = 0;

	info->cluster_id = wire_read_u64(reader);
	info->id.index = wire_read_u64(reader);
	info->id.term = wire_read_u64(reader);
	info->image.index = wire_read_u64(reader);
	info->image.first_kept = wire_read_u64(reader);
	info->image.clock_ns = (int64_t)wire_read_u64(reader);
	info->image.hash = wire_read_u64(reader);
	info->image.nodes = wire_read_u64(reader);
	info->membership = read_exactly(reader, wire_read_u32(reader));
	if (!info->id.index || info->membership.len > CHECKPOINT_MEMBERSHIP_MAX ||
		read_sections(reader, checkpoint, &expected) < 0)
		return -EBADMSG;
	info->chunks = wire_read_u32(reader);
	if (info->chunks != expected || wire_left(reader) != info->chunks * CHUNK_ROW_BYTES)
		return -EBADMSG;
	checkpoint->chunks = mem_new_array(struct checkpoint_chunk, MAX(info->chunks, (size_t)1));
	for (size_t i = 0; i < info->chunks; i++) {
		struct checkpoint_chunk *chunk = &checkpoint->chunks[i];

		chunk->offset = info->data_bytes;
		chunk->len = wire_read_u32(reader);
		chunk->crc = wire_read_u32(reader);
		if (!chunk->len || chunk->len > CHECKPOINT_CHUNK_MAX)
			return -EBADMSG;
		info->data_bytes += chunk->len;
	}
	return wire_finish(reader);
}

int checkpoint_parse(struct slice manifest, uint64_t cluster_id, uint64_t generation,
	struct checkpoint **ret_checkpoint, char **ret_error)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	struct wire_reader reader;
	uint32_t version;
	size_t len;

	if (checkpoint_manifest_length(manifest, &len) < 0 || len != manifest.len ||
		u32_at(manifest, manifest.len - CRC_BYTES) !=
			crc32c(0, manifest.data, manifest.len - CRC_BYTES)) {
		*ret_error = mem_strdup("the manifest of the checkpoint is damaged");
		return -EBADMSG;
	}
	version = u32_at(manifest, sizeof(manifest_magic));
	if (version != CHECKPOINT_FORMAT_VERSION) {
		*ret_error = mem_printf("the checkpoint is of format %" PRIu32
					", this version knows %u: use a newer version",
			version, CHECKPOINT_FORMAT_VERSION);
		return -EPROTONOSUPPORT;
	}
	checkpoint = mem_new(struct checkpoint);
	checkpoint->refs = 1;
	checkpoint->manifest = mem_dup(manifest.data, manifest.len);
	checkpoint->info.generation = generation;
	checkpoint->info.manifest_bytes = manifest.len;
	checkpoint->info.id.check = u32_at(manifest, manifest.len - CRC_BYTES);
	reader = wire_reader_make(slice_make(checkpoint->manifest + CHECKPOINT_MANIFEST_HEAD_BYTES,
		manifest.len - CHECKPOINT_MANIFEST_HEAD_BYTES - CRC_BYTES));
	if (read_body(&reader, checkpoint) < 0) {
		*ret_error = mem_strdup("the manifest of the checkpoint makes no sense, although it checks");
		return -EBADMSG;
	}
	if (cluster_id && checkpoint->info.cluster_id != cluster_id) {
		*ret_error = mem_printf("the checkpoint is of cluster %" PRIx64 ", this is cluster %" PRIx64,
			checkpoint->info.cluster_id, cluster_id);
		return -EXDEV;
	}
	*ret_checkpoint = take_ptr(checkpoint);
	return 0;
}

int checkpoint_check_sections(const struct checkpoint *checkpoint, char **ret_error)
{
	for (size_t i = 0; i < checkpoint->sections_len; i++) {
		const struct checkpoint_section *section = &checkpoint->sections[i];
		bool known = section->kind == CHECKPOINT_SECTION_NODES ||
			     section->kind == CHECKPOINT_SECTION_HISTORY;

		if ((known && section->version == CHECKPOINT_SECTION_VERSION) ||
			(section->flags & CHECKPOINT_SECTION_OPTIONAL))
			continue;
		*ret_error =
			mem_printf("the checkpoint has a section of kind %u, version %u, which this version "
				   "does not know: use a newer version",
				section->kind, section->version);
		return -EPROTONOSUPPORT;
	}
	return 0;
}

/* ---- chunks ---- */

size_t checkpoint_chunk_at(const struct checkpoint *checkpoint, uint64_t offset)
{
	size_t low = 0, high = checkpoint->info.chunks;

	assert(offset < checkpoint->info.data_bytes);
	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (checkpoint->chunks[middle].offset <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

const struct checkpoint_section *checkpoint_chunk_section(const struct checkpoint *checkpoint, size_t chunk)
{
	for (size_t i = 0; i < checkpoint->sections_len; i++) {
		if (chunk < checkpoint->sections[i].chunks)
			return &checkpoint->sections[i];
		chunk -= checkpoint->sections[i].chunks;
	}
	return NULL;
}

bool checkpoint_chunk_checks(const struct checkpoint *checkpoint, size_t chunk, struct slice bytes)
{
	return bytes.len == checkpoint->chunks[chunk].len &&
	       crc32c(0, bytes.data, bytes.len) == checkpoint->chunks[chunk].crc;
}

/* ---- files ---- */

void checkpoint_data_name(char out[CHECKPOINT_NAME_MAX], uint64_t generation)
{
	(void)snprintf(out, CHECKPOINT_NAME_MAX, "%016" PRIx64 ".checkpoint", generation);
}

bool checkpoint_data_generation(const char *name, uint64_t *ret_generation)
{
	uint64_t generation = 0;

	for (size_t i = 0; i < 16; i++) {
		char c = name[i];

		if (c >= '0' && c <= '9')
			generation = generation << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			generation = generation << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	if (strcmp(name + 16, ".checkpoint") != 0)
		return false;
	*ret_generation = generation;
	return true;
}

int checkpoint_open(const struct checkpoint_disk *disk, uint64_t cluster_id,
	struct checkpoint **ret_checkpoint, char **ret_error)
{
	_cleanup_buf_ struct buf file = BUF_INIT(0);
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_free_ char *reason = NULL;
	struct wire_reader reader;
	uint32_t version, manifest_len;
	uint64_t generation;
	int r = disk->read(disk->arg, CHECKPOINT_NAME, 0,
		CHECKPOINT_FILE_HEADER_BYTES + (size_t)CHECKPOINT_MANIFEST_MAX + 1, &file);

	if (r == -ENOENT) {
		*ret_checkpoint = NULL;
		return 0;
	}
	if (r < 0) {
		*ret_error = mem_printf("cannot read " CHECKPOINT_NAME ": %s", strerror(-r));
		return r;
	}
	reader = wire_reader_make(buf_slice(&file));
	(void)read_exactly(&reader, sizeof(file_magic));
	version = wire_read_u32(&reader);
	manifest_len = wire_read_u32(&reader);
	generation = wire_read_u64(&reader);
	if (file.len < CHECKPOINT_FILE_HEADER_BYTES ||
		memcmp(file.data, file_magic, sizeof(file_magic)) != 0 ||
		wire_read_u32(&reader) != crc32c(0, file.data, CHECKPOINT_FILE_HEADER_BYTES - CRC_BYTES)) {
		*ret_error =
			mem_strdup(CHECKPOINT_NAME " is damaged: its header does not check; rebuild this "
						   "member from the others");
		return -EBADMSG;
	}
	if (version != CHECKPOINT_FORMAT_VERSION) {
		*ret_error = mem_printf(CHECKPOINT_NAME " is of format %" PRIu32
							", this version knows %u: use a newer version",
			version, CHECKPOINT_FORMAT_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (wire_left(&reader) != manifest_len) {
		*ret_error =
			mem_printf(CHECKPOINT_NAME " is damaged: %zu bytes of %" PRIu32 " are there; rebuild "
						   "this member from the others",
				wire_left(&reader), manifest_len);
		return -EBADMSG;
	}
	r = checkpoint_parse(
		slice_make(reader.at, manifest_len), cluster_id, generation, &checkpoint, &reason);
	if (r == 0)
		r = checkpoint_check_sections(checkpoint, &reason);
	if (r < 0) {
		*ret_error = mem_printf(CHECKPOINT_NAME ": %s", reason);
		return r;
	}
	*ret_checkpoint = take_ptr(checkpoint);
	return 0;
}

/* ---- plans ---- */

void checkpoint_plan_begin(struct checkpoint_plan *plan)
{
	plan->steps_len = 0;
	buf_clear(&plan->bytes);
}

struct checkpoint_step *checkpoint_plan_step(
	struct checkpoint_plan *plan, enum checkpoint_step_kind kind, const char *name)
{
	struct checkpoint_step *step = &plan->steps[plan->steps_len];

	assert(plan->steps_len < CHECKPOINT_PLAN_STEPS_MAX);
	plan->steps_len++;
	*step = (struct checkpoint_step){.kind = kind};
	(void)snprintf(step->name, sizeof(step->name), "%s", name);
	return step;
}

void checkpoint_plan_write(
	struct checkpoint_plan *plan, const char *name, uint64_t offset, struct slice bytes)
{
	struct checkpoint_step *step = plan->steps_len ? &plan->steps[plan->steps_len - 1] : NULL;

	if (!step || step->kind != CHECKPOINT_WRITE || strcmp(step->name, name) != 0 ||
		step->offset + step->bytes_len != offset) {
		step = checkpoint_plan_step(plan, CHECKPOINT_WRITE, name);
		step->offset = offset;
		step->bytes_at = plan->bytes.len;
	}
	buf_add_slice(&plan->bytes, bytes);
	step->bytes_len += bytes.len;
}

void checkpoint_plan_switch(struct checkpoint_plan *plan, const struct checkpoint *checkpoint)
{
	_cleanup_buf_ struct buf header = BUF_INIT(0);
	char name[CHECKPOINT_NAME_MAX];
	struct checkpoint_step *step;

	checkpoint_data_name(name, checkpoint->info.generation);
	(void)checkpoint_plan_step(plan, CHECKPOINT_SYNC, name);
	(void)checkpoint_plan_step(plan, CHECKPOINT_SYNC_DIR, "");
	buf_add(&header, file_magic, sizeof(file_magic));
	wire_add_u32(&header, CHECKPOINT_FORMAT_VERSION);
	wire_add_u32(&header, (uint32_t)checkpoint->info.manifest_bytes);
	wire_add_u64(&header, checkpoint->info.generation);
	wire_add_u32(&header, crc32c(0, header.data, header.len));
	assert(header.len == CHECKPOINT_FILE_HEADER_BYTES);
	(void)checkpoint_plan_step(plan, CHECKPOINT_CREATE, CHECKPOINT_NEW_NAME);
	checkpoint_plan_write(plan, CHECKPOINT_NEW_NAME, 0, buf_slice(&header));
	checkpoint_plan_write(plan, CHECKPOINT_NEW_NAME, header.len,
		slice_make(checkpoint->manifest, checkpoint->info.manifest_bytes));
	(void)checkpoint_plan_step(plan, CHECKPOINT_SYNC, CHECKPOINT_NEW_NAME);
	step = checkpoint_plan_step(plan, CHECKPOINT_RENAME, CHECKPOINT_NEW_NAME);
	(void)snprintf(step->to_name, sizeof(step->to_name), "%s", CHECKPOINT_NAME);
	(void)checkpoint_plan_step(plan, CHECKPOINT_SYNC_DIR, "");
}

void checkpoint_remove_plan(uint64_t generation, struct checkpoint_plan *ret_plan)
{
	char name[CHECKPOINT_NAME_MAX];

	checkpoint_plan_begin(ret_plan);
	checkpoint_data_name(name, generation);
	(void)checkpoint_plan_step(ret_plan, CHECKPOINT_REMOVE, name);
}

struct leftovers {
	const struct checkpoint *checkpoint;
	struct checkpoint_plan *plan;
};

/* What does not fit into the plan is found again at the next start. */
static void find_leftover(void *arg, const char *name, uint64_t size_bytes)
{
	struct leftovers *leftovers = arg;
	uint64_t generation;

	(void)size_bytes;
	if (leftovers->plan->steps_len == CHECKPOINT_PLAN_STEPS_MAX)
		return;
	if (checkpoint_data_generation(name, &generation)) {
		if (leftovers->checkpoint && generation == leftovers->checkpoint->info.generation)
			return;
	} else if (strcmp(name, CHECKPOINT_NEW_NAME) != 0) {
		return;
	}
	(void)checkpoint_plan_step(leftovers->plan, CHECKPOINT_REMOVE, name);
}

int checkpoint_start_plan(const struct checkpoint_disk *disk, const struct checkpoint *checkpoint,
	struct checkpoint_plan *ret_plan)
{
	struct leftovers leftovers = {checkpoint, ret_plan};

	checkpoint_plan_begin(ret_plan);
	/* The rename may be in the cache only: the older data file goes after this. */
	(void)checkpoint_plan_step(ret_plan, CHECKPOINT_SYNC_DIR, "");
	return disk->list(disk->arg, find_leftover, &leftovers);
}
