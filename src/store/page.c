/* Each directory keeps its children in a B+tree of pages with up to PAGE_MAX slots, in the order of their
 * names. A leaf slot is an entry; an inner slot is a child page and the first entry below it, borrowed, as
 * its separator. A separator always points to the live entry: whatever replaces, copies or takes out an
 * entry, or puts one before all others, passes the pages above it on its way back up (inner_refresh()).
 *
 * A name is a cache miss away, so that a search stays in the page as long as it can: a page knows a prefix
 * that all names of its slots (entries, separators) begin with, and of each slot the head, the four bytes
 * that follow the prefix. Heads order as their names do, but for names with equal heads; only those are
 * looked at. The prefix need not be the longest one: a name that does not share it cuts it, and all heads are
 * written anew (page_admit()); only where a page is split or joined it is measured again
 * (page_abbreviate()). A slot's head depends on its name and the page's prefix alone. So heads move and are
 * copied with their slots, and an entry's place can be taken by another of the same name.
 *
 * Copy on write by counts: page_own() and dir_own() copy what has more than one reference. A copy takes a
 * reference on each child, so the children are then shared in turn and get copied when they are reached.
 * Large subtrees are never freed at once: a page whose last reference went is put on the trash,
 * tree_collect() takes it apart later. */
#include "store/page.h"
#include "base/memory.h"
#include <endian.h>

enum { PAGE_MAX = 64, PAGE_FEW = 16, PAGE_START = 2, PREFIX_MAX = 24 };

struct page {
	uint32_t refs;
	uint8_t count, cap; /* cap: slots there is room for, a power of two */
	uint8_t leaf;	    /* leaf or inner */
	uint8_t prefix_len;
	char prefix[PREFIX_MAX];
	uint32_t heads[]; /* cap of them; behind them the slots, see page_slots() */
};
static_assert(offsetof(struct page, heads) % sizeof(void *) == 0 && PAGE_START % 2 == 0,
	"the slots behind the heads are aligned");

/* ---- slots ---- */

static size_t page_bytes(bool leaf, size_t cap)
{
	return sizeof(struct page) + cap * (sizeof(uint32_t) + (leaf ? 1 : 2) * sizeof(void *));
}

static struct page *page_new(bool leaf, size_t cap)
{
	struct page *page = mem_alloc(page_bytes(leaf, cap));

	*page = (struct page){.refs = 1, .cap = (uint8_t)cap, .leaf = leaf};
	return page;
}

/* Of a leaf one pointer a slot, the entry; of an inner page two, child page and first entry. */
static void **page_slots(const struct page *page)
{
	return (void **)(uintptr_t)(page->heads + page->cap);
}

static struct entry *slot_entry(const struct page *page, size_t slot)
{
	return page_slots(page)[page->leaf ? slot : 2 * slot + 1];
}

static struct slice slot_name(const struct page *page, size_t slot)
{
	return entry_name(slot_entry(page, slot));
}

static struct page *inner_child(const struct page *page, size_t slot)
{
	return page_slots(page)[2 * slot];
}

static void page_slots_move(struct page *page, size_t to, size_t from, size_t count)
{
	size_t width = page->leaf ? 1 : 2;
	void **slots = page_slots(page);

	memmove(page->heads + to, page->heads + from, count * sizeof(page->heads[0]));
	memmove(slots + to * width, slots + from * width, count * width * sizeof(void *));
}

static void page_slots_take(struct page *page, size_t to, const struct page *other, size_t from, size_t count)
{
	size_t width = page->leaf ? 1 : 2;

	memcpy(page->heads + to, other->heads + from, count * sizeof(page->heads[0]));
	memcpy(page_slots(page) + to * width, page_slots(other) + from * width,
		count * width * sizeof(void *));
}

static struct page *page_room(struct page **at, size_t count)
{
	struct page *page = *at;
	size_t cap = page->cap, old_cap = cap;
	void **old_slots;

	if (count <= cap)
		return page;
	while (cap < count)
		cap *= 2;
	assert(cap <= PAGE_MAX && page->refs == 1);
	page = mem_realloc(page, page_bytes(page->leaf, cap));
	old_slots = page_slots(page);
	page->cap = (uint8_t)cap;
	memmove(page_slots(page), old_slots, old_cap * (page->leaf ? 1U : 2U) * sizeof(void *));
	return *at = page;
}

/* ---- names ---- */

static size_t shared_len(struct slice a, struct slice b)
{
	size_t len = MIN(a.len, b.len), i = 0;

	while (i < len && a.data[i] == b.data[i])
		i++;
	return i;
}

/* What follows the prefix, zeros where the name ends, as a number that orders as the bytes do. */
static uint32_t name_head(struct slice name, size_t prefix_len)
{
	uint32_t head = 0;

	if (name.len >= prefix_len + sizeof(head)) {
		memcpy(&head, name.data + prefix_len, sizeof(head));
		return be32toh(head);
	}
	for (size_t i = 0; i < sizeof(head); i++)
		head = head << 8 | (prefix_len + i < name.len ? (uint8_t)name.data[prefix_len + i] : 0);
	return head;
}

static void page_write_heads(struct page *page)
{
	for (size_t i = 0; i < page->count; i++)
		page->heads[i] = name_head(slot_name(page, i), page->prefix_len);
}

static struct slice page_prefix(const struct page *page)
{
	return slice_make(page->prefix, page->prefix_len);
}

static void page_set_prefix(struct page *page, struct slice prefix)
{
	page->prefix_len = (uint8_t)MIN(prefix.len, (size_t)PREFIX_MAX);
	memcpy(page->prefix, prefix.data, page->prefix_len);
}

static void page_abbreviate(struct page *page)
{
	struct slice first = slot_name(page, 0), last = slot_name(page, page->count - 1U);

	page_set_prefix(page, slice_make(first.data, shared_len(first, last)));
	page_write_heads(page);
}

/* The name's head in a page that is going to have it: cuts the prefix to what the name shares with it. */
static uint32_t page_admit(struct page *page, struct slice name)
{
	size_t shared;

	if (!page->count)
		page_set_prefix(page, name);
	shared = shared_len(page_prefix(page), name);
	if (shared < page->prefix_len) {
		page->prefix_len = (uint8_t)shared;
		page_write_heads(page);
	}
	return name_head(name, shared);
}

/* How many heads are below this one. No branch depends on what is compared. */
static size_t page_heads_below(const struct page *page, uint32_t head)
{
	const uint32_t *heads = page->heads;
	size_t left = page->count;

	while (left > 1) {
		size_t half = left / 2;

		heads += heads[half - 1] < head ? half : 0;
		left -= half;
	}
	return (size_t)(heads - page->heads) + (left && *heads < head);
}

/* The slot where `name` is or belongs. */
static size_t page_search(const struct page *page, struct slice name, bool *ret_found)
{
	struct slice prefix = page_prefix(page), begin = slice_make(name.data, MIN(name.len, prefix.len));
	int order = slice_compare(begin, prefix);
	size_t low, high;
	uint32_t head;

	*ret_found = false;
	if (order != 0)
		return order < 0 ? 0 : page->count;
	head = name_head(name, prefix.len);
	low = high = page_heads_below(page, head);
	while (high < page->count && page->heads[high] == head)
		high++;
	while (low < high) {
		size_t middle = (low + high) / 2;

		order = slice_compare(slot_name(page, middle), name);
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
static size_t inner_search(const struct page *page, struct slice name)
{
	bool found;
	size_t slot = page_search(page, name, &found);

	return found || slot == 0 ? slot : slot - 1;
}

/* Reads a page from memory all at once, where a search would wait for one line after another. That a page may
 * be smaller does no harm. */
static void page_prefetch(const struct page *page)
{
	enum {
		CACHE_LINE_BYTES = 64,
		LEAF_BYTES = sizeof(struct page) + PAGE_MAX * (sizeof(uint32_t) + sizeof(void *)),
	};

	for (size_t i = 0; i < LEAF_BYTES; i += CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)page + i);
}

struct entry *page_find(const struct page *page, struct slice name)
{
	bool found;
	size_t slot;

	if (!page)
		return NULL;
	while (!page->leaf) {
		page = inner_child(page, inner_search(page, name));
		page_prefetch(page);
	}
	slot = page_search(page, name, &found);
	return found ? slot_entry(page, slot) : NULL;
}

struct entry *page_find_after(const struct page *page, struct slice name)
{
	const struct page *next = NULL;
	bool found;
	size_t slot;

	if (!page)
		return NULL;
	while (!page->leaf) {
		slot = inner_search(page, name);
		if (slot + 1 < page->count)
			next = inner_child(page, slot + 1);
		page = inner_child(page, slot);
	}
	slot = page_search(page, name, &found);
	if (found)
		slot++;
	if (slot < page->count)
		return slot_entry(page, slot);
	return next ? slot_entry(next, 0) : NULL;
}

/* ---- ownership ---- */

void page_unref(struct tree *tree, struct page *page)
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

void page_take_apart(struct tree *tree, struct page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		if (page->leaf)
			tree_unref(tree, slot_entry(page, i));
		else
			page_unref(tree, inner_child(page, i));
	}
	free(page);
}

/* The page, copied first when others hold it too. */
static struct page *page_own(struct tree *tree, struct page **at)
{
	struct page *page = *at, *copy;

	if (page->refs == 1)
		return page;
	copy = mem_dup(page, page_bytes(page->leaf, page->cap));
	copy->refs = 1;
	for (size_t i = 0; i < page->count; i++) {
		if (page->leaf)
			(void)entry_ref(slot_entry(page, i));
		else
			inner_child(page, i)->refs++;
	}
	page_unref(tree, page);
	return *at = copy;
}

struct dir *dir_own(struct dir *dir)
{
	struct dir *copy;

	if (dir->head.refs == 1)
		return dir;
	copy = mem_dup(dir, sizeof(*dir) + dir->head.name_len);
	copy->head.refs = 1;
	if (copy->root)
		copy->root->refs++;
	dir->head.refs--;
	return copy;
}

/* ---- changes ---- */

/* A slot of an inner page, `child` and its first entry. */
static void inner_set(struct page *page, size_t slot, struct page *child)
{
	void **slots = page_slots(page);
	struct entry *first = slot_entry(child, 0);

	slots[2 * slot] = child;
	if (slots[2 * slot + 1] == first)
		return;
	slots[2 * slot + 1] = first;
	page->heads[slot] = page_admit(page, entry_name(first));
}

/* After a change below `slot`, whose page may be another one now: the separator follows when the entry that
 * it borrows was replaced or went (`gone`). A new entry can have come before it below the first slot alone.
 */
static void inner_refresh(struct page *page, size_t slot, struct page *child, const struct entry *gone)
{
	if (slot == 0 || slot_entry(page, slot) == gone)
		inner_set(page, slot, child);
	else
		page_slots(page)[2 * slot] = child;
}

/* A full page makes way for a slot more: the new right half is answered. Names that come in rising order
 * leave full pages behind. */
static struct page *page_split(struct page *page, size_t slot)
{
	size_t keep = slot == PAGE_MAX ? PAGE_MAX : PAGE_MAX / 2;
	struct page *right = page_new(page->leaf, keep == PAGE_MAX ? PAGE_START : PAGE_MAX);

	if (keep == PAGE_MAX)
		return right;
	page_slots_take(right, 0, page, keep, PAGE_MAX - keep);
	right->count = (uint8_t)(PAGE_MAX - keep);
	page->count = (uint8_t)keep;
	page_abbreviate(page);
	page_abbreviate(right);
	return right;
}

/* Puts one slot into an owned page: an entry into a leaf, a child page and its first entry into an inner one.
 * Where the page is split, the new right half is answered, else NULL. */
static struct page *page_add(struct page **at, size_t slot, struct page *child, struct entry *entry)
{
	struct page *right = (*at)->count == PAGE_MAX ? page_split(*at, slot) : NULL, *page;
	void **slots;
	uint32_t head;

	if (right && slot >= (*at)->count) {
		slot -= (*at)->count;
		at = &right;
	}
	page = page_room(at, (*at)->count + 1U);
	head = page_admit(page, entry_name(entry));
	page_slots_move(page, slot + 1, slot, page->count - slot);
	page->heads[slot] = head;
	page->count++;
	slots = page_slots(page);
	if (page->leaf) {
		slots[slot] = entry;
	} else {
		slots[2 * slot] = child;
		slots[2 * slot + 1] = entry;
	}
	return right;
}

static struct page *page_add_child(struct page **at, size_t slot, struct page *child)
{
	return child ? page_add(at, slot, child, slot_entry(child, 0)) : NULL;
}

/* The root was split: a new one holds both halves. */
static void root_grow(struct page **root, struct page *right)
{
	struct page *left = *root;

	*root = page_new(false, PAGE_START);
	(void)page_add_child(root, 0, left);
	(void)page_add_child(root, 1, right);
}

static struct page *page_put_below(
	struct tree *tree, struct page **at, struct entry *entry, struct entry **ret_old)
{
	struct page *page = page_own(tree, at), *child, *right;
	bool found;
	size_t slot;

	if (page->leaf) {
		slot = page_search(page, entry_name(entry), &found);
		if (!found)
			return page_add(at, slot, NULL, entry);
		*ret_old = slot_entry(page, slot);
		page_slots(page)[slot] = entry;
		return NULL;
	}
	slot = inner_search(page, entry_name(entry));
	child = inner_child(page, slot);
	right = page_put_below(tree, &child, entry, ret_old);
	inner_refresh(page, slot, child, *ret_old);
	return page_add_child(at, slot + 1, right);
}

struct entry *page_put(struct tree *tree, struct page **root, struct entry *entry)
{
	struct entry *old = NULL;
	struct page *right;

	if (!*root)
		*root = page_new(true, PAGE_START);
	right = page_put_below(tree, root, entry, &old);
	if (right)
		root_grow(root, right);
	return old;
}

static struct page *page_append_below(struct page **at, struct entry *entry)
{
	struct page *page = *at, *child, *right;
	size_t slot = page->count - 1U;

	assert(page->refs == 1);
	if (page->leaf)
		return page_add(at, page->count, NULL, entry);
	child = inner_child(page, slot);
	right = page_append_below(&child, entry);
	page_slots(page)[2 * slot] = child;
	return page_add_child(at, slot + 1, right);
}

void page_append(struct page **root, struct entry *entry)
{
	struct page *right;

	if (!*root)
		*root = page_new(true, PAGE_START);
	right = page_append_below(root, entry);
	if (right)
		root_grow(root, right);
}

static void page_drop_slot(struct page *page, size_t slot)
{
	page_slots_move(page, slot, slot + 1, page->count - slot - 1U);
	page->count--;
}

/* Joins the child at `slot` with a neighbour when it has become small and both fit into one page. */
static void inner_merge(struct tree *tree, struct page *page, size_t slot)
{
	size_t left_slot = slot > 0 ? slot - 1 : 0;
	struct page *left, *right;

	if (page->count < 2 || inner_child(page, slot)->count >= PAGE_FEW)
		return;
	left = inner_child(page, left_slot);
	right = inner_child(page, left_slot + 1);
	if (left->count + right->count > PAGE_MAX)
		return;
	left = page_own(tree, &left);
	right = page_own(tree, &right);
	left = page_room(&left, (size_t)left->count + right->count);
	page_slots_take(left, left->count, right, 0, right->count);
	left->count = (uint8_t)(left->count + right->count);
	page_abbreviate(left);
	free(right);
	inner_set(page, left_slot, left);
	page_drop_slot(page, left_slot + 1);
}

static struct entry *page_remove_below(struct tree *tree, struct page **at, struct slice name)
{
	struct page *page = page_own(tree, at), *child;
	struct entry *old;
	bool found;
	size_t slot;

	if (page->leaf) {
		slot = page_search(page, name, &found);
		assert(found);
		old = slot_entry(page, slot);
		page_drop_slot(page, slot);
		return old;
	}
	slot = inner_search(page, name);
	child = inner_child(page, slot);
	old = page_remove_below(tree, &child, name);
	if (child->count == 0) {
		free(child);
		page_drop_slot(page, slot);
	} else {
		inner_refresh(page, slot, child, old);
		inner_merge(tree, page, slot);
	}
	return old;
}

struct entry *page_remove(struct tree *tree, struct page **root, struct slice name)
{
	struct entry *old = page_remove_below(tree, root, name);
	struct page *page = *root;

	if (!page->leaf && page->count == 1) {
		*root = inner_child(page, 0);
		free(page);
	} else if (page->count == 0) {
		free(page);
		*root = NULL;
	}
	return old;
}

static struct dir *page_own_dir_below(
	struct tree *tree, struct page **at, struct slice name, struct entry **ret_old)
{
	struct page *page = page_own(tree, at), *child;
	struct dir *dir;
	bool found;
	size_t slot;

	if (page->leaf) {
		slot = page_search(page, name, &found);
		if (!found)
			return NULL;
		*ret_old = slot_entry(page, slot);
		dir = dir_own(entry_dir(*ret_old));
		page_slots(page)[slot] = dir;
		return dir;
	}
	slot = inner_search(page, name);
	child = inner_child(page, slot);
	dir = page_own_dir_below(tree, &child, name, ret_old);
	inner_refresh(page, slot, child, *ret_old);
	return dir;
}

struct dir *page_own_dir(struct tree *tree, struct page **root, struct slice name)
{
	struct entry *old = NULL;

	return *root ? page_own_dir_below(tree, root, name, &old) : NULL;
}

/* ---- walks ---- */

static void cursor_down(struct page_cursor *cursor, const struct page *page)
{
	for (;;) {
		assert(cursor->height < PAGE_HEIGHT_MAX);
		cursor->page[cursor->height] = page;
		cursor->at[cursor->height++] = 0;
		if (page->leaf)
			return;
		page = inner_child(page, 0);
	}
}

void page_cursor_start(struct page_cursor *cursor, const struct page *root)
{
	cursor->height = 0;
	if (root)
		cursor_down(cursor, root);
}

struct entry *page_cursor_next(struct page_cursor *cursor)
{
	while (cursor->height > 0) {
		size_t level = cursor->height - 1U;
		const struct page *page = cursor->page[level];

		if (page->leaf) {
			if (cursor->at[level] < page->count)
				return slot_entry(page, cursor->at[level]++);
		} else if (++cursor->at[level] < page->count) {
			cursor_down(cursor, inner_child(page, cursor->at[level]));
			continue;
		}
		cursor->height--;
	}
	return NULL;
}

/* ---- for tests ---- */

static bool names_are_sound(const struct page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		struct slice name = slot_name(page, i);

		if (!slice_starts_with(name, page_prefix(page)) ||
			page->heads[i] != name_head(name, page->prefix_len))
			return false;
		if (i > 0 && slice_compare(slot_name(page, i - 1), name) >= 0)
			return false;
	}
	return true;
}

/* All names are below `end` (NULL: no limit); ret_height must be the same for all children. */
static bool page_is_sound_below(const struct page *page, const struct entry *end, size_t *ret_height)
{
	size_t height = 0, first_height = 0;

	if (!page->refs || !page->count || page->count > page->cap || page->cap > PAGE_MAX ||
		page->prefix_len > PREFIX_MAX || !names_are_sound(page))
		return false;
	if (end && slice_compare(slot_name(page, page->count - 1U), entry_name(end)) >= 0)
		return false;
	for (size_t i = 0; !page->leaf && i < page->count; i++) {
		const struct page *child = inner_child(page, i);

		if (!page_is_sound_below(
			    child, i + 1 < page->count ? slot_entry(page, i + 1) : end, &height) ||
			slot_entry(child, 0) != slot_entry(page, i) || (i > 0 && height != first_height))
			return false;
		first_height = height;
	}
	*ret_height = height + 1;
	return true;
}

bool page_is_sound(const struct page *root)
{
	size_t height;

	return !root || page_is_sound_below(root, NULL, &height);
}
