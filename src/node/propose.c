/* Proposals. Each gets a number of this life of the member, which travels in its entry: when this member
 * applies an entry with its own id and boot number, the number finds the request. Queued proposals are handed
 * to raft in pieces, one per turn; on a follower raft forwards them to the leader.
 *
 * What was handed over is never handed over again while it may still take effect. Two things prove that it
 * cannot: the leader refused it, or an entry of a later term was applied and it was not before it (a proposal
 * enters the log only in the term it was proposed in, and terms in the log do not go back). Then it is queued
 * again. Otherwise the request waits for its deadline and is answered "unknown". Changes of the membership
 * have a queue of their own, since raft takes one at a time. */
#include "node/internal.h"
#include <errno.h>

static struct pending **bucket_of(struct node *node, uint64_t sequence)
{
	return &node->buckets[sequence % NODE_BUCKETS];
}

static struct pending *find(struct node *node, uint64_t sequence)
{
	struct pending *pending = *bucket_of(node, sequence);

	while (pending && pending->sequence != sequence)
		pending = pending->chain;
	return pending;
}

static void leave_window(struct node *node, struct pending *pending)
{
	if (pending->window == node->window)
		node->window_bytes -= pending->blob->len;
	pending->window = 0;
}

/* Takes it out of all tables; the caller frees it. */
static void unlink_pending(struct node *node, struct pending *pending)
{
	struct pending **at = bucket_of(node, pending->sequence);

	while (*at != pending)
		at = &(*at)->chain;
	*at = pending->chain;
	list_remove(&pending->link);
	list_remove(&pending->queue_link);
	leave_window(node, pending);
	(void)node_request_end(&pending->request);
	node->pending_count--;
	node->pending_bytes -= pending->blob->len;
	if (pending->internal != NODE_REQUEST)
		node->under_way[pending->internal] = NULL;
}

static void pending_free(struct pending *pending)
{
	raft_blob_unref(pending->blob);
	free(pending);
}

static void drop(struct node *node, struct pending *pending)
{
	unlink_pending(node, pending);
	pending_free(pending);
}

static void answer(struct node *node, struct pending *pending, const struct node_reply *reply)
{
	void *request = pending->request.name;

	drop(node, pending);
	if (request)
		node->env->ops->reply(node->env, request, reply);
}

static void queue(struct node *node, struct pending *pending)
{
	list_push_back(pending->conf ? &node->conf_queue : &node->queue, &pending->queue_link);
}

static void add(struct node *node, enum node_internal internal, enum node_entry_kind kind,
	struct slice payload, const struct raft_conf_change *steps, void *request)
{
	struct pending *pending = mem_new(struct pending), **bucket;
	struct node_entry entry = {
		.kind = kind,
		.origin = node->id,
		.boot = node->boot,
		.sequence = node->next_sequence++,
		.payload = payload,
	};

	pending->blob = node_entry_encode(&entry);
	if (steps) {
		struct raft_conf_change change = *steps;
		struct raft_blob *context = pending->blob;

		change.context = raft_blob_slice(context);
		pending->blob = raft_conf_change_encode(&change);
		pending->conf = true;
		raft_blob_unref(context);
	}
	pending->sequence = entry.sequence;
	pending->internal = internal;
	node_request_begin(node, &pending->request, request);
	pending->leader_changes = node->leader_changes;
	pending->deadline_ns =
		node_mono(node) + NODE_REQUEST_TIMEOUT_NS + 2 * (int64_t)node->election_ms * NS_PER_MS;
	bucket = bucket_of(node, pending->sequence);
	pending->chain = *bucket;
	*bucket = pending;
	list_push_back(&node->pendings, &pending->link);
	queue(node, pending);
	node->pending_count++;
	node->pending_bytes += pending->blob->len;
	if (internal == NODE_REQUEST)
		return;
	assert(!node->under_way[internal]);
	node->under_way[internal] = pending;
}

static bool is_full(const struct node *node, size_t more_bytes)
{
	return node->pending_count >= NODE_PENDING_COUNT_MAX ||
	       node->pending_bytes + more_bytes > NODE_PENDING_BYTES_MAX;
}

int node_propose(struct node *node, struct slice command, void *request)
{
	struct store_command decoded;

	assert(request);
	if (node->failure)
		return -ESHUTDOWN;
	if (command.len > NODE_COMMAND_MAX)
		return -EMSGSIZE;
	if (store_command_decode(command, &decoded) < 0)
		return -EBADMSG;
	if (node_refuses(node, &decoded))
		return -ENOSPC;
	if (is_full(node, command.len))
		return -EBUSY;
	add(node, NODE_REQUEST, NODE_ENTRY_COMMAND, command, NULL, request);
	return 0;
}

void node_propose_conf(struct node *node, enum node_internal internal,
	const struct node_member_change *change, void *request)
{
	_cleanup_buf_ struct buf payload = BUF_INIT(0);
	struct raft_conf_change steps;
	bool update = change->op == NODE_MEMBER_UPDATE;

	node_change_encode(change, &payload);
	if (!update)
		node_change_steps(change, &steps);
	add(node, internal, NODE_ENTRY_MEMBER, buf_slice(&payload), update ? NULL : &steps, request);
}

int node_propose_member(struct node *node, const struct node_member_change *change, void *request)
{
	bool urls = change->op != NODE_MEMBER_REMOVE;

	assert(request);
	if (node->failure)
		return -ESHUTDOWN;
	if (change->op < NODE_MEMBER_ADD || change->op > NODE_MEMBER_REPLACE || !change->id ||
		(change->op == NODE_MEMBER_REPLACE) != (change->replaces != 0) ||
		urls != (change->peer_urls && change->peer_urls[0]))
		return -EINVAL;
	if (is_full(node, 0))
		return -EBUSY;
	node_propose_conf(node, NODE_REQUEST, change, request);
	return 0;
}

static bool blob_grows(const struct raft_blob *blob)
{
	struct store_command command;
	struct node_entry entry;

	return node_entry_decode(raft_blob_slice(blob), &entry) == 0 && entry.kind == NODE_ENTRY_COMMAND &&
	       store_command_decode(entry.payload, &command) == 0 && node_grows(&command);
}

bool node_entry_grows(const struct raft_entry *entry)
{
	return entry->type == RAFT_ENTRY_DATA && blob_grows(entry->data);
}

void node_refuse_growth(struct node *node)
{
	struct node_reply reply = {.error = NODE_ERROR_NO_SPACE};

	list_for_each_safe (it, &node->queue) {
		struct pending *pending = list_item(it, struct pending, queue_link);

		if (pending->internal == NODE_REQUEST && blob_grows(pending->blob))
			answer(node, pending, &reply);
	}
}

void node_propose_internal(
	struct node *node, enum node_internal internal, enum node_entry_kind kind, struct slice payload)
{
	add(node, internal, kind, payload, NULL, NULL);
}

/* Only the leader moves the clock, decides the version and promotes, each when it sees that it is time. */
static bool is_of_leader(enum node_internal internal)
{
	return internal == NODE_VERSION || internal == NODE_TICK || internal == NODE_PROMOTE;
}

/* What was queued before leadership went. */
static void drop_pointless(struct node *node)
{
	if (node->status.role == RAFT_LEADER)
		return;
	for (unsigned i = 0; i < NODE_INTERNAL_MAX; i++) {
		struct pending *pending = node->under_way[i];

		if (pending && !pending->sent && is_of_leader(i))
			drop(node, pending);
	}
}

/* Collects the next piece of the queue. */
static size_t collect(struct node *node, struct raft_blob **blobs, struct pending **pieces)
{
	size_t count = 0, bytes = 0;

	list_for_each (it, &node->queue) {
		struct pending *pending = list_item(it, struct pending, queue_link);

		if (count == NODE_TURN_PROPOSED_MAX ||
			(count && bytes + pending->blob->len > NODE_TURN_PROPOSED_BYTES))
			break;
		bytes += pending->blob->len;
		pieces[count] = pending;
		blobs[count++] = pending->blob;
	}
	return count;
}

static void was_sent(
	struct node *node, struct pending *pending, bool forwarded, uint64_t term, uint64_t raft_id)
{
	if (forwarded) {
		pending->window = node->window;
		node->window_bytes += pending->blob->len;
	}
	list_remove(&pending->queue_link);
	pending->sent = true;
	pending->forwarded = forwarded;
	pending->term = term;
	pending->raft_id = raft_id;
}

/* A leader refuses when too much is under way, until its disk or a majority wrote it: seconds, at worst. Then
 * one piece at a time shows whether it has room again, after twice as long each time. */
static void pause_proposals(struct node *node)
{
	int64_t most_ns = (int64_t)node->election_ms * NS_PER_MS;

	node->refused_pause_ns = MIN(MAX(2 * node->refused_pause_ns, node->tick_ns), most_ns);
	node->propose_after_ns = node_mono(node) + node->refused_pause_ns;
}

static void flush_changes(struct node *node)
{
	while (!node->conf_blocked && !list_empty(&node->conf_queue)) {
		struct pending *pending = list_first(&node->conf_queue, struct pending, queue_link);
		struct raft_conf_change change;
		struct raft_status status;
		uint64_t id;
		int r;

		r = raft_conf_change_decode(raft_blob_slice(pending->blob), &change);
		assert(r == 0);
		raft_status_get(node->raft, &status);
		r = raft_propose_conf(node->raft, &change, &id);
		if (r < 0)
			node->conf_blocked = true;
		else
			was_sent(node, pending, r == RAFT_FORWARDED, status.term, id);
	}
}

bool node_log_is_behind(const struct node *node, size_t gathered_max)
{
	/* Until a segment is made, or there is no space for one. */
	return (wal_runs_short(node->wal) && !node->space_low) ||
	       (node->log_busy && wal_batch_bytes(node->wal) >= gathered_max);
}

bool node_queue_waits(const struct node *node)
{
	if (list_empty(&node->queue) || node->propose_blocked)
		return true;
	if (node->status.role == RAFT_LEADER)
		return node_log_is_behind(node, NODE_GATHERED_BYTES_MAX);
	return node->window_bytes >= NODE_FORWARDED_BYTES_MAX || node->turn_ns < node->propose_after_ns;
}

static void flush_queue(struct node *node)
{
	struct raft_blob *blobs[NODE_TURN_PROPOSED_MAX];
	struct pending *pieces[NODE_TURN_PROPOSED_MAX];
	struct raft_status status;
	uint64_t id;
	size_t count = collect(node, blobs, pieces);
	int r;

	static_assert(NODE_TURN_PROPOSED_MAX <= RAFT_MESSAGE_ENTRIES_MAX, "a piece fits a message");
	if (!count)
		return;
	raft_status_get(node->raft, &status);
	r = raft_propose(node->raft, blobs, count, &id);
	if (r < 0) {
		node->propose_blocked = true;
		return;
	}
	for (size_t i = 0; i < count; i++)
		was_sent(
			node, pieces[i], r == RAFT_FORWARDED, status.term, r == RAFT_FORWARDED ? id : id + i);
	if (node->refused_pause_ns)
		pause_proposals(node);
}

/* What is sent to a leader without a connection is lost, and nobody would know before its time is up. */
static bool leader_is_away(const struct node *node)
{
	const struct member *leader = node_member_find(node, node->status.leader);

	return node->status.role != RAFT_LEADER && leader && !leader->connected;
}

void node_flush_proposals(struct node *node)
{
	drop_pointless(node);
	if (leader_is_away(node))
		node->propose_blocked = node->conf_blocked = true; /* until it is connected */
	if (!node_queue_waits(node))
		flush_queue(node);
	flush_changes(node);
}

/* Before those that came later: behind them it could be refused again and again, while they are taken. *at:
 * where to look from, since they come in order; at first node.queue. */
static void queue_again(struct node *node, struct pending *pending, struct list **at)
{
	pending->sent = false;
	leave_window(node, pending);
	if (pending->conf) {
		queue(node, pending);
		return;
	}
	while ((*at)->next != &node->queue &&
		list_item((*at)->next, struct pending, queue_link)->sequence < pending->sequence)
		*at = (*at)->next;
	list_insert_before((*at)->next, &pending->queue_link);
	*at = &pending->queue_link;
}

void node_proposals_go_on(struct node *node)
{
	node->window++;
	node->window_bytes = 0;
	node->propose_after_ns = node->refused_pause_ns = 0;
	node->propose_blocked = node->conf_blocked = false;
}

static void was_refused(struct node *node, struct pending *pending, struct list **at)
{
	queue_again(node, pending, at);
	if (pending->conf)
		node->conf_blocked = true; /* until the next tick or change: one at a time */
	else if (!node->refused_pause_ns)
		pause_proposals(node);
}

void node_proposals_refused(struct node *node, const uint64_t *contexts, size_t count)
{
	const struct member *leader = node_member_find(node, node->status.leader);
	struct list *at = &node->queue;

	if (!count)
		return;
	list_for_each (it, &node->pendings) {
		struct pending *pending = list_item(it, struct pending, link);

		for (size_t i = 0; i < count; i++)
			if (pending->sent && pending->forwarded && pending->raft_id == contexts[i]) {
				was_refused(node, pending, &at);
				break;
			}
	}
	if (leader && leader->no_space)
		node_refuse_growth(node);
}

void node_proposals_lost_before(struct node *node, uint64_t term)
{
	struct list *at = &node->queue;

	list_for_each_safe (it, &node->pendings) {
		struct pending *pending = list_item(it, struct pending, link);

		if (!pending->sent || pending->term >= term)
			continue;
		if (is_of_leader(pending->internal))
			drop(node, pending);
		else
			queue_again(node, pending, &at);
	}
}

void node_proposals_skipped(struct node *node)
{
	list_for_each_safe (it, &node->pendings) {
		struct pending *pending = list_item(it, struct pending, link);
		struct node_reply reply = {.error = node_unknown_fate(node, pending->leader_changes)};

		if (pending->sent)
			answer(node, pending, &reply);
	}
}

void node_complete(struct node *node, const struct node_entry *entry, const struct raft_entry *raft_entry,
	enum node_error error, const struct store_result *result)
{
	struct pending *pending = find(node, entry->sequence);
	struct node_reply reply = {
		.error = error,
		.raft_index = raft_entry->index,
		.raft_term = raft_entry->term,
		.result = result,
	};

	if (!pending)
		return; /* given up on */
	assert(pending->sent);
	node->propose_after_ns = node->refused_pause_ns = 0;
	answer(node, pending, &reply);
}

enum node_error node_unknown_fate(const struct node *node, uint64_t leader_changes_then)
{
	const struct member *leader = node_member_find(node, node->status.leader);

	if (!leader || node->leader_changes != leader_changes_then)
		return NODE_ERROR_LEADER_LOST;
	return leader->connected ? NODE_ERROR_TIMEOUT : NODE_ERROR_CONNECTION_LOST;
}

void node_expire_requests(struct node *node, int64_t now_ns)
{
	while (!list_empty(&node->pendings) && node->replies_left) {
		struct pending *pending = list_first(&node->pendings, struct pending, link);
		struct node_reply reply = {.error = node_unknown_fate(node, pending->leader_changes)};

		if (pending->deadline_ns > now_ns)
			return;
		node->replies_left--;
		answer(node, pending, &reply);
	}
}

void node_stop_requests(struct node *node)
{
	struct node_reply reply = {.error = NODE_ERROR_STOPPED};

	while (!list_empty(&node->pendings))
		answer(node, list_first(&node->pendings, struct pending, link), &reply);
}

void node_requests_free(struct node *node)
{
	list_for_each_safe (it, &node->pendings)
		pending_free(list_item(it, struct pending, link));
	list_init(&node->pendings);
}
