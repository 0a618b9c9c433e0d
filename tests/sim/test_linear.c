/* The checker itself: good histories pass, known-bad ones are caught. */
#include "linear.h"
#include "base/memory.h"
#include "base/rng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CHECK(expected, ...)                                                                \
	do {                                                                                \
		const struct lin_op ops[] = {__VA_ARGS__};                                  \
		size_t stuck;                                                               \
		assert_int_equal(lin_check(ops, ARRAY_LEN(ops), 100000, &stuck), expected); \
	} while (0)

#define SET(from, to, v, before)                        \
	{                                               \
		LIN_SET, LIN_OK, from, to, v, 0, before \
	}
#define GET(from, to, v)                           \
	{                                          \
		LIN_GET, LIN_OK, from, to, 0, 0, v \
	}
#define LOST_SET(from, v)                                         \
	{                                                         \
		LIN_SET, LIN_UNKNOWN, from, 0, v, 0, LIN_NOT_TOLD \
	}

static void reads_and_writes_one_after_the_other_are_fine(void **state)
{
	(void)state;
	CHECK(LIN_FINE, GET(0, 1, 0), SET(2, 3, 1, 0), GET(4, 5, 1), SET(6, 7, 2, 1), GET(8, 9, 2));
}

static void stale_read_is_caught(void **state)
{
	(void)state;
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), SET(2, 3, 2, 1), GET(4, 5, 1));
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), GET(2, 3, 0));
}

static void read_during_a_write_may_see_either(void **state)
{
	(void)state;
	CHECK(LIN_FINE, SET(0, 10, 1, 0), GET(2, 3, 0), GET(4, 5, 1));
	CHECK(LIN_FINE, SET(0, 10, 1, 0), GET(2, 3, 1), GET(4, 5, 1));
	CHECK(LIN_VIOLATION, SET(0, 10, 1, 0), GET(2, 3, 1), GET(4, 5, 0));
}

static void lost_acknowledged_write_is_caught(void **state)
{
	(void)state;
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), SET(2, 3, 2, 0));
	CHECK(LIN_VIOLATION, SET(0, 1, 1, LIN_NOT_TOLD), GET(2, 3, LIN_ABSENT));
}

static void value_from_nowhere_is_caught(void **state)
{
	(void)state;
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), GET(2, 3, 7));
}

static void unanswered_write_may_take_effect_late_or_never(void **state)
{
	(void)state;
	CHECK(LIN_FINE, SET(0, 1, 1, 0), LOST_SET(2, 2), GET(4, 5, 1), GET(6, 7, 1));
	CHECK(LIN_FINE, SET(0, 1, 1, 0), LOST_SET(2, 2), GET(4, 5, 1), GET(6, 7, 2));
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), LOST_SET(2, 2), GET(4, 5, 2), GET(6, 7, 1));
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), GET(2, 3, 2), LOST_SET(4, 2));
}

static void unanswered_write_that_happened_twice_is_caught(void **state)
{
	(void)state;
	CHECK(LIN_VIOLATION, LOST_SET(0, 1), GET(1, 2, 1), SET(3, 4, 2, 1), GET(5, 6, 1));
}

static void compare_and_swap_follows_its_model(void **state)
{
	(void)state;
	CHECK(LIN_FINE, SET(0, 1, 1, 0), {LIN_CAS, LIN_OK, 2, 3, 2, 1, 1},
		{LIN_CAS, LIN_MISMATCH, 4, 5, 3, 1, 2});
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), {LIN_CAS, LIN_OK, 2, 5, 2, 1, 1},
		{LIN_CAS, LIN_OK, 3, 4, 3, 1, 1});
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), {LIN_CAS, LIN_MISMATCH, 2, 3, 2, 1, LIN_NOT_TOLD});
	CHECK(LIN_FINE, {LIN_CAS, LIN_MISSING, 0, 1, 2, 1, 0});
}

static void create_succeeds_once(void **state)
{
	(void)state;
	CHECK(LIN_VIOLATION, {LIN_CREATE, LIN_OK, 0, 5, 1, 0, 0}, {LIN_CREATE, LIN_OK, 1, 6, 2, 0, 0});
	CHECK(LIN_FINE, {LIN_CREATE, LIN_OK, 0, 5, 1, 0, 0},
		{LIN_CREATE, LIN_EXISTS, 1, 6, 2, 0, LIN_NOT_TOLD});
	CHECK(LIN_VIOLATION, {LIN_CREATE, LIN_EXISTS, 0, 5, 1, 0, LIN_NOT_TOLD});
}

static void deletes_follow_their_model(void **state)
{
	(void)state;
	CHECK(LIN_FINE, SET(0, 1, 1, 0), {LIN_DELETE, LIN_OK, 2, 3, 0, 0, 1},
		{LIN_DELETE, LIN_MISSING, 4, 5, 0, 0, 0});
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), {LIN_DELETE, LIN_OK, 2, 5, 0, 0, 1},
		{LIN_DELETE, LIN_OK, 3, 4, 0, 0, 1});
	CHECK(LIN_FINE, SET(0, 1, 1, 0), {LIN_CAD, LIN_OK, 2, 3, 0, 1, 1}, GET(4, 5, 0));
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), {LIN_CAD, LIN_OK, 2, 3, 0, 9, LIN_NOT_TOLD});
}

static void order_that_the_store_tells_must_hold(void **state)
{
	(void)state;
	CHECK(LIN_FINE, {LIN_SET, LIN_OK, 0, 9, 1, 0, LIN_NOT_TOLD, 7},
		{LIN_SET, LIN_OK, 0, 9, 2, 0, LIN_NOT_TOLD, 8}, GET(10, 11, 2));
	CHECK(LIN_VIOLATION, {LIN_SET, LIN_OK, 0, 9, 1, 0, LIN_NOT_TOLD, 8},
		{LIN_SET, LIN_OK, 0, 9, 2, 0, LIN_NOT_TOLD, 7}, GET(10, 11, 2));
	CHECK(LIN_VIOLATION, {LIN_SET, LIN_OK, 0, 1, 1, 0, LIN_NOT_TOLD, 8},
		{LIN_SET, LIN_OK, 2, 3, 2, 0, LIN_NOT_TOLD, 7});
}

/* An operation whose outcome is unknown, and what others saw of it. */
static void unanswered_compare_and_swap_takes_effect_only_where_it_can(void **state)
{
	(void)state;
	CHECK(LIN_FINE, SET(0, 1, 1, 0), {LIN_CAS, LIN_UNKNOWN, 2, 0, 2, 1, LIN_NOT_TOLD}, GET(4, 5, 2));
	CHECK(LIN_FINE, SET(0, 1, 1, 0), {LIN_CAS, LIN_UNKNOWN, 2, 0, 2, 1, LIN_NOT_TOLD}, GET(4, 5, 1));
	/* The value it expects was gone before it was called. */
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), SET(2, 3, 3, 1),
		{LIN_CAS, LIN_UNKNOWN, 4, 0, 2, 1, LIN_NOT_TOLD}, GET(6, 7, 2));
	/* It took effect twice. */
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), {LIN_CAS, LIN_UNKNOWN, 2, 0, 2, 1, LIN_NOT_TOLD}, GET(4, 5, 2),
		SET(6, 7, 1, 2), GET(8, 9, 2));
}

static void unanswered_create_and_delete_follow_their_model(void **state)
{
	(void)state;
	CHECK(LIN_FINE, {LIN_CREATE, LIN_UNKNOWN, 0, 0, 1, 0, LIN_NOT_TOLD}, GET(2, 3, 0), GET(4, 5, 1));
	CHECK(LIN_FINE, {LIN_CREATE, LIN_UNKNOWN, 0, 0, 1, 0, LIN_NOT_TOLD},
		{LIN_CREATE, LIN_EXISTS, 2, 3, 2, 0, LIN_NOT_TOLD}, GET(4, 5, 1));
	/* Both created it, and nothing removed it in between. */
	CHECK(LIN_VIOLATION, {LIN_CREATE, LIN_UNKNOWN, 0, 0, 1, 0, LIN_NOT_TOLD}, GET(2, 3, 1),
		{LIN_CREATE, LIN_OK, 4, 5, 2, 0, 0});
	CHECK(LIN_FINE, SET(0, 1, 1, 0), {LIN_DELETE, LIN_UNKNOWN, 2, 0, 0, 0, LIN_NOT_TOLD}, GET(4, 5, 0));
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), {LIN_DELETE, LIN_UNKNOWN, 2, 0, 0, 0, LIN_NOT_TOLD},
		GET(4, 5, 0), GET(6, 7, 1));
	/* A delete that was called only later. */
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), GET(2, 3, 0),
		{LIN_DELETE, LIN_UNKNOWN, 4, 0, 0, 0, LIN_NOT_TOLD});
}

/* Reads by two clients that overlap a write: once one has seen it, nobody who asks later may not. */
static void reads_do_not_go_back_and_forth(void **state)
{
	(void)state;
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), LOST_SET(2, 2), GET(4, 5, 2), GET(6, 7, 1), GET(8, 9, 2));
	CHECK(LIN_FINE, SET(0, 1, 1, 0), LOST_SET(2, 2), GET(4, 8, 2), GET(5, 7, 1), GET(9, 10, 2));
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), SET(2, 20, 2, 1), SET(2, 20, 3, LIN_NOT_TOLD), GET(4, 5, 2),
		GET(6, 7, 3), GET(8, 9, 2));
}

static void what_a_failed_operation_saw_counts(void **state)
{
	(void)state;
	/* The mismatch tells a value that was overwritten long before. */
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), SET(2, 3, 2, 1), {LIN_CAS, LIN_MISMATCH, 4, 5, 9, 7, 1});
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), {LIN_UPDATE, LIN_MISSING, 2, 3, 2, 0, 0});
	CHECK(LIN_VIOLATION, {LIN_UPDATE, LIN_OK, 0, 1, 2, 0, LIN_NOT_TOLD});
	CHECK(LIN_VIOLATION, SET(0, 1, 1, 0), SET(2, 3, 2, 0));
}

/* Every value lost, one after the other, from a sound history: each is missed by whoever reads or writes
 * next. */
static void loss_of_any_one_write_is_caught(void **state)
{
	enum { WRITES = 30 };
	struct lin_op ops[2 * WRITES];
	size_t stuck;

	(void)state;
	for (size_t lost = 0; lost <= WRITES; lost++) {
		uint32_t value = LIN_ABSENT;

		for (size_t i = 0; i < WRITES; i++) {
			int64_t at = (int64_t)i * 10;

			ops[2 * i] = (struct lin_op){.kind = LIN_SET,
				.call_ns = at,
				.return_ns = at + 3,
				.value = (uint32_t)i + 1,
				.seen = value};
			value = i == lost ? value : (uint32_t)i + 1;
			ops[2 * i + 1] = (struct lin_op){
				.kind = LIN_GET, .call_ns = at + 5, .return_ns = at + 7, .seen = value};
		}
		assert_int_equal(lin_check(ops, ARRAY_LEN(ops), 1000000, &stuck),
			lost < WRITES ? LIN_VIOLATION : LIN_FINE);
		if (lost < WRITES)
			assert_in_range(stuck, 2 * lost, 2 * lost + 2);
	}
}

/* Random histories made by a real register, with concurrency and lost answers, pass; with one read changed to
 * a value overwritten long before, they do not. */
static void random_histories_are_told_apart(void **state)
{
	struct rng rng;
	unsigned caught = 0;

	(void)state;
	rng_seed(&rng, 11);
	for (int round = 0; round < 60; round++) {
		struct lin_op ops[120];
		uint32_t value = 0, first_value = 0;
		size_t stuck, last_get = 0;

		for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
			int64_t point = (int64_t)i * 10;
			struct lin_op *op = &ops[i];

			*op = (struct lin_op){.call_ns = point - (int64_t)rng_below(&rng, 40),
				.return_ns = point + (int64_t)rng_below(&rng, 40),
				.seen = value};
			if (rng_below(&rng, 2) == 0) {
				op->kind = LIN_GET;
				if (i > 100)
					last_get = i;
				continue;
			}
			op->kind = LIN_SET;
			op->value = (uint32_t)i + 1;
			if (rng_below(&rng, 6) == 0) {
				op->result = LIN_UNKNOWN;
				op->seen = LIN_NOT_TOLD;
				if (rng_below(&rng, 2))
					continue;
			}
			value = op->value;
			if (!first_value)
				first_value = value;
		}
		assert_int_equal(lin_check(ops, ARRAY_LEN(ops), 1000000, &stuck), LIN_FINE);
		if (last_get) {
			ops[last_get].seen = first_value;
			assert_int_not_equal(lin_check(ops, ARRAY_LEN(ops), 100000, &stuck), LIN_FINE);
			caught++;
		}
	}
	assert_true(caught > 45);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_one_after_the_other_are_fine),
		cmocka_unit_test(stale_read_is_caught),
		cmocka_unit_test(read_during_a_write_may_see_either),
		cmocka_unit_test(lost_acknowledged_write_is_caught),
		cmocka_unit_test(value_from_nowhere_is_caught),
		cmocka_unit_test(unanswered_write_may_take_effect_late_or_never),
		cmocka_unit_test(unanswered_write_that_happened_twice_is_caught),
		cmocka_unit_test(compare_and_swap_follows_its_model),
		cmocka_unit_test(create_succeeds_once),
		cmocka_unit_test(deletes_follow_their_model),
		cmocka_unit_test(order_that_the_store_tells_must_hold),
		cmocka_unit_test(unanswered_compare_and_swap_takes_effect_only_where_it_can),
		cmocka_unit_test(unanswered_create_and_delete_follow_their_model),
		cmocka_unit_test(reads_do_not_go_back_and_forth),
		cmocka_unit_test(what_a_failed_operation_saw_counts),
		cmocka_unit_test(loss_of_any_one_write_is_caught),
		cmocka_unit_test(random_histories_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
