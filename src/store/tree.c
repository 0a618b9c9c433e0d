/* Each directory keeps its children in a B+tree of pages with up to PAGE_MAX slots, in the order of their
 * names. A leaf slot is an entry; an inner slot is a child page and the first entry below it, borrowed, as
 * its separator: whatever changes a page refreshes the separators above it on the way back up, so they always
 * point to a live entry.
 *
 * Copy on write by counts: page_own() and dir_own() copy what has more than one reference. A copy takes a
 * reference on each child, so the children are then shared in turn and get copied when they are reached.
 * Large subtrees are never freed at once: a page whose last reference went is put on the trash,
 * tree_collect() takes it apart later. */
#include "store/tree.h"
#include "base/hash.h"
#include "base/memory.h"

enum { PAGE_MAX = 64, PAGE_FEW = 16, PAGE_START = 2 };

struct page {
	uint32_t refs;
	uint16_t count;
	uint8_t cap, leaf; /* slots there is room for; leaf or inner */
	void *slots[];	   /* leaf: entry; inner: page, first entry */
};

/* ---- entries ---- */

static size_t file_name_at(const struct entry *entry)
{
	return entry_has_expiry(entry) ? sizeof(int64_t) : 0;
}

struct slice entry_name(const struct entry *entry)
{
	if (entry_is_dir(entry))
		return slice_make(((const struct dir *)(const void *)entry)->name, entry->name_len);
	return slice_make(
		((const struct file *)(const void *)entry)->data + file_name_at(entry), entry->name_len);
}

struct slice entry_value(const struct entry *entry)
{
	const struct file *file = (const struct file *)(const void *)entry;

	if (entry_is_dir(entry))
		return slice_make("", 0);
	return slice_make(file->data + file_name_at(entry) + entry->name_len, file->value_len);
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

static void page_unref(struct tree *tree, struct page *page)
{
	assert(page->refs > 0);
	if (--page->refs > 0)
		return;
	if (tree->trash_count == tree->trash_cap) {
		tree->trash_cap = tree->trash_cap ? tree->trash_cap * 2 : 64;
		tree->trash = mem_reallocarray(tree->trash, tree->trash_cap, sizeof(struct page *));
	}
	tree->trash[tree->trash_count++] = page;
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
	while (tree->trash_count && budget_pages-- > 0) {
		struct page *page = tree->trash[--tree->trash_count];

		for (size_t i = 0; i < page->count; i++) {
			if (page->leaf)
				tree_unref(tree, page->slots[i]);
			else
				page_unref(tree, page->slots[2 * i]);
		}
		free(page);
	}
	if (!tree->trash_count && tree->trash_cap > 1024) {
		tree->trash = mem_free(tree->trash);
		tree->trash_cap = 0;
	}
	return tree->trash_count > 0;
}

/* ---- pages ---- */

static size_t page_bytes(bool leaf, size_t cap)
{
	return sizeof(struct page) + cap * (leaf ? 1 : 2) * sizeof(void *);
}

static struct page *page_new(bool leaf, size_t cap)
{
	struct page *page = mem_alloc(page_bytes(leaf, cap));

	*page = (struct page){.refs = 1, .cap = (uint8_t)cap, .leaf = leaf};
	return page;
}

static struct entry *page_first(const struct page *page)
{
	return page->leaf ? page->slots[0] : page->slots[1];
}

/* The page, copied first when others hold it too. */
static struct page *page_own(struct tree *tree, struct page **at)
{
	struct page *page = *at, *copy;

	if (page->refs == 1)
		return page;
	copy = page_new(page->leaf, page->cap);
	copy->count = page->count;
	memcpy(copy->slots, page->slots, page->count * (page->leaf ? 1U : 2U) * sizeof(void *));
	for (size_t i = 0; i < page->count; i++) {
		if (page->leaf)
			(void)entry_ref(page->slots[i]);
		else
			((struct page *)page->slots[2 * i])->refs++;
	}
	page_unref(tree, page);
	return *at = copy;
}

/* Leaf: where `name` is or belongs. */
static size_t leaf_find(const struct page *page, struct slice name, bool *ret_found)
{
	size_t low = 0, high = page->count;

	*ret_found = false;
	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = slice_compare(entry_name(page->slots[middle]), name);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Inner page: the child whose range holds `name`. */
static size_t inner_find(const struct page *page, struct slice name)
{
	size_t low = 1, high = page->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (slice_compare(entry_name(page->slots[2 * middle + 1]), name) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

static void page_slots_move(struct page *page, size_t to, size_t from, size_t count)
{
	size_t width = page->leaf ? 1 : 2;

	memmove(page->slots + to * width, page->slots + from * width, count * width * sizeof(void *));
}

static void page_slots_take(struct page *page, size_t to, const struct page *other, size_t from, size_t count)
{
	size_t width = page->leaf ? 1 : 2;

	memcpy(page->slots + to * width, other->slots + from * width, count * width * sizeof(void *));
}

static struct page *page_room(struct page **at, size_t count)
{
	struct page *page = *at;
	size_t cap = page->cap;

	if (count <= cap)
		return page;
	while (cap < count)
		cap *= 2;
	assert(cap <= PAGE_MAX && page->refs == 1);
	page = mem_realloc(page, page_bytes(page->leaf, cap));
	page->cap = (uint8_t)cap;
	return *at = page;
}

/* Puts one slot into an owned page. A full page is split; the new right half is answered, else NULL. Names
 * that come in rising order leave full pages behind. */
static struct page *page_put(struct page **at, size_t slot, void *child, struct entry *first)
{
	struct page *page = *at, *right = NULL, **into = at;

	if (page->count == PAGE_MAX) {
		size_t keep = slot == PAGE_MAX ? PAGE_MAX : PAGE_MAX / 2;

		right = page_new(page->leaf, keep == PAGE_MAX ? PAGE_START : PAGE_MAX);
		page_slots_take(right, 0, page, keep, PAGE_MAX - keep);
		right->count = (uint16_t)(PAGE_MAX - keep);
		page->count = (uint16_t)keep;
		if (slot >= keep) {
			into = &right;
			slot -= keep;
		}
	}
	page = page_room(into, (size_t)(*into)->count + 1);
	page_slots_move(page, slot + 1, slot, page->count - slot);
	page->count++;
	if (page->leaf) {
		page->slots[slot] = child;
	} else {
		page->slots[2 * slot] = child;
		page->slots[2 * slot + 1] = first;
	}
	return right;
}

static void inner_set(struct page *page, size_t slot, struct page *child)
{
	page->slots[2 * slot] = child;
	page->slots[2 * slot + 1] = page_first(child);
}

static struct page *page_insert(struct tree *tree, struct page **at, struct entry *entry)
{
	struct page *page = page_own(tree, at), *child, *right;
	bool found;
	size_t slot;

	if (page->leaf) {
		slot = leaf_find(page, entry_name(entry), &found);
		assert(!found);
		return page_put(at, slot, entry, NULL);
	}
	slot = inner_find(page, entry_name(entry));
	child = page->slots[2 * slot];
	right = page_insert(tree, &child, entry);
	inner_set(page, slot, child);
	return right ? page_put(at, slot + 1, right, page_first(right)) : NULL;
}

/* Puts `entry` in the place of the one of the same name, which is answered with its reference. */
static struct entry *page_replace(struct tree *tree, struct page **at, struct entry *entry)
{
	struct page *page = page_own(tree, at), *child;
	struct entry *old;
	bool found;
	size_t slot;

	if (page->leaf) {
		slot = leaf_find(page, entry_name(entry), &found);
		assert(found);
		old = page->slots[slot];
		page->slots[slot] = entry;
		return old;
	}
	slot = inner_find(page, entry_name(entry));
	child = page->slots[2 * slot];
	old = page_replace(tree, &child, entry);
	inner_set(page, slot, child);
	return old;
}

/* Joins the child at `slot` with a neighbour when it has become small and both fit into one page. */
static void inner_merge(struct tree *tree, struct page *page, size_t slot)
{
	size_t left_slot = slot > 0 ? slot - 1 : 0;
	struct page *left, *right;

	if (page->count < 2 || ((struct page *)page->slots[2 * slot])->count >= PAGE_FEW)
		return;
	left = page->slots[2 * left_slot];
	right = page->slots[2 * left_slot + 2];
	if (left->count + right->count > PAGE_MAX)
		return;
	left = page_own(tree, &left);
	right = page_own(tree, &right);
	left = page_room(&left, (size_t)left->count + right->count);
	page_slots_take(left, left->count, right, 0, right->count);
	left->count = (uint16_t)(left->count + right->count);
	free(right);
	inner_set(page, left_slot, left);
	page_slots_move(page, left_slot + 1, left_slot + 2, page->count - left_slot - 2);
	page->count--;
}

static struct entry *page_remove(struct tree *tree, struct page **at, struct slice name)
{
	struct page *page = page_own(tree, at), *child;
	struct entry *old;
	bool found;
	size_t slot;

	if (page->leaf) {
		slot = leaf_find(page, name, &found);
		assert(found);
		old = page->slots[slot];
		page_slots_move(page, slot, slot + 1, page->count - slot - 1);
		page->count--;
		return old;
	}
	slot = inner_find(page, name);
	child = page->slots[2 * slot];
	old = page_remove(tree, &child, name);
	if (child->count == 0) {
		free(child);
		page_slots_move(page, slot, slot + 1, page->count - slot - 1);
		page->count--;
	} else {
		inner_set(page, slot, child);
		inner_merge(tree, page, slot);
	}
	return old;
}

/* ---- directories ---- */

static struct dir *dir_copy(struct dir *dir)
{
	struct dir *copy = mem_dup(dir, sizeof(*dir) + dir->head.name_len);

	copy->head.refs = 1;
	if (copy->root)
		copy->root->refs++;
	return copy;
}

struct entry *dir_child(const struct dir *dir, struct slice name)
{
	const struct page *page = dir->root;
	bool found;
	size_t slot;

	if (!page)
		return NULL;
	while (!page->leaf)
		page = page->slots[2 * inner_find(page, name)];
	slot = leaf_find(page, name, &found);
	return found ? page->slots[slot] : NULL;
}

struct entry *dir_child_after(const struct dir *dir, struct slice name)
{
	const struct page *page = dir->root, *next = NULL;
	bool found;
	size_t slot;

	if (!page)
		return NULL;
	while (!page->leaf) {
		slot = inner_find(page, name);
		if (slot + 1 < page->count)
			next = page->slots[2 * slot + 2];
		page = page->slots[2 * slot];
	}
	slot = leaf_find(page, name, &found);
	if (found)
		slot++;
	if (slot < page->count)
		return page->slots[slot];
	return next ? page_first(next) : NULL;
}

/* The child directory `name` of an owned directory, owned as well; NULL when there is no such child. */
static struct dir *page_edit(struct tree *tree, struct page **at, struct slice name)
{
	struct page *page = page_own(tree, at), *child;
	struct entry *entry;
	struct dir *dir;
	bool found;
	size_t slot;

	if (page->leaf) {
		slot = leaf_find(page, name, &found);
		if (!found)
			return NULL;
		entry = page->slots[slot];
		if (entry->refs > 1) {
			dir = dir_copy(entry_dir(entry));
			entry->refs--;
			page->slots[slot] = dir;
			return dir;
		}
		return entry_dir(entry);
	}
	slot = inner_find(page, name);
	child = page->slots[2 * slot];
	dir = page_edit(tree, &child, name);
	inner_set(page, slot, child);
	return dir;
}

static void dir_insert(struct tree *tree, struct dir *dir, struct entry *entry)
{
	struct page *right, *root;

	if (!dir->root)
		dir->root = page_new(true, PAGE_START);
	right = page_insert(tree, &dir->root, entry);
	if (!right)
		return;
	root = page_new(false, PAGE_START);
	inner_set(root, 0, dir->root);
	inner_set(root, 1, right);
	root->count = 2;
	dir->root = root;
}

static struct entry *dir_remove(struct tree *tree, struct dir *dir, struct slice name)
{
	struct entry *old = page_remove(tree, &dir->root, name);

	if (!dir->root->leaf && dir->root->count == 1) {
		struct page *child = dir->root->slots[0];

		free(dir->root);
		dir->root = child;
	}
	if (dir->root->count == 0) {
		free(dir->root);
		dir->root = NULL;
	}
	return old;
}

/* ---- paths ---- */

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
	struct dir *dir = tree->root;
	bool below_root;

	if (dir->head.refs > 1) {
		tree->root = dir_copy(dir);
		dir->head.refs--;
		dir = tree->root;
	}
	below_root = tree_path_next(path, &position, &segment);
	assert(below_root);
	chain_push(tree, &count, dir, hash);
	while (tree_path_next(path, &position, &following)) {
		struct dir *child = dir->root ? page_edit(tree, &dir->root, segment) : NULL;

		hash = hash_step(hash, segment);
		if (!child) {
			child = entry_dir(tree_new_dir(segment, index, index, false, 0));
			dir_insert(tree, dir, &child->head);
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
	struct dir *parent = tree->chain[count - 1];
	struct change change = change_add((struct change){0}, hash, entry, false);

	assert(slice_equal(name, entry_name(entry)));
	if (dir_child(parent, name)) {
		struct entry *old = page_replace(tree, &parent->root, entry);

		change = change_add(change, hash, old, true);
		tree_unref(tree, old);
	} else {
		dir_insert(tree, parent, entry);
	}
	tree_account(tree, count, change, first_new);
}

struct entry *tree_remove(struct tree *tree, struct slice path)
{
	struct slice name;
	uint64_t hash;
	size_t first_new, count = tree_descend(tree, path, 0, &name, &hash, &first_new);
	struct entry *old = dir_remove(tree, tree->chain[count - 1], name);

	assert(first_new == SIZE_MAX);
	tree_account(tree, count, change_add((struct change){0}, hash, old, true), first_new);
	return old;
}

void tree_set_dir_expiry(struct tree *tree, struct slice path, bool has_expiry, int64_t expires_ns)
{
	struct slice name;
	uint64_t hash;
	size_t first_new, count = tree_descend(tree, path, 0, &name, &hash, &first_new);
	struct dir *dir = page_edit(tree, &tree->chain[count - 1]->root, name);
	struct change change;

	assert(dir && first_new == SIZE_MAX);
	change = change_add((struct change){0}, hash, &dir->head, true);
	dir->head.flags = ENTRY_DIR | (has_expiry ? ENTRY_EXPIRES : 0);
	dir->expires_ns = has_expiry ? expires_ns : 0;
	tree_account(tree, count, change_add(change, hash, &dir->head, false), first_new);
}

void tree_append(struct tree *tree, struct dir *dir, struct entry *entry)
{
	dir_insert(tree, dir, entry);
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

static void cursor_down(struct page_cursor *cursor, const struct page *page)
{
	for (;;) {
		assert(cursor->height < PAGE_HEIGHT_MAX);
		cursor->page[cursor->height] = page;
		cursor->at[cursor->height++] = 0;
		if (page->leaf)
			return;
		page = page->slots[0];
	}
}

static struct entry *cursor_next(struct page_cursor *cursor)
{
	while (cursor->height > 0) {
		size_t level = cursor->height - 1U;
		const struct page *page = cursor->page[level];

		if (page->leaf) {
			if (cursor->at[level] < page->count)
				return page->slots[cursor->at[level]++];
		} else if (++cursor->at[level] < page->count) {
			cursor_down(cursor, page->slots[2 * cursor->at[level]]);
			continue;
		}
		cursor->height--;
	}
	return NULL;
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
	frame->cursor.height = 0;
	if (dir->root)
		cursor_down(&frame->cursor, dir->root);
	return frame;
}

struct entry *walk_next(struct walk *walk)
{
	struct walk_frame *frame = walk_top(walk);
	struct entry *entry = cursor_next(&frame->cursor);

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
