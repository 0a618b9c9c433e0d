/* What a backend fetched: the keys of one template resource, as trees of nodes and as one flat list of
 * leaves, sorted. Everything lives in an arena. */
#pragma once
#include "base/memory.h"
#include "base/slice.h"

struct confd_node {
	struct slice key;   /* whole path in the store, "/" for the root */
	struct slice value; /* "" for directories */
	bool dir;
	int64_t ttl_s;
	struct slice expiration; /* as the store wrote it, "" when none */
	uint64_t modified_index, created_index;
	struct confd_node **nodes; /* children, sorted by key */
	size_t node_count, node_cap;
};

struct confd_leaf {
	struct slice key, value; /* key: without the prefix, beginning with '/' */
};

struct confd_tree {
	struct arena *arena;
	struct confd_node **roots; /* one for each key asked for */
	size_t root_count, root_cap;
	struct confd_leaf *leaves; /* sorted by key, each key once */
	size_t leaf_count, leaf_cap;
};

struct confd_node *confd_node_new(struct arena *arena, struct slice key);
void confd_node_add(struct arena *arena, struct confd_node *node, struct confd_node *child);
void confd_tree_init(struct confd_tree *tree, struct arena *arena);
void confd_tree_add_root(struct confd_tree *tree, struct confd_node *root);
/* Sorts the children everywhere and fills the leaves: each key loses the prefix by plain string comparison
 * and is rooted at "/" again. Call once, when all roots are there. */
void confd_tree_finish(struct confd_tree *tree, struct slice prefix);
/* NULL: not there. */
const struct confd_leaf *confd_tree_find(const struct confd_tree *tree, struct slice key);

/* Go's path.Clean and path.Join of two, in the arena. */
struct slice path_clean(struct arena *arena, struct slice path);
struct slice path_join(struct arena *arena, struct slice a, struct slice b);
struct slice path_base(struct slice path); /* path.Base: borrowed, or "." or "/" */
struct slice path_dir(struct arena *arena, struct slice path);
