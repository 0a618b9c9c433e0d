/* Points in time as people write them, the common forms of systemd.time(7) and RFC 3339:
 *
 *   now, today, yesterday, tomorrow          (the latter three at 00:00:00)
 *   -1h, +5min, "2h ago", "1h 30min ago"     from now; units from us to years, as in systemd.time(7)
 *   @1795334731, @1795334731.5               seconds since 1970
 *   2026-11-22, "2026-11-22 08:05", "2026-11-22 08:05:31.25", 08:05, 08:05:31 (today)
 *   "2026-11-22 08:05:31 UTC", 2026-11-22T08:05:31Z, 2026-11-22T08:05:31+02:00
 *
 * Without a zone: local time (TZ). Weekdays and names of zones are not known. Pure but for the time zone; any
 * thread. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

/* In microseconds since 1970. -EINVAL, with a message in `reterr` (may be NULL) that names the text. */
int when_parse(struct slice text, int64_t now_us, int64_t *ret_us, struct buf *reterr) _must_check_;
/* A span of systemd.time(7), "5" (seconds), "1min 30s", "1.5h", in microseconds. -EINVAL, -ERANGE. */
int when_parse_span(struct slice text, int64_t *ret_us) _must_check_;
