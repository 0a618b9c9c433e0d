/* Clusters of one to five members under a seeded storm: messages lost, doubled and reordered, members cut
 * off, crashed with part of their unsynced writes, restarted, membership changed and leadership moved. After
 * every step the four promises of Raft (thesis figure 3.2) and the reads are checked; at the end the storm
 * stops and all must agree. RAFT_SEED=n runs one seed, RAFT_SEEDS=n that many. */
#include "cluster.h"
#include "base/hash.h"
#include "base/text.h"
#include <stdlib.h>

enum { STEPS = 600, INDEX_MAX = 4096, TERM_MAX = 4096, TEXTS_MAX = 4096, READS_MAX = 4096 };

struct world {
	struct cluster cluster;
	struct rng rng;
	uint64_t seed;
	uint64_t leader_of[TERM_MAX];	  /* election safety */
	uint64_t applied_term[INDEX_MAX]; /* state machine safety: what was applied first at an index */
	uint64_t applied_hash[INDEX_MAX];
	uint64_t applied_last;
	uint32_t text_count;
	bool text_applied[TEXTS_MAX], text_refused[TEXTS_MAX];
	struct {
		uint64_t node, context;
		uint32_t text;
		unsigned life;
	} forwards[TEXTS_MAX];
	size_t forward_count;
	uint64_t read_floor[READS_MAX]; /* what was applied anywhere when the read was asked for */
	uint64_t read_count;
	size_t reads_seen[NODES_MAX + 1], refused_seen[NODES_MAX + 1];
	uint64_t reads_confirmed, leaders_seen;
};

static void broken(const struct world *world, const char *what)
{
	for (unsigned i = 1; i <= world->cluster.count; i++) {
		const struct raft *raft = world->cluster.nodes[i].raft;
		const struct raft_conf *conf;
		struct raft_status s;

		if (!raft)
			continue;
		raft_status_get(raft, &s);
		conf = raft_conf_get(raft);
		print_message("# %u %s term %llu leader %llu last %llu/%llu commit %llu applied %llu "
			      "persisted %llu",
			i, raft_role_name(s.role), (unsigned long long)s.term, (unsigned long long)s.leader,
			(unsigned long long)s.last_index, (unsigned long long)s.last_term,
			(unsigned long long)s.commit, (unsigned long long)s.applied,
			(unsigned long long)s.persisted);
		print_message("; voters");
		for (uint32_t k = 0; k < conf->voters.count; k++)
			print_message(" %llu", (unsigned long long)conf->voters.ids[k]);
		print_message("; outgoing");
		for (uint32_t k = 0; k < conf->outgoing.count; k++)
			print_message(" %llu", (unsigned long long)conf->outgoing.ids[k]);
		print_message("\n");
	}
	fail_msg("seed %llu: %s", (unsigned long long)world->seed, what);
}

static void on_applied(struct cluster *cluster, struct node *node, const struct raft_entry *entry)
{
	struct world *world = cluster->userdata;
	struct slice data = raft_blob_slice(entry->data);
	uint64_t hash = hash_bytes(data.data, data.len, (uint64_t)entry->type);

	(void)node;
	assert_true(entry->index < INDEX_MAX);
	if (entry->index > world->applied_last) {
		world->applied_last = entry->index;
		world->applied_term[entry->index] = entry->term;
		world->applied_hash[entry->index] = hash;
		if (entry->type == RAFT_ENTRY_DATA) {
			uint64_t text;

			assert_int_equal(text_to_u64(slice_make(data.data + 1, data.len - 1), &text), 0);
			if (world->text_applied[text])
				broken(world, "a proposal was applied twice");
			if (world->text_refused[text])
				broken(world, "a refused proposal was applied");
			world->text_applied[text] = true;
		}
	} else if (world->applied_term[entry->index] != entry->term ||
		   world->applied_hash[entry->index] != hash) {
		broken(world, "two members applied different entries at one index");
	}
}

static void check_leader(struct world *world, struct node *node)
{
	struct raft_status status;

	raft_status_get(node->raft, &status);
	if (status.role != RAFT_LEADER)
		return;
	assert_true(status.term < TERM_MAX);
	if (!world->leader_of[status.term]) {
		world->leader_of[status.term] = node->id;
		world->leaders_seen++;
		for (uint64_t i = status.first_index; i <= world->applied_last; i++) {
			if (raft_term_of(node->raft, i) != world->applied_term[i])
				broken(world, "a new leader lacks a committed entry");
		}
	}
	if (world->leader_of[status.term] != node->id)
		broken(world, "two leaders in one term");
}

static void check_logs_match(struct world *world)
{
	for (unsigned a = 1; a <= world->cluster.count; a++) {
		for (unsigned b = 1; b < a; b++) {
			const struct raft *left = world->cluster.nodes[a].raft,
					  *right = world->cluster.nodes[b].raft;
			struct raft_status x, y;
			bool same = false;

			if (!left || !right)
				continue;
			raft_status_get(left, &x);
			raft_status_get(right, &y);
			for (uint64_t i = MIN(x.last_index, y.last_index);
				i >= MAX(x.first_index, y.first_index); i--) {
				bool equal = raft_term_of(left, i) == raft_term_of(right, i);

				if (same && !equal)
					broken(world, "logs agree at an entry but not before it");
				same = same || equal;
			}
		}
	}
}

static void check_answers(struct world *world, struct node *node)
{
	size_t *reads = &world->reads_seen[node->id], *refused = &world->refused_seen[node->id];

	for (; *reads < node->read_count; (*reads)++) {
		const struct raft_read *read = &node->reads[*reads];

		assert_true(read->context < READS_MAX);
		if (read->dropped)
			continue;
		world->reads_confirmed++;
		if (read->index < world->read_floor[read->context])
			broken(world, "a read would miss what was acknowledged before it");
	}
	for (; *refused < node->refused_count; (*refused)++) {
		for (size_t i = 0; i < world->forward_count; i++) {
			if (world->forwards[i].node != node->id || world->forwards[i].life != node->lives ||
				world->forwards[i].context != node->refused[*refused])
				continue;
			if (world->text_applied[world->forwards[i].text])
				broken(world, "an applied proposal was refused");
			world->text_refused[world->forwards[i].text] = true;
		}
	}
}

static struct node *any_node(struct world *world)
{
	return &world->cluster.nodes[1 + rng_below(&world->rng, world->cluster.count)];
}

static void propose(struct world *world, struct node *node)
{
	char text[16];
	const char *texts[] = {text};
	uint64_t id;
	int r;

	if (!node->raft || world->text_count == TEXTS_MAX)
		return;
	snprintf(text, sizeof(text), "t%u", world->text_count);
	r = node_propose(&world->cluster, node, texts, 1, &id);
	if (r < 0)
		world->text_refused[world->text_count] = true;
	if (r == RAFT_FORWARDED) {
		world->forwards[world->forward_count].node = node->id;
		world->forwards[world->forward_count].context = id;
		world->forwards[world->forward_count].text = world->text_count;
		world->forwards[world->forward_count++].life = node->lives;
	}
	world->text_count++;
}

static void read_index(struct world *world, struct node *node)
{
	if (!node->raft || world->read_count == READS_MAX)
		return;
	world->read_floor[world->read_count] = world->applied_last;
	(void)!raft_read_index(node->raft, world->read_count++);
}

static void change_members(struct world *world, struct node *node)
{
	struct raft_conf_change change = {.step_count = 1 + (uint32_t)rng_below(&world->rng, 3)};
	uint64_t index;

	for (uint32_t i = 0; i < change.step_count; i++) {
		change.steps[i].op = (enum raft_conf_op)rng_below(&world->rng, RAFT_CONF_OP_MAX);
		change.steps[i].id = 1 + rng_below(&world->rng, world->cluster.count);
	}
	if (node->raft)
		(void)!raft_propose_conf(node->raft, &change, &index);
}

static void crash_or_start(struct world *world, struct node *node)
{
	struct cluster *cluster = &world->cluster;

	world->reads_seen[node->id] = world->refused_seen[node->id] = 0;
	if (node->raft)
		node_crash(cluster, node, rng_below(&world->rng, node->pending_count + 1));
	else
		assert_int_equal(node_start(cluster, node), 0);
}

static void disturb_net(struct world *world)
{
	struct cluster *cluster = &world->cluster;
	uint64_t a = 1 + rng_below(&world->rng, cluster->count),
		 b = 1 + rng_below(&world->rng, cluster->count);

	switch (rng_below(&world->rng, 4)) {
	case 0:
		cluster->cut[a][b] = true;
		break;
	case 1: /* one member alone */
		for (unsigned i = 1; i <= cluster->count; i++)
			cluster->cut[a][i] = cluster->cut[i][a] = true;
		break;
	default:
		memset(cluster->cut, 0, sizeof(cluster->cut));
		break;
	}
}

static void move_packet(struct world *world)
{
	struct cluster *cluster = &world->cluster;
	size_t at;
	struct packet packet;
	uint64_t what = rng_below(&world->rng, 100);

	if (!cluster->packet_count)
		return;
	at = what < 20 ? rng_below(&world->rng, cluster->packet_count) : 0;
	packet = net_take(cluster, at);
	if (what >= 97)
		net_push(cluster, packet.from, packet.to, slice_make(packet.data, packet.len));
	if (what == 96)
		mem_free(packet.data);
	else
		net_deliver(cluster, packet);
}

static void one_step(struct world *world)
{
	struct cluster *cluster = &world->cluster;
	struct node *node = any_node(world);
	uint64_t what = rng_below(&world->rng, 1000);

	if (what < 620)
		move_packet(world);
	else if (what < 780 && node->raft)
		raft_tick(node->raft, 1 + (uint32_t)rng_below(&world->rng, 3));
	else if (what < 860)
		propose(world, node);
	else if (what < 900)
		read_index(world, node);
	else if (what < 940 && node->raft)
		node_sync(cluster, node, rng_below(&world->rng, node->pending_count + 1), true);
	else if (what < 950)
		crash_or_start(world, node);
	else if (what < 965)
		disturb_net(world);
	else if (what < 975)
		change_members(world, node);
	else if (what < 980 && node->raft)
		(void)!raft_transfer_leader(node->raft, 1 + rng_below(&world->rng, cluster->count));
	else if (what < 985 && node->raft)
		raft_unreachable(node->raft, 1 + rng_below(&world->rng, cluster->count));
	else if (what < 990 && node->raft)
		raft_suspect(node->raft, 1 + rng_below(&world->rng, cluster->count));
	else if (what < 992)
		node->manual_sync = !node->manual_sync;
	else if (what < 996)
		node->lagging_log = !node->lagging_log;
	node_pump(cluster, node);
}

/* The storm is over: one leader, and everybody who is a member has and applied the same. */
static void check_calm(struct world *world)
{
	struct cluster *cluster = &world->cluster;
	struct raft_status leader = {0};

	memset(cluster->cut, 0, sizeof(cluster->cut));
	for (unsigned i = 1; i <= cluster->count; i++) {
		cluster->nodes[i].manual_sync = cluster->nodes[i].lagging_log = false;
		if (!cluster->nodes[i].raft)
			crash_or_start(world, &cluster->nodes[i]);
		node_pump(cluster, &cluster->nodes[i]);
	}
	for (int round = 0; round < 400; round++) {
		for (int guard = 0; cluster->packet_count && guard < 5000; guard++)
			net_deliver(cluster, net_take(cluster, 0));
		for (unsigned i = 1; i <= cluster->count; i++) {
			raft_tick(cluster->nodes[i].raft, 1);
			node_pump(cluster, &cluster->nodes[i]);
			check_leader(world, &cluster->nodes[i]);
		}
		if (round == 300)
			propose(world, any_node(world));
	}
	for (unsigned i = 1; i <= cluster->count; i++) {
		struct raft_status status;

		raft_status_get(cluster->nodes[i].raft, &status);
		if (status.role == RAFT_LEADER && status.term > leader.term)
			leader = status;
	}
	if (!leader.id || leader.applied != leader.last_index)
		broken(world, "no leader, or one that cannot commit, after the storm");
	for (unsigned i = 1; i <= cluster->count; i++) {
		const struct raft_conf *conf = raft_conf_get(cluster->nodes[leader.id].raft);
		struct raft_status status;

		raft_status_get(cluster->nodes[i].raft, &status);
		if (conf->outgoing.count)
			broken(world, "the joint configuration was not left");
		if ((raft_conf_is_voter(conf, i) || raft_set_has(&conf->learners, i)) &&
			status.applied != leader.applied)
			broken(world, "a member did not catch up");
	}
}

static struct world *run_seed(uint64_t seed)
{
	struct world *world = mem_new(struct world);
	struct cluster *cluster = &world->cluster;
	struct raft_options options = {
		.heartbeat_ticks = 2, .election_ticks = 10, .election_jitter_ticks = 10};

	world->seed = seed;
	rng_seed(&world->rng, seed);
	cluster->count = 1 + (unsigned)rng_below(&world->rng, 5);
	cluster->userdata = world;
	cluster->applied = on_applied;
	cluster->must_go_on = true;
	options.message_bytes_max = rng_chance(&world->rng, 500000) ? 8 : 0;
	options.window_messages_max = 1 + (uint32_t)rng_below(&world->rng, 8);
	options.uncommitted_bytes_max = rng_chance(&world->rng, 300000) ? 20 : 0;
	options.apply_bytes_max = rng_chance(&world->rng, 500000) ? 10 : 0;
	options.reads_max = 1 + (uint32_t)rng_below(&world->rng, 10);
	options.cache_bytes_max = 1 + rng_below(&world->rng, 100);
	for (uint64_t id = 1; id <= MAX(1U, cluster->count - (unsigned)rng_below(&world->rng, 2)); id++)
		assert_int_equal(raft_set_add(&options.conf.voters, id), 0);
	for (unsigned i = 1; i <= cluster->count; i++) {
		struct node *node = &cluster->nodes[i];

		node->id = i;
		node->options = options;
		node->options.id = i;
		if (seed % 2)
			node->options.log = (struct raft_log_ops){log_entries, node};
		assert_int_equal(node_start(cluster, node), 0);
	}
	for (int step = 0; step < STEPS; step++) {
		one_step(world);
		for (unsigned i = 1; i <= cluster->count; i++) {
			if (cluster->nodes[i].raft) {
				check_leader(world, &cluster->nodes[i]);
				check_answers(world, &cluster->nodes[i]);
			}
		}
		if (step % 50 == 0)
			check_logs_match(world);
	}
	check_calm(world);
	check_logs_match(world);
	return world;
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t value;

	return text && text_to_u64(slice_str(text), &value) == 0 ? value : otherwise;
}

static void the_promises_hold_in_a_storm(void **state)
{
	uint64_t first = setting("RAFT_SEED", 1),
		 count = getenv("RAFT_SEED") ? 1 : setting("RAFT_SEEDS", 2000);
	uint64_t applied = 0, leaders = 0, reads = 0;

	(void)state;
	for (uint64_t seed = first; seed < first + count; seed++) {
		struct world *world = run_seed(seed);

		applied += world->applied_last;
		leaders += world->leaders_seen;
		reads += world->reads_confirmed;
		cluster_done(&world->cluster);
		mem_free(world);
	}
	/* The storm must leave room for work, or it proves nothing. */
	assert_true(applied > 5 * count && leaders > count && (count == 1 || reads > count));
	print_message("# %llu seeds: %llu entries, %llu leaders, %llu reads\n", (unsigned long long)count,
		(unsigned long long)applied, (unsigned long long)leaders, (unsigned long long)reads);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_promises_hold_in_a_storm)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
