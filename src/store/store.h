/* The replicated state machine with etcd v2 semantics: key tree, event history, watches, expiry, cluster
 * clock.
 *
 * Pure and deterministic: the same commands in the same order give the same state, the same store_hash() and
 * the same results on every member. No clock, no I/O, no threads; time enters as values in commands and as
 * `now_ns` of reads. One owner, one thread (snapshot handles and events included: their counts are not
 * atomic).
 *
 * Paths here are the store's own: "/1/foo" is the user's key /foo (STORE_USER_PREFIX in command.h), "/0"
 * holds the cluster's bookkeeping, which takes indices and history slots like everything else. JSON shows
 * user paths. The index counts changes (etcd's index), it is not the log's. */
#pragma once
#include "base/buf.h"
#include "base/list.h"
#include "store/command.h"
#include "store/errors.h"

struct store;
struct store_event;
struct store_hub_node;

struct store *store_new(void); /* holds /0 and /1, index 0, clock 0 */
struct store *store_free(
	struct store *store); /* all watches stopped, all snapshots and readers released before */
DEFINE_CLEANUP(struct store *, store_free)
/* The same in slices of about `budget` blocks, so that the end of a large store holds nothing up: answers
 * what is to be called again with, NULL when it is gone. After the first call nothing else may be asked of
 * it. */
struct store *store_free_some(struct store *store, size_t budget) _must_check_;
/* Whether snapshots or readers of it are open. */
bool store_is_read(const struct store *store);

/* ---- changes ---- */

/* What a command or a read came to. Owned by the caller: store_result_done(). */
struct store_result {
	enum store_error error;	   /* STORE_OK or etcd's error code */
	char *cause;		   /* owned; NULL: none. User path form, as the error body shows it */
	uint64_t index;		   /* the store index after the command (the write's own when it succeeded) */
	struct store_event *event; /* owned reference; NULL on error, for TICK and for reads */
	uint32_t expired;	   /* TICK: how many nodes went */
};
void store_result_done(struct store_result *result);

/* Applies one encoded command. 0 and a result (which may be an etcd error: those are ordinary outcomes), or
 * -EBADMSG with nothing changed when the bytes are no valid command. */
int store_apply(struct store *store, struct slice command, struct store_result *ret_result) _must_check_;

uint64_t store_index(const struct store *store);
int64_t store_clock_ns(const struct store *store); /* cluster clock: the highest TICK applied */
/* When the next node expires (cluster clock, ns), INT64_MAX when none does. The leader proposes a TICK once
 * its clock has passed this. One TICK takes at most STORE_EXPIRE_MAX nodes: ask again after it was applied.
 */
int64_t store_next_expiry_ns(const struct store *store);
enum { STORE_EXPIRE_MAX = 1000 };

uint64_t store_hash(
	const struct store *store); /* of tree, index and clock; equal on members at the same log position */
uint64_t store_nodes(const struct store *store);	 /* files and directories, roots included */
uint64_t store_history_bytes(const struct store *store); /* of the events that a watch can still be told */

/* Works off up to `budget` blocks of what large deletes and released snapshots left behind (memory, and
 * expiry records of what is gone, until then store_next_expiry_ns() may be too early); true: more is left.
 * Each apply does a little of it as well; the shell calls this when idle. */
bool store_collect(struct store *store, size_t budget);

/* ---- events ---- */

enum store_action {
	STORE_ACTION_GET,
	STORE_ACTION_SET,
	STORE_ACTION_CREATE,
	STORE_ACTION_UPDATE,
	STORE_ACTION_COMPARE_AND_SWAP,
	STORE_ACTION_DELETE,
	STORE_ACTION_COMPARE_AND_DELETE,
	STORE_ACTION_EXPIRE,
	STORE_ACTION_MAX,
};
const char *store_action_name(enum store_action action); /* "compareAndSwap" */

struct store_event *store_event_ref(struct store_event *event);
struct store_event *store_event_unref(struct store_event *event);
DEFINE_CLEANUP(struct store_event *, store_event_unref)
enum store_action store_event_action(const struct store_event *event);
uint64_t store_event_index(const struct store_event *event);
struct slice store_event_path(const struct store_event *event); /* the store's own path */
bool store_event_has_prev(const struct store_event *event);
/* The event's JSON with its newline, written at the first call and kept while anybody but the history holds
 * the event. */
struct slice store_event_json(struct store_event *event);
/* HTTP 201 for create and for a set that made the key, else 200. */
int store_event_http_status(const struct store_event *event);

/* ---- reads ---- */

/* Appends {"action":"get",...} and a newline for the node at `path`, children sorted by name, hidden ones
 * left out, ttl counted from now_ns. Answers the error in ret_result (100, 104) with nothing appended. Counts
 * in the statistics. */
void store_get(struct store *store, struct slice path, bool recursive, int64_t now_ns, struct buf *out,
	struct store_result *ret_result);

/* The same in slices from a snapshot: NULL on error (in ret_result). Step appends about `budget_bytes` at a
 * time; true: there is more. Writes may go on between the steps. */
struct store_reader;
struct store_reader *store_reader_open(struct store *store, struct slice path, bool recursive, int64_t now_ns,
	struct store_result *ret_result);
bool store_reader_step(struct store_reader *reader, struct buf *out, size_t budget_bytes);
struct store_reader *store_reader_free(struct store_reader *reader);
DEFINE_CLEANUP(struct store_reader *, store_reader_free)

/* One node without JSON, for the server's own use; does not count in the statistics. False: no file at this
 * path. The value is borrowed until the next store_apply(). */
bool store_peek(const struct store *store, struct slice path, struct slice *ret_value);
/* Children of a directory one after the other by name: the first whose name is above `after` ("" to begin).
 * False: none. */
bool store_next_child(const struct store *store, struct slice dir_path, struct slice after,
	struct slice *ret_name, bool *ret_is_dir);

/* ---- snapshots ---- */

/* A handle on the tree as it is now: O(1), and from then on costs only what changes. Walk it in slices with a
 * cursor. */
struct store_snapshot;
struct store_snapshot *store_snapshot_take(struct store *store);
struct store_snapshot *store_snapshot_free(struct store_snapshot *snapshot);
DEFINE_CLEANUP(struct store_snapshot *, store_snapshot_free)
uint64_t store_snapshot_index(const struct store_snapshot *snapshot);
uint64_t store_snapshot_hash(const struct store_snapshot *snapshot);

struct store_node_info {
	struct slice path; /* the store's own; borrowed until the next step */
	bool is_dir, has_expiry;
	int64_t expires_ns;
	uint64_t created_index, modified_index;
	struct slice value; /* of a file; borrowed while the snapshot lives */
};
/* Depth first, children by name, parents before children, the root ("/") first. One cursor per snapshot at a
 * time is enough; several are allowed. Free the cursor before its snapshot. */
struct store_cursor;
struct store_cursor *store_cursor_open(struct store_snapshot *snapshot);
bool store_cursor_next(struct store_cursor *cursor, struct store_node_info *ret_info);
struct store_cursor *store_cursor_free(struct store_cursor *cursor);
DEFINE_CLEANUP(struct store_cursor *, store_cursor_free)

/* ---- watches ---- */

/* Embedded in the watcher's own structure, zeroed before the first use; the fields are the store's. */
struct store_watch {
	struct list link;
	struct store_hub_node *at;
	uint64_t since;
	bool recursive, stream, active;
	void (*fn)(struct store_watch *watch, struct store_event *event);
};
/* Watches `path` from index `since` on (0: from now). Answers
 *    1  the history had the first event: *ret_event is an owned reference, nothing was registered (for a
 * stream too: the original sends this one event and then stays silent) 0  registered: fn is called from
 * store_deliver() with each event (borrowed), once and then unregistered unless `stream` -1  error in
 * ret_result (401, the history has been cleared) */
int store_watch_start(struct store *store, struct store_watch *watch, struct slice path, bool recursive,
	bool stream, uint64_t since, void (*fn)(struct store_watch *watch, struct store_event *event),
	struct store_event **ret_event, struct store_result *ret_result) _must_check_;
void store_watch_stop(
	struct store *store, struct store_watch *watch); /* harmless when not registered; allowed inside fn */
/* Makes up to `max_calls` calls of watchers' fn for events that were applied; true: more are waiting. fn may
 * start and stop watches, and must not apply. The shell calls this every turn with a budget: what waits holds
 * its events. */
bool store_deliver(struct store *store, size_t max_calls);
size_t store_undelivered(
	const struct store *store); /* (event, path) pairs that wait; a shell that falls behind spends more */

/* ---- statistics: this member's, not part of the state ---- */

struct store_stats {
	uint64_t gets_success, gets_fail, sets_success, sets_fail, delete_success, delete_fail,
		update_success, update_fail, create_success, create_fail, cas_success, cas_fail, cad_success,
		cad_fail, expire_count, watchers;
};
void store_get_stats(const struct store *store, struct store_stats *ret_stats);
void store_stats_add_json(
	const struct store_stats *stats, struct buf *out); /* as /v2/stats/store, no newline */
