/* The first files of a member of a new cluster that begins with the state of a snapshot. All its members make
 * the same of it but for their own ids: a checkpoint of the snapshot's index and term whose membership is the
 * new one, and a log that begins behind it. The store's bookkeeping of members becomes the new cluster's too.
 */
#include "node/internal.h"
#include <errno.h>

enum restore_step { RESTORE_LOG_START, RESTORE_CHECKPOINT, RESTORE_LOG, RESTORE_DONE };

struct node_restore {
	struct store *store; /* owned */
	struct checkpoint_meta meta;
	struct buf membership;
	struct wal *wal;
	struct checkpoint_writer *writer;
	struct checkpoint_plan steps;
	enum restore_step step;
};

static void forget_members(struct store *store)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_command command = {.op = STORE_OP_DELETE,
		.path = slice_str(STORE_CLUSTER_PREFIX "/members"),
		.recursive = true,
		.time_ns = store_clock_ns(store)};
	struct store_result result;
	int r;

	store_command_encode(&command, &bytes);
	r = store_apply(store, buf_slice(&bytes), &result);
	assert(r == 0);
	store_result_done(&result); /* there may be none: an error, and as good */
}

static const struct node_member *next_member(const struct node_config *config, uint64_t above)
{
	const struct node_member *next = NULL;

	for (size_t i = 0; i < config->members_len; i++)
		if (config->members[i].id > above && (!next || config->members[i].id < next->id))
			next = &config->members[i];
	return next;
}

/* A node of nothing but members, as far as is needed to write them down. */
static int make_membership(struct store *store, const struct node_config *config, struct buf *out)
{
	struct raft_options options = {.id = config->member_id, .heartbeat_ticks = 1, .election_ticks = 2};
	struct node *scratch = mem_new(struct node);
	const struct node_member *member;
	int r = 0;

	scratch->store = store;
	scratch->cluster_version = mem_strdup("");
	forget_members(store);
	for (uint64_t id = 0; r == 0 && (member = next_member(config, id)); id = member->id) {
		node_member_set_peer_urls(scratch, member->id, member->peer_urls);
		r = raft_set_add(&options.conf.voters, member->id);
	}
	scratch->raft = raft_new(&options);
	if (r == 0 && options.conf.voters.count != config->members_len)
		r = -EEXIST;
	if (r == 0)
		node_membership_encode(scratch, out);
	raft_free(scratch->raft);
	node_members_free(scratch);
	free(scratch->cluster_version);
	free(scratch);
	return r;
}

static int list_nothing(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	(void)arg;
	(void)fn;
	(void)fn_arg;
	return 0;
}

int node_restore_new(struct store *store, const struct node_config *config, uint64_t index, uint64_t term,
	uint64_t random_seed, struct node_restore **ret_restore)
{
	struct node_restore *restore = mem_new(struct node_restore);
	struct wal_config wal_config = {.cluster_id = config->cluster_id,
		.member_id = config->member_id,
		.segment_bytes = config->segment_bytes,
		.random_seed = random_seed};
	struct wal_disk disk = {.list = list_nothing};
	struct wal_sink sink = {0};
	struct wal_recovered found;
	char *error = NULL;
	int r;

	restore->store = store;
	r = make_membership(store, config, &restore->membership);
	if (r < 0) {
		(void)node_restore_free(restore);
		return r;
	}
	r = wal_open(&wal_config, &disk, &sink, &restore->wal, &found, &error);
	assert(r == 0); /* of nothing */
	restore->meta = (struct checkpoint_meta){.cluster_id = config->cluster_id,
		.index = index,
		.term = term,
		.membership = buf_slice(&restore->membership)};
	restore->writer = checkpoint_writer_new(store, &restore->meta, 1);
	*ret_restore = restore;
	return 0;
}

struct node_restore *node_restore_free(struct node_restore *restore)
{
	if (!restore)
		return NULL;
	(void)checkpoint_writer_free(restore->writer);
	(void)store_free(restore->store);
	wal_free(restore->wal);
	buf_done(&restore->membership);
	buf_done(&restore->steps.bytes);
	free(restore);
	return NULL;
}

bool node_restore_next(struct node_restore *restore, struct wal_plan *plan)
{
	struct wal_hard_state hard_state = {.term = restore->meta.term, .commit = restore->meta.index};

	switch (restore->step) {
	case RESTORE_LOG_START:
		wal_start_plan(restore->wal, plan);
		restore->step = RESTORE_CHECKPOINT;
		return true;
	case RESTORE_CHECKPOINT:
		if (!checkpoint_writer_step(restore->writer, CHECKPOINT_CHUNK_BYTES, &restore->steps))
			restore->step = RESTORE_LOG;
		node_checkpoint_to_plan(&restore->steps, plan);
		return true;
	case RESTORE_LOG:
		wal_restart_at(restore->wal, restore->meta.index);
		wal_add_hard_state(restore->wal, &hard_state);
		wal_flush(restore->wal, plan);
		restore->step = RESTORE_DONE;
		return true;
	default:
		return false;
	}
}
