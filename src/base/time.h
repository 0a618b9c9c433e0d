/* Clock readings for shells; pure rooms take the time from their caller instead. Any thread. */
#pragma once
#include "base/macros.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

int64_t time_wall_ns(void); /* CLOCK_REALTIME, since 1970 */
int64_t time_mono_ns(void); /* CLOCK_MONOTONIC */
int64_t time_mono_ms(void);
