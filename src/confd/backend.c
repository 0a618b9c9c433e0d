/* The etcd side asks for one key after the other, recursively; the index to watch from is that of the first
 * answer, so that no change between the answers is lost. The environment is read at once, but answered in a
 * later turn like any other backend. */
#include "confd/backend.h"
#include "flotilla/etcd.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

extern char **environ;

struct backend {
	uv_loop_t *loop;
	struct etcd_client *etcd; /* NULL: the environment */
	struct backend_fetch *fetches;
};

struct backend_fetch {
	struct backend *backend;
	struct backend_fetch *next;
	const struct slice *keys;
	size_t count, at;
	struct confd_tree *tree;
	backend_fetched_fn *fn;
	void *user;
	struct etcd_request *request;
	uint64_t index;
	uv_timer_t timer; /* the environment's later turn */
};

static void fetch_unlink(struct backend_fetch *fetch)
{
	struct backend_fetch **at = &fetch->backend->fetches;

	while (*at != fetch)
		at = &(*at)->next;
	*at = fetch->next;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void fetch_free(struct backend_fetch *fetch)
{
	fetch_unlink(fetch);
	etcd_request_cancel(fetch->request);
	fetch->timer.data = fetch;
	uv_close((uv_handle_t *)&fetch->timer, timer_closed);
}

void backend_fetch_cancel(struct backend_fetch *fetch)
{
	fetch_free(fetch);
}

static void fetch_done(struct backend_fetch *fetch, const struct backend_result *result)
{
	backend_fetched_fn *fn = fetch->fn;
	void *user = fetch->user;

	fetch_free(fetch);
	fn(result, user);
}

/* ---- environment ---- */

/* "/lab/a" is asked for as LAB_A, and LAB_A_B answers "/lab/a/b". */
static bool name_matches(const char *name, size_t name_len, struct slice key)
{
	if (key.len && key.data[0] == '/')
		key = slice_make(key.data + 1, key.len - 1);
	if (name_len < key.len)
		return false;
	for (size_t i = 0; i < key.len; i++)
		if (name[i] != (key.data[i] == '/' ? '_' : (char)toupper((unsigned char)key.data[i])))
			return false;
	return true;
}

static void add_variable(struct confd_tree *tree, const char *name, size_t name_len, const char *value)
{
	struct arena *arena = tree->arena;
	char *key = arena_alloc(arena, name_len + 2);
	struct confd_node *leaf;
	struct slice clean;

	key[0] = '/';
	for (size_t i = 0; i < name_len; i++)
		key[1 + i] = name[i] == '_' ? '/' : (char)tolower((unsigned char)name[i]);
	clean = path_clean(arena, slice_make(key, name_len + 1));
	leaf = confd_node_new(arena, clean);
	leaf->value = slice_make(arena_strndup(arena, value, strlen(value)), strlen(value));
	confd_tree_add_root(tree, leaf);
}

static void env_fetch(uv_timer_t *timer)
{
	struct backend_fetch *fetch = timer->data;

	for (size_t i = 0; i < fetch->count; i++) {
		for (char **variable = environ; *variable; variable++) {
			const char *equals = strchr(*variable, '=');

			if (equals && name_matches(*variable, (size_t)(equals - *variable), fetch->keys[i]))
				add_variable(
					fetch->tree, *variable, (size_t)(equals - *variable), equals + 1);
		}
	}
	fetch_done(fetch, &(struct backend_result){.answered = true});
}

/* ---- etcd ---- */

static struct confd_node *node_from_etcd(struct arena *arena, const struct etcd_node *from, unsigned depth)
{
	struct confd_node *node =
		confd_node_new(arena, from->key[0] ? slice_str(from->key) : SLICE_LITERAL("/"));

	node->dir = from->dir;
	node->ttl_s = from->ttl_s;
	node->modified_index = from->modified_index;
	node->created_index = from->created_index;
	node->value = slice_make("", 0);
	if (from->value)
		node->value = slice_make(arena_strndup(arena, from->value, from->value_len), from->value_len);
	if (from->expiration)
		node->expiration =
			slice_str(arena_strndup(arena, from->expiration, strlen(from->expiration)));
	for (size_t i = 0; i < from->node_count && depth < 1000; i++)
		confd_node_add(arena, node, node_from_etcd(arena, &from->nodes[i], depth + 1));
	return node;
}

static void etcd_fetch_next(struct backend_fetch *fetch);

static void etcd_fetched(const struct etcd_response *response, void *user)
{
	struct backend_fetch *fetch = user;
	struct backend_result result = {.index = fetch->index};

	fetch->request = NULL;
	if (response->outcome == ETCD_REFUSED) {
		uint64_t index = response->etcd_index ? response->etcd_index : response->error_index;

		result.answered = index > 0;
		if (!result.index || index < result.index)
			result.index = index;
	}
	if (response->outcome != ETCD_OK || !response->node) {
		result.error =
			response->error_text[0] ? response->error_text : "the store's answer has no node";
		fetch_done(fetch, &result);
		return;
	}
	if (!fetch->index || response->etcd_index < fetch->index)
		fetch->index = response->etcd_index;
	confd_tree_add_root(fetch->tree, node_from_etcd(fetch->tree->arena, response->node, 0));
	fetch->at++;
	etcd_fetch_next(fetch);
}

static void fetch_nothing(uv_timer_t *timer)
{
	struct backend_fetch *fetch = timer->data;

	fetch_done(fetch, &(struct backend_result){.answered = true, .index = fetch->index});
}

static void etcd_fetch_next(struct backend_fetch *fetch)
{
	static const struct etcd_get_options options = {.recursive = true, .sorted = true, .quorum = true};

	if (fetch->at == fetch->count) {
		fetch_done(fetch, &(struct backend_result){.answered = true, .index = fetch->index});
		return;
	}
	fetch->request =
		etcd_get(fetch->backend->etcd, fetch->keys[fetch->at].data, &options, etcd_fetched, fetch);
}

struct backend_fetch *backend_fetch(struct backend *backend, const struct slice *keys, size_t count,
	struct confd_tree *tree, backend_fetched_fn *fn, void *user)
{
	struct backend_fetch *fetch = mem_new(struct backend_fetch);

	*fetch = (struct backend_fetch){
		.backend = backend, .keys = keys, .count = count, .tree = tree, .fn = fn, .user = user};
	fetch->next = backend->fetches;
	backend->fetches = fetch;
	uv_timer_init(backend->loop, &fetch->timer);
	fetch->timer.data = fetch;
	if (!backend->etcd)
		uv_timer_start(&fetch->timer, env_fetch, 0, 0);
	else if (!count)
		uv_timer_start(&fetch->timer, fetch_nothing, 0, 0);
	else
		etcd_fetch_next(fetch);
	return fetch;
}

/* ---- watch ---- */

struct watched_key {
	struct backend_watch *watch;
	struct etcd_watch *etcd;
	bool down, cleared;
};

struct backend_watch {
	backend_changed_fn *fn;
	void *user;
	struct watched_key *keys;
	size_t count;
};

static void etcd_news(
	struct etcd_watch *etcd, enum etcd_watch_news news, const struct etcd_response *response, void *user)
{
	struct watched_key *key = user;
	struct backend_watch *watch = key->watch;
	bool was_down = key->down, was_cleared = key->cleared;

	(void)etcd;
	if (news == ETCD_WATCH_OUTAGE || news == ETCD_WATCH_REFUSED) {
		key->down = true;
		if (!was_down)
			watch->fn(BACKEND_OUTAGE, response ? response->error_text : "", watch->user);
		return;
	}
	key->down = false;
	key->cleared = news == ETCD_WATCH_CLEARED;
	if (was_down)
		watch->fn(BACKEND_BACK, "", watch->user);
	/* After lost events the read must begin once the new watch listens. */
	if (news == ETCD_WATCH_EVENT || news == ETCD_WATCH_CLEARED ||
		(news == ETCD_WATCH_OPEN && was_cleared))
		watch->fn(BACKEND_CHANGED, "", watch->user);
}

struct backend_watch *backend_watch(struct backend *backend, const struct slice *keys, size_t count,
	uint64_t index, backend_changed_fn *fn, void *user)
{
	struct etcd_watch_options options = {.recursive = true, .after_index = index};
	struct backend_watch *watch;

	if (!backend->etcd || !count)
		return NULL;
	watch = mem_new(struct backend_watch);
	watch->fn = fn;
	watch->user = user;
	watch->count = count;
	watch->keys = mem_new_array(struct watched_key, count);
	for (size_t i = 0; i < count; i++) {
		watch->keys[i].watch = watch;
		watch->keys[i].etcd =
			etcd_watch_open(backend->etcd, keys[i].data, &options, etcd_news, &watch->keys[i]);
	}
	return watch;
}

struct backend_watch *backend_watch_close(struct backend_watch *watch)
{
	if (!watch)
		return NULL;
	for (size_t i = 0; i < watch->count; i++)
		etcd_watch_close(watch->keys[i].etcd);
	free(watch->keys);
	return mem_free(watch);
}

/* ---- life ---- */

static const char *const unsupported[] = {
	"etcdv3", "consul", "zookeeper", "redis", "file", "vault", "dynamodb", "ssm", "rancher"};

static int etcd_open(const struct confd_config *config, struct backend *backend, struct buf *reterr)
{
	_cleanup_buf_ struct buf endpoints = BUF_INIT(1 << 16);
	_cleanup_free_ char *error = NULL;
	struct etcd_client_options options = {0};
	int r;

	for (size_t i = 0; i < config->node_count; i++) {
		if (i)
			buf_add_char(&endpoints, ',');
		if (!strstr(config->nodes[i], "://") && strcmp(config->scheme, "http") != 0)
			buf_printf(&endpoints, "%s://", config->scheme);
		buf_add_str(&endpoints, config->nodes[i]);
	}
	options.endpoints = buf_text(&endpoints);
	options.ca_file = config->client_cakeys;
	options.cert_file = config->client_cert;
	options.key_file = config->client_key;
	if (config->basic_auth) {
		options.username = config->username;
		options.password = config->password;
	}
	r = etcd_client_new(backend->loop, &options, &backend->etcd, &error);
	if (r < 0)
		buf_add_str(reterr, error ? error : strerror(-r));
	return r;
}

int backend_open(
	const struct confd_config *config, uv_loop_t *loop, struct backend **ret_backend, struct buf *reterr)
{
	struct backend *backend;
	int r;

	for (size_t i = 0; i < ARRAY_LEN(unsupported); i++) {
		if (strcmp(config->backend, unsupported[i]) != 0)
			continue;
		buf_printf(reterr,
			"Backend %s is not supported (supported are etcd, with the v2 API, and env)",
			config->backend);
		return -ENOTSUP;
	}
	if (strcmp(config->backend, "etcd") != 0 && strcmp(config->backend, "env") != 0) {
		buf_add_str(reterr, "Invalid backend");
		return -EINVAL;
	}
	backend = mem_new(struct backend);
	backend->loop = loop;
	r = config->backend[1] == 't' ? etcd_open(config, backend, reterr) : 0;
	if (r < 0) {
		free(backend);
		return r;
	}
	*ret_backend = backend;
	return 0;
}

struct backend *backend_close(struct backend *backend)
{
	if (!backend)
		return NULL;
	while (backend->fetches)
		fetch_free(backend->fetches);
	etcd_client_free(backend->etcd);
	return mem_free(backend);
}
