/* Linearizable reads: all that came in one turn share one ReadIndex round. raft answers every round,
 * repeating questions that were lost; one that it drops because the leader changed is begun again: reads
 * change nothing. */
#include "node/internal.h"
#include <errno.h>

int node_read_index(struct node *node, void *request)
{
	struct read_request *read;

	assert(request);
	if (node->failure)
		return -ESHUTDOWN;
	if (node->read_count >= NODE_PENDING_COUNT_MAX)
		return -EBUSY;
	read = mem_new(struct read_request);
	read->request.is_read = true;
	node_request_begin(node, &read->request, request);
	read->leader_changes = node->leader_changes;
	read->deadline_ns =
		node_mono(node) + NODE_REQUEST_TIMEOUT_NS + 2 * (int64_t)node->election_ms * NS_PER_MS;
	list_push_back(&node->reads, &read->link);
	list_push_back(&node->read_queue, &read->queue_link);
	node->read_count++;
	return 0;
}

static void answer(struct node *node, struct read_request *read, const struct node_reply *reply)
{
	void *request = node_request_end(&read->request);

	list_remove(&read->link);
	list_remove(&read->queue_link);
	free(read);
	node->read_count--;
	if (request && reply)
		node->env->ops->reply(node->env, request, reply);
}

static void batch_free(struct read_batch *batch)
{
	assert(list_empty(&batch->reads));
	list_remove(&batch->link);
	free(batch);
}

/* Puts the reads of a batch back in front of the queue. */
static void begin_again(struct node *node, struct read_batch *batch)
{
	list_splice_back(&batch->reads, &node->read_queue);
	list_splice_back(&node->read_queue, &batch->reads);
	batch_free(batch);
}

void node_flush_reads(struct node *node)
{
	struct read_batch *batch;

	if (list_empty(&node->read_queue) || raft_read_index(node->raft, node->next_read_context) < 0)
		return;
	batch = mem_new(struct read_batch);
	batch->context = node->next_read_context++;
	list_init(&batch->reads);
	list_splice_back(&batch->reads, &node->read_queue);
	list_push_back(&node->read_batches, &batch->link);
}

void node_reads_answered(struct node *node, const struct raft_read *reads, size_t count)
{
	for (size_t i = 0; i < count; i++)
		list_for_each_safe (it, &node->read_batches) {
			struct read_batch *batch = list_item(it, struct read_batch, link);

			if (batch->context != reads[i].context || batch->index)
				continue;
			if (reads[i].dropped)
				begin_again(node, batch);
			else
				batch->index = reads[i].index;
			break;
		}
}

void node_serve_reads(struct node *node)
{
	struct node_reply reply = {.raft_index = node->applied, .raft_term = node->applied_term};

	list_for_each_safe (it, &node->read_batches) {
		struct read_batch *batch = list_item(it, struct read_batch, link);

		if (!batch->index || batch->index > node->applied)
			continue;
		while (!list_empty(&batch->reads)) {
			if (!node->replies_left)
				return; /* the next turn goes on with the rest of it */
			node->replies_left--;
			answer(node, list_first(&batch->reads, struct read_request, queue_link), &reply);
		}
		batch_free(batch);
	}
}

void node_expire_reads(struct node *node, int64_t now_ns)
{
	while (!list_empty(&node->reads) && node->replies_left) {
		struct read_request *read = list_first(&node->reads, struct read_request, link);
		struct node_reply reply = {.error = node_unknown_fate(node, read->leader_changes)};

		if (read->deadline_ns > now_ns)
			return;
		node->replies_left--;
		answer(node, read, &reply);
	}
}

int64_t node_reads_deadline(const struct node *node)
{
	return list_empty(&node->reads) ? INT64_MAX
					: list_first(&node->reads, struct read_request, link)->deadline_ns;
}

void node_stop_reads(struct node *node, bool tell)
{
	struct node_reply reply = {.error = NODE_ERROR_STOPPED};

	list_for_each_safe (it, &node->read_batches)
		begin_again(node, list_item(it, struct read_batch, link));
	while (!list_empty(&node->reads))
		answer(node, list_first(&node->reads, struct read_request, link), tell ? &reply : NULL);
}

void node_read_forgotten(struct node *node, struct request *request)
{
	answer(node, container_of(request, struct read_request, request), NULL);
}
