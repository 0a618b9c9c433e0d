/* Intrusive binary min-heap: an item embeds a struct heap_item and is ordered by the heap's `before`. Items
 * can be removed from the middle. One owner, one thread. */
#pragma once
#include "base/macros.h"

struct heap_item {
	size_t position; /* index + 1 in the heap; 0: in no heap */
};
/* The places are in blocks, so that a heap of millions grows without being copied. */
struct heap {
	struct heap_item ***blocks;
	size_t count, blocks_len, blocks_cap;
	bool (*before)(const struct heap_item *a, const struct heap_item *b); /* strict order */
};

void heap_init(struct heap *heap, bool (*before)(const struct heap_item *a, const struct heap_item *b));
void heap_done(struct heap *heap);		      /* the items stay the caller's */
struct heap_item *heap_top(const struct heap *heap);  /* NULL when empty */
struct heap_item *heap_last(const struct heap *heap); /* whose removal moves no other; NULL when empty */
void heap_insert(struct heap *heap, struct heap_item *item);
void heap_remove(struct heap *heap, struct heap_item *item); /* harmless on an item that is in no heap */
