/* `/metrics`: fleet 1.0's names where what they count is still there, and what an operator asks next. Of the
 * cluster only what this machine happens to know: being asked for numbers is no reason to read it all. */
#include "base/metrics.h"
#include "fleet/api_internal.h"

static void add_engine(struct buf *out, const struct engine_stats *engine)
{
	metrics_add(out, "fleet_engine_leader_start_time", "gauge",
		"Start time of becoming an engine leader since epoch in seconds; 0: it does not lead.",
		(uint64_t)(engine->led_since_us / 1000000));
	metrics_add(out, "fleet_engine_reconcile_count_total", "counter", "Counter of reconcile rounds.",
		engine->rounds);
	metrics_add_head(out, "fleet_engine_reconcile_failure_count_total", "counter",
		"Counter of scheduling failures.");
	metrics_add_labelled(
		out, "fleet_engine_reconcile_failure_count_total", "type", "schedule", engine->failures);
	metrics_add_head(
		out, "fleet_engine_task_count_total", "counter", "Counter of engine schedule tasks.");
	metrics_add_labelled(
		out, "fleet_engine_task_count_total", "type", "attemptscheduleunit", engine->placed);
	metrics_add_labelled(
		out, "fleet_engine_task_count_total", "type", "unscheduleunit", engine->taken_off);
	metrics_add_head(out, "fleet_engine_task_failure_count_total", "counter",
		"Counter of engine schedule task failures.");
	metrics_add_labelled(out, "fleet_engine_task_failure_count_total", "type", "attemptscheduleunit",
		engine->not_placed);
	metrics_add_labelled(out, "fleet_engine_task_failure_count_total", "type", "unscheduleunit",
		engine->not_taken_off);
	metrics_add(out, "fleet_engine_unplaced_units", "gauge",
		"Units that no machine takes, as the leader saw it last.",
		engine->led_since_us ? engine->unplaced : 0);
}

struct unit_counts {
	uint64_t units, active, failed;
};

static void count_unit(void *userdata, const struct manager_unit_state *state)
{
	struct unit_counts *counts = userdata;

	counts->units++;
	counts->active += strcmp(state->active, "active") == 0;
	counts->failed += strcmp(state->active, "failed") == 0;
}

static void add_agent(struct buf *out, const struct manager *manager)
{
	struct unit_counts counts = {0};

	manager_list(manager, count_unit, &counts);
	metrics_add(out, "fleet_agent_units", "gauge", "Units on this machine.", counts.units);
	metrics_add(out, "fleet_agent_units_active", "gauge", "Of them, active.", counts.active);
	metrics_add(out, "fleet_agent_units_failed", "gauge", "Of them, failed.", counts.failed);
	metrics_add(out, "fleet_agent_manager_ready", "gauge",
		"Whether the unit manager (systemd, or the supervisor's keeper) can be reached.",
		manager_is_ready(manager));
}

static void add_server(struct buf *out, const struct http_server *server)
{
	struct http_server_stats http;

	http_server_get_stats(server, &http);
	metrics_add(out, "fleet_api_requests_total", "counter", "Requests.", http.requests_total);
	metrics_add(out, "fleet_api_connections", "gauge", "Connections.", http.connections);
	metrics_add(out, "fleet_api_malformed_total", "counter",
		"Requests, or attempts to speak TLS, that were refused as malformed.", http.malformed_total);
}

void api_metrics(struct api *api, struct http_request *req)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", METRICS_CONTENT_TYPE)};
	const struct api_config *config = &api->config;
	_cleanup_buf_ struct buf body = BUF_INIT(256 * 1024);
	struct engine_stats engine;
	size_t machines;

	if (!slice_is(req->method, "GET") && !slice_is(req->method, "HEAD")) {
		api_reply_error(req, 405, "only GET and HEAD supported against this resource");
		return;
	}
	config->engine_stats(config->userdata, &engine);
	add_engine(&body, &engine);
	if (config->manager)
		add_agent(&body, config->manager);
	metrics_add(&body, "fleet_registry_answers", "gauge", "Whether the store answers.",
		config->store_answers(config->userdata));
	if (config->cluster_loaded(config->userdata)) {
		free(cluster_machines(config->cluster, &machines));
		metrics_add(&body, "fleet_cluster_machines", "gauge", "Machines that are present.", machines);
		metrics_add(&body, "fleet_cluster_units", "gauge", "Units in the registry.",
			cluster_unit_count(config->cluster));
	}
	add_server(&body, api->servers[0]);
	metrics_add_process(&body, api->start_s);
	http_reply(req, 200, headers, ARRAY_LEN(headers), buf_slice(&body));
}
