/* What goes wrong, and how often, drawn anew for each seed: some seeds have one kind of fault often, others a
 * mixture, a few none. (Groce and others, "Swarm Testing", 2012.) */
#include "sim.h"
#include "base/memory.h"

const char *const fault_names[FAULT_MAX] = {
	[FAULT_KILL] = "process killed",
	[FAULT_POWER] = "power failed",
	[FAULT_POWER_ALL] = "power failed everywhere",
	[FAULT_CRASH_AT_STEP] = "crash inside a write or sync",
	[FAULT_TORN_WRITE] = "unsynced write torn",
	[FAULT_DISK_ERROR] = "write or sync failed",
	[FAULT_DISK_SLOW] = "disk slow for a while",
	[FAULT_PAUSE] = "process paused",
	[FAULT_PARTITION] = "partition in halves",
	[FAULT_ISOLATE] = "member isolated",
	[FAULT_ONE_WAY] = "link cut in one direction",
	[FAULT_BRIDGE] = "partition with a bridge",
	[FAULT_RESET] = "connection reset",
	[FAULT_NET_SLOW] = "network slow for a while",
	[FAULT_DROP] = "message dropped",
	[FAULT_DUPLICATE] = "message doubled",
	[FAULT_REORDER] = "message delayed past others",
	[FAULT_CLOCK_JUMP] = "wall clock jumped",
	[FAULT_CLIENT_LEFT] = "client left its request",
};

static uint32_t chance(struct world *world, uint32_t most)
{
	return rng_below(&world->rng, 2) ? (uint32_t)rng_below(&world->rng, most + 1) : 0;
}

void fault_profile(struct world *world)
{
	static const unsigned sizes[] = {1, 2, 3, 3, 3, 3, 3, 4, 5, 5};
	struct profile *profile = &world->profile;
	struct rng *rng = &world->rng;

	profile->members = sizes[rng_below(rng, ARRAY_LEN(sizes))];
	profile->clients = 2 + (unsigned)rng_below(rng, CLIENTS_MAX - 1);
	profile->keys = 1 + (unsigned)rng_below(rng, KEYS_MAX);
	profile->run_ns = 3 * NS_PER_S + world_rand(world, 12 * NS_PER_S);
	profile->think_ns = 1 + world_rand(world, (rng_below(rng, 3) ? 100 : 10) * NS_PER_MS);
	profile->net_delay_ns = 50000 + world_rand(world, (rng_below(rng, 4) ? 2 : 50) * NS_PER_MS);
	profile->sync_ns = 100000 + world_rand(world, (rng_below(rng, 4) ? 2 : 20) * NS_PER_MS);
	profile->segment_bytes = WAL_SEGMENT_MIN_BYTES << rng_below(rng, 5);
	/* Most seeds write a checkpoint every few dozen entries, in small slices, and send it in small
	 * pieces. */
	profile->checkpoint_log_bytes =
		rng_below(rng, 8)
			? UINT64_C(500) << (rng_below(rng, 4) ? rng_below(rng, 4) : rng_below(rng, 8))
			: 0;
	profile->checkpoint_step_bytes = (size_t)64 << rng_below(rng, 10);
	profile->checkpoint_piece_bytes = (size_t)200 << rng_below(rng, 10);
	/* Elections need timeouts well above what a round of messages and writes takes (thesis 3.9). */
	profile->heartbeat_ms = 20 + (uint32_t)rng_below(rng, 81) +
				(uint32_t)(3 * (profile->net_delay_ns + profile->sync_ns) / 2 / NS_PER_MS);
	profile->election_ms = profile->heartbeat_ms * (5 + (uint32_t)rng_below(rng, 6));
	profile->drop = chance(world, 200000);
	profile->duplicate = chance(world, 200000);
	profile->reorder = chance(world, 300000);
	profile->crash_at_step = chance(world, 3000);
	profile->disk_error = chance(world, 1000);
	profile->fault_every_ns = 50 * NS_PER_MS + world_rand(world, 3 * NS_PER_S);
	profile->value_bytes = (size_t)1 << (2 + rng_below(rng, 10));
	profile->expiry = rng_below(rng, 2);
	for (unsigned i = 0; i < FAULT_MAX; i++)
		profile->fault_weight[i] = chance(world, 10);
	/* Most seeds keep next to nothing of the log in memory. */
	profile->log_cache_bytes = rng_below(rng, 4) ? UINT64_C(1) << rng_below(rng, 13) : 0;
	if (world->contradict) {
		profile->checkpoint_log_bytes = 0; /* a false state would be handed on as a true one */
		/* A false member that is started anew is right again: leave it alone, and let the log grow.
		 */
		profile->members = MAX(profile->members, 3u);
		profile->think_ns = 10 * NS_PER_MS;
		profile->run_ns = 15 * NS_PER_S;
		profile->net_delay_ns = MIN(profile->net_delay_ns, NS_PER_MS);
		profile->sync_ns = MIN(profile->sync_ns, NS_PER_MS);
		profile->crash_at_step = profile->disk_error = 0;
		profile->fault_weight[FAULT_KILL] = profile->fault_weight[FAULT_POWER] = 0;
		profile->fault_weight[FAULT_POWER_ALL] = profile->fault_weight[FAULT_PAUSE] = 0;
		profile->fault_every_ns = 5 * NS_PER_S;
		profile->clients = CLIENTS_MAX;
	}
	for (unsigned i = 0; i < MEMBERS_MAX; i++)
		world->members[i].paused_until_ns = 0;
}

static struct member *anyone(struct world *world)
{
	return &world->members[rng_below(&world->rng, world->profile.members)];
}

static void cut(struct world *world, unsigned from, unsigned to, bool both)
{
	world->cut[from][to] = true;
	if (both)
		world->cut[to][from] = true;
}

/* Splits at random; the member `bridge` (or none) keeps its links to both sides. */
static void split(struct world *world, unsigned bridge)
{
	unsigned sides = (unsigned)rng_below(&world->rng, 1u << world->profile.members);

	for (unsigned a = 0; a < world->profile.members; a++)
		for (unsigned b = 0; b < a; b++)
			if ((sides >> a & 1) != (sides >> b & 1) && a != bridge && b != bridge)
				cut(world, a, b, true);
}

static void cut_network(struct world *world, enum fault fault)
{
	unsigned one = anyone(world)->number;

	if (fault == FAULT_PARTITION) {
		split(world, MEMBERS_MAX);
	} else if (fault == FAULT_BRIDGE) {
		split(world, one);
	} else if (fault == FAULT_ISOLATE) {
		for (unsigned i = 0; i < world->profile.members; i++)
			if (i != one)
				cut(world, one, i, true);
	} else {
		for (unsigned i = 0; i < world->profile.members; i++)
			if (i != one && rng_below(&world->rng, 2)) {
				bool out = rng_below(&world->rng, 2);

				cut(world, out ? one : i, out ? i : one, false);
			}
	}
	world_at(world, world->now_ns + 100 * NS_PER_MS + world_rand(world, 4 * NS_PER_S), EVENT_HEAL, 0, 0);
}

static void reset_connection(struct world *world)
{
	struct member *a = anyone(world), *b = anyone(world);

	if (a == b)
		return;
	for (unsigned up = 0; up < 2; up++) {
		member_notice(a, b->number, up);
		member_notice(b, a->number, up);
	}
}

static void jump_clock(struct world *world)
{
	static const int64_t sizes[] = {
		NS_PER_MS, NS_PER_S, 60 * NS_PER_S, 3600 * NS_PER_S, INT64_C(86400000) * NS_PER_S};
	int64_t size = sizes[rng_below(&world->rng, ARRAY_LEN(sizes))];

	anyone(world)->wall_offset_ns += world_rand(world, 2 * size) - size;
}

static void carry_out(struct world *world, enum fault fault)
{
	struct member *member = anyone(world);

	switch (fault) {
	case FAULT_KILL:
	case FAULT_POWER:
		member_crash(member, fault == FAULT_POWER);
		break;
	case FAULT_POWER_ALL:
		for (unsigned i = 0; i < world->profile.members; i++)
			member_crash(&world->members[i], true);
		break;
	case FAULT_DISK_SLOW:
		member->disk_slow_until_ns = world->now_ns + world_rand(world, 2 * NS_PER_S);
		break;
	case FAULT_PAUSE:
		member->paused_until_ns = world->now_ns + 1 + world_rand(world, 3 * NS_PER_S);
		break;
	case FAULT_RESET:
		reset_connection(world);
		break;
	case FAULT_NET_SLOW:
		world->net_slow_until_ns = world->now_ns + world_rand(world, 2 * NS_PER_S);
		break;
	case FAULT_CLOCK_JUMP:
		jump_clock(world);
		break;
	default:
		cut_network(world, fault);
	}
}

static bool is_scheduled(enum fault fault)
{
	return fault != FAULT_CRASH_AT_STEP && fault != FAULT_TORN_WRITE && fault != FAULT_DISK_ERROR &&
	       fault != FAULT_DROP && fault != FAULT_DUPLICATE && fault != FAULT_REORDER &&
	       fault != FAULT_CLIENT_LEFT;
}

void fault_inject(struct world *world)
{
	uint32_t total = 0, dice;

	if (world->calm)
		return;
	world_at(world, world->now_ns + 1 + world_rand(world, 2 * world->profile.fault_every_ns), EVENT_FAULT,
		0, 0);
	for (unsigned i = 0; i < FAULT_MAX; i++)
		total += is_scheduled(i) ? world->profile.fault_weight[i] : 0;
	if (!total)
		return;
	dice = (uint32_t)rng_below(&world->rng, total);
	for (unsigned i = 0; i < FAULT_MAX; i++) {
		uint32_t weight = is_scheduled(i) ? world->profile.fault_weight[i] : 0;

		if (dice < weight) {
			world->summary->faults[i]++;
			world_log(world, "fault: %s", fault_names[i]);
			world_trace(world, 500, i);
			carry_out(world, i);
			return;
		}
		dice -= weight;
	}
}

void fault_heal_network(struct world *world)
{
	memset(world->cut, 0, sizeof(world->cut));
}

void fault_calm(struct world *world)
{
	world->calm = true;
	world->net_slow_until_ns = 0;
	fault_heal_network(world);
	for (unsigned i = 0; i < world->profile.members; i++) {
		struct member *member = &world->members[i];

		member->disk_slow_until_ns = 0;
		member->paused_until_ns = MIN(member->paused_until_ns, world->now_ns);
	}
}
