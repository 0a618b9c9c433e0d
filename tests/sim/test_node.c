/* One member on a simulated disk, step by step: what the original's users see of it, its limits, and what it
 * does when its disk fails. What several members do together is the simulator's part. */
#include "node/internal.h"
#include "node_bench.h"

static int token;

static int setup(void **state)
{
	*state = bench_new();
	return 0;
}

static int teardown(void **state)
{
	bench_free(*state);
	return 0;
}

/* A sole member that leads, and has written all that it writes of its own accord. */
static void start_alone(struct bench *bench)
{
	bench_open(bench, 1);
	run_for(bench, NS_PER_S);
}

static void set_key_for(struct bench *bench, const char *path, size_t value_len, int64_t ttl_ns)
{
	assert_int_equal(propose(bench, path, value_len, ttl_ns, &token), 0);
}

static void set_key(struct bench *bench, const char *path, size_t value_len)
{
	set_key_for(bench, path, value_len, 0);
}

static bool has_key(struct bench *bench, const char *path)
{
	struct slice value;

	return store_peek(node_store(bench->node), slice_str(path), &value);
}

static void fresh_member_is_at_the_index_of_the_original(void **state)
{
	struct bench *bench = *state;
	const struct node_member *member;
	struct slice value;

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
	set_key(bench, "/1/a", 3);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, 1);
	assert_int_equal(bench->index, 4);
	assert_true(bench->raft_index > 4);
}

static void restart_replays_the_log_and_publishes_again(void **state)
{
	struct bench *bench = *state;
	uint64_t hash;

	bench_open(bench, 1);
	run_for(bench, 100 * NS_PER_MS);
	for (unsigned i = 0; i < 50; i++) {
		set_key(bench, "/1/a", 900);
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
}

static void idle_member_writes_nothing(void **state)
{
	struct bench *bench = *state;
	unsigned before;

	start_alone(bench);
	before = bench->plans_run;
	run_for(bench, 600 * NS_PER_S);
	assert_int_equal(bench->plans_run, before);
}

static void key_expires_soon_after_its_time_and_not_before(void **state)
{
	struct bench *bench = *state;

	start_alone(bench);
	set_key_for(bench, "/1/t", 1, 2 * NS_PER_S);
	run_for(bench, 1950 * NS_PER_MS);
	assert_true(has_key(bench, "/1/t"));
	run_for(bench, 150 * NS_PER_MS);
	assert_false(has_key(bench, "/1/t"));
}

static void wall_clock_jump_neither_expires_nor_keeps_a_key(void **state)
{
	struct bench *bench = *state;

	start_alone(bench);
	set_key_for(bench, "/1/t", 1, 10 * NS_PER_S);
	run_for(bench, NS_PER_S);
	bench->wall_ns += 3600 * NS_PER_S;
	run_for(bench, 8 * NS_PER_S);
	assert_true(has_key(bench, "/1/t"));
	bench->wall_ns -= 7200 * NS_PER_S;
	run_for(bench, 2 * NS_PER_S);
	assert_false(has_key(bench, "/1/t"));
}

static void proposals_of_one_turn_share_one_write(void **state)
{
	struct bench *bench = *state;
	unsigned before;

	start_alone(bench);
	before = bench->plans_run;
	for (unsigned i = 0; i < 8; i++)
		set_key(bench, "/1/a", 10);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, 8);
	assert_int_equal(bench->plans_run, before + 1);
}

static void nothing_is_answered_before_the_write_is_durable(void **state)
{
	struct bench *bench = *state;

	start_alone(bench);
	set_key(bench, "/1/a", 10);
	for (unsigned i = 0; i < 10; i++)
		node_turn(bench->node);
	assert_non_null(bench->plans[0]);
	assert_int_equal(bench->replies, 0);
	run_plan(bench, 0);
	node_turn(bench->node);
	assert_int_equal(bench->replies, 1);
	assert_int_equal(bench->error, NODE_OK);
	assert_ptr_equal(bench->request, &token);
}

static void without_a_leader_requests_wait_and_then_fail_as_unknown(void **state)
{
	struct bench *bench = *state;

	bench_open(bench, 3); /* nobody else answers */
	run_for(bench, NS_PER_S);
	set_key(bench, "/1/a", 10);
	assert_int_equal(node_read_index(bench->node, &token), 0);
	run_for(bench, 6900 * NS_PER_MS);
	assert_int_equal(bench->replies, 0);
	run_for(bench, 200 * NS_PER_MS);
	assert_int_equal(bench->replies, 2);
	assert_int_equal(bench->error, NODE_ERROR_LEADER_LOST);
	assert_string_equal(node_error_text(bench->error),
		"etcdserver: request timed out, possibly due to previous leader failure");
	assert_true(bench->sent > 0);
}

static void requests_beyond_the_limits_are_refused(void **state)
{
	struct bench *bench = *state;
	unsigned taken = 0;

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
}

static void forgotten_request_is_not_answered_but_takes_effect(void **state)
{
	struct bench *bench = *state;

	start_alone(bench);
	set_key(bench, "/1/a", 10);
	assert_int_equal(node_read_index(bench->node, &bench), 0);
	node_forget(bench->node, &token);
	node_forget(bench->node, &bench);
	run_for(bench, NS_PER_S);
	assert_int_equal(bench->replies, 0);
	assert_true(has_key(bench, "/1/a"));
}

static void linearizable_read_follows_the_write_before_it(void **state)
{
	struct bench *bench = *state;

	start_alone(bench);
	set_key(bench, "/1/a", 10);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(node_read_index(bench->node, &bench), 0);
	run_for(bench, 10 * NS_PER_MS);
	assert_int_equal(bench->replies, 2);
	assert_ptr_equal(bench->request, &bench);
	assert_int_equal(bench->error, NODE_OK);
}

/* What a member that does not start says; owned. */
static char *refusal(struct bench *bench, const struct node_config *config, int error_number)
{
	struct node *node = NULL;
	char *error = NULL;

	assert_int_equal(node_open(config, &bench->env, &node, &error), error_number);
	return error;
}

static void log_of_another_member_or_cluster_is_refused(void **state)
{
	struct bench *bench = *state;
	struct node_config config = config_of(1);
	uint64_t cluster_id, member_id;
	char *error = NULL;
	bool exists;

	assert_int_equal(node_identity(&bench->env, &exists, &cluster_id, &member_id, &error), 0);
	assert_false(exists);
	start_alone(bench);
	bench_stop(bench, false);
	assert_int_equal(node_identity(&bench->env, &exists, &cluster_id, &member_id, &error), 0);
	assert_true(exists);
	assert_int_equal(cluster_id, 1);
	assert_int_equal(member_id, 7);
	config.cluster_id = 2;
	error = refusal(bench, &config, -EXDEV);
	assert_non_null(strstr(error, "cluster 1"));
	free(error);
}

static void more_members_than_can_vote_are_refused(void **state)
{
	struct bench *bench = *state;
	struct node_member many[NODE_VOTERS_MAX + 1];
	struct node_config config = config_of(1);
	struct node *node = NULL;
	char *error = NULL;

	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		many[i] = members[0];
		many[i].id = 7 + i;
	}
	config.members = many;
	config.members_len = ARRAY_LEN(many);
	error = refusal(bench, &config, -EINVAL);
	assert_non_null(strstr(error, "at most 31"));
	free(error);
	config.members_len--;
	assert_int_equal(node_open(&config, &bench->env, &node, &error), 0);
	assert_int_equal(node_member_count(node), NODE_VOTERS_MAX);
	(void)node_free(node);
}

static void open_is_refused(struct bench *bench, const char *why)
{
	struct node_config config = config_of(1);
	char *error = refusal(bench, &config, -EBADMSG);

	if (!strstr(error, why))
		fail_msg("%s", error);
	free(error);
}

static void change_disk(struct bench *bench, const struct wal_step *step)
{
	const struct wal_plan plan = {.steps_len = 0};

	assert_int_equal(disk_step(bench->disk, &plan, step), 0);
}

static void remove_file(struct bench *bench, const char *name)
{
	struct wal_step step = {.kind = WAL_STEP_REMOVE};

	(void)snprintf(step.name, sizeof(step.name), "%s", name);
	change_disk(bench, &step);
}

static void log_without_its_oldest_segment_is_refused(void **state)
{
	struct bench *bench = *state;

	bench_open(bench, 1);
	for (unsigned i = 0; i < 30; i++) {
		set_key(bench, "/1/a", 900);
		run_for(bench, 10 * NS_PER_MS);
	}
	bench_stop(bench, false);
	remove_file(bench, "0000000000000001.wal");
	open_is_refused(bench, "oldest files are missing");
}

static void open_with_checkpoints(struct bench *bench)
{
	bench_open_sized(bench, config_of(1).segment_bytes, 20000);
}

static void fill(struct bench *bench, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/1/%u", i % 10);
		set_key(bench, path, 100 + i);
		run_for(bench, 10 * NS_PER_MS);
	}
}

static void checkpoint_follows_when_most_is_deleted(void **state)
{
	struct bench *bench = *state;
	struct store_command delete = {.op = STORE_OP_DELETE, .recursive = true, .path = slice_str("/1/d")};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct checkpoint_info info;
	struct node_status status;

	bench_open_sized(bench, 64 * 1024, 256 * 1024);
	for (unsigned i = 0; i < 400; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/1/d/%u", i);
		set_key(bench, path, 900);
		run_for(bench, 10 * NS_PER_MS);
	}
	node_get_status(bench->node, &status);
	assert_true(status.checkpoints_written > 0);
	delete.time_ns = node_clock_ns(bench->node);
	store_command_encode(&delete, &bytes);
	assert_int_equal(node_propose(bench->node, buf_slice(&bytes), &token), 0);
	run_for(bench, 100 * NS_PER_MS);
	checkpoint_get_info(bench->node->checkpoints.current, &info);
	assert_int_equal(info.image.nodes, store_nodes(node_store(bench->node)));
	/* Once is enough. */
	node_get_status(bench->node, &status);
	set_key(bench, "/1/a", 900);
	run_for(bench, NS_PER_S);
	checkpoint_get_info(bench->node->checkpoints.current, &info);
	assert_int_equal(info.id.index, status.checkpoint_index);
}

static void entry_of_a_newer_version_is_no_damage(void **state)
{
	struct bench *bench = *state;
	struct node_config config = config_of(1);
	char *error;

	bench_open_sized(bench, 1 << 20, 0);
	run_for(bench, NS_PER_S);
	/* So many that it is written, and written to be committed, before it is applied. */
	for (unsigned i = 0; i < 3 * NODE_TURN_PROPOSED_MAX; i++)
		set_key(bench, "/1/a", 1);
	node_propose_internal(bench->node, NODE_PUBLISH, NODE_ENTRY_MEMBER + 1, slice_str("to come"));
	for (unsigned i = 0; i < 100 && !node_failure(bench->node); i++) {
		set_key(bench, "/1/a", 1);
		node_turn(bench->node);
		run_plan(bench, 0);
		run_plan(bench, 1);
	}
	assert_non_null(node_failure(bench->node));
	bench_stop(bench, false);
	error = refusal(bench, &config, -EPROTONOSUPPORT);
	assert_non_null(strstr(error, "of a kind that this version does not know"));
	assert_non_null(strstr(error, "update the program"));
	free(error);
}

static void restart_loads_the_newest_checkpoint_and_the_log_behind_it(void **state)
{
	struct bench *bench = *state;
	struct node_status before, after;
	struct slice value;

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
}

struct search {
	const char *part;
	char names[WAL_PLAN_STEPS_MAX][WAL_NAME_MAX];
	size_t found;
};

static void add_if_found(void *arg, const char *name, uint64_t size_bytes)
{
	struct search *search = arg;

	(void)size_bytes;
	if (!strstr(name, search->part))
		return;
	assert_true(search->found < ARRAY_LEN(search->names));
	(void)snprintf(search->names[search->found++], WAL_NAME_MAX, "%s", name);
}

/* All that have `part` in their name. */
static void remove_files(struct bench *bench, const char *part)
{
	struct search search = {.part = part};

	assert_int_equal(disk_list(bench->disk, add_if_found, &search), 0);
	for (size_t i = 0; i < search.found; i++)
		remove_file(bench, search.names[i]);
}

static void log_and_checkpoint_are_refused_without_each_other(void **state)
{
	struct bench *bench = *state;
	static const struct wal_step away = {
		.kind = WAL_STEP_RENAME, .name = "CHECKPOINT", .to_name = "away"};
	static const struct wal_step back = {
		.kind = WAL_STEP_RENAME, .name = "away", .to_name = "CHECKPOINT"};

	open_with_checkpoints(bench);
	fill(bench, 0, 500);
	bench_stop(bench, false);
	change_disk(bench, &away);
	open_is_refused(bench, "there is no checkpoint");
	change_disk(bench, &back);
	remove_files(bench, ".wal");
	open_is_refused(bench, "no log");
}

/* The disk may be able to tomorrow; if not, the others have it all. */
static void what_the_disk_cannot_read_is_refused_like_damage_and_nothing_is_changed(void **state)
{
	struct bench *bench = *state;
	static const char *const names[] = {".wal", ".checkpoint", "CHECKPOINT"};

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
	remove_files(bench, ".checkpoint");
	open_is_refused(bench, "--rebuild");
}

/* The segments are gone, what was made ahead of time is not: it must not vote as one that promised nothing.
 */
static void member_whose_log_is_gone_does_not_begin_anew(void **state)
{
	struct bench *bench = *state;
	struct node_config config = config_of(1);
	char *error;

	config.segment_bytes = 1 << 20;
	bench_open_as(bench, &config);
	fill(bench, 0, 200);
	bench_stop(bench, true);
	remove_file(bench, "0000000000000001.wal");
	assert_true(disk_peek(bench->disk, WAL_SPARE_NAME).len > 0);
	config.has_log = true;
	error = refusal(bench, &config, -EBADMSG);
	assert_non_null(strstr(error, "nothing of it, is left"));
	assert_non_null(strstr(error, "--rebuild"));
	free(error);
	config.has_log = false; /* a first start that was killed before it had written anything */
	bench_open_as(bench, &config);
	fill(bench, 0, 20);
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
			assert_true(has_key(bench, path));
		}
		bench_free(bench);
		if (!failed) {
			assert_int_equal(acknowledged, 20);
			assert_true(n > 40);
			return;
		}
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(fresh_member_is_at_the_index_of_the_original),
		CASE(restart_replays_the_log_and_publishes_again),
		CASE(idle_member_writes_nothing),
		CASE(key_expires_soon_after_its_time_and_not_before),
		CASE(wall_clock_jump_neither_expires_nor_keeps_a_key),
		CASE(proposals_of_one_turn_share_one_write),
		CASE(nothing_is_answered_before_the_write_is_durable),
		CASE(without_a_leader_requests_wait_and_then_fail_as_unknown),
		CASE(requests_beyond_the_limits_are_refused),
		CASE(forgotten_request_is_not_answered_but_takes_effect),
		CASE(linearizable_read_follows_the_write_before_it),
		CASE(log_of_another_member_or_cluster_is_refused),
		CASE(more_members_than_can_vote_are_refused),
		CASE(log_without_its_oldest_segment_is_refused),
		CASE(checkpoint_follows_when_most_is_deleted),
		CASE(entry_of_a_newer_version_is_no_damage),
		CASE(restart_loads_the_newest_checkpoint_and_the_log_behind_it),
		CASE(log_and_checkpoint_are_refused_without_each_other),
		CASE(what_the_disk_cannot_read_is_refused_like_damage_and_nothing_is_changed),
		CASE(member_whose_log_is_gone_does_not_begin_anew),
		cmocka_unit_test(after_the_nth_step_of_the_disk_fails_nothing_acknowledged_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
