/* Status and journal are what systemctl and journalctl say: they are asked, as an administrator would. */
#include "base/memory.h"
#include "io/process.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <stdio.h>

#define STATUS_TIMEOUT_MS 30000
#define TIME_ARGUMENT_BYTES 32
#define JOURNALCTL_WORDS 16

struct text_stream {
	struct manager_stream stream; /* first: what manager_journal() answers */
	struct list entry;
	struct process *process; /* NULL: it could not be started, a timer tells */
	uv_timer_t *timer;
	manager_text_fn text;
	void *userdata;
	int result;
	char *message;
	bool in_callback, cancelled;
};

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stream_free(struct text_stream *stream)
{
	list_remove(&stream->entry);
	if (stream->timer)
		uv_close((uv_handle_t *)stream->timer, timer_closed);
	free(stream->message);
	free(stream);
}

static void end(struct text_stream *stream, struct slice text)
{
	stream->in_callback = true;
	stream->text(stream->userdata, stream->result, stream->message ? stream->message : "", text, true);
	stream_free(stream);
}

static void on_output(struct process *process, struct slice piece, void *user)
{
	struct text_stream *stream = user;

	stream->in_callback = true;
	stream->text(stream->userdata, 0, "", piece, false);
	stream->in_callback = false;
	if (!stream->cancelled)
		return;
	process_cancel(process);
	stream_free(stream);
}

static void on_done(struct process *process, const struct process_result *result, void *user)
{
	(void)process;
	(void)result; /* its exit status is that of the unit */
	end(user, SLICE_LITERAL(""));
}

static void on_timer(uv_timer_t *timer)
{
	struct text_stream *stream = timer->data;

	end(stream, slice_str(stream->result < 0 ? "" : stream->message));
}

/* The answer comes from the loop, never from inside the call. */
static void answer_later(struct systemd *systemd, struct text_stream *stream, int result, char *message)
{
	stream->result = result;
	stream->message = message;
	stream->timer = mem_new(uv_timer_t);
	(void)uv_timer_init(systemd->config.loop, stream->timer);
	stream->timer->data = stream;
	(void)uv_timer_start(stream->timer, on_timer, 0, 0);
}

static struct text_stream *stream_new(struct systemd *systemd, manager_text_fn text, void *userdata)
{
	struct text_stream *stream = mem_new(struct text_stream);

	stream->stream.manager = &systemd->manager;
	stream->text = text;
	stream->userdata = userdata;
	list_push_back(&systemd->streams, &stream->entry);
	return stream;
}

static void run(
	struct systemd *systemd, struct text_stream *stream, const char *const *argv, uint32_t timeout_ms)
{
	struct process_options options = {.argv = argv, .timeout_ms = timeout_ms, .on_output = on_output};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r = process_start(systemd->config.loop, &options, on_done, stream, &stream->process, &error);

	if (r < 0)
		answer_later(systemd, stream, r, mem_strdup(buf_text(&error)));
}

static const char *why_not_ours(const struct systemd_unit *unit)
{
	return unit->start_error ? unit->start_error : "a unit of this host hides it";
}

void systemd_status(struct manager *manager, const char *name, manager_text_fn text, void *userdata)
{
	struct systemd *systemd = container_of(manager, struct systemd, manager);
	const char *argv[] = {"systemctl", systemd->config.user ? "--user" : "--system", "--no-pager",
		"--full", "status", "--", name, NULL};
	struct text_stream *stream = stream_new(systemd, text, userdata);
	const struct systemd_unit *unit = map_get(&systemd->units, slice_str(name));

	if (!unit || !unit->known)
		answer_later(systemd, stream, -ENOENT, mem_printf("Unit %s could not be found.", name));
	else if (!unit->ours) /* systemctl would tell of the host's */
		answer_later(systemd, stream, 0,
			mem_printf("%s\n     Loaded: error (Reason: %s)\n     Active: %s\n", name,
				why_not_ours(unit), unit->active));
	else
		run(systemd, stream, argv, STATUS_TIMEOUT_MS);
}

static bool is_output(const char *output)
{
	static const char *const outputs[] = {"short", "short-full", "short-iso", "short-iso-precise",
		"short-precise", "short-monotonic", "short-delta", "short-unix", "verbose", "export", "json",
		"json-pretty", "json-sse", "json-seq", "cat", "with-unit"};

	for (size_t i = 0; i < ARRAY_LEN(outputs); i++)
		if (strcmp(output, outputs[i]) == 0)
			return true;
	return false;
}

/* "@SECONDS.MICROSECONDS", as journalctl takes it. */
static const char *time_argument(int64_t us, char room[static TIME_ARGUMENT_BYTES])
{
	(void)snprintf(room, TIME_ARGUMENT_BYTES, "@%lld.%06lld", (long long)(us / 1000000),
		(long long)(us % 1000000));
	return room;
}

struct manager_stream *systemd_journal(struct manager *manager, const char *name,
	const struct manager_journal_options *options, manager_text_fn text, void *userdata)
{
	struct systemd *systemd = container_of(manager, struct systemd, manager);
	struct text_stream *stream = stream_new(systemd, text, userdata);
	const struct systemd_unit *unit = map_get(&systemd->units, slice_str(name));
	const char *output = options->output ? options->output : "short";
	char count[24], since[TIME_ARGUMENT_BYTES], until[TIME_ARGUMENT_BYTES];
	const char *argv[JOURNALCTL_WORDS] = {"journalctl", "--no-pager",
		systemd->config.user ? "--user-unit" : "--unit", name, "--lines", count, "--output", output};
	size_t words = 8;

	if (options->follow)
		argv[words++] = "--follow";
	if (options->since_us > 0) {
		argv[words++] = "--since";
		argv[words++] = time_argument(options->since_us, since);
	}
	if (options->until_us > 0) {
		argv[words++] = "--until";
		argv[words++] = time_argument(options->until_us, until);
	}
	if (options->lines < 0)
		(void)snprintf(count, sizeof(count), "all");
	else
		(void)snprintf(count, sizeof(count), "%ld", options->lines);
	if (!unit || !unit->known)
		answer_later(systemd, stream, -ENOENT, mem_printf("Unit %s could not be found.", name));
	else if (!unit->ours) /* journalctl would tell of the host's */
		answer_later(systemd, stream, -ENOENT,
			mem_printf("Unit %s has no journal: %s.", name, why_not_ours(unit)));
	else if (!is_output(output))
		answer_later(systemd, stream, -ENOTSUP,
			mem_printf("output \"%s\" is not known (short, cat, json, verbose, export and others "
				   "of journalctl)",
				output));
	else
		run(systemd, stream, argv, 0);
	return &stream->stream;
}

void systemd_stream_cancel(struct manager_stream *manager_stream)
{
	struct text_stream *stream = container_of(manager_stream, struct text_stream, stream);

	if (stream->in_callback) {
		stream->cancelled = true;
		return;
	}
	if (stream->process)
		process_cancel(stream->process);
	stream_free(stream);
}

void systemd_streams_close(struct systemd *systemd)
{
	while (!list_empty(&systemd->streams)) {
		struct text_stream *stream = list_first(&systemd->streams, struct text_stream, entry);

		list_remove(&stream->entry);
		if (stream->process)
			process_cancel(stream->process);
		stream->result = -ECANCELED;
		free(stream->message);
		stream->message = mem_strdup("the manager is closed");
		end(stream, SLICE_LITERAL(""));
	}
}
