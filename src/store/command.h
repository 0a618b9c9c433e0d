/* The store's part of a log entry: one change, encoded. The layout is versioned, so that later kinds (v3
 * transactions, auth records) can sit beside these in the same log.
 *
 *   u8 version (1) | u8 operation | varint flags | u64 time_ns | bytes path | then, as flagged:
 *   bytes value | bytes prev_value | varint prev_index | u64 expires_ns
 *
 * Paths are the store's own: "/1/foo" for the user's key /foo, "/0/..." for the cluster's bookkeeping. Pure.
 */
#pragma once
#include "base/buf.h"

enum store_op {
	STORE_OP_NONE = 0,
	STORE_OP_SET,		   /* create or replace a file; with dir: make a directory */
	STORE_OP_CREATE,	   /* must not exist; with in_order: a new numbered child of path */
	STORE_OP_UPDATE,	   /* must exist */
	STORE_OP_COMPARE_AND_SWAP, /* file; prev_index and prev_value as given */
	STORE_OP_DELETE,
	STORE_OP_COMPARE_AND_DELETE,
	STORE_OP_TICK, /* moves the cluster clock to time_ns (never back) and expires what is due; no path */
	STORE_OP_MAX,
};

#define STORE_USER_PREFIX "/1"
#define STORE_CLUSTER_PREFIX "/0"

enum {
	STORE_PATH_MAX = 1 << 20,	    /* bytes of a path, prefix included */
	STORE_VALUE_MAX = 64 * 1024 * 1024, /* bytes of a value; the HTTP form limit is below */
};

struct store_command {
	enum store_op op;
	bool dir;	    /* SET, CREATE: a directory. DELETE: an empty directory may go */
	bool recursive;	    /* DELETE: a directory with all below it */
	bool in_order;	    /* CREATE: path is the parent, the name is the new index in 20 digits */
	bool refresh;	    /* SET, UPDATE, COMPARE_AND_SWAP: keep the value, tell no watcher */
	bool has_expiry;    /* expires_ns counts; else the node is permanent */
	int64_t expires_ns; /* absolute, on the cluster clock, Unix nanoseconds */
	int64_t time_ns;    /* the proposer's reading of the cluster clock: what "ttl" in the event is counted
			     * from. Behind the store's clock, it and expires_ns move up to it. Only a TICK
			     * moves the store's clock */
	struct slice path, value, prev_value; /* borrowed; prev_value "" means: not compared */
	uint64_t prev_index;		      /* 0: not compared */
};

void store_command_encode(const struct store_command *command, struct buf *out);
/* -EBADMSG: malformed, an unknown version or operation, a limit exceeded, or a path that is not canonical
 * ("/a/b": no empty, "." or ".." segment, no slash at the end). The slices borrow from `bytes`. */
int store_command_decode(struct slice bytes, struct store_command *ret_command) _must_check_;
