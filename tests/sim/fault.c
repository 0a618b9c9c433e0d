/* What goes wrong, and how often, drawn anew for each seed: some seeds have one kind of fault often, others a
 * mixture, a few none. (Groce and others, "Swarm Testing", 2012.) */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"

const char *const fault_names[FAULT_MAX] = {
	[FAULT_KILL] = "process killed",
	[FAULT_POWER] = "power failed",
	[FAULT_POWER_ALL] = "power failed everywhere",
	[FAULT_CRASH_AT_STEP] = "crash inside a write, sync, create, rename or remove",
	[FAULT_CRASH_IN_SWITCH] = "crash between checkpoint, manifest switch and log cut",
	[FAULT_CRASH_IN_TRANSFER] = "crash during a transfer",
	[FAULT_LONG_DOWN] = "member down for long, back with old data",
	[FAULT_LOST_WRITE] = "unsynced write lost",
	[FAULT_TORN_WRITE] = "unsynced write torn",
	[FAULT_DISK_ERROR] = "write or sync of the log failed",
	[FAULT_BACKGROUND_ERROR] = "write, sync or read of a checkpoint failed",
	[FAULT_NO_SPACE] = "no space on the disk",
	[FAULT_ROT_LOG] = "bit rot in a log",
	[FAULT_ROT_CHECKPOINT] = "bit rot in a checkpoint",
	[FAULT_ROT_SECTOR] = "sector of a log or checkpoint lost",
	[FAULT_DISK_SLOW] = "disk slow for a while",
	[FAULT_READ_SLOW] = "read of a log or checkpoint took seconds",
	[FAULT_PAUSE] = "process paused",
	[FAULT_PARTITION] = "partition in halves",
	[FAULT_ISOLATE] = "member isolated",
	[FAULT_ONE_WAY] = "link cut in one direction",
	[FAULT_BRIDGE] = "partition with a bridge",
	[FAULT_FLAPPING] = "partition flapping",
	[FAULT_STRAND] = "new leader cut off or crashed",
	[FAULT_CRASH_AFTER_VOTE] = "crash just after a vote, given or asked for",
	[FAULT_RESET] = "connection reset",
	[FAULT_NET_SLOW] = "network slow for a while",
	[FAULT_DROP] = "message dropped",
	[FAULT_DUPLICATE] = "message doubled",
	[FAULT_REORDER] = "message delayed past others",
	[FAULT_CUT_MESSAGE] = "message cut in the middle",
	[FAULT_CLOCK_JUMP] = "wall clock jumped",
	[FAULT_CLOCK_DRIFT] = "wall clock drifts",
	[FAULT_CLIENT_LEFT] = "client left its request",
	[FAULT_MEMBER_ADDED] = "member added",
	[FAULT_MEMBER_REMOVED] = "member removed",
	[FAULT_MEMBER_REPLACED] = "member replaced",
	[FAULT_MEMBER_PROMOTED] = "member given a vote",
	[FAULT_HAND_OVER] = "leadership handed over",
	[FAULT_CLEAN_STOP] = "process told to end, leadership given away before",
	[FAULT_DISK_HANG] = "log's disk hung for longer than elections",
	[FAULT_LINE_LOST] = "connection lost with what was on its way",
	[FAULT_NO_LINE] = "message without a connection dropped",
	[FAULT_QUEUE_FULL] = "message dropped at a full queue",
	[FAULT_LINE_SILENT] = "connection given up for silence",
	[FAULT_URL_UPDATED] = "member moved to another URL",
	[FAULT_STRANGER] = "connection of an unknown member taken",
	[FAULT_NONSENSE] = "entry of another version forwarded",
	[FAULT_DISK_FULL] = "small disk full",
};

/* Those that happen at a time, chosen by weight; the others by chance at what they befall. */
static const bool scheduled[FAULT_MAX] = {
	[FAULT_KILL] = true,
	[FAULT_POWER] = true,
	[FAULT_POWER_ALL] = true,
	[FAULT_LONG_DOWN] = true,
	[FAULT_NO_SPACE] = true,
	[FAULT_ROT_LOG] = true,
	[FAULT_ROT_CHECKPOINT] = true,
	[FAULT_ROT_SECTOR] = true,
	[FAULT_DISK_SLOW] = true,
	[FAULT_PAUSE] = true,
	[FAULT_PARTITION] = true,
	[FAULT_ISOLATE] = true,
	[FAULT_ONE_WAY] = true,
	[FAULT_BRIDGE] = true,
	[FAULT_FLAPPING] = true,
	[FAULT_RESET] = true,
	[FAULT_NET_SLOW] = true,
	[FAULT_CLOCK_JUMP] = true,
	[FAULT_CLOCK_DRIFT] = true,
	[FAULT_MEMBER_ADDED] = true,
	[FAULT_MEMBER_REMOVED] = true,
	[FAULT_MEMBER_REPLACED] = true,
	[FAULT_HAND_OVER] = true,
	[FAULT_CLEAN_STOP] = true,
	[FAULT_DISK_HANG] = true,
	[FAULT_URL_UPDATED] = true,
};

enum { STATE_ENTRIES = 1500, STATE_ENTRY_BYTES = 100 }; /* of the history, which is most of it */
#define TRANSFER_NS (8 * NS_PER_S)

static uint32_t chance(struct rng *rng, uint32_t most)
{
	return rng_below(rng, 2) ? (uint32_t)rng_below(rng, most + 1) : 0;
}

static int64_t below(struct rng *rng, int64_t limit)
{
	return (int64_t)rng_below(rng, (uint64_t)limit);
}

static void draw_sizes(struct profile *profile, struct rng *rng)
{
	static const unsigned sizes[] = {1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7};

	profile->members = sizes[rng_below(rng, ARRAY_LEN(sizes))];
	profile->clients = 2 + (unsigned)rng_below(rng, CLIENTS_MAX - 1);
	profile->keys = 1 + (unsigned)rng_below(rng, KEYS_MAX);
	profile->chains = (unsigned)rng_below(rng, CHAINS_MAX + 1);
	profile->run_ns = 3 * NS_PER_S + below(rng, 12 * NS_PER_S);
	profile->think_ns = 1 + below(rng, (rng_below(rng, 3) ? 100 : 10) * NS_PER_MS);
	profile->net_delay_ns = 50000 + below(rng, (rng_below(rng, 4) ? 2 : 50) * NS_PER_MS);
	profile->calm_delay_ns = profile->net_delay_ns;
	profile->restart_ns = (rng_below(rng, 3) ? 3000 : 200) * NS_PER_MS;
	profile->sync_ns = 100000 + below(rng, (rng_below(rng, 4) ? 2 : 20) * NS_PER_MS);
	profile->segment_bytes = WAL_SEGMENT_MIN_BYTES << rng_below(rng, 5);
	/* Most seeds write a checkpoint every few dozen entries, in small slices, and send it in small
	 * pieces. */
	profile->checkpoint_log_bytes =
		rng_below(rng, 8)
			? UINT64_C(500) << (rng_below(rng, 4) ? rng_below(rng, 4) : rng_below(rng, 8))
			: 0;
	profile->checkpoint_step_bytes = (size_t)64 << rng_below(rng, 10);
	profile->checkpoint_piece_bytes = 64 + (size_t)rng_below(rng, UINT64_C(200) << rng_below(rng, 10));
	/* In small messages a follower can have a part of what the leader has. */
	profile->append_bytes = rng_below(rng, 2) ? (size_t)1 << rng_below(rng, 12) : 0;
	/* Elections need timeouts well above what a round of messages and writes takes (thesis 3.9). */
	profile->heartbeat_ms = 20 + (uint32_t)rng_below(rng, 81) +
				(uint32_t)(3 * (profile->net_delay_ns + profile->sync_ns) / 2 / NS_PER_MS);
	profile->election_ms = profile->heartbeat_ms * (5 + (uint32_t)rng_below(rng, 6));
	/* Most seeds keep next to nothing of the log in memory. */
	profile->log_cache_bytes = rng_below(rng, 4) ? UINT64_C(1) << rng_below(rng, 13) : 0;
	profile->value_bytes = (size_t)1 << (2 + rng_below(rng, 10));
	profile->expiry = rng_below(rng, 2);
	/* The largest state must be with a follower well before the end, or a sound run has made no progress.
	 */
	profile->checkpoint_piece_bytes = MAX(profile->checkpoint_piece_bytes,
		(size_t)((int64_t)(STATE_ENTRIES * (profile->value_bytes + STATE_ENTRY_BYTES)) *
			 (2 * profile->net_delay_ns + 2 * profile->sync_ns) / TRANSFER_NS));
}

static void draw_faults(struct profile *profile, struct rng *rng)
{
	profile->drop = chance(rng, 200000);
	profile->duplicate = chance(rng, 200000);
	profile->reorder = chance(rng, 300000);
	profile->cut_message = chance(rng, 10000);
	profile->crash_at_step = chance(rng, 3000);
	profile->crash_in_switch = chance(rng, 50000);
	profile->crash_in_transfer = chance(rng, 50000);
	profile->disk_error = chance(rng, 1000);
	profile->background_error = chance(rng, 10000);
	profile->strand = chance(rng, 600000);
	profile->crash_after_vote = chance(rng, 200000);
	profile->read_slow = chance(rng, 500000);
	profile->fault_every_ns = 50 * NS_PER_MS + below(rng, 3 * NS_PER_S);
	for (unsigned i = 0; i < FAULTS_FIRST; i++)
		profile->fault_weight[i] = chance(rng, 10);
	profile->changes = rng_below(rng, 3) == 0;
	if (profile->changes) {
		profile->fault_weight[FAULT_MEMBER_ADDED] = 10;
		profile->fault_weight[FAULT_MEMBER_REPLACED] = 5 + (uint32_t)rng_below(rng, 20);
		profile->fault_weight[FAULT_MEMBER_REMOVED] = 5 + (uint32_t)rng_below(rng, 30);
	} else {
		profile->fault_weight[FAULT_MEMBER_ADDED] = profile->fault_weight[FAULT_MEMBER_REMOVED] = 0;
		profile->fault_weight[FAULT_MEMBER_REPLACED] = 0;
	}
}

/* One leader after the other is lost as soon as it is elected, with little else: what figure 8 of the thesis
 * is about. */
static void lose_leaders(struct profile *profile)
{
	profile->strand = 800000;
	profile->fault_every_ns = 5 * NS_PER_S;
	profile->append_bytes = 1;
	profile->drop = profile->crash_at_step = profile->disk_error = profile->background_error = 0;
	profile->crash_in_switch = profile->crash_in_transfer = 0;
}

/* Elections in which messages take nearly as long as the candidates wait, and voters that crash in between.
 */
static void make_elections_hard(struct profile *profile, struct rng *rng)
{
	lose_leaders(profile);
	profile->members = MAX(profile->members, 3u);
	profile->net_delay_ns =
		profile->election_ms * NS_PER_MS / 10 + below(rng, profile->election_ms * NS_PER_MS);
	profile->restart_ns = 10 * NS_PER_MS + below(rng, 200 * NS_PER_MS);
	profile->crash_after_vote = 100000 + (uint32_t)rng_below(rng, 500000);
	profile->strand = 300000;
}

/* Entries of up to a MiB, few of them: windows, queues and limits are met, and what is sent twice shows. */
static void make_large(struct profile *profile, struct rng *rng)
{
	profile->large = true;
	profile->members = MIN(profile->members, 3u);
	profile->value_bytes = (size_t)64 << (10 + rng_below(rng, 5));
	profile->clients = CLIENTS_MAX;
	profile->run_ns = 12 * NS_PER_S;
	profile->think_ns = 1 + below(rng, (int64_t)profile->value_bytes * 3000);
	profile->segment_bytes = rng_below(rng, 2) ? UINT64_C(1) << (20 + rng_below(rng, 5)) : 0;
	profile->checkpoint_log_bytes = rng_below(rng, 2) ? UINT64_C(4) << (20 + rng_below(rng, 5)) : 0;
	profile->checkpoint_step_bytes = 0;
	/* Tens of MiB in small pieces, each at the pace of a slow disk, would outlast the calm. */
	profile->checkpoint_piece_bytes = rng_below(rng, 2) ? (size_t)256 << 10 << rng_below(rng, 4) : 0;
	profile->append_bytes = rng_below(rng, 4) ? 0 : (size_t)1 << (10 + rng_below(rng, 12));
	profile->log_cache_bytes = rng_below(rng, 4) ? 0 : UINT64_C(1) << (16 + rng_below(rng, 8));
	profile->bytes_per_s = (INT64_C(2) << (20 + rng_below(rng, 7)));
	profile->net_delay_ns = MIN(profile->net_delay_ns, 20 * NS_PER_MS);
	if (rng_below(rng, 2)) { /* next to nothing goes wrong */
		profile->crash_at_step = profile->crash_in_switch = profile->crash_in_transfer = 0;
		profile->disk_error = profile->background_error = profile->strand = 0;
		profile->crash_after_vote = profile->line_lost = profile->read_slow = profile->nonsense = 0;
		memset(profile->fault_weight, 0, sizeof(profile->fault_weight));
		profile->fault_weight[FAULT_LONG_DOWN] = profile->fault_weight[FAULT_DISK_HANG] = 1;
		profile->fault_weight[FAULT_NET_SLOW] = profile->fault_weight[FAULT_ISOLATE] = 1;
		profile->fault_every_ns = 3 * NS_PER_S;
	}
}

/* What came later has a generator of its own: seeds without it stay what they were. */
static void draw_wire(struct profile *profile, struct rng *rng)
{
	static const enum fault faults[] = {FAULT_CLEAN_STOP, FAULT_DISK_HANG, FAULT_URL_UPDATED};

	bool large = rng_below(rng, 50) == 0;

	if (!large && rng_below(rng, 3) == 0)
		return;
	profile->wire = true;
	profile->drop = profile->duplicate = profile->reorder = profile->cut_message = 0;
	profile->line_lost = chance(rng, 5000);
	profile->bytes_per_s = INT64_C(1) << (rng_below(rng, 3) ? 30 : 17 + rng_below(rng, 12));
	profile->socket_bytes = (size_t)1 << (16 + rng_below(rng, 7));
	for (unsigned i = 0; i < ARRAY_LEN(faults); i++)
		profile->fault_weight[faults[i]] = chance(rng, 10);
	if (rng_below(rng, 2))
		profile->export_every_ns = 200 * NS_PER_MS + below(rng, 3 * NS_PER_S);
	if (large)
		make_large(profile, rng);
	profile->nonsense = rng_below(rng, 4) ? 0 : (uint32_t)rng_below(rng, 100000);
	profile->calm_bytes_per_s = MAX(profile->bytes_per_s, INT64_C(25) << 20);
}

/* Disks of about the size of the state, so that some are too small for it. */
static void draw_disks(struct profile *profile, struct rng *rng)
{
	if (rng_below(rng, 5) || profile->large)
		return;
	profile->disk_bytes = 4 * profile->segment_bytes + (UINT64_C(1) << (12 + rng_below(rng, 9)));
}

/* No fault but one, and all kinds of work of the disk in little time. */
static void one_fault(struct profile *profile)
{
	profile->members = MIN(profile->members, 3u);
	profile->run_ns = 1500 * NS_PER_MS;
	profile->think_ns = 30 * NS_PER_MS;
	profile->segment_bytes = WAL_SEGMENT_MIN_BYTES;
	profile->checkpoint_log_bytes = 4000;
	profile->checkpoint_step_bytes = 2000;
	profile->value_bytes = 256;
	profile->drop = profile->duplicate = profile->reorder = profile->cut_message = 0;
	profile->crash_at_step = profile->crash_in_switch = profile->crash_in_transfer = 0;
	profile->disk_error = profile->background_error = profile->strand = 0;
	profile->crash_after_vote = profile->read_slow = 0;
	memset(profile->fault_weight, 0, sizeof(profile->fault_weight));
}

/* A false member that is started anew is right again: leave it alone, and let the log grow. A checkpoint,
 * made also when the log cannot be read back, would hand its state on as a true one. */
static void contradict(struct profile *profile)
{
	profile->checkpoint_log_bytes = 0;
	profile->background_error = 0;
	profile->members = MAX(profile->members, 3u);
	profile->think_ns = 10 * NS_PER_MS;
	profile->run_ns = 15 * NS_PER_S;
	profile->net_delay_ns = MIN(profile->net_delay_ns, NS_PER_MS);
	profile->sync_ns = MIN(profile->sync_ns, NS_PER_MS);
	profile->crash_at_step = profile->disk_error = profile->strand = profile->crash_after_vote = 0;
	profile->crash_in_switch = profile->crash_in_transfer = 0;
	profile->fault_weight[FAULT_KILL] = profile->fault_weight[FAULT_POWER] = 0;
	profile->fault_weight[FAULT_POWER_ALL] = profile->fault_weight[FAULT_PAUSE] = 0;
	profile->fault_weight[FAULT_LONG_DOWN] = profile->fault_weight[FAULT_NO_SPACE] = 0;
	profile->fault_weight[FAULT_ROT_LOG] = profile->fault_weight[FAULT_ROT_CHECKPOINT] = 0;
	profile->fault_weight[FAULT_ROT_SECTOR] = 0;
	profile->fault_weight[FAULT_MEMBER_ADDED] = profile->fault_weight[FAULT_MEMBER_REMOVED] = 0;
	profile->fault_weight[FAULT_MEMBER_REPLACED] = 0;
	profile->fault_every_ns = 5 * NS_PER_S;
	profile->clients = CLIENTS_MAX;
	profile->chains = 0;
}

void fault_profile(struct world *world)
{
	struct profile *profile = &world->profile;
	struct rng rng; /* its own, so that what a run draws does not move what the next profile is */

	rng_seed(&rng, ~world->seed);
	draw_sizes(profile, &rng);
	draw_faults(profile, &rng);
	switch (rng_below(&rng, 10)) {
	case 0:
		lose_leaders(profile);
		break;
	case 1:
		make_elections_hard(profile, &rng);
		break;
	default:
		break;
	}
	rng_seed(&rng, hash_u64(world->seed));
	if (!world->options->crash_step && !world->options->contradict) {
		draw_wire(profile, &rng);
		draw_disks(profile, &rng);
	}
	if (world->options->crash_step)
		one_fault(profile);
	if (world->options->contradict)
		contradict(profile);
}

static struct member *anyone(struct world *world)
{
	return &world->members[rng_below(&world->rng, world->member_count)];
}

static void cut(struct world *world, unsigned from, unsigned to, bool both)
{
	world->cut[from][to] = true;
	if (both)
		world->cut[to][from] = true;
}

static unsigned any_sides(struct world *world)
{
	return (unsigned)rng_below(&world->rng, 1u << world->member_count);
}

/* The member `bridge` (or none) keeps its links to both sides. */
static void split(struct world *world, unsigned sides, unsigned bridge)
{
	for (unsigned a = 0; a < world->member_count; a++)
		for (unsigned b = 0; b < a; b++)
			if ((sides >> a & 1) != (sides >> b & 1) && a != bridge && b != bridge)
				cut(world, a, b, true);
}

static void isolate(struct world *world, unsigned one)
{
	for (unsigned i = 0; i < world->member_count; i++)
		if (i != one)
			cut(world, one, i, true);
}

static void cut_network(struct world *world, enum fault fault)
{
	unsigned one = anyone(world)->number;

	if (fault == FAULT_PARTITION) {
		split(world, any_sides(world), MEMBERS_MAX);
	} else if (fault == FAULT_BRIDGE) {
		split(world, any_sides(world), one);
	} else if (fault == FAULT_ISOLATE) {
		isolate(world, one);
	} else {
		for (unsigned i = 0; i < world->member_count; i++)
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
	if (world->profile.wire) {
		wire_reset(world, a->number, b->number);
		return;
	}
	member_notice(a, b->number, false);
	member_notice(b, a->number, false);
}

static void jump_clock(struct world *world)
{
	static const int64_t sizes[] = {
		NS_PER_MS, NS_PER_S, 60 * NS_PER_S, 3600 * NS_PER_S, INT64_C(86400000) * NS_PER_S};
	int64_t size = sizes[rng_below(&world->rng, ARRAY_LEN(sizes))];

	anyone(world)->wall_offset_ns += world_rand(world, 2 * size) - size;
}

/* From now on; the clock does not jump. */
static void drift_clock(struct world *world)
{
	struct member *member = anyone(world);
	int64_t wall_ns = member_wall_ns(member);

	member->wall_drift_since_ns = world->now_ns;
	member->wall_offset_ns = wall_ns - world->now_ns;
	member->wall_drift_ppm = world_rand(world, 100001) - 50000;
}

static void long_down(struct world *world, struct member *member)
{
	int64_t left_ns = world->profile.run_ns - world->now_ns;

	member->down_until_ns = world->now_ns + left_ns / 2 + world_rand(world, left_ns / 2);
	member_crash(member, rng_below(&world->rng, 2));
	world_at(world, member->down_until_ns, EVENT_START, member->number, 0);
}

void fault_flap(struct world *world, unsigned left)
{
	if (world->calm)
		return;
	if (left % 2)
		split(world, world->flap_sides, MEMBERS_MAX);
	else
		fault_heal_network(world);
	if (left)
		world_at(world, world->now_ns + 5 * NS_PER_MS + world_rand(world, 400 * NS_PER_MS),
			EVENT_FLAP, 0, left - 1);
}

void fault_new_leader(struct member *member)
{
	struct world *world = member->world;
	const struct profile *profile = &world->profile;
	struct event *event;
	/* Before its first entry is everywhere, or when it has committed a few. */
	int64_t within_ns = rng_below(&world->rng, 2) ? 8 * profile->net_delay_ns + 4 * profile->sync_ns
						      : 500 * NS_PER_MS;

	if (world->calm || !rng_chance(&world->rng, profile->strand))
		return;
	event = world_at(world, world->now_ns + 1 + world_rand(world, within_ns), EVENT_STRAND,
		member->number, (unsigned)rng_below(&world->rng, 2));
	event->life = member->life;
}

void fault_vote_given(struct member *member)
{
	struct world *world = member->world;
	struct event *event;
	/* Before it could be on the disk, or before it could arrive. */
	int64_t within_ns =
		rng_below(&world->rng, 2) ? world->profile.sync_ns / 4 : world->profile.net_delay_ns;

	if (world->calm || !rng_chance(&world->rng, world->profile.crash_after_vote))
		return;
	world->summary->faults[FAULT_CRASH_AFTER_VOTE]++;
	event = world_at(world, world->now_ns + 1 + world_rand(world, within_ns), EVENT_CRASH, member->number,
		rng_below(&world->rng, 4) != 0);
	event->life = member->life;
}

void fault_strand(struct member *member, bool dies)
{
	struct world *world = member->world;

	if (world->calm || !member->led)
		return;
	world->summary->faults[FAULT_STRAND]++;
	world_log(world, "fault: %s: member %u", fault_names[FAULT_STRAND], member->number);
	fault_heal_network(world); /* those before it come back */
	if (dies) {
		member_crash(member, rng_below(&world->rng, 2));
		return;
	}
	isolate(world, member->number);
	world_at(world, world->now_ns + world_rand(world, 4 * NS_PER_S), EVENT_HEAL, 0, 0);
}

/* Longer than it takes to elect another leader. */
static int64_t hang_ns(struct world *world)
{
	int64_t election_ns = world->profile.election_ms * NS_PER_MS;

	return MIN(election_ns + world_rand(world, 4 * election_ns), 8 * NS_PER_S);
}

/* False: it could not happen now. */
static bool carry_out(struct world *world, enum fault fault)
{
	struct member *member = anyone(world);

	switch (fault) {
	case FAULT_KILL:
	case FAULT_POWER:
		member_crash(member, fault == FAULT_POWER);
		break;
	case FAULT_POWER_ALL:
		for (unsigned i = 0; i < world->member_count; i++)
			member_crash(&world->members[i], true);
		break;
	case FAULT_LONG_DOWN:
		long_down(world, member);
		break;
	case FAULT_NO_SPACE:
		member->no_space_until_ns = world->now_ns + world_rand(world, 2 * NS_PER_S);
		break;
	case FAULT_MEMBER_ADDED:
	case FAULT_MEMBER_REMOVED:
	case FAULT_MEMBER_REPLACED:
		return operator_change(world, fault);
	case FAULT_HAND_OVER:
		return operator_hand_over(world);
	case FAULT_CLEAN_STOP:
		return operator_clean_stop(world);
	case FAULT_URL_UPDATED:
		return operator_change(world, fault);
	case FAULT_DISK_HANG:
		member->disk_hangs_until_ns = world->now_ns + hang_ns(world);
		break;
	case FAULT_ROT_LOG:
		return rot_log(world);
	case FAULT_ROT_CHECKPOINT:
		return rot_checkpoint(world);
	case FAULT_ROT_SECTOR:
		return rot_sector(world);
	case FAULT_DISK_SLOW:
		member->disk_slow_until_ns = world->now_ns + world_rand(world, 2 * NS_PER_S);
		break;
	case FAULT_PAUSE:
		member->paused_until_ns = world->now_ns + 1 + world_rand(world, 3 * NS_PER_S);
		break;
	case FAULT_FLAPPING:
		world->flap_sides = any_sides(world);
		fault_flap(world, 1 + 2 * (unsigned)rng_below(&world->rng, 8));
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
	case FAULT_CLOCK_DRIFT:
		drift_clock(world);
		break;
	default:
		cut_network(world, fault);
	}
	return true;
}

void fault_inject(struct world *world)
{
	uint32_t total = 0, dice;

	if (world->calm)
		return;
	world_at(world, world->now_ns + 1 + world_rand(world, 2 * world->profile.fault_every_ns), EVENT_FAULT,
		0, 0);
	for (unsigned i = 0; i < FAULT_MAX; i++)
		total += scheduled[i] ? world->profile.fault_weight[i] : 0;
	if (world->profile.wire && rng_below(&world->later, 3) == 0)
		operator_settle(world);
	if (!total)
		return;
	dice = (uint32_t)rng_below(&world->rng, total);
	for (unsigned i = 0; i < FAULT_MAX; i++) {
		uint32_t weight = scheduled[i] ? world->profile.fault_weight[i] : 0;

		if (dice < weight) {
			world_log(world, "fault: %s", fault_names[i]);
			world_trace(world, 500, i);
			/* Lack of space is counted when it is met. */
			if (carry_out(world, i) && i != FAULT_NO_SPACE)
				world->summary->faults[i]++;
			return;
		}
		dice -= weight;
	}
}

void fault_heal_network(struct world *world)
{
	memset(world->cut, 0, sizeof(world->cut));
	for (unsigned i = 0; i < world->member_count && !world->profile.wire; i++)
		for (unsigned peer = 0; peer < world->member_count; peer++)
			member_notice(&world->members[i], peer, true);
}

void fault_calm(struct world *world)
{
	world->calm = true;
	world->net_slow_until_ns = 0;
	fault_heal_network(world);
	for (unsigned i = 0; i < world->member_count; i++) {
		struct member *member = &world->members[i];

		member->disk_slow_until_ns = member->no_space_until_ns = 0;
		member->disk_hangs_until_ns = 0;
		member->paused_until_ns = MIN(member->paused_until_ns, world->now_ns);
		if (member->down_until_ns > world->now_ns) {
			member->down_until_ns = 0;
			world_at(world, world->now_ns, EVENT_START, i, 0);
		}
	}
	if (world->profile.wire)
		wire_calm(world);
}
