/* The cluster and what this process wrote itself: an answer counts at once, whatever older events come after
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "fleet/cluster.h"

#define TARGET "job/u.service/target"
#define ENTRY "assigned/m1/u.service"

static const char *target(const struct cluster *c)
{
	const struct cluster_unit *entry = cluster_entry(c, "u.service");

	return entry && entry->target ? entry->target : "none";
}

static const char *assigned(const struct cluster *c)
{
	const struct cluster_unit *entry = cluster_entry(c, "u.service");

	return entry && entry->assignment_count ? entry->assignments[0].value : "none";
}

static void older_events_of_a_key_that_was_written_are_left_out(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();

	(void)state;
	cluster_set(c, TARGET, SLICE_LITERAL("m1"), 5);
	cluster_written(c, TARGET, SLICE_LITERAL("m2"), 10);
	assert_string_equal(target(c), "m2");
	cluster_set(c, TARGET, SLICE_LITERAL("m3"), 7);
	cluster_remove(c, TARGET, 8);
	cluster_remove(c, "job/u.service", 9);
	assert_string_equal(target(c), "m2");
	cluster_set(c, TARGET, SLICE_LITERAL("m2"), 10);
	cluster_set(c, TARGET, SLICE_LITERAL("m4"), 11);
	assert_string_equal(target(c), "m4");
	/* An answer that comes after its event says nothing new. */
	cluster_written(c, TARGET, SLICE_LITERAL("m5"), 11);
	assert_string_equal(target(c), "m4");
	cluster_written(c, TARGET, (struct slice){0}, 14);
	cluster_set(c, TARGET, SLICE_LITERAL("m6"), 13);
	assert_string_equal(target(c), "none");
	cluster_set(c, TARGET, SLICE_LITERAL("m7"), 15);
	assert_string_equal(target(c), "m7");
}

static void a_read_from_before_a_write_does_not_undo_it(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();

	(void)state;
	cluster_written(c, TARGET, SLICE_LITERAL("m2"), 10);
	cluster_written(c, ENTRY, SLICE_LITERAL("{}"), 11);
	cluster_written(c, "assigned/m1/epoch", SLICE_LITERAL("t"), 12);
	cluster_begin(c, 9);
	cluster_set(c, TARGET, SLICE_LITERAL("m1"), 3);
	cluster_end(c);
	assert_string_equal(target(c), "m2");
	assert_string_equal(assigned(c), "{}");
	assert_string_equal(cluster_epoch(c, "m1"), "t");
	cluster_begin(c, 12);
	cluster_set(c, TARGET, SLICE_LITERAL("m3"), 12);
	cluster_end(c);
	assert_string_equal(target(c), "m3");
	assert_string_equal(assigned(c), "none");
	assert_null(cluster_epoch(c, "m1"));
}

static void a_directory_that_was_removed_takes_what_was_in_it(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();

	(void)state;
	cluster_set(c, ENTRY, SLICE_LITERAL("a"), 5);
	cluster_written(c, "assigned/m1", (struct slice){0}, 10);
	assert_string_equal(assigned(c), "none");
	cluster_set(c, ENTRY, SLICE_LITERAL("b"), 8);
	assert_string_equal(assigned(c), "none");
	cluster_written(c, ENTRY, SLICE_LITERAL("c"), 12);
	cluster_remove(c, "assigned/m1", 10);
	assert_string_equal(assigned(c), "c");
}

static void a_store_that_begins_anew_is_believed(void **state)
{
	_cleanup_(cluster_freep) struct cluster *c = cluster_new();

	(void)state;
	cluster_begin(c, 50);
	cluster_end(c);
	cluster_written(c, TARGET, SLICE_LITERAL("m2"), 60);
	cluster_begin(c, 3);
	cluster_end(c);
	assert_string_equal(target(c), "none");
	cluster_set(c, TARGET, SLICE_LITERAL("m1"), 4);
	assert_string_equal(target(c), "m1");
}

/* ---- histories ---- */

enum { CHANGES = 60 };
struct change {
	const char *path;
	char value[16]; /* "": removed */
	bool own, answered;
};

/* What a path holds after the first `count` changes. */
static const char *holds(const struct change *changes, size_t count, const char *path)
{
	for (size_t i = count; i-- > 0;) {
		size_t len = strlen(changes[i].path);

		if (strcmp(changes[i].path, path) == 0 ||
			(strncmp(changes[i].path, path, len) == 0 && path[len] == '/'))
			return changes[i].value[0] ? changes[i].value : "none";
	}
	return "none";
}

/* What it holds by the last answer that the mirror has not reached; else what the mirror says. */
static const char *expected(const struct change *changes, size_t told, const char *path)
{
	for (size_t i = CHANGES; i-- > told;) {
		size_t len = strlen(changes[i].path);

		if (changes[i].answered &&
			(strcmp(changes[i].path, path) == 0 ||
				(strncmp(changes[i].path, path, len) == 0 && path[len] == '/')))
			return holds(changes, i + 1, path);
	}
	return holds(changes, told, path);
}

static void make_changes(struct change *changes, struct rng *rng)
{
	static const struct {
		const char *path;
		bool removal;
	} kinds[] = {{TARGET, false}, {TARGET, true}, {ENTRY, false}, {ENTRY, true}, {"assigned/m1", true},
		{"job/u.service", true}};

	for (size_t i = 0; i < CHANGES; i++) {
		size_t kind = rng_below(rng, ARRAY_LEN(kinds));

		changes[i] = (struct change){.path = kinds[kind].path, .own = rng_below(rng, 2)};
		if (!kinds[kind].removal)
			snprintf(changes[i].value, sizeof(changes[i].value), "v%zu", i);
	}
}

static void tell(struct cluster *c, const struct change *change, uint64_t index)
{
	if (change->value[0])
		cluster_set(c, change->path, slice_str(change->value), index);
	else
		cluster_remove(c, change->path, index);
}

static void read_all(struct cluster *c, const struct change *changes, size_t count)
{
	static const char *const paths[] = {TARGET, ENTRY};

	cluster_begin(c, count);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const char *value = holds(changes, count, paths[i]);

		if (strcmp(value, "none") != 0)
			cluster_set(c, paths[i], slice_str(value), 1);
	}
	cluster_end(c);
}

static void whatever_comes_first_the_newest_counts(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 3000; seed++) {
		_cleanup_(cluster_freep) struct cluster *c = cluster_new();
		struct change changes[CHANGES];
		struct rng rng;
		size_t told = 0;

		rng_seed(&rng, seed);
		make_changes(changes, &rng);
		while (told < CHANGES) {
			size_t ahead = told + rng_below(&rng, 6);

			if (ahead < CHANGES && changes[ahead].own && !changes[ahead].answered) {
				changes[ahead].answered = true;
				cluster_written(c, changes[ahead].path,
					changes[ahead].value[0] ? slice_str(changes[ahead].value)
								: (struct slice){0},
					ahead + 1);
			} else if (rng_below(&rng, 10) == 0 && told) {
				read_all(c, changes, told);
			} else {
				tell(c, &changes[told], told + 1);
				told++;
			}
			assert_string_equal(target(c), expected(changes, told, TARGET));
			assert_string_equal(assigned(c), expected(changes, told, ENTRY));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(older_events_of_a_key_that_was_written_are_left_out),
		cmocka_unit_test(a_read_from_before_a_write_does_not_undo_it),
		cmocka_unit_test(a_directory_that_was_removed_takes_what_was_in_it),
		cmocka_unit_test(a_store_that_begins_anew_is_believed),
		cmocka_unit_test(whatever_comes_first_the_newest_counts),
	};

	return cmocka_run_group_tests_name("cluster_written", tests, NULL, NULL);
}
