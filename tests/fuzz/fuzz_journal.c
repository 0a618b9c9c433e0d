/* The supervisor's journal over files that anything was done to. The input is a byte of what to mend, and the
 * bytes of up to three files; with mending, checksums are made to fit wherever something looks like a record,
 * so that what lies behind them is reached. Whatever is opened must be read to its end by every kind of
 * query, within its bounds, be added to, and give back what was added. */
#include "manager/journal_internal.h"
#include "base/hash.h"
#include "base/memory.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 3, ENTRIES_MAX = 100000 };
enum mend { MEND_HEADERS = 1, MEND_HEADS = 2, MEND_PAYLOADS = 4, MEND_FOOTERS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void remove_dir(void)
{
	(void)rmdir(dir);
}

static void put_u32(char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (char)(value >> 8 * i);
}

static uint32_t get_u32(const char *at)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value |= (uint32_t)(unsigned char)at[i] << 8 * i;
	return value;
}

/* What looks like a head by its first bytes gets the checksum of what it says, and its payload's. */
static void mend_records(char *bytes, uint32_t len, uint32_t seed, unsigned mend)
{
	for (uint32_t at = JOURNAL_HEADER_BYTES; at + JOURNAL_HEAD_BYTES <= len; at += 8) {
		char *head = bytes + at;
		uint32_t magic = get_u32(head), payload = get_u32(head + 4);
		struct journal_head fields = {
			.kind = (enum journal_kind)(magic & 0xff),
			.len = payload,
			.payload_crc = get_u32(head + 8),
			.context = get_u32(head + 12),
			.previous = get_u32(head + 16),
		};

		if (magic >> 8 != 0x4a4c00 || payload > len - at - JOURNAL_HEAD_BYTES)
			continue;
		memcpy(&fields.sequence, head + 24, 8);
		memcpy(&fields.realtime_us, head + 32, 8);
		memcpy(&fields.monotonic_us, head + 40, 8);
		if ((mend & MEND_PAYLOADS) && JOURNAL_PADDED(payload) <= len - at - JOURNAL_HEAD_BYTES)
			fields.payload_crc = journal_payload_crc(
				seed, at, slice_make(head + JOURNAL_HEAD_BYTES, JOURNAL_PADDED(payload)));
		journal_head_encode(head, seed, at, &fields);
	}
}

static void put_file(uint64_t number, const uint8_t *data, size_t size, unsigned mend)
{
	_cleanup_free_ char *bytes = mem_alloc(size + 1);
	char path[128];
	int fd;

	if (size)
		memcpy(bytes, data, size);
	if (size >= JOURNAL_HEADER_BYTES) {
		struct journal_header header = {.number = number, .first_sequence = number * 100};
		uint32_t seed = journal_seed_crc(0);

		if (mend & MEND_HEADERS)
			journal_header_encode(bytes, &header);
		else if (journal_header_decode(bytes, &header))
			seed = journal_seed_crc(header.seed);
		if (mend & MEND_HEADS)
			mend_records(bytes, (uint32_t)size, seed, mend);
		if ((mend & MEND_FOOTERS) && size >= JOURNAL_HEADER_BYTES + JOURNAL_FOOTER_BYTES) {
			char *at = bytes + size - JOURNAL_FOOTER_BYTES;

			put_u32(at, 0x4a4c4654);
			put_u32(at + 44, crc32c(seed, at, 44));
		}
	}
	(void)snprintf(path, sizeof(path), "%s/%016llx.journal", dir, (unsigned long long)number);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	require(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
	close(fd);
}

static void remove_files(void)
{
	for (uint64_t number = 1; number <= FILES + 2; number++) {
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/%016llx.journal", dir, (unsigned long long)number);
		(void)unlink(path);
	}
}

/* Reads it to its end; answers how many entries had that message. */
static size_t read_all(struct journal *journal, const struct journal_query *query, struct slice message)
{
	struct journal_reader *reader = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	struct journal_entry entry;
	enum journal_step step;
	size_t found = 0, steps = 0;
	uint64_t damaged;

	require(journal_reader_new(journal, query, &reader) == 0);
	while ((step = journal_reader_next(reader, &entry, &damaged)) != JOURNAL_END) {
		require(steps++ < ENTRIES_MAX);
		if (step == JOURNAL_DAMAGE)
			require(damaged > 0);
		if (step != JOURNAL_ENTRY)
			continue;
		require(entry.message.len <= JOURNAL_MESSAGE_MAX && entry.field_count <= JOURNAL_FIELDS_MAX);
		found += slice_equal(entry.message, message);
		buf_clear(&out);
		for (int output = 0; output < JOURNAL_OUTPUT_MAX; output++)
			journal_print(&entry, (enum journal_output)output, &out);
	}
	journal_reader_free(reader);
	return found;
}

static void ask(struct journal *journal)
{
	struct slice match = SLICE_LITERAL("PRIORITY=6"), message = SLICE_LITERAL("MESSAGE=a"), none = {0};

	(void)read_all(journal, &(struct journal_query){.lines = -1}, none);
	(void)read_all(journal, &(struct journal_query){.lines = 3, .unit = "a.service"}, none);
	(void)read_all(
		journal, &(struct journal_query){.lines = -1, .unit = "a.service", .follow = true}, none);
	(void)read_all(journal,
		&(struct journal_query){.lines = 5, .matches = &match, .match_count = 1, .since_us = 1000000},
		none);
	(void)read_all(journal,
		&(struct journal_query){
			.lines = 2, .matches = &message, .match_count = 1, .until_us = 5000000},
		none);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_field field = {"UNIT", SLICE_LITERAL("a.service")};
	struct slice added = SLICE_LITERAL("added by the fuzzer");
	struct journal_query mine = {.unit = "a.service", .lines = 1};
	struct journal *journal = NULL;
	unsigned what;

	if (!size || size > 60000)
		return 0;
	if (!dir[0]) {
		(void)snprintf(dir, sizeof(dir), "%s/flotilla-fuzz-XXXXXX",
			access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
		require(mkdtemp(dir) != NULL);
		(void)atexit(remove_dir);
	}
	what = data[0];
	data++;
	size--;
	for (uint64_t number = 1; number <= 1 + (what >> 4) % FILES; number++) {
		size_t part = size / (1 + (what >> 4) % FILES);

		put_file(number, data + (number - 1) * part, part, what);
	}
	require(journal_open(dir, 0, &journal) == 0);
	ask(journal);
	require(journal_append(journal, 1, 1, &field, 1, added) == 0);
	require(read_all(journal, &mine, added) == 1);
	ask(journal);
	journal = journal_close(journal);
	require(journal_open(dir, 0, &journal) == 0);
	require(read_all(journal, &mine, added) == 1);
	require(journal_append(journal, 2, 2, &field, 1, added) == 0);
	mine.lines = 2;
	require(read_all(journal, &mine, added) == 2);
	journal_close(journal);
	remove_files();
	return 0;
}
