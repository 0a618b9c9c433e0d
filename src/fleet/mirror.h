/* A subtree of the store, kept known: one watch stays open from "now", then the tree is read, then events
 * above the read's index are applied. A cut stream or a cleared history means a new read. What cannot be read
 * is unknown, never empty: the handler is simply not told anything until a read succeeds. Loop's thread. */
#pragma once
#include "base/slice.h"
#include "flotilla/etcd.h"

struct mirror;

/* Paths are relative to the key, without a leading slash ("" is the key itself). A read calls begin(), then
 * set() for each file, then end(): what was not set is not there any more. Between reads come set() and
 * remove(). The handler may not close the mirror from inside a call. */
struct mirror_handler {
	void (*begin)(void *userdata, uint64_t index); /* the store's when it was read */
	void (*set)(void *userdata, const char *path, struct slice value, uint64_t index);
	/* The path and everything below it. `expired`: by its TTL. */
	void (*remove)(void *userdata, const char *path, uint64_t index, bool expired);
	void (*end)(void *userdata);
	/* After end(), and after each event. May be NULL. */
	void (*turn)(void *userdata);
	/* The connection is lost or the read failed; for the log. May be NULL. */
	void (*outage)(void *userdata, const char *why);
	/* In a read, beside set(): a directory with nothing in it (nor below the names that "_" hides). May
	 * be NULL. */
	void (*empty)(void *userdata, const char *path);
	/* For large trees: the loop turns while a read is told, and begin() may come again before end(), when
	 * the read broke off. */
	bool in_pieces;
};

struct mirror *mirror_open(
	struct etcd_client *client, const char *key, const struct mirror_handler *handler, void *userdata);
/* Accepts NULL, answers NULL. No call follows. */
struct mirror *mirror_close(struct mirror *mirror);
/* True once a read has succeeded: what the handler was told is the truth or was a moment ago. */
bool mirror_is_loaded(const struct mirror *mirror);
/* It follows the store now: loaded, and not being read again, when it may be from long before, nor between
 * begin() and end(), where some of it is of now and some from before. */
bool mirror_is_live(const struct mirror *mirror);
/* Opens the watch anew and reads again (after a loss of contact a stream may be dead without a sign). */
void mirror_restart(struct mirror *mirror);
/* Index of the store up to which all is applied. */
uint64_t mirror_index(const struct mirror *mirror);
