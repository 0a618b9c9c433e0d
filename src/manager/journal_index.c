/* The index of a full file. It is made from the contexts, which are read back once: what is kept in memory of
 * a file that grows stays small. */
#include "base/hash.h"
#include "base/memory.h"
#include "base/wire.h"
#include "manager/journal_internal.h"
#include <errno.h>

struct pair {
	uint32_t hash, context;
};

uint32_t journal_index_bytes(size_t contexts, size_t pairs)
{
	return journal_record_bytes((uint32_t)(JOURNAL_INDEX_FIXED + contexts * JOURNAL_INDEX_CONTEXT +
					       pairs * JOURNAL_INDEX_HASH)) +
	       JOURNAL_FOOTER_BYTES;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct pair *left = a, *right = b;

	if (left->hash != right->hash)
		return left->hash < right->hash ? -1 : 1;
	return left->context < right->context ? -1 : left->context > right->context;
}

/* The hashes of one context's fields. */
static int add_pairs(struct journal *journal, const struct journal_file *file, uint32_t context,
	struct pair *pairs, size_t *count)
{
	_cleanup_free_ struct journal_names *names = mem_new(struct journal_names);
	struct journal_field fields[JOURNAL_FIELDS_MAX];
	struct journal_head head;
	struct slice bytes;
	size_t field_count;

	if (!journal_read_record(journal, file, journal->contexts[context].offset, &head, &bytes) ||
		head.kind != JOURNAL_KIND_CONTEXT ||
		!journal_context_decode(bytes, names, fields, &field_count) ||
		*count + field_count > journal->pair_count)
		return -EBADMSG;
	for (size_t i = 0; i < field_count; i++) {
		uint32_t hash = journal_field_hash(file->seed, slice_str(fields[i].name));

		hash = crc32c(crc32c(hash, "=", 1), fields[i].value.data, fields[i].value.len);
		pairs[(*count)++] = (struct pair){hash, context};
	}
	return 0;
}

int journal_index_build(struct journal *journal, struct buf *out)
{
	const struct journal_file *file = journal_live_file(journal);
	_cleanup_free_ struct pair *pairs = mem_new_array(struct pair, journal->pair_count + 1);
	struct journal_head head = {.kind = JOURNAL_KIND_INDEX};
	struct journal_footer footer = {file->size, file->min_us, file->max_us, journal->next_sequence};
	char footer_bytes[JOURNAL_FOOTER_BYTES];
	size_t count = 0, body;

	for (size_t i = 0; i < journal->context_count; i++) {
		int r = add_pairs(journal, file, (uint32_t)i, pairs, &count);

		if (r < 0)
			return r;
	}
	qsort(pairs, count, sizeof(*pairs), compare_pairs);
	buf_add_fill(out, 0, JOURNAL_HEAD_BYTES);
	wire_add_u32(out, (uint32_t)journal->context_count);
	wire_add_u32(out, (uint32_t)count);
	for (size_t i = 0; i < journal->context_count; i++) {
		wire_add_u32(out, journal->contexts[i].offset);
		wire_add_u32(out, journal->contexts[i].last);
		wire_add_u32(out, journal->contexts[i].count);
	}
	for (size_t i = 0; i < count; i++) {
		wire_add_u32(out, pairs[i].hash);
		wire_add_u32(out, pairs[i].context);
	}
	body = out->len - JOURNAL_HEAD_BYTES;
	buf_add_fill(out, 0, JOURNAL_PADDED(body) - body);
	head.len = (uint32_t)body;
	head.payload_crc = journal_payload_crc(file->seed, file->size,
		slice_make(out->data + JOURNAL_HEAD_BYTES, out->len - JOURNAL_HEAD_BYTES));
	journal_head_encode(out->data, file->seed, file->size, &head);
	journal_footer_encode(footer_bytes, file->seed, &footer);
	buf_add(out, footer_bytes, sizeof(footer_bytes));
	return 0;
}

static uint32_t number_at(const struct journal_index *index, size_t at)
{
	struct wire_reader reader;

	assert(at + 4 <= index->bytes.len);
	reader = wire_reader_make(slice_make(index->bytes.data + at, 4));
	return wire_read_u32(&reader);
}

bool journal_index_load(struct journal *journal, const struct journal_file *file, struct journal_index *ret)
{
	struct journal_head head;
	struct slice padded;
	size_t tables;
	char *at;

	if (!file->index || !journal_read_head(journal, file, file->index, &head) ||
		head.kind != JOURNAL_KIND_INDEX || head.len < JOURNAL_INDEX_FIXED)
		return false;
	buf_clear(&ret->bytes);
	at = buf_reserve(&ret->bytes, JOURNAL_PADDED(head.len));
	padded = slice_make(at, JOURNAL_PADDED(head.len));
	if (!at || !journal_read(journal, file, file->index + JOURNAL_HEAD_BYTES, at, padded.len) ||
		journal_payload_crc(file->seed, file->index, padded) != head.payload_crc)
		return false;
	buf_commit(&ret->bytes, head.len);
	ret->context_count = number_at(ret, 0);
	ret->hash_count = number_at(ret, 4);
	tables = (size_t)ret->context_count * JOURNAL_INDEX_CONTEXT +
		 (size_t)ret->hash_count * JOURNAL_INDEX_HASH;
	return tables == head.len - JOURNAL_INDEX_FIXED;
}

struct journal_context journal_index_context(const struct journal_index *index, uint32_t at)
{
	size_t from = JOURNAL_INDEX_FIXED + (size_t)at * JOURNAL_INDEX_CONTEXT;

	return (struct journal_context){.offset = number_at(index, from),
		.last = number_at(index, from + 4),
		.count = number_at(index, from + 8)};
}

static size_t hash_place(const struct journal_index *index, uint32_t at)
{
	return JOURNAL_INDEX_FIXED + (size_t)index->context_count * JOURNAL_INDEX_CONTEXT +
	       (size_t)at * JOURNAL_INDEX_HASH;
}

uint32_t journal_index_find(const struct journal_index *index, uint32_t hash)
{
	uint32_t low = 0, high = index->hash_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (number_at(index, hash_place(index, middle)) < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool journal_index_hash(const struct journal_index *index, uint32_t at, uint32_t hash, uint32_t *ret_context)
{
	if (at >= index->hash_count || number_at(index, hash_place(index, at)) != hash)
		return false;
	*ret_context = number_at(index, hash_place(index, at) + 4);
	return *ret_context < index->context_count;
}
