/* Records are collected in a chunk until it is long enough; a whole chunk gets its checksum and goes into the
 * plan. Where a chunk ends depends on the records only, never on the budget, so that the bytes are the same
 * whoever writes them. The manifest is built from what was put into plans, and read back before it goes out.
 */
#include "base/hash.h"
#include "base/memory.h"
#include "checkpoint/format.h"
#include <errno.h>

enum { RECORD_COST_MIN = 64 }; /* bytes of budget that the smallest record counts for */

struct checkpoint_writer {
	struct store_saver *saver; /* NULL once all of it was read */
	struct checkpoint *made;   /* one reference */
	size_t chunks_cap;
	struct buf membership, chunk;
	uint64_t unsynced_bytes;
	char data_name[CHECKPOINT_NAME_MAX];
	bool begun;
};

struct checkpoint_writer *checkpoint_writer_new(
	struct store *store, const struct checkpoint_meta *meta, uint64_t generation)
{
	struct checkpoint_writer *writer = mem_new(struct checkpoint_writer);
	struct checkpoint *made = mem_new(struct checkpoint);

	assert(meta->index > 0 && meta->membership.len <= CHECKPOINT_MEMBERSHIP_MAX);
	writer->saver = store_saver_open(store);
	writer->made = made;
	buf_add_slice(&writer->membership, meta->membership);
	made->refs = 1;
	made->info.cluster_id = meta->cluster_id;
	made->info.id.index = meta->index;
	made->info.id.term = meta->term;
	made->info.generation = generation;
	store_saver_image(writer->saver, &made->info.image);
	made->sections[0] = (struct checkpoint_section){
		.kind = CHECKPOINT_SECTION_NODES, .version = CHECKPOINT_SECTION_VERSION};
	made->sections_len = 1;
	checkpoint_data_name(writer->data_name, generation);
	return writer;
}

struct checkpoint_writer *checkpoint_writer_free(struct checkpoint_writer *writer)
{
	if (!writer)
		return NULL;
	(void)store_saver_free(writer->saver);
	(void)checkpoint_unref(writer->made);
	buf_done(&writer->membership);
	buf_done(&writer->chunk);
	free(writer);
	return NULL;
}

static void end_chunk(struct checkpoint_writer *writer, struct checkpoint_plan *plan)
{
	struct checkpoint *made = writer->made;
	struct checkpoint_chunk chunk = {
		.offset = made->info.data_bytes,
		.len = (uint32_t)writer->chunk.len,
		.crc = crc32c(0, writer->chunk.data, writer->chunk.len),
	};

	if (!writer->chunk.len)
		return;
	assert(writer->chunk.len <= CHECKPOINT_CHUNK_MAX);
	if (made->info.chunks == writer->chunks_cap) {
		writer->chunks_cap = writer->chunks_cap ? writer->chunks_cap * 2 : 16;
		made->chunks = mem_reallocarray(made->chunks, writer->chunks_cap, sizeof(*made->chunks));
	}
	made->chunks[made->info.chunks++] = chunk;
	made->sections[made->sections_len - 1].chunks++;
	checkpoint_plan_write(plan, writer->data_name, chunk.offset, buf_slice(&writer->chunk));
	made->info.data_bytes += chunk.len;
	writer->unsynced_bytes += chunk.len;
	/* One that held a huge value is not kept at its size. */
	if (writer->chunk.cap > 4 * CHECKPOINT_CHUNK_BYTES)
		buf_done(&writer->chunk);
	buf_clear(&writer->chunk);
}

/* False: all records were read. */
static bool next_record(struct checkpoint_writer *writer, struct checkpoint_plan *plan)
{
	struct checkpoint *made = writer->made;

	if (made->sections[made->sections_len - 1].kind == CHECKPOINT_SECTION_NODES) {
		if (store_saver_next_node(writer->saver, &writer->chunk))
			return true;
		end_chunk(writer, plan);
		made->sections[made->sections_len++] = (struct checkpoint_section){
			.kind = CHECKPOINT_SECTION_HISTORY, .version = CHECKPOINT_SECTION_VERSION};
	}
	return store_saver_next_event(writer->saver, &writer->chunk);
}

static void finish(struct checkpoint_writer *writer, struct checkpoint_plan *plan)
{
	struct checkpoint *made = writer->made, *again;
	_cleanup_free_ char *error = NULL;
	int r;

	writer->saver = store_saver_free(writer->saver);
	buf_done(&writer->chunk);
	checkpoint_seal(made, buf_slice(&writer->membership));
	r = checkpoint_parse(slice_make(made->manifest, made->info.manifest_bytes), made->info.cluster_id,
		made->info.generation, &again, &error);
	assert(r == 0 && again->info.data_bytes == made->info.data_bytes &&
		checkpoint_id_equal(again->info.id, made->info.id));
	(void)checkpoint_unref(made);
	writer->made = again;
	checkpoint_plan_switch(plan, again);
}

bool checkpoint_writer_step(
	struct checkpoint_writer *writer, size_t budget_bytes, struct checkpoint_plan *plan)
{
	uint64_t spent = 0;

	assert(writer->saver);
	checkpoint_plan_begin(plan);
	if (!writer->begun) {
		(void)checkpoint_plan_step(plan, CHECKPOINT_CREATE, writer->data_name);
		writer->begun = true;
	}
	do {
		size_t before = writer->chunk.len;

		if (!next_record(writer, plan)) {
			end_chunk(writer, plan);
			finish(writer, plan);
			return false;
		}
		/* The first record of a new section comes after the end of a chunk. */
		spent += MAX(writer->chunk.len > before ? writer->chunk.len - before : writer->chunk.len,
			(size_t)RECORD_COST_MIN);
		if (writer->chunk.len >= CHECKPOINT_CHUNK_BYTES)
			end_chunk(writer, plan);
	} while (spent < budget_bytes);
	if (writer->unsynced_bytes >= CHECKPOINT_SYNC_BYTES) {
		(void)checkpoint_plan_step(plan, CHECKPOINT_SYNC, writer->data_name);
		writer->unsynced_bytes = 0;
	}
	return true;
}

struct checkpoint *checkpoint_writer_take(struct checkpoint_writer *writer)
{
	assert(!writer->saver);
	return checkpoint_ref(writer->made);
}
