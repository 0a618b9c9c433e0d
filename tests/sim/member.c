/* A member's process and machine: the simulated env under the production node. */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

bool member_up(const struct member *member)
{
	return member->node != NULL;
}

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

static int64_t env_wall(struct env *env)
{
	return of(env)->world->now_ns + of(env)->wall_offset_ns;
}

static void env_random(struct env *env, void *ret_bytes, size_t len)
{
	unsigned char *at = ret_bytes;

	for (size_t i = 0; i < len; i++)
		at[i] = (unsigned char)rng_next(&of(env)->world->rng);
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
	return ns;
}

static void schedule_step(struct member *member, unsigned which)
{
	struct plan_run *run = &member->runs[which];
	int64_t ns = run->step < run->plan->steps_len ? step_ns(member, &run->plan->steps[run->step]) : 0;

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
	int64_t ns = world->profile.net_delay_ns / 2 + world_rand(world, world->profile.net_delay_ns);

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

	(void)bulk;
	while (target < world->profile.members && world->members[target].id != to)
		target++;
	if (target == world->profile.members || message.len > NODE_MESSAGE_MAX) {
		world_finding(world, "member %u sent %zu bytes to %" PRIx64, member->number, message.len, to);
		return;
	}
	world->summary->messages++;
	world_trace(world, to, hash_bytes(message.data, message.len, 1));
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
	}
}

static void env_reply(struct env *env, void *request, const struct node_reply *reply)
{
	client_reply(of(env), request, reply);
}

static void env_members_changed(struct env *env)
{
	struct member *member = of(env);

	if (member->node && node_member_count(member->node) > member->world->profile.members)
		world_finding(member->world, "member %u knows of too many members", member->number);
}

/* It watches the new one after the turn. */
static void env_store_leaving(struct env *env, struct store *store)
{
	struct member *member = of(env);

	member->replaced_at_ns = member->world->now_ns;
	while (store_deliver(store, 100))
		;
	if (member->watching)
		store_watch_stop(store, &member->expiry_watch);
	member->watching = false;
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

/* The value that an event's JSON shows behind `field`; LIN_ABSENT when there is none. */
static uint32_t json_value(struct slice json, const char *field)
{
	const char *at = memmem(json.data, json.len, field, strlen(field));
	const char *value = at ? strstr(at, "\"value\":\"v") : NULL;

	return value ? (uint32_t)strtoul(value + 10, NULL, 10) : LIN_ABSENT;
}

static void on_expiry(struct store_watch *watch, struct store_event *event)
{
	struct member *member = container_of(watch, struct member, expiry_watch);
	struct world *world = member->world;
	const struct lifetime *lifetime;
	struct node_status status;
	uint32_t value;

	if (store_event_action(event) != STORE_ACTION_EXPIRE)
		return;
	world->summary->expired++;
	value = json_value(store_event_json(event), "\"prevNode\"");
	if (value == LIN_ABSENT || value >= world->next_value || !world->lifetimes[value].expires_ns) {
		world_finding(world, "a key expired that had no expiry time: v%u", value);
		return;
	}
	lifetime = &world->lifetimes[value];
	node_get_status(member->node, &status);
	if (lifetime->expires_ns > store_clock_ns(node_store(member->node)))
		world_finding(world, "v%u expired before its time", value);
	/* Under one leader the cluster clock runs at most 1/64 too fast, plus what the oscillators differ;
	 * its first step after the key was set also makes up for the time before, 200 ms at most
	 * (node/clock.c). */
	if (status.term == lifetime->term &&
		world->now_ns - lifetime->set_ns < lifetime->ttl_ns - lifetime->ttl_ns / 50 - 4 * NS_PER_MS)
		world_finding(world, "v%u lived too short", value);
}

static void watch_expiries(struct member *member)
{
	struct store_result result = {0};
	struct store_event *event = NULL;
	int r;

	memset(&member->expiry_watch, 0, sizeof(member->expiry_watch));
	r = store_watch_start(node_store(member->node), &member->expiry_watch,
		slice_str(STORE_USER_PREFIX "/ttl"), true, true, 0, on_expiry, &event, &result);
	member->watching = r == 0;
	if (r != 0)
		world_finding(member->world, "cannot watch: %d", r);
	store_event_unref(event);
	store_result_done(&result);
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
		.members_len = world->profile.members,
		.server_version = "2.3.0",
		.heartbeat_ms = world->profile.heartbeat_ms,
		.election_ms = world->profile.election_ms,
		.segment_bytes = world->profile.segment_bytes,
		.checkpoint_log_bytes = world->profile.checkpoint_log_bytes,
		.checkpoint_step_bytes = world->profile.checkpoint_step_bytes,
		.log_cache_bytes = world->profile.log_cache_bytes,
		.checkpoint_piece_bytes = world->profile.checkpoint_piece_bytes,
	};
	char *error = NULL;
	int r;

	assert(!member->node);
	member->expects_failure = false;
	r = node_open(&config, &member->env, &member->node, &error);
	world_log(world, "member %u starts: %d", member->number, r);
	world_trace(world, member->number, (uint64_t)(int64_t)r);
	if (r < 0) {
		world_finding(
			world, "member %u does not start: %s", member->number, error ? error : "no message");
		free(error);
		return;
	}
	world->summary->restarts++;
	watch_expiries(member);
	member_schedule(member, world->now_ns);
	for (unsigned i = 0; i < world->profile.members; i++)
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

void member_crash(struct member *member, bool power)
{
	struct world *world = member->world;
	unsigned torn;

	member_count(member);
	if (member->node) {
		for (unsigned i = 0; i < ARRAY_LEN(member->runs); i++) {
			struct plan_run *run = &member->runs[i];

			if (run->plan && run->step < run->plan->steps_len && rng_below(&world->rng, 2))
				disk_step_partly(member->disk, run->plan, &run->plan->steps[run->step]);
			run->plan = NULL;
		}
		if (member->watching)
			store_watch_stop(node_store(member->node), &member->expiry_watch);
		member->watching = false;
		member->node = node_free(member->node);
		member->life++;
		member->turn_at_ns = INT64_MAX;
		member->paused_until_ns = 0;
		client_lost_member(world, member);
		/* The kernel of a killed process closes its connections; a machine without power tells
		 * nobody. */
		for (unsigned i = 0; i < world->profile.members && !power; i++)
			member_notice(&world->members[i], member->number, false);
		world_at(world, world->now_ns + 50 * NS_PER_MS + world_rand(world, 3 * NS_PER_S), EVENT_START,
			member->number, 0);
	}
	if (power) {
		torn = disk_power_off(member->disk);
		world->summary->faults[FAULT_TORN_WRITE] += torn;
	}
	world_trace(world, 77 + power, member->number);
	world_log(world, "member %u crashes%s", member->number, power ? " with its machine" : "");
}

void member_notice(struct member *observer, unsigned peer, bool connected)
{
	struct world *world = observer->world;
	int64_t after_ns = world_rand(world, (connected ? 300 : 20) * NS_PER_MS);
	struct event *event;

	if (!observer->node || observer->number == peer)
		return;
	event = world_at(world, world->now_ns + after_ns, EVENT_PEER, observer->number, peer);
	event->life = observer->life;
	event->len = connected;
}

void member_peer(struct member *member, const struct event *event)
{
	if (!member->node || event->life != member->life)
		return;
	node_peer_state(member->node, member->world->members[event->other].id, event->len);
	member_schedule(member, member->world->now_ns);
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

void member_turn(struct member *member, const struct event *event)
{
	struct world *world = member->world;
	int64_t deadline_ns, mono_ns;

	if (!member->node || event->life != member->life || event->number != member->turn_number)
		return;
	member->turn_at_ns = INT64_MAX;
	node_turn(member->node);
	if (!member->watching)
		watch_expiries(member);
	while (store_deliver(node_store(member->node), 100))
		;
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
	deadline_ns = node_deadline_ns(member->node);
	mono_ns = env_mono(&member->env);
	if (deadline_ns <= mono_ns)
		member_schedule(member, world->now_ns + 1000 + world_rand(world, 20000));
	else if (deadline_ns != INT64_MAX)
		member_schedule(
			member, world->now_ns + (deadline_ns - mono_ns) + (deadline_ns - mono_ns) / 500 + 1);
}

static bool step_fault(struct member *member, const struct plan_run *run)
{
	struct world *world = member->world;
	const struct wal_step *step = &run->plan->steps[run->step];

	if (world->calm)
		return false;
	if (rng_chance(&world->rng, world->profile.crash_at_step)) {
		world->summary->faults[FAULT_CRASH_AT_STEP]++;
		disk_step_partly(member->disk, run->plan, step);
		member_crash(member, rng_below(&world->rng, 3) != 0);
		return true;
	}
	if (rng_chance(&world->rng, world->profile.disk_error)) {
		const struct wal_plan *plan = run->plan;
		/* No space for a segment made ahead of time: that alone must not end a member. */
		bool full = plan->background && step->kind == WAL_STEP_CREATE && rng_below(&world->rng, 2);

		world->summary->faults[FAULT_DISK_ERROR]++;
		world_log(world, "member %u: step %zu of its plan fails", member->number, run->step);
		disk_step_partly(member->disk, plan, step);
		/* One that a checkpoint needs does not end the member, unless it is at its start. */
		member->expects_failure |=
			!full && !(plan->background && strstr(plan->steps[0].name, "heckpoint"));
		member->runs[plan->background].plan = NULL;
		node_disk_done(member->node, plan, full ? -ENOSPC : -EIO);
		member_schedule(member, world->now_ns);
		return true;
	}
	return false;
}

void member_disk(struct member *member, const struct event *event)
{
	struct world *world = member->world;
	struct plan_run *run = &member->runs[event->other];
	const struct wal_plan *plan = run->plan;
	int r;

	if (!member->node || event->life != member->life)
		return;
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

void member_message(struct member *member, struct event *event)
{
	struct world *world = member->world;

	if (world->cut[event->other][member->number] || !member->node)
		return;
	node_receive(member->node, world->members[event->other].id, slice_make(event->bytes, event->len));
	member_schedule(member, world->now_ns + world_rand(world, 50000));
}
