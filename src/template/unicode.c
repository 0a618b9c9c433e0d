/* Binary searches in the generated tables, and UTF-8 with Go's handling of invalid bytes: each is one U+FFFD.
 */
#include "template/unicode.h"
#include "base/text.h"

static bool range_has(const struct unicode_range *ranges, size_t count, uint32_t rune)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rune > ranges[middle].high)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && rune >= ranges[low].low;
}

bool unicode_is_alphanumeric(uint32_t rune)
{
	return range_has(unicode_alphanumeric, unicode_alphanumeric_count, rune);
}

bool unicode_is_print(uint32_t rune)
{
	return range_has(unicode_printable, unicode_printable_count, rune);
}

static uint32_t case_map(const struct unicode_case *runs, size_t count, uint32_t rune)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rune > runs[middle].high)
			low = middle + 1;
		else
			high = middle;
	}
	/* Runs two apart may interleave with a neighbour's, so the next one is looked at too. */
	for (size_t i = low; i < count && i < low + 2; i++)
		if (rune >= runs[i].low && rune <= runs[i].high &&
			(rune - runs[i].low) % (uint32_t)runs[i].step == 0)
			return (uint32_t)((int64_t)rune + runs[i].delta);
	return rune;
}

uint32_t unicode_to_upper(uint32_t rune)
{
	return case_map(unicode_upper, unicode_upper_count, rune);
}

uint32_t unicode_to_lower(uint32_t rune)
{
	return case_map(unicode_lower, unicode_lower_count, rune);
}

size_t unicode_decode(struct slice text, uint32_t *ret_rune)
{
	size_t len;

	assert(text.len > 0);
	len = text_utf8_decode(text, ret_rune);
	if (len)
		return len;
	*ret_rune = UNICODE_REPLACEMENT;
	return 1;
}

void unicode_add(struct buf *out, uint32_t rune)
{
	if (rune > UNICODE_MAX || (rune >= 0xd800 && rune <= 0xdfff))
		rune = UNICODE_REPLACEMENT;
	if (rune < 0x80) {
		buf_add_char(out, (char)rune);
	} else if (rune < 0x800) {
		buf_add_char(out, (char)(0xc0 | rune >> 6));
		buf_add_char(out, (char)(0x80 | (rune & 0x3f)));
	} else if (rune < 0x10000) {
		buf_add_char(out, (char)(0xe0 | rune >> 12));
		buf_add_char(out, (char)(0x80 | (rune >> 6 & 0x3f)));
		buf_add_char(out, (char)(0x80 | (rune & 0x3f)));
	} else {
		buf_add_char(out, (char)(0xf0 | rune >> 18));
		buf_add_char(out, (char)(0x80 | (rune >> 12 & 0x3f)));
		buf_add_char(out, (char)(0x80 | (rune >> 6 & 0x3f)));
		buf_add_char(out, (char)(0x80 | (rune & 0x3f)));
	}
}

size_t unicode_count(struct slice text)
{
	size_t count = 0;

	while (text.len) {
		uint32_t rune;
		size_t len = unicode_decode(text, &rune);

		text.data += len;
		text.len -= len;
		count++;
	}
	return count;
}
