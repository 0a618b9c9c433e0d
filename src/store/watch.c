/* Watches begin with a look into the history; its quirks are the original's (facts of the recordings): it
 * shows hidden keys, and a removed directory matches by raw prefix. */
#include "store/state.h"
#include "base/memory.h"

static bool history_matches(const struct store_event *event, struct slice path, bool recursive)
{
	struct slice at = store_event_path(event);
	bool removed = event->action == STORE_ACTION_DELETE || event->action == STORE_ACTION_EXPIRE;

	if (slice_equal(at, path))
		return true;
	if (recursive && slice_starts_with(at, path) && (path.len == 1 || at.data[path.len] == '/'))
		return true;
	return removed && event->prev.dir && slice_starts_with(path, at);
}

int store_watch_start(struct store *store, struct store_watch *watch, struct slice path, bool recursive,
	bool stream, uint64_t since, void (*fn)(struct store_watch *watch, struct store_event *event),
	struct store_event **ret_event, struct store_result *ret_result)
{
	assert(!watch->active);
	if (since == 0)
		since = store->index + 1;
	*ret_result = (struct store_result){.index = store->index};
	if (since < store->first_kept) {
		ret_result->error = STORE_EVENT_INDEX_CLEARED;
		ret_result->cause = mem_printf("the requested history has been cleared [%llu/%llu]",
			(unsigned long long)store->first_kept, (unsigned long long)since);
		return -1;
	}
	for (uint64_t index = since; store->first_kept && index <= store->index; index++) {
		struct store_event *event = store->history[index % STORE_HISTORY_MAX];

		if (!event->refresh && history_matches(event, path, recursive)) {
			*ret_event = store_event_ref(event);
			return 1;
		}
	}
	/* Older events than this may still wait for delivery; they are none of this watch's business. */
	watch->since = MAX(since, store->index + 1);
	watch->recursive = recursive;
	watch->stream = stream;
	watch->fn = fn;
	hub_add(&store->hub, watch, path);
	return 0;
}

void store_watch_stop(struct store *store, struct store_watch *watch)
{
	hub_remove(&store->hub, watch);
}

bool store_deliver(struct store *store, size_t max_calls)
{
	return hub_deliver(&store->hub, max_calls);
}

size_t store_undelivered(const struct store *store)
{
	return store->hub.delivery_count;
}

void store_get_stats(const struct store *store, struct store_stats *ret_stats)
{
	*ret_stats = store->stats;
	ret_stats->watchers = store->hub.watch_count;
}

void store_stats_add_json(const struct store_stats *stats, struct buf *out)
{
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{"getsSuccess", stats->gets_success},
		{"getsFail", stats->gets_fail},
		{"setsSuccess", stats->sets_success},
		{"setsFail", stats->sets_fail},
		{"deleteSuccess", stats->delete_success},
		{"deleteFail", stats->delete_fail},
		{"updateSuccess", stats->update_success},
		{"updateFail", stats->update_fail},
		{"createSuccess", stats->create_success},
		{"createFail", stats->create_fail},
		{"compareAndSwapSuccess", stats->cas_success},
		{"compareAndSwapFail", stats->cas_fail},
		{"compareAndDeleteSuccess", stats->cad_success},
		{"compareAndDeleteFail", stats->cad_fail},
		{"expireCount", stats->expire_count},
		{"watchers", stats->watchers},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_add_str(out, i ? ",\"" : "{\"");
		buf_add_str(out, rows[i].name);
		buf_add_str(out, "\":");
		buf_add_u64(out, rows[i].value);
	}
	buf_add_char(out, '}');
}
