/* A journal in a directory of its own, filled and asked. */
#pragma once
#include "base/memory.h"
#include "io/file.h"
#include "manager/journal_internal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
/* cmocka needs the headers above first. */
#include <cmocka.h>

struct fixture {
	char dir[64];
	struct journal *journal;
	uint64_t damaged; /* told by the last query */
};

static inline void reopen(struct fixture *fixture)
{
	fixture->journal = journal_close(fixture->journal);
	assert_int_equal(journal_open(fixture->dir, 0, &fixture->journal), 0);
}

static inline int open_fixture(void **state)
{
	struct fixture *fixture = mem_new(struct fixture);

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/flotilla-journal-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	reopen(fixture);
	*state = fixture;
	return 0;
}

static inline int close_fixture(void **state)
{
	struct fixture *fixture = *state;

	fixture->journal = journal_close(fixture->journal);
	assert_int_equal(file_remove_all(fixture->dir), 0);
	free(fixture);
	return 0;
}

/* One more line of a unit's process; the time is so many seconds. */
static inline void append(
	struct fixture *fixture, const char *unit, int pid, int64_t second, const char *text)
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
static inline char *answers(struct fixture *fixture, const struct journal_query *query)
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

static inline void expect(struct fixture *fixture, struct journal_query query, const char *want)
{
	_cleanup_free_ char *got = answers(fixture, &query);

	assert_string_equal(got, want);
}

static inline struct journal_query of(const char *unit, long lines)
{
	return (struct journal_query){.unit = unit, .lines = lines};
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)
