/* Output of a unit's processes: one socket pair per started command, read by the loop. The kernel stamps each
 * piece with the process that wrote it, so that a line is logged with its real writer as journald does.
 * Report pipes of starting processes are read here too. */
#include "base/memory.h"
#include "manager/keeper.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#define DRAIN_BYTES_MAX (4u * 1024 * 1024)
#define READ_BYTES_MAX (256u * 1024) /* per turn, so that one unit does not starve the others */

struct stream {
	struct list entry; /* in service->streams */
	struct service *service;
	uv_poll_t poll;
	int fd;
	bool report, failed;
	pid_t pid; /* last writer, or the process that reports */
	uid_t uid;
	gid_t gid;
	char invocation[KEEPER_ID_SIZE]; /* of the run that it belongs to */
	char *identifier;
	struct buf line;
};

static void stream_closed(uv_handle_t *handle)
{
	struct stream *stream = handle->data;

	close(stream->fd);
	buf_done(&stream->line);
	free(stream->identifier);
	free(stream);
}

static void stream_close(struct stream *stream)
{
	list_remove(&stream->entry);
	(void)uv_poll_stop(&stream->poll);
	uv_close((uv_handle_t *)&stream->poll, stream_closed);
}

static void stream_log(struct stream *stream, int priority, struct slice text)
{
	struct log_source source = {.identifier = stream->identifier,
		.invocation = stream->invocation,
		.pid = stream->pid,
		.uid = stream->uid,
		.gid = stream->gid,
		.priority = priority,
		.driver = stream->report};

	keeper_log(stream->service, &source, text);
}

/* A line may begin with "<3>" for its priority (sd-daemon(3)). */
static int take_priority(struct slice *line)
{
	int priority = LOG_INFO;

	if (line->len >= 3 && line->data[0] == '<' && line->data[1] >= '0' && line->data[1] <= '7' &&
		line->data[2] == '>') {
		priority = line->data[1] - '0';
		*line = slice_make(line->data + 3, line->len - 3);
	}
	return priority;
}

static void stream_line(struct stream *stream, struct slice line)
{
	if (!stream->report) {
		int priority = take_priority(&line);

		stream_log(stream, priority, line);
		return;
	}
	if (line.len && line.data[0] == 'E')
		stream->failed = true;
	if (line.len > 1)
		stream_log(stream, line.data[0] == 'E' ? LOG_ERR : LOG_WARNING,
			slice_make(line.data + 1, line.len - 1));
}

static void stream_flush(struct stream *stream)
{
	if (stream->line.len)
		stream_line(stream, buf_slice(&stream->line));
	buf_clear(&stream->line);
}

static void stream_data(struct stream *stream, const char *data, size_t len)
{
	while (len) {
		const char *newline = memchr(data, '\n', len);
		size_t part = newline ? (size_t)(newline - data) : len;
		size_t room = JOURNAL_MESSAGE_MAX - stream->line.len;

		buf_add(&stream->line, data, MIN(part, room));
		if (part > room) {
			stream_flush(stream); /* a line without end is cut */
			data += room;
			len -= room;
			continue;
		}
		data += part;
		len -= part;
		if (!newline)
			return;
		if (stream->line.len || !stream->report)
			stream_line(stream, buf_slice(&stream->line));
		buf_clear(&stream->line);
		data++;
		len--;
	}
}

/* Who wrote it; pid 0: nobody knows. */
static struct ucred message_writer(struct msghdr *message)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
		struct ucred credentials;

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_CREDENTIALS)
			continue;
		memcpy(&credentials, CMSG_DATA(part), sizeof(credentials));
		return credentials;
	}
	return (struct ucred){0};
}

/* Answers the bytes read, 0 at the end, -EAGAIN when there is nothing now. */
static ssize_t stream_read(struct stream *stream)
{
	char data[16384];
	union {
		/* No room for more: descriptors that are sent along are dropped by the kernel. */
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec vector = {data, sizeof(data)};
	struct msghdr message = {.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t len;

	do {
		len = stream->report ? read(stream->fd, data, sizeof(data))
				     : recvmsg(stream->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (len < 0 && errno == EINTR);
	if (len < 0)
		return errno == EAGAIN ? -EAGAIN : 0;
	if (len > 0 && !stream->report) {
		struct ucred writer = message_writer(&message);

		if (writer.pid && (writer.pid != stream->pid || writer.uid != stream->uid)) {
			stream_flush(stream);
			stream->pid = writer.pid;
			stream->uid = writer.uid;
			stream->gid = writer.gid;
		}
	}
	stream_data(stream, data, (size_t)len);
	return len;
}

/* Reads up to `max` bytes; true when the stream ended (and is closed). */
static bool stream_pump(struct stream *stream, size_t max)
{
	size_t total = 0;

	while (total < max) {
		ssize_t len = stream_read(stream);

		if (len == -EAGAIN)
			return false;
		if (len == 0) {
			struct service *service = stream->service;
			bool started = stream->report && !stream->failed;
			pid_t pid = stream->pid;

			stream_flush(stream);
			stream_close(stream);
			if (started)
				service_exec_done(service, pid);
			return true;
		}
		total += (size_t)len;
	}
	return false;
}

static void stream_ready(uv_poll_t *poll, int status, int events)
{
	struct stream *stream = poll->data;

	(void)status;
	(void)events;
	(void)stream_pump(stream, READ_BYTES_MAX);
}

static int stream_new(struct service *service, int fd, struct stream **ret)
{
	struct stream *stream = mem_new(struct stream);
	int r;

	stream->service = service;
	stream->fd = fd;
	stream->uid = geteuid();
	stream->gid = getegid();
	memcpy(stream->invocation, service->invocation, sizeof(stream->invocation));
	stream->line = BUF_INIT(JOURNAL_MESSAGE_MAX);
	r = uv_poll_init(&service->keeper->loop, &stream->poll, fd);
	if (r < 0) {
		free(stream);
		return r;
	}
	stream->poll.data = stream;
	list_push_back(&service->streams, &stream->entry);
	(void)uv_poll_start(&stream->poll, UV_READABLE, stream_ready);
	*ret = stream;
	return 0;
}

int stream_open(struct service *service, const char *identifier, int *ret_child_fd)
{
	struct stream *stream;
	int fds[2], one = 1, r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	(void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
	r = setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ? -errno : 0;
	if (r == 0)
		r = stream_new(service, fds[0], &stream);
	if (r < 0) {
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	(void)shutdown(fds[1], SHUT_RD);
	stream->identifier = mem_strdup(identifier);
	*ret_child_fd = fds[1];
	return 0;
}

int stream_open_report(struct service *service, pid_t pid, int fd)
{
	const struct unit_command *command;
	struct stream *stream;
	const char *slash;
	int r = stream_new(service, fd, &stream);

	if (r < 0)
		return r;
	stream->report = true;
	stream->pid = pid;
	/* Until execve() a process is named after what it will become, in brackets, as systemd does. */
	command =
		service->main_exec.pid == pid && service->main_index < service->config.exec[EXEC_START].count
			? &service->config.exec[EXEC_START].items[service->main_index]
			: &service->config.exec[service->control_kind].items[service->control_index];
	slash = strrchr(command->words[0], '/');
	stream->identifier = mem_printf("(%s)", slash ? slash + 1 : command->words[0]);
	return 0;
}

void streams_drain(struct service *service)
{
	list_for_each_safe (it, &service->streams)
		(void)stream_pump(list_item(it, struct stream, entry), DRAIN_BYTES_MAX);
}

void streams_close(struct service *service)
{
	list_for_each_safe (it, &service->streams) {
		struct stream *stream = list_item(it, struct stream, entry);

		stream_flush(stream);
		stream_close(stream);
	}
}
