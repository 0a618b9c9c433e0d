/* etcd's error table: code, text, HTTP status. The same numbers are used in the log's results and in HTTP
 * bodies. */
#pragma once
#include "base/buf.h"

enum store_error {
	STORE_OK = 0,
	STORE_KEY_NOT_FOUND = 100,
	STORE_COMPARE_FAILED = 101,
	STORE_NOT_FILE = 102,
	STORE_NOT_DIR = 104,
	STORE_NODE_EXISTS = 105,
	STORE_ROOT_READ_ONLY = 107,
	STORE_DIR_NOT_EMPTY = 108,
	STORE_UNAUTHORIZED = 110,
	STORE_PREV_VALUE_REQUIRED = 201,
	STORE_TTL_NAN = 202,
	STORE_INDEX_NAN = 203,
	STORE_INVALID_FIELD = 209,
	STORE_INVALID_FORM = 210,
	STORE_REFRESH_VALUE = 211,
	STORE_REFRESH_TTL_REQUIRED = 212,
	STORE_RAFT_INTERNAL = 300,
	STORE_EVENT_INDEX_CLEARED = 401,
};

const char *store_error_message(enum store_error error); /* "Key not found" */
int store_error_http_status(enum store_error error);
/* {"errorCode":N,"message":"...","cause":"...","index":N} and a newline; an empty or NULL cause is left out.
 */
void store_error_add_json(struct buf *out, enum store_error error, const char *cause, uint64_t index);
