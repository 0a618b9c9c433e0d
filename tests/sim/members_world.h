/* A few members on simulated disks and a network without faults, in virtual time, for tests that go step by
 * step. What faults do to it all is the simulator's part. */
#pragma once
#include "base/list.h"
#include "base/memory.h"
#include "base/time.h"
#include "disk.h"
#include "node/node.h"
#include "store/store.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define WORLD_MEMBERS_MAX 33u /* their ids are 1 ... 33: as many as can vote, and two more */
#define WORLD_TURNS_MAX 1000u /* at one moment: far more than there ever is to be done */

struct world_message {
	struct list link;
	uint64_t from, to;
	int64_t at_ns;
	char *bytes;
	size_t len;
};

struct world_answer {
	bool came;
	enum node_error error;
};

struct world_plan {
	const struct wal_plan *plan;
	int64_t done_ns;
};

struct world;
struct world_member {
	struct env env;
	struct world *world;
	uint64_t id;
	struct disk *disk;
	struct node *node; /* NULL: down */
	struct world_plan plans[2];
	int64_t disk_ns;	      /* how long a plan takes */
	int64_t background_ns;	      /* and one beside the log's */
	int64_t wall_ns;	      /* how far its wall clock is ahead */
	unsigned checkpoints_to_fail; /* the next ones: their first write fails */
	bool no_space;		      /* for files made beside the log's write */
	uint64_t disk_bytes_max;      /* 0: endless */
	uint64_t checkpoint_room;     /* bytes of a checkpoint that fit; 0: all */
	char url[32];
	const char *urls[2];
	bool lonely;	 /* nothing comes through */
	bool hold_reads; /* what is read from the log beside its writes takes long */
};

struct world {
	struct world_member members[WORLD_MEMBERS_MAX + 1]; /* by id */
	struct rng rng;
	struct list messages; /* in the order in which they arrive */
	int64_t now_ns;
	uint64_t checkpoint_entries, checkpoint_log_bytes, log_cache_bytes, segment_bytes;
};

static inline struct world_member *world_of(struct env *env)
{
	return (struct world_member *)env;
}

static inline int64_t world_mono(struct env *env)
{
	return world_of(env)->world->now_ns;
}

static inline int64_t world_wall(struct env *env)
{
	return world_of(env)->world->now_ns + world_of(env)->wall_ns + INT64_C(1700000000) * NS_PER_S;
}

static inline void world_random(struct env *env, void *ret_bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((char *)ret_bytes)[i] = (char)rng_next(&world_of(env)->world->rng);
}

static inline uint64_t world_disk_room(struct env *env)
{
	return disk_left(world_of(env)->disk, world_of(env)->disk_bytes_max);
}

static inline int world_list(struct env *env, void (*fn)(void *, const char *, uint64_t), void *arg)
{
	return disk_list(world_of(env)->disk, fn, arg);
}

static inline int world_read(
	struct env *env, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	return disk_read(world_of(env)->disk, name, max_bytes, ret_data, ret_len);
}

static inline int world_read_range(
	struct env *env, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	return disk_read_range(world_of(env)->disk, name, offset, len, out);
}

static inline void world_submit(struct env *env, const struct wal_plan *plan)
{
	struct world_member *member = world_of(env);

	assert_null(member->plans[plan->background].plan);
	member->plans[plan->background] = (struct world_plan){
		plan, member->world->now_ns + (plan->background ? member->background_ns : member->disk_ns)};
}

static inline void world_send_at(struct env *env, uint64_t to, struct slice message, int64_t at_ns)
{
	struct world_member *member = world_of(env);
	struct world_message *copy = mem_new(struct world_message);
	struct list *at = &member->world->messages;

	assert_in_range(to, 1, WORLD_MEMBERS_MAX);
	*copy = (struct world_message){.from = member->id,
		.to = to,
		.at_ns = at_ns,
		.bytes = mem_dup(message.data, message.len),
		.len = message.len};
	while (at->prev != &member->world->messages &&
		list_item(at->prev, struct world_message, link)->at_ns > at_ns)
		at = at->prev;
	list_insert_before(at, &copy->link);
}

static inline void world_send(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	(void)bulk;
	world_send_at(env, to, message, world_of(env)->world->now_ns + NS_PER_MS / 5);
}

static inline void world_reply(struct env *env, void *request, const struct node_reply *reply)
{
	struct world_answer *answer = request;

	(void)env;
	assert_false(answer->came);
	*answer = (struct world_answer){true, reply->error};
}

static inline void world_members_changed(struct env *env)
{
	(void)env;
}

static inline void world_store_leaving(struct env *env, struct store *store)
{
	(void)env, (void)store;
}

static inline void world_note(struct env *env, int level, const char *text)
{
	if (getenv("WORLD_VERBOSE"))
		print_message("# %6lld ms, member %llu <%d>: %s\n",
			(long long)(world_of(env)->world->now_ns / NS_PER_MS),
			(unsigned long long)world_of(env)->id, level, text);
}

static const struct env_ops world_ops = {
	.mono_ns = world_mono,
	.wall_ns = world_wall,
	.random = world_random,
	.disk_list = world_list,
	.disk_read = world_read,
	.disk_read_range = world_read_range,
	.disk_room = world_disk_room,
	.disk_submit = world_submit,
	.send = world_send,
	.reply = world_reply,
	.members_changed = world_members_changed,
	.store_leaving = world_store_leaving,
	.note = world_note,
};

static inline struct world *world_new(void)
{
	struct world *world = mem_new(struct world);

	rng_seed(&world->rng, 1);
	list_init(&world->messages);
	world->now_ns = 5 * NS_PER_S;
	for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++) {
		struct world_member *member = &world->members[id];

		*member = (struct world_member){.env.ops = &world_ops, .world = world, .id = id};
		member->disk = disk_new(&world->rng);
		member->disk_ns = NS_PER_MS / 2;
		(void)snprintf(member->url, sizeof(member->url), "http://10.0.0.%d:2380", (int)id);
		member->urls[0] = member->url;
	}
	return world;
}

static inline void world_stop(struct world_member *member)
{
	member->node = node_free(member->node);
	member->plans[0].plan = member->plans[1].plan = NULL;
}

static inline void world_message_free(struct world_message *message)
{
	list_remove(&message->link);
	free(message->bytes);
	free(message);
}

static inline void world_free(struct world *world)
{
	for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++) {
		world_stop(&world->members[id]);
		disk_free(world->members[id].disk);
	}
	while (!list_empty(&world->messages))
		world_message_free(list_first(&world->messages, struct world_message, link));
	free(world);
}

/* What node_open() answers. */
static inline int world_open(struct world *world, uint64_t id, size_t initial, char **ret_error)
{
	struct world_member *member = &world->members[id];
	struct node_member list[WORLD_MEMBERS_MAX];
	char name[16];
	struct node_config config = {.cluster_id = 77,
		.member_id = id,
		.name = name,
		.client_urls = (const char *const *)member->urls,
		.members = list,
		.members_len = initial,
		.joins = !initial,
		.server_version = "2.3.0",
		.heartbeat_ms = 100,
		.election_ms = 1000,
		.segment_bytes = world->segment_bytes ? world->segment_bytes : 16384,
		.checkpoint_entries = world->checkpoint_entries,
		.checkpoint_log_bytes = world->checkpoint_log_bytes,
		.log_cache_bytes = world->log_cache_bytes};

	(void)snprintf(name, sizeof(name), "m%d", (int)id);
	for (size_t i = 0; i < initial; i++)
		list[i] = (struct node_member){.id = i + 1,
			.name = "",
			.peer_urls = (const char *const *)world->members[i + 1].urls};
	return node_open(&config, &member->env, &member->node, ret_error);
}

/* `initial` members 1 ... n found the cluster; 0: it joins. */
static inline void world_start(struct world *world, uint64_t id, size_t initial)
{
	char *error = NULL;

	if (world_open(world, id, initial, &error) < 0)
		fail_msg("member %d does not open: %s", (int)id, error);
}

static inline bool world_lacks_space(const struct world_member *member, const struct wal_step *step)
{
	return disk_lacks(member->disk, member->disk_bytes_max, step) ||
	       (member->checkpoint_room && disk_grows(member->disk, step) &&
		       strstr(step->name, ".checkpoint") &&
		       step->offset + step->bytes_len > member->checkpoint_room);
}

static inline void world_run_plan(struct world_member *member, unsigned which)
{
	const struct wal_plan *plan = member->plans[which].plan;
	int r = 0;

	if (!plan || member->plans[which].done_ns > member->world->now_ns ||
		(member->hold_reads && plan->steps[0].kind == WAL_STEP_READ))
		return;
	if (member->checkpoints_to_fail && plan->steps[0].kind == WAL_STEP_CREATE &&
		strstr(plan->steps[0].name, ".checkpoint")) {
		member->checkpoints_to_fail--;
		member->plans[which].plan = NULL;
		node_disk_done(member->node, plan, -EIO);
		return;
	}
	if (member->no_space && plan->background && plan->steps[0].kind == WAL_STEP_CREATE) {
		member->plans[which].plan = NULL;
		node_disk_done(member->node, plan, -ENOSPC);
		return;
	}
	for (size_t i = 0; i < plan->steps_len && r == 0; i++) {
		if (world_lacks_space(member, &plan->steps[i])) {
			assert_true(plan->background); /* the log takes no space in passing */
			r = -ENOSPC;
		} else {
			r = disk_step(member->disk, plan, &plan->steps[i]);
			assert_int_equal(r, 0);
		}
	}
	member->plans[which].plan = NULL;
	node_disk_done(member->node, plan, r);
}

static inline void world_deliver(struct world *world)
{
	list_for_each_safe (it, &world->messages) {
		struct world_message *message = list_item(it, struct world_message, link);
		struct world_member *from = &world->members[message->from],
				    *to = &world->members[message->to];

		if (message->at_ns > world->now_ns)
			return;
		if (to->node && !from->lonely && !to->lonely)
			node_receive(to->node, from->id, slice_make(message->bytes, message->len));
		world_message_free(message);
	}
}

/* As the transport does: a member that was removed tries to connect again and again, and is told so. */
static inline void world_tell_removed(struct world *world)
{
	for (uint64_t by = 1; by <= WORLD_MEMBERS_MAX; by++) {
		struct world_member *knows = &world->members[by];

		for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX && knows->node && !knows->lonely; id++) {
			struct world_member *gone = &world->members[id];

			if (gone != knows && gone->node && !gone->lonely &&
				node_tells_removed(knows->node, id))
				node_told_removed(gone->node, by);
		}
	}
}

/* Until there is nothing to do but to wait. */
static inline void world_turns(struct world_member *member)
{
	unsigned turns = 0;

	do {
		turns++;
		assert_in_range(turns, 1, WORLD_TURNS_MAX);
		node_turn(member->node);
		assert_null(node_failure(member->node));
	} while (node_deadline_ns(member->node) <= member->world->now_ns);
}

static inline void world_run(struct world *world, int64_t ms)
{
	int64_t end_ns = world->now_ns + ms * NS_PER_MS;

	for (; world->now_ns < end_ns; world->now_ns += NS_PER_MS / 10) {
		world_deliver(world);
		if (world->now_ns % (10 * NS_PER_MS) == 0)
			world_tell_removed(world);
		for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++) {
			struct world_member *member = &world->members[id];

			if (!member->node)
				continue;
			world_run_plan(member, 0);
			world_run_plan(member, 1);
			world_turns(member);
		}
	}
}

static inline struct node_status world_status(struct world *world, uint64_t id)
{
	struct node_status status;

	node_get_status(world->members[id].node, &status);
	return status;
}

/* The id of who leads among those that run; 0: nobody. */
static inline uint64_t world_leader(struct world *world)
{
	uint64_t leader = 0, term = 0;

	for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++) {
		struct node_status status;

		if (!world->members[id].node)
			continue;
		status = world_status(world, id);
		if (status.role == NODE_LEADER && status.term > term) {
			leader = id;
			term = status.term;
		}
	}
	return leader;
}

/* A write at member `at`, of so many bytes: what node_propose() answers. */
static inline int world_propose(struct world *world, uint64_t at, enum store_op op, const char *path,
	size_t len, struct world_answer *answer)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0), value = BUF_INIT(0);
	struct node *node = world->members[at].node;
	struct store_command command = {.op = op, .path = slice_str(path)};

	*answer = (struct world_answer){0};
	buf_add_fill(&value, 'v', len);
	command.value = buf_slice(&value);
	command.time_ns = node_clock_ns(node);
	store_command_encode(&command, &bytes);
	return node_propose(node, buf_slice(&bytes), answer);
}

static inline void world_write(
	struct world *world, uint64_t at, const char *path, struct world_answer *answer)
{
	assert_int_equal(world_propose(world, at, STORE_OP_SET, path, 1, answer), 0);
}

/* The same, answered. */
static inline void world_write_to(struct world *world, uint64_t at, const char *path)
{
	struct world_answer answer;

	world_write(world, at, path, &answer);
	for (unsigned waited = 0; waited < 5000 && !answer.came; waited++)
		world_run(world, 1);
	assert_true(answer.came && !answer.error);
}

/* Asks member `at` for the change and waits for the answer, `ms` at most. */
static inline enum node_error world_change(
	struct world *world, uint64_t at, struct node_member_change change, int64_t ms)
{
	struct world_answer answer = {0};

	assert_int_equal(node_propose_member(world->members[at].node, &change, &answer), 0);
	for (int64_t waited = 0; waited < ms && !answer.came; waited++)
		world_run(world, 1);
	if (!answer.came) {
		node_forget(world->members[at].node, &answer);
		return NODE_ERROR_TIMEOUT;
	}
	return answer.error;
}
