/* What expires has a record of its own (expiry.h). When a directory goes, the records of all below it go too:
 * a few at once, many in slices by a walk over the directory, which is kept as long. Until then they are told
 * from records that hold by a look into the tree, so that it makes no difference to the state whether a
 * member has got round to it yet. */
#include "store/state.h"
#include "base/memory.h"

enum { FORGET_AT_ONCE = 256 };

struct entry *store_expires(struct store *store, struct slice path, int64_t expires_ns)
{
	bool not_dir;
	size_t at;
	struct entry *entry = tree_lookup(store->tree.root, path, &at, &not_dir);

	return entry && entry_has_expiry(entry) && entry_expires_ns(entry) == expires_ns ? entry : NULL;
}

/* A new entry that expires may be at the path by now: then the record is its own. */
static void forget_one(struct store *store, struct slice path)
{
	bool not_dir;
	size_t at;
	struct entry *entry = tree_lookup(store->tree.root, path, &at, &not_dir);

	if (!entry || !entry_has_expiry(entry))
		expiry_remove(&store->expiry, path);
}

/* Goes on with a walk; true: it is at its end. */
static bool forget_walk(struct store *store, struct walk *walk, size_t *budget)
{
	while (walk_top(walk)) {
		struct entry *child;

		if (!*budget)
			return false;
		(*budget)--;
		child = walk_next(walk);
		if (!child) {
			walk_pop(walk);
			continue;
		}
		if (entry_has_expiry(child))
			forget_one(store, buf_slice(&walk->path));
		if (entry_is_dir(child) && entry_dir(child)->expiring_below)
			(void)walk_push(walk, entry_dir(child));
	}
	return true;
}

static void forgetting_free(struct store *store, struct forgetting *forgetting)
{
	list_remove(&forgetting->link);
	walk_done(&forgetting->walk);
	tree_unref(&store->tree, forgetting->entry);
	free(forgetting);
}

void store_forget(struct store *store, struct slice path, struct entry *entry)
{
	size_t budget = FORGET_AT_ONCE;
	struct forgetting *forgetting;

	if (entry_has_expiry(entry))
		expiry_remove(&store->expiry, path);
	if (!entry_is_dir(entry) || !entry_dir(entry)->expiring_below)
		return;
	forgetting = mem_new(struct forgetting);
	forgetting->entry = entry_ref(entry);
	list_push_back(&store->forgettings, &forgetting->link);
	walk_init(&forgetting->walk, path);
	(void)walk_push(&forgetting->walk, entry_dir(entry));
	if (forget_walk(store, &forgetting->walk, &budget))
		forgetting_free(store, forgetting);
}

bool store_forget_some(struct store *store, size_t budget)
{
	while (budget && !list_empty(&store->forgettings)) {
		struct forgetting *forgetting = list_first(&store->forgettings, struct forgetting, link);

		if (forget_walk(store, &forgetting->walk, &budget))
			forgetting_free(store, forgetting);
	}
	return !list_empty(&store->forgettings);
}

void store_forget_end(struct store *store)
{
	list_for_each_safe (it, &store->forgettings)
		forgetting_free(store, list_item(it, struct forgetting, link));
}
