/* The API over io's HTTP client, run to completion call by call. Errors read as the original's (Go's net/http
 * and googleapi), since scripts and people know them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "etcdclient/target.h"
#include "fleetctl/fleetctl.h"
#include "io/tls.h"
#include "io/url.h"

#define CLIENT_TIMEOUT_MIN_MS 10000

const char *ctl_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

uint32_t ctl_timeout_ms(const struct fleetctl *ctl)
{
	return (uint32_t)MAX(ctl->options.request_timeout * 1000, (double)CLIENT_TIMEOUT_MIN_MS);
}

/* ---- where the API is ---- */

static int open_unix(struct fleetctl *ctl, const char *rest, const char *scheme, struct buf *reterr)
{
	const char *slash = strchr(rest, '/');

	if (rest[0] != '/') {
		buf_printf(reterr, "unable to connect to host \"%.*s\" with scheme \"%s\"",
			slash ? (int)(slash - rest) : (int)strlen(rest), rest, scheme);
		return -EINVAL;
	}
	ctl->unix_path = mem_strdup(rest);
	ctl->base = mem_strdup("http://domain-sock");
	return 0;
}

/* Through --tunnel to the one API; `url`: where it is, unless at ctl->unix_path. */
static int open_tunnel(struct fleetctl *ctl, const struct url *url, struct buf *reterr)
{
	_cleanup_(ctl_words_done) struct ctl_words far = {0};
	int r = ctl_sockets_make(ctl, 1, reterr);

	if (r < 0)
		return r;
	ctl_words_take(&far, ctl->unix_path ? ctl_tunnel_to_path(ctl->unix_path) : ctl_tunnel_to_host(url));
	r = ctl_tunnel_open(ctl, &far, reterr);
	if (r < 0)
		return r;
	if (!ctl->unix_path) {
		http_client_route(ctl->http, url->host, url->port, ctl->sockets.items[0]);
		return 0;
	}
	free(ctl->unix_path);
	ctl->unix_path = mem_strdup(ctl->sockets.items[0]);
	return 0;
}

static bool has_files(const struct fleetctl_options *options)
{
	return (options->ca_file && options->ca_file[0]) || (options->cert_file && options->cert_file[0]);
}

/* --ca-file, --cert-file, --key-file. */
static int read_tls(struct fleetctl *ctl, struct tls_context **ret, struct buf *reterr)
{
	const struct tls_files files = {ctl->options.cert_file, ctl->options.key_file, ctl->options.ca_file};

	return tls_client_new(&files, false, ret, reterr);
}

/* As in 1.0: without --driver an endpoint at etcd's ports is the store. Of several the first one tells. */
static bool is_store(const struct fleetctl *ctl)
{
	const char *list = ctl->options.endpoint;
	_cleanup_free_ char *first = mem_strndup(list, strcspn(list, ","));
	_cleanup_url_ struct url url = {0};

	return !ctl->options.driver[0] && strncmp(first, "http", 4) == 0 &&
	       url_parse(first, &url, NULL) == 0 && (url.port == 4001 || url.port == 2379);
}

/* The store's endpoints, for each of which the tunnel has a socket. */
struct store_ways {
	struct url *urls;
	size_t count;
};

static void store_ways_done(struct store_ways *ways)
{
	for (size_t i = 0; i < ways->count; i++)
		url_done(&ways->urls[i]);
	free(ways->urls);
}

static int find_store(const char *endpoints, struct store_ways *ret, struct buf *reterr)
{
	char **texts;
	size_t count;
	int r = target_parse_endpoints(
		endpoints ? endpoints : TARGET_ENDPOINTS_DEFAULT, &texts, &count, reterr);

	if (r < 0)
		return r;
	ret->urls = mem_new_array(struct url, count);
	for (; ret->count < count; ret->count++) {
		r = url_parse(texts[ret->count], &ret->urls[ret->count], reterr);
		if (r < 0)
			break;
	}
	target_endpoints_free(texts, count);
	return r;
}

static int open_store_tunnel(struct fleetctl *ctl, const struct store_ways *ways, struct buf *reterr)
{
	_cleanup_(ctl_words_done) struct ctl_words far = {0};

	for (size_t i = 0; i < ways->count; i++)
		ctl_words_take(&far, ctl_tunnel_to_host(&ways->urls[i]));
	return ctl_tunnel_open(ctl, &far, reterr);
}

/* --driver=etcd: the API is served by this process itself, over the registry; the endpoints are the store's.
 */
static int open_registry(struct fleetctl *ctl, struct buf *reterr)
{
	const struct fleetctl_options *o = &ctl->options;
	/* A fleetd's socket, which is the default, is no store. */
	bool has_endpoint = strcmp(o->endpoint, FLEETCTL_ENDPOINT_DEFAULT) != 0;
	struct etcd_client_options options = {.endpoints = has_endpoint ? o->endpoint : NULL,
		.timeout_ms = ctl_timeout_ms(ctl),
		.ca_file = o->ca_file,
		.cert_file = o->cert_file,
		.key_file = o->key_file};
	_cleanup_(store_ways_done) struct store_ways ways = {0};
	const char *socket;
	int r = o->tunnel[0] ? find_store(options.endpoints, &ways, reterr) : 0;

	if (r >= 0)
		r = ctl_sockets_make(ctl, ways.count + 1, reterr);
	if (r < 0)
		return r;
	socket = ctl->sockets.items[ways.count]; /* after those of the tunnel */
	uv_loop_init(&ctl->loop);
	ctl->http = http_client_new(&ctl->loop, NULL);
	if (ways.count)
		r = open_store_tunnel(ctl, &ways, reterr);
	if (r >= 0)
		r = registry_api_open(&ctl->loop, &options, o->prefix, socket, &ctl->registry, reterr);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ways.count; i++)
		registry_api_route(
			ctl->registry, ways.urls[i].host, ways.urls[i].port, ctl->sockets.items[i]);
	return open_unix(ctl, socket, "unix", reterr);
}

int ctl_open(struct fleetctl *ctl, struct buf *reterr)
{
	_cleanup_free_ char *endpoint = mem_strdup(ctl->options.endpoint);
	char *comma = strchr(endpoint, ',');
	struct http_client_options http = {0};
	_cleanup_url_ struct url url = {0};
	int r;

	if (strcasecmp(ctl->options.driver, "etcd") == 0 || is_store(ctl))
		return open_registry(ctl, reterr);
	if (ctl->options.driver[0] && strcasecmp(ctl->options.driver, "API") != 0) {
		buf_printf(reterr, "unrecognized driver \"%s\"", ctl->options.driver);
		return -EINVAL;
	}
	if (comma) {
		*comma = '\0';
		fprintf(stderr, "WARNING: multiple endpoints provided but only the first (%s) is used\n",
			endpoint);
	}
	if (strncmp(endpoint, "unix://", 7) == 0 || strncmp(endpoint, "file://", 7) == 0) {
		r = open_unix(ctl, endpoint + 7, endpoint[0] == 'u' ? "unix" : "file", reterr);
	} else if (strncmp(endpoint, "http://", 7) == 0 || strncmp(endpoint, "https://", 8) == 0) {
		r = url_parse(endpoint, &url, reterr);
		if (r >= 0) {
			ctl->base = mem_printf(
				"%s://%s", url.scheme == URL_HTTPS ? "https" : "http", url.authority);
			if (url.scheme == URL_HTTPS)
				r = read_tls(ctl, &http.tls, reterr);
			else if (has_files(&ctl->options))
				fprintf(stderr, "WARNING: certificates are given, and %s is in the clear\n",
					endpoint);
		}
	} else {
		/* The second as Go says it. */
		buf_printf(reterr,
			strstr(endpoint, "://")
				? "unknown scheme in \"%s\": it is one of unix, file, http and https"
			: strchr(endpoint, ':')
				? "parse \"%s\": first path segment in URL cannot contain colon"
				: "URL scheme undefined in \"%s\"",
			endpoint);
		r = -EINVAL;
	}
	if (r < 0)
		return r;
	uv_loop_init(&ctl->loop);
	ctl->http = http_client_new(&ctl->loop, &http);
	(void)tls_context_unref(http.tls);
	return ctl->options.tunnel[0] ? open_tunnel(ctl, &url, reterr) : 0;
}

void ctl_close(struct fleetctl *ctl)
{
	ctl_tunnel_close(ctl);
	ctl->registry = registry_api_close(ctl->registry);
	if (ctl->http) {
		http_client_close(ctl->http, NULL, NULL);
		uv_run(&ctl->loop, UV_RUN_DEFAULT);
		uv_loop_close(&ctl->loop);
	}
	ctl_sockets_remove(ctl);
	free(ctl->tunnel);
	free(ctl->base);
	free(ctl->unix_path);
	json_decref(ctl->machines);
}

/* ---- calls ---- */

char *ctl_path(const char *before, const char *name, const char *after)
{
	struct buf path = BUF_INIT(64 * 1024);

	buf_add_str(&path, before);
	url_escape(&path, slice_str(name), URL_PART_SEGMENT);
	buf_add_str(&path, after);
	return buf_take(&path, NULL);
}

static void describe_failure(struct buf *reterr, const struct http_response *response)
{
	struct slice body = response->body;
	json_t *root = json_loadb(body.data ? body.data : "", body.len, 0, NULL);
	const char *message = ctl_text(json_object_get(root, "error"), "message");

	if (message[0])
		buf_printf(reterr, "googleapi: Error %d: %s", response->status, message);
	else
		buf_printf(reterr, "googleapi: got HTTP response code %d with body: %.*s", response->status,
			(int)body.len, body.data ? body.data : "");
	json_decref(root);
}

void ctl_trace(const struct fleetctl *ctl, const char *method, const char *url, int status)
{
	if (ctl->options.debug && status)
		fprintf(stderr, "DEBUG HTTP %s %s %d %s\n", method, url, status, http_status_text(status));
	else if (ctl->options.debug)
		fprintf(stderr, "DEBUG HTTP %s %s\n", method, url);
}

/* What came of a call: 0 with the body, or -errno with a message in Go's words. */
static int take_answer(const struct fleetctl *ctl, const char *method, const char *url, int error,
	const char *text, const struct http_response *response, json_t **ret_body, struct buf *reterr)
{
	json_error_t why;

	if (error < 0) {
		buf_printf(reterr, "%c%s \"%s\": %s", method[0],
			strcmp(method, "GET") == 0   ? "et"
			: strcmp(method, "PUT") == 0 ? "ut"
						     : "elete",
			url, text);
		return error == -ENOENT ? -ECONNREFUSED : error; /* no socket is not "no such unit" */
	}
	ctl_trace(ctl, method, url, response->status);
	if (response->status / 100 != 2) {
		describe_failure(reterr, response);
		return response->status == 404 ? -ENOENT : -EREMOTEIO;
	}
	if (ret_body && response->body.len) {
		*ret_body = json_loadb(response->body.data, response->body.len, 0, &why);
		if (!*ret_body) {
			buf_printf(reterr, "the answer of %s is no JSON: %s", url, why.text);
			return -EBADMSG;
		}
	}
	return 0;
}

static char *call_url(const struct fleetctl *ctl, const char *path)
{
	return mem_printf("%s%s%calt=json", ctl->base, path, strchr(path, '?') ? '&' : '?');
}

static const struct http_header json_header = {
	{"Content-Type", sizeof("Content-Type") - 1}, {"application/json", sizeof("application/json") - 1}};

static struct http_call_options call_options(
	const struct fleetctl *ctl, const char *method, const char *url, const char *body)
{
	return (struct http_call_options){.method = method,
		.url = url,
		.unix_path = ctl->unix_path,
		.headers = &json_header,
		.header_count = body ? 1 : 0,
		.body = slice_str(body ? body : ""),
		.connect_timeout_ms = ctl_timeout_ms(ctl),
		.header_timeout_ms = ctl_timeout_ms(ctl)};
}

int ctl_call(struct fleetctl *ctl, const char *method, const char *path, const char *body, json_t **ret_body,
	int *ret_status, struct buf *reterr)
{
	_cleanup_free_ char *url = call_url(ctl, path);
	struct http_call_options options = call_options(ctl, method, url, body);
	struct http_result result;
	int r;

	ctl_trace(ctl, method, url, 0);
	r = http_client_fetch(ctl->http, &options, &result);
	*ret_status = result.response.status;
	r = take_answer(ctl, method, url, r, result.text, &result.response, ret_body, reterr);
	http_result_done(&result);
	return r;
}

/* ---- many calls ---- */

struct call_run {
	struct fleetctl *ctl;
	struct ctl_request *requests;
	size_t count, at_once, sent, answered;
	bool stop; /* one failed: no more are sent */
};
struct call_under_way {
	struct call_run *run;
	struct ctl_request *request;
	char *url;
};

static void call_more(struct call_run *run);

static void call_done(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct call_under_way *under_way = user;
	struct call_run *run = under_way->run;
	struct ctl_request *request = under_way->request;

	(void)call;
	request->result = take_answer(run->ctl, request->method, under_way->url, error, text, response,
		&request->answer, &request->error);
	run->stop = run->stop || (request->result < 0 && request->result != -ENOENT);
	run->answered++;
	free(under_way->url);
	free(under_way);
	call_more(run);
}

static void call_more(struct call_run *run)
{
	while (!run->stop && run->sent < run->count && run->sent - run->answered < run->at_once) {
		struct ctl_request *request = &run->requests[run->sent++];
		struct call_under_way *under_way = mem_new(struct call_under_way);
		struct http_call_options options;

		*under_way = (struct call_under_way){run, request, call_url(run->ctl, request->path)};
		options = call_options(run->ctl, request->method, under_way->url, request->body);
		options.on_done = call_done;
		options.user = under_way;
		ctl_trace(run->ctl, request->method, under_way->url, 0);
		(void)http_client_send(run->ctl->http, &options);
	}
}

void ctl_call_all(struct fleetctl *ctl, struct ctl_request *requests, size_t count)
{
	/* Of few the first that was named is the first that is done, as in 1.0. */
	size_t at_once = count > FLEETCTL_CALLS_AT_ONCE ? FLEETCTL_CALLS_AT_ONCE : 1;
	struct call_run run = {.ctl = ctl, .requests = requests, .count = count, .at_once = at_once};

	for (size_t i = 0; i < count; i++) {
		requests[i].result = -ECANCELED;
		requests[i].error = BUF_INIT(64 * 1024);
	}
	uv_update_time(&ctl->loop);
	call_more(&run);
	while (run.answered < run.sent)
		(void)uv_run(&ctl->loop, UV_RUN_ONCE);
}

void ctl_requests_free(struct ctl_request *requests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(requests[i].path);
		free(requests[i].body);
		json_decref(requests[i].answer);
		buf_done(&requests[i].error);
	}
	free(requests);
}

int ctl_list(struct fleetctl *ctl, const char *path, const char *key, json_t **ret_items, struct buf *reterr)
{
	json_t *items = json_array();
	_cleanup_free_ char *token = NULL;

	for (;;) {
		_cleanup_free_ char *page =
			token ? mem_printf("%s%cnextPageToken=%s", path, strchr(path, '?') ? '&' : '?', token)
			      : mem_strdup(path);
		json_t *root = NULL;
		int status, r = ctl_call(ctl, "GET", page, NULL, &root, &status, reterr);

		if (r < 0) {
			json_decref(items);
			return r;
		}
		json_array_extend(items, json_object_get(root, key));
		free(token);
		token = ctl_text(root, "nextPageToken")[0] ? mem_strdup(ctl_text(root, "nextPageToken"))
							   : NULL;
		json_decref(root);
		if (!token)
			break;
	}
	*ret_items = items;
	return 0;
}

int ctl_unit(struct fleetctl *ctl, const char *name, json_t **ret_unit, struct buf *reterr)
{
	_cleanup_free_ char *path = ctl_path("/fleet/v1/units/", name, "");
	int status;

	return ctl_call(ctl, "GET", path, NULL, ret_unit, &status, reterr);
}

int ctl_set_desired(struct fleetctl *ctl, const char *name, const char *desired, struct buf *reterr)
{
	_cleanup_free_ char *path = ctl_path("/fleet/v1/units/", name, "");
	_cleanup_free_ char *body = mem_printf("{\"desiredState\":\"%s\"}", desired);
	int status;

	return ctl_call(ctl, "PUT", path, body, NULL, &status, reterr);
}

/* ---- machines ---- */

static void read_machines(struct fleetctl *ctl)
{
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	json_t *items = NULL, *item;
	size_t i;

	if (ctl_list(ctl, "/fleet/v1/machines", "machines", &items, &error) < 0)
		return;
	json_decref(ctl->machines);
	ctl->machines = json_object();
	json_array_foreach(items, i, item) json_object_set_new(
		ctl->machines, ctl_text(item, "id"), json_string(ctl_text(item, "primaryIP")));
	json_decref(items);
}

const char *ctl_machine_address(struct fleetctl *ctl, const char *id)
{
	if (!json_object_get(ctl->machines, id)) {
		read_machines(ctl);
		/* One that is gone is not asked for again and again. */
		if (ctl->machines && !json_object_get(ctl->machines, id))
			json_object_set_new(ctl->machines, id, json_string(""));
	}
	return json_string_value(json_object_get(ctl->machines, id));
}

char *ctl_machine_legend(struct fleetctl *ctl, const char *id, bool full)
{
	const char *address;

	if (!id[0])
		return mem_strdup("-");
	address = ctl_machine_address(ctl, id);
	return mem_printf("%.*s%s%s%s", full ? (int)strlen(id) : 8, id, full || strlen(id) <= 8 ? "" : "...",
		address && address[0] ? "/" : "", address ? address : "");
}
