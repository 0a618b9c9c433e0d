/* Checkpoints of this member's own state: loaded at start, written in slices while changes go on, and the log
 * cut behind them. What is done to files is one background plan after the other, which the transfers
 * (transfer.c) share: whoever is next is decided here, between two plans. The log is cut only when the plan
 * that switched to the new checkpoint was answered; entries of a tail stay for followers that are a little
 * behind. */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

#define MEMBERSHIP_VERSION 2u /* 1 had neither who replaces whom nor who was removed */

/* ---- Membership, as it goes into a checkpoint ---- */

static void add_set(struct buf *out, const struct raft_set *set)
{
	wire_add_varint(out, set->count);
	for (uint32_t i = 0; i < set->count; i++)
		wire_add_u64(out, set->ids[i]);
}

void node_membership_encode(const struct node *node, struct buf *out)
{
	const struct raft_conf *conf = raft_conf_get(node->raft);

	wire_add_u8(out, MEMBERSHIP_VERSION);
	wire_add_bytes(out, slice_str(node->cluster_version));
	add_set(out, &conf->voters);
	add_set(out, &conf->outgoing);
	add_set(out, &conf->learners);
	wire_add_varint(out, node->members_len);
	for (size_t i = 0; i < node->members_len; i++) {
		const struct node_member *view = &node->members[i].view;

		wire_add_u64(out, view->id);
		wire_add_bytes(out, slice_str(view->name));
		node_urls_encode(out, view->peer_urls);
		node_urls_encode(out, view->client_urls);
		wire_add_u64(out, view->replaces);
	}
	wire_add_varint(out, node->removed_len);
	for (size_t i = 0; i < node->removed_len; i++)
		wire_add_u64(out, node->removed_ids[i]);
}

static int read_set(struct wire_reader *reader, struct raft_set *ret_set)
{
	uint64_t count = wire_read_varint(reader), last = 0;

	*ret_set = (struct raft_set){0};
	if (reader->failed || count > RAFT_MEMBERS_MAX)
		return -EBADMSG;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t id = wire_read_u64(reader);

		if (reader->failed || id <= last)
			return -EBADMSG;
		last = id;
		ret_set->ids[ret_set->count++] = id;
	}
	return 0;
}

static int read_member(struct wire_reader *reader, struct node *scratch, uint8_t version)
{
	uint64_t id = wire_read_u64(reader);
	struct slice name = wire_read_bytes(reader);
	char **peer_urls = reader->failed ? NULL : node_urls_decode(reader);
	char **client_urls = peer_urls ? node_urls_decode(reader) : NULL;
	struct member *member;

	if (!client_urls || !id || node_member_find(scratch, id)) {
		node_urls_free(peer_urls);
		node_urls_free(client_urls);
		return -EBADMSG;
	}
	member = node_member_add(scratch, id);
	member->peer_urls = peer_urls;
	member->client_urls = client_urls;
	member->name = mem_strndup(name.data, name.len);
	member->view.peer_urls = (const char *const *)peer_urls;
	member->view.client_urls = (const char *const *)client_urls;
	member->view.name = member->name;
	member->view.replaces = version > 1 ? wire_read_u64(reader) : 0;
	return 0;
}

static int read_removed(struct wire_reader *reader, struct node *scratch)
{
	uint64_t count = wire_read_varint(reader), last = 0;

	if (reader->failed || count > wire_left(reader) / sizeof(uint64_t))
		return -EBADMSG;
	scratch->removed_ids = mem_new_array(uint64_t, count + 1);
	for (; scratch->removed_len < count; scratch->removed_len++) {
		uint64_t id = wire_read_u64(reader);

		if (id <= last)
			return -EBADMSG;
		scratch->removed_ids[scratch->removed_len] = last = id;
	}
	return 0;
}

static int read_members(struct wire_reader *reader, struct node *scratch, uint8_t version)
{
	uint64_t count = wire_read_varint(reader);

	if (reader->failed || count > wire_left(reader))
		return -EBADMSG;
	for (uint64_t i = 0; i < count; i++)
		if (read_member(reader, scratch, version) < 0)
			return -EBADMSG;
	if (version > 1 && read_removed(reader, scratch) < 0)
		return -EBADMSG;
	return wire_finish(reader);
}

int node_membership_set(struct node *node, struct slice bytes, struct raft_conf *ret_conf)
{
	struct wire_reader reader = wire_reader_make(bytes);
	_cleanup_free_ struct node *scratch = mem_new(struct node); /* only its members are used */
	uint8_t format = wire_read_u8(&reader);
	struct slice version;
	int r = format > MEMBERSHIP_VERSION ? -EPROTONOSUPPORT : format ? 0 : -EBADMSG;

	version = wire_read_bytes(&reader);
	if (r == 0)
		r = read_set(&reader, &ret_conf->voters);
	if (r == 0)
		r = read_set(&reader, &ret_conf->outgoing);
	if (r == 0)
		r = read_set(&reader, &ret_conf->learners);
	if (r == 0)
		r = read_members(&reader, scratch, format);
	if (r < 0) {
		node_members_free(scratch);
		return r;
	}
	for (size_t i = 0; i < scratch->members_len; i++) {
		const struct member *known = node_member_find(node, scratch->members[i].view.id);

		if (!known)
			continue;
		scratch->members[i].connected = known->connected;
		memcpy(scratch->members[i].hash_index, known->hash_index, sizeof(known->hash_index));
		memcpy(scratch->members[i].hash, known->hash, sizeof(known->hash));
	}
	node_members_free(node);
	node->members = scratch->members;
	node->members_len = scratch->members_len;
	node->removed_ids = scratch->removed_ids;
	node->removed_len = scratch->removed_len;
	node->members_dirty = true;
	if (node->raft && node_was_removed(node, node->id))
		node_found_removed(node);
	free(node->cluster_version);
	node->cluster_version = mem_strndup(version.data ? version.data : "", version.len);
	return 0;
}

int node_membership_check(struct slice bytes, struct raft_conf *ret_conf, char **ret_error)
{
	_cleanup_free_ struct node *scratch = mem_new(struct node); /* only its members are used */
	int r = node_membership_set(scratch, bytes, ret_conf);

	if (r == -EPROTONOSUPPORT)
		*ret_error = mem_printf("it holds the membership in format %u, this version knows up to %u: "
					"it is of a newer version, update the program on this host",
			(unsigned)(uint8_t)bytes.data[0], MEMBERSHIP_VERSION);
	else if (r < 0)
		*ret_error = mem_strdup("the membership in it makes no sense, although it checks");
	if (r == 0)
		node_members_free(scratch);
	free(scratch->cluster_version);
	return r;
}

/* ---- Start ---- */

static int list_files(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct env *env = arg;

	return env->ops->disk_list(env, fn, fn_arg);
}

static int read_range(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	struct env *env = arg;

	return env->ops->disk_read_range(env, name, offset, len, out);
}

static struct checkpoint_disk disk_of(struct node *node)
{
	return (struct checkpoint_disk){.list = list_files, .read = read_range, .arg = node->env};
}

/* What to do about one that is damaged, cannot be read or has no data file (then of a manifest's); its error
 * names file and place. */
static int refuse(int error, char **error_text)
{
	char *what = *error_text;

	if (error == -EBADMSG)
		*error_text = mem_printf("%s. Nothing was changed; " NODE_REBUILD_HINT, what);
	else if (error == -EIO || error == -EUCLEAN || error == -ENOENT)
		*error_text = mem_printf(
			"%s. Nothing was changed: check the disk and start again; if it cannot be read then "
			"either, " NODE_REBUILD_HINT,
			what);
	else
		return error;
	free(what);
	return -EBADMSG;
}

int node_checkpoint_open(struct node *node, struct raft_conf *ret_conf, char **ret_error)
{
	struct checkpoints *own = &node->checkpoints;
	struct checkpoint_disk disk = disk_of(node);
	_cleanup_free_ char *why = NULL;
	struct checkpoint_info info;
	struct store *store;
	int r = checkpoint_open(&disk, node->cluster_id, &own->current, ret_error);

	own->next_generation = 1;
	if (r < 0)
		return refuse(r, ret_error);
	if (!own->current)
		return 0;
	checkpoint_get_info(own->current, &info);
	own->next_generation = info.generation + 1;
	r = node_membership_check(info.membership, ret_conf, &why);
	if (r < 0) {
		*ret_error = mem_printf(CHECKPOINT_NAME ": %s", why);
		return refuse(r, ret_error);
	}
	r = checkpoint_load(&disk, own->current, &store, ret_error);
	if (r < 0)
		return refuse(r, ret_error);
	node->store = store_free(node->store);
	node->store = store;
	node->applied = info.id.index;
	node->applied_term = info.id.term;
	return node_membership_set(node, info.membership, ret_conf);
}

int node_checkpoint_start(struct node *node, char **ret_error)
{
	struct checkpoints *own = &node->checkpoints;
	struct checkpoint_disk disk = disk_of(node);
	int r = checkpoint_start_plan(&disk, own->current, &own->steps);

	if (r < 0) {
		*ret_error = mem_strdup("cannot list the log directory");
		return r;
	}
	if (own->current || own->steps.steps_len > 1)
		node_checkpoint_submit(node, NODE_JOB_START, &own->steps);
	return 0;
}

/* ---- Plans ---- */

bool node_generations_add(struct generations *generations, uint64_t generation)
{
	if (!generation || generations->len == NODE_GENERATIONS_MAX)
		return false; /* the next start finds the file */
	generations->at[generations->len++] = generation;
	return true;
}

void node_checkpoint_to_plan(struct checkpoint_plan *steps, struct wal_plan *plan)
{
	static const enum wal_step_kind kinds[CHECKPOINT_STEP_MAX] = {
		[CHECKPOINT_CREATE] = WAL_STEP_CREATE,
		[CHECKPOINT_WRITE] = WAL_STEP_WRITE,
		[CHECKPOINT_SYNC] = WAL_STEP_SYNC,
		[CHECKPOINT_RENAME] = WAL_STEP_RENAME,
		[CHECKPOINT_SYNC_DIR] = WAL_STEP_SYNC_DIR,
		[CHECKPOINT_REMOVE] = WAL_STEP_REMOVE,
	};
	struct buf bytes = plan->bytes;

	static_assert(CHECKPOINT_NAME_MAX == WAL_NAME_MAX && CHECKPOINT_PLAN_STEPS_MAX <= WAL_PLAN_STEPS_MAX,
		"a plan of the one fits into one of the other");
	plan->background = true;
	plan->bytes = steps->bytes;
	steps->bytes = bytes;
	plan->steps_len = steps->steps_len;
	for (size_t i = 0; i < steps->steps_len; i++) {
		const struct checkpoint_step *from = &steps->steps[i];
		struct wal_step *to = &plan->steps[i];

		*to = (struct wal_step){.kind = kinds[from->kind],
			.offset = from->offset,
			.bytes_at = from->bytes_at,
			.bytes_len = from->bytes_len};
		memcpy(to->name, from->name, sizeof(to->name));
		memcpy(to->to_name, from->to_name, sizeof(to->to_name));
	}
}

/* The rename is in a plan of its own. What fails before it has changed nothing, and the space of the new file
 * is needed; after it, it is unknown which checkpoint is there. */
static void put_off_switch(struct checkpoints *own)
{
	size_t first = own->plan.steps_len;

	while (first > 0 && own->plan.steps[first - 1].kind != WAL_STEP_RENAME)
		first--;
	assert(first > 1);
	first--;
	own->switch_steps_len = own->plan.steps_len - first;
	assert(own->switch_steps_len <= ARRAY_LEN(own->switch_steps));
	memcpy(own->switch_steps, &own->plan.steps[first],
		own->switch_steps_len * sizeof(own->switch_steps[0]));
	own->plan.steps_len = first;
}

void node_checkpoint_submit(struct node *node, enum node_job job, struct checkpoint_plan *steps)
{
	struct checkpoints *own = &node->checkpoints;

	assert(!own->job && !own->done && !node->spare_busy);
	node_checkpoint_to_plan(steps, &own->plan);
	if (job == NODE_JOB_WRITE_SWITCH || job == NODE_JOB_RECEIVE_SWITCH)
		put_off_switch(own);
	own->job = job;
	node->env->ops->disk_submit(node->env, &own->plan);
}

/* Whether the plan that is done was the first part of a switch, and the second is under way. */
static bool goes_on_to_switch(struct node *node, int error)
{
	struct checkpoints *own = &node->checkpoints;
	size_t len = own->switch_steps_len;

	own->switch_steps_len = 0;
	if (len && error < 0)
		own->job = own->job == NODE_JOB_WRITE_SWITCH ? NODE_JOB_WRITE : NODE_JOB_RECEIVE;
	if (!len || error < 0)
		return false;
	memcpy(own->plan.steps, own->switch_steps, len * sizeof(own->plan.steps[0]));
	own->plan.steps_len = len;
	node->env->ops->disk_submit(node->env, &own->plan);
	return true;
}

void node_checkpoint_read(struct node *node, enum node_job job, const struct checkpoint_range *range)
{
	struct checkpoints *own = &node->checkpoints;
	struct wal_step *step = &own->plan.steps[0];

	assert(!own->job && !own->done && !node->spare_busy);
	buf_clear(&own->read);
	own->plan.background = true;
	own->plan.steps_len = 1;
	buf_clear(&own->plan.bytes);
	*step = (struct wal_step){
		.kind = WAL_STEP_READ, .offset = range->offset, .size_bytes = range->len, .into = &own->read};
	memcpy(step->name, range->name, sizeof(step->name));
	own->job = job;
	node->env->ops->disk_submit(node->env, &own->plan);
}

/* `checkpoint` (a reference that is handed over) is what CHECKPOINT names from now on. */
void node_checkpoint_became(struct node *node, struct checkpoint *checkpoint)
{
	struct checkpoints *own = &node->checkpoints;
	struct checkpoint_info info;

	if (own->current) {
		checkpoint_get_info(own->current, &info);
		(void)node_generations_add(&own->stale, info.generation);
	}
	for (size_t i = 0; i < own->unsure.len; i++)
		(void)node_generations_add(&own->stale, own->unsure.at[i]);
	own->unsure.len = 0;
	(void)checkpoint_unref(own->current);
	own->current = checkpoint;
	own->asked = own->unreadable = false;
	own->room_pause_ns = 0;
}

/* ---- Writing ---- */

void node_checkpoint_applied(struct node *node, const struct raft_entry *entry)
{
	struct checkpoints *own = &node->checkpoints;
	uint64_t apart = own->log_min_bytes / 4 / (NODE_MARKS / 2) + 1;

	own->log_bytes += raft_blob_slice(entry->data).len + NODE_ENTRY_OVERHEAD_BYTES;
	if (own->marks_len && own->log_bytes - own->marks[own->marks_len - 1].log_bytes < apart)
		return;
	if (own->marks_len == NODE_MARKS) {
		memmove(own->marks, own->marks + 1, (NODE_MARKS - 1) * sizeof(own->marks[0]));
		own->marks_len--;
	}
	own->marks[own->marks_len].index = entry->index;
	own->marks[own->marks_len++].log_bytes = own->log_bytes;
}

void node_checkpoint_space(const struct node *node, struct checkpoint_space *ret)
{
	const struct checkpoints *own = &node->checkpoints;
	struct checkpoint_info info = {0};

	if (own->current)
		checkpoint_get_info(own->current, &info);
	ret->data_bytes = info.data_bytes;
	ret->log_bytes = own->log_bytes - own->current_log_bytes;
	ret->step_bytes = MAX(node->segment_bytes, (info.data_bytes + ret->log_bytes) / 8);
	ret->pending_bytes = 0;
	if (own->writer) {
		uint64_t bytes = info.data_bytes + own->writer_log_bytes - own->current_log_bytes;

		ret->pending_bytes = MAX(bytes, own->writer_bytes + 1) - own->writer_bytes;
	}
	ret->room = own->disk_room > UINT64_MAX / 2 ? UINT64_MAX / 2 : own->disk_room;
}

/* The next one may soon not fit beside this one and the log: it is written while it does, since the log gives
 * space back then. */
static bool is_tight(const struct node *node)
{
	struct checkpoint_space at;

	node_checkpoint_space(node, &at);
	return at.log_bytes >= at.step_bytes && at.room < at.data_bytes + at.log_bytes + 2 * at.step_bytes;
}

/* By how much the log grows until the next one is due: not the same for all members, so that they seldom
 * write theirs at the same time. What one of them is slow with meanwhile, a majority does without it. */
static uint64_t growth_until_due(const struct node *node, uint64_t data_bytes)
{
	uint64_t bytes = MAX(node->checkpoints.log_min_bytes, data_bytes), rank = 0;

	for (size_t i = 0; i < node->members_len; i++)
		rank += node->members[i].view.id < node->id;
	return bytes + bytes / 8 * (rank % 4);
}

/* Whatever was deleted since is loaded by each start, and sent to each new member. */
static bool has_shrunk(const struct node *node, const struct checkpoint_info *info)
{
	return info->data_bytes >= node->checkpoints.log_min_bytes / 4 &&
	       store_nodes(node->store) < info->image.nodes / 2;
}

static bool is_due(const struct node *node)
{
	const struct checkpoints *own = &node->checkpoints;
	struct checkpoint_info info = {0};

	if (own->current)
		checkpoint_get_info(own->current, &info);
	/* Nothing may be committed until a follower has one: what cannot be read is replaced at once. */
	if (own->unreadable)
		return node->applied >= info.id.index;
	if (node->applied <= info.id.index)
		return false;
	return own->asked || is_tight(node) || has_shrunk(node, &info) ||
	       (own->entries_max && node->applied - info.id.index >= own->entries_max) ||
	       own->log_bytes - own->current_log_bytes >= growth_until_due(node, info.data_bytes);
}

static void begin(struct node *node)
{
	_cleanup_buf_ struct buf membership = BUF_INIT(0);
	struct checkpoints *own = &node->checkpoints;
	struct checkpoint_meta meta = {
		.cluster_id = node->cluster_id, .index = node->applied, .term = node->applied_term};

	node_membership_encode(node, &membership);
	meta.membership = buf_slice(&membership);
	own->writer_generation = own->next_generation++;
	own->writer_index = node->applied;
	own->writer_log_bytes = own->piece_log_bytes = own->log_bytes;
	own->writer_bytes = 0;
	own->writer = checkpoint_writer_new(node->store, &meta, own->writer_generation);
}

/* Whether the writes come first, also before who waits for the checkpoint: unless it would come too late for
 * the log or the disk. */
static bool may_rest(const struct node *node)
{
	const struct checkpoints *own = &node->checkpoints;
	struct checkpoint_space at;

	node_checkpoint_space(node, &at);
	return !own->unreadable && !node->space_low && !is_tight(node) &&
	       own->log_bytes - own->writer_log_bytes < MAX(own->log_min_bytes, at.data_bytes) / 2;
}

/* After a piece beside which there were writes: two thirds of the time the disk and this thread are theirs.
 */
static void rest(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;
	int64_t now_ns = node_mono(node);

	if (own->log_bytes > own->piece_log_bytes || node->log_busy)
		own->rest_until_ns = now_ns + MIN(2 * (now_ns - own->piece_ns), NODE_CHECKPOINT_REST_MAX_NS);
	own->piece_log_bytes = own->log_bytes;
}

bool node_checkpoint_waits(const struct node *node)
{
	struct raft_status status;

	if (!node->checkpoints.writer)
		return false;
	raft_status_get(node->raft, &status);
	return status.persisted < node->checkpoints.writer_index;
}

static bool write_next(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;
	int64_t now_ns = node_mono(node);
	bool more;

	if (!own->writer) {
		/* A member that is to be given a checkpoint needs no own one meanwhile. */
		if (own->incoming.receiver || own->incoming.store || !is_due(node) || now_ns < own->after_ns)
			return false;
		begin(node);
	} else if (now_ns < own->rest_until_ns && may_rest(node)) {
		return false;
	}
	if (node_checkpoint_waits(node))
		return false;
	own->piece_ns = now_ns;
	do
		more = checkpoint_writer_step(own->writer, own->step_bytes, &own->steps);
	while (more && !own->steps.steps_len);
	own->writer_bytes += own->steps.bytes.len;
	node_checkpoint_submit(node, more ? NODE_JOB_WRITE : NODE_JOB_WRITE_SWITCH, &own->steps);
	return true;
}

/* The log behind the checkpoint at own->writer_index is no longer needed, but for a tail. */
static void cut(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;
	uint64_t grown = own->writer_log_bytes - own->current_log_bytes;
	uint64_t tail = node->space_low ? 0 : MIN(own->log_min_bytes, grown) / 4, index = own->writer_index;

	for (size_t i = 0; i < own->marks_len; i++)
		if (own->marks[i].log_bytes + tail >= own->writer_log_bytes &&
			own->marks[i].index < own->writer_index) {
			index = own->marks[i].index;
			break;
		}
	if (!node->space_low) /* else those that need it begin anew with this checkpoint */
		index = node_transfer_keeps(node, index);
	raft_compact(node->raft, index);
	own->release_index = index + 1;
	own->release_due = true;
}

/* The alarm lasts until one fits: the log behind it would take what the next, smaller one needs. With the
 * log's reserve one fits of a store that is no larger. */
static void no_room(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	own->room_pause_ns = node_space_pause_ns(own->room_pause_ns);
	own->after_ns = node_mono(node) + own->room_pause_ns;
	node_space_out(node);
	/* Deletes must still have room. */
	if (own->gave_reserve || wal_room(node->wal) < node->segment_bytes + node->segment_bytes / 2)
		return;
	own->give_reserve = own->gave_reserve = true;
	own->after_ns = node_mono(node);
}

static bool give_reserve(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	if (!own->give_reserve)
		return false;
	own->give_reserve = false;
	if (!wal_give_reserve(node->wal, &own->plan))
		return false;
	own->job = NODE_JOB_GIVE;
	node->env->ops->disk_submit(node->env, &own->plan);
	return true;
}

static void failed(struct node *node, bool switched, int error)
{
	struct checkpoints *own = &node->checkpoints;
	bool full = node_space_is_out(error);

	/* After a failed switch both are whole. */
	(void)node_generations_add(switched ? &own->unsure : &own->stale, own->writer_generation);
	if (!full || !own->room_pause_ns)
		node_note(node, LOG_LEVEL_WARNING,
			"a checkpoint could not be written (%s): the log cannot be cut; it is tried again, "
			"make room or check the disk",
			strerror(-error));
	own->after_ns = node_mono(node) + NODE_CHECKPOINT_RETRY_NS;
	if (full)
		no_room(node);
	node_exports_failed(node, error);
}

static void written(struct node *node, bool switched, int error)
{
	struct checkpoints *own = &node->checkpoints;

	if (error < 0) {
		failed(node, switched, error);
	} else if (switched) {
		node_checkpoint_became(node, checkpoint_writer_take(own->writer));
		own->written++;
		cut(node);
		own->current_log_bytes = own->writer_log_bytes;
		if (node->space_low) /* deletes go on: not one after the other */
			own->after_ns = node_mono(node) + 4 * NODE_ROOM_RETRY_NS;
	} else {
		rest(node);
		return;
	}
	own->writer = checkpoint_writer_free(own->writer);
}

static bool is_removable(const struct node *node, uint64_t generation)
{
	return !node_transfer_reads(node, generation) && !node_exports_read(node, generation);
}

static bool remove_next(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	for (size_t i = 0; i < own->stale.len; i++) {
		uint64_t generation = own->stale.at[i];

		if (!is_removable(node, generation))
			continue;
		own->stale.at[i] = own->stale.at[--own->stale.len];
		checkpoint_remove_plan(generation, &own->steps);
		node_checkpoint_submit(node, NODE_JOB_REMOVE, &own->steps);
		return true;
	}
	return false;
}

bool node_checkpoint_gives_back(const struct node *node)
{
	const struct checkpoints *own = &node->checkpoints;

	for (size_t i = 0; i < own->stale.len; i++)
		if (is_removable(node, own->stale.at[i]))
			return true;
	return own->writer || own->release_due || own->job == NODE_JOB_REMOVE || own->job == NODE_JOB_RELEASE;
}

/* Whole segments of the log that are no longer needed. Removing files takes long: not in the way of writes.
 */
static bool release_next(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	if (!own->release_index || node->log_writes_done < own->release_after)
		return false;
	if (!wal_release(node->wal, own->release_index, &own->plan)) {
		own->release_due = false;
		if (!node->log_busy)
			own->release_index = 0; /* else the log may be about to leave one of them */
		return false;
	}
	own->job = NODE_JOB_RELEASE;
	node->env->ops->disk_submit(node->env, &own->plan);
	return true;
}

static bool (*const background[])(struct node *node) = {
	node_log_background,
	node_transfer_background,
	node_exports_background,
	release_next,
	remove_next,
	give_reserve,
	write_next,
};

/* In turn: who reads all of the log must not keep it from being cut, nor others from a checkpoint. */
void node_checkpoint_background(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;
	unsigned first = own->last_kind + 1;

	for (unsigned i = 0; i < ARRAY_LEN(background) && !own->job && !node->spare_busy; i++) {
		unsigned kind = (first + i) % (unsigned)ARRAY_LEN(background);

		if (background[kind](node))
			own->last_kind = kind;
	}
}

void node_checkpoint_done(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;
	enum node_job job;
	int error = own->error;

	own->done = false;
	if (goes_on_to_switch(node, error))
		return;
	if (own->job != NODE_JOB_READ && own->job != NODE_JOB_EXPORT && own->job != NODE_JOB_LOG)
		node_space_look(node);
	job = own->job;
	own->job = NODE_JOB_NONE;
	if (job == NODE_JOB_GIVE)
		return; /* whether or not it is there yet, the log does not count on it */
	if (job == NODE_JOB_RELEASE && error < 0)
		/* What the log believes is no longer there would be, with a gap behind it after the next one.
		 */
		(void)node_fail(node,
			"segments of the log could not be removed (%s): check the disk and start the member "
			"again",
			strerror(-error));
	else if (job == NODE_JOB_EXPORT)
		node_export_done(node, error);
	else if (job == NODE_JOB_LOG)
		node_log_done(node, error);
	else if (job == NODE_JOB_RELEASE)
		wal_release_done(node->wal);
	else if (job == NODE_JOB_START && error < 0)
		(void)node_fail(node,
			"what a start found could not be made durable (%s): check the disk and start the "
			"member again",
			strerror(-error));
	else if (job == NODE_JOB_WRITE || job == NODE_JOB_WRITE_SWITCH)
		written(node, job == NODE_JOB_WRITE_SWITCH, error);
	else if (job == NODE_JOB_RECEIVE || job == NODE_JOB_RECEIVE_SWITCH || job == NODE_JOB_READ)
		node_transfer_done(node, job, error);
}

void node_checkpoints_free(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	assert(list_empty(&own->exports)); /* else an export outlives its node */
	own->writer = checkpoint_writer_free(own->writer);
	own->current = checkpoint_unref(own->current);
	node_transfers_free(node);
	buf_done(&own->plan.bytes);
	buf_done(&own->steps.bytes);
	buf_done(&own->read);
}
