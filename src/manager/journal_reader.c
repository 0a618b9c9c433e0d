/* Queries. A reader stands in one file: it collects the offsets of all entries there that match, by the
 * chains of the contexts that the index names, or, where these are no help, head by head; then it answers
 * them one by one. For the last N it goes backwards from the newest file until it has as many. The newest
 * file is collected again from where it was, as long as it grows. */
#include "manager/journal_internal.h"
#include "base/memory.h"
#include <errno.h>

#define CONTEXT_READ_BYTES 1024u
#define CHAIN_MAX 512u /* steps along chains that cost about as much as looking at all heads of a file */

struct match {
	char *text; /* NAME=VALUE */
	size_t name_len, len;
	unsigned group; /* one of each group must hold */
};
/* A context of the file that was collected last, and whether it matches. */
struct known {
	uint32_t offset;
	bool matches;
};

struct journal_reader {
	struct journal *journal;
	struct match matches[JOURNAL_MATCHES_MAX + 2];
	size_t match_count;
	unsigned groups, message_groups; /* bits */
	int64_t since_us, until_us;
	bool follow;
	uint64_t end_sequence; /* without follow: what there was when it began */

	bool backwards;
	size_t wanted;	 /* backwards: so many more */
	uint64_t file;	 /* number of the next to be collected */
	uint32_t begin;	 /* from where in it */
	uint64_t source; /* the file of the offsets */
	uint32_t *offsets;
	size_t count, cap, at;
	struct known *known;
	size_t known_count, known_cap;
	uint64_t known_file;
	uint64_t damaged; /* bytes not told yet */

	struct buf scratch;
	struct buf context; /* of the last entry that was answered */
	uint64_t context_file;
	uint32_t context_offset;
	struct journal_names names;
	struct journal_field fields[JOURNAL_FIELDS_MAX];
	size_t field_count;
};

/* ---- What matches ---- */

/* The group of that name among the matches from `first` on, or a new one. */
static unsigned group_of(
	const struct journal_reader *reader, size_t first, struct slice name, unsigned *groups)
{
	for (size_t i = first; i < reader->match_count; i++)
		if (slice_equal(slice_make(reader->matches[i].text, reader->matches[i].name_len), name))
			return reader->matches[i].group;
	return (*groups)++;
}

static int add_match(struct journal_reader *reader, struct slice pair, unsigned group)
{
	const char *equals = memchr(pair.data, '=', pair.len);

	if (!equals || equals == pair.data || reader->match_count == ARRAY_LEN(reader->matches))
		return -EINVAL;
	reader->matches[reader->match_count++] = (struct match){
		.text = mem_strndup(pair.data, pair.len),
		.name_len = (size_t)(equals - pair.data),
		.len = pair.len,
		.group = group,
	};
	return 0;
}

static int add_matches(struct journal_reader *reader, const struct journal_query *query)
{
	static const char *const of_unit[] = {"_SYSTEMD_UNIT=", "UNIT="};
	size_t first = query->unit ? ARRAY_LEN(of_unit) : 0; /* a match of the same names narrows */
	unsigned groups = 0;
	int r = 0;

	for (size_t i = 0; query->unit && i < ARRAY_LEN(of_unit); i++) {
		_cleanup_free_ char *pair = mem_printf("%s%s", of_unit[i], query->unit);

		groups = 1;
		(void)add_match(reader, slice_str(pair), 0);
	}
	if (query->match_count > JOURNAL_MATCHES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < query->match_count && r == 0; i++) {
		struct slice pair = query->matches[i];
		const char *equals = pair.len ? memchr(pair.data, '=', pair.len) : NULL;
		struct slice name = slice_make(pair.data, equals ? (size_t)(equals - pair.data) : 0);
		unsigned group = group_of(reader, first, name, &groups);

		r = add_match(reader, pair, group);
		if (r == 0 && slice_is(name, "MESSAGE"))
			reader->message_groups |= 1u << group;
	}
	reader->groups = (1u << groups) - 1;
	return r;
}

static bool holds(const struct match *match, struct slice name, struct slice value)
{
	return name.len == match->name_len && match->len - match->name_len - 1 == value.len &&
	       memcmp(match->text, name.data, name.len) == 0 &&
	       (!value.len || memcmp(match->text + match->name_len + 1, value.data, value.len) == 0);
}

static unsigned groups_of_field(const struct journal_reader *reader, struct slice name, struct slice value)
{
	unsigned groups = 0;

	for (size_t i = 0; i < reader->match_count; i++)
		if (holds(&reader->matches[i], name, value))
			groups |= 1u << reader->matches[i].group;
	return groups;
}

static bool context_matches(
	const struct journal_reader *reader, const struct journal_field *fields, size_t count)
{
	unsigned groups = reader->message_groups;

	for (size_t i = 0; i < count; i++)
		groups |= groups_of_field(reader, slice_str(fields[i].name), fields[i].value);
	return groups == reader->groups;
}

static bool head_matches(const struct journal_reader *reader, const struct journal_head *head)
{
	return (!reader->since_us || head->realtime_us >= reader->since_us) &&
	       (!reader->until_us || head->realtime_us <= reader->until_us) &&
	       (reader->follow || head->sequence < reader->end_sequence);
}

/* ---- Contexts that were looked at ---- */

static void forget_known(struct journal_reader *reader)
{
	reader->known_count = 0;
	reader->known_file = 0;
}

static void add_known(struct journal_reader *reader, uint32_t offset, bool matches)
{
	if (reader->known_count == reader->known_cap) {
		reader->known_cap = MAX(reader->known_cap * 2, (size_t)16);
		reader->known = mem_reallocarray(reader->known, reader->known_cap, sizeof(*reader->known));
	}
	reader->known[reader->known_count++] = (struct known){offset, matches};
}

static int compare_known(const void *offset, const void *known)
{
	uint32_t wanted = *(const uint32_t *)offset, has = ((const struct known *)known)->offset;

	return wanted < has ? -1 : wanted > has;
}

/* They were added in the order of their offsets. */
static const struct known *find_known(const struct journal_reader *reader, uint32_t offset)
{
	return reader->known_count ? bsearch(&offset, reader->known, reader->known_count,
					     sizeof(struct known), compare_known)
				   : NULL;
}

static bool decode_matches(const struct journal_reader *reader, struct slice bytes, bool *ret_matches)
{
	struct journal_field fields[JOURNAL_FIELDS_MAX];
	struct journal_names names;
	size_t count;

	if (!journal_context_decode(bytes, &names, fields, &count))
		return false;
	*ret_matches = context_matches(reader, fields, count);
	return true;
}

/* A single context, past the window: one read as a rule. */
static bool fetch_context(
	struct journal_reader *reader, const struct journal_file *file, uint32_t offset, struct buf *out)
{
	uint32_t first = offset < file->size ? MIN(CONTEXT_READ_BYTES, file->size - offset) : 0, bytes;
	struct journal_head head;
	char *at;

	buf_clear(out);
	at = buf_reserve(out, JOURNAL_HEAD_BYTES + JOURNAL_PADDED(JOURNAL_CONTEXT_MAX));
	if (!at || first < JOURNAL_HEAD_BYTES || !journal_read(reader->journal, file, offset, at, first) ||
		!journal_head_decode(at, file->seed, offset, file->size, &head) ||
		head.kind != JOURNAL_KIND_CONTEXT)
		return false;
	bytes = journal_record_bytes(head.len);
	if ((bytes > first &&
		    !journal_read(reader->journal, file, offset + first, at + first, bytes - first)) ||
		journal_payload_crc(file->seed, offset,
			slice_make(at + JOURNAL_HEAD_BYTES, bytes - JOURNAL_HEAD_BYTES)) != head.payload_crc)
		return false;
	buf_commit(out, bytes);
	buf_consume(out, JOURNAL_HEAD_BYTES);
	buf_truncate(out, head.len);
	return true;
}

static bool look_at_context(
	struct journal_reader *reader, const struct journal_file *file, uint32_t offset, bool *ret_matches)
{
	return fetch_context(reader, file, offset, &reader->scratch) &&
	       decode_matches(reader, buf_slice(&reader->scratch), ret_matches);
}

/* ---- Collecting ---- */

static void add_offset(struct journal_reader *reader, uint32_t offset)
{
	if (reader->count == reader->cap) {
		reader->cap = MAX(reader->cap * 2, (size_t)64);
		reader->offsets = mem_reallocarray(reader->offsets, reader->cap, sizeof(*reader->offsets));
	}
	reader->offsets[reader->count++] = offset;
}

/* All heads of a file, in order. What does not check is counted, and so are entries whose context is lost:
 * they may be some that were asked for. */
static void scan(struct journal_reader *reader, const struct journal_file *file)
{
	uint32_t offset = JOURNAL_HEADER_BYTES;
	uint32_t end = file->index ? file->index : file->size; /* an index that does not check is no loss */

	forget_known(reader);
	reader->count = 0;
	while (offset < end) {
		const struct known *known;
		struct journal_head head;
		struct slice bytes;
		bool matches;

		if (!journal_read_head(reader->journal, file, offset, &head)) {
			uint32_t next = MIN(journal_resync(reader->journal, file, offset + 8), end);

			reader->damaged += offset >= reader->begin ? next - offset : 0;
			offset = next;
			continue;
		}
		if (head.kind == JOURNAL_KIND_CONTEXT) {
			if (journal_read_record(reader->journal, file, offset, &head, &bytes) &&
				decode_matches(reader, bytes, &matches))
				add_known(reader, offset, matches);
			else if (offset >= reader->begin)
				reader->damaged += journal_record_bytes(head.len);
		} else if (head.kind == JOURNAL_KIND_ENTRY && offset >= reader->begin) {
			known = find_known(reader, head.context);
			if (!known)
				reader->damaged += journal_record_bytes(head.len);
			else if (known->matches && head_matches(reader, &head))
				add_offset(reader, offset);
		}
		offset += journal_record_bytes(head.len);
	}
}

static int compare_offsets(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

/* The entries of one context, from its last one back. */
static bool walk(
	struct journal_reader *reader, const struct journal_file *file, const struct journal_context *context)
{
	for (uint32_t at = context->last; at && at >= reader->begin;) {
		char bytes[JOURNAL_HEAD_BYTES];
		struct journal_head head;

		if (!journal_read(reader->journal, file, at, bytes, sizeof(bytes)) ||
			!journal_head_decode(bytes, file->seed, at, file->size, &head) ||
			head.kind != JOURNAL_KIND_ENTRY || head.context != context->offset)
			return false;
		if (head_matches(reader, &head))
			add_offset(reader, at);
		at = head.previous; /* always before this one */
	}
	return true;
}

/* Those of the contexts, which match; false: something on the way does not check. */
static bool walk_all(struct journal_reader *reader, const struct journal_file *file,
	const struct journal_context *contexts, size_t count)
{
	size_t steps = 0;

	for (size_t i = 0; i < count; i++)
		steps += contexts[i].last >= reader->begin ? contexts[i].count : 0;
	if (reader->begin <= JOURNAL_HEADER_BYTES && steps > CHAIN_MAX)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!walk(reader, file, &contexts[i]))
			return false;
	if (count > 1 && reader->count)
		qsort(reader->offsets, reader->count, sizeof(*reader->offsets), compare_offsets);
	else /* one chain backwards */
		for (size_t low = 0, high = reader->count; low + 1 < high; low++) {
			uint32_t first = reader->offsets[low];

			reader->offsets[low] = reader->offsets[--high];
			reader->offsets[high] = first;
		}
	return true;
}

/* By the contexts in memory of the newest file. */
static bool collect_live(struct journal_reader *reader, const struct journal_file *file)
{
	const struct journal *journal = reader->journal;
	_cleanup_free_ struct journal_context *found =
		mem_new_array(struct journal_context, journal->context_count + 1);
	size_t count = 0;

	if (reader->known_file != file->number)
		forget_known(reader);
	reader->known_file = file->number;
	for (size_t i = reader->known_count; i < journal->context_count; i++) {
		bool matches;

		if (!look_at_context(reader, file, journal->contexts[i].offset, &matches))
			return false;
		add_known(reader, journal->contexts[i].offset, matches);
	}
	for (size_t i = 0; i < journal->context_count; i++)
		if (reader->known[i].matches && journal->contexts[i].last >= reader->begin)
			found[count++] = journal->contexts[i];
	return walk_all(reader, file, found, count);
}

/* Adds the contexts of one hash that match; false when one cannot be read. */
static bool add_indexed(struct journal_reader *reader, const struct journal_file *file,
	const struct journal_index *index, const struct match *match, struct journal_context *found,
	size_t *count)
{
	uint32_t hash = journal_field_hash(file->seed, slice_make(match->text, match->len)), position;

	for (uint32_t at = journal_index_find(index, hash); journal_index_hash(index, at, hash, &position);
		at++) {
		struct journal_context context = journal_index_context(index, position);
		bool matches, twice = false;

		if (!look_at_context(reader, file, context.offset, &matches))
			return false;
		for (size_t i = 0; i < *count; i++)
			twice = twice || found[i].offset == context.offset;
		if (matches && !twice && *count < index->context_count)
			found[(*count)++] = context;
	}
	return true;
}

static bool collect_indexed(struct journal_reader *reader, const struct journal_file *file)
{
	struct journal_index index = {.bytes = BUF_INIT(JOURNAL_FILE_MAX)};
	struct journal_context *found = NULL;
	unsigned group = JOURNAL_MATCHES_MAX + 2;
	size_t count = 0;
	bool done;

	forget_known(reader);
	/* Looked up by one of the groups; the contexts found are compared with all. */
	for (size_t i = reader->match_count; i-- > 0;)
		if (!(reader->message_groups >> reader->matches[i].group & 1))
			group = reader->matches[i].group;
	done = group < JOURNAL_MATCHES_MAX + 2 && journal_index_load(reader->journal, file, &index);
	if (done)
		found = mem_new_array(struct journal_context, index.context_count + 1);
	for (size_t i = 0; done && i < reader->match_count; i++)
		if (reader->matches[i].group == group)
			done = add_indexed(reader, file, &index, &reader->matches[i], found, &count);
	done = done && walk_all(reader, file, found, count);
	free(found);
	buf_done(&index.bytes);
	return done;
}

/* Keeps the entries whose message is one that was asked for. */
static void filter_messages(struct journal_reader *reader, const struct journal_file *file)
{
	size_t kept = 0;

	for (size_t i = 0; i < reader->count; i++) {
		struct journal_head head;
		struct slice message;

		if (!journal_read_record(reader->journal, file, reader->offsets[i], &head, &message))
			reader->damaged += JOURNAL_HEAD_BYTES;
		else if ((groups_of_field(reader, SLICE_LITERAL("MESSAGE"), message) &
				 reader->message_groups) == reader->message_groups)
			reader->offsets[kept++] = reader->offsets[i];
	}
	reader->count = kept;
}

/* The offsets of what matches in a file, from reader->begin on. */
static void collect(struct journal_reader *reader, const struct journal_file *file)
{
	bool live = file == journal_live_file(reader->journal);

	reader->count = reader->at = 0;
	reader->source = file->number;
	if (!file->sound) {
		reader->damaged += file->size;
	} else if ((!reader->since_us || file->max_us >= reader->since_us) &&
		   (!reader->until_us || file->min_us <= reader->until_us)) {
		if (!(live ? collect_live(reader, file) : collect_indexed(reader, file)))
			scan(reader, file);
		if (reader->message_groups)
			filter_messages(reader, file);
	}
}

/* ---- Going on ---- */

/* The first one from `number` on. */
static const struct journal_file *file_from(const struct journal *journal, uint64_t number)
{
	size_t low = 0, high = journal->file_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (journal->files[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < journal->file_count ? &journal->files[low] : NULL;
}

/* What comes next is behind all that is in this file now. Without `follow` there is nothing behind the newest
 * one, however quickly it grows. */
static void stand_behind(struct journal_reader *reader, const struct journal_file *file)
{
	bool live = file == journal_live_file(reader->journal);

	reader->file = !live ? file->number + 1 : reader->follow ? file->number : UINT64_MAX;
	reader->begin = live ? file->size : 0;
}

static enum journal_step step_forward(struct journal_reader *reader)
{
	const struct journal_file *file = file_from(reader->journal, reader->file);

	if (!file)
		return JOURNAL_END;
	if (file->number != reader->file)
		reader->begin = 0; /* the one it stood in is gone */
	if ((!reader->follow && file->first_sequence >= reader->end_sequence) ||
		(file == journal_live_file(reader->journal) && reader->begin == file->size))
		return JOURNAL_END;
	collect(reader, file);
	stand_behind(reader, file);
	return JOURNAL_WORK;
}

static enum journal_step step_backwards(struct journal_reader *reader)
{
	const struct journal *journal = reader->journal;
	const struct journal_file *file = NULL;

	for (size_t i = 0; i < journal->file_count && journal->files[i].number <= reader->file; i++)
		file = &journal->files[i];
	reader->begin = 0;
	if (file) {
		reader->damaged = 0;
		collect(reader, file);
		if (reader->count < reader->wanted) {
			reader->wanted -= reader->count;
			reader->count = 0;
			reader->file = file->number - 1;
			return JOURNAL_WORK;
		}
		reader->at = reader->count - reader->wanted;
		stand_behind(reader, file);
	} else {
		reader->damaged = 0; /* the same is met again */
		reader->file = 0;
	}
	reader->backwards = false;
	return JOURNAL_WORK;
}

static bool read_context(struct journal_reader *reader, const struct journal_file *file, uint32_t offset)
{
	if (reader->context_file == file->number && reader->context_offset == offset)
		return true;
	reader->context_file = 0;
	if (!fetch_context(reader, file, offset, &reader->context) ||
		!journal_context_decode(
			buf_slice(&reader->context), &reader->names, reader->fields, &reader->field_count))
		return false;
	reader->context_file = file->number;
	reader->context_offset = offset;
	return true;
}

static enum journal_step answer(struct journal_reader *reader, struct journal_entry *ret)
{
	const struct journal_file *file = file_from(reader->journal, reader->source);
	uint32_t offset = reader->offsets[reader->at++];
	struct journal_head head;
	struct slice message;

	if (!file || file->number != reader->source) { /* removed meanwhile */
		reader->at = reader->count = 0;
		return JOURNAL_WORK;
	}
	if (!journal_read_record(reader->journal, file, offset, &head, &message) ||
		head.kind != JOURNAL_KIND_ENTRY || !read_context(reader, file, head.context)) {
		reader->damaged += journal_read_head(reader->journal, file, offset, &head)
					   ? journal_record_bytes(head.len)
					   : JOURNAL_HEAD_BYTES;
		return JOURNAL_WORK;
	}
	ret->sequence = head.sequence;
	ret->realtime_us = head.realtime_us;
	ret->monotonic_us = head.monotonic_us;
	ret->message = message;
	ret->field_count = reader->field_count;
	memcpy(ret->fields, reader->fields, reader->field_count * sizeof(*ret->fields));
	ret->journal_id = reader->journal->id;
	return JOURNAL_ENTRY;
}

enum journal_step journal_reader_next(
	struct journal_reader *reader, struct journal_entry *ret_entry, uint64_t *ret_damaged_bytes)
{
	if (reader->backwards)
		return step_backwards(reader);
	while (reader->at < reader->count) {
		enum journal_step step = answer(reader, ret_entry);

		if (step != JOURNAL_WORK)
			return step;
	}
	if (reader->damaged) {
		*ret_damaged_bytes = reader->damaged;
		reader->damaged = 0;
		return JOURNAL_DAMAGE;
	}
	if (reader->cap) { /* who follows mostly waits */
		reader->offsets = mem_free(reader->offsets);
		reader->count = reader->cap = reader->at = 0;
	}
	return step_forward(reader);
}

int journal_reader_new(
	struct journal *journal, const struct journal_query *query, struct journal_reader **ret)
{
	struct journal_reader *reader;
	int r;

	if (journal->reader_count >= JOURNAL_READERS_MAX)
		return -EMFILE;
	reader = mem_new(struct journal_reader);
	journal->reader_count++;
	reader->journal = journal;
	reader->scratch = reader->context = BUF_INIT(JOURNAL_HEAD_BYTES + JOURNAL_CONTEXT_MAX);
	reader->since_us = query->since_us;
	reader->until_us = query->until_us;
	reader->follow = query->follow;
	reader->end_sequence = journal->next_sequence;
	if (query->lines > 0) {
		reader->backwards = true;
		reader->wanted = (size_t)query->lines;
		reader->file = UINT64_MAX;
	} else if (query->lines == 0 && journal->file_count) {
		stand_behind(reader, &journal->files[journal->file_count - 1]);
	}
	r = add_matches(reader, query);
	if (r < 0) {
		(void)journal_reader_free(reader);
		return r;
	}
	*ret = reader;
	return 0;
}

struct journal_reader *journal_reader_free(struct journal_reader *reader)
{
	if (!reader)
		return NULL;
	for (size_t i = 0; i < reader->match_count; i++)
		free(reader->matches[i].text);
	if (--reader->journal->reader_count == 0)
		journal_reading_done(reader->journal);
	buf_done(&reader->scratch);
	buf_done(&reader->context);
	free(reader->offsets);
	free(reader->known);
	free(reader);
	return NULL;
}

struct slice journal_entry_value(const struct journal_entry *entry, const char *name)
{
	for (size_t i = 0; i < entry->field_count; i++)
		if (strcmp(entry->fields[i].name, name) == 0)
			return entry->fields[i].value;
	return SLICE_LITERAL("");
}
