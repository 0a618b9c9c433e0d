/* Recovery of a log: whatever the files hold, it ends with an error or with a log that makes sense, and
 * reading does not change what is read. The first byte chooses: the input is the segments as they are; or the
 * payloads of well-formed frames; or damage done to a sound log. */
#include "base/hash.h"
#include "base/memory.h"
#include "wal/format.h"
#include "wal/wal.h"
#include <errno.h>
#include <stdlib.h>

#define FILES 3
#define FILE_BYTES 8192

struct disk {
	char *data[FILES];
	size_t len[FILES];
};

static int disk_list(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct disk *disk = arg;
	char name[WAL_NAME_MAX];

	for (uint64_t i = 0; i < FILES; i++)
		if (disk->data[i]) {
			wal_segment_name(name, i + 1);
			fn(fn_arg, name, disk->len[i]);
		}
	return 0;
}

static int disk_read(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	struct disk *disk = arg;
	uint64_t number;

	if (!wal_segment_number(name, &number) || number > FILES || !disk->data[number - 1])
		return -ENOENT;
	if (disk->len[number - 1] > max_bytes)
		return -EFBIG;
	*ret_data = mem_dup(disk->data[number - 1], disk->len[number - 1]);
	*ret_len = disk->len[number - 1];
	return 0;
}

static int take_entry(void *arg, const struct wal_entry *entry)
{
	uint64_t *last = arg;

	if (!entry->index || (*last && entry->index > *last + 1))
		abort();
	*last = entry->index;
	return entry->data.len && entry->data.data[0] == 'x' ? -EBADMSG : 0;
}

static void take_restart(void *arg, uint64_t index)
{
	uint64_t *last = arg;

	*last = index;
}

static void recover(struct disk *disk)
{
	struct wal_config config = {
		.cluster_id = 1, .member_id = 2, .segment_bytes = FILE_BYTES, .random_seed = 3};
	struct wal_disk ops = {.list = disk_list, .read = disk_read, .arg = disk};
	uint64_t last = 0, cluster_id, member_id;
	struct wal_sink sink = {.entry = take_entry, .restart = take_restart, .arg = &last};
	_cleanup_(wal_freep) struct wal *wal = NULL;
	struct wal_recovered found;
	char *error = NULL;
	bool exists;
	int r = wal_open(&config, &ops, &sink, &wal, &found, &error);

	if (r < 0 ? !error : !!error)
		abort();
	if (r == 0 && (wal_last_index(wal) != found.last_index || found.last_index + 1 < found.first_index))
		abort();
	free(error);
	error = NULL;
	(void)wal_identity(&ops, &exists, &cluster_id, &member_id, &error);
	free(error);
}

static void run_plan(struct disk *disk, const struct wal_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++) {
		const struct wal_step *step = &plan->steps[i];
		uint64_t number;

		if (!wal_segment_number(step->name, &number) || number > FILES)
			continue;
		if (step->kind == WAL_STEP_CREATE) {
			disk->data[number - 1] = mem_calloc(1, step->size_bytes);
			disk->len[number - 1] = step->size_bytes;
		} else if (step->kind == WAL_STEP_WRITE) {
			memcpy(disk->data[number - 1] + step->offset, plan->bytes.data + step->bytes_at,
				step->bytes_len);
		}
	}
}

static void make_sound_log(struct disk *disk)
{
	struct wal_config config = {
		.cluster_id = 1, .member_id = 2, .segment_bytes = FILE_BYTES, .random_seed = 3};
	struct disk empty = {0};
	struct wal_disk ops = {.list = disk_list, .read = disk_read, .arg = &empty};
	uint64_t last = 0;
	struct wal_sink sink = {.entry = take_entry, .restart = take_restart, .arg = &last};
	struct wal *wal;
	struct wal_recovered found;
	struct wal_plan plan = {0};
	char *error, text[700];

	if (wal_open(&config, &ops, &sink, &wal, &found, &error) < 0)
		abort();
	wal_start_plan(wal, &plan);
	memset(text, 'a', sizeof(text));
	for (uint64_t i = 1; i <= 24; i++) {
		wal_add_entry(wal,
			&(struct wal_entry){.index = i, .term = 1, .data = slice_make(text, sizeof(text))});
		wal_add_hard_state(
			wal, &(struct wal_hard_state){.term = 1, .vote = 2, .commit = i - 1, .boot = 4});
		wal_flush(wal, &plan);
		run_plan(disk, &plan);
	}
	buf_done(&plan.bytes);
	wal_free(wal);
}

/* The input becomes the payloads of frames that check: a byte of length, then so many bytes. */
static void make_frames(struct disk *disk, const uint8_t *data, size_t size)
{
	struct wal_segment_header header = {.version = 1,
		.cluster_id = 1,
		.member_id = 2,
		.number = 1,
		.seed = 5,
		.first_index = 1,
		.first_sequence = 1};
	uint64_t offset = WAL_SEGMENT_HEADER_BYTES;
	uint32_t chain = 0;

	disk->len[0] = FILE_BYTES;
	disk->data[0] = mem_calloc(1, FILE_BYTES);
	wal_segment_header_encode(disk->data[0], &header);
	for (uint64_t sequence = 1; size; sequence++) {
		size_t len = MIN((size_t)*data, size - 1);
		struct slice payload = slice_make(data + 1, len);
		struct wal_frame_header frame = {
			.payload_len = (uint32_t)len, .segment = 1, .sequence = sequence};

		if (offset + wal_frame_bytes(len) > FILE_BYTES)
			break;
		chain = frame.payload_crc = wal_payload_crc(header.seed, chain, payload);
		wal_frame_header_encode(disk->data[0] + offset, header.seed, offset, &frame);
		memcpy(disk->data[0] + offset + WAL_FRAME_HEADER_BYTES, payload.data, len);
		offset += wal_frame_bytes(len);
		data += len + 1;
		size -= len + 1;
	}
}

static void damage(struct disk *disk, const uint8_t *data, size_t size)
{
	for (; size >= 4; data += 4, size -= 4) {
		size_t file = data[0] % FILES, at = (size_t)data[1] << 8 | data[2];

		if (disk->data[file] && at < disk->len[file])
			disk->data[file][at] = (char)(disk->data[file][at] ^ data[3]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk disk = {0};

	if (!size)
		return 0;
	switch (data[0] % 3) {
	case 0:
		for (size_t i = 0; i < FILES; i++) {
			size_t begin = 1 + (size - 1) * i / FILES, end = 1 + (size - 1) * (i + 1) / FILES;

			disk.len[i] = end - begin;
			disk.data[i] = mem_dup(data + begin, end - begin);
		}
		break;
	case 1:
		make_frames(&disk, data + 1, size - 1);
		break;
	default:
		make_sound_log(&disk);
		damage(&disk, data + 1, size - 1);
	}
	recover(&disk);
	for (size_t i = 0; i < FILES; i++)
		free(disk.data[i]);
	return 0;
}
