/* Watches. Each member's whole store is watched by a stream: its events must follow each other without a gap,
 * and none may be missing when all of them were delivered. What an index stands for is the same on all
 * members, for ever. A few clients poll for one event after the other, wherever they find a member; none of
 * the events that concern them may be passed over, but when the answer says that the history was cleared, and
 * then it must have been. */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"
#include <inttypes.h>
#include <stdio.h>

#define HISTORY_EVENTS 1000 /* what a store keeps */

static struct known_event *known_at(struct world *world, uint64_t index)
{
	if (index >= world->known_cap) {
		size_t cap = MAX((size_t)index * 2, (size_t)1024);

		world->known = mem_reallocarray(world->known, cap, sizeof(*world->known));
		memset(world->known + world->known_cap, 0, (cap - world->known_cap) * sizeof(*world->known));
		world->known_cap = cap;
	}
	return &world->known[index];
}

/* The value that an event's JSON shows behind `field`; LIN_ABSENT when there is none. */
static uint32_t json_value(struct slice json, const char *field)
{
	const char *at = memmem(json.data, json.len, field, strlen(field));
	const char *value = at ? strstr(at, "\"value\":\"v") : NULL;

	return value ? (uint32_t)strtoul(value + 10, NULL, 10) : LIN_ABSENT;
}

static void check_expiry(struct member *member, struct store_event *event)
{
	struct world *world = member->world;
	const struct lifetime *lifetime;
	struct node_status status;
	uint32_t value;

	world->summary->expired++;
	value = json_value(store_event_json(event), "\"prevNode\"");
	if (value == LIN_ABSENT || value >= world->next_value || !world->lifetimes[value].expires_ns) {
		world_finding(world, "a key expired that had no expiry time: v%u", value);
		return;
	}
	lifetime = &world->lifetimes[value];
	node_get_status(member->node, &status);
	if (lifetime->expires_ns > store_clock_ns(node_store(member->node)))
		world_finding(world, "v%u expired before its time", value);
	/* Under one leader the cluster clock runs at most 1/64 too fast, plus what the oscillators differ;
	 * its first step after the key was set also makes up for the time before, 200 ms at most
	 * (node/clock.c). */
	if (status.term == lifetime->term &&
		world->now_ns - lifetime->set_ns < lifetime->ttl_ns - lifetime->ttl_ns / 50 - 4 * NS_PER_MS)
		world_finding(world, "v%u lived too short", value);
}

/* What one member says of an index, all say. */
static void learn(struct world *world, struct store_event *event)
{
	uint64_t index = store_event_index(event);
	struct known_event *known = known_at(world, index);
	struct slice json = store_event_json(event), path = store_event_path(event);
	uint64_t hash = hash_bytes(json.data, json.len, 7) | 1;

	if (world->options->contradict)
		return; /* a false member tells false ones */
	if (!known->hash) {
		known->hash = hash;
		(void)snprintf(known->path, sizeof(known->path), "%.*s", (int)path.len, path.data);
	} else if (known->hash != hash) {
		world_finding(world, "members tell different events of store index %" PRIu64, index);
	}
}

/* ---- The stream of each member ---- */

static void on_event(struct store_watch *watch, struct store_event *event)
{
	struct member *member = container_of(watch, struct member, root_watch);
	uint64_t index = store_event_index(event);

	if (index != member->root_last + 1)
		world_finding(member->world, "a stream on member %u goes from index %" PRIu64 " to %" PRIu64,
			member->number, member->root_last, index);
	member->root_last = index;
	member->world->summary->stream_events++;
	learn(member->world, event);
	if (store_event_action(event) == STORE_ACTION_EXPIRE)
		check_expiry(member, event);
}

/* A start replays what no stream has seen: the history tells. */
static void learn_history(struct member *member)
{
	struct world *world = member->world;
	struct store *store = node_store(member->node);
	struct store_watch watch = {0};

	while (world->known_upto < store_index(store)) {
		struct store_result result = {0};
		struct store_event *event = NULL;
		int r = store_watch_start(store, &watch, slice_str("/"), true, false, world->known_upto + 1,
			on_event, &event, &result);

		world->known_upto++;
		if (r == 1) {
			learn(world, event);
			world->known_upto = store_event_index(event);
		} else if (r == 0) {
			store_watch_stop(store, &watch);
		}
		store_event_unref(event);
		store_result_done(&result);
	}
}

void watcher_start(struct member *member)
{
	struct store *store = node_store(member->node);
	struct store_result result = {0};
	struct store_event *event = NULL;
	int r;

	memset(&member->root_watch, 0, sizeof(member->root_watch));
	r = store_watch_start(
		store, &member->root_watch, slice_str("/"), true, true, 0, on_event, &event, &result);
	member->watching = r == 0;
	member->root_last = store_index(store);
	if (r != 0)
		world_finding(member->world, "cannot watch: %d", r);
	store_event_unref(event);
	store_result_done(&result);
	learn_history(member);
}

static void deliver(struct member *member, struct store *store)
{
	while (store_deliver(store, 100))
		;
	if (member->watching && member->root_last != store_index(store))
		world_finding(member->world,
			"a stream on member %u ends at index %" PRIu64 ", the store is at %" PRIu64,
			member->number, member->root_last, store_index(store));
	if (member->world->known_upto < member->root_last)
		member->world->known_upto = member->root_last;
}

void watcher_turn(struct member *member)
{
	if (!member->watching)
		watcher_start(member);
	deliver(member, node_store(member->node));
}

/* ---- Chains of polls ---- */

static bool concerns(const struct chain *chain, const char *path)
{
	size_t len = strlen(chain->path);

	if (strcmp(path, chain->path) == 0)
		return true;
	return chain->recursive && strncmp(path, chain->path, len) == 0 && path[len] == '/';
}

static void poll_again(struct chain *chain)
{
	struct world *world = chain->world;

	world_at(world, world->now_ns + 1000 + world_rand(world, world->profile.think_ns), EVENT_POLL, 0,
		chain->number);
}

static void take_event(struct chain *chain, struct store_event *event)
{
	struct world *world = chain->world;
	uint64_t index = store_event_index(event);

	world->summary->poll_events++;
	if (index <= chain->last)
		world_finding(world, "a poll from index %" PRIu64 " on was answered with index %" PRIu64,
			chain->last + 1, index);
	learn(world, event);
	for (uint64_t i = chain->last + 1; i < index && i < world->known_cap; i++)
		if (world->known[i].hash && concerns(chain, world->known[i].path))
			world_finding(world,
				"a poll on %s from index %" PRIu64 " on was answered with index %" PRIu64
				": it missed %" PRIu64,
				chain->path, chain->last + 1, index, i);
	if (!concerns(chain, known_at(world, index)->path))
		world_finding(
			world, "a poll on %s was told of %s", chain->path, known_at(world, index)->path);
	chain->last = index;
	world_trace(world, 2000 + chain->number, index);
}

static void on_poll_event(struct store_watch *watch, struct store_event *event)
{
	struct chain *chain = container_of(watch, struct chain, watch);

	chain->member = NULL;
	take_event(chain, event);
	poll_again(chain);
}

/* 401: all that was asked for must really be gone. */
static void cleared(struct chain *chain, const struct store *store)
{
	struct world *world = chain->world;

	world->summary->polls_cleared++;
	/* Of large values fewer are kept. */
	if (!world->profile.large && chain->last + HISTORY_EVENTS >= store_index(store))
		world_finding(world,
			"a poll from index %" PRIu64 " on was refused as cleared, the store is at %" PRIu64,
			chain->last + 1, store_index(store));
	chain->last = store_index(store);
}

void watcher_poll(struct world *world, struct chain *chain)
{
	struct member *member = &world->members[rng_below(&world->rng, world->member_count)];
	struct store_result result = {0};
	struct store_event *event = NULL;
	int r;

	if (chain->member)
		return;
	if (!member->node || member->paused_until_ns > world->now_ns) {
		poll_again(chain);
		return;
	}
	memset(&chain->watch, 0, sizeof(chain->watch));
	r = store_watch_start(node_store(member->node), &chain->watch, slice_str(chain->path),
		chain->recursive, false, chain->last + 1, on_poll_event, &event, &result);
	if (r == 0)
		chain->member = member;
	else if (r == 1)
		take_event(chain, event);
	else
		cleared(chain, node_store(member->node));
	if (r != 0)
		poll_again(chain);
	store_event_unref(event);
	store_result_done(&result);
}

void watcher_init(struct world *world)
{
	for (unsigned i = 0; i < world->profile.chains; i++) {
		struct chain *chain = &world->chains[i];

		chain->world = world;
		chain->number = i;
		chain->recursive = i != 0;
		(void)snprintf(chain->path, sizeof(chain->path), "%s",
			i == 0	 ? STORE_USER_PREFIX "/k0"
			: i == 1 ? STORE_USER_PREFIX
			: i == 2 ? STORE_USER_PREFIX "/ttl"
				 : STORE_USER_PREFIX "/q");
		world_at(world, world_rand(world, NS_PER_S), EVENT_POLL, 0, i);
	}
}

/* ---- Ends ---- */

/* Whoever watched this store gets an empty answer, and asks again. */
void watcher_stop(struct member *member, struct store *store)
{
	struct world *world = member->world;

	deliver(member, store);
	if (member->watching)
		store_watch_stop(store, &member->root_watch);
	member->watching = false;
	for (unsigned i = 0; i < world->profile.chains; i++) {
		struct chain *chain = &world->chains[i];

		if (chain->member != member)
			continue;
		store_watch_stop(store, &chain->watch);
		chain->member = NULL;
		world->summary->watches_ended++;
		poll_again(chain);
	}
}

void watcher_check(struct world *world)
{
	for (size_t i = 0; i < world->ops_len; i++) {
		const struct op *op = world->ops[i];

		if (op->lin.result != LIN_OK || !op->event_hash)
			continue;
		if (known_at(world, op->index)->hash != op->event_hash)
			world_finding(world,
				"the write acknowledged with index %" PRIu64
				" was told otherwise, or not at all, to whoever watched",
				op->index);
	}
}
