/* A borrowed run of bytes, not NUL-terminated. */
#pragma once
#include "base/macros.h"
#include <string.h>

struct slice {
	const char *data;
	size_t len;
};

#define SLICE_LITERAL(text) ((struct slice){(text), sizeof(text) - 1})

static inline struct slice slice_make(const void *data, size_t len)
{
	return (struct slice){data, len};
}
static inline struct slice slice_str(const char *text)
{
	return (struct slice){text, strlen(text)};
}
static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (!a.len || memcmp(a.data, b.data, a.len) == 0);
}
static inline bool slice_is(struct slice a, const char *text)
{
	return slice_equal(a, slice_str(text));
}
/* Bytewise order, a prefix sorts first. */
static inline int slice_compare(struct slice a, struct slice b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = len ? memcmp(a.data, b.data, len) : 0;

	if (order)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}
static inline bool slice_starts_with(struct slice a, struct slice prefix)
{
	return a.len >= prefix.len && (!prefix.len || memcmp(a.data, prefix.data, prefix.len) == 0);
}
static inline bool slice_ends_with(struct slice a, struct slice suffix)
{
	return a.len >= suffix.len &&
	       (!suffix.len || memcmp(a.data + a.len - suffix.len, suffix.data, suffix.len) == 0);
}
