/* Machines: their presence, and metadata that is static (in the presence) or dynamic (keys of its own). A
 * change costs a look at every unit, so what is written again as it was is none; a read tells its changes at
 * its end. */
#include <stdlib.h>
#include <string.h>

#include "fleet/cluster_internal.h"

static struct cluster_machine *machine_entry(struct cluster *c, struct slice id)
{
	struct cluster_machine *machine = map_get(&c->machines, id);

	if (!machine) {
		machine = mem_new(struct cluster_machine);
		machine->id = mem_strndup(id.data, id.len);
		map_put(&c->machines, id, machine);
	}
	return machine;
}

static void pair_done(struct registry_pair *pair)
{
	free(pair->key);
	free(pair->value);
}

static void pairs_free(struct registry_pair *pairs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pair_done(&pairs[i]);
	free(pairs);
}

void cluster_machine_free(struct cluster_machine *machine)
{
	pairs_free(machine->dynamic, machine->dynamic_count);
	pairs_free(machine->fresh, machine->fresh_count);
	registry_machine_done(&machine->object);
	free(machine->object_text);
	free(machine->id);
	free(machine);
}

struct scheduler_pair *cluster_machine_metadata(const struct cluster_machine *machine, size_t *ret_count)
{
	size_t fixed = 0, dynamic = 0, count = 0;
	struct scheduler_pair *pairs = mem_new_array(
		struct scheduler_pair, machine->object.metadata_count + machine->dynamic_count + 1);

	while (fixed < machine->object.metadata_count || dynamic < machine->dynamic_count) {
		const struct registry_pair *one =
			fixed < machine->object.metadata_count ? &machine->object.metadata[fixed] : NULL;
		const struct registry_pair *two =
			dynamic < machine->dynamic_count ? &machine->dynamic[dynamic] : NULL;
		int order = !one ? 1 : !two ? -1 : strcmp(one->key, two->key);
		const struct registry_pair *take = order < 0 ? one : two;

		fixed += order <= 0;
		dynamic += order >= 0;
		if (take->value[0])
			pairs[count++] = (struct scheduler_pair){take->key, take->value};
	}
	*ret_count = count;
	return pairs;
}

static bool pairs_equal(
	const struct registry_pair *a, size_t a_count, const struct registry_pair *b, size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++)
		if (strcmp(a[i].key, b[i].key) != 0 || strcmp(a[i].value, b[i].value) != 0)
			return false;
	return true;
}

static void machine_changed(struct cluster *c, struct cluster_machine *machine)
{
	machine->changed = c->reading;
	if (c->reading)
		return;
	if (machine->present) {
		size_t count;
		_cleanup_free_ struct scheduler_pair *pairs = cluster_machine_metadata(machine, &count);

		scheduler_put_machine(c->scheduler, machine->id, pairs, count);
	} else {
		scheduler_remove_machine(c->scheduler, machine->id);
	}
	cluster_tell(c, c->observer.machine, machine->id);
	if (!machine->present && !machine->dynamic_count) {
		map_remove(&c->machines, slice_str(machine->id));
		cluster_machine_free(machine);
	}
}

void cluster_machine_set_object(struct cluster *c, struct slice id, struct slice value)
{
	struct registry_machine object;
	struct cluster_machine *machine = map_get(&c->machines, id);

	if (machine && machine->present && cluster_text_is(machine->object_text, value)) {
		machine->object_seen = c->generation;
		return;
	}
	if (registry_decode_machine(value, &object) < 0)
		return;
	if (!slice_is(id, object.id)) {
		registry_machine_done(&object);
		return;
	}
	machine = machine_entry(c, id);
	registry_machine_done(&machine->object);
	machine->object = object;
	machine->object_text = cluster_replace_text(machine->object_text, value);
	machine->present = true;
	machine->object_seen = c->generation;
	machine_changed(c, machine);
}

void cluster_machine_remove_object(struct cluster *c, struct slice id)
{
	struct cluster_machine *machine = map_get(&c->machines, id);

	if (!machine || !machine->present)
		return;
	machine->present = false;
	registry_machine_done(&machine->object);
	machine_changed(c, machine);
}

/* Whether anything changed. */
static bool pairs_put(struct registry_pair **pairs, size_t *count, struct slice key, struct slice value)
{
	for (size_t i = 0; i < *count; i++)
		if (slice_is(key, (*pairs)[i].key)) {
			if (cluster_text_is((*pairs)[i].value, value))
				return false;
			(*pairs)[i].value = cluster_replace_text((*pairs)[i].value, value);
			return true;
		}
	if (*count == REGISTRY_METADATA_MAX)
		return false;
	*pairs = mem_reallocarray(*pairs, *count + 1, sizeof(**pairs));
	(*pairs)[*count] =
		(struct registry_pair){mem_strndup(key.data, key.len), mem_strndup(value.data, value.len)};
	*count = registry_pairs_sort(*pairs, *count + 1);
	return true;
}

void cluster_machine_set_dynamic(struct cluster *c, struct slice id, struct slice key, struct slice value)
{
	struct cluster_machine *machine = machine_entry(c, id);

	if (c->reading)
		(void)pairs_put(&machine->fresh, &machine->fresh_count, key, value);
	else if (pairs_put(&machine->dynamic, &machine->dynamic_count, key, value))
		machine_changed(c, machine);
}

void cluster_machine_remove_dynamic(struct cluster *c, struct slice id, struct slice key)
{
	struct cluster_machine *machine = map_get(&c->machines, id);
	size_t kept = 0;

	if (!machine || !machine->dynamic_count)
		return;
	for (size_t i = 0; i < machine->dynamic_count; i++) {
		if (!key.len || slice_is(key, machine->dynamic[i].key))
			pair_done(&machine->dynamic[i]);
		else
			machine->dynamic[kept++] = machine->dynamic[i];
	}
	machine->dynamic_count = kept;
	machine_changed(c, machine);
}

static void forget_fresh(struct cluster_machine *machine)
{
	pairs_free(machine->fresh, machine->fresh_count);
	machine->fresh = NULL;
	machine->fresh_count = 0;
}

void cluster_machines_begin(struct cluster *c)
{
	size_t position = 0;
	void *value;

	c->reading = true;
	/* Of a read that broke off. */
	while (map_next(&c->machines, &position, NULL, &value))
		forget_fresh(value);
}

void cluster_machines_end(struct cluster *c)
{
	size_t position = 0;
	void *value;

	c->reading = false;
	while (map_next(&c->machines, &position, NULL, &value)) {
		struct cluster_machine *machine = value;
		bool changed = machine->changed || !pairs_equal(machine->dynamic, machine->dynamic_count,
							   machine->fresh, machine->fresh_count);

		pairs_free(machine->dynamic, machine->dynamic_count);
		machine->dynamic_count = machine->fresh_count;
		machine->dynamic = take_ptr(machine->fresh);
		machine->fresh_count = 0;
		if (machine->present && machine->object_seen != c->generation) {
			machine->present = false;
			registry_machine_done(&machine->object);
			changed = true;
		}
		if (changed)
			machine_changed(c, machine);
	}
}
