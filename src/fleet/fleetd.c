/* fleetd: wires mirror, cluster, engine, agent, presence and API together on one loop, and owns the process:
 * configuration, listeners, signals, the end.
 *
 * Three mirrors are open: the lease (who leads), this machine's part of the assignment index (what to run),
 * and the whole prefix (the cluster: for the leading engine, and for the API). The last one is closed on an
 * idle follower of a large cluster and opened again when it is needed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/flags.h"
#include "base/log.h"
#include "base/programs.h"
#include "base/text.h"
#include "fleet/fleetd_internal.h"
#include "fleet/self.h"
#include "io/notify.h"
#include "io/url.h"

#define FLEETD_HAND_OVER_MS 60000
#define FLEETD_HOUSEKEEPING_MS 60000
#define FLEETD_MIRROR_IDLE_MS (10 * 60 * 1000)
#define FLEETD_MIRROR_KEEP_UNITS 2000 /* up to here the whole cluster is always kept in memory */
#define FLEETD_LEASE_TTL_MAX_S 10
#define FLEETD_SLOW_FACTOR 5

/* ---- mirrors ---- */

static void full_begin(void *user)
{
	cluster_begin(((struct fleetd *)user)->cluster);
}

static void full_set(void *user, const char *path, struct slice value, uint64_t index)
{
	cluster_set(((struct fleetd *)user)->cluster, path, value, index);
}

static void full_remove(void *user, const char *path, bool expired)
{
	(void)expired;
	cluster_remove(((struct fleetd *)user)->cluster, path);
}

static void full_end(void *user)
{
	struct fleetd *f = user;

	if (f->full_outage)
		log_info("the registry is known again");
	f->full_outage = false;
	cluster_end(f->cluster);
	if (f->agent)
		agent_sweep(f->agent);
	if (f->engine)
		engine_look_at_all(f->engine);
}

static void full_turn(void *user)
{
	struct fleetd *f = user;

	engine_turn(f->engine);
	agent_cluster_changed(f->agent);
	api_turn(f->api);
}

static void full_empty(void *user, const char *path)
{
	cluster_set_empty(((struct fleetd *)user)->cluster, path);
}

static void full_lost(void *user, const char *why)
{
	struct fleetd *f = user;

	if (!f->full_outage)
		log_warning("cannot follow the registry: %s (units that run go on)", why);
	f->full_outage = true;
}

static const struct mirror_handler full_handler = {
	full_begin, full_set, full_remove, full_end, full_turn, full_lost, full_empty};

static void need_cluster(struct fleetd *f)
{
	if (!f->full && !f->stopped)
		f->full = mirror_open(f->client, f->config.prefix, &full_handler, f);
}

static void lease_known(struct fleetd *f, struct slice value, uint64_t index)
{
	struct registry_lease lease = {0};

	if (value.data) {
		registry_decode_lease(value, &lease);
		f->foreign = !lease.term;
		if (f->foreign)
			need_cluster(f);
		agent_set_foreign(f->agent, f->foreign);
		agent_lease_term(f->agent, lease.term);
		if (f->foreign && mirror_is_loaded(f->full))
			agent_cluster_changed(f->agent);
		registry_lease_done(&lease);
	}
	engine_lease_seen(f->engine, value, index);
}

/* lease/states: what is published may last. */
static void states_known(struct fleetd *f, bool lasting)
{
	engine_states_seen(f->engine, lasting);
	agent_set_lasting(f->agent, lasting);
}

static void lease_begin(void *user)
{
	struct fleetd *f = user;

	f->lease_read = f->states_read = false;
}

static void lease_set(void *user, const char *path, struct slice value, uint64_t index)
{
	struct fleetd *f = user;

	if (strcmp(path, "states") == 0) {
		f->states_read = true;
		states_known(f, true);
	}
	if (strcmp(path, "engine-leader") != 0)
		return;
	f->lease_read = true;
	lease_known(f, value, index);
}

static void lease_remove(void *user, const char *path, bool expired)
{
	struct fleetd *f = user;

	(void)expired;
	if (!path[0] || strcmp(path, "engine-leader") == 0)
		lease_known(f, (struct slice){0}, 0);
	if (!path[0] || strcmp(path, "states") == 0)
		states_known(f, false);
}

static void lease_end(void *user)
{
	struct fleetd *f = user;

	/* The read did not have it: nobody leads. */
	if (!f->lease_read)
		lease_known(f, (struct slice){0}, 0);
	if (!f->states_read)
		states_known(f, false);
}

static void index_begin(void *user)
{
	agent_index_begin(((struct fleetd *)user)->agent);
}

static void index_set(void *user, const char *path, struct slice value, uint64_t index)
{
	(void)index;
	agent_index_set(((struct fleetd *)user)->agent, path, value);
}

static void index_remove(void *user, const char *path, bool expired)
{
	(void)expired;
	agent_index_remove(((struct fleetd *)user)->agent, path);
}

static void index_end(void *user)
{
	agent_index_end(((struct fleetd *)user)->agent);
}

static void open_mirrors(struct fleetd *f)
{
	static const struct mirror_handler lease_handler = {
		lease_begin, lease_set, lease_remove, lease_end, NULL, NULL};
	static const struct mirror_handler index_handler = {
		index_begin, index_set, index_remove, index_end, NULL, NULL};
	_cleanup_free_ char *lease = mem_printf("%s/lease", f->config.prefix);
	_cleanup_free_ char *index = mem_printf("%s/assigned/%s", f->config.prefix, f->machine.id);

	f->lease = mirror_open(f->client, lease, &lease_handler, f);
	f->index = mirror_open(f->client, index, &index_handler, f);
	need_cluster(f);
}

/* ---- what the parts ask ---- */

static uint64_t ask_contact(void *user)
{
	return presence_contact_since_ms(((struct fleetd *)user)->presence);
}

static bool ask_loaded(void *user)
{
	return mirror_is_loaded(((struct fleetd *)user)->full);
}

static void cluster_is_used(void *user)
{
	struct fleetd *f = user;

	f->used_ms = uv_now(&f->loop);
	need_cluster(f);
}

static uint64_t ask_index(void *user)
{
	struct fleetd *f = user;

	return f->full ? mirror_index(f->full) : 0;
}

static const char *ask_leader(void *user)
{
	return engine_leader(((struct fleetd *)user)->engine);
}

static const char *ask_unavailable(void *user)
{
	return ((struct fleetd *)user)->stopping ? "fleet server is shutting down" : NULL;
}

static void leading_changed(void *user, bool leads)
{
	if (leads)
		need_cluster(user);
}

static void log_line(void *user, const char *text)
{
	(void)user;
	log_info("%s", text);
}

/* ---- news ---- */

static void on_machine(void *user, const char *id)
{
	engine_machine_changed(((struct fleetd *)user)->engine, id);
}

static void on_unit(void *user, const char *name)
{
	engine_unit_changed(((struct fleetd *)user)->engine, name);
}

static void on_published(void *user, const char *name)
{
	engine_states_changed(((struct fleetd *)user)->engine, name);
}

static void on_assigned(void *user, const char *name)
{
	engine_assignments_changed(((struct fleetd *)user)->engine, name);
}

static void on_registered(void *user)
{
	struct fleetd *f = user;

	log_info("registered as machine %s", f->machine.id);
	agent_set_registered(f->agent, true);
	if (f->index)
		mirror_restart(f->index);
	if (f->full && f->foreign)
		mirror_restart(f->full);
	agent_contact(f->agent);
}

static void on_contact(void *user, bool ok, const char *why)
{
	struct fleetd *f = user;

	if (!ok) {
		log_warning("no contact to the store: %s; units that run go on, trying again", why);
		return;
	}
	if (!f->had_contact) {
		f->had_contact = true;
		return;
	}
	/* A stream may have died without a sign while the store was away. */
	log_info("the store answers again");
	mirror_restart(f->lease);
	mirror_restart(f->index);
	if (f->full)
		mirror_restart(f->full);
	agent_contact(f->agent);
	engine_look_at_all(f->engine);
}

static void on_refused(void *user, const char *why)
{
	agent_set_registered(((struct fleetd *)user)->agent, false);
	log_error("not registered: %s", why);
}

static void on_manager_ready(void *user)
{
	struct fleetd *f = user;

	agent_manager_ready(f->agent);
	if (mirror_is_loaded(f->full))
		agent_sweep(f->agent);
}

static void on_unit_state(void *user, const struct manager_unit_state *state)
{
	log_debug("%s: %s/%s", state->name, state->active, state->sub);
	agent_unit_state_changed(((struct fleetd *)user)->agent, state);
}

static void on_unloaded(void *user, const char *name)
{
	log_debug("%s: unloaded", name);
	agent_unit_unloaded(((struct fleetd *)user)->agent, name);
}

static void on_manager_lost(void *user, const char *why)
{
	(void)user;
	log_warning("the unit manager is away: %s", why);
}

static void ask_engine_stats(void *user, struct engine_stats *ret)
{
	engine_get_stats(((struct fleetd *)user)->engine, ret);
}

static bool ask_store_answers(void *user)
{
	return presence_contact_since_ms(((struct fleetd *)user)->presence) != 0;
}

static const struct api_access *ask_access(void *user)
{
	return ((struct fleetd *)user)->access;
}

/* ---- parts ---- */

static int open_client(struct fleetd *f, int64_t timeout_ms, struct etcd_client **ret)
{
	struct etcd_client_options options = {.endpoints = f->config.etcd_servers,
		.timeout_ms = timeout_ms,
		.total_timeout_ms = 2 * timeout_ms,
		.connect_timeout_ms = f->config.etcd_request_timeout_ms,
		.username = f->config.etcd_username[0] ? f->config.etcd_username : NULL,
		.password = f->config.etcd_password,
		.ca_file = f->config.etcd_cafile,
		.cert_file = f->config.etcd_certfile,
		.key_file = f->config.etcd_keyfile};
	char *error = NULL;
	int r = etcd_client_new(&f->loop, &options, ret, &error);

	if (r < 0)
		log_error("etcd_servers: %s", error ? error : strerror(-r));
	else if ((options.ca_file[0] || options.cert_file[0]) && !strstr(options.endpoints, "https://"))
		log_warning("etcd_servers: certificates are given, and no server is https: in the clear");
	free(error);
	return r;
}

static int open_manager(struct fleetd *f)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct manager_config config = {.kind = f->config.unit_manager,
		.loop = &f->loop,
		.state_dir = f->config.supervisor_dir,
		.user = f->config.systemd_user,
		.units_dir = f->config.units_dir,
		.events = {on_manager_ready, on_unit_state, on_unloaded, on_manager_lost},
		.userdata = f};
	int r = manager_new(&config, &f->manager, &error);

	if (r < 0)
		return log_errno(r, "cannot manage units here: %s", buf_text(&error));
	log_info("units run %s", manager_kind_here(config.kind, config.user) == MANAGER_SYSTEMD
					 ? config.user ? "in this user's systemd" : "in systemd"
					 : "in the embedded supervisor");
	return 0;
}

static void open_parts(struct fleetd *f)
{
	struct engine_config engine = {.client = f->quick,
		.writes = f->client,
		.prefix = f->config.prefix,
		.machine_id = f->machine.id,
		.cluster = f->cluster,
		.lease_ttl_s = MIN(f->config.agent_ttl_s, (int64_t)FLEETD_LEASE_TTL_MAX_S),
		.reconcile_ms = f->config.reconcile_ms,
		.disabled = f->config.disable_engine,
		.contact_since_ms = ask_contact,
		.cluster_loaded = ask_loaded,
		.leading = leading_changed,
		.log = log_line,
		.userdata = f};
	struct agent_config agent = {.client = f->client,
		.prefix = f->config.prefix,
		.machine_id = f->machine.id,
		.cluster = f->cluster,
		.manager = f->manager,
		.ttl_s = f->config.agent_ttl_s,
		.log = log_line,
		.userdata = f};
	struct cluster_observer observer = {on_machine, on_unit, on_published, on_assigned, f};
	struct presence_events events = {on_registered, on_contact, on_refused};
	_cleanup_free_ char *key = mem_printf("%s/machines/%s/object", f->config.prefix, f->machine.id);

	f->agent = agent_new(&agent);
	fleetd_describe_machine(f);
	f->presence = presence_new(f->quick, key, &f->machine, f->config.agent_ttl_s, &events, f);
	f->engine = engine_new(&engine);
	cluster_observe(f->cluster, &observer);
	open_mirrors(f);
}

static void open_api(struct fleetd *f)
{
	struct api_config api = {.loop = &f->loop,
		.client = f->client,
		.prefix = f->config.prefix,
		.machine_id = f->machine.id,
		.peer_token = f->machine.peer_token,
		.cluster = f->cluster,
		.manager = f->manager,
		.token_limit = f->config.token_limit,
		.cluster_loaded = ask_loaded,
		.cluster_needed = cluster_is_used,
		.mirror_index = ask_index,
		.leader = ask_leader,
		.unavailable = ask_unavailable,
		.access = ask_access,
		.engine_stats = ask_engine_stats,
		.store_answers = ask_store_answers,
		.userdata = f};

	f->api = api_new(&api);
}

/* ---- the end ---- */

static void finish(void *user)
{
	struct fleetd *f = user;

	f->stopped = true;
	uv_stop(&f->loop);
}

static void resigned(void *user)
{
	struct fleetd *f = user;

	if (f->config.keep_units_on_stop)
		finish(f);
	else
		presence_withdraw(f->presence, finish, f);
}

static void handed_over(void *user)
{
	struct fleetd *f = user;

	engine_resign(f->engine, resigned, f);
}

static void on_terminate(uv_signal_t *signal, int number)
{
	struct fleetd *f = signal->data;

	if (f->stopping) {
		log_warning("told to stop again: leaving at once");
		finish(f);
		return;
	}
	f->stopping = true;
	(void)notify_send("STOPPING=1");
	log_info("%s: %s", strsignal(number),
		f->config.keep_units_on_stop ? "stopping; units run on" : "stopping; units are handed over");
	if (f->config.keep_units_on_stop)
		engine_resign(f->engine, resigned, f);
	else
		agent_hand_over(f->agent, FLEETD_HAND_OVER_MS, handed_over, f);
}

static void on_housekeeping(uv_timer_t *timer)
{
	struct fleetd *f = timer->data;

	if (f->stopping)
		return;
	fleetd_describe_machine(f);
	presence_update(f->presence, &f->machine);
	if (f->full && !engine_leads(f->engine) && !f->foreign &&
		cluster_unit_count(f->cluster) > FLEETD_MIRROR_KEEP_UNITS &&
		uv_now(&f->loop) - f->used_ms > FLEETD_MIRROR_IDLE_MS) {
		f->full = mirror_close(f->full);
		cluster_clear(f->cluster);
	}
}

static void on_parts_closed(uv_handle_t *handle, void *user)
{
	(void)user;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void close_parts(struct fleetd *f)
{
	if (f->server)
		http_server_close(f->server, NULL, NULL);
	if (f->peer_server)
		http_server_close(f->peer_server, NULL, NULL);
	f->lease = mirror_close(f->lease);
	f->index = mirror_close(f->index);
	f->full = mirror_close(f->full);
	if (f->manager)
		manager_close(f->manager, NULL, NULL);
	f->api = api_free(f->api);
	f->agent = agent_free(f->agent);
	f->engine = engine_free(f->engine);
	f->presence = presence_free(f->presence);
	f->cluster = cluster_free(f->cluster);
	f->quick = etcd_client_free(f->quick);
	f->client = etcd_client_free(f->client);
	uv_close((uv_handle_t *)&f->sigterm, NULL);
	uv_close((uv_handle_t *)&f->sigint, NULL);
	uv_close((uv_handle_t *)&f->sighup, NULL);
	uv_close((uv_handle_t *)&f->housekeeping, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	registry_machine_done(&f->machine);
	f->access = api_access_free(f->access);
	fleetd_config_done(&f->config);
	if (uv_loop_close(&f->loop) == UV_EBUSY)
		uv_walk(&f->loop, on_parts_closed, NULL);
}

static int start(struct fleetd *f)
{
	int64_t timeout_ms = f->config.etcd_request_timeout_ms;
	int r = fleet_self_lock(&f->config, &f->lock_fd);

	if (r >= 0)
		r = fleet_self_find(&f->config, &f->machine);
	if (r >= 0)
		r = open_client(f, timeout_ms, &f->quick);
	if (r >= 0)
		r = open_client(f, FLEETD_SLOW_FACTOR * timeout_ms, &f->client);
	if (r >= 0)
		r = fleetd_read_access(f, &f->config);
	if (r >= 0)
		r = open_manager(f);
	if (r < 0)
		return r;
	f->cluster = cluster_new();
	open_api(f);
	r = fleetd_open_listeners(f);
	if (r < 0)
		return r;
	open_parts(f);
	uv_signal_start(&f->sigterm, on_terminate, SIGTERM);
	uv_signal_start(&f->sigint, on_terminate, SIGINT);
	uv_signal_start(&f->sighup, fleetd_on_reload, SIGHUP);
	uv_timer_start(&f->housekeeping, on_housekeeping, FLEETD_HOUSEKEEPING_MS, FLEETD_HOUSEKEEPING_MS);
	(void)notify_send("READY=1");
	log_info("fleetd " FLEET_VERSION " is up");
	return 0;
}

static const char usage[] =
	"fleetd " FLEET_VERSION ": the cluster-wide init system\n\n"
	"Usage: fleetd [--config PATH] [--unit-manager KIND] [--keep-units-on-stop] [--version]\n\n"
	"  --config PATH          configuration (default /etc/fleet/fleet.conf, if it exists)\n"
	"  --unit-manager KIND    what runs the units: systemd, supervisor (the embedded one), or auto, "
	"which\n"
	"                         is systemd where that is PID 1 (default auto)\n"
	"  --keep-units-on-stop   leave the units running when fleetd stops, for upgrades\n"
	"  --version              print the version\n\n"
	"Every key of the configuration can be set by the environment as FLEET_<KEY>.\n";

int fleetd_main(int argc, char **argv)
{
	const char *config_path = NULL, *unit_manager = NULL;
	bool version = false, help = false, keep_units = false;
	struct flag flags[] = {
		{.name = "config", .type = FLAG_STRING, .value = &config_path},
		{.name = "unit-manager", .type = FLAG_STRING, .value = &unit_manager},
		{.name = "keep-units-on-stop", .type = FLAG_BOOL, .value = &keep_units},
		{.name = "version", .type = FLAG_BOOL, .value = &version},
		{.name = "help,h", .type = FLAG_BOOL, .value = &help},
		{0},
	};
	struct fleetd *f;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	int words, r;

	if (flags_parse(flags, FLAGS_GO, argc, argv, &words, &error) < 0) {
		fprintf(stderr, "%s\n%s", buf_text(&error), usage);
		return 2;
	}
	if (help) {
		fputs(usage, stdout);
		return 0;
	}
	if (version || (words == 1 && strcmp(argv[1], "version") == 0)) {
		puts("fleetd version " FLEET_VERSION);
		return 0;
	}
	if (words > 0) {
		fputs(usage, stderr);
		return 1;
	}
	if (unit_manager && manager_kind_from_name(unit_manager) < 0) {
		fprintf(stderr, "fleetd: --unit-manager %s is unknown: it is auto, supervisor or systemd\n",
			unit_manager);
		return 2;
	}
	log_init("fleetd", LOG_LEVEL_INFO);
	f = mem_new(struct fleetd);
	f->config_path = config_path;
	f->lock_fd = -1;
	if (fleetd_config_load(config_path, &f->config, &error) < 0) {
		log_error("%s", buf_text(&error));
		free(f);
		return 1;
	}
	f->config.keep_units_on_stop |= keep_units;
	if (unit_manager)
		f->config.unit_manager = manager_kind_from_name(unit_manager);
	fleetd_set_verbosity(f);
	fleetd_log_warnings(&f->config);
	uv_loop_init(&f->loop);
	uv_signal_init(&f->loop, &f->sigterm);
	uv_signal_init(&f->loop, &f->sigint);
	uv_signal_init(&f->loop, &f->sighup);
	uv_timer_init(&f->loop, &f->housekeeping);
	f->sigterm.data = f->sigint.data = f->sighup.data = f->housekeeping.data = f;
	r = start(f);
	if (r >= 0)
		uv_run(&f->loop, UV_RUN_DEFAULT);
	close_parts(f);
	if (f->lock_fd >= 0)
		close(f->lock_fd);
	free(f);
	return r < 0 ? 1 : 0;
}
