/* Entries, and paths through directories, whose children are in pages (page.h). A change owns every directory
 * from the root down to its place, and adds to each what it changed below: the hash of a tree is the sum of
 * the hashes of all entries, each with its path. */
#include "store/tree.h"
#include "base/hash.h"
#include "base/memory.h"
#include "store/page.h"

/* ---- entries ---- */

struct slice entry_value(const struct entry *entry)
{
	const struct file *file = (const struct file *)(const void *)entry;

	if (entry_is_dir(entry))
		return slice_make("", 0);
	return slice_make(file->data + file_name_at(file) + entry->name_len, file->value_len);
}

int64_t entry_expires_ns(const struct entry *entry)
{
	int64_t expires_ns;

	if (!entry_has_expiry(entry))
		return 0;
	if (entry_is_dir(entry))
		return ((const struct dir *)(const void *)entry)->expires_ns;
	memcpy(&expires_ns, ((const struct file *)(const void *)entry)->data, sizeof(expires_ns));
	return expires_ns;
}

struct entry *tree_new_file(struct slice name, struct slice value, uint64_t created, uint64_t modified,
	bool has_expiry, int64_t expires_ns)
{
	size_t name_at = has_expiry ? sizeof(expires_ns) : 0;
	struct file *file;

	assert(name.len < (1U << 24) && value.len <= UINT32_MAX);
	file = mem_alloc(MAX(sizeof(*file), offsetof(struct file, data) + name_at + name.len + value.len));
	file->head = (struct entry){.refs = 1,
		.name_len = (uint32_t)name.len & 0xffffff,
		.flags = has_expiry ? ENTRY_EXPIRES : 0,
		.created = created,
		.modified = modified};
	file->value_len = (uint32_t)value.len;
	if (has_expiry)
		memcpy(file->data, &expires_ns, sizeof(expires_ns));
	memcpy(file->data + name_at, name.data, name.len);
	if (value.len)
		memcpy(file->data + name_at + name.len, value.data, value.len);
	return &file->head;
}

struct entry *tree_new_dir(
	struct slice name, uint64_t created, uint64_t modified, bool has_expiry, int64_t expires_ns)
{
	struct dir *dir = mem_calloc(1, sizeof(*dir) + name.len);

	assert(name.len < (1U << 24));
	dir->head = (struct entry){.refs = 1,
		.name_len = (uint32_t)name.len & 0xffffff,
		.flags = ENTRY_DIR | (has_expiry ? ENTRY_EXPIRES : 0),
		.created = created,
		.modified = modified};
	dir->expires_ns = has_expiry ? expires_ns : 0;
	if (name.len)
		memcpy(dir->name, name.data, name.len);
	return &dir->head;
}

struct entry *entry_ref(struct entry *entry)
{
	assert(entry->refs > 0 && entry->refs < UINT32_MAX);
	entry->refs++;
	return entry;
}

void entry_unref_file(struct entry *entry)
{
	assert(!entry_is_dir(entry) && entry->refs > 0);
	if (--entry->refs == 0)
		free(entry);
}

void tree_unref(struct tree *tree, struct entry *entry)
{
	if (!entry_is_dir(entry)) {
		entry_unref_file(entry);
		return;
	}
	assert(entry->refs > 0);
	if (--entry->refs > 0)
		return;
	if (entry_dir(entry)->root)
		page_unref(tree, entry_dir(entry)->root);
	free(entry);
}

bool tree_collect(struct tree *tree, size_t budget_pages)
{
	while (tree->trash_count && budget_pages-- > 0)
		page_take_apart(tree, tree->trash[--tree->trash_count]);
	if (!tree->trash_count && tree->trash_cap > 1024) {
		tree->trash = mem_free(tree->trash);
		tree->trash_cap = 0;
	}
	return tree->trash_count > 0;
}

/* ---- paths ---- */

struct entry *dir_child(const struct dir *dir, struct slice name)
{
	return page_find(dir->root, name);
}

struct entry *dir_child_after(const struct dir *dir, struct slice name)
{
	return page_find_after(dir->root, name);
}

bool tree_path_next(struct slice path, size_t *position, struct slice *ret_segment)
{
	size_t from = *position, to;

	while (from < path.len && path.data[from] == '/')
		from++;
	if (from >= path.len)
		return false;
	for (to = from; to < path.len && path.data[to] != '/'; to++)
		;
	*ret_segment = slice_make(path.data + from, to - from);
	*position = to;
	return true;
}

struct entry *tree_lookup(struct dir *root, struct slice path, size_t *ret_at, bool *ret_not_dir)
{
	struct entry *entry = &root->head;
	size_t position = 0, before = 0;
	struct slice segment;

	while (tree_path_next(path, &position, &segment)) {
		if (!entry_is_dir(entry)) {
			*ret_at = before;
			*ret_not_dir = true;
			return NULL;
		}
		entry = dir_child(entry_dir(entry), segment);
		if (!entry) {
			*ret_at = position;
			*ret_not_dir = false;
			return NULL;
		}
		before = position;
	}
	return entry;
}

static uint64_t hash_step(uint64_t parent, struct slice name)
{
	return hash_bytes(name.data, name.len, parent + 0x9e3779b97f4a7c15ULL);
}

static uint64_t entry_hash(uint64_t path_hash, const struct entry *entry)
{
	struct slice value = entry_value(entry);
	uint64_t hash = hash_u64(path_hash ^ entry->flags);

	hash = hash_u64(hash + entry->created);
	hash = hash_u64(hash + entry->modified);
	hash = hash_u64(hash + (uint64_t)entry_expires_ns(entry));
	return hash_bytes(value.data, value.len, hash);
}

struct change {
	uint64_t sum, below, expiring; /* wrap around: differences are added modulo 2^64 */
};

static struct change change_add(struct change change, uint64_t path_hash, struct entry *entry, bool removed)
{
	struct change own = {entry_hash(path_hash, entry), 1, entry_has_expiry(entry)};

	if (entry_is_dir(entry)) {
		own.sum += entry_dir(entry)->sum;
		own.below += entry_dir(entry)->below;
		own.expiring += entry_dir(entry)->expiring_below;
	}
	change.sum += removed ? -own.sum : own.sum;
	change.below += removed ? -own.below : own.below;
	change.expiring += removed ? -own.expiring : own.expiring;
	return change;
}

static void chain_push(struct tree *tree, size_t *count, struct dir *dir, uint64_t hash)
{
	if (*count == tree->chain_cap) {
		tree->chain_cap = tree->chain_cap ? tree->chain_cap * 2 : 16;
		tree->chain = mem_reallocarray(tree->chain, tree->chain_cap, sizeof(*tree->chain));
		tree->chain_hash =
			mem_reallocarray(tree->chain_hash, tree->chain_cap, sizeof(*tree->chain_hash));
	}
	tree->chain[*count] = dir;
	tree->chain_hash[(*count)++] = hash;
}

/* Goes down to the parent of the last segment, owning every directory on the way and making the missing ones.
 * Answers how many directories the chain has, the last segment, the hash of its path, and from where on they
 * are new. */
static size_t tree_descend(struct tree *tree, struct slice path, uint64_t index, struct slice *ret_name,
	uint64_t *ret_hash, size_t *ret_first_new)
{
	size_t position = 0, count = 0, first_new = SIZE_MAX;
	struct slice segment, following;
	uint64_t hash = 0;
	struct dir *dir = tree->root = dir_own(tree->root);
	bool below_root;

	below_root = tree_path_next(path, &position, &segment);
	assert(below_root);
	chain_push(tree, &count, dir, hash);
	while (tree_path_next(path, &position, &following)) {
		struct dir *child = page_own_dir(tree, &dir->root, segment);

		hash = hash_step(hash, segment);
		if (!child) {
			child = entry_dir(tree_new_dir(segment, index, index, false, 0));
			(void)page_put(tree, &dir->root, &child->head);
			first_new = MIN(first_new, count);
		}
		dir = child;
		chain_push(tree, &count, dir, hash);
		segment = following;
	}
	*ret_name = segment;
	*ret_hash = hash_step(hash, segment);
	*ret_first_new = first_new;
	return count;
}

/* Adds a change to every directory above it; directories that are new themselves count for those above them.
 */
static void tree_account(struct tree *tree, size_t count, struct change change, size_t first_new)
{
	while (count-- > 0) {
		struct dir *dir = tree->chain[count];

		dir->sum += change.sum;
		dir->below += change.below;
		dir->expiring_below += change.expiring;
		if (count >= first_new) {
			change.sum += entry_hash(tree->chain_hash[count], &dir->head);
			change.below++;
		}
	}
}

void tree_put(struct tree *tree, struct slice path, struct entry *entry, uint64_t index)
{
	struct slice name;
	uint64_t hash;
	size_t first_new, count = tree_descend(tree, path, index, &name, &hash, &first_new);
	struct entry *old = page_put(tree, &tree->chain[count - 1]->root, entry);
	struct change change = change_add((struct change){0}, hash, entry, false);

	assert(slice_equal(name, entry_name(entry)));
	if (old) {
		change = change_add(change, hash, old, true);
		tree_unref(tree, old);
	}
	tree_account(tree, count, change, first_new);
}

struct entry *tree_remove(struct tree *tree, struct slice path)
{
	struct slice name;
	uint64_t hash;
	size_t first_new, count = tree_descend(tree, path, 0, &name, &hash, &first_new);
	struct entry *old = page_remove(tree, &tree->chain[count - 1]->root, name);

	assert(first_new == SIZE_MAX);
	tree_account(tree, count, change_add((struct change){0}, hash, old, true), first_new);
	return old;
}

void tree_set_dir_expiry(struct tree *tree, struct slice path, bool has_expiry, int64_t expires_ns)
{
	struct slice name;
	uint64_t hash;
	size_t first_new, count = tree_descend(tree, path, 0, &name, &hash, &first_new);
	struct dir *dir = page_own_dir(tree, &tree->chain[count - 1]->root, name);
	struct change change;

	assert(dir && first_new == SIZE_MAX);
	change = change_add((struct change){0}, hash, &dir->head, true);
	dir->head.flags = ENTRY_DIR | (has_expiry ? ENTRY_EXPIRES : 0);
	dir->expires_ns = has_expiry ? expires_ns : 0;
	tree_account(tree, count, change_add(change, hash, &dir->head, false), first_new);
}

void dir_append(struct dir *dir, struct entry *entry)
{
	page_append(&dir->root, entry);
}

uint64_t tree_path_hash(uint64_t parent, struct slice name)
{
	return hash_step(parent, name);
}

void tree_count_child(struct dir *dir, uint64_t path_hash, struct entry *child)
{
	struct change change = change_add((struct change){0}, path_hash, child, false);

	dir->sum += change.sum;
	dir->below += change.below;
	dir->expiring_below += change.expiring;
}

uint64_t dir_hash(const struct dir *root)
{
	return root->sum;
}

uint64_t tree_hash(const struct tree *tree)
{
	return tree->root->sum;
}

void tree_init(struct tree *tree)
{
	*tree = (struct tree){.root = entry_dir(tree_new_dir(slice_make("", 0), 0, 0, false, 0))};
}

void tree_end(struct tree *tree)
{
	assert(tree->root->head.refs == 1); /* else a snapshot outlives its store */
	tree_unref(tree, &tree->root->head);
	tree->root = NULL;
}

void tree_done(struct tree *tree)
{
	if (tree->root)
		tree_end(tree);
	while (tree_collect(tree, SIZE_MAX))
		;
	free(tree->trash);
	free(tree->chain);
	free(tree->chain_hash);
	*tree = (struct tree){0};
}

/* ---- walks ---- */

void walk_init(struct walk *walk, struct slice path)
{
	*walk = (struct walk){0};
	buf_init(&walk->path, 0);
	buf_add_slice(&walk->path, path);
}

void walk_done(struct walk *walk)
{
	buf_done(&walk->path);
	free(walk->frames);
	*walk = (struct walk){0};
}

struct walk_frame *walk_top(struct walk *walk)
{
	return walk->count ? &walk->frames[walk->count - 1] : NULL;
}

struct walk_frame *walk_push(struct walk *walk, const struct dir *dir)
{
	struct walk_frame *frame;

	if (walk->count == walk->cap) {
		walk->cap = walk->cap ? walk->cap * 2 : 4;
		walk->frames = mem_reallocarray(walk->frames, walk->cap, sizeof(*walk->frames));
	}
	frame = &walk->frames[walk->count++];
	frame->dir = dir;
	frame->path_len = walk->path.len;
	frame->any = false;
	page_cursor_start(&frame->cursor, dir->root);
	return frame;
}

struct entry *walk_next(struct walk *walk)
{
	struct walk_frame *frame = walk_top(walk);
	struct entry *entry = page_cursor_next(&frame->cursor);

	buf_truncate(&walk->path, frame->path_len);
	if (!entry)
		return NULL;
	if (!walk->path.len || walk->path.data[walk->path.len - 1] != '/')
		buf_add_char(&walk->path, '/');
	buf_add_slice(&walk->path, entry_name(entry));
	return entry;
}

void walk_pop(struct walk *walk)
{
	assert(walk->count > 0);
	buf_truncate(&walk->path, walk->frames[--walk->count].path_len);
}
