/* Each call scans until one token is complete, by the state the last one left: plain text, the delimiter,
 * inside an action. It follows Go's scanner step by step, since error texts depend on where it stops. */
#include "template/lex.h"
#include "template/format.h"
#include "template/unicode.h"

#define END_OF_TEXT UINT32_MAX
#define SPACES " \t\r\n"
#define TRIM_LEN 2 /* the marker '-' and the space beside it */

static struct slice rest(const struct lexer *lexer)
{
	return slice_make(lexer->input.data + lexer->position, lexer->input.len - lexer->position);
}

static bool starts_with(struct slice text, const char *prefix)
{
	return slice_starts_with(text, slice_str(prefix));
}

static bool is_space(uint32_t rune)
{
	return rune == ' ' || rune == '\t' || rune == '\r' || rune == '\n';
}

static uint32_t peek(const struct lexer *lexer, size_t *ret_len)
{
	uint32_t rune;
	struct slice left = rest(lexer);
	size_t len;

	if (!left.len) {
		if (ret_len)
			*ret_len = 0;
		return END_OF_TEXT;
	}
	len = unicode_decode(left, &rune);
	if (ret_len)
		*ret_len = len;
	return rune;
}

static uint32_t advance(struct lexer *lexer)
{
	size_t len;
	uint32_t rune = peek(lexer, &len);

	lexer->position += len;
	return rune;
}

static bool accept(struct lexer *lexer, const char *valid)
{
	struct slice left = rest(lexer);

	if (!left.len || !left.data[0] || !strchr(valid, left.data[0]))
		return false;
	lexer->position++;
	return true;
}

static void accept_run(struct lexer *lexer, const char *valid)
{
	while (accept(lexer, valid))
		continue;
}

static struct token token_make(struct lexer *lexer, enum token_type type, struct slice text)
{
	for (; lexer->counted < lexer->start; lexer->counted++)
		if (lexer->input.data[lexer->counted] == '\n')
			lexer->line++;
	return (struct token){.type = type, .position = lexer->start, .line = lexer->line, .text = text};
}

static struct token emit(struct lexer *lexer, enum token_type type)
{
	struct token token = token_make(
		lexer, type, slice_make(lexer->input.data + lexer->start, lexer->position - lexer->start));

	lexer->start = lexer->position;
	return token;
}

static struct token fail(struct lexer *lexer, const char *message)
{
	lexer->state = LEXER_DONE;
	return token_make(lexer, TOKEN_ERROR, slice_str(message));
}

/* "bad character U+0041 'A'": Go's %#U. */
static struct token fail_rune(struct lexer *lexer, const char *message, uint32_t rune)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (rune == END_OF_TEXT) {
		buf_printf(&text, "%sU+FFFFFFFFFFFFFFFF", message);
	} else {
		buf_printf(&text, "%sU+%04X", message, rune);
		if (unicode_is_print(rune)) {
			buf_add_str(&text, " '");
			unicode_add(&text, rune);
			buf_add_char(&text, '\'');
		}
	}
	return fail(lexer, arena_strndup(lexer->arena, buf_text(&text), text.len));
}

static struct token fail_number(struct lexer *lexer)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	buf_add_str(&text, "bad number syntax: ");
	quote_text(
		&text, slice_make(lexer->input.data + lexer->start, lexer->position - lexer->start), false);
	return fail(lexer, arena_strndup(lexer->arena, buf_text(&text), text.len));
}

static bool left_trim_marker(struct slice text)
{
	return text.len >= 2 && text.data[0] == '-' && is_space((unsigned char)text.data[1]);
}

static bool right_trim_marker(struct slice text)
{
	return text.len >= 2 && is_space((unsigned char)text.data[0]) && text.data[1] == '-';
}

static bool at_right_delim(const struct lexer *lexer, bool *ret_trim)
{
	struct slice left = rest(lexer);

	*ret_trim = right_trim_marker(left) &&
		    starts_with(slice_make(left.data + TRIM_LEN, left.len - TRIM_LEN), "}}");
	return *ret_trim || starts_with(left, "}}");
}

static bool at_terminator(const struct lexer *lexer)
{
	uint32_t rune = peek(lexer, NULL);

	return is_space(rune) || rune == END_OF_TEXT ||
	       (rune < 0x80 && rune && strchr(".,|:)(", (int)rune)) || starts_with(rest(lexer), "}}");
}

static void skip_spaces(struct lexer *lexer)
{
	accept_run(lexer, SPACES);
	lexer->start = lexer->position;
}

static struct token lex_text(struct lexer *lexer)
{
	struct slice left = rest(lexer);
	const char *delim = left.len ? memmem(left.data, left.len, "{{", 2) : NULL;
	size_t at, end;

	if (!delim) {
		lexer->position = lexer->input.len;
		if (lexer->position > lexer->start)
			return emit(lexer, TOKEN_TEXT);
		lexer->state = LEXER_DONE;
		return emit(lexer, TOKEN_EOF);
	}
	at = end = (size_t)(delim - lexer->input.data);
	if (left_trim_marker(slice_make(delim + 2, lexer->input.len - at - 2)))
		while (end > lexer->start && is_space((unsigned char)lexer->input.data[end - 1]))
			end--;
	lexer->state = LEXER_LEFT_DELIM;
	if (end > lexer->start) {
		struct token token;

		lexer->position = end;
		token = emit(lexer, TOKEN_TEXT);
		lexer->position = lexer->start = at;
		return token;
	}
	lexer->position = lexer->start = at;
	return (struct token){.type = TOKEN_TYPE_MAX};
}

static struct token lex_comment(struct lexer *lexer)
{
	struct slice left;
	const char *close;
	bool trim;

	lexer->position += 2;
	left = rest(lexer);
	close = left.len ? memmem(left.data, left.len, "*/", 2) : NULL;
	if (!close)
		return fail(lexer, "unclosed comment");
	lexer->position = (size_t)(close - lexer->input.data) + 2;
	if (!at_right_delim(lexer, &trim))
		return fail(lexer, "comment ends before closing delimiter");
	lexer->position += (trim ? TRIM_LEN : 0) + 2;
	lexer->start = lexer->position;
	if (trim)
		skip_spaces(lexer);
	lexer->state = LEXER_TEXT;
	return (struct token){.type = TOKEN_TYPE_MAX};
}

static struct token lex_left_delim(struct lexer *lexer)
{
	struct token token;
	struct slice left;
	bool trim;

	lexer->position += 2;
	left = rest(lexer);
	trim = left_trim_marker(left);
	if (trim)
		left = slice_make(left.data + TRIM_LEN, left.len - TRIM_LEN);
	if (starts_with(left, "/*")) {
		lexer->position += trim ? TRIM_LEN : 0;
		lexer->start = lexer->position;
		return lex_comment(lexer);
	}
	token = emit(lexer, TOKEN_LEFT_DELIM);
	lexer->position += trim ? TRIM_LEN : 0;
	lexer->start = lexer->position;
	lexer->parens = 0;
	lexer->state = LEXER_ACTION;
	return token;
}

static struct token lex_right_delim(struct lexer *lexer)
{
	bool trim = right_trim_marker(rest(lexer));
	struct token token;

	if (trim) {
		lexer->position += TRIM_LEN;
		lexer->start = lexer->position;
	}
	lexer->position += 2;
	token = emit(lexer, TOKEN_RIGHT_DELIM);
	if (trim)
		skip_spaces(lexer);
	lexer->state = LEXER_TEXT;
	return token;
}

static struct token lex_space(struct lexer *lexer)
{
	size_t count = 0;
	struct slice last;

	while (accept(lexer, SPACES))
		count++;
	/* The space before a trim marker belongs to it. */
	last = slice_make(lexer->input.data + lexer->position - 1, lexer->input.len - lexer->position + 1);
	if (right_trim_marker(last) &&
		starts_with(slice_make(last.data + TRIM_LEN, last.len - TRIM_LEN), "}}")) {
		lexer->position--;
		if (count == 1)
			return lex_right_delim(lexer);
	}
	return emit(lexer, TOKEN_SPACE);
}

static enum token_type word_type(const struct lexer *lexer, struct slice word)
{
	static const struct {
		const char *word;
		enum token_type type;
	} keywords[] = {
		{"block", TOKEN_BLOCK},
		{"break", TOKEN_BREAK},
		{"continue", TOKEN_CONTINUE},
		{"define", TOKEN_DEFINE},
		{"else", TOKEN_ELSE},
		{"end", TOKEN_END},
		{"false", TOKEN_BOOL},
		{"if", TOKEN_IF},
		{"nil", TOKEN_NIL},
		{"range", TOKEN_RANGE},
		{"template", TOKEN_TEMPLATE},
		{"true", TOKEN_BOOL},
		{"with", TOKEN_WITH},
	};

	for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
		if (!slice_is(word, keywords[i].word))
			continue;
		if ((keywords[i].type == TOKEN_BREAK && lexer->break_is_function) ||
			(keywords[i].type == TOKEN_CONTINUE && lexer->continue_is_function))
			break;
		return keywords[i].type;
	}
	return TOKEN_IDENTIFIER;
}

static void accept_alphanumeric(struct lexer *lexer)
{
	size_t len;
	uint32_t rune;

	while ((rune = peek(lexer, &len)) != END_OF_TEXT && unicode_is_alphanumeric(rune))
		lexer->position += len;
}

static struct token lex_identifier(struct lexer *lexer)
{
	accept_alphanumeric(lexer);
	if (!at_terminator(lexer))
		return fail_rune(lexer, "bad character ", peek(lexer, NULL));
	return emit(lexer, word_type(lexer, slice_make(lexer->input.data + lexer->start,
						    lexer->position - lexer->start)));
}

/* The '.' or '$' has been read. */
static struct token lex_field_or_variable(struct lexer *lexer, enum token_type type)
{
	if (at_terminator(lexer))
		return emit(lexer, type == TOKEN_VARIABLE ? TOKEN_VARIABLE : TOKEN_DOT);
	accept_alphanumeric(lexer);
	if (!at_terminator(lexer))
		return fail_rune(lexer, "bad character ", peek(lexer, NULL));
	return emit(lexer, type);
}

/* A string or character constant up to its closing quote; the opening one has been read. */
static struct token lex_quoted(
	struct lexer *lexer, char quote, enum token_type type, const char *unterminated)
{
	for (;;) {
		uint32_t rune = advance(lexer);

		if (rune == '\\') {
			rune = advance(lexer);
			if (rune != END_OF_TEXT && rune != '\n')
				continue;
		}
		if (rune == END_OF_TEXT || rune == '\n')
			return fail(lexer, unterminated);
		if (rune == (unsigned char)quote)
			return emit(lexer, type);
	}
}

static struct token lex_raw_quote(struct lexer *lexer)
{
	struct slice left = rest(lexer);
	const char *close = left.len ? memchr(left.data, '`', left.len) : NULL;

	if (!close)
		return fail(lexer, "unterminated raw quoted string");
	lexer->position = (size_t)(close - lexer->input.data) + 1;
	return emit(lexer, TOKEN_RAW_STRING);
}

static bool scan_number(struct lexer *lexer)
{
	const char *digits = "0123456789_";
	bool decimal = true, hex = false;
	uint32_t next;
	size_t len;

	accept(lexer, "+-");
	if (accept(lexer, "0")) {
		if (accept(lexer, "xX")) {
			digits = "0123456789abcdefABCDEF_";
			hex = true;
			decimal = false;
		} else if (accept(lexer, "oO")) {
			digits = "01234567_";
			decimal = false;
		} else if (accept(lexer, "bB")) {
			digits = "01_";
			decimal = false;
		}
	}
	accept_run(lexer, digits);
	if (accept(lexer, "."))
		accept_run(lexer, digits);
	if ((decimal && accept(lexer, "eE")) || (hex && accept(lexer, "pP"))) {
		accept(lexer, "+-");
		accept_run(lexer, "0123456789_");
	}
	accept(lexer, "i");
	next = peek(lexer, &len);
	if (next != END_OF_TEXT && unicode_is_alphanumeric(next)) {
		lexer->position += len;
		return false;
	}
	return true;
}

static struct token lex_number(struct lexer *lexer)
{
	uint32_t sign;

	if (!scan_number(lexer))
		return fail_number(lexer);
	sign = peek(lexer, NULL);
	if (sign != '+' && sign != '-')
		return emit(lexer, TOKEN_NUMBER);
	if (!scan_number(lexer) || lexer->input.data[lexer->position - 1] != 'i')
		return fail_number(lexer);
	return emit(lexer, TOKEN_COMPLEX);
}

static struct token lex_action(struct lexer *lexer)
{
	size_t len;
	uint32_t rune;
	bool trim;

	if (at_right_delim(lexer, &trim))
		return lexer->parens ? fail(lexer, "unclosed left paren") : lex_right_delim(lexer);
	rune = peek(lexer, &len);
	if (is_space(rune))
		return lex_space(lexer);
	if (rune == END_OF_TEXT)
		return fail(lexer, "unclosed action");
	if (rune == '+' || rune == '-' || (rune >= '0' && rune <= '9') ||
		(rune == '.' && rest(lexer).len > 1 && rest(lexer).data[1] >= '0' &&
			rest(lexer).data[1] <= '9'))
		return lex_number(lexer);
	if (rune == '.' && rest(lexer).len == 1)
		return lex_number(lexer);
	if (unicode_is_alphanumeric(rune))
		return lex_identifier(lexer);
	lexer->position += len;
	switch (rune) {
	case '=':
		return emit(lexer, TOKEN_ASSIGN);
	case ':':
		return accept(lexer, "=") ? emit(lexer, TOKEN_DECLARE) : fail(lexer, "expected :=");
	case '|':
		return emit(lexer, TOKEN_PIPE);
	case '"':
		return lex_quoted(lexer, '"', TOKEN_STRING, "unterminated quoted string");
	case '`':
		return lex_raw_quote(lexer);
	case '$':
		return lex_field_or_variable(lexer, TOKEN_VARIABLE);
	case '\'':
		return lex_quoted(lexer, '\'', TOKEN_CHAR_CONSTANT, "unterminated character constant");
	case '.':
		return lex_field_or_variable(lexer, TOKEN_FIELD);
	case '(':
		lexer->parens++;
		return emit(lexer, TOKEN_LEFT_PAREN);
	case ')':
		lexer->parens--;
		return emit(lexer, TOKEN_RIGHT_PAREN);
	default:
		if (rune > ' ' && rune < 0x7f)
			return emit(lexer, TOKEN_CHAR);
		return fail_rune(lexer, "unrecognized character in action: ", rune);
	}
}

void lexer_init(struct lexer *lexer, struct arena *arena, struct slice input)
{
	*lexer = (struct lexer){.arena = arena, .input = input, .line = 1};
}

struct token lexer_next(struct lexer *lexer)
{
	struct token token;

	do {
		switch (lexer->state) {
		case LEXER_TEXT:
			token = lex_text(lexer);
			break;
		case LEXER_LEFT_DELIM:
			token = lex_left_delim(lexer);
			break;
		case LEXER_ACTION:
			token = lex_action(lexer);
			break;
		default:
			return (struct token){
				.type = TOKEN_EOF, .position = lexer->start, .line = lexer->line};
		}
	} while (token.type == TOKEN_TYPE_MAX);
	return token;
}
