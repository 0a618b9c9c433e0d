/* What the parts of the transport share: peer.c has the set of peers and their life, peer_line.c their
 * outgoing lines, peer_accept.c the incoming streams and strangers. `struct peers` owns them all; a peer ends
 * with its place in the set, a stranger with its last incoming stream. Loop's thread. */
#pragma once
#include "base/list.h"
#include "base/log.h"
#include "base/memory.h"
#include "etcd/peer.h"
#include "etcd/peer_urls.h"
#include "io/http_client.h"
#include "io/stream.h"

#define PEER_PATH "/flotilla/peer"
#define PEER_REMOVED_HEADER "X-Flotilla-Removed"
#define PEER_URLS_HEADER "X-PeerURLs"

enum peer_kind { PEER_SMALL, PEER_BULK, PEER_KINDS };
extern const char *const peer_kind_names[PEER_KINDS];

enum line_state { LINE_WAITING, LINE_CALLING, LINE_OPEN };

struct line {
	struct peer *peer;
	enum peer_kind kind;
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
	struct line lines[PEER_KINDS];
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
	enum peer_kind kind;
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

uint64_t peers_now_ms(const struct peers *peers);
/* True once a minute; `last_ms` remembers. */
bool peers_may_complain(const struct peers *peers, uint64_t *last_ms);
struct peer *peers_find(const struct peers *peers, uint64_t id); /* NULL: there is none */
bool peers_was_removed(const struct peers *peers, uint64_t id);

/* peer_line.c */
struct peer *peers_add(struct peers *peers, uint64_t id); /* its lines begin to call with the next turn */
void peer_free(struct peer *peer);
/* The peer was heard of, so it is there: do not wait any longer. But whoever says so often does not make this
 * member call as often. */
void peer_call_again(struct peer *peer);

/* peer_accept.c */
void peers_accept(struct peers *peers, struct http_request *req); /* answers it, or takes its connection */
void incoming_free(struct incoming *incoming);
