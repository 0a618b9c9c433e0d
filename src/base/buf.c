/* Growth doubles up to the ceiling; the block always has one byte more than cap says, for the NUL. */
#include "base/buf.h"
#include "base/memory.h"
#include "base/text.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void buf_init(struct buf *buf, size_t max_bytes)
{
	*buf = BUF_INIT(max_bytes);
}

void buf_done(struct buf *buf)
{
	free(buf->data);
	*buf = BUF_INIT(buf->max);
}

void buf_clear(struct buf *buf)
{
	buf->len = 0;
	buf->failed = false;
	if (buf->data)
		buf->data[0] = '\0';
}

char *buf_take(struct buf *buf, size_t *ret_len)
{
	char *data = buf->data ? buf->data : mem_strdup("");

	if (ret_len)
		*ret_len = buf->len;
	*buf = BUF_INIT(buf->max);
	return data;
}

int buf_error(const struct buf *buf)
{
	return buf->failed ? -ENOBUFS : 0;
}

const char *buf_text(const struct buf *buf)
{
	return buf->data ? buf->data : "";
}

struct slice buf_slice(const struct buf *buf)
{
	return slice_make(buf_text(buf), buf->len);
}

char *buf_grow(struct buf *buf, size_t len)
{
	size_t want, cap;

	if (buf->failed || __builtin_add_overflow(buf->len, len, &want) || (buf->max && want > buf->max) ||
		want > SIZE_MAX / 4) {
		buf->failed = true;
		return NULL;
	}
	if (!buf->data || want > buf->cap) {
		cap = MAX(buf->cap * 2, (size_t)63);
		if (buf->max)
			cap = MIN(cap, buf->max);
		cap = MAX(cap, want);
		buf->data = mem_realloc(buf->data, cap + 1);
		buf->cap = cap;
		buf->data[buf->len] = '\0';
	}
	return buf->data + buf->len;
}

void buf_add_fill(struct buf *buf, char c, size_t count)
{
	char *at = buf_reserve(buf, count);

	if (!at)
		return;
	memset(at, c, count);
	buf_commit(buf, count);
}

void buf_add_u64(struct buf *buf, uint64_t value)
{
	char digits[TEXT_U64_BYTES];

	buf_add_slice(buf, text_from_u64(value, digits));
}

void buf_add_i64(struct buf *buf, int64_t value)
{
	if (value < 0)
		buf_add_char(buf, '-');
	buf_add_u64(buf, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args, again;
	char *at;
	int len;

	va_start(args, format);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	assert(len >= 0);
	at = buf_reserve(buf, (size_t)len);
	if (at) {
		(void)vsnprintf(at, (size_t)len + 1, format, again);
		buf_commit(buf, (size_t)len);
	}
	va_end(again);
}

void buf_truncate(struct buf *buf, size_t len)
{
	assert(len <= buf->len);
	buf->len = len;
	if (buf->data)
		buf->data[len] = '\0';
}

void buf_consume(struct buf *buf, size_t len)
{
	assert(len <= buf->len);
	if (!len)
		return;
	memmove(buf->data, buf->data + len, buf->len - len);
	buf_truncate(buf, buf->len - len);
}
