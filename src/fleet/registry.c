/* Values are written byte for byte as Go's encoding/json writes fleet's structures, and read with jansson. */
#include "fleet/registry.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const char *const state_names[REGISTRY_STATE_MAX] = {"inactive", "loaded", "launched"};

const char *registry_state_name(enum registry_state state)
{
	return state_names[state];
}

enum registry_state registry_state_from_name(struct slice name)
{
	for (int i = 0; i < REGISTRY_STATE_MAX; i++)
		if (slice_is(name, state_names[i]))
			return (enum registry_state)i;
	return REGISTRY_STATE_INVALID;
}

static json_t *load_object(struct slice text)
{
	json_t *root = json_loadb(text.data ? text.data : "", text.len, JSON_REJECT_DUPLICATES, NULL);

	if (root && !json_is_object(root)) {
		json_decref(root);
		root = NULL;
	}
	return root;
}

static char *dup_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return mem_strdup(text ? text : "");
}

static void add_text(struct buf *out, const char *text)
{
	json_add_string(out, slice_str(text ? text : ""));
}

/* ---- machines ---- */

void registry_machine_done(struct registry_machine *machine)
{
	for (size_t i = 0; i < machine->metadata_count; i++) {
		free(machine->metadata[i].key);
		free(machine->metadata[i].value);
	}
	free(machine->metadata);
	free(machine->id);
	free(machine->public_ip);
	free(machine->version);
	free(machine->peer_api);
	free(machine->peer_token);
	free(machine->boot);
	free(machine->nonce);
	*machine = (struct registry_machine){0};
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct registry_pair *)a)->key, ((const struct registry_pair *)b)->key);
}

size_t registry_pairs_sort(struct registry_pair *pairs, size_t count)
{
	size_t kept = 0;

	/* An insertion sort keeps equal keys in their order, so that the last one can win. */
	for (size_t i = 1; i < count; i++)
		for (size_t k = i; k > 0 && by_key(&pairs[k - 1], &pairs[k]) > 0; k--) {
			struct registry_pair swap = pairs[k];

			pairs[k] = pairs[k - 1];
			pairs[k - 1] = swap;
		}
	for (size_t i = 0; i < count; i++) {
		if (kept && strcmp(pairs[kept - 1].key, pairs[i].key) == 0) {
			free(pairs[kept - 1].key);
			free(pairs[kept - 1].value);
			pairs[kept - 1] = pairs[i];
			continue;
		}
		pairs[kept++] = pairs[i];
	}
	return kept;
}

void registry_encode_machine(struct buf *out, const struct registry_machine *machine)
{
	buf_add_str(out, "{\"ID\":");
	add_text(out, machine->id);
	buf_add_str(out, ",\"PublicIP\":");
	add_text(out, machine->public_ip);
	buf_add_str(out, ",\"Metadata\":{");
	for (size_t i = 0; i < machine->metadata_count; i++) {
		if (i)
			buf_add_char(out, ',');
		add_text(out, machine->metadata[i].key);
		buf_add_char(out, ':');
		add_text(out, machine->metadata[i].value);
	}
	buf_printf(out, "},\"Capabilities\":{\"DISABLE_ENGINE\":%s,\"GRPC\":false},\"Version\":",
		machine->engine_disabled ? "true" : "false");
	add_text(out, machine->version);
	if (machine->peer_api) {
		buf_add_str(out, ",\"Flotilla\":{\"API\":");
		add_text(out, machine->peer_api);
		buf_add_str(out, ",\"Token\":");
		add_text(out, machine->peer_token);
		buf_add_str(out, ",\"Boot\":");
		add_text(out, machine->boot);
		buf_add_str(out, ",\"Nonce\":");
		add_text(out, machine->nonce);
		buf_add_char(out, '}');
	}
	buf_add_char(out, '}');
}

int registry_decode_machine(struct slice text, struct registry_machine *ret)
{
	json_t *root = load_object(text), *metadata, *value;
	const char *id = json_string_value(json_object_get(root, "ID")), *key;
	json_t *own = json_object_get(root, "Flotilla");
	struct registry_machine machine = {0};

	if (!id || !id[0] || strlen(id) > REGISTRY_MACHINE_ID_MAX || strchr(id, '/')) {
		json_decref(root);
		return -EINVAL;
	}
	machine.id = mem_strdup(id);
	machine.public_ip = dup_string(root, "PublicIP");
	machine.version = dup_string(root, "Version");
	machine.engine_disabled =
		json_is_true(json_object_get(json_object_get(root, "Capabilities"), "DISABLE_ENGINE"));
	metadata = json_object_get(root, "Metadata");
	if (json_object_size(metadata) && json_object_size(metadata) <= REGISTRY_METADATA_MAX)
		machine.metadata = mem_new_array(struct registry_pair, json_object_size(metadata));
	if (machine.metadata)
		json_object_foreach(metadata, key, value) machine.metadata[machine.metadata_count++] =
			(struct registry_pair){mem_strdup(key),
				mem_strdup(json_is_string(value) ? json_string_value(value) : "")};
	machine.metadata_count = registry_pairs_sort(machine.metadata, machine.metadata_count);
	if (json_is_object(own)) {
		machine.peer_api = dup_string(own, "API");
		machine.peer_token = dup_string(own, "Token");
		machine.boot = dup_string(own, "Boot");
		machine.nonce = dup_string(own, "Nonce");
	}
	json_decref(root);
	*ret = machine;
	return 0;
}

/* ---- jobs and units ---- */

void registry_encode_job(struct buf *out, const char *name, const uint8_t hash[static UNIT_HASH_SIZE])
{
	buf_add_str(out, "{\"Name\":");
	add_text(out, name);
	buf_add_str(out, ",\"UnitHash\":[");
	for (int i = 0; i < UNIT_HASH_SIZE; i++)
		buf_printf(out, "%s%u", i ? "," : "", hash[i]);
	buf_add_str(out, "]}");
}

int registry_decode_job(struct slice text, char ret_hash[static UNIT_HASH_HEX_SIZE])
{
	json_t *root = load_object(text), *numbers = json_object_get(root, "UnitHash");
	uint8_t hash[UNIT_HASH_SIZE];
	int r = -EINVAL;

	if (json_is_array(numbers) && json_array_size(numbers) == UNIT_HASH_SIZE) {
		r = 0;
		for (size_t i = 0; i < UNIT_HASH_SIZE; i++) {
			json_int_t number = json_integer_value(json_array_get(numbers, i));

			if (number < 0 || number > 255)
				r = -EINVAL;
			hash[i] = (uint8_t)number;
		}
	}
	json_decref(root);
	if (r == 0)
		unit_hash_hex(hash, ret_hash);
	return r;
}

void registry_encode_unit(struct buf *out, struct slice raw)
{
	buf_add_str(out, "{\"Raw\":");
	json_add_string(out, raw);
	buf_add_char(out, '}');
}

int registry_decode_unit(struct slice text, char **ret_raw, size_t *ret_len)
{
	json_t *root = json_loadb(text.data ? text.data : "", text.len, JSON_ALLOW_NUL, NULL);
	json_t *raw = json_object_get(root, "Raw");
	size_t len = json_string_length(raw);

	if (!json_is_string(raw) || len > UNIT_TEXT_MAX) {
		json_decref(root);
		return -EINVAL;
	}
	*ret_raw = mem_strndup(json_string_value(raw), len);
	*ret_len = len;
	json_decref(root);
	return 0;
}

/* ---- states ---- */

void registry_unit_state_done(struct registry_unit_state *state)
{
	free(state->load);
	free(state->active);
	free(state->sub);
	free(state->machine);
	free(state->hash);
	*state = (struct registry_unit_state){0};
}

void registry_encode_unit_state(struct buf *out, const struct registry_unit_state *state)
{
	buf_add_str(out, "{\"loadState\":");
	add_text(out, state->load);
	buf_add_str(out, ",\"activeState\":");
	add_text(out, state->active);
	buf_add_str(out, ",\"subState\":");
	add_text(out, state->sub);
	buf_add_str(out, ",\"machineState\":{\"ID\":");
	add_text(out, state->machine);
	buf_add_str(out,
		",\"PublicIP\":\"\",\"Metadata\":null,\"Capabilities\":null,\"Version\":\"\"},\"unitHash\":");
	add_text(out, state->hash);
	buf_add_char(out, '}');
}

int registry_decode_unit_state(struct slice text, struct registry_unit_state *ret)
{
	json_t *root = load_object(text);

	if (!root)
		return -EINVAL;
	*ret = (struct registry_unit_state){
		.load = dup_string(root, "loadState"),
		.active = dup_string(root, "activeState"),
		.sub = dup_string(root, "subState"),
		.machine = dup_string(json_object_get(root, "machineState"), "ID"),
		.hash = dup_string(root, "unitHash"),
	};
	json_decref(root);
	return 0;
}

/* ---- lease and assignments ---- */

void registry_lease_done(struct registry_lease *lease)
{
	free(lease->machine);
	free(lease->term);
	*lease = (struct registry_lease){0};
}

void registry_encode_lease(struct buf *out, const struct registry_lease *lease)
{
	buf_add_str(out, "{\"MachineID\":");
	add_text(out, lease->machine);
	buf_printf(out, ",\"Version\":%d", lease->version);
	if (lease->term) {
		buf_add_str(out, ",\"Term\":");
		add_text(out, lease->term);
	}
	buf_add_char(out, '}');
}

void registry_decode_lease(struct slice text, struct registry_lease *ret)
{
	json_t *root = load_object(text);
	const char *term;

	if (!root) {
		*ret = (struct registry_lease){.machine = mem_strndup(text.data ? text.data : "", text.len)};
		return;
	}
	term = json_string_value(json_object_get(root, "Term"));
	*ret = (struct registry_lease){.machine = dup_string(root, "MachineID"),
		.version = (int)json_integer_value(json_object_get(root, "Version")),
		.term = term ? mem_strdup(term) : NULL};
	json_decref(root);
}

void registry_encode_assignment(struct buf *out, const struct registry_assignment *assignment)
{
	buf_printf(out, "{\"Hash\":\"%s\",\"State\":\"%s\",\"Global\":%s}", assignment->hash,
		registry_state_name(assignment->state), assignment->global ? "true" : "false");
}

int registry_decode_assignment(struct slice text, struct registry_assignment *ret)
{
	json_t *root = load_object(text);
	const char *hash = json_string_value(json_object_get(root, "Hash"));
	const char *state = json_string_value(json_object_get(root, "State"));
	struct registry_assignment assignment = {.global = json_is_true(json_object_get(root, "Global"))};
	uint8_t bytes[UNIT_HASH_SIZE];
	int r = -EINVAL;

	if (hash && state && unit_hash_from_hex(slice_str(hash), bytes) == 0) {
		enum registry_state parsed = registry_state_from_name(slice_str(state));

		if (parsed != REGISTRY_STATE_INVALID) {
			unit_hash_hex(bytes, assignment.hash);
			assignment.state = parsed;
			*ret = assignment;
			r = 0;
		}
	}
	json_decref(root);
	return r;
}
