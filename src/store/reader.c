/* Reads and walks. A reader or snapshot holds a reference on a directory, which makes everything below it
 * copy on write; then it goes through the pages in slices at its own pace. */
#include "store/state.h"
#include "base/memory.h"

/* ---- get ---- */

struct store_reader {
	struct store *store;
	struct entry *top; /* owned reference */
	struct walk walk;
	int64_t now_ns;
	bool recursive, begun;
};

static void reader_add_head(struct buf *out, struct slice path, const struct entry *entry, int64_t now_ns)
{
	struct slice value = entry_value(entry);
	int64_t expires_ns = entry_expires_ns(entry);
	bool has_expiry = entry_has_expiry(entry);

	event_add_head(out, path, entry_is_dir(entry) ? NULL : &value, entry_is_dir(entry), has_expiry,
		expires_ns, has_expiry ? event_ttl_s(expires_ns, now_ns) : 0);
}

struct store_reader *store_reader_open(struct store *store, struct slice path, bool recursive, int64_t now_ns,
	struct store_result *ret_result)
{
	struct store_reader *reader;
	struct entry *entry;

	*ret_result = (struct store_result){.index = store->index};
	entry = store_find(store, path, ret_result);
	if (!entry) {
		store->stats.gets_fail++;
		return NULL;
	}
	store->stats.gets_success++;
	store->handles++;
	reader = mem_new(struct store_reader);
	*reader = (struct store_reader){
		.store = store, .top = entry_ref(entry), .now_ns = now_ns, .recursive = recursive};
	walk_init(&reader->walk, path);
	return reader;
}

static struct entry *reader_next_visible(struct walk *walk)
{
	for (;;) {
		struct entry *child = walk_next(walk);

		if (!child || entry_name(child).data[0] != '_')
			return child;
	}
}

/* One child, or the end of a directory. False: everything is written. */
static bool reader_advance(struct store_reader *reader, struct buf *out)
{
	struct walk_frame *frame = walk_top(&reader->walk);
	struct entry *child;

	if (!frame) {
		buf_add_str(out, "}\n");
		return false;
	}
	child = reader_next_visible(&reader->walk);
	if (!child) {
		const struct dir *dir = frame->dir;

		if (frame->any)
			buf_add_char(out, ']');
		event_add_tail(out, dir->head.modified, dir->head.created);
		buf_add_char(out, '}');
		walk_pop(&reader->walk);
		return true;
	}
	buf_add_str(out, frame->any ? ",{" : ",\"nodes\":[{");
	frame->any = true;
	reader_add_head(out, buf_slice(&reader->walk.path), child, reader->now_ns);
	if (entry_is_dir(child) && reader->recursive) {
		(void)walk_push(&reader->walk, entry_dir(child));
		return true;
	}
	event_add_tail(out, child->modified, child->created);
	buf_add_char(out, '}');
	return true;
}

bool store_reader_step(struct store_reader *reader, struct buf *out, size_t budget_bytes)
{
	size_t from = out->len;

	if (!reader->begun) {
		reader->begun = true;
		(void)buf_reserve(out, 256 + reader->walk.path.len + entry_value(reader->top).len);
		buf_add_str(out, "{\"action\":\"get\",\"node\":{");
		reader_add_head(out, buf_slice(&reader->walk.path), reader->top, reader->now_ns);
		if (entry_is_dir(reader->top)) {
			(void)walk_push(&reader->walk, entry_dir(reader->top));
		} else {
			event_add_tail(out, reader->top->modified, reader->top->created);
			buf_add_char(out, '}');
		}
	}
	while (out->len - from < budget_bytes && !out->failed)
		if (!reader_advance(reader, out))
			return false;
	return !out->failed;
}

struct store_reader *store_reader_free(struct store_reader *reader)
{
	if (!reader)
		return NULL;
	walk_done(&reader->walk);
	tree_unref(&reader->store->tree, reader->top);
	reader->store->handles--;
	free(reader);
	return NULL;
}

void store_get(struct store *store, struct slice path, bool recursive, int64_t now_ns, struct buf *out,
	struct store_result *ret_result)
{
	_cleanup_(store_reader_freep) struct store_reader *reader =
		store_reader_open(store, path, recursive, now_ns, ret_result);

	if (reader)
		(void)store_reader_step(reader, out, SIZE_MAX);
}

bool store_peek(const struct store *store, struct slice path, struct slice *ret_value)
{
	bool not_dir;
	size_t at;
	struct entry *entry = tree_lookup(store->tree.root, path, &at, &not_dir);

	if (!entry || entry_is_dir(entry))
		return false;
	*ret_value = entry_value(entry);
	return true;
}

bool store_next_child(const struct store *store, struct slice dir_path, struct slice after,
	struct slice *ret_name, bool *ret_is_dir)
{
	bool not_dir;
	size_t at;
	struct entry *entry = tree_lookup(store->tree.root, dir_path, &at, &not_dir);

	if (!entry || !entry_is_dir(entry))
		return false;
	entry = dir_child_after(entry_dir(entry), after);
	if (!entry)
		return false;
	*ret_name = entry_name(entry);
	*ret_is_dir = entry_is_dir(entry);
	return true;
}

/* ---- snapshots ---- */

struct store_snapshot {
	struct store *store;
	struct dir *root; /* owned reference */
	uint64_t index, hash;
};

struct store_snapshot *store_snapshot_take(struct store *store)
{
	struct store_snapshot *snapshot = mem_new(struct store_snapshot);

	*snapshot = (struct store_snapshot){.store = store,
		.root = entry_dir(entry_ref(&store->tree.root->head)),
		.index = store->index,
		.hash = store_hash(store)};
	store->handles++;
	return snapshot;
}

struct store_snapshot *store_snapshot_free(struct store_snapshot *snapshot)
{
	if (!snapshot)
		return NULL;
	snapshot->store->handles--;
	tree_unref(&snapshot->store->tree, &snapshot->root->head);
	free(snapshot);
	return NULL;
}

uint64_t store_snapshot_index(const struct store_snapshot *snapshot)
{
	return snapshot->index;
}

uint64_t store_snapshot_hash(const struct store_snapshot *snapshot)
{
	return snapshot->hash;
}

struct store_cursor {
	struct store_snapshot *snapshot;
	struct walk walk;
	bool begun;
};

struct store_cursor *store_cursor_open(struct store_snapshot *snapshot)
{
	struct store_cursor *cursor = mem_new(struct store_cursor);

	cursor->snapshot = snapshot;
	walk_init(&cursor->walk, slice_str("/"));
	return cursor;
}

static void cursor_show(struct store_cursor *cursor, struct entry *entry, struct store_node_info *ret_info)
{
	*ret_info = (struct store_node_info){
		.path = buf_slice(&cursor->walk.path),
		.is_dir = entry_is_dir(entry),
		.has_expiry = entry_has_expiry(entry),
		.expires_ns = entry_expires_ns(entry),
		.created_index = entry->created,
		.modified_index = entry->modified,
		.value = entry_value(entry),
	};
}

bool store_cursor_next(struct store_cursor *cursor, struct store_node_info *ret_info)
{
	struct entry *entry;

	if (!cursor->begun) {
		cursor->begun = true;
		(void)walk_push(&cursor->walk, cursor->snapshot->root);
		cursor_show(cursor, &cursor->snapshot->root->head, ret_info);
		return true;
	}
	while (walk_top(&cursor->walk)) {
		entry = walk_next(&cursor->walk);
		if (!entry) {
			walk_pop(&cursor->walk);
			continue;
		}
		cursor_show(cursor, entry, ret_info);
		if (entry_is_dir(entry))
			(void)walk_push(&cursor->walk, entry_dir(entry));
		return true;
	}
	return false;
}

struct store_cursor *store_cursor_free(struct store_cursor *cursor)
{
	if (!cursor)
		return NULL;
	walk_done(&cursor->walk);
	free(cursor);
	return NULL;
}
