/* A small etcd on the test's own loop: files with PUT (create, compare, refresh), GET, DELETE, so that TTLs
 * and outages are the test's to decide. No directories, no watches. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "flotilla/etcd.h"
#include "io/http_server.h"
#include "io/url.h"

enum { FAKE_KEYS_MAX = 32, FAKE_STALLED_MAX = 8 };
struct fake_key {
	char key[128], value[512];
	uint64_t index;
	int sets, refreshes, deletes; /* deletes: asked for, also when refused */
	int refuse;		      /* code that a DELETE is answered with; 0: none */
	bool there, expires;
};
struct fake_etcd {
	uv_loop_t loop;
	struct http_server *server;
	struct etcd_client *client;
	struct fake_key keys[FAKE_KEYS_MAX];
	size_t key_count;
	uint64_t index;
	int requests, deletes;
	const char *hold; /* the next write of this key is carried out, and answered by fake_release() */
	struct http_request *held;
	struct fake_key *held_key;
	bool away;  /* cuts every connection */
	bool stall; /* requests are taken, and not done before fake_go_on() */
	struct http_request *stalled[FAKE_STALLED_MAX];
	size_t stalled_count;
};

static inline struct fake_key *fake_key(struct fake_etcd *fake, const char *key)
{
	for (size_t i = 0; i < fake->key_count; i++)
		if (strcmp(fake->keys[i].key, key) == 0)
			return &fake->keys[i];
	assert(fake->key_count < FAKE_KEYS_MAX);
	snprintf(fake->keys[fake->key_count].key, sizeof(fake->keys[0].key), "%s", key);
	return &fake->keys[fake->key_count++];
}

static inline void fake_error(struct http_request *req, int status, int code)
{
	_cleanup_buf_ struct buf body = BUF_INIT(4096);

	buf_printf(&body, "{\"errorCode\":%d,\"message\":\"m\",\"cause\":\"c\",\"index\":7}", code);
	http_reply(req, status, NULL, 0, buf_slice(&body));
}

static inline void fake_node(struct http_request *req, const struct fake_key *key, const char *action)
{
	_cleanup_buf_ struct buf body = BUF_INIT(8192);

	buf_printf(&body, "{\"action\":\"%s\",\"node\":{\"key\":\"%s\"", action, key->key);
	if (key->there) {
		buf_add_str(&body, ",\"value\":");
		json_add_string(&body, slice_str(key->value));
	}
	if (key->there && key->expires)
		buf_add_str(&body, ",\"expiration\":\"2026-01-01T00:00:00Z\",\"ttl\":9");
	buf_printf(&body, ",\"modifiedIndex\":%llu,\"createdIndex\":1}}", (unsigned long long)key->index);
	http_reply(req, 200, NULL, 0, buf_slice(&body));
}

static inline void fake_answer(struct fake_etcd *fake, struct http_request *req, struct fake_key *key)
{
	if (!fake->hold || strcmp(fake->hold, key->key) != 0) {
		fake_node(req, key, key->there ? "set" : "delete");
		return;
	}
	fake->hold = NULL;
	fake->held = http_request_ref(req);
	fake->held_key = key;
}

static inline void fake_release(struct fake_etcd *fake)
{
	fake_node(fake->held, fake->held_key, fake->held_key->there ? "set" : "delete");
	http_request_unref(fake->held);
	fake->held = NULL;
}

/* The conditions of a request: 0, or etcd's code. */
static inline int fake_compare(const struct fake_key *key, const struct url_form *form)
{
	const struct slice *exist = url_form_get(form, "prevExist"), *index = url_form_get(form, "prevIndex");
	const struct slice *value = url_form_get(form, "prevValue");
	uint64_t number = 0;

	if (exist && slice_is(*exist, "false"))
		return key->there ? ETCD_KEY_EXISTS : 0;
	if ((exist || index || value) && !key->there)
		return ETCD_KEY_NOT_FOUND;
	if (index && (text_to_u64(*index, &number) < 0 || number != key->index))
		return ETCD_COMPARE_FAILED;
	return value && !slice_is(*value, key->value) ? ETCD_COMPARE_FAILED : 0;
}

static inline void fake_do(struct fake_etcd *fake, struct http_request *req)
{
	struct url_form form = {0};
	struct fake_key *key;
	const struct slice *value;
	int code;

	assert(slice_starts_with(req->path, SLICE_LITERAL("/v2/keys")));
	key = fake_key(fake, arena_strndup(&req->arena, req->path.data + 8, req->path.len - 8));
	(void)!url_form_parse(&req->arena, &form, req->query, NULL);
	(void)!url_form_parse(&req->arena, &form, req->body, NULL);
	code = fake_compare(key, &form);
	if (slice_is(req->method, "DELETE")) {
		key->deletes++;
		code = key->refuse ? key->refuse : code;
	}
	if (!code && !key->there && !slice_is(req->method, "PUT"))
		code = ETCD_KEY_NOT_FOUND;
	if (code) {
		fake_error(req,
			code == ETCD_KEY_NOT_FOUND	   ? 404
			: code == ETCD_DIRECTORY_NOT_EMPTY ? 403
							   : 412,
			code);
	} else if (slice_is(req->method, "GET")) {
		fake_node(req, key, "get");
	} else if (slice_is(req->method, "DELETE")) {
		key->index = ++fake->index;
		key->there = false;
		fake->deletes++;
		fake_answer(fake, req, key);
	} else {
		key->index = ++fake->index;
		key->there = true;
		key->expires = url_form_get(&form, "ttl") != NULL;
		value = url_form_get(&form, "value");
		if (url_form_get(&form, "refresh"))
			key->refreshes++;
		else
			key->sets++;
		if (value && !url_form_get(&form, "refresh"))
			snprintf(key->value, sizeof(key->value), "%.*s", (int)value->len, value->data);
		fake_answer(fake, req, key);
	}
}

static inline void fake_request(struct http_request *req, void *user)
{
	struct fake_etcd *fake = user;

	fake->requests++;
	if (fake->away) {
		http_request_abort(req);
	} else if (fake->stall) {
		assert(fake->stalled_count < FAKE_STALLED_MAX);
		fake->stalled[fake->stalled_count++] = http_request_ref(req);
	} else {
		fake_do(fake, req);
	}
}

/* What was taken is done now, whoever still waits for it. */
static inline void fake_go_on(struct fake_etcd *fake)
{
	fake->stall = false;
	for (size_t i = 0; i < fake->stalled_count; i++) {
		fake_do(fake, fake->stalled[i]);
		http_request_unref(fake->stalled[i]);
	}
	fake->stalled_count = 0;
}

static inline struct fake_etcd *fake_etcd_new(void)
{
	struct fake_etcd *fake = mem_new(struct fake_etcd);
	struct http_server_options options = {.on_request = fake_request, .user = fake};
	struct etcd_client_options client = {.timeout_ms = 500, .total_timeout_ms = 800};
	_cleanup_free_ char *endpoint = NULL;
	uint16_t port;
	int r;

	fake->index = 100;
	uv_loop_init(&fake->loop);
	fake->server = http_server_new(&fake->loop, &options);
	r = http_server_listen_tcp(fake->server, "127.0.0.1", 0, &port, NULL);
	assert(r >= 0);
	endpoint = mem_printf("http://127.0.0.1:%u", port);
	client.endpoints = endpoint;
	r = etcd_client_new(&fake->loop, &client, &fake->client, NULL);
	assert(r >= 0);
	return fake;
}

static inline void fake_etcd_free(struct fake_etcd *fake)
{
	etcd_client_free(fake->client);
	http_server_close(fake->server, NULL, NULL);
	uv_run(&fake->loop, UV_RUN_DEFAULT);
	assert(uv_loop_close(&fake->loop) == 0);
	free(fake);
}

/* Runs the loop until the condition holds, at most some seconds. */
static inline void fake_timer_fired(uv_timer_t *timer)
{
	(void)timer;
}
#define fake_run_until(fake, condition)                              \
	do {                                                         \
		uv_timer_t tick_;                                    \
		uint64_t end_;                                       \
		uv_timer_init(&(fake)->loop, &tick_);                \
		uv_timer_start(&tick_, fake_timer_fired, 5, 5);      \
		uv_update_time(&(fake)->loop);                       \
		end_ = uv_now(&(fake)->loop) + 8000;                 \
		while (!(condition) && uv_now(&(fake)->loop) < end_) \
			uv_run(&(fake)->loop, UV_RUN_ONCE);          \
		uv_close((uv_handle_t *)&tick_, NULL);               \
		uv_run(&(fake)->loop, UV_RUN_NOWAIT);                \
		assert_true(condition);                              \
	} while (0)
