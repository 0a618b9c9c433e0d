/* What all clients together may take. Memory: connections that hold more than a little (requests that are not
 * whole yet, answers that the client does not take) stand in a list in the order of their last progress; when
 * all hold too much, those that have stood still for the longest are cut off. Requests that wait for their
 * answers may hold half of it, so that uploads have room at all times; one more that is large is refused,
 * and nothing that was taken on is cut off while others can be. Places: when all are taken,
 * connections that have waited for their next request, or inside a head or body, are closed for newcomers,
 * oldest first; those whose request is being answered stay. */
#include "io/http_server_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	HELD_LITTLE_BYTES = 16 * 1024, /* per connection: not worth counting */
	EVICT_BATCH = 64,	       /* one walk over all connections makes room for so many */
	EVICT_AFTER_MS = 1000,	       /* a client that was active in between is left alone */
	EVICT_PAUSE_MS = 100,	       /* after a walk that found nothing */
	TELL_EVERY_MS = 60 * 1000,
	CONNECTIONS_DEFAULT = 16384,
	OTHER_FILES = 128, /* descriptors that are no connections of this server */
};

static const char *const limit_texts[HTTP_LIMIT_MAX] = {
	[HTTP_LIMIT_MEMORY] =
		"clients send or read too slowly and hold too much memory: the slowest are cut off",
	[HTTP_LIMIT_PENDING] = "large requests that wait for their answers hold too much memory: more are "
			       "refused (503)",
	[HTTP_LIMIT_CONNECTIONS] =
		"all places for connections are taken: idle ones are closed for new ones, else new ones wait",
	[HTTP_LIMIT_FILES] = "no more files can be opened (RLIMIT_NOFILE of the process, or fs.file-max of "
			     "the machine): new connections are closed at once; raise the "
			     "limit, or close what holds them",
};

size_t limits_connections(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= CONNECTIONS_DEFAULT + OTHER_FILES)
		return CONNECTIONS_DEFAULT;
	/* The program must be able to open its own files with all places taken. */
	return limit.rlim_cur > 2 * OTHER_FILES ? (size_t)limit.rlim_cur - OTHER_FILES
						: MAX((size_t)limit.rlim_cur / 2, (size_t)1);
}

void limits_tell(struct http_server *server, enum http_limit limit)
{
	uint64_t now_ms = uv_now(server->loop), *told_ms = &server->limit_told_ms[limit];

	if (!server->options.on_limit || (*told_ms && now_ms - *told_ms < TELL_EVERY_MS))
		return;
	*told_ms = MAX(now_ms, (uint64_t)1);
	server->options.on_limit(limit, limit_texts[limit], server->options.user);
}

static size_t bytes_held(const struct conn *conn)
{
	size_t held = conn_queued_bytes(conn) + conn->input.len + (conn->tls ? TLS_HELD_BYTES : 0);

	if (conn->req)
		held += conn->req->head.len + conn->req->body.len + conn->req->pub.arena.total_bytes;
	return held;
}

/* How much it holds, and in which of the two sums. */
static void count(struct conn *conn, size_t held, bool pending)
{
	struct http_server *server = conn->server;

	server->held_bytes -= conn->held_bytes;
	server->pending_bytes -= conn->held_pending ? conn->held_bytes : 0;
	conn->held_bytes = held;
	conn->held_pending = pending;
	server->held_bytes += held;
	server->pending_bytes += pending ? held : 0;
}

void limits_forget(struct conn *conn)
{
	count(conn, 0, false);
	list_remove(&conn->held_link);
}

/* Whoever has stood still for the longest goes first. */
static void cut_off_slowest(struct http_server *server)
{
	while (server->held_bytes > server->options.max_held_bytes) {
		struct list *from =
			list_empty(&server->holders) ? &server->pending_holders : &server->holders;
		struct conn *slowest = list_first(from, struct conn, held_link);

		limits_forget(slowest);
		slowest->cut = true; /* closed at the next safe place */
		conn_mark_dirty(slowest);
		server->stats.cut_off_total++;
		limits_tell(server, HTTP_LIMIT_MEMORY);
	}
}

void limits_account(struct conn *conn)
{
	struct http_server *server = conn->server;
	bool pending = conn->state == CONN_PENDING, progress;
	size_t held;

	if (conn->state == CONN_CLOSED || conn->cut)
		return;
	held = bytes_held(conn);
	if (likely(held <= HELD_LITTLE_BYTES)) {
		if (conn->held_bytes)
			limits_forget(conn);
		return;
	}
	/* More of a request has come, or some of an answer was taken. */
	progress = conn->state == CONN_HEAD || conn->state == CONN_BODY ? held > conn->held_bytes
									: held < conn->held_bytes;
	if (progress || !conn->held_bytes || pending != conn->held_pending) {
		list_remove(&conn->held_link);
		list_push_back(pending ? &server->pending_holders : &server->holders, &conn->held_link);
	}
	count(conn, held, pending);
	if (server->held_bytes > server->options.max_held_bytes)
		cut_off_slowest(server);
}

bool limits_admit(const struct conn *conn)
{
	struct http_server *server = conn->server;
	size_t held = bytes_held(conn);

	if (likely(held <= HELD_LITTLE_BYTES) || !server->pending_bytes ||
		server->pending_bytes + held <= server->options.max_held_bytes / 2)
		return true;
	server->stats.refused_total++;
	limits_tell(server, HTTP_LIMIT_PENDING);
	return false;
}

/* Has it been waiting for its client, in this state, for so long that another one may have its place? */
static bool may_evict(const struct conn *conn, uint64_t now_ms)
{
	const struct http_server_options *options = &conn->server->options;
	uint64_t timeout_ms;

	switch (conn->state) {
	case CONN_IDLE:
		/* Also a method that has not come to its end. */
		timeout_ms = conn->head_bytes || (conn->tls && !tls_is_ready(conn->tls))
				     ? options->head_timeout_ms
				     : options->idle_timeout_ms;
		break;
	case CONN_HEAD:
		timeout_ms = options->head_timeout_ms;
		break;
	case CONN_BODY:
		timeout_ms = options->body_timeout_ms;
		break;
	case CONN_LINGER:
		return true;
	default:
		return false;
	}
	return !conn->running && !conn_queued_bytes(conn) &&
	       now_ms + timeout_ms >= conn->deadline_ms + MIN((uint64_t)EVICT_AFTER_MS, timeout_ms / 2);
}

void limits_make_room(struct http_server *server)
{
	uint64_t now_ms = uv_now(server->loop);
	size_t evicted = 0;

	limits_tell(server, HTTP_LIMIT_CONNECTIONS);
	if (now_ms < server->evict_again_ms)
		return;
	list_for_each_safe (it, &server->conns) {
		struct conn *conn = list_item(it, struct conn, link);

		if (!may_evict(conn, now_ms))
			continue;
		conn_close(conn);
		if (++evicted == EVICT_BATCH)
			break;
	}
	server->stats.evicted_total += evicted;
	if (!evicted)
		server->evict_again_ms = now_ms + EVICT_PAUSE_MS;
}

void limits_check_files(struct http_server *server)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)close(fd);
	else if (errno == EMFILE || errno == ENFILE)
		limits_tell(server, HTTP_LIMIT_FILES);
}
