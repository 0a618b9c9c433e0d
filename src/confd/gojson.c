/* Recursive descent that stops at the same byte as Go's scanner. At the end of the text Go feeds one blank to
 * see whether the state minds, and so do we: "tru" complains about ' ', "[1" about the unexpected end. */
#include "confd/gojson.h"
#include "template/format.h"
#include "template/unicode.h"

#include <errno.h>
#include <stdio.h>

struct decoder {
	struct arena *arena;
	struct slice text;
	size_t position;
	struct buf *error;
};

static bool at_end(const struct decoder *d)
{
	return d->position >= d->text.len;
}

static int current(const struct decoder *d)
{
	return at_end(d) ? ' ' : (unsigned char)d->text.data[d->position];
}

static int fail_end(struct decoder *d)
{
	buf_add_str(d->error, "unexpected end of JSON input");
	return -EINVAL;
}

static int fail_character(struct decoder *d, const char *context)
{
	_cleanup_buf_ struct buf quoted = BUF_INIT(0);
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	int c = current(d);

	buf_add_str(d->error, "invalid character ");
	if (c == '\'') {
		buf_add_str(d->error, "'\\''");
	} else if (c == '"') {
		buf_add_str(d->error, "'\"'");
	} else {
		unicode_add(&text, (uint32_t)c);
		quote_text(&quoted, buf_slice(&text), false);
		buf_add_char(d->error, '\'');
		buf_add(d->error, quoted.data + 1, quoted.len - 2);
		buf_add_char(d->error, '\'');
	}
	buf_add_char(d->error, ' ');
	buf_add_str(d->error, context);
	return -EINVAL;
}

static void skip_blanks(struct decoder *d)
{
	while (!at_end(d) && strchr(" \t\r\n", current(d)) && current(d))
		d->position++;
}

static int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode_hex(struct decoder *d, uint32_t *ret_rune)
{
	uint32_t rune = 0;

	for (int i = 0; i < 4; i++) {
		int digit = at_end(d) ? -1 : hex_digit(current(d));

		if (digit < 0)
			return fail_character(d, "in \\u hexadecimal character escape");
		rune = rune << 4 | (uint32_t)digit;
		d->position++;
	}
	*ret_rune = rune;
	return 0;
}

/* The backslash has been read. */
static int decode_escape(struct decoder *d, struct buf *out)
{
	static const char letters[] = "bfnrt\\/\"", values[] = "\b\f\n\r\t\\/\"";
	const char *letter = at_end(d) || !current(d) ? NULL : strchr(letters, current(d));
	uint32_t rune, second;
	int r;

	if (letter) {
		d->position++;
		buf_add_char(out, values[letter - letters]);
		return 0;
	}
	if (at_end(d) || current(d) != 'u')
		return fail_character(d, "in string escape code");
	d->position++;
	r = decode_hex(d, &rune);
	if (r < 0)
		return r;
	/* A pair of surrogates is one character; a lone one becomes U+FFFD. */
	if (rune >= 0xd800 && rune < 0xdc00 && d->text.len - d->position >= 6 &&
		d->text.data[d->position] == '\\' && d->text.data[d->position + 1] == 'u') {
		size_t back = d->position;

		d->position += 2;
		r = decode_hex(d, &second);
		if (r < 0)
			return r;
		if (second >= 0xdc00 && second < 0xe000)
			rune = 0x10000 + ((rune - 0xd800) << 10) + (second - 0xdc00);
		else
			d->position = back;
	}
	unicode_add(out, rune);
	return 0;
}

/* The opening quote has been read. */
static int decode_string(struct decoder *d, struct slice *ret_text)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	for (;;) {
		uint32_t rune;
		int c = current(d);

		if (at_end(d))
			return fail_end(d);
		if (c == '"')
			break;
		if (c < ' ')
			return fail_character(d, "in string literal");
		if (c == '\\') {
			int r;

			d->position++;
			r = decode_escape(d, &out);
			if (r < 0)
				return r;
			continue;
		}
		d->position += unicode_decode(
			slice_make(d->text.data + d->position, d->text.len - d->position), &rune);
		unicode_add(&out, rune);
	}
	d->position++;
	*ret_text = slice_make(arena_strndup(d->arena, buf_text(&out), out.len), out.len);
	return 0;
}

static bool skip_digits(struct decoder *d)
{
	size_t start = d->position;

	while (!at_end(d) && current(d) >= '0' && current(d) <= '9')
		d->position++;
	return d->position > start;
}

static int decode_number(struct decoder *d, struct template_value *ret)
{
	size_t start = d->position;
	double number;

	if (current(d) == '-')
		d->position++;
	if (!at_end(d) && current(d) == '0')
		d->position++;
	else if (!skip_digits(d))
		return fail_character(d, "in numeric literal");
	if (!at_end(d) && current(d) == '.') {
		d->position++;
		if (!skip_digits(d))
			return fail_character(d, "after decimal point in numeric literal");
	}
	if (!at_end(d) && (current(d) | 0x20) == 'e') {
		d->position++;
		if (!at_end(d) && (current(d) == '+' || current(d) == '-'))
			d->position++;
		if (!skip_digits(d))
			return fail_character(d, "in exponent of numeric literal");
	}
	if (number_parse_float(slice_make(d->text.data + start, d->position - start), &number) < 0) {
		buf_printf(d->error, "json: cannot unmarshal number %.*s into Go value of type float64",
			(int)MIN(d->position - start, (size_t)100), d->text.data + start);
		return -EINVAL;
	}
	*ret = template_float(number);
	return 0;
}

static int decode_literal(struct decoder *d, const char *literal)
{
	for (size_t i = 0; literal[i]; i++, d->position++) {
		char context[64];

		if (!at_end(d) && current(d) == literal[i])
			continue;
		snprintf(context, sizeof(context), "in literal %s (expecting '%c')", literal, literal[i]);
		return fail_character(d, context);
	}
	return 0;
}

static int decode_value(struct decoder *d, unsigned depth, struct template_value *ret);

static int decode_array(struct decoder *d, unsigned depth, struct template_value *ret)
{
	struct template_value list = template_list_new(d->arena, &template_type_list, 0), item;

	skip_blanks(d);
	if (!at_end(d) && current(d) == ']') {
		d->position++;
		*ret = list;
		return 0;
	}
	for (;;) {
		int r = decode_value(d, depth + 1, &item);

		if (r < 0)
			return r;
		template_list_add(d->arena, &list, item);
		skip_blanks(d);
		if (at_end(d))
			return fail_end(d);
		if (current(d) != ',' && current(d) != ']')
			return fail_character(d, "after array element");
		if (d->text.data[d->position++] == ']')
			break;
	}
	*ret = list;
	return 0;
}

static int decode_object(struct decoder *d, unsigned depth, struct template_value *ret)
{
	struct template_value map = template_map_new(d->arena, &template_type_map), item;
	struct slice key;

	skip_blanks(d);
	if (!at_end(d) && current(d) == '}') {
		d->position++;
		*ret = map;
		return 0;
	}
	for (;;) {
		int r;

		skip_blanks(d);
		if (at_end(d))
			return fail_end(d);
		if (current(d) != '"')
			return fail_character(d, "looking for beginning of object key string");
		d->position++;
		r = decode_string(d, &key);
		if (r < 0)
			return r;
		skip_blanks(d);
		if (at_end(d))
			return fail_end(d);
		if (current(d) != ':')
			return fail_character(d, "after object key");
		d->position++;
		r = decode_value(d, depth + 1, &item);
		if (r < 0)
			return r;
		template_map_put(d->arena, &map, template_text(key), item);
		skip_blanks(d);
		if (at_end(d))
			return fail_end(d);
		if (current(d) != ',' && current(d) != '}')
			return fail_character(d, "after object key:value pair");
		if (d->text.data[d->position++] == '}')
			break;
	}
	*ret = map;
	return 0;
}

static int decode_value(struct decoder *d, unsigned depth, struct template_value *ret)
{
	struct slice text;
	int r;

	skip_blanks(d);
	if (at_end(d))
		return fail_end(d);
	if (depth > GOJSON_DEPTH_MAX) {
		buf_add_str(d->error, "exceeded max depth");
		return -EINVAL;
	}
	switch (current(d)) {
	case '{':
		d->position++;
		return decode_object(d, depth, ret);
	case '[':
		d->position++;
		return decode_array(d, depth, ret);
	case '"':
		d->position++;
		r = decode_string(d, &text);
		if (r >= 0)
			*ret = template_text(text);
		return r;
	case 't':
	case 'f':
		*ret = template_bool(current(d) == 't');
		return decode_literal(d, current(d) == 't' ? "true" : "false");
	case 'n':
		*ret = template_nil();
		return decode_literal(d, "null");
	default:
		if (current(d) == '-' || (current(d) >= '0' && current(d) <= '9'))
			return decode_number(d, ret);
		return fail_character(d, "looking for beginning of value");
	}
}

static const char *json_kind(const struct template_value *value)
{
	switch (value->type->kind) {
	case TEMPLATE_BOOL:
		return "bool";
	case TEMPLATE_FLOAT:
		return "number";
	case TEMPLATE_STRING:
		return "string";
	case TEMPLATE_LIST:
		return "array";
	default:
		return "object";
	}
}

int gojson_decode(struct arena *arena, struct slice text, const struct template_type *type,
	struct template_value *ret_value, struct buf *reterr)
{
	struct decoder d = {.arena = arena, .text = text, .error = reterr};
	struct template_value value;
	int r = decode_value(&d, 0, &value);

	if (r < 0)
		return r;
	skip_blanks(&d);
	if (!at_end(&d))
		return fail_character(&d, "after top-level value");
	if (!value.type) {
		*ret_value = template_zero(type);
		return 0;
	}
	if (value.type != type) {
		buf_printf(reterr, "json: cannot unmarshal %s into Go value of type %s", json_kind(&value),
			type->name);
		return -EINVAL;
	}
	*ret_value = value;
	return 0;
}
