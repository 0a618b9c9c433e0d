/* One record per unit: what is wanted of it, and the one operation that is under way. agent_step() compares
 * the two with the manager's mirror and starts the next operation; its end, a change of the wish, and a
 * change of the unit's state call it again. Units do not wait for each other, but for the end of one that
 * they conflict with. */
#include "fleet/agent_internal.h"

#include <stdlib.h>
#include <string.h>

#define AGENT_RETRY_MS 1000
#define AGENT_WITHDRAWING_MS 20
#define AGENT_HAND_OVER_STEP_MS 50
#define AGENT_WITHDRAW_MS 2000 /* for what is published, once no unit is left: the store may be away */

static void agent_step(struct agent_unit *unit);

static uint64_t now_ms(const struct agent *a)
{
	return uv_now(etcd_client_loop(a->config.client));
}

void agent_say(const struct agent *a, char *text)
{
	if (a->config.log)
		a->config.log(a->config.userdata, text);
	free(text);
}

void agent_complain(struct agent_unit *unit, char *text)
{
	if (unit->complained) {
		free(text);
		return;
	}
	unit->complained = true;
	agent_say(unit->agent, text);
}

struct agent_unit *agent_unit_get(struct agent *a, const char *name)
{
	struct agent_unit *unit = map_get(&a->units, slice_str(name));

	if (!unit) {
		unit = mem_new(struct agent_unit);
		unit->agent = a;
		unit->name = mem_strdup(name);
		map_put(&a->units, slice_str(name), unit);
	}
	return unit;
}

static void unit_free(struct agent_unit *unit)
{
	etcd_request_cancel(unit->fetch);
	if (unit->rules_fetch)
		unit->agent->rules_fetches--;
	etcd_request_cancel(unit->rules_fetch);
	unit_requirements_done(&unit->rules);
	free(unit->published);
	free(unit->name);
	free(unit);
}

static void forget_if_unused(struct agent_unit *unit)
{
	struct manager_unit_state state;

	if (unit->in_index || unit->wanted || unit->busy || unit->fetch ||
		manager_state(unit->agent->config.manager, unit->name, &state))
		return;
	map_remove(&unit->agent->units, slice_str(unit->name));
	unit_free(unit);
}

/* Steps every unit; each step may forget its unit, so the walk goes over a list of names. */
static void step_all(struct agent *a)
{
	size_t count = 0, position = 0;
	struct slice name;
	char **names = mem_new_array(char *, a->units.count + 1);

	while (map_next(&a->units, &position, &name, NULL))
		names[count++] = mem_strndup(name.data, name.len);
	for (size_t i = 0; i < count; i++) {
		struct agent_unit *unit = map_get(&a->units, slice_str(names[i]));

		if (unit)
			agent_step(unit);
		free(names[i]);
	}
	free(names);
}

static void retry_fired(uv_timer_t *timer)
{
	step_all(timer->data);
}

void agent_retry_in(struct agent *a, uint64_t ms)
{
	if (!uv_is_active((uv_handle_t *)a->retry_timer) || uv_timer_get_due_in(a->retry_timer) > ms)
		uv_timer_start(a->retry_timer, retry_fired, ms + 1, 0);
}

static void retry_later(struct agent_unit *unit, uint64_t ms)
{
	unit->not_before_ms = now_ms(unit->agent) + ms;
	agent_retry_in(unit->agent, ms);
}

/* Something has changed that a unit may have waited for. */
static void go_on(struct agent *a)
{
	if (!a->yielding)
		return;
	a->yielding = false;
	agent_retry_in(a, 0);
}

/* ---- operations ---- */

static void operation_done(struct agent_unit *unit, int result, const char *what, const char *message)
{
	unit->busy = false;
	go_on(unit->agent);
	if (result < 0) {
		agent_complain(
			unit, mem_printf("cannot %s %s: %s (trying again)", what, unit->name, message));
		retry_later(unit, AGENT_RETRY_MS);
		return;
	}
	unit->complained = false;
	agent_step(unit);
}

static void load_done(void *userdata, int result, const char *message)
{
	operation_done(userdata, result, "load", message);
}

static void unload_done(void *userdata, int result, const char *message)
{
	operation_done(userdata, result, "unload", message);
}

static void start_done(void *userdata, int result, const char *message)
{
	operation_done(userdata, result, "start", message);
}

static void stop_done(void *userdata, int result, const char *message)
{
	operation_done(userdata, result, "stop", message);
}

static void fetch_done(const struct etcd_response *response, void *userdata)
{
	struct agent_unit *unit = userdata;
	_cleanup_free_ char *why = NULL;
	char *raw = agent_text_in(response, unit->fetch_hash, &why);

	unit->fetch = NULL;
	if (raw)
		agent_text_keep(unit->agent, unit->fetch_hash, raw);
	/* Another one may be wanted by now. */
	if (!raw && strcmp(unit->fetch_hash, unit->assignment.hash) == 0) {
		agent_complain(unit, mem_printf("cannot load %s: %s (trying again)", unit->name, why));
		/* What an earlier text left published says nothing true any more. */
		agent_publish(unit, NULL);
		retry_later(unit, AGENT_TEXT_RETRY_MS);
		return;
	}
	agent_step(unit);
}

static const char *text_of(struct agent_unit *unit)
{
	const char *text = agent_text_known(unit->agent, unit->assignment.hash);

	if (!text) {
		memcpy(unit->fetch_hash, unit->assignment.hash, sizeof(unit->fetch_hash));
		unit->fetch = agent_text_ask(unit->agent, unit->fetch_hash, fetch_done, unit);
	}
	return text;
}

static bool shall_be_here(const struct agent_unit *unit)
{
	return unit->wanted && !unit->agent->handing_over && unit->assignment.state != REGISTRY_INACTIVE;
}

/* Does the next thing that the unit needs, if anything. */
static void agent_step(struct agent_unit *unit)
{
	struct agent *a = unit->agent;
	struct manager *manager = a->config.manager;
	struct manager_unit_state state;
	bool known = manager_state(manager, unit->name, &state);
	bool wanted = shall_be_here(unit);
	const char *text;

	if (unit->busy || unit->fetch || !manager_is_ready(manager) || (!a->registered && !a->handing_over))
		return;
	/* The timer may have fired for another unit. */
	if (now_ms(a) < unit->not_before_ms) {
		agent_retry_in(a, unit->not_before_ms - now_ms(a));
		return;
	}
	if (!agent_is_informed(a) && !a->handing_over)
		return;
	if (!wanted) {
		if (!known) {
			agent_publish(unit, NULL);
			forget_if_unused(unit);
			return;
		}
		unit->busy = true;
		manager_unload(manager, unit->name, unload_done, unit);
		return;
	}
	if (known && strcmp(state.hash, unit->assignment.hash) != 0) {
		/* Another text: the old one ends first. */
		unit->busy = true;
		manager_unload(manager, unit->name, unload_done, unit);
		return;
	}
	if (!known && agent_is_withdrawing(unit)) {
		/* Who reads that it is gone from here may start it elsewhere. */
		agent_retry_in(a, AGENT_WITHDRAWING_MS);
		return;
	}
	if (!known) {
		text = text_of(unit);
		if (!text)
			return;
		agent_rules_read(unit, text);
		unit->busy = true;
		manager_load(manager, unit->name, slice_str(text), unit->assignment.hash, load_done, unit);
		return;
	}
	if (unit->assignment.state == REGISTRY_LAUNCHED && !state.wanted) {
		if (!agent_must_yield(unit)) {
			unit->busy = true;
			manager_start(manager, unit->name, start_done, unit);
		}
	} else if (unit->assignment.state == REGISTRY_LOADED && state.wanted) {
		unit->busy = true;
		manager_stop(manager, unit->name, stop_done, unit);
	}
	agent_publish(unit, &state);
}

/* ---- what is wanted ---- */

static void want(struct agent_unit *unit, const struct registry_assignment *assignment)
{
	unit->wanted = assignment != NULL;
	if (assignment)
		unit->assignment = *assignment;
	unit->not_before_ms = 0;
	unit->complained = false;
	agent_step(unit);
}

/* The index has become trustworthy: everything by it. Units that the manager knows and the index does not are
 * not wanted. */
static void take_index(struct agent *a)
{
	size_t position = 0;
	void *value;

	while (map_next(&a->units, &position, NULL, &value)) {
		struct agent_unit *unit = value;

		unit->wanted = unit->in_index;
		if (unit->in_index)
			unit->assignment = unit->index;
		unit->not_before_ms = 0;
	}
	agent_heartbeats_known(a);
	agent_sweep(a);
	step_all(a);
}

static void check_trust(struct agent *a)
{
	bool trusted = !a->foreign && a->index_loaded && !a->index_reading && a->term && a->epoch &&
		       strcmp(a->term, a->epoch) == 0;

	if (trusted == a->trusted)
		return;
	a->trusted = trusted;
	if (trusted)
		take_index(a);
}

void agent_index_begin(struct agent *a)
{
	size_t position = 0;
	void *value;

	while (map_next(&a->units, &position, NULL, &value))
		((struct agent_unit *)value)->seen = false;
	a->index_reading = true;
	a->trusted = false;
	a->epoch = mem_free(a->epoch);
}

void agent_index_set(struct agent *a, const char *name, struct slice value)
{
	struct registry_assignment assignment;
	struct agent_unit *unit;
	bool again;

	if (strcmp(name, "epoch") == 0) {
		free(a->epoch);
		a->epoch = mem_strndup(value.data, value.len);
		if (!a->index_reading)
			check_trust(a);
		return;
	}
	if (strchr(name, '/') || registry_decode_assignment(value, &assignment) < 0)
		return;
	unit = agent_unit_get(a, name);
	again = unit->in_index && !a->index_reading && unit->index.state == assignment.state &&
		unit->index.global == assignment.global && strcmp(unit->index.hash, assignment.hash) == 0;
	unit->seen = unit->in_index = true;
	unit->index = assignment;
	if (!a->trusted)
		return;
	want(unit, &assignment);
	if (again)
		agent_publish_again(unit);
}

void agent_index_remove(struct agent *a, const char *name)
{
	struct agent_unit *unit;

	if (!name[0] || strcmp(name, "epoch") == 0) {
		/* Without its epoch the index says nothing (any more). */
		a->epoch = mem_free(a->epoch);
		a->trusted = false;
	}
	if (!name[0]) {
		agent_index_begin(a);
		agent_index_end(a);
		return;
	}
	unit = map_get(&a->units, slice_str(name));
	if (!unit || !unit->in_index)
		return;
	unit->in_index = false;
	if (a->trusted)
		want(unit, NULL);
}

void agent_index_end(struct agent *a)
{
	size_t position = 0;
	void *value;

	while (map_next(&a->units, &position, NULL, &value)) {
		struct agent_unit *unit = value;

		if (!unit->seen)
			unit->in_index = false;
	}
	a->index_loaded = true;
	a->index_reading = false;
	check_trust(a);
}

void agent_lease_term(struct agent *a, const char *term)
{
	if (!term || (a->term && strcmp(a->term, term) == 0))
		return;
	free(a->term);
	a->term = mem_strdup(term);
	/* Until the new leader has gone over the index nothing changes here. */
	check_trust(a);
}

void agent_set_foreign(struct agent *a, bool foreign)
{
	bool before = agent_lasts(a);

	if (a->foreign == foreign)
		return;
	a->foreign = foreign;
	if (agent_lasts(a) != before)
		agent_publish_anew(a);
	a->foreign_known = false;
	agent_say(a, mem_printf(foreign ? "a fleet 1.0 engine leads: going by its registry"
					: "going by the assignment index again"));
	check_trust(a);
}

void agent_set_lasting(struct agent *a, bool lasting)
{
	bool before = agent_lasts(a), known = a->lasting_known;

	a->lasting = lasting;
	a->lasting_known = true;
	if (agent_lasts(a) != before || !known)
		agent_publish_anew(a);
}

void agent_cluster_changed(struct agent *a)
{
	size_t count;
	_cleanup_free_ const struct cluster_unit **units = NULL;
	size_t position = 0;
	bool known = a->foreign_known;
	void *value;

	if (!a->foreign)
		return;
	a->foreign_known = true;
	while (map_next(&a->units, &position, NULL, &value))
		((struct agent_unit *)value)->wanted = false;
	units = cluster_entries(a->config.cluster, &count);
	for (size_t i = 0; i < count; i++) {
		const struct cluster_unit *from = units[i];
		struct agent_unit *unit;
		bool here;

		if (!from->planned || from->desired == REGISTRY_INACTIVE)
			continue;
		here = from->global ? scheduler_global_runs(
					      cluster_scheduler(a->config.cluster), from->name, a->machine_id)
				    : from->target && strcmp(from->target, a->machine_id) == 0;
		if (!here)
			continue;
		unit = agent_unit_get(a, from->name);
		unit->wanted = true;
		unit->assignment.global = from->global;
		unit->assignment.state = from->desired;
		memcpy(unit->assignment.hash, from->hash, sizeof(from->hash));
	}
	if (!known) {
		agent_heartbeats_known(a);
		agent_sweep(a);
	}
	step_all(a);
}

/* ---- the manager's news ---- */

void agent_unit_state_changed(struct agent *a, const struct manager_unit_state *state)
{
	agent_note_unit(a, state);
	agent_step(agent_unit_get(a, state->name));
	go_on(a);
}

void agent_manager_ready(struct agent *a)
{
	manager_list(a->config.manager, agent_note_unit, a);
	step_all(a);
}

void agent_unit_unloaded(struct agent *a, const char *name)
{
	struct agent_unit *unit = map_get(&a->units, slice_str(name));

	if (unit) {
		/* What shall be here is not taken back: it is loaded again at once. */
		if (!shall_be_here(unit))
			agent_publish(unit, NULL);
		agent_step(unit);
	}
	go_on(a);
}

void agent_contact(struct agent *a)
{
	held_renew_all(a->states);
	held_renew_all(a->legacy);
	/* What ran here may be another machine's by now: the index, or the registry, is read first. */
	a->index_reading = true;
	a->trusted = a->foreign_known = false;
	step_all(a);
}

void agent_set_registered(struct agent *a, bool registered)
{
	bool before = a->registered;

	a->registered = registered;
	if (registered && !before)
		agent_publish_anew(a);
}

/* ---- life ---- */

static void hand_over_fired(uv_timer_t *timer)
{
	struct agent *a = timer->data;

	if (!manager_count(a->config.manager) && a->hand_over_until_ms > now_ms(a) + AGENT_WITHDRAW_MS)
		a->hand_over_until_ms = now_ms(a) + AGENT_WITHDRAW_MS;
	if ((manager_count(a->config.manager) || held_dropping(a->states) || held_dropping(a->heartbeats) ||
		    held_dropping(a->legacy)) &&
		now_ms(a) < a->hand_over_until_ms) {
		step_all(a);
		return;
	}
	uv_timer_stop(timer);
	a->handed_over(a->handed_over_userdata);
}

void agent_hand_over(struct agent *a, uint64_t limit_ms, void (*done)(void *userdata), void *userdata)
{
	a->handing_over = true;
	a->handed_over = done;
	a->handed_over_userdata = userdata;
	a->hand_over_until_ms = now_ms(a) + limit_ms;
	manager_list(a->config.manager, agent_note_unit, a);
	step_all(a);
	uv_timer_start(a->hand_over_timer, hand_over_fired, 1, AGENT_HAND_OVER_STEP_MS);
}

static uv_timer_t *timer_new(struct agent *a)
{
	uv_timer_t *timer = mem_new(uv_timer_t);

	uv_timer_init(etcd_client_loop(a->config.client), timer);
	timer->data = a;
	return timer;
}

struct agent *agent_new(const struct agent_config *config)
{
	struct agent *a = mem_new(struct agent);

	a->config = *config;
	a->prefix = mem_strdup(config->prefix);
	a->machine_id = mem_strdup(config->machine_id);
	a->states = held_new(config->client, config->ttl_s, true);
	a->heartbeats = held_new(config->client, config->ttl_s, false);
	a->legacy = held_new(config->client, config->ttl_s, false);
	map_init(&a->units, 0);
	map_init(&a->texts, 0);
	a->retry_timer = timer_new(a);
	a->hand_over_timer = timer_new(a);
	return a;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct agent *agent_free(struct agent *a)
{
	size_t position;
	void *value;

	if (!a)
		return NULL;
	for (position = 0; map_next(&a->units, &position, NULL, &value);)
		unit_free(value);
	agent_texts_drop(a);
	map_done(&a->units);
	held_free(a->states);
	held_free(a->heartbeats);
	held_free(a->legacy);
	uv_close((uv_handle_t *)a->retry_timer, timer_closed);
	uv_close((uv_handle_t *)a->hand_over_timer, timer_closed);
	free(a->epoch);
	free(a->term);
	free(a->prefix);
	free(a->machine_id);
	free(a);
	return NULL;
}
