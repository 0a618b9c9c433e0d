/* Fields that a command does not use are not written; the flags say which are there. Decoding checks
 * everything, since the bytes may come from a peer. */
#include "store/command.h"
#include "base/wire.h"
#include <errno.h>

enum { COMMAND_VERSION = 1 };
enum {
	FLAG_DIR = 1 << 0,
	FLAG_RECURSIVE = 1 << 1,
	FLAG_IN_ORDER = 1 << 2,
	FLAG_REFRESH = 1 << 3,
	FLAG_EXPIRY = 1 << 4,
	FLAG_VALUE = 1 << 5,
	FLAG_PREV_VALUE = 1 << 6,
	FLAG_PREV_INDEX = 1 << 7,
	FLAG_ALL = (1 << 8) - 1,
};

static unsigned command_flags(const struct store_command *command)
{
	unsigned flags = 0;

	flags |= command->dir ? FLAG_DIR : 0;
	flags |= command->recursive ? FLAG_RECURSIVE : 0;
	flags |= command->in_order ? FLAG_IN_ORDER : 0;
	flags |= command->refresh ? FLAG_REFRESH : 0;
	flags |= command->has_expiry ? FLAG_EXPIRY : 0;
	flags |= command->value.len ? FLAG_VALUE : 0;
	flags |= command->prev_value.len ? FLAG_PREV_VALUE : 0;
	flags |= command->prev_index ? FLAG_PREV_INDEX : 0;
	return flags;
}

void store_command_encode(const struct store_command *command, struct buf *out)
{
	unsigned flags = command_flags(command);

	assert(command->op > STORE_OP_NONE && command->op < STORE_OP_MAX);
	wire_add_u8(out, COMMAND_VERSION);
	wire_add_u8(out, (uint8_t)command->op);
	wire_add_varint(out, flags);
	wire_add_u64(out, (uint64_t)command->time_ns);
	wire_add_bytes(out, command->path);
	if (flags & FLAG_VALUE)
		wire_add_bytes(out, command->value);
	if (flags & FLAG_PREV_VALUE)
		wire_add_bytes(out, command->prev_value);
	if (flags & FLAG_PREV_INDEX)
		wire_add_varint(out, command->prev_index);
	if (flags & FLAG_EXPIRY)
		wire_add_u64(out, (uint64_t)command->expires_ns);
}

/* "/" or "/a/b". */
static bool path_is_canonical(struct slice path)
{
	size_t from = 1;

	if (!path.len || path.data[0] != '/' || path.len > STORE_PATH_MAX)
		return false;
	if (path.len == 1)
		return true;
	for (size_t i = 1; i <= path.len; i++) {
		struct slice segment = slice_make(path.data + from, i - from);

		if (i < path.len && path.data[i] != '/')
			continue;
		if (!segment.len || slice_is(segment, ".") || slice_is(segment, ".."))
			return false;
		from = i + 1;
	}
	return true;
}

int store_command_decode(struct slice bytes, struct store_command *ret_command)
{
	struct wire_reader reader = wire_reader_make(bytes);
	struct store_command command = {0};
	uint8_t version = wire_read_u8(&reader), op = wire_read_u8(&reader);
	uint64_t flags = wire_read_varint(&reader);

	if (reader.failed || version != COMMAND_VERSION || op == STORE_OP_NONE || op >= STORE_OP_MAX ||
		flags > FLAG_ALL)
		return -EBADMSG;
	command.op = op;
	command.dir = flags & FLAG_DIR;
	command.recursive = flags & FLAG_RECURSIVE;
	command.in_order = flags & FLAG_IN_ORDER;
	command.refresh = flags & FLAG_REFRESH;
	command.has_expiry = flags & FLAG_EXPIRY;
	command.time_ns = (int64_t)wire_read_u64(&reader);
	command.path = wire_read_bytes(&reader);
	if (flags & FLAG_VALUE)
		command.value = wire_read_bytes(&reader);
	if (flags & FLAG_PREV_VALUE)
		command.prev_value = wire_read_bytes(&reader);
	if (flags & FLAG_PREV_INDEX)
		command.prev_index = wire_read_varint(&reader);
	if (flags & FLAG_EXPIRY)
		command.expires_ns = (int64_t)wire_read_u64(&reader);
	if (wire_finish(&reader) < 0 || command.value.len > STORE_VALUE_MAX ||
		command.prev_value.len > STORE_VALUE_MAX)
		return -EBADMSG;
	if (command.op == STORE_OP_TICK ? command.path.len > 0 : !path_is_canonical(command.path))
		return -EBADMSG;
	*ret_command = command;
	return 0;
}
