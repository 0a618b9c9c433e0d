/* Nodes come in order, so each is appended to the directory that is open at its depth, without a walk down
 * from the root; sums and counts of a directory are added to its parent's when it is closed. Everything is
 * checked that the store later asserts: the bytes may come from a peer. */
#include "store/snapshot.h"
#include "base/memory.h"
#include "base/wire.h"
#include "store/snapshot_format.h"
#include "store/state.h"
#include <errno.h>

struct level {
	struct dir *dir; /* borrowed */
	uint64_t path_hash;
	size_t path_len;
	const struct entry *last; /* its newest child; NULL: none */
};

struct store_loader {
	struct store *store; /* with an unfinished tree */
	struct store_image image;
	struct level *levels; /* open directories, the root first; empty once all nodes are there */
	size_t count, cap;
	struct buf path; /* of the newest node */
	uint64_t nodes, next_event;
	bool failed;
};

static void push(struct store_loader *loader, struct dir *dir, uint64_t path_hash)
{
	if (loader->count == loader->cap) {
		loader->cap = loader->cap ? loader->cap * 2 : 16;
		loader->levels = mem_reallocarray(loader->levels, loader->cap, sizeof(*loader->levels));
	}
	loader->levels[loader->count++] =
		(struct level){.dir = dir, .path_hash = path_hash, .path_len = loader->path.len};
}

static void pop(struct store_loader *loader)
{
	const struct level *level = &loader->levels[--loader->count];

	if (loader->count > 0)
		tree_count_child(loader->levels[loader->count - 1].dir, level->path_hash, &level->dir->head);
}

struct store_loader *store_loader_new(const struct store_image *image)
{
	struct store_loader *loader = mem_new(struct store_loader);

	loader->store = store_new();
	tree_done(&loader->store->tree);
	tree_init(&loader->store->tree);
	loader->image = *image;
	loader->nodes = 1;
	loader->next_event = image->first_kept ? image->first_kept : 1;
	buf_init(&loader->path, 0);
	push(loader, loader->store->tree.root, 0);
	if (image->index > SNAPSHOT_INDEX_MAX || image->first_kept > image->index ||
		(image->index && !image->first_kept) || image->index - image->first_kept >= STORE_HISTORY_MAX)
		loader->failed = true;
	return loader;
}

struct store *store_loader_end(struct store_loader *loader)
{
	struct store *store = loader->store;

	free(loader->levels);
	buf_done(&loader->path);
	free(loader);
	return store;
}

struct store_loader *store_loader_free(struct store_loader *loader)
{
	if (loader)
		(void)store_free(store_loader_end(loader));
	return NULL;
}

static bool name_is_valid(struct slice name)
{
	return name.len && !slice_is(name, ".") && !slice_is(name, "..") && !memchr(name.data, '/', name.len);
}

/* ---- nodes ---- */

static int add_node(struct store_loader *loader, struct wire_reader *reader)
{
	uint8_t flags = wire_read_u8(reader);
	uint64_t depth = wire_read_varint(reader);
	struct slice name = wire_read_bytes(reader), value = slice_make("", 0);
	uint64_t created = wire_read_varint(reader), modified = wire_read_varint(reader), path_hash;
	bool is_dir = flags & NODE_RECORD_DIR, expires = flags & NODE_RECORD_EXPIRES;
	int64_t expires_ns = expires ? (int64_t)wire_read_u64(reader) : 0;
	struct entry *entry;
	struct level *level;

	if (!is_dir)
		value = wire_read_bytes(reader);
	if (reader->failed || flags > NODE_RECORD_ALL || !depth || depth > loader->count ||
		loader->nodes == loader->image.nodes || created > SNAPSHOT_INDEX_MAX ||
		modified > SNAPSHOT_INDEX_MAX || value.len > STORE_VALUE_MAX || !name_is_valid(name))
		return -EBADMSG;
	while (loader->count > depth)
		pop(loader);
	level = &loader->levels[loader->count - 1];
	if (level->path_len + 1 + name.len > SNAPSHOT_PATH_MAX ||
		(level->last && slice_compare(name, entry_name(level->last)) <= 0))
		return -EBADMSG;
	if (is_dir)
		entry = tree_new_dir(name, created, modified, expires, expires_ns);
	else
		entry = tree_new_file(name, value, created, modified, expires, expires_ns);
	dir_append(level->dir, entry);
	loader->nodes++;
	level->last = entry;
	path_hash = tree_path_hash(level->path_hash, name);
	if (!is_dir)
		tree_count_child(level->dir, path_hash, entry);
	if (is_dir || expires) {
		buf_truncate(&loader->path, level->path_len);
		buf_add_char(&loader->path, '/');
		buf_add_slice(&loader->path, name);
	}
	if (expires)
		expiry_set(&loader->store->expiry, buf_slice(&loader->path), expires_ns);
	if (is_dir)
		push(loader, entry_dir(entry), path_hash);
	return 0;
}

int store_loader_add_nodes(struct store_loader *loader, struct slice records)
{
	struct wire_reader reader = wire_reader_make(records);

	while (!loader->failed && wire_left(&reader) > 0)
		loader->failed = add_node(loader, &reader) < 0;
	return loader->failed ? -EBADMSG : 0;
}

/* ---- events ---- */

static struct slice last_segment(struct slice path)
{
	size_t from = path.len;

	while (from > 0 && path.data[from - 1] != '/')
		from--;
	return slice_make(path.data + from, path.len - from);
}

/* The file that a side shares with the tree or with an earlier event; NULL: there is none. */
static struct entry *shared_file(
	struct store_loader *loader, struct slice path, uint64_t modified, bool is_prev)
{
	const struct store_event *other;
	struct entry *entry;
	bool not_dir;
	size_t at;

	if (is_prev) {
		if (modified < loader->image.first_kept || modified >= loader->next_event)
			return NULL;
		other = loader->store->history[modified % STORE_HISTORY_MAX];
		return slice_equal(store_event_path(other), path) ? other->node.file : NULL;
	}
	entry = tree_lookup(loader->store->tree.root, path, &at, &not_dir);
	return entry && !entry_is_dir(entry) && entry->modified == modified ? entry : NULL;
}

static int read_side(struct store_loader *loader, struct wire_reader *reader, struct slice path, bool is_prev,
	struct event_node *ret_side)
{
	uint8_t flags = wire_read_u8(reader);
	struct event_node side = {
		.present = flags & SIDE_PRESENT,
		.dir = flags & SIDE_DIR,
		.has_expiry = flags & SIDE_EXPIRES,
	};
	struct slice value;

	if (reader->failed || flags > SIDE_ALL || (!side.present && flags) ||
		((flags & SIDE_VALUE) && (flags & (SIDE_DIR | SIDE_SHARED))) ||
		((flags & SIDE_SHARED) && side.dir))
		return -EBADMSG;
	*ret_side = side;
	if (!side.present)
		return 0;
	side.created = wire_read_varint(reader);
	side.modified = wire_read_varint(reader);
	if (side.has_expiry) {
		side.expires_ns = (int64_t)wire_read_u64(reader);
		side.ttl_s = (int64_t)wire_read_u64(reader);
	}
	if (flags & SIDE_VALUE) {
		value = wire_read_bytes(reader);
		if (reader->failed || value.len > STORE_VALUE_MAX)
			return -EBADMSG;
		side.file = tree_new_file(last_segment(path), value, side.created, side.modified,
			side.has_expiry, side.expires_ns);
	} else if (flags & SIDE_SHARED) {
		struct entry *file =
			reader->failed ? NULL : shared_file(loader, path, side.modified, is_prev);

		if (!file)
			return -EBADMSG;
		side.file = entry_ref(file);
	}
	*ret_side = side;
	return reader->failed ? -EBADMSG : 0;
}

static int add_event(struct store_loader *loader, struct wire_reader *reader)
{
	uint8_t action = wire_read_u8(reader), flags = wire_read_u8(reader);
	struct slice path = wire_read_bytes(reader);
	_cleanup_(store_event_unrefp) struct store_event *event = NULL;
	int r;

	if (reader->failed || action == STORE_ACTION_GET || action >= STORE_ACTION_MAX ||
		flags > EVENT_RECORD_REFRESH || loader->next_event > loader->image.index ||
		path.len > SNAPSHOT_PATH_MAX || path.len < 2 || path.data[0] != '/' ||
		slice_ends_with(path, SLICE_LITERAL("/")))
		return -EBADMSG;
	event = event_new(action, path, loader->next_event, 0);
	event->refresh = flags & EVENT_RECORD_REFRESH;
	r = read_side(loader, reader, path, false, &event->node);
	if (r == 0 && (!event->node.present || event->node.modified != loader->next_event))
		r = -EBADMSG;
	if (r == 0)
		r = read_side(loader, reader, path, true, &event->prev);
	if (r == 0) {
		loader->store->history_bytes += event_bytes(event);
		loader->store->history[loader->next_event % STORE_HISTORY_MAX] = take_ptr(event);
		loader->next_event++;
	}
	return r;
}

int store_loader_add_events(struct store_loader *loader, struct slice records)
{
	struct wire_reader reader = wire_reader_make(records);

	while (loader->count > 0)
		pop(loader); /* no node comes after this */
	while (!loader->failed && wire_left(&reader) > 0)
		loader->failed = add_event(loader, &reader) < 0;
	return loader->failed ? -EBADMSG : 0;
}

int store_loader_finish(struct store_loader *loader, struct store **ret_store)
{
	struct store *store = loader->store;

	while (loader->count > 0)
		pop(loader);
	if (loader->failed || loader->nodes != loader->image.nodes ||
		loader->next_event != loader->image.index + 1)
		return -EBADMSG;
	store->index = loader->image.index;
	store->first_kept = loader->image.first_kept;
	store->clock_ns = loader->image.clock_ns;
	loader->failed = true;
	if (store_hash(store) != loader->image.hash)
		return -EBADMSG;
	*ret_store = take_ptr(loader->store);
	return 0;
}
