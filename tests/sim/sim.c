/* The scheduler: events in the order of virtual time. Nothing here depends on anything but the seed. */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define SETTLE_MIN_NS (3 * NS_PER_S) /* what was to expire has */
#define SETTLE_NS (20 * NS_PER_S)    /* longer than a request may take */
/* Twice as long as a full disk is not looked at, at most: its own checkpoint, and one that it is sent. */
#define SETTLE_ALARM_NS (45 * NS_PER_S)
#define FINAL_NS (5 * NS_PER_S)
#define REST_LOOK_NS (250 * NS_PER_MS)
#define AGREE_RETRIES 20
#define EVENTS_MAX 20000000

int64_t world_rand(struct world *world, int64_t below)
{
	return below > 0 ? (int64_t)rng_below(&world->rng, (uint64_t)below) : 0;
}

void world_trace(struct world *world, uint64_t a, uint64_t b)
{
	world->trace = hash_u64(
		world->trace ^ hash_u64(a + (uint64_t)world->now_ns) ^ (b * UINT64_C(0x9e3779b97f4a7c15)));
}

void world_log(struct world *world, const char *format, ...)
{
	va_list args;

	if (!world->options->verbose)
		return;
	printf("%10.6f ", (double)world->now_ns / 1e9);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

void world_finding(struct world *world, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	world_log(world, "FINDING: %s", text);
	if (!world->finding)
		world->finding = mem_strdup(text);
	world->stopped = true;
}

static bool earlier(const struct heap_item *a, const struct heap_item *b)
{
	const struct event *left = container_of(a, struct event, item),
			   *right = container_of(b, struct event, item);

	return left->at_ns != right->at_ns ? left->at_ns < right->at_ns : left->number < right->number;
}

struct event *world_at(
	struct world *world, int64_t at_ns, enum event_kind kind, unsigned member, unsigned other)
{
	struct event *event = mem_new(struct event);

	event->at_ns = MAX(at_ns, world->now_ns);
	event->number = world->next_number++;
	event->kind = kind;
	event->member = member;
	event->other = other;
	heap_insert(&world->events, &event->item);
	return event;
}

static void event_free(struct event *event)
{
	free(event->bytes);
	free(event);
}

/* All members have applied the same and follow the same leader. */
static bool members_agree(struct world *world)
{
	struct node_status first = {0}, status;

	for (unsigned i = 0; i < world->member_count; i++) {
		if (!member_counts(&world->members[i]))
			continue;
		if (!world->members[i].node)
			return false;
		node_get_status(world->members[i].node, &status);
		if (!first.id)
			first = status;
		if (status.applied != first.applied || status.leader != first.leader || !status.leader)
			return false;
	}
	return true;
}

/* States are compared at certain log indices: enough of them lie behind the falsification. */
static bool noticeable(struct world *world)
{
	struct node_status status = {0};

	if (world->members[0].node)
		node_get_status(world->members[0].node, &status);
	return status.applied > world->false_at + 200;
}

static void end(struct world *world, unsigned tries)
{
	if (!members_agree(world) && tries < AGREE_RETRIES) {
		world_at(world, world->now_ns + 200 * NS_PER_MS, EVENT_END, 0, tries + 1);
		return;
	}
	for (unsigned i = 0; i < world->member_count && world->options->verbose; i++) {
		struct node_status status = {0};

		if (world->members[i].node)
			node_get_status(world->members[i].node, &status);
		world_log(world,
			"member %u: role %d term %" PRIu64 " leader %" PRIx64 " applied %" PRIu64
			" of %" PRIu64,
			i, status.role, status.term, status.leader, status.applied, status.last);
	}
	world->summary->found_false += world->stopped_itself != 0;
	if (world->options->contradict && !world->stopped_itself && noticeable(world))
		world_finding(world, "a member of false state did not stop");
	if (!world->options->contradict) { /* what a false member answered is false */
		client_check(world);
		watcher_check(world);
		if (world->profile.wire)
			wire_check(world);
	}
	world->stopped = true;
}

/* A member takes no writes until a checkpoint fits, and looks for that less and less often; then the others
 * have to hear of it. */
static bool alarmed(struct world *world)
{
	struct node_status status;

	for (unsigned i = 0; i < world->member_count; i++) {
		if (!member_counts(&world->members[i]) || !world->members[i].node)
			continue;
		node_get_status(world->members[i].node, &status);
		if (status.space != NODE_SPACE_OK)
			world->alarmed_ns = world->now_ns;
	}
	return world->alarmed_ns && world->now_ns < world->alarmed_ns + NS_PER_S;
}

/* The faults are over. As soon as all is quiet, and at the latest after a while, everybody is asked once
 * more; then the run ends when all have answered, or should have. */
static void rest(struct world *world, bool asked)
{
	int64_t since_ns = world->profile.run_ns, settle_ns = SETTLE_NS;
	bool quiet;

	if (world->profile.wire)
		operator_settle(world);
	if (asked)
		client_final_writes(world);
	if (alarmed(world))
		settle_ns = SETTLE_ALARM_NS;
	quiet = !alarmed(world) && members_agree(world) && clients_rest(world) && operator_rests(world);
	if (asked ? quiet : (quiet && world->now_ns >= since_ns + SETTLE_MIN_NS))
		world_at(world, world->now_ns, asked ? EVENT_END : EVENT_FINAL, 0, 0);
	else if (world->now_ns >= (asked ? world->asked_ns + FINAL_NS : since_ns + settle_ns))
		world_at(world, world->now_ns, asked ? EVENT_END : EVENT_FINAL, 0, 0);
	else
		world_at(world, world->now_ns + REST_LOOK_NS, EVENT_REST, 0, asked);
}

/* What happens to a stopped process waits until it goes on. */
static bool postponed(struct world *world, struct event *event)
{
	struct member *member = &world->members[event->member];

	if (event->kind != EVENT_TURN && event->kind != EVENT_DISK && event->kind != EVENT_MESSAGE &&
		event->kind != EVENT_PEER && event->kind != EVENT_WIRE && event->kind != EVENT_CLEAN_STOP)
		return false;
	if (!member->node || member->paused_until_ns <= world->now_ns)
		return false;
	event->at_ns = member->paused_until_ns;
	heap_insert(&world->events, &event->item);
	return true;
}

static void calm_down(struct world *world)
{
	world_log(world, "the faults are over");
	fault_calm(world);
	world_at(world, world->now_ns + REST_LOOK_NS, EVENT_REST, 0, false);
}

static void ask_at_last(struct world *world)
{
	client_final_reads(world);
	world->asked_ns = world->now_ns;
	world_at(world, world->now_ns + REST_LOOK_NS, EVENT_REST, 0, true);
}

static void run_event(struct world *world, struct event *event)
{
	struct member *member = &world->members[event->member];

	switch (event->kind) {
	case EVENT_TURN:
		member_turn(member, event);
		break;
	case EVENT_DISK:
		member_disk(member, event);
		break;
	case EVENT_MESSAGE:
		member_message(member, event);
		break;
	case EVENT_PEER:
		member_peer(member, event);
		break;
	case EVENT_WIRE:
		wire_event(world, event);
		break;
	case EVENT_CLEAN_STOP:
		member_clean_stop(member, event);
		break;
	case EVENT_EXPORT:
		export_begin(world);
		break;
	case EVENT_CLIENT:
		client_step(world, &world->clients[event->other]);
		break;
	case EVENT_POLL:
		watcher_poll(world, &world->chains[event->other]);
		break;
	case EVENT_START:
		if (!member->node && !member->lost && !member->removed &&
			world->now_ns >= member->down_until_ns)
			member_start(member);
		break;
	case EVENT_FAULT:
		fault_inject(world);
		break;
	case EVENT_FLAP:
		fault_flap(world, event->other);
		break;
	case EVENT_STRAND:
		if (member->node && event->life == member->life)
			fault_strand(member, event->other);
		break;
	case EVENT_CRASH:
		if (member->node && event->life == member->life && !world->calm)
			member_crash(member, event->other);
		break;
	case EVENT_HEAL:
		fault_heal_network(world);
		break;
	case EVENT_CALM:
		calm_down(world);
		break;
	case EVENT_REST:
		rest(world, event->other);
		break;
	case EVENT_FALSIFY:
		member_falsify(member);
		break;
	case EVENT_FINAL:
		ask_at_last(world);
		break;
	case EVENT_END:
		end(world, event->other);
		break;
	}
}

static void set_up(struct world *world)
{
	struct profile *profile = &world->profile;

	rng_seed(&world->rng, world->seed);
	rng_seed(&world->later, hash_u64(world->seed) ^ 1);
	heap_init(&world->events, earlier);
	world->next_value = 1;
	world->lifetimes = mem_calloc(1, sizeof(*world->lifetimes));
	fault_profile(world);
	watcher_init(world);
	world->member_count = world->voters_low = profile->members;
	for (unsigned i = 0; i < profile->members; i++) {
		operator_prepare(world, i);
		world->initial[i] = (struct node_member){
			.id = world->members[i].id,
			.name = "",
			.peer_urls = world->url_lists[i],
			.client_urls = world->url_lists[i] + 1,
		};
		world_at(world, world_rand(world, 300 * NS_PER_MS), EVENT_START, i, 0);
	}
	for (unsigned i = 0; i < profile->clients; i++) {
		world->clients[i].number = i;
		world_at(world, world_rand(world, NS_PER_S), EVENT_CLIENT, 0, i);
	}
	world_at(world, world_rand(world, NS_PER_S), EVENT_FAULT, 0, 0);
	if (profile->export_every_ns)
		world_at(world, profile->export_every_ns, EVENT_EXPORT, 0, 0);
	if (world->options->contradict)
		world_at(world, profile->run_ns / 2, EVENT_FALSIFY,
			(unsigned)rng_below(&world->rng, profile->members), 0);
	world_at(world, profile->run_ns, EVENT_CALM, 0, 0);
	if (profile->wire)
		world_log(world, "connections of %" PRId64 " bytes a second%s", profile->bytes_per_s,
			profile->large ? ", large values" : "");
	world_log(world,
		"%u members, %u clients, %u keys, heartbeat %u ms, election %u ms, segments of %" PRIu64
		" bytes",
		profile->members, profile->clients, profile->keys, profile->heartbeat_ms,
		profile->election_ms, profile->segment_bytes);
}

static void tear_down(struct world *world)
{
	struct heap_item *item;

	for (unsigned i = 0; i < world->member_count; i++) {
		struct member *member = &world->members[i];

		member_count(member);
		if (member->node) {
			if (world->profile.wire)
				wire_stop(member, true);
			export_stop(member);
		}
		if (member->node)
			watcher_stop(member, node_store(member->node));
		member->node = node_free(member->node);
		member->disk = disk_free(member->disk);
	}
	while ((item = heap_top(&world->events))) {
		heap_remove(&world->events, item);
		event_free(container_of(item, struct event, item));
	}
	heap_done(&world->events);
	for (size_t i = 0; i < world->ops_len; i++)
		free(world->ops[i]);
	free(world->ops);
	free(world->lifetimes);
	free(world->hashes);
	free(world->known);
	free(world->terms);
}

char *world_run(const struct run_options *options, struct summary *summary, struct run_result *ret_result)
{
	struct world *world = mem_new(struct world);
	uint64_t events = 0;
	char *finding;

	world->seed = options->seed;
	world->options = options;
	world->summary = summary;
	set_up(world);
	while (!world->stopped) {
		struct heap_item *item = heap_top(&world->events);
		struct event *event = container_of(item, struct event, item);

		heap_remove(&world->events, item);
		world->now_ns = event->at_ns;
		if (postponed(world, event))
			continue;
		run_event(world, event);
		event_free(event);
		if (++events > EVENTS_MAX)
			world_finding(world, "the run does not come to an end");
	}
	summary->seeds++;
	summary->findings += world->finding != NULL;
	summary->simulated_ns += world->now_ns;
	*ret_result = (struct run_result){.trace = world->trace, .crashed = world->crashed_at_step};
	finding = world->finding;
	tear_down(world);
	free(world);
	return finding;
}
