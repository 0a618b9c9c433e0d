/* The texts of units, filed under their hashes, and which units refer to each: one whose text comes late is
 * found at once, however many there are. */
#include <stdlib.h>
#include <string.h>

#include "fleet/cluster_internal.h"

static struct cluster_text *text_entry(struct cluster *c, const char *hash)
{
	struct cluster_text *text = map_get(&c->texts, slice_str(hash));

	if (text)
		return text;
	text = mem_new(struct cluster_text);
	memcpy(text->hash, hash, sizeof(text->hash));
	list_init(&text->users);
	map_put(&c->texts, slice_str(hash), text);
	return text;
}

static void text_forget(struct cluster_text *text)
{
	text->file = unit_file_free(text->file);
	text->raw = mem_free(text->raw);
	text->raw_len = 0;
	text->sound = false;
}

static void text_free(struct cluster_text *text)
{
	while (!list_empty(&text->users)) {
		struct cluster_unit *unit = list_first(&text->users, struct cluster_unit, text_link);

		list_remove(&unit->text_link);
		unit->text = NULL;
	}
	text_forget(text);
	free(text);
}

/* A text that a unit refers to is kept, whatever the store says: it may be the last copy. */
static void text_drop_if_unused(struct cluster *c, struct cluster_text *text)
{
	if (text->stored || !list_empty(&text->users))
		return;
	map_remove(&c->texts, slice_str(text->hash));
	text_free(text);
}

void cluster_text_refer(struct cluster *c, struct cluster_unit *unit)
{
	struct cluster_text *old = unit->text;

	if (old && strcmp(old->hash, unit->hash) == 0)
		return;
	list_remove(&unit->text_link);
	unit->text = unit->hash[0] ? text_entry(c, unit->hash) : NULL;
	if (unit->text)
		list_push_back(&unit->text->users, &unit->text_link);
	if (old)
		text_drop_if_unused(c, old);
}

/* Takes `raw`. Whether it is what the text is from now on; ret_sound: its hash is the text's. */
static bool text_read(struct cluster_text *text, char *raw, size_t raw_len, bool *ret_sound)
{
	struct unit_file *file;
	uint8_t hash[UNIT_HASH_SIZE];
	char hex[UNIT_HASH_HEX_SIZE];
	bool sound = false;

	*ret_sound = false;
	if (unit_file_parse(slice_make(raw, raw_len), &file, NULL) < 0) {
		file = NULL;
	} else {
		unit_file_hash(file, hash);
		unit_hash_hex(hash, hex);
		*ret_sound = sound = strcmp(hex, text->hash) == 0;
	}
	/* Named by its contents, it never changes; but what bears its name by mistake may be put right. */
	if (text->raw && (text->sound || !sound)) {
		unit_file_free(file);
		free(raw);
		return false;
	}
	text_forget(text);
	text->raw = raw;
	text->raw_len = raw_len;
	text->file = file;
	text->sound = sound;
	return true;
}

void cluster_text_set(struct cluster *c, struct slice hash, struct slice value, uint64_t index)
{
	uint8_t bytes[UNIT_HASH_SIZE];
	char hex[UNIT_HASH_HEX_SIZE], *raw = NULL;
	struct cluster_text *text;
	size_t raw_len = 0;
	bool sound = false, news = false;

	if (unit_hash_from_hex(hash, bytes) < 0)
		return;
	unit_hash_hex(bytes, hex);
	text = text_entry(c, hex);
	text->seen = c->generation;
	text->index = index;
	if (registry_decode_unit(value, &raw, &raw_len) == 0)
		news = text_read(text, raw, raw_len, &sound);
	/* What was written over a text that is known, and is another, is none. */
	text->overwritten = text->sound && !sound;
	text->stored = !text->overwritten;
	if (!news)
		return;
	list_for_each_safe (it, &text->users)
		cluster_unit_changed(c, list_item(it, struct cluster_unit, text_link));
}

/* The store does not have it (any more). */
static void text_lost(struct cluster *c, struct cluster_text *text)
{
	text->stored = text->overwritten = false;
	text_drop_if_unused(c, text);
}

void cluster_text_remove(struct cluster *c, struct slice hash)
{
	size_t position = 0;
	void *text = hash.len ? map_get(&c->texts, hash) : NULL;

	if (text)
		text_lost(c, text);
	while (!hash.len && map_next(&c->texts, &position, NULL, &text))
		text_lost(c, text);
}

void cluster_texts_end(struct cluster *c)
{
	size_t position = 0;
	void *value;

	while (map_next(&c->texts, &position, NULL, &value)) {
		struct cluster_text *text = value;

		if (text->seen != c->generation)
			text_lost(c, text);
	}
}

void cluster_texts_clear(struct cluster *c)
{
	size_t position = 0;
	void *value;

	while (map_next(&c->texts, &position, NULL, &value))
		text_free(value);
	map_done(&c->texts);
	map_init(&c->texts, 0);
}

/* ---- questions ---- */

const struct cluster_text *cluster_text(const struct cluster *c, const char *hash)
{
	const struct cluster_text *text = map_get(&c->texts, slice_str(hash));

	return text && text->raw ? text : NULL;
}

bool cluster_text_is_used(const struct cluster_text *text)
{
	return !list_empty(&text->users);
}

const struct cluster_text **cluster_texts(const struct cluster *c, size_t *ret_count)
{
	const struct cluster_text **texts = mem_new_array(const struct cluster_text *, c->texts.count + 1);
	size_t count = 0, position = 0;
	void *value;

	while (map_next(&c->texts, &position, NULL, &value))
		if (((struct cluster_text *)value)->raw)
			texts[count++] = value;
	*ret_count = count;
	return texts;
}
