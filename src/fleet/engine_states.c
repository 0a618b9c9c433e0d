/* States and heartbeats live as long as the presence of the machine that wrote them. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "fleet/engine_internal.h"

#define ENGINE_SILENT_MS 10000	     /* what is missing for so long has got lost */
#define ENGINE_SILENT_PAUSE_MS 60000 /* between two questions to one machine */

static void swept_done(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	struct engine *e = userdata;

	(void)response; /* what failed is met again in the next round */
	map_remove(&e->swept, slice_str(op->name));
}

/* Compared by index: a machine that is back has written it again. */
static void sweep_key(struct engine *e, const char *path, uint64_t index)
{
	_cleanup_free_ char *key = mem_printf("%s/%s", e->prefix, path);
	struct engine_op op = {.write = ENGINE_WRITE_DELETE,
		.key = key,
		.prev_index = index,
		.name = path,
		.done = swept_done,
		.userdata = e};

	if (!index || map_get(&e->swept, slice_str(path)))
		return;
	map_put(&e->swept, slice_str(path), e);
	engine_writer_add(e->writer, &op);
}

void engine_sweep_states(struct engine *e)
{
	const struct cluster *c = e->config.cluster;
	size_t count;
	_cleanup_free_ const struct cluster_unit **units = cluster_entries(c, &count);

	for (size_t i = 0; i < count; i++) {
		const struct cluster_unit *unit = units[i];

		for (size_t k = 0; k < unit->state_count; k++) {
			const char *machine = unit->states[k].state.machine;
			_cleanup_free_ char *path = NULL;

			if (cluster_machine(c, machine))
				continue;
			path = mem_printf("states/%s/%s", unit->name, machine);
			sweep_key(e, path, unit->states[k].index);
		}
		if (unit->heartbeat && !cluster_machine(c, unit->heartbeat)) {
			_cleanup_free_ char *path = mem_printf("job/%s/job-state", unit->name);

			sweep_key(e, path, unit->heartbeat_index);
		}
	}
}

void engine_states_changed(struct engine *e, const char *name)
{
	const struct cluster_unit *unit = cluster_entry(e->config.cluster, name);

	if (e->leads && (!unit || !unit->hash[0]))
		map_put(&e->bare, slice_str(name), e);
}

/* Directories stay when the last key in them is deleted. Who creates one in the same moment loses nothing:
 * only an empty one is removed. */
void engine_sweep_bare(struct engine *e)
{
	size_t position = 0;
	struct slice name;

	while (map_next(&e->bare, &position, &name, NULL)) {
		_cleanup_free_ char *text = mem_strndup(name.data, name.len);
		const struct cluster_unit *unit = cluster_entry(e->config.cluster, text);
		_cleanup_free_ char *states = mem_printf("%s/states/%s", e->prefix, text);
		_cleanup_free_ char *job = mem_printf("%s/job/%s", e->prefix, text);
		struct engine_op op = {.write = ENGINE_WRITE_DELETE_EMPTY, .key = states};

		if (unit && (unit->state_count || unit->heartbeat || unit->hash[0]))
			continue;
		engine_writer_add(e->writer, &op);
		op.key = job;
		engine_writer_add(e->writer, &op);
	}
	map_done(&e->bare);
	map_init(&e->bare, 0);
}

static void lasting_done(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	struct engine *e = userdata;

	e->lasting_busy = false;
	if (response->outcome == ETCD_OK)
		e->lasting_seen = op->write == ENGINE_WRITE_SET;
	else
		engine_retry_run(e, ENGINE_RETRY_MS);
	e->machines_changed = true; /* they may have changed meanwhile */
}

/* A fleet 1.0 would not remove what lasts. */
void engine_announce_lasting(struct engine *e)
{
	_cleanup_free_ char *key = mem_printf("%s/lease/states", e->prefix);
	struct engine_op op = {.key = key, .value = "lasting", .done = lasting_done, .userdata = e};
	bool lasting = true;
	size_t count;
	_cleanup_free_ const struct cluster_machine **machines = cluster_machines(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++)
		lasting = lasting && engine_machine_is_ours(e, machines[i]->id);
	if (lasting == e->lasting_seen || e->lasting_busy)
		return;
	e->lasting_busy = true;
	op.write = lasting ? ENGINE_WRITE_SET : ENGINE_WRITE_DELETE;
	engine_writer_add(e->writer, &op);
}

/* Somebody has removed their keys: the epoch written anew asks for them. */
void engine_ask_silent(struct engine *e)
{
	const struct cluster *c = e->config.cluster;
	uint64_t now = engine_now_ms(e);
	struct map before = e->silent;
	size_t count, position = 0;
	_cleanup_free_ const struct cluster_unit **units = cluster_entries(c, &count);
	struct slice id;
	void *since;

	map_init(&e->silent, 0);
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < units[i]->assignment_count; k++) {
			const char *machine = units[i]->assignments[k].machine;

			if (!cluster_machine(c, machine) || cluster_unit_state(units[i], machine) ||
				map_get(&e->silent, slice_str(machine)))
				continue;
			since = map_get(&before, slice_str(machine));
			map_put(&e->silent, slice_str(cluster_machine(c, machine)->id),
				since ? since : (void *)(uintptr_t)now);
		}
	}
	map_done(&before);
	while (map_next(&e->silent, &position, &id, &since)) {
		if (now < (uintptr_t)since + ENGINE_SILENT_MS)
			continue;
		_cleanup_free_ char *machine = mem_strndup(id.data, id.len);
		map_put(&e->silent, id, (void *)(uintptr_t)(now + ENGINE_SILENT_PAUSE_MS));
		map_remove(&e->epochs, id);
		engine_epoch_write(e, machine);
	}
}
