/* Days to dates by Howard Hinnant's era arithmetic (chrono-compatible low-level date algorithms). A layout is
 * read chunk by chunk: the reference time's own texts ("Jan", "02", "15") are replaced, everything else is
 * copied. */
#include "template/time.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>

#define DAY_SECONDS 86400
/* 0001-01-01 00:00:00 UTC, Go's zero time. */
#define ZERO_SECONDS INT64_C(-62135596800)

struct civil {
	int64_t year, yearday;			       /* yearday from 1 */
	int month, day, hour, minute, second, weekday; /* month from 1; weekday 0 is Sunday */
};

static const char *const month_names[] = {"January", "February", "March", "April", "May", "June", "July",
	"August", "September", "October", "November", "December"};
static const char *const day_names[] = {
	"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t days_from_civil(int64_t year, int64_t month, int64_t day)
{
	int64_t era, year_of_era, day_of_year;

	year -= month <= 2;
	era = floor_div(year, 400);
	year_of_era = year - era * 400;
	day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static struct civil civil_from_time(const struct template_time *time)
{
	int64_t local = time->seconds + time->offset, days = floor_div(local, DAY_SECONDS);
	int64_t in_day = local - days * DAY_SECONDS, shifted = days + 719468,
		era = floor_div(shifted, 146097);
	int64_t day_of_era = shifted - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month_index = (5 * day_of_year + 2) / 153;
	struct civil civil = {
		.day = (int)(day_of_year - (153 * month_index + 2) / 5 + 1),
		.month = (int)(month_index < 10 ? month_index + 3 : month_index - 9),
		.hour = (int)(in_day / 3600),
		.minute = (int)(in_day / 60 % 60),
		.second = (int)(in_day % 60),
		.weekday = (int)(((days + 4) % 7 + 7) % 7),
	};

	civil.year = year_of_era + era * 400 + (civil.month <= 2);
	civil.yearday = days - days_from_civil(civil.year, 1, 1) + 1;
	return civil;
}

/* ---- formatting ---- */

static void add_number(struct buf *out, int64_t value, int width)
{
	if (value < 0) {
		buf_add_char(out, '-');
		value = -value;
	}
	buf_printf(out, "%0*lld", width, (long long)value);
}

static void add_offset(struct buf *out, int32_t offset, const char *separator, bool minutes, bool seconds)
{
	int absolute = offset < 0 ? -offset : offset;

	buf_add_char(out, offset < 0 ? '-' : '+');
	add_number(out, absolute / 3600, 2);
	if (minutes) {
		buf_add_str(out, separator);
		add_number(out, absolute / 60 % 60, 2);
	}
	if (seconds) {
		buf_add_str(out, separator);
		add_number(out, absolute % 60, 2);
	}
}

static void add_zone(struct buf *out, const struct template_time *time)
{
	if (time->zone[0])
		buf_add_str(out, time->zone);
	else
		add_offset(out, time->offset, "", time->offset % 3600 != 0, false);
}

/* ".000" or ",999": as many digits; nines drop trailing zeros, and the point when nothing is left. */
static void add_fraction(struct buf *out, const struct template_time *time, struct slice chunk)
{
	char digits[16];
	size_t count = MIN(chunk.len - 1, (size_t)9);

	snprintf(digits, sizeof(digits), "%09d", time->nanoseconds);
	if (chunk.data[1] == '9') {
		while (count > 0 && digits[count - 1] == '0')
			count--;
		if (!count)
			return;
	}
	buf_add_char(out, chunk.data[0]);
	buf_add(out, digits, count);
	if (chunk.data[1] == '0' && chunk.len - 1 > 9)
		buf_add_fill(out, '0', chunk.len - 10);
}

enum chunk {
	CHUNK_MONTH_LONG,
	CHUNK_MONTH_SHORT,
	CHUNK_DAY_LONG,
	CHUNK_DAY_SHORT,
	CHUNK_ZONE,
	CHUNK_YEAR_LONG,
	CHUNK_PM,
	CHUNK_PM_LOWER,
	CHUNK_OFFSET_ISO_SECONDS_COLON,
	CHUNK_OFFSET_ISO_SECONDS,
	CHUNK_OFFSET_ISO_COLON,
	CHUNK_OFFSET_ISO,
	CHUNK_OFFSET_ISO_SHORT,
	CHUNK_OFFSET_SECONDS_COLON,
	CHUNK_OFFSET_SECONDS,
	CHUNK_OFFSET_COLON,
	CHUNK_OFFSET,
	CHUNK_OFFSET_SHORT,
	CHUNK_YEARDAY,
	CHUNK_YEARDAY_SPACE,
	CHUNK_MONTH_ZERO,
	CHUNK_DAY_ZERO,
	CHUNK_HOUR12_ZERO,
	CHUNK_MINUTE_ZERO,
	CHUNK_SECOND_ZERO,
	CHUNK_YEAR_SHORT,
	CHUNK_HOUR,
	CHUNK_DAY_SPACE,
	CHUNK_MONTH,
	CHUNK_DAY,
	CHUNK_HOUR12,
	CHUNK_MINUTE,
	CHUNK_SECOND,
	CHUNK_MAX,
};

/* Longer texts before their own beginnings. */
static const struct {
	const char *text;
	enum chunk chunk;
} chunks[] = {
	{"January", CHUNK_MONTH_LONG},
	{"Jan", CHUNK_MONTH_SHORT},
	{"Monday", CHUNK_DAY_LONG},
	{"Mon", CHUNK_DAY_SHORT},
	{"MST", CHUNK_ZONE},
	{"2006", CHUNK_YEAR_LONG},
	{"PM", CHUNK_PM},
	{"pm", CHUNK_PM_LOWER},
	{"Z07:00:00", CHUNK_OFFSET_ISO_SECONDS_COLON},
	{"Z070000", CHUNK_OFFSET_ISO_SECONDS},
	{"Z07:00", CHUNK_OFFSET_ISO_COLON},
	{"Z0700", CHUNK_OFFSET_ISO},
	{"Z07", CHUNK_OFFSET_ISO_SHORT},
	{"-07:00:00", CHUNK_OFFSET_SECONDS_COLON},
	{"-070000", CHUNK_OFFSET_SECONDS},
	{"-07:00", CHUNK_OFFSET_COLON},
	{"-0700", CHUNK_OFFSET},
	{"-07", CHUNK_OFFSET_SHORT},
	{"002", CHUNK_YEARDAY},
	{"__2", CHUNK_YEARDAY_SPACE},
	{"01", CHUNK_MONTH_ZERO},
	{"02", CHUNK_DAY_ZERO},
	{"03", CHUNK_HOUR12_ZERO},
	{"04", CHUNK_MINUTE_ZERO},
	{"05", CHUNK_SECOND_ZERO},
	{"06", CHUNK_YEAR_SHORT},
	{"15", CHUNK_HOUR},
	{"_2", CHUNK_DAY_SPACE},
	{"1", CHUNK_MONTH},
	{"2", CHUNK_DAY},
	{"3", CHUNK_HOUR12},
	{"4", CHUNK_MINUTE},
	{"5", CHUNK_SECOND},
};

static bool is_lower(struct slice text, size_t at)
{
	return at < text.len && text.data[at] >= 'a' && text.data[at] <= 'z';
}

/* The length of the chunk the layout begins with and which it is, or 0. */
static size_t chunk_match(struct slice layout, enum chunk *ret_chunk)
{
	for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
		struct slice text = slice_str(chunks[i].text);

		if (!slice_starts_with(layout, text))
			continue;
		/* "Janet" and "Months" are words; "_2006" is an underscore and a year. */
		if ((chunks[i].chunk == CHUNK_MONTH_SHORT || chunks[i].chunk == CHUNK_DAY_SHORT) &&
			is_lower(layout, 3))
			continue;
		if (chunks[i].chunk == CHUNK_DAY_SPACE && slice_starts_with(layout, SLICE_LITERAL("_2006")))
			continue;
		*ret_chunk = chunks[i].chunk;
		return text.len;
	}
	return 0;
}

/* The length of ".000", ".999", ",000", ",999" when no further digit follows, or 0. */
static size_t fraction_match(struct slice layout)
{
	size_t len = 1;

	if (layout.len < 2 || (layout.data[0] != '.' && layout.data[0] != ',') ||
		(layout.data[1] != '0' && layout.data[1] != '9'))
		return 0;
	while (len < layout.len && layout.data[len] == layout.data[1])
		len++;
	if (len < layout.len && layout.data[len] >= '0' && layout.data[len] <= '9')
		return 0;
	return len;
}

static void add_offset_chunk(struct buf *out, const struct template_time *time, enum chunk chunk)
{
	bool iso = chunk <= CHUNK_OFFSET_ISO_SHORT;
	enum chunk plain =
		iso ? chunk + (CHUNK_OFFSET_SECONDS_COLON - CHUNK_OFFSET_ISO_SECONDS_COLON) : chunk;

	if (iso && time->offset == 0) {
		buf_add_char(out, 'Z');
		return;
	}
	add_offset(out, time->offset,
		plain == CHUNK_OFFSET_SECONDS_COLON || plain == CHUNK_OFFSET_COLON ? ":" : "",
		plain != CHUNK_OFFSET_SHORT,
		plain == CHUNK_OFFSET_SECONDS_COLON || plain == CHUNK_OFFSET_SECONDS);
}

static void add_space_padded(struct buf *out, int64_t value, int width)
{
	buf_printf(out, "%*lld", width, (long long)value);
}

static void add_chunk(
	struct buf *out, const struct template_time *time, const struct civil *civil, enum chunk chunk)
{
	int hour12 = civil->hour % 12 ? civil->hour % 12 : 12;

	switch (chunk) {
	case CHUNK_MONTH_LONG:
		buf_add_str(out, month_names[civil->month - 1]);
		return;
	case CHUNK_MONTH_SHORT:
		buf_add(out, month_names[civil->month - 1], 3);
		return;
	case CHUNK_DAY_LONG:
		buf_add_str(out, day_names[civil->weekday]);
		return;
	case CHUNK_DAY_SHORT:
		buf_add(out, day_names[civil->weekday], 3);
		return;
	case CHUNK_ZONE:
		add_zone(out, time);
		return;
	case CHUNK_YEAR_LONG:
		add_number(out, civil->year, 4);
		return;
	case CHUNK_PM:
		buf_add_str(out, civil->hour >= 12 ? "PM" : "AM");
		return;
	case CHUNK_PM_LOWER:
		buf_add_str(out, civil->hour >= 12 ? "pm" : "am");
		return;
	case CHUNK_YEARDAY:
		add_number(out, civil->yearday, 3);
		return;
	case CHUNK_YEARDAY_SPACE:
		add_space_padded(out, civil->yearday, 3);
		return;
	case CHUNK_MONTH_ZERO:
	case CHUNK_MONTH:
		add_number(out, civil->month, chunk == CHUNK_MONTH ? 1 : 2);
		return;
	case CHUNK_DAY_ZERO:
	case CHUNK_DAY:
		add_number(out, civil->day, chunk == CHUNK_DAY ? 1 : 2);
		return;
	case CHUNK_DAY_SPACE:
		add_space_padded(out, civil->day, 2);
		return;
	case CHUNK_HOUR12_ZERO:
	case CHUNK_HOUR12:
		add_number(out, hour12, chunk == CHUNK_HOUR12 ? 1 : 2);
		return;
	case CHUNK_MINUTE_ZERO:
	case CHUNK_MINUTE:
		add_number(out, civil->minute, chunk == CHUNK_MINUTE ? 1 : 2);
		return;
	case CHUNK_SECOND_ZERO:
	case CHUNK_SECOND:
		add_number(out, civil->second, chunk == CHUNK_SECOND ? 1 : 2);
		return;
	case CHUNK_YEAR_SHORT:
		add_number(out, (civil->year % 100 + 100) % 100, 2);
		return;
	case CHUNK_HOUR:
		add_number(out, civil->hour, 2);
		return;
	default:
		add_offset_chunk(out, time, chunk);
	}
}

void template_time_format(struct buf *out, const struct template_time *time, struct slice layout)
{
	struct civil civil = civil_from_time(time);

	while (layout.len) {
		enum chunk chunk;
		size_t len = fraction_match(layout);

		if (len) {
			add_fraction(out, time, slice_make(layout.data, len));
		} else {
			len = chunk_match(layout, &chunk);
			if (len)
				add_chunk(out, time, &civil, chunk);
			else
				buf_add(out, layout.data, len = 1);
		}
		layout.data += len;
		layout.len -= len;
	}
}

static void time_add_text(const void *object, struct buf *out)
{
	const struct template_time *time = object;
	int64_t absolute;

	template_time_format(out, time, SLICE_LITERAL("2006-01-02 15:04:05.999999999 -0700 MST"));
	if (!time->has_monotonic)
		return;
	absolute = time->monotonic_ns < 0 ? -time->monotonic_ns : time->monotonic_ns;
	buf_printf(out, " m=%c%lld.%09lld", time->monotonic_ns < 0 ? '-' : '+',
		(long long)(absolute / 1000000000), (long long)(absolute % 1000000000));
}

/* ---- parsing ---- */

static int take_digits(struct slice *text, size_t count, int *ret_value)
{
	int value = 0;

	if (text->len < count)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (text->data[i] < '0' || text->data[i] > '9')
			return -EINVAL;
		value = value * 10 + (text->data[i] - '0');
	}
	text->data += count;
	text->len -= count;
	*ret_value = value;
	return 0;
}

static int take_char(struct slice *text, char c)
{
	if (!text->len || text->data[0] != c)
		return -EINVAL;
	text->data++;
	text->len--;
	return 0;
}

static int take_fraction(struct slice *text, int32_t *ret_nanoseconds)
{
	int32_t scale = 100000000;

	*ret_nanoseconds = 0;
	if (take_char(text, '.') < 0)
		return 0;
	if (!text->len || text->data[0] < '0' || text->data[0] > '9')
		return -EINVAL;
	for (; text->len && text->data[0] >= '0' && text->data[0] <= '9'; text->data++, text->len--) {
		*ret_nanoseconds += (text->data[0] - '0') * scale;
		scale /= 10;
	}
	return 0;
}

static int take_zone(struct slice *text, struct template_time *time)
{
	int hours, minutes, sign;

	if (take_char(text, 'Z') >= 0) {
		memcpy(time->zone, "UTC", sizeof("UTC"));
		return 0;
	}
	if (!text->len)
		return -EINVAL;
	sign = text->data[0] == '-' ? -1 : 1;
	if (take_char(text, '+') < 0 && take_char(text, '-') < 0)
		return -EINVAL;
	if (take_digits(text, 2, &hours) < 0 || take_char(text, ':') < 0 ||
		take_digits(text, 2, &minutes) < 0 || hours > 23 || minutes > 59)
		return -EINVAL;
	time->offset = sign * (hours * 3600 + minutes * 60);
	return 0;
}

int template_time_parse(struct slice text, struct template_time *ret_time)
{
	struct template_time time = {0};
	int year, month, day, hour, minute, second;

	if (take_digits(&text, 4, &year) < 0 || take_char(&text, '-') < 0 ||
		take_digits(&text, 2, &month) < 0 || take_char(&text, '-') < 0 ||
		take_digits(&text, 2, &day) < 0 || take_char(&text, 'T') < 0 ||
		take_digits(&text, 2, &hour) < 0 || take_char(&text, ':') < 0 ||
		take_digits(&text, 2, &minute) < 0 || take_char(&text, ':') < 0 ||
		take_digits(&text, 2, &second) < 0 || take_fraction(&text, &time.nanoseconds) < 0 ||
		take_zone(&text, &time) < 0 || text.len)
		return -EINVAL;
	if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59)
		return -EINVAL;
	time.seconds = days_from_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second -
		       time.offset;
	*ret_time = time;
	return 0;
}

/* ---- methods ---- */

static const struct template_time *receiver_of(const struct template_call *call)
{
	return call->receiver.object;
}

struct template_value template_time_value(struct arena *arena, const struct template_time *time)
{
	struct template_time *copy = arena_alloc(arena, sizeof(*copy));

	*copy = *time;
	return template_object(&template_type_time, copy);
}

static struct template_value int64_value(int64_t value)
{
	return (struct template_value){.type = &template_type_int64, .integer = value};
}

#define TIME_METHOD(function)                                                                       \
	static int function(struct template_call *call, const struct template_value *args _unused_, \
		size_t count _unused_, struct template_value *ret)

TIME_METHOD(time_format)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	template_time_format(&text, receiver_of(call), args[0].text);
	*ret = template_text(slice_make(arena_strndup(call->arena, buf_text(&text), text.len), text.len));
	return 0;
}

TIME_METHOD(time_string)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	time_add_text(receiver_of(call), &text);
	*ret = template_text(slice_make(arena_strndup(call->arena, buf_text(&text), text.len), text.len));
	return 0;
}

TIME_METHOD(time_unix)
{
	*ret = int64_value(receiver_of(call)->seconds);
	return 0;
}

TIME_METHOD(time_unix_nano)
{
	*ret = int64_value((int64_t)((uint64_t)receiver_of(call)->seconds * 1000000000u +
				     (uint64_t)receiver_of(call)->nanoseconds));
	return 0;
}

TIME_METHOD(time_unix_milli)
{
	*ret = int64_value((int64_t)((uint64_t)receiver_of(call)->seconds * 1000u) +
			   receiver_of(call)->nanoseconds / 1000000);
	return 0;
}

TIME_METHOD(time_unix_micro)
{
	*ret = int64_value((int64_t)((uint64_t)receiver_of(call)->seconds * 1000000u) +
			   receiver_of(call)->nanoseconds / 1000);
	return 0;
}

#define TIME_PART(function, part)                                             \
	TIME_METHOD(function)                                                 \
	{                                                                     \
		*ret = template_int(civil_from_time(receiver_of(call)).part); \
		return 0;                                                     \
	}

TIME_PART(time_year, year)
TIME_PART(time_day, day)
TIME_PART(time_hour, hour)
TIME_PART(time_minute, minute)
TIME_PART(time_second, second)
TIME_PART(time_yearday, yearday)

TIME_METHOD(time_nanosecond)
{
	*ret = template_int(receiver_of(call)->nanoseconds);
	return 0;
}

TIME_METHOD(time_month)
{
	*ret = (struct template_value){
		.type = &template_type_month, .integer = civil_from_time(receiver_of(call)).month};
	return 0;
}

TIME_METHOD(time_weekday)
{
	*ret = (struct template_value){
		.type = &template_type_weekday, .integer = civil_from_time(receiver_of(call)).weekday};
	return 0;
}

TIME_METHOD(time_utc)
{
	struct template_time time = *receiver_of(call);

	time.offset = 0;
	time.has_monotonic = false;
	memcpy(time.zone, "UTC", sizeof("UTC"));
	*ret = template_time_value(call->arena, &time);
	return 0;
}

TIME_METHOD(time_is_zero)
{
	*ret = template_bool(
		receiver_of(call)->seconds == ZERO_SECONDS && receiver_of(call)->nanoseconds == 0);
	return 0;
}

static int time_compare(const struct template_time *a, const struct template_time *b)
{
	if (a->seconds != b->seconds)
		return a->seconds < b->seconds ? -1 : 1;
	return a->nanoseconds < b->nanoseconds ? -1 : a->nanoseconds > b->nanoseconds;
}

TIME_METHOD(time_before)
{
	*ret = template_bool(time_compare(receiver_of(call), args[0].object) < 0);
	return 0;
}

TIME_METHOD(time_after)
{
	*ret = template_bool(time_compare(receiver_of(call), args[0].object) > 0);
	return 0;
}

TIME_METHOD(time_equal)
{
	*ret = template_bool(time_compare(receiver_of(call), args[0].object) == 0);
	return 0;
}

TIME_METHOD(time_add)
{
	struct template_time time = *receiver_of(call);
	int64_t nanoseconds = time.nanoseconds + args[0].integer % 1000000000;

	time.seconds += args[0].integer / 1000000000 + floor_div(nanoseconds, 1000000000);
	time.nanoseconds = (int32_t)(nanoseconds - floor_div(nanoseconds, 1000000000) * 1000000000);
	time.monotonic_ns = (int64_t)((uint64_t)time.monotonic_ns + (uint64_t)args[0].integer);
	*ret = template_time_value(call->arena, &time);
	return 0;
}

TIME_METHOD(time_add_date)
{
	struct template_time time = *receiver_of(call);
	struct civil civil = civil_from_time(&time);
	int64_t limit = 1000000, year, month, days;

	for (size_t i = 0; i < 3; i++) {
		if (args[i].integer < -limit || args[i].integer > limit) {
			buf_printf(call->error, "%lld is out of range", (long long)args[i].integer);
			return -EINVAL;
		}
	}
	year = civil.year + args[0].integer;
	month = civil.month - 1 + args[1].integer;
	year += floor_div(month, 12);
	month -= floor_div(month, 12) * 12;
	days = days_from_civil(year, month + 1, 1) + civil.day - 1 + args[2].integer;
	time.seconds =
		days * DAY_SECONDS + civil.hour * 3600 + civil.minute * 60 + civil.second - time.offset;
	time.has_monotonic = false;
	*ret = template_time_value(call->arena, &time);
	return 0;
}

#define INT &template_type_int
#define INT64 &template_type_int64
#define BOOL &template_type_bool
#define STRING &template_type_string
#define TIME &template_type_time

static const struct template_func time_methods[] = {
	{"Add", time_add, TIME, {&template_type_duration}, 1, false},
	{"AddDate", time_add_date, TIME, {INT, INT, INT}, 3, false},
	{"After", time_after, BOOL, {TIME}, 1, false},
	{"Before", time_before, BOOL, {TIME}, 1, false},
	{"Day", time_day, INT, {NULL}, 0, false},
	{"Equal", time_equal, BOOL, {TIME}, 1, false},
	{"Format", time_format, STRING, {STRING}, 1, false},
	{"Hour", time_hour, INT, {NULL}, 0, false},
	{"IsZero", time_is_zero, BOOL, {NULL}, 0, false},
	{"Minute", time_minute, INT, {NULL}, 0, false},
	{"Month", time_month, &template_type_month, {NULL}, 0, false},
	{"Nanosecond", time_nanosecond, INT, {NULL}, 0, false},
	{"Second", time_second, INT, {NULL}, 0, false},
	{"String", time_string, STRING, {NULL}, 0, false},
	{"UTC", time_utc, TIME, {NULL}, 0, false},
	{"Unix", time_unix, INT64, {NULL}, 0, false},
	{"UnixMicro", time_unix_micro, INT64, {NULL}, 0, false},
	{"UnixMilli", time_unix_milli, INT64, {NULL}, 0, false},
	{"UnixNano", time_unix_nano, INT64, {NULL}, 0, false},
	{"Weekday", time_weekday, &template_type_weekday, {NULL}, 0, false},
	{"Year", time_year, INT, {NULL}, 0, false},
	{"YearDay", time_yearday, INT, {NULL}, 0, false},
};

static bool time_same(const void *a, const void *b)
{
	const struct template_time *left = a, *right = b;

	return time_compare(left, right) == 0 && left->offset == right->offset &&
	       strcmp(left->zone, right->zone) == 0;
}

static void month_add_text(const void *object, struct buf *out)
{
	int64_t month = *(const int64_t *)object;

	buf_add_str(out, month >= 1 && month <= 12 ? month_names[month - 1] : "%!Month");
}

static void weekday_add_text(const void *object, struct buf *out)
{
	int64_t day = *(const int64_t *)object;

	buf_add_str(out, day >= 0 && day <= 6 ? day_names[day] : "%!Weekday");
}

const struct template_type template_type_time = {
	.name = "time.Time",
	.kind = TEMPLATE_STRUCT,
	.methods = time_methods,
	.method_count = ARRAY_LEN(time_methods),
	.add_text = time_add_text,
	.equal = time_same,
};
const struct template_type template_type_month = {
	.name = "time.Month", .kind = TEMPLATE_INT, .bits = 64, .add_text = month_add_text};
const struct template_type template_type_weekday = {
	.name = "time.Weekday", .kind = TEMPLATE_INT, .bits = 64, .add_text = weekday_add_text};
const struct template_type template_type_duration = {
	.name = "time.Duration", .kind = TEMPLATE_INT, .bits = 64};
