/* Watches by path (inside the store). */
#pragma once
#include "base/list.h"
#include "base/map.h"
#include "store/event.h"

struct store_hub_node {
	struct store_hub_node *parent;
	struct map children; /* by segment */
	struct list watches; /* struct store_watch.link, oldest first */
	size_t pins;	     /* deliveries that wait for this path */
	size_t name_len;
	char name[];
};
struct hub {
	struct store_hub_node *root;
	struct list deliveries; /* struct delivery, in order of the events */
	struct list *cursor;	/* the next watch of the first delivery; NULL: it has not begun */
	size_t delivery_count, watch_count;
};

void hub_init(struct hub *hub);
void hub_done(struct hub *hub);
void hub_add(struct hub *hub, struct store_watch *watch, struct slice path);
void hub_remove(struct hub *hub, struct store_watch *watch);
/* Queues `event` for all whom it concerns. `gone`: the directory that the event removed with all below it,
 * not yet let go; NULL for other events. */
void hub_notify(struct hub *hub, struct store_event *event, struct dir *gone);
bool hub_deliver(struct hub *hub, size_t max_calls);
