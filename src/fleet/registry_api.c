/* A mirror, a cluster and an API on a socket that only this user can reach. */
#include "fleet/registry_api.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "etcdclient/client.h"
#include "fleet/api.h"
#include "fleet/mirror.h"
#include "io/tls.h"

#define REGISTRY_WAIT_MS 8000 /* for the first read */

struct registry_api {
	char *prefix;
	struct etcd_client *client;
	struct cluster *cluster;
	struct mirror *mirror;
	struct api_access *access;
	struct api *api;
	struct http_server *server;
	char *why;	/* the registry cannot be read; NULL: it can, or has not been tried */
	size_t outages; /* since it could be read: each is told of one endpoint */
};

/* ---- the mirror ---- */

static void on_begin(void *user, uint64_t index)
{
	cluster_begin(((struct registry_api *)user)->cluster, index);
}

static void on_set(void *user, const char *path, struct slice value, uint64_t index)
{
	cluster_set(((struct registry_api *)user)->cluster, path, value, index);
}

static void on_remove(void *user, const char *path, uint64_t index, bool expired)
{
	(void)expired;
	cluster_remove(((struct registry_api *)user)->cluster, path, index);
}

static void on_end(void *user)
{
	struct registry_api *a = user;

	a->why = mem_free(a->why);
	a->outages = 0;
	cluster_end(a->cluster);
}

/* Whether every endpoint has been tried in vain. Until then the next one may answer. */
static bool is_lost(const struct registry_api *a)
{
	return a->outages >= etcd_client_endpoint_count(a->client);
}

static void on_outage(void *user, const char *why)
{
	struct registry_api *a = user;

	/* What is told is what the first of them said. */
	if (a->outages++ % etcd_client_endpoint_count(a->client) == 0) {
		free(a->why);
		a->why = mem_printf("fleet server unable to communicate with etcd: %s", why);
	}
	if (is_lost(a) && !mirror_is_loaded(a->mirror))
		api_refuse_waiting(a->api);
}

static void on_turn(void *user)
{
	api_turn(((struct registry_api *)user)->api);
}

/* ---- what the API asks ---- */

static bool is_loaded(void *user)
{
	return mirror_is_loaded(((struct registry_api *)user)->mirror);
}

static void is_needed(void *user)
{
	(void)user; /* it is kept all the time */
}

static uint64_t index_of(void *user)
{
	return mirror_index(((struct registry_api *)user)->mirror);
}

static const char *why_not(void *user)
{
	const struct registry_api *a = user;

	return mirror_is_loaded(a->mirror) || !is_lost(a) ? NULL : a->why;
}

static const char *nobody(void *user)
{
	(void)user;
	return NULL;
}

static const struct api_access *access_of(void *user)
{
	return ((struct registry_api *)user)->access;
}

static void no_stats(void *user, struct engine_stats *ret)
{
	(void)user;
	*ret = (struct engine_stats){0};
}

/* ---- life ---- */

/* As to the store, so to the machines whose addresses are https://…. */
static int open_peer_tls(
	struct registry_api *a, const struct etcd_client_options *options, struct buf *reterr)
{
	const struct tls_files files = {options->cert_file, options->key_file, options->ca_file};
	struct tls_context *context;
	int r;

	/* Else the client has its own, when it meets such an address. */
	if (!tls_files_given(&files))
		return 0;
	r = tls_client_new(&files, false, &context, reterr);
	if (r < 0)
		return r;
	api_set_peer_tls(a->api, context);
	(void)tls_context_unref(context);
	return 0;
}

static void open_api(struct registry_api *a, uv_loop_t *loop)
{
	const struct api_config config = {.loop = loop,
		.client = a->client,
		.prefix = a->prefix,
		.machine_id = "",
		.peer_token = "",
		.cluster = a->cluster,
		.token_limit = UINT16_MAX,
		.cluster_loaded = is_loaded,
		.cluster_needed = is_needed,
		.mirror_index = index_of,
		.leader = nobody,
		.unavailable = why_not,
		.wait_ms = REGISTRY_WAIT_MS,
		.access = access_of,
		.engine_stats = no_stats,
		.store_answers = is_loaded,
		.userdata = a};

	a->api = api_new(&config);
}

int registry_api_open(uv_loop_t *loop, const struct etcd_client_options *options, const char *prefix,
	const char *socket_path, struct registry_api **ret, struct buf *reterr)
{
	static const struct mirror_handler handler = {
		on_begin, on_set, on_remove, on_end, on_turn, on_outage, NULL, true};
	struct registry_api *a = mem_new(struct registry_api);
	_cleanup_free_ char *error = NULL;
	size_t len = strlen(prefix);
	int r;

	while (len && prefix[len - 1] == '/')
		len--;
	a->prefix = mem_strndup(prefix, len);
	r = etcd_client_new(loop, options, &a->client, &error);
	if (r < 0) {
		buf_add_str(reterr, error ? error : strerror(-r));
		(void)registry_api_close(a);
		return r;
	}
	a->cluster = cluster_new();
	r = api_access_read("", &a->access, reterr);
	open_api(a, loop);
	if (r == 0)
		r = open_peer_tls(a, options, reterr);
	a->server = api_server(a->api, false);
	if (r == 0)
		r = http_server_listen_unix(a->server, socket_path, 0600, reterr);
	if (r < 0) {
		(void)registry_api_close(a);
		return r;
	}
	a->mirror = mirror_open(a->client, a->prefix, &handler, a);
	*ret = a;
	return 0;
}

void registry_api_route(struct registry_api *a, const char *host, uint16_t port, const char *unix_path)
{
	client_route(a->client, host, port, unix_path);
}

struct registry_api *registry_api_close(struct registry_api *a)
{
	if (!a)
		return NULL;
	if (a->server)
		http_server_close(a->server, NULL, NULL);
	a->mirror = mirror_close(a->mirror);
	a->api = api_free(a->api);
	a->access = api_access_free(a->access);
	a->cluster = cluster_free(a->cluster);
	a->client = etcd_client_free(a->client);
	free(a->prefix);
	free(a->why);
	free(a);
	return NULL;
}
