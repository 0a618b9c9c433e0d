/* What the files of the API share. */
#pragma once
#include <jansson.h>

#include "base/list.h"
#include "base/text.h"
#include "fleet/api.h"

#define API_BODY_MAX (64 * 1024 * 1024)

struct api {
	struct api_config config;
	struct http_client *peers;
	struct list waiting; /* requests that wait for the cluster to be loaded */
	struct list writes;  /* writes that wait for answers or for the mirror */
	struct list streams; /* answers that come from the manager or from a peer */
	uv_timer_t *timer;
	uint64_t start_s; /* wall clock */
	uint64_t tls_told_ms;
	struct http_server *servers[2]; /* the full one, the peers'; NULL: not made */
};

struct api_error {
	int status;
	const char *message;
};

void api_reply_json(struct http_request *req, int status, struct buf *body);
void api_reply_empty(struct http_request *req, int status, bool json_type);
void api_reply_error(struct http_request *req, int status, const char *message);
/* 503 with the reason when the answer of the store means that it cannot be reached, 500 otherwise. */
void api_reply_store_error(struct http_request *req, const struct etcd_response *response);
/* Go's wording for a body that is no JSON: "EOF", "unexpected EOF", or jansson's text. */
const char *api_json_error(struct slice body, const json_error_t *error);
/* A request's body, read as Go's decoder does: its first JSON value, whatever comes behind it. NULL: *error,
 * for api_json_error(). */
json_t *api_json_read(struct slice body, json_error_t *error);
/* The member called so, else the first that is but for upper and lower case, as Go's decoder finds it
 * ("desiredState", "DesiredState"); NULL: none, or no object. */
json_t *api_json_member(json_t *object, const char *key);

/* Reads the page token: 0 and the page (1-based), or -EINVAL with a message for a 400. */
int api_read_page(struct api *api, struct http_request *req, size_t *ret_page, const char **ret_message);
/* Adds "nextPageToken" when there is more; the token's text for that page. */
void api_add_token(struct buf *out, uint16_t limit, size_t page);

/* One write request: etcd operations in order, then an answer when the mirror has the last one. */
struct api_step {
	enum { API_STEP_SET, API_STEP_CREATE, API_STEP_DELETE_DIR } kind;
	char *key, *value; /* owned */
	bool together;	   /* sent with the one before, without waiting for its answer */
	struct api_write *write;
	struct etcd_request *request;
};
struct api_write;
struct api_write *api_write_new(struct api *api, struct http_request *req, int status, bool json_type);
void api_write_add(struct api_write *write, int kind, char *key, char *value); /* takes key and value */
void api_write_add_together(struct api_write *write, int kind, char *key, char *value);
void api_write_start(struct api_write *write);
void api_write_drop(struct api_write *write); /* before the start; the request is answered by the caller */
void api_writes_turn(struct api *api);
void api_writes_free(struct api *api);

void api_units(struct api *api, struct http_request *req, struct slice name, bool item);
void api_states(struct api *api, struct http_request *req, struct slice name, bool item);
void api_machines(struct api *api, struct http_request *req);
void api_discovery(struct http_request *req);
void api_runtime(struct api *api, struct http_request *req, struct slice rest, bool for_peers);
void api_streams_free(struct api *api);
void api_metrics(struct api *api, struct http_request *req);
