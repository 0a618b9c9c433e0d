/* Start: the newest checkpoint is loaded, the log behind it is read into raft, what is committed is applied
 * again, and two plans make the start durable before anything leaves the process: one for what recovery saw,
 * one with the boot number (and the first entries of a fresh log, one per member of the initial cluster, the
 * same on all of them). */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

/* The log goes into raft as it is read, and out of memory again as soon as more is known to be committed than
 * raft keeps; what is applied from it is then read a second time. */
struct loading {
	struct node *node;
	uint64_t checkpoint_index, checkpoint_term; /* 0: there is none */
	uint64_t term_there; /* of the log's entry at the checkpoint's index; 0: it has none */
	bool gap;	     /* between checkpoint and log: the end tells what is wrong */
};

static int list_files(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct env *env = arg;

	return env->ops->disk_list(env, fn, fn_arg);
}

static int read_file(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	struct env *env = arg;

	return env->ops->disk_read(env, name, max_bytes, ret_data, ret_len);
}

static struct wal_disk disk_of(struct env *env)
{
	return (struct wal_disk){.list = list_files, .read = read_file, .arg = env};
}

int node_identity(struct env *env, bool *ret_exists, uint64_t *ret_cluster_id, uint64_t *ret_member_id,
	char **ret_error)
{
	struct wal_disk disk = disk_of(env);

	return wal_identity(&disk, ret_exists, ret_cluster_id, ret_member_id, ret_error);
}

static uint64_t last_loaded(const struct loading *loading)
{
	struct raft_status status;

	raft_status_get(loading->node->raft, &status);
	return status.last_index;
}

static int load_entry(void *arg, const struct wal_entry *record)
{
	struct loading *loading = arg;
	struct raft_entry entry = {.index = record->index, .term = record->term, .type = record->kind};
	int r;

	if (record->kind >= RAFT_ENTRY_TYPE_MAX)
		return -EPROTONOSUPPORT;
	if (record->data.len > RAFT_ENTRY_BYTES_MAX)
		return -EBADMSG;
	if (record->index <= loading->checkpoint_index) {
		/* It replaces all behind it as well: what was loaded, and what seemed to be missing. */
		if (last_loaded(loading) > loading->checkpoint_index)
			raft_load_clear(loading->node->raft);
		loading->term_there = record->index == loading->checkpoint_index ? record->term : 0;
		loading->gap = false;
		return 0;
	}
	if (loading->term_there && loading->term_there != loading->checkpoint_term)
		return 0; /* a log that the checkpoint, a received one, was to replace */
	/* Replaced further on, from below the checkpoint, where the segment does not begin. */
	if (record->term < loading->checkpoint_term)
		return 0;
	if (record->index > last_loaded(loading) + 1) {
		loading->gap = true;
		return 0;
	}
	if (record->data.len)
		entry.data = raft_blob_new(record->data.data, record->data.len);
	r = raft_load_entry(loading->node->raft, &entry);
	raft_blob_unref(entry.data);
	return r;
}

static void load_restart(void *arg, uint64_t index)
{
	struct loading *loading = arg;

	(void)index; /* wal_recovered tells where the log begins now */
	raft_load_clear(loading->node->raft);
	loading->term_there = 0;
	loading->gap = false;
}

/* Tells raft what it need not keep in memory. The last one, together with the checkpoint, comes at the end.
 */
static void load_hard_state(void *arg, const struct wal_hard_state *state)
{
	struct loading *loading = arg;
	uint64_t last = last_loaded(loading);
	struct raft_hard_state so_far = {state->term, state->vote, MIN(state->commit, last)};
	int r;

	if (so_far.commit <= loading->checkpoint_index || state->term < loading->checkpoint_term)
		return;
	r = raft_load_hard_state(loading->node->raft, &so_far);
	assert(r == 0); /* the log saw to it that terms do not go down */
}

static void open_raft(struct node *node, const struct node_config *config, const struct raft_conf *conf)
{
	uint32_t ticks = (uint32_t)MAX(
		(uint64_t)config->election_ms * NODE_TICKS_PER_HEARTBEAT / config->heartbeat_ms, UINT64_C(1));
	struct raft_options options = {
		.id = node->id,
		.heartbeat_ticks = NODE_TICKS_PER_HEARTBEAT,
		.election_ticks = MAX(ticks, NODE_TICKS_PER_HEARTBEAT + 1),
		/* Enough to tell members apart, little enough that a leader that hangs is replaced within one
		 * and a half election timeouts. */
		.election_jitter_ticks = MAX(ticks / 3, 1u),
		.message_bytes_max = config->append_bytes,
		.apply_bytes_max = NODE_APPLY_PIECE_BYTES,
		.snapshot_index = node->applied,
		.snapshot_term = node->applied_term,
		.conf = *conf,
		.log = {.entries = node_log_entries, .userdata = node},
		.cache_bytes_max = config->log_cache_bytes ? config->log_cache_bytes : NODE_LOG_CACHE_BYTES,
	};

	node->env->ops->random(node->env, &options.seed, sizeof(options.seed));
	node->raft = raft_new(&options);
	node->tick_ns = (int64_t)config->heartbeat_ms * NS_PER_MS / NODE_TICKS_PER_HEARTBEAT;
}

/* Boot numbers also number forwarded proposals and reads from there on, so a new life begins above all that
 * the one before can have used: by the clock, or far ahead when the clock went back. */
static uint64_t next_boot(struct node *node, uint64_t previous)
{
	int64_t now_ns = node->env->ops->wall_ns(node->env);
	uint64_t now_us = now_ns > 0 ? (uint64_t)now_ns / 1000 : 1;

	return now_us > previous ? now_us : previous + (UINT64_C(1) << 40);
}

static int bootstrap(struct node *node, const struct node_config *config, struct raft_hard_state *hard_state,
	char **ret_error)
{
	size_t done = 0;
	uint64_t last_id = 0;
	int r;

	static_assert(NODE_VOTERS_MAX == RAFT_MEMBERS_MAX, "each voter must fit into a raft_set");
	if (config->members_len > NODE_VOTERS_MAX) {
		*ret_error = mem_printf("the initial cluster has %zu members, at most %d can vote",
			config->members_len, NODE_VOTERS_MAX);
		return -EINVAL;
	}
	/* Before the entries, which are to stay in memory until they are on the disk. */
	*hard_state = (struct raft_hard_state){.term = 1, .commit = config->members_len};
	r = raft_load_hard_state(node->raft, hard_state);
	assert(r == 0);
	for (; done < config->members_len; done++) {
		const struct node_member *next = NULL;
		struct wal_entry record = {.index = done + 1, .term = 1, .kind = RAFT_ENTRY_CONF};
		struct raft_entry entry = {.index = done + 1, .term = 1, .type = RAFT_ENTRY_CONF};

		for (size_t i = 0; i < config->members_len; i++)
			if (config->members[i].id > last_id && (!next || config->members[i].id < next->id))
				next = &config->members[i];
		if (!next)
			break;
		last_id = next->id;
		entry.data = node_conf_entry(next->id, next->peer_urls);
		record.data = raft_blob_slice(entry.data);
		wal_add_entry(node->wal, &record);
		r = raft_load_entry(node->raft, &entry);
		assert(r == 0);
		raft_blob_unref(entry.data);
	}
	if (!done || done != config->members_len) {
		*ret_error = mem_strdup("the initial cluster names no member, or one twice");
		return -EINVAL;
	}
	return 0;
}

/* Applies what was committed in earlier lives. Nothing leaves: messages of this time are dropped, and there
 * is no write, since nothing was proposed. */
static int replay(struct node *node, char **ret_error)
{
	struct raft_status status;

	while (!node->failure && raft_has_ready(node->raft)) {
		struct raft_batch batch;

		raft_ready(node->raft, &batch);
		assert(!batch.write.id);
		node_apply_batch(node, &batch);
		raft_advance(node->raft);
	}
	buf_done(&node->log_reader.bytes);
	if (node->failure) { /* checksums fit, and this version does not know what it says */
		*ret_error = mem_printf(
			"%s: it is of a newer version, update the program on this host", node->failure);
		return -EPROTONOSUPPORT;
	}
	raft_status_get(node->raft, &status);
	if (node->applied == status.commit)
		return 0;
	*ret_error = mem_printf("the log could be read, but not a second time, at index %" PRIu64
				": check the disk",
		node->applied + 1);
	return -EIO;
}

static int do_not_meet(const struct loading *loading, const struct wal_recovered *found, char **ret_error)
{
	if (!loading->checkpoint_index && found->fresh)
		*ret_error = mem_strdup("this member had a log, and none, or nothing of it, is left. To go "
					"on, " NODE_REBUILD_HINT);
	else if (!loading->checkpoint_index)
		*ret_error = mem_printf(
			"the log begins at index %" PRIu64 " and there is no checkpoint (" CHECKPOINT_NAME
			") of what came before: its oldest files are missing. To go on, " NODE_REBUILD_HINT,
			found->first_index);
	else if (found->fresh)
		*ret_error = mem_printf("there is a checkpoint of index %" PRIu64
					", but no log: it was taken away. To go on, " NODE_REBUILD_HINT,
			loading->checkpoint_index);
	else
		*ret_error = mem_printf("log and checkpoint do not meet: the log begins at index %" PRIu64
					", the checkpoint ends at %" PRIu64
					". One of them was damaged or taken away; " NODE_REBUILD_HINT,
			found->first_index, loading->checkpoint_index);
	return -EBADMSG;
}

/* Brings log and checkpoint together. *ret_restart: the log is one that the checkpoint, a received one, was
 * to replace. */
static int join(struct loading *loading, const struct wal_recovered *found, bool has_log,
	struct raft_hard_state *hard_state, bool *ret_restart, char **ret_error)
{
	uint64_t index = loading->checkpoint_index;

	*ret_restart = false;
	if (found->first_index > index + 1 || loading->gap || ((index || has_log) && found->fresh))
		return do_not_meet(loading, found, ret_error);
	if (!index)
		return 0;
	*ret_restart = found->last_index < index ||
		       (loading->term_there && loading->term_there != loading->checkpoint_term);
	if (*ret_restart) {
		if (hard_state->commit > index) {
			*ret_error = mem_printf("log and checkpoint contradict each other at index %" PRIu64
						": one of them is damaged; " NODE_REBUILD_HINT,
				index);
			return -EBADMSG;
		}
		raft_load_clear(loading->node->raft);
	}
	hard_state->commit = MAX(hard_state->commit, index);
	if (hard_state->term < loading->checkpoint_term) {
		hard_state->term = loading->checkpoint_term;
		hard_state->vote = 0;
	}
	return 0;
}

static int read_log(struct node *node, const struct node_config *config, struct loading *loading,
	struct wal_recovered *ret_found, char **ret_error)
{
	struct wal_config wal_config = {
		.cluster_id = config->cluster_id,
		.member_id = config->member_id,
		.segment_bytes = config->segment_bytes,
	};
	struct wal_disk disk = disk_of(node->env);
	struct wal_sink sink = {
		.entry = load_entry, .restart = load_restart, .hard_state = load_hard_state, .arg = loading};
	int r;

	node->env->ops->random(node->env, &wal_config.random_seed, sizeof(wal_config.random_seed));
	r = wal_open(&wal_config, &disk, &sink, &node->wal, ret_found, ret_error);
	if (r == 0 && ret_found->torn_bytes)
		node_note(node, LOG_LEVEL_NOTICE,
			"cut off the last write of the log, which had not completed (%" PRIu64
			" bytes); nothing in it was "
			"acknowledged",
			ret_found->torn_bytes);
	return r;
}

static int load(struct node *node, const struct node_config *config, char **ret_error)
{
	struct loading loading = {.node = node};
	struct wal_recovered found;
	struct raft_hard_state hard_state;
	struct wal_hard_state first;
	struct raft_conf conf = {0};
	bool restart;
	int r = node_checkpoint_open(node, &conf, ret_error);

	if (r < 0)
		return r;
	loading.checkpoint_index = node->applied;
	loading.checkpoint_term = node->applied_term;
	open_raft(node, config, &conf);
	r = read_log(node, config, &loading, &found, ret_error);
	if (r < 0)
		return r;
	node->boot = next_boot(node, found.hard_state.boot);
	raft_set_first_context(node->raft, node->boot);
	hard_state = (struct raft_hard_state){
		.term = found.hard_state.term,
		.vote = found.hard_state.vote,
		.commit = found.hard_state.commit,
	};
	r = join(&loading, &found, config->has_log, &hard_state, &restart, ret_error);
	if (r < 0)
		return r;
	if (restart)
		wal_restart_at(node->wal, node->applied);
	if (found.fresh && !config->joins) {
		r = bootstrap(node, config, &hard_state, ret_error);
		if (r < 0)
			return r;
	} else {
		r = raft_load_hard_state(node->raft, &hard_state);
	}
	if (r == 0)
		r = raft_start(node->raft);
	if (r < 0) {
		*ret_error = mem_printf("the log's hard state and its entries, from %" PRIu64 " to %" PRIu64
					", contradict each other: its oldest files are missing or it is "
					"damaged. Nothing was changed; " NODE_REBUILD_HINT,
			found.first_index, found.last_index);
		return r;
	}
	first = (struct wal_hard_state){hard_state.term, hard_state.vote, hard_state.commit, node->boot};
	wal_add_hard_state(node->wal, &first);
	if (node_was_removed(node, node->id))
		node_found_removed(node);
	r = replay(node, ret_error);
	if (r == 0 && loading.checkpoint_index)
		node_note(node, LOG_LEVEL_INFO,
			"loaded the checkpoint of index %" PRIu64
			" and replayed the log behind it up to %" PRIu64,
			loading.checkpoint_index, node->applied);
	return r;
}

int node_open(const struct node_config *config, struct env *env, struct node **ret_node, char **ret_error)
{
	_cleanup_(node_freep) struct node *node = mem_new(struct node);
	int r;

	assert(config->member_id && config->heartbeat_ms && config->election_ms);
	node->env = env;
	node->cluster_id = config->cluster_id;
	node->id = config->member_id;
	node->name = mem_strdup(config->name);
	node->client_urls = node_urls_dup(config->client_urls);
	node->server_version = mem_strdup(config->server_version);
	node->cluster_version = mem_strdup("");
	node->election_ms = config->election_ms;
	node->next_sequence = 1;
	node->window = 1;
	node->next_read_context = 1;
	list_init(&node->pendings);
	list_init(&node->queue);
	list_init(&node->conf_queue);
	list_init(&node->reads);
	list_init(&node->read_queue);
	node_requests_init(node);
	list_init(&node->read_batches);
	buf_init(&node->send_buf, NODE_MESSAGE_MAX);
	list_init(&node->checkpoints.outgoing);
	list_init(&node->checkpoints.exports);
	node->checkpoints.log_min_bytes =
		config->checkpoint_log_bytes ? config->checkpoint_log_bytes : CHECKPOINT_LOG_MIN_BYTES;
	node->checkpoints.disk_room = UINT64_MAX;
	node->checkpoints.entries_max = config->checkpoint_entries;
	node->checkpoints.step_bytes =
		config->checkpoint_step_bytes ? config->checkpoint_step_bytes : CHECKPOINT_STEP_BYTES;
	node->checkpoints.piece_bytes =
		config->checkpoint_piece_bytes ? config->checkpoint_piece_bytes : CHECKPOINT_PIECE_BYTES;
	node->segment_bytes = config->segment_bytes ? config->segment_bytes : WAL_SEGMENT_DEFAULT_BYTES;
	node->store = store_new();
	r = load(node, config, ret_error);
	if (r < 0)
		return r;
	node->phase = NODE_PHASE_CLEANING;
	node_clock_start(node, node_mono(node));
	r = node_checkpoint_start(node, ret_error);
	if (r < 0)
		return r;
	wal_start_plan(node->wal, &node->log_plan);
	node->log_busy = true;
	env->ops->disk_submit(env, &node->log_plan);
	*ret_node = take_ptr(node);
	return 0;
}

struct node *node_free(struct node *node)
{
	if (!node)
		return NULL;
	node_stop_reads(node, false);
	node_requests_free(node);
	raft_free(node->raft);
	node_checkpoints_free(node);
	store_free(node->store);
	wal_free(node->wal);
	node_log_free(node);
	buf_done(&node->log_plan.bytes);
	buf_done(&node->spare_plan.bytes);
	buf_done(&node->send_buf);
	node_members_free(node);
	node_urls_free(node->client_urls);
	free(node->name);
	free(node->server_version);
	free(node->cluster_version);
	free(node->failure);
	free(node);
	return NULL;
}
