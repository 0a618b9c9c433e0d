/* A disk that runs full. The log keeps two segments ready. When there is no space to make the next of them,
 * or the next checkpoint would not fit, this member raises an alarm: from then on it refuses what grows the
 * store, asks for a checkpoint behind which the log can be cut, hands leadership to a member that has space,
 * and lives on what is left, which is enough for deletes and changes of the membership. So does a leader when
 * no majority of the voters is without alarm: they could soon not even take the deletes. When what is left
 * comes to an end too a member takes nothing more, as if messages were lost, but goes on to answer reads and
 * to vote. It looks again every second, after a checkpoint that did not fit less and less often, and goes on
 * by itself.
 */
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
	return node->no_fit || wal_room(node->wal) < least_room(node) ? NODE_SPACE_NONE : NODE_SPACE_LOW;
}

bool node_space_is_out(int error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

int64_t node_space_pause_ns(int64_t last_ns)
{
	return last_ns ? MIN(2 * last_ns, NODE_ROOM_RETRY_MAX_NS) : NODE_ROOM_RETRY_NS;
}

bool node_grows(const struct store_command *command)
{
	return (command->op == STORE_OP_SET || command->op == STORE_OP_CREATE ||
		       command->op == STORE_OP_UPDATE || command->op == STORE_OP_COMPARE_AND_SWAP) &&
	       !command->refresh;
}

static bool most_have_space(const struct node *node, const struct raft_set *voters)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < voters->count; i++) {
		const struct member *member = node_member_find(node, voters->ids[i]);

		if (voters->ids[i] != node->id && !(member && member->no_space))
			count++;
	}
	count += raft_set_has(voters, node->id); /* asked only of a leader that has some */
	return !voters->count || count > voters->count / 2;
}

bool node_ends_growth(const struct node *node)
{
	const struct raft_conf *conf = raft_conf_get(node->raft);

	if (node->space_low || node->status.role != RAFT_LEADER)
		return node->space_low;
	return !most_have_space(node, &conf->voters) || !most_have_space(node, &conf->outgoing);
}

bool node_refuses(const struct node *node, const struct store_command *command)
{
	const struct member *leader = node_member_find(node, node->status.leader);

	if (!node_ends_growth(node) && !(leader && leader->no_space))
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

/* What must be left for a checkpoint: without one nothing would ever give space back. One under way is to be
 * finished. During an alarm an own one of a store that deletes have made smaller must fit, or one from the
 * leader; the history of events goes into it whatever is deleted. */
static uint64_t kept_for_checkpoint(const struct node *node, const struct checkpoint_space *at)
{
	uint64_t all = at->data_bytes + at->log_bytes, least;

	if (at->pending_bytes)
		return at->pending_bytes;
	least = store_history_bytes(node->store) + node->segment_bytes;
	return node->space_low ? MIN(all, MAX(all / 4, least)) : 0;
}

/* A leader lets nothing new in while there is no segment for it (wal_runs_short()). A follower has to take
 * what comes: its checkpoint may fail then, which raises the alarm. */
bool node_space_for_segment(const struct node *node)
{
	struct checkpoint_space at;

	if (!node->space_low && node->status.role != RAFT_LEADER)
		return true;
	node_checkpoint_space(node, &at);
	if (node->space_low && at.pending_bytes && wal_room(node->wal) >= node->segment_bytes)
		return false;
	return at.room >= node->segment_bytes + kept_for_checkpoint(node, &at);
}

/* Whether the next checkpoint will not fit, by the time it is written early: with what the log since the last
 * one will give back, the room is the same all the while. `more`: that much must be left over. */
static bool is_cramped(const struct node *node, uint64_t more)
{
	struct checkpoint_space at;

	if (node_checkpoint_gives_back(node))
		return more > 0;
	node_checkpoint_space(node, &at);
	return at.room + at.log_bytes < at.data_bytes + 2 * at.step_bytes + more;
}

void node_space_look(struct node *node)
{
	node->checkpoints.disk_room = node->env->ops->disk_room(node->env);
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
		"alarm: not enough space left on the disk of the data directory: writes that grow the store "
		"are refused until there is; make room, or delete keys, for which there is a reserve");
}

/* What does not fit into the segments that are there takes space in passing, and the member stops if there is
 * none. */
bool node_space_for_append(struct node *node, uint64_t bytes)
{
	uint64_t all = wal_batch_bytes(node->wal) + node->taken_bytes + bytes;
	uint64_t room = node->checkpoints.disk_room;

	if (all > wal_room(node->wal) && (node->space_low || room < node->segment_bytes + all)) {
		node_space_out(node);
		node->no_fit = true;
		return false;
	}
	node->taken_bytes += bytes;
	return true;
}

/* To a voter that has space, and the most of the log. */
static void hand_over(struct node *node, int64_t now_ns)
{
	uint64_t best = 0, best_match = 0;

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

/* A leader tells when the others' alarms become its own, and when that ends. */
static void watch_others(struct node *node)
{
	bool low = !node->space_low && node_ends_growth(node);

	if (low == node->others_low)
		return;
	node->others_low = low;
	if (low) {
		node_refuse_growth(node);
		node_note(node, LOG_LEVEL_ERROR,
			"alarm: the disks of most members are full: writes that grow the store are refused "
			"until they have space; make room there, or delete keys");
	} else {
		node_note(node, LOG_LEVEL_NOTICE,
			"the alarm of the other members' disks is over, as far as this member is concerned");
	}
}

void node_space_turn(struct node *node, int64_t now_ns)
{
	bool stocked = wal_is_stocked(node->wal);

	watch_others(node);
	/* Who receives a checkpoint has its old one and its log back afterwards, if it fits. */
	if (!node->space_low && !node->checkpoints.incoming.receiver && is_cramped(node, 0))
		node_space_out(node);
	if (!node->space_low)
		return;
	if (now_ns >= node->look_after_ns) {
		node->look_after_ns = now_ns + NODE_SPARE_RETRY_NS;
		node_space_look(node);
		node->checkpoints.asked = node->checkpoints.asked || is_worth_it(node);
	}
	if (stocked)
		node->checkpoints.gave_reserve = false;
	if (!stocked || node->checkpoints.room_pause_ns || node_transfer_lacks_room(node) ||
		is_cramped(node, node->segment_bytes)) {
		hand_over(node, now_ns);
		return;
	}
	node->space_low = node->no_fit = false;
	node->checkpoints.incoming.pause_ns = 0;
	node_note(node, LOG_LEVEL_NOTICE,
		"there is space again on the disk of the data directory: writes are taken again");
}
