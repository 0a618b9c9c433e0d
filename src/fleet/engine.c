/* The lease is a small machine: what the mirror saw of it, at most one request under way, one timer. While
 * leading, changes mark names; engine_turn() runs the scheduler, queues the writes of its decisions, and
 * brings the assignment index of the marked units up to date. The index is derived: whoever leads compares it
 * with what it should be, so a stray write of a former leader is corrected as soon as it is seen. After
 * taking over, an epoch key is written per machine behind all the corrections: from then on the machine's
 * agent trusts its index. */
#include "fleet/engine_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"
#include "base/time.h"

static void lease_next(struct engine *e);
static void lease_send(struct engine *e, enum lease_step step);
static void run(struct engine *e);
static void run_fired(uv_timer_t *timer);

uint64_t engine_now_ms(const struct engine *e)
{
	return uv_now(etcd_client_loop(e->config.client));
}

static void say(const struct engine *e, const char *text)
{
	if (e->config.log)
		e->config.log(e->config.userdata, text);
}

/* Sets of names. */
static void set_add(struct map *set, const char *name)
{
	map_put(set, slice_str(name), set);
}

static void set_clear(struct map *set)
{
	map_done(set);
	map_init(set, 0);
}

static void names_free(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes all names out, sorted. */
static char **set_take(struct map *set, size_t *ret_count)
{
	char **names = mem_new_array(char *, set->count + 1);
	size_t count = 0, position = 0;
	struct slice key;

	while (map_next(set, &position, &key, NULL))
		names[count++] = mem_strndup(key.data, key.len);
	set_clear(set);
	qsort(names, count, sizeof(*names), by_text);
	*ret_count = count;
	return names;
}

/* ---- the lease ---- */

static void stop_leading(struct engine *e, const char *why)
{
	if (!e->leads)
		return;
	e->leads = e->ready = false;
	e->stats.led_since_us = 0;
	e->term = mem_free(e->term);
	engine_writer_clear(e->writer);
	cluster_forget_decisions(e->config.cluster);
	set_clear(&e->busy);
	set_clear(&e->epochs);
	set_clear(&e->swept);
	set_clear(&e->silent);
	set_clear(&e->waiting);
	set_clear(&e->changed_machines);
	engine_forget_unheard(e, true);
	set_clear(&e->bare);
	set_clear(&e->unneeded);
	e->collected_ms = 0;
	e->lasting.busy = e->large.busy = false;
	e->version_request = etcd_request_cancel(e->version_request);
	say(e, why);
	if (e->config.leading)
		e->config.leading(e->config.userdata, false);
}

static bool is_newer(struct slice text, uint64_t *ret_version)
{
	if (text_to_u64(text, ret_version) < 0)
		*ret_version = 0; /* as good as none */
	return *ret_version > REGISTRY_VERSION;
}

/* Until the version is one of ours again: see pass_fired(). */
static void stand_down(struct engine *e)
{
	static const char why[] = "the cluster's engine/version is newer than this engine: not leading";

	if (e->leads) {
		stop_leading(e, why);
		etcd_request_cancel(e->lease_request);
		lease_send(e, LEASE_RESIGN);
	} else if (!e->outdated) {
		say(e, why);
	}
	e->outdated = true;
}

static void version_done(const struct etcd_response *response, void *userdata)
{
	struct engine *e = userdata;
	uint64_t version = 0;

	e->version_request = NULL;
	if (response->outcome == ETCD_OK && response->node && response->node->value &&
		is_newer(slice_make(response->node->value, response->node->value_len), &version)) {
		stand_down(e);
		return;
	}
	if (response->outcome != ETCD_OK && !etcd_response_is(response, ETCD_KEY_NOT_FOUND)) {
		if (e->leads)
			uv_timer_start(e->run_timer, run_fired, ENGINE_RETRY_MS, 0);
		return;
	}
	e->outdated = false;
	if (!e->leads) {
		lease_next(e);
		return;
	}
	if (version < REGISTRY_VERSION) {
		_cleanup_free_ char *key = mem_printf("%s/engine/version", e->prefix);
		struct engine_op op = {.write = ENGINE_WRITE_SET, .key = key, .value = "1"};

		engine_writer_add(e->writer, &op);
	}
	e->ready = true;
	e->all = true;
	run(e);
}

static void check_version(struct engine *e)
{
	_cleanup_free_ char *key = mem_printf("%s/engine/version", e->prefix);
	struct etcd_get_options options = {.quorum = true};

	if (!e->version_request)
		e->version_request = etcd_get(e->config.writes, key, &options, version_done, e);
}

void engine_version_seen(struct engine *e, struct slice value)
{
	uint64_t version;

	if (e->config.disabled || e->resigned)
		return;
	if (is_newer(value, &version))
		stand_down(e);
	else if (e->outdated)
		check_version(e);
}

static void start_leading(struct engine *e)
{
	e->foreign_ms = 0; /* of an earlier term */
	e->leads = true;
	e->stats.led_since_us = time_wall_ns() / 1000;
	set_clear(&e->epochs);
	say(e, "this machine leads the engine now");
	if (e->config.leading)
		e->config.leading(e->config.userdata, true);
	check_version(e);
}

static void lease_timer_fired(uv_timer_t *timer)
{
	lease_next(timer->data);
}

static void lease_after(struct engine *e, uint64_t ms)
{
	uv_timer_start(e->lease_timer, lease_timer_fired, ms, 0);
}

static void resign_ended(struct engine *e)
{
	void (*done)(void *) = e->resign_done;

	e->resign_done = NULL;
	if (done)
		done(e->resign_userdata);
}

static int64_t lease_ttl_s(const struct engine *e)
{
	return e->large.seen ? e->config.lease_ttl_s
			     : MIN(e->config.lease_ttl_s, (int64_t)ENGINE_SHORT_LEASE_S);
}

/* Whose it is, after an answer was lost. */
static void lease_read(struct engine *e, const struct etcd_node *node)
{
	if (node && node->value && strcmp(node->value, e->lease_value) == 0) {
		e->lease_index = node->modified_index;
		e->lease_unsure = false;
		lease_after(e, 0);
		return;
	}
	stop_leading(e, "the engine's lease was lost");
	lease_after(e, ENGINE_RETRY_MS);
}

static void lease_done(const struct etcd_response *response, void *userdata)
{
	struct engine *e = userdata;
	enum lease_step step = e->step;

	e->lease_request = NULL;
	e->step = LEASE_IDLE;
	if (step == LEASE_RESIGN) {
		resign_ended(e);
		return;
	}
	if (response->outcome == ETCD_OK && step == LEASE_READ) {
		lease_read(e, response->node);
		return;
	}
	if (response->outcome == ETCD_OK && step != LEASE_BREAK) {
		e->renewed_ms = e->sent_ms;
		e->held_ms = e->sent_ttl_ms;
		e->lease_unsure = false;
		e->lease_index = response->node ? response->node->modified_index : 0;
		/* A store that begins anew has lower ones. */
		e->term_index = step == LEASE_RENEW ? MIN(e->term_index, e->lease_index) : e->lease_index;
		if (step != LEASE_RENEW)
			start_leading(e);
		lease_after(e, e->held_ms / 2);
		return;
	}
	/* A renewal whose answer was lost has changed the index: this one's, or the one before. */
	e->lease_unsure |= step == LEASE_RENEW && response->outcome == ETCD_UNKNOWN;
	if (step == LEASE_RENEW && etcd_response_is(response, ETCD_COMPARE_FAILED)) {
		e->lease_unsure = true;
		lease_after(e, 0);
		return;
	}
	if (response->outcome == ETCD_REFUSED && !etcd_response_is(response, ETCD_RAFT_ERROR)) {
		if (step == LEASE_RENEW || step == LEASE_READ)
			stop_leading(e, "the engine's lease was lost");
		/* The mirror will tell who has it; look again in case it is nobody. */
		lease_after(e, ENGINE_RETRY_MS);
		return;
	}
	if (response->outcome == ETCD_OK) {
		/* Broken: take it without waiting for the mirror. */
		registry_lease_done(&e->seen);
		lease_after(e, 0);
		return;
	}
	if (e->leads && engine_now_ms(e) - e->renewed_ms > e->held_ms)
		stop_leading(e, "the engine's lease could not be renewed in time");
	lease_after(e, ENGINE_RETRY_MS);
}

static void new_term(struct engine *e)
{
	struct buf value = BUF_INIT(64 * 1024);
	_cleanup_buf_ struct buf term = BUF_INIT(64);
	uint8_t random[8];
	struct registry_lease lease = {.machine = e->machine_id, .version = REGISTRY_VERSION};

	rng_system(random, sizeof(random));
	text_add_hex(&term, random, sizeof(random));
	free(e->term);
	e->term = mem_strdup(buf_text(&term));
	lease.term = e->term;
	registry_encode_lease(&value, &lease);
	free(e->lease_value);
	e->lease_value = buf_take(&value, NULL);
}

static void lease_send(struct engine *e, enum lease_step step)
{
	_cleanup_free_ char *key = mem_printf("%s/lease/engine-leader", e->prefix);
	struct etcd_put_options put = {.ttl_s = lease_ttl_s(e)};
	struct etcd_delete_options del = {0};
	struct etcd_get_options get = {.quorum = true};

	e->step = step;
	e->sent_ms = engine_now_ms(e);
	e->sent_ttl_ms = (uint64_t)put.ttl_s * 1000;
	switch (step) {
	case LEASE_ACQUIRE:
	case LEASE_ADOPT:
		new_term(e);
		put.value = e->lease_value;
		put.prev_exist = step == LEASE_ACQUIRE ? ETCD_PREV_NO_EXIST : ETCD_PREV_EXIST;
		/* Not by its index: a refresh changes that, and is told to nobody. */
		put.prev_value = step == LEASE_ADOPT ? e->seen_value : NULL;
		e->lease_request = etcd_put(e->config.client, key, &put, lease_done, e);
		break;
	case LEASE_RENEW:
		put.refresh = true;
		put.prev_exist = ETCD_PREV_EXIST;
		put.prev_index = e->lease_index;
		e->lease_request = etcd_put(e->config.client, key, &put, lease_done, e);
		break;
	case LEASE_READ:
		e->lease_request = etcd_get(e->config.client, key, &get, lease_done, e);
		break;
	case LEASE_BREAK:
		del.prev_value = e->seen_value;
		e->lease_request = etcd_delete(e->config.client, key, &del, lease_done, e);
		break;
	case LEASE_RESIGN:
		del.prev_value = e->lease_value;
		e->lease_request = etcd_delete(e->config.client, key, &del, lease_done, e);
		break;
	case LEASE_IDLE:
		break;
	}
}

static uint64_t contact_age_ms(const struct engine *e)
{
	uint64_t since = e->config.contact_since_ms(e->config.userdata);

	return since ? engine_now_ms(e) - since + 1 : 0;
}

/* Decides what the lease needs now, if anything. */
static void lease_next(struct engine *e)
{
	bool live = e->config.cluster_is_live(e->config.userdata);

	if (e->lease_request || e->resigned || e->config.disabled)
		return;
	/* Only a registered machine may lead: its presence is what tells the others that it died. Its lease
	 * is left to end when another one stands under its name. */
	if (!e->config.is_registered(e->config.userdata)) {
		if (e->leads)
			lease_after(e, ENGINE_RETRY_MS);
		return;
	}
	if (e->leads) {
		lease_send(e, e->lease_unsure ? LEASE_READ : LEASE_RENEW);
		return;
	}
	if (e->outdated || !e->seen_known || !contact_age_ms(e) ||
		(live && !cluster_machine(e->config.cluster, e->machine_id)))
		return;
	if (!e->seen.machine)
		lease_send(e, LEASE_ACQUIRE);
	else if (strcmp(e->seen.machine, e->machine_id) == 0)
		lease_send(e, LEASE_ADOPT);
	else if (live && !cluster_machine(e->config.cluster, e->seen.machine)) {
		uint64_t age = contact_age_ms(e);

		if (age > ENGINE_SETTLE_MS)
			lease_send(e, LEASE_BREAK);
		else
			lease_after(e, ENGINE_SETTLE_MS - age + 1);
	}
}

void engine_lease_seen(struct engine *e, struct slice value)
{
	registry_lease_done(&e->seen);
	e->seen_known = true;
	e->seen_value = mem_free(e->seen_value);
	if (value.data) {
		registry_decode_lease(value, &e->seen);
		e->seen_value = mem_strndup(value.data, value.len);
	}
	if (!e->leads) {
		lease_next(e);
		return;
	}
	if (e->seen.term && e->term && strcmp(e->seen.term, e->term) == 0)
		return;
	/* News that contradict: older than our own write, or the lease is lost. A look at it finds out. */
	e->lease_unsure = true;
	if (!e->lease_request)
		lease_send(e, LEASE_READ);
}

void engine_retry_run(struct engine *e, uint64_t ms)
{
	if (!uv_is_active((uv_handle_t *)e->run_timer) || uv_timer_get_due_in(e->run_timer) > ms)
		uv_timer_start(e->run_timer, run_fired, ms, 0);
}

uint64_t engine_answer_index(const struct etcd_response *response)
{
	return response->node ? response->node->modified_index : response->error_index;
}

void engine_written(
	struct engine *e, const char *key, const char *value, const struct etcd_response *response)
{
	cluster_written(e->config.cluster, key + strlen(e->prefix) + 1,
		value ? slice_str(value) : (struct slice){0}, engine_answer_index(response));
}

/* ---- decisions ---- */

static void target_done(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	struct engine *e = userdata;
	struct cluster *c = e->config.cluster;

	if (response->outcome == ETCD_OK) {
		engine_written(e, op->key, op->value, response);
		cluster_decision_answered(c, op->name);
		return;
	}
	e->stats.not_placed += op->write != ENGINE_WRITE_DELETE;
	e->stats.not_taken_off += op->write != ENGINE_WRITE_CREATE;
	/* Somebody else decided, or nothing was written: back to what the registry says. */
	cluster_decision_answered(c, op->name);
	scheduler_touch_unit(cluster_scheduler(c), op->name);
	set_add(&e->dirty, op->name);
	engine_retry_run(e, response->outcome == ETCD_REFUSED ? ENGINE_REFUSED_RETRY_MS : ENGINE_RETRY_MS);
}

static void target_write(struct engine *e, const char *name, const char *from, const char *to)
{
	_cleanup_free_ char *key = mem_printf("%s/job/%s/target", e->prefix, name);
	struct engine_op op = {.write = !from ? ENGINE_WRITE_CREATE
					: to  ? ENGINE_WRITE_SWAP
					      : ENGINE_WRITE_DELETE,
		.key = key,
		.value = to,
		.prev_value = from,
		.name = name,
		.done = target_done,
		.userdata = e};

	cluster_decision_sent(e->config.cluster, name);
	engine_writer_add(e->writer, &op);
}

static bool targets_are_missing(const struct engine *e)
{
	const struct cluster_unit *unit;
	size_t position = 0;

	while ((unit = cluster_next_entry(e->config.cluster, &position)))
		if (unit->target && !cluster_machine(e->config.cluster, unit->target))
			return true;
	return false;
}

void engine_mark_globals(struct engine *e)
{
	size_t position = 0;
	struct slice name;

	while (map_next(&e->globals, &position, &name, NULL))
		map_put(&e->dirty, name, e);
}

static void mark_everything(struct engine *e)
{
	const struct cluster_unit *unit;
	size_t count, position = 0;

	scheduler_touch_all(cluster_scheduler(e->config.cluster));
	while ((unit = cluster_next_entry(e->config.cluster, &position))) {
		set_add(&e->dirty, unit->name);
		if (unit->planned && unit->global)
			set_add(&e->globals, unit->name);
	}
	{
		_cleanup_free_ const struct cluster_machine **machines =
			cluster_machines(e->config.cluster, &count);

		for (size_t i = 0; i < count; i++)
			set_add(&e->new_machines, machines[i]->id);
	}
}

/* A target without a unit is what a decision left that met the unit's end. */
static void sweep_leftover(struct engine *e, const char *name)
{
	const struct cluster_unit *entry = cluster_entry(e->config.cluster, name);

	if (entry && entry->target && !entry->hash[0] && !entry->has_desired)
		target_write(e, name, entry->target, NULL);
}

static void count_unplaced(struct engine *e)
{
	const struct cluster_unit *unit;
	size_t position = 0;

	e->stats.unplaced = 0;
	while ((unit = cluster_next_entry(e->config.cluster, &position)))
		if (unit->planned && !unit->global && unit->desired != REGISTRY_INACTIVE &&
			!scheduler_target(cluster_scheduler(e->config.cluster), unit->name))
			e->stats.unplaced++;
	e->stats.failures += e->stats.unplaced;
}

static void run(struct engine *e)
{
	const struct scheduler_decision *decisions;
	uint64_t age = contact_age_ms(e);
	bool all = e->all;
	size_t count;
	char **names;

	/* What others decided in their terms is known. */
	if (!e->leads || !e->ready || !e->config.cluster_is_live(e->config.userdata) ||
		e->config.cluster_index(e->config.userdata) < e->term_index)
		return;
	/* Without contact, or after a sleep through which the lease may have gone to another; and whose own
	 * presence has ended does not know whether others are dead. */
	if (!age || engine_now_ms(e) - e->renewed_ms > e->held_ms ||
		!e->config.is_registered(e->config.userdata) ||
		!cluster_machine(e->config.cluster, e->machine_id)) {
		engine_retry_run(e, ENGINE_RETRY_MS);
		return;
	}
	if (age <= ENGINE_SETTLE_MS && targets_are_missing(e)) {
		engine_retry_run(e, ENGINE_SETTLE_MS - age + 1);
		return;
	}
	e->all = false;
	if (all) {
		engine_forget_unheard(e, false);
		mark_everything(e);
	}
	count = scheduler_run(cluster_scheduler(e->config.cluster), &decisions);
	if (all)
		count_unplaced(e);
	e->stats.rounds++;
	for (size_t i = 0; i < count; i++) {
		e->stats.placed += decisions[i].to != NULL;
		e->stats.taken_off += decisions[i].from != NULL;
		target_write(e, decisions[i].unit, decisions[i].from, decisions[i].to);
		set_add(&e->dirty, decisions[i].unit);
	}
	engine_index_globals(e);
	engine_index_machines(e);
	names = set_take(&e->dirty, &count);
	for (size_t i = 0; i < count; i++) {
		engine_index_unit(e, names[i]);
		sweep_leftover(e, names[i]);
	}
	names_free(names, count);
	names = set_take(&e->new_machines, &count);
	for (size_t i = 0; i < count; i++)
		engine_epoch_write(e, names[i]);
	names_free(names, count);
	/* Behind what moves units. */
	if (age > ENGINE_SETTLE_MS)
		engine_states_round(e, all);
}

/* ---- news ---- */

void engine_machine_changed(struct engine *e, const char *id)
{
	e->machines_changed = true;
	if (cluster_machine(e->config.cluster, id)) {
		set_add(&e->new_machines, id);
		if (!e->leads && strcmp(id, e->machine_id) == 0)
			lease_after(e, 0);
	} else {
		map_remove(&e->epochs, slice_str(id));
		if (!e->leads && e->seen.machine && strcmp(e->seen.machine, id) == 0)
			lease_after(e, 0);
	}
	if (!e->leads)
		return;
	set_add(&e->changed_machines, id);
	engine_look_at_waiting(e);
}

void engine_unit_changed(struct engine *e, const char *name)
{
	const struct cluster_unit *unit = cluster_unit(e->config.cluster, name);

	set_add(&e->dirty, name);
	engine_states_changed(e, name);
	if (unit && unit->global)
		set_add(&e->globals, name);
	else
		map_remove(&e->globals, slice_str(name));
}

void engine_assignments_changed(struct engine *e, const char *name)
{
	set_add(&e->dirty, name);
}

void engine_turn(struct engine *e)
{
	run(e);
}

void engine_look_at_all(struct engine *e)
{
	e->all = true;
	if (!e->leads)
		lease_after(e, 0);
	engine_retry_run(e, 0);
}

void engine_get_stats(const struct engine *e, struct engine_stats *ret)
{
	*ret = e->stats;
}

bool engine_leads(const struct engine *e)
{
	return e->leads;
}

const char *engine_leader(const struct engine *e)
{
	return e->leads ? e->machine_id : e->seen.machine;
}

/* ---- life ---- */

static void pass_fired(uv_timer_t *timer)
{
	struct engine *e = timer->data;
	uint64_t start = uv_hrtime(), cost_ms;

	if (!e->leads) {
		if (e->outdated && !e->resigned)
			check_version(e);
		lease_next(e);
		/* A fleet 1.0 removes nothing of machines that are gone: what they left to last is removed
		 * here. */
		if (e->seen.machine && !e->seen.term && e->config.cluster_is_live(e->config.userdata) &&
			contact_age_ms(e) > ENGINE_SETTLE_MS)
			engine_sweep_foreign(e);
		/* Names pile up only for who acts on them. */
		set_clear(&e->dirty);
		set_clear(&e->new_machines);
	}
	e->all = e->leads;
	run(e);
	cost_ms = (uv_hrtime() - start) / 1000000 * ENGINE_PASS_SHARE;
	uv_timer_start(e->pass_timer, pass_fired, MAX(e->config.reconcile_ms, cost_ms), 0);
}

static void run_fired(uv_timer_t *timer)
{
	struct engine *e = timer->data;

	if (e->leads && !e->ready)
		check_version(e);
	engine_look_at_waiting(e);
	run(e);
}

static uv_timer_t *timer_new(struct engine *e)
{
	uv_timer_t *timer = mem_new(uv_timer_t);

	uv_timer_init(etcd_client_loop(e->config.client), timer);
	timer->data = e;
	return timer;
}

static void map_start(struct map *map)
{
	map_init(map, 0);
}

static void each_map(struct engine *e, void (*fn)(struct map *map))
{
	struct map *maps[] = {&e->dirty, &e->globals, &e->busy, &e->epochs, &e->waiting, &e->unheard,
		&e->new_machines, &e->changed_machines, &e->swept, &e->bare, &e->silent, &e->unneeded};

	for (size_t i = 0; i < ARRAY_LEN(maps); i++)
		fn(maps[i]);
}

struct engine *engine_new(const struct engine_config *config)
{
	struct engine *e = mem_new(struct engine);

	e->config = *config;
	e->prefix = mem_strdup(config->prefix);
	e->machine_id = mem_strdup(config->machine_id);
	e->writer = engine_writer_new(config->writes);
	each_map(e, map_start);
	e->lease_timer = timer_new(e);
	e->pass_timer = timer_new(e);
	e->run_timer = timer_new(e);
	uv_timer_start(e->run_timer, run_fired, 0, 0);
	uv_timer_start(e->pass_timer, pass_fired, config->reconcile_ms, 0);
	return e;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct engine *engine_free(struct engine *e)
{
	if (!e)
		return NULL;
	etcd_request_cancel(e->lease_request);
	etcd_request_cancel(e->version_request);
	engine_writer_free(e->writer);
	engine_forget_unheard(e, true);
	uv_close((uv_handle_t *)e->lease_timer, timer_closed);
	uv_close((uv_handle_t *)e->pass_timer, timer_closed);
	uv_close((uv_handle_t *)e->run_timer, timer_closed);
	registry_lease_done(&e->seen);
	each_map(e, map_done);
	free(e->term);
	free(e->lease_value);
	free(e->seen_value);
	free(e->prefix);
	free(e->machine_id);
	free(e);
	return NULL;
}

void engine_resign(struct engine *e, void (*done)(void *userdata), void *userdata)
{
	bool led = e->leads;

	e->resigned = true;
	e->resign_done = done;
	e->resign_userdata = userdata;
	e->lease_request = etcd_request_cancel(e->lease_request);
	stop_leading(e, "giving the engine's lease back");
	if (led)
		lease_send(e, LEASE_RESIGN);
	else
		resign_ended(e);
}
