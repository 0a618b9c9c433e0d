/* Log entries' bytes against the store: the input is a list of commands, each behind a length byte. Two
 * stores get the same: one is read, watched and held by snapshots in between, the other is not. They must
 * answer the same and end with the same hash, and what was held must not have changed. */
#include "base/memory.h"
#include "store/store.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(struct store_watch *watch, struct store_event *event)
{
	(void)watch;
	if (!store_event_json(event).len)
		abort();
}

static uint64_t walk(struct store_snapshot *snapshot)
{
	struct store_cursor *cursor = store_cursor_open(snapshot);
	struct store_node_info info;
	uint64_t sum = 0;

	while (store_cursor_next(cursor, &info))
		sum = sum * 31 + info.path.len + info.value.len * 7 + info.modified_index * 13 +
		      (uint64_t)info.expires_ns;
	(void)store_cursor_free(cursor);
	return sum;
}

static void same(const struct store_result *one, const struct store_result *other)
{
	if (one->error != other->error || one->index != other->index || !one->event != !other->event ||
		one->expired != other->expired)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store *busy = store_new(), *quiet = store_new();
	struct store_snapshot *held = NULL;
	struct store_watch watch = {0};
	struct store_event *event = NULL;
	struct store_result result, other;
	uint64_t held_sum = 0;
	unsigned step = 0;

	for (size_t at = 0; at < size; step++) {
		size_t len = MIN((size_t)data[at] + 1, size - at - 1);
		struct slice command = slice_make(data + at + 1, len);
		int r = store_apply(busy, command, &result);

		at += len + 1;
		if (r != store_apply(quiet, command, &other))
			abort();
		if (r == 0) {
			_cleanup_buf_ struct buf out = BUF_INIT(0);

			same(&result, &other);
			if (result.event)
				on_event(&watch, result.event);
			store_result_done(&result);
			store_result_done(&other);
			store_get(busy, slice_str("/"), true, 0, &out, &result);
			store_result_done(&result);
		}
		if (step % 3 == 0) {
			if (held && walk(held) != held_sum)
				abort();
			(void)store_snapshot_free(held);
			held = store_snapshot_take(busy);
			held_sum = walk(held);
		}
		if (step % 5 == 0 && !watch.active &&
			store_watch_start(busy, &watch, slice_str("/1"), true, step % 2, step / 2, on_event,
				&event, &result) == 1)
			event = store_event_unref(event);
		else if (step % 5 == 0)
			store_result_done(&result);
		if (step % 2)
			(void)store_deliver(busy, 3);
	}
	if (held && walk(held) != held_sum)
		abort();
	if (store_hash(busy) != store_hash(quiet) || store_nodes(busy) != store_nodes(quiet))
		abort();
	(void)store_snapshot_free(held);
	store_watch_stop(busy, &watch);
	(void)store_free(busy);
	(void)store_free(quiet);
	return 0;
}
