/* fd-forward: what `fleetctl --tunnel` of fleet 1.0 runs on the far side. Two directions with a buffer each
 * and one poll(): stdin to the socket, the socket to stdout. Each direction ends on its own, and its end is
 * handed on: a client may say that it sends nothing more and still wait for the answer. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "fleetctl/fleetctl.h"

#define FORWARD_BUFFER_BYTES (64 * 1024)
#define FORWARD_FD_MIN 3 /* below are the standard ones, of which some may be closed */

struct direction {
	size_t begin, end; /* in `bytes`: what waits to be written */
	bool read_ended, ended;
	char bytes[FORWARD_BUFFER_BYTES];
};

struct forward {
	int socket_fd;
	bool reader_gone; /* nobody reads stdout any more */
	struct direction up, down;
};

/* -errno, in `reterr` with Go's words. */
static int dial(const char *path, int *ret_fd, struct buf *reterr)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, moved, r = 0;

	if (strlen(path) >= sizeof(address.sun_path)) {
		r = -EINVAL;
	} else {
		memcpy(address.sun_path, path, strlen(path));
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FORWARD_FD_MIN);
		r = moved < 0 || connect(moved, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno
												  : 0;
		if (fd >= 0)
			close(fd);
		if (r < 0 && moved >= 0)
			close(moved);
	}
	if (r < 0) {
		buf_printf(reterr, "dial unix %s: connect: ", path);
		text_add_errno(reterr, r);
		return r;
	}
	*ret_fd = moved;
	return 0;
}

static bool is_for_later(int error)
{
	return error == EINTR || error == EAGAIN || error == EWOULDBLOCK;
}

static bool has_room(const struct direction *direction)
{
	return !direction->read_ended && direction->end < FORWARD_BUFFER_BYTES;
}

static bool has_bytes(const struct direction *direction)
{
	return direction->begin < direction->end;
}

/* An error is an end too: what came before it is still handed on. */
static void fill(struct direction *direction, int fd)
{
	ssize_t n = read(fd, direction->bytes + direction->end, FORWARD_BUFFER_BYTES - direction->end);

	if (n > 0)
		direction->end += (size_t)n;
	else if (n == 0 || !is_for_later(errno))
		direction->read_ended = true;
}

/* Writes without waiting. False: nothing can be written there any more. */
static bool drain(struct direction *direction, int fd)
{
	const char *bytes = direction->bytes + direction->begin;
	size_t len = direction->end - direction->begin;
	ssize_t n = send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	/* A pipe that is ready takes that much at once; more could wait for its reader. */
	if (n < 0 && errno == ENOTSOCK)
		n = write(fd, bytes, MIN(len, (size_t)PIPE_BUF));
	if (n < 0)
		return is_for_later(errno);
	direction->begin += (size_t)n;
	if (!has_bytes(direction))
		direction->begin = direction->end = 0;
	return true;
}

/* What was read before an end has been written: the end is handed on. */
static void end_directions(struct forward *f)
{
	if (f->up.read_ended && !has_bytes(&f->up) && !f->up.ended) {
		f->up.ended = true;
		(void)shutdown(f->socket_fd, SHUT_WR);
	}
	if (f->down.read_ended && !has_bytes(&f->down) && !f->down.ended) {
		f->down.ended = true;
		(void)close(STDOUT_FILENO);
	}
}

/* One wait and what it was for. False: all is done. */
static bool turn(struct forward *f)
{
	short socket_events = (short)((has_room(&f->down) ? POLLIN : 0) | (has_bytes(&f->up) ? POLLOUT : 0));
	/* A hang-up is told whether asked for or not. Of the socket it counts only when all was read from it.
	 */
	bool socket_counts = socket_events || f->down.ended;
	struct pollfd fds[] = {
		{.fd = has_room(&f->up) ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = socket_counts ? f->socket_fd : -1, .events = socket_events},
		{.fd = f->down.ended ? -1 : STDOUT_FILENO, .events = has_bytes(&f->down) ? POLLOUT : 0},
	};

	if (poll(fds, ARRAY_LEN(fds), -1) < 0)
		return errno == EINTR;
	if (fds[0].revents)
		fill(&f->up, STDIN_FILENO);
	if (has_bytes(&f->up) && (fds[1].revents & (POLLOUT | POLLERR | POLLHUP)) &&
		!drain(&f->up, f->socket_fd)) {
		/* The server takes no more, but what it has said may still be there. */
		f->up.begin = f->up.end = 0;
		f->up.read_ended = true;
	}
	if (has_room(&f->down) && (fds[1].revents & (POLLIN | POLLERR | POLLHUP)))
		fill(&f->down, f->socket_fd);
	if (fds[2].revents & POLLOUT)
		f->reader_gone = !drain(&f->down, STDOUT_FILENO);
	else if (fds[2].revents)
		f->reader_gone = true;
	if (f->down.ended && (fds[1].revents & (POLLERR | POLLHUP)))
		return false;
	end_directions(f);
	return !f->reader_gone && !(f->up.ended && f->down.ended);
}

int ctl_command_fd_forward(int argc, char **argv)
{
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	_cleanup_free_ struct forward *f = NULL;
	int fd = -1;

	if (argc != 1) {
		fputs("Provide a single argument\n", stderr);
		return 1;
	}
	if (dial(argv[0], &fd, &error) < 0) {
		fprintf(stderr, "Failed dialing remote address: %s\n", buf_text(&error));
		return 0; /* as 1.0 has it */
	}
	(void)signal(SIGPIPE, SIG_IGN);
	f = mem_new(struct forward);
	f->socket_fd = fd;
	while (turn(f))
		;
	close(fd);
	return 0;
}
