/* Leadership given away: when the owner ends, and when the own disk is slow. Slow is not a time alone, since
 * a busy machine is slow everywhere: it is a write of the log that takes longer than half an election
 * timeout, while another voter confirmed all of its entries meanwhile: that one's disk and the way to it
 * together were quicker by far. Three such writes in a row, or one that hangs for an election timeout, and
 * the leader hands over to that voter, if the others could elect without this member's disk. A write in time
 * makes it forget. Whoever came to lead keeps it for ten election timeouts, so that two with slow disks do
 * not pass it to and fro. */
#include "node/internal.h"
#include <errno.h>

static int64_t election_ns(const struct node *node)
{
	return (int64_t)node->election_ms * NS_PER_MS;
}

/* The voter that is furthest, this member left out, among those that have the log up to min_match; 0: none.
 */
static uint64_t furthest(const struct node *node, uint64_t min_match)
{
	const struct raft_set *voters = &raft_conf_get(node->raft)->voters;
	struct raft_progress progress, best = {0};

	for (uint32_t i = 0; i < voters->count; i++) {
		if (voters->ids[i] == node->id ||
			raft_progress_get(node->raft, voters->ids[i], &progress) < 0 || !progress.active ||
			progress.state != RAFT_REPLICATE || progress.match < min_match)
			continue;
		if (!best.id || progress.match > best.match)
			best = progress;
	}
	return best.id;
}

/* Are enough of them there to elect without this member? */
static bool can_elect(const struct node *node, const struct raft_set *set)
{
	struct raft_progress progress;
	uint32_t there = 0;

	for (uint32_t i = 0; i < set->count; i++)
		there += set->ids[i] != node->id &&
			 raft_progress_get(node->raft, set->ids[i], &progress) == 0 && progress.active;
	return !set->count || there >= set->count / 2 + 1;
}

int node_hand_over(struct node *node)
{
	uint64_t to;
	int r;

	if (node->failure || node->phase != NODE_PHASE_RUNNING || node->status.role != RAFT_LEADER)
		return -EHOSTUNREACH;
	to = furthest(node, 0);
	if (!to)
		return -ENOENT;
	r = raft_transfer_leader(node->raft, to);
	return r == -EBUSY ? 0 : r;
}

void node_slowness_submitted(struct node *node)
{
	struct raft_status status;

	raft_status_get(node->raft, &status);
	node->slowness.submitted_ns = node_mono(node);
	node->slowness.last_index = status.last_index;
	node->slowness.outrun = false;
}

void node_slowness_written(struct node *node)
{
	struct slowness *own = &node->slowness;

	if (!own->submitted_ns)
		return; /* not a write of entries */
	own->writes = own->outrun ? own->writes + 1 : 0;
	own->submitted_ns = 0;
}

void node_handover_turn(struct node *node, int64_t now_ns)
{
	struct slowness *own = &node->slowness;
	const struct raft_conf *conf = raft_conf_get(node->raft);
	uint64_t to;

	own->looked_ns = now_ns;
	if (own->term != node->status.term) {
		own->term = node->status.term;
		own->writes = 0;
		own->after_ns = now_ns + NODE_HANDOVER_PAUSE_ELECTIONS * election_ns(node);
	}
	if (!own->submitted_ns || now_ns - own->submitted_ns < election_ns(node) / 2)
		return;
	to = furthest(node, own->last_index);
	own->outrun = own->outrun || to;
	if (!to || now_ns < own->after_ns || conf->outgoing.count || !can_elect(node, &conf->voters) ||
		(own->writes + 1 < NODE_SLOW_WRITES && now_ns - own->submitted_ns < election_ns(node)))
		return;
	own->after_ns = now_ns + NODE_HANDOVER_PAUSE_ELECTIONS * election_ns(node);
	if (raft_transfer_leader(node->raft, to) < 0)
		return;
	own->handovers++;
	node_note(node, LOG_LEVEL_WARNING,
		"the disk of the log is slow here (a write takes %lld ms so far) and quicker at member %llx, "
		"which is to lead instead; check this member's disk",
		(long long)((now_ns - own->submitted_ns) / NS_PER_MS), (unsigned long long)to);
}

/* The next moment at which a write under way counts as slow, or as one that hangs. */
int64_t node_handover_due_ns(const struct node *node)
{
	const struct slowness *own = &node->slowness;
	int64_t slow_ns = own->submitted_ns + election_ns(node) / 2;

	if (node->status.role != RAFT_LEADER || !own->submitted_ns)
		return INT64_MAX;
	return own->looked_ns < slow_ns ? slow_ns : INT64_MAX; /* later each tick looks */
}
