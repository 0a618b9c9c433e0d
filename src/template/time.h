/* Go's time.Time as a template value: printing, Format with Go's layouts, and the methods templates use.
 * Proleptic Gregorian calendar. Pure: the caller says what time and which zone it is. */
#pragma once
#include "template/value.h"

struct template_time {
	int64_t seconds; /* since 1970, UTC */
	int32_t nanoseconds;
	int32_t offset;	    /* of the zone, seconds east of UTC */
	char zone[16];	    /* its abbreviation: "UTC", "CET" */
	bool has_monotonic; /* printing adds " m=+0.000000001": the monotonic clock since the program's start
			     */
	int64_t monotonic_ns;
};

extern const struct template_type template_type_time, template_type_month, template_type_weekday,
	template_type_duration;

/* Copies the time into the arena. */
struct template_value template_time_value(struct arena *arena, const struct template_time *time);
void template_time_format(struct buf *out, const struct template_time *time, struct slice layout);
/* RFC 3339 with optional fraction ("2020-01-02T03:04:05.000000006Z"); -EINVAL. */
int template_time_parse(struct slice text, struct template_time *ret_time) _must_check_;
