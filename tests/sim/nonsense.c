/* A member of another version: what it forwards to the leader is a whole message with an entry that this one
 * does not know. Such an entry must not get into the log, where all would have to apply it. */
#include "sim.h"
#include "base/memory.h"
#include "raft/raft.h"

#define ENVELOPE_BYTES 66     /* node/internal.h; a raft message follows: version, type */
#define ENTRY_HEADER_BYTES 26 /* version, kind, origin, boot, sequence */
#define KIND_COMMAND 1	      /* enum node_entry_kind: the other kinds are left alone */

/* NULL: it cannot be made one. (Changes of the membership are of another layout, and are none.) */
static struct raft_blob *spoil(struct world *world, struct slice data)
{
	_cleanup_free_ char *copy = mem_dup(data.data, data.len);
	size_t len = data.len;

	if (len <= ENTRY_HEADER_BYTES || copy[1] != KIND_COMMAND)
		return NULL;
	switch (rng_below(&world->later, 4)) {
	case 0:
		copy[0] = 100; /* the version */
		break;
	case 1:
		copy[1] = 100;
		break;
	case 2:
		copy[ENTRY_HEADER_BYTES] = 100; /* the command's version */
		break;
	default:
		len = (size_t)rng_below(&world->later, ENTRY_HEADER_BYTES + 1);
	}
	return raft_blob_join(slice_make(copy, len), slice_str(""));
}

bool nonsense_sent(struct world *world, struct slice bytes, struct buf *out)
{
	struct raft_message message;
	struct raft_blob *blob;

	if (world->calm || !world->profile.nonsense || bytes.len <= ENVELOPE_BYTES + 2 ||
		promise_of_transfer(bytes) || bytes.data[ENVELOPE_BYTES + 1] != RAFT_MSG_PROPOSE ||
		!rng_chance(&world->later, world->profile.nonsense) ||
		raft_message_decode(
			slice_make(bytes.data + ENVELOPE_BYTES, bytes.len - ENVELOPE_BYTES), &message) < 0)
		return false;
	blob = message.entry_count && message.entries[0].type == RAFT_ENTRY_DATA && message.entries[0].data
		       ? spoil(world, raft_blob_slice(message.entries[0].data))
		       : NULL;
	if (blob) {
		struct raft_entry entry = message.entries[0];
		struct raft_message other = message;

		entry.data = blob;
		other.entries = &entry;
		other.entry_count = 1;
		buf_add(out, bytes.data, ENVELOPE_BYTES);
		raft_message_encode(&other, out);
		world->summary->faults[FAULT_NONSENSE]++;
	}
	raft_message_done(&message);
	(void)raft_blob_unref(blob);
	return blob != NULL;
}
