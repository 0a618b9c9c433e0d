/* Follows fmt's own shape: a printer with the flags of the verb at work, one function per kind of value, and
 * the error texts (%!d(string=x)) for a verb that does not suit its value. Here are the values that hold
 * others, and the parsing of formats. */
#include "template/format_printer.h"
#include "template/unicode.h"

#define FORMAT_NUMBER_MAX 1000000 /* larger widths and precisions are errors, as in fmt */
#define FORMAT_DEPTH_MAX 200	  /* nested values; deeper ones print as ... */

static void print_value(struct printer *p, struct template_value value, uint32_t verb, unsigned depth);

static void clear_flags(struct printer *p)
{
	p->width = p->precision = 0;
	p->has_width = p->has_precision = false;
	p->minus = p->plus = p->sharp = p->space = p->zero = p->plus_v = p->sharp_v = false;
}

void printer_bad_verb(struct printer *p, struct template_value value, uint32_t verb)
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
	return printer_add_text(p, buf_slice(&text), verb);
}

static bool print_bytes(struct printer *p, struct template_value value, uint32_t verb)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	if (value.type->elem != &template_type_uint8 ||
		(verb != 's' && verb != 'q' && verb != 'x' && verb != 'X'))
		return false;
	for (size_t i = 0; i < value.list.len; i++)
		buf_add_char(&bytes, (char)value.list.items[i].natural);
	return printer_add_text(p, buf_slice(&bytes), verb);
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
		printer_add_padded(p, is_nil ? SLICE_LITERAL("<nil>") : SLICE_LITERAL("0x0"));
		return;
	case 'p':
		printer_add_padded(p, SLICE_LITERAL("0x0"));
		return;
	default:
		printer_bad_verb(p, value, verb);
	}
}

static void print_value(struct printer *p, struct template_value value, uint32_t verb, unsigned depth)
{
	if (!value.type) {
		if (depth == 0 && verb != 'v')
			printer_bad_verb(p, value, verb);
		else if (depth == 0)
			printer_add_padded(p, SLICE_LITERAL("<nil>"));
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
			printer_bad_verb(p, value, verb);
		else
			printer_add_padded(p, value.boolean ? SLICE_LITERAL("true") : SLICE_LITERAL("false"));
		return;
	case TEMPLATE_INT:
		if (!value.type->add_text || !print_by_method(p, value, verb))
			printer_add_integer(p, value, (uint64_t)value.integer, true, verb);
		return;
	case TEMPLATE_UINT:
		printer_add_integer(p, value, value.natural, false, verb);
		return;
	case TEMPLATE_FLOAT:
		printer_add_float(p, value, verb);
		return;
	case TEMPLATE_COMPLEX:
		printer_add_complex(p, value, verb);
		return;
	case TEMPLATE_STRING:
		if (!printer_add_text(p, value.text, verb))
			printer_bad_verb(p, value, verb);
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
		printer_add_padded(p, printer_truncated(p, buf_slice(&name)));
		return;
	}
	if (verb == 'w' && value.type && value.type->add_text) {
		printer_bad_verb(p, value, verb);
		return;
	}
	if (verb == 'p' && value.type && value.type->kind != TEMPLATE_POINTER &&
		value.type->kind != TEMPLATE_FUNC) {
		printer_bad_verb(p, value, verb);
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
