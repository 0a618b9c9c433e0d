/* Thin wrappers over clock_gettime(), which cannot fail for these clocks. */
#include "base/time.h"
#include <time.h>

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	int r = clock_gettime(clock, &now);

	assert(r == 0);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t time_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t time_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t time_mono_ms(void)
{
	return time_mono_ns() / NS_PER_MS;
}
