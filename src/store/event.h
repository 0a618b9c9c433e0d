/* Events (inside the store): what happened to one node, with the file values they refer to, and their JSON.
 */
#pragma once
#include "store/store.h"
#include "store/tree.h"

/* One of an event's two nodes. */
struct event_node {
	bool present, dir, has_expiry;
	struct entry *file; /* owned reference; whose value is shown. NULL: none is */
	uint64_t created, modified;
	int64_t expires_ns, ttl_s;
};
struct store_event {
	uint32_t refs;
	enum store_action action;
	bool refresh; /* wakes no watcher and is skipped by history reads */
	struct event_node node, prev;
	char *json; /* owned; written when first asked for */
	size_t json_len;
	size_t path_len;
	char path[]; /* the store's own */
};

/* A new event with one reference and nothing but index (= the node's modified) and created set. */
struct store_event *event_new(
	enum store_action action, struct slice path, uint64_t modified, uint64_t created);
void event_node_set_expiry(struct event_node *node, bool has_expiry, int64_t expires_ns, int64_t now_ns);
/* What it may hold in memory: with its values, whether or not others hold them too. Never changes once it is
 * complete. */
uint64_t event_bytes(const struct store_event *event);
/* Shows `entry` as the node it is now; takes a reference on a file. */
void event_node_show(struct event_node *node, struct entry *entry, int64_t now_ns);

/* Seconds left, rounded up, as Go's arithmetic has it. */
int64_t event_ttl_s(int64_t expires_ns, int64_t now_ns);
struct slice event_user_path(struct slice path); /* without the user prefix */
/* The fields before "nodes" and after it, without braces. Nothing is written for what is absent. */
void event_add_head(struct buf *out, struct slice path, const struct slice *value, bool dir, bool has_expiry,
	int64_t expires_ns, int64_t ttl_s);
void event_add_tail(struct buf *out, uint64_t modified, uint64_t created);
