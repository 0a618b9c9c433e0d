/* Linear probing over a power of two of slots, at most 3/4 used, removed slots included. */
#include "base/map.h"
#include "base/hash.h"
#include "base/memory.h"

static char tomb_mark;
#define MAP_TOMB (&tomb_mark)

void map_init(struct map *map, uint64_t seed)
{
	*map = (struct map){.seed = seed};
}

void map_done(struct map *map)
{
	for (size_t i = 0; i < map->cap; i++)
		if (map->entries[i].key && map->entries[i].key != MAP_TOMB)
			free(map->entries[i].key);
	free(map->entries);
	*map = (struct map){.seed = map->seed};
}

static struct map_entry *map_find(const struct map *map, struct slice key, uint64_t hash)
{
	if (!map->cap)
		return NULL;
	for (size_t i = hash & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
		struct map_entry *entry = &map->entries[i];

		if (!entry->key)
			return NULL;
		if (entry->key != MAP_TOMB && entry->hash == hash &&
			slice_equal(slice_make(entry->key, entry->key_len), key))
			return entry;
	}
}

void *map_get(const struct map *map, struct slice key)
{
	struct map_entry *entry = map_find(map, key, hash_bytes(key.data, key.len, map->seed));

	return entry ? entry->value : NULL;
}

static void map_grow(struct map *map)
{
	struct map_entry *old = map->entries;
	size_t old_cap = map->cap;

	map->cap = 8;
	while (map->cap < (map->count + 1) * 2)
		map->cap *= 2;
	map->entries = mem_new_array(struct map_entry, map->cap);
	map->tombs = 0;
	for (size_t i = 0; i < old_cap; i++) {
		if (!old[i].key || old[i].key == MAP_TOMB)
			continue;
		for (size_t j = old[i].hash & (map->cap - 1);; j = (j + 1) & (map->cap - 1)) {
			if (!map->entries[j].key) {
				map->entries[j] = old[i];
				break;
			}
		}
	}
	free(old);
}

void *map_put(struct map *map, struct slice key, void *value)
{
	uint64_t hash = hash_bytes(key.data, key.len, map->seed);
	struct map_entry *entry = map_find(map, key, hash);

	assert(value);
	if (entry) {
		void *replaced = entry->value;

		entry->value = value;
		return replaced;
	}
	if ((map->count + map->tombs + 1) * 4 > map->cap * 3)
		map_grow(map);
	for (size_t i = hash & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
		entry = &map->entries[i];
		if (!entry->key || entry->key == MAP_TOMB)
			break;
	}
	if (entry->key == MAP_TOMB)
		map->tombs--;
	*entry = (struct map_entry){
		.key = mem_strndup(key.data, key.len), .key_len = key.len, .hash = hash, .value = value};
	map->count++;
	return NULL;
}

void *map_remove(struct map *map, struct slice key)
{
	struct map_entry *entry = map_find(map, key, hash_bytes(key.data, key.len, map->seed));
	void *value;

	if (!entry)
		return NULL;
	value = entry->value;
	free(entry->key);
	*entry = (struct map_entry){.key = MAP_TOMB};
	map->count--;
	map->tombs++;
	return value;
}

bool map_next(const struct map *map, size_t *position, struct slice *ret_key, void **ret_value)
{
	for (; *position < map->cap; (*position)++) {
		struct map_entry *entry = &map->entries[*position];

		if (!entry->key || entry->key == MAP_TOMB)
			continue;
		(*position)++;
		if (ret_key)
			*ret_key = slice_make(entry->key, entry->key_len);
		if (ret_value)
			*ret_value = entry->value;
		return true;
	}
	return false;
}
