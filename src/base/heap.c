#include "base/heap.h"
#include "base/memory.h"

enum { BLOCK_ITEMS = 512 };

static inline struct heap_item **place_of(const struct heap *heap, size_t at)
{
	return &heap->blocks[at / BLOCK_ITEMS][at % BLOCK_ITEMS];
}

void heap_init(struct heap *heap, bool (*before)(const struct heap_item *a, const struct heap_item *b))
{
	*heap = (struct heap){.before = before};
}

void heap_done(struct heap *heap)
{
	for (size_t i = 0; i < heap->count; i++)
		(*place_of(heap, i))->position = 0;
	for (size_t i = 0; i < heap->blocks_len; i++)
		free(heap->blocks[i]);
	free(heap->blocks);
	*heap = (struct heap){.before = heap->before};
}

struct heap_item *heap_top(const struct heap *heap)
{
	return heap->count ? *place_of(heap, 0) : NULL;
}

struct heap_item *heap_last(const struct heap *heap)
{
	return heap->count ? *place_of(heap, heap->count - 1) : NULL;
}

static void heap_place(struct heap *heap, size_t at, struct heap_item *item)
{
	*place_of(heap, at) = item;
	item->position = at + 1;
}

static size_t heap_sift_up(struct heap *heap, size_t at, struct heap_item *item)
{
	while (at > 0) {
		size_t parent = (at - 1) / 2;

		if (!heap->before(item, *place_of(heap, parent)))
			break;
		heap_place(heap, at, *place_of(heap, parent));
		at = parent;
	}
	heap_place(heap, at, item);
	return at;
}

static void heap_sift_down(struct heap *heap, size_t at, struct heap_item *item)
{
	for (;;) {
		size_t child = at * 2 + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
			heap->before(*place_of(heap, child + 1), *place_of(heap, child)))
			child++;
		if (!heap->before(*place_of(heap, child), item))
			break;
		heap_place(heap, at, *place_of(heap, child));
		at = child;
	}
	heap_place(heap, at, item);
}

static void heap_add_block(struct heap *heap)
{
	if (heap->blocks_len == heap->blocks_cap) {
		heap->blocks_cap = heap->blocks_cap ? heap->blocks_cap * 2 : 4;
		heap->blocks = mem_reallocarray(heap->blocks, heap->blocks_cap, sizeof(*heap->blocks));
	}
	heap->blocks[heap->blocks_len++] = mem_new_array(struct heap_item *, BLOCK_ITEMS);
}

void heap_insert(struct heap *heap, struct heap_item *item)
{
	assert(!item->position);
	if (heap->count == heap->blocks_len * BLOCK_ITEMS)
		heap_add_block(heap);
	heap->count++;
	(void)heap_sift_up(heap, heap->count - 1, item);
}

void heap_remove(struct heap *heap, struct heap_item *item)
{
	size_t at = item->position - 1;
	struct heap_item *last;

	if (!item->position)
		return;
	assert(*place_of(heap, at) == item);
	item->position = 0;
	last = *place_of(heap, --heap->count);
	if (last == item)
		return;
	if (heap_sift_up(heap, at, last) == at)
		heap_sift_down(heap, at, last);
}
