#include "log_disk.h"
#include <errno.h>

static_assert(FUZZ_NAME_MAX == WAL_NAME_MAX, "a step's names fit");

int log_disk_step(struct fuzz_disk *disk, const struct wal_plan *plan, const struct wal_step *step)
{
	switch (step->kind) {
	case WAL_STEP_CREATE:
		return fuzz_disk_create(disk, step->name, step->size_bytes) ? 0 : -ENOSPC;
	case WAL_STEP_RENAME:
		return fuzz_disk_rename(disk, step->name, step->to_name);
	case WAL_STEP_WRITE:
		return fuzz_disk_write(disk, step->name, step->offset,
			slice_make(plan->bytes.data + step->bytes_at, step->bytes_len));
	case WAL_STEP_REMOVE:
		fuzz_disk_drop(disk, fuzz_disk_find(disk, step->name));
		return 0;
	case WAL_STEP_READ:
		return fuzz_disk_read_range(disk, step->name, step->offset, step->size_bytes, step->into);
	default:
		return 0;
	}
}

int log_disk_run(struct fuzz_disk *disk, const struct wal_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++) {
		int r = log_disk_step(disk, plan, &plan->steps[i]);

		if (r < 0)
			return r;
	}
	return 0;
}
