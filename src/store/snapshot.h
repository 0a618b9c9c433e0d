/* The whole state of a store as records, one node or event at a time, and back: what a checkpoint is made of.
 *
 * A saver holds the store as it was when it was opened (a snapshot handle, and references on the events of
 * the history) and writes it in any number of slices while changes go on. A loader builds a store of its own
 * from the same records. The records are a function of the state alone: members at the same log position
 * write the same bytes, whatever their past. Values that tree and history share are written once and shared
 * again when they are loaded. Pure; one owner, one thread.
 *
 * Nodes come depth first, children by name, parents before children; the root, which never changes, is left
 * out. Numbers are little-endian (base/wire.h):
 *
 *   node   = u8 flags (1 directory, 2 expires) | varint depth (children of the root: 1) | bytes name |
 *            varint created | varint modified | u64 expires_ns, if it expires | bytes value, of a file
 *   event  = u8 action | u8 flags (1 refresh) | bytes path | side node | side prev
 *   side   = u8 flags (1 present, 2 directory, 4 expires, 8 value, 16 shared) | if present: varint created |
 *            varint modified | u64 expires_ns, u64 ttl_s, if it expires | bytes value, if it has one
 *
 * "shared" says that the value is that of the file which is in the tree at this path (node), or of the kept
 * event whose index is `modified` (prev). Events come by index, without a gap, up to the store's index. */
#pragma once
#include "store/store.h"

/* What belongs to the state beside the records. */
struct store_image {
	uint64_t index, first_kept; /* first_kept: of the history, 0 when there was no event yet */
	int64_t clock_ns;
	uint64_t hash;	/* store_hash() */
	uint64_t nodes; /* store_nodes() */
};

struct store_saver;
struct store_saver *store_saver_open(struct store *store);
/* Lets go what it holds; at any time, but before its store. NULL is fine; answers NULL. */
struct store_saver *store_saver_free(struct store_saver *saver);
DEFINE_CLEANUP(struct store_saver *, store_saver_free)
void store_saver_image(const struct store_saver *saver, struct store_image *ret_image);
/* Each appends one record; false, with nothing appended, at the end. All nodes first, then all events. */
bool store_saver_next_node(struct store_saver *saver, struct buf *out);
bool store_saver_next_event(struct store_saver *saver, struct buf *out);

struct store_loader;
struct store_loader *store_loader_new(const struct store_image *image);
struct store_loader *store_loader_free(struct store_loader *loader); /* NULL is fine; answers NULL */
DEFINE_CLEANUP(struct store_loader *, store_loader_free)
/* The same, but the unfinished store is answered, for store_free_some(); NULL when it was handed over. */
struct store *store_loader_end(struct store_loader *loader) _must_check_;
/* Each takes any number of whole records, which go on where the last call ended. -EBADMSG: malformed, out of
 * order, or past a limit; then the loader can only be freed. */
int store_loader_add_nodes(struct store_loader *loader, struct slice records) _must_check_;
int store_loader_add_events(struct store_loader *loader, struct slice records) _must_check_;
/* After the last record: hands over the store when all of the image was there and its hash is the image's;
 * else -EBADMSG. The loader can only be freed afterwards. */
int store_loader_finish(struct store_loader *loader, struct store **ret_store) _must_check_;
