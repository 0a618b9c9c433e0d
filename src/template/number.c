/* Go's number texts: the syntax is checked here, byte by byte, as strconv does; a float's value then comes
 * from strtod on the text without its underscores. Shortest float texts are found by trying precisions until
 * the text reads back the same, which takes at most 17 tries. */
#include "template/format.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FLOAT_TEXT_MAX 1100 /* %f of the largest double with many digits after the point */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int digit_value(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

/* Underscores only between digits, or between the base prefix and a digit. */
static bool underscores_valid(struct slice text)
{
	char last = '^';
	bool hex = false;
	size_t i = 0;

	if (text.len && (text.data[0] == '-' || text.data[0] == '+'))
		i++;
	if (text.len - i >= 2 && text.data[i] == '0') {
		char prefix = (char)(text.data[i + 1] | 0x20);

		if (prefix == 'b' || prefix == 'o' || prefix == 'x') {
			hex = prefix == 'x';
			last = '0';
			i += 2;
		}
	}
	for (; i < text.len; i++) {
		char c = text.data[i];

		if (is_digit(c) || (hex && digit_value(c) < 16)) {
			last = '0';
		} else if (c == '_') {
			if (last != '0')
				return false;
			last = '_';
		} else {
			if (last == '_')
				return false;
			last = '!';
		}
	}
	return last != '_';
}

int number_parse_uint(struct slice text, int base, uint64_t *ret_value)
{
	struct slice whole = text;
	bool underscores = false, base_zero = base == 0;
	uint64_t value = 0;
	int error = 0;

	if (!text.len)
		return -EINVAL;
	if (base_zero) {
		base = 10;
		if (text.data[0] == '0') {
			char prefix = text.len >= 3 ? (char)(text.data[1] | 0x20) : 0;
			size_t skip = 2;

			if (prefix == 'b') {
				base = 2;
			} else if (prefix == 'o') {
				base = 8;
			} else if (prefix == 'x') {
				base = 16;
			} else {
				base = 8;
				skip = 1;
			}
			text.data += skip;
			text.len -= skip;
		}
	}
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];
		int digit;

		if (c == '_' && base_zero) {
			underscores = true;
			continue;
		}
		digit = digit_value(c);
		if (digit >= base)
			return -EINVAL;
		if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
			__builtin_add_overflow(value, (uint64_t)digit, &value))
			error = -ERANGE;
	}
	if (underscores && !underscores_valid(whole))
		return -EINVAL;
	if (error)
		return error;
	*ret_value = value;
	return 0;
}

int number_parse_int(struct slice text, int base, int64_t *ret_value)
{
	bool negative = false;
	uint64_t value;
	int r;

	if (!text.len)
		return -EINVAL;
	if (text.data[0] == '+' || text.data[0] == '-') {
		negative = text.data[0] == '-';
		text.data++;
		text.len--;
	}
	r = number_parse_uint(text, base, &value);
	if (r < 0)
		return r;
	if (value > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return -ERANGE;
	*ret_value = negative ? (int64_t)(0 - value) : (int64_t)value;
	return 0;
}

/* Go's readFloat: is the whole text a float? */
static bool float_valid(struct slice text, bool *ret_underscores)
{
	size_t i = 0, digits = 0;
	bool hex = false, point = false;

	*ret_underscores = false;
	if (i < text.len && (text.data[i] == '+' || text.data[i] == '-'))
		i++;
	if (i + 2 < text.len && text.data[i] == '0' && (text.data[i + 1] | 0x20) == 'x') {
		hex = true;
		i += 2;
	}
	for (; i < text.len; i++) {
		char c = text.data[i];

		if (c == '_') {
			*ret_underscores = true;
		} else if (c == '.') {
			if (point)
				break;
			point = true;
		} else if (is_digit(c) || (hex && digit_value(c) < 16)) {
			digits++;
		} else {
			break;
		}
	}
	if (!digits)
		return false;
	if (i < text.len && (text.data[i] | 0x20) == (hex ? 'p' : 'e')) {
		i++;
		if (i < text.len && (text.data[i] == '+' || text.data[i] == '-'))
			i++;
		if (i >= text.len || !is_digit(text.data[i]))
			return false;
		for (; i < text.len && (is_digit(text.data[i]) || text.data[i] == '_'); i++)
			if (text.data[i] == '_')
				*ret_underscores = true;
	} else if (hex) {
		return false; /* a hexadecimal mantissa needs its exponent */
	}
	return i == text.len;
}

int number_parse_float(struct slice text, double *ret_value)
{
	_cleanup_buf_ struct buf plain = BUF_INIT(0);
	bool underscores;
	double value;

	if (!float_valid(text, &underscores) || (underscores && !underscores_valid(text)))
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] != '_')
			buf_add_char(&plain, text.data[i]);
	value = strtod(buf_text(&plain), NULL);
	if (isinf(value))
		return -ERANGE;
	*ret_value = value;
	return 0;
}

/* C writes at least one exponent digit in %a, Go at least two. */
static void add_hex_float(struct buf *out, const char *text, bool upper)
{
	const char *exponent = strchr(text, upper ? 'P' : 'p');

	if (!exponent) {
		buf_add_str(out, text);
		return;
	}
	buf_add(out, text, (size_t)(exponent - text) + 2);
	if (strlen(exponent + 2) < 2)
		buf_add_char(out, '0');
	buf_add_str(out, exponent + 2);
}

static int shortest_precision(double value, unsigned bits)
{
	char text[64];

	for (int precision = 0; precision < 17; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision, value);
		if (bits == 32 ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value)
			return precision;
	}
	return 17;
}

/* The shortest digits, in %e form or, where the format asks for it, in %f form with as many digits. */
static void add_shortest(struct buf *out, double value, char format, unsigned bits)
{
	char text[FLOAT_TEXT_MAX];
	int precision = shortest_precision(value, bits), exponent;
	bool upper = format == 'E' || format == 'G';

	snprintf(text, sizeof(text), upper ? "%.*E" : "%.*e", precision, value);
	exponent = atoi(strchr(text, upper ? 'E' : 'e') + 1);
	/* For %g, %e is used when the exponent is below -4 or not below 6. */
	if (format == 'f' || ((format == 'g' || format == 'G') && exponent >= -4 && exponent < 6))
		snprintf(text, sizeof(text), "%.*f", MAX(precision - exponent, 0), value);
	buf_add_str(out, text);
}

/* %b: the mantissa as a decimal integer and a power of two. */
static void add_binary(struct buf *out, double value, unsigned bits)
{
	int exponent, mantissa_bits = bits == 32 ? 24 : 53, lowest = bits == 32 ? -149 : -1074;
	double fraction = frexp(fabs(value), &exponent);
	int shift = exponent - mantissa_bits;

	if (signbit(value))
		buf_add_char(out, '-');
	if (shift < lowest || value == 0)
		shift = lowest;
	buf_add_u64(out, (uint64_t)ldexp(fraction, exponent - shift));
	buf_printf(out, "p%+d", shift);
}

void format_float(struct buf *out, double value, char format, int precision, unsigned bits)
{
	char text[FLOAT_TEXT_MAX + 1100];

	if (isnan(value)) {
		buf_add_str(out, "NaN");
		return;
	}
	if (isinf(value)) {
		buf_add_str(out, value < 0 ? "-Inf" : "+Inf");
		return;
	}
	if (format == 'b') {
		add_binary(out, value, bits);
		return;
	}
	if (format == 'x' || format == 'X') {
		if (precision < 0)
			snprintf(text, sizeof(text), format == 'x' ? "%a" : "%A", value);
		else
			snprintf(text, sizeof(text), format == 'x' ? "%.*a" : "%.*A", MIN(precision, 1000),
				value);
		add_hex_float(out, text, format == 'X');
		return;
	}
	if (precision < 0) {
		add_shortest(out, value, format, bits);
		return;
	}
	/* Digits beyond the exact decimal expansion are zeros, so that a huge precision costs no huge buffer
	 * here. */
	switch (format) {
	case 'e':
		snprintf(text, sizeof(text), "%.*e", MIN(precision, 1100), value);
		break;
	case 'E':
		snprintf(text, sizeof(text), "%.*E", MIN(precision, 1100), value);
		break;
	case 'g':
		snprintf(text, sizeof(text), "%.*g", MIN(precision, 1100), value);
		break;
	case 'G':
		snprintf(text, sizeof(text), "%.*G", MIN(precision, 1100), value);
		break;
	default:
		snprintf(text, sizeof(text), "%.*f", MIN(precision, 1100), value);
		break;
	}
	buf_add_str(out, text);
	if (format == 'f')
		buf_add_fill(out, '0', (size_t)MAX(precision - 1100, 0));
}
