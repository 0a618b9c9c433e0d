/* Go's fmt package as far as templates can reach it: Sprint, Sprintln, Sprintf over template values. Pure,
 * any thread. */
#pragma once
#include "template/value.h"

/* Values are taken out of interfaces; nil prints <nil>. Maps are sorted first, for which the arena is needed.
 */
void format_print(struct arena *arena, struct buf *out, const struct template_value *args, size_t count);
void format_println(struct arena *arena, struct buf *out, const struct template_value *args, size_t count);
void format_printf(struct arena *arena, struct buf *out, struct slice format,
	const struct template_value *args, size_t count);

/* Go's strconv.FormatFloat: format is one of e E f g G x X b, precision -1 is the shortest text that reads
 * back the same; bits is 32 or 64. */
void format_float(struct buf *out, double value, char format, int precision, unsigned bits);

/* strconv.Quote, QuoteToASCII, and the single-quoted forms for one character. */
void quote_text(struct buf *out, struct slice text, bool ascii_only);
void quote_rune(struct buf *out, uint32_t rune, bool ascii_only);
bool quote_can_backquote(struct slice text);
/* strconv.Unquote of a Go string or raw string literal; -EINVAL. */
int unquote_text(struct slice literal, struct buf *out) _must_check_;
/* strconv.UnquoteChar: one character or escape from the start of text; quote is the quote that may be
 * escaped. is_byte: an escape that stands for one byte (\x, \000). Answers the bytes used, or -EINVAL. */
int unquote_rune(struct slice text, char quote, uint32_t *ret_rune, bool *ret_is_byte) _must_check_;

/* strconv.ParseUint / ParseInt with base 0 (0x 0o 0b prefixes, leading 0 octal, underscores) or 10: 0,
 * -EINVAL, -ERANGE. */
int number_parse_uint(struct slice text, int base, uint64_t *ret_value) _must_check_;
int number_parse_int(struct slice text, int base, int64_t *ret_value) _must_check_;
/* strconv.ParseFloat (decimal, hexadecimal, underscores; no inf or nan): 0, -EINVAL, -ERANGE. */
int number_parse_float(struct slice text, double *ret_value) _must_check_;
