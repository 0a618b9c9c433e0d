/* The list of options: building it, printing it in its canonical form, hashing it. Texts live in the file's
 * arena. */
#include "unit/unit.h"
#include <errno.h>
#include <sha1.h>
#include <stdio.h>

static_assert(UNIT_HASH_SIZE == SHA1_DIGEST_LENGTH, "a unit's hash is a SHA-1");

struct unit_file *unit_file_new(void)
{
	struct unit_file *file = mem_new(struct unit_file);

	arena_init(&file->arena);
	return file;
}

struct unit_file *unit_file_free(struct unit_file *file)
{
	if (!file)
		return NULL;
	arena_done(&file->arena);
	free(file->options);
	return mem_free(file);
}

static struct slice file_copy(struct unit_file *file, struct slice text)
{
	return slice_make(arena_strndup(&file->arena, text.len ? text.data : "", text.len), text.len);
}

int unit_file_add(struct unit_file *file, struct slice section, struct slice name, struct slice value)
{
	struct unit_option *option;

	if (file->count >= UNIT_OPTIONS_MAX)
		return -E2BIG;
	if (file->count == file->cap) {
		file->cap = file->cap ? file->cap * 2 : 16;
		file->options = mem_reallocarray(file->options, file->cap, sizeof(*file->options));
	}
	option = &file->options[file->count];
	/* Neighbours mostly share their section: keep one copy of its name. */
	if (file->count && slice_equal(option[-1].section, section))
		option->section = option[-1].section;
	else
		option->section = file_copy(file, section);
	option->name = file_copy(file, name);
	option->value = file_copy(file, value);
	option->line = 0;
	file->count++;
	return 0;
}

static bool file_has_section_before(const struct unit_file *file, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (slice_equal(file->options[i].section, file->options[index].section))
			return true;
	return false;
}

void unit_file_serialise(const struct unit_file *file, struct buf *out)
{
	bool first = true;

	for (size_t i = 0; i < file->count; i++) {
		struct slice section = file->options[i].section;

		if (i && slice_equal(section, file->options[i - 1].section))
			continue;
		if (file_has_section_before(file, i))
			continue;
		if (!first)
			buf_add_char(out, '\n');
		first = false;
		buf_add_char(out, '[');
		buf_add_slice(out, section);
		buf_add_str(out, "]\n");
		for (size_t j = i; j < file->count; j++) {
			if (!slice_equal(file->options[j].section, section))
				continue;
			buf_add_slice(out, file->options[j].name);
			buf_add_char(out, '=');
			buf_add_slice(out, file->options[j].value);
			buf_add_char(out, '\n');
		}
	}
}

void unit_file_hash(const struct unit_file *file, uint8_t ret_hash[static UNIT_HASH_SIZE])
{
	_cleanup_buf_ struct buf text = BUF_INIT(0); /* bounded by the options */
	SHA1_CTX sha1;

	unit_file_serialise(file, &text);
	SHA1Init(&sha1);
	SHA1Update(&sha1, (const uint8_t *)buf_text(&text), text.len);
	SHA1Final(ret_hash, &sha1);
}

void unit_hash_hex(const uint8_t hash[static UNIT_HASH_SIZE], char ret_hex[static UNIT_HASH_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < UNIT_HASH_SIZE; i++) {
		ret_hex[i * 2] = digits[hash[i] >> 4];
		ret_hex[i * 2 + 1] = digits[hash[i] & 15];
	}
	ret_hex[UNIT_HASH_HEX_SIZE - 1] = 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int unit_hash_from_hex(struct slice hex, uint8_t ret_hash[static UNIT_HASH_SIZE])
{
	uint8_t hash[UNIT_HASH_SIZE];

	if (hex.len != UNIT_HASH_SIZE * 2)
		return -EINVAL;
	for (size_t i = 0; i < UNIT_HASH_SIZE; i++) {
		int high = hex_digit(hex.data[i * 2]), low = hex_digit(hex.data[i * 2 + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		hash[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(ret_hash, hash, sizeof(hash));
	return 0;
}

const struct unit_option *unit_file_next(
	const struct unit_file *file, const char *section, const char *name, size_t *position)
{
	for (; *position < file->count; (*position)++) {
		const struct unit_option *option = &file->options[*position];

		if (slice_is(option->section, section) && (!name || slice_is(option->name, name))) {
			(*position)++;
			return option;
		}
	}
	return NULL;
}

struct slice unit_file_description(const struct unit_file *file)
{
	size_t position = 0;
	const struct unit_option *option = unit_file_next(file, "Unit", "Description", &position);

	return option ? option->value : SLICE_LITERAL("");
}

void unit_error_format(const struct unit_error *error, const char *path, struct buf *out)
{
	if (error->line)
		buf_printf(out, "%s:%u: %s", path, error->line, error->text);
	else
		buf_printf(out, "%s: %s", path, error->text);
}
