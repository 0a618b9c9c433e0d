/* Files, blocking: for start, configuration and small state. Any thread. Errors are -errno. */
#pragma once
#include "base/buf.h"

/* Appends the whole file; -EFBIG when it has more than max_bytes (nothing is added then). Regular files and
 * the like of /proc; -EISDIR for a directory. */
int file_read(const char *path, size_t max_bytes, struct buf *out) _must_check_;
/* The same below a directory descriptor (AT_FDCWD: as file_read). */
int file_read_at(int dir_fd, const char *path, size_t max_bytes, struct buf *out) _must_check_;

struct file_write_options {
	mode_t mode;	/* permissions; 0: 0644, whatever the umask */
	bool set_owner; /* then uid and gid; -1 keeps one as it is */
	uid_t uid;
	gid_t gid;
	bool no_sync;	/* do not wait for the disk */
	bool exclusive; /* -EEXIST when the file is there */
};
/* Puts `data` into place at once: a temporary file in the same directory, fsync, rename, fsync of the
 * directory. Readers see the old or the new contents. options may be NULL. After an error the old file is as
 * it was. */
int file_write_atomic(
	const char *path, struct slice data, const struct file_write_options *options) _must_check_;
/* Creates the directory and the missing ones above it, durably; 0 when it is there already, -ENOTDIR when
 * something else is. */
int file_mkdir_all(const char *path, mode_t mode) _must_check_;
/* The names in it are durable: what was created, renamed and removed. */
int file_sync_dir(const char *path) _must_check_;
/* The directory part of a path, owned: "a/b" -> "a", "b" -> ".", "/b" -> "/". */
char *file_parent(const char *path);
/* Whether there is anything in the directory but names that begin with a dot. */
int file_dir_has_files(const char *path, bool *ret_any) _must_check_;
/* Removes a file or a whole directory tree without following links; 0 when there is nothing. Who changes the
 * tree meanwhile cannot lead the removal out of it. */
int file_remove_all(const char *path) _must_check_;
/* The same of a path below `root`, no part of which may be a link; -ELOOP, -ENOTDIR. */
int file_remove_below(const char *root, const char *below) _must_check_;
/* Gives a directory and all that is in it on the same file system to that owner, without following links.
 * -ELOOP deeper than 128 levels. */
int file_chown_all(int dir_fd, uid_t uid, gid_t gid) _must_check_;
/* Opens a directory below `root`, a relative path without empty parts, and makes what of it is not there: the
 * last part with that mode, those above it with 0755 (less the umask). A descriptor, or -ELOOP where a part
 * is a link, -ENOTDIR where it is a file. */
int file_make_below(const char *root, const char *below, mode_t mode, bool *ret_made) _must_check_;
bool file_exists(const char *path);

/* Takes an exclusive flock on `name` (created, mode 0600) in the directory and writes the PID into it. The
 * lock lasts as long as the descriptor. -EWOULDBLOCK when another process holds it. */
int file_lock_dir(const char *dir, const char *name, int *ret_fd) _must_check_;
