/* Runs the cases of tests/data/confd/gotemplate.jsonl, recorded with Go's own text/template 1.19: one test
 * per group. A case says which functions it needs; those that need none run with the template room alone, the
 * others with confd's functions (tests/unit/confd). */
#pragma once
#include "base/buf.h"
#include "template/format.h"
#include "template/template.h"
#include "template/time.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- the types of the recordings ---- */

struct golden_pair {
	struct slice key, value;
};

static struct template_value golden_pair_key(const void *object)
{
	return template_text(((const struct golden_pair *)object)->key);
}

static struct template_value golden_pair_value(const void *object)
{
	return template_text(((const struct golden_pair *)object)->value);
}

static const struct template_field golden_pair_fields[] = {
	{"Key", golden_pair_key}, {"Value", golden_pair_value}};
static const struct template_type golden_pair_type = {
	.name = "memkv.KVPair", .kind = TEMPLATE_STRUCT, .fields = golden_pair_fields, .field_count = 2};
static const struct template_type golden_pair_pointer = {
	.name = "*memkv.KVPair", .kind = TEMPLATE_POINTER, .elem = &golden_pair_type};
static const struct template_type golden_pair_list = {
	.name = "[]memkv.KVPair", .kind = TEMPLATE_LIST, .elem = &golden_pair_type};
static const struct template_type golden_pairs_type = {.name = "memkv.KVPairs",
	.kind = TEMPLATE_LIST,
	.elem = &golden_pair_type,
	.underlying = &golden_pair_list};

struct golden_node {
	struct slice key, value;
	bool dir;
	int64_t ttl;
	struct template_value nodes;
};
#define GOLDEN_NODE_FIELD(name, expression)                                 \
	static struct template_value golden_node_##name(const void *object) \
	{                                                                   \
		const struct golden_node *node = object;                    \
		(void)node;                                                 \
		return expression;                                          \
	}
static const struct template_type golden_time_pointer = {
	.name = "*time.Time", .kind = TEMPLATE_POINTER, .elem = &template_type_time};
GOLDEN_NODE_FIELD(key, template_text(node->key))
GOLDEN_NODE_FIELD(value, template_text(node->value))
GOLDEN_NODE_FIELD(dir, template_bool(node->dir))
GOLDEN_NODE_FIELD(expiration, template_object(&golden_time_pointer, NULL))
GOLDEN_NODE_FIELD(ttl, ((struct template_value){.type = &template_type_int64, .integer = node->ttl}))
GOLDEN_NODE_FIELD(nodes, node->nodes)
GOLDEN_NODE_FIELD(index, ((struct template_value){.type = &template_type_uint64}))
static const struct template_field golden_node_fields[] = {{"Key", golden_node_key},
	{"Value", golden_node_value}, {"Dir", golden_node_dir}, {"Expiration", golden_node_expiration},
	{"TTL", golden_node_ttl}, {"Nodes", golden_node_nodes}, {"ModifiedIndex", golden_node_index},
	{"CreatedIndex", golden_node_index}};
static const struct template_type golden_node_type = {.name = "etcd.Node",
	.kind = TEMPLATE_STRUCT,
	.fields = golden_node_fields,
	.field_count = ARRAY_LEN(golden_node_fields)};
static const struct template_type golden_node_pointer = {
	.name = "*etcd.Node", .kind = TEMPLATE_POINTER, .elem = &golden_node_type};
static const struct template_type golden_nodes_type = {
	.name = "etcd.Nodes", .kind = TEMPLATE_LIST, .elem = &golden_node_pointer};

struct golden_error {
	struct slice text;
};
static struct template_value golden_error_field(const void *object)
{
	return template_text(((const struct golden_error *)object)->text);
}
static void golden_error_text(const void *object, struct buf *out)
{
	buf_add_slice(out, ((const struct golden_error *)object)->text);
}
static int golden_error_method(struct template_call *call, const struct template_value *args _unused_,
	size_t count _unused_, struct template_value *ret)
{
	*ret = golden_error_field(call->receiver.object);
	return 0;
}
static const struct template_field golden_error_fields[] = {{"s", golden_error_field}};
static const struct template_func golden_error_methods[] = {
	{"Error", golden_error_method, &template_type_string, {NULL}, 0, false}};
static const struct template_type golden_error_type = {.name = "errors.errorString",
	.kind = TEMPLATE_STRUCT,
	.fields = golden_error_fields,
	.field_count = 1,
	.methods = golden_error_methods,
	.method_count = 1};
static const struct template_type golden_error_pointer = {.name = "*errors.errorString",
	.kind = TEMPLATE_POINTER,
	.elem = &golden_error_type,
	.methods = golden_error_methods,
	.method_count = 1,
	.add_text = golden_error_text};

static const struct template_type golden_channel_type = {
	.name = "chan int", .kind = TEMPLATE_LIST, .elem = &template_type_int};
static const struct template_type golden_func_type = {.name = "func()", .kind = TEMPLATE_FUNC};

static int golden_add(struct template_call *call _unused_, const struct template_value *args,
	size_t count _unused_, struct template_value *ret)
{
	*ret = template_int(args[0].integer + args[1].integer);
	return 0;
}
static int golden_concat(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	for (size_t i = 0; i < count; i++)
		buf_add_slice(&text, args[i].text);
	*ret = template_text(slice_make(arena_strndup(call->arena, buf_text(&text), text.len), text.len));
	return 0;
}
static int golden_fail(struct template_call *call, const struct template_value *args _unused_,
	size_t count _unused_, struct template_value *ret _unused_)
{
	buf_add_str(call->error, "deliberate failure");
	return -EINVAL;
}
static const struct template_func golden_funcs[] = {
	{"add", golden_add, &template_type_int, {&template_type_int, &template_type_int}, 2, false},
	{"concat", golden_concat, &template_type_string, {&template_type_string}, 1, true},
	{"fail", golden_fail, &template_type_string, {NULL}, 0, false},
};

/* ---- data ---- */

static struct slice golden_text(struct arena *arena, const json_t *json)
{
	size_t len = json_string_length(json);

	return slice_make(
		arena_strndup(arena, json_is_string(json) ? json_string_value(json) : "", len), len);
}

static struct template_value golden_value(struct arena *arena, json_t *json);

static const struct golden_pair *golden_pair_new(struct arena *arena, json_t *json)
{
	struct golden_pair *pair = arena_alloc(arena, sizeof(*pair));

	pair->key = golden_text(arena, json_object_get(json, "Key"));
	pair->value = golden_text(arena, json_object_get(json, "Value"));
	return pair;
}

static struct template_value golden_nodes(struct arena *arena, json_t *json);

static struct template_value golden_node(struct arena *arena, json_t *json)
{
	struct golden_node *node = arena_alloc(arena, sizeof(*node));

	node->key = golden_text(arena, json_object_get(json, "Key"));
	node->value = golden_text(arena, json_object_get(json, "Value"));
	node->dir = json_is_true(json_object_get(json, "Dir"));
	node->ttl = json_integer_value(json_object_get(json, "TTL"));
	node->nodes = golden_nodes(arena, json_object_get(json, "Nodes"));
	return template_object(&golden_node_pointer, node);
}

static struct template_value golden_nodes(struct arena *arena, json_t *json)
{
	struct template_value list = template_list_new(arena, &golden_nodes_type, 0);

	for (size_t i = 0; i < json_array_size(json); i++)
		template_list_add(arena, &list, golden_node(arena, json_array_get(json, i)));
	return list;
}

static double golden_float(json_t *json)
{
	return json_is_string(json) ? strtod(json_string_value(json), NULL) : json_number_value(json);
}

static struct template_value golden_typed_list(
	struct arena *arena, const struct template_type *type, json_t *json)
{
	struct template_value list = template_list_new(arena, type, 0);

	if (json_is_string(json)) { /* bytes */
		for (size_t i = 0; i < json_string_length(json); i++)
			template_list_add(arena, &list,
				(struct template_value){.type = &template_type_uint8,
					.natural = (unsigned char)json_string_value(json)[i]});
		return list;
	}
	for (size_t i = 0; i < json_array_size(json); i++) {
		json_t *item = json_array_get(json, i);

		template_list_add(arena, &list,
			type == &golden_pairs_type
				? template_object(&golden_pair_type, golden_pair_new(arena, item))
				: golden_value(arena, item));
	}
	return list;
}

static struct template_value golden_typed_map(
	struct arena *arena, const struct template_type *type, json_t *json)
{
	struct template_value map = template_map_new(arena, type);
	const char *key;
	json_t *value;

	json_object_foreach(json, key, value)
	{
		struct template_value at =
			template_text(slice_make(arena_strndup(arena, key, strlen(key)), strlen(key)));

		if (type->key->kind == TEMPLATE_INT)
			at = template_int(strtoll(key, NULL, 10));
		template_map_put(arena, &map, at, golden_value(arena, value));
	}
	return map;
}

static struct template_value golden_number(const struct template_type *type, json_t *json)
{
	struct template_value value = {.type = type};

	if (type->kind == TEMPLATE_FLOAT)
		value.number = golden_float(json);
	else if (type->kind == TEMPLATE_INT)
		value.integer = json_integer_value(json);
	else
		value.natural = json_is_string(json) ? strtoull(json_string_value(json), NULL, 10)
						     : (uint64_t)json_integer_value(json);
	return value;
}

static struct template_value golden_typed(struct arena *arena, const char *type, json_t *json)
{
	static const struct template_type *const numbers[] = {&template_type_int, &template_type_int8,
		&template_type_int64, &template_type_uint, &template_type_uint8, &template_type_uint64,
		&template_type_float32, &template_type_float64};
	static const struct {
		const char *name;
		const struct template_type *type;
	} lists[] = {{"KVPairs", &golden_pairs_type}, {"[]string", &template_type_strings},
		{"[]int", &template_type_ints}, {"[]byte", &template_type_bytes},
		{"chan", &golden_channel_type}};
	static const struct {
		const char *name;
		const struct template_type *type;
	} maps[] = {{"map[string]string", &template_type_map_string},
		{"map[int]string", &template_type_map_int_string}};
	json_t *v = json_object_get(json, "v");

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		if (strcmp(type, numbers[i]->name) == 0)
			return golden_number(numbers[i], v);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		if (strcmp(type, lists[i].name) == 0)
			return golden_typed_list(arena, lists[i].type, v);
	for (size_t i = 0; i < ARRAY_LEN(maps); i++)
		if (strcmp(type, maps[i].name) == 0)
			return golden_typed_map(arena, maps[i].type, v);
	if (strcmp(type, "KVPair") == 0)
		return template_object(&golden_pair_type, golden_pair_new(arena, json));
	if (strcmp(type, "*KVPair") == 0)
		return template_object(&golden_pair_pointer, golden_pair_new(arena, json));
	if (strcmp(type, "nil*KVPair") == 0)
		return template_object(&golden_pair_pointer, NULL);
	if (strcmp(type, "nil[]string") == 0)
		return template_zero(&template_type_strings);
	if (strcmp(type, "nilmap") == 0)
		return template_zero(&template_type_map);
	if (strcmp(type, "Nodes") == 0)
		return golden_nodes(arena, v);
	if (strcmp(type, "Node") == 0) {
		struct template_value node = golden_node(arena, json);

		node.type = &golden_node_type;
		return node;
	}
	if (strcmp(type, "complex128") == 0)
		return (struct template_value){.type = &template_type_complex128,
			.complex = {golden_float(json_array_get(v, 0)), golden_float(json_array_get(v, 1))}};
	if (strcmp(type, "error") == 0) {
		struct golden_error *error = arena_alloc(arena, sizeof(*error));

		error->text = golden_text(arena, v);
		return template_object(&golden_error_pointer, error);
	}
	if (strcmp(type, "time") == 0) {
		struct template_time time;

		assert_int_equal(template_time_parse(golden_text(arena, v), &time), 0);
		return template_time_value(arena, &time);
	}
	if (strcmp(type, "func") == 0) {
		struct template_value value = {.type = &golden_func_type};

		for (size_t i = 0; i < ARRAY_LEN(golden_funcs); i++)
			if (strcmp(json_string_value(v), golden_funcs[i].name) == 0)
				value.func = &golden_funcs[i];
		return value;
	}
	fail_msg("unknown type of data: %s", type);
	return template_nil();
}

static struct template_value golden_value(struct arena *arena, json_t *json)
{
	json_t *type;

	switch (json_typeof(json)) {
	case JSON_NULL:
		return template_nil();
	case JSON_TRUE:
	case JSON_FALSE:
		return template_bool(json_is_true(json));
	case JSON_INTEGER:
		return template_int(json_integer_value(json));
	case JSON_REAL:
		return template_float(json_real_value(json));
	case JSON_STRING:
		return template_text(golden_text(arena, json));
	case JSON_ARRAY:
		return golden_typed_list(arena, &template_type_list, json);
	default:
		break;
	}
	type = json_object_get(json, "$t");
	if (type)
		return golden_typed(arena, json_string_value(type), json);
	return golden_typed_map(arena, &template_type_map, json);
}

/* ---- cases ---- */

static void golden_add_base64(struct buf *out, const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, count = 0;

	for (; *text && *text != '='; text++) {
		bits = bits << 6 | (unsigned)(strchr(digits, *text) - digits);
		count += 6;
		if (count >= 8) {
			count -= 8;
			buf_add_char(out, (char)(bits >> count));
		}
	}
}

static void golden_add_template(struct buf *out, json_t *json)
{
	json_t *repeat = json_object_get(json, "template_repeat"), *text = json_object_get(json, "template");
	json_int_t count;

	if (!repeat) {
		json_t *encoded = json_object_get(json, "template_b64");

		if (encoded)
			golden_add_base64(out, json_string_value(encoded));
		else
			buf_add(out, json_string_value(text), json_string_length(text));
		return;
	}
	count = json_integer_value(json_object_get(repeat, "count"));
	buf_add_str(out, json_string_value(json_object_get(repeat, "pre")));
	for (json_int_t i = 0; i < count; i++)
		buf_add_str(out, json_string_value(json_object_get(repeat, "unit")));
	buf_add_str(out, json_string_value(json_object_get(repeat, "mid")));
	for (json_int_t i = 0; i < count; i++)
		buf_add_str(out, json_string_value(json_object_get(repeat, "unit2")));
	buf_add_str(out, json_string_value(json_object_get(repeat, "post")));
}

static bool golden_check(const char *id, const char *what, const struct buf *got, const struct buf *want)
{
	if (got->len == want->len && (!got->len || memcmp(got->data, want->data, got->len) == 0))
		return true;
	print_error("%s: %s\n  want: %.600s\n  got:  %.600s\n", id, what, buf_text(want), buf_text(got));
	return false;
}

/* True: the case gave what was recorded. */
static bool golden_case(json_t *json, const struct template_func *funcs, size_t func_count)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), out = BUF_INIT(64 << 20), error = BUF_INIT(1 << 20);
	_cleanup_buf_ struct buf want = BUF_INIT(0), want_error = BUF_INIT(0);
	_cleanup_(template_freep) struct template *template = NULL;
	_cleanup_(arena_done) struct arena arena;
	const char *id = json_string_value(json_object_get(json, "id"));
	json_t *expected = json_object_get(json, "want"), *encoded = json_object_get(json, "want_b64");
	json_t *expected_error = json_object_get(json, "want_error"), *data = json_object_get(json, "data");
	const char *stage = json_string_value(json_object_get(json, "stage"));
	int r;

	arena_init(&arena);
	golden_add_template(&text, json);
	if (expected_error) {
		json_t *partial = json_object_get(json, "partial");

		buf_add(&want_error, json_string_value(expected_error), json_string_length(expected_error));
		if (partial)
			buf_add(&want, json_string_value(partial), json_string_length(partial));
	} else if (encoded) {
		golden_add_base64(&want, json_string_value(encoded));
	} else {
		buf_add(&want, json_string_value(expected), json_string_length(expected));
	}
	r = template_parse("x", buf_slice(&text), funcs, func_count, &template, &error);
	if (r == 0 && stage && strcmp(stage, "parse") == 0) {
		print_error("%s: parsed, but should not\n", id);
		return false;
	}
	if (r == 0)
		r = template_execute(template, &(struct template_run){.arena = &arena},
			data ? golden_value(&arena, data) : template_nil(), &out, &error);
	if ((r < 0) != (expected_error != NULL)) {
		print_error("%s: %s\n  template: %.300s\n", id, r < 0 ? buf_text(&error) : "no error",
			buf_text(&text));
		return false;
	}
	if (!golden_check(id, "error", &error, &want_error))
		return false;
	return golden_check(id, "output", &out, &want);
}

/* ---- groups ---- */

struct golden_exclusion {
	const char *id, *reason;
};

struct golden_suite {
	json_t *cases;
	const struct template_func *funcs;
	size_t func_count;
	bool wants_funcs; /* only cases that name functions, or only those that do not */
	const struct golden_exclusion *exclusions;
	size_t exclusion_count;
};
static struct golden_suite golden_suite;

static const char *golden_exclusion(const char *id)
{
	for (size_t i = 0; i < golden_suite.exclusion_count; i++)
		if (strcmp(golden_suite.exclusions[i].id, id) == 0)
			return golden_suite.exclusions[i].reason;
	return NULL;
}

static bool golden_selected(json_t *json)
{
	return (json_array_size(json_object_get(json, "funcs")) > 0) == golden_suite.wants_funcs;
}

static void golden_group(void **state)
{
	const char *group = *state;
	size_t failed = 0, run = 0;

	for (size_t i = 0; i < json_array_size(golden_suite.cases); i++) {
		json_t *json = json_array_get(golden_suite.cases, i);

		if (strcmp(json_string_value(json_object_get(json, "group")), group) != 0 ||
			!golden_selected(json) ||
			golden_exclusion(json_string_value(json_object_get(json, "id"))))
			continue;
		run++;
		if (!golden_case(json, golden_suite.funcs, golden_suite.func_count))
			failed++;
	}
	if (failed)
		fail_msg("%zu of %zu cases of group %s differ", failed, run, group);
	assert_true(run > 0);
}

static json_t *golden_load(const char *path)
{
	FILE *file = fopen(path, "re");
	json_t *cases = json_array(), *json;
	json_error_t error;

	if (!file) {
		fprintf(stderr, "cannot open %s\n", path);
		exit(1);
	}
	while ((json = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &error)))
		json_array_append_new(cases, json);
	if (!feof(file)) {
		fprintf(stderr, "%s: %s\n", path, error.text);
		exit(1);
	}
	fclose(file);
	return cases;
}

static int golden_main(void)
{
	struct CMUnitTest tests[64];
	size_t count = 0;
	int failed;

	golden_suite.cases = golden_load(TEST_DATA_DIR "/confd/gotemplate.jsonl");
	for (size_t i = 0; i < json_array_size(golden_suite.cases); i++) {
		json_t *json = json_array_get(golden_suite.cases, i);
		const char *group = json_string_value(json_object_get(json, "group"));
		bool known = !golden_selected(json) ||
			     golden_exclusion(json_string_value(json_object_get(json, "id")));

		for (size_t j = 0; j < count && !known; j++)
			known = strcmp(tests[j].initial_state, group) == 0;
		if (known || count == ARRAY_LEN(tests))
			continue;
		tests[count] = (struct CMUnitTest){
			.name = mem_printf("templates_of_group_%s_give_what_go_gives", group),
			.test_func = golden_group,
			.initial_state = (void *)(uintptr_t)group,
		};
		count++;
	}
	failed = _cmocka_run_group_tests("text/template", tests, count, NULL, NULL);
	for (size_t i = 0; i < count; i++)
		free((void *)(uintptr_t)tests[i].name);
	json_decref(golden_suite.cases);
	return failed;
}
