/* Faults begin at random and end after a while; at the end of a busy time all are mended. */
#include <stdio.h>

#include "world.h"

/* What is to be undone. */
struct mending {
	struct world *world;
	void (*undo)(struct world *w, unsigned a, unsigned b);
	unsigned a, b;
	uint64_t mended; /* the world's, when it began */
};

static void mend(void *data)
{
	struct mending *mending = data;

	/* Not when all was mended meanwhile. */
	if (mending->mended == mending->world->mended)
		mending->undo(mending->world, mending->a, mending->b);
	free(mending);
}

static void undo_after(struct world *w, int64_t ns, void (*undo)(struct world *w, unsigned a, unsigned b),
	unsigned a, unsigned b)
{
	struct mending *mending = mem_new(struct mending);

	*mending = (struct mending){w, undo, a, b, w->mended};
	world_at(w, w->now_ns + ns, NULL, mend, mending, NULL)->drop = free;
}

static int64_t some_time(struct world *w)
{
	static const int64_t most[] = {NS_PER_S, 5 * NS_PER_S, 20 * NS_PER_S, 70 * NS_PER_S};

	return 1 + world_rand(w, most[world_rand(w, 4)]);
}

/* ---- the store ---- */

static void store_trouble(struct world *w)
{
	w->store_trouble_ns = w->now_ns;
}

static void member_set(struct world *w, unsigned number, enum fault fault, bool on)
{
	struct endpoint *endpoint = &w->endpoints[number];
	bool *flag = fault == FAULT_MEMBER_DOWN	 ? &endpoint->down
		     : fault == FAULT_MEMBER_CUT ? &endpoint->cut
						 : &endpoint->frozen;

	if (*flag == on)
		return;
	world_log(w, "s%u: %s %s", number, fault_names[fault], on ? "from now" : "no more");
	*flag = on;
	store_trouble(w);
	if (on && fault == FAULT_MEMBER_DOWN)
		http_reset(w, number);
	if (!on)
		server_wake(w, number);
}

static void member_mended(struct world *w, unsigned number, unsigned fault)
{
	member_set(w, number, (enum fault)fault, false);
}

static void all_members(struct world *w, enum fault fault, int64_t ns)
{
	for (unsigned i = 0; i < w->profile.endpoints; i++) {
		member_set(w, i, fault, true);
		undo_after(w, ns, member_mended, i, fault);
	}
}

/* ---- links ---- */

static void link_set(struct world *w, unsigned number, unsigned endpoint, bool cut)
{
	struct host *host = &w->hosts[number];

	if (host->cut[endpoint] == cut)
		return;
	world_log(w, "h%u-s%u: %s", number, endpoint, cut ? "cut" : "mended");
	host->cut[endpoint] = cut;
	host->trouble_ns = w->now_ns;
	if (cut)
		http_link_lost(host, endpoint);
	else
		http_settle(w);
}

static void link_mended(struct world *w, unsigned number, unsigned endpoint)
{
	link_set(w, number, endpoint, false);
}

static void host_cut(struct world *w, unsigned number, int64_t ns)
{
	for (unsigned i = 0; i < w->profile.endpoints; i++) {
		link_set(w, number, i, true);
		undo_after(w, ns, link_mended, number, i);
	}
}

/* ---- machines ---- */

static void daemon_goes_on(struct world *w, unsigned number, unsigned life)
{
	struct host *host = &w->hosts[number];

	host->trouble_ns = w->now_ns;
	if (host->life && host->life->number == life && host->life->paused) {
		host->life->paused = false;
		world_log(w, "h%u: fleetd goes on", number);
		gate_open(&host->life->gate);
	}
}

static void daemon_pause(struct host *host, int64_t ns)
{
	struct world *w = host->world;

	if (!host->life || host->life->paused)
		return;
	world_log(w, "h%u: fleetd is stopped", host->number);
	host->life->paused = true;
	host->trouble_ns = w->now_ns;
	gate_shut(&host->life->gate);
	undo_after(w, ns, daemon_goes_on, host->number, (unsigned)host->life->number);
}

static void power_back(struct world *w, unsigned number, unsigned unused)
{
	(void)unused;
	host_power_on(&w->hosts[number]);
}

static void host_goes_on(struct world *w, unsigned number, unsigned unused)
{
	(void)unused;
	host_hang(&w->hosts[number], false);
}

static void manager_mended(struct world *w, unsigned number, unsigned unused)
{
	(void)unused;
	manager_find(&w->hosts[number]);
}

static void host_fault(struct world *w, struct host *host, enum fault fault, int64_t ns)
{
	switch (fault) {
	case FAULT_DAEMON_KILLED:
		host_kill_daemon(host);
		host_start_daemon(host, ns);
		break;
	case FAULT_DAEMON_PAUSED:
		daemon_pause(host, ns);
		break;
	case FAULT_DAEMON_STOPPED:
	case FAULT_DAEMON_UPGRADED:
		host_stop_daemon(host, fault == FAULT_DAEMON_UPGRADED, ns);
		break;
	case FAULT_POWER:
	case FAULT_POWER_LONG:
		host_power_off(host);
		undo_after(
			w, fault == FAULT_POWER ? NS_PER_S : 30 * NS_PER_S + ns, power_back, host->number, 0);
		break;
	case FAULT_HOST_HUNG:
		if (host->on)
			host_hang(host, true);
		undo_after(w, ns, host_goes_on, host->number, 0);
		break;
	case FAULT_HOST_CUT:
		host_cut(w, host->number, ns);
		break;
	case FAULT_MANAGER_LOST:
		manager_lose(host);
		undo_after(w, MIN(ns, 20 * NS_PER_S), manager_mended, host->number, 0);
		break;
	case FAULT_MANAGER_SLOW:
		host->manager_slow_until_ns = w->now_ns + ns;
		break;
	default:
		break;
	}
}

/* ---- strangers ---- */

static void lose_key(struct world *w)
{
	struct model_unit *unit = &w->units[world_rand(w, w->profile.units)];
	struct host *host = &w->hosts[world_rand(w, w->profile.hosts)];
	char path[256];

	switch (world_rand(w, 7)) {
	case 0:
		host->trouble_ns = w->now_ns; /* nobody sees for a moment what runs there */
		(void)snprintf(path, sizeof(path), "states/%s/%s", unit->name, host->id);
		break;
	case 1:
		w->store_trouble_ns = w->now_ns;
		(void)snprintf(path, sizeof(path), "states/%s", unit->name);
		break;
	case 2:
		(void)snprintf(path, sizeof(path), "job/%s/job-state", unit->name);
		break;
	case 3:
		/* Who deletes it tells the machine that it is not to have the unit. */
		unit->not_here_ns[host->number] = w->now_ns;
		(void)snprintf(path, sizeof(path), "assigned/%s/%s", host->id, unit->name);
		break;
	case 4:
		(void)snprintf(path, sizeof(path), "assigned/%s", host->id);
		break;
	case 5:
		(void)snprintf(path, sizeof(path), "lease");
		break;
	default:
		host->trouble_ns = w->now_ns; /* it is as good as dead to the others, for a moment */
		(void)snprintf(path, sizeof(path), "machines/%s/object", host->id);
		break;
	}
	world_log(w, "stranger: deletes %s", path);
	w->stranger = true;
	(void)server_write(w, path, NULL, false);
	w->stranger = false;
}

/* A key that somebody needs, for good if he does not see to it. */
static void spoil_key(struct world *w, const char *value)
{
	struct model_unit *unit = &w->units[world_rand(w, w->profile.units)];
	struct host *host = &w->hosts[world_rand(w, w->profile.hosts)];
	char path[256];

	switch (world_rand(w, 4)) {
	case 0:
		host->trouble_ns = w->now_ns;
		(void)snprintf(path, sizeof(path), "states/%s/%s", unit->name, host->id);
		break;
	case 1:
		unit->not_here_ns[host->number] = w->now_ns;
		(void)snprintf(path, sizeof(path), "assigned/%s/%s", host->id, unit->name);
		break;
	case 2:
		w->store_trouble_ns = w->now_ns;
		(void)snprintf(path, sizeof(path), "lease/engine-leader");
		break;
	default:
		host->trouble_ns = w->now_ns;
		(void)snprintf(path, sizeof(path), "machines/%s/object", host->id);
		break;
	}
	world_log(w, "stranger: spoils %s", path);
	w->stranger = true;
	(void)server_write(w, path, value, false);
	w->stranger = false;
}

static void write_garbage(struct world *w)
{
	static const char *const paths[] = {"job/garbage.service/object", "job/garbage.service/target-state",
		"states/garbage.service/x", "machines/garbage/object", "unit/garbage", "garbage/x"};
	static const char *const values[] = {"nonsense", "{", "{\"ID\":7}", ""};
	const char *path = paths[world_rand(w, 6)];

	if (world_chance(w, 400000)) {
		spoil_key(w, values[world_rand(w, 4)]);
		return;
	}
	(void)server_write(w, path, values[world_rand(w, 4)], false);
	if (world_chance(w, 300000)) {
		_cleanup_free_ char *entry = mem_printf(
			"assigned/%s/garbage.service", w->hosts[world_rand(w, w->profile.hosts)].id);

		(void)server_write(w, entry, values[world_rand(w, 4)], false);
	}
}

/* Newer than any engine here: none may lead until it is as before. */
static void version_lowered(struct world *w, unsigned unused, unsigned unused_too)
{
	(void)unused;
	(void)unused_too;
	if (!w->version_raised_ns)
		return;
	if (!server_write(w, "engine/version", "1", false)) {
		undo_after(w, NS_PER_S, version_lowered, 0, 0);
		return;
	}
	world_log(w, "stranger: engine/version as before");
	w->version_raised_ns = 0;
	store_trouble(w);
}

static void raise_version(struct world *w, int64_t ns)
{
	if (w->version_raised_ns || !server_write(w, "engine/version", "2", false))
		return;
	world_log(w, "stranger: engine/version raised");
	w->version_raised_ns = w->now_ns;
	store_trouble(w);
	undo_after(w, ns, version_lowered, 0, 0);
}

/* ---- the course of them ---- */

static void begin(struct world *w, enum fault fault)
{
	struct host *host = &w->hosts[world_rand(w, w->profile.hosts)];
	unsigned endpoint = (unsigned)world_rand(w, w->profile.endpoints);
	int64_t ns = some_time(w);

	w->summary->faults[fault]++;
	switch (fault) {
	case FAULT_LINK_CUT:
		link_set(w, host->number, endpoint, true);
		undo_after(w, ns, link_mended, host->number, endpoint);
		break;
	case FAULT_MEMBER_DOWN:
	case FAULT_MEMBER_CUT:
		member_set(w, endpoint, fault, true);
		undo_after(w, ns, member_mended, endpoint, fault);
		break;
	case FAULT_STORE_FROZEN:
		all_members(w, FAULT_STORE_FROZEN, ns);
		break;
	case FAULT_STORE_DOWN:
		all_members(w, FAULT_MEMBER_DOWN, ns);
		break;
	case FAULT_STORE_CUT:
		all_members(w, FAULT_MEMBER_CUT, ns);
		break;
	case FAULT_NET_SLOW:
		w->net_slow_until_ns = MAX(w->net_slow_until_ns, w->now_ns + ns);
		break;
	case FAULT_STREAM_ENDED:
		http_end_stream(w);
		break;
	case FAULT_KEY_LOST:
		lose_key(w);
		break;
	case FAULT_GARBAGE:
		write_garbage(w);
		break;
	case FAULT_VERSION_RAISED:
		raise_version(w, ns);
		break;
	default:
		host_fault(w, host, fault, ns);
		break;
	}
}

static void fault_due(void *data)
{
	struct world *w = data;
	static const enum fault kinds[] = {FAULT_DAEMON_KILLED, FAULT_DAEMON_PAUSED, FAULT_DAEMON_STOPPED,
		FAULT_DAEMON_UPGRADED, FAULT_POWER, FAULT_POWER_LONG, FAULT_HOST_HUNG, FAULT_HOST_CUT,
		FAULT_LINK_CUT, FAULT_STREAM_ENDED, FAULT_NET_SLOW, FAULT_MEMBER_DOWN, FAULT_MEMBER_CUT,
		FAULT_STORE_FROZEN, FAULT_STORE_DOWN, FAULT_STORE_CUT, FAULT_MANAGER_LOST, FAULT_MANAGER_SLOW,
		FAULT_KEY_LOST, FAULT_GARBAGE, FAULT_VERSION_RAISED};

	if (w->stage != STAGE_BUSY)
		return;
	begin(w, kinds[world_rand(w, ARRAY_LEN(kinds))]);
	world_at(w, w->now_ns + world_rand(w, 2 * w->profile.fault_ns), NULL, fault_due, w, NULL);
}

void faults_begin(struct world *w)
{
	world_at(w, w->now_ns + world_rand(w, 2 * w->profile.fault_ns), NULL, fault_due, w, NULL);
}

void faults_end(struct world *w)
{
	w->mended++;
	for (unsigned i = 0; i < w->profile.endpoints; i++) {
		struct endpoint *endpoint = &w->endpoints[i];

		endpoint->down = endpoint->frozen = endpoint->cut = false;
	}
	w->net_slow_until_ns = MIN(w->net_slow_until_ns, w->now_ns);
	store_trouble(w);
	for (unsigned h = 0; h < w->profile.hosts; h++) {
		struct host *host = &w->hosts[h];

		for (unsigned i = 0; i < w->profile.endpoints; i++)
			link_set(w, h, i, false);
		host_hang(host, false);
		if (host->life)
			daemon_goes_on(w, h, (unsigned)host->life->number);
		manager_find(host);
		host->manager_slow_until_ns = MIN(host->manager_slow_until_ns, w->now_ns);
		host_power_on(host);
		if (!host->start)
			host_start_daemon(host, 0);
	}
	for (unsigned i = 0; i < w->profile.endpoints; i++)
		server_wake(w, i);
	version_lowered(w, 0, 0);
	http_settle(w);
}

/* Whatever lasts must be the same for all machines: who alone is away for long is rightly taken for dead. */
int64_t faults_of_store(struct world *w)
{
	int64_t ns = some_time(w);

	w->store_trouble_ns = w->now_ns;
	switch (world_rand(w, 6)) {
	case 0:
		w->summary->faults[FAULT_STORE_FROZEN]++;
		all_members(w, FAULT_STORE_FROZEN, ns);
		break;
	case 1:
		w->summary->faults[FAULT_STORE_DOWN]++;
		all_members(w, FAULT_MEMBER_DOWN, ns);
		break;
	case 2:
		w->summary->faults[FAULT_STORE_CUT]++;
		all_members(w, FAULT_MEMBER_CUT, ns);
		break;
	case 3:
		for (unsigned h = 0; h < w->profile.hosts; h++)
			host_cut(w, h, ns);
		break;
	case 4:
		for (unsigned i = 0; i < 10; i++)
			http_end_stream(w);
		break;
	default:
		break;
	}
	return ns;
}
