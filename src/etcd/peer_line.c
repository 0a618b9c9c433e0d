/* The outgoing lines of a peer, each of which is waiting (a timer runs), calling (an HTTP request is under
 * way) or open (a stream). A line that ends waits, twice as long after each failure, and tries the next URL.
 */
#include "base/text.h"
#include "etcd/peer_internal.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

enum {
	FIRST_WAIT_MS = 20,
	LONGEST_WAIT_MS = 500,
	SMALL_QUEUE_BYTES = 4 << 20,
	BULK_QUEUE_MESSAGES = 2, /* of the largest size */
	REFUSAL_BYTES_MAX = 4096,
	AGAIN_EVERY_MS = 100, /* see peer_call_again() */
};

const char *const peer_kind_names[PEER_KINDS] = {"small", "bulk"};

static void line_call(struct line *line);

static void on_timer(uv_timer_t *timer)
{
	line_call(timer->data);
}

static void tell_state(struct peer *peer)
{
	bool connected =
		peer->lines[PEER_SMALL].state == LINE_OPEN && peer->lines[PEER_BULK].state == LINE_OPEN;

	if (connected == peer->told_connected)
		return;
	peer->told_connected = connected;
	if (peer->stranger)
		log_debug("%s stranger %llx", connected ? "connected to" : "lost",
			(unsigned long long)peer->id);
	else if (connected)
		log_info("connected to peer %llx", (unsigned long long)peer->id);
	else
		log_warning("lost the connection to peer %llx", (unsigned long long)peer->id);
	peer->peers->options.on_state(peer->id, connected, peer->peers->options.user);
}

static void line_wait(struct line *line)
{
	line->state = LINE_WAITING;
	line->call = NULL;
	line->stream = stream_close(line->stream);
	line->turn++;
	(void)uv_timer_start(line->timer, on_timer, line->wait_ms, 0);
	line->wait_ms = MIN(line->wait_ms * 2, (uint32_t)LONGEST_WAIT_MS);
}

static void on_line_frame(struct stream *stream, struct slice frame, void *user)
{
	(void)stream;
	(void)frame; /* the other end has nothing to say here */
	(void)user;
}

static void on_line_end(struct stream *stream, int error, void *user)
{
	struct line *line = user;

	(void)stream;
	(void)error;
	line_wait(line);
	tell_state(line->peer);
}

/* A peer that vanished without a word answers nothing: the kernel gives up on what it does not acknowledge.
 */
static void bound_silence(uv_stream_t *stream, uint64_t election_ms)
{
	unsigned int timeout_ms = (unsigned int)MAX(election_ms * 2, (uint64_t)1000);
	uv_os_fd_t fd;

	if (uv_fileno((uv_handle_t *)stream, &fd) == 0)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

static void on_upgrade(struct http_call *call, const struct http_response *response, uv_stream_t *stream,
	struct slice unread, void *user)
{
	struct line *line = user;
	const struct peers_options *options = &line->peer->peers->options;
	struct stream_options stream_options = {.max_frame_bytes = options->max_message_bytes,
		.max_queue_bytes = line->kind == PEER_SMALL
					   ? SMALL_QUEUE_BYTES
					   : BULK_QUEUE_MESSAGES * options->max_message_bytes,
		.on_frame = on_line_frame,
		.on_end = on_line_end,
		.user = line};

	(void)call;
	(void)response;
	bound_silence(stream, options->election_ms);
	line->call = NULL;
	line->stream = stream_new(stream, &stream_options, unread);
	line->state = LINE_OPEN;
	line->wait_ms = FIRST_WAIT_MS;
	tell_state(line->peer);
}

/* Is this really one of the cluster that says that this member was removed? */
static bool says_removed(const struct peers *peers, const struct http_response *response)
{
	const struct slice *removed = http_response_header(response, PEER_REMOVED_HEADER);
	const struct slice *cluster = http_response_header(response, "X-Etcd-Cluster-ID");
	uint64_t id, cluster_id;

	return response->status == 410 && removed && cluster && text_hex_to_u64(*removed, &id) == 0 &&
	       text_hex_to_u64(*cluster, &cluster_id) == 0 && id == peers->options.member_id &&
	       cluster_id == peers->options.cluster_id;
}

/* A member that takes the place of another one has its address: for a while both are looked for there. */
static bool shares_address(const struct peer *peer)
{
	if (peer_urls_meet(&peer->peers->own, &peer->known))
		return true;
	list_for_each (it, &peer->peers->list) {
		const struct peer *other = list_item(it, struct peer, link);

		if (other != peer && peer_urls_meet(&other->known, &peer->known))
			return true;
	}
	return false;
}

static void on_refused(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct line *line = user;
	struct peer *peer = line->peer;
	const char *url = line->called;

	(void)call;
	if (error == 0 && says_removed(peer->peers, response))
		peer->peers->options.on_removed(peer->id, peer->peers->options.user);
	if (error < 0) {
		if (peers_may_complain(peer->peers, &peer->unreachable_told_ms))
			log_warning(
				"cannot reach peer %llx at %s: %s", (unsigned long long)peer->id, url, text);
	} else if (peers_may_complain(peer->peers, &peer->refusal_told_ms)) {
		log_write(
			response->status == 412 && shares_address(peer) ? LOG_LEVEL_NOTICE : LOG_LEVEL_ERROR,
			"peer %llx at %s refuses this member (status %d): %.*s", (unsigned long long)peer->id,
			url, response->status, (int)text_trim(response->body).len,
			text_trim(response->body).data);
	}
	line_wait(line);
}

static void line_call(struct line *line)
{
	struct peer *peer = line->peer;
	const struct peers_options *options = &peer->peers->options;
	char cluster_id[24] = "", from[24] = "", to[24] = "";
	struct http_header headers[] = {
		HTTP_HEADER("Connection", "Upgrade"),
		HTTP_HEADER("Upgrade", PEER_PROTOCOL),
		HTTP_HEADER("X-Etcd-Cluster-ID", cluster_id),
		HTTP_HEADER("X-Server-From", from),
		HTTP_HEADER("X-Server-To", to),
		HTTP_HEADER("X-Peer-Stream", peer_kind_names[line->kind]),
		HTTP_HEADER(PEER_URLS_HEADER, ""),
	};
	struct http_call_options call = {.url = peer_urls_pick(&peer->known, &peer->said, line->turn),
		.target = PEER_PATH,
		.headers = headers,
		.header_count = ARRAY_LEN(headers),
		.connect_timeout_ms = (uint32_t)MAX(options->election_ms, (uint64_t)500),
		.header_timeout_ms = (uint32_t)MAX(options->election_ms * 2, (uint64_t)1000),
		.max_body_bytes = REFUSAL_BYTES_MAX,
		.no_reuse = true,
		.on_done = on_refused,
		.on_upgrade = on_upgrade,
		.user = line};
	_cleanup_buf_ struct buf own = BUF_INIT(0);

	(void)mem_free(line->called);
	line->called = mem_strdup(call.url);
	(void)snprintf(cluster_id, sizeof(cluster_id), "%llx", (unsigned long long)options->cluster_id);
	(void)snprintf(from, sizeof(from), "%llx", (unsigned long long)options->member_id);
	(void)snprintf(to, sizeof(to), "%llx", (unsigned long long)peer->id);
	headers[2].value = slice_str(cluster_id);
	headers[3].value = slice_str(from);
	headers[4].value = slice_str(to);
	peer_urls_write(&peer->peers->own, &own);
	headers[6].value = buf_slice(&own);
	call.header_count -= !own.len;
	line->state = LINE_CALLING;
	line->call = http_client_send(peer->peers->client, &call);
}

static void on_timer_closed(uv_handle_t *handle)
{
	mem_free(handle);
}

void peer_free(struct peer *peer)
{
	for (size_t i = 0; i < PEER_KINDS; i++) {
		struct line *line = &peer->lines[i];

		if (line->call)
			http_call_cancel(line->call);
		(void)stream_close(line->stream);
		uv_close((uv_handle_t *)line->timer, on_timer_closed);
		mem_free(line->called);
	}
	list_remove(&peer->link);
	peer_urls_done(&peer->known);
	peer_urls_done(&peer->said);
	mem_free(peer);
}

struct peer *peers_add(struct peers *peers, uint64_t id)
{
	struct peer *peer = mem_new(struct peer);

	peer->peers = peers;
	peer->id = id;
	for (size_t i = 0; i < PEER_KINDS; i++) {
		struct line *line = &peer->lines[i];

		line->peer = peer;
		line->kind = (enum peer_kind)i;
		line->wait_ms = FIRST_WAIT_MS;
		line->timer = mem_new(uv_timer_t);
		(void)uv_timer_init(peers->options.loop, line->timer);
		line->timer->data = line;
		(void)uv_timer_start(line->timer, on_timer, 0, 0);
	}
	list_push_back(&peers->list, &peer->link);
	return peer;
}

void peer_call_again(struct peer *peer)
{
	uint64_t now = peers_now_ms(peer->peers);

	if (peer->stranger || (peer->again_ms && now - peer->again_ms < AGAIN_EVERY_MS))
		return;
	peer->again_ms = MAX(now, (uint64_t)1);
	for (size_t i = 0; i < PEER_KINDS; i++) {
		struct line *line = &peer->lines[i];

		if (line->state == LINE_WAITING)
			(void)uv_timer_start(line->timer, on_timer, 0, 0);
	}
}
