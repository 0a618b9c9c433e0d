/* What a member does with bytes from its peers, in every role. The input is a run of steps, a byte of kind
 * and what belongs to it: raw frames; payloads in a sound envelope; raft messages and checkpoint messages put
 * together from small numbers around the member's own term, indices and contexts, since what is far off goes
 * no further than the first check; time; requests of clients; a disk that answers late; a restart from what
 * the disk holds, or from what is left of it. */
#include "log_disk.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/time.h"
#include "base/wire.h"
#include "node/internal.h"
#include <errno.h>
#include <stdlib.h>

enum { CONTEXTS = 8, ENTRIES_MAX = 4, REQUESTS_MAX = 200 };

struct fake {
	struct env env;
	int64_t now_ns;
	const struct wal_plan *plans[2];
	bool disk_waits;
	struct fuzz_disk disk;
	struct node *node;
	uint64_t contexts[CONTEXTS]; /* of the messages sent last */
	size_t contexts_len;
	char checkpoint_head[37]; /* of the checkpoint message sent last */
	bool has_checkpoint_head;
	unsigned int requests, replies;
};

static struct fake *fake_of(struct env *env)
{
	return (struct fake *)env;
}

static int64_t fake_clock(struct env *env)
{
	return fake_of(env)->now_ns;
}

static void fake_random(struct env *env, void *ret_bytes, size_t len)
{
	(void)env;
	memset(ret_bytes, 7, len);
}

/* ---- The disk: files in memory ---- */

static uint64_t fake_disk_room(struct env *env)
{
	(void)env;
	return UINT64_MAX;
}

static int fake_list(struct env *env, void (*fn)(void *, const char *, uint64_t), void *arg)
{
	return fuzz_disk_list(&fake_of(env)->disk, fn, arg);
}

static int fake_read_range(struct env *env, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	return fuzz_disk_read_range(&fake_of(env)->disk, name, offset, len, out);
}

static int fake_read(struct env *env, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	return fuzz_disk_read(&fake_of(env)->disk, name, max_bytes, ret_data, ret_len);
}

static void fake_submit(struct env *env, const struct wal_plan *plan)
{
	if (fake_of(env)->plans[plan->background])
		abort();
	fake_of(env)->plans[plan->background] = plan;
}

/* ---- What leaves ---- */

/* What a member itself sends must be what it understands. */
static void fake_send(struct env *env, uint64_t to, struct slice bytes, bool bulk)
{
	struct fake *fake = fake_of(env);
	struct node_envelope envelope;
	struct raft_message message;

	(void)bulk;
	if (node_envelope_decode(bytes, &envelope) < 0 || envelope.to != to)
		abort();
	if (envelope.kind == NODE_ENVELOPE_CHECKPOINT) {
		memcpy(fake->checkpoint_head, envelope.payload.data, sizeof(fake->checkpoint_head));
		fake->has_checkpoint_head = true;
		return;
	}
	if (raft_message_decode(envelope.payload, &message) < 0)
		abort();
	fake->contexts[fake->contexts_len++ % CONTEXTS] = message.context;
	raft_message_done(&message);
}

static void fake_reply(struct env *env, void *request, const struct node_reply *reply)
{
	struct fake *fake = fake_of(env);

	if (request != fake || reply->error >= NODE_ERROR_MAX || !reply->error == !!reply->error)
		abort();
	if (++fake->replies > fake->requests)
		abort();
}

static void fake_changed(struct env *env)
{
	(void)env;
}

static void fake_leaving(struct env *env, struct store *store)
{
	(void)env, (void)store;
}

static void fake_note(struct env *env, int level, const char *text)
{
	(void)env, (void)level;
	if (!*text)
		abort();
}

static const struct env_ops fake_ops = {
	.mono_ns = fake_clock,
	.wall_ns = fake_clock,
	.random = fake_random,
	.disk_list = fake_list,
	.disk_read = fake_read,
	.disk_read_range = fake_read_range,
	.disk_room = fake_disk_room,
	.disk_submit = fake_submit,
	.send = fake_send,
	.reply = fake_reply,
	.members_changed = fake_changed,
	.store_leaving = fake_leaving,
	.note = fake_note,
};

static void turn(struct fake *fake)
{
	for (unsigned rounds = 0; rounds < 4; rounds++) {
		node_turn(fake->node);
		(void)node_deadline_ns(fake->node);
		for (unsigned i = 0; i < 2 && !fake->disk_waits; i++) {
			const struct wal_plan *plan = fake->plans[i];

			fake->plans[i] = NULL;
			if (plan)
				node_disk_done(fake->node, plan, log_disk_run(&fake->disk, plan));
		}
	}
}

/* ---- Steps ---- */

static void check_round_trip(struct slice bytes)
{
	struct raft_message message, again;
	_cleanup_buf_ struct buf out = BUF_INIT(0), twice = BUF_INIT(0);

	if (raft_message_decode(bytes, &message) < 0)
		return;
	raft_message_encode(&message, &out);
	if (raft_message_decode(buf_slice(&out), &again) < 0)
		abort();
	raft_message_encode(&again, &twice);
	if (!slice_equal(buf_slice(&out), buf_slice(&twice)))
		abort();
	raft_message_done(&message);
	raft_message_done(&again);
}

static void receive(
	struct fake *fake, uint64_t from, enum node_envelope_kind kind, bool clock, struct slice payload)
{
	struct node_envelope envelope = {
		.kind = kind, .cluster_id = 1, .from = from, .to = 1, .clock_ns = clock ? fake->now_ns : 0};
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	node_envelope_encode(&envelope, &out);
	buf_add_slice(&out, payload);
	(void)node_receive(fake->node, from, buf_slice(&out));
}

static struct slice take_bytes(struct wire_reader *input, size_t max)
{
	size_t len = MIN((size_t)wire_read_u16(input), max);
	struct slice bytes;

	len = MIN(len, wire_left(input));
	bytes = slice_make(input->at, len);
	input->at += len;
	return bytes;
}

/* A number a little above or below; a byte of 0 is the number itself. */
static uint64_t around(struct wire_reader *input, uint64_t number)
{
	int8_t by = (int8_t)wire_read_u8(input);

	return by < 0 && number < (uint64_t)-by ? 0 : number + (uint64_t)(int64_t)by;
}

/* An entry as a leader would make it: a command, an empty one, or bytes that are none. */
static struct raft_entry make_entry(struct wire_reader *input, uint64_t index, uint64_t term)
{
	struct raft_entry entry = {.index = index, .term = around(input, term)};
	uint8_t how = wire_read_u8(input);
	struct store_command command = {
		.op = STORE_OP_SET, .path = slice_str("/1/a"), .value = slice_str("v"), .time_ns = 1000};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	entry.type = how % RAFT_ENTRY_TYPE_MAX;
	if (how & 128)
		buf_add_slice(&bytes, take_bytes(input, 300));
	else if (entry.type == RAFT_ENTRY_DATA)
		store_command_encode(&command, &bytes);
	if (bytes.len)
		entry.data = raft_blob_new(bytes.data, bytes.len);
	return entry;
}

static void step_raft_message(struct fake *fake, struct wire_reader *input)
{
	struct raft_entry entries[ENTRIES_MAX];
	struct raft_message message = {.to = 1, .entries = entries};
	struct raft_status status;
	uint8_t flags;
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	raft_status_get(fake->node->raft, &status);
	message.type = wire_read_u8(input) % RAFT_MSG_TYPE_MAX;
	flags = wire_read_u8(input);
	message.from = 2 + (flags & 1);
	message.reject = flags & 2;
	message.transfer = flags & 4;
	message.term = around(input, status.term);
	message.index = around(input, flags & 16 ? status.commit : status.last_index);
	message.log_term = around(input, status.last_term);
	message.commit = around(input, flags & 32 ? status.last_index : status.commit);
	message.hint_index = around(input, status.last_index);
	message.hint_term = around(input, status.term);
	message.context = around(input, fake->contexts[wire_read_u8(input) % CONTEXTS]);
	if (message.type == RAFT_MSG_APPEND || message.type == RAFT_MSG_PROPOSE) {
		bool proposal = message.type == RAFT_MSG_PROPOSE;

		message.entry_count = wire_read_u8(input) % (ENTRIES_MAX + 1);
		for (size_t i = 0; i < message.entry_count; i++)
			entries[i] = make_entry(
				input, proposal ? 0 : message.index + 1 + i, proposal ? 0 : message.term);
	}
	raft_message_encode(&message, &out);
	for (size_t i = 0; i < message.entry_count; i++)
		raft_blob_unref(entries[i].data);
	check_round_trip(buf_slice(&out));
	receive(fake, message.from, NODE_ENVELOPE_RAFT, flags & 8, buf_slice(&out));
}

/* About the checkpoint that the member spoke of last, if it did. */
static void step_checkpoint_message(struct fake *fake, struct wire_reader *input)
{
	struct wire_reader head =
		wire_reader_make(slice_make(fake->checkpoint_head, sizeof(fake->checkpoint_head)));
	uint8_t type = wire_read_u8(input);
	uint64_t from = 2 + (wire_read_u8(input) & 1);
	struct raft_status status;
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	raft_status_get(fake->node->raft, &status);
	(void)wire_read_u8(&head);
	(void)wire_read_u64(&head);
	wire_add_u8(&out, type % 8);
	wire_add_u64(&out, around(input, status.term));
	wire_add_u64(
		&out, around(input, fake->has_checkpoint_head ? wire_read_u64(&head) : status.last_index));
	wire_add_u64(&out, around(input, fake->has_checkpoint_head ? wire_read_u64(&head) : status.term));
	wire_add_u32(&out, (uint32_t)around(input, fake->has_checkpoint_head ? wire_read_u32(&head) : 0));
	wire_add_u64(&out, around(input, wire_read_u16(input)));
	buf_add_slice(&out, take_bytes(input, 2000));
	receive(fake, from, NODE_ENVELOPE_CHECKPOINT, false, buf_slice(&out));
}

static void step_request(struct fake *fake, struct wire_reader *input)
{
	struct store_command command = {.op = STORE_OP_SET,
		.path = slice_str("/1/b"),
		.value = slice_str("w"),
		.time_ns = fake->now_ns};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	uint8_t how = wire_read_u8(input);
	int r;

	if (fake->requests >= REQUESTS_MAX)
		return;
	fake->requests++;
	if (how & 1) {
		command.has_expiry = how & 2;
		command.expires_ns = fake->now_ns + 500 * NS_PER_MS;
		store_command_encode(&command, &bytes);
		r = node_propose(fake->node, buf_slice(&bytes), fake);
	} else {
		r = node_read_index(fake->node, fake);
	}
	if (r < 0)
		fake->requests--;
}

static bool open_node(struct fake *fake)
{
	static const char *const urls[] = {"http://10.0.0.1:2380", NULL};
	static const struct node_member members[] = {{.id = 1, .name = "", .peer_urls = urls},
		{.id = 2, .name = "", .peer_urls = urls}, {.id = 3, .name = "", .peer_urls = urls}};
	struct node_config config = {
		.cluster_id = 1,
		.member_id = 1,
		.name = "one",
		.client_urls = urls,
		.members = members,
		.members_len = ARRAY_LEN(members),
		.server_version = "2.3.0",
		.heartbeat_ms = 100,
		.election_ms = 1000,
		.segment_bytes = 4096,
		.checkpoint_entries = 12,
		.checkpoint_piece_bytes = 64,
		.log_cache_bytes = 512,
	};
	char *error = NULL;

	fake->env.ops = &fake_ops;
	if (node_open(&config, &fake->env, &fake->node, &error) == 0)
		return true;
	if (!error)
		abort();
	free(error);
	fake->node = NULL;
	return false;
}

static void stop_node(struct fake *fake)
{
	fake->node = node_free(fake->node);
	fake->plans[0] = fake->plans[1] = NULL;
	fake->disk_waits = false;
	fake->requests = fake->replies = 0;
	fake->now_ns += NS_PER_S;
}

/* The process ends at any moment: what plans had not done is lost. What is on the disk must be taken again,
 * unless the member had stopped itself. */
static bool step_restart(struct fake *fake)
{
	bool failed = node_failure(fake->node) != NULL;

	stop_node(fake);
	if (open_node(fake))
		return true;
	if (!failed)
		abort();
	return false;
}

/* Meanwhile files were damaged, cut off or lost. What is refused must be taken again when that is undone;
 * what is taken must be gone on with, whatever the member forgot. */
static bool step_damage(struct fake *fake, struct wire_reader *input)
{
	bool failed = node_failure(fake->node) != NULL;
	struct fuzz_disk saved = {0};
	uint8_t count = wire_read_u8(input) % 4;

	stop_node(fake);
	fuzz_disk_copy(&saved, &fake->disk);
	for (unsigned i = 0; i <= count && fake->disk.files_len; i++) {
		struct fuzz_file *file = &fake->disk.files[wire_read_u8(input) % fake->disk.files_len];
		size_t at = wire_read_u16(input);
		uint8_t by = wire_read_u8(input);

		if (by == 0)
			fuzz_disk_drop(&fake->disk, file);
		else if (by == 255)
			buf_truncate(&file->bytes, MIN(at, file->bytes.len));
		else if (file->bytes.len)
			file->bytes.data[at % file->bytes.len] ^= (char)by;
	}
	if (!open_node(fake)) {
		fuzz_disk_copy(&fake->disk, &saved);
		if (!open_node(fake) && !failed)
			abort();
	}
	fuzz_disk_done(&saved);
	return fake->node;
}

static bool step(struct fake *fake, struct wire_reader *input)
{
	uint8_t kind = wire_read_u8(input), how;

	switch (kind % 8) {
	case 0:
		how = wire_read_u8(input);
		(void)node_receive(fake->node, 2 + (how & 1), take_bytes(input, 65535));
		break;
	case 1: {
		struct slice bytes;

		how = wire_read_u8(input);
		bytes = take_bytes(input, 65535);
		check_round_trip(bytes);
		receive(fake, 2 + (how & 1), how & 2 ? NODE_ENVELOPE_CHECKPOINT : NODE_ENVELOPE_RAFT, how & 4,
			bytes);
		break;
	}
	case 2:
		step_checkpoint_message(fake, input);
		break;
	case 3:
		fake->now_ns += (int64_t)wire_read_u8(input) * 10 * NS_PER_MS;
		break;
	case 4:
		step_request(fake, input);
		break;
	case 5:
		how = wire_read_u8(input);
		fake->disk_waits = how & 1;
		if (how == 255)
			return step_restart(fake);
		if (how == 254)
			return step_damage(fake, input);
		break;
	default:
		step_raft_message(fake, input);
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_reader input = wire_reader_make(slice_make((const char *)data, size));
	struct fake fake = {.now_ns = INT64_C(1700000000) * NS_PER_S};

	if (!open_node(&fake))
		abort();
	turn(&fake);
	while (wire_left(&input) && step(&fake, &input))
		turn(&fake);
	fake.node = node_free(fake.node);
	fuzz_disk_done(&fake.disk);
	return 0;
}
