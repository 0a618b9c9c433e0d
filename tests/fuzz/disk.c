#include "disk.h"
#include "base/memory.h"
#include <errno.h>

struct fuzz_file *fuzz_disk_find(struct fuzz_disk *disk, const char *name)
{
	for (size_t i = 0; i < disk->files_len; i++)
		if (strcmp(disk->files[i].name, name) == 0)
			return &disk->files[i];
	return NULL;
}

void fuzz_disk_drop(struct fuzz_disk *disk, struct fuzz_file *file)
{
	if (!file)
		return;
	buf_done(&file->bytes);
	*file = disk->files[--disk->files_len];
}

struct fuzz_file *fuzz_disk_create(struct fuzz_disk *disk, const char *name, uint64_t size_bytes)
{
	struct fuzz_file *file;

	fuzz_disk_drop(disk, fuzz_disk_find(disk, name));
	if (disk->files_len == FUZZ_FILES_MAX)
		return NULL;
	file = &disk->files[disk->files_len++];
	*file = (struct fuzz_file){.bytes = BUF_INIT(0)};
	memcpy(file->name, name, strlen(name) + 1);
	buf_add_fill(&file->bytes, 0, size_bytes);
	return file;
}

void fuzz_disk_done(struct fuzz_disk *disk)
{
	while (disk->files_len)
		fuzz_disk_drop(disk, &disk->files[0]);
}

void fuzz_disk_copy(struct fuzz_disk *disk, const struct fuzz_disk *from)
{
	fuzz_disk_done(disk);
	for (size_t i = 0; i < from->files_len; i++)
		buf_add_slice(&fuzz_disk_create(disk, from->files[i].name, 0)->bytes,
			buf_slice(&from->files[i].bytes));
}

int fuzz_disk_list(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	const struct fuzz_disk *disk = arg;

	for (size_t i = 0; i < disk->files_len; i++)
		fn(fn_arg, disk->files[i].name, disk->files[i].bytes.len);
	return 0;
}

int fuzz_disk_read_range(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	const struct fuzz_file *file = fuzz_disk_find(arg, name);

	if (!file)
		return -ENOENT;
	if (offset < file->bytes.len)
		buf_add(out, file->bytes.data + offset, MIN(len, file->bytes.len - (size_t)offset));
	return 0;
}

int fuzz_disk_read(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	const struct fuzz_file *file = fuzz_disk_find(arg, name);

	if (!file)
		return -ENOENT;
	if (file->bytes.len > max_bytes)
		return -EFBIG;
	*ret_data = mem_dup(file->bytes.data, file->bytes.len);
	*ret_len = file->bytes.len;
	return 0;
}

int fuzz_disk_rename(struct fuzz_disk *disk, const char *name, const char *to_name)
{
	struct fuzz_file *file = fuzz_disk_find(disk, name);

	if (!file)
		return -ENOENT;
	if (strcmp(name, to_name) == 0)
		return 0;
	fuzz_disk_drop(disk, fuzz_disk_find(disk, to_name));
	memcpy(fuzz_disk_find(disk, name)->name, to_name, strlen(to_name) + 1);
	return 0;
}

int fuzz_disk_write(struct fuzz_disk *disk, const char *name, uint64_t offset, struct slice bytes)
{
	struct fuzz_file *file = fuzz_disk_find(disk, name);

	if (!file)
		return -ENOENT;
	if (offset + bytes.len > file->bytes.len)
		buf_add_fill(&file->bytes, 0, (size_t)offset + bytes.len - file->bytes.len);
	memcpy(file->bytes.data + offset, bytes.data, bytes.len);
	return 0;
}
