/* The transport of the server (src/etcd/peer*.c) over a network of some bandwidth. Each member makes two
 * connections to each other one that it knows, for small messages and for bulk, and sends only on those. It
 * knows the URLs of the members, of those it was told of when it was added, and of whoever connects to it.
 * What is sent arrives in order, in a time that its size takes, or the connection ends and takes with it what
 * was under way; what finds no connection, or no room before one, is dropped. A member that was removed is
 * told so when it calls. */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"
#include <stdio.h>

#define FIRST_WAIT_NS (20 * NS_PER_MS)
#define LONGEST_WAIT_NS (500 * NS_PER_MS)
#define RETRANSMIT_NS (50 * NS_PER_MS) /* of what a cut held up */
#define SMALL_QUEUE_BYTES ((size_t)4 << 20)
#define BULK_QUEUE_BYTES ((size_t)2 * NODE_MESSAGE_MAX)
#define FRAME_BYTES 8
#define KEEPALIVE_NS (30 * NS_PER_S)
#define PROBED_NS (10 * NS_PER_S)	     /* from the end of the faults on */
#define STRANGERS_MAX 8			     /* PEERS_STRANGERS_MAX */
#define BULK_FREE_BYTES (UINT64_C(16) << 20) /* sent more than once in a run, and nobody asks why */

struct letter {
	struct list link;
	char *bytes;
	size_t len;
	int64_t arrival_ns;
};

static int64_t wire_rand(struct world *world, int64_t below)
{
	return below > 0 ? (int64_t)rng_below(&world->later, (uint64_t)below) : 0;
}

static int64_t delay_ns(struct world *world)
{
	int64_t usual_ns = world->calm ? world->profile.calm_delay_ns : world->profile.net_delay_ns;
	int64_t ns = usual_ns / 2 + wire_rand(world, usual_ns);

	if (world->net_slow_until_ns > world->now_ns)
		ns += wire_rand(world, 600 * NS_PER_MS);
	return ns;
}

static int64_t patience_ns(const struct world *world, int64_t least_ns, int64_t elections)
{
	return MAX(elections * world->profile.election_ms * NS_PER_MS, least_ns);
}

/* The line is `owner`'s, to `other`; what happens does so at `at`. */
static void happens(struct world *world, int64_t after_ns, enum wire_event what, unsigned at, unsigned owner,
	unsigned other, enum line_kind kind, uint64_t number)
{
	struct event *event = world_at(world, world->now_ns + after_ns, EVENT_WIRE, at, other);

	event->what = what;
	event->life = world->members[at].life;
	event->line = number;
	event->len = owner * LINE_KINDS + kind;
}

static void drop_queue(struct world *world, struct line *line, bool bulk)
{
	if (line->state != LINE_OPEN)
		return;
	if (bulk)
		world->bulk_excused += line->queued_bytes;
	list_for_each_safe (it, &line->queue) {
		struct letter *letter = list_item(it, struct letter, link);

		list_remove(&letter->link);
		free(letter->bytes);
		free(letter);
	}
	line->queued_bytes = 0;
}

static void tell(struct member *member, unsigned other, bool connected)
{
	node_peer_state(member->node, member->world->members[other].id, connected);
	member_schedule(member, member->world->now_ns);
}

static void tell_state(struct member *member, unsigned other)
{
	struct wire_peer *peer = &member->peers[other];
	bool connected =
		peer->lines[LINE_SMALL].state == LINE_OPEN && peer->lines[LINE_BULK].state == LINE_OPEN;

	if (connected == peer->connected || !member->node)
		return;
	peer->connected = connected;
	tell(member, other, connected);
}

static void line_wait(struct member *member, unsigned other, enum line_kind kind, int64_t wait_ns)
{
	struct world *world = member->world;
	struct line *line = &member->peers[other].lines[kind];

	drop_queue(world, line, kind == LINE_BULK);
	line->state = LINE_WAITING;
	line->number = ++world->next_line;
	happens(world, wait_ns, WIRE_CALL, member->number, member->number, other, kind, line->number);
}

static void line_failed(struct member *member, unsigned other, enum line_kind kind)
{
	struct line *line = &member->peers[other].lines[kind];
	int64_t wait_ns = line->wait_ns;

	if (kind == LINE_BULK && line->state == LINE_OPEN)
		member->world->bulk_excused +=
			MIN(line->sent_bytes, WINDOW_BYTES); /* of which nobody told what arrived */
	line->tries++;
	line->wait_ns = MIN(line->wait_ns * 2, LONGEST_WAIT_NS);
	line_wait(member, other, kind, wait_ns);
}

/* The other end of an open line will notice that it is closed, if word of it gets there. */
static void say_gone(struct member *member, unsigned other, enum line_kind kind)
{
	struct world *world = member->world;
	const struct line *line = &member->peers[other].lines[kind];

	if (line->state == LINE_OPEN && !world->cut[member->number][other])
		happens(world, delay_ns(world), WIRE_GONE, other, member->number, other, kind, line->number);
}

/* The same for a line that `from` made to this member. */
static void say_end(struct member *member, unsigned from, enum line_kind kind)
{
	struct world *world = member->world;

	if (!world->cut[member->number][from])
		happens(world, delay_ns(world), WIRE_END, from, from, member->number, kind,
			member->peers[from].incoming[kind]);
}

static void line_end(struct member *member, unsigned other, enum line_kind kind)
{
	world_log(member->world, "member %u lost its connection to %u%s", member->number, other,
		kind == LINE_BULK ? " for bulk" : "");
	say_gone(member, other, kind);
	line_failed(member, other, kind);
	tell_state(member, other);
}

static void forget_peer(struct member *member, unsigned other)
{
	struct wire_peer *peer = &member->peers[other];

	for (unsigned kind = 0; kind < LINE_KINDS; kind++) {
		say_gone(member, other, kind);
		drop_queue(member->world, &peer->lines[kind], kind == LINE_BULK);
		if (peer->incoming[kind])
			say_end(member, other, kind);
	}
	memset(peer, 0, sizeof(*peer));
}

static void begin_lines(struct member *member, unsigned other)
{
	for (unsigned kind = 0; kind < LINE_KINDS; kind++) {
		struct line *line = &member->peers[other].lines[kind];

		if (line->state != LINE_NONE)
			continue;
		list_init(&line->queue);
		line->wait_ns = FIRST_WAIT_NS;
		line_wait(member, other, kind, 0);
	}
}

static void know(struct member *member, unsigned other, const char *url)
{
	struct wire_peer *peer = &member->peers[other];
	bool is_new = peer->stranger || peer->lines[LINE_SMALL].state == LINE_NONE;

	peer->member = true;
	peer->stranger = false;
	if (is_new)
		tell(member, other, peer->connected);
	(void)snprintf(peer->url, sizeof(peer->url), "%s", url);
	begin_lines(member, other);
}

void wire_members_changed(struct member *member)
{
	struct world *world = member->world;
	bool outside = !node_member_by_id(member->node, member->id);

	for (unsigned i = 0; i < world->member_count; i++)
		member->peers[i].member = false;
	for (unsigned i = 0; i < member->seeds_len && outside; i++)
		if (member->seeds[i].number != member->number)
			know(member, member->seeds[i].number, member->seeds[i].url);
	for (unsigned i = 0; i < world->member_count; i++) {
		const struct node_member *view = node_member_by_id(member->node, world->members[i].id);

		if (view && view->peer_urls[0] && i != member->number)
			know(member, i, view->peer_urls[0]);
	}
	for (unsigned i = 0; i < world->member_count; i++) {
		struct wire_peer *peer = &member->peers[i];
		bool removed = node_tells_removed(member->node, world->members[i].id);

		if (!peer->member && (!peer->stranger || removed) && peer->lines[0].state != LINE_NONE)
			forget_peer(member, i);
	}
}

void wire_start(struct member *member)
{
	member->powered_off = false;
	wire_members_changed(member);
}

void wire_stop(struct member *member, bool power)
{
	struct world *world = member->world;

	member->powered_off = power;
	for (unsigned other = 0; other < world->member_count; other++) {
		struct wire_peer *peer = &member->peers[other];

		for (unsigned kind = 0; kind < LINE_KINDS; kind++) {
			if (!power)
				say_gone(member, other, kind);
			if (!power && peer->incoming[kind])
				say_end(member, other, kind);
			drop_queue(world, &peer->lines[kind], kind == LINE_BULK);
		}
	}
	memset(member->peers, 0, sizeof(member->peers));
}

/* ---- Calls ---- */

static struct member *listener(struct world *world, const char *url)
{
	for (unsigned i = 0; i < world->member_count; i++)
		if (strcmp(world->members[i].listens, url) == 0)
			return &world->members[i];
	return NULL;
}

static bool cut_off(const struct world *world, unsigned one, unsigned other)
{
	return world->cut[one][other] || world->cut[other][one];
}

static void call(struct member *member, unsigned other, enum line_kind kind)
{
	struct world *world = member->world;
	struct wire_peer *peer = &member->peers[other];
	struct line *line = &peer->lines[kind];
	const char *url =
		*peer->url && (line->tries % 2 == 0 || !*peer->told_url) ? peer->url : peer->told_url;
	const struct member *at = listener(world, url);

	line->state = LINE_CALLING;
	/* Connections that lead to another one's end with a refusal, which is as good as silence. */
	if (at && at->number == other && !cut_off(world, member->number, other))
		happens(world, 2 * delay_ns(world), WIRE_HELLO, other, member->number, other, kind,
			line->number);
	happens(world, at ? patience_ns(world, 500 * NS_PER_MS, 1) : delay_ns(world), WIRE_TIMEOUT,
		member->number, member->number, other, kind, line->number);
}

static void answer(
	struct member *member, unsigned from, enum line_kind kind, uint64_t number, unsigned accepted)
{
	struct world *world = member->world;
	struct event *event;

	if (cut_off(world, member->number, from) || !world->members[from].node)
		return;
	event = world_at(world, world->now_ns + delay_ns(world), EVENT_WIRE, from, member->number);
	event->what = WIRE_ANSWER;
	event->life = world->members[from].life;
	event->line = number;
	event->len = from * LINE_KINDS + kind;
	event->other_life = accepted ? member->life + 1 : 0; /* 0: removed */
}

/* The one that was silent longest makes room. */
static void take_stranger(struct member *member, unsigned from)
{
	struct world *world = member->world;
	unsigned strangers = 0, quietest = 0;

	for (unsigned i = 0; i < world->member_count; i++) {
		if (!member->peers[i].stranger)
			continue;
		if (!strangers++ || member->peers[i].heard_ns < member->peers[quietest].heard_ns)
			quietest = i;
	}
	if (strangers == STRANGERS_MAX)
		forget_peer(member, quietest);
	world->summary->faults[FAULT_STRANGER]++;
	member->peers[from].stranger = true;
}

static void hello(struct member *member, unsigned from, enum line_kind kind, uint64_t number)
{
	struct world *world = member->world;
	struct wire_peer *peer = &member->peers[from];

	if (!member->node || number < peer->incoming[kind])
		return; /* a call that was given up before the newer one was made */
	if (node_tells_removed(member->node, world->members[from].id)) {
		answer(member, from, kind, number, false);
		return;
	}
	if (!peer->member && !peer->stranger)
		take_stranger(member, from);
	(void)snprintf(peer->told_url, sizeof(peer->told_url), "%s", world->members[from].listens);
	peer->incoming[kind] = number; /* an older one's other end is gone */
	begin_lines(member, from);
	for (unsigned i = 0; i < LINE_KINDS && !peer->stranger; i++)
		if (peer->lines[i].state == LINE_WAITING)
			line_wait(member, from, i, 0);
	answer(member, from, kind, number, true);
}

static void answered(struct member *member, unsigned other, enum line_kind kind, const struct event *event)
{
	struct line *line = &member->peers[other].lines[kind];

	if (line->number != event->line || line->state != LINE_CALLING) {
		if (event->other_life)
			happens(member->world, delay_ns(member->world), WIRE_GONE, other, member->number,
				other, kind, event->line);
		return;
	}
	if (!event->other_life) {
		node_told_removed(member->node, member->world->members[other].id);
		member_schedule(member, member->world->now_ns);
		line_failed(member, other, kind);
		return;
	}
	world_log(member->world, "member %u is connected to %u%s", member->number, other,
		kind == LINE_BULK ? " for bulk" : "");
	line->state = LINE_OPEN;
	line->other_life = event->other_life - 1;
	line->wait_ns = FIRST_WAIT_NS;
	line->free_ns = line->arrival_ns = line->silent_ns = 0;
	line->sent_bytes = 0;
	tell_state(member, other);
}

static void gone(struct member *member, unsigned from, enum line_kind kind, uint64_t number)
{
	struct wire_peer *peer = &member->peers[from];

	if (peer->incoming[kind] != number)
		return;
	peer->incoming[kind] = 0;
	tell(member, from, false);
	if (peer->connected)
		tell(member, from, true);
	if (peer->stranger && !peer->incoming[LINE_SMALL] && !peer->incoming[LINE_BULK])
		forget_peer(member, from);
}

/* ---- Messages ---- */

static void schedule_first(struct member *member, unsigned other, enum line_kind kind, int64_t least_ns)
{
	struct world *world = member->world;
	struct line *line = &member->peers[other].lines[kind];
	struct letter *letter;

	if (list_empty(&line->queue))
		return;
	letter = list_item(line->queue.next, struct letter, link);
	happens(world, MAX(letter->arrival_ns - world->now_ns, least_ns), WIRE_BYTES, other, member->number,
		other, kind, line->number);
}

void wire_send(struct member *member, unsigned to, struct slice message, bool bulk)
{
	struct world *world = member->world;
	enum line_kind kind = bulk ? LINE_BULK : LINE_SMALL;
	struct line *line = &member->peers[to].lines[kind];
	size_t len = message.len + FRAME_BYTES;
	int64_t per_s = world->calm ? world->profile.calm_bytes_per_s : world->profile.bytes_per_s;
	struct letter *letter;
	bool first;

	if (line->state != LINE_OPEN) {
		world->summary->faults[FAULT_NO_LINE]++;
		return;
	}
	if (line->queued_bytes + len >
		world->profile.socket_bytes + (bulk ? BULK_QUEUE_BYTES : SMALL_QUEUE_BYTES)) {
		world->summary->faults[FAULT_QUEUE_FULL]++;
		return;
	}
	if (bulk && !promise_of_transfer(message))
		world->bulk_sent += len;
	line->sent_bytes += len;
	first = list_empty(&line->queue);
	letter = mem_new(struct letter);
	letter->bytes = mem_dup(message.data, message.len);
	letter->len = message.len;
	line->free_ns =
		MAX(line->free_ns, world->now_ns) + (int64_t)((double)len * (double)NS_PER_S / (double)per_s);
	line->arrival_ns = MAX(line->arrival_ns + 1, line->free_ns + delay_ns(world));
	letter->arrival_ns = line->arrival_ns;
	line->queued_bytes += len;
	list_push_back(&line->queue, &letter->link);
	if (first)
		schedule_first(member, to, kind, 0);
}

/* Keepalive: a line that nothing was sent on is found dead. Once the faults are over this does not take as
 * long as it does in truth, for what is sent first on a dead line is lost, and nobody asks a second time
 * then. */
static void probe(struct member *member, unsigned other, enum line_kind kind)
{
	struct world *world = member->world;
	const struct member *to = &world->members[other];
	const struct line *line = &member->peers[other].lines[kind];

	if (line->state != LINE_OPEN)
		return;
	if (!cut_off(world, member->number, other) && !(!to->node && to->powered_off) &&
		(!to->node || to->life != line->other_life ||
			to->peers[member->number].incoming[kind] != line->number))
		line_end(member, other, kind);
	else if (world->now_ns < world->profile.run_ns + PROBED_NS)
		happens(world, world->calm ? NS_PER_S / 2 : KEEPALIVE_NS, WIRE_PROBE, member->number,
			member->number, other, kind, line->number);
}

void wire_calm(struct world *world)
{
	for (unsigned i = 0; i < world->member_count; i++)
		for (unsigned other = 0; other < world->member_count; other++)
			for (unsigned kind = 0; kind < LINE_KINDS; kind++)
				if (world->members[i].node)
					probe(&world->members[i], other, kind);
}

/* Nothing is confirmed now: true when that has been so for too long, which ends the line. */
static bool silent_for_long(struct member *from, unsigned to, enum line_kind kind)
{
	struct world *world = from->world;
	struct line *line = &from->peers[to].lines[kind];

	if (!line->silent_ns)
		line->silent_ns = world->now_ns;
	if (world->now_ns - line->silent_ns < patience_ns(world, NS_PER_S, 2))
		return false;
	world->summary->faults[FAULT_LINE_SILENT]++;
	line_end(from, to, kind);
	return true;
}

static void deliver(struct member *to, struct member *from, enum line_kind kind)
{
	struct line *line = &from->peers[to->number].lines[kind];
	struct letter *letter = list_item(line->queue.next, struct letter, link);
	uint64_t number = line->number;

	list_remove(&letter->link);
	line->queued_bytes -= letter->len + FRAME_BYTES;
	to->peers[from->number].heard_ns = to->world->now_ns;
	if (!member_receive(to, from->number, slice_make(letter->bytes, letter->len)))
		world_finding(to->world, "member %u refuses what member %u sent", to->number, from->number);
	free(letter->bytes);
	free(letter);
	if (line->number != number || line->state != LINE_OPEN)
		return; /* one of them ended over it */
	if (!to->world->cut[to->number][from->number])
		line->silent_ns = 0;
	else if (silent_for_long(from, to->number, kind))
		return;
	schedule_first(from, to->number, kind, 0);
}

static void arrive(struct member *to, struct member *from, enum line_kind kind, uint64_t number)
{
	struct world *world = to->world;
	struct line *line = &from->peers[to->number].lines[kind];

	if (line->number != number || line->state != LINE_OPEN || list_empty(&line->queue))
		return;
	if (world->cut[from->number][to->number] || (!to->node && to->powered_off)) {
		if (!silent_for_long(from, to->number, kind))
			schedule_first(from, to->number, kind, RETRANSMIT_NS);
	} else if (!to->node || to->life != line->other_life ||
		   to->peers[from->number].incoming[kind] != number) {
		line_end(from, to->number, kind); /* nobody there knows of it */
	} else if (!world->calm && rng_chance(&world->later, world->profile.line_lost)) {
		world->summary->faults[FAULT_LINE_LOST]++;
		line_end(from, to->number, kind);
	} else {
		deliver(to, from, kind);
	}
}

void wire_event(struct world *world, const struct event *event)
{
	struct member *member = &world->members[event->member];
	unsigned owner = (unsigned)event->len / LINE_KINDS;
	enum line_kind kind = event->len % LINE_KINDS;
	const struct line *line = &world->members[owner].peers[event->other].lines[kind];

	if (event->what == WIRE_HELLO) {
		hello(member, owner, kind, event->line);
		return;
	}
	if (event->what == WIRE_BYTES) {
		arrive(member, &world->members[owner], kind, event->line);
		return;
	}
	if (!member->node || member->life != event->life)
		return;
	if (event->what == WIRE_GONE)
		gone(member, owner, kind, event->line);
	else if (event->what == WIRE_ANSWER)
		answered(member, event->other, kind, event);
	else if (line->number != event->line)
		return;
	else if (event->what == WIRE_PROBE)
		probe(member, event->other, kind);
	else if (event->what == WIRE_CALL)
		call(member, event->other, kind);
	else if (event->what == WIRE_TIMEOUT && line->state == LINE_CALLING)
		line_failed(member, event->other, kind);
	else if (event->what == WIRE_END) /* word of it may overtake the answer to the call */
		line_end(member, event->other, kind);
}

void wire_reset(struct world *world, unsigned one, unsigned other)
{
	for (unsigned kind = 0; kind < LINE_KINDS; kind++) {
		if (world->members[one].peers[other].lines[kind].state == LINE_OPEN)
			line_end(&world->members[one], other, kind);
		if (world->members[other].peers[one].lines[kind].state == LINE_OPEN)
			line_end(&world->members[other], one, kind);
	}
}

/* What was committed is sent to each other member once, and again for what came in between: connections that
 * ended, starts, elections. Not again and again. */
void wire_check(struct world *world)
{
	uint64_t others = world->member_count - 1, enough;

	enough = BULK_FREE_BYTES + 2 * (world->bulk_needed * others + world->bulk_excused);
	world->summary->bulk_bytes += world->bulk_sent;
	world->summary->wire_runs++;
	world_log(world, "%llu bytes of bulk were sent, %llu were proposed, %llu lost",
		(unsigned long long)world->bulk_sent, (unsigned long long)world->bulk_needed,
		(unsigned long long)world->bulk_excused);
	if (world->bulk_sent > enough)
		world_finding(world, "%llu MB were sent for %llu MB of entries to %u members",
			(unsigned long long)world->bulk_sent >> 20,
			(unsigned long long)world->bulk_needed >> 20, (unsigned)others);
}
