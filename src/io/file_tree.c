/* Trees that somebody else may be changing: everything goes by descriptors of directories that were opened
 * without following links, so that no name that is swapped meanwhile leads out of the tree. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "io/file.h"

#define TREE_DEPTH_MAX 128 /* of a change of owner; removal has none */
#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static DIR *open_entries(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, OPEN_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !dir)
		close(fd);
	return dir;
}

/* The next name but "." and ".."; NULL at the end, or with errno set. */
static const char *next_name(DIR *dir)
{
	const struct dirent *entry;

	do {
		errno = 0;
		entry = readdir(dir);
	} while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	return entry ? entry->d_name : NULL;
}

/* ---- removing ---- */

/* Removes a file, a link or an empty directory; -ENOTEMPTY. What is gone already is no error. */
static int remove_name(int dir_fd, const char *name)
{
	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	return errno == EEXIST ? -ENOTEMPTY : -errno;
}

/* Takes up a directory below the top one: its files go, its directories move up beside it under names that
 * are free. So depth costs neither descriptors nor stack. */
static int flatten(int top_fd, const char *name, uint64_t *number)
{
	DIR *dir = open_entries(top_fd, name);
	const char *entry;
	char moved[32];
	int r = 0;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = next_name(dir))) {
		r = remove_name(dirfd(dir), entry);
		while (r == -ENOTEMPTY) {
			(void)snprintf(moved, sizeof(moved), ".removed-%llu", (unsigned long long)++*number);
			r = renameat2(dirfd(dir), entry, top_fd, moved, RENAME_NOREPLACE) == 0 ||
					    errno == ENOENT
				    ? 0
			    : errno == EEXIST ? -ENOTEMPTY
					      : -errno;
		}
	}
	if (r == 0)
		r = -errno;
	closedir(dir);
	return r < 0 ? r : remove_name(top_fd, name);
}

/* Empties the directory, in as many rounds as it takes until one finds nothing. */
static int remove_entries(int parent_fd, const char *name)
{
	uint64_t number = 0;
	bool again = true;
	int r = 0;

	while (again && r == 0) {
		DIR *dir = open_entries(parent_fd, name);
		const char *entry;

		if (!dir)
			return errno == ENOENT ? 0 : -errno;
		again = false;
		while (r == 0 && (entry = next_name(dir))) {
			again = true;
			r = remove_name(dirfd(dir), entry);
			if (r == -ENOTEMPTY)
				r = flatten(dirfd(dir), entry, &number);
			if (r == -ENOTEMPTY) /* somebody fills it: once more */
				r = 0;
		}
		if (r == 0)
			r = -errno;
		closedir(dir);
	}
	return r;
}

/* The directory that holds the last part of `below`, which lies below `root`. No part of it may be a link. */
static int open_parent(const char *root, const char *below, const char **ret_name)
{
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *slash;

	while (fd >= 0 && (slash = strchr(below, '/'))) {
		_cleanup_free_ char *part = mem_strndup(below, (size_t)(slash - below));
		int next = part[0] ? openat(fd, part, OPEN_DIRECTORY) : dup(fd);
		int error = errno;

		close(fd);
		errno = error;
		fd = next;
		below = slash + 1;
	}
	*ret_name = below;
	return fd < 0 ? -errno : fd;
}

int file_remove_below(const char *root, const char *below)
{
	_cleanup_free_ char *copy = mem_strdup(below);
	_cleanup_close_ int fd = -1;
	const char *name;
	int r;

	for (size_t len = strlen(copy); len && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	fd = open_parent(root, copy, &name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	do {
		r = remove_name(fd, name);
		if (r == -ENOTEMPTY) {
			r = remove_entries(fd, name);
			r = r < 0 ? r : -ENOTEMPTY;
		}
	} while (r == -ENOTEMPTY);
	return r;
}

int file_remove_all(const char *path)
{
	_cleanup_free_ char *copy = mem_strdup(path), *parent = NULL;
	const char *slash;

	for (size_t len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	parent = file_parent(copy);
	slash = strrchr(copy, '/');
	return file_remove_below(parent, slash ? slash + 1 : copy);
}

/* ---- owners ---- */

static int chown_entries(int parent_fd, const char *name, uid_t uid, gid_t gid, dev_t device, int depth)
{
	DIR *dir = depth > TREE_DEPTH_MAX ? NULL : open_entries(parent_fd, name);
	const char *entry;
	struct stat st;
	int r = 0;

	if (!dir)
		return depth > TREE_DEPTH_MAX ? -ELOOP : -errno;
	if (fstat(dirfd(dir), &st) < 0 || (st.st_dev == device && fchown(dirfd(dir), uid, gid) < 0))
		r = -errno;
	while (r == 0 && st.st_dev == device && (entry = next_name(dir))) {
		if (fstatat(dirfd(dir), entry, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			r = errno == ENOENT ? 0 : -errno;
			st.st_dev = device;
			continue;
		}
		if (S_ISDIR(st.st_mode))
			r = chown_entries(dirfd(dir), entry, uid, gid, device, depth + 1);
		else if (fchownat(dirfd(dir), entry, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			r = -errno;
		st.st_dev = device;
	}
	if (r == 0 && st.st_dev == device)
		r = -errno;
	closedir(dir);
	return r;
}

int file_chown_all(int dir_fd, uid_t uid, gid_t gid)
{
	struct stat st;

	if (fstat(dir_fd, &st) < 0)
		return -errno;
	return chown_entries(dir_fd, ".", uid, gid, st.st_dev, 0);
}

/* ---- making ---- */

/* Opens a directory, after making it if it is not there. */
static int make_one(int parent_fd, const char *name, mode_t mode, bool *ret_made)
{
	struct stat st;
	int fd, error;

	*ret_made = mkdirat(parent_fd, name, mode) == 0;
	if (!*ret_made && errno != EEXIST)
		return -errno;
	fd = openat(parent_fd, name, OPEN_DIRECTORY);
	error = errno;
	if (fd < 0 && fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return -ELOOP;
	return fd < 0 ? -error : fd;
}

int file_make_below(const char *root, const char *below, mode_t mode, bool *ret_made)
{
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *slash;

	if (fd < 0)
		fd = -errno;
	do {
		size_t len = strcspn(below, "/");
		_cleanup_free_ char *part = mem_strndup(below, len);
		int next = fd;

		slash = below[len] ? below + len : NULL;
		if (fd >= 0) {
			next = strcmp(part, "..") == 0 ? -EINVAL
						       : make_one(fd, part, slash ? 0755 : mode, ret_made);
			close(fd);
		}
		fd = next;
		below = slash ? slash + 1 : below;
	} while (slash && fd >= 0);
	return fd;
}
