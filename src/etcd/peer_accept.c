/* Incoming: an upgraded request becomes a stream that belongs to the member it named; a newer stream of the
 * same member and kind replaces the older, whose other end is gone. A stranger is a peer like any other, but
 * goes with its last incoming stream. */
#include "base/text.h"
#include "etcd/peer_internal.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

enum {
	STRANGERS_WINDOW_MS = 1000, /* in it there are PEERS_STRANGERS_MAX new ones at most */
	/* Nothing is sent on an incoming stream: the kernel asks whether the other end is still there. */
	SILENCE_S = 10,
	PROBE_EVERY_S = 5,
	PROBES = 3,
};

void incoming_free(struct incoming *incoming)
{
	list_remove(&incoming->link);
	(void)stream_close(incoming->stream);
	mem_free(incoming);
}

/* ---- Strangers ---- */

static bool has_incoming(const struct peers *peers, uint64_t from)
{
	list_for_each (it, &peers->incoming) {
		if (list_item(it, struct incoming, link)->from == from)
			return true;
	}
	return false;
}

static void drop_stranger(struct peer *stranger)
{
	struct peers *peers = stranger->peers;

	list_for_each_safe (it, &peers->incoming) {
		struct incoming *incoming = list_item(it, struct incoming, link);

		if (incoming->from == stranger->id)
			incoming_free(incoming);
	}
	peer_free(stranger);
}

static bool may_add_stranger(struct peers *peers)
{
	uint64_t now = peers_now_ms(peers);

	if (now - peers->strangers_ms >= STRANGERS_WINDOW_MS) {
		peers->strangers_ms = now;
		peers->strangers_made = 0;
	}
	return peers->strangers_made < PEERS_STRANGERS_MAX;
}

/* Makes room as needed: who said something last stays, as a leader does all the time. */
static struct peer *add_stranger(struct peers *peers, uint64_t id, const char *url)
{
	struct peer *quietest = NULL, *stranger;
	size_t count = 0;

	list_for_each (it, &peers->list) {
		struct peer *peer = list_item(it, struct peer, link);

		if (!peer->stranger)
			continue;
		count++;
		if (!quietest || peer->heard_ms < quietest->heard_ms)
			quietest = peer;
	}
	if (count == PEERS_STRANGERS_MAX)
		drop_stranger(quietest);
	stranger = peers_add(peers, id);
	stranger->stranger = true;
	peers->strangers_made++;
	if (peers_may_complain(peers, &peers->stranger_told_ms))
		log_notice("member %llx, which this member does not know (yet), connects: answering it at %s",
			(unsigned long long)id, url);
	return stranger;
}

/* ---- Incoming ---- */

static void on_incoming_frame(struct stream *stream, struct slice frame, void *user)
{
	struct incoming *incoming = user;
	struct peers *peers = incoming->peers;
	struct peer *peer = peers_find(peers, incoming->from);

	if (peer)
		peer->heard_ms = MAX(peers_now_ms(peers), (uint64_t)1);
	peers->counts.received_bulk += incoming->kind == PEER_BULK;
	peers->counts.received_bytes += frame.len;
	if (peers->options.on_message(incoming->from, frame, peers->options.user) == 0)
		return;
	if (peers_may_complain(peers, &peers->nonsense_told_ms))
		log_error("what calls itself peer %llx sends what is no message of this cluster: connection "
			  "closed",
			(unsigned long long)incoming->from);
	stream_end(stream, -EBADMSG);
}

static void on_incoming_end(struct stream *stream, int error, void *user)
{
	struct incoming *incoming = user;
	const struct peers *peers = incoming->peers;
	struct peer *peer = peers_find(peers, incoming->from);

	(void)stream;
	/* Its process has probably ended; our own lines may not have been open, or not have noticed yet. */
	peers->options.on_state(incoming->from, false, peers->options.user);
	if (peer && peer->told_connected)
		peers->options.on_state(incoming->from, true, peers->options.user);
	if (error == -EMSGSIZE)
		log_error("peer %llx sent a message above %zu bytes", (unsigned long long)incoming->from,
			incoming->peers->options.max_message_bytes);
	incoming_free(incoming);
	if (peer && peer->stranger && !has_incoming(peers, peer->id))
		peer_free(peer);
}

/* An id in a header, or 0. */
static uint64_t header_id(struct http_request *req, const char *name)
{
	const struct slice *value = http_request_header(req, name);
	uint64_t id;

	return value && text_hex_to_u64(*value, &id) == 0 ? id : 0;
}

static void refuse_at(
	enum log_level level, struct peers *peers, struct http_request *req, int status, const char *text)
{
	if (peers_may_complain(peers, &peers->complained_ms))
		log_write(level, "refused a peer connection from %s: %s", http_request_peer(req), text);
	http_reply_error(req, status, text);
}

static void refuse(struct peers *peers, struct http_request *req, int status, const char *text)
{
	refuse_at(LOG_LEVEL_ERROR, peers, req, status, text);
}

static void refuse_removed(struct peers *peers, struct http_request *req, uint64_t from)
{
	char id[24], cluster_id[24], text[96];
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "text/plain; charset=utf-8"),
		HTTP_HEADER(PEER_REMOVED_HEADER, id), HTTP_HEADER("X-Etcd-Cluster-ID", cluster_id)};

	(void)snprintf(id, sizeof(id), "%llx", (unsigned long long)from);
	(void)snprintf(cluster_id, sizeof(cluster_id), "%llx", (unsigned long long)peers->options.cluster_id);
	(void)snprintf(text, sizeof(text), "member %s was removed from this cluster", id);
	headers[1].value = slice_str(id);
	headers[2].value = slice_str(cluster_id);
	if (peers_may_complain(peers, &peers->complained_ms))
		log_notice("refused a peer connection from %s: %s", http_request_peer(req), text);
	http_reply(req, 410, headers, ARRAY_LEN(headers), slice_str(text));
}

struct hello {
	uint64_t from;
	enum peer_kind kind;
	struct peer_urls urls; /* of who connects, as it says */
};

/* It may be a member all the same, unless it does not say where it is to be answered. Answers it if not. */
static bool check_stranger(struct peers *peers, struct http_request *req, const struct hello *hello)
{
	char text[80];

	if (!hello->from || hello->from == peers->options.member_id || !hello->urls.count) {
		(void)snprintf(text, sizeof(text), "member %llx is not in this cluster",
			(unsigned long long)hello->from);
		refuse(peers, req, 403, text);
		return false;
	}
	if (!may_add_stranger(peers)) {
		refuse(peers, req, 503, "too many members connect at a time that this one does not know");
		return false;
	}
	return true;
}

static bool read_urls(struct peers *peers, struct http_request *req, struct peer_urls *ret_urls)
{
	const struct slice *urls = http_request_header(req, PEER_URLS_HEADER);
	_cleanup_buf_ struct buf why = BUF_INIT(1024);

	buf_add_str(&why, PEER_URLS_HEADER ": ");
	if (!urls || peer_urls_read(*urls, ret_urls, &why) == 0)
		return true;
	refuse(peers, req, 400, buf_text(&why));
	return false;
}

/* Had the member that is looked for this one's address, before this one takes or took its place? */
static bool had_this_address(const struct peers *peers, uint64_t id)
{
	const struct peer *peer = peers_find(peers, id);

	return peers_was_removed(peers, id) || (peer && peer_urls_meet(&peer->known, &peers->own));
}

static void refuse_seeker(struct peers *peers, struct http_request *req, uint64_t to)
{
	bool had = had_this_address(peers, to);
	char text[128];

	(void)snprintf(text, sizeof(text), "member %llx was looked for, but this is member %llx%s",
		(unsigned long long)to, (unsigned long long)peers->options.member_id,
		had ? ", which takes its place" : ": check the peer URLs");
	refuse_at(had ? LOG_LEVEL_NOTICE : LOG_LEVEL_ERROR, peers, req, 412, text);
}

/* Is this one of us, and does it mean us? Answers it if not. */
static bool check_hello(struct peers *peers, struct http_request *req, struct hello *hello)
{
	const struct slice *protocol = http_request_header(req, "Upgrade");
	const struct slice *kind = http_request_header(req, "X-Peer-Stream");
	uint64_t cluster_id = header_id(req, "X-Etcd-Cluster-ID"), to = header_id(req, "X-Server-To");
	char text[160];

	hello->from = header_id(req, "X-Server-From");
	if (!protocol || !slice_is(*protocol, PEER_PROTOCOL)) {
		(void)snprintf(text, sizeof(text),
			"this member speaks %s, the other end does not: run the same release", PEER_PROTOCOL);
		refuse(peers, req, 426, text);
	} else if (cluster_id != peers->options.cluster_id) {
		(void)snprintf(text, sizeof(text),
			"cluster ID mismatch: the member that connects is of cluster %llx, this one of %llx",
			(unsigned long long)cluster_id, (unsigned long long)peers->options.cluster_id);
		refuse(peers, req, 412, text);
	} else if (to != peers->options.member_id) {
		refuse_seeker(peers, req, to);
	} else if (peers_was_removed(peers, hello->from)) {
		refuse_removed(peers, req, hello->from);
	} else if (!read_urls(peers, req, &hello->urls)) {
		return false;
	} else if (!peers_find(peers, hello->from) && !check_stranger(peers, req, hello)) {
		return false;
	} else if (!kind || !(slice_is(*kind, peer_kind_names[PEER_SMALL]) ||
				    slice_is(*kind, peer_kind_names[PEER_BULK]))) {
		refuse(peers, req, 400, "X-Peer-Stream must be small or bulk");
	} else {
		hello->kind = slice_is(*kind, peer_kind_names[PEER_BULK]) ? PEER_BULK : PEER_SMALL;
		return true;
	}
	return false;
}

/* One that vanished without a word would have its place for ever. */
static void watch_silence(uv_stream_t *stream)
{
	static const struct {
		int level, option, value;
	} settings[] = {{SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, SILENCE_S},
		{IPPROTO_TCP, TCP_KEEPINTVL, PROBE_EVERY_S}, {IPPROTO_TCP, TCP_KEEPCNT, PROBES}};
	uv_os_fd_t fd;

	if (uv_fileno((uv_handle_t *)stream, &fd) < 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		(void)setsockopt(fd, settings[i].level, settings[i].option, &settings[i].value, sizeof(int));
}

void peers_accept(struct peers *peers, struct http_request *req)
{
	static const char head[] =
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " PEER_PROTOCOL
		"\r\n\r\n";
	struct stream_options options = {.max_frame_bytes = peers->options.max_message_bytes,
		.on_frame = on_incoming_frame,
		.on_end = on_incoming_end};
	_cleanup_buf_ struct buf unread = BUF_INIT(0);
	struct hello hello = {0};
	struct incoming *incoming;
	struct peer *peer;
	uv_stream_t *stream;

	if (!check_hello(peers, req, &hello) ||
		http_request_take_over(req, slice_str(head), &stream, &unread) < 0) {
		peer_urls_done(&hello.urls);
		return;
	}
	watch_silence(stream);
	list_for_each_safe (it, &peers->incoming) {
		struct incoming *older = list_item(it, struct incoming, link);

		if (older->from == hello.from && older->kind == hello.kind)
			incoming_free(older);
	}
	peer = peers_find(peers, hello.from);
	if (!peer)
		peer = add_stranger(peers, hello.from, hello.urls.items[0]);
	if (hello.urls.count)
		peer_urls_move(&peer->said, &hello.urls);
	incoming = mem_new(struct incoming);
	incoming->peers = peers;
	incoming->from = hello.from;
	incoming->kind = hello.kind;
	options.user = incoming;
	incoming->stream = stream_new(stream, &options, buf_slice(&unread));
	list_push_back(&peers->incoming, &incoming->link);
	peer_call_again(peer);
}
