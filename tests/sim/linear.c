/* Depth-first search for an order: at each step any operation may come next that was called before the first
 * return among those left. A set of operations already ordered, with the value they lead to, is tried only
 * once. Operations without an answer are tried after the others, and only where they change something. Of
 * those among them that cannot be told apart (what they write was never seen by anyone) only the one called
 * first is tried. */
#include "linear.h"
#include "base/hash.h"
#include "base/memory.h"
#include <string.h>

struct seen_set {
	uint64_t (*keys)[2];
	size_t count, cap;
};

struct search {
	const struct lin_op *ops;
	size_t count, known_left, steps_left;
	bool *done;
	size_t *twin;	 /* of an operation without answer: the one before it that it cannot be told from, or
			    itself */
	uint64_t key[2]; /* of the set of operations done */
	struct seen_set seen;
	size_t best, stuck;
	bool cut_off;
};

static bool seen_add(struct seen_set *set, uint64_t a, uint64_t b)
{
	size_t at;

	if (set->count * 2 >= set->cap) {
		struct seen_set larger = {.cap = MAX(set->cap * 2, (size_t)256)};

		larger.keys = mem_calloc(larger.cap, sizeof(*larger.keys));
		for (size_t i = 0; i < set->cap; i++)
			if (set->keys[i][0])
				(void)seen_add(&larger, set->keys[i][0], set->keys[i][1]);
		free(set->keys);
		*set = larger;
	}
	a |= 1;
	for (at = a % set->cap; set->keys[at][0]; at = (at + 1) % set->cap)
		if (set->keys[at][0] == a && set->keys[at][1] == b)
			return false;
	set->keys[at][0] = a;
	set->keys[at][1] = b;
	set->count++;
	return true;
}

/* What the store answers to `op` when the key holds `value`. */
static enum lin_result model(const struct lin_op *op, uint32_t value, uint32_t *ret_next)
{
	*ret_next = value;
	switch (op->kind) {
	case LIN_SET:
		*ret_next = op->value;
		return LIN_OK;
	case LIN_CREATE:
		if (value)
			return LIN_EXISTS;
		*ret_next = op->value;
		return LIN_OK;
	case LIN_GET:
		return LIN_OK;
	default:
		break;
	}
	if (!value)
		return LIN_MISSING;
	if ((op->kind == LIN_CAS || op->kind == LIN_CAD) && value != op->expect)
		return LIN_MISMATCH;
	*ret_next = op->kind == LIN_CAD || op->kind == LIN_DELETE ? LIN_ABSENT : op->value;
	return LIN_OK;
}

static bool possible(const struct lin_op *op, uint32_t value, uint32_t *ret_next)
{
	enum lin_result result = model(op, value, ret_next);

	if (op->result == LIN_UNKNOWN)
		return *ret_next != value; /* else it may as well never have happened */
	return result == op->result && (op->seen == LIN_NOT_TOLD || op->seen == value);
}

/* Two operations without answer one after the other: does the second lead to the same without the first? Then
 * that is tried elsewhere. */
static bool makes_last_pointless(const struct lin_op *op, uint32_t before, uint32_t next)
{
	uint32_t direct;

	(void)model(op, before, &direct);
	return direct == next || next == before;
}

static void toggle(struct search *search, size_t i)
{
	search->done[i] = !search->done[i];
	search->key[0] ^= hash_u64(i + 1);
	search->key[1] ^= hash_u64(~(uint64_t)i);
}

static bool extend(struct search *search, uint32_t value, uint32_t before, size_t depth);

static bool try_next(struct search *search, uint32_t value, uint32_t before, size_t depth, bool known,
	int64_t first_return_ns, uint64_t first_order)
{
	for (size_t i = 0; i < search->count; i++) {
		const struct lin_op *op = &search->ops[i];
		uint32_t next;

		if (search->done[i] || (op->result != LIN_UNKNOWN) != known ||
			op->call_ns > first_return_ns || (op->order && op->order != first_order) ||
			!possible(op, value, &next))
			continue;
		if (!known && before != LIN_NOT_TOLD && makes_last_pointless(op, before, next))
			continue;
		toggle(search, i);
		search->known_left -= known;
		if (extend(search, next, known ? LIN_NOT_TOLD : value, depth + 1))
			return true;
		search->known_left += known;
		toggle(search, i);
		if (search->cut_off)
			return false;
	}
	return false;
}

/* `before`: the value before the last operation when that one has no answer, else LIN_NOT_TOLD. */
static bool extend(struct search *search, uint32_t value, uint32_t before, size_t depth)
{
	int64_t first_return_ns = INT64_MAX;
	uint64_t first_order = UINT64_MAX;
	size_t first = 0;

	if (!search->known_left)
		return true;
	if (!search->steps_left--) {
		search->cut_off = true;
		search->steps_left = 0;
		return false;
	}
	if (!seen_add(&search->seen, search->key[0] ^ hash_u64(value + UINT64_C(0x1234567)),
		    search->key[1] + value))
		return false;
	for (size_t i = 0; i < search->count; i++) {
		const struct lin_op *op = &search->ops[i];

		if (search->done[i] || op->result == LIN_UNKNOWN)
			continue;
		if (op->return_ns < first_return_ns) {
			first_return_ns = op->return_ns;
			first = i;
		}
		if (op->order)
			first_order = MIN(first_order, op->order);
	}
	if (depth >= search->best) {
		search->best = depth;
		search->stuck = first;
	}
	return try_next(search, value, before, depth, true, first_return_ns, first_order) ||
	       (!search->cut_off &&
		       try_next(search, value, before, depth, false, first_return_ns, first_order));
}

static bool is_seen(const struct lin_op *ops, size_t count, uint32_t value)
{
	for (size_t i = 0; i < count; i++)
		if (ops[i].seen == value || ops[i].expect == value)
			return true;
	return false;
}

/* Expects operations in the order of their calls; if they are not, fewer twins are found. */
static void find_twins(struct search *search)
{
	const struct lin_op *ops = search->ops;

	for (size_t i = 0; i < search->count; i++) {
		search->twin[i] = i;
		if (ops[i].result != LIN_UNKNOWN ||
			(ops[i].value && is_seen(ops, search->count, ops[i].value)))
			continue;
		for (size_t k = i; k-- > 0;)
			if (ops[k].result == LIN_UNKNOWN && ops[k].kind == ops[i].kind &&
				ops[k].expect == ops[i].expect && ops[k].call_ns <= ops[i].call_ns &&
				!(ops[k].value && is_seen(ops, search->count, ops[k].value))) {
				search->twin[i] = k;
				break;
			}
	}
}

enum lin_verdict lin_check(const struct lin_op *ops, size_t count, size_t steps_max, size_t *ret_stuck)
{
	struct search search = {.ops = ops, .count = count, .steps_left = steps_max};
	bool fine;

	search.done = mem_calloc(count + 1, sizeof(*search.done));
	search.twin = mem_calloc(count + 1, sizeof(*search.twin));
	find_twins(&search);
	for (size_t i = 0; i < count; i++)
		search.known_left += ops[i].result != LIN_UNKNOWN;
	fine = extend(&search, LIN_ABSENT, LIN_NOT_TOLD, 0);
	*ret_stuck = search.stuck;
	free(search.done);
	free(search.twin);
	free(search.seen.keys);
	if (fine)
		return LIN_FINE;
	return search.cut_off ? LIN_UNDECIDED : LIN_VIOLATION;
}
