/* Events that come while a read is under way wait in a list (responses are counted references), which has a
 * ceiling: past it the read starts again. */
#include "fleet/mirror.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define MIRROR_WAITING_MAX 100000
#define MIRROR_RETRY_MS 200

struct mirror {
	struct etcd_client *client;
	char *key;
	size_t key_len;
	struct mirror_handler handler;
	void *userdata;
	struct etcd_watch *watch;
	struct etcd_request *read;
	struct etcd_response **waiting;
	size_t waiting_count, waiting_cap;
	uv_timer_t *retry;
	uint64_t index;
	bool opened;  /* the watch stands: a read may start */
	bool loaded;  /* at least one read succeeded */
	bool live;    /* the read of the present watch succeeded: events are applied as they come */
	bool telling; /* between begin() and end() of the handler */
};

static void start_read(struct mirror *mirror);

static void drop_waiting(struct mirror *mirror)
{
	for (size_t i = 0; i < mirror->waiting_count; i++)
		etcd_response_unref(mirror->waiting[i]);
	mirror->waiting_count = 0;
}

static const char *relative(const struct mirror *mirror, const char *key)
{
	if (strncmp(key, mirror->key, mirror->key_len) != 0)
		return NULL;
	key += mirror->key_len;
	if (*key == '/')
		return key + 1;
	return *key ? NULL : key;
}

static void tell_leaf(struct mirror *mirror, const struct etcd_node *node)
{
	const char *path = relative(mirror, node->key);

	if (path && path[0] && node->dir && mirror->handler.empty)
		mirror->handler.empty(mirror->userdata, path);
	else if (path && !node->dir)
		mirror->handler.set(mirror->userdata, path,
			slice_make(node->value ? node->value : "", node->value ? node->value_len : 0),
			node->modified_index);
}

static void tell_tree(struct mirror *mirror, const struct etcd_node *node)
{
	if (!node->node_count)
		tell_leaf(mirror, node);
	for (size_t i = 0; i < node->node_count; i++)
		tell_tree(mirror, &node->nodes[i]);
}

static void tell_begin(struct mirror *mirror, uint64_t index)
{
	mirror->telling = true;
	mirror->handler.begin(mirror->userdata, index);
}

static void tell_piece(const struct etcd_response *head, const struct etcd_node *node, void *userdata)
{
	if (node)
		tell_leaf(userdata, node);
	else
		tell_begin(userdata, head->etcd_index);
}

static bool action_is_removal(const char *action)
{
	return strcmp(action, "delete") == 0 || strcmp(action, "expire") == 0 ||
	       strcmp(action, "compareAndDelete") == 0;
}

static void apply(struct mirror *mirror, const struct etcd_response *event)
{
	const char *path;

	if (!event->node || !event->action || event->node->modified_index <= mirror->index)
		return;
	mirror->index = event->node->modified_index;
	path = relative(mirror, event->node->key);
	if (action_is_removal(event->action)) {
		/* A directory above the mirrored one takes it along. */
		if (!path && strncmp(mirror->key, event->node->key, strlen(event->node->key)) == 0)
			path = "";
		if (path)
			mirror->handler.remove(mirror->userdata, path, event->node->modified_index,
				strcmp(event->action, "expire") == 0);
	} else if (path && !event->node->dir) {
		mirror->handler.set(mirror->userdata, path,
			slice_make(event->node->value ? event->node->value : "",
				event->node->value ? event->node->value_len : 0),
			event->node->modified_index);
	}
	if (mirror->handler.turn)
		mirror->handler.turn(mirror->userdata);
}

static void retry_fired(uv_timer_t *timer)
{
	struct mirror *mirror = timer->data;

	if (mirror->opened && !mirror->live && !mirror->read)
		start_read(mirror);
}

static void read_done(const struct etcd_response *response, void *userdata)
{
	struct mirror *mirror = userdata;

	mirror->read = NULL;
	if (response->outcome != ETCD_OK && !etcd_response_is(response, ETCD_KEY_NOT_FOUND)) {
		if (mirror->handler.outage)
			mirror->handler.outage(mirror->userdata, response->error_text);
		uv_timer_start(mirror->retry, retry_fired, MIRROR_RETRY_MS, 0);
		return;
	}
	mirror->index = response->outcome == ETCD_OK ? response->etcd_index : response->error_index;
	if (!mirror->handler.in_pieces || response->outcome != ETCD_OK)
		tell_begin(mirror, mirror->index);
	if (response->outcome == ETCD_OK && response->node)
		tell_tree(mirror, response->node);
	mirror->live = mirror->loaded = true;
	mirror->telling = false;
	mirror->handler.end(mirror->userdata);
	if (mirror->handler.turn)
		mirror->handler.turn(mirror->userdata);
	for (size_t i = 0; i < mirror->waiting_count; i++)
		apply(mirror, mirror->waiting[i]);
	drop_waiting(mirror);
}

static void start_read(struct mirror *mirror)
{
	struct etcd_get_options options = {
		.recursive = true, .quorum = true, .each = mirror->handler.in_pieces ? tell_piece : NULL};

	mirror->live = false;
	mirror->read = etcd_request_cancel(mirror->read);
	mirror->read = etcd_get(mirror->client, mirror->key, &options, read_done, mirror);
}

static void keep_event(struct mirror *mirror, const struct etcd_response *event)
{
	if (mirror->waiting_count == MIRROR_WAITING_MAX) {
		/* The read has been under way for too long to be worth its events: begin it again from here.
		 */
		drop_waiting(mirror);
		start_read(mirror);
		return;
	}
	if (mirror->waiting_count == mirror->waiting_cap) {
		mirror->waiting_cap = mirror->waiting_cap ? mirror->waiting_cap * 2 : 16;
		mirror->waiting = mem_reallocarray(
			mirror->waiting, mirror->waiting_cap, sizeof(struct etcd_response *));
	}
	mirror->waiting[mirror->waiting_count++] = etcd_response_ref(event);
}

static void watch_news(struct etcd_watch *watch, enum etcd_watch_news news,
	const struct etcd_response *response, void *userdata)
{
	struct mirror *mirror = userdata;

	(void)watch;
	switch (news) {
	case ETCD_WATCH_OPEN:
		mirror->opened = true;
		drop_waiting(mirror);
		start_read(mirror);
		break;
	case ETCD_WATCH_EVENT:
		if (mirror->live)
			apply(mirror, response);
		else
			keep_event(mirror, response);
		break;
	case ETCD_WATCH_CLEARED:
		mirror->opened = mirror->live = false;
		mirror->read = etcd_request_cancel(mirror->read);
		drop_waiting(mirror);
		break;
	case ETCD_WATCH_OUTAGE:
	case ETCD_WATCH_REFUSED:
		if (mirror->handler.outage)
			mirror->handler.outage(
				mirror->userdata, response ? response->error_text : "connection lost");
		break;
	case ETCD_WATCH_NEWS_MAX:
		break;
	}
}

static void open_watch(struct mirror *mirror)
{
	struct etcd_watch_options options = {.recursive = true, .stream = true, .backoff_max_ms = 500};

	mirror->opened = mirror->live = false;
	mirror->watch = etcd_watch_open(mirror->client, mirror->key, &options, watch_news, mirror);
}

struct mirror *mirror_open(
	struct etcd_client *client, const char *key, const struct mirror_handler *handler, void *userdata)
{
	struct mirror *mirror = mem_new(struct mirror);

	mirror->client = client;
	mirror->key = mem_strdup(key);
	mirror->key_len = strlen(key);
	while (mirror->key_len > 1 && mirror->key[mirror->key_len - 1] == '/')
		mirror->key[--mirror->key_len] = '\0';
	mirror->handler = *handler;
	mirror->userdata = userdata;
	mirror->retry = mem_new(uv_timer_t);
	mirror->retry->data = mirror;
	uv_timer_init(etcd_client_loop(client), mirror->retry);
	open_watch(mirror);
	return mirror;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct mirror *mirror_close(struct mirror *mirror)
{
	if (!mirror)
		return NULL;
	etcd_watch_close(mirror->watch);
	etcd_request_cancel(mirror->read);
	drop_waiting(mirror);
	free(mirror->waiting);
	uv_close((uv_handle_t *)mirror->retry, timer_closed);
	free(mirror->key);
	free(mirror);
	return NULL;
}

bool mirror_is_loaded(const struct mirror *mirror)
{
	return mirror && mirror->loaded;
}

bool mirror_is_live(const struct mirror *mirror)
{
	return mirror_is_loaded(mirror) && mirror->live && !mirror->telling;
}

void mirror_restart(struct mirror *mirror)
{
	etcd_watch_close(mirror->watch);
	mirror->read = etcd_request_cancel(mirror->read);
	drop_waiting(mirror);
	open_watch(mirror);
}

uint64_t mirror_index(const struct mirror *mirror)
{
	return mirror->index;
}
