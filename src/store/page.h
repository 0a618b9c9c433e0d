/* The pages of a directory's children (inside the store, behind tree.h): a B+tree of entries by name, copied
 * on write. A directory's `root` is its top page, NULL when it has no children; what changes takes the place
 * where that pointer is, of an owned directory. Pure, one thread. */
#pragma once
#include "store/tree.h"

/* NULL: there is none. The second: the first child above `name`. */
struct entry *page_find(const struct page *root, struct slice name);
struct entry *page_find_after(const struct page *root, struct slice name);
/* Puts `entry` (takes over the reference). What it takes the place of is answered, with its reference. */
struct entry *page_put(struct tree *tree, struct page **root, struct entry *entry);
/* The same for an entry whose name is above all others of pages that no one else holds. */
void page_append(struct page **root, struct entry *entry);
/* Takes out what has this name (must exist); the reference is the caller's. */
struct entry *page_remove(struct tree *tree, struct page **root, struct slice name) _must_check_;
/* The directory of this name, owned from now on; NULL when there is no such child. It must be no file. */
struct dir *page_own_dir(struct tree *tree, struct page **root, struct slice name);
/* A directory of which the caller holds one reference: itself when that is the only one, else a copy which
 * the reference was traded for. */
struct dir *dir_own(struct dir *dir);

/* A reference less; the last one puts the page on the tree's trash. What is on the trash is taken apart. */
void page_unref(struct tree *tree, struct page *page);
void page_take_apart(struct tree *tree, struct page *page);

/* All children in order. The pages must stay referenced. */
void page_cursor_start(struct page_cursor *cursor, const struct page *root);
struct entry *page_cursor_next(struct page_cursor *cursor); /* NULL at the end */

/* For tests: whether all that page.c says of its pages holds. */
bool page_is_sound(const struct page *root);
