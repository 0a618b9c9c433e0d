/* One datagram per message to the socket that the service manager named. */
#include "io/notify.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/memory.h"

int notify_send(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;
	size_t len = path ? strlen(path) : 0;
	ssize_t sent;

	if (!len)
		return 0;
	if (path[0] != '/' && path[0] != '@')
		return -EAFNOSUPPORT;
	if (len >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, len);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* the abstract name space */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	do
		sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 1;
}

static bool is_for_this_process(const char *name)
{
	const char *text = getenv(name);
	uint64_t pid;

	return text && text_to_u64(slice_str(text), &pid) >= 0 && pid == (uint64_t)getpid();
}

uint64_t notify_watchdog_ms(void)
{
	const char *text = getenv("WATCHDOG_USEC");
	uint64_t usec;

	if (!text || text_to_u64(slice_str(text), &usec) < 0)
		return 0;
	if (getenv("WATCHDOG_PID") && !is_for_this_process("WATCHDOG_PID"))
		return 0;
	return usec / 1000;
}

int notify_listen_fds(void)
{
	const char *text = getenv("LISTEN_FDS");
	uint64_t count = 0;

	if (!text || !is_for_this_process("LISTEN_PID") || text_to_u64(slice_str(text), &count) < 0 ||
		count > 1024)
		count = 0;
	for (uint64_t i = 0; i < count; i++) {
		int fd = NOTIFY_LISTEN_FDS_START + (int)i;
		int flags = fcntl(fd, F_GETFD);

		if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
			count = i; /* fewer are open than were announced */
			break;
		}
	}
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDNAMES");
	return (int)count;
}
