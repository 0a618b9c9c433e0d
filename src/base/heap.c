#include "base/heap.h"
#include "base/memory.h"

void heap_init(struct heap *heap, bool (*before)(const struct heap_item *a, const struct heap_item *b))
{
	*heap = (struct heap){.before = before};
}

void heap_done(struct heap *heap)
{
	for (size_t i = 0; i < heap->count; i++)
		heap->items[i]->position = 0;
	free(heap->items);
	*heap = (struct heap){.before = heap->before};
}

struct heap_item *heap_top(const struct heap *heap)
{
	return heap->count ? heap->items[0] : NULL;
}

static void heap_place(struct heap *heap, size_t at, struct heap_item *item)
{
	heap->items[at] = item;
	item->position = at + 1;
}

static size_t heap_sift_up(struct heap *heap, size_t at, struct heap_item *item)
{
	while (at > 0) {
		size_t parent = (at - 1) / 2;

		if (!heap->before(item, heap->items[parent]))
			break;
		heap_place(heap, at, heap->items[parent]);
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
		if (child + 1 < heap->count && heap->before(heap->items[child + 1], heap->items[child]))
			child++;
		if (!heap->before(heap->items[child], item))
			break;
		heap_place(heap, at, heap->items[child]);
		at = child;
	}
	heap_place(heap, at, item);
}

void heap_insert(struct heap *heap, struct heap_item *item)
{
	assert(!item->position);
	if (heap->count == heap->cap) {
		heap->cap = heap->cap ? heap->cap * 2 : 16;
		heap->items = mem_reallocarray(heap->items, heap->cap, sizeof(*heap->items));
	}
	heap->count++;
	(void)heap_sift_up(heap, heap->count - 1, item);
}

void heap_remove(struct heap *heap, struct heap_item *item)
{
	size_t at = item->position - 1;
	struct heap_item *last;

	if (!item->position)
		return;
	assert(heap->items[at] == item);
	item->position = 0;
	last = heap->items[--heap->count];
	if (last == item)
		return;
	if (heap_sift_up(heap, at, last) == at)
		heap_sift_down(heap, at, last);
}
