/* A disk of memory. What was written is in the cache until its file is synced; names made by rename and
 * remove are until the directory is. When the process dies the cache stays; when the power fails each
 * unsynced write is lost, kept, or torn at a byte or by sectors, and of the unsynced changes of names a
 * random number of the newest is undone. A sync that fails does what Linux does: of what it was to write any
 * part may have come to the platter, but the cache counts all of it as written. The next sync has nothing to
 * do and succeeds. */
#pragma once
#include "base/rng.h"
#include "wal/plan.h"

struct disk;

#define DISK_SECTOR_BYTES ((size_t)512)

struct disk *disk_new(struct rng *rng); /* borrowed generator */
struct disk *disk_free(struct disk *disk);
int disk_list(struct disk *disk, void (*fn)(void *arg, const char *name, uint64_t size_bytes), void *arg);
int disk_read(struct disk *disk, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len);
int disk_read_range(struct disk *disk, const char *name, uint64_t offset, size_t len, struct buf *out);
/* All files together. */
uint64_t disk_bytes(const struct disk *disk);
/* Carries out one step of a plan; 0 or -errno when the plan makes no sense (a fault of whoever made it). */
int disk_step(struct disk *disk, const struct wal_plan *plan, const struct wal_step *step);
/* A step during which the machine stops: any part of it may have been done. */
void disk_step_partly(struct disk *disk, const struct wal_plan *plan, const struct wal_step *step);
/* A step that the disk answers with an error. */
void disk_step_fails(struct disk *disk, const struct wal_plan *plan, const struct wal_step *step);
/* Whether the step takes space that was not taken before. */
bool disk_grows(const struct disk *disk, const struct wal_step *step);
/* Of a disk with room for so many bytes (0: endless): what is left of them, UINT64_MAX without an end; and
 * whether there is too little for the step. */
uint64_t disk_left(const struct disk *disk, uint64_t bytes_max);
bool disk_lacks(const struct disk *disk, uint64_t bytes_max, const struct wal_step *step);
/* What became of the unsynced writes. */
struct disk_losses {
	unsigned lost, torn;
};
struct disk_losses disk_power_off(struct disk *disk);
/* The contents of a file as read now; borrowed until the next change. Empty when there is none. */
struct slice disk_peek(const struct disk *disk, const char *name);
/* A bit rots: in the cache and on the platter. False: there is no such byte. */
bool disk_flip(struct disk *disk, const char *name, uint64_t offset, unsigned bit);
/* Bytes that are there read as zeros, from the cache and from the platter. */
bool disk_clear(struct disk *disk, const char *name, uint64_t offset, size_t len);
/* All that is read would still be there after a power failure. */
bool disk_is_settled(const struct disk *disk);
