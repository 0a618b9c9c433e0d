/* checkpoint [KEYS] [VALUE_BYTES]: how long a checkpoint of so many keys takes to write (in steps, with a
 * change between each two), to load and to hand over, all in memory: what the disk and the network add is not
 * in it. */
#include "base/memory.h"
#include "base/time.h"
#include "checkpoint/checkpoint.h"
#include <errno.h>
#include <stdio.h>
#include <time.h>

static struct buf files[2]; /* CHECKPOINT, data */

static struct buf *file_of(const char *name)
{
	return &files[strncmp(name, CHECKPOINT_NAME, strlen(CHECKPOINT_NAME)) != 0];
}

static int disk_read(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	const struct buf *file = file_of(name);

	(void)arg;
	if (offset < file->len)
		buf_add(out, file->data + offset, MIN(len, file->len - (size_t)offset));
	return 0;
}

static void disk_run(const struct checkpoint_plan *plan)
{
	for (size_t i = 0; i < plan->steps_len; i++)
		if (plan->steps[i].kind == CHECKPOINT_WRITE)
			buf_add(file_of(plan->steps[i].name), plan->bytes.data + plan->steps[i].bytes_at,
				plan->steps[i].bytes_len);
}

static void set(struct store *store, unsigned key, const char *value, size_t value_len, struct buf *scratch)
{
	char path[64];
	struct store_command command = {
		.op = STORE_OP_SET, .value = slice_make(value, value_len), .time_ns = 1};
	struct store_result result;

	command.path = slice_make(path, (size_t)snprintf(path, sizeof(path), "/1/bench/key-%08u", key));
	buf_clear(scratch);
	store_command_encode(&command, scratch);
	if (store_apply(store, buf_slice(scratch), &result) < 0)
		abort();
	store_result_done(&result);
}

/* Processor time: other work on the machine does not count. */
static int64_t cpu_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static double ms_since(int64_t start_ns)
{
	return (double)(cpu_ns() - start_ns) / 1e6;
}

static void die(const char *what, char *error)
{
	(void)fprintf(stderr, "bench_checkpoint: %s: %s\n", what, error ? error : "");
	exit(1);
}

static struct checkpoint *measure_write(
	struct store *store, unsigned keys, const char *value, size_t value_len)
{
	struct checkpoint_meta meta = {.cluster_id = 1, .index = 1, .term = 1, .membership = slice_str("")};
	struct checkpoint_plan plan = {0};
	struct buf scratch = BUF_INIT(0);
	int64_t start_ns = cpu_ns(), step_ns;
	struct checkpoint_writer *writer = checkpoint_writer_new(store, &meta, 1);
	double opened_ms = ms_since(start_ns), longest_ms = 0, all_ms = 0;
	struct checkpoint *checkpoint;
	unsigned steps = 0;
	bool more = true;

	while (more) {
		double ms;

		step_ns = cpu_ns();
		more = checkpoint_writer_step(writer, CHECKPOINT_STEP_BYTES, &plan);
		ms = ms_since(step_ns);
		longest_ms = MAX(longest_ms, ms);
		all_ms += ms;
		steps++;
		disk_run(&plan);
		set(store, (steps * 7919U) % keys, value, value_len, &scratch);
	}
	checkpoint = checkpoint_writer_take(writer);
	printf("write       %8.1f ms in %u steps, the longest %.2f ms; to begin %.3f ms; %.1f MB\n", all_ms,
		steps, longest_ms, opened_ms, (double)files[1].len / 1e6);
	(void)checkpoint_writer_free(writer);
	buf_done(&plan.bytes);
	buf_done(&scratch);
	return checkpoint;
}

static void measure_load(struct checkpoint *checkpoint)
{
	struct checkpoint_disk disk = {.read = disk_read};
	int64_t start_ns = cpu_ns();
	struct store *store;
	char *error = NULL;

	if (checkpoint_load(&disk, checkpoint, &store, &error) < 0)
		die("load", error);
	printf("load        %8.1f ms\n", ms_since(start_ns));
	(void)store_free(store);
}

static void measure_transfer(struct checkpoint *checkpoint)
{
	struct checkpoint_source *source = checkpoint_source_new(checkpoint);
	struct checkpoint_plan plan = {0};
	struct checkpoint_receiver *receiver;
	struct checkpoint_info info;
	struct buf bytes = BUF_INIT(0);
	int64_t start_ns = cpu_ns();
	double longest_ms = 0;
	char *error = NULL;
	int r = 1;

	checkpoint_get_info(checkpoint, &info);
	receiver = checkpoint_receiver_new(1, info.id, 2);
	while (r == 1) {
		uint64_t offset = checkpoint_receiver_wanted(receiver);
		struct checkpoint_range range;
		struct slice piece;
		int64_t piece_ns;

		if (checkpoint_source_needs(source, offset, &range)) {
			buf_clear(&bytes);
			(void)disk_read(NULL, range.name, range.offset, range.len, &bytes);
			if (checkpoint_source_fill(source, offset, buf_slice(&bytes), &error) < 0)
				die("transfer", error);
		}
		if (checkpoint_source_piece(source, offset, CHECKPOINT_PIECE_BYTES, &piece) < 0)
			die("transfer", NULL);
		piece_ns = cpu_ns();
		r = checkpoint_receiver_add(receiver, offset, piece, &plan, &error);
		longest_ms = MAX(longest_ms, ms_since(piece_ns));
	}
	if (r < 0)
		die("transfer", error);
	printf("transfer    %8.1f ms, the longest piece %.2f ms\n", ms_since(start_ns), longest_ms);
	(void)checkpoint_receiver_free(receiver);
	(void)checkpoint_source_free(source);
	buf_done(&plan.bytes);
	buf_done(&bytes);
}

int main(int argc, char **argv)
{
	unsigned keys = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;
	size_t value_len = argc > 2 ? strtoul(argv[2], NULL, 10) : 256;
	_cleanup_free_ char *value = mem_calloc(1, value_len + 1);
	struct store *store = store_new();
	struct buf scratch = BUF_INIT(0);
	struct checkpoint *checkpoint;
	int64_t start_ns = cpu_ns();

	if (!keys)
		return 2;
	memset(value, 'v', value_len);
	for (unsigned i = 0; i < keys; i++)
		set(store, (unsigned)((uint64_t)i * 2654435761U % keys), value, value_len, &scratch);
	printf("%u keys of %zu bytes; made in %.1f ms\n", keys, value_len, ms_since(start_ns));
	checkpoint = measure_write(store, keys, value, value_len);
	measure_load(checkpoint);
	measure_transfer(checkpoint);
	(void)checkpoint_unref(checkpoint);
	(void)store_free(store);
	buf_done(&scratch);
	buf_done(&files[0]);
	buf_done(&files[1]);
	return 0;
}
