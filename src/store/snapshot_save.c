/* The saver's tree is one more reference on the root directory, as a snapshot's; its history is a reference
 * on each event of the ring, which is small. Whether a value is shared is a comparison of pointers. */
#include "store/snapshot.h"
#include "base/memory.h"
#include "base/wire.h"
#include "store/snapshot_format.h"
#include "store/state.h"

struct store_saver {
	struct store *store;
	struct dir *root; /* owned reference */
	struct walk walk;
	struct store_image image;
	struct store_event *history[STORE_HISTORY_MAX]; /* owned references; by index modulo the size */
	uint64_t next_event;
};

struct store_saver *store_saver_open(struct store *store)
{
	struct store_saver *saver = mem_new(struct store_saver);

	saver->store = store;
	saver->root = entry_dir(entry_ref(&store->tree.root->head));
	saver->image = (struct store_image){
		.index = store->index,
		.first_kept = store->first_kept,
		.clock_ns = store->clock_ns,
		.hash = store_hash(store),
		.nodes = store_nodes(store),
	};
	for (size_t i = 0; i < STORE_HISTORY_MAX; i++)
		if (store->history[i])
			saver->history[i] = store_event_ref(store->history[i]);
	saver->next_event = store->first_kept ? store->first_kept : 1;
	walk_init(&saver->walk, slice_str("/"));
	(void)walk_push(&saver->walk, saver->root);
	store->handles++;
	return saver;
}

struct store_saver *store_saver_free(struct store_saver *saver)
{
	if (!saver)
		return NULL;
	walk_done(&saver->walk);
	for (size_t i = 0; i < STORE_HISTORY_MAX; i++)
		(void)store_event_unref(saver->history[i]);
	saver->store->handles--;
	tree_unref(&saver->store->tree, &saver->root->head);
	free(saver);
	return NULL;
}

void store_saver_image(const struct store_saver *saver, struct store_image *ret_image)
{
	*ret_image = saver->image;
}

bool store_saver_next_node(struct store_saver *saver, struct buf *out)
{
	struct entry *entry = NULL;
	size_t depth;

	while (walk_top(&saver->walk)) {
		entry = walk_next(&saver->walk);
		if (entry)
			break;
		walk_pop(&saver->walk);
	}
	if (!entry)
		return false;
	depth = saver->walk.count;
	wire_add_u8(out, (uint8_t)((entry_is_dir(entry) ? NODE_RECORD_DIR : 0) |
				   (entry_has_expiry(entry) ? NODE_RECORD_EXPIRES : 0)));
	wire_add_varint(out, depth);
	wire_add_bytes(out, entry_name(entry));
	wire_add_varint(out, entry->created);
	wire_add_varint(out, entry->modified);
	if (entry_has_expiry(entry))
		wire_add_u64(out, (uint64_t)entry_expires_ns(entry));
	if (entry_is_dir(entry))
		(void)walk_push(&saver->walk, entry_dir(entry));
	else
		wire_add_bytes(out, entry_value(entry));
	return true;
}

/* ---- events ---- */

static bool node_is_shared(struct store_saver *saver, const struct store_event *event)
{
	bool not_dir;
	size_t at;

	return tree_lookup(saver->root, store_event_path(event), &at, &not_dir) == event->node.file;
}

static bool prev_is_shared(const struct store_saver *saver, const struct store_event *event)
{
	uint64_t index = event->prev.modified;
	const struct store_event *other;

	if (index < saver->image.first_kept || index >= event->node.modified)
		return false;
	other = saver->history[index % STORE_HISTORY_MAX];
	return other->node.file == event->prev.file &&
	       slice_equal(store_event_path(other), store_event_path(event));
}

static void add_side(struct buf *out, const struct event_node *side, bool shared)
{
	unsigned flags = (side->present ? SIDE_PRESENT : 0) | (side->dir ? SIDE_DIR : 0) |
			 (side->has_expiry ? SIDE_EXPIRES : 0) | (side->file && !shared ? SIDE_VALUE : 0) |
			 (side->file && shared ? SIDE_SHARED : 0);

	wire_add_u8(out, (uint8_t)flags);
	if (!side->present)
		return;
	wire_add_varint(out, side->created);
	wire_add_varint(out, side->modified);
	if (side->has_expiry) {
		wire_add_u64(out, (uint64_t)side->expires_ns);
		wire_add_u64(out, (uint64_t)side->ttl_s);
	}
	if (flags & SIDE_VALUE)
		wire_add_bytes(out, entry_value(side->file));
}

bool store_saver_next_event(struct store_saver *saver, struct buf *out)
{
	const struct store_event *event;

	if (saver->next_event > saver->image.index)
		return false;
	event = saver->history[saver->next_event % STORE_HISTORY_MAX];
	assert(event && event->node.modified == saver->next_event);
	saver->next_event++;
	wire_add_u8(out, (uint8_t)event->action);
	wire_add_u8(out, event->refresh ? EVENT_RECORD_REFRESH : 0);
	wire_add_bytes(out, store_event_path(event));
	add_side(out, &event->node, event->node.file && node_is_shared(saver, event));
	add_side(out, &event->prev, event->prev.file && prev_is_shared(saver, event));
	return true;
}
