/* Two workers with one slot each: the loop puts a plan in and signals, the worker carries it out and wakes
 * the loop, which takes the answer. The file that is being written stays open between plans: the log is one
 * file for thousands of them. A new segment is written full of zeros, not only reserved, so that later syncs
 * have no metadata to write. */
#include "etcd/disk.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "io/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { ZERO_PIECE_BYTES = 1 << 20, STACK_BYTES = 256 * 1024 };

struct worker {
	struct disk *disk;
	uv_thread_t thread;
	uv_mutex_t mutex;
	uv_cond_t wake;
	bool started;
	/* Under the mutex. */
	const struct wal_plan *plan; /* to be done, or being done */
	const struct wal_plan *done;
	int error;
	bool stop;
	struct disk_counts counts;
	/* The thread's own. */
	struct disk_file file;
};

struct disk {
	int dir_fd;
	uv_async_t async;
	struct worker workers[2]; /* the log, and the background */
	void (*on_done)(const struct wal_plan *plan, int error, void *user);
	void *user;
};

/* ---- Plans ---- */

void disk_file_done(struct disk_file *file)
{
	closep(&file->fd);
	*file = DISK_FILE_INIT;
}

static int use_file(int dir_fd, struct disk_file *file, const char *name)
{
	int fd;

	if (file->fd >= 0 && strcmp(file->name, name) == 0)
		return 0;
	disk_file_done(file);
	fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	file->fd = fd;
	memcpy(file->name, name, sizeof(file->name));
	return 0;
}

static int write_at(int fd, const char *data, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		data += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int fill_with_zeros(int fd, uint64_t size_bytes, bool slowly)
{
	_cleanup_free_ char *zeros = mem_calloc(1, ZERO_PIECE_BYTES);

	for (uint64_t at = 0; at < size_bytes; at += ZERO_PIECE_BYTES) {
		int r = write_at(fd, zeros, MIN(size_bytes - at, (uint64_t)ZERO_PIECE_BYTES), at);

		/* In small pieces beside a log that syncs all the time: a large flush would hold it up. */
		if (r == 0 && slowly && fdatasync(fd) < 0)
			r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

static int create_file(int dir_fd, const struct wal_step *step, bool slowly)
{
	_cleanup_close_ int fd =
		openat(dir_fd, step->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	if (!step->size_bytes)
		return 0; /* grows as it is written */
	r = -posix_fallocate(fd, 0, (off_t)step->size_bytes);
	if (r == 0)
		r = fill_with_zeros(fd, step->size_bytes, slowly);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, step->name, 0); /* half a segment only takes space */
	else if (fsync(dir_fd) < 0)
		r = -errno;
	return r;
}

static int read_at(int fd, uint64_t offset, size_t len, struct buf *out)
{
	while (len > 0) {
		char *to = buf_reserve(out, len);
		ssize_t n = to ? pread(fd, to, len, (off_t)offset) : -1;

		if (!to)
			return -ENOBUFS;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		buf_commit(out, (size_t)n);
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int read_range(int dir_fd, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	_cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size <= offset)
		return 0;
	return read_at(fd, offset, (size_t)MIN((uint64_t)len, (uint64_t)st.st_size - offset), out);
}

static int sync_file(struct disk_file *file, struct disk_counts *counts)
{
	int64_t start_ns = time_mono_ns();

	if (fdatasync(file->fd) < 0)
		return -errno;
	counts->syncs++;
	counts->sync_ns += (uint64_t)(time_mono_ns() - start_ns);
	return 0;
}

static int run_step(int dir_fd, struct disk_file *file, const struct wal_plan *plan,
	const struct wal_step *step, struct disk_counts *counts)
{
	int r;

	switch (step->kind) {
	case WAL_STEP_CREATE:
		if (strcmp(file->name, step->name) == 0)
			disk_file_done(file);
		return create_file(dir_fd, step, plan->background);
	case WAL_STEP_RENAME:
		if (renameat(dir_fd, step->name, dir_fd, step->to_name) < 0)
			return -errno;
		if (strcmp(file->name, step->to_name) == 0)
			disk_file_done(file); /* it was replaced */
		if (strcmp(file->name, step->name) == 0)
			memcpy(file->name, step->to_name, sizeof(file->name));
		return 0;
	case WAL_STEP_WRITE:
		assert(step->bytes_at + step->bytes_len <= plan->bytes.len);
		r = use_file(dir_fd, file, step->name);
		if (r == 0)
			r = write_at(
				file->fd, plan->bytes.data + step->bytes_at, step->bytes_len, step->offset);
		counts->writes++;
		counts->write_bytes += step->bytes_len;
		return r;
	case WAL_STEP_SYNC:
		r = use_file(dir_fd, file, step->name);
		return r < 0 ? r : sync_file(file, counts);
	case WAL_STEP_SYNC_DIR:
		return fsync(dir_fd) < 0 ? -errno : 0;
	case WAL_STEP_REMOVE:
		if (strcmp(file->name, step->name) == 0)
			disk_file_done(file);
		return unlinkat(dir_fd, step->name, 0) < 0 && errno != ENOENT ? -errno : 0;
	case WAL_STEP_READ:
		return read_range(dir_fd, step->name, step->offset, (size_t)step->size_bytes, step->into);
	default:
		return -EINVAL;
	}
}

int disk_run_plan(int dir_fd, struct disk_file *file, const struct wal_plan *plan, struct disk_counts *counts)
{
	for (size_t i = 0; i < plan->steps_len; i++) {
		int r = run_step(dir_fd, file, plan, &plan->steps[i], counts);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- Threads ---- */

static void work(void *arg)
{
	struct worker *worker = arg;
	struct disk *disk = worker->disk;

	uv_mutex_lock(&worker->mutex);
	for (;;) {
		struct disk_counts counts = worker->counts;
		int error;

		while (!worker->plan && !worker->stop)
			uv_cond_wait(&worker->wake, &worker->mutex);
		if (!worker->plan)
			break;
		uv_mutex_unlock(&worker->mutex);
		error = disk_run_plan(disk->dir_fd, &worker->file, worker->plan, &counts);
		uv_mutex_lock(&worker->mutex);
		worker->done = worker->plan;
		worker->plan = NULL;
		worker->error = error;
		worker->counts = counts;
		/* Woken outside the mutex: the loop would only run into it. */
		uv_mutex_unlock(&worker->mutex);
		(void)uv_async_send(&disk->async);
		uv_mutex_lock(&worker->mutex);
	}
	uv_mutex_unlock(&worker->mutex);
	disk_file_done(&worker->file);
}

static void on_async(uv_async_t *async)
{
	struct disk *disk = async->data;

	for (size_t i = 0; i < ARRAY_LEN(disk->workers); i++) {
		struct worker *worker = &disk->workers[i];
		const struct wal_plan *done;
		int error;

		uv_mutex_lock(&worker->mutex);
		done = take_ptr(worker->done);
		error = worker->error;
		uv_mutex_unlock(&worker->mutex);
		if (done)
			disk->on_done(done, error, disk->user);
	}
}

static int start_worker(struct disk *disk, struct worker *worker)
{
	uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
	int r;

	worker->disk = disk;
	worker->file = DISK_FILE_INIT;
	if (uv_mutex_init(&worker->mutex) < 0 || uv_cond_init(&worker->wake) < 0)
		return -ENOMEM;
	r = uv_thread_create_ex(&worker->thread, &options, work, worker);
	worker->started = r == 0;
	return r;
}

int disk_open(uv_loop_t *loop, const char *path,
	void (*done)(const struct wal_plan *plan, int error, void *user), void *user, struct disk **ret_disk,
	struct buf *reterr)
{
	struct disk *disk = mem_new(struct disk);
	int r;

	disk->on_done = done;
	disk->user = user;
	disk->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disk->dir_fd < 0) {
		r = -errno;
		buf_printf(reterr, "cannot open the log directory %s: %s", path, strerror(-r));
		mem_free(disk);
		return r;
	}
	r = uv_async_init(loop, &disk->async, on_async);
	disk->async.data = disk;
	for (size_t i = 0; i < ARRAY_LEN(disk->workers) && r == 0; i++)
		r = start_worker(disk, &disk->workers[i]);
	if (r < 0) {
		buf_printf(reterr, "cannot start the log's writer: %s", uv_strerror(r));
		/* What was started is left alone: the program ends on this. */
		return r;
	}
	*ret_disk = disk;
	return 0;
}

void disk_submit(struct disk *disk, const struct wal_plan *plan)
{
	struct worker *worker = &disk->workers[plan->background ? 1 : 0];

	uv_mutex_lock(&worker->mutex);
	assert(!worker->plan && !worker->done);
	worker->plan = plan;
	uv_mutex_unlock(&worker->mutex);
	uv_cond_signal(&worker->wake);
}

static void on_closed(uv_handle_t *handle)
{
	mem_free(handle->data);
}

struct disk *disk_close(struct disk *disk)
{
	if (!disk)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(disk->workers); i++) {
		struct worker *worker = &disk->workers[i];

		uv_mutex_lock(&worker->mutex);
		worker->stop = true;
		uv_cond_signal(&worker->wake);
		uv_mutex_unlock(&worker->mutex);
		(void)uv_thread_join(&worker->thread);
		uv_cond_destroy(&worker->wake);
		uv_mutex_destroy(&worker->mutex);
	}
	closep(&disk->dir_fd);
	disk->dir_fd = -1;
	uv_close((uv_handle_t *)&disk->async, on_closed);
	return NULL;
}

void disk_get_counts(const struct disk *disk, struct disk_counts *ret_counts)
{
	struct worker *worker = (struct worker *)(uintptr_t)&disk->workers[0];

	uv_mutex_lock(&worker->mutex);
	*ret_counts = worker->counts;
	uv_mutex_unlock(&worker->mutex);
}

uint64_t disk_room(const struct disk *disk)
{
	struct statvfs at;
	uint64_t bytes;

	if (fstatvfs(disk->dir_fd, &at) < 0 || __builtin_mul_overflow(at.f_bavail, at.f_frsize, &bytes))
		return UINT64_MAX;
	return bytes;
}

/* ---- Start ---- */

int disk_list(struct disk *disk, void (*fn)(void *arg, const char *name, uint64_t size_bytes), void *arg)
{
	/* A descriptor of its own: reading moves its position. */
	int fd = openat(disk->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		r = -errno;
		closep(&fd);
		return r;
	}
	for (errno = 0; (entry = readdir(dir)); errno = 0) {
		struct stat st;

		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			r = -errno;
			break;
		}
		if (S_ISREG(st.st_mode))
			fn(arg, entry->d_name, (uint64_t)st.st_size);
	}
	if (r == 0 && errno)
		r = -errno;
	(void)closedir(dir);
	return r;
}

int disk_read(struct disk *disk, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	_cleanup_buf_ struct buf data = BUF_INIT(0);
	int r = file_read_at(disk->dir_fd, name, max_bytes, &data);

	if (r == 0)
		*ret_data = buf_take(&data, ret_len);
	return r;
}

int disk_read_range(struct disk *disk, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	return read_range(disk->dir_fd, name, offset, len, out);
}
