/* Small text helpers. Pure, any thread, no locale. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

/* The decimal digits of `value`, at the end of `room`. */
enum { TEXT_U64_BYTES = 20 };
static inline struct slice text_from_u64(uint64_t value, char room[TEXT_U64_BYTES])
{
	size_t at = TEXT_U64_BYTES;

	do {
		room[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	return slice_make(room + at, TEXT_U64_BYTES - at);
}
/* Decimal digits only, no sign, no blanks; -EINVAL, or -ERANGE past 64 bits. */
int text_to_u64(struct slice text, uint64_t *ret_value) _must_check_;
int text_to_i64(struct slice text, int64_t *ret_value) _must_check_;	  /* one optional '-' or '+' */
int text_hex_to_u64(struct slice text, uint64_t *ret_value) _must_check_; /* either case, no 0x */
int text_hex_digit(char c);						  /* 0 to 15, either case; -1: none */
/* Go's strconv.ParseBool: 1 t T TRUE true True / 0 f F FALSE false False; -EINVAL. */
int text_to_bool(struct slice text, bool *ret_value) _must_check_;
/* Go's time.ParseDuration ("30s", "1m30s", "500ms"), in nanoseconds; -EINVAL. */
int text_to_duration(struct slice text, int64_t *ret_ns) _must_check_;
struct slice text_trim(struct slice text); /* blanks, tabs, CR, LF, VT, FF at both ends */
/* Cuts at the first `separator`: true and both halves, or false, the whole text and "". */
bool text_cut(struct slice text, char separator, struct slice *ret_before, struct slice *ret_after);
/* Go's path.Match: * and ? never cross '/', classes [a-z] [^a], \ escapes. 1 match, 0 none, -EINVAL bad
 * pattern. */
int text_path_match(struct slice pattern, struct slice name) _must_check_;
/* Appends UTC RFC 3339 with up to nine fractional digits, trailing zeros cut (Go's RFC3339Nano). */
void text_add_rfc3339(struct buf *out, int64_t unix_ns);
void text_add_hex(struct buf *out, const void *data, size_t len); /* lower case */
void text_add_base64(struct buf *out, struct slice data);	  /* RFC 4648, 4: with padding */
/* Appends Go's %q: double quotes, \n \t \" \\ \x.. \u.... escapes. */
void text_add_quoted(struct buf *out, struct slice text);
/* Appends the text of an error number (either sign) in Go's spelling: "connection refused". */
void text_add_errno(struct buf *out, int error);
/* Length of the valid UTF-8 sequence at the start of text (1-4) and its code point, or 0 when it is not
 * valid. */
size_t text_utf8_decode(struct slice text, uint32_t *ret_code_point);
/* The known word nearest to `word` (for "did you mean"), or NULL when none is near. words ends in NULL. */
const char *text_nearest(const char *word, const char *const *words);
