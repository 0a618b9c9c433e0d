/* Lists, maps and heaps, against plain arrays under random histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/rng.h"

struct item {
	struct list link;
	struct heap_item heap_item;
	int value;
	bool in;
};

static void lists_keep_their_order(void **state)
{
	struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
	struct list list = LIST_INIT(list), other = LIST_INIT(other);
	int seen = 0;

	(void)state;
	assert_true(list_empty(&list));
	list_splice_back(&list, &other);
	assert_true(list_empty(&list));
	list_push_back(&list, &items[1].link);
	list_push_front(&list, &items[0].link);
	list_push_back(&other, &items[2].link);
	list_push_back(&other, &items[3].link);
	list_splice_back(&list, &other);
	assert_true(list_empty(&other));
	list_for_each (it, &list)
		assert_int_equal(list_item(it, struct item, link)->value, seen++);
	assert_int_equal(seen, 4);
	list_for_each_safe (it, &list) {
		if (list_item(it, struct item, link)->value % 2)
			list_remove(it);
	}
	list_remove(&items[1].link); /* once more is harmless */
	assert_int_equal(list_first(&list, struct item, link)->value, 0);
	assert_int_equal(list_item(list.prev, struct item, link)->value, 2);
}

static void a_map_agrees_with_an_array(void **state)
{
	enum { KEYS = 500 };
	void *model[KEYS] = {0};
	struct map map;
	struct rng rng;

	(void)state;
	rng_seed(&rng, 7);
	map_init(&map, 42);
	for (int step = 0; step < 50000; step++) {
		size_t k = rng_below(&rng, KEYS), count = 0;
		char key[20];
		struct slice name = slice_make(key, (size_t)snprintf(key, sizeof(key), "%zu", k));

		switch (rng_below(&rng, 3)) {
		case 0:
			assert_ptr_equal(map_put(&map, name, &model[step % KEYS]), model[k]);
			model[k] = &model[step % KEYS];
			break;
		case 1:
			assert_ptr_equal(map_remove(&map, name), model[k]);
			model[k] = NULL;
			break;
		default:
			assert_ptr_equal(map_get(&map, name), model[k]);
		}
		if (step % 5000)
			continue;
		for (size_t i = 0; i < KEYS; i++)
			count += model[i] != NULL;
		assert_int_equal(map.count, count);
	}
	{
		size_t position = 0, count = map.count;
		struct slice key;
		void *value;

		while (map_next(&map, &position, &key, &value)) {
			assert_ptr_equal(map_remove(&map, key), value);
			count--;
		}
		assert_int_equal(count, 0);
		assert_int_equal(map.count, 0);
	}
	map_done(&map);
}

static void map_keys_are_bytes(void **state)
{
	struct map map;
	int a, b, c;

	(void)state;
	map_init(&map, 0);
	assert_null(map_get(&map, SLICE_LITERAL("")));
	map_put(&map, SLICE_LITERAL("x\0y"), &a);
	map_put(&map, SLICE_LITERAL("x"), &b);
	map_put(&map, SLICE_LITERAL(""), &c);
	assert_ptr_equal(map_get(&map, SLICE_LITERAL("x\0y")), &a);
	assert_ptr_equal(map_get(&map, SLICE_LITERAL("x")), &b);
	assert_ptr_equal(map_get(&map, slice_make(NULL, 0)), &c);
	map_done(&map);
}

static bool before(const struct heap_item *a, const struct heap_item *b)
{
	return container_of(a, struct item, heap_item)->value <
	       container_of(b, struct item, heap_item)->value;
}

static void a_heap_always_shows_the_least(void **state)
{
	enum { ITEMS = 1500 }; /* more than one block of them */
	static struct item items[ITEMS];
	struct heap heap;
	struct rng rng;

	(void)state;
	rng_seed(&rng, 3);
	heap_init(&heap, before);
	assert_null(heap_top(&heap));
	for (int step = 0; step < 20000; step++) {
		struct item *item = &items[rng_below(&rng, ITEMS)];
		int least = INT32_MAX;

		if (item->in || rng_chance(&rng, 200000)) {
			heap_remove(&heap, &item->heap_item);
			item->in = false;
		} else {
			item->value = (int)rng_below(&rng, 1000);
			heap_insert(&heap, &item->heap_item);
			item->in = true;
		}
		for (size_t i = 0; i < ITEMS; i++)
			if (items[i].in && items[i].value < least)
				least = items[i].value;
		if (least == INT32_MAX)
			assert_null(heap_top(&heap));
		else
			assert_int_equal(container_of(heap_top(&heap), struct item, heap_item)->value, least);
	}
	heap_done(&heap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_keep_their_order),
		cmocka_unit_test(a_map_agrees_with_an_array),
		cmocka_unit_test(map_keys_are_bytes),
		cmocka_unit_test(a_heap_always_shows_the_least),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
