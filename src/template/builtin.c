/* The functions every template has. `and` and `or` have no body here: the executor evaluates their arguments
 * one by one. */
#include "template/node.h"
#include "template/format.h"
#include "template/unicode.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static int fail(struct template_call *call, const char *format, ...) _printf_(2, 3);
static int fail(struct template_call *call, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	buf_add_str(call->error, text ? text : format);
	return -EINVAL;
}

static int fail_type(struct template_call *call, const char *before, const struct template_value *value)
{
	buf_add_str(call->error, before);
	template_type_add_name(call->error, value);
	return -EINVAL;
}

static int text_result(struct template_call *call, struct buf *text, struct template_value *ret)
{
	*ret = template_text(slice_make(arena_strndup(call->arena, buf_text(text), text->len), text->len));
	return 0;
}

/* ---- comparison ---- */

enum basic_kind { BASIC_NONE, BASIC_BOOL, BASIC_COMPLEX, BASIC_INT, BASIC_FLOAT, BASIC_STRING, BASIC_UINT };

static enum basic_kind basic_kind(const struct template_value *value)
{
	if (!value->type)
		return BASIC_NONE;
	switch (value->type->kind) {
	case TEMPLATE_BOOL:
		return BASIC_BOOL;
	case TEMPLATE_INT:
		return BASIC_INT;
	case TEMPLATE_UINT:
		return BASIC_UINT;
	case TEMPLATE_FLOAT:
		return BASIC_FLOAT;
	case TEMPLATE_COMPLEX:
		return BASIC_COMPLEX;
	case TEMPLATE_STRING:
		return BASIC_STRING;
	default:
		return BASIC_NONE;
	}
}

static bool basic_equal(enum basic_kind kind, const struct template_value *a, const struct template_value *b)
{
	switch (kind) {
	case BASIC_BOOL:
		return a->boolean == b->boolean;
	case BASIC_INT:
		return a->integer == b->integer;
	case BASIC_UINT:
		return a->natural == b->natural;
	case BASIC_FLOAT:
		return a->number == b->number;
	case BASIC_COMPLEX:
		return a->complex.real == b->complex.real && a->complex.imaginary == b->complex.imaginary;
	default:
		return slice_equal(a->text, b->text);
	}
}

static bool is_nil(const struct template_value *value)
{
	if (!value->type)
		return true;
	switch (value->type->kind) {
	case TEMPLATE_LIST:
		return !value->list.items;
	case TEMPLATE_MAP:
		return !value->map;
	case TEMPLATE_POINTER:
		return !value->object;
	case TEMPLATE_FUNC:
		return !value->func;
	default:
		return false;
	}
}

static bool is_comparable(const struct template_value *value)
{
	if (!value->type)
		return true;
	if (value->type->kind == TEMPLATE_LIST || value->type->kind == TEMPLATE_MAP ||
		value->type->kind == TEMPLATE_FUNC)
		return false;
	if (value->type->kind != TEMPLATE_STRUCT || value->type->equal)
		return true;
	for (size_t i = 0; i < value->type->field_count; i++) {
		struct template_value field = value->type->fields[i].get(value->object);

		if (!is_comparable(&field))
			return false;
	}
	return true;
}

static bool identical(const struct template_value *a, const struct template_value *b)
{
	if (a->type != b->type || !a->type)
		return a->type == b->type;
	if (basic_kind(a) != BASIC_NONE)
		return basic_equal(basic_kind(a), a, b);
	if (a->type->kind == TEMPLATE_POINTER)
		return a->object == b->object;
	if (a->type->kind != TEMPLATE_STRUCT)
		return false;
	if (a->type->equal)
		return a->type->equal(a->object, b->object);
	for (size_t i = 0; i < a->type->field_count; i++) {
		struct template_value left = a->type->fields[i].get(a->object);
		struct template_value right = a->type->fields[i].get(b->object);

		if (!identical(&left, &right))
			return false;
	}
	return true;
}

/* `VALUE: TYPE[, TYPE: VALUE]` */
static int fail_comparable(
	struct template_call *call, const struct template_value *a, const struct template_value *b)
{
	buf_add_str(call->error, b ? "non-comparable types " : "non-comparable type ");
	format_printf(call->arena, call->error, SLICE_LITERAL("%s"), a, 1);
	buf_add_str(call->error, ": ");
	template_type_add_name(call->error, a);
	if (b) {
		buf_add_str(call->error, ", ");
		template_type_add_name(call->error, b);
		buf_add_str(call->error, ": ");
		format_print(call->arena, call->error, b, 1);
	}
	return -EINVAL;
}

/* 1, 0, or an error. */
static int compare_equal(
	struct template_call *call, const struct template_value *a, const struct template_value *b)
{
	enum basic_kind a_kind = basic_kind(a), b_kind = basic_kind(b);

	if (a_kind != b_kind) {
		if (a_kind == BASIC_INT && b_kind == BASIC_UINT)
			return a->integer >= 0 && (uint64_t)a->integer == b->natural;
		if (a_kind == BASIC_UINT && b_kind == BASIC_INT)
			return b->integer >= 0 && a->natural == (uint64_t)b->integer;
		if (a->type && b->type)
			return fail(call, "incompatible types for comparison");
		return 0;
	}
	if (a_kind != BASIC_NONE)
		return basic_equal(a_kind, a, b);
	if (a->type && b->type && a->type->kind != b->type->kind)
		return fail_comparable(call, a, b);
	if (is_nil(a) || is_nil(b))
		return is_nil(a) == is_nil(b);
	if (!is_comparable(b))
		return a->type == b->type ? fail_comparable(call, b, NULL) : fail_comparable(call, a, b);
	return identical(a, b);
}

static int builtin_eq(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	struct template_value first = template_out_of_interface(args[0]);

	if (count < 2)
		return fail(call, "missing argument for comparison");
	for (size_t i = 1; i < count; i++) {
		struct template_value other = template_out_of_interface(args[i]);
		int r = compare_equal(call, &first, &other);

		if (r < 0)
			return r;
		*ret = template_bool(r);
		if (r)
			return 0;
	}
	return 0;
}

static int builtin_ne(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	int r = builtin_eq(call, args, count, ret);

	ret->boolean = !ret->boolean;
	return r;
}

static int compare_less(struct template_call *call, const struct template_value *args)
{
	struct template_value a = template_out_of_interface(args[0]), b = template_out_of_interface(args[1]);
	enum basic_kind a_kind = basic_kind(&a), b_kind = basic_kind(&b);

	if (a_kind == BASIC_NONE || b_kind == BASIC_NONE)
		return fail(call, "invalid type for comparison");
	if (a_kind != b_kind) {
		if (a_kind == BASIC_INT && b_kind == BASIC_UINT)
			return a.integer < 0 || (uint64_t)a.integer < b.natural;
		if (a_kind == BASIC_UINT && b_kind == BASIC_INT)
			return b.integer >= 0 && a.natural < (uint64_t)b.integer;
		return fail(call, "incompatible types for comparison");
	}
	switch (a_kind) {
	case BASIC_INT:
		return a.integer < b.integer;
	case BASIC_UINT:
		return a.natural < b.natural;
	case BASIC_FLOAT:
		return a.number < b.number;
	case BASIC_STRING:
		return slice_compare(a.text, b.text) < 0;
	default:
		return fail(call, "invalid type for comparison");
	}
}

static int builtin_lt(struct template_call *call, const struct template_value *args, size_t count _unused_,
	struct template_value *ret)
{
	int r = compare_less(call, args);

	*ret = template_bool(r > 0);
	return r < 0 ? r : 0;
}

static int builtin_le(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	int r = compare_less(call, args);

	*ret = template_bool(r > 0);
	if (r)
		return r < 0 ? r : 0;
	return builtin_eq(call, args, count, ret);
}

static int builtin_gt(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	int r = builtin_le(call, args, count, ret);

	ret->boolean = !ret->boolean;
	return r;
}

static int builtin_ge(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	int r = builtin_lt(call, args, count, ret);

	ret->boolean = !ret->boolean;
	return r;
}

static int builtin_not(struct template_call *call _unused_, const struct template_value *args,
	size_t count _unused_, struct template_value *ret)
{
	*ret = template_bool(!template_truth(args[0]));
	return 0;
}

/* ---- length, elements, parts ---- */

static int builtin_len(struct template_call *call, const struct template_value *args, size_t count _unused_,
	struct template_value *ret)
{
	struct template_value value = args[0];

	if (template_indirect(&value))
		return fail(call, "len of nil pointer");
	if (!value.type)
		return fail(call, "reflect: call of reflect.Value.Type on zero Value");
	switch (value.type->kind) {
	case TEMPLATE_STRING:
		*ret = template_int((int64_t)value.text.len);
		return 0;
	case TEMPLATE_LIST:
		*ret = template_int((int64_t)value.list.len);
		return 0;
	case TEMPLATE_MAP:
		template_map_sort(call->arena, value.map);
		*ret = template_int(value.map ? (int64_t)value.map->count : 0);
		return 0;
	default:
		return fail_type(call, "len of type ", &value);
	}
}

/* An index of 0 to `limit`, which is allowed itself. */
static int index_argument(
	struct template_call *call, const struct template_value *index, size_t limit, size_t *ret_index)
{
	int64_t value;

	if (!index->type)
		return fail(call, "cannot index slice/array with nil");
	if (index->type->kind == TEMPLATE_INT)
		value = index->integer;
	else if (index->type->kind == TEMPLATE_UINT)
		value = (int64_t)index->natural;
	else
		return fail_type(call, "cannot index slice/array with type ", index);
	if (value < 0 || (uint64_t)value > limit)
		return fail(call, "index out of range: %lld", (long long)value);
	*ret_index = (size_t)value;
	return 0;
}

static struct template_value int_converted(struct template_value value, const struct template_type *type)
{
	uint64_t bits = value.type->kind == TEMPLATE_INT ? (uint64_t)value.integer : value.natural;
	unsigned unused_bits = 64 - type->bits;

	value.type = type;
	if (type->kind == TEMPLATE_INT)
		value.integer = (int64_t)(bits << unused_bits) >> unused_bits;
	else
		value.natural = bits << unused_bits >> unused_bits;
	return value;
}

static bool int_like(const struct template_type *type)
{
	return type->kind == TEMPLATE_INT || type->kind == TEMPLATE_UINT;
}

/* Go's prepareArg: the value as the type, or an error. */
static int prepare_argument(struct template_call *call, struct template_value value,
	const struct template_type *type, struct template_value *ret)
{
	if (!value.type) {
		if (!template_type_nilable(type))
			return fail(call, "value is nil; should be of type %s", type->name);
		*ret = template_zero(type);
		return 0;
	}
	*ret = value;
	if (template_type_assignable(value.type, type) || type == &template_type_reflect)
		return 0;
	if (int_like(value.type) && int_like(type)) {
		*ret = int_converted(value, type);
		return 0;
	}
	buf_add_str(call->error, "value has type ");
	template_type_add_name(call->error, &value);
	buf_printf(call->error, "; should be %s", type->name);
	return -EINVAL;
}

static int index_map(struct template_call *call, struct template_value *item, struct template_value index)
{
	const struct template_value *found;
	struct template_value key;
	int r = prepare_argument(call, index, item->type->key, &key);

	if (r < 0)
		return r;
	template_map_sort(call->arena, item->map);
	found = template_map_get(item->map, &key);
	*item = found ? *found : template_zero(item->type->elem);
	return 0;
}

static int index_sequence(
	struct template_call *call, struct template_value *item, struct template_value index)
{
	bool is_text = item->type->kind == TEMPLATE_STRING;
	size_t len = is_text ? item->text.len : item->list.len, at = 0;
	int r = index_argument(call, &index, len, &at);

	if (r < 0)
		return r;
	if (at >= len)
		return fail(call, "reflect: %s index out of range", is_text ? "string" : "slice");
	if (is_text)
		*item = (struct template_value){
			.type = &template_type_uint8, .natural = (unsigned char)item->text.data[at]};
	else
		*item = item->list.items[at];
	return 0;
}

static int builtin_index(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	struct template_value item = template_out_of_interface(args[0]);

	if (!item.type)
		return fail(call, "index of untyped nil");
	for (size_t i = 1; i < count; i++) {
		struct template_value index = template_out_of_interface(args[i]);
		int r;

		if (template_indirect(&item))
			return fail(call, "index of nil pointer");
		switch (item.type->kind) {
		case TEMPLATE_LIST:
		case TEMPLATE_STRING:
			r = index_sequence(call, &item, index);
			break;
		case TEMPLATE_MAP:
			r = index_map(call, &item, index);
			break;
		default:
			return fail_type(call, "can't index item of type ", &item);
		}
		if (r < 0)
			return r;
	}
	*ret = item;
	return 0;
}

static int builtin_slice(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	struct template_value item = template_out_of_interface(args[0]);
	size_t indexes[3] = {0, 0, 0}, cap;
	bool is_text;

	if (!item.type)
		return fail(call, "slice of untyped nil");
	if (count > 4)
		return fail(call, "too many slice indexes: %zu", count - 1);
	is_text = item.type->kind == TEMPLATE_STRING;
	if (is_text && count == 4)
		return fail(call, "cannot 3-index slice a string");
	if (!is_text && item.type->kind != TEMPLATE_LIST)
		return fail_type(call, "can't slice item of type ", &item);
	cap = is_text ? item.text.len : item.list.cap;
	indexes[1] = is_text ? item.text.len : item.list.len;
	for (size_t i = 1; i < count; i++) {
		struct template_value index = template_out_of_interface(args[i]);
		int r = index_argument(call, &index, cap, &indexes[i - 1]);

		if (r < 0)
			return r;
	}
	if (indexes[0] > indexes[1])
		return fail(call, "invalid slice index: %zu > %zu", indexes[0], indexes[1]);
	if (count == 4 && indexes[1] > indexes[2])
		return fail(call, "invalid slice index: %zu > %zu", indexes[1], indexes[2]);
	if (is_text) {
		item.text = slice_make(item.text.data + indexes[0], indexes[1] - indexes[0]);
	} else if (item.list.items) {
		item.list.items += indexes[0];
		item.list.len = indexes[1] - indexes[0];
		item.list.cap = (count == 4 ? indexes[2] : cap) - indexes[0];
	}
	*ret = item;
	return 0;
}

/* ---- call ---- */

static int builtin_call(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	struct template_value callee = template_out_of_interface(args[0]), *values;
	struct template_call inner = *call;
	const struct template_func *func;
	size_t given = count - 1;

	if (!callee.type)
		return fail(call, "call of nil");
	if (callee.type->kind != TEMPLATE_FUNC)
		return fail_type(call, "non-function of type ", &callee);
	func = callee.func;
	if (!func || !func->result)
		return fail(call, "function called with 0 args; should be 1 or 2");
	if (func->variadic && given + 1 < func->in_count)
		return fail(
			call, "wrong number of args: got %zu want at least %u", given, func->in_count - 1);
	if (!func->variadic && given != func->in_count)
		return fail(call, "wrong number of args: got %zu want %u", given, func->in_count);
	values = arena_alloc(call->arena, MAX(given, (size_t)1) * sizeof(*values));
	for (size_t i = 0; i < given; i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(1 << 16);
		const struct template_type *type = func->in[MIN(i, (size_t)func->in_count - 1)];

		inner.error = &error;
		if (prepare_argument(&inner, template_out_of_interface(args[i + 1]), type, &values[i]) < 0) {
			buf_printf(call->error, "arg %zu: ", i);
			buf_add_slice(call->error, buf_slice(&error));
			return -EINVAL;
		}
	}
	inner.error = call->error;
	return func->fn(&inner, values, given, ret);
}

/* ---- printing ---- */

static int builtin_print(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	format_print(call->arena, &text, args, count);
	return text_result(call, &text, ret);
}

static int builtin_println(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	format_println(call->arena, &text, args, count);
	return text_result(call, &text, ret);
}

static int builtin_printf(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(64 << 20);

	format_printf(call->arena, &text, args[0].text, args + 1, count - 1);
	if (buf_error(&text) < 0)
		return fail(call, "the text is larger than %zu bytes", text.max);
	return text_result(call, &text, ret);
}

/* ---- escaping ---- */

/* The arguments as print writes them, but with "<no value>" for nil. */
static void arguments_text(
	struct template_call *call, const struct template_value *args, size_t count, struct buf *out)
{
	struct template_value *shown = arena_alloc(call->arena, MAX(count, (size_t)1) * sizeof(*shown));

	for (size_t i = 0; i < count; i++) {
		shown[i] = args[i];
		if (!shown[i].type || !shown[i].type->add_text)
			template_indirect(&shown[i]);
		if (!shown[i].type)
			shown[i] = template_str("<no value>");
	}
	format_print(call->arena, out, shown, count);
}

static int builtin_html(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	_cleanup_buf_ struct buf plain = BUF_INIT(0);
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	arguments_text(call, args, count, &plain);
	for (size_t i = 0; i < plain.len; i++) {
		switch (plain.data[i]) {
		case '\0':
			unicode_add(&text, UNICODE_REPLACEMENT);
			break;
		case '"':
			buf_add_str(&text, "&#34;");
			break;
		case '\'':
			buf_add_str(&text, "&#39;");
			break;
		case '&':
			buf_add_str(&text, "&amp;");
			break;
		case '<':
			buf_add_str(&text, "&lt;");
			break;
		case '>':
			buf_add_str(&text, "&gt;");
			break;
		default:
			buf_add_char(&text, plain.data[i]);
		}
	}
	return text_result(call, &text, ret);
}

static void add_js_ascii(struct buf *out, unsigned char c)
{
	if (c == '\\' || c == '\'' || c == '"') {
		buf_add_char(out, '\\');
		buf_add_char(out, (char)c);
	} else if (c < ' ' || c == '<' || c == '>' || c == '&' || c == '=') {
		buf_printf(out, "\\u%04X", c);
	} else {
		buf_add_char(out, (char)c);
	}
}

static int builtin_js(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	_cleanup_buf_ struct buf plain = BUF_INIT(0);
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	arguments_text(call, args, count, &plain);
	for (size_t i = 0; i < plain.len;) {
		unsigned char c = (unsigned char)plain.data[i];
		uint32_t rune;
		size_t len;

		if (c < 0x80) {
			add_js_ascii(&text, c);
			i++;
			continue;
		}
		len = unicode_decode(slice_make(plain.data + i, plain.len - i), &rune);
		if (unicode_is_print(rune))
			buf_add(&text, plain.data + i, len);
		else
			buf_printf(&text, "\\u%04X", rune);
		i += len;
	}
	return text_result(call, &text, ret);
}

static int builtin_urlquery(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	_cleanup_buf_ struct buf plain = BUF_INIT(0);
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	arguments_text(call, args, count, &plain);
	for (size_t i = 0; i < plain.len; i++) {
		unsigned char c = (unsigned char)plain.data[i];
		bool letter = ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9');

		if (letter || c == '-' || c == '_' || c == '.' || c == '~')
			buf_add_char(&text, (char)c);
		else if (c == ' ')
			buf_add_char(&text, '+');
		else
			buf_printf(&text, "%%%02X", c);
	}
	return text_result(call, &text, ret);
}

#define ANY &template_type_any
#define REFLECT &template_type_reflect
#define STRING &template_type_string

const struct template_func builtin_funcs[] = {
	{"and", NULL, REFLECT, {REFLECT, REFLECT}, 2, true},
	{"or", NULL, REFLECT, {REFLECT, REFLECT}, 2, true},
	{"call", builtin_call, REFLECT, {REFLECT, REFLECT}, 2, true},
	{"eq", builtin_eq, &template_type_bool, {REFLECT, REFLECT}, 2, true},
	{"ge", builtin_ge, &template_type_bool, {REFLECT, REFLECT}, 2, false},
	{"gt", builtin_gt, &template_type_bool, {REFLECT, REFLECT}, 2, false},
	{"html", builtin_html, STRING, {ANY}, 1, true},
	{"index", builtin_index, REFLECT, {REFLECT, REFLECT}, 2, true},
	{"js", builtin_js, STRING, {ANY}, 1, true},
	{"le", builtin_le, &template_type_bool, {REFLECT, REFLECT}, 2, false},
	{"len", builtin_len, &template_type_int, {REFLECT}, 1, false},
	{"lt", builtin_lt, &template_type_bool, {REFLECT, REFLECT}, 2, false},
	{"ne", builtin_ne, &template_type_bool, {REFLECT, REFLECT}, 2, false},
	{"not", builtin_not, &template_type_bool, {REFLECT}, 1, false},
	{"print", builtin_print, STRING, {ANY}, 1, true},
	{"printf", builtin_printf, STRING, {STRING, ANY}, 2, true},
	{"println", builtin_println, STRING, {ANY}, 1, true},
	{"slice", builtin_slice, REFLECT, {REFLECT, REFLECT}, 2, true},
	{"urlquery", builtin_urlquery, STRING, {ANY}, 1, true},
};
const size_t builtin_func_count = ARRAY_LEN(builtin_funcs);
