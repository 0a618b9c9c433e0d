/* A member's process and machine: the simulated env under the production node. */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"
#include "wal/format.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define IDLE_TURNS_MAX 500

static struct member *of(struct env *env)
{
	return (struct member *)env;
}

static int64_t env_mono(struct env *env)
{
	struct member *member = of(env);
	int64_t now_ns = member->world->now_ns;

	return now_ns + now_ns / 1000000 * member->mono_drift_ppm + member->mono_offset_ns;
}

int64_t member_wall_ns(const struct member *member)
{
	int64_t now_ns = member->world->now_ns;

	return now_ns + member->wall_offset_ns +
	       (now_ns - member->wall_drift_since_ns) / 1000000 * member->wall_drift_ppm;
}

static int64_t env_wall(struct env *env)
{
	return member_wall_ns(of(env));
}

static void env_random(struct env *env, void *ret_bytes, size_t len)
{
	unsigned char *at = ret_bytes;

	for (size_t i = 0; i < len; i++)
		at[i] = (unsigned char)rng_next(&of(env)->world->rng);
}

/* Bytes that the member's disk has room for; 0: it is endless. */
static uint64_t disk_bytes_max(const struct member *member)
{
	const struct world *world = member->world;

	if (world->calm || member->number % 2)
		return 0;
	return world->profile.disk_bytes * (4 + member->number) / 4;
}

static uint64_t env_room(struct env *env)
{
	struct member *member = of(env);

	if (member->no_space_until_ns > member->world->now_ns)
		return 0;
	return disk_left(member->disk, disk_bytes_max(member));
}

static int env_list(struct env *env, void (*fn)(void *, const char *, uint64_t), void *arg)
{
	return disk_list(of(env)->disk, fn, arg);
}

static int env_read(struct env *env, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	return disk_read(of(env)->disk, name, max_bytes, ret_data, ret_len);
}

static int env_read_range(struct env *env, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	return disk_read_range(of(env)->disk, name, offset, len, out);
}

const char *const work_names[WORK_MAX] = {
	[WORK_LOG] = "log",
	[WORK_LOG_CUT] = "cut of the log",
	[WORK_LOG_READ] = "reading the log",
	[WORK_SPARE] = "segment made ahead",
	[WORK_CHECKPOINT] = "checkpoint's data",
	[WORK_CHECKPOINT_SWITCH] = "switch to a checkpoint",
	[WORK_CHECKPOINT_REMOVE] = "removal of an old checkpoint",
};

static bool of_checkpoint(const char *name)
{
	return strstr(name, "heckpoint") || strstr(name, "CHECKPOINT");
}

static enum work background_work(const struct wal_plan *plan)
{
	const struct wal_step *first = &plan->steps[0];
	bool checkpoint = false;

	for (size_t i = 0; i < plan->steps_len; i++) {
		if ((plan->steps[i].kind == WAL_STEP_RENAME || plan->steps[i].kind == WAL_STEP_WRITE) &&
			strstr(plan->steps[i].name, "CHECKPOINT"))
			return WORK_CHECKPOINT_SWITCH;
		checkpoint |= of_checkpoint(plan->steps[i].name);
	}
	/* What a start makes durable begins with the directory. */
	if (first->kind == WAL_STEP_SYNC_DIR || (checkpoint && first->kind == WAL_STEP_REMOVE))
		return WORK_CHECKPOINT_REMOVE;
	if (checkpoint)
		return WORK_CHECKPOINT;
	return first->kind == WAL_STEP_CREATE ? WORK_SPARE
	       : first->kind == WAL_STEP_READ ? WORK_LOG_READ
					      : WORK_LOG_CUT;
}

static enum work work_of(const struct wal_plan *plan)
{
	return plan->background ? background_work(plan) : WORK_LOG;
}

static int64_t step_ns(struct member *member, const struct wal_step *step)
{
	struct world *world = member->world;
	int64_t ns = 10000 + world_rand(world, 20000);

	if (step->kind == WAL_STEP_SYNC || step->kind == WAL_STEP_SYNC_DIR)
		ns = world->profile.sync_ns / 2 + world_rand(world, world->profile.sync_ns);
	else if (step->kind == WAL_STEP_CREATE)
		ns = 3 * world->profile.sync_ns + world_rand(world, 5 * world->profile.sync_ns);
	if (member->disk_slow_until_ns > world->now_ns)
		ns = ns * 20 + world_rand(world, 300 * NS_PER_MS);
	if (step->kind == WAL_STEP_READ && !world->calm &&
		rng_chance(&world->rng, world->profile.read_slow)) {
		world->summary->faults[FAULT_READ_SLOW]++;
		ns += world_rand(world, 4 * NS_PER_S);
	}
	return ns;
}

static void schedule_step(struct member *member, unsigned which)
{
	struct plan_run *run = &member->runs[which];
	int64_t ns = run->step < run->plan->steps_len ? step_ns(member, &run->plan->steps[run->step]) : 0;

	if (!which) /* the log's */
		ns += MAX(member->disk_hangs_until_ns - member->world->now_ns, (int64_t)0);
	world_at(member->world, member->world->now_ns + ns, EVENT_DISK, member->number, which)->life =
		member->life;
}

static void env_submit(struct env *env, const struct wal_plan *plan)
{
	struct member *member = of(env);
	struct plan_run *run = &member->runs[plan->background];

	if (run->plan) {
		world_finding(member->world, "member %u submitted a plan while another was under way",
			member->number);
		return;
	}
	*run = (struct plan_run){.plan = plan};
	schedule_step(member, plan->background);
}

static int64_t message_ns(struct world *world)
{
	int64_t delay_ns = world->calm ? world->profile.calm_delay_ns : world->profile.net_delay_ns;
	int64_t ns = delay_ns / 2 + world_rand(world, delay_ns);

	if (world->net_slow_until_ns > world->now_ns)
		ns += world_rand(world, 600 * NS_PER_MS);
	if (!world->calm && rng_chance(&world->rng, world->profile.reorder)) {
		ns += world_rand(world, 50 * world->profile.net_delay_ns);
		world->summary->faults[FAULT_REORDER]++;
	}
	return ns;
}

static void env_send(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	struct member *member = of(env);
	struct world *world = member->world;
	unsigned copies = 1, target = 0;

	while (target < world->member_count && world->members[target].id != to)
		target++;
	if (target == world->member_count || message.len > NODE_MESSAGE_MAX) {
		world_finding(world, "member %u sent %zu bytes to %" PRIx64, member->number, message.len, to);
		return;
	}
	world->summary->messages++;
	if (promise_sent(member, message))
		fault_vote_given(member);
	world_trace(world, to, hash_bytes(message.data, message.len, 1));
	if (world->profile.wire) {
		_cleanup_buf_ struct buf other = BUF_INIT(0);

		if (nonsense_sent(world, message, &other))
			message = buf_slice(&other);
		wire_send(member, target, message, bulk);
		return;
	}
	if (!world->calm && rng_chance(&world->rng, world->profile.drop)) {
		world->summary->faults[FAULT_DROP]++;
		return;
	}
	if (!world->calm && rng_chance(&world->rng, world->profile.duplicate)) {
		world->summary->faults[FAULT_DUPLICATE]++;
		copies = 2;
	}
	while (copies--) {
		struct event *event = world_at(
			world, world->now_ns + message_ns(world), EVENT_MESSAGE, target, member->number);

		event->bytes = mem_dup(message.data, message.len);
		event->len = message.len;
		if (!world->calm && rng_chance(&world->rng, world->profile.cut_message)) {
			event->len = (size_t)world_rand(world, (int64_t)message.len);
			event->cut = true;
		}
	}
}

static void env_reply(struct env *env, void *request, const struct node_reply *reply)
{
	client_reply(of(env), request, reply);
}

static void env_members_changed(struct env *env)
{
	struct member *member = of(env);

	if (!member->node)
		return; /* it looks when it runs */
	operator_members_changed(member);
	if (member->world->profile.wire)
		wire_members_changed(member);
}

/* It watches the new one after the turn. */
static void env_store_leaving(struct env *env, struct store *store)
{
	struct member *member = of(env);

	member->replaced_at_ns = member->world->now_ns;
	watcher_stop(member, store);
}

static void env_note(struct env *env, int level, const char *text)
{
	world_log(of(env)->world, "member %u <%d>: %s", of(env)->number, level, text);
}

static const struct env_ops ops = {
	.mono_ns = env_mono,
	.wall_ns = env_wall,
	.random = env_random,
	.disk_list = env_list,
	.disk_read = env_read,
	.disk_read_range = env_read_range,
	.disk_room = env_room,
	.disk_submit = env_submit,
	.send = env_send,
	.reply = env_reply,
	.members_changed = env_members_changed,
	.store_leaving = env_store_leaving,
	.note = env_note,
};

void member_init(struct world *world, unsigned number)
{
	struct member *member = &world->members[number];

	member->env.ops = &ops;
	member->world = world;
	member->number = number;
	member->id = hash_u64(world->seed * 16 + number + 1) | 1;
	member->disk = disk_new(&world->rng);
	member->turn_at_ns = INT64_MAX;
	member->mono_offset_ns = world_rand(world, INT64_C(1000000) * NS_PER_S);
	member->mono_drift_ppm = world_rand(world, 2000) - 1000;
	member->wall_offset_ns = INT64_C(1700000000) * NS_PER_S + world_rand(world, 4 * NS_PER_S);
}

void member_schedule(struct member *member, int64_t at_ns)
{
	struct event *event;

	at_ns = MAX(at_ns, member->world->now_ns + 1000);
	if (at_ns >= member->turn_at_ns)
		return;
	event = world_at(member->world, at_ns, EVENT_TURN, member->number, 0);
	event->life = member->life;
	member->turn_at_ns = at_ns;
	member->turn_number = event->number;
}

/* Rotten bits were found: that is what they are for, and the member is gone for good. */
static bool refuses_rot(struct member *member, int error, const char *why)
{
	struct world *world = member->world;

	if (!member->rotten || (error != -EBADMSG && error != -EPROTONOSUPPORT) || !why || !*why)
		return false;
	member->lost = true;
	world->summary->rot_refused++;
	world_log(world, "member %u is lost: %s", member->number, why);
	return true;
}

void member_start(struct member *member)
{
	struct world *world = member->world;
	static const char *const client_urls[] = {"http://127.0.0.1:2379", NULL};
	struct node_config config = {
		.cluster_id = 0xc1,
		.member_id = member->id,
		.name = "member",
		.client_urls = client_urls,
		.members = world->initial,
		.members_len = member->joins ? 0 : world->profile.members,
		.has_log = member->has_log,
		.joins = member->joins,
		.server_version = "2.3.0",
		.heartbeat_ms = world->profile.heartbeat_ms,
		.election_ms = world->profile.election_ms,
		.segment_bytes = world->profile.segment_bytes,
		.checkpoint_log_bytes = world->profile.checkpoint_log_bytes,
		.checkpoint_step_bytes = world->profile.checkpoint_step_bytes,
		.log_cache_bytes = world->profile.log_cache_bytes,
		.checkpoint_piece_bytes = world->profile.checkpoint_piece_bytes,
		.append_bytes = world->profile.append_bytes,
	};
	_cleanup_free_ char *error = NULL;
	int r;

	assert(!member->node && !member->lost);
	member->expects_failure = false;
	r = node_open(&config, &member->env, &member->node, &error);
	world_log(world, "member %u starts: %d", member->number, r);
	world_trace(world, member->number, (uint64_t)(int64_t)r);
	if (r < 0) {
		if (!refuses_rot(member, r, error))
			world_finding(world, "member %u does not start: %s", member->number,
				error ? error : "no message");
		return;
	}
	world->summary->restarts++;
	member->led = false;
	watcher_start(member);
	member->idle_turns = 0;
	member_schedule(member, world->now_ns);
	if (world->profile.wire)
		wire_start(member);
	for (unsigned i = 0; i < world->member_count && !world->profile.wire; i++)
		if (!world->cut[i][member->number] && !world->cut[member->number][i])
			member_notice(&world->members[i], member->number, true);
}

void member_count(struct member *member)
{
	struct summary *summary = member->world->summary;
	struct node_status status;

	if (!member->node)
		return;
	node_get_status(member->node, &status);
	summary->checkpoints_written += status.checkpoints_written;
	summary->checkpoints_received += status.checkpoints_received;
	summary->checkpoints_sent += status.checkpoints_sent;
	summary->log_reads += status.log_reads;
}

/* A step under way may have been done, in part or whole. */
static void interrupt_plans(struct member *member)
{
	for (unsigned i = 0; i < ARRAY_LEN(member->runs); i++) {
		struct plan_run *run = &member->runs[i];

		if (run->plan && run->step < run->plan->steps_len && rng_below(&member->world->rng, 2))
			disk_step_partly(member->disk, run->plan, &run->plan->steps[run->step]);
		run->plan = NULL;
	}
}

static void stop_process(struct member *member, bool power)
{
	struct world *world = member->world;

	interrupt_plans(member);
	if (world->profile.wire)
		wire_stop(member, power);
	export_stop(member);
	watcher_stop(member, node_store(member->node));
	member->node = node_free(member->node);
	member->life++;
	member->turn_at_ns = INT64_MAX;
	member->paused_until_ns = 0;
	client_lost_member(world, member);
	/* The kernel of a killed process closes its connections; a machine without power tells nobody. */
	for (unsigned i = 0; i < world->member_count && !power && !world->profile.wire; i++)
		member_notice(&world->members[i], member->number, false);
	world_at(world,
		MAX(member->down_until_ns, world->now_ns + world->profile.restart_ns / 50 +
						   world_rand(world, world->profile.restart_ns)),
		EVENT_START, member->number, 0);
}

void member_crash(struct member *member, bool power)
{
	struct world *world = member->world;
	struct disk_losses losses;

	member_count(member);
	if (member->node)
		stop_process(member, power);
	if (power) {
		losses = disk_power_off(member->disk);
		world->summary->faults[FAULT_LOST_WRITE] += losses.lost;
		world->summary->faults[FAULT_TORN_WRITE] += losses.torn;
	}
	world_trace(world, 77 + power, member->number);
	world_log(world, "member %u crashes%s", member->number, power ? " with its machine" : "");
}

void member_notice(struct member *observer, unsigned peer, bool connected)
{
	struct world *world = observer->world;
	int64_t after_ns = connected ? 20 * NS_PER_MS + world_rand(world, 280 * NS_PER_MS)
				     : world_rand(world, 20 * NS_PER_MS);
	struct event *event;

	if (!observer->node || observer->number == peer)
		return;
	event = world_at(world, world->now_ns + after_ns, EVENT_PEER, observer->number, peer);
	event->life = observer->life;
	event->len = connected;
}

void member_peer(struct member *member, const struct event *event)
{
	const struct world *world = member->world;
	bool reachable = world->members[event->other].node && !world->cut[member->number][event->other];

	if (!member->node || event->life != member->life || (event->len && !reachable))
		return;
	node_peer_state(member->node, world->members[event->other].id, event->len);
	member_schedule(member, world->now_ns);
	if (!event->len && reachable) /* it may have come late: a paused member learns all at once */
		member_notice(member, event->other, true);
}

/* A bit flips in a member's memory: a change behind the log's back. */
void member_falsify(struct member *member)
{
	struct store_command command = {.op = STORE_OP_SET, .path = slice_str(STORE_USER_PREFIX "/false")};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_result result;
	struct node_status status;

	if (!member->node) {
		world_at(member->world, member->world->now_ns + 100 * NS_PER_MS, EVENT_FALSIFY,
			member->number, 0);
		return;
	}
	store_command_encode(&command, &bytes);
	if (store_apply(node_store(member->node), buf_slice(&bytes), &result) < 0)
		world_finding(member->world, "cannot falsify");
	else
		store_result_done(&result);
	member->world->false_one = member;
	node_get_status(member->node, &status);
	member->world->false_at = status.applied;
	world_log(member->world, "member %u is false now", member->number);
}

/* Members that applied up to the same index must be in the same state. */
static void compare_state(struct member *member)
{
	struct world *world = member->world;
	struct node_status status;
	struct applied_hash *known;
	uint64_t hash = store_hash(node_store(member->node));

	node_get_status(member->node, &status);
	if (status.applied >= world->hashes_cap) {
		size_t cap = MAX((size_t)status.applied * 2, (size_t)1024);

		world->hashes = mem_reallocarray(world->hashes, cap, sizeof(*world->hashes));
		memset(world->hashes + world->hashes_cap, 0,
			(cap - world->hashes_cap) * sizeof(*world->hashes));
		world->hashes_cap = cap;
	}
	known = &world->hashes[status.applied];
	if (!known->index && world->false_one != member)
		*known = (struct applied_hash){status.applied, hash};
	else if (known->index && known->hash != hash && world->false_one != member)
		world_finding(world, "member %u differs from another one at log index %" PRIu64,
			member->number, status.applied);
	world_trace(world, status.applied, hash);
}

/* As the transport does (wire.c for those runs that have it): whoever was removed tries to connect again and
 * again, and is told so. */
static void tell_removed(const struct member *member)
{
	struct world *world = member->world;

	for (unsigned i = 0; i < world->member_count && !world->profile.wire; i++) {
		struct member *other = &world->members[i];
		struct node_status status;

		if (other == member || !other->node || !node_tells_removed(member->node, other->id) ||
			world->cut[member->number][i] || world->cut[i][member->number])
			continue;
		node_get_status(other->node, &status);
		if (status.may_end)
			continue;
		node_told_removed(other->node, member->id);
		member_schedule(other, world->now_ns + NS_PER_MS);
	}
}

static void look_at_role(struct member *member)
{
	struct node_status status;
	bool leads;

	node_get_status(member->node, &status);
	leads = status.role == NODE_LEADER;
	member->has_log |= *node_cluster_version(member->node) != '\0';
	tell_removed(member);
	if (status.may_end) {
		member->removed = true;
		world_log(member->world, "member %u was removed and ends", member->number);
		member_crash(member, false);
		return;
	}
	if (leads)
		promise_leads(member, status.term);
	if (leads && !member->led)
		fault_new_leader(member);
	member->led = leads;
}

/* A turn that is due in the past, again and again, while nothing happens, is a loop that never sleeps. */
static void count_idle_turns(struct member *member, bool due)
{
	member->idle_turns = due ? member->idle_turns + 1 : 0;
	if (member->idle_turns == IDLE_TURNS_MAX)
		world_finding(member->world, "member %u wants turns without end, and nothing happens",
			member->number);
}

void member_turn(struct member *member, const struct event *event)
{
	struct world *world = member->world;
	int64_t deadline_ns, mono_ns;

	if (!member->node || event->life != member->life || event->number != member->turn_number)
		return;
	member->turn_at_ns = INT64_MAX;
	node_turn(member->node);
	watcher_turn(member);
	if (world->stopped)
		return;
	if (node_failure(member->node)) {
		if (world->false_one == member &&
			strstr(node_failure(member->node), "differs from the majority")) {
			world->false_one = NULL;
			world->stopped_itself++;
		} else if (!member->expects_failure)
			world_finding(
				world, "member %u stopped: %s", member->number, node_failure(member->node));
		member_crash(member, rng_below(&world->rng, 2));
		return;
	}
	compare_state(member);
	look_at_role(member);
	if (!member->node)
		return;
	deadline_ns = node_deadline_ns(member->node);
	mono_ns = env_mono(&member->env);
	count_idle_turns(member, deadline_ns <= mono_ns);
	if (deadline_ns <= mono_ns)
		member_schedule(member, world->now_ns + 1000 + world_rand(world, 20000));
	else if (deadline_ns != INT64_MAX)
		member_schedule(
			member, world->now_ns + (deadline_ns - mono_ns) + (deadline_ns - mono_ns) / 500 + 1);
}

static bool crash_at(struct member *member, const struct plan_run *run, enum fault fault)
{
	struct world *world = member->world;
	const struct wal_step *step = &run->plan->steps[run->step];
	enum work work = work_of(run->plan);

	world->summary->faults[fault]++;
	world->summary->crashes[work][step->kind]++;
	world_log(world, "fault: %s: %s, step %zu, %s", fault_names[fault], work_names[work], run->step,
		step->name);
	disk_step_partly(member->disk, run->plan, step);
	member_crash(member, rng_below(&world->rng, 3) != 0);
	return true;
}

static bool step_crashes(struct member *member, const struct plan_run *run)
{
	struct world *world = member->world;
	const struct profile *profile = &world->profile;
	enum work work = work_of(run->plan);

	if (world->options->crash_step && !world->crashed_at_step &&
		world->options->crash_member == member->number &&
		member->steps_done == world->options->crash_step) {
		world->crashed_at_step = true;
		return crash_at(member, run, FAULT_CRASH_AT_STEP);
	}
	if (rng_chance(&world->rng, profile->crash_at_step))
		return crash_at(member, run, FAULT_CRASH_AT_STEP);
	if ((work == WORK_CHECKPOINT_SWITCH || work == WORK_LOG_CUT || work == WORK_CHECKPOINT_REMOVE) &&
		rng_chance(&world->rng, profile->crash_in_switch))
		return crash_at(member, run, FAULT_CRASH_IN_SWITCH);
	return false;
}

/* The answer to a step that fails. Space is found missing where it is taken, errors come anywhere. */
static int step_error(struct member *member, const struct wal_plan *plan, const struct wal_step *step)
{
	struct world *world = member->world;
	enum work work = work_of(plan);

	if (member->no_space_until_ns > world->now_ns && disk_grows(member->disk, step)) {
		world->summary->faults[FAULT_NO_SPACE]++;
		return -ENOSPC;
	}
	if (disk_lacks(member->disk, disk_bytes_max(member), step)) {
		world->summary->faults[FAULT_DISK_FULL]++;
		return -ENOSPC;
	}
	if (work == WORK_LOG || work == WORK_LOG_CUT || work == WORK_SPARE) {
		if (!rng_chance(&world->rng, world->profile.disk_error))
			return 0;
		world->summary->faults[FAULT_DISK_ERROR]++;
		return -EIO;
	}
	if (!rng_chance(&world->rng, world->profile.background_error))
		return 0;
	world->summary->faults[FAULT_BACKGROUND_ERROR]++;
	return rng_below(&world->rng, 2) ? -EIO : -ENOSPC;
}

/* Whether the member must survive the failure: space for a segment made ahead of time, or a checkpoint, but
 * not what a start makes durable. */
static bool survives(const struct wal_plan *plan, int error)
{
	enum work work = work_of(plan);

	if (work == WORK_SPARE || work == WORK_LOG_CUT)
		return work == WORK_SPARE && error == -ENOSPC;
	return plan->background && plan->steps[0].kind != WAL_STEP_SYNC_DIR;
}

static bool step_fault(struct member *member, const struct plan_run *run)
{
	struct world *world = member->world;
	const struct wal_plan *plan = run->plan;
	const struct wal_step *step = &plan->steps[run->step];
	int error;

	member->steps_done++;
	if (world->calm)
		return false;
	if (step_crashes(member, run))
		return true;
	error = step_error(member, plan, step);
	if (!error)
		return false;
	world_log(world, "member %u: step %zu of its plan fails: %s, %s, error %d", member->number, run->step,
		work_names[work_of(plan)], step->name, error);
	disk_step_fails(member->disk, plan, step);
	member->expects_failure |= !survives(plan, error);
	member->runs[plan->background].plan = NULL;
	node_disk_done(member->node, plan, error);
	member_schedule(member, world->now_ns);
	return true;
}

void member_disk(struct member *member, const struct event *event)
{
	struct world *world = member->world;
	struct plan_run *run = &member->runs[event->other];
	const struct wal_plan *plan = run->plan;
	int r;

	if (!member->node || event->life != member->life)
		return;
	member->idle_turns = 0;
	if (run->step < plan->steps_len) {
		if (step_fault(member, run))
			return;
		r = disk_step(member->disk, plan, &plan->steps[run->step]);
		if (r < 0) {
			world_finding(world, "member %u: step %d on %s makes no sense: %d", member->number,
				plan->steps[run->step].kind, plan->steps[run->step].name, r);
			return;
		}
		run->step++;
	}
	if (run->step < plan->steps_len) {
		schedule_step(member, event->other);
		return;
	}
	run->plan = NULL;
	node_disk_done(member->node, plan, 0);
	member_schedule(member, world->now_ns + world_rand(world, 20000));
}

/* What did not arrive whole must have no effect. */
static void message_cut(struct member *member, unsigned from, struct slice message)
{
	struct world *world = member->world;
	struct node_status before, after;

	world->summary->faults[FAULT_CUT_MESSAGE]++;
	node_get_status(member->node, &before);
	node_receive(member->node, world->members[from].id, message);
	node_get_status(member->node, &after);
	if (before.term != after.term || before.role != after.role || before.leader != after.leader ||
		before.last != after.last || before.commit != after.commit)
		world_finding(world, "member %u took a message that did not arrive whole", member->number);
	member_notice(member, from, false);
	member_notice(&world->members[from], member->number, false);
}

/* The transfer of a checkpoint is when many things can go wrong. */
static bool crashes_in_transfer(struct member *member, unsigned from, struct slice message)
{
	struct world *world = member->world;

	if (world->calm || !promise_of_transfer(message) ||
		!rng_chance(&world->rng, world->profile.crash_in_transfer))
		return false;
	world->summary->faults[FAULT_CRASH_IN_TRANSFER]++;
	member_crash(rng_below(&world->rng, 2) ? member : &world->members[from], rng_below(&world->rng, 2));
	return true;
}

bool member_receive(struct member *member, unsigned from, struct slice message)
{
	struct world *world = member->world;
	int r;

	if (crashes_in_transfer(member, from, message))
		return true;
	member->idle_turns = 0;
	r = node_receive(member->node, world->members[from].id, message);
	member_schedule(member, world->now_ns + world_rand(world, 50000));
	return r == 0;
}

void member_message(struct member *member, struct event *event)
{
	struct world *world = member->world;
	struct slice message = slice_make(event->bytes, event->len);

	if (world->cut[event->other][member->number] || !member->node ||
		crashes_in_transfer(member, event->other, message))
		return;
	member->idle_turns = 0;
	if (event->cut)
		message_cut(member, event->other, message);
	else
		node_receive(member->node, world->members[event->other].id, message);
	member_schedule(member, world->now_ns + world_rand(world, 50000));
}

/* It was told to end, and does so when another one leads, or nobody took over in time (etcd/main.c). */
void member_clean_stop(struct member *member, const struct event *event)
{
	struct world *world = member->world;
	struct node_status status;

	if (!member->node || event->life != member->life)
		return;
	node_get_status(member->node, &status);
	if (event->other == 0 || status.role != NODE_LEADER) {
		member_crash(member, false);
		return;
	}
	world_at(world, world->now_ns + 10 * NS_PER_MS, EVENT_CLEAN_STOP, member->number, event->other - 1)
		->life = member->life;
}
