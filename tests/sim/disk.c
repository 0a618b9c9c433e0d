/* Each file has its contents as read now and as durable, and the writes that lie between. Names are a table
 * now, a durable table, and the changes that lie between. */
#include "disk.h"
#include "base/memory.h"
#include <errno.h>

#define FILES_MAX 4096
#define CHANGES_MAX 64

struct write {
	uint64_t offset;
	size_t len;
	char *data;
};

struct file {
	char *now, *durable;
	size_t size, durable_size;
	struct write *writes;
	size_t writes_len;
	unsigned refs; /* of names */
};

struct name {
	char text[WAL_NAME_MAX];
	struct file *file;
};

struct names {
	struct name *items;
	size_t len, cap;
};

struct change {
	struct wal_step step;
	struct file *file; /* CREATE: what the name is bound to */
};

struct disk {
	struct rng *rng;
	struct names now, durable;
	struct change changes[CHANGES_MAX];
	size_t changes_len;
};

static struct file *file_ref(struct file *file)
{
	file->refs++;
	return file;
}

static void file_unref(struct file *file)
{
	if (--file->refs)
		return;
	for (size_t i = 0; i < file->writes_len; i++)
		free(file->writes[i].data);
	free(file->writes);
	free(file->now);
	free(file->durable);
	free(file);
}

static struct name *names_find(const struct names *names, const char *text)
{
	for (size_t i = 0; i < names->len; i++)
		if (strcmp(names->items[i].text, text) == 0)
			return &names->items[i];
	return NULL;
}

static void names_remove(struct names *names, const char *text)
{
	struct name *name = names_find(names, text);

	if (!name)
		return;
	file_unref(name->file);
	*name = names->items[--names->len];
}

static void names_set(struct names *names, const char *text, struct file *file)
{
	struct file *held = file_ref(file);

	names_remove(names, text);
	if (names->len == names->cap) {
		names->cap = names->cap ? names->cap * 2 : 16;
		names->items = mem_reallocarray(names->items, names->cap, sizeof(*names->items));
	}
	memcpy(names->items[names->len].text, text, strlen(text) + 1);
	names->items[names->len++].file = held;
}

static void names_done(struct names *names)
{
	while (names->len)
		names_remove(names, names->items[0].text);
	free(names->items);
}

static int names_change(struct names *names, const struct change *change)
{
	struct name *name = names_find(names, change->step.name);

	if (change->step.kind == WAL_STEP_CREATE) {
		names_set(names, change->step.name, change->file);
		return 0;
	}
	if (!name)
		return change->step.kind == WAL_STEP_REMOVE ? 0 : -ENOENT;
	if (change->step.kind == WAL_STEP_RENAME) {
		struct file *file = file_ref(name->file);

		names_remove(names, change->step.name);
		names_set(names, change->step.to_name, file);
		file_unref(file);
		return 0;
	}
	names_remove(names, change->step.name);
	return 0;
}

struct disk *disk_new(struct rng *rng)
{
	struct disk *disk = mem_new(struct disk);

	disk->rng = rng;
	return disk;
}

static void forget_changes(struct disk *disk, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (disk->changes[i].file)
			file_unref(disk->changes[i].file);
	disk->changes_len = 0;
}

struct disk *disk_free(struct disk *disk)
{
	if (!disk)
		return NULL;
	forget_changes(disk, disk->changes_len);
	names_done(&disk->now);
	names_done(&disk->durable);
	free(disk);
	return NULL;
}

int disk_list(struct disk *disk, void (*fn)(void *arg, const char *name, uint64_t size_bytes), void *arg)
{
	for (size_t i = 0; i < disk->now.len; i++)
		fn(arg, disk->now.items[i].text, disk->now.items[i].file->size);
	return 0;
}

int disk_read(struct disk *disk, const char *text, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	struct name *name = names_find(&disk->now, text);

	if (!name)
		return -ENOENT;
	if (name->file->size > max_bytes)
		return -EFBIG;
	*ret_data = mem_dup(name->file->now, name->file->size);
	*ret_len = name->file->size;
	return 0;
}

int disk_read_range(struct disk *disk, const char *text, uint64_t offset, size_t len, struct buf *out)
{
	struct name *name = names_find(&disk->now, text);

	if (!name)
		return -ENOENT;
	if (offset < name->file->size)
		buf_add(out, name->file->now + offset, MIN(len, name->file->size - (size_t)offset));
	return 0;
}

uint64_t disk_bytes(const struct disk *disk)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < disk->now.len; i++)
		bytes += disk->now.items[i].file->size;
	return bytes;
}

static struct file *file_new(size_t size)
{
	struct file *file = mem_new(struct file);

	file->size = file->durable_size = size;
	file->now = mem_calloc(1, size ? size : 1);
	file->durable = mem_calloc(1, size ? size : 1);
	return file;
}

static void sync_names(struct disk *disk, size_t count)
{
	for (size_t i = 0; i < count; i++)
		(void)names_change(&disk->durable, &disk->changes[i]);
	forget_changes(disk, disk->changes_len);
}

static int change_names(struct disk *disk, const struct wal_step *step, struct file *file)
{
	struct change change = {.step = *step, .file = file ? file_ref(file) : NULL};
	int r = names_change(&disk->now, &change);

	if (r < 0 || disk->changes_len == CHANGES_MAX) {
		if (file)
			file_unref(file);
		return r < 0 ? r : -EMLINK;
	}
	disk->changes[disk->changes_len++] = change;
	return 0;
}

static int write_file(struct file *file, uint64_t offset, const char *data, size_t len)
{
	if (offset > file->size || (len > file->size - offset && offset != file->size))
		return -EFBIG;
	if (offset + len > file->size) {
		file->size = (size_t)offset + len;
		file->now = mem_realloc(file->now, file->size);
	}
	memcpy(file->now + offset, data, len);
	file->writes = mem_reallocarray(file->writes, file->writes_len + 1, sizeof(*file->writes));
	file->writes[file->writes_len++] =
		(struct write){.offset = offset, .len = len, .data = mem_dup(data, len)};
	return 0;
}

static void forget_writes(struct file *file)
{
	for (size_t i = 0; i < file->writes_len; i++)
		free(file->writes[i].data);
	file->writes_len = 0;
}

/* The durable contents are at least so long; what was never written is zero. */
static void grow_durable(struct file *file, size_t size)
{
	if (size <= file->durable_size)
		return;
	file->durable = mem_realloc(file->durable, size);
	memset(file->durable + file->durable_size, 0, size - file->durable_size);
	file->durable_size = size;
}

static void sync_file(struct file *file)
{
	grow_durable(file, file->size);
	for (size_t i = 0; i < file->writes_len; i++)
		memcpy(file->durable + file->writes[i].offset, file->writes[i].data, file->writes[i].len);
	forget_writes(file);
}

static int create_file(struct disk *disk, const struct wal_step *step)
{
	struct file *file = file_new(step->size_bytes);
	int r = change_names(disk, step, file);

	if (r == 0 && step->size_bytes)
		sync_names(disk, disk->changes_len);
	return r;
}

int disk_step(struct disk *disk, const struct wal_plan *plan, const struct wal_step *step)
{
	struct name *name = names_find(&disk->now, step->name);

	switch (step->kind) {
	case WAL_STEP_CREATE:
		return disk->now.len < FILES_MAX ? create_file(disk, step) : -ENOSPC;
	case WAL_STEP_RENAME:
	case WAL_STEP_REMOVE:
		return change_names(disk, step, NULL);
	case WAL_STEP_WRITE:
		return name ? write_file(name->file, step->offset, plan->bytes.data + step->bytes_at,
				      step->bytes_len)
			    : -ENOENT;
	case WAL_STEP_SYNC:
		if (!name)
			return -ENOENT;
		sync_file(name->file);
		return 0;
	case WAL_STEP_SYNC_DIR:
		sync_names(disk, disk->changes_len);
		return 0;
	case WAL_STEP_READ:
		return disk_read_range(disk, step->name, step->offset, (size_t)step->size_bytes, step->into);
	default:
		return -EINVAL;
	}
}

void disk_step_partly(struct disk *disk, const struct wal_plan *plan, const struct wal_step *step)
{
	struct name *name = names_find(&disk->now, step->name);
	struct wal_step part = *step;

	switch (step->kind) {
	case WAL_STEP_CREATE:
		/* Nothing, or a file that is not yet as large as it should be, or all of it. */
		if (rng_below(disk->rng, 3) == 0)
			return;
		if (rng_below(disk->rng, 2) == 0 && step->size_bytes)
			part.size_bytes = rng_below(disk->rng, step->size_bytes);
		(void)create_file(disk, &part);
		return;
	case WAL_STEP_WRITE:
		if (name)
			(void)write_file(name->file, step->offset, plan->bytes.data + step->bytes_at,
				(size_t)rng_below(disk->rng, step->bytes_len + 1));
		return;
	default:
		if (rng_below(disk->rng, 2) == 0)
			(void)disk_step(disk, plan, step);
	}
}

bool disk_grows(const struct disk *disk, const struct wal_step *step)
{
	const struct name *name = names_find(&disk->now, step->name);

	if (step->kind == WAL_STEP_CREATE)
		return true;
	return step->kind == WAL_STEP_WRITE && name && step->offset + step->bytes_len > name->file->size;
}

uint64_t disk_left(const struct disk *disk, uint64_t bytes_max)
{
	return bytes_max ? bytes_max - MIN(bytes_max, disk_bytes(disk)) : UINT64_MAX;
}

bool disk_lacks(const struct disk *disk, uint64_t bytes_max, const struct wal_step *step)
{
	uint64_t bytes = step->kind == WAL_STEP_CREATE ? step->size_bytes : step->bytes_len;

	return bytes_max && disk_grows(disk, step) && disk_left(disk, bytes_max) < bytes;
}

struct slice disk_peek(const struct disk *disk, const char *text)
{
	const struct name *name = names_find(&disk->now, text);

	return name ? slice_make(name->file->now, name->file->size) : slice_make("", 0);
}

bool disk_flip(struct disk *disk, const char *text, uint64_t offset, unsigned bit)
{
	const struct name *name = names_find(&disk->now, text);

	if (!name || offset >= name->file->size)
		return false;
	name->file->now[offset] ^= (char)(1u << bit % 8);
	if (offset < name->file->durable_size)
		name->file->durable[offset] ^= (char)(1u << bit % 8);
	return true;
}

bool disk_clear(struct disk *disk, const char *text, uint64_t offset, size_t len)
{
	const struct name *name = names_find(&disk->now, text);

	if (!name || offset > name->file->size || len > name->file->size - offset)
		return false;
	memset(name->file->now + offset, 0, len);
	if (offset < name->file->durable_size)
		memset(name->file->durable + offset, 0, MIN(len, name->file->durable_size - (size_t)offset));
	return true;
}

bool disk_is_settled(const struct disk *disk)
{
	for (size_t i = 0; i < disk->now.len; i++) {
		const struct file *file = disk->now.items[i].file;

		if (file->size != file->durable_size || memcmp(file->now, file->durable, file->size) != 0)
			return false;
	}
	return !disk->changes_len;
}

/* Brings a part of an unsynced write to the platter. */
static void settle_write(
	struct disk *disk, struct file *file, const struct write *write, struct disk_losses *losses)
{
	size_t at, len;
	unsigned how = (unsigned)rng_below(disk->rng, 4);

	losses->lost += how == 0;
	losses->torn += how > 1;
	if (how == 0)
		return;
	grow_durable(
		file, (size_t)write->offset + (how == 2 ? rng_below(disk->rng, write->len + 1) : write->len));
	switch (how) {
	case 1:
		memcpy(file->durable + write->offset, write->data, write->len);
		break;
	case 2:
		len = MIN(write->len, file->durable_size - (size_t)write->offset);
		memcpy(file->durable + write->offset, write->data, (size_t)rng_below(disk->rng, len + 1));
		break;
	default:
		for (at = 0; at < write->len; at += len) {
			len = MIN(DISK_SECTOR_BYTES - (size_t)(write->offset + at) % DISK_SECTOR_BYTES,
				write->len - at);
			if (rng_below(disk->rng, 2))
				memcpy(file->durable + write->offset + at, write->data + at, len);
		}
	}
}

void disk_step_fails(struct disk *disk, const struct wal_plan *plan, const struct wal_step *step)
{
	struct name *name = names_find(&disk->now, step->name);
	struct disk_losses losses = {0};

	if (step->kind != WAL_STEP_SYNC) {
		disk_step_partly(disk, plan, step);
		return;
	}
	for (size_t i = 0; name && i < name->file->writes_len; i++)
		settle_write(disk, name->file, &name->file->writes[i], &losses);
	if (name)
		forget_writes(name->file);
}

struct disk_losses disk_power_off(struct disk *disk)
{
	struct disk_losses losses = {0};
	bool all = rng_below(disk->rng, 4) == 0; /* of what is not synced, names too, nothing is left */

	sync_names(disk, all ? 0 : (size_t)rng_below(disk->rng, disk->changes_len + 1));
	while (disk->now.len)
		names_remove(&disk->now, disk->now.items[0].text);
	for (size_t i = 0; i < disk->durable.len; i++) {
		struct file *file = disk->durable.items[i].file;

		for (size_t k = 0; k < file->writes_len && !all; k++)
			settle_write(disk, file, &file->writes[k], &losses);
		losses.lost += all ? (unsigned)file->writes_len : 0;
		forget_writes(file);
		file->size = file->durable_size;
		file->now = mem_realloc(file->now, MAX(file->size, (size_t)1));
		memcpy(file->now, file->durable, file->size);
		names_set(&disk->now, disk->durable.items[i].text, file);
	}
	return losses;
}
