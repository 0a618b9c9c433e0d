/* A recursive-descent parser over the bytes of the text. A table keeps its entries in a list in order of
 * appearance: configuration files are small, so that looking through the list beats any index. */
#include "confd/toml.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct parser {
	struct slice text;
	size_t position;
	unsigned line;
	struct slice last_key;
	struct arena *arena;
	struct buf *error;
};

#define END_OF_TEXT (-1)

static int peek(const struct parser *p)
{
	return p->position < p->text.len ? (unsigned char)p->text.data[p->position] : END_OF_TEXT;
}

static int peek_at(const struct parser *p, size_t ahead)
{
	size_t at = p->position + ahead;

	return at < p->text.len ? (unsigned char)p->text.data[at] : END_OF_TEXT;
}

static int next(struct parser *p)
{
	int c = peek(p);

	if (c == END_OF_TEXT)
		return c;
	p->position++;
	if (c == '\n')
		p->line++;
	return c;
}

static bool accept(struct parser *p, char c)
{
	if (peek(p) != c)
		return false;
	next(p);
	return true;
}

static bool accept_text(struct parser *p, const char *text)
{
	size_t len = strlen(text);

	if (p->text.len - p->position < len || memcmp(p->text.data + p->position, text, len) != 0)
		return false;
	for (size_t i = 0; i < len; i++)
		next(p);
	return true;
}

static int fail(struct parser *p, const char *format, ...) _printf_(2, 3);
static int fail(struct parser *p, const char *format, ...)
{
	char text[300];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buf_printf(p->error, "line %u", p->line);
	if (p->last_key.len) {
		buf_add_str(p->error, " (last key ");
		text_add_quoted(p->error, p->last_key);
		buf_add_char(p->error, ')');
	}
	buf_printf(p->error, ": %s", text);
	return -EINVAL;
}

/* What stands at the position, for messages. */
static const char *found(struct parser *p, char text[static 24])
{
	int c = peek(p);

	if (c == END_OF_TEXT)
		return "the end of the file";
	if (c == '\n' || c == '\r')
		return "the end of the line";
	if (c < ' ' || c >= 0x7f)
		snprintf(text, 24, "byte 0x%02x", c);
	else
		snprintf(text, 24, "'%c'", c);
	return text;
}

static void skip_blanks(struct parser *p)
{
	while (peek(p) == ' ' || peek(p) == '\t')
		next(p);
}

static int skip_comment(struct parser *p)
{
	if (peek(p) != '#')
		return 0;
	while (peek(p) != '\n' && peek(p) != END_OF_TEXT) {
		int c = peek(p);

		if ((c < ' ' && c != '\t' && !(c == '\r' && peek_at(p, 1) == '\n')) || c == 0x7f)
			return fail(p, "control character 0x%02x in a comment", c);
		next(p);
	}
	return 0;
}

static bool accept_newline(struct parser *p)
{
	return accept(p, '\n') || accept_text(p, "\r\n");
}

/* Blanks, comments and line ends. */
static int skip_lines(struct parser *p)
{
	do {
		skip_blanks(p);
		if (skip_comment(p) < 0)
			return -EINVAL;
	} while (accept_newline(p));
	return 0;
}

static struct toml *toml_new(struct parser *p, enum toml_type type)
{
	struct toml *value = arena_alloc(p->arena, sizeof(*value));

	value->type = type;
	value->line = p->line;
	return value;
}

static void toml_append(struct toml *to, struct toml *value)
{
	if (to->last)
		to->last->next = value;
	else
		to->first = value;
	to->last = value;
	to->count++;
}

struct toml *toml_get(const struct toml *table, const char *name, bool fold)
{
	struct toml *folded = NULL;

	for (struct toml *value = table->first; value; value = value->next) {
		if (slice_is(value->key, name))
			return value;
		if (fold && !folded && value->key.len == strlen(name) &&
			strncasecmp(value->key.data, name, value->key.len) == 0)
			folded = value;
	}
	return folded;
}

static struct toml *find(const struct toml *table, struct slice key)
{
	for (struct toml *value = table->first; value; value = value->next)
		if (slice_equal(value->key, key))
			return value;
	return NULL;
}

const char *toml_type_phrase(enum toml_type type)
{
	static const char *const phrases[TOML_TYPE_MAX] = {
		[TOML_STRING] = "a string",
		[TOML_INTEGER] = "an integer",
		[TOML_FLOAT] = "a float",
		[TOML_BOOL] = "a boolean",
		[TOML_TIME] = "a date",
		[TOML_ARRAY] = "an array",
		[TOML_TABLE] = "a table",
	};

	return phrases[type];
}

/* ---- strings ---- */

static void add_code_point(struct buf *out, uint32_t rune)
{
	if (rune < 0x80) {
		buf_add_char(out, (char)rune);
		return;
	}
	if (rune >= 0x10000) {
		buf_add_char(out, (char)(0xf0 | rune >> 18));
		buf_add_char(out, (char)(0x80 | (rune >> 12 & 0x3f)));
	} else if (rune >= 0x800) {
		buf_add_char(out, (char)(0xe0 | rune >> 12));
	}
	if (rune >= 0x800)
		buf_add_char(out, (char)(0x80 | (rune >> 6 & 0x3f)));
	else
		buf_add_char(out, (char)(0xc0 | rune >> 6));
	buf_add_char(out, (char)(0x80 | (rune & 0x3f)));
}

static int parse_code_point(struct parser *p, struct buf *out, size_t digits)
{
	uint64_t rune;

	if (p->text.len - p->position < digits ||
		text_hex_to_u64(slice_make(p->text.data + p->position, digits), &rune) < 0)
		return fail(p, "an escape needs %zu hexadecimal digits", digits);
	if (rune > 0x10ffff || (rune >= 0xd800 && rune <= 0xdfff))
		return fail(p, "escape U+%04llX is no character", (unsigned long long)rune);
	p->position += digits;
	add_code_point(out, (uint32_t)rune);
	return 0;
}

/* The backslash has been read. */
static int parse_escape(struct parser *p, struct buf *out, bool multiline)
{
	static const char letters[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
	const char *letter;
	int c = peek(p);

	if (multiline && (c == '\n' || c == '\r' || c == ' ' || c == '\t')) {
		/* A backslash at the end of a line takes away the line end and the blanks that follow. */
		size_t start = p->position;

		skip_blanks(p);
		if (!accept_newline(p)) {
			p->position = start;
			return fail(p, "invalid escape '\\%c'", c);
		}
		while (peek(p) == ' ' || peek(p) == '\t' || peek(p) == '\n' || peek(p) == '\r')
			next(p);
		return 0;
	}
	if (c == 'u' || c == 'U') {
		next(p);
		return parse_code_point(p, out, c == 'u' ? 4 : 8);
	}
	letter = c > 0 ? strchr(letters, c) : NULL;
	if (!letter)
		return c < ' ' || c >= 0x7f
			       ? fail(p, "invalid escape")
			       : fail(p, "invalid escape '\\%c' (a backslash is written \\\\)", c);
	next(p);
	buf_add_char(out, values[letter - letters]);
	return 0;
}

/* One character of a string that is no escape, checked to be UTF-8. */
static int parse_character(struct parser *p, struct buf *out)
{
	struct slice rest = slice_make(p->text.data + p->position, p->text.len - p->position);
	uint32_t rune;
	size_t len = text_utf8_decode(rest, &rune);

	if (!len)
		return fail(p, "byte 0x%02x is not UTF-8", (unsigned char)rest.data[0]);
	for (size_t i = 0; i < len; i++)
		buf_add_char(out, (char)next(p));
	return 0;
}

/* The opening quotes have been read; `quote` is '"' (escapes) or '\'' (none). */
static int parse_quoted(struct parser *p, char quote, bool multiline, struct slice *ret_text)
{
	_cleanup_buf_ struct buf out = BUF_INIT(TOML_TEXT_MAX);
	const char closing[4] = {quote, quote, quote, '\0'};

	if (multiline)
		accept_newline(p);
	for (;;) {
		int c = peek(p), r;

		if (c == END_OF_TEXT)
			return fail(p, "the string has no closing %s", multiline ? closing : closing + 2);
		if (!multiline && c == quote) {
			next(p);
			break;
		}
		if (multiline && accept_text(p, closing)) {
			/* Up to two quotes before the closing three belong to the text. */
			for (int extra = 0; extra < 2 && accept(p, quote); extra++)
				buf_add_char(&out, quote);
			break;
		}
		if (!multiline && (c == '\n' || c == '\r'))
			return fail(p, "the string has no closing %s on its line", closing + 2);
		if ((c < ' ' && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
			return fail(p, "control character 0x%02x in a string", c);
		if (c == '\\' && quote == '"') {
			next(p);
			r = parse_escape(p, &out, multiline);
		} else {
			r = parse_character(p, &out);
		}
		if (r < 0)
			return r;
	}
	*ret_text = slice_make(arena_strndup(p->arena, buf_text(&out), out.len), out.len);
	return 0;
}

/* ---- numbers, dates, words ---- */

static bool is_word_character(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       c == '-' || c == '+' || c == '.' || c == ':';
}

/* The digits without their underscores, which must stand between two digits. */
static int strip_underscores(struct parser *p, struct slice word, char out[static 128])
{
	size_t len = 0;

	if (word.len >= 128)
		return fail(p, "the number is too long");
	for (size_t i = 0; i < word.len; i++) {
		if (word.data[i] != '_') {
			out[len++] = word.data[i];
			continue;
		}
		if (i == 0 || i + 1 == word.len || word.data[i - 1] == '_' || word.data[i + 1] == '_' ||
			strchr("+-.eEpPxob", word.data[i - 1]) || strchr("+-.eE", word.data[i + 1]))
			return fail(p, "an underscore in a number must stand between two digits");
	}
	out[len] = '\0';
	return 0;
}

static bool all_digits(const char *text, const char *digits)
{
	return *text && text[strspn(text, digits)] == '\0';
}

static int parse_integer(struct parser *p, const char *text, int base, bool negative, struct toml *value)
{
	unsigned long long magnitude;

	errno = 0;
	magnitude = strtoull(text, NULL, base);
	if (errno || magnitude > (unsigned long long)INT64_MAX + (negative ? 1 : 0))
		return fail(p, "%s%s does not fit into 64 bits", negative ? "-" : "", text);
	value->type = TOML_INTEGER;
	value->integer = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
	return 0;
}

static bool is_float_text(const char *text)
{
	size_t whole = strspn(text, "0123456789"), part;

	if (!whole || (whole > 1 && text[0] == '0'))
		return false;
	text += whole;
	if (*text == '.') {
		part = strspn(++text, "0123456789");
		if (!part)
			return false;
		text += part;
	}
	if (*text == 'e' || *text == 'E') {
		text++;
		if (*text == '+' || *text == '-')
			text++;
		if (!all_digits(text, "0123456789"))
			return false;
		text += strlen(text);
	}
	return *text == '\0';
}

static int parse_number(struct parser *p, struct slice word, struct toml *value)
{
	char text[128], *digits = text;
	bool negative = false;
	int r = strip_underscores(p, word, text);

	if (r < 0)
		return r;
	if (*digits == '+' || *digits == '-')
		negative = *digits++ == '-';
	if (digits == text && digits[0] == '0' && digits[1] == 'x' &&
		all_digits(digits + 2, "0123456789abcdefABCDEF"))
		return parse_integer(p, digits + 2, 16, false, value);
	if (digits == text && digits[0] == '0' && digits[1] == 'o' && all_digits(digits + 2, "01234567"))
		return parse_integer(p, digits + 2, 8, false, value);
	if (digits == text && digits[0] == '0' && digits[1] == 'b' && all_digits(digits + 2, "01"))
		return parse_integer(p, digits + 2, 2, false, value);
	if (all_digits(digits, "0123456789")) {
		if (digits[0] == '0' && digits[1])
			return fail(p,
				"%s: a number must not begin with 0 (an octal mode is a string: \"%s\")",
				text, digits);
		return parse_integer(p, digits, 10, negative, value);
	}
	value->type = TOML_FLOAT;
	if (strcmp(digits, "inf") == 0 || strcmp(digits, "nan") == 0 || is_float_text(digits)) {
		value->number = strtod(text, NULL);
		return 0;
	}
	return fail(p, "expected a value but found %s (a text needs quotes)", text);
}

static bool looks_like_time(struct slice word)
{
	if (word.len >= 10 && word.data[4] == '-' && word.data[7] == '-')
		return true;
	return word.len >= 8 && word.data[2] == ':' && word.data[5] == ':';
}

static bool pattern_matches(struct slice text, const char *pattern)
{
	for (size_t i = 0; i < strlen(pattern); i++) {
		if (i >= text.len)
			return false;
		if (pattern[i] == '0' ? text.data[i] < '0' || text.data[i] > '9' : text.data[i] != pattern[i])
			return false;
	}
	return true;
}

/* "1979-05-27", "07:32:00.99", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00-07:00": shape only. */
static int check_time(struct parser *p, struct slice text)
{
	struct slice rest = text;

	if (pattern_matches(rest, "0000-00-00")) {
		rest = slice_make(rest.data + 10, rest.len - 10);
		if (!rest.len)
			return 0;
		if (!strchr("Tt ", rest.data[0]))
			return fail(p, "invalid date %.*s", (int)MIN(text.len, (size_t)40), text.data);
		rest = slice_make(rest.data + 1, rest.len - 1);
	}
	if (!pattern_matches(rest, "00:00:00"))
		return fail(p, "invalid date %.*s", (int)MIN(text.len, (size_t)40), text.data);
	rest = slice_make(rest.data + 8, rest.len - 8);
	if (rest.len > 1 && rest.data[0] == '.')
		do
			rest = slice_make(rest.data + 1, rest.len - 1);
		while (rest.len && rest.data[0] >= '0' && rest.data[0] <= '9');
	if (!rest.len || (rest.len == 1 && (rest.data[0] == 'Z' || rest.data[0] == 'z')) ||
		(rest.len == 6 && (pattern_matches(rest, "+00:00") || pattern_matches(rest, "-00:00"))))
		return 0;
	return fail(p, "invalid date %.*s", (int)MIN(text.len, (size_t)40), text.data);
}

static int parse_word(struct parser *p, struct toml *value)
{
	size_t start = p->position;
	struct slice word;
	char text[24];

	while (is_word_character(peek(p)))
		next(p);
	word = slice_make(p->text.data + start, p->position - start);
	if (!word.len)
		return fail(p, "expected a value but found %s", found(p, text));
	if (slice_is(word, "true") || slice_is(word, "false")) {
		value->type = TOML_BOOL;
		value->boolean = word.data[0] == 't';
		return 0;
	}
	if (!looks_like_time(word))
		return parse_number(p, word, value);
	/* A blank may stand between a date and a time. */
	if (word.len == 10 && peek(p) == ' ' && peek_at(p, 1) >= '0' && peek_at(p, 1) <= '9') {
		next(p);
		while (is_word_character(peek(p)))
			next(p);
		word.len = (size_t)(p->text.data + p->position - word.data);
	}
	value->type = TOML_TIME;
	value->text = word;
	return check_time(p, word);
}

/* ---- values ---- */

static int parse_value(struct parser *p, unsigned depth, struct toml **ret_value);
static int parse_entry(struct parser *p, struct toml *table, unsigned depth);

static int parse_array(struct parser *p, unsigned depth, struct toml *array)
{
	array->type = TOML_ARRAY;
	array->is_inline = true;
	for (;;) {
		struct toml *item;
		char text[24];
		int r = skip_lines(p);

		if (r < 0)
			return r;
		if (accept(p, ']'))
			return 0;
		if (peek(p) == ',')
			return fail(p, "expected a value but found ','");
		if (peek(p) == END_OF_TEXT)
			return fail(p, "the array that begins in line %u has no closing ]", array->line);
		r = parse_value(p, depth + 1, &item);
		if (r < 0)
			return r;
		toml_append(array, item);
		r = skip_lines(p);
		if (r < 0)
			return r;
		if (accept(p, ','))
			continue;
		if (peek(p) != ']')
			return fail(p, "expected ',' or ']' in the array that begins in line %u but found %s",
				array->line, found(p, text));
	}
}

static int parse_inline_table(struct parser *p, unsigned depth, struct toml *table)
{
	char text[24];

	table->type = TOML_TABLE;
	table->defined = true;
	skip_blanks(p);
	while (!accept(p, '}')) {
		int r = parse_entry(p, table, depth + 1);

		if (r < 0)
			return r;
		skip_blanks(p);
		if (accept(p, ',')) {
			skip_blanks(p);
			if (peek(p) == '}')
				return fail(p, "an inline table must not end with a comma");
			continue;
		}
		if (peek(p) != '}')
			return fail(
				p, "expected ',' or '}' in the inline table but found %s", found(p, text));
	}
	table->is_inline = true;
	return 0;
}

static int parse_value(struct parser *p, unsigned depth, struct toml **ret_value)
{
	struct toml *value = toml_new(p, TOML_STRING);

	if (depth > TOML_DEPTH_MAX)
		return fail(p, "values are nested more than %d deep", TOML_DEPTH_MAX);
	*ret_value = value;
	if (accept_text(p, "\"\"\""))
		return parse_quoted(p, '"', true, &value->text);
	if (accept(p, '"'))
		return parse_quoted(p, '"', false, &value->text);
	if (accept_text(p, "'''"))
		return parse_quoted(p, '\'', true, &value->text);
	if (accept(p, '\''))
		return parse_quoted(p, '\'', false, &value->text);
	if (accept(p, '['))
		return parse_array(p, depth, value);
	if (accept(p, '{'))
		return parse_inline_table(p, depth, value);
	return parse_word(p, value);
}

/* ---- keys and tables ---- */

static bool is_bare_key(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       c == '-';
}

static int parse_key(struct parser *p, struct slice *ret_key)
{
	size_t start = p->position;
	char text[24];

	if (accept(p, '"'))
		return parse_quoted(p, '"', false, ret_key);
	if (accept(p, '\''))
		return parse_quoted(p, '\'', false, ret_key);
	while (is_bare_key(peek(p)))
		next(p);
	if (p->position == start)
		return fail(p, "expected a key but found %s", found(p, text));
	*ret_key = slice_make(p->text.data + start, p->position - start);
	return 0;
}

static int fail_key(struct parser *p, struct slice key, const char *problem, unsigned line)
{
	_cleanup_buf_ struct buf name = BUF_INIT(0);

	text_add_quoted(&name, key);
	return fail(p, "key %.100s %s (line %u)", buf_text(&name), problem, line);
}

/* The table of that name below `table`, made when it is not there. Of an array of tables, its last. */
static int descend(
	struct parser *p, struct toml *table, struct slice key, bool from_header, struct toml **ret_table)
{
	struct toml *below = find(table, key);

	if (!below) {
		below = toml_new(p, TOML_TABLE);
		below->key = key;
		toml_append(table, below);
	} else if (below->type == TOML_ARRAY && !below->is_inline && from_header) {
		below = below->last;
	} else if (below->type != TOML_TABLE || below->is_inline || (!from_header && below->defined)) {
		return fail_key(p, key, "is already something else", below->line);
	}
	*ret_table = below;
	return 0;
}

/* key = value, key.key = value */
static int parse_entry(struct parser *p, struct toml *table, unsigned depth)
{
	struct toml *value, *existing;
	struct slice key;
	char text[24];
	int r;

	for (;;) {
		r = parse_key(p, &key);
		if (r < 0)
			return r;
		skip_blanks(p);
		if (!accept(p, '.'))
			break;
		skip_blanks(p);
		r = descend(p, table, key, false, &table);
		if (r < 0)
			return r;
	}
	if (!accept(p, '='))
		return fail(p, "expected '=' behind the key but found %s", found(p, text));
	existing = find(table, key);
	if (existing)
		return fail_key(p, key, "is there twice", existing->line);
	p->last_key = key;
	skip_blanks(p);
	r = parse_value(p, depth, &value);
	if (r < 0)
		return r;
	value->key = key;
	toml_append(table, value);
	return 0;
}

/* [table] and [[array of tables]] */
static int parse_header(struct parser *p, struct toml *root, struct toml **ret_table)
{
	struct toml *table = root, *below;
	bool is_array = accept_text(p, "[[");
	struct slice key;
	char text[24];
	int r;

	if (!is_array)
		accept(p, '[');
	for (;;) {
		skip_blanks(p);
		r = parse_key(p, &key);
		if (r < 0)
			return r;
		skip_blanks(p);
		if (!accept(p, '.'))
			break;
		r = descend(p, table, key, true, &table);
		if (r < 0)
			return r;
	}
	if (!(is_array ? accept_text(p, "]]") : accept(p, ']')))
		return fail(p, "expected %s behind the table's name but found %s", is_array ? "]]" : "]",
			found(p, text));
	p->last_key = key;
	if (is_array) {
		struct toml *array = find(table, key);

		if (!array) {
			array = toml_new(p, TOML_ARRAY);
			array->key = key;
			toml_append(table, array);
		} else if (array->type != TOML_ARRAY || array->is_inline) {
			return fail_key(p, key, "is already something else", array->line);
		}
		below = toml_new(p, TOML_TABLE);
		toml_append(array, below);
	} else {
		below = find(table, key);
		if (below && (below->type != TOML_TABLE || below->defined))
			return fail_key(p, key, "is there twice", below->line);
		r = descend(p, table, key, true, &below);
		if (r < 0)
			return r;
		below->line = p->line;
	}
	below->defined = true;
	*ret_table = below;
	return 0;
}

int toml_parse(struct slice text, struct arena *arena, struct toml **ret_root, struct buf *reterr)
{
	struct parser p = {.text = text, .line = 1, .arena = arena, .error = reterr};
	struct toml *root, *table;
	char what[24];

	if (text.len > TOML_TEXT_MAX) {
		buf_printf(reterr, "line 1: the file is larger than %u bytes", TOML_TEXT_MAX);
		return -EINVAL;
	}
	accept_text(&p, "\xef\xbb\xbf");
	root = table = toml_new(&p, TOML_TABLE);
	for (;;) {
		int r = skip_lines(&p);

		if (r < 0)
			return r;
		if (peek(&p) == END_OF_TEXT)
			break;
		r = peek(&p) == '[' ? parse_header(&p, root, &table) : parse_entry(&p, table, 0);
		if (r < 0)
			return r;
		skip_blanks(&p);
		r = skip_comment(&p);
		if (r < 0)
			return r;
		if (!accept_newline(&p) && peek(&p) != END_OF_TEXT)
			return fail(&p, "expected the end of the line but found %s", found(&p, what));
	}
	*ret_root = root;
	return 0;
}
