/* How it works: a message is a version, a type with flags, the fixed fields as varints, then its entries.
 * Decoding gives each entry a blob of its own, so that the log can keep it while the network buffer goes
 * away. */
#include "raft/log.h"
#include "base/memory.h"
#include "base/wire.h"
#include <errno.h>

enum { MESSAGE_VERSION = 1, FLAG_REJECT = 1, FLAG_TRANSFER = 2 };

static const char *const message_names[RAFT_MSG_TYPE_MAX] = {
	[RAFT_MSG_APPEND] = "append",
	[RAFT_MSG_APPEND_RES] = "append_res",
	[RAFT_MSG_HEARTBEAT] = "heartbeat",
	[RAFT_MSG_HEARTBEAT_RES] = "heartbeat_res",
	[RAFT_MSG_COMMIT] = "commit",
	[RAFT_MSG_PREVOTE] = "prevote",
	[RAFT_MSG_PREVOTE_RES] = "prevote_res",
	[RAFT_MSG_VOTE] = "vote",
	[RAFT_MSG_VOTE_RES] = "vote_res",
	[RAFT_MSG_READ] = "read",
	[RAFT_MSG_READ_RES] = "read_res",
	[RAFT_MSG_PROPOSE] = "propose",
	[RAFT_MSG_PROPOSE_RES] = "propose_res",
	[RAFT_MSG_TIMEOUT_NOW] = "timeout_now",
};

const char *raft_message_name(enum raft_message_type type)
{
	return type < RAFT_MSG_TYPE_MAX ? message_names[type] : "unknown";
}

void raft_message_encode(const struct raft_message *message, struct buf *out)
{
	assert(message->type < RAFT_MSG_TYPE_MAX && message->entry_count <= RAFT_MESSAGE_ENTRIES_MAX);
	wire_add_u8(out, MESSAGE_VERSION);
	wire_add_u8(out, (uint8_t)message->type);
	wire_add_u8(out,
		(uint8_t)((message->reject ? FLAG_REJECT : 0) | (message->transfer ? FLAG_TRANSFER : 0)));
	wire_add_u64(out, message->from);
	wire_add_u64(out, message->to);
	wire_add_varint(out, message->term);
	wire_add_varint(out, message->index);
	wire_add_varint(out, message->log_term);
	wire_add_varint(out, message->commit);
	wire_add_varint(out, message->context);
	wire_add_varint(out, message->hint_index);
	wire_add_varint(out, message->hint_term);
	wire_add_varint(out, message->entry_count);
	for (size_t i = 0; i < message->entry_count; i++) {
		const struct raft_entry *entry = &message->entries[i];

		wire_add_u8(out, (uint8_t)((unsigned)entry->type << 1 | (entry->data ? 1U : 0U)));
		wire_add_varint(out, entry->index);
		wire_add_varint(out, entry->term);
		if (entry->data)
			wire_add_bytes(out, raft_blob_slice(entry->data));
	}
}

static int decode_entry(struct wire_reader *reader, struct raft_entry *ret_entry)
{
	uint8_t head = wire_read_u8(reader);
	struct raft_entry entry = {.type = (enum raft_entry_type)(head >> 1)};

	if (entry.type >= RAFT_ENTRY_TYPE_MAX)
		return -EBADMSG;
	entry.index = wire_read_varint(reader);
	entry.term = wire_read_varint(reader);
	if (head & 1) {
		struct slice bytes = wire_read_bytes(reader);

		if (bytes.len > RAFT_ENTRY_BYTES_MAX)
			return -EBADMSG;
		if (!reader->failed)
			entry.data = raft_blob_new(bytes.data, bytes.len);
	}
	*ret_entry = entry;
	return reader->failed ? -EBADMSG : 0;
}

int raft_message_decode(struct slice bytes, struct raft_message *ret_message)
{
	struct wire_reader reader = wire_reader_make(bytes);
	struct raft_message message = {0};
	struct raft_entry *entries = NULL;
	uint64_t count;
	uint8_t version = wire_read_u8(&reader), type = wire_read_u8(&reader), flags = wire_read_u8(&reader);

	if (version != MESSAGE_VERSION || type >= RAFT_MSG_TYPE_MAX ||
		(flags & ~(FLAG_REJECT | FLAG_TRANSFER)))
		return -EBADMSG;
	message.type = (enum raft_message_type)type;
	message.reject = flags & FLAG_REJECT;
	message.transfer = flags & FLAG_TRANSFER;
	message.from = wire_read_u64(&reader);
	message.to = wire_read_u64(&reader);
	message.term = wire_read_varint(&reader);
	message.index = wire_read_varint(&reader);
	message.log_term = wire_read_varint(&reader);
	message.commit = wire_read_varint(&reader);
	message.context = wire_read_varint(&reader);
	message.hint_index = wire_read_varint(&reader);
	message.hint_term = wire_read_varint(&reader);
	count = wire_read_varint(&reader);
	if (reader.failed || count > RAFT_MESSAGE_ENTRIES_MAX)
		return -EBADMSG;
	if (count)
		entries = mem_new_array(struct raft_entry, count);
	message.entries = entries;
	for (; message.entry_count < count; message.entry_count++) {
		if (decode_entry(&reader, &entries[message.entry_count]) < 0)
			break;
	}
	if (message.entry_count < count || wire_finish(&reader) < 0) {
		raft_message_done(&message);
		return -EBADMSG;
	}
	*ret_message = message;
	return 0;
}

void raft_message_done(struct raft_message *message)
{
	/* The array is const for readers of a message; whoever owns the message may take it apart. */
	struct raft_entry *entries = (struct raft_entry *)(uintptr_t)message->entries;

	raft_entries_unref(entries, message->entry_count);
	mem_free(entries);
	message->entries = NULL;
	message->entry_count = 0;
}
