/* fanout --port P | --bare  [--watchers N] [--bytes B]: N clients that wait for one key of an etcd v2 server,
 * and how long a change takes to reach the last of them. --bare measures the limit: a process of its own that
 * writes B bytes to N sockets in a loop when it is told to; the receiving half is the same code.
 *
 * Prints {"ready":N} once all wait. Then each line on the standard input is a round: a change is made and one
 * JSON line is printed when all were told (time from the request to the last one told, bytes that each of
 * them got); before the next round all wait again. Ends with its input. Shares no code with the project. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, READ_BYTES = 65536, VALUE_BYTES = 256, TAIL_BYTES = 5 };

struct watcher {
	int fd;
	char tail[TAIL_BYTES]; /* the last bytes that came */
	size_t bytes;	       /* since the phase began */
	bool done;	       /* in this phase */
};

static struct {
	int port, watchers, epoll, trigger;
	size_t bytes;
	bool bare;
	struct watcher *all;
	int put; /* the connection that writes */
} fan = {.watchers = 10000, .bytes = 420};

static void die(const char *what)
{
	fprintf(stderr, "fanout: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static struct sockaddr_in address_of(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int connect_to(int port)
{
	struct sockaddr_in address = address_of(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void send_all(int fd, const char *text, size_t len)
{
	if (send(fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
}

/* The bare loop: told by a byte on the pipe, it writes to all. */
static void run_writer(int listener, int from)
{
	int *fds = calloc((size_t)fan.watchers, sizeof(*fds)), one = 1;
	char *payload = malloc(fan.bytes), byte;

	if (!fds || !payload)
		die("malloc");
	memset(payload, 'x', fan.bytes);
	for (int i = 0; i < fan.watchers; i++) {
		fds[i] = accept(listener, NULL, NULL);
		if (fds[i] < 0)
			die("accept");
		(void)setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	while (read(from, &byte, 1) == 1)
		for (int i = 0; i < fan.watchers; i++)
			send_all(fds[i], payload, fan.bytes);
	_exit(0);
}

static void start_writer(void)
{
	struct sockaddr_in address = address_of(0);
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), pipes[2];

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(listener, 4096) < 0 || getsockname(listener, (struct sockaddr *)&address, &len) < 0 ||
		pipe(pipes) < 0)
		die("listen");
	fan.port = ntohs(address.sin_port);
	switch (fork()) {
	case -1:
		die("fork");
		break;
	case 0:
		(void)close(pipes[1]);
		run_writer(listener, pipes[0]);
		break;
	default:
		(void)close(pipes[0]);
		(void)close(listener);
		fan.trigger = pipes[1];
	}
}

static void open_all(void)
{
	fan.all = calloc((size_t)fan.watchers, sizeof(*fan.all));
	fan.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!fan.all || fan.epoll < 0)
		die("epoll");
	for (int i = 0; i < fan.watchers; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &fan.all[i]};

		fan.all[i].fd = connect_to(fan.port);
		if (epoll_ctl(fan.epoll, EPOLL_CTL_ADD, fan.all[i].fd, &event) < 0)
			die("epoll_ctl");
	}
	if (!fan.bare)
		fan.put = connect_to(fan.port);
}

/* Reads what is there; true when the watcher's bytes end with `end` (or, without one, are as many as the loop
 * writes).
 */
static bool watcher_reads(struct watcher *watcher, const char *end)
{
	static char bytes[READ_BYTES];
	ssize_t got = recv(watcher->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	size_t len = (size_t)got, keep;

	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0)
		die("a watcher was cut off");
	watcher->bytes += len;
	if (!end)
		return watcher->bytes >= fan.bytes;
	keep = len < TAIL_BYTES ? TAIL_BYTES - len : 0;
	memmove(watcher->tail, watcher->tail + TAIL_BYTES - keep, keep);
	memcpy(watcher->tail + keep, bytes + len - (TAIL_BYTES - keep), TAIL_BYTES - keep);
	len = strlen(end);
	return memcmp(watcher->tail + TAIL_BYTES - len, end, len) == 0;
}

/* Until each of them has got a message with this end. */
static void wait_for_all(const char *end)
{
	struct epoll_event events[EVENTS_MAX];
	int left = fan.watchers;

	for (int i = 0; i < fan.watchers; i++)
		fan.all[i].done = false, fan.all[i].bytes = 0;
	while (left > 0) {
		int count = epoll_wait(fan.epoll, events, EVENTS_MAX, 60000);

		if (count <= 0)
			die("epoll_wait (not all were told within a minute)");
		for (int i = 0; i < count; i++) {
			struct watcher *watcher = events[i].data.ptr;

			if (watcher_reads(watcher, end) && !watcher->done) {
				watcher->done = true;
				left--;
			}
		}
	}
}

static void watch_all(void)
{
	static const char get[] = "GET /v2/keys/watched?wait=true HTTP/1.1\r\nHost: bench\r\n\r\n";

	if (fan.bare)
		return;
	for (int i = 0; i < fan.watchers; i++)
		send_all(fan.all[i].fd, get, sizeof(get) - 1);
	wait_for_all("\r\n\r\n"); /* the head of the answer */
}

static void change(void)
{
	char request[1024], value[VALUE_BYTES + 1];

	if (fan.bare) {
		if (write(fan.trigger, "x", 1) != 1)
			die("write");
		return;
	}
	memset(value, 'v', VALUE_BYTES);
	value[VALUE_BYTES] = 0;
	snprintf(request, sizeof(request),
		"PUT /v2/keys/watched HTTP/1.1\r\nHost: bench\r\nContent-Type: "
		"application/x-www-form-urlencoded\r\n"
		"Content-Length: %d\r\n\r\nvalue=%s",
		VALUE_BYTES + 6, value);
	send_all(fan.put, request, strlen(request));
}

static void take_put_answer(void)
{
	char answer[4096];

	if (!fan.bare && recv(fan.put, answer, sizeof(answer), 0) <= 0)
		die("the write's answer");
}

static int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*end || end == text || value < 1 || value > 60000) {
		fprintf(stderr, "fanout: %s is no number from 1 to 60000\n", text);
		exit(2);
	}
	return (int)value;
}

static void parse(int argc, char **argv)
{
	static const struct option rows[] = {{"port", required_argument, NULL, 'p'},
		{"watchers", required_argument, NULL, 'w'}, {"bytes", required_argument, NULL, 'b'},
		{"bare", no_argument, NULL, 'r'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", rows, NULL)) != -1) {
		if (option == 'p')
			fan.port = number(optarg);
		else if (option == 'w')
			fan.watchers = number(optarg);
		else if (option == 'b')
			fan.bytes = (size_t)number(optarg);
		else if (option == 'r')
			fan.bare = true;
		else
			exit(2);
	}
	if (fan.bare == (fan.port > 0)) {
		fprintf(stderr, "fanout: either --port or --bare\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	char line[64];

	parse(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (fan.bare)
		start_writer();
	open_all();
	watch_all();
	printf("{\"ready\":%d}\n", fan.watchers);
	(void)fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		double begun = now_ms(), told;

		change();
		wait_for_all(fan.bare ? NULL : "0\r\n\r\n");
		told = now_ms();
		take_put_answer();
		printf("{\"ms\":%.3f,\"bytes\":%zu}\n", told - begun, fan.all[0].bytes);
		(void)fflush(stdout);
		watch_all();
	}
	return 0;
}
