/* An event holds references on the file entries whose values it shows, so that a kept event costs no copy of
 * a value. The JSON is written when somebody first asks for it and given up when only the history still holds
 * the event: a member that nobody talks to never writes any. */
#include "store/event.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"

static const char *const action_names[STORE_ACTION_MAX] = {
	[STORE_ACTION_GET] = "get",
	[STORE_ACTION_SET] = "set",
	[STORE_ACTION_CREATE] = "create",
	[STORE_ACTION_UPDATE] = "update",
	[STORE_ACTION_COMPARE_AND_SWAP] = "compareAndSwap",
	[STORE_ACTION_DELETE] = "delete",
	[STORE_ACTION_COMPARE_AND_DELETE] = "compareAndDelete",
	[STORE_ACTION_EXPIRE] = "expire",
};

const char *store_action_name(enum store_action action)
{
	assert(action < STORE_ACTION_MAX);
	return action_names[action];
}

struct store_event *event_new(
	enum store_action action, struct slice path, uint64_t modified, uint64_t created)
{
	struct store_event *event = mem_calloc(1, sizeof(*event) + path.len);

	event->refs = 1;
	event->action = action;
	event->node = (struct event_node){.present = true, .created = created, .modified = modified};
	event->path_len = path.len;
	memcpy(event->path, path.data, path.len);
	return event;
}

struct store_event *store_event_ref(struct store_event *event)
{
	assert(event->refs > 0 && event->refs < UINT32_MAX);
	event->refs++;
	return event;
}

struct store_event *store_event_unref(struct store_event *event)
{
	if (!event)
		return NULL;
	assert(event->refs > 0);
	if (--event->refs > 1)
		return NULL;
	event->json = mem_free(event->json);
	if (event->refs > 0)
		return NULL;
	if (event->node.file)
		entry_unref_file(event->node.file);
	if (event->prev.file)
		entry_unref_file(event->prev.file);
	free(event);
	return NULL;
}

enum store_action store_event_action(const struct store_event *event)
{
	return event->action;
}

uint64_t store_event_index(const struct store_event *event)
{
	return event->node.modified;
}

struct slice store_event_path(const struct store_event *event)
{
	return slice_make(event->path, event->path_len);
}

bool store_event_has_prev(const struct store_event *event)
{
	return event->prev.present;
}

int store_event_http_status(const struct store_event *event)
{
	bool made = event->action == STORE_ACTION_CREATE ||
		    (event->action == STORE_ACTION_SET && !event->prev.present);

	return made ? 201 : 200;
}

int64_t event_ttl_s(int64_t expires_ns, int64_t now_ns)
{
	int64_t left_ns;

	if (__builtin_sub_overflow(expires_ns, now_ns, &left_ns))
		left_ns = expires_ns > now_ns ? INT64_MAX : INT64_MIN;
	return left_ns / NS_PER_S + (left_ns % NS_PER_S > 0);
}

void event_node_set_expiry(struct event_node *node, bool has_expiry, int64_t expires_ns, int64_t now_ns)
{
	node->has_expiry = has_expiry;
	node->expires_ns = has_expiry ? expires_ns : 0;
	node->ttl_s = has_expiry ? event_ttl_s(expires_ns, now_ns) : 0;
}

void event_node_show(struct event_node *node, struct entry *entry, int64_t now_ns)
{
	node->present = true;
	node->created = entry->created;
	node->modified = entry->modified;
	node->dir = entry_is_dir(entry);
	node->file = node->dir ? NULL : entry_ref(entry);
	event_node_set_expiry(node, entry_has_expiry(entry), entry_expires_ns(entry), now_ns);
}

uint64_t event_bytes(const struct store_event *event)
{
	uint64_t bytes = sizeof(*event) + event->path_len;

	if (event->node.file)
		bytes += entry_value(event->node.file).len;
	if (event->prev.file)
		bytes += entry_value(event->prev.file).len;
	return bytes;
}

struct slice event_user_path(struct slice path)
{
	struct slice prefix = SLICE_LITERAL(STORE_USER_PREFIX);

	if (slice_starts_with(path, prefix) && (path.len == prefix.len || path.data[prefix.len] == '/'))
		return slice_make(path.data + prefix.len, path.len - prefix.len);
	return path;
}

void event_add_head(struct buf *out, struct slice path, const struct slice *value, bool dir, bool has_expiry,
	int64_t expires_ns, int64_t ttl_s)
{
	struct slice key = event_user_path(path);

	if (key.len) {
		buf_add_str(out, "\"key\":");
		json_add_string(out, key);
	}
	if (value) {
		buf_add_str(out, ",\"value\":");
		json_add_string(out, *value);
	}
	if (dir)
		buf_add_str(out, key.len ? ",\"dir\":true" : "\"dir\":true");
	if (has_expiry) {
		buf_add_str(out, ",\"expiration\":\"");
		text_add_rfc3339(out, expires_ns);
		buf_add_char(out, '"');
		if (ttl_s) {
			buf_add_str(out, ",\"ttl\":");
			buf_add_i64(out, ttl_s);
		}
	}
}

void event_add_tail(struct buf *out, uint64_t modified, uint64_t created)
{
	if (modified) {
		buf_add_str(out, ",\"modifiedIndex\":");
		buf_add_u64(out, modified);
	}
	if (created) {
		buf_add_str(out, ",\"createdIndex\":");
		buf_add_u64(out, created);
	}
}

static void event_add_node(struct buf *out, const struct store_event *event, const struct event_node *node)
{
	struct slice value = node->file ? entry_value(node->file) : slice_make("", 0);

	buf_add_char(out, '{');
	event_add_head(out, store_event_path(event), node->file ? &value : NULL, node->dir, node->has_expiry,
		node->expires_ns, node->ttl_s);
	event_add_tail(out, node->modified, node->created);
	buf_add_char(out, '}');
}

static size_t event_node_value_len(const struct event_node *node)
{
	return node->file ? entry_value(node->file).len : 0;
}

struct slice store_event_json(struct store_event *event)
{
	enum { JSON_FIXED_BYTES = 256 };

	if (!event->json) {
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		/* One block, unless much has to be escaped. */
		(void)buf_reserve(&out, JSON_FIXED_BYTES + 2 * event->path_len +
						event_node_value_len(&event->node) +
						event_node_value_len(&event->prev));
		buf_add_str(&out, "{\"action\":\"");
		buf_add_str(&out, store_action_name(event->action));
		buf_add_str(&out, "\",\"node\":");
		event_add_node(&out, event, &event->node);
		if (event->prev.present) {
			buf_add_str(&out, ",\"prevNode\":");
			event_add_node(&out, event, &event->prev);
		}
		buf_add_str(&out, "}\n");
		event->json = buf_take(&out, &event->json_len);
	}
	return slice_make(event->json, event->json_len);
}
