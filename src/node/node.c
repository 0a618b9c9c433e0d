/* The turn. Everything queued since the last one is handed to raft, and what raft makes of it is carried out:
 * messages go, records join the log's batch, committed entries are applied, requests answered. At most one
 * log write is under way; while it is, further records gather in the batch (group commit), and raft learns of
 * durability when it is done. */
#include "node/internal.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const error_texts[NODE_ERROR_MAX] = {
	[NODE_OK] = "",
	[NODE_ERROR_TIMEOUT] = "etcdserver: request timed out",
	[NODE_ERROR_LEADER_LOST] = "etcdserver: request timed out, possibly due to previous leader failure",
	[NODE_ERROR_CONNECTION_LOST] = "etcdserver: request timed out, possibly due to connection lost",
	[NODE_ERROR_TOO_MANY] = "etcdserver: too many requests",
	[NODE_ERROR_TOO_LARGE] = "etcdserver: request is too large",
	[NODE_ERROR_NO_SPACE] = "etcdserver: mvcc: database space exceeded",
	[NODE_ERROR_STOPPED] = "etcdserver: server stopped",
	[NODE_ERROR_MEMBER_EXISTS] = "etcdserver: ID exists",
	[NODE_ERROR_PEER_URL_EXISTS] = "etcdserver: peerURL exists",
	[NODE_ERROR_MEMBER_NOT_FOUND] = "etcdserver: ID not found",
	[NODE_ERROR_MEMBER_REMOVED] = "etcdserver: ID removed",
	[NODE_ERROR_MEMBER_REPLACED] =
		"etcdserver: the member is about to be replaced, or to take another's place",
	[NODE_ERROR_MEMBERS_FULL] = "etcdserver: there are as many members as there can be",
	[NODE_ERROR_MEMBERS_LAST] = "etcdserver: the last member that votes: remove those that do not vote "
				    "yet first, or wait for "
				    "them",
};

const char *node_error_text(enum node_error error)
{
	assert(error < NODE_ERROR_MAX);
	return error_texts[error];
}

void node_note(struct node *node, enum log_level level, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	node->env->ops->note(node->env, level, text);
}

int node_fail(struct node *node, const char *format, ...)
{
	char text[512];
	va_list args;

	if (node->failure)
		return -ESHUTDOWN;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	node->failure = mem_strdup(text);
	return -ESHUTDOWN;
}

static void tell_failure(struct node *node)
{
	if (node->failure_told)
		return;
	node->failure_told = true;
	node->env->ops->note(node->env, LOG_LEVEL_ERROR, node->failure);
	node_stop_requests(node);
	node_stop_reads(node, true);
}

void node_disk_done(struct node *node, const struct wal_plan *plan, int error)
{
	if (plan == &node->checkpoints.plan) {
		assert(node->checkpoints.job && !node->checkpoints.done);
		node->checkpoints.done = true;
		node->checkpoints.error = error;
		return;
	}
	if (plan == &node->log_plan) {
		assert(node->log_busy && !node->log_done);
		node->log_done = true;
	} else {
		assert(plan == &node->spare_plan && node->spare_busy && !node->spare_done);
		node->spare_done = true;
		if (node_space_is_out(error)) {
			node->spare_full = true;
			return;
		}
	}
	if (error < 0)
		(void)node_fail(node,
			"a write or sync of the log failed (%s): stopped, since it is unknown what reached "
			"the disk; "
			"check the disk and start the member again",
			strerror(-error));
}

static void submit_log(struct node *node)
{
	node->log_busy = true;
	node->log_writes++;
	node->env->ops->disk_submit(node->env, &node->log_plan);
}

static void begin_running(struct node *node)
{
	const struct raft_conf *conf = raft_conf_get(node->raft);

	node->phase = NODE_PHASE_RUNNING;
	node_space_look(node);
	node->ticked_ns = node_mono(node);
	if (conf->voters.count == 1 && conf->voters.ids[0] == node->id && !conf->outgoing.count)
		raft_campaign(node->raft); /* nobody to wait for */
}

static void spare_is_there(struct node *node)
{
	wal_spare_done(node->wal);
	node->no_fit = false;
	node_space_look(node);
}

/* Writes go on in what is there. */
static void spare_has_no_space(struct node *node)
{
	node->spare_full = false;
	wal_spare_failed(node->wal);
	node_space_out(node);
}

static void log_was_written(struct node *node)
{
	if (node->phase == NODE_PHASE_BOOTING)
		begin_running(node);
	else
		raft_persisted(node->raft, node->write_id_submitted);
	node_slowness_written(node);
}

static void take_disk_events(struct node *node)
{
	if (node->spare_done) {
		node->spare_done = node->spare_busy = node->propose_blocked = false;
		if (node->spare_full)
			spare_has_no_space(node);
		else
			spare_is_there(node);
	}
	if (node->checkpoints.done)
		node_checkpoint_done(node);
	if (node->log_done) {
		node->log_done = node->log_busy = false;
		node->log_writes_done = node->log_writes;
		if (!node->failure)
			wal_flushed(node->wal);
		if (node->phase == NODE_PHASE_CLEANING)
			node->log_cleaned = true;
		else
			log_was_written(node);
	}
	if (node->phase == NODE_PHASE_CLEANING && node->log_cleaned && !node->checkpoints.job &&
		!node->failure) {
		node->phase = NODE_PHASE_BOOTING;
		wal_flush(node->wal, &node->log_plan);
		submit_log(node);
	}
}

static void tick(struct node *node, int64_t now_ns)
{
	int64_t ticks = (now_ns - node->ticked_ns) / node->tick_ns;

	if (ticks <= 0)
		return;
	node->ticked_ns += ticks * node->tick_ns;
	/* A process that stood still for long did not observe that much silence: it ticks once per election
	 * at most. */
	raft_tick(node->raft, (uint32_t)MIN(ticks, (int64_t)node->election_ms * NS_PER_MS / node->tick_ns));
	node->propose_blocked = node->conf_blocked = false;
}

static void publish(struct node *node, int64_t now_ns)
{
	_cleanup_buf_ struct buf payload = BUF_INIT(0);

	if (node->published || node->under_way[NODE_PUBLISH] || !node->status.leader ||
		now_ns < node->publish_after_ns)
		return;
	wire_add_varint(&payload, node->id);
	wire_add_bytes(&payload, slice_str(node->name));
	node_urls_encode(&payload, (const char *const *)node->client_urls);
	node_propose_internal(node, NODE_PUBLISH, NODE_ENTRY_ATTRIBUTES, buf_slice(&payload));
	node->publish_after_ns = now_ns + NODE_PUBLISH_RETRY_NS;
}

static bool version_is_due(const struct node *node)
{
	return node->status.role == RAFT_LEADER && node->published && !node->cluster_version[0] &&
	       !node->under_way[NODE_VERSION];
}

/* What only the leader does: it moves the clock when something expires, and decides the cluster's version. */
static void lead(struct node *node, int64_t now_ns)
{
	_cleanup_buf_ struct buf payload = BUF_INIT(0);
	int64_t clock_ns;

	if (node->status.role != RAFT_LEADER)
		return;
	node_clock_lead(node, now_ns);
	if (node_space(node) == NODE_SPACE_NONE)
		return;
	node_promote_turn(node, now_ns);
	node_handover_turn(node, now_ns);
	if (version_is_due(node))
		node_propose_internal(
			node, NODE_VERSION, NODE_ENTRY_VERSION_SET, slice_str(node->server_version));
	clock_ns = node_clock_at(node, now_ns);
	if (store_next_expiry_ns(node->store) <= clock_ns && !node->under_way[NODE_TICK] &&
		now_ns >= node->expiry_after_ns) {
		struct store_command command = {.op = STORE_OP_TICK, .time_ns = clock_ns};

		store_command_encode(&command, &payload);
		node_propose_internal(node, NODE_TICK, NODE_ENTRY_COMMAND, buf_slice(&payload));
		node->expiry_after_ns = now_ns + NODE_EXPIRY_INTERVAL_NS;
	}
}

static void add_write(struct node *node, const struct raft_write *write)
{
	struct wal_hard_state hard_state = {
		.term = write->hard_state.term,
		.vote = write->hard_state.vote,
		.commit = write->hard_state.commit,
		.boot = node->boot,
	};

	if (!write->id)
		return;
	assert(write->id > node->write_id_added);
	for (size_t i = 0; i < write->entry_count; i++) {
		const struct raft_entry *entry = &write->entries[i];
		struct wal_entry record = {
			.index = entry->index,
			.term = entry->term,
			.kind = (uint8_t)entry->type,
			.data = raft_blob_slice(entry->data),
		};

		wal_add_entry(node->wal, &record);
	}
	wal_add_hard_state(node->wal, &hard_state);
	node->write_id_added = write->id;
}

static void take_status(struct node *node)
{
	uint64_t leader = node->status.leader, term = node->status.term;

	raft_status_get(node->raft, &node->status);
	if (node->status.leader == leader && node->status.term == term)
		return;
	node_proposals_go_on(node);
	if (node->status.leader != leader) {
		node->leader_changes++;
		node->leader_since_wall_ns = node->status.leader ? node->env->ops->wall_ns(node->env) : 0;
	}
}

void node_run_batch(struct node *node)
{
	struct raft_batch batch;

	raft_ready(node->raft, &batch);
	take_status(node);
	node_send_messages(node, batch.messages, batch.message_count);
	add_write(node, &batch.write);
	node_proposals_refused(node, batch.refused, batch.refused_count);
	node_reads_answered(node, batch.reads, batch.read_count);
	node_apply_batch(node, &batch);
	for (size_t i = 0; i < batch.snapshot_count; i++)
		node_transfer_wanted(node, batch.snapshots[i]);
	raft_advance(node->raft);
}

static void write_log(struct node *node)
{
	if (!node->log_busy && wal_batch_bytes(node->wal)) {
		wal_flush(node->wal, &node->log_plan);
		node->write_id_submitted = node->write_id_added;
		node_slowness_submitted(node);
		submit_log(node);
	}
}

static void make_spare(struct node *node)
{
	if (node->spare_busy || node->checkpoints.job || node_mono(node) < node->spare_after_ns ||
		!node_space_for_segment(node) ||
		!wal_spare_plan(node->wal, node->space_low, &node->spare_plan))
		return;
	node->spare_busy = node->spare_was_last = true;
	node->env->ops->disk_submit(node->env, &node->spare_plan);
}

/* The log's segments go first, but not always: writes can use them up as fast as a slow disk makes them, and
 * no checkpoint would ever be written. */
static void work_in_background(struct node *node)
{
	bool last = node->spare_was_last;

	if (!last)
		make_spare(node);
	node_checkpoint_background(node);
	if (node->checkpoints.job)
		node->spare_was_last = false;
	if (last)
		make_spare(node);
}

static bool may_apply_more(const struct node *node)
{
	return node->turn_entries + NODE_APPLY_PIECE_ENTRIES <= NODE_TURN_APPLIED_MAX &&
	       node->turn_bytes < NODE_TURN_APPLIED_BYTES;
}

static void run(struct node *node, int64_t now_ns)
{
	unsigned batches = 0;

	node->turn_ns = now_ns;
	node->replies_left = NODE_TURN_REPLIES_MAX;
	node->turn_entries = node->turn_bytes = 0;
	tick(node, now_ns);
	node_expire_requests(node, now_ns);
	node_expire_reads(node, now_ns);
	take_status(node);
	publish(node, now_ns);
	lead(node, now_ns);
	node_space_turn(node, now_ns);
	node_transfer_turn(node, now_ns);
	node_log_turn(node, now_ns);
	node_flush_proposals(node);
	node_flush_reads(node);
	while (!node->failure && batches++ < NODE_BATCHES_PER_TURN && may_apply_more(node) &&
		raft_has_ready(node->raft))
		node_run_batch(node);
	node->taken_bytes = 0; /* they are in the log's batch by now */
	if (node->failure)
		return;
	node_serve_reads(node);
	write_log(node);
	node_removal_kept(node);
	node_exports_turn(node);
	work_in_background(node);
	node->more_work = raft_has_ready(node->raft) || !node->replies_left || !node_queue_waits(node) ||
			  (!list_empty(&node->conf_queue) && !node->conf_blocked) ||
			  node->checkpoints.freeing || store_collect(node->store, 64);
}

void node_turn(struct node *node)
{
	if (!node->failure) {
		take_disk_events(node);
		if (!node->failure && node->phase == NODE_PHASE_RUNNING)
			run(node, node_mono(node));
	}
	if (node->failure) {
		node->more_work = false;
		tell_failure(node);
	}
	if (node->members_dirty) {
		node->members_dirty = false;
		node->env->ops->members_changed(node->env);
	}
}

int node_transfer_leader(struct node *node, uint64_t to)
{
	if (node->failure || node->phase != NODE_PHASE_RUNNING)
		return -ESHUTDOWN;
	return raft_transfer_leader(node->raft, to);
}

/* When lead() has something to do, which it does. */
static int64_t leader_due_ns(const struct node *node, int64_t now_ns)
{
	int64_t expiry_ns = store_next_expiry_ns(node->store), clock_ns = node_clock_at(node, now_ns),
		tick_ns;

	if (node->status.role != RAFT_LEADER || node_space(node) == NODE_SPACE_NONE)
		return INT64_MAX;
	if (version_is_due(node))
		return INT64_MIN;
	if (node->under_way[NODE_TICK] || expiry_ns == INT64_MAX)
		return node_handover_due_ns(node);
	tick_ns = expiry_ns <= clock_ns ? now_ns : now_ns + MIN(expiry_ns - clock_ns, NS_PER_S);
	tick_ns = MAX(tick_ns, node->expiry_after_ns);
	return MIN(tick_ns, node_handover_due_ns(node));
}

int64_t node_deadline_ns(const struct node *node)
{
	int64_t now_ns, due_ns;

	if (node->failure)
		return node->failure_told ? INT64_MAX : INT64_MIN;
	if (node->more_work || node->log_done || node->spare_done || node->checkpoints.done)
		return INT64_MIN;
	if (node->phase != NODE_PHASE_RUNNING)
		return INT64_MAX;
	now_ns = node_mono(node);
	due_ns = node->ticked_ns + (int64_t)raft_ticks_until_due(node->raft) * node->tick_ns;
	if ((node->propose_blocked && !list_empty(&node->queue)) ||
		(node->conf_blocked && !list_empty(&node->conf_queue)))
		due_ns = MIN(due_ns, node->ticked_ns + node->tick_ns);
	if (node->turn_ns < node->propose_after_ns && !list_empty(&node->queue))
		due_ns = MIN(due_ns, node->propose_after_ns);
	if (!list_empty(&node->pendings))
		due_ns = MIN(due_ns, list_first(&node->pendings, struct pending, link)->deadline_ns);
	if (!node->published && node->status.leader && !node->under_way[NODE_PUBLISH])
		due_ns = MIN(due_ns, node->publish_after_ns);
	if (node->checkpoints.writer && !node->checkpoints.job && !node->spare_busy &&
		!node_checkpoint_waits(node))
		due_ns = MIN(due_ns, node->checkpoints.rest_until_ns);
	due_ns = MIN(due_ns, node_reads_deadline(node));
	return MIN(due_ns, leader_due_ns(node, now_ns));
}

struct store *node_store(struct node *node)
{
	return node->store;
}

const char *node_failure(const struct node *node)
{
	return node->failure;
}

const char *node_cluster_version(const struct node *node)
{
	return node->cluster_version;
}

static uint64_t checkpoint_index(const struct node *node)
{
	struct checkpoint_info info;

	if (!node->checkpoints.current)
		return 0;
	checkpoint_get_info(node->checkpoints.current, &info);
	return info.id.index;
}

void node_get_status(const struct node *node, struct node_status *ret_status)
{
	static const enum node_role roles[RAFT_ROLE_MAX] = {
		[RAFT_FOLLOWER] = NODE_FOLLOWER,
		[RAFT_PRECANDIDATE] = NODE_CANDIDATE,
		[RAFT_CANDIDATE] = NODE_CANDIDATE,
		[RAFT_LEADER] = NODE_LEADER,
	};
	const struct raft_conf *conf = raft_conf_get(node->raft);
	struct raft_status status;

	raft_status_get(node->raft, &status);
	*ret_status = (struct node_status){
		.role = roles[status.role],
		.id = node->id,
		.cluster_id = node->cluster_id,
		.leader = status.leader,
		.term = status.term,
		.commit = status.commit,
		.applied = node->applied,
		.last = status.last_index,
		.pending_count = node->pending_count,
		.pending_bytes = node->pending_bytes,
		.checkpoint_index = checkpoint_index(node),
		.checkpoints_written = node->checkpoints.written,
		.checkpoint_writing = node->checkpoints.writer,
		.checkpoints_received = node->checkpoints.received,
		.checkpoints_sent = node->checkpoints.sent,
		.log_first = status.first_index,
		.space = node->others_low ? NODE_SPACE_LOW : node_space(node),
		.log_cached_bytes = status.cached_bytes,
		.log_reads = node->log_reader.reads,
		.log_disk_bytes = wal_disk_bytes(node->wal),
		.leader_since_wall_ns = node->leader_since_wall_ns,
		.voters = conf->voters.count,
		.learners = conf->learners.count,
		.joint = conf->outgoing.count > 0,
		.handovers = node->slowness.handovers,
		.removed = node->removed,
		.may_end = node_may_end(node),
	};
}
