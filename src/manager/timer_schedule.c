/* The earliest of what each line of the timer says. */
#include "manager/timer_schedule.h"
#include "base/time.h"
#include "manager/calendar.h"

static int64_t add(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

/* Since when a span counts; 0: not yet. */
static int64_t base_ns(enum timer_base base, const struct timer_times *times)
{
	switch (base) {
	case TIMER_ACTIVE:
		return times->active_ns;
	case TIMER_BOOT:
		return times->boot_ns;
	case TIMER_STARTUP:
		return times->startup_ns;
	case TIMER_UNIT_ACTIVE:
		return MAX(times->unit_active_ns, times->last_ns);
	case TIMER_UNIT_INACTIVE:
		return MAX(times->unit_inactive_ns, times->last_ns);
	default:
		return 0;
	}
}

static bool follows_unit(enum timer_base base)
{
	return base == TIMER_UNIT_ACTIVE || base == TIMER_UNIT_INACTIVE;
}

/* After the last time it fired; after its start when it has not. A clock that was set back does not make it
 * wait for the time it had been. */
static int64_t calendar_due_us(const struct calendar *calendar, const struct timer_times *times)
{
	int64_t base = MIN(times->last_us ? times->last_us : times->active_us, times->now_us), next;

	if (calendar_next(calendar, base, &next) < 0)
		return INT64_MAX;
	/* What was missed while nothing ran here is not made up for by all machines at the same moment. */
	if (next <= times->now_us)
		next = MAX(next, MIN(times->startup_us, times->now_us));
	return add(next, times->delay_ns / 1000);
}

void timer_schedule(const struct timer_config *config, const struct timer_times *times, bool *spent,
	struct timer_due *ret)
{
	*ret = (struct timer_due){.mono_ns = INT64_MAX, .wall_us = INT64_MAX};
	for (size_t i = 0; i < config->count; i++) {
		const struct timer_value *value = &config->values[i];
		int64_t base, due;

		ret->follows = ret->follows || follows_unit(value->base);
		if (spent[i])
			continue;
		if (value->base == TIMER_CALENDAR) {
			due = calendar_due_us(value->calendar, times);
			ret->wall_us = MIN(ret->wall_us, due);
			continue;
		}
		base = base_ns(value->base, times);
		if (base <= 0 && value->base != TIMER_BOOT)
			continue;
		due = add(add(base, value->span_ns), times->delay_ns);
		/* What counts from a time that does not come again is due once. */
		if (times->last_ns && due <= times->last_ns && !follows_unit(value->base)) {
			spent[i] = true;
			continue;
		}
		ret->mono_ns = MIN(ret->mono_ns, due);
	}
}
