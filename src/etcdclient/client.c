/* The client: its endpoints, and sending one HTTP request to one of them. Requests (request.c) and watches
 * (watch.c) are members of its lists and decide themselves which endpoint comes next. */
#include "etcdclient/client.h"
#include "base/text.h"
#include "etcdclient/target.h"
#include "io/tls.h"
#include <errno.h>

enum {
	DEFAULT_TIMEOUT_MS = 5000,
	DEFAULT_TOTAL_TIMEOUT_MS = 15000,
	DEFAULT_CONNECT_TIMEOUT_MS = 1000,
	DEFAULT_RESPONSE_MAX_BYTES = 256 << 20,
};

static char *make_authorization(const char *username, const char *password)
{
	_cleanup_free_ char *pair = mem_printf("%s:%s", username, password ? password : "");
	struct buf text = BUF_INIT(0);

	buf_add_str(&text, "Basic ");
	text_add_base64(&text, slice_str(pair));
	return buf_take(&text, NULL);
}

static int64_t positive_or(int64_t value, int64_t otherwise)
{
	return value > 0 ? value : otherwise;
}

static int use_endpoints(struct etcd_client *client, const char *text, struct buf *error)
{
	char **endpoints;
	size_t count;
	int r = target_parse_endpoints(text, &endpoints, &count, error);

	if (r < 0)
		return r;
	for (size_t i = count; client->shuffle && i > 1; i--) {
		size_t other = rng_below(&client->rng, i);
		char *moved = endpoints[i - 1];
		endpoints[i - 1] = endpoints[other];
		endpoints[other] = moved;
	}
	target_endpoints_free(client->endpoints, client->endpoint_count);
	client->endpoints = endpoints;
	client->endpoint_count = count;
	client->current = 0;
	return 0;
}

static void client_destroy(void *user)
{
	struct etcd_client *client = user;

	target_endpoints_free(client->endpoints, client->endpoint_count);
	free(client->authorization);
	free(client->key_prefix);
	free(client);
}

static int make_tls(const struct etcd_client_options *options, struct tls_context **ret, struct buf *error)
{
	const struct tls_files files = {options->cert_file, options->key_file, options->ca_file};

	if (!tls_files_given(&files))
		return 0;
	return tls_client_new(&files, false, ret, error);
}

int etcd_client_new(uv_loop_t *loop, const struct etcd_client_options *options,
	struct etcd_client **ret_client, char **ret_error)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct etcd_client_options defaults = {0};
	struct etcd_client *client = mem_new(struct etcd_client);
	struct http_client_options http = {0};
	uint64_t seed;
	int r;

	if (!options)
		options = &defaults;
	list_init(&client->requests);
	list_init(&client->watches);
	client->loop = loop;
	client->shuffle = options->shuffle;
	rng_system(&seed, sizeof(seed));
	rng_seed(&client->rng, seed);
	client->timeout_ms = positive_or(options->timeout_ms, DEFAULT_TIMEOUT_MS);
	client->total_timeout_ms = positive_or(options->total_timeout_ms, DEFAULT_TOTAL_TIMEOUT_MS);
	client->connect_timeout_ms = positive_or(options->connect_timeout_ms, DEFAULT_CONNECT_TIMEOUT_MS);
	client->response_max_bytes =
		options->response_max_bytes ? options->response_max_bytes : DEFAULT_RESPONSE_MAX_BYTES;
	client->trace = options->trace;
	client->trace_userdata = options->trace_userdata;
	if (options->username)
		client->authorization = make_authorization(options->username, options->password);
	if (options->key_prefix)
		client->key_prefix = mem_strdup(options->key_prefix);
	r = use_endpoints(client,
		options->endpoints && options->endpoints[0] ? options->endpoints : TARGET_ENDPOINTS_DEFAULT,
		&error);
	if (r == 0)
		r = make_tls(options, &http.tls, &error);
	if (r < 0) {
		if (ret_error)
			*ret_error = mem_strdup(buf_text(&error));
		client_destroy(client);
		return r;
	}
	client->http = http_client_new(loop, &http);
	(void)tls_context_unref(http.tls);
	*ret_client = client;
	return 0;
}

int etcd_client_read_files(struct etcd_client *client, const char *ca_file, const char *cert_file,
	const char *key_file, char **ret_error)
{
	const struct etcd_client_options options = {
		.ca_file = ca_file, .cert_file = cert_file, .key_file = key_file};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct tls_context *tls = NULL;
	int r = make_tls(&options, &tls, &error);

	if (r < 0 && ret_error)
		*ret_error = mem_strdup(buf_text(&error));
	if (tls)
		http_client_set_tls(client->http, tls);
	(void)tls_context_unref(tls);
	return r;
}

struct etcd_client *etcd_client_free(struct etcd_client *client)
{
	if (!client)
		return NULL;
	list_for_each_safe (it, &client->watches)
		watch_abandon((struct etcd_watch *)it);
	list_for_each_safe (it, &client->requests)
		request_abandon((struct etcd_request *)it);
	http_client_close(client->http, client_destroy, client);
	return NULL;
}

int etcd_client_set_endpoints(struct etcd_client *client, const char *endpoints)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	return use_endpoints(client, endpoints, &error);
}

size_t etcd_client_endpoint_count(const struct etcd_client *client)
{
	return client->endpoint_count;
}

const char *etcd_client_endpoint(const struct etcd_client *client, size_t position)
{
	return position < client->endpoint_count ? client->endpoints[position] : NULL;
}

uv_loop_t *etcd_client_loop(const struct etcd_client *client)
{
	return client->loop;
}

void client_route(struct etcd_client *client, const char *host, uint16_t port, const char *unix_path)
{
	http_client_route(client->http, host, port, unix_path);
}

void client_prefer(struct etcd_client *client, const char *endpoint)
{
	for (size_t i = 0; i < client->endpoint_count; i++)
		if (!strcmp(client->endpoints[i], endpoint)) {
			client->current = i;
			return;
		}
}

void client_use_members(struct etcd_client *client, const struct etcd_response *members)
{
	_cleanup_buf_ struct buf list = BUF_INIT(1 << 20), error = BUF_INIT(4096);

	for (size_t i = 0; i < members->member_count; i++)
		for (size_t j = 0; j < members->members[i].client_url_count; j++) {
			const char *url = members->members[i].client_urls[j];
			char **parsed;
			size_t count;

			/* What came encrypted does not lead into the clear. */
			if (members->endpoint && strncmp(members->endpoint, "https:", 6) == 0 &&
				strncmp(url, "https:", 6) != 0)
				continue;
			/* One by one, so that one unusable URL does not spoil the rest. */
			if (target_parse_endpoints(url, &parsed, &count, &error) < 0)
				continue;
			target_endpoints_free(parsed, count);
			buf_printf(&list, "%s%s", list.len ? "," : "", url);
		}
	if (list.len)
		(void)!use_endpoints(client, buf_text(&list), &error);
}

struct http_call *client_send(struct etcd_client *client, const struct client_send *send)
{
	_cleanup_free_ char *url = mem_printf("%s%s", send->endpoint, send->target);
	struct http_header headers[2];
	size_t header_count = 0;

	if (client->trace)
		client->trace(
			send->method, url, send->body.len ? send->body.data : NULL, client->trace_userdata);
	if (send->content_type)
		headers[header_count++] = HTTP_HEADER("Content-Type", send->content_type);
	if (client->authorization)
		headers[header_count++] = HTTP_HEADER("Authorization", client->authorization);
	struct http_call_options options = {
		.method = send->method,
		.url = url,
		.headers = headers,
		.header_count = header_count,
		.body = send->body,
		.connect_timeout_ms = (uint32_t)MIN(client->connect_timeout_ms, INT64_C(1) << 30),
		.max_body_bytes = client->response_max_bytes,
		.on_head = send->on_head,
		.on_body = send->on_body,
		.on_done = send->on_done,
		.user = send->user,
	};
	if (send->timeout_ms)
		options.total_timeout_ms = (uint32_t)MIN(send->timeout_ms, INT64_C(1) << 30);
	else
		options.header_timeout_ms =
			(uint32_t)MIN(send->pause_ms ? send->pause_ms : client->timeout_ms, INT64_C(1) << 30);
	options.body_timeout_ms = (uint32_t)MIN(send->pause_ms, INT64_C(1) << 30);
	return http_client_send(client->http, &options);
}

void client_take_head(struct response *response, const char *endpoint, const struct http_response *http)
{
	response->pub.status = http->status;
	response->pub.etcd_index = response->pub.raft_index = response->pub.raft_term = 0;
	response->pub.endpoint = arena_printf(&response->arena, "%s", endpoint);
	for (size_t i = 0; i < http->header_count; i++)
		response_set_header(response, http->headers[i].name, http->headers[i].value);
}
