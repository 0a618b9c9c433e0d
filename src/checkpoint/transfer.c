/* The source keeps one chunk, checked, and gives out parts of it. The receiver collects what one checksum
 * covers (the manifest, then chunk by chunk) and goes back to its beginning when it does not check; whole
 * chunks go to the disk and into the new store. */
#include "base/hash.h"
#include "base/memory.h"
#include "checkpoint/format.h"
#include <errno.h>
#include <inttypes.h>

/* ---- source ---- */

struct checkpoint_source {
	struct checkpoint *checkpoint; /* one reference */
	size_t chunk;		       /* that is in `bytes` */
	bool has_chunk;
	struct buf bytes;
};

struct checkpoint_source *checkpoint_source_new(struct checkpoint *checkpoint)
{
	struct checkpoint_source *source = mem_new(struct checkpoint_source);

	source->checkpoint = checkpoint_ref(checkpoint);
	return source;
}

struct checkpoint_source *checkpoint_source_free(struct checkpoint_source *source)
{
	if (!source)
		return NULL;
	(void)checkpoint_unref(source->checkpoint);
	buf_done(&source->bytes);
	free(source);
	return NULL;
}

/* The chunk in which the byte is; false: it is in the manifest, or beyond the end. */
static bool chunk_of(const struct checkpoint *checkpoint, uint64_t offset, size_t *ret_chunk)
{
	if (offset < checkpoint->info.manifest_bytes ||
		offset - checkpoint->info.manifest_bytes >= checkpoint->info.data_bytes)
		return false;
	*ret_chunk = checkpoint_chunk_at(checkpoint, offset - checkpoint->info.manifest_bytes);
	return true;
}

bool checkpoint_source_needs(
	const struct checkpoint_source *source, uint64_t offset, struct checkpoint_range *ret_range)
{
	size_t chunk;

	if (!chunk_of(source->checkpoint, offset, &chunk) || (source->has_chunk && source->chunk == chunk))
		return false;
	checkpoint_data_name(ret_range->name, source->checkpoint->info.generation);
	ret_range->offset = source->checkpoint->chunks[chunk].offset;
	ret_range->len = source->checkpoint->chunks[chunk].len;
	return true;
}

int checkpoint_source_fill(
	struct checkpoint_source *source, uint64_t offset, struct slice bytes, char **ret_error)
{
	char name[CHECKPOINT_NAME_MAX];
	size_t chunk;
	bool inside = chunk_of(source->checkpoint, offset, &chunk);

	assert(inside);
	source->has_chunk = false;
	if (!checkpoint_chunk_checks(source->checkpoint, chunk, bytes)) {
		checkpoint_data_name(name, source->checkpoint->info.generation);
		*ret_error =
			mem_printf("%s is damaged at offset %" PRIu64 "; rebuild this member from the others",
				name, source->checkpoint->chunks[chunk].offset);
		return -EBADMSG;
	}
	buf_done(&source->bytes); /* chunks of very different lengths: each has what it needs */
	buf_add_slice(&source->bytes, bytes);
	source->chunk = chunk;
	source->has_chunk = true;
	return 0;
}

int checkpoint_source_piece(
	struct checkpoint_source *source, uint64_t offset, size_t max_len, struct slice *ret_bytes)
{
	const struct checkpoint *checkpoint = source->checkpoint;
	struct checkpoint_range range;
	struct slice from;
	uint64_t at;

	if (checkpoint_source_needs(source, offset, &range))
		return -EAGAIN;
	if (offset < checkpoint->info.manifest_bytes) {
		from = slice_make(checkpoint->manifest, checkpoint->info.manifest_bytes);
		at = offset;
	} else if (offset - checkpoint->info.manifest_bytes < checkpoint->info.data_bytes) {
		from = buf_slice(&source->bytes);
		at = offset - checkpoint->info.manifest_bytes - checkpoint->chunks[source->chunk].offset;
	} else {
		*ret_bytes = slice_make("", 0);
		return 0;
	}
	assert(at < from.len);
	*ret_bytes = slice_make(from.data + at, MIN(from.len - (size_t)at, max_len));
	return 0;
}

/* ---- receiver ---- */

struct checkpoint_receiver {
	uint64_t cluster_id, generation;
	struct checkpoint_id id;
	struct buf pending;	       /* of the manifest, or of the chunk that is coming in */
	struct checkpoint *checkpoint; /* one reference; NULL while the manifest is coming in */
	struct checkpoint_loader *loader;
	struct store *store; /* when all is there */
	size_t chunk;
	uint64_t taken, unsynced_bytes; /* taken: up to here all is checked */
	char data_name[CHECKPOINT_NAME_MAX];
};

struct checkpoint_receiver *checkpoint_receiver_new(
	uint64_t cluster_id, struct checkpoint_id id, uint64_t generation)
{
	struct checkpoint_receiver *receiver = mem_new(struct checkpoint_receiver);

	receiver->cluster_id = cluster_id;
	receiver->id = id;
	receiver->generation = generation;
	checkpoint_data_name(receiver->data_name, generation);
	return receiver;
}

struct store *checkpoint_receiver_end(struct checkpoint_receiver *receiver)
{
	struct store *store = receiver->loader ? checkpoint_loader_end(receiver->loader) : NULL;

	if (receiver->store) {
		assert(!store); /* the loader has handed it over */
		store = receiver->store;
	}
	buf_done(&receiver->pending);
	(void)checkpoint_unref(receiver->checkpoint);
	free(receiver);
	return store;
}

struct checkpoint_receiver *checkpoint_receiver_free(struct checkpoint_receiver *receiver)
{
	if (receiver)
		(void)store_free(checkpoint_receiver_end(receiver));
	return NULL;
}

uint64_t checkpoint_receiver_wanted(const struct checkpoint_receiver *receiver)
{
	return receiver->taken + receiver->pending.len;
}

uint64_t checkpoint_receiver_total(const struct checkpoint_receiver *receiver)
{
	const struct checkpoint *checkpoint = receiver->checkpoint;

	return checkpoint ? checkpoint->info.manifest_bytes + checkpoint->info.data_bytes : 0;
}

bool checkpoint_receiver_knows(const struct checkpoint_receiver *receiver, struct checkpoint_info *ret_info)
{
	if (!receiver->loader)
		return false;
	checkpoint_get_info(receiver->checkpoint, ret_info);
	return true;
}

/* What is pending goes again from its beginning. */
static int again(struct checkpoint_receiver *receiver)
{
	buf_done(&receiver->pending);
	return -EAGAIN;
}

static int take_manifest(struct checkpoint_receiver *receiver, struct checkpoint_plan *plan, char **ret_error)
{
	struct checkpoint *checkpoint;
	struct slice manifest = buf_slice(&receiver->pending);
	int r;

	if (crc32c(0, manifest.data, manifest.len - 4) != receiver->id.check)
		return again(receiver);
	r = checkpoint_parse(manifest, receiver->cluster_id, receiver->generation, &checkpoint, ret_error);
	if (r < 0)
		return r;
	receiver->checkpoint = checkpoint;
	r = checkpoint_check_sections(checkpoint, ret_error);
	if (r < 0)
		return r;
	if (!checkpoint_id_equal(checkpoint->info.id, receiver->id)) {
		*ret_error = mem_printf("the checkpoint that came in is of index %" PRIu64 ", %" PRIu64
					" was announced",
			checkpoint->info.id.index, receiver->id.index);
		return -EBADMSG;
	}
	receiver->loader = checkpoint_loader_new(checkpoint);
	receiver->taken = manifest.len;
	buf_done(&receiver->pending);
	(void)checkpoint_plan_step(plan, CHECKPOINT_CREATE, receiver->data_name);
	return 0;
}

static int take_chunk(struct checkpoint_receiver *receiver, struct checkpoint_plan *plan, char **ret_error)
{
	const struct checkpoint_chunk *chunk = &receiver->checkpoint->chunks[receiver->chunk];
	struct slice bytes = buf_slice(&receiver->pending);
	int r;

	if (!checkpoint_chunk_checks(receiver->checkpoint, receiver->chunk, bytes))
		return again(receiver);
	r = checkpoint_loader_add(receiver->loader, bytes, ret_error);
	if (r < 0)
		return r;
	checkpoint_plan_write(plan, receiver->data_name, chunk->offset, bytes);
	receiver->taken += bytes.len;
	receiver->unsynced_bytes += bytes.len;
	receiver->chunk++;
	if (receiver->pending.cap > 4 * CHECKPOINT_CHUNK_BYTES)
		buf_done(&receiver->pending);
	buf_clear(&receiver->pending);
	return 0;
}

/* How many bytes the part that is pending has. -EAGAIN: its beginning makes no sense. */
static int part_length(struct checkpoint_receiver *receiver, size_t *ret_len)
{
	if (receiver->checkpoint) {
		*ret_len = receiver->checkpoint->chunks[receiver->chunk].len;
		return 0;
	}
	*ret_len = CHECKPOINT_MANIFEST_HEAD_BYTES;
	if (receiver->pending.len < CHECKPOINT_MANIFEST_HEAD_BYTES)
		return 0;
	return checkpoint_manifest_length(buf_slice(&receiver->pending), ret_len) < 0 ? again(receiver) : 0;
}

static bool all_here(const struct checkpoint_receiver *receiver)
{
	return receiver->checkpoint && receiver->chunk == receiver->checkpoint->info.chunks;
}

static int take_bytes(struct checkpoint_receiver *receiver, struct slice bytes, struct checkpoint_plan *plan,
	char **ret_error)
{
	while (bytes.len > 0 && !all_here(receiver)) {
		size_t len = 0, part;
		int r = part_length(receiver, &len);

		if (r < 0)
			return r;
		part = MIN(len - receiver->pending.len, bytes.len);
		buf_add(&receiver->pending, bytes.data, part);
		bytes.data += part;
		bytes.len -= part;
		if (receiver->pending.len < len)
			break;
		if (receiver->checkpoint) {
			r = take_chunk(receiver, plan, ret_error);
		} else {
			r = part_length(receiver, &len);
			if (r == 0 && receiver->pending.len == len)
				r = take_manifest(receiver, plan, ret_error);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int checkpoint_receiver_add(struct checkpoint_receiver *receiver, uint64_t offset, struct slice bytes,
	struct checkpoint_plan *plan, char **ret_error)
{
	uint64_t wanted = checkpoint_receiver_wanted(receiver);
	int r;

	assert(!receiver->store);
	checkpoint_plan_begin(plan);
	if (offset > wanted || wanted - offset >= bytes.len)
		return 1;
	r = take_bytes(receiver,
		slice_make(bytes.data + (wanted - offset), bytes.len - (size_t)(wanted - offset)), plan,
		ret_error);
	if (r < 0)
		return r;
	if (all_here(receiver)) {
		r = checkpoint_loader_finish(receiver->loader, &receiver->store, ret_error);
		if (r == 0)
			checkpoint_plan_switch(plan, receiver->checkpoint);
		return r;
	}
	if (receiver->unsynced_bytes >= CHECKPOINT_SYNC_BYTES) {
		(void)checkpoint_plan_step(plan, CHECKPOINT_SYNC, receiver->data_name);
		receiver->unsynced_bytes = 0;
	}
	return 1;
}

void checkpoint_receiver_take(
	struct checkpoint_receiver *receiver, struct checkpoint **ret_checkpoint, struct store **ret_store)
{
	assert(receiver->store);
	*ret_checkpoint = checkpoint_ref(receiver->checkpoint);
	*ret_store = take_ptr(receiver->store);
}
