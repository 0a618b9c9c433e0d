/* Members that come and go while the cluster runs, step by step. */
#include "members_world.h"
#include "node/internal.h"

static struct node_member_change adding(struct world *world, uint64_t id)
{
	return (struct node_member_change){
		.op = NODE_MEMBER_ADD, .id = id, .peer_urls = (const char *const *)world->members[id].urls};
}

static struct node_member_change removing(uint64_t id)
{
	return (struct node_member_change){.op = NODE_MEMBER_REMOVE, .id = id};
}

static struct world *cluster_of(size_t count)
{
	struct world *world = world_new();

	for (uint64_t id = 1; id <= count; id++)
		world_start(world, id, count);
	world_run(world, 3000);
	assert_true(world_leader(world));
	return world;
}

static bool writes_go_on(struct world *world, uint64_t at)
{
	struct world_answer answer;

	world_write(world, at, "/1/k", &answer);
	world_run(world, 300);
	if (!answer.came)
		node_forget(world->members[at].node, &answer);
	return answer.came && !answer.error;
}

static uint64_t follower_of(struct world *world)
{
	for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++)
		if (world->members[id].node && id != world_leader(world))
			return id;
	fail();
	return 0;
}

static void assert_equal_states(struct world *world)
{
	uint64_t leader = world_leader(world);

	for (uint64_t id = 1; id <= WORLD_MEMBERS_MAX; id++) {
		if (!world->members[id].node)
			continue;
		assert_int_equal(world_status(world, id).applied, world_status(world, leader).applied);
		assert_int_equal(store_hash(node_store(world->members[id].node)),
			store_hash(node_store(world->members[leader].node)));
		assert_int_equal(node_member_count(world->members[id].node),
			node_member_count(world->members[leader].node));
	}
}

static void added_member_does_not_count_before_it_is_there(void **state)
{
	struct world *world = cluster_of(1);
	struct node *node = world->members[1].node;
	uint64_t index = store_index(node_store(node));
	struct slice value;

	(void)state;
	assert_int_equal(world_change(world, 1, adding(world, 2), 100), NODE_OK);
	assert_int_equal(store_index(node_store(node)), index + 1);
	assert_true(store_peek(node_store(node), slice_str("/0/members/2/raftAttributes"), &value));
	assert_true(slice_is(value, "{\"peerURLs\":[\"http://10.0.0.2:2380\"]}"));
	assert_int_equal(node_member_count(node), 2);
	assert_string_equal(node_member_by_id(node, 2)->name, "");
	assert_false(node_member_votes(node, 2));
	assert_int_equal(world_status(world, 1).learners, 1);
	world_run(world, 5000);
	assert_true(writes_go_on(world, 1));
	/* It comes, gets all, and votes. */
	world_start(world, 2, 0);
	world_run(world, 1000);
	assert_true(node_member_votes(node, 2) && node_member_votes(world->members[2].node, 2));
	assert_string_equal(node_member_by_id(node, 2)->name, "m2");
	assert_true(writes_go_on(world, 2));
	assert_equal_states(world);
	/* From now on it counts. */
	world_stop(&world->members[2]);
	assert_false(writes_go_on(world, 1));
	world_free(world);
}

static void any_member_takes_changes_and_refuses_what_makes_no_sense(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t at = follower_of(world);
	struct node_member_change change = adding(world, 4);

	(void)state;
	assert_int_equal(world_change(world, at, adding(world, 2), 500), NODE_ERROR_MEMBER_EXISTS);
	change.peer_urls = (const char *const *)world->members[1].urls;
	assert_int_equal(world_change(world, at, change, 500), NODE_ERROR_PEER_URL_EXISTS);
	assert_int_equal(world_change(world, at, removing(9), 500), NODE_ERROR_MEMBER_NOT_FOUND);
	change = (struct node_member_change){
		.op = NODE_MEMBER_UPDATE, .id = 9, .peer_urls = (const char *const *)world->members[5].urls};
	assert_int_equal(world_change(world, at, change, 500), NODE_ERROR_MEMBER_NOT_FOUND);
	change.id = 3;
	assert_int_equal(world_change(world, at, change, 500), NODE_OK);
	assert_string_equal(
		node_member_by_id(world->members[at].node, 3)->peer_urls[0], "http://10.0.0.5:2380");
	change.peer_urls = (const char *const *)world->members[1].urls;
	assert_int_equal(world_change(world, at, change, 500), NODE_ERROR_PEER_URL_EXISTS);
	change.op = NODE_MEMBER_PROMOTE;
	assert_int_equal(node_propose_member(world->members[at].node, &change, &change), -EINVAL);
	change = removing(0);
	assert_int_equal(node_propose_member(world->members[at].node, &change, &change), -EINVAL);
	assert_true(writes_go_on(world, at));
	assert_equal_states(world);
	world_free(world);
}

/* All at once, right after it was settled where to: nobody is there to tell them. */
static void members_that_all_move_know_the_new_places(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t at = follower_of(world);
	struct node_member_change change = {.op = NODE_MEMBER_UPDATE};

	(void)state;
	for (uint64_t id = 1; id <= 3; id++) {
		change.id = id;
		change.peer_urls = (const char *const *)world->members[10 + id].urls;
		assert_int_equal(world_change(world, at, change, 500), NODE_OK);
	}
	world_run(world, 150); /* a heartbeat tells the others */
	for (uint64_t id = 1; id <= 3; id++)
		world_stop(&world->members[id]);
	for (uint64_t id = 1; id <= 3; id++) {
		world_start(world, id, 3);
		world->members[id].lonely = true;
	}
	world_run(world, 100);
	for (uint64_t id = 1; id <= 3; id++)
		for (uint64_t other = 1; other <= 3; other++)
			assert_string_equal(node_member_by_id(world->members[id].node, other)->peer_urls[0],
				world->members[10 + other].url);
	world_free(world);
}

static void removed_member_hears_of_it_and_its_id_is_never_used_again(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t gone = follower_of(world), leader = world_leader(world), index;

	(void)state;
	index = store_index(node_store(world->members[leader].node));
	assert_int_equal(world_change(world, leader, removing(gone), 500), NODE_OK);
	assert_int_equal(store_index(node_store(world->members[leader].node)), index + 2);
	world_run(world, 3000);
	assert_true(world_status(world, gone).removed);
	assert_false(world_status(world, leader).removed);
	world_stop(&world->members[gone]);
	assert_int_equal(world_change(world, leader, removing(gone), 500), NODE_ERROR_MEMBER_REMOVED);
	assert_int_equal(world_change(world, leader, adding(world, gone), 500), NODE_ERROR_MEMBER_EXISTS);
	assert_true(node_was_removed(world->members[leader].node, gone));
	assert_true(writes_go_on(world, leader));
	assert_equal_states(world);
	world_free(world);
}

static void removed_leader_is_followed_at_once(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t leader = world_leader(world), at = follower_of(world), next;

	(void)state;
	assert_int_equal(world_change(world, at, removing(leader), 500), NODE_OK);
	world_run(world, 50);
	assert_true(world_status(world, leader).removed);
	next = world_leader(world);
	assert_true(next && next != leader);
	assert_true(writes_go_on(world, at));
	world_stop(&world->members[leader]);
	world_run(world, 1000);
	assert_equal_states(world);
	world_free(world);
}

/* The other one has the removal in its log, does not know that it is committed, and crashes. */
static void removed_leader_stays_until_the_other_one_knows(void **state)
{
	struct world *world = cluster_of(2);
	uint64_t leader = world_leader(world), other = follower_of(world);

	(void)state;
	assert_int_equal(world_change(world, leader, removing(leader), 500), NODE_OK);
	assert_false(node_was_removed(world->members[other].node, leader));
	world_stop(&world->members[other]);
	world_run(world, 100000);
	assert_true(world_status(world, leader).removed);
	assert_false(world_status(world, leader).may_end);
	world_start(world, other, 2);
	world_run(world, 3000);
	assert_true(world_status(world, leader).may_end);
	assert_int_equal(world_leader(world), other);
	world_stop(&world->members[leader]);
	assert_true(writes_go_on(world, other));
	world_free(world);
}

/* Who remains crashes before it has on its disk that the removal is committed. */
static void removed_member_stays_until_the_leader_knows_for_ever(void **state)
{
	struct world *world = cluster_of(2);
	uint64_t leader = world_leader(world), gone = follower_of(world);
	struct node_member_change change = removing(gone);
	struct world_answer answer = {0};

	(void)state;
	world->members[gone].disk_ns = 100 * NS_PER_MS;
	assert_int_equal(node_propose_member(world->members[leader].node, &change, &answer), 0);
	world_run(world, 50);
	world->members[leader].disk_ns = 3600 * NS_PER_S;
	world_run(world, 500);
	assert_true(answer.came);
	assert_true(node_was_removed(world->members[leader].node, gone));
	assert_true(world_status(world, gone).removed);
	assert_false(world_status(world, gone).may_end);
	world_stop(&world->members[leader]);
	world->members[leader].disk_ns = 0;
	world_start(world, leader, 2);
	world_run(world, 5000);
	assert_true(world_status(world, gone).may_end);
	world_stop(&world->members[gone]);
	assert_true(writes_go_on(world, leader));
	world_free(world);
}

/* Of those that it knows `at` alone is left when it comes back. It waits for the other one for ten minutes.
 */
static void come_back_to_one(struct world *world, uint64_t gone, uint64_t at)
{
	uint64_t other = 6 - gone - at;

	assert_int_equal(world_change(world, at, removing(other), 500), NODE_OK);
	world_run(world, 1000);
	assert_true(world_status(world, other).may_end);
	world_stop(&world->members[other]);
	world_start(world, gone, 3);
	world_run(world, 60000);
	assert_true(world_status(world, gone).removed);
	assert_false(world_status(world, gone).may_end);
	world->now_ns += 600 * NS_PER_S;
	world_run(world, 1000);
	assert_true(world_status(world, gone).may_end);
	world_free(world);
}

static void member_that_was_removed_while_away_ends_when_it_is_told(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t gone = follower_of(world), leader = world_leader(world);

	(void)state;
	world_stop(&world->members[gone]);
	assert_int_equal(world_change(world, leader, removing(gone), 500), NODE_OK);
	come_back_to_one(world, gone, leader);
}

/* The same, and it knows from its own log. */
static void removed_leader_that_was_away_ends_when_it_is_told(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t gone = world_leader(world);

	(void)state;
	assert_int_equal(world_change(world, gone, removing(gone), 500), NODE_OK);
	world->members[gone].lonely = true;
	world_run(world, 20);
	assert_true(world_status(world, gone).removed);
	world_stop(&world->members[gone]);
	world->members[gone].lonely = false;
	world_run(world, 3000);
	come_back_to_one(world, gone, world_leader(world));
}

/* It is the last entry of a cluster that writes nothing more. */
static void refused_change_keeps_nobody_from_being_told(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t gone = follower_of(world), leader = world_leader(world);

	(void)state;
	world_stop(&world->members[gone]);
	assert_int_equal(world_change(world, leader, removing(gone), 500), NODE_OK);
	world_run(world, 1000);
	assert_int_equal(world_change(world, leader, removing(gone), 500), NODE_ERROR_MEMBER_REMOVED);
	world_start(world, gone, 3);
	world_run(world, 5000);
	assert_true(world_status(world, gone).may_end);
	world_free(world);
}

static void only_member_may_be_removed(void **state)
{
	struct world *world = cluster_of(1);

	(void)state;
	assert_int_equal(world_change(world, 1, adding(world, 2), 100), NODE_OK);
	assert_int_equal(world_change(world, 1, removing(1), 100), NODE_ERROR_MEMBERS_LAST);
	assert_int_equal(world_change(world, 1, removing(2), 100), NODE_OK);
	assert_int_equal(world_change(world, 1, removing(1), 100), NODE_OK);
	assert_true(world_status(world, 1).removed);
	world_stop(&world->members[1]);
	world_start(world, 1, 1);
	world_run(world, 200);
	assert_true(world_status(world, 1).removed);
	world_free(world);
}

static void member_joins_a_cluster_whose_log_was_cut(void **state)
{
	struct world *world = world_new();

	(void)state;
	world->checkpoint_entries = 50;
	world_start(world, 1, 1);
	world_run(world, 500);
	assert_int_equal(world_change(world, 1, adding(world, 3), 100), NODE_OK);
	assert_int_equal(world_change(world, 1, removing(3), 100), NODE_OK);
	for (unsigned i = 0; i < 600; i++) {
		struct world_answer answer;

		world_write(world, 1, i % 2 ? "/1/a" : "/1/b", &answer);
		world_run(world, 5);
		assert_true(answer.came && !answer.error);
	}
	assert_true(world_status(world, 1).log_first > 3);
	assert_int_equal(world_change(world, 1, adding(world, 2), 100), NODE_OK);
	world_start(world, 2, 0);
	world_run(world, 2000);
	assert_int_equal(world_status(world, 2).checkpoints_received, 1);
	assert_true(node_member_votes(world->members[1].node, 2));
	assert_true(node_was_removed(world->members[2].node, 3)); /* from the checkpoint */
	assert_true(writes_go_on(world, 2));
	assert_equal_states(world);
	/* Both start again from what is on their disks. */
	for (uint64_t id = 1; id <= 2; id++)
		world_stop(&world->members[id]);
	for (uint64_t id = 1; id <= 2; id++)
		world_start(world, id, 0);
	world_run(world, 3000);
	assert_true(writes_go_on(world, 2));
	assert_int_equal(world_change(world, 2, adding(world, 3), 500), NODE_ERROR_MEMBER_EXISTS);
	world_run(world, 100); /* whoever leads, the other hears of it */
	assert_equal_states(world);
	world_free(world);
}

static void member_that_joins_may_be_killed_before_it_got_anything(void **state)
{
	struct world *world = cluster_of(1);

	(void)state;
	assert_int_equal(world_change(world, 1, adding(world, 2), 100), NODE_OK);
	world->members[2].lonely = true;
	world_start(world, 2, 0);
	world_run(world, 2500);
	world_stop(&world->members[2]);
	world_start(world, 2, 0);
	world_run(world, 100);
	assert_int_equal(node_member_count(world->members[2].node), 0);
	world->members[2].lonely = false;
	world_run(world, 1000);
	assert_true(node_member_votes(world->members[1].node, 2));
	assert_equal_states(world);
	world_free(world);
}

static void member_is_replaced_in_one_step(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t gone = follower_of(world), leader = world_leader(world);
	struct node_member_change change = adding(world, 4);
	struct node *node = world->members[leader].node;

	(void)state;
	world_stop(&world->members[gone]); /* it died */
	change.op = NODE_MEMBER_REPLACE;
	change.replaces = gone;
	change.peer_urls = (const char *const *)world->members[gone].urls; /* the same machine, made anew */
	assert_int_equal(world_change(world, leader, change, 500), NODE_OK);
	assert_int_equal(node_member_count(node), 4);
	assert_int_equal(node_member_by_id(node, 4)->replaces, gone);
	assert_true(node_member_votes(node, gone) && !node_member_votes(node, 4));
	/* Once is enough. */
	change.id = 5;
	change.peer_urls = (const char *const *)world->members[5].urls;
	assert_int_equal(world_change(world, leader, change, 500), NODE_ERROR_MEMBER_REPLACED);
	assert_true(writes_go_on(world, leader));
	world_start(world, 4, 0);
	world_run(world, 1000);
	assert_int_equal(node_member_count(node), 3);
	assert_true(node_member_votes(node, 4) && !node_member_by_id(node, gone));
	assert_true(node_was_removed(node, gone));
	assert_int_equal(node_member_by_id(node, 4)->replaces, 0);
	assert_false(world_status(world, leader).joint);
	assert_true(writes_go_on(world, 4));
	assert_equal_states(world);
	world_free(world);
}

static void leader_is_replaced_and_the_next_one_finishes(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t leader = world_leader(world), at = follower_of(world);
	struct node_member_change change = adding(world, 4);

	(void)state;
	change.op = NODE_MEMBER_REPLACE;
	change.replaces = leader;
	assert_int_equal(world_change(world, at, change, 500), NODE_OK);
	world_start(world, 4, 0);
	world_run(world, 1000);
	assert_true(world_status(world, leader).removed);
	world_stop(&world->members[leader]);
	assert_int_not_equal(world_leader(world), leader);
	assert_int_equal(node_member_count(world->members[4].node), 3);
	assert_true(node_member_votes(world->members[4].node, 4));
	assert_true(writes_go_on(world, 4));
	assert_equal_states(world);
	world_free(world);
}

static void successor_may_be_taken_back(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t at = follower_of(world);
	struct node_member_change change = adding(world, 4);

	(void)state;
	change.op = NODE_MEMBER_REPLACE;
	change.replaces = 9;
	assert_int_equal(world_change(world, at, change, 500), NODE_ERROR_MEMBER_NOT_FOUND);
	change.replaces = at;
	assert_int_equal(world_change(world, at, change, 500), NODE_OK);
	assert_int_equal(world_change(world, at, removing(4), 500), NODE_OK);
	assert_int_equal(node_member_count(world->members[at].node), 3);
	change.id = 5;
	change.peer_urls = (const char *const *)world->members[5].urls;
	assert_int_equal(world_change(world, at, change, 500), NODE_OK);
	/* Who is to be replaced may be removed first: then the other one is a plain new member. */
	assert_int_equal(world_change(world, world_leader(world), removing(at), 500), NODE_OK);
	world_run(world, 50);
	world_stop(&world->members[at]);
	world_start(world, 5, 0);
	world_run(world, 1500);
	assert_true(node_member_votes(world->members[5].node, 5));
	assert_int_equal(node_member_count(world->members[5].node), 3);
	assert_equal_states(world);
	world_free(world);
}

static void cluster_grows_to_five_and_shrinks_to_one_under_load(void **state)
{
	struct world *world = cluster_of(1);
	uint64_t at = 1;

	(void)state;
	for (uint64_t id = 2; id <= 5; id++) {
		assert_int_equal(world_change(world, at, adding(world, id), 1000), NODE_OK);
		world_start(world, id, 0);
		for (unsigned i = 0; i < 10; i++)
			assert_true(writes_go_on(world, at));
		assert_true(node_member_votes(world->members[id].node, id));
		at = id;
	}
	while (node_member_count(world->members[world_leader(world)].node) > 1) {
		uint64_t gone = world_leader(world); /* each time the one that matters most */

		at = follower_of(world);
		assert_int_equal(world_change(world, at, removing(gone), 1000), NODE_OK);
		world_run(world, 100);
		world_stop(&world->members[gone]);
		world_run(world, 100);
		assert_true(writes_go_on(world, at));
		assert_equal_states(world);
	}
	world_free(world);
}

/* Writes through member `at`, one each 20 ms. */
static void write_for(struct world *world, uint64_t at, int64_t ms)
{
	static struct world_answer answers[4096];
	size_t count = 0;

	for (int64_t done = 0; done < ms; done += 20) {
		assert_true(count < ARRAY_LEN(answers));
		world_write(world, at, "/1/k", &answers[count++]);
		world_run(world, 20);
	}
	for (size_t i = 0; i < count; i++)
		if (!answers[i].came)
			node_forget(world->members[at].node, &answers[i]);
}

static void leader_whose_disk_hangs_hands_over(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t leader = world_leader(world);

	(void)state;
	write_for(world, leader, 11000); /* it led long enough */
	world->members[leader].disk_ns = 30 * NS_PER_S;
	write_for(world, leader, 1500);
	assert_int_equal(world_status(world, leader).handovers, 1);
	assert_true(world_leader(world) && world_leader(world) != leader);
	assert_true(writes_go_on(world, world_leader(world)));
	world_free(world);
}

static void leader_whose_disk_is_slow_hands_over_once(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t leader = world_leader(world);

	(void)state;
	write_for(world, leader, 11000);
	world->members[leader].disk_ns = 600 * NS_PER_MS;
	write_for(world, leader, 1100);
	assert_int_equal(world_leader(world), leader); /* once or twice is nothing */
	write_for(world, leader, 1500);
	assert_int_equal(world_status(world, leader).handovers, 1);
	assert_int_not_equal(world_leader(world), leader);
	write_for(world, leader, 3000);
	for (uint64_t id = 1; id <= 3; id++)
		assert_int_equal(world_status(world, id).handovers, id == leader);
	world_free(world);
}

static void leader_keeps_it_when_nobody_is_quicker_or_it_is_needed(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t leader = world_leader(world), term = world_status(world, leader).term;

	(void)state;
	write_for(world, leader, 11000);
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_ns = 800 * NS_PER_MS;
	write_for(world, leader, 5000);
	assert_int_equal(world_status(world, leader).handovers, 0);
	assert_int_equal(world_status(world, leader).term, term);
	/* One follower is gone: the other could not elect without this disk. */
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].disk_ns = id == leader ? 800 * NS_PER_MS : NS_PER_MS;
	world_stop(&world->members[follower_of(world)]);
	write_for(world, leader, 5000);
	assert_int_equal(world_status(world, leader).handovers, 0);
	assert_int_equal(world_leader(world), leader);
	world_free(world);
}

static void leader_that_ends_hands_over(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t leader = world_leader(world);

	(void)state;
	assert_int_equal(node_hand_over(world->members[follower_of(world)].node), -EHOSTUNREACH);
	assert_int_equal(node_hand_over(world->members[leader].node), 0);
	assert_int_equal(node_hand_over(world->members[leader].node), 0); /* already */
	world_run(world, 20);
	assert_true(world_leader(world) && world_leader(world) != leader);
	world_free(world);
	world = cluster_of(1);
	assert_int_equal(node_hand_over(world->members[1].node), -ENOENT);
	world_free(world);
}

static void too_many_changes_are_refused(void **state)
{
	struct world *world = cluster_of(3);
	uint64_t at = follower_of(world);
	struct node_member_change change = removing(99);
	static struct world_answer answers[NODE_PENDING_COUNT_MAX + 1];
	size_t count = 0;
	int r;

	(void)state;
	for (uint64_t id = 1; id <= 3; id++)
		world->members[id].lonely = true;
	do
		r = node_propose_member(world->members[at].node, &change, &answers[count]);
	while (r == 0 && ++count <= NODE_PENDING_COUNT_MAX);
	assert_int_equal(r, -EBUSY);
	assert_int_equal(count, NODE_PENDING_COUNT_MAX);
	world_run(world, 9000); /* each is answered, though nobody leads */
	for (size_t i = 0; i < count; i++)
		assert_true(answers[i].came && answers[i].error);
	assert_int_equal(world_status(world, at).pending_count, 0);
	assert_int_equal(world_status(world, at).pending_bytes, 0);
	world_free(world);
}

static void voters_as_many_as_there_can_be_are_replaced(void **state)
{
	struct world *world = world_new();
	struct node_member_change change = adding(world, NODE_VOTERS_MAX + 1);
	struct node_member_change further = adding(world, NODE_VOTERS_MAX + 2);
	uint64_t leader, gone = NODE_VOTERS_MAX, applied;
	struct node *node;

	(void)state;
	for (uint64_t id = 1; id <= NODE_VOTERS_MAX / 2 + 1; id++)
		world_start(world, id, NODE_VOTERS_MAX); /* the others are down */
	world_run(world, 3000);
	leader = world_leader(world);
	assert_int_not_equal(leader, 0);
	node = world->members[leader].node;
	assert_int_equal(world_status(world, leader).voters, NODE_VOTERS_MAX);
	/* One more can be there, but has no vote; and that costs nothing. */
	assert_int_equal(world_change(world, leader, further, 500), NODE_OK);
	world_start(world, further.id, 0);
	world_run(world, 1000);
	applied = world_status(world, leader).applied;
	assert_int_equal(world_status(world, further.id).applied, applied);
	world_run(world, 500);
	assert_int_equal(world_status(world, leader).applied, applied);
	assert_false(node_member_votes(node, further.id));
	change.op = NODE_MEMBER_REPLACE;
	change.replaces = gone;
	assert_int_equal(world_change(world, leader, change, 500), NODE_OK);
	world_start(world, change.id, 0);
	world_run(world, 1000);
	assert_true(node_member_votes(node, change.id));
	assert_true(node_was_removed(node, gone));
	assert_int_equal(world_status(world, leader).voters, NODE_VOTERS_MAX);
	assert_false(world_status(world, leader).joint);
	assert_true(writes_go_on(world, change.id));
	assert_equal_states(world);
	world_free(world);
}

/* What another member puts into the log was perhaps checked by nobody. */
static void members_are_bounded_whoever_asks(void **state)
{
	struct world *world = cluster_of(1);
	struct node *node = world->members[1].node;
	struct node_member_change change = adding(world, 2);
	const char *urls[NODE_MEMBER_URLS_MAX + 2] = {0};
	char texts[NODE_MEMBER_URLS_MAX + 1][16], longest[NODE_URL_BYTES_MAX + 2] = "";

	(void)state;
	memset(longest, 'u', NODE_URL_BYTES_MAX + 1);
	for (size_t i = 0; i <= NODE_MEMBER_URLS_MAX; i++) {
		(void)snprintf(texts[i], sizeof(texts[i]), "http://a:%zu", i + 10);
		urls[i] = texts[i];
	}
	change.peer_urls = urls;
	assert_int_equal(world_change(world, 1, change, 100), NODE_ERROR_TOO_LARGE);
	urls[NODE_MEMBER_URLS_MAX] = NULL;
	urls[0] = longest;
	assert_int_equal(world_change(world, 1, change, 100), NODE_ERROR_TOO_LARGE);
	assert_int_equal(node_member_count(node), 1);
	longest[NODE_URL_BYTES_MAX] = '\0';
	assert_int_equal(world_change(world, 1, change, 100), NODE_OK);
	change.op = NODE_MEMBER_UPDATE;
	longest[NODE_URL_BYTES_MAX] = 'u';
	assert_int_equal(world_change(world, 1, change, 100), NODE_ERROR_TOO_LARGE);
	assert_true(writes_go_on(world, 1));
	world_free(world);
}

/* The ids of those removed are kept for ever: after very many there is an end, long before no checkpoint
 * could be written. */
static void members_that_no_checkpoint_could_hold_are_refused(void **state)
{
	struct world *world = cluster_of(1);
	struct node *node = world->members[1].node;
	size_t full = NODE_MEMBERSHIP_BYTES_MAX / sizeof(uint64_t);
	struct node_member_change change;

	(void)state;
	assert_int_equal(world_change(world, 1, adding(world, 2), 100), NODE_OK);
	node->removed_ids = mem_reallocarray(node->removed_ids, full, sizeof(*node->removed_ids));
	for (node->removed_len = 0; node->removed_len < full; node->removed_len++)
		node->removed_ids[node->removed_len] = 1000 + node->removed_len;
	assert_int_equal(world_change(world, 1, adding(world, 3), 100), NODE_ERROR_MEMBERS_FULL);
	change = adding(world, 3);
	change.id = 2;
	change.op = NODE_MEMBER_UPDATE;
	assert_int_equal(world_change(world, 1, change, 100), NODE_ERROR_MEMBERS_FULL);
	assert_int_equal(world_change(world, 1, removing(2), 100), NODE_OK);
	assert_int_equal(node_member_count(node), 1);
	node->removed_len -= 64;
	assert_int_equal(world_change(world, 1, adding(world, 3), 100), NODE_OK);
	world_free(world);
}

static void publish(struct world *world, size_t name_len, size_t url_len, size_t url_count)
{
	_cleanup_buf_ struct buf payload = BUF_INIT(0), name = BUF_INIT(0), url = BUF_INIT(0);

	buf_add_fill(&name, 'n', name_len);
	buf_add_fill(&url, 'u', url_len);
	wire_add_varint(&payload, 1);
	wire_add_bytes(&payload, buf_slice(&name));
	wire_add_varint(&payload, url_count);
	for (size_t i = 0; i < url_count; i++)
		wire_add_bytes(&payload, buf_slice(&url));
	node_propose_internal(
		world->members[1].node, NODE_PUBLISH, NODE_ENTRY_ATTRIBUTES, buf_slice(&payload));
	world_run(world, 100);
}

static void names_and_client_urls_are_bounded_whoever_publishes(void **state)
{
	struct world *world = cluster_of(1);
	const struct node_member *member = node_member_by_id(world->members[1].node, 1);

	(void)state;
	publish(world, NODE_NAME_BYTES_MAX + 1, 9, 1);
	publish(world, 5, NODE_URL_BYTES_MAX + 1, 1);
	publish(world, 5, 9, NODE_MEMBER_URLS_MAX + 1);
	assert_string_equal(member->name, "m1");
	publish(world, NODE_NAME_BYTES_MAX, NODE_URL_BYTES_MAX, NODE_MEMBER_URLS_MAX);
	assert_int_equal(strlen(member->name), NODE_NAME_BYTES_MAX);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(added_member_does_not_count_before_it_is_there),
		cmocka_unit_test(any_member_takes_changes_and_refuses_what_makes_no_sense),
		cmocka_unit_test(members_that_all_move_know_the_new_places),
		cmocka_unit_test(removed_member_hears_of_it_and_its_id_is_never_used_again),
		cmocka_unit_test(removed_leader_is_followed_at_once),
		cmocka_unit_test(removed_leader_stays_until_the_other_one_knows),
		cmocka_unit_test(removed_member_stays_until_the_leader_knows_for_ever),
		cmocka_unit_test(member_that_was_removed_while_away_ends_when_it_is_told),
		cmocka_unit_test(removed_leader_that_was_away_ends_when_it_is_told),
		cmocka_unit_test(refused_change_keeps_nobody_from_being_told),
		cmocka_unit_test(only_member_may_be_removed),
		cmocka_unit_test(member_joins_a_cluster_whose_log_was_cut),
		cmocka_unit_test(member_that_joins_may_be_killed_before_it_got_anything),
		cmocka_unit_test(member_is_replaced_in_one_step),
		cmocka_unit_test(leader_is_replaced_and_the_next_one_finishes),
		cmocka_unit_test(successor_may_be_taken_back),
		cmocka_unit_test(cluster_grows_to_five_and_shrinks_to_one_under_load),
		cmocka_unit_test(leader_whose_disk_hangs_hands_over),
		cmocka_unit_test(leader_whose_disk_is_slow_hands_over_once),
		cmocka_unit_test(leader_keeps_it_when_nobody_is_quicker_or_it_is_needed),
		cmocka_unit_test(leader_that_ends_hands_over),
		cmocka_unit_test(too_many_changes_are_refused),
		cmocka_unit_test(voters_as_many_as_there_can_be_are_replaced),
		cmocka_unit_test(members_are_bounded_whoever_asks),
		cmocka_unit_test(members_that_no_checkpoint_could_hold_are_refused),
		cmocka_unit_test(names_and_client_urls_are_bounded_whoever_publishes),
	};

	return cmocka_run_group_tests_name("members", tests, NULL, NULL);
}
