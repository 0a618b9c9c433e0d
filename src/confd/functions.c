/* The functions over the store, their types, and the table of all of them. Keys are looked up literally, as
 * they are in the flat list of leaves; directories do not exist there. */
#include "confd/functions.h"
#include "base/text.h"
#include "template/time.h"

#include <stdlib.h>

static const struct confd_tree *tree_of(const struct template_call *call)
{
	return ((const struct functions_data *)call->user)->tree;
}

/* ---- types ---- */

static struct template_value pair_key(const void *object)
{
	return template_text(((const struct confd_leaf *)object)->key);
}

static struct template_value pair_value(const void *object)
{
	return template_text(((const struct confd_leaf *)object)->value);
}

static const struct template_field pair_fields[] = {{"Key", pair_key}, {"Value", pair_value}};
static const struct template_type pair_type = {.name = "memkv.KVPair",
	.kind = TEMPLATE_STRUCT,
	.fields = pair_fields,
	.field_count = ARRAY_LEN(pair_fields)};
const struct template_type function_type_pairs = {
	.name = "[]memkv.KVPair", .kind = TEMPLATE_LIST, .elem = &pair_type};
static const struct template_type pairs_type = {.name = "memkv.KVPairs",
	.kind = TEMPLATE_LIST,
	.elem = &pair_type,
	.underlying = &function_type_pairs};

/* ---- store ---- */

static int fail_missing(struct template_call *call, struct slice key)
{
	buf_add_str(call->error, "key does not exist: ");
	buf_add_slice(call->error, key);
	return function_fail(call, "%s", "");
}

static FUNCTION(function_exists)
{
	(void)count;
	*ret = template_bool(confd_tree_find(tree_of(call), args[0].text) != NULL);
	return 0;
}

static FUNCTION(function_get)
{
	const struct confd_leaf *leaf = confd_tree_find(tree_of(call), args[0].text);

	(void)count;
	if (!leaf)
		return fail_missing(call, args[0].text);
	*ret = template_object(&pair_type, leaf);
	return 0;
}

static FUNCTION(function_getv)
{
	const struct confd_leaf *leaf = confd_tree_find(tree_of(call), args[0].text);

	if (leaf)
		*ret = template_text(leaf->value);
	else if (count > 1)
		*ret = args[1];
	else
		return fail_missing(call, args[0].text);
	return 0;
}

static FUNCTION(function_gets)
{
	const struct confd_tree *tree = tree_of(call);
	struct template_value list = template_list_new(call->arena, &pairs_type, 0);

	(void)count;
	for (size_t i = 0; i < tree->leaf_count; i++) {
		int r = text_path_match(args[0].text, tree->leaves[i].key);

		if (r < 0)
			return function_fail(call, "syntax error in pattern");
		if (r > 0)
			template_list_add(call->arena, &list, template_object(&pair_type, &tree->leaves[i]));
	}
	*ret = list;
	return 0;
}

static int text_compare(const void *a, const void *b)
{
	const struct template_value *left = a, *right = b;

	return slice_compare(left->text, right->text);
}

static FUNCTION(function_getvs)
{
	struct template_value pairs, list;
	int r = function_gets(call, args, count, &pairs);

	if (r < 0)
		return r;
	list = template_list_new(call->arena, &template_type_strings, pairs.list.len);
	for (size_t i = 0; i < pairs.list.len; i++)
		list.list.items[i] = pair_value(pairs.list.items[i].object);
	if (list.list.len)
		qsort(list.list.items, list.list.len, sizeof(*list.list.items), text_compare);
	*ret = list;
	return 0;
}

/* Sorted, each once. */
static struct template_value unique_sorted(struct arena *arena, struct template_value names)
{
	size_t kept = 0;

	if (names.list.len)
		qsort(names.list.items, names.list.len, sizeof(*names.list.items), text_compare);
	for (size_t i = 0; i < names.list.len; i++)
		if (!kept || !slice_equal(names.list.items[kept - 1].text, names.list.items[i].text))
			names.list.items[kept++] = names.list.items[i];
	(void)arena;
	names.list.len = kept;
	return names;
}

/* Whether the directory `path` is `prefix` (both clean) or lies below it, segment by segment: *ret_rest is
 * what follows. The root counts as two empty segments, as splitting "/" gives, so that nothing but itself
 * begins with it. */
static bool path_below(struct slice prefix, struct slice path, struct slice *ret_rest)
{
	if (slice_equal(prefix, path)) {
		*ret_rest = (struct slice){"", 0};
		return true;
	}
	if (slice_is(prefix, "/") || path.len <= prefix.len || !slice_starts_with(path, prefix) ||
		path.data[prefix.len] != '/')
		return false;
	*ret_rest = slice_make(path.data + prefix.len + 1, path.len - prefix.len - 1);
	return true;
}

static struct slice first_segment(struct slice path)
{
	struct slice first, unused;

	(void)text_cut(path, '/', &first, &unused);
	return first;
}

static FUNCTION(function_ls)
{
	const struct confd_tree *tree = tree_of(call);
	struct slice at = args[0].text, prefix = path_clean(call->arena, at);
	struct template_value names = template_list_new(call->arena, &template_type_strings, 0);

	(void)count;
	for (size_t i = 0; i < tree->leaf_count; i++) {
		struct slice key = tree->leaves[i].key, unused;

		if (slice_equal(key, at)) {
			template_list_add(call->arena, &names, template_text(path_base(key)));
			continue;
		}
		if (!path_below(prefix, path_dir(call->arena, key), &unused))
			continue;
		if (slice_starts_with(key, at))
			key = slice_make(key.data + at.len, key.len - at.len);
		if (key.len && key.data[0] == '/')
			key = slice_make(key.data + 1, key.len - 1);
		template_list_add(call->arena, &names, template_text(first_segment(key)));
	}
	*ret = unique_sorted(call->arena, names);
	return 0;
}

static FUNCTION(function_lsdir)
{
	const struct confd_tree *tree = tree_of(call);
	struct slice at = args[0].text, prefix = path_clean(call->arena, at);
	struct template_value names = template_list_new(call->arena, &template_type_strings, 0);

	(void)count;
	for (size_t i = 0; i < tree->leaf_count; i++) {
		struct slice key = tree->leaves[i].key, rest;

		if (slice_starts_with(key, at) && path_below(prefix, path_dir(call->arena, key), &rest) &&
			rest.len)
			template_list_add(call->arena, &names, template_text(first_segment(rest)));
	}
	*ret = unique_sorted(call->arena, names);
	return 0;
}

struct sized_pair {
	struct template_value item;
	size_t size, number;
};

static int sized_compare(const void *a, const void *b)
{
	const struct sized_pair *left = a, *right = b;

	if (left->size != right->size)
		return left->size < right->size ? -1 : 1;
	return left->number < right->number ? -1 : left->number > right->number;
}

static FUNCTION(function_sort_kv_by_length)
{
	struct template_items list = args[0].list;
	struct sized_pair *sized;

	(void)count;
	*ret = args[0];
	ret->type = &function_type_pairs;
	if (!list.len)
		return 0;
	sized = arena_alloc(call->arena, list.len * sizeof(*sized));
	for (size_t i = 0; i < list.len; i++)
		sized[i] = (struct sized_pair){list.items[i], pair_key(list.items[i].object).text.len, i};
	qsort(sized, list.len, sizeof(*sized), sized_compare);
	for (size_t i = 0; i < list.len; i++)
		list.items[i] = sized[i].item;
	return 0;
}

/* ---- the first generation ---- */

static const struct template_type node_list_type;

static struct template_value node_key(const void *object)
{
	return template_text(((const struct confd_node *)object)->key);
}

static struct template_value node_value(const void *object)
{
	return template_text(((const struct confd_node *)object)->value);
}

static struct template_value node_dir(const void *object)
{
	return template_bool(((const struct confd_node *)object)->dir);
}

static struct template_value node_expiration(const void *object)
{
	const struct confd_node *node = object;

	return node->expiration.len ? template_text(node->expiration) : template_nil();
}

static struct template_value node_ttl(const void *object)
{
	return (struct template_value){
		.type = &template_type_int64, .integer = ((const struct confd_node *)object)->ttl_s};
}

static struct template_value node_modified(const void *object)
{
	return (struct template_value){.type = &template_type_uint64,
		.natural = ((const struct confd_node *)object)->modified_index};
}

static struct template_value node_created(const void *object)
{
	return (struct template_value){
		.type = &template_type_uint64, .natural = ((const struct confd_node *)object)->created_index};
}

/* The children as values: they are made with the node (confd_nodes_value) and kept beside it. */
struct node_object {
	struct confd_node node;
	struct template_value nodes;
};

static struct template_value node_nodes(const void *object)
{
	return ((const struct node_object *)object)->nodes;
}

static const struct template_field node_fields[] = {
	{"Key", node_key},
	{"Value", node_value},
	{"Dir", node_dir},
	{"Expiration", node_expiration},
	{"TTL", node_ttl},
	{"Nodes", node_nodes},
	{"ModifiedIndex", node_modified},
	{"CreatedIndex", node_created},
};
static const struct template_type node_type = {.name = "etcd.Node",
	.kind = TEMPLATE_STRUCT,
	.fields = node_fields,
	.field_count = ARRAY_LEN(node_fields)};
static const struct template_type node_pointer = {
	.name = "*etcd.Node", .kind = TEMPLATE_POINTER, .elem = &node_type};
static const struct template_type node_list_type = {
	.name = "etcd.Nodes", .kind = TEMPLATE_LIST, .elem = &node_pointer};

/* "app-web/x" below the prefix: "app_web_x". */
static struct slice flat_name(struct arena *arena, struct slice key, struct slice prefix)
{
	char *name;

	key = path_join(arena, SLICE_LITERAL("/"), key);
	if (prefix.len > 1 && slice_starts_with(key, prefix) &&
		(key.len == prefix.len || key.data[prefix.len] == '/'))
		key = slice_make(key.data + prefix.len, key.len - prefix.len);
	if (key.len && key.data[0] == '/')
		key = slice_make(key.data + 1, key.len - 1);
	name = arena_strndup(arena, key.data, key.len);
	for (size_t i = 0; i < key.len; i++)
		if (name[i] == '/' || name[i] == '-')
			name[i] = '_';
	return slice_make(name, key.len);
}

static struct template_value add_to_dot(struct arena *arena, const struct confd_node *node,
	struct slice prefix, struct template_value *dot, unsigned depth)
{
	struct node_object *object = arena_alloc(arena, sizeof(*object));
	struct template_value name = template_text(flat_name(arena, node->key, prefix));

	object->node = *node;
	object->nodes = template_list_new(arena, &node_list_type, 0);
	for (size_t i = 0; i < node->node_count && depth < 1000; i++)
		template_list_add(
			arena, &object->nodes, add_to_dot(arena, node->nodes[i], prefix, dot, depth + 1));
	template_map_put(arena, dot, name, node->dir ? object->nodes : template_text(node->value));
	return template_object(&node_pointer, object);
}

struct template_value functions_dot(struct arena *arena, const struct confd_tree *tree, struct slice prefix)
{
	struct template_value dot = template_map_new(arena, &template_type_map);

	prefix = prefix.len ? path_clean(arena, prefix) : prefix;
	for (size_t i = 0; i < tree->root_count; i++)
		add_to_dot(arena, tree->roots[i], prefix, &dot, 0);
	return dot;
}

/* GetDir "a_b": the leaves whose flat name begins with a_b_, with the rest of the name as Key. */
static FUNCTION(function_get_dir)
{
	const struct confd_tree *tree = tree_of(call);
	struct template_value list = template_list_new(call->arena, &function_type_pairs, 0);
	struct slice start =
		slice_str(arena_printf(call->arena, "%.*s_", (int)args[0].text.len, args[0].text.data));

	(void)count;
	for (size_t i = 0; i < tree->leaf_count; i++) {
		struct slice name = flat_name(call->arena, tree->leaves[i].key, (struct slice){0});
		struct confd_leaf *pair;

		if (!slice_starts_with(name, start))
			continue;
		pair = arena_alloc(call->arena, sizeof(*pair));
		pair->key = slice_make(name.data + start.len, name.len - start.len);
		pair->value = tree->leaves[i].value;
		template_list_add(call->arena, &list, template_object(&pair_type, pair));
	}
	*ret = list;
	return 0;
}

/* MapDir node: its children's values by their names. */
static FUNCTION(function_map_dir)
{
	const struct node_object *object = args[0].object;
	struct template_value map = template_map_new(call->arena, &template_type_map);

	(void)count;
	if (!object)
		return function_fail(call, "MapDir of nil");
	for (size_t i = 0; i < object->node.node_count; i++)
		template_map_put(call->arena, &map, template_text(path_base(object->node.nodes[i]->key)),
			template_text(object->node.nodes[i]->value));
	*ret = map;
	return 0;
}

#define STRING &template_type_string
#define STRINGS &template_type_strings
#define INT &template_type_int
#define ANY &template_type_any
#define BOOL &template_type_bool

const struct template_func confd_funcs[] = {
	{"add", function_add, INT, {INT, INT}, 2, false},
	{"atoi", function_atoi, INT, {STRING}, 1, false},
	{"base", function_base, STRING, {STRING}, 1, false},
	{"base64Decode", function_base64_decode, STRING, {STRING}, 1, false},
	{"base64Encode", function_base64_encode, STRING, {STRING}, 1, false},
	{"contains", function_contains, BOOL, {STRING, STRING}, 2, false},
	{"datetime", function_datetime, &template_type_time, {NULL}, 0, false},
	{"dir", function_dir, STRING, {STRING}, 1, false},
	{"div", function_div, INT, {INT, INT}, 2, false},
	{"exists", function_exists, BOOL, {STRING}, 1, false},
	{"fileExists", function_file_exists, BOOL, {STRING}, 1, false},
	{"get", function_get, &pair_type, {STRING}, 1, false},
	{"getenv", function_getenv, STRING, {STRING, STRING}, 2, true},
	{"gets", function_gets, &pairs_type, {STRING}, 1, false},
	{"getv", function_getv, STRING, {STRING, STRING}, 2, true},
	{"getvs", function_getvs, STRINGS, {STRING}, 1, false},
	{"join", function_join, STRING, {STRINGS, STRING}, 2, false},
	{"json", function_json, &template_type_map, {STRING}, 1, false},
	{"jsonArray", function_json_array, &template_type_list, {STRING}, 1, false},
	{"lookupIP", function_lookup_ip, STRINGS, {STRING}, 1, false},
	{"lookupIPV4", function_lookup_ipv4, STRINGS, {STRING}, 1, false},
	{"lookupIPV6", function_lookup_ipv6, STRINGS, {STRING}, 1, false},
	{"lookupSRV", function_lookup_srv, &function_type_services, {STRING, STRING, STRING}, 3, false},
	{"ls", function_ls, STRINGS, {STRING}, 1, false},
	{"lsdir", function_lsdir, STRINGS, {STRING}, 1, false},
	{"map", function_map, &template_type_map, {ANY}, 1, true},
	{"mod", function_mod, INT, {INT, INT}, 2, false},
	{"mul", function_mul, INT, {INT, INT}, 2, false},
	{"parseBool", function_parse_bool, BOOL, {STRING}, 1, false},
	{"replace", function_replace, STRING, {STRING, STRING, STRING, INT}, 4, false},
	{"reverse", function_reverse, ANY, {ANY}, 1, false},
	{"seq", function_seq, &template_type_ints, {INT, INT}, 2, false},
	{"sortByLength", function_sort_by_length, STRINGS, {STRINGS}, 1, false},
	{"sortKVByLength", function_sort_kv_by_length, &function_type_pairs, {&function_type_pairs}, 1,
		false},
	{"split", function_split, STRINGS, {STRING, STRING}, 2, false},
	{"sub", function_sub, INT, {INT, INT}, 2, false},
	{"toLower", function_to_lower, STRING, {STRING}, 1, false},
	{"toUpper", function_to_upper, STRING, {STRING}, 1, false},
	{"trimSuffix", function_trim_suffix, STRING, {STRING, STRING}, 2, false},
	/* of the first generation (0.3 to 0.5) */
	{"Base", function_base, STRING, {STRING}, 1, false},
	{"GetDir", function_get_dir, &function_type_pairs, {STRING}, 1, false},
	{"MapDir", function_map_dir, &template_type_map, {&node_pointer}, 1, false},
};
const size_t confd_func_count = ARRAY_LEN(confd_funcs);
