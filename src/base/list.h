/* Intrusive doubly linked list with a sentinel. An item that is in no list links to itself. */
#pragma once
#include "base/macros.h"

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(name)          \
	{                        \
		&(name), &(name) \
	}

static inline void list_init(struct list *list)
{
	list->prev = list->next = list;
}
static inline bool list_empty(const struct list *list)
{
	return list->next == list;
}
static inline void list_insert_before(struct list *at, struct list *item)
{
	item->prev = at->prev;
	item->next = at;
	at->prev->next = item;
	at->prev = item;
}
static inline void list_push_back(struct list *list, struct list *item)
{
	list_insert_before(list, item);
}
static inline void list_push_front(struct list *list, struct list *item)
{
	list_insert_before(list->next, item);
}
static inline void list_remove(struct list *item) /* harmless on an item that is in no list */
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}
/* Appends everything of `from` to `list`; `from` is empty afterwards. */
static inline void list_splice_back(struct list *list, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = list->prev;
	list->prev->next = from->next;
	from->prev->next = list;
	list->prev = from->prev;
	list_init(from);
}
#define list_item(ptr, type, member) container_of(ptr, type, member)
#define list_first(list, type, member) list_item((list)->next, type, member)
/* Loops with `struct list *it`; the safe form may remove `it`. */
#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_for_each_safe(it, head)                                              \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head); \
		it = it##_next, it##_next = it->next)
