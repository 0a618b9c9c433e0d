/* The cluster clock is what the leader says it is. Each member keeps an estimate that runs on its own
 * monotonic clock. The leader bends it towards its wall clock, at most by 1/64 of the time that passes: a
 * wall clock that jumps is followed slowly, never by a jump. Followers take the leader's from its messages:
 * ahead at once (a message can only be late, not early), back slowly. It is never behind the store's clock.
 */
#include "node/internal.h"

#define BEND 64
/* What one step makes up for at most: after a long silence the clock must not leap by what it could have been
 * bent. */
#define BEND_SPAN_NS (200 * INT64_C(1000000))

static void set(struct node *node, int64_t clock_ns, int64_t now_ns)
{
	node->clock_base_ns = MAX(clock_ns, store_clock_ns(node->store));
	node->clock_base_mono_ns = now_ns;
}

void node_clock_start(struct node *node, int64_t now_ns)
{
	set(node, node->env->ops->wall_ns(node->env), now_ns);
	node->clock_source = 0;
}

int64_t node_clock_at(const struct node *node, int64_t now_ns)
{
	int64_t clock_ns = node->clock_base_ns + (now_ns - node->clock_base_mono_ns);

	return MAX(clock_ns, store_clock_ns(node->store));
}

int64_t node_clock_ns(const struct node *node)
{
	return node_clock_at(node, node_mono(node));
}

static void bend(struct node *node, int64_t target_ns, int64_t now_ns)
{
	int64_t elapsed = now_ns - node->clock_base_mono_ns, clock_ns = node_clock_at(node, now_ns);
	int64_t step = MIN(elapsed, BEND_SPAN_NS) / BEND, away = target_ns - clock_ns;

	set(node, clock_ns + MAX(-step, MIN(step, away)), now_ns);
}

void node_clock_adopt(struct node *node, uint64_t leader, uint64_t term, int64_t clock_ns, int64_t now_ns)
{
	/* The same leader in a later term may have been started anew, with another clock. */
	if (node->clock_source != leader || node->clock_term != term ||
		clock_ns > node_clock_at(node, now_ns))
		set(node, clock_ns, now_ns);
	else
		bend(node, clock_ns, now_ns);
	node->clock_source = leader;
	node->clock_term = term;
}

void node_clock_lead(struct node *node, int64_t now_ns)
{
	node->clock_source = node->id;
	bend(node, node->env->ops->wall_ns(node->env), now_ns);
}
