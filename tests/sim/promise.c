/* What raft promises, seen by one who hears every message: a member votes for one candidate in a term,
 * however often it was started anew, and a term has one leader (thesis 3.2, 3.4). */
#include "sim.h"
#include "base/memory.h"
#include "raft/raft.h"
#include <inttypes.h>

#define ENVELOPE_BYTES 66 /* node/internal.h; a raft message follows: version, type */

static struct term_facts *facts_of(struct world *world, uint64_t term)
{
	if (term >= world->terms_cap) {
		size_t cap = MAX((size_t)term * 2, (size_t)64);

		world->terms = mem_reallocarray(world->terms, cap, sizeof(*world->terms));
		memset(world->terms + world->terms_cap, 0, (cap - world->terms_cap) * sizeof(*world->terms));
		world->terms_cap = cap;
	}
	return &world->terms[term];
}

static bool is_of_election(struct slice bytes)
{
	unsigned char type;

	if (bytes.len <= ENVELOPE_BYTES + 2 || promise_of_transfer(bytes))
		return false;
	type = (unsigned char)bytes.data[ENVELOPE_BYTES + 1];
	return type == RAFT_MSG_VOTE_RES || type == RAFT_MSG_VOTE;
}

bool promise_of_transfer(struct slice bytes)
{
	/* enum node_envelope_kind; the highest bit tells that the sender has no space */
	return bytes.len > 1 && (bytes.data[1] & 0x7f) == 2;
}

static void votes_for(struct member *member, uint64_t term, uint64_t candidate)
{
	uint64_t *voted_for = &facts_of(member->world, term)->voted_for[member->number];

	if (*voted_for && *voted_for != candidate)
		world_finding(member->world,
			"member %u votes for %" PRIx64 " in term %" PRIu64 ", and did for %" PRIx64,
			member->number, candidate, term, *voted_for);
	*voted_for = candidate;
}

bool promise_sent(struct member *member, struct slice bytes)
{
	struct raft_message message;
	bool gives, asks;

	if (!is_of_election(bytes))
		return false;
	if (raft_message_decode(
		    slice_make(bytes.data + ENVELOPE_BYTES, bytes.len - ENVELOPE_BYTES), &message) < 0) {
		world_finding(member->world, "member %u sends what is no message", member->number);
		return false;
	}
	gives = message.type == RAFT_MSG_VOTE_RES && !message.reject;
	asks = message.type == RAFT_MSG_VOTE; /* who asks for votes has given its own */
	if (gives || asks)
		votes_for(member, message.term, gives ? message.to : member->id);
	raft_message_done(&message);
	return gives || asks;
}

void promise_leads(struct member *member, uint64_t term)
{
	struct term_facts *facts = facts_of(member->world, term);

	if (facts->leader && facts->leader != member->id)
		world_finding(member->world,
			"member %u leads in term %" PRIu64 ", and %" PRIx64 " does or did", member->number,
			term, facts->leader);
	facts->leader = member->id;
	votes_for(member, term, member->id);
}
