/* The node's real world (node/env.h): clocks, the log directory with its writer threads, and the peers.
 * Loop's thread. */
#pragma once
#include "base/buf.h"
#include "etcd/peer.h"
#include "node/node.h"
#include <uv.h>

struct server_env;

struct server_env_options {
	uv_loop_t *loop;
	const char *log_path; /* the directory of the log; it exists */
	uint64_t cluster_id, member_id;
	char *const *listen_peer_urls;	  /* http URLs, NULL-terminated */
	char *const *advertise_peer_urls; /* the same; where others are to reach this member */
	size_t max_peer_connections;	  /* besides those of connected members; 0: PEERS_CONNECTIONS_MAX */
	uint64_t election_ms;		  /* paces reconnecting; 0: 1000 */
	/* Members to speak to as long as the node does not know of itself: it joins, and got nothing yet. */
	const struct peer_address *seeds;
	size_t seeds_len;
	/* env->reply: the answer to a request given to the node. */
	void (*on_reply)(void *request, const struct node_reply *reply);
	/* env->store_leaving. */
	void (*on_store_leaving)(struct store *store, void *user);
	/* The node was given an event (a message, a disk's answer): it wants a turn before the loop sleeps.
	 * Called from the loop's callbacks, never from inside the node. */
	void (*on_event)(void *user);
	void *user;
};
/* Starts the writer threads and listens for peers; what they send waits for server_env_attach(). -errno with
 * a text in reterr. The options' texts are borrowed as long as it lives. */
int server_env_new(const struct server_env_options *options, struct server_env **ret_env,
	struct buf *reterr) _must_check_;
struct env *server_env_base(struct server_env *env);
/* The node that was opened with it: from now on peers are connected to and events are handed in. */
void server_env_attach(struct server_env *env, struct node *node);
/* Waits for the disk, closes the connections, frees; then the loop may still have closing handles to run. */
struct server_env *server_env_free(struct server_env *env);

struct server_env_counts {
	uint64_t received_appends, sent_appends; /* messages that carry entries */
	uint64_t received_bytes, sent_bytes;	 /* of all messages */
	uint64_t dropped;			 /* messages that found no way */
	uint64_t strangers;			 /* that are connected now (etcd/peer.h) */
	uint64_t writes, write_bytes, syncs;	 /* of the log */
	uint64_t sync_ns;			 /* spent in fdatasync */
};
void server_env_get_counts(const struct server_env *env, struct server_env_counts *ret_counts);
