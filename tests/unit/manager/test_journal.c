#include "manager/journal_internal.h"
#include "base/memory.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char dir[64];
	struct journal *journal;
	uint64_t damaged; /* told by the last query */
};

static void reopen(struct fixture *fixture)
{
	fixture->journal = journal_close(fixture->journal);
	assert_int_equal(journal_open(fixture->dir, 0, &fixture->journal), 0);
}

static int open_fixture(void **state)
{
	struct fixture *fixture = mem_new(struct fixture);

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/flotilla-journal-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	reopen(fixture);
	*state = fixture;
	return 0;
}

static int close_fixture(void **state)
{
	struct fixture *fixture = *state;

	fixture->journal = journal_close(fixture->journal);
	assert_int_equal(file_remove_all(fixture->dir), 0);
	free(fixture);
	return 0;
}

/* One more line of a unit's process; the time is so many seconds. */
static void append(struct fixture *fixture, const char *unit, int pid, int64_t second, const char *text)
{
	char pid_text[16];
	struct journal_field fields[] = {{"PRIORITY", SLICE_LITERAL("6")},
		{"SYSLOG_IDENTIFIER", SLICE_LITERAL("sh")}, {"_PID", {0}}, {"_HOSTNAME", SLICE_LITERAL("n1")},
		{"_SYSTEMD_UNIT", slice_str(unit)}, {"_TRANSPORT", SLICE_LITERAL("stdout")}};

	(void)snprintf(pid_text, sizeof(pid_text), "%d", pid);
	fields[2].value = slice_str(pid_text);
	assert_int_equal(journal_append(fixture->journal, second * 1000000, second, fields, ARRAY_LEN(fields),
				 slice_str(text)),
		0);
}

/* What a query answers, a line each; damage as "!". */
static char *answers(struct fixture *fixture, const struct journal_query *query)
{
	struct journal_reader *reader = NULL;
	struct buf out = BUF_INIT(0);
	struct journal_entry entry;
	enum journal_step step;
	uint64_t bytes = 0;

	fixture->damaged = 0;
	assert_int_equal(journal_reader_new(fixture->journal, query, &reader), 0);
	while ((step = journal_reader_next(reader, &entry, &bytes)) != JOURNAL_END) {
		if (step == JOURNAL_ENTRY)
			journal_print(&entry, JOURNAL_CAT, &out);
		if (step == JOURNAL_DAMAGE)
			fixture->damaged += bytes;
	}
	journal_reader_free(reader);
	return buf_take(&out, NULL);
}

static void expect(struct fixture *fixture, struct journal_query query, const char *want)
{
	_cleanup_free_ char *got = answers(fixture, &query);

	assert_string_equal(got, want);
}

static struct journal_query of(const char *unit, long lines)
{
	return (struct journal_query){.unit = unit, .lines = lines};
}

static void entries_come_back_with_all_their_fields(void **state)
{
	struct fixture *fixture = *state;
	static const char binary[] = "a\0b\n\xff";
	struct journal_field fields[] = {{"UNIT", SLICE_LITERAL("web.service")}, {"EMPTY", SLICE_LITERAL("")},
		{"X_9", {binary, sizeof(binary)}}};
	struct journal_reader *reader = NULL;
	struct journal_query all = of(NULL, -1);
	struct journal_entry entry;
	uint64_t bytes;

	expect(fixture, all, "");
	assert_int_equal(journal_append(fixture->journal, 1000001, 77, fields, 3, slice_make(binary, 5)), 0);
	assert_int_equal(journal_append(fixture->journal, 1000002, 78, fields, 0, SLICE_LITERAL("")), 0);
	for (int i = 0; i < 2; i++) { /* again from the file alone */
		assert_int_equal(journal_reader_new(fixture->journal, &all, &reader), 0);
		assert_int_equal(journal_reader_next(reader, &entry, &bytes), JOURNAL_WORK);
		assert_int_equal(journal_reader_next(reader, &entry, &bytes), JOURNAL_ENTRY);
		assert_int_equal(entry.sequence, 1);
		assert_int_equal(entry.realtime_us, 1000001);
		assert_int_equal(entry.monotonic_us, 77);
		assert_true(slice_equal(entry.message, slice_make(binary, 5)));
		assert_int_equal(entry.field_count, 3);
		assert_true(slice_is(journal_entry_value(&entry, "UNIT"), "web.service"));
		assert_int_equal(journal_entry_value(&entry, "EMPTY").len, 0);
		assert_true(
			slice_equal(journal_entry_value(&entry, "X_9"), slice_make(binary, sizeof(binary))));
		assert_int_equal(journal_reader_next(reader, &entry, &bytes), JOURNAL_ENTRY);
		assert_int_equal(entry.sequence, 2);
		assert_int_equal(entry.field_count, 0);
		assert_int_equal(entry.message.len, 0);
		assert_int_equal(journal_reader_next(reader, &entry, &bytes), JOURNAL_END);
		reader = journal_reader_free(reader);
		reopen(fixture);
	}
}

static void what_is_out_of_bounds_is_cut_or_refused(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *large = mem_calloc(JOURNAL_MESSAGE_MAX * 2, 1);
	struct journal_field fields[JOURNAL_FIELDS_MAX + 1];
	_cleanup_free_ char *got = NULL;
	struct journal_query query = of(NULL, -1);
	char names[JOURNAL_FIELDS_MAX + 1][8];

	memset(large, 'x', JOURNAL_MESSAGE_MAX * 2 - 1);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		(void)snprintf(names[i], sizeof(names[i]), "N%zu", i);
		fields[i] = (struct journal_field){names[i], SLICE_LITERAL("")};
	}
	assert_int_equal(
		journal_append(fixture->journal, 1, 1, fields, ARRAY_LEN(fields), slice_str("")), -EINVAL);
	assert_int_equal(
		journal_append(fixture->journal, 1, 1, fields, ARRAY_LEN(fields) - 1, slice_str("")), 0);
	for (size_t i = 0; i < 8; i++) /* cut to 8 of 1 kB and some: beyond what a context may hold */
		fields[i].value = slice_str(large);
	assert_int_equal(journal_append(fixture->journal, 1, 1, fields, 9, slice_str("")), -EINVAL);
	assert_int_equal(journal_append(fixture->journal, 1, 1, fields, 7, slice_str(large)), 0);
	for (size_t i = 0; i < 4; i++) {
		static const char *const bad[] = {"", "lower", "MESSAGE", "A B"};

		assert_int_equal(
			journal_append(fixture->journal, 1, 1,
				&(struct journal_field){bad[i], SLICE_LITERAL("v")}, 1, slice_str("")),
			-EINVAL);
	}
	query.lines = 1;
	got = answers(fixture, &query);
	assert_int_equal(strlen(got), JOURNAL_MESSAGE_MAX + 1);
	query.matches = &SLICE_LITERAL("no match");
	query.match_count = 1;
	assert_int_equal(
		journal_reader_new(fixture->journal, &query, &(struct journal_reader *){NULL}), -EINVAL);
	assert_int_equal(journal_lost(fixture->journal), 0);
}

/* Two units and many processes, over several files. */
static void fill(struct fixture *fixture, int lines)
{
	for (int i = 0; i < lines; i++) {
		char text[128];

		(void)snprintf(text, sizeof(text), "line %d %060d", i, i);
		append(fixture, i % 100 == 99 ? "rare.service" : "web.service", 1 + i / 50, 1000 + i, text);
	}
}

static char *lines_of(int from, int to, int step)
{
	struct buf out = BUF_INIT(0);

	for (int i = from; i < to; i += step)
		buf_printf(&out, "line %d %060d\n", i, i);
	return buf_take(&out, NULL);
}

static void queries_find_by_unit_field_time_and_number(void **state)
{
	struct fixture *fixture = *state;
	struct slice two_pids[] = {
		SLICE_LITERAL("_PID=3"), SLICE_LITERAL("_PID=6"), SLICE_LITERAL("PRIORITY=6")};
	struct slice message =
		SLICE_LITERAL("MESSAGE=line 99 000000000000000000000000000000000000000000000000000000000099");
	struct slice none = SLICE_LITERAL("PRIORITY=3"),
		     other_unit = SLICE_LITERAL("_SYSTEMD_UNIT=web.service");

	fill(fixture, 1000);
	assert_true(fixture->journal->file_count > 1);
	for (int i = 0; i < 2; i++) {
		_cleanup_free_ char *rare = lines_of(99, 1000, 100), *last = lines_of(799, 1000, 100),
				    *tail = lines_of(990, 999, 1), *since = lines_of(899, 1000, 100),
				    *both = lines_of(499, 600, 100), *of_pids = lines_of(299, 300, 1),
				    *exact = lines_of(99, 100, 1);
		struct journal_query query = of("rare.service", -1);

		expect(fixture, query, rare);
		expect(fixture, of("rare.service", 3), last);
		expect(fixture, of("rare.service", 10), rare);
		expect(fixture, of("rare.service", 1000000), rare);
		expect(fixture, of("rare.service", 0), "");
		expect(fixture, of("web.service", 9), tail);
		expect(fixture, of("no.service", 5), "");
		query.since_us = INT64_C(1800) * 1000000;
		expect(fixture, query, since);
		query = of("rare.service", -1);
		query.since_us = INT64_C(1499) * 1000000;
		query.until_us = INT64_C(1599) * 1000000;
		expect(fixture, query, both);
		query = of("rare.service", -1);
		query.matches = two_pids; /* of which only the second printed for it */
		query.match_count = 3;
		expect(fixture, query, of_pids); /* 3 and 6: lines 100 to 149, 250 to 299 */
		query.matches = &message;
		query.match_count = 1;
		expect(fixture, query, exact);
		query.lines = 4;
		expect(fixture, query, exact);
		query.matches = &none;
		expect(fixture, query, "");
		query.matches = &other_unit;
		expect(fixture, query, "");
		reopen(fixture);
	}
}

static void fields_alone_find_too(void **state)
{
	struct fixture *fixture = *state;
	struct slice pid[] = {SLICE_LITERAL("_PID=3"), SLICE_LITERAL("_PID=7")};
	_cleanup_free_ char *want = lines_of(300, 350, 1), *first = lines_of(100, 150, 1);
	_cleanup_buf_ struct buf both = BUF_INIT(0);
	struct journal_query query = {.lines = 50, .matches = pid, .match_count = 2};

	fill(fixture, 900);
	expect(fixture, query, want);
	query.lines = -1;
	buf_printf(&both, "%s%s", first, want);
	expect(fixture, query, buf_text(&both));
}

static void old_files_go_and_the_newest_entries_stay(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *got = NULL, *want = NULL;
	struct journal_query query = of(NULL, -1);
	uint64_t bytes = 0;
	int first = 0;

	for (int round = 0; round < 10; round++) {
		fill(fixture, 1000);
		assert_true(journal_bytes(fixture->journal) <= JOURNAL_BYTES_MIN);
	}
	assert_true(journal_bytes(fixture->journal) > JOURNAL_BYTES_MIN / 2);
	for (size_t i = 0; i < fixture->journal->file_count; i++) {
		char path[128];
		struct stat st;

		(void)snprintf(path, sizeof(path), "%s/%016llx.journal", fixture->dir,
			(unsigned long long)fixture->journal->files[i].number);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size <= JOURNAL_FILE_MIN);
		bytes += (uint64_t)st.st_size;
	}
	assert_int_equal(bytes, journal_bytes(fixture->journal));
	got = answers(fixture, &query);
	assert_int_equal(sscanf(got, "line %d ", &first), 1);
	query.lines = 500;
	got = mem_free(got);
	got = answers(fixture, &query);
	want = lines_of(500, 1000, 1);
	assert_string_equal(got, want);
}

static void many_contexts_begin_another_file(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *got = NULL;
	struct journal_query query = of("web.service", -1);

	fixture->journal->file_bytes = JOURNAL_FILE_MAX;
	fixture->journal->max_bytes = 4 * JOURNAL_FILE_MAX;
	for (int i = 0; i < 3000; i++)
		append(fixture, "web.service", i, i, "x");
	assert_true(fixture->journal->file_count >= 3);
	got = answers(fixture, &query);
	assert_int_equal(strlen(got), 6000);
}

static void a_reader_follows_over_files_and_does_not_see_twice(void **state)
{
	struct fixture *fixture = *state;
	struct journal_query query = {.unit = "rare.service", .lines = 1, .follow = true};
	struct journal_reader *reader = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	_cleanup_free_ char *want = lines_of(99, 2000, 100);
	struct journal_entry entry;
	enum journal_step step;
	uint64_t bytes;

	append(fixture, "rare.service", 1, 1, "before");
	append(fixture, "rare.service", 1, 2, "last");
	assert_int_equal(journal_reader_new(fixture->journal, &query, &reader), 0);
	for (int i = 0; i < 2000; i++) {
		char text[128];

		(void)snprintf(text, sizeof(text), "line %d %060d", i, i);
		append(fixture, i % 100 == 99 ? "rare.service" : "web.service", 1 + i / 50, 1000 + i, text);
		while (i % 7 == 0 && (step = journal_reader_next(reader, &entry, &bytes)) != JOURNAL_END)
			if (step == JOURNAL_ENTRY)
				journal_print(&entry, JOURNAL_CAT, &out);
	}
	while ((step = journal_reader_next(reader, &entry, &bytes)) != JOURNAL_END)
		if (step == JOURNAL_ENTRY)
			journal_print(&entry, JOURNAL_CAT, &out);
	journal_reader_free(reader);
	assert_memory_equal(buf_text(&out), "last\n", 5);
	assert_string_equal(buf_text(&out) + 5, want);
}

static void a_query_ends_though_the_journal_grows(void **state)
{
	struct fixture *fixture = *state;
	struct journal_query query = of("web.service", -1);
	struct journal_reader *reader = NULL;
	struct journal_entry entry;
	enum journal_step step;
	size_t count = 0;
	uint64_t bytes;

	for (int i = 0; i < 10; i++)
		append(fixture, "web.service", 1, 1, "x");
	assert_int_equal(journal_reader_new(fixture->journal, &query, &reader), 0);
	while ((step = journal_reader_next(reader, &entry, &bytes)) != JOURNAL_END) {
		append(fixture, "web.service", 1, 1, "later");
		count += step == JOURNAL_ENTRY;
		assert_true(count <= 10);
	}
	assert_int_equal(count, 10);
	journal_reader_free(reader);
}

static void reading_survives_the_removal_of_its_file(void **state)
{
	struct fixture *fixture = *state;
	struct journal_query query = of("web.service", -1);
	struct journal_reader *reader = NULL;
	struct journal_entry entry;
	enum journal_step step;
	uint64_t bytes, last = 0;

	fill(fixture, 1000);
	assert_int_equal(journal_reader_new(fixture->journal, &query, &reader), 0);
	while (journal_reader_next(reader, &entry, &bytes) != JOURNAL_ENTRY) {
	}
	fill(fixture, 5000);
	while ((step = journal_reader_next(reader, &entry, &bytes)) != JOURNAL_END) {
		assert_int_not_equal(step, JOURNAL_DAMAGE);
		if (step == JOURNAL_ENTRY) {
			assert_true(entry.sequence > last);
			last = entry.sequence;
		}
	}
	journal_reader_free(reader);
}

/* ---- Damage ---- */

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

static void readers_are_bounded(void **state)
{
	struct fixture *fixture = *state;
	struct journal_reader *readers[JOURNAL_READERS_MAX], *more = NULL;
	struct journal_query query = of("web.service", 1);

	for (size_t i = 0; i < ARRAY_LEN(readers); i++)
		assert_int_equal(journal_reader_new(fixture->journal, &query, &readers[i]), 0);
	assert_int_equal(journal_reader_new(fixture->journal, &query, &more), -EMFILE);
	for (size_t i = 0; i < ARRAY_LEN(readers); i++)
		journal_reader_free(readers[i]);
	assert_null(fixture->journal->window);
}

/* ---- Printing ---- */

static void lines_print_as_journalctl_prints_them(void **state)
{
	static const struct {
		int64_t us;
		const char *identifier, *pid, *message, *want;
	} rows[] = {
		{1795334731000000, "bash", "2743", "Hello, World",
			"Nov 22 08:05:31 n1 bash[2743]: Hello, World\n"},
		{1795334731999999, "a", "1", "", "Nov 22 08:05:31 n1 a[1]: \n"},
		{1795334731000000, "a", "1", "tab\there", "Nov 22 08:05:31 n1 a[1]: tab        here\n"},
		{1795334731000000, "a", "1", "\x1b[31mred\x1b[0m", "Nov 22 08:05:31 n1 a[1]: red\n"},
		{1795334731000000, "a", "1", "\x01\x02", "Nov 22 08:05:31 n1 a[1]: [2B blob data]\n"},
		{1795334731000000, "a", "1", "\xff", "Nov 22 08:05:31 n1 a[1]: [1B blob data]\n"},
		{1795334731000000, "a", "1", "\xc3\xa9\r", "Nov 22 08:05:31 n1 a[1]: \xc3\xa9\n"},
	};

	(void)state;
	assert_int_equal(setenv("TZ", "UTC", 1), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct journal_entry entry = {.realtime_us = rows[i].us,
			.message = slice_str(rows[i].message),
			.fields = {{"_HOSTNAME", SLICE_LITERAL("n1")},
				{"SYSLOG_IDENTIFIER", slice_str(rows[i].identifier)},
				{"_PID", slice_str(rows[i].pid)}},
			.field_count = 3};
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		journal_print(&entry, JOURNAL_SHORT, &out);
		assert_string_equal(buf_text(&out), rows[i].want);
	}
}

static void json_holds_any_bytes(void **state)
{
	static const uint8_t id[16] = {0xab, 1};
	struct journal_entry entry = {.sequence = 26,
		.realtime_us = 1795334731000000,
		.monotonic_us = 255,
		.message = SLICE_LITERAL("say \"\xc3\xa9\"\\\n\tend"),
		.fields = {{"_BOOT_ID", SLICE_LITERAL("b0")}, {"PRIORITY", SLICE_LITERAL("6")}},
		.field_count = 2,
		.journal_id = id};
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	(void)state;
	journal_print(&entry, JOURNAL_JSON, &out);
	assert_string_equal(buf_text(&out),
		"{\"__CURSOR\":\"s=ab010000000000000000000000000000;i=1a;b=b0;m=ff;t=660d8f0e4e8c0;x="
		"3198ca06\","
		"\"__REALTIME_TIMESTAMP\":\"1795334731000000\",\"__MONOTONIC_TIMESTAMP\":\"255\","
		"\"_BOOT_ID\":\"b0\",\"PRIORITY\":\"6\",\"MESSAGE\":\"say "
		"\\\"\xc3\xa9\\\"\\\\\\n\\tend\"}\n");
	buf_clear(&out);
	entry.message = SLICE_LITERAL("\x1b[1m\xff");
	journal_print(&entry, JOURNAL_JSON, &out);
	assert_non_null(strstr(buf_text(&out), "\"MESSAGE\":[27,91,49,109,255]}\n"));
	buf_clear(&out);
	journal_print_damage(7, JOURNAL_SHORT, &out);
	assert_string_equal(buf_text(&out), "-- 7 bytes of damaged journal skipped --\n");
	assert_int_equal(journal_output_from_name(SLICE_LITERAL("verbose")), JOURNAL_OUTPUT_INVALID);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(entries_come_back_with_all_their_fields),
		CASE(what_is_out_of_bounds_is_cut_or_refused),
		CASE(queries_find_by_unit_field_time_and_number),
		CASE(fields_alone_find_too),
		CASE(old_files_go_and_the_newest_entries_stay),
		CASE(many_contexts_begin_another_file),
		CASE(a_reader_follows_over_files_and_does_not_see_twice),
		CASE(a_query_ends_though_the_journal_grows),
		CASE(reading_survives_the_removal_of_its_file),
		CASE(a_torn_tail_is_cut_at_every_byte),
		CASE(no_flipped_byte_of_a_sealed_file_is_served),
		CASE(no_flipped_byte_of_the_newest_file_is_served),
		CASE(damage_while_it_runs_costs_only_what_it_hits),
		CASE(one_who_prints_records_forges_none),
		CASE(what_is_no_journal_is_left_alone),
		CASE(a_lost_write_leaves_the_journal_as_it_was),
		CASE(on_a_full_disk_the_oldest_gives_way_to_the_newest),
		CASE(a_write_that_ends_in_the_midst_is_taken_back),
		CASE(readers_are_bounded),
		cmocka_unit_test(lines_print_as_journalctl_prints_them),
		cmocka_unit_test(json_holds_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
