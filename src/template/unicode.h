/* What the template language asks of Unicode: letters and digits in names, printable characters in quoted
 * text, one-to-one case mappings. Tables are generated (generate_unicode.py). Pure, any thread. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

#define UNICODE_REPLACEMENT 0xfffdu
#define UNICODE_MAX 0x10ffffu

struct unicode_range {
	uint32_t low, high;
};
struct unicode_case {
	uint32_t low, high;
	int step, delta; /* every step-th code point of low..high maps to itself plus delta */
};
extern const struct unicode_range unicode_alphanumeric[], unicode_printable[];
extern const size_t unicode_alphanumeric_count, unicode_printable_count;
extern const struct unicode_case unicode_upper[], unicode_lower[];
extern const size_t unicode_upper_count, unicode_lower_count;

/* Letters, decimal digits and '_'. */
bool unicode_is_alphanumeric(uint32_t rune);
/* Go's unicode.IsPrint: letters, marks, numbers, punctuation, symbols and the ASCII space. */
bool unicode_is_print(uint32_t rune);
uint32_t unicode_to_upper(uint32_t rune);
uint32_t unicode_to_lower(uint32_t rune);

/* Decodes the first character of text (not empty): its length in bytes; what is not valid UTF-8 counts as one
 * byte and UNICODE_REPLACEMENT. */
size_t unicode_decode(struct slice text, uint32_t *ret_rune);
void unicode_add(struct buf *out, uint32_t rune); /* UTF-8; surrogates and beyond UNICODE_MAX become U+FFFD */
size_t unicode_count(struct slice text);	  /* characters, each invalid byte counts as one */
