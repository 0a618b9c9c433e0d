/* Proposals. Each gets a number of this life of the member, which travels in its entry: when this member
 * applies an entry with its own id and boot number, the number finds the request. Queued proposals are handed
 * to raft in pieces, once per turn; on a follower raft forwards them to the leader.
 *
 * What was handed over is never handed over again while it may still take effect. Two things prove that it
 * cannot: the leader refused it, or an entry of a later term was applied and it was not before it (a proposal
 * enters the log only in the term it was proposed in, and terms in the log do not go back). Then it is queued
 * again. Otherwise the request waits for its deadline and is answered "unknown". */
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

/* Takes it out of all tables; the caller frees it. */
static void unlink_pending(struct node *node, struct pending *pending)
{
	struct pending **at = bucket_of(node, pending->sequence);

	while (*at != pending)
		at = &(*at)->chain;
	*at = pending->chain;
	list_remove(&pending->link);
	list_remove(&pending->queue_link);
	node->pending_count--;
	node->pending_bytes -= pending->blob->len;
	node->internal_under_way[pending->internal] = false;
}

static void pending_free(struct pending *pending)
{
	raft_blob_unref(pending->blob);
	free(pending);
}

static void answer(struct node *node, struct pending *pending, const struct node_reply *reply)
{
	void *request = pending->request;

	unlink_pending(node, pending);
	pending_free(pending);
	if (request)
		node->env->ops->reply(node->env, request, reply);
}

static struct pending *add(struct node *node, enum node_internal internal, enum node_entry_kind kind,
	struct slice payload, void *request)
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
	pending->sequence = entry.sequence;
	pending->internal = internal;
	pending->request = request;
	pending->leader_changes = node->leader_changes;
	pending->deadline_ns =
		node_mono(node) + NODE_REQUEST_TIMEOUT_NS + 2 * (int64_t)node->election_ms * NS_PER_MS;
	bucket = bucket_of(node, pending->sequence);
	pending->chain = *bucket;
	*bucket = pending;
	list_push_back(&node->pendings, &pending->link);
	list_push_back(&node->queue, &pending->queue_link);
	node->pending_count++;
	node->pending_bytes += pending->blob->len;
	return pending;
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
	if (node->pending_count >= NODE_PENDING_COUNT_MAX ||
		node->pending_bytes + command.len > NODE_PENDING_BYTES_MAX)
		return -EBUSY;
	(void)add(node, NODE_REQUEST, NODE_ENTRY_COMMAND, command, request);
	return 0;
}

void node_propose_internal(
	struct node *node, enum node_internal internal, enum node_entry_kind kind, struct slice payload)
{
	assert(!node->internal_under_way[internal]);
	(void)add(node, internal, kind, payload, NULL);
	node->internal_under_way[internal] = true;
}

void node_forget(struct node *node, void *request)
{
	list_for_each (it, &node->pendings) {
		struct pending *pending = list_item(it, struct pending, link);

		if (pending->request == request) {
			pending->request = NULL;
			return;
		}
	}
	(void)node_forget_read(node, request);
}

/* Only the leader moves the clock and decides the version; what was queued before leadership went is dropped.
 */
static bool is_pointless(const struct node *node, const struct pending *pending)
{
	return (pending->internal == NODE_TICK || pending->internal == NODE_VERSION) &&
	       node->status.role != RAFT_LEADER;
}

/* Collects the next piece of the queue. */
static size_t collect(struct node *node, struct raft_blob **blobs, struct pending **pieces)
{
	size_t count = 0, bytes = 0;

	list_for_each_safe (it, &node->queue) {
		struct pending *pending = list_item(it, struct pending, queue_link);

		if (is_pointless(node, pending)) {
			unlink_pending(node, pending);
			pending_free(pending);
			continue;
		}
		if (count == RAFT_MESSAGE_ENTRIES_MAX ||
			(count && bytes + pending->blob->len > NODE_PROPOSE_BYTES_MAX))
			break;
		bytes += pending->blob->len;
		pieces[count] = pending;
		blobs[count++] = pending->blob;
	}
	return count;
}

void node_flush_proposals(struct node *node)
{
	struct raft_blob *blobs[RAFT_MESSAGE_ENTRIES_MAX];
	struct pending *pieces[RAFT_MESSAGE_ENTRIES_MAX];
	struct raft_status status;
	uint64_t id;
	size_t count;
	int r;

	while (!node->propose_blocked && (count = collect(node, blobs, pieces)) > 0) {
		raft_status_get(node->raft, &status);
		r = raft_propose(node->raft, blobs, count, &id);
		if (r < 0) {
			node->propose_blocked = true;
			return;
		}
		for (size_t i = 0; i < count; i++) {
			list_remove(&pieces[i]->queue_link);
			pieces[i]->sent = true;
			pieces[i]->forwarded = r == RAFT_FORWARDED;
			pieces[i]->term = status.term;
			pieces[i]->raft_id = r == RAFT_FORWARDED ? id : id + i;
		}
	}
}

static void queue_again(struct node *node, struct pending *pending)
{
	pending->sent = false;
	list_push_back(&node->queue, &pending->queue_link);
}

void node_proposals_refused(struct node *node, const uint64_t *contexts, size_t count)
{
	if (!count)
		return;
	list_for_each (it, &node->pendings) {
		struct pending *pending = list_item(it, struct pending, link);

		for (size_t i = 0; i < count; i++)
			if (pending->sent && pending->forwarded && pending->raft_id == contexts[i]) {
				queue_again(node, pending);
				break;
			}
	}
	node->propose_blocked = true; /* until the next tick or change: a full leader needs a moment */
}

void node_proposals_lost_before(struct node *node, uint64_t term)
{
	list_for_each (it, &node->pendings) {
		struct pending *pending = list_item(it, struct pending, link);

		if (pending->sent && pending->term < term)
			queue_again(node, pending);
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
	const struct store_result *result)
{
	struct pending *pending = find(node, entry->sequence);
	struct node_reply reply = {
		.error = NODE_OK,
		.raft_index = raft_entry->index,
		.raft_term = raft_entry->term,
		.result = result,
	};

	if (!pending)
		return; /* given up on */
	assert(pending->sent);
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
	while (!list_empty(&node->pendings)) {
		struct pending *pending = list_first(&node->pendings, struct pending, link);
		struct node_reply reply = {.error = node_unknown_fate(node, pending->leader_changes)};

		if (pending->deadline_ns > now_ns)
			return;
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
