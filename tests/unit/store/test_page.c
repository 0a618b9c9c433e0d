/* The pages of directories with names that are made to confuse them: prefixes of each other, equal but for
 * bytes far behind, with zero bytes and high ones. Random changes of a tree of two levels, parts of which are
 * held as they were, beside a model that needs no order: names are drawn from a sorted pool and known by
 * their rank in it. What page.c says of its pages is checked all the time. */
#include "store_helpers.h"
#include "base/rng.h"
#include "store/page.h"

enum { NAME_MAX_BYTES = 72, HELD_MAX = 3 };

struct name {
	char data[NAME_MAX_BYTES];
	size_t len;
};

static struct slice name_slice(const struct name *name)
{
	return slice_make(name->data, name->len);
}

static int name_order(const void *a, const void *b)
{
	return slice_compare(name_slice(a), name_slice(b));
}

static void name_add(struct name *name, struct rng *rng, size_t count)
{
	static const char bytes[] = {'\0', '\x01', 'a', 'b', '0', '\x7f', '\x80', '\xff'};

	while (count-- > 0 && name->len < NAME_MAX_BYTES)
		name->data[name->len++] = bytes[rng_below(rng, sizeof(bytes))];
}

/* Mostly an earlier name with something more, less or else at its end. */
static void name_draw(struct name *name, struct rng *rng, const struct name *pool, size_t count)
{
	*name = (struct name){0};
	if (count > 0 && !rng_chance(rng, 20000)) {
		*name = pool[rng_below(rng, count)];
		name->len -= rng_below(rng, MIN(name->len, (size_t)4));
		name_add(name, rng, rng_below(rng, rng_chance(rng, 100000) ? 40 : 4));
	} else {
		name_add(name, rng, rng_below(rng, 40));
	}
	if (!name->len)
		name_add(name, rng, 1);
}

/* Distinct and in order. */
static struct name *pool_new(struct rng *rng, size_t count)
{
	struct name *pool = mem_new_array(struct name, count);
	size_t have = 0;

	while (have < count) {
		for (; have < count; have++)
			name_draw(&pool[have], rng, pool, have);
		qsort(pool, count, sizeof(*pool), name_order);
		have = 1;
		for (size_t i = 1; i < count; i++)
			if (name_order(&pool[have - 1], &pool[i]) != 0)
				pool[have++] = pool[i];
	}
	return pool;
}

/* The model: a row for each directory, with the index that made it in front of those of its files; 0: not
 * there. */
struct world {
	struct tree tree;
	struct rng rng;
	struct name *pool;
	size_t dirs, files; /* of the pool's first names each */
	uint64_t *rows;
	struct {
		struct dir *root; /* reference; NULL: nothing is held */
		uint64_t *rows;
	} held[HELD_MAX];
};

static uint64_t *world_row(const struct world *world, uint64_t *rows, size_t dir)
{
	return rows + dir * (world->files + 1);
}

static size_t world_bytes(const struct world *world)
{
	return world->dirs * (world->files + 1) * sizeof(uint64_t);
}

/* All of `root` is what `rows` say, in order. */
static void same(const struct world *world, struct dir *root, uint64_t *rows)
{
	struct walk walk;
	struct entry *entry;

	walk_init(&walk, slice_str("/"));
	(void)walk_push(&walk, root);
	assert_true(page_is_sound(root->root));
	for (size_t dir = 0; dir < world->dirs; dir++) {
		const uint64_t *row = world_row(world, rows, dir);

		if (!row[0])
			continue;
		entry = walk_next(&walk);
		assert_true(entry && entry_is_dir(entry) && entry->modified == row[0]);
		assert_true(slice_equal(entry_name(entry), name_slice(&world->pool[dir])));
		assert_true(page_is_sound(entry_dir(entry)->root));
		(void)walk_push(&walk, entry_dir(entry));
		for (size_t file = 0; file < world->files; file++) {
			if (!row[1 + file])
				continue;
			entry = walk_next(&walk);
			assert_true(entry && !entry_is_dir(entry) && entry->modified == row[1 + file]);
			assert_true(slice_equal(entry_name(entry), name_slice(&world->pool[file])));
		}
		assert_null(walk_next(&walk));
		walk_pop(&walk);
	}
	assert_null(walk_next(&walk));
	walk_done(&walk);
}

/* What is found under any name of the pool, there or not, and what comes after it. */
static void look(struct world *world, size_t dir)
{
	const uint64_t *row = world_row(world, world->rows, dir);
	size_t file = rng_below(&world->rng, world->files), after = file + 1;
	struct slice name = name_slice(&world->pool[file]);
	struct entry *at = dir_child(world->tree.root, name_slice(&world->pool[dir])), *entry;

	assert_int_equal(!at, !row[0]);
	if (!at)
		return;
	entry = dir_child(entry_dir(at), name);
	assert_true((entry ? entry->modified : 0) == row[1 + file]);
	while (after < world->files && !row[1 + after])
		after++;
	entry = dir_child_after(entry_dir(at), name);
	assert_true((entry ? entry->modified : 0) == (after < world->files ? row[1 + after] : 0));
	assert_true(page_is_sound(entry_dir(at)->root) && page_is_sound(world->tree.root->root));
}

static void change(struct world *world, size_t dir, bool grow, uint64_t index)
{
	uint64_t *row = world_row(world, world->rows, dir);
	size_t file = rng_below(&world->rng, world->files);
	struct slice name = name_slice(&world->pool[file]);
	_cleanup_buf_ struct buf path = BUF_INIT(0);

	buf_add_char(&path, '/');
	buf_add_slice(&path, name_slice(&world->pool[dir]));
	if (row[0] && rng_chance(&world->rng, (uint32_t)(20000 / world->files))) {
		tree_unref(&world->tree, tree_remove(&world->tree, buf_slice(&path)));
		memset(row, 0, (world->files + 1) * sizeof(*row));
		return;
	}
	buf_add_char(&path, '/');
	buf_add_slice(&path, name);
	if (row[1 + file] && !grow) {
		tree_unref(&world->tree, tree_remove(&world->tree, buf_slice(&path)));
		row[1 + file] = 0;
	} else if (grow || rng_chance(&world->rng, 20000)) {
		tree_put(&world->tree, buf_slice(&path),
			tree_new_file(name, slice_str("v"), index, index, false, 0), index);
		row[0] = row[0] ? row[0] : index;
		row[1 + file] = index;
	}
}

static void hold_or_release(struct world *world)
{
	size_t slot = rng_below(&world->rng, HELD_MAX);
	struct dir *root = world->held[slot].root;

	if (root) {
		same(world, root, world->held[slot].rows);
		tree_unref(&world->tree, &root->head);
		world->held[slot].root = NULL;
	} else {
		world->held[slot].root = entry_dir(entry_ref(&world->tree.root->head));
		memcpy(world->held[slot].rows, world->rows, world_bytes(world));
	}
}

static void run(uint64_t seed, size_t dirs, size_t files, uint64_t steps)
{
	struct world world = {.dirs = dirs, .files = files};

	rng_seed(&world.rng, seed);
	tree_init(&world.tree);
	world.pool = pool_new(&world.rng, MAX(dirs, files));
	world.rows = mem_calloc(1, world_bytes(&world));
	for (size_t i = 0; i < HELD_MAX; i++)
		world.held[i].rows = mem_calloc(1, world_bytes(&world));
	for (uint64_t step = 1; step <= steps; step++) {
		size_t dir = rng_below(&world.rng, dirs);

		change(&world, dir, step / (steps / 4 + 1) % 2 == 0 || rng_chance(&world.rng, 20000), step);
		if (step % (files / 64 + 1) == 0)
			look(&world, dir);
		if (rng_chance(&world.rng, 2000))
			hold_or_release(&world);
		(void)tree_collect(&world.tree, 1);
	}
	for (size_t i = 0; i < HELD_MAX; i++) {
		if (world.held[i].root) {
			same(&world, world.held[i].root, world.held[i].rows);
			tree_unref(&world.tree, &world.held[i].root->head);
		}
		free(world.held[i].rows);
	}
	same(&world, world.tree.root, world.rows);
	tree_done(&world.tree);
	free(world.rows);
	free(world.pool);
}

static void hostile_names_agree_with_a_naive_model(void **state)
{
	(void)state;
	run(1, 4, 40, 10000);
	run(2, 3, 400, 24000);
	run(3, 300, 20, 24000); /* the pages of the root */
	run(4, 1, 6000, 60000); /* three levels */
}

/* Pages that are appended to in rising order find all and are sound at every size. */
static void names_that_rise_are_appended(void **state)
{
	struct tree tree;
	struct rng rng;
	struct name *pool;
	size_t count = 3000;

	(void)state;
	rng_seed(&rng, 5);
	pool = pool_new(&rng, count);
	tree_init(&tree);
	for (size_t i = 0; i < count; i++) {
		dir_append(tree.root, tree_new_file(name_slice(&pool[i]), slice_str(""), 1, i + 1, false, 0));
		if (i < 200 || i % 64 == 0)
			assert_true(page_is_sound(tree.root->root));
	}
	assert_true(page_is_sound(tree.root->root));
	for (size_t i = 0; i < count; i++)
		assert_int_equal(dir_child(tree.root, name_slice(&pool[i]))->modified, i + 1);
	tree_done(&tree);
	free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_names_agree_with_a_naive_model),
		cmocka_unit_test(names_that_rise_are_appended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
