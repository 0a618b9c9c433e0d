/* strconv's quoting: escapes for what is not printable, and reading Go string and character literals. */
#include "template/format.h"
#include "template/unicode.h"

#include <errno.h>

static void add_escaped_rune(struct buf *out, uint32_t rune, char quote, bool ascii_only)
{
	static const char escapes[] = "\a\b\f\n\r\t\v", letters[] = "abfnrtv";
	const char *escape;

	if (rune == (unsigned char)quote || rune == '\\') {
		buf_add_char(out, '\\');
		buf_add_char(out, (char)rune);
		return;
	}
	if (ascii_only ? rune < 0x80 && unicode_is_print(rune) : unicode_is_print(rune)) {
		unicode_add(out, rune);
		return;
	}
	escape = rune && rune < 0x80 ? strchr(escapes, (int)rune) : NULL;
	if (escape) {
		buf_add_char(out, '\\');
		buf_add_char(out, letters[escape - escapes]);
	} else if (rune < ' ' || rune == 0x7f) {
		buf_printf(out, "\\x%02x", rune);
	} else if (rune < 0x10000) {
		buf_printf(out, "\\u%04x", rune);
	} else {
		buf_printf(out, "\\U%08x", rune);
	}
}

void quote_text(struct buf *out, struct slice text, bool ascii_only)
{
	buf_add_char(out, '"');
	while (text.len) {
		uint32_t rune;
		size_t len = unicode_decode(text, &rune);

		if (len == 1 && rune == UNICODE_REPLACEMENT)
			buf_printf(out, "\\x%02x", (unsigned char)text.data[0]);
		else
			add_escaped_rune(out, rune, '"', ascii_only);
		text.data += len;
		text.len -= len;
	}
	buf_add_char(out, '"');
}

void quote_rune(struct buf *out, uint32_t rune, bool ascii_only)
{
	if (rune > UNICODE_MAX || (rune >= 0xd800 && rune <= 0xdfff))
		rune = UNICODE_REPLACEMENT;
	buf_add_char(out, '\'');
	add_escaped_rune(out, rune, '\'', ascii_only);
	buf_add_char(out, '\'');
}

bool quote_can_backquote(struct slice text)
{
	while (text.len) {
		uint32_t rune;
		size_t len = unicode_decode(text, &rune);

		text.data += len;
		text.len -= len;
		if (len > 1) {
			if (rune == 0xfeff)
				return false;
			continue;
		}
		if (rune == UNICODE_REPLACEMENT || (rune < ' ' && rune != '\t') || rune == '`' ||
			rune == 0x7f)
			return false;
	}
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int unquote_digits(struct slice text, size_t digits, uint32_t *ret_rune)
{
	uint32_t value = 0;

	if (text.len < 2 + digits)
		return -EINVAL;
	for (size_t i = 0; i < digits; i++) {
		int digit = hex_digit(text.data[2 + i]);

		if (digit < 0)
			return -EINVAL;
		value = value << 4 | (uint32_t)digit;
	}
	*ret_rune = value;
	return (int)(2 + digits);
}

static int unquote_octal(struct slice text, uint32_t *ret_rune)
{
	uint32_t value = 0;

	if (text.len < 4)
		return -EINVAL;
	for (size_t i = 1; i < 4; i++) {
		if (text.data[i] < '0' || text.data[i] > '7')
			return -EINVAL;
		value = value << 3 | (uint32_t)(text.data[i] - '0');
	}
	if (value > 255)
		return -EINVAL;
	*ret_rune = value;
	return 4;
}

int unquote_rune(struct slice text, char quote, uint32_t *ret_rune, bool *ret_is_byte)
{
	static const char letters[] = "abfnrtv", values[] = "\a\b\f\n\r\t\v";
	const char *letter;
	uint32_t rune = 0;
	int len;

	*ret_is_byte = false;
	if (!text.len)
		return -EINVAL;
	if (text.data[0] == quote && (quote == '\'' || quote == '"'))
		return -EINVAL;
	if (text.data[0] != '\\') {
		len = (int)unicode_decode(text, &rune);
		/* An invalid byte in a string stays that byte. */
		if (len == 1 && rune == UNICODE_REPLACEMENT && quote == '"') {
			rune = (unsigned char)text.data[0];
			*ret_is_byte = true;
		}
		*ret_rune = rune;
		return len;
	}
	if (text.len < 2)
		return -EINVAL;
	letter = text.data[1] ? strchr(letters, text.data[1]) : NULL;
	if (letter) {
		*ret_rune = (uint32_t)values[letter - letters];
		return 2;
	}
	switch (text.data[1]) {
	case 'x':
		*ret_is_byte = true;
		return unquote_digits(text, 2, ret_rune);
	case 'u':
	case 'U':
		len = unquote_digits(text, text.data[1] == 'u' ? 4 : 8, &rune);
		if (len < 0 || rune > UNICODE_MAX || (rune >= 0xd800 && rune <= 0xdfff))
			return -EINVAL;
		*ret_rune = rune;
		return len;
	case '\\':
		*ret_rune = '\\';
		return 2;
	case '\'':
	case '"':
		if (text.data[1] != quote)
			return -EINVAL;
		*ret_rune = (unsigned char)quote;
		return 2;
	default:
		*ret_is_byte = true;
		return unquote_octal(text, ret_rune);
	}
}

int unquote_text(struct slice literal, struct buf *out)
{
	char quote;

	if (literal.len < 2)
		return -EINVAL;
	quote = literal.data[0];
	if (literal.data[literal.len - 1] != quote)
		return -EINVAL;
	literal = slice_make(literal.data + 1, literal.len - 2);
	if (quote == '`') {
		for (size_t i = 0; i < literal.len; i++) {
			if (literal.data[i] == '`')
				return -EINVAL;
			if (literal.data[i] != '\r')
				buf_add_char(out, literal.data[i]);
		}
		return 0;
	}
	if (quote != '"')
		return -EINVAL;
	while (literal.len) {
		bool is_byte;
		uint32_t rune;
		int len;

		if (literal.data[0] == '\n')
			return -EINVAL;
		len = unquote_rune(literal, '"', &rune, &is_byte);
		if (len < 0)
			return len;
		if (is_byte)
			buf_add_char(out, (char)rune);
		else
			unicode_add(out, rune);
		literal.data += len;
		literal.len -= (size_t)len;
	}
	return 0;
}
