/* Committed entries become state: store commands, membership, a member's attributes, the cluster version. All
 * of it is a function of the entries alone, so that it comes out the same on every member. What the cluster
 * keeps about itself is written into the store under /0 as etcd does, since that takes store indices. */
#include "base/json.h"
#include "base/wire.h"
#include "node/internal.h"
#include "store/command.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static void store_set(
	struct node *node, struct slice path, struct slice value, struct store_result *ret_result)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_command command = {.op = STORE_OP_SET, .path = path, .value = value};
	int r;

	store_command_encode(&command, &bytes);
	r = store_apply(node->store, buf_slice(&bytes), ret_result);
	assert(r == 0);
}

static void store_set_quietly(struct node *node, const char *path, const struct buf *value)
{
	struct store_result result;

	store_set(node, slice_str(path), buf_slice(value), &result);
	store_result_done(&result);
}

struct raft_blob *node_conf_entry(uint64_t id, const char *const *peer_urls)
{
	_cleanup_buf_ struct buf context = BUF_INIT(0);
	struct raft_conf_change change = {.step_count = 1};

	node_urls_encode(&context, peer_urls);
	change.steps[0].op = RAFT_CONF_ADD_VOTER;
	change.steps[0].id = id;
	change.context = buf_slice(&context);
	return raft_conf_change_encode(&change);
}

/* The initial cluster's members. */
static int apply_bootstrap(struct node *node, const struct raft_conf_change *change)
{
	struct wire_reader reader = wire_reader_make(change->context);
	char **urls = node_urls_decode(&reader);

	if (!urls)
		return -EBADMSG;
	if (change->step_count == 1 && raft_apply_conf(node->raft, change) == 0)
		node_member_set_peer_urls(node, change->steps[0].id, (const char *const *)urls);
	node_urls_free(urls);
	return 0;
}

static bool is_own(const struct node *node, const struct node_entry *entry)
{
	return entry->origin == node->id && entry->boot == node->boot;
}

/* An entry that carries a change of the membership; for raft's this is its context. */
static int apply_change(
	struct node *node, const struct node_entry *entry, const struct raft_entry *raft_entry)
{
	struct node_member_change change;
	enum node_error error;
	char **urls;

	if (node_change_decode(entry->payload, &change, &urls) < 0 ||
		(change.op == NODE_MEMBER_UPDATE) != (raft_entry->type == RAFT_ENTRY_DATA)) {
		return -EBADMSG;
	}
	error = node_change_apply(node, &change);
	node_urls_free(urls);
	if (raft_entry->type == RAFT_ENTRY_CONF)
		node_change_settle(node);
	if (is_own(node, entry))
		node_complete(node, entry, raft_entry, error, NULL);
	return 0;
}

static void apply_conf(struct node *node, const struct raft_entry *raft_entry)
{
	struct raft_conf_change change;
	struct node_entry entry;
	int r = raft_conf_change_decode(raft_blob_slice(raft_entry->data), &change);

	if (r == 0 && !change.step_count) {
		(void)raft_apply_conf(node->raft, &change);
		node_change_settle(node);
	} else if (r == 0 && raft_entry->term == NODE_BOOTSTRAP_TERM) {
		r = apply_bootstrap(node, &change);
	} else if (r == 0) {
		r = node_entry_decode(change.context, &entry);
		if (r == 0)
			r = entry.kind == NODE_ENTRY_MEMBER ? apply_change(node, &entry, raft_entry)
							    : -EBADMSG;
	}
	if (r < 0)
		(void)node_fail(node, "log entry %" PRIu64 " is no membership change that this version knows",
			raft_entry->index);
}

static void apply_attributes(struct node *node, const struct node_entry *entry)
{
	struct wire_reader reader = wire_reader_make(entry->payload);
	uint64_t id = wire_read_varint(&reader);
	struct slice name = wire_read_bytes(&reader);
	struct member *member = node_member_find(node, id);
	_cleanup_buf_ struct buf json = BUF_INIT(0);
	char path[64], **urls;

	urls = reader.failed ? NULL : node_urls_decode(&reader);
	if (!urls || !member || name.len > NODE_NAME_BYTES_MAX || !node_urls_fit((const char *const *)urls)) {
		node_urls_free(urls);
		return;
	}
	node_urls_free(member->client_urls);
	free(member->name);
	member->client_urls = urls;
	member->name = mem_strndup(name.data, name.len);
	member->view.client_urls = (const char *const *)urls;
	member->view.name = member->name;
	node->members_dirty = true;
	(void)snprintf(path, sizeof(path), STORE_CLUSTER_PREFIX "/members/%" PRIx64 "/attributes", id);
	buf_add_str(&json, "{\"name\":");
	json_add_string(&json, name);
	if (urls[0]) {
		buf_add_str(&json, ",\"clientURLs\":");
		node_urls_add_json(&json, urls);
	}
	buf_add_char(&json, '}');
	store_set_quietly(node, path, &json);
	if (id == node->id && entry->boot == node->boot)
		node->published = true;
}

static void apply_version(struct node *node, const struct node_entry *entry)
{
	struct store_result result;

	if (entry->payload.len > NODE_VERSION_BYTES_MAX)
		return;
	free(node->cluster_version);
	node->cluster_version = mem_strndup(entry->payload.data, entry->payload.len);
	store_set(node, slice_str(STORE_CLUSTER_PREFIX "/version"), entry->payload, &result);
	store_result_done(&result);
}

static void apply_data(struct node *node, const struct raft_entry *raft_entry)
{
	struct node_entry entry;
	struct store_result result = {0};
	bool has_result = false;

	if (node_entry_decode(raft_blob_slice(raft_entry->data), &entry) < 0) {
		(void)node_fail(node, "log entry %" PRIu64 " is of a format that this version does not know",
			raft_entry->index);
		return;
	}
	switch (entry.kind) {
	case NODE_ENTRY_COMMAND:
		has_result = store_apply(node->store, entry.payload, &result) == 0;
		if (!has_result)
			(void)node_fail(node,
				"log entry %" PRIu64 " is a store command that this version does not know",
				raft_entry->index);
		break;
	case NODE_ENTRY_ATTRIBUTES:
		apply_attributes(node, &entry);
		break;
	case NODE_ENTRY_VERSION_SET:
		apply_version(node, &entry);
		break;
	case NODE_ENTRY_MEMBER:
		if (apply_change(node, &entry, raft_entry) < 0)
			(void)node_fail(node,
				"log entry %" PRIu64 " is no membership change that this version knows",
				raft_entry->index);
		return;
	default:
		(void)node_fail(node, "log entry %" PRIu64 " is of a kind that this version does not know",
			raft_entry->index);
	}
	if (!node->failure && is_own(node, &entry))
		node_complete(node, &entry, raft_entry, NODE_OK, has_result ? &result : NULL);
	if (has_result)
		store_result_done(&result);
}

bool node_entry_is_sound(const struct raft_entry *raft_entry, uint64_t origin)
{
	bool is_conf = raft_entry->type == RAFT_ENTRY_CONF;
	struct slice bytes = raft_blob_slice(raft_entry->data);
	struct raft_conf_change conf;
	struct store_command command;
	struct node_member_change change;
	struct node_entry entry;
	char **urls;

	if (is_conf && raft_conf_change_decode(bytes, &conf) < 0)
		return false;
	if (node_entry_decode(is_conf ? conf.context : bytes, &entry) < 0 || entry.origin != origin ||
		(is_conf && entry.kind != NODE_ENTRY_MEMBER))
		return false;
	switch (entry.kind) {
	case NODE_ENTRY_COMMAND:
		return store_command_decode(entry.payload, &command) == 0 && command.op != STORE_OP_TICK;
	case NODE_ENTRY_ATTRIBUTES:
		return true;
	case NODE_ENTRY_MEMBER:
		if (node_change_decode(entry.payload, &change, &urls) < 0)
			return false;
		node_urls_free(urls);
		return (change.op == NODE_MEMBER_UPDATE) != is_conf && change.op != NODE_MEMBER_PROMOTE;
	default:
		return false;
	}
}

void node_apply_batch(struct node *node, const struct raft_batch *batch)
{
	for (size_t i = 0; i < batch->committed_count && !node->failure; i++) {
		const struct raft_entry *entry = &batch->committed[i];

		assert(entry->index == node->applied + 1);
		assert(entry->term >= node->applied_term);
		if (entry->type == RAFT_ENTRY_CONF)
			apply_conf(node, entry);
		else if (entry->type == RAFT_ENTRY_DATA)
			apply_data(node, entry);
		if (node->failure)
			return;
		node->applied = entry->index;
		node->turn_entries++;
		node->turn_bytes += raft_blob_slice(entry->data).len;
		node_checkpoint_applied(node, entry);
		if (entry->term > node->applied_term) {
			node->applied_term = entry->term;
			node_proposals_lost_before(node, entry->term);
		}
		if (node->applied % NODE_HASH_INTERVAL == 0)
			node_hash_reached(node, node->applied);
	}
	if (batch->committed_count)
		raft_applied(node->raft, node->applied);
}
