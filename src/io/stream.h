/* Frames over a connected stream (TCP or Unix, also one taken over from HTTP): four bytes little-endian
 * length, then so many bytes. Incoming frames have a ceiling, the outgoing queue a bound in bytes. Loop's
 * thread. */
#pragma once
#include "base/buf.h"
#include <uv.h>

struct stream;

struct stream_options {
	size_t max_frame_bytes; /* default 64 MiB; a larger incoming one ends the stream with -EMSGSIZE */
	size_t max_queue_bytes; /* default 64 MiB of unsent outgoing bytes */
	/* `frame` is borrowed until the callback returns. May send, pause, and close the stream. */
	void (*on_frame)(struct stream *stream, struct slice frame, void *user);
	/* Called once when the stream has ended by itself: 0 at a clean end between frames, else -errno
	 * (-EPROTO: it ended inside a frame). Nothing is called afterwards; the owner still calls
	 * stream_close(). */
	void (*on_end)(struct stream *stream, int error, void *user);
	/* May be NULL. Called when the queue has become empty. */
	void (*on_drain)(struct stream *stream, void *user);
	void *user;
};
/* Takes over a connected handle made by malloc (uv_tcp_t or uv_pipe_t; freed when closed) and begins to read
 * in the next turn. `unread`: bytes that had already been received; copied. Nothing is called from inside. */
struct stream *stream_new(uv_stream_t *handle, const struct stream_options *options, struct slice unread);
/* Closes and forgets it: nothing is called afterwards, unsent frames are lost. NULL is fine. */
struct stream *stream_close(struct stream *stream);

/* Queues one frame made of up to three parts, which are copied; all frames of a turn leave in one write.
 * -ENOBUFS when the queue is full (nothing is added), -EPIPE when the stream has ended, -EMSGSIZE above
 * max_frame_bytes. */
int stream_send(struct stream *stream, struct slice part);
int stream_send_parts(struct stream *stream, const struct slice *parts, size_t count);
/* Ends it as if from outside: nothing more is handed out, and on_end follows in a later turn. */
void stream_end(struct stream *stream, int error);
size_t stream_queued_bytes(const struct stream *stream);
/* Loop time in ms of the last byte received, for "the peer is silent". */
uint64_t stream_last_received_ms(const struct stream *stream);
void stream_pause(struct stream *stream); /* no on_frame until stream_resume() */
void stream_resume(struct stream *stream);
