/* Numbers and texts under each verb, with its flags, width and precision, as fmt's format.go and print.go
 * have them. */
#include "template/format_printer.h"
#include "template/unicode.h"

#include <math.h>

static void add_padding(struct printer *p, int count)
{
	if (count > 0)
		buf_add_fill(p->out, p->zero ? '0' : ' ', (size_t)count);
}

void printer_add_padded(struct printer *p, struct slice text)
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
	printer_add_padded(p, text);
	p->zero = zero;
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

void printer_add_integer(
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
		printer_add_padded(p, buf_slice(&text));
		return;
	case 'q':
		quote_rune(&text, rune, p->plus);
		printer_add_padded(p, buf_slice(&text));
		return;
	case 'U':
		print_unicode(p, bits);
		return;
	default:
		printer_bad_verb(p, value, verb);
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
		printer_add_padded(p, slice_make(number.data + 1, number.len - 1));
		return;
	}
	if (p->zero && p->has_width && p->width > (int)number.len) {
		buf_add_char(p->out, number.data[0]);
		add_padding(p, p->width - (int)number.len);
		buf_add(p->out, number.data + 1, number.len - 1);
		return;
	}
	printer_add_padded(p, buf_slice(&number));
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

void printer_add_float(struct printer *p, struct template_value value, uint32_t verb)
{
	uint32_t format;
	int precision;

	if (!float_verb(verb, &format, &precision)) {
		printer_bad_verb(p, value, verb);
		return;
	}
	print_float_text(p, value.number, value.type->bits, format, precision);
}

void printer_add_complex(struct printer *p, struct template_value value, uint32_t verb)
{
	bool plus = p->plus;
	uint32_t format;
	int precision;

	if (!float_verb(verb, &format, &precision)) {
		printer_bad_verb(p, value, verb);
		return;
	}
	buf_add_char(p->out, '(');
	print_float_text(p, value.complex.real, 64, format, precision);
	p->plus = true;
	print_float_text(p, value.complex.imaginary, 64, format, precision);
	buf_add_str(p->out, "i)");
	p->plus = plus;
}

struct slice printer_truncated(struct printer *p, struct slice text)
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

	text = printer_truncated(p, text);
	if (p->sharp && quote_can_backquote(text)) {
		buf_add_char(&quoted, '`');
		buf_add_slice(&quoted, text);
		buf_add_char(&quoted, '`');
	} else {
		quote_text(&quoted, text, p->plus);
	}
	printer_add_padded(p, buf_slice(&quoted));
}

/* False when the verb does not suit a text. */
bool printer_add_text(struct printer *p, struct slice text, uint32_t verb)
{
	switch (verb) {
	case 'v':
		if (p->sharp_v)
			print_quoted(p, text);
		else
			printer_add_padded(p, printer_truncated(p, text));
		return true;
	case 's':
		printer_add_padded(p, printer_truncated(p, text));
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
