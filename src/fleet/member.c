/* Three mirrors are open: the lease (who leads), this machine's part of the assignment index (what to run),
 * and the whole prefix (the cluster: for the leading engine, and for the API). In a large cluster, as its
 * leader says (lease/large), a follower opens the last one only when it is needed: else each change would be
 * told to everybody. */
#include "fleet/member.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "fleet/agent.h"
#include "fleet/mirror.h"
#include "fleet/presence.h"

#define MEMBER_HAND_OVER_MS 100000 /* more than systemd gives a service to stop */
#define MEMBER_IDLE_CHECK_MS 60000
#define MEMBER_CLUSTER_IDLE_MS (10 * 60 * 1000)
#define MEMBER_LEASE_TTL_MAX_S 10

struct member {
	struct member_config config;
	char *prefix, *id;
	struct mirror *full, *lease, *index;
	struct presence *presence;
	struct engine *engine;
	struct agent *agent;
	uv_timer_t *idle_timer;
	uint64_t used_ms; /* last use of the cluster from outside; 0: never */
	void (*stopped)(void *userdata);
	void *stopped_userdata;
	bool keep_units, foreign, had_contact, full_outage;
	bool lease_read, states_read, large_read; /* what the read of the lease's mirror had */
	bool large;				  /* the leader says so */
	bool sweep_due; /* an earlier life left what it published, and the cluster was not read since */
};

static void say_text(void *user, const char *text)
{
	struct member *m = user;

	if (m->config.log)
		m->config.log(m->config.userdata, LOG_LEVEL_INFO, text);
}

/* Takes the text. */
static void say(const struct member *m, enum log_level level, char *text)
{
	if (m->config.log)
		m->config.log(m->config.userdata, level, text);
	free(text);
}

/* ---- the mirror of everything ---- */

static void full_begin(void *user, uint64_t index)
{
	cluster_begin(((struct member *)user)->config.cluster, index);
}

static void full_set(void *user, const char *path, struct slice value, uint64_t index)
{
	struct member *m = user;

	cluster_set(m->config.cluster, path, value, index);
	if (strcmp(path, "engine/version") == 0)
		engine_version_seen(m->engine, value);
}

static void full_remove(void *user, const char *path, uint64_t index, bool expired)
{
	(void)expired;
	cluster_remove(((struct member *)user)->config.cluster, path, index);
}

static void full_end(void *user)
{
	struct member *m = user;

	if (m->full_outage)
		say_text(m, "the registry is known again");
	m->full_outage = false;
	cluster_end(m->config.cluster);
	if (agent_sweep(m->agent))
		m->sweep_due = false;
	engine_look_at_all(m->engine);
}

static void full_turn(void *user)
{
	struct member *m = user;

	engine_turn(m->engine);
	agent_cluster_changed(m->agent);
	if (m->config.cluster_moved)
		m->config.cluster_moved(m->config.userdata);
}

static void full_empty(void *user, const char *path)
{
	cluster_set_empty(((struct member *)user)->config.cluster, path);
}

static void full_lost(void *user, const char *why)
{
	struct member *m = user;

	if (!m->full_outage)
		say(m, LOG_LEVEL_WARNING,
			mem_printf("cannot follow the registry: %s (units that run go on)", why));
	m->full_outage = true;
}

static const struct mirror_handler full_handler = {
	full_begin, full_set, full_remove, full_end, full_turn, full_lost, full_empty, true};

static void need_cluster(struct member *m)
{
	if (!m->full)
		m->full = mirror_open(m->config.client, m->prefix, &full_handler, m);
}

/* Whether the whole cluster shall be known here. */
static bool wants_cluster(const struct member *m)
{
	uint64_t now = uv_now(etcd_client_loop(m->config.client));

	return !m->large || m->foreign || m->sweep_due || engine_leads(m->engine) ||
	       (m->used_ms && now - m->used_ms <= MEMBER_CLUSTER_IDLE_MS);
}

static void keep_or_drop_cluster(struct member *m)
{
	if (wants_cluster(m)) {
		need_cluster(m);
	} else if (m->full) {
		m->full = mirror_close(m->full);
		cluster_clear(m->config.cluster);
	}
}

static void idle_fired(uv_timer_t *timer)
{
	struct member *m = timer->data;

	if (m->sweep_due && mirror_is_live(m->full) && agent_sweep(m->agent))
		m->sweep_due = false;
	if (m->full)
		keep_or_drop_cluster(m);
}

/* ---- the mirror of the lease ---- */

static void lease_known(struct member *m, struct slice value)
{
	struct registry_lease lease = {0};

	if (value.data) {
		registry_decode_lease(value, &lease);
		m->foreign = !lease.term;
		if (m->foreign)
			need_cluster(m);
		agent_set_foreign(m->agent, m->foreign);
		agent_lease_term(m->agent, lease.term);
		if (m->foreign && mirror_is_live(m->full))
			agent_cluster_changed(m->agent);
		registry_lease_done(&lease);
	}
	engine_lease_seen(m->engine, value);
}

/* lease/states: what is published may last. */
static void states_known(struct member *m, bool lasting)
{
	engine_states_seen(m->engine, lasting);
	agent_set_lasting(m->agent, lasting);
}

static void large_known(struct member *m, bool large)
{
	m->large = large;
	engine_large_seen(m->engine, large);
	keep_or_drop_cluster(m);
}

static void lease_begin(void *user, uint64_t index)
{
	struct member *m = user;

	(void)index;
	m->lease_read = m->states_read = m->large_read = false;
}

static void lease_set(void *user, const char *path, struct slice value, uint64_t index)
{
	struct member *m = user;

	(void)index;
	if (strcmp(path, "states") == 0) {
		m->states_read = true;
		states_known(m, true);
	}
	if (strcmp(path, "large") == 0) {
		m->large_read = true;
		large_known(m, true);
	}
	if (strcmp(path, "engine-leader") != 0)
		return;
	m->lease_read = true;
	lease_known(m, value);
}

static void lease_remove(void *user, const char *path, uint64_t index, bool expired)
{
	struct member *m = user;

	(void)index;
	(void)expired;
	if (!path[0] || strcmp(path, "engine-leader") == 0)
		lease_known(m, (struct slice){0});
	if (!path[0] || strcmp(path, "states") == 0)
		states_known(m, false);
	if (!path[0] || strcmp(path, "large") == 0)
		large_known(m, false);
}

static void lease_end(void *user)
{
	struct member *m = user;

	/* The read did not have it: nobody leads. */
	if (!m->lease_read)
		lease_known(m, (struct slice){0});
	if (!m->states_read)
		states_known(m, false);
	if (!m->large_read)
		large_known(m, false);
}

static const struct mirror_handler lease_handler = {
	lease_begin, lease_set, lease_remove, lease_end, NULL, NULL, NULL, false};

/* ---- the mirror of the assignment index ---- */

static void index_begin(void *user, uint64_t index)
{
	(void)index;
	agent_index_begin(((struct member *)user)->agent);
}

static void index_set(void *user, const char *path, struct slice value, uint64_t index)
{
	(void)index;
	agent_index_set(((struct member *)user)->agent, path, value);
}

static void index_remove(void *user, const char *path, uint64_t index, bool expired)
{
	(void)index;
	(void)expired;
	agent_index_remove(((struct member *)user)->agent, path);
}

static void index_end(void *user)
{
	agent_index_end(((struct member *)user)->agent);
}

static const struct mirror_handler index_handler = {
	index_begin, index_set, index_remove, index_end, NULL, NULL, NULL, false};

/* ---- news of the parts ---- */

static uint64_t ask_contact(void *user)
{
	return presence_contact_since_ms(((struct member *)user)->presence);
}

static bool ask_registered(void *user)
{
	return presence_is_registered(((struct member *)user)->presence);
}

static bool ask_live(void *user)
{
	return mirror_is_live(((struct member *)user)->full);
}

static uint64_t ask_index(void *user)
{
	return member_cluster_index(user);
}

static void leading_changed(void *user, bool leads)
{
	if (leads)
		need_cluster(user);
}

static void on_machine(void *user, const char *id)
{
	engine_machine_changed(((struct member *)user)->engine, id);
}

static void on_unit(void *user, const char *name)
{
	engine_unit_changed(((struct member *)user)->engine, name);
}

static void on_published(void *user, const char *name)
{
	struct member *m = user;

	engine_states_changed(m->engine, name);
	agent_published(m->agent, name);
}

static void on_state_gone(void *user, const char *name, const char *machine, uint64_t index)
{
	engine_state_gone(((struct member *)user)->engine, name, machine, index);
}

static void on_assigned(void *user, const char *name)
{
	engine_assignments_changed(((struct member *)user)->engine, name);
}

static void on_registered(void *user)
{
	struct member *m = user;

	say(m, LOG_LEVEL_INFO, mem_printf("registered as machine %s", m->id));
	agent_set_registered(m->agent, true);
	mirror_restart(m->index);
	if (presence_was_adopted(m->presence)) {
		m->sweep_due = !mirror_is_loaded(m->full);
		need_cluster(m);
	}
	if (m->full && m->foreign)
		mirror_restart(m->full);
	agent_contact(m->agent);
}

static void on_contact(void *user, bool ok, const char *why)
{
	struct member *m = user;

	if (!ok) {
		say(m, LOG_LEVEL_WARNING,
			mem_printf("no contact to the store: %s; units that run go on, trying again", why));
		return;
	}
	if (!m->had_contact) {
		m->had_contact = true;
		return;
	}
	/* A stream may have died without a sign while the store was away. */
	say_text(m, "the store answers again");
	mirror_restart(m->lease);
	mirror_restart(m->index);
	if (m->full)
		mirror_restart(m->full);
	agent_contact(m->agent);
	engine_look_at_all(m->engine);
}

static void on_refused(void *user, const char *why)
{
	struct member *m = user;

	agent_set_registered(m->agent, false);
	say(m, LOG_LEVEL_ERROR, mem_printf("not registered: %s", why));
}

void member_manager_ready(struct member *m)
{
	agent_manager_ready(m->agent);
	if (mirror_is_loaded(m->full))
		agent_sweep(m->agent);
}

void member_manager_lost(struct member *m, const char *why)
{
	say(m, LOG_LEVEL_WARNING, mem_printf("the unit manager is away: %s", why));
}

void member_unit_changed(struct member *m, const struct manager_unit_state *state)
{
	agent_unit_state_changed(m->agent, state);
}

void member_unit_unloaded(struct member *m, const char *name)
{
	agent_unit_unloaded(m->agent, name);
}

/* ---- life ---- */

static void open_parts(struct member *m)
{
	struct engine_config engine = {.client = m->config.quick,
		.writes = m->config.client,
		.prefix = m->prefix,
		.machine_id = m->id,
		.cluster = m->config.cluster,
		.lease_ttl_s = MIN(m->config.ttl_s, (int64_t)MEMBER_LEASE_TTL_MAX_S),
		.reconcile_ms = m->config.reconcile_ms,
		.disabled = m->config.engine_disabled,
		.is_registered = ask_registered,
		.contact_since_ms = ask_contact,
		.cluster_is_live = ask_live,
		.cluster_index = ask_index,
		.leading = leading_changed,
		.log = say_text,
		.userdata = m};
	struct agent_config agent = {.client = m->config.client,
		.prefix = m->prefix,
		.machine_id = m->id,
		.cluster = m->config.cluster,
		.manager = m->config.manager,
		.ttl_s = m->config.ttl_s,
		.cluster_index = ask_index,
		.log = say_text,
		.userdata = m};
	struct cluster_observer observer = {on_machine, on_unit, on_published, on_assigned, on_state_gone, m};
	struct presence_events events = {on_registered, on_contact, on_refused};
	_cleanup_free_ char *object = mem_printf("%s/machines/%s/object", m->prefix, m->id);
	_cleanup_free_ char *lease = mem_printf("%s/lease", m->prefix);
	_cleanup_free_ char *index = mem_printf("%s/assigned/%s", m->prefix, m->id);

	m->agent = agent_new(&agent);
	m->presence = presence_new(m->config.quick, object, m->config.machine, m->config.ttl_s, &events, m);
	m->engine = engine_new(&engine);
	cluster_observe(m->config.cluster, &observer);
	m->lease = mirror_open(m->config.client, lease, &lease_handler, m);
	m->index = mirror_open(m->config.client, index, &index_handler, m);
}

struct member *member_new(const struct member_config *config)
{
	struct member *m = mem_new(struct member);

	m->config = *config;
	m->prefix = mem_strdup(config->prefix);
	m->id = mem_strdup(config->machine->id);
	open_parts(m);
	m->config.machine = NULL; /* the parts have what they need of it */
	m->idle_timer = mem_new(uv_timer_t);
	m->idle_timer->data = m;
	uv_timer_init(etcd_client_loop(config->client), m->idle_timer);
	uv_timer_start(m->idle_timer, idle_fired, MEMBER_IDLE_CHECK_MS, MEMBER_IDLE_CHECK_MS);
	return m;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct member *member_free(struct member *m)
{
	if (!m)
		return NULL;
	mirror_close(m->lease);
	mirror_close(m->index);
	mirror_close(m->full);
	agent_free(m->agent);
	engine_free(m->engine);
	presence_free(m->presence);
	uv_close((uv_handle_t *)m->idle_timer, timer_closed);
	free(m->prefix);
	free(m->id);
	free(m);
	return NULL;
}

static void stopped(void *user)
{
	struct member *m = user;

	m->stopped(m->stopped_userdata);
}

static void resigned(void *user)
{
	struct member *m = user;

	if (m->keep_units)
		stopped(m);
	else
		presence_withdraw(m->presence, stopped, m);
}

static void handed_over(void *user)
{
	struct member *m = user;

	engine_resign(m->engine, resigned, m);
}

void member_stop(struct member *m, bool keep_units, void (*done)(void *userdata), void *userdata)
{
	m->keep_units = keep_units;
	m->stopped = done;
	m->stopped_userdata = userdata;
	if (keep_units)
		handed_over(m);
	else
		agent_hand_over(m->agent, MEMBER_HAND_OVER_MS, handed_over, m);
}

void member_describe(struct member *m, const struct registry_machine *machine)
{
	presence_update(m->presence, machine);
}

/* ---- the cluster, for others ---- */

void member_use_cluster(struct member *m)
{
	m->used_ms = MAX(uv_now(etcd_client_loop(m->config.client)), (uint64_t)1);
	need_cluster(m);
}

bool member_knows_cluster(const struct member *m)
{
	return mirror_is_loaded(m->full);
}

uint64_t member_cluster_index(const struct member *m)
{
	return m->full ? mirror_index(m->full) : 0;
}

bool member_reaches_store(const struct member *m)
{
	return presence_contact_since_ms(m->presence) != 0;
}

const struct engine *member_engine(const struct member *m)
{
	return m->engine;
}
