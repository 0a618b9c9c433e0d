/* The copy-on-write tree beside a model that is a sorted array of (path, value): random changes, snapshots
 * taken and released at random, each compared in full with a copy of the model as it was. */
#include "store_helpers.h"
#include "base/rng.h"
#include "store/tree.h"

enum { MODEL_MAX = 4000, SNAPSHOTS = 4 };

struct model_node {
	char path[48];
	char value[16]; /* files */
	bool dir;
	uint64_t index;
};
struct model {
	struct model_node nodes[MODEL_MAX];
	size_t count;
};

/* Depth-first order with children by name: '/' sorts below everything else. */
static int path_order(const char *a, const char *b)
{
	for (;; a++, b++) {
		int one = *a == '/' ? 1
			  : *a	    ? (unsigned char)*a + 1
				    : 0,
		    other = *b == '/' ? 1
			    : *b      ? (unsigned char)*b + 1
				      : 0;

		if (one != other)
			return one - other;
		if (!one)
			return 0;
	}
}

static size_t model_find(const struct model *model, const char *path, bool *ret_found)
{
	size_t low = 0, high = model->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (path_order(model->nodes[middle].path, path) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < model->count && strcmp(model->nodes[low].path, path) == 0;
	return low;
}

static struct model_node *model_get(struct model *model, const char *path)
{
	bool found;
	size_t at = model_find(model, path, &found);

	return found ? &model->nodes[at] : NULL;
}

static void model_add(struct model *model, const char *path, bool dir, const char *value, uint64_t index)
{
	bool found;
	size_t at = model_find(model, path, &found);

	if (!found) {
		assert_true(model->count < MODEL_MAX);
		memmove(&model->nodes[at + 1], &model->nodes[at],
			(model->count - at) * sizeof(model->nodes[0]));
		model->count++;
	}
	model->nodes[at] = (struct model_node){.dir = dir, .index = index};
	(void)snprintf(model->nodes[at].path, sizeof(model->nodes[at].path), "%s", path);
	(void)snprintf(model->nodes[at].value, sizeof(model->nodes[at].value), "%s", value);
}

static bool model_set(struct model *model, const char *path, const char *value, uint64_t index)
{
	struct model_node *node = model_get(model, path);
	char parent[48];

	if (node && node->dir)
		return false;
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		(void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
		node = model_get(model, parent);
		if (node && !node->dir)
			return false;
		if (!node)
			model_add(model, parent, true, "", index);
	}
	model_add(model, path, false, value, index);
	return true;
}

static bool model_delete(struct model *model, const char *path)
{
	bool found;
	size_t at = model_find(model, path, &found), end = at + 1, len = strlen(path);

	if (!found)
		return false;
	while (end < model->count && strncmp(model->nodes[end].path, path, len) == 0 &&
		model->nodes[end].path[len] == '/')
		end++;
	memmove(&model->nodes[at], &model->nodes[end], (model->count - end) * sizeof(model->nodes[0]));
	model->count -= end - at;
	return true;
}

static void same(struct store_snapshot *snapshot, const struct model *model)
{
	struct store_cursor *cursor = store_cursor_open(snapshot);
	struct store_node_info info;

	assert_true(store_cursor_next(cursor, &info) && slice_is(info.path, "/"));
	assert_true(store_cursor_next(cursor, &info) && slice_is(info.path, "/0"));
	for (size_t i = 0; i < model->count; i++) {
		assert_true(store_cursor_next(cursor, &info));
		assert_true(slice_is(info.path, model->nodes[i].path));
		assert_int_equal(info.is_dir, model->nodes[i].dir);
		assert_true(slice_is(info.value, model->nodes[i].value));
		assert_int_equal(info.modified_index, model->nodes[i].index);
	}
	assert_false(store_cursor_next(cursor, &info));
	(void)store_cursor_free(cursor);
}

static void random_path(struct rng *rng, char path[48], unsigned wide)
{
	int len = snprintf(path, 48, "/1");
	uint64_t depth = 1 + rng_below(rng, 3);

	for (uint64_t i = 0; i < depth; i++)
		len += snprintf(path + len, 48 - (size_t)len, "/%llu",
			(unsigned long long)rng_below(rng, i + 1 < depth ? 3 : wide));
}

static void run_model(uint64_t seed, unsigned wide, int steps)
{
	struct store *store = store_new();
	struct model *model = mem_new(struct model), *copies = mem_new_array(struct model, SNAPSHOTS);
	struct store_snapshot *snapshots[SNAPSHOTS] = {0};
	struct rng rng;
	char path[48], value[16];

	rng_seed(&rng, seed);
	model_add(model, "/1", true, "", 0);
	for (int step = 0; step < steps; step++) {
		struct store_command command;
		uint64_t slot = rng_below(&rng, SNAPSHOTS);

		random_path(&rng, path, wide);
		if (rng_chance(&rng, 20000)) {
			(void)store_snapshot_free(snapshots[slot]);
			snapshots[slot] = store_snapshot_take(store);
			copies[slot] = *model;
		} else if (rng_chance(&rng, 20000) && snapshots[slot]) {
			same(snapshots[slot], &copies[slot]);
			snapshots[slot] = store_snapshot_free(snapshots[slot]);
		}
		if (model->count + 4 >= MODEL_MAX || rng_chance(&rng, step / 2000 % 2 ? 700000 : 300000)) {
			command = command_make(STORE_OP_DELETE, path, "");
			command.recursive = true;
			free(apply_text(store, command));
			(void)model_delete(model, path);
		} else {
			(void)snprintf(value, sizeof(value), "%d", step);
			free(apply_text(store, command_make(STORE_OP_SET, path, value)));
			(void)model_set(model, path, value, store_index(store));
		}
	}
	for (size_t i = 0; i < SNAPSHOTS; i++) {
		if (snapshots[i])
			same(snapshots[i], &copies[i]);
		(void)store_snapshot_free(snapshots[i]);
	}
	snapshots[0] = store_snapshot_take(store);
	same(snapshots[0], model);
	(void)store_snapshot_free(snapshots[0]);
	assert_int_equal(store_nodes(store), model->count + 2);
	(void)store_free(store);
	free(copies);
	free(model);
}

static void random_changes_and_snapshots_agree_with_a_naive_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++)
		run_model(seed, seed % 2 ? 8 : 700, 8000);
}

/* The hash must depend on the content only, not on how it came about. */
static void the_sum_of_hashes_follows_the_content(void **state)
{
	struct tree tree, other;
	uint64_t hash;
	char path[24];
	struct slice name;

	(void)state;
	tree_init(&tree);
	tree_init(&other);
	for (int i = 0; i < 1000; i++) {
		name = slice_make(path + 3, (size_t)snprintf(path, sizeof(path), "/d/%d", i) - 3);
		tree_put(&tree, slice_str(path), tree_new_file(name, slice_str("v"), 1, 1, false, 0), 1);
		(void)snprintf(path, sizeof(path), "/d/%d", 999 - i);
		tree_put(&other, slice_str(path),
			tree_new_file(slice_str(path + 3), slice_str("v"), 1, 1, false, 0), 1);
	}
	hash = tree_hash(&tree);
	assert_true(hash == tree_hash(&other));
	assert_int_equal(tree.root->below, 1001);
	tree_unref(&tree, tree_remove(&tree, slice_str("/d/500")));
	assert_true(hash != tree_hash(&tree));
	tree_put(&tree, slice_str("/d/500"), tree_new_file(slice_str("500"), slice_str("v"), 1, 1, true, 5),
		1);
	assert_true(hash != tree_hash(&tree));
	assert_int_equal(tree.root->expiring_below, 1);
	tree_put(&tree, slice_str("/d/500"), tree_new_file(slice_str("500"), slice_str("v"), 1, 1, false, 0),
		1);
	assert_true(hash == tree_hash(&tree));
	assert_int_equal(tree.root->expiring_below, 0);
	tree_unref(&tree, tree_remove(&tree, slice_str("/d")));
	assert_true(tree_hash(&tree) == 0 && tree.root->below == 0);
	tree_done(&tree);
	tree_done(&other);
}

static void a_very_deep_path_neither_overflows_the_stack_nor_leaks(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	_cleanup_buf_ struct buf path = BUF_INIT(0), out = BUF_INIT(0);
	struct store_command gone = command_make(STORE_OP_DELETE, "/1/a", ""), set;
	struct store_result result;

	(void)state;
	buf_add_str(&path, "/1");
	for (int i = 0; i < 20000; i++)
		buf_add_str(&path, "/a");
	set = command_make(STORE_OP_SET, buf_text(&path), "v");
	set.has_expiry = true;
	set.expires_ns = NOW + 1;
	apply_ok(store, set);
	assert_int_equal(store_nodes(store), 20003);
	store_get(store, slice_str("/1/a/a/a"), false, NOW, &out, &result);
	gone.recursive = true;
	apply_ok(store, gone);
	while (store_collect(store, 64))
		;
	assert_true(store_next_expiry_ns(store) == INT64_MAX);
	assert_int_equal(store_nodes(store), 3);
}

static void children_can_be_stepped_through_by_name(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new();
	_cleanup_free_ char *after = mem_strdup("");
	struct slice name;
	char path[16];
	bool is_dir;
	int count = 0;

	(void)state;
	for (int i = 0; i < 300; i++) {
		(void)snprintf(path, sizeof(path), "/1/%03d", i * 7 % 300);
		apply_ok(store, command_make(STORE_OP_SET, path, "v"));
	}
	for (; store_next_child(store, slice_str("/1"), slice_str(after), &name, &is_dir); count++) {
		(void)snprintf(path, sizeof(path), "%03d", count);
		assert_true(slice_is(name, path) && !is_dir);
		free(after);
		after = mem_strndup(name.data, name.len);
	}
	assert_int_equal(count, 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_and_snapshots_agree_with_a_naive_model),
		cmocka_unit_test(the_sum_of_hashes_follows_the_content),
		cmocka_unit_test(a_very_deep_path_neither_overflows_the_stack_nor_leaks),
		cmocka_unit_test(children_can_be_stepped_through_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
