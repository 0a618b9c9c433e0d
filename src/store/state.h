/* The store's own structure (inside the store). */
#pragma once
#include "base/list.h"
#include "store/expiry.h"
#include "store/hub.h"
#include "store/store.h"
#include "store/tree.h"

/* What watches that come late can be told: so many events, as the original's, as long as they have not more
 * bytes than this together (event_bytes()). A function of the events alone, so that all members forget the
 * same. */
enum { STORE_HISTORY_MAX = 1000 };
#define STORE_HISTORY_BYTES_MAX (UINT64_C(16) << 20)

/* A large directory that was taken out, until the expiry records of what was below it are gone. */
struct forgetting {
	struct list link;    /* store.forgettings */
	struct entry *entry; /* owned reference */
	struct walk walk;
};

struct store {
	struct tree tree;
	struct expiry expiry;
	struct hub hub;
	struct store_event *history[STORE_HISTORY_MAX]; /* by index modulo the size */
	uint64_t index, first_kept;			/* first_kept 0: no event yet */
	uint64_t history_bytes;				/* of the events that are kept */
	int64_t clock_ns;
	struct store_stats stats;
	size_t handles; /* snapshots and readers that are open */
	struct list forgettings;
	bool ending; /* store_free_some() began */
};

/* forget.c: forgets the expiry records of an entry that was taken out and of all below it, at once or, when
 * they are many, in slices. Meanwhile records may be there of what is not: store_expires() tells. */
void store_forget(struct store *store, struct slice path, struct entry *entry);
bool store_forget_some(struct store *store, size_t budget); /* true: more is left */
void store_forget_end(struct store *store);		    /* drops what is left; the records stay */
/* The entry at `path`, if it expires at that time; else NULL, and the record is of something that is gone. */
struct entry *store_expires(struct store *store, struct slice path, int64_t expires_ns);

/* Looks `path` up; on a miss the error with its cause and index is in ret_result. */
struct entry *store_find(struct store *store, struct slice path, struct store_result *ret_result);
void store_fail(const struct store *store, struct store_result *ret_result, enum store_error error,
	struct slice cause);
