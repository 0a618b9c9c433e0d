/* A scripted HTTP server on a thread: each step takes one request on a new connection, keeps its text, and
 * answers with fixed bytes. Every answer closes its connection, so that steps and requests stay in step. */
#pragma once
#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FAKE_STEPS_MAX = 16 };
enum fake_then { FAKE_CLOSE, FAKE_HANG };

struct fake_step {
	const char *answer; /* bytes; NULL: none */
	enum fake_then then;
};

struct fake_server {
	int fd;
	char url[64];
	pthread_t thread;
	pthread_mutex_t lock;
	const struct fake_step *steps;
	size_t step_count;
	char *requests[FAKE_STEPS_MAX]; /* guarded by lock */
	size_t request_count;
	int hanging[FAKE_STEPS_MAX];
	size_t hanging_count;
};

/* Reads a head and the body that its Content-Length announces. */
static inline char *fake_read_request(int fd)
{
	size_t cap = 64 << 10, len = 0, want = 0;
	char *text = calloc(1, cap + 1);

	while (len < cap) {
		ssize_t got = read(fd, text + len, cap - len);
		if (got <= 0)
			break;
		len += (size_t)got;
		text[len] = 0;
		char *end = strstr(text, "\r\n\r\n");
		if (!end)
			continue;
		char *length = strcasestr(text, "\r\ncontent-length:");
		want = (size_t)(end + 4 - text) + (length ? strtoul(length + 17, NULL, 10) : 0);
		if (len >= want)
			break;
	}
	return text;
}

static inline void *fake_run(void *user)
{
	struct fake_server *server = user;

	for (size_t i = 0; i < server->step_count; i++) {
		int fd = accept(server->fd, NULL, NULL);
		if (fd < 0)
			return NULL;
		char *text = fake_read_request(fd);
		pthread_mutex_lock(&server->lock);
		server->requests[server->request_count++] = text;
		pthread_mutex_unlock(&server->lock);
		if (server->steps[i].answer) {
			ssize_t sent = send(
				fd, server->steps[i].answer, strlen(server->steps[i].answer), MSG_NOSIGNAL);
			(void)sent;
		}
		if (server->steps[i].then == FAKE_HANG)
			server->hanging[server->hanging_count++] = fd;
		else
			close(fd);
	}
	return NULL;
}

static inline void fake_start(struct fake_server *server, const struct fake_step *steps, size_t step_count)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	assert(step_count <= FAKE_STEPS_MAX);
	*server = (struct fake_server){.steps = steps, .step_count = step_count};
	pthread_mutex_init(&server->lock, NULL);
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = bind(server->fd, (struct sockaddr *)&address, len);
	assert(r == 0);
	r = listen(server->fd, 16);
	assert(r == 0);
	r = getsockname(server->fd, (struct sockaddr *)&address, &len);
	assert(r == 0);
	snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d", ntohs(address.sin_port));
	r = pthread_create(&server->thread, NULL, fake_run, server);
	assert(r == 0);
}

static inline size_t fake_count(struct fake_server *server)
{
	pthread_mutex_lock(&server->lock);
	size_t count = server->request_count;
	pthread_mutex_unlock(&server->lock);
	return count;
}

static inline void fake_stop(struct fake_server *server)
{
	shutdown(server->fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->fd);
	for (size_t i = 0; i < server->hanging_count; i++)
		close(server->hanging[i]);
	for (size_t i = 0; i < server->request_count; i++)
		free(server->requests[i]);
	pthread_mutex_destroy(&server->lock);
}

/* An address that nothing listens on. */
static inline void fake_dead_url(char *url, size_t size)
{
	struct fake_server server;

	fake_start(&server, NULL, 0);
	snprintf(url, size, "%s", server.url);
	fake_stop(&server);
}
