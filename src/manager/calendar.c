/* A calendar event is a set of values for each field. The next time is found field by field: days one after
 * the other, then the least time of the day that is late enough; local times that a change of the clock
 * leaves out are passed over. */
#include "manager/calendar.h"
#include "base/memory.h"
#include "base/text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define YEAR_MIN 1970
#define YEAR_MAX 2199
#define ITEMS_MAX 240 /* values, ranges and repetitions of a field */
#define ZONE_MAX 64
#define US_PER_S 1000000
#define DAYS_ALL 0x7f

/* Ranges and repetitions; no item: every value. */
struct item {
	int64_t start, stop, repeat; /* stop: start for a single value; repeat 0: none */
};
struct field {
	struct item *items;
	size_t count;
};
enum field_kind { FIELD_YEAR, FIELD_MONTH, FIELD_DAY, FIELD_HOUR, FIELD_MINUTE, FIELD_SECOND, FIELD_MAX };

struct calendar {
	struct field fields[FIELD_MAX]; /* seconds in microseconds */
	unsigned weekdays;		/* bit 0: Monday */
	bool from_end;			/* days are counted from the end of the month */
	bool utc;
	char zone[ZONE_MAX]; /* "": local, or UTC */
};

static const int64_t field_min[FIELD_MAX] = {YEAR_MIN, 1, 1, 0, 0, 0};
static const int64_t field_max[FIELD_MAX] = {YEAR_MAX, 12, 31, 23, 59, 60 * US_PER_S - 1};
static const char *const field_names[FIELD_MAX] = {"year", "month", "day", "hour", "minute", "second"};

struct calendar *calendar_free(struct calendar *calendar)
{
	for (size_t i = 0; calendar && i < FIELD_MAX; i++)
		free(calendar->fields[i].items);
	free(calendar);
	return NULL;
}

/* ---- parsing ---- */

struct parser {
	struct slice text; /* what is left */
	struct calendar *calendar;
	struct buf *reterr;
};

static int fail(struct parser *parser, int error, const char *what)
{
	if (!parser->reterr->len)
		buf_printf(parser->reterr, "%s at \"%.*s\"", what, (int)MIN(parser->text.len, (size_t)64),
			parser->text.data);
	return error;
}

static char peek(const struct parser *parser)
{
	return parser->text.len ? parser->text.data[0] : '\0';
}

static void skip(struct parser *parser, size_t count)
{
	parser->text = slice_make(parser->text.data + count, parser->text.len - count);
}

static bool take(struct parser *parser, const char *word)
{
	if (!slice_starts_with(parser->text, slice_str(word)))
		return false;
	skip(parser, strlen(word));
	return true;
}

static int take_number(struct parser *parser, enum field_kind kind, int64_t *ret)
{
	int64_t value = 0, scale = US_PER_S;
	size_t digits = 0;

	for (; peek(parser) >= '0' && peek(parser) <= '9' && digits < 6; digits++, skip(parser, 1))
		value = value * 10 + (peek(parser) - '0');
	if (!digits)
		return fail(parser, -EINVAL, "a number is missing");
	if (kind == FIELD_YEAR && digits <= 2)
		value += value < 70 ? 2000 : 1900;
	if (kind != FIELD_SECOND) {
		*ret = value;
		return 0;
	}
	value *= US_PER_S;
	/* "." of a fraction, not of a range. */
	if (peek(parser) == '.' && !slice_starts_with(parser->text, SLICE_LITERAL(".."))) {
		skip(parser, 1);
		if (peek(parser) < '0' || peek(parser) > '9')
			return fail(parser, -EINVAL, "a fraction is missing");
		for (; peek(parser) >= '0' && peek(parser) <= '9'; skip(parser, 1)) {
			scale /= 10;
			value += scale * (peek(parser) - '0');
		}
	}
	*ret = value;
	return 0;
}

static int add_item(struct parser *parser, enum field_kind kind, struct item item)
{
	struct field *field = &parser->calendar->fields[kind];

	if (field->count == ITEMS_MAX)
		return fail(parser, -E2BIG, "too many values");
	field->items = mem_reallocarray(field->items, field->count + 1, sizeof(struct item));
	field->items[field->count++] = item;
	return 0;
}

/* N, N..M, N/R, N..M/R. Days from the end: the same, counted from there, and repeated towards it. */
static int take_item(struct parser *parser, enum field_kind kind)
{
	bool from_end = kind == FIELD_DAY && parser->calendar->from_end;
	struct item item = {0};
	bool single = true;
	int r = take_number(parser, kind, &item.start);

	item.stop = item.start;
	if (r >= 0 && take(parser, "..")) {
		single = false;
		r = take_number(parser, kind, &item.stop);
	}
	if (r >= 0 && peek(parser) == '/') {
		skip(parser, 1);
		r = take_number(parser, kind == FIELD_YEAR ? FIELD_MONTH : kind, &item.repeat);
		if (r >= 0 && item.repeat <= 0)
			r = fail(parser, -EINVAL, "a repetition of nothing");
		if (r >= 0 && single &&
			(from_end ? item.start - item.repeat < 1
				  : item.start + item.repeat > field_max[kind]))
			r = -ERANGE; /* nothing would be repeated */
		if (r >= 0 && !single && item.stop > item.start)
			item.stop -= (item.stop - item.start) % item.repeat; /* the last one that is met */
		if (single && from_end)
			item.start = 1;
		else if (single)
			item.stop = field_max[kind];
	}
	if (r < 0 && r != -ERANGE)
		return r;
	if (r < 0 || item.start > item.stop || item.start < field_min[kind] || item.stop > field_max[kind] ||
		(from_end && item.stop > 28)) {
		if (!parser->reterr->len)
			buf_printf(parser->reterr, "a %s that there is not", field_names[kind]);
		return -ERANGE;
	}
	return add_item(parser, kind, item);
}

static int take_field(struct parser *parser, enum field_kind kind)
{
	int r;

	parser->calendar->fields[kind].count = 0;
	if (take(parser, "*"))
		return 0;
	do {
		r = take_item(parser, kind);
	} while (r >= 0 && take(parser, ","));
	return r;
}

static int weekday_of(struct slice word)
{
	static const char *const names[] = {
		"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

	for (int i = 0; i < 7; i++)
		if ((word.len == 3 || word.len == strlen(names[i])) &&
			strncasecmp(word.data, names[i], word.len) == 0)
			return i;
	return -1;
}

static struct slice letters(const struct parser *parser)
{
	size_t len = 0;

	while (len < parser->text.len && ((parser->text.data[len] | 0x20) >= 'a') &&
		((parser->text.data[len] | 0x20) <= 'z'))
		len++;
	return slice_make(parser->text.data, len);
}

/* "Mon,Wed..Fri": then blanks, or the end. */
static int take_weekdays(struct parser *parser)
{
	unsigned days = 0;
	bool more = false;

	while (weekday_of(letters(parser)) >= 0) {
		int first = weekday_of(letters(parser)), last = first;

		skip(parser, letters(parser).len);
		if (take(parser, "..") || take(parser, "-")) {
			last = weekday_of(letters(parser));
			if (last < first)
				return fail(parser, -EINVAL, "a weekday that is not before it is missing");
			skip(parser, letters(parser).len);
		}
		for (int day = first; day <= last; day++)
			days |= 1u << day;
		more = take(parser, ",");
		if (!more)
			break;
	}
	if (more || (days && parser->text.len && peek(parser) != ' '))
		return fail(parser, -EINVAL, "no weekday");
	parser->calendar->weekdays = days ? days : DAYS_ALL;
	return 0;
}

static void set_field(struct parser *parser, enum field_kind kind, int64_t value)
{
	parser->calendar->fields[kind].count = 0;
	(void)!add_item(parser, kind, (struct item){value, value, 0});
}

/* [YEAR-]MONTH-DAY, with "~" before days that are counted from the month's end. */
static int take_date(struct parser *parser)
{
	struct slice before = parser->text;
	int r = take_field(parser, FIELD_YEAR);

	if (r >= 0 && take(parser, "-")) {
		r = take_field(parser, FIELD_MONTH);
		if (r >= 0 && (peek(parser) == '-' || peek(parser) == '~')) {
			parser->calendar->from_end = peek(parser) == '~';
			skip(parser, 1);
			return take_field(parser, FIELD_DAY);
		}
	}
	/* Without a year. */
	parser->text = before;
	buf_clear(parser->reterr);
	parser->calendar->fields[FIELD_YEAR].count = 0;
	r = take_field(parser, FIELD_MONTH);
	if (r < 0)
		return r;
	if (peek(parser) != '-' && peek(parser) != '~')
		return fail(parser, -EINVAL, "a date is MONTH-DAY or YEAR-MONTH-DAY");
	parser->calendar->from_end = peek(parser) == '~';
	skip(parser, 1);
	return take_field(parser, FIELD_DAY);
}

static int take_time(struct parser *parser)
{
	int r = take_field(parser, FIELD_HOUR);

	if (r >= 0 && !take(parser, ":"))
		r = fail(parser, -EINVAL, "a time is HOUR:MINUTE or HOUR:MINUTE:SECOND");
	if (r >= 0)
		r = take_field(parser, FIELD_MINUTE);
	if (r < 0)
		return r;
	if (take(parser, ":"))
		return take_field(parser, FIELD_SECOND);
	set_field(parser, FIELD_SECOND, 0);
	return 0;
}

/* Whether the next word looks like a date: it has a '-' or '~' before any ':'. */
static bool is_date(const struct parser *parser)
{
	for (size_t i = 0; i < parser->text.len && parser->text.data[i] != ' '; i++) {
		if (parser->text.data[i] == ':')
			return false;
		if (parser->text.data[i] == '-' || parser->text.data[i] == '~')
			return true;
	}
	return false;
}

static const char *shorthand(struct slice text)
{
	static const char *const words[][2] = {
		{"minutely", "*-*-* *:*:00"},
		{"hourly", "*-*-* *:00:00"},
		{"daily", "*-*-* 00:00:00"},
		{"monthly", "*-*-01 00:00:00"},
		{"weekly", "Mon *-*-* 00:00:00"},
		{"yearly", "*-01-01 00:00:00"},
		{"annually", "*-01-01 00:00:00"},
		{"quarterly", "*-01,04,07,10-01 00:00:00"},
		{"semiannually", "*-01,07-01 00:00:00"},
		{"biannually", "*-01,07-01 00:00:00"},
		{"semi-annually", "*-01,07-01 00:00:00"},
		{"bi-annually", "*-01,07-01 00:00:00"},
		{"anually", "*-01-01 00:00:00"},
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strlen(words[i][0]) == text.len && strncasecmp(words[i][0], text.data, text.len) == 0)
			return words[i][1];
	return NULL;
}

/* " UTC" or " Area/City" at the end. */
static int take_zone(struct parser *parser)
{
	const char *blank = parser->text.len ? memrchr(parser->text.data, ' ', parser->text.len) : NULL;
	struct slice word;

	word = blank ? slice_make(blank + 1, parser->text.len - (size_t)(blank + 1 - parser->text.data))
		     : parser->text;
	if (word.len == 3 && strncasecmp(word.data, "UTC", 3) == 0) {
		parser->calendar->utc = true;
	} else if (memchr(word.data, '/', word.len) && word.data[0] >= 'A' && word.data[0] <= 'Z') {
		_cleanup_free_ char *path = mem_printf(
			"/usr/share/zoneinfo/%.*s", (int)MIN(word.len, (size_t)ZONE_MAX), word.data);

		if (word.len >= ZONE_MAX || memchr(word.data, '.', word.len) || access(path, R_OK) < 0)
			return fail(parser, -EINVAL, "no known time zone");
		memcpy(parser->calendar->zone, word.data, word.len);
	} else {
		return 0;
	}
	parser->text = text_trim(slice_make(parser->text.data, parser->text.len - word.len));
	return 0;
}

static int take_all(struct parser *parser)
{
	const char *whole;
	int r = take_zone(parser);

	whole = shorthand(parser->text);
	if (whole)
		parser->text = slice_str(whole);
	if (r >= 0 && !parser->text.len)
		return fail(parser, -EINVAL, "a calendar event is missing");
	if (r >= 0)
		r = take_weekdays(parser);
	parser->text = text_trim(parser->text);
	if (r >= 0 && is_date(parser))
		r = take_date(parser);
	if (r < 0)
		return r;
	parser->text = text_trim(parser->text);
	if (parser->text.len)
		r = take_time(parser);
	else
		for (enum field_kind kind = FIELD_HOUR; kind < FIELD_MAX; kind++)
			set_field(parser, kind, 0);
	if (r >= 0 && parser->text.len)
		r = fail(parser, -EINVAL, "no calendar event");
	return r;
}

static int take_instant(struct parser *parser)
{
	uint64_t seconds;
	struct tm tm;
	time_t time;

	skip(parser, 1);
	if (text_to_u64(parser->text, &seconds) < 0 || seconds > 7258118399) /* the end of 2199 */
		return fail(parser, -EINVAL, "@ takes seconds since 1970");
	time = (time_t)seconds;
	(void)gmtime_r(&time, &tm);
	parser->calendar->utc = true;
	parser->calendar->weekdays = DAYS_ALL;
	set_field(parser, FIELD_YEAR, tm.tm_year + 1900);
	set_field(parser, FIELD_MONTH, tm.tm_mon + 1);
	set_field(parser, FIELD_DAY, tm.tm_mday);
	set_field(parser, FIELD_HOUR, tm.tm_hour);
	set_field(parser, FIELD_MINUTE, tm.tm_min);
	set_field(parser, FIELD_SECOND, (int64_t)tm.tm_sec * US_PER_S);
	return 0;
}

int calendar_parse(struct slice text, struct calendar **ret, struct buf *reterr)
{
	_cleanup_(calendar_freep) struct calendar *calendar = mem_new(struct calendar);
	struct parser parser = {.text = text_trim(text), .calendar = calendar, .reterr = reterr};
	int r = peek(&parser) == '@' ? take_instant(&parser) : take_all(&parser);

	if (r < 0)
		return r;
	*ret = take_ptr(calendar);
	return 0;
}

/* ---- the next time ---- */

/* The least value of the field that is at least `from`; -1: none. */
static int64_t least(const struct field *field, enum field_kind kind, int64_t from)
{
	int64_t found = -1;

	if (!field->count) {
		found = MAX(from, field_min[kind]);
		if (kind == FIELD_SECOND)
			found = (found + US_PER_S - 1) / US_PER_S * US_PER_S;
		return found <= field_max[kind] ? found : -1;
	}
	for (size_t i = 0; i < field->count; i++) {
		const struct item *item = &field->items[i];
		int64_t step = item->repeat ? item->repeat : kind == FIELD_SECOND ? US_PER_S : 1;
		int64_t value = item->start;

		if (from > value)
			value += (from - value + step - 1) / step * step;
		if (value <= item->stop && (found < 0 || value < found))
			found = value;
	}
	return found;
}

static bool has(const struct field *field, enum field_kind kind, int64_t value)
{
	return least(field, kind, value) == value;
}

static int days_in(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

/* 0: Monday (Zeller's congruence). */
static int weekday(int year, int month, int day)
{
	int m = month < 3 ? month + 12 : month, y = month < 3 ? year - 1 : year;

	return (day + 13 * (m + 1) / 5 + y + y / 4 - y / 100 + y / 400 + 5) % 7;
}

static bool is_from_end(const struct field *field, int day, int days)
{
	for (size_t i = 0; i < field->count; i++) {
		const struct item *item = &field->items[i];
		int64_t first = days - item->stop + 1, last = days - item->start + 1;

		if (day >= first && day <= last && (day - first) % MAX(item->repeat, (int64_t)1) == 0)
			return true;
	}
	return !field->count;
}

static bool is_day(const struct calendar *calendar, int year, int month, int day)
{
	const struct field *days = &calendar->fields[FIELD_DAY];

	return (calendar->weekdays & (1u << weekday(year, month, day))) &&
	       (calendar->from_end ? is_from_end(days, day, days_in(year, month))
				   : has(days, FIELD_DAY, day));
}

/* The time of that local or universal date; false: there is no such time. */
static bool to_time(const struct calendar *calendar, struct tm *tm, time_t *ret)
{
	struct tm asked = *tm;

	tm->tm_isdst = -1;
	*ret = calendar->utc ? timegm(tm) : mktime(tm);
	return tm->tm_hour == asked.tm_hour && tm->tm_min == asked.tm_min && tm->tm_sec == asked.tm_sec &&
	       tm->tm_mday == asked.tm_mday;
}

/* The first time on that day after `after_us`. */
static bool on_day(const struct calendar *calendar, const struct tm *day, int64_t after_us, int64_t *ret_us)
{
	const struct field *hours = &calendar->fields[FIELD_HOUR], *minutes = &calendar->fields[FIELD_MINUTE],
			   *seconds = &calendar->fields[FIELD_SECOND];

	for (int64_t h = least(hours, FIELD_HOUR, 0); h >= 0; h = least(hours, FIELD_HOUR, h + 1)) {
		for (int64_t m = least(minutes, FIELD_MINUTE, 0); m >= 0;
			m = least(minutes, FIELD_MINUTE, m + 1)) {
			struct tm tm = *day;
			int64_t begin_us, us;
			time_t time;

			tm.tm_hour = (int)h;
			tm.tm_min = (int)m;
			tm.tm_sec = 0;
			if (!to_time(calendar, &tm, &time))
				continue;
			begin_us = (int64_t)time * US_PER_S;
			us = least(seconds, FIELD_SECOND, MAX(after_us + 1 - begin_us, (int64_t)0));
			if (us >= 0) {
				*ret_us = begin_us + us;
				return true;
			}
		}
	}
	return false;
}

static int find_next(const struct calendar *calendar, int64_t after_us, int64_t *ret_us)
{
	time_t after = (time_t)(after_us / US_PER_S);
	struct tm begin;

	if (calendar->utc)
		(void)gmtime_r(&after, &begin);
	else
		(void)localtime_r(&after, &begin);
	for (int year = begin.tm_year + 1900; year <= YEAR_MAX; year++) {
		bool first_year = year == begin.tm_year + 1900;

		if (!has(&calendar->fields[FIELD_YEAR], FIELD_YEAR, year))
			continue;
		for (int month = first_year ? begin.tm_mon + 1 : 1; month <= 12; month++) {
			bool first_month = first_year && month == begin.tm_mon + 1;

			if (!has(&calendar->fields[FIELD_MONTH], FIELD_MONTH, month))
				continue;
			for (int day = first_month ? begin.tm_mday : 1; day <= days_in(year, month); day++) {
				struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};

				if (is_day(calendar, year, month, day) &&
					on_day(calendar, &tm, after_us, ret_us))
					return 0;
			}
		}
	}
	return -ENOENT;
}

int calendar_next(const struct calendar *calendar, int64_t after_us, int64_t *ret_us)
{
	const char *before = calendar->zone[0] ? getenv("TZ") : NULL;
	_cleanup_free_ char *kept = before ? mem_strdup(before) : NULL;
	int r;

	if (calendar->zone[0]) {
		_cleanup_free_ char *zone = mem_printf(":%s", calendar->zone);

		(void)setenv("TZ", zone, 1);
		tzset();
	}
	r = find_next(calendar, after_us, ret_us);
	if (calendar->zone[0]) {
		if (kept)
			(void)setenv("TZ", kept, 1);
		else
			(void)unsetenv("TZ");
		tzset();
	}
	return r;
}
