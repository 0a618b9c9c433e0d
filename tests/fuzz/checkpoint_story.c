/* Beside the member goes what it should have: the hash of the state that its checkpoint is of. A start finds
 * that one, or the one that was being written, whole; damage that was not mended never loads as anything
 * else; what is refused is taken again when the damage is undone; and what loads, whatever it holds, is used,
 * written, sent and loaded like any other. */
#include "checkpoint_story.h"
#include "disk.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/wire.h"
#include "checkpoint/format.h"
#include <errno.h>

enum { STEPS_MAX = 120, RETRIES_MAX = 40 };
#define OTHER_GENERATION 77u
#define SNAPSHOT_NAME "snapshot"

struct story {
	struct store *store;
	struct fuzz_disk disk, other; /* other: of the one that is sent checkpoints */
	uint64_t index, generation;
	struct checkpoint *current;	  /* what CHECKPOINT names; NULL: none */
	uint64_t hash;			  /* of its state */
	struct checkpoint_writer *writer; /* of the next */
	uint64_t writer_hash;
	struct checkpoint_source *source;
	uint64_t sending; /* generation of what the source reads */
	struct checkpoint_receiver *receiver;
	unsigned retries;
	struct checkpoint_plan plan;
};

static struct checkpoint_disk ops_of(struct fuzz_disk *disk)
{
	return (struct checkpoint_disk){.list = fuzz_disk_list, .read = fuzz_disk_read_range, .arg = disk};
}

/* The first `count` steps; of a last one that writes, only `part` of 256 parts. */
static void carry_out(struct fuzz_disk *disk, const struct checkpoint_plan *plan, size_t count, unsigned part)
{
	for (size_t i = 0; i < count; i++) {
		const struct checkpoint_step *step = &plan->steps[i];
		size_t len = i + 1 < count ? step->bytes_len : step->bytes_len * part / 256;

		if (step->kind == CHECKPOINT_CREATE)
			require(fuzz_disk_create(disk, step->name, 0));
		else if (step->kind == CHECKPOINT_WRITE)
			require(fuzz_disk_write(disk, step->name, step->offset,
					slice_make(plan->bytes.data + step->bytes_at, len)) == 0);
		else if (step->kind == CHECKPOINT_RENAME)
			require(fuzz_disk_rename(disk, step->name, step->to_name) == 0);
		else if (step->kind == CHECKPOINT_REMOVE)
			fuzz_disk_drop(disk, fuzz_disk_find(disk, step->name));
	}
}

static void carry_out_all(struct fuzz_disk *disk, const struct checkpoint_plan *plan)
{
	carry_out(disk, plan, plan->steps_len, 256);
}

static void end_transfer(struct story *story)
{
	struct checkpoint_info info = {0};

	if (story->current)
		checkpoint_get_info(story->current, &info);
	if (story->source && story->sending != info.generation) {
		checkpoint_remove_plan(story->sending, &story->plan);
		carry_out_all(&story->disk, &story->plan);
	}
	story->source = checkpoint_source_free(story->source);
	story->receiver = checkpoint_receiver_free(story->receiver);
	fuzz_disk_done(&story->other);
	story->retries = 0;
}

/* What is on the disk: with *ret_store NULL there is none. */
static int read_checkpoint(
	struct fuzz_disk *disk, struct checkpoint **ret_checkpoint, struct store **ret_store)
{
	struct checkpoint_disk ops = ops_of(disk);
	_cleanup_free_ char *error = NULL;
	int r = checkpoint_open(&ops, CLUSTER, ret_checkpoint, &error);

	*ret_store = NULL;
	require(!error == (r == 0));
	if (r < 0 || !*ret_checkpoint)
		return r;
	r = checkpoint_load(&ops, *ret_checkpoint, ret_store, &error);
	require(!error == (r == 0));
	if (r < 0)
		*ret_checkpoint = checkpoint_unref(*ret_checkpoint);
	return r;
}

static void take_over(struct story *story, struct checkpoint *checkpoint, struct store *store)
{
	struct checkpoint_info info;

	(void)checkpoint_unref(story->current);
	story->current = checkpoint;
	(void)store_free(story->store);
	story->store = store;
	story->hash = store_hash(store);
	checkpoint_get_info(checkpoint, &info);
	require(info.image.hash == story->hash && info.image.nodes == store_nodes(store));
	story->index = MAX(story->index, info.id.index);
	story->generation = MAX(story->generation, info.generation);
}

/* The member starts: what is there must be whole, and the one that it had or the one that it was writing. */
static void restart(struct story *story)
{
	struct checkpoint_disk ops = ops_of(&story->disk);
	struct checkpoint *checkpoint;
	struct store *store;
	bool writing = story->writer;

	story->writer = checkpoint_writer_free(story->writer);
	end_transfer(story);
	require(read_checkpoint(&story->disk, &checkpoint, &store) == 0);
	require(checkpoint_start_plan(&ops, checkpoint, &story->plan) == 0);
	carry_out_all(&story->disk, &story->plan);
	require(story->disk.files_len <= 3);
	if (!checkpoint) {
		require(!story->current);
		return;
	}
	require((story->current && store_hash(store) == story->hash) ||
		(writing && store_hash(store) == story->writer_hash));
	take_over(story, checkpoint, store);
}

static const char *pick_path(uint8_t how)
{
	static const char *const paths[] = {
		"/1/a", "/1/d", "/1/d/b", "/1/d/c", "/1/d/e/f", "/1/_h/x", "/0/members/1", "/1/q"};

	return paths[how % ARRAY_LEN(paths)];
}

static void step_change(struct story *story, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input), path = wire_read_u8(input), size = wire_read_u8(input);
	_cleanup_buf_ struct buf value = BUF_INIT(0), bytes = BUF_INIT(0);
	struct store_result result;
	struct store_command command = {
		.op = 1 + how % (STORE_OP_MAX - 1),
		.dir = how & 8 && size & 1,
		.recursive = how & 16,
		.in_order = how & 32 && how % (STORE_OP_MAX - 1) + 1 == STORE_OP_CREATE,
		.refresh = (how & 48) == 48 && how % (STORE_OP_MAX - 1) + 1 != STORE_OP_CREATE,
		.has_expiry = how & 64,
		.expires_ns = (int64_t)story->index * 10 + size,
		.time_ns = (int64_t)story->index * 10,
		.path = slice_str(pick_path(path)),
	};

	if (command.op == STORE_OP_TICK)
		command.path = slice_make("", 0);
	if (size >= 250 && story->index < 200)
		buf_add_fill(&value, 'x', (size_t)(size - 249) * 30000);
	else
		buf_add_fill(&value, (char)('a' + size % 26), size % 60);
	if (command.op == STORE_OP_SET || command.op == STORE_OP_CREATE || command.op == STORE_OP_UPDATE ||
		command.op == STORE_OP_COMPARE_AND_SWAP)
		command.value = buf_slice(&value);
	if (command.op == STORE_OP_COMPARE_AND_SWAP || command.op == STORE_OP_COMPARE_AND_DELETE)
		command.prev_index = 1 + path % 32U;
	store_command_encode(&command, &bytes);
	if (store_apply(story->store, buf_slice(&bytes), &result) == 0)
		store_result_done(&result);
	(void)store_collect(story->store, 8);
	story->index++;
}

/* A slice of a checkpoint; the process may end in the midst of its plan. */
static void step_write(struct story *story, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input);
	size_t budget = (size_t)wire_read_u8(input) * (how & 1 ? 16 : 4096);
	struct checkpoint_meta meta = {.cluster_id = CLUSTER,
		.index = story->index,
		.term = 1 + story->index / 16,
		.membership = slice_str("members")};
	bool more;

	if (!story->writer) {
		story->writer = checkpoint_writer_new(story->store, &meta, ++story->generation);
		story->writer_hash = store_hash(story->store);
	}
	more = checkpoint_writer_step(story->writer, budget, &story->plan);
	if (how >= 240) {
		carry_out(&story->disk, &story->plan, how % 16U % (story->plan.steps_len + 1),
			wire_read_u8(input));
		restart(story);
		return;
	}
	carry_out_all(&story->disk, &story->plan);
	if (more)
		return;
	if (story->current) {
		struct checkpoint_info old;

		checkpoint_get_info(story->current, &old);
		checkpoint_remove_plan(old.generation, &story->plan);
		/* One that is being sent stays until the end of that. */
		if (!story->source || story->sending != old.generation)
			carry_out_all(&story->disk, &story->plan);
		(void)checkpoint_unref(story->current);
	}
	story->current = checkpoint_writer_take(story->writer);
	story->writer = checkpoint_writer_free(story->writer);
	story->hash = story->writer_hash;
}

static void received(struct story *story)
{
	struct checkpoint *checkpoint, *again;
	struct checkpoint_info info;
	struct store *store, *second;

	checkpoint_receiver_take(story->receiver, &checkpoint, &store);
	checkpoint_get_info(checkpoint, &info);
	require(store_hash(store) == info.image.hash && info.generation == OTHER_GENERATION);
	require(read_checkpoint(&story->other, &again, &second) == 0 && again);
	require(store_hash(second) == info.image.hash);
	(void)store_free(second);
	(void)checkpoint_unref(again);
	(void)checkpoint_unref(checkpoint);
	comes_out_again(store);
	use(store);
	(void)store_free(store);
	end_transfer(story);
}

/* A piece of the current checkpoint for another member: of any size, from about where it is wanted, and on
 * request with a damaged byte. */
static void step_send(struct story *story, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input), by = wire_read_u8(input);
	size_t len = (size_t)wire_read_u8(input) * (how & 1 ? 1 : 1024);
	_cleanup_buf_ struct buf piece = BUF_INIT(0);
	_cleanup_free_ char *error = NULL;
	struct checkpoint_range range;
	struct slice bytes;
	uint64_t offset;
	int r;

	if (!story->source) {
		struct checkpoint_info info;

		if (!story->current)
			return;
		checkpoint_get_info(story->current, &info);
		story->source = checkpoint_source_new(story->current);
		story->sending = info.generation;
		story->receiver = checkpoint_receiver_new(CLUSTER, info.id, OTHER_GENERATION);
	}
	offset = checkpoint_receiver_wanted(story->receiver);
	if (how & 2)
		offset = offset > by ? offset - by : 0;
	else if (how & 4)
		offset += by;
	if (checkpoint_source_needs(story->source, offset, &range)) {
		_cleanup_buf_ struct buf chunk = BUF_INIT(0);

		require(checkpoint_source_piece(story->source, offset, len, &bytes) == -EAGAIN);
		require(fuzz_disk_read_range(&story->disk, range.name, range.offset, range.len, &chunk) == 0);
		if (how >= 250) {
			chunk.data[by % chunk.len] ^= 1;
			require(checkpoint_source_fill(story->source, offset, buf_slice(&chunk), &error) < 0);
			end_transfer(story);
			return;
		}
		require(checkpoint_source_fill(story->source, offset, buf_slice(&chunk), &error) == 0);
	}
	require(checkpoint_source_piece(story->source, offset, len, &bytes) == 0);
	buf_add_slice(&piece, bytes);
	if (how & 8 && piece.len)
		piece.data[by % piece.len] ^= (char)(1 + by % 255);
	r = checkpoint_receiver_add(story->receiver, offset, buf_slice(&piece), &story->plan, &error);
	carry_out_all(&story->other, &story->plan);
	require(!error == (r == 0 || r == 1 || r == -EAGAIN));
	require(r >= 0 || how & 8 || r == -EAGAIN);
	if (r == 0)
		received(story);
	else if (r < 0 && (r != -EAGAIN || ++story->retries > RETRIES_MAX))
		end_transfer(story);
}

/* As a file, whole or damaged. */
static void step_file(struct story *story, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input);
	struct checkpoint_disk ops = ops_of(&story->other);
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *store = NULL;
	_cleanup_free_ char *error = NULL;
	struct checkpoint_source *source;
	struct checkpoint_range range;
	struct fuzz_file *file;
	struct slice bytes;
	int r;

	if (!story->current || story->source)
		return;
	source = checkpoint_source_new(story->current);
	file = fuzz_disk_create(&story->other, SNAPSHOT_NAME, 0);
	do {
		_cleanup_buf_ struct buf chunk = BUF_INIT(0);

		if (checkpoint_source_needs(source, file->bytes.len, &range)) {
			require(fuzz_disk_read_range(
					&story->disk, range.name, range.offset, range.len, &chunk) == 0);
			require(checkpoint_source_fill(source, file->bytes.len, buf_slice(&chunk), &error) ==
				0);
		}
		require(checkpoint_source_piece(source, file->bytes.len, SIZE_MAX, &bytes) == 0);
		buf_add_slice(&file->bytes, bytes);
	} while (bytes.len);
	(void)checkpoint_source_free(source);
	if (how & 1)
		file->bytes.data[wire_read_u16(input) % file->bytes.len] ^= (char)MAX(how, 1);
	if (how & 2)
		buf_truncate(&file->bytes, wire_read_u16(input) % file->bytes.len);
	r = checkpoint_file_open(&ops, SNAPSHOT_NAME, file->bytes.len, &checkpoint, &error);
	if (r == 0)
		r = checkpoint_file_read(&ops, SNAPSHOT_NAME, checkpoint, how & 4 ? &store : NULL, &error);
	require(!error == (r == 0));
	require(r == 0 ? !(how & 3) : how & 3);
	if (store)
		require(store_hash(store) == story->hash);
	fuzz_disk_done(&story->other);
}

/* ---- Damage ---- */

static void put_number(char *at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (char)(value >> 8 * i);
}

static uint64_t get_number(const char *at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = bytes; i > 0; i--)
		value = value << 8 | (uint8_t)at[i - 1];
	return value;
}

static void mend_sums(struct buf *file)
{
	size_t len = file->len;

	if (len < CHECKPOINT_FILE_HEADER_BYTES + CHECKPOINT_MANIFEST_HEAD_BYTES + 4)
		return;
	put_number(file->data + 24, crc32c(0, file->data, 24), 4);
	put_number(file->data + len - 4,
		crc32c(0, file->data + CHECKPOINT_FILE_HEADER_BYTES, len - CHECKPOINT_FILE_HEADER_BYTES - 4),
		4);
}

/* What chunks really come to goes into the manifest: their sums, then the state's counts and hash. */
static void mend(struct fuzz_disk *disk, bool chunks, bool state)
{
	enum { IMAGE_HASH_AT = CHECKPOINT_FILE_HEADER_BYTES + CHECKPOINT_MANIFEST_HEAD_BYTES + 6 * 8 };
	struct checkpoint_disk ops = ops_of(disk);
	struct fuzz_file *file = fuzz_disk_find(disk, CHECKPOINT_NAME);

	if (!file)
		return;
	mend_sums(&file->bytes);
	for (int round = 0; round < 3; round++) {
		_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
		_cleanup_free_ char *error = NULL, *ignored = NULL;
		struct checkpoint_loader *loader;
		struct checkpoint_range range;
		struct store *store = NULL;
		size_t row;
		bool good = true;

		if (checkpoint_open(&ops, CLUSTER, &checkpoint, &error) < 0)
			return;
		row = file->bytes.len - 4 - checkpoint->info.chunks * 8;
		loader = checkpoint_loader_new(checkpoint);
		for (size_t i = 0; good && checkpoint_loader_next(loader, &range); i++) {
			_cleanup_buf_ struct buf bytes = BUF_INIT(0);

			if (fuzz_disk_read_range(disk, range.name, range.offset, range.len, &bytes) < 0 ||
				bytes.len != range.len)
				good = false;
			if (good && chunks) {
				checkpoint->chunks[i].crc = crc32c(0, bytes.data, bytes.len);
				put_number(file->bytes.data + row + i * 8 + 4, checkpoint->chunks[i].crc, 4);
			}
			if (good && checkpoint_loader_add(loader, buf_slice(&bytes), &error) < 0)
				good = false;
		}
		mend_sums(&file->bytes);
		if (good && state && checkpoint_loader_finish(loader, &store, &ignored) < 0) {
			store = checkpoint_loader_end(loader);
			put_number(file->bytes.data + IMAGE_HASH_AT, store_hash(store), 8);
			put_number(file->bytes.data + IMAGE_HASH_AT + 8, store_nodes(store), 8);
			mend_sums(&file->bytes);
		} else {
			(void)checkpoint_loader_free(loader);
		}
		(void)store_free(store);
		if (!good)
			return;
	}
}

static void damage_file(struct fuzz_disk *disk, struct wire_reader *input, uint8_t kind)
{
	struct fuzz_file *file = &disk->files[wire_read_u8(input) % disk->files_len], *other;
	size_t at = wire_read_u16(input);
	uint8_t by = wire_read_u8(input);

	switch (kind % 8) {
	case 5:
		buf_truncate(&file->bytes, MIN(at, file->bytes.len));
		break;
	case 6:
		fuzz_disk_drop(disk, file);
		break;
	case 7:
		other = &disk->files[by % disk->files_len];
		if (other == file)
			break;
		buf_clear(&file->bytes);
		buf_add_slice(&file->bytes, buf_slice(&other->bytes));
		break;
	default: /* the beginnings, where numbers are, come to their turn more often than values */
		if (file->bytes.len && kind & 8)
			put_number(file->bytes.data + at % file->bytes.len,
				get_number(file->bytes.data + at % file->bytes.len, 1) + by, 1);
		else if (file->bytes.len)
			file->bytes.data[at % MIN(file->bytes.len, (size_t)200)] ^= (char)by;
	}
}

/* Damage in up to four places, and a restart. What is mended may load as something else, and is then used. */
static void step_damage(struct story *story, struct wire_reader *input)
{
	uint8_t how = wire_read_u8(input);
	struct fuzz_disk saved = {0};
	struct checkpoint *checkpoint = NULL;
	struct store *store = NULL;
	bool mends = how & 4;

	if (!story->current)
		return;
	restart(story);
	fuzz_disk_copy(&saved, &story->disk);
	for (unsigned i = 0; i <= (how & 3U) && story->disk.files_len; i++)
		damage_file(&story->disk, input, wire_read_u8(input));
	if (mends)
		mend(&story->disk, how & 8, how & 16);
	if (read_checkpoint(&story->disk, &checkpoint, &store) == 0 && checkpoint) {
		require(mends || store_hash(store) == story->hash);
		comes_out_again(store);
		take_over(story, checkpoint, store);
	} else {
		fuzz_disk_copy(&story->disk, &saved);
	}
	fuzz_disk_done(&saved);
	restart(story);
}

void fuzz_story(struct slice bytes)
{
	struct wire_reader input = wire_reader_make(bytes);
	struct story *story = mem_new(struct story);

	story->store = sound_store();
	story->index = 5;
	for (unsigned i = 0; i < STEPS_MAX && wire_left(&input); i++)
		switch (wire_read_u8(&input) % 8) {
		case 0:
		case 1:
			step_change(story, &input);
			break;
		case 2:
		case 3:
			step_write(story, &input);
			break;
		case 4:
		case 5:
			step_send(story, &input);
			break;
		case 6:
			step_file(story, &input);
			break;
		default:
			step_damage(story, &input);
		}
	restart(story);
	comes_out_again(story->store);
	use(story->store);
	(void)checkpoint_unref(story->current);
	(void)store_free(story->store);
	fuzz_disk_done(&story->disk);
	buf_done(&story->plan.bytes);
	free(story);
}
