/* One member on a simulated disk, step by step: what the original's users see of it, its limits, and what it
 * does when its disk fails. What several members do together is the simulator's part. */
#include "node_bench.h"

static int token;

static void fresh_member_is_at_the_index_of_the_original(void **state)
{
	struct bench *bench = bench_new();
	const struct node_member *member;
	struct slice value;

	(void)state;
	bench_open(bench, 1);
	run_for(bench, 0); /* no step of the start waits for time to pass */
	assert_int_equal(store_index(node_store(bench->node)), 3);
	assert_string_equal(node_cluster_version(bench->node), "2.3.0");
	member = node_member_by_id(bench->node, 7);
	assert_string_equal(member->name, "one");
	assert_string_equal(member->peer_urls[0], peer_urls[0]);
	assert_string_equal(member->client_urls[0], client_urls[0]);
	assert_true(bench->members_changed > 0);
	assert_true(store_peek(node_store(bench->node), slice_str("/0/members/7/attributes"), &value));
	assert_true(slice_is(value, "{\"name\":\"one\",\"clientURLs\":[\"http://10.0.0.1:2379\"]}"));
	assert_true(store_peek(node_store(bench->node), slice_str("/0/members/7/raftAttributes"), &value));
	assert_true(slice_is(value, "{\"peerURLs\":[\"http://10.0.0.1:2380\"]}"));
	assert_int_equal(propose(bench, "/1/a", 3, 0, &token), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, 1);
	assert_int_equal(bench->index, 4);
	assert_true(bench->raft_index > 4);
	bench_free(bench);
}

static void restart_replays_the_log_and_publishes_again(void **state)
{
	struct bench *bench = bench_new();
	uint64_t hash;

	(void)state;
	bench_open(bench, 1);
	run_for(bench, 100 * NS_PER_MS);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(propose(bench, "/1/a", 900, 0, &token), 0);
		run_for(bench, NS_PER_MS);
	}
	assert_int_equal(store_index(node_store(bench->node)), 53);
	hash = store_hash(node_store(bench->node));
	bench_stop(bench, true);
	bench_open(bench, 1);
	/* The commit index on disk may be one write behind; the rest is committed again by the sole voter. */
	run_for(bench, 100 * NS_PER_MS);
	assert_int_equal(store_index(node_store(bench->node)), 54);
	assert_int_not_equal(store_hash(node_store(bench->node)), hash);
	bench_free(bench);
}

static void idle_member_writes_nothing(void **state)
{
	struct bench *bench = bench_new();
	unsigned before;

	(void)state;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	before = bench->plans_run;
	run_for(bench, 600 * NS_PER_S);
	assert_int_equal(bench->plans_run, before);
	bench_free(bench);
}

static void key_expires_soon_after_its_time_and_not_before(void **state)
{
	struct bench *bench = bench_new();
	struct slice value;

	(void)state;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	assert_int_equal(propose(bench, "/1/t", 1, 2 * NS_PER_S, &token), 0);
	run_for(bench, 1950 * NS_PER_MS);
	assert_true(store_peek(node_store(bench->node), slice_str("/1/t"), &value));
	run_for(bench, 150 * NS_PER_MS);
	assert_false(store_peek(node_store(bench->node), slice_str("/1/t"), &value));
	bench_free(bench);
}

static void wall_clock_jump_neither_expires_nor_keeps_a_key(void **state)
{
	struct bench *bench = bench_new();
	struct slice value;

	(void)state;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	assert_int_equal(propose(bench, "/1/t", 1, 10 * NS_PER_S, &token), 0);
	run_for(bench, NS_PER_S);
	bench->wall_ns += 3600 * NS_PER_S;
	run_for(bench, 8 * NS_PER_S);
	assert_true(store_peek(node_store(bench->node), slice_str("/1/t"), &value));
	bench->wall_ns -= 7200 * NS_PER_S;
	run_for(bench, 2 * NS_PER_S);
	assert_false(store_peek(node_store(bench->node), slice_str("/1/t"), &value));
	bench_free(bench);
}

static void proposals_of_one_turn_share_one_write(void **state)
{
	struct bench *bench = bench_new();
	unsigned before;

	(void)state;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	before = bench->plans_run;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(propose(bench, "/1/a", 10, 0, &token), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, 8);
	assert_int_equal(bench->plans_run, before + 1);
	bench_free(bench);
}

static void nothing_is_answered_before_the_write_is_durable(void **state)
{
	struct bench *bench = bench_new();

	(void)state;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	assert_int_equal(propose(bench, "/1/a", 10, 0, &token), 0);
	for (unsigned i = 0; i < 10; i++)
		node_turn(bench->node);
	assert_non_null(bench->plans[0]);
	assert_int_equal(bench->replies, 0);
	run_plan(bench, 0);
	node_turn(bench->node);
	assert_int_equal(bench->replies, 1);
	assert_int_equal(bench->error, NODE_OK);
	assert_ptr_equal(bench->request, &token);
	bench_free(bench);
}

static void without_a_leader_requests_wait_and_then_fail_as_unknown(void **state)
{
	struct bench *bench = bench_new();

	(void)state;
	bench_open(bench, 3); /* nobody else answers */
	run_for(bench, NS_PER_S);
	assert_int_equal(propose(bench, "/1/a", 10, 0, &token), 0);
	assert_int_equal(node_read_index(bench->node, &token), 0);
	run_for(bench, 6900 * NS_PER_MS);
	assert_int_equal(bench->replies, 0);
	run_for(bench, 200 * NS_PER_MS);
	assert_int_equal(bench->replies, 2);
	assert_int_equal(bench->error, NODE_ERROR_LEADER_LOST);
	assert_string_equal(node_error_text(bench->error),
		"etcdserver: request timed out, possibly due to previous leader failure");
	assert_true(bench->sent > 0);
	bench_free(bench);
}

static void requests_beyond_the_limits_are_refused(void **state)
{
	struct bench *bench = bench_new();
	unsigned taken = 0;

	(void)state;
	bench_open(bench, 3);
	assert_int_equal(propose(bench, "/1/a", NODE_COMMAND_MAX, 0, &token), -EMSGSIZE);
	assert_int_equal(node_propose(bench->node, SLICE_LITERAL("nonsense"), &token), -EBADMSG);
	while (taken <= NODE_PENDING_COUNT_MAX && propose(bench, "/1/a", 1, 0, &token) == 0)
		taken++;
	assert_int_equal(taken, NODE_PENDING_COUNT_MAX);
	assert_int_equal(propose(bench, "/1/a", 1, 0, &token), -EBUSY);
	bench_stop(bench, false);
	bench_open(bench, 3);
	for (taken = 0; propose(bench, "/1/a", 10u << 20, 0, &token) == 0; taken++)
		;
	assert_int_equal(taken, 6);
	bench_free(bench);
}

static void forgotten_request_is_not_answered_but_takes_effect(void **state)
{
	struct bench *bench = bench_new();
	struct slice value;

	(void)state;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	assert_int_equal(propose(bench, "/1/a", 10, 0, &token), 0);
	assert_int_equal(node_read_index(bench->node, &bench), 0);
	node_forget(bench->node, &token);
	node_forget(bench->node, &bench);
	run_for(bench, NS_PER_S);
	assert_int_equal(bench->replies, 0);
	assert_true(store_peek(node_store(bench->node), slice_str("/1/a"), &value));
	bench_free(bench);
}

static void linearizable_read_follows_the_write_before_it(void **state)
{
	struct bench *bench = bench_new();

	(void)state;
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	assert_int_equal(propose(bench, "/1/a", 10, 0, &token), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(node_read_index(bench->node, &bench), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, 2);
	assert_ptr_equal(bench->request, &bench);
	assert_int_equal(bench->error, NODE_OK);
	bench_free(bench);
}

static void log_of_another_member_or_cluster_is_refused(void **state)
{
	struct bench *bench = bench_new();
	struct node_config config = config_of(1);
	struct node *node = NULL;
	uint64_t cluster_id, member_id;
	char *error = NULL;
	bool exists;

	(void)state;
	assert_int_equal(node_identity(&bench->env, &exists, &cluster_id, &member_id, &error), 0);
	assert_false(exists);
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
	bench_stop(bench, false);
	assert_int_equal(node_identity(&bench->env, &exists, &cluster_id, &member_id, &error), 0);
	assert_true(exists);
	assert_int_equal(cluster_id, 1);
	assert_int_equal(member_id, 7);
	config.cluster_id = 2;
	assert_int_equal(node_open(&config, &bench->env, &node, &error), -EXDEV);
	assert_non_null(strstr(error, "cluster 1"));
	free(error);
	bench_free(bench);
}

static void more_members_than_can_vote_are_refused(void **state)
{
	struct node_member many[NODE_VOTERS_MAX + 1];
	struct bench *bench = bench_new();
	struct node_config config = config_of(1);
	struct node *node = NULL;
	char *error = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		many[i] = members[0];
		many[i].id = 7 + i;
	}
	config.members = many;
	config.members_len = ARRAY_LEN(many);
	assert_int_equal(node_open(&config, &bench->env, &node, &error), -EINVAL);
	assert_non_null(strstr(error, "at most 31"));
	free(error);
	config.members_len--;
	assert_int_equal(node_open(&config, &bench->env, &node, &error), 0);
	assert_int_equal(node_member_count(node), NODE_VOTERS_MAX);
	(void)node_free(node);
	bench_free(bench);
}

static void log_without_its_oldest_segment_is_refused(void **state)
{
	struct wal_plan plan = {
		.steps = {{.kind = WAL_STEP_REMOVE, .name = "0000000000000001.wal"}}, .steps_len = 1};
	struct bench *bench = bench_new();
	struct node_config config = config_of(1);
	struct node *node = NULL;
	char *error = NULL;

	(void)state;
	bench_open(bench, 1);
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(propose(bench, "/1/a", 900, 0, &token), 0);
		run_for(bench, 10 * NS_PER_MS);
	}
	bench_stop(bench, false);
	assert_int_equal(disk_step(bench->disk, &plan, &plan.steps[0]), 0);
	assert_int_equal(node_open(&config, &bench->env, &node, &error), -EBADMSG);
	assert_non_null(strstr(error, "oldest files are missing"));
	free(error);
	bench_free(bench);
}

static void open_with_checkpoints(struct bench *bench)
{
	struct node_config config = config_of(1);
	char *error = NULL;

	config.checkpoint_log_bytes = 20000;
	assert_int_equal(node_open(&config, &bench->env, &bench->node, &error), 0);
}

static void fill(struct bench *bench, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/1/%u", i % 10);
		assert_int_equal(propose(bench, path, 100 + i, 0, &token), 0);
		run_for(bench, 10 * NS_PER_MS);
	}
}

static void restart_loads_the_newest_checkpoint_and_the_log_behind_it(void **state)
{
	struct bench *bench = bench_new();
	struct node_status before, after;
	struct slice value;

	(void)state;
	open_with_checkpoints(bench);
	fill(bench, 0, 500);
	node_get_status(bench->node, &before);
	assert_true(before.checkpoints_written > 3);
	assert_true(before.checkpoint_index > 250 && before.checkpoint_index <= before.applied);
	assert_true(before.log_first > 200 && before.log_first <= before.checkpoint_index + 1);
	bench_stop(bench, true);
	open_with_checkpoints(bench);
	assert_true(store_index(node_store(bench->node)) > 250);
	run_for(bench, NS_PER_S);
	for (unsigned i = 490; i < 500; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/1/%u", i % 10);
		assert_true(store_peek(node_store(bench->node), slice_str(path), &value));
		assert_int_equal(value.len, 100 + i);
	}
	node_get_status(bench->node, &after);
	assert_int_equal(after.checkpoint_index, before.checkpoint_index);
	assert_int_equal(after.log_first, before.checkpoint_index + 1);
	assert_string_equal(node_cluster_version(bench->node), "2.3.0");
	assert_string_equal(node_member_by_id(bench->node, 7)->name, "one");
	fill(bench, 500, 1500); /* the history is part of a checkpoint: the next one waits for as much log */
	node_get_status(bench->node, &after);
	assert_true(after.checkpoint_index > before.checkpoint_index);
	bench_free(bench);
}

static void open_is_refused(struct bench *bench, const char *why)
{
	struct node_config config = config_of(1);
	struct node *node = NULL;
	char *error = NULL;

	assert_int_equal(node_open(&config, &bench->env, &node, &error), -EBADMSG);
	if (!strstr(error, why))
		fail_msg("%s", error);
	free(error);
}

static void remove_wal(void *arg, const char *name, uint64_t size_bytes)
{
	struct wal_plan *plan = arg;

	(void)size_bytes;
	if (!strstr(name, ".wal"))
		return;
	plan->steps[plan->steps_len].kind = WAL_STEP_REMOVE;
	(void)snprintf(plan->steps[plan->steps_len++].name, WAL_NAME_MAX, "%s", name);
}

static void log_and_checkpoint_are_refused_without_each_other(void **state)
{
	struct bench *bench = bench_new();
	struct wal_plan plan = {.steps = {{.kind = WAL_STEP_RENAME, .name = "CHECKPOINT", .to_name = "away"},
					{.kind = WAL_STEP_RENAME, .name = "away", .to_name = "CHECKPOINT"}}};

	(void)state;
	open_with_checkpoints(bench);
	fill(bench, 0, 500);
	bench_stop(bench, false);
	assert_int_equal(disk_step(bench->disk, &plan, &plan.steps[0]), 0);
	open_is_refused(bench, "there is no checkpoint");
	assert_int_equal(disk_step(bench->disk, &plan, &plan.steps[1]), 0);
	assert_int_equal(disk_list(bench->disk, remove_wal, &plan), 0);
	for (size_t i = 0; i < plan.steps_len; i++)
		assert_int_equal(disk_step(bench->disk, &plan, &plan.steps[i]), 0);
	open_is_refused(bench, "no log");
	bench_free(bench);
}

static void remove_data(void *arg, const char *name, uint64_t size_bytes)
{
	struct wal_plan *plan = arg;

	(void)size_bytes;
	if (!strstr(name, ".checkpoint"))
		return;
	plan->steps[plan->steps_len].kind = WAL_STEP_REMOVE;
	(void)snprintf(plan->steps[plan->steps_len++].name, WAL_NAME_MAX, "%s", name);
}

/* The disk may be able to tomorrow; if not, the others have it all. */
static void what_the_disk_cannot_read_is_refused_like_damage_and_nothing_is_changed(void **state)
{
	static const char *const names[] = {".wal", ".checkpoint", "CHECKPOINT"};
	struct bench *bench = bench_new();
	struct wal_plan plan = {.steps_len = 0};

	(void)state;
	open_with_checkpoints(bench);
	fill(bench, 0, 500);
	bench_stop(bench, true);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		bench->unreadable = names[i];
		open_is_refused(bench, "check the disk and start again");
		open_is_refused(bench, "--rebuild");
	}
	bench->unreadable = NULL;
	open_with_checkpoints(bench);
	run_for(bench, NS_PER_S);
	assert_true(store_index(node_store(bench->node)) > 250);
	bench_stop(bench, true);
	assert_int_equal(disk_list(bench->disk, remove_data, &plan), 0);
	for (size_t i = 0; i < plan.steps_len; i++)
		assert_int_equal(disk_step(bench->disk, &plan, &plan.steps[i]), 0);
	open_is_refused(bench, "--rebuild");
	bench_free(bench);
}

/* The segments are gone, what was made ahead of time is not: it must not vote as one that promised nothing.
 */
static void member_whose_log_is_gone_does_not_begin_anew(void **state)
{
	struct wal_plan plan = {
		.steps = {{.kind = WAL_STEP_REMOVE, .name = "0000000000000001.wal"}}, .steps_len = 1};
	struct node_config config = config_of(1);
	struct bench *bench = bench_new();
	char *error = NULL;

	(void)state;
	config.segment_bytes = 1 << 20;
	assert_int_equal(node_open(&config, &bench->env, &bench->node, &error), 0);
	fill(bench, 0, 200);
	bench_stop(bench, true);
	assert_int_equal(disk_step(bench->disk, &plan, &plan.steps[0]), 0);
	assert_true(disk_peek(bench->disk, WAL_SPARE_NAME).len > 0);
	config.has_log = true;
	assert_int_equal(node_open(&config, &bench->env, &bench->node, &error), -EBADMSG);
	assert_non_null(strstr(error, "nothing of it, is left"));
	assert_non_null(strstr(error, "--rebuild"));
	free(error);
	config.has_log = false; /* a first start that was killed before it had written anything */
	assert_int_equal(node_open(&config, &bench->env, &bench->node, &error), 0);
	fill(bench, 0, 20);
	bench_free(bench);
}

/* After each possible failure of the disk the member stops, answers what it holds, and never writes again;
 * started anew it has all that it acknowledged. */
static void after_the_nth_step_of_the_disk_fails_nothing_acknowledged_is_lost(void **state)
{
	(void)state;
	for (unsigned n = 1;; n++) {
		struct bench *bench = bench_new();
		uint64_t acknowledged = 0;
		bool failed;
		struct slice value;

		bench->fail_at = n;
		bench_open(bench, 1);
		for (unsigned i = 0; i < 20; i++) {
			char path[32];

			(void)snprintf(path, sizeof(path), "/1/%u", i);
			bench->replies = 0;
			if (propose(bench, path, 900, 0, &token) < 0)
				break;
			run_for(bench, 200 * NS_PER_MS);
			assert_int_equal(bench->replies, 1);
			if (bench->error != NODE_OK)
				break;
			acknowledged = i + 1;
		}
		failed = node_failure(bench->node) != NULL;
		if (failed) {
			unsigned before = bench->plans_run;

			assert_int_equal(bench->errors_noted, 1);
			assert_int_equal(propose(bench, "/1/x", 1, 0, &token), -ESHUTDOWN);
			assert_int_equal(node_deadline_ns(bench->node), INT64_MAX);
			run_for(bench, 10 * NS_PER_S);
			assert_int_equal(bench->plans_run, before);
		}
		bench->fail_at = 0;
		bench_stop(bench, n % 2);
		bench_open(bench, 1);
		run_for(bench, NS_PER_S);
		assert_null(node_failure(bench->node));
		for (unsigned i = 0; i < acknowledged; i++) {
			char path[32];

			(void)snprintf(path, sizeof(path), "/1/%u", i);
			assert_true(store_peek(node_store(bench->node), slice_str(path), &value));
		}
		bench_free(bench);
		if (!failed) {
			assert_int_equal(acknowledged, 20);
			assert_true(n > 40);
			return;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_member_is_at_the_index_of_the_original),
		cmocka_unit_test(restart_replays_the_log_and_publishes_again),
		cmocka_unit_test(idle_member_writes_nothing),
		cmocka_unit_test(key_expires_soon_after_its_time_and_not_before),
		cmocka_unit_test(wall_clock_jump_neither_expires_nor_keeps_a_key),
		cmocka_unit_test(proposals_of_one_turn_share_one_write),
		cmocka_unit_test(nothing_is_answered_before_the_write_is_durable),
		cmocka_unit_test(without_a_leader_requests_wait_and_then_fail_as_unknown),
		cmocka_unit_test(requests_beyond_the_limits_are_refused),
		cmocka_unit_test(forgotten_request_is_not_answered_but_takes_effect),
		cmocka_unit_test(linearizable_read_follows_the_write_before_it),
		cmocka_unit_test(log_of_another_member_or_cluster_is_refused),
		cmocka_unit_test(more_members_than_can_vote_are_refused),
		cmocka_unit_test(log_without_its_oldest_segment_is_refused),
		cmocka_unit_test(restart_loads_the_newest_checkpoint_and_the_log_behind_it),
		cmocka_unit_test(log_and_checkpoint_are_refused_without_each_other),
		cmocka_unit_test(what_the_disk_cannot_read_is_refused_like_damage_and_nothing_is_changed),
		cmocka_unit_test(member_whose_log_is_gone_does_not_begin_anew),
		cmocka_unit_test(after_the_nth_step_of_the_disk_fails_nothing_acknowledged_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
