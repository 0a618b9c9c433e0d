/* The running server, as its own files see it: routes, key requests, statistics. Loop's thread. */
#pragma once
#include "base/list.h"
#include "etcd/config.h"
#include "etcd/server_env.h"
#include "io/http_server.h"
#include "node/node.h"
#include "store/store.h"
#include <uv.h>

struct server {
	uv_loop_t *loop;
	const struct config *config;
	struct node *node;
	struct http_server *clients;
	uint64_t member_id, cluster_id;
	char cluster_id_text[24];
	int64_t start_wall_ns;
	struct list readings;  /* large answers that can go on: struct reading.link */
	struct list stalled;   /* those whose client is slow, by the time since when */
	struct list postponed; /* reads that wait for a place among them: struct postponed.link */
	size_t reading_count, postponed_count, watch_count;
	size_t watch_max; /* of the places for connections: the others are for what is answered soon */
	int64_t told_readings_ns, told_watches_ns; /* in the log */
	struct list watchings;			   /* struct watching.link */
	struct list endings; /* struct watching.link: answers that end soon, their store is gone */
	struct list held;    /* writes that came before the cluster's own events: struct keys_op.link */
	struct server_env *env;
	void (*wake)(struct server
			*server); /* the node was asked something: it wants a turn before the loop sleeps */
	struct buf scratch;	  /* for what is put together and used up in one call */
	struct arena forms;	  /* the same for what is taken apart */
	int argc;
	char **argv;
};

/* The one entry for client requests (http_server_options.on_request, user = server). */
void route_request(struct http_request *req, void *user);
/* What its body may have (http_server_options.body_ceiling). */
size_t route_body_ceiling(const struct http_request *req, void *user);
/* The node's answer to a request that a route gave it (env->reply). */
void route_reply(void *request, const struct node_reply *reply);

/* keys.c */
void keys_serve(struct server *server, struct http_request *req, struct slice key);
/* Lets go of writes that waited for the cluster's own first events. */
void keys_release(struct server *server);
int64_t keys_due_ns(const struct server *server); /* when one gives up waiting, in time_mono_ns() */
/* Before the first request. max_connections: what the server of clients has. */
void keys_init(struct server *server, size_t max_connections);
/* The node's state is about to be replaced: watches end, their clients come again. */
void keys_store_leaving(struct server *server, struct store *store);
/* Ends some of the answers of watches whose store is gone, each a write to a socket; true: call again soon.
 */
bool keys_end_watches(struct server *server);
bool keys_continue(struct server *server); /* goes on with large answers; true: call again soon */

/* A question to the node on behalf of a request: what node_propose() and node_read_index() are given. It
 * lives in the request's arena; when the client goes away the node forgets it. */
struct question {
	struct server *server;
	struct http_request *req;
	void (*answered)(struct question *question, const struct node_reply *reply);
};
void question_begin(struct question *question); /* before the node is asked: sets the request's on_cancel */

/* snapshot_serve.c */
void snapshot_serve(struct server *server, struct http_request *req, struct slice rest);

/* members.c */
void members_serve(struct server *server, struct http_request *req, struct slice rest);
void members_serve_own(struct server *server, struct http_request *req, struct slice rest);
void members_machines(struct server *server, struct http_request *req, struct slice rest);

/* status.c: what a member says about itself */
void status_version(struct server *server, struct http_request *req, struct slice rest);
void status_health(struct server *server, struct http_request *req, struct slice rest);
void status_self(struct server *server, struct http_request *req, struct slice rest);
void status_store(struct server *server, struct http_request *req, struct slice rest);
void status_leader(struct server *server, struct http_request *req, struct slice rest);
void status_metrics(struct server *server, struct http_request *req, struct slice rest);
void status_vars(struct server *server, struct http_request *req, struct slice rest);
void status_log_level(struct server *server, struct http_request *req, struct slice rest);
void status_auth(struct server *server, struct http_request *req, struct slice rest);

/* Answers in the original's forms. */
void reply_json(struct http_request *req, int status, struct slice body);
void reply_message(struct server *server, struct http_request *req, int status,
	const char *text); /* {"message":"..."}; server NULL: without the cluster's id */
void reply_not_allowed(
	struct server *server, struct http_request *req, const char *allow); /* allow NULL: no such header,
									      * but the cluster's id */
