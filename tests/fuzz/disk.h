/* A directory in memory, for the targets that carry plans out: files by name. Zero is an empty one;
 * fuzz_disk_done() at the end. */
#pragma once
#include "base/buf.h"

enum { FUZZ_FILES_MAX = 24, FUZZ_NAME_MAX = 40 };

struct fuzz_file {
	char name[FUZZ_NAME_MAX];
	struct buf bytes;
};

struct fuzz_disk {
	struct fuzz_file files[FUZZ_FILES_MAX];
	size_t files_len;
};

struct fuzz_file *fuzz_disk_find(struct fuzz_disk *disk, const char *name); /* NULL: none */
void fuzz_disk_drop(struct fuzz_disk *disk, struct fuzz_file *file);	    /* NULL is fine */
/* A file of so many zeros; one of that name is replaced. NULL: the directory is full. */
struct fuzz_file *fuzz_disk_create(struct fuzz_disk *disk, const char *name, uint64_t size_bytes);
void fuzz_disk_done(struct fuzz_disk *disk);
void fuzz_disk_copy(struct fuzz_disk *disk, const struct fuzz_disk *from); /* what was there before goes */
int fuzz_disk_rename(struct fuzz_disk *disk, const char *name, const char *to_name); /* -ENOENT */
/* Makes the file longer where it must. -ENOENT. */
int fuzz_disk_write(struct fuzz_disk *disk, const char *name, uint64_t offset, struct slice bytes);

/* As the rooms ask for reading: `arg` is the disk. */
int fuzz_disk_list(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg);
int fuzz_disk_read(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len);
int fuzz_disk_read_range(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out);
