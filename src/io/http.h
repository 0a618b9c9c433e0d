/* What HTTP server and client share: headers and status texts. Pure, any thread. */
#pragma once
#include "base/slice.h"

struct http_header {
	struct slice name, value;
};

#define HTTP_HEADER(name_literal, value_text) \
	((struct http_header){SLICE_LITERAL(name_literal), slice_str(value_text)})

/* The value of the first header of that name (any case), or NULL. */
const struct slice *http_header_find(const struct http_header *headers, size_t count, const char *name);
/* True when the comma-separated list in the headers of that name holds the word (any case). */
bool http_header_has_word(
	const struct http_header *headers, size_t count, const char *name, const char *word);
const char *http_status_text(int status); /* "Not Found"; "" for an unknown one */
bool http_is_token(struct slice text);	  /* RFC 9110 token: what methods and header names are made of */
size_t http_token_len(struct slice text); /* of the token that text begins with */
/* ASCII only. */
bool http_equal_nocase_len(struct slice a, const char *b, size_t b_len);
static inline bool http_equal_nocase(struct slice a, const char *b)
{
	return http_equal_nocase_len(a, b, strlen(b));
}
