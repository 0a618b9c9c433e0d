/* The engine against a small store: what a leader cleans up, and what it leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_etcd.h"
#include "fleet/engine.h"

struct world {
	struct fake_etcd *fake;
	struct cluster *cluster;
	struct engine *engine;
};

static uint64_t contact_since(void *user)
{
	(void)user;
	return 1;
}

static bool is_loaded(void *user)
{
	(void)user;
	return true;
}

static void set_machine(struct cluster *c, const char *id, bool ours)
{
	_cleanup_free_ char *path = mem_printf("machines/%s/object", id);
	_cleanup_free_ char *value = mem_printf(
		"{\"ID\":\"%s\"%s}", id, ours ? ",\"Flotilla\":{\"API\":\"\",\"Token\":\"t\"}" : "");

	cluster_set(c, path, slice_str(value), 1);
}

static struct world world_new(void)
{
	struct world w = {.fake = fake_etcd_new(), .cluster = cluster_new()};
	struct engine_config config = {.client = w.fake->client,
		.writes = w.fake->client,
		.prefix = "/f",
		.machine_id = "m1",
		.cluster = w.cluster,
		.lease_ttl_s = 10,
		.reconcile_ms = 20,
		.contact_since_ms = contact_since,
		.cluster_loaded = is_loaded};

	set_machine(w.cluster, "m1", true);
	w.engine = engine_new(&config);
	return w;
}

static void world_free(struct world *w)
{
	engine_free(w->engine);
	cluster_free(w->cluster);
	fake_etcd_free(w->fake);
}

static void lead(struct world *w)
{
	engine_lease_seen(w->engine, (struct slice){0}, 0);
	fake_run_until(w->fake, engine_leads(w->engine));
}

/* Long enough for several rounds over everything. */
static void some_rounds(struct world *w)
{
	struct engine_stats stats, now;

	engine_get_stats(w->engine, &stats);
	fake_run_until(w->fake, (engine_get_stats(w->engine, &now), now.rounds >= stats.rounds + 5));
}

static void a_new_leader_removes_the_empty_directories_that_others_left(void **state)
{
	struct world w = world_new();
	static const char *const empty[] = {
		"/f/states/gone.service", "/f/job/gone.service", "/f/states/told.service"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(empty); i++)
		fake_key(w.fake, empty[i])->there = true;
	fake_key(w.fake, "/f/states/here.service")->there = true;
	fake_key(w.fake, "/f/states/odd.service")->refuse = ETCD_DIRECTORY_NOT_EMPTY;
	/* Nobody leads while these keys go. */
	cluster_set(w.cluster, "states/gone.service/m1", SLICE_LITERAL("{}"), 5);
	cluster_remove(w.cluster, "states/gone.service/m1");
	cluster_set(w.cluster, "job/gone.service/target", SLICE_LITERAL("m1"), 5);
	cluster_remove(w.cluster, "job/gone.service/target");
	cluster_set_empty(w.cluster, "states/told.service");
	cluster_set_empty(w.cluster, "states/odd.service");
	/* A unit that is there fills its directory again. */
	cluster_set(w.cluster, "job/here.service/target-state", SLICE_LITERAL("inactive"), 5);
	cluster_set_empty(w.cluster, "states/here.service");
	lead(&w);
	for (size_t i = 0; i < ARRAY_LEN(empty); i++)
		fake_run_until(w.fake, !fake_key(w.fake, empty[i])->there);
	fake_run_until(w.fake, fake_key(w.fake, "/f/states/odd.service")->deletes);
	some_rounds(&w);
	assert_int_equal(fake_key(w.fake, "/f/states/odd.service")->deletes, 1);
	assert_int_equal(fake_key(w.fake, "/f/states/gone.service")->deletes, 1);
	assert_true(fake_key(w.fake, "/f/states/here.service")->there);
	world_free(&w);
}

static void an_empty_directory_is_asked_for_again_after_an_outage(void **state)
{
	struct world w = world_new();
	struct fake_key *directory = fake_key(w.fake, "/f/states/gone.service");

	(void)state;
	directory->there = true;
	lead(&w);
	some_rounds(&w);
	directory->refuse = ETCD_RAFT_ERROR;
	cluster_set_empty(w.cluster, "states/gone.service");
	fake_run_until(w.fake, directory->deletes);
	directory->refuse = 0;
	fake_run_until(w.fake, !directory->there);
	world_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_leader_removes_the_empty_directories_that_others_left),
		cmocka_unit_test(an_empty_directory_is_asked_for_again_after_an_outage),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
