/* UTF-8 in Go's manner, on top of base/text's decoder. */
#include "unit/runes.h"
#include "base/text.h"

static size_t sequence_len(unsigned char lead)
{
	if (lead >= 0xC2 && lead <= 0xDF)
		return 2;
	if (lead >= 0xE0 && lead <= 0xEF)
		return 3;
	if (lead >= 0xF0 && lead <= 0xF4)
		return 4;
	return 1;
}

bool rune_is_whole(struct slice text)
{
	size_t need = text.len ? sequence_len((unsigned char)text.data[0]) : 1;

	if (text.len >= need)
		return true;
	/* What cannot become a sequence with more bytes is as good as whole. */
	for (size_t i = 1; i < text.len; i++)
		if (((unsigned char)text.data[i] & 0xC0) != 0x80)
			return true;
	return false;
}

size_t rune_decode(struct slice text, uint32_t *ret_rune)
{
	unsigned char first = (unsigned char)text.data[0];
	size_t size;

	if (first < 0x80) {
		*ret_rune = first;
		return 1;
	}
	size = text_utf8_decode(text, ret_rune);
	if (size)
		return size;
	*ret_rune = RUNE_ERROR;
	return 1;
}

void rune_add(struct buf *out, uint32_t rune)
{
	if (rune < 0x80) {
		buf_add_char(out, (char)rune);
	} else if (rune < 0x800) {
		buf_add_char(out, (char)(0xC0 | rune >> 6));
		buf_add_char(out, (char)(0x80 | (rune & 0x3F)));
	} else if (rune < 0x10000) {
		buf_add_char(out, (char)(0xE0 | rune >> 12));
		buf_add_char(out, (char)(0x80 | (rune >> 6 & 0x3F)));
		buf_add_char(out, (char)(0x80 | (rune & 0x3F)));
	} else {
		buf_add_char(out, (char)(0xF0 | rune >> 18));
		buf_add_char(out, (char)(0x80 | (rune >> 12 & 0x3F)));
		buf_add_char(out, (char)(0x80 | (rune >> 6 & 0x3F)));
		buf_add_char(out, (char)(0x80 | (rune & 0x3F)));
	}
}

bool rune_is_space(uint32_t rune)
{
	return (rune >= '\t' && rune <= '\r') || rune == ' ' || rune == 0x85 || rune == 0xA0 ||
	       rune == 0x1680 || (rune >= 0x2000 && rune <= 0x200A) || rune == 0x2028 || rune == 0x2029 ||
	       rune == 0x202F || rune == 0x205F || rune == 0x3000;
}

struct slice rune_trim(struct slice text)
{
	uint32_t rune;

	while (text.len) {
		size_t size = rune_decode(text, &rune);

		if (!rune_is_space(rune))
			break;
		text.data += size;
		text.len -= size;
	}
	while (text.len) {
		size_t back = 1;

		while (back < 4 && back < text.len &&
			((unsigned char)text.data[text.len - back] & 0xC0) == 0x80)
			back++;
		if (rune_decode(slice_make(text.data + text.len - back, back), &rune) != back)
			break; /* the last byte is no end of a sequence, and so no space */
		if (!rune_is_space(rune))
			break;
		text.len -= back;
	}
	return text;
}

void rune_add_quoted(struct buf *out, uint32_t rune)
{
	static const char shorts[] = {'a', 'b', 't', 'n', 'v', 'f', 'r'};

	buf_add_char(out, '\'');
	if (rune == '\'' || rune == '\\')
		buf_printf(out, "\\%c", (char)rune);
	else if (rune >= 7 && rune <= 13)
		buf_printf(out, "\\%c", shorts[rune - 7]);
	else if (rune < ' ' || rune == 0x7F)
		buf_printf(out, "\\x%02x", rune);
	else if ((rune >= 0x80 && rune <= 0xA0) || rune == 0xAD || (rune_is_space(rune) && rune != ' ') ||
		 (rune >= 0x200B && rune <= 0x200F) || (rune >= 0x202A && rune <= 0x202E) ||
		 (rune >= 0xD800 && rune <= 0xF8FF) || rune == 0xFEFF)
		buf_printf(out, "\\u%04x", rune);
	else
		rune_add(out, rune);
	buf_add_char(out, '\'');
}
