/* TOML: what parses must be a tree whose texts lie within bounds; what does not must say in which line. */
#include "confd/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_values(const struct toml *value, unsigned depth)
{
	size_t count = 1;

	assert(depth <= 2 * TOML_DEPTH_MAX + 1000);
	assert(value->type < TOML_TYPE_MAX);
	if (value->type == TOML_STRING)
		assert(value->text.data[value->text.len] == '\0');
	for (const struct toml *item = value->first; item; item = item->next) {
		if (value->type == TOML_TABLE) {
			_cleanup_free_ char *name = mem_strndup(item->key.data, item->key.len);

			assert(memchr(name, '\0', item->key.len) || toml_get(value, name, false));
		}
		count += count_values(item, depth + 1);
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 16);
	_cleanup_(arena_done) struct arena arena;
	struct toml *root;

	if (size > 1 << 14)
		return 0;
	arena_init(&arena);
	if (toml_parse(slice_make(data, size), &arena, &root, &error) < 0) {
		assert(error.len > 5 && memcmp(error.data, "line ", 5) == 0);
		return 0;
	}
	assert(!error.len);
	assert(count_values(root, 0) >= 1);
	return 0;
}
