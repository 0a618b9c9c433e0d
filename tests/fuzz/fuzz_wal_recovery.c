/* A log in use and in trouble. The input is a run of steps, a byte of kind and what belongs to it: batches,
 * spares, cuts, restarts of the log, reading back; the process ends between two steps of a plan or in the
 * midst of a write; files are damaged, cut, lost, mixed up, or get a frame of the input's own, and what
 * checksums cover can be mended afterwards, so that what lies behind them is reached.
 *
 * Beside the log goes a model of what it was given. An undamaged log must come back as the model, whole or
 * without the one batch that was under way. One damaged byte may cost the last write, never more in silence.
 * What is refused must be taken again when the damage is undone. And what is taken, whatever it holds, is a
 * log like any other from then on: it is added to, cut and opened again, and compared. */
#include "log_disk.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/wire.h"
#include "wal/state.h"
#include <errno.h>
#include <stdlib.h>

enum { STEPS_MAX = 250, ENTRIES_MAX = 400, RESTARTS_MAX = 60, SEGMENT_BYTES = 8192 };
#define NUMBER_MAX (UINT64_C(1) << 60) /* of indices and the like that go on growing */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* ---- The model ---- */

struct entry {
	uint64_t term;
	uint32_t len, crc;
	uint8_t kind;
};

struct model {
	uint64_t base; /* index before the first of the entries */
	struct entry entries[ENTRIES_MAX];
	size_t len;
	struct wal_hard_state hard;
};

static uint64_t model_last(const struct model *model)
{
	return model->base + model->len;
}

static void model_restart(struct model *model, uint64_t index)
{
	model->base = index;
	model->len = 0;
}

static void model_add(struct model *model, const struct wal_entry *entry)
{
	if (!model->len || entry->index <= model->base)
		model_restart(model, entry->index - 1);
	require(entry->index <= model_last(model) + 1);
	model->len = (size_t)(entry->index - model->base - 1);
	if (model->len == ENTRIES_MAX) { /* more than a run can add: a forged log's */
		memmove(model->entries, model->entries + 1, sizeof(model->entries) - sizeof(*model->entries));
		model->base++;
		model->len--;
	}
	model->entries[model->len++] = (struct entry){.term = entry->term,
		.kind = entry->kind,
		.len = (uint32_t)entry->data.len,
		.crc = crc32c(0, entry->data.data, entry->data.len)};
}

/* Entries up to `index` are no longer asked for. */
static void model_drop(struct model *model, uint64_t index)
{
	size_t count = index > model->base ? MIN((size_t)(index - model->base), model->len) : 0;

	model->base += count;
	model->len -= count;
	memmove(model->entries, model->entries + count, model->len * sizeof(*model->entries));
}

static bool entry_equal(const struct entry *one, const struct entry *other)
{
	return one->term == other->term && one->kind == other->kind && one->len == other->len &&
	       one->crc == other->crc;
}

/* Whether `found` is what `model` asks for; it may hold more before. */
static bool is_model(const struct model *found, const struct model *model)
{
	if (memcmp(&found->hard, &model->hard, sizeof(found->hard)) != 0 ||
		model_last(found) != model_last(model) || found->len < model->len)
		return false;
	for (size_t i = 0; i < model->len; i++)
		if (!entry_equal(&found->entries[found->len - model->len + i], &model->entries[i]))
			return false;
	return true;
}

/* ---- The log and its owner ---- */

enum job { JOB_NONE, JOB_SPARE, JOB_RELEASE, JOB_RESERVE };

struct owner {
	struct fuzz_disk disk;
	struct wal *wal;
	struct wal_plan plan, background;
	enum job job;			     /* what the background plan, which waits, is for */
	struct model added, flushed, before; /* before: what had been flushed before the last flush */
	struct model found;
	unsigned reads_left; /* until reading fails; 0: it does not */
	unsigned restarts;
};

static int read_file(void *arg, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len)
{
	struct owner *owner = arg;

	if (owner->reads_left && !--owner->reads_left)
		return -EIO;
	return fuzz_disk_read(&owner->disk, name, max_bytes, ret_data, ret_len);
}

static int list_files(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct owner *owner = arg;

	if (owner->reads_left && !--owner->reads_left)
		return -EIO;
	return fuzz_disk_list(&owner->disk, fn, fn_arg);
}

static int take_entry(void *arg, const struct wal_entry *entry)
{
	model_add(arg, entry);
	return entry->kind == 255 ? -EBADMSG : 0;
}

static void take_restart(void *arg, uint64_t index)
{
	model_restart(arg, index);
}

static void take_hard_state(void *arg, const struct wal_hard_state *hard_state)
{
	((struct model *)arg)->hard = *hard_state;
}

static int open_log(struct owner *owner)
{
	struct wal_config config = {
		.cluster_id = 1, .member_id = 2, .segment_bytes = SEGMENT_BYTES, .random_seed = 3};
	struct wal_disk ops = {.list = list_files, .read = read_file, .arg = owner};
	struct wal_sink sink = {.entry = take_entry,
		.restart = take_restart,
		.hard_state = take_hard_state,
		.arg = &owner->found};
	struct model *found = &owner->found;
	uint64_t cluster_id = 0, member_id = 0;
	struct wal_recovered recovered;
	char *error = NULL;
	bool exists;
	int r;

	config.random_seed += owner->restarts++;
	*found = (struct model){0};
	r = wal_open(&config, &ops, &sink, &owner->wal, &recovered, &error);
	owner->reads_left = 0;
	require(r < 0 ? error && *error : !error);
	free(error);
	error = NULL;
	if (r < 0) {
		(void)wal_identity(&ops, &exists, &cluster_id, &member_id, &error);
		free(error);
		return r;
	}
	require(wal_identity(&ops, &exists, &cluster_id, &member_id, &error) == 0);
	require(!exists || (cluster_id == config.cluster_id && member_id == config.member_id));
	require(exists || recovered.fresh);
	require(memcmp(&recovered.hard_state, &found->hard, sizeof(found->hard)) == 0);
	require(recovered.last_index + 1 >= recovered.first_index);
	require(wal_last_index(owner->wal) == recovered.last_index);
	/* A cut log has its entries from the cut on; one that was never cut, all of them. */
	if (!found->len)
		found->base = recovered.last_index;
	require(model_last(found) == recovered.last_index);
	model_drop(found, recovered.first_index - 1);
	require(found->len == ENTRIES_MAX || found->base + 1 == recovered.first_index || recovered.fresh);
	return 0;
}

static void flush(struct owner *owner)
{
	wal_flush(owner->wal, &owner->plan);
	require(owner->plan.steps_len > 0 && !wal_batch_bytes(owner->wal));
}

static void flushed(struct owner *owner)
{
	wal_flushed(owner->wal);
	owner->before = owner->flushed;
	owner->flushed = owner->added;
}

/* A full directory is a disk without space: the owner would stop. */
static bool flush_now(struct owner *owner)
{
	flush(owner);
	if (log_disk_run(&owner->disk, &owner->plan) < 0)
		return false;
	flushed(owner);
	return true;
}

/* Recovery went well: what every start does then. */
static bool begin(struct owner *owner)
{
	owner->added = owner->flushed = owner->found;
	wal_start_plan(owner->wal, &owner->plan);
	require(log_disk_run(&owner->disk, &owner->plan) == 0);
	if (owner->added.hard.boot >= NUMBER_MAX)
		return false;
	owner->added.hard.boot++;
	wal_add_hard_state(owner->wal, &owner->added.hard);
	return flush_now(owner);
}

static void stop(struct owner *owner)
{
	owner->wal = wal_free(owner->wal);
	owner->job = JOB_NONE;
}

/* ---- Steps ---- */

/* What the log is used for must stay in the range of numbers that a log can come to. */
static bool in_range(const struct owner *owner)
{
	return wal_last_index(owner->wal) < NUMBER_MAX && owner->wal->sequence < NUMBER_MAX &&
	       owner->added.hard.term < NUMBER_MAX && owner->added.hard.commit < NUMBER_MAX &&
	       owner->added.hard.boot < NUMBER_MAX && owner->added.len + 8 < ENTRIES_MAX &&
	       (!owner->wal->segments_len ||
		       owner->wal->segments[owner->wal->segments_len - 1].number < NUMBER_MAX);
}

static void add_hard_state(struct owner *owner, struct wire_reader *input)
{
	struct wal_hard_state *hard = &owner->added.hard;
	uint64_t last = model_last(&owner->added);
	uint8_t how = wire_read_u8(input);

	hard->term += how & 3;
	hard->vote = how >> 2 & 3;
	if (last > hard->commit)
		hard->commit += (last - hard->commit) * (how >> 4) / 15;
	wal_add_hard_state(owner->wal, hard);
}

static void add_batch(struct owner *owner, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input);
	unsigned count = 1 + how % 6;
	char data[6000];

	if (how & 64)
		add_hard_state(owner, input);
	for (unsigned i = 0; i < count; i++) {
		uint8_t back = wire_read_u8(input), size = wire_read_u8(input);
		struct wal_entry entry = {.index = model_last(&owner->added) + 1,
			.term = owner->added.hard.term,
			.kind = (uint8_t)(back % 3)};
		size_t len = size < 200 ? size : (size_t)(size - 199) * 100;

		if (back >= 200 && back - 199U <= owner->added.len &&
			entry.index - (back - 199U) > owner->added.hard.commit)
			entry.index -= back - 199U;
		memset(data, size ^ back ^ (int)(entry.index * 31), len);
		entry.data = slice_make(data, len);
		wal_add_entry(owner->wal, &entry);
		model_add(&owner->added, &entry);
	}
	if (how & 128)
		add_hard_state(owner, input);
}

/* Another member's checkpoint takes the place of the log so far. */
static void add_restart(struct owner *owner, struct wire_reader *input)
{
	uint64_t index = owner->added.hard.commit + 1 + wire_read_u8(input) % 32;

	wal_restart_at(owner->wal, index);
	model_restart(&owner->added, index);
	owner->added.hard.commit = index;
	wal_add_hard_state(owner->wal, &owner->added.hard);
}

/* Carries out the first steps of a plan. Of what was written and not synced, only some sectors got there. */
static void run_part(struct owner *owner, const struct wal_plan *plan, size_t count, uint8_t sectors)
{
	for (size_t i = 0; i < count; i++) {
		const struct wal_step *step = &plan->steps[i];
		struct fuzz_file *file = fuzz_disk_find(&owner->disk, step->name);
		bool synced = false;

		for (size_t j = i + 1; j < count; j++)
			synced |= plan->steps[j].kind == WAL_STEP_SYNC &&
				  strcmp(plan->steps[j].name, step->name) == 0;
		if (step->kind != WAL_STEP_WRITE || synced) {
			(void)log_disk_step(&owner->disk, plan, step);
			continue;
		}
		for (size_t at = 0; file && at < step->bytes_len; at++) {
			size_t to = (size_t)step->offset + at;

			if (to < file->bytes.len && sectors >> (to / 512 % 8) & 1)
				file->bytes.data[to] = plan->bytes.data[step->bytes_at + at];
		}
	}
}

/* Opens what must be in order. `or_batch`: what was added last may be there or not. */
static bool reopen(struct owner *owner, bool or_batch)
{
	stop(owner);
	require(open_log(owner) == 0);
	require(is_model(&owner->found, &owner->flushed) ||
		(or_batch && is_model(&owner->found, &owner->added)));
	return begin(owner);
}

static void finish_background(struct owner *owner, bool fails)
{
	enum job job = owner->job;

	owner->job = JOB_NONE;
	if (job == JOB_NONE)
		return;
	if (job == JOB_SPARE && (fails || owner->disk.files_len + 2 > FUZZ_FILES_MAX)) {
		run_part(owner, &owner->background, fails, 0);
		wal_spare_failed(owner->wal);
		return;
	}
	require(log_disk_run(&owner->disk, &owner->background) == 0);
	if (job == JOB_SPARE)
		wal_spare_done(owner->wal);
	if (job == JOB_RELEASE)
		wal_release_done(owner->wal);
}

/* The process ends: in the midst of a flush, of the background plan, or at rest. */
static bool step_crash(struct owner *owner, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input), sectors = wire_read_u8(input);
	bool batch = how & 1;

	if (batch) {
		add_batch(owner, input);
		flush(owner);
	}
	if (owner->job)
		run_part(owner, &owner->background, (how >> 1) % (owner->background.steps_len + 1), 255);
	if (batch)
		run_part(owner, &owner->plan, (how >> 4) % (owner->plan.steps_len + 1), sectors);
	return reopen(owner, batch);
}

static void step_background(struct owner *owner, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input);
	uint64_t durable = MIN(owner->added.hard.commit, model_last(&owner->added)), index;
	bool more = false;

	if (owner->job)
		finish_background(owner, how & 1);
	switch (how >> 1 & 3) {
	case 0:
	case 1:
		if (wal_spare_plan(owner->wal, how & 2, &owner->background))
			owner->job = JOB_SPARE;
		break;
	case 2:
		index = durable + 1 - MIN(durable, (uint64_t)(how >> 4));
		more = wal_release(owner->wal, index, &owner->background);
		model_drop(&owner->added, index - 1);
		model_drop(&owner->flushed, index - 1);
		model_drop(&owner->before, index - 1);
		if (more)
			owner->job = JOB_RELEASE;
		break;
	default:
		if (wal_give_reserve(owner->wal, &owner->background))
			owner->job = JOB_RESERVE;
	}
	if (how & 8)
		finish_background(owner, false);
}

struct reading {
	struct entry last;
	uint64_t index;
};

static int read_back(void *arg, const struct wal_entry *entry)
{
	struct reading *reading = arg;

	if (entry->index == reading->index)
		reading->last = (struct entry){.term = entry->term,
			.kind = entry->kind,
			.len = (uint32_t)entry->data.len,
			.crc = crc32c(0, entry->data.data, entry->data.len)};
	return 0;
}

/* Every entry that was flushed can be read back. */
static void step_read_back(struct owner *owner, struct wire_reader *input)
{
	const struct model *model = &owner->flushed;
	size_t at = model->len ? wire_read_u16(input) % model->len : 0;
	struct reading reading = {.index = model->base + 1 + at};
	struct wal_sink sink = {.entry = read_back, .arg = &reading};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct wal_range range;

	require(!wal_locate(owner->wal, model_last(model) + 1, &range));
	if (!model->len)
		return;
	require(wal_locate(owner->wal, reading.index, &range));
	require(reading.index >= range.first && reading.index < range.end);
	require(fuzz_disk_read_range(&owner->disk, range.name, range.offset, range.len, &bytes) == 0);
	require(wal_read_back(&range, buf_slice(&bytes), &sink) == 0);
	require(entry_equal(&reading.last, &model->entries[at]));
}

/* What the log says of its room on the disk is true. */
static void check_room(const struct owner *owner)
{
	uint64_t bytes = 0, number;

	for (size_t i = 0; i < owner->disk.files_len; i++) {
		const struct fuzz_file *file = &owner->disk.files[i];

		if (wal_segment_number(file->name, &number) ||
			(strcmp(file->name, WAL_SPARE_NAME) == 0 && owner->wal->spare_bytes) ||
			(strcmp(file->name, WAL_RESERVE_NAME) == 0 && owner->wal->reserve_bytes))
			bytes += file->bytes.len;
	}
	if (!owner->job)
		require(wal_disk_bytes(owner->wal) == bytes);
	require(wal_room(owner->wal) <= wal_disk_bytes(owner->wal));
	require(!wal_is_stocked(owner->wal) || !wal_runs_short(owner->wal));
}

/* ---- Damage ---- */

static uint32_t get_u32(const char *at)
{
	struct wire_reader reader = wire_reader_make(slice_make(at, 4));

	return wire_read_u32(&reader);
}

static void put_u32(char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (char)(value >> 8 * i);
}

enum mend {
	MEND_HEADERS = 1,	/* checksums of segment headers */
	MEND_FRAMES = 2,	/* checksums of frame headers */
	MEND_PAYLOADS = 4,	/* checksums of payloads, and the chain */
	MEND_FRAME_FIELDS = 8,	/* segment, sequence and length */
	MEND_HEADER_FIELDS = 16 /* what a segment continues */
};

struct walk {
	uint64_t seed, sequence;
	uint32_t chain;
};

/* Frames go on as long as there is the magic number of one. Answers where they end. */
static size_t mend_frames(
	struct buf *bytes, const struct wal_segment_header *header, unsigned mend, struct walk *walk)
{
	size_t at = WAL_SEGMENT_HEADER_BYTES;

	while (bytes->len - at >= WAL_FRAME_HEADER_BYTES && memcmp(bytes->data + at, "WFRM", 4) == 0) {
		size_t left = bytes->len - at - WAL_FRAME_HEADER_BYTES, len = get_u32(bytes->data + at + 16);
		struct wal_frame_header frame = {.payload_len = (uint32_t)len,
			.segment = get_u32(bytes->data + at + 4),
			.payload_crc = get_u32(bytes->data + at + 20),
			.sequence = get_u32(bytes->data + at + 8) | (uint64_t)get_u32(bytes->data + at + 12)
									    << 32};

		if (len > left && !(mend & MEND_FRAME_FIELDS))
			break;
		len = MIN(len, left & ~(size_t)7);
		if (mend & MEND_FRAME_FIELDS)
			frame = (struct wal_frame_header){.payload_len = (uint32_t)len,
				.segment = (uint32_t)header->number,
				.sequence = walk->sequence,
				.payload_crc = frame.payload_crc};
		if (mend & MEND_PAYLOADS)
			frame.payload_crc = wal_payload_crc(header->seed, walk->chain,
				slice_make(bytes->data + at + WAL_FRAME_HEADER_BYTES, len));
		if (mend & MEND_FRAMES)
			wal_frame_header_encode(bytes->data + at, header->seed, at, &frame);
		walk->chain = frame.payload_crc;
		walk->sequence = frame.sequence + 1;
		at += (size_t)wal_frame_bytes(len);
		if (at > bytes->len)
			return bytes->len;
	}
	return at;
}

/* Mends the segments in order; what a header says is believed, whether or not it checks. Answers where the
 * frames of the last one end; NULL: there is none. */
static struct fuzz_file *mend_log(struct fuzz_disk *disk, unsigned mend, struct walk *walk, size_t *ret_end)
{
	struct fuzz_file *last = NULL;
	uint64_t after = 0;

	for (;;) {
		struct fuzz_file *file = NULL;
		struct wal_segment_header header;
		uint64_t lowest = UINT64_MAX, number;
		uint32_t version;

		for (size_t i = 0; i < disk->files_len; i++)
			if (wal_segment_number(disk->files[i].name, &number) && number > after &&
				number < lowest && disk->files[i].bytes.len >= WAL_SEGMENT_HEADER_BYTES) {
				lowest = number;
				file = &disk->files[i];
			}
		if (!file)
			return last;
		after = lowest;
		/* Read as it stands: with a checksum and a version that fit. */
		version = get_u32(file->bytes.data + 8);
		put_u32(file->bytes.data + 8, MIN(version, WAL_FORMAT_VERSION));
		if (mend & MEND_HEADERS)
			put_u32(file->bytes.data + 92, crc32c(0, file->bytes.data, 92));
		if (wal_segment_header_decode(buf_slice(&file->bytes), &header) == WAL_HEADER_VALID) {
			if (last && (mend & MEND_HEADER_FIELDS)) {
				header.number = lowest;
				header.first_sequence = walk->sequence;
				header.chain = walk->chain;
				wal_segment_header_encode(file->bytes.data, &header);
			}
			*walk = (struct walk){header.seed, header.first_sequence, header.chain};
			*ret_end = mend_frames(&file->bytes, &header, mend, walk);
			last = file;
		}
		put_u32(file->bytes.data + 8, version);
		if ((mend & MEND_HEADERS) && version <= WAL_FORMAT_VERSION)
			put_u32(file->bytes.data + 92, crc32c(0, file->bytes.data, 92));
	}
}

static struct fuzz_file *pick_file(struct owner *owner, struct wire_reader *input)
{
	return &owner->disk.files[wire_read_u8(input) % owner->disk.files_len];
}

static void damage_byte(struct owner *owner, struct wire_reader *input)
{
	struct fuzz_file *file = pick_file(owner, input);
	size_t at = wire_read_u16(input);
	uint8_t by = wire_read_u8(input);

	if (file->bytes.len)
		file->bytes.data[at % file->bytes.len] ^= (char)by;
}

/* A frame that checks, with the input as its payload, behind the last one. */
static void forge_frame(struct owner *owner, struct wire_reader *input)
{
	struct walk walk;
	size_t at = 0, len = wire_read_u8(input);
	struct fuzz_file *file = mend_log(&owner->disk, 0, &walk, &at);
	struct wal_frame_header frame;
	uint64_t number;
	struct slice payload;

	len = MIN(len, wire_left(input));
	payload = slice_make(input->at, len);
	input->at += len;
	if (!file || !wal_segment_number(file->name, &number))
		return;
	if (at + wal_frame_bytes(len) > file->bytes.len)
		buf_add_fill(&file->bytes, 0, at + (size_t)wal_frame_bytes(len) - file->bytes.len);
	frame = (struct wal_frame_header){.payload_len = (uint32_t)len,
		.segment = (uint32_t)number,
		.sequence = walk.sequence,
		.payload_crc = wal_payload_crc(walk.seed, walk.chain, payload)};
	wal_frame_header_encode(file->bytes.data + at, walk.seed, at, &frame);
	memcpy(file->bytes.data + at + WAL_FRAME_HEADER_BYTES, payload.data, len);
}

static void damage_file(struct owner *owner, struct wire_reader *input)
{
	struct fuzz_file *file = pick_file(owner, input), *other;
	struct fuzz_disk *disk = &owner->disk;
	uint8_t how = wire_read_u8(input);
	size_t at = wire_read_u16(input);
	char name[WAL_NAME_MAX];

	switch (how % 6) {
	case 0:
		buf_truncate(&file->bytes, MIN(at, file->bytes.len));
		break;
	case 1:
		buf_add_fill(&file->bytes, 0, at % 5000);
		break;
	case 2:
		fuzz_disk_drop(disk, file);
		break;
	case 3: /* an old copy, or another's segment, under this name */
		other = pick_file(owner, input);
		if (other == file)
			break;
		buf_clear(&file->bytes);
		buf_add_slice(&file->bytes, buf_slice(&other->bytes));
		break;
	case 4: {
		struct buf bytes = file->bytes;

		memset(bytes.data + MIN(at, bytes.len), 0, bytes.len - MIN(at, bytes.len));
		break;
	}
	default: /* one more segment */
		wal_segment_name(name, at & 31);
		if (disk->files_len < FUZZ_FILES_MAX && !fuzz_disk_find(disk, name)) {
			_cleanup_buf_ struct buf bytes = BUF_INIT(0);

			buf_add_slice(&bytes, buf_slice(&file->bytes));
			buf_add_slice(&fuzz_disk_create(disk, name, 0)->bytes, buf_slice(&bytes));
		}
	}
}

/* Damage in up to eight places, and a restart. */
static bool step_damage(struct owner *owner, struct wire_reader *input)
{
	struct fuzz_disk saved = {0};
	uint8_t how = wire_read_u8(input), mend = wire_read_u8(input);
	unsigned count = 1 + how % 8;
	bool one_byte = count == 1 && !(how & 8) && !mend;
	struct walk walk;
	size_t end;
	int r;

	stop(owner);
	fuzz_disk_copy(&saved, &owner->disk);
	for (unsigned i = 0; i < count && owner->disk.files_len; i++) {
		uint8_t kind = how & 8 ? wire_read_u8(input) : 0;

		if (kind % 4 == 3)
			damage_file(owner, input);
		else if (kind % 4 == 2)
			forge_frame(owner, input);
		else
			damage_byte(owner, input);
	}
	if (mend)
		(void)mend_log(&owner->disk, mend, &walk, &end);
	owner->reads_left = how & 128 ? 1 + (how >> 4 & 7) : 0;
	r = open_log(owner);
	if (r < 0) {
		fuzz_disk_copy(&owner->disk, &saved);
		fuzz_disk_done(&saved);
		return reopen(owner, false);
	}
	fuzz_disk_done(&saved);
	if (one_byte)
		require(is_model(&owner->found, &owner->flushed) || is_model(&owner->found, &owner->before));
	return begin(owner);
}

static bool step(struct owner *owner, struct wire_reader *input)
{
	switch (wire_read_u8(input) % 8) {
	case 0:
		step_background(owner, input);
		break;
	case 1:
		return step_crash(owner, input);
	case 2:
		return step_damage(owner, input);
	case 3:
		step_read_back(owner, input);
		break;
	case 4:
		add_restart(owner, input);
		return flush_now(owner);
	default:
		add_batch(owner, input);
		return flush_now(owner);
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_reader input = wire_reader_make(slice_make((const char *)data, size));
	struct owner *owner = mem_new(struct owner);
	bool goes_on;

	require(open_log(owner) == 0);
	goes_on = begin(owner);
	for (unsigned i = 0; goes_on && i < STEPS_MAX && wire_left(&input) && in_range(owner) &&
			     owner->restarts < RESTARTS_MAX;
		i++) {
		goes_on = step(owner, &input);
		if (goes_on)
			check_room(owner);
	}
	if (goes_on && in_range(owner))
		(void)reopen(owner, false);
	stop(owner);
	fuzz_disk_done(&owner->disk);
	buf_done(&owner->plan.bytes);
	buf_done(&owner->background.bytes);
	free(owner);
	return 0;
}
