/* Loaded into a server by LD_PRELOAD: makes its disk fail or slow and its wall clock jump, when told so by
 * files and variables.
 *
 *   FAULTS_DIR      calls on files below this directory may fail
 *   FAULTS_CONTROL  while this file exists, its first line says how: "CALL ERRNO [SKIP [NAME]]".
 *                     CALL   write (write, pwrite), sync (fdatasync, fsync), create (openat with O_CREAT),
 *                            rename; torn: a write of which only the first half gets there before it fails;
 *                            or slow: fdatasync succeeds, ERRNO milliseconds later
 *                     ERRNO  a number
 *                     SKIP   so many calls of the kind still succeed
 *                     NAME   only calls on what has this in its name (without directories) count
 *   FAULTS_SECTOR   "INODE OFFSET": the page at that offset of that file, wherever it is moved, cannot be
 *                   read: EIO, after the bytes before it
 *   FAULTS_CLOCK    while this file exists, its first line is added to CLOCK_REALTIME, in seconds
 *
 * What fails has not happened, apart from torn writes. Calls with 64 in their names are the same ones, as
 * programs with _FILE_OFFSET_BITS=64 know them. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* A real function, looked up once. */
#define REAL(type_, name_, args_)                            \
	static type_(*real) args_;                           \
	if (!real)                                           \
		*(void **)(&real) = dlsym(RTLD_NEXT, name_); \
	if (!real)                                           \
	abort()

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long passed; /* calls of the wanted kind that were let through since the control file appeared */

/* The first line of the file that a variable names; false when there is none. Itself uses system calls that
 * are not replaced here. */
static bool control(const char *variable, char *line, size_t size)
{
	const char *path = getenv(variable);
	FILE *file = path ? fopen(path, "re") : NULL;
	bool there = file && fgets(line, (int)size, file);

	if (file)
		(void)fclose(file);
	return there;
}

/* Is the descriptor of something below FAULTS_DIR? Then its path. */
static bool is_watched(int fd, char path[PATH_MAX])
{
	const char *dir = getenv("FAULTS_DIR");
	char link[64];
	ssize_t len;

	if (!dir)
		return false;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, PATH_MAX - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	return strncmp(path, dir, strlen(dir)) == 0;
}

static bool has_in_name(const char *path, const char *part)
{
	const char *slash = strrchr(path, '/');

	return strstr(slash ? slash + 1 : path, part);
}

/* The error that a call of this kind on this descriptor (name: on that file in it) is to end with, or 0. */
static int fault(const char *kind, int fd, const char *name)
{
	char line[128], wanted[32], part[64] = "", path[PATH_MAX];
	int error = 0, saved = errno;
	long skip = 0;

	if (!getenv("FAULTS_CONTROL") || !is_watched(fd, path)) {
		errno = saved;
		return 0;
	}
	(void)pthread_mutex_lock(&mutex);
	if (!control("FAULTS_CONTROL", line, sizeof(line)) ||
		sscanf(line, "%31s %d %ld %63s", wanted, &error, &skip, part) < 2)
		passed = error = 0;
	else if (strcmp(wanted, kind) != 0 || !has_in_name(name ? name : path, part) || passed++ < skip)
		error = 0;
	(void)pthread_mutex_unlock(&mutex);
	errno = error ? error : saved;
	return error;
}

ssize_t write(int fd, const void *data, size_t len);
ssize_t write(int fd, const void *data, size_t len)
{
	REAL(ssize_t, "write", (int, const void *, size_t));
	return fault("write", fd, NULL) ? -1 : real(fd, data, len);
}

enum { SECTOR_BYTES = 4096 };

/* How many of these bytes can be read: 0, when there are none but some were asked for. */
static size_t readable(int fd, off_t offset, size_t len)
{
	const char *text = getenv("FAULTS_SECTOR");
	unsigned long long inode;
	long long at;
	struct stat st;
	int saved = errno;

	if (!text || sscanf(text, "%llu %lld", &inode, &at) != 2 || fstat(fd, &st) < 0 ||
		st.st_ino != inode || offset >= at + SECTOR_BYTES || offset + (off_t)len <= at) {
		errno = saved;
		return len;
	}
	errno = saved;
	return offset < at ? (size_t)(at - offset) : 0;
}

static ssize_t pread_with_faults(int fd, void *data, size_t len, off_t offset)
{
	REAL(ssize_t, "pread64", (int, void *, size_t, off_t));
	size_t good = readable(fd, offset, len);

	if (good || !len)
		return real(fd, data, good, offset);
	errno = EIO;
	return -1;
}

ssize_t pread(int fd, void *data, size_t len, off_t offset);
ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
	return pread_with_faults(fd, data, len, offset);
}

ssize_t pread64(int fd, void *data, size_t len, off_t offset);
ssize_t pread64(int fd, void *data, size_t len, off_t offset)
{
	return pread_with_faults(fd, data, len, offset);
}

ssize_t read(int fd, void *data, size_t len);
ssize_t read(int fd, void *data, size_t len)
{
	REAL(ssize_t, "read", (int, void *, size_t));
	int saved = errno;
	off_t offset = getenv("FAULTS_SECTOR") ? lseek(fd, 0, SEEK_CUR) : -1;
	size_t good = offset < 0 ? len : readable(fd, offset, len);

	errno = saved;
	if (good || !len)
		return real(fd, data, good);
	errno = EIO;
	return -1;
}

static ssize_t pwrite_with_faults(int fd, const void *data, size_t len, off_t offset)
{
	REAL(ssize_t, "pwrite64", (int, const void *, size_t, off_t));
	int error = fault("torn", fd, NULL);

	if (error) {
		(void)!real(fd, data, len / 2, offset);
		errno = error;
		return -1;
	}
	return fault("write", fd, NULL) ? -1 : real(fd, data, len, offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	return pwrite_with_faults(fd, data, len, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t offset);
ssize_t pwrite64(int fd, const void *data, size_t len, off_t offset)
{
	return pwrite_with_faults(fd, data, len, offset);
}

int fdatasync(int fd);
int fdatasync(int fd)
{
	REAL(int, "fdatasync", (int));
	int wait_ms, saved = errno;

	if (fault("sync", fd, NULL))
		return -1;
	wait_ms = fault("slow", fd, NULL);
	if (wait_ms)
		(void)usleep((useconds_t)wait_ms * 1000);
	errno = saved;
	return real(fd);
}

int fsync(int fd);
int fsync(int fd)
{
	REAL(int, "fsync", (int));
	return fault("sync", fd, NULL) ? -1 : real(fd);
}

static int open_with_faults(int dir, const char *path, int flags, mode_t mode)
{
	REAL(int, "openat64", (int, const char *, int, ...));
	return flags & O_CREAT && fault("create", dir, path) ? -1 : real(dir, path, flags, mode);
}

static mode_t mode_of(int flags, va_list args)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;
}

int openat(int dir, const char *path, int flags, ...);
int openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_with_faults(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...);
int openat64(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_with_faults(dir, path, flags, mode);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to);
int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	REAL(int, "renameat", (int, const char *, int, const char *));
	return fault("rename", from_dir, from) ? -1 : real(from_dir, from, to_dir, to);
}

static void shift(int64_t *seconds)
{
	char line[64];
	long long by;

	if (control("FAULTS_CLOCK", line, sizeof(line)) && sscanf(line, "%lld", &by) == 1)
		*seconds += by;
}

int clock_gettime(clockid_t clock, struct timespec *ret_time);
int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	REAL(int, "clock_gettime", (clockid_t, struct timespec *));
	int r = real(clock, ret_time), saved = errno;

	if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		shift(&ret_time->tv_sec);
	errno = saved;
	return r;
}

int gettimeofday(struct timeval *restrict ret_time, void *restrict zone);
int gettimeofday(struct timeval *restrict ret_time, void *restrict zone)
{
	REAL(int, "gettimeofday", (struct timeval *restrict, void *restrict));
	int r = real(ret_time, zone), saved = errno;

	if (r == 0)
		shift(&ret_time->tv_sec);
	errno = saved;
	return r;
}
