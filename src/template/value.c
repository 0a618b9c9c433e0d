/* Types are static rows compared by address. Lists grow by doubling inside the arena. Maps collect entries in
 * order of arrival and are sorted once, before the first look-up, so that a map of n keys costs n log n. */
#include "template/value.h"

#define NUMBER_TYPE(variable, text, kind_, bits_) \
	const struct template_type variable = {.name = text, .kind = kind_, .bits = bits_}

NUMBER_TYPE(template_type_int, "int", TEMPLATE_INT, 64);
NUMBER_TYPE(template_type_int8, "int8", TEMPLATE_INT, 8);
NUMBER_TYPE(template_type_int16, "int16", TEMPLATE_INT, 16);
NUMBER_TYPE(template_type_int32, "int32", TEMPLATE_INT, 32);
NUMBER_TYPE(template_type_int64, "int64", TEMPLATE_INT, 64);
NUMBER_TYPE(template_type_uint, "uint", TEMPLATE_UINT, 64);
NUMBER_TYPE(template_type_uint8, "uint8", TEMPLATE_UINT, 8);
NUMBER_TYPE(template_type_uint16, "uint16", TEMPLATE_UINT, 16);
NUMBER_TYPE(template_type_uint32, "uint32", TEMPLATE_UINT, 32);
NUMBER_TYPE(template_type_uint64, "uint64", TEMPLATE_UINT, 64);
NUMBER_TYPE(template_type_float32, "float32", TEMPLATE_FLOAT, 32);
NUMBER_TYPE(template_type_float64, "float64", TEMPLATE_FLOAT, 64);
NUMBER_TYPE(template_type_complex128, "complex128", TEMPLATE_COMPLEX, 128);

const struct template_type template_type_bool = {.name = "bool", .kind = TEMPLATE_BOOL};
const struct template_type template_type_string = {.name = "string", .kind = TEMPLATE_STRING};
const struct template_type template_type_any = {.name = "interface {}", .kind = TEMPLATE_INTERFACE};
const struct template_type template_type_reflect = {.name = "reflect.Value", .kind = TEMPLATE_STRUCT};
const struct template_type template_type_list = {
	.name = "[]interface {}", .kind = TEMPLATE_LIST, .elem = &template_type_any};
const struct template_type template_type_strings = {
	.name = "[]string", .kind = TEMPLATE_LIST, .elem = &template_type_string};
const struct template_type template_type_ints = {
	.name = "[]int", .kind = TEMPLATE_LIST, .elem = &template_type_int};
const struct template_type template_type_bytes = {
	.name = "[]uint8", .kind = TEMPLATE_LIST, .elem = &template_type_uint8};
const struct template_type template_type_map = {.name = "map[string]interface {}",
	.kind = TEMPLATE_MAP,
	.elem = &template_type_any,
	.key = &template_type_string};
const struct template_type template_type_map_string = {.name = "map[string]string",
	.kind = TEMPLATE_MAP,
	.elem = &template_type_string,
	.key = &template_type_string};
const struct template_type template_type_map_int_string = {.name = "map[int]string",
	.kind = TEMPLATE_MAP,
	.elem = &template_type_string,
	.key = &template_type_int};

static struct template_value no_items;

struct template_value template_nil(void)
{
	return (struct template_value){0};
}

struct template_value template_bool(bool value)
{
	return (struct template_value){.type = &template_type_bool, .boolean = value};
}

struct template_value template_int(int64_t value)
{
	return (struct template_value){.type = &template_type_int, .integer = value};
}

struct template_value template_float(double value)
{
	return (struct template_value){.type = &template_type_float64, .number = value};
}

struct template_value template_text(struct slice text)
{
	return (struct template_value){.type = &template_type_string, .text = text};
}

struct template_value template_str(const char *text)
{
	return template_text(slice_str(text));
}

struct template_value template_object(const struct template_type *type, const void *object)
{
	assert(type->kind == TEMPLATE_STRUCT || type->kind == TEMPLATE_POINTER);
	return (struct template_value){.type = type, .object = object};
}

struct template_value template_in_interface(struct template_value value)
{
	value.is_interface = true;
	return value;
}

struct template_value template_out_of_interface(struct template_value value)
{
	value.is_interface = false;
	return value;
}

struct template_value template_zero(const struct template_type *type)
{
	struct template_value value = {.type = type};

	if (type->kind == TEMPLATE_INTERFACE)
		return (struct template_value){.is_interface = true};
	if (type == &template_type_reflect)
		return template_nil();
	return value;
}

struct template_value template_list_new(struct arena *arena, const struct template_type *type, size_t len)
{
	struct template_value list = {.type = type};

	assert(type->kind == TEMPLATE_LIST);
	list.list.len = list.list.cap = len;
	/* An empty list is not a nil one. */
	list.list.items = len ? arena_alloc(arena, len * sizeof(*list.list.items)) : &no_items;
	for (size_t i = 0; i < len; i++)
		list.list.items[i] = template_zero(type->elem);
	return list;
}

void template_list_add(struct arena *arena, struct template_value *list, struct template_value item)
{
	struct template_items *items = &list->list;

	assert(list->type->kind == TEMPLATE_LIST);
	if (items->len == items->cap) {
		size_t cap = items->cap ? items->cap * 2 : 4;
		struct template_value *moved = arena_alloc(arena, cap * sizeof(*moved));

		if (items->len)
			memcpy(moved, items->items, items->len * sizeof(*moved));
		items->items = moved;
		items->cap = cap;
	}
	item.is_interface = list->type->elem->kind == TEMPLATE_INTERFACE;
	items->items[items->len++] = item;
}

struct template_value template_map_new(struct arena *arena, const struct template_type *type)
{
	assert(type->kind == TEMPLATE_MAP);
	return (struct template_value){.type = type, .map = arena_alloc(arena, sizeof(struct template_map))};
}

void template_map_put(struct arena *arena, struct template_value *map, struct template_value key,
	struct template_value value)
{
	struct template_map *to = map->map;

	if (to->count == to->cap) {
		size_t cap = to->cap ? to->cap * 2 : 8;
		struct template_map_entry *moved = arena_alloc(arena, cap * sizeof(*moved));

		if (to->count)
			memcpy(moved, to->entries, to->count * sizeof(*moved));
		to->entries = moved;
		to->cap = cap;
	}
	key.is_interface = false;
	value.is_interface = map->type->elem->kind == TEMPLATE_INTERFACE;
	to->entries[to->count++] = (struct template_map_entry){key, value};
	to->sorted = false;
}

static int key_compare(const struct template_value *a, const struct template_value *b)
{
	if (a->type->kind == TEMPLATE_INT)
		return a->integer < b->integer ? -1 : a->integer > b->integer;
	return slice_compare(a->text, b->text);
}

/* Bottom-up merge sort: stable, so that of equal keys the one put last is the last of its run. */
static void entries_sort(struct arena *arena, struct template_map *map)
{
	struct template_map_entry *from = map->entries;
	struct template_map_entry *to = arena_alloc(arena, map->count * sizeof(*to));

	for (size_t width = 1; width < map->count; width *= 2) {
		for (size_t start = 0; start < map->count; start += 2 * width) {
			size_t left = start, middle = MIN(start + width, map->count);
			size_t right = middle, end = MIN(start + 2 * width, map->count);

			for (size_t i = start; i < end; i++) {
				bool take_left =
					left < middle &&
					(right >= end || key_compare(&from[left].key, &from[right].key) <= 0);

				to[i] = take_left ? from[left++] : from[right++];
			}
		}
		struct template_map_entry *swap = from;
		from = to;
		to = swap;
	}
	map->entries = from;
	map->cap = map->count;
}

void template_map_sort(struct arena *arena, struct template_map *map)
{
	size_t kept = 0;

	if (!map || map->sorted)
		return;
	if (map->count > 1) {
		entries_sort(arena, map);
		for (size_t i = 0; i < map->count; i++) {
			if (i + 1 < map->count &&
				key_compare(&map->entries[i].key, &map->entries[i + 1].key) == 0)
				continue;
			map->entries[kept++] = map->entries[i];
		}
		map->count = kept;
	}
	map->sorted = true;
}

const struct template_value *template_map_get(
	const struct template_map *map, const struct template_value *key)
{
	size_t low = 0, high = map ? map->count : 0;

	assert(!map || map->sorted);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = key_compare(key, &map->entries[middle].key);

		if (order == 0)
			return &map->entries[middle].value;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

enum template_kind template_kind(const struct template_value *value)
{
	if (value->is_interface)
		return TEMPLATE_INTERFACE;
	return value->type ? value->type->kind : TEMPLATE_INVALID;
}

const struct template_type *template_static_type(const struct template_value *value)
{
	return value->is_interface ? &template_type_any : value->type;
}

bool template_type_assignable(const struct template_type *from, const struct template_type *to)
{
	const struct template_type *from_under = from->underlying ? from->underlying : from;
	const struct template_type *to_under = to->underlying ? to->underlying : to;

	if (from == to || to->kind == TEMPLATE_INTERFACE)
		return true;
	return from_under == to_under && (!from->underlying || !to->underlying) &&
	       (from->kind == TEMPLATE_LIST || from->kind == TEMPLATE_MAP);
}

bool template_type_nilable(const struct template_type *type)
{
	switch (type->kind) {
	case TEMPLATE_FUNC:
	case TEMPLATE_INTERFACE:
	case TEMPLATE_MAP:
	case TEMPLATE_POINTER:
	case TEMPLATE_LIST:
		return true;
	default:
		return type == &template_type_reflect;
	}
}

static void func_add_name(struct buf *out, const struct template_func *func)
{
	buf_add_str(out, "func(");
	for (unsigned i = 0; i < func->in_count; i++) {
		if (i)
			buf_add_str(out, ", ");
		if (func->variadic && i + 1 == func->in_count)
			buf_add_str(out, "...");
		buf_add_str(out, func->in[i]->name);
	}
	buf_add_char(out, ')');
	if (func->result) {
		buf_add_char(out, ' ');
		buf_add_str(out, func->result->name);
	}
}

void template_type_add_name(struct buf *out, const struct template_value *value)
{
	const struct template_type *type = template_static_type(value);

	if (!type)
		buf_add_str(out, "<nil>");
	else if (type->kind == TEMPLATE_FUNC && value->func)
		func_add_name(out, value->func);
	else
		buf_add_str(out, type->name);
}

bool template_truth(struct template_value value)
{
	if (!value.type)
		return false;
	switch (value.type->kind) {
	case TEMPLATE_BOOL:
		return value.boolean;
	case TEMPLATE_INT:
		return value.integer != 0;
	case TEMPLATE_UINT:
		return value.natural != 0;
	case TEMPLATE_FLOAT:
		return value.number != 0;
	case TEMPLATE_COMPLEX:
		return value.complex.real != 0 || value.complex.imaginary != 0;
	case TEMPLATE_STRING:
		return value.text.len > 0;
	case TEMPLATE_LIST:
		return value.list.len > 0;
	case TEMPLATE_MAP:
		return value.map && value.map->count > 0;
	case TEMPLATE_STRUCT:
		return true;
	case TEMPLATE_POINTER:
		return value.object != NULL;
	case TEMPLATE_FUNC:
		return value.func != NULL;
	default:
		return false;
	}
}

bool template_indirect(struct template_value *value)
{
	if (value->is_interface) {
		if (!value->type)
			return true;
		value->is_interface = false;
	}
	if (value->type && value->type->kind == TEMPLATE_POINTER) {
		if (!value->object)
			return true;
		value->type = value->type->elem;
	}
	return false;
}
