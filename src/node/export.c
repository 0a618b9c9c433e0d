/* A snapshot for somebody outside the cluster: the newest checkpoint, written first if it is not as new as
 * what was applied when it was asked for, handed out piece by piece at the pace of whoever takes it. Its file
 * stays as long. */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

struct node_export {
	struct list link; /* node.checkpoints.exports */
	struct node *node;
	uint64_t least_index;		  /* of the checkpoint */
	struct checkpoint_source *source; /* NULL: it is not there yet */
	struct checkpoint_info info;
	uint64_t offset;
	bool wanted; /* bytes at `offset`, to be read */
	bool told;
	int error;
	void (*ready)(void *arg);
	void *arg;
};

struct node_export *node_export_new(struct node *node, void (*ready)(void *arg), void *arg)
{
	struct checkpoints *own = &node->checkpoints;
	struct node_export *export;

	if (own->exports_len == NODE_EXPORTS_MAX)
		return NULL;
	own->exports_len++;
	export = mem_new(struct node_export);
	export->node = node;
	export->least_index = node->applied;
	export->ready = ready;
	export->arg = arg;
	list_push_back(&own->exports, &export->link);
	return export;
}

struct node_export *node_export_free(struct node_export *export)
{
	if (!export)
		return NULL;
	if (export->node->checkpoints.exporting == export)
		export->node->checkpoints.exporting = NULL;
	export->node->checkpoints.exports_len--;
	list_remove(&export->link);
	(void)checkpoint_source_free(export->source);
	free(export);
	return NULL;
}

int node_export_next(struct node_export *export, size_t max_len, struct slice *ret_bytes)
{
	struct checkpoint_range range;
	int r;

	if (export->error)
		return export->error;
	if (!export->source)
		return -EAGAIN;
	if (checkpoint_source_needs(export->source, export->offset, &range)) {
		export->wanted = true;
		return -EAGAIN;
	}
	r = checkpoint_source_piece(export->source, export->offset, max_len, ret_bytes);
	assert(r == 0);
	export->offset += ret_bytes->len;
	return 0;
}

void node_export_get_info(const struct node_export *export, uint64_t *ret_index, uint64_t *ret_bytes)
{
	*ret_index = export->info.id.index;
	*ret_bytes = export->info.manifest_bytes + export->info.data_bytes;
}

/* In a turn: those that wait for a checkpoint look whether it is there. `ready` may end the export. */
void node_exports_turn(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;
	struct checkpoint_info info = {0};

	if (own->current)
		checkpoint_get_info(own->current, &info);
	list_for_each_safe (it, &own->exports) {
		struct node_export *export = list_item(it, struct node_export, link);

		if (export->error && !export->told) {
			export->told = true;
			export->ready(export->arg);
			continue;
		}
		if (export->source || export->error)
			continue;
		if (own->unreadable)
			continue; /* until there is another */
		if (info.id.index && info.id.index >= export->least_index) {
			export->source = checkpoint_source_new(own->current);
			export->info = info;
			export->ready(export->arg);
		} else if (!own->writer || own->writer_index < export->least_index) {
			own->asked = true;
		}
	}
}

void node_exports_failed(struct node *node, int error)
{
	list_for_each (it, &node->checkpoints.exports) {
		struct node_export *export = list_item(it, struct node_export, link);

		if (!export->source)
			export->error = error;
	}
}

bool node_exports_read(const struct node *node, uint64_t generation)
{
	list_for_each (it, &node->checkpoints.exports) {
		const struct node_export *export = list_item(it, struct node_export, link);

		if (export->source && export->info.generation == generation)
			return true;
	}
	return false;
}

bool node_exports_background(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	list_for_each_safe (it, &own->exports) {
		struct node_export *export = list_item(it, struct node_export, link);
		struct checkpoint_range range;

		if (!export->wanted)
			continue;
		export->wanted = false;
		if (!checkpoint_source_needs(export->source, export->offset, &range))
			continue;
		/* The next one's turn comes first after this. */
		list_remove(&export->link);
		list_push_back(&own->exports, &export->link);
		own->exporting = export;
		node_checkpoint_read(node, NODE_JOB_EXPORT, &range);
		return true;
	}
	return false;
}

void node_export_done(struct node *node, int error)
{
	struct checkpoints *own = &node->checkpoints;
	struct node_export *export = own->exporting;
	_cleanup_free_ char *reason = NULL;

	own->exporting = NULL;
	if (!export)
		return; /* it was given up meanwhile */
	if (error == 0)
		error = checkpoint_source_fill(
			export->source, export->offset, buf_slice(&own->read), &reason);
	if (error < 0) {
		node_note(node, LOG_LEVEL_ERROR, "a snapshot cannot be handed out: %s",
			reason ? reason : strerror(-error));
		export->error = error;
		export->told = true;
		own->unreadable = true; /* a new one takes its place */
	}
	export->ready(export->arg);
}
