/* Everything here walks its input once, byte by byte; only the Go rules (durations, quoting, path.Match) need
 * more than a few lines, and each of those is a small function per piece of the grammar. */
#include "base/text.h"
#include "base/time.h"
#include <errno.h>

int text_to_u64(struct slice text, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!text.len)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] < '0' || text.data[i] > '9')
			return -EINVAL;
	for (size_t i = 0; i < text.len; i++)
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value))
			return -ERANGE;
	*ret_value = value;
	return 0;
}

int text_to_i64(struct slice text, int64_t *ret_value)
{
	bool negative = text.len && text.data[0] == '-';
	uint64_t value;
	int r;

	if (text.len && (text.data[0] == '-' || text.data[0] == '+'))
		text = slice_make(text.data + 1, text.len - 1);
	r = text_to_u64(text, &value);
	if (r < 0)
		return r;
	if (value > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	*ret_value = (int64_t)(negative ? 0 - value : value);
	return 0;
}

int text_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int text_hex_to_u64(struct slice text, uint64_t *ret_value)
{
	uint64_t value = 0;
	bool over = false;

	if (!text.len)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		int digit = text_hex_digit(text.data[i]);

		if (digit < 0)
			return -EINVAL;
		over = over || value >> 60;
		value = value << 4 | (uint64_t)digit;
	}
	if (over)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

int text_to_bool(struct slice text, bool *ret_value)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (slice_is(text, yes[i]) || slice_is(text, no[i])) {
			*ret_value = slice_is(text, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

/* Takes the digits at *at; -EINVAL past 2^63. Answers how many there were. */
static int take_digits(struct slice text, size_t *at, uint64_t *ret_value)
{
	uint64_t value = 0;
	size_t from = *at;

	for (; *at < text.len && text.data[*at] >= '0' && text.data[*at] <= '9'; (*at)++) {
		if (value > (UINT64_C(1) << 63) / 10)
			return -EINVAL;
		value = value * 10 + (uint64_t)(text.data[*at] - '0');
		if (value > UINT64_C(1) << 63)
			return -EINVAL;
	}
	*ret_value = value;
	return (int)MIN(*at - from, (size_t)INT32_MAX);
}

/* The fraction's digits that still count, as a numerator and its power of ten; the rest is read and dropped.
 */
static size_t take_fraction(struct slice text, size_t *at, uint64_t *ret_value, double *ret_scale)
{
	uint64_t value = 0;
	double scale = 1;
	size_t from = *at;
	bool full = false;

	for (; *at < text.len && text.data[*at] >= '0' && text.data[*at] <= '9'; (*at)++) {
		uint64_t digit = (uint64_t)(text.data[*at] - '0');

		if (full || value > (UINT64_C(1) << 63) / 10 - 1) {
			full = true;
			continue;
		}
		value = value * 10 + digit;
		scale *= 10;
	}
	*ret_value = value;
	*ret_scale = scale;
	return *at - from;
}

static uint64_t duration_unit(struct slice unit)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000}, {"ms", 1000000},
		{"s", NS_PER_S}, {"m", 60 * NS_PER_S}, {"h", 3600 * NS_PER_S}};

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (slice_is(unit, units[i].name))
			return units[i].ns;
	return 0;
}

int text_to_duration(struct slice text, int64_t *ret_ns)
{
	const uint64_t limit = UINT64_C(1) << 63;
	bool negative = text.len && text.data[0] == '-';
	uint64_t total = 0;
	size_t at = text.len && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0;

	if (text.len - at == 1 && text.data[at] == '0') {
		*ret_ns = 0;
		return 0;
	}
	if (at == text.len)
		return -EINVAL;
	while (at < text.len) {
		uint64_t whole, fraction = 0, unit_ns, part;
		double scale = 1;
		size_t unit_at, fraction_len = 0;
		int whole_len = take_digits(text, &at, &whole);

		if (whole_len < 0)
			return whole_len;
		if (at < text.len && text.data[at] == '.') {
			at++;
			fraction_len = take_fraction(text, &at, &fraction, &scale);
		}
		if (!whole_len && !fraction_len)
			return -EINVAL;
		for (unit_at = at; at < text.len && text.data[at] != '.' &&
				   !(text.data[at] >= '0' && text.data[at] <= '9');)
			at++;
		unit_ns = duration_unit(slice_make(text.data + unit_at, at - unit_at));
		if (!unit_ns || whole > limit / unit_ns)
			return -EINVAL;
		part = whole * unit_ns;
		if (fraction)
			part += (uint64_t)((double)fraction * ((double)unit_ns / scale));
		if (part > limit || total + part > limit)
			return -EINVAL;
		total += part;
	}
	if (total == limit && !negative)
		return -EINVAL;
	*ret_ns = (int64_t)(negative ? 0 - total : total);
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct slice text_trim(struct slice text)
{
	while (text.len && is_blank(text.data[0]))
		text = slice_make(text.data + 1, text.len - 1);
	while (text.len && is_blank(text.data[text.len - 1]))
		text.len--;
	return text;
}

bool text_cut(struct slice text, char separator, struct slice *ret_before, struct slice *ret_after)
{
	const char *at = text.len ? memchr(text.data, separator, text.len) : NULL;
	size_t before_len = at ? (size_t)(at - text.data) : text.len;

	*ret_before = slice_make(text.data, before_len);
	*ret_after = at ? slice_make(at + 1, text.len - before_len - 1) : slice_make("", 0);
	return at != NULL;
}

/* One character of the name or pattern: a bad byte counts as U+FFFD of length 1, as in Go. */
static size_t take_rune(struct slice text, size_t at, uint32_t *ret_rune)
{
	size_t len = text_utf8_decode(slice_make(text.data + at, text.len - at), ret_rune);

	if (!len)
		*ret_rune = 0xfffd;
	return len ? len : 1;
}

/* A possibly escaped character inside a class. */
static int class_rune(struct slice pattern, size_t *at, uint32_t *ret_rune)
{
	size_t len;

	if (*at >= pattern.len || pattern.data[*at] == '-' || pattern.data[*at] == ']')
		return -EINVAL;
	if (pattern.data[*at] == '\\' && ++*at >= pattern.len)
		return -EINVAL;
	len = text_utf8_decode(slice_make(pattern.data + *at, pattern.len - *at), ret_rune);
	if (!len)
		return -EINVAL;
	*at += len;
	return *at >= pattern.len ? -EINVAL : 0; /* a class must still be closed */
}

/* At '[' of the pattern: 1 when `rune` is in the class, 0 when not; *at moves behind ']'. */
static int class_match(struct slice pattern, size_t *at, uint32_t rune)
{
	bool negated = false, in = false;
	size_t ranges = 0;

	++*at;
	if (*at < pattern.len && pattern.data[*at] == '^') {
		negated = true;
		++*at;
	}
	for (;; ranges++) {
		uint32_t low, high;

		if (*at < pattern.len && pattern.data[*at] == ']' && ranges) {
			++*at;
			return in != negated;
		}
		if (class_rune(pattern, at, &low) < 0)
			return -EINVAL;
		high = low;
		if (pattern.data[*at] == '-') {
			++*at;
			if (class_rune(pattern, at, &high) < 0)
				return -EINVAL;
		}
		in = in || (low <= rune && rune <= high);
	}
}

/* Matches `chunk` (no '*' outside classes) at the start of the name: 1 and the length used, 0, or -EINVAL.
 * The chunk is walked to its end even after a mismatch, since a bad pattern is always told. */
static int chunk_match(struct slice chunk, struct slice name, size_t *ret_used)
{
	size_t at = 0, used = 0;
	bool failed = false;

	while (at < chunk.len) {
		uint32_t rune = 0;

		failed = failed || used >= name.len;
		if (chunk.data[at] == '[') {
			size_t len = failed ? 0 : take_rune(name, used, &rune);
			int r = class_match(chunk, &at, rune);

			if (r < 0)
				return r;
			used += len;
			failed = failed || !r;
			continue;
		}
		if (chunk.data[at] == '?') {
			failed = failed || name.data[used] == '/';
			used += failed ? 0 : take_rune(name, used, &rune);
			at++;
			continue;
		}
		if (chunk.data[at] == '\\' && ++at >= chunk.len)
			return -EINVAL;
		failed = failed || chunk.data[at] != name.data[used];
		used += !failed;
		at++;
	}
	*ret_used = used;
	return !failed;
}

/* The length of the part of `pattern` in front of the next '*' that stands outside a class. */
static size_t chunk_len(struct slice pattern)
{
	bool in_class = false;
	size_t i;

	for (i = 0; i < pattern.len; i++) {
		if (pattern.data[i] == '\\')
			i++;
		else if (pattern.data[i] == '[')
			in_class = true;
		else if (pattern.data[i] == ']')
			in_class = false;
		else if (pattern.data[i] == '*' && !in_class)
			break;
	}
	return MIN(i, pattern.len);
}

static int pattern_check(struct slice pattern)
{
	while (pattern.len) {
		size_t len, unused;
		int r;

		while (pattern.len && pattern.data[0] == '*')
			pattern = slice_make(pattern.data + 1, pattern.len - 1);
		len = chunk_len(pattern);
		r = chunk_match(slice_make(pattern.data, len), slice_make("", 0), &unused);
		if (r < 0)
			return r;
		pattern = slice_make(pattern.data + len, pattern.len - len);
	}
	return 0;
}

int text_path_match(struct slice pattern, struct slice name)
{
	int r = pattern_check(pattern);

	if (r < 0)
		return r;
	while (pattern.len) {
		struct slice chunk;
		bool star = false;
		size_t used, skip = 0;

		for (; pattern.len && pattern.data[0] == '*'; star = true)
			pattern = slice_make(pattern.data + 1, pattern.len - 1);
		chunk = slice_make(pattern.data, chunk_len(pattern));
		pattern = slice_make(pattern.data + chunk.len, pattern.len - chunk.len);
		if (star && !chunk.len)
			return !name.len || !memchr(name.data, '/', name.len);
		for (;; skip++) {
			struct slice rest = slice_make(name.data + skip, name.len - skip);

			/* The last chunk must use up the name; earlier ones take the leftmost match. */
			if (chunk_match(chunk, rest, &used) > 0 && (pattern.len || used == rest.len))
				break;
			if (!star || !rest.len || rest.data[0] == '/')
				return 0;
		}
		name = slice_make(name.data + skip + used, name.len - skip - used);
	}
	return !name.len;
}

void text_add_rfc3339(struct buf *out, int64_t unix_ns)
{
	int64_t seconds = unix_ns / NS_PER_S, fraction = unix_ns % NS_PER_S;
	int64_t days, rest, era, day_of_era, year_of_era, day_of_year, month, year;

	if (fraction < 0) {
		fraction += NS_PER_S;
		seconds--;
	}
	days = seconds / 86400;
	rest = seconds % 86400;
	if (rest < 0) {
		rest += 86400;
		days--;
	}
	/* Days since 0000-03-01: years that begin in March put the leap day at their end. */
	days += 719468;
	era = (days >= 0 ? days : days - 146096) / 146097;
	day_of_era = days - era * 146097;
	year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	month = (5 * day_of_year + 2) / 153;
	year = year_of_era + era * 400 + (month >= 10);
	buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", (int)year, (int)(month < 10 ? month + 3 : month - 9),
		(int)(day_of_year - (153 * month + 2) / 5 + 1), (int)(rest / 3600), (int)(rest / 60 % 60),
		(int)(rest % 60));
	if (fraction) {
		int digits = 9;

		for (; fraction % 10 == 0; digits--)
			fraction /= 10;
		buf_printf(out, ".%0*d", digits, (int)fraction);
	}
	buf_add_char(out, 'Z');
}

void text_add_hex(struct buf *out, const void *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *bytes = data;
	char *at = buf_reserve(out, len * 2);

	if (!at)
		return;
	for (size_t i = 0; i < len; i++) {
		at[i * 2] = digits[bytes[i] >> 4];
		at[i * 2 + 1] = digits[bytes[i] & 15];
	}
	buf_commit(out, len * 2);
}

void text_add_base64(struct buf *out, struct slice data)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < data.len; i += 3) {
		size_t left = MIN(data.len - i, (size_t)3);
		uint32_t bits = 0;

		for (size_t j = 0; j < 3; j++)
			bits = bits << 8 | (j < left ? (unsigned char)data.data[i + j] : 0);
		for (size_t j = 0; j < 4; j++)
			buf_add_char(out, j <= left ? digits[bits >> (18 - 6 * j) & 63] : '=');
	}
}

/* What Go's unicode.IsPrint refuses, in the ranges that text in practice has: controls, separators and blanks
 * other than ' ', invisible marks, surrogates, private use, and what is no character. */
static bool rune_is_printable(uint32_t rune)
{
	static const uint32_t hidden[][2] = {{0x7f, 0xa0}, {0xad, 0xad}, {0x61c, 0x61c}, {0x1680, 0x1680},
		{0x180e, 0x180e}, {0x2000, 0x200f}, {0x2028, 0x202f}, {0x205f, 0x206f}, {0x3000, 0x3000},
		{0xd800, 0xf8ff}, {0xfeff, 0xfeff}, {0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0xe00ff},
		{0xe01f0, 0x10ffff}};

	if (rune < 0x20)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
		if (rune >= hidden[i][0] && rune <= hidden[i][1])
			return false;
	return true;
}

static void add_quoted_rune(struct buf *out, struct slice bytes, uint32_t rune)
{
	static const char controls[] = "\a\b\f\n\r\t\v", letters[] = "abfnrtv";
	const char *control = rune && rune < 0x20 ? strchr(controls, (int)rune) : NULL;

	if (rune == '"' || rune == '\\')
		buf_add_char(out, '\\');
	if (rune_is_printable(rune)) {
		buf_add_slice(out, bytes);
	} else if (control) {
		buf_add_char(out, '\\');
		buf_add_char(out, letters[control - controls]);
	} else if (rune < 0x20 || rune == 0x7f) {
		buf_printf(out, "\\x%02x", rune);
	} else if (rune < 0x10000) {
		buf_printf(out, "\\u%04x", rune);
	} else {
		buf_printf(out, "\\U%08x", rune);
	}
}

void text_add_quoted(struct buf *out, struct slice text)
{
	buf_add_char(out, '"');
	for (size_t at = 0; at < text.len;) {
		uint32_t rune;
		size_t len = text_utf8_decode(slice_make(text.data + at, text.len - at), &rune);

		if (len)
			add_quoted_rune(out, slice_make(text.data + at, len), rune);
		else
			buf_printf(out, "\\x%02x", (unsigned char)text.data[at]);
		at += MAX(len, (size_t)1);
	}
	buf_add_char(out, '"');
}

void text_add_errno(struct buf *out, int error)
{
	char room[128];
	const char *text = strerror_r(error < 0 ? -error : error, room, sizeof(room));
	bool is_word = text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z');

	buf_add_char(out, is_word ? (char)(text[0] | 0x20) : text[0]);
	if (text[0])
		buf_add_str(out, text + 1);
}

size_t text_utf8_decode(struct slice text, uint32_t *ret_code_point)
{
	static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *bytes = (const unsigned char *)text.data;
	uint32_t rune;
	size_t len;

	if (!text.len)
		return 0;
	if (bytes[0] < 0x80) {
		*ret_code_point = bytes[0];
		return 1;
	}
	len = bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
	if (bytes[0] < 0xc2 || bytes[0] > 0xf4 || text.len < len)
		return 0;
	rune = bytes[0] & (0xffu >> (len + 1));
	for (size_t i = 1; i < len; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		rune = rune << 6 | (bytes[i] & 0x3f);
	}
	if (rune < lowest[len] || rune > 0x10ffff || (rune >= 0xd800 && rune <= 0xdfff))
		return 0;
	*ret_code_point = rune;
	return len;
}

enum { NEAREST_MAX_LEN = 63 };

/* Edits (insert, remove, replace, swap neighbours) that lead from a to b. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t rows[3][NEAREST_MAX_LEN + 1];
	size_t *before = rows[0], *last = rows[1], *now = rows[2];

	for (size_t j = 0; j <= b_len; j++)
		last[j] = before[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t *spare = before;

		now[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);

			best = MIN(best, last[j] + 1);
			best = MIN(best, now[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN(best, before[j - 2] + 1);
			now[j] = best;
		}
		before = last;
		last = now;
		now = spare;
	}
	return last[b_len];
}

const char *text_nearest(const char *word, const char *const *words)
{
	size_t word_len = strlen(word), best = word_len / 3 + 1 + 1;
	const char *nearest = NULL;

	if (!word_len || word_len > NEAREST_MAX_LEN)
		return NULL;
	for (; *words; words++) {
		size_t len = strlen(*words), distance;

		if (len > NEAREST_MAX_LEN)
			continue;
		distance = edit_distance(word, word_len, *words, len);
		if (distance < best && distance < MAX(word_len, len)) {
			best = distance;
			nearest = *words;
		}
	}
	return nearest;
}
