/* Changes of the membership while the cluster runs. A request becomes a log entry (raft's for those that
 * change who gets the log or votes, an ordinary one for new peer URLs), and whether it may be done is decided
 * where it is applied, so that all members decide alike. A member that is added gets the log without a vote
 * at first; whoever leads makes it a voter once it is caught up: when it took over what was there at the
 * begin of a round within an election timeout (thesis 4.2.1). One that takes another's place gets its vote in
 * the same step in which the other loses its own: a joint configuration (4.3), left by whoever leads. A
 * member is gone when raft knows of it no longer; its id is kept, so that it is never used again. */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- Encoding: u8 operation | u64 id | u64 replaces | URLs ---- */

void node_change_encode(const struct node_member_change *change, struct buf *out)
{
	wire_add_u8(out, (uint8_t)change->op);
	wire_add_u64(out, change->id);
	wire_add_u64(out, change->replaces);
	node_urls_encode(out, change->peer_urls);
}

int node_change_decode(struct slice bytes, struct node_member_change *ret_change, char ***ret_urls)
{
	struct wire_reader reader = wire_reader_make(bytes);
	uint8_t op = wire_read_u8(&reader);
	char **urls;

	if (!op || op >= NODE_MEMBER_OP_MAX)
		return -EBADMSG;
	*ret_change = (struct node_member_change){.op = (enum node_member_op)op};
	ret_change->id = wire_read_u64(&reader);
	ret_change->replaces = wire_read_u64(&reader);
	urls = reader.failed ? NULL : node_urls_decode(&reader);
	if (!urls || wire_finish(&reader) < 0) {
		node_urls_free(urls);
		return -EBADMSG;
	}
	ret_change->peer_urls = (const char *const *)urls;
	*ret_urls = urls;
	return 0;
}

static void add_step(struct raft_conf_change *steps, enum raft_conf_op op, uint64_t id)
{
	steps->steps[steps->step_count].op = op;
	steps->steps[steps->step_count++].id = id;
}

/* What raft is to make of it; UPDATE is nothing to raft. Who is replaced goes first: with as many voters as
 * there can be, the other finds room only then. */
void node_change_steps(const struct node_member_change *change, struct raft_conf_change *ret_steps)
{
	static const enum raft_conf_op ops[NODE_MEMBER_OP_MAX] = {
		[NODE_MEMBER_ADD] = RAFT_CONF_ADD_LEARNER,
		[NODE_MEMBER_REPLACE] = RAFT_CONF_ADD_LEARNER,
		[NODE_MEMBER_REMOVE] = RAFT_CONF_REMOVE,
		[NODE_MEMBER_PROMOTE] = RAFT_CONF_ADD_VOTER,
	};

	assert(change->op != NODE_MEMBER_UPDATE);
	*ret_steps = (struct raft_conf_change){0};
	if (change->op == NODE_MEMBER_PROMOTE && change->replaces)
		add_step(ret_steps, RAFT_CONF_REMOVE, change->replaces);
	add_step(ret_steps, ops[change->op], change->id);
}

/* ---- What may be done ---- */

static bool has_url(const struct node_member *member, const char *url)
{
	for (const char *const *own = member->peer_urls; *own; own++)
		if (strcmp(*own, url) == 0)
			return true;
	return false;
}

/* Is one of the URLs another member's? One that is replaced may leave its own to its successor. */
static bool urls_taken(const struct node *node, const struct node_member_change *change)
{
	for (size_t i = 0; i < node->members_len; i++) {
		const struct node_member *member = &node->members[i].view;

		if (member->id == change->id || (change->replaces && member->id == change->replaces))
			continue;
		for (const char *const *url = change->peer_urls; *url; url++)
			if (has_url(member, *url))
				return true;
	}
	return false;
}

static enum node_error missing(const struct node *node, uint64_t id)
{
	return node_was_removed(node, id) ? NODE_ERROR_MEMBER_REMOVED : NODE_ERROR_MEMBER_NOT_FOUND;
}

static bool is_replaced(const struct node *node, uint64_t id)
{
	for (size_t i = 0; i < node->members_len; i++)
		if (node->members[i].view.replaces == id)
			return true;
	return false;
}

/* Entries come from other members: what they carry is bounded here, whatever was checked there. */
static enum node_error check_size(const struct node *node, const struct node_member_change *change)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	if (!change->peer_urls || !change->peer_urls[0])
		return NODE_OK;
	if (!node_urls_fit(change->peer_urls))
		return NODE_ERROR_TOO_LARGE;
	node_membership_encode(node, &bytes);
	node_change_encode(change, &bytes);
	return bytes.len <= NODE_MEMBERSHIP_BYTES_MAX ? NODE_OK : NODE_ERROR_MEMBERS_FULL;
}

enum node_error node_change_check(const struct node *node, const struct node_member_change *change)
{
	bool adds = change->op == NODE_MEMBER_ADD || change->op == NODE_MEMBER_REPLACE;

	if (adds && (node_member_find(node, change->id) || node_was_removed(node, change->id)))
		return NODE_ERROR_MEMBER_EXISTS;
	if (!adds && !node_member_find(node, change->id))
		return missing(node, change->id);
	if (change->replaces && !node_member_find(node, change->replaces))
		return missing(node, change->replaces);
	if (change->op == NODE_MEMBER_REPLACE &&
		(is_replaced(node, change->replaces) ||
			node_member_find(node, change->replaces)->view.replaces))
		return NODE_ERROR_MEMBER_REPLACED;
	return urls_taken(node, change) ? NODE_ERROR_PEER_URL_EXISTS : check_size(node, change);
}

/* ---- Applying ---- */

static void store_apply_quietly(struct node *node, const struct store_command *command)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_result result;
	int r;

	store_command_encode(command, &bytes);
	r = store_apply(node->store, buf_slice(&bytes), &result);
	assert(r == 0);
	store_result_done(&result);
}

void node_member_set_peer_urls(struct node *node, uint64_t id, const char *const *urls)
{
	_cleanup_buf_ struct buf json = BUF_INIT(0);
	struct store_command command = {.op = STORE_OP_SET};
	struct member *member = node_member_find(node, id);
	char path[64];

	if (!member)
		member = node_member_add(node, id);
	node_urls_free(member->peer_urls);
	member->peer_urls = node_urls_dup(urls);
	member->view.peer_urls = (const char *const *)member->peer_urls;
	node->members_dirty = true;
	(void)snprintf(path, sizeof(path), STORE_CLUSTER_PREFIX "/members/%" PRIx64 "/raftAttributes", id);
	buf_add_str(&json, "{\"peerURLs\":");
	node_urls_add_json(&json, member->peer_urls);
	buf_add_char(&json, '}');
	command.path = slice_str(path);
	command.value = buf_slice(&json);
	store_apply_quietly(node, &command);
}

static void remember_removed(struct node *node, uint64_t id)
{
	size_t at = node->removed_len;

	node->removed_ids =
		mem_reallocarray(node->removed_ids, node->removed_len + 1, sizeof(*node->removed_ids));
	for (; at > 0 && node->removed_ids[at - 1] > id; at--)
		node->removed_ids[at] = node->removed_ids[at - 1];
	node->removed_ids[at] = id;
	node->removed_len++;
}

bool node_was_removed(const struct node *node, uint64_t id)
{
	size_t lo = 0, hi = node->removed_len;

	while (lo < hi) {
		size_t middle = lo + (hi - lo) / 2;

		if (node->removed_ids[middle] < id)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo < node->removed_len && node->removed_ids[lo] == id;
}

bool node_tells_removed(const struct node *node, uint64_t id)
{
	return !node->removal_unkept && node_was_removed(node, id);
}

void node_removal_kept(struct node *node)
{
	struct raft_status status;

	if (!node->removal_unkept)
		return;
	raft_status_get(node->raft, &status);
	if (status.commit_persisted < node->removal_unkept)
		return;
	node->removal_unkept = 0;
	node->members_dirty = true; /* whoever was removed may be told now */
}

void node_found_removed(struct node *node)
{
	if (node->removed)
		return;
	node->removed = true;
	node_note(node, LOG_LEVEL_NOTICE,
		"this member (%" PRIx64 ") was removed from the cluster: it stops for good when most of the "
		"others know",
		node->id);
}

void node_told_removed(struct node *node, uint64_t by)
{
	const struct raft_conf *conf = raft_conf_get(node->raft);

	node_found_removed(node);
	if (!node->told_ns)
		node->told_ns = node_mono(node);
	if (by != node->id && raft_set_has(&conf->voters, by))
		(void)raft_set_add(&node->told_by, by);
}

/* Membership takes effect where it is applied. Who has the removal in its log, and does not know that it is
 * committed, counts on the removed one's vote: of two, for ever. A majority that knows needs it no more. Of
 * the voters that this member knows some may be gone, or it is so long behind that all are: hence the time.
 */
bool node_may_end(const struct node *node)
{
	const struct raft_set *voters;
	uint32_t others = 0, know = 0;

	if (!node->removed)
		return false;
	if (node->told_ns && node_mono(node) - node->told_ns > NODE_TOLD_REMOVED_NS)
		return true;
	voters = &raft_conf_get(node->raft)->voters;
	for (uint32_t i = 0; i < voters->count; i++) {
		others += voters->ids[i] != node->id;
		know += raft_set_has(&node->told_by, voters->ids[i]);
	}
	return !others || know > others / 2;
}

static void remove_member(struct node *node, uint64_t id)
{
	struct store_command command = {.op = STORE_OP_DELETE, .dir = true, .recursive = true};
	char path[64];

	(void)snprintf(path, sizeof(path), STORE_CLUSTER_PREFIX "/members/%" PRIx64, id);
	command.path = slice_str(path);
	store_apply_quietly(node, &command);
	(void)snprintf(path, sizeof(path), STORE_CLUSTER_PREFIX "/removed_members/%" PRIx64, id);
	command = (struct store_command){.op = STORE_OP_CREATE, .path = slice_str(path)};
	store_apply_quietly(node, &command);
	node_member_remove(node, id);
	remember_removed(node, id);
	node->removal_unkept = node->applied + 1; /* the entry that is being applied */
	for (size_t i = 0; i < node->members_len; i++)
		if (node->members[i].view.replaces == id)
			node->members[i].view.replaces = 0;
	if (id == node->id)
		node_found_removed(node);
}

void node_change_settle(struct node *node)
{
	const struct raft_conf *conf = raft_conf_get(node->raft);

	for (size_t i = node->members_len; i-- > 0;) {
		uint64_t id = node->members[i].view.id;

		if (!raft_conf_is_voter(conf, id) && !raft_set_has(&conf->learners, id))
			remove_member(node, id);
	}
	node->conf_blocked = false;
	node->members_dirty = true;
}

enum node_error node_change_apply(struct node *node, const struct node_member_change *change)
{
	enum node_error error = node_change_check(node, change);
	struct raft_conf_change steps;
	int r;

	if (error)
		return error;
	if (change->op == NODE_MEMBER_UPDATE) {
		node_member_set_peer_urls(node, change->id, change->peer_urls);
		/* Members that are all moved at once find each other by what their logs say. */
		raft_keep_commit(node->raft);
		return NODE_OK;
	}
	node_change_steps(change, &steps);
	r = raft_apply_conf(node->raft, &steps);
	if (r < 0)
		return r == -ENOSPC ? NODE_ERROR_MEMBERS_FULL : NODE_ERROR_MEMBERS_LAST;
	if (change->op == NODE_MEMBER_ADD || change->op == NODE_MEMBER_REPLACE) {
		node_member_set_peer_urls(node, change->id, change->peer_urls);
		node_member_find(node, change->id)->view.replaces = change->replaces;
	} else if (change->op == NODE_MEMBER_PROMOTE) {
		node_member_find(node, change->id)->view.replaces = 0;
		node_note(node, LOG_LEVEL_NOTICE, "member %" PRIx64 " votes from now on%s", change->id,
			change->replaces ? ", in the place of another" : "");
	}
	return NODE_OK;
}

/* ---- Promotion, by whoever leads ---- */

/* True when it is caught up. */
static bool follow_round(struct node *node, struct member *member, int64_t now_ns)
{
	struct raft_progress progress;

	if (raft_progress_get(node->raft, member->view.id, &progress) < 0 || !progress.match ||
		!progress.active || progress.state != RAFT_REPLICATE) {
		member->round_target = 0;
		return false;
	}
	if (!member->round_target || member->round_term != node->status.term) {
		member->round_target = node->status.last_index;
		member->round_term = node->status.term;
		member->round_begun_ns = now_ns;
	}
	if (progress.match < member->round_target)
		return false;
	if (now_ns - member->round_begun_ns <= (int64_t)node->election_ms * NS_PER_MS)
		return true;
	member->round_target = 0; /* that took long, and much was added meanwhile: once more */
	return false;
}

/* Whether raft can take it as a voter: there is room, or a voter makes room in the same step. */
static bool finds_room(const struct raft_conf *conf, const struct member *member)
{
	return conf->voters.count < RAFT_MEMBERS_MAX || raft_set_has(&conf->voters, member->view.replaces);
}

void node_promote_turn(struct node *node, int64_t now_ns)
{
	const struct raft_conf *conf = raft_conf_get(node->raft);

	if (!conf->learners.count || conf->outgoing.count || node->under_way[NODE_PROMOTE])
		return;
	for (uint32_t i = 0; i < conf->learners.count; i++) {
		struct member *member = node_member_find(node, conf->learners.ids[i]);

		if (member && finds_room(conf, member) && follow_round(node, member, now_ns)) {
			struct node_member_change change = {.op = NODE_MEMBER_PROMOTE,
				.id = member->view.id,
				.replaces = member->view.replaces};

			node_propose_conf(node, NODE_PROMOTE, &change, NULL);
			return;
		}
	}
}
