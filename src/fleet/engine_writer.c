/* Operations live in one list from add to done; `next` points to the first that has not been sent. */
#include "fleet/engine_writer.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/memory.h"

#define ENGINE_WRITER_WINDOW 64

struct queued_op {
	struct list link;
	struct engine_writer *writer;
	struct engine_op op;
	struct etcd_request *request;
};
struct engine_writer {
	struct etcd_client *client;
	struct list queued, sent;
	size_t queued_count, sent_count;
	bool barrier_sent;
};

static void send_more(struct engine_writer *writer);

static void op_free(struct queued_op *queued)
{
	list_remove(&queued->link);
	etcd_request_cancel(queued->request);
	free((char *)queued->op.key);
	free((char *)queued->op.value);
	free((char *)queued->op.prev_value);
	free((char *)queued->op.name);
	free((char *)queued->op.machine);
	free(queued);
}

static void op_done(const struct etcd_response *response, void *userdata)
{
	struct queued_op *queued = userdata;
	struct engine_writer *writer = queued->writer;

	queued->request = NULL;
	writer->sent_count--;
	if (queued->op.barrier)
		writer->barrier_sent = false;
	list_remove(&queued->link);
	/* Outside every list while its owner is called: engine_writer_clear() from there does not touch it.
	 */
	if (queued->op.done)
		queued->op.done(queued->op.userdata, &queued->op, response);
	op_free(queued);
	send_more(writer);
}

static void op_send(struct engine_writer *writer, struct queued_op *queued)
{
	const struct engine_op *op = &queued->op;
	struct etcd_put_options put = {.value = op->value};
	struct etcd_delete_options del = {.prev_value = op->prev_value, .prev_index = op->prev_index};

	switch (op->write) {
	case ENGINE_WRITE_DELETE_DIR:
		del.recursive = true;
		/* fall through */
	case ENGINE_WRITE_DELETE_EMPTY:
		del.dir = true;
		/* fall through */
	case ENGINE_WRITE_DELETE:
		queued->request = etcd_delete(writer->client, op->key, &del, op_done, queued);
		return;
	case ENGINE_WRITE_CREATE:
		put.prev_exist = ETCD_PREV_NO_EXIST;
		break;
	case ENGINE_WRITE_SWAP:
		put.prev_value = op->prev_value;
		break;
	case ENGINE_WRITE_SET:
		break;
	}
	queued->request = etcd_put(writer->client, op->key, &put, op_done, queued);
}

static void send_more(struct engine_writer *writer)
{
	while (!list_empty(&writer->queued) && writer->sent_count < ENGINE_WRITER_WINDOW &&
		!writer->barrier_sent) {
		struct queued_op *queued = list_first(&writer->queued, struct queued_op, link);

		if (queued->op.barrier && writer->sent_count)
			return;
		list_remove(&queued->link);
		list_push_back(&writer->sent, &queued->link);
		writer->queued_count--;
		writer->sent_count++;
		writer->barrier_sent = queued->op.barrier;
		op_send(writer, queued);
	}
}

struct engine_writer *engine_writer_new(struct etcd_client *client)
{
	struct engine_writer *writer = mem_new(struct engine_writer);

	writer->client = client;
	list_init(&writer->queued);
	list_init(&writer->sent);
	return writer;
}

void engine_writer_clear(struct engine_writer *writer)
{
	list_for_each_safe (it, &writer->queued)
		op_free(list_item(it, struct queued_op, link));
	list_for_each_safe (it, &writer->sent)
		op_free(list_item(it, struct queued_op, link));
	writer->queued_count = writer->sent_count = 0;
	writer->barrier_sent = false;
}

struct engine_writer *engine_writer_free(struct engine_writer *writer)
{
	if (!writer)
		return NULL;
	engine_writer_clear(writer);
	free(writer);
	return NULL;
}

static char *copy(const char *text)
{
	return text ? mem_strdup(text) : NULL;
}

void engine_writer_add(struct engine_writer *writer, const struct engine_op *op)
{
	struct queued_op *queued = mem_new(struct queued_op);

	queued->writer = writer;
	queued->op = *op;
	queued->op.key = copy(op->key);
	queued->op.value = copy(op->value);
	queued->op.prev_value = copy(op->prev_value);
	queued->op.name = copy(op->name);
	queued->op.machine = copy(op->machine);
	list_push_back(&writer->queued, &queued->link);
	writer->queued_count++;
	send_more(writer);
}
