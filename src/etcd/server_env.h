/* The world as the server's node sees it: clocks, the disk through a writer thread, the other members over
 * the peer ports, answers to requests. What it starts it hands to the node when it is done (node_disk_done,
 * node_receive, node_peer_state), in the loop's thread, and then says so by on_event: the server runs the
 * node's turn. */
#pragma once
#include "base/buf.h"
#include "node/node.h"
#include <uv.h>

struct server_env;

struct server_env_options {
	uv_loop_t *loop;
	const char *log_path; /* directory of the log; exists */
	uint64_t cluster_id, member_id;
	char *const *listen_peer_urls; /* NULL-terminated, http://host:port */
	void (*on_reply)(void *request, const struct node_reply *reply); /* env->reply */
	void (*on_event)(void *user); /* the node was handed something: it wants a turn */
	void *user;
};
/* Listens on the peer URLs and starts the writer. -errno with a message in reterr. The texts are borrowed
 * until server_env_free(). */
int server_env_new(const struct server_env_options *options, struct server_env **ret_env,
	struct buf *reterr) _must_check_;
struct env *server_env_base(struct server_env *env); /* what node_open() takes */
void server_env_attach(
	struct server_env *env, struct node *node); /* after node_open(): from now on events flow */
/* Stops the writer after the plan that is under way, closes what is open. The node is not called any more. */
struct server_env *server_env_free(struct server_env *env);

struct server_env_counts {
	uint64_t received_appends, sent_appends; /* messages with entries, from and to other members */
	uint64_t received_bytes, sent_bytes;
};
void server_env_get_counts(const struct server_env *env, struct server_env_counts *ret_counts);
