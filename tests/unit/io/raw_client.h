/* A client that sends bytes as they are and runs the loop while it waits, so that one test holds both ends.
 */
#pragma once
#include "base/buf.h"
#include "base/time.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>
#include <cmocka.h>

struct raw {
	uv_loop_t *loop;
	int fd;
	struct buf in;
	bool end, reset;
};

static inline void raw_open(struct raw *raw, uv_loop_t *loop, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	*raw = (struct raw){.loop = loop, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(raw->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static inline void raw_open_unix(struct raw *raw, uv_loop_t *loop, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*raw = (struct raw){.loop = loop, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	strcpy(address.sun_path, path);
	assert_int_equal(connect(raw->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static inline void raw_close(struct raw *raw)
{
	if (raw->fd >= 0)
		close(raw->fd);
	raw->fd = -1;
	buf_done(&raw->in);
}

static inline void raw_turn(struct raw *raw)
{
	(void)uv_run(raw->loop, UV_RUN_NOWAIT);
}

/* Runs the loop for so long without reading. */
static inline void raw_idle(struct raw *raw, int64_t ms)
{
	for (int64_t until = time_mono_ms() + ms; time_mono_ms() < until; usleep(500))
		raw_turn(raw);
}

static inline void raw_receive(struct raw *raw)
{
	char bytes[65536];
	ssize_t n = recv(raw->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0)
		buf_add(&raw->in, bytes, (size_t)n);
	else if (n == 0)
		raw->end = true;
	else if (errno != EAGAIN)
		raw->end = raw->reset = true;
	else
		usleep(200);
}

static inline void raw_send_bytes(struct raw *raw, struct slice bytes)
{
	int64_t until = time_mono_ms() + 10000;

	while (bytes.len && !raw->end) {
		ssize_t n = send(raw->fd, bytes.data, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		assert_true(time_mono_ms() < until);
		if (n > 0)
			bytes = slice_make(bytes.data + n, bytes.len - (size_t)n);
		else if (errno != EAGAIN)
			break;
		raw_turn(raw);
		raw_receive(raw);
	}
}

static inline void raw_send(struct raw *raw, const char *text)
{
	raw_send_bytes(raw, slice_str(text));
}

/* Reads until `needle` stands in what came, or the end. Answers where it stands, or NULL. */
static inline const char *raw_wait(struct raw *raw, const char *needle)
{
	int64_t until = time_mono_ms() + 10000;
	const char *at;

	while (!(at = memmem(buf_text(&raw->in), raw->in.len, needle, strlen(needle))) && !raw->end) {
		if (time_mono_ms() > until)
			fail_msg("waited in vain for \"%s\"; got \"%s\"", needle, buf_text(&raw->in));
		raw_turn(raw);
		raw_receive(raw);
	}
	return at;
}

static inline const char *raw_wait_end(struct raw *raw)
{
	int64_t until = time_mono_ms() + 10000;

	while (!raw->end) {
		if (time_mono_ms() > until)
			fail_msg("the connection was not closed; got \"%s\"", buf_text(&raw->in));
		raw_turn(raw);
		raw_receive(raw);
	}
	return buf_text(&raw->in);
}

static inline size_t raw_count(const struct raw *raw, const char *needle)
{
	size_t count = 0;

	for (const char *at = buf_text(&raw->in); (at = strstr(at, needle)); at += strlen(needle))
		count++;
	return count;
}
