/* A checkpoint for a follower whose next entry is gone from the log. The leader offers it; the follower asks
 * for the bytes at an offset, the leader answers with a piece, and so on until the follower has checked all
 * of it, switched to it and put it in the place of its state. The follower asks for the next piece when the
 * one before is in its file's cache, so it sets the pace. Whatever is lost on the way is asked for again when
 * the leader repeats its offer; the leader sends it again when it should have come, by the time that pieces
 * before it took. Another leader that offers the same checkpoint goes on where the first one stopped.
 *
 *   message = u8 type | u64 raft term | u64 index | u64 term | u32 check (these three: which checkpoint) |
 *             u64 offset, or of a refusal why | bytes
 *
 * Messages are events: what they ask for is done in the turn. */
#include "node/internal.h"
#include <errno.h>
#include <inttypes.h>

#define MESSAGE_HEAD_BYTES 37u

enum message_type {
	MESSAGE_OFFER = 1, /* leader: take this one */
	MESSAGE_WANT,	   /* follower: bytes from offset on */
	MESSAGE_PIECE,	   /* leader: the bytes */
	MESSAGE_BUSY,	   /* follower: wait, the disk is at it */
	MESSAGE_DONE,	   /* follower: it has all up to this index on its disk */
	MESSAGE_REFUSED,   /* follower: not this one */
	MESSAGE_TYPE_MAX
};

enum refusal { REFUSED_NOW, REFUSED_NO_ROOM };

static void send_message(struct node *node, uint64_t to, enum message_type type,
	const struct checkpoint_id *id, uint64_t offset, struct slice bytes)
{
	_cleanup_buf_ struct buf message = BUF_INIT(NODE_MESSAGE_MAX - NODE_ENVELOPE_BYTES);

	wire_add_u8(&message, (uint8_t)type);
	wire_add_u64(&message, node->status.term);
	wire_add_u64(&message, id->index);
	wire_add_u64(&message, id->term);
	wire_add_u32(&message, id->check);
	wire_add_u64(&message, offset);
	buf_add_slice(&message, bytes);
	node_send(node, to, NODE_ENVELOPE_CHECKPOINT, buf_slice(&message), type == MESSAGE_PIECE);
}

/* ---- Leader ---- */

static struct outgoing *outgoing_find(const struct node *node, uint64_t to)
{
	list_for_each (it, &node->checkpoints.outgoing) {
		struct outgoing *outgoing = list_item(it, struct outgoing, link);

		if (outgoing->to == to)
			return outgoing;
	}
	return NULL;
}

static void outgoing_free(struct outgoing *outgoing)
{
	list_remove(&outgoing->link);
	(void)checkpoint_source_free(outgoing->source);
	free(outgoing);
}

bool node_transfer_reads(const struct node *node, uint64_t generation)
{
	list_for_each (it, &node->checkpoints.outgoing)
		if (list_item(it, struct outgoing, link)->info.generation == generation)
			return true;
	return false;
}

/* Behind which index it follows. */
static bool follows(const struct node *node, const struct member *member, uint64_t *ret_index)
{
	struct raft_progress progress;

	/* One without space takes no entries, but perhaps a checkpoint. */
	if (raft_progress_get(node->raft, member->view.id, &progress) < 0 || !progress.active ||
		progress.state == RAFT_SNAPSHOT || member->no_space)
		return false;
	/* Right after a checkpoint nothing is known of it but where it is asked next. */
	*ret_index = progress.state == RAFT_PROBE ? progress.next - 1 : progress.match;
	return true;
}

uint64_t node_transfer_keeps(const struct node *node, uint64_t index)
{
	struct checkpoint_space at;
	uint64_t oldest, least = index, behind;

	list_for_each (it, &node->checkpoints.outgoing)
		least = MIN(least, list_item(it, struct outgoing, link)->info.id.index);
	node_checkpoint_space(node, &at);
	oldest = wal_index_within(
		node->wal, MIN(MAX(at.data_bytes, node->checkpoints.log_min_bytes / 4), at.room / 4));
	for (size_t i = 0; i < node->members_len; i++)
		if (follows(node, &node->members[i], &behind) && behind < least)
			least = MIN(least, MAX(behind, oldest));
	return least;
}

/* Once: one that the follower has no room for is offered again and again. */
static void tell_of(struct node *node, const struct outgoing *outgoing)
{
	struct member *member = node_member_find(node, outgoing->to);
	const struct checkpoint_info *info = &outgoing->info;

	if (!member || member->told_index == info->id.index)
		return;
	member->told_index = info->id.index;
	node_note(node, LOG_LEVEL_NOTICE,
		"member %" PRIx64 " is behind the log: sending it the checkpoint of index %" PRIu64
		" (%" PRIu64 " bytes)",
		outgoing->to, info->id.index, info->manifest_bytes + info->data_bytes);
}

void node_transfer_wanted(struct node *node, uint64_t to)
{
	struct checkpoints *own = &node->checkpoints;
	struct outgoing *outgoing = outgoing_find(node, to);
	struct checkpoint_info info = {0};
	struct raft_status status;

	raft_status_get(node->raft, &status);
	if (own->current)
		checkpoint_get_info(own->current, &info);
	if (outgoing)
		outgoing_free(outgoing);
	if (!own->current || info.id.index + 1 < status.first_index || info.id.index > status.commit ||
		info.id.index < node->log_reader.damaged_index /* the log would not lead on from it */) {
		own->asked = true;
		raft_snapshot_refused(node->raft, to);
		return;
	}
	outgoing = mem_new(struct outgoing);
	outgoing->to = to;
	outgoing->info = info;
	outgoing->source = checkpoint_source_new(own->current);
	outgoing->offer_due = true;
	outgoing->heard_ns = node_mono(node);
	list_push_back(&own->outgoing, &outgoing->link);
	tell_of(node, outgoing);
}

static void give_up(struct node *node, struct outgoing *outgoing)
{
	raft_snapshot_refused(node->raft, outgoing->to);
	outgoing_free(outgoing);
}

/* It did not fit on the follower's disk: one that is clearly smaller may. */
static void had_no_room(struct node *node, const struct outgoing *outgoing)
{
	struct checkpoints *own = &node->checkpoints;
	const struct checkpoint_info *info = &outgoing->info;

	if (store_nodes(node->store) < info->image.nodes - info->image.nodes / 8 ||
		own->log_bytes - own->current_log_bytes > info->data_bytes / 2)
		own->asked = true;
}

static void outgoing_turn(struct node *node, struct outgoing *outgoing, int64_t now_ns)
{
	int64_t patience_ns = (int64_t)node->election_ms * NS_PER_MS, quiet_ns;

	if (node->status.role != RAFT_LEADER) {
		outgoing_free(outgoing);
		return;
	}
	if (outgoing->wanted) /* a disk of this member that is slow is no fault of the other */
		outgoing->heard_ns = now_ns;
	if (now_ns - outgoing->heard_ns > 2 * patience_ns ||
		outgoing->info.id.index + 1 < node->status.first_index /* cut in an alarm */) {
		give_up(node, outgoing);
		return;
	}
	quiet_ns = now_ns - MAX(outgoing->heard_ns, outgoing->offered_ns);
	if (!outgoing->offer_due && (outgoing->wanted || quiet_ns < patience_ns / 4))
		return;
	outgoing->offer_due = false;
	outgoing->offered_ns = now_ns;
	send_message(node, outgoing->to, MESSAGE_OFFER, &outgoing->info.id, 0, slice_make("", 0));
}

static void send_piece(struct node *node, struct outgoing *outgoing)
{
	struct slice bytes;

	outgoing->wanted = false;
	outgoing->heard_ns = node_mono(node);
	if (!outgoing->sent_ns || outgoing->offset != outgoing->sent_offset)
		outgoing->first_ns = outgoing->heard_ns;
	outgoing->sent_ns = outgoing->heard_ns;
	outgoing->sent_offset = outgoing->offset;
	if (checkpoint_source_piece(
		    outgoing->source, outgoing->offset, node->checkpoints.piece_bytes, &bytes) == 0 &&
		bytes.len)
		send_message(node, outgoing->to, MESSAGE_PIECE, &outgoing->info.id, outgoing->offset, bytes);
}

static bool read_for(struct node *node, struct outgoing *outgoing, const struct checkpoint_range *range)
{
	struct checkpoints *own = &node->checkpoints;

	own->job_to = outgoing->to;
	own->job_id = outgoing->info.id;
	own->job_offset = outgoing->offset;
	node_checkpoint_read(node, NODE_JOB_READ, range);
	return true;
}

static void was_read(struct node *node, int error)
{
	struct checkpoints *own = &node->checkpoints;
	struct outgoing *outgoing = outgoing_find(node, own->job_to);
	_cleanup_free_ char *reason = NULL;

	if (!outgoing || !checkpoint_id_equal(outgoing->info.id, own->job_id))
		return;
	if (error == 0)
		error = checkpoint_source_fill(
			outgoing->source, own->job_offset, buf_slice(&own->read), &reason);
	if (error == 0)
		return; /* the piece goes out in this turn, if it is still wanted */
	node_note(node, LOG_LEVEL_ERROR, "the checkpoint cannot be sent to member %" PRIx64 ": %s",
		outgoing->to, reason ? reason : strerror(-error));
	own->unreadable = true; /* a new one takes its place */
	give_up(node, outgoing);
}

static void forget_told(struct node *node, uint64_t to)
{
	struct member *member = node_member_find(node, to);

	if (member)
		member->told_index = 0;
}

/* Over a slow link a piece is long on its way, and offers overtake it: what is asked for again meanwhile
 * would be sent again, and be in the way of the next one. What was lost with a connection is known to be. */
static void want(struct node *node, struct outgoing *outgoing, uint64_t offset)
{
	int64_t least_ns = (int64_t)node->election_ms * NS_PER_MS, now_ns = node_mono(node);
	int64_t took_ns = now_ns - outgoing->first_ns,
		again_ns = MAX(3 * took_ns, outgoing->again_ns / 4 * 3);

	if (!outgoing->sent_ns)
		outgoing->again_ns = least_ns;
	else if (offset != outgoing->sent_offset) /* pieces are not equally long: it goes down slowly */
		outgoing->again_ns = MAX(again_ns, least_ns);
	else if (now_ns - outgoing->sent_ns < outgoing->again_ns)
		return;
	else
		outgoing->again_ns *= 2;
	outgoing->wanted = true;
	outgoing->offset = offset;
}

void node_transfer_cut_off(struct node *node, uint64_t to)
{
	struct outgoing *outgoing = outgoing_find(node, to);

	if (outgoing)
		outgoing->sent_ns = 0;
}

static void from_follower(
	struct node *node, struct outgoing *outgoing, enum message_type type, uint64_t offset)
{
	outgoing->heard_ns = node_mono(node);
	if (type == MESSAGE_WANT) {
		want(node, outgoing, offset);
	} else if (type == MESSAGE_DONE) {
		node->checkpoints.sent++;
		raft_snapshot_sent(node->raft, outgoing->to, outgoing->info.id.index);
		forget_told(node, outgoing->to);
		outgoing_free(outgoing);
	} else if (type == MESSAGE_REFUSED) {
		if (offset == REFUSED_NO_ROOM)
			had_no_room(node, outgoing);
		give_up(node, outgoing);
	}
}

/* ---- Follower ---- */

static void answer(struct node *node, enum message_type type, uint64_t to, const struct checkpoint_id *id)
{
	struct incoming *in = &node->checkpoints.incoming;

	in->answer = (uint8_t)type;
	in->answer_to = to;
	in->answer_id = *id;
	in->answer_why = REFUSED_NOW;
}

static void refuse(struct node *node, enum refusal why, uint64_t to, const struct checkpoint_id *id)
{
	answer(node, MESSAGE_REFUSED, to, id);
	node->checkpoints.incoming.answer_why = (uint8_t)why;
}

static bool is_writing(const struct node *node)
{
	return node->checkpoints.incoming.plan_ready || node->checkpoints.job == NODE_JOB_RECEIVE ||
	       node->checkpoints.job == NODE_JOB_RECEIVE_SWITCH;
}

/* Large: it ends in slices, and not before those who read it have done. NULL is fine. */
static void retire(struct node *node, struct store *store)
{
	struct checkpoints *own = &node->checkpoints;

	if (!store)
		return;
	own->retired = mem_reallocarray(own->retired, own->retired_len + 1, sizeof(*own->retired));
	own->retired[own->retired_len++] = store;
}

/* True: there is more to do. */
static bool free_retired(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	for (size_t i = 0; i < own->retired_len && !own->ending; i++)
		if (!store_is_read(own->retired[i])) {
			own->ending = own->retired[i];
			own->retired[i] = own->retired[--own->retired_len];
		}
	own->ending = store_free_some(own->ending, NODE_FREE_PER_TURN);
	return own->ending;
}

/* Ends receiving; the data file goes, now or, when CHECKPOINT may name it, later. */
static void stop_receiving(struct node *node, bool switched)
{
	struct checkpoints *own = &node->checkpoints;
	struct incoming *in = &own->incoming;

	if (in->begun)
		(void)node_generations_add(switched ? &own->unsure : &own->stale, in->generation);
	if (in->receiver)
		retire(node, checkpoint_receiver_end(take_ptr(in->receiver)));
	in->plan_ready = in->want_due = in->begun = false;
}

static bool is_here(struct node *node, const struct checkpoint_id *id)
{
	struct raft_status status;

	raft_status_get(node->raft, &status);
	return id->index <= status.commit && id->index <= status.persisted;
}

/* A leader that has all of the log offers none. */
static bool is_forsaken(const struct node *node)
{
	return node_mono(node) - node->checkpoints.incoming.heard_ns >
	       NODE_RECEIVE_PATIENCE * (int64_t)node->election_ms * NS_PER_MS;
}

bool node_transfer_lacks_room(const struct node *node)
{
	const struct incoming *in = &node->checkpoints.incoming;

	return in->pause_ns && in->id.index > node->applied && !is_forsaken(node);
}

/* The same one did not fit a moment ago. */
static bool is_too_soon(struct node *node, const struct checkpoint_id *id)
{
	const struct incoming *in = &node->checkpoints.incoming;

	return node_transfer_lacks_room(node) && checkpoint_id_equal(in->id, *id) &&
	       node_mono(node) < in->after_ns;
}

static void offered(struct node *node, uint64_t from, const struct checkpoint_id *id)
{
	struct checkpoints *own = &node->checkpoints;
	struct incoming *in = &own->incoming;
	struct raft_status status;

	raft_status_get(node->raft, &status);
	in->from = from;
	if (is_here(node, id)) {
		answer(node, MESSAGE_DONE, from, id);
	} else if (is_writing(node) || in->store) {
		answer(node, MESSAGE_BUSY, from, id);
	} else if (in->receiver && checkpoint_id_equal(in->id, *id)) {
		in->want_due = true;
	} else if (is_too_soon(node, id)) {
		refuse(node, REFUSED_NO_ROOM, from, id);
	} else if (id->index <= status.commit || own->writer || !id->index || !id->term) {
		refuse(node, REFUSED_NOW, from, id);
	} else {
		stop_receiving(node, false);
		in->id = *id;
		in->generation = own->next_generation++;
		in->bad_chunks = 0;
		in->understood = false;
		in->receiver = checkpoint_receiver_new(node->cluster_id, *id, in->generation);
		in->want_due = true;
		node_note(node, LOG_LEVEL_NOTICE,
			"this member is behind the log of the others: receiving the checkpoint of index "
			"%" PRIu64,
			id->index);
	}
}

/* Whether this version can read the membership in it, as soon as it is there: long before the switch, after
 * which there is no way back. */
static int understand(struct incoming *in, char **ret_error)
{
	struct checkpoint_info info;
	struct raft_conf conf;
	int r;

	if (in->understood || !checkpoint_receiver_knows(in->receiver, &info))
		return 0;
	r = node_membership_check(info.membership, &conf, ret_error);
	in->understood = r == 0;
	return r;
}

static void took_piece(struct node *node, uint64_t offset, struct slice bytes)
{
	struct incoming *in = &node->checkpoints.incoming;
	_cleanup_free_ char *reason = NULL;
	int r = checkpoint_receiver_add(in->receiver, offset, bytes, &in->plan, &reason), error;

	error = r < 0 ? 0 : understand(in, &reason);
	if (error < 0) {
		in->plan.steps_len = 0;
		r = error;
	}
	if (in->plan.steps_len)
		in->begun = in->plan_ready = true;
	in->plan_switches = r == 0;
	in->want_due = r == 1 || r == -EAGAIN;
	if (r == 0 && in->id.index <= node->applied)
		stop_receiving(node, false); /* caught up meanwhile */
	else if (r < 0 && (r != -EAGAIN || ++in->bad_chunks > NODE_BAD_CHUNKS_MAX)) {
		node_note(node, LOG_LEVEL_WARNING, "the checkpoint that was offered is of no use: %s",
			reason ? reason : "its bytes do not check");
		refuse(node, REFUSED_NOW, in->from, &in->id);
		stop_receiving(node, false);
	}
}

/* All of it was sent in vain: taken again after a while, or when the leader has another one. */
static void did_not_fit(struct node *node)
{
	struct incoming *in = &node->checkpoints.incoming;

	in->pause_ns = node_space_pause_ns(in->pause_ns);
	in->after_ns = node_mono(node) + in->pause_ns;
	node_space_out(node);
}

static void written(struct node *node, bool switched, int error)
{
	struct checkpoints *own = &node->checkpoints;
	struct incoming *in = &own->incoming;

	if (error < 0) {
		node_note(node, LOG_LEVEL_WARNING, "a received checkpoint could not be written: %s",
			strerror(-error));
		refuse(node, node_space_is_out(error) ? REFUSED_NO_ROOM : REFUSED_NOW, in->from, &in->id);
		stop_receiving(node, switched);
		if (node_space_is_out(error))
			did_not_fit(node);
	} else if (switched) {
		checkpoint_receiver_take(in->receiver, &in->checkpoint, &in->store);
		in->receiver = checkpoint_receiver_free(in->receiver);
		in->begun = false;
		in->pause_ns = 0;
		node_checkpoint_became(node, checkpoint_ref(in->checkpoint));
		own->current_log_bytes = own->log_bytes;
		own->received++;
	} else {
		in->want_due = true;
	}
}

static void replace_store(struct node *node, struct store *store)
{
	struct store *old = node->store;

	node->env->ops->store_leaving(node->env, old);
	node->store = store;
	retire(node, old);
}

/* The log begins anew behind the checkpoint, unless it goes on behind it already. What is before can go when
 * that is durable: until then the log on the disk may end below the segments that would be left of it. */
static void restart_log(struct node *node, uint64_t index, bool kept)
{
	struct wal_hard_state hard_state = {.boot = node->boot};
	struct raft_status status;

	if (!kept)
		wal_restart_at(node->wal, index);
	raft_status_get(node->raft, &status);
	hard_state.term = status.term;
	hard_state.vote = status.vote;
	hard_state.commit = status.commit;
	wal_add_hard_state(node->wal, &hard_state);
	node->checkpoints.release_index = index;
	node->checkpoints.release_after = node->log_writes + 1;
	node->checkpoints.release_due = true;
}

static void installed(struct node *node, const struct checkpoint_info *info, bool kept)
{
	struct incoming *in = &node->checkpoints.incoming;
	struct raft_conf conf;
	int r = node_membership_set(node, info->membership, &conf);

	assert(r == 0);
	restart_log(node, info->id.index, kept);
	node->applied = info->id.index;
	node->applied_term = info->id.term;
	memset(node->hash_index, 0, sizeof(node->hash_index));
	node->hash_newest = 0;
	node->checkpoints.marks_len = 0;
	replace_store(node, take_ptr(in->store));
	node_proposals_skipped(node);
	node_serve_reads(node);
	node_note(node, LOG_LEVEL_NOTICE, "took over the checkpoint of index %" PRIu64, info->id.index);
}

static void install_end(struct node *node, const struct checkpoint_info *info)
{
	struct incoming *in = &node->checkpoints.incoming;

	answer(node, is_here(node, &info->id) ? MESSAGE_DONE : MESSAGE_REFUSED, in->from, &info->id);
	retire(node, take_ptr(in->store));
	in->checkpoint = checkpoint_unref(in->checkpoint);
}

/* Puts the received checkpoint in the place of the state, under the leader of now. */
static void install(struct node *node)
{
	struct incoming *in = &node->checkpoints.incoming;
	struct checkpoint_info info;
	struct raft_status status;
	struct raft_conf conf;
	_cleanup_free_ char *error = NULL;
	bool kept;
	int r;

	if (!in->store)
		return;
	checkpoint_get_info(in->checkpoint, &info);
	/* What raft has given out so far is in the log's batch then, so that both have the same entries. */
	if (raft_has_ready(node->raft))
		node_run_batch(node);
	raft_status_get(node->raft, &status);
	if (node->failure || (!status.leader && status.commit < info.id.index))
		return;
	r = node_membership_check(info.membership, &conf, &error);
	assert(r == 0); /* it was seen to before the switch */
	kept = raft_term_of(node->raft, info.id.index) == info.id.term &&
	       wal_last_index(node->wal) >= info.id.index;
	r = status.leader == node->id ? -ESTALE
				      : raft_snapshot_install(node->raft, status.leader, status.term,
						info.id.index, info.id.term, &conf);
	if (r == 0)
		installed(node, &info, kept);
	install_end(node, &info);
}

/* Time counts in which a leader could have spoken: neither without one, nor while this process was stopped.
 */
static void count_silence(struct node *node, int64_t now_ns)
{
	struct incoming *in = &node->checkpoints.incoming;
	int64_t gap_ns = now_ns - in->turn_ns;

	in->turn_ns = now_ns;
	if (!node->status.leader)
		in->heard_ns = now_ns;
	else if (gap_ns > (int64_t)node->election_ms * NS_PER_MS)
		in->heard_ns = MIN(now_ns, in->heard_ns + gap_ns);
}

static void incoming_turn(struct node *node, int64_t now_ns)
{
	struct incoming *in = &node->checkpoints.incoming;
	enum message_type type;

	install(node);
	count_silence(node, now_ns);
	/* It takes space that an own checkpoint may need. */
	if (in->receiver && !is_writing(node) && (in->id.index <= node->applied || is_forsaken(node)))
		stop_receiving(node, false);
	type = in->answer;
	in->answer = 0;
	if (type)
		send_message(node, in->answer_to, type, &in->answer_id, in->answer_why, slice_make("", 0));
	if (in->receiver && in->want_due && !is_writing(node)) {
		in->want_due = false;
		send_message(node, in->from, MESSAGE_WANT, &in->id, checkpoint_receiver_wanted(in->receiver),
			slice_make("", 0));
	}
}

/* ---- Both ---- */

static void from_leader(struct node *node, uint64_t from, enum message_type type,
	const struct checkpoint_id *id, uint64_t offset, struct slice bytes)
{
	struct incoming *in = &node->checkpoints.incoming;

	in->heard_ns = node_mono(node);
	if (type == MESSAGE_OFFER)
		offered(node, from, id);
	else if (type == MESSAGE_PIECE && in->receiver && !is_writing(node) &&
		 checkpoint_id_equal(in->id, *id))
		took_piece(node, offset, bytes);
}

void node_transfer_receive(struct node *node, const struct node_envelope *envelope)
{
	struct wire_reader reader = wire_reader_make(envelope->payload);
	enum message_type type = wire_read_u8(&reader);
	uint64_t term = wire_read_u64(&reader), offset;
	struct checkpoint_id id;
	struct raft_status status;
	struct outgoing *outgoing;
	struct slice bytes;

	id.index = wire_read_u64(&reader);
	id.term = wire_read_u64(&reader);
	id.check = wire_read_u32(&reader);
	offset = wire_read_u64(&reader);
	raft_status_get(node->raft, &status);
	if (reader.failed || !type || type >= MESSAGE_TYPE_MAX || term != status.term)
		return;
	bytes = slice_make(
		envelope->payload.data + MESSAGE_HEAD_BYTES, envelope->payload.len - MESSAGE_HEAD_BYTES);
	if (type == MESSAGE_OFFER || type == MESSAGE_PIECE) {
		if (status.role == RAFT_FOLLOWER && status.leader == envelope->from)
			from_leader(node, envelope->from, type, &id, offset, bytes);
		return;
	}
	outgoing = outgoing_find(node, envelope->from);
	if (status.role == RAFT_LEADER && outgoing && checkpoint_id_equal(outgoing->info.id, id))
		from_follower(node, outgoing, type, offset);
}

void node_transfer_turn(struct node *node, int64_t now_ns)
{
	node->checkpoints.freeing = free_retired(node);
	incoming_turn(node, now_ns);
	list_for_each_safe (it, &node->checkpoints.outgoing)
		outgoing_turn(node, list_item(it, struct outgoing, link), now_ns);
}

bool node_transfer_background(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;
	struct incoming *in = &own->incoming;

	if (in->plan_ready) {
		in->plan_ready = false;
		node_checkpoint_submit(
			node, in->plan_switches ? NODE_JOB_RECEIVE_SWITCH : NODE_JOB_RECEIVE, &in->plan);
		return true;
	}
	list_for_each_safe (it, &own->outgoing) {
		struct outgoing *outgoing = list_item(it, struct outgoing, link);
		struct checkpoint_range range;

		if (!outgoing->wanted)
			continue;
		if (checkpoint_source_needs(outgoing->source, outgoing->offset, &range))
			return read_for(node, outgoing, &range);
		send_piece(node, outgoing);
	}
	return false;
}

void node_transfer_done(struct node *node, enum node_job job, int error)
{
	if (job == NODE_JOB_READ)
		was_read(node, error);
	else
		written(node, job == NODE_JOB_RECEIVE_SWITCH, error);
}

void node_transfers_free(struct node *node)
{
	struct checkpoints *own = &node->checkpoints;

	list_for_each_safe (it, &own->outgoing)
		outgoing_free(list_item(it, struct outgoing, link));
	own->incoming.receiver = checkpoint_receiver_free(own->incoming.receiver);
	own->incoming.checkpoint = checkpoint_unref(own->incoming.checkpoint);
	own->incoming.store = store_free(own->incoming.store);
	buf_done(&own->incoming.plan.bytes);
	for (size_t i = 0; i < own->retired_len; i++)
		(void)store_free(own->retired[i]);
	(void)store_free(own->ending);
	free(own->retired);
}
