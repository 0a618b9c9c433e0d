/* Plain system calls; every descriptor is close-on-exec and closed by its scope. */
#include "io/file.h"
#include "base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_STEP_BYTES = 64 * 1024 };

int file_read_at(int dir_fd, const char *path, size_t max_bytes, struct buf *out)
{
	_cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t from = out->len, step = READ_STEP_BYTES;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (S_ISREG(st.st_mode)) {
		if ((uint64_t)st.st_size > max_bytes)
			return -EFBIG;
		/* One byte more than the size, so that the end is seen by the same read. */
		step = st.st_size > 0 ? (size_t)st.st_size + 1 : (size_t)READ_STEP_BYTES;
	}
	for (;;) {
		char *at = buf_reserve(out, step);
		ssize_t n;
		int r = 0;

		if (!at)
			r = -ENOBUFS;
		else if ((n = read(fd, at, step)) < 0)
			r = errno == EINTR ? 0 : -errno;
		else if (n == 0)
			return 0;
		else
			buf_commit(out, (size_t)n);
		if (r >= 0 && out->len - from > max_bytes)
			r = -EFBIG;
		if (r < 0) {
			out->failed = false;
			buf_truncate(out, from);
			return r;
		}
		if (S_ISREG(st.st_mode) && out->len - from == (size_t)st.st_size)
			step = 1;
		else
			step = READ_STEP_BYTES;
	}
}

int file_read(const char *path, size_t max_bytes, struct buf *out)
{
	return file_read_at(AT_FDCWD, path, max_bytes, out);
}

static int write_all(int fd, struct slice data)
{
	while (data.len) {
		ssize_t n = write(fd, data.data, data.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data = slice_make(data.data + n, data.len - (size_t)n);
	}
	return 0;
}

char *file_parent(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return mem_strdup(".");
	return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

int file_sync_dir(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* Some file systems (of network and overlay kinds) cannot sync a directory and need not. */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL && errno != EROFS))
		return -errno;
	return 0;
}

static int fill_temp(int fd, struct slice data, const struct file_write_options *options)
{
	int r = write_all(fd, data);

	if (r < 0)
		return r;
	if (options->set_owner && fchown(fd, options->uid, options->gid) < 0)
		return -errno;
	/* After the owner: chown takes set-id bits away. */
	if (fchmod(fd, options->mode ? options->mode : 0644) < 0)
		return -errno;
	if (!options->no_sync && fsync(fd) < 0)
		return -errno;
	return 0;
}

/* A name for a temporary file beside that of the path: cut where it would be longer than names may be. */
static char *temp_beside(const char *path, const char *dir)
{
	static const char ending[] = ".XXXXXX";
	const char *slash = strrchr(path, '/');

	return mem_printf("%s/.%.*s%s", dir, (int)(NAME_MAX - strlen(".") - strlen(ending)),
		slash ? slash + 1 : path, ending);
}

int file_write_atomic(const char *path, struct slice data, const struct file_write_options *options)
{
	static const struct file_write_options defaults;
	_cleanup_free_ char *dir = file_parent(path), *temp = temp_beside(path, dir);
	_cleanup_close_ int fd = -1;
	int r;

	options = options ? options : &defaults;
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fill_temp(fd, data, options);
	if (r >= 0 && options->exclusive)
		r = link(temp, path) < 0 ? -errno : 0;
	else if (r >= 0)
		r = rename(temp, path) < 0 ? -errno : 0;
	if (r < 0 || options->exclusive)
		(void)unlink(temp);
	if (r >= 0 && !options->no_sync)
		r = file_sync_dir(dir);
	return r;
}

/* One directory, whose name is durable when it was made here. It may be there on a file system that is
 * read-only, or below one that may not be written to. */
static int make_dir(const char *path, mode_t mode)
{
	_cleanup_free_ char *above = file_parent(path);
	struct stat st;
	int r;

	if (mkdir(path, mode) < 0) {
		r = -errno;
		if (stat(path, &st) < 0)
			return r;
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	}
	r = file_sync_dir(above);
	return r == -EACCES ? 0 : r; /* who may not read it can do no more */
}

int file_dir_has_files(const char *path, bool *ret_any)
{
	DIR *dir = opendir(path);
	struct dirent *entry = NULL;
	int r = 0;

	if (!dir)
		return -errno;
	*ret_any = false;
	do {
		errno = 0;
		entry = readdir(dir);
		if (!entry)
			r = -errno;
	} while (entry && entry->d_name[0] == '.');
	*ret_any = entry != NULL;
	(void)closedir(dir);
	return r;
}

int file_mkdir_all(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = mem_strdup(path);
	int r;

	for (size_t len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	for (char *at = copy; *at; at++) {
		if (*at != '/' || at == copy || at[-1] == '/')
			continue;
		*at = '\0';
		r = make_dir(copy, mode);
		if (r < 0)
			return r;
		*at = '/';
	}
	return make_dir(copy, mode);
}

bool file_exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

int file_lock_dir(const char *dir, const char *name, int *ret_fd)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, name), *pid = mem_printf("%d\n", (int)getpid());
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (ftruncate(fd, 0) < 0)
		return -errno;
	r = write_all(fd, slice_str(pid));
	if (r < 0)
		return r;
	*ret_fd = take_fd(fd);
	return 0;
}
