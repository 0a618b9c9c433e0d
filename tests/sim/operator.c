/* Who changes the membership: members are added, removed and replaced while all else goes wrong, through any
 * member, one change at a time unless chance says otherwise. New members are started whether the change was
 * acknowledged or not: if it did not happen they stay outside. A removed member that ended is not
 * started again. */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define VIEW_MAX 7 /* members that an addition may lead to */
#define PATIENCE_NS (10 * NS_PER_S)

/* The running node that has applied most; NULL: none runs. */
static struct node *most_advanced(const struct world *world)
{
	struct node *found = NULL;
	struct node_status status;
	uint64_t applied = 0;

	for (unsigned i = 0; i < world->member_count; i++) {
		struct node *node = world->members[i].node;

		if (!node)
			continue;
		node_get_status(node, &status);
		if (!found || status.applied > applied) {
			found = node;
			applied = status.applied;
		}
	}
	return found;
}

bool member_counts(const struct member *member)
{
	const struct node *node = most_advanced(member->world);

	return !member->lost && (!node || node_member_by_id(node, member->id));
}

bool operator_rests(const struct world *world)
{
	const struct node *node = most_advanced(world);
	struct node_status status;

	if (!node)
		return false;
	node_get_status(node, &status);
	return !status.learners && !status.joint;
}

void operator_prepare(struct world *world, unsigned number)
{
	(void)snprintf(world->urls[number], sizeof(world->urls[number]), "http://10.0.0.%u:2380", number + 1);
	world->url_lists[number][0] = world->urls[number];
	memcpy(world->members[number].listens, world->urls[number], sizeof(world->urls[number]));
	member_init(world, number);
}

static struct member *member_of_id(struct world *world, uint64_t id)
{
	for (unsigned i = 0; i < world->member_count; i++)
		if (world->members[i].id == id)
			return &world->members[i];
	return NULL;
}

/* Whom a member that is added is told of. */
static void take_seeds(struct member *member, const struct node *node)
{
	for (size_t i = 0; i < node_member_count(node); i++) {
		const struct node_member *view = node_member_at(node, i);
		const struct member *other = member_of_id(member->world, view->id);
		struct seed_url *seed = &member->seeds[member->seeds_len];

		if (!other)
			continue;
		seed->number = other->number;
		(void)snprintf(seed->url, sizeof(seed->url), "%s", view->peer_urls[0]);
		member->seeds_len++;
	}
}

static struct member *new_member(struct world *world, const struct node *node)
{
	struct member *member = &world->members[world->member_count];

	operator_prepare(world, world->member_count++);
	take_seeds(member, node);
	member->joins = true;
	world_at(world, world->now_ns + world_rand(world, NS_PER_S), EVENT_START, member->number, 0);
	return member;
}

/* One that `node` knows; more often than not one that is lost, if there is one. */
static struct member *some_member(struct world *world, const struct node *node)
{
	size_t count = node_member_count(node);
	struct member *chosen;

	if (!count)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		chosen = member_of_id(world, node_member_at(node, i)->id);
		if (chosen && chosen->lost && rng_below(&world->rng, 2))
			return chosen;
	}
	return member_of_id(world, node_member_at(node, rng_below(&world->rng, count))->id);
}

static bool under_way(const struct world *world)
{
	const struct op *op = world->change;

	return op && op->state == OP_RUNNING && world->now_ns < op->lin.call_ns + PATIENCE_NS &&
	       world->members[op->member].life == op->life;
}

static void submit(struct member *at, struct op *op, const struct node_member_change *change)
{
	struct world *world = at->world;
	int r = node_propose_member(at->node, change, op);

	world->change = op;
	world_log(world, "member %u is asked for change %d of %" PRIx64 ", replaces %" PRIx64 ": %d",
		at->number, change->op, change->id, change->replaces, r);
	if (r < 0 && r != -EBUSY && r != -ESHUTDOWN)
		world_finding(world, "a change of the membership was refused: %d", r);
	if (r < 0)
		op->state = OP_DONE;
	if (r < 0 && change->op == NODE_MEMBER_REMOVE)
		world->voters_low++;
	member_schedule(at, world->now_ns + world_rand(world, 50000));
}

/* Everybody runs, and knows where the others are. One moves after the other: two who moved at once, and have
 * the other's new place nowhere on their disks, would not find each other again. */
static bool may_move(const struct world *world)
{
	for (unsigned i = 0; i < world->member_count; i++) {
		const struct node *node = world->members[i].node;

		if (world->members[i].removed || world->members[i].lost)
			continue;
		for (unsigned other = 0; other < world->member_count && node; other++) {
			const struct node_member *view = node_member_by_id(node, world->members[other].id);

			if (view && strcmp(view->peer_urls[0], world->members[other].listens) != 0)
				return false;
		}
		if (!node)
			return false;
	}
	return true;
}

/* False: not now. */
bool operator_change(struct world *world, enum fault fault)
{
	struct member *at = &world->members[rng_below(&world->rng, world->member_count)], *other = NULL;
	struct node_member_change change = {.op = NODE_MEMBER_ADD};
	unsigned floor = world->profile.members >= 5 ? 3 : 1; /* one may have rotted then */

	if (!at->node || at->paused_until_ns > world->now_ns ||
		(under_way(world) && rng_below(&world->rng, 4)))
		return false;
	if ((fault == FAULT_MEMBER_ADDED || fault == FAULT_MEMBER_REPLACED) &&
		world->member_count == MEMBERS_MAX)
		return false;
	if (fault == FAULT_MEMBER_ADDED && node_member_count(at->node) >= VIEW_MAX)
		return false;
	if (fault == FAULT_URL_UPDATED && (under_way(world) || !may_move(world)))
		return false;
	if (fault != FAULT_MEMBER_ADDED && !(other = some_member(world, at->node)))
		return false;
	if (fault == FAULT_MEMBER_REMOVED) {
		if (world->voters_low <= floor)
			return false;
		world->voters_low--;
		change.op = NODE_MEMBER_REMOVE;
		change.id = other->id;
	} else if (fault == FAULT_URL_UPDATED) {
		change.op = NODE_MEMBER_UPDATE;
		change.id = other->id;
		other->moves++;
		(void)snprintf(other->moved_url, sizeof(other->moved_url), "http://10.0.%u.%u:2380",
			other->moves, other->number + 1);
		other->moved_urls[0] = other->moved_url;
		change.peer_urls = other->moved_urls;
	} else {
		if (other) {
			change.op = NODE_MEMBER_REPLACE;
			change.replaces = other->id;
		}
		other = new_member(world, at->node);
		other->successor = change.replaces != 0;
		change.id = other->id;
		change.peer_urls = world->url_lists[other->number];
	}
	submit(at, client_change(world, at->number, fault), &change);
	return false; /* counted when it is done */
}

void operator_reply(struct world *world, struct op *op, const struct node_reply *reply)
{
	op->state = OP_DONE;
	world_log(world, "the change of the membership is answered: %d", reply->error);
	world_trace(world, 3000 + op->fault, reply->error);
	if (op->fault == FAULT_URL_UPDATED)
		return; /* operator_settle() looks what became of it */
	if (reply->error == NODE_OK)
		world->summary->faults[op->fault]++;
	else if (reply->error >= NODE_ERROR_MEMBER_EXISTS && op->fault == FAULT_MEMBER_REMOVED)
		world->voters_low++; /* surely not done */
}

/* Where the members are to be, as somebody who has applied most says. */
static void look_at_urls(struct world *world, const struct node *node)
{
	struct node_status status;

	node_get_status(node, &status);
	if (status.applied < world->urls_applied)
		return;
	world->urls_applied = status.applied;
	for (unsigned i = 0; i < world->member_count; i++) {
		const struct node_member *view = node_member_by_id(node, world->members[i].id);

		if (view && view->peer_urls[0])
			(void)snprintf(world->members[i].place, sizeof(world->members[i].place), "%s",
				view->peer_urls[0]);
	}
}

/* A member looks at who is one. */
void operator_members_changed(struct member *member)
{
	struct world *world = member->world;

	look_at_urls(world, member->node);
	if (node_member_count(member->node) > world->member_count)
		world_finding(world, "member %u knows of too many members", member->number);
	for (unsigned i = 0; i < world->member_count; i++) {
		struct member *other = &world->members[i];

		if (!other->joins || other->voted || !node_member_votes(member->node, other->id))
			continue;
		other->voted = true;
		world->summary->faults[FAULT_MEMBER_PROMOTED]++;
		if (!other->successor)
			world->voters_low++;
	}
}

/* Whoever moved is started anew where the others look for it; one of them at a time. */
void operator_settle(struct world *world)
{
	for (unsigned i = 0; i < world->member_count; i++) {
		struct member *member = &world->members[i];

		if (!*member->place || strcmp(member->place, member->listens) == 0)
			continue;
		memcpy(member->listens, member->place, sizeof(member->listens));
		member->moved_at_ns = world->now_ns;
		world_log(world, "member %u moves to %s", i, member->listens);
		world->summary->faults[FAULT_URL_UPDATED]++;
		if (member->node)
			member_crash(member, false);
		return;
	}
}

bool operator_clean_stop(struct world *world)
{
	struct member *member = &world->members[rng_below(&world->rng, world->member_count)];
	bool waits;

	if (!member->node || member->paused_until_ns > world->now_ns)
		return false;
	waits = node_hand_over(member->node) == 0;
	world_at(world, world->now_ns, EVENT_CLEAN_STOP, member->number, waits ? 50 : 0)->life = member->life;
	member_schedule(member, world->now_ns);
	return true;
}

bool operator_hand_over(struct world *world)
{
	struct member *to = &world->members[rng_below(&world->rng, world->member_count)];

	for (unsigned i = 0; i < world->member_count; i++)
		if (world->members[i].node && world->members[i].led) {
			member_schedule(&world->members[i], world->now_ns);
			return node_transfer_leader(world->members[i].node, to->id) == 0;
		}
	return false;
}
