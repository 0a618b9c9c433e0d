/* Children and leaves are collected unsorted and sorted once. Of leaves with the same key (two queries may
 * overlap, or two keys may clean to the same) the last one fetched stays. */
#include "confd/tree.h"
#include "base/buf.h"

#include <stdlib.h>

#define NODE_DEPTH_MAX 1000 /* of directories; deeper ones are left out */

struct confd_node *confd_node_new(struct arena *arena, struct slice key)
{
	struct confd_node *node = arena_alloc(arena, sizeof(*node));

	node->key = slice_make(arena_strndup(arena, key.data, key.len), key.len);
	return node;
}

static void *grown(struct arena *arena, void *items, size_t count, size_t *cap, size_t item_bytes)
{
	void *moved;

	if (count < *cap)
		return items;
	*cap = *cap ? *cap * 2 : 8;
	moved = arena_alloc(arena, *cap * item_bytes);
	if (count)
		memcpy(moved, items, count * item_bytes);
	return moved;
}

void confd_node_add(struct arena *arena, struct confd_node *node, struct confd_node *child)
{
	node->nodes =
		grown(arena, node->nodes, node->node_count, &node->node_cap, sizeof(struct confd_node *));
	node->nodes[node->node_count++] = child;
}

void confd_tree_init(struct confd_tree *tree, struct arena *arena)
{
	*tree = (struct confd_tree){.arena = arena};
}

void confd_tree_add_root(struct confd_tree *tree, struct confd_node *root)
{
	tree->roots = grown(
		tree->arena, tree->roots, tree->root_count, &tree->root_cap, sizeof(struct confd_node *));
	tree->roots[tree->root_count++] = root;
}

static int node_compare(const void *a, const void *b)
{
	const struct confd_node *const *left = a, *const *right = b;

	return slice_compare((*left)->key, (*right)->key);
}

static void add_leaves(struct confd_tree *tree, struct confd_node *node, struct slice prefix, unsigned depth)
{
	struct slice key = node->key;

	if (!node->dir) {
		if (slice_starts_with(key, prefix))
			key = slice_make(key.data + prefix.len, key.len - prefix.len);
		tree->leaves = grown(
			tree->arena, tree->leaves, tree->leaf_count, &tree->leaf_cap, sizeof(*tree->leaves));
		tree->leaves[tree->leaf_count++] =
			(struct confd_leaf){path_join(tree->arena, SLICE_LITERAL("/"), key), node->value};
		return;
	}
	if (node->node_count)
		qsort(node->nodes, node->node_count, sizeof(struct confd_node *), node_compare);
	for (size_t i = 0; i < node->node_count && depth < NODE_DEPTH_MAX; i++)
		add_leaves(tree, node->nodes[i], prefix, depth + 1);
}

struct numbered_leaf {
	struct confd_leaf leaf;
	size_t number;
};

static int leaf_compare(const void *a, const void *b)
{
	const struct numbered_leaf *left = a, *right = b;
	int order = slice_compare(left->leaf.key, right->leaf.key);

	return order ? order : left->number < right->number ? -1 : left->number > right->number;
}

void confd_tree_finish(struct confd_tree *tree, struct slice prefix)
{
	_cleanup_free_ struct numbered_leaf *sorted = NULL;
	size_t kept = 0;

	for (size_t i = 0; i < tree->root_count; i++)
		add_leaves(tree, tree->roots[i], prefix, 0);
	if (tree->leaf_count < 2)
		return;
	sorted = mem_calloc(tree->leaf_count, sizeof(*sorted));
	for (size_t i = 0; i < tree->leaf_count; i++)
		sorted[i] = (struct numbered_leaf){tree->leaves[i], i};
	qsort(sorted, tree->leaf_count, sizeof(*sorted), leaf_compare);
	for (size_t i = 0; i < tree->leaf_count; i++)
		if (i + 1 == tree->leaf_count || !slice_equal(sorted[i].leaf.key, sorted[i + 1].leaf.key))
			tree->leaves[kept++] = sorted[i].leaf;
	tree->leaf_count = kept;
}

const struct confd_leaf *confd_tree_find(const struct confd_tree *tree, struct slice key)
{
	size_t low = 0, high = tree->leaf_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = slice_compare(key, tree->leaves[middle].key);

		if (order == 0)
			return &tree->leaves[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* ---- paths ---- */

/* Drops the last segment of what has been written, but not the root and not a "..". */
static bool drop_segment(struct buf *out, size_t root)
{
	size_t at = out->len;

	if (at == root)
		return false;
	while (at > root && out->data[at - 1] != '/')
		at--;
	if (out->len - at == 2 && memcmp(out->data + at, "..", 2) == 0)
		return false;
	buf_truncate(out, at > root ? at - 1 : at);
	return true;
}

struct slice path_clean(struct arena *arena, struct slice path)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	bool rooted = path.len && path.data[0] == '/';
	size_t root = rooted ? 1 : 0;

	if (rooted)
		buf_add_char(&out, '/');
	while (path.len) {
		const char *slash = memchr(path.data, '/', path.len);
		size_t len = slash ? (size_t)(slash - path.data) : path.len;
		struct slice segment = slice_make(path.data, len);

		path = slice_make(path.data + MIN(len + 1, path.len), path.len - MIN(len + 1, path.len));
		if (!segment.len || slice_is(segment, "."))
			continue;
		if (slice_is(segment, "..") && (drop_segment(&out, root) || rooted))
			continue;
		if (out.len > root)
			buf_add_char(&out, '/');
		buf_add_slice(&out, segment);
	}
	if (!out.len)
		buf_add_char(&out, '.');
	return slice_make(arena_strndup(arena, out.data, out.len), out.len);
}

struct slice path_join(struct arena *arena, struct slice a, struct slice b)
{
	_cleanup_buf_ struct buf joined = BUF_INIT(0);

	if (!a.len && !b.len)
		return (struct slice){"", 0};
	buf_add_slice(&joined, a);
	if (a.len && b.len)
		buf_add_char(&joined, '/');
	buf_add_slice(&joined, b);
	return path_clean(arena, buf_slice(&joined));
}

struct slice path_base(struct slice path)
{
	size_t start;

	if (!path.len)
		return SLICE_LITERAL(".");
	while (path.len && path.data[path.len - 1] == '/')
		path.len--;
	if (!path.len)
		return SLICE_LITERAL("/");
	start = path.len;
	while (start > 0 && path.data[start - 1] != '/')
		start--;
	return slice_make(path.data + start, path.len - start);
}

struct slice path_dir(struct arena *arena, struct slice path)
{
	while (path.len && path.data[path.len - 1] != '/')
		path.len--;
	return path_clean(arena, path);
}
