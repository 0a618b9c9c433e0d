/* The data directory: whose it is, whether it can be used, and which member lives there. Blocking, at start.
 *
 *   DIR/flotilla/            this member's directory: so that a directory of the original is told apart
 *   DIR/flotilla/LOCK        held while the member runs
 *   DIR/flotilla/identity    ids and name, text
 *   DIR/flotilla/log/        the log (what node/ sees) */
#pragma once
#include "base/buf.h"
#include "etcd/identity.h"

enum { DATADIR_SEEDS_MAX = 62 };

/* A member of a running cluster that this one joins; to be spoken to until it has got something. */
struct datadir_seed {
	uint64_t id;
	char *urls[IDENTITY_URLS_MAX + 1]; /* owned, NULL-terminated */
};

struct datadir {
	char *log_path; /* owned */
	char *name;	/* owned; of the member at its last start; NULL when fresh */
	int lock_fd;
	bool fresh;	  /* no identity yet: a new member */
	bool has_log;	  /* the log had been made when the identity was last written: it must be there */
	bool log_missing; /* of datadir_open_to_rebuild(): there should be a log, and there is none */
	bool removed;	  /* this member was removed from its cluster: it must not start again */
	uint64_t member_id, cluster_id; /* when not fresh */
	struct datadir_seed seeds[DATADIR_SEEDS_MAX];
	size_t seeds_len; /* > 0: it joins a running cluster, and got nothing yet */
};

/* Makes the directory as needed and takes its lock. -errno with a message in reterr that says what is wrong
 * and what to do; then nothing of another's was changed. */
int datadir_open(const char *path, struct datadir *ret_datadir, struct buf *reterr) _must_check_;
/* The same, but a log that was taken away is no error. */
int datadir_open_to_rebuild(const char *path, struct datadir *ret_datadir, struct buf *reterr) _must_check_;
/* Writes down who lives here, durably. */
int datadir_set_identity(
	const char *path, const char *name, const struct datadir *datadir, struct buf *reterr) _must_check_;
void datadir_forget_seeds(struct datadir *datadir);
void datadir_done(struct datadir *datadir);
