/* What requests and watches share of a client. Loop's thread. */
#pragma once
#include "base/list.h"
#include "base/rng.h"
#include "etcdclient/response.h"
#include "flotilla/etcd.h"
#include "io/http_client.h"

struct etcd_client {
	uv_loop_t *loop;
	struct http_client *http;
	char **endpoints; /* owned, in the order to try them */
	size_t endpoint_count;
	size_t current; /* the endpoint that answered last */
	bool shuffle;
	struct rng rng;
	int64_t timeout_ms, total_timeout_ms, connect_timeout_ms;
	size_t response_max_bytes;
	char *authorization; /* owned; value of the header, or NULL */
	char *key_prefix;    /* owned, or NULL */
	void (*trace)(const char *method, const char *url, const char *body, void *userdata);
	void *trace_userdata;
	struct list requests, watches;
};

/* Requests to endpoints at that host and port go by the Unix socket from here on (see http_client_route()).
 */
void client_route(struct etcd_client *client, const char *host, uint16_t port, const char *unix_path);
/* Makes that endpoint the first to be asked, if it is still one of ours. */
void client_prefer(struct etcd_client *client, const char *endpoint);
/* The endpoints that `members` advertise replace the client's, unless none is usable. */
void client_use_members(struct etcd_client *client, const struct etcd_response *members);

/* One HTTP request to one endpoint. */
struct client_send {
	const char *endpoint, *method, *target, *content_type;
	struct slice body;
	int64_t timeout_ms; /* of the whole answer; 0: of its head only */
	int64_t pause_ms;   /* without timeout_ms: of the head, and of each pause in the body */
	void (*on_head)(struct http_call *call, const struct http_response *response, void *user);
	void (*on_body)(struct http_call *call, struct slice piece, void *user);
	void (*on_done)(struct http_call *call, int error, const char *text,
		const struct http_response *response, void *user);
	void *user;
};
struct http_call *client_send(struct etcd_client *client, const struct client_send *send);
void client_take_head(struct response *response, const char *endpoint, const struct http_response *http);

void request_abandon(struct etcd_request *request); /* cancels and frees */
void watch_abandon(struct etcd_watch *watch);
DEFINE_CLEANUP(struct etcd_response *, etcd_response_unref)
#define _cleanup_response_ _cleanup_(etcd_response_unrefp)
