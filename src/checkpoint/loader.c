/* Chunks go one by one, checked, to the store's loader. Sections that are not known here were found
 * dispensable when the manifest was read, and are checked and skipped. */
#include "base/memory.h"
#include "checkpoint/format.h"
#include <errno.h>
#include <inttypes.h>

struct checkpoint_loader {
	struct checkpoint *checkpoint; /* one reference */
	struct store_loader *loader;
	size_t chunk; /* the next */
	char data_name[CHECKPOINT_NAME_MAX];
};

struct checkpoint_loader *checkpoint_loader_new(struct checkpoint *checkpoint)
{
	struct checkpoint_loader *loader = mem_new(struct checkpoint_loader);

	loader->checkpoint = checkpoint_ref(checkpoint);
	loader->loader = store_loader_new(&checkpoint->info.image);
	checkpoint_data_name(loader->data_name, checkpoint->info.generation);
	return loader;
}

struct store *checkpoint_loader_end(struct checkpoint_loader *loader)
{
	struct store *store = store_loader_end(loader->loader);

	(void)checkpoint_unref(loader->checkpoint);
	free(loader);
	return store;
}

struct checkpoint_loader *checkpoint_loader_free(struct checkpoint_loader *loader)
{
	if (loader)
		(void)store_free(checkpoint_loader_end(loader));
	return NULL;
}

bool checkpoint_loader_next(const struct checkpoint_loader *loader, struct checkpoint_range *ret_range)
{
	if (loader->chunk == loader->checkpoint->info.chunks)
		return false;
	memcpy(ret_range->name, loader->data_name, sizeof(ret_range->name));
	ret_range->offset = loader->checkpoint->chunks[loader->chunk].offset;
	ret_range->len = loader->checkpoint->chunks[loader->chunk].len;
	return true;
}

int checkpoint_loader_add(struct checkpoint_loader *loader, struct slice bytes, char **ret_error)
{
	const struct checkpoint_section *section =
		checkpoint_chunk_section(loader->checkpoint, loader->chunk);
	uint64_t offset;
	int r = 0;

	assert(section);
	offset = loader->checkpoint->chunks[loader->chunk].offset;
	if (!checkpoint_chunk_checks(loader->checkpoint, loader->chunk, bytes)) {
		*ret_error =
			mem_printf("%s is damaged at offset %" PRIu64 "; rebuild this member from the others",
				loader->data_name, offset);
		return -EBADMSG;
	}
	if (section->version == CHECKPOINT_SECTION_VERSION && section->kind == CHECKPOINT_SECTION_NODES)
		r = store_loader_add_nodes(loader->loader, bytes);
	else if (section->version == CHECKPOINT_SECTION_VERSION &&
		 section->kind == CHECKPOINT_SECTION_HISTORY)
		r = store_loader_add_events(loader->loader, bytes);
	if (r < 0) {
		*ret_error =
			mem_printf("%s: the records at offset %" PRIu64 " make no sense, although they check",
				loader->data_name, offset);
		return r;
	}
	loader->chunk++;
	return 0;
}

int checkpoint_loader_finish(struct checkpoint_loader *loader, struct store **ret_store, char **ret_error)
{
	int r = loader->chunk == loader->checkpoint->info.chunks
			? store_loader_finish(loader->loader, ret_store)
			: -EBADMSG;

	if (r < 0)
		*ret_error =
			mem_printf("%s: the state is not the one that was written (its hash or its counts "
				   "differ); rebuild this member from the others",
				loader->data_name);
	return r;
}

int checkpoint_load(const struct checkpoint_disk *disk, struct checkpoint *checkpoint,
	struct store **ret_store, char **ret_error)
{
	_cleanup_(checkpoint_loader_freep) struct checkpoint_loader *loader =
		checkpoint_loader_new(checkpoint);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct checkpoint_range range;

	while (checkpoint_loader_next(loader, &range)) {
		int r;

		if (bytes.cap > 4 * CHECKPOINT_CHUNK_BYTES)
			buf_done(&bytes);
		buf_clear(&bytes);
		r = disk->read(disk->arg, range.name, range.offset, range.len, &bytes);
		if (r < 0) {
			*ret_error = mem_printf("cannot read %s, which " CHECKPOINT_NAME " names: %s",
				range.name, strerror(-r));
			return r;
		}
		r = checkpoint_loader_add(loader, buf_slice(&bytes), ret_error);
		if (r < 0)
			return r;
	}
	return checkpoint_loader_finish(loader, ret_store, ret_error);
}
