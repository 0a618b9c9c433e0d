/* What the log wants done to files, as data: a plan is built by a pure room, carried out in order by whoever
 * owns the disk (a writer thread in the server, the simulated disk in tests), and answered once. The first
 * step that fails ends the plan; nothing of it is ever tried again. Paths are names inside the member's log
 * directory. */
#pragma once
#include "base/buf.h"

#define WAL_NAME_MAX 40

enum wal_step_kind {
	WAL_STEP_CREATE,   /* make `name` with size_bytes of zeros, space really taken, contents and name
			      durable; an existing file of that name is replaced. Size 0: an empty file that
			      grows as it is written; its name is durable after SYNC_DIR */
	WAL_STEP_RENAME,   /* name becomes to_name, which is replaced */
	WAL_STEP_WRITE,	   /* bytes at offset, inside the file's size or at its end */
	WAL_STEP_SYNC,	   /* what was written to `name` so far is durable (fdatasync) */
	WAL_STEP_SYNC_DIR, /* created, renamed and removed names are durable */
	WAL_STEP_REMOVE,   /* the file `name` goes, if it is there */
	WAL_STEP_READ, /* up to size_bytes from offset on are appended to `into`: fewer at the file's end */
	WAL_STEP_MAX,
};

struct wal_step {
	enum wal_step_kind kind;
	char name[WAL_NAME_MAX];
	char to_name[WAL_NAME_MAX];  /* RENAME */
	uint64_t offset, size_bytes; /* WRITE, READ: where in the file; CREATE: how large; READ: how much */
	size_t bytes_at, bytes_len;  /* WRITE: which part of the plan's bytes */
	struct buf *into;	     /* READ: whoever carries the plan out has it until the answer */
};

#define WAL_PLAN_STEPS_MAX 16

/* Owned by its maker. From submission to the answer it is only read, so another thread may carry it out. */
struct wal_plan {
	bool background; /* may run beside another plan, and be slow: preparing a segment, checkpoints. At
			    most one is under way */
	struct wal_step steps[WAL_PLAN_STEPS_MAX];
	size_t steps_len;
	struct buf bytes;
};
