/* Framed streams over a socket pair, both ends in one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/memory.h"
#include "io/stream.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
	struct stream *stream;
	struct buf got;
	unsigned int frames, ends, drained;
	int error;
	bool echo, close_in_frame;
};

static void on_frame(struct stream *stream, struct slice frame, void *user)
{
	struct end *end = user;

	end->frames++;
	buf_add_slice(&end->got, frame);
	buf_add_char(&end->got, '|');
	if (end->echo)
		assert_int_equal(stream_send(stream, frame), 0);
	if (end->close_in_frame)
		end->stream = stream_close(stream);
}

static void on_end(struct stream *stream, int error, void *user)
{
	struct end *end = user;

	(void)stream;
	end->ends++;
	end->error = error;
}

static void on_drain(struct stream *stream, void *user)
{
	struct end *end = user;

	(void)stream;
	end->drained++;
}

static uv_stream_t *open_pipe(uv_loop_t *loop, int fd)
{
	uv_pipe_t *pipe = mem_new(uv_pipe_t);

	uv_pipe_init(loop, pipe, 0);
	assert_int_equal(uv_pipe_open(pipe, fd), 0);
	return (uv_stream_t *)pipe;
}

static void make_pair(uv_loop_t *loop, struct end *a, struct end *b, struct stream_options options)
{
	int fds[2];

	uv_loop_init(loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	options.on_frame = on_frame;
	options.on_end = on_end;
	options.on_drain = on_drain;
	options.user = a;
	a->stream = stream_new(open_pipe(loop, fds[0]), &options, slice_make("", 0));
	options.user = b;
	b->stream = stream_new(open_pipe(loop, fds[1]), &options, slice_make("", 0));
}

static void finish(uv_loop_t *loop, struct end *a, struct end *b)
{
	stream_close(a->stream);
	stream_close(b->stream);
	uv_run(loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(loop), 0);
	buf_done(&a->got);
	buf_done(&b->got);
}

static void frames_arrive_whole_and_in_order(void **state)
{
	struct slice parts[] = {SLICE_LITERAL("he"), SLICE_LITERAL(""), SLICE_LITERAL("llo")};
	struct end a = {0}, b = {.echo = true};
	uv_loop_t loop;

	(void)state;
	make_pair(&loop, &a, &b, (struct stream_options){0});
	assert_int_equal(stream_send_parts(a.stream, parts, 3), 0);
	assert_int_equal(stream_send(a.stream, SLICE_LITERAL("")), 0);
	assert_int_equal(stream_send(a.stream, SLICE_LITERAL("world")), 0);
	assert_true(stream_queued_bytes(a.stream) == 10 + 3 * 4);
	while (a.frames < 3)
		uv_run(&loop, UV_RUN_ONCE);
	assert_string_equal(buf_text(&b.got), "hello||world|");
	assert_string_equal(buf_text(&a.got), "hello||world|");
	assert_int_equal(stream_queued_bytes(a.stream), 0);
	assert_true(a.drained > 0);
	finish(&loop, &a, &b);
}

static void large_frames_and_many_frames_pass(void **state)
{
	struct end a = {0}, b = {0};
	struct buf large = BUF_INIT(0);
	uv_loop_t loop;

	(void)state;
	make_pair(&loop, &a, &b, (struct stream_options){0});
	buf_add_fill(&large, 'x', 5 * 1000 * 1000);
	assert_int_equal(stream_send(a.stream, buf_slice(&large)), 0);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(stream_send(a.stream, SLICE_LITERAL("small")), 0);
	while (b.frames < 10001)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(b.got.len, 5 * 1000 * 1000 + 1 + 10000 * 6);
	buf_done(&large);
	finish(&loop, &a, &b);
}

static void the_queue_is_bounded_and_tells_when_there_is_room(void **state)
{
	struct end a = {0}, b = {0};
	struct buf piece = BUF_INIT(0);
	uv_loop_t loop;
	int sent = 0;

	(void)state;
	make_pair(&loop, &a, &b, (struct stream_options){.max_queue_bytes = 1000 * 1000});
	buf_add_fill(&piece, 'x', 10000);
	stream_pause(b.stream);
	for (int i = 0; i < 1000; i++) {
		if (stream_send(a.stream, buf_slice(&piece)) == 0)
			sent++;
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	assert_true(sent >= 99 && sent < 200);
	assert_int_equal(stream_send(a.stream, buf_slice(&piece)), -ENOBUFS);
	assert_int_equal(b.frames, 0);
	a.drained = 0;
	stream_resume(b.stream);
	while (!a.drained || b.frames < (unsigned int)sent)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(b.frames, sent);
	buf_done(&piece);
	finish(&loop, &a, &b);
}

static void a_frame_above_the_ceiling_ends_the_stream(void **state)
{
	struct end a = {0}, b = {0};
	uv_loop_t loop;
	int fds[2];

	(void)state;
	make_pair(&loop, &a, &b, (struct stream_options){.max_frame_bytes = 10});
	assert_int_equal(stream_send(a.stream, SLICE_LITERAL("12345678901")), -EMSGSIZE);
	stream_close(b.stream);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	b.stream = stream_new(open_pipe(&loop, fds[0]),
		&(struct stream_options){
			.max_frame_bytes = 10, .on_frame = on_frame, .on_end = on_end, .user = &b},
		slice_make("", 0));
	assert_int_equal(write(fds[1], "\x02\0\0\0ok\xff\xff\xff\xff", 10), 10);
	while (!b.ends)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(b.error, -EMSGSIZE);
	assert_string_equal(buf_text(&b.got), "ok|");
	assert_int_equal(stream_send(b.stream, SLICE_LITERAL("x")), -EPIPE);
	close(fds[1]);
	finish(&loop, &a, &b);
}

static void ends_inside_and_between_frames_differ(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int error;
	} cases[] = {{"\x01\0\0\0x", 5, 0}, {"\x01\0\0\0x\x05\0\0\0ab", 11, -EPROTO},
		{"\x01\0\0\0x\x05\0", 7, -EPROTO}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct end a = {0}, b = {0};
		uv_loop_t loop;
		int fds[2];

		uv_loop_init(&loop);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		/* The first bytes came with the answer that handed the connection over. */
		a.stream = stream_new(open_pipe(&loop, fds[0]),
			&(struct stream_options){.on_frame = on_frame, .on_end = on_end, .user = &a},
			slice_make(cases[i].bytes, 3));
		assert_int_equal(a.frames, 0);
		assert_int_equal(write(fds[1], cases[i].bytes + 3, cases[i].len - 3), cases[i].len - 3);
		close(fds[1]);
		while (!a.ends)
			uv_run(&loop, UV_RUN_ONCE);
		assert_int_equal(a.error, cases[i].error);
		assert_string_equal(buf_text(&a.got), "x|");
		finish(&loop, &a, &b);
	}
}

static void a_stream_may_be_closed_from_its_own_callback(void **state)
{
	struct end a = {0}, b = {.close_in_frame = true};
	uv_loop_t loop;

	(void)state;
	make_pair(&loop, &a, &b, (struct stream_options){0});
	for (int i = 0; i < 3; i++)
		assert_int_equal(stream_send(a.stream, SLICE_LITERAL("x")), 0);
	while (!a.ends)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(b.frames, 1);
	assert_int_equal(b.ends, 0);
	finish(&loop, &a, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_arrive_whole_and_in_order),
		cmocka_unit_test(large_frames_and_many_frames_pass),
		cmocka_unit_test(the_queue_is_bounded_and_tells_when_there_is_room),
		cmocka_unit_test(a_frame_above_the_ceiling_ends_the_stream),
		cmocka_unit_test(ends_inside_and_between_frames_differ),
		cmocka_unit_test(a_stream_may_be_closed_from_its_own_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
