/* Functions over texts, numbers, lists, time and the host: each follows the Go function it was made from
 * (strings, path, strconv, encoding/base64), error texts included. */
#include "base/text.h"
#include "base/time.h"
#include "confd/functions.h"
#include "confd/gojson.h"
#include "template/format.h"
#include "template/time.h"
#include "template/unicode.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define SEQ_MAX 1000000	     /* numbers of one seq */
#define TEXT_MAX (64u << 20) /* bytes that one call may make */

int function_fail(struct template_call *call, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buf_add_str(call->error, text);
	return -EINVAL;
}

int function_fail_quoted(struct template_call *call, const char *before, struct slice text, const char *after)
{
	buf_add_str(call->error, before);
	quote_text(call->error, text, false);
	buf_add_str(call->error, after);
	return -EINVAL;
}

int function_text_result(struct template_call *call, const struct buf *text, struct template_value *ret)
{
	if (buf_error(text) < 0)
		return function_fail(call, "the result is larger than %zu bytes", text->max);
	*ret = template_text(slice_make(arena_strndup(call->arena, buf_text(text), text->len), text->len));
	return 0;
}

/* A NUL-terminated copy for system calls. */
static const char *c_string(struct template_call *call, struct slice text)
{
	return arena_strndup(call->arena, text.data, text.len);
}

/* ---- paths ---- */

FUNCTION(function_base)
{
	(void)call, (void)count;
	*ret = template_text(path_base(args[0].text));
	return 0;
}

FUNCTION(function_dir)
{
	(void)count;
	*ret = template_text(path_dir(call->arena, args[0].text));
	return 0;
}

/* ---- texts ---- */

static struct template_value explode(struct arena *arena, struct slice text)
{
	struct template_value list = template_list_new(arena, &template_type_strings, 0);

	while (text.len) {
		uint32_t rune;
		size_t len = unicode_decode(text, &rune);

		template_list_add(arena, &list, template_text(slice_make(text.data, len)));
		text = slice_make(text.data + len, text.len - len);
	}
	return list;
}

FUNCTION(function_split)
{
	struct slice text = args[0].text, separator = args[1].text;
	struct template_value list = template_list_new(call->arena, &template_type_strings, 0);

	(void)count;
	if (!separator.len) {
		*ret = explode(call->arena, text);
		return 0;
	}
	for (;;) {
		const char *at = text.len ? memmem(text.data, text.len, separator.data, separator.len) : NULL;
		size_t len = at ? (size_t)(at - text.data) : text.len;

		template_list_add(call->arena, &list, template_text(slice_make(text.data, len)));
		if (!at)
			break;
		text = slice_make(at + separator.len, text.len - len - separator.len);
	}
	*ret = list;
	return 0;
}

FUNCTION(function_join)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);

	(void)count;
	for (size_t i = 0; i < args[0].list.len; i++) {
		if (i)
			buf_add_slice(&text, args[1].text);
		buf_add_slice(&text, args[0].list.items[i].text);
	}
	return function_text_result(call, &text, ret);
}

static int map_runes(
	struct template_call *call, struct slice text, uint32_t (*fn)(uint32_t), struct template_value *ret)
{
	_cleanup_buf_ struct buf out = BUF_INIT(TEXT_MAX);

	while (text.len) {
		uint32_t rune;
		size_t len = unicode_decode(text, &rune);

		unicode_add(&out, fn(rune));
		text = slice_make(text.data + len, text.len - len);
	}
	return function_text_result(call, &out, ret);
}

FUNCTION(function_to_upper)
{
	(void)count;
	return map_runes(call, args[0].text, unicode_to_upper, ret);
}

FUNCTION(function_to_lower)
{
	(void)count;
	return map_runes(call, args[0].text, unicode_to_lower, ret);
}

FUNCTION(function_contains)
{
	(void)call, (void)count;
	*ret = template_bool(
		!args[1].text.len || (args[0].text.len && memmem(args[0].text.data, args[0].text.len,
								  args[1].text.data, args[1].text.len)));
	return 0;
}

/* strings.Replace: an empty `old` matches before each character and at the end; n < 0: all. */
FUNCTION(function_replace)
{
	_cleanup_buf_ struct buf out = BUF_INIT(TEXT_MAX);
	struct slice text = args[0].text, old = args[1].text, with = args[2].text;
	int64_t left = args[3].integer;
	bool first = true;

	(void)count;
	while (left != 0) {
		const char *at;
		size_t skip = 0;
		uint32_t rune;

		if (!old.len) {
			if (!first && !text.len)
				break;
			if (!first)
				skip = unicode_decode(text, &rune);
			first = false;
			buf_add(&out, text.data, skip);
			buf_add_slice(&out, with);
			text = slice_make(text.data + skip, text.len - skip);
			left--;
			continue;
		}
		at = text.len ? memmem(text.data, text.len, old.data, old.len) : NULL;
		if (!at)
			break;
		skip = (size_t)(at - text.data);
		buf_add(&out, text.data, skip);
		buf_add_slice(&out, with);
		text = slice_make(at + old.len, text.len - skip - old.len);
		left--;
	}
	buf_add_slice(&out, text);
	return function_text_result(call, &out, ret);
}

FUNCTION(function_trim_suffix)
{
	struct slice text = args[0].text;

	(void)call, (void)count;
	if (slice_ends_with(text, args[1].text))
		text.len -= args[1].text.len;
	*ret = template_text(text);
	return 0;
}

/* ---- data ---- */

FUNCTION(function_map)
{
	struct template_value map;

	if (count % 2)
		return function_fail(call, "invalid map call");
	map = template_map_new(call->arena, &template_type_map);
	for (size_t i = 0; i < count; i += 2) {
		if (!args[i].type || args[i].type->kind != TEMPLATE_STRING)
			return function_fail(call, "map keys must be strings");
		template_map_put(call->arena, &map, args[i], args[i + 1]);
	}
	*ret = map;
	return 0;
}

FUNCTION(function_json)
{
	(void)count;
	return gojson_decode(call->arena, args[0].text, &template_type_map, ret, call->error);
}

FUNCTION(function_json_array)
{
	(void)count;
	return gojson_decode(call->arena, args[0].text, &template_type_list, ret, call->error);
}

/* ---- base64 ---- */

FUNCTION(function_base64_encode)
{
	_cleanup_buf_ struct buf out = BUF_INIT(TEXT_MAX);

	(void)count;
	text_add_base64(&out, args[0].text);
	return function_text_result(call, &out, ret);
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static size_t skip_newlines(struct slice text, size_t at)
{
	while (at < text.len && (text.data[at] == '\n' || text.data[at] == '\r'))
		at++;
	return at;
}

static int fail_base64(struct template_call *call, size_t at)
{
	return function_fail(call, "illegal base64 data at input byte %zu", at);
}

/* One group of four. *ret_digits below 4: the last one. */
static int base64_group(struct template_call *call, struct slice text, size_t *position, uint32_t *ret_bits,
	size_t *ret_digits)
{
	size_t at = *position, digits = 0;
	uint32_t bits = 0;

	while (digits < 4) {
		int digit;

		if (at == text.len) {
			if (digits)
				return fail_base64(call, at - digits);
			break;
		}
		digit = base64_digit(text.data[at++]);
		if (digit >= 0) {
			bits = bits << 6 | (uint32_t)digit;
			digits++;
			continue;
		}
		if (text.data[at - 1] == '\n' || text.data[at - 1] == '\r')
			continue;
		if (text.data[at - 1] != '=' || digits < 2)
			return fail_base64(call, at - 1);
		if (digits == 2) {
			at = skip_newlines(text, at);
			if (at == text.len)
				return fail_base64(call, text.len);
			if (text.data[at] != '=')
				return fail_base64(call, at - 1);
			at++;
		}
		at = skip_newlines(text, at);
		if (at < text.len)
			return fail_base64(call, at);
		break;
	}
	*position = at;
	*ret_bits = bits << (6 * (4 - digits));
	*ret_digits = digits;
	return 0;
}

FUNCTION(function_base64_decode)
{
	_cleanup_buf_ struct buf out = BUF_INIT(TEXT_MAX);
	size_t position = 0, digits = 0;
	uint32_t bits = 0;

	(void)count;
	do {
		int r = base64_group(call, args[0].text, &position, &bits, &digits);

		if (r < 0)
			return r;
		for (size_t i = 0; i + 1 < digits; i++)
			buf_add_char(&out, (char)(bits >> (16 - 8 * i)));
	} while (digits == 4);
	return function_text_result(call, &out, ret);
}

/* ---- numbers ---- */

FUNCTION(function_add)
{
	(void)call, (void)count;
	*ret = template_int((int64_t)((uint64_t)args[0].integer + (uint64_t)args[1].integer));
	return 0;
}

FUNCTION(function_sub)
{
	(void)call, (void)count;
	*ret = template_int((int64_t)((uint64_t)args[0].integer - (uint64_t)args[1].integer));
	return 0;
}

FUNCTION(function_mul)
{
	(void)call, (void)count;
	*ret = template_int((int64_t)((uint64_t)args[0].integer * (uint64_t)args[1].integer));
	return 0;
}

FUNCTION(function_div)
{
	(void)count;
	if (args[1].integer == 0)
		return function_fail(call, "runtime error: integer divide by zero");
	/* The smallest number divided by -1 is itself in Go; in C it traps. */
	*ret = template_int(args[1].integer == -1 ? (int64_t)(0 - (uint64_t)args[0].integer)
						  : args[0].integer / args[1].integer);
	return 0;
}

FUNCTION(function_mod)
{
	(void)count;
	if (args[1].integer == 0)
		return function_fail(call, "runtime error: integer divide by zero");
	*ret = template_int(args[1].integer == -1 ? 0 : args[0].integer % args[1].integer);
	return 0;
}

FUNCTION(function_seq)
{
	int64_t first = args[0].integer, last = args[1].integer;
	uint64_t numbers;

	(void)count;
	if (first > last) {
		*ret = template_list_new(call->arena, &template_type_ints, 0);
		return 0;
	}
	numbers = (uint64_t)last - (uint64_t)first;
	if (numbers >= SEQ_MAX)
		return function_fail(call, "more than %d numbers", SEQ_MAX);
	*ret = template_list_new(call->arena, &template_type_ints, (size_t)numbers + 1);
	for (size_t i = 0; i <= numbers; i++)
		ret->list.items[i] = template_int(first + (int64_t)i);
	return 0;
}

FUNCTION(function_atoi)
{
	int64_t number;
	int r = number_parse_int(args[0].text, 10, &number);

	(void)count;
	if (r < 0)
		return function_fail_quoted(call, "strconv.Atoi: parsing ", args[0].text,
			r == -ERANGE ? ": value out of range" : ": invalid syntax");
	*ret = template_int(number);
	return 0;
}

FUNCTION(function_parse_bool)
{
	bool truth;

	(void)count;
	if (text_to_bool(args[0].text, &truth) < 0)
		return function_fail_quoted(
			call, "strconv.ParseBool: parsing ", args[0].text, ": invalid syntax");
	*ret = template_bool(truth);
	return 0;
}

/* ---- lists ---- */

/* Lists of texts and of pairs are turned round, in place; anything else passes through as it is, the named
 * list that gets answers too (as in the original, whose test for the type misses it). */
FUNCTION(function_reverse)
{
	struct template_value list = args[0];

	(void)call, (void)count;
	*ret = list;
	if (list.type != &template_type_strings && list.type != &function_type_pairs)
		return 0;
	for (size_t i = 0; i < list.list.len / 2; i++) {
		struct template_value swap = list.list.items[i];

		list.list.items[i] = list.list.items[list.list.len - 1 - i];
		list.list.items[list.list.len - 1 - i] = swap;
	}
	return 0;
}

struct sized_item {
	struct template_value item;
	size_t number;
};

static int sized_compare(const void *a, const void *b)
{
	const struct sized_item *left = a, *right = b;

	if (left->item.text.len != right->item.text.len)
		return left->item.text.len < right->item.text.len ? -1 : 1;
	return left->number < right->number ? -1 : left->number > right->number;
}

FUNCTION(function_sort_by_length)
{
	struct template_items list = args[0].list;
	struct sized_item *sized;

	(void)count;
	*ret = args[0];
	if (!list.len)
		return 0;
	sized = arena_alloc(call->arena, list.len * sizeof(*sized));
	for (size_t i = 0; i < list.len; i++)
		sized[i] = (struct sized_item){list.items[i], i};
	qsort(sized, list.len, sizeof(*sized), sized_compare);
	for (size_t i = 0; i < list.len; i++)
		list.items[i] = sized[i].item;
	return 0;
}

/* ---- the host ---- */

FUNCTION(function_getenv)
{
	const char *value = getenv(c_string(call, args[0].text));

	if (value && value[0])
		*ret = template_text(slice_make(c_string(call, slice_str(value)), strlen(value)));
	else
		*ret = count > 1 ? args[1] : template_str("");
	return 0;
}

FUNCTION(function_datetime)
{
	const struct functions_data *data = call->user;
	int64_t now = time_wall_ns();
	time_t seconds = now / NS_PER_S;
	struct template_time value = {
		.seconds = seconds,
		.nanoseconds = (int32_t)(now % NS_PER_S),
		.has_monotonic = true,
		.monotonic_ns = time_mono_ns() - data->started_mono_ns,
	};
	struct tm local;

	(void)args, (void)count;
	if (localtime_r(&seconds, &local)) {
		value.offset = (int32_t)local.tm_gmtoff;
		snprintf(value.zone, sizeof(value.zone), "%s", local.tm_zone ? local.tm_zone : "");
	}
	*ret = template_time_value(call->arena, &value);
	return 0;
}

FUNCTION(function_file_exists)
{
	struct stat status;

	(void)count;
	*ret = template_bool(stat(c_string(call, args[0].text), &status) == 0 || errno != ENOENT);
	return 0;
}
