/* A cluster in memory for the tests of the room: members with a disk that remembers only what was synced, a
 * net of encoded messages that the test delivers, drops, doubles or turns around, and a state machine that
 * records what it was given. Everything that happens is written to `out` as text when there is one. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <errno.h>
#include <cmocka.h>
#include "raft/raft.h"
#include "base/memory.h"
#include "base/rng.h"

enum { NODES_MAX = 9 };

struct disk_write {
	struct raft_write write;
	struct raft_entry *entries;
};
struct node {
	struct raft *raft; /* NULL: down */
	uint64_t id;
	struct raft_options options;
	/* Durable. */
	struct raft_hard_state hard_state;
	struct raft_entry *disk; /* disk[i] has index i + 1 */
	size_t disk_count, disk_cap;
	/* Lost in a crash. */
	struct disk_write *pending;
	size_t pending_count, pending_cap;
	bool manual_sync;
	uint64_t applied;
	struct raft_read *reads; /* answered */
	size_t read_count, read_cap;
	uint64_t *refused;
	size_t refused_count, refused_cap;
	unsigned lives;
	bool lagging_log;  /* its log ops answer -EAGAIN */
	uint64_t log_gone; /* its log ops answer -ENOENT up to here */
};
struct packet {
	uint64_t from, to;
	char *data;
	size_t len;
};
struct cluster {
	struct node nodes[NODES_MAX + 1]; /* by id */
	unsigned count;
	struct packet *packets;
	size_t packet_count, packet_cap;
	bool cut[NODES_MAX + 1][NODES_MAX + 1];
	struct buf *out;
	/* Called for each entry applied; for the checks of the random test. */
	void (*applied)(struct cluster *cluster, struct node *node, const struct raft_entry *entry);
	void *userdata;
	bool must_go_on; /* the owners refuse to remove the only member */
};

#define grow(array, count, cap)                                                       \
	do {                                                                          \
		if ((count) == (cap)) {                                               \
			(cap) = (cap) ? (cap)*2 : 16;                                 \
			(array) = mem_reallocarray((array), (cap), sizeof(*(array))); \
		}                                                                     \
	} while (0)

static inline void note(struct cluster *cluster, const char *format, ...) _printf_(2, 3);
static inline void note(struct cluster *cluster, const char *format, ...)
{
	char line[2048];
	va_list args;

	if (!cluster->out)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	buf_add_str(cluster->out, line);
}

static inline void note_entries(struct cluster *cluster, const struct raft_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct slice data = raft_blob_slice(entries[i].data);

		note(cluster, " %llu/%llu", (unsigned long long)entries[i].index,
			(unsigned long long)entries[i].term);
		if (entries[i].type == RAFT_ENTRY_CONF)
			note(cluster, ":conf");
		else if (data.len > 12)
			note(cluster, ":%zu-bytes", data.len);
		else if (data.len)
			note(cluster, ":%.*s", (int)data.len, data.data);
	}
}

static inline void note_message(struct cluster *cluster, const char *verb, const struct raft_message *message)
{
	if (!cluster->out)
		return;
	note(cluster, "%s %llu->%llu %s term=%llu", verb, (unsigned long long)message->from,
		(unsigned long long)message->to, raft_message_name(message->type),
		(unsigned long long)message->term);
	if (message->index || message->log_term || message->type == RAFT_MSG_APPEND)
		note(cluster, " at=%llu", (unsigned long long)message->index);
	if (message->log_term || message->type == RAFT_MSG_APPEND)
		note(cluster, "/%llu", (unsigned long long)message->log_term);
	if (message->commit)
		note(cluster, " commit=%llu", (unsigned long long)message->commit);
	if (message->context)
		note(cluster, " context=%llu", (unsigned long long)message->context);
	if (message->transfer)
		note(cluster, " transfer");
	if (message->reject)
		note(cluster, " reject");
	if (message->reject && message->type == RAFT_MSG_APPEND_RES)
		note(cluster, " hint=%llu/%llu", (unsigned long long)message->hint_index,
			(unsigned long long)message->hint_term);
	if (message->entry_count)
		note(cluster, " entries");
	note_entries(cluster, message->entries, message->entry_count);
	note(cluster, "\n");
}

static inline void net_push(struct cluster *cluster, uint64_t from, uint64_t to, struct slice bytes)
{
	grow(cluster->packets, cluster->packet_count, cluster->packet_cap);
	cluster->packets[cluster->packet_count++] =
		(struct packet){from, to, mem_dup(bytes.data, bytes.len), bytes.len};
}

static inline struct packet net_take(struct cluster *cluster, size_t at)
{
	struct packet packet = cluster->packets[at];

	cluster->packet_count--;
	memmove(cluster->packets + at, cluster->packets + at + 1,
		(cluster->packet_count - at) * sizeof(*cluster->packets));
	return packet;
}

static inline void disk_apply(struct node *node, const struct disk_write *write)
{
	if (write->write.hard_state_changed || write->write.entry_count)
		node->hard_state = write->write.hard_state;
	for (size_t i = 0; i < write->write.entry_count; i++) {
		const struct raft_entry *entry = &write->entries[i];

		assert_true(entry->index >= 1 && entry->index <= node->disk_count + 1);
		while (node->disk_count >= entry->index)
			raft_blob_unref(node->disk[--node->disk_count].data);
		grow(node->disk, node->disk_count, node->disk_cap);
		node->disk[node->disk_count] = *entry;
		raft_blob_ref(entry->data);
		node->disk_count++;
	}
}

static inline void drop_write(struct disk_write *write)
{
	for (size_t i = 0; i < write->write.entry_count; i++)
		raft_blob_unref(write->entries[i].data);
	mem_free(write->entries);
}

/* Makes the first `count` writes durable, and tells raft unless the node just lost its power. */
static inline void node_sync(struct cluster *cluster, struct node *node, size_t count, bool tell)
{
	uint64_t id = 0;

	(void)cluster;
	assert_true(count <= node->pending_count);
	for (size_t i = 0; i < count; i++) {
		disk_apply(node, &node->pending[i]);
		id = node->pending[i].write.id;
		drop_write(&node->pending[i]);
	}
	if (!count)
		return;
	node->pending_count -= count;
	memmove(node->pending, node->pending + count, node->pending_count * sizeof(*node->pending));
	if (id && tell)
		raft_persisted(node->raft, id);
}

static inline int log_entries(void *userdata, uint64_t lo, uint64_t hi, uint64_t max_bytes,
	struct raft_entry *ret_entries, size_t max)
{
	struct node *node = userdata;
	uint64_t bytes = 0;
	size_t count = 0;

	if (node->lagging_log)
		return -EAGAIN;
	if (lo <= node->log_gone)
		return -ENOENT;
	assert_true(lo >= 1 && lo < hi && hi <= node->disk_count + 1);
	for (uint64_t i = lo; i < hi && count < max; i++) {
		bytes += node->disk[i - 1].data ? node->disk[i - 1].data->len : 0;
		if (count && bytes > max_bytes)
			break;
		ret_entries[count] = node->disk[i - 1];
		raft_blob_ref(ret_entries[count++].data);
	}
	return (int)count;
}

static inline bool ends_cluster(const struct raft *raft, const struct raft_conf_change *change)
{
	struct raft_conf next;

	return raft_conf_change_apply(raft_conf_get(raft), change, &next) == 0 && !next.voters.count;
}

static inline void apply_entry(struct cluster *cluster, struct node *node, const struct raft_entry *entry)
{
	assert_int_equal(entry->index, node->applied + 1);
	if (entry->type == RAFT_ENTRY_CONF) {
		struct raft_conf_change change;

		assert_int_equal(raft_conf_change_decode(raft_blob_slice(entry->data), &change), 0);
		if ((cluster->must_go_on && ends_cluster(node->raft, &change)) ||
			raft_apply_conf(node->raft, &change) < 0)
			note(cluster, "%llu conf change refused\n", (unsigned long long)node->id);
	}
	if (cluster->applied)
		cluster->applied(cluster, node, entry);
	node->applied = entry->index;
}

static inline void take_batch(struct cluster *cluster, struct node *node)
{
	struct raft_batch batch;
	struct raft_status status;
	unsigned long long id = node->id;

	raft_ready(node->raft, &batch);
	raft_status_get(node->raft, &status);
	if (batch.role_changed)
		note(cluster, "%llu is %s term=%llu leader=%llu\n", id, raft_role_name(status.role),
			(unsigned long long)status.term, (unsigned long long)status.leader);
	for (size_t i = 0; i < batch.message_count; i++) {
		_cleanup_buf_ struct buf bytes = BUF_INIT(64 << 20);
		const struct raft_message *message = &batch.messages[i];

		if (cluster->cut[message->from][message->to]) {
			note_message(cluster, "lost", message);
			continue;
		}
		note_message(cluster, "send", message);
		raft_message_encode(message, &bytes);
		net_push(cluster, message->from, message->to, buf_slice(&bytes));
	}
	if (batch.write.id) {
		struct disk_write write = {.write = batch.write};

		note(cluster, "%llu writes #%llu", id, (unsigned long long)batch.write.id);
		if (batch.write.hard_state_changed)
			note(cluster, " term=%llu vote=%llu", (unsigned long long)batch.write.hard_state.term,
				(unsigned long long)batch.write.hard_state.vote);
		note_entries(cluster, batch.write.entries, batch.write.entry_count);
		note(cluster, "\n");
		write.entries = mem_new_array(struct raft_entry, batch.write.entry_count + 1);
		for (size_t i = 0; i < batch.write.entry_count; i++) {
			write.entries[i] = batch.write.entries[i];
			raft_blob_ref(write.entries[i].data);
		}
		grow(node->pending, node->pending_count, node->pending_cap);
		node->pending[node->pending_count++] = write;
	}
	if (batch.committed_count)
		note(cluster, "%llu applies", id);
	note_entries(cluster, batch.committed, batch.committed_count);
	if (batch.committed_count)
		note(cluster, "\n");
	for (size_t i = 0; i < batch.committed_count; i++)
		apply_entry(cluster, node, &batch.committed[i]);
	for (size_t i = 0; i < batch.read_count; i++) {
		grow(node->reads, node->read_count, node->read_cap);
		node->reads[node->read_count++] = batch.reads[i];
		if (batch.reads[i].dropped)
			note(cluster, "%llu read %llu dropped\n", id,
				(unsigned long long)batch.reads[i].context);
		else
			note(cluster, "%llu read %llu at %llu\n", id,
				(unsigned long long)batch.reads[i].context,
				(unsigned long long)batch.reads[i].index);
	}
	for (size_t i = 0; i < batch.refused_count; i++) {
		grow(node->refused, node->refused_count, node->refused_cap);
		node->refused[node->refused_count++] = batch.refused[i];
		note(cluster, "%llu refused %llu\n", id, (unsigned long long)batch.refused[i]);
	}
	for (size_t i = 0; i < batch.snapshot_count; i++)
		note(cluster, "%llu wants a snapshot for %llu\n", id, (unsigned long long)batch.snapshots[i]);
	raft_advance(node->raft);
	raft_applied(node->raft, node->applied);
}

/* Everything the node has to do; writes finish at once unless the test does that by hand. */
static inline void node_pump(struct cluster *cluster, struct node *node)
{
	while (node->raft && (raft_has_ready(node->raft) || (!node->manual_sync && node->pending_count))) {
		if (raft_has_ready(node->raft))
			take_batch(cluster, node);
		if (!node->manual_sync)
			node_sync(cluster, node, node->pending_count, true);
	}
}

static inline int node_start(struct cluster *cluster, struct node *node)
{
	int r = 0;

	node->options.first_context = 100 * ++node->lives;
	node->options.seed = node->id + 1000 * node->lives;
	node->raft = raft_new(&node->options);
	for (size_t i = 0; i < node->disk_count && r == 0; i++)
		r = raft_load_entry(node->raft, &node->disk[i]);
	if (r == 0)
		r = raft_load_hard_state(node->raft, &node->hard_state);
	if (r == 0)
		r = raft_start(node->raft);
	if (r < 0) {
		node->raft = raft_free(node->raft);
		return r;
	}
	node->applied = 0;
	node_pump(cluster, node);
	return 0;
}

/* Power off: the first `survive` pending writes reached the disk all the same. */
static inline void node_crash(struct cluster *cluster, struct node *node, size_t survive)
{
	node_sync(cluster, node, survive, false);
	for (size_t i = 0; i < node->pending_count; i++)
		drop_write(&node->pending[i]);
	node->pending_count = 0;
	node->read_count = node->refused_count = 0;
	node->raft = raft_free(node->raft);
}

/* It crashes, and its disk holds no entry behind `last` from then on. */
static inline void node_lose(struct cluster *cluster, struct node *node, uint64_t last)
{
	node_crash(cluster, node, 0);
	while (node->disk_count > last)
		raft_blob_unref(node->disk[--node->disk_count].data);
	node->hard_state.commit = MIN(node->hard_state.commit, last);
}

/* It crashes, and its disk is empty from then on. */
static inline void node_wipe(struct cluster *cluster, struct node *node)
{
	node_lose(cluster, node, 0);
	node->hard_state = (struct raft_hard_state){0};
	node->applied = 0;
}

/* Hands a packet over; one to a member that is down is lost. */
static inline void net_deliver(struct cluster *cluster, struct packet packet)
{
	struct node *node = &cluster->nodes[packet.to];
	struct raft_message message;

	if (packet.to <= NODES_MAX && node->raft && !cluster->cut[packet.from][packet.to]) {
		assert_int_equal(raft_message_decode(slice_make(packet.data, packet.len), &message), 0);
		raft_step(node->raft, &message);
		raft_message_done(&message);
		node_pump(cluster, node);
	}
	mem_free(packet.data);
}

static inline void cluster_done(struct cluster *cluster)
{
	for (unsigned i = 1; i <= NODES_MAX; i++) {
		struct node *node = &cluster->nodes[i];

		node_crash(cluster, node, 0);
		for (size_t k = 0; k < node->disk_count; k++)
			raft_blob_unref(node->disk[k].data);
		mem_free(node->disk);
		mem_free(node->pending);
		mem_free(node->reads);
		mem_free(node->refused);
	}
	while (cluster->packet_count)
		mem_free(net_take(cluster, 0).data);
	mem_free(cluster->packets);
	*cluster = (struct cluster){0};
}

static inline int node_propose(
	struct cluster *cluster, struct node *node, const char *const *texts, size_t count, uint64_t *ret_id)
{
	struct raft_blob *blobs[16];
	int r;

	(void)cluster;
	for (size_t i = 0; i < count; i++)
		blobs[i] = raft_blob_new(texts[i], strlen(texts[i]));
	r = raft_propose(node->raft, blobs, count, ret_id);
	for (size_t i = 0; i < count; i++)
		raft_blob_unref(blobs[i]);
	return r;
}
