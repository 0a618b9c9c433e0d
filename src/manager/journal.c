/* Files, and appending to the newest. An entry goes out as one write at a place that is known, with its
 * context in front of it when that is new to the file; a write that fails is cut off again. Contexts of the
 * newest file are known by a hash of 128 bits with a random seed, so that a line costs no reading. */
#include "manager/journal_internal.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096u
#define NUMBER_MAX (UINT64_C(1) << 62)
#define TABLE_SLOTS (2 * JOURNAL_CONTEXTS_MAX)
#define NAME_BYTES 32
#define NAME_SUFFIX ".journal"

static_assert(JOURNAL_HEADER_BYTES + 2 * JOURNAL_HEAD_BYTES + JOURNAL_CONTEXT_MAX + JOURNAL_MESSAGE_MAX +
			      2 * JOURNAL_HEAD_BYTES + JOURNAL_FOOTER_BYTES + JOURNAL_INDEX_FIXED +
			      JOURNAL_INDEX_CONTEXT + JOURNAL_FIELDS_MAX * JOURNAL_INDEX_HASH <=
		      JOURNAL_FILE_MIN,
	"the largest entry fits into the smallest file");
static_assert(
	JOURNAL_HEAD_BYTES + JOURNAL_MESSAGE_MAX <= JOURNAL_WINDOW_BYTES, "a record fits into the window");
static_assert((TABLE_SLOTS & (TABLE_SLOTS - 1)) == 0, "the table's size is a power of two");

struct journal_file *journal_live_file(const struct journal *journal)
{
	return journal->fd >= 0 ? &journal->files[journal->file_count - 1] : NULL;
}

uint64_t journal_lost(const struct journal *journal)
{
	return journal->lost;
}

uint64_t journal_bytes(const struct journal *journal)
{
	return journal->total_bytes;
}

static void file_name(uint64_t number, char ret_name[static NAME_BYTES])
{
	(void)snprintf(ret_name, NAME_BYTES, "%016llx" NAME_SUFFIX, (unsigned long long)number);
}

static bool file_number(const char *name, uint64_t *ret)
{
	size_t len = strlen(name), suffix = sizeof(NAME_SUFFIX) - 1;

	return len == 16 + suffix && strcmp(name + 16, NAME_SUFFIX) == 0 &&
	       text_hex_to_u64(slice_make(name, 16), ret) == 0 && *ret > 0 && *ret < NUMBER_MAX;
}

/* ---- Reading places ---- */

static int read_fd(struct journal *journal, const struct journal_file *file)
{
	char name[NAME_BYTES];

	if (file == journal_live_file(journal))
		return journal->fd;
	if (journal->read_fd >= 0 && journal->read_number == file->number)
		return journal->read_fd;
	if (journal->read_fd >= 0)
		close(journal->read_fd);
	file_name(file->number, name);
	journal->read_fd = openat(journal->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	journal->read_number = file->number;
	return journal->read_fd;
}

/* Answers how many bytes there were. */
static size_t read_at(int fd, void *to, size_t len, uint32_t offset)
{
	size_t done = 0;

	while (fd >= 0 && done < len) {
		ssize_t got = pread(fd, (char *)to + done, len - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	return done;
}

bool journal_read(
	struct journal *journal, const struct journal_file *file, uint32_t offset, void *to, size_t len)
{
	return offset <= file->size && len <= file->size - offset &&
	       read_at(read_fd(journal, file), to, len, offset) == len;
}

const char *journal_window(
	struct journal *journal, const struct journal_file *file, uint32_t offset, uint32_t len)
{
	if (offset > file->size || len > file->size - offset || len > JOURNAL_WINDOW_BYTES)
		return NULL;
	if (journal->window_number != file->number || offset < journal->window_offset ||
		(uint64_t)offset + len > (uint64_t)journal->window_offset + journal->window_len) {
		if (!journal->window)
			journal->window = mem_alloc(JOURNAL_WINDOW_BYTES);
		journal->window_number = file->number;
		journal->window_offset = offset;
		journal->window_len = (uint32_t)read_at(read_fd(journal, file), journal->window,
			MIN((size_t)JOURNAL_WINDOW_BYTES, (size_t)(file->size - offset)), offset);
		if (journal->window_len < len)
			return NULL;
	}
	return journal->window + (offset - journal->window_offset);
}

void journal_reading_done(struct journal *journal)
{
	journal->window = mem_free(journal->window);
	journal->window_number = journal->window_len = 0;
	if (journal->read_fd >= 0)
		close(journal->read_fd);
	journal->read_fd = -1;
}

bool journal_read_head(
	struct journal *journal, const struct journal_file *file, uint32_t offset, struct journal_head *ret)
{
	const char *at = journal_window(journal, file, offset, JOURNAL_HEAD_BYTES);

	return at && journal_head_decode(at, file->seed, offset, file->size, ret);
}

bool journal_read_record(struct journal *journal, const struct journal_file *file, uint32_t offset,
	struct journal_head *ret, struct slice *ret_payload)
{
	const char *at;

	if (!journal_read_head(journal, file, offset, ret))
		return false;
	at = journal_window(journal, file, offset, journal_record_bytes(ret->len));
	if (!at)
		return false;
	at += JOURNAL_HEAD_BYTES;
	if (journal_payload_crc(file->seed, offset, slice_make(at, JOURNAL_PADDED(ret->len))) !=
		ret->payload_crc)
		return false;
	*ret_payload = slice_make(at, ret->len);
	return true;
}

uint32_t journal_resync(struct journal *journal, const struct journal_file *file, uint32_t offset)
{
	struct journal_head head;

	for (offset = JOURNAL_PADDED(offset); offset < file->size; offset += 8)
		if (journal_read_head(journal, file, offset, &head))
			return offset;
	return file->size;
}

/* ---- Contexts of the newest file ---- */

static void forget_contexts(struct journal *journal)
{
	journal->context_count = journal->context_cap = journal->pair_count = 0;
	journal->contexts = mem_free(journal->contexts);
	journal->table = mem_free(journal->table);
}

static void context_hash(const struct journal *journal, struct slice bytes, uint64_t ret[static 2])
{
	ret[0] = hash_bytes(bytes.data, bytes.len, journal->hash_seed[0]);
	ret[1] = hash_bytes(bytes.data, bytes.len, journal->hash_seed[1]);
}

static struct journal_context *find_context(const struct journal *journal, const uint64_t hash[static 2])
{
	size_t slot = hash[0] & (TABLE_SLOTS - 1);

	if (!journal->table)
		return NULL;
	for (; journal->table[slot]; slot = (slot + 1) & (TABLE_SLOTS - 1)) {
		struct journal_context *context = &journal->contexts[journal->table[slot] - 1];

		if (context->hash[0] == hash[0] && context->hash[1] == hash[1])
			return context;
	}
	return NULL;
}

static struct journal_context *add_context(
	struct journal *journal, const uint64_t hash[static 2], uint32_t offset, size_t fields)
{
	size_t slot = hash[0] & (TABLE_SLOTS - 1);

	assert(journal->context_count < JOURNAL_CONTEXTS_MAX);
	if (!journal->table)
		journal->table = mem_new_array(uint16_t, TABLE_SLOTS);
	if (journal->context_count == journal->context_cap) {
		journal->context_cap = MAX(journal->context_cap * 2, (size_t)16);
		journal->contexts =
			mem_reallocarray(journal->contexts, journal->context_cap, sizeof(*journal->contexts));
	}
	while (journal->table[slot])
		slot = (slot + 1) & (TABLE_SLOTS - 1);
	journal->contexts[journal->context_count++] =
		(struct journal_context){.hash = {hash[0], hash[1]}, .offset = offset};
	journal->table[slot] = (uint16_t)journal->context_count;
	journal->pair_count += fields;
	return &journal->contexts[journal->context_count - 1];
}

/* ---- Files ---- */

static struct journal_file *add_file(struct journal *journal, uint64_t number)
{
	if (journal->file_count == journal->file_cap) {
		journal->file_cap = MAX(journal->file_cap * 2, (size_t)8);
		journal->files = mem_reallocarray(journal->files, journal->file_cap, sizeof(*journal->files));
	}
	journal->files[journal->file_count] = (struct journal_file){.number = number};
	return &journal->files[journal->file_count++];
}

static void remove_file(struct journal *journal, size_t at)
{
	char name[NAME_BYTES];

	file_name(journal->files[at].number, name);
	(void)unlinkat(journal->dir_fd, name, 0);
	journal->total_bytes -= journal->files[at].size;
	journal->file_count--;
	memmove(journal->files + at, journal->files + at + 1,
		(journal->file_count - at) * sizeof(*journal->files));
}

/* Makes room for so many bytes and one more file. */
static void make_room(struct journal *journal, uint64_t bytes)
{
	while (journal->file_count &&
		(journal->total_bytes + bytes > journal->max_bytes || journal->file_count >= FILES_MAX))
		remove_file(journal, 0);
}

/* One write at a known place. What a failed one left is cut off: it would be taken for damage. */
static int write_at_end(struct journal *journal, struct slice bytes)
{
	struct journal_file *file = journal_live_file(journal);
	ssize_t done;

	do {
		done = pwrite(journal->fd, bytes.data, bytes.len, (off_t)file->size);
	} while (done < 0 && errno == EINTR);
	if (done != (ssize_t)bytes.len) {
		int r = done < 0 ? -errno : -ENOSPC;

		if (ftruncate(journal->fd, (off_t)file->size) < 0) {
			close(journal->fd); /* nothing is appended behind what may be there */
			journal->fd = -1;
			forget_contexts(journal);
		}
		return r;
	}
	file->size += (uint32_t)bytes.len;
	journal->total_bytes += bytes.len;
	return 0;
}

/* Ends the newest file, with an index where that can be written. */
static void seal(struct journal *journal)
{
	struct journal_file *file = journal_live_file(journal);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0); /* bounded by the contexts of a file */
	uint32_t index;

	if (!file)
		return;
	index = file->size;
	if (journal_index_build(journal, &bytes) == 0 && write_at_end(journal, buf_slice(&bytes)) == 0)
		file->index = index;
	if (!journal->reader_count)
		journal_reading_done(journal);
	if (journal->fd >= 0)
		close(journal->fd);
	journal->fd = -1;
	forget_contexts(journal);
}

static int begin_file(struct journal *journal)
{
	struct journal_header header = {.number = 1, .first_sequence = journal->next_sequence};
	char name[NAME_BYTES], bytes[JOURNAL_HEADER_BYTES];
	struct journal_file *file;
	int r;

	seal(journal);
	make_room(journal, journal->file_bytes);
	if (journal->file_count)
		header.number = journal->files[journal->file_count - 1].number + 1;
	rng_system(&header.seed, sizeof(header.seed));
	memcpy(header.id, journal->id, sizeof(header.id));
	file_name(header.number, name);
	journal->fd = openat(journal->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (journal->fd < 0)
		return -errno;
	file = add_file(journal, header.number);
	file->seed = journal_seed_crc(header.seed);
	file->first_sequence = header.first_sequence;
	file->sound = true;
	file->min_us = INT64_MAX;
	file->max_us = INT64_MIN;
	journal_header_encode(bytes, &header);
	r = write_at_end(journal, slice_make(bytes, sizeof(bytes)));
	if (r < 0) {
		if (journal->fd >= 0)
			close(journal->fd);
		journal->fd = -1;
		remove_file(journal, journal->file_count - 1);
	}
	return r;
}

/* ---- Opening ---- */

static void note_times(struct journal_file *file, int64_t realtime_us)
{
	file->min_us = MIN(file->min_us, realtime_us);
	file->max_us = MAX(file->max_us, realtime_us);
}

static bool note_context(struct journal *journal, uint32_t offset, struct slice bytes)
{
	_cleanup_free_ struct journal_names *names = mem_new(struct journal_names);
	struct journal_field fields[JOURNAL_FIELDS_MAX];
	uint64_t hash[2];
	size_t count;

	if (!journal_context_decode(bytes, names, fields, &count) ||
		journal->context_count == JOURNAL_CONTEXTS_MAX)
		return false;
	context_hash(journal, bytes, hash);
	(void)add_context(journal, hash, offset, count);
	return true;
}

static int compare_context(const void *offset, const void *context)
{
	uint32_t wanted = *(const uint32_t *)offset, has = ((const struct journal_context *)context)->offset;

	return wanted < has ? -1 : wanted > has;
}

/* They stand in the order of their offsets. */
static struct journal_context *context_at(const struct journal *journal, uint32_t offset)
{
	return journal->context_count ? bsearch(&offset, journal->contexts, journal->context_count,
						sizeof(struct journal_context), compare_context)
				      : NULL;
}

static bool note_entry(
	struct journal *journal, struct journal_file *file, uint32_t offset, const struct journal_head *head)
{
	struct journal_context *context = context_at(journal, head->context);

	note_times(file, head->realtime_us);
	journal->next_sequence = MAX(journal->next_sequence, head->sequence + 1);
	if (!context || context->last != head->previous)
		return false;
	context->last = offset;
	context->count++;
	return true;
}

/* Reads the newest file, which has no index: learns its contexts and where its last sound record ends. False:
 * it is damaged before that. */
static bool scan_newest(struct journal *journal, struct journal_file *file, uint32_t *ret_end)
{
	bool sound = true, torn = false;
	uint32_t offset = JOURNAL_HEADER_BYTES, end = offset;

	while (offset < file->size) {
		struct journal_head head;
		struct slice payload;
		bool checks;

		if (!journal_read_head(journal, file, offset, &head)) {
			torn = true;
			offset = journal_resync(journal, file, offset + 8);
			continue;
		}
		if (head.kind == JOURNAL_KIND_INDEX) /* of a sealing that did not come to its end */
			break;
		checks = journal_read_record(journal, file, offset, &head, &payload);
		sound = sound && !torn; /* something sound stands behind what is not */
		if (checks && head.kind == JOURNAL_KIND_CONTEXT)
			sound = note_context(journal, offset, payload) && sound;
		else if (checks)
			sound = note_entry(journal, file, offset, &head) && sound;
		torn = !checks;
		offset += journal_record_bytes(head.len);
		if (checks)
			end = offset;
	}
	*ret_end = end;
	return sound;
}

/* Goes on in the newest file, or leaves it as it is when it is full or damaged. */
static void take_up_newest(struct journal *journal)
{
	struct journal_file *file;
	char name[NAME_BYTES];
	uint32_t end;
	bool sound;
	int fd;

	if (!journal->file_count)
		return;
	file = &journal->files[journal->file_count - 1];
	if (file->size < JOURNAL_HEADER_BYTES) { /* it was just begun */
		remove_file(journal, journal->file_count - 1);
		return;
	}
	if (!file->sound || file->index)
		return;
	file->min_us = INT64_MAX;
	file->max_us = INT64_MIN;
	sound = scan_newest(journal, file, &end);
	journal_reading_done(journal);
	file_name(file->number, name);
	fd = openat(journal->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && end < file->size && ftruncate(fd, (off_t)end) == 0) {
		journal->total_bytes -= file->size - end;
		file->size = end;
	}
	if (sound && fd >= 0 && file->size == end) {
		journal->fd = fd;
		return;
	}
	if (fd >= 0)
		close(fd);
	forget_contexts(journal);
}

/* What header and footer of a file say. */
static void look_at(struct journal *journal, struct journal_file *file)
{
	char header_bytes[JOURNAL_HEADER_BYTES], footer_bytes[JOURNAL_FOOTER_BYTES];
	struct journal_header header;
	struct journal_footer footer;

	file->min_us = INT64_MIN;
	file->max_us = INT64_MAX;
	if (!journal_read(journal, file, 0, header_bytes, sizeof(header_bytes)) ||
		!journal_header_decode(header_bytes, &header) || header.number != file->number)
		return;
	file->sound = true;
	file->seed = journal_seed_crc(header.seed);
	file->first_sequence = header.first_sequence;
	journal->next_sequence = MAX(journal->next_sequence, header.first_sequence);
	memcpy(journal->id, header.id, sizeof(header.id));
	if (file->size < JOURNAL_HEADER_BYTES + JOURNAL_FOOTER_BYTES ||
		!journal_read(journal, file, file->size - JOURNAL_FOOTER_BYTES, footer_bytes,
			sizeof(footer_bytes)) ||
		!journal_footer_decode(footer_bytes, file->seed, &footer) ||
		footer.index < JOURNAL_HEADER_BYTES || footer.index >= file->size)
		return;
	file->index = footer.index;
	file->min_us = footer.min_us;
	file->max_us = footer.max_us;
	journal->next_sequence = MAX(journal->next_sequence, footer.next_sequence);
}

static int compare_files(const void *a, const void *b)
{
	const struct journal_file *left = a, *right = b;

	return left->number < right->number ? -1 : left->number > right->number;
}

static int find_files(struct journal *journal)
{
	int fd = openat(journal->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;
	uint64_t number;

	if (!dir) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return r;
	}
	while ((entry = readdir(dir))) {
		struct journal_file *file;

		if (!file_number(entry->d_name, &number) ||
			fstatat(journal->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISREG(st.st_mode))
			continue;
		file = add_file(journal, number);
		file->size = (uint32_t)MIN((uint64_t)st.st_size, (uint64_t)JOURNAL_FILE_MAX);
		journal->total_bytes += file->size;
	}
	closedir(dir);
	if (journal->file_count)
		qsort(journal->files, journal->file_count, sizeof(*journal->files), compare_files);
	return 0;
}

int journal_open(const char *dir, uint64_t max_bytes, struct journal **ret)
{
	struct journal *journal = mem_new(struct journal);
	int r;

	journal->fd = journal->read_fd = -1;
	journal->max_bytes = MIN(MAX(max_bytes, (uint64_t)JOURNAL_BYTES_MIN), JOURNAL_BYTES_MAX);
	journal->file_bytes = (uint32_t)MIN(
		MAX(journal->max_bytes / 8, (uint64_t)JOURNAL_FILE_MIN), (uint64_t)JOURNAL_FILE_MAX);
	journal->next_sequence = 1;
	journal->record = BUF_INIT(JOURNAL_FILE_MIN);
	rng_system(journal->id, sizeof(journal->id));
	rng_system(journal->hash_seed, sizeof(journal->hash_seed));
	journal->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = journal->dir_fd < 0 ? -errno : find_files(journal);
	if (r < 0) {
		(void)journal_close(journal);
		return r;
	}
	for (size_t i = 0; i < journal->file_count; i++)
		look_at(journal, &journal->files[i]);
	make_room(journal, 0);
	take_up_newest(journal);
	journal_reading_done(journal);
	*ret = journal;
	return 0;
}

struct journal *journal_close(struct journal *journal)
{
	if (!journal)
		return NULL;
	assert(!journal->reader_count);
	journal_reading_done(journal);
	forget_contexts(journal);
	if (journal->fd >= 0)
		close(journal->fd);
	if (journal->dir_fd >= 0)
		close(journal->dir_fd);
	buf_done(&journal->record);
	free(journal->files);
	free(journal);
	return NULL;
}

/* ---- Appending ---- */

static bool has_room(const struct journal *journal, bool new_context, uint32_t bytes, size_t fields)
{
	const struct journal_file *file = journal_live_file(journal);

	if (!file || (new_context && journal->context_count == JOURNAL_CONTEXTS_MAX))
		return false;
	return (uint64_t)file->size + bytes +
		       journal_index_bytes(journal->context_count + new_context,
			       journal->pair_count + (new_context ? fields : 0)) <=
	       journal->file_bytes;
}

/* Fills up the record that begins at `from` and puts its head in front. */
static void end_record(struct journal *journal, size_t from, struct journal_head *head)
{
	const struct journal_file *file = journal_live_file(journal);
	struct buf *record = &journal->record;
	uint32_t offset = file->size + (uint32_t)from;

	head->len = (uint32_t)(record->len - from - JOURNAL_HEAD_BYTES);
	buf_add_fill(record, 0, JOURNAL_PADDED(head->len) - head->len);
	assert(buf_error(record) == 0);
	head->payload_crc = journal_payload_crc(file->seed, offset,
		slice_make(record->data + from + JOURNAL_HEAD_BYTES, JOURNAL_PADDED(head->len)));
	journal_head_encode(record->data + from, file->seed, offset, head);
}

static int write_entry(struct journal *journal, struct journal_head *head, const uint64_t hash[static 2],
	size_t field_count, struct slice message)
{
	struct journal_context *context = find_context(journal, hash);
	struct buf *record = &journal->record; /* begins with the context */
	struct journal_file *file = journal_live_file(journal);
	struct journal_head context_head = {.kind = JOURNAL_KIND_CONTEXT};
	uint32_t begin = file->size;
	size_t from = 0;
	int r;

	if (context) {
		buf_clear(record);
	} else {
		end_record(journal, 0, &context_head);
		from = record->len;
	}
	buf_add_fill(record, 0, JOURNAL_HEAD_BYTES);
	buf_add_slice(record, message);
	head->context = context ? context->offset : begin;
	head->previous = context ? context->last : 0;
	end_record(journal, from, head);
	r = write_at_end(journal, buf_slice(record));
	if (r < 0)
		return r;
	if (!context)
		context = add_context(journal, hash, begin, field_count);
	context->last = begin + (uint32_t)from;
	context->count++;
	note_times(file, head->realtime_us);
	journal->next_sequence++;
	return 0;
}

static int append_once(struct journal *journal, int64_t realtime_us, int64_t monotonic_us,
	const struct journal_field *fields, size_t count, struct slice message)
{
	struct journal_head head = {.kind = JOURNAL_KIND_ENTRY,
		.sequence = journal->next_sequence,
		.realtime_us = realtime_us,
		.monotonic_us = monotonic_us};
	struct buf *record = &journal->record;
	uint64_t hash[2];
	uint32_t bytes;
	int r;

	message.len = MIN(message.len, (size_t)JOURNAL_MESSAGE_MAX);
	buf_clear(record);
	buf_add_fill(record, 0, JOURNAL_HEAD_BYTES);
	r = journal_context_encode(fields, count, record);
	if (r < 0 || record->len - JOURNAL_HEAD_BYTES > JOURNAL_CONTEXT_MAX)
		return -EINVAL;
	context_hash(journal, slice_make(record->data + JOURNAL_HEAD_BYTES, record->len - JOURNAL_HEAD_BYTES),
		hash);
	bytes = journal_record_bytes((uint32_t)(record->len - JOURNAL_HEAD_BYTES)) +
		journal_record_bytes((uint32_t)message.len);
	if (!has_room(journal, !find_context(journal, hash), bytes, count))
		r = begin_file(journal);
	return r < 0 ? r : write_entry(journal, &head, hash, count, message);
}

int journal_append(struct journal *journal, int64_t realtime_us, int64_t monotonic_us,
	const struct journal_field *fields, size_t count, struct slice message)
{
	size_t old = journal->file_count - (journal->fd >= 0);
	int r = append_once(journal, realtime_us, monotonic_us, fields, count, message);

	/* What is new is worth more than what is oldest here. One file a line: whoever fills the disk shall
	 * not take them all at once. */
	if ((r == -ENOSPC || r == -EDQUOT) && old) {
		remove_file(journal, 0);
		r = append_once(journal, realtime_us, monotonic_us, fields, count, message);
	}
	journal->lost += r < 0 && r != -EINVAL;
	return r;
}
