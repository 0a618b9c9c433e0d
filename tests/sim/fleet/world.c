/* Events in the order of virtual time, and the course of a run: busy times with faults, each followed by a
 * rest in which all must become as it shall be, and stay so whatever becomes of the store. */
#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/hash.h"

#define EVENTS_MAX 3000000
#define BUSY_MIN_NS (20 * NS_PER_S)
#define BUSY_MORE_NS (160 * NS_PER_S)
#define REST_LOOK_NS NS_PER_S
#define CALM_LOOKS 5
#define CALM_NS (40 * NS_PER_S)
#define LOOK_NS (500 * NS_PER_MS)

const char *const fault_names[FAULT_MAX] = {
	[FAULT_DAEMON_KILLED] = "fleetd killed",
	[FAULT_DAEMON_CRASHED_AT_STEP] = "fleetd ended at a request or an order",
	[FAULT_DAEMON_PAUSED] = "fleetd stopped for a while",
	[FAULT_DAEMON_STOPPED] = "fleetd told to end",
	[FAULT_DAEMON_UPGRADED] = "fleetd replaced, units kept",
	[FAULT_POWER] = "machine lost its power",
	[FAULT_POWER_LONG] = "machine lost its power for long",
	[FAULT_HOST_HUNG] = "machine hung",
	[FAULT_HOST_CUT] = "machine cut off from the store",
	[FAULT_LINK_CUT] = "machine cut off from one member of the store",
	[FAULT_STREAM_MUTE] = "stream lost without a sign",
	[FAULT_STREAM_ENDED] = "stream ended",
	[FAULT_ANSWER_LOST] = "answer of the store lost",
	[FAULT_NET_SLOW] = "network slow for a while",
	[FAULT_MEMBER_DOWN] = "member of the store down",
	[FAULT_MEMBER_CUT] = "member of the store without a quorum",
	[FAULT_STORE_FROZEN] = "store frozen",
	[FAULT_STORE_DOWN] = "store down",
	[FAULT_STORE_CUT] = "store without a quorum",
	[FAULT_MANAGER_LOST] = "unit manager away, signals lost",
	[FAULT_MANAGER_SLOW] = "unit manager slow",
	[FAULT_MANAGER_FAILS] = "order to a unit manager failed",
	[FAULT_KEY_LOST] = "key deleted by a stranger",
	[FAULT_GARBAGE] = "key written by a stranger",
	[FAULT_VERSION_RAISED] = "engine/version raised for a while",
	[FAULT_CLIENT_LEFT] = "user left in the middle",
};
const char *const act_names[ACT_MAX] = {
	[ACT_SUBMIT] = "submitted",
	[ACT_REPLACE] = "replaced",
	[ACT_START] = "started",
	[ACT_STOP] = "stopped",
	[ACT_UNLOAD] = "unloaded",
	[ACT_DESTROY] = "destroyed",
	[ACT_METADATA_FILE] = "metadata changed by SIGHUP",
	[ACT_METADATA_API] = "metadata changed by the API",
};

/* Terms, nonces and the like: from the seed, in place of the kernel's. */
static struct rng *system_rng;
void __wrap_rng_system(void *ret_bytes, size_t len);
void __wrap_rng_system(void *ret_bytes, size_t len)
{
	uint8_t *bytes = ret_bytes;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)rng_next(system_rng);
}

int64_t world_rand(struct world *w, int64_t below)
{
	return below > 0 ? (int64_t)rng_below(&w->rng, (uint64_t)below) : 0;
}

bool world_chance(struct world *w, uint32_t per_million)
{
	return rng_chance(&w->rng, per_million);
}

void world_trace(struct world *w, uint64_t a, uint64_t b)
{
	w->trace =
		hash_u64(w->trace ^ hash_u64(a + (uint64_t)w->now_ns) ^ (b * UINT64_C(0x9e3779b97f4a7c15)));
}

void world_log(struct world *w, const char *format, ...)
{
	va_list args;

	if (!w->options->verbose)
		return;
	printf("%11.6f ", (double)w->now_ns / 1e9);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

void world_finding(struct world *w, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	world_log(w, "FINDING: %s", text);
	if (!w->finding)
		w->finding = mem_printf("at %.3f s: %s", (double)w->now_ns / 1e9, text);
	w->stopped = true;
}

/* ---- events ---- */

static bool earlier(const struct heap_item *a, const struct heap_item *b)
{
	const struct event *left = container_of(a, struct event, item),
			   *right = container_of(b, struct event, item);

	return left->at_ns != right->at_ns ? left->at_ns < right->at_ns : left->number < right->number;
}

struct event *world_at(struct world *w, int64_t at_ns, struct gate *gate, void (*fn)(void *data), void *data,
	struct event **owner)
{
	struct event *event = mem_new(struct event);

	event->at_ns = MAX(at_ns, w->now_ns);
	event->number = w->next_number++;
	event->gate = gate;
	event->fn = fn;
	event->data = data;
	event->owner = owner;
	list_init(&event->held);
	list_init(&event->in_gate);
	if (gate)
		list_push_back(&gate->events, &event->in_gate);
	if (owner)
		*owner = event;
	heap_insert(&w->events, &event->item);
	return event;
}

static void event_free(struct world *w, struct event *event)
{
	void (*drop)(void *) = event->drop;
	void *data = event->data;

	if (event->owner)
		*event->owner = NULL;
	heap_remove(&w->events, &event->item);
	list_remove(&event->held);
	list_remove(&event->in_gate);
	free(event);
	if (drop)
		drop(data);
}

static struct world *the_world; /* one at a time */

void event_cancel(struct event **owner)
{
	if (*owner)
		event_free(the_world, *owner);
}

void gate_init(struct gate *gate, struct world *w)
{
	*gate = (struct gate){.world = w};
	list_init(&gate->events);
	list_init(&gate->held);
}

void gate_shut(struct gate *gate)
{
	gate->shut++;
}

void gate_open(struct gate *gate)
{
	struct world *w = gate->world;

	if (--gate->shut)
		return;
	list_for_each_safe (it, &gate->held) {
		struct event *event = list_item(it, struct event, held);

		list_remove(&event->held);
		event->at_ns = w->now_ns;
		event->number = w->next_number++;
		heap_insert(&w->events, &event->item);
	}
}

void gate_done(struct gate *gate)
{
	list_for_each_safe (it, &gate->events)
		event_free(gate->world, list_item(it, struct event, in_gate));
}

/* False: none is left. */
static bool next_event(struct world *w)
{
	struct heap_item *item = heap_top(&w->events);
	struct event *event;
	void (*fn)(void *);
	void *data;

	if (!item)
		return false;
	event = container_of(item, struct event, item);
	w->now_ns = event->at_ns;
	if (event->gate && event->gate->shut) {
		heap_remove(&w->events, &event->item);
		list_push_back(&event->gate->held, &event->held);
		return true;
	}
	fn = event->fn;
	data = event->data;
	event->drop = NULL;
	event_free(w, event);
	fn(data);
	return true;
}

/* ---- the course of a run ---- */

static void look(void *data)
{
	struct world *w = data;

	check_now(w);
	world_at(w, w->now_ns + LOOK_NS, NULL, look, w, NULL);
}

static void busy(void *data);

static void calm_over(void *data)
{
	struct world *w = data;
	_cleanup_free_ char *wrong = check_rest(w);

	/* A unit that crashes all the time is now and then being started, or has not been told of yet. */
	if (wrong && w->calm_looks++ < CALM_LOOKS) {
		world_at(w, w->now_ns + REST_LOOK_NS, NULL, calm_over, w, NULL);
		return;
	}
	w->calm_looks = 0;
	if (wrong) {
		world_finding(w, "what was at rest is not after the store was away: %s", wrong);
		return;
	}
	if (!--w->rounds_left)
		w->stopped = true;
	else
		busy(w);
}

static void settle_look(void *data)
{
	struct world *w = data;
	_cleanup_free_ char *wrong = check_rest(w);
	/* Keys with a TTL, a machine that is gone for good, what is asked for when it was missing for long,
	 * and the slowest of units. */
	int64_t away_ns = 0,
		limit_ns = (2 * w->profile.ttl_s + 75) * NS_PER_S + 3 * w->profile.reconcile_ms * NS_PER_MS;

	if (wrong && w->now_ns - w->stage_ns > limit_ns) {
		world_finding(w, "not at rest %.0f s after the last fault: %s",
			(double)(w->now_ns - w->stage_ns) / 1e9, wrong);
		return;
	}
	if (wrong) {
		world_at(w, w->now_ns + REST_LOOK_NS, NULL, settle_look, w, NULL);
		return;
	}
	world_log(w, "at rest");
	w->summary->rests++;
	w->stage = STAGE_AT_REST;
	w->stage_ns = w->now_ns;
	if (!w->options->crash_step)
		away_ns = faults_of_store(w);
	world_at(
		w, w->now_ns + away_ns + CALM_NS + 2 * w->profile.ttl_s * NS_PER_S, NULL, calm_over, w, NULL);
}

static void settle(void *data)
{
	struct world *w = data;

	w->calm = true;
	faults_end(w);
	w->stage = STAGE_SETTLING;
	w->stage_ns = w->now_ns;
	world_log(w, "faults are over");
	world_at(w, w->now_ns + REST_LOOK_NS, NULL, settle_look, w, NULL);
}

static void busy(void *data)
{
	struct world *w = data;

	w->calm = false;
	w->stage = STAGE_BUSY;
	w->stage_ns = w->now_ns;
	operator_begin(w);
	if (!w->options->crash_step)
		faults_begin(w);
	world_at(w, w->now_ns + BUSY_MIN_NS + world_rand(w, BUSY_MORE_NS), NULL, settle, w, NULL);
}

static void make_profile(struct world *w)
{
	static const int64_t delays[] = {300000, 2 * NS_PER_MS, 20 * NS_PER_MS, 80 * NS_PER_MS};
	struct profile *p = &w->profile;

	p->hosts = 1 + (unsigned)world_rand(w, HOSTS_MAX);
	p->endpoints = world_chance(w, 500000) ? 3 : 1;
	p->units = 2 + (unsigned)world_rand(w, UNITS_MAX - 1);
	p->ttl_s = world_chance(w, 300000) ? 30 : 3 + world_rand(w, 10);
	p->reconcile_ms = 1000 + world_rand(w, 9000);
	p->delay_ns = delays[world_rand(w, 4)];
	p->job_ns = world_chance(w, 500000) ? 20 * NS_PER_MS : NS_PER_S;
	p->tick_ns = world_chance(w, 500000) ? NS_PER_MS : 500 * NS_PER_MS;
	p->act_ns = (100 + world_rand(w, 6000)) * NS_PER_MS;
	p->fault_ns = (500 + world_rand(w, 15000)) * NS_PER_MS;
	p->answer_lost = world_chance(w, 500000) ? 0 : (uint32_t)world_rand(w, 20000);
	p->manager_fails = world_chance(w, 500000) ? 0 : (uint32_t)world_rand(w, 100000);
	p->crash_at_step = world_chance(w, 500000) ? 0 : 2000;
	p->client_left = world_chance(w, 500000) ? 0 : 50000;
	p->drift = world_chance(w, 300000);
	if (w->options->crash_step) {
		p->hosts = 3;
		p->answer_lost = p->manager_fails = p->crash_at_step = p->client_left = 0;
	}
}

static void world_begin(struct world *w)
{
	heap_init(&w->events, earlier);
	list_init(&w->stuck);
	list_init(&w->streams);
	make_profile(w);
	w->now_ns = NS_PER_S;
	model_init(w);
	server_init(w);
	for (unsigned i = 0; i < w->profile.hosts; i++)
		host_init(w, i);
	w->rounds_left = w->options->crash_step ? 1 : 1 + (unsigned)world_rand(w, 3);
	world_log(w, "seed %" PRIu64 ": %u machines, %u members of the store, ttl %d s, %u units",
		w->options->seed, w->profile.hosts, w->profile.endpoints, (int)w->profile.ttl_s,
		w->profile.units);
	for (unsigned i = 0; i < w->profile.hosts; i++)
		host_power_on(&w->hosts[i]);
	world_at(w, w->now_ns + LOOK_NS, NULL, look, w, NULL);
	world_at(w, w->now_ns + world_rand(w, 3 * NS_PER_S), NULL, busy, w, NULL);
}

static void world_end(struct world *w)
{
	int64_t now_ns;

	for (unsigned i = 0; i < w->profile.hosts; i++)
		host_done(&w->hosts[i]);
	http_world_done(w);
	/* What was closed is given back in the next turn. */
	for (now_ns = w->now_ns + 1; heap_top(&w->events);) {
		struct event *event = container_of(heap_top(&w->events), struct event, item);

		if (event->gate == NULL && event->at_ns <= now_ns)
			(void)next_event(w);
		else
			event_free(w, event);
	}
	http_streams_done(w);
	server_done(w);
	model_done(w);
	for (unsigned i = 0; i < w->text_count; i++)
		free(w->texts[i].raw);
	heap_done(&w->events);
}

char *world_run(const struct run_options *options, struct summary *summary, struct run_result *ret_result)
{
	struct world *w = mem_new(struct world);
	uint64_t events = 0;
	char *finding;

	w->options = options;
	w->summary = summary;
	rng_seed(&w->rng, options->seed);
	system_rng = &w->rng;
	the_world = w;
	world_begin(w);
	while (!w->stopped && next_event(w))
		if (++events == EVENTS_MAX)
			world_finding(w, "no end: %" PRIu64 " events", events);
	world_end(w);
	summary->seeds++;
	summary->simulated_ns += w->now_ns;
	summary->findings += w->finding != NULL;
	*ret_result = (struct run_result){.trace = w->trace, .reached = w->reached_step};
	finding = w->finding;
	free(w);
	return finding;
}
