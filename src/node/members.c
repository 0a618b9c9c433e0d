/* The member table: a small array ordered by id. */
#include "base/json.h"
#include "base/wire.h"
#include "node/internal.h"

static const char *const no_urls[] = {NULL};

char **node_urls_dup(const char *const *urls)
{
	size_t count = 0;
	char **copy;

	while (urls && urls[count])
		count++;
	copy = mem_new_array(char *, count + 1);
	for (size_t i = 0; i < count; i++)
		copy[i] = mem_strdup(urls[i]);
	return copy;
}

char **node_urls_free(char **urls)
{
	for (size_t i = 0; urls && urls[i]; i++)
		free(urls[i]);
	free(urls);
	return NULL;
}

void node_urls_encode(struct buf *out, const char *const *urls)
{
	size_t count = 0;

	while (urls && urls[count])
		count++;
	wire_add_varint(out, count);
	for (size_t i = 0; i < count; i++)
		wire_add_bytes(out, slice_str(urls[i]));
}

char **node_urls_decode(struct wire_reader *reader)
{
	uint64_t count = wire_read_varint(reader);
	char **urls;

	if (reader->failed || count > wire_left(reader))
		return NULL;
	urls = mem_new_array(char *, count + 1);
	for (uint64_t i = 0; i < count; i++) {
		struct slice url = wire_read_bytes(reader);

		urls[i] = mem_strndup(url.data ? url.data : "", url.len);
	}
	return reader->failed ? node_urls_free(urls) : urls;
}

bool node_urls_fit(const char *const *urls)
{
	size_t count = 0;

	for (; urls && urls[count]; count++)
		if (strlen(urls[count]) > NODE_URL_BYTES_MAX)
			return false;
	return count <= NODE_MEMBER_URLS_MAX;
}

void node_urls_add_json(struct buf *out, char *const *urls)
{
	buf_add_char(out, '[');
	for (size_t i = 0; urls[i]; i++) {
		if (i)
			buf_add_char(out, ',');
		json_add_string(out, slice_str(urls[i]));
	}
	buf_add_char(out, ']');
}

static size_t position_of(const struct node *node, uint64_t id)
{
	size_t at = 0;

	while (at < node->members_len && node->members[at].view.id < id)
		at++;
	return at;
}

struct member *node_member_find(const struct node *node, uint64_t id)
{
	size_t at = position_of(node, id);

	return at < node->members_len && node->members[at].view.id == id ? &node->members[at] : NULL;
}

struct member *node_member_add(struct node *node, uint64_t id)
{
	size_t at = position_of(node, id);

	assert(!node_member_find(node, id));
	node->members = mem_reallocarray(node->members, node->members_len + 1, sizeof(*node->members));
	memmove(node->members + at + 1, node->members + at,
		(node->members_len - at) * sizeof(*node->members));
	node->members_len++;
	node->members[at] = (struct member){
		.view = {.id = id, .name = "", .peer_urls = no_urls, .client_urls = no_urls},
		.connected = true,
	};
	node->members_dirty = true;
	return &node->members[at];
}

static void member_done(struct member *member)
{
	node_urls_free(member->peer_urls);
	node_urls_free(member->client_urls);
	free(member->name);
}

void node_member_remove(struct node *node, uint64_t id)
{
	size_t at = position_of(node, id);

	assert(node_member_find(node, id));
	member_done(&node->members[at]);
	node->members_len--;
	memmove(node->members + at, node->members + at + 1,
		(node->members_len - at) * sizeof(*node->members));
	node->members_dirty = true;
}

void node_members_free(struct node *node)
{
	for (size_t i = 0; i < node->members_len; i++)
		member_done(&node->members[i]);
	free(node->members);
	free(node->removed_ids);
}

size_t node_member_count(const struct node *node)
{
	return node->members_len;
}

const struct node_member *node_member_at(const struct node *node, size_t position)
{
	assert(position < node->members_len);
	return &node->members[position].view;
}

const struct node_member *node_member_by_id(const struct node *node, uint64_t id)
{
	struct member *member = node_member_find(node, id);

	return member ? &member->view : NULL;
}

bool node_member_votes(const struct node *node, uint64_t id)
{
	return raft_conf_is_voter(raft_conf_get(node->raft), id);
}

void node_peer_state(struct node *node, uint64_t id, bool connected)
{
	struct member *member = node_member_find(node, id);

	/* What was lost over its last connection is not known, also while it is no member here yet. */
	if (connected && id == node->status.leader && !(member && member->connected))
		node_proposals_go_on(node);
	if (!member)
		return;
	if (!connected)
		raft_suspect(node->raft, id);
	if (member->connected && !connected) {
		raft_unreachable(node->raft, id);
		node_append_lost(member);
		node_transfer_cut_off(node, id);
	}
	member->connected = connected;
}
