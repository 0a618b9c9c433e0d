/* The journal's files after a crash, with bytes that changed, and on a disk that is full: what is lost is
 * told, and only that is lost. */
#include "journal_helpers.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char *path_of(const struct fixture *fixture, uint64_t number)
{
	return mem_printf("%s/%016llx.journal", fixture->dir, (unsigned long long)number);
}

static void put_file(const char *path, struct slice bytes)
{
	int fd;

	(void)unlink(path); /* some file systems wait for the disk when a file is emptied and written anew */
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes.data, bytes.len), (ssize_t)bytes.len);
	close(fd);
}

static void a_torn_tail_is_cut_at_every_byte(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *path = path_of(fixture, 1);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	size_t ends[8], before = 0;

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		append(fixture, i % 3 ? "web.service" : "other.service", (int)i / 2, 1, "some line");
		ends[i] = fixture->journal->files[0].size;
	}
	assert_int_equal(file_read(path, SIZE_MAX, &bytes), 0);
	for (size_t len = 0; len <= bytes.len; len++) {
		_cleanup_free_ char *got = NULL;
		size_t whole = 0;
		struct journal_query query = of(NULL, -1);

		while (whole < ARRAY_LEN(ends) && ends[whole] <= len)
			whole++;
		fixture->journal = journal_close(fixture->journal);
		put_file(path, slice_make(bytes.data, len));
		reopen(fixture);
		got = answers(fixture, &query);
		assert_int_equal(strlen(got), whole * strlen("some line\n"));
		assert_int_equal(fixture->damaged, 0);
		append(fixture, "web.service", 1, 1, "some line");
		reopen(fixture);
		got = mem_free(got);
		got = answers(fixture, &query);
		assert_int_equal(strlen(got), (whole + 1) * strlen("some line\n"));
		assert_int_equal(fixture->damaged, 0);
		assert_true(whole >= before);
		before = whole;
	}
}

/* The entries of a journal of 40 lines of two units; true when every one answered is one of these. */
static size_t count_true_entries(struct fixture *fixture, const struct journal_query *query)
{
	struct journal_reader *reader = NULL;
	struct journal_entry entry;
	enum journal_step step;
	uint64_t bytes, last = 0;
	size_t count = 0;

	fixture->damaged = 0;
	assert_int_equal(journal_reader_new(fixture->journal, query, &reader), 0);
	while ((step = journal_reader_next(reader, &entry, &bytes)) != JOURNAL_END) {
		char text[32];

		if (step == JOURNAL_DAMAGE)
			fixture->damaged += bytes;
		if (step != JOURNAL_ENTRY)
			continue;
		(void)snprintf(text, sizeof(text), "line %d", (int)entry.sequence);
		assert_true(slice_is(entry.message, text));
		assert_int_equal(entry.realtime_us, entry.sequence * 1000000);
		assert_true(entry.sequence > last);
		assert_int_equal(entry.field_count, 6);
		assert_true(slice_is(journal_entry_value(&entry, "_SYSTEMD_UNIT"),
			entry.sequence % 4 ? "web.service" : "rare.service"));
		last = entry.sequence;
		count++;
	}
	journal_reader_free(reader);
	return count;
}

static void add_true_entries(struct fixture *fixture)
{
	for (int i = 1; i <= 40; i++) {
		char text[32];

		(void)snprintf(text, sizeof(text), "line %d", i);
		append(fixture, i % 4 ? "web.service" : "rare.service", i / 10, i, text);
	}
}

/* Flips each byte of the first of two files, asks in three ways, and checks that whatever is missing is told.
 */
static void flip_each_byte(struct fixture *fixture)
{
	_cleanup_free_ char *path = path_of(fixture, 1);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct journal_query all = of(NULL, -1), web = of("web.service", -1), rare = of("rare.service", 20);

	all.until_us = INT64_C(999000000); /* without what another file holds */
	fixture->journal = journal_close(fixture->journal);
	assert_int_equal(file_read(path, SIZE_MAX, &bytes), 0);
	for (size_t i = 0; i < bytes.len; i++) {
		bytes.data[i] ^= (char)(1 << i % 8);
		put_file(path, buf_slice(&bytes));
		reopen(fixture);
		assert_true(count_true_entries(fixture, &all) == 40 || fixture->damaged > 0);
		assert_true(count_true_entries(fixture, &web) == 30 || fixture->damaged > 0);
		assert_true(count_true_entries(fixture, &rare) == 10 || fixture->damaged > 0);
		if (i >= JOURNAL_HEADER_BYTES)
			assert_true(count_true_entries(fixture, &all) >= 40 - 8);
		bytes.data[i] ^= (char)(1 << i % 8);
	}
	put_file(path, buf_slice(&bytes));
	reopen(fixture);
	assert_int_equal(count_true_entries(fixture, &all), 40);
	assert_int_equal(fixture->damaged, 0);
}

static void no_flipped_byte_of_a_sealed_file_is_served(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *second = path_of(fixture, 2);

	add_true_entries(fixture);
	/* Another file, and nothing in it that is asked for. */
	fixture->journal->file_bytes = fixture->journal->files[0].size;
	append(fixture, "later.service", 1, 1000, "later");
	assert_int_equal(fixture->journal->file_count, 2);
	assert_true(fixture->journal->files[0].index > 0);
	flip_each_byte(fixture);
	fixture->journal = journal_close(fixture->journal);
	assert_int_equal(unlink(second), 0);
	flip_each_byte(fixture); /* now it is the newest */
}

static void no_flipped_byte_of_the_newest_file_is_served(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *path = path_of(fixture, 1), *second = path_of(fixture, 2);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct journal_query all = of(NULL, -1);

	add_true_entries(fixture);
	assert_int_equal(file_read(path, SIZE_MAX, &bytes), 0);
	for (size_t i = 0; i < bytes.len; i++) {
		size_t found;

		fixture->journal = journal_close(fixture->journal);
		bytes.data[i] ^= (char)(1 << i % 8);
		put_file(path, buf_slice(&bytes));
		bytes.data[i] ^= (char)(1 << i % 8);
		reopen(fixture);
		found = count_true_entries(fixture, &all);
		/* Only the last record cannot be told from a torn one. */
		assert_true(found == 40 || fixture->damaged > 0 ||
			    (found == 39 && i >= bytes.len - JOURNAL_HEAD_BYTES - 8));
		append(fixture, "web.service", 1, 1, "goes on");
		reopen(fixture);
		assert_true(fixture->journal->file_count <= 2);
		if (fixture->journal->file_count == 2)
			assert_int_equal(unlink(second), 0);
	}
}

/* The length of the payload that `inside` points into, as the head before it says. */
static uint32_t context_len(const struct buf *bytes, const char *inside)
{
	const char *head = inside;

	while (head > bytes->data && memcmp(head, "\x01\x00LJ", 4) != 0)
		head--;
	return (uint32_t)(unsigned char)head[4] | (uint32_t)(unsigned char)head[5] << 8;
}

static void damage_while_it_runs_costs_only_what_it_hits(void **state)
{
	struct fixture *fixture = *state;
	struct journal_query all = of(NULL, -1), rare = of("rare.service", -1);
	_cleanup_free_ char *path = path_of(fixture, 1);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	const char *line;
	int fd;

	add_true_entries(fixture);
	assert_int_equal(file_read(path, SIZE_MAX, &bytes), 0);
	line = memmem(bytes.data, bytes.len, "line 21", 7);
	assert_non_null(line);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "X", 1, line - bytes.data), 1);
	assert_int_equal(count_true_entries(fixture, &all), 39);
	assert_int_equal(fixture->damaged, JOURNAL_HEAD_BYTES + 8);
	assert_int_equal(count_true_entries(fixture, &rare), 10);
	assert_int_equal(fixture->damaged, 0);				/* another's */
	assert_int_equal(pwrite(fd, "X", 1, line - bytes.data - 1), 1); /* its head: the chain is broken */
	assert_int_equal(count_true_entries(fixture, &all), 39);
	assert_int_equal(fixture->damaged, JOURNAL_HEAD_BYTES + 8);
	assert_int_equal(pwrite(fd, "l", 1, line - bytes.data), 1);
	assert_int_equal(pwrite(fd, "\0", 1, line - bytes.data - 1), 1);
	assert_int_equal(count_true_entries(fixture, &all), 40);
	/* A context: what it costs is told in full. */
	line = memmem(bytes.data, bytes.len, "rare.service", 12);
	assert_non_null(line);
	assert_int_equal(pwrite(fd, "R", 1, line - bytes.data), 1);
	reopen(fixture); /* what contexts said is not kept in memory over this */
	assert_int_equal(count_true_entries(fixture, &all), 38); /* of the process of lines 4 and 8 */
	assert_int_equal(fixture->damaged,
		journal_record_bytes(context_len(&bytes, line)) + 2 * (JOURNAL_HEAD_BYTES + 8));
	close(fd);
}

static void one_who_prints_records_forges_none(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *path = path_of(fixture, 1);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct journal_field field = {"UNIT", SLICE_LITERAL("evil.service")};
	struct journal_query web = of("web.service", -1);

	append(fixture, "web.service", 1, 1, "true");
	assert_int_equal(file_read(path, SIZE_MAX, &bytes), 0);
	/* Its own file's records, sound where they stood, printed by another unit. */
	assert_int_equal(journal_append(fixture->journal, 1, 1, &field, 1,
				 slice_make(bytes.data + 64, bytes.len - 64)),
		0);
	append(fixture, "web.service", 1, 1, "last");
	fixture->journal = journal_close(fixture->journal);
	buf_clear(&bytes);
	assert_int_equal(file_read(path, SIZE_MAX, &bytes), 0);
	for (size_t i = JOURNAL_HEADER_BYTES; i < bytes.len; i++) {
		_cleanup_free_ char *got = NULL;

		bytes.data[i] ^= 1;
		put_file(path, buf_slice(&bytes));
		bytes.data[i] ^= 1;
		reopen(fixture);
		got = answers(fixture, &web);
		assert_true(strcmp(got, "true\nlast\n") == 0 || strcmp(got, "true\n") == 0 ||
			    strcmp(got, "last\n") == 0 || strcmp(got, "") == 0);
		fixture->journal = journal_close(fixture->journal);
	}
}

static void what_is_no_journal_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *odd = mem_printf("%s/odd", fixture->dir), *junk = path_of(fixture, 5);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct journal_query all = of(NULL, -1);
	_cleanup_free_ char *got = NULL;

	buf_add_fill(&bytes, 'j', 1000);
	put_file(odd, SLICE_LITERAL("odd"));
	put_file(junk, buf_slice(&bytes));
	reopen(fixture);
	append(fixture, "web.service", 1, 1, "line");
	got = answers(fixture, &all);
	assert_string_equal(got, "line\n");
	assert_int_equal(fixture->damaged, 1000);
	assert_true(file_exists(odd));
}

static void a_lost_write_leaves_the_journal_as_it_was(void **state)
{
	struct fixture *fixture = *state;
	struct journal_field field = {"UNIT", SLICE_LITERAL("a.service")};
	int fd;

	append(fixture, "web.service", 1, 1, "one");
	fd = fixture->journal->fd;
	fixture->journal->fd = open("/dev/full", O_RDWR);
	assert_int_equal(journal_append(fixture->journal, 1, 1, &field, 1, SLICE_LITERAL("lost")), -ENOSPC);
	if (fixture->journal->fd >= 0)
		close(fixture->journal->fd);
	assert_int_equal(journal_lost(fixture->journal), 1);
	close(fd);
	fixture->journal->fd = -1;
	reopen(fixture);
	append(fixture, "web.service", 1, 1, "two");
	expect(fixture, of(NULL, -1), "one\ntwo\n");
}

/* A disk of a size, in the place of the C library's: what is written takes room, what is removed gives it
 * back, unless others are faster. */
static size_t disk_room = SIZE_MAX;
static bool disk_is_contended;

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	if (len > disk_room) {
		errno = ENOSPC;
		return -1;
	}
	disk_room -= disk_room == SIZE_MAX ? 0 : len;
	return syscall(SYS_pwrite64, fd, data, len, offset);
}

int unlinkat(int dir_fd, const char *name, int flags)
{
	struct stat st;

	if (disk_room != SIZE_MAX && !disk_is_contended &&
		fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		disk_room += (size_t)st.st_size;
	return (int)syscall(SYS_unlinkat, dir_fd, name, flags);
}

static void on_a_full_disk_the_oldest_gives_way_to_the_newest(void **state)
{
	struct fixture *fixture = *state;
	struct journal_field field = {"UNIT", SLICE_LITERAL("a.service")};
	_cleanup_buf_ struct buf line = BUF_INIT(0);

	buf_add_fill(&line, 'x', 8000);
	while (fixture->journal->file_count < 4)
		assert_int_equal(journal_append(fixture->journal, 1, 1, &field, 1, buf_slice(&line)), 0);
	disk_room = 0;
	assert_int_equal(journal_append(fixture->journal, 2, 2, &field, 1, SLICE_LITERAL("one")), 0);
	assert_int_equal(fixture->journal->file_count, 3);
	/* One file a line, and if somebody else takes its room, it is lost. */
	disk_room = 0;
	disk_is_contended = true;
	assert_int_equal(journal_append(fixture->journal, 2, 2, &field, 1, SLICE_LITERAL("?")), -ENOSPC);
	assert_int_equal(fixture->journal->file_count, 2);
	disk_is_contended = false;
	assert_int_equal(journal_append(fixture->journal, 2, 2, &field, 1, SLICE_LITERAL("two")), 0);
	assert_int_equal(fixture->journal->file_count, 1);
	/* What is being written is the last to stay. */
	disk_room = 0;
	assert_int_equal(journal_append(fixture->journal, 2, 2, &field, 1, SLICE_LITERAL("?")), -ENOSPC);
	assert_int_equal(journal_lost(fixture->journal), 2);
	disk_room = SIZE_MAX;
	assert_int_equal(journal_append(fixture->journal, 2, 2, &field, 1, SLICE_LITERAL("three")), 0);
	expect(fixture, of(NULL, 3), "one\ntwo\nthree\n");
	reopen(fixture);
	expect(fixture, of(NULL, 3), "one\ntwo\nthree\n");
	assert_int_equal(fixture->damaged, 0);
}

/* A write that is cut short at each of its bytes: the file may not grow further. */
static void a_write_that_ends_in_the_midst_is_taken_back(void **state)
{
	struct fixture *fixture = *state;
	struct rlimit before, limit;
	uint32_t size;
	uint64_t lost = 0;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	(void)signal(SIGXFSZ, SIG_IGN);
	append(fixture, "web.service", 1, 1, "one");
	size = fixture->journal->files[0].size;
	for (rlim_t more = 0;; more++) {
		struct journal_field field = {"UNIT", SLICE_LITERAL("a.service")}; /* with its context */
		int r;

		limit = before;
		limit.rlim_cur = size + more;
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
		r = journal_append(fixture->journal, 1, 1, &field, 1, SLICE_LITERAL("two"));
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		if (r == 0)
			break;
		assert_true(r == -ENOSPC || r == -EFBIG);
		assert_int_equal(journal_lost(fixture->journal), ++lost);
		expect(fixture, of(NULL, -1), "one\n");
		if (more % 8 == 0) {
			reopen(fixture);
			expect(fixture, of(NULL, -1), "one\n");
			lost = 0;
		}
		assert_int_equal(fixture->damaged, 0);
		assert_int_equal(fixture->journal->files[0].size, size);
	}
	expect(fixture, of(NULL, -1), "one\ntwo\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_torn_tail_is_cut_at_every_byte),
		CASE(no_flipped_byte_of_a_sealed_file_is_served),
		CASE(no_flipped_byte_of_the_newest_file_is_served),
		CASE(damage_while_it_runs_costs_only_what_it_hits),
		CASE(one_who_prints_records_forges_none),
		CASE(what_is_no_journal_is_left_alone),
		CASE(a_lost_write_leaves_the_journal_as_it_was),
		CASE(on_a_full_disk_the_oldest_gives_way_to_the_newest),
		CASE(a_write_that_ends_in_the_midst_is_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
