/* When a timer is due: systemd.timer(5), as a function of times. Pure. */
#pragma once
#include "manager/config_triggers.h"

/* Monotonic times in nanoseconds, wall-clock times in microseconds since 1970; 0: it has not been. */
struct timer_times {
	int64_t now_ns, now_us;
	int64_t active_ns, active_us;		  /* the timer was started */
	int64_t boot_ns, startup_ns, startup_us;  /* of the machine, of the keeper */
	int64_t unit_active_ns, unit_inactive_ns; /* the unit was last started, and last ended */
	int64_t last_ns, last_us;		  /* the timer last fired */
	int64_t delay_ns;			  /* RandomizedDelaySec= has come to this */
};
struct timer_due {
	int64_t mono_ns; /* INT64_MAX: no such time */
	int64_t wall_us; /* INT64_MAX: no such time */
	bool follows;	 /* it has values that the unit's next start or end make due again */
};
/* Times that have passed are due at once. `spent` has an item for each value, false at first: it counts from
 * a time that does not come again, and was due when the timer last fired. */
void timer_schedule(const struct timer_config *config, const struct timer_times *times, bool *spent,
	struct timer_due *ret);
