/* The way to the other members, and from them: HTTP on the peer URLs, upgraded to frames (io/stream.h). Each
 * member connects to each other one and only sends on its own connections; messages come in on the others'.
 *
 *     GET /flotilla/peer HTTP/1.1            HTTP/1.1 101 Switching Protocols
 *     Connection: Upgrade                    Connection: Upgrade
 *     Upgrade: flotilla-peer/1               Upgrade: flotilla-peer/1
 *     X-Etcd-Cluster-ID: <hex>
 *     X-Server-From: <hex>
 *     X-Server-To: <hex>
 *     X-Peer-Stream: small | bulk
 *     X-PeerURLs: <URL>,<URL>...
 *
 * A member of another cluster, of another version of this protocol, or with another id than expected is
 * refused with a clear answer, and its operator told so once a minute. One that was removed is answered 410
 * with its id in X-Flotilla-Removed, so that it learns of it and stops. Two connections lead to each peer,
 * one for small messages and one for bulk, so that heartbeats never wait behind entries. Queues are bounded:
 * what does not fit is dropped, which raft repairs. Loop's thread.
 *
 * A member that was away while the membership changed has to take the log from a leader that it may not know
 * as a member, or at another address. So each says in X-PeerURLs where it is to be answered, and
 *   - a member is tried at these URLs too, by turns with those of the membership;
 *   - one that is not known, and not known to be removed, is a stranger: taken messages from and answered as
 *     long as it is connected, until it turns out to be a member or one that was removed.
 * As with all on this port, who knows the cluster's id and a member's is believed. What it gets for it is
 * bounded: PEERS_STRANGERS_MAX strangers at a time, of which the one that was silent longest makes room, as
 * many new ones a second, two connections to each at a time, and ever slower tries to make them. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"
#include "io/http_server.h"
#include <uv.h>

struct peers;

#define PEER_PROTOCOL "flotilla-peer/1"
/* On the peer URLs, apart from members that are connected: those come and go by two each. */
#define PEERS_CONNECTIONS_MAX 256
#define PEERS_STRANGERS_MAX 8

struct peers_options {
	uv_loop_t *loop;
	uint64_t cluster_id, member_id;
	char *const *own_urls; /* as configured, NULL-terminated; told to others beside those of the
				  membership; borrowed; may be NULL */
	size_t max_message_bytes;
	size_t max_connections; /* 0: PEERS_CONNECTIONS_MAX */
	uint64_t election_ms; /* a connection on which nothing was heard of for so long twice is made anew */
	/* One whole message; borrowed for the call. `from` is who the connection belongs to. Negative: it
	 * makes no sense, and the connection is closed. */
	int (*on_message)(uint64_t from, struct slice message, void *user);
	/* A peer can be reached, or no longer; may be told again. */
	void (*on_state)(uint64_t id, bool connected, void *user);
	/* Was this one a member once, and may it be told so? NULL: not known. */
	bool (*was_removed)(uint64_t id, void *user);
	/* The member `by` of this cluster says that this one was removed. */
	void (*on_removed)(uint64_t by, void *user);
	/* Any other request on the peer URLs; to be answered. */
	void (*on_request)(struct http_request *req, void *user);
	void *user;
};
struct peers *peers_new(const struct peers_options *options);
/* -errno with a text. `url`: "http://host:port". */
int peers_listen(struct peers *peers, const char *url, uint16_t *ret_port, struct buf *reterr) _must_check_;
/* The members to connect to are exactly these from now on, beside strangers. urls: tried in turn; those of
 * the own id are what is told to others. */
struct peer_address {
	uint64_t id;
	const char *const *urls; /* NULL-terminated; copied */
};
void peers_set(struct peers *peers, const struct peer_address *addresses, size_t count);
/* Sends one message, or drops it: then false. The bytes are copied. */
bool peers_send(struct peers *peers, uint64_t to, struct slice message, bool bulk);
struct peers_counts {
	uint64_t received_bulk, sent_bulk; /* messages */
	uint64_t received_bytes, sent_bytes, dropped;
	size_t strangers; /* now */
};
void peers_get_counts(const struct peers *peers, struct peers_counts *ret_counts);
/* Closes all; the loop must run until the handles are closed. NULL is fine; answers NULL. */
struct peers *peers_free(struct peers *peers);
