/* The registry as the checks see it: every key, and what the rules say of it, by an oracle of its own. */
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

void model_init(struct world *w)
{
	map_init(&w->keys, 0);
	for (unsigned i = 0; i < w->profile.units; i++) {
		bool global = i == 1 || i == 7;

		(void)snprintf(
			w->units[i].name, sizeof(w->units[i].name), "%c%u.service", global ? 'g' : 'u', i);
	}
}

void model_done(struct world *w)
{
	size_t position = 0;
	void *value;

	while (map_next(&w->keys, &position, NULL, &value))
		free(value);
	map_done(&w->keys);
}

const char *model_get(const struct world *w, const char *format, ...)
{
	char path[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	return map_get(&w->keys, slice_str(path));
}

struct model_unit *model_unit(struct world *w, const char *name)
{
	for (unsigned i = 0; i < w->profile.units; i++)
		if (strcmp(w->units[i].name, name) == 0)
			return &w->units[i];
	return NULL;
}

struct host *model_host(struct world *w, const char *id)
{
	for (unsigned i = 0; i < w->profile.hosts; i++)
		if (strcmp(w->hosts[i].id, id) == 0)
			return &w->hosts[i];
	return NULL;
}

static void unit_changed(struct world *w, struct model_unit *unit)
{
	const char *object = model_get(w, "job/%s/object", unit->name);
	const char *desired = model_get(w, "job/%s/target-state", unit->name);
	const char *target = model_get(w, "job/%s/target", unit->name);
	const struct model_unit before = *unit;

	unit->hash[0] = '\0';
	if (object)
		(void)!registry_decode_job(slice_str(object), unit->hash);
	unit->has_desired = desired != NULL;
	unit->desired = desired ? registry_state_from_name(slice_str(desired)) : REGISTRY_INACTIVE;
	(void)snprintf(unit->target, sizeof(unit->target), "%s", target ? target : "");
	if (strcmp(unit->hash, before.hash) != 0 || unit->has_desired != before.has_desired ||
		unit->desired != before.desired)
		unit->born_ns = w->now_ns;
}

static void entry_changed(struct world *w, const char *path, const char *before, const char *after)
{
	char id[64], name[64];
	struct model_unit *unit;
	struct host *host;

	if (sscanf(path, "assigned/%63[^/]/%63s", id, name) != 2)
		return;
	unit = model_unit(w, name);
	host = model_host(w, id);
	if (unit && host)
		check_entry(w, unit, host, before, after);
}

/* Forgets the key; the last word on it is the checks'. */
static void forget(struct world *w, struct slice key, const char *after)
{
	_cleanup_free_ char *path = mem_strndup(key.data, key.len);
	_cleanup_free_ char *before = map_remove(&w->keys, key);

	entry_changed(w, path, before, after);
}

static bool is_below(struct slice path, struct slice dir)
{
	return slice_starts_with(path, dir) && path.len > dir.len && path.data[dir.len] == '/';
}

void model_event(struct world *w, const char *path, const char *value)
{
	char name[64] = "";
	struct model_unit *unit;
	size_t position = 0;
	struct slice key;

	forget(w, slice_str(path), value);
	if (value) {
		map_put(&w->keys, slice_str(path), mem_strdup(value));
	} else {
		while (map_next(&w->keys, &position, &key, NULL))
			if (is_below(key, slice_str(path)))
				forget(w, key, NULL);
	}
	if (strncmp(path, "machines", 8) == 0)
		w->plans_changed = true;
	if (strncmp(path, "job/", 4) != 0)
		return;
	w->plans_changed = true;
	(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(path + 4, "/"), path + 4);
	unit = model_unit(w, name);
	if (unit)
		unit_changed(w, unit);
}

/* ---- the rules ---- */

bool model_present(const struct world *w, const struct host *host)
{
	const char *object = model_get(w, "machines/%s/object", host->id);

	return object && strstr(object, host->id); /* else a stranger has spoilt it */
}

bool model_describes(const struct world *w, const struct host *host)
{
	_cleanup_free_ char *want =
		mem_printf("\"Metadata\":{\"disk\":\"%s\",\"zone\":\"%s\"}", host->disk, host->zone);

	return strstr(model_get(w, "machines/%s/object", host->id), want) != NULL;
}

static const struct text *text_of(const struct world *w, const struct model_unit *unit)
{
	return unit->hash[0] ? text_find(w, unit->hash) : NULL;
}

bool model_wants(const struct model_unit *unit)
{
	return unit->hash[0] && unit->has_desired && unit->desired != REGISTRY_INACTIVE;
}

static bool metadata_is(const struct world *w, const struct host *host, const char *name, const char *value)
{
	const char *dynamic = model_get(w, "machines/%s/metadata/%s", host->id, name);
	_cleanup_free_ char *want = mem_printf("\"%s\":\"%s\"", name, value);

	if (dynamic)
		return strcmp(dynamic, value) == 0;
	return strstr(model_get(w, "machines/%s/object", host->id), want) != NULL;
}

static bool names(const char *pattern, const char *name)
{
	return pattern[0] && fnmatch(pattern, name, 0) == 0;
}

bool process_conflicts(const struct process *process, const struct process *other)
{
	return process != other &&
	       (names(process->text->conflicts, other->name) || names(other->text->conflicts, process->name));
}

/* Whether the unit replaces the other one, or one that does, or one that one does. */
static bool leads_to(
	struct world *w, const struct model_unit *unit, const struct model_unit *other, unsigned depth)
{
	const struct text *text = text_of(w, unit);

	if (!text || !text->replaces[0] || depth > w->profile.units)
		return false;
	if (names(text->replaces, other->name))
		return true;
	for (unsigned i = 0; i < w->profile.units; i++)
		if (names(text->replaces, w->units[i].name) && leads_to(w, &w->units[i], other, depth + 1))
			return true;
	return false;
}

static bool needs(
	struct world *w, const struct model_unit *unit, const struct model_unit *other, unsigned depth)
{
	const struct text *text = text_of(w, unit);
	const struct model_unit *peer = text && text->machine_of[0] ? model_unit(w, text->machine_of) : NULL;

	return peer && depth <= w->profile.units && (peer == other || needs(w, peer, other, depth + 1));
}

/* Replaces does not count in a circle, nor for what the unit needs. */
static bool replaces(struct world *w, const struct model_unit *unit, const struct model_unit *other)
{
	const struct text *text = text_of(w, unit);

	return unit != other && names(text->replaces, other->name) && !leads_to(w, other, unit, 0) &&
	       !needs(w, unit, other, 0);
}

static bool rule_each_other_out(
	struct world *w, const struct model_unit *unit, const struct model_unit *other)
{
	return names(text_of(w, unit)->conflicts, other->name) ||
	       names(text_of(w, other)->conflicts, unit->name);
}

/* A global unit is in the way where it runs: of one that is to be placed, and of a global one whose name
 * sorts behind its own. */
static bool global_forbids(struct world *w, const struct model_unit *global, const struct model_unit *unit,
	const struct host *host)
{
	return (!text_of(w, unit)->global || strcmp(global->name, unit->name) < 0) &&
	       rule_each_other_out(w, unit, global) && model_is_here(w, global, host);
}

const char *model_machine_forbids(struct world *w, const struct model_unit *unit, const struct host *host)
{
	const struct text *text = text_of(w, unit);

	if (!text)
		return "no text";
	if (!model_present(w, host))
		return "not present";
	if (text->machine_id >= 0 && text->machine_id != (int)host->number)
		return "MachineID";
	if ((text->disk && !metadata_is(w, host, "disk", text->disk)) ||
		(text->zone && !metadata_is(w, host, "zone", text->zone)))
		return "MachineMetadata";
	return NULL;
}

const char *model_forbids(struct world *w, const struct model_unit *unit, const struct host *host)
{
	const struct text *text = text_of(w, unit);
	const char *why = model_machine_forbids(w, unit, host);

	if (why)
		return why;
	if (text->machine_of[0]) {
		const struct model_unit *peer = model_unit(w, text->machine_of);

		if (!peer || !model_wants(peer) || strcmp(peer->target, host->id) != 0)
			return "MachineOf";
	}
	for (unsigned i = 0; i < w->profile.units; i++) {
		const struct model_unit *other = &w->units[i];
		const struct text *its = text_of(w, other);

		if (other == unit || !its || !model_wants(other))
			continue;
		if (its->global && global_forbids(w, other, unit, host))
			return "Conflicts";
		if (its->global || strcmp(other->target, host->id) != 0)
			continue;
		if (rule_each_other_out(w, unit, other))
			return "Conflicts";
		if (replaces(w, other, unit))
			return "Replaces";
	}
	return NULL;
}

static bool may_leave(struct world *w, const struct model_unit *unit, const struct host *host, unsigned depth)
{
	const struct text *text = text_of(w, unit);
	const struct model_unit *peer;

	if (!text || !model_wants(unit) || model_forbids(w, unit, host))
		return true;
	peer = text->machine_of[0] ? model_unit(w, text->machine_of) : NULL;
	if (peer && depth < UNITS_MAX && may_leave(w, peer, host, depth + 1))
		return true;
	for (unsigned i = 0; i < w->profile.units; i++) {
		const struct text *its = text_of(w, &w->units[i]);

		/* It was placed before it was changed so that they conflict. */
		if (text->global && its && !its->global && model_wants(&w->units[i]) &&
			rule_each_other_out(w, unit, &w->units[i]) &&
			w->now_ns - w->units[i].born_ns < NS_PER_S)
			return true;
		/* One that waits for its place. */
		if (its && model_wants(&w->units[i]) && strcmp(w->units[i].target, host->id) != 0 &&
			names(its->replaces, unit->name))
			return true;
	}
	return false;
}

bool model_may_leave(struct world *w, const struct model_unit *unit, const struct host *host)
{
	return may_leave(w, unit, host, 0);
}

bool model_is_here(struct world *w, const struct model_unit *unit, const struct host *host)
{
	const struct text *text = text_of(w, unit);

	if (!text || !model_wants(unit))
		return false;
	return text->global ? !model_forbids(w, unit, host) : strcmp(unit->target, host->id) == 0;
}
