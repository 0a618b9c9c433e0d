/* fleetd: the process around a machine's part in the cluster: configuration, clients of the store, the unit
 * manager, the API's listeners, signals, the end. */
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
#include "fleet/presence.h"
#include "fleet/self.h"
#include "io/notify.h"

#define FLEETD_HOUSEKEEPING_MS 60000
#define FLEETD_SLOW_FACTOR 5

/* ---- what the parts ask and tell ---- */

static bool ask_loaded(void *user)
{
	return member_knows_cluster(((struct fleetd *)user)->member);
}

static void cluster_is_used(void *user)
{
	member_use_cluster(((struct fleetd *)user)->member);
}

static uint64_t ask_index(void *user)
{
	return member_cluster_index(((struct fleetd *)user)->member);
}

static const char *ask_leader(void *user)
{
	return engine_leader(member_engine(((struct fleetd *)user)->member));
}

static const char *ask_unavailable(void *user)
{
	return ((struct fleetd *)user)->stopping ? "fleet server is shutting down" : NULL;
}

static void ask_engine_stats(void *user, struct engine_stats *ret)
{
	engine_get_stats(member_engine(((struct fleetd *)user)->member), ret);
}

static bool ask_store_answers(void *user)
{
	return member_reaches_store(((struct fleetd *)user)->member);
}

static const struct api_access *ask_access(void *user)
{
	return ((struct fleetd *)user)->access;
}

static void on_cluster_moved(void *user)
{
	api_turn(((struct fleetd *)user)->api);
}

static void on_log(void *user, enum log_level level, const char *text)
{
	(void)user;
	log_write(level, "%s", text);
}

static void on_manager_ready(void *user)
{
	member_manager_ready(((struct fleetd *)user)->member);
}

static void on_unit_state(void *user, const struct manager_unit_state *state)
{
	log_debug("%s: %s/%s", state->name, state->active, state->sub);
	member_unit_changed(((struct fleetd *)user)->member, state);
}

static void on_unloaded(void *user, const char *name)
{
	log_debug("%s: unloaded", name);
	member_unit_unloaded(((struct fleetd *)user)->member, name);
}

static void on_manager_lost(void *user, const char *why)
{
	member_manager_lost(((struct fleetd *)user)->member, why);
}

/* ---- parts ---- */

static int open_client(struct fleetd *f, int64_t timeout_ms, struct etcd_client **ret)
{
	struct etcd_client_options options = {.endpoints = f->config.etcd_servers,
		.timeout_ms = timeout_ms,
		.total_timeout_ms = 2 * timeout_ms,
		.connect_timeout_ms = MIN(timeout_ms, f->config.etcd_request_timeout_ms),
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

	if (r < 0) {
		log_error("cannot manage units here: %s", buf_text(&error));
		return r;
	}
	log_info("units run %s", manager_kind_here(config.kind, config.user) == MANAGER_SYSTEMD
					 ? config.user ? "in this user's systemd" : "in systemd"
					 : "in the embedded supervisor");
	return 0;
}

static void open_member(struct fleetd *f)
{
	struct member_config config = {.quick = f->quick,
		.client = f->client,
		.prefix = f->config.prefix,
		.machine = &f->machine,
		.cluster = f->cluster,
		.manager = f->manager,
		.ttl_s = f->config.agent_ttl_s,
		.reconcile_ms = f->config.reconcile_ms,
		.engine_disabled = f->config.disable_engine,
		.cluster_moved = on_cluster_moved,
		.log = on_log,
		.userdata = f};

	fleetd_describe_machine(f);
	f->member = member_new(&config);
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

	uv_stop(&f->loop);
}

static void on_terminate(uv_signal_t *signal, int number)
{
	struct fleetd *f = signal->data;
	bool keep = f->config.keep_units_on_stop || f->keep_units;

	if (f->stopping) {
		log_warning("told to stop again: leaving at once");
		finish(f);
		return;
	}
	f->stopping = true;
	(void)notify_send("STOPPING=1");
	log_info("%s: %s", strsignal(number),
		keep ? "stopping; units run on" : "stopping; units are handed over");
	member_stop(f->member, keep, finish, f);
}

static void on_housekeeping(uv_timer_t *timer)
{
	struct fleetd *f = timer->data;

	if (f->stopping)
		return;
	fleetd_describe_machine(f);
	member_describe(f->member, &f->machine);
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
	if (f->manager)
		manager_close(f->manager, NULL, NULL);
	f->api = api_free(f->api);
	f->member = member_free(f->member);
	f->cluster = cluster_free(f->cluster);
	f->quick = etcd_client_free(f->quick);
	f->client = etcd_client_free(f->client);
	uv_close((uv_handle_t *)&f->sigterm, NULL);
	uv_close((uv_handle_t *)&f->sigint, NULL);
	uv_close((uv_handle_t *)&f->sighup, NULL);
	uv_close((uv_handle_t *)&f->sigusr1, NULL);
	uv_close((uv_handle_t *)&f->housekeeping, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	registry_machine_done(&f->machine);
	f->access = api_access_free(f->access);
	fleetd_config_done(&f->config);
	if (uv_loop_close(&f->loop) == UV_EBUSY)
		uv_walk(&f->loop, on_parts_closed, NULL);
}

static void init_handles(struct fleetd *f)
{
	uv_signal_t *const signals[] = {&f->sigterm, &f->sigint, &f->sighup, &f->sigusr1};

	uv_loop_init(&f->loop);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		uv_signal_init(&f->loop, signals[i]);
		signals[i]->data = f;
	}
	uv_timer_init(&f->loop, &f->housekeeping);
	f->housekeeping.data = f;
}

static int start(struct fleetd *f)
{
	int64_t timeout_ms = f->config.etcd_request_timeout_ms;
	int r = fleet_self_lock(&f->config, &f->lock_fd);

	if (r >= 0)
		r = fleet_self_find(&f->config, &f->machine);
	if (r >= 0)
		r = open_client(f, presence_timeout_ms(f->config.agent_ttl_s, timeout_ms), &f->quick);
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
	open_member(f);
	uv_signal_start(&f->sigterm, on_terminate, SIGTERM);
	uv_signal_start(&f->sigint, on_terminate, SIGINT);
	uv_signal_start(&f->sighup, fleetd_on_reload, SIGHUP);
	uv_signal_start(&f->sigusr1, fleetd_on_dump, SIGUSR1);
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
	"Every key of the configuration can be set by the environment as FLEET_<KEY>. Run by an ordinary\n"
	"user, fleetd keeps its files in XDG_STATE_HOME (~/.local/state) and XDG_RUNTIME_DIR; fleetctl\n"
	"finds it there as unix://$XDG_RUNTIME_DIR/fleet.sock.\n\n"
	"Signals: HUP reads the configuration again, USR1 writes the state to the log as JSON, TERM and\n"
	"INT end it.\n";

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
	f->keep_units = keep_units;
	f->unit_manager_given = unit_manager != NULL;
	if (unit_manager)
		f->config.unit_manager = manager_kind_from_name(unit_manager);
	fleetd_set_verbosity(f);
	fleetd_log_warnings(&f->config);
	init_handles(f);
	r = start(f);
	if (r >= 0)
		uv_run(&f->loop, UV_RUN_DEFAULT);
	close_parts(f);
	if (f->lock_fd >= 0)
		close(f->lock_fd);
	free(f);
	return r < 0 ? 1 : 0;
}
