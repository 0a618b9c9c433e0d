/* The cluster in memory: keys in any order give the same picture, and events give what a fresh read gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "fleet/cluster.h"

static void set_unit(struct cluster *c, const char *name, const char *text, const char *desired)
{
	struct unit_file *file;
	uint8_t hash[UNIT_HASH_SIZE];
	char hex[UNIT_HASH_HEX_SIZE], path[512];
	_cleanup_buf_ struct buf value = BUF_INIT(65536);

	assert_int_equal(unit_file_parse(slice_str(text), &file, NULL), 0);
	unit_file_hash(file, hash);
	unit_file_free(file);
	unit_hash_hex(hash, hex);
	registry_encode_unit(&value, slice_str(text));
	snprintf(path, sizeof(path), "unit/%s", hex);
	cluster_set(c, path, buf_slice(&value), 1);
	buf_clear(&value);
	registry_encode_job(&value, name, hash);
	snprintf(path, sizeof(path), "job/%s/object", name);
	cluster_set(c, path, buf_slice(&value), 1);
	snprintf(path, sizeof(path), "job/%s/target-state", name);
	cluster_set(c, path, slice_str(desired), 1);
}

static void set_machine(struct cluster *c, const char *id, const char *ip)
{
	char path[256], value[256];

	snprintf(path, sizeof(path), "machines/%s/object", id);
	snprintf(value, sizeof(value),
		"{\"ID\":\"%s\",\"PublicIP\":\"%s\",\"Metadata\":{\"disk\":\"ssd\"},\"Version\":\"1\"}", id,
		ip);
	cluster_set(c, path, slice_str(value), 1);
}

static void a_unit_is_known_once_object_and_text_are_there(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();

	(void)state;
	cluster_set(c, "job/a.service/target-state", SLICE_LITERAL("launched"), 1);
	assert_null(cluster_unit(c, "a.service"));
	assert_non_null(cluster_entry(c, "a.service"));
	set_unit(c, "a.service", "[Service]\nExecStart=/bin/true\n", "launched");
	assert_non_null(cluster_unit(c, "a.service"));
	/* Who created it may have come no further than this. */
	cluster_remove(c, "job/a.service/target-state", 0);
	assert_non_null(cluster_unit(c, "a.service"));
	assert_int_equal(cluster_unit(c, "a.service")->desired, REGISTRY_INACTIVE);
	cluster_remove(c, "job/a.service", 0);
	assert_null(cluster_entry(c, "a.service"));
}

static void the_current_state_is_computed_as_fleet_does(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();
	const struct cluster_unit *unit;

	(void)state;
	set_unit(c, "a.service", "[Service]\nExecStart=/bin/true\n", "launched");
	unit = cluster_unit(c, "a.service");
	assert_int_equal(cluster_unit_current(unit), REGISTRY_INACTIVE);
	cluster_set(c, "job/a.service/target", SLICE_LITERAL("m1"), 1);
	assert_int_equal(cluster_unit_current(unit), REGISTRY_INACTIVE);
	cluster_set(c, "states/a.service/m1",
		SLICE_LITERAL("{\"loadState\":\"loaded\",\"activeState\":\"active\"}"), 1);
	assert_int_equal(cluster_unit_current(unit), REGISTRY_LOADED);
	cluster_set(c, "job/a.service/job-state", SLICE_LITERAL("m1"), 1);
	assert_int_equal(cluster_unit_current(unit), REGISTRY_LAUNCHED);
	cluster_set(c, "job/a.service/job-state", SLICE_LITERAL("m2"), 1);
	assert_int_equal(cluster_unit_current(unit), REGISTRY_LOADED);
	cluster_remove(c, "states/a.service", 0);
	assert_int_equal(cluster_unit_current(unit), REGISTRY_INACTIVE);
	assert_string_equal(scheduler_target(cluster_scheduler(c), "a.service"), "m1");
}

static void dynamic_metadata_override_and_hide(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();
	_cleanup_free_ struct scheduler_pair *pairs = NULL;
	size_t count;

	(void)state;
	cluster_set(c, "machines/m1/metadata/rack", SLICE_LITERAL("r7"), 1);
	assert_null(cluster_machine(c, "m1"));
	set_machine(c, "m1", "10.0.0.1");
	cluster_set(c, "machines/m1/metadata/disk", SLICE_LITERAL(""), 1);
	pairs = cluster_machine_metadata(cluster_machine(c, "m1"), &count);
	assert_int_equal(count, 1);
	assert_string_equal(pairs[0].key, "rack");
	/* An expired presence leaves the dynamic part for the machine's next life. */
	cluster_remove(c, "machines/m1/object", 0);
	assert_null(cluster_machine(c, "m1"));
	assert_int_equal(scheduler_machine_count(cluster_scheduler(c)), 0);
	set_machine(c, "m1", "10.0.0.1");
	free(pairs);
	pairs = cluster_machine_metadata(cluster_machine(c, "m1"), &count);
	assert_int_equal(count, 1);
}

static void what_is_not_understood_is_ignored(void **state)
{
	static const char *const paths[] = {"", "x", "job", "job/a.service", "job/a.service/object",
		"job/a/b/c", "unit/zz", "states/a.service/m1", "machines/m1/object", "assigned/m1/epoch",
		"lease/engine-leader", "machines//object"};
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		cluster_set(c, paths[i], SLICE_LITERAL("not what it should be"), 1);
	assert_int_equal(cluster_unit_count(c), 0);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		cluster_remove(c, paths[i], 0);
}

static void a_directory_that_was_left_behind_is_known_as_bare(void **state)
{
	static const char value[] = "{\"activeState\":\"active\"}";
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();
	_cleanup_free_ char **paths = NULL;
	size_t count;

	(void)state;
	cluster_set(c, "states/a.service/m1", SLICE_LITERAL(value), 1);
	cluster_set(c, "states/a.service/m2", SLICE_LITERAL(value), 1);
	cluster_set(c, "job/a.service/target", SLICE_LITERAL("m1"), 1);
	cluster_remove(c, "states/a.service/m1", 0);
	assert_false(cluster_is_bare(c, "states/a.service"));
	cluster_remove(c, "states/a.service/m2", 0);
	assert_true(cluster_is_bare(c, "states/a.service"));
	cluster_remove(c, "job/a.service/target", 0);
	cluster_set_empty(c, "states/b.service");
	cluster_set_empty(c, "states");
	cluster_set_empty(c, "machines/m1");
	cluster_set_empty(c, "states/b.service/x");
	paths = cluster_bare_paths(c, &count);
	assert_int_equal(count, 3);
	assert_string_equal(paths[0], "job/a.service");
	assert_string_equal(paths[1], "states/a.service");
	assert_string_equal(paths[2], "states/b.service");
	/* Filled again, by whatever key; gone; not empty after all. */
	cluster_set(c, "states/a.service/m1", SLICE_LITERAL("what nobody understands"), 1);
	assert_false(cluster_is_bare(c, "states/a.service"));
	cluster_remove(c, "job/a.service", 0);
	assert_false(cluster_is_bare(c, "job/a.service"));
	cluster_not_bare(c, "states/b.service", 0);
	assert_true(cluster_is_bare(c, "states/b.service"));
	cluster_not_bare(c, "states/b.service", 1);
	assert_false(cluster_is_bare(c, "states/b.service"));
	cluster_remove(c, "states/a.service/m1", 0);
	assert_true(cluster_is_bare(c, "states/a.service"));
	cluster_begin(c, 0);
	cluster_end(c);
	assert_false(cluster_is_bare(c, "states/a.service"));
}

static void count_machine(void *user, const char *id)
{
	(void)id;
	++*(int *)user;
}

/* A read that breaks off has said nothing of what is gone, and what it has said of metadata is not half of
 * it. */
static void a_read_that_breaks_off_is_told_anew(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();
	_cleanup_free_ struct scheduler_pair *pairs = NULL;
	int changes = 0;
	struct cluster_observer observer = {.machine = count_machine, .userdata = &changes};
	size_t count;

	(void)state;
	set_machine(c, "m1", "10.0.0.1");
	set_machine(c, "m2", "10.0.0.2");
	cluster_set(c, "machines/m1/metadata/rack", SLICE_LITERAL("a"), 1);
	set_unit(c, "a.service", "[Service]\nExecStart=/bin/true\n", "launched");
	cluster_observe(c, &observer);
	cluster_begin(c, 5);
	cluster_set(c, "machines/m1/metadata/rack", SLICE_LITERAL("b"), 4);
	set_machine(c, "m3", "10.0.0.3");
	assert_non_null(cluster_machine(c, "m2"));
	assert_non_null(cluster_unit(c, "a.service"));
	pairs = cluster_machine_metadata(cluster_machine(c, "m1"), &count);
	assert_int_equal(count, 2);
	assert_string_equal(pairs[1].value, "a");
	assert_int_equal(changes, 0);
	cluster_begin(c, 6);
	set_machine(c, "m1", "10.0.0.1");
	cluster_set(c, "machines/m1/metadata/rack", SLICE_LITERAL("b"), 4);
	set_machine(c, "m3", "10.0.0.3");
	cluster_end(c);
	assert_int_equal(changes, 3); /* m1 has another rack, m2 is gone, m3 has come */
	assert_null(cluster_machine(c, "m2"));
	assert_null(cluster_unit(c, "a.service"));
	assert_int_equal(scheduler_machine_count(cluster_scheduler(c)), 2);
}

static void read_machine(struct cluster *c, const char *ip, const char *rack)
{
	cluster_begin(c, 0);
	cluster_set(c, "machines/m1/metadata/rack", slice_str(rack), 1);
	set_machine(c, "m1", ip);
	cluster_set(c, "machines/m1/metadata/zone", SLICE_LITERAL("z"), 1);
	cluster_end(c);
}

static void a_machine_written_again_as_it_was_is_no_change(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();
	int changes = 0;
	struct cluster_observer observer = {.machine = count_machine, .userdata = &changes};

	(void)state;
	cluster_observe(c, &observer);
	read_machine(c, "10.0.0.1", "r7");
	assert_int_equal(changes, 1);
	/* The heartbeat of a daemon that writes its whole presence; a read that finds all as it was. */
	set_machine(c, "m1", "10.0.0.1");
	cluster_set(c, "machines/m1/metadata/rack", SLICE_LITERAL("r7"), 1);
	read_machine(c, "10.0.0.1", "r7");
	assert_int_equal(changes, 1);
	set_machine(c, "m1", "10.0.0.2");
	assert_int_equal(changes, 2);
	read_machine(c, "10.0.0.2", "r8");
	assert_int_equal(changes, 3);
	/* Gone and back with the same words is two changes. */
	cluster_remove(c, "machines/m1/object", 0);
	assert_null(cluster_machine(c, "m1"));
	set_machine(c, "m1", "10.0.0.2");
	assert_int_equal(changes, 5);
	assert_non_null(cluster_machine(c, "m1"));
	assert_int_equal(scheduler_machine_count(cluster_scheduler(c)), 1);
	cluster_begin(c, 0);
	cluster_end(c);
	assert_int_equal(changes, 6);
	assert_int_equal(scheduler_machine_count(cluster_scheduler(c)), 0);
}

/* ---- events against reads ---- */

enum { KEYS = 64 };
struct fake_store {
	char paths[KEYS][128];
	char values[KEYS][256]; /* "/": a directory */
	size_t count;
};

static void store_set(struct fake_store *store, const char *path, const char *value)
{
	const char *slash = strchr(path, '/');
	size_t i = 0;

	if (slash && strchr(slash + 1, '/') && strncmp(path, "machines/", 9) != 0) {
		char directory[128];

		snprintf(directory, sizeof(directory), "%.*s", (int)(strchr(slash + 1, '/') - path), path);
		store_set(store, directory, "/");
	}
	while (i < store->count && strcmp(store->paths[i], path) != 0)
		i++;
	assert_true(i < KEYS);
	snprintf(store->paths[i], sizeof(store->paths[i]), "%s", path);
	snprintf(store->values[i], sizeof(store->values[i]), "%s", value);
	store->count = MAX(store->count, i + 1);
}

static bool store_has(const struct fake_store *store, const char *path)
{
	for (size_t i = 0; i < store->count; i++)
		if (strcmp(store->paths[i], path) == 0)
			return true;
	return false;
}

static bool store_has_below(const struct fake_store *store, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < store->count; i++)
		if (strncmp(store->paths[i], path, len) == 0 && store->paths[i][len] == '/')
			return true;
	return false;
}

static void store_remove(struct fake_store *store, const char *path)
{
	size_t len = strlen(path), kept = 0;

	for (size_t i = 0; i < store->count; i++) {
		if (strncmp(store->paths[i], path, len) == 0 &&
			(!store->paths[i][len] || store->paths[i][len] == '/'))
			continue;
		memmove(store->paths[kept], store->paths[i], sizeof(store->paths[i]));
		memmove(store->values[kept], store->values[i], sizeof(store->values[i]));
		kept++;
	}
	store->count = kept;
}

static void read_all(struct cluster *c, const struct fake_store *store)
{
	cluster_begin(c, 0);
	for (size_t i = 0; i < store->count; i++)
		if (strcmp(store->values[i], "/") != 0)
			cluster_set(c, store->paths[i], slice_str(store->values[i]), 1);
		else if (!store_has_below(store, store->paths[i]))
			cluster_set_empty(c, store->paths[i]);
	cluster_end(c);
}

static void picture(const struct cluster *c, struct buf *out)
{
	size_t count, pairs_count;
	_cleanup_free_ const struct cluster_unit **units = cluster_entries(c, &count);
	size_t machine_count;
	_cleanup_free_ const struct cluster_machine **machines = cluster_machines(c, &machine_count);
	size_t left_count;
	_cleanup_free_ char **bare = cluster_bare_paths(c, &left_count), **garbage = NULL, **indexed = NULL;

	for (size_t i = 0; i < left_count; i++)
		buf_printf(out, "bare %s\n", bare[i]);
	garbage = cluster_garbage_paths(c, &left_count);
	for (size_t i = 0; i < left_count; i++)
		buf_printf(out, "garbage %s\n", garbage[i]);
	indexed = cluster_indexed_machines(c, &left_count);
	for (size_t i = 0; i < left_count; i++)
		buf_printf(out, "index of %s by %s\n", indexed[i],
			cluster_epoch(c, indexed[i]) ? cluster_epoch(c, indexed[i]) : "-");
	for (size_t i = 0; i < count; i++) {
		const struct cluster_unit *unit = units[i];
		const char *scheduled = scheduler_target(cluster_scheduler(c), unit->name);

		buf_printf(out, "%s %s %d/%d %s %s %s planned=%d\n", unit->name, unit->hash,
			unit->has_desired, unit->desired, unit->target ? unit->target : "-",
			unit->heartbeat ? unit->heartbeat : "-", scheduled ? scheduled : "-", unit->planned);
		for (size_t k = 0; k < unit->state_count; k++)
			buf_printf(out, "  %s %s\n", unit->states[k].state.machine,
				unit->states[k].state.active);
		buf_printf(out, "  %zu assigned\n", unit->assignment_count);
	}
	for (size_t i = 0; i < machine_count; i++) {
		_cleanup_free_ struct scheduler_pair *pairs =
			cluster_machine_metadata(machines[i], &pairs_count);

		buf_printf(out, "%s %s\n", machines[i]->id, machines[i]->object.public_ip);
		for (size_t k = 0; k < pairs_count; k++)
			buf_printf(out, "  %s=%s\n", pairs[k].key, pairs[k].value);
	}
}

static void random_change(struct fake_store *store, struct cluster *c, struct rng *rng)
{
	static const char object[] = "{\"Name\":\"x\",\"UnitHash\":[246,228,183,2,89,63,44,15,151,162,210,12,"
				     "240,22,162,9,37,208,242,14]}";
	static const char *const states[] = {"inactive", "loaded", "launched", "bogus"};
	char path[128], value[256] = "";
	int unit = (int)rng_below(rng, 4), machine = (int)rng_below(rng, 3);
	bool removal = rng_below(rng, 3) == 0;

	switch (rng_below(rng, 9)) {
	case 0:
		snprintf(path, sizeof(path), "job/u%d.service/object", unit);
		snprintf(value, sizeof(value), "%s", object);
		break;
	case 1:
		snprintf(path, sizeof(path), "job/u%d.service/target-state", unit);
		snprintf(value, sizeof(value), "%s", states[rng_below(rng, 4)]);
		break;
	case 2:
		snprintf(path, sizeof(path), "job/u%d.service/target", unit);
		snprintf(value, sizeof(value), "m%d", machine);
		break;
	case 3:
		snprintf(path, sizeof(path), "job/u%d.service/job-state", unit);
		snprintf(value, sizeof(value), "m%d", machine);
		break;
	case 4:
		snprintf(path, sizeof(path), "states/u%d.service/m%d", unit, machine);
		if (rng_below(rng, 4))
			snprintf(value, sizeof(value), "{\"activeState\":\"%s\"}",
				rng_below(rng, 2) ? "active" : "failed");
		else
			snprintf(value, sizeof(value), "garbage");
		break;
	case 5:
		snprintf(path, sizeof(path), "machines/m%d/object", machine);
		snprintf(value, sizeof(value), "{\"ID\":\"m%d\",\"PublicIP\":\"10.0.0.%d\"}", machine,
			(int)rng_below(rng, 4));
		break;
	case 6:
		snprintf(path, sizeof(path), "machines/m%d/metadata/k%d", machine, (int)rng_below(rng, 2));
		snprintf(value, sizeof(value), "%s", rng_below(rng, 3) ? "v" : "");
		break;
	case 7:
		snprintf(path, sizeof(path), "assigned/m%d/u%d.service", machine, unit);
		if (rng_below(rng, 3) == 0)
			snprintf(path, sizeof(path), "assigned/m%d/epoch", machine);
		snprintf(value, sizeof(value), "{}");
		break;
	default:
		/* Whole directories go. */
		if (rng_below(rng, 3) == 0)
			snprintf(path, sizeof(path), "assigned/m%d", machine);
		else
			snprintf(path, sizeof(path),
				rng_below(rng, 2) ? "job/u%d.service" : "states/u%d.service", unit);
		removal = true;
	}
	if (removal) {
		if (!store_has(store, path))
			return;
		store_remove(store, path);
		cluster_remove(c, path, 0);
	} else {
		store_set(store, path, value);
		cluster_set(c, path, slice_str(value), 1);
	}
}

static void events_and_reads_give_the_same_picture(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		_cleanup_(cluster_freep) struct cluster *followed = cluster_new();
		struct fake_store store = {0};
		struct rng rng;

		rng_seed(&rng, seed);
		for (int step = 0; step < 150; step++) {
			random_change(&store, followed, &rng);
			if (step % 10 == 0) {
				_cleanup_(cluster_freep) struct cluster *fresh = cluster_new();
				_cleanup_buf_ struct buf one = BUF_INIT(0), two = BUF_INIT(0);

				read_all(fresh, &store);
				picture(followed, &one);
				picture(fresh, &two);
				assert_string_equal(buf_text(&one), buf_text(&two));
			}
			/* What was missed while the watch was cut is found by the next read. */
			if (rng_below(&rng, 30) == 0) {
				_cleanup_(cluster_freep) struct cluster *unseen = cluster_new();

				for (int k = 0; k < 5; k++)
					random_change(&store, unseen, &rng);
				read_all(followed, &store);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_unit_is_known_once_object_and_text_are_there),
		cmocka_unit_test(the_current_state_is_computed_as_fleet_does),
		cmocka_unit_test(dynamic_metadata_override_and_hide),
		cmocka_unit_test(what_is_not_understood_is_ignored),
		cmocka_unit_test(a_directory_that_was_left_behind_is_known_as_bare),
		cmocka_unit_test(a_read_that_breaks_off_is_told_anew),
		cmocka_unit_test(a_machine_written_again_as_it_was_is_no_change),
		cmocka_unit_test(events_and_reads_give_the_same_picture),
	};

	return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
