/* Checkpoints from disk and from peers. The first byte chooses what the rest is: CHECKPOINT as it is; the
 * body of a manifest whose checksums fit, with data behind it, that a receiver gets in pieces; records of
 * nodes and events whose counts and hash fit, where what loads must work as a store and come out again as the
 * same records; event records over a sound tree; damage done to a sound checkpoint, which must never load as
 * anything but itself; or the story of a member (checkpoint_story.c). */
#include "checkpoint_story.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/wire.h"
#include "checkpoint/format.h"
#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct disk {
	struct buf manifest, data; /* CHECKPOINT, and the one data file */
};

static int disk_read(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	struct disk *disk = arg;
	const struct buf *file = strcmp(name, CHECKPOINT_NAME) == 0 ? &disk->manifest : &disk->data;

	if (offset < file->len)
		buf_add(out, file->data + offset, MIN(len, file->len - (size_t)offset));
	return 0;
}

static int disk_list(void *arg, void (*fn)(void *, const char *, uint64_t), void *fn_arg)
{
	struct disk *disk = arg;

	fn(fn_arg, CHECKPOINT_NAME, disk->manifest.len);
	return 0;
}

static void disk_done(struct disk *disk)
{
	buf_done(&disk->manifest);
	buf_done(&disk->data);
}

static void apply(struct store *store, const struct store_command *command)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct store_result result;

	store_command_encode(command, &bytes);
	require(store_apply(store, buf_slice(&bytes), &result) == 0);
	store_result_done(&result);
}

struct store *sound_store(void)
{
	struct store *store = store_new();
	struct store_command command = {
		.op = STORE_OP_SET, .path = slice_str("/1/a"), .value = slice_str("v"), .time_ns = 1000};

	apply(store, &command);
	command.path = slice_str("/1/d/b");
	apply(store, &command);
	command.has_expiry = true;
	command.expires_ns = INT64_C(1) << 60;
	command.value = slice_str("w");
	apply(store, &command);
	command.op = STORE_OP_DELETE;
	command.path = slice_str("/1/a");
	apply(store, &command);
	return store;
}

static void on_event(struct store_watch *watch, struct store_event *event)
{
	(void)watch;
	require(store_event_json(event).len > 0);
}

/* What loaded is used: read, watched from every index, changed, expired. */
void use(struct store *store)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	struct store_command command = {
		.op = STORE_OP_SET, .path = slice_str("/1/d/b"), .value = slice_str("x"), .time_ns = 2000};
	struct store_result result;

	store_get(store, slice_str("/"), true, 1000, &out, &result);
	store_result_done(&result);
	for (uint64_t since = store_index(store) > 8 ? store_index(store) - 8 : 1;
		since <= store_index(store) + 1; since++) {
		struct store_watch watch = {0};
		struct store_event *event = NULL;

		if (store_watch_start(store, &watch, slice_str("/1/d"), true, false, since, on_event, &event,
			    &result) == 1)
			require(store_event_json(event).len > 0);
		store_watch_stop(store, &watch);
		(void)store_event_unref(event);
		store_result_done(&result);
	}
	apply(store, &command);
	command = (struct store_command){.op = STORE_OP_TICK, .time_ns = INT64_MAX};
	apply(store, &command);
	command = (struct store_command){
		.op = STORE_OP_DELETE, .path = slice_str("/1/d"), .recursive = true, .time_ns = 3000};
	apply(store, &command);
}

/* Records come out of a store as they went in. */
void comes_out_again(struct store *store)
{
	struct store_saver *saver = store_saver_open(store);
	_cleanup_buf_ struct buf out = BUF_INIT(0), again = BUF_INIT(0);
	struct store_image image;
	struct store_loader *loader;
	struct store *second = NULL;

	store_saver_image(saver, &image);
	loader = store_loader_new(&image);
	while (store_saver_next_node(saver, &out))
		;
	require(store_loader_add_nodes(loader, buf_slice(&out)) == 0);
	buf_clear(&out);
	while (store_saver_next_event(saver, &out))
		;
	require(store_loader_add_events(loader, buf_slice(&out)) == 0);
	require(store_loader_finish(loader, &second) == 0);
	(void)store_loader_free(loader);
	(void)store_saver_free(saver);
	saver = store_saver_open(second);
	while (store_saver_next_node(saver, &again))
		;
	buf_clear(&again);
	while (store_saver_next_event(saver, &again))
		;
	require(slice_equal(buf_slice(&out), buf_slice(&again)));
	(void)store_saver_free(saver);
	(void)store_free(second);
}

static void fuzz_events(struct slice input)
{
	struct store *sound = sound_store(), *store = NULL;
	struct store_saver *saver = store_saver_open(sound);
	_cleanup_buf_ struct buf nodes = BUF_INIT(0);
	struct store_loader *loader;
	struct store_image image;

	store_saver_image(saver, &image);
	while (store_saver_next_node(saver, &nodes))
		;
	(void)store_saver_free(saver);
	(void)store_free(sound);
	loader = store_loader_new(&image);
	require(store_loader_add_nodes(loader, buf_slice(&nodes)) == 0);
	if (store_loader_add_events(loader, input) == 0 && store_loader_finish(loader, &store) == 0) {
		comes_out_again(store);
		use(store);
	}
	(void)store_loader_free(loader);
	(void)store_free(store);
}

/* NULL: the records are refused. Else what they make, finished when the image is theirs. */
static struct store *load_records(
	const struct store_image *image, struct slice nodes, struct slice events, bool *ret_finished)
{
	struct store_loader *loader = store_loader_new(image);
	struct store *store = NULL;
	bool good =
		store_loader_add_nodes(loader, nodes) == 0 && store_loader_add_events(loader, events) == 0;

	*ret_finished = good && store_loader_finish(loader, &store) == 0;
	if (*ret_finished) {
		(void)store_loader_free(loader);
		return store;
	}
	store = store_loader_end(loader);
	return good ? store : store_free(store);
}

/* The input's records, with the counts and the hash that they come to. */
static void fuzz_records(struct slice input)
{
	struct wire_reader reader = wire_reader_make(input);
	struct store_image image = {.index = wire_read_u8(&reader), .nodes = UINT64_MAX};
	size_t len = MIN((size_t)wire_read_u16(&reader), wire_left(&reader));
	struct slice nodes = slice_make(reader.at, len);
	struct slice events = slice_make(reader.at + len, wire_left(&reader) - len);
	bool finished = false;

	image.first_kept = image.index > 4 ? image.index - 3 : MIN(image.index, UINT64_C(1));
	image.clock_ns = image.index;
	for (int round = 0; round < 3 && !finished; round++) {
		struct store *store = load_records(&image, nodes, events, &finished);

		if (!store)
			return;
		if (finished) {
			comes_out_again(store);
			use(store);
		}
		image.nodes = store_nodes(store);
		image.hash = store_hash(store);
		(void)store_free(store);
	}
}

static void load(struct disk *disk)
{
	struct checkpoint_disk ops = {.list = disk_list, .read = disk_read, .arg = disk};
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *store = NULL;
	_cleanup_free_ char *error = NULL;
	struct checkpoint_plan plan = {0};

	if (checkpoint_open(&ops, CLUSTER, &checkpoint, &error) == 0 && checkpoint &&
		checkpoint_load(&ops, checkpoint, &store, &error) == 0)
		use(store);
	require(!error == (store || !checkpoint) || !checkpoint);
	require(checkpoint_start_plan(&ops, checkpoint, &plan) == 0);
	buf_done(&plan.bytes);
}

static void fuzz_file(struct slice input)
{
	_cleanup_(disk_done) struct disk disk = {0};

	buf_add_slice(&disk.manifest, input);
	load(&disk);
}

/* The body up to a length in front, with a head and a sum that fit, then the data, in pieces of 1 to 64
 * bytes. */
static void fuzz_receiver(struct slice input)
{
	struct wire_reader reader = wire_reader_make(input);
	size_t body_len = MIN((size_t)wire_read_u16(&reader), wire_left(&reader));
	size_t piece = 1 + body_len % 64;
	struct checkpoint_receiver *receiver;
	struct checkpoint_id id = {0};
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct checkpoint_plan plan = {0};
	unsigned again = 0;
	int r = 1;

	buf_add_str(&bytes, "FLOTCKM\n");
	wire_add_u32(&bytes, CHECKPOINT_FORMAT_VERSION);
	wire_add_u32(&bytes, (uint32_t)(CHECKPOINT_MANIFEST_HEAD_BYTES + body_len + 4));
	buf_add(&bytes, reader.at, body_len);
	id.check = crc32c(0, bytes.data, bytes.len);
	wire_add_u32(&bytes, id.check);
	if (body_len >= 24) {
		struct wire_reader body = wire_reader_make(slice_make(reader.at + 8, 16));

		id.index = wire_read_u64(&body);
		id.term = wire_read_u64(&body);
	}
	buf_add(&bytes, reader.at + body_len, wire_left(&reader) - body_len);
	receiver = checkpoint_receiver_new(CLUSTER, id, 1);
	while (r == 1 || (r == -EAGAIN && again++ < 3)) {
		uint64_t offset = checkpoint_receiver_wanted(receiver);
		_cleanup_free_ char *error = NULL;

		if (offset >= bytes.len)
			break;
		r = checkpoint_receiver_add(receiver, offset,
			slice_make(bytes.data + offset, MIN(piece, bytes.len - (size_t)offset)), &plan,
			&error);
		require(!error == (r == 0 || r == 1 || r == -EAGAIN));
	}
	if (r == 0) {
		struct checkpoint *checkpoint;
		struct store *store;

		checkpoint_receiver_take(receiver, &checkpoint, &store);
		use(store);
		(void)store_free(store);
		(void)checkpoint_unref(checkpoint);
	}
	(void)checkpoint_receiver_free(receiver);
	buf_done(&plan.bytes);
}

/* Each three bytes of the input change one byte of one file. */
static void fuzz_damage(struct slice input)
{
	_cleanup_(disk_done) struct disk disk = {0};
	_cleanup_(store_freep) struct store *store = sound_store();
	struct checkpoint_meta meta = {
		.cluster_id = CLUSTER, .index = 9, .term = 2, .membership = slice_str("members")};
	struct checkpoint_writer *writer = checkpoint_writer_new(store, &meta, 1);
	struct checkpoint_disk ops = {.list = disk_list, .read = disk_read, .arg = &disk};
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *loaded = NULL;
	_cleanup_free_ char *error = NULL;
	struct checkpoint_plan plan = {0};
	bool damaged = false;

	require(!checkpoint_writer_step(writer, SIZE_MAX, &plan));
	for (size_t i = 0; i < plan.steps_len; i++)
		if (plan.steps[i].kind == CHECKPOINT_WRITE)
			buf_add(strcmp(plan.steps[i].name, CHECKPOINT_NEW_NAME) == 0 ? &disk.manifest
										     : &disk.data,
				plan.bytes.data + plan.steps[i].bytes_at, plan.steps[i].bytes_len);
	(void)checkpoint_writer_free(writer);
	buf_done(&plan.bytes);
	for (size_t i = 0; i + 3 <= input.len && i < 12; i += 3) {
		struct buf *file = input.data[i] & 1 ? &disk.data : &disk.manifest;
		size_t at = (((uint8_t)input.data[i] >> 1) * 256U + (uint8_t)input.data[i + 1]) % file->len;

		damaged = true;
		file->data[at] ^= input.data[i + 2];
	}
	if (checkpoint_open(&ops, CLUSTER, &checkpoint, &error) == 0 &&
		checkpoint_load(&ops, checkpoint, &loaded, &error) == 0)
		require(store_hash(loaded) == store_hash(store));
	else
		require(damaged && error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const kinds[])(struct slice input) = {
		fuzz_file, fuzz_receiver, fuzz_records, fuzz_events, fuzz_damage, fuzz_story};

	if (size)
		kinds[data[0] % ARRAY_LEN(kinds)](slice_make(data + 1, size - 1));
	return 0;
}
