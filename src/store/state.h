/* The store's own structure (inside the store). */
#pragma once
#include "store/expiry.h"
#include "store/hub.h"
#include "store/store.h"
#include "store/tree.h"

enum { STORE_HISTORY_MAX = 1000 };

struct store {
	struct tree tree;
	struct expiry expiry;
	struct hub hub;
	struct store_event *history[STORE_HISTORY_MAX]; /* by index modulo the size */
	uint64_t index, first_kept;			/* first_kept 0: no event yet */
	int64_t clock_ns;
	struct store_stats stats;
	size_t handles; /* snapshots and readers that are open */
};

/* Looks `path` up; on a miss the error with its cause and index is in ret_result. */
struct entry *store_find(struct store *store, struct slice path, struct store_result *ret_result);
void store_fail(const struct store *store, struct store_result *ret_result, enum store_error error,
	struct slice cause);
