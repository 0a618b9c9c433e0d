/* The bytes that node puts around what it hands to raft: entries and peer messages. Fixed little-endian
 * headers, so that encoding an entry is one allocation and decoding is a few loads. */
#include "base/wire.h"
#include "node/internal.h"
#include <endian.h>
#include <errno.h>

static void put_u64(char *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

struct raft_blob *node_entry_encode(const struct node_entry *entry)
{
	char header[NODE_ENTRY_HEADER_BYTES];

	header[0] = (char)NODE_ENTRY_VERSION;
	header[1] = (char)entry->kind;
	put_u64(header + 2, entry->origin);
	put_u64(header + 10, entry->boot);
	put_u64(header + 18, entry->sequence);
	return raft_blob_join(slice_make(header, sizeof(header)), entry->payload);
}

int node_entry_decode(struct slice bytes, struct node_entry *ret_entry)
{
	struct wire_reader reader = wire_reader_make(bytes);
	struct node_entry entry;

	if (wire_read_u8(&reader) != NODE_ENTRY_VERSION)
		return -EBADMSG;
	entry.kind = wire_read_u8(&reader);
	entry.origin = wire_read_u64(&reader);
	entry.boot = wire_read_u64(&reader);
	entry.sequence = wire_read_u64(&reader);
	if (reader.failed)
		return -EBADMSG;
	entry.payload = slice_make(bytes.data + NODE_ENTRY_HEADER_BYTES, bytes.len - NODE_ENTRY_HEADER_BYTES);
	*ret_entry = entry;
	return 0;
}

void node_envelope_encode(const struct node_envelope *envelope, struct buf *out)
{
	wire_add_u8(out, NODE_ENVELOPE_VERSION);
	wire_add_u8(out, (uint8_t)(envelope->kind | (envelope->no_space ? NODE_ENVELOPE_NO_SPACE : 0)));
	wire_add_u64(out, envelope->cluster_id);
	wire_add_u64(out, envelope->from);
	wire_add_u64(out, envelope->to);
	wire_add_u64(out, (uint64_t)envelope->clock_ns);
	wire_add_u64(out, envelope->hash_index);
	wire_add_u64(out, envelope->hash);
	wire_add_u64(out, envelope->agreed_index);
	wire_add_u64(out, envelope->agreed_hash);
}

int node_envelope_decode(struct slice bytes, struct node_envelope *ret_envelope)
{
	struct wire_reader reader = wire_reader_make(bytes);
	struct node_envelope envelope;
	uint8_t kind;

	if (wire_read_u8(&reader) != NODE_ENVELOPE_VERSION)
		return -EBADMSG;
	kind = wire_read_u8(&reader);
	envelope.no_space = kind & NODE_ENVELOPE_NO_SPACE;
	envelope.kind = (enum node_envelope_kind)(kind & ~NODE_ENVELOPE_NO_SPACE);
	if (envelope.kind != NODE_ENVELOPE_RAFT && envelope.kind != NODE_ENVELOPE_CHECKPOINT)
		return -EBADMSG;
	envelope.cluster_id = wire_read_u64(&reader);
	envelope.from = wire_read_u64(&reader);
	envelope.to = wire_read_u64(&reader);
	envelope.clock_ns = (int64_t)wire_read_u64(&reader);
	envelope.hash_index = wire_read_u64(&reader);
	envelope.hash = wire_read_u64(&reader);
	envelope.agreed_index = wire_read_u64(&reader);
	envelope.agreed_hash = wire_read_u64(&reader);
	if (reader.failed || envelope.clock_ns < 0 || envelope.clock_ns > NODE_CLOCK_MAX_NS)
		return -EBADMSG;
	envelope.payload = slice_make(bytes.data + NODE_ENVELOPE_BYTES, bytes.len - NODE_ENVELOPE_BYTES);
	*ret_envelope = envelope;
	return 0;
}
