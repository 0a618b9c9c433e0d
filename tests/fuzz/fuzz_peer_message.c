/* What a member does with bytes from a peer. The input is a run of messages: one byte of sender and kind, two
 * of length, then the bytes, taken as they are, or as the raft message inside a sound envelope. */
#include "base/memory.h"
#include "base/rng.h"
#include "base/time.h"
#include "node/internal.h"
#include <errno.h>
#include <stdlib.h>

struct fake {
	struct env env;
	int64_t now_ns;
	const struct wal_plan *plans[2];
	struct node *node;
};

static int64_t fake_clock(struct env *env)
{
	return ((struct fake *)env)->now_ns;
}

static void fake_random(struct env *env, void *ret_bytes, size_t len)
{
	(void)env;
	memset(ret_bytes, 7, len);
}

static int fake_list(struct env *env, void (*fn)(void *, const char *, uint64_t), void *arg)
{
	(void)env, (void)fn, (void)arg;
	return 0;
}

static int fake_read_range(struct env *env, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	(void)env, (void)name, (void)offset, (void)len, (void)out;
	return -ENOENT;
}

static void fake_leaving(struct env *env, struct store *store)
{
	(void)env, (void)store;
}

static void fake_submit(struct env *env, const struct wal_plan *plan)
{
	((struct fake *)env)->plans[plan->background] = plan;
}

/* What a member itself sends must be what it understands. */
static void fake_send(struct env *env, uint64_t to, struct slice bytes, bool bulk)
{
	struct node_envelope envelope;
	struct raft_message message;

	(void)env, (void)bulk;
	if (node_envelope_decode(bytes, &envelope) < 0 || envelope.to != to)
		abort();
	if (envelope.kind == NODE_ENVELOPE_CHECKPOINT)
		return;
	if (raft_message_decode(envelope.payload, &message) < 0)
		abort();
	raft_message_done(&message);
}

static void fake_reply(struct env *env, void *request, const struct node_reply *reply)
{
	(void)env, (void)request, (void)reply;
}

static void fake_changed(struct env *env)
{
	(void)env;
}

static void fake_note(struct env *env, int level, const char *text)
{
	(void)env, (void)level, (void)text;
}

static const struct env_ops fake_ops = {
	.mono_ns = fake_clock,
	.wall_ns = fake_clock,
	.random = fake_random,
	.disk_list = fake_list,
	.disk_read_range = fake_read_range,
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
		for (unsigned i = 0; i < 2; i++) {
			const struct wal_plan *plan = fake->plans[i];

			fake->plans[i] = NULL;
			if (plan)
				node_disk_done(fake->node, plan, 0);
		}
	}
}

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

static void receive(struct fake *fake, uint8_t how, struct slice bytes)
{
	uint64_t from = 2 + (how & 1);
	struct node_envelope envelope = {.kind = NODE_ENVELOPE_RAFT,
		.cluster_id = 1,
		.from = from,
		.to = 1,
		.clock_ns = (how & 2) ? fake->now_ns : 0};
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	if (how & 4) {
		node_receive(fake->node, from, bytes);
	} else {
		check_round_trip(bytes);
		node_envelope_encode(&envelope, &out);
		buf_add_slice(&out, bytes);
		node_receive(fake->node, from, buf_slice(&out));
	}
	if (how & 8)
		fake->now_ns += (int64_t)(how >> 4) * 100 * NS_PER_MS;
	turn(fake);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const urls[] = {"http://10.0.0.1:2380", NULL};
	static const struct node_member members[] = {{.id = 1, .name = "", .peer_urls = urls},
		{.id = 2, .name = "", .peer_urls = urls}, {.id = 3, .name = "", .peer_urls = urls}};
	struct fake fake = {.env.ops = &fake_ops, .now_ns = INT64_C(1700000000) * NS_PER_S};
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
		.segment_bytes = 65536,
	};
	char *error;

	if (node_open(&config, &fake.env, &fake.node, &error) < 0)
		abort();
	turn(&fake);
	while (size >= 3) {
		size_t len = MIN((size_t)data[1] << 8 | data[2], size - 3);

		receive(&fake, data[0], slice_make(data + 3, len));
		data += 3 + len;
		size -= 3 + len;
	}
	fake.node = node_free(fake.node);
	return 0;
}
