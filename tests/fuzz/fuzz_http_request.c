/* Bytes of a client against the whole server over a Unix socket: the first byte says in which pieces they are
 * sent. The handler also takes apart what a server of ours would: path, query and form. Every connection must
 * come to its end, and everything that is sent back must begin as an HTTP answer. */
#include "base/memory.h"
#include "io/http_server.h"
#include "io/url.h"
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	uv_loop_t loop;
	struct http_server *server;
	struct sockaddr_un address;
	unsigned int requests, answered;
} world;

static void on_request(struct http_request *req, void *user)
{
	_cleanup_buf_ struct buf path = BUF_INIT(0), clean = BUF_INIT(0), why = BUF_INIT(0);
	struct url_form form = {0};

	(void)user;
	world.requests++;
	assert(req->path.len > 0 && req->method.len > 0);
	assert(http_is_token(req->method));
	for (size_t i = 0; i < req->header_count; i++)
		assert(http_is_token(req->headers[i].name) &&
			!memchr(req->headers[i].value.data, '\n', req->headers[i].value.len));
	assert(url_unescape(&path, req->path, URL_PART_PATH, &why) == 0);
	url_clean_path(&clean, buf_slice(&path));
	assert(clean.len > 0 && clean.data[0] == '/' && !strstr(clean.data, "//"));
	if (url_form_parse(&req->arena, &form, req->body, &why) < 0)
		assert(why.len > 0);
	if (url_form_parse(&req->arena, &form, req->query, NULL) == 0 && form.count)
		(void)url_form_get(&form, "value");
	world.answered++;
	if (path.len > 4) {
		http_reply_begin(req, 200, NULL, 0);
		(void)http_reply_piece(req, buf_slice(&clean));
		http_reply_end(req);
	} else {
		http_reply(req, path.len == 4 ? 204 : 200, NULL, 0, req->body);
	}
}

static void remove_socket(void)
{
	char *slash = strrchr(world.address.sun_path, '/');

	(void)unlink(world.address.sun_path);
	*slash = '\0';
	(void)rmdir(world.address.sun_path);
}

static void open_world(void)
{
	static const struct http_server_options options = {
		.on_request = on_request, .max_body_bytes = 64 * 1024, .max_head_bytes = 16 * 1024};
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	char dir[] = "/tmp/flotilla-fuzz-XXXXXX";

	if (!mkdtemp(dir))
		abort();
	uv_loop_init(&world.loop);
	world.server = http_server_new(&world.loop, &options);
	world.address.sun_family = AF_UNIX;
	(void)snprintf(world.address.sun_path, sizeof(world.address.sun_path), "%s/s", dir);
	if (http_server_listen_unix(world.server, world.address.sun_path, 0600, &why) < 0)
		abort();
	atexit(remove_socket);
}

static bool receive(int fd, char *start, size_t *start_len)
{
	char bytes[65536];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0 && *start_len < 7) {
		size_t len = MIN((size_t)n, 7 - *start_len);

		memcpy(start + *start_len, bytes, len);
		*start_len += len;
	}
	return n > 0 || (n < 0 && errno == EAGAIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char start[8] = "";
	size_t start_len = 0, step;
	bool open = true;
	int fd;

	if (!size || size > 100000)
		return 0;
	if (!world.server)
		open_world();
	step = data[0] ? (size_t)data[0] * data[0] : size;
	step = MAX(step, size / 200 + 1);
	world.requests = world.answered = 0;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&world.address, sizeof(world.address)) < 0)
		abort();
	for (size_t at = 1; at < size && open;) {
		ssize_t n = send(fd, data + at, MIN(step, size - at), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			at += (size_t)n;
		else if (errno != EAGAIN)
			break;
		uv_run(&world.loop, UV_RUN_NOWAIT);
		open = receive(fd, start, &start_len);
	}
	shutdown(fd, SHUT_WR);
	for (int turns = 0; open; turns++) {
		assert(turns < 10000);
		uv_run(&world.loop, UV_RUN_NOWAIT);
		open = receive(fd, start, &start_len);
	}
	close(fd);
	assert(!start_len || strncmp(start, "HTTP/1.", start_len) == 0);
	assert(!world.answered || start_len);
	uv_run(&world.loop, UV_RUN_NOWAIT);
	return 0;
}
