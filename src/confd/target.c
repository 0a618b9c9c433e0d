/* Staging beside the destination keeps the rename within one file system. Owners are compared as the staged
 * file got them: where this process may not give a file away, that is no difference to the old one, which it
 * wrote too. */
#include "confd/target.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(struct buf *error, int number, const char *what, const char *path)
{
	buf_printf(error, "%s %s: %s", what, path, strerror(number));
	return -number;
}

static int write_all(int fd, struct slice data)
{
	while (data.len) {
		ssize_t written = write(fd, data.data, data.len);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		data = slice_make(data.data + written, data.len - (size_t)written);
	}
	return 0;
}

static char *stage_template(const char *dest)
{
	const char *slash = strrchr(dest, '/');

	if (!slash)
		return mem_printf(".%sXXXXXX", dest);
	return mem_printf("%.*s/.%sXXXXXX", (int)(slash - dest), dest, slash + 1);
}

int target_stage(struct target *target, const char *dest, struct slice contents, bool has_mode, mode_t mode,
	uid_t uid, gid_t gid, int *ret_owner_error, struct buf *reterr)
{
	_cleanup_free_ char *path = stage_template(dest);
	_cleanup_close_ int fd = -1;
	struct stat old;
	int r;

	if (!has_mode)
		mode = stat(dest, &old) == 0 ? old.st_mode & 07777 : 0644;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return fail(reterr, errno, "Cannot create a file beside", dest);
	r = write_all(fd, contents);
	if (r < 0) {
		unlink(path);
		return fail(reterr, -r, "Cannot write", path);
	}
	*ret_owner_error = fchown(fd, uid, gid) < 0 ? -errno : 0;
	/* After fchown(), which takes away set-user-ID bits. The data is on the disk before its name changes.
	 */
	if (fchmod(fd, mode) < 0 || fsync(fd) < 0) {
		r = errno;
		unlink(path);
		return fail(reterr, r, "Cannot finish", path);
	}
	*target =
		(struct target){.dest = dest, .stage = take_ptr(path), .mode = mode, .uid = uid, .gid = gid};
	return 0;
}

/* 1 when the file holds something else. */
static int contents_differ(const char *path, struct slice contents, size_t size)
{
	_cleanup_close_ int fd = -1;
	char block[65536];

	if (size != contents.len)
		return 1;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (contents.len) {
		ssize_t got = read(fd, block, MIN(sizeof(block), contents.len));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0 || memcmp(block, contents.data, (size_t)got) != 0)
			return 1;
		contents = slice_make(contents.data + got, contents.len - (size_t)got);
	}
	return 0;
}

int target_compare(const struct target *target, struct slice contents,
	struct target_difference *ret_difference, struct buf *reterr)
{
	struct target_difference difference = {0};
	struct stat old, staged;
	int r;

	if (stat(target->stage, &staged) < 0)
		return fail(reterr, errno, "stat", target->stage);
	if (stat(target->dest, &old) < 0) {
		if (errno != ENOENT)
			return fail(reterr, errno, "stat", target->dest);
		difference.missing = difference.contents = true;
		*ret_difference = difference;
		return 1;
	}
	r = contents_differ(target->dest, contents, (size_t)old.st_size);
	if (r < 0)
		return fail(reterr, -r, "Cannot read", target->dest);
	difference.contents = r > 0;
	difference.owner = old.st_uid != staged.st_uid;
	difference.group = old.st_gid != staged.st_gid;
	difference.mode = (old.st_mode & 07777) != (staged.st_mode & 07777);
	difference.old_uid = old.st_uid;
	difference.old_gid = old.st_gid;
	difference.old_mode = old.st_mode & 07777;
	*ret_difference = difference;
	return difference.contents || difference.owner || difference.group || difference.mode;
}

/* For bind-mounted files: not at once, but there is no other way. */
static int rewrite_in_place(struct target *target, struct slice contents, struct buf *reterr)
{
	_cleanup_close_ int fd = open(target->dest, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int r;

	if (fd < 0)
		return fail(reterr, errno, "Cannot open", target->dest);
	r = write_all(fd, contents);
	if (r < 0)
		return fail(reterr, -r, "Cannot write", target->dest);
	if (fchown(fd, target->uid, target->gid) < 0 && errno != EPERM)
		return fail(reterr, errno, "Cannot set the owner of", target->dest);
	if (fchmod(fd, target->mode) < 0)
		return fail(reterr, errno, "Cannot set the mode of", target->dest);
	if (fsync(fd) < 0)
		return fail(reterr, errno, "Cannot write", target->dest);
	return 0;
}

int target_replace(struct target *target, struct slice contents, struct buf *reterr)
{
	assert(target->stage);
	if (rename(target->stage, target->dest) == 0) {
		target->stage = mem_free(target->stage);
		return 0;
	}
	if (errno != EBUSY)
		return fail(reterr, errno, "Cannot replace", target->dest);
	return rewrite_in_place(target, contents, reterr);
}

int target_try(struct target *target, struct buf *reterr)
{
	assert(target->stage && target->state == TARGET_STAGED);
	if (renameat2(AT_FDCWD, target->stage, AT_FDCWD, target->dest, RENAME_EXCHANGE) == 0) {
		target->state = TARGET_EXCHANGED;
		return 0;
	}
	if (errno == EBUSY || errno == EINVAL || errno == ENOSYS)
		return -EOPNOTSUPP;
	if (errno != ENOENT)
		return fail(reterr, errno, "Cannot replace", target->dest);
	/* No old file: the new one gets the name only if it is still free. */
	if (link(target->stage, target->dest) < 0)
		return errno == EPERM || errno == EOPNOTSUPP
			       ? -EOPNOTSUPP
			       : fail(reterr, errno, "Cannot create", target->dest);
	target->state = TARGET_CREATED;
	return 0;
}

void target_keep(struct target *target)
{
	assert(target->state != TARGET_STAGED);
	unlink(target->stage);
	target->stage = mem_free(target->stage);
	target->state = TARGET_STAGED;
}

int target_revert(struct target *target, struct buf *reterr)
{
	int r = 0;

	assert(target->state != TARGET_STAGED);
	if (target->state == TARGET_EXCHANGED)
		r = renameat2(AT_FDCWD, target->stage, AT_FDCWD, target->dest, RENAME_EXCHANGE);
	else
		r = unlink(target->dest);
	target->state = TARGET_STAGED;
	return r < 0 ? fail(reterr, errno, "Cannot take back", target->dest) : 0;
}

void target_done(struct target *target, bool keep_stage)
{
	_cleanup_buf_ struct buf ignored = BUF_INIT(1 << 12);

	if (target->stage && target->state != TARGET_STAGED)
		(void)!target_revert(target, &ignored);
	if (target->stage && !keep_stage)
		unlink(target->stage);
	target->stage = mem_free(target->stage);
}
