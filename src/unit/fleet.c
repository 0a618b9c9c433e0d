/* [X-Fleet]: what a unit demands of its machine. Values of a key are those of all its lines in order; a line
 * that begins and ends in a double quote holds several. The legacy names are read before the new ones, as
 * fleet pools them. */
#include "unit/unit.h"
#include "base/text.h"
#include "unit/runes.h"
#include <errno.h>
#include <stdio.h>
#include <strings.h>

static const char *const known_keys[] = {"MachineID", "X-ConditionMachineID", "X-ConditionMachineBootID",
	"MachineOf", "X-ConditionMachineOf", "Conflicts", "X-Conflicts", "MachineMetadata",
	"X-ConditionMachineMetadata", "Global", "Replaces", NULL};

typedef void (*value_fn)(struct unit_requirements *requirements, struct slice value);

static void slices_add(struct unit_slices *slices, struct slice item)
{
	if (slices->count == slices->cap) {
		slices->cap = slices->cap ? slices->cap * 2 : 4;
		slices->items = mem_reallocarray(slices->items, slices->cap, sizeof(*slices->items));
	}
	slices->items[slices->count++] = item;
}

void unit_slices_done(struct unit_slices *slices)
{
	free(slices->items);
	*slices = (struct unit_slices){0};
}

static void emit(struct unit_requirements *requirements, const struct unit_name *name, struct slice value,
	value_fn each)
{
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX);

	if (name)
		unit_name_expand(name, value, &text);
	else
		buf_add_slice(&text, value);
	each(requirements,
		slice_make(arena_strndup(&requirements->arena, buf_text(&text), text.len), text.len));
}

static void emit_line(struct unit_requirements *requirements, const struct unit_name *name, struct slice line,
	value_fn each)
{
	_cleanup_buf_ struct buf word = BUF_INIT(UNIT_TEXT_MAX);
	bool quoted = false;

	if (!line.len || line.data[0] != '"' || line.data[line.len - 1] != '"') {
		emit(requirements, name, line, each);
		return;
	}
	for (size_t i = 0; i < line.len; i++) {
		if (line.data[i] == '"') {
			quoted = !quoted;
		} else if (line.data[i] == ' ' && !quoted) {
			emit(requirements, name, buf_slice(&word), each);
			buf_clear(&word);
		} else {
			buf_add_char(&word, line.data[i]);
		}
	}
	emit(requirements, name, buf_slice(&word), each);
}

static void each_value(struct unit_requirements *requirements, const struct unit_file *file,
	const struct unit_name *name, const char *key, value_fn each)
{
	const struct unit_option *option;
	size_t position = 0;

	while ((option = unit_file_next(file, "X-Fleet", key, &position)))
		emit_line(requirements, name, option->value, each);
}

static void add_machine_id(struct unit_requirements *requirements, struct slice value)
{
	if (requirements->has_machine_id)
		return;
	requirements->has_machine_id = true;
	requirements->machine_id = value;
}

static void add_machine_of(struct unit_requirements *requirements, struct slice value)
{
	slices_add(&requirements->machine_of, value);
}

static void add_conflicts(struct unit_requirements *requirements, struct slice value)
{
	size_t start = 0, at = 0;
	uint32_t rune;

	while (at < value.len) {
		size_t size = rune_decode(slice_make(value.data + at, value.len - at), &rune);

		if (rune_is_space(rune)) {
			if (at > start)
				slices_add(
					&requirements->conflicts, slice_make(value.data + start, at - start));
			start = at + size;
		}
		at += size;
	}
	if (at > start)
		slices_add(&requirements->conflicts, slice_make(value.data + start, at - start));
}

static void add_replaces(struct unit_requirements *requirements, struct slice value)
{
	slices_add(&requirements->replaces, value);
}

static void add_metadata(struct unit_requirements *requirements, struct slice value)
{
	struct slice key, rest;

	if (!text_cut(value, '=', &key, &rest) || !key.len || !rest.len || memchr(rest.data, '=', rest.len)) {
		if (value.len)
			slices_add(&requirements->odd_metadata, value); /* fleet drops it without a word */
		return;
	}
	if (requirements->metadata_count == requirements->metadata_cap) {
		requirements->metadata_cap = requirements->metadata_cap ? requirements->metadata_cap * 2 : 4;
		requirements->metadata = mem_reallocarray(
			requirements->metadata, requirements->metadata_cap, sizeof(*requirements->metadata));
	}
	requirements->metadata[requirements->metadata_count++] = (struct unit_metadata){key, rest};
}

static void set_global(struct unit_requirements *requirements, struct slice value)
{
	static const char *const no[] = {"false", "no", "0", "off", "f"};
	bool known = unit_bool_is_true(value) || !value.len;

	requirements->global = known && value.len;
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		known = known ||
			(value.len == strlen(no[i]) && strncasecmp(value.data, no[i], value.len) == 0);
	if (!known)
		slices_add(&requirements->odd_global, value);
}

void unit_requirements_read(const struct unit_file *file, struct slice name, struct unit_requirements *ret)
{
	static const struct {
		const char *key;
		value_fn each;
	} rows[] = {
		{"MachineID", add_machine_id},
		{"X-ConditionMachineID", add_machine_id},
		{"X-ConditionMachineBootID", add_machine_id},
		{"X-ConditionMachineOf", add_machine_of},
		{"MachineOf", add_machine_of},
		{"X-Conflicts", add_conflicts},
		{"Conflicts", add_conflicts},
		{"Replaces", add_replaces},
		{"X-ConditionMachineMetadata", add_metadata},
		{"MachineMetadata", add_metadata},
		{"Global", set_global},
	};
	struct unit_name parts;
	bool expand = unit_name_parse(name, &parts) == 0;

	*ret = (struct unit_requirements){0};
	arena_init(&ret->arena);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		each_value(ret, file, expand ? &parts : NULL, rows[i].key, rows[i].each);
}

void unit_requirements_done(struct unit_requirements *requirements)
{
	unit_slices_done(&requirements->machine_of);
	unit_slices_done(&requirements->conflicts);
	unit_slices_done(&requirements->replaces);
	unit_slices_done(&requirements->odd_metadata);
	unit_slices_done(&requirements->odd_global);
	free(requirements->metadata);
	arena_done(&requirements->arena);
	*requirements = (struct unit_requirements){0};
}

static int fail_pair(struct unit_error *reterr, struct slice peer, const char *kind, struct slice pattern)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	buf_add_str(&text, "unresolvable requirements: peer ");
	text_add_quoted(&text, slice_make(peer.data, MIN(peer.len, (size_t)UNIT_NAME_MAX)));
	buf_printf(&text, " matches %s ", kind);
	text_add_quoted(&text, slice_make(pattern.data, MIN(pattern.len, (size_t)UNIT_NAME_MAX)));
	(void)snprintf(reterr->text, sizeof(reterr->text), "%s", buf_text(&text));
	return -EINVAL;
}

static int check_peers(const struct unit_slices *peers, const struct unit_slices *patterns, const char *kind,
	struct unit_error *reterr)
{
	for (size_t i = 0; i < peers->count; i++)
		for (size_t j = 0; j < patterns->count; j++)
			if (unit_glob_match(patterns->items[j], peers->items[i]))
				return fail_pair(reterr, peers->items[i], kind, patterns->items[j]);
	return 0;
}

/* fleet checks all conflicts of one peer, then its replaces, then the next peer. */
static int check_all_peers(const struct unit_requirements *requirements, struct unit_error *reterr)
{
	for (size_t i = 0; i < requirements->machine_of.count; i++) {
		struct unit_slices peer = {.items = &requirements->machine_of.items[i], .count = 1};
		int r = check_peers(&peer, &requirements->conflicts, "conflict", reterr);

		if (r == 0)
			r = check_peers(&peer, &requirements->replaces, "replace", reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

int unit_file_validate(const struct unit_file *file, struct unit_error *reterr)
{
	_cleanup_(unit_file_freep) struct unit_file *again = NULL;
	_cleanup_(unit_requirements_done) struct unit_requirements requirements = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	struct unit_error unused;
	int r;

	reterr = reterr ? reterr : &unused;
	unit_file_serialise(file, &text);
	r = unit_file_parse(buf_slice(&text), &again, reterr);
	if (r < 0)
		return r;
	reterr->line = 0;
	unit_requirements_read(file, SLICE_LITERAL(""), &requirements);
	r = check_all_peers(&requirements, reterr);
	if (r < 0)
		return r;

	bool id = requirements.has_machine_id, peers = requirements.machine_of.count;
	bool conflicts = requirements.conflicts.count, replaces = requirements.replaces.count;
	const struct {
		bool both;
		const char *text;
	} rows[] = {
		{id && peers, "MachineID cannot be used with Peers"},
		{id && conflicts, "MachineID cannot be used with Conflicts"},
		{id && requirements.global, "MachineID cannot be used with Global"},
		{id && replaces, "MachineID cannot be used with Replaces"},
		{requirements.global && peers, "Global cannot be used with Peers"},
		{requirements.global && replaces, "Global cannot be used with Replaces"},
		{conflicts && replaces, "Conflicts cannot be used with Replaces"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!rows[i].both)
			continue;
		(void)snprintf(reterr->text, sizeof(reterr->text), "%s", rows[i].text);
		return -EINVAL;
	}
	return 0;
}

size_t unit_file_unknown_fleet_keys(const struct unit_file *file, struct unit_slices *ret_keys)
{
	const struct unit_option *option;
	struct unit_slices keys = {0};
	size_t position = 0;

	while ((option = unit_file_next(file, "X-Fleet", NULL, &position))) {
		bool known = false;

		for (size_t i = 0; known_keys[i] && !known; i++)
			known = slice_is(option->name, known_keys[i]);
		for (size_t i = 0; i < keys.count && !known; i++)
			known = slice_equal(option->name, keys.items[i]);
		if (!known)
			slices_add(&keys, option->name);
	}
	*ret_keys = keys;
	return keys.count;
}

bool unit_glob_match(struct slice pattern, struct slice name)
{
	return text_path_match(pattern, name) > 0;
}

bool unit_machine_id_match(struct slice wanted, struct slice id)
{
	if (slice_equal(wanted, id))
		return true;
	return wanted.len == 8 && slice_starts_with(id, wanted);
}

bool unit_metadata_match(const struct unit_requirements *requirements,
	struct slice (*get)(void *userdata, struct slice key), void *userdata)
{
	for (size_t i = 0; i < requirements->metadata_count; i++) {
		struct slice key = requirements->metadata[i].key, have = get(userdata, key);
		bool found = false;

		if (!have.data)
			return false;
		for (size_t j = 0; j < requirements->metadata_count && !found; j++)
			found = slice_equal(requirements->metadata[j].key, key) &&
				slice_equal(requirements->metadata[j].value, have);
		if (!found)
			return false;
	}
	return true;
}

bool unit_bool_is_true(struct slice value)
{
	static const char *const words[] = {"true", "yes", "1", "on", "t"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (value.len == strlen(words[i]) && strncasecmp(value.data, words[i], value.len) == 0)
			return true;
	return false;
}
