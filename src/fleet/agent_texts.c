/* The texts of units that this machine needs and whom it keeps from starting: from the mirror of the cluster
 * when it is there, else asked for one by one. */
#include "fleet/agent_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_TEXTS_MAX 256
#define AGENT_RULES_MAX 16 /* asked for at a time */

void agent_texts_drop(struct agent *a)
{
	size_t position = 0;
	void *value;

	while (map_next(&a->texts, &position, NULL, &value))
		free(value);
	map_done(&a->texts);
	map_init(&a->texts, 0);
}

void agent_text_keep(struct agent *a, const char *hash, char *text)
{
	if (a->texts.count >= AGENT_TEXTS_MAX)
		agent_texts_drop(a);
	free(map_put(&a->texts, slice_str(hash), text));
}

char *agent_text_in(const struct etcd_response *response, const char *wanted, char **ret_why)
{
	const struct etcd_node *node = response->outcome == ETCD_OK ? response->node : NULL;
	struct unit_file *file;
	char *raw, hash[UNIT_HASH_HEX_SIZE];
	uint8_t bytes[UNIT_HASH_SIZE];
	size_t len;

	if (!node || !node->value ||
		registry_decode_unit(slice_make(node->value, node->value_len), &raw, &len) < 0) {
		*ret_why = mem_printf("no text in the store (unit/%s): %s", wanted, response->error_text);
		return NULL;
	}
	if (unit_file_parse(slice_make(raw, len), &file, NULL) < 0) {
		free(raw);
		*ret_why = mem_printf("the text in the store (unit/%s) is no unit file", wanted);
		return NULL;
	}
	unit_file_hash(file, bytes);
	unit_hash_hex(bytes, hash);
	unit_file_free(file);
	if (strcmp(hash, wanted) == 0)
		return raw;
	free(raw);
	*ret_why = mem_printf("the text in the store (unit/%s) is another one", wanted);
	return NULL;
}

struct etcd_request *agent_text_ask(struct agent *a, const char *hash, etcd_response_fn *done, void *userdata)
{
	_cleanup_free_ char *key = mem_printf("%s/unit/%s", a->prefix, hash);
	struct etcd_get_options options = {.quorum = true};

	return etcd_get(a->config.client, key, &options, done, userdata);
}

const char *agent_text_known(const struct agent *a, const char *hash)
{
	const struct cluster_text *known = cluster_text(a->config.cluster, hash);
	const char *text = map_get(&a->texts, slice_str(hash));

	return text ? text : known ? known->raw : NULL;
}

/* ---- units that rule each other out ---- */

void agent_rules_read(struct agent_unit *unit, const char *text)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;

	unit->rules_read = true;
	unit_requirements_done(&unit->rules);
	if (unit_file_parse(slice_str(text), &file, NULL) == 0)
		unit_requirements_read(file, slice_str(unit->name), &unit->rules);
	if (!unit->rules.conflicts.count)
		unit_requirements_done(&unit->rules);
}

static void rules_fetched(const struct etcd_response *response, void *userdata)
{
	struct agent_unit *unit = userdata;
	struct agent *a = unit->agent;
	_cleanup_free_ char *why = NULL;
	_cleanup_free_ char *raw = agent_text_in(response, unit->rules_hash, &why);

	unit->rules_fetch = NULL;
	a->rules_fetches--;
	/* Unless another text was loaded meanwhile; and if the store does not have it, nobody does. */
	if (raw && !unit->rules_read)
		agent_rules_read(unit, raw);
	else if (response->outcome == ETCD_OK || etcd_response_is(response, ETCD_KEY_NOT_FOUND))
		unit->rules_read = true;
	agent_retry_in(a, unit->rules_read ? 0 : AGENT_TEXT_RETRY_MS);
}

/* Of one that an earlier life of the daemon loaded. False: they are being asked for. */
static bool find_rules(struct agent_unit *unit, const char *hash)
{
	struct agent *a = unit->agent;
	const char *text = unit->rules_read ? NULL : agent_text_known(a, hash);

	if (text)
		agent_rules_read(unit, text);
	if (unit->rules_read || !hash[0])
		return true;
	if (!unit->rules_fetch && a->rules_fetches < AGENT_RULES_MAX) {
		a->rules_fetches++;
		(void)snprintf(unit->rules_hash, sizeof(unit->rules_hash), "%s", hash);
		unit->rules_fetch = agent_text_ask(a, hash, rules_fetched, unit);
	}
	return false;
}

static bool rules_out(const struct agent_unit *unit, const struct agent_unit *other)
{
	for (size_t i = 0; i < unit->rules.conflicts.count; i++)
		if (unit_glob_match(unit->rules.conflicts.items[i], slice_str(other->name)))
			return true;
	return false;
}

/* Whether a unit, which may be wanted here too, is in the way of one that it conflicts with. */
static bool is_in_the_way(const struct agent_unit *other, const struct manager_unit_state *state)
{
	return !other->wanted || other->busy || state->wanted ||
	       (strcmp(state->active, "inactive") != 0 && strcmp(state->active, "failed") != 0);
}

bool agent_must_yield(struct agent_unit *unit)
{
	struct agent *a = unit->agent;
	struct manager_unit_state state;
	bool known = find_rules(unit, unit->assignment.hash);
	size_t position = 0;
	void *value;

	while (map_next(&a->units, &position, NULL, &value)) {
		struct agent_unit *other = value;

		if (other == unit || !manager_state(a->config.manager, other->name, &state) ||
			!is_in_the_way(other, &state))
			continue;
		if (!find_rules(other, state.hash)) {
			known = false;
			continue;
		}
		if (!rules_out(unit, other) && !rules_out(other, unit))
			continue;
		a->yielding = true;
		if (!unit->yielded)
			agent_say(a, mem_printf("%s is started when %s, which it conflicts with, has ended",
					     unit->name, other->name));
		unit->yielded = true;
		return true;
	}
	if (!known)
		a->yielding = true; /* who ends before its rules are known has none */
	unit->yielded = false;
	return !known;
}
