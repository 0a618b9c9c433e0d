/* What the checkpoint tests share: a disk of memory whose contents are volatile until synced and whose names
 * are until the directory is, a store with a random life, and writing and loading in one call. */
#pragma once
#include "base/memory.h"
#include "base/rng.h"
#include "base/time.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/format.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include <cmocka.h>

#define CLUSTER 0xc1u
#define NOW (INT64_C(1700000000) * NS_PER_S)

enum { DISK_FILES = 16, DISK_NAMES = 16 };

struct contents {
	char *data;
	size_t len;
};
struct inode {
	struct contents now, durable;
};
struct name {
	char text[CHECKPOINT_NAME_MAX];
	size_t inode;
};
struct names {
	struct name at[DISK_NAMES];
	size_t count;
};
struct disk {
	struct inode inodes[DISK_FILES];
	size_t inode_count;
	struct names now, durable;
};

static inline void disk_done(struct disk *disk)
{
	for (size_t i = 0; i < disk->inode_count; i++) {
		free(disk->inodes[i].now.data);
		free(disk->inodes[i].durable.data);
	}
	*disk = (struct disk){0};
}

static inline struct contents contents_copy(struct contents from)
{
	return (struct contents){from.len ? mem_dup(from.data, from.len) : NULL, from.len};
}

static inline void disk_copy(struct disk *to, const struct disk *from)
{
	*to = *from;
	for (size_t i = 0; i < from->inode_count; i++) {
		to->inodes[i].now = contents_copy(from->inodes[i].now);
		to->inodes[i].durable = contents_copy(from->inodes[i].durable);
	}
}

static inline struct name *names_find(struct names *names, const char *text)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->at[i].text, text) == 0)
			return &names->at[i];
	return NULL;
}

static inline struct inode *disk_inode(struct disk *disk, const char *text)
{
	struct name *name = names_find(&disk->now, text);

	return name ? &disk->inodes[name->inode] : NULL;
}

/* One step; of a write only the first `at_most` bytes. */
static inline void disk_step(struct disk *disk, const struct checkpoint_plan *plan,
	const struct checkpoint_step *step, size_t at_most)
{
	struct name *name = names_find(&disk->now, step->name), *other;
	struct inode *inode = name ? &disk->inodes[name->inode] : NULL;

	switch (step->kind) {
	case CHECKPOINT_CREATE:
		if (!name) {
			assert_true(disk->inode_count < DISK_FILES && disk->now.count < DISK_NAMES);
			name = &disk->now.at[disk->now.count++];
			(void)snprintf(name->text, sizeof(name->text), "%s", step->name);
			name->inode = disk->inode_count++;
		}
		free(disk->inodes[name->inode].now.data);
		disk->inodes[name->inode].now = (struct contents){0};
		break;
	case CHECKPOINT_WRITE:
		assert_non_null(inode);
		assert_int_equal(step->offset, inode->now.len);
		assert_true(step->bytes_at + step->bytes_len <= plan->bytes.len);
		at_most = MIN(at_most, step->bytes_len);
		inode->now.data = mem_realloc(inode->now.data, inode->now.len + at_most + 1);
		memcpy(inode->now.data + inode->now.len, plan->bytes.data + step->bytes_at, at_most);
		inode->now.len += at_most;
		break;
	case CHECKPOINT_SYNC:
		assert_non_null(inode);
		free(inode->durable.data);
		inode->durable = contents_copy(inode->now);
		break;
	case CHECKPOINT_RENAME:
		assert_non_null(inode);
		other = names_find(&disk->now, step->to_name);
		if (other) {
			other->inode = name->inode;
			*name = disk->now.at[--disk->now.count];
		} else {
			(void)snprintf(name->text, sizeof(name->text), "%s", step->to_name);
		}
		break;
	case CHECKPOINT_SYNC_DIR:
		disk->durable = disk->now;
		break;
	case CHECKPOINT_REMOVE:
		if (name)
			*name = disk->now.at[--disk->now.count];
		break;
	default:
		fail();
	}
}

static inline void disk_run(struct disk *disk, const struct checkpoint_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++)
		disk_step(disk, plan, &plan->steps[i], SIZE_MAX);
}

/* The power fails: unsynced contents, unsynced names, both or nothing of it is lost. */
static inline void disk_power_off(struct disk *disk, bool lose_contents, bool lose_names)
{
	for (size_t i = 0; lose_contents && i < disk->inode_count; i++) {
		free(disk->inodes[i].now.data);
		disk->inodes[i].now = contents_copy(disk->inodes[i].durable);
	}
	if (lose_names)
		disk->now = disk->durable;
}

static inline int disk_read(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	struct inode *inode = disk_inode(arg, name);

	if (!inode)
		return -ENOENT;
	if (offset < inode->now.len)
		buf_add(out, inode->now.data + offset, MIN(len, inode->now.len - (size_t)offset));
	return 0;
}

static inline int disk_list(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct disk *disk = arg;

	for (size_t i = 0; i < disk->now.count; i++)
		fn(fn_arg, disk->now.at[i].text, disk->inodes[disk->now.at[i].inode].now.len);
	return 0;
}

static inline struct checkpoint_disk disk_ops(struct disk *disk)
{
	return (struct checkpoint_disk){.list = disk_list, .read = disk_read, .arg = disk};
}

/* As above, on a disk that keeps a rename and loses the name of a file made before it. */
static inline void disk_lose_new_files(struct disk *disk)
{
	for (size_t i = disk->now.count; i-- > 0;)
		if (strncmp(disk->now.at[i].text, CHECKPOINT_NAME, strlen(CHECKPOINT_NAME)) != 0 &&
			!names_find(&disk->durable, disk->now.at[i].text))
			disk->now.at[i] = disk->now.at[--disk->now.count];
}

/* ---- stores ---- */

static inline void apply(struct store *store, const struct store_command *command)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_result result;

	store_command_encode(command, &bytes);
	assert_int_equal(store_apply(store, buf_slice(&bytes), &result), 0);
	store_result_done(&result);
}

static inline void put(struct store *store, const char *path, const char *value)
{
	struct store_command command = {
		.op = STORE_OP_SET, .path = slice_str(path), .value = slice_str(value), .time_ns = NOW};

	apply(store, &command);
}

/* One change out of all kinds, refused ones among them; the same for the same numbers. */
static inline void live(struct store *store, struct rng *rng, size_t value_max)
{
	char path[96];
	_cleanup_free_ char *value = NULL;
	size_t value_len = (size_t)rng_below(rng, value_max);
	struct store_command command = {.op = (enum store_op)(1 + rng_below(rng, STORE_OP_MAX - 1))};
	int len = snprintf(path, sizeof(path), "/1/d%u", (unsigned)rng_below(rng, 6));

	if (rng_below(rng, 5))
		len += snprintf(path + len, sizeof(path) - (size_t)len, "/s%u", (unsigned)rng_below(rng, 6));
	if (rng_below(rng, 3))
		(void)snprintf(path + len, sizeof(path) - (size_t)len, "/k%u", (unsigned)rng_below(rng, 40));
	value = mem_alloc(value_len + 1);
	for (size_t i = 0; i < value_len; i++)
		value[i] = (char)rng_next(rng);
	command.time_ns = NOW + (int64_t)store_index(store) * NS_PER_MS;
	if (command.op == STORE_OP_TICK) {
		if (rng_below(rng, 8) == 0) {
			command.time_ns += (int64_t)rng_below(rng, 2000) * NS_PER_MS;
			apply(store, &command);
		}
		return;
	}
	command.path = slice_str(path);
	command.value = slice_make(value, value_len);
	command.dir = rng_below(rng, 8) == 0;
	command.in_order = rng_below(rng, 4) == 0;
	command.refresh = rng_below(rng, 5) == 0;
	if (command.op == STORE_OP_DELETE)
		command.recursive = rng_below(rng, 10) == 0;
	if (rng_below(rng, 4) == 0) {
		command.has_expiry = true;
		command.expires_ns = command.time_ns + (int64_t)rng_below(rng, 3000) * NS_PER_MS;
	}
	apply(store, &command);
}

static inline struct store *store_random(uint64_t seed, size_t changes, size_t value_max)
{
	struct store *store = store_new();
	struct rng rng;

	rng_seed(&rng, seed);
	for (size_t i = 0; i < changes; i++)
		live(store, &rng, value_max);
	return store;
}

static inline void same_json(struct store *one, struct store *other, const char *path)
{
	_cleanup_buf_ struct buf a = BUF_INIT(0), b = BUF_INIT(0);
	struct store_result result;

	store_get(one, slice_str(path), true, NOW, &a, &result);
	store_result_done(&result);
	store_get(other, slice_str(path), true, NOW, &b, &result);
	store_result_done(&result);
	assert_string_equal(buf_text(&a), buf_text(&b));
}

static inline void never_called(struct store_watch *watch, struct store_event *event)
{
	(void)watch;
	(void)event;
	fail();
}

/* The event that a watch from `since` on gets out of the history, or the error, as text. */
static inline char *history_text(struct store *store, uint64_t since)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	struct store_watch watch = {0};
	struct store_event *event = NULL;
	struct store_result result;
	int r = store_watch_start(
		store, &watch, slice_str("/"), true, false, since, never_called, &event, &result);

	if (r == 1)
		buf_add_slice(&out, store_event_json(event));
	else if (r < 0)
		store_error_add_json(&out, result.error, result.cause, result.index);
	else
		buf_add_str(&out, "waits");
	store_watch_stop(store, &watch);
	(void)store_event_unref(event);
	store_result_done(&result);
	return buf_take(&out, NULL);
}

static inline void same_state(struct store *one, struct store *other)
{
	assert_int_equal(store_index(one), store_index(other));
	assert_int_equal(store_clock_ns(one), store_clock_ns(other));
	assert_int_equal(store_nodes(one), store_nodes(other));
	assert_int_equal(store_hash(one), store_hash(other));
	assert_int_equal(store_next_expiry_ns(one), store_next_expiry_ns(other));
	same_json(one, other, "/1");
	same_json(one, other, "/0");
	for (uint64_t since = store_index(one) > 1100 ? store_index(one) - 1100 : 1;
		since <= store_index(one) + 1; since++) {
		_cleanup_free_ char *a = history_text(one, since), *b = history_text(other, since);

		assert_string_equal(a, b);
	}
}

/* ---- checkpoints ---- */

static inline struct checkpoint_meta meta_make(uint64_t index)
{
	return (struct checkpoint_meta){
		.cluster_id = CLUSTER, .index = index, .term = 3, .membership = slice_str("voters 1 2 3")};
}

static inline struct checkpoint *checkpoint_write(
	struct disk *disk, struct store *store, uint64_t index, uint64_t generation, size_t budget)
{
	struct checkpoint_meta meta = meta_make(index);
	_cleanup_(checkpoint_writer_freep) struct checkpoint_writer *writer =
		checkpoint_writer_new(store, &meta, generation);
	struct checkpoint_plan plan = {0};
	bool more = true;

	while (more) {
		more = checkpoint_writer_step(writer, budget, &plan);
		disk_run(disk, &plan);
	}
	buf_done(&plan.bytes);
	return checkpoint_writer_take(writer);
}

/* NULL and the error in *ret_r when it cannot be opened or loaded. */
static inline struct store *checkpoint_read(struct disk *disk, struct checkpoint **ret_checkpoint, int *ret_r)
{
	struct checkpoint_disk ops = disk_ops(disk);
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_free_ char *error = NULL;
	struct store *store = NULL;

	*ret_r = checkpoint_open(&ops, CLUSTER, &checkpoint, &error);
	if (*ret_r == 0 && checkpoint)
		*ret_r = checkpoint_load(&ops, checkpoint, &store, &error);
	assert_true(*ret_r == 0 || (error && !store));
	if (store && ret_checkpoint)
		*ret_checkpoint = take_ptr(checkpoint);
	return store;
}
