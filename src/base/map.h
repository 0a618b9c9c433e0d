/* Hash map from byte strings to pointers, open addressing. Keys are copied, values are borrowed. One owner,
 * one thread. Iteration order is unspecified but the same for the same history of calls and the same seed. */
#pragma once
#include "base/slice.h"

struct map {
	struct map_entry *entries;
	size_t count, cap, tombs;
	uint64_t seed;
};
struct map_entry {
	char *key; /* NULL: free, MAP_TOMB: removed */
	size_t key_len;
	uint64_t hash;
	void *value;
};

void map_init(struct map *map, uint64_t seed); /* seed: random where keys come from users, 0 in pure rooms */
void map_done(struct map *map);		       /* the values stay the caller's */
void *map_get(const struct map *map, struct slice key);	       /* NULL: not there */
void *map_put(struct map *map, struct slice key, void *value); /* answers the value replaced, or NULL */
void *map_remove(struct map *map, struct slice key);	       /* answers the value removed, or NULL */
/* Steps through the entries: start with *position = 0; false at the end. Removing the entry just seen is
 * allowed. */
bool map_next(const struct map *map, size_t *position, struct slice *ret_key, void **ret_value);
