/* The bodies of requests that change members: {"peerURLs":["http://host:port"]}. What is wrong is said in the
 * original's words. Pure. */
#pragma once
#include "etcd/identity.h"
#include "base/memory.h"
#include "base/slice.h"

struct members_request {
	const char *urls[IDENTITY_URLS_MAX + 1]; /* sorted, NULL-terminated; in the arena */
	size_t url_count;
};

/* 0, or the HTTP status to answer with (400, 415) and its message in the arena. content_type NULL: no such
 * header. */
int members_request_parse(struct arena *arena, const struct slice *content_type, struct slice body,
	struct members_request *ret_request, const char **ret_message);
