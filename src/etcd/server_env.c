/* Glue: each call of the node becomes one of disk or peers, and what they answer is handed to the node. The
 * peers to connect to follow the node's member list. */
#include "etcd/server_env.h"
#include "etcd/config.h"
#include "etcd/disk.h"
#include "etcd/join.h"
#include "etcd/peer.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/time.h"
#include <errno.h>
#include <stdio.h>

enum { MEMBERS_BYTES_MAX = 4 << 20 };

struct server_env {
	struct env env; /* what the node sees */
	struct server_env_options options;
	struct disk *disk;
	struct peers *peers;
	struct node *node; /* NULL until attached */
};

static struct server_env *from_env(struct env *env)
{
	return container_of(env, struct server_env, env);
}

static int64_t env_mono_ns(struct env *env)
{
	(void)env;
	return time_mono_ns();
}

static int64_t env_wall_ns(struct env *env)
{
	(void)env;
	return time_wall_ns();
}

static void env_random(struct env *env, void *ret_bytes, size_t len)
{
	(void)env;
	rng_system(ret_bytes, len);
}

static int env_disk_list(
	struct env *env, void (*fn)(void *arg, const char *name, uint64_t size_bytes), void *arg)
{
	return disk_list(from_env(env)->disk, fn, arg);
}

static int env_disk_read(
	struct env *env, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	return disk_read(from_env(env)->disk, name, max_bytes, ret_data, ret_len);
}

static int env_disk_read_range(
	struct env *env, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	return disk_read_range(from_env(env)->disk, name, offset, len, out);
}

static uint64_t env_disk_room(struct env *env)
{
	return disk_room(from_env(env)->disk);
}

static void env_store_leaving(struct env *env, struct store *store)
{
	struct server_env *own = from_env(env);

	own->options.on_store_leaving(store, own->options.user);
}

static void env_disk_submit(struct env *env, const struct wal_plan *plan)
{
	disk_submit(from_env(env)->disk, plan);
}

static void env_send(struct env *env, uint64_t to, struct slice message, bool bulk)
{
	(void)peers_send(from_env(env)->peers, to, message, bulk);
}

static void env_reply(struct env *env, void *request, const struct node_reply *reply)
{
	from_env(env)->options.on_reply(request, reply);
}

static void env_members_changed(struct env *env)
{
	struct server_env *own = from_env(env);
	struct peer_address addresses[NODE_MEMBERS_MAX + NODE_MEMBERS_MAX];
	size_t count;

	if (!own->node)
		return; /* server_env_attach() looks */
	count = node_member_count(own->node);
	assert(count <= NODE_MEMBERS_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct node_member *member = node_member_at(own->node, i);

		addresses[i] = (struct peer_address){member->id, member->peer_urls};
	}
	if (!node_member_by_id(own->node, own->options.member_id)) {
		assert(own->options.seeds_len <= NODE_MEMBERS_MAX);
		for (size_t i = 0; i < own->options.seeds_len; i++)
			if (!node_member_by_id(own->node, own->options.seeds[i].id))
				addresses[count++] = own->options.seeds[i];
	}
	peers_set(own->peers, addresses, count);
}

static void env_note(struct env *env, int level, const char *text)
{
	(void)env;
	log_write((enum log_level)level, "%s", text);
}

static const struct env_ops ops = {
	.mono_ns = env_mono_ns,
	.wall_ns = env_wall_ns,
	.random = env_random,
	.disk_list = env_disk_list,
	.disk_read = env_disk_read,
	.disk_read_range = env_disk_read_range,
	.disk_room = env_disk_room,
	.disk_submit = env_disk_submit,
	.send = env_send,
	.reply = env_reply,
	.members_changed = env_members_changed,
	.store_leaving = env_store_leaving,
	.note = env_note,
};

static void on_disk_done(const struct wal_plan *plan, int error, void *user)
{
	struct server_env *env = user;

	node_disk_done(env->node, plan, error);
	env->options.on_event(env->options.user);
}

static int on_message(uint64_t from, struct slice message, void *user)
{
	struct server_env *env = user;
	int r = env->node ? node_receive(env->node, from, message) : 0;

	if (env->node)
		env->options.on_event(env->options.user);
	return r;
}

static void on_state(uint64_t id, bool connected, void *user)
{
	struct server_env *env = user;

	if (!env->node)
		return;
	node_peer_state(env->node, id, connected);
	env->options.on_event(env->options.user);
}

static bool was_removed(uint64_t id, void *user)
{
	const struct server_env *env = user;

	return env->node && node_tells_removed(env->node, id);
}

static void on_removed(uint64_t by, void *user)
{
	struct server_env *env = user;

	if (!env->node)
		return;
	node_told_removed(env->node, by);
	env->options.on_event(env->options.user);
}

static void add_texts(struct buf *out, const char *const *texts)
{
	buf_add_char(out, '[');
	for (size_t i = 0; texts && texts[i]; i++) {
		if (i)
			buf_add_char(out, ',');
		json_add_string(out, slice_str(texts[i]));
	}
	buf_add_char(out, ']');
}

/* For a member that joins: what it has to know of the cluster, ids as hexadecimal text (JSON's numbers end
 * below 64 bits in many parsers). Who has a vote counts as started, published or not: it may have promised
 * something. */
static void add_members_to_join(struct buf *out, const struct server_env *env)
{
	buf_printf(out, "{\"cluster\":\"%llx\",\"members\":[", (unsigned long long)env->options.cluster_id);
	for (size_t i = 0; env->node && i < node_member_count(env->node); i++) {
		const struct node_member *member = node_member_at(env->node, i);

		buf_printf(out, "%s{\"id\":\"%llx\",\"started\":%s,\"peerURLs\":", i ? "," : "",
			(unsigned long long)member->id,
			*member->name || node_member_votes(env->node, member->id) ? "true" : "false");
		add_texts(out, member->peer_urls);
		buf_add_char(out, '}');
	}
	buf_add_str(out, "]}\n");
}

static void add_members(struct buf *out, const struct server_env *env)
{
	buf_add_char(out, '[');
	for (size_t i = 0; env->node && i < node_member_count(env->node); i++) {
		const struct node_member *member = node_member_at(env->node, i);

		buf_printf(out, "%s{\"id\":%llu,\"peerURLs\":", i ? "," : "", (unsigned long long)member->id);
		add_texts(out, member->peer_urls);
		buf_add_str(out, ",\"name\":");
		json_add_string(out, slice_str(member->name));
		if (member->client_urls && member->client_urls[0]) {
			buf_add_str(out, ",\"clientURLs\":");
			add_texts(out, member->client_urls);
		}
		buf_add_char(out, '}');
	}
	buf_add_str(out, "]\n");
}

/* What else is asked for on the peer URLs: the members and the version, as the original answers. */
static void on_request(struct http_request *req, void *user)
{
	struct server_env *env = user;
	_cleanup_buf_ struct buf body = BUF_INIT(MEMBERS_BYTES_MAX);
	char cluster_id[24] = "";
	struct http_header headers[] = {HTTP_HEADER("X-Etcd-Cluster-Id", cluster_id),
		HTTP_HEADER("Content-Type", "application/json")};

	(void)snprintf(cluster_id, sizeof(cluster_id), "%llx", (unsigned long long)env->options.cluster_id);
	headers[0].value = slice_str(cluster_id);
	if (slice_is(req->path, "/members")) {
		add_members(&body, env);
	} else if (slice_is(req->path, JOIN_PATH)) {
		add_members_to_join(&body, env);
	} else if (slice_is(req->path, "/version")) {
		const char *version = env->node ? node_cluster_version(env->node) : "";

		buf_printf(&body, "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\"}", ETCD_VERSION,
			*version ? version : "not_decided");
	} else {
		http_reply_error(req, 404, "404 page not found");
		return;
	}
	if (slice_is(req->method, "GET") || slice_is(req->method, "HEAD"))
		http_reply(req, 200, headers, ARRAY_LEN(headers), buf_slice(&body));
	else
		http_reply_error(req, 405, "Method Not Allowed");
}

int server_env_new(const struct server_env_options *options, struct server_env **ret_env, struct buf *reterr)
{
	struct server_env *env = mem_new(struct server_env);
	struct peers_options peers = {.loop = options->loop,
		.own_urls = options->advertise_peer_urls,
		.cluster_id = options->cluster_id,
		.member_id = options->member_id,
		.max_message_bytes = NODE_MESSAGE_MAX,
		.max_connections = options->max_peer_connections,
		.election_ms = options->election_ms,
		.on_message = on_message,
		.on_state = on_state,
		.was_removed = was_removed,
		.on_removed = on_removed,
		.on_request = on_request,
		.user = env};
	int r;

	env->env.ops = &ops;
	env->options = *options;
	r = disk_open(options->loop, options->log_path, on_disk_done, env, &env->disk, reterr);
	if (r < 0) {
		mem_free(env);
		return r;
	}
	env->peers = peers_new(&peers);
	for (char *const *url = options->listen_peer_urls; url && *url; url++) {
		r = peers_listen(env->peers, *url, NULL, reterr);
		if (r < 0) {
			(void)server_env_free(env);
			return r;
		}
		log_info("listening for peers on %s", *url);
	}
	*ret_env = env;
	return 0;
}

struct env *server_env_base(struct server_env *env)
{
	return &env->env;
}

void server_env_attach(struct server_env *env, struct node *node)
{
	env->node = node;
	env_members_changed(&env->env);
	env->options.on_event(env->options.user);
}

struct server_env *server_env_free(struct server_env *env)
{
	if (!env)
		return NULL;
	env->peers = peers_free(env->peers);
	env->disk = disk_close(env->disk);
	return mem_free(env);
}

void server_env_get_counts(const struct server_env *env, struct server_env_counts *ret_counts)
{
	struct disk_counts disk;
	struct peers_counts peers;

	disk_get_counts(env->disk, &disk);
	peers_get_counts(env->peers, &peers);
	*ret_counts = (struct server_env_counts){
		.received_appends = peers.received_bulk,
		.sent_appends = peers.sent_bulk,
		.received_bytes = peers.received_bytes,
		.sent_bytes = peers.sent_bytes,
		.dropped = peers.dropped,
		.strangers = peers.strangers,
		.writes = disk.writes,
		.write_bytes = disk.write_bytes,
		.syncs = disk.syncs,
		.sync_ns = disk.sync_ns,
	};
}
