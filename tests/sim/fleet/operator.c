/* The user: unit files by random rules, and what fleetctl and the API write for each wish, a step at a time.
 */
#include <stdio.h>
#include <string.h>

#include "world.h"

struct wish {
	struct world *world;
	char *paths[4], *values[4]; /* value NULL: deleted */
	bool create[4];
	unsigned count, next;
};

const struct text *text_find(const struct world *w, const char *hash)
{
	for (unsigned i = 0; i < w->text_count; i++)
		if (strcmp(w->texts[i].hash, hash) == 0)
			return &w->texts[i];
	return NULL;
}

static const struct text *text_new(struct world *w, struct text *text)
{
	static const char *const types[] = {"lasts", "ends", "crashes", "fails", "stops-slowly"};
	struct buf raw = BUF_INIT(UNIT_TEXT_MAX);
	struct unit_file *file;
	uint8_t hash[UNIT_HASH_SIZE];
	const struct text *known;

	buf_printf(&raw, "[Service]\nExecStart=/bin/%s\n\n[X-Fleet]\n", types[text->behaviour]);
	if (text->global)
		buf_add_str(&raw, "Global=true\n");
	if (text->machine_id >= 0)
		buf_printf(&raw, "MachineID=%s\n", w->hosts[text->machine_id].id);
	if (text->disk)
		buf_printf(&raw, "MachineMetadata=disk=%s\n", text->disk);
	if (text->zone)
		buf_printf(&raw, "MachineMetadata=zone=%s\n", text->zone);
	if (text->machine_of[0])
		buf_printf(&raw, "MachineOf=%s\n", text->machine_of);
	if (text->conflicts[0])
		buf_printf(&raw, "Conflicts=%s\n", text->conflicts);
	if (text->replaces[0])
		buf_printf(&raw, "Replaces=%s\n", text->replaces);
	if (unit_file_parse(buf_slice(&raw), &file, NULL) < 0)
		abort();
	unit_file_hash(file, hash);
	unit_hash_hex(hash, text->hash);
	buf_clear(&raw);
	unit_file_serialise(file, &raw);
	unit_file_free(file);
	known = text_find(w, text->hash);
	if (known || w->text_count == TEXTS_MAX) {
		buf_done(&raw);
		return known;
	}
	text->raw = buf_take(&raw, NULL);
	w->texts[w->text_count] = *text;
	return &w->texts[w->text_count++];
}

static const struct text *random_text(struct world *w, const char *name)
{
	static const char *const disks[] = {"ssd", "hdd"}, *const zones[] = {"a", "b"};
	struct text text = {.machine_id = -1,
		.global = name[0] == 'g',
		.behaviour = (enum behaviour)(
			world_chance(w, 600000) ? UNIT_LASTS : world_rand(w, UNIT_BEHAVIOURS))};
	const char *other = w->units[world_rand(w, w->profile.units)].name;

	if (world_chance(w, 250000))
		text.disk = disks[world_rand(w, 2)];
	if (world_chance(w, 150000))
		text.zone = zones[world_rand(w, 2)];
	if (text.global || other[0] == 'g') {
		if (strcmp(other, name) != 0 && world_chance(w, 250000))
			(void)snprintf(text.conflicts, sizeof(text.conflicts), "%s", other);
		return text_new(w, &text);
	}
	if (world_chance(w, 80000) && !text.disk && !text.zone)
		text.machine_id = (int)world_rand(w, w->profile.hosts);
	if (strcmp(other, name) != 0) {
		char *field = world_chance(w, 150000)	? text.machine_of
			      : world_chance(w, 250000) ? text.conflicts
			      : world_chance(w, 100000) ? text.replaces
							: NULL;

		if (field == text.machine_of && text.machine_id >= 0)
			field = text.conflicts;
		if (field)
			(void)snprintf(field, sizeof(text.conflicts), "%s", other);
		if (field == text.conflicts && world_chance(w, 300000))
			(void)snprintf(
				field, sizeof(text.conflicts), "u[0-%d].service", (int)world_rand(w, 4));
	}
	return text_new(w, &text);
}

/* ---- what is asked for ---- */

static void wish_free(void *data)
{
	struct wish *wish = data;

	for (unsigned i = 0; i < wish->count; i++) {
		free(wish->paths[i]);
		free(wish->values[i]);
	}
	free(wish);
}

static void wish_step(void *data)
{
	struct wish *wish = data;
	struct world *w = wish->world;
	unsigned i = wish->next++;

	if (w->stage != STAGE_BUSY || !server_write(w, wish->paths[i], wish->values[i], wish->create[i]) ||
		wish->next == wish->count) {
		wish_free(wish);
		return;
	}
	if (world_chance(w, w->profile.client_left)) {
		w->summary->faults[FAULT_CLIENT_LEFT]++;
		wish_free(wish);
		return;
	}
	world_at(w, w->now_ns + world_rand(w, world_chance(w, 100000) ? 2 * NS_PER_S : 10 * NS_PER_MS), NULL,
		wish_step, wish, NULL)
		->drop = wish_free;
}

static void wish_add(struct wish *wish, char *path, char *value, bool create)
{
	wish->paths[wish->count] = path;
	wish->values[wish->count] = value;
	wish->create[wish->count++] = create;
}

static void log_text(struct world *w, const char *name, const struct text *text)
{
	world_log(w, "user: %s on machine %d, disk %s, zone %s, of %s, conflicts %s, replaces %s", name,
		text->machine_id, text->disk ? text->disk : "-", text->zone ? text->zone : "-",
		text->machine_of, text->conflicts, text->replaces);
}

static void wish_submit(struct wish *wish, const char *name, const struct text *text)
{
	struct buf unit = BUF_INIT(UNIT_TEXT_MAX), job = BUF_INIT(8192);
	uint8_t hash[UNIT_HASH_SIZE];

	(void)!unit_hash_from_hex(slice_str(text->hash), hash);
	registry_encode_unit(&unit, slice_str(text->raw));
	registry_encode_job(&job, name, hash);
	log_text(wish->world, name, text);
	wish_add(wish, mem_printf("unit/%s", text->hash), buf_take(&unit, NULL), true);
	wish_add(wish, mem_printf("job/%s/object", name), buf_take(&job, NULL), false);
}

static void wish_state(struct wish *wish, const char *name, enum registry_state state)
{
	wish_add(
		wish, mem_printf("job/%s/target-state", name), mem_strdup(registry_state_name(state)), false);
}

static void wish_machine(struct world *w, struct wish *wish, enum act act)
{
	static const char *const values[] = {"ssd", "hdd"};
	struct host *host = &w->hosts[world_rand(w, w->profile.hosts)];

	if (act == ACT_METADATA_FILE) {
		host->disk = values[world_rand(w, 2)];
		host_describe(host);
	} else if (world_chance(w, 500000)) {
		wish_add(wish, mem_printf("machines/%s/metadata/disk", host->id),
			mem_strdup(values[world_rand(w, 2)]), false);
	} else {
		wish_add(wish, mem_printf("machines/%s/metadata/disk", host->id), NULL, false);
	}
}

static enum act choose_act(struct world *w, const struct model_unit *unit)
{
	if (world_chance(w, 60000))
		return world_chance(w, 500000) ? ACT_METADATA_FILE : ACT_METADATA_API;
	if (!unit->hash[0] || !unit->has_desired)
		return ACT_SUBMIT;
	switch (world_rand(w, 6)) {
	case 0:
	case 1:
		return ACT_START;
	case 2:
		return ACT_STOP;
	case 3:
		return ACT_UNLOAD;
	case 4:
		return ACT_REPLACE;
	default:
		return ACT_DESTROY;
	}
}

static void act(void *data)
{
	struct world *w = data;
	const struct model_unit *unit = &w->units[world_rand(w, w->profile.units)];
	enum act act_kind = choose_act(w, unit);
	const struct text *text = random_text(w, unit->name);
	struct wish *wish;

	if (w->stage != STAGE_BUSY)
		return;
	wish = mem_new(struct wish);
	wish->world = w;
	w->summary->acts[act_kind]++;
	world_log(w, "user: %s %s", act_kind >= ACT_METADATA_FILE ? "" : unit->name, act_names[act_kind]);
	switch (act_kind) {
	case ACT_REPLACE:
	case ACT_DESTROY:
		wish_add(wish, mem_printf("job/%s", unit->name), NULL, false);
		if (act_kind == ACT_DESTROY)
			break;
		/* fall through */
	case ACT_SUBMIT:
		if (text)
			wish_submit(wish, unit->name, text);
		if (text)
			wish_state(wish, unit->name,
				world_chance(w, 700000) ? REGISTRY_LAUNCHED : REGISTRY_INACTIVE);
		break;
	case ACT_START:
		wish_state(wish, unit->name, REGISTRY_LAUNCHED);
		break;
	case ACT_STOP:
		wish_state(wish, unit->name, REGISTRY_LOADED);
		break;
	case ACT_UNLOAD:
		wish_state(wish, unit->name, REGISTRY_INACTIVE);
		break;
	case ACT_METADATA_FILE:
	case ACT_METADATA_API:
		wish_machine(w, wish, act_kind);
		break;
	case ACT_MAX:
		break;
	}
	if (wish->count)
		wish_step(wish);
	else
		wish_free(wish);
	world_at(w, w->now_ns + world_rand(w, 2 * w->profile.act_ns), NULL, act, w, NULL);
}

void operator_begin(struct world *w)
{
	act(w);
}
