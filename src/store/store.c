/* Applies commands. Each operation first looks and decides, then changes: a refused command leaves no trace
 * but its count. A change builds its event (which keeps references on the old and the new file), puts it into
 * the history ring under its index and tells the hub. */
#include "store/state.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/time.h"
#include <errno.h>

/* An expiry before the year 2000 counts as none where a node is made, as in the original. */
#define MIN_EXPIRY_NS (INT64_C(946684800) * NS_PER_S)

enum { COLLECT_PER_APPLY = 8, EXPIRIES_PER_BLOCK = 16 };

struct store *store_new(void)
{
	struct store *store = mem_new(struct store);

	tree_init(&store->tree);
	expiry_init(&store->expiry);
	hub_init(&store->hub);
	list_init(&store->forgettings);
	tree_put(&store->tree, slice_str(STORE_CLUSTER_PREFIX), tree_new_dir(slice_str("0"), 0, 0, false, 0),
		0);
	tree_put(&store->tree, slice_str(STORE_USER_PREFIX), tree_new_dir(slice_str("1"), 0, 0, false, 0), 0);
	return store;
}

/* What is bounded goes at once, what is not stays for the slices. */
static void store_end(struct store *store)
{
	assert(!store->handles);
	store->ending = true;
	hub_done(&store->hub);
	for (size_t i = 0; i < STORE_HISTORY_MAX; i++)
		(void)store_event_unref(store->history[i]);
	store_forget_end(store);
	tree_end(&store->tree);
}

struct store *store_free_some(struct store *store, size_t budget)
{
	if (!store)
		return NULL;
	if (!store->ending)
		store_end(store);
	if (tree_collect(&store->tree, budget) || expiry_drop(&store->expiry, budget * EXPIRIES_PER_BLOCK))
		return store;
	expiry_done(&store->expiry);
	tree_done(&store->tree);
	free(store);
	return NULL;
}

struct store *store_free(struct store *store)
{
	while (store)
		store = store_free_some(store, SIZE_MAX / EXPIRIES_PER_BLOCK);
	return NULL;
}

bool store_is_read(const struct store *store)
{
	return store->handles > 0;
}

void store_result_done(struct store_result *result)
{
	free(result->cause);
	(void)store_event_unref(result->event);
	*result = (struct store_result){0};
}

uint64_t store_index(const struct store *store)
{
	return store->index;
}

int64_t store_clock_ns(const struct store *store)
{
	return store->clock_ns;
}

int64_t store_next_expiry_ns(const struct store *store)
{
	struct slice path;
	int64_t expires_ns;

	return expiry_top(&store->expiry, &path, &expires_ns) ? expires_ns : INT64_MAX;
}

uint64_t store_hash(const struct store *store)
{
	return hash_u64(tree_hash(&store->tree) ^ hash_u64(store->index + 1)) +
	       hash_u64((uint64_t)store->clock_ns);
}

uint64_t store_history_bytes(const struct store *store)
{
	return store->history_bytes;
}

uint64_t store_nodes(const struct store *store)
{
	return store->tree.root->below + 1;
}

bool store_collect(struct store *store, size_t budget)
{
	bool more = store_forget_some(store, budget * EXPIRIES_PER_BLOCK);

	return tree_collect(&store->tree, budget) || more;
}

/* ---- outcomes ---- */

void store_fail(const struct store *store, struct store_result *ret_result, enum store_error error,
	struct slice cause)
{
	struct slice shown = event_user_path(cause);

	ret_result->error = error;
	ret_result->index = store->index;
	ret_result->cause = shown.len ? mem_strndup(shown.data, shown.len) : NULL;
}

struct entry *store_find(struct store *store, struct slice path, struct store_result *ret_result)
{
	bool not_dir;
	size_t at;
	struct entry *entry = tree_lookup(store->tree.root, path, &at, &not_dir);

	if (!entry)
		store_fail(store, ret_result, not_dir ? STORE_NOT_DIR : STORE_KEY_NOT_FOUND,
			slice_make(path.data, at));
	return entry;
}

static void history_drop_oldest(struct store *store)
{
	struct store_event **slot = &store->history[store->first_kept++ % STORE_HISTORY_MAX];

	store->history_bytes -= event_bytes(*slot);
	*slot = store_event_unref(*slot);
}

static void history_add(struct store *store, struct store_event *event)
{
	if (!store->first_kept)
		store->first_kept = store->index;
	if (store->index - store->first_kept == STORE_HISTORY_MAX)
		history_drop_oldest(store);
	store->history[store->index % STORE_HISTORY_MAX] = store_event_ref(event);
	store->history_bytes += event_bytes(event);
	while (store->history_bytes > STORE_HISTORY_BYTES_MAX && store->first_kept < store->index)
		history_drop_oldest(store);
}

/* The next index, with the event that takes it, in the history. The result gets the event; watchers hear of
 * it now, so the event must be complete and, for a directory that goes, `gone` still be whole. */
static void store_record(
	struct store *store, struct store_event *event, struct dir *gone, struct store_result *ret_result)
{
	store->index++;
	assert(event->node.modified == store->index);
	history_add(store, event);
	if (!event->refresh)
		hub_notify(&store->hub, event, gone);
	ret_result->index = store->index;
	ret_result->event = event;
}

static bool path_is_root(struct slice path)
{
	return slice_is(path, "/") || slice_is(path, STORE_USER_PREFIX) ||
	       slice_is(path, STORE_CLUSTER_PREFIX);
}

static struct slice path_last(struct slice path)
{
	size_t from = path.len;

	while (from > 0 && path.data[from - 1] != '/')
		from--;
	return slice_make(path.data + from, path.len - from);
}

/* Puts a file or directory that is complete into tree and expiry records. */
static void store_place(struct store *store, struct slice path, struct entry *entry, uint64_t index)
{
	if (entry_has_expiry(entry))
		expiry_set(&store->expiry, path, entry_expires_ns(entry));
	else
		expiry_remove(&store->expiry, path);
	tree_put(&store->tree, path, entry, index);
}

/* ---- operations ---- */

/* Makes a node at `path`; with `replace` (a set) a file that is there goes. `value_of` keeps that file's
 * value. */
static void store_make(struct store *store, const struct store_command *command, struct slice path,
	bool replace, struct entry *value_of, struct store_result *ret_result)
{
	uint64_t next = store->index + 1;
	bool has_expiry = command->has_expiry && command->expires_ns >= MIN_EXPIRY_NS, not_dir = false;
	struct slice value = value_of ? entry_value(value_of) : command->value;
	struct store_event *event;
	struct entry *old, *entry;
	size_t at = 0;

	if (path_is_root(path)) {
		store_fail(store, ret_result, STORE_ROOT_READ_ONLY, slice_str("/"));
		return;
	}
	old = tree_lookup(store->tree.root, path, &at, &not_dir);
	if (!old && not_dir) {
		if (!replace)
			store->stats.sets_fail++; /* the original counts a create of this kind in both */
		store_fail(store, ret_result, STORE_NOT_DIR, slice_make(path.data, at));
		return;
	}
	if (old && (!replace || entry_is_dir(old))) {
		store_fail(store, ret_result, replace ? STORE_NOT_FILE : STORE_NODE_EXISTS, path);
		return;
	}
	if (command->dir)
		entry = tree_new_dir(path_last(path), next, next, has_expiry, command->expires_ns);
	else
		entry = tree_new_file(path_last(path), value, next, next, has_expiry, command->expires_ns);
	event = event_new(replace ? STORE_ACTION_SET : STORE_ACTION_CREATE, path, next, next);
	event_node_show(&event->node, entry, command->time_ns);
	if (old)
		event_node_show(&event->prev, old, command->time_ns);
	event->refresh = replace && command->refresh;
	store_place(store, path, entry, next);
	store_record(store, event, NULL, ret_result);
}

static void store_set(
	struct store *store, const struct store_command *command, struct store_result *ret_result)
{
	struct entry *value_of = NULL;

	if (command->refresh)
		value_of = store_find(store, command->path, ret_result);
	if (!command->refresh || value_of)
		store_make(store, command, command->path, true, value_of, ret_result);
	if (ret_result->error)
		store->stats.sets_fail++;
	else
		store->stats.sets_success++;
}

static void store_create(
	struct store *store, const struct store_command *command, struct store_result *ret_result)
{
	if (command->in_order) {
		_cleanup_buf_ struct buf path = BUF_INIT(0);

		if (!slice_is(command->path, "/"))
			buf_add_slice(&path, command->path);
		buf_printf(&path, "/%020llu", (unsigned long long)store->index + 1);
		store_make(store, command, buf_slice(&path), false, NULL, ret_result);
	} else {
		store_make(store, command, command->path, false, NULL, ret_result);
	}
	if (ret_result->error)
		store->stats.create_fail++;
	else
		store->stats.create_success++;
}

/* The common end of update and compare-and-swap: the node keeps createdIndex, gets value and expiry. */
static void store_rewrite(struct store *store, const struct store_command *command, enum store_action action,
	struct entry *old, struct store_result *ret_result)
{
	uint64_t next = store->index + 1;
	struct store_event *event = event_new(action, command->path, next, old->created);

	event_node_show(&event->prev, old, command->time_ns);
	event->refresh = command->refresh;
	if (entry_is_dir(old)) {
		/* The original leaves modifiedIndex of a directory as it was; only the event shows the new
		 * one. */
		event->node.dir = true;
		event_node_set_expiry(
			&event->node, command->has_expiry, command->expires_ns, command->time_ns);
		if (command->has_expiry)
			expiry_set(&store->expiry, command->path, command->expires_ns);
		else
			expiry_remove(&store->expiry, command->path);
		tree_set_dir_expiry(&store->tree, command->path, command->has_expiry, command->expires_ns);
	} else {
		struct slice value = command->refresh ? entry_value(old) : command->value;
		struct entry *entry = tree_new_file(
			entry_name(old), value, old->created, next, command->has_expiry, command->expires_ns);

		event_node_show(&event->node, entry, command->time_ns);
		store_place(store, command->path, entry, next);
	}
	store_record(store, event, NULL, ret_result);
}

static void store_update(
	struct store *store, const struct store_command *command, struct store_result *ret_result)
{
	struct entry *old;

	store->stats.update_success++; /* refusals count as success but for a miss, as in the original */
	if (path_is_root(command->path)) {
		store_fail(store, ret_result, STORE_ROOT_READ_ONLY, slice_str("/"));
		return;
	}
	old = store_find(store, command->path, ret_result);
	if (!old) {
		store->stats.update_success--;
		store->stats.update_fail++;
		return;
	}
	if (entry_is_dir(old) && command->value.len) {
		store_fail(store, ret_result, STORE_NOT_FILE, command->path);
		return;
	}
	store_rewrite(store, command, STORE_ACTION_UPDATE, old, ret_result);
}

/* True when prev_value and prev_index fit; else the error is in ret_result. */
static bool store_compare(struct store *store, const struct store_command *command, const struct entry *entry,
	struct store_result *ret_result)
{
	struct slice value = entry_value(entry), wanted = command->prev_value;
	bool value_fits = !wanted.len || slice_equal(wanted, value);
	bool index_fits = !command->prev_index || command->prev_index == entry->modified;
	_cleanup_buf_ struct buf cause = BUF_INIT(0);

	if (value_fits && index_fits)
		return true;
	if (!value_fits) {
		buf_add_char(&cause, '[');
		buf_add_slice(&cause, wanted);
		buf_add_str(&cause, " != ");
		buf_add_slice(&cause, value);
		buf_add_str(&cause, index_fits ? "]" : "] ");
	}
	if (!index_fits)
		buf_printf(&cause, "[%llu != %llu]", (unsigned long long)command->prev_index,
			(unsigned long long)entry->modified);
	ret_result->error = STORE_COMPARE_FAILED;
	ret_result->index = store->index;
	ret_result->cause = buf_take(&cause, NULL);
	return false;
}

static void store_compare_and_swap(
	struct store *store, const struct store_command *command, struct store_result *ret_result)
{
	struct entry *old;

	if (path_is_root(command->path)) {
		store->stats.cas_success++; /* as in the original */
		store_fail(store, ret_result, STORE_ROOT_READ_ONLY, slice_str("/"));
		return;
	}
	old = store_find(store, command->path, ret_result);
	if (old && entry_is_dir(old)) {
		store_fail(store, ret_result, STORE_NOT_FILE, command->path);
		old = NULL;
	}
	if (!old || !store_compare(store, command, old, ret_result)) {
		store->stats.cas_fail++;
		return;
	}
	store_rewrite(store, command, STORE_ACTION_COMPARE_AND_SWAP, old, ret_result);
	store->stats.cas_success++;
}

/* Takes the node out, with what is below, and records the event. */
static void store_take_out(struct store *store, struct slice path, struct entry *old,
	enum store_action action, int64_t now_ns, struct store_result *ret_result)
{
	struct store_event *event = event_new(action, path, store->index + 1, old->created);
	struct entry *entry;

	event->node.dir = action == STORE_ACTION_DELETE && entry_is_dir(old);
	event_node_show(&event->prev, old, now_ns);
	/* The path may be borrowed from an expiry record that goes: the event's own copy lasts. */
	path = store_event_path(event);
	entry = tree_remove(&store->tree, path);
	store_forget(store, path, entry);
	store_record(store, event, entry_is_dir(entry) ? entry_dir(entry) : NULL, ret_result);
	tree_unref(&store->tree, entry);
}

static void store_delete(
	struct store *store, const struct store_command *command, struct store_result *ret_result)
{
	struct entry *old;

	if (path_is_root(command->path)) {
		store->stats.delete_success++; /* as in the original */
		store_fail(store, ret_result, STORE_ROOT_READ_ONLY, slice_str("/"));
		return;
	}
	old = store_find(store, command->path, ret_result);
	if (old && entry_is_dir(old) && !command->dir && !command->recursive) {
		store_fail(store, ret_result, STORE_NOT_FILE, command->path);
		old = NULL;
	} else if (old && entry_is_dir(old) && entry_dir(old)->root && !command->recursive) {
		store_fail(store, ret_result, STORE_DIR_NOT_EMPTY, command->path);
		old = NULL;
	}
	if (!old) {
		store->stats.delete_fail++;
		return;
	}
	store_take_out(store, command->path, old, STORE_ACTION_DELETE, command->time_ns, ret_result);
	store->stats.delete_success++;
}

static void store_compare_and_delete(
	struct store *store, const struct store_command *command, struct store_result *ret_result)
{
	struct entry *old = store_find(store, command->path, ret_result);

	if (!old) {
		store->stats.cad_fail++;
		return;
	}
	store->stats.cad_success++; /* refusals count as success too, as in the original */
	if (entry_is_dir(old)) {
		store_fail(store, ret_result, STORE_NOT_FILE, command->path);
		return;
	}
	if (store_compare(store, command, old, ret_result))
		store_take_out(store, command->path, old, STORE_ACTION_COMPARE_AND_DELETE, command->time_ns,
			ret_result);
}

static void store_tick(
	struct store *store, const struct store_command *command, struct store_result *ret_result)
{
	struct slice path;
	int64_t expires_ns;

	store->clock_ns = MAX(store->clock_ns, command->time_ns);
	while (ret_result->expired < STORE_EXPIRE_MAX && expiry_top(&store->expiry, &path, &expires_ns) &&
		expires_ns <= store->clock_ns) {
		struct store_result one = {0};
		struct entry *entry = store_expires(store, path, expires_ns);

		if (!entry) {
			assert(!list_empty(&store->forgettings));
			expiry_remove_top(&store->expiry);
			continue;
		}
		store_take_out(store, path, entry, STORE_ACTION_EXPIRE, store->clock_ns, &one);
		store_result_done(&one);
		store->stats.expire_count++;
		ret_result->expired++;
	}
	ret_result->index = store->index;
}

/* A proposer may be behind the cluster clock, such as a leader that was just elected and has not applied all
 * of its log: a lifetime then begins when it is applied, or it would be too short. */
static void store_catch_up(const struct store *store, struct store_command *command)
{
	int64_t behind_ns;

	if (command->op == STORE_OP_TICK || command->time_ns >= store->clock_ns)
		return;
	if (__builtin_sub_overflow(store->clock_ns, command->time_ns, &behind_ns) ||
		__builtin_add_overflow(command->expires_ns, behind_ns, &command->expires_ns))
		command->expires_ns = INT64_MAX;
	command->time_ns = store->clock_ns;
}

int store_apply(struct store *store, struct slice bytes, struct store_result *ret_result)
{
	static void (*const operations[STORE_OP_MAX])(struct store * store,
		const struct store_command *command, struct store_result *ret_result) = {
		[STORE_OP_SET] = store_set,
		[STORE_OP_CREATE] = store_create,
		[STORE_OP_UPDATE] = store_update,
		[STORE_OP_COMPARE_AND_SWAP] = store_compare_and_swap,
		[STORE_OP_DELETE] = store_delete,
		[STORE_OP_COMPARE_AND_DELETE] = store_compare_and_delete,
		[STORE_OP_TICK] = store_tick,
	};
	struct store_command command;
	int r = store_command_decode(bytes, &command);

	if (r < 0)
		return r;
	*ret_result = (struct store_result){0};
	store_catch_up(store, &command);
	operations[command.op](store, &command, ret_result);
	assert(!ret_result->error == (ret_result->event || command.op == STORE_OP_TICK));
	(void)store_collect(store, COLLECT_PER_APPLY);
	return 0;
}
