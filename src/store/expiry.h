/* Who expires when (inside the store): by time, and by path among those of the same time, so that the order
 * is the same on every member whatever its past. */
#pragma once
#include "base/heap.h"
#include "base/map.h"
#include "base/slice.h"

enum { EXPIRY_SHARDS = 1024 };

struct expiry {
	struct heap heap;
	struct map *by_path; /* EXPIRY_SHARDS of them, by hash; NULL: nothing ever expired here */
};

void expiry_init(struct expiry *expiry);
void expiry_done(struct expiry *expiry);
bool expiry_drop(struct expiry *expiry, size_t count); /* so many, whichever; true: more are left */
void expiry_set(struct expiry *expiry, struct slice path, int64_t expires_ns);
void expiry_remove(struct expiry *expiry, struct slice path); /* harmless when it is not there */
void expiry_remove_top(struct expiry *expiry);		      /* there must be one */
/* The next to go; false: none. The path is borrowed until the next change. */
bool expiry_top(const struct expiry *expiry, struct slice *ret_path, int64_t *ret_expires_ns);
