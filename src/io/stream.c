/* Incoming bytes are read straight to the end of one buffer, and whole frames are handed out from its front.
 * Outgoing frames gather in `out`, which is sent before the loop sleeps: the handles of a stream's turn
 * (prepare, check, and an idle one that keeps the loop awake until one of them has come by) run only while
 * there is something to do. */
#include "io/stream.h"
#include "base/memory.h"
#include "io/sigpipe.h"
#include <errno.h>

enum { HEADER_BYTES = 4, READ_STEP_BYTES = 64 * 1024, KEEP_BUF_BYTES = 256 * 1024 };

struct stream {
	struct stream_options options;
	uv_stream_t *handle;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle;
	unsigned int open_handles;
	struct buf in, out;
	uv_write_t write;
	char *writing; /* the block under way, or NULL */
	uint64_t last_received_ms;
	bool woken, paused, running, ended, closed;
	bool want_drain;
	int end_error; /* found where no callback may be made; told in the next turn */
	bool end_pending;
};

static void stream_turn(struct stream *stream);

static void on_prepare(uv_prepare_t *prepare)
{
	stream_turn(container_of(prepare, struct stream, prepare));
}

static void on_check(uv_check_t *check)
{
	stream_turn(container_of(check, struct stream, check));
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle;
}

static void wake(struct stream *stream)
{
	if (stream->woken || stream->closed)
		return;
	stream->woken = true;
	(void)uv_prepare_start(&stream->prepare, on_prepare);
	(void)uv_check_start(&stream->check, on_check);
	(void)uv_idle_start(&stream->idle, on_idle);
}

static void sleep_again(struct stream *stream)
{
	stream->woken = false;
	(void)uv_prepare_stop(&stream->prepare);
	(void)uv_check_stop(&stream->check);
	(void)uv_idle_stop(&stream->idle);
}

static void end_soon(struct stream *stream, int error)
{
	if (stream->ended || stream->end_pending || stream->closed)
		return;
	stream->end_pending = true;
	stream->end_error = error;
	wake(stream);
}

static void tell_end(struct stream *stream)
{
	stream->end_pending = false;
	stream->ended = true;
	(void)uv_read_stop(stream->handle);
	if (stream->options.on_end)
		stream->options.on_end(stream, stream->end_error, stream->options.user);
}

static size_t frame_len(const char *at)
{
	const unsigned char *bytes = (const unsigned char *)at;

	return (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
}

/* Hands out the whole frames at the front of the buffer. */
static void deliver(struct stream *stream)
{
	size_t at = 0;

	if (stream->running)
		return;
	stream->running = true;
	while (!stream->closed && !stream->ended && !stream->end_pending && !stream->paused &&
		stream->in.len - at >= HEADER_BYTES) {
		size_t len = frame_len(stream->in.data + at);

		if (len > stream->options.max_frame_bytes) {
			end_soon(stream, -EMSGSIZE);
			break;
		}
		if (stream->in.len - at - HEADER_BYTES < len)
			break;
		at += HEADER_BYTES + len;
		stream->options.on_frame(
			stream, slice_make(stream->in.data + at - len, len), stream->options.user);
	}
	stream->running = false;
	buf_consume(&stream->in, at);
	if (!stream->in.len && stream->in.cap > KEEP_BUF_BYTES)
		buf_done(&stream->in);
}

static void on_written(uv_write_t *write, int status)
{
	struct stream *stream = container_of(write, struct stream, write);

	stream->writing = mem_free(stream->writing);
	if (stream->closed)
		return;
	if (status < 0) {
		end_soon(stream, status);
		return;
	}
	wake(stream);
}

static void flush(struct stream *stream)
{
	uv_buf_t bytes;
	size_t len;
	int n;

	if (stream->closed || stream->ended || stream->writing)
		return;
	if (stream->out.len) {
		bytes = uv_buf_init(stream->out.data, (unsigned int)stream->out.len);
		n = uv_try_write(stream->handle, &bytes, 1);
		if (n < 0 && n != UV_EAGAIN) {
			end_soon(stream, n);
			return;
		}
		n = MAX(n, 0);
		if ((size_t)n < stream->out.len) {
			stream->writing = buf_take(&stream->out, &len);
			bytes = uv_buf_init(stream->writing + n, (unsigned int)(len - (size_t)n));
			n = uv_write(&stream->write, stream->handle, &bytes, 1, on_written);
			if (n < 0) {
				stream->writing = mem_free(stream->writing);
				end_soon(stream, n);
			}
			return;
		}
		if (stream->out.cap > KEEP_BUF_BYTES)
			buf_done(&stream->out);
		else
			buf_clear(&stream->out);
	}
	if (stream->want_drain) {
		stream->want_drain = false;
		if (stream->options.on_drain)
			stream->options.on_drain(stream, stream->options.user);
	}
}

static void stream_turn(struct stream *stream)
{
	if (stream->closed)
		return;
	sleep_again(stream);
	deliver(stream);
	flush(stream);
	if (stream->end_pending && !stream->closed)
		tell_end(stream);
}

static void alloc_read(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
	struct stream *stream = handle->data;
	size_t room = MAX(stream->in.cap - stream->in.len, (size_t)READ_STEP_BYTES);
	char *at = buf_reserve(&stream->in, MIN(room, (size_t)16 * READ_STEP_BYTES));

	(void)suggested;
	room = MIN(room, (size_t)16 * READ_STEP_BYTES);
	*ret_buf = uv_buf_init(at, at ? (unsigned int)room : 0);
}

static void on_read(uv_stream_t *handle, ssize_t len, const uv_buf_t *buf)
{
	struct stream *stream = handle->data;

	(void)buf;
	if (len > 0) {
		buf_commit(&stream->in, (size_t)len);
		stream->last_received_ms = uv_now(handle->loop);
		deliver(stream);
	} else if (len == UV_EOF) {
		(void)uv_read_stop(handle);
		end_soon(stream, stream->in.len ? -EPROTO : 0);
	} else if (len < 0) {
		(void)uv_read_stop(handle);
		end_soon(stream, (int)len);
	}
}

struct stream *stream_new(uv_stream_t *handle, const struct stream_options *options, struct slice unread)
{
	struct stream *stream = mem_new(struct stream);

	ignore_sigpipe();
	assert(options->on_frame);
	stream->options = *options;
	if (!stream->options.max_frame_bytes)
		stream->options.max_frame_bytes = 64 * 1024 * 1024;
	if (!stream->options.max_queue_bytes)
		stream->options.max_queue_bytes = 64 * 1024 * 1024;
	stream->handle = handle;
	handle->data = stream;
	stream->last_received_ms = uv_now(handle->loop);
	(void)uv_prepare_init(handle->loop, &stream->prepare);
	(void)uv_check_init(handle->loop, &stream->check);
	(void)uv_idle_init(handle->loop, &stream->idle);
	stream->open_handles = 4;
	buf_add_slice(&stream->in, unread);
	wake(stream);
	if (uv_read_start(handle, alloc_read, on_read) < 0)
		end_soon(stream, -ENOTCONN);
	return stream;
}

static void on_closed(uv_handle_t *handle)
{
	struct stream *stream = handle->data;

	if (--stream->open_handles)
		return;
	free(stream->handle);
	free(stream->writing);
	buf_done(&stream->in);
	buf_done(&stream->out);
	free(stream);
}

struct stream *stream_close(struct stream *stream)
{
	uv_handle_t *handles[4];

	if (!stream || stream->closed)
		return NULL;
	stream->closed = true;
	handles[0] = (uv_handle_t *)stream->handle;
	handles[1] = (uv_handle_t *)&stream->prepare;
	handles[2] = (uv_handle_t *)&stream->check;
	handles[3] = (uv_handle_t *)&stream->idle;
	for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
		handles[i]->data = stream;
		uv_close(handles[i], on_closed);
	}
	return NULL;
}

size_t stream_queued_bytes(const struct stream *stream)
{
	return stream->out.len + (stream->writing ? uv_stream_get_write_queue_size(stream->handle) : 0);
}

int stream_send_parts(struct stream *stream, const struct slice *parts, size_t count)
{
	unsigned char header[HEADER_BYTES];
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		len += parts[i].len;
	if (stream->closed || stream->ended || stream->end_pending)
		return -EPIPE;
	if (len > stream->options.max_frame_bytes || len > UINT32_MAX)
		return -EMSGSIZE;
	if (stream_queued_bytes(stream) + len + HEADER_BYTES > stream->options.max_queue_bytes) {
		stream->want_drain = true;
		return -ENOBUFS;
	}
	for (size_t i = 0; i < HEADER_BYTES; i++)
		header[i] = (unsigned char)(len >> (8 * i));
	buf_add(&stream->out, header, sizeof(header));
	for (size_t i = 0; i < count; i++)
		buf_add_slice(&stream->out, parts[i]);
	stream->want_drain = true;
	wake(stream);
	return 0;
}

int stream_send(struct stream *stream, struct slice part)
{
	return stream_send_parts(stream, &part, 1);
}

void stream_end(struct stream *stream, int error)
{
	end_soon(stream, error);
}

uint64_t stream_last_received_ms(const struct stream *stream)
{
	return stream->last_received_ms;
}

void stream_pause(struct stream *stream)
{
	if (stream->closed || stream->ended || stream->paused)
		return;
	stream->paused = true;
	(void)uv_read_stop(stream->handle);
}

void stream_resume(struct stream *stream)
{
	if (stream->closed || stream->ended || !stream->paused)
		return;
	stream->paused = false;
	(void)uv_read_start(stream->handle, alloc_read, on_read);
	wake(stream); /* frames that were already received */
}
