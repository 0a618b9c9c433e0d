/* Carries out the log's plans (wal/plan.h) in threads: one for the log itself, one for what may be slow
 * (background plans), so that preparing a segment never holds up a write. Each has at most one plan under
 * way. Called on the loop's thread; answers come there too. A step that fails ends its plan with that error;
 * nothing is tried again. */
#pragma once
#include "base/buf.h"
#include "wal/plan.h"
#include <uv.h>

struct disk;

struct disk_counts {
	uint64_t writes, write_bytes, syncs, sync_ns;
};

/* `path`: the directory of the log. done: called for each plan on the loop's thread. -errno with a text. */
int disk_open(uv_loop_t *loop, const char *path,
	void (*done)(const struct wal_plan *plan, int error, void *user), void *user, struct disk **ret_disk,
	struct buf *reterr) _must_check_;
/* The plan must stay as it is until it is answered. */
void disk_submit(struct disk *disk, const struct wal_plan *plan);
/* Waits for plans under way (without answering them), ends the threads, and frees. NULL is fine; answers
 * NULL. */
struct disk *disk_close(struct disk *disk);
void disk_get_counts(const struct disk *disk, struct disk_counts *ret_counts);

uint64_t disk_room(const struct disk *disk); /* as env_ops.disk_room */

/* Start only, blocking: as env_ops.disk_list and disk_read. */
int disk_list(struct disk *disk, void (*fn)(void *arg, const char *name, uint64_t size_bytes), void *arg);
int disk_read_range(struct disk *disk, const char *name, uint64_t offset, size_t len, struct buf *out);
int disk_read(struct disk *disk, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len);

/* One plan, blocking, below a directory descriptor; for the threads, and for tests. `file` keeps one file
 * open between plans; begin with DISK_FILE_INIT, end with disk_file_done(). */
struct disk_file {
	int fd;
	char name[WAL_NAME_MAX];
};
#define DISK_FILE_INIT ((struct disk_file){.fd = -1})
void disk_file_done(struct disk_file *file);
int disk_run_plan(
	int dir_fd, struct disk_file *file, const struct wal_plan *plan, struct disk_counts *counts);
