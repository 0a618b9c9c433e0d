/* Listeners, the server's own handles, and its end. The prepare and check handles send what was answered
 * outside of the read callbacks: check runs right after the loop has polled, prepare right before it polls.
 * Handles of other rooms may come later in the same phase; therefore an idle handle is started with the first
 * such answer, which keeps the loop from sleeping, and stopped when all is sent. */
#include "io/http_server_internal.h"
#include "base/text.h"
#include "io/sigpipe.h"
#include "io/url.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SWEEP_MS = 1000, SWEEP_MIN_MS = 20 };

static void on_idle(uv_idle_t *idle)
{
	(void)idle;
}

void server_wake(struct http_server *server)
{
	if (!server->closing)
		(void)uv_idle_start(&server->idle, on_idle);
}

static void process_dirty(struct http_server *server)
{
	struct list now = LIST_INIT(now);

	if (list_empty(&server->dirty))
		return;
	/* What becomes dirty meanwhile is left for the next phase, so that this ends. */
	list_splice_back(&now, &server->dirty);
	while (!list_empty(&now))
		conn_next_turn(list_first(&now, struct conn, dirty_link));
	if (list_empty(&server->dirty) && !server->closing)
		(void)uv_idle_stop(&server->idle);
	else
		server_wake(server);
}

static void on_prepare(uv_prepare_t *prepare)
{
	process_dirty(container_of(prepare, struct http_server, prepare));
}

static void on_check(uv_check_t *check)
{
	process_dirty(container_of(check, struct http_server, check));
}

static void on_sweep(uv_timer_t *timer)
{
	struct http_server *server = container_of(timer, struct http_server, sweep);
	uint64_t now_ms = uv_now(server->loop);

	list_for_each_safe (it, &server->conns)
		conn_sweep(list_item(it, struct conn, link), now_ms);
	list_for_each (it, &server->listeners) {
		/* Newcomers are not told of again until this one has its place. */
		if (list_item(it, struct listener, link)->waiting)
			limits_make_room(server);
	}
	limits_check_files(server);
	if (list_empty(&server->conns) && !server->closing)
		(void)uv_timer_stop(&server->sweep);
}

static void start_sweep(struct http_server *server)
{
	const struct http_server_options *options = &server->options;
	uint64_t step_ms = MIN(options->head_timeout_ms, options->body_timeout_ms);

	step_ms = MIN(step_ms, (uint64_t)options->idle_timeout_ms);
	step_ms = MIN(step_ms, (uint64_t)options->write_timeout_ms);
	step_ms = MIN(MAX(step_ms / 4, (uint64_t)SWEEP_MIN_MS), (uint64_t)SWEEP_MS);
	if (!uv_is_active((uv_handle_t *)&server->sweep))
		(void)uv_timer_start(&server->sweep, on_sweep, step_ms, step_ms);
}

struct http_server *http_server_new(uv_loop_t *loop, const struct http_server_options *options)
{
	struct http_server *server = mem_new(struct http_server);
	struct http_server_options *set = &server->options;

	assert(options->on_request);
	ignore_sigpipe();
	http_parser_set_max_header_size(UINT32_MAX / 2); /* each server has its own ceiling */
	server->loop = loop;
	*set = *options;
	set->max_head_bytes = set->max_head_bytes ? set->max_head_bytes : 1024 * 1024;
	set->max_body_bytes = set->max_body_bytes ? set->max_body_bytes : 10 * 1024 * 1024 + 1024;
	set->max_queue_bytes = set->max_queue_bytes ? set->max_queue_bytes : 4 * 1024 * 1024;
	set->max_connections = set->max_connections ? set->max_connections : limits_connections();
	set->max_held_bytes = set->max_held_bytes ? set->max_held_bytes : 256 * 1024 * 1024;
	set->head_timeout_ms = set->head_timeout_ms ? set->head_timeout_ms : 30 * 1000;
	set->body_timeout_ms = set->body_timeout_ms ? set->body_timeout_ms : 60 * 1000;
	set->idle_timeout_ms = set->idle_timeout_ms ? set->idle_timeout_ms : 300 * 1000;
	set->write_timeout_ms = set->write_timeout_ms ? set->write_timeout_ms : 60 * 1000;
	server->date_at_s = -1;
	list_init(&server->listeners);
	list_init(&server->conns);
	list_init(&server->dirty);
	list_init(&server->holders);
	list_init(&server->pending_holders);
	list_init(&server->requests);
	list_init(&server->free_requests);
	server->read_buf = mem_alloc(READ_BUF_BYTES);
	server->plain = BUF_INIT(4 * READ_BUF_BYTES);
	(void)uv_prepare_init(loop, &server->prepare);
	(void)uv_check_init(loop, &server->check);
	(void)uv_idle_init(loop, &server->idle);
	(void)uv_timer_init(loop, &server->sweep);
	server->open_handles = 4;
	(void)uv_prepare_start(&server->prepare, on_prepare);
	(void)uv_check_start(&server->check, on_check);
	/* These serve the others and alone do not keep the loop alive. */
	uv_unref((uv_handle_t *)&server->prepare);
	uv_unref((uv_handle_t *)&server->check);
	uv_unref((uv_handle_t *)&server->sweep);
	return server;
}

void server_handle_closed(struct http_server *server)
{
	assert(server->open_handles > 0);
	if (--server->open_handles || !server->closing)
		return;
	list_for_each_safe (it, &server->requests) {
		/* Only references from outside are left: they outlive the server. */
		struct request *req = list_item(it, struct request, link);

		list_remove(&req->link);
		req->pub.server = NULL;
	}
	list_for_each_safe (it, &server->free_requests)
		request_free(list_item(it, struct request, link));
	if (server->on_closed)
		server->on_closed(server->on_closed_user);
	free(server->read_buf);
	buf_done(&server->plain);
	(void)tls_context_unref(server->tls);
	free(server);
}

static void on_own_closed(uv_handle_t *handle)
{
	server_handle_closed(handle->data);
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *listener = container_of(handle, struct listener, uv.handle);
	struct http_server *server = listener->server;

	free(listener->path);
	free(listener);
	server_handle_closed(server);
}

static void on_connection(uv_stream_t *stream, int status)
{
	struct listener *listener = container_of(stream, struct listener, uv.stream);
	struct http_server *server = listener->server;

	if (status < 0) {
		limits_check_files(server);
		return; /* libuv tries again; the client waits or is gone */
	}
	if (server->stats.connections >= server->options.max_connections) {
		listener->waiting = true; /* server_conn_gone() takes it */
		limits_make_room(server);
		return;
	}
	conn_accept(listener);
	start_sweep(server);
}

void server_conn_gone(struct http_server *server)
{
	server->stats.connections--;
	if (server->closing || server->draining)
		return;
	list_for_each (it, &server->listeners) {
		struct listener *listener = list_item(it, struct listener, link);

		if (listener->waiting) {
			listener->waiting = false;
			conn_accept(listener);
			start_sweep(server);
			return;
		}
	}
}

static struct listener *listener_new(struct http_server *server, bool is_pipe, bool is_tls)
{
	struct listener *listener = mem_new(struct listener);

	listener->server = server;
	listener->is_pipe = is_pipe;
	listener->is_tls = is_tls && !is_pipe;
	assert(!listener->is_tls || server->tls);
	if (is_pipe)
		(void)uv_pipe_init(server->loop, &listener->uv.pipe, 0);
	else
		(void)uv_tcp_init(server->loop, &listener->uv.tcp);
	server->open_handles++;
	list_push_back(&server->listeners, &listener->link);
	return listener;
}

static void listener_close(struct listener *listener)
{
	struct stat st;

	list_remove(&listener->link);
	/* Another process may have taken the path over meanwhile. */
	if (listener->path && lstat(listener->path, &st) == 0 && st.st_dev == listener->path_dev &&
		st.st_ino == listener->path_ino)
		(void)unlink(listener->path);
	uv_close(&listener->uv.handle, on_listener_closed);
}

static int fail_listen(struct buf *reterr, const char *where, const char *step, int error)
{
	if (reterr) {
		buf_printf(reterr, "listen %s: %s: ", where, step);
		text_add_errno(reterr, error);
	}
	return error;
}

static int listen_address(struct http_server *server, const struct sockaddr *address, bool tls,
	uint16_t *ret_port, struct buf *reterr)
{
	struct listener *listener = listener_new(server, false, tls);
	_cleanup_buf_ struct buf where = BUF_INIT(0);
	struct sockaddr_storage bound;
	int len = sizeof(bound), r;
	char name[64] = "";

	(void)uv_ip_name(address, name, sizeof(name));
	buf_add_str(&where, "tcp ");
	url_add_host_port(&where, name, ntohs(((const struct sockaddr_in *)address)->sin_port));
	r = uv_tcp_bind(&listener->uv.tcp, address, 0);
	if (r >= 0)
		r = uv_listen(&listener->uv.stream, LISTEN_BACKLOG, on_connection);
	if (r >= 0)
		r = uv_tcp_getsockname(&listener->uv.tcp, (struct sockaddr *)&bound, &len);
	if (r < 0) {
		listener_close(listener);
		return fail_listen(reterr, buf_text(&where), "bind", r);
	}
	if (ret_port)
		*ret_port = ntohs(((struct sockaddr_in *)&bound)->sin_port);
	return 0;
}

static bool address_seen(const struct addrinfo *first, const struct addrinfo *at)
{
	for (; first != at; first = first->ai_next)
		if (first->ai_addrlen == at->ai_addrlen &&
			memcmp(first->ai_addr, at->ai_addr, at->ai_addrlen) == 0)
			return true;
	return false;
}

static int listen_host(struct http_server *server, const char *host, uint16_t port, bool tls,
	uint16_t *ret_port, struct buf *reterr)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
	uint16_t bound = port;
	int r;

	if (!host || !*host) {
		struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
		struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};

		r = listen_address(server, (struct sockaddr *)&any6, tls, ret_port, NULL);
		if (r >= 0 || r == -EADDRINUSE)
			return r < 0 ? listen_address(server, (struct sockaddr *)&any6, tls, ret_port, reterr)
				     : 0;
		return listen_address(server, (struct sockaddr *)&any, tls, ret_port, reterr);
	}
	r = getaddrinfo(host, NULL, &hints, &found);
	if (r != 0) {
		if (reterr)
			buf_printf(reterr, "listen tcp: lookup %s: %s", host,
				r == EAI_NONAME ? "no such host" : gai_strerror(r));
		return -ENOENT;
	}
	r = -EADDRNOTAVAIL;
	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		_cleanup_buf_ struct buf why = BUF_INIT(0);
		int one;

		if ((at->ai_family != AF_INET && at->ai_family != AF_INET6) || address_seen(found, at))
			continue;
		((struct sockaddr_in *)at->ai_addr)->sin_port = htons(bound);
		one = listen_address(server, at->ai_addr, tls, &bound, &why);
		/* "localhost" has an IPv6 address also on hosts without IPv6: one that works is enough. */
		if (one < 0 && r >= 0 && (one == -EADDRNOTAVAIL || one == -EAFNOSUPPORT))
			continue;
		if (one < 0 && reterr) {
			buf_clear(reterr);
			buf_add_slice(reterr, buf_slice(&why));
		}
		r = one;
		if (one < 0 && one != -EADDRNOTAVAIL && one != -EAFNOSUPPORT)
			break;
	}
	freeaddrinfo(found);
	if (r >= 0 && reterr)
		buf_clear(reterr);
	if (r >= 0 && ret_port)
		*ret_port = bound;
	return r;
}

int http_server_listen_tcp(
	struct http_server *server, const char *host, uint16_t port, uint16_t *ret_port, struct buf *reterr)
{
	return listen_host(server, host, port, false, ret_port, reterr);
}

int http_server_listen_tls(
	struct http_server *server, const char *host, uint16_t port, uint16_t *ret_port, struct buf *reterr)
{
	return listen_host(server, host, port, true, ret_port, reterr);
}

/* True when nobody listens on the socket file any more. */
static bool socket_is_stale(const struct sockaddr_un *address)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	       errno == ECONNREFUSED;
}

int http_server_listen_unix(struct http_server *server, const char *path, mode_t mode, struct buf *reterr)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_free_ char *where = mem_printf("unix %s", path);
	_cleanup_close_ int fd = -1;
	struct listener *listener;
	struct stat st;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return fail_listen(reterr, where, "bind", -ENAMETOOLONG);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail_listen(reterr, where, "socket", -errno);
	/* Restricts the file from the moment it appears; the umask may take more away until chmod(). */
	(void)fchmod(fd, mode);
	if (socket_is_stale(&address))
		(void)unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fail_listen(reterr, where, "bind", -errno);
	if (chmod(path, mode) < 0 || lstat(path, &st) < 0)
		return fail_listen(reterr, where, "chmod", -errno);
	listener = listener_new(server, true, false);
	listener->path = mem_strdup(path);
	listener->path_dev = st.st_dev;
	listener->path_ino = st.st_ino;
	r = uv_pipe_open(&listener->uv.pipe, fd);
	if (r >= 0) {
		(void)take_fd(fd);
		r = uv_listen(&listener->uv.stream, LISTEN_BACKLOG, on_connection);
	}
	if (r < 0) {
		listener_close(listener);
		return fail_listen(reterr, where, "listen", r);
	}
	return 0;
}

int http_server_listen_fd(struct http_server *server, int fd, bool tls, struct buf *reterr)
{
	_cleanup_free_ char *where = mem_printf("fd %d", fd);
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	struct listener *listener;
	bool is_pipe;
	int r;

	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return fail_listen(reterr, where, "getsockname", -errno);
	is_pipe = address.ss_family == AF_UNIX;
	if (!is_pipe && address.ss_family != AF_INET && address.ss_family != AF_INET6)
		return fail_listen(reterr, where, "getsockname", -EAFNOSUPPORT);
	listener = listener_new(server, is_pipe, tls);
	r = is_pipe ? uv_pipe_open(&listener->uv.pipe, fd) : uv_tcp_open(&listener->uv.tcp, fd);
	if (r >= 0)
		r = uv_listen(&listener->uv.stream, LISTEN_BACKLOG, on_connection);
	if (r < 0) {
		listener_close(listener);
		return fail_listen(reterr, where, "listen", r);
	}
	return 0;
}

void http_server_set_tls(struct http_server *server, struct tls_context *context)
{
	(void)tls_context_ref(context);
	(void)tls_context_unref(server->tls);
	server->tls = context;
}

void http_server_drain(struct http_server *server)
{
	server->draining = true;
	list_for_each_safe (it, &server->listeners)
		listener_close(list_item(it, struct listener, link));
	list_for_each_safe (it, &server->conns) {
		struct conn *conn = list_item(it, struct conn, link);

		if (conn->state == CONN_IDLE && !conn->input.len && !conn_queued_bytes(conn) &&
			!conn->running)
			conn_close(conn);
	}
}

void http_server_close(struct http_server *server, void (*on_closed)(void *user), void *user)
{
	uv_handle_t *own[] = {(uv_handle_t *)&server->prepare, (uv_handle_t *)&server->check,
		(uv_handle_t *)&server->idle, (uv_handle_t *)&server->sweep};

	if (server->closing)
		return;
	server->closing = true;
	server->on_closed = on_closed;
	server->on_closed_user = user;
	list_for_each_safe (it, &server->listeners)
		listener_close(list_item(it, struct listener, link));
	while (!list_empty(&server->conns))
		conn_close(list_first(&server->conns, struct conn, link));
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		own[i]->data = server;
		uv_close(own[i], on_own_closed);
	}
}

void http_server_get_stats(const struct http_server *server, struct http_server_stats *ret_stats)
{
	*ret_stats = server->stats;
}
