/* Code points as Go's readers see them: a byte that starts no valid sequence is U+FFFD and one byte long.
 * Pure. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

#define RUNE_ERROR 0xFFFDu

bool rune_is_whole(struct slice text); /* starts with a complete (or certainly broken) sequence */
size_t rune_decode(struct slice text, uint32_t *ret_rune); /* text is not empty; answers the bytes used */
void rune_add(struct buf *out, uint32_t rune);		   /* as UTF-8 */
bool rune_is_space(uint32_t rune);			   /* Unicode's White_Space */
struct slice rune_trim(struct slice text);		   /* white space at both ends */
void rune_add_quoted(struct buf *out, uint32_t rune);	   /* Go's %q of one rune, with the quotes */
