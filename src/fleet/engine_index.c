/* The assignment index: entries are compared with what they should be, unit by unit, and the difference is
 * written. What was written is taken as told, so that nothing is written twice while the mirror is on its
 * way. */
#include <string.h>

#include "fleet/engine_internal.h"

/* A unit is given to a machine when no other that can tell has it any more; at the latest after so long,
 * which is more than systemd gives a service to stop (TimeoutStopSec, 90 s). */
#define ENGINE_COPY_MS 120000
/* A machine that was told of a unit says something of it within so long. */
#define ENGINE_UNHEARD_MS 1000

static void busy_add(struct engine *e, const char *name, intptr_t change)
{
	intptr_t count = (intptr_t)map_get(&e->busy, slice_str(name)) + change;

	if (count > 0)
		map_put(&e->busy, slice_str(name), (void *)count);
	else
		map_remove(&e->busy, slice_str(name));
}

/* A machine may have the unit and has not said since that it is gone: its entry went, or was perhaps written.
 * What it publishes tells nothing of that yet: its state may be missing because the last copy has just ended
 * and the next has just begun. */
struct unheard {
	uint64_t since_ms, index; /* index: of the store, when the entry went; 0: not known */
	bool several;		  /* other machines too: nobody can answer for all */
	char machine[];
};

static bool is_past(const struct engine *e, const struct unheard *unheard)
{
	return engine_now_ms(e) - unheard->since_ms > ENGINE_UNHEARD_MS;
}

static void note_unheard(struct engine *e, const char *name, const char *machine, uint64_t index)
{
	struct unheard *unheard, *old = map_get(&e->unheard, slice_str(name));

	if (!cluster_machine(e->config.cluster, machine))
		return;
	unheard = mem_calloc(1, sizeof(*unheard) + strlen(machine) + 1);
	unheard->since_ms = engine_now_ms(e);
	unheard->index = index;
	unheard->several = old && !is_past(e, old) && (old->several || strcmp(old->machine, machine) != 0);
	memcpy(unheard->machine, machine, strlen(machine) + 1);
	free(map_put(&e->unheard, slice_str(name), unheard));
}

static bool says_something(const struct engine *e, const char *name, const char *machine)
{
	const struct cluster_unit *entry = cluster_entry(e->config.cluster, name);

	return entry && cluster_unit_state(entry, machine);
}

void engine_state_gone(struct engine *e, const char *name, const char *machine, uint64_t index)
{
	const struct unheard *unheard = map_get(&e->unheard, slice_str(name));

	if (unheard && !unheard->several && strcmp(unheard->machine, machine) == 0 &&
		(!index || index > unheard->index))
		free(map_remove(&e->unheard, slice_str(name)));
}

void engine_forget_unheard(struct engine *e, bool all)
{
	size_t position = 0;
	struct slice name;
	void *unheard;

	while (map_next(&e->unheard, &position, &name, &unheard))
		if (all || is_past(e, unheard))
			free(map_remove(&e->unheard, name));
}

static void index_done(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	struct engine *e = userdata;

	busy_add(e, op->name, -1);
	map_put(&e->dirty, slice_str(op->name), e);
	if (response->outcome == ETCD_OK && op->write == ENGINE_WRITE_SET) {
		engine_written(e, op->key, op->value, response);
		engine_turn(e);
	} else if (op->write == ENGINE_WRITE_DELETE &&
		   (response->outcome == ETCD_OK || etcd_response_is(response, ETCD_KEY_NOT_FOUND))) {
		note_unheard(e, op->name, op->machine, engine_answer_index(response));
		engine_written(e, op->key, NULL, response);
		engine_turn(e);
	} else {
		if (op->write == ENGINE_WRITE_SET && response->outcome == ETCD_UNKNOWN &&
			!says_something(e, op->name, op->machine))
			note_unheard(e, op->name, op->machine, 0);
		engine_retry_run(e, ENGINE_RETRY_MS);
	}
}

void engine_index_write(struct engine *e, const char *machine, const char *name, const char *value)
{
	_cleanup_free_ char *key = mem_printf("%s/assigned/%s/%s", e->prefix, machine, name);
	struct engine_op op = {.write = value ? ENGINE_WRITE_SET : ENGINE_WRITE_DELETE,
		.key = key,
		.value = value,
		.name = name,
		.machine = machine,
		.done = index_done,
		.userdata = e};

	busy_add(e, name, 1);
	engine_writer_add(e->writer, &op);
}

bool engine_machine_is_ours(const struct engine *e, const char *id)
{
	const struct cluster_machine *machine = id ? cluster_machine(e->config.cluster, id) : NULL;

	return machine && machine->object.peer_api;
}

static bool index_wants(struct engine *e, const struct cluster_unit *unit, const char *machine)
{
	struct scheduler *s = cluster_scheduler(e->config.cluster);
	const char *target;

	if (!unit || unit->desired == REGISTRY_INACTIVE || !engine_machine_is_ours(e, machine))
		return false;
	if (unit->global)
		return scheduler_global_runs(s, unit->name, machine);
	target = scheduler_target(s, unit->name);
	return target && strcmp(target, machine) == 0;
}

static void index_set_if_other(
	struct engine *e, const struct cluster_unit *unit, const char *machine, const char *value)
{
	const struct cluster_assignment *entry = cluster_unit_assignment(unit, machine);

	if (!entry || strcmp(entry->value, value) != 0)
		engine_index_write(e, machine, unit->name, value);
}

/* A machine that is present and may still run the unit, or have it loaded; NULL: none is known. */
static const char *copy_of(struct engine *e, const struct cluster_unit *unit, const char *but)
{
	const struct cluster *c = e->config.cluster;
	const struct unheard *unheard = map_get(&e->unheard, slice_str(unit->name));

	for (size_t i = 0; i < unit->state_count; i++) {
		const char *machine = unit->states[i].state.machine;

		if (strcmp(machine, but) != 0 && cluster_machine(c, machine))
			return machine;
	}
	for (size_t i = 0; i < unit->assignment_count; i++) {
		const char *machine = unit->assignments[i].machine;

		if (strcmp(machine, but) != 0 && cluster_machine(c, machine))
			return machine;
	}
	if (!unheard || is_past(e, unheard) || (!unheard->several && strcmp(unheard->machine, but) == 0))
		return NULL;
	return "a machine that has said nothing of it yet";
}

void engine_look_at_waiting(struct engine *e)
{
	size_t position = 0;
	struct slice name;

	while (map_next(&e->waiting, &position, &name, NULL))
		map_put(&e->dirty, name, e);
}

/* Whether the unit has to wait before it is given to the machine: it is looked at again with all news of it,
 * and from time to time. */
static bool must_wait(struct engine *e, const struct cluster_unit *unit, const char *target)
{
	const char *copy = copy_of(e, unit, target);
	uint64_t now = engine_now_ms(e), since = (uintptr_t)map_get(&e->waiting, slice_str(unit->name));

	if (!copy) {
		map_remove(&e->waiting, slice_str(unit->name));
		return false;
	}
	if (since && now - since > ENGINE_COPY_MS) {
		_cleanup_free_ char *text = mem_printf(
			"%s does not end on %s: it is started on %s all the same", unit->name, copy, target);

		if (e->config.log)
			e->config.log(e->config.userdata, text);
		return false;
	}
	if (!since)
		map_put(&e->waiting, slice_str(unit->name), (void *)(uintptr_t)now);
	engine_retry_run(e, ENGINE_UNHEARD_MS + 1);
	return true;
}

/* Gives the unit to the machine, or tells it what has changed. */
static void index_give(
	struct engine *e, const struct cluster_unit *unit, const char *target, const char *value)
{
	if (cluster_unit_assignment(unit, target))
		map_remove(&e->waiting, slice_str(unit->name)); /* the next move waits anew */
	else if (must_wait(e, unit, target))
		return;
	index_set_if_other(e, unit, target, value);
}

/* The machine is not to have the unit (any more). `unit`: NULL when there is none of that name. */
static void index_drop(
	struct engine *e, const char *name, const struct cluster_unit *unit, const char *machine)
{
	/* A machine that is away for a moment keeps its global units. */
	if (unit && unit->global && unit->desired != REGISTRY_INACTIVE &&
		!cluster_machine(e->config.cluster, machine))
		return;
	engine_index_write(e, machine, name, NULL);
}

static void encode_entry(struct buf *out, const struct cluster_unit *unit)
{
	struct registry_assignment assignment = {.state = unit->desired, .global = unit->global};

	memcpy(assignment.hash, unit->hash, sizeof(assignment.hash));
	registry_encode_assignment(out, &assignment);
}

/* Its text cannot be read (yet): what runs, runs on. */
static bool is_unreadable(const struct cluster_unit *entry, const struct cluster_unit *unit)
{
	return !unit && entry && entry->hash[0];
}

/* The same for the entry of one machine. */
static void index_global(struct engine *e, const char *name, const char *machine)
{
	const struct cluster *c = e->config.cluster;
	const struct cluster_unit *entry = cluster_entry(c, name), *unit = cluster_unit(c, name);
	_cleanup_buf_ struct buf value = BUF_INIT(4096);

	if (map_get(&e->busy, slice_str(name)) || is_unreadable(entry, unit))
		return; /* looked at again when those writes have ended */
	if (index_wants(e, unit, machine)) {
		encode_entry(&value, unit);
		index_set_if_other(e, unit, machine, buf_text(&value));
	} else if (entry && cluster_unit_assignment(entry, machine)) {
		index_drop(e, name, unit, machine);
	}
}

void engine_index_globals(struct engine *e)
{
	const struct scheduler_global_change *changes;
	size_t count;

	if (!scheduler_global_changes(cluster_scheduler(e->config.cluster), &changes, &count))
		engine_mark_globals(e);
	for (size_t i = 0; i < count; i++)
		index_global(e, changes[i].unit, changes[i].machine);
}

void engine_index_machines(struct engine *e)
{
	const struct cluster_unit *unit;
	size_t position = 0, at = 0;
	struct slice id, name;

	if (!e->changed_machines.count)
		return;
	/* Entries from an earlier life of one. */
	while ((unit = cluster_next_entry(e->config.cluster, &position))) {
		for (size_t i = 0; !unit->global && i < unit->assignment_count; i++)
			if (map_get(&e->changed_machines, slice_str(unit->assignments[i].machine)))
				map_put(&e->dirty, slice_str(unit->name), e);
	}
	for (position = 0; map_next(&e->changed_machines, &position, &id, NULL);) {
		_cleanup_free_ char *machine = mem_strndup(id.data, id.len);

		for (at = 0; map_next(&e->globals, &at, &name, NULL);) {
			_cleanup_free_ char *global = mem_strndup(name.data, name.len);

			index_global(e, global, machine);
		}
	}
	map_done(&e->changed_machines);
	map_init(&e->changed_machines, 0);
}

/* Brings the index entries of one unit to what they should be. */
void engine_index_unit(struct engine *e, const char *name)
{
	const struct cluster *c = e->config.cluster;
	const struct cluster_unit *entry = cluster_entry(c, name), *unit = cluster_unit(c, name);
	_cleanup_buf_ struct buf value = BUF_INIT(4096);

	if (map_get(&e->busy, slice_str(name)) || is_unreadable(entry, unit))
		return; /* looked at again when those writes have ended */
	for (size_t i = 0; entry && i < entry->assignment_count; i++) {
		const char *machine = entry->assignments[i].machine;

		if (!index_wants(e, unit, machine))
			index_drop(e, name, unit, machine);
	}
	if (!unit || unit->desired == REGISTRY_INACTIVE) {
		map_remove(&e->waiting, slice_str(name));
		return;
	}
	encode_entry(&value, unit);
	if (!unit->global) {
		const char *target = scheduler_target(cluster_scheduler(c), name);

		if (target && engine_machine_is_ours(e, target))
			index_give(e, unit, target, buf_text(&value));
		return;
	}
	{
		size_t count;
		_cleanup_free_ const struct cluster_machine **machines = cluster_machines(c, &count);

		for (size_t i = 0; i < count; i++)
			if (index_wants(e, unit, machines[i]->id))
				index_set_if_other(e, unit, machines[i]->id, buf_text(&value));
	}
}

static void epoch_done(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	struct engine *e = userdata;
	_cleanup_free_ char *path = mem_printf("assigned/%s/epoch", op->machine);

	map_remove(&e->swept, slice_str(path));
	if (response->outcome == ETCD_OK) {
		engine_written(e, op->key, op->value, response);
		return;
	}
	map_remove(&e->epochs, slice_str(op->machine));
	map_put(&e->new_machines, slice_str(op->machine), e);
	engine_retry_run(e, ENGINE_RETRY_MS);
}

void engine_epoch_write(struct engine *e, const char *machine)
{
	_cleanup_free_ char *path = mem_printf("assigned/%s/epoch", machine);
	_cleanup_free_ char *key = mem_printf("%s/%s", e->prefix, path);
	struct engine_op op = {.write = ENGINE_WRITE_SET,
		.key = key,
		.value = e->term,
		.barrier = true,
		.machine = machine,
		.done = epoch_done,
		.userdata = e};

	if (map_get(&e->epochs, slice_str(machine)) || !engine_machine_is_ours(e, machine) ||
		engine_index_is_going(e, machine))
		return;
	map_put(&e->epochs, slice_str(machine), e);
	map_put(&e->swept, slice_str(path), e);
	engine_writer_add(e->writer, &op);
}
