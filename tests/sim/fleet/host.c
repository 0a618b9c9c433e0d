/* Machines and the lives of their daemons. A daemon that dies does nothing more from that moment on, not even
 * in the callback it dies in; what it had sent may still arrive. */
#include "world.h"

#include <stdio.h>
#include <string.h>

#include "fleet/presence.h"

#define DAEMON_START_NS (300 * NS_PER_MS)
#define BOOT_NS (5 * NS_PER_S)
#define HAND_OVER_MAX_NS (70 * NS_PER_S)

static void on_log(void *user, enum log_level level, const char *text)
{
	struct life *life = user;

	(void)level;
	world_log(life->world, "h%u.%d: %s", life->host->number, (int)life->number, text);
}

static char *endpoints_text(const struct world *w)
{
	struct buf text = BUF_INIT(1024);

	for (unsigned i = 0; i < w->profile.endpoints; i++)
		buf_printf(&text, "%shttp://s%u:2379", i ? "," : "", i);
	return buf_take(&text, NULL);
}

static struct etcd_client *open_client(struct life *life, int64_t timeout_ms)
{
	_cleanup_free_ char *endpoints = endpoints_text(life->world);
	struct etcd_client_options options = {.endpoints = endpoints,
		.timeout_ms = timeout_ms,
		.total_timeout_ms = 2 * timeout_ms,
		.connect_timeout_ms = MIN(timeout_ms, (int64_t)1000)};
	struct etcd_client *client;

	if (etcd_client_new(&life->loop, &options, &client, NULL) < 0)
		abort();
	return client;
}

static void describe(struct life *life)
{
	struct registry_machine *machine = &life->machine;
	const struct host *host = life->host;

	registry_machine_done(machine);
	machine->id = mem_strdup(host->id);
	machine->public_ip = mem_printf("10.0.0.%u", host->number + 1);
	machine->version = mem_strdup(FLEET_VERSION);
	machine->metadata = mem_new_array(struct registry_pair, 2);
	machine->metadata[0] = (struct registry_pair){mem_strdup("disk"), mem_strdup(host->disk)};
	machine->metadata[1] = (struct registry_pair){mem_strdup("zone"), mem_strdup(host->zone)};
	machine->metadata_count = 2;
	machine->engine_disabled = host->no_engine;
	machine->peer_api = mem_printf("10.0.0.%u:49153", host->number + 1);
	machine->peer_token = mem_printf("%d", (int)life->number);
	machine->boot = mem_printf("boot-%u-%d", host->number, (int)host->boots);
	machine->nonce = mem_strdup(host->nonce);
}

static void daemon_start(void *data)
{
	struct host *host = data;
	struct world *w = host->world;
	struct life *life = mem_new(struct life);
	struct member_config config = {.prefix = PREFIX,
		.machine = &life->machine,
		.ttl_s = w->profile.ttl_s,
		.reconcile_ms = (uint64_t)w->profile.reconcile_ms,
		.engine_disabled = host->no_engine,
		.log = on_log,
		.userdata = life};

	assert(!host->life);
	life->world = w;
	life->host = host;
	life->number = ++host->lives;
	life->loop.data = life;
	gate_init(&life->gate, w);
	if (host->hung)
		gate_shut(&life->gate);
	host->life = life;
	host->trouble_ns = w->now_ns;
	if (w->options->crash_step && w->options->crash_host == host->number && life->number == 1)
		life->crash_in = w->options->crash_step;
	describe(life);
	life->quick = open_client(life, presence_timeout_ms(w->profile.ttl_s, 1000));
	life->client = open_client(life, 5000);
	life->cluster = cluster_new();
	config.quick = life->quick;
	config.client = life->client;
	config.cluster = life->cluster;
	config.manager = &life->manager;
	life->member = member_new(&config);
	manager_begin(life);
	world_log(w, "h%u: fleetd runs", host->number);
}

void host_start_daemon(struct host *host, int64_t after_ns)
{
	event_cancel(&host->start);
	if (host->on && !host->life)
		world_at(host->world, host->world->now_ns + after_ns, &host->gate, daemon_start, host,
			&host->start);
}

/* ---- the end of a daemon ---- */

static void reap(void *data)
{
	struct life *life = data;

	/* As fleetd closes its parts, in that order. */
	manager_end(life);
	life->member = member_free(life->member);
	life->cluster = cluster_free(life->cluster);
	life->quick = etcd_client_free(life->quick);
	life->client = etcd_client_free(life->client);
	registry_machine_done(&life->machine);
	gate_done(&life->gate);
}

static void bury(void *data)
{
	free(data);
}

static void life_end(struct life *life)
{
	struct world *w = life->world;

	life->dead = true;
	life->host->life = NULL;
	life->host->trouble_ns = w->now_ns;
	gate_shut(&life->gate);
	world_at(w, w->now_ns, NULL, reap, life, NULL);
	/* Behind what closes its handles. */
	world_at(w, w->now_ns + 1, NULL, bury, life, NULL);
}

void host_kill_daemon(struct host *host)
{
	if (!host->life)
		return;
	world_log(host->world, "h%u: fleetd dies", host->number);
	life_end(host->life);
}

bool host_step(struct life *life)
{
	struct world *w = life->world;

	if (life->dead)
		return true;
	if (w->calm)
		return false;
	if (w->profile.crash_at_step && world_chance(w, w->profile.crash_at_step))
		life->crash_in = 1;
	if (!life->crash_in || --life->crash_in)
		return false;
	w->summary->faults[FAULT_DAEMON_CRASHED_AT_STEP]++;
	w->reached_step = true;
	/* The step is done, or not, and then it is over. */
	world_log(w, "h%u: fleetd dies at a step", life->host->number);
	life_end(life);
	host_start_daemon(life->host, DAEMON_START_NS + world_rand(w, 5 * NS_PER_S));
	return world_chance(w, 500000);
}

static void on_stopped(void *user)
{
	struct life *life = user;
	struct host *host = life->host;

	if (life->dead)
		return;
	world_log(host->world, "h%u: fleetd ended", host->number);
	life_end(life);
}

static void start_again(void *data)
{
	struct host *host = data;

	if (host->life && host->life->stopping)
		host_kill_daemon(host);
	host_start_daemon(host, 0);
}

void host_stop_daemon(struct host *host, bool keep_units, int64_t again_ns)
{
	struct life *life = host->life;

	if (!life || life->stopping)
		return;
	world_log(host->world, "h%u: fleetd is told to end%s", host->number,
		keep_units ? ", units run on" : "");
	life->stopping = true;
	host->trouble_ns = host->world->now_ns;
	event_cancel(&host->start);
	member_stop(life->member, keep_units, on_stopped, life);
	if (host->start)
		return; /* it died while it was at it, and is started again */
	world_at(host->world, host->world->now_ns + MAX(again_ns, keep_units ? 0 : HAND_OVER_MAX_NS),
		&host->gate, start_again, host, &host->start);
}

void host_describe(struct host *host)
{
	if (!host->life)
		return;
	describe(host->life);
	member_describe(host->life->member, &host->life->machine);
}

/* ---- the machine ---- */

void host_power_on(struct host *host)
{
	struct world *w = host->world;

	if (host->on)
		return;
	host->on = true;
	host->boots++;
	host->clock_offset_ns = world_rand(w, 1000 * NS_PER_S) - w->now_ns;
	world_log(w, "h%u: boots", host->number);
	event_cancel(&host->start);
	world_at(w, w->now_ns + world_rand(w, BOOT_NS), &host->gate, daemon_start, host, &host->start);
}

void host_power_off(struct host *host)
{
	if (!host->on)
		return;
	world_log(host->world, "h%u: power off", host->number);
	host->on = false;
	host->trouble_ns = host->world->now_ns;
	event_cancel(&host->start);
	if (host->life)
		life_end(host->life);
	processes_end(host);
	if (host->hung)
		host_hang(host, false);
}

void host_hang(struct host *host, bool hung)
{
	if (host->hung == hung)
		return;
	world_log(host->world, "h%u: %s", host->number, hung ? "hangs" : "goes on");
	host->hung = hung;
	host->trouble_ns = host->world->now_ns;
	if (hung) {
		gate_shut(&host->gate);
		if (host->life)
			gate_shut(&host->life->gate);
	} else {
		gate_open(&host->gate);
		if (host->life)
			gate_open(&host->life->gate);
	}
}

void host_init(struct world *w, unsigned number)
{
	static const char *const disks[] = {"ssd", "hdd"}, *const zones[] = {"a", "b"};
	struct host *host = &w->hosts[number];

	host->world = w;
	host->number = number;
	(void)snprintf(host->id, sizeof(host->id), "%u%.31s", number + 1, "fedcba9876543210fedcba9876543210");
	(void)snprintf(host->nonce, sizeof(host->nonce), "nonce-%u", number);
	host->disk = disks[world_rand(w, 2)];
	host->zone = zones[world_rand(w, 2)];
	host->no_engine = number > 0 && world_chance(w, 100000);
	host->drift_ppm = w->profile.drift ? world_rand(w, 20001) - 10000 : 0;
	list_init(&host->processes);
	gate_init(&host->gate, w);
}

void host_done(struct host *host)
{
	if (host->life)
		life_end(host->life);
	processes_end(host);
	event_cancel(&host->start);
	gate_done(&host->gate);
}
