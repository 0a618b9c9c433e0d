/* The unit manager of a machine: the manager interface over processes that are only told of. Orders go to it,
 * are carried out, and are answered; states are told in order, and read anew after its connection was lost.
 * Processes live on when the daemon dies. */
#include "world.h"

#include <stdio.h>
#include <string.h>

#define SLOW_NS (4 * NS_PER_S)
#define SLOW_STOP_NS (20 * NS_PER_S)
#define TELL_NS (2 * NS_PER_MS)
#define CONNECT_NS (200 * NS_PER_MS)

enum order_kind { ORDER_LOAD, ORDER_UNLOAD, ORDER_START, ORDER_STOP };
struct order {
	struct list link;	 /* in process->waiting, or in none */
	struct list in_manager;	 /* in manager->orders */
	struct manager *manager; /* NULL: who gave it is dead */
	struct host *host;
	enum order_kind kind;
	char name[32], hash[UNIT_HASH_HEX_SIZE];
	manager_done_fn done;
	void *userdata;
	int result;
	int64_t asked_ns;
	bool sent;
	struct event *event;
};
/* What the daemon was told of a unit. */
struct seen {
	struct list link;
	char name[32], hash[UNIT_HASH_HEX_SIZE];
	const char *active, *sub;
	bool wanted, again;
};
enum news { NEWS_STATE, NEWS_GONE, NEWS_READY };
struct telling {
	struct life *life;
	enum news kind;
	struct seen seen;
};

const char *phase_name(enum phase phase)
{
	static const char *const names[] = {"inactive", "activating", "active", "deactivating", "failed"};

	return names[phase];
}

const char *phase_sub(enum phase phase)
{
	static const char *const names[] = {"dead", "start", "running", "stop-sigterm", "failed"};

	return names[phase];
}

bool process_runs(const struct process *process)
{
	return process->phase == PHASE_ACTIVATING || process->phase == PHASE_ACTIVE ||
	       process->phase == PHASE_DEACTIVATING;
}

struct process *process_find(const struct host *host, const char *name)
{
	list_for_each (it, &host->processes) {
		struct process *process = list_item(it, struct process, link);

		if (strcmp(process->name, name) == 0)
			return process;
	}
	return NULL;
}

/* ---- what the daemon is told ---- */

static struct seen *seen_find(const struct manager *manager, const char *name)
{
	list_for_each (it, &manager->seen) {
		struct seen *seen = list_item(it, struct seen, link);

		if (strcmp(seen->name, name) == 0)
			return seen;
	}
	return NULL;
}

static struct manager_unit_state state_of(const struct seen *seen)
{
	return (struct manager_unit_state){.name = seen->name,
		.hash = seen->hash,
		.load = "loaded",
		.active = seen->active,
		.sub = seen->sub,
		.result = "success",
		.wanted = seen->wanted,
		.job = "",
		.start_error = ""};
}

static void take_state(struct life *life, const struct seen *news)
{
	struct seen *seen = seen_find(&life->manager, news->name);
	struct manager_unit_state state;

	if (!seen) {
		seen = mem_new(struct seen);
		list_push_back(&life->manager.seen, &seen->link);
	}
	{
		struct list link = seen->link;

		*seen = *news;
		seen->link = link;
	}
	state = state_of(seen);
	member_unit_changed(life->member, &state);
}

static void take_gone(struct life *life, const char *name)
{
	struct seen *seen = seen_find(&life->manager, name);

	if (!seen)
		return;
	list_remove(&seen->link);
	free(seen);
	member_unit_unloaded(life->member, name);
}

static struct seen seen_of(const struct process *process)
{
	struct seen seen = {.active = phase_name(process->phase),
		.sub = phase_sub(process->phase),
		.wanted = process->wanted};

	memcpy(seen.name, process->name, sizeof(seen.name));
	memcpy(seen.hash, process->text->hash, sizeof(seen.hash));
	return seen;
}

/* The mirror is read anew, then the daemon hears that it is complete. */
static void take_all(struct life *life)
{
	list_for_each (it, &life->manager.seen)
		list_item(it, struct seen, link)->again = false;
	list_for_each (it, &life->host->processes) {
		struct seen seen = seen_of(list_item(it, struct process, link));

		seen.again = true;
		take_state(life, &seen);
		if (life->dead)
			return;
	}
	list_for_each_safe (it, &life->manager.seen) {
		struct seen *seen = list_item(it, struct seen, link);
		char name[32];

		if (seen->again)
			continue;
		memcpy(name, seen->name, sizeof(name));
		take_gone(life, name);
		if (life->dead)
			return;
	}
	life->manager.ready = true;
	member_manager_ready(life->member);
}

static void told(void *data)
{
	struct telling *telling = data;
	struct life *life = telling->life;

	if (!life->dead && !(life->host->manager_lost && telling->kind != NEWS_READY)) {
		if (telling->kind == NEWS_STATE)
			take_state(life, &telling->seen);
		else if (telling->kind == NEWS_GONE)
			take_gone(life, telling->seen.name);
		else if (!life->host->manager_lost)
			take_all(life);
	}
	free(telling);
}

static void tell(struct host *host, enum news kind, const struct seen *seen, int64_t after_ns)
{
	struct life *life = host->life;
	struct world *w = host->world;
	struct telling *telling;

	if (!life || (host->manager_lost && kind != NEWS_READY))
		return;
	telling = mem_new(struct telling);
	telling->life = life;
	telling->kind = kind;
	if (seen)
		telling->seen = *seen;
	life->manager.last_told_ns = MAX(life->manager.last_told_ns + 1, w->now_ns + after_ns);
	world_at(w, life->manager.last_told_ns, &life->gate, told, telling, NULL)->drop = free;
}

static void tell_state(struct process *process)
{
	struct seen seen = seen_of(process);

	tell(process->host, NEWS_STATE, &seen, world_rand(process->host->world, TELL_NS));
}

/* ---- processes ---- */

static int64_t job_time(struct host *host)
{
	struct world *w = host->world;

	return world_rand(w, w->profile.job_ns) +
	       (host->manager_slow_until_ns > w->now_ns ? world_rand(w, SLOW_NS) : 0);
}

static void set_phase(struct process *process, enum phase phase)
{
	world_log(process->host->world, "h%u: %s is %s", process->host->number, process->name,
		phase_name(phase));
	world_trace(process->host->world, process->host->number, (uint64_t)phase);
	process->phase = phase;
	tell_state(process);
}

static void job_started(void *data);

static void process_start(struct process *process)
{
	struct world *w = process->host->world;

	w->summary->started++;
	process->stop_ns = 0;
	set_phase(process, PHASE_ACTIVATING);
	check_started(process);
	world_at(w, w->now_ns + job_time(process->host), &process->host->gate, job_started, process,
		&process->job);
}

static void job_again(void *data)
{
	struct process *process = data;

	if (process->wanted)
		process_start(process);
}

static void job_crashed(void *data)
{
	struct process *process = data;
	struct world *w = process->host->world;

	set_phase(process, PHASE_FAILED);
	if (world_chance(w, 500000))
		world_at(w, w->now_ns + NS_PER_S, &process->host->gate, job_again, process, &process->job);
}

static void job_ended(void *data)
{
	set_phase(data, PHASE_INACTIVE);
}

static void job_started(void *data)
{
	struct process *process = data;
	struct world *w = process->host->world;
	struct gate *gate = &process->host->gate;

	if (process->text->behaviour == UNIT_FAILS) {
		set_phase(process, PHASE_FAILED);
		return;
	}
	set_phase(process, PHASE_ACTIVE);
	if (process->text->behaviour == UNIT_ENDS)
		world_at(w, w->now_ns + world_rand(w, 3 * NS_PER_S), gate, job_ended, process, &process->job);
	if (process->text->behaviour == UNIT_CRASHES)
		world_at(w, w->now_ns + world_rand(w, 8 * NS_PER_S), gate, job_crashed, process,
			&process->job);
}

static void order_run(struct order *order);

static void process_free(struct process *process)
{
	event_cancel(&process->job);
	list_remove(&process->link);
	free(process);
}

static void job_stopped(void *data)
{
	struct process *process = data;
	struct host *host = process->host;
	struct seen seen;
	struct list waiting;

	set_phase(process, PHASE_INACTIVE);
	if (!process->unloading) {
		if (process->wanted)
			process_start(process); /* asked for while it stopped */
		return;
	}
	seen = seen_of(process);
	tell(host, NEWS_GONE, &seen, 0);
	list_init(&waiting);
	list_splice_back(&waiting, &process->waiting);
	world_log(host->world, "h%u: %s is gone", host->number, process->name);
	process_free(process);
	list_for_each_safe (it, &waiting) {
		struct order *order = list_item(it, struct order, link);

		list_remove(&order->link);
		order_run(order);
	}
}

static void process_stop(struct process *process)
{
	struct world *w = process->host->world;
	int64_t wait_ns = 0;

	process->wanted = false;
	if (process->phase == PHASE_DEACTIVATING)
		return;
	event_cancel(&process->job);
	if (process_runs(process)) {
		w->summary->stopped++;
		process->stop_ns = w->now_ns;
		set_phase(process, PHASE_DEACTIVATING);
		wait_ns = job_time(process->host) +
			  (process->text->behaviour == UNIT_STOPS_SLOWLY ? world_rand(w, SLOW_STOP_NS) : 0);
	}
	world_at(w, w->now_ns + wait_ns, &process->host->gate, job_stopped, process, &process->job);
}

void processes_end(struct host *host)
{
	list_for_each_safe (it, &host->processes) {
		struct process *process = list_item(it, struct process, link);

		list_for_each_safe (at, &process->waiting) {
			struct order *order = list_item(at, struct order, link);

			list_remove(&order->link);
			list_remove(&order->in_manager);
			event_cancel(&order->event);
			free(order);
		}
		process_free(process);
	}
}

/* ---- orders ---- */

static void order_free(struct order *order)
{
	event_cancel(&order->event);
	list_remove(&order->link);
	list_remove(&order->in_manager);
	free(order);
}

static void order_answered(void *data)
{
	struct order *order = data;
	manager_done_fn done = order->done;
	void *userdata = order->userdata;
	int result = order->result;

	order_free(order);
	if (done)
		done(userdata, result, result < 0 ? "simulated failure" : "");
}

static void order_answer(struct order *order, int result)
{
	struct life *life;
	struct world *w = order->host->world;

	if (!order->manager) {
		order_free(order);
		return;
	}
	life = order->manager->life;
	order->result = result;
	life->manager.last_told_ns = MAX(life->manager.last_told_ns + 1, w->now_ns + world_rand(w, TELL_NS));
	world_at(w, life->manager.last_told_ns, &life->gate, order_answered, order, &order->event);
}

static void load(struct order *order, struct process *process)
{
	struct host *host = order->host;
	const struct text *text = text_find(host->world, order->hash);

	if (!process) {
		process = mem_new(struct process);
		process->host = host;
		memcpy(process->name, order->name, sizeof(process->name));
		list_init(&process->waiting);
		list_push_back(&host->processes, &process->link);
	}
	process->text = text;
	process->asked_ns = order->asked_ns;
	tell_state(process);
}

/* Carries it out. */
static void order_run(struct order *order)
{
	struct host *host = order->host;
	struct process *process = process_find(host, order->name);

	if (process && process->unloading && order->kind != ORDER_UNLOAD) {
		list_push_back(&process->waiting, &order->link);
		return;
	}
	switch (order->kind) {
	case ORDER_LOAD:
		load(order, process);
		break;
	case ORDER_START:
		if (!process) {
			order_answer(order, -ENOENT);
			return;
		}
		process->wanted = true;
		tell_state(process);
		if (!process_runs(process)) {
			event_cancel(&process->job);
			process_start(process);
		}
		break;
	case ORDER_STOP:
		if (process)
			process_stop(process);
		break;
	case ORDER_UNLOAD:
		if (process) {
			/* Done when the processes are gone. */
			list_push_back(&process->waiting, &order->link);
			process->unloading = true;
			process_stop(process);
			return;
		}
		break;
	}
	order_answer(order, 0);
}

static void order_arrives(void *data)
{
	struct order *order = data;
	struct world *w = order->host->world;

	if (order->manager && !w->calm && world_chance(w, w->profile.manager_fails)) {
		w->summary->faults[FAULT_MANAGER_FAILS]++;
		order_answer(order, -EIO);
		return;
	}
	order_run(order);
}

static void order_send(struct order *order)
{
	struct world *w = order->host->world;

	order->sent = true;
	world_at(w, w->now_ns + world_rand(w, TELL_NS), &order->host->gate, order_arrives, order,
		&order->event);
}

static void order_new(struct manager *manager, enum order_kind kind, const char *name, const char *hash,
	manager_done_fn done, void *userdata)
{
	struct life *life = manager->life;
	struct order *order;

	if (host_step(life))
		return;
	order = mem_new(struct order);
	order->manager = manager;
	order->host = life->host;
	order->kind = kind;
	(void)snprintf(order->name, sizeof(order->name), "%s", name);
	(void)snprintf(order->hash, sizeof(order->hash), "%s", hash);
	order->done = done;
	order->userdata = userdata;
	order->asked_ns = life->world->now_ns;
	list_init(&order->link);
	list_push_back(&manager->orders, &order->in_manager);
	if ((kind == ORDER_STOP || kind == ORDER_UNLOAD) && process_find(life->host, name))
		check_told_to_stop(process_find(life->host, name), life->stopping);
	if (!life->host->manager_lost)
		order_send(order);
}

/* ---- the interface ---- */

bool manager_is_ready(const struct manager *manager)
{
	return manager->ready;
}

void manager_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata)
{
	(void)text;
	order_new(manager, ORDER_LOAD, name, hash, done, userdata);
}

void manager_unload(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	order_new(manager, ORDER_UNLOAD, name, "", done, userdata);
}

void manager_start(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	order_new(manager, ORDER_START, name, "", done, userdata);
}

void manager_stop(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	order_new(manager, ORDER_STOP, name, "", done, userdata);
}

bool manager_state(const struct manager *manager, const char *name, struct manager_unit_state *ret)
{
	const struct seen *seen = seen_find(manager, name);

	if (seen)
		*ret = state_of(seen);
	return seen != NULL;
}

size_t manager_count(const struct manager *manager)
{
	size_t count = 0;

	list_for_each (it, &manager->seen)
		count++;
	return count;
}

void manager_list(const struct manager *manager,
	void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata)
{
	list_for_each (it, &manager->seen) {
		struct manager_unit_state state = state_of(list_item(it, struct seen, link));

		each(userdata, &state);
	}
}

/* ---- its connection ---- */

void manager_begin(struct life *life)
{
	life->manager.life = life;
	list_init(&life->manager.seen);
	list_init(&life->manager.orders);
	tell(life->host, NEWS_READY, NULL, world_rand(life->world, CONNECT_NS));
}

void manager_end(struct life *life)
{
	list_for_each_safe (it, &life->manager.orders) {
		struct order *order = list_item(it, struct order, in_manager);

		list_remove(&order->in_manager);
		order->manager = NULL;
		/* What was sent is carried out. An answer is told to nobody. */
		if (!order->sent || order->event == NULL || order->event->gate == &life->gate) {
			if (list_empty(&order->link))
				order_free(order);
		}
	}
	list_for_each_safe (it, &life->manager.seen) {
		struct seen *seen = list_item(it, struct seen, link);

		list_remove(&seen->link);
		free(seen);
	}
}

void manager_lose(struct host *host)
{
	if (host->manager_lost)
		return;
	world_log(host->world, "h%u: the unit manager is away", host->number);
	host->manager_lost = true;
	host->trouble_ns = host->world->now_ns;
	if (host->life) {
		host->life->manager.ready = false;
		member_manager_lost(host->life->member, "simulated");
	}
}

void manager_find(struct host *host)
{
	if (!host->manager_lost)
		return;
	world_log(host->world, "h%u: the unit manager is back", host->number);
	host->manager_lost = false;
	host->trouble_ns = host->world->now_ns;
	if (!host->life)
		return;
	tell(host, NEWS_READY, NULL, world_rand(host->world, CONNECT_NS));
	list_for_each (it, &host->life->manager.orders) {
		struct order *order = list_item(it, struct order, in_manager);

		if (!order->sent)
			order_send(order);
	}
}
