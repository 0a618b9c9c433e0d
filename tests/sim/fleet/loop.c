/* libuv's timers, on the virtual clock: the functions of libuv that the simulated rooms call. A loop is that
 * of one life of a daemon; its clock may go wrong by a little. Closing calls back in the next turn, as in
 * libuv, also when the daemon is dead: the memory belongs to the callback. */
#include "world.h"

struct life *life_of(const uv_loop_t *loop)
{
	return loop->data;
}

static int64_t loop_ns(const struct life *life)
{
	int64_t ns = life->world->now_ns + life->host->clock_offset_ns;

	return ns + ns / 1000000 * life->host->drift_ppm;
}

/* When the loop's clock has gone on by that much. */
static int64_t world_ns_after(const struct life *life, int64_t ns)
{
	return life->world->now_ns + ns * 1000000 / (1000000 + life->host->drift_ppm) + 1;
}

uint64_t uv_now(const uv_loop_t *loop)
{
	return (uint64_t)(loop_ns(life_of(loop)) / NS_PER_MS);
}

void uv_update_time(uv_loop_t *loop)
{
	(void)loop;
}

/* Measures what work costs: in virtual time none costs anything. */
uint64_t uv_hrtime(void)
{
	return 0;
}

int uv_run(uv_loop_t *loop, uv_run_mode mode)
{
	(void)loop;
	(void)mode;
	abort(); /* nothing that is simulated waits */
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
	void *data = timer->data;

	*timer = (uv_timer_t){.loop = loop, .data = data, .type = UV_TIMER};
	return 0;
}

static struct event **event_of(uv_timer_t *timer)
{
	return (struct event **)(void *)&timer->heap_node[0];
}

static void timer_due(void *data);

static void timer_arm(uv_timer_t *timer, uint64_t after_ms)
{
	struct life *life = life_of(timer->loop);
	int64_t wait_ns = (int64_t)after_ms * NS_PER_MS;

	timer->timeout = uv_now(timer->loop) + after_ms;
	if (life->dead)
		return;
	/* The loop's clock has to show it. */
	if (after_ms)
		wait_ns += NS_PER_MS - loop_ns(life) % NS_PER_MS;
	world_at(life->world, world_ns_after(life, wait_ns), &life->gate, timer_due, timer, event_of(timer));
}

static void timer_due(void *data)
{
	uv_timer_t *timer = data;

	if (timer->repeat)
		timer_arm(timer, timer->repeat);
	timer->timer_cb(timer);
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
	event_cancel(event_of(timer));
	timer->timer_cb = cb;
	timer->repeat = repeat;
	timer_arm(timer, timeout);
	return 0;
}

int uv_timer_stop(uv_timer_t *timer)
{
	event_cancel(event_of(timer));
	return 0;
}

uint64_t uv_timer_get_due_in(const uv_timer_t *timer)
{
	uint64_t now = uv_now(timer->loop);

	return timer->timeout > now ? timer->timeout - now : 0;
}

int uv_is_active(const uv_handle_t *handle)
{
	return ((const uv_timer_t *)(const void *)handle)->heap_node[0] != NULL;
}

static void closed(void *data)
{
	uv_handle_t *handle = data;

	handle->close_cb(handle);
}

void uv_close(uv_handle_t *handle, uv_close_cb cb)
{
	struct life *life = life_of(handle->loop);

	event_cancel(event_of((uv_timer_t *)(void *)handle));
	handle->close_cb = cb;
	if (cb)
		world_at(life->world, life->world->now_ns, NULL, closed, handle, NULL);
}
