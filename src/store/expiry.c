/* A heap of small records that maps find by path. Only what expires costs a record. A map that grows is
 * copied at once, which would take the better part of a second with a million records: there are many maps,
 * each of which grows in a moment of its own. */
#include "store/expiry.h"
#include "base/hash.h"
#include "base/memory.h"

struct expiry_item {
	struct heap_item in_heap;
	int64_t expires_ns;
	size_t path_len;
	char path[];
};

static struct slice item_path(const struct expiry_item *item)
{
	return slice_make(item->path, item->path_len);
}

static bool item_before(const struct heap_item *a, const struct heap_item *b)
{
	const struct expiry_item *one = container_of(a, struct expiry_item, in_heap);
	const struct expiry_item *other = container_of(b, struct expiry_item, in_heap);

	if (one->expires_ns != other->expires_ns)
		return one->expires_ns < other->expires_ns;
	return slice_compare(item_path(one), item_path(other)) < 0;
}

static struct map *shard_of(const struct expiry *expiry, struct slice path)
{
	/* Another seed than the maps' own, which use the low bits of theirs. */
	return &expiry->by_path[hash_bytes(path.data, path.len, 1) % EXPIRY_SHARDS];
}

void expiry_init(struct expiry *expiry)
{
	*expiry = (struct expiry){0};
	heap_init(&expiry->heap, item_before);
}

void expiry_done(struct expiry *expiry)
{
	heap_done(&expiry->heap);
	for (size_t i = 0; expiry->by_path && i < EXPIRY_SHARDS; i++) {
		size_t position = 0;
		void *item;

		while (map_next(&expiry->by_path[i], &position, NULL, &item))
			free(item);
		map_done(&expiry->by_path[i]);
	}
	expiry->by_path = mem_free(expiry->by_path);
}

void expiry_set(struct expiry *expiry, struct slice path, int64_t expires_ns)
{
	struct expiry_item *item;
	struct map *map;

	if (!expiry->by_path) {
		expiry->by_path = mem_new_array(struct map, EXPIRY_SHARDS);
		for (size_t i = 0; i < EXPIRY_SHARDS; i++)
			map_init(&expiry->by_path[i], 0);
	}
	map = shard_of(expiry, path);
	item = map_get(map, path);
	if (item) {
		heap_remove(&expiry->heap, &item->in_heap);
	} else {
		item = mem_calloc(1, sizeof(*item) + path.len);
		item->path_len = path.len;
		memcpy(item->path, path.data, path.len);
		(void)map_put(map, path, item);
	}
	item->expires_ns = expires_ns;
	heap_insert(&expiry->heap, &item->in_heap);
}

void expiry_remove(struct expiry *expiry, struct slice path)
{
	struct expiry_item *item = expiry->by_path ? map_remove(shard_of(expiry, path), path) : NULL;

	if (!item)
		return;
	heap_remove(&expiry->heap, &item->in_heap);
	free(item);
}

bool expiry_drop(struct expiry *expiry, size_t count)
{
	while (expiry->heap.count && count-- > 0) {
		/* The last one leaves the others where they are. */
		struct heap_item *last = heap_last(&expiry->heap);

		expiry_remove(expiry, item_path(container_of(last, struct expiry_item, in_heap)));
	}
	return expiry->heap.count > 0;
}

void expiry_remove_top(struct expiry *expiry)
{
	struct heap_item *top = heap_top(&expiry->heap);

	assert(top);
	expiry_remove(expiry, item_path(container_of(top, struct expiry_item, in_heap)));
}

bool expiry_top(const struct expiry *expiry, struct slice *ret_path, int64_t *ret_expires_ns)
{
	struct heap_item *top = heap_top(&expiry->heap);
	const struct expiry_item *item;

	if (!top)
		return false;
	item = container_of(top, struct expiry_item, in_heap);
	*ret_path = item_path(item);
	*ret_expires_ns = item->expires_ns;
	return true;
}
