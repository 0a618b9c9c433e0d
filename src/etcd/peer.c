/* The set of peers, and the port that they connect to. */
#include "etcd/peer_internal.h"
#include "io/url.h"
#include <errno.h>

enum {
	COMPLAIN_EVERY_MS = 60 * 1000,
	REQUEST_BYTES_MAX = 16 * 1024, /* of what is no stream */
	HEAD_TIMEOUT_MS = 5000,
};

uint64_t peers_now_ms(const struct peers *peers)
{
	return uv_now(peers->options.loop);
}

bool peers_may_complain(const struct peers *peers, uint64_t *last_ms)
{
	uint64_t now = peers_now_ms(peers);

	if (*last_ms && now - *last_ms < COMPLAIN_EVERY_MS)
		return false;
	*last_ms = MAX(now, (uint64_t)1);
	return true;
}

struct peer *peers_find(const struct peers *peers, uint64_t id)
{
	list_for_each (it, &peers->list) {
		struct peer *peer = list_item(it, struct peer, link);

		if (peer->id == id)
			return peer;
	}
	return NULL;
}

bool peers_was_removed(const struct peers *peers, uint64_t id)
{
	return peers->options.was_removed && peers->options.was_removed(id, peers->options.user);
}

/* What the others are told: where the membership has this member, and where it is configured to be. One that
 * was moved while it was down does not know so yet, and the membership alone would name its old place. */
static void set_own(struct peers *peers, const char *const *urls)
{
	struct peer_urls own = {0};

	peer_urls_add(&own, urls);
	peer_urls_add(&own, (const char *const *)peers->options.own_urls);
	peer_urls_move(&peers->own, &own);
}

/* It is a member. */
static void want_peer(struct peers *peers, const struct peer_address *address)
{
	struct peer *peer = peers_find(peers, address->id);
	struct peer_urls known = {0};

	peer_urls_add(&known, address->urls);
	if (!known.count)
		return;
	if (!peer)
		peer = peers_add(peers, address->id);
	else if (peer->stranger)
		log_info("member %llx, which was a stranger, is known now", (unsigned long long)peer->id);
	peer_urls_move(&peer->known, &known);
	peer->wanted = true;
	peer->stranger = false;
	/* Whoever takes it for a member only now takes it to be connected. */
	peers->options.on_state(peer->id, peer->told_connected, peers->options.user);
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

		if (!peer->wanted && (!peer->stranger || peers_was_removed(peers, peer->id)))
			peer_free(peer);
	}
	list_for_each_safe (it, &peers->incoming) {
		struct incoming *incoming = list_item(it, struct incoming, link);

		if (!peers_find(peers, incoming->from))
			incoming_free(incoming);
	}
}

bool peers_send(struct peers *peers, uint64_t to, struct slice message, bool bulk)
{
	struct peer *peer = peers_find(peers, to);
	struct line *line = peer ? &peer->lines[bulk ? PEER_BULK : PEER_SMALL] : NULL;

	if (!line || line->state != LINE_OPEN || stream_send(line->stream, message) < 0) {
		peers->counts.dropped++;
		return false;
	}
	peers->counts.sent_bulk += bulk;
	peers->counts.sent_bytes += message.len;
	return true;
}

static void on_request(struct http_request *req, void *user)
{
	struct peers *peers = user;

	if (slice_is(req->path, PEER_PATH))
		peers_accept(peers, req);
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
		peer_free(list_item(it, struct peer, link));
	}
	list_for_each_safe (it, &peers->incoming) {
		incoming_free(list_item(it, struct incoming, link));
	}
	peer_urls_done(&peers->own);
	http_client_close(peers->client, NULL, NULL);
	http_server_close(peers->server, NULL, NULL);
	return mem_free(peers);
}
