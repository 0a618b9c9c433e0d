/* What a request to /v2/keys asks for: every parameter rule of the v2 API, in the original's order. Pure. */
#pragma once
#include "base/memory.h"
#include "base/slice.h"
#include "store/command.h"
#include "store/errors.h"

enum keys_kind { KEYS_WRITE, KEYS_READ, KEYS_WATCH, KEYS_KIND_MAX };

struct keys_input {
	struct slice method;		  /* HEAD, GET, PUT, POST or DELETE */
	struct slice key;		  /* decoded path after "/v2/keys": "", "/", "/foo", "/foo/" */
	struct slice query;		  /* undecoded */
	const struct slice *content_type; /* NULL: no such header */
	struct slice body;
	bool body_too_large;
};

struct keys_request {
	enum keys_kind kind;
	struct store_command command; /* WRITE, without its time; path is set for every kind. Slices live in
				       * the arena or in the input */
	bool has_ttl;
	uint64_t ttl_s;
	bool recursive, quorum, stream; /* READ and WATCH */
	uint64_t wait_index;		/* WATCH; 0: from now */
};

/* STORE_OK, or the error of the first bad parameter with its cause in the arena. */
enum store_error keys_request_parse(struct arena *arena, const struct keys_input *input,
	struct keys_request *ret_request, const char **ret_cause);
/* Sets time and expiry of a write: now + ttl, wrapping like the original's 64-bit arithmetic. */
void keys_request_stamp(struct keys_request *request, int64_t now_ns);
