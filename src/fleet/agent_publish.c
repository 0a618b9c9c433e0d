/* What an agent says in the store: the state of each unit that its manager knows, and for each that it was
 * asked to start a heartbeat; and that what stands there under this machine's name is what it says. */
#include <stdlib.h>
#include <string.h>

#include "fleet/agent_internal.h"

bool agent_lasts(const struct agent *a)
{
	return a->lasting && !a->foreign;
}

static char *state_key(const struct agent *a, const char *unit)
{
	return mem_printf("%s/states/%s/%s", a->prefix, unit, a->machine_id);
}

static char *heartbeat_key(const struct agent *a, const char *unit)
{
	return mem_printf("%s/job/%s/job-state", a->prefix, unit);
}

/* What shall run here: by the index, or under a foreign engine by the registry. */
bool agent_is_informed(const struct agent *a)
{
	return a->trusted || a->foreign_known;
}

/* The heartbeat tells that the machine which shall run the unit was asked to start it. It is another
 * machine's to tell as soon as the unit is: as long as that is not known, it is left alone. A global unit has
 * no one machine to tell of. */
static void publish_heartbeat(struct agent_unit *unit, bool launched)
{
	struct agent *a = unit->agent;
	_cleanup_free_ char *key = heartbeat_key(a, unit->name);

	if (!agent_is_informed(a) && !a->handing_over)
		return;
	if (launched && unit->wanted && !unit->assignment.global && !a->handing_over)
		held_set(a->heartbeats, key, a->machine_id);
	else
		held_drop(a->heartbeats, key);
}

void agent_publish(struct agent_unit *unit, const struct manager_unit_state *state)
{
	struct agent *a = unit->agent;
	_cleanup_free_ char *legacy = mem_printf("%s/state/%s", a->prefix, unit->name);
	_cleanup_free_ char *key = state_key(a, unit->name);
	_cleanup_buf_ struct buf value = BUF_INIT(64 * 1024);

	if (!a->registered || !a->lasting_known)
		return;
	publish_heartbeat(unit, state && state->wanted);
	if (!state) {
		held_drop(a->states, key);
		held_drop(a->legacy, legacy);
		unit->published = mem_free(unit->published);
		return;
	}
	registry_encode_unit_state(&value, &(struct registry_unit_state){.load = (char *)state->load,
						   .active = (char *)state->active,
						   .sub = (char *)state->sub,
						   .machine = a->machine_id,
						   .hash = (char *)state->hash});
	if (unit->published && strcmp(unit->published, buf_text(&value)) == 0)
		return;
	held_set(a->states, key, buf_text(&value));
	/* For readers that are older than states/, where there may be any. */
	if (!agent_lasts(a))
		held_set(a->legacy, legacy, buf_text(&value));
	else
		held_drop(a->legacy, legacy);
	free(unit->published);
	unit->published = mem_strdup(buf_text(&value));
}

bool agent_is_withdrawing(const struct agent_unit *unit)
{
	_cleanup_free_ char *key = state_key(unit->agent, unit->name);

	return held_is_dropping(unit->agent->states, key);
}

/* The leader misses what this machine has to say of the unit. */
void agent_publish_again(struct agent_unit *unit)
{
	struct agent *a = unit->agent;
	_cleanup_free_ char *heartbeat = heartbeat_key(a, unit->name);
	_cleanup_free_ char *key = state_key(a, unit->name);

	held_renew(a->states, key);
	held_renew(a->heartbeats, heartbeat);
}

void agent_note_unit(void *userdata, const struct manager_unit_state *state)
{
	agent_publish(agent_unit_get(userdata, state->name), state);
}

/* It is known again what shall run here: heartbeats that were left alone meanwhile are those of what does. */
void agent_heartbeats_known(struct agent *a)
{
	size_t position = 0;
	void *value;

	while (map_next(&a->units, &position, NULL, &value)) {
		struct agent_unit *unit = value;
		struct manager_unit_state state;

		publish_heartbeat(unit, manager_state(a->config.manager, unit->name, &state) && state.wanted);
	}
	held_renew_all(a->heartbeats);
}

/* All that is published, in the other manner. */
void agent_publish_anew(struct agent *a)
{
	size_t position = 0;
	void *value;

	held_set_lasting(a->states, agent_lasts(a));
	held_set_lasting(a->heartbeats, agent_lasts(a));
	while (map_next(&a->units, &position, NULL, &value)) {
		struct agent_unit *unit = value;

		unit->published = mem_free(unit->published);
	}
	manager_list(a->config.manager, agent_note_unit, a);
}

static bool may_sweep(const struct agent *a)
{
	return manager_is_ready(a->config.manager) && a->registered && agent_is_informed(a);
}

/* What stands in the store under this machine's name: is it what this daemon says? */
static void sweep_unit(struct agent *a, const struct cluster_unit *unit)
{
	const struct cluster_state *old = cluster_unit_state(unit, a->machine_id);
	_cleanup_free_ char *state_name = state_key(a, unit->name), *heartbeat = heartbeat_key(a, unit->name);
	bool beats = unit->heartbeat && strcmp(unit->heartbeat, a->machine_id) == 0;
	struct manager_unit_state state;
	bool known = manager_state(a->config.manager, unit->name, &state);

	if (old && known) {
		held_seen(a->states, state_name, old->index);
	} else if (known) {
		held_missed(a->states, state_name, a->config.cluster_index(a->config.userdata));
	} else if (old) {
		_cleanup_buf_ struct buf value = BUF_INIT(64 * 1024);

		registry_encode_unit_state(&value, &old->state);
		held_remove(a->states, state_name, buf_text(&value));
	}
	if (unit->heartbeat && known && state.wanted)
		held_seen(a->heartbeats, heartbeat, unit->heartbeat_index);
	else if (beats)
		held_remove(a->heartbeats, heartbeat, a->machine_id);
}

bool agent_sweep(struct agent *a)
{
	size_t count;
	_cleanup_free_ const struct cluster_unit **units = NULL;

	if (!may_sweep(a))
		return false;
	units = cluster_entries(a->config.cluster, &count);
	for (size_t i = 0; i < count; i++)
		sweep_unit(a, units[i]);
	return true;
}

void agent_published(struct agent *a, const char *name)
{
	const struct cluster_unit *unit = cluster_entry(a->config.cluster, name);

	if (unit && may_sweep(a))
		sweep_unit(a, unit);
}
