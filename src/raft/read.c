/* How it works: ReadIndex (thesis 6.4). A read remembers the leader's commit index of the moment it arrived
 * and is confirmed when a majority has answered a heartbeat sent after that moment: then nobody else led in
 * between. All reads of one turn share one numbered heartbeat round. A new leader knows what is committed
 * only after the first entry of its own term is, so reads that come before wait for it. A follower asks the
 * leader, one question for all reads of a turn, numbered upwards, over its lives too, so that an answer meant
 * for an earlier life or question is never taken for a later one. */
#include "raft/internal.h"
#include <errno.h>

static void push_wait(struct raft_read_waits *waits, struct raft_read_wait wait)
{
	raft_reserve(waits->items, waits->count, waits->cap);
	waits->items[waits->count++] = wait;
}

static void push_done(struct raft *raft, struct raft_read read)
{
	raft_reserve(raft->reads_done.items, raft->reads_done.count, raft->reads_done.cap);
	raft->reads_done.items[raft->reads_done.count++] = read;
}

static void drop_all(struct raft *raft, struct raft_read_waits *waits)
{
	for (size_t i = 0; i < waits->count; i++) {
		if (waits->items[i].from == raft->options.id)
			push_done(raft,
				(struct raft_read){.context = waits->items[i].context, .dropped = true});
	}
	waits->count = 0;
}

void raft_reads_drop(struct raft *raft)
{
	drop_all(raft, &raft->reads_early);
	drop_all(raft, &raft->reads);
	raft->round_due = false;
}

static void answer(struct raft *raft, const struct raft_read_wait *wait)
{
	if (wait->from == raft->options.id)
		push_done(raft, (struct raft_read){.context = wait->context, .index = wait->index});
	else
		raft_send(raft, (struct raft_message){.type = RAFT_MSG_READ_RES,
					.to = wait->from,
					.context = wait->context,
					.index = wait->index});
}

/* The leader takes a read of its own or of a follower. */
static void accept_read(struct raft *raft, uint64_t from, uint64_t context)
{
	struct raft_read_wait wait = {.context = context, .from = from, .index = raft->commit};

	if (raft_log_term(&raft->log, raft->commit) != raft->term) {
		push_wait(&raft->reads_early, wait);
		return;
	}
	wait.round = raft->round + 1; /* the next one to be sent */
	push_wait(&raft->reads, wait);
	raft->round_due = true;
}

void raft_reads_committed(struct raft *raft)
{
	for (size_t i = 0; i < raft->reads_early.count; i++)
		accept_read(raft, raft->reads_early.items[i].from, raft->reads_early.items[i].context);
	raft->reads_early.count = 0;
}

void raft_reads_confirm(struct raft *raft)
{
	uint64_t round = raft_quorum(raft, RAFT_QUORUM_ROUND);
	size_t done = 0;

	while (done < raft->reads.count && raft->reads.items[done].round <= MIN(round, raft->round))
		answer(raft, &raft->reads.items[done++]);
	if (!done)
		return;
	raft->reads.count -= done;
	memmove(raft->reads.items, raft->reads.items + done, raft->reads.count * sizeof(*raft->reads.items));
}

/* Follower: asks for what is not asked yet, or (`again`) repeats the newest question: its answer holds for
 * what was asked before, too. */
void raft_reads_send(struct raft *raft, bool again)
{
	size_t count = raft->reads.count;
	struct raft_read_wait *waits = raft->reads.items;

	if (!count || (waits[count - 1].wire && !again))
		return;
	if (!waits[count - 1].wire) {
		for (size_t i = count; i > 0 && !waits[i - 1].wire; i--)
			waits[i - 1].wire = raft->next_read;
		raft->next_read++;
	}
	raft->read_elapsed = 0;
	raft_send(raft, (struct raft_message){
				.type = RAFT_MSG_READ, .to = raft->leader, .context = waits[count - 1].wire});
}

int raft_read_index(struct raft *raft, uint64_t context)
{
	if (!raft->leader)
		return -EHOSTUNREACH;
	if (raft->reads.count + raft->reads_early.count >= raft->options.reads_max)
		return -EBUSY;
	if (raft->role == RAFT_LEADER)
		accept_read(raft, raft->options.id, context);
	else
		push_wait(
			&raft->reads, (struct raft_read_wait){.context = context, .from = raft->options.id});
	raft_check(raft);
	return 0;
}

void raft_handle_read(struct raft *raft, const struct raft_message *message)
{
	/* When there are too many the question is lost; it will be repeated. */
	if (raft->role == RAFT_LEADER &&
		raft->reads.count + raft->reads_early.count < raft->options.reads_max)
		accept_read(raft, message->from, message->context);
}

void raft_handle_read_res(struct raft *raft, const struct raft_message *message)
{
	size_t kept = 0;

	if (raft->role != RAFT_FOLLOWER || message->from != raft->leader || !message->context)
		return;
	for (size_t i = 0; i < raft->reads.count; i++) {
		struct raft_read_wait *wait = &raft->reads.items[i];

		/* Confirmed after they came, so for those that were asked before as well. */
		if (wait->wire && wait->wire <= message->context)
			push_done(
				raft, (struct raft_read){.context = wait->context, .index = message->index});
		else
			raft->reads.items[kept++] = *wait;
	}
	raft->reads.count = kept;
}
