/* Start: the log is read into raft, what is committed is applied again, and two plans make the start durable
 * before anything leaves the process: one for what recovery saw, one with the boot number (and the first
 * entries of a fresh log, one per member of the initial cluster, the same on all of them). */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

/* The log's entries wait here until raft exists, which needs the boot number that the log tells. */
struct loaded {
	struct raft_entry *entries;
	size_t len, cap;
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

static void loaded_done(struct loaded *loaded)
{
	for (size_t i = 0; i < loaded->len; i++)
		raft_blob_unref(loaded->entries[i].data);
	free(loaded->entries);
}

static struct raft_entry *loaded_push(struct loaded *loaded)
{
	if (loaded->len == loaded->cap) {
		loaded->cap = MAX(loaded->cap * 2, (size_t)256);
		loaded->entries = mem_reallocarray(loaded->entries, loaded->cap, sizeof(*loaded->entries));
	}
	return &loaded->entries[loaded->len++];
}

static int load_entry(void *arg, const struct wal_entry *record)
{
	struct raft_entry *entry;

	if (record->kind >= RAFT_ENTRY_TYPE_MAX || record->data.len > RAFT_ENTRY_BYTES_MAX)
		return -EBADMSG;
	entry = loaded_push(arg);
	*entry = (struct raft_entry){.index = record->index, .term = record->term, .type = record->kind};
	if (record->data.len)
		entry->data = raft_blob_new(record->data.data, record->data.len);
	return 0;
}

static void open_raft(struct node *node, const struct node_config *config)
{
	uint32_t ticks = (uint32_t)MAX(
		(uint64_t)config->election_ms * NODE_TICKS_PER_HEARTBEAT / config->heartbeat_ms, UINT64_C(1));
	struct raft_options options = {
		.id = node->id,
		.first_context = node->boot,
		.heartbeat_ticks = NODE_TICKS_PER_HEARTBEAT,
		.election_ticks = MAX(ticks, NODE_TICKS_PER_HEARTBEAT + 1),
		/* Enough to tell members apart, little enough that a leader that hangs is replaced within one
		 * and a half election timeouts. */
		.election_jitter_ticks = MAX(ticks / 3, 1u),
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

static int bootstrap(struct node *node, const struct node_config *config, struct loaded *loaded,
	struct raft_hard_state *hard_state, char **ret_error)
{
	size_t done = 0;
	uint64_t last_id = 0;

	static_assert(NODE_VOTERS_MAX == RAFT_MEMBERS_MAX, "each voter must fit into a raft_set");
	if (config->members_len > NODE_VOTERS_MAX) {
		*ret_error = mem_printf("the initial cluster has %zu members, at most %d can vote",
			config->members_len, NODE_VOTERS_MAX);
		return -EINVAL;
	}
	for (; done < config->members_len; done++) {
		const struct node_member *next = NULL;
		struct wal_entry record = {.index = done + 1, .term = 1, .kind = RAFT_ENTRY_CONF};
		struct raft_entry *entry;

		for (size_t i = 0; i < config->members_len; i++)
			if (config->members[i].id > last_id && (!next || config->members[i].id < next->id))
				next = &config->members[i];
		if (!next)
			break;
		last_id = next->id;
		entry = loaded_push(loaded);
		*entry = (struct raft_entry){.index = done + 1, .term = 1, .type = RAFT_ENTRY_CONF};
		entry->data = node_conf_entry(next->id, next->peer_urls);
		record.data = raft_blob_slice(entry->data);
		wal_add_entry(node->wal, &record);
	}
	if (!done || done != config->members_len) {
		*ret_error = mem_strdup("the initial cluster names no member, or one twice");
		return -EINVAL;
	}
	*hard_state = (struct raft_hard_state){.term = 1, .commit = done};
	return 0;
}

/* Applies what was committed in earlier lives. Nothing leaves: messages of this time are dropped, and there
 * is no write, since nothing was proposed. */
static int replay(struct node *node, char **ret_error)
{
	while (!node->failure && raft_has_ready(node->raft)) {
		struct raft_batch batch;

		raft_ready(node->raft, &batch);
		assert(!batch.write.id);
		node_apply_batch(node, &batch);
		raft_advance(node->raft);
	}
	if (!node->failure)
		return 0;
	*ret_error = mem_strdup(node->failure);
	return -EBADMSG;
}

static int load(struct node *node, const struct node_config *config, char **ret_error)
{
	struct wal_config wal_config = {
		.cluster_id = config->cluster_id,
		.member_id = config->member_id,
		.segment_bytes = config->segment_bytes,
	};
	struct wal_disk disk = disk_of(node->env);
	_cleanup_(loaded_done) struct loaded loaded = {0};
	struct wal_sink sink = {.entry = load_entry, .arg = &loaded};
	struct wal_recovered found;
	struct raft_hard_state hard_state;
	struct wal_hard_state first;
	int r;

	node->env->ops->random(node->env, &wal_config.random_seed, sizeof(wal_config.random_seed));
	r = wal_open(&wal_config, &disk, &sink, &node->wal, &found, ret_error);
	if (r < 0)
		return r;
	if (found.torn_bytes)
		node_note(node, LOG_LEVEL_NOTICE,
			"cut off the last write of the log, which had not completed (%" PRIu64
			" bytes); nothing in it was "
			"acknowledged",
			found.torn_bytes);
	node->boot = next_boot(node, found.hard_state.boot);
	hard_state = (struct raft_hard_state){
		.term = found.hard_state.term,
		.vote = found.hard_state.vote,
		.commit = found.hard_state.commit,
	};
	if (found.fresh) {
		r = bootstrap(node, config, &loaded, &hard_state, ret_error);
		if (r < 0)
			return r;
	}
	open_raft(node, config);
	for (size_t i = 0; i < loaded.len && r == 0; i++)
		r = raft_load_entry(node->raft, &loaded.entries[i]);
	if (r == 0)
		r = raft_load_hard_state(node->raft, &hard_state);
	if (r == 0)
		r = raft_start(node->raft);
	if (r < 0) {
		*ret_error = mem_printf("the log's hard state and its entries, from %" PRIu64 " to %" PRIu64
					", contradict each other: its oldest files are missing or it is "
					"damaged. Nothing was changed; remove this member from the cluster "
					"and add it again with an empty data directory, or restore a backup",
			found.first_index, found.last_index);
		return r;
	}
	first = (struct wal_hard_state){hard_state.term, hard_state.vote, hard_state.commit, node->boot};
	wal_add_hard_state(node->wal, &first);
	return replay(node, ret_error);
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
	node->next_read_context = 1;
	list_init(&node->pendings);
	list_init(&node->queue);
	list_init(&node->reads);
	list_init(&node->read_batches);
	buf_init(&node->send_buf, NODE_MESSAGE_MAX);
	node->store = store_new();
	r = load(node, config, ret_error);
	if (r < 0)
		return r;
	node_clock_start(node, node_mono(node));
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
	store_free(node->store);
	wal_free(node->wal);
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
