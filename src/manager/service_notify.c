/* The notification socket, sd_notify(3): one datagram socket per unit that may speak, in the abstract
 * namespace, so that it needs no path and every user may reach it. Who speaks is known by the kernel's word
 * (SCM_CREDENTIALS) and must be one of the unit's own processes, as NotifyAccess= says. Descriptors that come
 * along are closed: that answers BARRIER=1, and nothing is kept for FDSTORE=1. */
#include "base/memory.h"
#include "base/rng.h"
#include "base/text.h"
#include "base/time.h"
#include "manager/service_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_MAX 4096     /* bytes of a message */
#define MESSAGES_PER_TURN 64 /* so that a chatterer does not starve the others */
#define DESCRIPTORS_MAX 253  /* what the kernel lets a message carry */
#define STATUS_MAX 1024
#define REFUSALS_MAX 10 /* told; anybody may send, and shall not fill the unit's log */

struct notify {
	struct service *service;
	uv_poll_t poll;
	int fd;
	char address[64];  /* "@…" */
	unsigned refusals; /* told in this run */
};

struct message {
	pid_t pid; /* 0: not in this PID namespace */
	uid_t uid;
	struct slice text;
};

static bool word(struct slice text, const char *assignment)
{
	struct slice line;

	while (text.len) {
		(void)text_cut(text, '\n', &line, &text);
		if (slice_is(line, assignment))
			return true;
	}
	return false;
}

/* The value of the last NAME=; false when there is none. */
static bool value(struct slice text, const char *name, struct slice *ret)
{
	bool found = false;
	struct slice line, key, rest;

	while (text.len) {
		(void)text_cut(text, '\n', &line, &text);
		if (text_cut(line, '=', &key, &rest) && slice_is(key, name)) {
			*ret = rest;
			found = true;
		}
	}
	return found;
}

static bool may_speak(struct service *service, const struct message *message)
{
	enum notify_access access = service->config.notify_access;
	bool is_main = service->main_pid && message->pid == service->main_pid;
	bool is_control = service->control_pid && message->pid == service->control_pid;

	if (is_main || (access >= NOTIFY_EXEC && is_control))
		return true;
	if (access == NOTIFY_ALL && service_owns(service, message->pid))
		return true;
	if (service->notify->refusals++ >= REFUSALS_MAX)
		return false;
	service_say(service, "%s: Got notification message from PID %d, but reception only permitted for %s",
		service->name, (int)message->pid,
		access == NOTIFY_ALL	? "the unit's own processes"
		: access == NOTIFY_EXEC ? "main and control processes"
					: "the main process");
	return false;
}

static void take_main_pid(struct service *service, const struct message *message)
{
	struct slice text;
	uint64_t pid, started;
	pid_t parent;

	if (!value(message->text, "MAINPID", &text) || service->state < STATE_START ||
		service->state > STATE_RELOAD)
		return;
	if (text_to_u64(text, &pid) < 0 || pid <= 1 || pid > INT32_MAX || (pid_t)pid == getpid() ||
		!process_read((pid_t)pid, &parent, &started)) {
		service_say(service, "%s: Failed to parse MAINPID= field in notification message, ignoring.",
			service->name);
		return;
	}
	if (service_why_not_main(service, (pid_t)pid)) {
		service_say(service, "%s: New main PID %d %s, refusing.", service->name, (int)pid,
			service_why_not_main(service, (pid_t)pid));
		return;
	}
	if (!service_owns(service, (pid_t)pid)) {
		if (message->uid != 0) {
			service_say(service, "%s: New main PID %d does not belong to service, refusing.",
				service->name, (int)pid);
			return;
		}
		service_say(service,
			"%s: New main PID %d does not belong to service, but we'll accept it as the request "
			"to change it came from a privileged process.",
			service->name, (int)pid);
	}
	service_set_main(service, (pid_t)pid);
}

static void take_states(struct service *service, const struct message *message)
{
	bool notifies =
		service->config.type == SERVICE_NOTIFY || service->config.type == SERVICE_NOTIFY_RELOAD;

	if (word(message->text, "STOPPING=1")) {
		service->notify_state = NOTIFY_STATE_STOPPING;
		if (service->state == STATE_RUNNING)
			service_enter_stop_by_notify(service);
	}
	if (word(message->text, "READY=1")) {
		service->notify_state = NOTIFY_STATE_READY;
		if (notifies && service->state == STATE_START)
			service_enter_start_post(service);
		else if (service->state == STATE_RELOAD && !service->control_pid)
			service_reload_finished(service);
	}
	if (word(message->text, "RELOADING=1")) {
		service->notify_state = NOTIFY_STATE_RELOADING;
		if (service->state == STATE_RUNNING)
			service_enter_reload_by_notify(service);
	}
}

static void take_texts(struct service *service, const struct message *message)
{
	struct slice text;
	uint64_t number;

	if (value(message->text, "STATUS", &text)) {
		struct slice rest = text;

		while (rest.len) {
			uint32_t code;
			size_t len = text_utf8_decode(rest, &code);

			if (!len)
				break;
			rest = slice_make(rest.data + len, rest.len - len);
		}
		if (rest.len || text.len > STATUS_MAX) {
			service_say(service,
				"%s: Got STATUS= in notification that cannot be shown, ignoring.",
				service->name);
		} else {
			free(service->notify_text);
			service->notify_text = text.len ? mem_strndup(text.data, text.len) : NULL;
		}
	}
	if (value(message->text, "ERRNO", &text) && text_to_u64(text, &number) == 0 && number < 4096)
		service->notify_errno = (int)number;
}

/* Microseconds; false when there is no such value, or one out of range. */
static bool span(const struct message *message, const char *name, int64_t *ret_ns)
{
	struct slice text;
	uint64_t us;

	if (!value(message->text, name, &text) || text_to_u64(text, &us) < 0 || us > INT64_MAX / 1000)
		return false;
	*ret_ns = (int64_t)us * 1000;
	return true;
}

static bool watchdog_counts(const struct service *service)
{
	return service->state == STATE_START_POST || service->state == STATE_RUNNING ||
	       service->state == STATE_RELOAD;
}

void service_watchdog_begin(struct service *service)
{
	if (!service->watchdog_ns)
		(void)uv_timer_stop(&service->watchdog);
	else
		(void)uv_timer_start(&service->watchdog, service_watchdog_fired,
			(uint64_t)(service->watchdog_ns / NS_PER_MS +
				   (service->watchdog_ns % NS_PER_MS != 0)),
			0);
}

static void watchdog_ended(struct service *service)
{
	service_enter_signal(service, STATE_STOP_WATCHDOG, RESULT_WATCHDOG);
}

void service_watchdog_fired(uv_timer_t *timer)
{
	struct service *service = timer->data;

	notify_drain(service); /* the keeper may be late, not the service */
	if (uv_is_active((uv_handle_t *)timer) || !watchdog_counts(service))
		return;
	service_say(service, "%s: Watchdog timeout (limit %lldms)!", service->name,
		(long long)(service->watchdog_ns / NS_PER_MS));
	watchdog_ended(service);
}

static void take_times(struct service *service, const struct message *message)
{
	int64_t ns;

	if (span(message, "EXTEND_TIMEOUT_USEC", &ns)) {
		service_extend(service, ns);
		if (uv_is_active((uv_handle_t *)&service->watchdog) &&
			(int64_t)uv_timer_get_due_in(&service->watchdog) < ns / NS_PER_MS)
			(void)uv_timer_start(
				&service->watchdog, service_watchdog_fired, (uint64_t)(ns / NS_PER_MS), 0);
	}
	if (span(message, "WATCHDOG_USEC", &ns)) {
		service->watchdog_ns = ns;
		if (watchdog_counts(service))
			service_watchdog_begin(service);
	}
	if (!watchdog_counts(service))
		return;
	if (word(message->text, "WATCHDOG=1")) {
		service_watchdog_begin(service);
	} else if (word(message->text, "WATCHDOG=trigger")) {
		service_say(service, "%s: Watchdog request!", service->name);
		watchdog_ended(service);
	}
}

static void take_message(struct service *service, const struct message *message)
{
	if (!may_speak(service, message))
		return;
	take_main_pid(service, message);
	take_texts(service, message);
	take_states(service, message);
	take_times(service, message);
	service->dirty = true;
}

/* Finds who sent it; closes the descriptors that came with it, which are taken only once the message has been
 * worked on: whoever waits for that (BARRIER=1) sees them go. */
static void read_control(struct msghdr *header, struct message *ret, int *ret_fds, size_t *ret_fd_count)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
		struct ucred credentials;

		if (part->cmsg_level != SOL_SOCKET)
			continue;
		if (part->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&credentials, CMSG_DATA(part), sizeof(credentials));
			ret->pid = credentials.pid;
			ret->uid = credentials.uid;
		} else if (part->cmsg_type == SCM_RIGHTS) {
			size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; i < count && *ret_fd_count < DESCRIPTORS_MAX; i++)
				memcpy(&ret_fds[(*ret_fd_count)++], CMSG_DATA(part) + i * sizeof(int),
					sizeof(int));
		}
	}
}

/* True when there may be more. */
static bool read_message(struct service *service, int fd)
{
	char data[MESSAGE_MAX];
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec vector = {data, sizeof(data)};
	struct msghdr header = {.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct message message = {.uid = (uid_t)-1};
	int fds[DESCRIPTORS_MAX];
	size_t fd_count = 0;
	ssize_t len = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (len < 0)
		return errno == EINTR;
	read_control(&header, &message, fds, &fd_count);
	while (len > 0 && !data[len - 1])
		len--; /* some send the end of their text along */
	message.text = slice_make(data, (size_t)len);
	if ((header.msg_flags & MSG_TRUNC) || memchr(data, 0, (size_t)len)) {
		/* From anybody: not more often than other refusals. */
		if (service->notify->refusals++ < REFUSALS_MAX)
			service_say(service, "%s: Got an unreadable notification message, ignoring.",
				service->name);
	} else if (message.pid > 0) {
		take_message(service, &message);
	}
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	return true;
}

void notify_drain(struct service *service)
{
	/* A message may end the unit, and with it the socket. */
	for (int i = 0; i < MESSAGES_PER_TURN && service->notify; i++)
		if (!read_message(service, service->notify->fd))
			return;
}

static void notify_ready(uv_poll_t *poll, int status, int events)
{
	struct notify *notify = poll->data;

	(void)status;
	(void)events;
	tracker_turn(&notify->service->keeper->tracker);
	notify_drain(notify->service);
}

static int bind_socket(struct notify *notify)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint8_t random[16];
	int one = 1;
	size_t len;

	rng_system(random, sizeof(random));
	len = (size_t)snprintf(notify->address, sizeof(notify->address), "@flotilla/notify/");
	for (size_t i = 0; i < sizeof(random); i++)
		len += (size_t)snprintf(
			notify->address + len, sizeof(notify->address) - len, "%02x", random[i]);
	memcpy(address.sun_path + 1, notify->address + 1, len - 1);
	notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (notify->fd < 0)
		return -errno;
	if (setsockopt(notify->fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ||
		bind(notify->fd, (struct sockaddr *)&address,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
		int error = errno;

		close(notify->fd);
		return -error;
	}
	return 0;
}

const char *notify_open(struct service *service)
{
	struct notify *notify;

	if (service->notify)
		return service->notify->address;
	notify = mem_new(struct notify);
	notify->service = service;
	if (bind_socket(notify) < 0 || uv_poll_init(&service->keeper->loop, &notify->poll, notify->fd) < 0) {
		free(notify);
		return NULL;
	}
	notify->poll.data = notify;
	(void)uv_poll_start(&notify->poll, UV_READABLE, notify_ready);
	service->notify = notify;
	return notify->address;
}

static void poll_closed(uv_handle_t *handle)
{
	struct notify *notify = handle->data;

	close(notify->fd);
	free(notify);
}

void notify_close(struct service *service)
{
	struct notify *notify = service->notify;

	if (!notify)
		return;
	service->notify = NULL;
	(void)uv_poll_stop(&notify->poll);
	uv_close((uv_handle_t *)&notify->poll, poll_closed);
}
