/* Text -> options, as go-systemd's lexer does it. The lexer reads through a window of 4096 bytes like the
 * buffered reader it imitates, because its "line too long" check looks at what happens to be buffered at the
 * start of a step: the same texts are refused, and the same pass. Each step function consumes some bytes and
 * names the next step. */
#include "unit/unit.h"
#include "base/text.h"
#include "unit/runes.h"
#include <errno.h>
#include <stdio.h>

#define WINDOW_SIZE 4096
#define LINE_MAX_BYTES 2048

enum step {
	STEP_NEXT_SECTION,
	STEP_SECTION_NAME,
	STEP_SECTION_SUFFIX,
	STEP_SECTION_OR_OPTION,
	STEP_COMMENT,
	STEP_OPTION,
	STEP_DONE,
};

struct lexer {
	struct slice text;
	size_t at, filled; /* consumed; end of the window */
	size_t counted;	   /* newlines are counted up to here */
	unsigned line;
	struct slice section; /* of the options that follow */
	struct slice found;   /* section name read, its line not yet checked */
	bool in_section;
	struct unit_file *file;
	struct unit_error *error;
};

static unsigned lexer_line(struct lexer *lexer)
{
	for (; lexer->counted < lexer->at; lexer->counted++)
		if (lexer->text.data[lexer->counted] == '\n')
			lexer->line++;
	return lexer->line;
}

static int lexer_fail(struct lexer *lexer, unsigned line, const char *text)
{
	lexer->error->line = line;
	(void)snprintf(lexer->error->text, sizeof(lexer->error->text), "%s", text);
	return -EINVAL;
}

static bool lexer_fill(struct lexer *lexer)
{
	size_t before = lexer->filled;

	lexer->filled = MIN(lexer->text.len, lexer->at + WINDOW_SIZE);
	return lexer->filled > before;
}

/* Reads up to and with `delimiter`: the bytes before it. *ret_found is false when the text ended first. */
static struct slice lexer_read_until(struct lexer *lexer, char delimiter, bool *ret_found)
{
	size_t start = lexer->at, searched = lexer->at;

	for (;;) {
		const char *hit = lexer->filled > searched ? memchr(lexer->text.data + searched, delimiter,
								     lexer->filled - searched)
							   : NULL;

		if (hit) {
			size_t end = (size_t)(hit - lexer->text.data);

			lexer->at = end + 1;
			*ret_found = true;
			return slice_make(lexer->text.data + start, end - start);
		}
		searched = lexer->filled;
		if (lexer->filled - lexer->at >= WINDOW_SIZE)
			lexer->at = lexer->filled; /* a full window is moved out before more is read */
		if (!lexer_fill(lexer)) {
			lexer->at = lexer->filled;
			*ret_found = false;
			return slice_make(lexer->text.data + start, lexer->at - start);
		}
	}
}

/* The next line without its end; as the original, a CR goes only where no LF follows it. */
static struct slice lexer_read_line(struct lexer *lexer, bool *ret_eof)
{
	bool found;
	struct slice line = lexer_read_until(lexer, '\n', &found);

	*ret_eof = !found;
	if (!found && line.len && line.data[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* Bytes of the rune at the start of the window; 0 at the end of the text. */
static size_t lexer_peek_rune(struct lexer *lexer, uint32_t *ret_rune)
{
	while (lexer->filled - lexer->at < 4 &&
		!rune_is_whole(slice_make(lexer->text.data + lexer->at, lexer->filled - lexer->at)) &&
		lexer_fill(lexer))
		;
	if (lexer->at == lexer->filled)
		return 0;
	return rune_decode(slice_make(lexer->text.data + lexer->at, lexer->filled - lexer->at), ret_rune);
}

static int step_comment(struct lexer *lexer, enum step *next)
{
	struct slice line;
	bool eof;

	do {
		line = lexer_read_line(lexer, &eof);
		if (line.len && line.data[line.len - 1] == ' ')
			line.len--;
	} while (line.len && line.data[line.len - 1] == '\\' && !eof);
	*next = lexer->in_section ? STEP_SECTION_OR_OPTION : STEP_NEXT_SECTION;
	return 0;
}

static int step_next_section(struct lexer *lexer, enum step *next)
{
	uint32_t rune = 0;
	size_t size = lexer_peek_rune(lexer, &rune);

	if (!size) {
		*next = STEP_DONE;
		return 0;
	}
	lexer->at += size;
	if (rune == '[')
		*next = STEP_SECTION_NAME;
	else if (rune == '#' || rune == ';')
		*next = STEP_COMMENT;
	else
		*next = STEP_NEXT_SECTION;
	return 0;
}

static int step_section_name(struct lexer *lexer, enum step *next)
{
	unsigned line = lexer_line(lexer);
	bool found;

	lexer->found = lexer_read_until(lexer, ']', &found);
	if (!found)
		return lexer_fail(lexer, line, "unable to find end of section");
	*next = STEP_SECTION_SUFFIX;
	return 0;
}

static int step_section_suffix(struct lexer *lexer, enum step *next)
{
	unsigned line_number = lexer_line(lexer);
	bool eof;
	struct slice garbage = rune_trim(lexer_read_line(lexer, &eof));

	if (garbage.len) {
		/* The original names the section before this one, and prints the bytes as numbers. */
		struct buf text = BUF_INIT(sizeof(lexer->error->text) - 8);
		size_t fits = 0;

		buf_add_str(&text, "found garbage after section name ");
		buf_add_slice(&text, slice_make(lexer->section.data, MIN(lexer->section.len, 64u)));
		buf_add_str(&text, ": [");
		for (size_t i = 0; i < garbage.len && fits < 480; i++, fits = text.len) {
			if (i)
				buf_add_char(&text, ' ');
			buf_add_u64(&text, (unsigned char)garbage.data[i]);
		}
		buf_add_char(&text, ']');
		int r = lexer_fail(lexer, line_number, buf_text(&text));
		buf_done(&text);
		return r;
	}
	lexer->section = lexer->found;
	lexer->in_section = true;
	*next = STEP_SECTION_OR_OPTION;
	return 0;
}

static int step_section_or_option(struct lexer *lexer, enum step *next)
{
	uint32_t rune = 0;
	size_t size = lexer_peek_rune(lexer, &rune);

	if (!size) {
		*next = STEP_DONE;
		return 0;
	}
	*next = STEP_SECTION_OR_OPTION;
	if (rune_is_space(rune)) {
		lexer->at += size;
	} else if (rune == '[') {
		lexer->at += size;
		*next = STEP_SECTION_NAME;
	} else if (rune == '#' || rune == ';') {
		lexer->at += size;
		*next = STEP_COMMENT;
	} else {
		*next = STEP_OPTION;
	}
	return 0;
}

/* The line-too-long check that the original makes before each of its steps. */
static int lexer_check_window(struct lexer *lexer)
{
	struct slice window = slice_make(lexer->text.data + lexer->at, LINE_MAX_BYTES);

	if (lexer->filled - lexer->at < LINE_MAX_BYTES)
		return 0;
	if (memchr(window.data, '\n', window.len) || memchr(window.data, '\r', window.len))
		return 0;
	return lexer_fail(lexer, lexer_line(lexer), "line too long (max 2048 bytes)");
}

static int lexer_read_name(struct lexer *lexer, struct buf *name)
{
	unsigned line = lexer_line(lexer);

	for (;;) {
		uint32_t rune = 0;
		size_t size = lexer_peek_rune(lexer, &rune);

		if (!size)
			return lexer_fail(lexer, line, "EOF");
		lexer->at += size;
		if (rune == '\n' || rune == '\r')
			return lexer_fail(
				lexer, line, "unexpected newline encountered while parsing option name");
		if (rune == '=')
			return 0;
		rune_add(name, rune);
	}
}

static int step_option(struct lexer *lexer, enum step *next)
{
	_cleanup_buf_ struct buf name = BUF_INIT(UNIT_TEXT_MAX * 3), value = BUF_INIT(UNIT_TEXT_MAX + 1);
	unsigned line_number = lexer_line(lexer);
	struct slice trimmed;
	bool eof, more = true;
	int r = lexer_read_name(lexer, &name);

	if (r < 0)
		return r;
	while (more) {
		struct slice line;

		r = lexer_check_window(lexer);
		if (r < 0)
			return r;
		line = lexer_read_line(lexer, &eof);
		if (!rune_trim(line).len)
			break;
		buf_add_slice(&value, line);
		more = line.data[line.len - 1] == '\\';
		if (more && !eof)
			buf_add_char(&value, '\n');
	}
	trimmed = rune_trim(buf_slice(&value));
	if (value.len && value.data[value.len - 1] == '\n') {
		/* Trimming leaves room for the one newline that stays. */
		size_t offset = trimmed.len ? (size_t)(trimmed.data - value.data) : 0;

		value.data[offset + trimmed.len] = '\n';
		trimmed = slice_make(value.data + offset, trimmed.len + 1);
	}
	r = unit_file_add(lexer->file, lexer->section, rune_trim(buf_slice(&name)), trimmed);
	if (r < 0)
		return r;
	lexer->file->options[lexer->file->count - 1].line = line_number;
	*next = STEP_SECTION_OR_OPTION;
	return 0;
}

int unit_file_parse(struct slice text, struct unit_file **ret, struct unit_error *reterr)
{
	static int (*const steps[])(struct lexer * lexer, enum step * next) = {
		[STEP_NEXT_SECTION] = step_next_section,
		[STEP_SECTION_NAME] = step_section_name,
		[STEP_SECTION_SUFFIX] = step_section_suffix,
		[STEP_SECTION_OR_OPTION] = step_section_or_option,
		[STEP_COMMENT] = step_comment,
		[STEP_OPTION] = step_option,
	};
	_cleanup_(unit_file_freep) struct unit_file *file = unit_file_new();
	struct unit_error unused;
	struct lexer lexer = {.text = text, .line = 1, .file = file, .error = reterr ? reterr : &unused};
	enum step step = STEP_NEXT_SECTION;

	if (text.len > UNIT_TEXT_MAX) {
		(void)lexer_fail(&lexer, 0, "unit file is larger than 1 MiB");
		return -E2BIG;
	}
	while (step != STEP_DONE) {
		int r = lexer_check_window(&lexer);

		if (r == 0)
			r = steps[step](&lexer, &step);
		if (r == -E2BIG)
			(void)lexer_fail(&lexer, lexer_line(&lexer), "unit file has too many options");
		if (r < 0)
			return r;
	}
	*ret = take_ptr(file);
	return 0;
}
