/* One member on a simulated disk in virtual time, for tests that go step by step. */
#pragma once
#include "base/memory.h"
#include "base/time.h"
#include "disk.h"
#include "node/node.h"
#include "store/store.h"
#include "wal/format.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

struct bench {
	struct env env;
	struct rng rng;
	struct disk *disk;
	struct node *node;
	const struct wal_plan *plans[2];
	int64_t now_ns, wall_ns;
	unsigned plans_run, steps_run, fail_at; /* the fail_at-th step of all fails */
	unsigned spares_refused;
	bool no_space;		 /* for segments made ahead of time */
	uint64_t disk_bytes_max; /* 0: endless */
	const char *unreadable;	 /* reading files with this in their name fails; NULL: none */
	unsigned sent, members_changed, errors_noted;
	/* the last answer */
	unsigned replies;
	enum node_error error;
	enum store_error store_error;
	uint64_t index, raft_index;
	void *request;
};

static inline struct bench *of(struct env *env)
{
	return (struct bench *)env;
}

static inline int64_t env_mono(struct env *env)
{
	return of(env)->now_ns;
}

static inline int64_t env_wall(struct env *env)
{
	return of(env)->now_ns + of(env)->wall_ns;
}

static inline void env_random(struct env *env, void *ret_bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((char *)ret_bytes)[i] = (char)rng_next(&of(env)->rng);
}

static inline uint64_t env_room(struct env *env)
{
	return disk_left(of(env)->disk, of(env)->disk_bytes_max);
}

static inline int env_list(struct env *env, void (*fn)(void *, const char *, uint64_t), void *arg)
{
	return disk_list(of(env)->disk, fn, arg);
}

static inline int env_read(
	struct env *env, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	if (of(env)->unreadable && strstr(name, of(env)->unreadable))
		return -EIO;
	return disk_read(of(env)->disk, name, max_bytes, ret_data, ret_len);
}

static inline int env_read_range(
	struct env *env, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	if (of(env)->unreadable && strstr(name, of(env)->unreadable))
		return -EIO;
	return disk_read_range(of(env)->disk, name, offset, len, out);
}

static inline void env_submit(struct env *env, const struct wal_plan *plan)
{
	assert_null(of(env)->plans[plan->background]);
	of(env)->plans[plan->background] = plan;
}

static inline void env_send(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	(void)to, (void)message, (void)bulk;
	of(env)->sent++;
}

static inline void env_reply(struct env *env, void *request, const struct node_reply *reply)
{
	struct bench *bench = of(env);

	bench->replies++;
	bench->request = request;
	bench->error = reply->error;
	bench->raft_index = reply->raft_index;
	bench->store_error = reply->result ? reply->result->error : STORE_OK;
	bench->index = reply->result ? reply->result->index : 0;
}

static inline void env_members_changed(struct env *env)
{
	of(env)->members_changed++;
}

static inline void env_store_leaving(struct env *env, struct store *store)
{
	(void)env, (void)store;
}

static inline void env_note(struct env *env, int level, const char *text)
{
	(void)text;
	of(env)->errors_noted += level <= 3;
}

static const struct env_ops env_ops = {
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

static const char *const peer_urls[] = {"http://10.0.0.1:2380", NULL};
static const char *const client_urls[] = {"http://10.0.0.1:2379", NULL};
static const struct node_member members[] = {
	{.id = 7, .name = "", .peer_urls = peer_urls, .client_urls = client_urls},
	{.id = 8, .name = "", .peer_urls = peer_urls, .client_urls = client_urls},
	{.id = 9, .name = "", .peer_urls = peer_urls, .client_urls = client_urls},
};

static inline struct node_config config_of(size_t count)
{
	return (struct node_config){
		.cluster_id = 1,
		.member_id = 7,
		.name = "one",
		.client_urls = client_urls,
		.members = members,
		.members_len = count,
		.server_version = "2.3.0",
		.heartbeat_ms = 100,
		.election_ms = 1000,
		.segment_bytes = 8192,
	};
}

static inline struct bench *bench_new(void)
{
	struct bench *bench = mem_new(struct bench);

	bench->env.ops = &env_ops;
	rng_seed(&bench->rng, 1);
	bench->disk = disk_new(&bench->rng);
	bench->now_ns = 5 * NS_PER_S;
	bench->wall_ns = INT64_C(1700000000) * NS_PER_S;
	return bench;
}

static inline void bench_stop(struct bench *bench, bool power)
{
	bench->node = node_free(bench->node);
	bench->plans[0] = bench->plans[1] = NULL;
	if (power)
		(void)disk_power_off(bench->disk);
}

static inline void bench_free(struct bench *bench)
{
	bench_stop(bench, false);
	disk_free(bench->disk);
	free(bench);
}

static inline void bench_open_as(struct bench *bench, const struct node_config *config)
{
	char *error = NULL;

	assert_int_equal(node_open(config, &bench->env, &bench->node, &error), 0);
}

static inline void bench_open(struct bench *bench, size_t count)
{
	struct node_config config = config_of(count);

	bench_open_as(bench, &config);
}

/* A sole member with checkpoints whenever the log has grown by so much. */
static inline void bench_open_sized(struct bench *bench, uint64_t segment_bytes, uint64_t checkpoint_bytes)
{
	struct node_config config = config_of(1);

	config.segment_bytes = segment_bytes;
	config.checkpoint_log_bytes = checkpoint_bytes;
	bench_open_as(bench, &config);
}

static inline void run_plan(struct bench *bench, unsigned which)
{
	const struct wal_plan *plan = bench->plans[which];
	int r = 0;

	if (!plan)
		return;
	bench->plans_run++;
	if (plan->background && bench->no_space) {
		bench->spares_refused++;
		r = -ENOSPC;
	}
	for (size_t i = 0; i < plan->steps_len && r == 0; i++) {
		if (disk_lacks(bench->disk, bench->disk_bytes_max, &plan->steps[i])) {
			assert_true(plan->background);
			bench->spares_refused++;
			r = -ENOSPC;
		} else if (++bench->steps_run == bench->fail_at) {
			disk_step_fails(bench->disk, plan, &plan->steps[i]);
			r = -EIO;
		} else {
			r = disk_step(bench->disk, plan, &plan->steps[i]);
			assert_int_equal(r, 0);
		}
	}
	bench->plans[which] = NULL;
	node_disk_done(bench->node, plan, r);
}

static inline void run_for(struct bench *bench, int64_t ns)
{
	int64_t end_ns = bench->now_ns + ns;

	for (unsigned turns = 0; turns < 100000; turns++) {
		int64_t deadline_ns;

		node_turn(bench->node);
		run_plan(bench, 0);
		run_plan(bench, 1);
		deadline_ns = node_deadline_ns(bench->node);
		if (deadline_ns > end_ns)
			break;
		bench->now_ns = MAX(bench->now_ns, deadline_ns);
	}
	bench->now_ns = end_ns;
	node_turn(bench->node);
}

static inline int propose(
	struct bench *bench, const char *path, size_t value_len, int64_t ttl_ns, void *request)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0), value = BUF_INIT(0);
	struct store_command command = {.op = STORE_OP_SET, .path = slice_str(path)};

	buf_add_fill(&value, 'v', value_len);
	command.value = buf_slice(&value);
	command.time_ns = node_clock_ns(bench->node);
	command.has_expiry = ttl_ns > 0;
	command.expires_ns = command.time_ns + ttl_ns;
	store_command_encode(&command, &bytes);
	return node_propose(bench->node, buf_slice(&bytes), request);
}
