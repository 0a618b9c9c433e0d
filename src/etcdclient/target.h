/* Endpoints and request targets. Pure, any thread. */
#pragma once
#include "base/buf.h"

enum { TARGET_ENDPOINTS_MAX = 256 };
/* Where none are given. */
#define TARGET_ENDPOINTS_DEFAULT "http://127.0.0.1:2379,http://127.0.0.1:4001"

/* Parses a comma-separated list of "http://host:port", "https://host:port" or "host:port", at least one, into
 * URLs with a scheme, without a final slash (port absent: the scheme's, 2379 without). The array and its
 * texts are the caller's: target_endpoints_free(). -EINVAL, -EPROTONOSUPPORT for other schemes, with a
 * message in `error`. */
int target_parse_endpoints(
	const char *text, char ***ret_urls, size_t *ret_count, struct buf *error) _must_check_;
void target_endpoints_free(char **urls, size_t count);

/* Appends "/v2/keys/..." for the key below the prefix: each cleaned like a path (".." never leaves the
 * prefix), joined and escaped. prefix may be NULL. */
void target_add_key(struct buf *out, const char *prefix, const char *key);
/* Appends "name=value" of a form or query, with a '&' before it unless the buffer is empty or ends in '?'. */
void target_add_param(struct buf *out, const char *name, struct slice value);
void target_add_number(struct buf *out, const char *name, uint64_t value);
void target_add_bool(struct buf *out, const char *name, bool value);
