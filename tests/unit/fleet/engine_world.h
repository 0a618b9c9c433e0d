/* An engine, the cluster that it is told of, and a small store: for the tests of what it decides and writes.
 */
#pragma once
#include "fake_etcd.h"
#include "fleet/engine.h"

struct world {
	struct fake_etcd *fake;
	struct cluster *cluster;
	struct engine *engine;
};

static inline uint64_t contact_since(void *user)
{
	(void)user;
	return 1;
}

static inline bool is_loaded(void *user)
{
	(void)user;
	return true;
}

static inline void set_machine(struct cluster *c, const char *id, bool ours)
{
	_cleanup_free_ char *path = mem_printf("machines/%s/object", id);
	_cleanup_free_ char *value = mem_printf(
		"{\"ID\":\"%s\"%s}", id, ours ? ",\"Flotilla\":{\"API\":\"\",\"Token\":\"t\"}" : "");

	cluster_set(c, path, slice_str(value), 1);
}

/* Up to which index the cluster is known to the engine. */
static uint64_t known_index = UINT64_MAX;

static inline uint64_t ask_index(void *user)
{
	(void)user;
	return known_index;
}

static inline void on_state_gone(void *user, const char *name, const char *machine, uint64_t index)
{
	engine_state_gone(user, name, machine, index);
}

static inline struct world world_with(uint64_t collect_ms, uint64_t reconcile_ms)
{
	struct world w = {.fake = fake_etcd_new(), .cluster = cluster_new()};
	struct engine_config config = {.client = w.fake->client,
		.writes = w.fake->client,
		.prefix = "/f",
		.machine_id = "m1",
		.cluster = w.cluster,
		.lease_ttl_s = 10,
		.reconcile_ms = reconcile_ms,
		.collect_ms = collect_ms,
		.is_registered = is_loaded,
		.contact_since_ms = contact_since,
		.cluster_is_live = is_loaded,
		.cluster_index = ask_index};

	set_machine(w.cluster, "m1", true);
	w.engine = engine_new(&config);
	cluster_observe(
		w.cluster, &(struct cluster_observer){.state_gone = on_state_gone, .userdata = w.engine});
	return w;
}

static inline struct world world_collecting(uint64_t collect_ms)
{
	return world_with(collect_ms, 20);
}

static inline struct world world_new(void)
{
	return world_collecting(200);
}

static inline void world_free(struct world *w)
{
	cluster_observe(w->cluster, &(struct cluster_observer){0});
	engine_free(w->engine);
	cluster_free(w->cluster);
	fake_etcd_free(w->fake);
}

/* Looks at everything all the time: how often the engine does by itself is for it to say. */
#define rounds_until(w, condition) fake_run_until((w)->fake, (engine_look_at_all((w)->engine), (condition)))

static inline void lead(struct world *w)
{
	engine_lease_seen(w->engine, (struct slice){0});
	fake_run_until(w->fake, engine_leads(w->engine));
}

/* Long enough for several rounds over everything. */
static inline void some_rounds(struct world *w)
{
	struct engine_stats stats, now;

	engine_get_stats(w->engine, &stats);
	rounds_until(w, (engine_get_stats(w->engine, &now), now.rounds >= stats.rounds + 5));
}

#define TEXT "[Service]\nExecStart=/bin/true\n"

/* The path of the text below the prefix. */
static inline char *set_text(
	struct cluster *c, const char *text, uint64_t index, char *ret_hex, uint8_t *ret_hash)
{
	struct unit_file *file;
	_cleanup_buf_ struct buf value = BUF_INIT(0);
	char *path;

	assert_int_equal(unit_file_parse(slice_str(text), &file, NULL), 0);
	unit_file_hash(file, ret_hash);
	unit_hash_hex(ret_hash, ret_hex);
	unit_file_free(file);
	registry_encode_unit(&value, slice_str(text));
	path = mem_printf("unit/%s", ret_hex);
	cluster_set(c, path, buf_slice(&value), index);
	return path;
}

static inline void set_unit(struct cluster *c, const char *name, const uint8_t *hash, const char *desired)
{
	_cleanup_free_ char *object = mem_printf("job/%s/object", name);
	_cleanup_free_ char *wish = mem_printf("job/%s/target-state", name);
	_cleanup_buf_ struct buf value = BUF_INIT(0);

	registry_encode_job(&value, name, hash);
	cluster_set(c, object, buf_slice(&value), 5);
	cluster_set(c, wish, slice_str(desired), 5);
}
