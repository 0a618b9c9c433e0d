/* A trie of the watched paths: an event finds those it concerns along its own path, and when a directory
 * goes, those below it that exist, whatever the number of other watchers. Applying an event only queues
 * (event, path) pairs; the watchers of a path are called later in slices. A watch that begins in between is
 * not called for older events, since its `since` is above their index. */
#include "store/hub.h"
#include "base/memory.h"
#include "store/tree.h"

struct delivery {
	struct list link;
	struct store_event *event;   /* owned reference */
	struct store_hub_node *node; /* pinned */
	bool all;		     /* else only recursive watches */
};

static struct store_hub_node *hub_node_new(struct store_hub_node *parent, struct slice name)
{
	struct store_hub_node *node = mem_calloc(1, sizeof(*node) + name.len);

	node->parent = parent;
	node->name_len = name.len;
	if (name.len)
		memcpy(node->name, name.data, name.len);
	map_init(&node->children, 0);
	list_init(&node->watches);
	return node;
}

void hub_init(struct hub *hub)
{
	*hub = (struct hub){.root = hub_node_new(NULL, slice_make("", 0))};
	list_init(&hub->deliveries);
}

/* Lets go of a node that nothing needs any more, and of its parents in the same way. */
static void hub_node_release(struct store_hub_node *node)
{
	while (node->parent && !node->pins && list_empty(&node->watches) && !node->children.count) {
		struct store_hub_node *parent = node->parent;

		(void)map_remove(&parent->children, slice_make(node->name, node->name_len));
		map_done(&node->children);
		free(node);
		node = parent;
	}
}

static void delivery_done(struct hub *hub, struct delivery *delivery)
{
	list_remove(&delivery->link);
	hub->delivery_count--;
	delivery->node->pins--;
	hub_node_release(delivery->node);
	(void)store_event_unref(delivery->event);
	free(delivery);
}

void hub_done(struct hub *hub)
{
	list_for_each_safe (it, &hub->deliveries)
		delivery_done(hub, list_item(it, struct delivery, link));
	assert(!hub->watch_count); /* else a watch outlives its store */
	map_done(&hub->root->children);
	free(hub->root);
	*hub = (struct hub){0};
}

void hub_add(struct hub *hub, struct store_watch *watch, struct slice path)
{
	struct store_hub_node *node = hub->root, *child;
	struct slice segment;
	size_t position = 0;

	while (tree_path_next(path, &position, &segment)) {
		child = map_get(&node->children, segment);
		if (!child) {
			child = hub_node_new(node, segment);
			(void)map_put(&node->children, segment, child);
		}
		node = child;
	}
	watch->at = node;
	watch->active = true;
	list_push_back(&node->watches, &watch->link);
	hub->watch_count++;
}

void hub_remove(struct hub *hub, struct store_watch *watch)
{
	if (!watch->active)
		return;
	if (hub->cursor == &watch->link)
		hub->cursor = watch->link.next;
	list_remove(&watch->link);
	watch->active = false;
	hub->watch_count--;
	hub_node_release(watch->at);
	watch->at = NULL;
}

static void hub_queue(struct hub *hub, struct store_event *event, struct store_hub_node *node, bool all)
{
	struct delivery *delivery;

	if (list_empty(&node->watches))
		return;
	delivery = mem_new(struct delivery);
	delivery->event = store_event_ref(event);
	delivery->node = node;
	delivery->all = all;
	node->pins++;
	list_push_back(&hub->deliveries, &delivery->link);
	hub->delivery_count++;
}

struct below {
	struct store_hub_node *node;
	struct dir *dir;
};

/* Everybody who watches something that exists below a directory that goes. */
static void hub_notify_below(
	struct hub *hub, struct store_event *event, struct store_hub_node *top, struct dir *gone)
{
	struct below *todo = mem_new_array(struct below, 16);
	size_t count = 0, cap = 16;

	todo[count++] = (struct below){top, gone};
	while (count > 0) {
		struct below here = todo[--count];
		struct slice name;
		size_t position = 0;
		void *value;

		while (map_next(&here.node->children, &position, &name, &value)) {
			struct entry *entry = dir_child(here.dir, name);

			if (!entry)
				continue;
			hub_queue(hub, event, value, true);
			if (!entry_is_dir(entry))
				continue;
			if (count == cap) {
				cap *= 2;
				todo = mem_reallocarray(todo, cap, sizeof(*todo));
			}
			todo[count++] = (struct below){value, entry_dir(entry)};
		}
	}
	free(todo);
}

/* A segment that begins with '_' at or after `from`. */
static bool path_hidden_from(struct slice path, size_t from)
{
	for (size_t i = from; i + 1 < path.len; i++)
		if (path.data[i] == '/' && path.data[i + 1] == '_')
			return true;
	return false;
}

void hub_notify(struct hub *hub, struct store_event *event, struct dir *gone)
{
	struct slice path = store_event_path(event), segment;
	struct store_hub_node *node = hub->root;
	size_t position = 0;

	for (;;) {
		bool exact = position == path.len;

		if (exact || !path_hidden_from(path, position))
			hub_queue(hub, event, node, exact);
		if (!tree_path_next(path, &position, &segment))
			break;
		node = map_get(&node->children, segment);
		if (!node)
			return;
	}
	if (gone)
		hub_notify_below(hub, event, node, gone);
}

bool hub_deliver(struct hub *hub, size_t max_calls)
{
	while (!list_empty(&hub->deliveries)) {
		struct delivery *delivery = list_first(&hub->deliveries, struct delivery, link);

		if (!hub->cursor)
			hub->cursor = delivery->node->watches.next;
		while (hub->cursor != &delivery->node->watches) {
			struct store_watch *watch = list_item(hub->cursor, struct store_watch, link);

			if (max_calls-- == 0)
				return true;
			hub->cursor = hub->cursor->next;
			if (!(delivery->all || watch->recursive) ||
				store_event_index(delivery->event) < watch->since)
				continue;
			if (!watch->stream)
				hub_remove(hub, watch);
			watch->fn(watch, delivery->event);
		}
		hub->cursor = NULL;
		delivery_done(hub, delivery);
	}
	return false;
}
