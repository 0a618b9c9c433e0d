/* The bytes of the journal's files (journal.h has the picture). Heads have a fixed layout, so that a record
 * is found and judged by 48 bytes, whatever it holds. */
#include "base/hash.h"
#include "base/wire.h"
#include "manager/journal_internal.h"
#include <errno.h>

#define HEADER_MAGIC "FLOTJRNL"
#define HEADER_VERSION 1u
#define RECORD_MAGIC 0x4a4c0000u /* "JL" above the kind */
#define FOOTER_MAGIC 0x4a4c4654u

static_assert(sizeof(((struct journal_header *)0)->id) == 16, "the id is 16 bytes on disk");

static void put(char *at, uint64_t value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		at[i] = (char)(value >> 8 * i);
}

static uint64_t get(const char *at, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value |= (uint64_t)(unsigned char)at[i] << 8 * i;
	return value;
}

uint32_t journal_seed_crc(uint64_t seed)
{
	char bytes[8];

	put(bytes, seed, 8);
	return crc32c(0, bytes, sizeof(bytes));
}

void journal_header_encode(char *at, const struct journal_header *header)
{
	memset(at, 0, JOURNAL_HEADER_BYTES);
	memcpy(at, HEADER_MAGIC, 8);
	put(at + 8, HEADER_VERSION, 4);
	put(at + 12, header->number, 8);
	put(at + 20, header->seed, 8);
	put(at + 28, header->first_sequence, 8);
	memcpy(at + 36, header->id, sizeof(header->id));
	put(at + 60, crc32c(0, at, 60), 4);
}

bool journal_header_decode(const char *at, struct journal_header *ret)
{
	if (memcmp(at, HEADER_MAGIC, 8) != 0 || get(at + 8, 4) != HEADER_VERSION ||
		get(at + 60, 4) != crc32c(0, at, 60))
		return false;
	ret->number = get(at + 12, 8);
	ret->seed = get(at + 20, 8);
	ret->first_sequence = get(at + 28, 8);
	memcpy(ret->id, at + 36, sizeof(ret->id));
	return ret->first_sequence <= JOURNAL_SEQUENCE_MAX;
}

static uint32_t place_crc(uint32_t seed, uint32_t offset)
{
	char bytes[4];

	put(bytes, offset, 4);
	return crc32c(seed, bytes, sizeof(bytes));
}

/* Of all but the checksum itself, which stands in the middle. */
static uint32_t head_crc(const char *at, uint32_t seed, uint32_t offset)
{
	return crc32c(crc32c(place_crc(seed, offset), at, 20), at + 24, JOURNAL_HEAD_BYTES - 24);
}

uint32_t journal_payload_crc(uint32_t seed, uint32_t offset, struct slice padded)
{
	return crc32c(place_crc(seed, ~offset), padded.data, padded.len);
}

uint32_t journal_record_bytes(uint32_t payload_len)
{
	return JOURNAL_HEAD_BYTES + JOURNAL_PADDED(payload_len);
}

void journal_head_encode(char *at, uint32_t seed, uint32_t offset, const struct journal_head *head)
{
	put(at, RECORD_MAGIC | head->kind, 4);
	put(at + 4, head->len, 4);
	put(at + 8, head->payload_crc, 4);
	put(at + 12, head->context, 4);
	put(at + 16, head->previous, 4);
	put(at + 24, head->sequence, 8);
	put(at + 32, (uint64_t)head->realtime_us, 8);
	put(at + 40, (uint64_t)head->monotonic_us, 8);
	put(at + 20, head_crc(at, seed, offset), 4);
}

bool journal_head_decode(
	const char *at, uint32_t seed, uint32_t offset, uint32_t file_size, struct journal_head *ret)
{
	uint32_t magic = (uint32_t)get(at, 4), kind = magic & 0xff, len = (uint32_t)get(at + 4, 4);
	uint32_t len_max = kind == JOURNAL_KIND_CONTEXT ? JOURNAL_CONTEXT_MAX
			   : kind == JOURNAL_KIND_ENTRY ? JOURNAL_MESSAGE_MAX
							: JOURNAL_FILE_MAX;

	if ((magic & ~0xffu) != RECORD_MAGIC || kind < JOURNAL_KIND_CONTEXT || kind > JOURNAL_KIND_INDEX ||
		len > len_max || (uint64_t)offset + journal_record_bytes(len) > file_size ||
		get(at + 20, 4) != head_crc(at, seed, offset))
		return false;
	*ret = (struct journal_head){
		.kind = (enum journal_kind)kind,
		.len = len,
		.payload_crc = (uint32_t)get(at + 8, 4),
		.context = (uint32_t)get(at + 12, 4),
		.previous = (uint32_t)get(at + 16, 4),
		.sequence = get(at + 24, 8),
		.realtime_us = (int64_t)get(at + 32, 8),
		.monotonic_us = (int64_t)get(at + 40, 8),
	};
	return ret->context < offset && ret->previous < offset && ret->sequence < JOURNAL_SEQUENCE_MAX;
}

void journal_footer_encode(char *at, uint32_t seed, const struct journal_footer *footer)
{
	memset(at, 0, JOURNAL_FOOTER_BYTES);
	put(at, FOOTER_MAGIC, 4);
	put(at + 4, footer->index, 4);
	put(at + 8, (uint64_t)footer->min_us, 8);
	put(at + 16, (uint64_t)footer->max_us, 8);
	put(at + 24, footer->next_sequence, 8);
	put(at + 44, crc32c(seed, at, 44), 4);
}

bool journal_footer_decode(const char *at, uint32_t seed, struct journal_footer *ret)
{
	if (get(at, 4) != FOOTER_MAGIC || get(at + 44, 4) != crc32c(seed, at, 44))
		return false;
	*ret = (struct journal_footer){
		.index = (uint32_t)get(at + 4, 4),
		.min_us = (int64_t)get(at + 8, 8),
		.max_us = (int64_t)get(at + 16, 8),
		.next_sequence = get(at + 24, 8),
	};
	return ret->next_sequence <= JOURNAL_SEQUENCE_MAX;
}

uint32_t journal_field_hash(uint32_t seed, struct slice pair)
{
	return crc32c(seed, pair.data, pair.len);
}

static bool is_name(struct slice name)
{
	if (!name.len || name.len > JOURNAL_NAME_MAX || slice_is(name, "MESSAGE"))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];

		if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '_')
			return false;
	}
	return true;
}

int journal_context_encode(const struct journal_field *fields, size_t count, struct buf *out)
{
	if (count > JOURNAL_FIELDS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		struct slice name = slice_str(fields[i].name), value = fields[i].value;

		if (!is_name(name))
			return -EINVAL;
		wire_add_bytes(out, name);
		wire_add_bytes(out, slice_make(value.data, MIN(value.len, (size_t)JOURNAL_VALUE_MAX)));
	}
	return buf_error(out) < 0 ? -EINVAL : 0;
}

bool journal_context_decode(struct slice bytes, struct journal_names *names,
	struct journal_field ret_fields[static JOURNAL_FIELDS_MAX], size_t *ret_count)
{
	struct wire_reader reader = wire_reader_make(bytes);
	size_t count = 0;

	for (; wire_left(&reader); count++) {
		struct slice name = wire_read_bytes(&reader), value = wire_read_bytes(&reader);

		if (reader.failed || count == JOURNAL_FIELDS_MAX || !is_name(name) ||
			value.len > JOURNAL_VALUE_MAX)
			return false;
		memcpy(names->text[count], name.data, name.len);
		names->text[count][name.len] = '\0';
		ret_fields[count] = (struct journal_field){names->text[count], value};
	}
	*ret_count = count;
	return true;
}
