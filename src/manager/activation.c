/* What timers, paths and sockets share, and targets. They hear of their units at the end of a turn, when jobs
 * have run: a change within a change would be hard to follow, here as for the reader. */
#include "manager/activation.h"
#include "base/memory.h"
#include "base/time.h"
#include "manager/service_internal.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- targets ---- */

static int target_start(struct service *service)
{
	service_set_state(service, STATE_ACTIVE);
	return 0;
}

static void target_stop(struct service *service)
{
	service_set_state(service, STATE_DEAD);
}

/* ---- kinds ---- */

static const struct unit_kind kind_service = {.type = "service", .started = "Started", .stopped = "Stopped"};
static const struct unit_kind kind_target = {.type = "target",
	.started = "Reached target",
	.stopped = "Stopped target",
	.start = target_start,
	.stop = target_stop};

const struct unit_kind *unit_kind_find(struct slice type)
{
	static const struct unit_kind *const kinds[] = {
		&kind_target, &unit_kind_timer, &unit_kind_path, &unit_kind_socket};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (slice_is(type, kinds[i]->type))
			return kinds[i];
	return &kind_service;
}

bool unit_kind_is_target(const struct unit_kind *kind)
{
	return kind == &kind_target;
}

/* ---- those that start a unit ---- */

struct service *activation_target(const struct service *service)
{
	struct service *triggered =
		service->config.trigger ? keeper_find(service->keeper, service->config.trigger) : NULL;

	return triggered && !triggered->unloading ? triggered : NULL;
}

bool activation_pending(const struct service *triggered)
{
	return triggered->job == JOB_START || triggered->job == JOB_RESTART ||
	       (!service_is_dead(triggered) && !service_is_stopping(triggered) && triggered->job != JOB_STOP);
}

void activation_changed(struct service *service)
{
	service->trigger_due = service->keeper->triggers_due = true;
}

void activation_run(struct keeper *keeper)
{
	while (keeper->triggers_due) {
		keeper->triggers_due = false;
		list_for_each (it, &keeper->services) {
			struct service *triggered = list_item(it, struct service, entry);

			if (!triggered->trigger_due)
				continue;
			triggered->trigger_due = false;
			if (triggered->trigger_missed && triggered->job != JOB_STOP) {
				triggered->trigger_missed = false;
				if (service_is_active(triggered) && triggered->job == JOB_NONE)
					triggered->kind->look_again(triggered);
			}
			list_for_each (other_it, &keeper->services) {
				struct service *service = list_item(other_it, struct service, entry);

				if (service->kind->triggered_changed && service->config.trigger &&
					service_is_active(service) &&
					strcmp(service->config.trigger, triggered->name) == 0)
					service->kind->triggered_changed(service, triggered);
			}
		}
	}
}

int activation_trigger(struct service *service)
{
	struct service *triggered = activation_target(service);
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r;

	if (!triggered) {
		service_say(service, "%s: Unit %s to start is not loaded.", service->name,
			service->config.trigger);
		/* What waits for it is started again when it comes. */
		service->missing_dependency = true;
		keeper_retry_later(service->keeper);
		return -ENOENT;
	}
	if (activation_pending(triggered))
		return 0;
	r = jobs_start(triggered, &error);
	if (r < 0)
		service_say(service, "%s: Failed to start %s: %s", service->name, triggered->name,
			buf_text(&error));
	return r;
}

int activation_refuse(struct service *service, int result, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	service_say(service, "%s: %s", service->name, text);
	free(service->start_error);
	service->start_error = mem_strdup(text);
	service->dirty = true;
	return result;
}

bool trigger_within(struct trigger_count *count, const struct trigger_limit *limit)
{
	int64_t now = time_mono_ns();

	if (!limit->burst || !limit->interval_ns)
		return true;
	if (!count->window_ns || now - count->window_ns > limit->interval_ns) {
		count->window_ns = now;
		count->count = 0;
	}
	return ++count->count <= limit->burst;
}

/* ---- descriptors ---- */

struct watch {
	uv_poll_t poll;
	struct service *service; /* NULL: let go of */
	void (*ready)(struct service *service);
	int fd;
};

static void watch_ready(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;

	(void)status;
	(void)events;
	if (watch->service)
		watch->ready(watch->service);
}

static void watch_closed(uv_handle_t *handle)
{
	free(handle->data);
}

struct watch *watch_new(struct service *service, int fd, void (*ready)(struct service *service))
{
	struct watch *watch = mem_new(struct watch);

	watch->service = service;
	watch->ready = ready;
	watch->fd = fd;
	watch->poll.data = watch;
	if (uv_poll_init(&service->keeper->loop, &watch->poll, fd) < 0) {
		close(fd);
		free(watch);
		return NULL;
	}
	watch_go_on(watch);
	return watch;
}

void watch_pause(struct watch *watch)
{
	(void)uv_poll_stop(&watch->poll);
}

void watch_go_on(struct watch *watch)
{
	(void)uv_poll_start(&watch->poll, UV_READABLE, watch_ready);
}

int watch_fd(const struct watch *watch)
{
	return watch->fd;
}

struct watch *watch_free(struct watch *watch)
{
	if (!watch)
		return NULL;
	watch->service = NULL;
	uv_close((uv_handle_t *)&watch->poll, watch_closed);
	close(watch->fd);
	return NULL;
}

/* ---- the wall clock ---- */

/* A timer that is set to the end of time and cancelled when the clock jumps. */
static int arm_clock(int fd)
{
	struct itimerspec never = {.it_value = {.tv_sec = INT64_MAX / NS_PER_S}};

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 ? -errno
												  : 0;
}

static void clock_jumped(uv_poll_t *poll, int status, int events)
{
	struct keeper *keeper = poll->data;
	uint64_t expirations;

	(void)status;
	(void)events;
	if (read(keeper->clock_fd, &expirations, sizeof(expirations)) >= 0 || errno != ECANCELED)
		return;
	(void)arm_clock(keeper->clock_fd);
	list_for_each (it, &keeper->services) {
		struct service *service = list_item(it, struct service, entry);

		if (service->kind->clock_changed && service_is_active(service))
			service->kind->clock_changed(service);
	}
}

void activation_watch_clock(struct keeper *keeper)
{
	if (keeper->clock_fd >= 0)
		return;
	keeper->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (keeper->clock_fd < 0)
		return; /* calendar events are then as late as the clock jumped back */
	if (arm_clock(keeper->clock_fd) < 0 ||
		uv_poll_init(&keeper->loop, &keeper->clock, keeper->clock_fd) < 0) {
		close(keeper->clock_fd);
		keeper->clock_fd = -1;
		return;
	}
	keeper->clock.data = keeper;
	(void)uv_poll_start(&keeper->clock, UV_READABLE, clock_jumped);
}
