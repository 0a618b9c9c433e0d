/* Calendar events of systemd.time(7): "Mon..Fri *-*-* 09:00", "daily", "*-02~01", "Sat,Sun 12:00 UTC". Any
 * thread, but a time zone by name is looked up by setting TZ for the moment: one thread at a time then. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

struct calendar;

/* -EINVAL with the reason in `reterr`; -ERANGE for a number out of its field's range. */
int calendar_parse(struct slice text, struct calendar **ret, struct buf *reterr) _must_check_;
struct calendar *calendar_free(struct calendar *calendar);
DEFINE_CLEANUP(struct calendar *, calendar_free)
/* The first time after `after_us` (CLOCK_REALTIME, in microseconds) that matches; -ENOENT: there is none any
 * more. */
int calendar_next(const struct calendar *calendar, int64_t after_us, int64_t *ret_us) _must_check_;
