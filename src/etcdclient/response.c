/* JSON is parsed by jansson and copied into the response's arena, so that one free gives everything back and
 * callers get plain structs. Servers are not trusted: sizes are limited by the transport, depth by jansson
 * (2048 levels), and every field is checked for its type. */
#include "etcdclient/response.h"
#include "base/text.h"
#include <errno.h>
#include <jansson.h>
#include <strings.h>

static void json_freep(json_t **json)
{
	json_decref(*json);
}

struct response *response_new(void)
{
	struct response *response = mem_new(struct response);

	arena_init(&response->arena);
	response->refs = 1;
	response->pub.message = response->pub.cause = response->pub.error_text = response->pub.body = "";
	return response;
}

struct etcd_response *etcd_response_ref(const struct etcd_response *response)
{
	struct response *full =
		container_of((struct etcd_response *)(uintptr_t)response, struct response, pub);

	full->refs++;
	return &full->pub;
}

struct etcd_response *etcd_response_unref(struct etcd_response *response)
{
	if (!response)
		return NULL;
	struct response *full = container_of(response, struct response, pub);
	assert(full->refs > 0);
	if (--full->refs > 0)
		return NULL;
	free(full->attempts);
	arena_done(&full->arena);
	free(full);
	return NULL;
}

void response_add_attempt(struct response *response, const char *endpoint, const char *error, bool timed_out)
{
	if (response->pub.attempt_count == response->attempt_cap) {
		response->attempt_cap = response->attempt_cap ? response->attempt_cap * 2 : 4;
		response->attempts = mem_reallocarray(
			response->attempts, response->attempt_cap, sizeof(struct etcd_attempt));
		response->pub.attempts = response->attempts;
	}
	response->attempts[response->pub.attempt_count++] = (struct etcd_attempt){
		.endpoint = arena_printf(&response->arena, "%s", endpoint),
		.error = arena_printf(&response->arena, "%s", error),
		.timed_out = timed_out,
	};
}

void response_set_header(struct response *response, struct slice name, struct slice value)
{
	static const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
		{"X-Etcd-Index", offsetof(struct etcd_response, etcd_index)},
		{"X-Raft-Index", offsetof(struct etcd_response, raft_index)},
		{"X-Raft-Term", offsetof(struct etcd_response, raft_term)},
	};
	uint64_t number;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		if (name.len == strlen(numbers[i].name) &&
			!strncasecmp(name.data, numbers[i].name, name.len) &&
			text_to_u64(value, &number) >= 0)
			*(uint64_t *)((char *)&response->pub + numbers[i].offset) = number;
	if (name.len == 17 && !strncasecmp(name.data, "X-Etcd-Cluster-Id", 17))
		response->pub.cluster_id = arena_strndup(&response->arena, value.data, value.len);
}

static const char *copy_string(struct response *response, const json_t *string)
{
	return arena_strndup(&response->arena, json_string_value(string), json_string_length(string));
}

static uint64_t get_u64(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value > 0 ? (uint64_t)value : 0;
}

static int fill_node(struct response *response, const json_t *json, struct etcd_node *node)
{
	const json_t *value = json_object_get(json, "value"), *key = json_object_get(json, "key");
	const json_t *nodes = json_object_get(json, "nodes"),
		     *expiration = json_object_get(json, "expiration");

	if (!json_is_object(json))
		return -EBADMSG;
	node->key = json_is_string(key) ? copy_string(response, key) : "";
	if (json_is_string(value)) {
		node->value = copy_string(response, value);
		node->value_len = json_string_length(value);
	}
	if (json_is_string(expiration))
		node->expiration = copy_string(response, expiration);
	node->dir = json_is_true(json_object_get(json, "dir"));
	node->ttl_s = json_integer_value(json_object_get(json, "ttl"));
	node->modified_index = get_u64(json, "modifiedIndex");
	node->created_index = get_u64(json, "createdIndex");
	if (!json_is_array(nodes))
		return 0;
	node->node_count = json_array_size(nodes);
	node->nodes = arena_alloc(&response->arena, (node->node_count + 1) * sizeof(*node->nodes));
	for (size_t i = 0; i < node->node_count; i++) {
		int r = fill_node(response, json_array_get(nodes, i), &node->nodes[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_node(struct response *response, const json_t *json, const struct etcd_node **ret_node)
{
	struct etcd_node *node;
	int r;

	if (!json || json_is_null(json))
		return 0;
	node = arena_alloc(&response->arena, sizeof(*node));
	r = fill_node(response, json, node);
	if (r >= 0)
		*ret_node = node;
	return r;
}

static int parse_event(struct response *response, const json_t *json)
{
	const json_t *action = json_object_get(json, "action");
	int r;

	if (!json_is_string(action) || !json_is_object(json_object_get(json, "node")))
		return -EBADMSG;
	response->pub.action = copy_string(response, action);
	r = parse_node(response, json_object_get(json, "node"), &response->pub.node);
	if (r >= 0)
		r = parse_node(response, json_object_get(json, "prevNode"), &response->pub.prev_node);
	return r;
}

static const char *const *copy_strings(struct response *response, const json_t *array, size_t *ret_count)
{
	size_t count = json_array_size(array);
	const char **strings = arena_alloc(&response->arena, (count + 1) * sizeof(*strings));

	*ret_count = 0;
	for (size_t i = 0; i < count; i++)
		if (json_is_string(json_array_get(array, i)))
			strings[(*ret_count)++] = copy_string(response, json_array_get(array, i));
	return strings;
}

static void fill_member(struct response *response, const json_t *json, struct etcd_member *member)
{
	const json_t *id = json_object_get(json, "id"), *name = json_object_get(json, "name");

	member->id = json_is_string(id) ? copy_string(response, id) : "";
	member->name = json_is_string(name) ? copy_string(response, name) : "";
	member->peer_urls =
		copy_strings(response, json_object_get(json, "peerURLs"), &member->peer_url_count);
	member->client_urls =
		copy_strings(response, json_object_get(json, "clientURLs"), &member->client_url_count);
}

/* A list, or one member alone (/v2/members/leader and the answer of an add). */
static int parse_members(struct response *response, const json_t *json)
{
	const json_t *list = json_object_get(json, "members");
	bool single = json_is_string(json_object_get(json, "id"));
	size_t count = single ? 1 : json_array_size(list);
	struct etcd_member *members;

	if (!single && !json_is_array(list))
		return -EBADMSG;
	members = arena_alloc(&response->arena, (count + 1) * sizeof(*members));
	for (size_t i = 0; i < count; i++)
		fill_member(response, single ? json : json_array_get(list, i), &members[i]);
	response->pub.members = members;
	response->pub.member_count = count;
	return 0;
}

/* {"errorCode":..} of keys, {"message":..} of the rest, or any text. */
static void parse_error(struct response *response, const json_t *json)
{
	const json_t *message = json_object_get(json, "message"), *cause = json_object_get(json, "cause");
	struct etcd_response *pub = &response->pub;

	pub->outcome = ETCD_REFUSED;
	pub->code = (int)get_u64(json, "errorCode");
	pub->error_index = get_u64(json, "index");
	if (json_is_string(message))
		pub->message = copy_string(response, message);
	if (json_is_string(cause))
		pub->cause = copy_string(response, cause);
	if (pub->code)
		pub->error_text = arena_printf(&response->arena, "%d: %s (%s) [%llu]", pub->code,
			pub->message, pub->cause, (unsigned long long)pub->error_index);
	else if (pub->message[0])
		pub->error_text = pub->message;
	else
		pub->error_text = arena_printf(&response->arena, "unexpected status code %d", pub->status);
}

/* An earlier endpoint's error may still be there. */
static void forget_error(struct etcd_response *pub)
{
	pub->code = 0;
	pub->error_index = 0;
	pub->message = pub->cause = pub->error_text = "";
	pub->outcome = ETCD_OK;
}

static void set_bad_answer(struct response *response)
{
	struct etcd_response *pub = &response->pub;

	pub->outcome = ETCD_BAD_ANSWER;
	pub->error_text =
		arena_printf(&response->arena, "%s does not answer like etcd's v2 API (status %d, %zu bytes)",
			pub->endpoint ? pub->endpoint : "the endpoint", pub->status, pub->body_len);
}

int response_parse_leaf(struct response *response, struct slice text, struct etcd_node *ret_node)
{
	_cleanup_(json_freep) json_t *json = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);

	*ret_node = (struct etcd_node){0};
	if (!json || fill_node(response, json, ret_node) < 0)
		return -EBADMSG;
	/* The root has no key, and is nothing else. */
	return ret_node->key[0] || ret_node->dir ? 0 : -EBADMSG;
}

int response_end_pieces(struct response *response, bool complete)
{
	forget_error(&response->pub);
	if (complete)
		return 0;
	set_bad_answer(response);
	return -EBADMSG;
}

int response_parse(struct response *response, enum response_kind kind, struct slice body)
{
	_cleanup_(json_freep) json_t *json = NULL;
	struct etcd_response *pub = &response->pub;
	bool success = pub->status >= 200 && pub->status < 300;
	int r = 0;

	forget_error(pub);
	pub->body = arena_strndup(&response->arena, body.data ? body.data : "", body.len);
	pub->body_len = body.len;
	if (kind != RESPONSE_RAW || !success)
		json = json_loadb(pub->body, body.len, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
	if (!success) {
		parse_error(response, json);
		/* What answers a keys request without one of etcd's codes is no etcd. */
		if (kind == RESPONSE_KEYS && !pub->code && !pub->message[0])
			r = -EBADMSG;
	} else if (kind == RESPONSE_KEYS) {
		r = parse_event(response, json);
	} else if (kind == RESPONSE_MEMBERS) {
		r = parse_members(response, json);
	}
	if (r < 0 && success)
		set_bad_answer(response);
	else if (r < 0)
		pub->outcome = ETCD_BAD_ANSWER;
	return r;
}

void response_set_failure(struct response *response, enum etcd_outcome outcome)
{
	_cleanup_buf_ struct buf text = BUF_INIT(64 << 10);

	response->pub.outcome = outcome;
	if (outcome == ETCD_UNKNOWN)
		buf_add_str(&text, "the request was sent, its outcome is unknown: ");
	else if (outcome == ETCD_UNREACHABLE)
		buf_add_str(&text, "no endpoint answers: ");
	for (size_t i = 0; i < response->pub.attempt_count; i++)
		buf_printf(&text, "%s%s: %s", i ? "; " : "", response->attempts[i].endpoint,
			response->attempts[i].error);
	if (response->pub.message[0])
		buf_printf(&text, " (%s%s%s)", response->pub.message, response->pub.cause[0] ? ": " : "",
			response->pub.cause);
	response->pub.error_text = arena_strndup(&response->arena, buf_text(&text), text.len);
}

const char *etcd_node_name(const struct etcd_node *node)
{
	const char *slash = strrchr(node->key, '/');

	return slash ? slash + 1 : node->key;
}

const struct etcd_node *etcd_node_child(const struct etcd_node *node, const char *name)
{
	for (size_t i = 0; i < node->node_count; i++)
		if (!strcmp(etcd_node_name(&node->nodes[i]), name))
			return &node->nodes[i];
	return NULL;
}

bool etcd_response_is(const struct etcd_response *response, enum etcd_code code)
{
	return (response->outcome == ETCD_REFUSED || response->outcome == ETCD_UNKNOWN) &&
	       response->code == (int)code;
}
