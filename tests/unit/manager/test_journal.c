/* What the journal answers: by unit, field, time and number, over several files, and in which form. */
#include "journal_helpers.h"
#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>

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

/* In the place of the C library's, and counted. */
static size_t bytes_read;

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
	ssize_t got = syscall(SYS_pread64, fd, data, len, offset);

	bytes_read += got > 0 ? (size_t)got : 0;
	return got;
}

static void little_is_read_to_find_little(void **state)
{
	struct fixture *fixture = *state;
	struct slice pid = SLICE_LITERAL("_PID=90000");
	struct journal_query queries[] = {{.unit = "seldom.service", .lines = -1},
		{.unit = "seldom.service", .lines = 1}, {.lines = -1, .matches = &pid, .match_count = 1},
		{.lines = -1, .since_us = INT64_C(90000) * 1000000, .until_us = INT64_C(90000) * 1000000}};

	fixture->journal->file_bytes = 4 * JOURNAL_FILE_MIN;
	fixture->journal->max_bytes = 64 * (uint64_t)JOURNAL_FILE_MIN;
	fill(fixture, 8000);
	append(fixture, "seldom.service", 90000, 90000, "seldom");
	fill(fixture, 8000);
	assert_true(fixture->journal->file_count >= 8);
	for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
		journal_reading_done(fixture->journal);
		bytes_read = 0;
		expect(fixture, queries[i], "seldom\n");
		assert_in_range(bytes_read, 1, journal_bytes(fixture->journal) / 4 - 1);
	}
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(entries_come_back_with_all_their_fields),
		CASE(what_is_out_of_bounds_is_cut_or_refused),
		CASE(queries_find_by_unit_field_time_and_number),
		CASE(fields_alone_find_too),
		CASE(little_is_read_to_find_little),
		CASE(old_files_go_and_the_newest_entries_stay),
		CASE(many_contexts_begin_another_file),
		CASE(a_reader_follows_over_files_and_does_not_see_twice),
		CASE(a_query_ends_though_the_journal_grows),
		CASE(reading_survives_the_removal_of_its_file),
		CASE(readers_are_bounded),
		cmocka_unit_test(lines_print_as_journalctl_prints_them),
		cmocka_unit_test(json_holds_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
