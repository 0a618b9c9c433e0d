/* Runs of plain bytes are copied at once; they are found sixteen at a time. */
#include "base/json.h"
#include "base/text.h"

/* A vector of the compiler's: one or two registers on every processor. */
typedef signed char bytes16 __attribute__((vector_size(16)));
union block {
	bytes16 bytes;
	uint64_t words[2];
};

static bool byte_is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

/* How many bytes at the beginning are surely plain; the next one may be as well. */
static size_t plain_run(struct slice text)
{
	size_t at = 0;

	while (text.len - at >= sizeof(union block)) {
		union block block, odd;

		memcpy(&block, text.data + at, sizeof(block));
		/* Signed: what is above 0x7f is below 0x20 too. */
		odd.bytes = (block.bytes < 0x20) | (block.bytes == '"') | (block.bytes == '\\') |
			    (block.bytes == '<') | (block.bytes == '>') | (block.bytes == '&');
		if (odd.words[0] | odd.words[1])
			break;
		at += sizeof(block);
	}
	return at;
}

static void add_escape(struct buf *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	char text[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};

	switch (c) {
	case '"':
	case '\\':
		text[1] = (char)c;
		buf_add(out, text, 2);
		break;
	case '\n':
		buf_add(out, "\\n", 2);
		break;
	case '\r':
		buf_add(out, "\\r", 2);
		break;
	case '\t':
		buf_add(out, "\\t", 2);
		break;
	default:
		buf_add(out, text, sizeof(text));
	}
}

void json_add_string(struct buf *out, struct slice text)
{
	size_t from = 0, at = plain_run(text);

	buf_add_char(out, '"');
	while (at < text.len) {
		unsigned char c = (unsigned char)text.data[at];
		uint32_t code_point;
		size_t len = 1;

		if (likely(byte_is_plain(c))) {
			at++;
			continue;
		}
		if (c >= 0x80) {
			len = text_utf8_decode(slice_make(text.data + at, text.len - at), &code_point);
			if (len && code_point != 0x2028 && code_point != 0x2029) {
				at += len;
				continue;
			}
		}
		buf_add(out, text.data + from, at - from);
		if (c < 0x80)
			add_escape(out, c);
		else if (len)
			buf_add_str(out, code_point == 0x2028 ? "\\u2028" : "\\u2029");
		else
			buf_add_str(out, "\\ufffd");
		at += MAX(len, (size_t)1);
		from = at;
		at += plain_run(slice_make(text.data + at, text.len - at));
	}
	if (at > from)
		buf_add(out, text.data + from, at - from);
	buf_add_char(out, '"');
}
