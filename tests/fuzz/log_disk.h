/* The log's plans on a fuzz_disk. Each answers 0, -ENOENT or -ENOSPC (the directory is full). */
#pragma once
#include "disk.h"
#include "wal/wal.h"

int log_disk_step(struct fuzz_disk *disk, const struct wal_plan *plan, const struct wal_step *step);
int log_disk_run(struct fuzz_disk *disk, const struct wal_plan *plan);
