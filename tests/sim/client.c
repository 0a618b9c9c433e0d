/* Clients: each has one request under way at any member, and remembers what it was told. What came of all of
 * them is checked at the end. */
#include "sim.h"
#include "base/hash.h"
#include "base/memory.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define CLIENT_PATIENCE_NS (9 * NS_PER_S)
#define OPS_MAX 2500			     /* the checker's work grows with the square */
#define LARGE_BYTES_MAX (UINT64_C(48) << 20) /* proposed by a run of large values */
#define CHECK_STEPS_MAX 60000000

static void value_text(const struct world *world, uint32_t value, struct buf *out)
{
	buf_printf(out, "v%" PRIu32 ":", value);
	buf_add_fill(out, 'x', (size_t)(hash_u64(value) % world->profile.value_bytes));
}

static struct op *op_new(struct world *world, unsigned client, unsigned member)
{
	struct op *op = mem_new(struct op);

	if (world->ops_len == world->ops_cap) {
		world->ops_cap = world->ops_cap ? world->ops_cap * 2 : 256;
		world->ops = mem_reallocarray(world->ops, world->ops_cap, sizeof(*world->ops));
	}
	world->ops[world->ops_len++] = op;
	op->client = client;
	op->member = member;
	op->fault = FAULT_MAX;
	op->life = world->members[member].life;
	op->lin.call_ns = world->now_ns;
	op->lin.result = LIN_UNKNOWN;
	op->lin.seen = LIN_NOT_TOLD;
	return op;
}

static uint32_t new_value(struct world *world)
{
	world->lifetimes =
		mem_reallocarray(world->lifetimes, world->next_value + 1, sizeof(*world->lifetimes));
	world->lifetimes[world->next_value] = (struct lifetime){0};
	return world->next_value++;
}

static void op_done(struct world *world, struct op *op)
{
	assert(op->state == OP_RUNNING);
	op->state = OP_DONE;
	op->lin.return_ns = world->now_ns;
	if (op->client < world->profile.clients) {
		struct client *client = &world->clients[op->client];

		client->op = NULL;
		world_at(world, world->now_ns + 1000 + world_rand(world, world->profile.think_ns),
			EVENT_CLIENT, 0, client->number);
	}
	world_trace(world, op->lin.kind * 16 + op->lin.result, op->lin.seen);
}

static void choose(struct world *world, struct client *client, struct op *op)
{
	static const enum lin_kind kinds[] = {LIN_GET, LIN_GET, LIN_GET, LIN_GET, LIN_SET, LIN_SET, LIN_SET,
		LIN_CAS, LIN_CAS, LIN_CAS, LIN_CREATE, LIN_CREATE, LIN_UPDATE, LIN_CAD, LIN_DELETE};
	uint64_t dice = rng_below(&world->rng, 12);

	op->key = (unsigned)rng_below(&world->rng, world->profile.keys);
	if (dice == 0) {
		op->in_order = true;
		op->lin.kind = LIN_CREATE;
	} else if (dice == 1 && world->profile.expiry) {
		op->expiring = true;
		op->lin.kind = LIN_SET;
	} else {
		op->lin.kind = kinds[rng_below(&world->rng, ARRAY_LEN(kinds))];
	}
	if (op->lin.kind == LIN_CAS || op->lin.kind == LIN_CAD)
		op->lin.expect = client->last_seen[op->key];
	if ((op->lin.kind == LIN_CAS || op->lin.kind == LIN_CAD) && !op->lin.expect)
		op->lin.kind = LIN_GET;
	if (op->lin.kind != LIN_GET && op->lin.kind != LIN_CAD && op->lin.kind != LIN_DELETE)
		op->lin.value = new_value(world);
}

static void op_path(const struct op *op, char *out, size_t size)
{
	if (op->in_order)
		(void)snprintf(out, size, STORE_USER_PREFIX "/q");
	else
		(void)snprintf(out, size, STORE_USER_PREFIX "/%s%u", op->expiring ? "ttl/" : "k", op->key);
}

static void set_lifetime(struct world *world, struct op *op, struct store_command *command)
{
	int64_t ttl_ns = world_rand(world, 3 * NS_PER_S);
	struct node_status status;

	node_get_status(world->members[op->member].node, &status);
	command->has_expiry = true;
	command->expires_ns = op->expires_ns = command->time_ns + ttl_ns;
	world->lifetimes[op->lin.value] = (struct lifetime){
		.expires_ns = op->expires_ns,
		.set_ns = world->now_ns,
		.ttl_ns = ttl_ns,
		.term = status.role == NODE_LEADER ? status.term : 0,
	};
}

static int op_submit(struct world *world, struct op *op)
{
	static const enum store_op ops[LIN_KIND_MAX] = {
		[LIN_SET] = STORE_OP_SET,
		[LIN_CREATE] = STORE_OP_CREATE,
		[LIN_UPDATE] = STORE_OP_UPDATE,
		[LIN_CAS] = STORE_OP_COMPARE_AND_SWAP,
		[LIN_CAD] = STORE_OP_COMPARE_AND_DELETE,
		[LIN_DELETE] = STORE_OP_DELETE,
	};
	struct node *node = world->members[op->member].node;
	struct store_command command = {.op = ops[op->lin.kind], .in_order = op->in_order};
	_cleanup_buf_ struct buf value = BUF_INIT(0), expect = BUF_INIT(0), bytes = BUF_INIT(0);
	char path[64];

	if (op->lin.kind == LIN_GET)
		return node_read_index(node, op);
	op_path(op, path, sizeof(path));
	command.path = slice_str(path);
	command.time_ns = node_clock_ns(node);
	if (op->expiring)
		set_lifetime(world, op, &command);
	if (op->lin.value)
		value_text(world, op->lin.value, &value);
	if (op->lin.expect)
		value_text(world, op->lin.expect, &expect);
	command.value = buf_slice(&value);
	command.prev_value = buf_slice(&expect);
	store_command_encode(&command, &bytes);
	world->bulk_needed += bytes.len;
	return node_propose(node, buf_slice(&bytes), op);
}

static void give_up(struct world *world, struct client *client)
{
	struct op *op = client->op;
	struct member *member = &world->members[op->member];

	if (member->node && member->life == op->life)
		node_forget(member->node, op);
	op->lin.result = LIN_UNKNOWN;
	world->summary->ops_unknown++;
	op_done(world, op);
}

static int start_op(struct world *world, struct op *op)
{
	struct member *member = &world->members[op->member];
	int r = op_submit(world, op);

	world_trace(world, 1000 + op->lin.kind, op->lin.value);
	if (r < 0) {
		if (r != -EBUSY && r != -ESHUTDOWN && r != -ENOSPC)
			world_finding(world, "a request was refused: %d", r);
		op->lin.kind = LIN_GET; /* never happened */
		world->summary->ops_refused++;
		op_done(world, op);
		return r;
	}
	member_schedule(member, world->now_ns + world_rand(world, 50000));
	return 0;
}

void client_step(struct world *world, struct client *client)
{
	struct member *member = &world->members[rng_below(&world->rng, world->member_count)];

	if (client->op) {
		if (world->now_ns < client->give_up_ns)
			return; /* an old timer */
		if (rng_below(&world->rng, 2))
			world->summary->faults[FAULT_CLIENT_LEFT]++;
		give_up(world, client);
		return;
	}
	if (world->calm || world->ops_len >= OPS_MAX ||
		(world->profile.large && world->bulk_needed >= LARGE_BYTES_MAX))
		return;
	if (!member->node || member->paused_until_ns > world->now_ns) {
		world_at(world, world->now_ns + 5 * NS_PER_MS + world->profile.think_ns, EVENT_CLIENT, 0,
			client->number);
		return;
	}
	client->op = op_new(world, client->number, member->number);
	choose(world, client, client->op);
	client->give_up_ns =
		world->now_ns +
		(rng_below(&world->rng, 50) ? CLIENT_PATIENCE_NS : 1 + world_rand(world, 20 * NS_PER_MS));
	world_at(world, client->give_up_ns, EVENT_CLIENT, 0, client->number);
	(void)start_op(world, client->op);
}

static uint32_t parse_value(const char *text)
{
	return text && *text == 'v' ? (uint32_t)strtoul(text + 1, NULL, 10) : LIN_ABSENT;
}

static uint32_t previous_value(struct slice json)
{
	const char *prev = memmem(json.data, json.len, "\"prevNode\"", 10);
	const char *value = prev ? strstr(prev, "\"value\":\"") : NULL;

	return value ? parse_value(value + 9) : LIN_ABSENT;
}

static void take_result(struct world *world, struct op *op, const struct store_result *result)
{
	const char *other = result->cause ? strstr(result->cause, " != ") : NULL;
	struct slice json;

	switch (result->error) {
	case STORE_OK:
		op->lin.result = LIN_OK;
		json = store_event_json(result->event);
		op->lin.seen = op->in_order ? LIN_ABSENT : previous_value(json);
		op->event_hash = hash_bytes(json.data, json.len, 7) | 1;
		op->index = op->lin.order = result->index;
		break;
	case STORE_KEY_NOT_FOUND:
		op->lin.result = LIN_MISSING;
		op->lin.seen = LIN_ABSENT;
		break;
	case STORE_NODE_EXISTS:
		op->lin.result = LIN_EXISTS;
		break;
	case STORE_COMPARE_FAILED:
		op->lin.result = LIN_MISMATCH;
		op->lin.seen = other ? parse_value(other + 4) : LIN_NOT_TOLD;
		break;
	default:
		world_finding(world, "a request was answered with error %d", result->error);
	}
}

static void take_read(struct world *world, struct op *op, struct node *node)
{
	struct slice value;
	char path[64];

	op_path(op, path, sizeof(path));
	op->lin.result = LIN_OK;
	op->lin.seen =
		store_peek(node_store(node), slice_str(path), &value) ? parse_value(value.data) : LIN_ABSENT;
	world->summary->reads++;
}

void client_reply(struct member *member, struct op *op, const struct node_reply *reply)
{
	struct world *world = member->world;

	if (op->state != OP_RUNNING || op->life != member->life) {
		world_finding(world, "a request was answered twice, or after it was given up");
		return;
	}
	if (op->fault != FAULT_MAX) {
		operator_reply(world, op, reply);
		return;
	}
	if (reply->error != NODE_OK) {
		op->lin.result = LIN_UNKNOWN;
		world->summary->ops_unknown++;
	} else {
		if (op->lin.kind == LIN_GET)
			take_read(world, op, member->node);
		else
			take_result(world, op, reply->result);
		if (op->client < world->profile.clients && !op->in_order && !op->expiring)
			world->clients[op->client].last_seen[op->key] =
				op->lin.result == LIN_OK && op->lin.value ? op->lin.value
				: op->lin.seen != LIN_NOT_TOLD		  ? op->lin.seen
									  : LIN_ABSENT;
		world->summary->ops_ok++;
	}
	op_done(world, op);
}

struct op *client_change(struct world *world, unsigned member, enum fault fault)
{
	struct op *op = op_new(world, CLIENTS_MAX + 1, member);

	op->lin.kind = LIN_GET; /* none of a key's history: it stays without an answer */
	op->fault = fault;
	return op;
}

void client_lost_member(struct world *world, const struct member *member)
{
	for (size_t i = 0; i < world->profile.clients; i++)
		if (world->clients[i].op && world->clients[i].op->member == member->number)
			give_up(world, &world->clients[i]);
}

/* A member may refuse it for a moment, when what another one sent during its alarm comes late. */
void client_final_writes(struct world *world)
{
	for (unsigned m = 0; m < world->member_count; m++) {
		struct member *member = &world->members[m];
		struct op *op;

		if (!member->owes_write || !member->node)
			continue;
		op = op_new(world, CLIENTS_MAX, m);
		op->lin.kind = LIN_SET;
		op->lin.value = new_value(world);
		member->owes_write = start_op(world, op) == -ENOSPC;
		op->repeated = member->owes_write;
	}
}

void client_final_reads(struct world *world)
{
	for (unsigned m = 0; m < world->member_count; m++) {
		if (!member_counts(&world->members[m]))
			continue;
		if (!world->members[m].node) {
			world_finding(world, "member %u does not run, long after the faults were over", m);
			return;
		}
		for (unsigned key = 0; key < world->profile.keys; key++) {
			struct op *op = op_new(world, CLIENTS_MAX, m);

			op->key = key;
			op->lin.kind = LIN_GET;
			(void)start_op(world, op);
		}
		world->members[m].owes_write = true;
	}
	client_final_writes(world);
}

static void check_key(struct world *world, unsigned key)
{
	struct lin_op *history = mem_new_array(struct lin_op, world->ops_len + 1);
	size_t *numbers = mem_new_array(size_t, world->ops_len + 1), count = 0, stuck = 0;
	enum lin_verdict verdict;

	for (size_t i = 0; i < world->ops_len; i++) {
		const struct op *op = world->ops[i];

		if (op->key != key || op->fault != FAULT_MAX || op->in_order || op->expiring ||
			(op->lin.kind == LIN_GET && op->lin.result == LIN_UNKNOWN))
			continue;
		numbers[count] = i;
		history[count++] = op->lin;
	}
	verdict = lin_check(history, count, CHECK_STEPS_MAX, &stuck);
	if (verdict == LIN_UNDECIDED) {
		world->summary->undecided++;
		printf("seed %" PRIu64 ": key %u: undecided, %zu operations\n", world->seed, key, count);
	}
	if (verdict != LIN_FINE) {
		for (size_t i = 0; i < count; i++)
			world_log(world,
				"key %u: op %zu client %u member %u kind %d result %d value %u expect %u "
				"seen %d %" PRId64 "-%" PRId64,
				key, numbers[i], world->ops[numbers[i]]->client,
				world->ops[numbers[i]]->member, history[i].kind, history[i].result,
				history[i].value, history[i].expect, (int)history[i].seen, history[i].call_ns,
				history[i].return_ns);
	}
	if (verdict == LIN_VIOLATION)
		world_finding(world, "key %u is not linearizable, near operation %zu", key, numbers[stuck]);
	free(history);
	free(numbers);
}

/* In-order entries: what was acknowledged is there under its name; no value is there twice or from nowhere.
 */
static void check_queue(struct world *world, const struct member *member)
{
	const struct store *store = node_store(member->node);
	unsigned char *found = mem_calloc(1, world->next_value + 1);
	struct slice dir = slice_str(STORE_USER_PREFIX "/q"), name = slice_str(""), value;
	char path[128], last[64] = "";
	bool is_dir;

	while (store_next_child(store, dir, slice_str(last), &name, &is_dir)) {
		uint32_t number;

		(void)snprintf(last, sizeof(last), "%.*s", (int)name.len, name.data);
		(void)snprintf(path, sizeof(path), "%.*s/%s", (int)dir.len, dir.data, last);
		number = store_peek(store, slice_str(path), &value) ? parse_value(value.data) : LIN_ABSENT;
		if (number == LIN_ABSENT || number >= world->next_value)
			world_finding(world, "the queue holds a value from nowhere");
		else if (found[number]++)
			world_finding(
				world, "v%u is in the queue twice: a request took effect twice", number);
	}
	for (size_t i = 0; i < world->ops_len; i++) {
		const struct op *op = world->ops[i];

		if (!op->in_order || op->lin.result != LIN_OK)
			continue;
		(void)snprintf(path, sizeof(path), "%.*s/%020" PRIu64, (int)dir.len, dir.data, op->index);
		if (!store_peek(store, slice_str(path), &value) || parse_value(value.data) != op->lin.value)
			world_finding(world, "acknowledged v%u is missing on member %u", op->lin.value,
				member->number);
	}
	free(found);
}

/* A lifetime begins when it is applied, so the store's own record says when it ends. */
static void check_expired(struct world *world, const struct member *member)
{
	const struct store *store = node_store(member->node);
	int64_t next_ns = store_next_expiry_ns(store);
	struct slice value;
	char path[64];

	for (unsigned key = 0; key < world->profile.keys; key++) {
		(void)snprintf(path, sizeof(path), STORE_USER_PREFIX "/ttl/%u", key);
		if (!store_peek(store, slice_str(path), &value))
			continue;
		if (next_ns == INT64_MAX || next_ns < node_clock_ns(member->node) - 2 * NS_PER_S)
			world_finding(world, "v%u on member %u did not expire", parse_value(value.data),
				member->number);
	}
}

/* The member took over a checkpoint meanwhile: it cannot know what became of what it had proposed. */
static bool skipped(const struct world *world, const struct op *op)
{
	return op->state == OP_DONE && op->lin.kind != LIN_GET &&
	       world->members[op->member].replaced_at_ns >= op->lin.call_ns;
}

bool clients_rest(const struct world *world)
{
	for (unsigned i = 0; i < world->profile.clients; i++)
		if (world->clients[i].op)
			return false;
	for (size_t i = world->ops_len; i-- > 0 && world->ops[i]->client == CLIENTS_MAX;)
		if (world->ops[i]->state == OP_RUNNING)
			return false;
	for (unsigned m = 0; m < world->member_count; m++)
		if (world->members[m].owes_write && world->members[m].node)
			return false;
	return true;
}

static void check_final_reads(struct world *world)
{
	for (unsigned m = 0; m < world->member_count; m++)
		if (world->members[m].owes_write && member_counts(&world->members[m]))
			world_finding(world, "member %u takes no writes, long after the faults were over", m);
	for (size_t i = 0; i < world->ops_len; i++)
		if (world->ops[i]->client == CLIENTS_MAX && !world->ops[i]->repeated &&
			(world->ops[i]->state != OP_DONE || world->ops[i]->lin.result == LIN_UNKNOWN) &&
			!skipped(world, world->ops[i]) && !world->members[world->ops[i]->member].removed &&
			world->members[world->ops[i]->member].moved_at_ns <= world->ops[i]->lin.call_ns)
			world_finding(world,
				"no progress after the faults were over: a request at member %u is not "
				"answered",
				world->ops[i]->member);
}

static void check_member(struct world *world, const struct member *member, struct node_status *first)
{
	struct node_status status;

	if (!member->node) {
		world_finding(world, "member %u is not running at the end", member->number);
		return;
	}
	node_get_status(member->node, &status);
	if (!first->id) {
		*first = status;
		world->summary->terms += status.term;
		world->summary->entries += status.last;
	}
	if (status.applied != first->applied || status.leader != first->leader || !status.leader)
		world_finding(world,
			"member %u is at index %" PRIu64 " under %" PRIx64 ", another at %" PRIu64
			" under %" PRIx64,
			member->number, status.applied, status.leader, first->applied, first->leader);
	check_queue(world, member);
	check_expired(world, member);
}

void client_check(struct world *world)
{
	struct node_status first = {0};

	check_final_reads(world);
	if (!operator_rests(world))
		world_finding(
			world, "a member that was added got no vote, or a change of members did not end");
	for (unsigned m = 0; m < world->member_count && !world->finding; m++)
		if (member_counts(&world->members[m]))
			check_member(world, &world->members[m], &first);
	for (unsigned key = 0; key < world->profile.keys && !world->finding; key++)
		check_key(world, key);
}
