/* A client of etcd's v2 API on a libuv loop: keys, members, watches; failover between the members of a
 * cluster.
 *
 * Everything belongs to the thread of the loop. No function blocks but etcd_wait() and etcd_request_wait(),
 * for tools. Texts passed in are copied. No function fails for want of memory (the process ends).
 *
 * Failover: requests go to the endpoint that answered last; when it cannot be reached the next one is tried,
 * each at most once per request. A write (anything but a GET) moves on only while it is certain that no byte
 * of it was sent: a write that may have been executed is never sent twice, its outcome is ETCD_UNKNOWN. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct etcd_client;
struct etcd_request;
struct etcd_watch;

enum etcd_outcome {
	ETCD_OK,	  /* the server did it */
	ETCD_REFUSED,	  /* the server answered with an error: code, message, cause (nothing was changed) */
	ETCD_UNREACHABLE, /* no endpoint answered; a write was certainly not executed */
	ETCD_UNKNOWN,	  /* a write was sent and no usable answer came: it may or may not have happened */
	ETCD_BAD_ANSWER,  /* the answer of a read was not etcd's, or larger than the limit */
	ETCD_OUTCOME_MAX,
};

/* The codes of etcd's errors that callers act on. */
enum etcd_code {
	ETCD_KEY_NOT_FOUND = 100,
	ETCD_COMPARE_FAILED = 101,
	ETCD_NOT_A_FILE = 102,
	ETCD_NOT_A_DIRECTORY = 104,
	ETCD_KEY_EXISTS = 105,
	ETCD_DIRECTORY_NOT_EMPTY = 108,
	ETCD_UNAUTHORIZED = 110,
	ETCD_RAFT_ERROR = 300,
	ETCD_HISTORY_CLEARED = 401,
};

struct etcd_node {
	const char *key;   /* "" for the root */
	const char *value; /* NULL for directories and deleted nodes */
	size_t value_len;
	const char *expiration; /* as the server wrote it, or NULL */
	int64_t ttl_s;		/* 0 when absent */
	uint64_t modified_index, created_index;
	struct etcd_node *nodes;
	size_t node_count;
	bool dir;
};

struct etcd_member {
	const char *id, *name; /* name "": not started yet */
	const char *const *peer_urls, *const *client_urls;
	size_t peer_url_count, client_url_count;
};

struct etcd_attempt {
	const char *endpoint; /* "http://host:port" or "https://…" */
	const char *error;    /* "dial tcp 127.0.0.1:2379: connect: connection refused" */
	bool timed_out;
};

/* One answer, shared by counting references; every pointer in it lives as long as it does. */
struct etcd_response {
	enum etcd_outcome outcome;
	int status;				  /* HTTP status of the last answer, 0 when none came */
	const char *action;			  /* "get", "set", "expire", ... or NULL */
	const struct etcd_node *node, *prev_node; /* NULL when absent */
	uint64_t etcd_index; /* X-Etcd-Index: for a watch, the index when the watch began */
	uint64_t raft_index, raft_term;
	const char *cluster_id; /* or NULL */
	/* The server's error; code 0 when it gave none (members and auth answer with a message only). */
	int code;
	const char *message, *cause; /* "" when absent */
	uint64_t error_index;
	/* What to tell a user when outcome is not ETCD_OK, one line: "100: Key not found (/foo) [7]", or what
	 * went wrong with the connections. "" otherwise. */
	const char *error_text;
	const char *endpoint;		     /* who answered, or NULL */
	const struct etcd_attempt *attempts; /* endpoints that failed before, in the order tried */
	size_t attempt_count;
	const struct etcd_member *members; /* answers of etcd_members() */
	size_t member_count;
	const char *body; /* the bytes of the answer, NUL-terminated; "" when none came */
	size_t body_len;
};

struct etcd_response *etcd_response_ref(const struct etcd_response *response);
struct etcd_response *etcd_response_unref(struct etcd_response *response); /* answers NULL; accepts NULL */

/* Last segment of the key. */
const char *etcd_node_name(const struct etcd_node *node);
/* The child of that name, or NULL. Linear. */
const struct etcd_node *etcd_node_child(const struct etcd_node *node, const char *name);
/* Whether the server answered with that error. ETCD_RAFT_ERROR comes with outcome ETCD_UNKNOWN: the members
 * could not agree in time, and the write may still happen. */
bool etcd_response_is(const struct etcd_response *response, enum etcd_code code);

/* ---- client ---- */

struct etcd_client_options {
	const char *endpoints; /* comma separated "http://host:port", "https://…" or "host:port"; NULL or "":
				  127.0.0.1:2379 and :4001 */
	bool shuffle;	       /* try the endpoints in random order instead of the given one */
	int64_t timeout_ms;    /* one attempt, from its start to the whole answer; 0: 5000 */
	int64_t total_timeout_ms;	 /* one request over all its attempts; 0: 15000 */
	int64_t connect_timeout_ms;	 /* one connection; 0: 1000 */
	size_t response_max_bytes;	 /* 0: 256 MiB */
	const char *username, *password; /* basic authentication, or NULL */
	const char *key_prefix;		 /* put before every key, or NULL */
	/* PEM files for https, NULL or "" for none: whose signature a server must have (else the system's
	 * authorities'), and the certificate and key to show it. */
	const char *ca_file, *cert_file, *key_file;
	/* Called with each request that goes out, e.g. to print it; may be NULL. body may be NULL. */
	void (*trace)(const char *method, const char *url, const char *body, void *userdata);
	void *trace_userdata;
};

/* 0 and the client, or -EINVAL with a message in ret_error (free() it; may be NULL) when an endpoint is
 * malformed or a file cannot be used. options may be NULL. The loop must outlive the client. */
int etcd_client_new(uv_loop_t *loop, const struct etcd_client_options *options,
	struct etcd_client **ret_client, char **ret_error);
/* Cancels all requests and watches (their callbacks are not called) and closes the connections; the memory is
 * given back while the loop runs on. Accepts NULL, answers NULL. */
struct etcd_client *etcd_client_free(struct etcd_client *client);
/* Replaces the endpoints (same form); requests under way go on. -EINVAL changes nothing. */
int etcd_client_set_endpoints(struct etcd_client *client, const char *endpoints);
/* Reads certificates anew (see the options) for connections that are made from now on. -EINVAL changes
 * nothing; a message in ret_error (free() it; may be NULL). */
int etcd_client_read_files(struct etcd_client *client, const char *ca_file, const char *cert_file,
	const char *key_file, char **ret_error);
size_t etcd_client_endpoint_count(const struct etcd_client *client);
const char *etcd_client_endpoint(const struct etcd_client *client, size_t position);
/* The loop that the client was made with. */
uv_loop_t *etcd_client_loop(const struct etcd_client *client);

/* ---- requests ----
 * Each calls `fn` exactly once, from the loop and never before the function has returned, unless it is
 * cancelled. The response is borrowed during the call (etcd_response_ref() keeps it). The handle is valid
 * until fn returns. fn may be NULL: then etcd_request_wait() must be called. fn may start requests, cancel
 * others, and free the client. */
typedef void etcd_response_fn(const struct etcd_response *response, void *userdata);

struct etcd_get_options {
	bool recursive, sorted, quorum;
	/* Not NULL: the answer is told piece by piece as it comes, and not kept: a tree of any size takes
	 * neither memory nor a long turn of the loop. First comes NULL for a node: the telling begins
	 * (perhaps once more: what an attempt told that broke off is void); then each file, and each
	 * directory with nothing in it, in the answer's order; then fn with a response that has no node, and
	 * perhaps an error. `head` has status and indexes. timeout_ms is then the longest pause. May not
	 * cancel the request nor free the client. */
	void (*each)(const struct etcd_response *head, const struct etcd_node *node, void *userdata);
};
struct etcd_request *etcd_get(struct etcd_client *client, const char *key,
	const struct etcd_get_options *options, etcd_response_fn *fn, void *userdata);

enum etcd_prev_exist { ETCD_PREV_IGNORE, ETCD_PREV_EXIST, ETCD_PREV_NO_EXIST };
struct etcd_put_options {
	const char *value; /* NULL: none is sent */
	size_t value_len;  /* 0: strlen(value) */
	int64_t ttl_s;	   /* 0: none */
	enum etcd_prev_exist prev_exist;
	const char *prev_value; /* NULL or "": not compared */
	uint64_t prev_index;	/* 0: not compared */
	bool dir;
	bool refresh; /* new ttl_s only: keeps the value and wakes no watcher */
};
/* PUT: set, create, update, compare-and-swap, refresh, mkdir: as the options say. */
struct etcd_request *etcd_put(struct etcd_client *client, const char *key,
	const struct etcd_put_options *options, etcd_response_fn *fn, void *userdata);
/* Shorthands: the plain set (ttl_s 0: for ever), the create (105 when it exists), the refresh of a key's TTL.
 */
struct etcd_request *etcd_set(struct etcd_client *client, const char *key, const char *value, int64_t ttl_s,
	etcd_response_fn *fn, void *userdata);
struct etcd_request *etcd_create(struct etcd_client *client, const char *key, const char *value,
	int64_t ttl_s, etcd_response_fn *fn, void *userdata);
struct etcd_request *etcd_refresh(
	struct etcd_client *client, const char *key, int64_t ttl_s, etcd_response_fn *fn, void *userdata);
/* POST: a child of `key` whose name is the next index. Uses value, value_len, ttl_s, dir. */
struct etcd_request *etcd_create_in_order(struct etcd_client *client, const char *key,
	const struct etcd_put_options *options, etcd_response_fn *fn, void *userdata);

struct etcd_delete_options {
	bool recursive, dir;
	const char *prev_value; /* NULL or "": not compared */
	uint64_t prev_index;
};
struct etcd_request *etcd_delete(struct etcd_client *client, const char *key,
	const struct etcd_delete_options *options, etcd_response_fn *fn, void *userdata);

struct etcd_request *etcd_members(struct etcd_client *client, etcd_response_fn *fn, void *userdata);
/* Asks for the members and uses their advertised client URLs from then on (when there are any). */
struct etcd_request *etcd_sync(struct etcd_client *client, etcd_response_fn *fn, void *userdata);

struct etcd_raw_request {
	const char *method;	  /* "GET", ... */
	const char *target;	  /* path and query, already escaped: "/v2/stats/self" */
	const char *content_type; /* or NULL */
	const char *body;	  /* or NULL */
	size_t body_len;	  /* 0: strlen(body) */
	const char *endpoint;	  /* "http://host:port" to ask only that one, or NULL */
	int64_t timeout_ms;	  /* instead of the client's timeouts; 0: those */
};
/* Any other path: outcome is ETCD_OK for 2xx and ETCD_REFUSED for other statuses; read status and body. */
struct etcd_request *etcd_raw(
	struct etcd_client *client, const struct etcd_raw_request *raw, etcd_response_fn *fn, void *userdata);

/* fn will not be called. A write that was sent may still happen. Harmless inside the request's own fn.
 * Accepts NULL, answers NULL. */
struct etcd_request *etcd_request_cancel(struct etcd_request *request);

/* For tools: run the loop until the client has no request under way (watches do not count), or until this
 * request (made with fn NULL) has its answer, which the caller owns. Not from inside a callback. */
void etcd_wait(struct etcd_client *client);
struct etcd_response *etcd_request_wait(struct etcd_request *request);

/* ---- watches ----
 * Delivers each event of a key (recursive: of everything below it too) once and in order, over reconnects and
 * failovers. fn may close the watch. */
enum etcd_watch_news {
	ETCD_WATCH_OPEN,    /* the first server is listening, once: response->etcd_index is the index when it
			     * began. A    read that is started now misses nothing: apply events with an index
			     * above    its own */
	ETCD_WATCH_EVENT,   /* one event: action, node, prev_node; node->modified_index is its index */
	ETCD_WATCH_CLEARED, /* events were lost (history cleared, or a stream was cut): read again. The watch
			     * goes on by itself from now, with ETCD_WATCH_OPEN first: start the read there */
	ETCD_WATCH_OUTAGE, /* the connection failed and is being retried with growing pauses; for information:
			    * error_text says why. Nothing is lost unless ETCD_WATCH_CLEARED follows */
	ETCD_WATCH_REFUSED, /* the server refuses the watch (e.g. 110); it is retried like an outage */
	ETCD_WATCH_NEWS_MAX,
};
typedef void etcd_watch_fn(struct etcd_watch *watch, enum etcd_watch_news news,
	const struct etcd_response *response, void *userdata);

struct etcd_watch_options {
	bool recursive;
	bool stream; /* one answer that never ends, instead of one request per event: for busy trees. From now
		      * only (after_index must be 0), and a cut stream always means ETCD_WATCH_CLEARED */
	uint64_t after_index;	/* events with a greater index; 0: from now */
	int64_t backoff_max_ms; /* longest pause between attempts; 0: 5000 */
};
struct etcd_watch *etcd_watch_open(struct etcd_client *client, const char *key,
	const struct etcd_watch_options *options, etcd_watch_fn *fn, void *userdata);
/* No callback follows. Accepts NULL, answers NULL. */
struct etcd_watch *etcd_watch_close(struct etcd_watch *watch);
/* Index of the last event delivered, or where the watch stands before the first. */
uint64_t etcd_watch_index(const struct etcd_watch *watch);
