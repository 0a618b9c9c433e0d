/* States and heartbeats live as long as the presence of the machine that wrote them. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "fleet/engine_internal.h"

#define ENGINE_SWEEP_MS 200	     /* between two walks over what all machines publish */
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

/* Removes what machines published that are gone. */
static void sweep_states(struct engine *e)
{
	const struct cluster *c = e->config.cluster;
	const struct cluster_unit *unit;
	size_t position = 0;

	while ((unit = cluster_next_entry(c, &position))) {
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

/* What is no state tells nobody anything. If a machine should have said something there, it is asked for it.
 */
static void sweep_garbage(struct engine *e)
{
	size_t count;
	_cleanup_free_ char **paths = cluster_garbage_paths(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++)
		sweep_key(e, paths[i], cluster_garbage_index(e->config.cluster, paths[i]));
}

void engine_states_changed(struct engine *e, const char *name)
{
	const struct cluster_unit *unit = cluster_entry(e->config.cluster, name);

	if (e->leads && (!unit || !unit->hash[0]))
		map_put(&e->bare, slice_str(name), e);
	if (map_get(&e->waiting, slice_str(name)))
		map_put(&e->dirty, slice_str(name), e);
}

static void bare_done(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	struct engine *e = userdata;

	map_remove(&e->swept, slice_str(op->name));
	/* Gone, or something is in it: perhaps what nobody here understands, which is left alone; or what has
	 * gone since, as the mirror may know already. */
	if (response->outcome == ETCD_OK || etcd_response_is(response, ETCD_KEY_NOT_FOUND) ||
		etcd_response_is(response, ETCD_DIRECTORY_NOT_EMPTY))
		cluster_not_bare(e->config.cluster, op->name, engine_answer_index(response));
	if (cluster_is_bare(e->config.cluster, op->name)) {
		map_put(&e->bare, slice_str(strchr(op->name, '/') + 1), e);
		engine_retry_run(e, ENGINE_RETRY_MS);
	}
}

/* Directories stay when the last key in them is deleted. Who creates one in the same moment loses nothing:
 * only an empty one is removed. */
static void remove_bare(struct engine *e, const char *path)
{
	const struct cluster_unit *unit = cluster_entry(e->config.cluster, strchr(path, '/') + 1);
	_cleanup_free_ char *key = mem_printf("%s/%s", e->prefix, path);
	struct engine_op op = {.write = ENGINE_WRITE_DELETE_EMPTY,
		.key = key,
		.name = path,
		.done = bare_done,
		.userdata = e};

	if (!cluster_is_bare(e->config.cluster, path) || map_get(&e->swept, slice_str(path)))
		return;
	/* A unit that is there fills it again. */
	if (unit && (unit->hash[0] || unit->target || unit->has_desired))
		return;
	map_put(&e->swept, slice_str(path), e);
	engine_writer_add(e->writer, &op);
}

/* Those of the units that something went of; of all units, whoever led when it went, in a round over
 * everything. */
static void sweep_bare(struct engine *e, bool all)
{
	size_t position = 0, count = 0;
	_cleanup_free_ char **paths = all ? cluster_bare_paths(e->config.cluster, &count) : NULL;
	struct slice name;

	for (size_t i = 0; i < count; i++)
		remove_bare(e, paths[i]);
	while (map_next(&e->bare, &position, &name, NULL)) {
		_cleanup_free_ char *states = mem_printf("states/%.*s", (int)name.len, name.data);
		_cleanup_free_ char *job = mem_printf("job/%.*s", (int)name.len, name.data);

		remove_bare(e, states);
		remove_bare(e, job);
	}
	map_done(&e->bare);
	map_init(&e->bare, 0);
}

static void word_done(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	/* Whether it is there only the mirror tells: a former leader's word may have come behind this one's
	 * answer. What failed is met again in the next round over everything. */
	(void)op;
	(void)response;
	((struct engine_word *)userdata)->busy = false;
}

/* Says it in the key lease/NAME, which is there or not. */
static void say_word(
	struct engine *e, struct engine_word *word, const char *name, const char *value, bool said)
{
	_cleanup_free_ char *key = mem_printf("%s/lease/%s", e->prefix, name);
	struct engine_op op = {.write = said ? ENGINE_WRITE_SET : ENGINE_WRITE_DELETE,
		.key = key,
		.value = value,
		.done = word_done,
		.userdata = word};

	if (said == word->seen || word->busy)
		return;
	word->busy = true;
	engine_writer_add(e->writer, &op);
}

static void write_lasting(struct engine *e, bool lasting)
{
	say_word(e, &e->lasting, "states", "lasting", lasting);
}

/* A fleet 1.0 would not remove what lasts. The word is taken back at once, and given again only when none was
 * seen for a while: one that restarts, or whose presence lapses, does not make everybody write everything
 * anew. */
static void announce_lasting(struct engine *e)
{
	uint64_t now = engine_now_ms(e), pause_ms = (uint64_t)e->config.lease_ttl_s * 2000;
	bool lasting;
	size_t count;
	_cleanup_free_ const struct cluster_machine **machines = cluster_machines(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++)
		if (!engine_machine_is_ours(e, machines[i]->id))
			e->foreign_ms = now;
	lasting = !e->foreign_ms || now - e->foreign_ms > pause_ms;
	write_lasting(e, lasting);
}

/* It stays large until there is half as much: nobody shall open and close the whole cluster in turns. */
static void announce_large(struct engine *e)
{
	size_t units = cluster_unit_count(e->config.cluster), part = e->large.seen ? 2 : 1;
	size_t machines = scheduler_machine_count(cluster_scheduler(e->config.cluster));
	bool large = units > ENGINE_LARGE_UNITS / part || machines > ENGINE_LARGE_MACHINES / part;

	say_word(e, &e->large, "large", "large", large);
}

/* What the machine should have published of the unit and has not: its state, or that it was asked to start
 * it. */
static bool is_silent(const struct cluster_unit *unit, const struct cluster_assignment *assignment)
{
	if (!cluster_unit_state(unit, assignment->machine))
		return true;
	return unit->desired == REGISTRY_LAUNCHED && !unit->global && unit->target &&
	       strcmp(unit->target, assignment->machine) == 0 &&
	       !(unit->heartbeat && strcmp(unit->heartbeat, assignment->machine) == 0);
}

/* Somebody has removed the keys: the unit's entry in the index, written anew, asks for them. */
static void ask_silent(struct engine *e)
{
	const struct cluster *c = e->config.cluster;
	uint64_t now = engine_now_ms(e);
	struct map before = e->silent;
	size_t count;
	_cleanup_free_ const struct cluster_unit **units = cluster_entries(c, &count);

	map_init(&e->silent, 0);
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < units[i]->assignment_count; k++) {
			const struct cluster_assignment *assignment = &units[i]->assignments[k];
			_cleanup_free_ char *key = NULL;
			uintptr_t since;

			if (!cluster_machine(c, assignment->machine) || !is_silent(units[i], assignment))
				continue;
			key = mem_printf("%s/%s", assignment->machine, units[i]->name);
			since = (uintptr_t)map_get(&before, slice_str(key));
			since = since ? since : (uintptr_t)now;
			if (now >= since + ENGINE_SILENT_MS) {
				since = (uintptr_t)now + ENGINE_SILENT_PAUSE_MS;
				engine_index_write(e, assignment->machine, units[i]->name, assignment->value);
			}
			map_put(&e->silent, slice_str(key), (void *)since);
		}
	}
	map_done(&before);
}

void engine_states_seen(struct engine *e, bool lasting)
{
	e->lasting.seen = lasting;
	e->machines_changed = true;
}

void engine_large_seen(struct engine *e, bool large)
{
	e->large.seen = large;
}

void engine_states_round(struct engine *e, bool all)
{
	uint64_t now = engine_now_ms(e), age = now - e->states_swept_ms;

	if (e->machines_changed && !all && age < ENGINE_SWEEP_MS) {
		engine_retry_run(e, ENGINE_SWEEP_MS - age);
	} else if (all || e->machines_changed) {
		e->machines_changed = false;
		e->states_swept_ms = now;
		announce_lasting(e);
		announce_large(e);
		sweep_states(e);
	}
	if (all) {
		sweep_garbage(e);
		ask_silent(e);
		engine_restore(e);
		/* A fleet 1.0 refers to a text that it found there, and does not care if it goes. */
		if (!e->foreign_ms)
			engine_collect(e);
	}
	sweep_bare(e, all);
}

/* One of ours does it for all: the first that is present. */
void engine_sweep_foreign(struct engine *e)
{
	size_t count;
	_cleanup_free_ const struct cluster_machine **machines = cluster_machines(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++) {
		if (!engine_machine_is_ours(e, machines[i]->id))
			continue;
		if (strcmp(machines[i]->id, e->machine_id) == 0) {
			sweep_states(e);
			sweep_bare(e, true);
			/* The word counts for nothing now, and shall not count at once when one of ours leads
			 * again: machines of fleet 1.0 are there. */
			write_lasting(e, false);
		}
		return;
	}
}
