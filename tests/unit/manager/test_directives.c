/* The table of docs/supervisor.md says the same as the program: a row there for each row here, with the same
 * word and the same reason, and a parser behind what is "done". */
#include "manager/directives.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include "manager/config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define DOCUMENT TEST_DATA_DIR "/../../docs/supervisor.md"

static const char *const words[] = {
	[DIRECTIVE_DONE] = "done", [DIRECTIVE_IGNORED] = "ignored", [DIRECTIVE_REFUSED] = "refused"};

/* "| `Nice=` | done | note |" in parts; false for any other line. */
static bool read_row(struct slice line, struct slice *name, struct slice *word, struct slice *note)
{
	struct slice rest;

	if (!slice_starts_with(line, SLICE_LITERAL("| `")))
		return false;
	line = slice_make(line.data + 3, line.len - 3);
	return text_cut(line, '=', name, &rest) && text_cut(rest, '|', &line, &rest) &&
	       text_cut(rest, '|', word, &rest) && text_cut(rest, '|', note, &rest);
}

static void check_row(struct slice section, struct slice name, struct slice word, struct slice note)
{
	const struct directive_row *row = directive_find(section, name);

	if (!row)
		fail_msg("%.*s= in [%.*s] is documented and unknown", (int)name.len, name.data,
			(int)section.len, section.data);
	if (!slice_is(text_trim(word), words[row->state]))
		fail_msg("%s= in [%s] is %s", row->name, row->section, words[row->state]);
	if (row->why && !slice_is(text_trim(note), row->why))
		fail_msg("%s= in [%s]: the reason is \"%s\"", row->name, row->section, row->why);
}

static void the_document_has_every_directive_and_no_other(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1024 * 1024);
	size_t documented = 0, known = 0;
	struct slice rest, section = SLICE_LITERAL("");

	(void)state;
	assert_int_equal(file_read(DOCUMENT, 1024 * 1024, &text), 0);
	rest = buf_slice(&text);
	while (rest.len) {
		struct slice line, name, word, note, tail;

		(void)text_cut(rest, '\n', &line, &rest);
		if (slice_starts_with(line, SLICE_LITERAL("###"))) {
			section = SLICE_LITERAL("");
			if (text_cut(line, '[', &name, &tail))
				(void)text_cut(tail, ']', &section, &tail);
		} else if (read_row(line, &name, &word, &note)) {
			check_row(section, name, word, note);
			documented++;
		}
	}
	while (directive_at(known))
		known++;
	assert_true(known > 400);
	assert_int_equal(documented, known); /* each once: a second row would make one more */
}

static void what_is_done_is_read_and_what_is_ignored_is_not(void **state)
{
	const struct directive_row *row;

	(void)state;
	for (size_t i = 0; (row = directive_at(i)); i++) {
		bool reads = service_config_reads(row->section, row->name);

		if (row->state == DIRECTIVE_DONE && !reads)
			fail_msg("%s= in [%s] is done, and nothing reads it", row->name, row->section);
		if (row->state == DIRECTIVE_IGNORED && reads)
			fail_msg("%s= in [%s] is ignored, and is read", row->name, row->section);
		assert_true(row->state == DIRECTIVE_DONE || row->why);
		assert_ptr_equal(directive_find(slice_str(row->section), slice_str(row->name)), row);
	}
}

static void every_parser_is_documented(void **state)
{
	const char *section, *name;

	(void)state;
	for (size_t i = 0; service_config_reads_at(i, &section, &name); i++)
		if (!directive_find(slice_str(section), slice_str(name)))
			fail_msg("%s= in [%s] is read and has no row", name, section);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_document_has_every_directive_and_no_other),
		cmocka_unit_test(what_is_done_is_read_and_what_is_ignored_is_not),
		cmocka_unit_test(every_parser_is_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
