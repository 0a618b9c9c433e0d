/* A disk that runs full. The log keeps two segments ready. When there is no space to make the next of them
 * this member raises an alarm: from then on it refuses what grows the store, asks for a checkpoint behind
 * which the log can be cut, hands leadership to a member that has space, and lives on what is left, which is
 * enough for deletes and changes of the membership. When even that comes to an end it takes nothing more, as
 * if messages were lost, but goes on to answer reads and to vote. It looks again every second, and goes
 * on by itself. */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

static uint64_t least_room(const struct node *node)
{
	return MIN(NODE_ROOM_LEAST_BYTES, node->segment_bytes / 32);
}

enum node_space node_space(const struct node *node)
{
	if (!node->space_low)
		return NODE_SPACE_OK;
	return wal_room(node->wal) < least_room(node) ? NODE_SPACE_NONE : NODE_SPACE_LOW;
}

bool node_grows(const struct store_command *command)
{
	return (command->op == STORE_OP_SET || command->op == STORE_OP_CREATE ||
		       command->op == STORE_OP_UPDATE || command->op == STORE_OP_COMPARE_AND_SWAP) &&
	       !command->refresh;
}

bool node_refuses(const struct node *node, const struct store_command *command)
{
	const struct member *leader = node_member_find(node, node->status.leader);

	if (!node->space_low && !(leader && leader->no_space))
		return false;
	return node_grows(command) || node_space(node) == NODE_SPACE_NONE;
}

/* Whether a checkpoint would help: the log has grown, or the store shrunk. */
static bool is_worth_it(const struct node *node)
{
	const struct checkpoints *own = &node->checkpoints;
	struct checkpoint_info info;

	if (!own->current || own->log_bytes - own->current_log_bytes > node->segment_bytes / 8)
		return true;
	checkpoint_get_info(own->current, &info);
	return store_nodes(node->store) < info.image.nodes;
}

void node_space_out(struct node *node)
{
	node->spare_after_ns = node_mono(node) + NODE_SPARE_RETRY_NS;
	node->checkpoints.asked = node->checkpoints.asked || is_worth_it(node);
	if (node->space_low)
		return;
	node->space_low = true;
	node_refuse_growth(node);
	node_note(node, LOG_LEVEL_ERROR,
		"alarm: no space left on the disk of the data directory: writes that grow the store are "
		"refused "
		"until there is; make room, or delete keys, for which there is a reserve");
}

void node_space_turn(struct node *node, int64_t now_ns)
{
	uint64_t best = 0, best_match = 0;

	if (!node->space_low)
		return;
	if (wal_is_stocked(node->wal)) {
		node->space_low = false;
		node->checkpoints.gave_reserve = false;
		node_note(node, LOG_LEVEL_NOTICE,
			"there is space again on the disk of the data directory: writes are taken again");
		return;
	}
	if (node->status.role != RAFT_LEADER || now_ns < node->hand_over_after_ns)
		return;
	for (size_t i = 0; i < node->members_len; i++) {
		const struct member *member = &node->members[i];
		struct raft_progress progress;

		if (member->view.id == node->id || member->no_space ||
			!node_member_votes(node, member->view.id) ||
			raft_progress_get(node->raft, member->view.id, &progress) < 0 || !progress.active ||
			progress.state != RAFT_REPLICATE || progress.match < best_match)
			continue;
		best = member->view.id;
		best_match = progress.match;
	}
	node->hand_over_after_ns = now_ns + 2 * (int64_t)node->election_ms * NS_PER_MS;
	if (best && raft_transfer_leader(node->raft, best) == 0)
		node_note(node, LOG_LEVEL_NOTICE, "leadership goes to member %" PRIx64 ", which has space",
			best);
}
