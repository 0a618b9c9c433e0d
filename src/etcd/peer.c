/* Outgoing: each peer has two lines, each of which is waiting (a timer runs), calling (an HTTP request is
 * under way) or open (a stream). A line that ends waits, twice as long after each failure, and tries the next
 * URL. Incoming: an upgraded request becomes a stream that belongs to the member it named; a newer stream of
 * the same member and kind replaces the older, whose other end is gone. A stranger is a peer like any other,
 * but goes with its last incoming stream. */
#include "etcd/peer.h"
#include "etcd/peer_urls.h"
#include "base/list.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/http_client.h"
#include "io/stream.h"
#include "io/url.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#define PEER_PATH "/flotilla/peer"
#define REMOVED_HEADER "X-Flotilla-Removed"
#define URLS_HEADER "X-PeerURLs"

enum {
	FIRST_WAIT_MS = 20,
	LONGEST_WAIT_MS = 500,
	COMPLAIN_EVERY_MS = 60 * 1000,
	SMALL_QUEUE_BYTES = 4 << 20,
	BULK_QUEUE_MESSAGES = 2, /* of the largest size */
	REFUSAL_BYTES_MAX = 4096,
	REQUEST_BYTES_MAX = 16 * 1024, /* of what is no stream */
	HEAD_TIMEOUT_MS = 5000,
	AGAIN_EVERY_MS = 100,	    /* see call_again() */
	STRANGERS_WINDOW_MS = 1000, /* in it there are PEERS_STRANGERS_MAX new ones at most */
	/* Nothing is sent on an incoming stream: the kernel asks whether the other end is still there. */
	SILENCE_S = 10,
	PROBE_EVERY_S = 5,
	PROBES = 3,
};
enum kind { SMALL, BULK, KINDS };
static const char *const kind_names[KINDS] = {"small", "bulk"};

enum line_state { WAITING, CALLING, OPEN };

struct line {
	struct peer *peer;
	enum kind kind;
	enum line_state state;
	uv_timer_t *timer; /* its own block: it outlives the line until it is closed */
	struct http_call *call;
	struct stream *stream;
	size_t turn;  /* of the URLs */
	char *called; /* owned; the URL that was tried last */
	uint32_t wait_ms;
};

struct peer {
	struct list link;
	struct peers *peers;
	uint64_t id;
	struct peer_urls known, said; /* by the membership, and by the peer itself */
	struct line lines[KINDS];
	bool wanted;	   /* while the set is being changed */
	bool stranger;	   /* not in the set */
	uint64_t heard_ms; /* when its last message came; 0: none did */
	uint64_t again_ms; /* when it was called anew since it was heard of */
	/* When each was last told: a peer that cannot be reached must not hide that it refuses us. */
	uint64_t unreachable_told_ms, refusal_told_ms;
	bool told_connected;
};

struct incoming {
	struct list link;
	struct peers *peers;
	uint64_t from;
	enum kind kind;
	struct stream *stream;
};

struct peers {
	struct peers_options options;
	struct list list;     /* struct peer.link */
	struct list incoming; /* struct incoming.link */
	struct http_server *server;
	struct http_client *client;
	struct peers_counts counts;
	struct peer_urls own;  /* what this member says of itself */
	uint64_t strangers_ms; /* since when new ones are counted */
	unsigned strangers_made;
	uint64_t complained_ms, nonsense_told_ms, stranger_told_ms;
};

static uint64_t now_ms(const struct peers *peers)
{
	return uv_now(peers->options.loop);
}

/* True once a minute. */
static bool may_complain(const struct peers *peers, uint64_t *last_ms)
{
	uint64_t now = now_ms(peers);

	if (*last_ms && now - *last_ms < COMPLAIN_EVERY_MS)
		return false;
	*last_ms = MAX(now, (uint64_t)1);
	return true;
}

static struct peer *find_peer(const struct peers *peers, uint64_t id)
{
	list_for_each (it, &peers->list) {
		struct peer *peer = list_item(it, struct peer, link);

		if (peer->id == id)
			return peer;
	}
	return NULL;
}

/* ---- Outgoing ---- */

static void line_call(struct line *line);

static void on_timer(uv_timer_t *timer)
{
	line_call(timer->data);
}

static void tell_state(struct peer *peer)
{
	bool connected = peer->lines[SMALL].state == OPEN && peer->lines[BULK].state == OPEN;

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
	line->state = WAITING;
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
		.max_queue_bytes = line->kind == SMALL ? SMALL_QUEUE_BYTES
						       : BULK_QUEUE_MESSAGES * options->max_message_bytes,
		.on_frame = on_line_frame,
		.on_end = on_line_end,
		.user = line};

	(void)call;
	(void)response;
	bound_silence(stream, options->election_ms);
	line->call = NULL;
	line->stream = stream_new(stream, &stream_options, unread);
	line->state = OPEN;
	line->wait_ms = FIRST_WAIT_MS;
	tell_state(line->peer);
}

/* Is this really one of the cluster that says that this member was removed? */
static bool says_removed(const struct peers *peers, const struct http_response *response)
{
	const struct slice *removed = http_response_header(response, REMOVED_HEADER);
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
		peer->peers->options.on_removed(peer->peers->options.user);
	if (error < 0) {
		if (may_complain(peer->peers, &peer->unreachable_told_ms))
			log_warning(
				"cannot reach peer %llx at %s: %s", (unsigned long long)peer->id, url, text);
	} else if (may_complain(peer->peers, &peer->refusal_told_ms)) {
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
		HTTP_HEADER("X-Peer-Stream", kind_names[line->kind]),
		HTTP_HEADER(URLS_HEADER, ""),
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
	line->state = CALLING;
	line->call = http_client_send(peer->peers->client, &call);
}

static void on_timer_closed(uv_handle_t *handle)
{
	mem_free(handle);
}

static void free_peer(struct peer *peer)
{
	for (size_t i = 0; i < KINDS; i++) {
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

static struct peer *add_peer(struct peers *peers, uint64_t id)
{
	struct peer *peer = mem_new(struct peer);

	peer->peers = peers;
	peer->id = id;
	for (size_t i = 0; i < KINDS; i++) {
		struct line *line = &peer->lines[i];

		line->peer = peer;
		line->kind = (enum kind)i;
		line->wait_ms = FIRST_WAIT_MS;
		line->timer = mem_new(uv_timer_t);
		(void)uv_timer_init(peers->options.loop, line->timer);
		line->timer->data = line;
		(void)uv_timer_start(line->timer, on_timer, 0, 0);
	}
	list_push_back(&peers->list, &peer->link);
	return peer;
}

static void free_incoming(struct incoming *incoming)
{
	list_remove(&incoming->link);
	(void)stream_close(incoming->stream);
	mem_free(incoming);
}

static void set_urls(struct peer_urls *urls, struct peer_urls *given)
{
	peer_urls_done(urls);
	*urls = *given;
	*given = (struct peer_urls){0};
}

/* What the others are told: where the membership has this member, and where it is configured to be. One that
 * was moved while it was down does not know so yet, and the membership alone would name its old place. */
static void set_own(struct peers *peers, const char *const *urls)
{
	struct peer_urls own = {0};

	peer_urls_add(&own, urls);
	peer_urls_add(&own, (const char *const *)peers->options.own_urls);
	set_urls(&peers->own, &own);
}

/* It is a member. */
static void want_peer(struct peers *peers, const struct peer_address *address)
{
	struct peer *peer = find_peer(peers, address->id);
	struct peer_urls known = {0};

	peer_urls_add(&known, address->urls);
	if (!known.count)
		return;
	if (!peer)
		peer = add_peer(peers, address->id);
	else if (peer->stranger)
		log_info("member %llx, which was a stranger, is known now", (unsigned long long)peer->id);
	set_urls(&peer->known, &known);
	peer->wanted = true;
	peer->stranger = false;
}

static bool was_removed(const struct peers *peers, uint64_t id)
{
	return peers->options.was_removed && peers->options.was_removed(id, peers->options.user);
}

void peers_set(struct peers *peers, const struct peer_address *addresses, size_t count)
{
	list_for_each (it, &peers->list) {
		list_item(it, struct peer, link)->wanted = false;
	}
	for (size_t i = 0; i < count; i++) {
		if (addresses[i].id == peers->options.member_id)
			set_own(peers, addresses[i].urls);
		else
			want_peer(peers, &addresses[i]);
	}
	list_for_each_safe (it, &peers->list) {
		struct peer *peer = list_item(it, struct peer, link);

		if (!peer->wanted && (!peer->stranger || was_removed(peers, peer->id)))
			free_peer(peer);
	}
	list_for_each_safe (it, &peers->incoming) {
		struct incoming *incoming = list_item(it, struct incoming, link);

		if (!find_peer(peers, incoming->from))
			free_incoming(incoming);
	}
}

bool peers_send(struct peers *peers, uint64_t to, struct slice message, bool bulk)
{
	struct peer *peer = find_peer(peers, to);
	struct line *line = peer ? &peer->lines[bulk ? BULK : SMALL] : NULL;

	if (!line || line->state != OPEN || stream_send(line->stream, message) < 0) {
		peers->counts.dropped++;
		return false;
	}
	peers->counts.sent_bulk += bulk;
	peers->counts.sent_bytes += message.len;
	return true;
}

/* The peer was heard of, so it is there: do not wait any longer. But whoever says so often does not make this
 * member call as often. */
static void call_again(struct peer *peer)
{
	uint64_t now = now_ms(peer->peers);

	if (peer->stranger || (peer->again_ms && now - peer->again_ms < AGAIN_EVERY_MS))
		return;
	peer->again_ms = MAX(now, (uint64_t)1);
	for (size_t i = 0; i < KINDS; i++) {
		struct line *line = &peer->lines[i];

		if (line->state == WAITING)
			(void)uv_timer_start(line->timer, on_timer, 0, 0);
	}
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
			free_incoming(incoming);
	}
	free_peer(stranger);
}

static bool may_add_stranger(struct peers *peers)
{
	uint64_t now = now_ms(peers);

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
	stranger = add_peer(peers, id);
	stranger->stranger = true;
	peers->strangers_made++;
	if (may_complain(peers, &peers->stranger_told_ms))
		log_notice("member %llx, which this member does not know (yet), connects: answering it at %s",
			(unsigned long long)id, url);
	return stranger;
}

/* ---- Incoming ---- */

static void on_incoming_frame(struct stream *stream, struct slice frame, void *user)
{
	struct incoming *incoming = user;
	struct peers *peers = incoming->peers;
	struct peer *peer = find_peer(peers, incoming->from);

	if (peer)
		peer->heard_ms = MAX(now_ms(peers), (uint64_t)1);
	peers->counts.received_bulk += incoming->kind == BULK;
	peers->counts.received_bytes += frame.len;
	if (peers->options.on_message(incoming->from, frame, peers->options.user) == 0)
		return;
	if (may_complain(peers, &peers->nonsense_told_ms))
		log_error("what calls itself peer %llx sends what is no message of this cluster: connection "
			  "closed",
			(unsigned long long)incoming->from);
	stream_end(stream, -EBADMSG);
}

static void on_incoming_end(struct stream *stream, int error, void *user)
{
	struct incoming *incoming = user;
	const struct peers *peers = incoming->peers;
	struct peer *peer = find_peer(peers, incoming->from);

	(void)stream;
	/* Its process has probably ended; our own lines may not have been open, or not have noticed yet. */
	peers->options.on_state(incoming->from, false, peers->options.user);
	if (peer && peer->told_connected)
		peers->options.on_state(incoming->from, true, peers->options.user);
	if (error == -EMSGSIZE)
		log_error("peer %llx sent a message above %zu bytes", (unsigned long long)incoming->from,
			incoming->peers->options.max_message_bytes);
	free_incoming(incoming);
	if (peer && peer->stranger && !has_incoming(peers, peer->id))
		free_peer(peer);
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
	if (may_complain(peers, &peers->complained_ms))
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
		HTTP_HEADER(REMOVED_HEADER, id), HTTP_HEADER("X-Etcd-Cluster-ID", cluster_id)};

	(void)snprintf(id, sizeof(id), "%llx", (unsigned long long)from);
	(void)snprintf(cluster_id, sizeof(cluster_id), "%llx", (unsigned long long)peers->options.cluster_id);
	(void)snprintf(text, sizeof(text), "member %s was removed from this cluster", id);
	headers[1].value = slice_str(id);
	headers[2].value = slice_str(cluster_id);
	if (may_complain(peers, &peers->complained_ms))
		log_notice("refused a peer connection from %s: %s", http_request_peer(req), text);
	http_reply(req, 410, headers, ARRAY_LEN(headers), slice_str(text));
}

struct hello {
	uint64_t from;
	enum kind kind;
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
	const struct slice *urls = http_request_header(req, URLS_HEADER);
	_cleanup_buf_ struct buf why = BUF_INIT(1024);

	buf_add_str(&why, URLS_HEADER ": ");
	if (!urls || peer_urls_read(*urls, ret_urls, &why) == 0)
		return true;
	refuse(peers, req, 400, buf_text(&why));
	return false;
}

/* Had the member that is looked for this one's address, before this one takes or took its place? */
static bool had_this_address(const struct peers *peers, uint64_t id)
{
	const struct peer *peer = find_peer(peers, id);

	return was_removed(peers, id) || (peer && peer_urls_meet(&peer->known, &peers->own));
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
	} else if (was_removed(peers, hello->from)) {
		refuse_removed(peers, req, hello->from);
	} else if (!read_urls(peers, req, &hello->urls)) {
		return false;
	} else if (!find_peer(peers, hello->from) && !check_stranger(peers, req, hello)) {
		return false;
	} else if (!kind || !(slice_is(*kind, kind_names[SMALL]) || slice_is(*kind, kind_names[BULK]))) {
		refuse(peers, req, 400, "X-Peer-Stream must be small or bulk");
	} else {
		hello->kind = slice_is(*kind, kind_names[BULK]) ? BULK : SMALL;
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

static void accept_stream(struct peers *peers, struct http_request *req)
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
			free_incoming(older);
	}
	peer = find_peer(peers, hello.from);
	if (!peer)
		peer = add_stranger(peers, hello.from, hello.urls.items[0]);
	if (hello.urls.count)
		set_urls(&peer->said, &hello.urls);
	incoming = mem_new(struct incoming);
	incoming->peers = peers;
	incoming->from = hello.from;
	incoming->kind = hello.kind;
	options.user = incoming;
	incoming->stream = stream_new(stream, &options, buf_slice(&unread));
	list_push_back(&peers->incoming, &incoming->link);
	call_again(peer);
}

static void on_request(struct http_request *req, void *user)
{
	struct peers *peers = user;

	if (slice_is(req->path, PEER_PATH))
		accept_stream(peers, req);
	else
		peers->options.on_request(req, peers->options.user);
}

static void on_limit(enum http_limit limit, const char *text, void *user)
{
	(void)limit;
	(void)user;
	log_warning("peer URLs: %s", text);
}

/* ---- Life ---- */

struct peers *peers_new(const struct peers_options *options)
{
	struct peers *peers = mem_new(struct peers);
	struct http_server_options server = {.on_request = on_request,
		.user = peers,
		.max_connections =
			options->max_connections ? options->max_connections : PEERS_CONNECTIONS_MAX,
		.max_body_bytes = REQUEST_BYTES_MAX,
		.max_head_bytes = REQUEST_BYTES_MAX,
		.head_timeout_ms = HEAD_TIMEOUT_MS,
		.on_limit = on_limit};

	peers->options = *options;
	if (!peers->options.election_ms)
		peers->options.election_ms = 1000;
	list_init(&peers->list);
	list_init(&peers->incoming);
	set_own(peers, NULL);
	peers->server = http_server_new(options->loop, &server);
	peers->client = http_client_new(options->loop, NULL);
	return peers;
}

int peers_listen(struct peers *peers, const char *text, uint16_t *ret_port, struct buf *reterr)
{
	_cleanup_url_ struct url url = {0};
	int r = url_parse(text, &url, reterr);

	if (r < 0)
		return r;
	if (url.scheme != URL_HTTP) {
		buf_printf(reterr, "peer URL %s: only http is supported yet", text);
		return -EPROTONOSUPPORT;
	}
	return http_server_listen_tcp(peers->server, url.host, url.port, ret_port, reterr);
}

void peers_get_counts(const struct peers *peers, struct peers_counts *ret_counts)
{
	*ret_counts = peers->counts;
	list_for_each (it, &peers->list) {
		ret_counts->strangers += list_item(it, struct peer, link)->stranger;
	}
}

struct peers *peers_free(struct peers *peers)
{
	if (!peers)
		return NULL;
	list_for_each_safe (it, &peers->list) {
		free_peer(list_item(it, struct peer, link));
	}
	list_for_each_safe (it, &peers->incoming) {
		free_incoming(list_item(it, struct incoming, link));
	}
	peer_urls_done(&peers->own);
	http_client_close(peers->client, NULL, NULL);
	http_server_close(peers->server, NULL, NULL);
	return mem_free(peers);
}
