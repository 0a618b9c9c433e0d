/* Runs the scenarios in tests/data/raft/: commands, a line "----", and everything that the members then did.
 * A blank line ends a step; lines with # are comments. With RAFT_REWRITE=1 the files are written anew with
 * what happened, so that a reviewer reads the difference. */
#include "cluster.h"
#include "base/text.h"
#include <dirent.h>
#include <stdlib.h>

enum { WORDS_MAX = 24 };
struct words {
	char *items[WORDS_MAX];
	size_t count;
};

static struct words split(char *line)
{
	struct words words = {0};

	for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) {
		assert_true(words.count < WORDS_MAX);
		words.items[words.count++] = word;
	}
	return words;
}

static uint64_t number(const char *text)
{
	uint64_t value;

	if (text_to_u64(slice_str(text), &value) < 0)
		fail_msg("not a number: %s", text);
	return value;
}

static const char *word_at(const struct words *words, size_t at)
{
	if (at >= words->count)
		fail_msg("%s: word %zu is missing", words->items[0], at);
	return words->items[at];
}

static struct node *node_at(struct cluster *cluster, const struct words *words, size_t at)
{
	uint64_t id = number(word_at(words, at));

	assert_in_range(id, 1, NODES_MAX);
	return &cluster->nodes[id];
}

/* The value of `name=value` among the words, or NULL. */
static const char *option(const struct words *words, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 1; i < words->count; i++) {
		if (strncmp(words->items[i], name, len) == 0 && words->items[i][len] == '=')
			return words->items[i] + len + 1;
	}
	return NULL;
}

static uint64_t option_number(const struct words *words, const char *name, uint64_t otherwise)
{
	const char *text = option(words, name);

	return text ? number(text) : otherwise;
}

static void add_ids(struct raft_set *set, const char *list)
{
	for (; list && *list; list += *list == ',')
		assert_int_equal(raft_set_add(set, strtoull(list, (char **)&list, 10)), 0);
}

/* cluster [voters=1,2,3] [learners=4] [option=number ...]: starts all; node N start ... may be given before.
 */
static void do_options(struct cluster *cluster, const struct words *words, struct node *node)
{
	struct raft_options *options = &node->options;

	options->id = node->id = (uint64_t)(node - cluster->nodes);
	options->heartbeat_ticks = (uint32_t)option_number(words, "heartbeat", 1);
	options->election_ticks = (uint32_t)option_number(words, "election", 10);
	options->election_jitter_ticks = 1;
	options->message_bytes_max = option_number(words, "message_bytes", 0);
	options->window_bytes_max = option_number(words, "window_bytes", 0);
	options->window_messages_max = (uint32_t)option_number(words, "window_messages", 0);
	options->uncommitted_bytes_max = option_number(words, "uncommitted_bytes", 0);
	options->apply_bytes_max = option_number(words, "apply_bytes", 0);
	options->reads_max = (uint32_t)option_number(words, "reads", 0);
	if (option(words, "cache_bytes")) {
		options->cache_bytes_max = number(option(words, "cache_bytes"));
		options->log.entries = log_entries;
		options->log.userdata = node;
	}
	options->snapshot_index = option_number(words, "snapshot_index", 0);
	options->snapshot_term = option_number(words, "snapshot_term", 0);
	options->conf = (struct raft_conf){0};
	add_ids(&options->conf.voters, option(words, "voters"));
	add_ids(&options->conf.learners, option(words, "learners"));
	add_ids(&options->conf.outgoing, option(words, "outgoing"));
}

/* start N voters=... [log=1,1,2] [term=3] [vote=2] [commit=1]: a member whose disk holds entries of these
 * terms. */
static void do_start(struct cluster *cluster, const struct words *words)
{
	struct node *node = node_at(cluster, words, 1);
	const char *log = option(words, "log");
	int r;

	do_options(cluster, words, node);
	for (; log && *log; log += *log == ',') {
		struct raft_entry entry = {.index = node->disk_count + 1, .type = RAFT_ENTRY_DATA};
		char data[32];

		entry.term = strtoull(log, (char **)&log, 10);
		snprintf(data, sizeof(data), "e%llu.%llu", (unsigned long long)entry.index,
			(unsigned long long)entry.term);
		entry.data = raft_blob_new(data, strlen(data));
		grow(node->disk, node->disk_count, node->disk_cap);
		node->disk[node->disk_count++] = entry;
	}
	node->hard_state = (struct raft_hard_state){option_number(words, "term", 0),
		option_number(words, "vote", 0), option_number(words, "commit", 0)};
	r = node_start(cluster, node);
	if (r < 0)
		note(cluster, "%llu does not start: %s\n", (unsigned long long)node->id, strerrorname_np(-r));
}

static void do_cluster(struct cluster *cluster, const struct words *words)
{
	struct raft_conf conf = {0};

	add_ids(&conf.voters, option(words, "voters"));
	add_ids(&conf.learners, option(words, "learners"));
	for (uint32_t i = 0; i < conf.voters.count + conf.learners.count; i++) {
		uint64_t id =
			i < conf.voters.count ? conf.voters.ids[i] : conf.learners.ids[i - conf.voters.count];

		do_options(cluster, words, &cluster->nodes[id]);
		assert_int_equal(node_start(cluster, &cluster->nodes[id]), 0);
	}
}

/* Which packets a command means: `1->2`, `1->*`, `*->2`, or none: all. */
static bool packet_is(const struct packet *packet, const char *route)
{
	if (!route)
		return true;
	if (route[0] != '*' && (uint64_t)(route[0] - '0') != packet->from)
		return false;
	return route[3] == '*' || (uint64_t)(route[3] - '0') == packet->to;
}

/* deliver|drop|double|reverse [route] [count]: what is under way now, not what follows from it. */
static void do_packets(struct cluster *cluster, const struct words *words)
{
	const char *verb = words->items[0], *route = words->count > 1 ? words->items[1] : NULL;
	size_t limit = words->count > 2 ? number(words->items[2]) : SIZE_MAX, left = cluster->packet_count,
	       at = 0;
	struct packet *turned = mem_new_array(struct packet, left + 1);
	size_t turned_count = 0;

	for (; left > 0 && limit > 0; left--) {
		struct packet packet;

		if (!packet_is(&cluster->packets[at], route)) {
			at++;
			continue;
		}
		limit--;
		packet = net_take(cluster, at);
		if (strcmp(verb, "deliver") == 0) {
			net_deliver(cluster, packet);
		} else if (strcmp(verb, "drop") == 0) {
			mem_free(packet.data);
		} else if (strcmp(verb, "double") == 0) {
			net_push(cluster, packet.from, packet.to, slice_make(packet.data, packet.len));
			net_push(cluster, packet.from, packet.to, slice_make(packet.data, packet.len));
			mem_free(packet.data);
		} else {
			turned[turned_count++] = packet;
		}
	}
	while (turned_count) {
		struct packet packet = turned[--turned_count];

		net_push(cluster, packet.from, packet.to, slice_make(packet.data, packet.len));
		mem_free(packet.data);
	}
	mem_free(turned);
}

static void do_settle(struct cluster *cluster)
{
	for (int i = 0; cluster->packet_count; i++) {
		if (i > 2000)
			fail_msg("the cluster does not come to rest");
		net_deliver(cluster, net_take(cluster, 0));
	}
}

static void do_cut(struct cluster *cluster, const struct words *words)
{
	for (unsigned a = 1; a <= NODES_MAX; a++) {
		if (strcmp(words->items[0], "heal") == 0) {
			memset(cluster->cut[a], 0, sizeof(cluster->cut[a]));
			continue;
		}
		for (size_t i = 1; i < words->count; i++) {
			uint64_t b = number(words->items[i]);
			bool both = false;

			/* The named ones stay together. */
			for (size_t k = 1; k < words->count; k++)
				both = both || number(words->items[k]) == a;
			if (!both)
				cluster->cut[a][b] = cluster->cut[b][a] = true;
		}
	}
}

static const char *set_text(const struct raft_set *set, char *text, size_t size)
{
	size_t len = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < set->count; i++)
		len += (size_t)snprintf(
			text + len, size - len, "%s%llu", i ? "," : "", (unsigned long long)set->ids[i]);
	return text;
}

static void do_status(struct cluster *cluster, const struct words *words)
{
	for (unsigned i = 1; i <= NODES_MAX; i++) {
		struct node *node = &cluster->nodes[i];
		const struct raft_conf *conf;
		struct raft_status s;
		char text[128];

		if ((words->count > 1 && number(words->items[1]) != i) || !node->raft)
			continue;
		raft_status_get(node->raft, &s);
		note(cluster,
			"%u %s term=%llu vote=%llu leader=%llu log=%llu..%llu/%llu commit=%llu applied=%llu "
			"persisted=%llu",
			i, raft_role_name(s.role), (unsigned long long)s.term, (unsigned long long)s.vote,
			(unsigned long long)s.leader, (unsigned long long)s.first_index,
			(unsigned long long)s.last_index, (unsigned long long)s.last_term,
			(unsigned long long)s.commit, (unsigned long long)s.applied,
			(unsigned long long)s.persisted);
		if (s.transfer_to)
			note(cluster, " transfer_to=%llu", (unsigned long long)s.transfer_to);
		conf = raft_conf_get(node->raft);
		note(cluster, " voters=%s", set_text(&conf->voters, text, sizeof(text)));
		if (conf->outgoing.count)
			note(cluster, " outgoing=%s", set_text(&conf->outgoing, text, sizeof(text)));
		if (conf->learners.count)
			note(cluster, " learners=%s", set_text(&conf->learners, text, sizeof(text)));
		note(cluster, "\n");
	}
}

static void do_log(struct cluster *cluster, const struct words *words)
{
	struct node *node = node_at(cluster, words, 1);
	struct raft_status s;

	raft_status_get(node->raft, &s);
	note(cluster, "%llu terms", (unsigned long long)node->id);
	for (uint64_t i = s.first_index; i <= s.last_index; i++)
		note(cluster, " %llu", (unsigned long long)raft_term_of(node->raft, i));
	note(cluster, "; on disk");
	for (size_t i = 0; i < node->disk_count; i++)
		note(cluster, " %llu", (unsigned long long)node->disk[i].term);
	note(cluster, "\n");
}

static void do_progress(struct cluster *cluster, const struct words *words)
{
	struct node *node = node_at(cluster, words, 1);

	for (unsigned id = 1; id <= NODES_MAX; id++) {
		struct raft_progress p;

		if (raft_progress_get(node->raft, id, &p) < 0)
			continue;
		note(cluster, "%llu sees %u %s match=%llu next=%llu window=%u/%llu%s\n",
			(unsigned long long)node->id, id, raft_progress_state_name(p.state),
			(unsigned long long)p.match, (unsigned long long)p.next, p.window_messages,
			(unsigned long long)p.window_bytes, p.active ? "" : " silent");
	}
}

static void say(struct cluster *cluster, int r)
{
	if (r < 0)
		note(cluster, "error %s\n", strerrorname_np(-r));
}

/* propose N text ... ; a text like x*1000 is that many x. */
static void do_propose(struct cluster *cluster, const struct words *words)
{
	struct node *node = node_at(cluster, words, 1);
	const char *texts[WORDS_MAX];
	char *large[WORDS_MAX] = {0};
	size_t count = words->count - 2;
	uint64_t id = 0;
	int r;

	for (size_t i = 0; i < count; i++) {
		const char *star = strchr(words->items[i + 2], '*');

		texts[i] = words->items[i + 2];
		if (star) {
			size_t len = number(star + 1);

			large[i] = mem_alloc(len + 1);
			memset(large[i], texts[i][0], len);
			large[i][len] = '\0';
			texts[i] = large[i];
		}
	}
	r = node_propose(cluster, node, texts, count, &id);
	if (r < 0)
		say(cluster, r);
	else
		note(cluster, "%s %llu\n", r == RAFT_FORWARDED ? "forwarded as" : "appended at",
			(unsigned long long)id);
	for (size_t i = 0; i < count; i++)
		mem_free(large[i]);
}

/* read N context ... ; all of them in one turn */
static void do_read(struct cluster *cluster, const struct words *words)
{
	struct node *node = node_at(cluster, words, 1);

	for (size_t i = 2; i < words->count; i++)
		say(cluster, raft_read_index(node->raft, number(words->items[i])));
}

/* conf N [+4] [~5 learner] [-3] ; nothing but N: leave */
static void do_conf(struct cluster *cluster, const struct words *words)
{
	struct raft_conf_change change = {.context = SLICE_LITERAL("urls")};
	uint64_t index;

	for (size_t i = 2; i < words->count; i++) {
		char op = words->items[i][0];

		change.steps[change.step_count].op = op == '+'	 ? RAFT_CONF_ADD_VOTER
						     : op == '~' ? RAFT_CONF_ADD_LEARNER
								 : RAFT_CONF_REMOVE;
		change.steps[change.step_count++].id = number(words->items[i] + 1);
	}
	say(cluster, raft_propose_conf(node_at(cluster, words, 1)->raft, &change, &index));
}

/* step N type=.. from=.. term=.. [index log_term commit context reject hint_index hint_term entries=t,t,...]
 */
static void do_step(struct cluster *cluster, const struct words *words)
{
	struct node *node = node_at(cluster, words, 1);
	struct raft_message message = {.to = option_number(words, "to", node->id), .type = RAFT_MSG_TYPE_MAX};
	struct raft_entry entries[16] = {0};
	const char *terms = option(words, "entries");

	for (int i = 0; i < RAFT_MSG_TYPE_MAX; i++) {
		if (strcmp(raft_message_name((enum raft_message_type)i), option(words, "type")) == 0)
			message.type = (enum raft_message_type)i;
	}
	message.from = option_number(words, "from", 0);
	message.term = option_number(words, "term", 0);
	message.index = option_number(words, "index", 0);
	message.log_term = option_number(words, "log_term", 0);
	message.commit = option_number(words, "commit", 0);
	message.context = option_number(words, "context", 0);
	message.reject = option_number(words, "reject", 0);
	message.hint_index = option_number(words, "hint_index", 0);
	message.hint_term = option_number(words, "hint_term", 0);
	message.entries = entries;
	for (; terms && *terms; terms += *terms == ',') {
		entries[message.entry_count] =
			(struct raft_entry){.index = message.index + 1 + message.entry_count,
				.type = option_number(words, "conf", 0) ? RAFT_ENTRY_CONF : RAFT_ENTRY_DATA};
		entries[message.entry_count++].term = strtoull(terms, (char **)&terms, 10);
	}
	raft_step(node->raft, &message);
}

static void do_install(struct cluster *cluster, const struct words *words)
{
	struct node *node = node_at(cluster, words, 1);
	struct raft_conf conf = *raft_conf_get(node->raft);
	uint64_t index = option_number(words, "index", 0);
	int r = raft_snapshot_install(node->raft, option_number(words, "from", 0),
		option_number(words, "leader_term", 0), index, option_number(words, "term", 0), &conf);

	say(cluster, r);
	if (r < 0)
		return;
	node->applied = index;
	/* The owner's checkpoint stands for these. */
	while (node->disk_count < index) {
		grow(node->disk, node->disk_count, node->disk_cap);
		node->disk[node->disk_count] = (struct raft_entry){.index = node->disk_count + 1, .term = 1};
		node->disk_count++;
	}
}

/* The commands that are about one member that runs: the first word is the command, the second the member. */
static bool run_member_command(struct cluster *cluster, const struct words *words, const char *verb)
{
	struct node *node = words->count > 1 && words->items[1][0] >= '1' && words->items[1][0] <= '9'
				    ? node_at(cluster, words, 1)
				    : NULL;

	if (!node)
		return false;
	if (strcmp(verb, "tick") == 0)
		raft_tick(node->raft, (uint32_t)(words->count > 2 ? number(words->items[2]) : 1));
	else if (strcmp(verb, "due") == 0)
		note(cluster, "due in %u\n", raft_ticks_until_due(node->raft));
	else if (strcmp(verb, "campaign") == 0)
		raft_campaign(node->raft);
	else if (strcmp(verb, "propose") == 0)
		do_propose(cluster, words);
	else if (strcmp(verb, "conf") == 0)
		do_conf(cluster, words);
	else if (strcmp(verb, "read") == 0)
		do_read(cluster, words);
	else if (strcmp(verb, "transfer") == 0)
		say(cluster, raft_transfer_leader(node->raft, number(word_at(words, 2))));
	else if (strcmp(verb, "unreachable") == 0)
		raft_unreachable(node->raft, number(word_at(words, 2)));
	else if (strcmp(verb, "suspect") == 0)
		raft_suspect(node->raft, number(word_at(words, 2)));
	else if (strcmp(verb, "compact") == 0)
		raft_compact(node->raft, number(word_at(words, 2)));
	else if (strcmp(verb, "snapshot-refused") == 0)
		raft_snapshot_refused(node->raft, number(word_at(words, 2)));
	else if (strcmp(verb, "snapshot-sent") == 0)
		raft_snapshot_sent(node->raft, number(word_at(words, 2)), number(word_at(words, 3)));
	else if (strcmp(verb, "install") == 0)
		do_install(cluster, words);
	else if (strcmp(verb, "step") == 0)
		do_step(cluster, words);
	else if (strcmp(verb, "hold-disk") == 0)
		node->manual_sync = true;
	else if (strcmp(verb, "free-disk") == 0)
		node->manual_sync = false;
	else if (strcmp(verb, "sync") == 0)
		node_sync(cluster, node, words->count > 2 ? number(words->items[2]) : node->pending_count,
			true);
	else if (strcmp(verb, "slow-log") == 0)
		node->lagging_log = number(word_at(words, 2));
	else if (strcmp(verb, "gone-log") == 0)
		node->log_gone = number(word_at(words, 2));
	else if (strcmp(verb, "crash") == 0)
		node_crash(cluster, node, words->count > 2 ? number(words->items[2]) : 0);
	else if (strcmp(verb, "lose") == 0)
		node_lose(cluster, node, number(word_at(words, 2)));
	else if (strcmp(verb, "wipe") == 0)
		node_wipe(cluster, node);
	else if (strcmp(verb, "restart") == 0)
		say(cluster, node_start(cluster, node));
	else if (strcmp(verb, "log") == 0)
		do_log(cluster, words);
	else if (strcmp(verb, "progress") == 0)
		do_progress(cluster, words);
	else
		return false;
	node_pump(cluster, node);
	return true;
}

static void run_command(struct cluster *cluster, char *line)
{
	struct words words = split(line);
	const char *verb = words.items[0];
	struct buf *out = cluster->out;

	if (strcmp(verb, "quiet") == 0) { /* quiet COMMAND ...: what happens is not printed */
		memmove(words.items, words.items + 1, --words.count * sizeof(*words.items));
		verb = words.items[0];
		cluster->out = NULL;
	}
	if (strcmp(verb, "cluster") == 0)
		do_cluster(cluster, &words);
	else if (strcmp(verb, "start") == 0)
		do_start(cluster, &words);
	else if (strcmp(verb, "settle") == 0)
		do_settle(cluster);
	else if (strcmp(verb, "cut") == 0 || strcmp(verb, "heal") == 0)
		do_cut(cluster, &words);
	else if (strcmp(verb, "deliver") == 0 || strcmp(verb, "drop") == 0 || strcmp(verb, "double") == 0 ||
		 strcmp(verb, "reverse") == 0)
		do_packets(cluster, &words);
	else if (strcmp(verb, "status") == 0)
		do_status(cluster, &words);
	else if (!run_member_command(cluster, &words, verb))
		fail_msg("unknown command: %s", verb);
	cluster->out = out;
}

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "re");
	struct buf text = BUF_INIT(16 << 20);
	char part[4096];
	size_t got;

	if (!file)
		fail_msg("%s: %s", path, strerror(errno));
	while ((got = fread(part, 1, sizeof(part), file)) > 0)
		buf_add(&text, part, got);
	fclose(file);
	return buf_take(&text, NULL);
}

static void run_scenario(void **state)
{
	const char *path = *state;
	_cleanup_free_ char *text = read_file(path);
	_cleanup_buf_ struct buf result = BUF_INIT(16 << 20), happened = BUF_INIT(16 << 20);
	struct cluster cluster = {.out = &happened};
	const char *rewrite = getenv("RAFT_REWRITE");
	bool in_output = false;

	/* strtok() is used inside a line, so lines are cut by hand. */
	for (char *line = text, *end; line && *line; line = end) {
		size_t len = strcspn(line, "\n");

		end = line[len] ? line + len + 1 : NULL;
		line[len] = '\0';
		if (in_output) {
			in_output = len > 0;
			continue;
		}
		buf_printf(&result, "%s\n", line);
		if (strcmp(line, "----") == 0) {
			buf_add_slice(&result, buf_slice(&happened));
			buf_add_char(&result, '\n');
			buf_clear(&happened);
			in_output = true;
		} else if (len && line[0] != '#') {
			run_command(&cluster, line);
		}
	}
	cluster_done(&cluster);
	assert_false(result.failed || happened.failed);
	if (rewrite && strcmp(rewrite, "1") == 0) {
		FILE *file = fopen(path, "we");

		assert_non_null(file);
		assert_int_equal(fwrite(result.data, 1, result.len, file), result.len);
		assert_int_equal(fclose(file), 0);
	} else {
		_cleanup_free_ char *expected = read_file(path);

		assert_string_equal(expected, buf_text(&result));
	}
}

static int is_scenario(const struct dirent *entry)
{
	return slice_ends_with(slice_str(entry->d_name), SLICE_LITERAL(".txt"));
}

int main(void)
{
	struct dirent **files;
	int count = scandir(TEST_DATA_DIR "/raft", &files, is_scenario, alphasort);
	struct CMUnitTest *tests;
	int r;

	if (count <= 0) {
		printf("Bail out! no scenarios in " TEST_DATA_DIR "/raft\n");
		return 1;
	}
	tests = mem_new_array(struct CMUnitTest, (size_t)count);
	for (int i = 0; i < count; i++)
		tests[i] = (struct CMUnitTest){
			.name = mem_strndup(files[i]->d_name, strlen(files[i]->d_name) - 4),
			.test_func = run_scenario,
			.initial_state = mem_printf("%s/raft/%s", TEST_DATA_DIR, files[i]->d_name)};
	r = _cmocka_run_group_tests("raft scenarios", tests, (size_t)count, NULL, NULL);
	for (int i = 0; i < count; i++) {
		mem_free(tests[i].initial_state);
		free((char *)(uintptr_t)tests[i].name);
		free(files[i]);
	}
	free(files);
	mem_free(tests);
	return r;
}
