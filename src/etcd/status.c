/* What a member says about itself and its cluster. Bodies as the original writes them. */
#include "etcd/server.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/metrics.h"
#include "base/text.h"
#include "base/time.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- version and health ---- */

void status_version(struct server *server, struct http_request *req, struct slice rest)
{
	const char *cluster = node_cluster_version(server->node);
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	(void)rest;
	buf_add_str(&body, "{\"etcdserver\":\"" ETCD_VERSION "\",\"etcdcluster\":");
	json_add_string(&body, slice_str(*cluster ? cluster : "not_decided"));
	buf_add_char(&body, '}');
	reply_json(req, 200, buf_slice(&body));
}

static void reply_sick(struct http_request *req)
{
	http_reply_error(req, 503, "{\"health\": \"false\"}");
}

static void health_answered(struct question *question, const struct node_reply *reply)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "text/plain; charset=utf-8")};

	if (reply->error)
		reply_sick(question->req);
	else
		http_reply(
			question->req, 200, headers, ARRAY_LEN(headers), slice_str("{\"health\": \"true\"}"));
}

/* Healthy is who has a leader that a quorum confirms right now. */
void status_health(struct server *server, struct http_request *req, struct slice rest)
{
	struct question *question = arena_alloc(&req->arena, sizeof(*question));
	struct node_status status;

	(void)rest;
	node_get_status(server->node, &status);
	if (status.space != NODE_SPACE_OK) {
		http_reply_error(req, 503, "{\"health\": \"false\", \"reason\": \"ALARM NOSPACE\"}");
		return;
	}
	*question = (struct question){server, req, health_answered};
	if (status.leader) {
		question_begin(question);
		if (node_read_index(server->node, question) == 0)
			return;
		req->on_cancel = NULL;
	}
	reply_sick(req);
}

/* ---- statistics ---- */

/* Go's time.Duration as text, as in "1h2m3.5s" and "12.3ms". */
static void add_duration(struct buf *out, int64_t ns)
{
	int64_t seconds = ns / NS_PER_S, unit = ns < 1000	 ? 1
						: ns < NS_PER_MS ? 1000
						: ns < NS_PER_S	 ? NS_PER_MS
								 : NS_PER_S;
	char fraction[16];
	int len;

	if (ns <= 0) {
		buf_add_str(out, "0s");
		return;
	}
	if (seconds >= 3600)
		buf_printf(out, "%lldh", (long long)(seconds / 3600));
	if (seconds >= 60)
		buf_printf(out, "%lldm", (long long)(seconds / 60 % 60));
	buf_printf(out, "%lld", (long long)(seconds >= 60 ? seconds % 60 : ns / unit));
	if (ns % unit) {
		int digits = unit == NS_PER_S ? 9 : unit == NS_PER_MS ? 6 : 3;

		len = snprintf(fraction, sizeof(fraction), ".%0*lld", digits, (long long)(ns % unit));
		while (len > 0 && fraction[len - 1] == '0')
			fraction[--len] = '\0';
		buf_add_str(out, fraction);
	}
	buf_add_str(out, unit == NS_PER_S    ? "s"
			 : unit == NS_PER_MS ? "ms"
			 : unit == 1000	     ? "\302\265s"
					     : "ns");
}

void status_self(struct server *server, struct http_request *req, struct slice rest)
{
	static const char *const states[NODE_ROLE_MAX] = {[NODE_FOLLOWER] = "StateFollower",
		[NODE_CANDIDATE] = "StateCandidate",
		[NODE_LEADER] = "StateLeader"};
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct server_env_counts counts;
	struct node_status status;

	(void)rest;
	node_get_status(server->node, &status);
	server_env_get_counts(server->env, &counts);
	buf_add_str(&body, "{\"name\":");
	json_add_string(&body, slice_str(server->config->name));
	buf_printf(&body, ",\"id\":\"%llx\",\"state\":\"%s\",\"startTime\":\"",
		(unsigned long long)server->member_id, states[status.role]);
	text_add_rfc3339(&body, server->start_wall_ns);
	buf_printf(&body, "\",\"leaderInfo\":{\"leader\":\"%llx\",\"uptime\":\"",
		(unsigned long long)status.leader);
	add_duration(&body, status.leader_since_wall_ns ? time_wall_ns() - status.leader_since_wall_ns : 0);
	buf_add_str(&body, "\",\"startTime\":\"");
	text_add_rfc3339(&body, status.leader_since_wall_ns);
	buf_printf(&body, "\"},\"recvAppendRequestCnt\":%llu,\"sendAppendRequestCnt\":%llu}",
		(unsigned long long)counts.received_appends, (unsigned long long)counts.sent_appends);
	reply_json(req, 200, buf_slice(&body));
}

void status_store(struct server *server, struct http_request *req, struct slice rest)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct store_stats stats;

	(void)rest;
	store_get_stats(node_store(server->node), &stats);
	store_stats_add_json(&stats, &body);
	reply_json(req, 200, buf_slice(&body));
}

/* The original's least latency of a follower that never answered is the largest number there is. */
#define NO_LATENCY 9223372036854775807.0

static void add_ms(struct buf *out, const char *name, double ms)
{
	buf_printf(out, "\"%s\":%.*f", name, ms < 1e9 ? 6 : 0, ms);
}

static void add_follower(struct buf *out, const struct node_follower *follower)
{
	double count = follower->samples ? (double)follower->samples : 1, average = follower->sum_ms / count;

	buf_add_str(out, "{\"latency\":{");
	add_ms(out, "current", follower->latest_ms);
	buf_add_char(out, ',');
	add_ms(out, "average", average);
	buf_add_char(out, ',');
	add_ms(out, "standardDeviation", sqrt(MAX(follower->sum_squares / count - average * average, 0.0)));
	buf_add_char(out, ',');
	add_ms(out, "minimum", follower->samples ? follower->min_ms : NO_LATENCY);
	buf_add_char(out, ',');
	add_ms(out, "maximum", follower->max_ms);
	buf_printf(out, "},\"counts\":{\"fail\":%llu,\"success\":%llu}}", (unsigned long long)follower->lost,
		(unsigned long long)follower->answered);
}

void status_leader(struct server *server, struct http_request *req, struct slice rest)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct node_status status;
	bool more = false;

	(void)rest;
	node_get_status(server->node, &status);
	if (status.role != NODE_LEADER) {
		reply_json(req, 403, slice_str("{\"message\":\"not current leader\"}"));
		return;
	}
	buf_printf(&body, "{\"leader\":\"%llx\",\"followers\":{", (unsigned long long)server->member_id);
	for (size_t i = 0; i < node_member_count(server->node); i++) {
		uint64_t id = node_member_at(server->node, i)->id;
		struct node_follower follower;

		if (id == server->member_id || !node_get_follower(server->node, id, &follower))
			continue;
		buf_printf(&body, "%s\"%llx\":", more ? "," : "", (unsigned long long)id);
		add_follower(&body, &follower);
		more = true;
	}
	buf_add_str(&body, "}}");
	reply_json(req, 200, buf_slice(&body));
}

/* ---- metrics ---- */

static void add_member_metrics(struct buf *out, const struct server *server, const struct node_status *status)
{
	metrics_add(
		out, "etcd_server_has_leader", "gauge", "Whether a leader is known.", status->leader != 0);
	metrics_add(out, "etcd_server_is_leader", "gauge", "Whether this member leads.",
		status->role == NODE_LEADER);
	metrics_add(out, "etcd_server_members", "gauge", "Members of the cluster, as this one knows them.",
		node_member_count(server->node));
	metrics_add(out, "etcd_server_learners", "gauge", "Members that have no vote yet: they catch up.",
		status->learners);
	metrics_add(out, "etcd_server_is_learner", "gauge", "Whether this member has no vote yet.",
		!node_member_votes(server->node, server->member_id));
	metrics_add(out, "etcd_server_membership_is_joint", "gauge",
		"Whether the cluster is between two memberships.", status->joint);
	metrics_add(out, "etcd_server_slow_disk_handovers_total", "counter",
		"Times that this member gave leadership away because its disk was slow.", status->handovers);
	metrics_add(out, "etcd_server_proposals_pending", "gauge", "Requests that wait for the log.",
		status->pending_count);
	metrics_add(out, "etcd_server_pending_bytes", "gauge", "Their bytes.", status->pending_bytes);
	metrics_add(out, "etcd_server_proposals_committed_total", "gauge", "Raft index that is committed.",
		status->commit);
	metrics_add(out, "etcd_server_proposals_applied_total", "gauge", "Raft index that is applied.",
		status->applied);
	metrics_add(out, "etcd_server_raft_term", "gauge", "Raft term.", status->term);
}

static void add_log_metrics(struct buf *out, const struct node_status *status)
{
	metrics_add(out, "etcd_checkpoint_index", "gauge", "Raft index of the newest checkpoint on the disk.",
		status->checkpoint_index);
	metrics_add(out, "etcd_checkpoint_writing", "gauge", "Whether one is being written.",
		status->checkpoint_writing);
	metrics_add(out, "etcd_checkpoints_written_total", "counter", "Checkpoints written since the start.",
		status->checkpoints_written);
	metrics_add(out, "etcd_checkpoints_received_total", "counter",
		"Checkpoints received from other members since the start.", status->checkpoints_received);
	metrics_add(out, "etcd_checkpoints_sent_total", "counter",
		"Checkpoints sent to other members since the start.", status->checkpoints_sent);
	metrics_add(out, "etcd_log_first_index", "gauge", "Oldest log entry that can be sent to a member.",
		status->log_first);
	metrics_add(out, "etcd_server_space_alarm", "gauge",
		"1: the disk is full and growth is refused; 2: nothing more is taken.", status->space);
	metrics_add(out, "etcd_log_cached_bytes", "gauge", "Bytes of log entries in memory.",
		status->log_cached_bytes);
	metrics_add(out, "etcd_log_reads_total", "counter",
		"Times that entries were read back from the log's files.", status->log_reads);
	metrics_add(out, "etcd_log_disk_bytes", "gauge", "Bytes of the log's files.", status->log_disk_bytes);
}

static void add_store_metrics(struct buf *out, const struct store *store)
{
	struct store_stats stats;

	store_get_stats(store, &stats);
	metrics_add(out, "etcd_store_index", "gauge", "Index of the store.", store_index(store));
	metrics_add(out, "etcd_store_nodes", "gauge", "Files and directories.", store_nodes(store));
	metrics_add(out, "etcd_store_watchers", "gauge", "Watches that wait.", stats.watchers);
	metrics_add(out, "etcd_store_undelivered", "gauge", "Events that wait for delivery.",
		store_undelivered(store));
	metrics_add(out, "etcd_store_expires_total", "counter", "Nodes that expired.", stats.expire_count);
	metrics_add(out, "etcd_store_reads_total", "counter", "Reads that succeeded.", stats.gets_success);
	metrics_add(out, "etcd_store_reads_failed_total", "counter", "Reads that failed.", stats.gets_fail);
	metrics_add(out, "etcd_store_writes_total", "counter", "Writes that succeeded.",
		stats.sets_success + stats.create_success + stats.update_success + stats.delete_success +
			stats.cas_success + stats.cad_success);
	metrics_add(out, "etcd_store_writes_failed_total", "counter", "Writes that failed.",
		stats.sets_fail + stats.create_fail + stats.update_fail + stats.delete_fail + stats.cas_fail +
			stats.cad_fail);
}

static void add_http_metrics(struct buf *out, const struct server *server)
{
	struct http_server_stats http;

	http_server_get_stats(server->clients, &http);
	metrics_add(out, "etcd_http_requests_total", "counter", "Client requests.", http.requests_total);
	metrics_add(out, "etcd_http_connections", "gauge", "Client connections.", http.connections);
	metrics_add(
		out, "etcd_http_slow_readers_total", "counter", "Streams cut off.", http.slow_readers_total);
	metrics_add(out, "etcd_http_large_answers", "gauge", "Large answers that are being sent.",
		server->reading_count);
	metrics_add(out, "etcd_http_large_answers_postponed", "gauge", "Reads that wait for others to end.",
		server->postponed_count);
	metrics_add(out, "etcd_http_refused_total", "counter",
		"Large requests refused since too many waited for their answers.", http.refused_total);
	metrics_add(out, "etcd_http_cut_off_total", "counter",
		"Connections closed since all together held too much memory.", http.cut_off_total);
	metrics_add(out, "etcd_http_evicted_total", "counter", "Idle connections closed for new ones.",
		http.evicted_total);
}

/* Of the log's disk and of the connections to other members. */
static void add_env_metrics(struct buf *out, const struct server *server)
{
	struct server_env_counts counts;

	server_env_get_counts(server->env, &counts);
	metrics_add(out, "etcd_wal_writes_total", "counter", "Writes of the log.", counts.writes);
	metrics_add(out, "etcd_wal_write_bytes_total", "counter", "Bytes of the log.", counts.write_bytes);
	metrics_add(out, "etcd_wal_syncs_total", "counter", "Syncs of the log.", counts.syncs);
	metrics_add(out, "etcd_wal_sync_microseconds_total", "counter", "Time spent in them.",
		counts.sync_ns / 1000);
	metrics_add(out, "etcd_network_peer_received_bytes_total", "counter", "From members.",
		counts.received_bytes);
	metrics_add(out, "etcd_network_peer_sent_bytes_total", "counter", "To members.", counts.sent_bytes);
	metrics_add(out, "etcd_network_peer_dropped_total", "counter", "Messages that found no way.",
		counts.dropped);
	metrics_add(out, "etcd_network_peer_strangers", "gauge",
		"Members that are connected and that this one does not know (yet).", counts.strangers);
}

void status_metrics(struct server *server, struct http_request *req, struct slice rest)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", METRICS_CONTENT_TYPE)};
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct node_status status;

	(void)rest;
	node_get_status(server->node, &status);
	add_member_metrics(&body, server, &status);
	add_log_metrics(&body, &status);
	add_store_metrics(&body, node_store(server->node));
	add_http_metrics(&body, server);
	add_env_metrics(&body, server);
	metrics_add_process(&body, (uint64_t)(server->start_wall_ns / NS_PER_S));
	http_reply(req, 200, headers, ARRAY_LEN(headers), buf_slice(&body));
}

void status_vars(struct server *server, struct http_request *req, struct slice rest)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "application/json; charset=utf-8")};
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct node_status status;
	struct rlimit files = {0};

	(void)rest;
	(void)getrlimit(RLIMIT_NOFILE, &files);
	node_get_status(server->node, &status);
	buf_add_str(&body, "{\n\"cmdline\": [");
	for (int i = 0; i < server->argc; i++) {
		buf_add_str(&body, i ? "," : "");
		json_add_string(&body, slice_str(server->argv[i]));
	}
	buf_printf(&body,
		"],\n\"file_descriptor_limit\": %llu,\n\"raft.status\": "
		"{\"id\":\"%llx\",\"term\":%llu,\"commit\":%llu,"
		"\"applied\":%llu,\"lead\":\"%llx\"}\n}\n",
		(unsigned long long)files.rlim_cur, (unsigned long long)server->member_id,
		(unsigned long long)status.term, (unsigned long long)status.commit,
		(unsigned long long)status.applied, (unsigned long long)status.leader);
	http_reply(req, 200, headers, ARRAY_LEN(headers), buf_slice(&body));
}

void status_log_level(struct server *server, struct http_request *req, struct slice rest)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {{"CRITICAL", LOG_LEVEL_ERROR}, {"ERROR", LOG_LEVEL_ERROR},
		{"WARNING", LOG_LEVEL_WARNING}, {"NOTICE", LOG_LEVEL_NOTICE}, {"INFO", LOG_LEVEL_INFO},
		{"DEBUG", LOG_LEVEL_DEBUG}, {"TRACE", LOG_LEVEL_DEBUG}};
	json_t *root = json_loadb(req->body.data, req->body.len, 0, NULL);
	const char *name = root ? json_string_value(json_object_get(root, "Level")) : NULL;
	const char *shown = arena_strndup(&req->arena, name ? name : "", name ? strlen(name) : 0);
	bool is_object = json_is_object(root);

	(void)server;
	(void)rest;
	json_decref(root);
	if (!is_object) {
		reply_message(NULL, req, 400, "Invalid json body");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (strcmp(levels[i].name, shown) != 0)
			continue;
		log_set_level(levels[i].level);
		http_reply(req, 204, NULL, 0, slice_make("", 0));
		return;
	}
	reply_message(NULL, req, 400, arena_printf(&req->arena, "Invalid log level %s", shown));
}

/* There are no users and roles yet: what can be said truthfully is that nothing is enforced. */
void status_auth(struct server *server, struct http_request *req, struct slice rest)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "application/json"),
		HTTP_HEADER("X-Etcd-Cluster-Id", server->cluster_id_text)};

	(void)rest;
	if (slice_is(req->method, "GET") && slice_ends_with(req->path, slice_str("/enable")))
		http_reply(req, 200, headers, ARRAY_LEN(headers), slice_str("{\"enabled\":false}\n"));
	else
		reply_message(server, req, 501, "users and roles are not supported yet by this server");
}
