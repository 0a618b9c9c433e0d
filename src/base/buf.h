/* The one growable byte buffer. Each use names a ceiling; what would grow past it sets the buffer's error and
 * adds nothing more, so that a writer may add many pieces and check once at the end. One owner, one thread.
 */
#pragma once
#include "base/macros.h"
#include "base/slice.h"

struct buf {
	char *data; /* owned; NUL-terminated whenever it is not NULL */
	size_t len; /* without the NUL */
	size_t cap;
	size_t max;  /* ceiling of len in bytes; 0: no ceiling (for what is bounded elsewhere) */
	bool failed; /* the ceiling was hit: contents are incomplete */
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})

void buf_init(struct buf *buf, size_t max_bytes);
void buf_done(struct buf *buf); /* frees; the buffer can be used again with the same ceiling */
#define _cleanup_buf_ _cleanup_(buf_done)
void buf_clear(struct buf *buf);		  /* empties, keeps the memory, clears the error */
char *buf_take(struct buf *buf, size_t *ret_len); /* hands over the block (never NULL); ret_len may be NULL */
int buf_error(const struct buf *buf) _must_check_; /* 0, or -ENOBUFS when the ceiling was hit */
const char *buf_text(const struct buf *buf);	   /* contents as a C string, "" when empty */
struct slice buf_slice(const struct buf *buf);

/* Makes room for `len` more bytes and answers where they go, or NULL when the ceiling is hit; buf_commit()
 * adds them. Every answer and every record is put together of small pieces: what fits is added in line. */
char *buf_grow(struct buf *buf, size_t len); /* what buf_reserve() does when there is no room yet */
static inline char *buf_reserve(struct buf *buf, size_t len)
{
	if (likely(buf->data && len <= buf->cap - buf->len && !buf->failed))
		return buf->data + buf->len;
	return buf_grow(buf, len);
}
static inline void buf_commit(struct buf *buf, size_t len)
{
	assert(buf->len + len <= buf->cap);
	buf->len += len;
	buf->data[buf->len] = '\0';
}
static inline void buf_add(struct buf *buf, const void *data, size_t len)
{
	char *at = buf_reserve(buf, len);

	if (unlikely(!at))
		return;
	if (len)
		memcpy(at, data, len);
	buf_commit(buf, len);
}
static inline void buf_add_slice(struct buf *buf, struct slice slice)
{
	buf_add(buf, slice.data, slice.len);
}
static inline void buf_add_str(struct buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text));
}
static inline void buf_add_char(struct buf *buf, char c)
{
	buf_add(buf, &c, 1);
}
void buf_add_fill(struct buf *buf, char c, size_t count);
void buf_add_u64(struct buf *buf, uint64_t value); /* decimal text */
void buf_add_i64(struct buf *buf, int64_t value);
void buf_printf(struct buf *buf, const char *format, ...) _printf_(2, 3);
void buf_truncate(struct buf *buf, size_t len); /* len at most buf->len */
void buf_consume(struct buf *buf, size_t len);	/* drops the first bytes */
