/* The copy-on-write key tree (inside the store). Entries (files and directories) and the B+tree pages of a
 * directory's children are counted: what only the live tree holds is changed in place, what a snapshot also
 * holds is copied on the way down. Taking a snapshot is one more reference on the root directory. Pure, one
 * thread. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

enum { ENTRY_DIR = 1, ENTRY_EXPIRES = 2 };

/* A file is immutable once it is in the tree; events refer to files for their values. */
struct entry {
	uint32_t refs;
	uint32_t name_len : 24;
	uint32_t flags : 8;
	uint64_t created, modified;
};
struct file {
	struct entry head;
	uint32_t value_len;
	char data[]; /* expiry when ENTRY_EXPIRES (8 bytes), name, value */
};
struct page;
struct dir {
	struct entry head;
	int64_t expires_ns;		/* with ENTRY_EXPIRES */
	struct page *root;		/* children by name; NULL when empty */
	uint64_t sum;			/* of the hashes of all entries below, not of its own */
	uint64_t below, expiring_below; /* how many entries, and how many of them expire */
	char name[];
};

static inline bool entry_is_dir(const struct entry *entry)
{
	return entry->flags & ENTRY_DIR;
}
static inline bool entry_has_expiry(const struct entry *entry)
{
	return entry->flags & ENTRY_EXPIRES;
}
static inline struct file *entry_file(struct entry *entry)
{
	assert(!entry_is_dir(entry));
	return (struct file *)(void *)entry;
}
static inline struct dir *entry_dir(struct entry *entry)
{
	assert(entry_is_dir(entry));
	return (struct dir *)(void *)entry;
}
/* Where in `data` the name begins. */
static inline size_t file_name_at(const struct file *file)
{
	return entry_has_expiry(&file->head) ? sizeof(int64_t) : 0;
}
static inline struct slice entry_name(const struct entry *entry)
{
	const struct file *file = (const struct file *)(const void *)entry;
	const struct dir *dir = (const struct dir *)(const void *)entry;

	return slice_make(entry_is_dir(entry) ? dir->name : file->data + file_name_at(file), entry->name_len);
}
struct slice entry_value(const struct entry *entry); /* "" for a directory */
int64_t entry_expires_ns(const struct entry *entry); /* 0 when it does not */

struct tree {
	struct dir *root;
	struct page **trash; /* pages without references whose content is still to be let go */
	size_t trash_count, trash_cap;
	struct dir **chain; /* scratch: the directories on the way down */
	uint64_t *chain_hash;
	size_t chain_cap;
};

void tree_init(struct tree *tree);
void tree_end(struct tree *tree); /* all of it becomes trash: tree_collect(), then tree_done() */
void tree_done(struct tree *tree);

/* New entries carry one reference, the caller's. */
struct entry *tree_new_file(struct slice name, struct slice value, uint64_t created, uint64_t modified,
	bool has_expiry, int64_t expires_ns);
struct entry *tree_new_dir(
	struct slice name, uint64_t created, uint64_t modified, bool has_expiry, int64_t expires_ns);
struct entry *entry_ref(struct entry *entry);
void entry_unref_file(struct entry *entry);		   /* a file's reference, without the tree at hand */
void tree_unref(struct tree *tree, struct entry *entry);   /* any; a directory's content goes to the trash */
bool tree_collect(struct tree *tree, size_t budget_pages); /* true: more is left */

/* Cuts the next segment off `path`, from *position on; false at the end. */
bool tree_path_next(struct slice path, size_t *position, struct slice *ret_segment);
/* Walks down from `root`. NULL when the path ends early: *ret_at is then the length of the path up to and
 * including the segment at fault, and *ret_not_dir tells whether that is a file in the way or a missing name.
 */
struct entry *tree_lookup(struct dir *root, struct slice path, size_t *ret_at, bool *ret_not_dir);
struct entry *dir_child(const struct dir *dir, struct slice name);
struct entry *dir_child_after(
	const struct dir *dir, struct slice name); /* the first above name; NULL: none */

/* Puts `entry` (takes over the reference) at `path`, whose last segment is its name; missing parents are made
 * with created = modified = index. What was there is let go. No file may be in the way. */
void tree_put(struct tree *tree, struct slice path, struct entry *entry, uint64_t index);
/* Takes out what is at `path` (must exist); the reference is the caller's. */
struct entry *tree_remove(struct tree *tree, struct slice path) _must_check_;
/* Changes the expiry of the directory at `path` (must exist, not the root). */
void tree_set_dir_expiry(struct tree *tree, struct slice path, bool has_expiry, int64_t expires_ns);
/* For loading a tree in order (store/snapshot.h), where no one else holds it yet. Appends a child whose name
 * is above all others of the directory (takes over the reference), without counting it; the hash of a path
 * one segment longer; counts a child, complete with all below it, in its directory. */
void dir_append(struct dir *dir, struct entry *entry);
uint64_t tree_path_hash(uint64_t parent, struct slice name);
void tree_count_child(struct dir *dir, uint64_t path_hash, struct entry *child);
uint64_t tree_hash(const struct tree *tree);
uint64_t dir_hash(const struct dir *root);

/* A walk over the children of directories, with the path that belongs to it. The directories must stay
 * referenced. */
enum { PAGE_HEIGHT_MAX = 16 };
struct page_cursor {
	const struct page *page[PAGE_HEIGHT_MAX];
	uint16_t at[PAGE_HEIGHT_MAX];
	uint16_t height;
};
struct walk_frame {
	struct page_cursor cursor;
	const struct dir *dir;
	size_t path_len;
	bool any; /* for the walker's use: something was written for this directory */
};
struct walk {
	struct buf path;
	struct walk_frame *frames;
	size_t count, cap;
};
void walk_init(struct walk *walk, struct slice path);
void walk_done(struct walk *walk);
struct walk_frame *walk_push(struct walk *walk, const struct dir *dir); /* dir is what walk->path names now */
struct walk_frame *walk_top(struct walk *walk);				/* NULL when no frame is left */
struct entry *walk_next(struct walk *walk); /* next child of the top frame, path set to it; NULL: none left */
void walk_pop(struct walk *walk);
