/* Timers: waiting until a time, running while the unit they started does, elapsed when no time is left. */
#include "base/hash.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/time.h"
#include "manager/activation.h"
#include "manager/service_internal.h"
#include "manager/timer_schedule.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* However its spans are set, a timer starts its unit at most so often. */
#define TIMER_GAP_NS (100 * NS_PER_MS)
/* The longest sleep: what is further away is looked at again. */
#define TIMER_SLEEP_MAX_NS (24 * 3600 * NS_PER_S)

struct timer_run {
	int64_t last_ns, last_us; /* when it last fired; 0: never */
	int64_t delay_ns;	  /* RandomizedDelaySec= for the next time */
	int64_t due_ns, due_us;	  /* INT64_MAX: none */
	bool spent[];		  /* of each value, see timer_schedule() */
};

static char *stamp_path(const struct service *service)
{
	return mem_printf("%s/timers/%s", service->keeper->dir, service->name);
}

/* Persistent=: the time of its file is when it last fired, over all lives of the machine. */
static void read_stamp(struct service *service)
{
	_cleanup_free_ char *path = stamp_path(service);
	int64_t now_us = time_wall_ns() / 1000, stamp_us;
	struct stat st;

	if (stat(path, &st) < 0) {
		_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0)
			service_say(
				service, "%s: Failed to make %s: %s", service->name, path, strerror(errno));
		return;
	}
	stamp_us = st.st_mtim.tv_sec * INT64_C(1000000) + st.st_mtim.tv_nsec / 1000;
	if (stamp_us <= now_us) /* else the clock was wrong when it was written, or is now */
		service->timer_run->last_us = stamp_us;
}

/* With the time that was taken: the kernel's own is a tick behind, and the event would come again. */
static void write_stamp(const struct service *service)
{
	_cleanup_free_ char *path = stamp_path(service);
	int64_t us = service->timer_run->last_us;
	const struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT}, {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}};

	(void)utimensat(AT_FDCWD, path, times, 0);
}

static void draw_delay(struct service *service)
{
	const struct timer_config *config = &service->config.timer;
	struct timer_run *run = service->timer_run;
	uint64_t random, bound = (uint64_t)config->random_delay_ns;

	run->delay_ns = 0;
	if (config->random_delay_ns <= 0 || config->random_delay_ns == UNIT_SPAN_INFINITY)
		return;
	if (config->fixed_random_delay) {
		const char *machine = service->keeper->machine_id;

		random = hash_bytes(machine, strlen(machine), 0);
		random = hash_bytes(service->name, strlen(service->name), random);
	} else {
		rng_system(&random, sizeof(random));
	}
	run->delay_ns = (int64_t)(random % (bound + 1));
}

static void schedule(struct service *service, struct timer_due *ret)
{
	const struct service *triggered = activation_target(service);
	struct timer_run *run = service->timer_run;
	struct timer_times times = {
		.now_ns = time_mono_ns(),
		.now_us = time_wall_ns() / 1000,
		.active_ns = service->inactive_exit_ns,
		.active_us = service->inactive_exit_us,
		.boot_ns = service->keeper->boot_ns,
		.startup_ns = service->keeper->startup_ns,
		.startup_us = service->keeper->startup_us,
		.unit_active_ns = triggered ? triggered->inactive_exit_ns : 0,
		.unit_inactive_ns = triggered ? triggered->inactive_enter_ns : 0,
		.last_ns = run->last_ns,
		.last_us = run->last_us,
		.delay_ns = run->delay_ns,
	};

	timer_schedule(&service->config.timer, &times, run->spent, ret);
}

static void sleep_until_due(struct service *service)
{
	struct timer_run *run = service->timer_run;
	int64_t now_us = time_wall_ns() / 1000, ns = TIMER_SLEEP_MAX_NS;

	if (run->due_ns != INT64_MAX)
		ns = MIN(ns, run->due_ns - time_mono_ns());
	if (run->due_us != INT64_MAX && run->due_us - now_us < TIMER_SLEEP_MAX_NS / 1000)
		ns = MIN(ns, (run->due_us - now_us) * 1000);
	if (run->last_ns)
		ns = MAX(ns, run->last_ns + TIMER_GAP_NS - time_mono_ns());
	service_arm(service, MAX(ns, INT64_C(0)));
}

static void enter_waiting(struct service *service)
{
	struct timer_run *run = service->timer_run;
	struct timer_due due;

	schedule(service, &due);
	run->due_ns = due.mono_ns;
	run->due_us = due.wall_us;
	service->dirty = true;
	if (due.mono_ns != INT64_MAX || due.wall_us != INT64_MAX) {
		service_set_state(service, STATE_WAITING);
		sleep_until_due(service);
		return;
	}
	service_arm(service, UNIT_SPAN_INFINITY);
	if (service->config.timer.on_clock_change) {
		service_set_state(service, STATE_WAITING);
	} else if (service->config.timer.remain_after_elapse || due.follows) {
		service_set_state(service, STATE_ELAPSED);
	} else {
		service_enter_dead(service, RESULT_SUCCESS, false);
	}
}

static int timer_start(struct service *service)
{
	size_t count = service->config.timer.count;

	mem_free(service->timer_run);
	service->timer_run = mem_alloc(sizeof(struct timer_run) + count * sizeof(bool));
	memset(service->timer_run, 0, sizeof(struct timer_run) + count * sizeof(bool));
	/* The state's times are those of this start before the first time is computed. */
	service_set_state(service, STATE_WAITING);
	/* Begun again by another keeper, it has fired what it has fired. */
	if (service->trigger_restored) {
		service->timer_run->last_us = MIN(service->trigger_us, time_wall_ns() / 1000);
		service->timer_run->last_ns = MAX(
			time_mono_ns() - (time_wall_ns() - service->timer_run->last_us * 1000), INT64_C(1));
	}
	service->trigger_restored = false;
	if (service->config.timer.persistent)
		read_stamp(service);
	activation_watch_clock(service->keeper);
	draw_delay(service);
	enter_waiting(service);
	return 0;
}

static void timer_stop(struct service *service)
{
	service_enter_dead(service, RESULT_SUCCESS, false);
}

static void fire(struct service *service)
{
	struct timer_run *run = service->timer_run;
	struct timer_due due;

	if (service->job == JOB_STOP) {
		service->trigger_missed = true;
		return;
	}
	run->last_ns = time_mono_ns();
	service->trigger_us = run->last_us = time_wall_ns() / 1000;
	service->store_dirty = true;
	if (service->config.timer.persistent)
		write_stamp(service);
	schedule(service, &due); /* what was due once is spent, with the delay it had */
	draw_delay(service);
	run->due_ns = run->due_us = INT64_MAX;
	service_arm(service, UNIT_SPAN_INFINITY);
	if (activation_trigger(service) < 0) {
		service_enter_dead(service, RESULT_RESOURCES, false);
		return;
	}
	service_set_state(service, STATE_TRIGGERED);
}

static void timer_fired(struct service *service)
{
	const struct timer_run *run = service->timer_run;

	if (service->state != STATE_WAITING)
		return;
	if (time_mono_ns() >= run->due_ns || time_wall_ns() / 1000 >= run->due_us)
		fire(service);
	else
		sleep_until_due(service);
}

static void timer_triggered_changed(struct service *service, const struct service *triggered)
{
	bool ended = service_is_dead(triggered) && triggered->job == JOB_NONE;

	if (service->state == STATE_WAITING || service->state == STATE_ELAPSED || ended)
		enter_waiting(service);
}

static void timer_clock_changed(struct service *service)
{
	if (service->state != STATE_WAITING)
		return;
	if (service->config.timer.on_clock_change)
		fire(service);
	else
		enter_waiting(service);
}

static void timer_look_again(struct service *service)
{
	if (service->state == STATE_WAITING)
		enter_waiting(service);
}

static void timer_release(struct service *service)
{
	service->timer_run = mem_free(service->timer_run);
}

int64_t timer_unit_next_us(const struct service *service)
{
	const struct timer_run *run = service->timer_run;
	int64_t next = INT64_MAX;

	if (!run || service->state != STATE_WAITING)
		return 0;
	if (run->due_ns != INT64_MAX)
		next = time_wall_ns() / 1000 + (run->due_ns - time_mono_ns()) / 1000;
	next = MIN(next, run->due_us);
	return next == INT64_MAX ? 0 : next;
}

const struct unit_kind unit_kind_timer = {.type = "timer",
	.started = "Started",
	.stopped = "Stopped",
	.start = timer_start,
	.stop = timer_stop,
	.triggered_changed = timer_triggered_changed,
	.timer_fired = timer_fired,
	.clock_changed = timer_clock_changed,
	.look_again = timer_look_again,
	.release = timer_release};
