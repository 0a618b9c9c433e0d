/* Follows fmt's own shape: a printer with the flags of the verb at work, one function per kind of value, and
 * the error texts (%!d(string=x)) for a verb that does not suit its value. */
#include "template/format.h"
#include "template/unicode.h"

#include <math.h>

#define FORMAT_NUMBER_MAX 1000000 /* larger widths and precisions are errors, as in fmt */
#define FORMAT_DEPTH_MAX 200	  /* nested values; deeper ones print as ... */

struct printer {
	struct arena *arena;
	struct buf *out;
	int width, precision;
	bool has_width, has_precision;
	bool minus, plus, sharp, space, zero, plus_v, sharp_v;
	bool erroring; /* inside %!verb(...): no further error texts, no String() */
	bool reordered, good_index;
};

static void print_value(struct printer *p, struct template_value value, uint32_t verb, unsigned depth);

static void clear_flags(struct printer *p)
{
	p->width = p->precision = 0;
	p->has_width = p->has_precision = false;
	p->minus = p->plus = p->sharp = p->space = p->zero = p->plus_v = p->sharp_v = false;
}

static void add_padding(struct printer *p, int count)
{
	if (count > 0)
		buf_add_fill(p->out, p->zero ? '0' : ' ', (size_t)count);
}

static void add_padded(struct printer *p, struct slice text)
{
	int count = p->has_width ? p->width - (int)unicode_count(text) : 0;

	if (!p->minus)
		add_padding(p, count);
	buf_add_slice(p->out, text);
	if (p->minus)
		add_padding(p, count);
}

/* Without zeros for padding, whatever the flags say. */
static void add_padded_plain(struct printer *p, struct slice text)
{
	bool zero = p->zero;

	p->zero = false;
	add_padded(p, text);
	p->zero = zero;
}

static void bad_verb(struct printer *p, struct template_value value, uint32_t verb)
{
	bool erroring = p->erroring;

	p->erroring = true;
	buf_add_str(p->out, "%!");
	unicode_add(p->out, verb);
	buf_add_char(p->out, '(');
	if (value.type) {
		value.is_interface = false;
		template_type_add_name(p->out, &value);
		buf_add_char(p->out, '=');
		print_value(p, value, 'v', 0);
	} else {
		buf_add_str(p->out, "<nil>");
	}
	buf_add_char(p->out, ')');
	p->erroring = erroring;
}

static void print_integer_digits(
	struct printer *p, uint64_t value, unsigned base, bool negative, uint32_t verb, bool upper)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	char digits[64];
	int count = 0, precision = 0;
	const char *alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";

	if (p->has_precision) {
		precision = p->precision;
		if (precision == 0 && value == 0) {
			bool zero = p->zero;

			p->zero = false;
			add_padding(p, p->width);
			p->zero = zero;
			return;
		}
	} else if (p->zero && p->has_width) {
		precision = p->width - (negative || p->plus || p->space ? 1 : 0);
	}
	do {
		digits[count++] = alphabet[value % base];
		value /= base;
	} while (value);
	if (negative)
		buf_add_char(&text, '-');
	else if (p->plus)
		buf_add_char(&text, '+');
	else if (p->space)
		buf_add_char(&text, ' ');
	if (verb == 'O')
		buf_add_str(&text, "0o");
	if (p->sharp && base == 2)
		buf_add_str(&text, "0b");
	if (p->sharp && base == 16)
		buf_add_str(&text, upper ? "0X" : "0x");
	if (p->sharp && base == 8 && precision <= count && digits[count - 1] != '0')
		buf_add_char(&text, '0');
	if (precision > count)
		buf_add_fill(&text, '0', (size_t)(precision - count));
	while (count > 0)
		buf_add_char(&text, digits[--count]);
	add_padded_plain(p, buf_slice(&text));
}

static void print_unicode(struct printer *p, uint64_t value)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	int digits = p->has_precision && p->precision > 4 ? p->precision : 4;

	buf_printf(&text, "U+%0*llX", digits, (unsigned long long)value);
	if (p->sharp && value <= UNICODE_MAX && unicode_is_print((uint32_t)value)) {
		buf_add_str(&text, " '");
		unicode_add(&text, (uint32_t)value);
		buf_add_char(&text, '\'');
	}
	add_padded_plain(p, buf_slice(&text));
}

static void print_integer(
	struct printer *p, struct template_value value, uint64_t bits, bool is_signed, uint32_t verb)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	bool negative = is_signed && (int64_t)bits < 0;
	uint64_t magnitude = negative ? 0 - bits : bits;
	uint32_t rune = bits > UNICODE_MAX ? UNICODE_REPLACEMENT : (uint32_t)bits;

	switch (verb) {
	case 'v':
		if (p->sharp_v && !is_signed) {
			bool sharp = p->sharp;

			p->sharp = true;
			print_integer_digits(p, magnitude, 16, false, 'v', false);
			p->sharp = sharp;
			return;
		}
		print_integer_digits(p, magnitude, 10, negative, verb, false);
		return;
	case 'd':
		print_integer_digits(p, magnitude, 10, negative, verb, false);
		return;
	case 'b':
		print_integer_digits(p, magnitude, 2, negative, verb, false);
		return;
	case 'o':
	case 'O':
		print_integer_digits(p, magnitude, 8, negative, verb, false);
		return;
	case 'x':
	case 'X':
		print_integer_digits(p, magnitude, 16, negative, verb, verb == 'X');
		return;
	case 'c':
		unicode_add(&text, rune);
		add_padded(p, buf_slice(&text));
		return;
	case 'q':
		quote_rune(&text, rune, p->plus);
		add_padded(p, buf_slice(&text));
		return;
	case 'U':
		print_unicode(p, bits);
		return;
	default:
		bad_verb(p, value, verb);
	}
}

/* %#g and friends: a decimal point always, and zeros up to the precision. */
static void sharpen_float(struct buf *number, uint32_t verb, int precision)
{
	_cleanup_buf_ struct buf tail = BUF_INIT(0);
	bool point = false, nonzero = false;
	int digits = 0;

	if (verb == 'v' || verb == 'g' || verb == 'G' || verb == 'x')
		digits = precision < 0 ? 6 : precision;
	for (size_t i = 1; i < number->len; i++) {
		char c = number->data[i];

		if (c == '.') {
			point = true;
			continue;
		}
		if (c == 'p' || c == 'P' || ((c == 'e' || c == 'E') && verb != 'x' && verb != 'X')) {
			buf_add(&tail, number->data + i, number->len - i);
			buf_truncate(number, i);
			break;
		}
		if (c != '0')
			nonzero = true;
		if (nonzero)
			digits--;
	}
	if (!point) {
		if (number->len == 2 && number->data[1] == '0')
			digits--;
		buf_add_char(number, '.');
	}
	if (digits > 0)
		buf_add_fill(number, '0', (size_t)digits);
	buf_add_slice(number, buf_slice(&tail));
}

static void print_float_text(struct printer *p, double value, unsigned bits, uint32_t verb, int precision)
{
	_cleanup_buf_ struct buf plain = BUF_INIT(0);
	_cleanup_buf_ struct buf number = BUF_INIT(0);

	if (p->has_precision)
		precision = p->precision;
	format_float(&plain, value, (char)verb, precision, bits);
	if (plain.data[0] != '-' && plain.data[0] != '+')
		buf_add_char(&number, '+');
	buf_add_slice(&number, buf_slice(&plain));
	if (p->space && number.data[0] == '+' && !p->plus)
		number.data[0] = ' ';
	if (!isfinite(value)) {
		size_t skip = isnan(value) && !p->space && !p->plus ? 1 : 0;

		add_padded_plain(p, slice_make(number.data + skip, number.len - skip));
		return;
	}
	if (p->sharp && verb != 'b')
		sharpen_float(&number, verb, precision);
	if (!p->plus && number.data[0] == '+') {
		add_padded(p, slice_make(number.data + 1, number.len - 1));
		return;
	}
	if (p->zero && p->has_width && p->width > (int)number.len) {
		buf_add_char(p->out, number.data[0]);
		add_padding(p, p->width - (int)number.len);
		buf_add(p->out, number.data + 1, number.len - 1);
		return;
	}
	add_padded(p, buf_slice(&number));
}

/* The format and default precision of a float verb, or false. */
static bool float_verb(uint32_t verb, uint32_t *ret_format, int *ret_precision)
{
	*ret_format = verb;
	*ret_precision = -1;
	switch (verb) {
	case 'v':
		*ret_format = 'g';
		return true;
	case 'b':
	case 'g':
	case 'G':
	case 'x':
	case 'X':
		return true;
	case 'F':
		*ret_format = 'f';
		*ret_precision = 6;
		return true;
	case 'f':
	case 'e':
	case 'E':
		*ret_precision = 6;
		return true;
	default:
		return false;
	}
}

static void print_float(struct printer *p, struct template_value value, uint32_t verb)
{
	uint32_t format;
	int precision;

	if (!float_verb(verb, &format, &precision)) {
		bad_verb(p, value, verb);
		return;
	}
	print_float_text(p, value.number, value.type->bits, format, precision);
}

static void print_complex(struct printer *p, struct template_value value, uint32_t verb)
{
	bool plus = p->plus;
	uint32_t format;
	int precision;

	if (!float_verb(verb, &format, &precision)) {
		bad_verb(p, value, verb);
		return;
	}
	buf_add_char(p->out, '(');
	print_float_text(p, value.complex.real, 64, format, precision);
	p->plus = true;
	print_float_text(p, value.complex.imaginary, 64, format, precision);
	buf_add_str(p->out, "i)");
	p->plus = plus;
}

static struct slice truncated(struct printer *p, struct slice text)
{
	size_t used = 0;

	if (!p->has_precision)
		return text;
	for (int count = 0; used < text.len && count < p->precision; count++) {
		uint32_t rune;

		used += unicode_decode(slice_make(text.data + used, text.len - used), &rune);
	}
	return slice_make(text.data, used);
}

static void print_hex_text(struct printer *p, struct slice text, bool upper)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef", *prefix = upper ? "0X" : "0x";
	size_t len = p->has_precision && (size_t)p->precision < text.len ? (size_t)p->precision : text.len;
	int width = (int)(2 * len);

	if (!len) {
		if (p->has_width)
			add_padding(p, p->width);
		return;
	}
	if (p->space)
		width = width * (p->sharp ? 2 : 1) + (int)len - 1;
	else if (p->sharp)
		width += 2;
	if (p->has_width && !p->minus)
		add_padding(p, p->width - width);
	if (p->sharp)
		buf_add_str(p->out, prefix);
	for (size_t i = 0; i < len; i++) {
		unsigned char byte = (unsigned char)text.data[i];

		if (p->space && i) {
			buf_add_char(p->out, ' ');
			if (p->sharp)
				buf_add_str(p->out, prefix);
		}
		buf_add_char(p->out, digits[byte >> 4]);
		buf_add_char(p->out, digits[byte & 15]);
	}
	if (p->has_width && p->minus)
		add_padding(p, p->width - width);
}

static void print_quoted(struct printer *p, struct slice text)
{
	_cleanup_buf_ struct buf quoted = BUF_INIT(0);

	text = truncated(p, text);
	if (p->sharp && quote_can_backquote(text)) {
		buf_add_char(&quoted, '`');
		buf_add_slice(&quoted, text);
		buf_add_char(&quoted, '`');
	} else {
		quote_text(&quoted, text, p->plus);
	}
	add_padded(p, buf_slice(&quoted));
}

/* False when the verb does not suit a text. */
static bool print_text(struct printer *p, struct slice text, uint32_t verb)
{
	switch (verb) {
	case 'v':
		if (p->sharp_v)
			print_quoted(p, text);
		else
			add_padded(p, truncated(p, text));
		return true;
	case 's':
		add_padded(p, truncated(p, text));
		return true;
	case 'x':
	case 'X':
		print_hex_text(p, text, verb == 'X');
		return true;
	case 'q':
		print_quoted(p, text);
		return true;
	default:
		return false;
	}
}

/* Error() and String() stand for the value under the verbs of texts. */
static bool print_by_method(struct printer *p, struct template_value value, uint32_t verb)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	const void *object = value.type->kind == TEMPLATE_INT ? &value.integer : value.object;

	if (p->erroring || p->sharp_v || !value.type->add_text || !object)
		return false;
	if (verb != 'v' && verb != 's' && verb != 'x' && verb != 'X' && verb != 'q')
		return false;
	value.type->add_text(object, &text);
	return print_text(p, buf_slice(&text), verb);
}

static bool print_bytes(struct printer *p, struct template_value value, uint32_t verb)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	if (value.type->elem != &template_type_uint8 ||
		(verb != 's' && verb != 'q' && verb != 'x' && verb != 'X'))
		return false;
	for (size_t i = 0; i < value.list.len; i++)
		buf_add_char(&bytes, (char)value.list.items[i].natural);
	return print_text(p, buf_slice(&bytes), verb);
}

static void print_list(struct printer *p, struct template_value value, uint32_t verb, unsigned depth)
{
	if (print_bytes(p, value, verb))
		return;
	if (p->sharp_v) {
		buf_add_str(p->out, value.type->name);
		if (!value.list.items) {
			buf_add_str(p->out, "(nil)");
			return;
		}
	}
	buf_add_char(p->out, p->sharp_v ? '{' : '[');
	for (size_t i = 0; i < value.list.len; i++) {
		if (i)
			buf_add_str(p->out, p->sharp_v ? ", " : " ");
		print_value(p, value.list.items[i], verb, depth + 1);
	}
	buf_add_char(p->out, p->sharp_v ? '}' : ']');
}

static void print_map(struct printer *p, struct template_value value, uint32_t verb, unsigned depth)
{
	if (p->sharp_v) {
		buf_add_str(p->out, value.type->name);
		if (!value.map) {
			buf_add_str(p->out, "(nil)");
			return;
		}
		buf_add_char(p->out, '{');
	} else {
		buf_add_str(p->out, "map[");
	}
	template_map_sort(p->arena, value.map);
	for (size_t i = 0; value.map && i < value.map->count; i++) {
		if (i)
			buf_add_str(p->out, p->sharp_v ? ", " : " ");
		print_value(p, value.map->entries[i].key, verb, depth + 1);
		buf_add_char(p->out, ':');
		print_value(p, value.map->entries[i].value, verb, depth + 1);
	}
	buf_add_char(p->out, p->sharp_v ? '}' : ']');
}

static void print_struct(struct printer *p, struct template_value value, uint32_t verb, unsigned depth)
{
	if (p->sharp_v)
		buf_add_str(p->out, value.type->name);
	buf_add_char(p->out, '{');
	for (size_t i = 0; i < value.type->field_count; i++) {
		if (i)
			buf_add_str(p->out, p->sharp_v ? ", " : " ");
		if (p->plus_v || p->sharp_v) {
			buf_add_str(p->out, value.type->fields[i].name);
			buf_add_char(p->out, ':');
		}
		print_value(p, value.type->fields[i].get(value.object), verb, depth + 1);
	}
	buf_add_char(p->out, '}');
}

/* Addresses would differ from run to run; a pointer that is not shown by its contents shows as nil or as 0x0.
 */
static void print_pointer(struct printer *p, struct template_value value, uint32_t verb, unsigned depth)
{
	bool is_nil = value.type->kind == TEMPLATE_FUNC ? !value.func : !value.object;

	if (value.type->kind == TEMPLATE_POINTER && !is_nil && depth == 0) {
		buf_add_char(p->out, '&');
		value.type = value.type->elem;
		print_value(p, value, verb, depth + 1);
		return;
	}
	switch (verb) {
	case 'v':
		if (p->sharp_v) {
			buf_add_char(p->out, '(');
			buf_add_str(p->out, value.type->name);
			buf_add_str(p->out, is_nil ? ")(nil)" : ")(0x0)");
			return;
		}
		add_padded(p, is_nil ? SLICE_LITERAL("<nil>") : SLICE_LITERAL("0x0"));
		return;
	case 'p':
		add_padded(p, SLICE_LITERAL("0x0"));
		return;
	default:
		bad_verb(p, value, verb);
	}
}

static void print_value(struct printer *p, struct template_value value, uint32_t verb, unsigned depth)
{
	if (!value.type) {
		if (depth == 0 && verb != 'v')
			bad_verb(p, value, verb);
		else if (depth == 0)
			add_padded(p, SLICE_LITERAL("<nil>"));
		else
			buf_add_str(p->out, p->sharp_v ? "interface {}(nil)" : "<nil>");
		return;
	}
	if (depth > FORMAT_DEPTH_MAX || p->out->failed) {
		buf_add_str(p->out, "...");
		return;
	}
	switch (value.type->kind) {
	case TEMPLATE_BOOL:
		if (verb != 't' && verb != 'v')
			bad_verb(p, value, verb);
		else
			add_padded(p, value.boolean ? SLICE_LITERAL("true") : SLICE_LITERAL("false"));
		return;
	case TEMPLATE_INT:
		if (!value.type->add_text || !print_by_method(p, value, verb))
			print_integer(p, value, (uint64_t)value.integer, true, verb);
		return;
	case TEMPLATE_UINT:
		print_integer(p, value, value.natural, false, verb);
		return;
	case TEMPLATE_FLOAT:
		print_float(p, value, verb);
		return;
	case TEMPLATE_COMPLEX:
		print_complex(p, value, verb);
		return;
	case TEMPLATE_STRING:
		if (!print_text(p, value.text, verb))
			bad_verb(p, value, verb);
		return;
	case TEMPLATE_LIST:
		print_list(p, value, verb, depth);
		return;
	case TEMPLATE_MAP:
		print_map(p, value, verb, depth);
		return;
	case TEMPLATE_STRUCT:
		if (!print_by_method(p, value, verb))
			print_struct(p, value, verb, depth);
		return;
	default:
		if (value.type->kind != TEMPLATE_POINTER || !print_by_method(p, value, verb))
			print_pointer(p, value, verb, depth);
	}
}

static void print_argument(struct printer *p, struct template_value value, uint32_t verb)
{
	_cleanup_buf_ struct buf name = BUF_INIT(0);

	value.is_interface = false;
	if (verb == 'T') {
		template_type_add_name(&name, &value);
		add_padded(p, truncated(p, buf_slice(&name)));
		return;
	}
	if (verb == 'w' && value.type && value.type->add_text) {
		bad_verb(p, value, verb);
		return;
	}
	if (verb == 'p' && value.type && value.type->kind != TEMPLATE_POINTER &&
		value.type->kind != TEMPLATE_FUNC) {
		bad_verb(p, value, verb);
		return;
	}
	print_value(p, value, verb, 0);
}

void format_print(struct arena *arena, struct buf *out, const struct template_value *args, size_t count)
{
	struct printer p = {.arena = arena, .out = out};
	bool previous_string = false;

	for (size_t i = 0; i < count; i++) {
		bool is_string = args[i].type && args[i].type->kind == TEMPLATE_STRING;

		if (i && !is_string && !previous_string)
			buf_add_char(out, ' ');
		print_argument(&p, args[i], 'v');
		previous_string = is_string;
	}
}

void format_println(struct arena *arena, struct buf *out, const struct template_value *args, size_t count)
{
	struct printer p = {.arena = arena, .out = out};

	for (size_t i = 0; i < count; i++) {
		if (i)
			buf_add_char(out, ' ');
		print_argument(&p, args[i], 'v');
	}
	buf_add_char(out, '\n');
}

/* Reads a number at *position; too large a one ends the format. */
static bool parse_number(struct slice format, size_t *position, size_t end, int *ret_number)
{
	size_t start = *position, i = start;
	int number = 0;

	for (; i < end && format.data[i] >= '0' && format.data[i] <= '9'; i++) {
		if (number > FORMAT_NUMBER_MAX) {
			*position = end;
			*ret_number = 0;
			return false;
		}
		number = number * 10 + (format.data[i] - '0');
	}
	*position = i;
	*ret_number = number;
	return i > start;
}

/* "[n]": the explicit index of the next argument. True when there was one. */
static bool argument_index(
	struct printer *p, struct slice format, size_t *position, size_t count, size_t *argument)
{
	size_t start = *position, close = start + 1, at;
	int number;

	if (start >= format.len || format.data[start] != '[')
		return false;
	p->reordered = true;
	while (close < format.len && format.data[close] != ']')
		close++;
	if (format.len - start < 3 || close >= format.len) {
		p->good_index = false;
		*position = start + 1;
		return false;
	}
	at = start + 1;
	*position = close + 1;
	if (!parse_number(format, &at, close, &number) || at != close) {
		p->good_index = false;
		return false;
	}
	if (number < 1 || (size_t)number > count) {
		p->good_index = false;
		return true;
	}
	*argument = (size_t)number - 1;
	return true;
}

static bool int_argument(const struct template_value *args, size_t count, size_t *argument, int *ret_number)
{
	const struct template_value *value;
	int64_t number;

	*ret_number = 0;
	if (*argument >= count)
		return false;
	value = &args[(*argument)++];
	if (!value->type)
		return false;
	if (value->type->kind == TEMPLATE_INT)
		number = value->integer;
	else if (value->type->kind == TEMPLATE_UINT && value->natural <= FORMAT_NUMBER_MAX)
		number = (int64_t)value->natural;
	else
		return false;
	if (number > FORMAT_NUMBER_MAX || number < -FORMAT_NUMBER_MAX)
		return false;
	*ret_number = (int)number;
	return true;
}

static size_t parse_flags(struct printer *p, struct slice format, size_t i)
{
	for (; i < format.len; i++) {
		switch (format.data[i]) {
		case '#':
			p->sharp = true;
			break;
		case '0':
			p->zero = !p->minus;
			break;
		case '+':
			p->plus = true;
			break;
		case '-':
			p->minus = true;
			p->zero = false;
			break;
		case ' ':
			p->space = true;
			break;
		default:
			return i;
		}
	}
	return i;
}

/* Width and precision; answers where the verb begins. */
static size_t parse_sizes(struct printer *p, struct slice format, size_t i, const struct template_value *args,
	size_t count, size_t *argument)
{
	bool after_index = argument_index(p, format, &i, count, argument);

	if (i < format.len && format.data[i] == '*') {
		i++;
		p->has_width = int_argument(args, count, argument, &p->width);
		if (!p->has_width)
			buf_add_str(p->out, "%!(BADWIDTH)");
		if (p->width < 0) {
			p->width = -p->width;
			p->minus = true;
			p->zero = false;
		}
		after_index = false;
	} else {
		p->has_width = parse_number(format, &i, format.len, &p->width);
		if (after_index && p->has_width)
			p->good_index = false;
	}
	if (i < format.len && format.data[i] == '.') {
		i++;
		if (after_index)
			p->good_index = false;
		after_index = argument_index(p, format, &i, count, argument);
		if (i < format.len && format.data[i] == '*') {
			i++;
			p->has_precision = int_argument(args, count, argument, &p->precision);
			if (p->precision < 0) {
				p->precision = 0;
				p->has_precision = false;
			}
			if (!p->has_precision)
				buf_add_str(p->out, "%!(BADPREC)");
			after_index = false;
		} else {
			if (!parse_number(format, &i, format.len, &p->precision))
				p->precision = 0;
			p->has_precision = true;
		}
	}
	if (!after_index)
		argument_index(p, format, &i, count, argument);
	return i;
}

static void add_extra(struct printer *p, const struct template_value *args, size_t count, size_t argument)
{
	clear_flags(p);
	buf_add_str(p->out, "%!(EXTRA ");
	for (size_t i = argument; i < count; i++) {
		if (i > argument)
			buf_add_str(p->out, ", ");
		if (!args[i].type) {
			buf_add_str(p->out, "<nil>");
			continue;
		}
		template_type_add_name(p->out, &args[i]);
		buf_add_char(p->out, '=');
		print_argument(p, args[i], 'v');
	}
	buf_add_char(p->out, ')');
}

void format_printf(struct arena *arena, struct buf *out, struct slice format,
	const struct template_value *args, size_t count)
{
	struct printer p = {.arena = arena, .out = out};
	size_t argument = 0, i = 0;

	while (i < format.len) {
		const char *percent = memchr(format.data + i, '%', format.len - i);
		size_t plain = percent ? (size_t)(percent - format.data) - i : format.len - i;
		uint32_t verb;

		buf_add(out, format.data + i, plain);
		i += plain;
		if (i >= format.len)
			break;
		clear_flags(&p);
		p.good_index = true;
		i = parse_flags(&p, format, i + 1);
		i = parse_sizes(&p, format, i, args, count, &argument);
		if (i >= format.len) {
			buf_add_str(out, "%!(NOVERB)");
			break;
		}
		i += unicode_decode(slice_make(format.data + i, format.len - i), &verb);
		if (verb == '%') {
			buf_add_char(out, '%');
			continue;
		}
		if (!p.good_index || argument >= count) {
			buf_add_str(out, "%!");
			unicode_add(out, verb);
			buf_add_str(out, p.good_index ? "(MISSING)" : "(BADINDEX)");
			continue;
		}
		if (verb == 'v') {
			p.sharp_v = p.sharp;
			p.sharp = false;
			p.plus_v = p.plus;
			p.plus = false;
		}
		print_argument(&p, args[argument++], verb);
	}
	if (!p.reordered && argument < count)
		add_extra(&p, args, count, argument);
}
