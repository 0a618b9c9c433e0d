/* What an agent orders of its unit manager, and in which order: units that conflict never run beside each
 * other, whatever of them it is told first. The manager is the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_etcd.h"
#include "fleet/agent.h"

#define ALONE "[Service]\nExecStart=/bin/a\n[X-Fleet]\nConflicts=b*.service\n"
#define PLAIN "[Service]\nExecStart=/bin/b\n"

enum { UNITS_MAX = 4 };
struct fake_unit {
	char name[32], hash[UNIT_HASH_HEX_SIZE];
	const char *active;
	bool wanted, unloading;
	/* The order that is not answered. */
	manager_done_fn done;
	void *userdata;
};
struct manager {
	struct fake_unit units[UNITS_MAX]; /* without a name: free */
	bool holds;			   /* orders are not answered before answer_all() */
};
struct world {
	struct fake_etcd *fake;
	struct cluster *cluster;
	struct manager manager;
	struct agent *agent;
};

/* ---- the manager ---- */

static struct fake_unit *unit_find(const struct manager *manager, const char *name)
{
	for (size_t i = 0; i < UNITS_MAX; i++)
		if (strcmp(manager->units[i].name, name) == 0)
			return (struct fake_unit *)&manager->units[i];
	return NULL;
}

static void answer(struct manager *manager, struct fake_unit *unit, manager_done_fn done, void *userdata)
{
	if (!manager->holds) {
		done(userdata, 0, "");
		return;
	}
	unit->done = done;
	unit->userdata = userdata;
}

static void answer_all(struct manager *manager)
{
	manager->holds = false;
	for (size_t i = 0; i < UNITS_MAX; i++) {
		manager_done_fn done = manager->units[i].done;

		manager->units[i].done = NULL;
		if (done)
			done(manager->units[i].userdata, 0, "");
	}
}

static void unit_add(struct manager *manager, const char *name, const char *hash)
{
	struct fake_unit *unit = unit_find(manager, "");

	assert_non_null(unit);
	snprintf(unit->name, sizeof(unit->name), "%s", name);
	snprintf(unit->hash, sizeof(unit->hash), "%s", hash);
	unit->active = "inactive";
}

bool manager_is_ready(const struct manager *manager)
{
	(void)manager;
	return true;
}

void manager_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata)
{
	(void)text;
	unit_add(manager, name, hash);
	answer(manager, unit_find(manager, name), done, userdata);
}

void manager_unload(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	struct fake_unit *unit = unit_find(manager, name);

	unit->active = "deactivating";
	unit->wanted = false;
	unit->unloading = true;
	unit->done = done;
	unit->userdata = userdata;
}

void manager_start(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	struct fake_unit *unit = unit_find(manager, name);

	unit->active = "active";
	unit->wanted = true;
	answer(manager, unit, done, userdata);
}

void manager_stop(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	struct fake_unit *unit = unit_find(manager, name);

	unit->active = "deactivating";
	unit->wanted = false;
	answer(manager, unit, done, userdata);
}

static struct manager_unit_state state_of(const struct fake_unit *unit)
{
	return (struct manager_unit_state){.name = unit->name,
		.hash = unit->hash,
		.load = "loaded",
		.active = unit->active,
		.sub = "",
		.wanted = unit->wanted};
}

bool manager_state(const struct manager *manager, const char *name, struct manager_unit_state *ret)
{
	const struct fake_unit *unit = unit_find(manager, name);

	if (unit)
		*ret = state_of(unit);
	return unit != NULL;
}

size_t manager_count(const struct manager *manager)
{
	size_t count = 0;

	for (size_t i = 0; i < UNITS_MAX; i++)
		count += manager->units[i].name[0] != 0;
	return count;
}

void manager_list(const struct manager *manager,
	void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata)
{
	for (size_t i = 0; i < UNITS_MAX; i++) {
		struct manager_unit_state state = state_of(&manager->units[i]);

		if (manager->units[i].name[0])
			each(userdata, &state);
	}
}

/* ---- the cluster ---- */

static void text_hash(const char *text, char ret_hash[static UNIT_HASH_HEX_SIZE])
{
	struct unit_file *file;
	uint8_t hash[UNIT_HASH_SIZE];

	assert_int_equal(unit_file_parse(slice_str(text), &file, NULL), 0);
	unit_file_hash(file, hash);
	unit_file_free(file);
	unit_hash_hex(hash, ret_hash);
}

/* Into the mirror of the cluster. */
static void text_put(struct world *w, const char *text, char ret_hash[static UNIT_HASH_HEX_SIZE])
{
	_cleanup_buf_ struct buf value = BUF_INIT(4096);
	_cleanup_free_ char *path = NULL;

	text_hash(text, ret_hash);
	registry_encode_unit(&value, slice_str(text));
	path = mem_printf("unit/%s", ret_hash);
	cluster_set(w->cluster, path, buf_slice(&value), 1);
}

/* Into the store: this machine does not follow the cluster, or not yet. */
static void text_store(struct world *w, const char *text, char ret_hash[static UNIT_HASH_HEX_SIZE])
{
	_cleanup_buf_ struct buf value = BUF_INIT(4096);
	_cleanup_free_ char *path = NULL;
	struct fake_key *key;

	text_hash(text, ret_hash);
	registry_encode_unit(&value, slice_str(text));
	path = mem_printf("/f/unit/%s", ret_hash);
	key = fake_key(w->fake, path);
	(void)snprintf(key->value, sizeof(key->value), "%s", buf_text(&value));
	key->there = true;
}

static void assign(struct world *w, const char *name, const char *text, enum registry_state state)
{
	struct registry_assignment assignment = {.state = state};
	_cleanup_buf_ struct buf value = BUF_INIT(4096);

	text_put(w, text, assignment.hash);
	registry_encode_assignment(&value, &assignment);
	agent_index_set(w->agent, name, buf_slice(&value));
}

static uint64_t cluster_index(void *userdata)
{
	(void)userdata;
	return 1;
}

static void world_begin(struct world *w)
{
	struct agent_config config = {.prefix = "/f",
		.machine_id = "m1",
		.manager = &w->manager,
		.ttl_s = 30,
		.cluster_index = cluster_index};

	w->fake = fake_etcd_new();
	config.client = w->fake->client;
	config.cluster = w->cluster = cluster_new();
	w->agent = agent_new(&config);
	agent_set_registered(w->agent, true);
	agent_set_lasting(w->agent, true);
	agent_lease_term(w->agent, "t");
}

/* The index has been read. */
static void world_ready(struct world *w)
{
	agent_index_begin(w->agent);
	agent_index_set(w->agent, "epoch", SLICE_LITERAL("t"));
	agent_index_end(w->agent);
}

static void world_end(struct world *w)
{
	agent_free(w->agent);
	cluster_free(w->cluster);
	fake_etcd_free(w->fake);
}

static bool is_active(const struct world *w, const char *name)
{
	const struct fake_unit *unit = unit_find(&w->manager, name);

	return unit && strcmp(unit->active, "active") == 0;
}

static bool is_unloading(const struct world *w, const char *name)
{
	const struct fake_unit *unit = unit_find(&w->manager, name);

	return unit && unit->unloading;
}

/* Whatever is to happen without another sign has happened. */
static void settle(struct world *w)
{
	uint64_t until = uv_now(&w->fake->loop) + 50;

	fake_run_until(w->fake, uv_now(&w->fake->loop) > until);
}

/* The manager's news. */
static void tell(struct world *w, const char *name)
{
	struct manager_unit_state state = state_of(unit_find(&w->manager, name));

	agent_unit_state_changed(w->agent, &state);
}

/* The unit's processes have ended. */
static void ends(struct world *w, const char *name)
{
	struct fake_unit *unit = unit_find(&w->manager, name), old = *unit;

	*unit = (struct fake_unit){0};
	agent_unit_unloaded(w->agent, name);
	old.done(old.userdata, 0, "");
}

/* ---- the cases ---- */

static void a_place_is_taken_when_who_had_it_has_ended(void **state)
{
	struct world w = {0};

	(void)state;
	world_begin(&w);
	world_ready(&w);
	assign(&w, "b.service", PLAIN, REGISTRY_LAUNCHED);
	assert_true(is_active(&w, "b.service"));
	agent_index_remove(w.agent, "b.service");
	assign(&w, "a.service", ALONE, REGISTRY_LAUNCHED);
	settle(&w);
	assert_true(is_unloading(&w, "b.service") && !is_active(&w, "a.service"));
	ends(&w, "b.service");
	fake_run_until(w.fake, is_active(&w, "a.service"));
	world_end(&w);
}

static void and_when_this_machine_hears_first_of_who_comes(void **state)
{
	struct world w = {0};

	(void)state;
	world_begin(&w);
	world_ready(&w);
	assign(&w, "b.service", PLAIN, REGISTRY_LAUNCHED);
	assign(&w, "a.service", ALONE, REGISTRY_LAUNCHED);
	settle(&w);
	assert_true(is_active(&w, "b.service") && !is_active(&w, "a.service"));
	agent_index_remove(w.agent, "b.service");
	settle(&w);
	assert_true(is_unloading(&w, "b.service") && !is_active(&w, "a.service"));
	ends(&w, "b.service");
	fake_run_until(w.fake, is_active(&w, "a.service"));
	world_end(&w);
}

static void what_runs_counts_with_the_text_that_it_was_started_with(void **state)
{
	struct world w = {0};

	(void)state;
	world_begin(&w);
	world_ready(&w);
	assign(&w, "a.service", ALONE, REGISTRY_LAUNCHED);
	assign(&w, "a.service", "[Service]\nExecStart=/bin/a2\n", REGISTRY_LAUNCHED);
	assign(&w, "b.service", PLAIN, REGISTRY_LAUNCHED);
	settle(&w);
	assert_true(is_unloading(&w, "a.service") && !is_active(&w, "b.service"));
	ends(&w, "a.service");
	fake_run_until(w.fake, is_active(&w, "a.service") && is_active(&w, "b.service"));
	world_end(&w);
}

static void what_an_earlier_life_loaded_has_its_rules(void **state)
{
	char alone[UNIT_HASH_HEX_SIZE], plain[UNIT_HASH_HEX_SIZE];
	struct world w = {0};

	(void)state;
	world_begin(&w);
	text_hash(ALONE, alone);
	text_hash(PLAIN, plain);
	unit_add(&w.manager, "a.service", alone);
	unit_add(&w.manager, "b.service", plain);
	unit_find(&w.manager, "b.service")->wanted = true;
	unit_find(&w.manager, "b.service")->active = "active";
	agent_manager_ready(w.agent);
	agent_index_begin(w.agent);
	assign(&w, "a.service", ALONE, REGISTRY_LAUNCHED);
	agent_index_set(w.agent, "epoch", SLICE_LITERAL("t"));
	agent_index_end(w.agent);
	settle(&w);
	assert_true(is_unloading(&w, "b.service") && !is_active(&w, "a.service"));
	ends(&w, "b.service");
	fake_run_until(w.fake, is_active(&w, "a.service"));
	world_end(&w);
}

/* What says that a unit is here goes when nothing of it is here, and comes back only when that is done: who
 * reads that it is gone may start it elsewhere. */
static void what_is_loaded_again_stays_published(void **state)
{
	struct world w = {0};
	struct fake_key *published;

	(void)state;
	world_begin(&w);
	world_ready(&w);
	published = fake_key(w.fake, "/f/states/a.service/m1");
	assign(&w, "a.service", ALONE, REGISTRY_LAUNCHED);
	tell(&w, "a.service");
	fake_run_until(w.fake, published->there && strstr(published->value, "\"active\""));
	assign(&w, "a.service", PLAIN, REGISTRY_LAUNCHED);
	assert_true(is_unloading(&w, "a.service"));
	ends(&w, "a.service");
	settle(&w);
	assert_true(is_active(&w, "a.service"));
	assert_true(published->there && !published->deletes);
	/* It goes, and is wanted again before the store has said that its state is gone. */
	agent_index_remove(w.agent, "a.service");
	w.fake->stall = true;
	ends(&w, "a.service");
	settle(&w);
	assign(&w, "a.service", PLAIN, REGISTRY_LAUNCHED);
	settle(&w);
	assert_true(published->there && !unit_find(&w.manager, "a.service"));
	fake_go_on(w.fake);
	fake_run_until(w.fake, is_active(&w, "a.service") && published->deletes == 1);
	world_end(&w);
}

static void rules_are_asked_for_if_only_the_store_has_them(void **state)
{
	char alone[UNIT_HASH_HEX_SIZE], lost[UNIT_HASH_HEX_SIZE];
	struct world w = {0};

	(void)state;
	world_begin(&w);
	text_store(&w, ALONE, alone);
	text_hash("[Service]\nExecStart=/bin/lost\n", lost);
	unit_add(&w.manager, "a.service", alone);
	unit_find(&w.manager, "a.service")->active = "active";
	/* What nobody knows any more rules nobody out. */
	unit_add(&w.manager, "lost.service", lost);
	unit_find(&w.manager, "lost.service")->active = "active";
	agent_manager_ready(w.agent);
	world_ready(&w);
	w.fake->away = true;
	assign(&w, "b.service", PLAIN, REGISTRY_LAUNCHED);
	settle(&w);
	assert_true(is_unloading(&w, "a.service") && !is_active(&w, "b.service"));
	w.fake->away = false;
	fake_run_until(w.fake, fake_key(w.fake, "/f/states/b.service/m1")->there);
	settle(&w);
	assert_false(is_active(&w, "b.service"));
	ends(&w, "a.service");
	fake_run_until(w.fake, is_active(&w, "b.service"));
	world_end(&w);
}

static void who_ends_before_its_rules_are_known_is_not_waited_for(void **state)
{
	char alone[UNIT_HASH_HEX_SIZE];
	struct world w = {0};

	(void)state;
	world_begin(&w);
	text_hash(ALONE, alone);
	unit_add(&w.manager, "a.service", alone);
	agent_manager_ready(w.agent);
	world_ready(&w);
	w.fake->stall = true;
	assign(&w, "b.service", PLAIN, REGISTRY_LAUNCHED);
	settle(&w);
	assert_true(is_unloading(&w, "a.service") && !is_active(&w, "b.service"));
	ends(&w, "a.service");
	fake_run_until(w.fake, is_active(&w, "b.service"));
	fake_go_on(w.fake);
	world_end(&w);
}

/* The index never means that; whoever is left runs. */
static void of_two_that_conflict_one_runs(void **state)
{
	struct world w = {0};

	(void)state;
	world_begin(&w);
	world_ready(&w);
	w.manager.holds = true;
	assign(&w, "a.service", ALONE, REGISTRY_LAUNCHED);
	assign(&w, "b.service", PLAIN, REGISTRY_LAUNCHED);
	answer_all(&w.manager);
	settle(&w);
	assert_int_equal(is_active(&w, "a.service") + is_active(&w, "b.service"), 1);
	/* One that is only to be loaded is in nobody's way, once it has stopped. */
	assign(&w, "b.service", PLAIN, REGISTRY_LOADED);
	if (!is_active(&w, "a.service")) {
		settle(&w);
		assert_false(is_active(&w, "a.service"));
		unit_find(&w.manager, "b.service")->active = "inactive";
		tell(&w, "b.service");
	}
	fake_run_until(w.fake, is_active(&w, "a.service"));
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_is_taken_when_who_had_it_has_ended),
		cmocka_unit_test(and_when_this_machine_hears_first_of_who_comes),
		cmocka_unit_test(what_runs_counts_with_the_text_that_it_was_started_with),
		cmocka_unit_test(what_an_earlier_life_loaded_has_its_rules),
		cmocka_unit_test(rules_are_asked_for_if_only_the_store_has_them),
		cmocka_unit_test(who_ends_before_its_rules_are_known_is_not_waited_for),
		cmocka_unit_test(of_two_that_conflict_one_runs),
		cmocka_unit_test(what_is_loaded_again_stays_published),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
