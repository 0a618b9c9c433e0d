/* The file a resource writes: staged beside it, compared, put into place at once. */
#pragma once
#include "base/buf.h"

struct target {
	const char *dest; /* borrowed */
	char *stage;	  /* owned; path of the staged file, NULL: none */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	enum { TARGET_STAGED, TARGET_CREATED, TARGET_EXCHANGED } state; /* of a trial */
};

struct target_difference {
	bool missing, owner, group, mode,
		contents; /* missing: there is no file yet; then contents is set too */
	uid_t old_uid;
	gid_t old_gid;
	mode_t old_mode;
};

/* Writes `contents` to a new file ".NAMEdigits" beside dest with the permissions and, as far as this process
 * may, the owner. mode: has_mode, else that of the existing file, else 0644. *ret_owner_error: 0 or why the
 * owner could not be set
 * (-errno). -errno with a message; then nothing is left. */
int target_stage(struct target *target, const char *dest, struct slice contents, bool has_mode, mode_t mode,
	uid_t uid, gid_t gid, int *ret_owner_error, struct buf *reterr) _must_check_;
/* Compares what is staged with what is there: 1 different, 0 the same. */
int target_compare(const struct target *target, struct slice contents,
	struct target_difference *ret_difference, struct buf *reterr) _must_check_;
/* Renames the staged file over dest. A file that cannot be replaced because it is a mount point is rewritten
 * in place. */
int target_replace(struct target *target, struct slice contents, struct buf *reterr) _must_check_;
/* A trial: puts the staged file into place so that it can still be taken back, as the old file then lies
 * where the staged one was. -EOPNOTSUPP where that cannot be (a mount point, a file system that cannot
 * exchange names): nothing has changed then. Ends with target_keep() or target_revert(). */
int target_try(struct target *target, struct buf *reterr) _must_check_;
void target_keep(struct target *target);
int target_revert(struct target *target, struct buf *reterr) _must_check_;
/* Removes the staged file unless it is to be kept, and takes back a trial that has not ended. */
void target_done(struct target *target, bool keep_stage);
