/* Unit files, and everything that is made of their values. What parses must print, and parse again to the
 * same hash. */
#include "unit/environment.h"
#include "unit/specifier.h"
#include "unit/unit.h"
#include "unit/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int expand(void *userdata, struct slice word, struct buf *out)
{
	return unit_specifiers_expand(userdata, word, out);
}

static void fuzz_value(struct unit_specifiers *specifiers, struct slice value)
{
	_cleanup_(unit_commands_clear) struct unit_commands commands = {0};
	_cleanup_(unit_environment_done) struct unit_environment environment = {0};
	_cleanup_buf_ struct buf joined = BUF_INIT(UNIT_TEXT_MAX), error = BUF_INIT(4096);
	int64_t span;
	int number;
	bool flag;

	unit_value_join(value, &joined);
	(void)unit_environment_read(&environment, value);
	if (unit_commands_parse(&commands, buf_slice(&joined), expand, specifiers, &error) < 0)
		assert(error.len > 0);
	for (size_t i = 0; i < commands.count; i++)
		unit_argv_free(unit_argv_expand(commands.items[i].words, &environment, NULL));
	if (unit_parse_span(value, &span) == 0)
		assert(span >= 0);
	(void)unit_parse_signal(value, &number);
	(void)unit_parse_bool(value, &flag);
	(void)unit_name_validate(value, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL, *again = NULL;
	_cleanup_(unit_requirements_done) struct unit_requirements requirements = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(0), twice = BUF_INIT(0);
	struct unit_specifiers specifiers = {0};
	struct unit_error error;

	if (unit_file_parse(slice_make(data, size), &file, &error) < 0)
		return 0;
	unit_requirements_read(file, SLICE_LITERAL("web@1.service"), &requirements);
	(void)unit_file_validate(file, &error);
	if (unit_name_parse(SLICE_LITERAL("web@1.service"), &specifiers.name) < 0)
		abort();
	for (size_t i = 0; i < file->count && i < 64; i++)
		fuzz_value(&specifiers, file->options[i].value);
	unit_file_serialise(file, &text);
	/* What was printed is canonical: reading it again changes nothing. (A value that ended in a backslash
	 * at the very end of its text is the exception that fleet has too: it gains a newline, or swallows
	 * what comes to stand behind.) */
	for (size_t i = 0; i < file->count; i++)
		if (slice_ends_with(file->options[i].value, SLICE_LITERAL("\\")))
			return 0;
	if (unit_file_parse(buf_slice(&text), &again, &error) == 0 && again->count == file->count) {
		unit_file_serialise(again, &twice);
		assert(slice_equal(buf_slice(&text), buf_slice(&twice)));
	}
	return 0;
}
