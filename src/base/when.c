/* One cursor over the text; each form either uses it up or is not the one. */
#include "base/when.h"
#include "base/text.h"
#include <errno.h>
#include <time.h>

#define US_PER_S INT64_C(1000000)
#define S_PER_DAY INT64_C(86400)
/* Beyond these years nothing was logged, and sums of microseconds stay far from overflowing. */
#define YEAR_MIN 1970
#define YEAR_MAX 9999
#define WHEN_MAX_US (INT64_C(253402300799) * US_PER_S)

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char peek(struct slice text)
{
	return text.len ? text.data[0] : '\0';
}

static void skip(struct slice *text, size_t len)
{
	*text = slice_make(text->data + len, text->len - len);
}

static void skip_blanks(struct slice *text)
{
	while (peek(*text) == ' ' || peek(*text) == '\t')
		skip(text, 1);
}

static bool take_char(struct slice *text, char c)
{
	if (peek(*text) != c)
		return false;
	skip(text, 1);
	return true;
}

/* Up to `digits_max` digits, at least `digits_min`. */
static bool take_number(struct slice *text, size_t digits_min, size_t digits_max, int64_t *ret)
{
	size_t len = 0;
	int64_t value = 0;

	while (len < text->len && len < digits_max && is_digit(text->data[len]))
		value = value * 10 + (text->data[len++] - '0');
	if (len < digits_min)
		return false;
	skip(text, len);
	*ret = value;
	return true;
}

/* ".25" of a unit of so many microseconds; nothing when there is no point. */
static bool take_fraction(struct slice *text, int64_t unit_us, int64_t *ret_us)
{
	double part = 0, scale = 0.1;
	size_t digits = 0;

	*ret_us = 0;
	if (!take_char(text, '.'))
		return true;
	for (; is_digit(peek(*text)); digits++, scale /= 10) {
		part += scale * (peek(*text) - '0');
		skip(text, 1);
	}
	*ret_us = (int64_t)(part * (double)unit_us + 0.5);
	return digits > 0;
}

/* ---- Spans ---- */

static const struct {
	const char *name;
	int64_t us;
} units[] = {
	{"", US_PER_S},
	{"s", US_PER_S},
	{"sec", US_PER_S},
	{"second", US_PER_S},
	{"seconds", US_PER_S},
	{"m", 60 * US_PER_S},
	{"min", 60 * US_PER_S},
	{"minute", 60 * US_PER_S},
	{"minutes", 60 * US_PER_S},
	{"h", 3600 * US_PER_S},
	{"hr", 3600 * US_PER_S},
	{"hour", 3600 * US_PER_S},
	{"hours", 3600 * US_PER_S},
	{"d", S_PER_DAY *US_PER_S},
	{"day", S_PER_DAY *US_PER_S},
	{"days", S_PER_DAY *US_PER_S},
	{"w", 7 * S_PER_DAY *US_PER_S},
	{"week", 7 * S_PER_DAY *US_PER_S},
	{"weeks", 7 * S_PER_DAY *US_PER_S},
	{"M", 2629800 * US_PER_S},
	{"month", 2629800 * US_PER_S},
	{"months", 2629800 * US_PER_S},
	{"y", 31557600 * US_PER_S},
	{"year", 31557600 * US_PER_S},
	{"years", 31557600 * US_PER_S},
	{"ms", 1000},
	{"msec", 1000},
	{"us", 1},
	{"usec", 1},
	{"\xc2\xb5s", 1},
	{"\xce\xbcs", 1},
};

static int take_unit(struct slice *text, int64_t *ret_us)
{
	size_t len = 0;

	while (len < text->len && !is_digit(text->data[len]) && text->data[len] != ' ' &&
		text->data[len] != '\t')
		len++;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (!slice_is(slice_make(text->data, len), units[i].name))
			continue;
		skip(text, len);
		*ret_us = units[i].us;
		return 0;
	}
	return -EINVAL;
}

/* "1.5h", and the blanks behind it. */
static int take_span(struct slice *text, int64_t *ret_us)
{
	struct slice digits = *text, fraction;
	uint64_t whole = 0;
	int64_t unit, part;

	while (is_digit(peek(*text)))
		skip(text, 1);
	digits.len -= text->len;
	if (digits.len && text_to_u64(digits, &whole) < 0)
		return -ERANGE;
	/* The fraction is one of the unit, which stands behind it. */
	fraction = *text;
	if (!take_fraction(text, 1, &part) || (!digits.len && fraction.len == text->len))
		return -EINVAL;
	skip_blanks(text);
	if (take_unit(text, &unit) < 0)
		return -EINVAL;
	(void)take_fraction(&fraction, unit, &part);
	if (whole > INT64_MAX || __builtin_mul_overflow((int64_t)whole, unit, ret_us) ||
		__builtin_add_overflow(*ret_us, part, ret_us))
		return -ERANGE;
	skip_blanks(text);
	return 0;
}

int when_parse_span(struct slice text, int64_t *ret_us)
{
	int64_t total = 0, one;
	int r;

	text = text_trim(text);
	if (!text.len)
		return -EINVAL;
	while (text.len) {
		r = take_span(&text, &one);
		if (r < 0)
			return r;
		if (__builtin_add_overflow(total, one, &total))
			return -ERANGE;
	}
	*ret_us = total;
	return 0;
}

/* ---- Points ---- */

static bool parse_relative(struct slice text, int64_t now_us, int64_t *ret_us)
{
	static const struct slice ago = SLICE_LITERAL(" ago");
	int64_t span;
	int sign = peek(text) == '-' ? -1 : 1;

	if (!take_char(&text, '-') && !take_char(&text, '+')) {
		if (!slice_ends_with(text, ago))
			return false;
		text.len -= ago.len;
		sign = -1;
	}
	if (when_parse_span(text, &span) < 0 || span > WHEN_MAX_US)
		return false;
	*ret_us = now_us + sign * span;
	return true;
}

static bool parse_unix(struct slice text, int64_t *ret_us)
{
	int64_t seconds, part;

	if (!take_char(&text, '@') || !take_number(&text, 1, 12, &seconds) ||
		!take_fraction(&text, US_PER_S, &part) || text.len)
		return false;
	*ret_us = seconds * US_PER_S + part;
	return *ret_us <= WHEN_MAX_US;
}

static bool take_date(struct slice *text, struct tm *tm)
{
	int64_t year, month, day;

	if (!take_number(text, 4, 4, &year) || !take_char(text, '-') || !take_number(text, 2, 2, &month) ||
		!take_char(text, '-') || !take_number(text, 2, 2, &day) || year < YEAR_MIN ||
		year > YEAR_MAX || month < 1 || month > 12 || day < 1 || day > 31)
		return false;
	tm->tm_year = (int)year - 1900;
	tm->tm_mon = (int)month - 1;
	tm->tm_mday = (int)day;
	return true;
}

static bool take_time(struct slice *text, struct tm *tm, int64_t *ret_part_us)
{
	int64_t hour, minute, second = 0;

	*ret_part_us = 0;
	if (!take_number(text, 2, 2, &hour) || !take_char(text, ':') || !take_number(text, 2, 2, &minute) ||
		hour > 23 || minute > 59)
		return false;
	if (take_char(text, ':') && (!take_number(text, 2, 2, &second) || second > 59 ||
					    !take_fraction(text, US_PER_S, ret_part_us)))
		return false;
	tm->tm_hour = (int)hour;
	tm->tm_min = (int)minute;
	tm->tm_sec = (int)second;
	return true;
}

/* "Z", "+02:00", " UTC", or nothing (local). False: something else. */
static bool take_zone(struct slice *text, bool *ret_local, int64_t *ret_offset_s)
{
	int64_t hours, minutes;
	bool west = peek(*text) == '-';

	*ret_local = false;
	*ret_offset_s = 0;
	if (!text->len) {
		*ret_local = true;
		return true;
	}
	if (slice_is(*text, "Z") || slice_is(*text, "z") || slice_is(*text, " UTC")) {
		skip(text, text->len);
		return true;
	}
	if (!(take_char(text, '+') || take_char(text, '-')) || !take_number(text, 2, 2, &hours) ||
		!take_char(text, ':') || !take_number(text, 2, 2, &minutes) || text->len || hours > 23 ||
		minutes > 59)
		return false;
	*ret_offset_s = (hours * 60 + minutes) * 60 * (west ? -1 : 1);
	return true;
}

static bool is_same_day(const struct tm *a, const struct tm *b)
{
	return a->tm_year == b->tm_year && a->tm_mon == b->tm_mon && a->tm_mday == b->tm_mday;
}

/* The 30th of February is none; a local time that the clocks leap over is taken as mktime() takes it. */
static bool to_us(struct tm tm, bool local, int64_t *ret_us)
{
	struct tm given = tm;
	time_t seconds;

	tm.tm_isdst = -1;
	seconds = local ? mktime(&tm) : timegm(&tm);
	if (!is_same_day(&tm, &given))
		return false;
	*ret_us = (int64_t)seconds * US_PER_S;
	return true;
}

static bool parse_calendar(struct slice text, const struct tm *today, int64_t *ret_us)
{
	struct tm tm = {.tm_year = today->tm_year, .tm_mon = today->tm_mon, .tm_mday = today->tm_mday};
	int64_t part = 0, offset = 0;
	bool local = true, dated = text.len > 4 && text.data[4] == '-';

	if (dated && !take_date(&text, &tm))
		return false;
	if (dated && text.len && !slice_is(text, " UTC") && !take_char(&text, 'T') && !take_char(&text, ' '))
		return false;
	if ((!dated || (text.len && !slice_is(text, " UTC"))) && !take_time(&text, &tm, &part))
		return false;
	if (!take_zone(&text, &local, &offset) || !to_us(tm, local, ret_us))
		return false;
	*ret_us += part - offset * US_PER_S;
	return true;
}

static bool parse_word(struct slice text, int64_t now_us, const struct tm *today, int64_t *ret_us)
{
	static const struct {
		const char *name;
		int days;
	} days[] = {{"yesterday", -1}, {"today", 0}, {"tomorrow", 1}};

	if (slice_is(text, "now")) {
		*ret_us = now_us;
		return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(days); i++) {
		struct tm tm = {.tm_year = today->tm_year,
			.tm_mon = today->tm_mon,
			.tm_mday = today->tm_mday + days[i].days,
			.tm_isdst = -1};

		if (!slice_is(text, days[i].name))
			continue;
		*ret_us = (int64_t)mktime(&tm) * US_PER_S;
		return true;
	}
	return false;
}

int when_parse(struct slice text, int64_t now_us, int64_t *ret_us, struct buf *reterr)
{
	struct slice trimmed = text_trim(text);
	time_t now = (time_t)(now_us / US_PER_S);
	struct tm today;
	int64_t us = 0;

	if (localtime_r(&now, &today) &&
		(parse_word(trimmed, now_us, &today, &us) || parse_unix(trimmed, &us) ||
			parse_relative(trimmed, now_us, &us) || parse_calendar(trimmed, &today, &us))) {
		*ret_us = us;
		return 0;
	}
	if (reterr) {
		buf_add_str(reterr, "\"");
		buf_add_slice(reterr, slice_make(text.data, MIN(text.len, (size_t)100)));
		buf_add_str(reterr, "\" is no time: \"2026-11-22 08:05:31\", \"2026-11-22\", \"08:05\", "
				    "\"today\", \"yesterday\", \"-1h\", \"2h ago\" or \"@1795334731\"");
	}
	return -EINVAL;
}
