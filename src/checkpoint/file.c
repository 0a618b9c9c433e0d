/* A snapshot's file: manifest, then chunks, as they are sent. What the manifest's checksums do not cover is
 * the file's length, and that is compared. */
#include "base/memory.h"
#include "checkpoint/format.h"
#include <errno.h>
#include <inttypes.h>

static int damaged(const char *name, uint64_t offset, char **ret_error)
{
	*ret_error = mem_printf("%s is damaged at offset %" PRIu64 ": use another copy", name, offset);
	return -EBADMSG;
}

static int read_part(const struct checkpoint_disk *disk, const char *name, uint64_t offset, size_t len,
	struct buf *out, char **ret_error)
{
	int r;

	buf_clear(out);
	r = disk->read(disk->arg, name, offset, len, out);
	if (r < 0)
		*ret_error = mem_printf("cannot read %s: %s", name, strerror(-r));
	return r;
}

int checkpoint_file_open(const struct checkpoint_disk *disk, const char *name, uint64_t size_bytes,
	struct checkpoint **ret_checkpoint, char **ret_error)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	_cleanup_free_ char *reason = NULL;
	uint64_t expected;
	size_t len;
	int r = read_part(disk, name, 0, CHECKPOINT_MANIFEST_HEAD_BYTES, &bytes, ret_error);

	if (r < 0)
		return r;
	if (bytes.len < CHECKPOINT_MANIFEST_HEAD_BYTES ||
		checkpoint_manifest_length(buf_slice(&bytes), &len) < 0) {
		*ret_error =
			mem_printf("%s is no snapshot of this program, or its beginning is damaged", name);
		return -EBADMSG;
	}
	r = read_part(disk, name, 0, len, &bytes, ret_error);
	if (r < 0)
		return r;
	if (bytes.len < len)
		return damaged(name, bytes.len, ret_error);
	r = checkpoint_parse(buf_slice(&bytes), 0, 0, &checkpoint, &reason);
	if (r == 0)
		r = checkpoint_check_sections(checkpoint, &reason);
	if (r < 0) {
		*ret_error = mem_printf("%s: %s", name, reason);
		return r;
	}
	expected = checkpoint->info.manifest_bytes + checkpoint->info.data_bytes;
	if (size_bytes != expected) {
		*ret_error = mem_printf("%s has %" PRIu64 " bytes, its snapshot %" PRIu64
					": it was cut off or added to; use another copy",
			name, size_bytes, expected);
		return -EBADMSG;
	}
	*ret_checkpoint = take_ptr(checkpoint);
	return 0;
}

int checkpoint_file_read(const struct checkpoint_disk *disk, const char *name, struct checkpoint *checkpoint,
	struct store **ret_store, char **ret_error)
{
	_cleanup_(checkpoint_loader_freep) struct checkpoint_loader *loader =
		ret_store ? checkpoint_loader_new(checkpoint) : NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	for (size_t i = 0; i < checkpoint->info.chunks; i++) {
		const struct checkpoint_chunk *chunk = &checkpoint->chunks[i];
		uint64_t offset = checkpoint->info.manifest_bytes + chunk->offset;
		int r;

		if (bytes.cap > 4 * CHECKPOINT_CHUNK_BYTES)
			buf_done(&bytes);
		r = read_part(disk, name, offset, chunk->len, &bytes, ret_error);
		if (r < 0)
			return r;
		if (!checkpoint_chunk_checks(checkpoint, i, buf_slice(&bytes)))
			return damaged(name, offset, ret_error);
		r = loader ? checkpoint_loader_add(loader, buf_slice(&bytes), ret_error) : 0;
		if (r < 0)
			return r;
	}
	return loader ? checkpoint_loader_finish(loader, ret_store, ret_error) : 0;
}
