/* Templates: parsed, then executed over data of every kind with all builtin functions, within tight limits.
 */
#include "template/template.h"
#include "template/time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct template_value sample_key(const void *object)
{
	(void)object;
	return template_str("/a");
}
static const struct template_field sample_fields[] = {{"Key", sample_key}, {"Value", sample_key}};
static const struct template_type sample_type = {
	.name = "memkv.KVPair", .kind = TEMPLATE_STRUCT, .fields = sample_fields, .field_count = 2};
static const struct template_type sample_pointer = {
	.name = "*memkv.KVPair", .kind = TEMPLATE_POINTER, .elem = &sample_type};

static void put(struct arena *arena, struct template_value *map, const char *key, struct template_value value)
{
	template_map_put(arena, map, template_str(key), value);
}

/* Single letters, so that mutations find them. */
static struct template_value sample_data(struct arena *arena)
{
	static const char object[] = "object";
	struct template_value map = template_map_new(arena, &template_type_map);
	struct template_value list = template_list_new(arena, &template_type_list, 0);
	struct template_value strings = template_list_new(arena, &template_type_strings, 0);
	struct template_time time = {.seconds = 1600000000, .nanoseconds = 5, .zone = "UTC"};

	template_list_add(arena, &list, template_int(1));
	template_list_add(arena, &list, template_str("x"));
	template_list_add(arena, &list, template_nil());
	template_list_add(arena, &strings, template_str("y"));
	put(arena, &map, "i", template_int(-7));
	put(arena, &map, "f", template_float(2.5));
	put(arena, &map, "s", template_str("h\xc3\xa9\xff"));
	put(arena, &map, "t", template_bool(true));
	put(arena, &map, "n", template_nil());
	put(arena, &map, "l", list);
	put(arena, &map, "g", strings);
	put(arena, &map, "k", template_object(&sample_type, object));
	put(arena, &map, "p", template_object(&sample_pointer, object));
	put(arena, &map, "q", template_object(&sample_pointer, NULL));
	put(arena, &map, "c", (struct template_value){.type = &template_type_complex128, .complex = {1, 2}});
	put(arena, &map, "u", (struct template_value){.type = &template_type_uint8, .natural = 200});
	put(arena, &map, "d", template_time_value(arena, &time));
	put(arena, &map, "m", map);
	return map;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(template_freep) struct template *template = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT(1 << 18), error = BUF_INIT(1 << 16);
	_cleanup_(arena_done) struct arena arena;
	struct template_run run = {.arena = &arena, .max_memory = 16 << 20, .max_steps = 3000};

	arena_init(&arena);
	if (size > 4096)
		return 0;
	if (template_parse("x", slice_make(data, size), NULL, 0, &template, &error) < 0) {
		assert(error.len > 0);
		return 0;
	}
	if (template_execute(template, &run, sample_data(&arena), &out, &error) < 0)
		assert(error.len > 0);
	else
		assert(!error.len);
	return 0;
}
